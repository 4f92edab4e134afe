"""The command line of ``archshift status``."""

import argparse

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

EXIT_INEXACT = 3
"""Exit code where some workload is not where it is wanted."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "status",
        help="wanted against observed, workload by workload",
        description="Print how many pods of each workload run on Graviton and how many should. Reads only.",
        example="archshift status --json",
        exits={0: "observed is what is wanted", EXIT_INEXACT: "some workload is not where it is wanted"},
    )
    add_stack_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import status

    return status.run(options)
