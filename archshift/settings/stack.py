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

from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.model import Discovery
from archshift.common.errors import ArchshiftError
from archshift.cost.rules import CostRules
from archshift.images.registry.hosts import ImageRules, RegistryHost
from archshift.nodes.eks import EksCluster, NewCluster
from archshift.nodes.groups import AnyNodeGroup, EksNodeGroup, NodeGroup, NodePool
from archshift.nodes.instance_types import graviton_families
from archshift.nodes.node_pools import PROVISIONERS, Provisioner
from archshift.plan.apportion import Wave
from archshift.plan.arm64_tests import Arm64TestRules
from archshift.plan.exceptions import BreakGlass, PolicyException
from archshift.plan.model import Rules
from archshift.ramp.gate import GateSettings
from archshift.ramp.monitoring_rules import MonitoringSettings
from archshift.ramp.schedule import Ramp
from archshift.settings import values as settings_values
from archshift.settings.arm64_tests import read_arm64_tests
from archshift.settings.cost import read_cost
from archshift.settings.gate import read_gate
from archshift.settings.monitoring import read_monitoring
from archshift.settings.node_groups import eks_groups, lab_group, read_subnets
from archshift.settings.node_pools import node_pools
from archshift.settings.ramp import read_ramp

PROJECT: Final = "archshift"

RENAMED_KEYS: Final = {"compat_test": "arm64_tests", "override": "policy_exception"}
"""Old key to new key."""

REGISTRIES_FILE: Final = "ARCHSHIFT_REGISTRIES"
"""The variable that names a machine's own file of registries; see ``Settings.images``."""


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
        provisioner: What brings up the nodes of the groups: they themselves (``managed``), or
            Karpenter or EKS Auto Mode, for which they are NodePools.
        node_pools: The NodePools, by name.
        discovery: Which workloads are looked at.
        rules: Per-workload rules, by ``namespace/Kind/name``.
        images: How images are checked. How a registry is reached (a mirror's address, the path of a CA)
            differs between a laptop and a CI runner, so what the stack's config leaves open comes from
            the YAML file that ``ARCHSHIFT_REGISTRIES`` names, of the same shape as
            ``archshift:images.registries``.
        arm64_tests: Which workloads are tested on arm64 before their first Graviton pod.
        break_glass: x86 may go although something needs it; None without.
        policy_exception: An exception from one rule of the policy pack; None without.
        cost: What nodes cost; its region is that of ``aws:region`` where it names none.
        ramp: How arm_ratio moves from step to step; None where it is moved by hand.
        gated: Whether a gate judges the steps (``archshift:gate``).
        gate: How the gate judges a step.
        monitoring: Where rules and dashboard go; None for nowhere.
    """

    stack: str
    arm_ratio: float
    kube_context: str | None = None
    platform: Literal["eks", "lab"] = "eks"
    cluster: EksCluster | None = None
    node_groups: Mapping[str, NodeGroup] = field(default_factory=dict)
    eks_node_groups: Mapping[str, EksNodeGroup] = field(default_factory=dict)
    provisioner: Provisioner = "managed"
    node_pools: Mapping[str, NodePool] = field(default_factory=dict)
    discovery: Discovery = field(default_factory=Discovery)
    rules: Mapping[str, Rules] = field(default_factory=dict)
    images: ImageRules = field(default_factory=ImageRules)
    arm64_tests: Arm64TestRules = field(default_factory=Arm64TestRules)
    break_glass: BreakGlass | None = None
    policy_exception: PolicyException | None = None
    cost: CostRules = field(default_factory=CostRules)
    ramp: Ramp | None = None
    gated: bool = False
    gate: GateSettings = field(default_factory=GateSettings)
    monitoring: MonitoringSettings | None = None

    @property
    def guarded(self) -> bool:
        """Whether x86 nodes may be this stack's to lose, and evidence says what needs them."""
        # Also without a group in the configuration: the last one may have been taken out of it.
        makes_nodes = self.platform == "lab" or self.cluster is not None or self.provisioner != "managed"
        return self.images.check and makes_nodes

    @property
    def evidence_file(self) -> str:
        """Where the gate's evidence is, from the folder of Pulumi.yaml."""
        return self.gate.evidence_file(self.stack.rpartition("/")[2])

    @property
    def groups(self) -> tuple[AnyNodeGroup, ...]:
        """The node groups archshift manages, wherever they are."""
        return (
            *self.node_groups.values(),
            *self.eks_node_groups.values(),
            *self.node_pools.values(),
        )

    def break_glass_active(self, now: datetime) -> bool:
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
    for old, new in RENAMED_KEYS.items():
        if old in values:
            raise ArchshiftError(
                f"archshift:{old} is now archshift:{new}",
                f"rename the key in Pulumi.{stack.rpartition('/')[2]}.yaml",
            )
    known = {
        "arm64_tests",
        "arm_ratio",
        "break_glass",
        "cluster",
        "cost",
        "gate",
        "graviton_families",
        "images",
        "kube_context",
        "monitoring",
        "node_groups",
        "platform",
        "policy_exception",
        "provisioner",
        "ramp",
        "workloads",
    }
    settings_values.only(f"{PROJECT}:", values, known)
    if "arm_ratio" not in values:
        raise ArchshiftError("archshift:arm_ratio is not set", "pulumi config set arm_ratio 0.2")
    platform = values.get("platform", "eks")
    if platform not in ("eks", "lab"):
        raise ArchshiftError(f"archshift:platform: {platform!r} is none of eks, lab")
    provisioner = _provisioner("archshift:provisioner", values.get("provisioner") or "managed", platform)
    managed = provisioner == "managed"
    cluster = _cluster(settings_values.mapping("archshift:cluster", _json(values, "cluster")), platform)
    if cluster:
        profile, region = config.get("aws:profile", ""), config.get("aws:region", "")
        cluster = replace(cluster, profile=profile, region=region)
    raw = settings_values.mapping("archshift:node_groups", _json(values, "node_groups"))
    families = _families("archshift:graviton_families", _json(values, "graviton_families"))
    workloads = settings_values.mapping("archshift:workloads", _json(values, "workloads"))
    gate = _json(values, "gate")
    return Settings(
        stack=stack,
        arm_ratio=settings_values.ratio("archshift:arm_ratio", values["arm_ratio"]),
        kube_context=values.get("kube_context") or None,
        platform=cast(Literal["eks", "lab"], platform),
        cluster=cluster,
        node_groups={n: lab_group(n, value) for n, value in raw.items()}
        if managed and platform == "lab"
        else {},
        eks_node_groups=eks_groups(raw, cluster, families) if managed and platform == "eks" else {},
        provisioner=provisioner,
        node_pools={} if managed else node_pools(raw, "lab" if platform == "lab" else provisioner, families),
        discovery=_discovery(workloads),
        rules=_rules(workloads),
        images=_images(
            settings_values.mapping("archshift:images", _json(values, "images")), platform, environment
        ),
        arm64_tests=read_arm64_tests("archshift:arm64_tests", _json(values, "arm64_tests")),
        break_glass=_break_glass(_json(values, "break_glass")),
        policy_exception=_policy_exception(_json(values, "policy_exception")),
        cost=read_cost("archshift:cost", _json(values, "cost"), config.get("aws:region", "")),
        ramp=read_ramp("archshift:ramp", _json(values, "ramp")),
        gated=bool(gate),
        gate=read_gate("archshift:gate", gate),
        monitoring=read_monitoring("archshift:monitoring", _json(values, "monitoring")),
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
            f"archshift:{key}: {text!r} is not a map", "write it as YAML below the key"
        ) from None


def _provisioner(key: str, value: Any, platform: str) -> Provisioner:
    read: Provisioner = settings_values.one_of(*PROVISIONERS)(key, value)
    if platform == "lab" and read == "auto-mode":
        raise ArchshiftError(f"{key}: the lab has no EKS Auto Mode", "karpenter is what it runs")
    return read


def _cluster(value: Mapping[str, Any], platform: str) -> EksCluster | None:
    key = "archshift:cluster"
    if not value:
        return None
    if platform == "lab":
        raise ArchshiftError(f"{key}: the lab has a cluster of its own", "remove the key or the platform")
    readers: dict[str, Callable[[str, Any], Any]] = {
        "name": settings_values.text("a cluster's name"),
        "subnets": read_subnets,
        "node_role": _arn,
        "autoscaler": settings_values.one_of("none", "cluster-autoscaler"),
        "create": _new_cluster,
    }
    settings_values.only(f"{key}.", value, set(readers))
    if "name" not in value:
        raise ArchshiftError(f"{key}.name is missing", "give the name of the EKS cluster")
    cluster = EksCluster(**{name: readers[name](f"{key}.{name}", entry) for name, entry in value.items()})
    if cluster.create and len(cluster.subnets) < 2:
        raise ArchshiftError(
            f"{key}.subnets: {list(cluster.subnets)!r} is too few to make a cluster",
            "give subnets in two zones or more",
        )
    return cluster


def _new_cluster(key: str, value: Any) -> NewCluster:
    readers: dict[str, Callable[[str, Any], Any]] = {
        "version": settings_values.text('a Kubernetes version in quotes, such as "1.34"'),
        "vpc": settings_values.text("the ID of a VPC"),
        "public_access": settings_values.texts,
        "kms_key": _arn,
        "admins": _arns,
    }
    new = settings_values.mapping(key, value)
    settings_values.only(f"{key}.", new, set(readers))
    for required in ("version", "vpc"):
        if required not in new:
            raise ArchshiftError(f"{key}.{required} is missing", "a cluster that is made has one")
    return NewCluster(**{name: readers[name](f"{key}.{name}", entry) for name, entry in new.items()})


def _families(key: str, value: Any) -> tuple[str, ...] | None:
    if not value:
        return None
    known = graviton_families()
    families = settings_values.texts(key, value)
    for family in families:
        if family not in known:
            raise ArchshiftError(f"{key}: {family!r} is no Graviton family", f"there are: {', '.join(known)}")
    return families


def _arn(key: str, value: Any) -> str:
    text = settings_values.typed(key, value, str, "an ARN such as arn:aws:iam::123456789012:role/name")
    if not re.fullmatch(r"arn:[^:]+:[^:]+:[^:]*:[^:]*:.+", text):
        raise ArchshiftError(f"{key}: {value!r} is not an ARN such as arn:aws:iam::123456789012:role/name")
    return text


def _arns(key: str, value: Any) -> tuple[str, ...]:
    return tuple(_arn(f"{key}[{index}]", arn) for index, arn in enumerate(settings_values.texts(key, value)))


def _discovery(workloads: Mapping[str, Any]) -> Discovery:
    key = "archshift:workloads"
    settings_values.only(f"{key}.", workloads, {"namespaces", "exclude", "label_selector", "overrides"})
    return Discovery(
        namespaces=settings_values.texts(f"{key}.namespaces", workloads.get("namespaces", [])),
        exclude=frozenset(
            settings_values.workload_key(f"{key}.exclude", text, CONTROLLERS)
            for text in settings_values.texts(f"{key}.exclude", workloads.get("exclude", []))
        ),
        label_selector=settings_values.typed(
            f"{key}.label_selector",
            workloads.get("label_selector", ""),
            str,
            "a label selector such as team=shop",
        ),
    )


def _rules(workloads: Mapping[str, Any]) -> dict[str, Rules]:
    key = "archshift:workloads.overrides"
    overrides = settings_values.mapping(key, workloads.get("overrides", {}))
    return {
        settings_values.workload_key(key, name, CONTROLLERS): _rule(f"{key}.{name}", value)
        for name, value in overrides.items()
    }


def _rule(key: str, value: Any) -> Rules:
    rule = settings_values.mapping(key, value)
    readers: dict[str, Callable[[str, Any], Any]] = {
        "hold": settings_values.flag,
        "max_ratio": settings_values.ratio,
        "wave": _wave,
        "force": settings_values.flag,
        "reason": lambda k, v: settings_values.typed(k, v, str, "text"),
    }
    settings_values.only(f"{key}.", rule, set(readers))
    rules = Rules(**{name: readers[name](f"{key}.{name}", setting) for name, setting in rule.items()})
    if rules.force and not rules.reason.strip():
        raise ArchshiftError(
            f"{key}.force: true takes fields from their owner and needs a reason: beside it that says why"
        )
    return rules


def _images(value: Mapping[str, Any], platform: str, environment: Mapping[str, str]) -> ImageRules:
    key = "archshift:images"
    readers: dict[str, Callable[[str, Any], Any]] = {
        "check": settings_values.flag,
        "deep": settings_values.flag,
        "max_age_days": _days,
        "daemonsets": _daemonsets,
        "registries": _registries,
    }
    settings_values.only(f"{key}.", value, set(readers))
    given = {name: readers[name](f"{key}.{name}", setting) for name, setting in value.items()}
    registries = _reached(_machine_registries(environment), given.pop("registries", {}))
    rules = ImageRules(**given, registries=registries)
    if not rules.check and platform != "lab":
        raise ArchshiftError(
            f"{key}.check: false is for the lab alone",
            "on a real cluster an image that nobody looked at counts as one that cannot run on arm64",
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
    for host, setting in settings_values.mapping(key, value).items():
        where = f"{key}{joint}{host}"
        found[settings_values.typed(where, host, str, "a host; put it in quotes")] = _registry(where, setting)
    return found


def _registry(key: str, value: Any) -> dict[str, Any]:
    readers: dict[str, Callable[[str, Any], Any]] = {
        "plain_http": settings_values.flag,
        "ca_file": lambda k, v: settings_values.typed(k, v, str, "the path of a PEM file"),
        "mirrors": settings_values.texts,
        "token_hosts": settings_values.texts,
    }
    host = settings_values.mapping(key, value)
    settings_values.only(f"{key}.", host, set(readers))
    return {name: readers[name](f"{key}.{name}", setting) for name, setting in host.items()}


def _machine_registries(environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    path = environment.get(REGISTRIES_FILE)
    if not path:
        return {}
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchshiftError(
            f"{REGISTRIES_FILE}: {path} cannot be read ({error.strerror})", "correct the path, or unset it"
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
    words = settings_values.required_texts(key, value, ("until", "reason", "ticket"))
    return BreakGlass(
        until=settings_values.time(f"{key}.until", words["until"]),
        reason=words["reason"],
        ticket=words["ticket"],
    )


def _policy_exception(value: Any) -> PolicyException | None:
    key = "archshift:policy_exception"
    if not value:
        return None
    words = settings_values.required_texts(key, value, ("rule", "reason", "until"))
    return PolicyException(
        rule=words["rule"], reason=words["reason"], until=settings_values.time(f"{key}.until", words["until"])
    )


def _wave(key: str, value: Any) -> Wave:
    if value not in ("early", "late"):
        raise ArchshiftError(f"{key}: {value!r} is none of early, late")
    return cast(Wave, value)
