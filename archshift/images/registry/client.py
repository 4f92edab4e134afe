"""Reads registries: the pull side of the OCI distribution protocol, with limits on all sizes and times.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md

One client serves one run. It learns which login each registry requests, keeps tokens in memory, waits when a
registry asks for that, and gives up on a registry that keeps failing. Every error is an UnreadableError with
a text for the user.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, NoReturn, TypeVar

from yarl import URL

from archshift.images.registry.away import AwayHosts
from archshift.images.registry.credentials import MOST_LOGINS, Keychain
from archshift.images.registry.errors import AwayError, MissingError, UnreadableError
from archshift.images.registry.hosts import RegistryHost
from archshift.images.registry.login import Logins
from archshift.images.registry.manifest import ACCEPT, SCHEMA_1, Descriptor
from archshift.images.registry.reference import Reference, is_digest, is_tag
from archshift.images.registry.shared import Shared
from archshift.images.registry.transport import Host, Limits, TransientError, Transport, raise_for, read_body

if TYPE_CHECKING:
    import aiohttp

__all__ = ["Fetched", "Limits", "RegistryClient", "RegistryHost"]

_T = TypeVar("_T")

_LOGINS: Final = 2 * MOST_LOGINS
"""The largest number of refusals for one request: of each login, and of tokens that ended early."""

_KEPT_BYTES: Final = 1 << 16
"""The largest manifest or config that is kept in memory for the run."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest: its bytes, their verified digest, and the Content-Type."""

    body: bytes
    digest: str
    content_type: str


@dataclass(frozen=True, slots=True)
class _Endpoint:
    """Where an image is read: the registry or a mirror, the repository there, and the image's own name."""

    host: Host
    repository: str
    image: str


@dataclass(frozen=True, slots=True)
class _Request(Generic[_T]):
    """A request to a repository, with the function that reads a successful response."""

    path: str
    read: Callable[[aiohttp.ClientResponse], Awaitable[_T]]
    accept: str = "*/*"
    method: str = "GET"
    timeout: aiohttp.ClientTimeout | None = None


class RegistryClient:
    """Reads from registries. Use it as an async context manager.

    Args:
        hosts: Options by ``host[:port]`` as in image names.
        limits: Bounds on sizes, times and numbers.
        away: Hosts that did not answer an earlier run; None remembers nothing.

    Raises:
        ArchshiftError: A CA file cannot be read.
    """

    def __init__(
        self,
        hosts: Mapping[str, RegistryHost] | None = None,
        keychain: Keychain | None = None,
        limits: Limits | None = None,
        away: AwayHosts | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._transport = Transport(hosts or {}, self.limits)
        self._logins = Logins(self._transport, keychain or Keychain())
        self._away = away
        self._endpoints: dict[str, tuple[_Endpoint, ...]] = {}
        # Small manifests and configs by digest: tags may share a config, and the deep check reads both again.
        self._manifests: dict[tuple[str, str], Fetched] = {}
        self._blobs: Shared[bytes] = Shared()
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> RegistryClient:
        """Open the transport."""
        await self._stack.enter_async_context(self._transport)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        await self._stack.aclose()

    async def manifest(self, reference: Reference) -> Fetched:
        """Return the manifest of a reference, by its digest if it has one, else by its tag.

        Raises:
            UnreadableError: It could not be read, or its content does not match the digest.
        """
        if reference.digest and (kept := self._manifests.get((reference.name, reference.digest))):
            return kept
        fetched = await self._ask(reference, self._get_manifest(reference))
        if reference.digest and len(fetched.body) <= _KEPT_BYTES:
            self._manifests[reference.name, reference.digest] = fetched
        return fetched

    def _get_manifest(self, reference: Reference) -> _Request[Fetched]:
        async def read(response: aiohttp.ClientResponse) -> Fetched:
            body = await read_body(response, self.limits.manifest_bytes, "manifest")
            content_type = response.headers.get("Content-Type", "")
            claimed = response.headers.get("Docker-Content-Digest", "")
            # Schema 1 contains its signature and is hashed in another way. ``parse_manifest`` refuses it.
            if SCHEMA_1 in content_type:
                return Fetched(body, "", content_type)
            digest = reference.digest or (claimed if is_digest(claimed) else "")
            actual = _hash(digest or "sha256:", body)
            if digest and actual != digest:
                source = "archshift asked for" if reference.digest else "the registry announced"
                raise UnreadableError(f"the manifest has the digest {actual}, but {source} {digest}")
            return Fetched(body, actual, content_type)

        return _Request(f"manifests/{reference.tag_or_digest}", read, ACCEPT)

    async def manifest_digest(self, reference: Reference) -> str:
        """Return the digest of a reference, with HEAD if possible; empty if the registry sends none.

        Docker Hub does not count HEAD as a pull. Some registries, proxies and firewalls support only GET, and
        answer HEAD with any status. So after a failed HEAD archshift tries GET, as Docker and containerd do.

        Raises:
            MissingError: The registry does not have it.
            UnreadableError: Any other error.
        """

        async def read(response: aiohttp.ClientResponse) -> str:
            claimed = response.headers.get("Docker-Content-Digest", "")
            if reference.digest and claimed and claimed != reference.digest:
                raise UnreadableError(
                    f"the registry returned {claimed[:80]!r}, but archshift asked for {reference.digest}"
                )
            return claimed if is_digest(claimed) else ""

        get = self._get_manifest(reference)

        async def read_body_instead(response: aiohttp.ClientResponse) -> str:
            return (await get.read(response)).digest

        head = _Request(f"manifests/{reference.tag_or_digest}", read, ACCEPT, "HEAD")
        return await self._ask(reference, _Request(get.path, read_body_instead, ACCEPT), head)

    async def blob(self, reference: Reference, descriptor: Descriptor) -> bytes:
        """Return a small blob and verify it against its descriptor.

        Raises:
            UnreadableError: It could not be read, is too large, or does not match its descriptor.
        """
        if descriptor.size > self.limits.blob_bytes:
            raise UnreadableError(
                f"the blob {descriptor.digest} has {descriptor.size} bytes, "
                f"more than {self.limits.blob_bytes}"
            )

        async def read(response: aiohttp.ClientResponse) -> bytes:
            body = await read_body(response, self.limits.blob_bytes, "blob")
            if _hash(descriptor.digest, body) != descriptor.digest:
                raise UnreadableError(
                    f"the content of the blob {descriptor.digest} does not match its digest"
                )
            return body

        key = (reference.name, descriptor.digest)
        request = _Request(f"blobs/{descriptor.digest}", read)
        kept = False
        try:
            blob = await self._blobs.get(key, lambda: self._ask(reference, request))
            kept = len(blob) <= _KEPT_BYTES
            return blob
        finally:
            if not kept:
                self._blobs.forget(key)

    async def layer(
        self,
        reference: Reference,
        descriptor: Descriptor,
        consume: Callable[[AsyncIterator[bytes]], Awaitable[_T]],
    ) -> _T:
        """Stream a layer to a consumer, and verify its digest.

        Args:
            consume: Reads the compressed bytes. After a failed try it is called again, from the start.

        Raises:
            UnreadableError: It could not be read, or its content does not match its digest.
        """

        digest = descriptor.digest

        async def read(response: aiohttp.ClientResponse) -> _T:
            algorithm, _, expected = digest.partition(":")
            hasher = hashlib.new(algorithm)
            left = descriptor.size

            async def chunks() -> AsyncIterator[bytes]:
                nonlocal left
                async for chunk in response.content.iter_any():
                    left -= len(chunk)
                    if left < 0:
                        raise UnreadableError(
                            f"the layer {digest} has more than the {descriptor.size} bytes of its manifest"
                        )
                    hasher.update(chunk)
                    yield chunk

            stream = chunks()
            result = await consume(stream)
            async for _ in stream:
                pass
            if hasher.hexdigest() != expected:
                raise UnreadableError(f"the content of the layer {digest} does not match its digest")
            return result

        timeout = self._transport.timeout(self.limits.deep_seconds)
        return await self._ask(reference, _Request(f"blobs/{digest}", read, timeout=timeout))

    async def tags(self, reference: Reference, pages: int = 20) -> list[str]:
        """Return the repository's tags.

        Args:
            reference: A reference in the repository.
            pages: The largest number of pages to read. A page has at most 1,000 tags.

        Raises:
            UnreadableError: They could not be read.
        """
        tags: list[str] = []
        path: str = "tags/list?n=1000"
        for _ in range(pages):

            async def read(response: aiohttp.ClientResponse) -> tuple[list[str], str]:
                body = await read_body(response, self.limits.tags_bytes, "list of tags")
                links = response.links.get("next")
                link = links.get("url") if links else None
                # Use only the query of the link, never its host.
                return _tags(body), str(link.raw_query_string) if isinstance(link, URL) else ""

            page, query = await self._ask(reference, _Request(path, read))
            tags += page
            if not query or not page:
                break
            path = f"tags/list?{query}"
        return tags

    async def _ask(self, reference: Reference, request: _Request[_T], head: _Request[_T] | None = None) -> _T:
        """Send a request to the mirrors in their order, and last to the registry itself.

        Args:
            head: A cheaper request that may fail where ``request`` succeeds.
        """
        endpoints = self._endpoints.get(reference.name) or self._resolve(reference)
        refusals = []
        missing = True
        for endpoint in endpoints:
            host = endpoint.host
            if host.asked and not host.contact.is_set():
                await self._await_contact(host)
            host.asked = True
            try:
                if head and host.head:
                    return await self._head_or_get(endpoint, head, request)
                return await self._patiently(endpoint, request)
            except UnreadableError as error:
                missing = missing and isinstance(error, MissingError)
                refusals.append(error)
            finally:
                host.contact.set()
        if len(refusals) == 1:
            raise refusals[0]
        text = "; ".join(str(error) for error in refusals)
        if missing:
            raise MissingError(text)
        away = next((error for error in refusals if isinstance(error, AwayError)), None)
        raise AwayError(away.host, away.why, text) if away else UnreadableError(text)

    async def _await_contact(self, host: Host) -> None:
        """Wait for the first answer of a host, but not long: its image may be the only one that hangs."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.limits.contact_seconds):
                await host.contact.wait()

    async def _head_or_get(self, endpoint: _Endpoint, head: _Request[_T], get: _Request[_T]) -> _T:
        try:
            return await self._patiently(endpoint, head)
        except AwayError:
            raise
        except UnreadableError:
            result = await self._patiently(endpoint, get)
            endpoint.host.head = False
            return result

    def _resolve(self, reference: Reference) -> tuple[_Endpoint, ...]:
        options = self._transport.options(reference.registry)
        endpoints = []
        for mirror in options.mirrors:
            name, _, prefix = mirror.strip("/").partition("/")
            repository = f"{prefix}/{reference.repository}" if prefix else reference.repository
            endpoints.append(_Endpoint(self._host(name), repository, reference.name))
        endpoints.append(_Endpoint(self._host(reference.registry), reference.repository, reference.name))
        return self._endpoints.setdefault(reference.name, tuple(endpoints))

    def _host(self, name: str) -> Host:
        host = self._transport.host(name)
        if not host.asked and self._away:
            host.away = self._away.why(host.address)
        return host

    async def _patiently(self, endpoint: _Endpoint, request: _Request[_T]) -> _T:
        # Keep the place during short waits, so that a failing registry gets fewer requests.
        async with endpoint.host.place(self.limits.slow_seconds):
            return await self._tries(endpoint, request)

    async def _tries(self, endpoint: _Endpoint, request: _Request[_T]) -> _T:
        host, begun = endpoint.host, time.monotonic()
        for attempt in range(1, self.limits.attempts + 1):
            # A pause that the registry wants is for all requests.
            while (pause := host.paused_until - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            if host.away:
                raise AwayError(host.name, host.away)
            if host.failures >= self.limits.give_up_after:
                raise UnreadableError(
                    f"archshift gave up on {host.name} after repeated failures: {host.last_failure}"
                )
            try:
                result = await self._once(endpoint, request)
            except TransientError as error:
                self._count_silence(host, error)
                await self._wait(host, error, attempt, begun)
            except UnreadableError:
                self._note_answer(host)
                raise
            else:
                host.failures = 0
                host.succeeded = time.monotonic()
                self._note_answer(host)
                return result
        raise AssertionError("the last try returns or raises")

    def _note_answer(self, host: Host) -> None:
        if not host.answered:
            host.answered = True
            if self._away:
                self._away.remember(host.address, "")

    def _count_silence(self, host: Host, failure: TransientError) -> None:
        """Count a try without an answer; raise if the host has never answered in so many tries."""
        if not failure.silence:
            self._note_answer(host)
            # A slow or failing host gets all its requests at once, as any other.
            host.contact.set()
            return
        if host.answered:
            return
        host.silences += failure.silence
        if host.silences >= self.limits.attempts:
            self._give_up(host, str(failure))

    def _give_up(self, host: Host, why: str) -> NoReturn:
        host.away = why
        if self._away:
            self._away.remember(host.address, why)
        raise AwayError(host.name, why) from None

    async def _wait(self, host: Host, failure: TransientError, attempt: int, begun: float) -> None:
        """Wait before the next try; raise if this was the last try, or if the wait is too long."""
        limits = self.limits
        backoff = limits.backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311
        wait = min(backoff, limits.longest_wait_seconds) if failure.wait is None else failure.wait
        last = attempt == limits.attempts
        if last or wait > limits.longest_wait_seconds:
            # If others succeed meanwhile, the registry is fine, and only this image is not.
            host.failures += host.succeeded < begun
            suffix = f"{attempt} times" if last else f"and asks for a wait of {wait:.0f} s"
            reason = host.last_failure = f"{failure}, {suffix}"
            if failure.silence and host.failures >= limits.give_up_after:
                self._give_up(host, str(failure))
            raise UnreadableError(f"{host.name}: {reason}") from None
        if failure.wait is None:
            await asyncio.sleep(wait)
        else:
            host.paused_until = max(host.paused_until, time.monotonic() + wait)

    async def _once(self, endpoint: _Endpoint, request: _Request[_T]) -> _T:
        """Send a request once, with the logins that the registry requests.

        Raises:
            TransientError: Another try may succeed.
            UnreadableError: Another try would fail too.
        """
        host, repository, image = endpoint.host, endpoint.repository, endpoint.image
        url = URL(f"{host.base}{repository}/{request.path}", encoded=True)
        # Each refusal uses up a credential or an expired token.
        for _ in range(_LOGINS):
            header, serial = await self._logins.header(host, repository, image)
            headers = {"Accept": request.accept}
            if header:
                headers["Authorization"] = header
            sent = self._transport.send(host, request.method, url, headers, request.timeout)
            async with sent as (response, redirected):
                status = response.status
                if status == 200:
                    self._logins.worked(host, repository, image)
                    return await request.read(response)
                challenges = response.headers.getall("WWW-Authenticate", [])
                if request.method == "HEAD" and status != 429 and not (status == 401 and challenges):
                    # A firewall may refuse the method, which says nothing about the image or the login.
                    raise UnreadableError(f"{host.name} answered HEAD with {status}")
                if status in (401, 403) and not redirected:
                    await self._logins.refused(host, repository, image, serial, status, challenges)
                    continue
                raise_for(host.name, response, redirected)
        raise UnreadableError(f"{host.name} refused {_LOGINS} logins in a row")


def _hash(digest: str, body: bytes) -> str:
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


def _tags(body: bytes) -> list[str]:
    try:
        tags = json.loads(body).get("tags") or []
        if not isinstance(tags, list):
            raise TypeError
        return [tag for tag in tags if isinstance(tag, str) and is_tag(tag)]
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UnreadableError("the list of tags is invalid") from None
