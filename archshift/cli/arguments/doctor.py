"""The command line of ``archshift doctor``."""

import argparse
from typing import Final

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

EXIT_FOUND: Final = 3
"""Exit code if a check found a problem or was not possible."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "doctor",
        help="check everything that a step needs, and print how to fix it",
        description="Check the engine and its plugins, the stack's settings, its node groups at EKS, the "
        "cluster and your permissions in it. Check the registries of its images, and the gate's metrics in "
        "Prometheus. Print each result, and how to fix a problem. A failed check does not stop the others. "
        "Read-only.",
        example="archshift doctor -s prod",
        exits={
            0: "no problem; there may be warnings",
            EXIT_FOUND: "there is a problem, or a check was not possible",
        },
    )
    add_stack_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import doctor

    return doctor.run(options)
