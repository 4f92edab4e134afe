"""Which nodes a pod may use: every rule of the scheduler's filter that archshift answers early."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.scheduling import both_required, meets, untolerated
from archshift.nodes.groups import Node, Taint
from tests.build import admits

NODE = Node(name="n1", labels={"zone": "a", "cpus": "8", "word": "many", "empty": ""})


def required(*expressions: dict[str, Any]) -> dict[str, Any]:
    """A required node affinity with one term."""
    return {"nodeSelectorTerms": [{"matchExpressions": list(expressions)}]}


@pytest.mark.parametrize(
    ("key", "operator", "values", "matches"),
    [
        ("zone", "In", ["a", "b"], True),
        ("zone", "In", ["b"], False),
        ("none", "In", ["a"], False),
        ("zone", "NotIn", ["b"], True),
        ("zone", "NotIn", ["a"], False),
        ("none", "NotIn", ["a"], True),
        ("empty", "Exists", [], True),
        ("none", "Exists", [], False),
        ("none", "DoesNotExist", [], True),
        ("empty", "DoesNotExist", [], False),
        ("cpus", "Gt", ["4"], True),
        ("cpus", "Gt", ["8"], False),
        ("cpus", "Lt", ["16"], True),
        ("cpus", "Lt", ["8"], False),
        ("word", "Gt", ["4"], False),
        ("none", "Lt", ["4"], False),
        ("cpus", "Gt", [], False),
        ("zone", "Resembles", ["a"], False),
    ],
)
def test_operators_of_required_affinity(key: str, operator: str, values: list[str], matches: bool) -> None:
    """As the API defines them; an operator from the future does not count as fitting."""
    expression = {"key": key, "operator": operator, **({"values": values} if values else {})}
    assert admits(NODE, None, required(expression)) is matches


def test_expressions_are_anded_and_terms_are_ored() -> None:
    """One matching term is enough, but all of it."""
    good = {"key": "zone", "operator": "In", "values": ["a"]}
    bad = {"key": "zone", "operator": "In", "values": ["b"]}
    assert not admits(NODE, None, required(good, bad))
    assert admits(
        NODE, None, {"nodeSelectorTerms": [{"matchExpressions": [bad]}, {"matchExpressions": [good]}]}
    )


@pytest.mark.parametrize(
    ("names", "operator", "matches"),
    [(["n1"], "In", True), (["n2"], "In", False), (["n1"], "NotIn", False)],
)
def test_match_fields_select_by_the_nodes_name(names: list[str], operator: str, matches: bool) -> None:
    """metadata.name is the one field; it is ANDed with the expressions."""
    fields = [{"key": "metadata.name", "operator": operator, "values": names}]
    assert admits(NODE, None, {"nodeSelectorTerms": [{"matchFields": fields}]}) is matches
    elsewhere = {"key": "zone", "operator": "In", "values": ["b"]}
    assert not admits(
        NODE, None, {"nodeSelectorTerms": [{"matchFields": fields, "matchExpressions": [elsewhere]}]}
    )


@pytest.mark.parametrize("terms", [[{}], [{"matchExpressions": []}], [{"matchExpressions": None}], []])
def test_empty_terms_match_nothing(terms: list[dict[str, Any]]) -> None:
    """An affinity that says nothing admits no node; it is not the same as no affinity."""
    assert not admits(NODE, None, {"nodeSelectorTerms": terms})
    assert admits(NODE, None, None)


@pytest.mark.parametrize(
    ("selector", "matches"),
    [
        (None, True),
        ({}, True),
        ({"zone": "a"}, True),
        ({"zone": "a", "cpus": "8"}, True),
        ({"zone": "b"}, False),
        ({"none": ""}, False),
    ],
)
def test_a_node_selector_needs_every_label(selector: dict[str, str] | None, matches: bool) -> None:
    """A missing label is not an empty one."""
    assert admits(NODE, selector, None) is matches


@pytest.mark.parametrize(
    ("value", "operator", "bound", "tolerates"),
    [
        ("950", "Gt", "900", True),
        ("950", "Gt", "950", False),
        ("950", "Gt", "990", False),
        ("950", "Lt", "990", True),
        ("950", "Lt", "950", False),
        ("high", "Gt", "900", False),
        ("950", "Gt", "", False),
        ("950", "Like", "950", False),
    ],
)
def test_a_toleration_can_compare_numbers(value: str, operator: str, bound: str, tolerates: bool) -> None:
    """Kubernetes 1.35 has Gt and Lt; whatever comes next is never a yes."""
    taint = Taint(key="example.com/sla", value=value)
    toleration = {"key": "example.com/sla", "operator": operator, "value": bound}
    assert (untolerated([taint], [toleration]) == []) is tolerates
    assert untolerated([taint], [{**toleration, "key": "other"}]) == [taint]


TAINT = Taint(key="dedicated", value="batch", effect="NoSchedule")


@pytest.mark.parametrize(
    ("toleration", "tolerates"),
    [
        ({"key": "dedicated", "operator": "Equal", "value": "batch", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "batch"}, True),
        ({"key": "dedicated", "value": "batch", "effect": ""}, True),
        ({"key": "dedicated", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"operator": "Exists", "effect": "NoSchedule"}, True),
        ({"key": "dedicated", "value": "web"}, False),
        ({"key": "dedicated"}, False),
        ({"key": "other", "operator": "Exists"}, False),
        ({"key": "dedicated", "operator": "Exists", "effect": "NoExecute"}, False),
    ],
)
def test_a_taint_needs_a_matching_toleration(toleration: dict[str, str], tolerates: bool) -> None:
    """Key, value and effect, with the API's wildcards."""
    assert untolerated([TAINT], [toleration]) == ([] if tolerates else [TAINT])
    node = Node(name="n", labels={}, taints=(TAINT,))
    assert admits(node, None, None, [toleration]) is tolerates


def test_a_toleration_without_a_value_meets_a_taint_without_one() -> None:
    """``key: spot`` alone is a complete pair on both sides."""
    assert untolerated([Taint(key="spot")], [{"key": "spot"}]) == []


def test_soft_taints_keep_nobody_away() -> None:
    """PreferNoSchedule is a wish; NoExecute is as hard as NoSchedule."""
    soft, hard = Taint(key="a", effect="PreferNoSchedule"), Taint(key="b", effect="NoExecute")
    assert untolerated([soft, hard], []) == [hard]


TERMS = st.lists(
    st.builds(
        lambda key, value: {"matchExpressions": [{"key": key, "operator": "In", "values": [value]}]},
        st.sampled_from("ab"),
        st.sampled_from("xy"),
    )
    | st.just({}),
    min_size=1,
    max_size=3,
)
ANY_REQUIRED = st.none() | st.builds(lambda terms: {"nodeSelectorTerms": terms}, TERMS)


@given(ANY_REQUIRED, ANY_REQUIRED, st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy")))
def test_two_required_affinities_as_one(
    first: dict[str, Any] | None, second: dict[str, Any] | None, labels: dict[str, str]
) -> None:
    """A node meets the result if it meets both."""
    node = Node(name="n", labels=labels)
    both = meets(node, None, first) and meets(node, None, second)
    assert meets(node, None, both_required(first, second)) is both
