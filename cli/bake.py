"""``archshift bake``: a bake file for an image of both architectures, where Docker builds without Pulumi."""

import argparse
import sys
from collections.abc import Iterable

from archshift.errors import ArchshiftError
from archshift.image_build import ImageBuild, bake_file
from cli.parser import Commands
from cli.stack import print_json


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
    """Print the bake file; returns the exit code."""
    build = ImageBuild(
        tags=options.tags,
        context=options.context,
        dockerfile=options.dockerfile,
        target=options.target,
        build_args=dict(_pairs(options.build_arg)),
    )
    print_json(bake_file([build]))
    if not options.json:
        print(
            "docker buildx bake --file FILE builds and pushes this; archshift audit --deep "
            f"{build.tags[0]} proves it",
            file=sys.stderr,
        )
    return 0


def _pairs(texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ArchshiftError(f"--build-arg: {text!r} is not NAME=VALUE")
        yield name, value
