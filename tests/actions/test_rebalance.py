"""Pods that a rollout could not place are moved afterwards, within their workload's own limits."""

from collections.abc import Mapping
from typing import Any

import pytest

from archshift.actions.rebalance import explain_inexact, rebalance
from archshift.common.errors import UnavailableError
from archshift.plan.model import PlannedWorkload
from tests.build import node, planned, workload
from tests.fakes import FakeCluster

Json = dict[str, Any]


class Placing(FakeCluster):
    """A cluster that replaces evicted pods, on Graviton while there is room."""

    def __init__(self, x86: int, graviton: int, room: int, budget: int = 99, **options: Any) -> None:
        super().__init__({"/api/v1/nodes": [node("intel", "amd64"), node("arm")]})
        self.pods = {f"pod-{i}": "intel" if i < x86 else "arm" for i in range(x86 + graviton)}
        self.room, self.budget = room, budget
        self.evicted: list[str] = []
        self.lowest = len(self.pods)
        self.options = options

    def get(self, path: str) -> Json:
        """The Deployment, settled again whenever it is looked at."""
        assert path == "/apis/apps/v1/namespaces/shop/deployments/cart"
        for name in [name for name in self.evicted if name in self.pods]:
            del self.pods[name]
            side = "arm" if self.room else "intel"
            self.room -= side == "arm"
            self.pods[f"{name}-again"] = side
        return workload(name="cart", replicas=len(self.pods), **self.options)

    def list(self, path: str, **parameters: str) -> Any:
        """Nodes, and the pods that its selector finds."""
        if path != "/api/v1/namespaces/shop/pods":
            yield from super().list(path, **parameters)
            return
        assert parameters == {"labelSelector": "app=cart"}
        for name, where in self.pods.items():
            gone = {"deletionTimestamp": "2026-01-01T00:00:00Z"} if name in self.evicted else {}
            yield {"metadata": {"namespace": "shop", "name": name, **gone}, "spec": {"nodeName": where}}

    def evict(self, namespace: str, pod: str, uid: str = "") -> bool:
        """Evict, unless the budget is used up."""
        assert (namespace, uid) == ("shop", "")
        if not self.budget:
            return False
        self.budget -= 1
        self.evicted.append(pod)
        self.lowest = min(self.lowest, len(self.pods.keys() - set(self.evicted)))
        return True


class Flaky(Placing):
    """The same behind a network that loses the first answer to every question, and to one eviction."""

    def __init__(self, x86: int, graviton: int, room: int) -> None:
        super().__init__(x86, graviton, room)
        self.lost: set[str] = set()

    def _lose(self, what: str) -> None:
        if what not in self.lost:
            self.lost.add(what)
            raise UnavailableError("the cluster cannot be reached")

    def get(self, path: str) -> Json:
        """Answer the second time."""
        self._lose(path)
        return super().get(path)

    def list(self, path: str, **parameters: str) -> Any:
        """Answer the second time."""
        self._lose(path)
        return super().list(path, **parameters)

    def evict(self, namespace: str, pod: str, uid: str = "") -> bool:
        """Evict, and lose the first answer."""
        done = super().evict(namespace, pod, uid)
        self._lose("evict")
        return done


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
        "shop/Deployment/cart": "its rollout limits let no pod be away"
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
        "shop/Deployment/cart": "2 of its pods find no room on Graviton"
    }
    assert len(cluster.evicted) == 2


def test_nodes_that_may_yet_join_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """An update that makes nodes is over before they have joined: a full side is tried again, on a node that
    was not there at first too.
    """

    class Joining(Placing):
        def evict(self, namespace: str, pod: str, uid: str = "") -> bool:
            if len(self.evicted) == 2:
                self.room = 2
                self.objects["/api/v1/nodes"] = [node("intel", "amd64"), node("arm")]
            return super().evict(namespace, pod, uid)

    monkeypatch.setattr("archshift.actions.rebalance._AGAIN_SECONDS", 0.01)
    cluster = Joining(x86=4, graviton=6, room=0)
    # The node of the pods that are on Graviton already has joined since the nodes were read.
    cluster.objects["/api/v1/nodes"] = [node("intel", "amd64")]
    assert rebalance(cluster, [row(8, 10)], patience=20) == {}
    assert sorted(cluster.pods.values()) == ["arm"] * 8 + ["intel"] * 2


def test_a_budget_that_allows_nothing_is_said() -> None:
    """The API server refuses the evictions: no pod is lost, and the sentence names the budget."""
    cluster = Placing(x86=4, graviton=6, room=3, budget=0)
    assert rebalance(cluster, [row(8, 10)], timeout=0.0) == {
        "shop/Deployment/cart": "its PodDisruptionBudget or its new pods took too long"
    }
    assert cluster.evicted == []


def test_an_autoscaler_in_between_is_said() -> None:
    """The plan's number is for the replicas that it saw."""
    cluster = Placing(x86=4, graviton=8, room=3)
    assert rebalance(cluster, [row(8, 10)]) == {
        "shop/Deployment/cart": "it has 12 replicas now, not the 10 of the plan"
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
