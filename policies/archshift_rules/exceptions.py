"""Temporary exceptions in the stack's configuration: policy exceptions from one rule, and break-glass.

The component ``Exceptions`` states both. An invalid exception has no effect and explains why.
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
"""The rules that a policy exception can lift. The x86 rules need break-glass, which lasts a day at most."""

_DATE: Final = re.compile(r"\d{4}-\d{2}-\d{2}")
_LONGEST_BREAK_GLASS: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleException:
    """A policy exception or a break-glass.

    Attributes:
        rule: The rule that it lifts; empty for break-glass, which lifts the x86 rules.
        reason: Why the rule is lifted.
        until: When it expires, as the configuration has it.
        ticket: The ticket of a break-glass.
        invalid: Why it has no effect; empty if it is valid.
    """

    rule: str = ""
    reason: str = ""
    until: str = ""
    ticket: str = ""
    invalid: str = ""


@dataclass(frozen=True, slots=True)
class Exceptions:
    """All exceptions of a stack.

    Attributes:
        policy_exceptions: Exceptions from single rules.
        break_glass: None without a break-glass.
        urn: The URN of the component that states them.
    """

    policy_exceptions: tuple[RuleException, ...] = ()
    break_glass: RuleException | None = None
    urn: str = ""

    def of(self, rule: str, *, by_break_glass: bool) -> tuple[RuleException, ...]:
        """Return the exceptions from a rule, whether they have effect or not."""
        glass = (self.break_glass,) if by_break_glass and self.break_glass else ()
        return (*glass, *(exception for exception in self.policy_exceptions if exception.rule == rule))


def read_exceptions(stack: Stack, now: datetime) -> Exceptions:
    """Read the exceptions of a stack.

    Raises:
        UnknownError: This preview does not know them.
    """
    component = stack.component("Exceptions")
    if component is None:
        return Exceptions()
    policy_exceptions = tuple(_policy_exception(entry, now) for entry in component.items("policyExceptions"))
    glass = component.read("breakGlass")
    return Exceptions(policy_exceptions, _break_glass(glass, now) if glass else None, component.urn)


def end_of(until: Any) -> datetime | None:
    """Return when an ``until`` expires: a date in its last second (UTC), a time at that time."""
    end = moment(until)
    if end is not None and isinstance(until, str) and _DATE.fullmatch(until):
        return datetime(end.year, end.month, end.day, 23, 59, 59, tzinfo=UTC)
    return end


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _expiry(until: Any, now: datetime) -> str:
    end = end_of(until)
    if end is None:
        return f"its until, {until!r}, is invalid; use a date or time such as 2026-12-01"
    return "" if now < end else f"its until, {until}, has passed"


def _policy_exception(stated: Any, now: datetime) -> RuleException:
    fields: Mapping[str, Any] = stated if isinstance(stated, dict) else {}
    rule, reason, until = _text(fields.get("rule")), _text(fields.get("reason")), fields.get("until")
    invalid = _expiry(until, now)
    if rule not in RULES_WITH_EXCEPTIONS:
        names = ", ".join(RULES_WITH_EXCEPTIONS)
        invalid = f"a policy exception can lift only {names}; use break-glass for the x86 rules"
    elif not reason:
        invalid = "it has no reason"
    return RuleException(rule=rule, reason=reason, until=str(until), invalid=invalid)


def _break_glass(stated: Any, now: datetime) -> RuleException:
    fields: Mapping[str, Any] = stated if isinstance(stated, dict) else {}
    until, reason, ticket = fields.get("until"), _text(fields.get("reason")), _text(fields.get("ticket"))
    invalid = _expiry(until, now)
    end = end_of(until)
    if end is not None and end - now > _LONGEST_BREAK_GLASS:
        invalid = f"its until, {until}, is more than 24 hours ahead"
    elif not reason or not ticket:
        invalid = "it has no reason" if not reason else "it has no ticket"
    return RuleException(reason=reason, until=str(until), ticket=ticket, invalid=invalid)
