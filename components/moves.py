"""Moves pods after the entries of this run are in place: only those that this run really applied count."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import pulumi

from archshift.actions.evictions import Allowance
from archshift.actions.leave_patches import leave_patches
from archshift.actions.moving import move_pods
from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import JOIN_SECONDS, BringUpNodes, StepResult, incomplete_workloads
from archshift.cluster.client import connect
from archshift.cluster.lease import sole_mover, still_sole
from archshift.cluster.live_placement import SEEN_SECONDS
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.plan.model import Plan, PlannedWorkload
from components import engine_text


def moving_namespaces(plan: Plan) -> frozenset[str]:
    """Return the namespaces whose pods a step with placement at admission moves."""
    # An interrupted step may have left a first pod that does not run on Graviton.
    failing = {key for key, trouble in plan.troubles.items() if trouble.failing}
    return frozenset(
        row.namespace
        for row in plan.workloads
        if _leaves_patches(row)
        or (_may_move(row) and (row.restarted_pods or (row.wanted and row.graviton and row.key in failing)))
    )


def _leaves_patches(row: PlannedWorkload) -> bool:
    return bool(row.entry and row.patch_goes)


def _may_move(row: PlannedWorkload) -> bool:
    return bool(row.entry and row.wanted is not None and not row.patch_goes)


def await_moves(
    applied: Mapping[str, pulumi.Output[bool]],
    plan: Plan,
    inventory: Inventory,
    stack_label: str,
    field_manager: str,
    kube_context: str | None,
    limits: RolloutLimits,
    *,
    bring_up_nodes: BringUpNodes | None = None,
) -> pulumi.Output[StepResult]:
    """Move the pods of a step to their sides, and wait for their successors.

    Args:
        applied: Namespace to whether this run applied its entries.
        plan: The plan.
        inventory: The cluster before the step.
        stack_label: The stack, as ``stack_label`` writes it.
        field_manager: The field manager of restarts.
        kube_context: Kubeconfig context.
        limits: How long to wait.
        bring_up_nodes: Brings up nodes for these pods; None if the nodes exist.

    Returns:
        How the step ended.
    """
    if pulumi.runtime.is_dry_run():
        return pulumi.Output.from_input(StepResult())
    namespaces = sorted(applied)

    def work(entered: frozenset[str]) -> StepResult:
        incomplete = incomplete_workloads(inventory)
        rows = [
            row
            for row in plan.workloads
            if row.namespace in entered and _may_move(row)
            # Pods that waited for a node may land anywhere.
            if row.restarted_pods or row.key in incomplete
        ]
        leaving = [row for row in plan.workloads if row.namespace in entered and _leaves_patches(row)]
        if not (rows or leaving):
            return StepResult()
        time.sleep(SEEN_SECONDS)

        def say(text: str) -> None:
            engine_text.info(text, ephemeral=True)

        with (
            connect(kube_context) as cluster,
            # The entries are applied, so a rebalance that began meanwhile is waited for.
            sole_mover(
                cluster, stack_label, "pulumi up", required=False, patience=limits.no_progress, say=say
            ) as lease,
        ):
            left = leave_patches(
                cluster,
                leaving,
                field_manager=field_manager,
                stack_label=stack_label,
                limits=limits,
                incomplete=incomplete,
                say=say,
            )
            # The rollouts placed their pods by the entries. What is not exact yet is moved with the others.
            stay = [
                replace(row, patch_goes=False, restarts=False)
                for row in leaving
                if row.wanted is not None and row.key not in {**left.failures, **left.notes}
            ]
            moved = move_pods(
                cluster,
                [*rows, *stay],
                stack_label=stack_label,
                field_manager=field_manager,
                limits=limits,
                incomplete=incomplete | {row.key for row in stay},
                bring_up_nodes=bring_up_nodes,
                # New nodes of this update join the cluster a little later.
                patience=JOIN_SECONDS if plan.new_nodes else 0.0,
                allowance=Allowance(holds=partial(still_sole, lease)),
                say=say,
            )
        return StepResult(
            failures={**left.failures, **moved.failures},
            notes={**left.notes, **moved.notes},
            inexact={**left.inexact, **moved.inexact},
        )

    async def after(outputs: list[bool | None]) -> StepResult:
        entered = frozenset(name for name, done in zip(namespaces, outputs, strict=True) if done)
        try:
            return await asyncio.to_thread(work, entered)
        except ArchshiftError as error:
            return StepResult(failures={"the moves": str(error)})

    outcome: pulumi.Output[StepResult] = pulumi.Output.all(*(applied[name] for name in namespaces)).apply(
        after
    )
    return outcome
