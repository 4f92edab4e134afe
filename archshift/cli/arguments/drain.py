"""The command line of ``archshift drain``."""

import argparse
import re

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options
from archshift.common.defaults import DRAIN_SECONDS

EXIT_HELD = 3
"""Exit code where something keeps nodes from being emptied."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "drain",
        help="empty the x86 nodes, before they go",
        description="Check that nothing needs the stack's x86 nodes, cordon them, and evict what runs there, "
        "a few nodes at a time, within PodDisruptionBudgets. May be ended at any time and goes on from "
        "there; --undo takes it back. Changes the cluster.",
        example="archshift drain --dry-run",
        exits={0: "all these nodes are empty", EXIT_HELD: "something is named that keeps them"},
    )
    add_stack_options(parser)
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and what forbids it")
    parser.add_argument("--undo", action="store_true", help="uncordon the nodes that a drain cordoned")
    parser.add_argument(
        "--nodes",
        type=_budget,
        default="10%",
        metavar="N",
        help="nodes at a time, a number or a share; at least one (default: 10%%)",
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="NAME",
        help="only this node group, or node; may be given more than once",
    )
    parser.add_argument("--bare-pods", action="store_true", help="evict pods that nothing starts again, too")
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=DRAIN_SECONDS,
        metavar="SECONDS",
        help=f"end when nothing has moved for so long (default: {DRAIN_SECONDS:.0f})",
    )
    parser.set_defaults(
        run=run,
        interrupted="nodes stay cordoned: archshift drain goes on from here, --undo takes it back",
    )


def _budget(text: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,4}|([1-9][0-9]?|100)%", text):
        raise argparse.ArgumentTypeError(f"{text!r} is neither a number of nodes nor a share such as 10%")
    return text


def _seconds(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,6}", text) or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return float(text)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import drain

    return drain.run(options)
