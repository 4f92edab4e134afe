"""The command line of ``archshift cost``."""

import argparse

from archshift.cli.parser import Commands, percent, ratios
from archshift.cli.stack import add_stack_options
from archshift.common.defaults import DEFAULT_HEADROOM


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "cost",
        help="print what the nodes cost and what Graviton saves",
        description="Print what the nodes of each group cost now, at the next step of arm_ratio and at 1.0. "
        "Print the monthly saving as a range, with its assumptions. An unknown price is named and never "
        "counts as 0. Read-only.",
        example="archshift cost --steps 0.8,1.0",
    )
    add_stack_options(parser)
    parser.add_argument(
        "--steps",
        type=ratios,
        metavar="RATIOS",
        help="ratios, separated by commas (default: the next step and 1.0)",
    )
    parser.add_argument(
        "--headroom",
        type=percent,
        default=DEFAULT_HEADROOM,
        metavar="PERCENT",
        help=f"free capacity on top of the requests (default: {DEFAULT_HEADROOM * 100:g})",
    )
    parser.add_argument(
        "--prices",
        choices=("auto", "aws", "table"),
        default="auto",
        help="source of the list prices. auto (default): the AWS price list, or the built-in table if AWS "
        "cannot be asked. aws: only AWS. table: only the table",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import cost

    return cost.run(options)
