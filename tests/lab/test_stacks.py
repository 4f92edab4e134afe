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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
from tests.standins import install_plugins
from tests.standins.aws import ACCOUNT, ADDON, CLUSTER, ENTRY, NODE_GROUP, Account

pytestmark = pytest.mark.timeout(900)

PACK = f"--policy-pack={PROJECT / 'policies'}"
ADMINS = ["arn:aws:iam::123456789012:role/team/deployer", "arn:aws:iam::123456789012:role/admin"]
HOST = "registry.shop.example"
EXISTING = {
    "nodeRoleArn": "arn:aws:iam::123456789012:role/nodes",
    "subnetIds": ["subnet-0z"],
    "amiType": "AL2023_x86_64_STANDARD",
    "capacityType": "ON_DEMAND",
    "diskSize": 80,
    "updateConfig": {"maxUnavailable": 1},
    "labels": {},
    "taints": [],
    "tags": {},
    "status": "ACTIVE",
}
EFFECTS = {
    "NO_SCHEDULE": "NoSchedule",
    "PREFER_NO_SCHEDULE": "PreferNoSchedule",
    "NO_EXECUTE": "NoExecute",
}


def existing(cluster: str, group: Mapping[str, Any]) -> dict[str, Any]:
    """An x86 group as it was before archshift."""
    scaling = {
        "minSize": group["min_size"],
        "maxSize": group["max_size"],
        "desiredSize": group["desired_size"],
    }
    groups = [{"autoscalingGroups": [{"name": f"eks-{group['import']}"}], "remoteAccessSecurityGroupId": ""}]
    return {
        **EXISTING,
        "clusterName": cluster,
        "nodeGroupName": group["import"],
        "instanceTypes": group["instance_types"],
        "labels": group.get("labels", {}),
        "scalingConfig": scaling,
        "resources": groups,
    }


class Ec2:
    """A stand-in for EC2 and the kubelets: brings up each group's nodes, and keeps their labels."""

    def __init__(self, cluster: Cluster, account: Account) -> None:
        self._cluster, self._account = cluster, account
        self._made: dict[str, Any] = {}
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
        for group in self._account.read()["objects"].get(NODE_GROUP, {}).values():
            name = group["nodeGroupName"]
            given = {"labels": group["labels"], "taints": group["taints"], "size": group["scalingConfig"]}
            if self._made.get(name) != given:
                self._make_nodes(group)
                self._made[name] = json.loads(json.dumps(given))

    def _make_nodes(self, group: Mapping[str, Any]) -> None:
        name, kind = group["nodeGroupName"], INSTANCE_TYPES[group["instanceTypes"][0]]
        self._cluster.nodes(
            kind.architecture,
            int(group["scalingConfig"]["desiredSize"]),
            prefix=name,
            labels={
                **group["labels"],
                EKS_GROUP_LABEL: name,
                "node.kubernetes.io/instance-type": kind.name,
            },
            taints=[
                {"key": one["key"], "value": one.get("value") or "", "effect": EFFECTS[one["effect"]]}
                for one in group["taints"]
            ],
            cpu=f"{kind.allocatable_millicpu}m",
            memory=str(kind.allocatable_memory),
            pods=kind.pods,
        )


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

    def __init__(self, lab: Lab, registry: Registry, folder: Path, patch: pytest.MonkeyPatch) -> None:
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

    def fill_account(self, cluster: str, groups: Mapping[str, Any]) -> None:
        """The cluster, and the groups that the file imports."""
        arn = f"arn:aws:eks:eu-west-1:123456789012:cluster/{cluster}"
        there = {
            f"{cluster}:{group['import']}": existing(cluster, group)
            for group in groups.values()
            if "import" in group
        }
        objects = {CLUSTER: {cluster: {"arn": arn, **self.reach}}, NODE_GROUP: there}
        self.write_account(objects=objects)

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
    with pytest.MonkeyPatch.context() as patch:
        on_aws = OnAws(control_plane, registry, tmp_path, patch)
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
    on_aws.fill_account(name, own["node_groups"])
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


def test_a_cluster_is_made_and_the_next_update_moves_its_pods(on_aws: OnAws) -> None:
    """The first update makes cluster and node groups; the second finds them, and pods to move. Neither makes
    an access entry for the deployer, which EKS makes itself, and no later one upgrades an add-on. A destroy
    is refused before any node goes, while EKS would refuse to delete the cluster in the end.
    """
    groups = {
        "x86": {"instance_types": ["m6i.xlarge"], "desired_size": 2, "max_size": 3},
        "graviton": {"twin_of": "x86", "desired_size": 2},
    }
    on_aws.take_file(
        "staging",
        kube_context=None,
        cluster={
            "name": "fresh",
            "subnets": ["subnet-0a", "subnet-0b"],
            "create": {"version": "1.34", "vpc": "vpc-0a", "admins": ADMINS},
        },
        node_groups=groups,
        arm_ratio="0.5",
    )
    preview = on_aws.stack.preview(PACK)
    assert preview.succeeded, preview.output
    done = on_aws.stack.up(PACK)
    assert done.succeeded, done.output
    made = on_aws.account.read()["objects"][CLUSTER]["fresh"]
    assert made["vpcConfig"]["endpointPublicAccess"] is False
    assert made["encryptionConfig"]["resources"] == ["secrets"]
    assert made["tags"] == {"archshift/creator": "123456789012:role/deployer"}
    assert list(on_aws.account.read()["objects"][ENTRY]) == [f"fresh:{ADMINS[1]}"]
    on_aws.write_account(**{**on_aws.account.read(), "newestAddon": "v2"})
    with Ec2(on_aws.cluster, on_aws.account).running():
        on_aws.cluster.apply(fleet())
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
        stopped = on_aws.stack.preview_destroy()
        assert stopped.exit_code != 0
        sentence = "the cluster fresh stays: EKS refuses to delete it while archshift:cluster.create."
        assert sentence in " ".join(stopped.output.split()), stopped.output
        assert on_aws.account.read()["done"] == done


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
    own = on_aws.take_file("staging", **changes)
    on_aws.fill_account("staging", own["node_groups"])
    content = on_aws.account.read()
    on_aws.write_account(**{**content, **account})
    stopped = on_aws.stack.up()
    assert stopped.exit_code != 0
    assert "Traceback" not in stopped.output
    assert sentence in " ".join(stopped.output.split()), stopped.output
    assert on_aws.account.read()["done"] == []
