"""Waits until the rollouts of a step are really complete, then corrects the counts.

The Kubernetes provider waits too, but it can read the new ReplicaSet's first ready pods and the former
rollout's condition as the end. Measured: it called a Deployment of 20 complete after 0.3 s
(docs/adr/0010).
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pulumi

from archshift.actions.rebalance import explain_inexact, rebalance
from archshift.cluster.client import Cluster, connect
from archshift.cluster.inventory import read_workload
from archshift.cluster.kinds import workload_path
from archshift.common.errors import ArchshiftError
from archshift.common.polling import retry_until
from archshift.plan.model import Plan, PlannedWorkload
from components.workload_patch import WorkloadPatch

TIMEOUT_SECONDS: Final = 600.0
"""The Kubernetes provider's default."""

_JOIN_SECONDS: Final = 20.0


def await_rollout(
    cluster: Cluster, kind: str, namespace: str, name: str, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Return when every pod of a workload has its current template and is available.

    Args:
        cluster: The connection.
        kind: One of ``CONTROLLERS``.
        namespace: The workload's namespace.
        name: The workload's name.
        timeout: Seconds.

    Raises:
        ArchshiftError: The rollout takes longer, or the workload cannot be read.
    """
    collection, deadline = workload_path(kind, namespace, name).rsplit("/", 1)[0], time.monotonic() + timeout

    def look() -> Mapping[str, Any]:
        live = None
        for live in cluster.watch(collection, name):
            if read_workload(kind, live, "").settled:
                break
        if live is None:
            raise ArchshiftError(
                f"{namespace}/{kind}/{name}: the workload does not exist", "check whether somebody deleted it"
            )
        return live

    # The rollout goes on without us, so a lost connection is no reason to give up.
    while not read_workload(kind, live := retry_until(look, deadline), "").settled:
        if time.monotonic() > deadline:
            status, wanted = live.get("status") or {}, live["spec"].get("replicas", 1)
            raise ArchshiftError(
                f"{namespace}/{kind}/{name}: the rollout was not complete after {timeout:.0f} s: "
                f"{status.get('updatedReplicas', 0)} of {wanted} pods updated, "
                f"{status.get('availableReplicas', 0)} available",
                f"see kubectl rollout status {kind.lower()} {name} --namespace {namespace}, then run "
                "pulumi up again",
            )


def await_rollouts(
    patches: Mapping[str, WorkloadPatch],
    plan: Plan,
    kube_context: str | None,
    bring_up_nodes: Callable[[Cluster, Sequence[PlannedWorkload]], None] | None = None,
) -> pulumi.Output[str]:
    """Wait for the rollouts after all patches, then move the pods that are still on the wrong side.

    Args:
        patches: The patches by workload key.
        plan: The plan.
        kube_context: Kubeconfig context.
        bring_up_nodes: Brings up nodes for these pods; None if the nodes exist.

    Returns:
        A sentence about the workloads that are still not exact, as logged; empty if all are exact.
    """
    rows = [row for row in plan.workloads if row.key in patches]
    if not rows or pulumi.runtime.is_dry_run():
        return pulumi.Output.from_input("")

    def work(rolled: Sequence[PlannedWorkload]) -> str:
        with connect(kube_context) as cluster:
            for number, row in enumerate(rolled, 1):
                # One after another: all rollouts run at once, and most end before their turn.
                pulumi.info(f"rollout {number} of {len(rolled)}: {row.key}", ephemeral=True)
                await_rollout(cluster, row.kind, row.namespace, row.name)
            movable = [row for row in rolled if row.movable]
            if bring_up_nodes:
                bring_up_nodes(cluster, movable)
            # New nodes of this update join the cluster a little later.
            patience = _JOIN_SECONDS if plan.new_nodes else 0.0
            return explain_inexact(rebalance(cluster, movable, patience=patience))

    async def after(answers: list[tuple[str | None, float | None]]) -> str:
        # A patch that the engine skips because of --target has no outputs.
        tried = [(row, problem) for row, (problem, at) in zip(rows, answers, strict=True) if at]
        problems = [f"{row.key}: its patch was refused: {problem}" for row, problem in tried if problem]
        rolled = [row for row, problem in tried if row.restarts and not problem]
        try:
            reason = await asyncio.to_thread(work, rolled) if rolled else ""
        except ArchshiftError as error:
            problems.append(f"the step may be incomplete: {error}")
            reason = ""
        if reason:
            pulumi.warn(reason)
        if problems:
            # This fails the update, so the engine deletes no node. A logged error alone would not fail it.
            raise pulumi.RunError("\n".join(problems))
        return reason

    # Only after all patches: a pod that moves while others roll out may find no room again. By then
    # the engine has finished every patch, so the event loop's own threads are free.
    each = (patches[row.key] for row in rows)
    over = pulumi.Output.all(*(pulumi.Output.all(patch.problem, patch.at) for patch in each))
    outcome: pulumi.Output[str] = over.apply(after)
    return outcome
