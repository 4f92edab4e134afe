"""The five fields of a pod template that decide where pods land: read, written and owned. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from archshift.cluster.ownership import FieldOwner, Path
from archshift.cluster.scheduling import matches
from archshift.common.architectures import ARCHITECTURES, Architecture
from archshift.common.kubernetes import ARCH_LABEL, ARCH_LABELS

_NODE_AFFINITY: Final = ("affinity", "nodeAffinity")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"

# A spread constraint is identified by these two (the list's keys in the API's schema).
SPREAD: Final = {"topologyKey": ARCH_LABEL, "whenUnsatisfiable": "DoNotSchedule"}
_SPREAD_KEYS: Final = tuple(SPREAD)


def _item_key(item: Mapping[str, Any]) -> str:
    keys = {name: item.get(name) for name in _SPREAD_KEYS}
    return f"k:{json.dumps(keys, separators=(',', ':'))}"


FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "node-selector": ("nodeSelector",),
    "preferred": (*_NODE_AFFINITY, _PREFERRED),
    "required": (*_NODE_AFFINITY, _REQUIRED),
    "spread": ("topologySpreadConstraints", _item_key(SPREAD)),
    "tolerations": ("tolerations",),
}
"""Our name of a field to its path inside a pod spec."""

TITLES: Final = {
    "node-selector": "node selector",
    "preferred": "preferred node affinity",
    "required": "required node affinity",
    "spread": "spread over architectures",
    "tolerations": "tolerations",
}
"""Our name of a field to the one people use."""

REVISION_ANNOTATION: Final = "archshift/revision"
"""On the pod template: the object and generation that the placement was made for.

A new one with every change of the placement, for three reasons. A step back would otherwise
bring an old ReplicaSet to life, and the rollout would be reported complete before it began.
Pods that drifted can be scheduled anew, which the scheduler never does by itself. And the
engine, which compares a patch with its own last one, sees that an object was replaced.
"""


@dataclass(frozen=True, slots=True)
class TakenField:
    """A field's value and owner before archshift took it by force.

    Attributes:
        owner: Who gets it back.
        value: What it was.
    """

    owner: FieldOwner
    value: Any


@dataclass(frozen=True, slots=True)
class Template:
    """What placement needs to know of one workload's pod template.

    Attributes:
        spec: The live values of ``FIELDS``, by our name, ours included; absent ones left out.
        owned: Those of ``FIELDS`` that this stack owns now.
        foreign_owners: Those of ``FIELDS`` that someone else owns, and who.
        taken_fields: Fields held by force, with what they were.
        selector: The workload's label selector; None for kinds without one.
        revision_label: The pod label that tells revisions apart.
        revision: The live value of ``REVISION_ANNOTATION``; empty if absent.
        has_soft_rules: The application has soft rules of its own (preferred pod affinity or
            anti-affinity, soft spreads) that can outweigh a node preference.
        other_spreads: The application's own spread constraints, before ours and behind it.
    """

    spec: Mapping[str, Any] = field(default_factory=dict)
    owned: frozenset[str] = frozenset()
    foreign_owners: Mapping[str, FieldOwner] = field(default_factory=dict)
    taken_fields: Mapping[str, TakenField] = field(default_factory=dict)
    selector: Mapping[str, Any] | None = None
    revision_label: str = "pod-template-hash"
    revision: str = ""
    has_soft_rules: bool = False
    other_spreads: tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]] = ((), ())

    def application_value(self, name: str) -> Any:
        """Return the application's own value of a field, None if it has none."""
        if name in self.taken_fields:
            return self.taken_fields[name].value
        if name in self.owned and name not in self.foreign_owners:
            return None
        return self.spec.get(name)


def field_path(name: str, template_path: Sequence[str]) -> Path:
    """Return the path of a field in a workload's ``managedFields``."""
    keys = (*template_path, "spec", *FIELDS[name])
    return tuple(key if key.startswith("k:") else f"f:{key}" for key in keys)


def describe_path(name: str, template_path: Sequence[str]) -> str:
    """Return a field's path as people write it."""
    keys = [key for key in FIELDS[name] if not key.startswith("k:")]
    suffix = "[kubernetes.io/arch]" if name == "spread" else ""
    return ".".join((*template_path, "spec", *keys)) + suffix


def has_soft_rules(pod_spec: Mapping[str, Any]) -> bool:
    """Say whether an application's own soft rules can compete with a preference for a side."""
    affinity = pod_spec.get("affinity") or {}
    return any(
        (affinity.get(kind) or {}).get(_PREFERRED) for kind in ("podAffinity", "podAntiAffinity")
    ) or any(
        constraint.get("whenUnsatisfiable") == "ScheduleAnyway"
        for constraint in pod_spec.get("topologySpreadConstraints") or ()
    )


def is_ours(constraint: Mapping[str, Any]) -> bool:
    """Say whether a spread constraint is the one that placement sets."""
    return _item_key(constraint) == _item_key(SPREAD)


def constraint_path(constraint: Mapping[str, Any], template_path: Sequence[str]) -> Path:
    """Return the path of a spread constraint in a workload's ``managedFields``."""
    keys = (*template_path, "spec", "topologySpreadConstraints")
    return (*(f"f:{key}" for key in keys), _item_key(constraint))


def read_fields(pod_spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the live values of ``FIELDS`` in a pod spec, absent and empty ones left out."""
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    values = {
        "node-selector": pod_spec.get("nodeSelector"),
        "preferred": affinity.get(_PREFERRED),
        "required": affinity.get(_REQUIRED),
        "tolerations": pod_spec.get("tolerations"),
        "spread": next(
            (
                constraint
                for constraint in pod_spec.get("topologySpreadConstraints") or ()
                if is_ours(constraint)
            ),
            None,
        ),
    }
    return {name: value for name, value in values.items() if value}


def write_fields(
    values: Mapping[str, Any], before: Sequence[Any] = (), behind: Sequence[Any] = ()
) -> dict[str, Any]:
    """Return a pod spec that holds just these fields: the inverse of ``read_fields``.

    Args:
        values: Field name to value.
        before: Spread constraints of others that stand before ours in the live list.
        behind: Those that stand behind it. The engine's Kubernetes provider compares lists by
            position, so a patch with our constraint alone would show a change for ever
            (docs/adr/0002).
    """
    spec: dict[str, Any] = {}
    affinity = {}
    if "required" in values:
        affinity[_REQUIRED] = values["required"]
    if "preferred" in values:
        affinity[_PREFERRED] = values["preferred"]
    if affinity:
        spec["affinity"] = {"nodeAffinity": affinity}
    if "node-selector" in values:
        spec["nodeSelector"] = values["node-selector"]
    if "tolerations" in values:
        spec["tolerations"] = values["tolerations"]
    if "spread" in values:
        spec["topologySpreadConstraints"] = [*before, values["spread"], *behind]
    return spec


def pinned_architecture(template: Template) -> tuple[str, str] | None:
    """Return how the application itself pins architectures, if it does.

    Returns:
        (architectures, field): for example ``("amd64", "nodeSelector")``.
    """
    selector = template.application_value("node-selector") or {}
    for label in ARCH_LABELS:
        if label in selector:
            return str(selector[label]), "nodeSelector"
    terms = (template.application_value("required") or {}).get("nodeSelectorTerms") or ()
    # Terms are ORed, the expressions of one are ANDed.
    admitted = [
        architecture for architecture in ARCHITECTURES if any(_admits(term, architecture) for term in terms)
    ]
    if not terms or len(admitted) == len(ARCHITECTURES):
        return None
    return ",".join(admitted) or "another architecture", "required node affinity"


def _admits(term: Mapping[str, Any], architecture: Architecture) -> bool:
    labels = dict.fromkeys(ARCH_LABELS, architecture)
    return all(
        matches(labels, expression)
        for expression in term.get("matchExpressions") or ()
        if expression.get("key") in ARCH_LABELS
    )
