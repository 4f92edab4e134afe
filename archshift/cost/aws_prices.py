"""Reads on-demand prices from the AWS Price List API, with the AWS identity of the stack.

``GetProducts``:
https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html
"""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

from archshift.common.aws import NOBODY_SPECIAL, AwsIdentity, aws_client, partition_of, served_regions
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import INSTANCE_TYPE_LABEL
from archshift.common.text import one_line
from archshift.cost.bill import Tariff, region_of, running
from archshift.cost.prices import Price
from archshift.cost.rules import CostRules
from archshift.nodes.groups import AnyNodeGroup, Node

_PURPOSE: Final = "read the AWS price list"
_OWN_PRICES: Final = "set archshift:cost.prices"

# Linux without licences on shared hardware, on demand: exactly one product for each type.
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
    identity: AwsIdentity = NOBODY_SPECIAL,
) -> tuple[Tariff, str]:
    """Return the prices that apply to a stack, and why AWS did not return prices; empty if it did.

    Args:
        nodes: The cluster's nodes. Their types are priced too. If no setting gives the region, their labels
            do.
        source: ``aws`` reads the AWS price list, ``table`` uses the built-in table. ``auto`` reads the price
            list if ``in_aws``, and uses the table for all types without a price there.
        in_aws: The nodes are in an AWS account.
        identity: With which AWS credentials.

    Raises:
        ArchshiftError: The region is unknown; or ``source`` is ``aws`` and AWS returns an error.
    """
    nodes = list(nodes)
    region = rules.region or region_of(nodes)
    if not region:
        raise ArchshiftError(
            "archshift:cost.region is not set, and neither aws:region nor the nodes' labels name one region",
            "set it, for example to eu-west-1",
        )
    aws_prices: dict[str, Price] = {}
    note = ""
    # The nodes of the lab are in no AWS account.
    if source == "aws" or (source == "auto" and in_aws):
        types = _types(groups, nodes) - {"", *rules.prices}
        try:
            aws_prices = ask(region, types, identity)
        except ArchshiftError as error:
            if source == "aws":
                raise
            note = str(error)
    return Tariff(region=region, rules=rules, aws_prices=aws_prices, now=datetime.now(UTC)), note


def _types(groups: tuple[AnyNodeGroup, ...], nodes: Iterable[Node]) -> set[str]:
    types = {node_count.instance_type for node_count in running(nodes, groups)}
    for group in groups:
        # A bill counts nodes of these types. A NodePool may have hundreds of others.
        types |= {node.labels[INSTANCE_TYPE_LABEL] for node in group.samples(("",))}
    return types


def ask(region: str, types: Iterable[str], identity: AwsIdentity = NOBODY_SPECIAL) -> dict[str, Price]:
    """Return the on-demand prices of instance types for Linux, without the types that AWS does not sell.

    Args:
        identity: With which AWS credentials.

    Raises:
        ArchshiftError: boto3 is not installed, AWS returns an error, or it has no prices in USD there.
    """
    prices: dict[str, Price] = {}
    endpoint = _endpoint(region)
    try:
        client = aws_client("pricing", endpoint, _PURPOSE, identity)
        for name in sorted(set(types)):
            wanted = {**_FILTERS, "instanceType": name, "regionCode": region}
            answer = client.get_products(
                ServiceCode="AmazonEC2",
                Filters=[{"Type": "TERM_MATCH", "Field": key, "Value": wanted[key]} for key in wanted],
                MaxResults=100,
            )
            hourly = {usd for text in answer["PriceList"] for usd in _hourly(json.loads(text))}
            # Two different prices mean that the filters no longer select one product, so use no price.
            if len(hourly) == 1:
                prices[name] = Price(hourly.pop(), "AWS price list")
    except ArchshiftError:
        raise
    # botocore's exceptions share no base class.
    except Exception as error:
        reason = one_line(error, 300)
        raise ArchshiftError(
            f"the AWS price list did not return prices for {region}: {reason}",
            "check the AWS credentials, or set archshift:cost.prices",
        ) from None
    return prices


def _endpoint(region: str) -> str:
    """Return the region whose endpoint has the prices of a region: one for each partition.

    Raises:
        ArchshiftError: boto3 is not installed, or the region's partition has no price list.
    """
    partition = partition_of(region, _PURPOSE)
    # A region that the SDK does not know yet is in the standard partition, or there is no price for it.
    name, endpoint = (partition.name, partition.global_region) if partition else ("aws", "us-east-1")
    if endpoint not in served_regions("pricing", name):
        raise ArchshiftError(f"AWS has no price list for {region} (partition {name})", _OWN_PRICES)
    return endpoint


def _hourly(product: Mapping[str, Any]) -> list[Decimal]:
    """Return the hourly prices of one product that are above 0.

    Raises:
        ArchshiftError: They are in another currency.
    """
    prices = []
    for term in product.get("terms", {}).get("OnDemand", {}).values():
        for dimension in term.get("priceDimensions", {}).values():
            by_currency = dimension.get("pricePerUnit", {})
            if by_currency and "USD" not in by_currency:
                # China and the European Sovereign Cloud have bills in currencies of their own.
                raise ArchshiftError(
                    f"the AWS price list is in {', '.join(by_currency)} there, and archshift counts in USD",
                    _OWN_PRICES,
                )
            try:
                usd = Decimal(by_currency.get("USD", "0"))
            except InvalidOperation:
                continue
            # For some types AWS also lists a product with the price 0.
            if dimension.get("unit") == "Hrs" and usd.is_finite() and usd > 0:
                prices.append(usd)
    return prices
