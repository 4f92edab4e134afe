"""Fleet apportionment: what one number promises of every workload."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from random import Random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.plan.apportion import Share, Wave, apportion, fleet_target, phase, starts_on_graviton
from tests.properties import examples

RATIOS: Final = st.one_of(
    st.sampled_from([0.0, 0.2, 0.37, 0.5, 0.8, 1.0]),
    st.floats(0, 1, allow_nan=False),
)
KEYS: Final = st.from_regex(r"[a-c]/(Deployment|StatefulSet)/[a-z]{1,6}", fullmatch=True)
WAVES: Final = st.sampled_from([None, "early", "late"])

# Thresholds are compared as floats; exact arithmetic may order two equal ones differently.
TOLERANCE: Final = Fraction(1, 10**12)

# Of the three keys of test_phases_are_the_same_in_every_process.
PHASES: Final = [0.720406, 0.443875, 0.054506]


def fleets(*, free: bool = False) -> st.SearchStrategy[list[Share]]:
    """Fleets of up to 40 workloads; ``free`` ones have no caps."""
    caps = st.just(1.0) if free else st.sampled_from([0.0, 0.25, 0.29, 0.5, 1.0])
    share = st.builds(Share, KEYS, st.integers(0, 33), WAVES, caps)
    return st.lists(share, max_size=40, unique_by=lambda share: share.key)


def threshold(share: Share, pod: int) -> Fraction:
    """The design's formula, in exact arithmetic."""
    return (pod - Fraction(phase(share.key, share.wave))) / share.replicas


@examples
@given(fleets(free=True), RATIOS)
def test_the_fleet_total_is_the_rounded_share_of_all_pods(fleet: list[Share], ratio: float) -> None:
    """At 0.37 of 122 pods a user finds 45 on Graviton: not 44, not 46."""
    pods = sum(share.replicas for share in fleet)
    assert sum(apportion(ratio, fleet).values()) == round(ratio * pods) == fleet_target(ratio, pods)


@examples
@given(fleets(), RATIOS, RATIOS)
def test_raising_the_ratio_never_takes_a_pod_back(fleet: list[Share], one: float, other: float) -> None:
    """A ramp upwards moves pods in one direction only, with waves and caps as well."""
    low, high = apportion(min(one, other), fleet), apportion(max(one, other), fleet)
    assert all(low[key] <= high[key] for key in low)


@examples
@given(fleets(free=True))
def test_both_ends_leave_all_pods_on_one_side(fleet: list[Share]) -> None:
    """0 is all on x86 and 1 is all on Graviton, so that the last x86 node group can go."""
    assert apportion(0.0, fleet) == {share.key: 0 for share in fleet}
    assert apportion(1.0, fleet) == {share.key: share.replicas for share in fleet}


@examples
@given(fleets(free=True), RATIOS)
def test_one_threshold_divides_the_pods_of_all_workloads(fleet: list[Share], ratio: float) -> None:
    """No workload is favoured: what moved anywhere came before what stayed anywhere.

    With that threshold T, every count a lies in [R * T + u - 1, R * T + u].
    """
    counts = apportion(ratio, fleet)
    moved = [threshold(share, counts[share.key]) for share in fleet if counts[share.key]]
    stayed = [
        threshold(share, counts[share.key] + 1) for share in fleet if counts[share.key] < share.replicas
    ]
    last, following = max(moved, default=Fraction(0)), min(stayed, default=Fraction(1))
    assert last <= following + TOLERANCE
    for share in fleet:
        offset = counts[share.key] - share.replicas * last
        start = Fraction(phase(share.key, share.wave))
        assert start - 1 - TOLERANCE <= offset <= start + TOLERANCE


@examples
@given(fleets(free=True), RATIOS)
def test_no_workload_strays_far_from_the_ratio(fleet: list[Share], ratio: float) -> None:
    """|a - ratio * R| < 1 + R * (n + 1/2) / N for n workloads with N pods in all.

    The bound follows from the common threshold T: each count is within 1 of R * T, so the
    total is within n of N * T, and the total is within 1/2 of ratio * N.
    """
    fleet = [share for share in fleet if share.replicas]
    pods = sum(share.replicas for share in fleet)
    counts = apportion(ratio, fleet)
    for share in fleet:
        bound = 1 + share.replicas * (len(fleet) + 0.5) / pods
        assert abs(counts[share.key] - ratio * share.replicas) < bound + 1e-9


@pytest.mark.parametrize("ratio", [0.2, 0.37, 0.5, 0.8])
def test_large_workloads_are_close_to_the_ratio_themselves(ratio: float) -> None:
    """With hashed phases, workloads of 20 pods stay within two pods of their own share."""
    fleet = [Share(f"shop/Deployment/app-{index}", 20) for index in range(100)]
    assert all(abs(count - ratio * 20) < 2 for count in apportion(ratio, fleet).values())


def test_singletons_move_one_after_the_other() -> None:
    """100 workloads with one pod each do not all jump at 0.5: each hundredth moves one."""
    fleet = [Share(f"shop/Deployment/app-{index}", 1) for index in range(100)]
    before: set[str] = set()
    for percent in range(101):
        counts = apportion(percent / 100, fleet)
        moved = {key for key, count in counts.items() if count}
        assert len(moved) == percent
        assert before <= moved
        before = moved


@examples
@given(fleets(), RATIOS)
def test_caps_hold_and_others_fill_in(fleet: list[Share], ratio: float) -> None:
    """``max_ratio`` limits its own workload; the fleet reaches its total for as long as it can."""
    counts = apportion(ratio, fleet)
    assert all(counts[share.key] <= share.max_ratio * share.replicas + 1e-9 for share in fleet)
    room = sum(share.cap for share in fleet)
    assert sum(counts.values()) == min(fleet_target(ratio, sum(share.replicas for share in fleet)), room)


def test_a_capped_workload_is_replaced_by_its_neighbour() -> None:
    """Half of 20 pods with one of two workloads capped at 0: the other moves as a whole."""
    fleet = [Share("shop/Deployment/a", 10, max_ratio=0.0), Share("shop/Deployment/b", 10)]
    assert apportion(0.5, fleet) == {"shop/Deployment/a": 0, "shop/Deployment/b": 10}


@pytest.mark.parametrize(
    ("max_ratio", "replicas", "cap"),
    [(0.29, 100, 29), (0.57, 100, 57), (0.5, 3, 1), (1.0, 7, 7), (0.0, 7, 0), (0.999, 1, 0)],
)
def test_a_cap_is_rounded_down_and_loses_no_pod_to_binary_fractions(
    max_ratio: float, replicas: int, cap: int
) -> None:
    """29 % of 100 pods are 29, though 0.29 * 100 is a little less than 29 in a float."""
    assert Share("shop/Deployment/a", replicas, max_ratio=max_ratio).cap == cap


@examples
@given(fleets(), RATIOS, st.data())
def test_a_wave_moves_a_workload_in_its_direction_only(
    fleet: list[Share], ratio: float, data: st.DataObject
) -> None:
    """``wave: early`` never costs a workload pods on Graviton, ``wave: late`` never gains any."""
    if not fleet:
        return
    chosen = data.draw(st.integers(0, len(fleet) - 1))
    key = fleet[chosen].key

    def count(wave: Wave | None) -> int:
        changed = [*fleet[:chosen], replace(fleet[chosen], wave=wave), *fleet[chosen + 1 :]]
        return apportion(ratio, changed)[key]

    assert count("late") <= count(None) <= count("early")


@examples
@given(st.lists(KEYS, min_size=2, max_size=20, unique=True), st.integers(1, 9), RATIOS)
def test_early_workloads_go_before_late_ones(keys: list[str], replicas: int, ratio: float) -> None:
    """Of equally large workloads, no late one has more pods on Graviton than an early one."""
    half = len(keys) // 2
    counts = apportion(
        ratio,
        [Share(key, replicas, "early" if index < half else "late") for index, key in enumerate(keys)],
    )
    assert max(counts[key] for key in keys[half:]) <= min(counts[key] for key in keys[:half])


def test_inside_a_wave_workloads_still_move_one_after_the_other() -> None:
    """A fleet that is all early is no jump either."""
    fleet = [Share(f"shop/Deployment/app-{index}", 1, "early") for index in range(50)]
    assert [sum(apportion(moved / 50, fleet).values()) for moved in range(51)] == list(range(51))


@examples
@given(fleets(), RATIOS, st.randoms(use_true_random=False))
def test_the_order_in_which_workloads_are_read_does_not_matter(
    fleet: list[Share], ratio: float, random: Random
) -> None:
    """Two runs that list the cluster in another order agree on every workload."""
    shuffled = list(fleet)
    random.shuffle(shuffled)
    assert apportion(ratio, shuffled) == apportion(ratio, fleet)


@examples
@given(KEYS, WAVES)
def test_a_phase_is_off_both_ends(key: str, wave: Wave | None) -> None:
    """Phases lie in the open interval, or a pod would move at 0 or never."""
    value = phase(key, wave)
    assert 0 < value < 1
    assert wave != "early" or value >= 0.9
    assert wave != "late" or value <= 0.1


def test_phases_are_the_same_in_every_process() -> None:
    """Monday's run and Tuesday's run agree: a phase does not depend on Python's hash seed.

    The literal values are a promise too: changing them would move pods on an upgrade.
    """
    keys = ["shop/Deployment/cart", "shop/StatefulSet/cart", "platform/Deployment/cart"]
    code = f"from archshift.plan.apportion import phase; print([phase(key) for key in {keys!r}])"
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert seen == {str([phase(key) for key in keys])}
    assert [round(phase(key), 6) for key in keys] == PHASES


def test_a_fleet_of_one_pod_moves_at_one_half() -> None:
    """round(ratio * 1) is 1 above 0.5; at 0.5 Python rounds to even, which is 0."""
    fleet = [Share("shop/Deployment/only", 1)]
    ratios = (0.0, 0.2, 0.37, 0.5, 0.51, 0.8, 1.0)
    assert [apportion(ratio, fleet)["shop/Deployment/only"] for ratio in ratios] == [0, 0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.37, 0.5, 0.8, 1.0])
def test_a_fleet_of_2000_pods_is_exact(ratio: float) -> None:
    """Size changes nothing: 37 % of 2,000 pods are 740, in workloads from 1 to 33 pods."""
    sizes = [1 + index % 33 for index in range(117)]
    sizes.append(2000 - sum(sizes))
    counts = apportion(ratio, [Share(f"n{i % 7}/Deployment/a{i}", size) for i, size in enumerate(sizes)])
    assert sum(counts.values()) == round(ratio * 2000)
    if 0 < ratio < 1:
        big = [i for i, size in enumerate(sizes) if size >= 20]
        assert all(0 < counts[f"n{i % 7}/Deployment/a{i}"] < sizes[i] for i in big)


def test_an_empty_fleet_is_no_error() -> None:
    """A cluster without movable workloads gives an empty answer, not a division by zero."""
    assert apportion(0.5, []) == {}
    assert apportion(0.5, [Share("shop/Deployment/none", 0)]) == {"shop/Deployment/none": 0}


@examples
@given(KEYS, WAVES, RATIOS, RATIOS)
def test_workloads_without_pods_switch_once(key: str, wave: Wave | None, one: float, other: float) -> None:
    """A CronJob's next run is on x86 at 0, on Graviton at 1, and changes sides once between."""
    assert not starts_on_graviton(0.0, key, wave)
    assert starts_on_graviton(1.0, key, wave)
    if starts_on_graviton(min(one, other), key, wave):
        assert starts_on_graviton(max(one, other), key, wave)


def test_workloads_without_pods_switch_one_after_the_other() -> None:
    """About a fifth of the CronJobs start on Graviton at 0.2, not all and not none."""
    keys = [f"shop/CronJob/job-{index}" for index in range(1000)]
    for ratio in (0.2, 0.5, 0.8):
        started = sum(starts_on_graviton(ratio, key) for key in keys)
        # Four standard deviations of a fair hash.
        assert abs(started - 1000 * ratio) < 4 * math.sqrt(1000 * ratio * (1 - ratio))


def test_pods_that_only_move_together_are_in_the_total() -> None:
    """A unit has 6 of the fleet's 30 pods. It moves at one ratio, and single pods make up the rest."""
    fleet = [
        Share("shop/Deployment/web", 4, unit="shop/Deployment/cache"),
        Share("shop/Deployment/cache", 2, unit="shop/Deployment/cache"),
        *(Share(f"shop/Deployment/app-{index}", 3) for index in range(8)),
    ]
    moved = []
    for step in range(31):
        counts = apportion(step / 30, fleet)
        unit = counts["shop/Deployment/web"], counts["shop/Deployment/cache"]
        assert unit in ((0, 0), (4, 2))
        assert sum(counts.values()) == step
        moved.append(unit == (4, 2))
    assert moved == sorted(moved), "it moved back while the ratio rose"


@pytest.mark.parametrize(("ratio", "moved"), [(0.0, 0), (0.2, 0), (0.6, 2), (1.0, 2)])
def test_a_fleet_that_is_one_unit_is_rounded(ratio: float, moved: int) -> None:
    """Two pods need each other. Both move or none, whichever is nearer to the ratio."""
    fleet = [Share(f"shop/Deployment/{name}", 1, unit="shop/Deployment/cache") for name in ("cache", "web")]
    assert sum(apportion(ratio, fleet).values()) == moved


@pytest.mark.parametrize(
    ("ratio", "count"), [(0.0, 0), (0.1, 1), (0.2, 1), (0.4, 2), (0.7, 2), (0.9, 2), (1.0, 6)]
)
def test_a_gap_below_all_pods_is_closed_last(ratio: float, count: int) -> None:
    """With pods on both sides, at most two of six fit Graviton. The other four move last."""
    assert apportion(ratio, [Share("shop/Deployment/zonal", 6, levels=(0, 1, 2, 6))]) == {
        "shop/Deployment/zonal": count
    }


def test_other_workloads_make_up_for_a_level_that_cannot_be() -> None:
    """10 of 20 pods belong on Graviton, but one workload can have only 2 of its 10 there."""
    fleet = [Share("shop/Deployment/zonal", 10, levels=(0, 2, 10)), Share("shop/Deployment/free", 10)]
    counts = apportion(0.5, fleet)
    assert counts["shop/Deployment/zonal"] in (0, 2)
    assert sum(counts.values()) == 10


LEVELS = st.lists(st.integers(0, 12), max_size=6, unique=True).map(lambda values: tuple(sorted(values)))


@st.composite
def limited_fleets(draw: st.DrawFn) -> list[Share]:
    """Fleets with levels and units."""
    fleet = []
    for key in draw(st.lists(KEYS, max_size=12, unique=True)):
        replicas = draw(st.integers(0, 12))
        unit = draw(st.sampled_from(["", "", "", "one", "two"]))
        levels = tuple(level for level in draw(LEVELS) if level <= replicas)
        fleet.append(Share(key, replicas, levels=() if unit else levels, unit=unit and f"u/{unit}"))
    return fleet


@examples
@given(limited_fleets(), RATIOS, RATIOS)
def test_levels_and_units_hold_at_every_ratio(fleet: list[Share], one: float, other: float) -> None:
    """Every workload has a number that it can reach. A unit is on one side and never moves back."""
    low, high = (apportion(ratio, fleet) for ratio in sorted((one, other)))
    for share in fleet:
        for counts in (low, high):
            if share.unit:
                assert counts[share.key] in (0, share.replicas)
            elif share.levels:
                assert counts[share.key] in share.levels
        if share.unit:
            assert low[share.key] <= high[share.key]
    for unit in {share.unit for share in fleet if share.unit}:
        sides = {low[s.key] > 0 for s in fleet if s.unit == unit and s.replicas}
        assert len(sides) <= 1


@examples
@given(limited_fleets())
def test_the_last_step_moves_whatever_can_move(fleet: list[Share]) -> None:
    """At 1 every workload is at its highest level."""
    assert apportion(1.0, fleet) == {
        share.key: share.levels[-1] if share.levels else share.replicas for share in fleet
    }
