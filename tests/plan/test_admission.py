"""The manifests of the policy. tests/lab/test_admission_expression.py runs its expression."""

import json
import re
from typing import Any

import pytest

from archshift.cluster.entries import GRAVITON_LABELS, NO_ZONES, OTHERS, PIN, PLACED_ANNOTATION, SHARE
from archshift.cluster.kinds import CONTROLLERS, UNREAD
from archshift.cluster.live_placement import BINDINGS, POLICIES, POLICY_KIND
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import (
    DEFAULT_SPREADS,
    SPREADS,
    WEIGHT,
    Template,
    spread_constraint,
    toleration_of,
)
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture
from archshift.common.kubernetes import ARCH_LABEL, ARCH_LABELS, OS_LABEL
from archshift.plan.admission import BINDING_KIND, binding, policy
from archshift.plan.placement import OTHER_WEIGHT, place

NAME = "archshift-placement-prod"
SPEC = policy(NAME)["spec"]
VARIABLES = {variable["name"]: variable["expression"] for variable in SPEC["variables"]}
(MUTATION,) = (mutation["jsonPatch"]["expression"] for mutation in SPEC["mutations"])
EXPRESSIONS = [*VARIABLES.values(), MUTATION]


def test_no_pod_is_refused_or_awaits_archshift() -> None:
    """Neither an error of the expression, nor a missing ConfigMap, nor another policy's change."""
    assert SPEC["failurePolicy"] == "Ignore"
    assert SPEC["reinvocationPolicy"] == "Never"
    assert binding(NAME)["spec"]["paramRef"]["parameterNotFoundAction"] == "Allow"


def test_only_the_creation_of_pods_is_looked_at() -> None:
    (rule,) = SPEC["matchConstraints"]["resourceRules"]
    assert rule == {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}


def test_the_binding_names_the_policy_and_the_config_map_in_each_pods_own_namespace() -> None:
    """A parameter without a namespace is looked up in the namespace of the pod."""
    spec = binding(NAME)["spec"]
    assert spec["policyName"] == policy(NAME)["metadata"]["name"] == binding(NAME)["metadata"]["name"]
    assert spec["paramRef"] == {"name": NAME, "parameterNotFoundAction": "Allow"}
    assert SPEC["paramKind"] == {"apiVersion": "v1", "kind": "ConfigMap"}


def test_both_kinds_are_those_that_are_looked_for() -> None:
    """The doctor and the survey look for what the program registers."""
    assert (policy(NAME)["apiVersion"], policy(NAME)["kind"]) == (POLICIES.api_version, POLICY_KIND)
    assert (binding(NAME)["apiVersion"], binding(NAME)["kind"]) == (BINDINGS.api_version, BINDING_KIND)


@pytest.mark.parametrize(
    "constant",
    [
        ARCH_LABEL,
        ARCH_LABELS,
        ARCHITECTURES,
        GRAVITON_LABELS,
        NO_ZONES,
        OS_LABEL,
        OTHERS,
        OTHER_WEIGHT,
        PLACED_ANNOTATION,
        WEIGHT,
        f"^(?:{PIN.pattern})$",
        f"^(?:{SHARE.pattern})$",
        "Deployment",
        *UNREAD,
        *(record.revision_label for record in (*CONTROLLERS.values(), *UNREAD.values())),
        *map(toleration_of, ARCHITECTURES),
        *DEFAULT_SPREADS.values(),
    ],
    ids=str,
)
def test_the_expression_has_each_constant(constant: Any) -> None:
    """The expression cannot import them, so they are written into it."""
    assert any(json.dumps(constant) in text for text in EXPRESSIONS)


@pytest.mark.parametrize("name", SPREADS)
def test_the_expression_has_the_form_of_each_spread(name: str) -> None:
    """The same fields with the same values, but for those that depend on the pod."""
    depends = {"maxSkew", "labelSelector", "matchLabelKeys"}
    for key, value in spread_constraint(name, 1, None, "pod-template-hash").items():
        assert f"'{key}': dyn({'' if key in depends else repr(value)}" in MUTATION


def test_each_variable_is_read_and_none_before_it_is_there() -> None:
    """The API server refuses a policy that reads a variable above its definition."""
    known: set[str] = set()
    read: set[str] = set()
    for name, text in VARIABLES.items():
        assert set(re.findall(r"variables\.(\w+)", text)) <= known
        read |= set(re.findall(r"variables\.(\w+)", text))
        known.add(name)
    used = set(re.findall(r"variables\.(\w+)", MUTATION))
    assert used <= known
    assert used | read == known


def test_the_expression_is_plain_text_on_one_line() -> None:
    """Nothing is left to fill in, and a preview shows a change as one."""
    for text in EXPRESSIONS:
        # The dollar sign is the end of a pattern.
        assert "$" not in text.replace("$'", "").replace('$"', "")
        assert text == " ".join(text.split())


def test_the_config_map_is_converted_once_for_a_pod() -> None:
    """The API server converts it for each mutation and for match conditions: 2 ms for 5,000 entries."""
    assert len(SPEC["mutations"]) == 1
    assert "matchConditions" not in SPEC


@pytest.mark.parametrize(("graviton", "side"), [(0, AMD64), (3, ARM64)])
def test_a_pod_is_pinned_by_its_selector_whatever_else_it_has(graviton: int, side: Architecture) -> None:
    """Nobody owns a field of a pod that is being made, and the selector leaves the affinity as it is."""
    required = {"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]}
    for foreign in ({}, {"node-selector": FieldOwner("helm", "Apply")}):
        template = Template(
            spec={"node-selector": {"disk": "ssd"}, "required": required}, foreign_owners=foreign
        )
        assert place(template, graviton, 3, by_selector=True) == {
            "node-selector": {"disk": "ssd", ARCH_LABEL: side}
        }
    assert place(Template(), graviton, 3, by_selector=True) == {"node-selector": {ARCH_LABEL: side}}


def test_only_pins_differ_from_those_of_a_template() -> None:
    for graviton in (1, 2):
        assert place(Template(), graviton, 3, by_selector=True) == place(Template(), graviton, 3)


def test_without_a_revision_label_the_selector_alone_counts() -> None:
    """A ReplicaSet without a maker has one revision."""
    template = Template(selector={"matchLabels": {"app": "cart"}}, revision_label="")
    fields = place(template, 1, 3)
    for name in SPREADS:
        assert fields[name]["labelSelector"] == {"matchLabels": {"app": "cart"}}
        assert "matchLabelKeys" not in fields[name]
