"""Where the next pods of a workload may run, from its live pods or else from its template."""

from typing import Any

import pytest

from archshift.cluster.inventory import read_inventory
from archshift.cluster.model import Discovery, Workload
from archshift.cluster.scheduling import Unmet
from archshift.common.kubernetes import ZONE_LABEL
from archshift.common.resources import Resources
from archshift.nodes.groups import Node
from tests.build import ARCH, MANAGER, REQUIRED, Json, in_pod_spec, manages, plan_node, pod, workload
from tests.fakes import FakeCluster

X86, ARM = plan_node("x86", devices=(("gpu/x", 2),)), plan_node("arm", "arm64", devices=())
HASH = {"pod-template-hash": "5d4f"}
SANDBOX = {
    "metadata": {"name": "sandboxed"},
    "overhead": {"podFixed": {"cpu": "250m"}},
    "scheduling": {
        "nodeSelector": {ARCH: "amd64"},
        "tolerations": [{"key": "sandbox", "operator": "Exists"}],
    },
}
MIB = 1024**2


def required(key: str, *values: str) -> Json:
    return {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}]
    }


def affinity(value: Json) -> Json:
    return {"nodeAffinity": {REQUIRED: value}}


def live(name: str = "cart-1", *, template_hash: str = "5d4f", created: str = "", **pod_spec: Any) -> Json:
    item = pod(
        name,
        "x86",
        owner=("ReplicaSet", f"cart-{template_hash}"),
        labels={"pod-template-hash": template_hash},
    )
    item["metadata"]["creationTimestamp"] = created
    item["spec"] |= pod_spec
    return item


def read(item: Json, *pods: Json, kind: str = "deployments", **objects: list[Json]) -> Workload:
    """Read one workload and its pods from a cluster."""
    paths = {
        "runtime_classes": "/apis/node.k8s.io/v1/runtimeclasses",
        "limit_ranges": "/api/v1/limitranges",
        "claims": "/api/v1/persistentvolumeclaims",
        "volumes": "/api/v1/persistentvolumes",
        "classes": "/apis/storage.k8s.io/v1/storageclasses",
    }
    cluster = FakeCluster(
        {f"/apis/apps/v1/{kind}": [item], "/api/v1/pods": list(pods)}
        | {paths[name]: items for name, items in objects.items()}
    )
    (found,) = read_inventory(cluster, Discovery(), MANAGER).workloads.values()
    return found


def why(item: Workload, *nodes: Node) -> Unmet | None:
    return item.why_nowhere(nodes or (ARM,))


def test_a_template_without_pods_has_what_its_runtime_class_will_add() -> None:
    item = workload(replicas=0, pod_spec={"runtimeClassName": "sandboxed"})
    found = read(item, runtime_classes=[SANDBOX])
    assert found.requests == Resources(350, 64 * MIB)
    assert (why(found), why(found, X86)) == (Unmet("runtime class", "sandboxed"), None)
    assert found.tolerations == ({"key": "sandbox", "operator": "Exists"},)
    missing = read(workload(pod_spec={"runtimeClassName": "gone"}))
    assert (missing.requests.millicpu, why(missing)) == (100, None)


def test_live_pods_with_a_runtime_class_say_the_same() -> None:
    item = workload(pod_spec={"runtimeClassName": "sandboxed"})
    admitted = live(
        runtimeClassName="sandboxed",
        nodeSelector={ARCH: "amd64"},
        overhead={"cpu": "250m"},
        tolerations=[{"key": "sandbox", "operator": "Exists"}],
    )
    found = read(item, admitted, runtime_classes=[SANDBOX])
    assert found.requests == Resources(500, 128 * MIB)
    assert why(found) == Unmet("runtime class", "sandboxed")
    assert len(found.conditions) == len(found.tolerations) == 1


@pytest.mark.parametrize(
    "added",
    [
        {"nodeSelector": {"pool": "x86"}},
        {"affinity": affinity(required("pool", "x86"))},
    ],
    ids=["selector", "affinity"],
)
def test_what_admission_adds_to_all_pods_counts(added: Json) -> None:
    """PodNodeSelector, webhooks and policies change the pods, and the template shows nothing."""
    both = [live(f"cart-{number}", **added) for number in range(2)]
    assert why(read(workload(replicas=2), *both)) == Unmet("admission", "pool")
    mixed = [both[0], live("cart-9")]
    assert why(read(workload(replicas=2), *mixed)) is None, "only some pods have it"


def test_tolerations_that_admission_adds_count() -> None:
    tolerant = {"key": "team", "operator": "Exists"}
    default = {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"}
    found = read(workload(), live(tolerations=[tolerant, default]))
    assert found.tolerations == (tolerant,)


def test_archshifts_own_fields_never_count() -> None:
    """They are in the template and in the pods. What admission added beside them still counts."""
    ours = {"key": ARCH, "operator": "In", "values": ["amd64"]}
    fields = in_pod_spec({"f:affinity": {"f:nodeAffinity": {f"f:{REQUIRED}": {}}}})
    own = affinity({"nodeSelectorTerms": [{"matchExpressions": [ours]}]})
    item = workload(pod_spec={"affinity": own}, managed=[manages(MANAGER, "Apply", fields)])
    assert why(read(item, live(affinity=own))) is None
    added = {"key": "pool", "operator": "In", "values": ["x86"]}
    both = affinity({"nodeSelectorTerms": [{"matchExpressions": [ours, added]}]})
    found = read(item, live(affinity=both))
    assert why(found) == Unmet("admission", "pool")
    assert found.may_run_on(plan_node("a", "arm64", labels={"pool": "x86"}))


def test_pods_of_an_older_template_do_not_count() -> None:
    """During a rollout the newest pods are of the present template; before it, none is."""
    old = live("old", template_hash="1", created="2026-01-01", nodeSelector={"pool": "x86"})
    new = live("new", template_hash="2", created="2026-01-02")
    rolling = workload(settled=True)
    rolling["status"] |= {"updatedReplicas": 1, "availableReplicas": 1}
    assert why(read(rolling, old, new)) is None
    assert read(rolling, old, new).requests == Resources(250, 128 * MIB)
    rolling["status"] |= {"updatedReplicas": 0}
    assert (why(read(rolling, old)), read(rolling, old).requests.millicpu) == (None, 100)
    rolling["status"] |= {"updatedReplicas": 1, "observedGeneration": 3}
    assert read(rolling, old, new).requests.millicpu == 100, "the controller has not seen the template"


def test_a_stateful_set_names_its_present_revision() -> None:
    """Under an ordered update, the newest pod may be of the old revision."""

    def member(name: str, revision: str, created: str, **pod_spec: Any) -> Json:
        item = pod(name, owner=("StatefulSet", "cart"), labels={"controller-revision-hash": revision})
        item["metadata"]["creationTimestamp"] = created
        item["spec"] |= pod_spec
        return item

    item = workload("StatefulSet")
    item["status"] |= {"updatedReplicas": 1, "updateRevision": "new"}
    pods = [
        member("cart-0", "old", "2026-01-02", nodeSelector={"pool": "x86"}),
        member("cart-1", "new", "2026-01-01"),
    ]
    assert why(read(item, *pods, kind="statefulsets")) is None


def test_the_largest_pod_decides_if_pods_differ() -> None:
    """Vertical autoscalers change pods one by one. A DaemonSet's pods may all be older than its template."""
    large = live("cart-2", containers=[{"name": "main", "resources": {"requests": {"cpu": "2"}}}])
    assert read(workload(), live(), large).requests == Resources(2000, 128 * MIB)
    agent = pod("log-1", owner=("DaemonSet", "log"))
    agent["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "10m"}}
    agent["spec"]["affinity"] = affinity(required("metadata.name", "x86"))
    found = read(workload("DaemonSet", "log"), agent, kind="daemonsets")
    assert (found.requests, found.conditions) == (Resources(100, 64 * MIB), ())


def test_an_inventory_adds_up_what_pods_request_and_not_what_templates_say() -> None:
    cluster = FakeCluster(
        {
            "/apis/apps/v1/deployments": [workload()],
            "/api/v1/pods": [live("cart-1"), live("cart-2", containers=[])],
            "/api/v1/nodes": [{"metadata": {"name": "x86", "labels": {ARCH: "amd64"}}}],
        }
    )
    found = read_inventory(cluster, Discovery(), MANAGER)
    assert found.requested_on("shop/Deployment/cart", "amd64") == Resources(250, 128 * MIB, 2)
    assert found.requested_on("shop/Deployment/cart", "arm64") == Resources(pods=0)


@pytest.mark.parametrize(
    ("pod_spec", "unmet"),
    [
        ({"nodeName": "x86"}, Unmet("node name", "x86")),
        ({"os": {"name": "windows"}}, Unmet("system", "windows")),
        ({"nodeSelector": {"disk": "ssd"}}, Unmet("own rules")),
        (
            {"containers": [{"name": "a", "resources": {"limits": {"gpu/x": "1"}}}]},
            Unmet("device", "gpu/x", "1 gpu/x"),
        ),
        (
            {"containers": [{"name": "a", "resources": {"requests": {"ephemeral-storage": "50Gi"}}}]},
            Unmet("device", "ephemeral-storage", "50.0 GiB of ephemeral-storage"),
        ),
        ({}, None),
    ],
)
def test_what_a_template_itself_demands(pod_spec: Json, unmet: Unmet | None) -> None:
    assert why(read(workload(pod_spec=pod_spec))) == unmet


def test_a_node_to_come_has_a_disk_but_no_devices() -> None:
    """Nobody knows the size of the disk, and whether somebody installs a device plugin."""
    coming = plan_node("coming", "arm64")

    def asks(name: str) -> Workload:
        return read(workload(pod_spec={"containers": [{"name": "a", "resources": {"limits": {name: "1"}}}]}))

    assert [asks(name).may_run_on(coming) for name in ("ephemeral-storage", "vpc.amazonaws.com/pod-eni")] == [
        True,
        True,
    ]
    assert not asks("nvidia.com/gpu").may_run_on(coming)
    assert [asks("gpu/x").may_run_on(node) for node in (X86, ARM)] == [True, False]


def zonal(name: str, zone: str) -> Json:
    spec = {"storageClassName": "gp3", "nodeAffinity": {"required": required(ZONE_LABEL, zone)}}
    return {"metadata": {"name": name}, "spec": spec}


def bound(name: str, volume: str, mode: str = "ReadWriteOnce") -> Json:
    metadata = {"namespace": "shop", "name": name}
    return {"metadata": metadata, "spec": {"volumeName": volume, "accessModes": [mode]}}


def test_one_pod_that_cannot_follow_its_volume_is_enough() -> None:
    """A StatefulSet with a pod in each zone, and Graviton in zone a alone."""
    item = workload(
        "StatefulSet",
        "db",
        replicas=2,
        spec={"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {"storageClassName": "gp3"}}]},
    )
    found = read(
        item,
        kind="statefulsets",
        claims=[bound("data-db-0", "pv-a"), bound("data-db-1", "pv-c")],
        volumes=[zonal("pv-a", "a"), zonal("pv-c", "c")],
    )
    in_a, in_c = plan_node("a", labels={ZONE_LABEL: "a"}), plan_node("c", labels={ZONE_LABEL: "c"})
    assert why(found, in_a) == Unmet("volume", "data-db-1", "c")
    assert why(found, in_a, in_c) is None
    assert [found.may_run_on(node) for node in (in_a, in_c, ARM)] == [True, True, False]


RECREATE = {"strategy": {"type": "Recreate"}}


@pytest.mark.parametrize(
    ("spec", "replicas", "mode", "unshared"),
    [
        ({}, 1, "ReadWriteOncePod", ("data", "pod")),
        ({}, 1, "ReadWriteOnce", ("data", "node")),
        ({}, 3, "ReadWriteOnce", ("data", "node")),
        ({}, 1, "ReadWriteMany", None),
        ({}, 0, "ReadWriteOncePod", None),
        (RECREATE, 1, "ReadWriteOncePod", None),
        ({"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}}, 1, "ReadWriteOnce", None),
        ({"strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}}, 1, "ReadWriteOnce", None),
        # Neither a new pod nor a missing one: the controller then removes one.
        ({"strategy": {"rollingUpdate": {"maxSurge": "0%"}}}, 1, "ReadWriteOnce", None),
        (
            {"strategy": {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}},
            2,
            "ReadWriteOnce",
            ("data", "node"),
        ),
    ],
)
def test_a_rollout_that_waits_for_its_own_volume(
    spec: Json, replicas: int, mode: str, unshared: tuple[str, str] | None
) -> None:
    pod_spec = {"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]}
    item = workload(replicas=replicas, pod_spec=pod_spec, spec=spec)
    volume = {"metadata": {"name": "pv"}, "spec": {"csi": {"driver": "ebs.csi.aws.com"}}}
    assert read(item, claims=[bound("data", "pv", mode)], volumes=[volume]).unshared == unshared


def test_other_schedulers_and_resource_claims_are_known() -> None:
    found = read(
        workload(pod_spec={"schedulerName": "batch", "resourceClaims": [{"name": "gpu"}, {"name": "nic"}]})
    )
    assert (found.scheduler, found.device_claims) == ("batch", ("gpu", "nic"))
    assert read(workload(pod_spec={"schedulerName": "default-scheduler"})).scheduler == ""
