"""The command line of ``archshift status``."""

import argparse

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

EXIT_INEXACT = 3
"""Exit code if a workload does not have its planned pods on Graviton."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "status",
        help="compare planned and observed pods of each workload",
        description="Print how many pods of each workload run on Graviton and how many should. Read-only.",
        example="archshift status --json",
        exits={
            0: "every workload has its planned pods on Graviton",
            EXIT_INEXACT: "a workload does not have its planned pods on Graviton",
        },
    )
    add_stack_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import status

    return status.run(options)
