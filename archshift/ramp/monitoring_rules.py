"""Recording rules and alerts, as Prometheus reads them, and where they go. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from archshift.common.architectures import AMD64, ARM64
from archshift.ramp.figures import FIGURES, LEAST_EVENTS, Figure, Tolerance, Tolerances
from archshift.ramp.promql import NODE_ARCH, POD_ARCH, AppMetrics, Expressions, workloads_matcher

_PER_DAY: Final = 24 * 60 // 5
"""Ranges of five minutes in a day: what is recorded of events becomes events a day."""

_OFF_BY: Final = 0.05
"""Share of the fleet by which observed may differ from wanted: rollouts, autoscalers."""


# A vCPU of Graviton is a core and one of x86 mostly half of one: usage is not compared by the gate.
_CPU: Final = Figure(
    name="cpu", title="CPU of a pod", unit="cores", tolerance=Tolerance(0.5), relative=True, slack=0.05
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MonitoringSettings:
    """What the stack config says.

    Attributes:
        namespace: Where the objects are made; it has to be there.
        labels: On the rules: what the operator selects rules by.
        dashboard_labels: On the dashboard: what Grafana's sidecar looks for.
    """

    namespace: str
    labels: Mapping[str, str] = field(default_factory=dict)
    dashboard_labels: Mapping[str, str] = field(default_factory=lambda: {"grafana_dashboard": "1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedFleet:
    """What is wanted of the fleet.

    Attributes:
        workloads: Keys of the workloads that make it up.
        wanted: Share of their pods wanted on Graviton.
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
        namespaces: Only these; empty for all but the system's.
        metrics: The applications' metrics.
        tolerances: From where on the alerts speak: the gate's.
        fleet: What is wanted of it; None leaves the shares out.
    """
    expressions = Expressions(namespaces=tuple(namespaces), metrics=metrics or AppMetrics(), recorded=True)
    recording = [
        _record(NODE_ARCH, expressions.node_arch()),
        _record(POD_ARCH, expressions.pod_arch()),
        *(_record(f"archshift:workload_{name}", text) for name, text in _recorded(expressions).items()),
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
    """Writes expressions of several lines as they are."""


def _literal(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _literal)


def _record(name: str, expression: str) -> dict[str, Any]:
    return {"record": name, "expr": expression}


def _recorded(expressions: Expressions) -> dict[str, str]:
    containers = {
        "pods": expressions.workload_pods(),
        "cpu_cores:rate5m": expressions.cpu(),
        "cpu_periods:rate5m": expressions.cpu_periods(),
        "cpu_throttled_periods:rate5m": expressions.cpu_throttled(),
        "memory_bytes": expressions.memory(),
        "restarts:increase5m": expressions.restarts(),
        "oom_kills:increase5m": expressions.oom_kills(),
    }
    applications: dict[str, str] = {}
    if expressions.metrics.requests:
        applications |= {
            "requests:rate5m": expressions.requests(),
            "errors:rate5m": expressions.errors(),
        }
    if expressions.metrics.latency:
        applications["latency_p95_seconds:rate5m"] = expressions.latency_p95()
    return {**containers, **applications}


def _fleet(fleet: PlannedFleet) -> list[dict[str, Any]]:
    pods = f"archshift:workload_pods{{{workloads_matcher(fleet.workloads)}}}"
    # At a share of 0 no pod is counted on Graviton: that is 0 too.
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
        "The share of pods on Graviton is not what is wanted",
        "Off by {{ $value | humanizePercentage }} of the fleet; archshift status says which workloads.",
    )


def _alerts(expressions: Expressions, tolerances: Tolerances) -> list[dict[str, Any]]:
    unknown = _alert(
        "ArchshiftNodeArchitectureUnknown",
        expressions.nodes_without_arch(),
        "15m",
        "The architecture of node {{ $labels.node }} cannot be told",
        "Give kube-state-metrics --metric-labels-allowlist=nodes=[kubernetes.io/arch]; without it, pods on "
        "this node are in no figure of archshift's.",
    )
    compared: list[tuple[str, str, str, str, Figure]] = [
        ("Cpu", "needs more CPU", "{{ $value | humanize }} cores a pod", _series("cpu_cores:rate5m"), _CPU),
        (
            "Throttled",
            "is throttled more",
            "{{ $value | humanizePercentage }} of its periods",
            _ratio("cpu_throttled_periods:rate5m", "cpu_periods:rate5m"),
            FIGURES["cpu_throttling"],
        ),
        (
            "Memory",
            "needs more memory",
            "{{ $value | humanize1024 }}B a pod",
            _series("memory_bytes"),
            FIGURES["memory"],
        ),
        (
            "Restarts",
            "restarts more",
            "{{ $value | humanize }} times a pod and day",
            _events("restarts"),
            FIGURES["restarts"],
        ),
        (
            "OomKills",
            "is killed for memory more",
            "{{ $value | humanize }} times a pod and day",
            _events("oom_kills"),
            FIGURES["oom_kills"],
        ),
    ]
    if expressions.metrics.latency:
        latency = _series("latency_p95_seconds:rate5m")
        compared.append(
            (
                "Latency",
                "is slower",
                "p95 is {{ $value | humanizeDuration }}",
                latency,
                FIGURES["latency_p95"],
            )
        )
    if expressions.metrics.requests:
        errors = _ratio("errors:rate5m", "requests:rate5m")
        compared.append(
            (
                "Errors",
                "fails more",
                "{{ $value | humanizePercentage }} of its requests",
                errors,
                FIGURES["error_ratio"],
            )
        )
    return [unknown] + [
        _alert(
            f"ArchshiftGraviton{name}",
            _worse(text, figure, tolerances),
            "30m",
            f"{{{{ $labels.workload }}}} {what} on Graviton than on x86",
            f"{value}; archshift gate says whether the ramp may go on.",
            arch=ARM64,
        )
        for name, what, value, text, figure in compared
    ]


def _series(name: str) -> str:
    return f"archshift:workload_{name}{{ARCH}}"


def _ratio(part: str, whole: str) -> str:
    # Of what never failed or was never throttled there may be no series: that is none.
    return f"(({_series(part)} or 0 * {_series(whole)}) / {_series(whole)})"


def _events(name: str) -> str:
    last_hour = f"avg_over_time({_series(f'{name}:increase5m')}[1h])"
    return f"({_PER_DAY} * ({last_hour} or 0 * {_series('pods')}) / {_series('pods')})"


def _worse(text: str, figure: Figure, tolerances: Tolerances) -> str:
    graviton, x86 = (text.replace("ARCH", f'arch="{arch}"') for arch in (ARM64, AMD64))
    hold = tolerances.get(figure.name, figure.tolerance).hold
    if figure.relative:
        limit = f"{1 + hold:g} * {x86} + {figure.slack:g}"
    else:
        limit = f"{x86} + {hold + figure.slack:g}"
    worse = f"{graviton}\n> ignoring (arch)\n({limit})"
    if figure.unit == "events":
        counted = _series(f"{figure.name}:increase5m").replace("ARCH", f'arch="{ARM64}"')
        worse += f"\nand ignoring (arch)\n{_PER_DAY // 24} * avg_over_time({counted}[1h]) >= {LEAST_EVENTS}"
    return worse


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
