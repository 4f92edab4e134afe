"""Pods stay spread as without archshift, and a workload's own rules decide what the plan wants of it."""

import json
from collections.abc import Mapping

import pytest

from tests.build import REQUIRED
from tests.lab.lab_helpers import (
    Cluster,
    Manifest,
    Stack,
    deployment,
    on_the_node_of,
    persistent_volume,
    stateful_set,
    storage_class,
    with_claims,
)
from tests.lab.ordinary import planned_rows


def ballast(name: str, namespace: str, *nodes: str) -> Manifest:
    """A pod that fills three quarters of each of these nodes."""
    expression = {"key": "kubernetes.io/hostname", "operator": "In", "values": [*nodes]}
    item = deployment(
        name,
        len(nodes),
        namespace,
        affinity={
            "nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}},
            "podAntiAffinity": {REQUIRED: [on_the_node_of(name)]},
        },
    )
    item["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {
        "cpu": "3",
        "memory": "10Gi",
    }
    return item


def nodes_of(cluster: Cluster, namespace: str, name: str) -> Mapping[str, set[str]]:
    """Architecture to the nodes with pods of a Deployment."""
    used = {*cluster.pod_nodes(namespace, f"{name}-").values()}
    return {arch: {node for node in used if node.startswith(arch)} for arch in ("amd64", "arm64")}


@pytest.mark.parametrize(("arm_ratio", "graviton"), [("0.5", 3), ("0.67", 4)])
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


@pytest.mark.parametrize(
    ("arm_ratio", "pods", "revision", "graviton"),
    [
        ("0.2", 6, ["pod-template-hash"], (0, 2)),
        ("0.5", 6, ["pod-template-hash"], (2,)),
        ("1.0", 6, ["pod-template-hash"], (6,)),
        # It also counts old pods during a rollout, and the seventh pod has a place in one zone only.
        ("0.7", 7, [], (3,)),
    ],
)
def test_a_zone_spread_with_graviton_in_one_zone(
    cluster: Cluster,
    stack: Stack,
    namespace: str,
    arm_ratio: str,
    pods: int,
    revision: list[str],
    graviton: tuple[int, ...],
) -> None:
    """The plan wants what the workload's own rule permits, says why, and a second update changes nothing."""
    cluster.nodes("amd64", 3)
    cluster.nodes("arm64", 1)
    own = {
        "topologyKey": "topology.kubernetes.io/zone",
        "maxSkew": 1,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": "zonal"}},
        "matchLabelKeys": revision,
    }
    stack.config({"workloads": {"namespaces": [namespace]}, "arm_ratio": arm_ratio})
    cluster.apply(deployment("zonal", pods, namespace, topologySpreadConstraints=[own]))
    cluster.wait_until_settled(namespace)
    row = planned_rows(stack)["zonal"]
    assert row["wanted"] in graviton
    limit = f"its own spread over zones lets at most {2 + pods % 3} of its {pods} pods run on Graviton"
    assert (limit in row["reason"]) == (arm_ratio != "1.0")
    step = stack.up()
    assert step.succeeded, step.output
    assert "not exact" not in step.output
    assert cluster.graviton_counts(namespace) == {"Deployment/zonal": row["wanted"]}
    generation = cluster.get("deployment", "zonal", namespace)["metadata"]["generation"]
    again = stack.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    assert cluster.get("deployment", "zonal", namespace)["metadata"]["generation"] == generation


def test_workloads_that_must_share_a_node_move_together(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """At 0.6 and 1.0, and back at 0.0: web's pods find their company whenever somebody restarts them."""
    cluster.nodes("amd64", 2)
    cluster.nodes("arm64", 2)
    beside = {"podAffinity": {REQUIRED: [on_the_node_of("cache")]}}
    stack.config({"workloads": {"namespaces": [namespace]}})
    cluster.apply([deployment("cache", 1, namespace), deployment("web", 3, namespace, affinity=beside)])
    cluster.wait_until_settled(namespace)
    for arm_ratio, all_there in (("0.6", None), ("1.0", True), ("0.0", False)):
        stack.config({"arm_ratio": arm_ratio})
        planned = {name: row["wanted"] for name, row in planned_rows(stack).items()}
        assert planned in ({"cache": 0, "web": 0}, {"cache": 1, "web": 3})
        assert all_there is None or bool(planned["web"]) == all_there
        step = stack.up()
        assert step.succeeded, step.output
        counts = cluster.graviton_counts(namespace)
        assert counts == {f"Deployment/{name}": count for name, count in planned.items()}
        cluster.lab.kubectl("delete", "pods", "--all", f"--namespace={namespace}", "--wait=false")
        cluster.wait_until_settled(namespace)
        assert cluster.graviton_counts(namespace) == counts
        again = stack.up()
        assert (again.exit_code, again.changes) == (0, {}), again.output


def test_whoever_needs_the_company_of_a_held_workload_stays(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """The cache is held on x86, so web stays there at 1.0; its reason names the cache, and others move."""
    cluster.nodes("amd64", 2)
    cluster.nodes("arm64", 2)
    beside = {"podAffinity": {REQUIRED: [on_the_node_of("cache")]}}
    hold = {f"{namespace}/Deployment/cache": {"hold": True, "reason": "licence"}}
    stack.config({"workloads": {"namespaces": [namespace], "overrides": hold}, "arm_ratio": "1.0"})
    cluster.apply(
        [
            deployment("cache", 1, namespace),
            deployment("web", 2, namespace, affinity=beside),
            deployment("free", 2, namespace),
        ]
    )
    cluster.wait_until_settled(namespace)
    assert planned_rows(stack)["web"]["reason"] == (
        f"held on x86: it must run beside {namespace}/Deployment/cache, which stays on x86"
    )
    step = stack.up()
    assert step.succeeded, step.output
    cluster.lab.kubectl("delete", "pods", "--all", f"--namespace={namespace}", "--wait=false")
    cluster.wait_until_settled(namespace)
    counts = {"Deployment/cache": 0, "Deployment/free": 2, "Deployment/web": 0}
    assert cluster.graviton_counts(namespace) == counts


def test_one_pod_a_node_is_never_pending(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """With three x86 nodes and one Graviton node, old pods may hold the node that a new pod must use."""
    cluster.nodes("amd64", 3)
    cluster.nodes("arm64", 1)
    apart = {"podAntiAffinity": {REQUIRED: [on_the_node_of("apart")]}}
    item = deployment("apart", 3, namespace, affinity=apart)
    item["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    stack.config({"workloads": {"namespaces": [namespace]}})
    cluster.apply(item)
    cluster.wait_until_settled(namespace)
    for arm_ratio, graviton in (("0.3", 1), ("0.0", 0), ("1.0", 1)):
        step = stack.config({"arm_ratio": arm_ratio}).up()
        assert step.succeeded, step.output
        assert cluster.graviton_counts(namespace) == {"Deployment/apart": graviton}
        again = stack.up()
        assert (again.exit_code, again.changes) == (0, {}), again.output


CHIP = "shop.example/chip"
ZONE = "topology.kubernetes.io/zone"


def scarce(namespace: str, disks: str) -> list[Manifest]:
    """Workloads that Graviton has too few nodes, chips or zones for, and one that is free to move."""
    refuses = {"podAntiAffinity": {REQUIRED: [on_the_node_of("left")]}}
    edges = [deployment("edge-a", 1, namespace), deployment("edge-b", 2, namespace)]
    for edge in edges:
        pod = edge["spec"]["template"]["spec"]
        pod["containers"][0]["ports"] = [{"containerPort": 8443, "hostPort": 8443}]
    chips = deployment("chips", 3, namespace)
    resources = chips["spec"]["template"]["spec"]["containers"][0]["resources"]
    resources["requests"][CHIP] = 1
    resources["limits"] = {CHIP: 1}
    for item in (*edges, chips):
        # A new pod needs the port or the chip that an old pod holds.
        item["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    zones = {"near": "eu-west-1a", "far": "eu-west-1c"}
    return [
        storage_class(disks),
        *(
            persistent_volume(
                f"{disks}-{name}",
                disks,
                (ZONE, zone),
                claimRef={"namespace": namespace, "name": f"data-{name}-0"},
            )
            for name, zone in zones.items()
        ),
        *(with_claims(stateful_set(name, 1, namespace), disks) for name in zones),
        deployment("left", 2, namespace),
        deployment("right", 2, namespace, affinity=refuses),
        *edges,
        chips,
        deployment("free", 4, namespace),
    ]


def graviton_of(cluster: Cluster, namespace: str) -> dict[str, int]:
    """The pods of each workload on Graviton, by its name."""
    counts = cluster.graviton_counts(namespace)
    return {key.partition("/")[2]: number for key, number in counts.items()}


@pytest.mark.parametrize("placement", ["patches", "admission"])
def test_nobody_is_pending_where_graviton_is_scarce(
    cluster: Cluster, stack: Stack, namespace: str, placement: str
) -> None:
    """Two Graviton nodes, with a chip each, and none in the third zone. The plan's counts are what the
    scheduler does, also when a workload's pods start anew, and a second update changes nothing.
    """
    cluster.nodes("amd64", 4)
    cluster.nodes("arm64", 2)
    for node, number in {"amd64-0": 2, "amd64-1": 1, "arm64-0": 1, "arm64-1": 1}.items():
        add = [
            {"op": "add", "path": f"/status/{part}/{CHIP.replace('/', '~1')}", "value": str(number)}
            for part in ("capacity", "allocatable")
        ]
        patch = ("--subresource=status", "--type=json", f"--patch={json.dumps(add)}")
        cluster.lab.kubectl("patch", "node", node, *patch)
    disks = f"disks-{namespace}"
    try:
        cluster.apply(scarce(namespace, disks))
        cluster.wait_until_settled(namespace)
        stack.config({"workloads": {"namespaces": [namespace]}, "placement": placement})
        for arm_ratio in ("0.5", "1.0"):
            rows = planned_rows(stack.config({"arm_ratio": arm_ratio}))
            step = stack.up()
            assert step.succeeded, step.output
            assert "not exact" not in step.output, step.output
            # Every pod of every workload runs, so nobody is pending.
            cluster.wait_until_settled(namespace)
            wanted = {name: row["wanted"] or 0 for name, row in rows.items()}
            assert graviton_of(cluster, namespace) == wanted
        assert {name: wanted[name] for name in ("chips", "far", "free", "near")} == {
            "chips": 2,
            "far": 0,
            "free": 4,
            "near": 1,
        }
        assert 0 < wanted["edge-a"] + wanted["edge-b"] < 3
        assert 0 < wanted["left"] + wanted["right"] < 4
        stay = [name for name, row in rows.items() if "must stay apart from" in row["reason"]]
        assert {"edge" in name for name in stay} == {True, False}
        assert CHIP in rows["chips"]["reason"]
        assert "volume" in rows["far"]["reason"]
        for name in ("edge-b", "right", "near"):
            gone = [pod for pod in cluster.pod_names(namespace) if pod.startswith(f"{name}-")]
            cluster.lab.kubectl("delete", "pods", *gone, f"--namespace={namespace}", "--wait=false")
            cluster.wait_until_settled(namespace)
        assert graviton_of(cluster, namespace) == wanted
        again = stack.up()
        assert (again.exit_code, again.changes) == (0, {}), again.output
    finally:
        names = [f"{disks}-{name}" for name in ("near", "far")]
        cluster.lab.kubectl("delete", "statefulsets,pvc", "--all", f"--namespace={namespace}", "--wait=false")
        cluster.lab.kubectl("delete", "pv", *names, "--wait=false", "--ignore-not-found")
        cluster.lab.kubectl("delete", "storageclass", disks, "--wait=false", "--ignore-not-found")
