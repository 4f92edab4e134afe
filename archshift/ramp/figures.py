"""What is compared between Graviton and x86, how much worse is how bad, and one figure's verdict. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from archshift.ramp.measurement import ArchitectureFigures, FigureValue

Verdict = Literal["pass", "hold", "step-back", "unknown"]

_ALWAYS: Final = ("restarts", "memory")
"""Figures of every pod, whatever its application measures."""


LEAST_EVENTS: Final = 1.5
"""Fewer restarts or OOM kills than this are no pattern: one, and what rates may make of it."""

Severity = Literal["pass", "hold", "step-back"]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much Graviton may be worse.

    Attributes:
        hold: More than this holds the ramp.
        step_back: More than this asks for a step back; infinite for never.
    """

    hold: float
    step_back: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One thing that is compared.

    Attributes:
        name: Its key in the configuration and in the evidence.
        title: Its name for people.
        unit: ``s``, ``share``, ``bytes``, ``cores`` or ``events`` (a pod and day).
        tolerance: The default: a share of x86's figure if ``relative``, else a difference.
        relative: Whether it is compared as a multiple.
        slack: A difference that is never worse, on top: of a millisecond 10 % is noise.
        counted: Whether it is one of requests or periods, of which there have to be enough.
    """

    name: str
    title: str
    unit: Literal["s", "share", "bytes", "cores", "events"]
    tolerance: Tolerance
    relative: bool = False
    slack: float = 0.0
    counted: bool = False

    def limit(self, base: float, worse_by: float) -> float:
        """Return the most that Graviton may have where x86 has ``base``."""
        return base * (1 + worse_by) + self.slack if self.relative else base + worse_by + self.slack

    def severity(self, graviton: float, base: float, tolerance: Tolerance) -> Severity:
        """Judge Graviton's figure against x86's; both are numbers from 0."""
        if graviton > self.limit(base, tolerance.step_back):
            return "step-back"
        return "hold" if graviton > self.limit(base, tolerance.hold) else "pass"


FIGURES: Final = {
    figure.name: figure
    for figure in (
        Figure(
            name="latency_p95",
            title="p95 latency",
            unit="s",
            tolerance=Tolerance(0.10, 0.50),
            relative=True,
            slack=0.005,
            counted=True,
        ),
        Figure(
            name="error_ratio",
            title="errors",
            unit="share",
            tolerance=Tolerance(0.005, 0.05),
            counted=True,
        ),
        Figure(name="restarts", title="restarts", unit="events", tolerance=Tolerance(0.5, 4.0)),
        Figure(name="oom_kills", title="OOM kills", unit="events", tolerance=Tolerance(0.25, 2.0)),
        Figure(
            name="cpu_throttling",
            title="CPU throttling",
            unit="share",
            tolerance=Tolerance(0.10, 0.40),
            counted=True,
        ),
        # More memory hurts nobody by itself; what it leads to is counted as OOM kills.
        Figure(
            name="memory",
            title="memory of a pod",
            unit="bytes",
            tolerance=Tolerance(0.25),
            relative=True,
            slack=32 * 1024**2,
        ),
    )
}


Tolerances = Mapping[str, Tolerance]
"""Figure name to tolerance; what is missing has the default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTolerances:
    """What the configuration says of one workload (``archshift:gate.workloads``).

    Attributes:
        tolerances: Of its own.
        min_samples: Of its own; None for the stack's.
        skip: Figures that are not judged.
        reason: Why some are not.
    """

    tolerances: Tolerances = field(default_factory=dict)
    min_samples: int | None = None
    skip: frozenset[str] = frozenset()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureComparison:
    """One figure of one workload.

    Attributes:
        figure: Its name.
        verdict: Pass, hold, step-back or unknown.
        graviton: Graviton's figure; None where there is none.
        base: What it is held against; None where there is none.
        limit: From where on it holds.
        reason: Why it does not pass; empty if it does.
    """

    figure: str
    verdict: Verdict
    graviton: float | None = None
    base: float | None = None
    limit: float | None = None
    reason: str = ""


def compare(
    figure: Figure,
    graviton: ArchitectureFigures,
    base: ArchitectureFigures,
    against: str,
    tolerance: Tolerance,
    min_samples: int,
) -> FigureComparison | None:
    """Compare one figure of a workload's pods on Graviton; None where neither side measures it nor need.

    Args:
        figure: Which.
        graviton: The pods on Graviton.
        base: What they are compared with.
        against: What that is called.
        tolerance: By how much they may be worse.
        min_samples: Requests or periods that both have to have.
    """
    mine, theirs = graviton.figures.get(figure.name), base.figures.get(figure.name)

    def unknown(reason: str) -> FigureComparison:
        return FigureComparison(
            figure=figure.name,
            verdict="unknown",
            graviton=_shown(mine),
            base=_shown(theirs),
            reason=f"{figure.title} {reason}",
        )

    if mine is None and theirs is None:
        return unknown("is measured on neither side") if figure.name in _ALWAYS else None
    if mine is None or theirs is None:
        missing, other = ("Graviton", against) if mine is None else (against, "Graviton")
        return unknown(f"is not measured on {missing}, as it is on {other}")
    for name, reading in (("Graviton", mine), (against, theirs)):
        if reading.problem:
            return unknown(f"on {name} {reading.problem}")
    if figure.counted:
        if not mine.samples and not theirs.samples:
            return None
        if mine.samples < min_samples or theirs.samples < min_samples:
            if figure.name == "cpu_throttling":
                return None  # it hardly ran, so nothing stopped it
            return unknown(
                f"needs {min_samples} requests on both sides and has {mine.samples:.0f} on Graviton, "
                f"{theirs.samples:.0f} on {against}"
            )
    severity: Verdict = figure.severity(mine.value, theirs.value, tolerance)
    if figure.unit == "events" and mine.samples < LEAST_EVENTS:
        severity = "pass"
    # Beyond the last bucket a figure is known from below alone: bad is then certain, good is not.
    if mine.at_least and severity == "pass":
        return unknown("on Graviton is beyond the histogram's last bucket; give it larger ones")
    if theirs.at_least and severity != "pass":
        return unknown(f"on {against} is beyond the histogram's last bucket; give it larger ones")
    limit = figure.limit(theirs.value, tolerance.hold)
    reason = ""
    if severity != "pass":
        what = figure.title + (" a pod and day" if figure.unit == "events" else "")
        values = [written(figure, number) for number in (mine.value, theirs.value, limit)]
        reason = f"{what} {values[0]} on Graviton, {values[1]} on {against}; up to {values[2]} passes"
    return FigureComparison(
        figure=figure.name,
        verdict=severity,
        graviton=mine.value,
        base=theirs.value,
        limit=limit,
        reason=reason,
    )


def _shown(reading: FigureValue | None) -> float | None:
    return reading.value if reading and math.isfinite(reading.value) else None


def written(figure: Figure, number: float | None) -> str:
    """Return a figure's value as people read it."""
    if number is None:
        return "-"
    match figure.unit:
        case "s":
            return f"{number * 1000:.0f} ms" if number < 10 else f"{number:.1f} s"
        case "share":
            return f"{number:.2%}"
        case "bytes":
            return f"{number / 1024**2:.0f} MiB"
        case _:
            return f"{number:.2f}"
