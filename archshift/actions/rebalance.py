"""Evicts pods that are on the wrong side after a rollout, so that the scheduler places them again.

The preference for a side is soft. During a rollout the old pods may still fill a side. A new pod then starts
on the other side and stays there, although its side has free capacity after the rollout. archshift evicts
such pods, within the workload's own limits (docs/adr/0005).
"""

import contextlib
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from archshift.cluster.client import MERGE, Cluster
from archshift.cluster.inventory import read_workload
from archshift.cluster.kinds import CONTROLLERS, workload_path
from archshift.cluster.model import Workload
from archshift.cluster.pod_fields import INEXACT_ANNOTATION, Inexact
from archshift.cluster.pods import list_pods
from archshift.common.architectures import AMD64, ARM64, Architecture, display
from archshift.common.errors import ArchshiftError, UnavailableError
from archshift.common.kubernetes import ARCH_LABEL
from archshift.common.polling import Polling, retry_until
from archshift.common.text import first_few
from archshift.plan.model import PlannedWorkload

TIMEOUT_SECONDS: Final = 120.0
"""For the whole fleet. archshift reports what is not exact by then; the next update tries again."""

_AGAIN_SECONDS: Final = 5.0
"""The pause between tries. If no node has joined, a further try evicts pods for nothing."""


def rebalance(
    cluster: Cluster,
    rows: Iterable[PlannedWorkload],
    *,
    timeout: float = TIMEOUT_SECONDS,
    patience: float = 0.0,
) -> dict[str, str]:
    """Move pods of workloads whose rollouts have ended until the counts match the plan.

    Args:
        rows: Workloads that this update rolled out.
        timeout: How long to try for all workloads, in seconds.
        patience: How long to wait for another node if a side is full, in seconds.

    Returns:
        Workload key to the reason why its counts do not match; empty if all match.

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
    """Return the node labels of each pod that ``rebalance`` would evict; empty during a rollout.

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
    """Return how many pods of a workload have a node on a side.

    Args:
        sides: From ``sides_of_nodes``.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    live = cluster.get(workload_path(workload.kind, workload.namespace, workload.name))
    return sum(sides.get(node) == side for node in _pods(cluster, workload.namespace, live).values())


def _wrong(sides: Mapping[str, str], wanted: int) -> list[str]:
    """Return the surplus pods of the side that has too many.

    Args:
        sides: Pod name to architecture.
        wanted: How many pods belong on Graviton.
    """
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
    """Return name to architecture of all nodes; the architecture is empty if a node has no label.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    return {name: labels.get(ARCH_LABEL, "") for name, labels in _nodes(cluster).items()}


def _rebalance(
    cluster: Cluster, row: PlannedWorkload, *, sides: Mapping[str, str], deadline: float, patience: float
) -> str:
    path = workload_path(row.kind, row.namespace, row.name)
    least = row.replicas + 1
    polling, patient_until = Polling(deadline), 0.0
    while True:
        live = retry_until(lambda: cluster.get(path), deadline)
        workload = read_workload(row.kind, live, "")
        if workload.replicas != row.replicas:
            return f"it now has {workload.replicas} replicas, but the plan was for {row.replicas}"
        pods = retry_until(partial(_pods, cluster, row.namespace, live), deadline) if workload.settled else {}
        # The status may be older than the last eviction. The list of pods is current.
        if len(pods) == row.replicas and all(pods.values()):
            if not sides.keys() >= {*pods.values()}:
                sides = retry_until(lambda: sides_of_nodes(cluster), deadline)  # a node has joined
            on = {name: sides.get(node, "") for name, node in pods.items()}
            wrong = _wrong(on, row.wanted or 0)
            if not wrong:
                return ""
            side: Architecture = AMD64 if on[wrong[0]] == ARM64 else ARM64
            note = partial(_note_inexact, cluster, path, workload, on, [*sides.values()].count(side))
            if len(wrong) >= least:
                patient_until = patient_until or time.monotonic() + patience
                if time.monotonic() < patient_until:
                    time.sleep(_AGAIN_SECONDS)
                    least = row.replicas + 1
                    continue
                note()
                return f"{len(wrong)} of its pods do not fit on {display(side)}"
            evictable = CONTROLLERS[row.kind].may_be_away(live)
            if evictable < 1:
                note()
                return "its rollout limits allow no unavailable pod"
            evicted = [_evict(cluster, row.namespace, name) for name in wrong[:evictable]]
            if any(evicted):
                # If the new pods come up on the same side again, the other side is full.
                least = len(wrong)
                polling.restart()
        if polling.late:
            return "its PodDisruptionBudget or its new pods blocked the evictions for too long"
        polling.pause()


def _note_inexact(cluster: Cluster, path: str, workload: Workload, on: Mapping[str, str], nodes: int) -> None:
    """Note how the rollout ended, so that the next update does not repeat it for nothing.

    Without the note, the next update repeats it once, so an API server that refuses the note is no error.
    """
    note = Inexact(workload.template.revision, [*on.values()].count(ARM64), nodes)
    body = {"metadata": {"annotations": {INEXACT_ANNOTATION: str(note)}}}
    with contextlib.suppress(ArchshiftError):
        cluster.patch(path, body, MERGE, INEXACT_ANNOTATION)


def _evict(cluster: Cluster, namespace: str, pod: str) -> bool:
    try:
        return cluster.evict(namespace, pod)
    except UnavailableError:
        # The eviction may have happened; the next list of pods shows it.
        return False


def _pods(cluster: Cluster, namespace: str, live: Mapping[str, Any]) -> dict[str, str]:
    """Return name to node of a workload's pods."""
    pods = list_pods(cluster, namespace=namespace, selector=_text(live["spec"]["selector"]))
    return {pod.name: pod.node for pod in pods if not pod.leaving}


def _text(selector: Mapping[str, Any]) -> str:
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


def explain_inexact(reasons: Mapping[str, str]) -> str:
    """Return a sentence about the workloads whose counts do not match the plan; empty if there are none."""
    if not reasons:
        return ""
    named = first_few(sorted(reasons.items()), name=": ".join, separator="; ", rest="; {} more")
    return f"not exact yet: {named}; add nodes on that side and run pulumi up again"
