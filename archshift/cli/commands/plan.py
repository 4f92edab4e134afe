"""``archshift plan``: what the next ``pulumi up`` will do."""

import argparse
from typing import TYPE_CHECKING

from archshift.cli.stack import print_json, read_plan
from archshift.cli.table import print_troubles, print_workloads
from archshift.common.architectures import display
from archshift.common.text import counted
from archshift.plan.plan_json import plan_json
from archshift.plan.reasons import policies_away, what_happens, what_restarts

if TYPE_CHECKING:
    # Only for types: these modules load while the engine answers (archshift/cli/stack.py).
    from archshift.plan.model import Plan


def run(options: argparse.Namespace) -> int:
    """Print the plan; returns the exit code."""
    plan = read_plan(options, try_patches=True)
    if options.json:
        print_json(plan_json(plan))
    else:
        print_table(plan, everything=options.all)
    return 0


def print_table(plan: "Plan", *, everything: bool = False) -> None:
    """Print the plan for a person.

    Args:
        plan: The plan.
        everything: Also print the workloads that the update leaves unchanged.
    """
    shown = [row for row in plan.workloads if everything or not row.unchanged]
    out = print_workloads(
        plan,
        ("NOW", "NEXT", "WHAT HAPPENS"),
        lambda row: (row.graviton, row.wanted),
        lambda row: (what_happens(row), None),
        rows=shown,
    )
    if hidden := len(plan.workloads) - len(shown):
        out.print(f"{counted(hidden, 'workload')} without a change: archshift plan --all prints them too")
    for side in plan.balances.values():
        out.print(
            f"{display(side.architecture)}: {counted(side.nodes, 'node')}; "
            f"{counted(side.demand.total.pods, 'pod', 'request')} "
            f"{side.demand.total.vcpu:.1f} of {side.capacity.vcpu:.1f} vCPU and "
            f"{side.demand.total.gib:.1f} of {side.capacity.gib:.1f} GiB",
        )
    for conflict in plan.conflicts:
        out.print(f"conflict: {conflict}", style="yellow")
    if plan.untried:
        out.print(plan.untried, style="yellow")
    for blocker in plan.blockers:
        out.print(f"blocks Graviton nodes: {blocker}", style="red")
    for note in (*plan.node_notes, *policies_away(plan.without_policy)):
        out.print(note, style="yellow")
    for shortage in plan.shortages:
        out.print(f"shortage: {shortage}", style="red")
    print_troubles(out, plan)
    if plan.advice:
        out.print(plan.advice, style="yellow")
    out.print(
        f"fleet at {plan.arm_ratio:g}: {plan.graviton} of {plan.pods} movable pods are on Graviton, "
        f"{plan.wanted} belong there; {counted(plan.all_pods, 'pod')} in all; "
        f"{what_restarts(plan)}",
        style="bold",
    )
