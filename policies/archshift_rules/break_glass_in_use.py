"""break-glass-in-use: every run warns while break-glass lifts the x86 rules.

This is a separate advisory rule, because every violation of a mandatory rule blocks the run.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from pulumi_policy import EnforcementLevel

from archshift_rules.exceptions import read_exceptions
from archshift_rules.rule import StackRule
from archshift_rules.stack import Stack, Violation


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:  # noqa: ARG001
    """Yield the break-glass, whether it has effect or not."""
    exceptions = read_exceptions(stack, now)
    glass = exceptions.break_glass
    if glass and glass.invalid:
        yield Violation(f"BREAK-GLASS is set and has no effect: {glass.invalid}. Remove it.", exceptions.urn)
    elif glass:
        yield Violation(
            f"BREAK-GLASS until {glass.until}, ticket {glass.ticket}: {glass.reason}. Until then no rule of "
            "this pack protects the x86 nodes that workloads need. Remove it as soon as you can.",
            exceptions.urn,
        )


RULE: Final = StackRule(
    name="break-glass-in-use",
    description="Break-glass lifts the rules that guard x86 for a limited time.",
    check=check,
    level=EnforcementLevel.ADVISORY,
)
