"""Reads the annotation that says which fields of a workload archshift took by force.

Whoever may patch the workload can write it. So nothing in it counts unless all of it has the right shape.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, Required, TypedDict

import msgspec

from archshift.cluster.model import TAKEN_ANNOTATION
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import SPREADS, TakenField
from archshift.common.errors import ArchshiftError


class _Expression(TypedDict, total=False):
    key: Required[str]
    operator: Required[str]
    values: list[str]


class _Term(TypedDict, total=False):
    matchExpressions: list[_Expression]
    matchFields: list[_Expression]


class _Terms(TypedDict):
    nodeSelectorTerms: list[_Term]


class _Preference(TypedDict):
    weight: int
    preference: _Term


class _Toleration(TypedDict, total=False):
    key: str
    operator: str
    value: str
    effect: str
    tolerationSeconds: int


class _Spread(TypedDict, total=False):
    topologyKey: Required[str]
    whenUnsatisfiable: Required[str]
    maxSkew: Required[int]
    minDomains: int
    labelSelector: dict[str, Any]
    matchLabelKeys: list[str]


_SHAPES: Final[Mapping[str, Any]] = {
    "node-selector": dict[str, str],
    "preferred": list[_Preference],
    "required": _Terms,
    "tolerations": list[_Toleration],
    **dict.fromkeys(SPREADS, _Spread),
}
"""The name of a field to the shape of its value."""


def read_taken_fields(meta: Mapping[str, Any]) -> dict[str, TakenField]:
    """Return the fields that archshift took by force, as they were before.

    Args:
        meta: The workload's metadata.

    Raises:
        ArchshiftError: The annotation is invalid.
    """
    text = (meta.get("annotations") or {}).get(TAKEN_ANNOTATION)
    if not text:
        return {}
    try:
        entries = msgspec.convert(json.loads(text), dict[str, dict[str, Any]])
        return {name: _field(entries[name], shape) for name, shape in _SHAPES.items() if name in entries}
    except (ValueError, KeyError, RecursionError):  # msgspec's own error is a ValueError
        raise ArchshiftError(
            f"{meta['namespace']}/{meta['name']}: the annotation {TAKEN_ANNOTATION} is invalid",
            "restore it, because it has the values that archshift replaced by force; or remove it if "
            "archshift:workloads.overrides never had force for this workload",
        ) from None


def _field(entry: Mapping[str, Any], shape: Any) -> TakenField:
    owner = FieldOwner(msgspec.convert(entry["manager"], str), msgspec.convert(entry["operation"], str))
    value = entry["value"]
    if value is not None:
        msgspec.convert(value, shape)
    return TakenField(owner, value)
