"""The pods of one workload, by their owner references.

A label selector is not enough: two Deployments may have the same selector, and each owns only its own pods.
"""

from collections.abc import Mapping
from typing import Any

from archshift.cluster.client import Cluster
from archshift.cluster.pods import Pod, list_pods


def pods_of(cluster: Cluster, kind: str, live: Mapping[str, Any]) -> list[Pod]:
    """Return the pods of a workload that have not ended and are not being deleted.

    Args:
        cluster: The connection.
        kind: The workload's kind.
        live: The workload as the API server returns it.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    namespace, name = live["metadata"]["namespace"], live["metadata"]["name"]
    # A controller owns only pods that match its selector, so the selector makes the list short.
    pods = list_pods(cluster, namespace=namespace, selector=_as_parameter(live["spec"]["selector"]))
    return [pod for pod in pods if pod.workload == f"{namespace}/{kind}/{name}" and not pod.leaving]


def _as_parameter(selector: Mapping[str, Any]) -> str:
    """Return a label selector in the form of a query parameter."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression["key"], expression["operator"]
        values = ",".join(expression.get("values") or ())
        parts.append(
            {
                "In": f"{key} in ({values})",
                "NotIn": f"{key} notin ({values})",
                "Exists": key,
                "DoesNotExist": f"!{key}",
            }[operator]
        )
    return ",".join(parts)
