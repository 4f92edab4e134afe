"""What the tests of ordinary days share: a cluster, its stacks and two images in a registry."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lab.control_plane import Lab
from tests.build import REQUIRED
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.guard_matrix import push_images, with_image
from tests.lab.lab_helpers import Cluster, Manifest, Result, Stack


class Place:
    """A cluster, a stack and two images: ``web`` for both architectures, ``legacy`` for amd64 alone."""

    def __init__(self, lab: Lab, registry: Registry, folder: Path) -> None:
        self.cluster, self.folder = Cluster(lab), folder
        self.namespace = self.cluster.namespace(f"shop-{uuid.uuid4().hex[:8]}")
        self.images = {name: f"{registry.host}/ordinary/{name}:1.0.0" for name in ("web", "legacy", "none")}
        self.values: dict[str, Any] = {
            "workloads": {"namespaces": [self.namespace]},
            "images": {"registries": {registry.host: {"plain_http": True}}},
        }
        self.stacks: list[Stack] = []

    def stack(self, **values: Any) -> Stack:
        name = f"test-{uuid.uuid4().hex[:8]}"
        stack = Stack(self.cluster.lab, self.folder / name, name)
        self.stacks.append(stack)
        return stack.config({**self.values, **values})

    def with_image(self, manifest: Manifest, image: str) -> Manifest:
        return with_image(manifest, self.images[image])

    def generations(self) -> dict[str, int]:
        items = self.cluster.all_of("deployments", self.namespace)
        return {item["metadata"]["name"]: item["metadata"]["generation"] for item in items}

    def pinned_to(self, name: str) -> str:
        """The architecture that a Deployment requires."""
        pods = self.cluster.get("deployment", name, self.namespace)["spec"]["template"]["spec"]
        terms = pods["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
        (value,) = terms[0]["matchExpressions"][0]["values"]
        return str(value)


@contextmanager
def place(lab: Lab, registry: Registry, push: Pusher, folder: Path) -> Iterator[Place]:
    push_images(push, "ordinary")
    with pytest.MonkeyPatch.context() as patch:
        lab.start()
        environment = {**lab.process_environment(), "XDG_CACHE_HOME": str(folder / "cache")}
        patch.setattr(lab, "process_environment", lambda: environment)
        made = Place(lab, registry, folder)
        yield made
        for stack in made.stacks:
            stack.remove()
        lab.kubectl("delete", "daemonsets,deployments", "--all", "--namespace=kube-system", "--wait=false")
        made.cluster.clear()
        made.cluster.close()


def went_well(run: Result) -> Result:
    assert run.succeeded, run.output
    return run


def plan_of(stack: Stack) -> dict[str, Any]:
    shown = stack.archshift("plan", "--json")
    assert shown.returncode == 0, shown.stderr
    plan: dict[str, Any] = json.loads(shown.stdout)
    return plan


def planned_rows(stack: Stack) -> dict[str, dict[str, Any]]:
    """The rows of `archshift plan`, by the workload's name."""
    return {row["workload"].rpartition("/")[2]: row for row in plan_of(stack)["workloads"]}


def freeze(namespace: str, *, dry_runs: bool) -> list[Manifest]:
    """An admission policy that denies changes of the Deployments labelled change=frozen.

    Without ``dry_runs`` it behaves as a webhook with side effects, which the API server does not ask then.
    """
    condition = "object.metadata.?labels[?'change'].orValue('') == 'frozen' && object.spec != oldObject.spec"
    if not dry_runs:
        condition += " && !(has(request.dryRun) && request.dryRun)"
    rule = {
        "apiGroups": ["apps"],
        "apiVersions": ["v1"],
        "operations": ["UPDATE"],
        "resources": ["deployments"],
    }
    metadata = {"name": "freeze"}
    version = "admissionregistration.k8s.io/v1"
    return [
        {
            "apiVersion": version,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                    "resourceRules": [rule],
                },
                "matchConditions": [{"name": "frozen", "expression": condition}],
                "validations": [
                    {"expression": "false", "message": "a change freeze is on for this workload"}
                ],
            },
        },
        {
            "apiVersion": version,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": metadata["name"], "validationActions": ["Deny"]},
        },
    ]


def lift_freezes(cluster: Cluster) -> None:
    """Remove the policies of `freeze`."""
    kinds = "validatingadmissionpolicybindings,validatingadmissionpolicies"
    cluster.lab.kubectl("delete", kinds, "--all")
