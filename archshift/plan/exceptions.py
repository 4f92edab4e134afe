"""Exceptions with an end and a reason: from the guard of x86, and from rules of the policy pack."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

LONGEST_BREAK_GLASS: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """The config's word that x86 may go although something needs it (``archshift:break_glass``).

    Attributes:
        until: When it ends by itself.
        reason: Why.
        ticket: Where that is written down.
    """

    until: datetime
    reason: str
    ticket: str

    def active(self, now: datetime) -> bool:
        """Whether it counts: not over, and not further ahead than 24 hours."""
        return now < self.until <= now + LONGEST_BREAK_GLASS

    def describe(self, now: datetime) -> str:
        """Say what it does now, in a sentence."""
        until = self.until.isoformat(timespec="minutes")
        if self.active(now):
            return (
                f"BREAK GLASS until {until}: x86 is not guarded. Reason: {self.reason}; ticket {self.ticket}"
            )
        why = "ended" if self.until <= now else "is more than 24 hours ahead"
        return f"archshift:break_glass.until: {until} {why}, so it has no effect; remove it or set a new time"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyException:
    """An exception from one rule of the policy pack (``archshift:policy_exception``).

    Attributes:
        rule: The rule's name.
        reason: Why.
        until: When it ends by itself.
    """

    rule: str
    reason: str
    until: datetime
