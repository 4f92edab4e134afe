"""The settings of costs, and every sentence about a value that does not do."""

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


@pytest.mark.parametrize(
    ("cost", "sentence"),
    [
        ({"rate": 1}, "archshift:cost.rate is not a setting; there are: commitments, discounts, prices, "),
        ({"region": "Ireland"}, "archshift:cost.region: 'Ireland' is not an AWS region, such as eu-west-1"),
        (
            {"prices": {"m5.lage": 1}},
            "archshift:cost.prices: 'm5.lage' is not an instance type archshift knows",
        ),
        (
            {"prices": {"m5.large": 0}},
            "archshift:cost.prices.m5.large: 0 is not USD an hour: a number above 0, up to 10000",
        ),
        ({"spot": {"m5.large": "NaN"}}, "archshift:cost.spot.m5.large: 'NaN' is not USD an hour: "),
        ({"spot": {"m5.large": True}}, "archshift:cost.spot.m5.large: True is not USD an hour: "),
        (
            {"discounts": {"m5": 28}},
            "archshift:cost.discounts.m5: 28 is not a share from 0.0 to 0.95, such as 0.28",
        ),
        (
            {"discounts": {"intel": 0.1}},
            "archshift:cost.discounts: 'intel' is neither all, x86, graviton, a family nor a type",
        ),
        ({"commitments": PLAN}, "archshift:cost.commitments: {'kind': "),
        (
            {"commitments": [{"kind": "savings"}]},
            "archshift:cost.commitments[0].usd_per_hour is missing; every commitment has one",
        ),
        (
            {"commitments": [{**PLAN, "kind": "savings"}]},
            "archshift:cost.commitments[0].kind: 'savings' is none of compute-savings-plan, ",
        ),
        (
            {"commitments": [{**PLAN, "kind": "compute-savings-plan"}]},
            "archshift:cost.commitments[0].family: a compute-savings-plan follows to every family; remove it",
        ),
        (
            {"commitments": [{"kind": "reserved-instances", "usd_per_hour": 1, "discount": 0.3}]},
            "archshift:cost.commitments[0].family is missing; a reserved-instances is bound to one, ",
        ),
        (
            {"commitments": [{**PLAN, "family": "x5"}]},
            "archshift:cost.commitments[0].family: 'x5' is not a family of instance types, such as m5",
        ),
        (
            {"commitments": [{**PLAN, "until": "March"}]},
            "archshift:cost.commitments[0].until: 'March' is not a time with its zone, ",
        ),
        (
            {"speed": [1.2, 1.0]},
            "archshift:cost.speed: [1.2, 1.0] is not two numbers from 0.5 to 2.0, the lower first, such as ",
        ),
        ({"speed": [1.0]}, "archshift:cost.speed: [1.0] is not two numbers "),
        ({"speed": ["a", 1]}, "archshift:cost.speed[0]: 'a' is not two numbers "),
    ],
)
def test_a_rate_that_does_not_do_is_one_sentence(cost: Any, sentence: str) -> None:
    """The key, the value and what is wanted."""
    assert refused(cost=cost).startswith(sentence)
