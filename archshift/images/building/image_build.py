"""How an image is built for both architectures, also as a bake file for BuildKit. Pure."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from archshift.common.architectures import ARCHITECTURES
from archshift.common.errors import ArchshiftError
from archshift.images.registry.reference import parse_reference

PLATFORMS: Final = tuple(f"linux/{architecture}" for architecture in ARCHITECTURES)

_ARGUMENT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBuild:
    """The build of one image.

    Attributes:
        tags: Full references with a tag. The image is pushed under all of them.
        context: The folder that is sent to the builder.
        dockerfile: Its path, relative to the context; empty for ``Dockerfile``.
        target: The stage to build; empty for the last.
        build_args: Values of the Dockerfile's ARGs. They are visible in the image, so they must not be
            secret.

    Raises:
        ArchshiftError: A field is invalid.
    """

    tags: Sequence[str]
    context: str = "."
    dockerfile: str = ""
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tags:
            raise ArchshiftError(
                "tags: the list is empty", "add the image's name, such as registry.example/app:1.4.0"
            )
        for tag in self.tags:
            reference = parse_reference(tag)
            if reference.digest or not tag.endswith(f":{reference.tag}"):
                raise ArchshiftError(
                    f"tags: {tag!r} is not a name with a tag", "use a name such as registry.example/app:1.4.0"
                )
        for name in self.build_args:
            if not _ARGUMENT.fullmatch(name):
                raise ArchshiftError(
                    f"build_args: {name!r} is not a valid name of an ARG",
                    "use letters, digits and '_', and no digit at the beginning",
                )

    @property
    def name(self) -> str:
        """The image's name in a bake file: the last part of its repository's path."""
        return re.sub(r"[^A-Za-z0-9_-]", "-", parse_reference(self.tags[0]).repository.rpartition("/")[2])


def bake_file(builds: Sequence[ImageBuild]) -> dict[str, Any]:
    """Return the content of a file for ``docker buildx bake --file``: one target for each image.

    https://docs.docker.com/build/bake/reference/. Paths are relative to the folder where bake starts.

    Raises:
        ArchshiftError: Two images have the same name.
    """
    targets: dict[str, Any] = {}
    for build in builds:
        if build.name in targets:
            raise ArchshiftError(
                f"{build.tags[0]}: another image also has the name {build.name!r}", "build it separately"
            )
        target: dict[str, Any] = {
            "context": _escaped(build.context),
            "dockerfile": _escaped(build.dockerfile) or "Dockerfile",
            "tags": list(build.tags),
            "platforms": list(PLATFORMS),
            # Push one index. Docker's own image store may not support more than one platform.
            "output": ["type=registry"],
        }
        if build.target:
            target["target"] = _escaped(build.target)
        if build.build_args:
            target["args"] = {name: _escaped(value) for name, value in build.build_args.items()}
        targets[build.name] = target
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}


def _escaped(text: str) -> str:
    """Escape the variables and directives of bake in a text."""
    return text.replace("${", "$${").replace("%{", "%%{")
