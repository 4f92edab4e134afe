"""Exceptions with an end and a reason: from the guard of x86 nodes, and from a rule of the policy pack."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

LONGEST_BREAK_GLASS: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """Permits to remove x86 nodes although something needs them (``archshift:break_glass``).

    Attributes:
        until: When it expires.
        reason: The reason.
        ticket: The ticket that explains the reason.
    """

    until: datetime
    reason: str
    ticket: str

    def active(self, now: datetime) -> bool:
        """Whether it counts: it ends in the future, at most 24 hours from now."""
        return now < self.until <= now + LONGEST_BREAK_GLASS

    def describe(self, now: datetime) -> str:
        """Return a sentence that says whether it counts now."""
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
        reason: The reason.
        until: When it expires.
    """

    rule: str
    reason: str
    until: datetime
