"""Texts and numbers that several rules use."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

# How many items a message names; it only counts the rest.
_SHOWN = 5


def listed(items: Iterable[str]) -> str:
    """Return the first items, and the number of further ones."""
    texts: Sequence[str] = list(items)
    more = f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else ""
    return ", ".join(texts[:_SHOWN]) + more


def counted(number: float, noun: str, verb: str = "") -> str:
    """Return ``1 pod needs``, ``2 pods need``; the noun is in the singular, the verb in the plural."""
    words = f"{number:g} {noun}{'' if number == 1 else 's'}"
    return f"{words} {verb}{'s' if number == 1 else ''}" if verb else words


def number(value: Any) -> float | None:
    """Return a finite number of 0 or more; None for any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def moment(value: Any) -> datetime | None:
    """Return an ISO 8601 time in UTC, also if it has no zone; None for any other value."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    try:
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except OverflowError:  # year 1 or 9999 with a zone
        return None
