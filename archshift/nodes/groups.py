"""Node groups as configured, and the nodes they stand for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from math import ceil
from typing import Final, Literal, NamedTuple, TypeAlias

from archshift.common.architectures import Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import (
    ARCH_LABEL,
    ARCHITECTURE_LABEL,
    CAPACITY_TYPE_LABEL,
    EKS_GROUP_LABEL,
    GROUP_LABEL,
    INSTANCE_TYPE_LABEL,
    POOL_LABEL,
    ZONE_LABEL,
)
from archshift.common.resources import MIB, Resources, total
from archshift.nodes.instance_types import INSTANCE_TYPES, InstanceType

MOST_NODES: Final = 1000
"""Nodes of one pool that are counted; beyond that its limits are as good as none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taint:
    """A node taint.

    Attributes:
        key: The taint's key.
        value: Its value; empty for none.
        effect: NoSchedule, PreferNoSchedule or NoExecute.
    """

    key: str
    value: str = ""
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node: live, to be made, or one that a NodePool may bring up.

    Attributes:
        name: The node's name.
        labels: Its labels, ``kubernetes.io/arch`` included.
        taints: Its taints.
        millicpu: Allocatable CPU, thousandths of a vCPU.
        memory: Allocatable memory, bytes.
        pods: Most pods it takes.
        schedulable: Ready and not cordoned.
        choices: Of a node that a NodePool may bring up, the labels of which it chooses the value
            that a pod asks for: zone, instance type, capacity type. No value stands for any. Empty
            for any other node.
    """

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...] = ()
    millicpu: int = 0
    memory: int = 0
    pods: int = 0
    schedulable: bool = True
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def architecture(self) -> str:
        """The value of ``kubernetes.io/arch``; empty where the label is missing."""
        return self.labels.get(ARCH_LABEL, "")

    @property
    def capacity(self) -> Resources:
        """What pods may have of it."""
        return Resources(self.millicpu, self.memory, self.pods)

    def values(self, label: str) -> tuple[str | None, ...]:
        """Return the values that a label may have, None where it is missing; none for any."""
        return self.choices[label] if label in self.choices else (self.labels.get(label),)


class SizeRange(NamedTuple):
    """How many nodes a group has by its settings, may have, and whether an autoscaler decides."""

    desired: int
    most: int
    autoscaled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """What all kinds of groups have, and what most of them answer alike.

    Attributes:
        name: The key in ``archshift:node_groups``.
        labels: The user's own node labels.
        taints: Taints of every node.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()

    @property
    def min_nodes(self) -> int:
        """Nodes that it has, however few are needed."""
        return 0

    @property
    def spot(self) -> bool:
        """All of its nodes are Spot instances."""
        return False

    def owns(self, node: Node) -> bool:
        """Say whether a live node is of this group."""
        # A NodePool of the same name may be there, or have been.
        return not node.labels.get(POOL_LABEL) and node.labels.get(GROUP_LABEL) == self.name

    def nodes_on_demand(self) -> list[Node]:
        """Return nodes that come up only once pods need them, beside those that are there."""
        return []

    def limits_to_raise(self, _kind: InstanceType, _nodes: int) -> str:
        """Return which limits are too low for so many nodes of a type, and what to set; empty for none."""
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroup(_Group):
    """A group of equal simulated nodes (the lab's).

    Attributes:
        instance_type: Every node's type; decides the architecture.
        size: Number of nodes.
        zones: Availability zones, nodes are dealt round-robin.
    """

    instance_type: InstanceType
    size: int
    zones: tuple[str, ...]

    @property
    def architecture(self) -> Architecture:
        """The nodes' architecture."""
        return self.instance_type.architecture

    @property
    def instance_types(self) -> tuple[InstanceType, ...]:
        """Its one type."""
        return (self.instance_type,)

    def nodes(self) -> list[Node]:
        """Return its nodes, as the lab makes them and the capacity check counts them."""
        kind = self.instance_type
        return [
            _node(f"{self.name}-{index}", self, kind, kind.pods, self.zones[index % len(self.zones)])
            for index in range(self.size)
        ]

    def nodes_after(self, _own: Sequence[Node], _zones: Sequence[str]) -> list[Node]:
        """Return the nodes that it has after an update: in the lab a group is its settings."""
        return self.nodes()

    def nodes_with_new(self, live: Iterable[Node]) -> dict[str, list[Node]]:
        """Return name of a resource to the nodes that go with it: each node is a resource of its own."""
        by_name = {node.name: node for node in live}
        return {node.name: [by_name.get(node.name, node)] for node in self.nodes()}

    def samples(self, _zones: Sequence[str]) -> list[Node]:
        """Return what a node is like, one for each zone that it may come up in."""
        return replace(self, size=len(self.zones)).nodes()

    def size_range(self, _kind: InstanceType) -> SizeRange:
        """Return how many nodes it has and may have."""
        return SizeRange(self.size, self.size, autoscaled=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EksNodeGroup(_Group):
    """A managed node group of an EKS cluster.

    Attributes:
        instance_types: Its types, all of one architecture; EKS takes the first it can get.
        min_size: Fewest nodes, 0 or more.
        max_size: Most nodes, 1 or more.
        desired_size: Number of nodes; where an autoscaler runs, at the beginning only.
        autoscaled: An autoscaler adds and removes nodes.
        subnets: Subnet IDs.
        capacity_type: ON_DEMAND or SPOT.
        ami_type: One of ``AMI_TYPES``.
        disk_gib: Size of the root volume (Bottlerocket: of the data volume), GiB.
        max_unavailable: Nodes that an update may replace at once; a number, or a text like ``33%``.
        import_name: The existing group that this is, by its name at EKS; empty to make one. What
            would replace it (types, image, subnets, role, launch template) is left as it is.
    """

    instance_types: tuple[InstanceType, ...]
    min_size: int
    max_size: int
    desired_size: int
    autoscaled: bool = False
    subnets: tuple[str, ...]
    capacity_type: Literal["ON_DEMAND", "SPOT"] = "ON_DEMAND"
    ami_type: str
    disk_gib: int = 20
    max_unavailable: int | str = 1
    import_name: str = ""

    @property
    def architecture(self) -> Architecture:
        """The nodes' architecture."""
        return self.instance_types[0].architecture

    @property
    def node_labels(self) -> Mapping[str, str]:
        """The labels that the group gives its nodes; ``kubernetes.io/arch`` is the kubelet's."""
        return {**self.labels, ARCHITECTURE_LABEL: self.architecture, GROUP_LABEL: self.name}

    @property
    def min_nodes(self) -> int:
        """Nodes that it has, however few are needed."""
        return self.min_size

    @property
    def spot(self) -> bool:
        """All of its nodes are Spot instances."""
        return self.capacity_type == "SPOT"

    def owns(self, node: Node) -> bool:
        """Say whether a live node is of this group; before its import it has EKS's label alone."""
        if node.labels.get(POOL_LABEL):
            return False
        if node.labels.get(GROUP_LABEL) == self.name:
            return True
        return bool(self.import_name) and node.labels.get(EKS_GROUP_LABEL) == self.import_name

    def new_nodes(self, live: int, zones: Sequence[str] = ("",)) -> list[Node]:
        """Return the nodes that it adds to its ``live`` ones, each of its smallest type.

        Names are EKS's to choose; these stand for them in a plan.

        Args:
            live: How many of its nodes there are.
            zones: The zones they are taken to come up in, in turn.
        """
        kind = min(self.instance_types, key=lambda kind: (kind.vcpu, kind.memory_mib))
        # EKS gives all nodes of a group the limit of the type with the lowest.
        pods = min(kind.managed_pods for kind in self.instance_types)
        return [
            _node(f"{self.name}-new-{index}", self, kind, pods, zones[index % len(zones)])
            for index in range(max(0, self.desired_size - live))
        ]

    def nodes_after(self, own: Sequence[Node], zones: Sequence[str]) -> list[Node]:
        """Return the nodes that it has after an update.

        It keeps its nodes, as many as its desired size or an autoscaler leaves it, and gets those that are
        missing. Other instance types are another group, which begins without any.

        Args:
            own: Its live nodes.
            zones: The zones that new ones are taken to come up in.
        """
        # The types of an imported group are left as they are.
        staying = _staying(self, own, any_type=bool(self.import_name))
        kept = staying if self.autoscaled else staying[: self.desired_size]
        return kept + self.new_nodes(len(staying), zones)

    def nodes_with_new(self, live: Iterable[Node]) -> dict[str, list[Node]]:
        """Return name of a resource, the group, to the nodes that go with it."""
        own = [node for node in live if self.owns(node)]
        return {self.name: [*own, *self.new_nodes(len(own))]}

    def nodes_on_demand(self) -> list[Node]:
        """Return the first node that an autoscaler would bring up."""
        return replace(self, desired_size=1).new_nodes(0) if self.autoscaled else []

    def samples(self, zones: Sequence[str]) -> list[Node]:
        """Return what a node is like, one for each zone that it may come up in."""
        return replace(self, desired_size=len(zones)).new_nodes(0, zones)

    def size_range(self, _kind: InstanceType) -> SizeRange:
        """Return how many nodes it has by its settings and may have."""
        return SizeRange(self.desired_size, self.max_size, self.autoscaled)


@dataclass(frozen=True, slots=True)
class NodeClass:
    """What a NodePool's nodes are like in the cloud: image, subnets, role. Never archshift's own.

    Attributes:
        group: API group of its kind.
        kind: Its kind.
        name: Its name.
    """

    group: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool(_Group):
    """A group whose nodes Karpenter or EKS Auto Mode brings up for pods that find no room.

    Its name is the NodePool's. It has no number of nodes. What counts is what its limits let it bring up, so
    a plan counts its nodes and, beside them, those that would fill the limits.

    Attributes:
        instance_types: Its types, all of one architecture.
        node_class: What its nodes are like.
        millicpu: Most CPU that it may bring up, thousandths of a vCPU.
        memory: Most memory that it may bring up, bytes; None for as much as comes with the CPU.
        zones: Zones it is limited to; empty for those of the node class.
        capacity_types: on-demand, spot or reserved.
        weight: Which pool goes first, 1 to 100; None for last.
        consolidate_after: How long a node is left alone before it may be emptied, such as ``5m``.
        budget: Nodes that may be replaced at once: a number, or a share such as ``10%``.
        side_taint: Its nodes carry the soft taint of their side, as all other groups' do.
    """

    instance_types: tuple[InstanceType, ...]
    node_class: NodeClass
    millicpu: int
    memory: int | None = None
    zones: tuple[str, ...] = ()
    capacity_types: tuple[str, ...] = ("on-demand",)
    weight: int | None = None
    consolidate_after: str = "5m"
    budget: str = "10%"
    side_taint: bool = True

    @property
    def architecture(self) -> Architecture:
        """The nodes' architecture."""
        return self.instance_types[0].architecture

    @property
    def node_labels(self) -> Mapping[str, str]:
        """The labels that the pool gives its nodes; ``kubernetes.io/arch`` is the kubelet's."""
        return {**self.labels, ARCHITECTURE_LABEL: self.architecture, GROUP_LABEL: self.name}

    @property
    def spot(self) -> bool:
        """All of its nodes are Spot instances; of a pool that may take either, the dearer counts."""
        return self.capacity_types == ("spot",)

    def owns(self, node: Node) -> bool:
        """Say whether a live node is of this pool."""
        return node.labels.get(POOL_LABEL) == self.name

    def possible_nodes(self, live: Iterable[Node] = ()) -> list[Node]:
        """Return the nodes that it may bring up beside its ``live`` ones, until its limits are full.

        The largest first, so that the largest pod that would get a node finds one here, and the sum is
        what the limits allow. They stand for what Karpenter would choose and are no forecast of it.

        Args:
            live: The nodes that it has; they count against its limits.
        """
        millicpu, memory = self.millicpu, self.memory
        for node in live:
            used = _capacity(node)
            millicpu -= used[0]
            memory = None if memory is None else memory - used[1]
        types = {INSTANCE_TYPE_LABEL: tuple(kind.name for kind in self.instance_types)}
        nodes: list[Node] = []
        for kind in sorted(set(self.instance_types), key=_size, reverse=True):
            fit = millicpu // (kind.vcpu * 1000)
            if memory is not None:
                fit = min(fit, memory // (kind.memory_mib * MIB))
            for _ in range(min(max(0, fit), MOST_NODES - len(nodes))):
                nodes.append(self._possible(f"{self.name}-possible-{len(nodes)}", kind, types))
                millicpu -= kind.vcpu * 1000
                memory = None if memory is None else memory - kind.memory_mib * MIB
        return nodes

    def sample(self, kind: InstanceType) -> Node:
        """Return what a node is like if it is of this type, whatever the limits say."""
        return self._possible(f"{self.name}-possible", kind, {})

    def _possible(self, name: str, kind: InstanceType, choices: Mapping[str, tuple[str, ...]]) -> Node:
        return Node(
            name=name,
            labels={
                **self.node_labels,
                ARCH_LABEL: kind.architecture,
                "kubernetes.io/os": "linux",
                "kubernetes.io/hostname": name,
                INSTANCE_TYPE_LABEL: kind.name,
                POOL_LABEL: self.name,
            },
            taints=self.taints,
            millicpu=kind.allocatable_millicpu,
            memory=kind.allocatable_memory,
            pods=kind.managed_pods,
            # The zones of a pool that names none are its node class's subnets', which nobody here knows: a
            # pod that asks for a zone gets a node there or none, and that is not for us to foresee.
            choices={**choices, ZONE_LABEL: self.zones, CAPACITY_TYPE_LABEL: self.capacity_types},
        )

    def nodes_after(self, own: Sequence[Node], _zones: Sequence[str]) -> list[Node]:
        """Return the nodes that it has after an update, and those that its limits let it bring up.

        Karpenter replaces the nodes that no longer meet their NodePool, one by one.

        Args:
            own: Its live nodes.
        """
        staying = _staying(self, own)
        return [*staying, *self.possible_nodes(staying)]

    def nodes_with_new(self, live: Iterable[Node]) -> dict[str, list[Node]]:
        """Return name of a resource, the pool, to the nodes that go with it."""
        own = [node for node in live if self.owns(node)]
        return {self.name: [*own, *self.possible_nodes(own)]}

    def nodes_on_demand(self) -> list[Node]:
        """Return the nodes that fill its limits."""
        return self.possible_nodes()

    def samples(self, _zones: Sequence[str]) -> list[Node]:
        """Return what a node is like, one for each of its types, the smallest first."""
        return [self.sample(kind) for kind in sorted(set(self.instance_types), key=_size)]

    def size_range(self, kind: InstanceType) -> SizeRange:
        """Return how many nodes of a type its limits allow; it begins with none."""
        most = self.millicpu // (1000 * kind.vcpu)
        if self.memory is not None:
            most = min(most, self.memory // (kind.memory_mib * MIB))
        return SizeRange(0, most, autoscaled=True)

    def limits_to_raise(self, kind: InstanceType, nodes: int) -> str:
        """Return which limits are too low for so many nodes of a type, and what to set; empty for none."""
        short = []
        if nodes * kind.vcpu * 1000 > self.millicpu:
            short.append(f"limits.cpu to {nodes * kind.vcpu}")
        if self.memory is not None and nodes * kind.memory_mib * MIB > self.memory:
            short.append(f"limits.memory to {ceil(nodes * kind.memory_mib / 1024)}Gi")
        return " and its ".join(short)

    def allows_less(self, later: "NodePool") -> bool:
        """Say whether a change of it allows fewer nodes or fewer kinds of them."""
        if later.architecture != self.architecture or later.millicpu < self.millicpu:
            return True
        if later.memory is not None and (self.memory is None or later.memory < self.memory):
            return True
        if not {*self.instance_types} <= {*later.instance_types}:
            return True
        # Without zones of its own a pool is in all that its node class has.
        return bool(later.zones) and not (self.zones and {*self.zones} <= {*later.zones})


AnyNodeGroup: TypeAlias = NodeGroup | EksNodeGroup | NodePool


def _node(name: str, group: AnyNodeGroup, kind: InstanceType, pods: int, zone: str = "") -> Node:
    labels = {
        **group.labels,
        ARCH_LABEL: kind.architecture,
        "kubernetes.io/os": "linux",
        "kubernetes.io/hostname": name,
        INSTANCE_TYPE_LABEL: kind.name,
        ZONE_LABEL: zone,
        ARCHITECTURE_LABEL: kind.architecture,
        GROUP_LABEL: group.name,
    }
    return Node(
        name=name,
        labels=labels,
        taints=group.taints,
        millicpu=kind.allocatable_millicpu,
        memory=kind.allocatable_memory,
        pods=pods,
    )


def _staying(group: EksNodeGroup | NodePool, own: Iterable[Node], *, any_type: bool = False) -> list[Node]:
    """Return the live nodes of a group that a change of its instance types leaves, as they will be.

    With the labels and taints that the group gives them. EKS sets them in place, Karpenter with the node
    that it replaces this one by.
    """
    types = {"", *(kind.name for kind in group.instance_types)}
    return [
        replace(
            node,
            labels={**node.labels, **group.node_labels},
            taints=(*node.taints, *(taint for taint in group.taints if taint not in node.taints)),
        )
        for node in own
        if any_type or node.labels.get(INSTANCE_TYPE_LABEL, "") in types
    ]


def _size(kind: InstanceType) -> tuple[int, int, str]:
    return kind.vcpu, kind.memory_mib, kind.name


def _capacity(node: Node) -> tuple[int, int]:
    """Return what a node counts for against limits: all that its machine has, not what pods get."""
    kind = INSTANCE_TYPES.get(node.labels.get(INSTANCE_TYPE_LABEL, ""))
    return (kind.vcpu * 1000, kind.memory_mib * MIB) if kind else (node.millicpu, node.memory)


def one_architecture(types: Sequence[InstanceType], key: str) -> Architecture:
    """Return the architecture of a group's types.

    Raises:
        ArchshiftError: They are of both; every node of a group gets the same image.
    """
    sides: dict[Architecture, str] = {}
    for kind in types:
        sides.setdefault(kind.architecture, kind.name)
    if len(sides) > 1:
        mixture = " and ".join(f"{name} is {side}" for side, name in sides.items())
        raise ArchshiftError(f"{key}: {mixture}", "make a node group for each architecture")
    return types[0].architecture


def capacity_by_architecture(nodes: Iterable[Node]) -> dict[str, dict[str, int]]:
    """Return what the schedulable ones hold: ``nodes``, ``millicpu``, ``memory`` in bytes, ``pods``."""
    sides: dict[str, list[Resources]] = {}
    for node in nodes:
        if node.schedulable and node.architecture:
            sides.setdefault(node.architecture, []).append(node.capacity)
    return {
        architecture: {"nodes": len(capacities), **asdict(total(capacities))}
        for architecture, capacities in sides.items()
    }


def side_taint(architecture: Architecture) -> Taint:
    """Return the taint that every node of a managed group carries for its side.

    It turns nobody away. A workload that tolerates one side's gets 300 points of preference for
    it, beside the 200 of its node affinity; for all others both sides are alike
    (docs/adr/0003).
    """
    return Taint(key=f"archshift/{architecture}", effect="PreferNoSchedule")
