"""Shares while autoscalers take pods away and nodes are lost, and what it costs to bring them right again."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archshift.cluster.entries import policy_name
from archshift.cluster.live_placement import entries_in
from archshift.cluster.pods import COST_ANNOTATION
from archshift.report.drift import drift_in
from archshift.report.preview import Change, PreviewReport
from lab.restarts import had_to_move, read_pods, restarted
from lab.stack import kill_with_children
from tests.lab.exact import expect_exact
from tests.lab.lab_helpers import (
    Cluster,
    Manifest,
    Stack,
    autoscaler,
    deployment,
    node_groups,
    stateful_set,
    wait_for,
)
from tests.lab.ordinary import went_well

SIZES = (4, 5, 6, 8, 10, 13, 20, 33)


def scaler(key: str, replicas: int, namespace: str) -> Manifest:
    """An autoscaler of a workload that may grow to three times its size."""
    kind, name = key.split("/")
    return autoscaler(kind, name, namespace, 1, 3 * replicas)


def scale(cluster: Cluster, namespace: str, sizes: dict[str, int], factor: float) -> dict[str, int]:
    """Scale everything, and return the new sizes."""
    new = {key: max(1, round(factor * size)) for key, size in sizes.items()}
    for key, replicas in new.items():
        kind, name = key.split("/")
        cluster.scale(kind.lower(), name, namespace, replicas)
    cluster.wait_until_settled(namespace)
    wait_for(lambda: cluster.pod_counts(namespace).items() >= new.items())
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


def lose_node(cluster: Cluster, namespace: str, name: str) -> None:
    """Lose a node with its pods; it comes back when new pods run elsewhere."""
    node = cluster.get("node", name)
    lost = [pod for pod, where in cluster.pod_nodes(namespace).items() if where == name]
    cluster.lab.kubectl("delete", "node", name, "--wait=false")
    where = f"--namespace={namespace}"
    # The controller that ends the pods of lost nodes may be faster.
    flags = ("--force", "--grace-period=0", "--ignore-not-found")
    cluster.lab.kubectl("delete", "pods", *lost, where, *flags)
    cluster.wait_until_settled(namespace)
    for key in ("managedFields", "uid", "resourceVersion", "creationTimestamp"):
        node["metadata"].pop(key, None)
    cluster.apply(node)
    cluster.lab.kubectl("wait", "node", name, "--for=condition=Ready", "--timeout=60s")


def check_way_down(
    cluster: Cluster, namespace: str, sizes: dict[str, int], wanted: dict[str, int], where: str
) -> None:
    """Scale to 75 %, 50 % and 25 %: no Deployment is a pod off, but for pods that a side did not have."""
    there = cluster.graviton_counts(namespace)
    for factor in (0.75, 0.5, 0.25):
        now = scale(cluster, namespace, sizes, factor)
        counts = cluster.graviton_counts(namespace)
        off = {
            key: round(counts[key] - wanted[f"{namespace}/{key}"] * now[key] / size, 2)
            for key, size in sizes.items()
        }
        print(f"{where}, scaled to {factor}: {off}")
        for key, over in off.items():
            # A StatefulSet ends its highest ordinal first.
            most = 1 if key.startswith("Deployment/") else 2
            assert over < most or now[key] - counts[key] == sizes[key] - there[key], (key, over)
            assert over > -most or counts[key] == there[key], (key, over)
    scale(cluster, namespace, sizes, 1)


def at(cluster: Cluster, stack: Stack, namespace: str, placement: str, ratio: str) -> None:
    """Make a fleet of x86 nodes alone, then take it to a ratio."""
    groups = node_groups(3, 3)
    settings = {"workloads": {"namespaces": [namespace]}, "placement": placement, "node_groups": groups}
    went_well(stack.config({**settings, "arm_ratio": "0.0"}).up())
    assert costs(cluster, namespace) == 0, "on one side every order is right"
    went_well(stack.config({"arm_ratio": ratio}).up())


def check_costs(cluster: Cluster, namespace: str, wanted: dict[str, int], sizes: dict[str, int]) -> None:
    """Each pod of a Deployment on both sides has a cost."""
    split = {
        key.partition("/")[2]: size
        for key, size in sizes.items()
        if key.startswith("Deployment/") and 0 < wanted[f"{namespace}/{key}"] < size
    }
    assert costs(cluster, namespace, *split) == sum(split.values())


@pytest.mark.timeout(2400)
def test_shares_hold_on_the_way_down_and_a_rebalance_restarts_exactly_the_surplus(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """At 0.8 and 0.2 with placement at admission: on the way down and back, and after a third of the nodes of
    the larger side was lost and came back. While an update runs, nothing moves. Destroy leaves no cost.
    """
    items = [deployment(f"web-{size}", size, namespace) for size in SIZES]
    items.append(stateful_set("db", 12, namespace))
    sizes = {f"{item['kind']}/{item['metadata']['name']}": item["spec"]["replicas"] for item in items}
    cluster.apply(items)
    cluster.apply(scaler(key, size, namespace) for key, size in sizes.items())
    at(cluster, stack, namespace, "admission", "0.8")
    for ratio in (0.8, 0.2):
        went_well(stack.config({"arm_ratio": str(ratio)}).up())
        wanted = expect_exact(cluster, stack, namespace, ratio)
        assert went_well(stack.up()).changes == {}, "costs that are right are not written again"
        check_costs(cluster, namespace, wanted, sizes)
        check_way_down(cluster, namespace, sizes, wanted, f"admission at {ratio}")
        print(f"admission at {ratio}, back at its size: {rebalance(stack, code=0)}")
        expect_exact(cluster, stack, namespace, ratio)
        # The two nodes that are left have no room for all pods of the side.
        lose_node(cluster, namespace, "graviton-0" if ratio > 0.5 else "x86-0")
        surplus, again = repair(cluster, stack, namespace, ratio)
        print(f"admission at {ratio}, a third of the nodes lost: surplus {surplus}, restarts {again}")
        assert (surplus > 0, again) == (True, surplus)
        assert went_well(stack.up()).changes == {}
    running = stack.config({"arm_ratio": "0.5"}).begin_up()
    refused = wait_for(lambda: _refused(stack, running.poll()))
    running.communicate(timeout=300)
    assert f"archshift: an update of the stack {stack.name} is under way" in refused
    went_well(stack.up())
    assert costs(cluster, namespace) > 0
    went_well(stack.destroy())
    assert costs(cluster, namespace) == 0


@pytest.mark.timeout(1200)
def test_patches_hold_shares_on_the_way_down_and_are_repaired_by_the_surplus(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """At 0.8: autoscaled workloads on the way down, and all after a third of the nodes was lost.

    The hard rule keeps the others exact. A soft rule places autoscaled pods, so they end near their share.
    """
    scaled = {f"Deployment/web-{size}": size for size in (5, 10, 20)}
    steady = {f"Deployment/web-{size}": size for size in (4, 6, 8, 13, 33)}
    cluster.apply(deployment(f"web-{size}", size, namespace) for size in SIZES)
    cluster.apply(scaler(key, size, namespace) for key, size in scaled.items())
    at(cluster, stack, namespace, "patches", "0.8")
    wanted = wanted_now(stack)
    check_costs(
        cluster, namespace, {key: wanted[key] for key in wanted if key.partition("/")[2] in scaled}, scaled
    )
    assert costs(cluster, namespace) == sum(scaled.values())
    check_way_down(cluster, namespace, scaled, wanted, "patches at 0.8")
    lose_node(cluster, namespace, "graviton-0")
    before = read_pods(cluster.lab)
    dry = {row["workload"]: row for row in rebalance(stack, "--dry-run", code=3)["workloads"]}
    assert read_pods(cluster.lab) == before
    done = stack.archshift("rebalance", "--json")
    assert done.returncode in (0, 3), done.stdout + done.stderr
    after = read_pods(cluster.lab)
    counts = cluster.graviton_counts(namespace)
    moved = {key: row["surplus"] for key, row in dry.items()}
    again = {key: restarted({"workload": key, "wanted": wanted[key]}, before, after) for key in wanted}
    print(f"patches at 0.8, a third of the nodes lost: surplus {moved}, restarts {again}, now {counts}")
    assert sum(moved.values()) > 0
    for key in steady:
        whole = f"{namespace}/{key}"
        assert (counts[key], again[whole], moved.get(whole, 0)) == (wanted[whole], 0, 0)
    for key, size in scaled.items():
        assert abs(counts[key] - wanted[f"{namespace}/{key}"]) <= max(1, size / 10), key
    went_well(stack.destroy())
    assert costs(cluster, namespace) == 0


def wanted_now(stack: Stack) -> dict[str, int]:
    """How many pods of each workload belong on Graviton."""
    status = stack.archshift("status", "--json")
    assert status.returncode in (0, 3), status.stdout + status.stderr
    return {row["workload"]: row["wanted"] for row in json.loads(status.stdout)["workloads"]}


def _refused(stack: Stack, ended: int | None) -> str:
    """The words with which the command refuses, while the update goes on."""
    assert ended is None, "the update was over before the command ran"
    done = stack.archshift("rebalance", "--dry-run")
    return done.stderr if done.returncode == 1 else ""


def live_entries(cluster: Cluster, stack: Stack, namespace: str) -> dict[str, str]:
    """The entries of the stack's policy for the namespace."""
    return entries_in(cluster.get("mutatingadmissionpolicy", policy_name(stack.name, namespace)))


def kill_a_rebalance(cluster: Cluster, stack: Stack, namespace: str, own: dict[str, str]) -> None:
    """Kill the command as soon as it has replaced the entries; check that it could not set them back."""
    command = stack.begin_archshift("rebalance")
    wait_for(lambda: live_entries(cluster, stack, namespace) != own)
    assert command.poll() is None, "it ended before it was killed"
    kill_with_children(command.pid)
    command.communicate(timeout=60)
    assert live_entries(cluster, stack, namespace) != own


def drift(stack: Stack) -> list[str]:
    """What a preview shows that no autoscaler caused. The lab's stack does not keep the rules of the pack."""
    done = stack.archshift("preview", "--json", "--no-policy-pack", timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = json.loads(done.stdout)
    changes = tuple(Change(**{**change, "keys": tuple(change["keys"])}) for change in shown["changes"])
    found = drift_in(PreviewReport(**{**shown, "changes": changes}))
    print(f"{[(one.op, one.type, one.name) for one in changes]}; drift: {found}")
    return found


@pytest.mark.timeout(1200)
def test_what_a_killed_rebalance_left_is_set_back_and_autoscalers_are_no_drift(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """By the next rebalance, and by the next update. What people changed is drift, also beside autoscalers.
    When the last autoscaler goes, one update removes all costs and their resource.
    """
    sizes = {f"Deployment/web-{size}": size for size in (6, 10, 20)}
    cluster.apply(deployment(key.partition("/")[2], size, namespace) for key, size in sizes.items())
    cluster.apply(scaler(key, size, namespace) for key, size in sizes.items())
    at(cluster, stack, namespace, "admission", "0.8")
    assert drift(stack) == []
    scale(cluster, namespace, sizes, 2)
    own = live_entries(cluster, stack, namespace)
    assert stack.preview().changes != {}, "pods without costs, and entries of another number of pods"
    assert drift(stack) == []
    lose_node(cluster, namespace, "graviton-0")
    assert drift(stack), "a lost node is no autoscaler"
    kill_a_rebalance(cluster, stack, namespace, own)
    done = stack.archshift("rebalance", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "its entry of a rebalance that was killed was set back" in done.stderr
    assert live_entries(cluster, stack, namespace) == own
    lose_node(cluster, namespace, "graviton-1")
    kill_a_rebalance(cluster, stack, namespace, own)
    went_well(stack.up())
    left = live_entries(cluster, stack, namespace)
    assert all(" within " in left[key.replace("/", ".")] for key in sizes)
    expect_exact(cluster, stack, namespace, 0.8)
    policy = cluster.get("mutatingadmissionpolicy", policy_name(stack.name, namespace))
    name = policy["metadata"]["name"]
    cluster.lab.kubectl(
        *("patch", "mutatingadmissionpolicy", name, "--type=merge"),
        f"--patch={json.dumps({'spec': {'failurePolicy': 'Fail'}})}",
    )
    assert f"namespace {namespace}: its policy is not as archshift made it" in drift(stack)
    went_well(stack.up())
    assert drift(stack) == []
    assert costs(cluster, namespace) > 0
    cluster.lab.kubectl("delete", "hpa", "--all", f"--namespace={namespace}")
    last = went_well(stack.up())
    assert costs(cluster, namespace) == 0
    assert last.changes.get("delete") == 1
    assert went_well(stack.up()).changes == {}
