"""The table of workloads, as the subcommands print it."""

from collections.abc import Callable, Sequence

from rich.console import Console
from rich.table import Table

from archshift.plan import Plan, PlannedWorkload


def print_workloads(
    plan: Plan,
    columns: Sequence[str],
    numbers: Callable[[PlannedWorkload], Sequence[int | None]],
    note: Callable[[PlannedWorkload], tuple[str, str | None]],
) -> Console:
    """Print a row a workload and the pods that nobody steers; returns the console for what follows.

    Args:
        plan: The plan.
        columns: The headings: of the numbers, then of the note.
        numbers: A row's numbers, behind its pods; None prints as a dash.
        note: A row's note and style.
    """
    # Names and reasons come from clusters and registries: brackets in them are no markup.
    console = Console(markup=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("WORKLOAD", overflow="fold")
    for name in ("PODS", *columns[:-1]):
        table.add_column(name, justify="right")
    table.add_column(columns[-1], overflow="fold")
    for row in plan.workloads:
        pods = None if row.kind in ("DaemonSet", "CronJob") else row.replicas
        text, style = note(row)
        counts = ("-" if number is None else str(number) for number in (pods, *numbers(row)))
        table.add_row(row.key, *counts, text, style=style)
    console.print(table)
    for key, reason in sorted(plan.others.items()):
        console.print(f"{key}: {reason}", highlight=False, style="dim")
    console.print()
    return console


def joined(*parts: str) -> str:
    """Join what there is to say of a row."""
    return "; ".join(filter(None, parts))
