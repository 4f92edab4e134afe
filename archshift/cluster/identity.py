"""The identity of a cluster: the uid of its namespace kube-system, which nobody can delete.

A cluster that is restored from a backup of its etcd keeps this uid. A new cluster has another uid, even with
the same name, address and workloads.
"""

from typing import Final

from archshift.cluster.client import Cluster
from archshift.common.errors import ArchshiftError

SYSTEM_NAMESPACE: Final = "kube-system"


def read_identity(cluster: Cluster) -> str:
    """Return the uid of a cluster.

    Raises:
        ArchshiftError: As ``Cluster.get``.
    """
    return str(cluster.get(f"/api/v1/namespaces/{SYSTEM_NAMESPACE}")["metadata"]["uid"])


def is_cluster(cluster: Cluster, known: str | None) -> bool:
    """Return whether this is the cluster that a resource was made in; yes if its state does not say which.

    Args:
        cluster: The connection.
        known: The uid in the state; empty or None from a version that did not keep it.

    Raises:
        ArchshiftError: As ``Cluster.get``.
    """
    return known in ("", None, read_identity(cluster))


def another_cluster(known: str, present: str, context: str | None) -> ArchshiftError:
    """Return the error for a stack whose workloads run on another cluster.

    Args:
        known: The uid of the stack's cluster.
        present: The uid of the cluster that the kubeconfig reaches.
        context: The configured kubeconfig context; None for the current context.
    """
    where = f"the context {context}" if context else "the current context"
    return ArchshiftError(
        f"the cluster of this stack has the uid {known}, but {where} of the kubeconfig reaches the cluster "
        f"with the uid {present}",
        "set archshift:kube_context to the context of the stack's cluster; if the cluster was rebuilt, run "
        f"pulumi config set cluster_uid {present}",
    )
