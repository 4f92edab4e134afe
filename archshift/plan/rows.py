"""The row of each workload: its counts, and the patch or the entry by which its pods get there. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from archshift.cluster import pod_fields
from archshift.cluster.entries import LEFT_ALONE, Entry, Scaling
from archshift.cluster.kinds import CONTROLLERS, on_every_node
from archshift.cluster.model import MOST_MISSING, TAKEN_ANNOTATION, Inventory, Workload, taken_annotation
from archshift.cluster.pod_fields import TakenField, Template
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture
from archshift.common.text import joined
from archshift.nodes.groups import Node
from archshift.plan import placement, reasons, scaling
from archshift.plan.apportion import starts_on_graviton
from archshift.plan.deletion_costs import own_costs
from archshift.plan.model import FORCE_REASON_ANNOTATION, PlannedWorkload
from archshift.plan.steering import Admission, Draft, Steering

_UNKNOWN_MOST: Final = 10
"""If nobody knows the most pods of an autoscaled workload: so many times its present pods."""

_MOST_ZONES: Final = 6
"""The most availability zones of a region."""


def row_of(
    draft: Draft,
    count: int | None,
    arm_ratio: float,
    inventory: Inventory,
    steering: Steering,
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
        autoscaled=workload.autoscaled is not None,
    )
    if draft.action in ("leave", "block"):
        if steering.admission and not on_every_node(workload.kind):
            return _left_alone(row, draft, steering, steering.admission)
        keeps = workload.template.applied and not draft.gives_back
        return _kept(row, workload, steering.rules_of(workload).reason) if keeps else row
    row, target = _aimed(row, draft, arm_ratio, inventory, steering, units)
    if steering.admission and not on_every_node(workload.kind):
        waiting = inventory.waiting.get(workload.key, ()).count(str(target))
        return _at_admission(replace(row, waiting=waiting), workload, target, steering, steering.admission)
    return _patched(row, draft, target, inventory, steering)


def _aimed(
    row: PlannedWorkload,
    draft: Draft,
    arm_ratio: float,
    inventory: Inventory,
    steering: Steering,
    units: Mapping[str, bool],
) -> tuple[PlannedWorkload, Entry]:
    """Return the row of a workload that archshift places, with its counts, and where its pods belong."""
    workload = draft.workload
    if draft.action == "pin":
        starts = starts_on_graviton(arm_ratio, draft.unit or workload.key, steering.rules_of(workload).wave)
        side: Architecture = ARM64 if units.get(draft.unit, starts) else AMD64
        target = Entry(int(side == ARM64), 1)
        if kept := _kept_at_zero(draft, arm_ratio, steering):
            return row, kept
        return replace(row, reason=reasons.no_pods(side)), target
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
    if workload.autoscaled and 0 < wanted < workload.replicas:
        owner = own_costs(inventory.scaled_pods.get(workload.key, ()))
        row = replace(row, reason=joined(row.reason, reasons.own_costs(owner) if owner else ""))
    return _scaled(row, target, draft, arm_ratio, steering)


def _at_admission(
    row: PlannedWorkload, workload: Workload, target: Entry, steering: Steering, admission: Admission
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
    rolls = row.moves > row.waiting and not workload.most_away and workload.kind in CONTROLLERS
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
        row = replace(row, entry=str(target), applied=_places_as(admission.live(workload), target))
    if patched:
        return _patch_goes(row, workload)
    return replace(row, reason=joined(row.reason, reasons.ROLLS_WITH_SURGE), restarts=True) if rolls else row


def _places_as(live: Entry | None, target: Entry) -> bool:
    """Return whether a live entry places pods as another one, for whatever number of pods it was written."""
    if live is None:
        return False
    if live.scaling or target.scaling:
        return live.scaling == target.scaling
    return str(live) == str(target)


def _left_alone(
    row: PlannedWorkload, draft: Draft, steering: Steering, admission: Admission
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
    row: PlannedWorkload, draft: Draft, target: Entry, inventory: Inventory, steering: Steering
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
    fields = placement.place(
        template,
        target.graviton,
        target.replicas,
        target.prefer,
        zones=bool(steering.zones),
        scaling=target.scaling,
    )
    ours = _ours(template)
    if (
        ours
        and draft.frozen(row.verdict)
        and ((workload.autoscaled and row.wanted) or _in_motion(workload, inventory))
    ):
        # While a registry is down, neither a missing pod nor an autoscaler may cause a rollout.
        fields = ours
    if _harmless_rest(fields, ours, workload.replicas):
        fields = ours
    changed = fields != ours
    row = replace(row, applied=bool(template.revision) and not changed)
    if not changed and not row.exact and not _in_motion(workload, inventory):
        # The template is right but the pods are elsewhere, for example after the loss of a node or after an
        # autoscaler's change. The scheduler never moves a running pod, so the pods must be replaced. If a
        # rollout has already ended like this, another one would end like it too.
        side = row.lacking
        if target.scaling and is_near(row, template):
            # So near is all that the rule promises, also after another rollout.
            evictable = workload.most_away > 0
            came_back = evictable and tried_before(template, row.graviton, inventory.nodes, side)
            row = replace(
                row,
                near=True,
                reason=joined(row.reason, reasons.CAME_BACK)
                if came_back
                else reasons.near(row.reason, row.moves, side, evictable=evictable),
            )
        elif tried_before(template, row.graviton, inventory.nodes, side):
            row = replace(row, reason=reasons.tried(row.reason, row.moves, side))
        else:
            changed = True
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


def is_near(row: PlannedWorkload, template: Template) -> bool:
    """Return whether an autoscaled workload is as near to its share as its rule promises."""
    return row.moves <= scaling.most_off(row.replicas, soft_rules=template.has_soft_rules)


def tried_before(template: Template, graviton: int, nodes: Iterable[Node], side: Architecture) -> bool:
    """Return whether the last rollout or rebalance ended with these pods on Graviton, and with these nodes.

    Args:
        template: The pod template.
        graviton: The number of pods on Graviton.
        nodes: The nodes now.
        side: The side that lacks pods.
    """
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


def _wanted(draft: Draft, row: PlannedWorkload) -> int:
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


def _share(target: Entry, draft: Draft, arm_ratio: float, steering: Steering) -> float:
    """Return the share of a workload's pods that belong on Graviton, whatever their number."""
    share = min(arm_ratio, steering.rules_of(draft.workload).max_ratio)
    # Workloads that stay on one side leave the others another share than the fleet's.
    beside = abs(target.graviton - share * target.replicas) > 1
    return target.graviton / target.replicas if beside else share


def _scaled(
    row: PlannedWorkload, target: Entry, draft: Draft, arm_ratio: float, steering: Steering
) -> tuple[PlannedWorkload, Entry]:
    """Return a row and where its pods belong, with what an autoscaler changes about both."""
    scaler = draft.workload.autoscaled
    if not scaler:
        return row, target
    most = _UNKNOWN_MOST * target.replicas if scaler.most is None else scaler.most_pods(target.replicas)
    share = _share(target, draft, arm_ratio, steering)
    rule = None
    # Pods that only move together, and those whose own rules limit their places, keep the exact rule.
    if draft.movable and 0 < share < 1 < most and not (draft.unit or draft.reach.levels or target.prefer):
        rule = _rule(draft, target, share, most, steering)
    elif draft.frozen(row.verdict) and row.wanted:
        # It keeps the rule that it has, so nobody knows the interval of another.
        live = steering.admission.live(draft.workload) if steering.admission else None
        return row, replace(target, scaling=live.scaling if live else None)
    target = replace(target, scaling=rule)
    if scaler.most is None:
        return row, target
    bounds = scaler.fewest, scaler.most
    if rule:
        low, high = scaling.reach(rule, share, bounds, soft_rules=draft.template.has_soft_rules)
    else:
        least = max(1, bounds[0])
        shares = [
            placement.reachable(row.wanted or 0, row.replicas, scaled) / scaled
            # Beyond that, a share changes by less than a thousandth.
            for scaled in range(least, min(bounds[1], least + MOST_MISSING) + 1)
        ]
        if not shares:
            return row, target
        low, high = min(shares), max(shares)
    note = reasons.autoscaled(bounds, low, high)
    return replace(row, reachable=(low, high), reason=joined(row.reason, note)), target


def _rule(draft: Draft, target: Entry, share: float, most: int, steering: Steering) -> Scaling | None:
    """Return how an autoscaled workload keeps its share: by its live rule, if that is right for the share."""
    template, workload, zones = draft.template, draft.workload, steering.zones
    guessed = workload.autoscaled is None or workload.autoscaled.most is None
    rule = scaling.scaling_of(template, share, most, zones=zones, tainted=steering.tainted, guessed=guessed)
    if rule is None:
        return None
    live = steering.admission.live(workload) if steering.admission else None
    within = live.scaling.within if live and live.scaling else _live_bound(template)
    if within and guessed:
        # Only a guess says the most pods, and it changes with the present pods.
        pods = 2 * target.replicas
        enough = placement.max_skew(round(share * pods), pods)
        rule = replace(rule, within=within if within >= enough else rule.within)
    if steering.admission or not _live_bound(template):
        return rule
    ours = _ours(template)

    def is_live(one: Scaling) -> bool:
        fields = placement.place(
            template,
            target.graviton,
            target.replicas,
            zones=bool(zones),
            scaling=replace(one, within=rule.within),
        )
        return fields == ours

    # Nodes come and go, and with them the last one of a zone or one without a taint. Another rule for the
    # same share is not worth a rollout of all pods.
    others = (
        scaling.scaling_of(template, share, most, zones=number, tainted=tainted, guessed=guessed)
        for number in (range(1, _MOST_ZONES + 1) if zones else (0,))
        for tainted in (True, False)
    )
    found = next((one for one in (rule, *others) if one and is_live(one)), rule)
    return replace(found, within=rule.within)


def _kept_at_zero(draft: Draft, arm_ratio: float, steering: Steering) -> Entry | None:
    """Return where pods belong of a workload that its autoscaler scaled to 0; None if it keeps no ratio.

    A pin would bring all its next pods to one side, and the update after it would have to move them.
    """
    workload, scaler = draft.workload, draft.workload.autoscaled
    entry = Entry.parse(steering.admission.entries.get(workload.key, "")) if steering.admission else None
    kept_one = entry.scaling is not None if entry else bool(_live_bound(draft.template))
    share = min(arm_ratio, steering.rules_of(workload).max_ratio)
    if not scaler or draft.unit or not kept_one or not 0 < share < 1:
        return None
    most = scaler.most_pods(entry.replicas if entry else 1) if scaler.most else _UNKNOWN_MOST
    target = Entry(round(share * most), most)
    rule = _rule(draft, target, share, most, steering) if most > 1 else None
    return replace(target, scaling=rule) if rule else None


def _ours(template: Template) -> dict[str, Any]:
    """Return the live fields of a template that this stack owns."""
    return {name: template.spec[name] for name in template.owned if name in template.spec}


def _live_bound(template: Template) -> int:
    """Return the hard bound of a live patch that keeps a ratio; 0 if there is none."""
    ours = _ours(template)
    return int(ours["spread"].get("maxSkew", 0)) if "soft-spread" in ours and "spread" in ours else 0


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
