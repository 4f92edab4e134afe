"""How many nodes a plan needs of each node group.

Pure. Every pod counts for the first group of its side whose nodes it may run on, in the order of
the settings, and DaemonSets on every node of the groups that they select. Sums, as in
``capacity``: the headroom is what makes up for pods that do not pack, for the surge of a rollout
and for an autoscaler's next step. Nodes of nobody's group are not counted with.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import ceil

from archshift.cluster.kinds import on_every_node
from archshift.cluster.model import Inventory, Workload
from archshift.common.architectures import ARCHITECTURES, ARM64, Architecture, display
from archshift.common.defaults import DEFAULT_HEADROOM
from archshift.common.kubernetes import INSTANCE_TYPE_LABEL, ZONE_LABEL
from archshift.common.resources import NOTHING, Resources
from archshift.nodes.groups import AnyNodeGroup, Node
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.plan.capacity import Demand
from archshift.plan.model import Plan, PlannedWorkload


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupNeed:
    """What one node group has to carry under a plan.

    Attributes:
        group: The group's name.
        architecture: Its architecture.
        instance_type: The type that is counted with: the smallest of the group's, of a NodePool's
            the smallest that its largest pod fits.
        demand: The pods that count for it, DaemonSets apart.
        nodes: Number of nodes that it needs; None where no number would do.
        limit: What decides: CPU, memory or pods; empty if it needs none.
        desired: Number of nodes that the settings ask for.
        most: Most nodes that it may have.
        autoscaled: An autoscaler adds nodes up to ``most``.
        limits: The limits that a NodePool needs for ``nodes``, as they are written; empty for others.
    """

    group: str
    architecture: Architecture
    instance_type: str
    demand: Demand
    nodes: int | None
    limit: str
    desired: int
    most: int
    autoscaled: bool
    limits: str = ""

    @property
    def advice(self) -> str:
        """What to set, in a few words; empty where the settings do."""
        if self.nodes is None:
            return f"its largest pod does not fit a {self.instance_type}: choose a larger type"
        if self.autoscaled and self.nodes > self.most:
            return f"raise its {self.limits or f'max_size to {self.nodes}'}"
        if not self.autoscaled and self.nodes > self.desired:
            return f"raise its size to {self.nodes}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """What a plan needs of the node groups.

    Attributes:
        needs: A group each, in the order of the settings.
        without_group: Workload keys to why no group of a side takes their pods.
    """

    needs: tuple[GroupNeed, ...]
    without_group: dict[str, str]


@dataclass(slots=True)
class _Load:
    """What adds up on one group."""

    group: AnyNodeGroup
    templates: Sequence[Node]
    demand: Demand = field(default_factory=Demand)
    per_node: Resources = NOTHING

    def takes(self, workload: Workload) -> bool:
        return any(workload.may_run_on(node) for node in self.templates)

    def need(self, headroom: float, arm_speed: float) -> GroupNeed:
        node = next((node for node in self.templates if self._fits_largest(node)), self.templates[-1])
        free = node.capacity - self.per_node
        speed = arm_speed if self.group.architecture == ARM64 else 1.0
        asked = self.demand.total
        wanted = {"CPU": asked.millicpu / speed, "memory": asked.memory, "pods": asked.pods}
        nodes: int | None = 0
        limit = ""
        if asked.pods:
            have = {"CPU": free.millicpu, "memory": free.memory, "pods": free.pods}
            shares = {name: wanted[name] * (1 + headroom) / max(1, have[name]) for name in have}
            limit = max(shares, key=lambda name: shares[name])
            nodes = max(1, ceil(round(shares[limit], 9))) if self._fits_largest(node) else None
        group = self.group
        kind = INSTANCE_TYPES[node.labels[INSTANCE_TYPE_LABEL]]
        desired, most, autoscaled = group.size_range(kind)
        return GroupNeed(
            group=group.name,
            architecture=group.architecture,
            instance_type=kind.name,
            demand=self.demand,
            nodes=nodes,
            limit=limit,
            desired=desired,
            most=most,
            autoscaled=autoscaled,
            limits=group.limits_to_raise(kind, nodes or 0),
        )

    def _fits_largest(self, node: Node) -> bool:
        # Without a pod of a known size, room for one of any.
        return (node.capacity - self.per_node).holds(self.demand.largest.largest(Resources()))


def size(
    plan: Plan,
    inventory: Inventory,
    groups: Iterable[AnyNodeGroup],
    headroom: float = DEFAULT_HEADROOM,
    arm_speed: float = 1.0,
) -> Sizing:
    """Return what a plan needs of each node group.

    Args:
        plan: The plan.
        inventory: The cluster that it was made for.
        groups: The node groups as configured.
        headroom: Share of the requests kept free on top of them, 0.0 or more.
        arm_speed: Work of a Graviton vCPU against one of x86: what requests of CPU on Graviton are
            taken to come down by once somebody lowers them. 1.0 counts them as they are.
    """
    zones = sorted({node.labels.get(ZONE_LABEL, "") for node in inventory.nodes}) or [""]
    loads = [_Load(group, group.samples(zones)) for group in groups]
    without_group: dict[str, str] = {}
    for architecture in ARCHITECTURES:
        side = [load for load in loads if load.group.architecture == architecture]
        for row in plan.workloads:
            workload = inventory.workloads[row.key]
            taking = [load for load in side if load.takes(workload)]
            if on_every_node(row.kind):
                if row.patch and architecture == ARM64:
                    continue  # its patch keeps it off these nodes
                for load in taking:
                    load.per_node += workload.requests
                continue
            pods = _pods(row, inventory, architecture)
            if pods and taking:
                taking[0].demand = taking[0].demand.plus(workload.requests, pods)
            elif pods and side:
                without_group[row.key] = f"no {display(architecture)} group takes its {pods} pods"
        if side:
            first = side[0].demand
            unsteered = inventory.unsteered_load.get(architecture, NOTHING)
            side[0].demand = replace(first, total=first.total + unsteered)
    return Sizing(needs=tuple(load.need(headroom, arm_speed) for load in loads), without_group=without_group)


def _pods(row: PlannedWorkload, inventory: Inventory, architecture: Architecture) -> int:
    if row.wanted is None:
        return inventory.on(row.key, architecture)
    return row.wanted if architecture == ARM64 else row.replicas - row.wanted
