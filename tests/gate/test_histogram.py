"""Quantiles, held against a real Prometheus' own."""

import math
import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from archshift.ramp.figure_kinds import Quantile, quantile
from archshift.ramp.prometheus import Prometheus
from tests.gate.prometheus import backfill, serve

AT = datetime(2026, 3, 10, 12, tzinfo=UTC)


def some_histograms(count: int) -> list[dict[float, float]]:
    """Return histograms with other bounds and counts each, some buckets of which are empty."""
    chance = random.Random(95)  # noqa: S311 - no secret
    found = []
    for _ in range(count):
        bounds = sorted({round(chance.expovariate(1), 3) for _ in range(chance.randint(1, 8))})
        counts = [float(chance.choice([0, 0, 1, 5, 40, 1000])) for _ in bounds]
        cumulative = [sum(counts[: index + 1]) for index in range(len(counts))]
        beyond = chance.choice([0, 0, 1, 100])
        found.append(dict(zip(bounds, cumulative, strict=True)) | {math.inf: cumulative[-1] + beyond})
    return found


def test_are_what_prometheus_estimates(tmp_path: Path) -> None:
    """200 histograms, of every shape that counts: the same number, or beyond the last bound."""
    histograms = some_histograms(200)
    text = tmp_path / "samples.txt"
    with text.open("w") as file:
        for number, buckets in enumerate(histograms):
            for bound, count in buckets.items():
                le = "+Inf" if bound == math.inf else repr(bound)
                file.write(f'h_bucket{{n="{number}",le="{le}"}} {count} {AT.timestamp()}\n')
        file.write("# EOF\n")
    data = tmp_path / "data"
    backfill(data, text)
    with serve(data) as server, Prometheus(server.url) as prometheus:
        answers = {
            int(sample.labels["n"]): sample.value
            for sample in prometheus.query("histogram_quantile(0.95, h_bucket)", AT)
        }
    assert len(answers) == len(histograms)
    for number, buckets in enumerate(histograms):
        mine, theirs = quantile(0.95, buckets), answers[number]
        if math.isnan(theirs):
            assert math.isnan(mine.value), buckets
        else:
            assert mine.value == pytest.approx(theirs), buckets
            within = max(count for bound, count in buckets.items() if bound != math.inf)
            assert mine.at_least == (within < 0.95 * buckets[math.inf]), buckets


@pytest.mark.parametrize(
    "buckets",
    [
        {},
        {1.0: 5.0},
        {math.inf: 5.0},
        {1.0: 0.0, math.inf: 0.0},
        {1.0: math.nan, math.inf: 5.0},
        {1.0: 5.0, math.inf: math.nan},
        {1.0: 5.0, math.inf: math.inf},
        {math.nan: 5.0, math.inf: 5.0},
    ],
)
def test_of_what_is_no_histogram_are_no_number(buckets: dict[float, float]) -> None:
    """Nothing that is missing or no number becomes a latency."""
    assert math.isnan(quantile(0.95, buckets).value)


def test_sums_that_are_off_in_the_last_digit_count_as_they_should() -> None:
    """A bucket that has a hair less than the one below it is as full as that."""
    assert quantile(0.95, {1.0: 10.0, 2.0: 9.999999, math.inf: 10.0}) == Quantile(0.95)
