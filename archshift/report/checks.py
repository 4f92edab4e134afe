"""What a check has found, and the way out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from archshift.common.errors import ArchshiftError

Outcome: TypeAlias = Literal["ok", "warning", "problem", "unknown"]

FINE: Final[tuple[Outcome, ...]] = ("ok", "warning")
"""With any other outcome something will not work, or nobody knows whether it does."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What one check has found.

    Attributes:
        check: What was looked at.
        outcome: ``ok``; ``warning`` for what can be done without; ``problem``; ``unknown`` where the check
            itself was not possible.
        message: What was found.
        fix: What to do, in one sentence; empty where nothing has to be done.
    """

    check: str
    outcome: Outcome
    message: str
    fix: str = ""


def from_error(check: str, error: ArchshiftError, outcome: Outcome = "problem", fix: str = "") -> CheckResult:
    """Return an error as a check result.

    Args:
        check: What was looked at.
        error: The error.
        outcome: What it means.
        fix: The way out where the error names none.
    """
    return CheckResult(check, outcome, error.problem, error.way_out or fix)


def run_check(
    check: str,
    examine: Callable[[], Iterable[CheckResult]],
    outcome: Outcome = "problem",
    fix: str = "",
) -> list[CheckResult]:
    """Return what an examination finds; where it fails, that is a check result too.

    Args:
        check: What is looked at.
        examine: Looks.
        outcome: What an error means.
        fix: The way out where an error names none.
    """
    results: list[CheckResult] = []
    try:
        # One by one: what was found before an error counts.
        results.extend(examine())
    except ArchshiftError as error:
        results.append(from_error(check, error, outcome, fix))
    return results
