"""Writes the tables of the gate's figures into the documents: ``python -m tools.figures``."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from archshift.ramp.figures import FIGURES, Figure, figures_of, recorded_metrics, written
from archshift.ramp.promql import AppMetrics

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"

_FIGURES: Final = "| figure | measured as | holds beyond | much worse beyond |"
_RECORDED: Final = "| `archshift:workload_` | meaning |"
_ALERTS: Final = "| alert | for 30 minutes, on Graviton, a workload | beyond |"


def documents() -> dict[Path, str]:
    """Return the documents with their tables as they must be.

    Raises:
        ValueError: A document has no table with such a heading.
    """
    gate, monitoring = DOCS / "gate.md", DOCS / "monitoring.md"
    recorded = _with_table(monitoring.read_text(), _RECORDED, _recorded())
    return {
        gate: _with_table(gate.read_text(), _FIGURES, _figures()),
        monitoring: _with_table(recorded, _ALERTS, _alerts()),
    }


def _with_table(text: str, heading: str, rows: Iterable[str]) -> str:
    before, _, after = text.partition(f"\n\n{heading}\n")
    old, _, rest = after.partition("\n\n")
    if not old:
        raise ValueError(f"no table begins with {heading}")
    columns = heading.count("|") - 1
    table = "\n".join([heading, "|" + " --- |" * columns, *rows])
    return f"{before}\n\n{table}\n\n{rest}"


def _figures() -> Iterable[str]:
    for figure in FIGURES.values():
        limits = (_limit(figure, figure.tolerance.hold), _limit(figure, figure.tolerance.step_back))
        yield f"| `{figure.name}` | {figure.measured_as} | {limits[0]} | {limits[1]} |"


def _recorded() -> Iterable[str]:
    for metric in recorded_metrics(AppMetrics()):
        yield f"| `{metric.recorded}` | {metric.meaning} |"


def _alerts() -> Iterable[str]:
    for figure in figures_of(AppMetrics(), "latency", "requests", "failures", "usage"):
        name, limit = f"ArchshiftGraviton{figure.alert.name}", _limit(figure, figure.tolerance.hold)
        yield f"| `{name}` | {figure.alert.comparison} | {limit} |"


def _limit(figure: Figure, worse_by: float) -> str:
    if math.isinf(worse_by):
        return "never"
    if figure.relative:
        limit = f"x86 + {worse_by * 100:g} %"
    elif figure.unit == "share":
        limit = f"x86 + {worse_by * 100:g} points"
    else:
        limit = f"x86 + {worse_by:g}"
    return f"{limit} + {written(figure, figure.slack)}" if figure.slack else limit


if __name__ == "__main__":
    for path, text in documents().items():
        path.write_text(text)
