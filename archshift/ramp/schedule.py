"""The ramp: which step of arm_ratio is next, when it is due, and why not now.

Pure: the settings and the time go in. ``archshift ramp apply`` takes a step. Missed steps are taken later,
one after the other, never two at once.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from archshift.common.times import Freeze, Span, Window, format_time, next_open

DEFAULT_STEPS: Final = (0.2, 0.5, 0.8, 1.0)
DEFAULT_EVERY: Final = Span(days=7)
DEFAULT_SOAK: Final = timedelta(days=5)
"""Shorter than a week, so that a late step does not delay the next one."""

# Ratios are decimal fractions; two ratios that print the same are equal.
EPSILON: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of the ramp.

    Attributes:
        reason: Why the ramp waits.
        until: When the pause ends; None if a person must end it.
    """

    reason: str
    until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NextStep:
    """What comes next.

    Attributes:
        ratio: arm_ratio now.
        step: The next step; None after the last one.
        at: The time from which the step is due; None if that is unknown.
        why_not: Why it is not due now; empty if it is due.
    """

    ratio: float
    step: float | None
    at: datetime | None
    why_not: tuple[str, ...]

    @property
    def due(self) -> bool:
        """Whether the step may be taken now."""
        return not self.why_not


@dataclass(frozen=True, slots=True, kw_only=True)
class Ramp:
    """How arm_ratio moves (``archshift:ramp``).

    Attributes:
        start: The date of the first step; the others follow it at every ``every``.
        steps: The ratios, ascending.
        every: The time between two dates.
        soak: How long a step lasts at least, in elapsed time, whatever daylight saving does.
        zone: The time zone of dates and windows.
        windows: When steps may be taken; none means always.
        freezes: When no step may be taken.
        pause: The pause; None if the ramp is not paused.
        since: When arm_ratio last moved; None if it is not recorded.
    """

    start: datetime
    steps: tuple[float, ...] = DEFAULT_STEPS
    every: Span = DEFAULT_EVERY
    soak: timedelta = DEFAULT_SOAK
    zone: ZoneInfo
    windows: tuple[Window, ...] = ()
    freezes: tuple[Freeze, ...] = ()
    pause: Pause | None = None
    since: datetime | None = None

    def above(self, ratio: float) -> float | None:
        """Return the step after a ratio; None after the last."""
        return next((step for step in self.steps if step > ratio + EPSILON), None)

    def below(self, ratio: float) -> float | None:
        """Return the step before a ratio, 0.0 before the first; None at 0.0."""
        return step_below(self.steps, ratio)

    def next_step(self, ratio: float, now: datetime) -> NextStep:
        """Return the next step.

        Args:
            ratio: arm_ratio now.
            now: The time.
        """
        step = self.above(ratio)
        if step is None:
            over = f"the ramp is over: arm_ratio is {ratio:g}, and its last step is {self.steps[-1]:g}"
            return NextStep(ratio=ratio, step=None, at=None, why_not=(over,))
        if self.since is None and ratio > EPSILON:
            unknown = (
                f"archshift:ramp.since is not set, so nobody knows how long {ratio:g} has soaked; set it "
                "to the time at which arm_ratio was set"
            )
            return NextStep(ratio=ratio, step=step, at=None, why_not=(unknown,))
        planned, soaked = self._planned(), self._soaked()
        why_not = []
        if self._paused(now):
            why_not.append(self._say_pause())
        if now < planned:
            why_not.append(
                f"{step:g} is planned for {self.format_time(planned)}, "
                f"every {self.every} from {self.format_time(self.start)}"
            )
        if self.since and now < soaked:
            why_not.append(
                f"{ratio:g} soaks until {self.format_time(soaked)}, {Span.of(self.soak)} from when it was set"
            )
        why_not += [
            f"frozen until {self.format_time(freeze.end)}: {freeze.reason}"
            for freeze in self.freezes
            if freeze.begin <= now < freeze.end
        ]
        opens = next_open(now, self.windows, self.zone)
        # Only without another reason: a window that opens before the step is due tells nothing.
        if now < opens and not why_not:
            why_not.append(f"outside the windows; the next window opens {self.format_time(opens)}")
        if self.pause and not self.pause.until:
            return NextStep(ratio=ratio, step=step, at=None, why_not=tuple(why_not))
        first = max(planned, soaked)
        if self.pause and self.pause.until and self._paused(now):
            first = max(first, self.pause.until)
        at = self._allowed(max(first, now) if why_not else first)
        return NextStep(ratio=ratio, step=step, at=at, why_not=tuple(why_not))

    def forecast(self, ratio: float, now: datetime) -> list[tuple[float, datetime | None]]:
        """Return the future steps with their times, if each is taken as soon as it is due."""
        steps: list[tuple[float, datetime | None]] = []
        ramp, clock = self, now
        while (next_step := ramp.next_step(ratio, clock)).step is not None:
            steps.append((next_step.step, next_step.at))
            if next_step.at is None:
                steps += [(step, None) for step in self.steps if step > next_step.step + EPSILON]
                break
            ratio, clock = next_step.step, max(clock, next_step.at)
            ramp = replace(ramp, since=clock)
        return steps

    def format_time(self, moment: datetime) -> str:
        """Return a time for a person, in the ramp's zone."""
        return format_time(moment, self.zone)

    def _planned(self) -> datetime:
        """Return the first date of the plan after the last move."""
        since = self.since
        if since is None or since < self.start:
            return self.start
        number = max(0, (since - self.start) // self.every.roughly - 1)
        while (date := self.every.after(self.start, self.zone, number)) <= since:
            number += 1
        return date

    def _soaked(self) -> datetime:
        return self.since + self.soak if self.since else self.start

    def _paused(self, now: datetime) -> bool:
        return self.pause is not None and (self.pause.until is None or now < self.pause.until)

    def _say_pause(self) -> str:
        pause = self.pause
        until = f" until {self.format_time(pause.until)}" if pause and pause.until else ""
        return f"paused{until}: {pause.reason if pause else ''}"

    def _allowed(self, moment: datetime) -> datetime:
        """Return the first moment from this moment on that is in a window and in no freeze."""
        while True:
            later = next_open(moment, self.windows, self.zone)
            for freeze in self.freezes:
                if freeze.begin <= later < freeze.end:
                    later = freeze.end
            if later == moment:
                return moment
            moment = later


def step_below(steps: tuple[float, ...], ratio: float) -> float | None:
    """Return the last step before a ratio, 0.0 before the first; None at 0.0."""
    if ratio <= EPSILON:
        return None
    return next((step for step in reversed(steps) if step < ratio - EPSILON), 0.0)


def same_ratio(ratio: float, other: float) -> bool:
    """Return whether two ratios are the same step."""
    return abs(ratio - other) <= EPSILON
