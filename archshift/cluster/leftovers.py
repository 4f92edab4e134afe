"""What a workload lacks or has too much after archshift gave up its fields. Pure.

A server-side apply that gives fields up removes only what nobody else owns. So it leaves fields that another
client owns because it copied archshift's template. It also removes a parent that an application set to an
empty value.
"""

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any, Final

from archshift.cluster import pod_fields
from archshift.cluster.inventory import read_workload
from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.ownership import FieldOwner, managed_fields, names_of_stack, owners, path_of, subtrees

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


def without_copies(kind: str, live: Mapping[str, Any], field_manager: str) -> Restoration | None:
    """Return the patch that removes what copies of archshift's template left; None if there is nothing.

    It comes before archshift gives up its fields. A copy may own a part of a constraint, and the API server
    refuses a constraint that loses the other part.

    Args:
        kind: One of ``CONTROLLERS``.
        live: The workload.
        field_manager: The stack's name in ``managedFields``.
    """
    record = CONTROLLERS[kind]
    template = read_workload(kind, live, field_manager).template
    # A field that was taken by force has its owner's value again.
    copies = {name: rest for name, rest in template.reclaimed.items() if name not in template.taken_fields}
    spec = _without(record.template(live)["spec"], copies)
    pod_template: dict[str, Any] = {"spec": spec} if spec else {}
    copiers = _copiers(kind, live) - _named(field_manager)
    if copiers:
        annotations = (record.template(live).get("metadata") or {}).get(_ANNOTATIONS) or {}
        rest = None if len(annotations) == 1 else {pod_fields.REVISION_ANNOTATION: None}
        pod_template["metadata"] = {_ANNOTATIONS: rest}
    if not pod_template:
        return None
    manager = min(copiers).manager if copiers else field_manager
    return Restoration(manager, _body(kind, live, pod_template))


def restoration(
    kind: str, before: Mapping[str, Any], after: Mapping[str, Any], field_manager: str
) -> Restoration | None:
    """Return the patch that restores a workload after archshift gave up its fields; None if none is needed.

    Args:
        kind: One of ``CONTROLLERS``.
        before: The workload with archshift's fields.
        after: The workload without them.
        field_manager: The stack's name in ``managedFields``.
    """
    live = CONTROLLERS[kind].template(after)["spec"]
    template = read_workload(kind, before, field_manager).template
    copies = {pod_fields.FIELDS[name] for name in template.reclaimed}
    was_null = pod_fields.NULL_MARK in template.revision
    spec: dict[str, Any] = {}
    managers = []
    for parent in () if was_null else _EMPTIED:
        owner = _applications_owner(kind, before, parent, field_manager, copies)
        if owner and _at({**live, **spec}, parent) is None:
            _put(spec, parent, {})
            managers.append(owner.manager)
    body = _body(kind, after, {"spec": spec}) if spec else {}
    if pod_fields.INEXACT_ANNOTATION in (after["metadata"].get(_ANNOTATIONS) or {}):
        body.setdefault("metadata", {"uid": after["metadata"]["uid"]})
        body["metadata"][_ANNOTATIONS] = {pod_fields.INEXACT_ANNOTATION: None}
    return Restoration(managers[0] if managers else field_manager, body) if body else None


def _body(kind: str, live: Mapping[str, Any], pod_template: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = dict(pod_template)
    for name in reversed(CONTROLLERS[kind].template_path):
        body = {name: body}
    # Never another object of this name.
    return {**body, "metadata": {"uid": live["metadata"]["uid"]}}


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
    kind: str,
    live: Mapping[str, Any],
    parent: tuple[str, ...],
    field_manager: str,
    copies: Container[tuple[str, ...]],
) -> FieldOwner | None:
    """Return who set a parent or a field in it, apart from archshift and clients that copied its template.

    The owner of a value there would have kept the parent. So this owner set it, or a field in it, to an empty
    value or null.

    Args:
        copies: The paths of fields that others own only as copies.
    """
    path = path_of(*CONTROLLERS[kind].template_path, "spec", *parent)
    managed = managed_fields(live["metadata"])
    theirs = {owner for owner, tree in subtrees(managed, path) if _has_more(tree, parent, copies)}
    return min(theirs - _copiers(kind, live) - _named(field_manager), default=None)


def _has_more(tree: Mapping[str, Any], path: tuple[str, ...], copies: Container[tuple[str, ...]]) -> bool:
    """Return whether a set of fields has a field that is no copy."""
    if not tree:
        return path not in copies
    return any(
        key == "." or _has_more(inner, (*path, key.removeprefix("f:")), copies) for key, inner in tree.items()
    )


def _copiers(kind: str, live: Mapping[str, Any]) -> frozenset[FieldOwner]:
    """Return the owners of archshift's revision."""
    path = path_of(*CONTROLLERS[kind].template_path, *pod_fields.REVISION_PATH)
    return owners(managed_fields(live["metadata"]), path)


def _named(field_manager: str) -> frozenset[FieldOwner]:
    """Return the owners that are this stack."""
    return frozenset(
        FieldOwner(name, operation)
        for name in names_of_stack(field_manager)
        for operation in ("Apply", "Update")
    )


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
