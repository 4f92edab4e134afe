"""Which pods of a workload are on the wrong side, which of them goes first, and why one cannot go."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from archshift.cluster.client import Cluster
from archshift.cluster.inventory import read_node
from archshift.cluster.pods import Pod
from archshift.cluster.volumes import Volumes
from archshift.cluster.workload_needs import workload_of
from archshift.common.architectures import AMD64, ARM64, Architecture, display, opposite
from archshift.common.kubernetes import ZONE_LABEL
from archshift.common.resources import NOTHING, Resources
from archshift.nodes.groups import Node


def read_nodes(cluster: Cluster) -> dict[str, Node]:
    """Return all nodes by name.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    return {node.name: node for node in map(read_node, cluster.list("/api/v1/nodes"))}


def side_of(pod: Pod, nodes: Mapping[str, Node]) -> str:
    """Return the architecture of a pod's node; empty if the pod has no node, or one that is not known."""
    return nodes[pod.node].architecture if pod.node in nodes else ""


def open_nodes(nodes: Mapping[str, Node], side: Architecture) -> list[Node]:
    """Return the nodes of a side that take pods now."""
    return [node for node in nodes.values() if node.open and node.architecture == side]


@dataclass(frozen=True, slots=True)
class Surplus:
    """The side of a workload that has too many pods.

    Attributes:
        side: The architecture of its nodes.
        number: How many pods are too many; 0 or less if no side has too many.
        there: All pods of the workload on the side.
    """

    side: Architecture
    number: int
    there: Sequence[Pod]


def surplus_of(pods: Sequence[Pod], nodes: Mapping[str, Node], replicas: int, wanted: int) -> Surplus:
    """Return the side that has too many pods.

    A pod without a node may still land on either side, so only what is too many without it counts. A pod
    beyond the replicas ends by itself, so only as many are too many as the other side lacks.

    Args:
        pods: The pods of a workload.
        nodes: The nodes by name.
        replicas: How many pods the workload wants.
        wanted: How many of them belong on Graviton.
    """
    known = [pod for pod in pods if pod.node in nodes]
    graviton = [pod for pod in known if side_of(pod, nodes) == ARM64]
    x86 = [pod for pod in known if side_of(pod, nodes) != ARM64]
    over, under = len(graviton) - wanted, replicas - wanted - len(x86)
    if over > 0:
        return Surplus(ARM64, min(over, under), graviton)
    return Surplus(AMD64, min(-under, -over), x86)


def fullest_first(
    candidates: Sequence[Pod], number: int, pods: Sequence[Pod], nodes: Mapping[str, Node]
) -> list[Pod]:
    """Return so many candidates: pods in the fullest zones and on the fullest nodes come first.

    A workload's own hard spread may permit the other side only after such a pod is gone.
    """
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


def broken_on_graviton(pods: Sequence[Pod], nodes: Mapping[str, Node], *, moved: bool) -> Pod | None:
    """Return a pod of a workload that does not run on Graviton although its images run on x86; None if none.

    Args:
        pods: The pods of a workload.
        nodes: The nodes by name.
        moved: This step has moved pods of it. Otherwise a pod that does not run proves nothing if others run
            on Graviton, or if none runs on x86 to compare with.
    """
    broken = [pod for pod in pods if pod.broken]
    here = next((pod for pod in broken if side_of(pod, nodes) == ARM64), None)
    if here is None or any(side_of(pod, nodes) != ARM64 for pod in broken):
        return None
    same = [pod for pod in pods if pod.node in nodes and images_of(pod) == images_of(here)]
    on_x86 = [pod for pod in same if side_of(pod, nodes) != ARM64]
    if not moved and any(pod.ready and side_of(pod, nodes) == ARM64 for pod in same):
        return None
    return here if any(pod.ready for pod in on_x86) or (moved and not on_x86) else None


def images_of(pod: Pod) -> tuple[tuple[str, str], ...]:
    """Return the containers of a pod with their images, whatever digests run."""
    return _images(pod.images)


@lru_cache(maxsize=4096)
def _images(text: str) -> tuple[tuple[str, str], ...]:
    groups = json.loads(text)["spec"]
    return tuple(
        (str(container.get("name")), str(container.get("image")))
        for group in ("containers", "initContainers")
        for container in groups.get(group) or ()
    )


def _zone(pod: Pod, nodes: Mapping[str, Node]) -> str:
    return nodes[pod.node].labels.get(ZONE_LABEL, "") if pod.node in nodes else ""


class Rooms:
    """What the nodes have left, to tell a full side from a side that a workload's own rules forbid."""

    def __init__(self, pods: Iterable[Pod], nodes: Mapping[str, Node]) -> None:
        """Add up what the nodes run.

        Args:
            pods: All pods of the cluster.
            nodes: The nodes by name.
        """
        self._nodes = nodes
        self._loads: dict[str, Resources] = {}
        for pod in pods:
            if pod.node:
                self._loads[pod.node] = self._loads.get(pod.node, NOTHING) + pod.requests

    def take(self, pod: Pod) -> bool:
        """Take the room for a pod on the other side; return False if no node there has it."""
        side = opposite(side_of(pod, self._nodes))
        node = next((node for node in open_nodes(self._nodes, side) if self._fits(pod, node)), None)
        if node:
            self._loads[node.name] = self._loads.get(node.name, NOTHING) + pod.requests
        return node is not None

    def why(self, pods: Sequence[Pod]) -> str:
        """Return why these pods of one workload are on the wrong side although archshift evicted them."""
        side = opposite(side_of(pods[0], self._nodes))
        if any(self._fits(pods[0], node) for node in open_nodes(self._nodes, side)):
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
