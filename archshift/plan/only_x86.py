"""Which workloads can run on x86 nodes only, whatever their images are. Pure."""

from collections.abc import Iterable
from typing import Final

from archshift.cluster.kinds import on_every_node
from archshift.cluster.model import Workload
from archshift.common.architectures import AMD64, ARM64
from archshift.nodes.groups import Node
from archshift.plan import reasons

KUBELET: Final = "Node"
"""The kind of the owner of pods that a kubelet runs from its own files. These pods end with their node."""


class OnlyX86:
    """Compares workloads with the nodes of both sides."""

    def __init__(self, live: Iterable[Node], possible: Iterable[Node]) -> None:
        """Take the nodes.

        Args:
            live: The nodes now.
            possible: The nodes that pods may land on after the update.
        """
        possible = list(possible)
        self._graviton = [node for node in possible if node.architecture == ARM64]
        # The update may remove x86 nodes, and that is what the guard must judge.
        self._x86 = [node for node in (*live, *possible) if node.architecture == AMD64]
        self._by_rules: dict[str, str] = {}

    def why(self, workload: Workload) -> str:
        """Return why no Graviton node, but an x86 node, can run a workload; empty if it is not so."""
        if not self._graviton or on_every_node(workload.kind) or workload.kind == KUBELET:
            return ""
        # Only the reasons differ between workloads with equal rules: they name volumes, for example.
        rules = workload.rules if not workload.conditions and not workload.pod_conditions else workload.key
        if rules not in self._by_rules:
            self._by_rules[rules] = self._why(workload)
        return self._by_rules[rules]

    def _why(self, workload: Workload) -> str:
        unmet = workload.why_nowhere(self._graviton)
        if unmet and any(workload.may_run_on(node) for node in self._x86):
            return reasons.needs_x86_because_nothing_else_fits(unmet)
        return ""
