"""Whether the nodes of each side have enough capacity for the pods' requests after a step."""

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, replace

from archshift.common.architectures import ARCHITECTURES, Architecture, display
from archshift.common.resources import GIB, NOTHING, Resources, describe_amount, total
from archshift.common.text import counted
from archshift.nodes.groups import Node, comes_with_node


@dataclass(frozen=True, slots=True)
class Demand:
    """The requests of the pods on one side.

    Attributes:
        total: The requests of all pods.
        largest: The requests of the largest pods. One may have the most CPU, and another the most memory.
    """

    total: Resources = NOTHING
    largest: tuple[Resources, ...] = ()

    def plus(self, requests: Resources, pods: int) -> "Demand":
        """Return this demand with ``pods`` more pods of that size."""
        return self.with_pods(requests * pods, requests)

    def with_pods(self, requests: Resources, largest: Resources) -> "Demand":
        """Return this demand with live pods.

        Args:
            requests: The requests of all these pods.
            largest: The requests of the largest pod.
        """
        return self + Demand(requests, (largest,)) if requests.pods else self

    def __add__(self, other: "Demand") -> "Demand":
        largest = self.largest
        for pod in other.largest:
            if not any(known.holds(pod) for known in largest):
                largest = (*(known for known in largest if not pod.holds(known)), pod)
        return Demand(self.total + other.total, largest)

    def with_devices(self, names: Container[str]) -> "Demand":
        """Return this demand with only these of its devices."""
        devices = tuple((name, amount) for name, amount in self.total.devices if name in names)
        return replace(self, total=replace(self.total, devices=devices))


@dataclass(frozen=True, slots=True)
class Balance:
    """The capacity and the demand of one side. Only schedulable nodes count.

    Attributes:
        architecture: The side.
        nodes: The number of nodes.
        possible: The number of further nodes that NodePools may create; ``capacity`` includes them.
        coming: Whether a node does not exist yet. Nobody knows its disk.
        capacity: What the nodes have for pods.
        demand: The requests of the pods.
        too_large: The requests of a pod for which no node is large enough; None if there is none.
    """

    architecture: Architecture
    nodes: int
    capacity: Resources
    demand: Demand
    too_large: Resources | None = None
    possible: int = 0
    coming: bool = False

    @property
    def missing_vcpu(self) -> float:
        """The missing vCPU; 0.0 if there are enough."""
        return max(0, self.demand.total.millicpu - self.capacity.millicpu) / 1000

    @property
    def missing_gib(self) -> float:
        """The missing GiB of memory; 0.0 if there is enough."""
        return max(0, self.demand.total.memory - self.capacity.memory) / GIB

    @property
    def missing_devices(self) -> tuple[tuple[str, int], ...]:
        """Each device that the nodes lack: its name and the missing amount."""
        have = dict(self.capacity.devices)
        return tuple(
            (name, amount - have.get(name, 0))
            for name, amount in self.demand.total.devices
            if amount > have.get(name, 0) and not (self.coming and comes_with_node(name))
        )

    @property
    def shortage(self) -> str:
        """A sentence that says what is missing; empty if the demand fits."""
        side = display(self.architecture)
        lacking = []
        if self.missing_vcpu:
            lacking.append(f"{self.missing_vcpu:.1f} vCPU")
        if self.missing_gib:
            lacking.append(f"{self.missing_gib:.1f} GiB")
        lacking += [describe_amount(name, amount) for name, amount in self.missing_devices]
        requests, capacity = self.demand.total, self.capacity
        if requests.pods > capacity.pods:
            lacking.append(f"room for {counted(requests.pods - capacity.pods, 'pod')}")
        nodes = counted(self.nodes, "node")
        if self.possible:
            nodes += f" and {self.possible} that NodePools may bring up"
        if lacking:
            return (
                f"{side} lacks {', '.join(lacking)}: {counted(requests.pods, 'pod', 'ask')} for "
                f"{requests.vcpu:.1f} vCPU and {requests.gib:.1f} GiB of the "
                f"{capacity.vcpu:.1f} vCPU and {capacity.gib:.1f} GiB of {nodes}"
            )
        if self.too_large:
            return (
                f"{side} has no node for a pod of {self.too_large.vcpu:.1f} vCPU and "
                f"{self.too_large.gib:.1f} GiB"
            )
        return ""


def fits(pod: Resources, node: Node) -> bool:
    """Return whether a node is large enough for a pod's CPU and memory."""
    # The number of pods is compared for the whole side. ``may_run_on`` compares devices, for each workload.
    return node.millicpu >= pod.millicpu and node.memory >= pod.memory


def balance(nodes: Iterable[Node], demands: Mapping[Architecture, Demand]) -> dict[Architecture, Balance]:
    """Compare each side's capacity with its demand.

    Enough capacity in total is necessary but not sufficient: a pod may still not fit into any single node.
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
            coming=any(node.devices is None for node in side),
            capacity=total(node.capacity for node in side),
            demand=demand,
            too_large=next(
                (pod for pod in demand.largest if not any(fits(pod, node) for node in side)), None
            ),
        )
    return result
