"""A step of the ramp that was taken, and its commit message."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from archshift.common.text import first_few
from archshift.ramp.gate_evidence import GateEvidence
from archshift.ramp.schedule import Ramp, same_ratio

# The gate's reasons that the commit message shows; the evidence has all.
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenStep:
    """A move of arm_ratio to a neighbouring step.

    Attributes:
        stack: The stack.
        ramp: Its ramp, before the step.
        ratio: arm_ratio before.
        target: arm_ratio after.
        now: The time.
        evidence: The gate's evidence; None if the gate was not asked.
        reason: A person's reason; empty for none.
    """

    stack: str
    ramp: Ramp
    ratio: float
    target: float
    now: datetime
    evidence: GateEvidence | None = None
    reason: str = ""

    @property
    def since(self) -> str:
        """When arm_ratio moved, in the format of the stack's file."""
        return self.now.astimezone(self.ramp.zone).isoformat(timespec="seconds")

    @property
    def after(self) -> Ramp:
        """The ramp after the step."""
        return replace(self.ramp, since=self.now.replace(microsecond=0))

    @property
    def title(self) -> str:
        """The first line of the commit."""
        number = next(
            (str(n) for n, step in enumerate(self.ramp.steps, 1) if same_ratio(step, self.target)), "0"
        )
        back = "back to " if self.target < self.ratio else ""
        return (
            f"{self.stack}: arm_ratio {self.ratio:g} -> {self.target:g}, "
            f"{back}step {number} of {len(self.ramp.steps)}"
        )

    @property
    def message(self) -> str:
        """The whole message of the commit."""
        return "\n".join([self.title, "", *self.body, ""])

    @property
    def body(self) -> list[str]:
        """The reasons, a line each."""
        return [
            *self._why(),
            *self._gate(),
            *([f"Reason: {self.reason}"] if self.reason else []),
            self._next(),
        ]

    def _why(self) -> Iterator[str]:
        if self.target > self.ratio:
            due = self.ramp.next_step(self.ratio, self.now).at
            yield f"{self.target:g} has been due since {self.ramp.format_time(due or self.now)}."
        else:
            yield f"A step back from {self.ratio:g}."
        if self.ramp.since:
            soaked = _length(self.now - self.ramp.since)
            yield f"{self.ratio:g} was set {self.ramp.format_time(self.ramp.since)} and has soaked {soaked}."

    def _gate(self) -> Iterator[str]:
        if self.evidence is None or self.evidence.at is None:
            yield "Gate: not asked."
            return
        yield f"Gate: {self.evidence.verdict} of {self.ratio:g} at {self.ramp.format_time(self.evidence.at)}."
        if self.evidence.reasons:
            yield first_few(
                self.evidence.reasons, _SHOWN, name="- {}".format, separator="\n", rest="\n- and {} more"
            )

    def _next(self) -> str:
        next_step = self.after.next_step(self.target, self.now)
        if next_step.step is None:
            return "This is the last step."
        if next_step.at is None:
            return f"Next: {next_step.step:g}, not before the ramp's pause ends."
        return f"Next: {next_step.step:g}, not before {self.ramp.format_time(next_step.at)}."


def _length(time: timedelta) -> str:
    if time >= timedelta(days=2):
        return f"{time.days} days"
    return f"{max(time, timedelta()) / timedelta(hours=1):.1f} hours"
