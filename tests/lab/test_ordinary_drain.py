"""Drains that cannot succeed, as they happen every day: each ends, and names what prevents it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from lab.control_plane import Lab, LabError
from tests.lab.lab_helpers import (
    Cluster,
    Manifest,
    Stack,
    deployment,
    disruption_budget,
    meanwhile,
    persistent_volume,
    stateful_set,
    storage_class,
    wait_for,
    with_claims,
)

pytestmark = pytest.mark.timeout(600)

SYSTEM = "kube-system"
GRAVITON = ("arm64-0", "arm64-1")
TIMEOUT = 10.0


@dataclass
class Adopted:
    """A cluster whose nodes archshift did not make: one x86 node, two Graviton nodes, and a stack at 1.0."""

    cluster: Cluster
    stack: Stack
    beside: str

    def on_x86(self, *manifests: Manifest) -> None:
        """Make workloads whose pods start on the x86 node."""
        self.cluster.lab.kubectl("cordon", *GRAVITON)
        self.cluster.apply(manifests)
        for namespace in {one["metadata"]["namespace"] for one in manifests}:
            self.cluster.wait_until_settled(namespace)
        self.cluster.lab.kubectl("uncordon", *GRAVITON)

    def drain(self, *flags: str) -> tuple[int, dict[str, dict[str, str]], dict[str, Any]]:
        """Run a drain; returns its exit code, what blocks or holds it by name, and its whole output."""
        started = time.monotonic()
        done = self.stack.archshift("drain", f"--timeout={TIMEOUT:.0f}", "--json", *flags, timeout=120)
        assert time.monotonic() - started < TIMEOUT + 60
        assert "Traceback" not in done.stderr, done.stderr
        shown = json.loads(done.stdout)
        named = {one["what"]: one for one in (*shown["blockers"], *shown["waiting"])}
        return done.returncode, named, shown

    def cordoned(self) -> bool:
        """Whether the x86 node is cordoned."""
        return bool(self.cluster.x86_nodes()["amd64-0"]["cordoned"])

    def pods_made(self, name: str, namespace: str) -> int:
        """How many pods the controllers made for a workload."""
        flags = [f"--namespace={namespace}", "--field-selector=reason=SuccessfulCreate", "--output=json"]
        events = json.loads(self.cluster.lab.kubectl("get", "events", *flags))["items"]
        # The event of a ReplicaSet; a Deployment's own event is ScalingReplicaSet.
        counts = [
            event.get("count") or (event.get("series") or {}).get("count") or 1
            for event in events
            if event["involvedObject"]["name"].startswith(name)
        ]
        return sum(counts)


@pytest.fixture(scope="module")
def whole(control_plane: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adopted]:
    """The nodes and the stack."""
    control_plane.start()
    cluster = Cluster(control_plane)
    cluster.nodes("amd64", 1)
    cluster.nodes("arm64", 2)
    stack = Stack(control_plane, tmp_path_factory.mktemp("drain") / "stack", f"test-{uuid.uuid4().hex[:8]}")
    shop = cluster.namespace(f"shop-{uuid.uuid4().hex[:8]}")
    stack.config({"arm_ratio": "1.0", "workloads": {"namespaces": [shop]}})
    yield Adopted(cluster, stack, "")
    stack.remove()
    cluster.clear()
    cluster.close()


@pytest.fixture
def adopted(whole: Adopted) -> Iterator[Adopted]:
    """All nodes are open, and the namespaces that archshift does not steer are empty."""
    made = Adopted(whole.cluster, whole.stack, whole.cluster.namespace(f"beside-{uuid.uuid4().hex[:8]}"))
    yield made
    lab = whole.cluster.lab
    for namespace in (SYSTEM, made.beside):
        where = f"--namespace={namespace}"
        lab.kubectl("delete", "deployments,statefulsets,jobs,pdb,events", "--all", where, "--wait=false")
        lab.kubectl("delete", "pods", "--all", where, "--force", "--grace-period=0", "--wait=false")
    wait_for(lambda: not whole.cluster.all_of("pods", SYSTEM))
    assert whole.stack.archshift("drain", "--undo").returncode == 0


TOLERATES_ALL = [{"operator": "Exists"}]
PREFERS_X86 = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "preference": {
                    "matchExpressions": [{"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64"]}]
                },
            }
        ]
    }
}
"""A pod that tolerates everything ignores the cordon of Graviton nodes. It needs a reason to start on x86."""


def test_a_pod_that_tolerates_the_cordon_is_named_beforehand(adopted: Adopted) -> None:
    """An operator in kube-system would come back to the emptied node. The named way out is one: with it, the
    drain has nothing to move.
    """
    operator = deployment("cni-operator", 1, SYSTEM, tolerations=TOLERATES_ALL, affinity=PREFERS_X86)
    adopted.on_x86(operator)
    for flags in (["--dry-run"], []):
        code, named, _ = adopted.drain(*flags)
        assert (code, list(named)) == (3, [f"{SYSTEM}/Deployment/cni-operator"])
        reason = named[f"{SYSTEM}/Deployment/cni-operator"]["reason"]
        assert "because it tolerates the cordon (operator: Exists)" in reason
        assert "give it the node selector kubernetes.io/arch: arm64" in reason
        assert not adopted.cordoned()
    assert adopted.pods_made("cni-operator", SYSTEM) == 1
    selector = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/arch": "arm64"}}}}}
    patch = ("patch", "deployment", "cni-operator", f"--patch={json.dumps(selector)}")
    adopted.cluster.lab.kubectl(*patch, f"--namespace={SYSTEM}")
    adopted.cluster.wait_until_settled(SYSTEM)
    code, named, shown = adopted.drain()
    assert (code, named, shown["evicted"]) == (0, {}, 0)
    assert adopted.cordoned()


def test_a_pod_whose_template_names_the_node_is_named(adopted: Adopted) -> None:
    """It goes past the scheduler, and so past the cordon. However it is found, only a few pods are made."""
    adopted.on_x86(deployment("license", 1, SYSTEM, nodeName="amd64-0"))
    code, named, _ = adopted.drain()
    assert code == 3
    assert f"{SYSTEM}/Deployment/license" in named
    assert adopted.pods_made("license", SYSTEM) < 10


def test_a_volume_on_the_node_is_named_beforehand(adopted: Adopted) -> None:
    """The pod could never run again: its volume cannot follow it. Nothing is cordoned."""
    volume = f"local-{uuid.uuid4().hex[:8]}"
    scratch = with_claims(stateful_set("scratch", 1, SYSTEM), volume)
    scratch["spec"]["template"]["spec"]["containers"][0]["volumeMounts"] = [
        {"name": "data", "mountPath": "/data"}
    ]
    where = ("kubernetes.io/hostname", "amd64-0")
    local = persistent_volume(volume, volume, where, local={"path": "/mnt/ssd"})
    adopted.cluster.apply([storage_class(volume), local])
    adopted.on_x86(scratch)
    try:
        for flags in (["--dry-run"], []):
            code, named, shown = adopted.drain(*flags)
            assert (code, list(named), shown["evicted"]) == (3, [f"{SYSTEM}/StatefulSet/scratch"], 0)
            assert "data-scratch-0" in named[f"{SYSTEM}/StatefulSet/scratch"]["reason"]
            assert not adopted.cordoned()
    finally:
        flags = ["--ignore-not-found", "--wait=false"]
        adopted.cluster.lab.kubectl("delete", "statefulset", "scratch", f"--namespace={SYSTEM}", *flags)
        adopted.cluster.lab.kubectl("delete", "pvc", "--all", f"--namespace={SYSTEM}", *flags)
        adopted.cluster.lab.kubectl("delete", "pv,storageclass", volume, *flags)


@contextmanager
def operator(adopted: Adopted, node: str) -> Iterator[list[str]]:
    """An operator that keeps a pod of its own on a node, whatever anybody does; yields the pods it made."""
    lab = adopted.cluster.lab
    made: list[str] = []
    where = f"--namespace={adopted.beside}"
    lab.kubectl("create", "configmap", "store", where)
    uid = lab.kubectl("get", "configmap", "store", where, "--output=jsonpath={.metadata.uid}")
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": "store", "uid": uid, "controller": True}

    def keep() -> None:
        if adopted.cluster.pod_nodes(adopted.beside, "store-"):
            return
        name = f"store-{len(made)}"
        meta = {"name": name, "namespace": adopted.beside, "ownerReferences": [owner]}
        spec = {"nodeName": node, "containers": [{"name": "db", "image": "registry.example/db:1"}]}
        try:
            adopted.cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec})
        except LabError:
            return  # it tries again, as operators do
        made.append(name)

    with meanwhile(keep, 0.1):
        wait_for(lambda: adopted.cluster.pod_nodes(adopted.beside, "store-"))
        yield made


def test_an_operator_that_names_the_node_is_named_and_others_are_moved(adopted: Adopted) -> None:
    """Nobody knows it beforehand. The drain evicts its pods twice, and moves all other pods."""
    adopted.on_x86(deployment("web", 2, adopted.beside))
    with operator(adopted, "amd64-0") as made:
        code, named, shown = adopted.drain()
    assert code == 3
    assert list(named) == [f"{adopted.beside}/ConfigMap/store"]
    assert "its pods come back to amd64-0" in named[f"{adopted.beside}/ConfigMap/store"]["reason"]
    assert shown["evicted"] == 4
    assert len(made) < 10
    assert {*adopted.cluster.pod_nodes(adopted.beside, "web").values()} <= {*GRAVITON}


def test_budgets_that_never_allow_an_eviction_are_named_beforehand(adopted: Adopted) -> None:
    """However a budget says it, and two budgets for one pod. A budget that allows one eviction is none."""
    beside = adopted.beside
    specs: dict[str, dict[str, Any]] = {
        "none-away": {"maxUnavailable": 0},
        "all-of-them": {"minAvailable": "100%"},
        "two-of-two": {"minAvailable": 2},
        "fine": {"maxUnavailable": 1},
    }
    twice = [disruption_budget("twice", beside, maxUnavailable=1)]
    twice.append({**twice[0], "metadata": {"name": "once-more", "namespace": beside}})
    budgets = [disruption_budget(name, beside, **spec) for name, spec in specs.items()]
    adopted.on_x86(*(deployment(name, 2, beside) for name in (*specs, "twice")), *budgets, *twice)
    code, named, shown = adopted.drain("--dry-run")
    never = "never allows an eviction, because all 2 pods must be healthy; relax it, or run more pods"
    assert code == 3
    assert {what: one["reason"] for what, one in named.items()} == {
        **{
            f"{beside}/Deployment/{name}": f"the PodDisruptionBudget {name} {never}"
            for name in ("none-away", "all-of-them", "two-of-two")
        },
        f"{beside}/Deployment/twice": "the PodDisruptionBudgets once-more and twice select it, and the "
        "eviction API accepts only one; delete all but one",
    }
    assert (shown["evicted"], adopted.cordoned()) == (0, False)


def test_a_workload_whose_rollouts_keep_all_pods_is_warned_about(adopted: Adopted) -> None:
    """The drain goes on, and moves it one pod after the other."""
    made = deployment("careful", 2, adopted.beside)
    made["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    adopted.on_x86(made, deployment("web", 1, adopted.beside))
    code, named, shown = adopted.drain("--dry-run")
    assert (code, named) == (0, {})
    assert [one["what"] for one in shown["warnings"]] == [f"{adopted.beside}/Deployment/careful"]
    done = adopted.stack.archshift("drain", "--dry-run")
    assert "3 pods on 1 of 1 x86 nodes would move" in done.stdout
    code, _, shown = adopted.drain()
    assert (code, shown["evicted"]) == (0, 3)
