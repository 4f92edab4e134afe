"""The command line of ``archshift report``."""

import argparse

from archshift.cli.parser import Commands, percent
from archshift.cli.stack import add_stack_options
from archshift.common.defaults import DEFAULT_HEADROOM


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "report",
        help="report how far the migration is and what holds it back",
        description="Print how far the migration is: planned and observed pods, workloads by owner, the "
        "images that hold the most vCPU on x86, what needs x86, and savings. With --html, write everything "
        "as one page that needs no network. The report names what it does not know. Read-only.",
        example="archshift report --html report.html",
        exits={0: "the report is printed, and written if --html is set"},
    )
    add_stack_options(parser)
    parser.add_argument("--html", metavar="FILE", help="write the page to FILE")
    parser.add_argument(
        "--headroom",
        type=percent,
        default=DEFAULT_HEADROOM,
        metavar="PERCENT",
        help=f"free capacity on top of the requests, for the savings (default: {DEFAULT_HEADROOM * 100:g})",
    )
    parser.add_argument(
        "--prices",
        choices=("auto", "aws", "table"),
        default="auto",
        help="source of the list prices, as in archshift cost",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import report

    return report.run(options)
