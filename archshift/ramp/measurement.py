"""What Prometheus says of each workload on each architecture, over a time. Reads only."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from archshift.common.architectures import AMD64, ARM64
from archshift.common.errors import ArchshiftError
from archshift.ramp.promql import AppMetrics, Expressions

if TYPE_CHECKING:
    from archshift.ramp.prometheus import Prometheus
from archshift.common.times import short

STEP: Final = timedelta(minutes=5)
_MOST_STEPS: Final = 96

COVERED: Final = 0.8
"""Least share of a time that has to be measured."""

_UNPLACED: Final = 0.05
"""Most pods on nodes of unknown architecture: a node that has just come is not known at once."""

_CLOCK_SECONDS: Final = 60.0


class PrometheusError(ArchshiftError):
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


@dataclass(frozen=True, slots=True)
class Quantile:
    """An estimate.

    Attributes:
        value: The estimate; NaN where there is none.
        at_least: It lies beyond the last bucket that has a bound, which is the value.
    """

    value: float
    at_least: bool = False


def quantile(share: float, buckets: Mapping[float, float]) -> Quantile:
    """Estimate a quantile: between two bounds a bucket's observations lie evenly.

    Args:
        share: Of the observations that are smaller, from 0 to 1.
        buckets: Upper bound to the number of observations up to it; the infinite bound has all of them.
    """
    bounds = sorted(buckets)
    total = buckets.get(math.inf, math.nan)
    counts = [buckets[bound] for bound in bounds]
    # Bounds that are no number sort anywhere.
    if any(math.isnan(number) for number in (*bounds, *counts)) or not 0 < total < math.inf:
        return Quantile(math.nan)
    rank = share * total
    lower, below = min(0.0, bounds[0]), 0.0
    for bound, count in zip(bounds, counts, strict=True):
        if bound == math.inf:
            break
        # Sums of rates may be off in the last digit.
        count = max(count, below)
        if count >= rank and count > below:
            return Quantile(lower + (bound - lower) * (rank - below) / (count - below))
        lower, below = bound, count
    return Quantile(lower, at_least=True) if len(bounds) > 1 else Quantile(math.nan)


@dataclass(frozen=True, slots=True)
class FigureValue:
    """One figure of one side.

    Attributes:
        value: The figure.
        samples: Requests, periods or events that it is of.
        at_least: The figure may be larger: it lies beyond the histogram's last bucket.
        problem: Why it cannot be relied on; empty if it can.
    """

    value: float
    samples: float
    at_least: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureFigures:
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
    figures: Mapping[str, FigureValue] = field(default_factory=dict)


FiguresByWorkload = Mapping[str, Mapping[str, ArchitectureFigures]]
"""Workload key to architecture to side."""


@dataclass(frozen=True, slots=True)
class RecordedQuery:
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
class MeasuredWindow:
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
    def until(cls, end: datetime, length: timedelta) -> "MeasuredWindow":
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

    window: MeasuredWindow
    sides: FiguresByWorkload = field(default_factory=dict)
    problem: str = ""


class Measurer:
    """Asks a Prometheus; keeps what it asked.

    Args:
        prometheus: The connection.
        expressions: Of the cluster; ``over`` is each window's step.
    """

    def __init__(self, prometheus: "Prometheus", expressions: Expressions) -> None:
        self._prometheus = prometheus
        self._cluster = expressions
        self.queries: list[RecordedQuery] = []

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

    def measure(self, window: MeasuredWindow, *, graviton: bool) -> Measurement:
        """Measure a window.

        Args:
            window: The time.
            graviton: Whether there have to be pods on Graviton.
        """
        try:
            return self._measure(window, graviton)
        except PrometheusError as error:
            return Measurement(window=window, problem=str(error))

    def _measure(self, window: MeasuredWindow, graviton: bool) -> Measurement:
        expressions = self._expressions(window)
        pods = self._range("pods", Expressions.workload_pods, window)
        if problem := self._unplaced(window) or _gaps(pods, window, graviton):
            return Measurement(window=window, problem=problem)
        asked = _measured(expressions.metrics)
        series = {name: self._range(name, text, window) for name, text in asked.items()}
        if problem := self._unmeasured(expressions.metrics, series, window):
            return Measurement(window=window, problem=problem)
        p95: dict[tuple[str, str], Quantile] = {}
        if expressions.metrics.latency:
            p95 = self._latency(window)
        return Measurement(window=window, sides=_sides(pods, series, p95, window))

    def _unplaced(self, window: MeasuredWindow) -> str:
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

    def _unmeasured(
        self, metrics: AppMetrics, series: Mapping[str, list[Series]], window: MeasuredWindow
    ) -> str:
        """Say if what the applications should measure is nowhere."""
        for name, metric, setting in (
            ("latency", f"{metrics.latency}_bucket", "latency"),
            ("requests", metrics.requests, "requests"),
        ):
            if name in series and not series[name]:
                return (
                    f"no pod has {metric} (with the labels namespace and pod); name the metric as "
                    f'archshift:gate.metrics.{setting}, or "" if there is none'
                )
        if "requests" in series and metrics.errors and not series["errors"]:
            # Of what never failed there may be no series. But the label has to be there.
            label = f'{metrics.errors_label}!=""'
            if not self._range("requests with the label", lambda of: of.requests(label), window):
                return (
                    f"no series of {metrics.requests} has the label {metrics.errors_label}; "
                    "say as archshift:gate.metrics.errors which requests failed"
                )
        return ""

    def _latency(self, window: MeasuredWindow) -> dict[tuple[str, str], Quantile]:
        step, length = short(window.step), short(window.length)
        # The buckets and not their histogram_quantile: of what is beyond the last one it tells the bound as
        # if it were the latency, and to find that out costs as much again.
        query = self._ask(
            "latency_p95",
            lambda of: f"sum_over_time(({of.latency_buckets()})[{length}:{step}])",
            window,
            None,
        )
        buckets: dict[tuple[str, str], dict[float, float]] = {}
        for sample in self._prometheus.query(query, window.end):
            bound = _bound(sample.labels.get("le", ""))
            buckets.setdefault(_key(sample.labels), {})[bound] = sample.value
        return {key: quantile(0.95, found) for key, found in buckets.items()}

    def _range(self, name: str, text: Callable[[Expressions], str], window: MeasuredWindow) -> list[Series]:
        query = self._ask(name, text, window, window.first)
        return self._prometheus.query_range(query, window.first, window.end, window.step)

    def _ask(
        self, name: str, text: Callable[[Expressions], str], window: MeasuredWindow, begin: datetime | None
    ) -> str:
        expressions = self._expressions(window)
        query, brief = text(expressions), text(replace(expressions, recorded=True))
        self.queries.append(
            RecordedQuery(name, query, " ".join(brief.split()), begin, window.end, window.step)
        )
        return query

    def _expressions(self, window: MeasuredWindow) -> Expressions:
        return replace(self._cluster, over=f"{window.step // timedelta(minutes=1)}m")


def _measured(metrics: AppMetrics) -> dict[str, Callable[[Expressions], str]]:
    found: dict[str, Callable[[Expressions], str]] = {
        "restarts": Expressions.restarts,
        "oom_kills": Expressions.oom_kills,
        "periods": Expressions.cpu_periods,
        "throttled": Expressions.cpu_throttled,
        "memory": Expressions.memory,
    }
    if metrics.requests:
        found |= {"requests": Expressions.requests, "errors": Expressions.errors}
    if metrics.latency:
        found["latency"] = Expressions.latency_count
    return found


def _bound(le: str) -> float:
    try:
        return float(le)
    except ValueError:
        return math.nan


def _values(series: Iterable[Series]) -> Iterator[float]:
    for one in series:
        yield from one.values.values()


def _gaps(pods: list[Series], window: MeasuredWindow, graviton: bool) -> str:
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


@dataclass(frozen=True, slots=True)
class _Total:
    """A series over a window."""

    sum: float
    count: int


def _totals(series: Iterable[Series]) -> dict[tuple[str, str], _Total]:
    return {_key(one.labels): _Total(sum(one.values.values()), len(one.values)) for one in series}


def _sides(
    pods: list[Series],
    series: Mapping[str, list[Series]],
    p95: Mapping[tuple[str, str], Quantile],
    window: MeasuredWindow,
) -> FiguresByWorkload:
    totals = {name: _totals(one) for name, one in series.items()}
    latest = {
        _key(one.labels): one.values[max(one.values)] for one in pods if window.end.timestamp() in one.values
    }
    sides: dict[str, dict[str, ArchitectureFigures]] = {}
    for (workload, arch), total in _totals(pods).items():
        key = (workload, arch)
        own = {name: found[key] for name, found in totals.items() if key in found}
        step_hours = window.step / timedelta(hours=1)
        side = ArchitectureFigures(
            hours=total.count * step_hours,
            pod_hours=total.sum * step_hours,
            pods=round(latest.get(key, 0)),
            figures=dict(_figures(own, p95.get(key), total, window)),
        )
        sides.setdefault(workload, {})[arch] = side
    return sides


def _figures(
    own: Mapping[str, _Total], p95: Quantile | None, pods: _Total, window: MeasuredWindow
) -> Iterator[tuple[str, FigureValue]]:
    seconds = window.step.total_seconds()
    none = _Total(0.0, 0)

    def reading(value: float, samples: float, measured: _Total, at_least: bool = False) -> FigureValue:
        problem = ""
        if not (math.isfinite(value) and math.isfinite(samples)) or value < 0:
            problem = "is no number"
        elif measured.count < COVERED * pods.count:
            problem = f"is measured in {measured.count / pods.count:.0%} of the pods' time"
        return FigureValue(value, samples, at_least, problem)

    if "latency" in own:
        count = own["latency"].sum
        # Without requests a quantile is no number, and there is nothing to judge either.
        found = Quantile(0.0) if count == 0 else p95 or Quantile(math.nan)
        yield "latency_p95", reading(found.value, count * seconds, own["latency"], found.at_least)
    if "requests" in own:
        count, errors = own["requests"].sum, own.get("errors", none).sum
        value = errors / count if count else 0.0
        yield "error_ratio", reading(value, count * seconds, own["requests"])
    if "periods" in own:
        count, throttled = own["periods"].sum, own.get("throttled", none).sum
        value = throttled / count if count else 0.0
        yield "cpu_throttling", reading(value, count * seconds, own["periods"])
    pod_days = pods.sum * seconds / 86400
    if "restarts" in own and pod_days:
        restarts, kills = own["restarts"].sum, own.get("oom_kills", none).sum
        yield "restarts", reading(restarts / pod_days, restarts, own["restarts"])
        yield "oom_kills", reading(kills / pod_days, kills, own["restarts"])
    if "memory" in own:
        measured = own["memory"]
        yield "memory", reading(measured.sum / max(1, measured.count), measured.count, measured)


def _clock(time: datetime) -> str:
    return time.isoformat(timespec="minutes")
