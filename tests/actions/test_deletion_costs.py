"""Deletion costs on pods: written where a share must hold, and given back; those of others stay."""

from collections.abc import Mapping
from typing import Any

from archshift.actions.deletion_costs import Written, give_back, write_costs
from archshift.cluster.client import RefusedError
from archshift.cluster.pods import COST_ANNOTATION
from archshift.plan.deletion_costs import Proportion
from tests.build import Json, node, pod
from tests.fakes import PODS, FakeCluster

OURS = "archshift/dev/deletion-costs"
CART = {"shop/Deployment/cart": Proportion(1, 4)}


def cart(
    number: int, where: str, cost: str = "", manager: str = OURS, owner: str = "cart-5d8f", **options: Any
) -> Json:
    """A pod of the cart."""
    item = pod(
        f"{owner}-{number}",
        where,
        owner=("ReplicaSet", owner),
        labels={"pod-template-hash": owner.rpartition("-")[2]},
        **options,
    )
    if cost:
        item["metadata"]["annotations"] = {COST_ANNOTATION: cost}
        fields: Json = {"f:metadata": {"f:annotations": {".": {}, f"f:{COST_ANNOTATION}": {}}}}
        entry = {"manager": manager, "operation": "Update", "fieldsV1": fields}
        item["metadata"]["managedFields"] = [entry] if manager else []
    return item


class Costs(FakeCluster):
    """A cluster that keeps the owner of an annotation, as the API server does."""

    def __init__(self, *pods: Json) -> None:
        super().__init__({PODS: [*pods], "/api/v1/nodes": [node("arm"), node("x86", "amd64")]})

    def after(self, verb: str, path: str) -> None:
        if verb == "patch" and (item := self._item(path)) is not None:
            fields: Json = {"f:metadata": {"f:annotations": {f"f:{COST_ANNOTATION}": {}}}}
            if COST_ANNOTATION in item["metadata"]["annotations"]:
                item["metadata"]["managedFields"] = [
                    {"manager": self.patches[-1][3], "operation": "Update", "fieldsV1": fields}
                ]

    @property
    def costs(self) -> dict[str, int]:
        """The costs there are, by pod."""
        return {
            item["metadata"]["name"]: int(item["metadata"]["annotations"][COST_ANNOTATION])
            for item in self.objects[PODS]
            if COST_ANNOTATION in item["metadata"].get("annotations", {})
        }

    def kept(self, number: int) -> list[str]:
        """The nodes of the pods that stay when the workload is scaled down."""
        pods = sorted(self.objects[PODS], key=lambda item: -self.costs.get(item["metadata"]["name"], 0))
        return [item["spec"]["nodeName"] for item in pods[:number]]


def test_pods_end_in_an_order_that_keeps_the_share() -> None:
    """1 of 4: the pod on Graviton is neither the last one nor the first."""
    cluster = Costs(cart(0, "arm"), *(cart(index, "x86") for index in (1, 2, 3)))
    assert write_costs(cluster, CART, OURS) == Written(set=4)
    assert {manager for *_, manager in cluster.patches} == {OURS}
    assert [cluster.kept(number).count("arm") for number in (4, 3, 2, 1)] == [1, 1, 1, 0]
    assert write_costs(cluster, CART, OURS) == Written(), "what is right is not written again"


def test_a_pod_that_came_gets_the_only_new_cost() -> None:
    cluster = Costs(cart(0, "arm"), *(cart(index, "x86") for index in (1, 2, 3)))
    write_costs(cluster, CART, OURS)
    before = cluster.costs
    cluster.objects[PODS] = [*cluster.objects[PODS], cart(4, "x86"), cart(5, "")]
    assert write_costs(cluster, CART, OURS) == Written(set=1), "a pod without a node ends first anyway"
    assert {name: cluster.costs[name] for name in before} == before


def test_a_workload_that_is_no_longer_autoscaled_gives_its_costs_back() -> None:
    """Only those of this stack; another stack's pods are its own business."""
    other = cart(9, "x86", "7", manager="archshift/other/deletion-costs", owner="pay-77")
    cluster = Costs(cart(0, "arm", "20000"), cart(1, "x86", "10000"), other)
    assert write_costs(cluster, {}, OURS) == Written(given_back=2)
    assert cluster.costs == {"pay-77-9": 7}
    assert give_back(cluster, "archshift/other/deletion-costs") == Written(given_back=1)
    assert cluster.costs == {}


def test_the_costs_of_an_application_are_left_alone() -> None:
    """Also where only one pod has such a cost; then archshift's own on the other pods would mislead."""
    for manager in ("kubectl-annotate", "kube-controller-manager", ""):
        cluster = Costs(cart(0, "arm", "20000"), cart(1, "x86"), cart(2, "x86", "5", manager=manager))
        assert write_costs(cluster, CART, OURS) == Written(given_back=1)
        assert cluster.costs == {"cart-5d8f-2": 5}


def test_each_replicaset_of_a_rollout_keeps_the_share() -> None:
    """A controller scales each of them down. With a pod each left, both sides have one."""
    cluster = Costs(
        cart(0, "arm"), cart(1, "x86"), cart(2, "arm", owner="cart-66"), cart(3, "x86", owner="cart-66")
    )
    write_costs(cluster, {"shop/Deployment/cart": Proportion(1, 2)}, OURS)
    assert len(cluster.costs) == 4
    made = ("cart-5d8f-0", "cart-5d8f-1"), ("cart-66-2", "cart-66-3")
    last = {max(pair, key=cluster.costs.__getitem__) for pair in made}
    assert last in ({"cart-5d8f-0", "cart-66-3"}, {"cart-5d8f-1", "cart-66-2"})


def test_pods_whose_controller_reads_no_costs_get_none() -> None:
    """A StatefulSet ends the highest ordinal first."""
    pods = [
        pod(f"db-{index}", where, owner=("StatefulSet", "db")) for index, where in enumerate(("arm", "x86"))
    ]
    cluster = Costs(*pods)
    assert write_costs(cluster, {"shop/StatefulSet/db": Proportion(1, 2)}, OURS) == Written()


def test_pods_that_end_are_no_business_of_ours() -> None:
    cluster = Costs(cart(0, "arm"), cart(1, "x86"), cart(2, "x86", terminating=True))
    write_costs(cluster, CART, OURS)
    assert "cart-5d8f-2" not in cluster.costs


class Refusing(Costs):
    """A cluster that refuses changes of some pods."""

    status: Mapping[str, int] = {}

    def before(self, verb: str, path: str) -> None:
        name = path.rpartition("/")[2]
        if verb == "patch" and name in self.status:
            raise RefusedError(f"{name}: not allowed", status=self.status[name], words="not allowed")


def test_a_namespace_that_refuses_stops_no_other() -> None:
    """And the refusal is asked for once."""
    foreign = [cart(index, where, namespace="pay") for index, where in enumerate(("arm", "x86"))]
    cluster = Refusing(cart(0, "arm"), cart(1, "x86"), *foreign)
    kept = {**CART, "pay/Deployment/cart": Proportion(1, 2)}
    refused = []

    def before(verb: str, path: str) -> None:
        if verb == "patch" and "/pay/" in path:
            refused.append(path)
            raise RefusedError("not allowed: pods", status=403, words="forbidden")

    cluster.before = before  # type: ignore[method-assign]
    assert write_costs(cluster, kept, OURS) == Written(set=2, problems={"pay": "not allowed: pods"})
    assert len(refused) == 1


def test_a_pod_that_is_gone_is_no_problem() -> None:
    cluster = Refusing(cart(0, "arm"), cart(1, "x86"), cart(2, "x86"))
    cluster.status = {"cart-5d8f-1": 404, "cart-5d8f-2": 409}
    assert write_costs(cluster, CART, OURS) == Written(set=1)
