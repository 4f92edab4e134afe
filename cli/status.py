"""``archshift status``: wanted against observed."""

import argparse
from typing import Any

from rich.console import Console
from rich.table import Table

from archshift.plan import Plan
from cli.stack import add_stack_options, print_json, read_plan

EXIT_INEXACT = 3
"""Exit code where some workload is not where it is wanted."""


def add_command(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "status",
        help="wanted against observed, workload by workload",
        description="Print how many pods of each workload run on Graviton and how many should. Reads only. "
        "Exit code 0 if observed is what is wanted, 3 if not; 1 with a sentence if it could not be read.",
    )
    add_stack_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the status; returns the exit code."""
    plan = read_plan(options)
    if options.json:
        print_json(as_json(plan))
    else:
        print_table(plan)
    return 0 if plan.exact else EXIT_INEXACT


def as_json(plan: Plan) -> dict[str, Any]:
    """Return the status as JSON values.

    ``wanted`` is null for workloads that are left alone; the fleet's ``pods`` are those that can move.
    """
    return {
        "arm_ratio": plan.arm_ratio,
        "fleet": {
            "pods": plan.pods,
            "wanted": plan.wanted,
            "graviton": plan.graviton,
            "all_pods": plan.all_pods,
        },
        "workloads": [
            {
                "workload": row.key,
                "replicas": row.replicas,
                "wanted": row.wanted,
                "graviton": row.graviton,
                "exact": row.exact,
                "reason": row.reason,
            }
            for row in plan.workloads
        ],
    }


def print_table(plan: Plan) -> None:
    """Print the status for a person."""
    # Names and reasons come from clusters and registries: brackets in them are no markup.
    console = Console(markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("WORKLOAD", overflow="fold")
    for name in ("PODS", "WANTED", "GRAVITON"):
        table.add_column(name, justify="right")
    table.add_column("", overflow="fold")
    for row in plan.workloads:
        wanted = "-" if row.wanted is None else str(row.wanted)
        pods = "-" if row.kind in ("DaemonSet", "CronJob") else str(row.replicas)
        note = row.reason if row.exact else "; ".join(filter(None, ("not exact", row.reason)))
        table.add_row(row.key, pods, wanted, str(row.graviton), note, style=None if row.exact else "yellow")
    console.print(table)
    for key, reason in sorted(plan.others.items()):
        console.print(f"{key}: {reason}", highlight=False, style="dim")
    console.print()
    share = plan.graviton / plan.pods if plan.pods else 0.0
    console.print(
        f"fleet at {plan.arm_ratio:g}: {plan.graviton} of {plan.pods} movable pods on Graviton "
        f"({share:.3f}), {plan.wanted} wanted; {plan.all_pods} pods in all",
        style="bold",
        highlight=False,
    )
