"""Workloads of every movable sort, and whether they are where the ratio says."""

import json
from collections.abc import Mapping
from typing import Any

from tests.lab.lab_helpers import Cluster, Manifest, Stack, daemon_set, deployment, stateful_set

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
                # archshift's count each revision by itself; these applications' do not.
                if "matchLabelKeys" not in constraint
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


def generations_of(cluster: Cluster, namespace: str) -> dict[str, int]:
    """The generation of every Deployment and StatefulSet: it grows with each change of the spec."""
    items = cluster.all_of("deployments,statefulsets", namespace)
    return {f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["generation"] for item in items}
