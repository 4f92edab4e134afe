"""Placement at admission on bad days: updates that die, and owners who do things in the middle of a step."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from lab.restarts import Pods, had_to_move, read_pods, restarted
from lab.stack import kill_with_children
from tests.lab.exact import expect_exact
from tests.lab.lab_helpers import Cluster, Manifest, Stack, deployment, node_groups, stateful_set, wait_for
from tests.lab.ordinary import planned_rows, went_well

SIZES = (4, 5, 7, 9, 12, 16)


def fleet(namespace: str) -> list[Manifest]:
    items = [deployment(f"web-{size}", size, namespace) for size in SIZES]
    return [*items, stateful_set("db", 6, namespace)]


@pytest.fixture
def steered(stack: Stack, namespace: str) -> Iterator[Stack]:
    """A stack that places at admission; it has made its x86 nodes, and nothing runs there yet."""
    groups = node_groups()
    settings = {"images": {"check": False}, "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.0"}
    went_well(stack.config({**settings, "node_groups": {"x86": groups["x86"]}}).up())
    yield stack.config({**settings, "node_groups": groups, "placement": "admission"})
    stack.destroy()


def killed(stack: Stack, when: Callable[[], Any]) -> None:
    """`pulumi up`, killed with all it started as soon as something is so; the lock is released."""
    run = stack.begin_up()
    try:
        deadline = time.monotonic() + 120
        while not when():
            assert run.poll() is None, f"the update ended before: {run.communicate()[0]}"
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        kill_with_children(run.pid)
        run.communicate()
    stack.cancel()


def steps(cluster: Cluster) -> list[str]:
    text = "{.items[*].metadata.annotations['archshift/step']}"
    return cluster.lab.kubectl("get", "mutatingadmissionpolicies", f"--output=jsonpath={text}").split()


def begins_a_policy(stack: Stack) -> bool:
    """Whether the engine has begun to change a policy in its last run."""
    log = max(stack.folder.glob("*.events.jsonl"), key=lambda path: path.stat().st_mtime)
    return any(
        "resourcePreEvent" in line and "MutatingAdmissionPolicy::" in line and '"op":"update"' in line
        for line in log.read_text().splitlines()
    )


def have_changed(cluster: Cluster, known: list[str]) -> bool:
    """Whether a policy was made or changed after that."""
    return steps(cluster) != known


def move(cluster: Cluster, namespace: str, before: int) -> bool:
    """Whether some pods have moved."""
    return abs(sum(cluster.graviton_counts(namespace).values()) - before) >= 4


def moved_and_restarted(stack: Stack, before: Pods, after: Pods) -> tuple[int, int]:
    rows = [{"workload": row["workload"], "wanted": row["wanted"]} for row in planned_rows(stack).values()]
    return sum(had_to_move(row, before) for row in rows), sum(restarted(row, before, after) for row in rows)


def test_an_update_killed_anywhere_is_gone_on_with(cluster: Cluster, steered: Stack, namespace: str) -> None:
    """Each next update is exact, and only the pods restart that had to move."""
    cluster.apply(fleet(namespace))
    cluster.wait_until_settled(namespace)
    for ratio, phase in (("0.3", "changed"), ("0.6", "begins"), ("0.9", "changed"), ("0.4", "moving")):
        before, known = read_pods(cluster.lab), steps(cluster)
        phases: dict[str, Callable[[], Any]] = {
            "begins": partial(begins_a_policy, steered),
            "changed": partial(have_changed, cluster, known),
            "moving": partial(move, cluster, namespace, sum(cluster.graviton_counts(namespace).values())),
        }
        killed(steered.config({"arm_ratio": ratio}), phases[phase])
        went_well(steered.up())
        expect_exact(cluster, steered, namespace, float(ratio))
        moved, again = moved_and_restarted(steered, before, read_pods(cluster.lab))
        assert 0 < moved == again, phase
        assert went_well(steered.up()).changes == {}, phase


@pytest.mark.parametrize("placement", ["patches", "admission"])
def test_a_target_after_new_nodes_keeps_the_state_readable(
    cluster: Cluster, stack: Stack, namespace: str, placement: str
) -> None:
    """The engine writes what is not a target as it was, and a dependency on later nodes breaks its state."""
    cluster.apply(fleet(namespace))
    groups = node_groups()
    settings = {"workloads": {"namespaces": [namespace]}, "placement": placement, "arm_ratio": "0.0"}
    went_well(stack.config({**settings, "node_groups": {"x86": groups["x86"]}}).up())
    cluster.wait_until_settled(namespace)
    went_well(stack.config({"node_groups": groups, "arm_ratio": "0.3"}).up())
    before = read_pods(cluster.lab)
    went_well(stack.config({"arm_ratio": "0.6"}).up("--target=**NodeGroups**"))
    assert read_pods(cluster.lab) == before
    went_well(stack.up())
    expect_exact(cluster, stack, namespace, 0.6)
    stack.destroy()


def test_an_api_server_that_dies_in_the_middle_costs_no_pod(
    cluster: Cluster, steered: Stack, namespace: str
) -> None:
    """It comes back with the policies; this update or the next one ends exact, and few pods move twice."""
    cluster.apply(fleet(namespace))
    cluster.wait_until_settled(namespace)
    went_well(steered.config({"arm_ratio": "0.2"}).up())
    before = read_pods(cluster.lab)
    there = sum(cluster.graviton_counts(namespace).values())
    step = steered.config({"arm_ratio": "0.8"}).begin_up()
    wait_for(partial(move, cluster, namespace, there))
    assert step.poll() is None, "the update ended before"
    cluster.lab.kill("kube-apiserver")
    time.sleep(2)
    cluster.lab.start()
    output, _ = step.communicate(timeout=300)
    print(step.returncode, output)
    went_well(steered.up())
    expect_exact(cluster, steered, namespace, 0.8)
    moved, again = moved_and_restarted(steered, before, read_pods(cluster.lab))
    assert moved <= again <= 1.1 * moved + 1
