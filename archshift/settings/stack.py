"""The stack's settings: the only reader of its configuration.

``keys`` declares every key. This module turns the values into the types that the rest of archshift uses. It
reports all errors of a configuration together, each with the key, the value and the way out.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias, TypeVar, get_args

from archshift.actions.rollout_limits import RolloutLimits
from archshift.cluster.model import Discovery
from archshift.cluster.ownership import PATCHES_SUFFIX
from archshift.cluster.pods import COSTS_SUFFIX
from archshift.common.aws import NOBODY_SPECIAL, AwsIdentity
from archshift.common.errors import ArchshiftError
from archshift.cost.rules import CostRules
from archshift.images.registry.hosts import ImageRules
from archshift.nodes.eks import EksCluster
from archshift.nodes.groups import AnyNodeGroup, EksNodeGroup, NodeGroup, NodePool, stack_label
from archshift.nodes.launch_templates import LiveTemplate, ReadTemplate, TemplateVersion, read_template
from archshift.nodes.live_groups import LiveGroup, with_types
from archshift.nodes.node_pools import LivePool, Provisioner
from archshift.nodes.twins import fill_groups
from archshift.plan.arm64_tests import Arm64TestRules
from archshift.plan.exceptions import BreakGlass, PolicyException
from archshift.plan.model import Placement, Rules
from archshift.ramp.gate import GateSettings
from archshift.ramp.monitoring_rules import MonitoringSettings
from archshift.ramp.schedule import Ramp
from archshift.settings.aws import aws_identity
from archshift.settings.images import REGISTRIES_FILE, machine_registries, merged
from archshift.settings.keys import RENAMED_KEYS, StackModel
from archshift.settings.node_groups import eks_groups, imports, lab_groups
from archshift.settings.node_pools import PoolSettings
from archshift.settings.reading import Problems, read_fields
from archshift.settings.values import Ratio

__all__ = ["PROJECT", "REGISTRIES_FILE", "Settings", "images_of_no_stack", "load"]

PROJECT: Final = "archshift"

_Managed = TypeVar("_Managed", NodeGroup, EksNodeGroup)

Describe: TypeAlias = Callable[[EksCluster, Mapping[str, str], Iterable[str], str], Mapping[str, LiveGroup]]
"""Reads the node groups that exist, as ``archshift.nodes.live_groups.read_groups`` does."""

_SCALARS: Final = ("arm_ratio", "cluster_uid", "kube_context", "placement", "platform", "provisioner")
"""The keys whose values the engine passes as text; it passes all others as JSON."""

_ANY_CLUSTER: Final = EksCluster(name="any", subnets=("subnet-any",))
"""Replaces a cluster with an error, so that the errors of its node groups are reported too."""

_DEFAULTED: Final = frozenset(StackModel.__struct_fields__) - {"arm_ratio"}
"""The keys for which an empty text means the default."""

_NO_KUBECONFIG: Final = ArchshiftError(
    "aws:assumeRoles: the kubeconfig that archshift makes can assume one role, without external ID, policies "
    "and tags",
    "set archshift:kube_context to a context of yours, or set aws:profile to a profile with role_arn, "
    "source_profile and external_id",
)

_OPTIONAL: Final = ("break_glass", "cluster", "monitoring", "policy_exception", "ramp")
"""The keys that contain required keys. Pulumi.yaml has an empty map as their default, which means no key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One stack's settings.

    Attributes:
        stack: The stack's name.
        arm_ratio: The share of the fleet's pods wanted on Graviton, 0.0 to 1.0.
        kube_context: The kubeconfig context; None for the current context.
        cluster_uid: The uid of the stack's cluster, if it was rebuilt; empty for the cluster that the stack
            remembers.
        platform: Where archshift creates node groups: ``lab`` (simulated nodes) or ``eks``.
        aws: With which credentials the stack uses AWS.
        cluster: The EKS cluster that archshift adopts or creates; None if it manages no infrastructure.
        node_groups: The lab's node groups, by name.
        eks_node_groups: The cluster's managed node groups, by name.
        placement: Who places pods: patches of pod templates, or the API server when a pod is created.
        provisioner: What creates the nodes: the groups themselves (``managed``), or Karpenter or EKS Auto
            Mode, for which the groups are NodePools.
        node_pools: The NodePools, by name. Before ``with_live_pools``, those that the stack takes over are
            missing.
        pool_settings: The settings of the NodePools; None if the stack has none.
        live_pools: The NodePools of the cluster, by name; None if nobody has read them.
        group_names: The names of all groups, in the order of the settings.
        discovery: Which workloads archshift looks at.
        rules: The rules of single workloads, by ``namespace/Kind/name``.
        rollouts: How long an update waits for the rollouts that it starts.
        images: How archshift checks images. The access to a registry (a mirror's address, the path of a CA)
            differs between a laptop and a CI runner. So the YAML file that ``ARCHSHIFT_REGISTRIES`` names
            adds what the stack's configuration leaves out, in the form of ``archshift:images.registries``.
        arm64_tests: Which workloads to test on arm64 before their first Graviton pod.
        break_glass: Permits to remove x86 nodes although something needs them; None for no permission.
        policy_exception: An exception from one rule of the policy pack; None for no exception.
        cost: What nodes cost. Its region is ``aws:region`` unless it names one.
        ramp: How arm_ratio moves from step to step; None if a person moves it.
        gated: Whether a gate judges the steps (``archshift:gate``).
        gate: How the gate judges a step.
        monitoring: Where rules and the dashboard go; None for nowhere.
    """

    stack: str
    arm_ratio: float
    kube_context: str | None = None
    cluster_uid: str = ""
    platform: Literal["eks", "lab"] = "eks"
    aws: AwsIdentity = NOBODY_SPECIAL
    cluster: EksCluster | None = None
    node_groups: Mapping[str, NodeGroup] = field(default_factory=dict)
    eks_node_groups: Mapping[str, EksNodeGroup] = field(default_factory=dict)
    placement: Placement = "patches"
    provisioner: Provisioner = "managed"
    node_pools: Mapping[str, NodePool] = field(default_factory=dict)
    pool_settings: PoolSettings | None = None
    live_pools: Mapping[str, LivePool] | None = None
    group_names: tuple[str, ...] = ()
    discovery: Discovery = field(default_factory=Discovery)
    rules: Mapping[str, Rules] = field(default_factory=dict)
    rollouts: RolloutLimits = field(default_factory=RolloutLimits)
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
        """Whether the stack may remove x86 nodes, and evidence shows what needs them."""
        # This includes a configuration without groups, because its last group may have been removed.
        makes_nodes = (
            self.platform == "lab"
            or self.cluster is not None
            or self.provisioner != "managed"
            or self.pool_settings is not None
        )
        return self.images.check and makes_nodes

    @property
    def evidence_file(self) -> str:
        """The path of the gate's evidence, from the folder of Pulumi.yaml."""
        return self.gate.evidence_file(self.stack.rpartition("/")[2])

    @property
    def groups(self) -> tuple[AnyNodeGroup, ...]:
        """The node groups that archshift manages, of all kinds, in the order of the settings."""
        order = {name: place for place, name in enumerate(self.group_names)}
        of_all_kinds: tuple[AnyNodeGroup, ...] = (
            *self.node_groups.values(),
            *self.eks_node_groups.values(),
            *self.node_pools.values(),
        )
        return tuple(sorted(of_all_kinds, key=lambda group: order.get(group.name, 0)))

    @property
    def takes_over_pools(self) -> bool:
        """Whether groups follow existing NodePools, which the settings alone do not know."""
        return self.pool_settings is not None and bool(self.pool_settings.imported)

    def with_live_pools(self, live: Mapping[str, LivePool]) -> "Settings":
        """Return the settings with the NodePools that they take over, and their twins.

        Args:
            live: The NodePools of the cluster, by name.

        Raises:
            SettingsError: An existing NodePool is not as the settings assume.
        """
        if self.pool_settings is None:
            return self
        pools = self.pool_settings.pools(live, stack=self.stack_label, manager=self.pools_manager)
        return replace(self, node_pools=pools, live_pools=live)

    def break_glass_active(self, now: datetime) -> bool:
        """Whether the configuration switches the guard of x86 nodes off now."""
        return self.break_glass is not None and self.break_glass.active(now)

    @property
    def stack_label(self) -> str:
        """The value of the label ``archshift/stack`` on the nodes that this stack makes."""
        return stack_label(self.stack)

    @property
    def mark(self) -> str:
        """The stack's name in the cluster, so that two stacks on one cluster see each other."""
        return f"{PROJECT}/{self.stack}"

    @property
    def pools_manager(self) -> str:
        """The stack's name in ``managedFields`` of the NodePools that it takes over."""
        return f"{self.mark}/pools"

    @property
    def field_manager(self) -> str:
        """The stack's name in ``managedFields``."""
        return f"{self.mark}{PATCHES_SUFFIX}"

    @property
    def costs_manager(self) -> str:
        """The stack's name in the ``managedFields`` of pods whose deletion costs it sets."""
        return f"{self.mark}{COSTS_SUFFIX}"


def load(
    stack: str,
    config: Mapping[str, str],
    environment: Mapping[str, str] = os.environ,
    describe: Describe | None = None,
) -> Settings:
    """Build the settings from a stack's configuration.

    Args:
        stack: The stack's name.
        config: Full key (``archshift:arm_ratio``) to the value from the engine: text, or JSON for objects.
            Keys of other projects and providers are ignored.
        environment: The environment variables, which may name this machine's file of registries.
        describe: Reads the node groups that exist at EKS. None for callers that do not look at node groups:
            then the imported groups are left out whose settings leave their types or sizes to EKS.

    Raises:
        SettingsError: Keys are unknown, values are invalid, or EKS cannot be read. It contains all errors.
    """
    problems = Problems()
    values = _configured(config)
    if "arm_ratio" not in values:
        problems.errors.append(
            ArchshiftError("archshift:arm_ratio is missing", "pulumi config set arm_ratio 0.2")
        )
    for old, new in RENAMED_KEYS.items():
        if values.pop(old, None) is not None:
            problems.errors.append(
                ArchshiftError(
                    f"archshift:{old} is now archshift:{new}",
                    f"rename the key in Pulumi.{stack.rpartition('/')[2]}.yaml",
                )
            )
    # A default replaces each value with an error, so that the rest is read and its errors are reported too.
    valid = read_fields(StackModel, f"{PROJECT}:", {"arm_ratio": 0, **values}, problems)
    model = StackModel(**{"arm_ratio": Ratio(0), **valid})
    refused = set(values) - set(valid)
    region = config.get("aws:region", "")
    aws = problems.attempt(lambda: aws_identity(config), NOBODY_SPECIAL)
    cluster = model.cluster.cluster(aws, region, _default_tags(config)) if model.cluster else None
    if cluster and not model.kube_context and not aws.fits_kubeconfig:
        problems.errors.append(_NO_KUBECONFIG)
    groups: dict[str, Any] = {}
    # These two decide which keys of a group are valid. If they are invalid, errors of groups would mislead.
    if not refused & {"platform", "provisioner"}:
        _check_platform(model, problems)
        with problems.collected():
            groups = (
                _groups(model, _ANY_CLUSTER, stack_label(stack), None)
                if "cluster" in refused
                else _groups(model, cluster, stack_label(stack), describe)
            )
    platform = "lab" if "platform" in refused else model.platform
    settings = Settings(
        stack=stack,
        arm_ratio=float(model.arm_ratio),
        kube_context=model.kube_context or None,
        cluster_uid=model.cluster_uid,
        platform=model.platform,
        aws=aws,
        cluster=cluster,
        placement=model.placement,
        provisioner=model.provisioner,
        **groups,
        discovery=model.workloads.discovery(),
        rules=model.workloads.rules(),
        rollouts=model.rollouts.limits(),
        images=replace(
            problems.attempt(
                lambda: model.images.rules("archshift:images", platform, environment), ImageRules()
            ),
            aws=aws,
        ),
        arm64_tests=problems.attempt(
            lambda: model.arm64_tests.rules("archshift:arm64_tests"), Arm64TestRules()
        ),
        break_glass=model.break_glass.exception() if model.break_glass else None,
        policy_exception=model.policy_exception.exception() if model.policy_exception else None,
        cost=problems.attempt(lambda: model.cost.rules("archshift:cost", region), CostRules()),
        ramp=problems.attempt(lambda: model.ramp.ramp("archshift:ramp") if model.ramp else None, None),
        gated=bool(values.get("gate")),
        gate=problems.attempt(lambda: model.gate.settings("archshift:gate"), GateSettings()),
        monitoring=model.monitoring.monitoring() if model.monitoring else None,
    )
    problems.check()
    return settings


def model_of(config: Mapping[str, str]) -> StackModel:
    """Return the values of a configuration as they are declared, to compare two of them.

    Raises:
        SettingsError: Values are invalid.
    """
    problems = Problems()
    valid = read_fields(StackModel, f"{PROJECT}:", _configured(config), problems)
    problems.check()
    return StackModel(**valid)


def digest(config: Mapping[str, str]) -> str:
    """Return a hash of archshift's own values in a configuration.

    A pipeline checks a configuration in one process, and the engine reads it again in another.
    """
    own = {key: _json(text) for key, text in config.items() if key.startswith(f"{PROJECT}:")}
    return hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()


def images_of_no_stack(environment: Mapping[str, str] = os.environ) -> ImageRules:
    """Return how archshift checks images without a stack: with this machine's access to registries.

    Raises:
        ArchshiftError: This machine's file of registries is invalid.
    """
    return ImageRules(registries=merged(machine_registries(environment), {}))


def _configured(config: Mapping[str, str]) -> dict[str, Any]:
    """Return the configured values, by key without the project's name."""
    values: dict[str, Any] = {}
    for full, text in config.items():
        key = full.removeprefix(f"{PROJECT}:")
        if key == full or (not text and key in _DEFAULTED):
            continue
        value = text if key in _SCALARS else _json(text)
        if value != {} or key not in _OPTIONAL:
            values[key] = value
    return values


def _default_tags(config: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of ``aws:defaultTags``; none where the provider will refuse the value."""
    value = _json(config.get("aws:defaultTags", ""))
    tags = value.get("tags") if isinstance(value, dict) else None
    return {str(key): str(tag) for key, tag in tags.items()} if isinstance(tags, dict) else {}


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # The text is no JSON. The check of the key's type reports that.
        return text


def _check_platform(model: StackModel, problems: Problems) -> None:
    if model.platform == "lab" and model.cluster:
        problems.errors.append(
            ArchshiftError(
                f"{PROJECT}:cluster: the lab has a cluster of its own", "remove the key or the platform"
            )
        )
    in_groups = [one.get("provisioner") for one in model.node_groups.values() if isinstance(one, Mapping)]
    if model.platform == "lab" and "auto-mode" in (model.provisioner, *in_groups):
        problems.errors.append(
            ArchshiftError(f"{PROJECT}:provisioner: the lab has no EKS Auto Mode", "use karpenter")
        )


def _groups(
    model: StackModel, cluster: EksCluster | None, label: str, describe: Describe | None
) -> dict[str, Any]:
    """Return the node groups, by the attribute of ``Settings`` that holds them.

    Args:
        model: The stack's settings.
        cluster: The cluster of the groups.
        label: The value of the label that their nodes get.
        describe: Reads the node groups that exist; None not to ask.

    Raises:
        SettingsError: Values are invalid.
    """
    raw, families = model.node_groups, model.graviton_families or None
    provisioners = {name: _provisioner_of(name, raw, model) for name in raw}
    problems = Problems()
    for name in raw:
        with problems.collected():
            _check_kind(name, raw, provisioners)
    problems.check()
    managed = {name: raw[name] for name in raw if provisioners[name] == "managed"}
    pools = {name: raw[name] for name in raw if provisioners[name] != "managed"}
    found: dict[str, Any] = {"group_names": tuple(raw)}
    with problems.collected():
        if model.platform == "lab":
            found["node_groups"] = _labelled(lab_groups(managed), label)
        else:
            found["eks_node_groups"] = _labelled(
                _managed_groups(managed, cluster, families, label, describe), label
            )
    if pools:
        settings = PoolSettings(
            raw=pools,
            provisioners={name: "lab" if model.platform == "lab" else provisioners[name] for name in pools},
            families=families,
        )
        found["pool_settings"] = settings
        with problems.collected():
            found["node_pools"] = settings.pools()
    problems.check()
    return found


def _managed_groups(
    raw: Mapping[str, Any],
    cluster: EksCluster | None,
    families: tuple[str, ...] | None,
    label: str,
    describe: Describe | None,
) -> dict[str, EksNodeGroup]:
    if describe and cluster and raw:
        there = imports(raw)
        read = _reader_of_templates(cluster)
        live = with_types(describe(cluster, there, [name for name in raw if name not in there], label), read)
        return fill_groups(eks_groups(raw, cluster, families, live), read)
    return eks_groups(raw, cluster, families)


def _reader_of_templates(cluster: EksCluster) -> ReadTemplate:
    """Return what reads launch templates, each version once: several groups may have it."""
    templates: dict[TemplateVersion, LiveTemplate] = {}

    def read(version: TemplateVersion, key: str) -> LiveTemplate:
        if version not in templates:
            templates[version] = read_template(cluster, version, key)
        return templates[version]

    return read


def _provisioner_of(name: str, raw: Mapping[str, Any], model: StackModel) -> str:
    """Return what brings up the nodes of a group: a twin follows its original."""
    group = raw[name] if isinstance(raw[name], Mapping) else {}
    original = raw.get(str(group.get("twin_of")))
    others = original if isinstance(original, Mapping) else {}
    said = group.get("provisioner") or others.get("provisioner")
    # The kind of group that the stack has by default reports an invalid value.
    return str(said) if said in get_args(Provisioner) else model.provisioner


def _check_kind(name: str, raw: Mapping[str, Any], provisioners: Mapping[str, str]) -> None:
    """Check that a twin is of the kind of its original.

    Raises:
        ArchshiftError: It is not.
    """
    other = raw[name].get("twin_of") if isinstance(raw[name], Mapping) else None
    if isinstance(other, str) and provisioners.get(other, provisioners[name]) != provisioners[name]:
        raise ArchshiftError(
            f"archshift:node_groups.{name}.provisioner: {provisioners[name]} is not {provisioners[other]}, "
            f"which {other!r} has; a twin copies its original, and the two kinds have other properties",
            "remove provisioner, or name instance types in place of twin_of",
        )


def _labelled(groups: Mapping[str, _Managed], label: str) -> dict[str, _Managed]:
    return {name: replace(group, stack=label) for name, group in groups.items()}
