"""Apportionment: how many pods of each workload run on Graviton at a ratio of the fleet.

If each workload were rounded alone, the total would drift: 0.214 for 0.2 on 50 workloads. All workloads
with a single pod would move at 0.5. Instead every pod has a fixed threshold, and the pods with the
lowest thresholds move. So the total is exact, and a higher ratio never gives a workload fewer pods on
Graviton. Workloads with a single pod move one after the other.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import Literal, TypeAlias

Wave: TypeAlias = Literal["early", "late"]

# A wave is a tenth of the interval from 0 to 1. Workloads differ within it, so even a fleet that is all
# "early" moves one workload after the other.
_WAVE_WIDTH = 0.1


@dataclass(frozen=True, slots=True)
class Share:
    """What apportionment must know about a workload.

    Attributes:
        key: ``namespace/Kind/name``; its hash decides the phase.
        replicas: The number of pods, 0 or more.
        wave: Moves the phase to one end of its range; None leaves it as the hash gives it.
        max_ratio: The largest share of the workload's pods on Graviton, 0.0 to 1.0.
        levels: The numbers of pods that can run on Graviton, in ascending order; empty for any number.
        unit: Workloads with the same unit move all their pods together; empty if it moves alone.
    """

    key: str
    replicas: int
    wave: Wave | None = None
    max_ratio: float = 1.0
    levels: tuple[int, ...] = ()
    unit: str = ""

    @property
    def cap(self) -> int:
        """The largest number of pods that may run on Graviton."""
        # The tolerance keeps 0.29 * 100 = 28.999999999999996 from losing a pod.
        return int(self.max_ratio * self.replicas + 1e-9)

    @property
    def start(self) -> int:
        """The smallest number of pods that can run on Graviton."""
        return self.levels[0] if self.levels else 0


def phase(key: str, wave: Wave | None = None) -> float:
    """Return the workload's phase: a number between 0 and 1, both excluded, that is the same in every run.

    The pods of a workload with a larger phase move earlier.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    # 52 bits make the value exact in a float. + 1 and + 2 exclude 0 and 1.
    fraction = ((int.from_bytes(digest) >> 12) + 1) / ((1 << 52) + 2)
    if wave == "early":
        return 1 - _WAVE_WIDTH + _WAVE_WIDTH * fraction
    if wave == "late":
        return _WAVE_WIDTH * fraction
    return fraction


def fleet_target(arm_ratio: float, pods: int) -> int:
    """Return how many of ``pods`` belong on Graviton, rounded."""
    return round(arm_ratio * pods)


@dataclass(frozen=True, slots=True)
class _Step:
    """Pods that move to Graviton together.

    Attributes:
        threshold: Steps with lower thresholds come first.
        key: The workload, or the unit.
        pods: Their number.
        after: The number of the workload's pods on Graviton before the step; None for a unit.
        most_over: How far the step may pass the fleet's target.
    """

    threshold: float
    key: str
    pods: int
    after: int | None
    most_over: int = 0


def apportion(arm_ratio: float, shares: Iterable[Share]) -> dict[str, int]:
    """Return how many pods of each workload belong on Graviton.

    Pod ``j`` (1..R) of a workload with phase ``u`` has the threshold ``(j - u) / R``. The ``fleet_target``
    pods with the lowest thresholds move. Pods above their workload's cap never move; pods of other workloads
    move instead, as long as there are such pods.

    Pods that can only move together are decided first. They move when everything before them and they
    themselves fit into the target, rounded. Then single pods fill the fleet up to its target.

    Args:
        arm_ratio: 0.0 to 1.0.
        shares: The movable workloads; keys must be unique.

    Returns:
        The key of every share to its count, which may be 0.
    """
    shares = list(shares)
    target = fleet_target(arm_ratio, sum(share.replicas for share in shares))
    counts = {share.key: 0 if share.unit else share.start for share in shares}
    steps = [*(step for share in shares if not share.unit for step in _steps(share)), *_unit_steps(shares)]
    steps.sort(key=lambda step: (step.threshold, step.key))
    before = sum(counts.values())
    moving: set[str] = set()
    for step in steps:
        before += step.pods
        if before > target + step.most_over:
            continue
        if step.after is None:
            moving.add(step.key)
        elif step.pods > 1:
            counts[step.key] = step.after + step.pods
    counts |= {share.key: share.replicas for share in shares if share.unit in moving}
    spare = target - sum(counts.values())
    for step in steps:
        if spare > 0 and step.pods == 1 and step.after is not None and step.after == counts[step.key]:
            counts[step.key] += 1
            spare -= 1
    return counts


def _steps(share: Share) -> list[_Step]:
    """Return the steps of a workload that moves alone."""
    if not share.levels:
        ups: Iterable[tuple[int, int]] = ((pod - 1, pod) for pod in range(1, share.cap + 1))
    else:
        ups = [(low, high) for low, high in pairwise(share.levels) if high <= share.cap]
    u = phase(share.key, share.wave)
    return [
        # If a workload's own rules leave a gap below all of its pods, it closes that gap last of all.
        _Step(inf, share.key, high - low, low)
        if high - low > 1 and high == share.replicas and low
        else _Step((high - u) / share.replicas, share.key, high - low, low, (high - low) // 2)
        for low, high in ups
    ]


def _unit_steps(shares: Iterable[Share]) -> list[_Step]:
    units: dict[str, list[Share]] = {}
    for share in shares:
        if share.unit:
            units.setdefault(share.unit, []).append(share)
    steps = []
    for unit, members in units.items():
        wave = next((share.wave for share in members if share.wave), None)
        pods = sum(share.replicas for share in members)
        steps.append(_Step(1 - phase(unit, wave), unit, pods, None, pods // 2))
    return steps


def starts_on_graviton(arm_ratio: float, key: str, wave: Wave | None = None) -> bool:
    """Return whether the next pods of a workload without permanent pods start on Graviton.

    CronJobs and workloads with 0 replicas have no pods to count. They change sides as a whole when the ratio
    reaches the threshold of a single pod.
    """
    return arm_ratio >= 1 - phase(key, wave)
