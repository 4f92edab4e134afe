"""Verdicts for many images at once, for synchronous and asynchronous callers."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

from archshift.common.aws import NOBODY_SPECIAL, AwsIdentity
from archshift.common.text import one_line
from archshift.images.bounds import Bounds, Turn
from archshift.images.cache import EvidenceCache, cache_folder
from archshift.images.deep_check import DeepChecker, apply_finding
from archshift.images.inspector import Clock, Inspector
from archshift.images.registry import ecr
from archshift.images.registry.away import REMEMBERED_SECONDS, AwayHosts
from archshift.images.registry.client import Limits, RegistryClient, RegistryHost
from archshift.images.registry.credentials import AuthFile, Keychain, docker_config_path, read_docker_config
from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.reference import ImageReferenceError, parse_reference
from archshift.images.suggest import suggest
from archshift.images.verdict import ImageVerdict, unknown
from archshift.images.workload import ImageUse

_T = TypeVar("_T")

_YOUNG_OBJECTS: Final = 20_000
"""How many new objects start a collection during an audit; they take a few MB."""

Watch: TypeAlias = Callable[[int, int], None]
"""Called with the number of images that are read, and the number of all images."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """How to audit.

    Attributes:
        hosts: Options by ``host[:port]`` as in image names: plain http, CA, mirrors, token hosts.
        pull_secrets: Pull secrets of the cluster, from ``read_pull_secret``. They come before the Docker
            config.
        docker_config: Docker's config file.
        ecr: Log in to private Amazon ECR registries.
        aws: With which AWS credentials.
        cache: The folder for evidence; None keeps nothing between runs.
        tag_seconds: How long a cached digest of a tag is valid, in seconds. 0 asks the registry in each run.
        evidence_seconds: How long cached evidence for a digest is valid, in seconds.
        away_seconds: How long a registry that did not answer is not asked again, in seconds.
        deep: Also check the binaries that arm64 images start.
        limits: Bounds on sizes, times and numbers.
        watch: Called after each image, in a thread of the audit.
    """

    hosts: Mapping[str, RegistryHost] = field(default_factory=dict)
    pull_secrets: tuple[AuthFile, ...] = ()
    docker_config: Path = field(default_factory=docker_config_path)
    ecr: bool = True
    aws: AwsIdentity = NOBODY_SPECIAL
    cache: Path | None = field(default_factory=cache_folder)
    tag_seconds: float = 300.0
    evidence_seconds: float = 7 * 86400.0
    away_seconds: float = REMEMBERED_SECONDS
    deep: bool = False
    limits: Limits = field(default_factory=Limits)
    watch: Watch | None = field(default=None, compare=False)


class Auditor:
    """One run, which reads each reference and digest once. Use it as an async context manager.

    Raises:
        ArchshiftError: On entering: the Docker config or a CA file cannot be read.
    """

    def __init__(self, options: AuditOptions | None = None, clock: Clock = time.time) -> None:
        self._options = options or AuditOptions()
        self._clock = clock
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Auditor":
        """Open the cache and the connection pool."""
        options = self._options
        files = (*options.pull_secrets, read_docker_config(options.docker_config))
        keychain = Keychain(files, (ecr.source(options.aws),) if options.ecr else ())
        async with AsyncExitStack() as stack:
            cache = stack.enter_context(EvidenceCache(options.cache))
            client = self._client = await stack.enter_async_context(
                RegistryClient(
                    options.hosts,
                    keychain,
                    options.limits,
                    AwayHosts(cache, options.away_seconds, self._clock),
                )
            )
            self._inspector = Inspector(
                client,
                cache,
                tag_seconds=options.tag_seconds,
                evidence_seconds=options.evidence_seconds,
                clock=self._clock,
            )
            self._deep = stack.enter_context(DeepChecker(client, cache))
            self._bounds = Bounds(options.limits)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Write the cache and close all connections."""
        await self._stack.aclose()

    async def verdicts(self, images: Iterable[str]) -> dict[str, ImageVerdict]:
        """Return the verdict of each image in the same order, without repeats. No image raises an error.

        A deep audit checks the image's own command. For the commands of containers use ``verdicts_of_uses``.
        """
        verdicts = await self.verdicts_of_uses(map(ImageUse, images))
        return {use.image: verdict for use, verdict in verdicts.items()}

    async def verdicts_of_uses(self, uses: Iterable[ImageUse]) -> dict[ImageUse, ImageVerdict]:
        """Return the verdict of each image with the command that starts it.

        Only a deep audit distinguishes commands. Each image is still read once.
        """
        distinct = list(dict.fromkeys(uses))
        by_image: dict[str, list[ImageUse]] = {}
        for use in distinct:
            by_image.setdefault(use.image, []).append(use)
        done = 0

        async def judge(image: str, wanted: list[ImageUse]) -> dict[ImageUse, ImageVerdict]:
            nonlocal done
            verdicts = await self._judge(image, wanted)
            done += 1
            if self._options.watch:
                self._options.watch(done, len(by_image))
            return verdicts

        judged = await asyncio.gather(*(judge(image, wanted) for image, wanted in by_image.items()))
        return {use: verdict for verdicts in judged for use, verdict in verdicts.items()}

    async def _judge(self, image: str, uses: list[ImageUse]) -> dict[ImageUse, ImageVerdict]:
        """Return the verdicts on one image. Whatever fails here is unknown for this image alone."""
        try:
            async with self._bounds.turn(parse_reference(image).registry) as turn:
                return await self._verdicts(image, uses, turn)
        except (UnreadableError, ImageReferenceError) as error:
            reason = str(error)
        # An image may have anything in it, and no other image must suffer from it.
        except Exception as error:
            reason = f"archshift failed to judge this image ({type(error).__name__}: {one_line(error, 200)})"
        now = datetime.fromtimestamp(self._clock(), UTC)
        return dict.fromkeys(uses, unknown(image, reason, now))

    async def _verdicts(self, image: str, uses: list[ImageUse], turn: Turn) -> dict[ImageUse, ImageVerdict]:
        # Nothing in a volume is started, so the deep check has nothing to look for.
        volumes = [use for use in uses if use.as_volume]
        verdicts = {use: await self._inspector.verdict(image, as_volume=True) for use in volumes}
        started = [use for use in uses if not use.as_volume]
        if not started:
            return verdicts
        verdict = await self._inspector.verdict(image)
        if not (self._options.deep and verdict.runs_on_arm64):
            return verdicts | dict.fromkeys(started, verdict)
        reference = parse_reference(image)
        evidence = await self._inspector.evidence(reference)
        commands = [use.command for use in started]
        findings = await self._deep.findings(reference, evidence, commands, turn)
        return verdicts | {use: apply_finding(verdict, findings[use.command]) for use in started}

    async def suggest_newer(self, image: str) -> str | None:
        """Return the nearest newer tag of the same repository that runs on arm64; None if there is none.

        ``archshift.images.suggest`` defines "newer". An image never raises an error.
        """
        try:
            async with self._bounds.turn(parse_reference(image).registry):
                return await suggest(image, self._client, self._inspector)
        # As for verdicts: nothing in a registry may end the run.
        except Exception:
            return None


def audit_images(images: Iterable[str], options: AuditOptions | None = None) -> dict[str, ImageVerdict]:
    """Return the verdict of each image in the same order, without repeats.

    For synchronous callers, also inside a running event loop such as a Pulumi program.

    Raises:
        ArchshiftError: The Docker config or a CA file cannot be read. An image never raises an error.
    """

    async def run() -> dict[str, ImageVerdict]:
        async with Auditor(options) as auditor:
            return await auditor.verdicts(images)

    return run_in_thread(run())


def audit_uses(uses: Iterable[ImageUse], options: AuditOptions | None = None) -> dict[ImageUse, ImageVerdict]:
    """Return the verdicts on the containers of workloads, for ``judge_workload``.

    Raises:
        ArchshiftError: The Docker config or a CA file cannot be read.
    """

    async def run() -> dict[ImageUse, ImageVerdict]:
        async with Auditor(options) as auditor:
            return await auditor.verdicts_of_uses(uses)

    return run_in_thread(run())


def suggest_newer(images: Iterable[str], options: AuditOptions | None = None) -> dict[str, str | None]:
    """Return image to the nearest newer tag of the same repository that runs on arm64; None if there is none.

    Raises:
        ArchshiftError: The Docker config or a CA file cannot be read.
    """

    async def run() -> dict[str, str | None]:
        async with Auditor(options) as auditor:
            distinct = list(dict.fromkeys(images))
            tags = await asyncio.gather(*map(auditor.suggest_newer, distinct))
            return dict(zip(distinct, tags, strict=True))

    return run_in_thread(run())


def run_in_thread(work: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine in a new thread with its own event loop, and return its result."""
    outcome: list[_T] = []
    failure: list[BaseException] = []

    def target() -> None:
        try:
            outcome.append(asyncio.run(work))
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=target, name="archshift-images", daemon=True)
    with _rare_collections():
        thread.start()
        thread.join()
    if failure:
        raise failure[0]
    return outcome[0]


@contextmanager
def _rare_collections() -> Iterator[None]:
    """Let Python's garbage collector of cycles look at larger generations.

    Hundreds of images are read at the same time. The collector would check all their objects at each of
    its turns, which is a fifth of the processor time of an audit.
    """
    young, *older = gc.get_threshold()
    gc.set_threshold(max(young, _YOUNG_OBJECTS) if young else 0, *older)
    try:
        yield
    finally:
        gc.set_threshold(young, *older)
