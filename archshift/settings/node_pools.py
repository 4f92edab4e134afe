"""NodePools as the stack configures them: ``archshift:node_groups`` where a provisioner makes the nodes."""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from archshift.common.errors import ArchshiftError
from archshift.common.quantity import parse_quantity
from archshift.nodes.groups import NodeClass, NodePool, one_architecture
from archshift.nodes.instance_types import InstanceType, family_types, instance_type, twin
from archshift.nodes.node_pools import NODE_CLASSES
from archshift.settings import values
from archshift.settings.node_groups import NODE_NAME, read_node_labels, read_taints

# What a twin takes over from its pool, if it says nothing itself. Its weight it does not: which side
# a pod prefers is what arm_ratio says.
_TWIN_TAKES: Final = (
    "budget",
    "capacity_types",
    "consolidate_after",
    "labels",
    "limits",
    "node_class",
    "side_taint",
    "taints",
    "zones",
)

# What goes into the pool as it was read.
_OPTIONAL: Final = (
    "budget",
    "capacity_types",
    "consolidate_after",
    "labels",
    "side_taint",
    "taints",
    "weight",
    "zones",
)

_QUANTITY: Final = re.compile(r"\d+(\.\d+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?")


def node_pools(
    raw: Mapping[str, Any], provisioner: str, families: tuple[str, ...] | None
) -> dict[str, NodePool]:
    """Return the NodePools, by name.

    Args:
        raw: ``archshift:node_groups``.
        provisioner: A key of ``NODE_CLASSES``.
        families: Graviton families that twins are chosen from; None for all up to the eighth generation.

    Raises:
        ArchshiftError: A value does not do.
    """
    return {name: _pool(name, raw, provisioner, families) for name in raw}


def _pool(
    name: str, pools: Mapping[str, Any], provisioner: str, families: tuple[str, ...] | None
) -> NodePool:
    key = f"archshift:node_groups.{name}"
    if not NODE_NAME.fullmatch(name):
        raise ArchshiftError(
            f"{key}: {name!r} is not a name for a NodePool: lower-case letters, digits and -"
        )
    pool = values.mapping(key, pools[name])
    readers: dict[str, Callable[[str, Any], Any]] = {
        "budget": _budget,
        "capacity_types": _capacity_types,
        "consolidate_after": _duration,
        "instance_families": values.texts,
        "instance_types": values.texts,
        "labels": read_node_labels,
        "limits": _limits,
        "node_class": values.text("the name of a node class"),
        "side_taint": values.flag,
        "taints": read_taints,
        "twin_of": values.text("the name of another node group"),
        "weight": _weight,
        "zones": _zones,
    }
    values.only(f"{key}.", pool, set(readers))
    read = {entry: readers[entry](f"{key}.{entry}", value) for entry, value in pool.items()}
    if "twin_of" in read:
        original, types = _twins(name, read, pools, families)
        read |= {
            entry: readers[entry](f"archshift:node_groups.{read['twin_of']}.{entry}", original[entry])
            for entry in _TWIN_TAKES
            if entry in original and entry not in read
        }
    else:
        types = _types(key, read)
    one_architecture(types, key)
    if "limits" not in read:
        raise ArchshiftError(f"{key}.limits.cpu is missing", "say how many vCPUs the NodePool may bring up")
    millicpu, memory = read["limits"]
    group, kind = NODE_CLASSES[provisioner]
    return NodePool(
        name=name,
        instance_types=types,
        node_class=NodeClass(group, kind, read.get("node_class", "default")),
        millicpu=millicpu,
        memory=memory,
        **{entry: read[entry] for entry in _OPTIONAL if entry in read},
    )


def _types(key: str, pool: Mapping[str, Any]) -> tuple[InstanceType, ...]:
    """Return the types that a pool names, and all of the families that it names."""
    named = [instance_type(name, f"{key}.instance_types") for name in pool.get("instance_types", ())]
    for family in pool.get("instance_families", ()):
        named += family_types(family, f"{key}.instance_families")
    if not named:
        raise ArchshiftError(
            f"{key}.instance_types is missing",
            "give a list of types, or instance_families, or twin_of: another group",
        )
    return tuple(dict.fromkeys(named))


def _twins(
    name: str, pool: Mapping[str, Any], pools: Mapping[str, Any], families: tuple[str, ...] | None
) -> tuple[Mapping[str, Any], tuple[InstanceType, ...]]:
    """Return the settings of the pool that ``name`` is the twin of, and the twins of its types."""
    key, other = f"archshift:node_groups.{name}.twin_of", pool["twin_of"]
    for entry in ("instance_types", "instance_families"):
        if entry in pool:
            raise ArchshiftError(f"{key} finds the instance types itself", f"remove it or {entry}")
    others = sorted(set(pools) - {name})
    if other not in others:
        raise ArchshiftError(
            f"{key}: {other!r} is no other node group", f"there are: {', '.join(others) or 'none'}"
        )
    original_key = f"archshift:node_groups.{other}"
    original = values.mapping(original_key, pools[other])
    if "twin_of" in original:
        raise ArchshiftError(f"{key}: {other!r} is a twin itself", "name the group that it is the twin of")
    named = {
        entry: values.texts(f"{original_key}.{entry}", original.get(entry, []))
        for entry in ("instance_types", "instance_families")
    }
    found, problems = _twins_of(_types(original_key, named), families)
    # A family has sizes that Graviton has not, and its pool needs none of them in particular.
    asked = [problem for name, problem in problems.items() if name in named["instance_types"] or not found]
    if asked:
        raise ArchshiftError(
            f"{key}: {other!r}: {asked[0]}",
            "give the group instance_types of its own, or choose others from archshift:graviton_families",
        )
    return original, tuple(dict.fromkeys(found))


def _twins_of(
    types: Iterable[InstanceType], families: tuple[str, ...] | None
) -> tuple[list[InstanceType], dict[str, ArchshiftError]]:
    """Return the twins that there are, and why others have none."""
    found: list[InstanceType] = []
    problems: dict[str, ArchshiftError] = {}
    for kind in types:
        try:
            found.append(twin(kind, families))
        except ArchshiftError as error:
            problems[kind.name] = error
    return found, problems


def _limits(key: str, value: Any) -> tuple[int, int | None]:
    """Return the limits in thousandths of a vCPU and bytes."""
    limits = values.mapping(key, value)
    values.only(f"{key}.", limits, {"cpu", "memory"})
    if "cpu" not in limits:
        raise ArchshiftError(f"{key}.cpu is missing", "say how many vCPUs the NodePool may bring up")
    cpu = _quantity(f"{key}.cpu", limits["cpu"], "a number of vCPUs, such as 64")
    if "memory" not in limits:
        return round(cpu * 1000), None
    return round(cpu * 1000), round(_quantity(f"{key}.memory", limits["memory"], "memory, such as 256Gi"))


def _quantity(key: str, value: Any, wanted: str) -> float:
    text = str(value)
    if isinstance(value, bool) or not isinstance(value, int | float | str) or not _QUANTITY.fullmatch(text):
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    return float(parse_quantity(text))


def _capacity_types(key: str, value: Any) -> tuple[str, ...]:
    known = ("on-demand", "spot", "reserved")
    types = values.texts(key, value)
    if not types:
        raise ArchshiftError(f"{key}: [] names none", f"give one or more of {', '.join(known)}")
    for kind in types:
        if kind not in known:
            raise ArchshiftError(f"{key}: {kind!r} is none of {', '.join(known)}")
    return types


def _zones(key: str, value: Any) -> tuple[str, ...]:
    zones = values.texts(key, value)
    if not zones:
        raise ArchshiftError(f"{key}: [] names no availability zone", "give at least one, or remove the key")
    return zones


def _weight(key: str, value: Any) -> int:
    wanted = "a whole number from 1 to 100"
    if not 1 <= values.typed(key, value, int, wanted) <= 100:
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    return int(value)


def _budget(key: str, value: Any) -> str:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"(100|\d{1,2})%|\d{1,4}", text):
        raise ArchshiftError(f'{key}: {value!r} is neither a number of nodes nor a share such as "10%"')
    return text


def _duration(key: str, value: Any) -> str:
    text = str(value)
    if not re.fullmatch(r"(\d{1,6}[smh])+|Never", text):
        raise ArchshiftError(f"{key}: {value!r} is neither a duration such as 5m nor Never")
    return text
