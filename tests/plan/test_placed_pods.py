"""Which pods the policy placed, and a fleet without patches."""

from dataclasses import replace

import pytest

from archshift.cluster.inventory import read_workload
from archshift.cluster.live_placement import LivePlacement
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.plan import reasons
from archshift.plan.admission import binding, policy
from archshift.plan.model import Plan
from archshift.plan.placed_pods import check_alone, with_unplaced, without_patches
from archshift.plan.planner import make_plan
from tests.build import MANAGER, deployment, inventory, planned, workload
from tests.fakes import Live

OLD, SINCE, NEW = "2026-11-30T13:00:00Z", "2026-11-30T14:00:00Z", "2026-11-30T15:00:00Z"


def placing(entries: dict[str, str]) -> LivePlacement:
    """The policy of shop, since then."""
    live = {
        kind: {**made, "metadata": {**made["metadata"], "creationTimestamp": SINCE}}
        for kind, made in (("policy", policy("dev", "shop", entries)), ("binding", binding("dev", "shop")))
    }
    return LivePlacement(policies={"shop": live["policy"]}, bindings={"shop": live["binding"]})


def test_only_pods_that_are_newer_than_the_policy_should_have_been_placed() -> None:
    """Older ones keep running; pods of workloads that are left alone are nobody's business."""
    rows = (
        planned("cart", 3, entry="all on amd64"),
        planned("pay", 2, entry="all on amd64"),
        planned("legacy", entry="left alone"),
        planned("agent", 0, None, kind="DaemonSet", patch={}),
    )
    found = Inventory(
        unplaced={
            "shop/Deployment/cart": (OLD, NEW, NEW),
            "shop/Deployment/pay": (OLD, SINCE),
            "shop/Deployment/legacy": (OLD, NEW),
            "shop/DaemonSet/agent": (NEW,),
        }
    )
    plan = with_unplaced(Plan(arm_ratio=0.0, workloads=rows), found, placing({}), "dev")
    assert (plan.unplaced, plan.older, plan.without_policy) == ({"shop/Deployment/cart": 2}, 3, ())
    assert reasons.not_placed(plan.unplaced) == (
        "archshift's policy did not place 2 new pods of shop/Deployment/cart: the policy was away, or the "
        "workload had no entry yet"
    )
    assert reasons.older_than_policy(plan.older) == (
        "3 pods were made before archshift's policy; it places their successors"
    )


def test_without_a_policy_only_that_is_said() -> None:
    """Before the first update at admission, and after somebody deleted the policy."""
    found = replace(inventory(deployment()), unplaced={"shop/Deployment/cart": (OLD, NEW)})
    plan = make_plan(arm_ratio=0.0, inventory=found, placed_by="admission")
    assert with_unplaced(plan, found, LivePlacement(), "dev") == replace(plan, without_policy=("shop",))
    assert reasons.not_placed({}) == reasons.older_than_policy(0) == reasons.policy_away(()) == ""


def test_defaults_of_the_api_server_are_no_change_of_the_policy() -> None:
    plan = Plan(arm_ratio=0.0, workloads=(planned("cart", 3, entry="all on amd64"),))
    live = placing({"Deployment.pay": "all on arm64"})
    live.policies["shop"]["spec"]["matchConstraints"] |= {"objectSelector": {}}
    assert with_unplaced(plan, Inventory(), live, "dev").without_policy == ()
    assert with_unplaced(plan, Inventory(), live, "prod").without_policy == ("shop",)


def test_a_policy_with_text_of_another_program_is_no_longer_in_effect() -> None:
    """The next update writes it again, so its entries are read without what archshift would not write."""
    plan = Plan(arm_ratio=0.0, workloads=(planned("cart", 3, entry="all on amd64"),))
    live = placing({"Deployment.cart": "all on amd64", "Deployment.pay": "all on arm64"})
    edited = live.policies["shop"]["spec"]["variables"][0]
    edited["expression"] = edited["expression"].replace("pay: all on arm64", "pay: on x86, as ops said!")
    assert live.data["shop"] == {"Deployment.cart": "all on amd64"}
    assert with_unplaced(plan, Inventory(), live, "dev").without_policy == ("shop",)


def test_the_advice_is_about_a_step_and_not_about_the_switch() -> None:
    """At the switch each patched workload rolls out once; later steps do not."""
    live = Live("Deployment", workload(replicas=10))
    found = inventory(read_workload("Deployment", live.json(), MANAGER))
    (first,) = make_plan(arm_ratio=0.2, inventory=found).workloads
    assert first.patch is not None
    live.apply(first.patch, MANAGER)
    patched = inventory(read_workload("Deployment", live.json(), MANAGER), graviton={"cart": 2})
    step = make_plan(arm_ratio=0.5, inventory=patched)
    bare = make_plan(arm_ratio=0.5, inventory=without_patches(patched), placed_by="admission")
    switch = make_plan(arm_ratio=0.5, inventory=patched, placed_by="admission")
    assert (step.restarted_pods, bare.restarted_pods, switch.restarted_pods) == (10, 3, 10)
    assert reasons.fewer_restarts(step, bare) == (
        "this step restarts 10 pods to move 3; with placement: admission it would restart 3"
    )


@pytest.mark.parametrize(
    ("theirs", "shared"),
    [
        ({"Deployment.cart": "all on arm64"}, True),
        ({"others": "all on amd64"}, True),
        ({"Deployment.cart": "left alone", "others": "all on amd64"}, False),
        ({"Deployment.pay": "all on arm64", "Deployment.legacy": "all on amd64"}, False),
        ({}, False),
    ],
)
def test_a_workload_has_one_stack(theirs: dict[str, str], *, shared: bool) -> None:
    """Two stacks may share a namespace, if each leaves the workloads of the other alone."""
    rows = (planned("cart", 3, entry="all on amd64"), planned("legacy", entry="left alone"))
    plan, live = Plan(arm_ratio=0.0, workloads=rows), LivePlacement(rivals={"shop": {"prod": theirs}})
    if not shared:
        check_alone(plan, live)
        return
    with pytest.raises(ArchshiftError) as raised:
        check_alone(plan, live)
    assert str(raised.value) == (
        "the stack prod places shop/Deployment/cart at admission too; leave them to one stack with "
        "archshift:workloads, or, if that stack is gone, run kubectl delete "
        "mutatingadmissionpolicies,mutatingadmissionpolicybindings --selector=archshift/stack=prod"
    )
