"""Every controller is placed at admission: what the plan reads, what the entries say, and where the pods are.

A walk over the ratio without the engine, on a real API server and scheduler: read, plan, write the entries,
move the pods, and read again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from archshift.actions.moving import move_pods
from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import StepResult
from archshift.cluster.client import connect
from archshift.cluster.entries import PLACED_ANNOTATION, policy_name
from archshift.cluster.inventory import read_inventory
from archshift.cluster.live_placement import SEEN_SECONDS, read_live_placement
from archshift.cluster.model import Discovery, Inventory
from archshift.plan.admission import binding, policy
from archshift.plan.entries_of import entries_of
from archshift.plan.model import Plan
from archshift.plan.placed_pods import with_unplaced
from archshift.plan.planner import make_plan
from lab.control_plane import CONTEXT, Lab
from tests.lab.lab_helpers import Cluster, Manifest, deployment, stateful_set, wait_for

STACK = "controllers"
SHOP = "controllers-shop"
LIMITS = RolloutLimits(longest=300, no_progress=30)
SOFT = [
    {
        "topologyKey": "topology.kubernetes.io/zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {},
    }
]


def replica_set(name: str, replicas: int, rollout: str = "") -> Manifest:
    """A ReplicaSet that no Deployment owns; with a Rollout, as Argo makes it."""
    item: Manifest = deployment(name, replicas, SHOP) | {"kind": "ReplicaSet"}
    if rollout:
        labels = {"rollouts-pod-template-hash": name.removeprefix(f"{rollout}-")}
        item["spec"]["selector"]["matchLabels"] |= labels
        item["spec"]["template"]["metadata"]["labels"] |= labels
    return item


def tasks(name: str, pods: int, uid: str) -> list[Manifest]:
    """Pods that a pipeline made itself; they end by themselves. Its object is a ConfigMap here."""
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": name, "uid": uid, "controller": True}
    template = deployment(name, 0, SHOP)["spec"]["template"]
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-{number}",
                "namespace": SHOP,
                "labels": template["metadata"]["labels"],
                "ownerReferences": [owner],
            },
            "spec": {**template["spec"], "restartPolicy": "Never"},
        }
        for number in range(pods)
    ]


FLEET = [
    deployment("web", 10, SHOP, topologySpreadConstraints=SOFT),
    deployment("api", 7, SHOP),
    stateful_set("db", 5, SHOP),
    replica_set("bare", 6),
    replica_set("checkout-7c9fd", 9, "checkout"),
]


class Shop:
    """The cluster, as a program without an engine sees it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.api = connect(CONTEXT, cluster.lab.kubeconfig)
        self.discovery = Discovery(namespaces=(SHOP,))

    def read(self) -> Inventory:
        return read_inventory(self.api, self.discovery, f"archshift/{STACK}/patches", every_controller=True)

    def plan(self, ratio: float) -> Plan:
        live, found = read_live_placement(self.api, STACK), self.read()
        plan = make_plan(
            arm_ratio=ratio,
            inventory=found,
            placed_by="admission",
            live_entries=live.entries,
        )
        return with_unplaced(plan, found, live, STACK)

    def step(self, ratio: float) -> Plan:
        """Take a step, and return its plan."""
        plan, live = self.plan(ratio), read_live_placement(self.api, STACK)
        data = entries_of(
            plan,
            self.discovery,
            self.read().nodes,
            namespaces=live.namespaces,
            images_checked=True,
            live=live.data,
        )
        assert set(data) == {SHOP}
        self.cluster.apply([policy(STACK, SHOP, data[SHOP]), binding(STACK, SHOP)])
        # The API server sees a new entry a moment later.
        time.sleep(SEEN_SECONDS)
        wait_for(lambda: self.admitted("ReplicaSet", "bare") == data[SHOP]["ReplicaSet.bare"])
        done = move_pods(
            self.api, plan.workloads, stack_label=STACK, field_manager="archshift/test", limits=LIMITS
        )
        assert done == StepResult()
        return plan

    def admitted(self, kind: str, name: str) -> str:
        """The entry by which a new pod of an owner would be placed."""
        owner = {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": "1", "controller": True}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "probe",
                "namespace": SHOP,
                "labels": {"app": "probe"},
                "ownerReferences": [owner],
            },
            "spec": {"containers": [{"name": "app", "image": "registry.example/probe:1"}]},
        }
        text = self.cluster.lab.kubectl(
            "create", "--dry-run=server", "--output=json", "--filename=-", stdin=json.dumps(pod)
        )
        return str((json.loads(text)["metadata"].get("annotations") or {}).get(PLACED_ANNOTATION, ""))

    def uids(self) -> set[str]:
        return {pod["metadata"]["uid"] for pod in self.cluster.all_of("pods", SHOP)}


@pytest.fixture(scope="module")
def shop(control_plane: Lab) -> Iterator[Shop]:
    control_plane.start()
    cluster = Cluster(control_plane)
    cluster.nodes("amd64", 4)
    cluster.namespace(SHOP)
    cluster.apply(FLEET)
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "etl", "namespace": SHOP}})
    cluster.apply(tasks("etl", 3, cluster.get("configmap", "etl", SHOP)["metadata"]["uid"]))
    wait_for(lambda: len(cluster.pod_nodes(SHOP)) == 40)
    # All pods were there before Graviton and before the policy.
    cluster.nodes("arm64", 4)
    shop = Shop(cluster)
    yield shop
    shop.api.close()
    for kind in ("mutatingadmissionpolicybinding", "mutatingadmissionpolicy"):
        control_plane.kubectl("delete", kind, "--all")
    cluster.clear()
    cluster.close()


def test_every_controller_goes_along_and_reads_as_it_is(shop: Shop) -> None:
    """Up and down again: exact at each ratio, and only the pods that move restart, never those of a task."""
    first = shop.step(0.0)
    assert {row.key.removeprefix(f"{SHOP}/"): row.movable for row in first.workloads} == {
        "Deployment/api": True,
        "Deployment/web": True,
        "ConfigMap/etl": False,
        "ReplicaSet/bare": True,
        "Rollout/checkout": True,
        "StatefulSet/db": True,
    }
    assert (first.pods, first.moves, first.restarted_pods) == (37, 0, 0)
    assert shop.plan(0.0).older == 37 + 3
    moved = 0
    for ratio in (0.3, 1.0, 0.5, 0.0):
        before = shop.uids()
        plan = shop.step(ratio)
        after = shop.plan(ratio)
        assert plan.moves == plan.restarted_pods == len(before - shop.uids())
        assert (after.exact, after.moves, after.unplaced) == (True, 0, {})
        assert after.graviton == round(37 * ratio)
        # What the policy wrote into the pods is no rule of theirs.
        assert {row.action for row in after.workloads if row.movable} == {"move"}
        assert all(not workload.conditions for workload in shop.read().workloads.values())
        moved += plan.moves
    assert moved > 37
    assert {node.split("-")[0] for node in shop.cluster.pod_nodes(SHOP, "etl").values()} == {"amd64"}


def test_new_pods_that_nobody_placed_are_counted(shop: Shop) -> None:
    """While the policy was away, its workload was scaled; the next step moves what is on the wrong side."""
    shop.step(1.0)
    shop.cluster.lab.kubectl("delete", "mutatingadmissionpolicybinding", policy_name(STACK, SHOP))
    wait_for(lambda: not shop.admitted("ReplicaSet", "bare"))
    shop.cluster.scale("deployment", "api", SHOP, 12)
    wait_for(lambda: len(shop.cluster.pod_nodes(SHOP, "api")) == 12)
    assert shop.plan(1.0).unplaced == {}
    shop.cluster.apply(binding(STACK, SHOP))
    wait_for(lambda: shop.admitted("ReplicaSet", "bare"))
    plan = shop.plan(1.0)
    assert plan.older == 5 + 3
    shop.step(1.0)
    assert shop.plan(1.0).exact
    shop.cluster.scale("deployment", "api", SHOP, 7)
