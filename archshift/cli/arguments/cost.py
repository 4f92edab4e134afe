"""The command line of ``archshift cost``."""

import argparse

from archshift.cli.parser import Commands, percent, ratios
from archshift.cli.stack import add_stack_options
from archshift.common.defaults import DEFAULT_HEADROOM


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "cost",
        help="what the nodes cost, and what moving to Graviton saves",
        description="Print what the nodes of each group cost now, at the next step of arm_ratio and at "
        "1.0, and what that saves a month: a range, with what it rests on. A price that is not known is "
        "said, and never counted as nothing. Reads only.",
        example="archshift cost --steps 0.8,1.0",
    )
    add_stack_options(parser)
    parser.add_argument(
        "--steps",
        type=ratios,
        metavar="RATIOS",
        help="ratios, separated by commas (default: the next and 1.0)",
    )
    parser.add_argument(
        "--headroom",
        type=percent,
        default=DEFAULT_HEADROOM,
        metavar="PERCENT",
        help=f"kept free on top of the requests (default: {DEFAULT_HEADROOM * 100:g})",
    )
    parser.add_argument(
        "--prices",
        choices=("auto", "aws", "table"),
        default="auto",
        help="where list prices are from: the AWS price list if it can be asked and else the built-in table "
        "(auto, the default), AWS alone, or the table alone",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import cost

    return cost.run(options)
