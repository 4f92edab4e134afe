"""An autoscaled workload keeps a ratio: by the scheduler's own arithmetic, at any number of pods."""

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from archshift.cluster.entries import Scaling
from archshift.cluster.pod_fields import Template
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64
from archshift.plan.placement import max_skew, place
from archshift.plan.scaling import most_off, reach, scaling_of
from lab.day_model import Sample, model_day
from tests.build import ARCH

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
ZONES = ("a", "b", "c")


def nodes_of(share: float, count: int = 20) -> list[dict[str, str]]:
    """Nodes in proportion to a share, as node groups are sized."""
    graviton = round(share * count)
    return [
        {ARCH: side, ZONE: ZONES[number % 3], HOST: f"{side}-{number}"}
        for side, size in ((AMD64, count - graviton), (ARM64, graviton))
        for number in range(size)
    ]


SHARES = (0.1, 0.2, 0.35, 0.5, 0.6, 0.8, 0.9)


def soft(key: str, skew: int = 1) -> dict[str, Any]:
    return {"topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": skew}


APART = Template(has_soft_rules=True, stays_apart=True)
RULES = {
    "none": Template(),
    "zones": Template(other_spreads=((soft(ZONE),), ()), has_soft_rules=True),
    "hosts": Template(other_spreads=((soft(HOST),), ()), has_soft_rules=True),
    "both": Template(other_spreads=((soft(ZONE, 2), soft(HOST)), ()), has_soft_rules=True),
}


def grown(
    template: Template, scaling: Scaling, most: int, favour: Mapping[str, int], nodes: list[dict[str, str]]
) -> list[int]:
    """The pods on Graviton at each number of pods, from 0 to most, as a scheduler adds one pod after another.

    A model of its scores: node affinity and topology spread with their rounding, and points that the nodes
    of a side have from other scorers. Of the best nodes it takes the first.
    """
    fields = place(template, 1, 2, scaling=scaling)
    spreads = [fields[name] for name in ("soft-spread", "zone-spread", "node-spread") if name in fields]
    spreads += [each for each in template.other_spreads[0] if each["whenUnsatisfiable"] == "ScheduleAnyway"]
    counts: Counter[tuple[str, str]] = Counter()
    result = [0]
    for _ in range(most):
        sides = [counts[ARCH, side] for side in ARCHITECTURES]
        free = [
            node for node in nodes if counts[ARCH, node[ARCH]] + 1 - min(sides) <= fields["spread"]["maxSkew"]
        ]
        assert free, "a pod stays pending"
        preferred = {id(node): _affinity(fields["preferred"], node) for node in free}
        spread = {id(node): _spread(spreads, node, free, counts) for node in free}
        most_preferred, lowest, highest = max(preferred.values()), min(spread.values()), max(spread.values())
        points = [
            2 * (100 * preferred[id(node)] // most_preferred)
            + 2 * (100 * (highest + lowest - spread[id(node)]) // highest if highest else 100)
            + favour[node[ARCH]]
            for node in free
        ]
        best = free[points.index(max(points))]
        counts.update(best.items())
        result.append(counts[ARCH, ARM64])
    return result


def _affinity(terms: list[dict[str, Any]], node: Mapping[str, str]) -> int:
    return sum(
        term["weight"]
        for term in terms
        if all(
            each["operator"] == "Exists" or node[each["key"]] in each["values"]
            for each in term["preference"]["matchExpressions"]
        )
    )


def _spread(
    spreads: list[dict[str, Any]],
    node: Mapping[str, str],
    free: list[dict[str, str]],
    counts: Counter[tuple[str, str]],
) -> int:
    total = 0.0
    for each in spreads:
        key = each["topologyKey"]
        domains = len({one[key] for one in free})
        total += counts[key, node[key]] * math.log(domains + 2) + each["maxSkew"] - 1
    return math.floor(total + 0.5)


@pytest.mark.parametrize("most", [6, 9, 12, 15])
@pytest.mark.parametrize("share", [0.2, 0.8])
def test_a_small_workload_does_not_round_to_the_larger_side_at_every_size(share: float, most: int) -> None:
    """Many of these would bend a fleet. If nobody says the most pods, the rule is that of large workloads."""
    nodes = nodes_of(share)

    def bent(rule: Scaling | None) -> float:
        assert rule
        counts = grown(Template(), rule, most, {AMD64: 0, ARM64: 0}, nodes)
        off = [count - share * pods for pods, count in enumerate(counts) if pods > 1]
        return abs(sum(off) / len(off))

    assert bent(scaling_of(Template(), share, most, zones=3, tainted=True)) <= 0.25
    guess = scaling_of(Template(), share, most, zones=3, tainted=True, guessed=True)
    other = scaling_of(Template(), share, 100, zones=3, tainted=True, guessed=True)
    assert guess
    assert other
    assert (guess.weight, guess.spread) == (other.weight, other.spread)
    assert bent(guess) > 0.3


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("share", SHARES)
def test_the_share_holds_while_pods_are_added(share: float, rules: str) -> None:
    """By at most a pod or a tenth; with soft rules of the application by two pods or 15 %."""
    template = RULES[rules]
    scaling = scaling_of(template, share, 90, zones=3, tainted=False)
    assert scaling
    on = grown(template, scaling, 90, {ARM64: 0, AMD64: 0}, nodes_of(share))
    pods_off, share_off = (2, 0.15) if template.has_soft_rules else (1, 0.1)
    off = {
        n: count - share * n
        for n, count in enumerate(on)
        if abs(count - share * n) > max(pods_off, share_off * n)
    }
    assert not off, (scaling, off)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("fuller", ARCHITECTURES)
@pytest.mark.parametrize(("points", "pods_off", "share_off"), [(5, 1, 0.1), (20, 2, 0.15)])
def test_how_far_a_share_bends_where_one_side_is_fuller(
    share: float, fuller: str, points: int, pods_off: float, share_off: float
) -> None:
    """Nodes that are a tenth fuller have 10 points less than the others."""
    scaling = scaling_of(Template(), share, 90, zones=3, tainted=False)
    assert scaling
    on = grown(
        Template(), scaling, 90, {side: -points * (side == fuller) for side in ARCHITECTURES}, nodes_of(share)
    )
    off = {n: count - share * n for n, count in enumerate(on)}
    wrong = {n: pods for n, pods in off.items() if abs(pods) > max(pods_off, share_off * n) + 1e-9}
    assert not wrong, scaling


@pytest.mark.parametrize("share", SHARES)
def test_the_plan_prints_no_narrower_interval_than_the_scheduler_keeps(share: float) -> None:
    """From the fewest to the most pods."""
    scaling = scaling_of(Template(), share, 40, zones=3, tainted=False)
    assert scaling
    low, high = reach(scaling, share, (10, 40), soft_rules=False)
    on = grown(Template(), scaling, 40, {ARM64: 0, AMD64: 0}, nodes_of(share))
    assert all(low <= on[n] / n <= high for n in range(10, 41))
    assert low < share < high or share == 0.5


def wrong(sample: Sample) -> bool:
    """Whether a workload is off by more than a pod or a tenth; with soft rules, two pods or 15 %."""
    return abs(sample.off) > most_off(sample.pods, soft_rules=bool(sample.load.soft)) + 1e-9


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_new_deletion_costs_after_each_hour_keep_workloads_in_their_bounds(ratio: float) -> None:
    """Four days: pods that end without a cost cause nearly all that is beyond. No pod moves."""
    beyond = [
        sum(wrong(each) for seed in range(4) for each in model_day(ratio, seed, costs_every=every))
        for every in (0, 1)
    ]
    assert beyond[0] > 0
    assert 4 * beyond[1] <= beyond[0]


@pytest.mark.parametrize("ratio", [0.2, 0.5, 0.8])
def test_the_plan_prints_the_interval_in_which_a_day_without_an_update_stays(ratio: float) -> None:
    """Also while pods end that have no deletion cost."""
    outside = []
    for each in (each for seed in range(10, 14) for each in model_day(ratio, seed)):
        template = RULES["hosts"] if each.load.soft else Template()
        scaling = scaling_of(template, ratio, each.load.bounds[1], zones=3, tainted=True)
        assert scaling
        low, high = reach(scaling, ratio, each.load.bounds, soft_rules=bool(each.load.soft))
        if not low - 1e-9 <= ratio + each.off / each.pods <= high + 1e-9:
            outside.append(each)
    assert outside == []


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("most", [2, 3, 10, 99])
def test_the_bound_is_as_tight_as_the_most_pods_allow(share: float, most: int) -> None:
    """At the most pods the right share is reachable, and a larger lead is not."""
    scaling = scaling_of(Template(), share, most, zones=3, tainted=False)
    assert scaling
    assert scaling.within == max_skew(round(share * most), most)


def test_half_is_as_exact_as_before_at_every_size() -> None:
    """A bound of one pod is tight for every number of pods."""
    scaling = scaling_of(Template(), 0.5, 90, zones=3, tainted=False)
    assert scaling
    assert (scaling.within, scaling.weight) == (1, 0)
    on = grown(Template(), scaling, 90, {ARM64: 90, AMD64: 0}, nodes_of(0.5))
    assert all(abs(count - n / 2) <= 0.5 for n, count in enumerate(on))


def test_soft_anti_affinity_is_answered_by_the_toleration_where_all_nodes_have_the_taint() -> None:
    """It has up to 200 points against the larger side, and so has the preference; the balance needs more."""
    with_taints = scaling_of(APART, 0.8, 90, zones=3, tainted=True)
    without = scaling_of(APART, 0.8, 90, zones=3, tainted=False)
    # The toleration has 300 points, a little more than the balance needs.
    assert with_taints == Scaling(54, 1, AMD64, 4, ARM64)
    assert without
    assert (without.side, without.weight, without.tolerates) == (ARM64, 100, None)


def test_an_application_that_spreads_over_architectures_keeps_the_exact_rule() -> None:
    """The API refuses two soft spreads over the same label."""
    for spreads in (((soft(ARCH),), ()), ((), (soft(ARCH),))):
        template = Template(other_spreads=spreads, has_soft_rules=True)
        assert scaling_of(template, 0.8, 90, zones=3, tainted=True) is None


def test_the_fields_of_an_autoscaled_workload() -> None:
    """What a user reads in the preview for 0.2 of up to 30 pods, field by field."""
    scaling = Scaling(within=18, spread=2, side=AMD64, weight=51)
    fields = place(Template(selector={"matchLabels": {"app": "cart"}}), 2, 10, scaling=scaling)
    counted = {"labelSelector": {"matchLabels": {"app": "cart"}}, "matchLabelKeys": ["pod-template-hash"]}
    exists = {"key": ARCH, "operator": "Exists"}
    assert fields == {
        "spread": {
            "topologyKey": ARCH,
            "whenUnsatisfiable": "DoNotSchedule",
            "maxSkew": 18,
            "nodeTaintsPolicy": "Honor",
            **counted,
        },
        "soft-spread": {**soft(ARCH, 2), **counted},
        "zone-spread": {**soft(ZONE), **counted},
        "node-spread": {**soft(HOST), **counted},
        "preferred": [
            {
                "weight": 51,
                "preference": {
                    "matchExpressions": [{"key": ARCH, "operator": "In", "values": ["amd64"]}, exists]
                },
            },
            {
                "weight": 49,
                "preference": {
                    "matchExpressions": [
                        {"key": ARCH, "operator": "In", "values": ["amd64", "arm64"]},
                        exists,
                    ]
                },
            },
        ],
    }
