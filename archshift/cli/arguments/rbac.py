"""The command line of ``archshift rbac``."""

import argparse
from typing import Final

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

PARTS: Final = ("looking", "deploying", "rebalancing", "pull-secrets")
"""What the command prints, in order."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "rbac",
        help="print the roles that the stack needs in its cluster",
        description="Print Kubernetes manifests for kubectl apply: a role for previews that can change "
        "nothing, one for pulumi up, and one for archshift rebalance. For each namespace, also print a role "
        "with the names of the pull secrets that its workloads use. Read-only; only the pull secrets need "
        "the cluster.",
        example="archshift rbac --stack prod",
    )
    add_stack_options(parser)
    parser.add_argument("--only", choices=PARTS, action="append", help="print only this part; repeatable")
    parser.add_argument(
        "--looking-group",
        default="archshift-looking",
        metavar="GROUP",
        help="the Kubernetes group of the user that previews (default: archshift-looking)",
    )
    parser.add_argument(
        "--deploying-group",
        default="archshift-deploying",
        metavar="GROUP",
        help="the Kubernetes group of the user that deploys (default: archshift-deploying)",
    )
    parser.add_argument(
        "--rebalancing-group",
        default="archshift-rebalancing",
        metavar="GROUP",
        help="the Kubernetes group of the user that rebalances (default: archshift-rebalancing)",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import rbac

    return rbac.run(options)
