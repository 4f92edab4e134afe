"""break-glass-in-use: while the x86 rules are lifted, every run says so.

An advisory of its own, because a mandatory rule cannot report one: what it reports blocks.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final

from pulumi_policy import EnforcementLevel

from archshift_rules.exceptions import read_exceptions
from archshift_rules.rule import StackRule
from archshift_rules.stack import Stack, Violation


def check(stack: Stack, config: Mapping[str, Any], now: datetime) -> Iterator[Violation]:  # noqa: ARG001
    """Yield the break-glass, in effect or not."""
    exceptions = read_exceptions(stack, now)
    glass = exceptions.break_glass
    if glass and glass.invalid:
        yield Violation(f"BREAK-GLASS is set and has no effect: {glass.invalid}. Remove it.", exceptions.urn)
    elif glass:
        yield Violation(
            f"BREAK-GLASS until {glass.until}, ticket {glass.ticket}: {glass.reason}. No rule of this pack "
            "keeps x86 nodes for the workloads that need them; remove it as soon as you can.",
            exceptions.urn,
        )


RULE: Final = StackRule(
    name="break-glass-in-use",
    description="The rules that guard x86 are lifted for a while.",
    check=check,
    level=EnforcementLevel.ADVISORY,
)
