"""``archshift capacity``: how many nodes each step needs."""

import argparse
from typing import Any

from archshift.cli.stack import busy, print_json, read_settings
from archshift.cli.table import console, plain_table
from archshift.common.errors import ArchshiftError
from archshift.plan.sizing import GroupNeed, Sizing, size
from archshift.survey import plan_at, survey


def run(options: argparse.Namespace) -> int:
    """Print the sizes; returns the exit code."""
    with busy("reading the stack and the cluster") as watch:
        settings = read_settings(options, nodes=True)
        cluster_survey = survey(settings, watch=watch)
    if not settings.groups:
        raise ArchshiftError(
            "archshift:node_groups is not set",
            "set the node groups for the pods, and archshift counts their nodes",
        )
    steps = {
        ratio: size(
            plan_at(ratio, settings, cluster_survey),
            cluster_survey.inventory,
            settings.groups,
            options.headroom,
        )
        for ratio in options.steps
    }
    workloads = [cluster_survey.inventory.workloads[row.key] for row in cluster_survey.plan.movable]
    targets = {workload.key: workload.cpu_targets for workload in workloads if workload.cpu_targets}
    if options.json:
        print_json(
            {
                "headroom": options.headroom,
                "steps": [as_json(ratio, sizing) for ratio, sizing in steps.items()],
                "autoscaled": [workload.key for workload in workloads if workload.autoscaled],
                "cpu_targets": targets,
            }
        )
    else:
        print_table(steps, targets)
    return 0


def as_json(ratio: float, sizing: Sizing) -> dict[str, Any]:
    """Return one step as JSON values."""
    return {
        "arm_ratio": ratio,
        "groups": [
            {
                "group": need.group,
                "architecture": need.architecture,
                "instance_type": need.instance_type,
                "pods": need.demand.total.pods,
                "vcpu": need.demand.total.vcpu,
                "gib": round(need.demand.total.gib, 2),
                "nodes": need.nodes,
                "limit": need.limit,
                "desired": need.desired,
                "most": need.most,
                "advice": need.advice,
            }
            for need in sizing.needs
        ],
        "without_group": sizing.without_group,
    }


def print_table(steps: dict[float, Sizing], targets: dict[str, tuple[str, ...]]) -> None:
    """Print the steps for a person."""
    out = console()
    table = plain_table()
    for name in ("STEP", "GROUP", "TYPE"):
        table.add_column(name)
    for name in ("PODS", "VCPU", "GIB", "NODES", "NOW"):
        table.add_column(name, justify="right")
    table.add_column("WHAT TO DO", overflow="fold")
    for ratio, sizing in steps.items():
        for need in sizing.needs:
            table.add_row(f"{ratio:g}", *_cells(need), style="red" if need.nodes is None else None)
    out.print(table)
    without_group = {
        f"{key}: {reason}" for sizing in steps.values() for key, reason in sizing.without_group.items()
    }
    for sentence in sorted(without_group):
        out.print(sentence, style="yellow")
    if targets:
        out.print(
            "A Graviton vCPU is a whole core, and most x86 vCPUs are half a core. So a pod on Graviton does "
            "more work at the same CPU use. Check the targets of these autoscalers after the move:",
        )
        for key, cpu_targets in targets.items():
            out.print(f"  {key}: {', '.join(cpu_targets)}")


def _cells(need: GroupNeed) -> list[str]:
    demand = need.demand.total
    nodes = "-" if need.nodes is None else str(need.nodes)
    return [
        need.group,
        need.instance_type,
        str(demand.pods),
        f"{demand.vcpu:.1f}",
        f"{demand.gib:.1f}",
        f"{nodes} ({need.limit})" if need.limit else nodes,
        f"{need.desired} to {need.most}" if need.autoscaled else str(need.desired),
        need.advice or "enough",
    ]
