"""The command line of ``archshift drain``."""

import argparse
import re

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options
from archshift.common.defaults import DRAIN_SECONDS

EXIT_HELD = 3
"""Exit code if something keeps nodes from becoming empty."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "drain",
        help="empty the x86 nodes before you remove them",
        description="Check that nothing needs the stack's x86 nodes, cordon them and evict their pods. It "
        "drains a few nodes at a time and respects PodDisruptionBudgets. You can stop it at any time and "
        "run it again to continue; --undo uncordons the nodes. Changes the cluster.",
        example="archshift drain --dry-run",
        exits={
            0: "all these nodes are empty; with --dry-run, nothing blocks them; with --undo, they "
            "take pods again",
            EXIT_HELD: "something blocks a node; the output names it",
        },
    )
    add_stack_options(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="print what a drain would do and what blocks it"
    )
    parser.add_argument("--undo", action="store_true", help="uncordon the nodes that a drain cordoned")
    parser.add_argument(
        "--nodes",
        type=_budget,
        default="10%",
        metavar="N",
        help="how many nodes at a time, a number or a share; at least one (default: 10%%)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="drain only this node group or node; repeatable",
    )
    parser.add_argument(
        "--bare-pods",
        action="store_true",
        help="also evict pods without a controller; nothing starts them again",
    )
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DRAIN_SECONDS,
        metavar="SECONDS",
        help=f"stop if there is no progress for this time (default: {DRAIN_SECONDS:.0f})",
    )
    parser.set_defaults(
        run=run,
        interrupted="nodes stay cordoned: run archshift drain again to continue, or with --undo to uncordon "
        "them",
    )


def _budget(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,4}|([1-9][0-9]?|100)%", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of nodes or a share such as 10%")
    return text


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return float(text)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import drain

    return drain.run(options)
