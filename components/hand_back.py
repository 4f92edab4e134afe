"""Hands a NodePool back: when it leaves the stack, nothing of archshift is left on it."""

from typing import Final

import pulumi

from archshift.actions.hand_back import hand_back
from archshift.cluster.client import connect
from archshift.nodes.node_pools import API_VERSION

HOOK_NAME: Final = "archshift-hand-back"


def hand_back_hook(kube_context: str | None, manager: str) -> pulumi.ResourceHook:
    """Return the hook that runs before the engine forgets a released NodePool.

    Every run must register it: the engine forgets nothing if it cannot find the hook.

    Args:
        kube_context: The kubeconfig context; None for the current context.
        manager: The field manager of the stack's NodePools.
    """

    def before(args: pulumi.ResourceHookArgs) -> None:
        name = (args.old_inputs or {})["metadata"]["name"]
        with connect(kube_context) as cluster:
            hand_back(cluster, f"/apis/{API_VERSION}/nodepools/{name}", manager)

    return pulumi.ResourceHook(HOOK_NAME, before)
