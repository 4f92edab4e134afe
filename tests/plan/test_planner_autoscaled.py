"""What an update does about autoscaled workloads that are nearly right: no pod restarts for nothing."""

from dataclasses import replace
from typing import Any

import pytest

from archshift.cluster.entries import Entry
from archshift.cluster.model import Autoscaler, Workload
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import Inexact, Template, read_fields
from archshift.cluster.pods import Pod
from archshift.common.kubernetes import ARCH_LABEL, ZONE_LABEL
from archshift.images.verdict import UNKNOWN
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.groups import Node, Taint
from archshift.plan.deletion_costs import Proportion
from archshift.plan.model import Plan, PlannedWorkload
from archshift.plan.planner import make_plan
from tests.build import BOTH_SIDES, big_node, deployment, inventory, patched_pod_spec, replica_pod

SCALER = Autoscaler(by="HorizontalPodAutoscaler cart", least=2, most=30)
UNBOUNDED = Autoscaler(by="archshift:workloads.autoscaled")
LIVE = "8 of 10 on arm64 within 18 spread 1 prefer arm64 46"
CART = "shop/Deployment/cart"


def plan_row(
    one: Workload, graviton: int, ratio: float = 0.8, nodes: tuple[Node, ...] = BOTH_SIDES, **more: Any
) -> PlannedWorkload:
    """The row of a workload that is alone in its cluster."""
    found = inventory(one, graviton={one.name: graviton}, nodes=nodes)
    return make_plan(arm_ratio=ratio, inventory=found, **more).workloads[0]


def patched(
    replicas: int, scaler: Autoscaler = SCALER, nodes: tuple[Node, ...] = BOTH_SIDES, **template: Any
) -> Workload:
    """An autoscaled workload as it is after an update at 0.8 with patches."""
    bare = Template(selector={"matchLabels": {"app": "cart"}}, **template)
    one = deployment(replicas=replicas, autoscaled=scaler, template=bare)
    fields = read_fields(patched_pod_spec(plan_row(one, 0, nodes=nodes)))
    live = replace(bare, spec=fields, owned=frozenset(fields), applied=fields, revision="0a1b2c3d.1")
    return replace(one, template=live)


def in_zones(*zones: str) -> tuple[Node, ...]:
    """A node of each side in each zone."""
    return tuple(
        replace(big_node(f"{side}-{zone}", side), labels={ARCH_LABEL: side, ZONE_LABEL: zone})
        for side in ("amd64", "arm64")
        for zone in zones
    )


@pytest.mark.parametrize(
    ("replicas", "graviton", "restarts"),
    [(10, 8, False), (20, 16, False), (20, 15, False), (20, 18, False), (20, 13, True), (4, 2, False)],
)
def test_an_update_restarts_no_autoscaled_workload_that_is_near_its_share(
    replicas: int, graviton: int, *, restarts: bool
) -> None:
    """With patches. After another rollout it would be just as near."""
    row = plan_row(replace(patched(10), replicas=replicas), graviton)
    assert (row.restarts, row.applied, row.near) == (restarts, True, not restarts and not row.exact)
    near = "archshift rebalance evicts only these"
    assert (near in row.reason) == (not restarts and not row.exact)


def test_pods_that_came_back_are_not_promised_to_move() -> None:
    """The last evictions ended at this number, and since then nothing is different."""
    one = patched(10)
    tried = replace(one.template, inexact=Inexact(one.template.revision, 7, 1))
    row = plan_row(replace(one, template=tried), 7)
    assert (row.restarts, row.near) == (False, True)
    assert row.reason.endswith(
        "the scheduler sent its evicted pods back; archshift tries again when pods or nodes change"
    )


def test_limits_that_let_no_pod_be_away_need_the_restart_that_the_reason_names() -> None:
    row = plan_row(replace(patched(10), most_away=0), 7)
    assert (row.restarts, row.moves, row.near) == (False, 1, True)
    assert row.reason.endswith("archshift rebalance --restart does that")


@pytest.mark.parametrize("graviton", [15, 16])
def test_a_registry_that_is_down_rolls_no_autoscaled_workload_out(graviton: int) -> None:
    """Nor does it when the registry answers again."""
    one = replace(patched(10), replicas=20)
    row = plan_row(one, graviton, verdicts={CART: WorkloadVerdict(CART, UNKNOWN, (), ())})
    assert (row.action, row.restarts, row.wanted) == ("hold", False, graviton)


def test_a_registry_that_is_down_changes_no_rule_at_admission() -> None:
    one = deployment(replicas=20, autoscaled=SCALER)
    unknown = {CART: WorkloadVerdict(CART, UNKNOWN, (), ())}
    row = plan_row(one, 15, placed_by="admission", live_entries={CART: LIVE}, verdicts=unknown)
    assert (row.entry, row.applied) == (LIVE.replace("8 of 10", "15 of 20"), True)
    away = plan_row(one, 0, placed_by="admission", live_entries={CART: LIVE}, verdicts=unknown)
    assert away.entry == "all on amd64", "no pod goes to Graviton without a proof"


def test_a_zone_that_comes_or_goes_rolls_nothing_out() -> None:
    """An autoscaler of nodes removes the last node of a zone at night."""
    two, three = in_zones("a", "b"), in_zones("a", "b", "c")
    for before, now in ((three, two), (two, three)):
        one = patched(10, nodes=before)
        row = plan_row(one, 8, nodes=now)
        assert (row.restarts, row.applied) == (False, True)
        assert plan_row(one, 8, 0.7, nodes=now).restarts, "another share is worth a rollout"
    without = tuple(
        replace(node, labels={key: text for key, text in node.labels.items() if key != ZONE_LABEL})
        for node in BOTH_SIDES
    )
    assert plan_row(patched(10, nodes=two), 8, nodes=without).restarts, "nodes without a zone count no more"


@pytest.mark.parametrize("replicas", [6, 10, 12, 40])
def test_a_workload_without_a_known_maximum_does_not_roll_out_when_it_is_scaled(replicas: int) -> None:
    """Its bound is a guess from its present pods."""
    row = plan_row(replace(patched(10, UNBOUNDED), replicas=replicas), round(0.8 * replicas))
    assert (row.restarts, row.applied) == (False, True)
    live = "8 of 10 on arm64 within 60 spread 2 prefer arm64 35"
    one = deployment(replicas=replicas, autoscaled=UNBOUNDED)
    placed = plan_row(one, 1, placed_by="admission", live_entries={CART: live})
    entry = Entry.parse(placed.entry)
    assert entry
    assert entry.scaling
    assert entry.scaling.within == 60


def test_a_bound_that_has_become_too_narrow_is_widened() -> None:
    """The guess for ten pods was a difference of 60. That is right for 80 of 100, and not for 160 of 200."""
    assert plan_row(replace(patched(10, UNBOUNDED), replicas=100), 80).restarts


def test_a_workload_at_its_minimum_of_one_pod_names_what_others_own() -> None:
    """Its only pod gets the fields of a share, so it needs all of them."""
    helm = {"preferred": FieldOwner("helm", "Apply")}
    template = Template(spec={"preferred": [{"weight": 1, "preference": {}}]}, foreign_owners=helm)
    for replicas in (1, 2):
        row = plan_row(deployment(replicas=replicas, autoscaled=SCALER, template=template), 0)
        assert (row.action, row.patch) == ("leave", None)
    alone = replace(SCALER, least=1, most=1)
    assert plan_row(deployment(replicas=1, autoscaled=alone, template=template), 0).patch


def test_a_workload_that_is_scaled_to_zero_keeps_its_rule() -> None:
    """A pin would start all its next pods on one side."""
    one = replace(patched(10), replicas=0)
    row = plan_row(one, 0)
    assert patched_pod_spec(row) == patched_pod_spec(plan_row(patched(10), 8))
    assert (row.restarts, row.wanted, row.applied) == (False, None, True)
    none = deployment(replicas=0, autoscaled=SCALER)
    placed = plan_row(none, 0, placed_by="admission", live_entries={CART: LIVE})
    assert placed.entry.startswith("24 of 30 on arm64 within 18 ")
    assert plan_row(none, 0, placed_by="admission").entry in ("all on arm64", "all on amd64")
    assert plan_row(none, 0, 1.0, placed_by="admission", live_entries={CART: LIVE}).entry == "all on arm64"


def plan_with(one: Workload, pods: list[Pod], **more: Any) -> Plan:
    nodes = more.pop("nodes", (big_node("arm", "arm64"), big_node("x86", "amd64")))
    graviton = {"cart": sum(pod.node == "arm" for pod in pods)}
    found = inventory(one, graviton=graviton, nodes=nodes)
    found = replace(found, scaled_pods={CART: pods}, costs_manager="archshift/prod/deletion-costs")
    return make_plan(arm_ratio=0.8, inventory=found, **more)


def test_more_pods_on_graviton_than_replicas_are_a_share_of_all() -> None:
    """A rollout with a surge, while no x86 node takes pods, so that the workload waits."""
    pods = [replica_pod(number, node="arm" if number < 6 else "x86") for number in range(7)]
    nodes = (big_node("arm", "arm64"), replace(big_node("x86", "amd64"), schedulable=False))
    one = deployment(replicas=4, autoscaled=SCALER, most_away=0, settled=False)
    plan = plan_with(one, pods, nodes=nodes, placed_by="admission", live_entries={CART: LIVE})
    assert plan.workloads[0].waits
    assert plan.kept_shares == {CART: Proportion(4, 4, 2)}


def test_a_workload_that_cannot_be_placed_now_keeps_its_order() -> None:
    """A taint came to the Graviton nodes: what places its pods stays, and so do their costs."""
    taint = Taint(key="team", value="ml", effect="NoSchedule")
    nodes = (big_node("arm", "arm64", taints=(taint,)), big_node("x86", "amd64"))
    one = deployment(replicas=4, autoscaled=SCALER)
    mine = "archshift/prod/deletion-costs"
    pods = [
        replica_pod(number, node="x86" if number == 1 else "arm", cost=9 - number, cost_manager=mine)
        for number in range(4)
    ]
    plan = plan_with(one, pods, nodes=nodes, placed_by="admission", live_entries={CART: LIVE})
    assert (plan.workloads[0].action, plan.workloads[0].wanted) == ("keep", None)
    assert (plan.kept_shares, plan.costs_due) == ({CART: Proportion(3, 4, 2)}, ())
    gone = plan_with(one, pods, nodes=nodes, placed_by="admission")
    assert (gone.kept_shares, gone.costs_due) == ({}, (CART,)), "nothing places its pods"


@pytest.mark.parametrize(("manager", "due"), [("prod", (CART,)), ("other", ())])
def test_an_update_gives_back_no_costs_of_another_stack(manager: str, due: tuple[str, ...]) -> None:
    """It could not: each update would show a change and make none."""
    pinned = Template(spec={"node-selector": {"kubernetes.io/arch": "amd64"}})
    one = deployment(replicas=2, autoscaled=SCALER, template=pinned)
    pods = [replica_pod(0, node="x86", cost=5, cost_manager=f"archshift/{manager}/deletion-costs")]
    assert plan_with(one, pods).costs_due == due
