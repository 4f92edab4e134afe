"""The gate's verdicts, pure: what passes, what holds, what steps back, and what is not known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from archshift.common.architectures import AMD64, ARM64
from archshift.common.errors import ArchshiftError
from archshift.ramp.figure_kinds import FigureValue
from archshift.ramp.figures import FIGURES
from archshift.ramp.gate import FleetVerdict, GateSettings, judge, needs_before
from archshift.ramp.measurement import (
    ArchitectureFigures,
    FiguresByWorkload,
    MeasuredWindow,
    Measurement,
)
from tests.build import load
from tests.properties import examples

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
STEP = NOW - timedelta(days=7)
DAY = timedelta(hours=24)
WINDOW = MeasuredWindow.until(NOW, DAY)
WELL = {
    **{name: FigureValue(1.0, 10_000) for name in FIGURES},
    "latency_p95": FigureValue(0.2, 10_000),
    "error_ratio": FigureValue(0.001, 10_000),
    "restarts": FigureValue(0.0, 0),
    "oom_kills": FigureValue(0.0, 0),
    "cpu_throttling": FigureValue(0.02, 10_000),
    "memory": FigureValue(2e8, 288),
}
CATALOG = "shop/Deployment/catalog"


def side(pods: int = 2, hours: float = 24, **figures: FigureValue) -> ArchitectureFigures:
    """Return a side that does well, but for the figures that are given."""
    return ArchitectureFigures(hours=hours, pod_hours=pods * hours, pods=pods, figures={**WELL, **figures})


def fleet(sides: FiguresByWorkload, **more: Any) -> FleetVerdict:
    """Judge a fleet at 0.5, a week after its step."""
    measured = Measurement(window=WINDOW, sides=sides)
    words = {
        "arm_ratio": 0.5,
        "at": NOW,
        "since": STEP,
        "soak": DAY,
        "gate": GateSettings(),
        "caps": {},
        "now": measured,
        **more,
    }
    return judge(**words)


def others(count: int = 9) -> dict[str, dict[str, ArchitectureFigures]]:
    """Return workloads that do well on both sides."""
    return {f"shop/Deployment/other-{number}": {ARM64: side(), AMD64: side()} for number in range(count)}


def one(**figures: FigureValue) -> dict[str, dict[str, ArchitectureFigures]]:
    """Return nine workloads that do well, and the catalog as it is on Graviton."""
    changed = replace(side(), figures={**WELL, **figures})
    return {**others(), CATALOG: {ARM64: changed, AMD64: side()}}


class TestAFigure:
    @pytest.mark.parametrize(
        ("figure", "passes", "holds", "steps_back"),
        [
            ("latency_p95", 0.22, 0.23, 0.32),
            ("error_ratio", 0.006, 0.007, 0.06),
            ("restarts", 0.5, 0.6, 4.1),
            ("oom_kills", 0.25, 0.3, 2.1),
            ("cpu_throttling", 0.12, 0.13, 0.43),
            ("memory", 2.5e8, 3e8, math.nan),
        ],
    )
    def test_passes_up_to_its_tolerance_and_is_much_worse_beyond_the_second(
        self, figure: str, passes: float, holds: float, steps_back: float
    ) -> None:
        """The defaults of docs/gate.md, figure by figure; memory alone never steps back."""
        for value, verdict in ((passes, "pass"), (holds, "hold"), (steps_back, "step-back")):
            if not math.isnan(value):
                found = {
                    row.workload: row.verdict
                    for row in fleet(one(**{figure: FigureValue(value, 10_000)})).workloads
                }
                assert found[CATALOG] == verdict, (figure, value)

    def test_one_restart_is_no_pattern(self) -> None:
        """A pod that restarted once in an hour has 24 a day; that is said of two events, not of one."""
        assert fleet(one(restarts=FigureValue(24.0, 1.2))).verdict == "pass"
        assert fleet(one(restarts=FigureValue(24.0, 2.4))).verdict == "hold"

    def test_beyond_the_last_bucket_bad_is_certain_and_good_is_not(self) -> None:
        """A histogram that ends at 10 s says 10 s of everything slower."""
        beyond = FigureValue(0.2, 10_000, at_least=True)
        verdict = fleet(one(latency_p95=beyond))
        assert verdict.verdict == "unknown"
        assert verdict.reasons == [
            f"{CATALOG}: p95 latency on Graviton is beyond the histogram's last bucket; give the "
            "histogram larger buckets"
        ]
        assert fleet(one(latency_p95=replace(beyond, value=10.0))).verdict == "hold"
        both = {**others(), CATALOG: {ARM64: side(latency_p95=beyond), AMD64: side(latency_p95=beyond)}}
        assert fleet(both).verdict == "unknown"
        x86 = {**others(), CATALOG: {ARM64: side(), AMD64: side(latency_p95=replace(beyond, value=10.0))}}
        assert fleet(x86).verdict == "pass"

    def test_too_few_requests_on_either_side_are_unknown(self) -> None:
        """The 95th percentile of 20 requests is one request."""
        few = fleet(one(latency_p95=FigureValue(0.2, 20)))
        assert few.verdict == "unknown"
        assert few.reasons == [
            f"{CATALOG}: p95 latency needs 200 requests on each side, but has 20 on Graviton and 10000 on x86"
        ]
        mine = load(gate={"workloads": {CATALOG: {"min_samples": 20}}}).gate
        assert fleet(one(latency_p95=FigureValue(0.2, 20)), gate=mine).verdict == "pass"

    @pytest.mark.parametrize(
        ("graviton", "x86", "reason"),
        [
            (None, FigureValue(0.2, 10_000), "p95 latency is measured on x86, but not on Graviton"),
            (FigureValue(0.2, 10_000), None, "p95 latency is measured on Graviton, but not on x86"),
            (
                FigureValue(math.nan, 9, problem="is not a number"),
                FigureValue(0.2, 9),
                "p95 latency on Graviton is not a number",
            ),
        ],
    )
    def test_half_the_data_is_unknown(
        self, graviton: FigureValue | None, x86: FigureValue | None, reason: str
    ) -> None:
        """What one side does not measure, or measures as no number, is not as good as the other."""

        def measured(reading: FigureValue | None) -> ArchitectureFigures:
            figures = {name: WELL[name] for name in WELL if name != "latency_p95"}
            found = side()
            return replace(found, figures=figures | ({"latency_p95": reading} if reading else {}))

        verdict = fleet({**others(), CATALOG: {ARM64: measured(graviton), AMD64: measured(x86)}})
        assert (verdict.verdict, verdict.reasons) == ("unknown", [f"{CATALOG}: {reason}"])

    def test_what_neither_side_measures_is_not_asked_but_restarts_and_memory_are(self) -> None:
        """A worker without requests passes by what every pod has; a pod without that has no proof."""
        bare = {name: WELL[name] for name in ("restarts", "oom_kills", "memory")}
        worker = replace(side(), figures=bare)
        assert fleet({**others(), CATALOG: {ARM64: worker, AMD64: worker}}).verdict == "pass"
        nothing = replace(side(), figures={})
        verdict = fleet({**others(), CATALOG: {ARM64: nothing, AMD64: nothing}})
        assert verdict.verdict == "unknown"
        assert verdict.reasons == [
            f"{CATALOG}: restarts is measured on neither side",
            f"{CATALOG}: memory of a pod is measured on neither side",
        ]


class TestWhatItIsHeldAgainst:
    def test_pods_that_all_moved_are_held_against_x86_before_the_step(self) -> None:
        """A singleton is on one side alone; its past on x86 is what there is."""
        sides = {**others(), CATALOG: {ARM64: side(latency_p95=FigureValue(0.25, 10_000))}}
        assert needs_before(Measurement(window=WINDOW, sides=sides))
        past = Measurement(window=MeasuredWindow(STEP, 288, WINDOW.step), sides={CATALOG: {AMD64: side()}})
        verdict = fleet(sides, before=past)
        row = next(row for row in verdict.workloads if row.workload == CATALOG)
        assert (row.verdict, row.against) == ("hold", "x86 before the step")
        slower = Measurement(
            window=past.window, sides={CATALOG: {AMD64: side(latency_p95=FigureValue(0.3, 9e3))}}
        )
        assert fleet(sides, before=slower).verdict == "pass"

    def test_pods_that_moved_long_ago_are_held_against_themselves(self) -> None:
        """Without pods on x86 for two steps, the step must not have made them worse."""
        sides = {**others(), CATALOG: {ARM64: side(latency_p95=FigureValue(0.25, 10_000))}}
        past = Measurement(window=WINDOW, sides={CATALOG: {ARM64: side()}})
        row = next(row for row in fleet(sides, before=past).workloads if row.workload == CATALOG)
        assert (row.verdict, row.against) == ("hold", "Graviton before the step")

    def test_a_past_that_is_not_known_is_unknown(self) -> None:
        """Prometheus that keeps too little cannot say how it was."""
        sides = {**others(), CATALOG: {ARM64: side()}}
        past = Measurement(window=WINDOW, problem="it is gone")
        verdict = fleet(sides, before=past)
        assert verdict.verdict == "unknown"
        assert verdict.reasons == [
            f"{CATALOG}: it has no pods on x86 to compare with, and its pods before the step are "
            "unknown: it is gone"
        ]
        assert fleet(sides).verdict == "unknown"

    def test_what_is_new_since_the_step_is_not_judged(self) -> None:
        """The step did nothing to a workload that was not there, and Prometheus saw that it was not."""
        past = Measurement(window=WINDOW, sides=others())
        verdict = fleet({**others(), CATALOG: {ARM64: side(restarts=FigureValue(9.0, 9))}}, before=past)
        assert verdict.verdict == "pass"
        row = next(row for row in verdict.workloads if row.workload == CATALOG)
        assert (row.verdict, row.reasons[0]) == (
            "skipped",
            "new since the step: there is nothing to compare it with",
        )

    def test_pods_that_have_only_just_come_are_unknown(self) -> None:
        """Minutes prove nothing."""
        verdict = fleet({**others(), CATALOG: {ARM64: side(hours=0.5), AMD64: side()}})
        assert verdict.reasons == [
            f"{CATALOG}: its pods on Graviton existed for only 0.5 of 24.0 hours; wait"
        ]
        assert verdict.verdict == "unknown"


class TestTheFleet:
    def test_what_is_known_to_be_worse_counts_more_than_what_is_not_known(self) -> None:
        """A missing figure does not hide a bad one, of the same workload or of another."""
        slow = FigureValue(0.25, 10_000)
        assert fleet(one(latency_p95=slow, error_ratio=FigureValue(0.0, 3))).verdict == "hold"
        unknown = {ARM64: side(error_ratio=FigureValue(0.0, 3)), AMD64: side()}
        assert fleet({**one(latency_p95=slow), "shop/Deployment/x": unknown}).verdict == "hold"

    def test_holds_for_one_that_is_worse_and_names_the_cap(self) -> None:
        """It stays with the pods that it has, and all others may go on."""
        verdict = fleet(one(latency_p95=FigureValue(0.25, 10_000)))
        assert verdict.verdict == "hold"
        assert verdict.reasons == [
            f"{CATALOG}: p95 latency 250 ms on Graviton, 200 ms on x86; up to 225 ms passes",
            f"the fleet may go on with archshift:workloads.overrides {CATALOG}: {{max_ratio: 0.5}}",
        ]

    def test_goes_on_without_one_that_is_capped(self) -> None:
        """The cap is a person's word; it has to be in effect, and answers for what is worse alone."""
        slow = one(latency_p95=FigureValue(0.25, 10_000))
        verdict = fleet(slow, caps={CATALOG: 0.5})
        assert verdict.verdict == "pass"
        assert verdict.reasons[1].startswith(f"the fleet goes on without {CATALOG}: p95 latency 250 ms")
        late = fleet(slow, caps={CATALOG: 0.25})
        assert late.verdict == "hold"
        assert f"{CATALOG}: its max_ratio 0.25 is not in effect yet; run pulumi up" in late.reasons
        unknown = one(latency_p95=FigureValue(0.25, 10_000), error_ratio=FigureValue(0.0, 3))
        assert fleet(unknown, caps={CATALOG: 0.5}).verdict == "unknown"

    def test_a_cap_that_leaves_pods_much_worse_off_is_too_high(self) -> None:
        """Such a workload has to leave Graviton; the suggestion says so."""
        verdict = fleet(one(error_ratio=FigureValue(0.3, 10_000)), caps={CATALOG: 0.5})
        assert verdict.verdict == "hold"
        assert verdict.reasons[-1].endswith(f"{CATALOG}: {{max_ratio: 0}}")

    def test_steps_back_when_a_quarter_of_its_pods_does_much_worse(self) -> None:
        """One in ten can be capped; three in ten are Graviton's fault, or the step's."""
        awful = {ARM64: side(error_ratio=FigureValue(0.3, 10_000)), AMD64: side()}
        assert fleet({**others(9), CATALOG: awful}).verdict == "hold"
        many = {f"shop/Deployment/awful-{number}": awful for number in range(4)}
        verdict = fleet({**others(9), **many})
        assert verdict.verdict == "step-back"
        assert (
            verdict.reasons[0] == "31% of the pods on Graviton belong to workloads that do much worse there"
        )
        strict = GateSettings(step_back_share=0.05)
        assert fleet({**others(9), CATALOG: awful}, gate=strict).verdict == "step-back"

    def test_a_skipped_workload_does_not_count(self) -> None:
        """With a reason, and for single figures too."""
        settings = {"workloads": {CATALOG: {"skip": True, "reason": "it is a demo"}}}
        slow = one(latency_p95=FigureValue(9.0, 10_000))
        verdict = fleet(slow, gate=load(gate=settings).gate)
        row = next(row for row in verdict.workloads if row.workload == CATALOG)
        assert (verdict.verdict, row.verdict, list(row.reasons)) == (
            "pass",
            "skipped",
            ["not judged: it is a demo"],
        )
        part = {"workloads": {CATALOG: {"skip": ["latency_p95"], "reason": "batch"}}}
        assert fleet(slow, gate=load(gate=part).gate).verdict == "pass"
        assert fleet(one(memory=FigureValue(9e9, 9)), gate=load(gate=part).gate).verdict == "hold"

    def test_that_nobody_could_judge_is_unknown_but_for_ratio_zero(self) -> None:
        """Before the first step there is nothing on Graviton, and that is as it should be."""
        x86 = {CATALOG: {AMD64: side()}}
        assert fleet(x86, arm_ratio=0.0).verdict == "pass"
        assert fleet(x86, arm_ratio=0.0, since=None).verdict == "pass"
        assert fleet(x86, arm_ratio=0.0, since=NOW).verdict == "hold"
        assert fleet(x86).verdict == "unknown"
        assert (
            fleet(
                {CATALOG: {ARM64: side(latency_p95=FigureValue(0.25, 9e3)), AMD64: side()}},
                caps={CATALOG: 0.5},
            ).verdict
            == "unknown"
        )

    def test_a_problem_with_the_whole_measurement_is_the_only_reason(self) -> None:
        """Of what cannot be relied on nothing is said."""
        verdict = fleet({}, now=Measurement(window=WINDOW, sides=others(), problem="Prometheus is down"))
        assert (verdict.verdict, verdict.reasons, verdict.workloads) == (
            "unknown",
            ["Prometheus is down"],
            (),
        )


class TestTheSoak:
    def test_holds_a_good_step_until_it_is_over(self) -> None:
        """A day of a week is not a week."""
        verdict = fleet(others(), since=NOW - timedelta(hours=5))
        assert verdict.verdict == "hold"
        assert verdict.reasons == [
            "the step has soaked for 5.0 h of 1d; the soak ends at 2026-03-11T07:00+00:00"
        ]

    def test_does_not_keep_a_bad_step_from_stepping_back(self) -> None:
        """What is known to be bad does not get better by waiting."""
        awful = {CATALOG: {ARM64: side(error_ratio=FigureValue(0.3, 10_000)), AMD64: side()}}
        assert fleet(awful, since=NOW - timedelta(hours=5)).verdict == "step-back"

    def test_without_a_beginning_is_unknown_unless_none_is_asked(self) -> None:
        """Nobody can say that a day is over that began at no time."""
        verdict = fleet(others(), since=None)
        assert verdict.verdict == "unknown"
        assert verdict.reasons[0] == (
            "the time of the last step is unknown; set archshift:ramp.since, give --since, or set "
            "archshift:gate.soak to 0h"
        )
        assert fleet(others(), since=None, soak=timedelta(0)).verdict == "pass"
        assert fleet(others(), since=NOW + timedelta(hours=1)).verdict == "unknown"


# --- properties -----------------------------------------------------------------------------

many = settings(examples, max_examples=300)
ORDER = {"pass": 0, "unknown": 1, "hold": 2, "step-back": 3}
# Mostly what can be judged: else every random fleet is unknown and nothing is tried.
values = {
    name: st.sampled_from([WELL[name].value, WELL[name].value * 1.3 + 0.6, WELL[name].value * 3 + 5])
    for name in FIGURES
}
figures = st.fixed_dictionaries(
    {},
    optional={
        name: st.builds(
            FigureValue,
            value=values[name],
            samples=st.sampled_from([10_000.0] * 8 + [50.0, 0.0]),
            at_least=st.sampled_from([False] * 9 + [True]),
            problem=st.sampled_from([""] * 9 + ["is not a number"]),
        )
        for name in FIGURES
    },
)
random_sides = st.builds(
    lambda pods, hours, found: ArchitectureFigures(
        hours=hours, pod_hours=pods * hours, pods=pods, figures={**WELL, **found}
    ),
    st.integers(0, 9),
    st.sampled_from([24.0] * 6 + [2.0, 0.5, 0.0]),
    figures,
)
fleets = st.dictionaries(
    st.sampled_from([f"shop/Deployment/{name}" for name in "abcd"]),
    st.fixed_dictionaries({AMD64: random_sides}, optional={ARM64: random_sides}),
    min_size=1,
)
caps = st.dictionaries(st.sampled_from([f"shop/Deployment/{name}" for name in "abcd"]), st.floats(0, 1))


def changed(
    sides: FiguresByWorkload, key: str, **figures: FigureValue
) -> Mapping[str, Mapping[str, ArchitectureFigures]]:
    """Return the fleet with other figures of a workload on Graviton."""
    mine = sides[key][ARM64]
    return {**sides, key: {**sides[key], ARM64: replace(mine, figures={**mine.figures, **figures})}}


@many
@given(fleets, caps, st.sampled_from(sorted(FIGURES)), st.floats(0, 100), st.data())
def test_worse_is_never_judged_better(
    sides: FiguresByWorkload, caps: dict[str, float], figure: str, more: float, data: st.DataObject
) -> None:
    """No figure of Graviton's that gets worse turns a hold into a pass, or a step back into a hold."""
    keys = [key for key in sides if ARM64 in sides[key] and figure in sides[key][ARM64].figures]
    assume(keys)
    key = data.draw(st.sampled_from(keys))
    reading = sides[key][ARM64].figures[figure]
    worse = changed(sides, key, **{figure: replace(reading, value=reading.value + more)})
    assert ORDER[fleet(worse, caps=caps).verdict] >= ORDER[fleet(sides, caps=caps).verdict]


@many
@given(fleets, caps, st.sampled_from(sorted(FIGURES)), st.data())
def test_losing_what_graviton_measures_never_makes_a_pass(
    sides: FiguresByWorkload, caps: dict[str, float], figure: str, data: st.DataObject
) -> None:
    """Data that is gone is not as good as data that is good."""
    keys = [key for key in sides if ARM64 in sides[key]]
    assume(keys)
    key = data.draw(st.sampled_from(keys))
    mine = sides[key][ARM64]
    kept = {name: reading for name, reading in mine.figures.items() if name != figure}
    poorer = {**sides, key: {**sides[key], ARM64: replace(mine, figures=kept)}}
    if fleet(sides, caps=caps).verdict != "pass":
        assert fleet(poorer, caps=caps).verdict != "pass"


@many
@given(fleets, caps)
def test_unknown_never_passes(sides: FiguresByWorkload, caps: dict[str, float]) -> None:
    """A pass has no workload in it that is unknown or worse, and one at least that was seen to do well."""
    verdict = fleet(sides, caps=caps)
    if verdict.verdict == "pass":
        found = [row.verdict for row in verdict.workloads]
        assert set(found) <= {"pass", "capped", "skipped"}
        assert "pass" in found
    assert verdict.reasons


@many
@given(fleets, caps, st.timedeltas(timedelta(0), timedelta(days=3)))
def test_a_younger_step_is_never_judged_better(
    sides: FiguresByWorkload, caps: dict[str, float], age: timedelta
) -> None:
    """Waiting is never punished."""
    old, young = (fleet(sides, caps=caps, since=since).verdict for since in (STEP, NOW - age))
    assert young != "pass" or old == "pass"
    assert ORDER[young] >= ORDER[old]


# --- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"promethus": "x"}, "archshift:gate.promethus is not a setting; there are: evidence, metrics, "),
        (
            {"prometheus": "prom:9090"},
            "archshift:gate.prometheus: 'prom:9090' is invalid; use an address such as https",
        ),
        (
            {"prometheus": "https://me:secret@p"},
            "archshift:gate.prometheus: the address of p has a user in it; ",
        ),
        ({"window": "1s"}, "archshift:gate.window: '1s' is invalid; use a time from 15m to 2w such as 24h"),
        ({"window": 24}, "archshift:gate.window: 24 is invalid; use a time from 15m to 2w such as 24h"),
        (
            {"min_samples": 0},
            "archshift:gate.min_samples: 0 is invalid; use a whole number of samples, 1 or more",
        ),
        (
            {"tolerances": {"p99": {}}},
            "archshift:gate.tolerances: 'p99' is invalid; use one of the figures latency_p95, ",
        ),
        (
            {"tolerances": {"error_ratio": {"hold": 2}}},
            "archshift:gate.tolerances.error_ratio.hold: 2 is invalid; use a share from 0.0 to 1.0",
        ),
        (
            {"tolerances": {"latency_p95": {"hold": 0.6}}},
            "archshift:gate.tolerances.latency_p95: step_back 0.5 is less than hold 0.6; raise step_back or ",
        ),
        (
            {"workloads": {CATALOG: {"skip": True}}},
            f"archshift:gate.workloads.{CATALOG}.skip: nobody judges these figures, so a reason is ",
        ),
        (
            {"workloads": {CATALOG: {"skip": ["p95"], "reason": "x"}}},
            f"archshift:gate.workloads.{CATALOG}.skip[0]: 'p95' is invalid; use one of the figures ",
        ),
        (
            {"metrics": {"latency": "a b"}},
            "archshift:gate.metrics.latency: 'a b' is invalid; use the name of a histogram without ",
        ),
        (
            {"metrics": {"errors": 'code=~"5.."} or vector(0)'}},
            "archshift:gate.metrics.errors: 'code=~\"5..\"} or vector(0)' is invalid; use a label matcher",
        ),
        (
            {"selector": "cluster=prod"},
            "archshift:gate.selector: 'cluster=prod' is invalid; use label matchers such as",
        ),
        (
            {"evidence": "../x"},
            "archshift:gate.evidence: '../x' leads out of the folder of Pulumi.yaml; use a path ",
        ),
    ],
)
def test_a_setting_that_does_not_do_is_named_in_a_sentence(value: Any, message: str) -> None:
    """Key, value and way out; no password."""
    with pytest.raises(ArchshiftError) as error:
        load(gate=value)
    assert message in str(error.value)
    assert "secret" not in str(error.value)
