"""The Grafana dashboard over the recorded series. Pure."""

import json
from dataclasses import dataclass
from typing import Any, Final

from archshift.ramp.figures import figures_of
from archshift.ramp.promql import AppMetrics

UID: Final = "archshift"
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 12, 8
_CHOSEN: Final = 'namespace=~"$namespace", workload=~"$workload"'


@dataclass(frozen=True, slots=True)
class _Panel:
    """A graph.

    Attributes:
        title: Its heading.
        unit: Its unit in Grafana.
        queries: Expression to legend.
    """

    title: str
    unit: str
    queries: dict[str, str]


def dashboard(metrics: AppMetrics | None = None) -> str:
    """Return the dashboard as the JSON that Grafana provisions."""
    panels = _panels(metrics or AppMetrics())
    return json.dumps(
        {
            "uid": UID,
            "title": "archshift: Graviton and x86",
            "tags": ["archshift"],
            "timezone": "utc",
            "schemaVersion": 39,
            "refresh": "1m",
            "time": {"from": "now-24h", "to": "now"},
            "templating": {"list": _variables()},
            "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
        },
        indent=1,
    )


def _panels(metrics: AppMetrics) -> list[_Panel]:
    share = "archshift:fleet_graviton_share"
    panels = [
        _Panel(
            "Share of the fleet's pods on Graviton",
            "percentunit",
            {f"{share}:wanted": "wanted", f"{share}:observed": "observed"},
        ),
        _Panel("Pods", "short", {f"sum by (arch) (archshift:workload_pods{{{_CHOSEN}}})": "{{arch}}"}),
    ]
    figures = figures_of(metrics, "latency", "requests", "usage", "failures")
    return panels + [
        _Panel(panel.title, panel.unit, {panel.shows.expression(_CHOSEN): "{{workload}} {{arch}}"})
        for figure in figures
        for panel in figure.panels
    ]


def _panel(number: int, panel: _Panel) -> dict[str, Any]:
    left = number % 2
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": left * _WIDTH, "y": number // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "options": {
            "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["mean", "lastNotNull"]},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {"refId": chr(ord("A") + index), "datasource": _SOURCE, "expr": query, "legendFormat": legend}
            for index, (query, legend) in enumerate(panel.queries.items())
        ],
    }


def _variables() -> list[dict[str, Any]]:
    pods = "archshift:workload_pods"
    return [
        {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Prometheus"},
        _variable("namespace", f"label_values({pods}, namespace)"),
        _variable("workload", f'label_values({pods}{{namespace=~"$namespace"}}, workload)'),
    ]


def _variable(name: str, query: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": "query",
        "label": name.capitalize(),
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "includeAll": True,
        "multi": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "sort": 1,
    }
