"""Waits for the rollout that a patch starts, to its real end.

The Kubernetes provider waits too, but it may take the new ReplicaSet's first pods, all ready,
together with the last rollout's condition for the end: measured, a Deployment of 20 was called
complete after 0.3 s (docs/adr/0004).
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pulumi

from archshift.errors import ArchshiftError
from archshift.inventory import read_workload, workload_path
from archshift.kubernetes import Cluster, connect
from archshift.plan import Plan, PlannedWorkload
from archshift.settle import settle, unsettled

HOOK_NAME: Final = "archshift-await-rollout"

TIMEOUT_SECONDS: Final = 600.0
"""As long as the Kubernetes provider waits by default."""


def await_rollout_hook(kube_context: str | None) -> pulumi.ResourceHook:
    """Return the hook, for after a patch was created or updated."""
    # Threads of our own. In the event loop's, each registration of a resource waits for the
    # engine to finish that resource, hooks included: with as many patches as threads, a hook
    # that needs one too waits for ever.
    readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix=HOOK_NAME)
    connections: list[Cluster] = []

    async def after_patch(args: pulumi.ResourceHookArgs) -> None:
        inputs = args.new_inputs or {}
        kind, metadata = str(inputs["kind"]).removesuffix("Patch"), inputs["metadata"]
        if not connections:
            # One for all: a kubeconfig's credential plugin may take a second each time.
            connections.append(connect(kube_context))
        await await_rollout(
            connections[0], kind, str(metadata["namespace"]), str(metadata["name"]), readers=readers
        )

    return pulumi.ResourceHook(HOOK_NAME, after_patch)


async def await_rollout(
    cluster: Cluster,
    kind: str,
    namespace: str,
    name: str,
    *,
    readers: ThreadPoolExecutor,
    timeout: float = TIMEOUT_SECONDS,
) -> None:
    """Return when every pod of a workload is of its current template, and available.

    Args:
        cluster: The connection, shared by the threads of ``readers``.
        kind: One of ``CONTROLLERS``.
        namespace: The workload's namespace.
        name: Its name.
        readers: Threads in which the cluster is asked.
        timeout: Seconds.

    Raises:
        ArchshiftError: It did not get there in time, or cannot be read.
    """
    loop = asyncio.get_running_loop()
    path = workload_path(kind, namespace, name)
    started = loop.time()
    while True:
        live = await loop.run_in_executor(readers, cluster.get, path)
        if read_workload(kind, live, "").settled:
            return
        waited = loop.time() - started
        if waited > timeout:
            status, wanted = live.get("status") or {}, live["spec"].get("replicas", 1)
            raise ArchshiftError(
                f"{namespace}/{kind}/{name}: the rollout was not over after {timeout:.0f} s: "
                f"{status.get('updatedReplicas', 0)} of {wanted} pods updated, "
                f"{status.get('availableReplicas', 0)} available; kubectl rollout status {kind.lower()} "
                f"{name} --namespace {namespace} says why, and the next pulumi up goes on"
            )
        # A tenth of the wait so far is what a question too late may cost: the engine goes on to the
        # next patch only then, and doubled pauses made a step of 50 workloads a third longer.
        await asyncio.sleep(min(max(0.1, waited / 10), 2.0))


def settle_after(
    patches: Mapping[str, pulumi.Resource],
    plan: Plan,
    kube_context: str | None,
    make_room: Callable[[Cluster, Sequence[PlannedWorkload]], None] | None = None,
) -> pulumi.Output[str]:
    """Put right what the rollouts could not place, once all of them are over.

    Args:
        patches: Workload key to its patch.
        plan: What is wanted.
        kube_context: Kubeconfig context.
        make_room: Brings nodes up for the pods that are to be moved, where nothing else does.

    Returns:
        What is not exact after all, a sentence that was logged; empty for nothing.
    """
    rolled = [row for row in plan.workloads if row.restarts and row.movable and row.key in patches]
    if not rolled or pulumi.runtime.is_dry_run():
        return pulumi.Output.from_input("")

    def work() -> str:
        with connect(kube_context) as cluster:
            if make_room:
                make_room(cluster, rolled)
            return unsettled(settle(cluster, rolled))

    async def after(_: list[str]) -> str:
        try:
            reason = await asyncio.to_thread(work)
        except ArchshiftError as error:
            reason = f"whether the step is exact could not be seen: {error}"
        if reason:
            pulumi.warn(reason)
        return reason

    # Only now: a pod that is moved while others still roll out may find no room again. The
    # engine has finished every patch by then, so the event loop's own threads are free.
    over = pulumi.Output.all(*(patches[row.key].urn for row in rolled))
    settled: pulumi.Output[str] = over.apply(after)
    return settled
