"""NodePools as objects of the API: Karpenter and EKS Auto Mode create nodes from them."""

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import (
    ARCH_LABEL,
    ARCH_LABELS,
    ARCHITECTURE_LABEL,
    CAPACITY_TYPE_LABEL,
    GROUP_LABEL,
    INSTANCE_TYPE_LABEL,
    OS_LABEL,
    OS_LABELS,
    REGION_LABELS,
    ZONE_LABEL,
    ZONE_LABELS,
)
from archshift.common.quantity import parse_quantity
from archshift.common.resources import MIB
from archshift.nodes.groups import Consolidation, NodeClass, NodePool, Taint, side_taint
from archshift.nodes.requirements import (
    Requirement,
    describes_machines,
    for_architecture,
    matching_types,
    twin_requirements,
)

Provisioner: TypeAlias = Literal["managed", "karpenter", "auto-mode"]
"""What creates the nodes of ``archshift:node_groups``: the groups themselves, Karpenter or EKS Auto Mode."""

NODE_CLASSES: Final[Mapping[str, tuple[str, str]]] = {
    "karpenter": ("karpenter.k8s.aws", "EC2NodeClass"),
    "auto-mode": ("eks.amazonaws.com", "NodeClass"),
    "lab": ("karpenter.kwok.sh", "KWOKNodeClass"),
}
"""Provisioner to the API group and kind of its node classes; the lab's Karpenter has its own kind."""

API_VERSION: Final = "karpenter.sh/v1"
"""Karpenter has this version since 1.0, and Auto Mode always had it."""


def check_served(groups: Iterable[Mapping[str, Any]], node_class_groups: Iterable[str]) -> None:
    """Check that a cluster has the APIs for NodePools. The engine would report this only during the update.

    Args:
        groups: The API groups of the cluster, from ``/apis``.
        node_class_groups: The API groups of the node classes.

    Raises:
        ArchshiftError: The cluster has no NodePools, or no node classes of that API group.
    """
    served = {group["name"]: [entry["version"] for entry in group["versions"]] for group in groups}
    group, _, version = API_VERSION.partition("/")
    if version not in served.get(group, ()):
        raise ArchshiftError(
            f"archshift:provisioner: the cluster serves no NodePools ({API_VERSION})",
            "install Karpenter 1.0 or later or turn EKS Auto Mode on, or set it to managed",
        )
    for missing in (name for name in node_class_groups if name not in served):
        known = [name for name, (its_group, _) in NODE_CLASSES.items() if its_group in served]
        raise ArchshiftError(
            f"archshift:provisioner: the cluster serves no node classes of {missing}; "
            + (f"it is one of {', '.join(known)}" if known else "install what brings up its nodes")
        )


CONSOLIDATIONS: Final[Mapping[Consolidation, str]] = {
    "when-empty": "WhenEmpty",
    "when-empty-or-underutilized": "WhenEmptyOrUnderutilized",
}
"""The word of the settings to that of the API."""

_BOUNDS: Final[Mapping[str, str]] = {"Gte": "Gt", "Lte": "Lt"}
"""Operators that bound a number on the same side."""

_DEFAULT_EXPIRE_AFTER: Final = ("720h", "336h")
"""What the API of Karpenter, and that of Auto Mode, writes into a NodePool that does not say it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LivePool:
    """A NodePool of the cluster.

    Attributes:
        name: Its name.
        spec: Its spec.
        labels: Its own labels, not those of its nodes.
        annotations: Its own annotations, not those of its nodes.
        managed_fields: Who owns its fields, as server-side apply records it.
    """

    name: str
    spec: Mapping[str, Any]
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    managed_fields: Sequence[Mapping[str, Any]] = ()

    @classmethod
    def of(cls, item: Mapping[str, Any]) -> "LivePool":
        """Return the NodePool of an object of the API."""
        meta = item["metadata"]
        return cls(
            name=str(meta["name"]),
            spec=item["spec"],
            labels=meta.get("labels") or {},
            annotations=meta.get("annotations") or {},
            managed_fields=tuple(
                entry for entry in meta.get("managedFields") or () if not entry.get("subresource")
            ),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolChanges:
    """What settings say about a NodePool; None and an empty map for what they leave as it is.

    Attributes:
        requirements: The requirements that replace those on the same labels with the same operator.
        limits: Resource to its limit, added to the other limits; an empty map removes all limits.
        labels: Labels of the nodes, in addition to the others.
        annotations: Annotations of the nodes, in addition to the others.
        taints: All taints of the nodes.
        startup_taints: All startup taints of the nodes.
        node_class: The name of the node class.

    The others are those of ``NodePool``.
    """

    requirements: tuple[Requirement, ...] = ()
    limits: Mapping[str, str] | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] | None = None
    startup_taints: tuple[Taint, ...] | None = None
    node_class: str | None = None
    weight: int | None = None
    consolidate_after: str | None = None
    consolidation: Consolidation | None = None
    budget: str | None = None
    expire_after: str | None = None
    termination_grace_period: str | None = None


def changed(spec: Mapping[str, Any], changes: PoolChanges) -> dict[str, Any]:
    """Return a NodePool's spec with changes; nothing else of it changes."""
    result: dict[str, Any] = deepcopy(dict(spec))
    template = result.setdefault("template", {})
    inner = template.setdefault("spec", {})
    for name, values in (("labels", changes.labels), ("annotations", changes.annotations)):
        if values:
            meta = template.setdefault("metadata", {})
            meta[name] = {**(meta.get(name) or {}), **values}
    if changes.node_class is not None:
        inner["nodeClassRef"]["name"] = changes.node_class
    if changes.requirements:
        said = {(one.key, _BOUNDS.get(one.operator, one.operator)) for one in changes.requirements}
        kept = [
            entry
            for entry in inner.get("requirements") or ()
            if (entry["key"], _BOUNDS.get(entry["operator"], entry["operator"])) not in said
        ]
        inner["requirements"] = [*kept, *(one.entry() for one in changes.requirements)]
    for name, taints in (("taints", changes.taints), ("startupTaints", changes.startup_taints)):
        if taints:
            inner[name] = [_taint(taint) for taint in taints]
        elif taints is not None and name in inner:
            # Without the field, server-side apply would leave the taints of another owner.
            inner[name] = []
    for name, value in (
        ("expireAfter", changes.expire_after),
        ("terminationGracePeriod", changes.termination_grace_period),
    ):
        if value is not None:
            inner[name] = value
    if changes.limits:
        before = result.get("limits") or {}
        # 1k and 1000 are equal, and the text of another owner stays.
        other = {
            name: value
            for name, value in changes.limits.items()
            if name not in before or parse_quantity(str(before[name])) != parse_quantity(value)
        }
        result["limits"] = {**before, **other}
    elif changes.limits is not None:
        result.pop("limits", None)
    disruption: dict[str, Any] = {}
    if changes.consolidate_after is not None:
        disruption["consolidateAfter"] = changes.consolidate_after
    if changes.consolidation is not None:
        disruption["consolidationPolicy"] = CONSOLIDATIONS[changes.consolidation]
    if changes.budget is not None:
        disruption["budgets"] = [{"nodes": changes.budget}]
    if disruption:
        result["disruption"] = {**(result.get("disruption") or {}), **disruption}
    if changes.weight is not None:
        result["weight"] = changes.weight
    return result


def _taint(taint: Taint) -> dict[str, str]:
    return {"key": taint.key, "effect": taint.effect} | ({"value": taint.value} if taint.value else {})


def limits_of(millicpu: int | None, memory: int | None, nodes: int | None) -> dict[str, str]:
    """Return limits as a NodePool's spec has them; None for no limit."""
    limits = {}
    if millicpu is not None:
        limits["cpu"] = f"{millicpu}m" if millicpu % 1000 else str(millicpu // 1000)
    if memory is not None:
        limits["memory"] = f"{memory // MIB}Mi"
    if nodes is not None:
        limits["nodes"] = str(nodes)
    return limits


def manifest(pool: NodePool) -> dict[str, Any]:
    """Return a pool's spec for the API."""
    if pool.spec is not None:
        return deepcopy(dict(pool.spec))
    listed = {
        ARCH_LABEL: (pool.architecture,),
        OS_LABEL: ("linux",),
        CAPACITY_TYPE_LABEL: pool.capacity_types,
        INSTANCE_TYPE_LABEL: () if pool.requirements else tuple(kind.name for kind in pool.instance_types),
        ZONE_LABEL: pool.zones,
    }
    # The soft taint has a disadvantage here: docs/adr/0008.
    taints = (*pool.taints, *((side_taint(pool.architecture),) if pool.side_taint else ()))
    reference = pool.node_class
    return changed(
        {
            "template": {
                "spec": {
                    "nodeClassRef": {"group": reference.group, "kind": reference.kind, "name": reference.name}
                }
            },
        },
        PoolChanges(
            requirements=(
                *(Requirement(key, "In", values) for key, values in listed.items() if values),
                *pool.requirements,
            ),
            limits=limits_of(pool.millicpu, pool.memory, pool.most_nodes),
            labels=pool.node_labels,
            annotations=pool.annotations,
            taints=taints,
            startup_taints=pool.startup_taints,
            weight=pool.weight,
            consolidate_after=pool.consolidate_after,
            # The API's own default is left out, so that pools of former versions do not change.
            consolidation=None if pool.consolidation == "when-empty-or-underutilized" else pool.consolidation,
            budget=pool.budget,
            expire_after=pool.expire_after or None,
            termination_grace_period=pool.termination_grace_period or None,
        ),
    )


def requirements_of(spec: Mapping[str, Any]) -> list[Requirement]:
    """Return the requirements of a NodePool's spec. A label of its template is a requirement too."""
    template = spec.get("template") or {}
    labels = (template.get("metadata") or {}).get("labels") or {}
    return [
        *(Requirement.of(entry) for entry in (template.get("spec") or {}).get("requirements") or ()),
        *(Requirement(ARCH_LABEL, "In", (labels[label],)) for label in ARCH_LABELS if label in labels),
    ]


def requirement(spec: Mapping[str, Any], label: str) -> tuple[str, ...]:
    """Return the values that a NodePool's spec requires of a label; empty if it requires none."""
    return next(
        (one.values for one in requirements_of(spec) if (one.key, one.operator) == (label, "In")),
        (),
    )


def pool_architectures(spec: Mapping[str, Any]) -> frozenset[Architecture]:
    """Return the architectures of the nodes that a NodePool may create; empty if no known type fits."""
    group = spec["template"]["spec"]["nodeClassRef"]["group"]
    return frozenset(kind.architecture for kind in matching_types(requirements_of(spec), group))


def from_manifest(
    name: str, spec: Mapping[str, Any], architecture: Architecture | None = None, **more: Any
) -> NodePool | None:
    """Return the pool of a NodePool's spec, whoever wrote it; None if no known Linux type fits it.

    Args:
        name: The name of the group.
        spec: The spec.
        architecture: Count only the nodes of this architecture; None: of the first that fits.
        more: Other attributes of the pool.
    """
    inner = spec["template"]["spec"]
    reference = NodeClass(**{key: inner["nodeClassRef"][key] for key in ("group", "kind", "name")})
    wanted = requirements_of(spec)
    types = matching_types(wanted, reference.group, architecture)
    types = tuple(kind for kind in types if kind.architecture == types[0].architecture)
    if not types or not all(one.permits("linux") for one in wanted if one.key in OS_LABELS):
        return None
    limits = spec.get("limits") or {}
    cpu, memory, nodes = (
        parse_quantity(str(limits[key])) if key in limits else None for key in ("cpu", "memory", "nodes")
    )
    settled = {*ARCH_LABELS, *OS_LABELS, *ZONE_LABELS, *REGION_LABELS, CAPACITY_TYPE_LABEL}
    disruption = spec.get("disruption") or {}
    return NodePool(
        name=name,
        instance_types=types,
        requirements=tuple(one for one in wanted if describes_machines(one.key, reference.group)),
        node_class=reference,
        millicpu=None if cpu is None else int(cpu * 1000),
        memory=None if memory is None else int(memory),
        most_nodes=None if nodes is None else int(nodes),
        zones=requirement(spec, ZONE_LABEL),
        capacity_types=requirement(spec, CAPACITY_TYPE_LABEL),
        label_choices={
            one.key: one.values
            for one in wanted
            if one.operator == "In"
            and one.key not in settled
            and not describes_machines(one.key, reference.group)
        },
        labels=(spec["template"].get("metadata") or {}).get("labels") or {},
        taints=_taints(inner.get("taints")),
        startup_taints=_taints(inner.get("startupTaints")),
        weight=spec.get("weight"),
        consolidate_after=str(disruption.get("consolidateAfter", "0s")),
        side_taint=any(taint == side_taint(types[0].architecture) for taint in _taints(inner.get("taints"))),
        spec=spec,
        **more,
    )


def template_changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Return the fields of a NodePool's template whose change makes Karpenter replace all of its nodes.

    These are all fields but the requirements. Karpenter hashes the template, and a node whose hash
    differs has drifted: https://karpenter.sh/docs/concepts/disruption/#drift

    Args:
        old: The spec before the change.
        new: The spec after it.

    Returns:
        Words such as ``labels`` and ``expireAfter``.
    """
    before, after = _hashed(old), _hashed(new)
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def _hashed(spec: Mapping[str, Any]) -> dict[str, Any]:
    template = spec["template"]
    meta, inner = template.get("metadata") or {}, template["spec"]
    fields = {**meta, **inner}
    if fields.get("expireAfter") in _DEFAULT_EXPIRE_AFTER:
        del fields["expireAfter"]
    # The order of taints and empty values do not count in the hash.
    for name in ("taints", "startupTaints"):
        fields[name] = sorted(
            (taint["key"], taint.get("value") or "", taint["effect"]) for taint in fields.get(name) or ()
        )
    return {name: value for name, value in fields.items() if value and name != "requirements"}


def _taints(entries: Iterable[Mapping[str, Any]] | None) -> tuple[Taint, ...]:
    return tuple(
        Taint(key=entry["key"], value=entry.get("value") or "", effect=entry["effect"])
        for entry in entries or ()
    )


def twin_spec(
    spec: Mapping[str, Any],
    name: str,
    families: tuple[str, ...] | None,
    existing: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the spec of a Graviton pool that follows an x86 pool: all of it, for the other architecture.

    Args:
        spec: The spec of the x86 pool.
        name: The name of the Graviton group.
        families: The Graviton families to choose from; None for all.
        existing: The spec of the Graviton pool in the cluster. A change of a field of its template other than
            requirements would replace all of its nodes, so it keeps these fields.

    Raises:
        ArchshiftError: No Graviton type meets the requirements.
    """
    result: dict[str, Any] = deepcopy(dict(spec))
    template = result["template"]
    if existing is not None:
        template = result["template"] = deepcopy(dict(existing["template"]))
    inner = template["spec"]
    group = spec["template"]["spec"]["nodeClassRef"]["group"]
    wanted = [one for one in requirements_of(spec) if one.key not in ARCH_LABELS]
    amd64 = for_architecture(wanted, AMD64)
    inner["requirements"] = [one.entry() for one in twin_requirements(amd64, group, families)]
    if existing is not None:
        return result
    meta = template.setdefault("metadata", {})
    others = {key: value for key, value in (meta.get("labels") or {}).items() if key not in ARCH_LABELS}
    meta["labels"] = {**others, ARCHITECTURE_LABEL: ARM64, GROUP_LABEL: name}
    ours = side_taint(AMD64)
    taints = [side_taint(ARM64) if taint == ours else taint for taint in _taints(inner.get("taints"))]
    return changed(result, PoolChanges(taints=tuple(taints)))
