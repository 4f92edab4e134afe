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
from archshift.ramp.measurement import MeasuredWindow, Measurer, Sample, Series
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
