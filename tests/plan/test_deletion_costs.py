"""The order in which pods of an autoscaled workload end: every number of remaining pods has the share."""

from collections.abc import Sequence
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.plan.deletion_costs import Proportion, Standing, costs_of, next_ordinals


def pods(graviton: int, x86: int) -> list[Standing]:
    """Pods without costs."""
    return [
        *(Standing(f"g{index}", graviton=True) for index in range(graviton)),
        *(Standing(f"x{index}", graviton=False) for index in range(x86)),
    ]


def after(standing: Sequence[Standing], share: Proportion) -> list[Standing]:
    """The pods with the costs that archshift writes."""
    costs = costs_of(standing, share)
    return [Standing(pod.name, pod.graviton, costs.get(pod.name, pod.cost)) for pod in standing]


def scaled_down(standing: Sequence[Standing], number: int) -> list[Standing]:
    """The pods that a ReplicaSet keeps: it ends the lowest cost first, and no cost is 0."""
    return sorted(standing, key=lambda pod: pod.cost or 0, reverse=True)[:number]


def check_every_scale(standing: Sequence[Standing], share: Proportion) -> None:
    """At each scale the share is less than a pod away, as long as both sides have pods for it."""
    costs = [pod.cost for pod in standing]
    assert len({pod.graviton for pod in standing}) < 2 or len(set(costs)) == len(costs), "no ties"
    there = sum(pod.graviton for pod in standing), sum(not pod.graviton for pod in standing)
    for number in range(len(standing) + 1):
        graviton = sum(pod.graviton for pod in scaled_down(standing, number))
        over = graviton - share.graviton * number / share.replicas
        if over >= 1:
            assert number - graviton == there[1], "too many on Graviton only if x86 has no more pods"
        elif over <= -1:
            assert graviton == there[0], "too few on Graviton only if it has no more pods"


@st.composite
def shares(draw: st.DrawFn) -> Proportion:
    replicas = draw(st.integers(1, 60))
    return Proportion(draw(st.integers(0, replicas)), replicas)


@given(shares())
def test_every_scale_of_a_workload_at_its_share_has_the_share(share: Proportion) -> None:
    """For all numbers of pods: no scale is a pod away."""
    standing = after(pods(share.graviton, share.replicas - share.graviton), share)
    if not share.on_both_sides:
        return
    for number in range(1, share.replicas + 1):
        graviton = sum(pod.graviton for pod in scaled_down(standing, number))
        assert abs(graviton - share.graviton * number / share.replicas) < 1


COST = st.none() | st.integers(1, 40) | st.just(1_000_000_000) | st.just(2**31 - 1) | st.integers(-5, 0)


@given(st.lists(st.tuples(st.booleans(), COST), max_size=25), shares())
def test_whatever_costs_there_are_the_new_ones_keep_the_share(
    there: list[tuple[bool, int | None]], share: Proportion
) -> None:
    """After any history, and also where a workload has too many pods on a side."""
    standing = [Standing(f"p{index:02}", side, cost) for index, (side, cost) in enumerate(there)]
    costs = costs_of(standing, share)
    assert all(0 < cost < 2**31 for cost in costs.values())
    if len({pod.graviton for pod in standing}) < 2:
        assert costs == {}, "on one side every order is right"
        return
    check_every_scale(after(standing, share), share)


@given(st.lists(st.tuples(st.booleans(), COST), max_size=25), shares())
def test_what_is_right_is_not_written_again(there: list[tuple[bool, int | None]], share: Proportion) -> None:
    """Nor after it was scaled down; after it was scaled up, only the new pods get costs."""
    standing = after([Standing(f"p{at:02}", side, cost) for at, (side, cost) in enumerate(there)], share)
    assert costs_of(standing, share) == {}
    for number in range(len(standing)):
        assert costs_of(scaled_down(standing, number), share) == {}


@given(shares(), st.integers(1, 30))
def test_pods_that_come_get_the_only_new_costs(share: Proportion, more: int) -> None:
    """They come in the order of the share, as the proportional rule places them."""
    if not share.on_both_sides:
        return
    standing = after(pods(share.graviton, share.replicas - share.graviton), share)
    total = share.replicas + more
    graviton = round(share.graviton * total / share.replicas)
    new = pods(graviton, total - graviton)
    known = {pod.name: pod for pod in standing}
    grown = [known.get(pod.name, pod) for pod in new]
    assert costs_of(grown, share).keys() == {pod.name for pod in new} - known.keys()


def fewest_writes(standing: Sequence[Standing], share: Proportion) -> int:
    """The fewest changes, by trying every order."""
    best = len(standing)
    for order in permutations(standing):
        graviton = 0
        left = [sum(pod.graviton == side for pod in order) for side in (False, True)]
        valid = True
        for number, pod in enumerate(order, 1):
            if all(left) and not share.allows(graviton + pod.graviton, number):
                valid = False
                break
            graviton += pod.graviton
            left[pod.graviton] -= 1
        if not valid:
            continue
        costs = [pod.cost or 0 for pod in order]
        # The longest falling run keeps its costs.
        lengths: list[int] = []
        for at, cost in enumerate(costs):
            longest = max((lengths[i] for i in range(at) if costs[i] > cost and lengths[i]), default=0)
            lengths.append(longest + 1 if cost > 0 else 0)
        best = min(best, len(standing) - max(lengths, default=0))
    return best


@given(st.lists(st.tuples(st.booleans(), st.none() | st.integers(1, 9)), max_size=5), shares())
def test_hardly_more_costs_than_necessary_are_written(
    there: list[tuple[bool, int | None]], share: Proportion
) -> None:
    """At most one more than the best of all orders; costs are far enough apart for pods between them."""
    standing = [
        Standing(f"p{at}", side, None if cost is None else cost * 10_000_000)
        for at, (side, cost) in enumerate(there)
    ]
    if len({pod.graviton for pod in standing}) == 2:
        assert len(costs_of(standing, share)) <= fewest_writes(standing, share) + 1


def test_a_step_writes_only_the_pods_that_moved() -> None:
    """From 2 to 5 of 10: three new pods, and those that stay keep their costs."""
    standing = after(pods(2, 8), Proportion(2, 10))
    moved = sorted((pod for pod in standing if not pod.graviton), key=lambda pod: pod.name)[:3]
    new = [pod for pod in standing if pod not in moved] + [
        Standing(f"n{index}", graviton=True) for index in range(3)
    ]
    costs = costs_of(new, Proportion(5, 10))
    assert {name for name in costs if name.startswith("n")} == {"n0", "n1", "n2"}
    assert len(costs) <= 4
    check_every_scale(after(new, Proportion(5, 10)), Proportion(5, 10))


# --- StatefulSets --------------------------------------------------------------------------------


def worst(graviton: Sequence[bool], share: Proportion) -> float:
    """How far the first pods are from the share at worst, in pods."""
    counts = [sum(graviton[:number]) for number in range(1, len(graviton) + 1)]
    return max(
        abs(count - share.graviton * number / share.replicas) for number, count in enumerate(counts, 1)
    )


@given(st.integers(2, 40), st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_ordinals_keep_the_share_at_every_scale_of_a_ramp(replicas: int, ratios: list[float]) -> None:
    """Up and down again, moving only as many pods as change sides."""
    graviton = [False] * replicas
    for ratio in ratios:
        share = Proportion(round(ratio * replicas), replicas)
        missing = share.graviton - sum(graviton)
        chosen = next_ordinals(graviton, abs(missing), share, to_graviton=missing > 0)
        assert len(set(chosen)) == abs(missing)
        assert all(graviton[at] != (missing > 0) for at in chosen)
        for at in chosen:
            graviton[at] = missing > 0
        assert sum(graviton) == share.graviton
        assert worst(graviton, share) < 2


@pytest.mark.parametrize("replicas", [3, 10, 33])
@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_the_first_step_of_a_statefulset_is_within_a_pod(replicas: int, ratio: float) -> None:
    """From x86 alone every ordinal can be chosen."""
    share = Proportion(round(ratio * replicas), replicas)
    chosen = next_ordinals([False] * replicas, share.graviton, share, to_graviton=True)
    assert worst([at in chosen for at in range(replicas)], share) <= 0.5 + 1e-9
