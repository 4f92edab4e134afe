"""The types of settings for several keys."""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, ClassVar, TypeAlias

from msgspec import Meta

from archshift.cluster.kinds import CONTROLLERS, TESTED_KINDS
from archshift.settings.reading import use

Name: TypeAlias = Annotated[str, Meta(min_length=1, extra=use("a name in quotes"))]
Names: TypeAlias = Annotated[tuple[Name, ...], Meta(extra=use("a list of names"))]
Text: TypeAlias = Annotated[str, Meta(pattern=r"\S", extra=use("text in quotes that is not empty"))]
Seconds: TypeAlias = Annotated[int, Meta(ge=1, extra={"unit": "seconds"})]
Replicas: TypeAlias = Annotated[int, Meta(ge=0, extra={"unit": "replicas"})]
Samples: TypeAlias = Annotated[int, Meta(ge=1, extra={"unit": "samples"})]
Arn: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"\Aarn:[^:]+:[^:]+:[^:]*:[^:]*:.+\Z",
        extra=use("an ARN such as arn:aws:iam::123456789012:role/name"),
    ),
]
Arns: TypeAlias = Annotated[tuple[Arn, ...], Meta(extra=use("a list of ARNs"))]
Subnets: TypeAlias = Annotated[
    tuple[
        Annotated[str, Meta(pattern=r"\Asubnet-", extra=use("the ID of a subnet such as subnet-0a1b2c3d"))],
        ...,
    ],
    Meta(min_length=1, extra=use("a list of one or more IDs of subnets")),
]

SecurityGroups: TypeAlias = Annotated[
    tuple[
        Annotated[str, Meta(pattern=r"\Asg-", extra=use("the ID of a security group such as sg-0a1b2c3d"))],
        ...,
    ],
    Meta(min_length=1, max_length=16, extra=use("a list of 1 to 16 IDs of security groups")),
]
Tags: TypeAlias = Annotated[
    dict[
        Annotated[
            str,
            Meta(
                pattern=r"\A(?![aA][wW][sS]:)[\s\S]{1,128}\Z",
                extra=use("a key of 1 to 128 characters that does not begin with aws:"),
            ),
        ],
        Annotated[str, Meta(max_length=256, extra=use("text in quotes of up to 256 characters"))],
    ],
    # AWS's limit is 50, and archshift adds two.
    Meta(max_length=48, extra=use("a map of up to 48 tags, written as YAML below the key")),
]
Zones: TypeAlias = Annotated[
    tuple[Name, ...], Meta(min_length=1, extra=use("a list of one or more availability zones"))
]


def _workload_key(kind: str, kinds: str) -> Meta:
    return Meta(
        pattern=rf"\A[^/\s]+/({kind})/[^/\s]+\Z",
        extra=use(f"namespace/Kind/name with {kinds}"),
    )


WorkloadKey: TypeAlias = Annotated[
    str,
    # With placement at admission, pods of every kind are steered.
    _workload_key("[A-Z][A-Za-z0-9]*", f"a kind such as {', '.join(CONTROLLERS)}"),
]
TestedWorkloadKey: TypeAlias = Annotated[
    str, _workload_key("|".join(TESTED_KINDS), f"one of the kinds {', '.join(TESTED_KINDS)}")
]


def _decimal(value: Any) -> Decimal:
    """Return a finite number from a number or a text. A float goes through its text, which has fewer digits.

    Raises:
        ValueError: The value is not a finite number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise ValueError from None
    if not number.is_finite():
        raise ValueError
    return number


class Amount(Decimal):
    """A number with its digits as written. Each subclass has its own range."""

    least: ClassVar[Decimal]
    most: ClassVar[Decimal]
    words: ClassVar[str] = "a number"

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return f"{cls.words} from {cls.least} to {cls.most}"

    @classmethod
    def parse(cls, value: Any) -> "Amount":
        """Return the number; raise ValueError if it is out of range."""
        number = _decimal(value)
        if not cls.least <= number <= cls.most:
            raise ValueError
        return cls(number)


class Ratio(float):
    """A share from 0 to 1; the engine may store it as text."""

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return "a number from 0.0 to 1.0"

    @classmethod
    def parse(cls, value: Any) -> "Ratio":
        """Return the share; raise ValueError if it is invalid."""
        if not 0 <= (number := _decimal(value)) <= 1:
            raise ValueError
        return cls(number)


class Quantity(str):
    """A quantity as Kubernetes writes it, given as a number or as text."""

    __slots__ = ()

    # The number of digits is limited so that no number of bytes overflows.
    _PATTERN: ClassVar[re.Pattern[str]] = re.compile(r"\d{1,15}(\.\d{1,9})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")

    @classmethod
    def use(cls) -> str:
        """Say which values are valid."""
        return "a quantity such as 64 or 256Gi"

    @classmethod
    def parse(cls, value: Any) -> "Quantity":
        """Return the quantity; raise ValueError if it is invalid."""
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        if not cls._PATTERN.fullmatch(str(value)):
            raise ValueError
        return cls(value)
