"""The main promise: every workload and the fleet are exactly where the ratio says, up and down."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.lab.lab_helpers import (
    Cluster,
    Manifest,
    Stack,
    daemon_set,
    deployment,
    node_groups,
    stateful_set,
)

RAMP = (0.2, 0.5, 0.8, 1.0, 0.5)


def zone_spread(name: str) -> list[Manifest]:
    """A hard zone spread as an application sets it for itself."""
    return [
        {
            "maxSkew": 1,
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "DoNotSchedule",
            "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
        }
    ]


def in_zones(*zones: str) -> Manifest:
    """A required node affinity as an application sets it for itself."""
    expression = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": list(zones)}
    terms = [{"matchExpressions": [expression]}]
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}


def apart(name: str) -> Manifest:
    """A soft anti-affinity by node, as many Helm charts have it."""
    term = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
    }
    preferred = [{"weight": 100, "podAffinityTerm": term}]
    return {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": preferred}}


def fleet(namespace: str) -> list[Manifest]:
    """Workloads of every movable sort: 14 of them, 78 pods."""
    soft_spread = [{**zone_spread("soft")[0], "whenUnsatisfiable": "ScheduleAnyway"}]
    return [
        *(deployment(f"web-{replicas}", replicas, namespace) for replicas in (1, 2, 3, 4, 5, 7, 10)),
        deployment("one", 1, namespace),
        deployment("zoned", 9, namespace, topologySpreadConstraints=zone_spread("zoned")),
        deployment("soft", 6, namespace, topologySpreadConstraints=soft_spread),
        deployment("affine", 8, namespace, affinity=in_zones("eu-west-1a", "eu-west-1b")),
        deployment("apart", 10, namespace, affinity=apart("apart")),
        deployment(
            "tolerant",
            6,
            namespace,
            tolerations=[{"key": "spot", "operator": "Exists", "effect": "NoSchedule"}],
        ),
        stateful_set("database", 6, namespace),
        daemon_set("agent", namespace),
    ]


def expect_exact(cluster: Cluster, stack: Stack, namespace: str, arm_ratio: float) -> dict[str, int]:
    """Assert that plan and cluster agree, pod by pod; returns the counts."""
    status = stack.archshift("status", "--json")
    assert status.returncode == 0, status.stdout + status.stderr
    answer = json.loads(status.stdout)
    counts = cluster.graviton_counts(namespace)
    movable = [row for row in answer["workloads"] if row["wanted"] is not None]
    for row in movable:
        # Counted by the tests' own code, not by the inventory that the status reads.
        assert counts[row["workload"].split("/", 1)[1]] == row["wanted"], row
    pods = sum(row["replicas"] for row in movable)
    assert answer["fleet"] == {
        "pods": pods,
        "wanted": round(arm_ratio * pods),
        "graviton": round(arm_ratio * pods),
        "all_pods": sum(row["replicas"] for row in answer["workloads"]),
    }
    return {row["workload"]: row["wanted"] for row in movable}


def own_rules(cluster: Cluster, namespace: str) -> Mapping[str, Any]:
    """The applications' own scheduling rules as they are live, archshift's left out."""
    rules = {}
    for item in cluster.all_of("deployments,statefulsets", namespace):
        spec = item["spec"]["template"]["spec"]
        affinity = spec.get("affinity", {})
        rules[item["metadata"]["name"]] = {
            "tolerations": [
                toleration
                for toleration in spec.get("tolerations", [])
                if not toleration.get("key", "").startswith("archshift/")
            ],
            "apart": affinity.get("podAntiAffinity"),
            "zones": [
                constraint
                for constraint in spec.get("topologySpreadConstraints", [])
                if constraint["topologyKey"] != "kubernetes.io/arch"
            ],
            "required": [
                expression
                for term in affinity.get("nodeAffinity", {})
                .get("requiredDuringSchedulingIgnoredDuringExecution", {})
                .get("nodeSelectorTerms", [])
                for expression in term["matchExpressions"]
                if expression["key"] != "kubernetes.io/arch"
            ],
            "selector": {
                key: value
                for key, value in spec.get("nodeSelector", {}).items()
                if key != "kubernetes.io/arch"
            },
        }
    return rules


def specs(cluster: Cluster, namespace: str) -> Mapping[str, Any]:
    """The whole spec and the annotations of every workload."""
    return {
        f"{item['kind']}/{item['metadata']['name']}": (
            item["spec"],
            {
                key: value
                for key, value in item["metadata"].get("annotations", {}).items()
                # Counts rollouts; the Deployment controller's own.
                if key
                not in ("deployment.kubernetes.io/revision", "deprecated.daemonset.template.generation")
            },
        )
        for item in cluster.all_of("deployments,statefulsets,daemonsets,cronjobs", namespace)
    }


@pytest.mark.timeout(900)
def test_a_ramp_up_and_down_is_exact_at_every_step_and_leaves_no_trace(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """At 0.2, 0.5, 0.8, 1.0 and back at 0.5 every workload and the fleet are exact; no count falls on the
    way up; unchanged shares are not restarted; the applications' own rules stay; a second up, a preview
    and a refresh find nothing; and destroy leaves every spec as it was.
    """
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}})
    cluster.apply(fleet(namespace))
    before, rules = specs(cluster, namespace), own_rules(cluster, namespace)
    wanted: dict[str, int] = {}
    ratio = 0.0
    for arm_ratio in RAMP:
        generations = _generations(cluster, namespace)
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        # The rollouts were awaited: nothing is left to wait for when `up` returns.
        now = expect_exact(cluster, stack, namespace, arm_ratio)
        if arm_ratio > ratio:
            assert all(now[key] >= count for key, count in wanted.items())
        for key, count in now.items():
            if wanted.get(key) == count:
                name = key.split("/", 1)[1]
                assert _generations(cluster, namespace)[name] == generations[name], f"{key} was restarted"
        assert own_rules(cluster, namespace) == rules
        preview = stack.preview()
        assert (preview.exit_code, preview.changes) == (0, {}), preview.output
        wanted, ratio = now, arm_ratio
    again = stack.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    refresh = stack.refresh()
    assert (refresh.exit_code, refresh.changes) == (0, {}), refresh.output
    gone = stack.destroy()
    assert gone.succeeded, gone.output
    assert specs(cluster, namespace) == before


def _generations(cluster: Cluster, namespace: str) -> dict[str, int]:
    items = cluster.all_of("deployments,statefulsets", namespace)
    return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["generation"] for item in items}


def test_between_the_steps_and_at_both_ends(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """0.37, 0.0 and 1.0 are as exact as the steps, also with a fleet of one pod beside nothing else."""
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}})
    cluster.apply([deployment("alone", 1, namespace)])
    for arm_ratio in (0.37, 0.0, 1.0):
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)
    assert cluster.graviton_counts(namespace) == {"Deployment/alone": 1}
    cluster.apply([deployment(f"web-{replicas}", replicas, namespace) for replicas in (2, 5, 9)])
    for arm_ratio in (0.37, 0.0):
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)
    assert set(cluster.graviton_counts(namespace).values()) == {0}


def test_unevenly_loaded_nodes_do_not_bend_the_ratio(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """With Graviton nodes three quarters full, x86 nodes empty and one cordoned, shares are exact."""
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}})
    cluster.apply([deployment("web", 1, namespace)])
    assert stack.config({"arm_ratio": "0.0"}).up().succeeded
    ballast = deployment(
        "ballast",
        12,
        cluster.namespace(f"{namespace}-ballast"),
        nodeSelector={"kubernetes.io/arch": "arm64"},
    )
    ballast["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {
        "cpu": "1450m",
        "memory": "5Gi",
    }
    cluster.apply(ballast)
    cluster.wait_until_settled(f"{namespace}-ballast")
    cluster.lab.kubectl("cordon", "x86-0")
    cluster.apply([deployment(f"web-{replicas}", replicas, namespace) for replicas in (3, 4, 6, 9, 10)])
    for arm_ratio in (0.2, 0.5, 0.8):
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)


def test_soft_rules_of_an_application_do_not_bend_the_ratio(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """Soft anti-affinity and soft spreads by node, replaced one pod at a time while the old ones still count,
    lose against the side that most pods belong on.
    """
    by_node = {**zone_spread("spread")[0], "topologyKey": "kubernetes.io/hostname"}
    soft = [{**by_node, "whenUnsatisfiable": "ScheduleAnyway"}]
    fleet = [
        deployment("apart", 9, namespace, affinity=apart("apart")),
        deployment("spread", 9, namespace, topologySpreadConstraints=soft),
    ]
    for item in fleet:
        item["spec"]["strategy"] = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1},
        }
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}})
    cluster.apply(fleet)
    for arm_ratio in (0.2, 0.8, 0.2):
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)
    preview = stack.preview()
    assert (preview.exit_code, preview.changes) == (0, {}), preview.output
