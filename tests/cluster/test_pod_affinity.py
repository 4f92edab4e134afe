"""Which pods a rule selects: asked for one workload, and for many at once."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.model import Workload
from archshift.cluster.pod_affinity import Keys, PodSets, positions, selects, transposed
from archshift.cluster.pod_fields import Template
from tests.build import deployment

VALUES = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from(["app", "tier", "pod-template-hash"])
EXPRESSIONS = st.fixed_dictionaries(
    {
        "key": KEYS,
        "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Unheard"]),
        "values": st.none() | st.lists(VALUES, max_size=2),
    }
)
SELECTORS = st.fixed_dictionaries(
    {
        "matchLabels": st.none() | st.dictionaries(KEYS, VALUES, max_size=1),
        "matchExpressions": st.none() | st.lists(EXPRESSIONS, max_size=2),
    }
)
NAME = "kubernetes.io/metadata.name"
NAMESPACES = st.sampled_from(["shop", "bank", "fund"])
NAMESPACE_SELECTORS = st.sampled_from([{}, {"matchLabels": {"team": "a"}}]) | st.builds(
    lambda name, operator: {"matchExpressions": [{"key": NAME, "operator": operator, "values": [name]}]},
    NAMESPACES,
    st.sampled_from(["In", "NotIn"]),
)
RULES = st.fixed_dictionaries(
    {
        "labelSelector": st.none() | SELECTORS,
        "namespaces": st.none() | st.lists(NAMESPACES, max_size=2),
        "namespaceSelector": st.none() | NAMESPACE_SELECTORS,
        "matchLabelKeys": st.none() | st.lists(KEYS, max_size=1),
        "mismatchLabelKeys": st.none() | st.lists(KEYS, max_size=1),
    }
)


@st.composite
def fleets(draw: st.DrawFn) -> list[Workload]:
    """Workloads with few labels and values, in a few namespaces."""
    return [
        deployment(
            f"w{number}",
            namespace=draw(NAMESPACES),
            template=Template(labels=draw(st.dictionaries(KEYS, VALUES))),
        )
        for number in range(draw(st.integers(1, 6)))
    ]


@given(workloads=fleets(), rules=st.lists(RULES, min_size=1, max_size=3))
def test_a_rule_selects_the_same_of_many_workloads_as_one_by_one(
    workloads: list[Workload], rules: list[dict[str, Any]]
) -> None:
    sets = PodSets(workloads)
    for rule in rules:
        for position, owner in enumerate(workloads):
            one_by_one = [at for at, target in enumerate(workloads) if selects(rule, owner, target)]
            assert [*positions(sets.selected(rule, owner, position))] == one_by_one


def test_sets_of_more_workloads_than_one_block_are_turned_round() -> None:
    """A workload knows whom it refuses. Those that are refused must know it too."""
    size = 1301
    chance = random.Random(7)  # noqa: S311
    rows = {row: chance.getrandbits(size) for row in range(0, size, 3)}
    rows |= {2: 1 << 1300, 1300: 1}
    columns = transposed(rows, size)
    expected = [sum(1 << row for row, members in rows.items() if members >> at & 1) for at in range(size)]
    assert columns == expected


def test_the_keys_of_a_set_are_a_sequence() -> None:
    """Errors name the first few of thousands and count the others."""
    found = Keys(0b10110, ["a", "b", "c", "d", "e"])
    assert (len(found), [*found], found[-1], found[:2], found[1:]) == (
        3,
        ["b", "c", "e"],
        "e",
        ["b", "c"],
        ["c", "e"],
    )
    with pytest.raises(IndexError):
        found[3]
