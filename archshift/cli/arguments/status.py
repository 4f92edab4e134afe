"""The command line of ``archshift status``."""

import argparse

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

EXIT_INEXACT = 3
"""Exit code if a workload does not have its planned pods on Graviton."""

EXIT_TROUBLE = 5
"""Exit code if a workload that archshift places has a pending pod or a rollout without progress."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "status",
        help="compare planned and observed pods of each workload",
        description="Print how many pods of each workload run on Graviton and how many should. Name pending "
        "pods and stuck rollouts. Read-only.",
        example="archshift status --json",
        exits={
            0: "every workload has its planned pods on Graviton, or is near its share; all pods have a node",
            EXIT_INEXACT: "a workload does not have its planned pods on Graviton",
            EXIT_TROUBLE: "a pod of a placed workload is pending, or its rollout is stuck; counts may differ",
        },
    )
    add_stack_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import status

    return status.run(options)
