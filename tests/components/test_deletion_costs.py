"""The resource of the deletion costs: when it writes, and that its deletion gives everything back."""

from typing import Any

import pytest
from pulumi.dynamic import Config, ConfigureRequest

from archshift.cluster.pods import COST_ANNOTATION
from components import deletion_costs
from components.deletion_costs import DeletionCostsProvider
from tests.build import node, pod
from tests.fakes import PODS, FakeCluster

OURS = "archshift/dev/deletion-costs"


def shop(uid: str = "6a0c9f1e") -> FakeCluster:
    """Two carts, one on each side."""
    owner, labels = ("ReplicaSet", "cart-5d8f"), {"pod-template-hash": "5d8f"}
    pods = [pod(f"cart-{where}", where, owner=owner, labels=labels) for where in ("arm", "x86")]
    cluster = FakeCluster({PODS: pods, "/api/v1/nodes": [node("arm"), node("x86", "amd64")]})
    cluster.uid = uid
    return cluster


def inputs(**more: Any) -> dict[str, Any]:
    """Inputs as the engine passes them on: it knows only floats."""
    shares = {"shop/Deployment/cart": [1.0, 2.0]}
    return {"shares": shares, "due": [], "fieldManager": OURS, "cluster": "6a0c9f1e", **more}


def provider(monkeypatch: pytest.MonkeyPatch, cluster: FakeCluster) -> DeletionCostsProvider:
    monkeypatch.setattr(deletion_costs, "connect", lambda _: cluster)
    made = DeletionCostsProvider()
    made.configure(ConfigureRequest(config=Config(raw_config={}, project_name="archshift")))
    return made


def annotations(cluster: FakeCluster) -> list[dict[str, str]]:
    return [item["metadata"].get("annotations") or {} for item in cluster.objects[PODS]]


def test_costs_are_written_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = shop()
    made = provider(monkeypatch, cluster)
    assert made.create(inputs()).outs == {**inputs(), "problems": {}}
    assert all(COST_ANNOTATION in own for own in annotations(cluster))
    fields: Any = {"f:metadata": {"f:annotations": {f"f:{COST_ANNOTATION}": {}}}}
    for item in cluster.objects[PODS]:
        item["metadata"]["managedFields"] = [
            {"manager": OURS, "operation": "Update", "fieldsV1": fields},
        ]
    made.delete("deletion-costs", inputs())
    assert annotations(cluster) == [{}, {}]


def test_an_update_happens_only_where_costs_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other replicas alone are no change, so that a preview of a fleet at rest stays empty."""
    made = provider(monkeypatch, shop())
    grown = inputs(shares={"shop/Deployment/cart": [2, 4]})
    assert not made.diff("", inputs(), grown).changes
    assert made.diff("", inputs(), inputs(due=["shop/Deployment/cart"])).changes


@pytest.mark.parametrize(
    ("refused", "granted", "changes"),
    [
        ({"shop": "not allowed"}, False, False),
        # Somebody granted the right, or the API server was only away.
        ({"shop": "not allowed"}, True, True),
        ({"pay": "not allowed"}, False, True),
        ({}, False, True),
        (None, False, True),
    ],
)
def test_what_the_api_server_refuses_is_no_change_for_ever(
    monkeypatch: pytest.MonkeyPatch, refused: dict[str, str] | None, *, granted: bool, changes: bool
) -> None:
    """The update warns, and no later preview shows a change that no update can make."""
    cluster = shop()
    made = provider(monkeypatch, cluster)
    asked = []

    def post_review(path: str, body: Any) -> dict[str, Any]:
        asked.append((path.rpartition("/")[2], body["spec"]["resourceAttributes"]))
        return {"status": {"allowed": granted}}

    monkeypatch.setattr(cluster, "post_review", post_review, raising=False)
    olds = {**inputs(), "problems": refused}
    assert made.diff("", olds, inputs(due=["shop/Deployment/cart"])).changes == changes
    right = {"verb": "patch", "resource": "pods", "namespace": "shop"}
    assert asked == ([("selfsubjectaccessreviews", right)] if refused and "shop" in refused else [])


def test_another_cluster_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stack's cluster was built anew: its pods had no costs."""
    cluster = shop(uid="another")
    made = provider(monkeypatch, cluster)
    made.update("", inputs(), inputs(due=["x"]))
    made.delete("", inputs())
    assert cluster.patches == []
