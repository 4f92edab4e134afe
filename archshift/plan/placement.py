"""How the stock scheduler is told a share, merged into what the workload says itself.

Pure: a workload's pod spec as it is now, and how many of its pods belong on Graviton, give
the fields of a server-side-apply patch. Five fields of the pod template are ours to set:

=================  =====================================================  ==================
field              set when                                               merges
=================  =====================================================  ==================
spread             some pods on each side                                 by key, beside others
preferred          some pods on each side, one side has more              atomic: emitted whole
required           all pods on one side                                   atomic: emitted whole
tolerations        as ``preferred``, and soft rules compete       atomic: emitted whole
node-selector      all on one side and ``required`` has another owner     atomic: emitted whole
=================  =====================================================  ==================

Why it is exact: ``DoNotSchedule`` with ``maxSkew = |graviton - x86|`` bounds the difference
between the sides, and a preference for the larger side reaches that bound. Measured on a real
kube-scheduler; see tests/lab/test_exact.py.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from archshift.cluster.ownership import Owner, Path
from archshift.cluster.scheduling import matches
from archshift.common.architectures import AMD64, ARCH_LABEL, ARCH_LABELS, ARCHITECTURES, ARM64, Architecture
from archshift.nodes.groups import Taint

_NODE_AFFINITY: Final = ("affinity", "nodeAffinity")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"

# A spread constraint is identified by these two (the list's keys in the API's schema).
_SPREAD: Final = {"topologyKey": ARCH_LABEL, "whenUnsatisfiable": "DoNotSchedule"}
_SPREAD_KEYS: Final = tuple(_SPREAD)


def _item_key(item: Mapping[str, Any]) -> str:
    keys = {name: item.get(name) for name in _SPREAD_KEYS}
    return f"k:{json.dumps(keys, separators=(',', ':'))}"


FIELDS: Final[dict[str, tuple[str, ...]]] = {
    "node-selector": ("nodeSelector",),
    "preferred": (*_NODE_AFFINITY, _PREFERRED),
    "required": (*_NODE_AFFINITY, _REQUIRED),
    "spread": ("topologySpreadConstraints", _item_key(_SPREAD)),
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

WEIGHT: Final = 100
"""Weight of the architecture preference; 100 is the API's maximum."""

OTHER_WEIGHT: Final = 25
"""Largest sum of weights left to the application's own preferences once they stand beside ours.

The scheduler adds the weights up and scales the best node to 100: with 25 against 100 a node
of the preferred architecture wins over any that only meets the application's own preferences.
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """A field's value and owner before archshift took it by force.

    Attributes:
        owner: Who gets it back.
        value: What it was.
    """

    owner: Owner
    value: Any


@dataclass(frozen=True, slots=True)
class Template:
    """What placement needs to know of one workload's pod template.

    Attributes:
        spec: The live values of ``FIELDS``, by our name, ours included; absent ones left out.
        owned: Those of ``FIELDS`` that this stack owns now.
        others: Those of ``FIELDS`` that someone else owns, and who.
        taken: Fields held by force, with what they were.
        selector: The workload's label selector; None for kinds without one.
        revision_label: The pod label that tells revisions apart.
        revision: The live value of ``REVISION_ANNOTATION``; empty if absent.
        competing: The application has soft rules of its own (preferred pod affinity or
            anti-affinity, soft spreads) that can outweigh a node preference.
        beside: The application's own spread constraints, before ours and behind it.
    """

    spec: Mapping[str, Any] = field(default_factory=dict)
    owned: frozenset[str] = frozenset()
    others: Mapping[str, Owner] = field(default_factory=dict)
    taken: Mapping[str, Taken] = field(default_factory=dict)
    selector: Mapping[str, Any] | None = None
    revision_label: str = "pod-template-hash"
    revision: str = ""
    competing: bool = False
    beside: tuple[tuple[Mapping[str, Any], ...], tuple[Mapping[str, Any], ...]] = ((), ())

    def own(self, name: str) -> Any:
        """Return the application's own value of a field, None if it has none."""
        if name in self.taken:
            return self.taken[name].value
        if name in self.owned and name not in self.others:
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


def side_taint(architecture: Architecture) -> Taint:
    """Return the taint that every node of a managed group carries for its side.

    It turns nobody away. A workload that tolerates one side's gets 300 points of preference for
    it, beside the 200 of its node affinity; for all others both sides are alike
    (docs/adr/0003).
    """
    return Taint(key=f"archshift/{architecture}", effect="PreferNoSchedule")


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
    return _item_key(constraint) == _item_key(_SPREAD)


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
    selector = template.own("node-selector") or {}
    for label in ARCH_LABELS:
        if label in selector:
            return str(selector[label]), "nodeSelector"
    terms = (template.own("required") or {}).get("nodeSelectorTerms") or ()
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


def max_skew(graviton: int, replicas: int) -> int:
    """Return the ``maxSkew`` that bounds the sides to ``graviton`` and the rest."""
    return max(1, abs(2 * graviton - replicas))


def preferred_side(graviton: int, replicas: int) -> Architecture:
    """Return the side with more pods; Graviton where both have the same number."""
    return ARM64 if 2 * graviton >= replicas else AMD64


def reachable(graviton: int, replicas: int, scaled: int) -> int:
    """Return how many of ``scaled`` pods land on Graviton under the placement for ``replicas``.

    This is what an autoscaler gets between two updates of the stack: the skew stays as it was.
    """
    if graviton in (0, replicas):
        return scaled if graviton else 0
    skew = max_skew(graviton, replicas)
    minor = max(0, scaled - skew + 1) // 2
    return scaled - minor if preferred_side(graviton, replicas) == ARM64 else minor


def conflicts(template: Template, replicas: int) -> dict[str, Owner]:
    """Return the fields that archshift would have to take from someone, and from whom.

    Checked for every share the workload may get, not for today's alone, so that a ramp does
    not stop half way: a workload is movable as a whole or not at all.
    """
    blocked = {}
    if "required" in template.others and "node-selector" in template.others:
        blocked["required"] = template.others["required"]
    if replicas > 1:
        blocked |= {n: template.others[n] for n in ("preferred", "spread") if n in template.others}
    return blocked


def place(template: Template, graviton: int, replicas: int) -> dict[str, Any]:
    """Return the fields to set so that ``graviton`` of ``replicas`` pods run on Graviton.

    Fields taken by force stay in the result, with the application's own value when nothing of
    ours is needed there: giving one up would delete it.

    Args:
        template: The workload's pod template.
        graviton: 0 to ``replicas``; with 0 replicas, 0.
        replicas: Number of pods.

    Returns:
        Field name to value.
    """
    fields: dict[str, Any] = {name: taken.value for name, taken in template.taken.items() if taken.value}
    if 0 < graviton < replicas:
        side = preferred_side(graviton, replicas)
        fields["spread"] = _spread(template, max_skew(graviton, replicas))
        fields["preferred"] = _preferred(template.own("preferred"), side)
        if template.competing and "tolerations" not in template.others:
            taint = side_taint(side)
            ours = {"key": taint.key, "operator": "Exists", "effect": taint.effect}
            fields["tolerations"] = [*(template.own("tolerations") or ()), ours]
    else:
        fields |= pin(template, ARM64 if graviton else AMD64)
    return copy.deepcopy(fields)


def pin(template: Template, architecture: Architecture) -> dict[str, Any]:
    """Return the fields that keep all pods on one architecture.

    The node selector is the second choice because people write selectors more often than
    required affinities; where both are free either would do.
    """
    if "required" in template.others and "node-selector" not in template.others:
        return {"node-selector": {**(template.own("node-selector") or {}), ARCH_LABEL: architecture}}
    expression = {"key": ARCH_LABEL, "operator": "In", "values": [architecture]}
    own = (template.own("required") or {}).get("nodeSelectorTerms") or []
    # Terms are ORed, the expressions of one are ANDed: ours goes into every term, or a pod
    # could pick a term without it.
    merged = [
        {**term, "matchExpressions": [*(term.get("matchExpressions") or ()), expression]}
        # An empty term of the application matches no node, and must go on to.
        if not own or term.get("matchExpressions") or term.get("matchFields")
        else term
        for term in own or [{}]
    ]
    return {"required": {"nodeSelectorTerms": merged}}


def _preferred(own: Sequence[Mapping[str, Any]] | None, side: Architecture) -> list[dict[str, Any]]:
    ours = {
        "weight": WEIGHT,
        "preference": {"matchExpressions": [{"key": ARCH_LABEL, "operator": "In", "values": [side]}]},
    }
    own = own or ()
    spare, excess = max(0, OTHER_WEIGHT - len(own)), sum(term["weight"] - 1 for term in own)
    # Each keeps at least 1, the API's minimum; what is left is shared in their proportions.
    scale = min(1.0, spare / excess) if excess else 1.0
    theirs = [{**term, "weight": 1 + int((term["weight"] - 1) * scale)} for term in own]
    return [*theirs, ours]


def _spread(template: Template, skew: int) -> dict[str, Any]:
    return {
        **_SPREAD,
        "maxSkew": skew,
        "labelSelector": template.selector or {},
        # Each revision is counted by itself; otherwise a rolling update would count the old
        # pods and end skewed (kubernetes/kubernetes#98215).
        "matchLabelKeys": [template.revision_label],
        # Tainted nodes that the pods cannot use must not count as an empty side.
        "nodeTaintsPolicy": "Honor",
    }
