"""How arm_ratio moved: from the versions of the stack's file and of the gate's evidence.

Pure. The repository is the durable record of both: who clones it has the whole history. What was
observed in the cluster at the time is in neither.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from archshift.common.errors import ArchshiftError
from archshift.ramp.gate_evidence import GateEvidence, parse_evidence
from archshift.ramp.schedule import Ramp, same_ratio
from archshift.settings.stack_file import StackFile

_MOST_WEEKS = 520
"""Ten years: clocks of commits may say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RatioChange:
    """A time from which on arm_ratio has, or had, a value.

    Attributes:
        at: Since when; None for a step to come whose time nobody can say.
        arm_ratio: The value.
    """

    at: datetime | None
    arm_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict of the gate.

    Attributes:
        at: When.
        arm_ratio: The ratio that was judged.
        verdict: pass, hold, step-back or unknown.
        reasons: Why.
    """

    at: datetime
    arm_ratio: float
    verdict: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Week:
    """One week.

    Attributes:
        monday: Its first day, in UTC.
        arm_ratio: At its end, or now.
        verdicts: What the gate said in it, in order.
    """

    monday: date
    arm_ratio: float
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How arm_ratio moved.

    Attributes:
        moves: Its values, oldest first.
        coming: The steps to come, if every one is taken as soon as it is due; empty without a ramp.
        why_not: Why the next step is not due now, a sentence each; empty where it is, or without a ramp.
        weeks: Week by week until now.
        judgements: The gate's verdicts, oldest first.
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
        arm_ratio: Its ratio now.
        now: The time.
        files: Versions of the stack's file, oldest first. What is no such file is passed over.
        evidence: Versions of the gate's evidence, oldest first. What proves nothing is passed over.
        ramp: The ramp, for the steps to come; None without one.
    """
    moves: list[RatioChange] = []
    for at, content in files:
        ratio = _ratio_in(content)
        if ratio is not None and not (moves and same_ratio(moves[-1].arm_ratio, ratio)):
            # Clocks of commits need not agree; the order of the commits does.
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
