"""Command lines: each subcommand's help has an example and its exit codes, and all of them fail alike."""

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NoReturn, TypeAlias

from archshift.common.errors import ArchshiftError
from archshift.settings.values import time as read_time

EXIT_ERROR: Final = 1
"""Exit code where a sentence on stderr says what is wrong."""

EXIT_USAGE: Final = 4
"""Exit code for a command line that does not do: 2 has a meaning of its own in `audit`."""

EXIT_INTERRUPTED: Final = 130
"""Exit code after Ctrl-C, as shells have it."""

COMMON_EXITS: Final = {
    0: "done",
    EXIT_ERROR: "something could not be read or is refused; a sentence on stderr says what",
    EXIT_USAGE: "the command line does not do",
    EXIT_INTERRUPTED: "interrupted",
}
"""Exit code to when, where a command says nothing else."""


class Help(argparse.HelpFormatter):
    """Fills paragraphs, and leaves alone those whose lines are indented."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n\n".join(
            paragraph if "\n  " in paragraph else super(Help, self)._fill_text(paragraph, width, indent)
            for paragraph in text.split("\n\n")
        )


class Parser(argparse.ArgumentParser):
    """A parser of one command.

    Attributes:
        example: A command line that one would type; empty for a command that only has others.
        exits: Exit code to when; empty as above.
    """

    def __init__(
        self, *arguments: Any, example: str = "", exits: Mapping[int, str] | None = None, **words: Any
    ) -> None:
        """Make the parser.

        Args:
            arguments: Of ``ArgumentParser``.
            example: See ``Parser``.
            exits: The exit codes that mean something here; those of errors are added.
            words: Of ``ArgumentParser``.
        """
        self.example = example
        self.exits = dict(sorted({**COMMON_EXITS, **(exits or {})}.items())) if example else {}
        if example:
            codes = "\n".join(f"  {code:<4} {when}" for code, when in self.exits.items())
            words["epilog"] = f"example:\n  {example}\n\nexit codes:\n{codes}"
        super().__init__(*arguments, **{"formatter_class": Help, **words})

    def error(self, message: str) -> NoReturn:
        """End with the usage and what is wrong."""
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""What a subcommand adds its parser to."""


def moment(text: str) -> datetime:
    """Read an option's time, which has to name its zone.

    Raises:
        ArgumentTypeError: It is none.
    """
    try:
        found = read_time("time", text)
    except ArchshiftError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    # Far from the ends of what a datetime can hold, so that adding never fails.
    if not 2000 <= found.year < 2200:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time from 2000 to 2199")
    return found.astimezone(UTC)


def ratios(text: str) -> tuple[float, ...]:
    """Read ratios, separated by commas."""
    shares = tuple(float(part) for part in text.split(","))
    if not all(0 <= ratio <= 1 for ratio in shares):
        raise argparse.ArgumentTypeError(f"{text!r} are not ratios from 0.0 to 1.0")
    return shares


def percent(text: str) -> float:
    """Read a percentage; returns the share."""
    number = float(text)
    if not 0 <= number <= 500:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 500")
    return number / 100
