"""The table of prices: complete in itself, and silent about what it does not have."""

import json
import re
from decimal import Decimal
from importlib import resources
from typing import Any

import pytest

from archshift.cost.prices import Price, listed, regions
from archshift.nodes.instance_types import INSTANCE_TYPES

TABLE: Any = json.loads(resources.files("archshift.cost").joinpath("prices.json").read_text())
ENTRIES = [
    (region, family, entry)
    for region, families in TABLE["regions"].items()
    for family, entry in families.items()
]


def test_every_price_says_where_it_is_from() -> None:
    """A place that can be looked up and a date; what people keep by hand only confirms."""
    for region, family, entry in ENTRIES:
        assert entry["sources"], (region, family)
        assert set(entry["sources"]) <= set(TABLE["sources"]), (region, family)
        assert entry["sources"][0] != "hand-kept", (region, family)
    for name, source in TABLE["sources"].items():
        assert source["date"], name
        assert name == "hand-kept" or re.search(r"github\.com/.* at [0-9a-f]{40}", source["where"]), name


def test_every_type_of_the_table_exists() -> None:
    """A misspelt size would be a price that nobody pays."""
    for region, family, entry in ENTRIES:
        for size, usd in entry["sizes"].items():
            assert f"{family}.{size}" in INSTANCE_TYPES, (region, family, size)
            assert Decimal("0.003") < Decimal(usd) < 10, (region, family, size)


def test_a_family_is_charged_by_its_size() -> None:
    """What ``listed`` makes prices with: in every family of the table, to 0.4 %, but for bare metal."""
    for region, family, entry in ENTRIES:
        each = {
            size: Decimal(usd) / INSTANCE_TYPES[f"{family}.{size}"].memory_mib
            for size, usd in entry["sizes"].items()
            if size != "metal"
        }
        assert max(each.values()) / min(each.values()) < Decimal("1.004"), (region, family, each)


def test_the_common_families_are_there() -> None:
    """In the regions that the documentation names."""
    assert regions() == ("us-east-1", "eu-west-1", "eu-central-1")
    wanted = ["t3", "t4g", "m5", "m6i", "m6g", "m7g", "c5", "c6i", "c6g", "c7g", "r5", "r6i", "r6g", "r7g"]
    for region in regions():
        assert sorted(TABLE["regions"][region]) == sorted(wanted)


@pytest.mark.parametrize(
    ("name", "region", "expected"),
    [
        ("m7g.xlarge", "us-east-1", Price(Decimal("0.1632"), "table of 2026-01-19")),
        ("m5.2xlarge", "eu-west-1", Price(Decimal("0.428"), "table of about 2019")),
        # Half of an m7g.2xlarge, which is nearer than the 4xlarge.
        (
            "m7g.xlarge",
            "eu-west-1",
            Price(Decimal("0.181900"), "table of 2025 or later, by size from m7g.2xlarge"),
        ),
        ("m7g.metal", "eu-west-1", None),
        ("m8g.xlarge", "us-east-1", None),
        ("m7g.xlarge", "ap-south-1", None),
        ("m7g.nano", "us-east-1", None),
        ("", "us-east-1", None),
    ],
)
def test_a_price_is_from_the_table_or_not_known(name: str, region: str, expected: Price | None) -> None:
    """Bare metal, other families and other regions have no price rather than a likely one."""
    assert listed(name, region) == expected


def test_graviton_costs_less_than_its_x86_twin() -> None:
    """15 % to 20 % in the table: if a typing error turned one around, every saving would be wrong."""
    for region in regions():
        for x86, arm in (("m6i", "m7g"), ("c6i", "c7g"), ("r6i", "r7g"), ("t3", "t4g"), ("m5", "m6g")):
            first, second = (listed(f"{family}.2xlarge", region) for family in (x86, arm))
            assert first
            assert second
            assert Decimal("0.78") < second.usd / first.usd < Decimal("0.88"), (region, x86, arm)
