"""``archshift rebalance``: corrects shares between two updates."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from archshift.actions.deletion_costs import Written, pending_changes, write_costs
from archshift.actions.evictions import Allowance
from archshift.actions.moving import move_pods, set_back_entries
from archshift.actions.placeholders import bring_up_nodes, needed_after
from archshift.actions.rollouts import StepResult, incomplete_workloads
from archshift.actions.surplus import Surplus, measure
from archshift.cli.arguments.status import EXIT_INEXACT, EXIT_TROUBLE
from archshift.cli.signals import signals_as_interrupts
from archshift.cli.stack import busy, print_json, read_settings
from archshift.cli.table import console, plain_table, print_troubles
from archshift.cli.updates import check_no_update
from archshift.cluster.client import Cluster, connect
from archshift.cluster.lease import Lease, sole_mover, still_sole
from archshift.common.architectures import display, opposite
from archshift.common.errors import ArchshiftError
from archshift.common.text import counted
from archshift.images.verdict import UNKNOWN
from archshift.plan.model import Plan, PlannedWorkload
from archshift.plan.rebalancing import rebalancing
from archshift.settings.stack import Settings
from archshift.survey import Survey, survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a run did, or would do.

    Attributes:
        plan: The plan for the cluster as it is in the end.
        before: The key of a workload to its pods on Graviton before.
        surplus: The key of a workload to its surplus.
        left: The key of a workload to why pods of it stay where they are.
        evicted: How many pods were evicted, or restarted.
        costs: What became of the deletion costs.
        dry_run: Whether nothing was changed because of that.
    """

    plan: Plan
    before: Mapping[str, int] = field(default_factory=dict)
    surplus: Mapping[str, Surplus] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)
    evicted: int = 0
    costs: Written = field(default_factory=Written)
    dry_run: bool


def run(options: argparse.Namespace) -> int:
    """Move the surplus, or say what would move; returns the exit code."""
    settings = read_settings(options)
    # Before the Lease too: an update that is under way needs it.
    check_no_update(options, settings.stack)
    with connect(settings.kube_context) as cluster, signals_as_interrupts(once=True):
        if options.dry_run:
            result = _rebalance(options, settings, cluster, _survey(settings, cluster))
        else:
            with sole_mover(cluster, settings.stack_label, "archshift rebalance", say=_say) as lease:
                # An update looks for the Lease after it has locked the stack, so one of both sees the other.
                check_no_update(options, settings.stack)
                found = _survey(settings, cluster)
                if settings.placement == "admission" and _set_back(settings, cluster, found):
                    found = _survey(settings, cluster)
                result = _rebalance(options, settings, cluster, found, lease)
                if not still_sole(lease):
                    raise ArchshiftError(
                        "the rebalance stopped, because another command may hold its Lease now",
                        "run archshift rebalance again",
                    )
    if options.json:
        print_json(as_json(result))
    else:
        print_table(result)
    if result.plan.in_trouble:
        return EXIT_TROUBLE
    return 0 if result.plan.reached else EXIT_INEXACT


def _survey(settings: Settings, cluster: Cluster) -> Survey:
    with busy("reading the cluster and its images") as watch:
        return survey(settings, cluster=cluster, watch=watch)


def _set_back(settings: Settings, cluster: Cluster, found: Survey) -> bool:
    """Set back what a killed command left, and say so; return whether there was anything."""
    # While an image is unknown, the plan keeps what is there, and that is what the killed command left.
    planned = {row.key: row.entry for row in found.plan.workloads if not _is_unknown(row)}
    done = set_back_entries(cluster, settings.stack_label, planned)
    for key, problem in sorted(done.items()):
        why = f"could not be set back: {problem}" if problem else "was set back"
        _say(f"{key}: its entry of a rebalance that was killed {why}")
    return bool(done)


def _is_unknown(row: PlannedWorkload) -> bool:
    return row.verdict is not None and row.verdict.verdict == UNKNOWN


def _say(text: str) -> None:
    """Tell a person what happens; the result is on standard output."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


def _rebalance(
    options: argparse.Namespace,
    settings: Settings,
    cluster: Cluster,
    found: Survey,
    lease: Lease | None = None,
) -> Result:
    entries = found.placement.entries if found.placement else {}
    rows, left = rebalancing(found.plan, found.inventory, entries, restart=options.restart)
    # Karpenter may have removed the nodes of a side whose pods went to the other one.
    on_demand = settings.pool_settings is not None
    due, surplus, short = measure(cluster, rows, options.max_pods, on_demand=on_demand)
    left |= short
    before = {row.key: row.graviton for row in found.plan.workloads}
    manager = settings.costs_manager
    if options.dry_run:
        changes = pending_changes(cluster, found.plan.kept_shares, manager)
        costs = Written(
            set=sum(change.cost is not None for change in changes),
            given_back=sum(change.cost is None for change in changes),
        )
        return Result(plan=found.plan, before=before, surplus=surplus, left=left, costs=costs, dry_run=True)

    def bring_up(cluster: Cluster, moving: Sequence[PlannedWorkload]) -> None:
        bring_up_nodes(cluster, needed_after(cluster, moving, found.inventory), settings.stack)

    allowance = Allowance(options.max_pods, partial(still_sole, lease))
    ended = StepResult()
    if due:
        ended = move_pods(
            cluster,
            due,
            stack_label=settings.stack_label,
            field_manager=settings.field_manager,
            limits=settings.rollouts,
            incomplete=incomplete_workloads(found.inventory),
            bring_up_nodes=bring_up if on_demand else None,
            allowance=allowance,
            turns_back=settings.placement == "admission",
            say=_say,
        )
        keys = {row.key for row in due}
        for what, why in ended.failures.items():
            if what not in keys:
                _say(f"{what}: {why}")
        found = survey(settings, cluster=cluster)
    costs = write_costs(cluster, found.plan.kept_shares, manager)
    return Result(
        plan=found.plan,
        before=before,
        surplus=surplus,
        left={**left, **ended.notes, **ended.inexact, **ended.failures},
        evicted=allowance.taken,
        costs=costs,
        dry_run=False,
    )


def as_json(result: Result) -> dict[str, Any]:
    """Return the result as JSON values. ``surplus`` is what was too many before, and ``moves`` what moved."""
    return {
        "dry_run": result.dry_run,
        "evicted": result.evicted,
        "exact": result.plan.exact,
        "workloads": [
            {
                "workload": row.key,
                "replicas": row.replicas,
                "wanted": row.wanted,
                "graviton": row.graviton,
                "near": row.near,
                "before": result.before.get(row.key, row.graviton),
                "surplus": surplus.pods if surplus else row.moves,
                "moves": surplus.moves if surplus else 0,
                "reason": result.left.get(row.key, ""),
            }
            for row in result.plan.workloads
            for surplus in (result.surplus.get(row.key),)
            if surplus or row.key in result.left or not row.exact
        ],
        "deletion_costs": {
            "set": result.costs.set,
            "given_back": result.costs.given_back,
            "problems": dict(result.costs.problems),
        },
    }


def print_table(result: Result) -> None:
    """Print the result for a person."""
    out = console()
    shown = as_json(result)["workloads"]
    if shown:
        table = plain_table()
        table.add_column("WORKLOAD", overflow="fold")
        for name in ("PODS", "WANTED", "BEFORE", "MOVES" if result.dry_run else "NOW"):
            table.add_column(name, justify="right")
        table.add_column("", overflow="fold")
        for each in shown:
            last = each["moves"] if result.dry_run else each["graviton"]
            numbers = (each["replicas"], each["wanted"], each["before"], last)
            surplus = result.surplus.get(each["workload"])
            text = each["reason"] or (_direction(surplus) if surplus else "")
            table.add_row(
                each["workload"], *map(str, numbers), text, style="yellow" if each["reason"] else None
            )
        out.print(table)
        out.print()
    print_troubles(out, result.plan)
    for namespace, problem in sorted(result.costs.problems.items()):
        out.print(f"{namespace}: no deletion costs: {problem}", style="yellow")
    would = "would get" if result.dry_run else "got"
    if result.costs.set:
        out.print(f"{counted(result.costs.set, 'pod')} {would} another deletion cost")
    if result.costs.given_back:
        out.print(f"{counted(result.costs.given_back, 'pod')} {would} the deletion cost removed")
    out.print(_summary(result), style="bold")


def _direction(surplus: Surplus) -> str:
    return f"{surplus.moves} from {display(surplus.side)} to {display(opposite(surplus.side))}"


def _summary(result: Result) -> str:
    moves = sum(surplus.moves for surplus in result.surplus.values())
    inexact = [row for row in result.plan.workloads if not row.exact]
    near = sum(row.near for row in inexact)
    if result.dry_run and inexact:
        return f"{counted(moves, 'pod')} would be evicted"
    parts = [f"{counted(len(inexact) - near, 'workload')} not exact" if len(inexact) > near else ""]
    parts.append(f"{counted(near, 'workload')} near the share" if near else "")
    rest = ", ".join(part for part in parts if part) or "every workload is exact"
    return rest if result.dry_run else f"{counted(result.evicted, 'pod')} evicted; {rest}"
