"""Parsers of the command line: each help has an example and exit codes, and all errors look alike."""

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeAlias

from archshift.common.times import zoned_time

EXIT_ERROR: Final = 1
"""Exit code of an error, which is one sentence on stderr."""

EXIT_USAGE: Final = 4
"""Exit code of an invalid command line; not 2, which has its own meaning in `audit`."""

EXIT_INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as in shells."""

COMMON_EXITS: Final = {
    0: "done",
    EXIT_ERROR: "an error; one sentence on stderr explains it",
    EXIT_USAGE: "invalid command line",
    EXIT_INTERRUPTED: "interrupted",
}
"""The exit codes of all commands, with their meaning; a command may change a meaning."""


class Help(argparse.HelpFormatter):
    """Fills paragraphs, except paragraphs with indented lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            paragraph if "\n  " in paragraph else super(Help, self)._fill_text(paragraph, width, indent)
            for paragraph in text.split("\n\n")
        )


class Parser(argparse.ArgumentParser):
    """The parser of one command.

    Attributes:
        example: A typical command line; empty for a command that only groups others.
        exits: The exit codes with their meaning; empty in the same case.
    """

    def __init__(
        self, *arguments: Any, example: str = "", exits: Mapping[int, str] | None = None, **words: Any
    ) -> None:
        """Create the parser; ``exits`` are the command's own codes, in addition to ``COMMON_EXITS``."""
        self.example = example
        self.exits = dict(sorted({**COMMON_EXITS, **(exits or {})}.items())) if example else {}
        if example:
            codes = "\n".join(f"  {code:<4} {when}" for code, when in self.exits.items())
            words["epilog"] = f"example:\n  {example}\n\nexit codes:\n{codes}"
        super().__init__(*arguments, **{"formatter_class": Help, **words})

    def error(self, message: str) -> NoReturn:
        """Print the usage and the error, and exit."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""A subcommand adds its parser to this."""


def moment(text: str) -> datetime:
    """Read an option's time, which must have a zone.

    Raises:
        ArgumentTypeError: The text is no such time.
    """
    try:
        time = zoned_time(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'{text!r} is not a time with its zone, such as "2026-03-02T18:00:00Z"'
        ) from None
    # Far from the limits of datetime, so additions never fail.
    if not 2000 <= time.year < 2200:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time from 2000 to 2199")
    return time.astimezone(UTC)


def ratios(text: str) -> tuple[float, ...]:
    """Read ratios, separated by commas."""
    shares = tuple(float(part) for part in text.split(","))
    if not all(0 <= ratio <= 1 for ratio in shares):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of ratios from 0.0 to 1.0")
    return shares


def percent(text: str) -> float:
    """Read a percentage; returns the share."""
    number = float(text)
    if not 0 <= number <= 500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 500")
    return number / 100
