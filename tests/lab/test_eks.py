"""Node groups of EKS with the real engine, API server and scheduler; a stand-in is the AWS provider.

What is real here: imports, replacements, protection, hooks and what a second run finds. What is not:
AWS (tests/standins/aws.py), and the nodes, which the tests make.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from archshift.common.kubernetes import EKS_GROUP_LABEL, GROUP_LABEL, STACK_LABEL
from lab.control_plane import PROJECT, Lab
from lab.engine import run_engine
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.guard_matrix import (
    NO_CHECK,
    NO_HOOK,
    NO_PROTECT,
    Guarded,
    edited,
    guarded_cluster,
    legacy,
    with_image,
)
from tests.lab.lab_helpers import Result, deployment, reached_as_eks
from tests.standins import install_plugins
from tests.standins.aws import ACCOUNT, NODE_GROUP, TAG, TEMPLATE, Account
from tests.standins.aws import CLUSTER as CLUSTER_TYPE
from tests.standins.eks_api import serve

pytestmark = pytest.mark.timeout(900)

OLD = "prod:general"
X86 = {"import": "general", "instance_types": ["m6i.xlarge"], "desired_size": 3, "labels": {"pool": "main"}}
GRAVITON = {"twin_of": "x86", "desired_size": 2, "ami_family": "AL2023"}
CLUSTER = {"name": "prod", "subnets": ["subnet-0a", "subnet-0b"], "node_role": "arn:aws:iam::1:role/nodes"}

EXISTING = {
    "clusterName": "prod",
    "nodeGroupName": "general",
    "nodeRoleArn": "arn:aws:iam::1:role/old",
    "subnetIds": ["subnet-0z"],
    "instanceTypes": ["m6i.xlarge"],
    "amiType": "AL2_x86_64",
    "capacityType": "ON_DEMAND",
    "launchTemplate": {"id": "lt-0fedcba9876543210", "name": "old", "version": "1"},
    "scalingConfig": {"minSize": 3, "desiredSize": 3, "maxSize": 3},
    "updateConfig": {"maxUnavailable": 1},
    "labels": {"team": "shop"},
    "tags": {"Team": "shop"},
    "status": "ACTIVE",
    "resources": [{"autoscalingGroups": [{"name": "eks-general"}], "remoteAccessSecurityGroupId": ""}],
}


@dataclass
class OnEks:
    """A cluster with an existing x86 group of three nodes, and two Graviton nodes, and its stack."""

    guarded: Guarded
    account: Account

    def config(self, groups: Mapping[str, Any], **values: Any) -> None:
        """Set the node groups."""
        self.guarded.stack.config({"node_groups": dict(groups), **values})

    def done(self) -> list[list[str]]:
        """What was done to the account: operation, type, id."""
        done: list[list[str]] = self.account.read()["done"]
        return done

    def run(self, program: Path, *arguments: str) -> Result:
        """Run the engine on another program than the checkout's."""
        stack = self.guarded.stack
        flags = [f"--stack={stack.name}", f"--config-file={stack.config_file}", f"--cwd={program}"]
        log = stack.folder / f"edited-{len(list(stack.folder.glob('edited-*.log')))}.log"
        return run_engine(stack.lab, [*arguments, *flags], stack=stack.name, log=log, timeout=600)


@pytest.fixture(scope="module")
def on_eks(
    control_plane: Lab, registry: Registry, push: Pusher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[OnEks]:
    """One for the file: each test goes on where the one before it ended."""
    folder = tmp_path_factory.mktemp("eks")
    arn = "arn:aws:eks:eu-west-1:123456789012:cluster/prod"
    cluster = {"arn": arn, **reached_as_eks(control_plane)}
    account = folder / "account.json"
    account.write_text(
        json.dumps({"objects": {CLUSTER_TYPE: {"prod": cluster}, NODE_GROUP: {OLD: EXISTING}}, "done": []})
    )
    plugins = install_plugins(folder / "bin", "aws")
    with (
        guarded_cluster(control_plane, registry, push, folder) as guarded,
        pytest.MonkeyPatch.context() as patch,
        serve(Account(account)) as eks_api,
    ):
        environment = control_plane.process_environment()
        path = os.pathsep.join([str(plugins), environment["PATH"]])
        environment = {**environment, **eks_api, "PATH": path, ACCOUNT: str(account)}
        patch.setattr(control_plane, "process_environment", lambda: environment)
        labels = {EKS_GROUP_LABEL: "general", "pool": "main"}
        guarded.cluster.nodes("amd64", 3, prefix="x86", labels=labels)
        guarded.cluster.nodes("arm64", 2, prefix="arm", labels={GROUP_LABEL: "graviton", "pool": "main"})
        guarded.cluster.apply(legacy(guarded))
        guarded.stack.config({"platform": None, "cluster": CLUSTER})
        yield OnEks(guarded, Account(account))


def test_an_existing_group_is_taken_over_and_its_twins_are_made(on_eks: OnEks) -> None:
    """In one update, without a replacement; and the next finds nothing to do."""
    on_eks.config({"x86": X86, "graviton": GRAVITON})
    done = on_eks.guarded.up()
    assert "Traceback" not in done.output
    assert [operation for operation, _, identity in on_eks.done() if identity == OLD] == ["update"]
    old = on_eks.account.find(NODE_GROUP, OLD)
    assert old
    kept = ("instanceTypes", "amiType", "launchTemplate", "nodeRoleArn", "subnetIds", "scalingConfig")
    assert {name: old[name] for name in kept} == {name: EXISTING[name] for name in kept}
    ours = {GROUP_LABEL: "x86", STACK_LABEL: on_eks.guarded.stack.name}
    assert old["labels"] == {"team": "shop", "pool": "main", "architecture": "amd64", **ours}
    (made,) = (one for key, one in on_eks.account.read()["objects"][NODE_GROUP].items() if key != OLD)
    assert (made["instanceTypes"], made["amiType"]) == (["m8g.xlarge"], "AL2023_ARM_64_STANDARD")
    assert made["nodeGroupName"].startswith("graviton-")
    (template,) = on_eks.account.read()["objects"][TEMPLATE].values()
    assert template["metadataOptions"]["httpTokens"] == "required"
    # As EKS does on the living nodes of a group.
    on_eks.guarded.cluster.lab.kubectl(
        "label", "nodes", f"--selector={EKS_GROUP_LABEL}", f"{GROUP_LABEL}=x86"
    )
    on_eks.guarded.cluster.wait_until_settled(on_eks.guarded.namespace)
    before = on_eks.done()
    again = on_eks.guarded.up()
    assert on_eks.done() == before, again.output


def test_a_group_with_other_types_is_there_before_the_old_one_goes(on_eks: OnEks) -> None:
    """The name's suffix makes room for both; pods move before their nodes are taken."""
    start = len(on_eks.done())
    on_eks.config({"x86": X86, "graviton": GRAVITON}, graviton_families=["m7g"])
    on_eks.guarded.up()
    groups = [(did, identity) for did, kind, identity in on_eks.done()[start:] if kind == NODE_GROUP]
    assert [did for did, _ in groups] == ["create", "delete"]
    assert groups[0][1] != groups[1][1]


def scaled(on_eks: OnEks, size: int) -> str:
    """Do as the autoscaler does: give the Graviton group so many nodes; returns the group's ID."""
    content = on_eks.account.read()
    ((name, group),) = ((key, one) for key, one in content["objects"][NODE_GROUP].items() if key != OLD)
    group["scalingConfig"]["desiredSize"] = size
    on_eks.account.change("scaled by hand", NODE_GROUP, name, group)
    return str(name)


def test_what_the_autoscaler_did_stays(on_eks: OnEks) -> None:
    """Its size is sent with every change of the limits, without a refresh before: no node goes, and EKS
    refuses nothing. Without a change nothing is done. Its group knows its labels at zero.
    """
    limits = {"min_size": 0, "max_size": 9}
    cluster = {**CLUSTER, "autoscaler": "cluster-autoscaler"}
    on_eks.config({"x86": X86, "graviton": {**GRAVITON, **limits}}, cluster=cluster)
    on_eks.guarded.up()
    tags = {key.partition(",")[2] for key in on_eks.account.read()["objects"][TAG]}
    assert "k8s.io/cluster-autoscaler/node-template/label/kubernetes.io/arch" in tags
    scaled(on_eks, 7)
    assert on_eks.guarded.stack.refresh().succeeded
    before = on_eks.done()
    on_eks.guarded.up()
    assert on_eks.done() == before
    name = scaled(on_eks, 8)
    for limits, size in (({"min_size": 0, "max_size": 12}, 8), ({"min_size": 9, "max_size": 12}, 9)):
        on_eks.config({"x86": X86, "graviton": {**GRAVITON, **limits}}, cluster=cluster)
        on_eks.guarded.up()
        group = on_eks.account.find(NODE_GROUP, name)
        assert group
        assert group["scalingConfig"]["desiredSize"] == size
    before = on_eks.done()
    on_eks.guarded.up()
    assert on_eks.done() == before
    on_eks.config({"x86": X86, "graviton": GRAVITON}, cluster=CLUSTER)


PROGRAM = "x86 capacity stays: 1 workload needs x86"
HOOK = "x86 node group x86 stays: 1 workload needs x86"
ALONE = {"instance_types": ["m8g.xlarge"], "desired_size": 2, "labels": {"pool": "main"}}


def test_the_policy_pack_reads_groups_of_eks(on_eks: OnEks) -> None:
    """What archshift registers passes the pack, also the preview of a group that is not made yet. With the
    program's check out of the way, what takes x86 away fails the preview with the rule's own words.
    """
    pack = f"--policy-pack={PROJECT / 'policies'}"
    on_eks.config({"x86": X86, "graviton": GRAVITON, "more": {**ALONE, "desired_size": 1}})
    sound = on_eks.guarded.stack.preview(pack)
    assert sound.succeeded, sound.output
    groups = {"x86": X86, "graviton": GRAVITON}
    on_eks.config(groups)
    blind = edited(on_eks.guarded, NO_CHECK, NO_PROTECT, NO_HOOK)
    assert on_eks.run(blind, "up", "--yes", "--skip-preview").succeeded
    for wanted, words in (
        (groups, "The x86 node group x86 is not protected. 1 workload needs x86 nodes"),
        ({"graviton": ALONE}, "1 workload needs x86 nodes: they request"),
    ):
        on_eks.config(wanted)
        stopped = on_eks.run(blind, "preview", pack)
        assert stopped.exit_code != 0
        assert words in " ".join(stopped.output.split()), stopped.output
    on_eks.config(groups)
    on_eks.guarded.up()


@pytest.mark.parametrize(
    "groups",
    [
        {"graviton": ALONE},
        {"graviton": ALONE, "x86": {**X86, "min_size": 0, "desired_size": 0}},
        {"graviton": ALONE, "x86": {**X86, "taints": [{"key": "retired"}]}},
    ],
    ids=["taken out", "scaled to zero", "tainted"],
)
def test_the_program_and_the_hook_each_keep_x86(on_eks: OnEks, groups: dict[str, Any]) -> None:
    """The program before anything is registered; without it and unprotected, the hook asks again."""
    on_eks.config(groups)
    before = on_eks.account.find(NODE_GROUP, OLD)
    stopped = on_eks.guarded.stack.up()
    assert stopped.exit_code != 0
    assert PROGRAM in " ".join(stopped.output.split()), stopped.output
    on_eks.guarded.unprotect()
    blind = edited(on_eks.guarded, NO_CHECK, NO_PROTECT)
    stopped = on_eks.run(blind, "up", "--yes", "--skip-preview")
    assert stopped.exit_code != 0
    assert HOOK in " ".join(stopped.output.split()), stopped.output
    assert on_eks.account.find(NODE_GROUP, OLD) == before


def test_an_imported_group_is_not_turned_into_graviton(on_eks: OnEks) -> None:
    """Other types, or another AMI type, would replace it under its name: the settings are refused."""
    before = on_eks.account.find(NODE_GROUP, OLD)
    on_eks.config({"x86": {**X86, "instance_types": ["m8g.xlarge"], "ami_type": "AL2023_ARM_64_STANDARD"}})
    stopped = on_eks.guarded.stack.up()
    assert stopped.exit_code != 0
    assert (
        "archshift:node_groups.x86.instance_types: m8g.xlarge is not what the live group 'general' has; "
        "write m6i.xlarge"
    ) in stopped.output
    assert on_eks.account.find(NODE_GROUP, OLD) == before


def test_protection_alone_keeps_x86(on_eks: OnEks) -> None:
    """Where the program's check and the hook are both taken out."""
    on_eks.config({"x86": X86, "graviton": GRAVITON})
    on_eks.guarded.up()
    blind = edited(on_eks.guarded, NO_CHECK, NO_HOOK)
    assert on_eks.run(blind, "up", "--yes", "--skip-preview").succeeded
    before = on_eks.account.find(NODE_GROUP, OLD)
    on_eks.config({"graviton": ALONE})
    stopped = on_eks.run(blind, "up", "--yes", "--skip-preview")
    assert stopped.exit_code != 0
    assert re.search(r"it is protected|marked for protection", stopped.output), stopped.output
    assert on_eks.account.find(NODE_GROUP, OLD) == before


def test_a_destroy_without_the_program_is_refused(on_eks: OnEks) -> None:
    """The hook lives in the program, and the engine does not delete without asking it."""
    on_eks.config({"x86": X86, "graviton": GRAVITON})
    on_eks.guarded.up()
    on_eks.guarded.unprotect()
    before = on_eks.account.find(NODE_GROUP, OLD)
    plain = on_eks.guarded.stack.destroy()
    assert plain.exit_code != 0
    assert "--run-program" in plain.output
    asked = on_eks.guarded.stack.destroy("--run-program")
    assert asked.exit_code != 0
    assert HOOK in " ".join(asked.output.split()), asked.output
    assert on_eks.account.find(NODE_GROUP, OLD) == before


def test_an_imported_group_is_handed_back_and_never_deleted_for_another(on_eks: OnEks) -> None:
    """Another name under `import:` is refused, and so is a group of our own in its place. Handed back, it has
    what it had before archshift; out of the settings it stays at EKS, and it can be imported again.
    """
    groups = {"x86": X86, "graviton": GRAVITON}
    on_eks.config(groups)
    on_eks.guarded.up()
    content = on_eks.account.read()
    other = {**EXISTING, "nodeGroupName": "general2"}
    on_eks.account.change("made by hand", NODE_GROUP, "prod:general2", other)
    start = on_eks.done()
    own = {key: value for key, value in X86.items() if key != "import"}
    for x86, what in (({**X86, "import": "general2"}, "importing 'general2'"), (own, "a new group")):
        on_eks.config({**groups, "x86": x86})
        stopped = on_eks.guarded.stack.preview()
        assert stopped.exit_code != 0
        assert (
            "archshift:node_groups.x86: under this name the stack manages the node group 'general', and "
            f"{what} would delete it"
        ) in " ".join(stopped.output.split()), stopped.output
    assert on_eks.done() == start
    on_eks.account.change("deleted by hand", NODE_GROUP, "prod:general2", None)
    on_eks.config({**groups, "x86": {**X86, "release": True}})
    released = on_eks.guarded.up()
    assert "this update hands 'general' back" in released.output
    found = on_eks.account.find(NODE_GROUP, OLD)
    assert found
    assert {name: found.get(name) for name in ("labels", "taints", "tags")} == {
        "labels": EXISTING["labels"],
        "taints": None,
        "tags": EXISTING["tags"],
    }
    # As EKS does on the living nodes of a group.
    on_eks.guarded.cluster.lab.kubectl(
        "label", "nodes", f"--selector={EKS_GROUP_LABEL}", f"{GROUP_LABEL}-", f"{STACK_LABEL}-"
    )
    on_eks.config({"graviton": ALONE})
    on_eks.guarded.up()
    assert on_eks.account.find(NODE_GROUP, OLD) == found
    assert "delete" not in [did for did, _, identity in on_eks.done() if identity == OLD]
    on_eks.config(groups)
    on_eks.guarded.up()
    assert on_eks.account.find(NODE_GROUP, OLD) == content["objects"][NODE_GROUP][OLD]
    on_eks.guarded.cluster.lab.kubectl(
        "label", "nodes", f"--selector={EKS_GROUP_LABEL}", f"{GROUP_LABEL}=x86"
    )


def test_a_group_goes_when_its_nodes_are_empty(on_eks: OnEks) -> None:
    """Nothing needs x86 any more and a pod runs there: neither the size nor the group goes from under it;
    drained, both do.
    """
    guarded = on_eks.guarded
    lab, groups = guarded.cluster.lab, {"graviton": GRAVITON, "x86": X86}
    lab.kubectl("delete", "deployment", "legacy", f"--namespace={guarded.namespace}", "--cascade=foreground")
    on_eks.config(groups)
    guarded.up()
    beside = guarded.cluster.namespace(f"beside-{guarded.namespace}")
    lab.kubectl("cordon", "arm-0", "arm-1")
    guarded.cluster.apply(with_image(deployment("dns", 1, beside), guarded.images["web"]))
    guarded.cluster.wait_until_settled(beside)
    lab.kubectl("uncordon", "arm-0", "arm-1")
    nothing = {**X86, "min_size": 0, "desired_size": 0, "max_size": 3}
    for wanted in ({**groups, "x86": nothing}, {"graviton": ALONE}):
        on_eks.config(wanted)
        stopped = guarded.stack.up()
        assert stopped.exit_code != 0
        assert f"x86 node group x86 stays: 1 pod runs on it ({beside}/dns-" in " ".join(
            stopped.output.split()
        ), stopped.output
        found = on_eks.account.find(NODE_GROUP, OLD)
        assert found
        assert found["scalingConfig"]["desiredSize"] == 3
    on_eks.config(groups)
    drained = guarded.stack.archshift("drain")
    assert drained.returncode == 0, drained.stdout + drained.stderr
    assert "3 of 3 x86 nodes are empty, pods moved: 1" in drained.stdout
    on_eks.config({**groups, "x86": nothing})
    guarded.up()
    found = on_eks.account.find(NODE_GROUP, OLD)
    assert found
    assert found["scalingConfig"] == {"minSize": 0, "desiredSize": 0, "maxSize": 3}
    on_eks.config({"graviton": ALONE})
    guarded.up()
    assert on_eks.account.find(NODE_GROUP, OLD) is None
