"""Evicts pods that are on the wrong side after a rollout, so that the scheduler places them again.

The preference for a side is soft. During a rollout the old pods may still fill a side. A new pod then starts
on the other side and stays there, although its side has free capacity after the rollout. archshift evicts
such pods, within the workload's own limits (docs/adr/0005).
"""

import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from typing import Any, Final

from archshift.cluster.client import MERGE, Cluster
from archshift.cluster.inventory import read_node
from archshift.cluster.kinds import CONTROLLERS, workload_path
from archshift.cluster.model import Workload
from archshift.cluster.owned_pods import pods_of
from archshift.cluster.pod_fields import INEXACT_ANNOTATION, Inexact, revision_of
from archshift.cluster.pods import Pod, list_pods
from archshift.cluster.troubles import words_of
from archshift.cluster.volumes import Volumes
from archshift.cluster.workload_needs import workload_of
from archshift.common.architectures import AMD64, ARM64, Architecture, display
from archshift.common.errors import ArchshiftError, UnavailableError
from archshift.common.kubernetes import ZONE_LABEL
from archshift.common.polling import Polling, retry_until
from archshift.common.resources import NOTHING, Resources
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
) -> dict[str, str]:
    """Move pods of workloads whose rollouts have ended until the counts match the plan.

    Args:
        cluster: The connection.
        rows: Workloads that this update rolled out.
        timeout: How long no workload may make progress, in seconds.
        patience: How long to wait for another node if a side is full, in seconds.

    Returns:
        Workload key to the reason why its counts do not match; empty if all match.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    workloads = [_Rebalancing(cluster, row, timeout, patience) for row in rows if row.wanted is not None]
    polling, moved_at, nodes = Polling(), time.monotonic(), dict[str, Node]()
    with ThreadPoolExecutor(max_workers=8) as threads:
        while going := [workload for workload in workloads if workload.reason is None]:
            # Every round, because nodes of this update may join the cluster a little later.
            nodes = retry_until(partial(_nodes, cluster), time.monotonic() + timeout)
            if any([*threads.map(_Rebalancing.step, going, repeat(nodes))]):
                moved_at = time.monotonic()
                polling.restart()
            elif time.monotonic() - moved_at >= timeout + max(workload.settling for workload in going):
                for workload in going:
                    workload.give_up()
            if any(workload.reason is None for workload in going):
                polling.pause()
    inexact = {workload.row.key: workload for workload in workloads if workload.reason}
    rooms = _Rooms(cluster, nodes) if any(workload.vain for workload in inexact.values()) else None
    return {
        key: rooms.why(workload.vain) if rooms and workload.vain else workload.reason or ""
        for key, workload in inexact.items()
    }


def misplaced(cluster: Cluster, row: PlannedWorkload) -> list[Mapping[str, str]]:
    """Return the node labels of each pod that ``rebalance`` would evict; empty during a rollout.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    live, record = cluster.get(workload_path(row.kind, row.namespace, row.name)), CONTROLLERS[row.kind]
    over = record.settled(live) and record.replicas(live["spec"]) == row.replicas
    pods = pods_of(cluster, row.kind, live) if over else []
    nodes = _nodes(cluster)
    wrong = _wrong(pods, nodes, row.wanted or 0)
    return [nodes[pod.node].labels if pod.node in nodes else {} for pod in pods if pod in wrong]


def pods_on(cluster: Cluster, workload: Workload, side: Architecture, sides: Mapping[str, str]) -> int:
    """Return how many pods of a workload have a node on a side.

    Args:
        cluster: The connection.
        workload: The workload.
        side: The architecture.
        sides: From ``sides_of_nodes``.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    live = cluster.get(workload_path(workload.kind, workload.namespace, workload.name))
    return sum(sides.get(pod.node) == side for pod in pods_of(cluster, workload.kind, live))


def sides_of_nodes(cluster: Cluster) -> dict[str, str]:
    """Return name to architecture of all nodes; the architecture is empty if a node has no label.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    return {name: node.architecture for name, node in _nodes(cluster).items()}


def _nodes(cluster: Cluster) -> dict[str, Node]:
    return {node.name: node for node in map(read_node, cluster.list("/api/v1/nodes"))}


def _wrong(pods: Sequence[Pod], nodes: Mapping[str, Node], wanted: int) -> list[Pod]:
    """Return the surplus pods of the side that has too many.

    Pods in the fullest zones and on the fullest nodes come first. A workload's own hard spread may permit the
    other side only after such a pod is gone.

    Args:
        pods: The pods of a workload.
        nodes: The nodes by name.
        wanted: How many pods belong on Graviton.
    """
    graviton = [pod for pod in pods if _side(pod, nodes) == ARM64]
    surplus = len(graviton) - wanted
    x86 = [pod for pod in pods if _side(pod, nodes) != ARM64]
    return _fullest_first(graviton if surplus > 0 else x86, abs(surplus), pods, nodes)


def _fullest_first(
    candidates: Sequence[Pod], number: int, pods: Sequence[Pod], nodes: Mapping[str, Node]
) -> list[Pod]:
    in_zone = Counter(_zone(pod, nodes) for pod in pods)
    on_node = Counter(pod.node for pod in pods)
    chosen: list[Pod] = []
    remaining = [*candidates]
    while remaining and len(chosen) < number:
        fullest = max(remaining, key=lambda pod: (in_zone[_zone(pod, nodes)], on_node[pod.node]))
        remaining.remove(fullest)
        in_zone[_zone(fullest, nodes)] -= 1
        on_node[fullest.node] -= 1
        chosen.append(fullest)
    return chosen


def _other_side(pod: Pod, nodes: Mapping[str, Node]) -> Architecture:
    return AMD64 if _side(pod, nodes) == ARM64 else ARM64


def _zone(pod: Pod, nodes: Mapping[str, Node]) -> str:
    return nodes[pod.node].labels.get(ZONE_LABEL, "") if pod.node in nodes else ""


def _side(pod: Pod, nodes: Mapping[str, Node]) -> str:
    return nodes[pod.node].architecture if pod.node in nodes else ""


def _open_nodes(nodes: Mapping[str, Node], side: Architecture) -> list[Node]:
    """Return the nodes of a side that take pods now."""
    return [node for node in nodes.values() if node.open and node.architecture == side]


class _Rebalancing:
    """One workload whose counts are to match the plan.

    Attributes:
        row: The workload.
        reason: Why its counts do not match the plan, or empty if they do; None while archshift moves pods.
        vain: Pods that an eviction did not bring to the other side.
        settling: How long its new pods are ready before they count as available, in seconds.
    """

    def __init__(self, cluster: Cluster, row: PlannedWorkload, timeout: float, patience: float) -> None:
        self.row = row
        self.reason: str | None = None
        self.vain: list[Pod] = []
        self.settling = 0.0
        self._cluster = cluster
        self._timeout = timeout
        self._patience = patience
        self._patient_until = 0.0
        self._least = row.replicas + 1
        self._tried: frozenset[str] = frozenset()
        self._refused = False
        self._pods: list[Pod] = []

    def step(self, nodes: Mapping[str, Node]) -> bool:
        """Look at the workload once and evict what its limits allow; return whether something changed.

        Raises:
            ArchshiftError: The cluster cannot be reached.
        """
        deadline = time.monotonic() + self._timeout
        try:
            return retry_until(partial(self._step, nodes), deadline)
        except UnavailableError:
            raise
        except ArchshiftError as error:
            # Somebody deleted the workload, or archshift may not evict its pods. Others go on.
            self.reason = str(error)
            return True

    def give_up(self) -> None:
        """End without a match, because nothing has changed for too long."""
        if self._refused:
            self.reason = "its PodDisruptionBudget allows no eviction"
        else:
            words = words_of(self._pods)
            self.reason = (
                f"its new pods are not ready ({words})" if words else "its new pods are not ready yet"
            )

    def _step(self, nodes: Mapping[str, Node]) -> bool:
        row, record = self.row, CONTROLLERS[self.row.kind]
        live = self._cluster.get(workload_path(row.kind, row.namespace, row.name))
        self.settling = float(live["spec"].get("minReadySeconds") or 0)
        replicas = record.replicas(live["spec"])
        if replicas != row.replicas:
            return self._ends(f"it now has {replicas} replicas, but the plan was for {row.replicas}")
        before, self._pods = len(self._pods), pods_of(self._cluster, row.kind, live)
        # The status may be older than the last eviction, and then more pods are away than it says. The list
        # of pods is current.
        if not record.settled(live) or len(self._pods) != replicas or not all(p.ready for p in self._pods):
            return len(self._pods) != before
        wrong = _wrong(self._pods, nodes, row.wanted or 0)
        if not wrong:
            return self._ends("")
        side = _other_side(wrong[0], nodes)
        open_nodes = frozenset(node.name for node in _open_nodes(nodes, side))
        if len(wrong) >= self._least and not open_nodes - self._tried:
            # The new pods came up on the same side again. Only another node can change that.
            self._patient_until = self._patient_until or time.monotonic() + self._patience
            if time.monotonic() < self._patient_until:
                return False
            self.vain = wrong
            self._note(live, nodes, len(open_nodes))
            return self._ends(f"{len(wrong)} of its pods are not on {display(side)}")
        evictable = record.may_be_away(live)
        if evictable < 1:
            self._note(live, nodes, len(open_nodes))
            return self._ends("its rollout limits allow no unavailable pod")
        evicted = [self._evict(pod) for pod in wrong[:evictable]]
        self._refused = not any(evicted)
        if not self._refused:
            self._least, self._tried = len(wrong), open_nodes
        return not self._refused

    def _note(self, live: Mapping[str, Any], nodes: Mapping[str, Node], open_nodes: int) -> None:
        """Note how the rollout ended, so that the next update does not repeat it for nothing.

        Without the note, the next update repeats it once, so an API server that refuses the note is no error.
        """
        note = Inexact(
            revision_of(CONTROLLERS[self.row.kind].template(live)),
            sum(_side(pod, nodes) == ARM64 for pod in self._pods),
            open_nodes,
        )
        path = workload_path(self.row.kind, self.row.namespace, self.row.name)
        with contextlib.suppress(ArchshiftError):
            body = {"metadata": {"annotations": {INEXACT_ANNOTATION: str(note)}}}
            self._cluster.patch(path, body, MERGE, INEXACT_ANNOTATION)

    def _evict(self, pod: Pod) -> bool:
        try:
            return self._cluster.evict(pod.namespace, pod.name)
        except UnavailableError:
            # The eviction may have happened; the next list of pods shows it.
            return False

    def _ends(self, reason: str) -> bool:
        self.reason = reason
        return True


class _Rooms:
    """What the nodes have left, to tell a full side from a side that a workload's own rules forbid."""

    def __init__(self, cluster: Cluster, nodes: Mapping[str, Node]) -> None:
        self._nodes = nodes
        self._loads: dict[str, Resources] = {}
        for pod in list_pods(cluster):
            if pod.node:
                self._loads[pod.node] = self._loads.get(pod.node, NOTHING) + pod.requests

    def why(self, pods: Sequence[Pod]) -> str:
        """Return why these pods of one workload are on the wrong side although archshift evicted them."""
        side = _other_side(pods[0], self._nodes)
        if any(self._fits(pods[0], node) for node in _open_nodes(self._nodes, side)):
            return (
                f"the scheduler puts {len(pods)} of its pods on the other side, although {display(side)} "
                "nodes have room; check its own spread constraints and pod affinities"
            )
        return (
            f"{len(pods)} of its pods do not fit on {display(side)}; add nodes there and run pulumi up again"
        )

    def _fits(self, pod: Pod, node: Node) -> bool:
        left = node.capacity - self._loads.get(node.name, NOTHING)
        return workload_of([pod], Volumes()).may_run_on(node) and left.holds(pod.requests)
