"""The manifests of the policy. tests/lab/test_admission_expression.py runs its expression."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.entries import GRAVITON_LABELS, OTHERS, PIN, PLACED_ANNOTATION, SHARE, Scaling
from archshift.cluster.kinds import CONTROLLERS, UNREAD
from archshift.cluster.live_placement import BINDING_KIND, BINDINGS, POLICIES, POLICY_KIND, entries_in
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
from archshift.plan.admission import binding, policy
from archshift.plan.placement import OTHER_WEIGHT, place

DATA = {"Deployment.cart": "2 of 4 on arm64", OTHERS: "all on amd64", GRAVITON_LABELS: "pool=arm zone=a"}
POLICY, BINDING = policy("prod", "shop", DATA), binding("prod", "shop")
SPEC = POLICY["spec"]
VARIABLES = {variable["name"]: variable["expression"] for variable in SPEC["variables"]}
(MUTATION,) = (mutation["jsonPatch"]["expression"] for mutation in SPEC["mutations"])
EXPRESSIONS = [*VARIABLES.values(), MUTATION]


def test_no_pod_is_refused_or_awaits_archshift() -> None:
    """Neither an error of the expression, nor another policy's change."""
    assert SPEC["failurePolicy"] == "Ignore"
    assert SPEC["reinvocationPolicy"] == "Never"


def test_only_the_creation_of_pods_of_the_namespace_is_looked_at() -> None:
    (rule,) = SPEC["matchConstraints"]["resourceRules"]
    pods = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    assert rule == {**pods, "scope": "*"}
    labels = SPEC["matchConstraints"]["namespaceSelector"]["matchLabels"]
    assert labels == {"kubernetes.io/metadata.name": "shop"}


def test_the_binding_names_the_policy_which_needs_no_parameters() -> None:
    """The API server stops reading ConfigMaps for good when no policy has them as parameters for a second."""
    assert BINDING["spec"] == {"policyName": POLICY["metadata"]["name"]}
    assert BINDING["metadata"] == POLICY["metadata"]
    assert "paramKind" not in SPEC


def test_both_kinds_are_those_that_are_looked_for() -> None:
    """The doctor and the survey look for what the program registers, by its label."""
    assert (POLICY["apiVersion"], POLICY["kind"]) == (POLICIES.api_version, POLICY_KIND)
    assert (BINDING["apiVersion"], BINDING["kind"]) == (BINDINGS.api_version, BINDING_KIND)
    assert POLICY["metadata"]["labels"]["archshift/stack"] == "prod"


def test_a_person_can_read_the_entries_in_the_policy() -> None:
    """A line each, and archshift reads the same back."""
    assert VARIABLES["entries_0"].splitlines()[1:-1] == [
        "Deployment.cart: 2 of 4 on arm64",
        "graviton-labels: pool=arm zone=a",
        "others: all on amd64",
    ]
    assert entries_in(POLICY) == DATA


@given(
    st.dictionaries(
        st.from_regex(r"[A-Z][-.a-z0-9]{0,40}", fullmatch=True), st.just("all on arm64"), max_size=2000
    )
)
def test_a_policy_holds_any_number_of_entries(data: dict[str, str]) -> None:
    """In parts, because CEL has a limit and takes time for each character; all of them come back."""
    made = policy("prod", "shop", data)
    assert entries_in(made) == data
    assert all(len(each["expression"]) < 100_000 for each in made["spec"]["variables"])


@pytest.mark.parametrize("bad", [{"Deployment.x'''": "all on arm64"}, {"Deployment.x": "a\nb: c"}, {"": "x"}])
def test_no_entry_ends_the_text(bad: dict[str, str]) -> None:
    """Names and labels come from the cluster."""
    with pytest.raises(ValueError, match=": "):
        policy("prod", "shop", bad)


@pytest.mark.parametrize(
    "constant",
    [
        ARCH_LABEL,
        ARCH_LABELS,
        ARCHITECTURES,
        OS_LABEL,
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
    """Nothing is left to fill in; only the entries have a line each."""
    assert [name for name, text in VARIABLES.items() if "\n" in text] == ["entries_0"]
    for text in EXPRESSIONS[1:]:
        # The dollar sign is the end of a pattern.
        assert "$" not in text.replace("$'", "").replace('$"', "")
        assert text == " ".join(text.split())


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
    scaling = Scaling(within=3, spread=2, side=AMD64, weight=50)
    fields = place(template, 1, 3, scaling=scaling)
    for name in SPREADS:
        assert fields[name]["labelSelector"] == {"matchLabels": {"app": "cart"}}
        assert "matchLabelKeys" not in fields[name]
