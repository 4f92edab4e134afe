"""Whether a step fits: what the pods of each side ask for against what its nodes have left."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from archshift.cluster.model import Requests
from archshift.common.architectures import ARCHITECTURES, Architecture, display
from archshift.nodes.groups import Node

_GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Demand:
    """What one side has to carry.

    Attributes:
        pods: Number of pods.
        millicpu: Thousandths of a vCPU.
        memory: Bytes.
        largest: The largest single pod of it.
    """

    pods: int = 0
    millicpu: int = 0
    memory: int = 0
    largest: Requests = field(default_factory=Requests)

    def plus(self, requests: Requests, pods: int) -> "Demand":
        """Return this demand with ``pods`` more pods of that size."""
        if pods == 0:
            return self
        return Demand(
            self.pods + pods,
            self.millicpu + pods * requests.millicpu,
            self.memory + pods * requests.memory,
            Requests(
                max(self.largest.millicpu, requests.millicpu), max(self.largest.memory, requests.memory)
            ),
        )


@dataclass(frozen=True, slots=True)
class Balance:
    """One side's capacity against its demand; the sums are over schedulable nodes.

    Attributes:
        architecture: The side.
        nodes: Number of nodes.
        possible: Number of those beyond, that NodePools may bring up; what they hold counts.
        millicpu: Allocatable CPU.
        memory: Allocatable memory, bytes.
        pods: Most pods.
        demand: What they have to carry.
        fits_largest: Some node is large enough for the largest pod.
    """

    architecture: Architecture
    nodes: int
    millicpu: int
    memory: int
    pods: int
    demand: Demand
    fits_largest: bool
    possible: int = 0

    @property
    def missing_vcpu(self) -> float:
        """vCPU that are not there; 0.0 if enough."""
        return max(0, self.demand.millicpu - self.millicpu) / 1000

    @property
    def missing_gib(self) -> float:
        """GiB of memory that are not there; 0.0 if enough."""
        return max(0, self.demand.memory - self.memory) / _GIB

    @property
    def shortage(self) -> str:
        """One sentence that says what is missing; empty if the demand fits."""
        side = display(self.architecture)
        lacking = []
        if self.missing_vcpu:
            lacking.append(f"{self.missing_vcpu:.1f} vCPU")
        if self.missing_gib:
            lacking.append(f"{self.missing_gib:.1f} GiB")
        if self.demand.pods > self.pods:
            lacking.append(f"room for {self.demand.pods - self.pods} pods")
        nodes = f"{self.nodes} nodes"
        if self.possible:
            nodes += f" and {self.possible} that NodePools may bring up"
        if lacking:
            return (
                f"{side} lacks {', '.join(lacking)}: {self.demand.pods} pods ask for "
                f"{self.demand.millicpu / 1000:.1f} vCPU and {self.demand.memory / _GIB:.1f} GiB of the "
                f"{self.millicpu / 1000:.1f} vCPU and {self.memory / _GIB:.1f} GiB of {nodes}"
            )
        if not self.fits_largest:
            return (
                f"{side} has no node for a pod of {self.demand.largest.millicpu / 1000:.1f} vCPU and "
                f"{self.demand.largest.memory / _GIB:.1f} GiB"
            )
        return ""


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
            millicpu=sum(node.millicpu for node in side),
            memory=sum(node.memory for node in side),
            pods=sum(node.pods for node in side),
            demand=demand,
            fits_largest=not demand.pods
            or any(
                node.millicpu >= demand.largest.millicpu and node.memory >= demand.largest.memory
                for node in side
            ),
        )
    return result
