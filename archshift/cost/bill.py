"""What the nodes of a plan cost, and what a step saves. Pure.

One rule (``sizing``: requests plus headroom) sizes both sides of a comparison. So surplus nodes of today do
not count as a saving of Graviton. Each result is a range: at one end a Graviton vCPU does the least work of
``CostRules.speed``, at the other the most. If a price is unknown, the total is unknown, and the known part is
only a lower bound.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from archshift.cluster.model import Inventory
from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.defaults import DEFAULT_HEADROOM
from archshift.common.kubernetes import INSTANCE_TYPE_LABEL, REGION_LABEL, ZONE_LABEL
from archshift.cost.prices import Price, listed, regions
from archshift.cost.rules import REGION, Commitment, CostRules
from archshift.nodes.groups import AnyNodeGroup, Node
from archshift.plan.model import Plan
from archshift.plan.sizing import size

HOURS_A_MONTH: Final = 730
"""AWS counts a month as 730 hours (8,760 hours a year)."""

# EKS and Karpenter label Spot nodes differently.
_CAPACITY_LABELS: Final = ("eks.amazonaws.com/capacityType", "karpenter.sh/capacity-type")


@dataclass(frozen=True, slots=True)
class Range:
    """From the least to the most; USD a month where nothing else is documented."""

    least: Decimal
    most: Decimal

    @classmethod
    def of(cls, *ends: Decimal) -> "Range":
        """Return the smallest range that contains all values."""
        return cls(min(ends), max(ends))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCount:
    """Equal nodes of one group.

    Attributes:
        group: The group's name; empty for nodes outside all groups.
        instance_type: Empty if the nodes have no label with their type.
    """

    group: str
    architecture: str
    instance_type: str
    nodes: int
    spot: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """Every price that applies.

    Attributes:
        aws_prices: Prices that AWS returned for this region, by type.
        now: The time that decides which commitments have ended.
    """

    region: str
    rules: CostRules = field(default_factory=CostRules)
    aws_prices: Mapping[str, Price] = field(default_factory=dict)
    now: datetime

    def price(self, instance_type: str, spot: bool = False) -> Price | None:
        """Return a type's price before discounts; None if it is unknown."""
        own = (self.rules.spot if spot else self.rules.prices).get(instance_type)
        if own is not None:
            return Price(own, "archshift:cost.spot" if spot else "archshift:cost.prices")
        return None if spot else self.aws_prices.get(instance_type) or listed(instance_type, self.region)

    def discount(self, instance_type: str) -> Decimal:
        """Return the share off the list price; 0 for a type whose price is in ``archshift:cost.prices``."""
        return Decimal(0) if instance_type in self.rules.prices else self.rules.discount(instance_type)

    @property
    def commitments(self) -> list[Commitment]:
        """The active commitments. Those for one family come first, because AWS applies them first."""
        active = [commitment for commitment in self.rules.commitments if commitment.active(self.now)]
        return sorted(active, key=lambda commitment: not commitment.family)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a bill.

    Attributes:
        price: The price of one node, an hour, after discounts; None if it is unknown.
    """

    node_count: NodeCount
    price: Price | None

    @property
    def monthly(self) -> Decimal | None:
        """USD a month at that price, before commitments; None if the price is unknown."""
        return self.price.usd * self.node_count.nodes * HOURS_A_MONTH if self.price else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What nodes cost a month.

    Attributes:
        lines: One line for each node count above 0.
        known: USD a month of the commitments, and of all lines with a price as far as commitments do not
            cover them.
        unknown: Why the total is more than ``known``, a sentence each; empty if the bill is complete.
        stranded: Commitment to its unused part, in USD a month.
    """

    lines: tuple[Line, ...] = ()
    known: Decimal = Decimal(0)
    unknown: tuple[str, ...] = ()
    stranded: Mapping[Commitment, Decimal] = field(default_factory=dict)

    @property
    def total(self) -> Decimal | None:
        """USD a month; None if a part is unknown."""
        return None if self.unknown else self.known

    def node_counts(self, architecture: Architecture) -> list[NodeCount]:
        """Return the nodes of one side."""
        return [line.node_count for line in self.lines if line.node_count.architecture == architecture]


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRange:
    """A plan's bill at both ends of the range.

    Attributes:
        slow: The bill if a Graviton vCPU does the least work.
        fast: The bill if it does the most work.
    """

    slow: Bill
    fast: Bill

    @property
    def monthly(self) -> Range | None:
        """USD a month; None if a part is unknown."""
        if self.slow.total is None or self.fast.total is None:
            return None
        return Range.of(self.slow.total, self.fast.total)

    @property
    def at_least(self) -> Decimal:
        """The known part, in USD a month."""
        return min(self.slow.known, self.fast.known)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Why the total is unknown, a sentence each."""
        return tuple(dict.fromkeys(self.slow.unknown + self.fast.unknown))

    @property
    def stranded(self) -> dict[Commitment, Range]:
        """Commitment to its unused part, in USD a month, without the commitments that are used up."""
        both = {
            commitment: (usd, self.fast.stranded[commitment])
            for commitment, usd in self.slow.stranded.items()
        }
        return {commitment: Range.of(*ends) for commitment, ends in both.items() if max(ends) > 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class BillComparison:
    """The bills of two plans.

    Attributes:
        saving: USD a month that ``after`` costs less than ``before``; negative if it costs more; None if a
            price or a node count is unknown.
        share: The saving as a share of the cost of ``before``; None also if that cost is 0.
        overlap: USD a month more than ``before`` while its x86 nodes still run beside the Graviton nodes of
            ``after``; None if unknown.
    """

    before: BillRange
    after: BillRange
    saving: Range | None
    share: Range | None
    overlap: Decimal | None

    @property
    def unknown(self) -> tuple[str, ...]:
        """Why the total is unknown, a sentence each."""
        return tuple(dict.fromkeys(self.before.unknown + self.after.unknown))


def make_bill(node_counts: Iterable[NodeCount], tariff: Tariff, unknown: Iterable[str] = ()) -> Bill:
    """Return what nodes cost a month.

    Commitments always cost their full price. Each covers on-demand nodes up to ``Commitment.covers``;
    commitments for one family come first. The nodes that no commitment covers cost their discounted price.

    Args:
        unknown: Further reasons why the total is unknown, a sentence each.
    """
    lines: list[Line] = []
    reasons = dict.fromkeys(unknown)
    on_demand: dict[str, Decimal] = {}
    hourly = Decimal(0)
    for node_count in node_counts:
        if not node_count.nodes:
            continue
        price = tariff.price(node_count.instance_type, node_count.spot)
        if price is None:
            reasons[_why_unknown(node_count, tariff.region)] = None
        elif node_count.spot:
            hourly += price.usd * node_count.nodes
        else:
            name = node_count.instance_type
            on_demand[name] = on_demand.get(name, Decimal(0)) + price.usd * node_count.nodes
            price = Price(price.usd * (1 - tariff.discount(name)), price.source)
        lines.append(Line(node_count=node_count, price=price))
    stranded: dict[Commitment, Decimal] = {}
    for commitment in tariff.commitments:
        left = commitment.covers
        for name in sorted(on_demand):
            if not commitment.family or name.partition(".")[0] == commitment.family:
                used = min(left, on_demand[name])
                on_demand[name] -= used
                left -= used
        hourly += commitment.usd_per_hour
        unused = commitment.usd_per_hour * left / commitment.covers * HOURS_A_MONTH
        stranded[commitment] = stranded.get(commitment, Decimal(0)) + unused
    hourly += sum(
        (value * (1 - tariff.discount(name)) for name, value in on_demand.items()), start=Decimal(0)
    )
    return Bill(lines=tuple(lines), known=hourly * HOURS_A_MONTH, unknown=tuple(reasons), stranded=stranded)


def _why_unknown(node_count: NodeCount, region: str) -> str:
    name = node_count.instance_type
    if not name:
        where = f"of node group {node_count.group}" if node_count.group else "outside all node groups"
        return f"archshift cannot price the nodes {where}, because they have no label {INSTANCE_TYPE_LABEL}"
    if node_count.spot:
        return (
            f"the Spot price of {name} is unknown; set archshift:cost.spot.{name} to the price that you pay"
        )
    regions_of_table = "" if region in regions() else f" (the table has {', '.join(regions())})"
    return (
        f"the price of {name} in {region} is unknown{regions_of_table}; run with AWS credentials, or set "
        f"archshift:cost.prices.{name}"
    )


def running(nodes: Iterable[Node], groups: Sequence[AnyNodeGroup]) -> list[NodeCount]:
    """Return the nodes that run now; nodes outside all groups come last."""
    counts: dict[tuple[int, str, str, str, bool], int] = {}
    for node in nodes:
        place = next((at for at, group in enumerate(groups) if group.owns(node)), len(groups))
        spot = any(node.labels.get(label, "").lower() == "spot" for label in _CAPACITY_LABELS)
        name = groups[place].name if place < len(groups) else ""
        key = (place, name, node.architecture, node.labels.get(INSTANCE_TYPE_LABEL, ""), spot)
        counts[key] = counts.get(key, 0) + 1
    return [
        NodeCount(group=name, architecture=side, instance_type=kind, nodes=count, spot=spot)
        for (_, name, side, kind, spot), count in sorted(counts.items())
    ]


def region_of(nodes: Iterable[Node]) -> str:
    """Return the region of all nodes, from their labels; empty if they have none, or more than one."""
    names = set()
    for node in nodes:
        zone = node.labels.get(ZONE_LABEL, "")
        # A zone's name is the region's plus one letter. A local zone has a longer name and does not count.
        of_zone = zone[:-1] if REGION.fullmatch(zone[:-1]) else ""
        names.add(node.labels.get(REGION_LABEL, "") or of_zone)
    names.discard("")
    return names.pop() if len(names) == 1 else ""


def bill_of(
    plan: Plan,
    inventory: Inventory,
    groups: Sequence[AnyNodeGroup],
    tariff: Tariff,
    headroom: float = DEFAULT_HEADROOM,
) -> BillRange:
    """Return what the nodes cost that a plan needs. Each EKS node group has at least its ``min_size``.

    Args:
        inventory: The cluster of the plan.
        headroom: Capacity to keep free, as a share of the requests.
    """
    slow, fast = (_bill_at(speed, plan, inventory, groups, tariff, headroom) for speed in tariff.rules.speed)
    return BillRange(slow=slow, fast=fast)


def _bill_at(
    speed: Decimal,
    plan: Plan,
    inventory: Inventory,
    groups: Sequence[AnyNodeGroup],
    tariff: Tariff,
    headroom: float,
) -> Bill:
    sizing = size(plan, inventory, groups, headroom, float(speed))
    unknown = [f"{key}: {reason}" for key, reason in sizing.without_group.items()]
    node_counts = []
    for group, need in zip(groups, sizing.needs, strict=True):
        nodes = need.nodes or 0
        # At 0 no pod is on Graviton yet, so its groups do not have to exist.
        begun = nodes > 0 or plan.arm_ratio > 0 or need.architecture == AMD64
        if begun:
            nodes = max(nodes, group.min_nodes)
        if need.nodes is None:
            unknown.append(f"{need.group}: {need.advice}")
        node_counts.append(
            NodeCount(
                group=need.group,
                architecture=need.architecture,
                instance_type=need.instance_type,
                nodes=nodes,
                spot=group.spot,
            )
        )
    return make_bill(node_counts, tariff, unknown)


def compare(
    before: Plan,
    after: Plan,
    inventory: Inventory,
    groups: Sequence[AnyNodeGroup],
    tariff: Tariff,
    headroom: float = DEFAULT_HEADROOM,
) -> BillComparison:
    """Return what a change from one plan to another saves a month.

    For a preview, ``before`` is the plan at the stack's current ratio and ``after`` the previewed plan. Both
    are made for the same inventory (``survey.plan_at``).

    Args:
        after: The plan whose saving is returned.
        inventory: The cluster of both plans.
        groups: The configured node groups. Without groups the saving is None.
        headroom: Capacity to keep free, as a share of the requests.
    """
    old = bill_of(before, inventory, groups, tariff, headroom)
    new = bill_of(after, inventory, groups, tariff, headroom)
    saving = share = overlap = None
    ends = [(old.slow, new.slow), (old.fast, new.fast)]
    if groups and not old.unknown and not new.unknown:
        # Both bills of a pair assume the same speed of a Graviton vCPU.
        saving = Range.of(*(first.known - second.known for first, second in ends))
        if old.slow.known > 0 and old.fast.known > 0:
            share = Range.of(*((first.known - second.known) / first.known for first, second in ends))
        both = make_bill(old.slow.node_counts(AMD64) + new.slow.node_counts(ARM64), tariff)
        overlap = max(Decimal(0), both.known - old.slow.known)
    return BillComparison(before=old, after=new, saving=saving, share=share, overlap=overlap)


def number_json(value: Decimal | None, digits: int = 2) -> float | None:
    """Return a figure as a JSON value, rounded; null if it is unknown."""
    return None if value is None else float(round(value, digits))


def range_json(value: Range | None, digits: int = 2) -> dict[str, float | None] | None:
    """Return a range as a JSON value, its ends rounded; null if it is unknown."""
    if value is None:
        return None
    return {"least": number_json(value.least, digits), "most": number_json(value.most, digits)}
