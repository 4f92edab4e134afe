"""One record of ``figures.py`` is all that a figure needs."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from archshift.common.architectures import AMD64, ARM64
from archshift.ramp import figures
from archshift.ramp.figure_kinds import Mean, Metric
from archshift.ramp.figures import Alert, Figure, Panel, Tolerance, exported_metrics
from archshift.ramp.gate import GateSettings, judge
from archshift.ramp.measurement import MeasuredWindow, Measurer, PrometheusError, Sample, Series
from archshift.ramp.monitoring_dashboard import dashboard
from archshift.ramp.monitoring_rules import rules
from archshift.ramp.promql import AppMetrics, Expressions
from tests.build import load
from tools.figures import documents

END = datetime(2026, 3, 10, 12, tzinfo=UTC)
WORKLOAD = "shop/Deployment/catalog"

RETRANSMITS = Metric(
    name="retransmits",
    query=lambda cluster: cluster.of_applications("tcp_retransmits_total"),
    recorded="retransmits:rate5m",
    meaning="TCP segments that are sent again, a second",
    exported="tcp_retransmits_total",
)
MADE_UP = Figure(
    name="retransmits",
    title="TCP retransmits",
    group="usage",
    measured_as="segments a second that are sent again",
    unit="number",
    kind=Mean(RETRANSMITS),
    tolerance=Tolerance(0.5, 2.0),
    alert=Alert("Retransmits", "retransmits more", "{{ $value | humanize }} segments a second"),
    panels=(Panel("TCP retransmits", "short", RETRANSMITS),),
)


class FakePrometheus:
    """Answers every range with 1, but retransmits on Graviton with 2."""

    def query_range(self, query: str, begin: datetime, end: datetime, step: timedelta) -> list[Series]:
        if "unless" in query:
            return []
        times = [begin + step * index for index in range(round((end - begin) / step) + 1)]
        return [
            Series(
                {"workload": WORKLOAD, "arch": arch},
                {
                    moment.timestamp(): 2.0 if arch == ARM64 and "tcp_retransmits" in query else 1.0
                    for moment in times
                },
            )
            for arch in (ARM64, AMD64)
        ]

    def query(self, query: str, at: datetime) -> list[Sample]:
        """Answer a query at a time: two buckets of a histogram."""
        del query, at
        return [
            Sample({"workload": WORKLOAD, "arch": arch, "le": bound}, 1e6)
            for arch in (ARM64, AMD64)
            for bound in ("0.1", "+Inf")
        ]


def test_a_record_in_the_table_is_measured_judged_recorded_drawn_and_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing else has to know a new figure: no query, setting, rule, alert, panel or check of the doctor."""
    monkeypatch.setattr(figures, "MONITORED", (*figures.MONITORED, MADE_UP))
    monkeypatch.setitem(figures.FIGURES, MADE_UP.name, MADE_UP)
    measurer = Measurer(FakePrometheus(), Expressions())  # type: ignore[arg-type]
    now = measurer.measure(MeasuredWindow.until(END, timedelta(hours=6)), graviton=True)
    assert now.problem == ""
    since = END - timedelta(days=7)
    soak = timedelta(hours=24)
    verdict = judge(arm_ratio=0.5, at=END, since=since, soak=soak, gate=GateSettings(), caps={}, now=now)
    assert verdict.reasons[0] == (
        f"{WORKLOAD}: TCP retransmits 2.00 on Graviton, 1.00 on x86; up to 1.50 passes"
    )
    assert load(gate={"tolerances": {"retransmits": {"hold": 1}}}).gate.tolerances[
        "retransmits"
    ] == Tolerance(1, 2)
    content = rules()["groups"]
    names = [rule.get("record", rule.get("alert")) for group in content for rule in group["rules"]]
    assert "archshift:workload_retransmits:rate5m" in names
    assert "ArchshiftGravitonRetransmits" in names
    assert "TCP retransmits" in [panel["title"] for panel in json.loads(dashboard())["panels"]]
    assert RETRANSMITS in exported_metrics(AppMetrics(), "failures", "usage")
    gate, monitoring = documents().values()
    assert "| `retransmits` | segments a second that are sent again | x86 + 0.5 | x86 + 2 |" in gate
    assert "| `retransmits:rate5m` | TCP segments that are sent again, a second |" in monitoring
    assert "| `ArchshiftGravitonRetransmits` | retransmits more | x86 + 0.5 |" in monitoring


class Pods(FakePrometheus):
    """A workload with one pod on x86, and so many on Graviton in the first and the last steps."""

    def __init__(self, first: float, last: float, unplaced: float = 0.0) -> None:
        self.first, self.last, self.unplaced = first, last, unplaced

    def query_range(self, query: str, begin: datetime, end: datetime, step: timedelta) -> list[Series]:
        x86, *_ = super().query_range("", begin, end, step)
        times = sorted(x86.values)
        middle = len(times) // 2
        if "unless" in query:
            return [Series({}, dict.fromkeys(times, self.unplaced))] if self.unplaced else []
        on_graviton = dict.fromkeys(times[:middle], self.first) | dict.fromkeys(times[middle:], self.last)
        return [
            Series({"workload": WORKLOAD, "arch": AMD64}, dict.fromkeys(times, 1.0)),
            Series(
                {"workload": WORKLOAD, "arch": ARM64},
                {at: number for at, number in on_graviton.items() if number},
            ),
        ]


def test_the_share_of_a_workload_over_time() -> None:
    """Without pods on Graviton there is no series, which means 0."""
    window = MeasuredWindow.until(END, timedelta(hours=6))
    measurer = Measurer(Pods(0, 3), Expressions())  # type: ignore[arg-type]
    found = measurer.shares(window)[WORKLOAD]
    assert (found.lowest, found.highest) == (0, 0.75)
    # Of 4 pods in a half and 1 in the other.
    assert found.mean == pytest.approx(0.6, abs=0.01)


def test_shares_are_not_known_without_the_architecture_of_nodes() -> None:
    window = MeasuredWindow.until(END, timedelta(hours=6))
    measurer = Measurer(Pods(1, 1, unplaced=1), Expressions())  # type: ignore[arg-type]
    with pytest.raises(PrometheusError, match=r"the architecture of .* of the pods is unknown"):
        measurer.shares(window)


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.name)
def test_the_documents_have_the_tables_of_the_figures(document: Path) -> None:
    """``python -m tools.figures`` writes them."""
    assert document.read_text() == documents()[document]


def test_each_recorded_series_alert_and_panel_is_of_one_figure() -> None:
    """Two rules of one name are one series with two meanings."""
    for titles in (
        [metric.recorded for metric in figures.recorded_metrics(AppMetrics())],
        [figure.alert.name for figure in figures.MONITORED],
        [panel.title for figure in figures.MONITORED for panel in figure.panels],
    ):
        assert len(set(titles)) == len(titles)
