"""Placement at admission: the policies with which the API server places each new pod. Pure.

A policy is an expression in CEL (https://kubernetes.io/docs/reference/using-api/cel/). It runs inside the
API server when a pod of its namespace is created. It finds the workload's entry in its own text
(archshift/cluster/entries.py), and sets the fields that ``placement.place`` gives for the pod's own spec.
``place`` stays the definition: tests/lab/test_admission_expression.py compares both for thousands of pods.

===================================================  =====================================================
the pod                                              what the policy does
===================================================  =====================================================
belongs to a DaemonSet, or has a node name           nothing
decides its architecture itself                      nothing
its workload has an entry                            sets the fields, and an annotation with the entry
its workload has an invalid entry, or is left alone  nothing
has no entry, chose Graviton or another system       nothing
has no entry otherwise                               pins it to the side of ``others``
===================================================  =====================================================

A pod decides itself if its node selector names an architecture, or its required affinity excludes one. A
hard spread over architectures of its own decides about shares.

A spread counts the pods of one revision. The label of the ReplicaSet's maker names it, or that of
StatefulSets, which custom controllers set as well. All pods of a ReplicaSet without a maker have the same
labels. Other pods (of a Job, or of a controller without such a label) can be pinned or prefer a side. The
policy ignores any other share of theirs, and the planner gives them none.

Facts of the API server (1.36.3) that decide the form of the expression:

- A patch with a list of typed objects panics, and then there is no pod although the failure policy is Ignore.
  Plain maps do not panic. Their values have the type ``dyn``, because a map must not mix types.
- A patch into a missing parent fails, so the expression adds the parent first.
- A value of a wrong type refuses the pod. So the expression copies no numbers of the application except
  weights, because CEL makes text of large numbers.
- Only the expression of a mutation can make patches.
- A policy with parameters in ConfigMaps stops for good when no policy with such parameters was there for a
  second: the API server stops its shared informer and never starts it again
  (k8s.io/apiserver/pkg/admission/plugin/policy/generic/policy_source.go). So the entries are in the policy.
- The API server compiles changed policies once a second. A literal has at most 100,000 characters
  (github.com/google/cel-go/parser).
"""

import json
from collections.abc import Mapping
from functools import cache
from string import Template
from typing import Any, Final

from archshift.cluster.entries import (
    GRAVITON_LABELS,
    NO_ZONES,
    OTHERS,
    PIN,
    PLACED_ANNOTATION,
    SHARE,
    as_text,
    policy_name,
)
from archshift.cluster.kinds import CONTROLLERS, UNREAD
from archshift.cluster.live_placement import (
    BINDING_KIND,
    ENTRIES_VARIABLE,
    NAMESPACE_LABEL,
    POLICIES,
    POLICY_KIND,
)
from archshift.cluster.pod_fields import (
    DEFAULT_SPREADS,
    SPREADS,
    WEIGHT,
    toleration_of,
    weighted_preferences,
)
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64
from archshift.common.kubernetes import ARCH_LABEL, ARCH_LABELS, OS_LABEL, STACK_LABEL
from archshift.plan.placement import OTHER_WEIGHT

_MAKERS: Final = {
    record.revision_label: kind
    for kind, record in (*CONTROLLERS.items(), *UNREAD.items())
    if record.through == "ReplicaSet"
}
"""The label with which a maker of ReplicaSets names a revision, to the maker's kind."""


def _spread(name: str, skew: str, more: str = "") -> str:
    """Return the CEL map of one of ``SPREADS``, as ``pod_fields.spread_constraint`` makes it."""
    keys = "".join(f"{key!r}: dyn({value!r}), " for key, value in SPREADS[name].items())
    ours = "'labelSelector': dyn(variables.counted), 'matchLabelKeys': dyn(variables.revision)"
    return f"{{{keys}'maxSkew': dyn({skew}), {ours}{more}}}"


def _default_spread(name: str) -> str:
    least = DEFAULT_SPREADS[name]
    fixed = f"variables.most / 2 > {least} ? variables.most / 2 : {least}"
    return _spread(name, f"variables.scales ? 1 : {fixed}")


def _weighted(side: str) -> str:
    """Return the CEL lists of the terms that ``weighted_preferences`` makes, by a side in CEL."""
    one, any_side = (term["preference"]["matchExpressions"] for term in weighted_preferences(AMD64, 50))

    def term(points: str, expressions: Any) -> str:
        maps = ", ".join(
            "{" + ", ".join(f"{key!r}: dyn({_cel_value(value)})" for key, value in each.items()) + "}"
            for each in expressions
        )
        return f"[{{'weight': dyn({points}), 'preference': dyn({{'matchExpressions': [{maps}]}})}}]"

    rest = f"{WEIGHT} - variables.weight"
    mine = term("variables.weight", one).replace(json.dumps([AMD64]), f"[{side}]")
    return (
        f"(variables.weight > 0 ? {mine} : []) + (variables.weight < {WEIGHT} ? {term(rest, any_side)} : [])"
    )


def _cel_value(value: Any) -> str:
    return json.dumps([*value] if isinstance(value, tuple | list) else value)


_WORDS: Final = {
    name: json.dumps(value)
    for name, value in {
        "AMD64": AMD64,
        "ARCHITECTURES": ARCHITECTURES,
        "ARCH": ARCH_LABEL,
        "ARCH_LABELS": ARCH_LABELS,
        "ARM64": ARM64,
        "KIND_OF": _MAKERS,
        "MAKER_LABELS": tuple(_MAKERS),
        "OS": OS_LABEL,
        "OTHER_WEIGHT": OTHER_WEIGHT,
        "PIN": f"^(?:{PIN.pattern})$",
        "PLACED": PLACED_ANNOTATION,
        "REVISION": CONTROLLERS["StatefulSet"].revision_label,
        "SHARE": f"^(?:{SHARE.pattern})$",
        "TOLERATION_OF": {side: toleration_of(side) for side in ARCHITECTURES},
        "WEIGHT": WEIGHT,
    }.items()
} | {
    "ARCH_SPREAD": _spread("spread", "variables.skew", ", 'nodeTaintsPolicy': dyn('Honor')"),
    "SOFT_SPREAD": _spread("soft-spread", "int(variables.words[8])"),
    "WEIGHTED": _weighted("variables.side"),
    "NODE_SPREAD": _default_spread("node-spread"),
    "ZONE_SPREAD": _default_spread("zone-spread"),
    "preferred": "preferredDuringSchedulingIgnoredDuringExecution",
    "required": "requiredDuringSchedulingIgnoredDuringExecution",
}
"""What the CEL below names with a dollar sign."""

_MOST_LINES: Final = 250
"""The most entries in one literal: 253 characters of a key and 40 of a value are below CEL's limit."""

_VARIABLES: Final = {
    "others": "",
    "zones": "",
    "pairs": "",
    # What the pod has.
    "labels": "object.metadata.?labels.orValue({})",
    "selector": "object.spec.?nodeSelector.orValue({})",
    "terms": "object.spec.?affinity.?nodeAffinity.?$required.?nodeSelectorTerms.orValue([])",
    "preferences": "object.spec.?affinity.?nodeAffinity.?$preferred.orValue([])",
    "spreads": "object.spec.?topologySpreadConstraints.orValue([])",
    "owners": "object.metadata.?ownerReferences.orValue([]).filter(o, o.?controller.orValue(false))",
    "kind": "size(variables.owners) == 0 ? '' : variables.owners[0].kind",
    "name": "size(variables.owners) == 0 ? '' : variables.owners[0].name",
    # Its workload, as ``Pod.workload`` has it, and what tells the workload's revisions apart.
    "makers": """
        variables.kind != 'ReplicaSet' ? [] : $MAKER_LABELS.filter(label,
            label in variables.labels && variables.labels[label] != '' &&
            variables.name.endsWith('-' + variables.labels[label]) &&
            size(variables.name) > size(variables.labels[label]) + 1)
    """,
    "workload": """
        size(variables.owners) == 0 ? '' :
        size(variables.makers) > 0 ? $KIND_OF[variables.makers[0]] + '.' + variables.name.substring(0,
            size(variables.name) - size(variables.labels[variables.makers[0]]) - 1) :
        variables.kind == 'Job' && variables.name.matches('^.+-[0-9]+$$') ?
            'CronJob.' + variables.name.substring(0, variables.name.lastIndexOf('-')) :
        variables.kind + '.' + variables.name
    """,
    "alone": "variables.kind == 'ReplicaSet' && size(variables.makers) == 0",
    "revision": """
        size(variables.makers) > 0 ? [variables.makers[0]] :
        !variables.alone && $REVISION in variables.labels ? [$REVISION] : []
    """,
    "counted": "variables.alone ? dyn({'matchLabels': variables.labels}) : dyn({})",
    "countable": "variables.alone ? size(variables.labels) > 0 : size(variables.revision) > 0",
    # Whether it decides itself. A mirror pod always has a node name.
    "tied": "variables.kind == 'DaemonSet' || object.spec.?nodeName.orValue('') != ''",
    "pinned": """
        $ARCH_LABELS.exists(label, label in variables.selector) ||
        size(variables.terms) > 0 && !$ARCHITECTURES.all(side, variables.terms.exists(term,
            term.?matchExpressions.orValue([]).all(e, !(e.key in $ARCH_LABELS) ||
                (e.operator == 'In' ? side in e.?values.orValue([]) :
                e.operator == 'NotIn' ? !(side in e.?values.orValue([])) :
                e.operator == 'Exists'))))
    """,
    "linux": """
        object.spec.?os.?name.orValue('') != '' ? object.spec.os.name == 'linux' :
        variables.selector[?$OS].orValue('') != '' ? variables.selector[$OS] == 'linux' :
        !variables.terms.exists(term, term.?matchExpressions.orValue([]).exists(e,
            e.key == $OS && e.operator == 'In' && e.?values.orValue([]) == ['windows']))
    """,
    # Terms are alternatives, and an empty term admits no node.
    "chose_graviton": """
        variables.selector.exists(key, (key + '=' + variables.selector[key]) in variables.pairs) ||
        size(variables.terms) > 0 && variables.terms.all(term,
            !has(term.matchExpressions) && !has(term.matchFields) ||
            term.?matchExpressions.orValue([]).exists(e,
                e.operator == 'In' ?
                    e.?values.orValue([]).all(value, (e.key + '=' + value) in variables.pairs) :
                e.operator == 'Exists' && variables.pairs.exists(pair, pair.startsWith(e.key + '='))))
    """,
    # Its entry, as ``Entry.parse`` reads it.
    "text": "",  # of the part that may have the workload: ``_variables_of``
    "at": "variables.text.indexOf('\\n' + variables.workload + ': ')",
    "entry": """
        variables.tied || variables.pinned ? '' :
        variables.at >= 0 ? variables.text.substring(variables.at + size(variables.workload) + 3,
            variables.text.indexOf('\\n', variables.at + 1)) :
        variables.others.matches($PIN) && variables.linux && !variables.chose_graviton ?
            variables.others : ''
    """,
    "words": "variables.entry.split(' ')",
    "pin": "variables.entry.matches($PIN)",
    "prefers": "size(variables.words) == 7",
    "scales": "size(variables.words) > 7",
    "share": """
        variables.entry.matches($SHARE) && (variables.prefers || variables.countable) &&
        (variables.scales ?
            int(variables.words[0]) <= int(variables.words[2]) && int(variables.words[2]) > 0 :
            int(variables.words[0]) > 0 && int(variables.words[0]) < int(variables.words[2])) &&
        !variables.spreads.exists(s, s.topologyKey == $ARCH &&
            (variables.scales || s.whenUnsatisfiable == 'DoNotSchedule'))
    """,
    # What ``place`` computes.
    "arm64": "int(variables.words[0])",
    "amd64": "int(variables.words[2]) - variables.arm64",
    "most": "variables.arm64 > variables.amd64 ? variables.arm64 : variables.amd64",
    "skew": """
        variables.scales ? int(variables.words[6]) :
        variables.arm64 == variables.amd64 ? 1 :
        2 * variables.most - variables.arm64 - variables.amd64
    """,
    "side": """
        variables.pin ? variables.words[2] :
        variables.prefers ? variables.words[6] :
        variables.scales ? variables.words[10] :
        variables.arm64 >= variables.amd64 ? $ARM64 : $AMD64
    """,
    "weight": "variables.scales ? int(variables.words[11]) : $WEIGHT",
    "spare": """
        size(variables.preferences) < $OTHER_WEIGHT ? $OTHER_WEIGHT - size(variables.preferences) : 0
    """,
    "excess": "variables.preferences.map(p, int(p.weight) - 1).sum()",
    "scale": """
        variables.spare < variables.excess ? double(variables.spare) / double(variables.excess) : 1.0
    """,
    "soft": """
        size(object.spec.?affinity.?podAffinity.?$preferred.orValue([])) > 0 ||
        size(object.spec.?affinity.?podAntiAffinity.?$preferred.orValue([])) > 0 ||
        variables.spreads.exists(s, s.whenUnsatisfiable == 'ScheduleAnyway')
    """,
    "tolerates": """
        variables.scales ? (size(variables.words) > 12 ? variables.words[13] : '') :
        variables.soft ? variables.side : ''
    """,
}
"""Name to CEL. A variable may read those above it. It is evaluated when it is first used, or never.

The empty ones are ``_variables_of`` a namespace's entries.
"""

_PATCHES: Final = {
    "annotate": """
        has(object.metadata.annotations) ?
            [JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey($PLACED),
                value: variables.entry}] :
            [JSONPatch{op: 'add', path: '/metadata/annotations', value: {$PLACED: variables.entry}}]
    """,
    "select": """
        has(object.spec.nodeSelector) ?
            [JSONPatch{op: 'add', path: '/spec/nodeSelector/' + jsonpatch.escapeKey($ARCH),
                value: variables.side}] :
            [JSONPatch{op: 'add', path: '/spec/nodeSelector', value: {$ARCH: variables.side}}]
    """,
    "spread": """
        variables.prefers ? [] :
        size(variables.spreads) > 0 ?
            [JSONPatch{op: 'add', path: '/spec/topologySpreadConstraints/-', value: $ARCH_SPREAD}] +
            (variables.scales ?
                [JSONPatch{op: 'add', path: '/spec/topologySpreadConstraints/-', value: $SOFT_SPREAD}] : []) :
            [JSONPatch{op: 'add', path: '/spec/topologySpreadConstraints', value: [$ARCH_SPREAD] +
                (variables.scales ? [$SOFT_SPREAD] : []) + (variables.zones ? [$ZONE_SPREAD] : []) +
                [$NODE_SPREAD]}]
    """,
    "prefer": """
        (has(object.spec.affinity) ? [] : [JSONPatch{op: 'add', path: '/spec/affinity', value: {}}]) +
        (has(object.spec.affinity) && has(object.spec.affinity.nodeAffinity) ? [] :
            [JSONPatch{op: 'add', path: '/spec/affinity/nodeAffinity', value: {}}]) +
        [JSONPatch{op: 'add', path: '/spec/affinity/nodeAffinity/$preferred', value:
            variables.preferences.map(p, {
                'weight': dyn(1 + int(double(p.weight - 1) * variables.scale)),
                'preference': dyn(p.preference)}) +
            (variables.scales ? $WEIGHTED :
            [{'weight': dyn($WEIGHT), 'preference': dyn({'matchExpressions': [
                {'key': dyn($ARCH), 'operator': dyn('In'), 'values': dyn([variables.side])}]})}])}]
    """,
    "tolerate": """
        variables.tolerates == '' ? [] :
        has(object.spec.tolerations) ?
            [JSONPatch{op: 'add', path: '/spec/tolerations/-', value: $TOLERATION_OF[variables.tolerates]}] :
            [JSONPatch{op: 'add', path: '/spec/tolerations', value: [$TOLERATION_OF[variables.tolerates]]}]
    """,
}
"""What the mutation names with a dollar sign: the patches of each field, and of the annotation."""

_MUTATION: Final = """
    variables.pin ? ($annotate) + ($select) :
    variables.share ? ($annotate) + ($spread) + ($prefer) + ($tolerate) : []
"""


def policy(stack_label: str, namespace: str, data: Mapping[str, str]) -> dict[str, Any]:
    """Return the manifest of the policy that places the new pods of a namespace.

    Args:
        stack_label: The stack, as ``stack_label`` writes it.
        namespace: The namespace.
        data: Its entries.
    """
    pods = {
        "apiGroups": [""],
        "apiVersions": ["v1"],
        "operations": ["CREATE"],
        "resources": ["pods"],
        "scope": "*",
    }
    own, constant = _variables_of(data), _constant_variables()
    # A dict keeps the place of a key: the texts come first, and the others where ``_VARIABLES`` has them.
    variables = {key: text for key, text in own.items() if key not in _VARIABLES}
    variables |= {key: own.get(key) or constant[key] for key in _VARIABLES}
    return {
        "apiVersion": POLICIES.api_version,
        "kind": POLICY_KIND,
        "metadata": _metadata(stack_label, namespace),
        "spec": {
            # If the expression fails, the pod is made as it is. Nobody's pods wait for archshift.
            "failurePolicy": "Ignore",
            "reinvocationPolicy": "Never",
            # With the API server's defaults, because an update changes back only what archshift has set.
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {"matchLabels": {NAMESPACE_LABEL: namespace}},
                "resourceRules": [pods],
            },
            "variables": [{"name": key, "expression": text} for key, text in variables.items()],
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": _mutation()}}],
        },
    }


# The same in each namespace.
@cache
def _constant_variables() -> Mapping[str, str]:
    return {key: _cel(text) for key, text in _VARIABLES.items()}


@cache
def _mutation() -> str:
    return _cel(_MUTATION, {key: _cel(text) for key, text in _PATCHES.items()})


def _variables_of(data: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that hold the entries, in parts: CEL takes time for each character of a text."""
    items = sorted(data.items())
    parts = [dict(items[start : start + _MOST_LINES]) for start in range(0, max(1, len(items)), _MOST_LINES)]
    texts = {f"{ENTRIES_VARIABLE}{number}": as_text(part) for number, part in enumerate(parts)}
    *others, text = (f"variables.{name}" for name in texts)
    for part, following in reversed([*zip(others, parts[1:], strict=True)]):
        text = f"variables.workload < {json.dumps(next(iter(following)))} ? {part} : {text}"
    return {
        **texts,
        "text": text,
        "others": json.dumps(data.get(OTHERS, "")),
        "zones": json.dumps(NO_ZONES not in data),
        "pairs": json.dumps(data.get(GRAVITON_LABELS, "").split()),
    }


def binding(stack_label: str, namespace: str) -> dict[str, Any]:
    """Return the manifest that puts the policy of a namespace into effect.

    Args:
        stack_label: The stack, as ``stack_label`` writes it.
        namespace: The namespace.
    """
    return {
        "apiVersion": POLICIES.api_version,
        "kind": BINDING_KIND,
        "metadata": _metadata(stack_label, namespace),
        "spec": {"policyName": policy_name(stack_label, namespace)},
    }


def _metadata(stack_label: str, namespace: str) -> dict[str, Any]:
    labels = {STACK_LABEL: stack_label, "app.kubernetes.io/managed-by": "archshift"}
    return {"name": policy_name(stack_label, namespace), "labels": labels}


def _cel(text: str, more: Mapping[str, str] | None = None) -> str:
    return " ".join(Template(text).substitute(_WORDS, **(more or {})).split())
