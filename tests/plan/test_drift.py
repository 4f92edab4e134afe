"""What autoscalers change in a plan is no drift, and whatever somebody else changes is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.entries import entry_key
from archshift.cluster.live_placement import LivePlacement
from archshift.cluster.model import Autoscaler, Inventory, Workload
from archshift.plan.admission import policy
from archshift.plan.drift import drift_of
from archshift.plan.model import Plan, PolicyAway
from archshift.plan.placement import place
from archshift.plan.planner import make_plan
from tests.build import deployment, inventory, replica_pod
from tests.properties import examples

SIZES = {"a": 3, "b": 4, "c": 5, "d": 8, "e": 10, "f": 13, **{f"other-{at}": 2 + at % 5 for at in range(20)}}
SCALED = ("b", "d", "e")
AGO, LATER = "2026-03-02T09:00:00Z", "2026-03-02T11:00:00Z"
WRITTEN = "2026-03-02T10:00:00Z"


def key(name: str) -> str:
    return f"shop/Deployment/{name}"


def fleet(sizes: Mapping[str, int], graviton: Mapping[str, int], **options: Any) -> Inventory:
    """Autoscalers scale three of the workloads. archshift ordered their pods at ten o'clock."""
    scaler = Autoscaler(by="HorizontalPodAutoscaler", least=1, most=40, scaled_at=LATER)
    one = {
        name: deployment(name, size, autoscaled=scaler if name in SCALED else None, **options)
        for name, size in sizes.items()
    }
    pods = {
        key(name): [
            replica_pod(at, f"{name}-1", created=AGO if at < SIZES[name] else LATER, cost=9, cost_at=WRITTEN)
            for at in range(sizes[name])
        ]
        for name in SCALED
    }
    return replace(inventory(*one.values(), graviton=graviton), scaled_pods=pods)


def plan_at(found: Inventory, live: Mapping[str, str]) -> Plan:
    return make_plan(arm_ratio=0.8, inventory=found, placed_by="admission", live_entries=live)


def entries(plan: Plan) -> dict[str, str]:
    return {row.key: row.entry for row in plan.workloads}


def placement(texts: Mapping[str, str], **others: str) -> LivePlacement:
    """What the API server has: a policy with these entries."""
    data = {entry_key("Deployment", text.rpartition("/")[2]): entry for text, entry in texts.items()} | others
    return LivePlacement(policies={"shop": policy("prod", "shop", data)})


def wanted_data(plan: Plan) -> dict[str, dict[str, str]]:
    return {"shop": {entry_key(row.kind, row.name): row.entry for row in plan.workloads}}


def at_rest() -> tuple[dict[str, str], dict[str, int]]:
    """The entries after an update, and the pods on Graviton."""
    first = plan_at(fleet(SIZES, {}), {})
    return entries(first), {row.name: row.wanted or 0 for row in first.workloads}


def drift(sizes: Mapping[str, int], graviton: Mapping[str, int], live: Mapping[str, str]) -> tuple[str, ...]:
    found = fleet(sizes, graviton)
    plan = plan_at(found, live)
    return drift_of(plan, found, placement(live), wanted_data(plan))


def test_a_fleet_at_rest_has_no_drift() -> None:
    live, there = at_rest()
    assert drift(SIZES, there, live) == ()


@examples
@given(st.fixed_dictionaries({name: st.integers(1, 40) for name in SCALED}), st.floats(-0.1, 0.1))
def test_replicas_that_autoscalers_change_are_no_drift(scaled: dict[str, int], bent: float) -> None:
    """Neither their entries and their bent shares, nor the rounding of the others."""
    live, there = at_rest()
    bends = {name: max(0, min(pods, round((0.8 + bent) * pods))) for name, pods in scaled.items()}
    same = {name: there[name] for name in scaled if scaled[name] == SIZES[name]}
    assert drift({**SIZES, **scaled}, {**there, **bends, **same}, live) == ()


@pytest.mark.parametrize(
    ("name", "entry"),
    [
        ("a", "all on amd64"),
        ("f", "2 of 13 on arm64"),
        ("e", "4 of 10 on arm64"),
        ("e", "8 of 10 on arm64 within 36 spread 1 prefer amd64 46"),
        ("c", "left alone"),
        ("d", ""),
    ],
)
def test_an_entry_that_somebody_changed_is_drift(name: str, entry: str) -> None:
    """Also while an autoscaler has changed its replicas."""
    live, there = at_rest()
    changed = {text: value for text, value in {**live, key(name): entry}.items() if value}
    assert key(name) in drift(SIZES, there, changed)
    assert key(name) in drift({**SIZES, "b": 20}, {**there, "b": 16}, changed)


@pytest.mark.parametrize(
    ("sizes", "there", "name"),
    [
        ({"f": 26}, {"f": 21}, "f"),
        ({}, {"f": 5}, "f"),
        ({}, {"e": 3}, "e"),
    ],
)
def test_what_people_and_lost_nodes_do_is_drift(
    sizes: dict[str, int], there: dict[str, int], name: str
) -> None:
    """Replicas without an autoscaler, and pods on the wrong side of a workload with its own size."""
    live, before = at_rest()
    assert key(name) in drift({**SIZES, **sizes}, {**before, **there}, live)


def test_what_the_policy_has_besides_workloads_is_drift() -> None:
    """Somebody took the entry for new workloads away, or the whole policy."""
    live, there = at_rest()
    found = fleet(SIZES, there)
    plan = plan_at(found, live)
    data = {"shop": {**wanted_data(plan)["shop"], "others": "all on amd64"}}
    assert drift_of(plan, found, placement(live, others="all on amd64"), data) == ()
    assert drift_of(plan, found, placement(live), data) == ("shop",)
    gone = replace(plan, without_policy={"shop": PolicyAway("it was deleted")})
    assert drift_of(gone, found, placement(live, others="all on amd64"), data) == ("shop",)


# --- patches ---


def patched(name: str, pods: int, graviton: int, **options: Any) -> Workload:
    """A workload whose template is patched for these pods on Graviton."""
    one = deployment(name, pods, **options)
    fields = place(one.template, graviton, pods)
    template = replace(one.template, spec=fields, owned=frozenset(fields), revision=one.identity)
    return replace(one, template=template)


@pytest.mark.parametrize(("before", "found"), [(8, ()), (9, ()), (7, ()), (5, (key("f"),))])
def test_a_patch_for_a_pod_more_is_the_work_of_an_autoscaler_elsewhere(
    before: int, found: tuple[str, ...]
) -> None:
    """Only if one is in the fleet; without it, somebody has changed the patch."""
    scaler = Autoscaler(by="HorizontalPodAutoscaler", least=1, most=40)
    one = patched("f", 10, before)
    cluster = inventory(one, deployment("e", 5, autoscaled=scaler), graviton={"f": before, "e": 4})
    plan = make_plan(arm_ratio=0.8, inventory=cluster)
    row = next(row for row in plan.workloads if row.name == "f")
    assert row.wanted == 8
    assert [each for each in drift_of(plan, cluster) if each == key("f")] == [*found]
    alone = inventory(one, graviton={"f": before})
    assert bool(drift_of(make_plan(arm_ratio=0.8, inventory=alone), alone)) == (before != 8)


def test_a_field_of_a_patch_that_somebody_changed_is_drift() -> None:
    one = patched("f", 10, 8)
    spread = {**one.template.spec["spread"], "maxSkew": 1}
    changed = replace(one, template=replace(one.template, spec={**one.template.spec, "spread": spread}))
    scaler = Autoscaler(by="HorizontalPodAutoscaler", least=1, most=40)
    cluster = inventory(changed, deployment("e", 5, autoscaled=scaler), graviton={"f": 8, "e": 4})
    assert key("f") in drift_of(make_plan(arm_ratio=0.8, inventory=cluster), cluster)
