"""What an update changes on node groups that exist, in numbers, and what it must leave to the pods there."""

from dataclasses import replace
from typing import Any

import pytest

from archshift.cluster.model import Workload
from archshift.cluster.pod_fields import Template
from archshift.nodes.groups import RETIRED, Node, Taint
from archshift.plan.group_changes import (
    as_sent,
    change_of,
    differs,
    going,
    not_sent,
    shrinks_too_far,
    stranded,
)
from tests.build import deployment, eks_group, inventory, live_group
from tests.build import plan_node as node


def imported(live: Any, **options: Any) -> Any:
    """A group that imports the live one and changes only what the options say."""
    same = {
        "min_size": live.min_size,
        "desired_size": live.desired_size,
        "max_size": live.max_size,
        "max_unavailable": live.max_unavailable or 1,
        "labels": live.own_labels,
        "taints": live.own_taints,
    }
    return eks_group("x86", "m5.large", import_name=live.name, live=live, **{**same, **options})


OLD = live_group(
    "general",
    size=22,
    max_size=30,
    max_unavailable="33%",
    labels={"team": "shop"},
    taints=(Taint(key="spot", value="true"),),
)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({}, ""),
        (
            {"desired_size": 7, "max_size": 10},
            "node group x86: this update changes 'general': desired_size 22 to 7, max_size 30 to 10",
        ),
        ({"max_unavailable": 1}, "node group x86: this update changes 'general': max_unavailable 33% to 1"),
        (
            {"labels": {"team": "web"}},
            "node group x86: this update changes 'general': label team shop to web",
        ),
        ({"labels": {}}, "node group x86: this update changes 'general': label team shop to none"),
        ({"labels": {"team": "shop", "pool": "main"}}, ""),
        (
            {"taints": (RETIRED,)},
            "node group x86: this update changes 'general': no taint spot=true:NoSchedule any more",
        ),
        (
            {"retired": True, "min_size": 0},
            "node group x86: this update changes 'general': min_size 2 to 0, it takes no new pods",
        ),
        (
            {"released": True},
            "node group x86: this update hands 'general' back, and takes off what archshift set. Then remove "
            "the group from archshift:node_groups, and nobody deletes it",
        ),
    ],
)
def test_a_change_of_a_group_that_exists_is_said_in_numbers(change: dict[str, Any], sentence: str) -> None:
    assert change_of(imported(OLD, **change)) == sentence


def test_what_archshift_sets_and_removes_itself_is_no_news() -> None:
    """Its own labels and taints, also the label for dashboards."""
    again = live_group("general", taints=(RETIRED,))
    assert change_of(imported(again)) == (
        "node group x86: this update changes 'general': it takes new pods again"
    )
    live = live_group(
        "general",
        labels={"architecture": "amd64", "archshift/node-group": "x86", "archshift/stack": "prod"},
        taints=(Taint(key="archshift/amd64", effect="PreferNoSchedule"),),
    )
    assert change_of(imported(live)) == ""
    assert change_of(eks_group("x86", "m5.large")) == ""


SIZES = {"minSize": 2.0, "desiredSize": 5.0, "maxSize": 8.0}
STATE = {
    "scalingConfig": SIZES,
    "updateConfig": {"maxUnavailablePercentage": 33.0},
    "labels": {"team": "shop", "archshift/node-group": "x86", "architecture": "amd64"},
    "taints": [{"key": "spot", "value": "true", "effect": "NO_SCHEDULE"}],
}


def of_state(state: dict[str, Any], **change: Any) -> Any:
    """The group of ``STATE``, after somebody changed everything of it at EKS."""
    mine = {"min_size": 2, "desired_size": 5, "max_size": 8, "max_unavailable": "33%"}
    mine |= {"labels": {"team": "shop"}, "taints": (Taint(key="spot", value="true"),)}
    there = live_group(
        "general",
        size=22,
        min_size=20,
        max_size=30,
        max_unavailable=4,
        labels={"team": "web", "extra": "1"},
        taints=(Taint(key="maintenance"),),
    )
    return as_sent(imported(there, **{**mine, **change}), state)


def test_what_an_update_does_not_send_is_no_change() -> None:
    """The engine compares with the state: what somebody changed at EKS alone stays, and no node goes."""
    group = of_state(STATE)
    assert change_of(group) == ""
    assert going(group) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"max_size": 9}, "min_size 20 to 2, desired_size 22 to 5, max_size 30 to 9"),
        ({"max_unavailable": 1}, "max_unavailable 4 to 1"),
        ({"labels": {"team": "data"}}, "label team web to data"),
        ({"retired": True, "taints": (Taint(key="spot", value="true"), RETIRED)}, "it takes no new pods"),
    ],
)
def test_a_change_of_the_settings_is_compared_with_eks(change: dict[str, Any], said: str) -> None:
    """One size sends all three, so each of them changes."""
    assert change_of(of_state(STATE, **change)) == f"node group x86: this update changes 'general': {said}"


def test_what_others_take_off_a_group_is_gone_and_said() -> None:
    """As the next run of Terraform does, with labels and taints of the settings and of archshift itself. The
    engine compares with the state, so the next update sets nothing of it again.
    """
    typed: dict[str, Any] = {
        "labels": {"pool": "main", "team": "shop"},
        "taints": (Taint(key="batch"), RETIRED),
    }
    labels = {**typed["labels"], "architecture": "amd64", "archshift/node-group": "x86"}
    state = {
        "scalingConfig": {"minSize": 2, "desiredSize": 3, "maxSize": 8},
        "updateConfig": {"maxUnavailable": 1},
        "labels": labels,
        "taints": [{"key": taint.key, "effect": "NO_SCHEDULE"} for taint in typed["taints"]],
    }
    whole = imported(live_group("general", labels=labels, taints=typed["taints"]), retired=True, **typed)
    assert not differs(whole)
    assert not_sent(whole, as_sent(whole, state)) == ""

    stripped = imported(live_group("general", labels={"team": "web"}), retired=True, **typed)
    sent = as_sent(stripped, state)
    assert differs(stripped)
    assert (dict(sent.node_labels), sent.taints, sent.retired) == ({"team": "web"}, (), False)
    assert change_of(sent) == ""
    assert not_sent(stripped, sent) == (
        "node group x86: somebody changed 'general' at EKS (the label architecture, the label "
        "archshift/node-group, the label pool, the label team, the taint batch:NoSchedule, the taint "
        "archshift/retired:NoSchedule); this update does not change it back, but pulumi up --refresh does"
    )
    # After a refresh the state has what EKS has, and the update sends all of it.
    fresh = as_sent(stripped, {**state, "labels": {"team": "web"}, "taints": []})
    assert (fresh.node_labels, fresh.taints) == (stripped.node_labels, stripped.taints)
    assert not_sent(stripped, fresh) == ""


def test_another_version_of_nodes_is_said_when_it_is_sent() -> None:
    """An upgrade by hand is not undone; EKS could not go back."""
    live = live_group("graviton-1", "m7g.large", version="1.33", release_version="1.33.5-20251112")
    group = eks_group("graviton", live=live, min_size=2, size=3, most=8, version="1.34")
    assert change_of(group) == "node group graviton: this update changes 'graviton-1': version 1.33 to 1.34"
    by_hand = replace(live, version="1.35")
    sent = as_sent(replace(group, live=by_hand), {**STATE, "version": "1.34"})
    assert "version" not in change_of(sent)
    assert change_of(eks_group("graviton", live=live, min_size=2, size=3, most=8)) == ""


def test_a_group_that_the_stack_does_not_have_yet_is_compared_with_eks() -> None:
    """An import changes what differs. So does the first update after a refresh."""
    whole = imported(OLD, desired_size=7)
    assert as_sent(whole, None) == whole
    assert going(of_state({**STATE, "scalingConfig": {**SIZES, "desiredSize": 22.0}})) == 17


def test_nodes_may_go_as_far_as_they_are_empty() -> None:
    """AWS chooses which ones; as many must stay as have pods."""
    smaller = imported(OLD, desired_size=20)
    assert going(smaller) == 2
    assert shrinks_too_far(smaller, 22, {f"ip-{n}" for n in range(20)}, ["shop/cart-1"]) == ""
    assert shrinks_too_far(smaller, 22, {f"ip-{n}" for n in range(21)}, ["shop/cart-1"]) == (
        "archshift:node_groups.x86: desired_size 22 to 20 takes 2 nodes away, and pods run on 21 of its 22 "
        "(shop/cart-1)"
    )
    assert shrinks_too_far(imported(OLD), 22, {"ip-1"}, ["shop/cart-1"]) == ""


ARM = node("arm-0", "arm64")
TAINTED = node("arm-0", "arm64", taints=(RETIRED,))


def test_the_last_nodes_of_a_side_that_take_its_pods_stay_so() -> None:
    """With a taint on all of them, pods that are replaced would stay pending."""
    there = inventory(deployment("cart", 3), graviton={"cart": 3}, nodes=(ARM,))
    assert stranded(there, [TAINTED]) == (
        "this update would leave 3 pods without any Graviton node that takes them (shop/Deployment/cart): no "
        "Graviton node is without the taint archshift/retired, which it does not tolerate"
    )
    assert stranded(there, [TAINTED, node("arm-1", "arm64")]) == ""
    assert stranded(there, [node("x86-0", "amd64", taints=(RETIRED,)), ARM]) == ""


def test_a_side_without_pods_and_pods_that_tolerate_the_taint_strand_nobody() -> None:
    """Neither do DaemonSets, nor pods that had no node before."""
    moved = inventory(deployment("cart", 3), graviton={"cart": 0}, nodes=(ARM,))
    assert stranded(moved, [TAINTED]) == ""
    everywhere = ({"operator": "Exists"},)
    for workload in (deployment("cart", 3, tolerations=everywhere), deployment("cart", 3, kind="DaemonSet")):
        assert stranded(inventory(workload, graviton={"cart": 3}, nodes=(ARM,)), [TAINTED]) == ""
    before = inventory(deployment("cart", 3), graviton={"cart": 3}, nodes=(TAINTED,))
    assert stranded(before, [TAINTED]) == ""


def test_nodes_that_come_and_go_strand_nobody() -> None:
    """Only a change of a node that stays does. Whether a new node takes a pod may be unknown."""
    there = inventory(deployment("cart", 3), graviton={"cart": 3}, nodes=(ARM,))
    assert stranded(there, []) == ""
    assert stranded(there, [node("new-0", "arm64", taints=(RETIRED,))]) == ""


def test_a_label_that_pods_select_stays_on_some_node_of_their_side() -> None:
    labelled = node("arm-0", "arm64", labels={"team": "shop"})
    cart = deployment("cart", 3, template=Template(spec={"node-selector": {"team": "shop"}}))
    there = inventory(cart, graviton={"cart": 3}, nodes=(labelled,))
    assert stranded(there, [labelled]) == ""
    assert stranded(there, [node("arm-0", "arm64", labels={"team": "web"})]) == (
        "this update would leave 3 pods without any Graviton node that takes them (shop/Deployment/cart): no "
        "Graviton node matches its own node selector or affinity"
    )


@pytest.mark.parametrize(("after", "questions"), [(ARM, 0), (TAINTED, 1)])
def test_a_large_fleet_asks_once_for_equal_workloads(
    monkeypatch: pytest.MonkeyPatch, after: Node, questions: int
) -> None:
    """And never if no node changes: with 5,000 workloads on 2,000 nodes, that took longer than the plan."""
    asked = []
    real = Workload.why_nowhere

    def why_nowhere(workload: Workload, nodes: Any, **options: Any) -> Any:
        if len(nodes) > 1:
            asked.append(workload.key)
        return real(workload, nodes, **options)

    monkeypatch.setattr(Workload, "why_nowhere", why_nowhere)
    fleet = [deployment(f"w-{number}", 1) for number in range(20)]
    other = node("arm-1", "arm64")
    there = inventory(*fleet, graviton={one.name: 1 for one in fleet}, nodes=(ARM, other))
    assert stranded(there, [after, other]) == ""
    assert len(asked) == questions
