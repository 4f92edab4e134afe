"""Makes the plan: which workloads archshift can steer, and where their pods go. Pure.

A row says it with a patch of the workload's template, or with the entry by which the API server places its
new pods (``archshift:placement``). The counts are the same. DaemonSets are never placed at admission, so
their rows have patches with both.
"""

import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from archshift.cluster.kinds import CONTROLLERS, on_every_node
from archshift.cluster.model import Autoscaler, Inventory
from archshift.common.architectures import ARCHITECTURES, ARM64, Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.resources import NOTHING
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.after_update import closed_sides, nodes_after, possible_nodes
from archshift.nodes.groups import AnyNodeGroup, Node
from archshift.plan import reasons
from archshift.plan.apportion import Share, apportion
from archshift.plan.bends import bends_of
from archshift.plan.capacity import Balance, Demand, balance, fits
from archshift.plan.deletion_costs import Proportion, costs_due
from archshift.plan.model import (
    DaemonSetBlocker,
    Placement,
    Plan,
    PlannedWorkload,
    Rules,
)
from archshift.plan.reachability import sites
from archshift.plan.rows import row_of
from archshift.plan.steering import (
    Admission,
    Draft,
    Steering,
    neighbours_in,
    with_companions,
    with_neighbours,
    with_reach,
)


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
    check_named("overrides", rules, inventory, placed_by)
    admission = None
    if placed_by == "admission":
        admission = Admission.of(inventory, live_entries or {})
        inventory = replace(inventory, workloads=admission.workloads)
    nodes = nodes_after(inventory.nodes, groups, stack)
    closed = closed_sides(nodes, groups)
    live = {node.name for node in inventory.nodes}
    possible = possible_nodes(inventory.nodes, groups, stack)
    steering = Steering(
        possible, rules, verdicts, pin_daemonsets, inventory, refused or {}, closed, admission
    )
    drafts = [steering.draft(workload) for _, workload in sorted(inventory.workloads.items())]
    places = sites(nodes, groups)
    drafts = with_reach(drafts, places, inventory)
    drafts = with_companions(drafts, steering, inventory, possible)
    counts = _counts(arm_ratio, drafts, steering)
    neighbours = neighbours_in(inventory, places)
    while (apart := with_neighbours(drafts, counts, inventory, neighbours)) != drafts:
        # Others take the share of those that stay where they are.
        drafts = apart
        counts = _counts(arm_ratio, drafts, steering)
    units = {d.unit: counts[d.workload.key] > 0 for d in drafts if d.unit and d.workload.replicas}
    planned = tuple(
        row_of(draft, counts.get(draft.workload.key), arm_ratio, inventory, steering, units)
        for draft in drafts
    )
    kept = {
        row.key: share
        for row in planned
        if (share := _kept_share(row, inventory.workloads[row.key].autoscaled))
    }
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
        kept_shares=kept,
        bends=bends_of(planned, inventory, live_entries or {}),
        costs_due=costs_due(
            inventory.scaled_pods,
            {node.name: node.architecture for node in inventory.nodes},
            kept,
            {row.key for row in planned if row.restarted_pods},
            inventory.costs_manager,
        ),
    )


def _counts(arm_ratio: float, drafts: Iterable[Draft], steering: Steering) -> dict[str, int]:
    return apportion(
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


def _kept_share(row: PlannedWorkload, scaler: Autoscaler | None) -> Proportion | None:
    """Return the share that an autoscaled workload keeps while it is scaled down; None if it has none."""
    # A workload that cannot be placed now keeps its entry or its patch, and so its share.
    wanted = row.graviton if row.wanted is None and row.action == "keep" else row.wanted
    if wanted is None or not (row.placed and scaler and row.replicas):
        return None
    # One that waits wants what is there, and during a rollout that can be more than its replicas.
    low, high = row.reachable or (0.0, 0.0)
    return Proportion(
        graviton=min(wanted, row.replicas),
        replicas=row.replicas,
        fewest=max(1, min(scaler.fewest, row.replicas)),
        mixed=low < high,
    )


def _blockers(
    planned: Iterable[PlannedWorkload], inventory: Inventory, steering: "Steering"
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


def check_named(setting: str, keys: Iterable[str], inventory: Inventory, placed_by: Placement) -> None:
    """Check that the workloads exist that a setting names.

    Args:
        setting: The key below ``archshift:workloads``.
        keys: The keys of the workloads.
        inventory: The cluster now.
        placed_by: Who places the pods.

    Raises:
        ArchshiftError: A workload is missing in the cluster.
    """
    for key in keys:
        # A workload that only its pods show may have no pods now.
        may_be_away = placed_by == "admission" and key.split("/")[1] not in CONTROLLERS
        if key not in inventory.workloads and not may_be_away:
            nearest = difflib.get_close_matches(key, inventory.workloads, n=2)
            hint = f"did you mean {' or '.join(nearest)}?" if nearest else "remove it or correct the name"
            raise ArchshiftError(
                f"archshift:workloads.{setting}: {key!r} is not among the workloads found", f"{hint}"
            )


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
    sizes = {(node.millicpu, node.memory): node for node in nodes}.values()
    demands: dict[Architecture, Demand] = {}
    for architecture in ARCHITECTURES:
        side = [node for node in nodes if node.architecture == architecture]
        # DaemonSets' pods go with the last node of a side. Whoever removes that node checks that it has no
        # other pods.
        demand = Demand(inventory.unsteered_load.get(architecture, NOTHING)) if side else Demand()
        for row in planned:
            workload = inventory.workloads[row.key]
            everywhere = on_every_node(row.kind)
            if not any(fits(workload.requests, node) for node in sizes):
                # Its pods are pending on either side, and that is no reason to stop the others.
                continue
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
