"""The kinds of figures: how the series of a workload's pods become one value. Pure.

A figure is a mean, a ratio, a number of events or a percentile. Each kind gives the value from what the gate
measured, and the same as an expression over the recorded series, for alerts and the dashboard.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Final, Literal

from archshift.ramp.promql import AppMetrics, Expressions

Query = Callable[[Expressions], str]

COVERED: Final = 0.8
"""The least share of a time that must be measured."""

LEAST_EVENTS: Final = 1.5
"""Fewer restarts or OOM kills than this are not a pattern: a single one, which rates may stretch a little."""

_PER_DAY: Final = 24 * 60 // 5
"""Ranges of five minutes in a day: they turn the recorded events into events a day."""


# --- what is measured -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """What Prometheus must have if a metric has no series. Otherwise its name or label is wrong.

    Attributes:
        name: Its name among the gate's queries.
        query: What must have series.
        problem: What is wrong if it has none.
    """

    name: str
    query: Query
    problem: Callable[[AppMetrics], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """Something that is measured of a workload's pods on each architecture.

    Attributes:
        name: Its name among the gate's queries.
        query: Its expression.
        recorded: The name of its recorded series after ``archshift:workload_``; empty if it is not recorded.
        meaning: What it is, for the documents.
        exported: The name under which it is exported, with the settings of ``AppMetrics`` in braces. It is
            empty if a pod may lack the metric.
        setting: The key of ``archshift:gate.metrics`` that names it; empty if none does.
        proof: Tells a metric that may be missing from a wrong setting; None if no proof is needed.
    """

    name: str
    query: Query
    recorded: str = ""
    meaning: str = ""
    exported: str = ""
    setting: Literal["", "latency", "requests"] = ""
    proof: Proof | None = None

    def exported_name(self, metrics: AppMetrics) -> str:
        """Return the name under which it is exported; empty if a pod may lack the metric."""
        return self.exported.format(**asdict(metrics))

    def expression(self, labels: str) -> str:
        """Return its recorded series with these label matchers."""
        return f"archshift:workload_{self.recorded}{{{labels}}}"


@dataclass(frozen=True, slots=True)
class Histogram:
    """A histogram of a workload's pods on each architecture.

    Attributes:
        metric: The number of observations a second.
        buckets: The same by bucket (``le``), each with all smaller ones.
    """

    metric: Metric
    buckets: Query


PODS: Final = Metric(name="pods", query=Expressions.workload_pods, recorded="pods", meaning="number of pods")


@dataclass(frozen=True, slots=True)
class Quantile:
    """An estimate.

    Attributes:
        value: The estimate; NaN if there is none.
        at_least: The quantile is beyond the last bucket that has a bound. The value is that bound.
    """

    value: float
    at_least: bool = False


def quantile(share: float, buckets: Mapping[float, float]) -> Quantile:
    """Estimate a quantile. Observations are assumed to be spread evenly over a bucket.

    Args:
        share: The share of observations that are smaller, from 0 to 1.
        buckets: Upper bound to the number of observations up to it; the infinite bound has all of them.
    """
    bounds = sorted(buckets)
    total = buckets.get(math.inf, math.nan)
    counts = [buckets[bound] for bound in bounds]
    # NaN has no place in a sorted list.
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
    """One figure of a workload's pods on one architecture.

    Attributes:
        value: The figure.
        samples: The number of requests, periods or events behind it.
        at_least: The figure may be larger, because it is beyond the histogram's last bucket.
        problem: Why it is unreliable; empty if it is reliable.
    """

    value: float
    samples: float
    at_least: bool = False
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Total:
    """A series over a window.

    Attributes:
        sum: The sum of its values.
        count: The number of its values.
    """

    sum: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What was measured of a workload's pods on one architecture over a window.

    Attributes:
        pods: The number of pods.
        metrics: Metric name to its total; a metric without series is missing.
        buckets: Metric name to the buckets of its histogram: upper bound to observations up to it.
        seconds: The length of a step of the window.
    """

    pods: Total
    metrics: Mapping[str, Total]
    buckets: Mapping[str, Mapping[float, float]]
    seconds: float

    def sum(self, metric: Metric) -> float:
        """Return the sum of a metric's values; 0 if it has no series."""
        total = self.metrics.get(metric.name)
        return total.sum if total else 0.0

    def figure_value(
        self, value: float, samples: float, measured: Total, at_least: bool = False
    ) -> FigureValue:
        """Return a figure's value, with its problem if it is unreliable.

        Args:
            value: The value.
            samples: The number of samples behind it.
            measured: The series that must cover the pods' time.
            at_least: The value may be larger.
        """
        problem = ""
        if not (math.isfinite(value) and math.isfinite(samples)) or value < 0:
            problem = "is not a number"
        elif measured.count < COVERED * self.pods.count:
            problem = f"is measured for only {measured.count / self.pods.count:.0%} of the pods' time"
        return FigureValue(value, samples, at_least, problem)


# --- the kinds ------------------------------------------------------------------------------


class FigureKind(ABC):
    """How a figure is computed from metrics.

    Attributes:
        least_samples: With fewer samples a figure is never worse.
    """

    least_samples: float = 0.0

    @property
    @abstractmethod
    def asked(self) -> tuple[Metric, ...]:
        """The metrics that the gate asks for over a window."""

    @property
    def recorded(self) -> tuple[Metric, ...]:
        """The metrics that the rules record."""
        return self.asked

    @property
    def histogram(self) -> "Histogram | None":
        """The histogram whose buckets the gate asks for; None if it needs none."""
        return None

    @abstractmethod
    def value(self, totals: Totals) -> FigureValue | None:
        """Return the figure's value; None if it is not measured."""

    @abstractmethod
    def expression(self, labels: str) -> str:
        """Return the figure over the recorded series with these label matchers."""

    def operand(self, labels: str) -> str:
        """Return the same, as a part of a larger expression."""
        return f"({self.expression(labels)})"

    def enough(self, labels: str) -> str:
        """Return a condition that must also hold before the figure is worse; empty for none."""
        del labels
        return ""


@dataclass(frozen=True, slots=True)
class Mean(FigureKind):
    """The mean of a metric over the window."""

    metric: Metric

    @property
    def asked(self) -> tuple[Metric, ...]:
        """The metric."""
        return (self.metric,)

    def value(self, totals: Totals) -> FigureValue | None:
        """Return the mean."""
        measured = totals.metrics.get(self.metric.name)
        if measured is None:
            return None
        return totals.figure_value(measured.sum / max(1, measured.count), measured.count, measured)

    def expression(self, labels: str) -> str:
        """Return the recorded series."""
        return self.metric.expression(labels)

    def operand(self, labels: str) -> str:
        """Return the recorded series."""
        return self.metric.expression(labels)


@dataclass(frozen=True, slots=True)
class Ratio(FigureKind):
    """A part of a whole; both are metrics a second.

    A part without series counts as 0: a workload without errors has no series of errors.
    """

    part: Metric
    whole: Metric

    @property
    def asked(self) -> tuple[Metric, ...]:
        """The whole and the part."""
        return self.whole, self.part

    def value(self, totals: Totals) -> FigureValue | None:
        """Return the ratio; 0 if the whole is 0."""
        whole = totals.metrics.get(self.whole.name)
        if whole is None:
            return None
        ratio = totals.sum(self.part) / whole.sum if whole.sum else 0.0
        return totals.figure_value(ratio, whole.sum * totals.seconds, whole)

    def expression(self, labels: str) -> str:
        """Return the recorded part divided by the recorded whole."""
        part, whole = self.part.expression(labels), self.whole.expression(labels)
        return f"({part} or 0 * {whole}) / {whole}"


@dataclass(frozen=True, slots=True)
class Events(FigureKind):
    """Events a pod and day.

    Attributes:
        metric: The events within five minutes.
        counter: A metric that every pod has if its events are counted.
    """

    metric: Metric
    counter: Metric
    least_samples = LEAST_EVENTS

    @property
    def asked(self) -> tuple[Metric, ...]:
        """The events."""
        return (self.metric,)

    def value(self, totals: Totals) -> FigureValue | None:
        """Return events a pod and day; None if there were no pods."""
        measured = totals.metrics.get(self.counter.name)
        pod_days = totals.pods.sum * totals.seconds / 86400
        if measured is None or not pod_days:
            return None
        events = totals.sum(self.metric)
        return totals.figure_value(events / pod_days, events, measured)

    def expression(self, labels: str) -> str:
        """Return the events a pod and day, from the last hour."""
        pods = PODS.expression(labels)
        return f"{_PER_DAY} * ({self._last_hour(labels)} or 0 * {pods}) / {pods}"

    def enough(self, labels: str) -> str:
        """Return the condition that the last hour had more than a single event."""
        return f"{_PER_DAY // 24} * {self._last_hour(labels)} >= {LEAST_EVENTS}"

    def _last_hour(self, labels: str) -> str:
        return f"avg_over_time({self.metric.expression(labels)}[1h])"


@dataclass(frozen=True, slots=True)
class Percentile(FigureKind):
    """A percentile of a histogram.

    Attributes:
        share: The share of observations that are smaller.
        source: The observations.
        estimate: The recorded metric: the percentile of the last minutes.
    """

    share: float
    source: Histogram
    estimate: Metric

    @property
    def asked(self) -> tuple[Metric, ...]:
        """The number of observations."""
        return (self.source.metric,)

    @property
    def recorded(self) -> tuple[Metric, ...]:
        """The percentile."""
        return (self.estimate,)

    @property
    def histogram(self) -> Histogram:
        """The histogram."""
        return self.source

    def value(self, totals: Totals) -> FigureValue | None:
        """Return the percentile of all observations in the window."""
        measured = totals.metrics.get(self.source.metric.name)
        if measured is None:
            return None
        # Without observations a percentile is not a number, and there is nothing to judge.
        estimate = Quantile(0.0)
        if measured.sum:
            estimate = quantile(self.share, totals.buckets.get(self.source.metric.name, {}))
        samples = measured.sum * totals.seconds
        return totals.figure_value(estimate.value, samples, measured, estimate.at_least)

    def expression(self, labels: str) -> str:
        """Return the recorded series."""
        return self.estimate.expression(labels)

    def operand(self, labels: str) -> str:
        """Return the recorded series."""
        return self.estimate.expression(labels)
