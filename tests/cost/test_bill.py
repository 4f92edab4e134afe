"""What nodes cost, and what a step saves."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.model import Inventory, Workload
from archshift.cost import wording
from archshift.cost.bill import (
    HOURS_A_MONTH,
    BillComparison,
    NodeCount,
    Range,
    Tariff,
    compare,
    make_bill,
    region_of,
    running,
)
from archshift.cost.prices import Price
from archshift.cost.rules import COMPUTE_PLAN, Commitment, CostRules
from archshift.nodes.groups import Node
from archshift.plan.model import Rules
from archshift.plan.planner import make_plan
from tests.build import eks_group, sized_deployment
from tests.properties import examples

NOW = datetime(2026, 11, 1, tzinfo=UTC)
X86, ARM = eks_group("x86", "m6i.xlarge"), eks_group("graviton", "m7g.xlarge")


def tariff(region: str = "us-east-1", aws_prices: Mapping[str, Price] | None = None, **rules: Any) -> Tariff:
    """Prices in us-east-1, with what the config says."""
    return Tariff(region=region, rules=CostRules(**rules), aws_prices=aws_prices or {}, now=NOW)


def held(kind: str, nodes: int, *, spot: bool = False) -> NodeCount:
    """Nodes of one type."""
    return NodeCount(group="g", architecture="amd64", instance_type=kind, nodes=nodes, spot=spot)


def plan(
    kind: str, family: str, usd: str, discount: str = "0.5", until: datetime | None = None
) -> Commitment:
    """A commitment."""
    return Commitment(
        kind=kind, family=family, usd_per_hour=Decimal(usd), discount=Decimal(discount), until=until
    )


def step(
    *workloads: Workload,
    before: float = 0.0,
    after: float = 1.0,
    groups: Any = (X86, ARM),
    rules: Mapping[str, Rules] | None = None,
    money: Tariff | None = None,
) -> BillComparison:
    """A change of ratio for workloads on x86, without headroom."""
    there = {(one.key, "amd64"): one.replicas for one in workloads}
    found = Inventory(workloads={one.key: one for one in workloads}, pods=there)
    plans = [
        make_plan(arm_ratio=ratio, inventory=found, groups=groups, rules=rules) for ratio in (before, after)
    ]
    return compare(plans[0], plans[1], found, groups, money or tariff(), 0.0)


def test_a_bill_is_the_sum_of_its_nodes() -> None:
    """Three m5.large of 0.096 and one m7g.large of 0.0816, for 730 hours."""
    bill = make_bill([held("m5.large", 3), held("m7g.large", 1), held("c5.large", 0)], tariff())
    assert bill.total == (3 * Decimal("0.096") + Decimal("0.0816")) * HOURS_A_MONTH
    assert [line.monthly for line in bill.lines] == [Decimal("210.24"), Decimal("59.568")]


@pytest.mark.parametrize(
    ("name", "usd"),
    [
        # AWS's own answer goes before the table, the config before both.
        ("m5.large", "0.1"),
        ("m5.xlarge", "0.15"),
        ("m5.2xlarge", "0.384"),
    ],
)
def test_what_is_said_last_counts(name: str, usd: str) -> None:
    """The config's price, then AWS's, then the table's."""
    aws_prices = {"m5.large": Price(Decimal("0.1"), "AWS"), "m5.xlarge": Price(Decimal("0.2"), "AWS")}
    found = tariff(aws_prices=aws_prices, prices={"m5.xlarge": Decimal("0.15")}).price(name)
    assert found
    assert found.usd == Decimal(usd)


def test_the_most_specific_discount_counts_and_none_on_a_private_price() -> None:
    """A type before its family, its side and all; what the config gives as a price is what is paid."""
    share = {"all": "0.05", "x86": "0.1", "m5": "0.2", "m5.large": "0.3"}
    money = tariff(
        discounts={name: Decimal(value) for name, value in share.items()},
        prices={"c5.large": Decimal("0.08")},
    )
    found = {name: money.discount(name) for name in ("m5.large", "m5.xlarge", "c6i.large", "m7g.large")}
    assert {name: str(value) for name, value in found.items()} == {
        "m5.large": "0.3",
        "m5.xlarge": "0.2",
        "c6i.large": "0.1",
        "m7g.large": "0.05",
    }
    assert money.discount("c5.large") == 0


def test_an_unknown_price_is_said_and_not_counted_as_nothing() -> None:
    """The total is unknown; what is known is at least that."""
    bill = make_bill([held("m5.large", 1), held("m8g.large", 2), held("t3.large", 1, spot=True)], tariff())
    assert bill.total is None
    assert bill.known == Decimal("0.096") * HOURS_A_MONTH
    assert bill.unknown == (
        "the price of m8g.large in us-east-1 is unknown; run with AWS credentials, or set "
        "archshift:cost.prices.m8g.large",
        "the Spot price of t3.large is unknown; set archshift:cost.spot.t3.large to the price that you pay",
    )


def test_another_region_names_those_that_the_table_has() -> None:
    """One sentence, with both ways out."""
    bill = make_bill([held("m5.large", 1)], tariff("ap-south-1"))
    assert bill.unknown == (
        "the price of m5.large in ap-south-1 is unknown (the table has us-east-1, eu-west-1, "
        "eu-central-1); run with AWS credentials, or set archshift:cost.prices.m5.large",
    )


def test_nodes_that_do_not_say_their_type_are_not_free() -> None:
    """A bare-metal cluster, or labels that somebody took off."""
    nodes = [Node(name="a", labels={"kubernetes.io/arch": "amd64"})]
    bill = make_bill(running(nodes, [X86]), tariff())
    assert bill.total is None
    assert bill.unknown == (
        "archshift cannot price the nodes outside all node groups, because they have no label "
        "node.kubernetes.io/instance-type",
    )


def test_what_runs_is_counted_by_group_type_and_spot() -> None:
    """Cordoned nodes are paid too; the labels of EKS and of Karpenter say what is Spot."""
    kind = {"node.kubernetes.io/instance-type": "m6i.xlarge", "kubernetes.io/arch": "amd64"}
    mine = {**kind, "archshift/node-group": "x86"}
    nodes = [
        Node(name="a", labels=mine),
        Node(name="b", labels=mine, schedulable=False),
        Node(name="c", labels={**mine, "eks.amazonaws.com/capacityType": "SPOT"}),
        Node(name="d", labels={**kind, "karpenter.sh/capacity-type": "spot"}),
    ]
    found = [(one.group, one.nodes, one.spot) for one in running(nodes, [X86, ARM])]
    assert found == [("x86", 2, False), ("x86", 1, True), ("", 1, True)]


@pytest.mark.parametrize(
    ("labels", "region"),
    [
        ([{"topology.kubernetes.io/zone": "eu-west-1a"}], "eu-west-1"),
        ([{"topology.kubernetes.io/region": "eu-west-1", "topology.kubernetes.io/zone": "x"}], "eu-west-1"),
        ([{"topology.kubernetes.io/zone": "us-east-1-atl-2a"}], ""),
        ([{"topology.kubernetes.io/zone": "eu-west-1a"}, {"topology.kubernetes.io/zone": "us-east-1a"}], ""),
        ([{"topology.kubernetes.io/zone": "a"}, {}], ""),
    ],
)
def test_the_nodes_say_the_region_if_it_is_one(labels: list[dict[str, str]], region: str) -> None:
    """Two regions, or a zone that is none of AWS's, say nothing."""
    assert region_of(Node(name=str(at), labels=one) for at, one in enumerate(labels)) == region


def test_a_step_saves_a_range() -> None:
    """Forty pods of 1 vCPU: 11 x86 nodes (3.92 vCPU free); on Graviton 11 to 9 of them, 15 % cheaper each."""
    found = step(sized_deployment("cart", 40, 1000))
    assert found.before.monthly == Range.of(Decimal("0.192") * 11 * HOURS_A_MONTH)
    assert found.after.monthly == Range(
        Decimal("0.1632") * 9 * HOURS_A_MONTH, Decimal("0.1632") * 11 * HOURS_A_MONTH
    )
    assert found.saving == Range(
        (Decimal("0.192") * 11 - Decimal("0.1632") * 11) * HOURS_A_MONTH,
        (Decimal("0.192") * 11 - Decimal("0.1632") * 9) * HOURS_A_MONTH,
    )
    assert wording.saving(found) == "231 to 470 USD a month less (15 to 30 %)"
    assert (
        wording.against_claim(1.0, found)
        == "People often claim savings of 20 to 40 %; this fleet saves 15 to 30 % at 1."
    )
    # While both run: eleven more nodes of Graviton.
    assert found.overlap == Decimal("0.1632") * 11 * HOURS_A_MONTH


@pytest.mark.parametrize(
    ("least", "most", "words", "claim"),
    [
        (10, 20, "10 to 20 USD a month less (10 to 20 %)", "this fleet saves 10 to 20 % at 0.5"),
        (0, 0, "0 USD a month less (0 %)", "this fleet saves 0 % at 0.5"),
        (-20, -10, "10 to 20 USD a month more", "this fleet pays 10 to 20 % more at 0.5"),
        (
            -10,
            20,
            "between 10 USD a month more and 20 less",
            "this fleet pays between 10 % more and 20 % less at 0.5",
        ),
    ],
)
def test_a_saving_that_is_none_is_not_called_one(least: int, most: int, words: str, claim: str) -> None:
    """Money is more or less, never minus."""
    ends = Range(Decimal(least), Decimal(most))
    share = Range(Decimal(least) / 100, Decimal(most) / 100)
    found = replace(step(sized_deployment("cart", 4, 1000)), saving=ends, share=share)
    assert wording.saving(found) == words
    assert claim in wording.against_claim(0.5, found)


def test_pods_that_stay_keep_their_nodes_and_the_sentence_says_what_they_cost() -> None:
    """A workload on hold: its x86 nodes are in the bill of 1.0."""
    found = step(
        sized_deployment("cart", 4, 1000),
        sized_deployment("pay", 4, 1000),
        rules={"shop/Deployment/pay": Rules(hold=True, reason="audit")},
    )
    assert wording.against_claim(1.0, found).endswith(" The x86 nodes that stay cost 280 USD a month.")


def test_the_min_size_of_x86_groups_is_paid_although_nothing_needs_it() -> None:
    """What eats the saving is in it: three x86 nodes that stay because the config says so."""
    stays = replace(eks_group("x86", "m6i.xlarge"), min_size=3, max_size=9)
    found = step(sized_deployment("cart", 3, 1000), groups=(stays, ARM))
    assert found.saving == Range.of(-Decimal("0.1632") * HOURS_A_MONTH)
    assert wording.saving(found) == "119 USD a month more"


def test_a_group_on_graviton_costs_nothing_before_anything_moved() -> None:
    """Its min_size counts from the first step on: the fleet without Graviton has no such group."""
    found = step(sized_deployment("cart", 4, 1000), after=0.25, groups=(X86, replace(ARM, min_size=2)))
    assert [line.node_count.group for line in found.before.slow.lines] == ["x86"]
    assert [line.node_count.nodes for line in found.after.slow.lines] == [1, 2]


def test_pods_that_no_group_takes_make_the_saving_unknown() -> None:
    """Nodes that would have to be added are not free either."""
    small = eks_group("x86", "m6i.large"), eks_group("graviton", "m7g.large")
    found = step(sized_deployment("big", 1, 3000), groups=small)
    assert found.saving is None
    assert wording.saving(found) == (
        "unknown: x86: its largest pod does not fit a m6i.large: choose a larger type; graviton: its "
        "largest pod does not fit a m7g.large: choose a larger type"
    )


def test_without_groups_nothing_is_sized() -> None:
    """Zero against zero is no saving of zero."""
    assert step(sized_deployment("cart", 3, 1000), groups=()).saving is None


def test_a_savings_plan_that_is_bound_to_x86_eats_the_saving() -> None:
    """Paid whether m6i runs or not: what Graviton costs comes on top, and the sentence names the plan."""
    bound = plan("ec2-instance-savings-plan", "m6i", "1.0", "0.5", datetime(2027, 3, 1, tzinfo=UTC))
    money = tariff(commitments=(bound,))
    found = step(sized_deployment("cart", 40, 1000), money=money)
    assert found.saving
    assert found.saving.most < 0
    assert wording.stranded(1.0, found) == [
        "At 1, 730 USD a month of a commitment are unused: ec2-instance-savings-plan of m6i, 1.0 USD an hour "
        "until 2027-03-01, which only covers m6i."
    ]


def test_a_compute_savings_plan_follows_to_graviton() -> None:
    """The saving is that of the rest, and nothing of the plan is lost while there is enough to cover."""
    money = tariff(commitments=(plan(COMPUTE_PLAN, "", "0.5"),))
    found = step(sized_deployment("cart", 40, 1000), money=money)
    assert found.saving
    assert found.saving.least == (Decimal("0.192") - Decimal("0.1632")) * 11 * HOURS_A_MONTH
    assert wording.stranded(1.0, found) == []


def test_a_commitment_that_ended_is_not_counted_and_said() -> None:
    """The same plan a month after its end."""
    over = plan("reserved-instances", "m6i", "1.0", "0.5", datetime(2026, 10, 1, tzinfo=UTC))
    money = tariff(commitments=(over,))
    assert make_bill([held("m6i.xlarge", 1)], money).total == Decimal("0.192") * HOURS_A_MONTH
    assert wording.assumptions(money, 0.15)[-1] == (
        "not counted, because it has ended: reserved-instances of m6i, 1.0 USD an hour until 2026-10-01"
    )


def test_every_saving_comes_with_what_it_rests_on() -> None:
    """Headroom, speed, discounts and commitments as configured."""
    money = tariff(discounts={"all": Decimal("0.1")}, speed=(Decimal("0.9"), Decimal("1.1")))
    said = " | ".join(wording.assumptions(money, 0.2))
    for words in ("20 % on top", "0.9 to 1.1 times", "730 hours a month", "all 10 %", "no Savings Plans"):
        assert words in said


# What the properties are about: prices, nodes, discounts, commitments.

MONEY = st.decimals(min_value="0.001", max_value="20", places=4)
KINDS = ("m5.large", "m5.xlarge", "c5.large", "m7g.large", "m8g.large", "c8g.large")
HOLDINGS = st.lists(
    st.builds(
        held,
        st.sampled_from(KINDS),
        st.integers(0, 50),
        spot=st.booleans(),
    ),
    max_size=5,
)
COMMITMENTS = st.lists(
    st.builds(
        plan,
        st.just("ec2-instance-savings-plan"),
        st.sampled_from(("m5", "c5", "m7g")),
        MONEY.map(str),
        st.sampled_from(("0", "0.28", "0.66")),
    )
    | st.builds(plan, st.just(COMPUTE_PLAN), st.just(""), MONEY.map(str), st.sampled_from(("0", "0.5"))),
    max_size=3,
).map(tuple)
SHARES = st.dictionaries(
    st.sampled_from(("all", "x86", "graviton", "m5")), st.decimals(0, "0.9", places=2), max_size=3
)


@examples
@given(HOLDINGS, COMMITMENTS, SHARES)
def test_a_bill_holds_its_commitments_and_no_more_than_list(
    holdings: list[NodeCount], commitments: tuple[Commitment, ...], shares: dict[str, Decimal]
) -> None:
    """At least what is paid in advance, at most that and everything else at its rate; nothing below zero."""
    money = tariff(commitments=commitments, discounts=shares)
    bill = make_bill(holdings, money)
    paid = sum((one.usd_per_hour for one in commitments), Decimal(0)) * HOURS_A_MONTH
    lines = sum((line.monthly or Decimal(0) for line in bill.lines), Decimal(0))
    slack = Decimal("1e-15")
    assert paid - slack <= bill.known <= paid + lines + slack
    assert (bill.total is None) == any(line.price is None for line in bill.lines)
    for one, usd in bill.stranded.items():
        same = sum(other == one for other in commitments)
        assert -slack <= usd <= one.usd_per_hour * same * HOURS_A_MONTH + slack


@examples
@given(HOLDINGS, COMMITMENTS, SHARES, st.sampled_from(KINDS), st.booleans())
def test_one_more_node_never_costs_less(
    holdings: list[NodeCount],
    commitments: tuple[Commitment, ...],
    shares: dict[str, Decimal],
    kind: str,
    spot: bool,
) -> None:
    """Also where it is covered in advance, or where its price is not known."""
    money = tariff(commitments=commitments, discounts=shares)
    fewer, more = make_bill(holdings, money), make_bill([*holdings, held(kind, 1, spot=spot)], money)
    assert more.known >= fewer.known - Decimal("1e-15")
    assert not (fewer.unknown and not more.unknown)


@examples
@given(HOLDINGS, MONEY, MONEY)
def test_a_higher_price_never_costs_less(holdings: list[NodeCount], first: Decimal, second: Decimal) -> None:
    """Of the one type whose price the config gives."""
    low, high = sorted((first, second))
    cheap, dear = (make_bill(holdings, tariff(prices={"m5.large": usd})) for usd in (low, high))
    assert cheap.known <= dear.known


@examples
@given(
    st.integers(1, 60),
    st.integers(100, 3000),
    st.tuples(st.integers(50, 200), st.integers(50, 200)),
    st.sampled_from(((0.0, 0.2), (0.0, 1.0), (0.5, 0.8), (0.5, 1.0))),
    COMMITMENTS,
)
def test_ranges_are_in_order_and_share_their_assumptions(
    replicas: int,
    millicpu: int,
    speeds: tuple[int, int],
    ratios: tuple[float, float],
    commitments: tuple[Commitment, ...],
) -> None:
    """Least before most; a saving is before less after at one speed, never at two."""
    low, high = sorted(Decimal(speed) / 100 for speed in speeds)
    found = step(
        sized_deployment("cart", replicas, millicpu),
        before=ratios[0],
        after=ratios[1],
        money=tariff(speed=(low, high), commitments=commitments),
    )
    assert found.saving
    assert found.share
    assert found.after.monthly
    assert found.saving.least <= found.saving.most
    assert found.share.least <= found.share.most
    assert found.after.monthly.least <= found.after.monthly.most
    assert found.overlap is not None
    assert found.overlap >= 0
    ends = {
        found.before.slow.known - found.after.slow.known,
        found.before.fast.known - found.after.fast.known,
    }
    assert {found.saving.least, found.saving.most} == ends
    # Faster cores never need more nodes.
    assert found.after.fast.known <= found.after.slow.known + Decimal("1e-15")


@examples
@given(st.integers(1, 60), st.integers(100, 3000), st.sampled_from((0.2, 0.5, 0.8, 1.0)))
def test_a_price_that_is_not_known_is_never_zero(replicas: int, millicpu: int, ratio: float) -> None:
    """In a region without prices nothing is saved and nothing is lost: it is not known."""
    found = step(sized_deployment("cart", replicas, millicpu), after=ratio, money=tariff("ap-south-1"))
    assert (found.saving, found.share, found.overlap) == (None, None, None)
    assert found.unknown
