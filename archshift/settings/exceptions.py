"""``archshift:break_glass`` and ``archshift:policy_exception``: exceptions with an end and a reason."""

from typing import Annotated

from archshift.plan.exceptions import BreakGlass, PolicyException
from archshift.settings.reading import Model, says
from archshift.settings.times import ZonedTime
from archshift.settings.values import Text


class BreakGlassModel(Model, frozen=True, kw_only=True):
    """Lets you remove x86 nodes although something needs them."""

    until: Annotated[
        ZonedTime, says("When the exception ends, at most 24 hours ahead.", "2026-03-02T18:00:00Z")
    ]
    reason: Annotated[Text, says("Why.", "the region is lost")]
    ticket: Annotated[Text, says("The ticket that explains it.", "OPS-7")]

    def exception(self) -> BreakGlass:
        """Return the exception."""
        return BreakGlass(until=self.until.moment, reason=self.reason.strip(), ticket=self.ticket.strip())


class PolicyExceptionModel(Model, frozen=True, kw_only=True):
    """An exception from one rule of the policy pack."""

    rule: Annotated[Text, says("The name of the rule.", "arm-ratio-step")]
    reason: Annotated[Text, says("Why.", "agreed with the owners")]
    until: Annotated[ZonedTime, says("When the exception ends.", "2026-03-02T18:00:00Z")]

    def exception(self) -> PolicyException:
        """Return the exception."""
        return PolicyException(rule=self.rule.strip(), reason=self.reason.strip(), until=self.until.moment)
