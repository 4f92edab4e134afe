"""The stack remembers its cluster, so that another kubeconfig context changes nothing there."""

import pulumi

from archshift.cluster.client import connect
from archshift.cluster.identity import another_cluster, read_identity

OUTPUT = "cluster_uid"
"""The stack's output that has the uid of its cluster."""


def check_cluster(kube_context: str | None, declared: str) -> str:
    """Return the uid of the cluster that the kubeconfig reaches, if it is the stack's cluster.

    Args:
        kube_context: The kubeconfig context; None for the current context.
        declared: The configured uid of the stack's cluster; empty for the cluster of the last update.

    Raises:
        ArchshiftError: It is another cluster, or it cannot be reached.
    """
    with connect(kube_context) as cluster:
        present = read_identity(cluster)
    known = declared or _remembered()
    if known not in ("", present):
        raise another_cluster(known, present, kube_context)
    return present


def _remembered() -> str:
    """Return the uid that the last update exported; empty without one."""
    name = f"{pulumi.get_organization()}/{pulumi.get_project()}/{pulumi.get_stack()}"
    answer = pulumi.runtime.invoke("pulumi:pulumi:readStackOutputs", {"name": name}).value
    return str((answer.get("outputs") or {}).get(OUTPUT, ""))
