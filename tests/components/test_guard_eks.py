"""The guard's last question, asked for a managed node group; a fake survey stands in for the cluster."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pulumi
import pytest

from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import EKS_GROUP_LABEL, GROUP_LABEL, INSTANCE_TYPE_LABEL
from archshift.common.resources import Resources
from archshift.images.verdict import AMD64_ONLY, MULTI_ARCH, Verdict
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.groups import Node
from archshift.plan.guard import needs
from archshift.plan.model import Plan
from archshift.settings import stack as stack_settings
from archshift.survey import Survey
from components import guard
from tests.build import GIB, deployment, node, plan_node, pod
from tests.components.recorder import record
from tests.fakes import FakeCluster

X86 = {"instance_types": ["m5.xlarge"], "desired_size": 3}
ARM = {"instance_types": ["m7g.xlarge"], "desired_size": 3}
OLD = {"clusterName": "prod", "instanceTypes": ["m5.xlarge"], "amiType": "AL2023_x86_64_STANDARD"}
STAYS = "x86 node group x86 stays: 1 workload needs x86: shop/Deployment/pay ("


def x86_node(name: str, group: str, **labels: str) -> Node:
    """An x86 node of a managed group."""
    labels = {GROUP_LABEL: group, INSTANCE_TYPE_LABEL: "m5.xlarge", **labels}
    return plan_node(name, labels=labels, millicpu=3920, memory=15 * GIB)


def asked(
    monkeypatch: pytest.MonkeyPatch,
    groups: Mapping[str, Any],
    *,
    old: Mapping[str, Any] = OLD,
    new: Mapping[str, Any] | None = None,
    nodes: tuple[Node, ...] = (),
    millicpu: int = 1000,
    verdict: Verdict = AMD64_ONLY,
    live: Mapping[str, Any] | None = None,
    **config: Any,
) -> None:
    """Ask before the group x86 is deleted, or updated to ``new``; six amd64-only pods need x86."""
    one = deployment("pay", 6, requests=Resources(millicpu, 1024**3))
    nodes = nodes or tuple(x86_node(f"ip-{index}", "x86") for index in range(3))
    inventory = Inventory(workloads={one.key: one}, nodes=nodes)
    needed = needs(inventory, {one.key: WorkloadVerdict(one.key, verdict, (), ())}, {})
    found = Survey(inventory=inventory, evidence=None, plan=Plan(arm_ratio=0.5), needs=needed)
    monkeypatch.setattr(guard, "survey", lambda _settings, **_options: found)
    monkeypatch.setattr(guard, "connect", lambda _context: FakeCluster(live))
    values = {"cluster": {"name": "prod", "subnets": ["subnet-a"]}, "node_groups": groups, **config}
    stack = stack_settings.load(
        "prod",
        {"archshift:arm_ratio": "0.5"}
        | {f"archshift:{key}": json.dumps(value) for key, value in values.items()},
    )
    hooks: list[pulumi.ResourceHook] = []
    record(lambda: hooks.append(guard.guard_hook(stack)))
    arguments = pulumi.ResourceHookArgs(
        urn="urn",
        id="id",
        name="x86",
        type="aws:eks/nodeGroup:NodeGroup",
        old_inputs=old,
        new_inputs=new,
        old_outputs={**old, "nodeGroupName": "general"},
    )
    hooks[0].callback(arguments)


@pytest.mark.parametrize(
    "groups",
    [
        {"arm": ARM},
        {"arm": ARM, "x86": X86},
        {"x86": ARM},
        {"x86": {**X86, "instance_types": ["m5.2xlarge"]}},
        {"x86": {**X86, "import": "old"}},
    ],
    ids=["taken out", "destroy", "other architecture", "other types", "destroy of an imported group"],
)
def test_a_group_that_is_needed_is_not_deleted(monkeypatch: pytest.MonkeyPatch, groups: Any) -> None:
    """Whatever the configuration says, and also when it says nothing of it."""
    with pytest.raises(ArchshiftError) as error:
        asked(monkeypatch, groups)
    assert str(error.value).startswith(STAYS)


def test_a_group_may_go_when_others_carry_the_need(monkeypatch: pytest.MonkeyPatch) -> None:
    """The guard protects capacity, not groups."""
    nodes = (x86_node("ip-1", "x86"), x86_node("ip-2", "other"), x86_node("ip-3", "other"))
    asked(monkeypatch, {"other": {**X86, "desired_size": 2}}, nodes=nodes)


@pytest.mark.parametrize(("desired", "stops"), [(3, False), (2, False), (1, True), (0, True)])
def test_a_group_shrinks_as_far_as_the_need_allows(
    monkeypatch: pytest.MonkeyPatch, desired: int, stops: bool
) -> None:
    """Six pods of one vCPU each need two nodes of 3.9."""
    new = {**OLD, "scalingConfig": {"desiredSize": desired}}
    groups = {"x86": {**X86, "desired_size": desired}}
    if not stops:
        asked(monkeypatch, groups, new=new)
        return
    with pytest.raises(ArchshiftError, match=r"^x86 node group x86 stays: "):
        asked(monkeypatch, groups, new=new)


@pytest.mark.parametrize(
    ("new", "stops"),
    [(None, True), (0, True), (1, False)],
    ids=["deleted", "scaled to zero", "scaled down"],
)
def test_the_last_nodes_are_not_taken_from_under_pods(
    monkeypatch: pytest.MonkeyPatch, new: int | None, stops: bool
) -> None:
    """EKS would end the pods five minutes later. Which nodes go in a scale-down is EKS's choice, and it
    drains them; without pods, or with a DaemonSet's alone, the group may go.
    """
    nodes = [node("ip-0", "amd64"), node("ip-1", "amd64")]
    nodes[0]["metadata"]["labels"][EKS_GROUP_LABEL] = "general"
    tied = pod("agent", "ip-0", owner=("DaemonSet", "agent"))
    free = {"/api/v1/nodes": nodes, "/api/v1/pods": [tied, pod("elsewhere", "ip-1")]}
    old = {**OLD, "scalingConfig": {"desiredSize": 3}}
    after = None if new is None else {**old, "scalingConfig": {"desiredSize": new}}
    groups = {"arm": ARM} if new is None else {"arm": ARM, "x86": {**X86, "desired_size": new}}
    asked(monkeypatch, groups, old=old, new=after, verdict=MULTI_ARCH, live=free)
    busy = {**free, "/api/v1/pods": [pod("web", "ip-0")]}
    if not stops:
        asked(monkeypatch, groups, old=old, new=after, verdict=MULTI_ARCH, live=busy)
        return
    with pytest.raises(ArchshiftError, match=r"^x86 node group x86 stays: 1 pod runs on it \(shop/web\); "):
        asked(monkeypatch, groups, old=old, new=after, verdict=MULTI_ARCH, live=busy)


def test_a_taint_that_turns_the_need_away_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """EKS puts a group's new taints on its living nodes."""
    groups = {"x86": {**X86, "taints": [{"key": "drain"}]}}
    with pytest.raises(ArchshiftError, match=r"^x86 node group x86 stays: "):
        asked(monkeypatch, groups, new={**OLD, "taints": []})


@pytest.mark.parametrize(
    "old",
    [
        {"clusterName": "prod", "instanceTypes": ["m7g.xlarge"]},
        {"clusterName": "prod", "amiType": "BOTTLEROCKET_ARM_64"},
    ],
    ids=["by its types", "by its image"],
)
def test_a_graviton_group_may_always_go(monkeypatch: pytest.MonkeyPatch, old: Any) -> None:
    """The way back to x86 is never barred."""
    asked(monkeypatch, {}, old=old)


@pytest.mark.parametrize(
    "old",
    [
        {"clusterName": "prod"},
        {"clusterName": "prod", "instanceTypes": ["m99q.large"], "amiType": "CUSTOM"},
        {"clusterName": "prod", "instanceTypes": ["m7g.large", "m5.large"]},
    ],
    ids=["nothing is known", "an unknown type", "of both"],
)
def test_a_group_of_which_nothing_is_known_counts_as_x86(monkeypatch: pytest.MonkeyPatch, old: Any) -> None:
    """Unknown is never yes."""
    with pytest.raises(ArchshiftError, match=r"^x86 node group x86 stays: "):
        asked(monkeypatch, {}, old=old)


CUSTOM = {"clusterName": "prod", "amiType": "CUSTOM", "launchTemplate": {"id": "lt-1"}}


def of_group(*architectures: str, kind: str = "m7g.xlarge") -> tuple[Node, ...]:
    """Nodes of the group, and three x86 nodes that carry the need."""
    labels = {EKS_GROUP_LABEL: "general", INSTANCE_TYPE_LABEL: kind}
    return (
        *(plan_node(f"ip-{index}", arch, labels=labels) for index, arch in enumerate(architectures)),
        *(x86_node(f"other-{index}", "other") for index in range(3)),
    )


def test_a_graviton_group_with_an_image_of_its_own_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its launch template has its types, so its nodes say what it is; their pods do not matter then."""
    busy = node("ip-0", "arm64")
    busy["metadata"]["labels"][EKS_GROUP_LABEL] = "general"
    pods = {"/api/v1/nodes": [busy], "/api/v1/pods": [pod("web-1", "ip-0", owner=("ReplicaSet", "web"))]}
    nodes = of_group("arm64", "arm64")[:2]
    asked(monkeypatch, {}, old=CUSTOM, nodes=nodes, live=pods)


@pytest.mark.parametrize("nodes", [("amd64",), ("arm64", "amd64"), ()], ids=["x86", "of both", "empty"])
def test_missing_words_never_make_a_group_graviton(
    monkeypatch: pytest.MonkeyPatch, nodes: tuple[str, ...]
) -> None:
    """Only nodes that are all on Graviton do."""
    there = of_group(*nodes)[: len(nodes)] or (plan_node("arm", "arm64", labels={}),)
    with pytest.raises(ArchshiftError, match=r"^x86 node group x86 stays: "):
        asked(monkeypatch, {}, old=CUSTOM, nodes=there)


def test_a_node_without_the_label_of_its_architecture_is_no_graviton_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    old = {"kind": "Node", "metadata": {"name": "ip-0", "labels": {}}}
    with pytest.raises(ArchshiftError, match=r"^x86 node x86 stays: "):
        asked(monkeypatch, {}, old=old, nodes=(x86_node("x86", "x86"),))


def test_the_nodes_say_which_types_a_launch_template_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod that no node of these types could hold keeps no group; with unknown types it would."""
    live: dict[str, Any] = {"/api/v1/nodes": [], "/api/v1/pods": []}
    nodes = of_group("amd64", kind="m5.xlarge")
    asked(monkeypatch, {"other": X86}, old=CUSTOM, nodes=nodes, live=live, millicpu=100_000)
    nodes = of_group("amd64", kind="m99q.large")
    with pytest.raises(ArchshiftError, match=r"^x86 node group x86 stays: "):
        asked(monkeypatch, {"other": X86}, old=CUSTOM, nodes=nodes, live=live, millicpu=100_000)


def test_an_imported_group_is_known_before_it_has_our_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the update that imports it, its nodes have EKS's label alone."""
    nodes = tuple(x86_node(f"ip-{index}", "", **{EKS_GROUP_LABEL: "old"}) for index in range(3))
    groups = {"x86": {**X86, "desired_size": 1, "import": "old"}}
    with pytest.raises(ArchshiftError, match=r"^x86 node group x86 stays: "):
        asked(monkeypatch, groups, new=OLD, nodes=nodes)


@pytest.mark.parametrize("groups", [{"arm": ARM}, {"x86": {**X86, "instance_types": ["m7g.xlarge"]}}])
def test_a_group_is_not_deleted_before_its_nodes_have_our_label(
    monkeypatch: pytest.MonkeyPatch, groups: Any
) -> None:
    """EKS's own label says whose they are; without it they would seem to stay."""
    nodes = tuple(x86_node(f"ip-{index}", "", **{EKS_GROUP_LABEL: "general"}) for index in range(3))
    nodes = tuple(replace(one, labels={k: v for k, v in one.labels.items() if v}) for one in nodes)
    with pytest.raises(ArchshiftError, match=r"^x86 node group x86 stays: "):
        asked(monkeypatch, groups, old={**OLD, "nodeGroupName": "general"}, nodes=nodes)


def test_under_break_glass_a_group_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """For as long as the configuration says so; a time that ended has no effect."""
    glass = {"reason": "the data centre burns", "ticket": "OPS-1"}
    soon = datetime.now(UTC) + timedelta(hours=1)
    with pytest.raises(ArchshiftError, match=r"^x86 node group x86 stays: "):
        asked(monkeypatch, {"arm": ARM}, break_glass={**glass, "until": "2020-01-01T00:00:00Z"})
    asked(monkeypatch, {"arm": ARM}, break_glass={**glass, "until": soon.isoformat()})
