"""What Prometheus says of each workload on each architecture, over a time. Reads only."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from archshift.common.architectures import AMD64, ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.times import short
from archshift.ramp.figure_kinds import COVERED, Query, Reading, Total, Totals
from archshift.ramp.figures import Figure, asked_metrics, measured_figures
from archshift.ramp.promql import AppMetrics, Expressions

if TYPE_CHECKING:
    from archshift.ramp.prometheus import Prometheus

STEP: Final = timedelta(minutes=5)
_MOST_STEPS: Final = 96

_UNPLACED: Final = 0.05
"""Most pods on nodes of unknown architecture: a node that has just come is not known at once."""

_CLOCK_SECONDS: Final = 60.0


class MetricsError(ArchshiftError):
    """Prometheus has not said what was asked: nothing is known."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One series' value at a time.

    Attributes:
        labels: Of the series.
        value: May be NaN or infinite.
    """

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Series:
    """One series' values over a time.

    Attributes:
        labels: Of the series.
        values: Unix time to value.
    """

    labels: Mapping[str, str]
    values: Mapping[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """A workload's pods on one architecture.

    Attributes:
        hours: For how long there was at least one.
        pod_hours: Of all of them.
        pods: How many there are at the end.
        figures: Figure name to reading; what is not measured is missing.
    """

    hours: float
    pod_hours: float
    pods: int
    figures: Mapping[str, Reading] = field(default_factory=dict)


Sides = Mapping[str, Mapping[str, Side]]
"""Workload key to architecture to side."""

_Buckets = Mapping[tuple[str, str], Mapping[float, float]]
"""Workload and architecture to a histogram's buckets: upper bound to observations up to it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A query, as one can ask it again.

    Attributes:
        name: What it measures.
        query: The expression.
        brief: The same with the names of recorded series in it.
        begin: First evaluation; None for one at the end alone.
        end: Last evaluation.
        step: Time between two.
    """

    name: str
    query: str
    brief: str
    begin: datetime | None
    end: datetime
    step: timedelta


@dataclass(frozen=True, slots=True)
class Window:
    """A time in equal steps.

    Attributes:
        end: Its end.
        steps: How many.
        step: How long each is.
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
    def until(cls, end: datetime, length: timedelta) -> "Window":
        """Return the window of about a length that ends then; it may have no step."""
        # More steps say little more and cost as much more.
        minutes = max(STEP, length / _MOST_STEPS) / timedelta(minutes=1)
        step = timedelta(minutes=math.ceil(minutes))
        return cls(end, int(length / step), step)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What is known of a window.

    Attributes:
        window: The time.
        sides: What was measured.
        problem: Why nothing of it can be relied on, as a sentence; empty if it can.
    """

    window: Window
    sides: Sides = field(default_factory=dict)
    problem: str = ""


class Meter:
    """Asks a Prometheus; keeps what it asked.

    Args:
        prometheus: The connection.
        expressions: Of the cluster; ``over`` is each window's step.
    """

    def __init__(self, prometheus: "Prometheus", expressions: Expressions) -> None:
        self._prometheus = prometheus
        self._cluster = expressions
        self.asked: list[Asked] = []

    def clock_problem(self, at: datetime, now: datetime | None) -> str:
        """Say what is wrong with Prometheus' clock; empty for nothing.

        Args:
            at: The time that is to be judged.
            now: This machine's time; None where the time is made up.
        """
        theirs = self._prometheus.clock()
        off = (theirs - (now or theirs)).total_seconds()
        if abs(off) > _CLOCK_SECONDS:
            way = "ahead of" if off > 0 else "behind"
            return f"Prometheus' clock is {abs(off):.0f} s {way} this machine's; set both by NTP"
        if at > theirs + timedelta(seconds=_CLOCK_SECONDS):
            return f"{_clock(at)} is in Prometheus' future; give a time that has been"
        return ""

    def measure(self, window: Window, *, graviton: bool) -> Measurement:
        """Measure a window.

        Args:
            window: The time.
            graviton: Whether there have to be pods on Graviton.
        """
        try:
            return self._measure(window, graviton)
        except MetricsError as error:
            return Measurement(window=window, problem=str(error))

    def _measure(self, window: Window, graviton: bool) -> Measurement:
        expressions = self._expressions(window)
        pods = self._range("pods", Expressions.workload_pods, window)
        if problem := self._unplaced(window) or _gaps(pods, window, graviton):
            return Measurement(window=window, problem=problem)
        metrics = expressions.metrics
        asked = asked_metrics(metrics)
        series = {metric.name: self._range(metric.name, metric.query, window) for metric in asked}
        if problem := self._unmeasured(metrics, series, window):
            return Measurement(window=window, problem=problem)
        figures = measured_figures(metrics)
        buckets: dict[str, _Buckets] = {}
        for figure in figures:
            if histogram := figure.kind.histogram:
                buckets[histogram.metric.name] = self._buckets(figure.name, histogram.buckets, window)
        return Measurement(window=window, sides=_sides(figures, pods, series, buckets, window))

    def _unplaced(self, window: Window) -> str:
        """Say if pods, or where they are, are not known."""
        every = self._range("all pods", lambda of: f"count({of.pods()})", window)
        if not every:
            return (
                f"there is no kube_pod_info of the workloads from {_clock(window.end - window.length)} to "
                f"{_clock(window.end)}; does this Prometheus scrape kube-state-metrics, and did it then?"
            )
        lost = self._range("pods of unknown architecture", Expressions.pods_without_arch, window)
        unplaced = sum(_values(lost)) / max(1.0, sum(_values(every)))
        if unplaced > _UNPLACED:
            return (
                f"of {unplaced:.0%} of the pods the architecture is not known; give kube-state-metrics "
                "--metric-labels-allowlist=nodes=[kubernetes.io/arch] (docs/monitoring.md has other ways)"
            )
        return ""

    def _unmeasured(self, metrics: AppMetrics, series: Mapping[str, list[Series]], window: Window) -> str:
        """Say if what the applications should measure is nowhere."""
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

    def _buckets(self, name: str, buckets: Query, window: Window) -> _Buckets:
        step, length = short(window.step), short(window.length)
        # The buckets and not their histogram_quantile: of what is beyond the last one it tells the bound as
        # if it were the latency, and to find that out costs as much again.
        query = self._ask(name, lambda of: f"sum_over_time(({buckets(of)})[{length}:{step}])", window, None)
        found: dict[tuple[str, str], dict[float, float]] = {}
        for sample in self._prometheus.query(query, window.end):
            bound = _bound(sample.labels.get("le", ""))
            found.setdefault(_key(sample.labels), {})[bound] = sample.value
        return found

    def _range(self, name: str, text: Query, window: Window) -> list[Series]:
        query = self._ask(name, text, window, window.first)
        return self._prometheus.query_range(query, window.first, window.end, window.step)

    def _ask(self, name: str, text: Query, window: Window, begin: datetime | None) -> str:
        expressions = self._expressions(window)
        query, brief = text(expressions), text(replace(expressions, recorded=True))
        self.asked.append(Asked(name, query, " ".join(brief.split()), begin, window.end, window.step))
        return query

    def _expressions(self, window: Window) -> Expressions:
        return replace(self._cluster, over=f"{window.step // timedelta(minutes=1)}m")


def _bound(le: str) -> float:
    try:
        return float(le)
    except ValueError:
        return math.nan


def _values(series: Iterable[Series]) -> Iterator[float]:
    for one in series:
        yield from one.values.values()


def _gaps(pods: list[Series], window: Window, graviton: bool) -> str:
    """Say if too little of the window is known."""
    seen: dict[str, set[float]] = {AMD64: set(), ARM64: set()}
    for one in pods:
        seen.setdefault(one.labels.get("arch", ""), set()).update(one.values)
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
        return f"the newest pods that Prometheus knows are {behind:.0f} minutes old; is it still scraping?"
    if graviton and len(seen[ARM64]) < COVERED * window.steps:
        share = len(seen[ARM64]) / window.steps
        return (
            f"pods on Graviton are seen in {share:.0%} of the time from {begin} to {end}; archshift status "
            "says whether there are any"
        )
    return ""


def _key(labels: Mapping[str, str]) -> tuple[str, str]:
    return labels.get("workload", ""), labels.get("arch", "")


def _totals(series: Iterable[Series]) -> dict[tuple[str, str], Total]:
    return {_key(one.labels): Total(sum(one.values.values()), len(one.values)) for one in series}


def _sides(
    figures: Sequence[Figure],
    pods: list[Series],
    series: Mapping[str, list[Series]],
    buckets: Mapping[str, _Buckets],
    window: Window,
) -> Sides:
    totals = {name: _totals(one) for name, one in series.items()}
    latest = {
        _key(one.labels): one.values[max(one.values)] for one in pods if window.end.timestamp() in one.values
    }
    step_hours = window.step / timedelta(hours=1)
    sides: dict[str, dict[str, Side]] = {}
    for (workload, arch), total in _totals(pods).items():
        key = (workload, arch)
        measured = Totals(
            pods=total,
            metrics={name: found[key] for name, found in totals.items() if key in found},
            buckets={name: found[key] for name, found in buckets.items() if key in found},
            seconds=window.step.total_seconds(),
        )
        readings = {figure.name: figure.kind.value(measured) for figure in figures}
        side = Side(
            hours=total.count * step_hours,
            pod_hours=total.sum * step_hours,
            pods=round(latest.get(key, 0)),
            figures={name: reading for name, reading in readings.items() if reading},
        )
        sides.setdefault(workload, {})[arch] = side
    return sides


def _clock(time: datetime) -> str:
    return time.isoformat(timespec="minutes")
