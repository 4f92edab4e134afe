"""The settings of costs, and every sentence about an invalid value."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from archshift.cost.rules import Commitment, CostRules
from tests.build import load, refused

PLAN = {"kind": "ec2-instance-savings-plan", "family": "m5", "usd_per_hour": 1.2, "discount": 0.28}


def test_every_rate_gets_its_shape() -> None:
    """Numbers as they were written: 0.1 is a tenth, and no float near it."""
    found = load(
        cost={
            "region": "eu-west-1",
            "prices": {"m5.large": 0.1},
            "spot": {"m7g.large": "0.03"},
            "discounts": {"all": 0.05, "m5": 0.1},
            "commitments": [{**PLAN, "until": "2027-03-01T00:00:00Z"}],
            "speed": [1, 1.15],
        }
    ).cost
    assert found == CostRules(
        region="eu-west-1",
        prices={"m5.large": Decimal("0.1")},
        spot={"m7g.large": Decimal("0.03")},
        discounts={"all": Decimal("0.05"), "m5": Decimal("0.1")},
        commitments=(
            Commitment(
                kind="ec2-instance-savings-plan",
                family="m5",
                usd_per_hour=Decimal("1.2"),
                discount=Decimal("0.28"),
                until=datetime(2027, 3, 1, tzinfo=UTC),
            ),
        ),
        speed=(Decimal(1), Decimal("1.15")),
    )


USD = "is invalid; use USD an hour: a number above 0 and up to 10000"


@pytest.mark.parametrize(
    ("cost", "sentence"),
    [
        ({"rate": 1}, "archshift:cost.rate is not a setting; there are: commitments, discounts, prices, "),
        (
            {"region": "Ireland"},
            "archshift:cost.region: 'Ireland' is invalid; use an AWS region such as eu-west-1",
        ),
        (
            {"prices": {"m5.lage": 1}},
            "archshift:cost.prices: 'm5.lage' is an unknown instance type",
        ),
        ({"prices": {"m5.large": 0}}, f"archshift:cost.prices.m5.large: 0 {USD}"),
        ({"prices": {"m5.large": 10_001}}, f"archshift:cost.prices.m5.large: 10001 {USD}"),
        ({"spot": {"m5.large": "NaN"}}, f"archshift:cost.spot.m5.large: 'NaN' {USD}"),
        ({"spot": {"m5.large": True}}, f"archshift:cost.spot.m5.large: True {USD}"),
        (
            {"discounts": {"m5": 28}},
            "archshift:cost.discounts.m5: 28 is invalid; use a number from 0.0 to 0.95",
        ),
        (
            {"discounts": {"intel": 0.1}},
            "archshift:cost.discounts: 'intel' is invalid; use all, x86, graviton, a family or an instance ",
        ),
        ({"commitments": PLAN}, "archshift:cost.commitments: {'discount': 0.28, "),
        (
            {"commitments": [{"kind": "reserved-instances", "discount": 0.3}]},
            f"archshift:cost.commitments[0].usd_per_hour is missing; add {USD.partition('use ')[2]}",
        ),
        (
            {"commitments": [{**PLAN, "kind": "savings"}]},
            "archshift:cost.commitments[0].kind: 'savings' is invalid; use compute-savings-plan, "
            "ec2-instance-savings-plan or reserved-instances",
        ),
        (
            {"commitments": [{**PLAN, "kind": "compute-savings-plan"}]},
            "archshift:cost.commitments[0].family: a compute-savings-plan applies to every family; remove ",
        ),
        (
            {"commitments": [{"kind": "reserved-instances", "usd_per_hour": 1, "discount": 0.3}]},
            "archshift:cost.commitments[0].family: reserved-instances belong to a family; add the family, ",
        ),
        (
            {"commitments": [{**PLAN, "family": "x5"}]},
            "archshift:cost.commitments[0].family: 'x5' is invalid; use a family of instance types such ",
        ),
        (
            {"commitments": [{**PLAN, "until": "March"}]},
            "archshift:cost.commitments[0].until: 'March' is invalid; use a time from 2000 to 2199 with ",
        ),
        ({"speed": [1.2, 1.0]}, "archshift:cost.speed: 1.2 is above 1.0; write the lower number first"),
        (
            {"speed": [1.0]},
            "archshift:cost.speed: [1.0] is invalid; use two numbers from 0.5 to 2.0, the lower ",
        ),
        ({"speed": ["a", 1]}, "archshift:cost.speed[0]: 'a' is invalid; use a number from 0.5 to 2.0"),
    ],
)
def test_a_rate_that_is_invalid_is_one_sentence(cost: Any, sentence: str) -> None:
    """The key, the value and what is wanted."""
    assert refused(cost=cost).startswith(sentence)
