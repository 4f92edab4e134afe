"""The built-in table of what EC2 instances cost an hour.

``prices.json`` holds list prices from public copies of the AWS Price List. Each family names its sources and
their dates. A price that is not in the table, not in the AWS price list and not in the configuration is
unknown. archshift never guesses a price.
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
    """A price and its source.

    Attributes:
        usd: USD an hour, more than 0.
        source: Names the source in a few words.
    """

    usd: Decimal
    source: str


@cache
def _table() -> Mapping[str, Any]:
    # The file is read for the first price, not at import.
    table: Mapping[str, Any] = json.loads(
        resources.files("archshift.cost").joinpath("prices.json").read_text()
    )
    return table


def regions() -> tuple[str, ...]:
    """Return the regions of the table."""
    return tuple(_table()["regions"])


def listed(instance_type: str, region: str) -> Price | None:
    """Return the table's on-demand price of a type for Linux; None if it is unknown.

    If the table lacks this size but has others of the family in that region, the price follows from the
    nearest size. EC2 charges a family by its size: a test checks that this is true within 0.3 % for the sizes
    in the table. It is not always true for bare metal, so the price of bare metal is never computed.
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
    # By memory, because t3.medium and t3.large have the same number of vCPUs.
    usd = Decimal(sizes[nearest.name.partition(".")[2]]) * kind.memory_mib / nearest.memory_mib
    return Price(usd.quantize(Decimal("0.000001")), f"table of {date}, by size from {nearest.name}")
