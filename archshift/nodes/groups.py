"""Node groups as configured, and the nodes they stand for."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias

from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import (
    ARCH_LABEL,
    ARCHITECTURE_LABEL,
    EKS_GROUP_LABEL,
    GROUP_LABEL,
    INSTANCE_TYPE_LABEL,
    POOL_LABEL,
    ZONE_LABEL,
)
from archshift.nodes.instance_types import InstanceType

AmiFamily: TypeAlias = Literal["AL2023", "Bottlerocket"]

AMI_FAMILIES: Final[Mapping[AmiFamily, Mapping[Architecture, str]]] = {
    "AL2023": {AMD64: "AL2023_x86_64_STANDARD", ARM64: "AL2023_ARM_64_STANDARD"},
    "Bottlerocket": {AMD64: "BOTTLEROCKET_x86_64", ARM64: "BOTTLEROCKET_ARM_64"},
}
"""The operating systems of nodes, and their AMI type for each architecture.

https://docs.aws.amazon.com/eks/latest/APIReference/API_Nodegroup.html
"""

AMI_TYPES: Final[Mapping[str, Architecture]] = {
    **{name: side for family in AMI_FAMILIES.values() for side, name in family.items()},
    "AL2023_x86_64_NVIDIA": AMD64,
    "AL2023_x86_64_NEURON": AMD64,
    "AL2023_ARM_64_NVIDIA": ARM64,
    "BOTTLEROCKET_x86_64_FIPS": AMD64,
    "BOTTLEROCKET_ARM_64_FIPS": ARM64,
    "BOTTLEROCKET_x86_64_NVIDIA": AMD64,
    "BOTTLEROCKET_ARM_64_NVIDIA": ARM64,
    "BOTTLEROCKET_x86_64_NVIDIA_FIPS": AMD64,
    "BOTTLEROCKET_ARM_64_NVIDIA_FIPS": ARM64,
}
"""The AMI types that a node group may name, and their architecture."""


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
class NodeGroup:
    """A group of equal simulated nodes (the lab's).

    Attributes:
        name: The key in ``archshift:node_groups``.
        instance_type: Every node's type; decides the architecture.
        size: Number of nodes.
        zones: Availability zones, nodes are dealt round-robin.
        labels: The user's own node labels.
        taints: Taints of every node.
    """

    name: str
    instance_type: InstanceType
    size: int
    zones: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()

    @property
    def architecture(self) -> Architecture:
        """The nodes' architecture."""
        return self.instance_type.architecture


@dataclass(frozen=True, slots=True, kw_only=True)
class EksNodeGroup:
    """A managed node group of an EKS cluster.

    Attributes:
        name: The key in ``archshift:node_groups``.
        instance_types: Its types, all of one architecture; EKS takes the first it can get.
        min_size: Fewest nodes, 0 or more.
        max_size: Most nodes, 1 or more.
        desired_size: Number of nodes; where an autoscaler runs, at the beginning only.
        autoscaled: An autoscaler adds and removes nodes.
        subnets: Subnet IDs.
        capacity_type: ON_DEMAND or SPOT.
        ami_type: One of ``AMI_TYPES``.
        disk_gib: Size of the root volume (Bottlerocket: of the data volume), GiB.
        labels: The user's own node labels.
        taints: Taints of every node.
        max_unavailable: Nodes that an update may replace at once; a number, or a text like ``33%``.
        import_name: The existing group that this is, by its name at EKS; empty to make one. What
            would replace it (types, image, subnets, role, launch template) is left as it is.
    """

    name: str
    instance_types: tuple[InstanceType, ...]
    min_size: int
    max_size: int
    desired_size: int
    autoscaled: bool = False
    subnets: tuple[str, ...]
    capacity_type: Literal["ON_DEMAND", "SPOT"] = "ON_DEMAND"
    ami_type: str
    disk_gib: int = 20
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
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
class NodePool:
    """A group whose nodes Karpenter or EKS Auto Mode brings up for pods that find no room.

    Attributes:
        name: The key in ``archshift:node_groups``, and the NodePool's name.
        instance_types: Its types, all of one architecture.
        node_class: What its nodes are like.
        millicpu: Most CPU that it may bring up, thousandths of a vCPU.
        memory: Most memory that it may bring up, bytes; None for as much as comes with the CPU.
        zones: Zones it is limited to; empty for those of the node class.
        capacity_types: on-demand, spot or reserved.
        weight: Which pool goes first, 1 to 100; None for last.
        labels: The user's own node labels.
        taints: Taints of every node.
        consolidate_after: How long a node is left alone before it may be emptied, such as ``5m``.
        budget: Nodes that may be replaced at once: a number, or a share such as ``10%``.
        side_taint: Its nodes carry the soft taint of their side, as all other groups' do.
    """

    name: str
    instance_types: tuple[InstanceType, ...]
    node_class: NodeClass
    millicpu: int
    memory: int | None = None
    zones: tuple[str, ...] = ()
    capacity_types: tuple[str, ...] = ("on-demand",)
    weight: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
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


AnyNodeGroup: TypeAlias = NodeGroup | EksNodeGroup | NodePool


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

    def values(self, label: str) -> tuple[str | None, ...]:
        """Return the values that a label may have, None where it is missing; none for any."""
        return self.choices[label] if label in self.choices else (self.labels.get(label),)


def nodes_of(group: NodeGroup) -> list[Node]:
    """Return the nodes of a group, as the lab makes them and the capacity check counts them."""
    kind = group.instance_type
    return [
        _node(f"{group.name}-{index}", group, kind, kind.pods, group.zones[index % len(group.zones)])
        for index in range(group.size)
    ]


def new_nodes(group: EksNodeGroup, live: int, zones: Sequence[str] = ("",)) -> list[Node]:
    """Return the nodes that a managed group adds to its ``live`` ones, each of its smallest type.

    Names are EKS's to choose; these stand for them in a plan.

    Args:
        group: The group.
        live: How many of its nodes there are.
        zones: The zones they are taken to come up in, in turn.
    """
    kind = min(group.instance_types, key=lambda kind: (kind.vcpu, kind.memory_mib))
    # EKS gives all nodes of a group the limit of the type with the lowest.
    pods = min(kind.managed_pods for kind in group.instance_types)
    return [
        _node(f"{group.name}-new-{index}", group, kind, pods, zones[index % len(zones)])
        for index in range(max(0, group.desired_size - live))
    ]


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


def belongs_to(node: Node, group: AnyNodeGroup) -> bool:
    """Say whether a live node is of a group; before its import it has EKS's label alone."""
    pool = node.labels.get(POOL_LABEL)
    if pool or isinstance(group, NodePool):
        # A managed group of the same name may be there, or have been.
        return isinstance(group, NodePool) and pool == group.name
    if node.labels.get(GROUP_LABEL) == group.name:
        return True
    imported = group.import_name if isinstance(group, EksNodeGroup) else ""
    return bool(imported) and node.labels.get(EKS_GROUP_LABEL) == imported


def survives(group: EksNodeGroup | NodePool, node: Node) -> bool:
    """Say whether a live node of a group stays: a change of the instance types replaces the group.

    Karpenter replaces the nodes that no longer meet their NodePool, one by one.
    """
    kind = node.labels.get(INSTANCE_TYPE_LABEL, "")
    imported = isinstance(group, EksNodeGroup) and bool(group.import_name)
    return imported or not kind or kind in {kind.name for kind in group.instance_types}


def with_group_labels(group: EksNodeGroup | NodePool, node: Node) -> Node:
    """Return a live node with the labels and taints that its group gives it.

    EKS sets them in place, Karpenter with the node that it replaces this one by.
    """
    taints = tuple(taint for taint in group.taints if taint not in node.taints)
    return replace(node, labels={**node.labels, **group.node_labels}, taints=(*node.taints, *taints))


def one_architecture(types: Sequence[InstanceType], key: str) -> Architecture:
    """Return the architecture of a group's types.

    Raises:
        ArchshiftError: They are of both; every node of a group gets the same image.
    """
    sides: dict[Architecture, str] = {}
    for kind in types:
        sides.setdefault(kind.architecture, kind.name)
    if len(sides) > 1:
        found = " and ".join(f"{name} is {side}" for side, name in sides.items())
        raise ArchshiftError(f"{key}: {found}", "make a node group for each architecture")
    return types[0].architecture


def check_ami_type(ami_type: str, types: Iterable[InstanceType], key: str) -> str:
    """Return the AMI type if it fits a group's types, which are of one architecture.

    Raises:
        ArchshiftError: It is unknown, or an image of the other architecture.
    """
    if ami_type not in AMI_TYPES:
        raise ArchshiftError(f"{key}: {ami_type!r} is none of {', '.join(AMI_TYPES)}")
    for kind in types:
        if AMI_TYPES[ami_type] != kind.architecture:
            raise ArchshiftError(
                f"{key}: {ami_type} is for {AMI_TYPES[ami_type]} and {kind.name} is {kind.architecture}",
                "leave it out and ami_family finds the right one",
            )
    return ami_type


def capacity_by_architecture(nodes: Iterable[Node]) -> dict[str, dict[str, int]]:
    """Return what the schedulable ones hold: ``nodes``, ``millicpu``, ``memory`` in bytes, ``pods``."""
    capacity: dict[str, dict[str, int]] = {}
    for node in nodes:
        if node.schedulable and node.architecture:
            side = capacity.setdefault(
                node.architecture, dict.fromkeys(("nodes", "millicpu", "memory", "pods"), 0)
            )
            side["nodes"] += 1
            side["millicpu"] += node.millicpu
            side["memory"] += node.memory
            side["pods"] += node.pods
    return capacity


def side_taint(architecture: Architecture) -> Taint:
    """Return the taint that every node of a managed group carries for its side.

    It turns nobody away. A workload that tolerates one side's gets 300 points of preference for
    it, beside the 200 of its node affinity; for all others both sides are alike
    (docs/adr/0003).
    """
    return Taint(key=f"archshift/{architecture}", effect="PreferNoSchedule")
