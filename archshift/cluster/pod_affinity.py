"""Which pods a label selector of a spread constraint or of a pod (anti-)affinity term selects. Pure.

The scheduler's rules: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

from collections.abc import Mapping
from typing import Any, Final

from archshift.cluster.model import Workload
from archshift.cluster.scheduling import label_selector_matches, matches

_NAMESPACE_NAME: Final = "kubernetes.io/metadata.name"
"""Every namespace has its name in this label. archshift does not read the other labels of namespaces."""


def selects_own_pods(rule: Mapping[str, Any], workload: Workload) -> bool:
    """Return whether a workload's spread constraint or term selects the workload's own pods."""
    return selects(rule, workload, workload)


def selects(rule: Mapping[str, Any], owner: Workload, target: Workload) -> bool:
    """Return whether a rule of one workload selects the pods of another workload.

    Args:
        rule: A spread constraint or a pod (anti-)affinity term.
        owner: The workload whose pods have the rule.
        target: The other workload, or the same.
    """
    selector = rule.get("labelSelector")
    if selector is None or not _in_scope(rule, owner.namespace, target.namespace):
        return False
    labels = target.template.labels
    same = owner.key == target.key
    return label_selector_matches(selector, labels) and all(
        _meets_key(key, owner, target, same) == wanted
        for keys, wanted in (("matchLabelKeys", True), ("mismatchLabelKeys", False))
        for key in rule.get(keys) or ()
        # The scheduler ignores keys that the pod lacks.
        if key in owner.template.labels or key == owner.template.revision_label
    )


def _meets_key(key: str, owner: Workload, target: Workload, same: bool) -> bool:
    if key == owner.template.revision_label:
        return same
    return owner.template.labels.get(key) == target.template.labels.get(key)


def _in_scope(rule: Mapping[str, Any], own: str, namespace: str) -> bool:
    """Return whether a rule looks at pods of a namespace."""
    names, selector = rule.get("namespaces") or (), rule.get("namespaceSelector")
    if not names and selector is None:
        return namespace == own
    return namespace in names or (selector is not None and _may_select_namespace(selector, namespace))


def _may_select_namespace(selector: Mapping[str, Any], namespace: str) -> bool:
    """Return whether a selector may select a namespace; an unread label counts as matching."""
    expressions = [
        *(
            {"key": k, "operator": "In", "values": [v]}
            for k, v in (selector.get("matchLabels") or {}).items()
        ),
        *(selector.get("matchExpressions") or ()),
    ]
    return all(
        matches({_NAMESPACE_NAME: namespace}, expression)
        for expression in expressions
        if expression["key"] == _NAMESPACE_NAME
    )
