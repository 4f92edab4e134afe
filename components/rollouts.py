"""Waits until the rollouts of a step are really complete, then corrects the counts.

Nothing else waits for rollouts. Only workloads whose patch this update has really applied count: a destroy,
a ``--target`` elsewhere and a refused patch roll nothing out (docs/adr/0013).
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias

import pulumi

from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import (
    JOIN_SECONDS,
    BringUpNodes,
    StepResult,
    finish_step,
    incomplete_workloads,
    planned_revision,
)
from archshift.actions.workload_patch import GONE
from archshift.cluster.client import connect
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.plan.model import Plan, PlannedWorkload
from components import engine_text
from components.workload_patch import WorkloadPatch

_Outputs: TypeAlias = tuple[str | None, str | None, float | None]
"""Of one patch. A patch that the engine skips because of ``--target`` has none."""


def await_rollouts(
    patches: Mapping[str, WorkloadPatch],
    plan: Plan,
    inventory: Inventory,
    kube_context: str | None,
    limits: RolloutLimits,
    stack_label: str,
    *,
    since: datetime,
    bring_up_nodes: BringUpNodes | None = None,
) -> pulumi.Output[StepResult]:
    """Wait for the rollouts after all patches, then move the pods that are still on the wrong side.

    Args:
        patches: What became of the patches, by workload key.
        plan: The plan.
        inventory: The cluster before the step.
        kube_context: Kubeconfig context.
        limits: How long to wait.
        stack_label: The stack, as ``stack_label`` writes it.
        since: When this run began.
        bring_up_nodes: Brings up nodes for these pods; None if the nodes exist.

    Returns:
        How the step ended.
    """
    if pulumi.runtime.is_dry_run():
        return pulumi.Output.from_input(StepResult())
    rows = [row for row in plan.workloads if row.key in patches]

    def work(rolled: list[PlannedWorkload]) -> StepResult:
        with connect(kube_context) as cluster:
            return finish_step(
                cluster,
                rolled,
                incomplete=incomplete_workloads(inventory),
                limits=limits,
                stack_label=stack_label,
                bring_up_nodes=bring_up_nodes,
                # New nodes of this update join the cluster a little later.
                patience=JOIN_SECONDS if plan.new_nodes else 0.0,
                nodes_before=inventory.nodes,
                say=lambda text: engine_text.info(text, ephemeral=True),
            )

    async def after(outputs: list[_Outputs]) -> StepResult:
        # A patch that this run does not touch, in a destroy or because of --target, has an old time.
        tried = [
            (row, revision, problem)
            for row, (revision, problem, at) in zip(rows, outputs, strict=True)
            if (at or 0) >= since.timestamp()
        ]
        problems = {row.key: problem for row, _, problem in tried if problem}
        gone = {key: "it was deleted during the step" for key in problems if problems[key] == GONE}
        refused = {key: f"its patch was refused: {problems[key]}" for key in problems if key not in gone}
        rolled = [row for row, revision, _ in tried if row.restarts and revision == planned_revision(row)]
        try:
            result = await asyncio.to_thread(work, rolled) if rolled else StepResult()
        except ArchshiftError as error:
            result = StepResult(failures={"the rollouts": str(error)})
        return replace(result, failures=refused | {**result.failures}, notes=gone | {**result.notes})

    # Only after all patches: a pod that moves while others roll out may find no room again. By then
    # the engine has finished every patch, so the event loop's own threads are free.
    over = pulumi.Output.all(
        *(
            pulumi.Output.all(patch.revision, patch.problem, patch.at)
            for patch in (patches[row.key] for row in rows)
        )
    )
    outcome: pulumi.Output[StepResult] = over.apply(after)
    return outcome


def log_ends(ends: Sequence[pulumi.Output[StepResult]], *after: pulumi.Output[Any]) -> pulumi.Output[None]:
    """Log how the parts of a step ended.

    A failure ends the program, so it waits for what the other workloads still get.

    Args:
        ends: The parts of the step.
        after: What to wait for.

    Returns:
        That the step ended well. It fails with the step.
    """
    return pulumi.Output.all(pulumi.Output.all(*ends), *after).apply(lambda done: _log(done[0]))


def export_after(ended: pulumi.Output[None], values: Mapping[str, Any]) -> None:
    """Export values that the stack gets only if its step ended well.

    After an update that failed, the engine keeps old outputs, but replaces those that the program gave.

    Args:
        ended: What ``log_ends`` returned.
        values: The outputs by name.
    """
    for name, value in values.items():
        later = pulumi.Output.all(value, ended).apply(lambda both: both[0])
        pulumi.export(name, value if pulumi.runtime.is_dry_run() else later)


def _log(results: Sequence[StepResult]) -> None:
    """Log how the parts of a step ended.

    Raises:
        pulumi.RunError: There are failures. Then the engine deletes no node. An error that is only logged
            fails nothing.
    """
    for result in results:
        for warning in result.warnings:
            engine_text.warn(warning)
    if errors := [result.error for result in results if result.error]:
        raise engine_text.run_error(*errors)
