"""``archshift:ramp``: the steps of arm_ratio and their dates."""

from datetime import timedelta
from itertools import pairwise
from typing import Annotated, ClassVar
from zoneinfo import ZoneInfo

from msgspec import Meta

from archshift.common.times import short
from archshift.ramp.schedule import DEFAULT_EVERY, DEFAULT_SOAK, DEFAULT_STEPS, EPSILON, Pause, Ramp
from archshift.settings.reading import InvalidValueError, Model, Problems, says, shown, use
from archshift.settings.times import FreezeModel, Length, Moment, WindowModel, ZonedTime, ZoneName
from archshift.settings.values import Ratio, Text


class _Every(Length):
    __slots__ = ()
    least: ClassVar = timedelta(minutes=1)


class _Soak(Length):
    __slots__ = ()
    example: ClassVar = "5d"


class PauseModel(Model, frozen=True, kw_only=True):
    """No step is taken."""

    reason: Annotated[Text, says("Why the ramp waits.", "an incident")]
    until: Annotated[
        Moment | None,
        says(
            "The last day, or a time, after which the ramp goes on.",
            "2026-03-20",
            default="until you remove the pause",
        ),
    ] = None


class RampModel(Model, frozen=True, kw_only=True):
    """How arm_ratio moves from step to step."""

    start: Annotated[Moment, says("The date of the first step.", "2026-03-02")]
    steps: Annotated[
        tuple[Ratio, ...] | None,
        Meta(extra=use("a list of ratios such as [0.2, 0.5, 0.8, 1.0]")),
        says(
            "The ratios, each above the one before.",
            [0.1, 0.5, 1.0],
            default=", ".join(map(str, DEFAULT_STEPS)),
        ),
    ] = None
    every: Annotated[
        _Every | None, says("The time between two dates.", "14d", default=str(DEFAULT_EVERY))
    ] = None
    soak: Annotated[
        _Soak | None,
        says(
            "How long each step lasts at least.",
            "3d",
            default=f"{short(DEFAULT_SOAK)}, or `every` where that is shorter",
        ),
    ] = None
    time_zone: Annotated[
        ZoneName | None, says("The time zone of dates and windows.", "Europe/Dublin", default="UTC")
    ] = None
    windows: Annotated[
        tuple[WindowModel, ...] | None,
        says(
            "When steps may be taken.",
            [{"days": ["mon", "tue"], "from": "09:00", "to": "16:00"}],
            default="at any time",
        ),
    ] = None
    freezes: Annotated[
        tuple[FreezeModel, ...] | None,
        says(
            "When no step may be taken.",
            [{"from": "2026-12-18", "to": "2027-01-06", "reason": "year end"}],
            default="never",
        ),
    ] = None
    pause: Annotated[
        PauseModel | None,
        says("Stops the ramp; `archshift ramp pause` writes it.", {"reason": "an incident"}, default="none"),
    ] = None
    since: Annotated[
        ZonedTime | None,
        says(
            "When arm_ratio last moved; `archshift ramp apply` writes it.",
            "2026-03-02T09:00:00+01:00",
            default="unknown",
        ),
    ] = None

    def __post_init__(self) -> None:
        steps = self.steps
        if steps is not None and (
            not steps
            or steps[0] <= EPSILON
            or any(after <= before + EPSILON for before, after in pairwise(steps))
        ):
            raise InvalidValueError(
                "steps",
                f"{shown(list(map(float, steps)))} does not rise step by step from above 0.0",
                "use a list of ratios such as [0.2, 0.5, 0.8, 1.0]",
            )

    def ramp(self, key: str) -> Ramp:
        """Return the ramp.

        Raises:
            SettingsError: A freeze ends before it begins.
        """
        zone = ZoneInfo(self.time_zone or "UTC")
        every = self.every.span if self.every else DEFAULT_EVERY
        problems = Problems()
        freezes = []
        for index, freeze in enumerate(self.freezes or ()):
            with problems.collected():
                freezes.append(freeze.freeze(f"{key}.freezes[{index}]", zone))
        problems.check()
        return Ramp(
            start=self.start.at(zone),
            steps=DEFAULT_STEPS if self.steps is None else tuple(map(float, self.steps)),
            every=every,
            soak=min(DEFAULT_SOAK, every.roughly) if self.soak is None else self.soak.elapsed,
            zone=zone,
            windows=tuple(window.window() for window in self.windows or ()),
            freezes=tuple(freezes),
            pause=self._pause(zone),
            since=self.since.at(zone) if self.since else None,
        )

    def _pause(self, zone: ZoneInfo) -> Pause | None:
        if self.pause is None:
            return None
        until = self.pause.until
        return Pause(self.pause.reason.strip(), until.at(zone, through=True) if until else None)
