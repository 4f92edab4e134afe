"""From a reference to a verdict. Reads the cache, and asks the registry only where that is not enough."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from archshift.common.architectures import ARM64
from archshift.images.cache import EvidenceCache
from archshift.images.registry.client import Fetched, RegistryClient
from archshift.images.registry.errors import MissingError, UnreadableError
from archshift.images.registry.manifest import (
    INDEX_TYPES,
    Child,
    ImageManifest,
    Index,
    Platform,
    parse_config,
    parse_manifest,
)
from archshift.images.registry.reference import ImageReferenceError, Reference, is_digest, parse_reference
from archshift.images.verdict import ImageVerdict, classify, unknown

Clock = Callable[[], float]
"""Seconds since 1970."""

_IMAGE: Final = "image"
_TAG: Final = "tag"


@dataclass(frozen=True, slots=True)
class ImageEvidence:
    """The content of a digest, as read from its registry.

    Attributes:
        images: (platform, manifest digest) of each image in it, in the order of the index.
        remarks: Texts for the user, such as images that the index lists but the registry does not have.
        checked_at: The time of the reading, in seconds since 1970.
    """

    digest: str
    images: tuple[tuple[Platform, str], ...]
    remarks: tuple[str, ...]
    checked_at: float

    def manifest_for(self, architecture: str) -> str:
        """Return the digest of the image that a Linux node of an architecture pulls; empty if none."""
        for platform, digest in self.images:
            if platform == Platform("linux", architecture):
                return digest
        return ""

    def verdict(self, image: str) -> ImageVerdict:
        """Return the verdict on this evidence."""
        platforms = {platform for platform, _ in self.images}
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
            reason="; ".join((*self.remarks, *doubtful)),
            checked_at=datetime.fromtimestamp(self.checked_at, UTC),
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
        self._running: dict[str, asyncio.Task[ImageEvidence]] = {}

    async def verdict(self, image: str) -> ImageVerdict:
        """Return the verdict for an image; after any error it is ``unknown``, with the reason."""
        digest = ""
        try:
            reference = parse_reference(image)
            digest = reference.digest
            evidence = await self.evidence(reference)
        except (UnreadableError, ImageReferenceError) as error:
            return unknown(image, str(error), datetime.fromtimestamp(self._clock(), UTC), digest)
        return evidence.verdict(image)

    async def evidence(self, reference: Reference) -> ImageEvidence:
        """Return the evidence for a reference. Concurrent calls for one reference share one reading.

        Raises:
            UnreadableError: It could not be read; the text is the reason.
        """
        # If there is a digest, the tag does not matter.
        key = f"{reference.name}@{reference.tag_or_digest}"
        task = self._running.get(key)
        if task is None:
            task = self._running[key] = asyncio.create_task(self._gather(reference))
        return await asyncio.shield(task)

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
        walk = _Walk(self._client, reference)
        await walk.take(fetched)
        evidence = ImageEvidence(fetched.digest, tuple(walk.images), tuple(walk.remarks), now)
        self._cache.put(_IMAGE, f"{reference.name}@{fetched.digest}", _encode(evidence), now)
        return evidence


class _Walk:
    """Reads an index and its nested indexes, down to the images."""

    def __init__(self, client: RegistryClient, reference: Reference) -> None:
        self._client = client
        self._reference = reference
        self._left = client.limits.requests_per_image
        self.images: list[tuple[Platform, str]] = []
        self.remarks: list[str] = []

    async def take(self, fetched: Fetched) -> None:
        manifest = parse_manifest(fetched.body, fetched.content_type)
        if isinstance(manifest, ImageManifest):
            self.images.append((await self._platform(manifest), fetched.digest))
            return
        await self._index(manifest, 1, frozenset({fetched.digest}))
        gone = await self._missing()
        if gone:
            # A pull would fail on nodes of that platform. Other images for the same platform do not help,
            # because the runtime pulls the first that fits.
            lost = {platform for platform, digest in self.images if digest in gone}
            self.images = [(platform, digest) for platform, digest in self.images if platform not in lost]
        if not self.images and not self.remarks:
            self.remarks.append("its index contains no image")

    async def _index(self, index: Index, depth: int, above: frozenset[str]) -> None:
        if depth > self._client.limits.depth:
            raise UnreadableError(f"its indexes are nested more than {self._client.limits.depth} levels deep")
        for child in index.children:
            if child.descriptor.media_type in INDEX_TYPES:
                await self._nested(child, depth, above)
            elif child.platform is not None:
                self.images.append((child.platform, child.descriptor.digest))
            else:
                manifest = parse_manifest(*await self._fetch(child))
                if isinstance(manifest, Index):
                    raise UnreadableError(
                        f"{child.descriptor.digest} is an index, but its parent says that it is an image"
                    )
                self.images.append((await self._platform(manifest), child.descriptor.digest))

    async def _nested(self, child: Child, depth: int, above: frozenset[str]) -> None:
        digest = child.descriptor.digest
        if digest in above:
            raise UnreadableError(f"the index {digest} contains itself")
        manifest = parse_manifest(*await self._fetch(child))
        if not isinstance(manifest, Index):
            raise UnreadableError(f"{digest} is not an index, but its parent says that it is")
        await self._index(manifest, depth + 1, above | {digest})

    async def _fetch(self, child: Child) -> tuple[bytes, str]:
        self._spend()
        try:
            fetched = await self._client.manifest(self._reference.at(digest=child.descriptor.digest))
        except MissingError:
            text = f"its index points to {child.descriptor.digest}, which the registry does not have"
            raise UnreadableError(text) from None
        return fetched.body, fetched.content_type

    async def _platform(self, manifest: ImageManifest) -> Platform:
        self._spend()
        return parse_config(await self._client.blob(self._reference, manifest.config)).platform

    async def _missing(self) -> set[str]:
        """Return the digests of arm64 images that the registry does not have.

        Only arm64 images matter, because archshift moves pods to them.
        """
        missing = set()
        for platform, digest in self.images:
            if platform.os != "linux" or platform.architecture != ARM64:
                continue
            self._spend()
            try:
                await self._client.manifest_digest(self._reference.at(digest=digest))
            except MissingError:
                missing.add(digest)
                self.remarks.append(
                    f"its index lists {platform}, but the registry does not have that image ({digest})"
                )
        return missing

    def _spend(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise UnreadableError(
                f"archshift needs more than {self._client.limits.requests_per_image} requests to read it"
            )


def _as_of(evidence: ImageEvidence, checked_at: float) -> ImageEvidence:
    """Return evidence with the time of its oldest part."""
    return ImageEvidence(
        evidence.digest, evidence.images, evidence.remarks, min(evidence.checked_at, checked_at)
    )


def _encode(evidence: ImageEvidence) -> Any:
    images = [
        [platform.os, platform.architecture, platform.variant, digest] for platform, digest in evidence.images
    ]
    return {"images": images, "remarks": list(evidence.remarks)}


def _decode(digest: str, value: Any, checked_at: float) -> ImageEvidence | None:
    """Read a cached value; None if it is invalid."""
    try:
        images = []
        for os, architecture, variant, manifest in value["images"]:
            if not all(isinstance(text, str) for text in (os, architecture, variant, manifest)):
                return None
            images.append((Platform(os, architecture, variant), manifest))
        return ImageEvidence(digest, tuple(images), tuple(map(str, value["remarks"])), checked_at)
    except (KeyError, TypeError, ValueError):
        return None
