"""The lines of the report's charts: where things are drawn, in the units of an SVG's viewBox.

Pure geometry; the page draws it. Words that are read out stand in the tables beside the charts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from archshift.report.history import Judgement, RatioChange
from archshift.report.savings import Savings

WIDTH: Final = 480
HEIGHT: Final = 236
BARS_WIDTH: Final = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 462, 14, 200

_SHORTEST: Final = timedelta(days=7)
"""What the axis shows at least."""

_LABEL_WIDTH: Final = 84
"""A date under the axis takes this much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point with a word to it.

    Attributes:
        x: Where.
        y: Where.
        text: The word.
        kind: What it is of, such as the gate's verdict.
    """

    x: float
    y: float
    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressChart:
    """arm_ratio over time.

    Attributes:
        wanted: The points of the line until now, as ``points`` of a polyline.
        coming: The same for the steps to come; empty without any.
        observed: Where the fleet is now; None without a pod.
        now: x of now.
        shares: The marks of the vertical axis.
        dates: The marks of the horizontal one.
        verdicts: The gate's verdicts.
        left: Where the area begins.
        right: Where it ends.
        top: Its upper edge.
        bottom: Its lower one.
    """

    wanted: str
    coming: str
    observed: Mark | None
    now: float
    shares: tuple[Mark, ...]
    dates: tuple[Mark, ...]
    verdicts: tuple[Mark, ...]
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM


def progress_chart(
    moves: Sequence[RatioChange],
    coming: Sequence[RatioChange],
    judgements: Sequence[Judgement],
    observed: float | None,
    now: datetime,
) -> ProgressChart:
    """Return the chart of arm_ratio over time.

    Args:
        moves: Its values, oldest first.
        coming: Its steps to come; what has no time is left out.
        judgements: The gate's verdicts; those before the first move are left out.
        observed: Share of the movable pods that is on Graviton now; None where there are none.
        now: The time.
    """
    done = [(move.at, move.arm_ratio) for move in moves if move.at] or [(now, 0.0)]
    ahead = [(max(move.at, now), move.arm_ratio) for move in coming if move.at]
    begin = min(done[0][0], now)
    end = max([now, begin + _SHORTEST, *(at for at, _ in ahead)])
    # A little room behind the last step, so that it is seen.
    end += (end - begin) / 12 if ahead else timedelta(0)

    def x(at: datetime) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * ((at - begin) / (end - begin)), 1)

    def stairs(points: Sequence[tuple[datetime, float]], until: datetime) -> str:
        corners = [(x(points[0][0]), _y(points[0][1]))]
        for at, ratio in points[1:]:
            corners += [(x(at), corners[-1][1]), (x(at), _y(ratio))]
        corners.append((x(until), corners[-1][1]))
        return " ".join(f"{across:g},{up:g}" for across, up in corners)

    done = [(min(at, now), ratio) for at, ratio in done]
    return ProgressChart(
        wanted=stairs(done, now),
        coming=stairs([(now, done[-1][1]), *ahead], end) if ahead else "",
        observed=None if observed is None else Mark(x=x(now), y=_y(observed), text=f"{observed * 100:.0f} %"),
        now=x(now),
        shares=tuple(Mark(x=_LEFT, y=_y(part / 4), text=f"{25 * part} %") for part in range(5)),
        dates=_dates([*(at for at, _ in done), now, *(at for at, _ in ahead)], x),
        verdicts=tuple(
            Mark(x=x(judgement.at), y=_y(judgement.arm_ratio), text=judgement.verdict, kind=judgement.verdict)
            for judgement in judgements
            if begin <= judgement.at <= now
        ),
    )


def _dates(moments: Sequence[datetime], x: Callable[[datetime], float]) -> tuple[Mark, ...]:
    """Return a date under each moment that has room for one, the first and the last above all."""
    kept: list[Mark] = []
    for at in (moments[0], moments[-1], *moments[1:-1]):
        mark = Mark(x=min(max(x(at), _LEFT), _RIGHT - 20), y=_BOTTOM + 20, text=f"{at:%Y-%m-%d}")
        if all(abs(mark.x - other.x) >= _LABEL_WIDTH for other in kept):
            kept.append(mark)
    return tuple(sorted(kept, key=lambda mark: mark.x))


def _y(share: float) -> float:
    return round(_BOTTOM - (_BOTTOM - _TOP) * share, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A range of shares, from its least to its most.

    Attributes:
        title: What of.
        text: The range in words.
        x: Where it begins.
        width: How wide it is.
    """

    title: str
    text: str
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingsChart:
    """Ranges of shares one below the other.

    Attributes:
        bars: The ranges.
        zero: x of nothing saved.
    """

    bars: tuple[Bar, ...]
    zero: float


def savings_chart(savings: Savings) -> SavingsChart | None:
    """Return the chart of what is claimed and what this fleet gets; None where that is not known."""
    ranges = [("often claimed", savings.claimed_least, savings.claimed_most)]
    ranges += [
        (f"this fleet, {change.title}", change.share_least, change.share_most)
        for change in savings.changes
        if change.share_least is not None and change.share_most is not None
    ]
    if len(ranges) == 1:
        return None
    least = min(0.0, *(least for _, least, _ in ranges))
    most = max(0.0, *(most for _, _, most in ranges))

    def x(share: float) -> float:
        return round(8 + (BARS_WIDTH - 16) * (share - least) / (most - least), 1)

    return SavingsChart(
        bars=tuple(
            Bar(title=title, text=_said(low, high), x=x(low), width=max(3.0, round(x(high) - x(low), 1)))
            for title, low, high in ranges
        ),
        zero=x(0),
    )


def _said(least: float, most: float) -> str:
    ends = dict.fromkeys(f"{end * 100:.0f}" for end in (least, most))
    return f"{' to '.join(ends)} %"
