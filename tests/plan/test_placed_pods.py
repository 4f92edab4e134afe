"""Which pods the policy placed, and a fleet without patches."""

import copy
from dataclasses import replace
from typing import Any

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

AWAY = "archshift's policy is not in effect as made in shop"
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
    assert (plan.unplaced, plan.older, plan.without_policy) == ({"shop/Deployment/cart": 2}, 3, {})
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
    away = with_unplaced(plan, found, LivePlacement(), "dev")
    assert away == replace(plan, without_policy=away.without_policy)
    # The first preview shows that the policy is made, and only status says that it is not there yet.
    assert reasons.policies_away(away.without_policy) == []
    assert reasons.policies_away(away.without_policy, new=True) == [
        f"{AWAY}: there is no policy yet, or it was deleted; the next pulumi up repairs it"
    ]
    assert reasons.not_placed({}) == reasons.older_than_policy(0) == ""


def test_defaults_of_the_api_server_are_no_change_of_the_policy() -> None:
    plan = Plan(arm_ratio=0.0, workloads=(planned("cart", 3, entry="all on amd64"),))
    live = placing({"Deployment.pay": "all on arm64"})
    live.policies["shop"]["spec"]["matchConstraints"] |= {"objectSelector": {}, "excludeResourceRules": []}
    assert with_unplaced(plan, Inventory(), live, "dev").without_policy == {}
    assert {*with_unplaced(plan, Inventory(), live, "prod").without_policy} == {"shop"}


CONDITION = [{"name": "none", "expression": "false"}]
SELECTOR = {"matchLabels": {"placed": "no"}}
POD_RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}


@pytest.mark.parametrize(
    ("what", "path", "value", "said"),
    [
        ("policy", "spec.matchConditions", CONDITION, "spec.matchConditions of its policy"),
        (
            "policy",
            "spec.matchConstraints.excludeResourceRules",
            [POD_RULE],
            "spec.matchConstraints.excludeResourceRules of its policy",
        ),
        (
            "policy",
            "spec.matchConstraints.objectSelector",
            SELECTOR,
            "spec.matchConstraints.objectSelector of its policy",
        ),
        (
            "policy",
            "spec.matchConstraints.namespaceSelector.matchExpressions",
            [{"key": "steered", "operator": "Exists"}],
            "spec.matchConstraints.namespaceSelector.matchExpressions of its policy",
        ),
        (
            "policy",
            "spec.matchConstraints.matchPolicy",
            "Exact",
            "spec.matchConstraints.matchPolicy of its policy",
        ),
        (
            "policy",
            "spec.matchConstraints.resourceRules",
            [{**POD_RULE, "resourceNames": ["web-0"], "scope": "*"}],
            "spec.matchConstraints.resourceRules of its policy",
        ),
        ("policy", "spec.failurePolicy", "Fail", "spec.failurePolicy of its policy"),
        ("policy", "spec.reinvocationPolicy", "IfNeeded", "spec.reinvocationPolicy of its policy"),
        ("policy", "spec.variables", [], "spec.variables of its policy"),
        ("policy", "spec.mutations", [], "spec.mutations of its policy"),
        ("policy", "spec.paramKind", {"kind": "ConfigMap"}, "spec.paramKind of its policy"),
        ("binding", "spec.paramRef", {"name": "x"}, "spec.paramRef of its binding"),
        (
            "binding",
            "spec.matchResources",
            {"objectSelector": SELECTOR},
            "spec.matchResources of its binding",
        ),
        ("binding", "spec.policyName", "another", "spec.policyName of its binding"),
    ],
)
def test_a_policy_that_somebody_changed_is_not_in_effect(what: str, path: str, value: Any, said: str) -> None:
    """A field that archshift has set, and one that it leaves out, because each can switch the policy off."""
    plan = Plan(arm_ratio=0.0, workloads=(planned("cart", 3, entry="all on amd64"),))
    live = copy.deepcopy(placing({"Deployment.cart": "all on amd64"}))
    *parents, last = path.split(".")
    part: Any = {"policy": live.policies, "binding": live.bindings}[what]["shop"]
    for name in parents:
        part = part[name]
    part[last] = value
    away = with_unplaced(plan, Inventory(), live, "dev").without_policy
    assert reasons.policies_away(away) == [f"{AWAY}: somebody changed {said}; the next pulumi up repairs it"]


@pytest.mark.parametrize(("what", "kind"), [("policy", ""), ("binding", "binding")])
def test_a_policy_that_is_being_deleted_is_not_in_effect_for_long(what: str, kind: str) -> None:
    """No update ends that, so a person must."""
    plan = Plan(arm_ratio=0.0, workloads=(planned("cart", 3, entry="all on amd64"),))
    live = placing({"Deployment.cart": "all on amd64"})
    item: Any = {"policy": live.policies, "binding": live.bindings}[what]["shop"]
    item["metadata"] |= {"deletionTimestamp": NEW, "finalizers": ["ops/keep"]}
    away = with_unplaced(plan, Inventory(), live, "dev").without_policy
    assert reasons.policies_away(away) == [
        f"{AWAY}: its {what} is being deleted, and ops/keep holds it; remove that finalizer with kubectl "
        f"edit mutatingadmissionpolicy{kind} archshift-placement-dev.shop, and run pulumi up"
    ]


def test_a_second_binding_is_named() -> None:
    """The API server would change each pod twice. The binding is somebody else's, so a person deletes it."""
    plan = Plan(arm_ratio=0.0, workloads=(planned("cart", 3, entry="all on amd64"),))
    live = replace(placing({"Deployment.cart": "all on amd64"}), doubled={"shop": ("again",)})
    away = with_unplaced(plan, Inventory(), live, "dev").without_policy
    assert reasons.policies_away(away) == [
        f"{AWAY}: again puts the same policy into effect once more; run kubectl delete "
        "mutatingadmissionpolicybindings again"
    ]


def test_a_policy_with_text_of_another_program_is_no_longer_in_effect() -> None:
    """The next update writes it again, so its entries are read without what archshift would not write."""
    plan = Plan(arm_ratio=0.0, workloads=(planned("cart", 3, entry="all on amd64"),))
    live = placing({"Deployment.cart": "all on amd64", "Deployment.pay": "all on arm64"})
    edited = live.policies["shop"]["spec"]["variables"][0]
    edited["expression"] = edited["expression"].replace("pay: all on arm64", "pay: on x86, as ops said!")
    assert live.data["shop"] == {"Deployment.cart": "all on amd64"}
    assert {*with_unplaced(plan, Inventory(), live, "dev").without_policy} == {"shop"}


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
