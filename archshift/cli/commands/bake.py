"""``archshift bake``: a bake file for both architectures, for builds with Docker but without Pulumi."""

import argparse
import json
import sys
from collections.abc import Iterable

from archshift.cli.stack import say
from archshift.common.errors import ArchshiftError
from archshift.images.building.image_build import ImageBuild, bake_file


def run(options: argparse.Namespace) -> int:
    """Print the bake file; returns the exit code."""
    build = ImageBuild(
        tags=options.tags,
        context=options.context,
        dockerfile=options.dockerfile,
        target=options.target,
        build_args=dict(_pairs(options.build_arg)),
    )
    # Docker gets the user's own words, unchanged.
    json.dump(bake_file([build]), sys.stdout, indent=2)
    say("")
    if not options.json:
        say(
            "next: docker buildx bake --file FILE builds and pushes the image; then prove it with "
            f"archshift audit --deep {build.tags[0]}",
            sys.stderr,
        )
    return 0


def _pairs(texts: Iterable[str]) -> Iterable[tuple[str, str]]:
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ArchshiftError(f"--build-arg: {text!r} is invalid", "use NAME=VALUE")
        yield name, value
