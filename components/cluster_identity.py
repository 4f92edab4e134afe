"""The stack remembers its cluster, so that another kubeconfig context changes nothing there."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import pulumi

from archshift.cluster.client import Cluster, connect
from archshift.cluster.identity import another_cluster, read_identity
from archshift.common.errors import ArchshiftError
from archshift.common.polling import Polling
from archshift.common.text import one_line
from archshift.nodes.eks import LiveCluster
from archshift.survey import Survey, survey, with_live_pools

if TYPE_CHECKING:
    from archshift.settings.stack import Settings

OUTPUT: Final = "cluster_uid"
"""The stack's output that has the uid of its cluster."""

_PATIENCE_SECONDS: Final = 10.0


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
        ArchshiftError: As ``check_cluster`` and ``survey``.
    """
    with connect(settings.kube_context) as cluster:
        uid = check_cluster(cluster, settings.kube_context, settings.cluster_uid)
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
    known = declared or _remembered()
    if known not in ("", present):
        raise another_cluster(known, present, kube_context)
    return present


def _remembered() -> str:
    """Return the uid that the last update exported; empty without one."""
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    polling = Polling(time.monotonic() + _PATIENCE_SECONDS)
    while True:
        try:
            answer = pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", {"name": name}).value
        except Exception as error:  # the SDK raises nothing narrower
            if polling.late:
                raise ArchshiftError(
                    f"the engine cannot read the outputs of the stack {name}: {one_line(error)}",
                    "check the login to the state's backend",
                ) from None
        else:
            return str((answer.get("outputs") or {}).get(OUTPUT, ""))
        # With its state in files, the engine may just write the file that it reads here.
        polling.pause()
