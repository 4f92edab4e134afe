"""Readers of configured values: each checks one, and names its key where it does not do.

All of them raise ``ArchshiftError``, a sentence with the key, the value and what is wanted.
"""

import math
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from typing import Any, TypeVar

from archshift.common.errors import ArchshiftError

_T = TypeVar("_T")


def only(prefix: str, value: Mapping[str, Any], known: set[str]) -> None:
    """Check that a map has known keys alone; ``prefix`` is what stands before a key."""
    for key in value:
        if key not in known:
            raise ArchshiftError(f"{prefix}{key} is not a setting", f"there are: {', '.join(sorted(known))}")


def mapping(key: str, value: Any) -> Mapping[str, Any]:
    """Return a value that is a map."""
    if not isinstance(value, Mapping):
        raise ArchshiftError(f"{key}: {value!r} is not a map", "write it as YAML below the key")
    return value


def typed(key: str, value: Any, kind: type[_T], description: str) -> _T:
    """Return a value of a type; ``description`` says in an error what is wanted."""
    # bool is an int to Python; to a reader of YAML it is not.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ArchshiftError(f"{key}: {value!r} is not {description}")
    return value


def ratio(key: str, value: Any) -> float:
    """Return a share from 0 to 1, given as a number or as text."""
    wanted = "a number from 0.0 to 1.0, such as 0.2"
    if isinstance(value, bool):
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}") from None
    if math.isnan(number) or not 0 <= number <= 1:
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    return number


def texts(key: str, value: Any) -> tuple[str, ...]:
    """Return a list of names."""
    items = typed(key, value, list, "a list of names")
    return tuple(typed(f"{key}[{index}]", item, str, "a name") for index, item in enumerate(items))


def text(description: str) -> Callable[[str, Any], str]:
    """Return a reader of text that is not empty."""

    def read(key: str, value: Any) -> str:
        if not typed(key, value, str, description):
            raise ArchshiftError(f"{key}: {value!r} is not {description}")
        return str(value)

    return read


def one_of(*choices: str) -> Callable[[str, Any], Any]:
    """Return a reader of one of a few words."""

    def read(key: str, value: Any) -> str:
        if value not in choices:
            raise ArchshiftError(f"{key}: {value!r} is none of {', '.join(choices)}")
        return str(value)

    return read


def size(least: int, unit: str = "nodes") -> Callable[[str, Any], int]:
    """Return a reader of a whole number of at least ``least``."""
    description = f"a whole number of {unit}, {least} or more"

    def read(key: str, value: Any) -> int:
        if typed(key, value, int, description) < least:
            raise ArchshiftError(f"{key}: {value!r} is not {description}")
        return int(value)

    return read


def workload_key(key: str, value: str, kinds: Collection[str]) -> str:
    """Return ``namespace/Kind/name`` with one of a few kinds."""
    parts = value.split("/")
    if len(parts) != 3 or parts[1] not in kinds or not all(parts):
        raise ArchshiftError(
            f"{key}: {value!r} is not namespace/Kind/name with one of the kinds {', '.join(kinds)}"
        )
    return value


def flag(key: str, value: Any) -> bool:
    """Return true or false."""
    return typed(key, value, bool, "true or false")


def required_texts(key: str, value: Any, names: tuple[str, ...]) -> dict[str, str]:
    """Return a map of texts, every one of which has to be there."""
    words = mapping(key, value)
    only(f"{key}.", words, set(names))
    found = {
        name: typed(f"{key}.{name}", word, str, "text; put it in quotes").strip()
        for name, word in words.items()
        if word is not None
    }
    for name in names:
        if not found.get(name):
            raise ArchshiftError(f"{key}.{name} is missing", f"it needs {', '.join(names)}")
    return found


def time(key: str, value: str) -> datetime:
    """Return a time that says its zone."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ArchshiftError(f'{key}: {value!r} is not a time with its zone, such as "2026-03-02T18:00:00Z"')
    return moment
