"""Images that pods mount as volumes: a node pulls them for its own platform, as it does for containers."""

from collections.abc import Callable
from typing import Any

import pytest

from archshift.images.audit import AuditOptions, audit_uses
from archshift.images.verdict import ImageVerdict
from archshift.images.workload import ImageUse, containers_of, judge_workload, with_pods
from tests.images.build import OCI_INDEX, OCI_MANIFEST, Pusher
from tests.images.servers import Registry

Options = Callable[..., AuditOptions]
Audit = Callable[[str], ImageVerdict]

MODEL = "application/vnd.example.model"


@pytest.fixture
def audit(registry: Registry, options: Options) -> Audit:
    """Audit one image that is mounted as a volume, named without its registry."""

    def run(name: str) -> ImageVerdict:
        use = ImageUse(f"{registry.host}/{name}", as_volume=True)
        return audit_uses([use], options(registry.host))[use]

    return run


@pytest.mark.parametrize(
    ("platforms", "verdict"),
    [
        (("linux/amd64", "linux/arm64"), "multi-arch"),
        (("linux/amd64",), "amd64-only"),
        (("linux/arm64",), "arm64-only"),
        (("linux/s390x",), "other"),
    ],
)
def test_an_image_counts_by_its_platforms(
    push: Pusher, audit: Audit, platforms: tuple[str, ...], verdict: str
) -> None:
    name = "volume/" + "-".join(platforms).replace("/", "_")
    push.multi(name, "1", *platforms)
    assert audit(f"{name}:1").verdict == verdict


@pytest.mark.parametrize("how", ["config", "artifactType"])
def test_an_artifact_without_a_platform_fits_every_node(push: Pusher, audit: Audit, how: str) -> None:
    """A model or a chart is data; as the image of a container it stays unknown."""
    name = f"model/{how.lower()}"
    if how == "config":
        pushed = push.image(name, "1", artifact=MODEL)
    else:
        pushed = push.image(name, "1", extra={"artifactType": MODEL})
    found = audit(f"{name}:1")
    assert (found.verdict, found.digest) == ("multi-arch", pushed.digest)
    assert (
        found.reason == f"it is an artifact of type '{MODEL}' without a platform, so every node can pull it"
    )


@pytest.mark.parametrize(
    ("platforms", "verdict"),
    [(("amd64",), "amd64-only"), (("amd64", "arm64"), "multi-arch"), ((), "multi-arch")],
)
def test_artifacts_in_an_index_count_by_their_platforms(
    push: Pusher, audit: Audit, platforms: tuple[str, ...], verdict: str
) -> None:
    name = "models/" + ("-".join(platforms) or "none")
    entries: list[dict[str, Any]] = []
    for platform in platforms or ("",):
        pushed = push.image(name, artifact=MODEL, extra={"annotations": {"for": platform}})
        entries.append(
            {
                "mediaType": OCI_MANIFEST,
                "digest": pushed.digest,
                "size": pushed.size,
                "artifactType": MODEL,
                **({"platform": {"os": "linux", "architecture": platform}} if platform else {}),
            }
        )
    push.manifest(name, "1", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, OCI_INDEX)
    assert audit(f"{name}:1").verdict == verdict


def test_one_image_is_judged_for_each_use(push: Pusher, registry: Registry, options: Options) -> None:
    """As a container's image an artifact is unknown, in the same run and from one reading."""
    push.image("both/uses", "1", artifact=MODEL)
    image = f"{registry.host}/both/uses:1"
    container, volume = ImageUse(image), ImageUse(image, as_volume=True)
    found = audit_uses([container, volume], options(registry.host, deep=True))
    assert {use: verdict.verdict for use, verdict in found.items()} == {
        container: "unknown",
        volume: "multi-arch",
    }


def spec(reference: str | None, name: str = "extensions") -> dict[str, Any]:
    """Return a pod spec with a volume from an image, beside other volumes."""
    image = {} if reference is None else {"reference": reference}
    return {
        "containers": [{"name": "host", "image": "host"}],
        "volumes": [{"name": "token", "projected": {}}, {"name": name, "image": image}],
    }


def verdict(image: str, value: Any) -> ImageVerdict:
    from datetime import UTC, datetime

    platforms = {"multi-arch": ("linux/amd64", "linux/arm64"), "amd64-only": ("linux/amd64",)}.get(value, ())
    digest = "sha256:" + "1" * 64
    return ImageVerdict(image, value, platforms, digest, "", datetime(2026, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("name", ["extensions", "host"])
def test_a_volume_blocks_its_workload_by_name(name: str) -> None:
    """Also where a container has the same name."""
    containers = with_pods(containers_of(spec("plugins", name)), [{"spec": spec("plugins", name)}])
    assert [(one.name, one.role) for one in containers] == [("host", "container"), (name, "volume")]
    found = judge_workload(
        "ns/Deployment/w",
        containers,
        {
            ImageUse("host"): verdict("host", "multi-arch"),
            ImageUse("plugins", as_volume=True): verdict("plugins", "amd64-only"),
        },
    )
    assert found.verdict == "amd64-only"
    assert [(one.container, one.image, one.reason) for one in found.blocking] == [
        (name, "plugins", f"volume {name}: its image has linux/amd64")
    ]


def test_a_volume_that_admission_fills_in_or_adds_counts_by_the_pods() -> None:
    """The reference is optional in a template, and a webhook may add a whole volume."""
    filled = with_pods(containers_of(spec(None)), [{"spec": spec("plugins")}], of_template=True)
    assert [one.use.image for one in filled] == ["host", "plugins"]
    added = with_pods(
        containers_of({"containers": [{"name": "host", "image": "host"}]}), [{"spec": spec("plugins")}]
    )
    assert [(one.role, one.use.image) for one in added] == [("container", "host"), ("volume", "plugins")]
