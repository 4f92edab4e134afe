"""Fleet apportionment: which share of every workload runs on Graviton at a given ratio.

Rounding each workload alone drifts (0.214 for 0.2 on 50 workloads) and makes all singletons
jump at 0.5. Here every pod has a fixed threshold and the fleet takes the lowest ones, so the
fleet total is exact, no workload's count falls when the ratio rises, and singletons move one
after the other.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Wave: TypeAlias = Literal["early", "late"]

# A wave is a tenth of the unit interval: inside it workloads still differ, so that even a
# fleet that is all "early" moves one workload after the other.
_WAVE_WIDTH = 0.1


@dataclass(frozen=True, slots=True)
class Share:
    """What the apportionment needs to know of one workload.

    Attributes:
        key: ``namespace/Kind/name``; the phase is derived from it.
        replicas: Number of pods, 0 or more.
        wave: Moves the workload's phase to one end; None leaves it to the hash.
        max_ratio: Upper bound of this workload's own share, 0.0 to 1.0.
    """

    key: str
    replicas: int
    wave: Wave | None = None
    max_ratio: float = 1.0

    @property
    def cap(self) -> int:
        """The most pods that may run on Graviton."""
        # The tolerance keeps 0.29 * 100 = 28.999999999999996 from losing a pod.
        return int(self.max_ratio * self.replicas + 1e-9)


def phase(key: str, wave: Wave | None = None) -> float:
    """Return the workload's phase, a number in the open interval (0, 1), the same in every run.

    A larger phase lets the workload's pods move earlier.
    """
    digest = hashlib.blake2b(key.encode(), digest_size=8).digest()
    # 52 bits so that the value is exact in a float; + 1 and + 2 keep it off both ends.
    fraction = ((int.from_bytes(digest) >> 12) + 1) / ((1 << 52) + 2)
    if wave == "early":
        return 1 - _WAVE_WIDTH + _WAVE_WIDTH * fraction
    if wave == "late":
        return _WAVE_WIDTH * fraction
    return fraction


def fleet_target(arm_ratio: float, pods: int) -> int:
    """Return how many of ``pods`` belong on Graviton: ``round(arm_ratio * pods)``."""
    return round(arm_ratio * pods)


def apportion(arm_ratio: float, shares: Iterable[Share]) -> dict[str, int]:
    """Return how many pods of each workload belong on Graviton.

    Pod ``j`` (1..R) of a workload with phase ``u`` has threshold ``(j - u) / R``; the
    ``fleet_target`` lowest thresholds of the whole fleet move. A capped workload's pods over
    its cap never move, and others go in their place for as long as there are any.

    Args:
        arm_ratio: 0.0 to 1.0.
        shares: The movable workloads; keys must be unique.

    Returns:
        Key to count, for every share given, zeros included.
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
    """Say where the next pod of a workload without standing pods goes.

    CronJobs and workloads scaled to zero have nothing to count; they switch over as a whole
    when the ratio passes the threshold that a single pod of theirs would have.
    """
    return arm_ratio >= 1 - phase(key, wave)
