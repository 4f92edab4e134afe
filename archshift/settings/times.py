"""The types of configured times: zones, lengths, moments, windows and freezes."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, get_args
from zoneinfo import ZoneInfo

from msgspec import Meta, field

from archshift.common.errors import ArchshiftError
from archshift.common.times import Freeze, Span, Window, instant, short, zoned_time
from archshift.settings.reading import InvalidValueError, Model, says, use
from archshift.settings.values import Text

Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: Final[tuple[Day, ...]] = get_args(Day)

_SPAN: Final = re.compile(r"(\d{1,6})([mhdw])")
_UNITS: Final[Mapping[str, Span]] = {
    "w": Span(days=7),
    "d": Span(days=1),
    "h": Span(elapsed=timedelta(hours=1)),
    "m": Span(elapsed=timedelta(minutes=1)),
}
# Far from the limits of a datetime, so that additions never fail.
_YEARS: Final = range(2000, 2200)


class Length(str):
    """A length of time such as ``7d`` or ``12h``. Each subclass has its own range."""

    __slots__ = ()

    least: ClassVar = timedelta(0)
    most: ClassVar = timedelta(days=366)
    example: ClassVar[str] = "7d"

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return f"a time from {short(cls.least)} to {short(cls.most)} such as {cls.example}"

    @classmethod
    def parse(cls, value: Any) -> "Length":
        """Return the length; raise ValueError if it is invalid or out of range."""
        if not isinstance(value, str) or not _SPAN.fullmatch(value):
            raise ValueError
        length = cls(value)
        if not cls.least <= length.span.roughly <= cls.most:
            raise ValueError
        return length

    @property
    def span(self) -> Span:
        """The same as a span, whose days are calendar days."""
        match = _SPAN.fullmatch(self)
        if match is None:
            raise ValueError(self)
        number, unit = int(match[1]), _UNITS[match[2]]
        return Span(days=unit.days * number, elapsed=unit.elapsed * number)

    @property
    def elapsed(self) -> timedelta:
        """The same in elapsed time, whose days have 24 hours."""
        return self.span.roughly


class ZoneName(str):
    """The name of a time zone."""

    __slots__ = ()

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return "a time zone such as Europe/Berlin or UTC"

    @classmethod
    def parse(cls, value: Any) -> "ZoneName":
        """Return the name; raise ValueError if there is no such zone."""
        if not isinstance(value, str) or not value:
            raise ValueError
        try:
            ZoneInfo(value)
        except (KeyError, OSError):
            raise ValueError from None
        return cls(value)


class Moment(str):
    """A date or a time in quotes. Without a zone it is in the zone of the ramp."""

    __slots__ = ()

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return 'a date or a time from 2000 to 2199 in quotes, such as "2026-03-02" or "2026-03-02T18:00:00Z"'

    @classmethod
    def parse(cls, value: Any) -> "Moment":
        """Return the text; raise ValueError if it is no date or time."""
        if not isinstance(value, str) or datetime.fromisoformat(value).year not in _YEARS:
            raise ValueError
        return cls(value)

    def at(self, zone: ZoneInfo, *, through: bool = False) -> datetime:
        """Return the moment in UTC.

        Args:
            zone: The zone of a text without a zone.
            through: Whether a date means its end. Otherwise it means its beginning.
        """
        moment = datetime.fromisoformat(self)
        if moment.tzinfo:
            return moment.astimezone(UTC)
        if through and _is_date(self):
            moment += timedelta(days=1)
        return instant(moment, zone)


class ZonedTime(Moment):
    """A time in quotes that names its zone."""

    __slots__ = ()

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return 'a time from 2000 to 2199 with its zone in quotes, such as "2026-03-02T18:00:00Z"'

    @classmethod
    def parse(cls, value: Any) -> "ZonedTime":
        """Return the text; raise ValueError if it is no time with a zone."""
        # A date is invalid, because its midnight may be before the move. The soak would then be too short.
        zoned_time(Moment.parse(value))
        return cls(value)

    @property
    def moment(self) -> datetime:
        """The moment, in its own zone."""
        return zoned_time(self)


Clock: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"\A(([01]\d|2[0-3]):[0-5]\d|24:00)\Z",
        extra=use('a time of day from "00:00" to "24:00", in quotes'),
    ),
]


class WindowModel(Model, frozen=True, kw_only=True):
    """A part of some days of the week in which a step may be taken."""

    days: Annotated[
        tuple[Day, ...],
        Meta(min_length=1, extra=use(f"a list of one or more of {', '.join(DAYS)}")),
        says("The days of the week.", ["mon", "tue"], default="all days"),
    ] = DAYS
    begin: Annotated[Clock, says("When the window opens.", "09:00")] = field(name="from", default="00:00")
    end: Annotated[
        Clock, says("When the window closes; a time before `from` is on the next day.", "16:00")
    ] = field(name="to", default="24:00")

    def __post_init__(self) -> None:
        if self.begin in (self.end, "24:00"):
            raise InvalidValueError(
                "", f"the time from {self.begin!r} to {self.end!r} is empty", "correct from or to"
            )

    def window(self) -> Window:
        """Return the window."""
        begin, end = _minutes(self.begin), _minutes(self.end)
        days = frozenset(DAYS.index(day) for day in self.days)
        return Window(days, begin, end if begin < end else end + 24 * 60)


class FreezeModel(Model, frozen=True, kw_only=True):
    """A time in which no step is taken."""

    begin: Annotated[Moment, says("The first day or time.", "2026-12-18")] = field(name="from")
    end: Annotated[Moment, says("The last day, which counts as a whole, or a time.", "2027-01-06")] = field(
        name="to"
    )
    reason: Annotated[Text, says("Why.", "year end")]

    def freeze(self, key: str, zone: ZoneInfo) -> Freeze:
        """Return the freeze.

        Raises:
            ArchshiftError: It ends before it begins.
        """
        begin, end = self.begin.at(zone), self.end.at(zone, through=True)
        if end <= begin:
            raise ArchshiftError(
                f"{key}: the freeze from {self.begin} to {self.end} ends before it begins",
                "correct from or to",
            )
        return Freeze(begin, end, self.reason.strip())


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _minutes(clock: str) -> int:
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)
