"""The command line of ``archshift bake``."""

import argparse

from archshift.cli.parser import Commands


def add_command(commands: Commands) -> None:
    """Register the subcommand."""
    parser = commands.add_parser(
        "bake",
        help="a bake file that builds an image for both architectures",
        description="Print the JSON that `docker buildx bake --file` reads to build an image for linux/amd64 "
        "and linux/arm64 and push it as one. Prove the result with `archshift audit --deep`.",
        example="archshift bake registry.example/shop/web:1.4.0 > bake.json",
    )
    parser.add_argument(
        "tags", nargs="+", metavar="IMAGE", help="what is pushed: names of one image with tags"
    )
    parser.add_argument("--context", default=".", metavar="DIR", help="the build's folder (default: .)")
    parser.add_argument(
        "--dockerfile", default="", metavar="FILE", help="from that folder (default: its Dockerfile)"
    )
    parser.add_argument(
        "--target", default="", metavar="STAGE", help="the stage to build (default: the last)"
    )
    parser.add_argument(
        "--build-arg", action="append", default=[], metavar="NAME=VALUE", help="an ARG of the Dockerfile"
    )
    parser.add_argument("--json", action="store_true", help="the JSON alone, without a hint on stderr")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Load what the command needs and run it; returns the exit code."""
    from archshift.cli.commands import bake

    return bake.run(options)
