"""Which pods a rule selects: asked for one workload, and for many at once."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.model import Workload
from archshift.cluster.pod_affinity import PodSets, positions, selects
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
