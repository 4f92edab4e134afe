"""Whether a step fits: what the pods of each side ask for against what its nodes have left."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from archshift.common.architectures import ARCHITECTURES, Architecture, display
from archshift.common.resources import GIB, NOTHING, Resources, total
from archshift.nodes.groups import Node


@dataclass(frozen=True, slots=True)
class Demand:
    """What one side has to carry.

    Attributes:
        total: All of it.
        largest: The largest CPU and the largest memory of a single pod.
    """

    total: Resources = NOTHING
    largest: Resources = NOTHING

    def plus(self, requests: Resources, pods: int) -> "Demand":
        """Return this demand with ``pods`` more pods of that size."""
        if pods == 0:
            return self
        return Demand(self.total + requests * pods, self.largest.largest(requests))


@dataclass(frozen=True, slots=True)
class Balance:
    """One side's capacity against its demand; the sums are over schedulable nodes.

    Attributes:
        architecture: The side.
        nodes: Number of nodes.
        possible: Number of those beyond, that NodePools may bring up; what they hold counts.
        capacity: What pods may have of the nodes.
        demand: What they have to carry.
        fits_largest: Some node is large enough for the largest pod.
    """

    architecture: Architecture
    nodes: int
    capacity: Resources
    demand: Demand
    fits_largest: bool
    possible: int = 0

    @property
    def missing_vcpu(self) -> float:
        """vCPU that are not there; 0.0 if enough."""
        return max(0, self.demand.total.millicpu - self.capacity.millicpu) / 1000

    @property
    def missing_gib(self) -> float:
        """GiB of memory that are not there; 0.0 if enough."""
        return max(0, self.demand.total.memory - self.capacity.memory) / GIB

    @property
    def shortage(self) -> str:
        """One sentence that says what is missing; empty if the demand fits."""
        side = display(self.architecture)
        lacking = []
        if self.missing_vcpu:
            lacking.append(f"{self.missing_vcpu:.1f} vCPU")
        if self.missing_gib:
            lacking.append(f"{self.missing_gib:.1f} GiB")
        asked, capacity = self.demand.total, self.capacity
        if asked.pods > capacity.pods:
            lacking.append(f"room for {asked.pods - capacity.pods} pods")
        nodes = f"{self.nodes} nodes"
        if self.possible:
            nodes += f" and {self.possible} that NodePools may bring up"
        if lacking:
            return (
                f"{side} lacks {', '.join(lacking)}: {asked.pods} pods ask for "
                f"{asked.vcpu:.1f} vCPU and {asked.gib:.1f} GiB of the "
                f"{capacity.vcpu:.1f} vCPU and {capacity.gib:.1f} GiB of {nodes}"
            )
        if not self.fits_largest:
            return (
                f"{side} has no node for a pod of {self.demand.largest.vcpu:.1f} vCPU and "
                f"{self.demand.largest.gib:.1f} GiB"
            )
        return ""


def _fits(pod: Resources, node: Node) -> bool:
    # How many pods a node takes is counted for the side, not for each node.
    return node.millicpu >= pod.millicpu and node.memory >= pod.memory


def balance(nodes: Iterable[Node], demands: Mapping[Architecture, Demand]) -> dict[Architecture, Balance]:
    """Compare both sides' capacity with their demand.

    Sums are a necessary condition, not a sufficient one: the scheduler may still fail to pack
    pods into nodes that are nearly full.
    """
    usable = [node for node in nodes if node.schedulable]
    result: dict[Architecture, Balance] = {}
    for architecture in ARCHITECTURES:
        side = [node for node in usable if node.architecture == architecture]
        demand = demands.get(architecture, Demand())
        result[architecture] = Balance(
            architecture=architecture,
            nodes=sum(not node.choices for node in side),
            possible=sum(bool(node.choices) for node in side),
            capacity=total(node.capacity for node in side),
            demand=demand,
            fits_largest=not demand.total.pods or any(_fits(demand.largest, node) for node in side),
        )
    return result
