"""What an index says about its arm64 image is compared with that image: most mistakes show in its config."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archshift.images.audit import AuditOptions, audit_images
from archshift.images.verdict import ImageVerdict
from tests.images.build import OCI_INDEX, Pushed, Pusher
from tests.images.servers import Server

Options = Callable[..., AuditOptions]
Audit = Callable[[str], ImageVerdict]


def entry(pushed: Pushed, platform: str) -> dict[str, object]:
    """Return an entry of an index with this platform, whatever the image is."""
    parts = dict(zip(("os", "architecture", "variant"), platform.split("/"), strict=False))
    return {
        "mediaType": pushed.media_type,
        "digest": pushed.digest,
        "size": pushed.size,
        "platform": parts,
    }


def put(push: Pusher, name: str, *entries: dict[str, object], tag: str = "1") -> Pushed:
    """Push an index of these entries."""
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": list(entries)}
    return push.manifest(name, tag, document, OCI_INDEX)


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize(
    ("config", "verdict"), [("linux/amd64", "amd64-only"), ("linux/arm64", "arm64-only")]
)
def test_one_digest_under_two_platforms_is_what_its_config_says(
    push: Pusher, audit: Audit, config: str, verdict: str, docker: bool
) -> None:
    """A manifest list put together by hand: one image is not two."""
    name = f"twice/{'docker' if docker else 'oci'}/{config[6:]}"
    image = push.image(name, platform=config, docker=docker)
    put(push, name, entry(image, "linux/amd64"), entry(image, "linux/arm64"))
    found = audit(f"{name}:1")
    assert (found.verdict, found.platforms) == (verdict, (config,))
    other = "linux/arm64" if config == "linux/amd64" else "linux/amd64"
    assert found.reason == f"its index lists {other}, but the config of that image says {config}"


@pytest.mark.parametrize(
    ("config", "platforms"),
    [
        ("linux/amd64", ("linux/amd64",)),
        ("linux/x86_64", ("linux/amd64",)),
        ("linux/arm/v7", ("linux/amd64", "linux/arm/v7")),
        ("linux/arm64/v9", ("linux/amd64", "linux/arm64/v9")),
        ("windows/arm64", ("linux/amd64", "windows/arm64")),
        ("unknown/unknown", ("linux/amd64",)),
    ],
)
def test_an_arm64_entry_with_another_config_is_no_arm64(
    push: Pusher, audit: Audit, config: str, platforms: tuple[str, ...]
) -> None:
    """As `docker manifest annotate --arch arm64` makes it of any image."""
    name = "annotated/" + config.replace("/", "_")
    amd64, other = push.image(name), push.image(name, platform=config, config={"Labels": {"n": "2"}})
    put(push, name, entry(amd64, "linux/amd64"), entry(other, "linux/arm64/v8"))
    found = audit(f"{name}:1")
    assert (found.verdict, found.platforms) == ("amd64-only", platforms)
    assert "its index lists linux/arm64, but the config of that image says" in found.reason


@pytest.mark.parametrize("config", ["linux/arm64", "linux/arm64/v8", "linux/aarch64", ""])
def test_a_config_that_agrees_or_says_nothing_changes_nothing(
    push: Pusher, audit: Audit, config: str
) -> None:
    """Tools that build without a base leave the platform out of the config; the index then decides."""
    name = "agreed/" + (config.replace("/", "_") or "silent")
    put(
        push,
        name,
        entry(push.image(name), "linux/amd64"),
        entry(push.image(name, platform=config), "linux/arm64"),
    )
    found = audit(f"{name}:1")
    assert (found.verdict, found.platforms, found.reason) == (
        "multi-arch",
        ("linux/amd64", "linux/arm64"),
        "",
    )


def test_the_first_arm64_entry_decides(push: Pusher, audit: Audit) -> None:
    """A node takes the first that fits, so a good one behind it does not help."""
    amd64, arm64 = push.image("first"), push.image("first", platform="linux/arm64")
    put(
        push,
        "first",
        *(entry(amd64, f"linux/{one}") for one in ("amd64", "arm64")),
        entry(arm64, "linux/arm64"),
    )
    assert audit("first:1").verdict == "amd64-only"


def test_an_arm64_entry_that_is_an_artifact_is_no_image(push: Pusher, audit: Audit) -> None:
    """The index may call anything an image."""
    artifact = push.image("sbom", platform="linux/arm64", artifact="application/spdx+json")
    put(push, "sbom", entry(push.image("sbom"), "linux/amd64"), entry(artifact, "linux/arm64"))
    found = audit("sbom:1")
    assert (found.verdict, found.platforms) == ("amd64-only", ("linux/amd64",))
    assert found.reason == (
        "its index lists linux/arm64, but that entry is an artifact of type 'application/spdx+json'"
    )


def test_a_nested_index_is_entered_by_its_own_platform(push: Pusher, audit: Audit) -> None:
    """A node of arm64 does not look into an index that is listed for amd64."""
    inner = push.multi("inside", "inner", "linux/amd64", "linux/arm64")
    put(push, "inside", entry(inner, "linux/amd64"))
    assert audit("inside:1").verdict == "amd64-only"
    put(push, "inside", entry(inner, "linux/amd64"), entry(inner, "linux/arm64"))
    assert audit("inside:1").verdict == "multi-arch"


def test_a_lie_in_a_nested_index_shows_too(push: Pusher, audit: Audit) -> None:
    image = push.image("nestedlie")
    inner = put(push, "nestedlie", entry(image, "linux/amd64"), entry(image, "linux/arm64"), tag="inner")
    push.index("nestedlie", "1", [inner])
    assert audit("nestedlie:1").verdict == "amd64-only"


def test_a_config_that_the_registry_does_not_have_is_no_arm64(
    push: Pusher, proxy: Server, options: Options
) -> None:
    """A node could not pull it."""
    arm64 = push.image("configless", platform="linux/arm64")
    push.index("configless", "1", [push.image("configless"), arm64])
    proxy.answer(f"blobs/{arm64.config}", 404)
    image = f"{proxy.host}/configless:1"
    found = audit_images([image], options(proxy.host))[image]
    assert found.verdict == "amd64-only"
    assert "the registry does not have that image" in found.reason


def test_a_config_of_no_size_is_not_read(push: Pusher, proxy: Server, options: Options) -> None:
    """Its size is bounded before it is asked for."""
    arm64 = push.image("huge", platform="linux/arm64")
    manifest = {
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": arm64.config,
            "size": 1 << 40,
        },
        "layers": [],
    }
    pushed = push.manifest("huge", "", manifest, arm64.media_type)
    put(push, "huge", entry(push.image("huge"), "linux/amd64"), entry(pushed, "linux/arm64"))
    image = f"{proxy.host}/huge:1"
    found = audit_images([image], options(proxy.host))[image]
    assert found.verdict == "unknown"
    assert "more than" in found.reason
    assert not [path for path in proxy.paths() if "/blobs/" in path]


def test_a_config_is_read_once_for_all_tags_and_runs(
    push: Pusher, proxy: Server, options: Options, tmp_path: Path
) -> None:
    """Three requests for an index the first time; a known arm64 image costs one HEAD under a new tag."""
    arm64 = push.image("shared", platform="linux/arm64")
    kept = replace(options(proxy.host), cache=tmp_path)
    for tag in ("1", "2"):
        amd64 = push.image("shared", config={"Labels": {"tag": tag}})
        push.index("shared", tag, [amd64, arm64])
        proxy.requests.clear()
        image = f"{proxy.host}/shared:{tag}"
        assert audit_images([image], kept)[image].verdict == "multi-arch"
        child = f"/v2/shared/manifests/{arm64.digest}"
        further = (
            [("GET", child), ("GET", f"/v2/shared/blobs/{arm64.config}")] if tag == "1" else [("HEAD", child)]
        )
        assert [(seen.method, seen.path) for seen in proxy.requests] == [
            ("GET", f"/v2/shared/manifests/{tag}"),
            *further,
        ]
