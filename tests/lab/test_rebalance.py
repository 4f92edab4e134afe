"""Shares while autoscalers take pods away and nodes are lost, and what it costs to bring them right again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archshift.cluster.pods import COST_ANNOTATION
from lab.restarts import had_to_move, read_pods, restarted
from tests.lab.exact import expect_exact
from tests.lab.lab_helpers import Cluster, Manifest, Stack, deployment, node_groups, stateful_set, wait_for
from tests.lab.ordinary import went_well

SIZES = (4, 5, 6, 8, 10, 13, 20, 33)


def scaler(key: str, replicas: int, namespace: str) -> Manifest:
    """An autoscaler of a workload. The lab measures nothing, so it changes nothing by itself."""
    kind, name = key.split("/")
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name},
            "minReplicas": 1,
            "maxReplicas": 3 * replicas,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}},
                }
            ],
        },
    }


def scale(cluster: Cluster, namespace: str, sizes: dict[str, int], factor: float) -> dict[str, int]:
    """Scale everything, and return the new sizes."""
    new = {key: max(1, round(factor * size)) for key, size in sizes.items()}
    for key, replicas in new.items():
        kind, name = key.split("/")
        cluster.scale(kind.lower(), name, namespace, replicas)
    cluster.wait_until_settled(namespace)
    wait_for(lambda: cluster.pod_counts(namespace) == new)
    return new


def costs(cluster: Cluster, namespace: str, *names: str) -> int:
    """How many pods have a deletion cost, of all workloads or of these."""
    prefixes = tuple(f"{name}-" for name in names) or ("",)
    metadata = [pod["metadata"] for pod in cluster.all_of("pods", namespace)]
    return sum(
        COST_ANNOTATION in (own.get("annotations") or {})
        for own in metadata
        if own["name"].startswith(prefixes)
    )


def rebalance(stack: Stack, *flags: str, code: int) -> dict[str, Any]:
    """Run the command, and return its JSON."""
    done = stack.archshift("rebalance", "--json", *flags)
    assert done.returncode == code, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def repair(cluster: Cluster, stack: Stack, namespace: str, ratio: float) -> tuple[int, int]:
    """Rebalance in two runs; return how many pods had to move and how many restarted."""
    before = read_pods(cluster.lab)
    dry = rebalance(stack, "--dry-run", code=3)
    surplus = sum(row["surplus"] for row in dry["workloads"])
    assert read_pods(cluster.lab) == before, "a dry run changes nothing"
    if surplus > 2:
        some = rebalance(stack, "--max-pods=2", code=3)
        assert some["evicted"] == 2
    done = rebalance(stack, code=0)
    assert done["exact"]
    expect_exact(cluster, stack, namespace, ratio)
    after = read_pods(cluster.lab)
    rows = [{"workload": row["workload"], "wanted": row["wanted"]} for row in dry["workloads"]]
    assert sum(had_to_move(row, before) for row in rows) == surplus
    return surplus, sum(restarted(row, before, after) for row in rows)


def lose_nodes(cluster: Cluster, namespace: str, prefix: str, number: int) -> None:
    """Lose nodes with their pods; they come back when new pods run elsewhere."""
    names = [f"{prefix}-{index}" for index in range(number)]
    nodes = [cluster.get("node", name) for name in names]
    cluster.lab.kubectl("delete", "nodes", *names, "--wait=false")
    for name, where in cluster.pod_nodes(namespace).items():
        if where in names:
            cluster.lab.kubectl(
                "delete", "pod", name, f"--namespace={namespace}", "--force", "--grace-period=0"
            )
    cluster.wait_until_settled(namespace)
    for node in nodes:
        meta = node["metadata"]
        for key in ("managedFields", "uid", "resourceVersion", "creationTimestamp"):
            meta.pop(key, None)
    cluster.apply(nodes)
    cluster.lab.kubectl("wait", "nodes", *names, "--for=condition=Ready", "--timeout=60s")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("placement", ["admission", "patches"])
def test_shares_hold_on_the_way_down_and_are_repaired_for_as_many_restarts_as_moves(
    cluster: Cluster, stack: Stack, namespace: str, placement: str
) -> None:
    """At 0.8 and 0.2: scaled to 75 %, 50 % and 25 %, no workload is a pod off. After a third of the nodes
    of the larger side was lost and came back, a rebalance restarts exactly the surplus.
    """
    items = [deployment(f"web-{size}", size, namespace) for size in SIZES]
    items.append(stateful_set("db", 12, namespace))
    sizes = {f"{item['kind']}/{item['metadata']['name']}": item["spec"]["replicas"] for item in items}
    cluster.apply(items)
    cluster.apply(scaler(key, size, namespace) for key, size in sizes.items())
    stack.config(
        {
            "node_groups": node_groups(3, 3),
            "workloads": {"namespaces": [namespace]},
            "arm_ratio": "0.0",
            "placement": placement,
        }
    )
    went_well(stack.up())
    assert costs(cluster, namespace) == 0, "on one side every order is right"
    for ratio in (0.8, 0.2):
        went_well(stack.config({"arm_ratio": str(ratio)}).up())
        wanted = expect_exact(cluster, stack, namespace, ratio)
        assert went_well(stack.up()).changes == {}, "costs that are right are not written again"
        split = [size for size in SIZES if 0 < wanted[f"{namespace}/Deployment/web-{size}"] < size]
        assert costs(cluster, namespace, *(f"web-{size}" for size in split)) == sum(split)
        for factor in (0.75, 0.5, 0.25):
            now = scale(cluster, namespace, sizes, factor)
            counts = cluster.graviton_counts(namespace)
            off = {
                key: abs(counts[key] - wanted[f"{namespace}/{key}"] * now[key] / size)
                for key, size in sizes.items()
            }
            print(f"{placement} at {ratio}, scaled to {factor}: {off}")
            ordinal = off.pop("StatefulSet/db")
            assert max(off.values()) < 1, off
            if placement == "admission":
                assert ordinal < 2
        scale(cluster, namespace, sizes, 1)
        done = rebalance(stack, code=0)
        print(f"{placement} at {ratio}, back at its size: {done}")
        expect_exact(cluster, stack, namespace, ratio)
        # The two nodes that are left have no room for all pods of the side.
        lose_nodes(cluster, namespace, "graviton" if ratio > 0.5 else "x86", 1)
        surplus, again = repair(cluster, stack, namespace, ratio)
        print(f"{placement} at {ratio}, a third of the nodes lost: surplus {surplus}, restarts {again}")
        assert surplus > 0
        assert again == surplus
        assert went_well(stack.up()).changes == {}
    running = stack.config({"arm_ratio": "0.5"}).begin_up()
    refused = wait_for(lambda: _refused(stack, running.poll()))
    running.communicate(timeout=300)
    assert f"archshift: an update of the stack {stack.name} is under way" in refused
    went_well(stack.up())
    assert costs(cluster, namespace) > 0
    went_well(stack.destroy())
    assert costs(cluster, namespace) == 0


def _refused(stack: Stack, ended: int | None) -> str:
    """The words with which the command refuses, while the update goes on."""
    assert ended is None, "the update was over before the command ran"
    done = stack.archshift("rebalance", "--dry-run")
    return done.stderr if done.returncode == 1 else ""
