"""One figure of one workload, Graviton's held against x86's. Pure."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from archshift.ramp.measurement import Reading, Side
from archshift.ramp.tolerances import LEAST_EVENTS, Figure, Tolerance

Verdict = Literal["pass", "hold", "step-back", "unknown"]

_ALWAYS: Final = ("restarts", "memory")
"""Figures of every pod, whatever its application measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
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
    figure: Figure, graviton: Side, base: Side, against: str, tolerance: Tolerance, min_samples: int
) -> Comparison | None:
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

    def unknown(reason: str) -> Comparison:
        return Comparison(
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
    return Comparison(
        figure=figure.name,
        verdict=severity,
        graviton=mine.value,
        base=theirs.value,
        limit=limit,
        reason=reason,
    )


def _shown(reading: Reading | None) -> float | None:
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
