"""From a reference to a verdict. Reads the cache, and asks the registry only where that is not enough."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

from archshift.common.architectures import ARM64
from archshift.images.cache import EvidenceCache
from archshift.images.registry.client import Fetched, RegistryClient
from archshift.images.registry.errors import AwayError, MissingError, UnreadableError
from archshift.images.registry.manifest import (
    INDEX_TYPES,
    Artifact,
    Child,
    ImageManifest,
    Index,
    Platform,
    parse_config,
    parse_manifest,
    parse_platform,
)
from archshift.images.registry.reference import ImageReferenceError, Reference, is_digest, parse_reference
from archshift.images.registry.shared import Shared
from archshift.images.verdict import MULTI_ARCH, ImageVerdict, classify, unknown

Clock = Callable[[], float]
"""Seconds since 1970."""

# Kinds of the cache. Raise the number when the evidence changes.
_IMAGE: Final = "image-3"
_CONFIG: Final = "config-2"
_TAG: Final = "tag"

_LINUX_ARM64: Final = Platform("linux", ARM64)
_NO_PLATFORM: Final = Platform("", "")


@dataclass(frozen=True, slots=True)
class ImageEvidence:
    """The content of a digest, as read from its registry.

    Attributes:
        images: (platform, manifest digest) of each image in it, in the order of the index.
        remarks: Texts for the user, such as images that the index lists but the registry does not have.
        checked_at: The time of the reading, in seconds since 1970.
        artifacts: (platform, type) of each artifact in it; the platform is empty if it has none.
    """

    digest: str
    images: tuple[tuple[Platform, str], ...]
    remarks: tuple[str, ...]
    checked_at: float
    artifacts: tuple[tuple[Platform, str], ...] = ()

    def manifest_for(self, architecture: str) -> str:
        """Return the digest of the image that a Linux node of an architecture pulls; empty if none."""
        for platform, digest in self.images:
            if platform == Platform("linux", architecture):
                return digest
        return ""

    def verdict(self, image: str, *, as_volume: bool = False) -> ImageVerdict:
        """Return the verdict on this evidence.

        Args:
            image: The reference.
            as_volume: A pod mounts it as a volume. Then artifacts count too.
        """
        checked_at = datetime.fromtimestamp(self.checked_at, UTC)
        platforms = {platform for platform, _ in self.images}
        remarks = self.remarks
        if self.artifacts and not self.images:
            kind = self.artifacts[0][1]
            if as_volume:
                platforms, remarks = {platform for platform, _ in self.artifacts}, ()
            elif not remarks:
                reason = f"it is not a container image, but an artifact of type {kind!r}"
                return unknown(image, reason, checked_at, self.digest)
            if _NO_PLATFORM in platforms:
                reason = f"it is an artifact of type {kind!r} without a platform, so every node can pull it"
                return ImageVerdict(image, MULTI_ARCH, (), self.digest, reason, checked_at)
        doubtful = [
            f"{platform} does not count, because not every node runs {platform.variant}"
            for platform in sorted(platforms)
            if platform.os == "linux" and platform.architecture == ARM64 and platform.variant
        ]
        return ImageVerdict(
            image=image,
            verdict=classify(platforms),
            platforms=tuple(str(platform) for platform in sorted(platforms)),
            digest=self.digest,
            reason="; ".join((*remarks, *doubtful)),
            checked_at=checked_at,
            manifests=tuple((str(platform), digest) for platform, digest in self.images),
        )


class Inspector:
    """Gathers evidence. It reads each reference and each digest once a run.

    Args:
        cache: Evidence of earlier runs.
        tag_seconds: How long a cached digest of a tag is valid, in seconds. 0 asks the registry in each run.
        evidence_seconds: How long cached evidence for a digest is valid, in seconds. The content of a digest
            cannot change, but its registry can lose parts of it.
    """

    def __init__(
        self,
        client: RegistryClient,
        cache: EvidenceCache,
        *,
        tag_seconds: float,
        evidence_seconds: float,
        clock: Clock = time.time,
    ) -> None:
        self._client = client
        self._cache = cache
        self._tag_seconds = tag_seconds
        self._evidence_seconds = evidence_seconds
        self._clock = clock
        self._evidence: Shared[ImageEvidence] = Shared()

    async def verdict(self, image: str, *, as_volume: bool = False) -> ImageVerdict:
        """Return the verdict for an image; after any error it is ``unknown``, with the reason.

        Args:
            image: The reference.
            as_volume: A pod mounts it as a volume.
        """
        digest = ""
        try:
            reference = parse_reference(image)
            digest = reference.digest
            evidence = await self.evidence(reference)
        except (UnreadableError, ImageReferenceError) as error:
            away = error.host if isinstance(error, AwayError) else ""
            now = datetime.fromtimestamp(self._clock(), UTC)
            return unknown(image, str(error), now, digest, away=away)
        return evidence.verdict(image, as_volume=as_volume)

    async def evidence(self, reference: Reference) -> ImageEvidence:
        """Return the evidence for a reference. Concurrent calls for one reference share one reading.

        Raises:
            UnreadableError: It could not be read; the text is the reason.
        """
        # If there is a digest, the tag does not matter.
        key = f"{reference.name}@{reference.tag_or_digest}"
        return await self._evidence.get(key, lambda: self._gather(reference))

    async def _gather(self, reference: Reference) -> ImageEvidence:
        now = self._clock()
        if reference.digest:
            return self._cached(reference, reference.digest, now) or await self._read(reference)
        known = self._cache.get(_TAG, str(reference))
        digest = known[0] if known and is_digest(str(known[0])) else ""
        if known and digest and 0 <= now - known[1] < self._tag_seconds:
            evidence = self._cached(reference, digest, now)
            if evidence is not None:
                return _as_of(evidence, known[1])
        # If the cache may have the content, ask the registry only for the digest. That is cheaper, and does
        # not count for Docker Hub's pull limit.
        if digest:
            digest = await self._client.manifest_digest(reference)
            evidence = self._cached(reference, digest, now) if digest else None
            if evidence is not None:
                self._cache.put(_TAG, str(reference), digest, now)
                return evidence
        evidence = await self._read(reference)
        self._cache.put(_TAG, str(reference), evidence.digest, now)
        return evidence

    def _cached(self, reference: Reference, digest: str, now: float) -> ImageEvidence | None:
        known = self._cache.get(_IMAGE, f"{reference.name}@{digest}")
        if known is None or not 0 <= now - known[1] <= self._evidence_seconds:
            return None
        return _decode(digest, *known)

    async def _read(self, reference: Reference) -> ImageEvidence:
        now = self._clock()
        fetched = await self._client.manifest(reference)
        walk = _Walk(self._client, self._cache, reference, now)
        await walk.take(fetched)
        evidence = ImageEvidence(
            fetched.digest, tuple(walk.images), tuple(walk.remarks), now, tuple(walk.artifacts)
        )
        self._cache.put(_IMAGE, f"{reference.name}@{fetched.digest}", _encode(evidence), now)
        return evidence


class _Walk:
    """Reads an index and its nested indexes, down to the images."""

    def __init__(
        self, client: RegistryClient, cache: EvidenceCache, reference: Reference, now: float
    ) -> None:
        self._client = client
        self._cache = cache
        self._reference = reference
        self._now = now
        self._left = client.limits.requests_per_image
        self._bytes_left = client.limits.image_bytes
        # What an image's own config says, by the digest of the image.
        self._configs: dict[str, Platform] = {}
        self.images: list[tuple[Platform, str]] = []
        self.artifacts: list[tuple[Platform, str]] = []
        self.remarks: list[str] = []

    async def take(self, fetched: Fetched) -> None:
        self._spend_bytes(fetched.body)
        manifest = parse_manifest(fetched.body, fetched.content_type)
        if isinstance(manifest, Artifact):
            self._artifact(manifest)
        elif isinstance(manifest, ImageManifest):
            self.images.append((await self._platform(manifest), fetched.digest))
        else:
            await self._index(manifest, 1, frozenset({fetched.digest}))
            await self._check_arm64()
            if not self.images and not self.remarks:
                self.remarks.append("its index contains no image")

    async def _index(self, index: Index, depth: int, above: frozenset[str]) -> None:
        if depth > self._client.limits.depth:
            raise UnreadableError(f"its indexes are nested more than {self._client.limits.depth} levels deep")
        for artifact in index.artifacts:
            self._artifact(artifact)
        for child in index.children:
            if child.descriptor.media_type in INDEX_TYPES:
                await self._nested(child, depth, above)
            elif child.platform is not None:
                self.images.append((child.platform, child.descriptor.digest))
            else:
                await self._without_platform(child.descriptor.digest)

    async def _nested(self, child: Child, depth: int, above: frozenset[str]) -> None:
        digest = child.descriptor.digest
        if digest in above:
            raise UnreadableError(f"the index {digest} contains itself")
        manifest = await self._child(digest)
        if not isinstance(manifest, Index):
            raise UnreadableError(f"{digest} is not an index, but its parent says that it is")
        before = len(self.images)
        await self._index(manifest, depth + 1, above | {digest})
        if child.platform is not None:
            # A node looks into a nested index only if the entry's own platform fits.
            wanted = (child.platform.os, child.platform.architecture)
            self.images[before:] = [
                (platform, image)
                for platform, image in self.images[before:]
                if (platform.os, platform.architecture) == wanted
            ]

    async def _without_platform(self, digest: str) -> None:
        manifest = _no_index(await self._child(digest), digest)
        if isinstance(manifest, Artifact):
            self._artifact(manifest)
            return
        platform = self._configs[digest] = await self._platform(manifest)
        self.images.append((platform, digest))

    def _artifact(self, artifact: Artifact) -> None:
        self.artifacts.append((artifact.platform or _NO_PLATFORM, artifact.kind))

    async def _child(self, digest: str) -> Index | ImageManifest | Artifact:
        try:
            return await self._manifest(digest)
        except MissingError:
            raise UnreadableError(f"its index points to {digest}, which the registry does not have") from None

    async def _manifest(self, digest: str) -> Index | ImageManifest | Artifact:
        self._spend()
        fetched = await self._client.manifest(self._reference.at(digest=digest))
        self._spend_bytes(fetched.body)
        return parse_manifest(fetched.body, fetched.content_type)

    async def _platform(self, manifest: ImageManifest) -> Platform:
        return parse_config(await self._config(manifest)).platform

    async def _config(self, manifest: ImageManifest) -> bytes:
        self._spend()
        config = await self._client.blob(self._reference, manifest.config)
        self._spend_bytes(config)
        return config

    async def _check_arm64(self) -> None:
        """Compare the index with its arm64 images: each must be there, and its config must say arm64.

        Only arm64 images matter, because archshift moves pods to them. An index that was put together by hand
        may list the amd64 image under linux/arm64, and a node would start it.
        """
        lost: set[Platform] = set()
        for digest in dict.fromkeys(image for platform, image in self.images if platform == _LINUX_ARM64):
            if digest in self._configs:
                continue
            try:
                actual = await self._platform_of(digest)
            except MissingError:
                lost.add(_LINUX_ARM64)
                self.remarks.append(
                    f"its index lists {_LINUX_ARM64}, but the registry does not have that image ({digest})"
                )
                continue
            if isinstance(actual, Artifact):
                lost.add(_LINUX_ARM64)
                self.remarks.append(
                    f"its index lists {_LINUX_ARM64}, but that entry is an artifact of type {actual.kind!r}"
                )
            elif actual is not None:
                self._configs[digest] = actual
        kept: list[tuple[Platform, str]] = []
        for platform, digest in self.images:
            actual = self._configs.get(digest, platform)
            if actual != platform:
                lost.add(platform)
                self.remarks.append(f"its index lists {platform}, but the config of that image says {actual}")
                if actual.architecture != "unknown":
                    kept.append((actual, digest))
        # Other images for the same platform do not help, because the runtime pulls the first that fits.
        kept += (image for image in self.images if image[0] not in lost)
        if lost:
            self.images = list(dict.fromkeys(kept))

    async def _platform_of(self, digest: str) -> Platform | Artifact | None:
        """Return what an image's own config says; None if it names no platform.

        The content of a digest cannot change, so the cache serves for all registries and for ever. Then the
        registry only has to say that it has the image.

        Raises:
            MissingError: The registry does not have the image or its config.
        """
        known = _decode_platform(self._cache.get(_CONFIG, digest))
        if known is not None:
            self._spend()
            await self._client.manifest_digest(self._reference.at(digest=digest))
            return known
        manifest = _no_index(await self._manifest(digest), digest)
        if isinstance(manifest, Artifact):
            return manifest
        platform = parse_platform(await self._config(manifest))
        if platform is not None:
            self._cache.put(_CONFIG, digest, list(_parts(platform)), self._now)
        return platform

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise UnreadableError(
                f"archshift needs more than {self._client.limits.requests_per_image} requests to read it"
            )

    def _spend_bytes(self, body: bytes) -> None:
        self._bytes_left -= len(body)
        if self._bytes_left < 0:
            raise UnreadableError(
                f"its manifests and configs have more than {self._client.limits.image_bytes} bytes"
            )


def _no_index(manifest: Index | ImageManifest | Artifact, digest: str) -> ImageManifest | Artifact:
    if isinstance(manifest, Index):
        raise UnreadableError(f"{digest} is an index, but its parent says that it is an image")
    return manifest


def _as_of(evidence: ImageEvidence, checked_at: float) -> ImageEvidence:
    """Return evidence with the time of its oldest part."""
    return replace(evidence, checked_at=min(evidence.checked_at, checked_at))


def _encode(evidence: ImageEvidence) -> Any:
    return {
        "images": [[*_parts(platform), digest] for platform, digest in evidence.images],
        "artifacts": [[*_parts(platform), kind] for platform, kind in evidence.artifacts],
        "remarks": list(evidence.remarks),
    }


def _parts(platform: Platform) -> tuple[str, str, str]:
    return platform.os, platform.architecture, platform.variant


def _decode(digest: str, value: Any, checked_at: float) -> ImageEvidence | None:
    """Read a cached value; None if it is invalid."""
    try:
        images, artifacts = (
            tuple(_with_platform(entry) for entry in value[name]) for name in ("images", "artifacts")
        )
        return ImageEvidence(digest, images, tuple(map(str, value["remarks"])), checked_at, artifacts)
    except (KeyError, TypeError, ValueError):
        return None


def _with_platform(entry: Any) -> tuple[Platform, str]:
    os, architecture, variant, name = entry
    if not all(isinstance(text, str) for text in entry):
        raise TypeError
    return Platform(os, architecture, variant), name


def _decode_platform(known: tuple[Any, float] | None) -> Platform | None:
    try:
        return _with_platform([*known[0], ""])[0] if known else None
    except (TypeError, ValueError):
        return None
