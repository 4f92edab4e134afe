"""How long an update waits for the rollouts that it starts; apart, because settings load before all else."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLimits:
    """How long an update waits for rollouts.

    Attributes:
        longest: The longest wait for all rollouts of an update together, in seconds.
        no_progress: How long a rollout may make no progress, in seconds. A Deployment may take as long as its
            own ``progressDeadlineSeconds``.
    """

    longest: float = 14_400.0
    no_progress: float = 600.0
