"""Pods that come back to the nodes that a drain empties: why, and how often.

A cordon keeps only those pods away that the scheduler places and that do not tolerate it. Add-ons often
tolerate everything, and the emptied node is the emptiest of all, so their next pod lands there again.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from archshift.cluster.pods import Pod
from archshift.cluster.scheduling import untolerated
from archshift.nodes.groups import Taint

CORDON: Final = Taint(key="node.kubernetes.io/unschedulable")
"""The taint by which Kubernetes keeps new pods off a cordoned node."""

BARE: Final = "which nothing would start again; delete it, or use --bare-pods"
"""What a message says of a pod without a controller, after its name."""

_MOST_RETURNS: Final = 2
"""A workload whose pods came back so often is evicted no more."""

_MOST_STRAYS: Final = 5
"""So many pods of workloads that the drain never evicted are evicted after they came to a cordoned node.

Just after a cordon, the scheduler may still place a pod there. But a controller that makes a new owner for
each new pod must not go on for ever.
"""


def cordon_toleration(tolerations: Iterable[Mapping[str, Any]]) -> str:
    """Return the toleration that lets a pod run on a cordoned node, as text; empty if there is none."""
    for toleration in tolerations:
        if not untolerated([CORDON], [toleration]):
            return ", ".join(f"{key}: {value}" for key, value in toleration.items() if value)
    return ""


def because_of(toleration: str) -> str:
    """Return why a workload's pods come back, and the way out."""
    return (
        f"because it tolerates the cordon ({toleration}); give it the node selector "
        "kubernetes.io/arch: arm64, or remove the toleration"
    )


class Returns:
    """Tells the pods that must move from the pods that came to a node after its cordon.

    A pod of the second kind is no progress when it goes, because the next one may follow. So a drain that
    only moves such pods ends with its time-out.
    """

    def __init__(self) -> None:
        self._nodes: set[str] = set()
        self._late: set[str] = set()
        self._seen: set[str] = set()
        self._to_move: set[str] = set()
        self._evicted: set[str] = set()
        self._counts: Counter[str] = Counter()

    def look(self, pods: Mapping[str, Iterable[Pod]]) -> bool:
        """Note the pods that are on the nodes now, and return whether fewer of them must still move.

        Args:
            pods: The name of a cordoned node to its pods.
        """
        fresh = pods.keys() - self._nodes
        if self._nodes:
            self._late |= fresh
        self._nodes |= fresh
        there = set()
        for node, pods_of_node in pods.items():
            for pod in pods_of_node:
                there.add(pod.uid)
                if pod.uid in self._seen:
                    continue
                self._seen.add(pod.uid)
                if node in fresh and pod.workload not in self._evicted:
                    self._to_move.add(pod.uid)
                else:
                    self._counts[self._counted_as(pod)] += 1
        before = len(self._to_move)
        self._to_move &= there
        return len(self._to_move) < before

    def evicted(self, pod: Pod) -> None:
        """Note that the drain evicted a pod."""
        self._evicted.add(pod.workload)

    def why_left(self, pod: Pod) -> str:
        """Return why the drain evicts a pod no more; empty if it still does."""
        if pod.uid in self._to_move and pod.workload not in self._evicted:
            return ""
        key = self._counted_as(pod)
        if self._counts[key] < (_MOST_RETURNS if key else _MOST_STRAYS):
            return ""
        if pod.node in self._late:
            return (
                f"its pods come back to {pod.node}, which came up during the drain; make room on the nodes "
                "that stay, or lower the most nodes of its group"
            )
        if toleration := cordon_toleration(pod.rules.get("tolerations") or ()):
            return f"its pods come back to {pod.node}, {because_of(toleration)}"
        return (
            f"its pods come back to {pod.node} although it is cordoned; find out what names the node for "
            "them: spec.nodeName, an operator or another scheduler"
        )

    def _counted_as(self, pod: Pod) -> str:
        """Return the key of a pod's count.

        All workloads that this drain never evicted share the count "".
        """
        return pod.workload if pod.workload in self._evicted else ""
