"""Recording rules and alerts as Prometheus reads them, and the settings of where they go. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from archshift.common.architectures import AMD64, ARM64
from archshift.ramp.figures import Figure, Tolerances, figures_of, recorded_metrics
from archshift.ramp.promql import NODE_ARCH, POD_ARCH, AppMetrics, Expressions, workloads_matcher

_OFF_BY: Final = 0.05
"""The share of the fleet by which the observed share may differ: because of rollouts and autoscalers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSettings:
    """``archshift:monitoring``.

    Attributes:
        namespace: The namespace of the objects; it must exist.
        labels: Labels of the rules, by which the operator selects them.
        dashboard_labels: Labels of the dashboard, by which Grafana's sidecar finds it.
    """

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    dashboard_labels: Mapping[str, str] = field(default_factory=lambda: {"grafana_dashboard": "1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFleet:
    """The fleet and its wanted share.

    Attributes:
        workloads: The keys of its workloads.
        wanted: The wanted share of their pods on Graviton.
    """

    workloads: Sequence[str]
    wanted: float


def rules(
    *,
    namespaces: Sequence[str] = (),
    metrics: AppMetrics | None = None,
    tolerances: Tolerances | None = None,
    fleet: PlannedFleet | None = None,
) -> dict[str, Any]:
    """Return the rule groups: the content of a rule file, and of a PrometheusRule's spec.

    Args:
        namespaces: Only these; empty means all but the system's.
        metrics: The applications' metrics.
        tolerances: The gate's tolerances, which are the alerts' limits.
        fleet: The fleet; None leaves out the shares.
    """
    expressions = Expressions(namespaces=tuple(namespaces), metrics=metrics or AppMetrics(), recorded=True)
    recording = [
        _record(NODE_ARCH, expressions.node_arch()),
        _record(POD_ARCH, expressions.pod_arch()),
        *(
            _record(f"archshift:workload_{metric.recorded}", metric.query(expressions))
            for metric in recorded_metrics(expressions.metrics)
        ),
    ]
    groups = [
        {"name": "archshift.workloads", "interval": "1m", "rules": recording},
        {"name": "archshift.alerts", "rules": _alerts(expressions, tolerances or {})},
    ]
    if fleet:
        groups.insert(1, {"name": "archshift.fleet", "interval": "1m", "rules": _fleet(fleet)})
    return {"groups": groups}


def as_text(content: dict[str, Any]) -> str:
    """Return the rules as a rule file's text."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, width=1_000_000, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Keeps the line breaks of expressions."""


def _literal(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _literal)


def _record(name: str, expression: str) -> dict[str, Any]:
    return {"record": name, "expr": expression}


def _fleet(fleet: PlannedFleet) -> list[dict[str, Any]]:
    pods = f"archshift:workload_pods{{{workloads_matcher(fleet.workloads)}}}"
    # At a share of 0 there is no series of pods on Graviton: that means 0.
    observed = f'(sum(archshift:fleet_pods{{arch="{ARM64}"}}) or vector(0))\n/ sum(archshift:fleet_pods)'
    return [
        _record("archshift:fleet_pods", f"sum by (arch) ({pods})"),
        _record("archshift:fleet_graviton_share:observed", observed),
        _record("archshift:fleet_graviton_share:wanted", f"vector({fleet.wanted:g})"),
        _share_alert(),
    ]


def _share_alert() -> dict[str, Any]:
    observed, wanted = (f"archshift:fleet_graviton_share:{which}" for which in ("observed", "wanted"))
    return _alert(
        "ArchshiftGravitonShareOff",
        f"abs({observed} - {wanted}) > {_OFF_BY:g}",
        "1h",
        "The share of pods on Graviton is not the wanted share",
        "It is off by {{ $value | humanizePercentage }} of the fleet; archshift status shows the workloads.",
    )


def _alerts(expressions: Expressions, tolerances: Tolerances) -> list[dict[str, Any]]:
    unknown = _alert(
        "ArchshiftNodeArchitectureUnknown",
        expressions.nodes_without_arch(),
        "15m",
        "The architecture of node {{ $labels.node }} is unknown",
        "Give kube-state-metrics --metric-labels-allowlist=nodes=[kubernetes.io/arch]; without it, archshift "
        "does not measure the pods on this node.",
    )
    figures = figures_of(expressions.metrics, "usage", "failures", "latency", "requests")
    return [unknown, *(_worse_alert(figure, tolerances) for figure in figures)]


def _worse_alert(figure: Figure, tolerances: Tolerances) -> dict[str, Any]:
    alert = figure.alert
    return _alert(
        f"ArchshiftGraviton{alert.name}",
        _worse(figure, tolerances),
        "30m",
        f"{{{{ $labels.workload }}}} {alert.comparison} on Graviton than on x86",
        f"{alert.value}; archshift gate says whether the next step is permitted.",
        arch=ARM64,
    )


def _worse(figure: Figure, tolerances: Tolerances) -> str:
    on_graviton, on_x86 = (f'arch="{arch}"' for arch in (ARM64, AMD64))
    x86 = figure.kind.operand(on_x86)
    hold = tolerances.get(figure.name, figure.tolerance).hold
    if figure.relative:
        limit = f"{1 + hold:g} * {x86} + {figure.slack:g}"
    else:
        limit = f"{x86} + {hold + figure.slack:g}"
    conditions = [f"{figure.kind.operand(on_graviton)}\n> ignoring (arch)\n({limit})"]
    if enough := figure.kind.enough(on_graviton):
        conditions.append(enough)
    return "\nand ignoring (arch)\n".join(conditions)


def _alert(
    name: str, expression: str, lasting: str, summary: str, description: str, **labels: str
) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": "warning", **labels},
        "annotations": {"summary": summary, "description": description},
    }
