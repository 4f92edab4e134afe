"""The command line of ``archshift plan``."""

import argparse

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "plan",
        help="what the next `pulumi up` will do",
        description="Print what the next `pulumi up` will do: which workloads roll out, which stay and why, "
        "who owns a field that is needed, and whether the step fits. Reads only.",
        example="archshift plan -s prod",
    )
    add_stack_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import plan

    return plan.run(options)
