"""Workloads that must run beside each other: what moves together, what stays, and who else needs x86."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pod_affinity import selects
from archshift.cluster.pod_fields import Template
from archshift.nodes.groups import Node
from archshift.plan.companions import needing_too
from archshift.plan.guard import needs
from archshift.plan.model import Plan, PlannedWorkload, Rules
from archshift.plan.planner import make_plan
from tests.build import ARCH, calls_of, deployment, evidence_of, inventory, patched_pod_spec, plan_node

HOST, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
SHARED_ZONES = (
    plan_node("x86", "amd64", labels={HOST: "x86", ZONE: "a"}),
    plan_node("arm", "arm64", labels={HOST: "arm", ZONE: "a"}),
)
OWN_ZONES = (
    plan_node("x86", "amd64", labels={HOST: "x86", ZONE: "a"}),
    plan_node("arm", "arm64", labels={HOST: "arm", ZONE: "b"}),
)

Term = Mapping[str, Any]


def beside(*names: str, label: str = HOST, **more: Any) -> dict[str, Any]:
    """A required affinity term for the pods of these workloads."""
    expression = {"key": "app", "operator": "In", "values": [*names]}
    return {"topologyKey": label, "labelSelector": {"matchExpressions": [expression]}, **more}


def app(name: str, replicas: int = 1, *terms: Term, **options: Any) -> Workload:
    """A Deployment with these required affinity terms."""
    template = Template(labels={"app": name}, affinity=terms, selector={"matchLabels": {"app": name}})
    return deployment(name, replicas, template=replace(template, **options))


def plan(
    *workloads: Workload,
    ratio: float = 0.5,
    nodes: tuple[Node, ...] = SHARED_ZONES,
    graviton: Mapping[str, int] | None = None,
    **more: Any,
) -> dict[str, PlannedWorkload]:
    """The rows by name."""
    found = inventory(*workloads, nodes=nodes, graviton=graviton)
    return {row.name: row for row in make_plan(arm_ratio=ratio, inventory=found, **more).workloads}


def key(name: str) -> str:
    """The key of a Deployment of the shop."""
    return f"shop/Deployment/{name}"


@pytest.mark.parametrize("ratio", [0.0, 0.2, 0.4, 0.5, 0.6, 0.8, 1.0])
def test_workloads_that_need_each_others_company_are_on_one_side(ratio: float) -> None:
    """All pods of web and cache, at every ratio; single pods of another workload fill the fleet."""
    rows = plan(app("cache", 2), app("web", 3, beside("cache")), app("other", 20), ratio=ratio)
    assert rows["web"].wanted in (0, 3)
    assert rows["cache"].wanted == (2 if rows["web"].wanted else 0)
    assert sum(row.wanted or 0 for row in rows.values()) == round(25 * ratio)
    assert rows["web"].reason == (
        "all its pods move together, because they must run beside shop/Deployment/cache"
    )
    side = "arm64" if rows["web"].wanted else "amd64"
    for name in ("web", "cache"):
        terms = patched_pod_spec(rows[name])["affinity"]["nodeAffinity"]
        assert [*terms] == ["requiredDuringSchedulingIgnoredDuringExecution"]
        assert side in str(terms)


def test_a_chain_moves_as_one() -> None:
    """Web needs the cache, and the cache needs the disk's pods."""
    chain = [app("disk", 1), app("cache", 2, beside("disk")), app("web", 4, beside("cache"))]
    counts = {ratio: {n: r.wanted for n, r in plan(*chain, ratio=ratio).items()} for ratio in (0.2, 1.0)}
    assert counts == {
        0.2: {"disk": 0, "cache": 0, "web": 0},
        1.0: {"disk": 1, "cache": 2, "web": 4},
    }


@pytest.mark.parametrize(
    ("label", "nodes", "tied"),
    [
        (HOST, SHARED_ZONES, True),
        (ARCH, SHARED_ZONES, True),
        (ZONE, SHARED_ZONES, False),
        (ZONE, OWN_ZONES, True),
        ("rack", SHARED_ZONES, False),
    ],
)
def test_only_a_label_that_tells_the_sides_apart_ties(
    label: str, nodes: tuple[Node, ...], tied: bool
) -> None:
    """A zone that has both sides lets web run on either."""
    rows = plan(app("cache", 4), app("web", 4, beside("cache", label=label)), nodes=nodes)
    assert (rows["web"].wanted in (0, 4)) == tied
    assert ("move together" in rows["web"].reason) == tied


def test_whoever_must_run_beside_a_held_workload_stays_with_it() -> None:
    """A hold, an unproven image, or a workload that is left alone; the reason names it."""
    shop = [app("cache"), app("web", 3, beside("cache")), app("proxy", 2, beside("web")), app("free", 4)]
    held = plan(*shop, ratio=1.0, rules={key("cache"): Rules(hold=True, reason="licence")})
    unproven = {one.key: evidence_of(one.key) for one in shop} | {
        key("cache"): evidence_of(key("cache"), ("main", "image", "amd64-only"))
    }
    for rows in (held, plan(*shop, ratio=1.0, verdicts=unproven)):
        assert {name: (row.action, row.wanted) for name, row in rows.items()} == {
            "cache": ("hold", 0),
            "web": ("hold", 0),
            "proxy": ("hold", 0),
            "free": ("move", 4),
        }
        assert rows["web"].reason == (
            "held on x86: it must run beside shop/Deployment/cache, which stays on x86"
        )
        assert rows["proxy"].reason == (
            "held on x86: it must run beside shop/Deployment/web, which stays on x86"
        )
    alone = [replace(shop[0], obstacle="its rollouts are paused (spec.paused)"), *shop[1:]]
    left = plan(*alone, ratio=1.0)
    assert (left["cache"].action, left["web"].action) == ("leave", "hold")


def test_a_held_workload_keeps_the_company_that_it_needs() -> None:
    """If web must stay, the cache must stay for it, because web's next pod starts only beside it."""
    rows = plan(
        app("cache", 2), app("web", 3, beside("cache")), ratio=1.0, rules={key("web"): Rules(hold=True)}
    )
    assert (rows["cache"].action, rows["cache"].wanted) == ("hold", 0)
    assert rows["cache"].reason == ("held on x86: shop/Deployment/web must run beside it and stays on x86")


def test_a_companion_on_graviton_only_takes_its_company_along() -> None:
    """At every ratio, because on x86 web's pods could not start."""
    verdicts = {key("web"): evidence_of(key("web"))}
    arm = replace(evidence_of(key("cache")), verdict="arm64-only")
    rows = plan(
        app("cache"), app("web", 3, beside("cache")), ratio=0.2, verdicts=verdicts | {key("cache"): arm}
    )
    assert (rows["web"].action, rows["web"].wanted) == ("graviton", 3)
    assert rows["web"].reason == "it must run beside shop/Deployment/cache, which runs on Graviton"


def test_a_daemon_set_is_company_on_every_node() -> None:
    """Unless it is kept off the Graviton nodes."""
    agent = replace(app("agent", 0), kind="DaemonSet")
    web = app("web", 4, beside("agent"))
    assert plan(agent, web)["web"].wanted == 2
    unproven = {web.key: evidence_of(web.key)} | {
        agent.key: evidence_of(agent.key, ("main", "image", "amd64-only"))
    }
    kept_off = plan(agent, web, verdicts=unproven, pin_daemonsets=True)["web"]
    assert (kept_off.action, kept_off.wanted) == ("hold", 0)


def test_company_that_archshift_does_not_steer_is_where_it_runs() -> None:
    """A workload of another namespace, or pods that archshift does not know at all."""
    term = beside("cache", namespaces=["data"])
    web = app("web", 4, term)
    unknown = plan(web, ratio=1.0)["web"]
    assert (unknown.action, unknown.reason) == (
        "hold",
        "held on x86: it must run beside pods that archshift does not steer, and runs on x86",
    )
    cache = replace(app("cache"), namespace="data")
    found = inventory(web)
    for on_graviton, action in ((0, "hold"), (1, "move")):
        pods = {(cache.key, "arm64"): on_graviton, (cache.key, "amd64"): 1}
        known = replace(found, unsteered_workloads={cache.key: cache}, pods={**found.pods, **pods})
        (row,) = make_plan(arm_ratio=1.0, inventory=known).workloads
        assert row.action == action


@pytest.mark.parametrize(
    ("kind", "keeps_old_pods", "moves"),
    [
        ("Deployment", True, False),
        ("Deployment", False, True),
        ("StatefulSet", False, False),
        ("CronJob", False, True),
    ],
)
def test_a_workload_that_must_run_beside_itself(kind: str, keeps_old_pods: bool, moves: bool) -> None:
    """A rolling update starts each new pod beside an old one, so only a Recreate can change sides."""
    replicas = 0 if kind == "CronJob" else 3
    pair = replace(app("pair", replicas, beside("pair")), kind=kind, keeps_old_pods=keeps_old_pods)
    row = plan(pair, ratio=1.0)["pair"]
    assert (row.action != "hold") == moves
    assert row.wanted == (None if kind == "CronJob" else 3 if moves else 0)
    if not moves:
        assert row.reason == (
            "held on x86: each new pod must start beside its other pods, so no rolling update can move it"
        )


def test_a_term_for_the_pods_of_one_revision_needs_no_old_pod() -> None:
    """With ``matchLabelKeys: [pod-template-hash]`` the first new pod is its own company."""
    term = beside("pair", matchLabelKeys=["pod-template-hash"])
    assert plan(replace(app("pair", 3, term), keeps_old_pods=True), ratio=1.0)["pair"].wanted == 3


def test_two_that_need_each_other_cannot_be_rolled() -> None:
    """Neither's first new pod could start on the other side."""
    rows = plan(app("a", 2, beside("b")), app("b", 2, beside("a")), ratio=1.0)
    assert {row.action for row in rows.values()} == {"hold"}
    assert "no rolling update can move it" in rows["a"].reason


def test_a_cap_of_one_keeps_all_on_x86() -> None:
    """Not all of its pods may move, so none of the unit may."""
    rows = plan(
        app("cache", 2), app("web", 4, beside("cache")), ratio=1.0, rules={key("cache"): Rules(max_ratio=0.5)}
    )
    assert {row.wanted for row in rows.values()} == {0}
    assert rows["cache"].reason == (
        "held on x86: not all its pods may move, and it must run beside shop/Deployment/web"
    )


def test_a_workload_without_pods_starts_beside_its_company() -> None:
    """A CronJob that runs beside the cache."""
    job = replace(app("report", 0, beside("cache")), kind="CronJob")
    for ratio in (0.2, 0.5, 1.0):
        rows = plan(app("cache", 2), job, ratio=ratio)
        side = "Graviton" if rows["cache"].wanted else "x86"
        assert rows["report"].reason == f"no standing pods; its next ones start on {side}"


# --- which pods a term selects --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "namespace", "selected"),
    [
        ({}, "shop", True),
        ({}, "data", False),
        ({"namespaces": ["data"]}, "data", True),
        ({"namespaces": ["data"]}, "shop", False),
        ({"namespaceSelector": {}}, "data", True),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}}}, "data", True),
        ({"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "data"}}}, "shop", False),
        ({"namespaceSelector": {"matchLabels": {"team": "any"}}}, "data", True),
        ({"matchLabelKeys": ["app"]}, "shop", False),
        ({"matchLabelKeys": ["version"]}, "shop", True),
        ({"matchLabelKeys": ["pod-template-hash"]}, "shop", False),
        ({"mismatchLabelKeys": ["app"]}, "shop", True),
        ({"labelSelector": None}, "shop", False),
        ({"labelSelector": {}}, "shop", True),
        ({"labelSelector": {"matchLabels": {"app": "other"}}}, "shop", False),
    ],
)
def test_what_a_term_selects(term: Term, namespace: str, selected: bool) -> None:
    """The scheduler's rules; labels of namespaces that nobody read count as matching."""
    target = replace(app("cache"), namespace=namespace)
    assert selects({**beside("cache"), **term}, app("web"), target) == selected


# --- the guard ------------------------------------------------------------------------------------


def test_whoever_must_run_beside_a_need_is_a_need_too() -> None:
    """A workload that needs x86 also keeps its companions there, and no others."""
    shop = [
        app("cache"),
        app("web", 3, beside("cache")),
        app("proxy", 2, beside("web")),
        app("legacy", 1, beside("sidecar", "helper")),
        app("sidecar"),
        app("helper"),
        app("free"),
    ]
    known = {one.key: one for one in shop}
    assert needing_too([key("cache")], known, SHARED_ZONES) == {
        key("web"): key("cache"),
        key("proxy"): key("web"),
    }
    assert needing_too([key("legacy")], known, SHARED_ZONES) == {
        key("helper"): key("legacy"),
        key("sidecar"): key("legacy"),
    }
    assert needing_too([key("legacy"), key("helper")], known, SHARED_ZONES) == {}
    assert needing_too([key("free")], known, SHARED_ZONES) == {}


def test_the_guard_names_the_companion() -> None:
    """Its pods could run nowhere after the companion's x86 node."""
    shop = [app("cache"), app("web", 3, beside("cache"))]
    found = Inventory(workloads={one.key: one for one in shop}, nodes=SHARED_ZONES)
    proven = {one.key: evidence_of(one.key) for one in shop}
    both = needs(found, proven, {key("cache"): Rules(hold=True)})
    assert [(need.key, need.pods) for need in both] == [(key("cache"), 1), (key("web"), 3)]
    assert both[1].reason == (
        "it and shop/Deployment/cache must run beside each other, and shop/Deployment/cache needs x86"
    )


def test_a_second_plan_changes_nothing() -> None:
    """The unit's side is stable, and pods that are there stay there."""
    shop = [app("cache"), app("web", 1, beside("cache"))]
    first: Plan = make_plan(arm_ratio=0.6, inventory=inventory(*shop))
    there = {row.name: row.wanted or 0 for row in first.workloads}
    second = make_plan(arm_ratio=0.6, inventory=inventory(*shop, graviton=there))
    assert [row.wanted for row in second.workloads] == [row.wanted for row in first.workloads] == [1, 1]


@pytest.mark.parametrize("shape", ["all beside all", "a chain", "a chain the other way round", "pairs"])
def test_the_work_grows_with_the_workloads_and_not_with_their_pairs(shape: str) -> None:
    """Whoever may create workloads in one namespace must not make the plan of all others slow."""

    def calls(number: int) -> int:
        names = [f"w{at:03}" for at in range(number)]
        company = {
            "all beside all": [""] * number,
            "a chain": names[1:] + names[-1:],
            "a chain the other way round": names[:1] + names[:-1],
            "pairs": [names[at ^ 1] for at in range(number)],
        }[shape]
        anybody = {"labelSelector": {"matchExpressions": [{"key": "app", "operator": "Exists"}]}}
        terms = [beside(one) if one else beside("") | anybody for one in company]
        fleet = [app(name, 1, term) for name, term in zip(names, terms, strict=True)]
        found = inventory(*fleet, nodes=SHARED_ZONES)
        known = {workload.key: workload for workload in fleet}
        return calls_of(
            lambda: (
                make_plan(arm_ratio=0.5, inventory=found),
                needing_too([key(names[0])], known, SHARED_ZONES),
            )
        )

    assert calls(240) < 3 * calls(120)
