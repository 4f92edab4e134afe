"""Sees the rollouts that a step starts to their real end, and the step to its counts.

The Kubernetes provider waits too, but it may take the new ReplicaSet's first pods, all ready,
together with the last rollout's condition for the end: measured, a Deployment of 20 was called
complete after 0.3 s (docs/adr/0010).
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pulumi

from archshift.actions.rebalance import explain_inexact, rebalance
from archshift.cluster.client import Cluster, connect, retry_until
from archshift.cluster.inventory import read_workload
from archshift.cluster.kinds import workload_path
from archshift.common.errors import ArchshiftError
from archshift.plan.model import Plan, PlannedWorkload

TIMEOUT_SECONDS: Final = 600.0
"""As long as the Kubernetes provider waits by default."""

_JOIN_SECONDS: Final = 20.0


def await_rollout(
    cluster: Cluster, kind: str, namespace: str, name: str, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Return when every pod of a workload is of its current template, and available.

    Args:
        cluster: The connection.
        kind: One of ``CONTROLLERS``.
        namespace: The workload's namespace.
        name: Its name.
        timeout: Seconds.

    Raises:
        ArchshiftError: It did not get there in time, or cannot be read.
    """
    collection, deadline = workload_path(kind, namespace, name).rsplit("/", 1)[0], time.monotonic() + timeout

    def look() -> Mapping[str, Any]:
        live = None
        for live in cluster.watch(collection, name):
            if read_workload(kind, live, "").settled:
                break
        if live is None:
            raise ArchshiftError(f"{namespace}/{kind}/{name}: it is not there", "was it deleted meanwhile?")
        return live

    # The rollout goes on without the connection, so that a lost one is no reason to give up.
    while not read_workload(kind, live := retry_until(look, deadline), "").settled:
        if time.monotonic() > deadline:
            status, wanted = live.get("status") or {}, live["spec"].get("replicas", 1)
            raise ArchshiftError(
                f"{namespace}/{kind}/{name}: the rollout was not over after {timeout:.0f} s: "
                f"{status.get('updatedReplicas', 0)} of {wanted} pods updated, "
                f"{status.get('availableReplicas', 0)} available",
                f"kubectl rollout status {kind.lower()} "
                f"{name} --namespace {namespace} says why, and the next pulumi up goes on",
            )


def await_rollouts(
    patches: Mapping[str, pulumi.Resource],
    plan: Plan,
    kube_context: str | None,
    bring_up_nodes: Callable[[Cluster, Sequence[PlannedWorkload]], None] | None = None,
) -> pulumi.Output[str]:
    """See the rollouts to their end once all patches are made, and put right what they could not place.

    Args:
        patches: Workload key to its patch.
        plan: What is wanted.
        kube_context: Kubeconfig context.
        bring_up_nodes: Brings nodes up for the pods that are to be moved, where nothing else does.

    Returns:
        What is not exact after all, a sentence that was logged; empty for nothing.
    """
    rolled = [row for row in plan.workloads if row.restarts and row.key in patches]
    if not rolled or pulumi.runtime.is_dry_run():
        return pulumi.Output.from_input("")

    def work() -> str:
        with connect(kube_context) as cluster:
            for number, row in enumerate(rolled, 1):
                # In turns: the others go on meanwhile, and most are over when they are asked for.
                pulumi.info(f"rollout {number} of {len(rolled)}: {row.key}", ephemeral=True)
                await_rollout(cluster, row.kind, row.namespace, row.name)
            movable = [row for row in rolled if row.movable]
            if bring_up_nodes:
                bring_up_nodes(cluster, movable)
            # Nodes that this update made join the cluster when they are up, a little later.
            patience = _JOIN_SECONDS if plan.new_nodes else 0.0
            return explain_inexact(rebalance(cluster, movable, patience=patience))

    async def after(_: list[str]) -> str:
        try:
            reason = await asyncio.to_thread(work)
        except ArchshiftError as error:
            # The update fails by it, and deletes no node.
            reason = f"the step is not known to be over: {error}"
            pulumi.error(reason)
            return reason
        if reason:
            pulumi.warn(reason)
        return reason

    # Only now: a pod that is moved while others still roll out may find no room again. The
    # engine has finished every patch by then, so the event loop's own threads are free.
    over = pulumi.Output.all(*(patches[row.key].urn for row in rolled))
    outcome: pulumi.Output[str] = over.apply(after)
    return outcome
