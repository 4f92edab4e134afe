"""The stacks of this project's own files, staging and prod, end to end: preview, update, policy pack, hooks.

The engine, the API server, the scheduler, the registry and the pack are real. Stand-ins are the plugins
of AWS (tests/standins) and, here, EC2: for each node group of the account its nodes appear, labelled
and tainted as EKS does it.
"""

from __future__ import annotations

import json
import os
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from archshift.common.kubernetes import EKS_GROUP_LABEL
from archshift.nodes.instance_types import INSTANCE_TYPES
from lab.control_plane import CONTEXT, PROJECT, Lab
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.guard_matrix import push_images, with_image
from tests.lab.lab_helpers import (
    Cluster,
    Manifest,
    Stack,
    daemon_set,
    deployment,
    reached_as_eks,
    stateful_set,
)
from tests.standins import install_plugins, launch_templates
from tests.standins.aws import ACCOUNT, ADDON, CLUSTER, ENTRY, NODE_GROUP, TAG, TEMPLATE, Account
from tests.standins.eks_api import serve
from tests.standins.node_groups import live_group

pytestmark = pytest.mark.timeout(900)

PACK = f"--policy-pack={PROJECT / 'policies'}"
ADMINS = ["arn:aws:iam::123456789012:role/team/deployer", "arn:aws:iam::123456789012:role/admin"]
HOST = "registry.shop.example"
# The groups of both files, as Terraform, eksctl and the console made them.
STAGING = {
    "general": live_group(
        "terraform",
        "staging",
        "general",
        *("t3.xlarge", "t3a.xlarge"),
        scalingConfig={"minSize": 2, "desiredSize": 5, "maxSize": 8},
    )
}
PROD = {
    "general": live_group(
        "eksctl",
        "prod",
        "general",
        "m5.2xlarge",
        scalingConfig={"minSize": 6, "desiredSize": 12, "maxSize": 20},
    ),
    "memory": live_group(
        "console",
        "prod",
        "memory",
        "r5.2xlarge",
        labels={"pool": "memory"},
        scalingConfig={"minSize": 2, "desiredSize": 3, "maxSize": 6},
    ),
}
EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
    "NO_EXECUTE": "NoExecute",
}


class Ec2:
    """A stand-in for EC2 and the kubelets: brings up each group's nodes, and keeps their labels."""

    def __init__(self, cluster: Cluster, account: Account, types: Sequence[str] = ()) -> None:
        """Bring up an account's nodes; ``types`` are those of a launch template."""
        self._cluster, self._account, self._types = cluster, account, types
        self._made: dict[str, Any] = {}
        self._sizes: dict[str, int] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator[None]:
        """While the context lasts; the groups of the beginning have their nodes when it begins."""
        self._bring_up()
        self._thread.start()
        try:
            yield
        finally:
            self._over.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(0.5):
            self._bring_up()

    def _bring_up(self) -> None:
        groups = self._account.read()["objects"].get(NODE_GROUP, {}).values()
        for name in self._sizes.keys() - {group["nodeGroupName"] for group in groups}:
            self._end(name, 0)
        for group in groups:
            name = group["nodeGroupName"]
            given = {key: group.get(key) for key in ("labels", "taints", "scalingConfig")}
            if self._made.get(name) != given:
                self._make_nodes(group)
                self._made[name] = json.loads(json.dumps(given))

    def _make_nodes(self, group: Mapping[str, Any]) -> None:
        name, kind = group["nodeGroupName"], INSTANCE_TYPES[(group.get("instanceTypes") or self._types)[0]]
        size = int(group["scalingConfig"]["desiredSize"])
        self._end(name, size)
        if not size:
            return
        self._cluster.nodes(
            kind.architecture,
            size,
            prefix=name,
            labels={
                **group.get("labels", {}),
                EKS_GROUP_LABEL: name,
                "node.kubernetes.io/instance-type": kind.name,
            },
            taints=[
                {"key": one["key"], "value": one.get("value") or "", "effect": EFFECTS[one["effect"]]}
                for one in group.get("taints", ())
            ],
            cpu=f"{kind.allocatable_millicpu}m",
            memory=str(kind.allocatable_memory),
            pods=kind.pods,
        )

    def _end(self, name: str, size: int) -> None:
        """End the nodes of a group that are more than its size."""
        for index in range(size, self._sizes.get(name, 0)):
            where = ("--all-namespaces", f"--field-selector=spec.nodeName={name}-{index}")
            self._cluster.lab.kubectl("delete", "pods", *where, "--force", "--grace-period=0")
            self._cluster.lab.kubectl("delete", "node", f"{name}-{index}")
        self._sizes[name] = size


def fleet() -> list[Manifest]:
    """What runs in the namespaces of both files, and what prod's rules name; one image is amd64 alone."""
    spaces = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in ("platform", "shop")
    ]
    web = [
        deployment("cart", 5, "shop"),
        deployment("payments", 3, "shop"),
        deployment("search", 7, "shop"),
        stateful_set("queue", 3, "platform"),
        daemon_set("agent", "platform"),
    ]
    images = [with_image(workload, f"{HOST}/stacks/web:1.0.0") for workload in web]
    legacy = with_image(deployment("legacy", 2, "platform"), f"{HOST}/stacks/legacy:1.0.0")
    return [*spaces, *images, legacy]


@pytest.fixture(scope="module")
def images(push: Pusher) -> None:
    """Images in the registry: one for both architectures, one for amd64 alone."""
    push_images(push, "stacks")


class OnAws:
    """An account, a kubeconfig with a context of the cluster's name, and a stack of one of the files."""

    def __init__(
        self,
        lab: Lab,
        registry: Registry,
        folder: Path,
        patch: pytest.MonkeyPatch,
        serve: Callable[[Account], Mapping[str, str]],
    ) -> None:
        self.cluster = Cluster(lab)
        self.reach = reached_as_eks(lab)
        kubeconfig = yaml.safe_load(lab.kubeconfig.read_text())
        (context,) = (one["context"] for one in kubeconfig["contexts"] if one["name"] == CONTEXT)
        kubeconfig["contexts"] += [{"name": name, "context": context} for name in ("staging", "prod")]
        contexts = folder / "kubeconfig"
        contexts.write_text(yaml.safe_dump(kubeconfig))
        contexts.chmod(0o600)
        registries = folder / "registries.yaml"
        hosts = {HOST: {"mirrors": [registry.base.removeprefix("http://")]}}
        plain = {registry.base.removeprefix("http://"): {"plain_http": True}}
        registries.write_text(yaml.safe_dump(hosts | plain))
        self._file = folder / "account.json"
        self.account = Account(self._file)
        (token,) = (one["user"]["token"] for one in kubeconfig["users"] if one["name"] == CONTEXT)
        plugins = install_plugins(folder / "bin", "aws", "eks")
        # What the AWS CLI's `eks get-token` prints for whoever is logged in.
        credential = {"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential"}
        command = plugins / "aws"
        command.write_text(f"#!/bin/sh\necho '{json.dumps({**credential, 'status': {'token': token}})}'\n")
        command.chmod(0o700)
        environment = lab.process_environment()
        environment |= {
            **serve(self.account),
            "PATH": os.pathsep.join([str(plugins), environment["PATH"]]),
            "KUBECONFIG": str(contexts),
            "ARCHSHIFT_REGISTRIES": str(registries),
            "XDG_CACHE_HOME": str(folder / "cache"),
            ACCOUNT: str(self._file),
        }
        patch.setattr(lab, "process_environment", lambda: environment)
        self.stack = Stack(lab, folder / "stack", f"test-{uuid.uuid4().hex[:8]}")

    def take_file(self, name: str, **changes: Any) -> dict[str, Any]:
        """Configure the stack as `Pulumi.<name>.yaml` has it; returns that configuration."""
        values: dict[str, Any] = yaml.safe_load((PROJECT / f"Pulumi.{name}.yaml").read_text())["config"]
        own = {key.removeprefix("archshift:"): value for key, value in values.items()}
        self.stack.config({"platform": None, "images": None, **own, **changes})
        return own

    def status(self) -> dict[str, Any]:
        """What `archshift status` says."""
        said = self.stack.archshift("status", "--json")
        assert said.returncode in (0, 3), said.stderr
        answer: dict[str, Any] = json.loads(said.stdout)
        return answer

    def fill_account(self, cluster: str, groups: Mapping[str, Mapping[str, Any]]) -> None:
        """The cluster, and its groups by their names at EKS."""
        arn = f"arn:aws:eks:eu-west-1:123456789012:cluster/{cluster}"
        there = {f"{cluster}:{name}": group for name, group in groups.items()}
        self.write_account(objects={CLUSTER: {cluster: {"arn": arn, **self.reach}}, NODE_GROUP: there})

    def write_account(self, **content: Any) -> None:
        empty = {"objects": {}, "done": [], "reach": self.reach}
        self._file.write_text(json.dumps({**empty, **content}))


@pytest.fixture
def on_aws(
    control_plane: Lab,
    cluster: Cluster,
    registry: Registry,
    images: None,  # noqa: ARG001 - pushed before anything asks for them
    tmp_path: Path,
) -> Iterator[OnAws]:
    """An account without anything in it."""
    assert cluster.lab is control_plane
    # The files name them, so they have the same names in every test.
    cluster.lab.kubectl("wait", "--for=delete", "namespace/platform", "namespace/shop", "--timeout=100s")
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        on_aws = OnAws(
            control_plane, registry, tmp_path, patch, lambda account: stack.enter_context(serve(account))
        )
        on_aws.write_account()
        yield on_aws
        on_aws.stack.remove()


@pytest.mark.parametrize(("name", "ratio"), [("staging", None), ("prod", "0.2")])
def test_the_file_of_a_stack_runs_end_to_end(on_aws: OnAws, name: str, ratio: str | None) -> None:
    """As it is committed (prod at its first step, which it begins with 0.0): the preview passes the pack,
    one update takes the groups over, makes their twins and moves the pods exactly, the next finds nothing
    to do; then taking x86 out is stopped by the preview, while an amd64-only image is there.
    """
    own = on_aws.take_file(name)
    groups = {"staging": STAGING, "prod": PROD}[name]
    on_aws.fill_account(name, groups)
    on_aws.cluster.apply(fleet())
    with Ec2(on_aws.cluster, on_aws.account).running():
        for space in ("platform", "shop"):
            on_aws.cluster.wait_until_settled(space)
        preview = on_aws.stack.preview(PACK)
        assert preview.succeeded, preview.output
        assert on_aws.account.read()["done"] == []
        done = on_aws.stack.up(PACK)
        assert done.succeeded, done.output
        if ratio:
            on_aws.stack.config({"arm_ratio": ratio})
            done = on_aws.stack.up(PACK)
            assert done.succeeded, done.output
        twins = {group for group, values in own["node_groups"].items() if "twin_of" in values}
        made = {
            one["labels"]["archshift/node-group"]
            for one in on_aws.account.read()["objects"][NODE_GROUP].values()
            if one["nodeGroupName"] not in {group.get("import") for group in own["node_groups"].values()}
        }
        assert made == twins
        replaced = [entry for entry in on_aws.account.read()["done"] if entry[0] == "delete"]
        assert replaced == []
        for key, group in groups.items():
            after = on_aws.account.find(NODE_GROUP, f"{name}:{key}")
            assert after
            # Beside archshift's own labels, taints and tags it is as it was.
            ours = ("labels", "taints", "tags")
            assert {one: after[one] for one in group if one not in ours} == {
                one: group[one] for one in group if one not in ours
            }
            assert group.get("labels", {}).items() <= after["labels"].items()
            assert all(taint in after["taints"] for taint in group.get("taints", ()))
            assert group.get("tags", {}).items() <= after["tags"].items()
        answer = on_aws.status()
        assert [row["workload"] for row in answer["workloads"] if not row["exact"]] == []
        assert answer["fleet"]["graviton"] == answer["fleet"]["wanted"] > 0
        before = on_aws.account.read()["done"]
        again = on_aws.stack.up(PACK)
        assert (again.exit_code, again.changes) == (0, {}), again.output
        assert on_aws.account.read()["done"] == before
        twin = next(iter(twins))
        alone = {**own["node_groups"][twin], "instance_types": ["m7g.2xlarge"]}
        del alone["twin_of"]
        on_aws.stack.config({"node_groups": {"alone": alone}})
        stopped = on_aws.stack.preview(PACK)
        assert stopped.exit_code != 0
        text = " ".join(stopped.output.split())
        assert "x86 capacity stays" in text, stopped.output
        assert "platform/Deployment/legacy" in text, stopped.output
        assert on_aws.account.read()["done"] == before


SMALL = {"minSize": 1, "desiredSize": 1, "maxSize": 4}
AS_MADE: Mapping[str, tuple[str, tuple[str, ...], Mapping[str, Any]]] = {
    "general": ("terraform", ("t3.xlarge", "t3a.xlarge"), {"scalingConfig": {**SMALL, "desiredSize": 2}}),
    "ctl": ("eksctl", ("t3.xlarge",), {"scalingConfig": SMALL}),
    "old": ("old-eksctl", ("t3.xlarge",), {"scalingConfig": SMALL}),
    "batch": (
        "console",
        ("t3.xlarge",),
        {
            "scalingConfig": SMALL,
            "labels": {"pool": "batch"},
            "taints": [{"key": "batch", "effect": "NO_SCHEDULE"}],
        },
    ),
    "golden": ("image", (), {"scalingConfig": SMALL}),
}
"""The x86 groups of one cluster: their names at EKS to who made them, their types and what is different."""


class Migrated:
    """The cluster of staging with an x86 group of each maker, its stack, and what must hold at each step."""

    def __init__(self, on_aws: OnAws) -> None:
        self.on_aws = on_aws
        own = on_aws.take_file("staging", graviton_families=["t4g"])
        self.made = {
            f"staging:{name}": live_group(maker, "staging", name, *types, **more)
            for name, (maker, types, more) in AS_MADE.items()
        }
        on_aws.fill_account("staging", {name.partition(":")[2]: group for name, group in self.made.items()})
        # The file has one group and its twin; the other groups are beside them.
        self.names = {"x86": "general", **{f"x86-{name}": name for name in [*AS_MADE][1:]}}
        size = {"min_size": 1, "desired_size": 1, "max_size": 4}
        twins = {x86.replace("x86", "graviton"): {"twin_of": x86, **size} for x86 in self.names}
        for twin in ("graviton-old", "graviton-golden"):
            # The image of a twin is chosen by name where its original has one that archshift does not choose.
            twins[twin]["ami_family"] = "AL2023"
        self.twins: dict[str, dict[str, Any]] = {
            **twins,
            "graviton": {**twins["graviton"], **own["node_groups"]["graviton"]},
        }
        *there, _legacy = fleet()
        nightly = deployment(
            "nightly",
            2,
            "shop",
            nodeSelector={"pool": "batch"},
            tolerations=[{"key": "batch", "operator": "Exists"}],
        )
        on_aws.cluster.apply([*there, with_image(nightly, f"{HOST}/stacks/web:1.0.0")])

    def config(self, twins: Mapping[str, Any] | None = None, **x86: Any) -> None:
        """Set all groups; ``x86`` is what all imported ones have beside their names."""
        imported = {name: {"import": theirs, **x86} for name, theirs in self.names.items()}
        groups = {**imported, **(self.twins if twins is None else twins)}
        self.on_aws.stack.config({"node_groups": groups})

    def up(self, ratio: str = "", **x86: Any) -> None:
        """Run an update, after which every pod has a node."""
        self.config(**x86)
        if ratio:
            self.on_aws.stack.config({"arm_ratio": ratio})
        self.went_well(self.on_aws.stack.up())

    def went_well(self, done: Any) -> None:
        assert done.succeeded, done.output
        self.settle()

    def settle(self) -> None:
        """Wait until each pod runs; there is none that has no node."""
        for space in ("platform", "shop"):
            self.on_aws.cluster.wait_until_settled(space)
        pods = [pod for space in ("platform", "shop") for pod in self.on_aws.cluster.all_of("pods", space)]
        assert [pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Pending"] == []

    def restart(self) -> None:
        """Make new pods, which all find a node."""
        for name in ("cart", "nightly"):
            self.on_aws.cluster.lab.kubectl("rollout", "restart", f"deployment/{name}", "--namespace=shop")
        self.settle()

    def groups(self) -> dict[str, dict[str, Any]]:
        """The x86 groups as EKS has them now."""
        objects: dict[str, dict[str, Any]] = self.on_aws.account.read()["objects"][NODE_GROUP]
        return {identity: objects[identity] for identity in self.made}

    def twins_now(self) -> dict[str, dict[str, Any]]:
        """The twins as EKS has them now, by our names."""
        objects = self.on_aws.account.read()["objects"][NODE_GROUP]
        return {
            group["tags"]["archshift/node-group"]: group
            for identity, group in objects.items()
            if identity not in self.made
        }

    def unharmed(self, **sizes: int) -> None:
        """No x86 group was replaced, and beside archshift's own labels, taints and tags each is as it was."""
        theirs = ("labels", "taints", "tags")
        for identity, group in self.groups().items():
            was = self.made[identity]
            wanted = {**was, "scalingConfig": {**was["scalingConfig"], **sizes}}
            assert {one: group.get(one) for one in wanted if one not in theirs} == {
                one: wanted[one] for one in wanted if one not in theirs
            }
            assert was.get("labels", {}).items() <= group["labels"].items()
            assert was.get("tags", {}).items() <= group["tags"].items()
            assert all(taint in group["taints"] for taint in was.get("taints", ()))
        done = self.on_aws.account.read()["done"]
        assert not [entry for entry in done if entry[0] in ("create", "delete") and entry[2] in self.made]


def retired(group: Mapping[str, Any]) -> bool:
    return "archshift/retired" in {taint["key"] for taint in group.get("taints", ())}


def test_every_x86_group_is_retired_and_comes_back_from_each_step(on_aws: OnAws) -> None:
    """As the runbook has it, on the file of staging, with an autoscaler and groups of Terraform, of eksctl,
    of the console and of an image, with Spot, taints, a share, security groups, several types, AL2 and SSH.
    Each step is taken and taken back: new nodes, patches, a ratio, a drain, the import, the taint of the last
    step, and the nodes. No pod is ever without a node, and no x86 group is replaced or made smaller, except
    by the autoscaler.
    """
    migrated = Migrated(on_aws)
    stack = on_aws.stack
    with Ec2(on_aws.cluster, on_aws.account, types=("t3.xlarge",)).running():
        migrated.settle()
        # Step 3, new nodes, and back: the twins go again.
        migrated.up("0.0")
        migrated.unharmed()
        assert migrated.twins_now().keys() == migrated.twins.keys()
        migrated.config(twins={})
        migrated.went_well(stack.up())
        migrated.unharmed()
        assert migrated.twins_now() == {}
        # Steps 4 and 6, patches and moved pods, and back: workloads as they were, with all their nodes.
        migrated.up("0.2")
        migrated.unharmed()
        there = on_aws.account.read()["objects"]
        migrated.went_well(stack.destroy("--run-program", "--target=**WorkloadPatches**"))
        assert on_aws.account.read()["objects"] == there
        # Step 6 and back: the former number.
        migrated.up("0.2")
        assert on_aws.status()["fleet"]["graviton"] > 0
        migrated.up("0.0")
        assert on_aws.status()["fleet"]["graviton"] == 0
        migrated.unharmed()
        # Phase 2 of step 9 and back: drained nodes take pods again.
        drained = stack.archshift("drain", "--only=general-0", "--only=ctl-0")
        assert drained.returncode == 0, drained.stdout + drained.stderr
        undone = stack.archshift("drain", "--undo")
        assert undone.returncode == 0, undone.stdout + undone.stderr
        assert not any(node["spec"].get("unschedulable") for node in on_aws.cluster.all_of("nodes"))
        migrated.settle()
        # The import and back: handed back, each group is as it was before archshift.
        alone = {
            name: {
                **{key: value for key, value in twin.items() if key != "twin_of"},
                "instance_types": ["t4g.xlarge"],
            }
            for name, twin in migrated.twins.items()
        }
        migrated.config(twins=alone, release=True)
        migrated.went_well(stack.up())
        for identity, group in migrated.groups().items():
            assert group == migrated.made[identity]
        # Taken over again. Retired too early is refused, before anything changes.
        migrated.up("0.2")
        migrated.unharmed()
        before = on_aws.account.read()["done"]
        migrated.config(retired=True)
        early = stack.up()
        assert early.exit_code != 0
        assert "without any x86 node that takes them" in " ".join(early.output.split()), early.output
        assert on_aws.account.read()["done"] == before
        # Step 9: all pods move, the nodes are drained and retired, and new pods run on Graviton.
        migrated.up("1.0")
        migrated.unharmed()
        drained = stack.archshift("drain", "--nodes=50%")
        assert drained.returncode == 0, drained.stdout + drained.stderr
        migrated.up(retired=True, min_size=0)
        assert all(map(retired, migrated.groups().values()))
        migrated.unharmed(minSize=0)
        assert not any(map(retired, migrated.twins_now().values()))
        assert {twin["capacityType"] for twin in migrated.twins_now().values()} == {"SPOT", "ON_DEMAND"}
        migrated.restart()
        for identity, group in migrated.groups().items():
            # The autoscaler takes the empty nodes.
            empty = {**group["scalingConfig"], "desiredSize": 0}
            on_aws.account.change("scaled by hand", NODE_GROUP, identity, {**group, "scalingConfig": empty})
        migrated.up(retired=True, min_size=0)
        migrated.unharmed(minSize=0, desiredSize=0)
        migrated.restart()
        # And back: the groups have nodes again, and take pods.
        twins = migrated.twins_now()
        migrated.up(min_size=1)
        assert not any(map(retired, migrated.groups().values()))
        migrated.unharmed(desiredSize=1)
        migrated.up("0.8", min_size=1)
        answer = on_aws.status()
        assert [row["workload"] for row in answer["workloads"] if not row["exact"]] == []
        assert 0 < answer["fleet"]["graviton"] == answer["fleet"]["wanted"] < answer["fleet"]["pods"]
        migrated.restart()
        again = stack.up()
        assert (again.exit_code, again.changes) == (0, {}), again.output
        assert {name: twin["nodeGroupName"] for name, twin in migrated.twins_now().items()} == {
            name: twin["nodeGroupName"] for name, twin in twins.items()
        }


def test_twins_are_filled_from_groups_that_differ_in_every_property(on_aws: OnAws) -> None:
    """What EKS and EC2 get for the twins of groups of Terraform, of the console and of an image.
    The preview names what stays behind. A second update finds nothing to do. Then the owner changes the
    original: no group is replaced, and the preview says what stays and what changes.
    """
    scaling = {"minSize": 1, "desiredSize": 1, "maxSize": 3}
    live = {
        "general": live_group("terraform", "staging", "general", "t3.xlarge", scalingConfig=scaling),
        "memory": live_group("console", "staging", "memory", "r5.2xlarge", scalingConfig=scaling),
        "golden": live_group("image", "staging", "golden", scalingConfig=scaling),
    }
    groups: dict[str, dict[str, Any]] = {
        "x86": {"import": "general"},
        "x86-memory": {"import": "memory"},
        "x86-golden": {"import": "golden", "instance_types": ["t3.xlarge"]},
        "graviton": {"twin_of": "x86", "desired_size": 1},
        "graviton-memory": {
            "twin_of": "x86-memory",
            "desired_size": 1,
            "hop_limit": 2,
            "tags": {"Cost": "7"},
        },
        "graviton-golden": {"twin_of": "x86-golden", "desired_size": 1},
    }
    on_aws.take_file(
        "staging", arm_ratio="0.0", node_groups=groups, **{"aws:defaultTags": {"tags": {"Owner": "platform"}}}
    )
    on_aws.fill_account("staging", live)

    undecided = on_aws.stack.preview()
    assert undecided.exit_code != 0
    assert (
        "archshift:node_groups.graviton-golden.ami_family is missing: 'golden' has an AMI of its own, and "
        "archshift does not choose another operating system; set ami_family to AL2023 or Bottlerocket, or "
        "launch_template to one with an AMI for arm64"
    ) in " ".join(undecided.output.split()), undecided.output
    groups["graviton-golden"]["ami_family"] = "AL2023"
    on_aws.stack.config({"node_groups": groups})
    preview = on_aws.stack.preview(PACK)
    assert preview.succeeded, preview.output
    said = " ".join(preview.output.split())
    for note in (
        "node group graviton: its nodes get the version of the cluster; those of general have Kubernetes "
        "1.33",
        "node group graviton: it does not get KeyName of the launch template of general",
        "node group graviton-golden: it does not get the AMI ami-0123456789abcdef0 of golden",
        "node group graviton-golden: it does not get the user data of golden: it is for another operating "
        "system",
        "node group graviton-golden: the hop limit of IMDS is 1, because golden has none in a launch "
        "template",
    ):
        assert note in said, preview.output
    done = on_aws.stack.up(PACK)
    assert done.succeeded, done.output

    def twins() -> dict[str, dict[str, Any]]:
        """The twins by our names, as CreateNodegroup made them, each with its launch template."""
        objects = on_aws.account.read()["objects"]
        return {
            group["tags"]["archshift/node-group"]: {
                **group,
                "template": objects[TEMPLATE][group["launchTemplate"]["id"]],
            }
            for name, group in objects[NODE_GROUP].items()
            if name.removeprefix("staging:") not in live
        }

    stack = on_aws.stack.name
    first = twins()
    graviton, memory, golden = (first[name] for name in groups if name.startswith("graviton"))
    ours = {"architecture": "arm64", "archshift/node-group": "graviton", "archshift/stack": stack}
    assert graviton["capacityType"] == "SPOT"
    assert graviton["amiType"] == "AL2023_ARM_64_STANDARD"
    assert graviton["labels"] == {"team": "shop", **ours}
    assert graviton["subnetIds"] == ["subnet-0z"]
    assert graviton["nodeRoleArn"] == live["general"]["nodeRoleArn"]
    assert graviton["updateConfig"] == {"maxUnavailablePercentage": 33}
    assert graviton["nodeRepairConfig"] == {"enabled": True}
    assert {(taint["key"], taint["effect"]) for taint in graviton["taints"]} == {
        ("spot", "PREFER_NO_SCHEDULE"),
        ("archshift/arm64", "PREFER_NO_SCHEDULE"),
    }
    assert graviton["tags"] == {
        "Terraform": "true",
        "Environment": "staging",
        "archshift/node-group": "graviton",
        "archshift/twin-of": "x86",
    }
    theirs = launch_templates.MADE["lt-0123456789abcdef0"]["4"]
    data = launch_templates.to_data(graviton["template"])
    for name in ("SecurityGroupIds", "UserData", "MetadataOptions", "Monitoring", "BlockDeviceMappings"):
        assert data[name] == theirs[name]
    tags = {
        "Owner": "platform",
        "Team": "shop",
        "Name": "staging-graviton",
        "archshift/node-group": "graviton",
    }
    assert [
        (kind["ResourceType"], {tag["Key"]: tag["Value"] for tag in kind["Tags"]})
        for kind in data["TagSpecifications"]
    ] == [(kind, tags) for kind in ("instance", "network-interface", "volume")]
    assert "KeyName" not in data

    assert (memory["capacityType"], memory["subnetIds"]) == ("ON_DEMAND", ["subnet-0y", "subnet-0z"])
    data = launch_templates.to_data(memory["template"])
    assert "SecurityGroupIds" not in data  # EKS adds that of the cluster, as it does for the original
    assert data["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    assert [volume["Ebs"]["VolumeSize"] for volume in data["BlockDeviceMappings"]] == [80]
    assert {"Key": "Cost", "Value": "7"} in data["TagSpecifications"][0]["Tags"]
    assert golden["amiType"] == "AL2023_ARM_64_STANDARD"
    data = launch_templates.to_data(golden["template"])
    assert data["SecurityGroupIds"] == ["sg-0golden"]
    assert not {"ImageId", "UserData"} & data.keys()

    before = on_aws.account.read()["done"]
    again = on_aws.stack.up(PACK)
    assert (again.exit_code, again.changes) == (0, {}), again.output
    assert on_aws.account.read()["done"] == before

    # The owner replaces the original by one of the same name.
    identity = "staging:general"
    changed = {
        **(on_aws.account.find(NODE_GROUP, identity) or {}),
        "capacityType": "ON_DEMAND",
        "subnetIds": ["subnet-0new"],
        "nodeRoleArn": "arn:aws:iam::123456789012:role/new-nodes",
        "launchTemplate": {"id": "lt-0123456789abcdef0", "name": "general-2025", "version": "5"},
    }
    changed["taints"] = [*changed["taints"], {"key": "maintenance", "effect": "NO_SCHEDULE"}]
    on_aws.account.change("changed by hand", NODE_GROUP, identity, changed)
    content = on_aws.account.read()
    on_aws.write_account(
        **content,
        templates={"lt-0123456789abcdef0": {"4": theirs, "5": {**theirs, "SecurityGroupIds": ["sg-0other"]}}},
    )
    followed = on_aws.stack.up(PACK)
    assert followed.succeeded, followed.output
    said = " ".join(followed.output.split())
    for note in (
        "node group graviton: it keeps capacity_type SPOT, although general has ON_DEMAND",
        "node group graviton: it keeps subnets subnet-0z, although general has subnet-0new",
        "node group graviton: it keeps node_role arn:aws:iam::123456789012:role/terraform-nodes, although",
        "node group graviton: it does not get the new taint maintenance (NoSchedule) of general",
        "node group graviton: its security_groups changes from sg-0node, sg-0database to sg-0other",
    ):
        assert note in said, followed.output
    after = twins()["graviton"]
    assert {name: after[name] for name in ("nodeGroupName", "capacityType", "subnetIds", "nodeRoleArn")} == {
        name: graviton[name] for name in ("nodeGroupName", "capacityType", "subnetIds", "nodeRoleArn")
    }
    assert "maintenance" not in {taint["key"] for taint in after["taints"]}
    assert after["template"]["vpcSecurityGroupIds"] == ["sg-0other"]
    assert after["launchTemplate"]["version"] == "2"
    owners = on_aws.account.find(NODE_GROUP, identity)
    assert owners
    assert owners["launchTemplate"]["version"] == "5"
    before = on_aws.account.read()["done"]
    again = on_aws.stack.up(PACK)
    assert (again.exit_code, again.changes) == (0, {}), again.output
    assert on_aws.account.read()["done"] == before
    assert "delete" not in [did for did, _, _ in on_aws.account.read()["done"]]


def test_a_cluster_is_made_and_the_next_update_moves_its_pods(on_aws: OnAws) -> None:
    """The first update makes cluster and node groups; the second finds them, and pods to move. Neither makes
    an access entry for the deployer, which EKS makes itself, and no later one upgrades an add-on. A destroy
    is refused before any node goes, with and without a preview, because EKS would refuse to delete the
    cluster in the end. It is refused after an update that did not reach its end, and an update too that would
    delete the cluster because its name changed.
    """

    def stays(done: Any) -> None:
        """The engine has stopped, and has deleted nothing."""
        assert done.exit_code != 0
        sentence = "the cluster fresh stays: it has deletion protection, so EKS refuses to delete it"
        assert sentence in " ".join(done.output.split()), done.output
        assert "Traceback" not in done.output
        assert "delete" not in [did for did, _, _ in on_aws.account.read()["done"]]

    groups = {
        "x86": {"instance_types": ["m6i.xlarge"], "desired_size": 2, "max_size": 3},
        "graviton": {"twin_of": "x86", "desired_size": 2},
    }
    cluster = {
        "name": "fresh",
        "autoscaler": "cluster-autoscaler",
        "subnets": ["subnet-0a", "subnet-0b"],
        "create": {"version": "1.34", "vpc": "vpc-0a", "admins": ADMINS},
    }
    on_aws.take_file(
        "staging",
        kube_context=None,
        cluster=cluster,
        node_groups=groups,
        arm_ratio="0.5",
    )
    preview = on_aws.stack.preview(PACK)
    assert preview.succeeded, preview.output
    content = on_aws.account.read()
    on_aws.write_account(**{**content, "refused": {TAG: "AccessDenied: autoscaling:CreateOrUpdateTags"}})
    broken = on_aws.stack.up(PACK)
    assert broken.exit_code != 0
    assert len(on_aws.account.read()["objects"][NODE_GROUP]) == 2
    stays(on_aws.stack.destroy("--run-program"))
    on_aws.write_account(**{**on_aws.account.read(), "refused": {}})
    done = on_aws.stack.up(PACK)
    assert done.succeeded, done.output
    made = on_aws.account.read()["objects"][CLUSTER]["fresh"]
    assert made["vpcConfig"]["endpointPublicAccess"] is False
    assert made["encryptionConfig"]["resources"] == ["secrets"]
    assert made["tags"] == {"archshift/creator": "123456789012:role/deployer"}
    assert list(on_aws.account.read()["objects"][ENTRY]) == [f"fresh:{ADMINS[1]}"]
    on_aws.write_account(**{**on_aws.account.read(), "newestAddon": "v2"})
    with Ec2(on_aws.cluster, on_aws.account).running():
        *there, _legacy = fleet()
        on_aws.cluster.apply(there)
        for space in ("platform", "shop"):
            on_aws.cluster.wait_until_settled(space)
        moved = on_aws.stack.up(PACK)
        assert moved.succeeded, moved.output
        answer = on_aws.status()
        assert answer["fleet"]["graviton"] == answer["fleet"]["wanted"] > 0
        again = on_aws.stack.up(PACK)
        assert (again.exit_code, again.changes) == (0, {}), again.output
        addons = on_aws.account.read()["objects"][ADDON].values()
        assert [addon["addonVersion"] for addon in addons] == ["v1", "v1"]
        done = on_aws.account.read()["done"]
        for destroy in (on_aws.stack.preview_destroy, on_aws.stack.destroy):
            stays(destroy("--run-program"))
            assert on_aws.account.read()["done"] == done
        on_aws.stack.config({"cluster": {**cluster, "name": "renamed"}})
        stopped = on_aws.stack.preview()
        stays(stopped)
        assert "set archshift:cluster.name to fresh again" in " ".join(stopped.output.split())
        refused = on_aws.stack.destroy("--run-program")
        assert refused.exit_code != 0
        sentence = "archshift:cluster.name: the stack has made no cluster renamed, and a destroy makes none"
        assert sentence in " ".join(refused.output.split()), refused.output
        assert "Traceback" not in refused.output
        assert on_aws.account.read()["done"] == done
        on_aws.stack.config({"cluster": cluster})


@pytest.mark.parametrize(
    ("changes", "account", "sentence"),
    [
        (
            {"cluster": {"name": "stagin", "subnets": ["subnet-0a"]}},
            {},
            "archshift:cluster.name: there is no EKS cluster 'stagin' in the region of aws:region",
        ),
        (
            {},
            {
                "refusal": "reading EKS Cluster (staging): operation error EKS: DescribeCluster, https "
                "response error StatusCode: 403, RequestID: 1, api error ExpiredTokenException: The security "
                "token included in the request is expired"
            },
            "archshift:cluster.name: 'staging' cannot be read: the AWS credentials have expired; log in",
        ),
        (
            {
                "aws:region": "eu-west-3",
                "node_groups": {"graviton": {"instance_types": ["c7gn.xlarge"], "desired_size": 1}},
            },
            {},
            "archshift:node_groups.graviton: EC2 does not offer c7gn.xlarge in eu-west-3",
        ),
    ],
    ids=["no such cluster", "expired credentials", "a type that the region lacks"],
)
def test_what_aws_refuses_is_one_sentence(
    on_aws: OnAws, changes: dict[str, Any], account: dict[str, Any], sentence: str
) -> None:
    on_aws.take_file("staging", **changes)
    on_aws.fill_account("staging", STAGING)
    content = on_aws.account.read()
    on_aws.write_account(**{**content, **account})
    stopped = on_aws.stack.up()
    assert stopped.exit_code != 0
    assert "Traceback" not in stopped.output
    assert sentence in " ".join(stopped.output.split()), stopped.output
    assert on_aws.account.read()["done"] == []
