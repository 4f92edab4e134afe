"""What pods really pull, and a test beside an injected sidecar: only a real admission chain shows both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.guard_matrix import push_images, with_image
from tests.lab.lab_helpers import Cluster, Manifest, Stack, deployment, wait_for
from tests.lab.ordinary import planned_rows

pytestmark = pytest.mark.usefixtures("own_cache")

POLICY = "mutatingadmissionpolicies,mutatingadmissionpolicybindings"


@pytest.fixture
def shop(registry: Registry, push: Pusher) -> dict[str, str]:
    """Images in a real registry: one for both architectures, one for amd64 alone, and a model."""
    push_images(push, "pods")
    push.image("pods/model", "1.0.0", artifact="application/vnd.example.model")
    return {name: f"{registry.host}/pods/{name}:1.0.0" for name in ("web", "legacy", "model")}


@pytest.fixture(autouse=True)
def _no_policy_left(cluster: Cluster, namespace: str) -> Iterator[None]:
    yield
    cluster.lab.kubectl("delete", POLICY, namespace, "--ignore-not-found")


def mutate(cluster: Cluster, namespace: str, mutation: dict[str, Any], condition: str = "true") -> None:
    """Change every new pod of the namespace, as a mesh or a mirror's webhook does."""
    kind = {"apiVersion": "admissionregistration.k8s.io/v1", "metadata": {"name": namespace}}
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
    cluster.apply(
        [
            {
                **kind,
                "kind": "MutatingAdmissionPolicy",
                "spec": {
                    "failurePolicy": "Fail",
                    "reinvocationPolicy": "Never",
                    "matchConstraints": {
                        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                        "resourceRules": [rule],
                    },
                    "matchConditions": [{"name": "wanted", "expression": condition}],
                    "mutations": [mutation],
                },
            },
            {**kind, "kind": "MutatingAdmissionPolicyBinding", "spec": {"policyName": namespace}},
        ]
    )
    probe = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "probe", "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": "auto"}]},
    }

    def works() -> bool:
        text = cluster.lab.kubectl(
            "create", "--dry-run=server", "--output=json", "--filename=-", stdin=json.dumps(probe)
        )
        return [one["image"] for one in json.loads(text)["spec"]["containers"]] != ["auto"]

    wait_for(works)


def running(name: str, namespace: str, image: str, **pod_spec: Any) -> Manifest:
    """A Deployment of two pods with that image."""
    return with_image(deployment(name, 2, namespace, **pod_spec), image)


def test_a_volume_and_a_replaced_image_count_as_what_nodes_pull(
    cluster: Cluster, stack: Stack, namespace: str, registry: Registry, shop: dict[str, str]
) -> None:
    """An amd64-only image in a volume holds its workload and is named; a model holds nothing; a gateway with
    the image `auto` moves by what its pods run.
    """
    cluster.nodes("amd64", 2)
    cluster.nodes("arm64", 2)
    replace = f"[JSONPatch{{op: 'replace', path: '/spec/containers/0/image', value: '{shop['web']}'}}]"
    mutate(
        cluster,
        namespace,
        {"patchType": "JSONPatch", "jsonPatch": {"expression": replace}},
        "object.spec.containers[0].image == 'auto'",
    )

    def volume(image: str) -> list[dict[str, Any]]:
        return [{"name": "extensions", "image": {"reference": shop[image], "pullPolicy": "IfNotPresent"}}]

    cluster.apply(
        [
            running("plugins", namespace, shop["web"], volumes=volume("legacy")),
            running("models", namespace, shop["web"], volumes=volume("model")),
            running("gateway", namespace, "auto"),
        ]
    )
    cluster.wait_until_settled(namespace)
    stack.config(
        {
            "workloads": {"namespaces": [namespace]},
            "arm_ratio": "1.0",
            "images": {"registries": {registry.host: {"plain_http": True}}},
        }
    )
    rows = planned_rows(stack)
    assert {name: (row["action"], row["wanted"]) for name, row in rows.items()} == {
        "gateway": ("move", 2),
        "models": ("move", 2),
        "plugins": ("hold", 0),
    }
    assert rows["plugins"]["reason"] == (
        f"held on x86: {shop['legacy']} is amd64-only: volume extensions: its image has linux/amd64"
    )
    audited = stack.archshift("audit", "--from-cluster", "--json")
    assert audited.returncode == 1, audited.stderr
    workloads = {entry["workload"]: entry for entry in json.loads(audited.stdout)["workloads"]}
    assert {key.split("/")[2]: entry["verdict"] for key, entry in workloads.items()} == {
        "gateway": "multi-arch",
        "models": "multi-arch",
        "plugins": "amd64-only",
    }
    (blocking,) = workloads[f"{namespace}/Deployment/plugins"]["blocking"]
    assert (blocking["container"], blocking["image"]) == ("extensions", shop["legacy"])


def test_a_test_beside_an_injected_sidecar_follows_its_own_container(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """The mesh's proxy goes on in both pods. The test that passed moves its workload, the one that failed
    holds it with its last words; neither waits for the Job, which archshift ends.
    """
    cluster.nodes("amd64", 2)
    cluster.nodes("arm64", 2)
    # The simulated kubelet leaves test pods with this value to this test; it reads all containers.
    stay = "env: [Object.spec.containers.env{name: 'LAB_OUTCOME', value: 'stay'}]"
    proxy = f"Object.spec.containers{{name: 'mesh-proxy', image: 'registry.example/mesh:1', {stay}}}"
    mutate(
        cluster,
        namespace,
        {
            "patchType": "ApplyConfiguration",
            "applyConfiguration": {
                "expression": f"Object{{spec: Object.spec{{containers: [{proxy}]}}}}",
            },
        },
    )
    manifests = [deployment(name, 2, namespace) for name in ("passes", "fails")]
    for manifest in manifests:
        manifest["spec"]["template"]["spec"]["containers"][0]["env"] = [
            {"name": "LAB_OUTCOME", "value": "stay"}
        ]
    cluster.apply(manifests)
    cluster.wait_until_settled(namespace)
    keys = {name: f"{namespace}/Deployment/{name}" for name in ("passes", "fails")}
    test = {"command": ["/app", "--self-test"], "timeout_seconds": 120}
    stack.config(
        {
            "workloads": {"namespaces": [namespace]},
            "arm_ratio": "1.0",
            "arm64_tests": {"workloads": dict.fromkeys(keys.values(), test)},
        }
    )
    update = stack.begin_up()

    def test_pods() -> dict[str, str]:
        by_job = {
            job["metadata"]["name"]: job["metadata"]["annotations"]["archshift/workload"]
            for job in cluster.all_of("jobs", namespace)
        }
        return {
            by_job[pod["metadata"]["labels"]["job-name"]]: pod["metadata"]["name"]
            for pod in cluster.all_of("pods", namespace)
            if "archshift/arm64-test" in pod["metadata"]["labels"] and pod["status"].get("phase") == "Running"
        }

    pods = wait_for(lambda: made if len(made := test_pods()) == 2 else None)
    for name, code in (("passes", 0), ("fails", 132)):
        end(cluster, namespace, pods[keys[name]], code)
    output, _ = update.communicate(timeout=300)
    assert update.returncode == 0, output
    jobs = {
        job["metadata"]["annotations"]["archshift/workload"]: job for job in cluster.all_of("jobs", namespace)
    }
    results = {
        name: json.loads(jobs[key]["metadata"]["annotations"]["archshift/result"])
        for name, key in keys.items()
    }
    assert {name: result["passed"] for name, result in results.items()} == {"passes": True, "fails": False}
    assert results["fails"]["message"] == "container app exited with code 132\nIllegal instruction"
    assert all(job["spec"]["suspend"] for job in jobs.values()), "the proxies do not run on"
    assert cluster.graviton_counts(namespace) == {"Deployment/passes": 2, "Deployment/fails": 0}


def end(cluster: Cluster, namespace: str, pod: str, code: int) -> None:
    """Write the status of a pod whose own container has ended while the injected one goes on."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    message = "Illegal instruction" if code else ""
    states = {
        "app": {
            "terminated": {
                "exitCode": code,
                "reason": "Error" if code else "Completed",
                "message": message,
                "startedAt": now,
                "finishedAt": now,
            }
        },
        "mesh-proxy": {"running": {"startedAt": now}},
    }
    statuses = [
        {"name": name, "image": "x", "imageID": "", "ready": False, "restartCount": 0, "state": state}
        for name, state in states.items()
    ]
    patch = json.dumps({"status": {"phase": "Running", "containerStatuses": statuses}})
    where = f"--namespace={namespace}"
    cluster.lab.kubectl(
        "patch", "pod", pod, where, "--subresource=status", "--type=merge", f"--patch={patch}"
    )
