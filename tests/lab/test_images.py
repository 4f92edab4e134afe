"""Images that are not proven for arm64 never get a Graviton pod, and everything else moves."""

import json
from pathlib import Path

import pytest

from tests.images.build import Pushed, Pusher, elf, layer
from tests.images.servers import Registry
from tests.lab.lab_helpers import Cluster, Manifest, Stack, daemon_set, deployment, node_groups


def with_image(manifest: Manifest, image: str) -> Manifest:
    """The same workload, running that image."""
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = image
    return manifest


@pytest.fixture
def shop(registry: Registry, push: Pusher) -> dict[str, str]:
    """Images in a real registry: one for both architectures, one for amd64 alone, and a liar."""
    entry = {"Entrypoint": ["/app"]}

    def image(repository: str, platform: str, machine: str, tag: str = "") -> Pushed:
        return push.image(repository, tag, platform, layers=[layer({"app": elf(machine)})], config=entry)

    honest = [image("shop/web", "linux/amd64", "amd64"), image("shop/web", "linux/arm64", "arm64")]
    push.index("shop/web", "1.0.0", honest)
    image("shop/legacy", "linux/amd64", "amd64", tag="1.0.0")
    lying = [image("shop/liar", "linux/amd64", "amd64"), image("shop/liar", "linux/arm64", "amd64")]
    push.index("shop/liar", "1.0.0", lying)
    return {name: f"{registry.host}/shop/{name}:1.0.0" for name in ("web", "legacy", "liar", "absent")}


def test_only_what_is_proven_moves(
    cluster: Cluster,
    stack: Stack,
    namespace: str,
    registry: Registry,
    shop: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An amd64-only DaemonSet stops the first Graviton node until it is pinned; then an amd64-only
    image, a lie, an unknown one and an amd64-only init container stay on x86 with their reasons, and
    the rest is exact.
    """
    environment = {**stack.lab.process_environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    monkeypatch.setattr(stack.lab, "process_environment", lambda: environment)
    sidecar = with_image(deployment("init", 3, namespace), shop["web"])
    sidecar["spec"]["template"]["spec"]["initContainers"] = [{"name": "setup", "image": shop["legacy"]}]
    cluster.apply(
        [
            with_image(deployment("web", 4, namespace), shop["web"]),
            with_image(deployment("legacy", 2, namespace), shop["legacy"]),
            with_image(deployment("liar", 2, namespace), shop["liar"]),
            with_image(deployment("absent", 2, namespace), shop["absent"]),
            sidecar,
            with_image(daemon_set("agent", namespace), shop["legacy"]),
        ]
    )
    images = {"deep": True, "registries": {registry.host: {"plain_http": True}}}
    stack.config(
        {
            "node_groups": node_groups(),
            "workloads": {"namespaces": [namespace]},
            "arm_ratio": "1.0",
            "images": images,
        }
    )
    refused = stack.up()
    assert refused.exit_code != 0
    assert (
        f"no Graviton node is made while DaemonSets would break on it: {namespace}/DaemonSet/agent: would "
        f"start on Graviton nodes and {shop['legacy']} is amd64-only"
    ) in refused.output
    assert cluster.all_of("nodes") == []

    step = stack.config({"images": {**images, "daemonsets": "pin"}}).up()
    assert step.succeeded, step.output
    assert cluster.graviton_counts(namespace) == {
        "Deployment/web": 4,
        "Deployment/legacy": 0,
        "Deployment/liar": 0,
        "Deployment/absent": 0,
        "Deployment/init": 0,
        "DaemonSet/agent": 0,
    }
    assert cluster.pod_counts(namespace)["DaemonSet/agent"] == 6
    status = stack.archshift("status", "--json")
    assert status.returncode == 0, status.stderr
    answer = json.loads(status.stdout)
    assert answer["fleet"] == {"pods": 4, "wanted": 4, "graviton": 4, "all_pods": 13}
    reasons = {row["workload"].rsplit("/", 1)[1]: row["reason"] for row in answer["workloads"]}
    assert reasons["legacy"].startswith(f"held on x86: {shop['legacy']} is amd64-only: container app")
    assert "/app is a binary for x86-64" in reasons["liar"]
    assert reasons["absent"].startswith(f"held on x86: {shop['absent']} is unknown")
    assert "init setup" in reasons["init"]
    preview = stack.preview()
    assert (preview.exit_code, preview.changes) == (0, {}), preview.output

    (evidence,) = [r for r in stack.resources() if r["type"] == "archshift:index:ImageAudit"]
    kept = evidence["outputs"]["workloads"]
    assert kept[f"{namespace}/Deployment/web"]["verdict"] == "multi-arch"
    assert kept[f"{namespace}/Deployment/web"]["images"][0]["digest"].startswith("sha256:")
    assert kept[f"{namespace}/Deployment/legacy"]["blocking"][0]["container"] == "app"

    audit = stack.archshift("audit", "--from-cluster", "--json")
    assert audit.returncode == 1
    found = {row["image"]: row["verdict"] for row in json.loads(audit.stdout)["images"]}
    assert found == {
        shop["web"]: "multi-arch",
        shop["legacy"]: "amd64-only",
        shop["liar"]: "amd64-only",
        shop["absent"]: "unknown",
    }
