"""How many nodes a plan needs of each group."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pod_fields import Template
from archshift.common.resources import Resources
from archshift.images.verdict import AMD64_ONLY
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.groups import Node, NodeGroup, Taint
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.plan.planner import make_plan
from archshift.plan.sizing import GroupNeed, Sizing, size
from tests.build import GIB, deployment, eks_group, sized_deployment

X86, ARM = eks_group("x86", "m6i.xlarge"), eks_group("graviton", "m7g.xlarge")


def sized(
    *workloads: Workload, ratio: float = 1.0, groups: Any = (X86, ARM), headroom: float = 0.0, **more: Any
) -> Sizing:
    """The sizes that workloads on x86 need at a ratio."""
    pods = {(one.key, "amd64"): one.replicas for one in workloads}
    found = Inventory(workloads={one.key: one for one in workloads}, pods=pods, **more)
    return size(make_plan(arm_ratio=ratio, inventory=found, groups=groups), found, groups, headroom)


def needs(sizing: Sizing) -> dict[str, tuple[int | None, str]]:
    """Nodes and what decides, by group."""
    return {need.group: (need.nodes, need.limit) for need in sizing.needs}


@pytest.mark.parametrize(
    ("ratio", "x86", "graviton"), [(0.0, 3, 0), (0.2, 3, 1), (0.5, 2, 2), (0.8, 1, 3), (1.0, 0, 3)]
)
def test_each_step_says_what_both_sides_need(ratio: float, x86: int, graviton: int) -> None:
    """Ten pods of one vCPU on nodes of 3.92: three nodes carry them all, fewer a share."""
    found = sized(sized_deployment("cart", 10, 1000), ratio=ratio)
    assert (needs(found)["x86"][0], needs(found)["graviton"][0]) == (x86, graviton)


@pytest.mark.parametrize(
    ("one", "limit", "nodes"),
    [
        (sized_deployment("cpu", 10, 1900), "CPU", 5),
        (sized_deployment("memory", 10, 10, 7 * GIB), "memory", 5),
        # 58 addresses a node.
        (sized_deployment("many", 150, 10, 1024**2), "pods", 3),
    ],
    ids=["CPU", "memory", "pods"],
)
def test_the_scarcest_resource_decides(one: Workload, limit: str, nodes: int) -> None:
    """And it is named, because that is what another type would have more of."""
    assert needs(sized(one))["graviton"] == (nodes, limit)


def test_daemonsets_take_their_part_of_every_node() -> None:
    """Of 3.92 vCPU a log agent takes one: ten pods need four nodes instead of three."""
    agent = deployment("log", 0, kind="DaemonSet", requests=Resources(1000, GIB))
    assert needs(sized(sized_deployment("cart", 10, 1000), agent))["graviton"] == (4, "CPU")


def test_a_daemonset_that_is_kept_off_graviton_takes_nothing_there() -> None:
    """It is pinned to x86 by the plan."""
    agent = deployment("log", 0, kind="DaemonSet", requests=Resources(1000, GIB))
    cart = sized_deployment("cart", 10, 1000)
    found = Inventory(workloads={one.key: one for one in (cart, agent)}, pods={(cart.key, "amd64"): 10})
    verdicts = {agent.key: WorkloadVerdict(agent.key, AMD64_ONLY, (), ())}
    verdicts[cart.key] = WorkloadVerdict(cart.key, "multi-arch", (), ())
    plan = make_plan(
        arm_ratio=1.0, inventory=found, groups=(X86, ARM), verdicts=verdicts, pin_daemonsets=True
    )
    assert needs(size(plan, found, (X86, ARM), 0.0))["graviton"] == (3, "CPU")


def test_eks_caps_the_pods_of_a_node() -> None:
    """An m7g.4xlarge has addresses for 234 pods and takes 110."""
    many = sized_deployment("many", 220, 10, 1024**2)
    assert needs(sized(many, groups=(X86, eks_group("graviton", "m7g.4xlarge"))))["graviton"] == (2, "pods")


def test_pods_count_for_the_group_that_takes_them() -> None:
    """A selector or a taint decides, then the order of the settings."""
    memory = eks_group("memory", "r7g.xlarge", labels={"pool": "memory"}, taints=(Taint(key="memory"),))
    tolerations = ({"key": "memory", "operator": "Exists"},)
    spec = {"node-selector": {"pool": "memory"}}
    db = sized_deployment("db", 4, 1000, template=Template(spec=spec), tolerations=tolerations)
    x86 = eks_group("x86-memory", "r6i.xlarge", labels={"pool": "memory"}, taints=(Taint(key="memory"),))
    found = sized(sized_deployment("cart", 4, 1000), db, groups=(X86, x86, ARM, memory))
    assert {name: nodes for name, (nodes, _) in needs(found).items()} == {
        "x86": 0,
        "x86-memory": 0,
        "graviton": 2,
        "memory": 2,
    }


def test_pods_that_no_group_takes_are_named() -> None:
    """They would stay pending, whatever the sizes."""
    picky = sized_deployment("picky", 3, 100, template=Template(spec={"node-selector": {"pool": "gone"}}))
    found = sized(picky, groups=(X86,))
    assert found.without_group == {picky.key: "no x86 group takes its 3 pods"}
    assert needs(found)["x86"] == (0, "")


def test_a_pod_that_fits_no_node_needs_another_type() -> None:
    """No number of nodes helps."""
    (_, need) = sized(sized_deployment("huge", 1, 6000)).needs
    assert (need.nodes, need.advice) == (
        None,
        "its largest pod does not fit a m7g.xlarge: choose a larger type",
    )


def test_what_runs_outside_of_workloads_counts_too() -> None:
    """Static pods and bare pods are there, whoever made them."""
    unsteered_load = {"arm64": Resources(3900, GIB, 2)}
    assert needs(sized(sized_deployment("cart", 4, 900), unsteered_load=unsteered_load))["graviton"] == (
        2,
        "CPU",
    )


def advice(**options: Any) -> str:
    """What three nodes that are needed come to for a Graviton group."""
    (_, need) = sized(
        sized_deployment("cart", 10, 1000), groups=(X86, eks_group("graviton", "m7g.xlarge", **options))
    ).needs
    assert need.nodes == 3
    return need.advice


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": 3}, ""),
        ({"size": 2}, "raise its size to 3"),
        ({"size": 0, "most": 3, "autoscaled": True}, ""),
        ({"size": 0, "most": 2, "autoscaled": True}, "raise its max_size to 3"),
    ],
    ids=["enough", "too few", "an autoscaler may add enough", "an autoscaler may not"],
)
def test_the_advice_is_what_to_set(options: dict[str, Any], words: str) -> None:
    """Where an autoscaler runs only its limit matters."""
    assert advice(**options) == words


def test_the_groups_of_the_lab_are_sized_as_well() -> None:
    """The same words for a trial as for a cluster."""
    lab = NodeGroup(name="arm", instance_type=INSTANCE_TYPES["m7g.xlarge"], size=2, zones=("a", "b"))
    (need,) = sized(sized_deployment("cart", 10, 1000), groups=(lab,)).needs
    assert (need.nodes, need.desired, need.advice) == (3, 2, "raise its size to 3")


def test_a_zone_of_the_cluster_is_one_for_new_nodes_too() -> None:
    """A workload that asks for a zone finds its nodes there."""
    zone = "topology.kubernetes.io/zone"
    live = Node(name="n", labels={"kubernetes.io/arch": "amd64", zone: "b"})
    pinned = sized_deployment("cart", 4, 1000, template=Template(spec={"node-selector": {zone: "b"}}))
    assert sized(pinned, nodes=(live,)).without_group == {}


WORKLOADS = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 3900), st.integers(0, 14)), min_size=1, max_size=6
)


# Whole percents: a headroom of a millionth is less than the tolerance of ``carries``.
@given(WORKLOADS, st.floats(0, 1), st.integers(0, 100).map(lambda percent: percent / 100))
def test_the_nodes_are_enough_and_one_fewer_is_not(
    shapes: list[tuple[int, int, int]], ratio: float, headroom: float
) -> None:
    """For requests, headroom and pods alike."""
    workloads = [
        sized_deployment(f"w{index}", n, cpu, gib * GIB) for index, (n, cpu, gib) in enumerate(shapes)
    ]
    for need in sized(*workloads, ratio=ratio, headroom=headroom).needs:
        assert need.nodes is not None
        assert carries(need, need.nodes, headroom)
        assert not need.nodes or need.nodes == 1 or not carries(need, need.nodes - 1, headroom)


def carries(need: GroupNeed, nodes: int, headroom: float) -> bool:
    """Whether so many nodes have room for the demand and the headroom."""
    kind = INSTANCE_TYPES[need.instance_type]
    room = (kind.allocatable_millicpu, kind.allocatable_memory, kind.managed_pods)
    wanted = (need.demand.total.millicpu, need.demand.total.memory, need.demand.total.pods)
    return all(
        share * (1 + headroom) <= nodes * size + size * 1e-6 for share, size in zip(wanted, room, strict=True)
    )


@given(WORKLOADS, st.floats(0, 1), st.floats(0, 1))
def test_a_higher_ratio_never_needs_fewer_graviton_nodes(
    shapes: list[tuple[int, int, int]], low: float, high: float
) -> None:
    """Nor more x86: so that sizes can be raised before a step, and lowered after it."""
    low, high = sorted((low, high))
    workloads = [
        sized_deployment(f"w{index}", n, cpu, gib * GIB) for index, (n, cpu, gib) in enumerate(shapes)
    ]
    before, after = (sized(*workloads, ratio=ratio).needs for ratio in (low, high))
    assert (after[1].nodes or 0) >= (before[1].nodes or 0)
    assert (after[0].nodes or 0) <= (before[0].nodes or 0)
