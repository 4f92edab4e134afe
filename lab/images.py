"""The sample workloads' images, in the lab's own registry: real ones to ask for, though nothing runs them.

Each image that a workload names is made for both architectures, but for those below.
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

# For x86 alone, and their registry says so.
AMD64_ONLY = frozenset({"invoices", "reviews", "smtp-relay"})
# Their index promises arm64, and the program in it is for x86: a binary that a build copied in.
LIARS = frozenset({"image-resizer"})
# A tag that no workload uses yet, by repository: the first that runs on arm64.
NEWER = {"reviews": "2.3.0"}


def push_images(lab: Lab, say: Say, *, again: bool = False) -> None:
    """Pushes the images once, so that what a user pushed over them stays.

    Raises:
        LabError: the registry did not take them.
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
                machines["arm64"] = "amd64" if repository in LIARS else "arm64"
            _push(pusher, repository, tag, machines)
        for repository, tag in NEWER.items():
            _push(pusher, repository, tag, {"amd64": "amd64", "arm64": "arm64"})
    except httpx.HTTPError as error:
        raise LabError(f"The lab's registry at {lab.registry} did not take an image: {error}") from error
    pushed.touch()


def _push(pusher: Pusher, repository: str, tag: str, machines: dict[str, str]) -> None:
    """Pushes one image, whose program is for the given machine on each architecture."""

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
        pusher.index(repository, tag, [image(*one) for one in machines.items()])


def _images_of_the_workloads() -> set[tuple[str, str]]:
    """The repository and tag of each image that a sample workload names."""
    named = set()
    for path in WORKLOADS.glob("*.yaml"):
        for document in yaml.safe_load_all(path.read_text()):
            for image in _images(document):
                reference = parse_reference(image)
                named.add((reference.repository, reference.tag))
    return named


def _images(value: Any) -> Iterator[str]:
    """Every text under a key named image."""
    if isinstance(value, list):
        for item in value:
            yield from _images(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "image" and isinstance(item, str):
                yield item
            else:
                yield from _images(item)
