"""The gate's evidence, as ``archshift gate --output`` writes it: whether it lets a step be taken.

Whatever does not hold together counts as the verdict ``unknown``, and unknown is never a pass.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from archshift.ramp.schedule import same_ratio

PASS: Final = "pass"  # noqa: S105 - a verdict
HOLD: Final = "hold"
STEP_BACK: Final = "step-back"
UNKNOWN: Final = "unknown"

FRESH: Final = timedelta(hours=24)
"""How old evidence may be when a step is taken on it: asking again takes seconds."""

MAX_AGE: Final = timedelta(days=8)
"""How old it may be when the step is deployed: a pull request waits for its review."""

CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""Between the clock of who wrote the evidence and ours."""

_LARGEST: Final = 16 << 20
"""Bytes; a workload's figures take one thousand."""

_REASONS: Final = 20
_REASON: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvidence:
    """What the gate found.

    Attributes:
        verdict: pass, hold, step-back or unknown.
        stack: Whose.
        ratio: The arm_ratio that was judged.
        at: When.
        reasons: Why, a line each.
        problem: Why there is no verdict; empty where there is one.
    """

    verdict: str = UNKNOWN
    stack: str = ""
    ratio: float | None = None
    at: datetime | None = None
    reasons: tuple[str, ...] = ()
    problem: str = ""

    def why_refused(
        self, *, stack: str, ratio: float, now: datetime, since: datetime | None, verdict: str = PASS
    ) -> str:
        """Say why this does not allow to leave a ratio; empty if it does.

        Args:
            stack: The stack.
            ratio: Its arm_ratio now, which is to be left.
            now: The time.
            since: When it was set; None where nobody knows.
            verdict: The verdict that is wanted.
        """
        why = self.unusable(stack, now)
        if why or self.at is None or self.ratio is None:
            return why
        if not same_ratio(self.ratio, ratio):
            return f"it is of arm_ratio {self.ratio:g}, which is {ratio:g} now"
        if since and self.at < since:
            return f"it is of {_text(self.at)}, before arm_ratio was set ({_text(since)})"
        if now - self.at > FRESH:
            return f"it is of {_text(self.at)}, more than {FRESH // timedelta(hours=1)} hours old"
        return self.other_than(verdict)

    def unusable(self, stack: str, now: datetime) -> str:
        """Say why it proves nothing of a stack, whatever its verdict; empty if it may."""
        if self.problem or self.at is None or self.ratio is None:
            return self.problem or "it has no verdict"
        # The backend may put an organisation and the project before a stack's name.
        if self.stack.rpartition("/")[2] != stack.rpartition("/")[2]:
            return f"it is of the stack {one_line(self.stack, 80)!r}, not of {stack}"
        if self.at > now + CLOCKS_DIFFER:
            return f"it is from the future ({_text(self.at)}); compare the clocks"
        return ""

    def other_than(self, verdict: str) -> str:
        """Say what the verdict is; empty if it is this one."""
        if self.verdict == verdict:
            return ""
        return f"it says {self.verdict}" + (f": {self.reasons[0]}" if self.reasons else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """What an update is about to do to the fleet.

    Attributes:
        ratio: The configured arm_ratio.
        wanted: How many pods belong on Graviton at that ratio.
        graviton: How many are there now.
        previous: The step before the ratio.
        since: When arm_ratio was set; None where nobody knows.
    """

    ratio: float
    wanted: int
    graviton: int
    previous: float
    since: datetime | None

    @property
    def goes_up(self) -> bool:
        """Whether a step begins: more than half of its pods are still to move.

        An autoscaler makes the observed share drift; setting it right again is no step.
        """
        if self.previous <= 0 or self.ratio <= self.previous:
            return False
        # Not from the fleet's size: where workloads are capped, fewer are wanted than the ratio says.
        of_step = self.wanted * (1 - self.previous / self.ratio)
        return 2 * (self.wanted - self.graviton) > of_step

    def why_refused(self, evidence: GateEvidence, *, stack: str, now: datetime) -> str:
        """Say why evidence does not allow the step; empty if it does, or none begins."""
        if not self.goes_up:
            return ""
        why = evidence.unusable(stack, now)
        if why or evidence.at is None or evidence.ratio is None:
            return why
        reached = evidence.ratio > self.previous or same_ratio(evidence.ratio, self.previous)
        if not reached or evidence.ratio > self.ratio or same_ratio(evidence.ratio, self.ratio):
            return f"it is of arm_ratio {evidence.ratio:g}, not of the step before, {self.previous:g}"
        # It had to be fresh when the step was taken; where that is not written down, now.
        taken = self.since if self.since and self.since >= evidence.at else now
        if taken - evidence.at > MAX_AGE:
            return f"it is of {_text(evidence.at)}, more than {MAX_AGE.days} days old"
        return evidence.other_than(PASS)


def no_evidence(file: str) -> GateEvidence:
    """Return what counts where there is no file."""
    return GateEvidence(problem=f"there is no {file}")


def read_evidence_file(path: Path) -> GateEvidence | None:
    """Return the evidence in a file; None where there is no file."""
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        return GateEvidence(problem=f"it cannot be read ({error.strerror})")
    if len(content) > _LARGEST:
        return GateEvidence(problem=f"it has more than {_LARGEST} bytes")
    return parse_evidence(content)


def parse_evidence(content: bytes) -> GateEvidence:
    """Return the evidence in the JSON that the gate wrote."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, Mapping):
        return GateEvidence(problem="it is not the JSON that archshift gate writes")
    stack, ratio, verdict = value.get("stack"), value.get("arm_ratio"), value.get("verdict")
    at = _moment(value.get("at"))
    share = float(ratio) if isinstance(ratio, int | float) and not isinstance(ratio, bool) else -1.0
    problem = ""
    if not isinstance(stack, str) or not stack:
        problem = "it names no stack"
    elif not 0 <= share <= 1:
        problem = f"its arm_ratio, {_short(ratio)}, is not a number from 0.0 to 1.0"
    elif verdict not in (PASS, HOLD, STEP_BACK, UNKNOWN):
        problem = f"its verdict, {_short(verdict)}, is none of pass, hold, step-back, unknown"
    elif at is None:
        problem = f"its at, {_short(value.get('at'))}, is not a time with its zone"
    if problem:
        return GateEvidence(problem=problem)
    return GateEvidence(
        verdict=str(verdict),
        stack=str(stack),
        ratio=share,
        at=at,
        reasons=tuple(_reasons(value.get("reasons"))),
    )


def _reasons(value: Any) -> Iterable[str]:
    # They end up in commit messages and on terminals, and began as names in a cluster.
    for one in value[:_REASONS] if isinstance(value, list) else ():
        if isinstance(one, str) and (line := one_line(one, _REASON)):
            yield line


def one_line(text: str, most: int) -> str:
    """Return a text as one line of printable characters, cut where it is too long."""
    line = " ".join("".join(one if one.isprintable() else " " for one in text[: 4 * most]).split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _moment(value: Any) -> datetime | None:
    try:
        moment = datetime.fromisoformat(value)
        return moment.astimezone(UTC) if moment.tzinfo else None
    except (TypeError, ValueError, OverflowError):
        return None


def _short(value: Any) -> str:
    return repr(one_line(str(value), 40)) if isinstance(value, str) else one_line(repr(value), 40)


def _text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
