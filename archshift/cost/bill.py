"""What the nodes of a plan cost, and what a step saves: a range, with what it rests on.

Pure. Compared is like with like: both sides of a comparison are sized by the same rule (``sizing``:
the pods' requests and some headroom), so that nodes which are larger than needed today do not count
as saved by Graviton. One end of the range takes a Graviton vCPU to do the least work of
``CostRules.speed``, the other the most. A price that is not known makes the total unknown: what is
known is then a lower bound and is called one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from archshift.cluster.model import Inventory
from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.defaults import DEFAULT_HEADROOM
from archshift.common.kubernetes import INSTANCE_TYPE_LABEL, ZONE_LABEL
from archshift.cost.prices import Price, listed, regions
from archshift.cost.rules import REGION, Commitment, CostRules
from archshift.nodes.groups import AnyNodeGroup, EksNodeGroup, Node, NodePool, belongs_to
from archshift.plan.model import Plan
from archshift.plan.sizing import size

HOURS_A_MONTH: Final = 730
"""What AWS counts a month as (8,760 hours a year)."""

REGION_LABEL: Final = "topology.kubernetes.io/region"

# Spot, as EKS and Karpenter label it.
_CAPACITY_LABELS: Final = ("eks.amazonaws.com/capacityType", "karpenter.sh/capacity-type")


@dataclass(frozen=True, slots=True)
class Range:
    """From the least to the most, USD a month unless said otherwise."""

    least: Decimal
    most: Decimal

    @classmethod
    def of(cls, *ends: Decimal) -> "Range":
        """Return the range that has all of these."""
        return cls(min(ends), max(ends))


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeCount:
    """Equal nodes of one group.

    Attributes:
        group: The group's name; empty for nodes of nobody's.
        architecture: Its architecture.
        instance_type: The nodes' type; empty if they do not say.
        nodes: How many.
        spot: They are Spot instances.
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
        region: The AWS region.
        rules: What the config says.
        asked: Prices that AWS gave for this region, by type.
        now: The time, for commitments that end.
    """

    region: str
    rules: CostRules = field(default_factory=CostRules)
    asked: Mapping[str, Price] = field(default_factory=dict)
    now: datetime

    def price(self, instance_type: str, spot: bool = False) -> Price | None:
        """Return a type's price before discounts; None if it is not known."""
        own = (self.rules.spot if spot else self.rules.prices).get(instance_type)
        if own is not None:
            return Price(own, "archshift:cost.spot" if spot else "archshift:cost.prices")
        return None if spot else self.asked.get(instance_type) or listed(instance_type, self.region)

    def discount(self, instance_type: str) -> Decimal:
        """Return the share off: none of what the config gives as the price itself."""
        return Decimal(0) if instance_type in self.rules.prices else self.rules.discount(instance_type)

    @property
    def commitments(self) -> list[Commitment]:
        """Those that are still paid; those that are bound to a family come first, as AWS applies them."""
        active = [one for one in self.rules.commitments if one.active(self.now)]
        return sorted(active, key=lambda one: not one.family)


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a bill.

    Attributes:
        node_count: The nodes.
        price: Of one of them, an hour, after discounts; None if it is not known.
    """

    node_count: NodeCount
    price: Price | None

    @property
    def monthly(self) -> Decimal | None:
        """USD a month at that price, before what is paid in advance; None if it is not known."""
        return self.price.usd * self.node_count.nodes * HOURS_A_MONTH if self.price else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What nodes cost a month.

    Attributes:
        lines: One for each node count above 0.
        known: USD of what is known: commitments, and the rest of the lines that have a price.
        unknown: Why the total is more than ``known``, a sentence each; empty if it is complete.
        stranded: Commitment to the USD of it that pay for nothing.
    """

    lines: tuple[Line, ...] = ()
    known: Decimal = Decimal(0)
    unknown: tuple[str, ...] = ()
    stranded: Mapping[Commitment, Decimal] = field(default_factory=dict)

    @property
    def total(self) -> Decimal | None:
        """USD a month; None if something of it is not known."""
        return None if self.unknown else self.known

    def node_counts(self, architecture: Architecture) -> list[NodeCount]:
        """Return the nodes of one side."""
        return [line.node_count for line in self.lines if line.node_count.architecture == architecture]


@dataclass(frozen=True, slots=True, kw_only=True)
class BillRange:
    """A plan's bill at both ends of the range.

    Attributes:
        slow: A Graviton vCPU does the least work.
        fast: It does the most.
    """

    slow: Bill
    fast: Bill

    @property
    def monthly(self) -> Range | None:
        """USD a month; None if something of it is not known."""
        if self.slow.total is None or self.fast.total is None:
            return None
        return Range.of(self.slow.total, self.fast.total)

    @property
    def at_least(self) -> Decimal:
        """USD a month that are known."""
        return min(self.slow.known, self.fast.known)

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is not known, a sentence each."""
        return tuple(dict.fromkeys(self.slow.unknown + self.fast.unknown))

    @property
    def stranded(self) -> dict[Commitment, Range]:
        """Commitment to the USD a month of it that pay for nothing; those that are used up are left out."""
        both = {one: (self.slow.stranded[one], self.fast.stranded[one]) for one in self.slow.stranded}
        return {one: Range.of(*ends) for one, ends in both.items() if max(ends) > 0}


@dataclass(frozen=True, slots=True, kw_only=True)
class BillComparison:
    """Two plans' bills.

    Attributes:
        before: The one.
        after: The other.
        saving: USD a month that the second costs less, negative if it costs more; None if a price
            or a node count is not known.
        share: The same as a share of what the first costs; None too if that is nothing.
        overlap: USD a month more while the x86 nodes of ``before`` still run beside the Graviton
            nodes of ``after``; None if not known.
    """

    before: BillRange
    after: BillRange
    saving: Range | None
    share: Range | None
    overlap: Decimal | None

    @property
    def unknown(self) -> tuple[str, ...]:
        """What is not known, a sentence each."""
        return tuple(dict.fromkeys(self.before.unknown + self.after.unknown))


def make_bill(node_counts: Iterable[NodeCount], tariff: Tariff, unknown: Iterable[str] = ()) -> Bill:
    """Return what nodes cost a month.

    Commitments are paid in any case. Each covers on-demand nodes up to ``Commitment.covers``, first
    those bound to a family, then those that follow; what is left over costs its discounted price.

    Args:
        node_counts: The nodes.
        tariff: The prices.
        unknown: What else is not known about them, a sentence each.
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
        where = f"node group {node_count.group}" if node_count.group else "no group"
        return f"nodes of {where} have no label {INSTANCE_TYPE_LABEL}, so nobody knows what they cost"
    if node_count.spot:
        return f"the Spot price of {name} is not known; give what you pay as archshift:cost.spot.{name}"
    held = "" if region in regions() else f" (the table has {', '.join(regions())})"
    return (
        f"the price of {name} in {region} is not known{held}; run with AWS credentials, or give it as "
        f"archshift:cost.prices.{name}"
    )


def running(nodes: Iterable[Node], groups: Sequence[AnyNodeGroup]) -> list[NodeCount]:
    """Return the nodes that run now, those of nobody's group last."""
    counts: dict[tuple[int, str, str, str, bool], int] = {}
    for node in nodes:
        place = next((at for at, group in enumerate(groups) if belongs_to(node, group)), len(groups))
        spot = any(node.labels.get(label, "").lower() == "spot" for label in _CAPACITY_LABELS)
        name = groups[place].name if place < len(groups) else ""
        key = (place, name, node.architecture, node.labels.get(INSTANCE_TYPE_LABEL, ""), spot)
        counts[key] = counts.get(key, 0) + 1
    return [
        NodeCount(group=name, architecture=side, instance_type=kind, nodes=count, spot=spot)
        for (_, name, side, kind, spot), count in sorted(counts.items())
    ]


def region_of(nodes: Iterable[Node]) -> str:
    """Return the one region of nodes, from their labels; empty if they do not say, or are of several."""
    found = set()
    for node in nodes:
        zone = node.labels.get(ZONE_LABEL, "")
        # A zone's name is its region's and a letter; a local zone's is longer and is passed over.
        of_zone = zone[:-1] if REGION.fullmatch(zone[:-1]) else ""
        found.add(node.labels.get(REGION_LABEL, "") or of_zone)
    found.discard("")
    return found.pop() if len(found) == 1 else ""


def bill_of(
    plan: Plan,
    inventory: Inventory,
    groups: Sequence[AnyNodeGroup],
    tariff: Tariff,
    headroom: float = DEFAULT_HEADROOM,
) -> BillRange:
    """Return what the nodes cost that a plan needs, each group at least its ``min_size``.

    Args:
        plan: The plan.
        inventory: The cluster that it was made for.
        groups: The node groups as configured.
        tariff: The prices.
        headroom: Share of the requests kept free on top of them.
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
        # At 0 nothing is on Graviton yet: its groups need not be there.
        begun = nodes > 0 or plan.arm_ratio > 0 or need.architecture == AMD64
        if isinstance(group, EksNodeGroup) and begun:
            nodes = max(nodes, group.min_size)
        if need.nodes is None:
            unknown.append(f"{need.group}: {need.advice}")
        node_counts.append(
            NodeCount(
                group=need.group,
                architecture=need.architecture,
                instance_type=need.instance_type,
                nodes=nodes,
                spot=_on_spot(group),
            )
        )
    return make_bill(node_counts, tariff, unknown)


def _on_spot(group: AnyNodeGroup) -> bool:
    """Whether all of a group's nodes are Spot; of a NodePool that may take either, the dearer counts."""
    if isinstance(group, NodePool):
        return group.capacity_types == ("spot",)
    return isinstance(group, EksNodeGroup) and group.capacity_type == "SPOT"


def compare(
    before: Plan,
    after: Plan,
    inventory: Inventory,
    groups: Sequence[AnyNodeGroup],
    tariff: Tariff,
    headroom: float = DEFAULT_HEADROOM,
) -> BillComparison:
    """Return what a change from one plan to another saves a month.

    For a preview: ``before`` is the plan at the ratio that the stack had, ``after`` the one that is
    previewed, both for the same inventory (``survey.plan_at``).

    Args:
        before: The plan to compare with.
        after: The plan whose cost is asked for.
        inventory: The cluster that both were made for.
        groups: The node groups as configured; without any, nothing is sized and the saving is None.
        tariff: The prices.
        headroom: Share of the requests kept free on top of them.
    """
    old = bill_of(before, inventory, groups, tariff, headroom)
    new = bill_of(after, inventory, groups, tariff, headroom)
    saving = share = overlap = None
    ends = [(old.slow, new.slow), (old.fast, new.fast)]
    if groups and not old.unknown and not new.unknown:
        # The same processor before and after: ends of different assumptions are never mixed.
        saving = Range.of(*(first.known - second.known for first, second in ends))
        if old.slow.known > 0 and old.fast.known > 0:
            share = Range.of(*((first.known - second.known) / first.known for first, second in ends))
        both = make_bill(old.slow.node_counts(AMD64) + new.slow.node_counts(ARM64), tariff)
        overlap = max(Decimal(0), both.known - old.slow.known)
    return BillComparison(before=old, after=new, saving=saving, share=share, overlap=overlap)


def number_json(value: Decimal | None, digits: int = 2) -> float | None:
    """Return a figure as a JSON value, rounded; null where it is not known."""
    return None if value is None else float(round(value, digits))


def range_json(value: Range | None, digits: int = 2) -> dict[str, float | None] | None:
    """Return a range as a JSON value, its ends rounded; null where it is not known."""
    if value is None:
        return None
    return {"least": number_json(value.least, digits), "most": number_json(value.most, digits)}
