"""Image references, with the same rules as in Docker and containerd.

Rules: https://github.com/distribution/reference (grammar and ``docker.io`` defaults).
"""

import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from archshift.common.errors import ArchshiftError

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_ALIASES: Final = ("docker.io", "index.docker.io", "registry-1.docker.io")
_LONGEST_NAME: Final = 255
_LONGEST_REFERENCE: Final = 1000
"""A name, a tag and a digest have at most about 500 characters."""
_HIGHEST_PORT: Final = 65535

_HOST: Final = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
    r"|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?"
)
_COMPONENT: Final = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_BARE_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class ImageReferenceError(ArchshiftError):
    """The text is not a valid image reference."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference to an image in its registry.

    Attributes:
        registry: ``host`` or ``host:port``; ``docker.io`` for all names of Docker Hub.
        repository: The path in the registry, for official images of Docker Hub with ``library/``.
        tag: Empty if the reference has only a digest; ``latest`` if it has neither.
        digest: ``sha256:...`` or ``sha512:...``; empty if the reference has none.
    """

    registry: str
    repository: str
    tag: str
    digest: str

    @property
    def name(self) -> str:
        """``registry/repository``."""
        return f"{self.registry}/{self.repository}"

    @property
    def tag_or_digest(self) -> str:
        """The part that goes into a request: the digest if there is one, as in the kubelet, else the tag."""
        return self.digest or self.tag

    def at(self, *, tag: str = "", digest: str = "") -> "Reference":
        """Return a reference to another tag or digest of the same repository."""
        return replace(self, tag=tag, digest=digest)

    def __str__(self) -> str:
        """Return the full form with all parts."""
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}" + (f"@{self.digest}" if self.digest else "")


@lru_cache(maxsize=1024)
def parse_reference(text: str) -> Reference:
    """Read an image reference.

    Args:
        text: As in a container's ``image``, for instance ``nginx``, ``registry:5000/a/b:1@sha256:...``.

    Raises:
        ImageReferenceError: It is invalid; the message names the invalid part.
    """
    if len(text) > _LONGEST_REFERENCE:
        raise ImageReferenceError(
            f"{text[:60]!r}...: the reference is longer than {_LONGEST_REFERENCE} characters"
        )
    if _DIGEST.fullmatch(text) or _BARE_DIGEST.fullmatch(text):
        raise ImageReferenceError(
            f"{text!r}: an image id alone does not name a registry", "use a name with a tag or a digest"
        )
    rest, at, digest = text.partition("@")
    if at and not _DIGEST.fullmatch(digest):
        raise ImageReferenceError(f"{text!r}: {digest!r} is not a valid sha256 or sha512 digest")
    # A colon after the last slash starts a tag. A colon before it starts a port.
    head, slash, last = rest.rpartition("/")
    last, colon, tag = last.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise ImageReferenceError(f"{text!r}: {tag!r} is not a valid tag")
    name = head + slash + last
    registry, repository = _split_registry(name)
    port = registry.rpartition(":")[2]
    if not _HOST.fullmatch(registry) or (port.isdecimal() and int(port) > _HIGHEST_PORT):
        raise ImageReferenceError(f"{text!r}: {registry!r} is not a valid registry host")
    if not all(map(_COMPONENT.fullmatch, repository.split("/"))):
        raise ImageReferenceError(f"{text!r}: {repository!r} is not a valid repository name")
    if registry == DOCKER_HUB and "/" not in repository:
        repository = f"library/{repository}"
    if len(registry) + 1 + len(repository) > _LONGEST_NAME:
        raise ImageReferenceError(f"{text[:60]!r}...: the name is longer than {_LONGEST_NAME} characters")
    return Reference(registry, repository, tag or ("" if digest else "latest"), digest)


def repositories(images: Iterable[str]) -> frozenset[str]:
    """Return the ``registry/repository`` of each image that is a valid reference."""
    names = set()
    for image in images:
        with suppress(ImageReferenceError):
            names.add(parse_reference(image).name)
    return frozenset(names)


def is_digest(text: str) -> bool:
    """Return whether a text is a digest that this package can verify (sha256 or sha512)."""
    return bool(_DIGEST.fullmatch(text))


def is_tag(text: str) -> bool:
    """Return whether a text is a valid tag."""
    return bool(_TAG.fullmatch(text))


def _split_registry(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    # Docker's rule: the first component is a host if it cannot be a part of a repository.
    if not slash or not ("." in first or ":" in first or first == "localhost" or first != first.lower()):
        return DOCKER_HUB, name
    return (DOCKER_HUB if first in _DOCKER_HUB_ALIASES else first), rest
