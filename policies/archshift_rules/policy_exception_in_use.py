"""policy-exception-in-use: every run warns while a policy exception lifts a rule."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from pulumi_policy import EnforcementLevel

from archshift_rules.exceptions import read_exceptions
from archshift_rules.rule import StackRule
from archshift_rules.stack import Stack, Violation


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:  # noqa: ARG001
    """Yield the policy exceptions, whether they have effect or not."""
    exceptions = read_exceptions(stack, now)
    for exception in exceptions.policy_exceptions:
        if exception.invalid:
            message = (
                f"The policy exception for {exception.rule or 'no rule'} has no effect: "
                f"{exception.invalid}. Remove it."
            )
        else:
            message = (
                f"A policy exception lifts {exception.rule} until {exception.until}: {exception.reason}."
            )
        yield Violation(message, exceptions.urn)


RULE: Final = StackRule(
    name="policy-exception-in-use",
    description="A policy exception lifts a rule for a limited time.",
    check=check,
    level=EnforcementLevel.ADVISORY,
)
