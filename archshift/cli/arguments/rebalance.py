"""The command line of ``archshift rebalance``."""

import argparse
import re

from archshift.cli.arguments.status import EXIT_INEXACT, EXIT_TROUBLE
from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "rebalance",
        help="move the pods that autoscalers or lost nodes left on the wrong side",
        description="Evict the pods of each workload that are too many on a side, and no others. Then the "
        "API server or the scheduler places their successors. The command respects PodDisruptionBudgets and "
        "the workloads' own limits. With NodePools, it first brings up nodes. It also renews deletion costs. "
        "It applies no new placement: if a placement differs from the plan, run pulumi up. Changes the "
        "cluster.",
        example="archshift rebalance --dry-run",
        exits={
            0: "every workload has its planned pods on Graviton, or is near its share; all pods have a node",
            EXIT_INEXACT: "a workload does not have its planned pods on Graviton; the output says why",
            EXIT_TROUBLE: "a pod of a placed workload is pending, or its rollout is stuck; counts may differ",
        },
    )
    add_stack_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="print what would move, and change nothing")
    parser.add_argument(
        "--max-pods", type=_pods, metavar="N", help="evict at most N pods (default: all that are too many)"
    )
    parser.add_argument(
        "--restart",
        action="store_true",
        help="also restart workloads whose limits let no pod be away; that restarts all their pods",
    )
    parser.set_defaults(
        run=run, interrupted="evicted pods were placed again; run archshift rebalance again to continue"
    )


def _pods(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of pods")
    return int(text)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import rebalance

    return rebalance.run(options)
