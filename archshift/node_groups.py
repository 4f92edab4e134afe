"""Node groups as configured, and the nodes they stand for."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from archshift.architectures import ARCH_LABEL, Architecture
from archshift.instance_types import InstanceType

GROUP_LABEL: Final = "archshift/node-group"
"""On every node of a group that archshift manages; the value is the group's name."""

INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
"""Set by the kubelet (https://kubernetes.io/docs/reference/labels-annotations-taints/)."""

ARCHITECTURE_LABEL: Final = "architecture"
"""The label people select by in dashboards and policies; same value as kubernetes.io/arch."""


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
    """A group of equal nodes.

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
class Node:
    """A node, live or to be made.

    Attributes:
        name: The node's name.
        labels: Its labels, ``kubernetes.io/arch`` included.
        taints: Its taints.
        millicpu: Allocatable CPU, thousandths of a vCPU.
        memory: Allocatable memory, bytes.
        pods: Most pods it takes.
        schedulable: Ready and not cordoned.
    """

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...] = ()
    millicpu: int = 0
    memory: int = 0
    pods: int = 0
    schedulable: bool = True

    @property
    def architecture(self) -> str:
        """The value of ``kubernetes.io/arch``; empty where the label is missing."""
        return self.labels.get(ARCH_LABEL, "")


def nodes_of(group: NodeGroup) -> list[Node]:
    """Return the nodes of a group, as the lab makes them and the capacity check counts them."""
    kind = group.instance_type
    nodes = []
    for index in range(group.size):
        name = f"{group.name}-{index}"
        labels = {
            **group.labels,
            ARCH_LABEL: kind.architecture,
            "kubernetes.io/os": "linux",
            "kubernetes.io/hostname": name,
            INSTANCE_TYPE_LABEL: kind.name,
            "topology.kubernetes.io/zone": group.zones[index % len(group.zones)],
            ARCHITECTURE_LABEL: kind.architecture,
            GROUP_LABEL: group.name,
        }
        nodes.append(
            Node(
                name=name,
                labels=labels,
                taints=group.taints,
                millicpu=kind.allocatable_millicpu,
                memory=kind.allocatable_memory,
                pods=kind.pods,
            )
        )
    return nodes
