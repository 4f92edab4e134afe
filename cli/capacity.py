"""``archshift capacity``: how many nodes each step needs."""

import argparse
from typing import Any

from archshift.errors import ArchshiftError
from archshift.ramp import DEFAULT_STEPS
from archshift.sizing import DEFAULT_HEADROOM, GroupNeed, Sizing, size
from archshift.survey import plan_at, survey
from cli.parser import Commands
from cli.stack import add_stack_options, busy, print_json, read_settings
from cli.table import console, plain_table

_GIB = 1024**3


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "capacity",
        help="how many nodes each step of arm_ratio needs",
        description="Print how many nodes of each configured node group every step of arm_ratio needs, for "
        "the requests of its pods and DaemonSets and some headroom. Reads only.",
        example="archshift capacity --steps 0.5,1.0 --headroom 20",
    )
    add_stack_options(parser)
    parser.add_argument(
        "--steps",
        type=ratios,
        default=DEFAULT_STEPS,
        metavar="RATIOS",
        help="ratios, separated by commas (default: 0.2,0.5,0.8,1.0)",
    )
    parser.add_argument(
        "--headroom",
        type=percent,
        default=DEFAULT_HEADROOM,
        metavar="PERCENT",
        help=f"kept free on top of the requests (default: {DEFAULT_HEADROOM * 100:g})",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Print the sizes; returns the exit code."""
    with busy("reading the stack and the cluster") as watch:
        settings = read_settings(options)
        found = survey(settings, watch=watch)
    if not settings.groups:
        raise ArchshiftError(
            "archshift:node_groups is not set; give the groups that are to carry the pods, and archshift "
            "counts their nodes"
        )
    steps = {
        ratio: size(
            plan_at(ratio, settings, found),
            found.inventory,
            settings.groups,
            options.headroom,
        )
        for ratio in options.steps
    }
    workloads = [found.inventory.workloads[row.key] for row in found.plan.movable]
    targets = {one.key: one.cpu_targets for one in workloads if one.cpu_targets}
    if options.json:
        print_json(
            {
                "headroom": options.headroom,
                "steps": [as_json(ratio, sizing) for ratio, sizing in steps.items()],
                "autoscaled": [one.key for one in workloads if one.autoscaled],
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
                "pods": need.demand.pods,
                "vcpu": need.demand.millicpu / 1000,
                "gib": round(need.demand.memory / _GIB, 2),
                "nodes": need.nodes,
                "limit": need.limit,
                "desired": need.desired,
                "most": need.most,
                "advice": need.advice,
            }
            for need in sizing.needs
        ],
        "homeless": sizing.homeless,
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
    homeless = {f"{key}: {reason}" for sizing in steps.values() for key, reason in sizing.homeless.items()}
    for sentence in sorted(homeless):
        out.print(sentence, style="yellow")
    if targets:
        out.print(
            "A vCPU of Graviton is a core, one of x86 mostly half of one, so a pod does more there at the "
            "same CPU: look at these autoscalers' targets once the workloads have moved:",
        )
        for key, some in targets.items():
            out.print(f"  {key}: {', '.join(some)}")


def _cells(need: GroupNeed) -> list[str]:
    demand = need.demand
    nodes = "-" if need.nodes is None else str(need.nodes)
    return [
        need.group,
        need.instance_type,
        str(demand.pods),
        f"{demand.millicpu / 1000:.1f}",
        f"{demand.memory / _GIB:.1f}",
        f"{nodes} ({need.limit})" if need.limit else nodes,
        f"{need.desired} to {need.most}" if need.autoscaled else str(need.desired),
        need.advice or "enough",
    ]


def ratios(text: str) -> tuple[float, ...]:
    """Read ratios, separated by commas."""
    found = tuple(float(part) for part in text.split(","))
    if not all(0 <= ratio <= 1 for ratio in found):
        raise argparse.ArgumentTypeError(f"{text!r} are not ratios from 0.0 to 1.0")
    return found


def percent(text: str) -> float:
    """Read a percentage; returns the share."""
    number = float(text)
    if not 0 <= number <= 500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 500")
    return number / 100
