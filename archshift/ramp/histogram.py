"""Quantiles of a classic histogram, as Prometheus estimates them. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


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
