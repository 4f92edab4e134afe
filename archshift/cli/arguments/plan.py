"""The command line of ``archshift plan``."""

import argparse

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "plan",
        help="print what the next `pulumi up` will do",
        description="Print what the next `pulumi up` will do: which workloads roll out, which stay and why, "
        "which fields have another owner, and whether the pods fit. Read-only.",
        example="archshift plan -s prod",
    )
    parser.add_argument(
        "--all", action="store_true", help="also print the workloads that the update does not change"
    )
    add_stack_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import plan

    return plan.run(options)
