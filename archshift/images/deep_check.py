"""The deep check: does an image that claims arm64 start arm64 binaries? It keeps no files."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import asdict, replace
from typing import Any, Final

from archshift.common.architectures import ARM64
from archshift.images.cache import EvidenceCache
from archshift.images.contents.command import Command
from archshift.images.contents.elf import X86_64
from archshift.images.contents.layers import Budget, Layer, read_layer
from archshift.images.contents.programs import ProgramVerdict, check_command
from archshift.images.contents.rootfs import Rootfs
from archshift.images.inspector import ImageEvidence
from archshift.images.registry.client import RegistryClient
from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.manifest import ImageManifest, parse_config, parse_manifest
from archshift.images.registry.reference import Reference
from archshift.images.verdict import UNKNOWN, ImageVerdict, without_arm64

# Part of the cache's key. Raise it when the check changes.
_KIND: Final = "deep-2"

CONCURRENCY: Final = 2
"""Images checked at the same time. Each needs memory for its list of files, and a core to unpack."""


class DeepChecker:
    """Checks images. Each image is read once a run for all its commands.

    Args:
        cache: Verdicts of earlier runs, by the image's digest and the command.
    """

    def __init__(self, client: RegistryClient, cache: EvidenceCache) -> None:
        self._client = client
        self._cache = cache
        self._gate = asyncio.Semaphore(CONCURRENCY)

    async def findings(
        self, reference: Reference, evidence: ImageEvidence, commands: Iterable[Command]
    ) -> dict[Command, ProgramVerdict]:
        """Return the verdict on each command in the arm64 image of the evidence."""
        digest = evidence.manifest_for(ARM64)
        image = reference.at(digest=digest)
        verdicts, missing = {}, []
        for command in dict.fromkeys(commands):
            known = self._cache.get(_KIND, _key(image, command))
            finding = _decode(known[0]) if known else None
            if finding is None:
                missing.append(command)
            else:
                verdicts[command] = finding
        if missing:
            async with self._gate:
                try:
                    verdicts |= await self._check(image, missing, evidence.checked_at)
                except UnreadableError as error:
                    verdicts |= dict.fromkeys(missing, ProgramVerdict("undecided", str(error)))
        return verdicts

    async def _check(
        self, image: Reference, commands: list[Command], checked_at: float
    ) -> dict[Command, ProgramVerdict]:
        limits = self._client.limits
        fetched = await self._client.manifest(image)
        manifest = parse_manifest(fetched.body, fetched.content_type)
        if not isinstance(manifest, ImageManifest):
            raise UnreadableError(f"{image.digest} is not an image, but its parent says that it is")
        size = sum(layer.size for layer in manifest.layers)
        if size > limits.layer_bytes:
            raise UnreadableError(
                f"its layers have {size} bytes, more than the limit of {limits.layer_bytes}"
            )
        config = parse_config(await self._client.blob(image, manifest.config))
        rootfs = Rootfs()
        left = Budget(limits.unpacked_bytes, limits.files)
        for descriptor in manifest.layers:
            budget = replace(left)

            async def consume(stream: AsyncIterator[bytes], budget: Budget = budget) -> Layer:
                source = _FromLoop(stream, asyncio.get_running_loop())
                return await asyncio.to_thread(read_layer, source, budget)

            layer = await self._client.layer(image, descriptor, consume)
            left = budget
            await asyncio.to_thread(rootfs.apply, layer)
        verdicts = {command: check_command(rootfs, config, command) for command in commands}
        for command, finding in verdicts.items():
            self._cache.put(_KIND, _key(image, command), asdict(finding), checked_at)
        return verdicts


def apply_finding(verdict: ImageVerdict, finding: ProgramVerdict) -> ImageVerdict:
    """Return an image's verdict, corrected by the result of the deep check."""
    if finding.outcome == "arm64":
        return verdict
    if finding.outcome == "lie":
        reason = f"it claims linux/{ARM64}, but {finding.reason}"
        return without_arm64(verdict, reason, runs_on_amd64=finding.machine == X86_64)
    return replace(
        verdict, verdict=UNKNOWN, reason=f"archshift cannot prove its arm64 image: {finding.reason}"
    )


class _FromLoop:
    """Lets a thread read the stream of an event loop, a chunk at a time."""

    def __init__(self, stream: AsyncIterator[bytes], loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop
        self._left = b""

    def read(self, size: int = -1, /) -> bytes:
        if not self._left:
            self._left = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
        if size < 0:
            size = len(self._left)
        part, self._left = self._left[:size], self._left[size:]
        return part

    async def _next(self) -> bytes:
        return await anext(self._stream, b"")


def _key(image: Reference, command: Command) -> str:
    text = json.dumps(asdict(command), sort_keys=True)
    return f"{image.name}@{image.digest} {hashlib.sha256(text.encode()).hexdigest()}"


def _decode(value: Any) -> ProgramVerdict | None:
    try:
        finding = ProgramVerdict(**value)
    except TypeError:
        return None
    return finding if finding.outcome in ("arm64", "lie", "undecided") else None
