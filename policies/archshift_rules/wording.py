"""Words and numbers that more than one rule uses."""

import math
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

# What one message names; the rest is counted.
_SHOWN = 5


def listed(items: Iterable[str]) -> str:
    """Return the first few, and how many more there are."""
    found: Sequence[str] = list(items)
    more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    return ", ".join(found[:_SHOWN]) + more


def counted(number: float, noun: str) -> str:
    """Return ``1 pod``, ``2 pods``."""
    return f"{number:g} {noun}{'' if number == 1 else 's'}"


def number(value: Any) -> float | None:
    """Return a finite number that is 0 or more; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) and value >= 0 else None


def moment(value: Any) -> datetime | None:
    """Return an ISO 8601 time in UTC, which is assumed where no zone is given; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    try:
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except OverflowError:  # year 1 or 9999 and a zone
        return None
