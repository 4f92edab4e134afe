"""Chooses the faults and their times: a pure function of the seed and the length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

RATIOS: Final = ("0.2", "0.5", "0.8", "1.0", "1.0")
"""The ramp. At the last step, every movable pod has moved, and the run tries to remove x86."""
SHORT: Final = ("0.5", "1.0")
"""The ramp for less than a minute of faults."""

# Kind to its shortest and longest duration in seconds; 0 for an instant fault.
KINDS: Final[dict[str, tuple[float, float]]] = {
    "api-restart": (0.5, 4),
    "drop": (0, 0),
    "refuse": (1, 5),
    "slow": (4, 12),
    "stall": (2, 8),
    "throttle": (2, 6),
    "registry": (4, 12),
    "node": (0, 0),
    "unpatch": (0, 0),
    "take": (4, 12),
    "cordon": (3, 10),
    "taint": (3, 10),
    "deploy": (0, 0),
    "scale": (0, 0),
    "autoscale": (3, 8),
    "delete": (2, 6),
    "pause": (3, 10),
    "undo": (0, 0),
    "reapply": (0, 0),
    "stuck": (4, 12),
    "kill": (0, 0),
    "remove-x86": (0, 0),
}
"""Every kind of fault; ``chaos.faults`` injects them."""

_FIRST: Final = (0, 2)
"""Seconds from the start of a phase to its first fault, if the run is long enough."""
_GAP: Final = (0.5, 4.5)
"""Seconds between two faults, if the run is long enough."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault.

    Attributes:
        at: Seconds after the start of its phase.
        kind: A key of ``KINDS``.
        seconds: How long it lasts.
        pick: From 0 to 1; chooses the target among the objects that exist then.
    """

    at: float
    kind: str
    seconds: float
    pick: float

    def __str__(self) -> str:
        lasting = f" for {self.seconds:.1f} s" if self.seconds else ""
        return f"{self.at:5.1f} s {self.kind}{lasting} ({self.pick:.3f})"


@dataclass(frozen=True, slots=True)
class Phase:
    """A step of the ramp, with its faults.

    Attributes:
        arm_ratio: The step.
        seconds: How long to inject faults.
        faults: In the order of their times.
    """

    arm_ratio: str
    seconds: float
    faults: tuple[Fault, ...]


def schedule(seed: int, minutes: float) -> tuple[Phase, ...]:
    """Return the phases of a run, which have every kind of fault at least once.

    Args:
        seed: Any number; the same seed gives the same schedule on every machine.
        minutes: How long to inject faults, over all phases.
    """
    # Use a text as the seed, and only `random()`: Python promises that these results never change.
    random = Random(f"archshift chaos {seed}")  # noqa: S311 - the schedule must be reproducible
    ratios = RATIOS if minutes >= 1 else SHORT
    seconds = minutes * 60 / len(ratios)
    # In a short run the faults come closer together, so that each kind has its turn.
    gaps = [_between(random, _GAP) for _ in KINDS]
    longest = sum(gaps) + len(ratios) * (_FIRST[1] + _GAP[1])
    pace = min(1.0, minutes * 60 / longest)
    bag: list[str] = []
    return tuple(Phase(ratio, seconds, _faults(random, seconds, pace, gaps, bag)) for ratio in ratios)


def _faults(
    random: Random, seconds: float, pace: float, gaps: list[float], bag: list[str]
) -> tuple[Fault, ...]:
    faults, at = [], pace * _between(random, _FIRST)
    while at < seconds:
        if not bag:
            # Each kind occurs once before any kind repeats.
            bag += _shuffled(random, list(KINDS))
        kind = bag.pop()
        faults.append(Fault(round(at, 3), kind, _between(random, KINDS[kind]), random.random()))
        at += pace * (gaps.pop() if gaps else _between(random, _GAP))
    return tuple(faults)


def _between(random: Random, limits: tuple[float, float]) -> float:
    low, high = limits
    return round(low + (high - low) * random.random(), 3)


def _shuffled(random: Random, items: Sequence[str]) -> list[str]:
    return [item for _, item in sorted((random.random(), item) for item in items)]
