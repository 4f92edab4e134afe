"""Makes real images for the sample workloads in the lab's registry, although no container runs them.

Each image of a workload has both architectures, except the images below.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import yaml

from archshift.images.registry.reference import parse_reference
from lab.control_plane import Lab, LabError, Say
from lab.oci import Pushed, Pusher, elf, layer
from lab.sample import WORKLOADS

# Only for x86, and the registry says so.
AMD64_ONLY = frozenset({"invoices", "reviews", "smtp-relay"})
# The index claims arm64, but the program inside is for x86: a build copied a wrong binary.
WRONG_BINARY = frozenset({"image-resizer"})
# By repository, the first tag that runs on arm64; no workload uses it yet.
NEWER = {"reviews": "2.3.0"}


def push_images(lab: Lab, say: Say, *, again: bool = False) -> None:
    """Pushes the images only once, so that images that a user pushed later stay.

    Raises:
        LabError: The registry refused an image.
    """
    pushed = lab.directory / "run" / "images-pushed"
    if pushed.exists() and not again:
        return
    say("pushing the sample workloads' images")
    pusher = Pusher(f"http://{lab.registry}")
    try:
        for repository, tag in sorted(_images_of_the_workloads()):
            machines = {"amd64": "amd64"}
            if repository not in AMD64_ONLY:
                machines["arm64"] = "amd64" if repository in WRONG_BINARY else "arm64"
            _push(pusher, repository, tag, machines)
        for repository, tag in NEWER.items():
            _push(pusher, repository, tag, {"amd64": "amd64", "arm64": "arm64"})
    except httpx.HTTPError as error:
        raise LabError(f"The lab's registry at {lab.registry} refused an image: {error}") from error
    pushed.touch()


def _push(pusher: Pusher, repository: str, tag: str, machines: dict[str, str]) -> None:
    """Pushes an image; `machines` maps each architecture to the machine that its program is for."""

    def image(architecture: str, machine: str, tag: str = "") -> Pushed:
        return pusher.image(
            repository,
            tag,
            f"linux/{architecture}",
            layers=[layer({"app": elf(machine)})],
            config={"Entrypoint": ["/app"], "Labels": {"org.opencontainers.image.title": repository}},
        )

    if len(machines) == 1:
        ((architecture, machine),) = machines.items()
        image(architecture, machine, tag)
    else:
        pusher.index(repository, tag, [image(*platform) for platform in machines.items()])


def _images_of_the_workloads() -> set[tuple[str, str]]:
    """The repository and tag of each image of the sample workloads."""
    named = set()
    for path in WORKLOADS.glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            for image in _images(document):
                reference = parse_reference(image)
                named.add((reference.repository, reference.tag))
    return named


def _images(value: Any) -> Iterator[str]:
    """Yields every text under a key named image."""
    if isinstance(value, list):
        for item in value:
            yield from _images(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "image" and isinstance(item, str):
                yield item
            else:
                yield from _images(item)
