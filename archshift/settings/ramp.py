"""Readers of ``archshift:ramp``."""

from collections.abc import Mapping
from datetime import datetime
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from archshift.common.errors import ArchshiftError
from archshift.ramp.schedule import DEFAULT_EVERY, DEFAULT_SOAK, DEFAULT_STEPS, EPSILON, Pause, Ramp
from archshift.settings import values
from archshift.settings.times import read_freeze, read_moment, read_span, read_window, read_zone


def read_ramp(key: str, value: Any) -> Ramp | None:
    """Return the ramp of a configuration; None where it has none.

    Raises:
        ArchshiftError: A value does not do.
    """
    if not value:
        return None
    given: Mapping[str, Any] = {
        name: entry for name, entry in values.mapping(key, value).items() if entry is not None
    }
    known = {"start", "steps", "every", "soak", "time_zone", "windows", "freezes", "pause", "since"}
    values.only(f"{key}.", given, known)
    if "start" not in given:
        raise ArchshiftError(
            f"{key}.start is missing", 'give the date of the first step, such as "2026-03-02"'
        )
    zone = read_zone(f"{key}.time_zone", given.get("time_zone", "UTC"))
    every = read_span(f"{key}.every", given.get("every", str(DEFAULT_EVERY)))
    if not every.roughly:
        raise ArchshiftError(f"{key}.every: {given['every']!r} is no time at all", "give a span such as 7d")
    windows = values.typed(f"{key}.windows", given.get("windows", []), list, "a list")
    freezes = values.typed(f"{key}.freezes", given.get("freezes", []), list, "a list")
    return Ramp(
        start=read_moment(f"{key}.start", given["start"], zone),
        steps=_steps(f"{key}.steps", given.get("steps", list(DEFAULT_STEPS))),
        every=every,
        soak=read_span(f"{key}.soak", given["soak"]).roughly
        if "soak" in given
        else min(DEFAULT_SOAK, every.roughly),
        zone=zone,
        windows=tuple(read_window(f"{key}.windows[{index}]", one) for index, one in enumerate(windows)),
        freezes=tuple(read_freeze(f"{key}.freezes[{index}]", one, zone) for index, one in enumerate(freezes)),
        pause=_pause(f"{key}.pause", given["pause"], zone) if given.get("pause") else None,
        since=_since(f"{key}.since", given["since"], zone) if "since" in given else None,
    )


def _steps(key: str, value: Any) -> tuple[float, ...]:
    listed = values.typed(key, value, list, "a list of ratios such as [0.2, 0.5, 0.8, 1.0]")
    steps = tuple(values.ratio(f"{key}[{index}]", one) for index, one in enumerate(listed))
    if not steps or steps[0] <= EPSILON or any(two <= one + EPSILON for one, two in pairwise(steps)):
        raise ArchshiftError(f"{key}: {value!r} does not rise from above 0.0, step by step")
    return steps


def _pause(key: str, value: Any, zone: ZoneInfo) -> Pause:
    words = values.mapping(key, value)
    values.only(f"{key}.", words, {"reason", "until"})
    reason = values.typed(f"{key}.reason", words.get("reason", ""), str, "text; put it in quotes").strip()
    if not reason:
        raise ArchshiftError(f"{key}.reason is missing", "say why the ramp waits")
    until = words.get("until")
    return Pause(reason, None if until is None else read_moment(f"{key}.until", until, zone, through=True))


def _since(key: str, value: Any, zone: ZoneInfo) -> datetime:
    # No date: its midnight may be before the move, and the soak would be too short.
    values.time(key, values.typed(key, value, str, "a time in quotes"))
    return read_moment(key, value, zone)
