"""How many nodes of each node group a plan needs. Pure.

Every pod counts for the first group of its side whose nodes it may run on, in the order of the settings.
A DaemonSet counts on every node of the groups that it selects. As in ``capacity``, only totals are compared.
The headroom covers pods that leave gaps on nodes, the extra pods of a rollout, and an autoscaler's next step.
Nodes outside the groups do not count.
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
    """The nodes that a plan needs of one node group.

    Attributes:
        group: The group's name.
        architecture: Its architecture.
        instance_type: The type of the counted nodes: the group's smallest; for a NodePool, the smallest that
            has room for the largest pod.
        demand: The requests of the pods that count for it, without DaemonSets.
        nodes: The number of nodes that it needs; None if its largest pod fits no node.
        limit: What decides the number: CPU, memory, pods or a device; empty if it needs no node.
        desired: The number of nodes in the settings.
        most: The most nodes that it may have.
        autoscaled: Whether an autoscaler adds nodes up to ``most``.
        limits: The limits that a NodePool needs for ``nodes``, as in the settings; empty for other groups.
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
        """What to change in the settings, in a few words; empty if they are sufficient."""
        if self.nodes is None:
            return f"its largest pod does not fit a {self.instance_type}: choose a larger type"
        if self.autoscaled and self.nodes > self.most:
            return f"raise its {self.limits or f'max_size to {self.nodes}'}"
        if not self.autoscaled and self.nodes > self.desired:
            return f"raise its size to {self.nodes}"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizing:
    """The nodes that a plan needs.

    Attributes:
        needs: The need of each group, in the order of the settings.
        without_group: Workload key to why no group of a side takes its pods.
    """

    needs: tuple[GroupNeed, ...]
    without_group: dict[str, str]


@dataclass(slots=True)
class _Load:
    """The requests that count for one group."""

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
        requests = self.demand.total
        wanted: dict[str, float] = {
            "CPU": requests.millicpu / speed,
            "memory": requests.memory,
            "pods": requests.pods,
        }
        nodes: int | None = 0
        limit = ""
        if requests.pods:
            have = {"CPU": free.millicpu, "memory": free.memory, "pods": free.pods, **dict(free.devices)}
            wanted |= {name: amount for name, amount in requests.devices if name in have}
            have = {name: amount for name, amount in have.items() if name in wanted}
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
        # If the size of no pod is known, a node must have room for one pod.
        free = node.capacity - self.per_node
        return all(free.holds(pod) for pod in self.demand.largest or (Resources(),))


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
        inventory: The cluster of the plan.
        groups: The configured node groups.
        headroom: The free capacity in addition to the requests, as a share of them, 0.0 or more.
        arm_speed: The work of a Graviton vCPU divided by that of an x86 vCPU. CPU requests on Graviton are
            divided by it, because somebody may lower them later. 1.0 leaves them as they are.
    """
    zones = sorted({node.labels.get(ZONE_LABEL, "") for node in inventory.nodes}) or [""]
    loads = [_Load(group, _samples(group, inventory, zones)) for group in groups]
    without_group: dict[str, str] = {}
    for architecture in ARCHITECTURES:
        side = [load for load in loads if load.group.architecture == architecture]
        for row in plan.workloads:
            workload = inventory.workloads[row.key]
            taking = [load for load in side if load.takes(workload)]
            if on_every_node(row.kind):
                if row.patch and architecture == ARM64:
                    continue  # its patch keeps it off the Graviton nodes
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


def _samples(group: AnyNodeGroup, inventory: Inventory, zones: Sequence[str]) -> list[Node]:
    """Return what a node of a group is like. Only its live nodes show which devices it has."""
    live = next((node.devices for node in inventory.nodes if group.owns(node)), None)
    return [replace(node, devices=live) for node in group.samples(zones)]


def _pods(row: PlannedWorkload, inventory: Inventory, architecture: Architecture) -> int:
    wanted = row.wanted_on(architecture)
    return inventory.on(row.key, architecture) if wanted is None else wanted
