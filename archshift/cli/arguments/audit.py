"""The command line of ``archshift audit``."""

import argparse

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

EXIT_SOME_CANNOT = 1
EXIT_SOME_UNKNOWN = 2
EXIT_ERROR = 4
"""Not 1: a pipeline must tell "some cannot" from "could not look"."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "audit",
        help="which images and workloads can run on arm64",
        description="Read image indexes and manifests from their registries and say which images run on "
        "arm64; with --from-cluster, those of all workloads. Unknown never counts as yes.",
        example="archshift audit --from-cluster -s prod",
        exits={
            0: "all can run on arm64",
            EXIT_SOME_CANNOT: "some cannot, as --fail-on has it",
            EXIT_SOME_UNKNOWN: "some are unknown, and none is known to fail",
            EXIT_ERROR: "the audit itself failed, or the command line does not do",
        },
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image references, as in a pod spec")
    parser.add_argument(
        "--from-cluster", action="store_true", help="audit what the stack's cluster runs (reads only)"
    )
    parser.add_argument("--deep", action="store_true", help="look at the binaries in the layers too")
    parser.add_argument(
        "--fail-on",
        metavar="VERDICTS",
        default="unknown,amd64-only,other",
        help="verdicts that make the exit code not 0, separated by commas (default: %(default)s)",
    )
    parser.add_argument("--metrics", metavar="FILE", help="write Prometheus textfile metrics to FILE")
    parser.add_argument("--no-suggestions", action="store_true", help="do not look for newer tags with arm64")
    parser.add_argument(
        "--plain-http", action="append", default=[], metavar="HOST", help="speak plain http to HOST[:PORT]"
    )
    add_stack_options(parser)
    parser.set_defaults(run=run, exit_error=EXIT_ERROR)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import audit

    return audit.run(options)
