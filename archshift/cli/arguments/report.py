"""The command line of ``archshift report``."""

import argparse

from archshift.cli.parser import Commands, percent
from archshift.cli.stack import add_stack_options
from archshift.common.defaults import DEFAULT_HEADROOM


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "report",
        help="how far the migration is, and what holds it back, as one page",
        description="Print how far the migration is: wanted against observed, readiness by owner, the images "
        "that hold the most vCPU on x86, node groups, what needs x86, savings. With --html, write all of it "
        "as one page that needs no network. What is not known is said in the "
        "report. Reads only.",
        example="archshift report --html report.html",
        exits={0: "printed, and written where --html says"},
    )
    add_stack_options(parser)
    parser.add_argument("--html", metavar="FILE", help="write the page there")
    parser.add_argument(
        "--headroom",
        type=percent,
        default=DEFAULT_HEADROOM,
        metavar="PERCENT",
        help=f"kept free on top of the requests, for the savings (default: {DEFAULT_HEADROOM * 100:g})",
    )
    parser.add_argument(
        "--prices",
        choices=("auto", "aws", "table"),
        default="auto",
        help="where list prices are from, as in archshift cost",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import report

    return report.run(options)
