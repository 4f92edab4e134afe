"""The gate's evidence, as ``archshift gate --output`` writes it: whether it lets a step be taken.

Evidence that is invalid in any way has the verdict ``unknown``, and unknown never passes.
"""

import errno
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from archshift.common.text import one_line
from archshift.ramp.schedule import same_ratio

PASS: Final = "pass"  # noqa: S105 - a verdict
HOLD: Final = "hold"
STEP_BACK: Final = "step-back"
UNKNOWN: Final = "unknown"

FRESH: Final = timedelta(hours=24)
"""How old evidence may be when a step is taken: running the gate again takes seconds."""

MAX_AGE: Final = timedelta(days=8)
"""How old it may be when the step is deployed: a pull request waits for its review."""

CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""The permitted difference between our clock and that of the evidence's author."""

_LARGEST: Final = 16 << 20
"""Bytes; a workload's figures take one thousand."""

_REASONS: Final = 20
_REASON: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class GateEvidence:
    """The gate's evidence.

    Attributes:
        verdict: pass, hold, step-back or unknown.
        stack: The stack.
        ratio: The judged arm_ratio.
        at: The time of the verdict.
        reasons: The reasons, a line each.
        problem: Why there is no verdict; empty if there is one.
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
        """Explain why this evidence does not permit leaving a ratio; empty if it does.

        Args:
            stack: The stack.
            ratio: Its arm_ratio now.
            now: The time.
            since: When arm_ratio was set; None if that is unknown.
            verdict: The wanted verdict.
        """
        why = self.unusable(stack, now)
        if why or self.at is None or self.ratio is None:
            return why
        if not same_ratio(self.ratio, ratio):
            return f"it is about arm_ratio {self.ratio:g}, but arm_ratio is {ratio:g} now"
        if since and self.at < since:
            return f"it is from {_text(self.at)}, before arm_ratio was set ({_text(since)})"
        if now - self.at > FRESH:
            return f"it is from {_text(self.at)}, more than {FRESH // timedelta(hours=1)} hours ago"
        return self.other_than(verdict)

    def unusable(self, stack: str, now: datetime) -> str:
        """Explain why it proves nothing about a stack, whatever its verdict; empty if it may."""
        if self.problem or self.at is None or self.ratio is None:
            return self.problem or "it has no verdict"
        # The backend may put an organisation and the project before a stack's name.
        if self.stack.rpartition("/")[2] != stack.rpartition("/")[2]:
            return f"it is about the stack {one_line(self.stack, 80)!r}, not about {stack}"
        if self.at > now + CLOCKS_DIFFER:
            return f"it is from the future ({_text(self.at)}); compare the clocks"
        return ""

    def other_than(self, verdict: str) -> str:
        """Return the verdict as a sentence; empty if it is this verdict."""
        if self.verdict == verdict:
            return ""
        return f"it says {self.verdict}" + (f": {self.reasons[0]}" if self.reasons else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """The change that an update makes to the fleet.

    Attributes:
        ratio: The configured arm_ratio.
        wanted: The number of pods that belong on Graviton at that ratio.
        graviton: The number of pods on Graviton now.
        previous: The step before the ratio.
        since: When arm_ratio was set; None if that is unknown.
    """

    ratio: float
    wanted: int
    graviton: int
    previous: float
    since: datetime | None

    @property
    def goes_up(self) -> bool:
        """Whether a step begins: more than half of its pods must still move.

        An autoscaler makes the observed share drift. Correcting that is not a step.
        """
        if self.previous <= 0 or self.ratio <= self.previous:
            return False
        # Not the fleet's size: with capped workloads fewer pods are wanted than the ratio says.
        of_step = self.wanted * (1 - self.previous / self.ratio)
        return 2 * (self.wanted - self.graviton) > of_step

    def why_refused(self, evidence: GateEvidence, *, stack: str, now: datetime) -> str:
        """Explain why evidence does not permit the step; empty if it does, or if no step begins."""
        if not self.goes_up:
            return ""
        why = evidence.unusable(stack, now)
        if why or evidence.at is None or evidence.ratio is None:
            return why
        reached = evidence.ratio > self.previous or same_ratio(evidence.ratio, self.previous)
        if not reached or evidence.ratio > self.ratio or same_ratio(evidence.ratio, self.ratio):
            return f"it is about arm_ratio {evidence.ratio:g}, not about the step before, {self.previous:g}"
        # It must have been fresh when the step was taken, or now if that time is not recorded.
        taken = self.since if self.since and self.since >= evidence.at else now
        if taken - evidence.at > MAX_AGE:
            return f"it is from {_text(evidence.at)}, more than {MAX_AGE.days} days ago"
        return evidence.other_than(PASS)


def no_evidence(file: str) -> GateEvidence:
    """Return the evidence for a missing file."""
    return GateEvidence(problem=f"there is no {file}")


def read_evidence_file(path: Path) -> GateEvidence | None:
    """Return the evidence in a file; None if the file is missing."""
    try:
        # A link may lead anywhere, and a pipe or a device may never end.
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(opened).st_mode):
                return GateEvidence(problem="it is not a regular file")
            with open(opened, "rb", closefd=False) as file:
                content = file.read(_LARGEST + 1)
        finally:
            os.close(opened)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return GateEvidence(problem="it is a symbolic link")
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
        problem = f"its verdict, {_short(verdict)}, is not pass, hold, step-back or unknown"
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
    # They contain names from a cluster, and are printed in commit messages and on terminals.
    for reason in value[:_REASONS] if isinstance(value, list) else ():
        if isinstance(reason, str) and (line := one_line(reason, _REASON)):
            yield line


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
