"""What of a pod decides whether its node may go."""

from archshift.cluster.inventory import read_node
from archshift.cluster.pods import Controller, busy_pods, read_pod
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
