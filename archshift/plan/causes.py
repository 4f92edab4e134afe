"""Groups workloads by why archshift does not move them: one registry that is away may hold hundreds. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from archshift.common.text import counted, first_few
from archshift.plan.model import PlannedWorkload

SHOWN_CAUSES: Final = 8
"""How many causes a log shows; ``archshift plan`` shows every workload."""

_SHOWN_WORKLOADS: Final = 3


@dataclass(frozen=True, slots=True)
class Cause:
    """What several workloads have in common.

    Attributes:
        text: Why archshift does not move them.
        rows: These workloads, those with the most pods first.
    """

    text: str
    rows: tuple[PlannedWorkload, ...]

    @property
    def pods(self) -> int:
        """The number of their pods."""
        return sum(row.replicas for row in self.rows)

    def __str__(self) -> str:
        first = self.rows[0]
        if len(self.rows) == 1:
            return f"{first.key}: {first.reason}"
        names = first_few(self.rows, _SHOWN_WORKLOADS, name=lambda row: row.key)
        workloads = f"{counted(len(self.rows), 'workload')} with {counted(self.pods, 'pod')}"
        return f"{workloads} do not move: {self.text}: {names}"


def by_cause(rows: Iterable[PlannedWorkload]) -> list[Cause]:
    """Return the causes of these workloads, those with the most pods first."""
    groups: dict[str, list[PlannedWorkload]] = {}
    for row in rows:
        groups.setdefault(row.cause, []).append(row)
    causes = [
        Cause(text, tuple(sorted(members, key=lambda row: (-row.replicas, row.key))))
        for text, members in groups.items()
    ]
    return sorted(causes, key=lambda cause: (-cause.pods, -len(cause.rows), cause.text))


def summary(rows: Iterable[PlannedWorkload]) -> list[str]:
    """Return a sentence for each of the largest causes, and one for the rest."""
    causes = by_cause(rows)
    rest = causes[SHOWN_CAUSES:]
    sentences = list(map(str, causes[:SHOWN_CAUSES]))
    if rest:
        workloads = counted(sum(len(cause.rows) for cause in rest), "workload")
        sentences.append(
            f"{workloads} for {counted(len(rest), 'other reason')}; archshift plan prints each of them"
        )
    return sentences
