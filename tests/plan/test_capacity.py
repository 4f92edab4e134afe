"""Whether a step fits, and the sentence that says what is missing."""

from archshift.common.architectures import AMD64, ARM64
from archshift.common.resources import Resources
from archshift.nodes.groups import Node
from archshift.plan.capacity import Balance, Demand, balance
from tests.build import GIB, plan_node


def graviton(demand: Demand, *nodes: Node) -> Balance:
    return balance(nodes, {ARM64: demand})[ARM64]


def test_demands_add_up_and_remember_the_largest_pod() -> None:
    """One pod may have the most CPU and another the most memory: no one node may suit both."""
    demand = (
        Demand().plus(Resources(500, GIB), 3).plus(Resources(200, 4 * GIB), 2).plus(Resources(9000, 9), 0)
    )
    assert demand == Demand(Resources(1900, 11 * GIB, 5), (Resources(500, GIB), Resources(200, 4 * GIB)))
    larger = demand.plus(Resources(500, 4 * GIB), 1)
    assert larger.plus(Resources(1, 1), 1).largest == (Resources(500, 4 * GIB),)


def test_the_pods_with_the_most_cpu_and_the_most_memory_may_be_on_different_nodes() -> None:
    """No node needs room for a pod that does not exist."""
    nodes = plan_node("c", ARM64, millicpu=16000), plan_node("r", ARM64, memory=64 * GIB)
    demand = Demand().plus(Resources(12000, 8 * GIB), 1).plus(Resources(1000, 48 * GIB), 1)
    assert graviton(demand, *nodes).shortage == ""
    assert graviton(demand, *4 * [nodes[1]]).shortage == (
        "Graviton has no node for a pod of 12.0 vCPU and 8.0 GiB"
    )


def test_a_demand_that_fits_lacks_nothing() -> None:
    """Exactly full is not too little."""
    side = graviton(Demand().plus(Resources(2000, 8 * GIB), 4), plan_node("a", ARM64), plan_node("b", ARM64))
    assert (side.missing_vcpu, side.missing_gib, side.shortage) == (0.0, 0.0, "")


def test_a_shortage_says_how_many_vcpu_and_gib_are_missing() -> None:
    """The numbers a user needs to raise a node group's size, before anything moves."""
    side = graviton(Demand().plus(Resources(1000, 3 * GIB), 10), plan_node("a", ARM64), plan_node("b", ARM64))
    assert (side.missing_vcpu, side.missing_gib) == (2.0, 0.0)
    assert side.shortage == (
        "Graviton lacks 2.0 vCPU: 10 pods ask for 10.0 vCPU and 30.0 GiB of the 8.0 vCPU "
        "and 32.0 GiB of 2 nodes"
    )
    both = graviton(Demand().plus(Resources(1000, 4 * GIB), 10), plan_node("a", ARM64))
    assert both.shortage.startswith("Graviton lacks 6.0 vCPU, 24.0 GiB: 10 pods ask")


def test_too_many_small_pods_lack_room() -> None:
    """Addresses run out before CPU does: a node takes only so many pods."""
    side = graviton(Demand().plus(Resources(1, 1), 60), plan_node("a", ARM64))
    assert side.shortage.startswith("Graviton lacks room for 2 pods: 60 pods ask for 0.1 vCPU")


def test_a_pod_larger_than_every_node_is_said() -> None:
    """Enough in sum is not enough: a pod lives on one node."""
    side = graviton(Demand().plus(Resources(5000, GIB), 1), plan_node("a", ARM64), plan_node("b", ARM64))
    assert side.shortage == "Graviton has no node for a pod of 5.0 vCPU and 1.0 GiB"


def test_only_schedulable_nodes_of_the_side_count() -> None:
    """A cordoned node, a node that is not ready and nodes of the other side carry nothing."""
    nodes = [
        plan_node("a", ARM64),
        plan_node("b", ARM64, schedulable=False),
        plan_node("c", AMD64),
        plan_node("d", ""),
    ]
    sides = balance(nodes, {})
    assert {
        arch: (side.nodes, side.capacity.millicpu, side.capacity.pods) for arch, side in sides.items()
    } == {
        AMD64: (1, 4000, 58),
        ARM64: (1, 4000, 58),
    }


def test_no_nodes_and_no_demand_is_no_shortage() -> None:
    """At 0.0 a cluster without Graviton nodes is in order; with one pod wanted there it is not."""
    assert graviton(Demand()).shortage == ""
    assert graviton(Demand().plus(Resources(), 1)).shortage == (
        "Graviton lacks room for 1 pod: 1 pod asks for 0.0 vCPU and 0.0 GiB of the 0.0 vCPU "
        "and 0.0 GiB of 0 nodes"
    )


def test_the_x86_side_has_its_own_name() -> None:
    """People say x86, not amd64."""
    side = balance([], {AMD64: Demand().plus(Resources(100, 0), 1)})[AMD64]
    assert side.shortage.startswith("x86 lacks 0.1 vCPU")
