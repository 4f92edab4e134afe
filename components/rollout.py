"""Waits for the rollout that a patch starts, to its real end.

The Kubernetes provider waits too, but it may take the new ReplicaSet's first pods, all ready,
together with the last rollout's condition for the end: measured, a Deployment of 20 was called
complete after 0.3 s.
"""

import asyncio
import time
from typing import Final

import pulumi

from archshift.errors import ArchshiftError
from archshift.inventory import CONTROLLERS, read_workload
from archshift.kubernetes import Cluster, connect

HOOK_NAME: Final = "archshift-await-rollout"

TIMEOUT_SECONDS: Final = 600.0
"""As long as the Kubernetes provider waits by default."""


def await_rollout_hook(kube_context: str | None) -> pulumi.ResourceHook:
    """Return the hook, for after a patch was created or updated."""
    connections: list[Cluster] = []

    async def after_patch(args: pulumi.ResourceHookArgs) -> None:
        inputs = args.new_inputs or {}
        kind, metadata = str(inputs["kind"]).removesuffix("Patch"), inputs["metadata"]
        if not connections:
            # One for all: a kubeconfig's credential plugin may take a second each time.
            connections.append(connect(kube_context))
        # In a thread, so that the program goes on with its other resources meanwhile.
        await asyncio.to_thread(
            await_rollout, connections[0], kind, str(metadata["namespace"]), str(metadata["name"])
        )

    return pulumi.ResourceHook(HOOK_NAME, after_patch)


def await_rollout(
    cluster: Cluster, kind: str, namespace: str, name: str, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Return when every pod of a workload is of its current template, and available.

    Raises:
        ArchshiftError: It did not get there in ``timeout`` seconds, or cannot be read.
    """
    path = CONTROLLERS[kind][0].format(f"namespaces/{namespace}/")
    deadline, pause = time.monotonic() + timeout, 0.1
    while True:
        live = cluster.get(f"{path}/{name}")
        if read_workload(kind, live, "").settled:
            return
        if time.monotonic() > deadline:
            status, wanted = live.get("status") or {}, live["spec"].get("replicas", 1)
            raise ArchshiftError(
                f"{namespace}/{kind}/{name}: the rollout was not over after {timeout:.0f} s: "
                f"{status.get('updatedReplicas', 0)} of {wanted} pods updated, "
                f"{status.get('availableReplicas', 0)} available; kubectl rollout status {kind.lower()} "
                f"{name} --namespace {namespace} says why, and the next pulumi up goes on"
            )
        time.sleep(pause)
        pause = min(2 * pause, 2.0)
