"""Asking AWS for prices, with boto3 over HTTP against the stand-in."""

import sys
from collections.abc import Iterator
from decimal import Decimal

import pytest

from archshift.common.errors import ArchshiftError
from archshift.cost.aws_prices import ask
from archshift.cost.prices import Price
from archshift.cost.rules import CostRules
from archshift.nodes.groups import NodeGroup
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.report.step_cost import stack_tariff
from archshift.settings.stack import Settings
from tests.standins.pricing import PriceList, serve

GROUPS = {
    name: NodeGroup(name=name, instance_type=INSTANCE_TYPES[kind], size=1, zones=("a",))
    for name, kind in (("x86", "m5.large"), ("graviton", "m7g.large"))
}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[PriceList]:
    """The stand-in, in place of AWS, and an identity."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    prices = {
        ("eu-west-1", "m5.large"): ("0.1070000000",),
        # A product of nothing beside the real one, and one whose price is not to be told.
        ("eu-west-1", "m7g.large"): ("0.0000000000", "0.0910000000"),
        ("eu-west-1", "c5.large"): ("0.1", "0.2"),
        ("eu-west-1", "r5.large"): ("not a number",),
    }
    with serve(prices) as held:
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", held.endpoint)
        yield held


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """No AWS identity."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")


def test_aws_is_asked_for_linux_on_shared_hardware(aws: PriceList) -> None:
    """One request a type, with the filters that leave one product."""
    assert ask("eu-west-1", ["m7g.large", "m5.large", "m5.large"]) == {
        "m5.large": Price(Decimal("0.107"), "AWS price list"),
        "m7g.large": Price(Decimal("0.091"), "AWS price list"),
    }
    assert aws.asked[0] == {
        "ServiceCode": "AmazonEC2",
        "instanceType": "m5.large",
        "regionCode": "eu-west-1",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "licenseModel": "No License required",
    }
    assert len(aws.asked) == 2


@pytest.mark.parametrize("name", ["c5.large", "r5.large", "m8g.large"])
def test_what_is_not_one_price_is_no_price(aws: PriceList, name: str) -> None:
    """Two different ones, none that is a number, no product."""
    assert ask("eu-west-1", [name]) == {}
    assert len(aws.asked) == 1


@pytest.mark.parametrize(
    ("region", "currency", "problem"),
    [
        ("us-gov-west-1", "USD", "AWS has no price list for us-gov-west-1 (partition aws-us-gov)"),
        ("cn-north-1", "CNY", "the AWS price list is in CNY there, and archshift counts in USD"),
        ("eusc-de-east-1", "EUR", "the AWS price list is in EUR there, and archshift counts in USD"),
    ],
)
def test_partitions_without_prices_in_usd_say_so(
    aws: PriceList, region: str, currency: str, problem: str
) -> None:
    """No price is better than one in another currency."""
    aws.prices[region, "m5.large"] = ("0.7",)
    aws.currency = currency
    with pytest.raises(ArchshiftError) as error:
        ask(region, ["m5.large"])
    assert str(error.value) == f"{problem}; set archshift:cost.prices"


@pytest.mark.parametrize(
    ("region", "endpoint"),
    [
        ("eu-west-1", "us-east-1"),
        ("cn-north-1", "cn-northwest-1"),
        ("eusc-de-east-1", "eusc-de-east-1"),
        ("us-iso-west-1", "us-iso-east-1"),
    ],
)
def test_each_partition_has_its_endpoint(aws: PriceList, region: str, endpoint: str) -> None:
    """A request that is signed for another partition is refused."""
    aws.prices[region, "m5.large"] = ("0.5",)
    assert ask(region, ["m5.large"])["m5.large"].usd == Decimal("0.5")
    assert aws.signed_for == [endpoint]


def test_a_refusal_is_one_sentence(aws: PriceList) -> None:
    """With the words of AWS."""
    aws.refusal = "User: arn:aws:iam::1:user/x is not authorized to perform: pricing:GetProducts"
    with pytest.raises(ArchshiftError) as error:
        ask("eu-west-1", ["m5.large"])
    assert str(error.value) == (
        "the AWS price list did not return prices for eu-west-1: An error occurred "
        "(AccessDeniedException) when calling the GetProducts operation: User: arn:aws:iam::1:user/x is not "
        "authorized to perform: pricing:GetProducts; check the AWS credentials, or set archshift:cost.prices"
    )


def test_without_an_identity_or_boto3_the_sentence_says_so(
    nobody: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And how to install it."""
    del nobody
    with pytest.raises(
        ArchshiftError, match="did not return prices for eu-west-1: Unable to locate credentials"
    ):
        ask("eu-west-1", ["m5.large"])
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ArchshiftError, match="install archshift again"):
        ask("eu-west-1", ["m5.large"])


def test_a_stack_on_eks_is_priced_by_aws_and_its_own_prices_are_not_asked_for(aws: PriceList) -> None:
    """The types of its groups; what the config gives needs no answer."""
    rules = CostRules(region="eu-west-1", prices={"m5.large": Decimal("0.05")})
    stack = Settings(stack="prod", arm_ratio=0.2, node_groups=GROUPS, cost=rules)
    money, note = stack_tariff(stack, [])
    assert note == ""
    assert [one["instanceType"] for one in aws.asked] == ["m7g.large"]
    assert [str(price.usd) for name in ("m5.large", "m7g.large") if (price := money.price(name))] == [
        "0.05",
        "0.0910000000",
    ]


def test_the_lab_asks_nobody(aws: PriceList) -> None:
    """Its nodes are in no account: the table will do, and no request leaves the machine."""
    stack = Settings(
        stack="lab", arm_ratio=0.2, platform="lab", node_groups=GROUPS, cost=CostRules(region="eu-west-1")
    )
    assert stack_tariff(stack, [])[1] == ""
    assert aws.asked == []


def test_what_aws_does_not_answer_the_table_does_and_the_reason_is_kept(nobody: None) -> None:
    """Unless AWS alone was to be asked."""
    del nobody
    stack = Settings(stack="prod", arm_ratio=0.2, node_groups=GROUPS, cost=CostRules(region="eu-west-1"))
    money, note = stack_tariff(stack, [])
    assert "Unable to locate credentials" in note
    assert money.price("m5.large") == Price(Decimal("0.107"), "table of about 2019")
    with pytest.raises(ArchshiftError, match="Unable to locate credentials"):
        stack_tariff(stack, [], "aws")


def test_without_a_region_nothing_has_a_price() -> None:
    """One sentence with the key."""
    with pytest.raises(
        ArchshiftError, match=r"archshift:cost\.region is not set, and neither aws:region nor"
    ):
        stack_tariff(Settings(stack="prod", arm_ratio=0.2), [])
