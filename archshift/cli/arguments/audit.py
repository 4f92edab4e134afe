"""The command line of ``archshift audit``."""

import argparse

from archshift.cli.parser import Commands
from archshift.cli.stack import add_stack_options

EXIT_SOME_CANNOT = 1
EXIT_SOME_UNKNOWN = 2
EXIT_ERROR = 4
"""Not 1: a pipeline must distinguish a failed audit from images that cannot run on arm64."""


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "audit",
        help="list which images and workloads can run on arm64",
        description="Read image indexes and manifests from their registries and print which images run on "
        "arm64. With --from-cluster, read the images of all workloads. An unknown image never counts as yes.",
        example="archshift audit --from-cluster -s prod",
        exits={
            0: "all images can run on arm64",
            EXIT_SOME_CANNOT: "an image cannot run on arm64 (see --fail-on)",
            EXIT_SOME_UNKNOWN: "an image is unknown, and all others can run on arm64 (see --fail-on)",
            EXIT_ERROR: "the audit itself failed, or the command line is invalid",
        },
    )
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="image references, as in a pod spec")
    parser.add_argument(
        "--from-cluster",
        action="store_true",
        help="audit all images that run in the stack's cluster (read-only)",
    )
    parser.add_argument("--deep", action="store_true", help="also check the binaries in the layers")
    parser.add_argument(
        "--fail-on",
        metavar="VERDICTS",
        default="unknown,amd64-only,other",
        help="verdicts for which the exit code is not 0, separated by commas; other is neither amd64 nor "
        "arm64 (default: %(default)s)",
    )
    parser.add_argument("--metrics", metavar="FILE", help="write Prometheus textfile metrics to FILE")
    parser.add_argument(
        "--refresh",
        action="store_true",
        help="ask registries again that did not answer in the last five minutes; all commands use the result",
    )
    parser.add_argument(
        "--no-suggestions", action="store_true", help="skip the search for newer tags with arm64"
    )
    parser.add_argument(
        "--plain-http", action="append", default=[], metavar="HOST", help="use plain HTTP for HOST[:PORT]"
    )
    add_stack_options(parser)
    parser.set_defaults(run=run, exit_error=EXIT_ERROR)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import audit

    return audit.run(options)
