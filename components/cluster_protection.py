"""The check of deletion protection before the engine deletes a stack's own cluster and its nodes.

Without it, EKS refuses to delete the cluster, but only after all nodes are gone.
"""

from collections.abc import Iterable
from typing import Final

import pulumi

from archshift.common.errors import ArchshiftError
from archshift.nodes.eks import LiveCluster

HOOK_NAME: Final = "archshift-guard-cluster"


def protection_hook(live: LiveCluster | None) -> pulumi.ResourceHook:
    """Return the hook that runs before ``ClusterProtection`` is deleted, in previews too.

    Every run must register it: the engine refuses a delete if it cannot find the hook.

    Args:
        live: The cluster as EKS describes it; None if there is none.
    """

    def before(_args: pulumi.ResourceHookArgs) -> None:
        if live and live.deletion_protection:
            raise ArchshiftError(
                f"the cluster {live.name} stays: it has deletion protection, so EKS refuses to delete it",
                "set archshift:cluster.create.deletion_protection to false, run pulumi up, and then destroy "
                "the stack",
            )

    return pulumi.ResourceHook(HOOK_NAME, before, pulumi.ResourceHookOptions(on_dry_run=True))


class ClusterProtection(pulumi.ComponentResource):
    """A resource that the engine deletes, with its hook, before the nodes of a cluster that the stack made.

    The engine deletes a resource before those that it depends on. A hook of the cluster would run last,
    because nodes and add-ons depend on it. Hooks do not reach the children of a remote component at all.
    """

    TYPE: Final = "archshift:index:ClusterProtection"

    def __init__(self, name: str, before: Iterable[pulumi.Resource], hook: pulumi.ResourceHook) -> None:
        """Register it.

        Args:
            name: The name of the cluster.
            before: The resources that the engine deletes after this one; of components, their children.
            hook: The hook.
        """
        options = pulumi.ResourceOptions(
            depends_on=[*before], hooks=pulumi.ResourceHookBinding(before_delete=[hook])
        )
        super().__init__(self.TYPE, name, {}, options)
        self.register_outputs({})
