"""What owners do to their workloads every day: pause, undo, restore, own by operators, refuse by policy."""

import json
from typing import Any

import pytest

from tests.build import PREFERRED, REQUIRED
from tests.lab.lab_helpers import Cluster, Stack, deployment, stateful_set, wait_for
from tests.lab.ordinary import freeze, lift_freezes, planned_rows

Json = dict[str, Any]


@pytest.fixture
def adopted(cluster: Cluster, stack: Stack, namespace: str) -> Stack:
    """A stack on nodes that are nobody's: three of x86 and four of Graviton."""
    cluster.nodes("amd64", 3)
    cluster.nodes("arm64", 4, zones=("eu-west-1a", "eu-west-1b"))
    return stack.config({"workloads": {"namespaces": [namespace]}, "arm_ratio": "0.5"})


def up(stack: Stack, ratio: str | None = None) -> str:
    """A successful update; its output."""
    if ratio:
        stack.config({"arm_ratio": ratio})
    step = stack.up()
    assert step.succeeded, step.output
    return step.output


def template(cluster: Cluster, kind: str, name: str, namespace: str) -> Json:
    found: Json = cluster.get(kind, name, namespace)["spec"]["template"]
    return found


def pod_uids(cluster: Cluster, namespace: str) -> set[str]:
    return {pod["metadata"]["uid"] for pod in cluster.all_of("pods", namespace)}


def test_a_pause_in_the_middle_of_the_ramp_changes_nothing(
    cluster: Cluster, adopted: Stack, namespace: str
) -> None:
    """A partition, OnDelete and a pause: the same revisions, pods and templates, also at the next step; the
    pin of a workload that must stay on x86 stays too, and what is resumed moves.
    """
    adopted.config(
        {
            "workloads": {
                "namespaces": [namespace],
                "overrides": {f"{namespace}/Deployment/legacy": {"hold": True}},
            }
        }
    )
    names = [
        ("statefulset", "queue"),
        ("statefulset", "store"),
        ("deployment", "worker"),
        ("deployment", "legacy"),
    ]
    cluster.apply(
        [
            stateful_set("queue", 4, namespace),
            stateful_set("store", 4, namespace),
            deployment("worker", 4, namespace),
            deployment("legacy", 2, namespace),
            deployment("web", 4, namespace),
        ]
    )
    up(adopted)
    kubectl = cluster.lab.kubectl
    where = f"--namespace={namespace}"
    for name, strategy in (
        ("queue", {"rollingUpdate": {"partition": 2}}),
        ("store", {"type": "OnDelete", "rollingUpdate": None}),
    ):
        kubectl(
            "patch", "statefulset", name, where, "--patch", json.dumps({"spec": {"updateStrategy": strategy}})
        )
    kubectl("rollout", "pause", "deployment/worker", "deployment/legacy", where)
    cluster.wait_until_settled(namespace)
    before = {name: template(cluster, kind, name, namespace) for kind, name in names}
    revision = cluster.get("statefulset", "queue", namespace)["status"]["updateRevision"]
    uids = {
        pod["metadata"]["name"]: pod["metadata"]["uid"]
        for pod in cluster.all_of("pods", namespace)
        if not pod["metadata"]["name"].startswith("web")
    }
    output = up(adopted, "0.75")
    assert f"{namespace}/StatefulSet/queue: left alone: its rollouts stop at a partition" in output
    assert {name: template(cluster, kind, name, namespace) for kind, name in names} == before
    assert REQUIRED in before["legacy"]["spec"]["affinity"]["nodeAffinity"]
    assert cluster.get("statefulset", "queue", namespace)["status"]["updateRevision"] == revision
    after = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in cluster.all_of("pods", namespace)}
    assert {name: after[name] for name in uids} == uids
    assert cluster.graviton_counts(namespace)["Deployment/web"] == 3
    assert {name: row["action"] for name, row in planned_rows(adopted).items()} == {
        **dict.fromkeys(["legacy", "queue", "store", "worker"], "keep"),
        "web": "move",
    }
    again = adopted.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    kubectl("rollout", "resume", "deployment/worker", where)
    up(adopted)
    cluster.wait_until_settled(namespace)
    assert planned_rows(adopted)["worker"]["graviton"] == planned_rows(adopted)["worker"]["wanted"]


@pytest.mark.parametrize(
    ("first", "second", "wanted"), [("0.2", "0.8", 8), ("1.0", "0.5", 5), ("0.5", "1.0", 10)]
)
def test_an_undo_is_no_owner(
    cluster: Cluster, adopted: Stack, namespace: str, first: str, second: str, wanted: int
) -> None:
    """The next update has its fields again, and destroy leaves none of them behind."""
    cluster.apply(deployment("web", 10, namespace))
    before = template(cluster, "deployment", "web", namespace)
    up(adopted, first)
    up(adopted, second)
    cluster.lab.kubectl("rollout", "undo", "deployment/web", f"--namespace={namespace}")
    cluster.wait_until_settled(namespace)
    assert adopted.archshift("status").returncode == 3
    assert planned_rows(adopted)["web"]["action"] == "move"
    up(adopted)
    cluster.wait_until_settled(namespace)
    assert cluster.graviton_counts(namespace) == {"Deployment/web": wanted}
    assert adopted.archshift("status").returncode == 0
    again = adopted.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    gone = adopted.destroy("--run-program")
    assert gone.succeeded, gone.output
    assert template(cluster, "deployment", "web", namespace) == before


def test_destroy_after_an_undo_leaves_nothing(cluster: Cluster, adopted: Stack, namespace: str) -> None:
    """Also without an update between: kubectl owns a preference and the revision by then."""
    cluster.apply(deployment("web", 4, namespace))
    before = template(cluster, "deployment", "web", namespace)
    up(adopted, "0.25")
    up(adopted, "0.75")
    cluster.lab.kubectl("rollout", "undo", "deployment/web", f"--namespace={namespace}")
    gone = adopted.destroy("--run-program")
    assert gone.succeeded, gone.output
    assert template(cluster, "deployment", "web", namespace) == before


CRDS = {
    "metricstores.example.test": ("example.test", "v1", "MetricStore"),
    "rollouts.argoproj.io": ("argoproj.io", "v1alpha1", "Rollout"),
}


def serve_crds(cluster: Cluster) -> None:
    """Make the API server serve the kinds of an operator and of Argo Rollouts."""
    cluster.apply(
        {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": name},
            "spec": {
                "group": group,
                "scope": "Namespaced",
                "names": {"plural": name.partition(".")[0], "singular": kind.lower(), "kind": kind},
                "versions": [
                    {
                        "name": version,
                        "served": True,
                        "storage": True,
                        "schema": {
                            "openAPIV3Schema": {
                                "type": "object",
                                "x-kubernetes-preserve-unknown-fields": True,
                            }
                        },
                    }
                ],
            },
        }
        for name, (group, version, kind) in CRDS.items()
    )
    cluster.lab.kubectl("wait", "--for=condition=Established", *(f"crd/{name}" for name in CRDS))


def test_what_another_controller_writes_or_uses_is_left_alone(
    cluster: Cluster, adopted: Stack, namespace: str
) -> None:
    """A StatefulSet of an operator and the template of a Rollout: generation 1, and the plan names who."""
    serve_crds(cluster)
    store = {
        "apiVersion": "example.test/v1",
        "kind": "MetricStore",
        "metadata": {"name": "main", "namespace": namespace},
    }
    cluster.apply(store)
    uid = cluster.get("metricstore", "main", namespace)["metadata"]["uid"]
    owned = stateful_set("metricstore-main", 2, namespace)
    owned["metadata"]["ownerReferences"] = [
        {
            "apiVersion": "example.test/v1",
            "kind": "MetricStore",
            "name": "main",
            "uid": uid,
            "controller": True,
        }
    ]
    rollout = {
        "apiVersion": "argoproj.io/v1alpha1",
        "kind": "Rollout",
        "metadata": {"name": "checkout", "namespace": namespace},
        "spec": {
            "replicas": 50,
            "workloadRef": {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "name": "checkout",
                "scaleDown": "onsuccess",
            },
        },
    }
    cluster.apply([owned, deployment("checkout", 0, namespace), deployment("web", 2, namespace), rollout])
    try:
        plan = planned_rows(adopted.config({"arm_ratio": "1.0"}))
        assert {name: row["action"] for name, row in plan.items()} == {
            "checkout": "leave",
            "metricstore-main": "leave",
            "web": "move",
        }
        assert "MetricStore main" in plan["metricstore-main"]["reason"]
        assert "Rollout checkout" in plan["checkout"]["reason"]
        up(adopted)
        assert cluster.get("statefulset", "metricstore-main", namespace)["metadata"]["generation"] == 1
        assert cluster.get("deployment", "checkout", namespace)["metadata"]["generation"] == 1
    finally:
        cluster.lab.kubectl("delete", "crd", *CRDS, "--wait=false")


def test_a_policy_that_denies_one_patch_stops_no_other(
    cluster: Cluster, adopted: Stack, namespace: str
) -> None:
    """The preview names it with the policy's words and the way out; all others move in the same update, at
    the first step and at a later one, when the frozen workload keeps what it had.
    """
    frozen = deployment("frozen", 4, namespace)
    frozen["metadata"]["labels"] = {"change": "frozen"}
    cluster.apply([frozen, deployment("free", 4, namespace), *freeze(namespace, dry_runs=True)])
    spec = cluster.get("deployment", "frozen", namespace)["spec"]
    cluster.wait_until_settled(namespace)
    there = cluster.graviton_counts(namespace)["Deployment/frozen"]
    try:
        wait_for(lambda: planned_rows(adopted)["frozen"]["action"] == "leave", 30)
        preview = adopted.preview()
        assert preview.succeeded, preview.output
        for words in ("a change freeze is on for this workload", "archshift:workloads.exclude"):
            assert words in preview.output
        up(adopted)
        assert cluster.graviton_counts(namespace) == {"Deployment/free": 2, "Deployment/frozen": there}
        assert cluster.get("deployment", "frozen", namespace)["spec"] == spec
        where = f"--namespace={namespace}"
        cluster.lab.kubectl("label", "deployment", "frozen", "change-", where)
        up(adopted)
        assert cluster.graviton_counts(namespace) == {"Deployment/free": 2, "Deployment/frozen": 2}
        cluster.lab.kubectl("label", "deployment", "frozen", "change=frozen", where)
        spec = cluster.get("deployment", "frozen", namespace)["spec"]
        up(adopted, "0.75")
        assert cluster.graviton_counts(namespace) == {"Deployment/free": 3, "Deployment/frozen": 2}
        assert cluster.get("deployment", "frozen", namespace)["spec"] == spec
        assert planned_rows(adopted)["frozen"]["action"] == "keep"
    finally:
        lift_freezes(cluster)


NULLS: dict[str, tuple[Json, bool]] = {
    "required-null": ({"affinity": {"nodeAffinity": {REQUIRED: None}}}, True),
    "preferred-null": ({"affinity": {"nodeAffinity": {PREFERRED: None}}}, False),
    "both-null": ({"affinity": {"nodeAffinity": {REQUIRED: None, PREFERRED: None}}}, False),
    "preferred-empty": ({"affinity": {"nodeAffinity": {PREFERRED: []}}}, False),
    "tolerations-empty": ({"tolerations": []}, True),
    "affinity-null": ({"affinity": None}, True),
    "affinity-empty": ({"affinity": {}}, True),
    "node-null": ({"affinity": {"nodeAffinity": None}}, True),
    "node-empty": ({"affinity": {"nodeAffinity": {}}}, True),
    "selector-empty": ({"nodeSelector": {}}, True),
    "spreads-null": ({"topologySpreadConstraints": None}, True),
    "spreads-empty": ({"topologySpreadConstraints": []}, True),
}
"""What a client applies, and whether archshift can place the workload."""


def test_fields_that_somebody_owns_as_null_stop_nobody(
    cluster: Cluster, adopted: Stack, namespace: str
) -> None:
    """Helm 4, Flux and Argo CD apply such fields. The plan names what it cannot take, the rest is exact; the
    owner's next apply goes through, and after a destroy the stack begins again without a conflict.
    """
    helm = [deployment(name, 4, namespace, **spec) for name, (spec, _) in NULLS.items()]
    cluster.apply(helm, manager="helm")
    by_client = ("affinity-empty", "node-empty", "required-null", "tolerations-empty")
    cluster.apply(deployment(f"{name}-client", 4, namespace, **NULLS[name][0]) for name in by_client)
    movable = {
        **{name: takes for name, (_, takes) in NULLS.items()},
        **{f"{name}-client": True for name in by_client},
    }
    specs = {name: template(cluster, "deployment", name, namespace) for name in movable}
    for steps in ((("0.5", 2), ("1.0", 4)), (("0.5", 2),)):
        for ratio, wanted in steps:
            output = up(adopted, ratio)
            plan = planned_rows(adopted)
            assert {name: row["action"] == "move" for name, row in plan.items()} == movable, output
            assert cluster.graviton_counts(namespace) == {
                f"Deployment/{name}": wanted
                if moves
                else cluster.graviton_counts(namespace)[f"Deployment/{name}"]
                for name, moves in movable.items()
            }
            assert all("helm" in plan[name]["reason"] for name, moves in movable.items() if not moves)
        cluster.apply(helm, manager="helm")
        assert adopted.up().changes == {}
        gone = adopted.destroy("--run-program")
        assert gone.succeeded, gone.output
        assert {name: template(cluster, "deployment", name, namespace) for name in movable} == specs
