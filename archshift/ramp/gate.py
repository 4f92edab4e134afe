"""The gate: does Graviton do at least as well as x86? Pure: measurements in, a verdict out.

The gate compares a workload's pods on Graviton with the first of these that exists: its pods on x86 in the
same window, its pods on x86 before the last step, its own pods on Graviton before that step. A workload that
cannot be compared is unknown, and unknown never passes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from archshift.common.architectures import AMD64, ARM64
from archshift.common.text import first_few
from archshift.common.times import short
from archshift.ramp.figures import (
    FIGURES,
    Figure,
    FigureComparison,
    Tolerances,
    Verdict,
    WorkloadTolerances,
    compare,
)
from archshift.ramp.measurement import ArchitectureFigures, Measurement
from archshift.ramp.promql import AppMetrics

GateVerdict = Literal["pass", "hold", "step-back", "unknown", "capped", "skipped"]

_PRESENT: Final = timedelta(hours=1)
"""Pods must have existed for this long to be judged, or for half a window if that is shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSettings:
    """``archshift:gate``.

    Attributes:
        prometheus: Prometheus' address; empty for none.
        window: The longest time that is judged; it never starts before the last step.
        soak: How long a step must last before the next; None for the ramp's.
        min_samples: The requests that each side needs before latency and errors are judged.
        tolerances: The tolerances of all workloads.
        workloads: Workload key to its own settings.
        step_back_share: The fleet steps back if much worse workloads have more than this share of the pods
            on Graviton. Below it, caps are enough.
        metrics: The applications' metrics.
        selector: Label matchers of the cluster's series, if one Prometheus has several clusters.
        evidence: The path of the evidence, from the folder of Pulumi.yaml; empty for
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
        verdict: ``capped``: it is worse, but its ``max_ratio`` gives it no more pods. ``skipped``: there is
            nothing to judge.
        against: The pods that its pods on Graviton are compared with.
        graviton_pods: The number of its pods on Graviton at the end of the window.
        pods: The number of all its pods at that time.
        pod_hours: The hours of its pods on Graviton within the window.
        figures: The compared figures.
        reasons: Why it does not pass.
        max_ratio: The cap with which the fleet may go on without it; None if no cap is needed.
    """

    workload: str
    verdict: GateVerdict
    against: str = ""
    graviton_pods: int = 0
    pods: int = 0
    pod_hours: float = 0.0
    figures: Sequence[FigureComparison] = ()
    reasons: Sequence[str] = ()
    max_ratio: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetVerdict:
    """The gate's verdict.

    Attributes:
        verdict: The verdict.
        reasons: The reasons, a sentence each.
        workloads: The workloads' verdicts, by key.
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

    - ``step-back``: workloads that are worse beyond ``step_back`` have more than ``step_back_share`` of the
      pods on Graviton.
    - ``hold``: a workload is worse and not capped, or the step is not old enough.
    - ``unknown``: something could not be judged, and nothing is known to be worse.
    - ``pass``: anything else, if at least one workload passes, or if no pod is on Graviton at ratio 0.

    A worse workload holds the fleet until it is capped. Its ``max_ratio`` must give it no more pods at the
    next step. If it is worse beyond ``step_back``, the cap must be 0 (or ``hold``).

    Args:
        arm_ratio: The ratio to judge.
        at: The time to judge.
        since: When the ratio last moved; None if that is unknown.
        soak: How long the ratio must have lasted.
        gate: The settings.
        caps: Workload key to the largest share of its pods on Graviton; 0 for a held workload.
        now: The measurement up to ``at``.
        before: The measurement up to ``since``.
    """
    # Before the first step there is nothing to soak. Otherwise no ramp could begin.
    began = arm_ratio > 0 or since is not None
    soaked, waiting = _soaked(at, since, soak) if began else ("pass", "")
    if now.problem:
        return FleetVerdict(verdict="unknown", reasons=[now.problem])
    keys = sorted(now.sides)
    judged = [_judge_workload(key, gate, caps, now, before) for key in keys]
    verdict, reasons = _fleet(arm_ratio, judged, gate)
    if verdict == "step-back":
        return FleetVerdict(verdict=verdict, reasons=reasons, workloads=judged)
    if soaked == "hold" and verdict in ("pass", "unknown"):
        verdict = "hold"
    elif soaked == "unknown" and verdict == "pass":
        verdict = "unknown"
    if waiting:
        reasons = [waiting, *(reasons if not all(map(_good, judged)) else [])]
    return FleetVerdict(verdict=verdict, reasons=reasons, workloads=judged)


def _soaked(at: datetime, since: datetime | None, soak: timedelta) -> tuple[Verdict, str]:
    if not soak:
        return "pass", ""
    if since is None:
        return "unknown", (
            "the time of the last step is unknown; set archshift:ramp.since, give --since, or set "
            "archshift:gate.soak to 0h"
        )
    stood = at - since
    if stood < timedelta(0):
        return (
            "unknown",
            f"the last step was at {since.isoformat()}, which is in the future; correct archshift:ramp.since "
            "or --since",
        )
    if stood < soak:
        ends = (since + soak).isoformat(timespec="minutes")
        return "hold", f"the step has soaked for {_hours(stood)} of {short(soak)}; the soak ends at {ends}"
    return "pass", ""


def _good(workload: JudgedWorkload) -> bool:
    return workload.verdict in ("pass", "capped", "skipped")


def _fleet(
    arm_ratio: float, judged: Sequence[JudgedWorkload], gate: GateSettings
) -> tuple[Verdict, list[str]]:
    by_verdict: dict[str, list[JudgedWorkload]] = {}
    for row in judged:
        by_verdict.setdefault(row.verdict, []).append(row)
    bad, worse = by_verdict.get("step-back", []), by_verdict.get("hold", [])
    unknown, passed = by_verdict.get("unknown", []), by_verdict.get("pass", [])
    reasons = [f"{row.workload}: {reason}" for row in (*bad, *worse) for reason in row.reasons]
    reasons += _grouped(unknown)
    pod_hours = sum(row.pod_hours for row in judged if row.verdict != "skipped")
    share = sum(row.pod_hours for row in bad) / pod_hours if pod_hours else 0.0
    if bad and share > gate.step_back_share:
        return "step-back", [
            f"{share:.0%} of the pods on Graviton belong to workloads that do much worse there",
            *reasons,
        ]
    if bad or worse:
        caps = ", ".join(f"{row.workload}: {{max_ratio: {row.max_ratio:g}}}" for row in (*bad, *worse))
        return "hold", [*reasons, f"the fleet may go on with archshift:workloads.overrides {caps}"]
    if unknown:
        return "unknown", reasons
    if passed:
        return "pass", [
            f"{len(passed)} workloads do as well on Graviton as on x86",
            *_capped_reasons(by_verdict),
        ]
    if arm_ratio == 0:
        return "pass", ["nothing runs on Graviton yet, and Prometheus sees all pods and their nodes"]
    return "unknown", [
        "no workload on Graviton could be judged; run archshift status to see what should be there"
    ]


def _capped_reasons(by_verdict: Mapping[str, Sequence[JudgedWorkload]]) -> list[str]:
    return [
        f"the fleet goes on without {row.workload}: {'; '.join(row.reasons)}"
        for row in by_verdict.get("capped", [])
    ]


def _grouped(unknown: Iterable[JudgedWorkload]) -> list[str]:
    """Return each reason once, with the workloads that share it."""
    groups: dict[str, list[str]] = {}
    for row in unknown:
        for reason in row.reasons:
            groups.setdefault(reason, []).append(row.workload)
    return [f"{first_few(keys)}: {reason}" for reason, keys in groups.items()]


_Base = tuple[str, ArchitectureFigures]


def _judge_workload(
    key: str, gate: GateSettings, caps: Mapping[str, float], now: Measurement, before: Measurement | None
) -> JudgedWorkload:
    sides = now.sides[key]
    own = gate.workloads.get(key) or WorkloadTolerances()
    graviton = sides.get(ARM64)
    if graviton is None or not graviton.pod_hours:
        return JudgedWorkload(workload=key, verdict="skipped", reasons=["no pod on Graviton"])
    x86_pods = sides[AMD64].pods if AMD64 in sides else 0

    def judged(verdict: GateVerdict, *reasons: str, **more: Any) -> JudgedWorkload:
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
        return judged("unknown", f"its pods on Graviton existed for only {there}; wait")
    base = _base(key, now, before, enough)
    if isinstance(base, str):
        return judged("unknown", base)
    if base is None:
        return judged("skipped", "new since the step: there is nothing to compare it with")
    against, side = base
    comparisons = [
        comparison
        for figure in FIGURES.values()
        if figure.name not in own.skip
        and (comparison := _compare(figure, graviton, side, against, gate, own))
    ]
    worst = _worst([each.verdict for each in comparisons])
    reasons = [each.reason for each in comparisons if each.verdict == worst and each.reason]
    verdict, max_ratio, note = _capped(worst, caps.get(key), graviton.pods, graviton.pods + x86_pods)
    if verdict == "capped" and any(each.verdict == "unknown" for each in comparisons):
        # Its cap permits only what is known to be worse.
        verdict = "unknown"
        reasons += [each.reason for each in comparisons if each.verdict == "unknown"]
    return judged(
        verdict, *reasons, *filter(None, [note]), against=against, figures=comparisons, max_ratio=max_ratio
    )


def _compare(
    figure: Figure,
    graviton: ArchitectureFigures,
    base: ArchitectureFigures,
    against: str,
    gate: GateSettings,
    own: WorkloadTolerances,
) -> FigureComparison | None:
    tolerance = own.tolerances.get(figure.name) or gate.tolerances.get(figure.name) or figure.tolerance
    mine, theirs = graviton.figures.get(figure.name), base.figures.get(figure.name)
    return compare(figure, mine, theirs, against, tolerance, own.min_samples or gate.min_samples)


def needs_before(now: Measurement) -> bool:
    """Return whether a workload must be compared with its pods before the step."""
    enough = _enough(now)
    return any(
        ARM64 in sides and (AMD64 not in sides or sides[AMD64].hours < enough) for sides in now.sides.values()
    )


def _enough(measured: Measurement) -> float:
    return min(_PRESENT / timedelta(hours=1), measured.window.hours / 2)


def _base(key: str, now: Measurement, before: Measurement | None, enough: float) -> _Base | str | None:
    """Return the pods to compare with; a sentence if they are unknown; None if there were none."""
    x86 = now.sides[key].get(AMD64)
    if x86 and x86.hours >= enough:
        return "x86", x86
    if before is None or before.problem:
        why = f": {before.problem}" if before else ""
        return f"it has no pods on x86 to compare with, and its pods before the step are unknown{why}"
    earlier = before.sides.get(key, {})
    for arch, name in ((AMD64, "x86 before the step"), (ARM64, "Graviton before the step")):
        side = earlier.get(arch)
        if side and side.hours >= _enough(before):
            return name, side
    if earlier or x86:
        return "the pods to compare it with existed for too short a time; wait, or skip it with a reason"
    return None


_ORDER: Final[Mapping[str, int]] = {"pass": 0, "unknown": 1, "hold": 2, "step-back": 3}


def _worst(verdicts: Sequence[Verdict]) -> Verdict:
    return max(verdicts, key=lambda verdict: _ORDER[verdict], default="unknown")


def _capped(
    worst: Verdict, cap: float | None, graviton: int, pods: int
) -> tuple[GateVerdict, float | None, str]:
    """Return a workload's verdict with its cap, the cap to suggest, and a note."""
    if worst not in ("hold", "step-back"):
        return worst, None, ""
    # Rounded up, so that the cap leaves the present pods.
    present_share = math.ceil(graviton / pods * 100) / 100 if pods and worst == "hold" else 0.0
    if cap is None or cap >= 1:
        return worst, present_share, ""
    if graviton > int(cap * pods + 1e-9):
        return worst, min(cap, present_share), f"its max_ratio {cap:g} is not in effect yet; run pulumi up"
    if worst == "hold":
        return "capped", None, f"its max_ratio {cap:g} gives it no more pods"
    return worst, 0.0, f"its max_ratio {cap:g} leaves pods on Graviton that do much worse"


def _hours(length: timedelta) -> str:
    hours = length / timedelta(hours=1)
    return f"{hours:.0f} h" if hours >= 10 else f"{hours:.1f} h"
