"""On-demand prices from the AWS Price List API, with whatever AWS identity this process has.

``GetProducts``: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

from archshift.common.aws import aws_client
from archshift.common.errors import ArchshiftError
from archshift.cost.bill import Tariff, region_of, running
from archshift.cost.prices import Price
from archshift.cost.rules import CostRules
from archshift.nodes.groups import AnyNodeGroup, Node, NodeGroup

# The API answers in three regions, with the prices of all.
_ENDPOINT_REGION: Final = "us-east-1"

# Linux without licences on shared hardware, used rather than reserved: one product for each type.
_FILTERS: Final = {
    "operatingSystem": "Linux",
    "tenancy": "Shared",
    "preInstalledSw": "NA",
    "capacitystatus": "Used",
    "licenseModel": "No License required",
}


def tariff_for(
    rules: CostRules,
    groups: tuple[AnyNodeGroup, ...],
    nodes: Iterable[Node],
    source: Literal["auto", "aws", "table"] = "auto",
    *,
    in_aws: bool,
    profile: str = "",
) -> tuple[Tariff, str]:
    """Return the prices that apply to a stack, and why AWS was not asked for them; empty if it was.

    Args:
        rules: What the stack's config says of money.
        groups: Its node groups.
        nodes: The cluster's nodes: their types are priced too, and say the region where nothing else does.
        source: ``aws`` asks the price list, ``table`` takes the built-in table, ``auto`` asks, but not
            for the lab, and takes the table for what it gets no answer to.
        in_aws: The nodes are in an AWS account.
        profile: The AWS profile; empty for the usual one.

    Raises:
        ArchshiftError: The region is not known; or AWS alone was to be asked and gives nothing.
    """
    nodes = list(nodes)
    region = rules.region or region_of(nodes)
    if not region:
        raise ArchshiftError(
            "archshift:cost.region is not set, and neither aws:region nor the nodes' labels name one region",
            "give it, such as eu-west-1",
        )
    asked: dict[str, Price] = {}
    note = ""
    # The lab's nodes are in no account.
    if source == "aws" or (source == "auto" and in_aws):
        types = _types(groups, nodes) - {"", *rules.prices}
        try:
            asked = ask(region, types, profile)
        except ArchshiftError as error:
            if source == "aws":
                raise
            note = str(error)
    return Tariff(region=region, rules=rules, asked=asked, now=datetime.now(UTC)), note


def _types(groups: tuple[AnyNodeGroup, ...], nodes: Iterable[Node]) -> set[str]:
    types = {node_count.instance_type for node_count in running(nodes, groups)}
    for group in groups:
        kinds = (group.instance_type,) if isinstance(group, NodeGroup) else group.instance_types
        types |= {kind.name for kind in kinds}
    return types


def ask(region: str, types: Iterable[str], profile: str = "") -> dict[str, Price]:
    """Return the on-demand prices of instance types for Linux; a type that AWS does not sell is left out.

    Args:
        region: Their region.
        types: Their names.
        profile: The AWS profile; empty for the usual one.

    Raises:
        ArchshiftError: boto3 is not installed, or AWS refused.
    """
    found: dict[str, Price] = {}
    try:
        client = aws_client("pricing", _ENDPOINT_REGION, "the AWS price list is asked", profile=profile)
        for name in sorted(set(types)):
            wanted = {**_FILTERS, "instanceType": name, "regionCode": region}
            answer = client.get_products(
                ServiceCode="AmazonEC2",
                Filters=[{"Type": "TERM_MATCH", "Field": key, "Value": wanted[key]} for key in wanted],
                MaxResults=100,
            )
            prices = {usd for text in answer["PriceList"] for usd in _hourly(json.loads(text))}
            # Two different prices mean that the filters no longer say what is meant: better none.
            if len(prices) == 1:
                found[name] = Price(prices.pop(), "AWS price list")
    except ArchshiftError:
        raise
    # botocore has no common base for what credentials, network and service raise.
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise ArchshiftError(f"the AWS price list gave no prices for {region}: {reason}") from None
    return found


def _hourly(product: Mapping[str, Any]) -> list[Decimal]:
    """Return the prices above 0 by the hour of one product."""
    found = []
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            try:
                usd = Decimal(dimension.get("pricePerUnit", {}).get("USD", "0"))
            except InvalidOperation:
                continue
            # A product of nothing stands beside some real ones; its price is 0.
            if dimension.get("unit") == "Hrs" and usd.is_finite() and usd > 0:
                found.append(usd)
    return found
