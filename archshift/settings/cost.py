"""Readers of ``archshift:cost``."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Any

from archshift.common.errors import ArchshiftError
from archshift.cost.rules import COMPUTE_PLAN, EC2_PLAN, REGION, RESERVED, Commitment, CostRules
from archshift.nodes.instance_types import INSTANCE_TYPES, instance_type
from archshift.settings import values


def read_cost(key: str, value: Any, region: str = "") -> CostRules:
    """Read ``archshift:cost``.

    Args:
        key: The key, for messages.
        value: Its value.
        region: The region where the value names none.

    Raises:
        ArchshiftError: A value does not do.
    """
    readers: dict[str, Callable[[str, Any], Any]] = {
        "region": _region,
        "prices": _prices,
        "spot": _prices,
        "discounts": _discounts,
        "commitments": _commitments,
        "speed": _speed,
    }
    entries = values.mapping(key, value)
    values.only(f"{key}.", entries, set(readers))
    read = {name: readers[name](f"{key}.{name}", entry) for name, entry in entries.items()}
    return CostRules(**{"region": region, **read})


def _region(key: str, value: Any) -> str:
    if not isinstance(value, str) or not REGION.fullmatch(value):
        raise ArchshiftError(f"{key}: {value!r} is not an AWS region, such as eu-west-1")
    return value


def _decimal(key: str, value: Any, wanted: str) -> Decimal:
    # Through text: a float has more digits than were written.
    if isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal("NaN")
        if number.is_finite():
            return number
    raise ArchshiftError(f"{key}: {value!r} is not {wanted}")


def _money(key: str, value: Any) -> Decimal:
    # 10,000 USD an hour is more than any instance costs; the limit is for a slipped point.
    wanted = "USD an hour: a number above 0, up to 10000"
    number = _decimal(key, value, wanted)
    if not 0 < number <= 10_000:
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    return number


def _share(key: str, value: Any) -> Decimal:
    wanted = "a share from 0.0 to 0.95, such as 0.28"
    number = _decimal(key, value, wanted)
    if not 0 <= number <= Decimal("0.95"):
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    return number


def _prices(key: str, value: Any) -> dict[str, Decimal]:
    return {
        instance_type(name, key).name: _money(f"{key}.{name}", price)
        for name, price in values.mapping(key, value).items()
    }


def _discounts(key: str, value: Any) -> dict[str, Decimal]:
    known = {name.partition(".")[0] for name in INSTANCE_TYPES}
    for name in values.mapping(key, value):
        if name not in ("all", "x86", "graviton") and name not in INSTANCE_TYPES and name not in known:
            raise ArchshiftError(f"{key}: {name!r} is neither all, x86, graviton, a family nor a type")
    return {name: _share(f"{key}.{name}", share) for name, share in value.items()}


def _commitments(key: str, value: Any) -> tuple[Commitment, ...]:
    items = values.typed(key, value, list, "a list")
    return tuple(_commitment(f"{key}[{index}]", item) for index, item in enumerate(items))


def _commitment(key: str, value: Any) -> Commitment:
    entry = values.mapping(key, value)
    readers: dict[str, Callable[[str, Any], Any]] = {
        "kind": values.one_of(COMPUTE_PLAN, EC2_PLAN, RESERVED),
        "family": _family,
        "usd_per_hour": _money,
        "discount": _share,
        "until": lambda k, v: values.time(k, values.typed(k, v, str, "a time; put it in quotes")),
    }
    values.only(f"{key}.", entry, set(readers))
    for required in ("kind", "usd_per_hour", "discount"):
        if required not in entry:
            raise ArchshiftError(f"{key}.{required} is missing", "every commitment has one")
    found = Commitment(**{name: readers[name](f"{key}.{name}", entry[name]) for name in entry})
    if found.kind == COMPUTE_PLAN and found.family:
        raise ArchshiftError(f"{key}.family: a {COMPUTE_PLAN} follows to every family", "remove it")
    if found.kind != COMPUTE_PLAN and not found.family:
        raise ArchshiftError(f"{key}.family is missing", f"a {found.kind} is bound to one, such as m5")
    return found


def _family(key: str, value: Any) -> str:
    if value not in {name.partition(".")[0] for name in INSTANCE_TYPES}:
        raise ArchshiftError(f"{key}: {value!r} is not a family of instance types, such as m5")
    return str(value)


def _speed(key: str, value: Any) -> tuple[Decimal, Decimal]:
    wanted = "two numbers from 0.5 to 2.0, the lower first, such as [1.0, 1.2]"
    items = values.typed(key, value, list, wanted)
    numbers = [_decimal(f"{key}[{index}]", item, wanted) for index, item in enumerate(items)]
    if len(numbers) != 2 or not Decimal("0.5") <= numbers[0] <= numbers[1] <= 2:
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    return numbers[0], numbers[1]
