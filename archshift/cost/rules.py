"""The settings of ``archshift:cost``."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from archshift.common.architectures import AMD64, ARM64
from archshift.nodes.instance_types import INSTANCE_TYPES

COMPUTE_PLAN: Final = "compute-savings-plan"

# AWS states "up to" 40 % better price-performance for Graviton. The price of m7g is 15 % below m6i, so a vCPU
# does 1.4 * 0.85 = 1.19 times the work. At the lower end a vCPU is no faster.
DEFAULT_SPEED: Final = (Decimal("1.0"), Decimal("1.2"))

REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
"""Matches names of AWS regions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commitment:
    """A fixed price for every hour, used or not.

    Attributes:
        kind: ``compute-savings-plan`` (covers every family), ``ec2-instance-savings-plan`` or
            ``reserved-instances`` (each covers one family).
        family: The instance family that it covers; empty for a Compute Savings Plan.
        usd_per_hour: The fixed price.
        discount: How far its rate is below on demand, 0 or more and less than 1.
        until: Its end; None if unknown.
    """

    kind: str
    family: str = ""
    usd_per_hour: Decimal
    discount: Decimal
    until: datetime | None = None

    @property
    def covers(self) -> Decimal:
        """The on-demand value that it covers, in USD an hour."""
        return self.usd_per_hour / (1 - self.discount)

    def active(self, now: datetime) -> bool:
        """Whether it has not ended yet."""
        return self.until is None or now < self.until

    def __str__(self) -> str:
        of = f" of {self.family}" if self.family else ""
        until = f" until {self.until:%Y-%m-%d}" if self.until else ""
        return f"{self.kind}{of}, {self.usd_per_hour} USD an hour{until}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRules:
    """The user's prices and rates.

    Attributes:
        region: The AWS region; empty to read it from the nodes.
        prices: Instance type to its on-demand price, USD an hour. It overrides all price lists.
        spot: Instance type to its Spot price, USD an hour. Other Spot prices are unknown.
        discounts: Type, family, ``x86``, ``graviton`` or ``all`` to the share off the list price. The most
            specific key counts.
        commitments: Savings Plans and Reserved Instances.
        speed: Least and most work of a Graviton vCPU, as a multiple of an x86 vCPU.
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
