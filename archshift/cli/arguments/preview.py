"""The command line of ``archshift preview``."""

import argparse

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

EXIT_NOT_FINE = 1
"""Exit code if the preview is blocked or failed."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "preview",
        help="preview a step, and write it as a comment for a pull request",
        description="Run `pulumi preview` with the policy pack and report the step: which pods move, "
        "capacity, which workloads stay and why, conflicts, policies and the resource diff. There is a "
        "report even if the preview fails. Changes nothing.",
        example="archshift preview --markdown comment.md",
        exits={
            0: "the preview is fine",
            EXIT_NOT_FINE: "the preview is blocked or failed; the report says why",
        },
    )
    add_stack_options(parser)
    parser.add_argument("--markdown", metavar="FILE", help="write the report as a comment for a pull request")
    packs = parser.add_mutually_exclusive_group()
    packs.add_argument(
        "--policy-pack",
        action="append",
        metavar="DIR",
        help="the folder of a policy pack (default: policies beside Pulumi.yaml)",
    )
    packs.add_argument(
        "--policy-pack-of",
        metavar="COMMIT",
        help="take the folder policies of this commit, such as that of main, so that a change of a rule does "
        "not judge itself",
    )
    packs.add_argument("--no-policy-pack", action="store_true", help="preview without rules")
    parser.add_argument(
        "--policy-pack-config",
        action="append",
        default=[],
        metavar="FILE",
        help="the configuration of the pack",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import preview

    return preview.run(options)
