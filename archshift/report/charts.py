"""Coordinates of the report's charts, in the units of an SVG's viewBox.

Pure geometry; the page draws it. Screen readers read the tables beside the charts instead.
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
"""The time axis is never shorter."""

_LABEL_WIDTH: Final = 84
"""Width of one date under the axis."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A point with a label; ``kind`` chooses its colour, such as the gate's verdict."""

    x: float
    y: float
    text: str
    kind: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressChart:
    """arm_ratio over time.

    Attributes:
        wanted: The line until now, as ``points`` of a polyline.
        coming: The line of the future steps, in the same form; empty if there are none.
        observed: The fleet's share now; None without pods.
        now: x of now.
        shares: Marks of the vertical axis.
        dates: Marks of the horizontal axis.
        verdicts: The gate's verdicts.
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
        moves: The values of arm_ratio, oldest first.
        coming: The future steps; the chart omits steps without a time.
        judgements: The gate's verdicts; the chart omits verdicts before the first move.
        observed: Share of the movable pods that runs on Graviton now; None without movable pods.
        now: The time.
    """
    done = [(move.at, move.arm_ratio) for move in moves if move.at] or [(now, 0.0)]
    ahead = [(max(move.at, now), move.arm_ratio) for move in coming if move.at]
    begin = min(done[0][0], now)
    end = max([now, begin + _SHORTEST, *(at for at, _ in ahead)])
    # Some space after the last step, so that readers see it.
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
    """Return the dates that fit under the axis; the first and the last have priority."""
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
    """A range of shares; ``text`` is the range in words."""

    title: str
    text: str
    x: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingsChart:
    """Ranges of shares, one below the other; ``zero`` is the x of no saving."""

    bars: tuple[Bar, ...]
    zero: float


def savings_chart(savings: Savings) -> SavingsChart | None:
    """Return the chart of the claimed savings and of this fleet's; None if this fleet's are unknown."""
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
            Bar(
                title=title, text=_range_text(low, high), x=x(low), width=max(3.0, round(x(high) - x(low), 1))
            )
            for title, low, high in ranges
        ),
        zero=x(0),
    )


def _range_text(least: float, most: float) -> str:
    ends = dict.fromkeys(f"{end * 100:.0f}" for end in (least, most))
    return f"{' to '.join(ends)} %"
