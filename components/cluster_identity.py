"""The stack remembers its cluster, so that another kubeconfig context changes nothing there."""

import time
from typing import Final

import pulumi

from archshift.cluster.client import connect
from archshift.cluster.identity import another_cluster, read_identity
from archshift.common.errors import ArchshiftError
from archshift.common.polling import Polling
from archshift.common.text import one_line

OUTPUT: Final = "cluster_uid"
"""The stack's output that has the uid of its cluster."""

_PATIENCE_SECONDS: Final = 10.0


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
