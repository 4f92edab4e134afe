"""Pods stay spread as without archshift, and a workload's own rules decide what the plan wants of it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from tests.lab.lab_helpers import Cluster, Manifest, Stack, deployment


def ballast(name: str, namespace: str, *nodes: str) -> Manifest:
    """A pod that fills three quarters of each of these nodes."""
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [*nodes]}
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    apart = {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
    }
    item = deployment(
        name,
        len(nodes),
        namespace,
        affinity={
            "nodeAffinity": {required: {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            "podAntiAffinity": {required: [apart]},
        },
    )
    item["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {
        "cpu": "3",
        "memory": "10Gi",
    }
    return item


def rows(stack: Stack) -> Mapping[str, Any]:
    """The rows of ``archshift plan``, by workload name."""
    answer = stack.archshift("plan", "--json")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return {row["workload"].rpartition("/")[2]: row for row in json.loads(answer.stdout)["workloads"]}


def nodes_of(cluster: Cluster, namespace: str, name: str) -> Mapping[str, set[str]]:
    """Architecture to the nodes with pods of a Deployment."""
    used = {*cluster.pod_nodes(namespace, f"{name}-").values()}
    return {arch: {node for node in used if node.startswith(arch)} for arch in ("amd64", "arm64")}


@pytest.mark.parametrize(("arm_ratio", "graviton"), [("0.5", 3), ("0.34", 2)])
def test_a_side_has_its_pods_on_two_nodes_as_without_archshift(
    cluster: Cluster, stack: Stack, namespace: str, arm_ratio: str, graviton: int
) -> None:
    """Nearly full nodes get pods only from the scheduler's default spreads. A workload with a spread of its
    own gets none beside it, and destroy leaves no trace.
    """
    cluster.nodes("amd64", 3)
    cluster.nodes("arm64", 2)
    names = ("control", "full-x86", "full-graviton", "own")
    excluded = [f"{namespace}/Deployment/{name}" for name in names[:3]]
    own = {
        "topologyKey": "topology.kubernetes.io/zone",
        "whenUnsatisfiable": "ScheduleAnyway",
        "maxSkew": 2,
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "own"}},
    }
    stack.config({"workloads": {"namespaces": [namespace], "exclude": excluded}, "arm_ratio": arm_ratio})
    cluster.apply(
        [
            ballast("full-x86", namespace, "amd64-1", "amd64-2"),
            ballast("full-graviton", namespace, "arm64-1"),
        ]
    )
    cluster.wait_until_settled(namespace)
    cluster.apply(
        [
            deployment("api", 6, namespace),
            deployment("control", 6, namespace),
            deployment("own", 6, namespace, topologySpreadConstraints=[own]),
        ]
    )
    cluster.wait_until_settled(namespace)
    before = cluster.get("deployment", "api", namespace)["spec"]
    step = stack.up()
    assert step.succeeded, step.output
    assert cluster.graviton_counts(namespace)["Deployment/api"] == graviton
    assert [len(nodes) >= 2 for nodes in nodes_of(cluster, namespace, "api").values()] == [True, True]
    assert len(set().union(*nodes_of(cluster, namespace, "control").values())) >= 4
    live = cluster.get("deployment", "own", namespace)["spec"]["template"]["spec"]
    assert [one["topologyKey"] for one in live["topologySpreadConstraints"]] == [
        own["topologyKey"],
        "kubernetes.io/arch",
    ]
    again = stack.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    gone = stack.destroy()
    assert gone.succeeded, gone.output
    assert cluster.get("deployment", "api", namespace)["spec"] == before
