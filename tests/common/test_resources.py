"""Amounts of CPU, memory and pods."""

from archshift.common.resources import GIB, NOTHING, Resources, total


def test_one_pod_is_counted_where_nothing_else_is_said() -> None:
    """So that what a workload's pods ask for is what one asks for, times their number."""
    assert Resources(250, GIB) * 3 == Resources(750, 3 * GIB, 3)
    assert total([]) == NOTHING
    assert not NOTHING
    assert total([Resources(250, GIB), Resources(0, 0, 2)]) == Resources(250, GIB, 3)


def test_enough_is_enough_of_each() -> None:
    """A node with memory and no CPU left takes no pod."""
    free = Resources(4000, 8 * GIB, 10) - Resources(3000, GIB, 10)
    assert free == Resources(1000, 7 * GIB, 0)
    assert not free.holds(Resources(500, GIB))
    assert free.holds(Resources(1000, 7 * GIB, 0))
    assert Resources(1, 5).largest(Resources(2, 4)) == Resources(2, 5)


def test_people_read_vcpu_and_gib() -> None:
    """CPU is in thousandths, memory in bytes."""
    assert (Resources(1500, GIB // 2).vcpu, Resources(1500, GIB // 2).gib) == (1.5, 0.5)
