"""The command line of ``archshift preview``."""

import argparse

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

EXIT_NOT_FINE = 1
"""Exit code where the preview is blocked or failed; the report says why."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "preview",
        help="the preview of a step, as the comment of a pull request",
        description="Run `pulumi preview` with the policy pack and report the step: what moves, capacity, "
        "what is held and why, conflicts, policies and the resource diff, also when the preview fails. "
        "Changes nothing.",
        example="archshift preview --markdown comment.md",
        exits={0: "the preview is fine", EXIT_NOT_FINE: "it is blocked or failed; the report says why"},
    )
    add_stack_options(parser)
    parser.add_argument("--markdown", metavar="FILE", help="write the report as a comment for a pull request")
    parser.add_argument(
        "--policy-pack",
        action="append",
        metavar="DIR",
        help="a policy pack (default: the folder policies beside Pulumi.yaml, if there)",
    )
    parser.add_argument(
        "--policy-pack-config", action="append", default=[], metavar="FILE", help="the pack's configuration"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import preview

    return preview.run(options)
