"""What changes the replicas of workloads: one definition for HPAs, KEDA and the settings."""

from typing import Any

import pytest

from archshift.cluster.client import RefusedError
from archshift.cluster.inventory import read_inventory
from archshift.cluster.model import Autoscaler, Discovery, Workload
from archshift.cluster.pods import COST_ANNOTATION
from tests.build import MANAGER, cluster_of, node, pod, workload
from tests.fakes import FakeCluster

CART = "shop/Deployment/cart"
AT = "2026-03-02T10:00:00Z"
KEDA = "/apis/keda.sh/v1alpha1/scaledobjects"


def hpa(name: str = "cart", kind: str = "Deployment", target: str = "cart", **bounds: int) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": name},
        "spec": {"scaleTargetRef": {"kind": kind, "name": target}, "maxReplicas": 9, **bounds},
    }


def scaled_object(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"namespace": "shop", "name": "orders"},
        "spec": {"scaleTargetRef": {"name": "cart"}, **spec},
    }


def cart(
    *,
    scalers: tuple[dict[str, Any], ...] = (),
    keda: tuple[dict[str, Any], ...] | None = None,
    told: Autoscaler | None = None,
    **options: Any,
) -> Workload:
    """The only workload of a cluster, with what scales it."""
    cluster = cluster_of(deployments=[workload(**options)], scalers=[*scalers])
    if keda is not None:
        cluster.objects[KEDA] = [*keda]
    discovery = Discovery(autoscaled={CART: told} if told else {})
    return read_inventory(cluster, discovery, MANAGER).workloads[CART]


def test_an_hpa_gives_its_bounds_to_its_target() -> None:
    """minReplicas defaults to 1, as in the API."""
    gone = hpa("gone", target="gone", maxReplicas=2)
    assert cart(scalers=(hpa(), gone)).autoscaled == Autoscaler(
        by="HorizontalPodAutoscaler cart", least=1, most=9
    )
    assert cart(scalers=(gone,)).autoscaled is None


def test_an_hpa_says_when_it_last_changed_the_replicas() -> None:
    scaled = {**hpa(), "status": {"lastScaleTime": "2026-03-02T10:00:00Z"}}
    found = cart(scalers=(scaled,)).autoscaled
    assert found is not None
    assert found.scaled_at == "2026-03-02T10:00:00Z"


def test_two_hpas_of_one_target_give_the_wider_bounds() -> None:
    """Kubernetes warns about it, but permits it."""
    both = cart(scalers=(hpa(minReplicas=3), hpa("second", minReplicas=2, maxReplicas=5))).autoscaled
    assert both == Autoscaler(by="HorizontalPodAutoscaler cart", least=2, most=9)


def test_an_hpa_of_the_object_that_writes_a_workload_scales_the_workload() -> None:
    """Its bounds count replicas of that object, so the most pods of the workload are not known."""
    owner = {"kind": "MetricStore", "name": "main", "controller": True, "apiVersion": "x/v1", "uid": "1"}
    item = workload()
    item["metadata"]["ownerReferences"] = [owner]
    cluster = cluster_of(deployments=[item], scalers=[hpa("main", "MetricStore", "main")])
    found = read_inventory(cluster, Discovery(), MANAGER).workloads[CART].autoscaled
    assert found == Autoscaler(by="HorizontalPodAutoscaler main", least=0, most=None)
    assert found.most_pods(4) == 4


@pytest.mark.parametrize(
    ("spec", "scalers", "bounds"),
    [
        ({}, (), (0, 100)),
        ({"minReplicaCount": 2, "maxReplicaCount": 7}, (), (2, 7)),
        # KEDA's own HorizontalPodAutoscaler has 1 as its least, and KEDA scales from 1 to 0.
        ({"maxReplicaCount": 9}, (hpa("keda-hpa-orders"),), (0, 9)),
    ],
    ids=["defaults", "paused", "beside its HPA"],
)
def test_a_scaled_object_scales_its_target(
    spec: dict[str, Any], scalers: tuple[dict[str, Any], ...], bounds: tuple[int, int]
) -> None:
    """KEDA makes an HPA of it, but not while it is paused."""
    found = cart(keda=(scaled_object(**spec),), scalers=scalers).autoscaled
    assert found == Autoscaler(by="ScaledObject orders", least=bounds[0], most=bounds[1])


class Forbidding(FakeCluster):
    """A cluster that serves ScaledObjects to others only."""

    def before(self, verb: str, path: str) -> None:
        if (verb, path) == ("list", KEDA):
            raise RefusedError("not allowed", status=403, words="forbidden")


def test_a_scaled_object_that_may_not_be_read_stops_nothing() -> None:
    """Its HPA says nearly the same."""
    objects = cluster_of(deployments=[workload()], scalers=[hpa("keda-hpa-orders")]).objects
    found = read_inventory(Forbidding({**objects, KEDA: []}), Discovery(), MANAGER).workloads[CART]
    assert found.autoscaled == Autoscaler(by="HorizontalPodAutoscaler keda-hpa-orders", least=1, most=9)


@pytest.mark.parametrize("broken", [{"spec": None}, {"spec": {}}, {"spec": {"scaleTargetRef": None}}])
def test_a_scaled_object_without_a_target_stops_nothing(broken: dict[str, Any]) -> None:
    objects = ({**scaled_object(), **broken}, scaled_object(minReplicaCount=None, maxReplicaCount=7))
    assert cart(keda=objects).autoscaled == Autoscaler(by="ScaledObject orders", least=0, most=7)


def test_the_settings_name_what_no_object_shows() -> None:
    """They also correct the bounds of an object, each bound for itself."""
    told = Autoscaler(by="archshift:workloads.autoscaled")
    assert cart(told=told).autoscaled == told
    more = Autoscaler(by="archshift:workloads.autoscaled", most=30)
    assert cart(told=more, scalers=(hpa(minReplicas=2),)).autoscaled == Autoscaler(
        by="HorizontalPodAutoscaler cart", least=2, most=30
    )


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ({"resource": {"name": "cpu", "target": {"averageUtilization": 70}}}, ("70 % of the request",)),
        ({"resource": {"name": "cpu", "target": {"averageValue": "500m"}}}, ("500m vCPU a pod",)),
        (
            {
                "containerResource": {
                    "name": "cpu",
                    "container": "app",
                    "target": {"averageUtilization": 60},
                }
            },
            ("60 % of the request of container app",),
        ),
        ({"resource": {"name": "memory", "target": {"averageUtilization": 70}}}, ()),
        ({"pods": {"metric": {"name": "cpu"}, "target": {"averageValue": "1"}}}, ()),
        ({"resource": {"name": "cpu"}}, ()),
    ],
)
def test_cpu_that_a_workload_is_scaled_to(metric: dict[str, Any], said: tuple[str, ...]) -> None:
    """Of the pod or of one container; nothing else that scales it is CPU."""
    target = {"kind": "Deployment", "name": "cart"}
    spec = {"scaleTargetRef": target, "maxReplicas": 9, "metrics": [metric]}
    scaler = {"metadata": {"name": "cart", "namespace": "shop"}, "spec": spec}
    cluster = FakeCluster(
        {
            "/apis/apps/v1/deployments": [workload()],
            "/apis/autoscaling/v2/horizontalpodautoscalers": [scaler],
        }
    )
    found = read_inventory(cluster, Discovery(), MANAGER).workloads[CART]
    assert found.cpu_targets == said


def test_the_pods_of_autoscaled_workloads_are_kept_and_those_with_our_costs() -> None:
    """Others only count: a fleet has many pods."""
    ours, theirs = "archshift/lab/deletion-costs", "archshift/other/deletion-costs"

    def one(name: str, maker: str, manager: str = "") -> dict[str, Any]:
        hash_ = maker.rpartition("-")[2]
        item = pod(f"{maker}-{name}", "x86", owner=("ReplicaSet", maker), labels={"pod-template-hash": hash_})
        if manager:
            item["metadata"]["annotations"] = {COST_ANNOTATION: "90000"}
            fields: Any = {"f:metadata": {"f:annotations": {f"f:{COST_ANNOTATION}": {}}}}
            entry = {"manager": manager, "operation": "Update", "time": AT, "fieldsV1": fields}
            item["metadata"]["managedFields"] = [entry]
        return item

    cluster = cluster_of(
        deployments=[workload(), workload(name="web"), workload(name="old")],
        scalers=[hpa()],
        nodes=[node("x86", "amd64")],
        pods=[
            one("a", "cart-5d8f"),
            one("b", "cart-5d8f", ours),
            one("a", "web-77"),
            one("a", "old-88", ours),
            one("b", "old-88", theirs),
        ],
    )
    found = read_inventory(cluster, Discovery(), MANAGER).scaled_pods
    assert {key: [each.name for each in pods] for key, pods in found.items()} == {
        CART: ["cart-5d8f-a", "cart-5d8f-b"],
        "shop/Deployment/old": ["old-88-a"],
    }
    new, known = found[CART]
    assert (new.cost, new.cost_at, known.cost, known.cost_at) == (None, "", 90_000, AT)
    assert known.annotations == {}, "each pod has another cost, and pods share equal annotations"
