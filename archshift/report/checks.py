"""The result of a check, with its fix."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from archshift.common.errors import ArchshiftError

Outcome: TypeAlias = Literal["ok", "warning", "problem", "unknown"]

FINE: Final[tuple[Outcome, ...]] = ("ok", "warning")
"""With any other outcome, something will fail or could not be checked."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        check: The subject of the check.
        outcome: ``ok``; ``warning``: archshift can work without it; ``problem``; ``unknown``: the check
            was not possible.
        message: The facts.
        fix: What to do, in one sentence; empty if there is nothing to do.
    """

    check: str
    outcome: Outcome
    message: str
    fix: str = ""


def from_error(check: str, error: ArchshiftError, outcome: Outcome = "problem", fix: str = "") -> CheckResult:
    """Return an error as a check result; ``fix`` counts if the error names no way out."""
    return CheckResult(check, outcome, error.problem, error.way_out or fix)


def run_check(
    check: str,
    examine: Callable[[], Iterable[CheckResult]],
    outcome: Outcome = "problem",
    fix: str = "",
) -> list[CheckResult]:
    """Return the results of an examination; if it fails, its errors are results too.

    Args:
        check: The subject of the check.
        examine: Yields the results.
        outcome: The outcome of an error.
        fix: The fix of an error that names no way out.
    """
    results: list[CheckResult] = []
    try:
        # One after another: results before an error count.
        results.extend(examine())
    except ArchshiftError as error:
        results += [from_error(check, each, outcome, fix) for each in error.errors]
    return results
