"""What an EC2 instance costs an hour, and how well that is known.

``prices.json`` holds list prices that were looked up in public copies of the AWS Price List, each
family with its sources and their dates. A price that is neither there nor asked of AWS nor given in
the configuration is unknown: nothing here guesses one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib import resources
from typing import Any

from archshift.nodes.instance_types import INSTANCE_TYPES


@dataclass(frozen=True, slots=True)
class Price:
    """A price.

    Attributes:
        usd: USD an hour, more than 0.
        source: Where it is from, in a few words.
    """

    usd: Decimal
    source: str


@cache
def _table() -> Mapping[str, Any]:
    # Read when the first price is asked for.
    table: Mapping[str, Any] = json.loads(
        resources.files("archshift.cost").joinpath("prices.json").read_text()
    )
    return table


def regions() -> tuple[str, ...]:
    """Return the regions that the table has prices of."""
    return tuple(_table()["regions"])


def listed(instance_type: str, region: str) -> Price | None:
    """Return the table's on-demand price of a type for Linux; None if it has none.

    Where the table has other sizes of the family in that region, the price follows from the
    nearest: EC2 charges a family by its size. The table's own sizes keep to that within 0.3 %, which
    a test checks; bare metal does not everywhere, so its price is never made that way.
    """
    family, _, size = instance_type.partition(".")
    entry = _table()["regions"].get(region, {}).get(family)
    if entry is None:
        return None
    date = _table()["sources"][entry["sources"][0]]["date"]
    sizes: Mapping[str, str] = entry["sizes"]
    if size in sizes:
        return Price(Decimal(sizes[size]), f"table of {date}")
    kind = INSTANCE_TYPES.get(instance_type)
    if kind is None or "metal" in size:
        return None
    nearest = min(
        (INSTANCE_TYPES[f"{family}.{other}"] for other in sizes if "metal" not in other),
        key=lambda other: (abs(other.memory_mib - kind.memory_mib), other.memory_mib),
    )
    # By memory: t3.medium and t3.large have the same number of vCPUs.
    usd = Decimal(sizes[nearest.name.partition(".")[2]]) * kind.memory_mib / nearest.memory_mib
    return Price(usd.quantize(Decimal("0.000001")), f"table of {date}, by size from {nearest.name}")
