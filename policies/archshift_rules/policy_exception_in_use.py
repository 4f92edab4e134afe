"""policy-exception-in-use: while a rule is lifted, every run says so."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from pulumi_policy import EnforcementLevel

from archshift_rules.exceptions import read_exceptions
from archshift_rules.rule import StackRule
from archshift_rules.stack import Stack, Violation


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:  # noqa: ARG001
    """Yield the policy exceptions, in effect or not."""
    exceptions = read_exceptions(stack, now)
    for one in exceptions.policy_exceptions:
        if one.invalid:
            message = (
                f"The policy exception for {one.rule or 'no rule'} has no effect: {one.invalid}. Remove it."
            )
        else:
            message = f"{one.rule} is lifted until {one.until}: {one.reason}."
        yield Violation(message, exceptions.urn)


RULE: Final = StackRule(
    name="policy-exception-in-use",
    description="A rule is lifted for a while.",
    check=check,
    level=EnforcementLevel.ADVISORY,
)
