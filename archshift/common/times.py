"""Times as people plan them: in a time zone, by days of the week, right across daylight saving.

Every time that comes out is in UTC: Python compares and adds times of one zone by their wall clocks.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final
from zoneinfo import ZoneInfo

# A window opens again within eight days or, where daylight saving skips it, the week after.
_AHEAD_DAYS: Final = 16


@dataclass(frozen=True, slots=True)
class Span:
    """A length of time: days by the calendar, or an elapsed time.

    Attributes:
        days: Calendar days: the same time of day, also where daylight saving begins between.
        elapsed: Hours and minutes.
    """

    days: int = 0
    elapsed: timedelta = timedelta()

    def __str__(self) -> str:
        if self.days:
            return f"{self.days}d"
        minutes = self.elapsed // timedelta(minutes=1)
        return f"{minutes}m" if minutes % 60 else f"{minutes // 60}h"

    @classmethod
    def of(cls, length: timedelta) -> "Span":
        """Return a length as one writes it: in days, if it is whole days."""
        return cls(elapsed=length) if length % timedelta(days=1) else cls(days=length.days)

    @property
    def roughly(self) -> timedelta:
        """How long it is where no clock is changed."""
        return timedelta(days=self.days) + self.elapsed

    def after(self, moment: datetime, zone: ZoneInfo, times: int = 1) -> datetime:
        """Return the time so many spans after another."""
        if self.days:
            moment = instant(_wall(moment, zone) + timedelta(days=self.days * times), zone)
        return moment.astimezone(UTC) + self.elapsed * times


@dataclass(frozen=True, slots=True)
class Window:
    """A part of some days of the week.

    Attributes:
        days: 0 for Monday to 6.
        begin: Minutes after midnight.
        end: Minutes after midnight; more than a day's where it is on the next day.
    """

    days: frozenset[int]
    begin: int
    end: int

    def on(self, day: date, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """Return when it begins and ends on a day; the two are the same where daylight saving skips it."""
        midnight = datetime.combine(day, time())
        begin, end = (midnight + timedelta(minutes=minutes) for minutes in (self.begin, self.end))
        return instant(begin, zone), instant(end, zone)


@dataclass(frozen=True, slots=True)
class Freeze:
    """A time in which nothing moves.

    Attributes:
        begin: Its first moment.
        end: The first moment after it.
        reason: Why.
    """

    begin: datetime
    end: datetime
    reason: str


def instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first moment at which clocks show this time or, where they skip it, a later one."""
    early = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if _wall(early, zone) == wall:
        return early
    # Clocks go forward over it: between these two moments, which are an hour apart.
    before, after = wall.replace(tzinfo=zone, fold=1).astimezone(UTC), early
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        before, after = (middle, after) if _wall(middle, zone) < wall else (before, middle)
    return after.replace(microsecond=0)


def next_open(moment: datetime, windows: Sequence[Window], zone: ZoneInfo) -> datetime:
    """Return the first moment from this one on that is in a window; no windows are always open."""
    if not windows:
        return moment
    # Yesterday's may end today.
    days = [_wall(moment, zone).date() + timedelta(days=ahead) for ahead in range(-1, _AHEAD_DAYS)]
    spans = sorted(window.on(day, zone) for window in windows for day in days if day.weekday() in window.days)
    return next(max(moment, begin) for begin, end in spans if begin < end and moment < end)


def format_time(moment: datetime, zone: ZoneInfo) -> str:
    """Return a time for a person, such as ``Mon 09 Mar 2026 09:00 CET``."""
    return f"{moment.astimezone(zone):%a %d %b %Y %H:%M %Z}"


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    return moment.astimezone(zone).replace(tzinfo=None, fold=0)


_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}


def short(length: timedelta) -> str:
    """Return a duration as one writes it, in its largest whole unit."""
    for unit, one in reversed(_UNITS.items()):
        if length and not length % one:
            return f"{length // one}{unit}"
    return f"{length // _UNITS['m']}m"


def zoned_time(text: str) -> datetime:
    """Return a time that names its zone, such as ``2026-03-02T18:00:00Z``.

    Raises:
        ValueError: It is none.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment
