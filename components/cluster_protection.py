"""The check of deletion protection before the engine deletes a stack's own cluster and its nodes.

Without it, EKS refuses to delete the cluster, but only after all nodes are gone.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Final

import pulumi

from archshift.common.errors import ArchshiftError
from archshift.nodes.eks import EksCluster, LiveCluster, describe_cluster

HOOK_NAME: Final = "archshift-guard-cluster"


def protection_hook(
    live: LiveCluster | None,
    cluster: EksCluster | None,
    groups: Collection[str],
    describe: Callable[[EksCluster], LiveCluster | None] = describe_cluster,
) -> pulumi.ResourceHook:
    """Return the hook that runs before a ``ClusterProtection`` is deleted, in previews too.

    Every run must register it: the engine refuses a delete if it cannot find the hook.

    Args:
        live: The configured cluster as EKS describes it; None if there is none.
        cluster: The cluster as configured; None for none.
        groups: The names of the configured node groups.
        describe: Asks EKS for another cluster.
    """

    def before(args: pulumi.ResourceHookArgs) -> None:
        name, _, group = args.name.partition("/")
        configured = cluster is not None and cluster.name == name
        if configured and group and group not in groups:
            return  # the group leaves the stack, and the cluster stays
        if live and live.name == name:
            found: LiveCluster | None = live
        else:
            # The settings have another name now, or none.
            region = pulumi.Config("aws").get("region") or ""
            known = cluster or EksCluster(name=name, region=region)
            found = describe(EksCluster(name=name, region=known.region, aws=known.aws))
        if found and found.deletion_protection:
            raise ArchshiftError(
                f"the cluster {name} stays: it has deletion protection, so EKS refuses to delete it",
                "set archshift:cluster.create.deletion_protection to false, run pulumi up, and then destroy "
                "the stack"
                if configured
                else f"set archshift:cluster.name to {name} again",
            )

    return pulumi.ResourceHook(HOOK_NAME, before, pulumi.ResourceHookOptions(on_dry_run=True))


class ClusterProtection(pulumi.ComponentResource):
    """A resource that the engine deletes, with its hook, before the nodes of a cluster that the stack made.

    The engine deletes a resource before those that it depends on. A hook of the cluster would run last,
    because nodes and add-ons depend on it. Hooks do not reach the children of a remote component at all.
    """

    TYPE: Final = "archshift:index:ClusterProtection"

    def __init__(
        self,
        cluster: str,
        before: Iterable[pulumi.Resource],
        hook: pulumi.ResourceHook,
        *,
        group: str = "",
    ) -> None:
        """Register it.

        Args:
            cluster: The name of the cluster.
            before: The resources that the engine deletes after this one; of components, their children.
            hook: The hook.
            group: The group to which these resources belong. The state has them then also if the first
                update does not reach its end. Empty for the whole stack.
        """
        options = pulumi.ResourceOptions(
            depends_on=[*before], hooks=pulumi.ResourceHookBinding(before_delete=[hook])
        )
        super().__init__(self.TYPE, f"{cluster}/{group}" if group else cluster, {}, options)
        self.register_outputs({})
