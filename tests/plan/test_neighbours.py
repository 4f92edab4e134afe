"""Workloads that must not share a node: who finds a place on a side, and who stays where it is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.model import Workload
from archshift.cluster.pod_fields import Template
from archshift.nodes.groups import Node
from archshift.plan.model import PlannedWorkload, Rules
from archshift.plan.neighbours import Tenant, crowded_out, rivals_of
from archshift.plan.planner import make_plan
from archshift.plan.reachability import Site
from tests.build import deployment, inventory, plan_node

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"


def nodes(x86: int, graviton: int) -> tuple[Node, ...]:
    """Nodes with their names as labels, all in one zone."""
    sides = {"amd64": x86, "arm64": graviton}
    return tuple(
        plan_node(f"{side}-{number}", side, labels={HOST: f"{side}-{number}", ZONE: "a"})
        for side, count in sides.items()
        for number in range(count)
    )


def app(name: str, replicas: int, *avoids: str, label: str = HOST) -> Workload:
    """A Deployment whose pods must not meet those of these workloads."""
    expression = {"key": "app", "operator": "In", "values": [*avoids]}
    term = {"topologyKey": label, "labelSelector": {"matchExpressions": [expression]}}
    template = Template(
        labels={"app": name},
        selector={"matchLabels": {"app": name}},
        anti_affinity=(term,) if avoids else (),
    )
    return deployment(name, replicas, template=template)


def plan(
    *workloads: Workload,
    ratio: float,
    on: tuple[Node, ...],
    graviton: Mapping[str, int] | None = None,
    **more: Any,
) -> dict[str, PlannedWorkload]:
    """The rows by name."""
    found = inventory(*workloads, nodes=on, graviton=graviton)
    return {row.name: row for row in make_plan(arm_ratio=ratio, inventory=found, **more).workloads}


def wanted(rows: Mapping[str, PlannedWorkload]) -> dict[str, int | None]:
    return {name: row.wanted for name, row in rows.items()}


def test_one_node_has_room_for_one_of_two_that_must_stay_apart() -> None:
    """The other one stays on x86, and the reason names both; a third one moves."""
    rows = plan(app("api", 4, "web"), app("free", 4), app("web", 4), ratio=1.0, on=nodes(4, 1))
    assert wanted(rows) == {"api": 4, "free": 4, "web": 0}
    assert rows["web"].reason == (
        "held on x86: its pods must stay apart from those of shop/Deployment/api (required pod "
        "anti-affinity or the same host port), and Graviton has too few nodes for all"
    )


def test_others_take_the_share_of_a_workload_that_stays() -> None:
    rows = plan(app("api", 4, "web"), app("free", 8), app("web", 4), ratio=0.5, on=nodes(4, 1))
    assert sum(row.wanted or 0 for row in rows.values() if row.movable) == 6
    assert rows["web"].wanted == 0 or rows["api"].wanted == 0


@pytest.mark.parametrize(
    ("graviton_nodes", "moves"),
    # The pods of the first may take as many nodes as there are pods.
    [(1, ["api"]), (3, ["api"]), (4, ["api", "web"]), (6, ["api", "web"])],
)
def test_a_workload_comes_only_if_the_others_leave_it_a_node(graviton_nodes: int, moves: list[str]) -> None:
    rows = plan(app("api", 3, "web"), app("web", 3), ratio=1.0, on=nodes(6, graviton_nodes))
    assert [name for name, count in wanted(rows).items() if count] == moves


def test_pods_that_stay_apart_from_each_other_too_need_a_node_each() -> None:
    pair = [app("api", 3, "api", "web"), app("web", 3, "api", "web")]
    assert wanted(plan(*pair, ratio=1.0, on=nodes(6, 5))) == {"api": 3, "web": 0}
    assert wanted(plan(*pair, ratio=1.0, on=nodes(6, 6))) == {"api": 3, "web": 3}


def test_what_runs_on_graviton_already_has_its_places() -> None:
    """A workload never goes back because another one might come; the one that comes has to find a node."""
    rows = plan(app("api", 4, "web"), app("web", 4), ratio=1.0, on=nodes(4, 1), graviton={"web": 1})
    assert wanted(rows) == {"api": 0, "web": 4}


def test_workloads_with_one_host_port_need_a_node_for_each_pod() -> None:
    def proxy(name: str, *ports: str) -> Workload:
        one = app(name, 2)
        return replace(one, template=replace(one.template, host_ports=frozenset(ports)))

    pair = [proxy("api", "TCP/443", "TCP/80"), proxy("web", "TCP/443")]
    assert wanted(plan(*pair, ratio=1.0, on=nodes(4, 3))) == {"api": 2, "web": 0}
    assert wanted(plan(*pair, ratio=1.0, on=nodes(4, 4))) == {"api": 2, "web": 2}
    others = [proxy("api", "TCP/443"), proxy("web", "UDP/443")]
    assert wanted(plan(*others, ratio=1.0, on=nodes(4, 2))) == {"api": 2, "web": 2}


def test_the_way_back_to_a_small_x86_side() -> None:
    rows = plan(app("api", 2, "web"), app("web", 2), ratio=0.0, on=nodes(1, 4), graviton={"api": 2, "web": 2})
    assert wanted(rows) == {"api": 0, "web": 2}
    assert "x86 has too few nodes for all" in rows["web"].reason


def test_nodes_of_both_sides_in_one_zone_count_together() -> None:
    """The pods of `api` that stay on x86 keep `web` out of the zone, whatever its architecture is."""
    rules = {"shop/Deployment/api": Rules(hold=True)}
    pair = [app("api", 2, "web", label=ZONE), app("web", 2)]
    rows = plan(*pair, ratio=1.0, on=nodes(2, 2), rules=rules)
    assert wanted(rows) == {"api": 0, "web": 0}
    apart = (*nodes(2, 0), plan_node("arm", "arm64", labels={HOST: "arm", ZONE: "b"}))
    assert wanted(plan(*pair, ratio=1.0, on=apart, rules=rules)) == {"api": 0, "web": 2}


def test_a_rule_does_not_concern_nodes_without_its_label() -> None:
    rows = plan(app("api", 2, "web", label="rack"), app("web", 2), ratio=1.0, on=nodes(2, 1))
    assert wanted(rows) == {"api": 2, "web": 2}


def test_one_workload_that_refuses_all_others_keeps_none_of_them_away() -> None:
    """Its own pods stay on x86, whatever its name is."""
    names = [f"w{number}" for number in range(6)]
    rows = plan(app("alone", 1, *names), *(app(name, 2) for name in names), ratio=1.0, on=nodes(8, 3))
    assert wanted(rows) == {"alone": 0} | dict.fromkeys(names, 2)


class Counting(dict[Any, int]):
    """The pods of a workload by side; counts how often somebody asks."""

    asked = 0

    def get(self, *arguments: Any) -> Any:
        Counting.asked += 1
        return super().get(*arguments)


def test_the_work_grows_with_the_pairs_of_workloads_only() -> None:
    """Whoever may create workloads in one namespace must not make the plan of all others slow."""
    number = 40
    names = [f"w{at}" for at in range(number)]
    tenants = [
        Tenant(
            workload=app(name, 1, *names),
            pods=Counting({"arm64": 1, "amd64": 0}),
            present=frozenset(),
            movable=True,
        )
        for name in names
    ]
    rivals = rivals_of([tenant.workload for tenant in tenants])
    places = [Site(node) for node in nodes(number, number)]
    assert crowded_out(tenants, places, rivals) == {}
    assert Counting.asked < 6 * number**2


@given(
    sizes=st.lists(st.integers(1, 5), min_size=2, max_size=5),
    pairs=st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=6),
    graviton_nodes=st.integers(1, 8),
    ratio=st.sampled_from([0.2, 0.5, 0.8, 1.0]),
)
def test_whatever_nodes_others_take_each_workload_on_graviton_finds_one(
    sizes: list[int], pairs: set[tuple[int, int]], graviton_nodes: int, ratio: float
) -> None:
    """The worst case: each pod of the others is on a node of its own."""
    avoids = {
        number: [f"w{other}" for one, other in pairs if one == number and other < len(sizes) and other != one]
        for number in range(len(sizes))
    }
    apps = [app(f"w{number}", size, *avoids[number]) for number, size in enumerate(sizes)]
    rows = plan(*apps, ratio=ratio, on=nodes(8, graviton_nodes))
    meets = {(f"w{one}", other) for one, others in avoids.items() for other in others}
    for name, row in rows.items():
        rivals = [other for other in rows if (name, other) in meets or (other, name) in meets]
        if row.wanted:
            assert sum(rows[other].wanted or 0 for other in rivals) < graviton_nodes
