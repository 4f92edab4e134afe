"""The manifest reader, fuzzed: any bytes give a value or a reason, and a yes only where arm64 is written."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.manifest import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Artifact,
    ImageManifest,
    Index,
    Platform,
    parse_config,
    parse_manifest,
)
from archshift.images.verdict import classify

TYPES = st.sampled_from([OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST, "", "application/json", "x"])
DIGESTS = st.sampled_from(["sha256:" + "a" * 64, "sha512:" + "b" * 128, "sha256:1", "", "md5:" + "a" * 32])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
WORDS = st.sampled_from(
    ["linux", "windows", "amd64", "arm64", "arm", "unknown", "", "v7", "v8", "v9", "ARM64"]
)
PLATFORM = st.fixed_dictionaries({}, optional={"os": WORDS, "architecture": WORDS, "variant": WORDS}) | JSON
DESCRIPTOR = st.fixed_dictionaries(
    {},
    optional={
        "mediaType": TYPES | JSON,
        "digest": DIGESTS | JSON,
        "size": st.integers() | JSON,
        "platform": PLATFORM,
        "annotations": st.just({"vnd.docker.reference.type": "attestation-manifest"}) | JSON,
        "artifactType": st.just("x/y") | JSON,
    },
)
DOCUMENT = st.fixed_dictionaries(
    {},
    optional={
        "schemaVersion": st.sampled_from([1, 2]) | JSON,
        "mediaType": TYPES | JSON,
        "manifests": st.lists(DESCRIPTOR, max_size=4) | JSON,
        "config": DESCRIPTOR | JSON,
        "layers": st.lists(DESCRIPTOR, max_size=3) | JSON,
        "artifactType": st.just("x/y") | JSON,
    },
)


@settings(deadline=None)
@given(st.binary(max_size=200) | DOCUMENT.map(lambda one: json.dumps(one).encode()), TYPES)
def test_any_manifest_is_read_or_refused(body: bytes, content_type: str) -> None:
    """No bytes raise anything but the one exception, and every value read has the shape it promises."""
    try:
        found = parse_manifest(body, content_type)
    except UnreadableError:
        return
    if isinstance(found, ImageManifest):
        assert found.config.digest.startswith("sha")
        return
    if isinstance(found, Artifact):
        assert found.kind
        return
    written = json.loads(body).get("manifests") or []
    for child in found.children:
        assert child.platform is None or (child.platform.os and child.platform.architecture)
    platforms = [child.platform for child in found.children if child.platform]
    if classify(platforms) in ("multi-arch", "arm64-only"):
        # A yes stands on an entry that says linux and arm64 itself, and is no attestation.
        assert any(
            isinstance(entry["platform"], dict)
            and (entry["platform"]["os"], entry["platform"]["architecture"].lower()) == ("linux", "arm64")
            and "vnd.docker.reference.type" not in (entry.get("annotations") or {})
            for entry in written
            if entry.get("platform") and entry["platform"].get("os") == "linux"
        )


@settings(deadline=None)
@given(st.binary(max_size=200) | JSON.map(lambda one: json.dumps(one).encode()))
def test_any_config_is_read_or_refused(body: bytes) -> None:
    """The same for configs: a platform is written there, or there is none."""
    try:
        config = parse_config(body)
    except UnreadableError:
        return
    assert config.platform.os
    assert config.platform.architecture


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {"os": WORDS, "architecture": WORDS},
        optional={
            "config": st.dictionaries(st.sampled_from(["Env", "Cmd", "Entrypoint", "WorkingDir"]), JSON)
        },
    )
)
def test_any_run_section_is_read_or_refused(document: dict[str, Any]) -> None:
    """Whatever types are in the part that the deep check reads."""
    try:
        config = parse_config(json.dumps(document).encode())
    except UnreadableError:
        return
    assert all(isinstance(word, str) for word in (*config.entrypoint, *config.cmd, config.working_dir))


def entry(**changes: Any) -> dict[str, Any]:
    """Return a good entry of an index, changed."""
    good = {
        "mediaType": OCI_MANIFEST,
        "digest": "sha256:" + "a" * 64,
        "size": 1,
        "platform": {"os": "linux", "architecture": "arm64"},
    }
    return {**good, **changes}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"digest": "sha256:xyz"}, "the manifest points to 'sha256:xyz', which is not a digest"),
        ({"digest": 1}, "digest is not a string"),
        ({"size": "1"}, "the manifest has no valid size for"),
        ({"size": -1}, "the manifest has no valid size for"),
        ({"size": True}, "the manifest has no valid size for"),
        ({"platform": "linux/arm64"}, "the index has a platform that is not an object"),
        ({"platform": {"os": 1}}, "os is not a string"),
    ],
)
def test_a_broken_entry_spoils_the_index(change: dict[str, Any], reason: str) -> None:
    """One entry that cannot be read is enough: what it would have said is not known."""
    with pytest.raises(UnreadableError, match=reason):
        parse_manifest(json.dumps({"manifests": [entry(**change)]}).encode())


def test_too_many_entries_are_refused() -> None:
    """An index of a million entries is nobody's image."""
    with pytest.raises(UnreadableError, match="has 1001 manifests, more than 1000"):
        parse_manifest(json.dumps({"manifests": [entry()] * 1001}).encode())


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "text/plain; charset=utf-8", f"{OCI_INDEX}; x=y"]
)
def test_content_types_of_sloppy_registries(content_type: str) -> None:
    """The document says what it is; a header that says nothing does not matter."""
    found = parse_manifest(json.dumps({"manifests": [entry()]}).encode(), content_type)
    assert isinstance(found, Index)
    assert [child.platform for child in found.children] == [Platform("linux", "arm64")]


def test_a_docker_manifest_without_layers_is_an_image() -> None:
    """FROM scratch with nothing in it is still one."""
    config = {"mediaType": DOCKER_CONFIG, "digest": "sha256:" + "a" * 64, "size": 1}
    found = parse_manifest(json.dumps({"schemaVersion": 2, "config": config}).encode(), DOCKER_MANIFEST)
    assert isinstance(found, ImageManifest)


DIGEST = "sha256:" + "a" * 64
CONFIG = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"manifests": [], "manifests": []}', "has a key twice"),
        ('{"manifests": [], "Manifests": []}', "the key 'Manifests', which a container runtime takes"),
        ('{"Config": {}, "layers": []}', "the key 'Config', which a container runtime takes"),
        ('{"config": CONFIG, "layer\u017f": []}', "which a container runtime takes for another key"),
        ('{"config": CONFIG, "Layers": []}', "the key 'Layers'"),
        ('{"config": {"digest": "DIGEST", "size": 1, "Size": 2}}', "the descriptor has the key 'Size'"),
        ('{"manifests": [{"platform": {"OS": "linux"}}]}', "the key 'OS'"),
        ('{"config": {"digest": "DIGEST", "size": 9223372036854775808}}', "no valid size"),
        ('{"config": {"digest": "DIGEST", "size": 1e3}}', "no valid size"),
        ('{"config": {"digest": "DIGEST", "size": NaN}}', "not valid JSON"),
        ('{"config": CONFIG, "annotations": {"a": "\\ud800"}}', "not valid JSON"),
        ('{"manifests": [{"platform": {"os": "\\u001b[31m"}}]}', "not printable"),
        ('{"manifests": [{"platform": {"os": "LONG"}}]}', "or more than 255"),
        ('{"manifests": [{"platform": {"os": "a b"}}]}', "not a name of a platform"),
        ('{"mediaType": "x\\u202ey", "layers": []}', "not printable"),
        ('{"manifests": [OBJECTS]}', "more than 100000 objects"),
    ],
)
def test_what_a_runtime_reads_differently_is_refused(text: str, reason: str) -> None:
    """Go takes keys without regard to case, and the last of two: what is proven must be what starts."""
    text = text.replace("CONFIG", json.dumps(CONFIG)).replace("DIGEST", DIGEST).replace("LONG", "x" * 300_000)
    text = text.replace("OBJECTS", ",".join(["{}"] * 100_001))
    with pytest.raises(UnreadableError) as refused:
        parse_manifest(text.encode())
    assert reason in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "text",
    [
        '{"os": "linux", "OS": "windows", "architecture": "arm64"}',
        '{"os": "linux", "architecture": "arm64", "config": {"Cmd": ["/a"], "cmd": ["/b"]}}',
        '{"os": "linux", "architecture": "arm64", "config": {"entrypoint": ["/a"]}}',
        '{"os": "linux", "architecture": "arm64", "architecture": "amd64"}',
        '{"os": "linux", "architecture": "arm64", "config": {"Cmd": ["\\udfff"]}}',
    ],
)
def test_a_config_that_is_read_differently_is_refused(text: str) -> None:
    """The same for what an image starts."""
    with pytest.raises(UnreadableError):
        parse_config(text.encode())


def test_labels_may_differ_in_case_only() -> None:
    """They are names of the user's own, and both readers keep them apart."""
    run = '{"Labels": {"a": "", "A": ""}, "Cmd": ["\\u00fc"]}'
    text = f'{{"os": "linux", "architecture": "arm64", "config": {run}}}'
    assert parse_config(text.encode()).cmd == ("ü",)
