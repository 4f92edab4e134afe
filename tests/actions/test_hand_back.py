"""An object of another owner that archshift has taken over is handed back without a trace."""

from typing import Any

import pytest

from archshift.actions.hand_back import hand_back
from archshift.cluster.client import RefusedError
from tests.fakes import FakeCluster

COLLECTION = "/apis/karpenter.sh/v1/nodepools"
PATH = f"{COLLECTION}/general"
MANAGER = "archshift/prod/pools"
HELM = {"manager": "helm", "operation": "Update", "fieldsV1": {"f:spec": {"f:weight": {}}}}
STATUS = {"manager": "karpenter", "operation": "Update", "subresource": "status", "fieldsV1": {}}
OURS = {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": {"f:limits": {}}}}


def pool(*managed_fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "metadata": {
            "name": "general",
            "resourceVersion": "7",
            "managedFields": [*managed_fields],
            "labels": {"team": "shop", "archshift/stack": "prod"},
            "annotations": {"archshift/former": "[]", "pulumi.com/waitFor": "[]", "karpenter.sh/hash": "1"},
        },
        "spec": {"weight": 7, "limits": {"cpu": "64"}},
    }


@pytest.mark.parametrize(("others", "left"), [((HELM, STATUS), [HELM, STATUS]), ((), [{}])])
def test_the_values_stay_and_no_field_has_an_owner_of_ours(
    others: tuple[dict[str, Any], ...], left: list[dict[str, Any]]
) -> None:
    """Where nobody else owns fields, one empty entry tells the API server to keep no owners."""
    cluster = FakeCluster({COLLECTION: [pool(OURS, *others)]})
    hand_back(cluster, PATH, MANAGER)
    found = cluster.get(PATH)
    assert found["spec"] == pool()["spec"]
    assert found["metadata"]["managedFields"] == left
    assert found["metadata"]["labels"] == {"team": "shop"}
    assert found["metadata"]["annotations"] == {"karpenter.sh/hash": "1"}
    ((_, body, _, _),) = cluster.patches
    assert body["metadata"]["resourceVersion"] == "7"


class Busy(FakeCluster):
    """Somebody else writes the object whenever archshift is about to."""

    def __init__(self, times: int) -> None:
        super().__init__({COLLECTION: [pool(OURS)]})
        self.times = times

    def before(self, verb: str, path: str) -> None:
        if verb == "patch" and self.times:
            self.times -= 1
            raise RefusedError(f"{path}: conflict", status=409, words="conflict")


def test_a_writer_at_the_same_moment_is_no_trouble() -> None:
    """It looks again, so that no owner of the meantime is lost."""
    cluster = Busy(2)
    hand_back(cluster, PATH, MANAGER)
    assert cluster.get(PATH)["metadata"]["managedFields"] == [{}]
    with pytest.raises(RefusedError, match="conflict"):
        hand_back(Busy(99), PATH, MANAGER)


def test_an_object_that_is_gone_needs_nothing() -> None:
    cluster = FakeCluster({COLLECTION: []})
    hand_back(cluster, PATH, MANAGER)
    assert cluster.patches == []
