"""``archshift status``: planned and observed pods."""

import argparse
from typing import TYPE_CHECKING, Any

from archshift.cli.arguments.status import EXIT_INEXACT, EXIT_TROUBLE
from archshift.cli.stack import print_json, read_plan
from archshift.cli.table import print_troubles, print_workloads
from archshift.common.text import counted, joined
from archshift.plan.plan_json import bends_json, fleet_json, troubles_json
from archshift.plan.reasons import not_placed, older_than_policy, policy_away

if TYPE_CHECKING:
    # Only for types: these modules load while the engine answers (archshift/cli/stack.py).
    from archshift.plan.model import Plan, PlannedWorkload


def run(options: argparse.Namespace) -> int:
    """Print the status; returns the exit code."""
    plan = read_plan(options)
    if options.json:
        print_json(as_json(plan))
    else:
        print_table(plan)
    if plan.in_trouble:
        return EXIT_TROUBLE
    return 0 if plan.reached else EXIT_INEXACT


def as_json(plan: "Plan") -> dict[str, Any]:
    """Return the status as JSON values.

    ``wanted`` is null for workloads that are left alone; the fleet's ``pods`` are those that can move.
    """
    return {
        "arm_ratio": plan.arm_ratio,
        "fleet": fleet_json(plan),
        "workloads": [
            {
                "workload": row.key,
                "replicas": row.replicas,
                "wanted": row.wanted,
                "graviton": row.graviton,
                "exact": row.exact,
                "near": row.near,
                "reason": row.reason,
            }
            for row in plan.workloads
        ],
        "troubles": troubles_json(plan),
        "autoscaled": bends_json(plan),
        "placement": {
            "by": plan.placed_by,
            "without_policy": list(plan.without_policy),
            "unplaced": dict(plan.unplaced),
            "older": plan.older,
        },
    }


def _remark(row: "PlannedWorkload") -> tuple[str, str | None]:
    if row.exact:
        return row.reason, None
    return (
        (joined("near its share", row.reason), None)
        if row.near
        else (joined("not exact", row.reason), "yellow")
    )


def print_table(plan: "Plan") -> None:
    """Print the status for a person."""
    out = print_workloads(
        plan,
        ("WANTED", "GRAVITON", ""),
        lambda row: (row.wanted, row.graviton),
        _remark,
    )
    print_troubles(out, plan)
    for bend in plan.bends:
        out.print(str(bend), style="yellow" if bend.causes else "dim")
    for note in plan.node_notes:
        out.print(note, style="yellow")
    if text := policy_away(plan.without_policy):
        out.print(text, style="yellow")
    if text := not_placed(plan.unplaced):
        out.print(text, style="yellow")
    if text := older_than_policy(plan.older):
        out.print(text, style="dim")
    share = plan.graviton / plan.pods if plan.pods else 0.0
    out.print(
        f"fleet at {plan.arm_ratio:g}: {plan.graviton} of {plan.pods} movable pods on Graviton "
        f"({share:.3f}), {plan.wanted} wanted; {counted(plan.all_pods, 'pod')} in all",
        style="bold",
    )
