"""NodePools in a plan: what their limits hold, whom they take, and what taking them away means."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pod_fields import Template
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import INSTANCE_TYPE_LABEL, POOL_LABEL, ZONE_LABEL
from archshift.common.resources import Resources
from archshift.nodes.after_update import nodes_after, nodes_of_others
from archshift.nodes.groups import MOST_MILLICPU, MOST_NODES, Node, NodePool, Taint
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.nodes.node_pools import (
    check_served,
    from_manifest,
    manifest,
)
from archshift.plan.guard import refuse_removal, shrinks
from archshift.plan.planner import make_plan
from archshift.plan.sizing import size
from tests.build import ARCH, GIB, admits, deployment, eks_group, required_affinity, x86_need
from tests.build import karpenter_node as live
from tests.build import node_pool as pool
from tests.properties import examples

MIB = 1024**2
CAPACITY_TYPE = "karpenter.sh/capacity-type"


ARM = pool("graviton", "m7g.xlarge", "m7g.2xlarge")


# --- the object ------------------------------------------------------------------------------


def test_a_pool_as_the_api_has_it() -> None:
    """Architecture, types and capacity type as requirements; our labels and the user's; limits; the taint of
    its side; what is not said is left out.
    """
    made = manifest(pool(labels={"team": "shop"}, memory=64 * GIB))
    assert made == {
        "template": {
            "metadata": {"labels": {"team": "shop", "architecture": "amd64", "archshift/node-group": "x86"}},
            "spec": {
                "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
                "requirements": [
                    {"key": ARCH, "operator": "In", "values": ["amd64"]},
                    {"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]},
                    {"key": CAPACITY_TYPE, "operator": "In", "values": ["on-demand"]},
                    {"key": INSTANCE_TYPE_LABEL, "operator": "In", "values": ["m6i.xlarge", "m6i.2xlarge"]},
                ],
                "taints": [{"key": "archshift/amd64", "effect": "PreferNoSchedule"}],
            },
        },
        "limits": {"cpu": "16", "memory": "65536Mi"},
        "disruption": {"consolidateAfter": "5m", "budgets": [{"nodes": "10%"}]},
    }


def test_all_that_can_be_said_of_a_pool() -> None:
    """Zones, capacity types, weight, taints with and without a value, parts of a vCPU, and no side taint."""
    made = manifest(
        pool(
            millicpu=500,
            zones=("eu-west-1a",),
            capacity_types=("spot", "on-demand"),
            weight=7,
            taints=(Taint(key="batch", value="yes"), Taint(key="gpu", effect="NoExecute")),
            consolidate_after="Never",
            budget="2",
            side_taint=False,
        )
    )
    spec = made["template"]["spec"]
    assert {one["key"]: one["values"] for one in spec["requirements"]}.items() >= {
        ZONE_LABEL: ["eu-west-1a"],
        CAPACITY_TYPE: ["spot", "on-demand"],
    }.items()
    assert spec["taints"] == [
        {"key": "batch", "value": "yes", "effect": "NoSchedule"},
        {"key": "gpu", "effect": "NoExecute"},
    ]
    assert (made["weight"], made["limits"]) == (7, {"cpu": "500m"})
    assert made["disruption"] == {"consolidateAfter": "Never", "budgets": [{"nodes": "2"}]}


def test_a_pool_is_read_back_from_what_it_was_made_into() -> None:
    """The guard knows the pool of the state by it: what decides who may run there, and how much."""
    before = pool(memory=64 * GIB, zones=("a",), capacity_types=("spot",), taints=(Taint(key="batch"),))
    after = from_manifest("x86", manifest(before))
    assert after is not None
    same = ("name", "instance_types", "node_class", "millicpu", "memory", "zones", "capacity_types")
    assert {name: getattr(after, name) for name in same} == {name: getattr(before, name) for name in same}
    assert after.node_labels == before.node_labels
    assert Taint(key="batch") in after.taints


def required(*entries: tuple[str, str, list[str]], **spec: Any) -> dict[str, Any]:
    """The spec of a NodePool with these requirements alone."""
    made = manifest(pool())
    made["template"]["spec"]["requirements"] = [
        {"key": key, "operator": operator, "values": values} for key, operator, values in entries
    ]
    return {**made, **spec}


def test_a_pool_of_somebody_else_is_read_by_its_requirements() -> None:
    """Whatever they say: categories, labels of the user, no limit, another architecture, Windows."""
    label = "karpenter.k8s.aws/instance-"
    spec = required(
        (ARCH, "In", ["arm64", "amd64"]),
        (f"{label}category", "In", ["m"]),
        (f"{label}cpu", "In", ["4"]),
        ("capacity-spread", "In", ["1", "2"]),
        limits={"cpu": "1k", "nodes": 3},
    )
    found = from_manifest("x86", spec, "amd64")
    assert found is not None
    assert {kind.vcpu for kind in found.instance_types} == {4}
    assert {kind.family[0] for kind in found.instance_types} == {"m"}
    assert {kind.architecture for kind in found.instance_types} == {"amd64"}
    assert (found.millicpu, found.most_nodes) == (1_000_000, 3)
    (node, *others) = found.possible_nodes()
    assert len(others) == 2
    assert admits(node, {f"{label}category": "m", f"{label}cpu": "4", "capacity-spread": "2"}, None)
    assert admits(node, {CAPACITY_TYPE: "spot"}, None), "without a requirement Karpenter buys any"
    assert not admits(node, {f"{label}category": "c"}, None)
    assert not admits(node, {"capacity-spread": "3"}, None)
    arm = from_manifest("x86", spec, "arm64")
    assert arm is not None
    assert arm.architecture == "arm64"
    assert from_manifest("x86", required((ARCH, "In", ["arm64"])), "amd64") is None
    assert from_manifest("x86", required(("kubernetes.io/os", "In", ["windows"]))) is None
    anything = from_manifest("x86", required(limits={}))
    assert anything is not None
    assert 0 < len(anything.possible_nodes()) <= MOST_NODES


def test_a_node_that_is_starting_counts_without_its_startup_taints() -> None:
    """An agent removes them, whatever they are called; other taints stay."""
    booting, batch = Taint(key="example.com/booting"), Taint(key="batch")
    node = replace(live("n1"), taints=(booting, batch))
    (after,) = nodes_after((node,), [pool(millicpu=4_000, startup_taints=(booting,))])
    assert after.taints == (batch,)


def api_groups(**versions: str) -> list[dict[str, Any]]:
    """What a cluster serves."""
    return [
        {"name": name.replace("_", "."), "versions": [{"version": version}]}
        for name, version in versions.items()
    ]


@pytest.mark.parametrize(
    ("served", "sentence"),
    [
        (
            {"apps": "v1"},
            "the cluster serves no NodePools (karpenter.sh/v1); install Karpenter 1.0 or later or",
        ),
        ({"karpenter_sh": "v1beta1"}, "the cluster serves no NodePools (karpenter.sh/v1)"),
        (
            {"karpenter_sh": "v1", "eks_amazonaws_com": "v1"},
            "the cluster serves no node classes of karpenter.k8s.aws; it is one of auto-mode",
        ),
        (
            {"karpenter_sh": "v1"},
            "the cluster serves no node classes of karpenter.k8s.aws; install what brings up its nodes",
        ),
    ],
)
def test_a_cluster_without_karpenter_is_told_early(served: dict[str, str], sentence: str) -> None:
    """The engine would say so in the update alone, and of every pool."""
    with pytest.raises(ArchshiftError) as error:
        check_served(api_groups(**served), ["karpenter.k8s.aws"])
    assert str(error.value).startswith(f"archshift:provisioner: {sentence}")
    check_served(api_groups(karpenter_sh="v1", karpenter_k8s_aws="v1"), ["karpenter.k8s.aws"])


# --- what it may bring up --------------------------------------------------------------------


def test_limits_are_filled_with_the_largest_types_first() -> None:
    """So the largest pod finds a node; what is there counts against the limits with all of its machine."""
    sizes = [node.labels[INSTANCE_TYPE_LABEL] for node in pool(millicpu=21_000).possible_nodes()]
    assert sizes == ["m6i.2xlarge", "m6i.2xlarge", "m6i.xlarge"]
    assert len(pool(millicpu=8_000).possible_nodes([live("n1")])) == 1
    assert pool(millicpu=8_000).possible_nodes([live("n1"), live("n2")]) == []
    assert pool(millicpu=4_000).possible_nodes([live("n1"), live("n2")]) == [], "more than the limit is there"
    of_nobody = replace(live("n1"), labels={POOL_LABEL: "x86"}, millicpu=5_000)
    assert pool(millicpu=8_000).possible_nodes([of_nobody]) == [], (
        "a type that no table has, by what it gives"
    )


@given(
    millicpu=st.integers(0, 200_000),
    memory=st.none() | st.integers(0, 600 * GIB),
    kinds=st.lists(
        st.sampled_from(["m6i.large", "c6i.2xlarge", "r6i.xlarge", "m6i.8xlarge"]), min_size=1, unique=True
    ),
)
@examples
def test_what_a_pool_may_bring_up_keeps_its_limits_and_fills_them(
    millicpu: int, memory: int | None, kinds: list[str]
) -> None:
    """The sums never exceed a limit, and not even the smallest type would fit beside them."""
    made = pool("x86", *kinds, millicpu=millicpu, memory=memory)
    types = [INSTANCE_TYPES[node.labels[INSTANCE_TYPE_LABEL]] for node in made.possible_nodes()]
    used = sum(kind.vcpu * 1000 for kind in types), sum(kind.memory_mib * MIB for kind in types)
    assert used[0] <= millicpu
    assert memory is None or used[1] <= memory
    for kind in made.instance_types:
        cpu_full = used[0] + kind.vcpu * 1000 > millicpu
        assert cpu_full or (memory is not None and used[1] + kind.memory_mib * MIB > memory)
    assert len({node.name for node in made.possible_nodes()}) == len(types)


def test_a_pool_without_bounds_is_not_counted_to_its_end() -> None:
    """A million vCPU are a thousand nodes here: nobody waits for the rest of them."""
    assert len(pool(millicpu=10**9).possible_nodes()) == MOST_NODES
    assert len(pool("x86", "m6i.large", millicpu=None).possible_nodes()) == MOST_NODES
    vast = pool("x86", "m6i.large", "m8i.96xlarge", millicpu=None)
    assert sum(node.millicpu for node in vast.possible_nodes()) <= MOST_MILLICPU


@pytest.mark.parametrize(
    ("selector", "required", "takes"),
    [
        ({ARCH: "amd64"}, None, True),
        ({ARCH: "arm64"}, None, False),
        ({INSTANCE_TYPE_LABEL: "m6i.2xlarge"}, None, True),
        ({INSTANCE_TYPE_LABEL: "m6i.4xlarge"}, None, False),
        ({CAPACITY_TYPE: "spot"}, None, False),
        ({"team": "shop"}, None, True),
        ({"team": "bank"}, None, False),
        ({"other": "x"}, None, False),
        ({ZONE_LABEL: "a"}, None, True),
        ({ZONE_LABEL: "c"}, None, False),
        (None, required_affinity(ZONE_LABEL, "b", "c"), True),
        # Each of them fits some node, both together none.
        ({ZONE_LABEL: "a"}, required_affinity(ZONE_LABEL, "b"), False),
        ({ZONE_LABEL: "b"}, required_affinity(ZONE_LABEL, "a", "b"), True),
    ],
)
def test_a_pool_chooses_what_a_pod_asks_for(selector: Any, required: Any, takes: bool) -> None:
    """Of zone, type and capacity type any that it may, one at a time; of all else it has what it has."""
    node = pool(zones=("a", "b"), labels={"team": "shop"}).possible_nodes()[0]
    assert admits(node, selector, required) is takes


def test_a_pool_that_names_no_zone_takes_pods_of_any() -> None:
    """Its node class knows the subnets; a workload is not left alone because no node is in its zone yet."""
    assert admits(pool().possible_nodes()[0], {ZONE_LABEL: "eu-west-1c"}, None)
    one = deployment(template=Template(spec={"required": required_affinity(ZONE_LABEL, "eu-west-1c")}))
    found = Inventory(workloads={one.key: one})
    (row,) = make_plan(arm_ratio=0.5, inventory=found, groups=(pool(), ARM)).workloads
    assert (row.movable, row.wanted) == (True, 2)


# --- in a plan -------------------------------------------------------------------------------


def names(nodes: tuple[Node, ...], *groups: NodePool) -> list[str]:
    """The nodes that an update leaves."""
    return [node.name for node in nodes_after(nodes, groups)]


def test_a_pool_keeps_its_nodes_and_counts_with_what_it_may_bring_up() -> None:
    """Those of its types: Karpenter replaces the others; of a pool that goes all go."""
    nodes = (live("n1"), live("n2", kind="m5.xlarge"), live("n3", of="other"), Node(name="own", labels={}))
    assert names(nodes, pool(millicpu=8_000)) == ["n1", "x86-possible-0", "n3", "own"]
    labelled = (live("n1", **{"archshift/node-group": "x86"}),)
    assert names(labelled) == []
    assert [node.name for node in nodes_of_others(nodes, [pool()])] == ["n3", "own"]


def test_a_pool_and_a_managed_group_of_one_name_are_two() -> None:
    """A stack that goes from one to the other does not take the nodes of the old for those of the new."""
    ours = {"archshift/node-group": "x86"}
    of_pool = live("n1", **ours)
    of_group = replace(
        of_pool, name="n2", labels={k: v for k, v in of_pool.labels.items() if k != POOL_LABEL}
    )
    assert names((of_pool, of_group), pool(millicpu=4_000)) == ["n1"]
    managed = eks_group("x86", "m6i.xlarge", desired_size=1)
    assert [node.name for node in nodes_after((of_pool, of_group), [managed])] == ["n2"]


def test_where_a_pool_can_bring_nodes_up_there_is_no_shortage() -> None:
    """From no node at all; nothing is a node to be made, and the first Graviton node may come."""
    one = deployment("cart", 10, requests=Resources(1000, GIB))
    plan = make_plan(arm_ratio=0.5, inventory=Inventory(workloads={one.key: one}), groups=(pool(), ARM))
    assert (plan.wanted, plan.shortages, plan.new_nodes) == (5, [], ())
    assert plan.first_graviton_node


def test_a_shortage_says_what_the_limits_leave() -> None:
    """Live nodes and those that may come are told apart."""
    one = deployment("cart", 20, requests=Resources(1000, GIB))
    nodes = (live("n1"), live("a1", "graviton", "m7g.xlarge"))
    found = Inventory(workloads={one.key: one}, nodes=nodes)
    (shortage,) = make_plan(arm_ratio=1.0, inventory=found, groups=(pool(), ARM)).shortages
    assert shortage == (
        "Graviton lacks 4.2 vCPU: 20 pods ask for 20.0 vCPU and 20.0 GiB of the 15.8 vCPU and 61.1 GiB of 1 "
        "node and 2 that NodePools may bring up"
    )


@pytest.mark.parametrize(
    ("pods", "millicpu", "kind", "nodes", "advice"),
    [
        (10, 1000, "m7g.xlarge", 3, ""),
        (20, 1000, "m7g.xlarge", 6, "raise its limits.cpu to 24"),
        (3, 6000, "m7g.2xlarge", 3, "raise its limits.cpu to 24"),
        (1, 20_000, "m7g.2xlarge", None, "its largest pod does not fit a m7g.2xlarge: choose a larger type"),
        (0, 0, "m7g.xlarge", 0, ""),
    ],
)
def test_capacity_advises_limits(pods: int, millicpu: int, kind: str, nodes: int | None, advice: str) -> None:
    """Counted in the smallest type that its largest pod fits; there is no number of nodes to set."""
    one = deployment("cart", pods, requests=Resources(millicpu, GIB))
    found = Inventory(workloads={one.key: one})
    groups = (pool(), ARM)
    plan = make_plan(arm_ratio=1.0, inventory=found, groups=groups)
    need = size(plan, found, groups, headroom=0.0).needs[1]
    assert (need.instance_type, need.nodes, need.advice) == (kind, nodes, advice)
    assert (need.desired, need.autoscaled) == (0, True)


def test_capacity_advises_memory_too() -> None:
    """Both limits where both are short."""
    one = deployment("cart", 4, requests=Resources(1000, 12 * GIB))
    found, groups = (
        Inventory(workloads={one.key: one}),
        (pool(), replace(ARM, memory=32 * GIB, millicpu=8_000)),
    )
    plan = make_plan(arm_ratio=1.0, inventory=found, groups=groups)
    need = size(plan, found, groups, headroom=0.0).needs[1]
    assert (need.nodes, need.most) == (4, 2)
    assert need.advice == "raise its limits.cpu to 16 and its limits.memory to 64Gi"


# --- taking it away --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "less"),
    [
        ({}, False),
        ({"weight": 3, "budget": "1", "consolidate_after": "1m"}, False),
        ({"millicpu": 17_000, "memory": 65 * GIB}, False),
        ({"memory": None}, False),
        ({"zones": ("a", "b", "c")}, False),
        ({"millicpu": 15_999}, True),
        ({"memory": 63 * GIB}, True),
        ({"zones": ("a",)}, True),
        ({"instance_types": (INSTANCE_TYPES["m6i.xlarge"],)}, True),
        ({"instance_types": (INSTANCE_TYPES["m7g.xlarge"],)}, True),
        ({"taints": (Taint(key="batch"),)}, True),
        ({"taints": (Taint(key="soft", effect="PreferNoSchedule"),)}, False),
        ({"labels": {}}, True),
        ({"capacity_types": ("spot",)}, False),
    ],
    ids=str,
)
def test_what_makes_a_pool_give_less(change: dict[str, Any], less: bool) -> None:
    """Lower limits, fewer types or zones, and what turns the need away; weight and disruption do not."""
    before = pool(memory=64 * GIB, zones=("a", "b"), labels={"team": "shop"})
    need = x86_need(template=Template(spec={"node-selector": {"team": "shop"}}))
    assert shrinks([need], before, replace(before, **change)) is less


def test_limiting_a_pool_to_zones_gives_less() -> None:
    """Before, all zones of its node class were its."""
    assert shrinks([], pool(), pool(zones=("a",)))
    assert not shrinks([], pool(zones=("a",)), pool())


def test_a_pool_that_has_brought_up_a_node_counts_with_its_limits() -> None:
    """Ten pods need more than the one node that is there; the pool is known to bring up more. A pool that
    never has is not.
    """
    need, going = x86_need("cart", 10), live("n1", of="old", **{"archshift/node-group": "old"})
    after = nodes_after((going, live("n2")), [pool()])
    assert refuse_removal([need], [going], (going, live("n2")), after) == ""
    alone = nodes_after((going,), [pool()])
    assert "no x86 node is left" in refuse_removal([need], [going], (going,), alone)
    cordoned = replace(live("n2"), schedulable=False)
    after = nodes_after((going, cordoned), [pool()])
    assert "no x86 node is left" in refuse_removal([need], [going], (going, cordoned), after)


def test_limits_that_are_lowered_below_the_need_are_told() -> None:
    """Nodes and limits stay as they are; what is lost is what might have come."""
    nodes = (live("n1"),)
    fits, short = (nodes_after(nodes, [pool(millicpu=limit)]) for limit in (12_000, 8_000))
    assert (
        refuse_removal([x86_need("cart", 10)], nodes, nodes, fits, always_loses=True, proven_pools=["x86"])
        == ""
    )
    refusal = refuse_removal(
        [x86_need("cart", 10)], nodes, nodes, short, always_loses=True, proven_pools=["x86"]
    )
    assert "x86 lacks 2.2 vCPU: 10 pods ask for 10.0 vCPU" in refusal


def test_other_types_of_x86_may_follow_while_the_limits_hold_them() -> None:
    """Karpenter brings the successor up before it takes a node away; to Graviton there is no successor."""
    nodes = (live("n1"),)
    newer = nodes_after(nodes, [pool("x86", "m7i.xlarge")])
    assert (
        refuse_removal([x86_need("cart", 3)], nodes, nodes, newer, always_loses=True, proven_pools=["x86"])
        == ""
    )
    moved = nodes_after(nodes, [pool("x86", "m7g.xlarge")])
    assert "no x86 node is left" in refuse_removal(
        [x86_need("cart", 3)], nodes, nodes, moved, always_loses=True, proven_pools=["x86"]
    )


def test_a_node_of_a_type_is_what_a_need_is_compared_with() -> None:
    """The template of a pool whose limits hold no node at all still says whom it takes."""
    node = pool(millicpu=0, taints=(Taint(key="batch"),)).sample(INSTANCE_TYPES["m6i.xlarge"])
    workload: Workload = deployment()
    assert not workload.may_run_on(node)
    tolerant = deployment(tolerations=({"key": "batch", "operator": "Exists"},))
    assert tolerant.may_run_on(node)
