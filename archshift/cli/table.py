"""How the subcommands print for people: the console, and the table of workloads."""

import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TextIO, cast

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    # Every subcommand prints tables; some of no plan.
    from archshift.plan.model import Plan, PlannedWorkload

_WIDE: Final = 2000
"""Columns where nobody looks at a line: programs such as grep and less want a row to be one."""


class _Trimmed(io.TextIOBase):
    """A file to which lines are written without the blanks that fill a table's last column."""

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
    def on_broken_pipe(self) -> None:
        """Leave it to the entry point, which knows the command's exit codes."""
        raise BrokenPipeError


def console(file: TextIO | None = None) -> Console:
    """Return the console on which a subcommand prints; names of clusters and registries are no markup.

    On a terminal lines are as long as it is wide; elsewhere a row stays one line, unless COLUMNS is set.

    Args:
        file: Where to print; standard output by default.
    """
    file = file or sys.stdout
    out = _Console(file=file, markup=False, emoji=False, highlight=False)
    if not out.is_terminal:
        out.file = cast(TextIO, _Trimmed(file))
        if "COLUMNS" not in os.environ:
            out.width = _WIDE
    return out


def plain_table() -> Table:
    """Return a table without lines, as all subcommands have it."""
    return Table(box=None, pad_edge=False, header_style="bold")


def print_workloads(
    plan: "Plan",
    columns: Sequence[str],
    numbers: Callable[["PlannedWorkload"], Sequence[int | None]],
    note: Callable[["PlannedWorkload"], tuple[str, str | None]],
) -> Console:
    """Print a row a workload and the pods that nobody steers; returns the console for what follows.

    Args:
        plan: The plan.
        columns: The headings: of the numbers, then of the note.
        numbers: A row's numbers, behind its pods; None prints as a dash.
        note: A row's note and style.
    """
    out = console()
    table = plain_table()
    table.add_column("WORKLOAD", overflow="fold")
    for name in ("PODS", *columns[:-1]):
        table.add_column(name, justify="right")
    table.add_column(columns[-1], overflow="fold")
    for row in plan.workloads:
        pods = None if row.kind in ("DaemonSet", "CronJob") else row.replicas
        text, style = note(row)
        counts = ("-" if number is None else str(number) for number in (pods, *numbers(row)))
        table.add_row(row.key, *counts, text, style=style)
    out.print(table)
    for key, reason in sorted(plan.unsteered_reasons.items()):
        out.print(f"{key}: {reason}", style="dim")
    out.print()
    return out


def joined(*parts: str) -> str:
    """Join what there is to say of a row."""
    return "; ".join(filter(None, parts))
