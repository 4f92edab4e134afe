"""What the scheduler counts decides, and not what templates say: requests, devices, volumes and more.

One cluster of five nodes that no stack made. In zone c there is x86 alone, and only the node x-0 has devices.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from lab.control_plane import Lab
from tests.lab.lab_helpers import (
    ZONES,
    Cluster,
    Manifest,
    Result,
    Stack,
    deployment,
    persistent_volume,
    stateful_set,
    storage_class,
    wait_for,
    with_claims,
)
from tests.lab.ordinary import plan_of

CLASSES = ("needs-zonal", "needs-local", "needs-single")
VOLUMES = ("ledger-0", "ledger-1", "scratch", "wiki")
RUNTIME_CLASS = "needs-sandboxed"


def sized(name: str, replicas: int, namespace: str, **resources: Any) -> Manifest:
    """A Deployment whose container has exactly these resources."""
    item = deployment(name, replicas, namespace)
    item["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    return item


def requests_that_no_template_shows(namespace: str, defaults: str) -> list[Manifest]:
    """Deployments of 9.6 vCPU and 5.25 GiB; the sum of their containers' requests is 2.0 vCPU at most."""
    limit = {
        "type": "Container",
        "defaultRequest": {"cpu": "500m", "memory": "512Mi"},
        "default": {"cpu": "1", "memory": "512Mi"},
    }
    pod_level = sized("pod-level", 3, namespace)
    pod_level["spec"]["template"]["spec"]["resources"] = {"requests": {"cpu": "700m", "memory": "256Mi"}}
    ordered = sized("ordered-init", 1, namespace, requests={"cpu": "100m"})
    ordered["spec"]["template"]["spec"]["initContainers"] = [
        {
            "name": "proxy",
            "image": "registry.example/proxy:1",
            "restartPolicy": "Always",
            "resources": {"requests": {"cpu": "1"}},
        },
        {
            "name": "migrate",
            "image": "registry.example/migrate:1",
            "resources": {"requests": {"cpu": "2"}},
        },
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "LimitRange",
            "metadata": {"name": "defaults", "namespace": defaults},
            "spec": {"limits": [limit]},
        },
        sized("defaulted", 3, defaults),
        sized("limits-only", 3, namespace, limits={"cpu": "1", "memory": "1Gi"}),
        pod_level,
        ordered,
    ]


def bound_to_x86(namespace: str) -> list[Manifest]:
    """Workloads with images for both sides that only x86 nodes can run, and one that no rollout can end."""
    zone, host = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
    single = {"accessModes": ["ReadWriteOncePod"], "claimRef": {"namespace": namespace, "name": "wiki"}}
    single_volume = {"name": "data", "persistentVolumeClaim": {"claimName": "wiki"}}
    gpus = deployment("inference", 4, namespace)
    gpus["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    resources = gpus["spec"]["template"]["spec"]["containers"][0]["resources"]
    resources["requests"]["nvidia.com/gpu"] = 1
    resources["limits"] = {"nvidia.com/gpu": 1}
    return [
        *map(storage_class, CLASSES),
        persistent_volume("ledger-0", "needs-zonal", (zone, "eu-west-1c")),
        persistent_volume("ledger-1", "needs-zonal", (zone, "eu-west-1c")),
        persistent_volume("scratch", "needs-local", (host, "x-0"), local={"path": "/mnt/ssd"}),
        persistent_volume("wiki", "needs-single", None, **single),
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "wiki", "namespace": namespace},
            "spec": {
                "accessModes": ["ReadWriteOncePod"],
                "storageClassName": "needs-single",
                "volumeName": "wiki",
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": RUNTIME_CLASS},
            "handler": "runsc",
            "overhead": {"podFixed": {"cpu": "250m", "memory": "128Mi"}},
            "scheduling": {"nodeSelector": {"kubernetes.io/arch": "amd64"}},
        },
        with_claims(stateful_set("ledger", 2, namespace), "needs-zonal"),
        with_claims(stateful_set("scratch", 1, "kube-system"), "needs-local"),
        deployment("sandbox", 4, namespace, runtimeClassName=RUNTIME_CLASS),
        gpus,
        deployment("wiki", 1, namespace, volumes=[single_volume]),
        deployment("license", 1, namespace, nodeName="x-0"),
        deployment("other", 4, namespace),
    ]


@dataclass
class Adopted:
    """The cluster, and what two updates did there."""

    cluster: Cluster
    stack: Stack
    namespace: str
    plan: dict[str, Any] = field(default_factory=dict)
    drain: dict[str, str] = field(default_factory=dict)
    drain_code: int = 0
    before: dict[str, Any] = field(default_factory=dict)
    updates: list[Result] = field(default_factory=list)
    after: dict[str, Any] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """The generation of every controller and the nodes of its pods."""
        controllers = self.cluster.all_of("deployments,statefulsets", self.namespace)
        nodes = self.cluster.pod_nodes(self.namespace)
        return {
            item["metadata"]["name"]: (
                item["metadata"]["generation"],
                {pod: node for pod, node in nodes.items() if pod.startswith(item["metadata"]["name"])},
            )
            for item in controllers
        }

    def row(self, name: str) -> dict[str, Any]:
        (row,) = (row for row in self.plan["workloads"] if row["workload"].endswith(f"/{name}"))
        return dict(row)


def fill(found: Adopted, defaults: str) -> None:
    """Create everything, and update twice."""
    cluster, stack, namespace = found.cluster, found.stack, found.namespace
    gpus = [
        {"op": "add", "path": f"/status/{part}/nvidia.com~1gpu", "value": "4"}
        for part in ("capacity", "allocatable")
    ]
    patch = ("--subresource=status", "--type=json", f"--patch={json.dumps(gpus)}")
    cluster.lab.kubectl("patch", "node", "x-0", *patch)
    cluster.apply(requests_that_no_template_shows(namespace, defaults))
    cluster.apply(bound_to_x86(namespace))
    for name in (namespace, defaults):
        cluster.wait_until_settled(name)
    wait_for(lambda: cluster.pod_nodes("kube-system", "scratch-0").get("scratch-0"))
    spaces = {"namespaces": [namespace, defaults]}
    stack.config({"workloads": spaces, "arm_ratio": "0.5"})
    found.plan = plan_of(stack)
    found.before = found.state()
    for arm_ratio in ("0.5", "1.0"):
        found.updates.append(stack.config({"arm_ratio": arm_ratio}).up())
    found.after = found.state()
    done = stack.archshift("drain", "--dry-run", "--json")
    found.drain_code = done.returncode
    assert done.stdout, done.stderr
    blockers = json.loads(done.stdout)["blockers"]
    found.drain = {blocker["what"]: blocker["reason"] for blocker in blockers}


@pytest.fixture(scope="module")
def adopted(control_plane: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adopted]:
    """The cluster after updates at 0.5 and 1.0, by a stack that makes no nodes."""
    cluster = Cluster(control_plane)
    namespace = cluster.namespace(f"needs-{uuid.uuid4().hex[:6]}")
    defaults = cluster.namespace(f"{namespace}-defaults")
    stack = Stack(control_plane, tmp_path_factory.mktemp("adopted"), f"needs-{uuid.uuid4().hex[:6]}")
    found = Adopted(cluster, stack, namespace)
    try:
        cluster.nodes("amd64", 3, prefix="x", zones=ZONES, cpu="8")
        cluster.nodes("arm64", 2, prefix="g", zones=ZONES[:2], cpu="8")
        fill(found, defaults)
        yield found
    finally:
        stack.remove()
        cluster.clear()
        for kind, names in (("pv", VOLUMES), ("storageclass", CLASSES), ("runtimeclass", (RUNTIME_CLASS,))):
            control_plane.kubectl("delete", kind, *names, "--wait=false", "--ignore-not-found")
        cluster.close()


def test_capacity_is_what_the_scheduler_counts(adopted: Adopted) -> None:
    """9.6 vCPU and 5.25 GiB of limits, defaults, pod-level requests and sidecars; and what the others ask."""
    small = 2 + 4 + 1 + 1 + 4 + 1  # ledger, inference, wiki, license, other, scratch
    vcpu = 9.6 + small * 0.1 + 4 * (0.1 + 0.25)
    gib = 5.25 + (small * 64 + 4 * (64 + 128)) / 1024
    before = adopted.plan["capacity_before"]
    assert sum(side["vcpu_needed"] for side in before) == pytest.approx(vcpu, abs=0.06)
    assert sum(side["gib_needed"] for side in before) == pytest.approx(gib, abs=0.02)


def test_both_updates_end_well_and_move_the_others(adopted: Adopted) -> None:
    """One workload's trouble is its own."""
    assert [update.succeeded for update in adopted.updates] == [True, True], adopted.updates[-1].output
    _, pods = adopted.after["other"]
    assert [node[0] for node in pods.values()] == ["g"] * 4


LEFT_ALONE = {
    "ledger": "left alone: no Graviton node can use the volume of its claim data-ledger-0 "
    "(it is in eu-west-1c)",
    "sandbox": f"left alone: no Graviton node matches the node selector of its RuntimeClass {RUNTIME_CLASS}",
    "inference": "left alone: no Graviton node has 1 nvidia.com/gpu for one pod",
    "license": "left alone: no Graviton node is x-0, the only node that its template permits (spec.nodeName)",
    "wiki": "left alone: no rollout of it can end, because only one pod at a time can use its volume "
    "(claim wiki); set its strategy to Recreate, or maxSurge to 0 and maxUnavailable to 1",
}


@pytest.mark.parametrize("name", LEFT_ALONE)
def test_what_cannot_follow_is_left_alone_and_keeps_running(adopted: Adopted, name: str) -> None:
    """The reason names what is missing. The object is untouched, and the same pods run on the same nodes."""
    row = adopted.row(name)
    assert (row["action"], row["reason"]) == ("leave", LEFT_ALONE[name])
    assert adopted.after[name] == adopted.before[name]
    assert all(adopted.after[name][1].values())


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("kube-system/StatefulSet/scratch", "can use the volume of its claim data-scratch-0 (it is in x-0)"),
        ("{}/StatefulSet/ledger", "can use the volume of its claim data-ledger-0 (it is in eu-west-1c)"),
        ("{}/Deployment/sandbox", f"matches the node selector of its RuntimeClass {RUNTIME_CLASS}"),
        ("{}/Deployment/inference", "has 1 nvidia.com/gpu for one pod"),
        ("{}/Deployment/license", "is x-0, the only node that its template permits (spec.nodeName)"),
    ],
)
def test_a_drain_names_what_could_not_come_back(adopted: Adopted, what: str, words: str) -> None:
    """It blocks the drain before anything is cordoned."""
    assert adopted.drain_code == 3
    assert words in adopted.drain[what.format(adopted.namespace)]
