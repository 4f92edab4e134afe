"""Which pods a label selector of a spread constraint or of a pod (anti-)affinity term selects. Pure.

The scheduler's rules: https://kubernetes.io/docs/concepts/scheduling-eviction/assign-pod-node/
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, overload

from archshift.cluster.model import Workload
from archshift.cluster.scheduling import label_selector_matches, matches

_BLOCK: Final = 512
"""How many rows and columns ``transposed`` converts at once."""

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


class PodSets:
    """Answers ``selects`` for many workloads at once.

    A set of workloads is an integer: bit ``i`` stands for the workload at position ``i``. So one operation
    covers thousands of workloads, and a fleet costs far less than its pairs.
    """

    def __init__(self, workloads: Sequence[Workload]) -> None:
        """Build the sets of workloads in this order."""
        self._everything = (1 << len(workloads)) - 1
        self._with_value: dict[str, dict[str, int]] = {}
        self._namespaces: dict[str, int] = {}
        self._scopes: dict[str, int] = {}
        for position, workload in enumerate(workloads):
            self._namespaces[workload.namespace] = self._namespaces.get(workload.namespace, 0) | 1 << position
            for key, value in workload.template.labels.items():
                sets = self._with_value.setdefault(key, {})
                sets[value] = sets.get(value, 0) | 1 << position
        self._with_key = {key: union(sets.values()) for key, sets in self._with_value.items()}

    def selected(self, rule: Mapping[str, Any], owner: Workload, position: int) -> int:
        """Return the set of workloads whose pods a rule selects.

        Args:
            rule: A spread constraint or a pod (anti-)affinity term.
            owner: The workload whose pods have the rule.
            position: The owner's position.
        """
        selector = rule.get("labelSelector")
        if selector is None:
            return 0
        found = self._scope(rule, owner.namespace)
        for key, value in (selector.get("matchLabels") or {}).items():
            found &= self._value(key, value)
        for expression in selector.get("matchExpressions") or ():
            found &= self._matching(expression)
        labels, revision_label = owner.template.labels, owner.template.revision_label
        for keys, wanted in (("matchLabelKeys", True), ("mismatchLabelKeys", False)):
            for key in rule.get(keys) or ():
                if key == revision_label:
                    same = 1 << position
                elif key in labels:
                    same = self._value(key, labels[key])
                else:
                    continue
                found &= same if wanted else ~same
        return found

    def _scope(self, rule: Mapping[str, Any], own: str) -> int:
        names, selector = rule.get("namespaces") or (), rule.get("namespaceSelector")
        if not names and selector is None:
            return self._namespaces.get(own, 0)
        key = json.dumps([names, selector], sort_keys=True)
        if key not in self._scopes:
            self._scopes[key] = union(
                members for namespace, members in self._namespaces.items() if _in_scope(rule, own, namespace)
            )
        return self._scopes[key]

    def _matching(self, expression: Mapping[str, Any]) -> int:
        key, operator = expression["key"], expression["operator"]
        with_key = self._with_key.get(key, 0)
        listed = union(self._value(key, value) for value in expression.get("values") or ())
        match operator:
            case "In":
                return listed
            case "NotIn":
                return self._everything & ~listed
            case "Exists":
                return with_key
            case "DoesNotExist":
                return self._everything & ~with_key
        return 0

    def _value(self, key: str, value: str) -> int:
        return self._with_value.get(key, {}).get(value, 0)


def positions(members: int) -> Iterator[int]:
    """Yield the positions in a set of workloads, the lowest first."""
    while members:
        lowest = members & -members
        yield lowest.bit_length() - 1
        members ^= lowest


def union(sets: Iterable[int]) -> int:
    """Return the set of the workloads that are in any of these sets."""
    found = 0
    for members in sets:
        found |= members
    return found


class Keys(Sequence[str]):
    """The keys of a set of workloads. Of thousands, it only looks up those that are asked for."""

    def __init__(self, members: int, keys: Sequence[str]) -> None:
        """Name the members of a set.

        Args:
            members: The set.
            keys: The key of each position.
        """
        self._members = members
        self._keys = keys

    def __len__(self) -> int:
        """Return the number of the members."""
        return self._members.bit_count()

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[str]: ...

    def __getitem__(self, index: int | slice) -> str | Sequence[str]:
        """Return the key of a member, or of some."""
        chosen = range(len(self))[index]
        if isinstance(chosen, range):
            found = islice(positions(self._members), chosen.start, chosen.stop, chosen.step)
            return [self._keys[position] for position in found]
        return self._keys[next(islice(positions(self._members), chosen, None))]


def transposed(rows: Mapping[int, int], size: int) -> list[int]:
    """Return the sets the other way round: ``i`` is in set ``j`` if ``j`` is in set ``i``.

    Args:
        rows: The sets that are not empty, by position.
        size: How many sets there are to return.
    """
    columns = [0] * size
    for first_row in range(0, size, _BLOCK):
        block = [rows.get(row, 0) for row in range(first_row, min(size, first_row + _BLOCK))]
        inside = union(block)
        for first in range(0, inside.bit_length(), _BLOCK):
            mask = (1 << _BLOCK) - 1
            if not inside >> first & mask:
                continue
            # One text of zeros and ones: the last row first, the highest bit of a row first.
            text = "".join(f"{row >> first & mask:0{_BLOCK}b}" for row in reversed(block))
            for column in range(min(_BLOCK, size - first)):
                columns[first + column] |= int(text[_BLOCK - 1 - column :: _BLOCK], 2) << first_row
    return columns
