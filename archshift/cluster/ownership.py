"""The owners of a live object's fields, as server-side apply records them (``managedFields``).

The format: https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management.
A set of fields is a tree of dicts. A key is ``f:name`` (a field), ``k:{json}`` (the list item with these key
values), ``v:json`` (the set member with this value) or ``.`` (the item itself).
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

Path: TypeAlias = tuple[str, ...]
"""The keys of a set of fields from its root, for example ``("f:spec", "f:replicas")``."""

_MISSING: Final = object()


@dataclass(frozen=True, slots=True, order=True)
class FieldOwner:
    """A field manager in ``managedFields``.

    Attributes:
        manager: The field manager's name.
        operation: ``Apply`` or ``Update``. For the API server the same name with each is a separate manager.
    """

    manager: str
    operation: str

    def __str__(self) -> str:
        return self.manager


OURS: Final = "archshift/"
"""The first part of every stack's name in ``managedFields``, and of archshift's labels."""

PATCHES_SUFFIX: Final = "/patches"
"""The end of the field manager of a stack's patches, after the stack's name: ``archshift/prod/patches``."""


def path_of(*keys: str) -> Path:
    """Return the path of the field with these keys: names, and keys of list items (``k:{json}``)."""
    return tuple(key if key.startswith("k:") else f"f:{key}" for key in keys)


def former_manager(field_manager: str) -> str:
    """Return the name under which archshift 0.1.0 patched for the same stack: ``archshift/prod``.

    Its resources give up all fields of that name when the engine deletes them. By then, the fields need
    another owner.
    """
    return field_manager.removesuffix(PATCHES_SUFFIX)


def names_of_stack(field_manager: str) -> tuple[str, str]:
    """Return the names of a stack in ``managedFields``: the present one and the former one."""
    return field_manager, former_manager(field_manager)


def managed_fields(meta: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the ``managedFields`` of an object's metadata without those of subresources, such as status."""
    return [entry for entry in meta.get("managedFields") or () if not entry.get("subresource")]


def owners(managed_fields: Iterable[Mapping[str, Any]], path: Path) -> frozenset[FieldOwner]:
    """Return the owners of the field at ``path`` or of anything inside it."""
    return frozenset(owner for owner, _ in subtrees(managed_fields, path))


def owners_of_whole(managed_fields: Iterable[Mapping[str, Any]], path: Path) -> frozenset[FieldOwner]:
    """Return the owners of the field at ``path`` itself, and not only of something inside it.

    Whoever applied a field as null or empty owns it in this way, although the live object lacks it. The API
    server then refuses to set it, or anything inside it.
    """
    return frozenset(owner for owner, tree in subtrees(managed_fields, path) if not tree or "." in tree)


def subtrees(
    managed_fields: Iterable[Mapping[str, Any]], path: Path
) -> Iterator[tuple[FieldOwner, Mapping[str, Any]]]:
    """Yield each owner of the field at ``path`` or of anything inside it, with its set of fields there."""
    for entry in managed_fields:
        node: Any = entry.get("fieldsV1") or {}
        for key in path:
            node = node.get(key) if isinstance(node, Mapping) else None
            if node is None:
                break
        else:
            yield FieldOwner(entry.get("manager", ""), entry.get("operation", "")), node


def owned_part(obj: Any, fields: Mapping[str, Any]) -> Any:
    """Return the part of ``obj`` that a set of fields covers: what its manager applied last.

    Args:
        obj: The live object, or a value inside it.
        fields: The manager's ``fieldsV1``, or its subtree for the value.

    Returns:
        A copy of the covered part. Lists have only the covered items, with their keys.
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
            # The live item also has the defaults of key fields (protocol: TCP).
            if all(item.get(name) == value for name, value in wanted.items()):
                # The keys themselves always belong to the item.
                return {**subtree, **{f"f:{name}": {} for name in wanted}}
        elif key.startswith("v:") and json.loads(key[2:]) == item:
            return {}
    return _MISSING
