"""How one image is built for both architectures, and the same as a bake file for BuildKit. Pure."""

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
    """One image: from what it is built, and under which names it is pushed.

    Attributes:
        tags: Full references with a tag, all of one image.
        context: The folder that is sent to the builder.
        dockerfile: Its path from the context; empty for ``Dockerfile``.
        target: The stage to build; empty for the last.
        build_args: Values of the Dockerfile's ARGs. They stand in the image: nothing secret.

    Raises:
        ArchshiftError: Something of it does not do.
    """

    tags: Sequence[str]
    context: str = "."
    dockerfile: str = ""
    target: str = ""
    build_args: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.tags:
            raise ArchshiftError(
                "tags: there is none", "name what is pushed, such as registry.example/app:1.4.0"
            )
        for tag in self.tags:
            reference = parse_reference(tag)
            if reference.digest or not tag.endswith(f":{reference.tag}"):
                raise ArchshiftError(
                    f"tags: {tag!r} is not a name with a tag of its own, such as registry.example/app:1.4.0"
                )
        for name in self.build_args:
            if not _ARGUMENT.fullmatch(name):
                raise ArchshiftError(f"build_args: {name!r} is not the name of a Dockerfile's ARG")

    @property
    def name(self) -> str:
        """What the image is called in a bake file: the end of its repository's path."""
        return re.sub(r"[^A-Za-z0-9_-]", "-", parse_reference(self.tags[0]).repository.rpartition("/")[2])


def bake_file(builds: Sequence[ImageBuild]) -> dict[str, Any]:
    """Return what ``docker buildx bake --file`` reads: one target an image, all built by default.

    https://docs.docker.com/build/bake/reference/. Paths are from the folder that bake is started in.

    Raises:
        ArchshiftError: Two images have one name.
    """
    targets: dict[str, Any] = {}
    for build in builds:
        if build.name in targets:
            raise ArchshiftError(
                f"{build.tags[0]}: another image is called {build.name!r} too", "build it apart"
            )
        target: dict[str, Any] = {
            "context": _escaped(build.context),
            "dockerfile": _escaped(build.dockerfile) or "Dockerfile",
            "tags": list(build.tags),
            "platforms": list(PLATFORMS),
            # Pushed as one index: an image store of Docker's may not hold more than one platform.
            "output": ["type=registry"],
        }
        if build.target:
            target["target"] = _escaped(build.target)
        if build.build_args:
            target["args"] = {name: _escaped(value) for name, value in build.build_args.items()}
        targets[build.name] = target
    return {"group": {"default": {"targets": list(targets)}}, "target": targets}


def _escaped(text: str) -> str:
    """Return a text in which bake takes nothing for a variable or a directive of its own."""
    return text.replace("${", "$${").replace("%{", "%%{")
