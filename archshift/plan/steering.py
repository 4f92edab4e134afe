"""Which workloads archshift can steer, and what it does with each before counts are known. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from archshift.cluster import pod_fields
from archshift.cluster.entries import LEFT_ALONE, Entry, entry_key, is_key
from archshift.cluster.kinds import CONTROLLERS, on_every_node
from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pod_fields import TakenField, Template
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture, opposite
from archshift.common.text import joined
from archshift.images.verdict import ARM64_ONLY, UNKNOWN
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.after_update import count_zones
from archshift.nodes.groups import Node, side_taint
from archshift.plan import placement, reasons
from archshift.plan.companions import Bond, Member, bonds
from archshift.plan.model import Action, Conflict, PlannedWorkload, Rules
from archshift.plan.neighbours import Crowded, Neighbours, Tenant
from archshift.plan.reachability import FREE, Reach, Site, limited, reaches


@dataclass(frozen=True, slots=True)
class Admission:
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
    def of(cls, inventory: Inventory, entries: Mapping[str, str]) -> "Admission":
        """Return what counts at admission for a cluster and its live entries, by workload key."""
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
        if entry and entry.side:
            return Entry(entry.graviton * max(1, workload.replicas), max(1, workload.replicas))
        if entry and entry.scaling:
            graviton = round(entry.graviton / entry.replicas * workload.replicas)
            return Entry(graviton, max(1, workload.replicas), scaling=entry.scaling)
        return entry if entry and entry.replicas == workload.replicas else None


@dataclass(frozen=True, slots=True)
class Draft:
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
        """Whether the workload is part of the fleet."""
        return self.action == "move"

    def frozen(self, verdict: WorkloadVerdict | None) -> bool:
        """Return whether only missing evidence holds it. Then it keeps its Graviton pods."""
        unknown = verdict is not None and verdict.verdict == UNKNOWN
        return self.action == "hold" and unknown and not self.configured


def with_reach(drafts: Iterable[Draft], places: Sequence[Site], inventory: Inventory) -> list[Draft]:
    """Return the drafts, with the numbers of pods that their rules and devices let run on Graviton."""
    drafts = list(drafts)
    graviton = {draft.workload.key: inventory.on(draft.workload.key, ARM64) for draft in drafts}
    found = reaches([draft.workload for draft in drafts if draft.movable], places, graviton)
    return [_undivided(replace(draft, reach=found.get(draft.workload.key, FREE))) for draft in drafts]


def _undivided(draft: Draft) -> Draft:
    """Return a draft that keeps a workload on x86 if its pods belong on one side and some may not move."""
    levels = draft.reach.levels
    if draft.movable and draft.workload.one_side and levels and levels[-1] < draft.workload.replicas:
        return replace(draft, action="hold", unit="", reason=reasons.held(draft.reach.limit))
    return draft


def with_companions(
    drafts: Sequence[Draft], steering: "Steering", inventory: Inventory, nodes: Sequence[Node]
) -> list[Draft]:
    """Return the drafts, with workloads tied together that must run beside each other."""
    if not any(workload.template.affinity for workload in _everything(inventory)):
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


def neighbours_in(inventory: Inventory, places: Sequence[Site]) -> Neighbours:
    """Return which workloads of a cluster must not meet. One without pods meets nobody."""
    there = [each for each in _everything(inventory) if each.replicas or inventory.sides(each.key)]
    return Neighbours(there, places)


def _everything(inventory: Inventory) -> list[Workload]:
    return [*inventory.workloads.values(), *inventory.unsteered_workloads.values()]


def with_neighbours(
    drafts: Sequence[Draft], counts: Mapping[str, int], inventory: Inventory, neighbours: Neighbours
) -> list[Draft]:
    """Return the drafts, with workloads kept where they are that may find no place apart from others.

    Args:
        drafts: The decisions.
        counts: Key to the number of its pods on Graviton, of each movable workload.
        inventory: The cluster now.
        neighbours: From ``neighbours_in``.
    """
    if not neighbours.members:
        return [*drafts]
    units = {draft.workload.key: draft.unit for draft in drafts if draft.unit}

    def tenant(workload: Workload) -> Tenant:
        key = workload.key
        count = counts.get(key)
        present = {side: inventory.on(key, side) for side in ARCHITECTURES}
        if count is None:
            return Tenant(pods=present, present=present, movable=False)
        pods: dict[Architecture, int] = {ARM64: count, AMD64: workload.replicas - count}
        if key in units:
            # It moves as a whole or not at all. What has begun to move goes on.
            present = {side: pods[side] if number else 0 for side, number in present.items()}
        return Tenant(pods=pods, present=present, movable=True)

    rivals = (neighbours.workloads[position] for position in neighbours.members)
    crowded = neighbours.crowded_out({workload.key: tenant(workload) for workload in rivals})
    of_units = {units[key]: crowd for key, crowd in crowded.items() if key in units}
    return [
        _crowded(draft, crowd, inventory.on(draft.workload.key, ARM64))
        if (crowd := crowded.get(draft.workload.key) or of_units.get(draft.unit))
        else draft
        for draft in drafts
    ]


def _crowded(draft: Draft, crowd: Crowded, graviton: int) -> Draft:
    """Return a draft that brings no more pods to a side."""
    if crowd.side == AMD64 and not graviton:
        # It does not come back from Graviton: no place on x86 is no reason to move it there.
        return draft
    if not crowd.most:
        return _bound(draft, Bond(side=opposite(crowd.side), reason=crowd.reason))
    levels = tuple(
        level
        for level in draft.reach.levels or range(draft.workload.replicas + 1)
        if (level <= graviton if crowd.side == ARM64 else level >= graviton)
    )
    return replace(draft, reach=limited(draft.reach, levels, crowd.reason)) if levels else draft


def _bound(draft: Draft, bond: Bond) -> Draft:
    if bond.side is None:
        return replace(draft, unit=bond.unit, reason=joined(draft.reason, bond.reason))
    if bond.side == ARM64:
        return replace(draft, action="graviton", reason=bond.reason)
    return replace(draft, action="hold", reason=reasons.held(bond.reason))


class Steering:
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
        admission: Admission | None,
    ) -> None:
        self.admission = admission
        self.zones = count_zones(nodes)
        self.tainted = bool(inventory.nodes) and all(
            side_taint(node.architecture) in node.taints
            for node in inventory.nodes
            if node.architecture in ARCHITECTURES
        )
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
        """Return the settings of a workload."""
        return self._rules.get(workload.key) or Rules()

    def sides_of(self, draft: Draft) -> frozenset[Architecture] | None:
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
        """Return the verdict on a workload's images; None if images are not checked."""
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

    def draft(self, workload: Workload) -> Draft:
        """Return the decision about a workload."""
        if on_every_node(workload.kind):
            return self._draft_daemonset(workload)
        if self.admission:
            return self._draft_at_admission(workload)
        return self._draft_patched(workload)

    def _draft_at_admission(self, workload: Workload) -> Draft:
        # Nobody owns fields of a pod that does not exist yet.
        template, reason = workload.template, self._immovable(workload)
        if not is_key(entry_key(workload.kind, workload.name)):
            reason = reasons.NO_KEY
        if reason:
            decides = bool(workload.scheduler or pod_fields.pinned_architecture(template))
            return Draft(workload, template, "leave", reason, gives_back=decides)
        return self._draft_placed(workload, template)

    def _draft_patched(self, workload: Workload) -> Draft:
        template, rules = workload.template, self.rules_of(workload)
        reason = self._owned(workload) or self._obstacle(workload)
        if reason:
            # A paused template and a refused patch must not change at all.
            untouchable = bool(workload.obstacle) or workload.key in self._refused
            gives_back = not untouchable and (
                pod_fields.contradicts(template) or self._points_nowhere(workload)
            )
            return Draft(workload, template, "leave", reason, gives_back=gives_back)
        pods, scaler = workload.replicas, workload.autoscaled
        # Its only pod gets the fields of a share, because an autoscaler may add others.
        shares = scaler is not None and pods == 1 and scaler.most != 1 and not workload.one_side
        blocked = placement.conflicts(template, 2 if shares else pods)
        path = CONTROLLERS[workload.kind].template_path
        conflicts = tuple(
            Conflict(workload.key, pod_fields.describe_path(name, path), str(owner), rules.force)
            for name, owner in blocked.items()
        )
        if conflicts and not rules.force:
            reason, withdrawn = reasons.owned_by_others(blocked), bool(template.taken_fields)
            return Draft(workload, template, "leave", reason, conflicts, gives_back=withdrawn)
        if template.taken_fields and not rules.force:
            return Draft(workload, template, "leave", reasons.FORCE_WITHDRAWN, gives_back=True)
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
    ) -> Draft:
        rules, verdict = self.rules_of(workload), self.verdict_of(workload)
        if verdict and verdict.verdict == ARM64_ONLY:
            return Draft(workload, template, "graviton", reasons.arm64_only(rules.hold), conflicts)
        if rules.hold:
            reason = reasons.held(rules.reason)
            return Draft(workload, template, "hold", reason, conflicts, configured=True)
        if verdict and not verdict.runs_on_arm64:
            return Draft(workload, template, "hold", reasons.unproven(verdict), conflicts)
        if workload.replicas == 0:
            return Draft(workload, template, "pin", "", conflicts)
        capped = reasons.capped(rules.max_ratio)
        if workload.one_side:
            if capped:
                return Draft(workload, template, "hold", reasons.held(capped), conflicts, configured=True)
            return Draft(workload, template, "move", "", conflicts, unit=workload.key)
        if self.admission:
            # To hold such a workload on x86 needs neither a spread nor a rollout.
            if workload.unshared:
                return Draft(workload, template, "leave", reasons.unshared_volume(*workload.unshared))
            if workload.replicas > 1 and "spread" in template.spec:
                return Draft(workload, template, "leave", reasons.SPREADS_ITSELF, gives_back=True)
        return Draft(workload, template, "move", capped, conflicts)

    def _draft_daemonset(self, workload: Workload) -> Draft:
        template, verdict = workload.template, self.verdict_of(workload)
        # A DaemonSet that is proven now may run on every node, so its pin goes.
        everywhere = Draft(workload, template, "leave", reasons.EVERYWHERE, gives_back=True)
        if verdict is None or verdict.runs_on_arm64:
            return everywhere
        pinned = pod_fields.pinned_architecture(template)
        if pinned and ARM64 not in pinned[0].split(","):
            return Draft(workload, template, "leave", reasons.daemonset_pins(pinned[0]))
        if verdict.verdict == UNKNOWN and self._inventory.on(workload.key, ARM64):
            # As with other workloads: an image that is unreadable now is not known to be broken.
            return Draft(workload, template, "leave", reasons.daemonset_stays(verdict))
        mine = not (self._owned(workload) or workload.obstacle or workload.key in self._refused)
        if self._pin_daemonsets and mine and not placement.conflicts(template, replicas=1):
            return Draft(workload, template, "hold", reasons.daemonset_kept_off(verdict))
        breaks = self.breaks_on_graviton(workload)
        if breaks:
            return Draft(workload, template, "block", breaks)
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
        if workload.oversized:
            return reasons.oversized(*workload.oversized)
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
        return side is not None and (entry.scaling is not None or on_side[side] > 0)

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
