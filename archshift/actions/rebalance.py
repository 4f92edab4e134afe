"""Puts right what a rollout could not place: pods that found their side full of their predecessors.

A preference is only a preference: while a rollout is under way the old pods still take up room,
and a new one that finds none goes to the other side and stays there, although there is room once
the rollout is over. Those pods are evicted, within the workload's own limits, and the scheduler
places their successors (docs/adr/0005).
"""

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from math import ceil
from typing import Any, Final

from archshift.cluster.client import Cluster, retry_until
from archshift.cluster.inventory import read_workload
from archshift.cluster.kinds import workload_path
from archshift.cluster.model import Workload
from archshift.cluster.pods import list_pods
from archshift.common.architectures import AMD64, ARM64, Architecture, display
from archshift.common.errors import UnavailableError
from archshift.common.kubernetes import ARCH_LABEL
from archshift.plan.model import PlannedWorkload

TIMEOUT_SECONDS: Final = 120.0
"""For all of a fleet; what is not right then is said, and left to the next update."""

_AGAIN_SECONDS: Final = 5.0
"""Each further try evicts a pod for nothing if no node has joined."""


def rebalance(
    cluster: Cluster,
    rows: Iterable[PlannedWorkload],
    *,
    timeout: float = TIMEOUT_SECONDS,
    patience: float = 0.0,
) -> dict[str, str]:
    """Bring workloads whose rollouts are over to the counts that the plan wants.

    Args:
        cluster: The connection.
        rows: Workloads that this update rolled out.
        timeout: Seconds.
        patience: Seconds in which another node may join a side that is full, before that is said.

    Returns:
        Workload key to why it is not exact; empty if all are.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    deadline = time.monotonic() + timeout
    sides = retry_until(lambda: sides_of_nodes(cluster), deadline)
    wanted = [row for row in rows if row.wanted is not None]
    with ThreadPoolExecutor(max_workers=8) as threads:
        rebalance_one = partial(_rebalance, cluster, sides=sides, deadline=deadline, patience=patience)
        reasons = threads.map(rebalance_one, wanted)
        return {row.key: reason for row, reason in zip(wanted, reasons, strict=True) if reason}


def misplaced(cluster: Cluster, row: PlannedWorkload) -> list[Mapping[str, str]]:
    """Return the labels of the nodes that ``rebalance`` would take pods of a workload from, a pod each.

    Empty while its rollout is under way.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    live = cluster.get(workload_path(row.kind, row.namespace, row.name))
    workload = read_workload(row.kind, live, "")
    over = workload.settled and workload.replicas == row.replicas
    pods = _pods(cluster, row.namespace, live) if over else {}
    nodes = _nodes(cluster)
    on = {name: nodes.get(node, {}) for name, node in pods.items()}
    sides = {name: labels.get(ARCH_LABEL, "") for name, labels in on.items()}
    return [on[name] for name in _wrong(sides, row.wanted or 0)]


def pods_on(cluster: Cluster, workload: Workload, side: Architecture, sides: Mapping[str, str]) -> int:
    """Return how many of a workload's pods have a node of an architecture.

    Args:
        cluster: The connection.
        workload: The workload.
        side: The architecture.
        sides: From ``sides_of_nodes``.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    live = cluster.get(workload_path(workload.kind, workload.namespace, workload.name))
    return sum(sides.get(node) == side for node in _pods(cluster, workload.namespace, live).values())


def _wrong(sides: Mapping[str, str], wanted: int) -> list[str]:
    """Return the pods to move, of pod to architecture: as many as are too many on one side."""
    graviton = [name for name, side in sides.items() if side == ARM64]
    surplus = len(graviton) - wanted
    x86 = [name for name in sides if name not in graviton]
    return graviton[:surplus] if surplus > 0 else x86[: max(0, -surplus)]


def _nodes(cluster: Cluster) -> dict[str, Mapping[str, str]]:
    return {
        node["metadata"]["name"]: node["metadata"].get("labels") or {}
        for node in cluster.list("/api/v1/nodes")
    }


def sides_of_nodes(cluster: Cluster) -> dict[str, str]:
    """Return name to architecture of all nodes; empty where none is said.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    return {name: labels.get(ARCH_LABEL, "") for name, labels in _nodes(cluster).items()}


def _rebalance(
    cluster: Cluster, row: PlannedWorkload, *, sides: Mapping[str, str], deadline: float, patience: float
) -> str:
    path = workload_path(row.kind, row.namespace, row.name)
    least = row.replicas + 1
    pause, patient_until = 0.2, 0.0
    while True:
        live = retry_until(lambda: cluster.get(path), deadline)
        workload = read_workload(row.kind, live, "")
        if workload.replicas != row.replicas:
            return f"it has {workload.replicas} replicas now, not the {row.replicas} of the plan"
        pods = retry_until(partial(_pods, cluster, row.namespace, live), deadline) if workload.settled else {}
        # A status may be older than an eviction; the pods are not.
        if len(pods) == row.replicas and all(pods.values()):
            if not sides.keys() >= {*pods.values()}:
                sides = retry_until(lambda: sides_of_nodes(cluster), deadline)  # one has joined meanwhile
            on = {name: sides.get(node, "") for name, node in pods.items()}
            wrong = _wrong(on, row.wanted or 0)
            if not wrong:
                return ""
            if len(wrong) >= least:
                patient_until = patient_until or time.monotonic() + patience
                if time.monotonic() < patient_until:
                    time.sleep(_AGAIN_SECONDS)
                    least = row.replicas + 1
                    continue
                side = display(AMD64 if on[wrong[0]] == ARM64 else ARM64)
                return f"{len(wrong)} of its pods find no room on {side}"
            evictable = _may_be_away(row.kind, live)
            if evictable < 1:
                return "its rollout limits let no pod be away"
            evicted = [_evict(cluster, row.namespace, name) for name in wrong[:evictable]]
            if any(evicted):
                # Pods that come back to the same side have found the other one full.
                least, pause = len(wrong), 0.2
        if time.monotonic() > deadline:
            return "its PodDisruptionBudget or its new pods took too long"
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


def _evict(cluster: Cluster, namespace: str, pod: str) -> bool:
    try:
        return cluster.evict(namespace, pod)
    except UnavailableError:
        # It may have happened or not; the next look at the pods tells.
        return False


def _pods(cluster: Cluster, namespace: str, live: Mapping[str, Any]) -> dict[str, str]:
    """Return name to node of a workload's pods."""
    pods = list_pods(cluster, namespace=namespace, selector=_text(live["spec"]["selector"]))
    return {pod.name: pod.node for pod in pods if not pod.leaving}


def _text(selector: Mapping[str, Any]) -> str:
    """Return a label selector as a query parameter has it."""
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


def _may_be_away(kind: str, live: Mapping[str, Any]) -> int:
    """Return how many more pods may be unavailable under the workload's own rollout limits."""
    spec, status = live["spec"], live.get("status") or {}
    replicas = int(spec.get("replicas", 1))
    if kind == "StatefulSet":
        rolling, default = (spec.get("updateStrategy") or {}).get("rollingUpdate") or {}, "1"
    else:
        strategy = spec.get("strategy") or {}
        if strategy.get("type") == "Recreate":
            return replicas
        rolling, default = strategy.get("rollingUpdate") or {}, "25%"
    limit = str(rolling.get("maxUnavailable", default))
    if limit.endswith("%"):
        share = replicas * int(limit[:-1])
        # As the controllers round it: a Deployment's down, a StatefulSet's up.
        away = ceil(share / 100) if kind == "StatefulSet" else share // 100
    else:
        away = int(limit)
    return int(status.get("availableReplicas", 0)) - (replicas - away)


def explain_inexact(reasons: Mapping[str, str]) -> str:
    """Return the sentence about workloads that are not exact after all; empty for none."""
    if not reasons:
        return ""
    named = "; ".join(f"{key}: {reason}" for key, reason in sorted(reasons.items())[:5])
    more = f"; {len(reasons) - 5} more" if len(reasons) > 5 else ""
    return f"not exact yet: {named}{more}; add nodes on that side and run pulumi up again"
