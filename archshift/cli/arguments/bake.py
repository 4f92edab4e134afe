"""The command line of ``archshift bake``."""

import argparse

from archshift.cli.parser import Commands


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "bake",
        help="print a bake file that builds an image for both architectures",
        description="Print a bake file in JSON. `docker buildx bake --file FILE` then builds one image for "
        "linux/amd64 and linux/arm64, and pushes it. Prove the result with `archshift audit --deep`.",
        example="archshift bake registry.example/shop/web:1.4.0 > bake.json",
    )
    parser.add_argument(
        "tags", nargs="+", metavar="IMAGE", help="one or more names with tags, all for the same image"
    )
    parser.add_argument("--context", default=".", metavar="DIR", help="the folder of the build (default: .)")
    parser.add_argument(
        "--dockerfile", default="", metavar="FILE", help="relative to that folder (default: Dockerfile)"
    )
    parser.add_argument(
        "--target", default="", metavar="STAGE", help="the stage to build (default: the last stage)"
    )
    parser.add_argument(
        "--build-arg",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a value for an ARG of the Dockerfile; repeatable",
    )
    parser.add_argument("--json", action="store_true", help="print only the JSON, without the hint on stderr")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load the command's modules and run it; returns the exit code."""
    from archshift.cli.commands import bake

    return bake.run(options)
