"""Apportionment: how many pods of each workload run on Graviton at a ratio of the fleet.

If each workload were rounded alone, the total would drift (0.214 for 0.2 on 50 workloads), and all
workloads with a single pod would move at 0.5. Instead every pod has a fixed threshold, and the pods with the
lowest thresholds move. So the total is exact, and a higher ratio never gives a workload fewer pods on
Graviton. Workloads with a single pod move one after the other.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
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
    """

    key: str
    replicas: int
    wave: Wave | None = None
    max_ratio: float = 1.0

    @property
    def cap(self) -> int:
        """The largest number of pods that may run on Graviton."""
        # The tolerance keeps 0.29 * 100 = 28.999999999999996 from losing a pod.
        return int(self.max_ratio * self.replicas + 1e-9)


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


def apportion(arm_ratio: float, shares: Iterable[Share]) -> dict[str, int]:
    """Return how many pods of each workload belong on Graviton.

    Pod ``j`` (1..R) of a workload with phase ``u`` has the threshold ``(j - u) / R``. The ``fleet_target``
    pods with the lowest thresholds move. Pods above their workload's cap never move; pods of other workloads
    move instead, as long as there are such pods.

    Args:
        arm_ratio: 0.0 to 1.0.
        shares: The movable workloads; keys must be unique.

    Returns:
        The key of every share to its count, which may be 0.
    """
    shares = list(shares)
    thresholds = [
        ((j - phase(share.key, share.wave)) / share.replicas, share.key)
        for share in shares
        for j in range(1, share.cap + 1)
    ]
    thresholds.sort()
    counts = dict.fromkeys((share.key for share in shares), 0)
    for _, key in thresholds[: fleet_target(arm_ratio, sum(share.replicas for share in shares))]:
        counts[key] += 1
    return counts


def starts_on_graviton(arm_ratio: float, key: str, wave: Wave | None = None) -> bool:
    """Return whether the next pods of a workload without permanent pods start on Graviton.

    CronJobs and workloads with 0 replicas have no pods to count. They change sides as a whole when the ratio
    reaches the threshold of a single pod.
    """
    return arm_ratio >= 1 - phase(key, wave)
