"""The history of arm_ratio, from the versions of the stack's file and of the gate's evidence.

Pure. The repository keeps both, so every clone has the whole history. Neither records what the cluster
looked like at the time.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from archshift.common.errors import ArchshiftError
from archshift.ramp.gate_evidence import GateEvidence, parse_evidence
from archshift.ramp.schedule import Ramp, same_ratio
from archshift.settings.stack_file import StackFile

_MOST_WEEKS = 520
"""Ten years: the clock of a commit may be wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioChange:
    """A new value of arm_ratio; ``at`` is None for a future step whose time is unknown."""

    at: datetime | None
    arm_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict of the gate about a ratio: pass, hold, step-back or unknown."""

    at: datetime
    arm_ratio: float
    verdict: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """One week.

    Attributes:
        monday: The first day, in UTC.
        arm_ratio: The ratio at the end of the week, or now.
        verdicts: The gate's verdicts of the week, in order.
    """

    monday: date
    arm_ratio: float
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """The history of arm_ratio, oldest entries first.

    Attributes:
        moves: The values so far.
        coming: The future steps, if each is taken as soon as it is due; empty without a ramp.
        why_not: Why the next step is not due now, one sentence each; empty if it is due or without a ramp.
        weeks: Week by week until now.
        judgements: The gate's verdicts.
    """

    moves: tuple[RatioChange, ...] = ()
    coming: tuple[RatioChange, ...] = ()
    why_not: tuple[str, ...] = ()
    weeks: tuple[Week, ...] = ()
    judgements: tuple[Judgement, ...] = ()


def make_history(
    *,
    stack: str,
    arm_ratio: float,
    now: datetime,
    files: Iterable[tuple[datetime, bytes]] = (),
    evidence: Iterable[bytes] = (),
    ramp: Ramp | None = None,
) -> History:
    """Return the history of a stack's ratio.

    Args:
        stack: The stack's name.
        arm_ratio: The ratio now.
        now: The time.
        files: Versions of the stack's file, oldest first; unreadable versions are skipped.
        evidence: Versions of the gate's evidence, oldest first; unusable versions are skipped.
        ramp: The ramp, for the future steps.
    """
    moves: list[RatioChange] = []
    for at, content in files:
        ratio = _ratio_in(content)
        if ratio is not None and not (moves and same_ratio(moves[-1].arm_ratio, ratio)):
            # The clocks of commits may disagree; the order of the commits counts.
            last = moves[-1].at if moves else None
            moves.append(RatioChange(at=max(at, last) if last else at, arm_ratio=ratio))
    if not moves or not same_ratio(moves[-1].arm_ratio, arm_ratio):
        since = ramp.since if ramp and ramp.since else now
        moves.append(
            RatioChange(at=max([since, *(move.at for move in moves if move.at)]), arm_ratio=arm_ratio)
        )
    judgements = _judgements(map(parse_evidence, evidence), stack, now)
    forecast = ramp.forecast(arm_ratio, now) if ramp else []
    return History(
        moves=tuple(moves),
        coming=tuple(RatioChange(at=at, arm_ratio=step) for step, at in forecast),
        why_not=ramp.next_step(arm_ratio, now).why_not if ramp else (),
        weeks=_weeks(moves, judgements, now),
        judgements=judgements,
    )


def _ratio_in(content: bytes) -> float | None:
    try:
        ratio = float(StackFile(content.decode(), "").get("config", "archshift:arm_ratio") or "")
    except (ArchshiftError, ValueError):
        return None
    return ratio if 0 <= ratio <= 1 else None


def _judgements(evidence: Iterable[GateEvidence], stack: str, now: datetime) -> tuple[Judgement, ...]:
    kept: dict[datetime, Judgement] = {}
    for entry in evidence:
        if entry.at is not None and entry.ratio is not None and not entry.unusable(stack, now):
            kept[entry.at] = Judgement(
                at=entry.at, arm_ratio=entry.ratio, verdict=entry.verdict, reasons=entry.reasons
            )
    return tuple(kept[at] for at in sorted(kept))


def _weeks(moves: Sequence[RatioChange], judgements: Sequence[Judgement], now: datetime) -> tuple[Week, ...]:
    timed = [(move.at, move.arm_ratio) for move in moves if move.at]
    last = _monday(now)
    monday = max(_monday(timed[0][0]), last - timedelta(weeks=_MOST_WEEKS - 1))
    weeks: list[Week] = []
    while monday <= last:
        end = datetime.combine(monday + timedelta(weeks=1), datetime.min.time(), UTC)
        ratio = next((ratio for at, ratio in reversed(timed) if at < end), timed[0][1])
        weeks.append(Week(monday=monday, arm_ratio=ratio))
        monday += timedelta(weeks=1)
    verdicts: dict[date, list[str]] = {}
    for judgement in judgements:
        verdicts.setdefault(_monday(judgement.at), []).append(judgement.verdict)
    return tuple(replace(week, verdicts=tuple(verdicts.get(week.monday, ()))) for week in weeks)


def _monday(at: datetime) -> date:
    day = at.astimezone(UTC).date()
    return day - timedelta(days=day.weekday())
