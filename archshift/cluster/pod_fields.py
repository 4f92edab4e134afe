"""The five fields of a pod template that decide where pods land: read, written and owned. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from archshift.cluster.ownership import FieldOwner, Path
from archshift.cluster.scheduling import matches
from archshift.common.architectures import ARCHITECTURES
from archshift.common.kubernetes import ARCH_LABEL, ARCH_LABELS, OS_LABELS

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
"""Our name of a field to its path in a pod spec."""

TITLES: Final = {
    "node-selector": "node selector",
    "preferred": "preferred node affinity",
    "required": "required node affinity",
    "spread": "spread over architectures",
    "tolerations": "tolerations",
}
"""Our name of a field to its name for people."""

REVISION_ANNOTATION: Final = "archshift/revision"
"""On the pod template: the object and generation for which archshift made the placement.

Every change of the placement sets a new value, for three reasons. Otherwise a step back would activate an
old ReplicaSet, and the rollout would seem complete before it began. The new value also replaces pods that
are on the wrong side, which the scheduler never does by itself. And the engine, which compares a patch with
its previous patch, sees that an object was replaced.
"""


@dataclass(frozen=True, slots=True)
class TakenField:
    """A field that archshift took by force, as it was before.

    Attributes:
        owner: The owner, which gets it back.
        value: The value.
    """

    owner: FieldOwner
    value: Any


@dataclass(frozen=True, slots=True)
class Template:
    """What placement must know about a workload's pod template.

    Attributes:
        spec: The names in ``FIELDS`` to the live values, including ours; missing fields are left out.
        owned: The names in ``FIELDS`` that this stack owns now.
        applied: The part of the live pod template that this stack applied last and still owns, including its
            annotation; empty if it owns nothing.
        foreign_owners: The names in ``FIELDS`` that others own, with the owner.
        taken_fields: The fields that archshift took by force, as they were before.
        selector: The workload's label selector; None for kinds without a selector.
        revision_label: The pod label that differs between revisions.
        revision: The live value of ``REVISION_ANNOTATION``; empty if it is missing.
        has_soft_rules: Whether the application has soft rules of its own (preferred pod affinity or
            anti-affinity, soft spread constraints) that can outweigh a node preference.
        other_spreads: The application's own spread constraints: those before ours and those after it.
    """

    spec: Mapping[str, Any] = field(default_factory=dict)
    owned: frozenset[str] = frozenset()
    applied: Mapping[str, Any] = field(default_factory=dict)
    foreign_owners: Mapping[str, FieldOwner] = field(default_factory=dict)
    taken_fields: Mapping[str, TakenField] = field(default_factory=dict)
    selector: Mapping[str, Any] | None = None
    revision_label: str = "pod-template-hash"
    revision: str = ""
    has_soft_rules: bool = False
    other_spreads: tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]] = ((), ())

    def application_value(self, name: str) -> Any:
        """Return the application's own value of a field; None if it has none."""
        if name in self.taken_fields:
            return self.taken_fields[name].value
        if name in self.owned and name not in self.foreign_owners:
            return None
        return self.spec.get(name)


def contradicts(template: Template) -> bool:
    """Return whether archshift's own fields exclude every architecture that the application permits."""
    pinned = pinned_architecture(template)
    ours = pinned_architecture(
        Template(spec={name: template.spec[name] for name in template.owned if name in template.spec})
    )
    return pinned is not None and ours is not None and not {*pinned[0].split(",")} & {*ours[0].split(",")}


def field_path(name: str, template_path: Sequence[str]) -> Path:
    """Return the path of a field in a workload's ``managedFields``."""
    keys = (*template_path, "spec", *FIELDS[name])
    return tuple(key if key.startswith("k:") else f"f:{key}" for key in keys)


def describe_path(name: str, template_path: Sequence[str]) -> str:
    """Return a field's path in the form that people write."""
    keys = [key for key in FIELDS[name] if not key.startswith("k:")]
    suffix = "[kubernetes.io/arch]" if name == "spread" else ""
    return ".".join((*template_path, "spec", *keys)) + suffix


def has_soft_rules(pod_spec: Mapping[str, Any]) -> bool:
    """Return whether an application's own soft rules can compete with a preference for a side."""
    affinity = pod_spec.get("affinity") or {}
    return any(
        (affinity.get(kind) or {}).get(_PREFERRED) for kind in ("podAffinity", "podAntiAffinity")
    ) or any(
        constraint.get("whenUnsatisfiable") == "ScheduleAnyway"
        for constraint in pod_spec.get("topologySpreadConstraints") or ()
    )


def is_ours(constraint: Mapping[str, Any]) -> bool:
    """Return whether placement sets this spread constraint."""
    return _item_key(constraint) == _item_key(SPREAD)


def constraint_path(constraint: Mapping[str, Any], template_path: Sequence[str]) -> Path:
    """Return the path of a spread constraint in a workload's ``managedFields``."""
    keys = (*template_path, "spec", "topologySpreadConstraints")
    return (*(f"f:{key}" for key in keys), _item_key(constraint))


def read_fields(pod_spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the live values of ``FIELDS`` in a pod spec, without missing and empty fields."""
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
    """Return a pod spec with only these fields: the inverse of ``read_fields``.

    Args:
        values: Field name to value.
        before: The spread constraints of others that are before ours in the live list.
        behind: The spread constraints of others that are after ours. The engine's Kubernetes provider
            compares lists by position, so a patch with only our constraint would always show a change
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
        The architectures and the field, such as ``("amd64", "nodeSelector")``; None if it pins none.
    """
    selector = template.application_value("node-selector") or {}
    for label in ARCH_LABELS:
        if label in selector:
            return str(selector[label]), "nodeSelector"
    terms = (template.application_value("required") or {}).get("nodeSelectorTerms") or ()
    # A node must meet one term, and all expressions of that term.
    admitted = [
        architecture
        for architecture in ARCHITECTURES
        if any(_admits(term, dict.fromkeys(ARCH_LABELS, architecture)) for term in terms)
    ]
    if not terms or len(admitted) == len(ARCHITECTURES):
        return None
    return ",".join(admitted) or "another architecture", "required node affinity"


def excludes_linux(template: Template) -> bool:
    """Return whether the application's own rules admit only nodes of another operating system."""
    selector = template.application_value("node-selector") or {}
    if any(selector.get(label, "linux") != "linux" for label in OS_LABELS):
        return True
    terms = (template.application_value("required") or {}).get("nodeSelectorTerms") or ()
    linux = dict.fromkeys(OS_LABELS, "linux")
    return bool(terms) and not any(_admits(term, linux) for term in terms)


def _admits(term: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether the expressions of a term about these labels admit them."""
    return all(
        matches(labels, expression)
        for expression in term.get("matchExpressions") or ()
        if expression.get("key") in labels
    )
