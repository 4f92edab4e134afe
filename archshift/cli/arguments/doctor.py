"""The command line of ``archshift doctor``."""

import argparse
from typing import Final

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

EXIT_FOUND: Final = 3
"""Exit code where something will not work, or could not be checked."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "doctor",
        help="whether everything is there that a step takes, and what to do if not",
        description="Check the engine and its plugins, the stack's settings, the cluster and the rights in "
        "it, the registries of its images, and what Prometheus has for the gate; say of each whether it is "
        "ok and what to do if not. A check that fails stops no other. Reads only.",
        example="archshift doctor -s prod",
        exits={
            0: "all is well, but for warnings",
            EXIT_FOUND: "there is a problem, or something could not be checked",
        },
    )
    add_stack_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import doctor

    return doctor.run(options)
