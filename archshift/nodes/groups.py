"""The configured node groups, and their nodes."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import cycle
from math import ceil
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias

from archshift.common.architectures import ARCHITECTURES, Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import (
    ARCH_LABEL,
    ARCHITECTURE_LABEL,
    CAPACITY_TYPE_LABEL,
    COMPUTE_TYPE_LABEL,
    EKS_GROUP_LABEL,
    GROUP_LABEL,
    HOSTNAME_LABEL,
    INSTANCE_TYPE_LABEL,
    OS_LABELS,
    OURS,
    POOL_LABEL,
    STACK_LABEL,
    TWIN_TAG,
    ZONE_LABEL,
)
from archshift.common.resources import EPHEMERAL_STORAGE, MIB, Devices, Resources, total
from archshift.nodes import well_known_labels
from archshift.nodes.instance_types import INSTANCE_TYPES, InstanceType
from archshift.nodes.launch_templates import Instances, TemplateVersion
from archshift.nodes.requirements import Requirement
from archshift.nodes.temporary_taints import is_temporary
from archshift.nodes.well_known_labels import WellKnown

if TYPE_CHECKING:
    from archshift.nodes.live_groups import LiveGroup

MOST_NODES: Final = 1000
"""The most nodes of a pool that count. Limits that permit more are treated as this number."""

MOST_MILLICPU: Final = 100_000_000
"""What a pool without limits counts with, in thousandths of a vCPU."""


CAPACITY_TYPES: Final = ("on-demand", "spot", "reserved")
"""How Karpenter may buy nodes."""

Consolidation: TypeAlias = Literal["when-empty", "when-empty-or-underutilized"]
"""Which nodes Karpenter may remove or replace to save costs."""

SPECIAL_NODES: Final = ("windows", "fargate", "virtual")
"""The kinds of nodes that ordinary Linux pods cannot use: values of ``Node.architecture``."""


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

    @property
    def hard(self) -> bool:
        """Whether it keeps pods off the node that do not tolerate it."""
        return self.effect in ("NoSchedule", "NoExecute")

    @property
    def temporary(self) -> bool:
        """Whether it goes away by itself, such as the taint of a cordoned node."""
        return is_temporary(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A node: a live node, a node that an update creates, or a node that a NodePool may create.

    Attributes:
        name: The node's name.
        labels: Its labels, including ``kubernetes.io/arch``.
        taints: Its taints.
        millicpu: The allocatable CPU, in thousandths of a vCPU.
        memory: The allocatable memory, in bytes.
        pods: The most pods that it can have.
        schedulable: Whether it takes pods now: it is ready, not cordoned, and has no hard temporary taint.
        devices: The allocatable amounts of all other resources; None for a node that does not exist yet.
        choices: Label to the values that a NodePool may choose from for a pod: zone and capacity type. It is
            empty for all other nodes.
        variants: The labels of each instance type that a node to come may have; empty if ``labels`` has them.
        varying: The labels in ``variants``, so that nobody searches hundreds of types for another label.
        unknown: The labels of a node to come whose values nobody knows yet.
        unknown_fits: Whether a rule on an unknown label counts as met. For the guard it does not.
        settings_labels: The labels that a stack's settings gave a simulated node. An update may remove them,
            but never the labels that others put on it.
    """

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...] = ()
    millicpu: int = 0
    memory: int = 0
    pods: int = 0
    schedulable: bool = True
    devices: Devices | None = None
    choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    variants: tuple[Mapping[str, str], ...] = ()
    varying: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    unknown: frozenset[str] = frozenset()
    unknown_fits: bool = True
    settings_labels: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    @property
    def architecture(self) -> str:
        """The side that it is on: ``amd64`` or ``arm64``; empty if the label is missing.

        Ordinary Linux pods cannot use some nodes. For these it is the kind of node: ``windows``, ``fargate``
        (AWS made it for one pod) or ``virtual`` (no machine).
        """
        return _special_kind(self.labels) or self.labels.get(ARCH_LABEL, "")

    @property
    def lasting_taints(self) -> tuple[Taint, ...]:
        """The taints that decide where a workload may run. Temporary states never do."""
        return tuple(taint for taint in self.taints if not taint.temporary)

    @property
    def open(self) -> bool:
        """Whether it accepts new pods: it is ready, and no temporary taint is on it."""
        return self.schedulable and self.lasting_taints == self.taints

    @property
    def capacity(self) -> Resources:
        """What it has for pods."""
        return Resources(self.millicpu, self.memory, self.pods, self.devices or ())

    @property
    def system(self) -> str:
        """Its operating system; nodes without the label run Linux."""
        return next((self.labels[label] for label in OS_LABELS if label in self.labels), "linux")

    def lacking_device(self, requests: Resources) -> str:
        """Return the first device whose amount is too small for a pod; empty if every amount is enough."""
        if not requests.devices:
            return ""
        have = dict(self.devices or ())
        return next(
            (
                name
                for name, amount in requests.devices
                if have.get(name, 0) < amount and not (self.devices is None and comes_with_node(name))
            ),
            "",
        )

    def values(self, label: str, variant: Mapping[str, str]) -> tuple[str | None, ...]:
        """Return the possible values of a label: None for a missing label, an empty result for unknown.

        Args:
            label: The label.
            variant: One of ``variants``, or an empty map.
        """
        if label in variant:
            return (variant[label],)
        if label in self.unknown:
            return ()
        return self.choices[label] if label in self.choices else (self.labels.get(label),)


def _special_kind(labels: Mapping[str, str]) -> str:
    if any(labels.get(label, "linux") != "linux" for label in OS_LABELS):
        return "windows"  # Kubernetes has no third operating system
    if labels.get(COMPUTE_TYPE_LABEL) == "fargate":
        return "fargate"
    # https://virtual-kubelet.io and https://docs.liqo.io
    virtual = labels.get("type") in ("virtual-kubelet", "virtual-node") or "liqo.io/type" in labels
    return "virtual" if virtual else ""


def comes_with_node(device: str) -> bool:
    """Return whether a node that does not exist yet will have this resource, in an amount that is unknown.

    Other devices depend on the machine and on a device plugin, so such a node counts without them.
    """
    return device == EPHEMERAL_STORAGE or device.startswith("vpc.amazonaws.com/")


class SizeRange(NamedTuple):
    """The number of nodes in a group's settings, the most that it may have, and whether it is autoscaled."""

    desired: int
    most: int
    autoscaled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """What all kinds of groups have, and the methods that are the same for most kinds.

    Attributes:
        name: The key in ``archshift:node_groups``.
        labels: The user's own node labels.
        taints: The taints of every node.
        stack: The value of its nodes' label ``archshift/stack``; empty for none.
    """

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    stack: str = ""

    @property
    def _own_labels(self) -> dict[str, str]:
        # Not for NodePools: a new label would make Karpenter replace all nodes of a pool.
        return {GROUP_LABEL: self.name, **({STACK_LABEL: self.stack} if self.stack else {})}

    @property
    def min_nodes(self) -> int:
        """Nodes that it has, however few are needed."""
        return 0

    @property
    def spot(self) -> bool:
        """All of its nodes are Spot instances."""
        return False

    def owns(self, node: Node) -> bool:
        """Return whether a live node belongs to this group."""
        # A NodePool with the same name may exist, or may have existed.
        return not node.labels.get(POOL_LABEL) and self._labelled(node)

    def _labelled(self, node: Node) -> bool:
        return node.labels.get(GROUP_LABEL) == self.name and not made_by_another_stack(node, self.stack)

    def nodes_on_demand(self) -> list[Node]:
        """Return the nodes that do not exist until pods need them."""
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
        zones: The availability zones; nodes are assigned to them in turn.
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
        """Its only instance type."""
        return (self.instance_type,)

    @property
    def node_labels(self) -> Mapping[str, str]:
        """The labels that the group gives its nodes."""
        return {**self.labels, ARCHITECTURE_LABEL: self.architecture, **self._own_labels}

    def nodes(self) -> list[Node]:
        """Return its nodes as the lab creates them and the capacity check counts them."""
        kind = self.instance_type
        return [
            _node(f"{self.name}-{index}", self, kind, kind.pods, zone, well_known_labels.of_zone(zone).labels)
            for index, zone in zip(range(self.size), cycle(self.zones), strict=False)
        ]

    def nodes_after(self, own: Sequence[Node], _zones: Sequence[str]) -> list[Node]:
        """Return its nodes after an update: the live nodes that stay, and the missing nodes.

        Args:
            own: Its live nodes.
        """
        live = {node.name: node for node in _staying(self, own)}
        # The settings decide the zone, too, because an update sets all labels of the group again.
        return [
            replace(live[node.name], labels={**live[node.name].labels, **node.labels})
            if node.name in live
            else node
            for node in self.nodes()
        ]

    def nodes_with_new(self, live: Iterable[Node]) -> dict[str, list[Node]]:
        """Return the name of each resource to the nodes that it creates: each node is its own resource."""
        by_name = {node.name: node for node in live}
        return {node.name: [by_name.get(node.name, node)] for node in self.nodes()}

    def samples(self, _zones: Sequence[str]) -> list[Node]:
        """Return what a node is like, one for each zone that it may come up in."""
        return replace(self, size=len(self.zones)).nodes()

    def size_range(self, _kind: InstanceType) -> SizeRange:
        """Return the number of its nodes, which is fixed."""
        return SizeRange(self.size, self.size, autoscaled=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class EksNodeGroup(_Group):
    """A managed node group of an EKS cluster.

    Attributes:
        instance_types: Its types, all of one architecture. EKS uses the first type that is available.
        min_size: The fewest nodes, 0 or more.
        max_size: The most nodes, 1 or more.
        desired_size: The number of nodes; with an autoscaler, only at the beginning.
        autoscaled: Whether an autoscaler adds and removes nodes.
        subnets: The subnet IDs.
        capacity_type: ON_DEMAND or SPOT.
        ami_type: One of ``AMI_TYPES``.
        disk_gib: The size of the root volume (Bottlerocket: of the data volume), in GiB.
        max_unavailable: How many nodes an update may replace at once: a number, or a text such as ``33%``.
        update_strategy: DEFAULT or MINIMAL, from a live group; empty for what EKS does by default.
        version: The Kubernetes version of the nodes; empty to leave it as it is. A new group then gets that
            of the cluster.
        release_version: The version of their AMI; empty to leave it as it is. A new group gets the newest.
        import_name: The name at EKS of an existing group to import; empty to create a group. An import does
            not change what would replace the group: types, image, subnets, role, launch template.
        twin_of: The name of the group whose twin it is; empty for none.
        typed: The keys that its own settings have; what they do not say may come from a live group.
        node_role: The ARN of the IAM role of the nodes; empty for that of the cluster.
        tags: The tags of the group, its instances and its volumes.
        group_tags: Further tags of the group alone; ``instances`` has those of instances and volumes.
        node_repair: Whether EKS replaces nodes that are not healthy.
        launch_template: A launch template of the user's own; None for archshift's, with ``instances``.
        instances: What archshift's launch template gives each node.
        retired: Its nodes take no new pods, by the taint ``RETIRED``, which is one of ``taints``.
        released: The stack hands the group back: it takes off what is its own, and no longer deletes it.
        live: The group as it is; None before it exists, or if nobody asked EKS.
        source: The group from which it got what the settings do not say; None for none.
        notes: What people need to know about it, one sentence each.
        lost_labels: Its labels that somebody has removed at EKS, and that the next update does not set again.
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
    update_strategy: str = ""
    version: str = ""
    release_version: str = ""
    import_name: str = ""
    twin_of: str = ""
    typed: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    node_role: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    group_tags: Mapping[str, str] = field(default_factory=dict)
    node_repair: bool = False
    launch_template: TemplateVersion | None = None
    instances: Instances = field(default_factory=Instances)
    retired: bool = False
    released: bool = False
    live: "LiveGroup | None" = None
    source: "LiveGroup | None" = None
    notes: tuple[str, ...] = ()
    lost_labels: frozenset[str] = frozenset()

    @property
    def architecture(self) -> Architecture:
        """The nodes' architecture."""
        return self.instance_types[0].architecture

    @property
    def node_labels(self) -> Mapping[str, str]:
        """The labels that the group gives its nodes; the kubelet sets ``kubernetes.io/arch``."""
        ours = {} if self.released else {ARCHITECTURE_LABEL: self.architecture, **self._own_labels}
        labels = {**self.labels, **ours}
        return {key: labels[key] for key in labels.keys() - self.lost_labels} if self.lost_labels else labels

    @property
    def original(self) -> str:
        """The name of the group whose twin it is, or was, when archshift made it; empty for none."""
        return self.twin_of or (self.live.tags.get(TWIN_TAG, "") if self.live else "")

    @property
    def node_taints(self) -> tuple[Taint, ...]:
        """The taints that the group gives its nodes, with that of their side."""
        return self.taints if self.released else (*self.taints, side_taint(self.architecture))

    @property
    def min_nodes(self) -> int:
        """Nodes that it has, however few are needed."""
        return self.min_size

    @property
    def spot(self) -> bool:
        """All of its nodes are Spot instances."""
        return self.capacity_type == "SPOT"

    def owns(self, node: Node) -> bool:
        """Return whether a live node belongs to this group; before an import it has only EKS's label."""
        if node.labels.get(POOL_LABEL):
            return False
        if self._labelled(node):
            return True
        return bool(self.import_name) and node.labels.get(EKS_GROUP_LABEL) == self.import_name

    def new_nodes(self, live: int, zones: Sequence[str] = ("",)) -> list[Node]:
        """Return the nodes that it adds to its ``live`` nodes, each of its smallest type.

        EKS chooses the real names; a plan uses these instead.

        Args:
            live: The number of its live nodes.
            zones: The zones of new nodes, in turn. This is an assumption.
        """
        kind = min(self.instance_types, key=lambda kind: (kind.vcpu, kind.memory_mib))
        # EKS gives all nodes of a group the lowest limit of its types.
        pods = min(kind.managed_pods for kind in self.instance_types)
        by_eks = well_known_labels.of_managed_group(spot=self.spot, name=self.import_name)
        types = tuple(well_known_labels.of_any_node(kind).labels for kind in self.instance_types)
        nodes = []
        for index in range(max(0, self.desired_size - live)):
            zone = zones[index % len(zones)]
            known = by_eks | well_known_labels.of_zone(zone)
            node = _node(f"{self.name}-new-{index}", self, kind, pods, zone, known.labels)
            unknown = known.unknown - self.labels.keys()
            if len(types) > 1:
                node = replace(node, variants=types, varying=frozenset().union(*types))
            nodes.append(replace(node, unknown=unknown))
        return nodes

    def nodes_after(self, own: Sequence[Node], zones: Sequence[str]) -> list[Node]:
        """Return its nodes after an update.

        It keeps as many live nodes as its desired size or an autoscaler leaves, and gets the missing nodes.
        With other instance types it becomes another group, which begins without nodes.

        Args:
            own: Its live nodes.
            zones: The zones of new nodes. This is an assumption.
        """
        # An import does not change the types of a group.
        staying = _staying(self, own, any_type=bool(self.import_name))
        kept = staying if self.autoscaled else staying[: self.desired_size]
        return kept + self.new_nodes(len(staying), zones)

    def nodes_with_new(self, live: Iterable[Node]) -> dict[str, list[Node]]:
        """Return the name of the group, which is the resource, to the nodes that it creates."""
        own = [node for node in live if self.owns(node)]
        return {self.name: [*own, *self.new_nodes(len(own))]}

    def nodes_on_demand(self) -> list[Node]:
        """Return the first node that an autoscaler would add."""
        return replace(self, desired_size=1).new_nodes(0) if self.autoscaled else []

    def samples(self, zones: Sequence[str]) -> list[Node]:
        """Return what a node is like, one for each zone that it may come up in."""
        return replace(self, desired_size=len(zones)).new_nodes(0, zones)

    def size_range(self, _kind: InstanceType) -> SizeRange:
        """Return the number of nodes in the settings and the most that it may have."""
        return SizeRange(self.desired_size, self.max_size, self.autoscaled)


@dataclass(frozen=True, slots=True)
class NodeClass:
    """The node class of a NodePool: image, subnets, role. archshift never creates one.

    Attributes:
        group: The API group of its kind.
        kind: Its kind.
        name: Its name.
    """

    group: str
    kind: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePool(_Group):
    """A group whose nodes Karpenter or EKS Auto Mode creates for pods that no node has room for.

    It has limits instead of a number of nodes. So a plan counts its live nodes and the further nodes that its
    limits permit.

    Attributes:
        instance_types: All types that it may use, all of one architecture.
        requirements: What the machines must be; empty for a NodePool that lists ``instance_types``.
        node_class: The node class of its nodes.
        millicpu: The most CPU of its nodes, in thousandths of a vCPU; None for any.
        memory: The most memory of its nodes, in bytes; None for any.
        most_nodes: The most nodes; None for any number.
        zones: Its zones; empty for those of the node class.
        capacity_types: on-demand, spot or reserved; empty for all.
        label_choices: Label of the user to the values that Karpenter may choose from.
        weight: Its priority among pools, 1 to 100, the highest first; None for the lowest.
        consolidate_after: How long a node must be unchanged before consolidation, such as ``5m``.
        consolidation: Which nodes Karpenter may remove or replace to save costs.
        budget: How many nodes may be replaced at once: a number, or a share such as ``10%``.
        expire_after: The age at which Karpenter replaces a node, such as ``720h``; empty for its default.
        termination_grace_period: How long a node may take to drain, such as ``48h``; empty for any time.
        startup_taints: Taints of a new node that an agent removes.
        annotations: Annotations of every node.
        side_taint: Whether its nodes have the soft taint of their side, as the nodes of other groups do.
        import_name: The name of the existing NodePool that this is; empty for one that archshift makes.
        spec: The spec to apply, for a pool that follows an existing NodePool; None if the other attributes
            are all that there is.
        former: What fields of an existing NodePool had before the settings, as an annotation; empty for none.
        notes: What its owner must know about it, as sentences.
        force: archshift overwrites the fields of other owners.
        released: The engine forgets it instead of deleting it.
    """

    instance_types: tuple[InstanceType, ...]
    requirements: tuple[Requirement, ...] = ()
    node_class: NodeClass
    millicpu: int | None
    memory: int | None = None
    most_nodes: int | None = None
    zones: tuple[str, ...] = ()
    capacity_types: tuple[str, ...] = ("on-demand",)
    label_choices: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    weight: int | None = None
    consolidate_after: str = "5m"
    consolidation: Consolidation = "when-empty-or-underutilized"
    budget: str = "10%"
    expire_after: str = ""
    termination_grace_period: str = ""
    startup_taints: tuple[Taint, ...] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    side_taint: bool = True
    import_name: str = ""
    spec: Mapping[str, Any] | None = None
    former: str = ""
    notes: tuple[str, ...] = ()
    force: bool = False
    released: bool = False

    @property
    def pool_name(self) -> str:
        """The name of its NodePool in the cluster."""
        return self.import_name or self.name

    @property
    def architecture(self) -> Architecture:
        """The nodes' architecture."""
        return self.instance_types[0].architecture

    @property
    def node_labels(self) -> Mapping[str, str]:
        """The labels that the pool gives its nodes; the kubelet sets ``kubernetes.io/arch``."""
        if self.spec is not None:
            return self.labels
        return {**self.labels, ARCHITECTURE_LABEL: self.architecture, GROUP_LABEL: self.name}

    @property
    def spot(self) -> bool:
        """All of its nodes are Spot instances. If a pool may use both, the more expensive type counts."""
        return self.capacity_types == ("spot",)

    def owns(self, node: Node) -> bool:
        """Return whether a live node belongs to this pool."""
        return node.labels.get(POOL_LABEL) == self.pool_name

    def possible_nodes(self, live: Iterable[Node] = ()) -> list[Node]:
        """Return the nodes that it may create in addition to its ``live`` nodes, up to its limits.

        The largest types come first. So the largest possible pod fits one of these nodes, and their total is
        what the limits permit. They do not predict which nodes Karpenter would choose.

        Args:
            live: Its live nodes, which count against its limits.
        """
        live = list(live)
        millicpu, memory = self.millicpu, self.memory
        if millicpu is None and memory is None and self.most_nodes is None:
            millicpu = MOST_MILLICPU
        most = MOST_NODES if self.most_nodes is None else min(MOST_NODES, self.most_nodes - len(live))
        for node in live:
            used = _capacity(node)
            millicpu = None if millicpu is None else millicpu - used[0]
            memory = None if memory is None else memory - used[1]
        nodes: list[Node] = []
        template: Node | None = None
        for kind in sorted(set(self.instance_types), key=_size, reverse=True):
            fit = most - len(nodes)
            if millicpu is not None:
                fit = min(fit, millicpu // (kind.vcpu * 1000))
            if memory is not None:
                fit = min(fit, memory // (kind.memory_mib * MIB))
            if fit <= 0:
                continue
            # Its variants have the labels of all types, so making them once is enough.
            template = template or self._possible(kind, self.instance_types)
            node = _as_machine(template, kind)
            for number in range(len(nodes), len(nodes) + fit):
                name = f"{node.name}-{number}"
                nodes.append(replace(node, name=name, labels={**node.labels, HOSTNAME_LABEL: name}))
            millicpu = None if millicpu is None else millicpu - fit * kind.vcpu * 1000
            memory = None if memory is None else memory - fit * kind.memory_mib * MIB
        return nodes

    def sample(self, kind: InstanceType) -> Node:
        """Return a node of this type, whatever the limits permit."""
        return self._possible(kind, (kind,))

    def _possible(self, kind: InstanceType, types: Sequence[InstanceType]) -> Node:
        name, group = f"{self.name}-possible", self.node_class.group
        machines = [well_known_labels.of_machine(group, of) for of in types]
        known = well_known_labels.of_any_node(kind) | well_known_labels.of_node_class(
            group, self.node_class.kind, self.node_class.name
        )
        # A pool without zones uses the zones of its node class's subnets, which are unknown here. So nobody
        # can predict whether a pod that needs a certain zone gets a node there.
        in_zones = [well_known_labels.of_zone(zone) for zone in self.zones or ("",)]
        known |= WellKnown({}, frozenset().union(*(part.unknown for part in (*machines, *in_zones))))
        choices = {CAPACITY_TYPE_LABEL: self.capacity_types or CAPACITY_TYPES, **self.label_choices}
        for label in {label for part in in_zones for label in part.labels}:
            # A label that one of the zones lacks is also unknown, and that comes first.
            choices[label] = tuple(
                dict.fromkeys(part.labels[label] for part in in_zones if label in part.labels)
            )
        node = Node(
            name=name,
            labels={**known.labels, **self.node_labels, HOSTNAME_LABEL: name, POOL_LABEL: self.pool_name},
            taints=self.taints,
            choices=choices,
            variants=tuple(machine.labels for machine in machines),
            varying=frozenset().union(*(machine.labels for machine in machines)),
            unknown=known.unknown - self.labels.keys(),
        )
        return _as_machine(node, kind)

    def nodes_after(self, own: Sequence[Node], _zones: Sequence[str]) -> list[Node]:
        """Return its nodes after an update, and the further nodes that its limits permit.

        Karpenter replaces the nodes that no longer match their NodePool, one after the other.

        Args:
            own: Its live nodes.
        """
        # An agent is about to remove these taints.
        starting = [
            replace(node, taints=tuple(taint for taint in node.taints if taint not in self.startup_taints))
            for node in own
        ]
        staying = _staying(self, starting)
        return [*staying, *self.possible_nodes(staying)]

    def nodes_with_new(self, live: Iterable[Node]) -> dict[str, list[Node]]:
        """Return the name of the pool, which is the resource, to the nodes that it creates."""
        own = [node for node in live if self.owns(node)]
        return {self.name: [*own, *self.possible_nodes(own)]}

    def nodes_on_demand(self) -> list[Node]:
        """Return the nodes that fill its limits."""
        return self.possible_nodes()

    def samples(self, _zones: Sequence[str]) -> list[Node]:
        """Return a sample node for each size of its machines, the smallest first.

        Of several types of one size it takes the plainest and oldest, which most regions have.
        """
        alike: dict[tuple[int, int], list[InstanceType]] = {}
        for kind in sorted(set(self.instance_types), key=lambda kind: (len(kind.family), kind.name)):
            alike.setdefault(_size(kind)[:2], []).append(kind)
        return [self._possible(kinds[0], kinds) for _, kinds in sorted(alike.items())]

    def size_range(self, kind: InstanceType) -> SizeRange:
        """Return how many nodes of a type its limits permit; it begins with 0 nodes."""
        most = [MOST_NODES if self.most_nodes is None else self.most_nodes]
        if self.millicpu is not None:
            most.append(self.millicpu // (1000 * kind.vcpu))
        if self.memory is not None:
            most.append(self.memory // (kind.memory_mib * MIB))
        return SizeRange(0, min(most), autoscaled=True)

    def limits_to_raise(self, kind: InstanceType, nodes: int) -> str:
        """Return which limits are too low for so many nodes of a type, and what to set; empty for none."""
        short = []
        if self.millicpu is not None and nodes * kind.vcpu * 1000 > self.millicpu:
            short.append(f"limits.cpu to {nodes * kind.vcpu}")
        if self.memory is not None and nodes * kind.memory_mib * MIB > self.memory:
            short.append(f"limits.memory to {ceil(nodes * kind.memory_mib / 1024)}Gi")
        if self.most_nodes is not None and nodes > self.most_nodes:
            short.append(f"limits.nodes to {nodes}")
        return " and its ".join(short)

    def allows_less(self, later: "NodePool") -> bool:
        """Return whether a change of the pool permits fewer nodes or fewer kinds of nodes."""
        if later.architecture != self.architecture:
            return True
        limits = (
            (self.millicpu, later.millicpu),
            (self.memory, later.memory),
            (self.most_nodes, later.most_nodes),
        )
        if any(new is not None and (old is None or new < old) for old, new in limits):
            return True
        if not {*self.instance_types} <= {*later.instance_types}:
            return True
        # A pool without zones uses all zones of its node class.
        return bool(later.zones) and not (self.zones and {*self.zones} <= {*later.zones})


def _as_machine(node: Node, kind: InstanceType) -> Node:
    """Return a possible node as one of this type."""
    labels = {**node.labels, **well_known_labels.of_any_node(kind).labels}
    return replace(
        node,
        labels=labels,
        millicpu=kind.allocatable_millicpu,
        memory=kind.allocatable_memory,
        pods=kind.managed_pods,
    )


AnyNodeGroup: TypeAlias = NodeGroup | EksNodeGroup | NodePool


def _node(
    name: str,
    group: NodeGroup | EksNodeGroup,
    kind: InstanceType,
    pods: int,
    zone: str,
    more: Mapping[str, str],
) -> Node:
    labels = {
        **group.node_labels,
        **more,
        **well_known_labels.of_any_node(kind).labels,
        HOSTNAME_LABEL: name,
        ZONE_LABEL: zone,
    }
    return Node(
        name=name,
        labels=labels,
        settings_labels=frozenset(labels),
        taints=group.taints,
        millicpu=kind.allocatable_millicpu,
        memory=kind.allocatable_memory,
        pods=pods,
    )


def _without_dropped(group: AnyNodeGroup, node: Node) -> Node:
    """Return a live node without the labels and taints that an update takes off its group."""
    live = group.live if isinstance(group, EksNodeGroup) else None
    if live is None or not isinstance(group, EksNodeGroup):
        return node
    labels = live.labels.keys() - group.node_labels.keys()
    taints = {*live.taints} - {*group.node_taints}
    return replace(
        node,
        labels={key: value for key, value in node.labels.items() if key not in labels},
        taints=tuple(taint for taint in node.taints if taint not in taints),
    )


def _staying(group: AnyNodeGroup, own: Iterable[Node], *, any_type: bool = False) -> list[Node]:
    """Return the live nodes of a group that remain after a change of its instance types.

    They have the group's new labels and taints, and keep those of others. EKS and the lab set the new ones on
    the live node, Karpenter on the node that replaces it.
    """
    types = {"", *(kind.name for kind in group.instance_types)}
    return [
        replace(
            node,
            labels={
                **{key: value for key, value in node.labels.items() if key not in node.settings_labels},
                **group.node_labels,
            },
            taints=(*node.taints, *(taint for taint in group.taints if taint not in node.taints)),
        )
        for node in (_without_dropped(group, node) for node in own)
        if any_type or node.labels.get(INSTANCE_TYPE_LABEL, "") in types
    ]


def _size(kind: InstanceType) -> tuple[int, int, str]:
    return kind.vcpu, kind.memory_mib, kind.name


def _capacity(node: Node) -> tuple[int, int]:
    """Return what a node counts against limits: the full capacity of its machine, not only that for pods."""
    kind = INSTANCE_TYPES.get(node.labels.get(INSTANCE_TYPE_LABEL, ""))
    return (kind.vcpu * 1000, kind.memory_mib * MIB) if kind else (node.millicpu, node.memory)


def one_architecture(types: Sequence[InstanceType], key: str) -> Architecture:
    """Return the architecture of a group's types.

    Raises:
        ArchshiftError: The types have both architectures, but all nodes of a group get the same image.
    """
    sides: dict[Architecture, str] = {}
    for kind in types:
        sides.setdefault(kind.architecture, kind.name)
    if len(sides) > 1:
        mixture = " and ".join(f"{name} is {side}" for side, name in sides.items())
        raise ArchshiftError(f"{key}: {mixture}", "make a node group for each architecture")
    return types[0].architecture


def capacity_by_architecture(nodes: Iterable[Node]) -> dict[str, dict[str, int]]:
    """Return what schedulable nodes have: ``nodes``, ``millicpu``, ``memory`` in bytes, ``pods``."""
    sides: dict[str, list[Resources]] = {}
    for node in nodes:
        if node.schedulable and node.architecture in ARCHITECTURES:
            sides.setdefault(node.architecture, []).append(node.capacity)
    return {
        architecture: {
            "nodes": len(capacities),
            "millicpu": (of_all := total(capacities)).millicpu,
            "memory": of_all.memory,
            "pods": of_all.pods,
        }
        for architecture, capacities in sides.items()
    }


def stack_label(stack: str) -> str:
    """Return the value of the label ``archshift/stack``; a stack's name may be longer than a label."""
    name = stack.rpartition("/")[2]
    value = name if len(name) <= 63 else f"{name[:50]}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
    return value.strip("-_.") or "stack"


def made_by_another_stack(node: Node, stack: str) -> bool:
    """Return whether another stack made a node of the cluster.

    Args:
        node: A live node.
        stack: This stack, as ``stack_label`` writes it; empty if it is unknown.
    """
    return bool(stack) and node.labels.get(STACK_LABEL, stack) != stack


RETIRED: Final = Taint(key=f"{OURS}retired")
"""The taint of a group with ``retired: true``: its nodes take no new pods."""


def side_taint(architecture: Architecture) -> Taint:
    """Return the taint that every node of a managed group has for its side.

    It keeps no pod away. If a workload tolerates one side's taint, that side gets 300 points of preference in
    addition to the 200 of node affinity. For all other workloads both sides are equal (docs/adr/0003).
    """
    return Taint(key=f"archshift/{architecture}", effect="PreferNoSchedule")
