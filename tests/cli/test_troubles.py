"""Equal counts on Graviton do not hide a pod that runs nowhere."""

import json

import pytest

from tests.build import Json, pod, shop, workload
from tests.fakes import FakeCluster, Run

WORDS = "0/2 nodes are available: 2 Insufficient cpu"


def with_pending(name: str = "cart", revision: str = "5d4f") -> FakeCluster:
    """The shop with one more pod of a workload, which fits no node."""
    cluster = shop(2)
    item: Json = pod(
        f"{name}-new", owner=("ReplicaSet", f"{name}-{revision}"), labels={"pod-template-hash": revision}
    )
    condition = {"type": "PodScheduled", "status": "False", "message": WORDS}
    item["status"] = {"phase": "Pending", "conditions": [condition]}
    cluster.objects["/api/v1/pods"] = [*cluster.objects["/api/v1/pods"], item]
    return cluster


@pytest.mark.parametrize("command", ["status", "plan", "report"])
def test_pending_pods_are_named_with_the_schedulers_words(run: Run, command: str) -> None:
    _, out, _ = run(command, cluster=with_pending())
    assert f"1 pod is pending: shop/Deployment/cart: {WORDS}" in out.splitlines()


def test_status_has_an_exit_code_for_them(run: Run) -> None:
    """It counts more than inexact counts, because it is often their cause."""
    code, out, err = run("status", "--json", cluster=with_pending())
    assert (code, err) == (5, "")
    assert json.loads(out)["troubles"] == [
        {"workload": "shop/Deployment/cart", "pending": 1, "failing": 0, "stuck": False, "words": WORDS}
    ]


def test_a_workload_that_archshift_does_not_place_only_has_a_line(run: Run) -> None:
    code, out, _ = run("status", cluster=with_pending("pay"))
    assert code == 0
    assert "1 pod is pending: shop/Deployment/pay" in out


def test_a_stuck_rollout_has_the_same_exit_code(run: Run) -> None:
    cluster = shop(2)
    stuck = workload(name="cart", replicas=4)
    condition = {
        "type": "Progressing",
        "reason": "ProgressDeadlineExceeded",
        "message": "timed out progressing",
    }
    stuck["status"] |= {"conditions": [condition], "updatedReplicas": 1}
    _, *others = cluster.objects["/apis/apps/v1/deployments"]
    cluster.objects["/apis/apps/v1/deployments"] = [stuck, *others]
    code, out, _ = run("status", cluster=cluster)
    assert code == 5
    assert "stuck rollout: shop/Deployment/cart: timed out progressing" in out


def test_the_plan_as_json_has_them(run: Run) -> None:
    _, out, _ = run("plan", "--json", cluster=with_pending())
    assert [one["words"] for one in json.loads(out)["troubles"]] == [WORDS]
