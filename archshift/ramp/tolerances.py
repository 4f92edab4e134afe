"""What is compared between Graviton and x86, and how much worse is how bad. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from archshift.common.errors import ArchshiftError
from archshift.settings import values

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


def read_tolerances(key: str, value: Any) -> dict[str, Tolerance]:
    """Read figure name to ``{hold, step_back}``.

    Raises:
        ArchshiftError: A figure is unknown or a number does not do.
    """
    given = values.mapping(key, value)
    values.only(f"{key}.", given, set(FIGURES))
    return {name: _tolerance(f"{key}.{name}", one, FIGURES[name]) for name, one in given.items()}


def _tolerance(key: str, value: Any, figure: Figure) -> Tolerance:
    given = values.mapping(key, value)
    values.only(f"{key}.", given, {"hold", "step_back"})
    read = {name: _number(f"{key}.{name}", number, figure) for name, number in given.items()}
    tolerance = Tolerance(
        read.get("hold", figure.tolerance.hold), read.get("step_back", figure.tolerance.step_back)
    )
    if tolerance.step_back < tolerance.hold:
        raise ArchshiftError(
            f"{key}: step_back {tolerance.step_back:g} is less than hold {tolerance.hold:g}; "
            "what steps back has to be worse than what holds"
        )
    return tolerance


def _number(key: str, value: Any, figure: Figure) -> float:
    wanted = {
        "events": "a number from 0 (events a pod and day)",
        "share": "a share from 0.0 to 1.0",
    }.get(figure.unit, "a share from 0.0, such as 0.1 for 10 % more")
    most = 1.0 if figure.unit == "share" else 1000.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    return float(value)


def read_workloads(key: str, value: Any) -> dict[str, WorkloadTolerances]:
    """Read workload key to its tolerances, ``min_samples``, ``skip`` and ``reason``.

    Raises:
        ArchshiftError: A value does not do.
    """
    return {
        values.typed(key, name, str, "namespace/Kind/name"): _workload(f"{key}.{name}", one)
        for name, one in values.mapping(key, value).items()
    }


def _workload(key: str, value: Any) -> WorkloadTolerances:
    given = values.mapping(key, value)
    values.only(f"{key}.", given, {"tolerances", "min_samples", "skip", "reason"})
    skip = given.get("skip", [])
    skipped = frozenset(FIGURES) if skip is True else frozenset(values.texts(f"{key}.skip", skip or []))
    for name in skipped - set(FIGURES):
        raise ArchshiftError(
            f"{key}.skip: {name!r} is no figure; there are: {', '.join(FIGURES)}, or true for all"
        )
    reason = values.typed(f"{key}.reason", given.get("reason", ""), str, "text").strip()
    if skipped and not reason:
        raise ArchshiftError(
            f"{key}.skip leaves figures unjudged and needs a reason: beside it that says why"
        )
    return WorkloadTolerances(
        tolerances=read_tolerances(f"{key}.tolerances", given.get("tolerances", {})),
        min_samples=(
            values.size(1, "samples")(f"{key}.min_samples", given["min_samples"])
            if "min_samples" in given
            else None
        ),
        skip=skipped,
        reason=reason,
    )
