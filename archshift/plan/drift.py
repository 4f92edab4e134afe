"""What differs from the last update for another reason than an autoscaler's work. Pure.

An autoscaler that adds and removes pods changes the numbers in the plan. It changes the entries of its
workloads. It changes the shares of others by a pod, because archshift rounds the fleet as a whole. New pods
lack a deletion cost. None of this is drift. The next update or ``archshift rebalance`` corrects it.
"""

from collections.abc import Mapping
from typing import Final

from archshift.cluster.entries import Entry, entry_key
from archshift.cluster.live_placement import LivePlacement
from archshift.cluster.model import Inventory, Workload
from archshift.plan.model import Plan, PlannedWorkload
from archshift.plan.placement import place

_ROUNDED: Final = 1
"""The number of pods by which a workload may differ when the fleet has another number of pods."""


def drift_of(
    plan: Plan,
    inventory: Inventory,
    live: LivePlacement | None = None,
    entries: Mapping[str, Mapping[str, str]] | None = None,
) -> tuple[str, ...]:
    """Return what differs for another reason: keys of workloads, and names of namespaces.

    Args:
        plan: The plan for the cluster as it is.
        inventory: The cluster.
        live: What places pods at admission now; None with ``placement: patches``.
        entries: Namespace to its wanted entries.
    """
    there = live.entries if live else {}
    scaled = any(row.autoscaled and row.movable for row in plan.workloads)
    bent = {bend.workload for bend in plan.bends if bend.scaled}
    rows = [
        row.key
        for row in plan.workloads
        if not _by_autoscaler(
            row, inventory.workloads[row.key], there.get(row.key, ""), scaled=scaled, bent=row.key in bent
        )
    ]
    own = {(row.namespace, entry_key(row.kind, row.name)) for row in plan.workloads}

    def others(data: Mapping[str, str], space: str) -> dict[str, str]:
        return {key: text for key, text in data.items() if (space, key) not in own}

    data = live.data if live else {}
    spaces = {
        space
        for space, wanted in (entries or {}).items()
        if others(wanted, space) != others(data.get(space, {}), space)
    }
    return (*rows, *sorted({*spaces, *plan.without_policy}))


def _by_autoscaler(row: PlannedWorkload, workload: Workload, live: str, *, scaled: bool, bent: bool) -> bool:
    """Return whether an autoscaler alone caused what differs about a workload, or nothing differs.

    Args:
        row: The workload.
        workload: The workload in the cluster.
        live: Its live entry; empty if it has none.
        scaled: Whether an autoscaler changes the size of the fleet.
        bent: Whether its own autoscaler alone changed its share.
    """
    if row.patch_goes or row.reclaimed:
        return False
    same = live == row.entry if row.entry else row.patch is None or not row.restarts
    if row.autoscaled:
        # With patches, its template is as it should be, and its rollout would only move pods.
        placed = same or row.applied or (bool(row.entry) and _near(Entry.parse(live), Entry.parse(row.entry)))
        return placed and (row.moves <= _ROUNDED or bent)
    if same:
        return row.exact
    if not scaled or row.moves > _ROUNDED:
        return False
    if row.entry:
        before, after = Entry.parse(live), Entry.parse(row.entry)
        # With another number of pods, somebody else scaled it.
        return _near(before, after) and (
            before is None or before.side is not None or before.replicas == row.replicas
        )
    return _patched_beside(row, workload)


def _near(before: Entry | None, after: Entry | None) -> bool:
    """Return whether two entries have the same share, rounded for their numbers of pods."""
    if before is None or after is None or (before.scaling, before.prefer) != (after.scaling, after.prefer):
        return False
    # A pin is all of the pods, whatever their number is.
    pods = before.replicas if after.side else after.replicas
    one = before.graviton * pods / before.replicas
    return abs(one - after.graviton * pods / after.replicas) <= _ROUNDED + 1e-9


def _patched_beside(row: PlannedWorkload, workload: Workload) -> bool:
    """Return whether the live patch is the right one for a pod more or less on Graviton."""
    template = workload.template
    ours = {name: template.spec[name] for name in template.owned if name in template.spec}
    wanted = row.wanted or 0
    return any(
        place(template, beside, row.replicas, zones=zones) == ours
        for beside in (wanted - _ROUNDED, wanted + _ROUNDED)
        if 0 <= beside <= row.replicas
        for zones in (True, False)
    )
