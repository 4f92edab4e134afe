"""What the stack's config says of money (``archshift:cost``)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from archshift.common.architectures import AMD64, ARM64
from archshift.nodes.instance_types import INSTANCE_TYPES

COMPUTE_PLAN: Final = "compute-savings-plan"
EC2_PLAN: Final = "ec2-instance-savings-plan"
RESERVED: Final = "reserved-instances"

# The 40 % better price-performance that AWS states for Graviton ("up to") is 1.4 * 0.85 = 1.19 times
# the work a vCPU at the 15 % lower price of m7g against m6i. Its lower end: no faster.
DEFAULT_SPEED: Final = (Decimal("1.0"), Decimal("1.2"))

REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
"""The form of an AWS region's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """Money that is paid every hour, whether used or not.

    Attributes:
        kind: ``compute-savings-plan`` (follows to any family), ``ec2-instance-savings-plan`` or
            ``reserved-instances`` (both bound to a family).
        family: The family it is bound to; empty for a Compute Savings Plan.
        usd_per_hour: What is paid.
        discount: How far its rate is below on demand, 0 or more and less than 1.
        until: When it ends; None if not said.
    """

    kind: str
    family: str = ""
    usd_per_hour: Decimal
    discount: Decimal
    until: datetime | None = None

    @property
    def covers(self) -> Decimal:
        """The on-demand value an hour that it pays for."""
        return self.usd_per_hour / (1 - self.discount)

    def active(self, now: datetime) -> bool:
        """Whether it is still paid."""
        return self.until is None or now < self.until

    def __str__(self) -> str:
        of = f" of {self.family}" if self.family else ""
        until = f" until {self.until:%Y-%m-%d}" if self.until else ""
        return f"{self.kind}{of}, {self.usd_per_hour} USD an hour{until}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRules:
    """What prices and rates apply.

    Attributes:
        region: The AWS region; empty to take it from the nodes.
        prices: Instance type to what is paid on demand, USD an hour; goes before every list.
        spot: Instance type to what is paid for Spot; without, a Spot price is unknown.
        discounts: Type, family, ``x86``, ``graviton`` or ``all`` to the share off the list price;
            the most specific counts.
        commitments: What is paid for in advance.
        speed: Least and most work of a Graviton vCPU against one of x86.
    """

    region: str = ""
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    spot: Mapping[str, Decimal] = field(default_factory=dict)
    discounts: Mapping[str, Decimal] = field(default_factory=dict)
    commitments: tuple[Commitment, ...] = ()
    speed: tuple[Decimal, Decimal] = DEFAULT_SPEED

    def discount(self, name: str) -> Decimal:
        """Return the share off the list price of an instance type."""
        kind = INSTANCE_TYPES.get(name)
        side = {AMD64: "x86", ARM64: "graviton"}[kind.architecture] if kind else ""
        for key in (name, name.partition(".")[0], side, "all"):
            if key in self.discounts:
                return self.discounts[key]
        return Decimal(0)
