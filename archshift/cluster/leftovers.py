"""What a workload lacks or has too much after archshift gave up its fields. Pure.

A server-side apply that gives fields up removes only what nobody else owns. So it leaves what a copy of
archshift's fields made another client's. It also removes a parent that an application set to an empty value.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from archshift.cluster import pod_fields
from archshift.cluster.inventory import read_workload
from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.ownership import FieldOwner, Path, former_manager, owners

_EMPTIED: Final = (("affinity",), ("affinity", "nodeAffinity"))
"""The parents of fields that an application may have set to an empty value, outermost first."""

_ANNOTATIONS: Final = "annotations"


@dataclass(frozen=True, slots=True)
class Restoration:
    """A merge patch that makes a workload what it was without archshift.

    Attributes:
        manager: The field manager for it: an owner of what it restores.
        body: The patch.
    """

    manager: str
    body: Mapping[str, Any]


def restoration(
    kind: str, before: Mapping[str, Any], after: Mapping[str, Any], field_manager: str
) -> Restoration | None:
    """Return the patch that restores a workload after archshift gave up its fields; None if none is needed.

    Args:
        kind: One of ``CONTROLLERS``.
        before: The workload before that.
        after: The workload after that.
        field_manager: The stack's name in ``managedFields``.
    """
    record = CONTROLLERS[kind]
    template = read_workload(kind, before, field_manager).template
    live = record.template(after)["spec"]
    # A field that was taken by force has its owner's value again.
    copies = {name: rest for name, rest in template.reclaimed.items() if name not in template.taken_fields}
    spec = _without(live, copies)
    managers = []
    for parent in _EMPTIED:
        owner = _applications_owner(kind, before, parent, field_manager)
        if owner and _at(_merged(live, spec), parent) is None:
            _put(spec, parent, {})
            managers.append(owner.manager)
    pod_template: dict[str, Any] = {"spec": spec} if spec else {}
    annotations = (record.template(after).get("metadata") or {}).get(_ANNOTATIONS) or {}
    if pod_fields.REVISION_ANNOTATION in annotations:
        rest = None if len(annotations) == 1 else {pod_fields.REVISION_ANNOTATION: None}
        pod_template["metadata"] = {_ANNOTATIONS: rest}
    body: dict[str, Any] = {}
    if pod_template:
        body = pod_template
        for name in reversed(record.template_path):
            body = {name: body}
    if pod_fields.INEXACT_ANNOTATION in (after["metadata"].get(_ANNOTATIONS) or {}):
        body["metadata"] = {_ANNOTATIONS: {pod_fields.INEXACT_ANNOTATION: None}}
    if not body:
        return None
    body.setdefault("metadata", {})["uid"] = after["metadata"]["uid"]
    return Restoration(managers[0] if managers else field_manager, body)


def _without(live: Mapping[str, Any], reclaimed: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a merge patch that leaves only the application's part of these fields."""
    values = {**pod_fields.read_fields(live)}
    left = {name: rest for name, rest in reclaimed.items() if name in values}
    spec: dict[str, Any] = {}
    for name, rest in left.items():
        path = pod_fields.FIELDS[name]
        if name in pod_fields.SPREADS:
            _put(spec, path[:-1], _other_constraints(live, left))
        elif name == "node-selector" and rest:
            # A merge patch keeps the labels that it does not name.
            _put(spec, path, {label: None for label in values[name] if label not in rest})
        else:
            _put(spec, path, rest)
    node_affinity = (live.get("affinity") or {}).get("nodeAffinity") or {}
    changed = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    if changed and not any({**node_affinity, **changed}.values()):
        others = {**live["affinity"], "nodeAffinity": None}
        spec["affinity"] = {"nodeAffinity": None} if any(others.values()) else None
    return spec


def _other_constraints(live: Mapping[str, Any], left: Mapping[str, Any]) -> list[Any] | None:
    ours = [value for name, value in pod_fields.read_fields(live).items() if name in left]
    return [item for item in live["topologySpreadConstraints"] if item not in ours] or None


def _applications_owner(
    kind: str, live: Mapping[str, Any], parent: tuple[str, ...], field_manager: str
) -> FieldOwner | None:
    """Return who set a parent or a field in it, apart from archshift and clients that copied its template.

    The owner of a value there would have kept the parent. So this owner set it, or a field in it, to an empty
    value or null.
    """
    managed = [entry for entry in live["metadata"].get("managedFields") or () if not entry.get("subresource")]
    template: Path = tuple(f"f:{key}" for key in CONTROLLERS[kind].template_path)
    path = (*template, "f:spec", *(f"f:{key}" for key in parent))
    copiers = owners(managed, (*template, *pod_fields.REVISION_PATH))
    ours = (field_manager, former_manager(field_manager))
    return min(
        (owner for owner in owners(managed, path) - copiers if owner.manager not in ours), default=None
    )


def _merged(value: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Return a value after a merge patch."""
    merged = dict(value)
    for key, change in patch.items():
        if isinstance(change, Mapping):
            merged[key] = _merged(merged.get(key) or {}, change)
        else:
            merged[key] = change
    return merged


def _at(spec: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    value: Any = spec
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _put(spec: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        spec[key] = spec.get(key) or {}
        spec = spec[key]
    spec[path[-1]] = value
