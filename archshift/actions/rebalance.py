"""Evicts pods that are on the wrong side after a rollout, so that the scheduler places them again.

The preference for a side is soft. During a rollout the old pods may still fill a side. A new pod then starts
on the other side and stays there, although its side has free capacity after the rollout. archshift evicts
such pods, within the workload's own limits (docs/adr/0005).
"""

import contextlib
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from archshift.actions.evictions import Move, MoveRules, Reader, run_moves
from archshift.actions.sides import (
    Rooms,
    fullest_first,
    open_nodes,
    side_of,
    surplus_of,
)
from archshift.cluster.client import MERGE, Cluster
from archshift.cluster.kinds import CONTROLLERS, workload_path
from archshift.cluster.model import Workload
from archshift.cluster.pod_fields import INEXACT_ANNOTATION, Inexact, revision_of
from archshift.cluster.pods import list_pods
from archshift.common.architectures import ARM64, Architecture, opposite
from archshift.common.errors import ArchshiftError
from archshift.nodes.groups import Node
from archshift.plan.model import PlannedWorkload

TIMEOUT_SECONDS: Final = 120.0
"""How long the whole fleet may make no progress. Then archshift reports what is not exact."""


def rebalance(
    cluster: Cluster,
    rows: Iterable[PlannedWorkload],
    *,
    timeout: float = TIMEOUT_SECONDS,
    patience: float = 0.0,
    nodes_before: Iterable[Node] | None = None,
) -> dict[str, str]:
    """Move pods of workloads whose rollouts have ended until the counts match the plan.

    Args:
        cluster: The connection.
        rows: Workloads that this update rolled out.
        timeout: How long no workload may make progress, in seconds.
        patience: How long to wait for another node if a side is full, in seconds.
        nodes_before: The nodes before the rollouts; None if they are those of now.

    Returns:
        Workload key to the reason why its counts do not match; empty if all match.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    rules = MoveRules(no_progress=timeout, after_rollout=True, patience=patience)
    moves = [Move(row, rules) for row in rows if row.wanted is not None]
    nodes = run_moves(cluster, moves, no_answer=timeout)
    note_ends(cluster, moves, nodes, nodes_before)
    return reasons_of(cluster, moves, nodes)


def reasons_of(cluster: Cluster, moves: Iterable[Move], nodes: Mapping[str, Node]) -> dict[str, str]:
    """Return key to the reason of each workload whose pods are not where they belong.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    wrong = [move for move in moves if move.why]
    rooms = Rooms(list_pods(cluster), nodes) if any(move.vain for move in wrong) else None
    return {move.row.key: rooms.why(move.vain) if rooms and move.vain else move.why for move in wrong}


def misplaced(cluster: Cluster, rows: Sequence[PlannedWorkload]) -> dict[str, list[Mapping[str, str]]]:
    """Return key to the node labels of each pod to evict; without workloads in the middle of a rollout.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    reading = Reader(cluster).read(rows, time.monotonic())
    found: dict[str, list[Mapping[str, str]]] = {}
    for row in rows:
        record, live = CONTROLLERS.get(row.kind), reading.live.get(row.key)
        if record and not (live and record.settled(live) and record.replicas(live["spec"]) == row.replicas):
            continue
        pods = [pod for pod in reading.pods.get(row.key, ()) if not pod.leaving]
        surplus = surplus_of(pods, reading.nodes, row.replicas, row.wanted or 0)
        wrong = fullest_first(surplus.there, surplus.number, pods, reading.nodes)
        if wrong:
            found[row.key] = [reading.nodes[pod.node].labels for pod in pods if pod in wrong]
    return found


def pods_on(cluster: Cluster, workload: Workload, side: Architecture, nodes: Mapping[str, Node]) -> int:
    """Return how many pods of a workload have a node on a side.

    Args:
        cluster: The connection.
        workload: The workload.
        side: The architecture.
        nodes: The nodes by name.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    pods = list_pods(cluster, namespace=workload.namespace)
    return sum(
        pod.workload == workload.key and side_of(pod, nodes) == side for pod in pods if not pod.leaving
    )


def note_ends(
    cluster: Cluster,
    moves: Iterable[Move],
    nodes: Mapping[str, Node],
    nodes_before: Iterable[Node] | None = None,
) -> None:
    """Note which workloads ended with pods on the wrong side, so that nobody repeats it for nothing.

    Args:
        cluster: The connection.
        moves: The workloads, which have patches.
        nodes: The nodes by name.
        nodes_before: As ``rebalance``.
    """
    before = nodes if nodes_before is None else {node.name: node for node in nodes_before}
    for move in moves:
        if move.final:
            # A node that came up during the rollout may have come too late for it.
            _note(cluster, move, nodes, before if move.limited else nodes)


def _note(cluster: Cluster, move: Move, nodes: Mapping[str, Node], tried: Mapping[str, Node]) -> None:
    """Note how the rollout ended, so that the next update does not repeat it for nothing.

    Without the note, the next update repeats it once, so an API server that refuses the note is no error.
    """
    row = move.row
    graviton = sum(side_of(pod, nodes) == ARM64 for pod in move.pods)
    lacking = opposite(surplus_of(move.pods, nodes, row.replicas, row.wanted or 0).side)
    there = min(len(open_nodes(nodes, lacking)), len(open_nodes(tried, lacking)))
    note = Inexact(revision_of(CONTROLLERS[row.kind].template(move.live)), graviton, there)
    path = workload_path(row.kind, row.namespace, row.name)
    with contextlib.suppress(ArchshiftError):
        body = {"metadata": {"annotations": {INEXACT_ANNOTATION: str(note)}}}
        cluster.patch(path, body, MERGE, INEXACT_ANNOTATION)
