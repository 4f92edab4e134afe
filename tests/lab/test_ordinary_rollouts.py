"""One workload's trouble is its own: what runs after the patches, on a cluster that is not tidy."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lab.control_plane import REGISTRY_HOST, Lab
from lab.images import push_images
from tests.build import REQUIRED
from tests.lab.lab_helpers import (
    Cluster,
    Manifest,
    Result,
    Stack,
    deployment,
    meanwhile,
    on_the_node_of,
    stateful_set,
    wait_for,
)

SHOP, TIGHT = "ordinary-shop", "ordinary-tight"

PATCHES = "--target=**WorkloadPatches**"

# More than one pod of the slow workload takes, and less than all of them take.
NO_PROGRESS = 10


def one_a_host(name: str) -> Manifest:
    """A required anti-affinity between the pods of a workload."""
    return {"podAntiAffinity": {REQUIRED: [on_the_node_of(name)]}}


def of_store(name: str, replicas: int) -> Manifest:
    """One of two Deployments with the same selector."""
    item = deployment(name, replicas, SHOP)
    item["spec"]["selector"] = {"matchLabels": {"app": "store"}}
    item["spec"]["template"]["metadata"]["labels"] = {"app": "store", "role": name}
    return item


def untidy() -> list[Manifest]:
    """A fleet in which something is always missing."""
    pending = deployment("pending", 2, SHOP)
    pending["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "100"}}
    slow = stateful_set("slow", 4, SHOP)
    slow["spec"] |= {"minReadySeconds": 4, "podManagementPolicy": "OrderedReady"}
    boxed = deployment("boxed", 4, TIGHT)
    boxed["spec"] |= {
        "progressDeadlineSeconds": 5,
        "strategy": {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
    }
    fleet = [
        deployment("cache", 6, SHOP, affinity=one_a_host("cache")),
        deployment("web", 8, SHOP),
        pending,
        of_store("leader", 1),
        of_store("follower", 2),
        slow,
        boxed,
    ]
    for item in fleet:
        item["spec"]["template"]["spec"]["containers"][0]["image"] = f"{REGISTRY_HOST}/storefront:2.31.0"
    return fleet


@pytest.fixture(scope="module")
def cluster(control_plane: Lab) -> Iterator[Cluster]:
    """Five nodes that are nobody's, and the fleet."""
    control_plane.start()
    push_images(control_plane, print, again=True)
    cluster = Cluster(control_plane)
    cluster.nodes("amd64", 3)
    cluster.nodes("arm64", 2)
    for name in (SHOP, TIGHT):
        cluster.namespace(name)
    cluster.apply(untidy())
    running = {"cache": 5, "web": 8, "leader": 1, "follower": 2, "slow": 4}
    wait_for(lambda: counts(cluster) == {name: running.get(name, 0) for name in counts(cluster)})
    yield cluster
    cluster.clear()
    cluster.close()


@pytest.fixture(scope="module")
def stack(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    stack = Stack(cluster.lab, tmp_path_factory.mktemp("ordinary"), "ordinary-rollouts")
    stack.config(
        {
            # As on a user's cluster: archshift makes no nodes, and a lack of room is only a warning.
            "platform": None,
            "images": None,
            "workloads": {"namespaces": [SHOP, TIGHT]},
            "rollouts": {"no_progress_seconds": NO_PROGRESS},
            "arm_ratio": "0.5",
        }
    )
    yield stack
    stack.remove()


@pytest.fixture(scope="module")
def first_step(stack: Stack) -> Result:
    return stack.up()


def counts(cluster: Cluster) -> dict[str, int]:
    """How many pods of each workload of the shop are available."""
    return {
        item["metadata"]["name"]: item["status"].get("availableReplicas", 0)
        for item in cluster.all_of("deployments,statefulsets", SHOP)
    }


def rows(stack: Stack) -> dict[str, Manifest]:
    """The rows of `archshift status`, by the workloads' names."""
    found = json.loads(stack.archshift("status", "--json").stdout)["workloads"]
    return {row["workload"].rpartition("/")[2]: row for row in found}


def generations(cluster: Cluster) -> dict[str, int]:
    return {
        item["metadata"]["name"]: item["metadata"]["generation"]
        for namespace in (SHOP, TIGHT)
        for item in cluster.all_of("deployments,statefulsets", namespace)
    }


@contextmanager
def pods_seen(cluster: Cluster) -> Iterator[set[str]]:
    """Yield a set that ends up with the names of all pods that there were meanwhile."""
    seen = set(cluster.pod_nodes(SHOP))
    with meanwhile(lambda: seen.update(cluster.pod_nodes(SHOP)), 0.05):
        yield seen


def test_what_was_incomplete_before_neither_fails_nor_holds_up_the_others(
    first_step: Result, stack: Stack
) -> None:
    """One workload lacks a host, another fits no node. Both are named; all others are exact."""
    assert first_step.succeeded, first_step.output
    assert first_step.seconds < 90
    note = next(text for text in first_step.diagnostics if "not waited for" in text)
    assert f"{SHOP}/Deployment/cache: it was incomplete before the step and stands still" in note
    assert f"{SHOP}/Deployment/pending: it was incomplete before the step and stands still" in note
    assert "Insufficient cpu" in note
    assert "preemption" not in note
    found = rows(stack)
    exact = {name: row["wanted"] == row["graviton"] for name, row in found.items()}
    assert {name for name, ok in exact.items() if not ok} <= {"cache", "pending"}
    # Less of cache can run on two Graviton hosts, so others may make up for it.
    assert 4 <= found["web"]["graviton"] <= 6


def test_two_deployments_with_one_selector_are_exact_at_once(
    first_step: Result, cluster: Cluster, stack: Stack
) -> None:
    """Pods belong to their owners, so the balancing has nothing to wait for."""
    assert "not exact yet" not in first_step.output, first_step.output
    graviton, found = cluster.graviton_counts(SHOP), rows(stack)
    for name in ("leader", "follower"):
        assert graviton[f"Deployment/{name}"] == found[name]["wanted"]


def test_a_slow_rollout_is_waited_for_while_it_makes_progress(first_step: Result, cluster: Cluster) -> None:
    """Four pods of four seconds take longer than a rollout may stand still."""
    assert first_step.succeeded, first_step.output
    slow = cluster.get("statefulset", "slow", SHOP)["status"]
    assert (slow["updatedReplicas"], slow["availableReplicas"]) == (4, 4)
    assert slow["currentRevision"] == slow["updateRevision"]
    assert first_step.seconds > NO_PROGRESS


def test_every_command_that_shows_state_names_pending_pods(first_step: Result, stack: Stack) -> None:
    """With the scheduler's words; and status has an exit code of its own."""
    assert first_step.succeeded, first_step.output
    status = stack.archshift("status")
    assert status.returncode == 5, status.stdout + status.stderr
    said = {
        "status": status.stdout,
        "plan": stack.archshift("plan").stdout,
        "report": stack.archshift("report").stdout,
        "doctor": stack.archshift("doctor").stdout,
        "preview": stack.preview().output,
    }
    for command, text in said.items():
        # A narrow terminal breaks the line.
        words = " ".join(text.split())
        assert f"{SHOP}/Deployment/pending: 0/5 nodes are available: 5 Insufficient cpu" in words, command
    troubles = json.loads(stack.archshift("status", "--json").stdout)["troubles"]
    assert {one["workload"].rpartition("/")[2]: one["pending"] > 0 for one in troubles} == {
        "cache": True,
        "pending": True,
    }


def test_an_update_of_something_else_moves_no_pod(first_step: Result, stack: Stack, cluster: Cluster) -> None:
    """The plan has another ratio, but `--target` patches no workload."""
    assert first_step.succeeded, first_step.output
    before, patched = cluster.pod_nodes(SHOP), generations(cluster)
    urn = next(item["urn"] for item in stack.resources() if item["type"].startswith("pulumi:providers:"))
    with pods_seen(cluster) as seen:
        update = stack.config({"arm_ratio": "0.2"}).up(f"--target={urn}")
    stack.config({"arm_ratio": "0.5"})
    assert update.succeeded, update.output
    assert "not exact" not in update.output
    assert (cluster.pod_nodes(SHOP), generations(cluster), seen) == (before, patched, {*before})


def test_a_workload_that_the_step_itself_stops_fails_it_at_the_end(
    first_step: Result, stack: Stack, cluster: Cluster
) -> None:
    """A quota allows no new pod. The others are exact, and the error has the API server's words."""
    assert first_step.succeeded, first_step.output
    where = {"name": "pods", "namespace": TIGHT}
    quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": where, "spec": {"hard": {"pods": "4"}}}
    cluster.apply(quota)
    wait_for(lambda: cluster.get("resourcequota", "pods", TIGHT)["status"].get("used"))
    step = stack.config({"arm_ratio": "1.0"}).up()
    cluster.lab.kubectl("delete", "quota", "pods", f"--namespace={TIGHT}")
    assert step.exit_code != 0
    error = next(text for text in step.diagnostics if "the step is not complete" in text)
    assert f"{TIGHT}/Deployment/boxed: its rollout makes no progress: 0 of 4 pods updated" in error
    assert "exceeded quota" in error
    assert "pending" not in error
    found = rows(stack)
    assert all(found[name]["exact"] for name in ("web", "leader", "follower", "slow"))
    assert found["web"]["graviton"] == 8
    # With room again, the rollout goes on by itself.
    wait_for(lambda: cluster.graviton_counts(TIGHT) == {"Deployment/boxed": 4})


def test_a_destroy_gives_back_and_moves_nobody(first_step: Result, stack: Stack, cluster: Cluster) -> None:
    """Also with another ratio in the configuration: nothing is evicted, and nothing awaited."""
    assert first_step.succeeded, first_step.output
    before = {pod for pod in cluster.pod_nodes(SHOP) if pod.startswith("web")}
    (revision,) = {pod.rpartition("-")[0] for pod in before}
    with pods_seen(cluster) as seen:
        destroyed = stack.config({"arm_ratio": "0.2"}).destroy("--run-program", PATCHES)
    assert destroyed.succeeded, destroyed.output
    assert not [text for text in destroyed.diagnostics if "not exact" in text or "not waited for" in text]
    # A pod that is evicted gets a successor of its own revision; a pod that gives place to the next one none.
    assert {pod for pod in seen if pod.startswith(revision)} == before
    web = cluster.get("deployment", "web", SHOP)["spec"]["template"]["spec"]
    assert "affinity" not in web
    assert "topologySpreadConstraints" not in web
