"""Tests on arm64 in the lab: real Jobs on the real scheduler; what their containers do is simulated.

A container's LAB_OUTCOME asks for a failure or for staying up (lab/stages.yaml).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.lab.lab_helpers import Cluster, Manifest, Stack, deployment, node_groups

pytestmark = pytest.mark.timeout(900)


def behaving(manifest: Manifest, outcome: str) -> Manifest:
    """A workload whose test fails, or stays up."""
    container = manifest["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "LAB_OUTCOME", "value": outcome}]
    return manifest


def jobs(cluster: Cluster, namespace: str) -> dict[str, dict[str, Any]]:
    """The tests' Jobs, by workload."""
    found = cluster.all_of("jobs", namespace)
    return {job["metadata"]["annotations"]["archshift/workload"]: job for job in found}


def status(stack: Stack) -> dict[str, dict[str, Any]]:
    """What `archshift status` says, by workload."""
    said = stack.archshift("status", "--json")
    assert said.returncode in (0, 3), said.stderr
    return {row["workload"].split("/")[2]: row for row in json.loads(said.stdout)["workloads"]}


def test_what_fails_or_hangs_stays_on_x86_and_the_rest_moves(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """In one update a pass by command and one by a start probe move; a failure and a hang are held with their
    last words. The preview runs nothing and says what will be tested; a second update tests nothing again; a
    new image is tested anew, and moves once it passes.
    """
    key = f"{namespace}/Deployment/"
    cluster.apply(
        [
            deployment("good", 4, namespace),
            behaving(deployment("starts", 4, namespace), "stay"),
            behaving(deployment("broken", 4, namespace), "fail"),
            behaving(deployment("hangs", 4, namespace), "stay"),
        ]
    )
    stack.config(
        {
            "node_groups": node_groups(),
            "workloads": {"namespaces": [namespace]},
            "arm_ratio": "1.0",
            "arm64_tests": {
                "workloads": {
                    f"{key}good": {"command": "python -c 'import fast'"},
                    f"{key}starts": {"start_seconds": 2},
                    f"{key}broken": {"command": ["/app", "--self-test"]},
                    f"{key}hangs": {"command": "sleep 100000", "timeout_seconds": 6},
                }
            },
        }
    )
    preview = stack.preview()
    assert preview.succeeded, preview.output
    tested = ", ".join(f"{key}{name}" for name in ("broken", "good", "hangs", "starts"))
    assert f"the update tests these workloads on arm64 before they move: {tested}" in " ".join(
        preview.output.split()
    )
    assert jobs(cluster, namespace) == {}
    # The nodes are made by the same update; a test needs one that is there, so nothing moves yet.
    first = stack.up()
    assert first.succeeded, first.output
    assert jobs(cluster, namespace) == {}
    assert {row["graviton"] for row in status(stack).values()} == {0}
    done = stack.up()
    assert done.succeeded, done.output
    rows = status(stack)
    assert {name: row["graviton"] for name, row in rows.items()} == {
        "good": 4,
        "starts": 4,
        "broken": 0,
        "hangs": 0,
    }
    assert "loading libfast.so / Illegal instruction (core dumped)" in rows["broken"]["reason"]
    assert "the test did not end within 6 s" in rows["hangs"]["reason"]
    made = jobs(cluster, namespace)
    assert set(made) == {f"{key}{name}" for name in rows}
    nodes = {node["metadata"]["name"]: node for node in cluster.all_of("nodes")}
    for job in made.values():
        result = json.loads(job["metadata"]["annotations"]["archshift/result"])
        assert result["machine"] == "arm64"
        assert job["spec"]["suspend"] is True
    for pod in cluster.all_of("pods", namespace):
        if "archshift/arm64-test" in pod["metadata"]["labels"]:
            node = nodes[pod["spec"]["nodeName"]]
            assert node["metadata"]["labels"]["kubernetes.io/arch"] == "arm64"
            assert "app.kubernetes.io/name" not in pod["metadata"]["labels"]
    again = stack.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    uids = {name: job["metadata"]["uid"] for name, job in made.items()}
    assert {name: job["metadata"]["uid"] for name, job in jobs(cluster, namespace).items()} == uids
    mended = deployment("broken", 4, namespace)
    mended["spec"]["template"]["spec"]["containers"][0]["image"] = "registry.example/broken:1.0.1"
    cluster.apply(mended)
    cluster.wait_until_settled(namespace)
    moved = stack.up()
    assert moved.succeeded, moved.output
    assert status(stack)["broken"]["graviton"] == 4
    (job,) = [job for name, job in jobs(cluster, namespace).items() if name == f"{key}broken"]
    assert job["metadata"]["uid"] != uids[f"{key}broken"]


def test_a_step_is_as_large_as_it_was_shown_though_only_what_it_moves_is_tested(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """What no pod of is to move counts into the fleet without a test. In the place of what fails others go,
    in the same update, and are tested before; the next update has nothing left to do.
    """
    names = ("broken", "cart", "search", "web")
    made = [deployment(name, 4, namespace) for name in names]
    cluster.apply([behaving(made[0], "fail"), *made[1:]])
    keys = {name: f"{namespace}/Deployment/{name}" for name in names}
    waves = {key: {"wave": "early" if name == "broken" else "late"} for name, key in keys.items()}
    stack.config(
        {
            "node_groups": node_groups(),
            # The first to move is the one that fails.
            "workloads": {"namespaces": [namespace], "overrides": waves},
            "arm_ratio": "0.0",
            "arm64_tests": {"workloads": {key: {"command": ["/app", "--check"]} for key in keys.values()}},
        }
    )
    nodes = stack.up()
    assert nodes.succeeded, nodes.output
    assert jobs(cluster, namespace) == {}
    cluster.wait_until_settled(namespace)
    step = stack.config({"arm_ratio": "0.13"}).up()
    assert step.succeeded, step.output
    rows = status(stack)
    graviton = {name: row["graviton"] for name, row in rows.items()}
    assert graviton.pop("broken") == 0
    assert sorted(graviton.values()) == [0, 1, 1], "two of the twelve that can move"
    assert {name: row["graviton"] for name, row in rows.items()} == {
        name: row["wanted"] for name, row in rows.items()
    }
    tested = {keys["broken"], *(keys[name] for name, pods in graviton.items() if pods)}
    assert set(jobs(cluster, namespace)) == tested
    again = stack.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output


def test_a_quota_or_pod_security_is_named_and_never_broken(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """Where the namespace allows no pod for a test, the update says so in the API server's own words, the
    workload stays, and the next update tries again; under the restricted standard a workload that fits it
    is tested as it is.
    """
    secure = {"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}}
    own = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    fits = deployment("fits", 2, namespace, securityContext=secure)
    fits["spec"]["template"]["spec"]["containers"][0]["securityContext"] = own
    enforce = "pod-security.kubernetes.io/enforce=restricted"
    cluster.lab.kubectl("label", "namespace", namespace, enforce)
    cluster.apply(fits)
    key = f"{namespace}/Deployment/fits"
    stack.config(
        {
            "node_groups": node_groups(2, 2),
            "workloads": {"namespaces": [namespace]},
            "arm_ratio": "0.0",
            "arm64_tests": {"workloads": {key: {"command": ["/app", "--self-test"]}}},
        }
    )
    assert stack.up().succeeded
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "full", "namespace": namespace},
        "spec": {"hard": {"pods": "2"}},
    }
    cluster.apply(quota)
    refused = stack.config({"arm_ratio": "1.0"}).up()
    assert refused.succeeded, refused.output
    said = " ".join(refused.output.split())
    assert f"{key}: not tested: its Job got no pod" in said, refused.output
    assert "exceeded quota: full" in said
    assert status(stack)["fits"]["graviton"] == 0
    cluster.lab.kubectl("delete", "resourcequota", "full", f"--namespace={namespace}")
    done = stack.up()
    assert done.succeeded, done.output
    assert status(stack)["fits"]["graviton"] == 2
