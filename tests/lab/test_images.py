"""Images that are not proven for arm64 never get a Graviton pod, and everything else moves."""

import json
from pathlib import Path

import httpx
import pytest
import yaml

from lab.control_plane import PROJECT, Lab
from lab.images import push_images
from lab.sample import load_workloads
from tests.images.build import Pushed, Pusher, elf, layer
from tests.images.hostile import Hostile
from tests.images.servers import Registry
from tests.lab.lab_helpers import Cluster, Manifest, Stack, daemon_set, deployment, node_groups

pytestmark = pytest.mark.usefixtures("own_cache")


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
    cluster: Cluster, stack: Stack, namespace: str, registry: Registry, shop: dict[str, str]
) -> None:
    """An amd64-only DaemonSet stops the first Graviton node until it is pinned; then an amd64-only
    image, a lie, an unknown one and an amd64-only init container stay on x86 with their reasons, and
    the rest is exact.
    """
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
        f"no Graviton node is created, because DaemonSets would break on it: {namespace}/DaemonSet/agent: "
        f"would "
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


def test_an_image_whose_registry_stalls_holds_its_own_workload_alone(
    cluster: Cluster, stack: Stack, namespace: str, registry: Registry, shop: dict[str, str]
) -> None:
    """Each answer comes, so no single request fails. Who may create a pod must not stall deployments."""
    hostile = Hostile()
    try:
        stalled = hostile.stalling("bad/stalled", 12)
        cluster.apply(
            [
                with_image(deployment("web", 4, namespace), shop["web"]),
                with_image(deployment("stalled", 2, namespace), stalled),
            ]
        )
        hosts = {host: {"plain_http": True} for host in (registry.host, hostile.host)}
        stack.config(
            {
                "node_groups": node_groups(),
                "workloads": {"namespaces": [namespace]},
                "arm_ratio": "1.0",
                "images": {"registries": hosts},
            }
        )
        done = stack.up()
    finally:
        hostile.stop()
    assert done.succeeded, done.output
    assert cluster.graviton_counts(namespace) == {"Deployment/web": 4, "Deployment/stalled": 0}
    (evidence,) = [r for r in stack.resources() if r["type"] == "archshift:index:ImageAudit"]
    held = json.dumps(evidence["outputs"]["workloads"][f"{namespace}/Deployment/stalled"])
    assert f"{hostile.host} answers too slowly: archshift stopped reading this image after" in held


def test_the_sample_workloads_are_judged_as_intended(cluster: Cluster, stack: Stack) -> None:
    """With the tracked configuration of the lab, from the lab's own registry, whose address only the
    environment knows: in the audit and in the program, one image that lies and three for amd64 alone
    hold four workloads on x86, and all the others move.
    """
    push_images(cluster.lab, print)
    load_workloads(cluster.lab, print, again=True)
    tracked = yaml.safe_load((PROJECT / "Pulumi.lab.yaml").read_text())["config"]
    config = {key.removeprefix("archshift:"): value for key, value in tracked.items()}
    audit = stack.config({**config, "arm_ratio": "1.0"}).archshift("audit", "--from-cluster")
    assert "15 of 19 workloads can move" in audit.stdout
    found = json.loads(stack.archshift("audit", "--from-cluster", "--json").stdout)
    assert found["notes"] == []
    blocked = {row["workload"]: row["blocking"] for row in found["workloads"] if row["blocking"]}
    assert {key: [(b["container"], b["verdict"]) for b in value] for key, value in blocked.items()} == {
        "shop/Deployment/image-resizer": [("image-resizer", "amd64-only")],
        "shop/Deployment/invoices": [("invoices", "amd64-only")],
        "shop/Deployment/notifications": [("smtp-relay", "amd64-only")],
        "shop/Deployment/reviews": [("reviews", "amd64-only")],
    }
    others = {row["verdict"] for row in found["workloads"] if not row["blocking"]}
    assert others == {"multi-arch"}
    images = {row["image"].removeprefix("registry.shop.example/"): row for row in found["images"]}
    assert images["image-resizer:1.2.0"]["reason"] == (
        "it claims linux/arm64, but /app is a binary for x86-64"
    )
    assert images["reviews:2.2.5"]["suggestion"] == "2.3.0"

    step = stack.up()
    assert step.succeeded, step.output
    for namespace in ("platform", "shop"):
        cluster.wait_until_settled(namespace)
    status = json.loads(stack.archshift("status", "--json").stdout)
    assert status["fleet"] == {"pods": 75, "wanted": 75, "graviton": 75, "all_pods": 91}
    held = {row["workload"].rsplit("/", 1)[1]: row for row in status["workloads"] if row["wanted"] == 0}
    assert {name: (row["replicas"], row["graviton"]) for name, row in held.items()} == {
        "image-resizer": (3, 0),
        "notifications": (1, 0),
        "reviews": (4, 0),
    }
    assert all(row["reason"].startswith("held on x86: registry.shop.example/") for row in held.values())
    shop = cluster.graviton_counts("shop")
    assert (shop["Deployment/reviews"], shop["Deployment/storefront"]) == (0, 20)


def test_the_labs_registry_keeps_what_was_pushed(tmp_path: Path) -> None:
    """Down and up again: the same address, the same images, and an image that a user pushed over one."""
    lab = Lab(tmp_path / "lab")
    lab.start()
    try:
        push_images(lab, print)
        address = lab.registry
        own = Pusher(f"http://{address}").image("reviews", "2.2.5", "linux/arm64")
        before = _manifest(lab, "storefront", "2.31.0")
        lab.stop()
        lab.start()
        push_images(lab, print)
        assert lab.registry == address
        assert _manifest(lab, "storefront", "2.31.0") == before
        assert _manifest(lab, "reviews", "2.2.5") == own.digest
        push_images(lab, print, again=True)
        assert _manifest(lab, "reviews", "2.2.5") != own.digest, "when asked, the sample's own come back"
    finally:
        lab.stop()


def test_every_lab_makes_the_same_images(control_plane: Lab, tmp_path: Path) -> None:
    """What is cached by digest for one lab serves another, and a second push changes nothing."""
    lab = Lab(tmp_path / "lab")
    lab.start()
    try:
        push_images(lab, print)
        push_images(control_plane, print, again=True)
        for repository, tag in (("image-resizer", "1.2.0"), ("reviews", "2.2.5"), ("orders", "4.0.7")):
            assert _manifest(lab, repository, tag) == _manifest(control_plane, repository, tag)
    finally:
        lab.stop()


def _manifest(lab: Lab, repository: str, tag: str) -> str:
    """The digest that a tag stands for in a lab's registry."""
    answer = httpx.head(
        f"http://{lab.registry}/v2/{repository}/manifests/{tag}",
        headers={
            "Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"
        },
        trust_env=False,
    )
    return answer.raise_for_status().headers["Docker-Content-Digest"]
