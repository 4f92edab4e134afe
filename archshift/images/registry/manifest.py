"""Reads manifests, indexes and image configs. Pure; the only exception is ``UnreadableError``.

Formats: https://github.com/opencontainers/image-spec (manifest.md, image-index.md, config.md) and
Docker's image manifest version 2, schema 2.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from archshift.common.text import printable
from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.reference import is_digest
from archshift.images.registry.strict_json import check_keys, keys, read_object

OCI_INDEX: Final = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST: Final = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST: Final = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG: Final = "application/vnd.docker.container.image.v1+json"

INDEX_TYPES: Final = (OCI_INDEX, DOCKER_LIST)
MANIFEST_TYPES: Final = (OCI_MANIFEST, DOCKER_MANIFEST)
_CONFIG_TYPES: Final = (OCI_CONFIG, DOCKER_CONFIG)
SCHEMA_1: Final = "application/vnd.docker.distribution.manifest.v1+"

ACCEPT: Final = ", ".join((*INDEX_TYPES, *MANIFEST_TYPES))
"""Always all four types. With fewer, a registry may convert the manifest or choose a platform itself."""

MAX_ENTRIES: Final = 1000
"""The most children of an index, or layers of an image. Real images have tens."""

_LONGEST_TEXT: Final = 255
"""The longest type and the longest part of a platform, in characters. Real ones have tens."""

_LONGEST_PATH: Final = 4096
_LARGEST_SIZE: Final = (1 << 63) - 1
"""Sizes are signed numbers of 64 bits in the specification."""

# As in containerd (containerd/platforms, platforms.go).
_PLATFORM_PART: Final = re.compile(r"[A-Za-z0-9_.-]*")

# What archshift reads of objects with fixed keys.
_MANIFEST_KEYS: Final = keys(
    "schemaVersion", "mediaType", "artifactType", "manifests", "config", "layers", "subject", "annotations"
)  # fmt: skip
_DESCRIPTOR_KEYS: Final = keys(
    "mediaType", "artifactType", "digest", "size", "platform", "annotations", "urls", "data"
)  # fmt: skip
_PLATFORM_KEYS: Final = keys("os", "architecture", "variant", "os.version", "os.features")
_CONFIG_KEYS: Final = keys("os", "architecture", "variant", "config", "rootfs", "os.version", "os.features")
_RUN_KEYS: Final = keys("Entrypoint", "Cmd", "Env", "WorkingDir", "User")

_ATTESTATION: Final = "vnd.docker.reference.type"

# Other names of the same machine, as in containerd (containerd/platforms, database.go).
_ARCHITECTURES: Final = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}


@dataclass(frozen=True, slots=True, order=True)
class Platform:
    """A platform, in the spelling of container runtimes.

    Attributes:
        os: For instance linux or windows.
        architecture: For instance amd64 or arm64.
        variant: For instance v7; empty for none. The variant v8 of arm64 is the default and reads as none.
    """

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        """Return ``os/architecture[/variant]``."""
        return f"{self.os}/{self.architecture}" + (f"/{self.variant}" if self.variant else "")


@dataclass(frozen=True, slots=True)
class Descriptor:
    """A pointer to content: its type, digest and size in bytes."""

    media_type: str
    digest: str
    size: int


@dataclass(frozen=True, slots=True)
class Child:
    """An entry of an index that may be an image.

    Attributes:
        platform: The platform from the index; None if the index has none.
    """

    descriptor: Descriptor
    platform: Platform | None


@dataclass(frozen=True, slots=True)
class Artifact:
    """Content that is not a container image, such as a chart or a model. A pod can mount it as a volume.

    Attributes:
        kind: Its type.
        platform: The platform from the index; None if there is none.
    """

    kind: str
    platform: Platform | None = None


@dataclass(frozen=True, slots=True)
class Index:
    """An OCI index or Docker manifest list, without attestations.

    Attributes:
        children: The entries that may be images.
        artifacts: The entries that the index calls artifacts.
    """

    children: tuple[Child, ...]
    artifacts: tuple[Artifact, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageManifest:
    """An image for one platform. Only its config names the platform."""

    config: Descriptor
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The config of an image.

    Attributes:
        working_dir: ``WorkingDir``, ``/`` by default.
        path: PATH from ``Env``; None if it is not set.
    """

    platform: Platform
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = "/"
    path: str | None = None


def parse_manifest(body: bytes, content_type: str = "") -> Index | ImageManifest | Artifact:
    """Read the manifest or index that a registry returned for a tag or a digest.

    Args:
        body: The response's bytes, unchanged.
        content_type: The response's Content-Type. It only serves to detect contradictions, because some
            registries send application/json or nothing.

    Raises:
        UnreadableError: It is no index, image or artifact; the text is the reason.
    """
    content_type = content_type.partition(";")[0].strip().lower()
    data = read_object(body, "manifest")
    check_keys(data, _MANIFEST_KEYS, "manifest")
    media_type = _text(data, "mediaType")
    if data.get("schemaVersion") == 1 or content_type.startswith(SCHEMA_1):
        raise UnreadableError(
            "its manifest has schema 1, which container runtimes no longer support; push the image again"
        )
    known = (*INDEX_TYPES, *MANIFEST_TYPES)
    if media_type and content_type in known and media_type != content_type:
        raise UnreadableError(
            f"the manifest has the type {media_type!r}, but the registry says {content_type!r}"
        )
    media_type = media_type or (content_type if content_type in known else "")
    # Two clients could read two images from a document that is both (CVE-2021-41190).
    if "manifests" in data and ("config" in data or "layers" in data):
        raise UnreadableError("the manifest is both an index and an image")
    if media_type in INDEX_TYPES or (not media_type and "manifests" in data):
        return _index(data)
    if media_type in MANIFEST_TYPES or (not media_type and "config" in data):
        return _image(data)
    raise UnreadableError(f"it is not a container image: its manifest has the type {media_type!r}")


def parse_config(body: bytes) -> ImageConfig:
    """Read an image's config blob.

    Raises:
        UnreadableError: It is invalid, or has no platform. There is no default.
    """
    data = _config(body)
    platform = _platform(data)
    if not platform.os or not platform.architecture:
        raise UnreadableError("the image config does not name an os and an architecture")
    run = data.get("config")
    run = run if isinstance(run, dict) else {}
    check_keys(run, _RUN_KEYS, "image config")
    path = None
    for entry in _texts(run, "Env"):
        name, _, value = entry.partition("=")
        path = value if name == "PATH" else path
    return ImageConfig(
        platform=platform,
        entrypoint=_texts(run, "Entrypoint"),
        cmd=_texts(run, "Cmd"),
        working_dir=_text(run, "WorkingDir", _LONGEST_PATH) or "/",
        path=path,
    )


def parse_platform(body: bytes) -> Platform | None:
    """Read the platform of an image's config blob; None if it names none.

    Raises:
        UnreadableError: It is invalid.
    """
    platform = _platform(_config(body))
    return platform if platform.os and platform.architecture else None


def _config(body: bytes) -> dict[str, Any]:
    data = read_object(body, "image config")
    check_keys(data, _CONFIG_KEYS, "image config")
    return data


def _index(data: Mapping[str, Any]) -> Index:
    children = []
    artifacts = []
    for entry in _objects(data, "manifests"):
        annotations = entry.get("annotations")
        if isinstance(annotations, dict) and _ATTESTATION in annotations:
            continue
        platform = None
        if entry.get("platform") is not None:
            if not isinstance(entry["platform"], dict):
                raise UnreadableError("the index has a platform that is not an object")
            check_keys(entry["platform"], _PLATFORM_KEYS, "platform")
            platform = _platform(entry["platform"])
            # Attestations of BuildKit and similar entries have the platform "unknown".
            if platform.os in ("", "unknown") or platform.architecture in ("", "unknown"):
                continue
        descriptor = _descriptor(entry)
        if descriptor.media_type not in (*INDEX_TYPES, *MANIFEST_TYPES):
            continue
        if kind := _artifact(entry):
            artifacts.append(Artifact(kind, platform))
        else:
            children.append(Child(descriptor, platform))
    return Index(tuple(children), tuple(artifacts))


def _image(data: Mapping[str, Any]) -> ImageManifest | Artifact:
    config = data.get("config")
    if not isinstance(config, dict):
        raise UnreadableError("the image manifest has no config")
    descriptor = _descriptor(config)
    if _artifact(data) or descriptor.media_type not in _CONFIG_TYPES:
        return Artifact(_artifact(data) or descriptor.media_type)
    return ImageManifest(descriptor, tuple(_descriptor(layer) for layer in _objects(data, "layers")))


def _artifact(data: Mapping[str, Any]) -> str:
    """Return the type of an artifact; empty for a container image.

    The field may repeat the type of the manifest's config. crane writes it so, also for images.
    """
    kind = _text(data, "artifactType")
    return "" if kind in _CONFIG_TYPES else kind


def _platform(data: Mapping[str, Any]) -> Platform:
    os, architecture, variant = (_platform_part(data, key) for key in ("os", "architecture", "variant"))
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant or implied
    if architecture == "arm64" and variant in ("8", "v8"):
        variant = ""
    return Platform(os, architecture, variant)


def _platform_part(data: Mapping[str, Any], key: str) -> str:
    part = _text(data, key)
    if not _PLATFORM_PART.fullmatch(part):
        raise UnreadableError(f"the {key} {printable(part, 60)!r} is not a name of a platform")
    return part.lower()


def _descriptor(data: Mapping[str, Any]) -> Descriptor:
    check_keys(data, _DESCRIPTOR_KEYS, "descriptor")
    digest, size = _text(data, "digest"), data.get("size")
    if not is_digest(digest):
        raise UnreadableError(f"the manifest points to {digest[:80]!r}, which is not a digest")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _LARGEST_SIZE:
        raise UnreadableError(f"the manifest has no valid size for {digest}")
    return Descriptor(_text(data, "mediaType").lower(), digest, size)


def _objects(data: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    value = data.get(key)
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise UnreadableError(f"the manifest's {key} are not a list of objects")
    if len(value) > MAX_ENTRIES:
        raise UnreadableError(f"the manifest has {len(value)} {key}, more than {MAX_ENTRIES}")
    return value


def _text(data: Mapping[str, Any], key: str, most: int = _LONGEST_TEXT) -> str:
    value = data.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UnreadableError(f"{key} is not a string")
    if printable(value, most) != value:
        raise UnreadableError(f"{key} has characters that are not printable, or more than {most}")
    return value


def _texts(data: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = data.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
        raise UnreadableError(f"the image config's {key} is not a list of strings")
    return tuple(value)
