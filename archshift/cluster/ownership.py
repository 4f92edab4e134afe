"""Who owns which field of a live object, as server-side apply records it (``managedFields``).

Format: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management.
A set of fields is a tree of dicts; a key is ``f:name`` (a field), ``k:{json}`` (the list item
with these key values), ``v:json`` (the set member with this value) or ``.`` (the item itself).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Path: TypeAlias = tuple[str, ...]
"""Keys of a field set from the root, for example ``("f:spec", "f:replicas")``."""

_MISSING: Final = object()


@dataclass(frozen=True, slots=True, order=True)
class FieldOwner:
    """A field manager as it appears in ``managedFields``.

    Attributes:
        manager: The field manager's name.
        operation: ``Apply`` or ``Update``: the same name counts twice to the API server.
    """

    manager: str
    operation: str

    def __str__(self) -> str:
        return self.manager


def owners(managed_fields: Iterable[Mapping[str, Any]], path: Path) -> frozenset[FieldOwner]:
    """Return who owns the field at ``path`` or anything inside it."""
    field_owners = set()
    for entry in managed_fields:
        node: Any = entry.get("fieldsV1") or {}
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
            if node is None:
                break
        else:
            field_owners.add(FieldOwner(entry.get("manager", ""), entry.get("operation", "")))
    return frozenset(field_owners)


def owned_part(obj: Any, fields: Mapping[str, Any]) -> Any:
    """Return the part of ``obj`` that a field set covers: what its manager last applied.

    Args:
        obj: The live object, or a value inside it.
        fields: That manager's ``fieldsV1``, or the subtree for the value.

    Returns:
        A copy of the covered part; lists hold only the covered items, with their keys.
    """
    keys = [key for key in fields if key != "."]
    if not keys:
        return obj
    if isinstance(obj, Mapping):
        part: dict[str, Any] = {}
        for key in keys:
            name = key.removeprefix("f:")
            if key.startswith("f:") and name in obj:
                part[name] = owned_part(obj[name], fields[key])
        return part
    if isinstance(obj, list):
        items = []
        for item in obj:
            subtree = _covering(item, fields)
            if subtree is not _MISSING:
                items.append(owned_part(item, subtree))
        return items
    return obj


def _covering(item: Any, fields: Mapping[str, Any]) -> Any:
    """Return the subtree of ``fields`` that stands for a list item, or ``_MISSING``."""
    for key, subtree in fields.items():
        if key.startswith("k:") and isinstance(item, Mapping):
            wanted = json.loads(key[2:])
            # The defaults of a key field (protocol: TCP) are in the live item as well.
            if all(item.get(name) == value for name, value in wanted.items()):
                # The keys themselves always belong to the item.
                return {**subtree, **{f"f:{name}": {} for name in wanted}}
        elif key.startswith("v:") and json.loads(key[2:]) == item:
            return {}
    return _MISSING
