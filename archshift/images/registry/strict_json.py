"""Reads JSON of registries so that the container runtime reads the same. Pure.

Go's decoder takes keys without regard to case, and the last of two equal keys; Python's takes keys as they
are written. So one document could prove one image and start another. A document that the two would read
differently is refused.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from archshift.images.registry.errors import UnreadableError

MOST_OBJECTS: Final = 100_000
"""The most objects of a document. Large images have thousands."""


def read_object(body: bytes, what: str) -> dict[str, Any]:
    """Return a JSON object.

    Args:
        body: UTF-8.
        what: The document, for messages.

    Raises:
        UnreadableError: It is invalid, repeats a key, or has a text that no encoding can write.
    """
    # An object costs a call of ours, so there is a bound before the first.
    if body.count(b"{") > MOST_OBJECTS:
        raise UnreadableError(f"the {what} has more than {MOST_OBJECTS} objects")

    def pairs(entries: list[tuple[str, Any]]) -> dict[str, Any]:
        read = dict(entries)
        if len(read) != len(entries):
            raise UnreadableError(f"the {what} has a key twice")
        return read

    def constant(_: str) -> NoReturn:
        raise ValueError

    try:
        text = body.decode()
        data = json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
        if "\\u" in text:
            # Only an escape can make a lone surrogate.
            json.dumps(data, ensure_ascii=False).encode()
    # json raises RecursionError for thousands of nested values.
    except (ValueError, RecursionError):
        raise UnreadableError(f"the {what} is not valid JSON") from None
    if not isinstance(data, dict):
        raise UnreadableError(f"the {what} is not a JSON object")
    return data


def keys(*names: str) -> Mapping[str, str]:
    """Return known keys for :func:`check_keys`."""
    return {name.casefold(): name for name in names}


def check_keys(data: Mapping[str, Any], known: Mapping[str, str], what: str) -> None:
    """Refuse keys that Go's decoder takes for others.

    Args:
        data: An object with fixed keys; not a map with keys of the user's own, such as labels.
        known: The keys that archshift reads, from :func:`keys`.
        what: The object, for messages.

    Raises:
        UnreadableError: Two keys differ only in case, or a known key has another case.
    """
    # Go folds as Unicode does: the long s is an s, and the Kelvin sign a k.
    seen: set[str] = set()
    for key in data:
        folded = key.casefold()
        if folded in seen or known.get(folded, key) != key:
            raise UnreadableError(
                f"the {what} has the key {key[:60]!r}, which a container runtime takes for another key"
            )
        seen.add(folded)
