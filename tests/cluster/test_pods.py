"""What of a pod decides whether its node may go, and what is said to hold it."""

from typing import Any

import pytest

from archshift.cluster.inventory import read_node
from archshift.cluster.pods import Controller, busy_pods, read_pod, what_holds
from archshift.cluster.volumes import Volumes
from archshift.cluster.workload_needs import workload_of
from archshift.nodes.groups import Node
from tests.build import Json, node, pod
from tests.fakes import FakeCluster


def mirror(name: str, where: str) -> Json:
    """The API server's copy of a pod that a kubelet runs from a file."""
    made = pod(name, where, owner=("Node", where))
    made["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "0a1b"}
    return made


def test_what_would_be_lost_with_a_node() -> None:
    """Not a DaemonSet's pods, not a mirror pod, not what is over; a bare pod is, and one that is leaving."""
    cluster = FakeCluster(
        {
            "/api/v1/pods": [
                pod("agent", "a", owner=("DaemonSet", "agent")),
                mirror("proxy", "a"),
                pod("done", "a", phase="Succeeded"),
                pod("failed", "a", phase="Failed"),
                pod("web-1-x", "a", owner=("ReplicaSet", "web-1"), labels={"pod-template-hash": "1"}),
                pod("loner", "a"),
                pod("going", "a", terminating=True),
                pod("elsewhere", "b"),
            ]
        }
    )
    found = busy_pods(cluster, ["a"])
    assert [one.key for one in found] == ["shop/web-1-x", "shop/loner", "shop/going"]
    assert [one.workload for one in found] == ["shop/Deployment/web", "shop/Pod/loner", "shop/Pod/going"]
    assert (found[0].owner, found[1].owner) == (Controller("shop", "ReplicaSet", "web-1"), None)
    assert [one.leaving for one in found] == [False, False, True]


def test_where_a_pod_may_run() -> None:
    """Its own selector and the nodes' taints decide."""

    def fits(where: Node) -> bool:
        return workload_of([read_pod(made)], Volumes()).may_run_on(where)

    made = pod("web")
    made["spec"]["nodeSelector"] = {"kubernetes.io/arch": "arm64"}
    taint = {"key": "spot", "value": "yes", "effect": "NoSchedule"}
    plain, tainted = read_node(node("a")), read_node(node("b", taints=[taint]))
    assert fits(plain)
    assert not fits(tainted)
    assert not fits(read_node(node("c", "amd64")))
    made["spec"]["tolerations"] = [{"key": "spot", "operator": "Exists"}]
    assert fits(tainted)


def budget(name: str, **selector: Any) -> Json:
    """A PodDisruptionBudget that is used up."""
    status = {"disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2}
    return {"metadata": {"name": name}, "spec": {"selector": selector}, "status": status}


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([], "the API server refuses its eviction for now"),
        ([budget("other", matchLabels={"app": "pay"})], "the API server refuses its eviction for now"),
        ([{**budget("none"), "spec": {}}], "the API server refuses its eviction for now"),
        (
            [budget("all")],
            "the PodDisruptionBudget all allows 0 disruptions (2 pods are healthy, 2 have to be)",
        ),
        (
            [
                budget("one", matchLabels={"app": "web"}),
                budget("two", matchExpressions=[{"key": "app", "operator": "Exists"}]),
            ],
            "the PodDisruptionBudgets one and two select it, and the eviction API takes no more than one",
        ),
    ],
)
def test_what_holds_a_pod_that_is_not_evicted(budgets: list[Json], words: str) -> None:
    """The budget that selects it, by its name and figures."""
    assert what_holds(read_pod(pod("web", labels={"app": "web"})), budgets) == words


@pytest.mark.parametrize(
    ("finalizers", "words"),
    [
        ([], "its containers have not ended yet"),
        (["a.example/x"], "its finalizer a.example/x holds it"),
        (["a.example/x", "b.example/y"], "its finalizers a.example/x and b.example/y hold it"),
    ],
)
def test_what_holds_a_pod_that_is_leaving(finalizers: list[str], words: str) -> None:
    """Finalizers, by their names."""
    made = pod("web", terminating=True)
    made["metadata"]["finalizers"] = finalizers
    assert what_holds(read_pod(made), []) == words
