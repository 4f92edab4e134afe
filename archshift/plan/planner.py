"""Makes the plan: which workloads archshift can steer, and where their pods go. Pure.

A row says it with a patch of the workload's template, or with the entry by which the API server places its
new pods (``archshift:placement``). The counts are the same. DaemonSets are never placed at admission, so
their rows have patches with both.
"""

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from archshift.cluster import pod_fields
from archshift.cluster.entries import LEFT_ALONE, Entry, entry_key, is_key
from archshift.cluster.kinds import CONTROLLERS, on_every_node
from archshift.cluster.model import TAKEN_ANNOTATION, Inventory, Workload, taken_annotation
from archshift.cluster.pod_fields import TakenField, Template
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.resources import NOTHING
from archshift.common.text import joined
from archshift.images.verdict import ARM64_ONLY, UNKNOWN
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.after_update import closed_sides, have_zones, nodes_after, possible_nodes
from archshift.nodes.groups import AnyNodeGroup, Node
from archshift.plan import placement, reasons
from archshift.plan.apportion import Share, apportion, starts_on_graviton
from archshift.plan.capacity import Balance, Demand, balance
from archshift.plan.companions import Bond, Member, bonds
from archshift.plan.model import (
    FORCE_REASON_ANNOTATION,
    Action,
    Conflict,
    DaemonSetBlocker,
    Placement,
    Plan,
    PlannedWorkload,
    Rules,
)
from archshift.plan.reachability import FREE, Reach, Site, reaches, sites


def make_plan(
    *,
    arm_ratio: float,
    inventory: Inventory,
    rules: Mapping[str, Rules] | None = None,
    groups: Iterable[AnyNodeGroup] = (),
    verdicts: Mapping[str, WorkloadVerdict] | None = None,
    pin_daemonsets: bool = False,
    refused: Mapping[str, str] | None = None,
    stack: str = "",
    placed_by: Placement = "patches",
    live_entries: Mapping[str, str] | None = None,
) -> Plan:
    """Compute the plan.

    Args:
        arm_ratio: The share of the fleet's pods wanted on Graviton, 0.0 to 1.0.
        inventory: The cluster now.
        rules: Workload key to its configured rules.
        groups: The configured node groups; empty if archshift manages none.
        verdicts: Workload key to the verdict on its images; None if images are not checked. Otherwise a
            workload that is missing here is unknown.
        pin_daemonsets: Pin DaemonSets to x86 nodes if they are not proven to run on arm64. Otherwise the plan
            reports them as blockers.
        refused: Workload key to the words with which the API server refuses its patch.
        stack: This stack, as ``stack_label`` writes it. It tells nodes of other stacks from its own.
        placed_by: Who places the pods.
        live_entries: Workload key to its live entry, for workloads that keep theirs.

    Raises:
        ArchshiftError: A rule names a workload that is missing in the cluster.
    """
    rules = rules or {}
    groups = tuple(groups)
    _check_rules(rules, inventory, placed_by)
    admission = None
    if placed_by == "admission":
        admission = _Admission.of(inventory, live_entries or {})
        inventory = replace(inventory, workloads=admission.workloads)
    nodes = nodes_after(inventory.nodes, groups, stack)
    closed = closed_sides(nodes, groups)
    live = {node.name for node in inventory.nodes}
    possible = possible_nodes(inventory.nodes, groups, stack)
    steering = _Steering(
        possible, rules, verdicts, pin_daemonsets, inventory, refused or {}, closed, admission
    )
    drafts = [steering.draft(workload) for _, workload in sorted(inventory.workloads.items())]
    drafts = [_undivided(draft) for draft in _with_reach(drafts, sites(nodes, groups))]
    drafts = _with_companions(drafts, steering, inventory, possible)
    counts = apportion(
        arm_ratio,
        [
            Share(
                draft.workload.key,
                draft.workload.replicas,
                steering.rules_of(draft.workload).wave,
                steering.rules_of(draft.workload).max_ratio,
                draft.reach.levels,
                draft.unit,
            )
            for draft in drafts
            if draft.movable
        ],
    )
    units = {d.unit: counts[d.workload.key] > 0 for d in drafts if d.unit and d.workload.replicas}
    planned = tuple(
        _planned(draft, counts.get(draft.workload.key), arm_ratio, inventory, steering, units)
        for draft in drafts
    )
    demands = _demands(planned, inventory, nodes)
    # A temporary state of a node stops no update, so capacity after the step counts all nodes.
    balances = balance([replace(node, schedulable=True) for node in nodes], demands)
    return Plan(
        arm_ratio=arm_ratio,
        workloads=planned,
        conflicts=tuple(conflict for draft in drafts for conflict in draft.conflicts),
        balances=balances,
        before=balance(inventory.nodes, _demands_now(inventory)),
        unsteered_reasons=inventory.unsteered_reasons,
        new_nodes=tuple(node.name for node in nodes if node.name not in live and not node.choices),
        first_graviton_node=any(node.architecture == ARM64 for node in possible)
        and not any(node.architecture == ARM64 for node in inventory.nodes),
        blockers=tuple(_blockers(planned, inventory, steering)),
        node_notes=tuple(_node_notes(nodes, balances, balance(nodes, demands))),
        refused=dict(refused or {}),
        troubles=inventory.troubles,
        placed_by=placed_by,
    )


def _blockers(
    planned: Iterable[PlannedWorkload], inventory: Inventory, steering: "_Steering"
) -> Iterator[DaemonSetBlocker]:
    """Yield the DaemonSets that would break on Graviton nodes, wherever they are."""
    for row in planned:
        if row.action == "block":
            yield DaemonSetBlocker(row.key, row.reason, steered=True)
    for key, workload in sorted(inventory.outside_daemonsets.items()):
        if reason := steering.breaks_on_graviton(workload):
            yield DaemonSetBlocker(key, reason, steered=False)


def _node_notes(
    nodes: Sequence[Node],
    balances: Mapping[Architecture, Balance],
    now: Mapping[Architecture, Balance],
) -> Iterator[str]:
    for architecture, lasting in balances.items():
        side = [node for node in nodes if node.architecture == architecture and not node.choices]
        closed = sum(not node.schedulable for node in side)
        if closed:
            note = reasons.closed_nodes(architecture, closed, len(side))
            short = now[architecture].shortage if closed < len(side) and not lasting.shortage else ""
            yield f"{note}; {reasons.short_until_open(short)}" if short else note


def _check_rules(rules: Mapping[str, Rules], inventory: Inventory, placed_by: Placement) -> None:
    for key in rules:
        # A workload that only its pods show may have no pods now.
        may_be_away = placed_by == "admission" and key.split("/")[1] not in CONTROLLERS
        if key not in inventory.workloads and not may_be_away:
            nearest = difflib.get_close_matches(key, inventory.workloads, n=2)
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else "remove it or correct the name"
            raise ArchshiftError(
                f"archshift:workloads.overrides: {key!r} is not among the workloads found", f"{hint}"
            )


@dataclass(frozen=True, slots=True)
class _Admission:
    """What counts only where the API server places the pods.

    Attributes:
        workloads: All workloads by key, as they are without archshift's patches; DaemonSets keep theirs.
        patched: The workloads that have a patch of this stack, as they are.
        entries: Workload key to its live entry.
    """

    workloads: Mapping[str, Workload]
    patched: Mapping[str, Workload]
    entries: Mapping[str, str]

    @classmethod
    def of(cls, inventory: Inventory, entries: Mapping[str, str]) -> "_Admission":
        placed = {key: each for key, each in inventory.workloads.items() if not on_every_node(each.kind)}
        bare = {
            key: replace(each, template=pod_fields.without_patch(each.template))
            for key, each in placed.items()
        }
        patched = {key: each for key, each in placed.items() if each.template.applied}
        return cls({**inventory.workloads, **bare}, patched, entries)

    def live(self, workload: Workload) -> Entry | None:
        """Return a workload's live entry for its present number of pods; None if it has none."""
        entry = Entry.parse(self.entries.get(workload.key, LEFT_ALONE))
        if entry and entry.replicas == 1:
            return Entry(entry.graviton * max(1, workload.replicas), max(1, workload.replicas))
        return entry if entry and entry.replicas == workload.replicas else None


@dataclass(frozen=True, slots=True)
class _Draft:
    """The decision about a workload before apportionment."""

    workload: Workload
    template: Template
    action: Action
    reason: str = ""
    conflicts: tuple[Conflict, ...] = ()
    configured: bool = False
    gives_back: bool = False
    """Archshift removes its fields, because the user or the application's own rules say so."""
    reach: Reach = FREE
    unit: str = ""
    """The key of the unit with which it moves; empty if it moves alone."""

    @property
    def movable(self) -> bool:
        return self.action == "move"

    def frozen(self, verdict: WorkloadVerdict | None) -> bool:
        """Return whether only missing evidence holds it. Then it keeps its Graviton pods."""
        unknown = verdict is not None and verdict.verdict == UNKNOWN
        return self.action == "hold" and unknown and not self.configured


def _with_reach(drafts: Iterable[_Draft], places: Sequence[Site]) -> list[_Draft]:
    found = reaches([draft.workload for draft in drafts if draft.movable], places)
    return [replace(draft, reach=found.get(draft.workload.key, FREE)) for draft in drafts]


def _undivided(draft: _Draft) -> _Draft:
    """Return a draft that keeps a workload on x86 if its pods belong on one side and some may not move."""
    levels = draft.reach.levels
    if draft.movable and draft.workload.one_side and levels and levels[-1] < draft.workload.replicas:
        return replace(draft, action="hold", unit="", reason=reasons.held(draft.reach.limit))
    return draft


def _with_companions(
    drafts: Sequence[_Draft], steering: "_Steering", inventory: Inventory, nodes: Sequence[Node]
) -> list[_Draft]:
    """Return the drafts, with workloads tied together that must run beside each other."""
    if not any(workload.template.affinity for workload in inventory.workloads.values()):
        return [*drafts]
    members = [
        Member(
            workload=draft.workload,
            sides=steering.sides_of(draft),
            observed=inventory.sides(draft.workload.key),
            may_leave=steering.rules_of(draft.workload).max_ratio == 1
            and (not draft.reach.levels or draft.reach.levels[-1] == draft.workload.replicas),
        )
        for draft in drafts
    ] + [
        Member(workload=workload, sides=inventory.sides(key), observed=inventory.sides(key))
        for key, workload in inventory.unsteered_workloads.items()
    ]
    tied = bonds(members, nodes, evicts=steering.admission is not None)
    return [
        _bound(draft, tied[draft.workload.key]) if draft.workload.key in tied else draft for draft in drafts
    ]


def _bound(draft: _Draft, bond: Bond) -> _Draft:
    if bond.side is None:
        return replace(draft, unit=bond.unit, reason=joined(draft.reason, bond.reason))
    if bond.side == ARM64:
        return replace(draft, action="graviton", reason=bond.reason)
    return replace(draft, action="hold", reason=reasons.held(bond.reason))


class _Steering:
    """Decides which workloads archshift can steer. It caches which rules fit which nodes."""

    def __init__(
        self,
        nodes: Sequence[Node],
        rules: Mapping[str, Rules],
        verdicts: Mapping[str, WorkloadVerdict] | None,
        pin_daemonsets: bool,
        inventory: Inventory,
        refused: Mapping[str, str],
        closed: Collection[Architecture],
        admission: _Admission | None,
    ) -> None:
        self.admission = admission
        self.zones = have_zones(nodes)
        self._inventory = inventory
        self._refused = refused
        self._closed = closed
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

    def sides_of(self, draft: _Draft) -> frozenset[Architecture] | None:
        """Return the sides where a workload's pods stay, whatever this plan does; None if it may move."""
        key = draft.workload.key
        if draft.action in ("move", "pin"):
            return None
        if draft.action == "graviton":
            return frozenset({ARM64})
        if on_every_node(draft.workload.kind) and draft.action != "hold":
            return frozenset(
                side
                for side, nodes in self._sides.items()
                if any(draft.workload.may_run_on(node) for node in nodes)
            )
        verdict = self.verdict_of(draft.workload)
        if draft.action == "hold" and not draft.frozen(verdict):
            return frozenset({AMD64})
        return self._inventory.sides(key) or frozenset({AMD64})

    def verdict_of(self, workload: Workload) -> WorkloadVerdict | None:
        if self._verdicts is None:
            return None
        verdict = self._verdicts.get(workload.key)
        return verdict or WorkloadVerdict(workload.key, UNKNOWN, (), ())

    def waits(self, row: PlannedWorkload, *, rolls: bool = True) -> Architecture | None:
        """Return the side where pods of a row would have to start, but cannot start now.

        Args:
            row: The row.
            rolls: All of its pods start anew. Otherwise only those that change sides.
        """
        sides: tuple[Architecture, ...] = (ARM64, AMD64)
        if not rolls:
            gains = row.moves and (row.wanted or 0) > row.graviton
            sides = (ARM64,) if gains else (AMD64,) if row.moves else ()
        return next((side for side in sides if side in self._closed and row.wanted_on(side)), None)

    def draft(self, workload: Workload) -> _Draft:
        if on_every_node(workload.kind):
            return self._draft_daemonset(workload)
        if self.admission:
            return self._draft_at_admission(workload)
        return self._draft_patched(workload)

    def _draft_at_admission(self, workload: Workload) -> _Draft:
        # Nobody owns fields of a pod that does not exist yet.
        template, reason = workload.template, self._immovable(workload)
        if not is_key(entry_key(workload.kind, workload.name)):
            reason = reasons.NO_KEY
        if reason:
            decides = bool(workload.scheduler or pod_fields.pinned_architecture(template))
            return _Draft(workload, template, "leave", reason, gives_back=decides)
        return self._draft_placed(workload, template)

    def _draft_patched(self, workload: Workload) -> _Draft:
        template, rules = workload.template, self.rules_of(workload)
        reason = self._owned(workload) or self._obstacle(workload)
        if reason:
            # A paused template and a refused patch must not change at all.
            untouchable = bool(workload.obstacle) or workload.key in self._refused
            gives_back = not untouchable and (
                pod_fields.contradicts(template) or self._points_nowhere(workload)
            )
            return _Draft(workload, template, "leave", reason, gives_back=gives_back)
        blocked = placement.conflicts(template, workload.replicas)
        path = CONTROLLERS[workload.kind].template_path
        conflicts = tuple(
            Conflict(workload.key, pod_fields.describe_path(name, path), str(owner), rules.force)
            for name, owner in blocked.items()
        )
        if conflicts and not rules.force:
            reason, withdrawn = reasons.owned_by_others(blocked), bool(template.taken_fields)
            return _Draft(workload, template, "leave", reason, conflicts, gives_back=withdrawn)
        if template.taken_fields and not rules.force:
            return _Draft(workload, template, "leave", reasons.FORCE_WITHDRAWN, gives_back=True)
        template = replace(
            template,
            taken_fields={**template.taken_fields}
            | {name: TakenField(owner, template.application_value(name)) for name, owner in blocked.items()},
            foreign_owners={
                name: owner for name, owner in template.foreign_owners.items() if name not in blocked
            },
        )
        return self._draft_placed(workload, template, conflicts)

    def _draft_placed(
        self, workload: Workload, template: Template, conflicts: tuple[Conflict, ...] = ()
    ) -> _Draft:
        rules, verdict = self.rules_of(workload), self.verdict_of(workload)
        if verdict and verdict.verdict == ARM64_ONLY:
            return _Draft(workload, template, "graviton", reasons.arm64_only(rules.hold), conflicts)
        if rules.hold:
            reason = reasons.held(rules.reason)
            return _Draft(workload, template, "hold", reason, conflicts, configured=True)
        if verdict and not verdict.runs_on_arm64:
            return _Draft(workload, template, "hold", reasons.unproven(verdict), conflicts)
        if workload.replicas == 0:
            return _Draft(workload, template, "pin", "", conflicts)
        capped = reasons.capped(rules.max_ratio)
        if workload.one_side:
            if capped:
                return _Draft(workload, template, "hold", reasons.held(capped), conflicts, configured=True)
            return _Draft(workload, template, "move", "", conflicts, unit=workload.key)
        if self.admission:
            # To hold such a workload on x86 needs neither a spread nor a rollout.
            if workload.unshared:
                return _Draft(workload, template, "leave", reasons.unshared_volume(*workload.unshared))
            if workload.replicas > 1 and "spread" in template.spec:
                return _Draft(workload, template, "leave", reasons.SPREADS_ITSELF, gives_back=True)
        return _Draft(workload, template, "move", capped, conflicts)

    def _draft_daemonset(self, workload: Workload) -> _Draft:
        template, verdict = workload.template, self.verdict_of(workload)
        # A DaemonSet that is proven now may run on every node, so its pin goes.
        everywhere = _Draft(workload, template, "leave", reasons.EVERYWHERE, gives_back=True)
        if verdict is None or verdict.runs_on_arm64:
            return everywhere
        pinned = pod_fields.pinned_architecture(template)
        if pinned and ARM64 not in pinned[0].split(","):
            return _Draft(workload, template, "leave", reasons.daemonset_pins(pinned[0]))
        if verdict.verdict == UNKNOWN and self._inventory.on(workload.key, ARM64):
            # As with other workloads: an image that is unreadable now is not known to be broken.
            return _Draft(workload, template, "leave", reasons.daemonset_stays(verdict))
        mine = not (self._owned(workload) or workload.key in self._refused)
        if self._pin_daemonsets and mine and not placement.conflicts(template, replicas=1):
            return _Draft(workload, template, "hold", reasons.daemonset_kept_off(verdict))
        breaks = self.breaks_on_graviton(workload)
        if breaks:
            return _Draft(workload, template, "block", breaks)
        return replace(everywhere, gives_back=False)

    def breaks_on_graviton(self, workload: Workload) -> str:
        """Return why a DaemonSet breaks on Graviton nodes that it selects; empty if it does not."""
        verdict = self.verdict_of(workload)
        if verdict is None or verdict.runs_on_arm64:
            return ""
        if verdict.verdict == UNKNOWN and self._inventory.on(workload.key, ARM64):
            return ""
        reaches = any(workload.may_run_on(node) for node in self._sides[ARM64])
        return reasons.daemonset_would_break(verdict) if reaches else ""

    def _owned(self, workload: Workload) -> str:
        """Return whose workload or template it is; empty if nobody's, or if the settings say to steer it."""
        if self.rules_of(workload).steer_owned:
            return ""
        if workload.controlled_by:
            return reasons.controlled(workload.controlled_by)
        return reasons.template_of(workload.template_of) if workload.template_of else ""

    def _obstacle(self, workload: Workload) -> str:
        if workload.obstacle:
            return reasons.obstacle(workload.obstacle)
        if workload.key in self._refused:
            return reasons.refused(self._refused[workload.key])
        if reason := self._immovable(workload):
            return reason
        return reasons.unshared_volume(*workload.unshared) if workload.unshared else ""

    def _immovable(self, workload: Workload) -> str:
        """Return why its pods cannot be placed on either side, whoever writes the fields."""
        if workload.scheduler:
            return reasons.other_scheduler(workload.scheduler)
        if kind := self._inventory.special_nodes(workload.key):
            return reasons.special_nodes(kind)
        pinned = pod_fields.pinned_architecture(workload.template)
        if pinned:
            return reasons.pinned(*pinned)
        if workload.device_claims:
            return reasons.device_claims(workload.device_claims)
        return self._unfit(workload)

    def _unfit(self, workload: Workload) -> str:
        # Workloads with equal rules may have volumes of other names.
        if workload.pod_conditions or workload.conditions:
            return self._why_unfit(workload)
        rules = workload.rules
        if rules not in self._fits:
            self._fits[rules] = self._why_unfit(workload)
        return self._fits[rules]

    def _points_nowhere(self, workload: Workload) -> bool:
        """Return whether archshift's fields want pods on a side where none runs and none can run.

        The application has changed its needs since archshift set these fields.
        """
        owned = workload.template.owned
        if not owned or self._never_again(workload) is None:
            return False
        everywhere = [node for nodes in self._sides.values() for node in nodes]
        return "spread" in owned or workload.why_nowhere(everywhere, with_ours=True) is not None

    def wants_nowhere(self, workload: Workload, entry: Entry) -> bool:
        """Return whether an entry wants pods on a side where none runs and none can run."""
        side = self._never_again(workload)
        on_side = {ARM64: entry.graviton, AMD64: entry.replicas - entry.graviton}
        return side is not None and on_side[side] > 0

    def _never_again(self, workload: Workload) -> Architecture | None:
        """Return the side where no pod of a workload runs, and none can run."""
        for architecture, nodes in self._sides.items():
            unmet = workload.why_nowhere(nodes) if nodes else None
            # Labels and taints of nodes change, and then the workload must stay as it is.
            lasts = unmet is not None and unmet.source not in ("own rules", "taint")
            if lasts and not self._inventory.on(workload.key, architecture):
                return architecture
        return None

    def waits_for_owner(self, workload: Workload, *, rolls: bool) -> str:
        """Return why its pods cannot move before its owner has done something; empty if they can.

        Args:
            workload: The workload.
            rolls: Its pods move by a rollout of the same template.
        """
        if workload.kind == "StatefulSet" and workload.obstacle and not workload.updated:
            return reasons.waits_for_revision(workload.obstacle)
        if rolls and workload.unshared:
            return reasons.unshared_volume(*workload.unshared)
        if rolls and workload.obstacle:
            return reasons.waits_to_roll(workload.obstacle)
        if rolls and workload.template_of and not self.rules_of(workload).steer_owned:
            return reasons.waits_to_roll(f"a rollout would start a release of {workload.template_of}")
        return ""

    def _why_unfit(self, workload: Workload) -> str:
        for architecture, nodes in self._sides.items():
            unmet = workload.why_nowhere(nodes) if nodes else None
            if unmet:
                return reasons.fits_no_node(unmet, architecture)
        return ""


def _planned(
    draft: _Draft,
    count: int | None,
    arm_ratio: float,
    inventory: Inventory,
    steering: _Steering,
    units: Mapping[str, bool],
) -> PlannedWorkload:
    """Return the row of a workload.

    Args:
        draft: The decision about it.
        count: The number of its pods that belong on Graviton; None if it is not part of the fleet.
        arm_ratio: The configured ratio.
        inventory: The cluster now.
        steering: What decided.
        units: Unit to whether its pods move to Graviton.
    """
    workload = draft.workload
    row = PlannedWorkload(
        key=workload.key,
        namespace=workload.namespace,
        kind=workload.kind,
        name=workload.name,
        replicas=workload.replicas,
        wanted=count,
        graviton=inventory.on(workload.key, ARM64),
        reason=draft.reason,
        movable=draft.movable,
        verdict=steering.verdict_of(workload),
        action=draft.action,
        owner=workload.owner or workload.namespace,
    )
    if draft.action in ("leave", "block"):
        if steering.admission and not on_every_node(workload.kind):
            return _left_alone(row, draft, steering, steering.admission)
        keeps = workload.template.applied and not draft.gives_back
        return _kept(row, workload, steering.rules_of(workload).reason) if keeps else row
    row, target = _aimed(row, draft, arm_ratio, inventory, steering, units)
    if steering.admission and not on_every_node(workload.kind):
        return _at_admission(row, workload, target, steering, steering.admission)
    return _patched(row, draft, target, inventory, steering)


def _aimed(
    row: PlannedWorkload,
    draft: _Draft,
    arm_ratio: float,
    inventory: Inventory,
    steering: _Steering,
    units: Mapping[str, bool],
) -> tuple[PlannedWorkload, Entry]:
    """Return the row of a workload that archshift places, with its counts, and where its pods belong."""
    workload = draft.workload
    if draft.action == "pin":
        starts = starts_on_graviton(arm_ratio, draft.unit or workload.key, steering.rules_of(workload).wave)
        side: Architecture = ARM64 if units.get(draft.unit, starts) else AMD64
        return replace(row, reason=reasons.no_pods(side)), Entry(int(side == ARM64), 1)
    wanted = _wanted(draft, row)
    if steering.admission and draft.frozen(row.verdict) and _in_motion(workload, inventory):
        # A pod that is missing for a moment must not change the entry of its successor.
        live = steering.admission.live(workload)
        wanted = live.graviton if live else wanted
    target = Entry(wanted, max(1, workload.replicas), draft.reach.by_preference.get(wanted))
    if draft.action == "graviton":
        target = Entry(max(1, wanted), max(1, wanted))
    row = replace(row, wanted=wanted if workload.replicas else None)
    if draft.movable and not draft.unit and draft.reach.limit and wanted < workload.replicas:
        row = replace(row, reason=joined(row.reason, draft.reach.limit))
    if draft.action == "hold" and wanted:
        row = replace(row, reason=reasons.keeps(draft.reason, wanted))
    if workload.autoscaled:
        row = _with_reachable(row, workload.autoscaled)
    return row, target


def _at_admission(
    row: PlannedWorkload, workload: Workload, target: Entry, steering: _Steering, admission: _Admission
) -> PlannedWorkload:
    """Return a row with the entry by which the API server places its new pods.

    Args:
        row: The row with its counts.
        workload: The workload.
        target: Where its pods belong.
        steering: What decided.
        admission: What counts at admission.
    """
    patched = admission.patched.get(workload.key)
    rolls = bool(row.moves) and not workload.most_away and workload.kind in CONTROLLERS
    side = steering.waits(row, rolls=rolls or patched is not None)
    waits = reasons.waits_for_nodes(side) if side else steering.waits_for_owner(workload, rolls=rolls)
    if waits and (row.moves or side):
        here = Entry(min(row.graviton, workload.replicas), max(1, workload.replicas))
        row = replace(
            row,
            action="keep",
            wanted=row.graviton,
            reason=joined(waits, row.reason),
            reachable=None,
            entry=str(admission.live(workload) or here),
        )
        if side and patched:
            # Without its patch it would roll out, and its new pods would find no node. So the patch stays.
            return _kept(row, patched, steering.rules_of(workload).reason, why=row.reason)
        rolls = False
    else:
        row = replace(row, entry=str(target))
    if patched:
        return _patch_goes(row, workload)
    return replace(row, reason=joined(row.reason, reasons.ROLLS_WITH_SURGE), restarts=True) if rolls else row


def _left_alone(
    row: PlannedWorkload, draft: _Draft, steering: _Steering, admission: _Admission
) -> PlannedWorkload:
    """Return the row of a workload whose pods cannot be placed at admission now."""
    workload = draft.workload
    live = admission.live(workload)
    if live and not (draft.gives_back or steering.wants_nowhere(workload, live)):
        row = replace(row, action="keep", reason=reasons.kept(row.reason), entry=str(live))
    else:
        row = replace(row, entry=LEFT_ALONE)
    return _patch_goes(row, workload) if workload.key in admission.patched else row


def _patch_goes(row: PlannedWorkload, workload: Workload) -> PlannedWorkload:
    """Return a row that loses the patch of its template, which an earlier update set."""
    row = replace(row, patch_goes=True)
    if not workload.replicas or workload.obstacle:
        return row
    return replace(row, reason=joined(row.reason, reasons.PATCH_GOES), restarts=True)


def _patched(
    row: PlannedWorkload, draft: _Draft, target: Entry, inventory: Inventory, steering: _Steering
) -> PlannedWorkload:
    """Return a row with the patch of its template.

    Args:
        row: The row with its counts.
        draft: The decision about it.
        target: Where its pods belong.
        inventory: The cluster now.
        steering: What decided.
    """
    workload, template = draft.workload, draft.template
    rules = steering.rules_of(workload)
    fields = placement.place(template, target.graviton, target.replicas, target.prefer, zones=steering.zones)
    ours = {name: template.spec[name] for name in template.owned if name in template.spec}
    if ours and draft.frozen(row.verdict) and _in_motion(workload, inventory):
        # If a pod is missing for a moment while a registry is down, that must not cause a rollout.
        fields = ours
    if _harmless_rest(fields, ours, workload.replicas):
        fields = ours
    changed = fields != ours
    if not changed and not row.exact and not _in_motion(workload, inventory):
        # The template is right but the pods are elsewhere, for example after the loss of a node or after an
        # autoscaler's change. The scheduler never moves a running pod, so the pods must be replaced. If a
        # rollout has already ended like this, another one would end like it too.
        side: Architecture = ARM64 if (row.wanted or 0) > row.graviton else AMD64
        changed = not _tried(template, row.graviton, inventory.nodes, side)
        if not changed:
            row = replace(row, reason=reasons.tried(row.reason, row.moves, side))
    changed = changed or not template.revision
    side_closed = steering.waits(row)
    if changed and side_closed:
        return _waiting(row, workload, side_closed, rules.reason)
    revision = template.revision
    if changed:
        reclaims = template.takes_over or not template.reclaimed.keys().isdisjoint(fields)
        was_null = template.null_parent or pod_fields.NULL_MARK in template.revision
        revision = (
            workload.identity
            + (pod_fields.NULL_MARK if was_null else "")
            + (pod_fields.RECLAIMED_MARK if reclaims else "")
        )
    return replace(
        row,
        patch=_body(
            workload,
            {
                "metadata": {"annotations": {pod_fields.REVISION_ANNOTATION: revision}},
                "spec": pod_fields.write_fields(fields),
            },
            rules.reason,
            template.taken_fields,
        ),
        restarts=changed and (workload.replicas > 0 or on_every_node(workload.kind)),
        forced=bool(template.taken_fields),
        reclaimed=revision.endswith(pod_fields.RECLAIMED_MARK),
    )


def _tried(template: Template, graviton: int, nodes: Iterable[Node], side: Architecture) -> bool:
    """Return whether the last rollout ended with these pods on Graviton, on as many nodes as now or more."""
    last = template.inexact
    return (
        last is not None
        and (last.revision, last.graviton) == (template.revision, graviton)
        and sum(node.open and node.architecture == side for node in nodes) <= last.nodes
    )


def _harmless_rest(fields: Mapping[str, Any], ours: Mapping[str, Any], replicas: int) -> bool:
    """Return whether archshift's live fields are the wanted fields and others that decide nothing.

    To remove the others would be a rollout for nothing. They are preferences and constraints beside a pin, a
    constraint that never limits, or a pin that admits both sides.
    """
    rest = {name: value for name, value in ours.items() if name not in fields}
    if any(ours.get(name) != value for name, value in fields.items()):
        return False
    if pod_fields.pinned_architecture(Template(spec=fields)):
        return rest.keys().isdisjoint(("node-selector", "required"))
    return all(
        (name == "spread" and value["maxSkew"] >= replicas)
        or (name == "required" and not pod_fields.pinned_architecture(Template(spec={name: value})))
        for name, value in rest.items()
    )


def _kept(row: PlannedWorkload, workload: Workload, force_reason: str, why: str = "") -> PlannedWorkload:
    """Return a row whose patch is what archshift owns now, so that the update changes nothing."""
    taken = workload.template.taken_fields
    return replace(
        row,
        action="keep",
        reason=why or reasons.kept(row.reason),
        patch=_body(workload, workload.template.applied, force_reason, taken),
        forced=bool(taken),
    )


def _waiting(
    row: PlannedWorkload, workload: Workload, side: Architecture, force_reason: str
) -> PlannedWorkload:
    """Return a row that keeps its pods where they are until the nodes of a side take pods again."""
    reason = joined(reasons.waits_for_nodes(side), row.reason)
    row = replace(row, wanted=row.graviton, reason=reason, reachable=None)
    if workload.template.applied:
        return _kept(row, workload, force_reason)
    return replace(row, action="keep")


def _wanted(draft: _Draft, row: PlannedWorkload) -> int:
    if draft.action == "graviton":
        return row.replicas
    if draft.action == "hold":
        # An image that is unreadable now is not known to be broken. A registry that is down must not send a
        # fleet back to x86. The present Graviton pods stay, and no pods are added.
        return min(row.graviton, row.replicas) if draft.frozen(row.verdict) else 0
    return row.wanted or 0


def _in_motion(workload: Workload, inventory: Inventory) -> bool:
    """Return whether a rollout of a workload is in progress, or a pod of it has no node."""
    there = sum(inventory.on(workload.key, side) for side in ARCHITECTURES)
    return not workload.settled or there != workload.replicas


def _with_reachable(row: PlannedWorkload, bounds: tuple[int, int]) -> PlannedWorkload:
    shares = [
        placement.reachable(row.wanted or 0, row.replicas, scaled) / scaled
        for scaled in range(max(1, bounds[0]), bounds[1] + 1)
    ]
    if not shares:
        return row
    low, high = min(shares), max(shares)
    note = reasons.autoscaled(bounds, low, high)
    return replace(row, reachable=(low, high), reason=joined(row.reason, note))


def _body(
    workload: Workload,
    template: Mapping[str, Any],
    force_reason: str,
    taken_fields: Mapping[str, TakenField],
) -> dict[str, Any]:
    """Return the body of a workload's patch.

    Args:
        workload: The workload.
        template: The pod template with the fields to set.
        force_reason: The configured reason for taking fields.
        taken_fields: The fields taken by force, as they were before.
    """
    body: dict[str, Any] = dict(template)
    for name in reversed(CONTROLLERS[workload.kind].template_path):
        body = {name: body}
    body["metadata"] = {"name": workload.name, "namespace": workload.namespace}
    if taken_fields:
        body["metadata"]["annotations"] = {
            TAKEN_ANNOTATION: taken_annotation(taken_fields),
            FORCE_REASON_ANNOTATION: force_reason,
        }
    return body


def _demands(
    planned: Iterable[PlannedWorkload], inventory: Inventory, nodes: Sequence[Node]
) -> dict[Architecture, Demand]:
    planned = list(planned)
    # A device plugin that is away must not stop a step that moves no pod with its devices.
    moved = {
        device
        for row in planned
        if row.wanted is not None
        for device, _ in inventory.workloads[row.key].requests.devices
    }
    demands: dict[Architecture, Demand] = {}
    for architecture in ARCHITECTURES:
        side = [node for node in nodes if node.architecture == architecture]
        # DaemonSets' pods go with the last node of a side. Whoever removes that node checks that it has no
        # other pods.
        demand = Demand(inventory.unsteered_load.get(architecture, NOTHING)) if side else Demand()
        for row in planned:
            workload = inventory.workloads[row.key]
            everywhere = on_every_node(row.kind)
            if everywhere and row.patch and architecture == ARM64:
                continue  # its patch keeps it off the Graviton nodes
            if everywhere:
                selected = sum(workload.may_run_on(node) for node in side)
                demand = demand.plus(workload.requests, selected)
            elif (pods := row.wanted_on(architecture)) is None:
                demand = demand.with_pods(inventory.requested_on(row.key, architecture), workload.requests)
            else:
                demand = demand.plus(workload.requests, pods)
        demands[architecture] = demand.with_devices(moved)
    return demands


def _demands_now(inventory: Inventory) -> dict[Architecture, Demand]:
    demands: dict[Architecture, Demand] = {}
    for architecture in ARCHITECTURES:
        demand = Demand(inventory.unsteered_load.get(architecture, NOTHING))
        for key, workload in inventory.workloads.items():
            demand = demand.with_pods(inventory.requested_on(key, architecture), workload.requests)
        demands[architecture] = demand.with_devices(())
    return demands
