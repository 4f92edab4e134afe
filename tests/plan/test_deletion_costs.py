"""The order in which pods of an autoscaled workload end: every number of remaining pods has the share."""

from collections.abc import Sequence
from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.plan import deletion_costs
from archshift.plan.apportion import Share, apportion
from archshift.plan.deletion_costs import Proportion, Standing, next_ordinals
from tests.properties import examples

ALONE = "the only workload"


def pods(graviton: int, x86: int) -> list[Standing]:
    """Pods without costs."""
    return [
        *(Standing(f"g{index}", graviton=True) for index in range(graviton)),
        *(Standing(f"x{index}", graviton=False) for index in range(x86)),
    ]


def costs_of(standing: Sequence[Standing], share: Proportion) -> dict[str, int]:
    """The costs that archshift writes if there are no other workloads."""
    return deletion_costs.costs_of({ALONE: (standing, share)})[ALONE]


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


@examples
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


@examples
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


@examples
@given(st.lists(COST, min_size=1, max_size=9), st.booleans(), st.integers(1, 9))
def test_pods_of_one_side_stay_when_an_autoscaler_added_others(
    there: list[int | None], side: bool, more: int
) -> None:
    """A workload of one pod at 0.8 may get its second pod on x86, and the first one must stay then."""
    standing = [Standing(f"p{at:02}", side, cost) for at, cost in enumerate(there)]
    share = Proportion(len(standing) * side, len(standing), mixed=True)
    kept = after(standing, share)
    new = [Standing(f"n{at}", not side) for at in range(more)]
    assert {pod.name for pod in scaled_down([*kept, *new], len(kept))} == {pod.name for pod in kept}
    assert costs_of(kept, share) == {}


@examples
@given(st.lists(st.tuples(st.booleans(), COST), max_size=25), shares())
def test_what_is_right_is_not_written_again(there: list[tuple[bool, int | None]], share: Proportion) -> None:
    """Nor after it was scaled down; after it was scaled up, only the new pods get costs."""
    standing = after([Standing(f"p{at:02}", side, cost) for at, (side, cost) in enumerate(there)], share)
    assert costs_of(standing, share) == {}
    for number in range(len(standing)):
        assert costs_of(scaled_down(standing, number), share) == {}


@examples
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


@examples
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


# --- the fleet ---

Fleet = dict[str, tuple[list[Standing], Proportion]]


def small_fleet(ratio: float, sizes: Sequence[int], name: str = "w") -> Fleet:
    """Workloads at their shares without costs; each autoscaler leaves a quarter of the pods, at least one."""
    keys = {f"{name}{at:03}": size for at, size in enumerate(sizes)}
    counts = apportion(ratio, [Share(key, size) for key, size in keys.items()])
    return {
        key: (pods(counts[key], size - counts[key]), Proportion(counts[key], size, max(1, size // 4)))
        for key, size in keys.items()
    }


def written(fleet: Fleet) -> Fleet:
    """The fleet with the costs that archshift writes."""
    costs = deletion_costs.costs_of(fleet)
    return {
        key: (
            [Standing(pod.name, pod.graviton, costs[key].get(pod.name, pod.cost)) for pod in standing],
            share,
        )
        for key, (standing, share) in fleet.items()
    }


def at_load(fleet: Fleet, load: float) -> Fleet:
    """What the autoscalers leave at a load, relative to the present one."""
    return {
        key: (
            scaled_down(standing, max(share.fewest, min(len(standing), round(load * share.replicas)))),
            share,
        )
        for key, (standing, share) in fleet.items()
    }


def off(fleet: Fleet, ratio: float) -> float:
    """By how much the fleet is off its share."""
    there = [pod for standing, _ in fleet.values() for pod in standing]
    return abs(sum(pod.graviton for pod in there) / len(there) - ratio)


LOADS = (0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 0.9)
SIZES = st.lists(st.integers(1, 12), min_size=10, max_size=40)


def alone(fleet: Fleet) -> Fleet:
    """The fleet with the costs that each workload would get if it were the only one."""
    return {key: (after(*one), one[1]) for key, one in fleet.items()}


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_small_workloads_do_not_all_round_to_the_same_side(ratio: float) -> None:
    """Each of 60 fleets of 30 workloads stays within 0.03 while the load falls to a quarter, but for a few.

    Those few have hardly a workload that could make up for the others. If each were rounded alone, every
    third sample would be off by more.
    """
    chance = Random(18)  # noqa: S311
    together, each_alone = 0, 0
    for number in range(60):
        fleet = small_fleet(
            ratio, [chance.choice((1, 2, 2, 3, 3, 4, 5, 8, 12)) for _ in range(30)], f"w{number}-"
        )
        orders, others = written(fleet), alone(fleet)
        for load in LOADS:
            left = at_load(orders, load)
            for standing, share in left.values():
                graviton = sum(pod.graviton for pod in standing)
                assert abs(graviton - share.graviton * len(standing) / share.replicas) < 1
            assert off(left, ratio) < 0.06
            together += off(left, ratio) > 0.03
            each_alone += off(at_load(others, load), ratio) > 0.03
    samples = 60 * len(LOADS)
    assert together <= samples * 0.02
    assert each_alone >= samples * 0.33


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_a_fleet_of_equal_workloads_keeps_its_share_with_one_pod_each(ratio: float) -> None:
    """Each of 40 has one of its three pods left, and alone each would keep one of the larger side."""
    fleet = at_load(written(small_fleet(ratio, [3] * 40)), 0.25)
    assert off(fleet, ratio) <= 1 / 40


@examples
@given(SIZES, st.sampled_from([0.2, 0.5, 0.8]), st.floats(0.25, 1), st.integers(0, 9))
def test_a_fleet_that_is_right_is_not_written_again(
    sizes: list[int], ratio: float, load: float, removed: int
) -> None:
    """Neither after it was scaled down, nor because another workload came or went."""
    fleet = written(small_fleet(ratio, sizes))
    assert not any(deletion_costs.costs_of(at_load(fleet, load)).values())
    gone = {key: one for at, (key, one) in enumerate(fleet.items()) if at != removed}
    assert not any(deletion_costs.costs_of(gone).values())
    assert not any(deletion_costs.costs_of({**small_fleet(ratio, [1], "new"), **fleet}).values())


# --- StatefulSets --------------------------------------------------------------------------------


def worst(graviton: Sequence[bool], share: Proportion) -> float:
    """How far the first pods are from the share at worst, in pods."""
    counts = [sum(graviton[:number]) for number in range(1, len(graviton) + 1)]
    return max(
        abs(count - share.graviton * number / share.replicas) for number, count in enumerate(counts, 1)
    )


@examples
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
