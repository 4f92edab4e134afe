"""The gate's figures: one record holds everything of a figure. Pure.

A new figure is a new record in ``MONITORED``, with its metrics above. The gate's queries and verdicts, its
settings, the recording rules, the alerts, the dashboard and ``archshift doctor`` follow the table;
``python -m tools.figures`` writes the tables of docs/gate.md and docs/monitoring.md from it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from archshift.ramp.figure_kinds import (
    PODS,
    Events,
    FigureKind,
    FigureValue,
    Histogram,
    Mean,
    Metric,
    Percentile,
    Proof,
    Query,
    Ratio,
)
from archshift.ramp.promql import AppMetrics, Expressions, block

Verdict = Literal["pass", "hold", "step-back", "unknown"]
Severity = Literal["pass", "hold", "step-back"]
Group = Literal["latency", "requests", "failures", "usage"]
"""Figures of a group are shown together. The first two need the metric of that name in ``AppMetrics``."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much worse Graviton may be.

    Attributes:
        hold: More than this holds the ramp.
        step_back: More than this makes a step back; infinite means never.
    """

    hold: float
    step_back: float = math.inf


@dataclass(frozen=True, slots=True)
class Alert:
    """The alert that Graviton is worse than x86 by more than ``hold``.

    Attributes:
        name: Follows ``ArchshiftGraviton``.
        comparison: The words between the workload and "on Graviton than on x86".
        value: The value, as a Prometheus template.
    """

    name: str
    comparison: str
    value: str


@dataclass(frozen=True, slots=True)
class Panel:
    """A graph of the dashboard.

    Attributes:
        title: Its heading.
        unit: Its unit in Grafana.
        shows: The figure or metric in it, by workload and architecture.
    """

    title: str
    unit: str
    shows: FigureKind | Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Everything about one figure of the gate.

    Attributes:
        name: Its key in the settings and in the evidence.
        title: Its name for people.
        group: Its group.
        measured_as: Its description in docs/gate.md.
        unit: ``s``, ``share``, ``bytes``, ``events`` (a pod and day) or ``number``.
        kind: How its value is computed from metrics.
        tolerance: The default: a share of x86's value if ``relative``, otherwise a difference.
        relative: Whether the limit is a multiple of x86's value.
        slack: A difference that is always permitted in addition: 10 % of a millisecond is noise.
        judged: Whether the gate judges it. Otherwise only the alert compares it.
        of_every_pod: Whether every pod has it. Then it is unknown if neither side has it.
        counted: Whether it needs ``min_samples`` requests or periods.
        few_are_fine: With too few samples it is left out. Otherwise it is unknown.
        alert: Its alert.
        panels: Its graphs.
    """

    name: str
    title: str
    group: Group
    measured_as: str = ""
    unit: Literal["s", "share", "bytes", "events", "number"]
    kind: FigureKind
    tolerance: Tolerance
    relative: bool = False
    slack: float = 0.0
    judged: bool = True
    of_every_pod: bool = False
    counted: bool = False
    few_are_fine: bool = False
    alert: Alert
    panels: tuple[Panel, ...]

    @property
    def full_title(self) -> str:
        """Its name for people, with the unit of its events."""
        return self.title + (" a pod and day" if self.unit == "events" else "")

    def limit(self, base: float, worse_by: float) -> float:
        """Return the largest value that Graviton may have if x86 has ``base``."""
        return base * (1 + worse_by) + self.slack if self.relative else base + worse_by + self.slack

    def severity(self, graviton: float, base: float, tolerance: Tolerance) -> Severity:
        """Judge Graviton's value against x86's; both are numbers from 0."""
        if graviton > self.limit(base, tolerance.step_back):
            return "step-back"
        return "hold" if graviton > self.limit(base, tolerance.hold) else "pass"


# --- the metrics ----------------------------------------------------------------------------


def _containers(aggregation: str, metric: str, *, rate: bool = True) -> Query:
    return lambda cluster: cluster.of_containers(aggregation, metric, rate=rate)


def _requests(cluster: Expressions, matcher: str = "") -> str:
    return cluster.of_applications(cluster.metrics.requests, matcher)


def _errors(cluster: Expressions) -> str:
    return _requests(cluster, cluster.metrics.errors)


def _requests_with_the_label(cluster: Expressions) -> str:
    return _requests(cluster, f'{cluster.metrics.errors_label}!=""')


def _latency_buckets(cluster: Expressions, matcher: str = "") -> str:
    return cluster.of_applications(f"{cluster.metrics.latency}_bucket", matcher, by=("le",))


def _latency_count(cluster: Expressions) -> str:
    return _latency_buckets(cluster, 'le="+Inf"')


def _latency_p95(cluster: Expressions) -> str:
    return block("histogram_quantile", f"0.95,\n{_latency_buckets(cluster)}")


def _restarts_by_container(cluster: Expressions) -> str:
    by = "by (namespace, pod, uid, container)"
    metric = f"kube_pod_container_status_restarts_total{cluster.where()}"
    # Rates lose events between two ranges and stretch the others; differences are exact. A pod that is
    # younger than the range has no difference.
    difference = f"max {by} ({metric})\n- max {by} ({metric} offset {cluster.over})"
    exact = block("clamp_min", f"{difference},\n0")
    return block("", f"{exact}\nor\nmax {by} (increase({metric}[{cluster.over}]))")


def _restarts(cluster: Expressions) -> str:
    return cluster.by_workload("sum", block("sum by (namespace, pod)", _restarts_by_container(cluster)))


def _oom_kills(cluster: Expressions) -> str:
    killed = cluster.where('reason="OOMKilled"')
    last_reason = (
        "max by (namespace, pod, uid, container) "
        f"(kube_pod_container_status_last_terminated_reason{killed} == 1)"
    )
    restarts = f"{_restarts_by_container(cluster)}\n* on (namespace, pod, uid, container)\n{last_reason}"
    return cluster.by_workload("sum", block("sum by (namespace, pod)", restarts))


_LATENCY_COUNT: Final = Metric(
    name="latency", query=_latency_count, exported="{latency}_bucket", setting="latency"
)
_LATENCY_P95: Final = Metric(
    name="latency_p95",
    query=_latency_p95,
    recorded="latency_p95_seconds:rate5m",
    meaning="95 of 100 requests take less, in seconds",
)
_REQUESTS: Final = Metric(
    name="requests",
    query=_requests,
    recorded="requests:rate5m",
    meaning="requests a second",
    exported="{requests}",
    setting="requests",
)
_ERRORS: Final = Metric(
    name="errors",
    query=_errors,
    recorded="errors:rate5m",
    meaning="failed requests a second",
    # If no request ever failed, there may be no series. But the label must exist.
    proof=Proof(
        "requests with the label",
        _requests_with_the_label,
        lambda metrics: (
            f"no series of {metrics.requests} has the label {metrics.errors_label}; "
            "set archshift:gate.metrics.errors to a matcher of failed requests"
        ),
    ),
)
_RESTARTS: Final = Metric(
    name="restarts",
    query=_restarts,
    recorded="restarts:increase5m",
    meaning="restarts of containers within 5 minutes",
    exported="kube_pod_container_status_restarts_total",
)
_OOM_KILLS: Final = Metric(
    name="oom_kills",
    query=_oom_kills,
    recorded="oom_kills:increase5m",
    meaning="restarts within 5 minutes of containers that were last killed for memory",
)
_CPU: Final = Metric(
    name="cpu",
    query=_containers("avg", "container_cpu_usage_seconds_total"),
    recorded="cpu_cores:rate5m",
    meaning="CPU of a pod in cores, the mean",
    exported="container_cpu_usage_seconds_total",
)
_PERIODS: Final = Metric(
    name="periods",
    query=_containers("sum", "container_cpu_cfs_periods_total"),
    recorded="cpu_periods:rate5m",
    meaning="periods a second in which containers with a CPU limit ran",
)
_THROTTLED: Final = Metric(
    name="throttled",
    query=_containers("sum", "container_cpu_cfs_throttled_periods_total"),
    recorded="cpu_throttled_periods:rate5m",
    meaning="those of these periods in which the limit stopped them",
)
_MEMORY: Final = Metric(
    name="memory",
    query=_containers("avg", "container_memory_working_set_bytes", rate=False),
    recorded="memory_bytes",
    meaning="working set of a pod in bytes, the mean",
    exported="container_memory_working_set_bytes",
)

_P95: Final = Percentile(0.95, Histogram(_LATENCY_COUNT, _latency_buckets), estimate=_LATENCY_P95)
_ERROR_RATIO: Final = Ratio(_ERRORS, _REQUESTS)
_THROTTLING: Final = Ratio(_THROTTLED, _PERIODS)


# --- the figures ----------------------------------------------------------------------------

MONITORED: Final[tuple[Figure, ...]] = (
    Figure(
        name="latency_p95",
        title="p95 latency",
        group="latency",
        measured_as="95th percentile over the window",
        unit="s",
        kind=_P95,
        tolerance=Tolerance(0.10, 0.50),
        relative=True,
        slack=0.005,
        counted=True,
        alert=Alert("Latency", "is slower", "p95 is {{ $value | humanizeDuration }}"),
        panels=(Panel("p95 latency", "s", _P95),),
    ),
    Figure(
        name="error_ratio",
        title="errors",
        group="requests",
        measured_as="share of failed requests",
        unit="share",
        kind=_ERROR_RATIO,
        tolerance=Tolerance(0.005, 0.05),
        counted=True,
        alert=Alert("Errors", "fails more", "{{ $value | humanizePercentage }} of its requests"),
        panels=(Panel("Errors", "percentunit", _ERROR_RATIO), Panel("Requests", "reqps", _REQUESTS)),
    ),
    Figure(
        name="restarts",
        title="restarts",
        group="failures",
        measured_as="restarts of containers, a pod and day; a single one does not count",
        unit="events",
        kind=Events(_RESTARTS, counter=_RESTARTS),
        tolerance=Tolerance(0.5, 4.0),
        of_every_pod=True,
        alert=Alert("Restarts", "restarts more", "{{ $value | humanize }} times a pod and day"),
        panels=(Panel("Restarts in 5 minutes", "short", _RESTARTS),),
    ),
    Figure(
        name="oom_kills",
        title="OOM kills",
        group="failures",
        measured_as="restarts after a kill for memory",
        unit="events",
        kind=Events(_OOM_KILLS, counter=_RESTARTS),
        tolerance=Tolerance(0.25, 2.0),
        alert=Alert("OomKills", "is killed for memory more", "{{ $value | humanize }} times a pod and day"),
        panels=(Panel("OOM kills in 5 minutes", "short", _OOM_KILLS),),
    ),
    # A vCPU of Graviton is a core and one of x86 mostly half of one: the gate does not judge usage.
    Figure(
        name="cpu",
        title="CPU of a pod",
        group="usage",
        unit="number",
        kind=Mean(_CPU),
        tolerance=Tolerance(0.5),
        relative=True,
        slack=0.05,
        judged=False,
        alert=Alert("Cpu", "needs more CPU", "{{ $value | humanize }} cores a pod"),
        panels=(Panel("CPU of a pod, in cores", "short", _CPU),),
    ),
    Figure(
        name="cpu_throttling",
        title="CPU throttling",
        group="usage",
        measured_as="share of periods in which a CPU limit stopped the container",
        unit="share",
        kind=_THROTTLING,
        tolerance=Tolerance(0.10, 0.40),
        counted=True,
        few_are_fine=True,  # the container hardly ran, so the limit did not stop it
        alert=Alert("Throttled", "is throttled more", "{{ $value | humanizePercentage }} of its periods"),
        panels=(Panel("CPU throttling", "percentunit", _THROTTLING),),
    ),
    # More memory alone does no harm; its consequences are counted as OOM kills.
    Figure(
        name="memory",
        title="memory of a pod",
        group="usage",
        measured_as="mean working set of a pod",
        unit="bytes",
        kind=Mean(_MEMORY),
        tolerance=Tolerance(0.25),
        relative=True,
        slack=32 * 1024**2,
        of_every_pod=True,
        alert=Alert("Memory", "needs more memory", "{{ $value | humanize1024 }}B a pod"),
        panels=(Panel("Memory of a pod", "bytes", _MEMORY),),
    ),
)
"""All figures: those that the gate judges, and those that only an alert compares."""

FIGURES: Final = {figure.name: figure for figure in MONITORED if figure.judged}
"""The figures that the gate judges, by name."""


def figures_of(metrics: AppMetrics, *groups: Group) -> list[Figure]:
    """Return a stack's figures of these groups, group by group, with those that the gate does not judge.

    Args:
        metrics: The metrics of the stack's applications.
        groups: The groups in the wanted order.
    """
    missing = {"latency": not metrics.latency, "requests": not metrics.requests}
    return [
        figure for group in groups if not missing.get(group) for figure in MONITORED if figure.group == group
    ]


def measured_figures(metrics: AppMetrics) -> list[Figure]:
    """Return the figures that the gate measures."""
    figures = figures_of(metrics, "latency", "requests", "failures", "usage")
    return [figure for figure in figures if figure.judged]


def asked_metrics(metrics: AppMetrics, *groups: Group) -> list[Metric]:
    """Return the metrics that the gate asks for, each once. No group means all groups."""
    figures = figures_of(metrics, *(groups or ("failures", "usage", "requests", "latency")))
    return _each_once(figure.kind.asked for figure in figures if figure.judged)


def recorded_metrics(metrics: AppMetrics) -> list[Metric]:
    """Return the metrics that the rules record, each once."""
    figures = figures_of(metrics, "usage", "failures", "requests", "latency")
    return [PODS, *_each_once(figure.kind.recorded for figure in figures)]


def exported_metrics(metrics: AppMetrics, *groups: Group) -> list[Metric]:
    """Return the metrics of these groups that Prometheus must have, each once."""
    figures = figures_of(metrics, *groups)
    return [metric for metric in _each_once(figure.kind.asked for figure in figures) if metric.exported]


def _each_once(metrics: Iterable[tuple[Metric, ...]]) -> list[Metric]:
    return list({metric.name: metric for group in metrics for metric in group}.values())


# --- tolerances and verdicts ----------------------------------------------------------------

Tolerances = Mapping[str, Tolerance]
"""Figure name to tolerance; a missing figure has its default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadTolerances:
    """The settings of one workload (``archshift:gate.workloads``).

    Attributes:
        tolerances: Its own tolerances.
        min_samples: Its own minimum; None for the stack's.
        skip: The figures that the gate does not judge.
        reason: Why it does not judge them.
    """

    tolerances: Tolerances = field(default_factory=dict)
    min_samples: int | None = None
    skip: frozenset[str] = frozenset()
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FigureComparison:
    """The verdict on one figure of one workload.

    Attributes:
        figure: The figure's name.
        verdict: The verdict.
        graviton: The value on Graviton; None if there is none.
        base: The value it is compared with; None if there is none.
        limit: A larger value than this holds.
        reason: Why it does not pass; empty if it passes.
    """

    figure: str
    verdict: Verdict
    graviton: float | None = None
    base: float | None = None
    limit: float | None = None
    reason: str = ""


def compare(
    figure: Figure,
    mine: FigureValue | None,
    theirs: FigureValue | None,
    against: str,
    tolerance: Tolerance,
    min_samples: int,
) -> FigureComparison | None:
    """Compare one figure of a workload's pods on Graviton; None if there is nothing to judge.

    Args:
        figure: The figure.
        mine: Its value for the pods on Graviton; None if it is not measured.
        theirs: Its value for the pods they are compared with; None if it is not measured.
        against: The name of these other pods.
        tolerance: How much worse Graviton may be.
        min_samples: The least number of requests or periods on each side.
    """

    def unknown(reason: str) -> FigureComparison:
        return FigureComparison(
            figure=figure.name,
            verdict="unknown",
            graviton=_shown(mine),
            base=_shown(theirs),
            reason=f"{figure.title} {reason}",
        )

    if mine is None and theirs is None:
        return unknown("is measured on neither side") if figure.of_every_pod else None
    if mine is None or theirs is None:
        missing, other = ("Graviton", against) if mine is None else (against, "Graviton")
        return unknown(f"is measured on {other}, but not on {missing}")
    for name, reading in (("Graviton", mine), (against, theirs)):
        if reading.problem:
            return unknown(f"on {name} {reading.problem}")
    if figure.counted:
        if not mine.samples and not theirs.samples:
            return None
        if mine.samples < min_samples or theirs.samples < min_samples:
            if figure.few_are_fine:
                return None
            return unknown(
                f"needs {min_samples} requests on each side, but has {mine.samples:.0f} on Graviton and "
                f"{theirs.samples:.0f} on {against}"
            )
    severity: Verdict = figure.severity(mine.value, theirs.value, tolerance)
    if mine.samples < figure.kind.least_samples:
        severity = "pass"
    # Beyond the last bucket only a lower bound is known: bad is then certain, good is not.
    if mine.at_least and severity == "pass":
        return unknown("on Graviton is beyond the histogram's last bucket; give the histogram larger buckets")
    if theirs.at_least and severity != "pass":
        return unknown(
            f"on {against} is beyond the histogram's last bucket; give the histogram larger buckets"
        )
    limit = figure.limit(theirs.value, tolerance.hold)
    reason = ""
    if severity != "pass":
        values = [written(figure, number) for number in (mine.value, theirs.value, limit)]
        reason = (
            f"{figure.full_title} {values[0]} on Graviton, {values[1]} on {against}; up to {values[2]} passes"
        )
    return FigureComparison(
        figure=figure.name,
        verdict=severity,
        graviton=mine.value,
        base=theirs.value,
        limit=limit,
        reason=reason,
    )


def _shown(reading: FigureValue | None) -> float | None:
    return reading.value if reading and math.isfinite(reading.value) else None


def written(figure: Figure, number: float | None) -> str:
    """Return a figure's value for people."""
    if number is None:
        return "-"
    match figure.unit:
        case "s":
            return f"{number * 1000:.0f} ms" if number < 10 else f"{number:.1f} s"
        case "share":
            return f"{number:.2%}"
        case "bytes":
            return f"{number / 1024**2:.0f} MiB"
        case _:
            return f"{number:.2f}"
