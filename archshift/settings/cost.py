"""``archshift:cost``: what nodes cost."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from msgspec import Meta

from archshift.cost.rules import COMPUTE_PLAN, DEFAULT_SPEED, REGION, Commitment, CostRules
from archshift.nodes.instance_types import INSTANCE_TYPES, instance_type
from archshift.settings.reading import InvalidValueError, Model, Problems, says, shown, use
from archshift.settings.times import ZonedTime
from archshift.settings.values import Amount


class Money(Amount):
    """USD an hour. 10,000 is more than any instance costs; the limit is for a slipped point."""

    least: ClassVar = Decimal(0)
    most: ClassVar = Decimal(10_000)

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return f"USD an hour: a number above 0 and up to {cls.most}"

    @classmethod
    def parse(cls, value: Any) -> "Amount":
        """Return the price; raises ValueError where it is out of range, or nothing."""
        money = super().parse(value)
        if not money:
            raise ValueError
        return money


class Discount(Amount):
    """A share off a price."""

    least: ClassVar = Decimal("0.0")
    most: ClassVar = Decimal("0.95")


class Speed(Amount):
    """The work of a Graviton vCPU against one of x86."""

    least: ClassVar = Decimal("0.5")
    most: ClassVar = Decimal("2.0")


Prices: TypeAlias = dict[str, Money]


class CommitmentModel(Model, frozen=True, kw_only=True):
    """What is paid in advance, whether used or not."""

    kind: Annotated[
        Literal["compute-savings-plan", "ec2-instance-savings-plan", "reserved-instances"],
        says("What was bought.", "ec2-instance-savings-plan"),
    ]
    usd_per_hour: Annotated[Money, says("What is paid every hour.", 1.5)]
    discount: Annotated[Discount, says("The discount from the on-demand price, 0.28 for 28 %.", 0.28)]
    family: Annotated[
        str,
        says(f"The instance family; a {COMPUTE_PLAN} has none, all others need one.", "m5", default="none"),
    ] = ""
    until: Annotated[ZonedTime | None, says("When it ends.", "2027-03-01T00:00:00Z", default="no end")] = None

    def __post_init__(self) -> None:
        if self.kind == COMPUTE_PLAN and self.family:
            raise InvalidValueError("family", f"a {COMPUTE_PLAN} applies to every family", "remove the key")
        if self.kind != COMPUTE_PLAN and not self.family:
            raise InvalidValueError("family", f"{self.kind} belong to a family", "add the family, such as m5")
        if self.family and self.family not in _families():
            raise InvalidValueError(
                "family", f"{shown(self.family)} is invalid", "use a family of instance types such as m5"
            )

    def commitment(self) -> Commitment:
        """Return the commitment."""
        return Commitment(
            kind=self.kind,
            family=self.family,
            usd_per_hour=self.usd_per_hour,
            discount=self.discount,
            until=self.until.moment if self.until else None,
        )


class CostModel(Model, frozen=True, kw_only=True):
    """What nodes cost, for ``archshift cost``."""

    region: Annotated[
        Annotated[str, Meta(pattern=rf"\A{REGION.pattern}\Z", extra=use("an AWS region such as eu-west-1"))]
        | None,
        says(
            "The region whose prices apply.", "eu-west-1", default="`aws:region`, or the region of the nodes"
        ),
    ] = None
    prices: Annotated[
        Prices,
        says(
            "Instance type to USD an hour on demand; archshift uses it before any price list.",
            {"m5.large": 0.1},
        ),
    ] = {}
    spot: Annotated[
        Prices,
        says(
            "Instance type to USD an hour for Spot; without it, a Spot price is unknown.", {"m5.large": 0.04}
        ),
    ] = {}
    discounts: Annotated[
        dict[str, Discount],
        says(
            "Share off the list price, by instance type, family, `x86`, `graviton` or `all`; the most "
            "specific applies.",
            {"all": 0.05},
        ),
    ] = {}
    commitments: Annotated[
        tuple[CommitmentModel, ...],
        says(
            "What is paid in advance.",
            [{"kind": "ec2-instance-savings-plan", "family": "m5", "usd_per_hour": 1.5, "discount": 0.28}],
        ),
    ] = ()
    speed: Annotated[
        tuple[Speed, ...],
        Meta(
            min_length=2,
            max_length=2,
            extra=use("two numbers from 0.5 to 2.0, the lower first, such as [1.0, 1.2]"),
        ),
        says(
            "The least and the most work of a Graviton vCPU against one of x86.",
            [1.0, 1.15],
            default=str([float(number) for number in DEFAULT_SPEED]),
        ),
    ] = tuple(map(Speed, DEFAULT_SPEED))

    def __post_init__(self) -> None:
        least, most = self.speed
        if least > most:
            raise InvalidValueError("speed", f"{least} is above {most}", "write the lower number first")
        for name in self.discounts:
            if name not in ("all", "x86", "graviton", *_families()) and name not in INSTANCE_TYPES:
                raise InvalidValueError(
                    "discounts",
                    f"{shown(name)} is invalid",
                    "use all, x86, graviton, a family or an instance type",
                )

    def rules(self, key: str, region: str) -> CostRules:
        """Return what prices apply.

        Args:
            key: The key, for errors.
            region: The region where the settings name none.

        Raises:
            SettingsError: An instance type is unknown.
        """
        problems = Problems()
        _check_types(f"{key}.prices", self.prices, problems)
        _check_types(f"{key}.spot", self.spot, problems)
        problems.check()
        return CostRules(
            region=region if self.region is None else self.region,
            prices=self.prices,
            spot=self.spot,
            discounts=self.discounts,
            commitments=tuple(item.commitment() for item in self.commitments),
            speed=(self.speed[0], self.speed[1]),
        )


def _check_types(key: str, prices: Mapping[str, Decimal], problems: Problems) -> None:
    for name in prices:
        with problems.collected():
            instance_type(name, key)


def _families() -> set[str]:
    return {name.partition(".")[0] for name in INSTANCE_TYPES}
