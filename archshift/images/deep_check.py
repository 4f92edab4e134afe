"""The deep check: does an image that claims arm64 start arm64 binaries? It keeps no files."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any, Final, TypeVar

from archshift.common.architectures import ARM64
from archshift.images.bounds import Turn
from archshift.images.cache import EvidenceCache
from archshift.images.contents.command import Command
from archshift.images.contents.elf import X86_64
from archshift.images.contents.layers import Budget, Layer, LayerReader, Work
from archshift.images.contents.programs import ProgramVerdict, check_command
from archshift.images.contents.rootfs import Rootfs
from archshift.images.inspector import ImageEvidence
from archshift.images.registry.client import RegistryClient
from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.manifest import ImageManifest, parse_config, parse_manifest
from archshift.images.registry.reference import Reference
from archshift.images.verdict import UNKNOWN, ImageVerdict, without_arm64

# Part of the cache's key. Raise it when the check changes.
_KIND: Final = "deep-3"

CONCURRENCY: Final = 2
"""Images unpacked at the same time. Each needs a core. An image whose bytes come slowly does not count."""

_PIECE: Final = 1 << 18
"""So many bytes are unpacked at once."""

_T = TypeVar("_T")


class DeepChecker:
    """Checks images. Each image is read once a run for all its commands.

    Args:
        cache: Verdicts of earlier runs, by the image's digest and the command.
    """

    def __init__(self, client: RegistryClient, cache: EvidenceCache) -> None:
        self._client = client
        self._cache = cache
        self._threads = ThreadPoolExecutor(CONCURRENCY, "archshift-deep")

    def __enter__(self) -> "DeepChecker":
        """Do nothing yet: threads start with the first image."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give up what still runs; each thread ends by itself at the limits of its image."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def findings(
        self, reference: Reference, evidence: ImageEvidence, commands: Iterable[Command], turn: Turn
    ) -> dict[Command, ProgramVerdict]:
        """Return the verdict on each command in the arm64 image of the evidence.

        Args:
            reference: The image.
            evidence: The evidence about it.
            commands: The commands that start it.
            turn: Gets the received bytes and the used memory.
        """
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
            try:
                verdicts |= await self._check(image, missing, evidence.checked_at, turn)
            except UnreadableError as error:
                verdicts |= dict.fromkeys(missing, ProgramVerdict("undecided", str(error)))
        return verdicts

    async def _check(
        self, image: Reference, commands: list[Command], checked_at: float, turn: Turn
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
        work = Work()

        async def in_thread(function: Callable[..., _T], *arguments: object) -> _T:
            def measured() -> _T:
                with work.measured():
                    return function(*arguments)

            with turn.paused():
                return await asyncio.get_running_loop().run_in_executor(self._threads, measured)

        left = Budget(limits.unpacked_bytes, limits.files, memory_bytes=limits.memory_bytes, work=work)
        rootfs = Rootfs(take_memory=lambda size: left.take_memory(size))
        for descriptor in manifest.layers:

            async def consume(stream: AsyncIterator[bytes], start: Budget = left) -> tuple[Layer, Budget]:
                # Each try begins with the same budget.
                budget = replace(start)
                reader, waiting = LayerReader(budget), bytearray()
                async for chunk in stream:
                    turn.received(len(chunk))
                    work.came(len(chunk))
                    waiting += chunk
                    if len(waiting) >= _PIECE:
                        await in_thread(reader.feed, bytes(waiting))
                        waiting.clear()
                        turn.holds(limits.memory_bytes - budget.memory_bytes + reader.memory)
                return await in_thread(_finish, reader, bytes(waiting)), budget

            layer, left = await self._client.layer(image, descriptor, consume)
            await in_thread(rootfs.apply, layer)
            turn.holds(limits.memory_bytes - left.memory_bytes)
        verdicts = await in_thread(
            lambda: {command: check_command(rootfs, config, command) for command in commands}
        )
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


def _finish(reader: LayerReader, data: bytes) -> Layer:
    reader.feed(data)
    return reader.close()


def _key(image: Reference, command: Command) -> str:
    text = json.dumps(asdict(command), sort_keys=True)
    return f"{image.name}@{image.digest} {hashlib.sha256(text.encode()).hexdigest()}"


def _decode(value: Any) -> ProgramVerdict | None:
    try:
        finding = ProgramVerdict(**value)
    except TypeError:
        return None
    return finding if finding.outcome in ("arm64", "lie", "undecided") else None
