"""Which fault comes when: a pure function of the seed and the length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

RATIOS: Final = ("0.2", "0.5", "0.8", "1.0", "1.0")
"""The ramp; at the last, everything that can has moved and x86 is what somebody wants rid of."""
SHORT: Final = ("0.5", "1.0")
"""What a run of less than a minute of faults walks through."""

# Kind to how long it lasts, in seconds; 0 for what happens at once.
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
    "deploy": (0, 0),
    "scale": (0, 0),
    "kill": (0, 0),
    "remove-x86": (0, 0),
}
"""Every kind of fault; ``chaos.faults`` has what each does."""

_GAP: Final = (0.5, 4.5)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault.

    Attributes:
        at: Seconds after the begin of its phase.
        kind: One of ``KINDS``.
        seconds: How long it lasts.
        pick: From 0 to 1; chooses what is hit among what is there then.
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
    """A step of the ramp and the faults during it.

    Attributes:
        arm_ratio: The step.
        seconds: How long faults are injected.
        faults: In order.
    """

    arm_ratio: str
    seconds: float
    faults: tuple[Fault, ...]


def schedule(seed: int, minutes: float) -> tuple[Phase, ...]:
    """Return the phases of a run.

    Args:
        seed: Any number; the same one gives the same schedule, on every machine.
        minutes: How long faults are injected, over all phases.
    """
    # A text, and `random()` alone: Python promises that these stay as they are.
    random = Random(f"archshift chaos {seed}")  # noqa: S311 - it has to be foreseeable
    ratios = RATIOS if minutes >= 1 else SHORT
    seconds = minutes * 60 / len(ratios)
    bag: list[str] = []
    return tuple(Phase(ratio, seconds, _faults(random, seconds, bag)) for ratio in ratios)


def _faults(random: Random, seconds: float, bag: list[str]) -> tuple[Fault, ...]:
    found, at = [], _between(random, (0, 2))
    while at < seconds:
        if not bag:
            # All kinds come before one comes again, so that a short run has seen most.
            bag += _shuffled(random, list(KINDS))
        kind = bag.pop()
        found.append(Fault(at, kind, _between(random, KINDS[kind]), random.random()))
        at += _between(random, _GAP)
    return tuple(found)


def _between(random: Random, limits: tuple[float, float]) -> float:
    low, high = limits
    return round(low + (high - low) * random.random(), 3)


def _shuffled(random: Random, items: Sequence[str]) -> list[str]:
    return [item for _, item in sorted((random.random(), item) for item in items)]
