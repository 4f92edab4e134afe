"""Verdicts of real images in a real registry, rivals' bugs included."""

import asyncio
import gc
import json
from collections.abc import Callable
from typing import Any

import pytest

from archshift.images.audit import AuditOptions, audit_images
from archshift.images.registry.client import Limits, RegistryHost
from archshift.images.verdict import ImageVerdict
from tests.images.build import OCI_INDEX, OCI_MANIFEST, Pushed, Pusher
from tests.images.servers import Registry, Server

Options = Callable[..., AuditOptions]
Audit = Callable[[str], ImageVerdict]


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize(
    ("platforms", "verdict"),
    [
        (("linux/amd64", "linux/arm64"), "multi-arch"),
        (("linux/amd64", "linux/arm64/v8"), "multi-arch"),
        (("linux/amd64",), "amd64-only"),
        (("linux/arm64",), "arm64-only"),
        (("linux/s390x", "linux/arm/v7"), "other"),
        (("linux/amd64", "linux/arm/v7"), "amd64-only"),
        (("linux/amd64", "windows/arm64"), "amd64-only"),
        (("windows/amd64", "linux/arm64"), "arm64-only"),
    ],
)
def test_an_index_is_judged_by_its_linux_entries(
    push: Pusher, audit: Audit, platforms: tuple[str, ...], verdict: str, docker: bool
) -> None:
    """Only linux on the exact architecture counts, whichever format lists it."""
    name = f"index/{'docker' if docker else 'oci'}/" + "-".join(platforms).replace("/", "_").lower()
    pushed = push.multi(name, "1", *platforms, docker=docker)
    found = audit(f"{name}:1")
    assert (found.verdict, found.digest, found.reason) == (verdict, pushed.digest, "")
    assert found.platforms == tuple(sorted(one.removesuffix("/v8") for one in platforms))


@pytest.mark.parametrize("docker", [False, True], ids=["oci", "docker"])
@pytest.mark.parametrize(
    ("platform", "verdict"),
    [
        ("linux/amd64", "amd64-only"),
        ("linux/arm64", "arm64-only"),
        ("linux/aarch64", "arm64-only"),
        ("linux/arm64/v8", "arm64-only"),
        ("windows/arm64", "other"),
        ("linux/arm/v7", "other"),
    ],
)
def test_a_single_manifest_is_judged_by_its_config(
    push: Pusher, audit: Audit, platform: str, verdict: str, docker: bool
) -> None:
    """The config blob decides (noe took amd64 for granted, kubearchinspect ignored the os)."""
    name = f"single/{'docker' if docker else 'oci'}/" + platform.replace("/", "_")
    pushed = push.image(name, "1", platform, docker=docker)
    found = audit(f"{name}:1")
    assert (found.verdict, found.digest) == (verdict, pushed.digest)


def test_a_config_without_a_platform_is_unknown(push: Pusher, audit: Audit) -> None:
    """No platform means no verdict: a default is never taken (noe, Kyverno)."""
    push.image("single/none", "1", "")
    found = audit("single/none:1")
    assert (found.verdict, found.platforms) == ("unknown", ())
    assert "does not name an os and an architecture" in found.reason


def test_attestations_are_not_platforms(push: Pusher, audit: Audit) -> None:
    """One image and its attestation is one platform, however the attestation is marked."""
    image = push.image("attested", platform="linux/amd64")
    marked = push.image("attested", platform="linux/arm64", extra={"annotations": {"n": "1"}})
    plain = push.image("attested", platform="unknown/unknown", extra={"annotations": {"n": "2"}})
    push.index(
        "attested",
        "1",
        [image, marked, plain],
        annotations={1: {"vnd.docker.reference.type": "attestation-manifest"}},
    )
    found = audit("attested:1")
    assert (found.verdict, found.platforms) == ("amd64-only", ("linux/amd64",))


def test_a_nested_index_is_read_through(push: Pusher, audit: Audit) -> None:
    """An index in an index counts with what is in it."""
    inner = push.multi("nested", "inner", "linux/arm64")
    outer = push.index("nested", "1", [push.image("nested", platform="linux/amd64"), inner])
    found = audit("nested:1")
    assert (found.verdict, found.digest) == ("multi-arch", outer.digest)


def test_indexes_nested_too_deep_are_unknown(push: Pusher, audit: Audit) -> None:
    """The depth is bounded, and past it nothing is assumed."""
    pushed = push.multi("deep", "0", "linux/amd64", "linux/arm64")
    for level in range(1, 5):
        pushed = push.index("deep", str(level), [pushed])
    assert audit("deep:2").verdict == "multi-arch"
    found = audit("deep:4")
    assert (found.verdict, found.reason) == ("unknown", "its indexes are nested more than 3 levels deep")


def test_an_entry_without_a_platform_is_asked_for_it(push: Pusher, audit: Audit) -> None:
    """The platform in an index is optional; then the image's own config says it."""
    amd64, arm64 = (push.image("bare", platform=f"linux/{one}") for one in ("amd64", "arm64"))
    amd64.platform, arm64.platform = {}, {}
    push.index("bare", "1", [amd64, arm64])
    assert audit("bare:1").verdict == "multi-arch"


def test_an_arm64_image_that_is_gone_does_not_count(push: Pusher, audit: Audit) -> None:
    """An index may outlive its images: what a Graviton node could not pull is not there."""
    amd64, arm64 = (push.image("gone", platform=f"linux/{one}") for one in ("amd64", "arm64"))
    push.index("gone", "1", [amd64, arm64])
    push.delete("gone", arm64.digest)
    found = audit("gone:1")
    assert (found.verdict, found.platforms) == ("amd64-only", ("linux/amd64",))
    assert found.reason == (
        f"its index lists linux/arm64, but the registry does not have that image ({arm64.digest})"
    )


def test_a_later_arm64_variant_does_not_count(push: Pusher, audit: Audit) -> None:
    """arm64/v9 runs on some Graviton only, so it proves nothing about a fleet, and the reason says so."""
    push.multi("variant", "1", "linux/amd64", "linux/arm64/v9")
    found = audit("variant:1")
    assert (found.verdict, found.platforms) == ("amd64-only", ("linux/amd64", "linux/arm64/v9"))
    assert found.reason == "linux/arm64/v9 does not count, because not every node runs v9"


def test_an_image_that_is_called_by_its_configs_type(push: Pusher, audit: Audit) -> None:
    """As `crane index append` enters images: they are no artifacts."""
    images = [push.image("crane", platform=f"linux/{one}") for one in ("amd64", "arm64")]
    kind = {"artifactType": "application/vnd.oci.image.config.v1+json"}
    entries = [
        {
            "mediaType": one.media_type,
            "digest": one.digest,
            "size": one.size,
            "platform": one.platform,
            **kind,
        }
        for one in images
    ]
    push.manifest("crane", "1", {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}, OCI_INDEX)
    assert audit("crane:1").verdict == "multi-arch"


def test_an_artifact_is_no_image(push: Pusher, audit: Audit) -> None:
    """A chart or a signature in the registry has no platform and gets none."""
    push.image("chart", "1", artifact="application/vnd.cncf.helm.config.v1+json")
    push.image("signed", "1", extra={"artifactType": "application/vnd.example.signature"})
    for name, kind in (("chart", "helm"), ("signed", "signature")):
        found = audit(f"{name}:1")
        assert found.verdict == "unknown"
        assert found.reason.startswith("it is not a container image, but an artifact of type")
        assert kind in found.reason


def test_an_index_of_nothing_but_attestations_is_other(push: Pusher, audit: Audit) -> None:
    """Nothing to run is a known no."""
    image = push.image("hollow", platform="unknown/unknown")
    push.index("hollow", "1", [image])
    found = audit("hollow:1")
    assert (found.verdict, found.reason) == ("other", "its index contains no image")


def test_a_schema_1_manifest_is_unknown(proxy: Server, options: Options) -> None:
    """Runtimes no longer run schema 1; it is named, and its architecture is not trusted."""
    body = json.dumps({"schemaVersion": 1, "name": "old", "tag": "1", "architecture": "arm64"}).encode()
    proxy.answer(
        "manifests", 200, body, Content_Type="application/vnd.docker.distribution.manifest.v1+prettyjws"
    )
    image = f"{proxy.host}/old:1"
    found = audit_images([image], options(proxy.host))[image]
    assert found.verdict == "unknown"
    assert found.reason.startswith("its manifest has schema 1")


def test_the_digest_decides_where_a_tag_is_beside_it(push: Pusher, proxy: Server, options: Options) -> None:
    """Of tag and digest the digest is asked (noe dropped it); the tag is not looked at."""
    old = push.multi("pinned", "1", "linux/amd64")
    push.multi("pinned", "1", "linux/amd64", "linux/arm64")
    image = f"{proxy.host}/pinned:1@{old.digest}"
    found = audit_images([image], options(proxy.host))[image]
    assert (found.verdict, found.digest) == ("amd64-only", old.digest)
    assert f"/v2/pinned/manifests/{old.digest}" in proxy.paths()
    assert not any(path.endswith("/1") for path in proxy.paths())


def test_every_image_is_asked_once(push: Pusher, proxy: Server, options: Options) -> None:
    """5,000 pods of 500 images cost one reading of each image, spelled one way or another."""
    for number in range(499):
        push.image("fleet", f"v{number}", "linux/arm64", extra={"annotations": {"number": str(number)}})
    push.multi("fleet", "latest", "linux/amd64", "linux/arm64")
    names = [f"{proxy.host}/fleet", *(f"{proxy.host}/fleet:v{number}" for number in range(499))]
    pods = [names[number % 500] for number in range(4999)] + [f"{proxy.host}/fleet:latest"]
    # A try that a busy machine makes too slow would be another request.
    found = audit_images(pods, options(proxy.host, limits=Limits()))
    verdicts = [one.verdict for one in found.values()]
    assert (verdicts.count("multi-arch"), verdicts.count("arm64-only")) == (2, 499)
    asked = [path for path in proxy.paths() if "/manifests/" in path]
    # 500 tags, and the arm64 image of the one index.
    assert len(asked) == len(set(asked)) == 501
    # And what decides: the config, which all these images share.
    assert len(proxy.requests) == 502


def test_an_unreadable_image_does_not_hide_the_others(
    push: Pusher, registry: Registry, options: Options
) -> None:
    """One bad name, one missing image: each is unknown with its reason, and the rest is judged."""
    push.multi("fine", "1", "linux/amd64", "linux/arm64")
    names = [f"{registry.host}/fine:1", "Not An Image", f"{registry.host}/fine:2", "sha256:" + "0" * 64]
    found = audit_images(names, options(registry.host))
    assert list(found) == names
    assert [one.verdict for one in found.values()] == ["multi-arch", "unknown", "unknown", "unknown"]
    assert found["Not An Image"].reason == "'Not An Image': 'Not An Image' is not a valid repository name"
    assert (
        found[names[3]].reason
        == f"{names[3]!r}: an image id alone does not name a registry; use a name with a tag or a digest"
    )
    assert found[names[2]].reason == f"{registry.host} does not have it (404)"


def test_plain_http_is_only_for_hosts_that_are_named(
    push: Pusher, registry: Registry, options: Options
) -> None:
    """Not even loopback is spoken to in the clear unless the user says so."""
    push.multi("plain", "1", "linux/arm64")
    image = f"{registry.host}/plain:1"
    found = audit_images([image], options())[image]
    assert found.verdict == "unknown"
    assert f"{registry.host}: the TLS handshake failed" in found.reason


def test_it_works_within_a_running_loop(push: Pusher, registry: Registry, options: Options) -> None:
    """A Pulumi program is called from a running event loop, and calls the synchronous door."""
    push.multi("loop", "1", "linux/amd64")
    image = f"{registry.host}/loop:1"

    async def program() -> ImageVerdict:
        return audit_images([image], options(registry.host))[image]

    assert asyncio.run(program()).verdict == "amd64-only"


def test_mirrors_are_asked_first_and_the_registry_last(
    push: Pusher, servers: Callable[[str], Server], registry: Registry, options: Options
) -> None:
    """A mirror that has the image answers for it, under its own path; else the registry does."""
    push.multi("hub/team/app", "1", "linux/amd64", "linux/arm64")
    push.multi("team/app", "2", "linux/amd64")
    origin, mirror = servers(registry.base), servers(registry.base)
    hosts = {origin.host: RegistryHost(plain_http=True, mirrors=(f"{mirror.host}/hub",))}
    first, second, third = (f"{origin.host}/team/app:{tag}" for tag in (1, 2, 3))
    found = audit_images([first], options(mirror.host, hosts=hosts))
    assert found[first].verdict == "multi-arch"
    assert not origin.requests
    found = audit_images([second, third], options(mirror.host, hosts=hosts))
    assert found[second].verdict == "amd64-only"
    assert (
        found[third].reason == f"{mirror.host} does not have it (404); {origin.host} does not have it (404)"
    )


def test_the_json_form_is_the_documented_one(push: Pusher, audit: Audit, registry: Registry) -> None:
    """Pipelines read these keys."""
    pushed: Pushed = push.multi("json", "1", "linux/amd64")
    data: dict[str, Any] = audit("json:1").to_dict()
    assert data.pop("checked_at").endswith("+00:00")
    assert data == {
        "image": f"{registry.host}/json:1",
        "verdict": "amd64-only",
        "platforms": ["linux/amd64"],
        "digest": pushed.digest,
        "reason": "",
    }


def test_a_manifest_of_two_minds_is_unknown(proxy: Server, options: Options) -> None:
    """A document that reads as index and image, or is labelled as another type, is not trusted."""
    both = b'{"schemaVersion": 2, "manifests": [], "config": {}, "layers": []}'
    proxy.answer("both/manifests", 200, both, Content_Type=OCI_MANIFEST)
    index = b'{"mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'
    proxy.answer("other/manifests", 200, index, Content_Type=OCI_MANIFEST)
    names = [f"{proxy.host}/both", f"{proxy.host}/other"]
    found = audit_images(names, options(proxy.host))
    assert found[names[0]].reason == "the manifest is both an index and an image"
    assert found[names[1]].reason.startswith("the manifest has the type")
    assert {one.verdict for one in found.values()} == {"unknown"}


def test_who_watches_an_audit_sees_every_image_once(
    push: Pusher, registry: Registry, options: Options
) -> None:
    """Also those that cannot be read; one image under two commands, or twice, is one."""
    push.multi("watched/web", "1", "linux/amd64")
    images = [f"{registry.host}/watched/{name}" for name in ("web:1", "gone:1", "web:1")] + ["UPPER case"]
    seen: list[tuple[int, int]] = []
    audit_images(images, options(registry.host, watch=lambda done, total: seen.append((done, total))))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_collector_of_cycles_is_as_before_after_an_audit(
    push: Pusher, registry: Registry, options: Options
) -> None:
    """An audit lets it look at more objects at a time; the program goes on with what its owner set."""
    push.image("app", "1", "linux/amd64")
    during: list[tuple[int, ...]] = []
    before = gc.get_threshold()
    audit_images([f"{registry.host}/app:1"], options(watch=lambda *_: during.append(gc.get_threshold())))
    assert during[0][0] > before[0]
    assert gc.get_threshold() == before
