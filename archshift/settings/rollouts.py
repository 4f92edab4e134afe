"""``archshift:rollouts``: how long an update waits for the rollouts that it starts."""

from typing import Annotated, Final

from msgspec import Meta

from archshift.actions.rollout_limits import RolloutLimits
from archshift.settings.reading import Model, says
from archshift.settings.values import Seconds

_LIMITS: Final = RolloutLimits()


class RolloutsModel(Model, frozen=True, kw_only=True):
    """How long an update waits for the rollouts that it starts."""

    longest_seconds: Annotated[
        Seconds,
        says(
            "The longest wait for all rollouts of an update. Rollouts that still make progress then go on "
            "without the update, which names them.",
            3600,
        ),
    ] = int(_LIMITS.longest)
    no_progress_seconds: Annotated[
        Seconds,
        says(
            "How long a rollout may make no progress. Then it fails the update, after all else is done. "
            "A Deployment may take as long as its own `progressDeadlineSeconds`.",
            1200,
        ),
    ] = int(_LIMITS.no_progress)

    canary_seconds: Annotated[
        int,
        Meta(ge=0, extra={"unit": "seconds"}),
        says(
            "With `placement: admission`: how long a workload's first pod on Graviton must be ready before "
            "other pods of the workload follow. Its own `minReadySeconds` counts if it is longer.",
            300,
        ),
    ] = int(_LIMITS.canary_seconds)

    def limits(self) -> RolloutLimits:
        """Return how long an update waits."""
        return RolloutLimits(
            longest=self.longest_seconds,
            no_progress=self.no_progress_seconds,
            canary_seconds=self.canary_seconds,
        )
