"""What an update does to existing NodePools: which nodes it replaces, and whose fields it changes. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from archshift.cluster.ownership import Path, owners
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import OURS, POOL_LABEL
from archshift.common.text import counted
from archshift.nodes.groups import Node, NodePool
from archshift.nodes.node_pools import LivePool, manifest, template_changes
from archshift.nodes.requirements import Requirement

_DISRUPTION: Final = ("budgets", "consolidateAfter", "consolidationPolicy")

_IN_TEMPLATE: Final = ("annotations", "labels")

FORMER: Final = f"{OURS}former"
"""The annotation of a NodePool that the stack has taken over: its fields' values before the settings."""

_BLOCKS: Final = (
    (),
    ("limits",),
    ("disruption",),
    ("template", "metadata", "annotations"),
    ("template", "metadata", "labels"),
    ("template", "spec"),
)
"""The paths of the maps in a spec whose values settings change."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replaced:
    """The nodes that Karpenter replaces because their NodePool changes.

    Attributes:
        nodes: Their names.
        of: The number of the NodePool's nodes.
        because: Why, as the end of a sentence.
    """

    nodes: tuple[str, ...]
    of: int
    because: str = ""


def replaced(pool: NodePool, live: LivePool, nodes: Iterable[Node]) -> Replaced:
    """Return the nodes that a change of a NodePool replaces.

    Karpenter compares a hash of the template, which has all fields but the requirements. If it differs, all
    nodes have drifted. Of the requirements it compares each with the labels of each node (Karpenter 1.14,
    pkg/controllers/nodeclaim/disruption/drift.go). Limits, weight and disruption replace no node.

    Args:
        pool: The pool after the update.
        live: Its NodePool now.
        nodes: The live nodes.
    """
    own = [node for node in nodes if node.labels.get(POOL_LABEL) == live.name]
    spec = manifest(pool)
    if fields := template_changes(live.spec, spec):
        because = f"its template has other {' and '.join(fields)}"
        return Replaced(nodes=tuple(node.name for node in own), of=len(own), because=because)
    before, after = _required(live.spec), _required(spec)
    unmet: dict[str, None] = {}
    names = []
    for node in own:
        if not all(_met(one, node) for one in before):
            continue  # it has drifted already
        lost = [one for one in after if not _met(one, node)]
        if lost:
            names.append(node.name)
            unmet |= {f"{one.key} {one.operator} {' '.join(one.values)}".strip(): None for one in lost}
    return Replaced(nodes=tuple(names), of=len(own), because=f"they do not meet {' and '.join(unmet)}")


def _required(spec: Any) -> list[Requirement]:
    return [Requirement.of(entry) for entry in spec["template"]["spec"].get("requirements") or ()]


def _met(requirement: Requirement, node: Node) -> bool:
    return requirement.permits(node.labels.get(requirement.key))


def sentence(pool: NodePool, live: LivePool, nodes: Sequence[Node], manager: str) -> tuple[str, bool]:
    """Say what an update does to an existing NodePool; empty if there is nothing to say.

    Args:
        pool: The pool after the update.
        live: Its NodePool now.
        nodes: The live nodes.
        manager: The field manager of the stack's NodePools.

    Returns:
        The sentence, and whether it is a warning.
    """
    change = replaced(pool, live, nodes)
    if change.nodes:
        budgets = (manifest(pool).get("disruption") or {}).get("budgets") or [{"nodes": "10%"}]
        always = [
            str(budget.get("nodes", "10%"))
            for budget in budgets
            if not budget.get("schedule") and "Drifted" in budget.get("reasons", ("Drifted",))
        ]
        at_once = f" ({' and '.join(always)} at once)" if always else ""
        return (
            f"{pool.name}: Karpenter replaces {len(change.nodes)} of {counted(change.of, 'node')} of the "
            f"NodePool {live.name}{at_once}, because {change.because}",
            True,
        )
    if pool.released:
        return (
            f"{pool.name}: after this update you can remove the group from archshift:node_groups; the "
            f"NodePool {live.name} and its {counted(change.of, 'node')} stay",
            False,
        )
    if pool.import_name and not any(entry.get("manager") == manager for entry in live.managed_fields):
        return (
            f"{pool.name}: archshift takes over the NodePool {live.name} and replaces none of its "
            f"{counted(change.of, 'node')}",
            False,
        )
    return "", False


def own_spec(live: LivePool, manager: str) -> dict[str, Any]:
    """Return the spec that a NodePool would have without the stack's settings.

    What the owner has changed since then counts, and not the value of before.

    Args:
        live: The NodePool now.
        manager: The field manager of the stack's NodePools.
    """
    spec: dict[str, Any] = deepcopy(dict(live.spec))
    for path, former in _marks(live.annotations.get(FORMER, "")):
        *block, name = path
        part = spec
        for key in block:
            part = part.setdefault(key, {})
        names = {owner.manager for owner in owners(live.managed_fields, _in_managed_fields(path))}
        if name in part and manager not in names:
            continue
        part.pop(name, None)
        for value in former:
            part[name] = value
    return _without_empty(spec)


def former_values(own: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Return the annotation that tells ``own_spec`` what the settings change; empty if they change nothing.

    Args:
        own: The spec without the settings.
        wanted: The spec with them.
    """
    before, after = _fields(own), _fields(wanted)
    changes = [
        [list(path), *([before[path]] if path in before else [])]
        for path in sorted(before.keys() | after.keys())
        if before.get(path) != after.get(path)
    ]
    return json.dumps(changes, separators=(",", ":"), sort_keys=True) if changes else ""


def _fields(spec: Mapping[str, Any]) -> dict[tuple[str, ...], Any]:
    fields: dict[tuple[str, ...], Any] = {}
    for block in _BLOCKS:
        part: Any = spec
        for key in block:
            part = part.get(key) or {}
        fields |= {(*block, name): value for name, value in part.items()}
    maps = {block[:1] for block in _BLOCKS}
    return {path: value for path, value in fields.items() if path not in maps}


def _marks(text: str) -> list[tuple[tuple[str, ...], list[Any]]]:
    """Return paths, each with its former value or none; none at all if somebody else wrote the annotation."""
    try:
        marks = [(tuple(path), former[:1]) for path, *former in json.loads(text or "[]")]
    except (TypeError, ValueError, RecursionError):
        return []
    known = all(path[:-1] in _BLOCKS and {*map(type, path)} == {str} for path, _ in marks)
    return marks if known else []


def _in_managed_fields(path: Sequence[str]) -> Path:
    return ("f:spec", *(f"f:{key}" for key in path))


def _without_empty(spec: dict[str, Any]) -> dict[str, Any]:
    """Return a spec without the optional maps that have nothing any more."""
    for name in ("limits", "disruption"):
        if spec.get(name) == {}:
            del spec[name]
    meta = (spec.get("template") or {}).get("metadata") or {}
    for name in _IN_TEMPLATE:
        if meta.get(name) == {}:
            del meta[name]
    return spec


def check_owners(pool: NodePool, live: LivePool, manager: str) -> None:
    """Check that nobody else owns the fields of a NodePool that the update changes.

    Args:
        pool: The pool after the update, which takes over ``live``.
        live: The NodePool now.
        manager: The field manager of the stack's NodePools.

    Raises:
        ArchshiftError: Somebody does, and the settings do not force the change, or cannot.
    """
    changes = list(_changes(live.spec, manifest(pool)))
    key = f"archshift:node_groups.{pool.name}"
    # The engine takes over what kubectl owns, so it can remove that too.
    removed = _owned([change for change in changes if change.removed], live, manager, kubectl=not pool.force)
    if removed:
        raise ArchshiftError(
            f"{key}: only its owner can remove a limit of the NodePool {live.name}: {removed}",
            "remove the limit where the NodePool is defined, or leave limits out",
        )
    others = "" if pool.force else _owned(changes, live, manager)
    if others:
        raise ArchshiftError(
            f"{key}: it changes fields of the NodePool {live.name} that belong to others: {others}",
            "change them where the NodePool is defined, or set force: true for the group",
        )


def _owned(changes: Iterable["_Change"], live: LivePool, manager: str, *, kubectl: bool = True) -> str:
    """Say who else owns fields that change; empty for nobody."""
    theirs: dict[str, dict[str, None]] = {}
    for change in changes:
        for owner in sorted(owners(live.managed_fields, change.path)):
            if owner.manager != manager and (kubectl or not owner.manager.startswith("kubectl")):
                theirs.setdefault(owner.manager, {})[change.name] = None
    return "; ".join(f"{owner} owns {', '.join(names)}" for owner, names in theirs.items())


@dataclass(frozen=True, slots=True)
class _Change:
    """A field that an update changes: its name, its path in managed fields, and whether it goes away."""

    name: str
    path: Path
    removed: bool = False


def _changes(old: Any, new: Any) -> Iterable[_Change]:
    limits = old.get("limits") or {}, new.get("limits") or {}
    yield from _differing("limits.", ("f:spec", "f:limits"), *limits, {*limits[0], *limits[1]})
    yield from _differing("", ("f:spec",), old, new, ("weight",))
    disruption = old.get("disruption") or {}, new.get("disruption") or {}
    yield from _differing("disruption.", ("f:spec", "f:disruption"), *disruption, _DISRUPTION)
    template = ("f:spec", "f:template")
    meta = old["template"].get("metadata") or {}, new["template"].get("metadata") or {}
    yield from _differing("", (*template, "f:metadata"), *meta, _IN_TEMPLATE)
    inner = old["template"]["spec"], new["template"]["spec"]
    yield from _differing("", (*template, "f:spec"), *inner, {*inner[0], *inner[1]})


def _differing(prefix: str, path: Path, old: Any, new: Any, names: Iterable[str]) -> Iterable[_Change]:
    for name in sorted(names):
        if old.get(name) != new.get(name):
            yield _Change(f"{prefix}{name}", (*path, f"f:{name}"), removed=name not in new)
