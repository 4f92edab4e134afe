"""The ramp: which step is next, when, and why not now."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from archshift.common.errors import ArchshiftError
from archshift.common.times import Freeze, Span, Window, instant, next_open
from archshift.ramp.schedule import DEFAULT_STEPS, Pause, Ramp
from tests.build import load
from tests.properties import examples

BERLIN = ZoneInfo("Europe/Berlin")
# Clocks here change by half an hour, here at midnight, and here never.
ZONES = [BERLIN, ZoneInfo("Australia/Lord_Howe"), ZoneInfo("America/Santiago"), ZoneInfo("UTC")]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def berlin(text: str) -> datetime:
    """A time in Berlin, in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN).astimezone(UTC)


def ramp(**values: Any) -> Ramp:
    """A ramp that begins on Monday, 2 March 2026, in Berlin; what is None is left out."""
    values = {"start": "2026-03-02T09:00", "time_zone": "Europe/Berlin", **values}
    found = load(ramp={key: value for key, value in values.items() if value is not None}).ramp
    assert found is not None
    return found


def refused(**values: Any) -> str:
    """The sentence with which a ramp is refused."""
    with pytest.raises(ArchshiftError) as error:
        ramp(**values)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- what is configured ---------------------------------------------------------------------


def test_a_start_is_enough() -> None:
    """A week between steps, five days of soak, at any time of the day."""
    assert load(ramp={"start": "2026-03-02"}).ramp == Ramp(start=utc("2026-03-02"), zone=ZoneInfo("UTC"))
    assert load(ramp={}).ramp is None
    assert ramp(every="2d").soak == timedelta(days=2)
    assert ramp(every="2d", soak="3d").soak == timedelta(days=3)


def test_everything_gets_its_shape() -> None:
    """A whole ramp; a date in `to` and `until` counts with its day, what names no zone is local."""
    found = ramp(
        steps=[0.1, 1],
        every="36h",
        soak="90m",
        windows=[{"days": ["mon", "fri"], "from": "22:00", "to": "04:00"}, {"days": ["sun"]}],
        freezes=[{"from": "2026-03-28", "to": "2026-03-29", "reason": "sale"}],
        pause={"reason": "holidays", "until": "2026-04-01"},
        since="2026-03-02T09:12:00+01:00",
    )
    assert found == Ramp(
        start=utc("2026-03-02T08:00"),
        steps=(0.1, 1.0),
        every=Span(elapsed=timedelta(hours=36)),
        soak=timedelta(minutes=90),
        zone=BERLIN,
        windows=(Window(frozenset({0, 4}), 22 * 60, 28 * 60), Window(frozenset({6}), 0, 24 * 60)),
        freezes=(Freeze(utc("2026-03-27T23:00"), utc("2026-03-29T22:00"), "sale"),),
        pause=Pause("holidays", utc("2026-04-01T22:00")),
        since=utc("2026-03-02T08:12"),
    )
    assert ramp(pause=None, since=None) == ramp()
    assert (
        load(ramp={"start": "2026-03-02", "pause": None, "windows": None}).ramp
        == load(ramp={"start": "2026-03-02"}).ramp
    )


K = "archshift:ramp"
MOMENT = 'is invalid; use a date or a time from 2000 to 2199 in quotes, such as "2026-03-02" or "2026'
ZONED = "is invalid; use a time from 2000 to 2199 with its zone in quotes"
EVERY = "is invalid; use a time from 1m to 366d such as 7d"
STEPS = "does not rise step by step from above 0.0; use a list of ratios such as [0.2, 0.5, 0.8, 1.0]"
CLOCK = 'is invalid; use a time of day from "00:00" to "24:00", in quotes'
ZONE = "is invalid; use a time zone such as Europe/Berlin or UTC"
TEXT = "text in quotes that is not empty"
FREEZE = {"from": "2026-12-18", "to": "2026-12-20", "reason": "sale"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"start": None},
            f'{K}.start is missing; add a date or a time from 2000 to 2199 in quotes, such as "2026-03-02"',
        ),
        ({"start": "soon"}, f"{K}.start: 'soon' {MOMENT}"),
        # What the engine makes of a date without quotes.
        ({"start": "2026-03-02 00:00:00 +0000 UTC"}, f"{K}.start: '2026-03-02 00:00:00 +0000 UTC' {MOMENT}"),
        ({"start": 20260302}, f"{K}.start: 20260302 {MOMENT}"),
        ({"start": "1999-12-31"}, f"{K}.start: '1999-12-31' {MOMENT}"),
        (
            {"starts": "x"},
            f"{K}.starts is not a setting; there are: every, freezes, pause, since, soak, start",
        ),
        ({"steps": []}, f"{K}.steps: [] {STEPS}"),
        ({"steps": [0.0, 0.5]}, f"{K}.steps: [0.0, 0.5] {STEPS}"),
        ({"steps": [0.5, 0.5]}, f"{K}.steps: [0.5, 0.5] {STEPS}"),
        ({"steps": [0.5, 1.1]}, f"{K}.steps[1]: 1.1 is invalid; use a number from 0.0 to 1.0"),
        ({"steps": 0.5}, f"{K}.steps: 0.5 is invalid; use a list of ratios such as [0.2, 0.5, 0.8, 1.0]"),
        ({"every": "0d"}, f"{K}.every: '0d' {EVERY}"),
        ({"every": "weekly"}, f"{K}.every: 'weekly' {EVERY}"),
        ({"every": 7}, f"{K}.every: 7 {EVERY}"),
        ({"soak": "53w"}, f"{K}.soak: '53w' is invalid; use a time from 0m to 366d such as 5d"),
        ({"time_zone": "Berlin"}, f"{K}.time_zone: 'Berlin' {ZONE}"),
        ({"time_zone": "../etc/passwd"}, f"{K}.time_zone: '../etc/passwd' {ZONE}"),
        ({"time_zone": "Europe"}, f"{K}.time_zone: 'Europe' {ZONE}"),
        ({"time_zone": ""}, f"{K}.time_zone: '' {ZONE}"),
        ({"time_zone": 1}, f"{K}.time_zone: 1 {ZONE}"),
        ({"windows": {"days": ["mon"]}}, f"{K}.windows: {{'days': ['mon']}} is invalid; use a list"),
        (
            {"windows": [{"days": []}]},
            f"{K}.windows[0].days: [] is invalid; use a list of one or more of mon, tue, wed, thu, ",
        ),
        (
            {"windows": [{"days": ["Monday"]}]},
            f"{K}.windows[0].days[0]: 'Monday' is invalid; use mon, tue, wed, thu, fri, sat or sun",
        ),
        ({"windows": [{"from": "9:00"}]}, f"{K}.windows[0].from: '9:00' {CLOCK}"),
        ({"windows": [{"to": 540}]}, f"{K}.windows[0].to: 540 {CLOCK}"),
        (
            {"windows": [{"from": "09:00", "to": "09:00"}]},
            f"{K}.windows[0]: the time from '09:00' to '09:00' is empty; correct from or to",
        ),
        (
            {"windows": [{"from": "24:00", "to": "01:00"}]},
            f"{K}.windows[0]: the time from '24:00' to '01:00' is empty; correct from or to",
        ),
        (
            {"freezes": [{**FREEZE, "reason": ""}]},
            f"{K}.freezes[0].reason: '' is invalid; use {TEXT}",
        ),
        (
            {"freezes": [{**FREEZE, "to": "2026-12-17"}]},
            f"{K}.freezes[0]: the freeze from 2026-12-18 to 2026-12-17 ends before it begins; ",
        ),
        ({"freezes": FREEZE}, "is invalid; use a list"),
        ({"pause": {"until": "2026-12-20"}}, f"{K}.pause.reason is missing; add {TEXT}"),
        ({"pause": {"reason": "x", "until": "later"}}, f"{K}.pause.until: 'later' {MOMENT}"),
        ({"pause": "yes"}, f"{K}.pause: 'yes' is invalid; use a map, written as YAML below the key"),
        ({"since": "2026-03-02"}, f"{K}.since: '2026-03-02' {ZONED}"),
        ({"since": "9999-12-31T23:59:59-12:00"}, f"{K}.since: '9999-12-31T23:59:59-12:00' {ZONED}"),
    ],
    ids=str,
)
def test_a_ramp_that_does_not_do_is_refused(values: dict[str, Any], sentence: str) -> None:
    """The sentence names the key, the value and what is wanted."""
    assert sentence in refused(**values)


# --- what is next ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "above", "below"),
    [(0.0, 0.2, None), (0.1, 0.2, 0.0), (0.2, 0.5, 0.0), (0.3, 0.5, 0.2), (0.8, 1.0, 0.5), (1.0, None, 0.8)],
)
def test_the_steps_around_a_ratio(ratio: float, above: float | None, below: float | None) -> None:
    """Between two steps the next is the upper one and the way back the lower one."""
    assert (ramp().above(ratio), ramp().below(ratio)) == (above, below)


def test_beyond_the_last_step_the_ramp_is_over() -> None:
    """A ramp that ends at 0.5 leaves 0.8 alone, and 1.0 is the end of every other."""
    half = ramp(steps=[0.2, 0.5])
    next_step = half.next_step(0.8, utc("2030-01-01"))
    assert (next_step.step, next_step.at, next_step.due) == (None, None, False)
    assert next_step.why_not == ("the ramp is over: arm_ratio is 0.8, and its last step is 0.5",)
    assert half.below(0.8) == 0.5
    assert ramp().next_step(1.0, utc("2030-01-01")).step is None


def test_the_first_step_waits_for_the_start() -> None:
    """And is due from then on, however late somebody looks."""
    early = ramp().next_step(0.0, berlin("2026-03-02T08:59"))
    assert early.why_not == (
        "0.2 is planned for Mon 02 Mar 2026 09:00 CET, every 7d from Mon 02 Mar 2026 09:00 CET",
    )
    assert early.at == berlin("2026-03-02T09:00")
    for later in ("2026-03-02T09:00", "2026-05-01T00:00"):
        due = ramp().next_step(0.0, berlin(later))
        assert (due.due, due.step, due.at) == (True, 0.2, berlin("2026-03-02T09:00"))


def test_a_late_step_does_not_make_the_next_one_late() -> None:
    """Taken on Wednesday, the next one is due on Monday again; taken on Friday, when it has soaked."""
    on_wednesday = ramp(since="2026-03-04T10:00+01:00").next_step(0.2, berlin("2026-03-05T00:00"))
    assert on_wednesday.at == berlin("2026-03-09T10:00")
    on_friday = ramp(since="2026-03-06T10:00+01:00").next_step(0.2, berlin("2026-03-07T00:00"))
    assert on_friday.at == berlin("2026-03-11T10:00")
    assert on_friday.why_not == (
        "0.5 is planned for Mon 09 Mar 2026 09:00 CET, every 7d from Mon 02 Mar 2026 09:00 CET",
        "0.2 soaks until Wed 11 Mar 2026 10:00 CET, 5d from when it was set",
    )


def test_missed_weeks_skip_no_step() -> None:
    """After four weeks in which nobody looked, one step is due, and the next a week after that."""
    missed = ramp(since="2026-03-02T09:00+01:00")
    now = berlin("2026-04-08T12:00")
    next_step = missed.next_step(0.2, now)
    assert (next_step.due, next_step.step, next_step.at) == (True, 0.5, berlin("2026-03-09T09:00"))
    assert missed.forecast(0.2, now) == [
        (0.5, berlin("2026-03-09T09:00")),
        (0.8, berlin("2026-04-13T12:00")),
        (1.0, berlin("2026-04-20T09:00")),
    ]


def test_a_week_is_a_week_by_the_clock() -> None:
    """Steps are at nine before and after clocks go forward (29 March) and back (25 October)."""
    for start, before, after in (
        ("2026-03-23T09:00", "2026-03-23T08:00", "2026-03-30T07:00"),
        ("2026-10-19T09:00", "2026-10-19T07:00", "2026-10-26T08:00"),
    ):
        found = ramp(start=start, since=f"{before}:00+00:00")
        assert found.start == utc(before)
        assert found.next_step(0.2, utc(before)).at == utc(after)


def test_an_unknown_soak_is_never_over() -> None:
    """Above 0, without the time of the last move, nothing is due until somebody says it."""
    next_step = ramp().next_step(0.2, utc("2030-01-01"))
    assert (next_step.due, next_step.step, next_step.at) == (False, 0.5, None)
    assert next_step.why_not == (
        "archshift:ramp.since is not set, so nobody knows how long 0.2 has soaked; set it to the time at "
        "which arm_ratio was set",
    )
    assert ramp().forecast(0.2, utc("2030-01-01")) == [(0.5, None), (0.8, None), (1.0, None)]


def test_a_step_waits_for_its_window() -> None:
    """On Monday at noon the window of the morning is over; Wednesday's is next, in local time."""
    windows = [{"days": ["mon", "wed"], "from": "08:00", "to": "12:00"}]
    found = ramp(windows=windows)
    assert found.next_step(0.0, berlin("2026-03-02T11:59")).due
    closed = found.next_step(0.0, berlin("2026-03-02T12:00"))
    assert closed.why_not == ("outside the windows; the next window opens Wed 04 Mar 2026 08:00 CET",)
    assert closed.at == berlin("2026-03-04T08:00")


def test_a_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    """Friday's window of 22:00 to 04:00 is open early on Saturday, and Saturday evening is not in it."""
    (window,) = ramp(windows=[{"days": ["fri"], "from": "22:00", "to": "04:00"}]).windows
    assert next_open(berlin("2026-03-07T03:59"), [window], BERLIN) == berlin("2026-03-07T03:59")
    assert next_open(berlin("2026-03-07T04:00"), [window], BERLIN) == berlin("2026-03-13T22:00")


def test_freezes_and_windows_push_a_step_on_together() -> None:
    """Out of a freeze into a closed weekend, and out of that into the next freeze."""
    found = ramp(
        windows=[{"days": ["mon"], "from": "09:00", "to": "17:00"}],
        freezes=[
            {"from": "2026-03-09", "to": "2026-03-09", "reason": "audit"},
            {"from": "2026-03-01", "to": "2026-03-06", "reason": "sale"},
        ],
    )
    frozen = found.next_step(0.0, berlin("2026-03-02T10:00"))
    assert frozen.why_not == ("frozen until Sat 07 Mar 2026 00:00 CET: sale",)
    assert frozen.at == berlin("2026-03-16T09:00")


def test_a_pause_holds_until_it_ends() -> None:
    """With a date it ends by itself, without one nobody can say when."""
    until = ramp(pause={"reason": "incident", "until": "2026-03-20T10:00"})
    paused = until.next_step(0.0, berlin("2026-03-03T00:00"))
    assert paused.why_not == ("paused until Fri 20 Mar 2026 10:00 CET: incident",)
    assert paused.at == berlin("2026-03-20T10:00")
    assert until.next_step(0.0, berlin("2026-03-20T10:00")).due
    forever = ramp(pause={"reason": "incident"})
    assert forever.next_step(0.0, utc("2030-01-01")).why_not == ("paused: incident",)
    assert [at for _, at in forever.forecast(0.0, utc("2030-01-01"))] == [None] * 4


def test_a_since_of_the_future_is_waited_for() -> None:
    """A clock that was wrong makes a step late, never early."""
    ahead = ramp(since="2027-01-01T00:00Z").next_step(0.2, utc("2026-03-20"))
    assert not ahead.due
    assert ahead.at is not None
    assert ahead.at >= utc("2027-01-06")


# --- daylight saving ------------------------------------------------------------------------


def test_a_time_that_is_skipped_is_the_next_there_is() -> None:
    """02:30 on 29 March 2026 does not exist in Berlin; a time that is there twice is the first of the two."""
    assert instant(datetime(2026, 3, 29, 2, 30), BERLIN) == utc("2026-03-29T01:00")
    assert instant(datetime(2026, 3, 29, 2, 0), BERLIN) == utc("2026-03-29T01:00")
    assert instant(datetime(2026, 10, 25, 2, 30), BERLIN) == utc("2026-10-25T00:30")


def test_a_window_that_is_skipped_opens_a_week_later() -> None:
    """From 02:10 to 02:50 on Sundays, which clocks jump over on 29 March."""
    (window,) = ramp(windows=[{"days": ["sun"], "from": "02:10", "to": "02:50"}]).windows
    assert next_open(berlin("2026-03-28T12:00"), [window], BERLIN) == berlin("2026-04-05T02:10")


def test_time_zones_are_known_where_the_system_has_none() -> None:
    """As on slim images and on Windows: the package tzdata has them."""
    code = (
        "from tests.build import load;"
        "print(load(ramp={'start': '2026-03-02', 'time_zone': 'Europe/Berlin'}).ramp.zone)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONTZPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("Europe/Berlin\n", "")


# --- properties -----------------------------------------------------------------------------

MOMENTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)
MINUTES = st.integers(0, 24 * 60 - 1)
WINDOWS = st.builds(
    lambda days, begin, length: Window(days, begin, begin + length),
    st.frozensets(st.integers(0, 6), min_size=1),
    MINUTES,
    st.integers(1, 24 * 60),
)
FREEZES = st.builds(
    lambda begin, length: Freeze(begin, begin + length, "sale"),
    MOMENTS,
    st.timedeltas(timedelta(minutes=1), timedelta(days=40)),
)
SPANS = st.integers(1, 20).map(lambda days: Span(days=days)) | st.integers(6, 72).map(
    lambda hours: Span(elapsed=timedelta(hours=hours))
)
RAMPS = st.builds(
    Ramp,
    start=MOMENTS,
    steps=st.sets(st.integers(1, 100), min_size=1, max_size=6).map(
        lambda found: tuple(sorted(one / 100 for one in found))
    ),
    every=SPANS,
    soak=st.timedeltas(timedelta(0), timedelta(days=20)),
    zone=st.sampled_from(ZONES),
    windows=st.lists(WINDOWS, max_size=3).map(tuple),
    freezes=st.lists(FREEZES, max_size=3).map(tuple),
    pause=st.none() | st.builds(Pause, st.just("wait"), MOMENTS),
    since=MOMENTS,
)
RATIOS = st.integers(0, 100).map(lambda share: share / 100)


@examples
@given(RAMPS, RATIOS, MOMENTS)
def test_no_step_is_skipped(found: Ramp, ratio: float, now: datetime) -> None:
    """Nothing lies between a ratio and the next step, nor between it and the one before; up and back again
    from a step is that step.
    """
    step = found.next_step(ratio, now).step
    assert step == found.above(ratio)
    assert not [one for one in found.steps if ratio < one < (step or 1.01)]
    back = found.below(ratio)
    assert (back is None) == (ratio == 0)
    if back is not None:
        assert back < ratio
        assert not [one for one in found.steps if back < one < ratio]
        if ratio in found.steps:
            assert found.above(back) == ratio
    assert [step for step, _ in found.forecast(ratio, now)] == [one for one in found.steps if one > ratio]


@examples
@given(RAMPS, RATIOS, MOMENTS)
def test_no_step_is_early(found: Ramp, ratio: float, now: datetime) -> None:
    """Whenever one is due: the plan has a date since the last move, it has soaked, no pause, no freeze and,
    by local clocks, a window is open.
    """
    next_step = found.next_step(ratio, now)
    assume(next_step.step is not None)
    assert next_step.at is not None
    for moment in (next_step.at, *((now,) if next_step.due else ())):
        assert found.since is not None
        assert moment >= found.start
        assert moment >= found.since + found.soak
        dates = (found.every.after(found.start, found.zone, number) for number in range(4000))
        assert next(date for date in dates if date > found.since) <= moment
        assert not any(freeze.begin <= moment < freeze.end for freeze in found.freezes)
        assert not found.windows or any(opens(window, moment, found.zone) for window in found.windows)
    assert not (next_step.due and found.pause and found.pause.until and now < found.pause.until)


def opens(window: Window, moment: datetime, zone: ZoneInfo) -> bool:
    """Whether a window is open by the clock on the wall; where clocks change, an hour either way."""
    local = moment.astimezone(zone)
    changes = {(moment + timedelta(hours=hours)).astimezone(zone).utcoffset() for hours in range(-30, 31, 2)}
    slack = 60 if len(changes) > 1 else 0
    minute = local.hour * 60 + local.minute
    return any(
        (local.date() - timedelta(days=back)).weekday() in window.days
        and window.begin - slack <= minute + back * 24 * 60 < window.end + slack
        for back in (0, 1, -1)
    )


@examples
@given(RAMPS, RATIOS, MOMENTS, MOMENTS)
def test_waiting_never_puts_a_step_off(found: Ramp, ratio: float, one: datetime, other: datetime) -> None:
    """Whoever looks later hears of the same or a later moment; who waits until then finds it due."""
    first, second = sorted((one, other))
    early, late = found.next_step(ratio, first), found.next_step(ratio, second)
    assume(early.step is not None)
    assert early.at is not None
    assert late.at is not None
    assert max(first, early.at) <= max(second, late.at)
    assert found.next_step(ratio, max(first, early.at)).due
    if max(first, early.at) > second:
        assert not late.due


@examples
@given(RAMPS, MOMENTS)
def test_a_ramp_that_is_followed_takes_every_step_in_its_time(found: Ramp, now: datetime) -> None:
    """Taken as soon as each is due, the steps are those configured, each a soak after the other."""
    ramp, ratio, clock, last = found, 0.0, now, None
    for step in found.steps:
        next_step = ramp.next_step(ratio, clock)
        assert next_step.step == step
        assert next_step.at is not None
        clock = max(clock, next_step.at)
        assert ramp.next_step(ratio, clock).due
        if last is not None:
            assert clock - last >= found.soak
            assert clock > last
        last, ratio = clock, step
        ramp = replace(ramp, since=clock)
    assert ramp.next_step(ratio, clock).step is None


@examples
@given(st.sampled_from(ZONES), st.datetimes(datetime(2026, 1, 1), datetime(2027, 12, 31)))
def test_a_moment_is_the_first_that_shows_a_time(zone: ZoneInfo, wall: datetime) -> None:
    """A second earlier the clock shows less; then it shows the time or, where it jumps, more."""
    wall = wall.replace(microsecond=0)
    found = instant(wall, zone)
    assert found.astimezone(zone).replace(tzinfo=None) >= wall
    assert (found - timedelta(seconds=1)).astimezone(zone).replace(tzinfo=None) < wall


def test_the_default_steps_are_the_packs() -> None:
    """The ramp and the rule arm-ratio-step rest at the same ratios, unless configured otherwise."""
    from archshift_rules.arm_ratio_step import RULE

    assert [0.0, *DEFAULT_STEPS] == RULE.config["steps"]["default"]
