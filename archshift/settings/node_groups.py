"""Node groups as the stack configures them: the lab's, and the managed groups of EKS.

Readers of ``archshift:node_groups`` for ``stack``. NodePools have theirs in ``node_pools``.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL
from archshift.nodes.eks import EksCluster
from archshift.nodes.groups import (
    AMI_FAMILIES,
    AmiFamily,
    EksNodeGroup,
    NodeGroup,
    Taint,
    check_ami_type,
    one_architecture,
)
from archshift.nodes.instance_types import InstanceType, instance_type, twin
from archshift.settings import values

NODE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")
"""What a group may be called: its nodes' names begin with it."""


def _labels(key: str, value: Any) -> dict[str, str]:
    return {
        name: values.typed(f"{key}.{name}", text, str, 'text; put it in quotes, as in "true"')
        for name, text in values.mapping(key, value).items()
    }


def lab_group(name: str, value: Any) -> NodeGroup:
    """Return a group of simulated nodes."""
    key = f"archshift:node_groups.{name}"
    if not NODE_NAME.fullmatch(name):
        raise ArchshiftError(f"{key}: {name!r} is not a name for nodes: lower-case letters, digits and -")
    group = values.mapping(key, value)
    values.only(f"{key}.", group, {"instance_type", "size", "zones", "labels", "taints"})
    for required in ("instance_type", "size"):
        if required not in group:
            raise ArchshiftError(f"{key}.{required} is missing", "every node group has one")
    size = values.typed(f"{key}.size", group["size"], int, "a whole number of nodes, 0 or more")
    if size < 0:
        raise ArchshiftError(f"{key}.size: {size!r} is not a whole number of nodes, 0 or more")
    labels = _labels(f"{key}.labels", group.get("labels", {}))
    if ARCH_LABEL in labels:
        raise ArchshiftError(f"{key}.labels.{ARCH_LABEL} follows from instance_type", "remove it")
    zones = values.texts(f"{key}.zones", group.get("zones", ["a"]))
    if not zones:
        raise ArchshiftError(f"{key}.zones: [] names no availability zone", "give at least one")
    type_name = values.typed(f"{key}.instance_type", group["instance_type"], str, "an instance type")
    return NodeGroup(
        name=name,
        instance_type=instance_type(type_name, f"{key}.instance_type"),
        size=size,
        zones=zones,
        labels=labels,
        taints=read_taints(f"{key}.taints", group.get("taints", [])),
    )


# What a twin takes over from its group, if it says nothing itself.
_TWIN_TAKES: Final = (
    "ami_family",
    "ami_type",
    "capacity_type",
    "disk_gib",
    "labels",
    "max_unavailable",
    "subnets",
    "taints",
)


def eks_groups(
    raw: Mapping[str, Any], cluster: EksCluster | None, families: tuple[str, ...] | None
) -> dict[str, EksNodeGroup]:
    """Return the managed node groups of a cluster, by name.

    Args:
        raw: ``archshift:node_groups``.
        cluster: The cluster they belong to.
        families: Graviton families that twins are chosen from.

    Raises:
        ArchshiftError: A value does not do.
    """
    if raw and not cluster:
        raise ArchshiftError(
            "archshift:node_groups: on EKS they belong to a cluster",
            "give its name as "
            "archshift:cluster.name, or leave the key out and archshift counts the nodes it finds",
        )
    return {name: _eks_node_group(name, raw, cluster, families) for name in raw} if cluster else {}


def _eks_node_group(
    name: str, groups: Mapping[str, Any], cluster: EksCluster, families: tuple[str, ...] | None
) -> EksNodeGroup:
    key = f"archshift:node_groups.{name}"
    # EKS's limit is 63, and a suffix of 26 keeps a group apart from the one that replaces it.
    if not NODE_NAME.fullmatch(name) or len(name) > 36:
        raise ArchshiftError(
            f"{key}: {name!r} is not a name for a node group: up to 36 lower-case letters, digits and -"
        )
    group = values.mapping(key, groups[name])
    readers: dict[str, Callable[[str, Any], Any]] = {
        "ami_family": values.one_of(*AMI_FAMILIES),
        "ami_type": values.text("an AMI type"),
        "capacity_type": values.one_of("ON_DEMAND", "SPOT"),
        "desired_size": values.size(0),
        "disk_gib": values.size(1, "GiB"),
        "import": values.text("the name of an existing node group"),
        "instance_types": values.texts,
        "labels": read_node_labels,
        "max_size": values.size(1),
        "max_unavailable": _max_unavailable,
        "min_size": values.size(0),
        "subnets": read_subnets,
        "taints": read_taints,
        "twin_of": values.text("the name of another node group"),
    }
    values.only(f"{key}.", group, set(readers))
    read = {entry: readers[entry](f"{key}.{entry}", value) for entry, value in group.items()}
    if "twin_of" in read:
        original, types = _twins(name, read, groups, families)
        inherited = {
            entry: original[entry] for entry in _TWIN_TAKES if entry in original and entry not in read
        }
        if "ami_type" in inherited:
            inherited["ami_type"] = str(inherited["ami_type"]).replace("x86_64", "ARM_64")
        read |= {entry: readers[entry](f"{key}.{entry}", value) for entry, value in inherited.items()}
    else:
        types = _instance_types(key, read)
    one_architecture(types, f"{key}.instance_types")
    subnets = read.get("subnets", cluster.subnets)
    if not subnets and "import" not in read:
        raise ArchshiftError(
            f"{key}.subnets is missing", "give the group's subnets, or archshift:cluster.subnets"
        )
    family: AmiFamily = read.get("ami_family", "AL2023")
    ami_type = check_ami_type(
        read.get("ami_type", AMI_FAMILIES[family][types[0].architecture]), types, f"{key}.ami_type"
    )
    least, desired, most = _sizes(key, read)
    return EksNodeGroup(
        name=name,
        instance_types=types,
        min_size=least,
        desired_size=desired,
        max_size=most,
        autoscaled=cluster.autoscaler != "none",
        subnets=subnets,
        ami_type=ami_type,
        import_name=read.get("import", ""),
        **{
            entry: read[entry]
            for entry in ("capacity_type", "disk_gib", "labels", "max_unavailable", "taints")
            if entry in read
        },
    )


def _instance_types(key: str, group: Mapping[str, Any]) -> tuple[InstanceType, ...]:
    names: tuple[str, ...] = group.get("instance_types", ())
    if not names:
        raise ArchshiftError(
            f"{key}.instance_types is missing", "give a list of types, or twin_of: another group"
        )
    return tuple(instance_type(name, f"{key}.instance_types") for name in names)


def _twins(
    name: str, group: Mapping[str, Any], groups: Mapping[str, Any], families: tuple[str, ...] | None
) -> tuple[Mapping[str, Any], tuple[InstanceType, ...]]:
    """Return the settings of the group that ``name`` is the twin of, and the twins of its types."""
    key, other = f"archshift:node_groups.{name}.twin_of", group["twin_of"]
    if "instance_types" in group:
        raise ArchshiftError(f"{key} finds the instance types itself", "remove it or instance_types")
    others = sorted(set(groups) - {name})
    if other not in others:
        raise ArchshiftError(
            f"{key}: {other!r} is no other node group", f"there are: {', '.join(others) or 'none'}"
        )
    original = values.mapping(f"archshift:node_groups.{other}", groups[other])
    if "twin_of" in original:
        raise ArchshiftError(f"{key}: {other!r} is a twin itself", "name the group that it is the twin of")
    names = values.texts(f"archshift:node_groups.{other}.instance_types", original.get("instance_types", []))
    types = _instance_types(f"archshift:node_groups.{other}", {"instance_types": names})
    try:
        # Two x86 types may have one twin (m5.xlarge, m6i.xlarge).
        return original, tuple(dict.fromkeys(twin(kind, families) for kind in types))
    except ArchshiftError as error:
        raise ArchshiftError(
            f"{key}: {other!r}: {error}",
            "give the group instance_types of its own, or choose others from archshift:graviton_families",
        ) from None


def _sizes(key: str, group: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the least, desired and most nodes; of what is left out, one follows from the other."""
    given = [entry for entry in ("desired_size", "min_size") if entry in group]
    if not given:
        raise ArchshiftError(f"{key}.desired_size is missing", "give it, or min_size and max_size")
    desired = group.get("desired_size", group.get("min_size"))
    least = group.get("min_size", desired)
    # EKS wants room for one node, also in a group that is empty.
    most = group.get("max_size", max(1, desired))
    if not least <= desired <= most:
        raise ArchshiftError(
            f"{key}: min_size {least}, desired_size {desired} and max_size {most} are not in that order",
            "raise or lower one of them",
        )
    return least, desired, most


def _max_unavailable(key: str, value: Any) -> int | str:
    text = str(value)
    percent = isinstance(value, str) and text.endswith("%") and text[:-1].isdecimal()
    if percent and 1 <= int(text[:-1]) <= 100:
        return text
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 100:
        return value
    raise ArchshiftError(f'{key}: {value!r} is neither 1 to 100 nodes nor a share of them such as "33%"')


def read_subnets(key: str, value: Any) -> tuple[str, ...]:
    """Return IDs of subnets, at least one."""
    subnets = values.texts(key, value)
    if not subnets:
        raise ArchshiftError(f"{key}: [] names no subnet", "give at least one, or remove the key")
    for subnet in subnets:
        if not subnet.startswith("subnet-"):
            raise ArchshiftError(f"{key}: {subnet!r} is not the ID of a subnet, such as subnet-0a1b2c3d")
    return subnets


def read_node_labels(key: str, value: Any) -> dict[str, str]:
    """Return the labels of nodes; the one of the architecture is not the user's to set."""
    labels = _labels(key, value)
    if ARCH_LABEL in labels:
        raise ArchshiftError(f"{key}.{ARCH_LABEL} follows from instance_types", "remove it")
    return labels


def read_taints(key: str, value: Any) -> tuple[Taint, ...]:
    """Return the taints of nodes."""
    taints = values.typed(key, value, list, "a list")
    return tuple(_taint(f"{key}[{index}]", taint) for index, taint in enumerate(taints))


def _taint(key: str, value: Any) -> Taint:
    taint = values.mapping(key, value)
    values.only(f"{key}.", taint, {"key", "value", "effect"})
    if not taint.get("key"):
        raise ArchshiftError(f"{key}.key is missing", "every taint has one")
    effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
    effect = taint.get("effect", "NoSchedule")
    if effect not in effects:
        raise ArchshiftError(f"{key}.effect: {effect!r} is none of {', '.join(effects)}")
    return Taint(
        key=values.typed(f"{key}.key", taint["key"], str, "text"),
        value=values.typed(f"{key}.value", taint.get("value", ""), str, "text; put it in quotes"),
        effect=effect,
    )
