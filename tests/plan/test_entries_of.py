"""The ConfigMaps by which the API server places new pods."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from archshift.cluster.entries import Entry, entry_key
from archshift.cluster.model import Discovery, Workload
from archshift.common.errors import ArchshiftError
from archshift.nodes.groups import Node
from archshift.plan.entries_of import MOST_BYTES, MOST_LABELS, entries_of, graviton_labels
from archshift.plan.model import Plan
from archshift.plan.planner import make_plan
from tests.build import BOTH_SIDES, big_node, deployment, inventory, node_pool, plan_node, planned

SHOP = frozenset({"shop"})


def plan_of(*workloads: Workload) -> Plan:
    """A plan at 0.5 whose API server places pods."""
    return make_plan(arm_ratio=0.5, inventory=inventory(*workloads), placed_by="admission")


def data_of(
    plan: Plan,
    discovery: Discovery | None = None,
    *,
    namespaces: frozenset[str] = SHOP,
    nodes: tuple[Node, ...] = BOTH_SIDES,
    images_checked: bool = True,
    live: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, dict[str, str]]:
    """The data of the ConfigMaps."""
    return entries_of(
        plan,
        discovery or Discovery(),
        nodes,
        namespaces=namespaces,
        images_checked=images_checked,
        live=live,
    )


def test_each_workload_has_an_entry_in_its_namespace() -> None:
    """DaemonSets have none, and the keys are sorted, so that a preview shows only what changes."""
    pay = replace(deployment("pay", 2), namespace="money")
    plan = plan_of(deployment(), pay, deployment("agent", 0, kind="DaemonSet"))
    data = data_of(plan, namespaces=frozenset({"shop", "money", "empty"}))
    assert data == {
        "money": {"Deployment.pay": "1 of 2 on arm64", "others": "all on amd64"},
        "shop": {"Deployment.cart": "2 of 4 on arm64", "others": "all on amd64"},
    }
    assert [list(entries) == sorted(entries) for entries in data.values()] == [True, True]


def test_excluded_workloads_are_left_alone() -> None:
    """Without an entry, their new pods would start on x86."""
    discovery = Discovery(exclude=frozenset({"shop/Deployment/legacy", "kube-system/Deployment/dns"}))
    data = data_of(plan_of(), discovery, namespaces=frozenset({"shop", "kube-system"}))
    assert data == {"shop": {"Deployment.legacy": "left alone", "others": "all on amd64"}}


def test_only_namespaces_that_take_objects_get_one() -> None:
    """An empty one too, if the settings name it; none that is missing or being deleted."""
    discovery = Discovery(namespaces=("shop", "new", "missing"))
    data = data_of(plan_of(deployment()), discovery, namespaces=frozenset({"new", "other"}))
    assert data == {"new": {"others": "all on amd64"}}


@pytest.mark.parametrize(
    "more",
    [
        {"images_checked": False},
        {"discovery": Discovery(label_selector="team=shop")},
        {"nodes": BOTH_SIDES[1:]},
    ],
)
def test_pods_without_an_entry_are_not_held_on_x86(more: Mapping[str, Any]) -> None:
    """Nobody proves images, other teams' pods are there, or no x86 node will be left."""
    assert data_of(plan_of(deployment()), **more)["shop"] == {"Deployment.cart": "2 of 4 on arm64"}


def test_x86_nodes_that_may_come_up_count() -> None:
    """An autoscaler brings them for the first pod."""
    nodes = (*BOTH_SIDES[1:], *node_pool().possible_nodes())
    assert data_of(plan_of(deployment()), nodes=nodes)["shop"]["others"] == "all on amd64"


def test_without_zones_pods_get_no_spread_over_zones() -> None:
    """With such a constraint, the scheduler would ignore all nodes without a zone."""
    nodes = (big_node("x86", "amd64"), big_node("arm", "arm64"))
    assert "no-zones" in data_of(plan_of(deployment()), nodes=nodes)["shop"]
    assert "no-zones" not in data_of(plan_of(deployment()))["shop"]


def test_labels_of_graviton_nodes_only() -> None:
    """Neither names of nodes nor labels that x86 nodes have too."""
    nodes = (
        big_node("x86", "amd64", pool="old", team="shop"),
        plan_node(
            "arm-1", "arm64", labels={"pool": "new", "team": "shop", "kubernetes.io/hostname": "arm-1"}
        ),
        big_node("arm-2", "arm64", pool="new", family="m7g"),
    )
    assert graviton_labels(nodes) == ["family=m7g", "pool=new"]
    assert data_of(plan_of(deployment()), nodes=nodes)["shop"]["graviton-labels"] == "family=m7g pool=new"


def test_labels_that_x86_nodes_may_get_are_not_gravitons() -> None:
    """A pool of x86 nodes that has no node yet."""
    to_come = tuple(node_pool(name="x86", labels={"team": "shop"}).possible_nodes())
    arm = big_node("arm", "arm64", team="shop", pool="new")
    assert graviton_labels((arm, *to_come)) == ["pool=new"]


def test_known_labels_of_graviton_nodes_stay() -> None:
    """Otherwise every preview would show the instance types that an autoscaler took away."""
    nodes = (big_node("x86", "amd64", pool="old"), big_node("arm", "arm64", pool="new"))
    live = {"shop": {"graviton-labels": "family=m7g pool=old"}}
    assert data_of(plan_of(deployment()), nodes=nodes, live=live)["shop"]["graviton-labels"] == (
        "family=m7g pool=new"
    )


def test_the_most_frequent_labels_come_first() -> None:
    """The number is limited, because each admission reads all of them."""
    nodes = [
        plan_node(f"arm-{number}", "arm64", labels={"pool": "new", f"id-{number:03}": "x"})
        for number in range(200)
    ]
    pairs = graviton_labels(nodes)
    assert len(pairs) == MOST_LABELS
    assert "pool=new" in pairs


def test_5000_entries_fit_and_too_many_are_refused() -> None:
    """The API server would refuse the ConfigMap with the whole update; the sentence names the namespace."""

    def plan_with(count: int) -> Plan:
        rows = tuple(
            planned(f"service-with-a-usual-name-{number:05}", 40, 13, entry="13 of 40 on arm64")
            for number in range(count)
        )
        return Plan(arm_ratio=0.3, workloads=rows, placed_by="admission")

    data = data_of(plan_with(5000))["shop"]
    assert len(data) == 5001
    assert sum(len(key) + len(text) for key, text in data.items()) < MOST_BYTES / 3
    with pytest.raises(ArchshiftError) as error:
        data_of(plan_with(20_000))
    assert str(error.value).startswith("namespace shop: its 20,001 entries for placement have 1,")


def test_what_a_row_says_is_what_the_api_server_reads() -> None:
    """The text of each entry parses back to the numbers of the plan."""
    plan = plan_of(*(deployment(f"web-{number}", number) for number in range(1, 30)))
    data = data_of(plan)["shop"]
    for row in plan.workloads:
        entry = Entry.parse(data[entry_key(row.kind, row.name)])
        assert entry is not None
        assert entry.graviton * row.replicas == (row.wanted or 0) * entry.replicas
