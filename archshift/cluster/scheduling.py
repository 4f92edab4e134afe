"""Which nodes a pod may use: node selectors, required node affinity and taints.

This is the part of the scheduler's filter that decides whether a workload can run on an architecture
(https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/). The scheduler places the pods;
archshift predicts what it would refuse.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, Literal, TypeAlias

from archshift.nodes.groups import Node, Taint

Source: TypeAlias = Literal[
    "own rules", "taint", "runtime class", "admission", "node name", "system", "device", "volume"
]
"""What can keep a pod off a node. plan/reasons.py has the words for each."""


@dataclass(frozen=True, slots=True)
class Unmet:
    """Why no node of several can run a pod.

    Attributes:
        source: The rule that the last of these nodes breaks.
        name: The name of the taint, RuntimeClass, node, operating system, device or claim; empty for others.
        detail: More about it: a volume's zone or node, the amount of a device.
    """

    source: Source
    name: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A rule for nodes that does not come from the workload's own placement fields.

    Attributes:
        unmet: The answer for nodes that do not meet it.
        selector: The labels that a node must have.
        required: A required node affinity: ``{"nodeSelectorTerms": [...]}``; None for none.
    """

    unmet: Unmet
    selector: Mapping[str, str] = field(default_factory=dict)
    required: Mapping[str, Any] | None = None

    def unmet_by(self, node: Node) -> Unmet | None:
        """Return why a node does not meet it; None if it does."""
        return None if meets(node, self.selector, self.required) else self.unmet


def both_required(
    first: Mapping[str, Any] | None, second: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """Return a required node affinity for the nodes that meet both."""
    if not first or not second:
        return first or second
    terms = [
        {key: [*(one.get(key) or ()), *(other.get(key) or ())] for key in ("matchExpressions", "matchFields")}
        for one, other in product(first.get("nodeSelectorTerms") or (), second.get("nodeSelectorTerms") or ())
        # An empty term matches no node, alone and together with another.
        if all(term.get("matchExpressions") or term.get("matchFields") for term in (one, other))
    ]
    return {"nodeSelectorTerms": [{k: v for k, v in term.items() if v} for term in terms] or [{}]}


def meets(node: Node, node_selector: Mapping[str, str] | None, required: Mapping[str, Any] | None) -> bool:
    """Return whether a node meets a node selector and a required node affinity."""
    selected = [
        {"key": key, "operator": "In", "values": [value]} for key, value in (node_selector or {}).items()
    ]
    if not required:
        return _meets(node, selected)
    terms = required.get("nodeSelectorTerms") or ()
    return any(_term_matches(node, term, selected) for term in terms)


def untolerated(taints: Iterable[Taint], tolerations: Sequence[Mapping[str, Any]]) -> list[Taint]:
    """Return the taints that these tolerations do not cover, so that the pod cannot run there."""
    return [
        taint
        for taint in taints
        if taint.hard and not any(_tolerates(toleration, taint) for toleration in tolerations)
    ]


def _tolerates(toleration: Mapping[str, Any], taint: Taint) -> bool:
    if toleration.get("effect") not in (None, "", taint.effect):
        return False
    key = toleration.get("key")
    match toleration.get("operator") or "Equal":
        case "Exists":
            return key in (None, "", taint.key)
        case "Equal":
            return key == taint.key and toleration.get("value", "") == taint.value
        case ("Gt" | "Lt") as operator if key == taint.key:
            return _compares(taint.value, operator, toleration.get("value", ""))
    # A newer Kubernetes may have other operators. The pod may not fit, so it counts as not fitting.
    return False


def _compares(value: str, operator: str, bound: str) -> bool:
    """Return whether a number is above (``Gt``) or below (``Lt``) a bound.

    Text that is not a whole number is neither above nor below.
    """
    try:
        number, limit = int(value), int(bound)
    except ValueError:
        return False
    return number > limit if operator == "Gt" else number < limit


def _term_matches(node: Node, term: Mapping[str, Any], selected: Sequence[Mapping[str, Any]]) -> bool:
    expressions = term.get("matchExpressions") or ()
    fields = term.get("matchFields") or ()
    # The API defines that an empty term matches no node.
    if not expressions and not fields:
        return False
    return _meets(node, [*selected, *expressions]) and all(
        matches({"metadata.name": node.name}, expression) for expression in fields
    )


def _meets(node: Node, expressions: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether a node meets all expressions, with one of its variants and possible values."""
    by_label: dict[str, list[Mapping[str, Any]]] = {}
    for expression in expressions:
        by_label.setdefault(expression["key"], []).append(expression)
    # With each variant, the other labels have the same values.
    same = {label: wanted for label, wanted in by_label.items() if node.varying and label not in node.varying}
    if not all(_label_meets(node, {}, label, wanted) for label, wanted in same.items()):
        return False
    rest = [(label, wanted) for label, wanted in by_label.items() if label not in same]
    return not rest or any(
        all(_label_meets(node, variant, label, wanted) for label, wanted in rest)
        for variant in node.variants or ({},)
    )


def _label_meets(
    node: Node, variant: Mapping[str, str], label: str, wanted: Sequence[Mapping[str, Any]]
) -> bool:
    values = node.values(label, variant)
    if not values:
        return node.unknown_fits
    return any(
        all(matches({} if value is None else {label: value}, expression) for expression in wanted)
        for value in values
    )


def label_selector_matches(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Return whether labels meet a label selector; an empty selector selects everything."""
    return all(
        labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()
    ) and all(matches(labels, expression) for expression in selector.get("matchExpressions") or ())


def matches(labels: Mapping[str, str], expression: Mapping[str, Any]) -> bool:
    """Return whether labels meet one expression of a node selector term."""
    key, operator = expression["key"], expression["operator"]
    values: Sequence[str] = expression.get("values") or ()
    value = labels.get(key)
    match operator:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt":
            return _compares(value or "", operator, next(iter(values), ""))
    # A newer Kubernetes may have other operators. The pod may not fit, so it counts as not fitting.
    return False
