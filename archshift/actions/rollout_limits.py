"""How long an update waits for pods that it moves; apart, because settings load before all else."""

from dataclasses import dataclass
from typing import Final

LITTLE_PATIENCE_SECONDS: Final = 15.0
"""How long a workload that was incomplete before the step may stand still before archshift gives it up.

Nodes of the same update may let its pods run, so archshift looks for a moment. The time counts from the last
progress of any workload of the step: the scheduler takes pods one after another.
"""

_SHORTEST_PATIENCE_SECONDS: Final = 1.0
_PATIENCE_SHARE: Final = 0.2


def little_patience(elapsed: float, *, delays_others: bool) -> float:
    """Return how long a workload that was incomplete before the step may stand still, in seconds.

    Args:
        elapsed: The time since the first look at the step's rollouts, in seconds.
        delays_others: Whether the update waits only for such workloads, because the rollouts of others have
            ended. It then waits at most a fifth of the time that these took.
    """
    if not delays_others:
        return LITTLE_PATIENCE_SECONDS
    return min(LITTLE_PATIENCE_SECONDS, max(_SHORTEST_PATIENCE_SECONDS, _PATIENCE_SHARE * elapsed))


NO_DEADLINE: Final = 2**31 - 1
"""``progressDeadlineSeconds`` of a Deployment without a deadline."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLimits:
    """How long an update waits for rollouts, and for pods that it evicts.

    Attributes:
        longest: The longest wait for all rollouts of an update together, in seconds.
        no_progress: How long a rollout may make no progress, in seconds. A Deployment may take as long as its
            own ``progressDeadlineSeconds``.
        canary_seconds: How long a workload's first pod on Graviton must be ready before others follow, in
            seconds. The workload's own ``minReadySeconds`` counts if it is longer.
    """

    longest: float = 14_400.0
    no_progress: float = 600.0
    canary_seconds: float = 0.0
