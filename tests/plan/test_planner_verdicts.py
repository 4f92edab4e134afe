"""The plan under evidence: who may get a Graviton pod, who keeps those it has, who stops a step."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from archshift.cluster.model import Inventory, Workload
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import Template
from archshift.common.architectures import AMD64, ARM64
from archshift.common.kubernetes import GROUP_LABEL
from archshift.images.verdict import (
    AMD64_ONLY,
    ARM64_ONLY,
    MULTI_ARCH,
    OTHER,
    UNKNOWN,
    ImageVerdict,
    Verdict,
    unknown,
)
from archshift.images.workload import (
    Blocking,
    Container,
    ImageUse,
    WorkloadVerdict,
    judge_workload,
    why_not,
)
from archshift.nodes.groups import Node, NodeGroup, Taint
from archshift.plan.model import DaemonSetBlocker, Plan, PlannedWorkload, Rules
from archshift.plan.placement import place
from archshift.plan.planner import make_plan
from tests.build import (
    ARCH,
    BOTH_SIDES,
    REQUIRED,
    big_node,
    deployment,
    inventory,
    lab_group,
    patched_pod_spec,
    required_affinity,
)


def group(size: int = 1, instance_type: str = "m7g.large") -> NodeGroup:
    return lab_group("new", instance_type, size)


NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
AGENT = "registry.example/agent:2"
PINNED = {"affinity": {"nodeAffinity": {REQUIRED: required_affinity(ARCH, "amd64")}}}
ON_GRAVITON = {"affinity": {"nodeAffinity": {REQUIRED: required_affinity(ARCH, "arm64")}}}
NO_EVIDENCE = "there is no evidence for its images"


def verdict(one: Workload, value: Verdict, *blocking: Blocking) -> WorkloadVerdict:
    """The evidence for a workload."""
    return WorkloadVerdict(one.key, value, blocking, ())


def unread(one: Workload) -> WorkloadVerdict:
    """The evidence where a registry did not answer."""
    block = Blocking("agent", AGENT, UNKNOWN, "container agent: registry.example gave no answer in 30 s")
    return verdict(one, UNKNOWN, block)


def amd64_only(one: Workload) -> WorkloadVerdict:
    """The evidence for an image made for x86 alone, as the audit words it."""
    image = ImageVerdict(AGENT, AMD64_ONLY, ("linux/amd64",), "sha256:" + "1" * 64, "", NOW)
    use = ImageUse(AGENT)
    return judge_workload(one.key, (Container("agent", "container", use),), {use: image})


def plan_for(
    *workloads: Workload,
    verdicts: Mapping[str, WorkloadVerdict] | None,
    ratio: float = 1.0,
    graviton: Mapping[str, int] | None = None,
    nodes: tuple[Node, ...] = BOTH_SIDES,
    **options: Any,
) -> Plan:
    """The plan for a cluster of these workloads."""
    found = inventory(*workloads, graviton=graviton, nodes=nodes)
    return make_plan(arm_ratio=ratio, inventory=found, verdicts=verdicts, **options)


def row_of(one: Workload, evidence: WorkloadVerdict | None, **options: Any) -> PlannedWorkload:
    """The row of the only workload of a cluster, with this verdict on its images."""
    graviton = {one.name: options.pop("graviton", 0)}
    verdicts = {one.key: evidence} if evidence else {}
    (row,) = plan_for(one, verdicts=verdicts, graviton=graviton, **options).workloads
    return row


def as_placed(graviton: int, replicas: int = 4, **options: Any) -> Workload:
    """A workload that an earlier update placed, with nothing changed since."""
    bare = Template(selector={"matchLabels": {"app": "cart"}})
    spec = place(bare, graviton, replicas)
    template = Template(
        spec=spec, owned=frozenset(spec), selector=bare.selector, revision="0a1b2c3d.3", **options
    )
    return deployment(replicas=replicas, template=template)


def test_an_image_without_arm64_keeps_its_workload_on_x86_and_is_named() -> None:
    """The user reads which image of which container to rebuild; no pod may land on Graviton."""
    one = deployment()
    row = row_of(one, amd64_only(one))
    assert row.reason == (
        "held on x86: registry.example/agent:2 is amd64-only: container agent: its image has linux/amd64"
    )
    assert (row.wanted, row.movable, row.exact) == (0, False, True)
    assert patched_pod_spec(row) == PINNED
    assert row.verdict is not None
    assert row.verdict.verdict == AMD64_ONLY


def test_a_workload_proven_unfit_is_taken_off_graviton() -> None:
    """Pods of an image without arm64 crash there: unlike unknown, this is proof, so they go back."""
    one = as_placed(2)
    row = row_of(one, amd64_only(one), graviton=2)
    assert (row.wanted, row.graviton, row.restarts) == (0, 2, True)
    assert patched_pod_spec(row) == PINNED


def test_an_image_for_neither_architecture_is_held() -> None:
    """Whatever runs it today, it is not a Graviton node."""
    one = deployment()
    block = Blocking(
        "main", "registry.example/mainframe:1", OTHER, "container main: its image has linux/s390x"
    )
    row = row_of(one, verdict(one, OTHER, block))
    assert row.reason == (
        "held on x86: registry.example/mainframe:1 is other: container main: its image has linux/s390x"
    )
    assert row.wanted == 0


def test_what_is_proven_moves_as_without_evidence() -> None:
    """A proven workload's patch is the one it gets where images are not checked."""
    one = deployment()
    proven = row_of(one, verdict(one, MULTI_ARCH))
    (unchecked,) = plan_for(one, verdicts=None).workloads
    assert (proven.wanted, proven.movable, proven.reason) == (4, True, "")
    assert proven.patch == unchecked.patch
    assert unchecked.verdict is None


def test_unknown_never_counts_as_yes() -> None:
    """A registry that does not answer gives no workload a Graviton pod, not even at ratio 1."""
    one = deployment()
    row = row_of(one, unread(one))
    assert row.reason == (
        "held on x86: registry.example/agent:2 is unknown: container agent: registry.example gave no answer "
        "in 30 s"
    )
    assert (row.wanted, row.movable) == (0, False)
    assert patched_pod_spec(row) == PINNED


def test_no_evidence_at_all_is_unknown() -> None:
    """A workload that the audit does not mention is no more proven than one that it could not read."""
    row = row_of(deployment(), None)
    assert (row.reason, row.wanted) == (f"held on x86: {NO_EVIDENCE}", 0)
    assert row.verdict is not None
    assert row.verdict.verdict == UNKNOWN
    assert patched_pod_spec(row) == PINNED


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("there", [1, 2, 3, 4])
def test_a_registry_that_is_down_moves_nobody(ratio: float, there: int) -> None:
    """Unknown with pods on Graviton: exactly those stay, none is added, and no pod restarts."""
    one = as_placed(there)
    row = row_of(one, unread(one), graviton=there, ratio=ratio)
    assert (row.wanted, row.graviton, row.exact, row.movable) == (there, there, True, False)
    pods = "1 pod" if there == 1 else f"{there} pods"
    assert row.reason.endswith(f"in 30 s; it keeps its {pods} on Graviton and gets no more there")
    assert row.restarts is False
    assert row.patch is not None
    template = row.patch["spec"]["template"]
    assert template["metadata"]["annotations"] == {"archshift/revision": "0a1b2c3d.3"}


def test_surge_pods_do_not_raise_what_an_unknown_workload_keeps() -> None:
    """In a rollout there are more pods than replicas; what is kept is never more than the replicas."""
    one = as_placed(4)
    row = row_of(one, unread(one), graviton=5)
    assert row.wanted == 4


def test_a_configured_hold_beats_what_unknown_would_keep() -> None:
    """Who writes hold: true wants x86, whatever a registry says today."""
    one = as_placed(2)
    row = row_of(one, unread(one), graviton=2, rules={one.key: Rules(hold=True, reason="licence")})
    assert (row.reason, row.wanted, row.restarts) == ("held on x86: licence", 0, True)
    assert patched_pod_spec(row) == PINNED


def test_an_obstacle_comes_before_the_evidence() -> None:
    """What archshift may not touch it does not hold either: no patch, and its own reason."""
    one = deployment(obstacle="its rollouts are paused (spec.paused)")
    row = row_of(one, amd64_only(one))
    assert (row.reason, row.patch, row.wanted) == (
        "left alone: its rollouts are paused (spec.paused)",
        None,
        None,
    )


def test_an_arm64_only_workload_is_pinned_to_graviton_at_any_ratio() -> None:
    """An image without amd64 runs nowhere else; it does not count into the fleet."""
    one = deployment()
    row = row_of(one, verdict(one, ARM64_ONLY), ratio=0.0)
    assert (row.reason, row.wanted, row.movable) == ("runs on arm64 only", 4, False)
    assert patched_pod_spec(row) == ON_GRAVITON


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
@pytest.mark.parametrize("value", [AMD64_ONLY, UNKNOWN])
def test_what_has_no_standing_pods_and_no_proof_starts_on_x86(kind: str, value: Verdict) -> None:
    """At ratio 1 the next pods of a proven one would start on Graviton; of these, on x86."""
    one = deployment("report", 0, kind=kind)
    row = row_of(one, verdict(one, value))
    assert (row.reason, row.wanted, row.restarts) == (f"held on x86: {NO_EVIDENCE}", None, False)
    assert patched_pod_spec(row) == PINNED
    assert patched_pod_spec(row_of(one, verdict(one, MULTI_ARCH))) == ON_GRAVITON


@pytest.mark.parametrize("kind", ["Deployment", "CronJob"])
def test_what_has_no_standing_pods_and_is_arm64_only_starts_on_graviton(kind: str) -> None:
    """Its next pods cannot run elsewhere, at ratio 0 too."""
    one = deployment("report", 0, kind=kind)
    row = row_of(one, verdict(one, ARM64_ONLY), ratio=0.0)
    assert (row.reason, row.wanted) == ("runs on arm64 only", None)
    assert patched_pod_spec(row) == ON_GRAVITON


def test_the_ratio_is_over_what_can_move_and_both_figures_are_said() -> None:
    """Half of the movable pods, not half of all: held ones do not push others over."""
    cart, pay, legacy = deployment("cart", 4), deployment("pay", 2), deployment("legacy", 10)
    native = deployment("native", 3)
    plan = plan_for(
        cart,
        pay,
        legacy,
        native,
        ratio=0.5,
        graviton={"cart": 1, "native": 3},
        verdicts={
            cart.key: verdict(cart, MULTI_ARCH),
            pay.key: verdict(pay, MULTI_ARCH),
            legacy.key: amd64_only(legacy),
            native.key: verdict(native, ARM64_ONLY),
        },
    )
    assert [row.name for row in plan.movable] == ["cart", "pay"]
    assert (plan.pods, plan.all_pods) == (6, 19)
    assert (plan.wanted, plan.graviton) == (3, 1)


def test_several_images_in_the_way_are_counted() -> None:
    """One is named in full, so that the line stays readable; the rest is a number."""
    one = deployment()
    first = Blocking("main", "a:1", AMD64_ONLY, "container main: its image has linux/amd64")
    second = Blocking("side", "b:1", UNKNOWN, "sidecar side: no such tag")
    assert why_not(verdict(one, AMD64_ONLY, first, second, second)) == (
        "a:1 is amd64-only: container main: its image has linux/amd64 (and 2 more)"
    )


def log_agent(spec: Mapping[str, Any] | None = None, **options: Any) -> Workload:
    """A DaemonSet."""
    return deployment("log", 0, kind="DaemonSet", template=Template(spec=spec or {}), **options)


@pytest.mark.parametrize("value", [AMD64_ONLY, UNKNOWN])
def test_a_daemonset_that_would_start_on_graviton_unproven_is_a_blocker(value: Verdict) -> None:
    """Every new Graviton node would get a pod of it that may not run: said before there is one."""
    one = log_agent()
    block = Blocking("log", AGENT, value, "container log: why")
    plan = plan_for(
        one, verdicts={one.key: verdict(one, value, block)}, nodes=BOTH_SIDES[:1], groups=[group()]
    )
    said = f"would start on Graviton nodes and {AGENT} is {value}: container log: why"
    assert plan.blockers == (DaemonSetBlocker("shop/DaemonSet/log", said, steered=True),)
    (row,) = plan.workloads
    assert (row.reason, row.patch, row.wanted, row.movable) == (said, None, None, False)


@pytest.mark.parametrize("value", [MULTI_ARCH, ARM64_ONLY])
def test_a_proven_daemonset_blocks_nothing(value: Verdict) -> None:
    """It runs on every node that it selects, and may."""
    one = log_agent()
    plan = plan_for(one, verdicts={one.key: verdict(one, value)}, pin_daemonsets=True)
    assert plan.blockers == ()
    assert plan.workloads[0].patch is None
    assert plan.workloads[0].reason == "a DaemonSet: runs on every node that it selects"


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"node-selector": {ARCH: "amd64"}}, "a DaemonSet that pins amd64 itself"),
        ({"required": required_affinity(ARCH, "amd64")}, "a DaemonSet that pins amd64 itself"),
        ({"node-selector": {"disk": "ssd"}}, "a DaemonSet: runs on every node that it selects"),
    ],
    ids=["selector", "affinity", "other-label"],
)
@pytest.mark.parametrize("verdicts", ["amd64", "none"])
def test_a_daemonset_that_keeps_off_graviton_itself_blocks_nothing(
    spec: dict[str, Any], reason: str, verdicts: str
) -> None:
    """Its own selector already does what a block would be for."""
    one = log_agent(spec)
    plan = plan_for(one, verdicts={one.key: amd64_only(one)} if verdicts == "amd64" else {})
    assert plan.blockers == ()
    assert (plan.workloads[0].reason, plan.workloads[0].patch) == (reason, None)


def test_a_taint_keeps_an_unproven_daemonset_away() -> None:
    """Tainted Graviton nodes that it does not tolerate get no pod of it; with the toleration they do."""
    nodes = (BOTH_SIDES[0], big_node("arm", "arm64", taints=(Taint(key="arch", value="arm64"),)))
    one = log_agent()
    assert plan_for(one, verdicts={}, nodes=nodes).blockers == ()
    tolerant = log_agent(tolerations=({"operator": "Exists"},))
    (blocker,) = plan_for(tolerant, verdicts={}, nodes=nodes).blockers
    assert str(blocker) == f"shop/DaemonSet/log: would start on Graviton nodes and {NO_EVIDENCE}"


def test_without_graviton_nodes_there_is_nothing_to_block() -> None:
    """No node, no pod of it."""
    assert plan_for(log_agent(), verdicts={}, nodes=BOTH_SIDES[:1]).blockers == ()


def test_daemonsets_are_not_judged_where_images_are_not_checked() -> None:
    """No evidence was asked for, so its absence says nothing."""
    plan = plan_for(log_agent(), verdicts=None, pin_daemonsets=True)
    assert (plan.blockers, plan.workloads[0].patch) == ((), None)


def test_a_pinned_daemonset_gets_an_x86_affinity_and_blocks_nothing() -> None:
    """With daemonsets: pin the Graviton nodes come up without its pods."""
    one = log_agent()
    plan = plan_for(one, verdicts={one.key: amd64_only(one)}, pin_daemonsets=True)
    (row,) = plan.workloads
    assert plan.blockers == ()
    assert row.reason.startswith(f"kept off Graviton nodes: {AGENT} is amd64-only: ")
    assert (row.wanted, row.movable) == (None, False)
    assert patched_pod_spec(row) == PINNED


def test_pinning_keeps_the_daemonsets_own_rules() -> None:
    """A selector of the application's stays; the pin goes beside it."""
    one = log_agent({"required": required_affinity("zone", "a")})
    (row,) = plan_for(one, verdicts={}, pin_daemonsets=True).workloads
    (term,) = patched_pod_spec(row)["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
    assert term["matchExpressions"] == [
        {"key": "zone", "operator": "In", "values": ["a"]},
        {"key": ARCH, "operator": "In", "values": ["amd64"]},
    ]


def test_a_daemonset_whose_fields_are_others_cannot_be_pinned_and_blocks() -> None:
    """Pinning would take fields from their owner: it stays a blocker that says so up front."""
    helm = FieldOwner("helm", "Apply")
    template = Template(
        spec={"node-selector": {"zone": "a"}, "required": required_affinity("zone", "a")},
        foreign_owners={"node-selector": helm, "required": helm},
    )
    one = deployment("log", 0, kind="DaemonSet", template=template)
    plan = plan_for(one, verdicts={}, pin_daemonsets=True)
    (blocker,) = plan.blockers
    assert str(blocker) == f"shop/DaemonSet/log: would start on Graviton nodes and {NO_EVIDENCE}"
    assert plan.workloads[0].patch is None


@pytest.mark.parametrize(
    ("spec", "value", "running", "blocks"),
    [
        ({}, AMD64_ONLY, 0, True),
        ({}, UNKNOWN, 0, True),
        ({}, None, 0, True),
        ({}, UNKNOWN, 1, False),
        ({}, AMD64_ONLY, 1, True),
        ({}, MULTI_ARCH, 0, False),
        ({"node-selector": {"kubernetes.io/arch": "amd64"}}, AMD64_ONLY, 0, False),
        ({"node-selector": {"beta.kubernetes.io/arch": "arm"}}, UNKNOWN, 0, False),
        ({"node-selector": {"kubernetes.io/os": "windows"}}, OTHER, 0, False),
        ({"required": required_affinity(ARCH, "ppc64le")}, UNKNOWN, 0, False),
        ({"required": required_affinity(ARCH, "amd64", "arm64")}, AMD64_ONLY, 0, True),
    ],
)
@pytest.mark.parametrize("pin", [False, True])
def test_a_daemonset_that_archshift_does_not_steer_blocks_as_any_other(
    spec: dict[str, Any], value: Verdict | None, running: int, blocks: bool, pin: bool
) -> None:
    """It may be outside the discovery, but Graviton nodes still start it. No pin helps."""
    one = replace(log_agent(spec), namespace="kube-system")
    nodes = tuple(replace(n, labels={**n.labels, "kubernetes.io/os": "linux"}) for n in BOTH_SIDES)
    there = Inventory(
        nodes=nodes, outside_daemonsets={one.key: one}, pods={(one.key, "arm64"): running} if running else {}
    )
    verdicts = {one.key: verdict(one, value)} if value else {}
    plan = make_plan(arm_ratio=0.5, inventory=there, verdicts=verdicts, pin_daemonsets=pin)
    assert [(blocker.workload, blocker.steered) for blocker in plan.blockers] == [(one.key, False)] * blocks
    assert plan.workloads == ()


def test_a_pin_that_is_there_is_not_made_again() -> None:
    """The second update of a pinned DaemonSet changes nothing."""
    template = Template(
        spec={"required": required_affinity(ARCH, "amd64")}, owned=frozenset({"required"}), revision="x.1"
    )
    one = deployment("log", 0, kind="DaemonSet", template=template)
    (row,) = plan_for(one, verdicts={}, pin_daemonsets=True).workloads
    assert row.patch is not None
    assert row.patch["spec"]["template"] == {
        "metadata": {"annotations": {"archshift/revision": "x.1"}},
        "spec": PINNED,
    }


@pytest.mark.parametrize(
    ("live", "groups", "first"),
    [
        (BOTH_SIDES[:1], [group()], True),
        ((), [group()], True),
        (BOTH_SIDES, [group()], False),
        (BOTH_SIDES, [], False),
        (BOTH_SIDES[:1], [], False),
        (BOTH_SIDES[:1], [group(0)], False),
        (BOTH_SIDES[:1], [group(1, "m7i.large")], False),
    ],
    ids=["x86 so far", "empty", "arm64 lives", "no groups", "x86 alone", "size 0", "x86 group"],
)
def test_the_first_graviton_node_is_known_before_it_is_made(
    live: tuple[Node, ...], groups: list[NodeGroup], first: bool
) -> None:
    """True only where this update makes one and none lives: that is the step a blocker stops."""
    assert plan_for(verdicts={}, nodes=live, groups=groups).first_graviton_node is first


def test_new_nodes_are_those_that_are_not_there_yet() -> None:
    """A group that grows from one to two makes one node."""
    (there,) = plan_for(verdicts={}, nodes=(), groups=[group()]).new_nodes
    live = Node(
        name=there, labels={ARCH: "arm64", GROUP_LABEL: "new"}, millicpu=2000, memory=8 * 1024**3, pods=29
    )
    plan = plan_for(verdicts={}, nodes=(BOTH_SIDES[0], live), groups=[group(2)])
    assert len(plan.new_nodes) == 1
    assert there not in plan.new_nodes


def test_held_pods_are_counted_where_they_stay() -> None:
    """Capacity is computed for the plan that is made: all four on x86, none on Graviton."""
    one = deployment()
    balances = plan_for(one, verdicts={one.key: amd64_only(one)}).balances
    assert (balances[AMD64].demand.total.pods, balances[ARM64].demand.total.pods) == (4, 0)


def test_the_audits_own_words_reach_the_row() -> None:
    """What a registry said is what the user reads beside the workload."""
    one = deployment()
    use = ImageUse(AGENT)
    found = judge_workload(
        one.key,
        (Container("agent", "sidecar", use),),
        {use: unknown(AGENT, "HTTP 503 from registry.example", NOW)},
    )
    assert row_of(one, found).reason == (
        f"held on x86: {AGENT} is unknown: sidecar agent: HTTP 503 from registry.example"
    )
