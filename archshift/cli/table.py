"""Output for people: the console and the table of workloads. All its text passes ``printable``."""

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

from rich.console import Console
from rich.table import Table
from rich.text import Text

from archshift.cluster.kinds import has_replicas
from archshift.common.text import first_few, printable
from archshift.plan.reasons import troubles

if TYPE_CHECKING:
    # Not every subcommand prints a plan.
    from archshift.plan.model import Plan, PlannedWorkload

_WIDE: Final = 2000
"""Columns in a pipe: for grep and less, each row must be one line."""


class _Trimmed(io.TextIOBase):
    """A file that drops the blanks at the end of lines, which fill a table's last column."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        """Write whole lines."""
        self._file.write(re.sub(r" +(?=\n)", "", text))
        return len(text)

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


class _Console(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text printable, a line each: cells and sentences have names and words of others."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Raise, because the entry point knows the command's exit codes."""
        raise BrokenPipeError


def console(file: TextIO | None = None) -> Console:
    """Return the console of a subcommand, without markup: names come from clusters and registries.

    On a terminal, lines have its width. In a pipe, each row is one line, unless COLUMNS is set.

    Args:
        file: The output; standard output by default.
    """
    file = file or sys.stdout
    out = _Console(file=file, markup=False, emoji=False, highlight=False)
    if not out.is_terminal:
        out.file = cast(TextIO, _Trimmed(file))
        if "COLUMNS" not in os.environ:
            out.width = _WIDE
    return out


def plain_table() -> Table:
    """Return a table without borders."""
    return Table(box=None, pad_edge=False, header_style="bold")


def print_workloads(
    plan: "Plan",
    columns: Sequence[str],
    numbers: Callable[["PlannedWorkload"], Sequence[int | None]],
    note: Callable[["PlannedWorkload"], tuple[str, str | None]],
    *,
    rows: Sequence["PlannedWorkload"] | None = None,
) -> Console:
    """Print a row for each workload, then the workloads that archshift does not steer; returns the console.

    Args:
        plan: The plan.
        columns: The headings of the numbers, then of the note.
        numbers: The numbers of a row after its pods; None prints as a dash.
        note: The note and the style of a row.
        rows: Only these workloads; None for all.
    """
    out = console()
    table = plain_table()
    table.add_column("WORKLOAD", overflow="fold")
    for name in ("PODS", *columns[:-1]):
        table.add_column(name, justify="right")
    table.add_column(columns[-1], overflow="fold")
    for row in plan.workloads if rows is None else rows:
        pods = row.replicas if row.replicas or has_replicas(row.kind) else None
        text, style = note(row)
        counts = ("-" if number is None else str(number) for number in (pods, *numbers(row)))
        table.add_row(row.key, *counts, text, style=style)
    out.print(table)
    reasons: dict[str, list[str]] = {}
    for key, reason in sorted(plan.unsteered_reasons.items()):
        reasons.setdefault(reason, []).append(key)
    for reason, keys in reasons.items():
        out.print(f"{first_few(keys, 3)}: {reason}", style="dim")
    out.print()
    return out


def print_troubles(out: Console, plan: "Plan") -> None:
    """Print the pods of a plan that do not run, and the rollouts that make no progress."""
    for trouble in troubles(plan.troubles):
        out.print(trouble, style="red")
