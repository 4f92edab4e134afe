"""Workloads that must not share a node: who finds a place on a side, and who stays where it is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archshift.cluster.model import Workload
from archshift.cluster.pod_affinity import selects
from archshift.cluster.pod_fields import Template
from archshift.common.architectures import ARCHITECTURES, Architecture, opposite
from archshift.nodes.groups import Node
from archshift.plan.model import PlannedWorkload, Rules
from archshift.plan.neighbours import Neighbours, Tenant
from archshift.plan.planner import make_plan
from archshift.plan.reachability import Site
from tests.build import calls_of, deployment, inventory, plan_node

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


def test_further_pods_of_what_is_there_need_places_too() -> None:
    """Each has a pod on one of two nodes. A second one finds no node: it stays, and so does the first."""
    pair = [app("api", 2, "api", "web"), app("web", 2, "api", "web")]
    there = {"api": 1, "web": 1}
    rows = plan(*pair, app("free", 2), ratio=1.0, on=nodes(4, 2), graviton=there)
    assert wanted(rows) == {"api": 1, "free": 2, "web": 1}
    assert "stay apart from those of shop/Deployment/api" in rows["web"].reason
    assert "Graviton has too few nodes for all" in rows["web"].reason
    assert wanted(plan(*pair, ratio=1.0, on=nodes(4, 4), graviton=there)) == {"api": 2, "web": 2}
    # On the way back, the x86 nodes are those that are few.
    back = plan(*pair, ratio=0.0, on=nodes(2, 4), graviton=there)
    assert wanted(back) == there
    assert "x86 has too few nodes for all" in back["web"].reason


def test_what_has_pods_there_comes_before_what_has_none() -> None:
    """`api` comes first by its name, and would take both nodes."""
    rows = plan(app("api", 4, "web"), app("web", 4), ratio=1.0, on=nodes(4, 2), graviton={"web": 1})
    assert wanted(rows) == {"api": 0, "web": 4}


def test_a_pending_pod_comes_from_nowhere() -> None:
    """It is pending because of the rule. Nothing moves to the other side because of it."""
    pair = [app("api", 3, "api", "web"), app("web", 2, "api", "web")]
    found = inventory(*pair, nodes=nodes(4, 4), graviton={"api": 1})
    keys = [f"shop/Deployment/{name}" for name in ("api", "web")]
    pods = {(keys[0], "amd64"): 1, (keys[0], "arm64"): 1, (keys[1], "amd64"): 2}
    rows = make_plan(arm_ratio=0.2, inventory=replace(found, pods=pods)).workloads
    assert [row.wanted for row in rows if row.movable] == [1, 0]


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_no_place_on_x86_brings_no_pod_to_graviton(ratio: float) -> None:
    """Whoever creates a workload with a taken host port does not decide where it runs."""
    found = inventory(app("api", 2), app("web", 2, "api"), nodes=nodes(2, 2))
    pods = {at: number for at, number in found.pods.items() if at[0] != "shop/Deployment/web"}
    rules = {"shop/Deployment/web": Rules(max_ratio=0.0)}
    made = make_plan(arm_ratio=ratio, inventory=replace(found, pods=pods), rules=rules)
    rows = {row.name: row for row in made.workloads}
    assert (rows["web"].action, rows["web"].wanted) == ("move", 0)


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


def test_a_reason_names_few_rivals_of_many() -> None:
    names = [f"w{number}" for number in range(9)]
    rules = {f"shop/Deployment/{name}": Rules(hold=True) for name in names}
    apart = [app("api", 1, *names, label=ZONE), *(app(name, 1) for name in names)]
    reason = plan(*apart, ratio=1.0, on=nodes(1, 1), rules=rules)["api"].reason
    listed = ", ".join(f"shop/Deployment/{name}" for name in names[:5])
    assert f"from those of {listed} and 4 more (required pod" in reason


PORT: dict[str, Any] = {"host_ports": frozenset({"TCP/443"})}


def refuses(**expression: Any) -> dict[str, Any]:
    """The fields of a template that refuses the pods that an expression selects."""
    term = {"topologyKey": HOST, "labelSelector": {"matchExpressions": [expression]}}
    return {"anti_affinity": (term,)}


def calls_for(number: int, fields: Mapping[str, Any] | None) -> int:
    """How many functions the plan calls for so many workloads that must not meet each other."""
    apart = []
    for at in range(number):
        name = f"w{at:03}"
        own = refuses(key="app", operator="NotIn", values=[name]) if fields is None else fields
        template = Template(labels={"app": name, "tier": "web"}, **own)
        apart.append(deployment(name, 1 + at % 3, template=template))
    found = inventory(*apart, nodes=nodes(20, 20))
    return calls_of(lambda: make_plan(arm_ratio=0.2, inventory=found))


@pytest.mark.parametrize(
    "fields",
    [PORT, refuses(key="tier", operator="Exists"), None],
    ids=["one host port", "one label", "each refuses all others"],
)
def test_the_work_grows_with_the_workloads_and_not_with_their_pairs(fields: Mapping[str, Any] | None) -> None:
    """Whoever may create workloads in one namespace must not make the plan of all others slow."""
    assert calls_for(300, fields) < 3 * calls_for(150, fields)


Tenants = Mapping[str, Tenant]


def plainly(workloads: Sequence[Workload], tenants: Tenants, places: Sequence[Site]) -> dict[str, str]:
    """Where workloads find no place by the plain definition, which looks at all pairs: key to side."""
    rivals: dict[str, dict[str, set[str]]] = {}
    for one in workloads:
        for other in workloads:
            if one is not other:
                labels = {
                    str(term["topologyKey"])
                    for owner, target in ((one, other), (other, one))
                    for term in owner.template.anti_affinity
                    if selects(term, owner, target)
                }
                if one.template.host_ports & other.template.host_ports:
                    labels.add(HOST)
                if labels:
                    rivals.setdefault(one.key, {})[other.key] = labels
    by_key = {workload.key: workload for workload in workloads}
    found: dict[str, str] = {}
    for side in ARCHITECTURES:

        def finds_none(key: str, there: Mapping[str, int], side: Architecture = side) -> bool:
            workload = by_key[key]
            for label in set().union(*rivals[key].values()):
                usable = [
                    site
                    for site in places
                    if site.node.architecture == side and workload.may_run_on(site.node)
                ]
                if any(site.many if label == HOST else label not in site.node.labels for site in usable):
                    continue
                values = {site.node.labels[label] for site in usable}
                theirs = {
                    value
                    for site in places
                    if site.node.architecture == opposite(side) and label != HOST
                    if (value := site.node.labels.get(label)) is not None
                }
                apart = [term for term in workload.template.anti_affinity if term["topologyKey"] == label]
                alone = any(selects(term, workload, workload) for term in apart)
                if label == HOST and workload.template.host_ports:
                    alone = True
                needed = tenants[key].pods[side] if alone else 1
                taken = 0
                for rival, labels in rivals[key].items():
                    if label in labels:
                        taken += min(there[rival], len(values))
                        taken += min(tenants[rival].pods[opposite(side)], len(values & theirs))
                if values and taken and taken + needed > len(values):
                    return True
            return False

        def comes(key: str, side: Architecture = side) -> bool:
            tenant = tenants[key]
            now, later = tenant.present, tenant.pods
            leaves = later[opposite(side)] < now[opposite(side)]
            return tenant.movable and later[side] > now[side] and (leaves or now[side] == 0)

        coming = [key for key in sorted(rivals) if comes(key)]
        there = {
            key: tenants[key].present[side] if key in coming else tenants[key].pods[side] for key in rivals
        }
        came = set[str]()
        for key in sorted(coming, key=lambda key: (tenants[key].present[side] == 0, len(rivals[key]))):
            with_it = there | {key: tenants[key].pods[side]}
            if any(finds_none(one, with_it) for one in (key, *(came & {*rivals[key]}))):
                found[key] = side
            else:
                there, came = with_it, came | {key}
    return found


EXPRESSIONS = st.fixed_dictionaries(
    {
        "key": st.sampled_from(["app", "tier"]),
        "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
        "values": st.lists(st.sampled_from(["a", "b", "c"]), max_size=2),
    }
)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[list[Workload], dict[str, Tenant], list[Site]]:
    """Workloads that may refuse each other, where their pods belong, and the nodes."""
    values = st.sampled_from(["a", "b"])
    terms = st.fixed_dictionaries(
        {
            "topologyKey": st.sampled_from([HOST, HOST, ZONE, "rack"]),
            "labelSelector": st.fixed_dictionaries({"matchExpressions": st.tuples(EXPRESSIONS)}),
        }
    )
    workloads, tenants = [], {}
    for number in range(draw(st.integers(2, 6))):
        template = Template(
            spec=draw(st.sampled_from([{}, {}, {"node-selector": {"pool": "a"}}])),
            labels={"app": draw(values), "tier": draw(values)},
            anti_affinity=tuple(draw(st.lists(terms, max_size=2))),
            host_ports=frozenset(draw(st.sets(st.sampled_from(["TCP/1", "TCP/2"]), max_size=1))),
        )
        workload = deployment(f"w{number}", 1, template=template)
        pods = {side: draw(st.integers(0, 4)) for side in ARCHITECTURES}
        present = {side: draw(st.sampled_from([0, 0, 0, 1, 2])) for side in ARCHITECTURES}
        workloads.append(workload)
        tenants[workload.key] = Tenant(pods=pods, present=present, movable=draw(st.integers(0, 4)) > 0)
    places = []
    for number in range(draw(st.integers(1, 12))):
        labels = {HOST: f"node-{number}", ZONE: draw(st.sampled_from(["a", "b", "c", "d", "e"]))}
        labels |= draw(st.sampled_from([{"rack": "a"}, {"rack": "b"}, {"rack": "c"}, {}]))
        labels |= draw(st.sampled_from([{"pool": "a"}, {"pool": "b"}]))
        node = plan_node(f"node-{number}", draw(st.sampled_from(["amd64", "arm64"])), labels=labels)
        places.append(Site(node, many=draw(st.integers(0, 19)) == 0))
    return workloads, tenants, places


@settings(max_examples=300)
@given(fleet=fleets())
def test_sets_of_workloads_say_the_same_as_a_look_at_all_pairs(
    fleet: tuple[list[Workload], dict[str, Tenant], list[Site]],
) -> None:
    workloads, tenants, places = fleet
    found = Neighbours(workloads, places).crowded_out(tenants)
    assert {key: bond.side for key, bond in found.items()} == plainly(workloads, tenants, places)


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
