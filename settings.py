"""The stack's settings: the only reader of its configuration.

``Pulumi.yaml`` declares every key with its type, default and description; here the values get
their shape. Every error names the key, the value and the way out.
"""

import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, cast

import yaml

from archshift import shapes
from archshift.architectures import ARCH_LABEL
from archshift.compat import CompatRules, read_compat
from archshift.cost_rules import CostRules, read_cost
from archshift.eks import EksCluster, NewCluster
from archshift.errors import ArchshiftError
from archshift.guard import BreakGlass, Override
from archshift.images.hosts import ImageRules, RegistryHost
from archshift.instance_types import InstanceType, graviton_families, instance_type, twin
from archshift.inventory import CONTROLLERS, Discovery
from archshift.node_groups import (
    AMI_FAMILIES,
    AmiFamily,
    AnyNodeGroup,
    EksNodeGroup,
    NodeGroup,
    Taint,
    check_ami_type,
    one_architecture,
)
from archshift.plan import Rules
from archshift.ratio import Wave

PROJECT: Final = "archshift"

REGISTRIES_FILE: Final = "ARCHSHIFT_REGISTRIES"
"""The variable that names a machine's own file of registries; see ``Settings.images``."""

_NODE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One stack's settings.

    Attributes:
        stack: The stack's name.
        arm_ratio: Share of the fleet's pods wanted on Graviton, 0.0 to 1.0.
        kube_context: Kubeconfig context; None for the current one.
        platform: Where node groups are made: ``lab`` (simulated nodes) or ``eks``.
        cluster: The EKS cluster that archshift adopts or makes; None to manage no infrastructure.
        node_groups: The lab's node groups, by name.
        eks_node_groups: The cluster's managed node groups, by name.
        discovery: Which workloads are looked at.
        rules: Per-workload rules, by ``namespace/Kind/name``.
        images: How images are checked. How a registry is reached (a mirror's address, the path of a CA)
            differs between a laptop and a CI runner, so what the stack's config leaves open comes from
            the YAML file that ``ARCHSHIFT_REGISTRIES`` names, of the same shape as
            ``archshift:images.registries``.
        compat: Which workloads are tested on arm64 before their first Graviton pod.
        break_glass: x86 may go although something needs it; None without.
        override: An exception from one rule of the policy pack; None without.
        cost: What nodes cost; its region is that of ``aws:region`` where it names none.
    """

    stack: str
    arm_ratio: float
    kube_context: str | None = None
    platform: Literal["eks", "lab"] = "eks"
    cluster: EksCluster | None = None
    node_groups: Mapping[str, NodeGroup] = field(default_factory=dict)
    eks_node_groups: Mapping[str, EksNodeGroup] = field(default_factory=dict)
    discovery: Discovery = field(default_factory=Discovery)
    rules: Mapping[str, Rules] = field(default_factory=dict)
    images: ImageRules = field(default_factory=ImageRules)
    compat: CompatRules = field(default_factory=CompatRules)
    break_glass: BreakGlass | None = None
    override: Override | None = None
    cost: CostRules = field(default_factory=CostRules)

    @property
    def guarded(self) -> bool:
        """Whether x86 nodes may be this stack's to lose, and evidence says what needs them."""
        # Also without a group in the configuration: the last one may have been taken out of it.
        return self.images.check and (self.platform == "lab" or self.cluster is not None)

    @property
    def groups(self) -> tuple[AnyNodeGroup, ...]:
        """The node groups archshift manages, wherever they are."""
        return (*self.node_groups.values(), *self.eks_node_groups.values())

    def glass_broken(self, now: datetime) -> bool:
        """Whether x86 is not guarded just now, as the configuration says."""
        return self.break_glass is not None and self.break_glass.active(now)

    @property
    def field_manager(self) -> str:
        """This stack's name in ``managedFields``: two stacks on one cluster see each other."""
        return f"{PROJECT}/{self.stack}"


def load(stack: str, config: Mapping[str, str], environment: Mapping[str, str] = os.environ) -> Settings:
    """Build the settings from a stack's configuration.

    Args:
        stack: The stack's name.
        config: Full key (``archshift:arm_ratio``) to value as the engine passes it: text, and
            JSON for objects. Keys of other projects and providers are ignored.
        environment: Names this machine's file of registries.

    Raises:
        ArchshiftError: A key is unknown or a value does not do.
    """
    values = {
        key.removeprefix(f"{PROJECT}:"): value
        for key, value in config.items()
        if key.startswith(f"{PROJECT}:")
    }
    known = {
        "arm_ratio",
        "break_glass",
        "cluster",
        "compat_test",
        "cost",
        "graviton_families",
        "images",
        "kube_context",
        "node_groups",
        "override",
        "platform",
        "workloads",
    }
    shapes.only(f"{PROJECT}:", values, known)
    if "arm_ratio" not in values:
        raise ArchshiftError("archshift:arm_ratio is not set; pulumi config set arm_ratio 0.2")
    platform = values.get("platform", "eks")
    if platform not in ("eks", "lab"):
        raise ArchshiftError(f"archshift:platform: {platform!r} is none of eks, lab")
    cluster = _cluster(shapes.mapping("archshift:cluster", _json(values, "cluster")), platform)
    if cluster:
        cluster = replace(cluster, profile=config.get("aws:profile", ""))
    raw = shapes.mapping("archshift:node_groups", _json(values, "node_groups"))
    families = _families("archshift:graviton_families", _json(values, "graviton_families"))
    workloads = shapes.mapping("archshift:workloads", _json(values, "workloads"))
    return Settings(
        stack=stack,
        arm_ratio=shapes.ratio("archshift:arm_ratio", values["arm_ratio"]),
        kube_context=values.get("kube_context") or None,
        platform=cast(Literal["eks", "lab"], platform),
        cluster=cluster,
        node_groups={name: _node_group(name, value) for name, value in raw.items() if platform == "lab"},
        eks_node_groups=_eks_node_groups(raw, cluster, families) if platform == "eks" else {},
        discovery=_discovery(workloads),
        rules=_rules(workloads),
        images=_images(shapes.mapping("archshift:images", _json(values, "images")), platform, environment),
        compat=read_compat("archshift:compat_test", _json(values, "compat_test")),
        break_glass=_break_glass(_json(values, "break_glass")),
        override=_override(_json(values, "override")),
        cost=read_cost("archshift:cost", _json(values, "cost"), config.get("aws:region", "")),
    )


def images_of_no_stack(environment: Mapping[str, str] = os.environ) -> ImageRules:
    """Return how images are checked where no stack is asked: as this machine reaches registries.

    Raises:
        ArchshiftError: This machine's file of registries does not do.
    """
    return ImageRules(registries=_reached(_machine_registries(environment), {}))


def _json(values: Mapping[str, str], key: str) -> Any:
    text = values.get(key)
    if not text:
        return {}
    try:
        return json.loads(text)
    except ValueError:
        raise ArchshiftError(
            f"archshift:{key}: {text!r} is not a map; write it as YAML below the key"
        ) from None


def _labels(key: str, value: Any) -> dict[str, str]:
    return {
        name: shapes.typed(f"{key}.{name}", text, str, 'text; put it in quotes, as in "true"')
        for name, text in shapes.mapping(key, value).items()
    }


def _node_group(name: str, value: Any) -> NodeGroup:
    key = f"archshift:node_groups.{name}"
    if not _NODE_NAME.fullmatch(name):
        raise ArchshiftError(f"{key}: {name!r} is not a name for nodes: lower-case letters, digits and -")
    group = shapes.mapping(key, value)
    shapes.only(f"{key}.", group, {"instance_type", "size", "zones", "labels", "taints"})
    for required in ("instance_type", "size"):
        if required not in group:
            raise ArchshiftError(f"{key}.{required} is missing; every node group has one")
    size = shapes.typed(f"{key}.size", group["size"], int, "a whole number of nodes, 0 or more")
    if size < 0:
        raise ArchshiftError(f"{key}.size: {size!r} is not a whole number of nodes, 0 or more")
    labels = _labels(f"{key}.labels", group.get("labels", {}))
    if ARCH_LABEL in labels:
        raise ArchshiftError(f"{key}.labels.{ARCH_LABEL} follows from instance_type; remove it")
    zones = shapes.texts(f"{key}.zones", group.get("zones", ["a"]))
    if not zones:
        raise ArchshiftError(f"{key}.zones: [] names no availability zone; give at least one")
    type_name = shapes.typed(f"{key}.instance_type", group["instance_type"], str, "an instance type")
    return NodeGroup(
        name=name,
        instance_type=instance_type(type_name, f"{key}.instance_type"),
        size=size,
        zones=zones,
        labels=labels,
        taints=_taints(f"{key}.taints", group.get("taints", [])),
    )


def _cluster(value: Mapping[str, Any], platform: str) -> EksCluster | None:
    key = "archshift:cluster"
    if not value:
        return None
    if platform == "lab":
        raise ArchshiftError(f"{key}: the lab has a cluster of its own; remove the key or the platform")
    readers: dict[str, Callable[[str, Any], Any]] = {
        "name": shapes.text("a cluster's name"),
        "subnets": _subnets,
        "node_role": _arn,
        "autoscaler": shapes.one_of("none", "cluster-autoscaler"),
        "create": _new_cluster,
    }
    shapes.only(f"{key}.", value, set(readers))
    if "name" not in value:
        raise ArchshiftError(f"{key}.name is missing; give the name of the EKS cluster")
    cluster = EksCluster(**{name: readers[name](f"{key}.{name}", entry) for name, entry in value.items()})
    if cluster.create and len(cluster.subnets) < 2:
        raise ArchshiftError(
            f"{key}.subnets: {list(cluster.subnets)!r} is too few to make a cluster; give subnets in two "
            "zones or more"
        )
    return cluster


def _new_cluster(key: str, value: Any) -> NewCluster:
    readers: dict[str, Callable[[str, Any], Any]] = {
        "version": shapes.text('a Kubernetes version in quotes, such as "1.34"'),
        "vpc": shapes.text("the ID of a VPC"),
        "public_access": shapes.texts,
        "kms_key": _arn,
        "admins": _arns,
    }
    new = shapes.mapping(key, value)
    shapes.only(f"{key}.", new, set(readers))
    for required in ("version", "vpc"):
        if required not in new:
            raise ArchshiftError(f"{key}.{required} is missing; a cluster that is made has one")
    return NewCluster(**{name: readers[name](f"{key}.{name}", entry) for name, entry in new.items()})


def _families(key: str, value: Any) -> tuple[str, ...] | None:
    if not value:
        return None
    known = graviton_families()
    families = shapes.texts(key, value)
    for family in families:
        if family not in known:
            raise ArchshiftError(f"{key}: {family!r} is no Graviton family; there are: {', '.join(known)}")
    return families


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


def _eks_node_groups(
    raw: Mapping[str, Any], cluster: EksCluster | None, families: tuple[str, ...] | None
) -> dict[str, EksNodeGroup]:
    if raw and not cluster:
        raise ArchshiftError(
            "archshift:node_groups: on EKS they belong to a cluster; give its name as "
            "archshift:cluster.name, or leave the key out and archshift counts the nodes it finds"
        )
    return {name: _eks_node_group(name, raw, cluster, families) for name in raw} if cluster else {}


def _eks_node_group(
    name: str, groups: Mapping[str, Any], cluster: EksCluster, families: tuple[str, ...] | None
) -> EksNodeGroup:
    key = f"archshift:node_groups.{name}"
    # EKS's limit is 63, and a suffix of 26 keeps a group apart from the one that replaces it.
    if not _NODE_NAME.fullmatch(name) or len(name) > 36:
        raise ArchshiftError(
            f"{key}: {name!r} is not a name for a node group: up to 36 lower-case letters, digits and -"
        )
    group = shapes.mapping(key, groups[name])
    readers: dict[str, Callable[[str, Any], Any]] = {
        "ami_family": shapes.one_of(*AMI_FAMILIES),
        "ami_type": shapes.text("an AMI type"),
        "capacity_type": shapes.one_of("ON_DEMAND", "SPOT"),
        "desired_size": shapes.size(0),
        "disk_gib": shapes.size(1, "GiB"),
        "import": shapes.text("the name of an existing node group"),
        "instance_types": shapes.texts,
        "labels": _node_labels,
        "max_size": shapes.size(1),
        "max_unavailable": _max_unavailable,
        "min_size": shapes.size(0),
        "subnets": _subnets,
        "taints": _taints,
        "twin_of": shapes.text("the name of another node group"),
    }
    shapes.only(f"{key}.", group, set(readers))
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
            f"{key}.subnets is missing; give the group's subnets, or archshift:cluster.subnets"
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
            f"{key}.instance_types is missing; give a list of types, or twin_of: another group"
        )
    return tuple(instance_type(name, f"{key}.instance_types") for name in names)


def _twins(
    name: str, group: Mapping[str, Any], groups: Mapping[str, Any], families: tuple[str, ...] | None
) -> tuple[Mapping[str, Any], tuple[InstanceType, ...]]:
    """Return the settings of the group that ``name`` is the twin of, and the twins of its types."""
    key, other = f"archshift:node_groups.{name}.twin_of", group["twin_of"]
    if "instance_types" in group:
        raise ArchshiftError(f"{key} finds the instance types itself; remove it or instance_types")
    others = sorted(set(groups) - {name})
    if other not in others:
        raise ArchshiftError(
            f"{key}: {other!r} is no other node group; there are: {', '.join(others) or 'none'}"
        )
    original = shapes.mapping(f"archshift:node_groups.{other}", groups[other])
    if "twin_of" in original:
        raise ArchshiftError(f"{key}: {other!r} is a twin itself; name the group that it is the twin of")
    names = shapes.texts(f"archshift:node_groups.{other}.instance_types", original.get("instance_types", []))
    types = _instance_types(f"archshift:node_groups.{other}", {"instance_types": names})
    try:
        # Two x86 types may have one twin (m5.xlarge, m6i.xlarge).
        return original, tuple(dict.fromkeys(twin(kind, families) for kind in types))
    except ArchshiftError as error:
        raise ArchshiftError(
            f"{key}: {other!r}: {error}; give the group instance_types of its own, or choose others from "
            "archshift:graviton_families"
        ) from None


def _sizes(key: str, group: Mapping[str, Any]) -> tuple[int, int, int]:
    """Return the least, desired and most nodes; of what is left out, one follows from the other."""
    given = [entry for entry in ("desired_size", "min_size") if entry in group]
    if not given:
        raise ArchshiftError(f"{key}.desired_size is missing; give it, or min_size and max_size")
    desired = group.get("desired_size", group.get("min_size"))
    least = group.get("min_size", desired)
    # EKS wants room for one node, also in a group that is empty.
    most = group.get("max_size", max(1, desired))
    if not least <= desired <= most:
        raise ArchshiftError(
            f"{key}: min_size {least}, desired_size {desired} and max_size {most} are not in that order; "
            "raise or lower one of them"
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


def _subnets(key: str, value: Any) -> tuple[str, ...]:
    subnets = shapes.texts(key, value)
    if not subnets:
        raise ArchshiftError(f"{key}: [] names no subnet; give at least one, or remove the key")
    for subnet in subnets:
        if not subnet.startswith("subnet-"):
            raise ArchshiftError(f"{key}: {subnet!r} is not the ID of a subnet, such as subnet-0a1b2c3d")
    return subnets


def _arn(key: str, value: Any) -> str:
    text = shapes.typed(key, value, str, "an ARN such as arn:aws:iam::123456789012:role/name")
    if not re.fullmatch(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:.+", text):
        raise ArchshiftError(f"{key}: {value!r} is not an ARN such as arn:aws:iam::123456789012:role/name")
    return text


def _arns(key: str, value: Any) -> tuple[str, ...]:
    return tuple(_arn(f"{key}[{index}]", arn) for index, arn in enumerate(shapes.texts(key, value)))


def _node_labels(key: str, value: Any) -> dict[str, str]:
    labels = _labels(key, value)
    if ARCH_LABEL in labels:
        raise ArchshiftError(f"{key}.{ARCH_LABEL} follows from instance_types; remove it")
    return labels


def _taints(key: str, value: Any) -> tuple[Taint, ...]:
    taints = shapes.typed(key, value, list, "a list")
    return tuple(_taint(f"{key}[{index}]", taint) for index, taint in enumerate(taints))


def _taint(key: str, value: Any) -> Taint:
    taint = shapes.mapping(key, value)
    shapes.only(f"{key}.", taint, {"key", "value", "effect"})
    if not taint.get("key"):
        raise ArchshiftError(f"{key}.key is missing; every taint has one")
    effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
    effect = taint.get("effect", "NoSchedule")
    if effect not in effects:
        raise ArchshiftError(f"{key}.effect: {effect!r} is none of {', '.join(effects)}")
    return Taint(
        key=shapes.typed(f"{key}.key", taint["key"], str, "text"),
        value=shapes.typed(f"{key}.value", taint.get("value", ""), str, "text; put it in quotes"),
        effect=effect,
    )


def _discovery(workloads: Mapping[str, Any]) -> Discovery:
    key = "archshift:workloads"
    shapes.only(f"{key}.", workloads, {"namespaces", "exclude", "label_selector", "overrides"})
    return Discovery(
        namespaces=shapes.texts(f"{key}.namespaces", workloads.get("namespaces", [])),
        exclude=frozenset(
            _workload_key(f"{key}.exclude", text)
            for text in shapes.texts(f"{key}.exclude", workloads.get("exclude", []))
        ),
        label_selector=shapes.typed(
            f"{key}.label_selector",
            workloads.get("label_selector", ""),
            str,
            "a label selector such as team=shop",
        ),
    )


def _workload_key(key: str, text: str) -> str:
    parts = text.split("/")
    if len(parts) != 3 or parts[1] not in CONTROLLERS or not all(parts):
        raise ArchshiftError(
            f"{key}: {text!r} is not namespace/Kind/name with one of the kinds {', '.join(CONTROLLERS)}"
        )
    return text


def _rules(workloads: Mapping[str, Any]) -> dict[str, Rules]:
    key = "archshift:workloads.overrides"
    overrides = shapes.mapping(key, workloads.get("overrides", {}))
    return {_workload_key(key, name): _rule(f"{key}.{name}", value) for name, value in overrides.items()}


def _rule(key: str, value: Any) -> Rules:
    rule = shapes.mapping(key, value)
    readers: dict[str, Callable[[str, Any], Any]] = {
        "hold": shapes.flag,
        "max_ratio": shapes.ratio,
        "wave": _wave,
        "force": shapes.flag,
        "reason": lambda k, v: shapes.typed(k, v, str, "text"),
    }
    shapes.only(f"{key}.", rule, set(readers))
    rules = Rules(**{name: readers[name](f"{key}.{name}", setting) for name, setting in rule.items()})
    if rules.force and not rules.reason.strip():
        raise ArchshiftError(
            f"{key}.force: true takes fields from their owner and needs a reason: beside it that says why"
        )
    return rules


def _images(value: Mapping[str, Any], platform: str, environment: Mapping[str, str]) -> ImageRules:
    key = "archshift:images"
    readers: dict[str, Callable[[str, Any], Any]] = {
        "check": shapes.flag,
        "deep": shapes.flag,
        "max_age_days": _days,
        "daemonsets": _daemonsets,
        "registries": _registries,
    }
    shapes.only(f"{key}.", value, set(readers))
    given = {name: readers[name](f"{key}.{name}", setting) for name, setting in value.items()}
    registries = _reached(_machine_registries(environment), given.pop("registries", {}))
    rules = ImageRules(**given, registries=registries)
    if not rules.check and platform != "lab":
        raise ArchshiftError(
            f"{key}.check: false is for the lab alone; on a real cluster an image that nobody looked at "
            "counts as one that cannot run on arm64"
        )
    return rules


def _days(key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 365:
        raise ArchshiftError(f"{key}: {value!r} is not a number of days from 0 to 365")
    return float(value)


def _daemonsets(key: str, value: Any) -> Literal["stop", "pin"]:
    if value not in ("stop", "pin"):
        raise ArchshiftError(f"{key}: {value!r} is none of stop, pin")
    return cast(Literal["stop", "pin"], value)


def _registries(key: str, value: Any, joint: str = ".") -> dict[str, dict[str, Any]]:
    found = {}
    for host, setting in shapes.mapping(key, value).items():
        where = f"{key}{joint}{host}"
        found[shapes.typed(where, host, str, "a host; put it in quotes")] = _registry(where, setting)
    return found


def _registry(key: str, value: Any) -> dict[str, Any]:
    readers: dict[str, Callable[[str, Any], Any]] = {
        "plain_http": shapes.flag,
        "ca_file": lambda k, v: shapes.typed(k, v, str, "the path of a PEM file"),
        "mirrors": shapes.texts,
        "token_hosts": shapes.texts,
    }
    host = shapes.mapping(key, value)
    shapes.only(f"{key}.", host, set(readers))
    return {name: readers[name](f"{key}.{name}", setting) for name, setting in host.items()}


def _machine_registries(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    path = environment.get(REGISTRIES_FILE)
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchshiftError(
            f"{REGISTRIES_FILE}: {path} cannot be read ({error.strerror}); correct the path, or unset it"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1})" if mark else ""
        raise ArchshiftError(f"{REGISTRIES_FILE}: {path} is not YAML{where}") from None
    return _registries(f"{REGISTRIES_FILE}: {path}", content or {}, joint=": ")


def _reached(
    machine: Mapping[str, Mapping[str, Any]], config: Mapping[str, Mapping[str, Any]]
) -> dict[str, RegistryHost]:
    """Merge key by key: the machine's word counts where the stack's config says nothing."""
    return {
        host: RegistryHost(**{**machine.get(host, {}), **config.get(host, {})})
        for host in {**machine, **config}
    }


def _break_glass(value: Any) -> BreakGlass | None:
    key = "archshift:break_glass"
    if not value:
        return None
    words = shapes.required_texts(key, value, ("until", "reason", "ticket"))
    return BreakGlass(
        until=shapes.time(f"{key}.until", words["until"]), reason=words["reason"], ticket=words["ticket"]
    )


def _override(value: Any) -> Override | None:
    key = "archshift:override"
    if not value:
        return None
    words = shapes.required_texts(key, value, ("rule", "reason", "until"))
    return Override(
        rule=words["rule"], reason=words["reason"], until=shapes.time(f"{key}.until", words["until"])
    )


def _wave(key: str, value: Any) -> Wave:
    if value not in ("early", "late"):
        raise ArchshiftError(f"{key}: {value!r} is none of early, late")
    return cast(Wave, value)


def from_engine() -> Settings:
    """Read the settings of the stack that the engine is running.

    Raises:
        ArchshiftError: As ``load``.
    """
    # Imported here: the command line reads the same settings without an engine.
    import pulumi
    from pulumi.runtime import config

    return load(pulumi.get_stack(), {**config.get_config_env(), **config.CONFIG.get()})
