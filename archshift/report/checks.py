"""What a check has found, and the way out."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from archshift.common.errors import ArchshiftError

Outcome: TypeAlias = Literal["ok", "warning", "problem", "unknown"]

FINE: Final[tuple[Outcome, ...]] = ("ok", "warning")
"""With any other outcome something will not work, or nobody knows whether it does."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check has found.

    Attributes:
        check: What was looked at.
        outcome: ``ok``; ``warning`` for what can be done without; ``problem``; ``unknown`` where the check
            itself was not possible.
        found: What was found.
        fix: What to do, in one sentence; empty where nothing has to be done.
    """

    check: str
    outcome: Outcome
    found: str
    fix: str = ""


def failed(check: str, error: ArchshiftError, outcome: Outcome = "problem", fix: str = "") -> Finding:
    """Return an error as a finding.

    Args:
        check: What was looked at.
        error: The error.
        outcome: What it means.
        fix: The way out where the error names none.
    """
    return Finding(check, outcome, error.problem, error.way_out or fix)


def look(
    check: str,
    examine: Callable[[], Iterable[Finding]],
    outcome: Outcome = "problem",
    fix: str = "",
) -> list[Finding]:
    """Return what an examination finds; where it fails, that is a finding too.

    Args:
        check: What is looked at.
        examine: Looks.
        outcome: What an error means.
        fix: The way out where an error names none.
    """
    found: list[Finding] = []
    try:
        # One by one: what was found before an error counts.
        found.extend(examine())
    except ArchshiftError as error:
        found.append(failed(check, error, outcome, fix))
    return found
