"""The stack's settings: the only reader of its configuration.

``Pulumi.yaml`` declares every key with its type, default and description; here the values get
their shape. Every error names the key, the value and the way out.
"""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, TypeVar, cast

import yaml

from archshift.architectures import ARCH_LABEL
from archshift.errors import ArchshiftError
from archshift.guard import BreakGlass, Override
from archshift.images.hosts import ImageRules, RegistryHost
from archshift.instance_types import instance_type
from archshift.inventory import CONTROLLERS, Discovery
from archshift.node_groups import NodeGroup, Taint
from archshift.plan import Rules
from archshift.ratio import Wave

PROJECT: Final = "archshift"

REGISTRIES_FILE: Final = "ARCHSHIFT_REGISTRIES"
"""The variable that names a machine's own file of registries; see ``Settings.images``."""

_T = TypeVar("_T")

_NODE_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One stack's settings.

    Attributes:
        stack: The stack's name.
        arm_ratio: Share of the fleet's pods wanted on Graviton, 0.0 to 1.0.
        kube_context: Kubeconfig context; None for the current one.
        platform: Where node groups are made: ``lab`` (simulated nodes) or ``eks``.
        node_groups: The node groups archshift manages, by name.
        discovery: Which workloads are looked at.
        rules: Per-workload rules, by ``namespace/Kind/name``.
        images: How images are checked. How a registry is reached (a mirror's address, the path of a CA)
            differs between a laptop and a CI runner, so what the stack's config leaves open comes from
            the YAML file that ``ARCHSHIFT_REGISTRIES`` names, of the same shape as
            ``archshift:images.registries``.
        break_glass: x86 may go although something needs it; None without.
        override: An exception from one rule of the policy pack; None without.
    """

    stack: str
    arm_ratio: float
    kube_context: str | None = None
    platform: Literal["eks", "lab"] = "eks"
    node_groups: Mapping[str, NodeGroup] = field(default_factory=dict)
    discovery: Discovery = field(default_factory=Discovery)
    rules: Mapping[str, Rules] = field(default_factory=dict)
    images: ImageRules = field(default_factory=ImageRules)
    break_glass: BreakGlass | None = None
    override: Override | None = None

    @property
    def guarded(self) -> bool:
        """Whether x86 nodes may be this stack's to lose, and evidence says what needs them."""
        return self.images.check and bool(self.node_groups)

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
        "images",
        "kube_context",
        "node_groups",
        "override",
        "platform",
        "workloads",
    }
    _only(f"{PROJECT}:", values, known)
    if "arm_ratio" not in values:
        raise ArchshiftError("archshift:arm_ratio is not set; pulumi config set arm_ratio 0.2")
    platform = values.get("platform", "eks")
    if platform not in ("eks", "lab"):
        raise ArchshiftError(f"archshift:platform: {platform!r} is none of eks, lab")
    groups = {
        name: _node_group(name, value)
        for name, value in _mapping("archshift:node_groups", _json(values, "node_groups")).items()
    }
    if groups and platform == "eks":
        raise ArchshiftError(
            "archshift:node_groups: this version makes node groups in the lab only (archshift:platform: "
            "lab); on EKS leave the key out and archshift counts the nodes it finds"
        )
    workloads = _mapping("archshift:workloads", _json(values, "workloads"))
    return Settings(
        stack=stack,
        arm_ratio=_ratio("archshift:arm_ratio", values["arm_ratio"]),
        kube_context=values.get("kube_context") or None,
        platform=cast(Literal["eks", "lab"], platform),
        node_groups=groups,
        discovery=_discovery(workloads),
        rules=_rules(workloads),
        images=_images(_mapping("archshift:images", _json(values, "images")), platform, environment),
        break_glass=_break_glass(_json(values, "break_glass")),
        override=_override(_json(values, "override")),
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


def _only(prefix: str, value: Mapping[str, Any], known: set[str]) -> None:
    for key in value:
        if key not in known:
            raise ArchshiftError(f"{prefix}{key} is not a setting; there are: {', '.join(sorted(known))}")


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ArchshiftError(f"{key}: {value!r} is not a map; write it as YAML below the key")
    return value


def _typed(key: str, value: Any, kind: type[_T], description: str) -> _T:
    # bool is an int to Python; to a reader of YAML it is not.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ArchshiftError(f"{key}: {value!r} is not {description}")
    return value


def _ratio(key: str, value: Any) -> float:
    wanted = "a number from 0.0 to 1.0, such as 0.2"
    if isinstance(value, bool):
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    try:
        ratio = float(value)
    except (TypeError, ValueError):
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}") from None
    if math.isnan(ratio) or not 0 <= ratio <= 1:
        raise ArchshiftError(f"{key}: {value!r} is not {wanted}")
    return ratio


def _texts(key: str, value: Any) -> tuple[str, ...]:
    items = _typed(key, value, list, "a list of names")
    return tuple(_typed(f"{key}[{index}]", item, str, "a name") for index, item in enumerate(items))


def _labels(key: str, value: Any) -> dict[str, str]:
    return {
        name: _typed(f"{key}.{name}", text, str, 'text; put it in quotes, as in "true"')
        for name, text in _mapping(key, value).items()
    }


def _node_group(name: str, value: Any) -> NodeGroup:
    key = f"archshift:node_groups.{name}"
    if not _NODE_NAME.fullmatch(name):
        raise ArchshiftError(f"{key}: {name!r} is not a name for nodes: lower-case letters, digits and -")
    group = _mapping(key, value)
    _only(f"{key}.", group, {"instance_type", "size", "zones", "labels", "taints"})
    for required in ("instance_type", "size"):
        if required not in group:
            raise ArchshiftError(f"{key}.{required} is missing; every node group has one")
    size = _typed(f"{key}.size", group["size"], int, "a whole number of nodes, 0 or more")
    if size < 0:
        raise ArchshiftError(f"{key}.size: {size!r} is not a whole number of nodes, 0 or more")
    labels = _labels(f"{key}.labels", group.get("labels", {}))
    if ARCH_LABEL in labels:
        raise ArchshiftError(f"{key}.labels.{ARCH_LABEL} follows from instance_type; remove it")
    zones = _texts(f"{key}.zones", group.get("zones", ["a"]))
    if not zones:
        raise ArchshiftError(f"{key}.zones: [] names no availability zone; give at least one")
    type_name = _typed(f"{key}.instance_type", group["instance_type"], str, "an instance type")
    return NodeGroup(
        name=name,
        instance_type=instance_type(type_name, f"{key}.instance_type"),
        size=size,
        zones=zones,
        labels=labels,
        taints=tuple(
            _taint(f"{key}.taints[{index}]", taint)
            for index, taint in enumerate(_typed(f"{key}.taints", group.get("taints", []), list, "a list"))
        ),
    )


def _taint(key: str, value: Any) -> Taint:
    taint = _mapping(key, value)
    _only(f"{key}.", taint, {"key", "value", "effect"})
    if not taint.get("key"):
        raise ArchshiftError(f"{key}.key is missing; every taint has one")
    effects = ("NoSchedule", "PreferNoSchedule", "NoExecute")
    effect = taint.get("effect", "NoSchedule")
    if effect not in effects:
        raise ArchshiftError(f"{key}.effect: {effect!r} is none of {', '.join(effects)}")
    return Taint(
        key=_typed(f"{key}.key", taint["key"], str, "text"),
        value=_typed(f"{key}.value", taint.get("value", ""), str, "text; put it in quotes"),
        effect=effect,
    )


def _discovery(workloads: Mapping[str, Any]) -> Discovery:
    key = "archshift:workloads"
    _only(f"{key}.", workloads, {"namespaces", "exclude", "label_selector", "overrides"})
    return Discovery(
        namespaces=_texts(f"{key}.namespaces", workloads.get("namespaces", [])),
        exclude=frozenset(
            _workload_key(f"{key}.exclude", text)
            for text in _texts(f"{key}.exclude", workloads.get("exclude", []))
        ),
        label_selector=_typed(
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
    overrides = _mapping(key, workloads.get("overrides", {}))
    return {_workload_key(key, name): _rule(f"{key}.{name}", value) for name, value in overrides.items()}


def _rule(key: str, value: Any) -> Rules:
    rule = _mapping(key, value)
    readers: dict[str, Callable[[str, Any], Any]] = {
        "hold": _flag,
        "max_ratio": _ratio,
        "wave": _wave,
        "force": _flag,
        "reason": lambda k, v: _typed(k, v, str, "text"),
    }
    _only(f"{key}.", rule, set(readers))
    rules = Rules(**{name: readers[name](f"{key}.{name}", setting) for name, setting in rule.items()})
    if rules.force and not rules.reason.strip():
        raise ArchshiftError(
            f"{key}.force: true takes fields from their owner and needs a reason: beside it that says why"
        )
    return rules


def _images(value: Mapping[str, Any], platform: str, environment: Mapping[str, str]) -> ImageRules:
    key = "archshift:images"
    readers: dict[str, Callable[[str, Any], Any]] = {
        "check": _flag,
        "deep": _flag,
        "max_age_days": _days,
        "daemonsets": _daemonsets,
        "registries": _registries,
    }
    _only(f"{key}.", value, set(readers))
    given = {name: readers[name](f"{key}.{name}", setting) for name, setting in value.items()}
    registries = _reached(_machine_registries(environment), given.pop("registries", {}))
    rules = ImageRules(**given, registries=registries)
    if not rules.check and platform != "lab":
        raise ArchshiftError(
            f"{key}.check: false is for the lab alone; on a real cluster an image that nobody looked at "
            "counts as one that cannot run on arm64"
        )
    return rules


def _flag(key: str, value: Any) -> bool:
    return _typed(key, value, bool, "true or false")


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
    for host, setting in _mapping(key, value).items():
        where = f"{key}{joint}{host}"
        found[_typed(where, host, str, "a host; put it in quotes")] = _registry(where, setting)
    return found


def _registry(key: str, value: Any) -> dict[str, Any]:
    readers: dict[str, Callable[[str, Any], Any]] = {
        "plain_http": _flag,
        "ca_file": lambda k, v: _typed(k, v, str, "the path of a PEM file"),
        "mirrors": _texts,
        "token_hosts": _texts,
    }
    host = _mapping(key, value)
    _only(f"{key}.", host, set(readers))
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
    words = _required_texts(key, value, ("until", "reason", "ticket"))
    return BreakGlass(
        until=_time(f"{key}.until", words["until"]), reason=words["reason"], ticket=words["ticket"]
    )


def _override(value: Any) -> Override | None:
    key = "archshift:override"
    if not value:
        return None
    words = _required_texts(key, value, ("rule", "reason", "until"))
    return Override(rule=words["rule"], reason=words["reason"], until=_time(f"{key}.until", words["until"]))


def _required_texts(key: str, value: Any, names: tuple[str, ...]) -> dict[str, str]:
    words = _mapping(key, value)
    _only(f"{key}.", words, set(names))
    texts = {
        name: _typed(f"{key}.{name}", word, str, "text; put it in quotes").strip()
        for name, word in words.items()
        if word is not None
    }
    for name in names:
        if not texts.get(name):
            raise ArchshiftError(f"{key}.{name} is missing; it needs {', '.join(names)}")
    return texts


def _time(key: str, text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None:
        raise ArchshiftError(f'{key}: {text!r} is not a time with its zone, such as "2026-03-02T18:00:00Z"')
    return time


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
