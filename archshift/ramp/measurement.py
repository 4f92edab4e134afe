"""Asks Prometheus about each workload on each architecture, over a window. Reads only."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from archshift.common.architectures import AMD64, ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.times import short
from archshift.ramp.figure_kinds import COVERED, FigureValue, Query, Total, Totals
from archshift.ramp.figures import Figure, asked_metrics, measured_figures
from archshift.ramp.promql import AppMetrics, Expressions

if TYPE_CHECKING:
    from archshift.ramp.prometheus import Prometheus

STEP: Final = timedelta(minutes=5)
_MOST_STEPS: Final = 96

_UNPLACED: Final = 0.05
"""The largest share of pods on nodes of unknown architecture: a new node is not known at once."""

_CLOCK_SECONDS: Final = 60.0


class PrometheusError(ArchshiftError):
    """Prometheus did not answer a query, so nothing is known."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value at a time.

    Attributes:
        labels: The labels of the series.
        value: The value; it may be NaN or infinite.
    """

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One series' values over a time.

    Attributes:
        labels: The labels of the series.
        values: Unix time to value.
    """

    labels: Mapping[str, str]
    values: Mapping[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureFigures:
    """A workload's pods on one architecture.

    Attributes:
        hours: The time with at least one pod.
        pod_hours: The hours of all pods.
        pods: The number of pods at the end.
        figures: Figure name to value; a figure that is not measured is missing.
    """

    hours: float
    pod_hours: float
    pods: int
    figures: Mapping[str, FigureValue] = field(default_factory=dict)


FiguresByWorkload = Mapping[str, Mapping[str, ArchitectureFigures]]
"""Workload key to architecture to its pods."""

_Buckets = Mapping[tuple[str, str], Mapping[float, float]]
"""Workload and architecture to a histogram's buckets: upper bound to observations up to it."""


@dataclass(frozen=True, slots=True)
class RecordedQuery:
    """A query with all that is needed to repeat it.

    Attributes:
        name: The name of what it measures.
        query: The expression.
        brief: The same with the names of recorded series in it.
        begin: The first evaluation; None for a single one at the end.
        end: The last evaluation.
        step: The time between two evaluations.
    """

    name: str
    query: str
    brief: str
    begin: datetime | None
    end: datetime
    step: timedelta


@dataclass(frozen=True, slots=True)
class MeasuredWindow:
    """A time in equal steps.

    Attributes:
        end: The end.
        steps: The number of steps.
        step: The length of a step.
    """

    end: datetime
    steps: int
    step: timedelta

    @property
    def first(self) -> datetime:
        """The first step's end."""
        return self.end - self.step * (self.steps - 1)

    @property
    def length(self) -> timedelta:
        """The whole time."""
        return self.step * self.steps

    @property
    def hours(self) -> float:
        """The whole time in hours."""
        return self.length / timedelta(hours=1)

    @classmethod
    def until(cls, end: datetime, length: timedelta) -> "MeasuredWindow":
        """Return a window of about this length that ends then; it may have no step."""
        # More steps add little information but cost proportionally more.
        minutes = max(STEP, length / _MOST_STEPS) / timedelta(minutes=1)
        step = timedelta(minutes=math.ceil(minutes))
        return cls(end, int(length / step), step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is known about a window.

    Attributes:
        window: The window.
        sides: The measured workloads.
        problem: A sentence that says why the measurement is unreliable; empty if it is reliable.
    """

    window: MeasuredWindow
    sides: FiguresByWorkload = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRange:
    """The share of a workload's pods on Graviton over a window.

    Attributes:
        lowest: The lowest share.
        highest: The highest share.
        mean: The share of its pod hours.
    """

    lowest: float
    highest: float
    mean: float


class Measurer:
    """Queries Prometheus and keeps its queries.

    Args:
        prometheus: The connection.
        expressions: The cluster's expressions; their ``over`` is replaced by each window's step.
    """

    def __init__(self, prometheus: "Prometheus", expressions: Expressions) -> None:
        self._prometheus = prometheus
        self._cluster = expressions
        self.queries: list[RecordedQuery] = []

    def clock_problem(self, at: datetime, now: datetime | None) -> ArchshiftError | None:
        """Return what is wrong with Prometheus' clock; None if it is right.

        Args:
            at: The time to judge.
            now: This machine's time; None if ``at`` is not the present.
        """
        theirs = self._prometheus.clock()
        off = (theirs - (now or theirs)).total_seconds()
        if abs(off) > _CLOCK_SECONDS:
            direction = "ahead of" if off > 0 else "behind"
            return ArchshiftError(
                f"Prometheus' clock is {abs(off):.0f} s {direction} this machine's", "set both clocks by NTP"
            )
        if at > theirs + timedelta(seconds=_CLOCK_SECONDS):
            return ArchshiftError(f"{_clock(at)} is in Prometheus' future", "give a time in the past")
        return None

    def measure(self, window: MeasuredWindow, *, graviton: bool) -> Measurement:
        """Measure a window.

        Args:
            window: The window.
            graviton: Whether there must be pods on Graviton.
        """
        try:
            return self._measure(window, graviton)
        except PrometheusError as error:
            return Measurement(window=window, problem=str(error))

    def shares(self, window: MeasuredWindow) -> dict[str, ShareRange]:
        """Return the share of each workload that had pods in a window.

        Raises:
            PrometheusError: Prometheus does not answer, or knows the nodes of too few pods.
        """
        series = self._range("pods", Expressions.workload_pods, window)
        if problem := self._unplaced(window):
            raise PrometheusError(problem)
        pods: dict[str, dict[float, dict[str, float]]] = {}
        for each in series:
            workload, arch = _key(each.labels)
            for at, number in each.values.items():
                pods.setdefault(workload, {}).setdefault(at, {})[arch] = number
        found = {}
        for workload, moments in pods.items():
            counts = [(by_arch.get(ARM64, 0.0), sum(by_arch.values())) for by_arch in moments.values()]
            shares = [graviton / total for graviton, total in counts if total]
            if shares:
                mean = sum(graviton for graviton, _ in counts) / sum(total for _, total in counts)
                found[workload] = ShareRange(lowest=min(shares), highest=max(shares), mean=mean)
        return found

    def _measure(self, window: MeasuredWindow, graviton: bool) -> Measurement:
        expressions = self._expressions(window)
        pods = self._range("pods", Expressions.workload_pods, window)
        if problem := self._unplaced(window) or _gaps(pods, window, graviton):
            return Measurement(window=window, problem=problem)
        metrics = expressions.metrics
        gate_metrics = asked_metrics(metrics)
        series = {metric.name: self._range(metric.name, metric.query, window) for metric in gate_metrics}
        if problem := self._unmeasured(metrics, series, window):
            return Measurement(window=window, problem=problem)
        figures = measured_figures(metrics)
        buckets: dict[str, _Buckets] = {}
        for figure in figures:
            if histogram := figure.kind.histogram:
                buckets[histogram.metric.name] = self._buckets(figure.name, histogram.buckets, window)
        return Measurement(window=window, sides=_sides(figures, pods, series, buckets, window))

    def _unplaced(self, window: MeasuredWindow) -> str:
        """Explain why pods or their nodes are unknown; empty if they are known."""
        all_pods = self._range("all pods", lambda of: f"count({of.pods()})", window)
        if not all_pods:
            return (
                f"there is no kube_pod_info of the workloads from {_clock(window.end - window.length)} to "
                f"{_clock(window.end)}; check that this Prometheus scraped kube-state-metrics then"
            )
        without_arch = self._range("pods of unknown architecture", Expressions.pods_without_arch, window)
        unplaced = sum(_values(without_arch)) / max(1.0, sum(_values(all_pods)))
        if unplaced > _UNPLACED:
            return (
                f"the architecture of {unplaced:.0%} of the pods is unknown; give kube-state-metrics "
                "--metric-labels-allowlist=nodes=[kubernetes.io/arch] (docs/monitoring.md has other ways)"
            )
        return ""

    def _unmeasured(
        self, metrics: AppMetrics, series: Mapping[str, list[Series]], window: MeasuredWindow
    ) -> str:
        """Explain which metric of the applications is missing; empty if none is."""
        for metric in asked_metrics(metrics, "latency", "requests"):
            if series[metric.name]:
                continue
            if metric.setting:
                return (
                    f"no pod has {metric.exported_name(metrics)} (with the labels namespace and pod); "
                    f'name the metric as archshift:gate.metrics.{metric.setting}, or "" if there is none'
                )
            proof = metric.proof
            if proof and not self._range(proof.name, proof.query, window):
                return proof.problem(metrics)
        return ""

    def _buckets(self, name: str, buckets: Query, window: MeasuredWindow) -> _Buckets:
        step, length = short(window.step), short(window.length)
        # The buckets, not their histogram_quantile: beyond the last bucket it returns the bound as if it were
        # the latency, and finding that out needs a second query.
        query = self._ask(name, lambda of: f"sum_over_time(({buckets(of)})[{length}:{step}])", window, None)
        by_workload: dict[tuple[str, str], dict[float, float]] = {}
        for sample in self._prometheus.query(query, window.end):
            bound = _bound(sample.labels.get("le", ""))
            by_workload.setdefault(_key(sample.labels), {})[bound] = sample.value
        return by_workload

    def _range(self, name: str, text: Query, window: MeasuredWindow) -> list[Series]:
        query = self._ask(name, text, window, window.first)
        return self._prometheus.query_range(query, window.first, window.end, window.step)

    def _ask(self, name: str, text: Query, window: MeasuredWindow, begin: datetime | None) -> str:
        expressions = self._expressions(window)
        query, brief = text(expressions), text(replace(expressions, recorded=True))
        self.queries.append(
            RecordedQuery(name, query, " ".join(brief.split()), begin, window.end, window.step)
        )
        return query

    def _expressions(self, window: MeasuredWindow) -> Expressions:
        return replace(self._cluster, over=f"{window.step // timedelta(minutes=1)}m")


def _bound(le: str) -> float:
    try:
        return float(le)
    except ValueError:
        return math.nan


def _values(series: Iterable[Series]) -> Iterator[float]:
    for values in series:
        yield from values.values.values()


def _gaps(pods: list[Series], window: MeasuredWindow, graviton: bool) -> str:
    """Explain which part of the window is unknown; empty if enough of it is known."""
    seen: dict[str, set[float]] = {AMD64: set(), ARM64: set()}
    for workload in pods:
        seen.setdefault(workload.labels.get("arch", ""), set()).update(workload.values)
    moments = set().union(*seen.values())
    begin, end = _clock(window.end - window.length), _clock(window.end)
    if len(moments) < COVERED * window.steps:
        return (
            f"only {len(moments) / window.steps:.0%} of the time from {begin} to {end} is measured; wait, or "
            "find out why Prometheus or kube-state-metrics has a gap"
        )
    newest = max(moments)
    if newest < (window.end - 2 * window.step).timestamp():
        behind = (window.end.timestamp() - newest) / 60
        return (
            f"the newest data about pods in Prometheus is {behind:.0f} minutes old; check that it still "
            "scrapes kube-state-metrics"
        )
    if graviton and len(seen[ARM64]) < COVERED * window.steps:
        share = len(seen[ARM64]) / window.steps
        return (
            f"Prometheus saw pods on Graviton for only {share:.0%} of the time from {begin} to {end}; run "
            "archshift status to see whether there are any"
        )
    return ""


def _key(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("workload", ""), labels.get("arch", "")


def _totals(series: Iterable[Series]) -> dict[tuple[str, str], Total]:
    return {_key(each.labels): Total(sum(each.values.values()), len(each.values)) for each in series}


def _sides(
    figures: Sequence[Figure],
    pods: list[Series],
    series: Mapping[str, list[Series]],
    buckets: Mapping[str, _Buckets],
    window: MeasuredWindow,
) -> FiguresByWorkload:
    totals = {name: _totals(each) for name, each in series.items()}
    latest = {
        _key(each.labels): each.values[max(each.values)]
        for each in pods
        if window.end.timestamp() in each.values
    }
    step_hours = window.step / timedelta(hours=1)
    sides: dict[str, dict[str, ArchitectureFigures]] = {}
    for (workload, arch), total in _totals(pods).items():
        key = (workload, arch)
        measured = Totals(
            pods=total,
            metrics={name: by_key[key] for name, by_key in totals.items() if key in by_key},
            buckets={name: by_key[key] for name, by_key in buckets.items() if key in by_key},
            seconds=window.step.total_seconds(),
        )
        readings = {figure.name: figure.kind.value(measured) for figure in figures}
        side = ArchitectureFigures(
            hours=total.count * step_hours,
            pod_hours=total.sum * step_hours,
            pods=round(latest.get(key, 0)),
            figures={name: reading for name, reading in readings.items() if reading},
        )
        sides.setdefault(workload, {})[arch] = side
    return sides


def _clock(time: datetime) -> str:
    return time.isoformat(timespec="minutes")
