"""Gives the patches back when a stack goes over to ``placement: admission``, and follows the rollouts.

The engine deletes the patches too, but only after the program has ended. Then nobody waits for the rollouts.
"""

from collections.abc import Callable, Container, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Final

from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import StepResult, finish_step
from archshift.actions.workload_patch import give_back
from archshift.cluster.client import Cluster, RefusedError
from archshift.plan.model import PlannedWorkload

_WORKERS: Final = 8


def leave_patches(
    cluster: Cluster,
    rows: Sequence[PlannedWorkload],
    *,
    field_manager: str,
    stack_label: str,
    limits: RolloutLimits,
    incomplete: Container[str] = (),
    say: Callable[[str], None] = lambda _: None,
) -> StepResult:
    """Give patches back after the entries were applied, and follow the rollouts to their ends.

    Args:
        cluster: The connection.
        rows: The workloads that lose their patch.
        field_manager: The field manager of the patches.
        stack_label: The stack, to keep the evidence of pods that do not run on Graviton.
        limits: How long to wait.
        incomplete: The keys of workloads that were incomplete before the step.
        say: Called with the progress.

    Returns:
        How it ended. Where the API server refuses, the patch stays, and the engine fails when it deletes it.

    Raises:
        ArchshiftError: The API server cannot be reached for a minute.
    """

    def refusal(row: PlannedWorkload) -> str:
        try:
            give_back(cluster, row.kind, row.namespace, row.name, field_manager)
        except RefusedError as error:
            return f"the API server refuses to give its fields back: {error.words}"
        return ""

    with ThreadPoolExecutor(max_workers=_WORKERS) as threads:
        refusals = dict(zip([row.key for row in rows], threads.map(refusal, rows), strict=True))
    refused = {key: why for key, why in refusals.items() if why}
    rolled = [row for row in rows if row.restarts and row.key not in refused]
    result = (
        finish_step(cluster, rolled, incomplete=incomplete, limits=limits, stack_label=stack_label, say=say)
        if rolled
        else StepResult()
    )
    return replace(result, notes=refused | {**result.notes})
