"""NodePools as objects of the API: Karpenter and EKS Auto Mode create nodes from them."""

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal, TypeAlias

from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import (
    ARCH_LABEL,
    CAPACITY_TYPE_LABEL,
    INSTANCE_TYPE_LABEL,
    OS_LABEL,
    ZONE_LABEL,
)
from archshift.common.quantity import parse_quantity
from archshift.common.resources import MIB
from archshift.nodes.groups import NodeClass, NodePool, Taint, side_taint
from archshift.nodes.instance_types import INSTANCE_TYPES

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


def check_served(groups: Iterable[Mapping[str, Any]], node_class_group: str) -> None:
    """Check that a cluster has the APIs for NodePools. The engine would report this only during the update.

    Args:
        groups: The API groups of the cluster, from ``/apis``.
        node_class_group: The API group of the node classes.

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
    if node_class_group not in served:
        known = [name for name, (its_group, _) in NODE_CLASSES.items() if its_group in served]
        raise ArchshiftError(
            f"archshift:provisioner: the cluster serves no node classes of {node_class_group}; "
            + (f"it is one of {', '.join(known)}" if known else "install what brings up its nodes")
        )


def manifest(pool: NodePool) -> dict[str, Any]:
    """Return a pool's spec for the API."""
    requirements = {
        ARCH_LABEL: (pool.architecture,),
        OS_LABEL: ("linux",),
        CAPACITY_TYPE_LABEL: pool.capacity_types,
        INSTANCE_TYPE_LABEL: tuple(kind.name for kind in pool.instance_types),
        ZONE_LABEL: pool.zones,
    }
    template: dict[str, Any] = {
        "nodeClassRef": {
            "group": pool.node_class.group,
            "kind": pool.node_class.kind,
            "name": pool.node_class.name,
        },
        "requirements": [
            {"key": key, "operator": "In", "values": list(values)}
            for key, values in requirements.items()
            if values
        ],
    }
    # The soft taint has a disadvantage here: docs/adr/0008.
    taints = (*pool.taints, *((side_taint(pool.architecture),) if pool.side_taint else ()))
    if taints:
        template["taints"] = [
            {"key": taint.key, "effect": taint.effect} | ({"value": taint.value} if taint.value else {})
            for taint in taints
        ]
    limits = {"cpu": f"{pool.millicpu}m" if pool.millicpu % 1000 else str(pool.millicpu // 1000)}
    if pool.memory is not None:
        limits["memory"] = f"{pool.memory // MIB}Mi"
    spec: dict[str, Any] = {
        "template": {"metadata": {"labels": dict(pool.node_labels)}, "spec": template},
        "limits": limits,
        "disruption": {"consolidateAfter": pool.consolidate_after, "budgets": [{"nodes": pool.budget}]},
    }
    if pool.weight is not None:
        spec["weight"] = pool.weight
    return spec


def requirement(spec: Mapping[str, Any], label: str) -> tuple[str, ...]:
    """Return the values that a NodePool's spec requires of a label; empty if it requires none."""
    wanted = spec["template"]["spec"].get("requirements") or ()
    return next(
        (
            tuple(entry.get("values") or ())
            for entry in wanted
            if (entry["key"], entry["operator"]) == (label, "In")
        ),
        (),
    )


def from_manifest(name: str, spec: Mapping[str, Any]) -> NodePool | None:
    """Return the pool of a spec that ``manifest`` made; None if something else made the spec.

    Args:
        name: The NodePool's name.
        spec: Its spec.
    """
    types = tuple(
        INSTANCE_TYPES[type_name]
        for type_name in requirement(spec, INSTANCE_TYPE_LABEL)
        if type_name in INSTANCE_TYPES
    )
    limits = spec.get("limits") or {}
    if not types or "cpu" not in limits:
        return None
    inner = spec["template"]["spec"]
    memory = parse_quantity(str(limits["memory"])) if "memory" in limits else None
    return NodePool(
        name=name,
        instance_types=types,
        node_class=NodeClass(**{key: inner["nodeClassRef"][key] for key in ("group", "kind", "name")}),
        millicpu=int(parse_quantity(str(limits["cpu"])) * 1000),
        memory=None if memory is None else int(memory),
        zones=requirement(spec, ZONE_LABEL),
        capacity_types=requirement(spec, CAPACITY_TYPE_LABEL),
        labels=(spec["template"].get("metadata") or {}).get("labels") or {},
        taints=tuple(
            Taint(key=taint["key"], value=taint.get("value", ""), effect=taint["effect"])
            for taint in inner.get("taints") or ()
        ),
    )
