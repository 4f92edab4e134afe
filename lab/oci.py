"""Makes images in memory and pushes them: small real ELF headers, tar layers, configs, manifests, indexes.

The same arguments give the same bytes, and so the same digests, on every machine.
"""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"

MACHINES = {"amd64": 62, "arm64": 183, "arm": 40, "s390x": 22}


def elf(machine: str, interpreter: str = "") -> bytes:
    """Return the headers of an ELF file: 64 bit (32 for arm), with PT_INTERP if there is an interpreter."""
    wide = machine != "arm"
    order = ">" if machine == "s390x" else "<"
    ident = b"\x7fELF" + bytes([2 if wide else 1, 2 if order == ">" else 1, 1]) + bytes(9)
    header_size, entry_size = (64, 56) if wide else (52, 32)
    path = interpreter.encode() + b"\0" if interpreter else b""
    words = "QQQ" if wide else "III"
    header = struct.pack(
        f"{order}HHI{words}IHHHHHH",
        2, MACHINES[machine], 1, 0, header_size if path else 0, 0,
        0, header_size, entry_size, 1 if path else 0, 0, 0, 0,
    )  # fmt: skip
    program = b""
    at = header_size + entry_size
    if path and wide:
        program = struct.pack(f"{order}IIQQQQQQ", 3, 4, at, 0, 0, len(path), len(path), 1)
    elif path:
        program = struct.pack(f"{order}IIIIIIII", 3, at, 0, 0, len(path), len(path), 4, 1)
    return ident + header + program + path


def layer(files: Mapping[str, bytes]) -> bytes:
    """Return a layer with executable files, given path to content."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            info.mode, info.size = 0o755, len(content)
            tar.addfile(info, io.BytesIO(content))
    # Level 0 does not compress, because zlib versions compress to different bytes.
    return gzip.compress(archive.getvalue(), compresslevel=0, mtime=0)


def digest_of(content: bytes) -> str:
    """Return the sha256 digest."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _diff_id(layer: bytes) -> str:
    """Return the digest of the unpacked layer, or of the layer itself if it is no gzip."""
    with suppress(OSError, EOFError, zlib.error):
        return digest_of(gzip.decompress(layer))
    return digest_of(layer)


@dataclass
class Pushed:
    """A pushed manifest, with all that an index needs."""

    digest: str
    size: int
    media_type: str
    platform: dict[str, str] = field(default_factory=dict)
    config: str = ""


class Pusher:
    """Pushes to a registry on loopback."""

    def __init__(self, base: str, login: tuple[str, str] | None = None, verify: Any = True) -> None:
        """Push to a base URL such as ``http://127.0.0.1:5000``."""
        self._client = httpx.Client(base_url=base, auth=login, verify=verify, trust_env=False)
        self._known: set[tuple[str, str]] = set()

    def blob(self, repository: str, content: bytes) -> str:
        """Upload a blob and return its digest."""
        digest = digest_of(content)
        if (repository, digest) not in self._known:
            start = self._client.post(f"/v2/{repository}/blobs/uploads/").raise_for_status()
            self._client.put(
                httpx.URL(start.headers["Location"]).copy_merge_params({"digest": digest}), content=content
            ).raise_for_status()
            self._known.add((repository, digest))
        return digest

    def manifest(self, repository: str, tag: str, document: Any, media_type: str) -> Pushed:
        """Put a manifest, by digest if the tag is empty."""
        body = json.dumps(document).encode()
        path = f"/v2/{repository}/manifests/{tag or digest_of(body)}"
        self._client.put(path, content=body, headers={"Content-Type": media_type}).raise_for_status()
        return Pushed(digest_of(body), len(body), media_type)

    def image(
        self,
        repository: str,
        tag: str = "",
        platform: str = "linux/amd64",
        *,
        layers: Sequence[bytes] = (),
        config: Mapping[str, Any] | None = None,
        docker: bool = False,
        artifact: str = "",
        extra: Mapping[str, Any] | None = None,
    ) -> Pushed:
        """Push a single image for ``os/architecture[/variant]``; an empty platform leaves it out."""
        parts = platform.split("/") if platform else []
        named = dict(zip(("os", "architecture", "variant"), parts, strict=False))
        machine = named.get("architecture", "")
        layers = layers or (layer({"app": elf(machine if machine in MACHINES else "amd64")}),)
        rootfs = {"type": "layers", "diff_ids": [_diff_id(content) for content in layers]}
        content = json.dumps({**named, "config": config or {}, "rootfs": rootfs}).encode()
        descriptors = [
            {"mediaType": OCI_LAYER, "digest": self.blob(repository, archive), "size": len(archive)}
            for archive in layers
        ]  # fmt: skip
        media_type = DOCKER_MANIFEST if docker else OCI_MANIFEST
        document = {
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {
                "mediaType": artifact or (DOCKER_CONFIG if docker else OCI_CONFIG),
                "digest": self.blob(repository, content),
                "size": len(content),
            },
            "layers": descriptors,
            **(extra or {}),
        }
        pushed = self.manifest(repository, tag, document, media_type)
        pushed.platform, pushed.config = named, document["config"]["digest"]
        return pushed

    def index(
        self,
        repository: str,
        tag: str,
        children: Sequence[Pushed],
        *,
        docker: bool = False,
        annotations: Mapping[int, Mapping[str, str]] | None = None,
    ) -> Pushed:
        """Push an index of children; a child without a platform gets no platform in the index."""
        media_type = DOCKER_LIST if docker else OCI_INDEX
        manifests = []
        for number, child in enumerate(children):
            entry: dict[str, Any] = {
                "mediaType": child.media_type, "digest": child.digest, "size": child.size
            }  # fmt: skip
            if child.platform:
                entry["platform"] = child.platform
            if annotations and number in annotations:
                entry["annotations"] = dict(annotations[number])
            manifests.append(entry)
        document = {"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}
        return self.manifest(repository, tag, document, media_type)

    def multi(self, repository: str, tag: str, *platforms: str, docker: bool = False) -> Pushed:
        """Push an index with an image for each platform."""
        images = [self.image(repository, platform=platform, docker=docker) for platform in platforms]
        return self.index(repository, tag, images, docker=docker)
