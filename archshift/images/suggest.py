"""Suggests the nearest newer tag that runs on arm64, for an image that does not."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from archshift.images.inspector import Inspector
from archshift.images.registry.client import RegistryClient
from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.reference import ImageReferenceError, parse_reference

MOST_CHECKED: Final = 12
"""How many tags of one repository are checked at most."""

_TAG: Final = re.compile(r"(?P<v>v?)(?P<numbers>[0-9]+(?:\.[0-9]+){0,3})(?P<suffix>(?:[-_+.][A-Za-z].*)?)")
_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]+)*")


@dataclass(frozen=True, slots=True)
class Version:
    """A tag read as a version.

    Attributes:
        numbers: For instance (1, 25, 3).
        suffix_numbers: The numbers in the suffix, for instance (3, 19) of ``-alpine3.19``.
        family: Two tags are comparable only if these are equal: the ``v``, the count of numbers, and the
            suffix without its numbers. So the suggestion for 1.25 is never 1.26.1, for -alpine never
            -bookworm, and for a release never a release candidate.
    """

    numbers: tuple[int, ...]
    suffix_numbers: tuple[int, ...]
    family: tuple[str, int, str]


def parse_version(tag: str) -> Version | None:
    """Read a tag as a version; None if it is not a version, such as ``latest`` or a commit."""
    match = _TAG.fullmatch(tag)
    if not match or any(len(number) > 18 for number in re.findall(r"[0-9]+", tag)):
        return None
    numbers = _numbers(match["numbers"])
    suffix = match["suffix"]
    inner = tuple(number for part in _NUMBER.findall(suffix) for number in _numbers(part))
    return Version(numbers, inner, (match["v"], len(numbers), _NUMBER.sub("#", suffix)))


def newer_tags(tag: str, tags: Iterable[str]) -> list[str]:
    """Return the newer tags of the same family, the nearest first."""
    current = parse_version(tag)
    if current is None:
        return []
    newer = []
    for other in set(tags):
        version = parse_version(other)
        if version is None or version.family != current.family:
            continue
        order = (version.numbers, version.suffix_numbers)
        if order > (current.numbers, current.suffix_numbers):
            newer.append((order, other))
    return [other for _, other in sorted(newer)]


async def suggest(image: str, client: RegistryClient, inspector: Inspector) -> str | None:
    """Return the nearest newer tag that runs on arm64, or None.

    Checks at most ``MOST_CHECKED`` tags. If there are more, it assumes that all tags after the first with
    arm64 have it too. Then the newest tag shows whether there is any, and bisection finds the nearest. The
    returned tag has always been checked.
    """
    try:
        reference = parse_reference(image)
        tags = newer_tags(reference.tag, await client.tags(reference)) if reference.tag else []
    except (UnreadableError, ImageReferenceError):
        return None

    async def runs(tag: str) -> bool:
        return (await inspector.verdict(str(reference.at(tag=tag)))).runs_on_arm64

    if len(tags) <= MOST_CHECKED:
        for tag in tags:
            if await runs(tag):
                return tag
        return None
    low, high = 0, len(tags) - 1
    if not await runs(tags[high]):
        return None
    for _ in range(MOST_CHECKED - 1):
        if low >= high:
            break
        middle = (low + high) // 2
        if await runs(tags[middle]):
            high = middle
        else:
            low = middle + 1
    return tags[high]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
