"""Pods that a rollout could not place are moved afterwards, within their workload's own limits."""

from collections.abc import Mapping
from typing import Any

import pytest

from archshift.actions.rebalance import explain_inexact, rebalance
from archshift.cluster.pod_fields import Inexact
from archshift.common.errors import UnavailableError
from archshift.plan.model import PlannedWorkload
from tests.build import Json, node, planned, pod, workload
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
        self.lowest = len(self.pods)
        self.options = options

    def before(self, verb: str, path: str) -> None:
        """Settle the Deployment whenever it is looked at; its pods are what its selector finds."""
        if verb == "get":
            self._replace()
        if path == SHOP_PODS:
            assert self.lists[-1] == (SHOP_PODS, {"labelSelector": "app=cart"})
        self.objects[CARTS] = [workload(name="cart", replicas=len(self.pods), **self.options)]
        self.objects[PODS] = [
            pod(name, where, labels={"app": "cart"}, terminating=name in self.evicted)
            for name, where in self.pods.items()
        ]

    def _replace(self) -> None:
        for name in [name for name in self.evicted if name in self.pods]:
            del self.pods[name]
            side = "arm" if self.room else "intel"
            self.room -= side == "arm"
            self.pods[f"{name}-again"] = side

    def allows(self, pod: Json, uid: str) -> bool:
        """Evict, unless the budget is used up."""
        assert (pod["metadata"]["namespace"], uid) == ("shop", "")
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


def test_what_is_right_is_left_alone() -> None:
    """No pod is touched where the counts are those of the plan."""
    cluster = Placing(x86=2, graviton=8, room=3)
    assert rebalance(cluster, [row(8, 10)]) == {}
    assert cluster.evicted == []


def test_limits_of_the_rollout_hold() -> None:
    """With maxUnavailable 0 no pod is evicted, and the reason is said."""
    cluster = Placing(x86=4, graviton=6, room=3, spec=strategy(maxUnavailable=0, maxSurge=1))
    assert rebalance(cluster, [row(8, 10)]) == {
        "shop/Deployment/cart": "its rollout limits allow no unavailable pod"
    }
    assert cluster.evicted == []


def test_one_at_a_time_where_the_limit_is_one() -> None:
    """maxUnavailable 1 is one pod at a time, as in a rollout."""
    cluster = Placing(x86=4, graviton=6, room=3, spec=strategy(maxUnavailable=1))
    assert rebalance(cluster, [row(8, 10)]) == {}
    assert cluster.lowest == 9


def test_lost_answers_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also that to an eviction, which happened: no pod is evicted twice, and the limits hold."""
    monkeypatch.setattr("archshift.actions.rebalance.time.sleep", lambda _: None)
    cluster = Flaky(x86=6, graviton=2, room=9)
    assert rebalance(cluster, [row(wanted=4, replicas=8)]) == {}
    assert len(cluster.lost) == 4
    assert len(cluster.evicted) == len(set(cluster.evicted)) == 2
    assert cluster.lowest >= 6


def test_it_gives_up_where_there_is_no_room() -> None:
    """A side that is really full is said, not tried for ever."""
    cluster = Placing(x86=4, graviton=6, room=0)
    assert rebalance(cluster, [row(8, 10)]) == {
        "shop/Deployment/cart": "2 of its pods do not fit on Graviton"
    }
    # The next update reads this and does not roll it out for nothing.
    ((_, noted, _, _),) = cluster.patches
    assert Inexact.parse(noted["metadata"]["annotations"]["archshift/inexact"]) == Inexact("", 6, 1)
    assert len(cluster.evicted) == 2


def test_nodes_that_may_yet_join_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that makes nodes is over before they have joined: a full side is tried again, on a node that
    was not there at first too.
    """

    class Joining(Placing):
        def before(self, verb: str, path: str) -> None:
            if verb == "evict" and len(self.evicted) == 2:
                self.room = 2
                self.objects[NODES] = [node("intel", "amd64"), node("arm")]
            super().before(verb, path)

    monkeypatch.setattr("archshift.actions.rebalance._AGAIN_SECONDS", 0.01)
    cluster = Joining(x86=4, graviton=6, room=0)
    # The node of the pods that are on Graviton already has joined since the nodes were read.
    cluster.objects[NODES] = [node("intel", "amd64")]
    assert rebalance(cluster, [row(8, 10)], patience=20) == {}
    assert sorted(cluster.pods.values()) == ["arm"] * 8 + ["intel"] * 2


def test_a_budget_that_allows_nothing_is_said() -> None:
    """The API server refuses the evictions: no pod is lost, and the sentence names the budget."""
    cluster = Placing(x86=4, graviton=6, room=3, budget=0)
    assert rebalance(cluster, [row(8, 10)], timeout=0.0) == {
        "shop/Deployment/cart": "its PodDisruptionBudget or its new pods blocked the evictions for too long"
    }
    assert cluster.evicted == []


def test_an_autoscaler_in_between_is_said() -> None:
    """The plan's number is for the replicas that it saw."""
    cluster = Placing(x86=4, graviton=8, room=3)
    assert rebalance(cluster, [row(8, 10)]) == {
        "shop/Deployment/cart": "it now has 12 replicas, but the plan was for 10"
    }


def test_the_sentence_names_five_and_counts_the_rest() -> None:
    """What a person reads after an up that is not exact."""
    assert explain_inexact({}) == ""
    reasons = {f"shop/Deployment/{name}": "full" for name in "abcdefg"}
    assert explain_inexact(reasons) == (
        "not exact yet: shop/Deployment/a: full; shop/Deployment/b: full; shop/Deployment/c: full; "
        "shop/Deployment/d: full; shop/Deployment/e: full; 2 more; add nodes on that side and run pulumi up "
        "again"
    )
