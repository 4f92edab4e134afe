"""What the stack's configuration exceptions for a while: exceptions from one rule, and break-glass.

Both are stated by the component ``Exceptions``. One that has no effect says why.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from archshift_rules.stack import Stack
from archshift_rules.wording import moment

RULES_WITH_EXCEPTIONS: Final = (
    "arm-ratio-step",
    "daemonset-runs-on-every-architecture",
    "node-group-architecture",
)
"""What a policy exception can lift; the x86 rules need break-glass, which ends within a day."""

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_LONGEST_BREAK_GLASS: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleException:
    """A policy exception or a break-glass.

    Attributes:
        rule: The rule it lifts; empty for break-glass, which lifts the x86 rules.
        reason: Why.
        until: As it is written.
        ticket: Of break-glass.
        invalid: Why it has no effect; empty if it has.
    """

    rule: str = ""
    reason: str = ""
    until: str = ""
    ticket: str = ""
    invalid: str = ""


@dataclass(frozen=True, slots=True)
class Exceptions:
    """All of a stack's.

    Attributes:
        policy_exceptions: Those of single rules.
        break_glass: None where there is none.
        urn: Where they are stated.
    """

    policy_exceptions: tuple[RuleException, ...] = ()
    break_glass: RuleException | None = None
    urn: str = ""

    def of(self, rule: str, *, by_break_glass: bool) -> tuple[RuleException, ...]:
        """Return those that mean a rule, in effect or not."""
        glass = (self.break_glass,) if by_break_glass and self.break_glass else ()
        return (*glass, *(one for one in self.policy_exceptions if one.rule == rule))


def read_exceptions(stack: Stack, now: datetime) -> Exceptions:
    """Read the exceptions of a stack.

    Raises:
        UnknownError: They are not known in this preview.
    """
    component = stack.component("Exceptions")
    if component is None:
        return Exceptions()
    policy_exceptions = tuple(_policy_exception(one, now) for one in component.items("policyExceptions"))
    glass = component.read("breakGlass")
    return Exceptions(policy_exceptions, _break_glass(glass, now) if glass else None, component.urn)


def end_of(until: Any) -> datetime | None:
    """Return when an ``until`` ends: a date with its last second (UTC), a time at that time."""
    found = moment(until)
    if found is not None and isinstance(until, str) and _DATE.fullmatch(until):
        return datetime(found.year, found.month, found.day, 23, 59, 59, tzinfo=UTC)
    return found


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _expiry(until: Any, now: datetime) -> str:
    end = end_of(until)
    if end is None:
        return f"its until, {until!r}, is no date or time such as 2026-12-01"
    return "" if now < end else f"its until, {until}, has passed"


def _policy_exception(stated: Any, now: datetime) -> RuleException:
    fields: Mapping[str, Any] = stated if isinstance(stated, dict) else {}
    rule, reason, until = _text(fields.get("rule")), _text(fields.get("reason")), fields.get("until")
    invalid = _expiry(until, now)
    if rule not in RULES_WITH_EXCEPTIONS:
        names = ", ".join(RULES_WITH_EXCEPTIONS)
        invalid = f"a policy exception lifts only {names}; for the x86 rules there is break-glass"
    elif not reason:
        invalid = "it gives no reason"
    return RuleException(rule=rule, reason=reason, until=str(until), invalid=invalid)


def _break_glass(stated: Any, now: datetime) -> RuleException:
    fields: Mapping[str, Any] = stated if isinstance(stated, dict) else {}
    until, reason, ticket = fields.get("until"), _text(fields.get("reason")), _text(fields.get("ticket"))
    invalid = _expiry(until, now)
    end = end_of(until)
    if end is not None and end - now > _LONGEST_BREAK_GLASS:
        invalid = f"its until, {until}, is more than 24 hours ahead"
    elif not reason or not ticket:
        invalid = "it gives no reason" if not reason else "it names no ticket"
    return RuleException(reason=reason, until=str(until), ticket=ticket, invalid=invalid)
