"""The plan: what the next ``pulumi up`` makes of the cluster, as a plain value.

The program registers it, the command line prints it, policies and reports read it; nobody
computes it twice.
"""

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from archshift.cluster.inventory import (
    CONTROLLERS,
    TAKEN_ANNOTATION,
    Inventory,
    Requests,
    Workload,
    taken_annotation,
)
from archshift.cluster.scheduling import admits, untolerated
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture, display
from archshift.common.errors import ArchshiftError
from archshift.images.verdict import ARM64_ONLY, UNKNOWN
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.groups import (
    GROUP_LABEL,
    ZONE_LABEL,
    AnyNodeGroup,
    EksNodeGroup,
    Node,
    NodePool,
    belongs_to,
    node_in,
    nodes_of,
    nodes_to_come,
    outlives,
)
from archshift.nodes.node_pools import nodes_within
from archshift.plan import placement
from archshift.plan.apportion import Share, Wave, apportion, starts_on_graviton
from archshift.plan.capacity import Balance, Demand, balance
from archshift.plan.placement import Taken, Template

Action: TypeAlias = Literal["move", "hold", "graviton", "pin", "leave", "block"]

FORCE_REASON_ANNOTATION: Final = "archshift/force-reason"
"""On a workload whose fields were taken by force: the config's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the stack config says of one workload (``archshift:workloads.overrides``).

    Attributes:
        hold: Keep it on x86.
        max_ratio: Most of its pods that may run on Graviton, 0.0 to 1.0.
        wave: Move it early or late; None leaves it to its place in the fleet.
        force: Take placement fields from their owner; needs a reason.
        reason: Why; shown wherever the workload is.
    """

    hold: bool = False
    max_ratio: float = 1.0
    wave: Wave | None = None
    force: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that archshift needs and someone else owns.

    Attributes:
        workload: The workload's key.
        field: The field's path in the object.
        owner: Its field manager.
        forced: True if the config has archshift take it.
    """

    workload: str
    field: str
    owner: str
    forced: bool

    def __str__(self) -> str:
        if self.forced:
            return f"{self.workload}: takes {self.field} from {self.owner}, as configured (force: true)"
        return (
            f"{self.workload}: {self.field} is owned by {self.owner}; set the placement there, or "
            f"set force: true with a reason in archshift:workloads.overrides"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWorkload:
    """One workload in the plan.

    Attributes:
        key: ``namespace/Kind/name``.
        namespace: Its namespace.
        kind: Its kind.
        name: Its name.
        replicas: Standing pods.
        wanted: Pods wanted on Graviton; None where archshift wants nothing of it.
        graviton: Pods observed on Graviton.
        reason: Why it is not simply moved; empty if it is.
        movable: It counts into the fleet.
        patch: The body of its server-side-apply patch; None if it gets none.
        restarts: The patch changes the pod template, so its pods are replaced.
        forced: The patch takes fields from another owner.
        reachable: (lowest, highest) share on Graviton as an autoscaler moves the replicas.
        verdict: What the evidence says of its images; None where images are not checked.
        action: What is done with it: ``move``, ``hold`` on x86, ``graviton`` (it runs nowhere else),
            ``pin`` (no standing pods), ``leave`` alone, ``block`` (a DaemonSet that would break).
        owner: Who answers for it: what its labels say, or else its namespace.
    """

    key: str
    namespace: str
    kind: str
    name: str
    replicas: int
    wanted: int | None
    graviton: int
    action: Action = "move"
    owner: str = ""
    reason: str = ""
    movable: bool = False
    patch: Mapping[str, Any] | None = None
    restarts: bool = False
    forced: bool = False
    reachable: tuple[float, float] | None = None
    verdict: WorkloadVerdict | None = None

    @property
    def exact(self) -> bool:
        """Observed is what is wanted; true where nothing is wanted."""
        return self.wanted is None or self.wanted == self.graviton

    @property
    def moves(self) -> int:
        """Pods that change sides."""
        return 0 if self.wanted is None else abs(self.wanted - self.graviton)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the next update makes of the cluster.

    Attributes:
        arm_ratio: The ratio that was asked for.
        workloads: Every controller found, sorted by key.
        conflicts: Fields owned by others.
        balances: Capacity of both sides after the step.
        before: Capacity of both sides as they are.
        others: Pods that no steered controller owns: key to reason.
        new_nodes: Names of configured nodes that are not there yet.
        first_graviton_node: This update would make the cluster's first Graviton node.
        blockers: DaemonSets that keep Graviton nodes from being made, a sentence each.
    """

    arm_ratio: float
    workloads: tuple[PlannedWorkload, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    balances: Mapping[Architecture, Balance] = field(default_factory=dict)
    before: Mapping[Architecture, Balance] = field(default_factory=dict)
    others: Mapping[str, str] = field(default_factory=dict)
    new_nodes: tuple[str, ...] = ()
    first_graviton_node: bool = False
    blockers: tuple[str, ...] = ()

    @property
    def movable(self) -> list[PlannedWorkload]:
        """The workloads that make up the fleet."""
        return [workload for workload in self.workloads if workload.movable]

    @property
    def pods(self) -> int:
        """Pods of the fleet."""
        return sum(workload.replicas for workload in self.movable)

    @property
    def all_pods(self) -> int:
        """Pods of all workloads with standing pods, those that are held or left alone included."""
        return sum(workload.replicas for workload in self.workloads)

    @property
    def wanted(self) -> int:
        """Pods of the fleet wanted on Graviton."""
        return sum(workload.wanted or 0 for workload in self.movable)

    @property
    def graviton(self) -> int:
        """Pods of the fleet observed on Graviton."""
        return sum(workload.graviton for workload in self.movable)

    @property
    def direction(self) -> Literal["up", "down", "none"]:
        """Where the step goes, from what is observed and not from a remembered number."""
        if self.wanted == self.graviton:
            return "none"
        return "up" if self.wanted > self.graviton else "down"

    @property
    def exact(self) -> bool:
        """Every workload is where it is wanted."""
        return all(workload.exact for workload in self.workloads)

    @property
    def shortages(self) -> list[str]:
        """What the nodes lack for this plan, a sentence a side."""
        return [side.shortage for side in self.balances.values() if side.shortage]


def make_plan(
    *,
    arm_ratio: float,
    inventory: Inventory,
    rules: Mapping[str, Rules] | None = None,
    groups: Iterable[AnyNodeGroup] = (),
    verdicts: Mapping[str, WorkloadVerdict] | None = None,
    pin_daemonsets: bool = False,
) -> Plan:
    """Compute the plan.

    Args:
        arm_ratio: Share of the fleet's pods wanted on Graviton, 0.0 to 1.0.
        inventory: The cluster as it is.
        rules: Workload key to the config's rules for it.
        groups: The node groups as configured; empty where archshift manages none.
        verdicts: Workload key to the evidence for it; None where images are not checked. With
            evidence, a workload that has none counts as unknown.
        pin_daemonsets: Keep DaemonSets that are not proven to run on arm64 off Graviton nodes,
            instead of reporting them as blockers.

    Raises:
        ArchshiftError: A rule names a workload that is not there.
    """
    rules = rules or {}
    groups = tuple(groups)
    _check_rules(rules, inventory)
    nodes = nodes_after(inventory.nodes, groups)
    live = {node.name for node in inventory.nodes}
    possible = possible_nodes(inventory.nodes, groups)
    steering = _Steering(possible, rules, verdicts, pin_daemonsets, inventory)
    drafts = [steering.draft(workload) for _, workload in sorted(inventory.workloads.items())]
    counts = apportion(
        arm_ratio,
        [
            Share(
                draft.workload.key,
                draft.workload.replicas,
                steering.rules_of(draft.workload).wave,
                steering.rules_of(draft.workload).max_ratio,
            )
            for draft in drafts
            if draft.movable
        ],
    )
    planned = tuple(
        _planned(draft, counts.get(draft.workload.key), arm_ratio, inventory, steering) for draft in drafts
    )
    return Plan(
        arm_ratio=arm_ratio,
        workloads=planned,
        conflicts=tuple(conflict for draft in drafts for conflict in draft.conflicts),
        balances=balance(nodes, _demands(planned, inventory, nodes)),
        before=balance(inventory.nodes, _demands_now(inventory)),
        others=inventory.others,
        new_nodes=tuple(node.name for node in nodes if node.name not in live and not node.choices),
        first_graviton_node=any(node.architecture == ARM64 for node in possible)
        and not any(node.architecture == ARM64 for node in inventory.nodes),
        blockers=tuple(f"{d.workload.key}: {d.reason}" for d in drafts if d.action == "block"),
    )


def nodes_after(live: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the nodes that the update leaves: those of the configured groups and of nobody's.

    In the lab a group is its settings. A managed group keeps the nodes it has, as many as its
    desired size or an autoscaler leaves it, and gets those that are missing; other instance types
    are another group, which begins without any. A NodePool keeps those of its types; what its limits
    let it bring up counts with them.
    """
    live = list(live)
    groups = tuple(groups)
    zones = sorted({node.labels.get(ZONE_LABEL, "") for node in live}) or [""]
    after: list[Node] = []
    kept: set[str] = set()
    for group in groups:
        if isinstance(group, EksNodeGroup | NodePool):
            own = [node for node in live if belongs_to(node, group)]
            kept |= {node.name for node in own}
            staying = [node_in(group, node) for node in own if outlives(group, node)]
            if isinstance(group, NodePool):
                after += [*staying, *nodes_within(group, staying)]
                continue
            after += staying if group.autoscaled else staying[: group.desired_size]
            after += nodes_to_come(group, len(staying), zones)
        else:
            after += nodes_of(group)
    return after + [node for node in live if GROUP_LABEL not in node.labels and node.name not in kept]


def nodes_of_others(live: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the nodes that none of these groups makes: no update of the stack takes them away."""
    managed = [group for group in groups if isinstance(group, EksNodeGroup | NodePool)]
    unlabelled = (node for node in live if GROUP_LABEL not in node.labels)
    return [node for node in unlabelled if not any(belongs_to(node, group) for group in managed)]


def possible_nodes(live: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the nodes that pods may land on: those after the update, and what an autoscaler brings up.

    Of each autoscaled group without nodes a first one, whose capacity is not there yet.
    """
    groups = tuple(groups)
    nodes = nodes_after(live, groups)
    return nodes + [
        node
        for group in groups
        if isinstance(group, EksNodeGroup) and group.autoscaled
        if not any(belongs_to(node, group) for node in nodes)
        for node in nodes_to_come(replace(group, desired_size=1), 0)
    ]


def _check_rules(rules: Mapping[str, Rules], inventory: Inventory) -> None:
    for key in rules:
        if key not in inventory.workloads:
            nearest = difflib.get_close_matches(key, inventory.workloads, n=2)
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else "remove it or correct the name"
            raise ArchshiftError(
                f"archshift:workloads.overrides: {key!r} is not among the workloads found; {hint}"
            )


@dataclass(frozen=True, slots=True)
class _Draft:
    """What is decided of a workload before the fleet is apportioned."""

    workload: Workload
    template: Template
    action: Action
    reason: str = ""
    conflicts: tuple[Conflict, ...] = ()
    configured: bool = False

    @property
    def movable(self) -> bool:
        return self.action == "move"

    def frozen(self, row: PlannedWorkload) -> bool:
        """Say whether it is held for want of evidence alone: then it keeps what it has."""
        unknown = row.verdict is not None and row.verdict.verdict == UNKNOWN
        return self.action == "hold" and unknown and not self.configured


class _Steering:
    """Decides which workloads can be steered; remembers which rules fit which nodes."""

    def __init__(
        self,
        nodes: Sequence[Node],
        rules: Mapping[str, Rules],
        verdicts: Mapping[str, WorkloadVerdict] | None,
        pin_daemonsets: bool,
        inventory: Inventory,
    ) -> None:
        self._inventory = inventory
        self._verdicts = verdicts
        self._pin_daemonsets = pin_daemonsets
        self._sides = {
            architecture: [node for node in nodes if node.architecture == architecture]
            for architecture in ARCHITECTURES
        }
        self._rules = rules
        self._fits: dict[str, str] = {}

    def rules_of(self, workload: Workload) -> Rules:
        return self._rules.get(workload.key) or Rules()

    def verdict_of(self, workload: Workload) -> WorkloadVerdict | None:
        if self._verdicts is None:
            return None
        found = self._verdicts.get(workload.key)
        return found or WorkloadVerdict(workload.key, UNKNOWN, (), ())

    def draft(self, workload: Workload) -> _Draft:
        if workload.kind == "DaemonSet":
            return self._draft_daemonset(workload)
        template, rules = workload.template, self.rules_of(workload)
        reason = self._obstacle(workload)
        if reason:
            return _Draft(workload, template, "leave", reason)
        blocked = placement.conflicts(template, workload.replicas)
        path = CONTROLLERS[workload.kind][1]
        conflicts = tuple(
            Conflict(workload.key, placement.describe_path(name, path), str(owner), rules.force)
            for name, owner in blocked.items()
        )
        if conflicts and not rules.force:
            owned = " and ".join(f"its {placement.TITLES[name]} ({owner})" for name, owner in blocked.items())
            return _Draft(workload, template, "leave", f"left alone: others own {owned}", conflicts)
        if template.taken and not rules.force:
            return _Draft(workload, template, "leave", "force was withdrawn: its fields are given back")
        template = replace(
            template,
            taken={**template.taken}
            | {name: Taken(owner, template.own(name)) for name, owner in blocked.items()},
            others={name: owner for name, owner in template.others.items() if name not in blocked},
        )
        verdict = self.verdict_of(workload)
        if verdict and verdict.verdict == ARM64_ONLY:
            reason = "runs on arm64 only" + (", so hold has no effect" if rules.hold else "")
            return _Draft(workload, template, "graviton", reason, conflicts)
        if rules.hold:
            reason = f"held on x86: {rules.reason}" if rules.reason else "held on x86 (hold: true)"
            return _Draft(workload, template, "hold", reason, conflicts, configured=True)
        if verdict and not verdict.runs_on_arm64:
            return _Draft(workload, template, "hold", f"held on x86: {why_not(verdict)}", conflicts)
        if workload.replicas == 0:
            return _Draft(workload, template, "pin", "", conflicts)
        reason = f"capped at {rules.max_ratio:g} of its pods" if rules.max_ratio < 1 else ""
        return _Draft(workload, template, "move", reason, conflicts)

    def _draft_daemonset(self, workload: Workload) -> _Draft:
        template, verdict = workload.template, self.verdict_of(workload)
        everywhere = _Draft(workload, template, "leave", "a DaemonSet: runs on every node that it selects")
        if verdict is None or verdict.runs_on_arm64:
            return everywhere
        pinned = placement.pinned_architecture(template)
        if pinned and ARM64 not in pinned[0].split(","):
            return _Draft(workload, template, "leave", f"a DaemonSet that pins {pinned[0]} itself")
        if verdict.verdict == UNKNOWN and self._inventory.on(workload.key, ARM64):
            # As with other workloads: what cannot be read today is no proof that it broke.
            return _Draft(workload, template, "leave", f"stays as it is: {why_not(verdict)}")
        if self._pin_daemonsets and not placement.conflicts(template, replicas=1):
            return _Draft(workload, template, "hold", f"kept off Graviton nodes: {why_not(verdict)}")
        reaches = any(workload.may_run_on(node) for node in self._sides[ARM64])
        reason = f"would start on Graviton nodes and {why_not(verdict)}"
        return _Draft(workload, template, "block", reason) if reaches else everywhere

    def _obstacle(self, workload: Workload) -> str:
        if workload.obstacle:
            return f"left alone: {workload.obstacle}"
        pinned = placement.pinned_architecture(workload.template)
        if pinned:
            return f"left alone: pins {pinned[0]} by its own {pinned[1]}"
        return self._unfit(workload)

    def _unfit(self, workload: Workload) -> str:
        template = workload.template
        selector, required = template.own("node-selector"), template.own("required")
        cache_key = json.dumps([selector, required, workload.tolerations], sort_keys=True)
        if cache_key not in self._fits:
            self._fits[cache_key] = self._why_unfit(selector, required, workload.tolerations)
        return self._fits[cache_key]

    def _why_unfit(
        self,
        selector: Mapping[str, str] | None,
        required: Mapping[str, Any] | None,
        tolerations: Sequence[Mapping[str, Any]],
    ) -> str:
        for architecture, nodes in self._sides.items():
            if not nodes or any(admits(node, selector, required, tolerations) for node in nodes):
                continue
            side = display(architecture)
            if all(untolerated(node.taints, tolerations) for node in nodes):
                taint = untolerated(nodes[0].taints, tolerations)[0]
                return f"left alone: does not tolerate the taint {taint.key} of the {side} nodes"
            return f"left alone: its own node selector or affinity matches no {side} node"
        return ""


def _planned(
    draft: _Draft, count: int | None, arm_ratio: float, inventory: Inventory, steering: _Steering
) -> PlannedWorkload:
    workload, template = draft.workload, draft.template
    observed = inventory.on(workload.key, ARM64)
    row = PlannedWorkload(
        key=workload.key,
        namespace=workload.namespace,
        kind=workload.kind,
        name=workload.name,
        replicas=workload.replicas,
        wanted=count,
        graviton=observed,
        reason=draft.reason,
        movable=draft.movable,
        verdict=steering.verdict_of(workload),
        action=draft.action,
        owner=workload.owner or workload.namespace,
    )
    if draft.action in ("leave", "block"):
        return row
    if draft.action == "pin":
        side: Architecture = (
            ARM64 if starts_on_graviton(arm_ratio, workload.key, steering.rules_of(workload).wave) else AMD64
        )
        fields = placement.place(template, int(side == ARM64), int(side == ARM64))
        row = replace(row, reason=f"no standing pods; its next ones start on {display(side)}")
    else:
        wanted = _wanted(draft, count, row)
        fields = placement.place(template, wanted, workload.replicas)
        if draft.action == "graviton":
            fields = placement.place(template, max(1, wanted), max(1, wanted))
        row = replace(row, wanted=wanted if workload.replicas else None)
        if draft.action == "hold" and wanted:
            row = replace(row, reason=f"{draft.reason}; keeps its {wanted} Graviton pods, gets no more")
        if workload.autoscaled:
            row = _with_reachable(row, workload.autoscaled)
    ours = {name: template.spec[name] for name in template.owned if name in template.spec}
    if ours and draft.frozen(row) and not (workload.settled and _placed(workload, inventory)):
        # A pod that is missing for a moment must not turn an outage of the registry into a rollout.
        fields = ours
    changed = fields != ours
    if not changed and not row.exact and workload.settled and _placed(workload, inventory):
        # The template already says what is wanted and the pods are elsewhere (a node was lost,
        # an autoscaler passed by). The scheduler never moves a running pod: they must be made anew.
        changed = True
    changed = changed or not template.revision
    revision = workload.identity if changed else template.revision
    return replace(
        row,
        patch=_body(workload, fields, template, revision, steering.rules_of(workload).reason),
        restarts=changed and (workload.replicas > 0 or workload.kind == "DaemonSet"),
        forced=bool(template.taken),
    )


def _wanted(draft: _Draft, count: int | None, row: PlannedWorkload) -> int:
    if draft.action == "graviton":
        return row.replicas
    if draft.action == "hold":
        # What cannot be read today is no proof that it broke: a registry that is down must not
        # send a fleet back to x86. Pods that are there stay, none is added.
        return min(row.graviton, row.replicas) if draft.frozen(row) else 0
    return count or 0


def why_not(verdict: WorkloadVerdict) -> str:
    """Return why a workload is not proven to run on arm64, by its first blocking container."""
    if not verdict.blocking:
        return "there is no evidence for its images"
    first = verdict.blocking[0]
    more = len(verdict.blocking) - 1
    suffix = f" (and {more} more)" if more else ""
    return f"{first.image} is {first.verdict}: {first.reason}{suffix}"


def _placed(workload: Workload, inventory: Inventory) -> bool:
    return sum(inventory.on(workload.key, side) for side in ARCHITECTURES) == workload.replicas


def _with_reachable(row: PlannedWorkload, bounds: tuple[int, int]) -> PlannedWorkload:
    shares = [
        placement.reachable(row.wanted or 0, row.replicas, scaled) / scaled
        for scaled in range(max(1, bounds[0]), bounds[1] + 1)
    ]
    if not shares:
        return row
    low, high = min(shares), max(shares)
    note = f"autoscaled {bounds[0]} to {bounds[1]}: {low:.2f} to {high:.2f} on Graviton until the next up"
    return replace(row, reachable=(low, high), reason="; ".join(filter(None, (row.reason, note))))


def _body(
    workload: Workload, fields: Mapping[str, Any], template: Template, revision: str, reason: str
) -> dict[str, Any]:
    body: dict[str, Any] = {
        "metadata": {"annotations": {placement.REVISION_ANNOTATION: revision}},
        "spec": placement.write_fields(fields, *template.beside),
    }
    for name in reversed(CONTROLLERS[workload.kind][1]):
        body = {name: body}
    body["metadata"] = {"name": workload.name, "namespace": workload.namespace}
    if template.taken:
        body["metadata"]["annotations"] = {
            TAKEN_ANNOTATION: taken_annotation(template.taken),
            FORCE_REASON_ANNOTATION: reason,
        }
    return body


def _demands(
    planned: Iterable[PlannedWorkload], inventory: Inventory, nodes: Sequence[Node]
) -> dict[Architecture, Demand]:
    demands: dict[Architecture, Demand] = {}
    for architecture in ARCHITECTURES:
        side = [node for node in nodes if node.architecture == architecture]
        # The last node of a side takes its DaemonSets' pods along; that it has no others is seen to
        # when it goes.
        demand = _strays(inventory, architecture) if side else Demand()
        for row in planned:
            workload = inventory.workloads[row.key]
            if row.kind == "DaemonSet" and row.patch and architecture == ARM64:
                continue  # its patch keeps it off these nodes
            if row.kind == "DaemonSet":
                selected = sum(workload.may_run_on(node) for node in side)
                demand = demand.plus(workload.requests, selected)
            elif row.wanted is None:
                demand = demand.plus(workload.requests, inventory.on(row.key, architecture))
            else:
                pods = row.wanted if architecture == ARM64 else row.replicas - row.wanted
                demand = demand.plus(workload.requests, pods)
        demands[architecture] = demand
    return demands


def _demands_now(inventory: Inventory) -> dict[Architecture, Demand]:
    demands: dict[Architecture, Demand] = {}
    for architecture in ARCHITECTURES:
        demand = _strays(inventory, architecture)
        for key, workload in inventory.workloads.items():
            demand = demand.plus(workload.requests, inventory.on(key, architecture))
        demands[architecture] = demand
    return demands


def _strays(inventory: Inventory, architecture: Architecture) -> Demand:
    pods, requests = inventory.strays.get(architecture, (0, Requests()))
    return Demand(pods, requests.millicpu, requests.memory) if pods else Demand()
