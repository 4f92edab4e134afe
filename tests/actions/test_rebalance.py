"""Pods that a rollout could not place are moved afterwards, within their workload's own limits."""

from collections.abc import Mapping
from typing import Any

import pytest

from archshift.actions.rebalance import rebalance
from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.pod_fields import Inexact
from archshift.common.errors import UnavailableError
from archshift.plan.model import PlannedWorkload
from tests.build import Json, big_node, node, planned, pod, workload
from tests.fakes import PODS, FakeCluster

NODES = "/api/v1/nodes"
SHOP_PODS = "/api/v1/namespaces/shop/pods"
CARTS = "/apis/apps/v1/namespaces/shop/deployments"


class Placing(FakeCluster):
    """A cluster that replaces evicted pods, on Graviton while there is room."""

    def __init__(self, x86: int, graviton: int, room: int, budget: int = 99, **options: Any) -> None:
        super().__init__({NODES: [node("intel", "amd64"), node("arm")]})
        self.pods = {f"pod-{i}": "intel" if i < x86 else "arm" for i in range(x86 + graviton)}
        self.room, self.budget = room, budget
        self.others: list[Json] = []
        self.lowest = len(self.pods)
        self.options = options

    def before(self, verb: str, path: str) -> None:
        """Settle the Deployment whenever it is looked at."""
        del verb
        if path == CARTS:
            self._replace()
        self.objects[CARTS] = [workload(name="cart", replicas=len(self.pods), **self.options)]
        self.objects[PODS] = [
            pod(
                name,
                where,
                owner=("ReplicaSet", "cart-5d8f"),
                labels={"app": "cart", "pod-template-hash": "5d8f"},
                terminating=name in self.evicted,
            )
            for name, where in self.pods.items()
        ] + self.others
        for item in self.objects[PODS]:
            ready = "True" if item["spec"].get("nodeName") else "False"
            item["status"].setdefault("conditions", []).append({"type": "Ready", "status": ready})

    def _replace(self) -> None:
        for name in [name for name in self.evicted if name in self.pods]:
            del self.pods[name]
            side = "arm" if self.room else "intel"
            self.room -= side == "arm"
            self.pods[f"{name}-again"] = side

    def allows(self, pod: Json, uid: str) -> bool:
        """Evict, unless the budget is used up."""
        assert (pod["metadata"]["namespace"], uid) == ("shop", pod["metadata"]["uid"])
        self.budget -= 1
        return self.budget >= 0

    def terminate(self, pod: Json) -> None:
        """Count the pods that are left; the others end."""
        del pod
        self.lowest = min(self.lowest, len(self.pods.keys() - set(self.evicted)))


class Flaky(Placing):
    """The same behind a network that loses the first answer to every question, and to one eviction."""

    def __init__(self, x86: int, graviton: int, room: int) -> None:
        super().__init__(x86, graviton, room)
        self.lost: set[str] = set()

    def _lose(self, what: str) -> None:
        if what not in self.lost:
            self.lost.add(what)
            raise UnavailableError("the cluster cannot be reached")

    def before(self, verb: str, path: str) -> None:
        """Answer the second time."""
        if verb != "evict":
            self._lose(path)
        super().before(verb, path)

    def after(self, verb: str, path: str) -> None:
        """Lose the first answer to an eviction, which happened."""
        del path
        self._lose(verb)


def row(wanted: int, replicas: int) -> PlannedWorkload:
    """The plan for shop/Deployment/cart."""
    return planned("cart", replicas, wanted)


def strategy(**rolling: Any) -> Mapping[str, Any]:
    """The spec of a Deployment with these limits."""
    return {"strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}}


def test_pods_on_the_wrong_side_are_evicted_until_the_count_is_right() -> None:
    """Six of ten where eight are wanted: two x86 pods go, and no more than the limits allow at a time."""
    cluster = Placing(x86=4, graviton=6, room=3)
    assert rebalance(cluster, [row(8, 10)]) == {}
    assert sorted(cluster.pods.values()) == ["arm"] * 8 + ["intel"] * 2
    assert len(cluster.evicted) == 2
    assert cluster.lowest >= 8  # a quarter of ten, rounded down, may be away


class BehindTheTimes(Placing):
    """A cluster whose Deployment's status is always that before the last eviction."""

    def __init__(self, x86: int, graviton: int, room: int) -> None:
        super().__init__(x86, graviton, room)
        self.starting: dict[str, int] = {}
        self.away = 0

    def before(self, verb: str, path: str) -> None:
        """A successor is ready at the third look at it, and the status says all the time that all is well."""
        super().before(verb, path)
        if path != SHOP_PODS:
            return
        for item in self.objects[PODS]:
            name = item["metadata"]["name"]
            if not name.endswith("-again"):
                continue
            self.starting[name] = self.starting.get(name, 0) + 1
            if self.starting[name] <= 3:
                item["status"]["conditions"] = [{"type": "Ready", "status": "False"}]

    def terminate(self, pod: Json) -> None:
        """Count the pods that are away: those evicted now, and successors that are not ready yet."""
        super().terminate(pod)
        gone = sum(name in self.pods for name in self.evicted)
        self.away = max(self.away, gone + sum(looks <= 3 for looks in self.starting.values()))


def test_an_old_status_does_not_make_it_evict_too_many() -> None:
    """A quarter of ten, rounded down, may be away: two, though the status never shows that they are."""
    cluster = BehindTheTimes(x86=8, graviton=2, room=9)
    assert rebalance(cluster, [row(8, 10)]) == {}
    assert len(cluster.evicted) == 6
    assert cluster.away == 2


def test_what_is_right_is_left_alone() -> None:
    """No pod is touched where the counts are those of the plan."""
    cluster = Placing(x86=2, graviton=8, room=3)
    assert rebalance(cluster, [row(8, 10)]) == {}
    assert cluster.evicted == []


def test_pods_of_the_fullest_zone_and_node_are_evicted_first() -> None:
    """A hard zone spread permits the Graviton zone a new pod only when a pod of the fullest zone is gone."""

    cluster = Placing(x86=5, graviton=2, room=1)
    zones = {"intel-b": "b", "intel-c": "c", "intel-d": "c", "arm": "a"}
    nodes = [node(name, "arm64" if name == "arm" else "amd64") for name in zones]
    for item, zone in zip(nodes, zones.values(), strict=True):
        item["metadata"]["labels"]["topology.kubernetes.io/zone"] = zone
    cluster.objects[NODES] = nodes
    x86 = ("intel-b", "intel-b", "intel-c", "intel-d", "intel-d")
    cluster.pods |= {f"pod-{index}": name for index, name in enumerate(x86)}
    assert rebalance(cluster, [row(3, 7)]) == {}
    assert cluster.evicted == ["pod-3"]


def test_limits_of_the_rollout_hold() -> None:
    """With maxUnavailable 0 no pod is evicted, and the reason is said."""
    cluster = Placing(x86=4, graviton=6, room=3, spec=strategy(maxUnavailable=0, maxSurge=1))
    assert rebalance(cluster, [row(8, 10)]) == {
        "shop/Deployment/cart": "its rollout limits allow no unavailable pod"
    }
    assert cluster.evicted == []


@pytest.mark.parametrize(("before", "nodes"), [(("intel",), 0), (("intel", "arm"), 1)])
def test_nodes_that_came_too_late_for_a_rollout_are_a_reason_to_try_again(
    before: tuple[str, ...], nodes: int
) -> None:
    """The note has the nodes that the rollout could use, and the plan compares it with those of now."""
    known = [big_node(name, "arm64" if name == "arm" else "amd64") for name in before]
    limited = Placing(x86=4, graviton=6, room=3, spec=strategy(maxUnavailable=0, maxSurge=1))
    # Evictions showed what the nodes of now have room for.
    full = Placing(x86=4, graviton=6, room=0)
    for cluster, there in ((limited, nodes), (full, 1)):
        assert rebalance(cluster, [row(8, 10)], nodes_before=known)
        ((_, noted, _, _),) = cluster.patches
        assert Inexact.parse(noted["metadata"]["annotations"]["archshift/inexact"]) == Inexact("", 6, there)


def test_one_at_a_time_where_the_limit_is_one() -> None:
    """maxUnavailable 1 is one pod at a time, as in a rollout."""
    cluster = Placing(x86=4, graviton=6, room=3, spec=strategy(maxUnavailable=1))
    assert rebalance(cluster, [row(8, 10)]) == {}
    assert cluster.lowest == 9


def test_lost_answers_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that to an eviction, which happened: no pod is evicted twice, and the limits hold."""
    monkeypatch.setattr("archshift.common.polling.time.sleep", lambda _: None)
    cluster = Flaky(x86=6, graviton=2, room=9)
    assert rebalance(cluster, [row(wanted=4, replicas=8)]) == {}
    assert len(cluster.lost) == 4
    assert len(cluster.evicted) == len(set(cluster.evicted)) == 2
    assert cluster.lowest >= 6


def test_it_gives_up_where_there_is_no_room() -> None:
    """A side that is really full is said, not tried for ever."""
    cluster = Placing(x86=4, graviton=6, room=0)
    assert rebalance(cluster, [row(8, 10)]) == {
        "shop/Deployment/cart": "the scheduler puts 2 of its pods on the other side, although Graviton nodes "
        "have room; check its own spread constraints and pod affinities"
    }
    # The next update reads this and does not roll it out for nothing.
    ((_, noted, _, _),) = cluster.patches
    assert Inexact.parse(noted["metadata"]["annotations"]["archshift/inexact"]) == Inexact("", 6, 1)
    assert len(cluster.evicted) == 2


def test_a_full_side_is_told_from_rules_that_forbid_it() -> None:
    """Only a full side needs more nodes."""
    cluster = Placing(x86=4, graviton=6, room=0)
    # 250m each: the node of 4 vCPU has 16 of them.
    cluster.others = [pod(f"other-{number}", "arm", owner=("ReplicaSet", "other")) for number in range(10)]
    assert rebalance(cluster, [row(8, 10)]) == {
        "shop/Deployment/cart": "2 of its pods do not fit on Graviton; "
        "add nodes there and run pulumi up again"
    }


def test_nodes_that_may_yet_join_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that makes nodes is over before they have joined: a full side is tried again, on a node that
    was not there at first too.
    """

    class Joining(Placing):
        seen = 0

        def before(self, verb: str, path: str) -> None:
            if path == NODES and len(self.evicted) == 2:
                self.seen += 1
                # It is there at first, and ready later.
                self.objects[NODES] = [node("intel", "amd64"), node("arm"), node("late", ready=self.seen > 3)]
                self.room = 2 if self.seen > 3 else 0
            super().before(verb, path)

    monkeypatch.setattr("archshift.common.polling.time.sleep", lambda _: None)
    cluster = Joining(x86=4, graviton=6, room=0)
    assert rebalance(cluster, [row(8, 10)], patience=20) == {}
    assert sorted(cluster.pods.values()) == ["arm"] * 8 + ["intel"] * 2
    assert len(cluster.evicted) == 4  # two in vain, and none again before the node was ready


def test_a_budget_that_allows_nothing_is_said() -> None:
    """The API server refuses the evictions: no pod is lost, and the sentence names the budget."""
    cluster = Placing(x86=4, graviton=6, room=3, budget=0)
    assert rebalance(cluster, [row(8, 10)], timeout=0.0) == {
        "shop/Deployment/cart": "its PodDisruptionBudget allows no eviction"
    }
    assert cluster.evicted == []


def test_an_autoscaler_in_between_is_said() -> None:
    """The plan's number is for the replicas that it saw."""
    cluster = Placing(x86=4, graviton=8, room=3)
    assert rebalance(cluster, [row(8, 10)]) == {
        "shop/Deployment/cart": "it now has 12 replicas, but the plan was for 10"
    }


def test_two_deployments_with_one_selector_are_told_apart() -> None:
    """Pods belong to their owners: the other Deployment's pods have the same labels, and are not counted."""
    cluster = Placing(x86=4, graviton=6, room=3)
    labels = {"app": "cart", "pod-template-hash": "77aa"}
    cluster.others = [
        pod("leader-77aa-x", "intel", owner=("ReplicaSet", "leader-77aa"), labels=labels),
        pod("by-hand", "intel", labels={"app": "cart"}),
    ]
    assert rebalance(cluster, [row(8, 10)]) == {}
    assert len(cluster.evicted) == 2
    assert all(name.startswith("pod-") for name in cluster.evicted)


def test_a_budget_of_one_workload_does_not_keep_the_others_waiting() -> None:
    """All workloads are looked at in turn, so a blocked one takes no time from the others."""

    class Blocked(Placing):
        asked = 0

        def allows(self, pod: Json, uid: str) -> bool:
            del pod, uid
            self.asked += 1
            return False

    cluster = Blocked(x86=4, graviton=6, room=3)
    rows = [row(8, 10)] * 20
    assert set(rebalance(cluster, rows, timeout=0.0).values()) == {
        "its PodDisruptionBudget allows no eviction"
    }
    assert cluster.asked >= 20


def test_a_workload_that_is_gone_stops_no_other() -> None:
    cluster = Placing(x86=4, graviton=6, room=3)
    gone = planned("gone", 3, 3)
    reasons = rebalance(cluster, [gone, row(8, 10)])
    assert reasons == {"shop/Deployment/gone": "it was deleted during the step"}
    assert len(cluster.evicted) == 2


@pytest.mark.parametrize(
    ("rolling", "replicas", "away"),
    [
        ({}, 10, 2),
        ({}, 3, 0),  # the surge of 1 replaces them one by one
        ({"maxSurge": 0}, 3, 1),  # both round to 0
        ({"maxSurge": 0, "maxUnavailable": "10%"}, 4, 1),
        ({"maxSurge": "1%", "maxUnavailable": 0}, 4, 0),
        ({"maxSurge": "0%", "maxUnavailable": "50%"}, 4, 2),
        ({"maxUnavailable": 9}, 4, 4),
    ],
)
def test_the_limits_of_a_deployment_round_as_its_controller_does(
    rolling: Mapping[str, Any], replicas: int, away: int
) -> None:
    live = workload(replicas=replicas, spec=strategy(**rolling))
    assert CONTROLLERS["Deployment"].may_be_away(live) == away


def test_new_pods_that_do_not_come_up_are_said_in_the_schedulers_words() -> None:
    """Not "add nodes", and not "a budget": what holds them is known."""

    class Waiting(Placing):
        def before(self, verb: str, path: str) -> None:
            super().before(verb, path)
            live = self.objects[CARTS][0]
            if self.evicted:
                live["status"]["availableReplicas"] = 9
                waiting = pod(
                    "new",
                    owner=("ReplicaSet", "cart-5d8f"),
                    labels={"app": "cart", "pod-template-hash": "5d8f"},
                )
                message = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector."
                message += " preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling."
                waiting["status"] = {
                    "phase": "Pending",
                    "conditions": [{"type": "PodScheduled", "status": "False", "message": message}],
                }
                self.objects[PODS] = [*self.objects[PODS], waiting]

    cluster = Waiting(x86=4, graviton=6, room=3)
    assert rebalance(cluster, [row(8, 10)], timeout=0.0) == {
        "shop/Deployment/cart": "its new pods are not ready (0/2 nodes are available: 2 node(s) didn't match "
        "Pod's node affinity/selector)"
    }
