"""The fields of a pod template by which archshift decides where pods land: read, written and owned. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from archshift.cluster.entries import Entry
from archshift.cluster.ownership import FieldOwner, Path, path_of
from archshift.cluster.scheduling import matches
from archshift.common.architectures import ARCHITECTURES, Architecture
from archshift.common.kubernetes import ARCH_LABEL, ARCH_LABELS, HOSTNAME_LABEL, OS_LABELS, ZONE_LABEL
from archshift.nodes.groups import side_taint

WEIGHT: Final = 100
"""The weight of the architecture preference; 100 is the API's maximum."""

_NODE_AFFINITY: Final = ("affinity", "nodeAffinity")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"

SPREADS: Final[dict[str, dict[str, str]]] = {
    "spread": {"topologyKey": ARCH_LABEL, "whenUnsatisfiable": "DoNotSchedule"},
    "soft-spread": {"topologyKey": ARCH_LABEL, "whenUnsatisfiable": "ScheduleAnyway"},
    "zone-spread": {"topologyKey": ZONE_LABEL, "whenUnsatisfiable": "ScheduleAnyway"},
    "node-spread": {"topologyKey": HOSTNAME_LABEL, "whenUnsatisfiable": "ScheduleAnyway"},
}
"""Our name of each spread constraint that archshift may set to its keys in the list."""

_SPREAD_KEYS: Final = ("topologyKey", "whenUnsatisfiable")

DEFAULT_SPREADS: Final = {"zone-spread": 5, "node-spread": 3}
"""The spreads of a pod without spread constraints of its own, and their ``maxSkew``.

The scheduler's defaults (https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/,
"Internal default constraints"). A pod with any constraint of its own gets none of them.
"""

SOFT_SPREADS: Final = ("soft-spread", *DEFAULT_SPREADS)
"""The spreads that turn no pod away. An application may have the same; then archshift sets none."""


def _item_key(item: Mapping[str, Any]) -> str:
    keys = {name: item.get(name) for name in _SPREAD_KEYS}
    return f"k:{json.dumps(keys, separators=(',', ':'))}"


FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "node-selector": ("nodeSelector",),
    "preferred": (*_NODE_AFFINITY, _PREFERRED),
    "required": (*_NODE_AFFINITY, _REQUIRED),
    "tolerations": ("tolerations",),
    **{name: ("topologySpreadConstraints", _item_key(keys)) for name, keys in SPREADS.items()},
}
"""Our name of a field to its path in a pod spec."""

TITLES: Final = {
    "node-selector": "node selector",
    "preferred": "preferred node affinity",
    "required": "required node affinity",
    "spread": "spread over architectures",
    "soft-spread": "soft spread over architectures",
    "tolerations": "tolerations",
    "zone-spread": "soft spread over zones",
    "node-spread": "soft spread over nodes",
}
"""Our name of a field to its name for people."""

PARENTS: Final = (("affinity",), _NODE_AFFINITY, ("topologySpreadConstraints",))
"""The paths in a pod spec that contain some of ``FIELDS``."""

REVISION_ANNOTATION: Final = "archshift/revision"
"""On the pod template: the object and generation for which archshift made the placement.

Every change of the placement sets a new value, for three reasons. Otherwise a step back would activate an
old ReplicaSet, and the rollout would seem complete before it began. The new value also replaces pods that
are on the wrong side, which the scheduler never does by itself. And the engine, which compares a patch with
its previous patch, sees that an object was replaced.
"""


REVISION_PATH: Final = ("metadata", "annotations", REVISION_ANNOTATION)
"""Its path in a pod template."""

RECLAIMED_MARK: Final = "+"
"""The end of a revision whose patch took fields back. The patch stays forced until the next revision, because
otherwise the next update would change the patch for nothing."""

NULL_MARK: Final = "~"
"""In a revision: a parent of ``FIELDS`` was null before archshift set a field in it. So it must be gone after
archshift gives its fields up, and not empty."""

_DIGITS: Final = 10
"""Whoever may patch a workload can write the annotation, and Python refuses to read very long numbers."""

INEXACT_ANNOTATION: Final = "archshift/inexact"
"""On a workload whose last rollout by archshift left pods on the wrong side: an ``Inexact``."""


@dataclass(frozen=True, slots=True)
class Inexact:
    """What a rollout by archshift ended with, so that archshift does not repeat it for nothing.

    Attributes:
        revision: The revision of the rollout.
        graviton: The number of pods on Graviton after it.
        nodes: The number of nodes on the side that lacks pods and that accepted new ones.
    """

    revision: str
    graviton: int
    nodes: int

    def __str__(self) -> str:
        return f"{self.revision};{self.graviton};{self.nodes}"

    @classmethod
    def parse(cls, text: str) -> "Inexact | None":
        """Read the annotation; None if it is missing or not archshift's."""
        revision, *numbers = text.split(";")
        if len(numbers) != 2 or not all(number.isdecimal() and len(number) < _DIGITS for number in numbers):
            return None
        return cls(revision, *map(int, numbers))


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
        applied_by: The name in ``managedFields`` under which it did; empty if it owns nothing.
        foreign_owners: The names in ``FIELDS`` that others own to the owner. This includes fields that they
            set to null or an empty value, which ``spec`` lacks.
        reclaimed: The names in ``FIELDS`` that others own but that archshift wrote, to the application's part
            of the value. ``kubectl rollout undo`` and a copied manifest leave such fields.
        takes_over: Whether a patch must take something that others own: the revision, or a parent of
            ``FIELDS`` that they set to null.
        null_parent: Whether others own a parent of ``FIELDS`` as null.
        taken_fields: The fields that archshift took by force, as they were before.
        selector: The workload's label selector; None for kinds without a selector.
        revision_label: The pod label that differs between revisions; empty if ``selector`` tells them apart.
        revision: The live value of ``REVISION_ANNOTATION``; empty if it is missing.
        inexact: How archshift's last rollout ended if pods were left on the wrong side; otherwise None.
        has_soft_rules: Whether the application has soft rules of its own (preferred pod affinity or
            anti-affinity, soft spread constraints) that can outweigh a node preference.
        stays_apart: Whether a soft rule of its own is a preferred pod anti-affinity.
        other_spreads: The application's own spread constraints: those before ours and those after it.
        labels: The labels of its pods.
        affinity: The terms of its required pod affinity.
        anti_affinity: The terms of its required pod anti-affinity.
        host_ports: The ports of a node that each of its pods takes, such as ``TCP/443``.
        surge: How many pods more than its replicas there may be during a rollout.
    """

    spec: Mapping[str, Any] = field(default_factory=dict)
    owned: frozenset[str] = frozenset()
    applied: Mapping[str, Any] = field(default_factory=dict)
    applied_by: str = ""
    foreign_owners: Mapping[str, FieldOwner] = field(default_factory=dict)
    reclaimed: Mapping[str, Any] = field(default_factory=dict)
    takes_over: bool = False
    null_parent: bool = False
    taken_fields: Mapping[str, TakenField] = field(default_factory=dict)
    selector: Mapping[str, Any] | None = None
    revision_label: str = "pod-template-hash"
    revision: str = ""
    inexact: Inexact | None = None
    has_soft_rules: bool = False
    stays_apart: bool = False
    other_spreads: tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]] = ((), ())
    labels: Mapping[str, str] = field(default_factory=dict)
    affinity: tuple[Mapping[str, Any], ...] = ()
    anti_affinity: tuple[Mapping[str, Any], ...] = ()
    host_ports: frozenset[str] = frozenset()
    surge: int = 0

    @property
    def has_spreads(self) -> bool:
        """Whether the application has spread constraints of its own."""
        return any(self.other_spreads) or self.application_value("spread") is not None

    def application_value(self, name: str) -> Any:
        """Return the application's own value of a field; None if it has none."""
        if name in self.taken_fields:
            return self.taken_fields[name].value
        if name in self.reclaimed:
            return self.reclaimed[name]
        if name in self.owned and name not in self.foreign_owners:
            return None
        return self.spec.get(name)


def without_patch(template: Template) -> Template:
    """Return the template as it is without archshift's patch, where nobody's ownership of fields counts.

    Without a patch of this stack, the live template is the application's own, whoever wrote it.
    """
    own = template.spec
    if template.applied or template.taken_fields:
        values = {name: template.application_value(name) for name in FIELDS}
        own = {name: value for name, value in values.items() if value}
    return Template(
        spec=own,
        selector=template.selector,
        revision_label=template.revision_label,
        has_soft_rules=template.has_soft_rules,
        stays_apart=template.stays_apart,
        other_spreads=template.other_spreads,
        labels=template.labels,
        affinity=template.affinity,
        anti_affinity=template.anti_affinity,
        host_ports=template.host_ports,
        surge=template.surge,
    )


def template_of_pod(pod_spec: Mapping[str, Any], placed_by: str = "") -> Template:
    """Return what a pod's spec says about where it may run, as the template of its workload.

    Args:
        pod_spec: The pod's spec.
        placed_by: The entry by which archshift's policy placed the pod, whose part is left out; empty if
            it did not.
    """
    # The application's own soft spreads are no fields of placement; they are among the other spreads.
    live = {name: value for name, value in read_fields(pod_spec).items() if name not in SOFT_SPREADS}
    spreads = [*(pod_spec.get("topologySpreadConstraints") or ())]
    if placed_by:
        live = {name: rest for name, value in live.items() if (rest := _before_placement(name, value))}
        entry = Entry.parse(placed_by)
        if not (entry and entry.side):
            # A share never goes to a pod with a spread over architectures of its own. The policy adds its own
            # spread to the end of the list, and then at most the default spreads.
            live.pop("spread", None)
            ours = next((index for index, each in enumerate(spreads) if is_ours(each)), len(spreads))
            spreads = spreads[:ours]
    spreads = [constraint for constraint in spreads if not is_ours(constraint)]
    return Template(
        spec=live,
        other_spreads=(tuple(spreads), ()),
        has_soft_rules=has_soft_rules(pod_spec, spreads),
        stays_apart=stays_apart(pod_spec),
        affinity=required_terms(pod_spec, "podAffinity"),
        anti_affinity=required_terms(pod_spec, "podAntiAffinity"),
        host_ports=host_ports(pod_spec),
    )


def _before_placement(name: str, value: Any) -> Any:
    """Return a pod's field without what the policy added; a spread and the required affinity stay."""
    return value if name in ("required", *SPREADS) else without_archshift(name, value)


def contradicts(template: Template) -> bool:
    """Return whether archshift's own fields exclude every architecture that the application permits."""
    pinned = pinned_architecture(template)
    ours = pinned_architecture(
        Template(spec={name: template.spec[name] for name in template.owned if name in template.spec})
    )
    return pinned is not None and ours is not None and not {*pinned[0].split(",")} & {*ours[0].split(",")}


def arch_expression(*architectures: Architecture) -> dict[str, Any]:
    """Return the expression with which archshift selects nodes of these architectures."""
    return {"key": ARCH_LABEL, "operator": "In", "values": list(architectures)}


def preference_for(side: Architecture) -> dict[str, Any]:
    """Return the preferred term with which archshift prefers a side."""
    return {"weight": WEIGHT, "preference": {"matchExpressions": [arch_expression(side)]}}


_ANY_ARCHITECTURE: Final = {"key": ARCH_LABEL, "operator": "Exists"}


def weighted_preferences(side: Architecture, weight: int) -> list[dict[str, Any]]:
    """Return the preferred terms that give a side ``weight`` points of 100 more than the other.

    Nobody else writes an expression twice about the same label, so these terms are known as archshift's.
    """
    weights = {(side,): weight, ARCHITECTURES: WEIGHT - weight}
    return [
        {
            "weight": points,
            "preference": {"matchExpressions": [arch_expression(*sides), dict(_ANY_ARCHITECTURE)]},
        }
        for sides, points in weights.items()
        if points
    ]


def _is_preference_of_ours(term: Any) -> bool:
    return term in _PREFERENCES or any(
        term.get("preference") == each["preference"] for each in _WEIGHTED_PREFERENCES
    )


def toleration_of(side: Architecture) -> dict[str, Any]:
    """Return the toleration with which archshift prefers a side where soft rules compete."""
    taint = side_taint(side)
    return {"key": taint.key, "operator": "Exists", "effect": taint.effect}


_EXPRESSIONS: Final = (*map(arch_expression, ARCHITECTURES), arch_expression(*ARCHITECTURES))
_PREFERENCES: Final = tuple(map(preference_for, ARCHITECTURES))
_WEIGHTED_PREFERENCES: Final = tuple(
    term for side in ARCHITECTURES for term in weighted_preferences(side, 50)
)
_TOLERATIONS: Final = tuple(map(toleration_of, ARCHITECTURES))


def archshift_wrote(name: str, value: Any, revision_label: str) -> bool:
    """Return whether the value of a field has the form that archshift writes.

    Only the form: an application can write the same preference. ``Template.reclaimed`` also asks who owns it.

    Args:
        name: One of ``FIELDS``.
        value: The field's live value.
        revision_label: The pod label that differs between revisions.
    """
    match name:
        case "node-selector":
            return bool(value.get(ARCH_LABEL) in ARCHITECTURES)
        case "preferred":
            return any(map(_is_preference_of_ours, value))
        case "required":
            # An empty term matches no node, so archshift adds nothing there.
            terms = [term for term in value.get("nodeSelectorTerms") or () if term]
            return bool(terms) and all(
                (term.get("matchExpressions") or (None,))[-1] in _EXPRESSIONS for term in terms
            )
        case "spread":
            form = (value.get("matchLabelKeys"), value.get("nodeTaintsPolicy"))
            return bool(form == ([revision_label], "Honor"))
        case "soft-spread" | "zone-spread" | "node-spread":
            return bool(value.get("matchLabelKeys") == [revision_label])
        case "tolerations":
            return any(entry in _TOLERATIONS for entry in value)
    raise ValueError(f"{name!r} is not a field of placement")


def without_archshift(name: str, value: Any) -> Any:
    """Return the application's part of a value that archshift wrote; None if it has none."""
    rest: Any = None
    match name:
        case "node-selector":
            rest = {label: text for label, text in value.items() if label != ARCH_LABEL}
        case "preferred":
            rest = [term for term in value if not _is_preference_of_ours(term)]
        case "required":
            terms = [_without_expression(term) for term in value["nodeSelectorTerms"]]
            rest = {"nodeSelectorTerms": terms} if any(terms) else None
        case "tolerations":
            rest = [entry for entry in value if entry not in _TOLERATIONS]
    return rest or None


def _without_expression(term: Mapping[str, Any]) -> dict[str, Any]:
    expressions = (term.get("matchExpressions") or [])[:-1]
    others = {key: value for key, value in term.items() if key != "matchExpressions"}
    return {**others, "matchExpressions": expressions} if expressions else others


def field_path(name: str, template_path: Sequence[str]) -> Path:
    """Return the path of a field in a workload's ``managedFields``."""
    return path_of(*template_path, "spec", *FIELDS[name])


def revision_of(template: Mapping[str, Any]) -> str:
    """Return the value of ``REVISION_ANNOTATION`` in a pod template; empty if it is missing."""
    annotations = (template.get("metadata") or {}).get("annotations") or {}
    return str(annotations.get(REVISION_ANNOTATION, ""))


def describe_path(name: str, template_path: Sequence[str]) -> str:
    """Return a field's path in the form that people write."""
    keys = [key for key in FIELDS[name] if not key.startswith("k:")]
    suffix = f"[{SPREADS[name]['topologyKey']}]" if name in SPREADS else ""
    return ".".join((*template_path, "spec", *keys)) + suffix


def has_soft_rules(pod_spec: Mapping[str, Any], spreads: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether an application's own soft rules can compete with a preference for a side.

    Args:
        pod_spec: The pod spec.
        spreads: The application's own spread constraints in it.
    """
    affinity = pod_spec.get("affinity") or {}
    return any(
        (affinity.get(kind) or {}).get(_PREFERRED) for kind in ("podAffinity", "podAntiAffinity")
    ) or any(constraint.get("whenUnsatisfiable") == "ScheduleAnyway" for constraint in spreads)


def stays_apart(pod_spec: Mapping[str, Any]) -> bool:
    """Return whether a pod has a preferred pod anti-affinity."""
    return bool(((pod_spec.get("affinity") or {}).get("podAntiAffinity") or {}).get(_PREFERRED))


def host_ports(pod_spec: Mapping[str, Any]) -> frozenset[str]:
    """Return the ports of its node that a pod takes, on whatever address, such as ``TCP/443``."""
    lasting = [each for each in pod_spec.get("initContainers") or () if each.get("restartPolicy") == "Always"]
    on_host = pod_spec.get("hostNetwork")
    ports = (
        (port.get("protocol") or "TCP", port.get("hostPort") or (on_host and port.get("containerPort")))
        for container in (*(pod_spec.get("containers") or ()), *lasting)
        for port in container.get("ports") or ()
    )
    return frozenset(f"{protocol}/{number}" for protocol, number in ports if number)


def required_terms(pod_spec: Mapping[str, Any], kind: str) -> tuple[Mapping[str, Any], ...]:
    """Return the required terms of a pod affinity.

    Args:
        pod_spec: The pod spec.
        kind: ``podAffinity`` or ``podAntiAffinity``.
    """
    return tuple(((pod_spec.get("affinity") or {}).get(kind) or {}).get(_REQUIRED) or ())


def spread_constraint(
    name: str, max_skew: int, selector: Mapping[str, Any] | None, revision_label: str
) -> dict[str, Any]:
    """Return a spread constraint over a workload's own pods.

    Args:
        name: One of the spreads in ``FIELDS``.
        max_skew: Its ``maxSkew``.
        selector: The workload's label selector.
        revision_label: The pod label that differs between revisions; empty if the selector tells them apart.
    """
    constraint: dict[str, Any] = {**SPREADS[name], "maxSkew": max_skew, "labelSelector": selector or {}}
    if revision_label:
        # Each revision counts by itself, as with the scheduler's default spreads of a Deployment. Otherwise
        # a rolling update would count the old pods too and end with a wrong share
        # (kubernetes/kubernetes#98215).
        constraint["matchLabelKeys"] = [revision_label]
    return constraint


def is_soft_spread(
    constraint: Mapping[str, Any], selector: Mapping[str, Any] | None, revision_label: str
) -> bool:
    """Return whether placement may have written this constraint as one of ``SOFT_SPREADS``."""
    skew = constraint.get("maxSkew", 0)
    return any(constraint == spread_constraint(name, skew, selector, revision_label) for name in SOFT_SPREADS)


def is_ours(constraint: Mapping[str, Any]) -> bool:
    """Return whether this is the spread over architectures, which placement sets."""
    return _item_key(constraint) == _item_key(SPREADS["spread"])


def constraint_path(constraint: Mapping[str, Any], template_path: Sequence[str]) -> Path:
    """Return the path of a spread constraint in a workload's ``managedFields``."""
    return path_of(*template_path, "spec", "topologySpreadConstraints", _item_key(constraint))


def read_fields(pod_spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the live values of ``FIELDS`` in a pod spec, without missing and empty fields."""
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    values = {
        "node-selector": pod_spec.get("nodeSelector"),
        "preferred": affinity.get(_PREFERRED),
        "required": affinity.get(_REQUIRED),
        "tolerations": pod_spec.get("tolerations"),
    }
    live = {_item_key(item): item for item in pod_spec.get("topologySpreadConstraints") or ()}
    values |= {name: live.get(_item_key(keys)) for name, keys in SPREADS.items()}
    return {name: value for name, value in values.items() if value}


def write_fields(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pod spec with only these fields: the inverse of ``read_fields``."""
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
    if spreads := [values[name] for name in SPREADS if name in values]:
        spec["topologySpreadConstraints"] = spreads
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
