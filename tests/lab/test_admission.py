"""Placement at admission, end to end: the engine, the API server, the scheduler and the moves."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest

from archshift.cluster.live_placement import SEEN_SECONDS
from lab.restarts import Pods, had_to_move, read_pods, restarted
from tests.lab.exact import apart, expect_exact, in_zones, zone_spread
from tests.lab.lab_helpers import Cluster, Manifest, Stack, deployment, node_groups, stateful_set
from tests.lab.ordinary import planned_rows, went_well

SIZES = (1, 2, 3, 4, 4, 5, 5, 6, 7, 8, 8, 9, 10, 10, 12, 12, 13, 15, 16, 17, 20, 20, 21, 25)
"""Replicas of the Deployments; with the StatefulSet 25 workloads."""

SURGE = frozenset({"web-0", "web-1", "web-2"})
"""Their limits let no pod be away: a quarter of 1, 2 and 3 pods is none."""


def fleet(namespace: str) -> list[Manifest]:
    """25 workloads, some with rules of their own."""
    items = [deployment(f"web-{number}", size, namespace) for number, size in enumerate(SIZES)]
    rules: dict[int, dict[str, Any]] = {
        7: {"affinity": apart("web-7")},
        9: {"topologySpreadConstraints": zone_spread("web-9")},
        11: {"affinity": in_zones("eu-west-1a", "eu-west-1b")},
        13: {"tolerations": [{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}]},
    }
    for number, rule in rules.items():
        items[number]["spec"]["template"]["spec"] |= rule
    return [*items, stateful_set("db", 6, namespace)]


def generations(cluster: Cluster, namespace: str) -> dict[str, int]:
    """Name of a workload to its generation, which every change of its spec raises."""
    items = cluster.all_of("deployments,statefulsets", namespace)
    return {item["metadata"]["name"]: item["metadata"]["generation"] for item in items}


def costs(stack: Stack, before: Pods, after: Pods, *, surge: bool) -> tuple[int, int]:
    """How many pods had to move, and how many restarted; of workloads with surge, or of all others."""
    rows = [
        {"workload": row["workload"], "wanted": row["wanted"]}
        for name, row in planned_rows(stack).items()
        if (name in SURGE) == surge
    ]
    return sum(had_to_move(row, before) for row in rows), sum(restarted(row, before, after) for row in rows)


@pytest.fixture
def steered(stack: Stack, namespace: str) -> Iterator[Stack]:
    """A stack that places at admission; it has made its x86 nodes, and nothing runs there yet."""
    groups = node_groups(9, 9)
    settings = {"images": {"check": False}, "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.0"}
    went_well(stack.config({**settings, "node_groups": {"x86": groups["x86"]}}).up())
    yield stack.config({**settings, "node_groups": groups, "placement": "admission"})
    stack.destroy()


def test_a_ramp_restarts_only_the_pods_that_move(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """No restart at the first step, one for each pod that moves after it, and no change of a template.

    Destroy takes the policy and the entries away, and touches no pod.
    """
    cluster.apply(fleet(namespace))
    cluster.wait_until_settled(namespace)
    untouched, pods = generations(cluster, namespace), read_pods(cluster.lab)
    went_well(steered.up())
    assert read_pods(cluster.lab) == pods
    for ratio in ("0.2", "0.5", "0.8", "1.0", "0.5"):
        before = read_pods(cluster.lab)
        went_well(steered.config({"arm_ratio": ratio}).up())
        expect_exact(cluster, steered, namespace, float(ratio))
        after = read_pods(cluster.lab)
        moved, again = costs(steered, before, after, surge=False)
        assert moved > 0
        assert again <= 1.05 * moved
        seen = generations(cluster, namespace)
        assert {name: seen[name] for name in seen.keys() - SURGE} == {
            name: untouched[name] for name in untouched.keys() - SURGE
        }
        second = went_well(steered.up())
        assert second.changes == {}, second.output
    after = read_pods(cluster.lab)
    seen = generations(cluster, namespace)
    went_well(steered.destroy("--target=**PlacementPolicy**"))
    assert read_pods(cluster.lab) == after
    assert generations(cluster, namespace) == seen
    assert "archshift" not in cluster.lab.kubectl("get", "mutatingadmissionpolicies", "--output=name")


def small_fleet(namespace: str) -> list[Manifest]:
    """A Deployment of each sort that owners do something with."""
    names = ("applied", "forced", "restarted", "undone", "imaged", "anew")
    return [deployment(name, 10, namespace) for name in names]


def test_what_owners_do_leaves_the_shares(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """Each rolls out by itself between two updates, and its new pods are placed by the same entries."""
    items = {item["metadata"]["name"]: item for item in small_fleet(namespace)}
    cluster.apply(items.values())
    cluster.wait_until_settled(namespace)
    went_well(steered.config({"arm_ratio": "0.3"}).up())
    before = expect_exact(cluster, steered, namespace, 0.3)
    kubectl, where = cluster.lab.kubectl, f"--namespace={namespace}"

    def changed(name: str, image: str) -> Manifest:
        item = copy.deepcopy(items[name])
        item["spec"]["template"]["spec"]["containers"][0]["image"] = image
        return item

    cluster.apply(changed("applied", "registry.example/applied:2"))
    kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=owner",
        "--filename=-",
        stdin=json.dumps(changed("forced", "registry.example/forced:2")),
    )
    kubectl("rollout", "restart", "deployment/restarted", where)
    kubectl("set", "image", "deployment/undone", "app=registry.example/undone:2", where)
    kubectl("rollout", "status", "deployment/undone", where, "--timeout=60s")
    kubectl("rollout", "undo", "deployment/undone", where)
    kubectl("set", "image", "deployment/imaged", "app=registry.example/imaged:2", where)
    kubectl("delete", "deployment", "anew", where)
    cluster.apply(items["anew"])
    cluster.wait_until_settled(namespace)
    assert expect_exact(cluster, steered, namespace, 0.3) == before
    # Nobody else owns a field of ours, so the next step is not refused anywhere.
    went_well(steered.config({"arm_ratio": "0.6"}).up())
    expect_exact(cluster, steered, namespace, 0.6)


def changed(item: str, patch: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """What `kubectl` gets to change an object."""
    return ("patch", item, "--type=json", f"--patch={json.dumps(patch)}")


def test_what_is_gone_or_edited_comes_back(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """Somebody deletes the policy, then its binding, then edits both; the next update is exact each time.

    A condition or a selector that somebody adds switches the policy off, and status names it.
    """
    cluster.apply(small_fleet(namespace))
    cluster.wait_until_settled(namespace)
    went_well(steered.config({"arm_ratio": "0.5"}).up())
    before = expect_exact(cluster, steered, namespace, 0.5)
    kubectl = cluster.lab.kubectl
    name = kubectl("get", "mutatingadmissionpolicies", "--output=name").strip().rpartition("/")[2]
    elsewhere = {"matchLabels": {"kubernetes.io/metadata.name": "elsewhere"}}
    path = "/spec/matchConstraints/namespaceSelector"
    nothing = [{"op": "replace", "path": path, "value": elsewhere}]
    never = [{"name": "never", "expression": "false"}]
    added: list[dict[str, Any]] = [
        {"op": "add", "path": "/spec/matchConditions", "value": never},
        {"op": "add", "path": "/spec/variables/-", "value": never[0]},
    ]
    nowhere = [{"op": "add", "path": "/spec/matchResources", "value": {"namespaceSelector": elsewhere}}]
    policy, binding = f"mutatingadmissionpolicy/{name}", f"mutatingadmissionpolicybinding/{name}"
    for command, said in (
        (("delete", policy), "its policy was deleted"),
        (("delete", binding), "its binding was deleted"),
        (changed(policy, nothing), "spec.matchConstraints.namespaceSelector.matchLabels."),
        (changed(policy, added), "spec.matchConditions of its policy, spec.variables of its policy"),
        (changed(binding, nowhere), "spec.matchResources of its binding"),
    ):
        kubectl(*command)
        time.sleep(SEEN_SECONDS)
        words = " ".join(steered.archshift("status", environment={"COLUMNS": "300"}).stdout.split())
        assert f"archshift's policy is not in effect as made in {namespace}: " in words
        assert said in words
        kubectl("rollout", "restart", "deployment", f"--namespace={namespace}")
        cluster.wait_until_settled(namespace)
        went_well(steered.up())
        assert expect_exact(cluster, steered, namespace, 0.5) == before, command
    assert went_well(steered.up()).changes == {}
    went_well(steered.config({"arm_ratio": "0.7"}).up())
    expect_exact(cluster, steered, namespace, 0.7)


def test_from_patches_to_admission_and_back(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """Every share stays, each patched workload rolls out once, and nothing of either way is left."""
    cluster.apply(small_fleet(namespace))
    settings = {"images": {"check": False}, "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.4"}
    stack.config({**settings, "node_groups": node_groups()})
    specs = {item["metadata"]["name"]: item["spec"] for item in cluster.all_of("deployments", namespace)}
    went_well(stack.up())
    before = expect_exact(cluster, stack, namespace, 0.4)
    went_well(stack.config({"placement": "admission"}).up())
    # The update waited for the rollouts: nothing is left to wait for.
    assert expect_exact(cluster, stack, namespace, 0.4) == before
    assert {
        item["metadata"]["name"]: item["spec"] for item in cluster.all_of("deployments", namespace)
    } == specs
    assert went_well(stack.up()).changes == {}
    went_well(stack.config({"placement": "patches"}).up())
    cluster.wait_until_settled(namespace)
    assert expect_exact(cluster, stack, namespace, 0.4) == before
    assert "archshift" not in cluster.lab.kubectl("get", "mutatingadmissionpolicies", "--output=name")
    went_well(stack.config({"placement": "admission", "arm_ratio": "0.7"}).up())
    expect_exact(cluster, stack, namespace, 0.7)
    assert went_well(stack.up()).changes == {}
    went_well(stack.destroy())
