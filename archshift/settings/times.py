"""Readers of configured times: zones, spans, moments, windows and freezes."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

from archshift.common.errors import ArchshiftError
from archshift.common.times import Freeze, Span, Window, instant, short
from archshift.settings import values

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_SPAN: Final = re.compile(r"(\d{1,6})([mhdw])")
_CLOCK: Final = re.compile(r"([01]\d|2[0-3]):([0-5]\d)|24:00")
_LONGEST: Final = timedelta(days=366)
# Far from the ends of what a datetime can hold, so that adding never fails.
_YEARS: Final = range(2000, 2200)


def read_zone(key: str, value: Any) -> ZoneInfo:
    """Return a time zone by its name."""
    name = values.text("a time zone such as Europe/Berlin")(key, value)
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise ArchshiftError(
            f"{key}: {name!r} is no time zone", "give one such as Europe/Berlin or UTC"
        ) from None


def read_span(key: str, value: Any) -> Span:
    """Return a span such as ``7d`` or ``12h``."""
    span = _span(value)
    if span is None or span.roughly > _LONGEST:
        raise ArchshiftError(f"{key}: {value!r} is not a span of up to a year, such as 7d, 2w, 12h or 30m")
    return span


def duration(least: timedelta, most: timedelta) -> Callable[[str, Any], timedelta]:
    """Return a reader of spans within bounds, whose days have 24 hours."""

    def read(key: str, value: Any) -> timedelta:
        span = _span(value)
        if span is None or not least <= span.roughly <= most:
            bounds = f"{short(least)} to {short(most)}"
            raise ArchshiftError(f"{key}: {value!r} is not a time from {bounds}, such as 24h")
        return span.roughly

    return read


def _span(value: Any) -> Span | None:
    match = _SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        return None
    number, unit = int(match[1]), match[2]
    return {
        "w": Span(days=7 * number),
        "d": Span(days=number),
        "h": Span(elapsed=timedelta(hours=number)),
        "m": Span(elapsed=timedelta(minutes=number)),
    }[unit]


def read_moment(key: str, value: Any, zone: ZoneInfo, *, through: bool = False) -> datetime:
    """Return a date or time; what names no zone is in this one.

    Args:
        key: The key, for errors.
        value: The text.
        zone: The zone.
        through: A date means its end, not its beginning.
    """
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        moment = None
    if moment is None or moment.year not in _YEARS:
        raise ArchshiftError(
            f"{key}: {value!r} is neither a date nor a time from 2000 to 2199, in quotes, such as "
            '"2026-03-02" or "2026-03-02T18:00:00Z"'
        )
    if moment.tzinfo:
        return moment.astimezone(UTC)
    if through and _is_date(value):
        moment += timedelta(days=1)
    return instant(moment, zone)


def read_window(key: str, value: Any) -> Window:
    """Return a window: ``days`` (all, if left out), ``from`` and ``to``, 00:00 and 24:00 if left out."""
    window = values.mapping(key, value)
    values.only(f"{key}.", window, {"days", "from", "to"})
    names = values.texts(f"{key}.days", window.get("days", list(DAYS)))
    for name in names:
        if name not in DAYS:
            raise ArchshiftError(f"{key}.days: {name!r} is none of {', '.join(DAYS)}")
    if not names:
        raise ArchshiftError(f"{key}.days: [] names no day, so nothing could ever move", "name one at least")
    begin = _clock(f"{key}.from", window.get("from", "00:00"))
    end = _clock(f"{key}.to", window.get("to", "24:00"))
    if begin in (end, 24 * 60):
        raise ArchshiftError(f"{key}: from {window.get('from')!r} to {window.get('to')!r} is no time at all")
    return Window(frozenset(DAYS.index(name) for name in names), begin, end if begin < end else end + 24 * 60)


def read_freeze(key: str, value: Any, zone: ZoneInfo) -> Freeze:
    """Return a freeze: ``from``, ``to`` (a date counts with its whole day) and ``reason``."""
    words: Mapping[str, str] = values.required_texts(key, value, ("from", "to", "reason"))
    begin = read_moment(f"{key}.from", words["from"], zone)
    end = read_moment(f"{key}.to", words["to"], zone, through=True)
    if end <= begin:
        raise ArchshiftError(f"{key}: from {words['from']} to {words['to']} ends before it begins")
    return Freeze(begin, end, words["reason"])


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _clock(key: str, value: Any) -> int:
    if not isinstance(value, str) or not _CLOCK.fullmatch(value):
        raise ArchshiftError(f'{key}: {value!r} is not a time of day in quotes, "00:00" to "24:00"')
    hours, minutes = value.split(":")
    return int(hours) * 60 + int(minutes)
