"""The gate: does Graviton do at least as well as x86? Pure: measurements in, a verdict out.

A workload's pods on Graviton are compared with its pods on x86 in the same window. Where it has none there
any more, with those that it had before the last step; where it had none then either, with its own pods on
Graviton before the step. What cannot be compared is unknown, and unknown never passes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from archshift.common.architectures import AMD64, ARM64
from archshift.common.times import short
from archshift.ramp.figures import (
    FIGURES,
    Comparison,
    Figure,
    Tolerances,
    Verdict,
    WorkloadTolerances,
    compare,
)
from archshift.ramp.measurement import Measurement, Side
from archshift.ramp.promql import AppMetrics

WorkloadVerdict = Literal["pass", "hold", "step-back", "unknown", "capped", "skipped"]

_PRESENT: Final = timedelta(hours=1)
"""For so long pods have to have been there to be judged; half a window where that is shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """``archshift:gate``.

    Attributes:
        prometheus: Its address; empty for none.
        window: The time that is looked at, at most; no more than what is past since the last step.
        soak: How long a step has to last before the next; None for the ramp's.
        min_samples: Requests that both sides need before latency and errors are judged.
        tolerances: For all workloads.
        workloads: Workload key to what is different for it.
        step_back_share: Share of the pods on Graviton whose workloads have to be that bad before the fleet
            steps back; below it, caps do.
        metrics: The applications' metrics.
        selector: Label matchers of the cluster's series, where one Prometheus holds several clusters.
        evidence: Where the evidence is kept, from the folder of Pulumi.yaml; empty for
            ``gates/<stack>.json``.
    """

    prometheus: str = ""
    window: timedelta = timedelta(hours=24)
    soak: timedelta | None = None
    min_samples: int = 200
    tolerances: Tolerances = field(default_factory=dict)
    workloads: Mapping[str, WorkloadTolerances] = field(default_factory=dict)
    step_back_share: float = 0.25
    metrics: AppMetrics = field(default_factory=AppMetrics)
    selector: str = ""
    evidence: str = ""

    def evidence_file(self, stack: str) -> str:
        """Return the path of a stack's evidence, from the folder of Pulumi.yaml."""
        return self.evidence or f"gates/{stack}.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedWorkload:
    """One workload's verdict.

    Attributes:
        workload: Its key.
        verdict: ``capped``: worse, and its ``max_ratio`` keeps it from getting more. ``skipped``: there is
            nothing to judge.
        against: What its pods on Graviton are compared with.
        graviton_pods: Its pods on Graviton at the end of the window.
        pods: All of its pods then.
        pod_hours: Of its pods on Graviton, within the window.
        figures: What was compared.
        reasons: Why it does not pass.
        max_ratio: The cap with which the fleet may go on without it; None if it needs none.
    """

    workload: str
    verdict: WorkloadVerdict
    against: str = ""
    graviton_pods: int = 0
    pods: int = 0
    pod_hours: float = 0.0
    figures: Sequence[Comparison] = ()
    reasons: Sequence[str] = ()
    max_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetVerdict:
    """The gate's word.

    Attributes:
        verdict: Pass, hold, step-back or unknown.
        reasons: Why, a sentence each.
        workloads: Workload by workload, by key.
    """

    verdict: Verdict
    reasons: Sequence[str]
    workloads: Sequence[JudgedWorkload] = ()


def judge(
    *,
    arm_ratio: float,
    at: datetime,
    since: datetime | None,
    soak: timedelta,
    gate: GateSettings,
    caps: Mapping[str, float],
    now: Measurement,
    before: Measurement | None = None,
) -> FleetVerdict:
    """Judge the fleet.

    - ``step-back``: workloads that are worse beyond ``step_back`` hold more than ``step_back_share`` of the
      pods on Graviton.
    - ``hold``: some workload is worse and not capped; or the step is not old enough.
    - ``unknown``: something could not be judged, and nothing is known to be worse.
    - ``pass``: all else, with at least one workload that passes, or none that is on Graviton at ratio 0.

    A workload that is worse holds the fleet until it is capped: a ``max_ratio`` at which the next step gives
    it no more pods where it is worse, and 0 (or ``hold``) where it is worse beyond ``step_back``.

    Args:
        arm_ratio: The ratio that is judged.
        at: When.
        since: When the ratio last moved; None if nobody knows.
        soak: How long it has to have stood.
        gate: The settings.
        caps: Workload key to the most of its pods that may run on Graviton; 0 for one that is held.
        now: What was measured up to ``at``.
        before: What was measured up to ``since``.
    """
    # Before the first step nothing was ever set, so nothing has to soak: otherwise no ramp would begin.
    began = arm_ratio > 0 or since is not None
    patience, waiting = _soaked(at, since, soak) if began else ("pass", "")
    if now.problem:
        return FleetVerdict(verdict="unknown", reasons=[now.problem])
    keys = sorted(now.sides)
    judged = [_judge_workload(key, gate, caps, now, before) for key in keys]
    verdict, reasons = _fleet(arm_ratio, judged, gate)
    if verdict == "step-back":
        return FleetVerdict(verdict=verdict, reasons=reasons, workloads=judged)
    if patience == "hold" and verdict in ("pass", "unknown"):
        verdict = "hold"
    elif patience == "unknown" and verdict == "pass":
        verdict = "unknown"
    said = reasons if not waiting else [waiting, *(reasons if any(not _good(one) for one in judged) else [])]
    return FleetVerdict(verdict=verdict, reasons=said, workloads=judged)


def _soaked(at: datetime, since: datetime | None, soak: timedelta) -> tuple[Verdict, str]:
    if not soak:
        return "pass", ""
    if since is None:
        return "unknown", (
            "nobody knows since when the ratio stands; give archshift:ramp.since or --since, or "
            "archshift:gate.soak: 0h"
        )
    stood = at - since
    if stood < timedelta(0):
        return "unknown", f"the ratio is said to have moved at {since.isoformat()}, which is yet to come"
    if stood < soak:
        ends = (since + soak).isoformat(timespec="minutes")
        return "hold", f"the step stands for {_hours(stood)} of {short(soak)}; its soak ends at {ends}"
    return "pass", ""


def _good(one: JudgedWorkload) -> bool:
    return one.verdict in ("pass", "capped", "skipped")


def _fleet(
    arm_ratio: float, judged: Sequence[JudgedWorkload], gate: GateSettings
) -> tuple[Verdict, list[str]]:
    by_verdict: dict[str, list[JudgedWorkload]] = {}
    for one in judged:
        by_verdict.setdefault(one.verdict, []).append(one)
    bad, worse = by_verdict.get("step-back", []), by_verdict.get("hold", [])
    unknown, passed = by_verdict.get("unknown", []), by_verdict.get("pass", [])
    reasons = [f"{one.workload}: {reason}" for one in (*bad, *worse) for reason in one.reasons]
    reasons += _grouped(unknown)
    every = sum(one.pod_hours for one in judged if one.verdict != "skipped")
    share = sum(one.pod_hours for one in bad) / every if every else 0.0
    if bad and share > gate.step_back_share:
        return "step-back", [
            f"{share:.0%} of the pods on Graviton are of workloads that do much worse there",
            *reasons,
        ]
    if bad or worse:
        caps = ", ".join(f"{one.workload}: {{max_ratio: {one.max_ratio:g}}}" for one in (*bad, *worse))
        return "hold", [*reasons, f"the fleet may go on with archshift:workloads.overrides {caps}"]
    if unknown:
        return "unknown", reasons
    if passed:
        return "pass", [f"{len(passed)} workloads do as well on Graviton as on x86", *_going_on(by_verdict)]
    if arm_ratio == 0:
        return "pass", ["nothing runs on Graviton yet, and Prometheus sees all pods and their nodes"]
    return "unknown", ["no workload on Graviton could be judged; archshift status says what should be there"]


def _going_on(by_verdict: Mapping[str, Sequence[JudgedWorkload]]) -> list[str]:
    return [
        f"{one.workload} goes on without: {'; '.join(one.reasons)}" for one in by_verdict.get("capped", [])
    ]


def _grouped(unknown: Iterable[JudgedWorkload]) -> list[str]:
    """Say a reason once, with the workloads that share it."""
    groups: dict[str, list[str]] = {}
    for one in unknown:
        for reason in one.reasons:
            groups.setdefault(reason, []).append(one.workload)
    return [f"{_named(keys)}: {reason}" for reason, keys in groups.items()]


def _named(keys: Sequence[str]) -> str:
    shown = ", ".join(keys[:5])
    return f"{shown} and {len(keys) - 5} more" if len(keys) > 5 else shown


_Base = tuple[str, Side]


def _judge_workload(
    key: str, gate: GateSettings, caps: Mapping[str, float], now: Measurement, before: Measurement | None
) -> JudgedWorkload:
    sides = now.sides[key]
    own = gate.workloads.get(key) or WorkloadTolerances()
    graviton = sides.get(ARM64)
    if graviton is None or not graviton.pod_hours:
        return JudgedWorkload(workload=key, verdict="skipped", reasons=["no pod on Graviton"])
    x86_pods = sides[AMD64].pods if AMD64 in sides else 0

    def judged(verdict: WorkloadVerdict, *reasons: str, **more: Any) -> JudgedWorkload:
        return JudgedWorkload(
            workload=key,
            verdict=verdict,
            graviton_pods=graviton.pods,
            pods=graviton.pods + x86_pods,
            pod_hours=graviton.pod_hours,
            reasons=reasons,
            **more,
        )

    if own.skip >= set(FIGURES):
        return judged("skipped", f"not judged: {own.reason}")
    enough = _enough(now)
    if graviton.hours < enough:
        there = f"{graviton.hours:.1f} of {now.window.hours:.1f} hours"
        return judged("unknown", f"its pods on Graviton were there for {there} alone; wait")
    base = _base(key, now, before, enough)
    if isinstance(base, str):
        return judged("unknown", base)
    if base is None:
        return judged("skipped", "new since the step: there is nothing to compare it with")
    against, side = base
    comparisons = [
        found
        for figure in FIGURES.values()
        if figure.name not in own.skip and (found := _compare(figure, graviton, side, against, gate, own))
    ]
    worst = _worst([one.verdict for one in comparisons])
    reasons = [one.reason for one in comparisons if one.verdict == worst and one.reason]
    verdict, max_ratio, note = _capped(worst, caps.get(key), graviton.pods, graviton.pods + x86_pods)
    if verdict == "capped" and any(one.verdict == "unknown" for one in comparisons):
        # Its cap answers for what is known to be worse alone.
        verdict = "unknown"
        reasons += [one.reason for one in comparisons if one.verdict == "unknown"]
    return judged(
        verdict, *reasons, *filter(None, [note]), against=against, figures=comparisons, max_ratio=max_ratio
    )


def _compare(
    figure: Figure, graviton: Side, base: Side, against: str, gate: GateSettings, own: WorkloadTolerances
) -> Comparison | None:
    tolerance = own.tolerances.get(figure.name) or gate.tolerances.get(figure.name) or figure.tolerance
    mine, theirs = graviton.figures.get(figure.name), base.figures.get(figure.name)
    return compare(figure, mine, theirs, against, tolerance, own.min_samples or gate.min_samples)


def needs_before(now: Measurement) -> bool:
    """Say whether some workload has to be compared with what was before the step."""
    enough = _enough(now)
    return any(
        ARM64 in sides and (AMD64 not in sides or sides[AMD64].hours < enough) for sides in now.sides.values()
    )


def _enough(measured: Measurement) -> float:
    return min(_PRESENT / timedelta(hours=1), measured.window.hours / 2)


def _base(key: str, now: Measurement, before: Measurement | None, enough: float) -> _Base | str | None:
    """Return what to compare with; a sentence where that is unknown; None where there can be nothing."""
    x86 = now.sides[key].get(AMD64)
    if x86 and x86.hours >= enough:
        return "x86", x86
    if before is None or before.problem:
        why = f": {before.problem}" if before else ""
        return f"it has no pods on x86 to compare with, and what it had before the step is not known{why}"
    earlier = before.sides.get(key, {})
    for arch, name in ((AMD64, "x86 before the step"), (ARM64, "Graviton before the step")):
        side = earlier.get(arch)
        if side and side.hours >= _enough(before):
            return name, side
    if earlier or x86:
        return "its pods to compare with were there for too short a time; wait, or skip it with a reason"
    return None


_ORDER: Final[Mapping[str, int]] = {"pass": 0, "unknown": 1, "hold": 2, "step-back": 3}


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    return max(verdicts, key=lambda verdict: _ORDER[verdict], default="unknown")


def _capped(
    worst: Verdict, cap: float | None, graviton: int, pods: int
) -> tuple[WorkloadVerdict, float | None, str]:
    """Return what a workload's cap makes of its verdict, the cap to suggest, and a note."""
    if worst not in ("hold", "step-back"):
        return worst, None, ""
    # Rounded up, so that the cap leaves the pods that are there.
    stays = math.ceil(graviton / pods * 100) / 100 if pods and worst == "hold" else 0.0
    if cap is None or cap >= 1:
        return worst, stays, ""
    if graviton > int(cap * pods + 1e-9):
        return worst, min(cap, stays), f"its max_ratio {cap:g} is not in effect yet: pulumi up"
    if worst == "hold":
        return "capped", None, f"its max_ratio {cap:g} gives it no more pods"
    return worst, 0.0, f"its max_ratio {cap:g} leaves pods on Graviton that do much worse"


def _hours(length: timedelta) -> str:
    hours = length / timedelta(hours=1)
    return f"{hours:.0f} h" if hours >= 10 else f"{hours:.1f} h"
