"""The stack remembers its cluster, so that another kubeconfig context changes nothing there."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import pulumi

from archshift.cluster.client import Cluster, connect
from archshift.cluster.identity import another_cluster, read_identity
from archshift.cluster.lease import wait_until_free
from archshift.nodes.eks import LiveCluster
from archshift.survey import Survey, survey, with_live_pools
from components import engine_text
from components.stack_state import stack_outputs

if TYPE_CHECKING:
    from archshift.settings.stack import Settings

OUTPUT: Final = "cluster_uid"
"""The stack's output that has the uid of its cluster."""


def survey_stack(
    settings: "Settings", eks: LiveCluster | None, progress: Callable[[int, int], None]
) -> tuple["Settings", Survey, str]:
    """Survey the stack's cluster. Nothing else is read in another cluster.

    Both use one connection: a kubeconfig for EKS asks AWS for a token each time.

    Args:
        settings: The stack's settings.
        eks: The cluster that the kubeconfig must reach; None: any.
        progress: Called with the number of patches tried so far and their total.

    Returns:
        The settings with the NodePools of the cluster, the survey, and the cluster's uid.

    Raises:
        ArchshiftError: As ``check_cluster`` and ``survey``; an update, while a rebalance moves pods.
    """
    with connect(settings.kube_context) as cluster:
        uid = check_cluster(cluster, settings.kube_context, settings.cluster_uid)
        if not pulumi.runtime.is_dry_run():
            # A plan made meanwhile would take the entries of a rebalance for the workloads' own.
            wait_until_free(cluster, settings.stack_label, "pulumi up", engine_text.info)
        settings = with_live_pools(settings, cluster, eks)
        return settings, survey(settings, cluster=cluster, eks=eks, try_patches=True, progress=progress), uid


def check_cluster(cluster: Cluster, kube_context: str | None, declared: str) -> str:
    """Return the uid of a cluster, if it is the stack's cluster.

    Args:
        cluster: The connection.
        kube_context: The kubeconfig context, for the error; None for the current context.
        declared: The configured uid of the stack's cluster; empty for the cluster of the last update.

    Raises:
        ArchshiftError: It is another cluster, or it cannot be reached.
    """
    present = read_identity(cluster)
    known = declared or str(stack_outputs().get(OUTPUT, ""))
    if known not in ("", present):
        raise another_cluster(known, present, kube_context)
    return present
