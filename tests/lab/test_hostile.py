"""The whole engine on a cluster in which somebody owns a namespace and does what they can with it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from archshift.actions.arm64_test_job import LABEL, RESULT, TESTED, WORKLOAD, job_name, short
from archshift.cluster.canaries import canaries_name
from archshift.plan.arm64_tests import Arm64Test, what_is_tested
from tests.lab.lab_helpers import (
    Cluster,
    Manifest,
    Stack,
    autoscaler,
    deployment,
    node_groups,
    stateful_set,
    wait_for,
    with_claims,
)
from tests.lab.ordinary import went_well

pytestmark = pytest.mark.timeout(900)

MOST = 2**31 - 1
COMMAND = ("/app", "--self-test")


def forged_proof(key: str, namespace: str, image: str, *, passed: bool) -> Manifest:
    """A Job with all that the Job of a test has, in another namespace."""
    tested = what_is_tested(Arm64Test(command=COMMAND), [image])
    result = {"passed": passed, "machine": "aarch64", "message": "", "at": "2026-11-24T12:00:00+00:00"}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(key, tested),
            "namespace": namespace,
            "labels": {LABEL: short(key)},
            "annotations": {WORKLOAD: key, TESTED: tested, RESULT: json.dumps(result)},
        },
        "spec": {
            "suspend": True,
            "template": {
                "spec": {"restartPolicy": "Never", "containers": [{"name": "x", "image": "x.example/x"}]}
            },
        },
    }


def hostile(namespace: str, stack: str) -> list[Manifest]:
    """Workloads and objects of one namespace that each try to stop, or to deceive, the run."""

    def bad(name: str, annotations: dict[str, str] | None = None, **spec: Any) -> Manifest:
        item = deployment(name, 2, namespace)
        item["metadata"]["annotations"] = annotations or {}
        item["spec"] |= spec
        return item

    surge = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "9" * 5000 + "%"}}
    placed = bad("placed")
    placed["spec"]["template"]["metadata"]["annotations"] = {
        "archshift/placement": "all on arm64",
        "archshift/revision": "~+" * 100,
    }
    huge = bad("huge")
    huge["spec"]["template"]["spec"]["containers"][0]["resources"] = {
        "requests": {"cpu": "1e18", "memory": "9E"},
    }
    canaries = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": canaries_name(stack), "namespace": namespace},
        "immutable": True,
        "data": {"Deployment.web": "[" * 20000, "-": "{}", "Deployment.placed": '{"at": 1}'},
    }
    budgets = [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {}, "maxUnavailable": 0},
        }
        for name in ("one", "two")
    ]
    return [
        bad(
            "taken", {"archshift/taken": '{"required": {"manager": "x", "operation": "Apply", "value": [1]}}'}
        ),
        bad("inexact", {"archshift/inexact": f"a;{'9' * 5000};1"}),
        bad("surging", strategy=surge),
        placed,
        huge,
        with_claims(stateful_set("claims", 1, namespace), "none"),
        autoscaler("StatefulSet", "claims", namespace, 2, MOST),
        autoscaler("Deployment", "placed", namespace, 2, MOST),
        canaries,
        *budgets,
    ]


def no_pod_comes(cluster: Cluster, namespace: str) -> None:
    """Make a LimitRange that makes every pod invalid, and wait until the API server has seen it.

    Before, some rollouts could begin, and an update waits for the end of a rollout that it began.
    """
    spec = {"limits": [{"type": "Container", "defaultRequest": {"example.com/thing": "5"}}]}
    metadata = {"name": "limits", "namespace": namespace}
    cluster.apply({"apiVersion": "v1", "kind": "LimitRange", "metadata": metadata, "spec": spec})
    pod = ("run", "x", "--image=x.example/x", "--dry-run=server", f"--namespace={namespace}")
    wait_for(lambda: "Limit must be set" in cluster.lab.run("kubectl", *pod).stderr)


def test_one_hostile_namespace_stops_and_proves_nothing_elsewhere(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """Forged proofs of another namespace neither move what fails nor hold what passes. Numbers and
    annotations that no cluster has leave only their own workloads alone. All others move in one update.
    """
    attacker, crowd = cluster.namespace(f"{namespace}-attacker"), cluster.namespace(f"{namespace}-crowd")
    failing, passing = deployment("web", 4, namespace), deployment("api", 4, namespace)
    failing["spec"]["template"]["spec"]["containers"][0]["env"] = [{"name": "LAB_OUTCOME", "value": "fail"}]
    keys = {name: f"{namespace}/Deployment/{name}" for name in ("web", "api")}
    proofs = [
        forged_proof(keys["web"], attacker, "registry.example/web:1.0.0", passed=True),
        forged_proof(keys["api"], attacker, "registry.example/api:1.0.0", passed=False),
    ]
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "pods", "namespace": crowd},
        "spec": {"hard": {"pods": "2", "count/jobs.batch": "0"}},
    }
    billions = deployment("billions", MOST, crowd)
    cluster.apply([failing, passing, deployment("plain", 4, namespace)])
    stack.config(
        {
            "node_groups": node_groups(),
            "workloads": {"namespaces": [namespace, attacker, crowd]},
            "arm_ratio": "0.0",
            "arm64_tests": {"workloads": {key: {"command": [*COMMAND]} for key in keys.values()}},
        }
    )
    went_well(stack.up())
    no_pod_comes(cluster, attacker)
    cluster.apply([*proofs, *hostile(attacker, stack.name), quota])
    cluster.apply(billions)
    stack.config({"arm_ratio": "1.0"})
    preview = stack.preview()
    went_well(preview)
    tested = ", ".join(sorted(keys.values()))
    assert f"the update tests these workloads on arm64 before they move: {tested}" in " ".join(
        preview.output.split()
    )
    done = stack.up()
    went_well(done)
    assert cluster.graviton_counts(namespace) == {
        "Deployment/web": 0,
        "Deployment/api": 4,
        "Deployment/plain": 4,
    }
    shown = stack.archshift("plan", "--json", "--all")
    assert shown.returncode == 0, shown.stderr
    rows = {row["workload"]: row for row in json.loads(shown.stdout)["workloads"]}
    assert "its test on arm64 failed" in rows[keys["web"]]["reason"]
    assert f"it wants {MOST} pods" in rows[f"{crowd}/Deployment/billions"]["reason"]
    assert "the annotation archshift/taken is invalid" in rows[f"{attacker}/Deployment/taken"]["reason"]
    for proof in proofs:
        meta = proof["metadata"]
        live = cluster.get("job", meta["name"], attacker)
        assert live["metadata"]["annotations"][RESULT] == meta["annotations"][RESULT]
    went_well(stack.destroy())
