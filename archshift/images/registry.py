"""Reads registries: the pull side of the OCI distribution protocol, with limits on everything.

https://github.com/opencontainers/distribution-spec/blob/main/spec.md

One client is one run: it learns how each registry wants a login, holds tokens in memory, paces itself when
told to, and gives up on a registry that keeps failing. Whatever goes wrong comes out as an UnreadableError
whose text is fit for a person; nothing is guessed.
"""

import asyncio
import base64
import hashlib
import json
import random
import ssl
import time
import urllib.request
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import aiohttp
from yarl import URL

from archshift.errors import ArchshiftError
from archshift.images import auth
from archshift.images.credentials import Credential, Keychain
from archshift.images.errors import MissingError, UnreadableError
from archshift.images.manifest import ACCEPT, SCHEMA_1, Descriptor
from archshift.images.reference import DOCKER_HUB, Reference, is_digest

_T = TypeVar("_T")

_HUB_HOST: Final = "registry-1.docker.io"
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_TRANSIENT: Final = (429, 500, 502, 503, 504)
_USER_AGENT: Final = "archshift"
_LOGINS: Final = 16
"""Logins tried for one request."""


@dataclass(frozen=True, slots=True)
class RegistryHost:
    """How to reach one registry.

    Attributes:
        plain_http: Speak http to it. Never assumed, not even for localhost.
        ca_file: PEM file of authorities to trust for it, besides the system's; empty for none.
        mirrors: Hosts, each with an optional path to put before the repository
            (``mirror.example:5000/hub``), asked in order before the registry itself.
        token_hosts: Further hosts that may see this registry's credentials; see ``auth``.
    """

    plain_http: bool = False
    ca_file: str = ""
    mirrors: tuple[str, ...] = ()
    token_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one run. Sizes in bytes, times in seconds.

    Attributes:
        concurrency: Requests under way per host.
        manifest_bytes: Largest manifest; registries take 4 MiB.
        blob_bytes: Largest config blob.
        tags_bytes: Largest page of tags.
        connect_seconds: To connect, TLS included.
        read_seconds: Longest silence within an answer.
        request_seconds: One whole answer, except a layer's.
        attempts: Tries of one request.
        backoff_seconds: Longest wait before the second try; doubles from there.
        longest_wait_seconds: Longest wait between tries. A Retry-After beyond it ends the request.
        give_up_after: Requests that fail in a row, retries spent, before a host is left alone.
        redirects: In a row.
        depth: Indexes within indexes.
        requests_per_image: Manifests and configs that one image may cost.
        layer_bytes: Deep check: compressed bytes of one image.
        unpacked_bytes: Deep check: unpacked bytes of one image.
        layer_seconds: Deep check: one layer.
        files: Deep check: files of one image.
    """

    concurrency: int = 16
    manifest_bytes: int = 4 << 20
    blob_bytes: int = 8 << 20
    tags_bytes: int = 8 << 20
    connect_seconds: float = 10
    read_seconds: float = 15
    request_seconds: float = 30
    attempts: int = 4
    backoff_seconds: float = 0.5
    longest_wait_seconds: float = 30
    give_up_after: int = 3
    redirects: int = 5
    depth: int = 3
    requests_per_image: int = 64
    layer_bytes: int = 4 << 30
    unpacked_bytes: int = 16 << 30
    layer_seconds: float = 900
    files: int = 1_000_000


@dataclass(frozen=True, slots=True)
class Fetched:
    """A manifest: its bytes, their digest (checked), and the Content-Type."""

    body: bytes
    digest: str
    content_type: str


class _TransientError(Exception):
    """Worth another try, after ``wait`` seconds if the registry said so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(slots=True)
class _Login:
    """Where the login for one repository stands.

    Attributes:
        candidates: Credentials to try; None is the anonymous one, always last.
        current: Which of them is in use.
        header: The Authorization header; None to send none.
        expires: When to renew it, monotonic.
        worked: It has opened the door since it was last renewed.
        serial: Counts changes, so that one refusal answered by many requests moves on once.
    """

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    candidates: list[Credential | None] | None = None
    problems: tuple[str, ...] = ()
    current: int = 0
    header: str | None = None
    expires: float = 0.0
    worked: bool = False
    serial: int = 0


@dataclass(slots=True)
class _Host:
    """A registry's, mirror's or blob store's state in this run."""

    name: str
    options: RegistryHost
    base: str
    tls: ssl.SSLContext | bool
    proxy: str | None
    semaphore: asyncio.Semaphore
    challenge: auth.Challenge | None = None
    logins: dict[str, _Login] = field(default_factory=lambda: defaultdict(_Login))
    paused_until: float = 0.0
    failures: int = 0
    last_failure: str = ""


@dataclass(frozen=True, slots=True)
class _Endpoint:
    host: _Host
    repository: str


class RegistryClient:
    """Reads from registries. Use as an async context manager.

    Args:
        hosts: Options by ``host[:port]`` as in image names.
        keychain: Credentials.
        limits: Bounds.
    """

    def __init__(
        self,
        hosts: Mapping[str, RegistryHost] | None = None,
        keychain: Keychain | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._options = dict(hosts or {})
        self._keychain = keychain or Keychain()
        self._hosts: dict[str, _Host] = {}
        self._endpoints: dict[str, tuple[_Endpoint, ...]] = {}
        self._plain_http = frozenset(name for name, host in self._options.items() if host.plain_http)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "RegistryClient":
        """Open the connection pool."""
        limits = self.limits
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
            # Cookies and netrc entries would be logins that nobody gave us.
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            # Digests are over the bytes as stored; and nothing unpacks behind the limits' back.
            auto_decompress=False,
            headers={"User-Agent": _USER_AGENT, "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(
                total=limits.request_seconds,
                sock_connect=limits.connect_seconds,
                sock_read=limits.read_seconds,
            ),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    async def manifest(self, reference: Reference) -> Fetched:
        """Return the manifest that a reference stands for; its digest if given, else its tag.

        Raises:
            UnreadableError: It could not be read, or does not hash to its digest.
        """

        async def read(response: aiohttp.ClientResponse) -> Fetched:
            body = await _read(response, self.limits.manifest_bytes, "manifest")
            content_type = response.headers.get("Content-Type", "")
            claimed = response.headers.get("Docker-Content-Digest", "")
            # Schema 1 is signed inside and hashes otherwise; its reader refuses it by name.
            if SCHEMA_1 in content_type:
                return Fetched(body, "", content_type)
            digest = reference.digest or (claimed if is_digest(claimed) else "")
            found = _hash(digest or "sha256:", body)
            if digest and found != digest:
                said = "was asked for" if reference.digest else "the registry says it sent"
                raise UnreadableError(f"the manifest hashes to {found}, {digest} {said}")
            return Fetched(body, found, content_type)

        return await self._from_endpoints(reference, f"manifests/{reference.asked}", read, accept=ACCEPT)

    async def manifest_digest(self, reference: Reference) -> str:
        """Return the digest that a reference stands for, without reading the manifest (HEAD).

        Docker Hub does not count it as a pull.

        Returns:
            The digest; empty if the registry does not say.

        Raises:
            MissingError: The registry does not have it.
            UnreadableError: Anything else.
        """

        async def read(response: aiohttp.ClientResponse) -> str:
            claimed = response.headers.get("Docker-Content-Digest", "")
            if reference.digest and claimed and claimed != reference.digest:
                raise UnreadableError(f"the registry answered {claimed} for {reference.digest}")
            return claimed if is_digest(claimed) else ""

        path = f"manifests/{reference.asked}"
        return await self._from_endpoints(reference, path, read, accept=ACCEPT, method="HEAD")

    async def blob(self, reference: Reference, descriptor: Descriptor) -> bytes:
        """Return a small blob, checked against its descriptor.

        Raises:
            UnreadableError: It could not be read, is too big, or is not what the descriptor says.
        """
        if descriptor.size > self.limits.blob_bytes:
            raise UnreadableError(
                f"the blob {descriptor.digest} has {descriptor.size} bytes, more than allowed"
            )

        async def read(response: aiohttp.ClientResponse) -> bytes:
            body = await _read(response, self.limits.blob_bytes, "blob")
            if _hash(descriptor.digest, body) != descriptor.digest:
                raise UnreadableError(f"the blob {descriptor.digest} has another content than its digest")
            return body

        return await self._from_endpoints(reference, f"blobs/{descriptor.digest}", read)

    async def layer(
        self,
        reference: Reference,
        descriptor: Descriptor,
        consume: Callable[[AsyncIterator[bytes]], Awaitable[_T]],
    ) -> _T:
        """Stream a layer through a consumer, hashing it on the way.

        Args:
            reference: Its repository.
            descriptor: The layer's.
            consume: Gets the compressed bytes. Called again from the start when a try fails midway.

        Raises:
            UnreadableError: It could not be read, or its content is not what its digest says.
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
                        raise UnreadableError(f"the layer {digest} has more than its {descriptor.size} bytes")
                    hasher.update(chunk)
                    yield chunk

            stream = chunks()
            result = await consume(stream)
            async for _ in stream:
                pass
            if hasher.hexdigest() != expected:
                raise UnreadableError(f"the layer {digest} has another content than its digest")
            return result

        timeout = aiohttp.ClientTimeout(
            total=self.limits.layer_seconds,
            sock_connect=self.limits.connect_seconds,
            sock_read=self.limits.read_seconds,
        )
        return await self._from_endpoints(reference, f"blobs/{digest}", read, timeout=timeout)

    async def tags(self, reference: Reference, pages: int = 20) -> list[str]:
        """Return the repository's tags, at most so many pages of up to 1,000.

        Raises:
            UnreadableError: They could not be read.
        """
        found: list[str] = []
        path: str = "tags/list?n=1000"
        for _ in range(pages):

            async def read(response: aiohttp.ClientResponse) -> tuple[list[str], str]:
                body = await _read(response, self.limits.tags_bytes, "list of tags")
                links = response.links.get("next")
                link = links.get("url") if links else None
                # Only the place in the list is taken from the link: the host stays ours.
                return _tags(body), str(link.raw_query_string) if isinstance(link, URL) else ""

            page, query = await self._from_endpoints(reference, path, read)
            found += page
            if not query or not page:
                break
            path = f"tags/list?{query}"
        return found

    async def _from_endpoints(
        self,
        reference: Reference,
        path: str,
        read: Callable[[aiohttp.ClientResponse], Awaitable[_T]],
        *,
        accept: str = "*/*",
        method: str = "GET",
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> _T:
        endpoints = self._endpoints.get(reference.name) or self._resolve(reference)
        refusals = []
        missing = True
        for endpoint in endpoints:
            try:
                return await self._patiently(endpoint, path, read, accept, method, timeout)
            except UnreadableError as error:
                missing = missing and isinstance(error, MissingError)
                refusals.append(error)
        if len(refusals) == 1:
            raise refusals[0]
        text = "; ".join(str(error) for error in refusals)
        raise MissingError(text) if missing else UnreadableError(text)

    def _resolve(self, reference: Reference) -> tuple[_Endpoint, ...]:
        options = self._options.get(reference.registry, RegistryHost())
        endpoints = []
        for mirror in options.mirrors:
            name, _, prefix = mirror.strip("/").partition("/")
            repository = f"{prefix}/{reference.repository}" if prefix else reference.repository
            endpoints.append(_Endpoint(self._host(name), repository))
        endpoints.append(_Endpoint(self._host(reference.registry), reference.repository))
        return self._endpoints.setdefault(reference.name, tuple(endpoints))

    def _host(self, name: str) -> _Host:
        host = self._hosts.get(name)
        if host is None:
            options = self._options.get(name, RegistryHost())
            scheme = "http" if options.plain_http else "https"
            address = _HUB_HOST if name == DOCKER_HUB else name
            host = self._hosts[name] = _Host(
                name=name,
                options=options,
                base=f"{scheme}://{address}/v2/",
                tls=_tls(options.ca_file),
                proxy=_proxy(scheme, address),
                semaphore=asyncio.Semaphore(self.limits.concurrency),
            )
        return host

    async def _patiently(
        self,
        endpoint: _Endpoint,
        path: str,
        read: Callable[[aiohttp.ClientResponse], Awaitable[_T]],
        accept: str,
        method: str,
        timeout: aiohttp.ClientTimeout | None,
    ) -> _T:
        host = endpoint.host
        # Held through the waits as well: a registry that fails is asked less, not more.
        async with host.semaphore:
            for attempt in range(1, self.limits.attempts + 1):
                # A pause asked of one request is meant for all of them.
                while (pause := host.paused_until - time.monotonic()) > 0:
                    await asyncio.sleep(pause)
                if host.failures >= self.limits.give_up_after:
                    raise UnreadableError(f"{host.name} was given up on: {host.last_failure}")
                try:
                    result = await self._once(endpoint, path, read, accept, method, timeout)
                except _TransientError as error:
                    await self._wait(host, error, attempt)
                else:
                    host.failures = 0
                    return result
        raise AssertionError("the last try returns or raises")

    async def _wait(self, host: _Host, failure: _TransientError, attempt: int) -> None:
        """Wait before the next try, or raise if there is none or it is too far off."""
        limits = self.limits
        backoff = limits.backoff_seconds * 2 ** (attempt - 1) * random.uniform(0.5, 1)  # noqa: S311
        wait = min(backoff, limits.longest_wait_seconds) if failure.wait is None else failure.wait
        last = attempt == limits.attempts
        if last or wait > limits.longest_wait_seconds:
            host.failures += 1
            suffix = f"{attempt} times" if last else f"and wants us to wait {wait:.0f} s"
            host.last_failure = f"{failure}, {suffix}"
            raise UnreadableError(f"{host.name}: {host.last_failure}") from None
        if failure.wait is None:
            await asyncio.sleep(wait)
        else:
            host.paused_until = max(host.paused_until, time.monotonic() + wait)

    async def _once(
        self,
        endpoint: _Endpoint,
        path: str,
        read: Callable[[aiohttp.ClientResponse], Awaitable[_T]],
        accept: str,
        method: str,
        timeout: aiohttp.ClientTimeout | None,
    ) -> _T:
        """Ask once, logging in as the registry wants; raise _TransientError for what may pass."""
        host, repository = endpoint.host, endpoint.repository
        url = URL(f"{host.base}{repository}/{path}", encoded=True)
        login = host.logins[repository]
        # Each refusal uses up a credential, or a token that had grown old.
        for _ in range(_LOGINS):
            header = await self._header(host, repository, login)
            serial = login.serial
            headers = {"Accept": accept}
            if header:
                headers["Authorization"] = header
            async with self._send(host, method, url, headers, timeout) as (response, redirected):
                status = response.status
                if status == 200:
                    login.worked = True
                    return await read(response)
                if status in (401, 403) and not redirected:
                    challenges = response.headers.getall("WWW-Authenticate", [])
                    await self._refused(host, repository, login, serial, status, challenges)
                    continue
                _raise_for(host.name, response, redirected)
        raise UnreadableError(f"{host.name} refused {_LOGINS} logins in a row")

    @asynccontextmanager
    async def _send(
        self,
        host: _Host,
        method: str,
        url: URL,
        headers: dict[str, str],
        timeout: aiohttp.ClientTimeout | None,
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, bool]]:
        """Send, following redirects with nothing of the login; yield the answer, and if elsewhere."""
        assert self._session is not None, "the client is used outside its context"  # noqa: S101
        extra: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        tls, proxy, origin = host.tls, host.proxy, url
        try:
            for _ in range(self.limits.redirects + 1):
                async with self._session.request(
                    method, url, headers=headers, allow_redirects=False, ssl=tls, proxy=proxy, **extra
                ) as response:
                    if response.status not in _REDIRECTS:
                        yield response, url.origin() != origin.origin()
                        return
                    url = self._next(url, response.headers.get("Location", ""))
                if url.origin() != origin.origin():
                    headers = {name: value for name, value in headers.items() if name != "Authorization"}
                target = self._options.get(_authority(url), RegistryHost())
                tls, proxy = _tls(target.ca_file), _proxy(url.scheme, url.authority)
            raise UnreadableError(f"{host.name}: more than {self.limits.redirects} redirects in a row")
        except TimeoutError:
            raise _TransientError("no answer in time") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise UnreadableError(
                f"{host.name}: its certificate is not trusted: {error.certificate_error}"
            ) from None
        except aiohttp.ClientSSLError as error:
            raise UnreadableError(f"{host.name}: no TLS with it: {error}") from None
        except aiohttp.ClientConnectorError as error:
            raise _TransientError(f"no connection ({error.os_error})") from None
        except aiohttp.ClientError as error:
            raise _TransientError(f"the answer broke off ({type(error).__name__})") from None
        except OSError as error:
            raise _TransientError(f"the connection broke ({error})") from None

    def _next(self, url: URL, location: str) -> URL:
        try:
            given = URL(location, encoded=True)
            target = url.join(given)
            named = _authority(target)
            # Joining makes our own URL of a scheme alone.
            if not location or (given.scheme and not given.host):
                raise ValueError
        except ValueError:
            raise UnreadableError("redirected to something that is not a URL") from None
        allowed = target.scheme == "https" or (target.scheme == "http" and named in self._plain_http)
        if not target.host or target.user or target.password or not allowed:
            # Queries of signed URLs are secrets: only the host is told.
            raise UnreadableError(f"redirected to {target.scheme}://{named}, which is not allowed: not https")
        return target

    async def _header(self, host: _Host, repository: str, login: _Login) -> str | None:
        if host.challenge is None or (login.candidates is not None and time.monotonic() < login.expires):
            return login.header
        async with login.lock:
            if login.candidates is not None and time.monotonic() < login.expires:
                return login.header
            if login.candidates is None:
                found, login.problems = await self._keychain.lookup(host.name, repository)
                login.candidates = [*found, None]
            await self._log_in(host, repository, login)
            return login.header

    async def _refused(
        self, host: _Host, repository: str, login: _Login, serial: int, status: int, headers: list[str]
    ) -> None:
        """Get ready for another try with another login, or raise if there is none."""
        async with login.lock:
            if login.serial != serial:
                return
            login.serial += 1
            if login.candidates is None:
                challenge = auth.parse_challenge(headers)
                if status == 403 or challenge is None:
                    raise UnreadableError(_refusal(host, login, status))
                host.challenge = challenge
                found, login.problems = await self._keychain.lookup(host.name, repository)
                login.candidates = [*found, None]
            elif status == 401 and login.worked:
                # It was good a moment ago: a token that the registry ended early.
                login.worked = False
            elif login.current + 1 < len(login.candidates):
                login.current += 1
            else:
                raise UnreadableError(_refusal(host, login, status))
            await self._log_in(host, repository, login)

    async def _log_in(self, host: _Host, repository: str, login: _Login) -> None:
        """Set the header for the current credential, or for the next that the token server takes."""
        assert host.challenge is not None  # noqa: S101
        assert login.candidates is not None  # noqa: S101
        while True:
            credential = login.candidates[login.current]
            try:
                login.header, seconds = await self._authorization(host, repository, credential)
                login.expires = time.monotonic() + seconds
                return
            except UnreadableError as error:
                login.problems = (*login.problems, str(error))
                if login.current + 1 >= len(login.candidates):
                    raise UnreadableError(_refusal(host, login, 401)) from None
                login.current += 1

    async def _authorization(
        self, host: _Host, repository: str, credential: Credential | None
    ) -> tuple[str | None, float]:
        """Return the header for a credential, and for how many seconds it is good."""
        challenge = host.challenge
        assert challenge is not None  # noqa: S101
        forever = float("inf")
        if credential is not None and credential.registry_token:
            return f"Bearer {credential.registry_token}", forever
        if challenge.scheme == "basic":
            if credential is None or credential.identity_token:
                return None, forever
            return _basic(credential), forever
        problem = auth.realm_problem(challenge.realm, self._plain_http)
        if problem:
            raise UnreadableError(f"{host.name}: {problem}")
        address = URL(host.base).authority
        if credential is not None and not auth.may_see_credentials(
            address, challenge.realm, host.options.token_hosts
        ):
            raise UnreadableError(
                f"{host.name} asks to log in at {_authority(URL(challenge.realm))}, another host: "
                "name it among this registry's token_hosts if the login may go there"
            )
        token, seconds = await self._token(host, challenge, repository, credential)
        return f"Bearer {token}", seconds

    async def _token(
        self, host: _Host, challenge: auth.Challenge, repository: str, credential: Credential | None
    ) -> tuple[str, float]:
        """Ask a token server. Its redirects are not followed: the login would go with them."""
        assert self._session is not None  # noqa: S101
        fields = {"scope": auth.pull_scope(repository, challenge.scope)}
        if challenge.service:
            fields["service"] = challenge.service
        realm = URL(challenge.realm)
        target = self._options.get(
            _authority(realm), host.options if realm.host == URL(host.base).host else RegistryHost()
        )
        extra: dict[str, Any] = {
            "allow_redirects": False,
            "ssl": _tls(target.ca_file),
            "proxy": _proxy(realm.scheme, realm.authority),
        }
        headers = {}
        if credential is not None and not credential.identity_token:
            headers["Authorization"] = _basic(credential)
        try:
            if credential is not None and credential.identity_token:
                fields |= {
                    "grant_type": "refresh_token",
                    "refresh_token": credential.identity_token,
                    "client_id": _USER_AGENT,
                }
                request = self._session.post(realm, data=fields, headers=headers, **extra)
            else:
                url = URL(
                    f"{challenge.realm}{'&' if '?' in challenge.realm else '?'}{urlencode(fields)}",
                    encoded=True,
                )
                request = self._session.get(url, headers=headers, **extra)
            async with request as response:
                if response.status in _TRANSIENT:
                    _raise_for(_authority(realm), response, redirected=False)
                if response.status != 200:
                    raise UnreadableError(f"the token server {_authority(realm)} answered {response.status}")
                body = await _read(response, self.limits.tags_bytes, "token")
        except TimeoutError:
            raise _TransientError(f"the token server {_authority(realm)} did not answer in time") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _TransientError(
                f"the token server {_authority(realm)} cannot be read ({type(error).__name__})"
            ) from None
        return _read_token(body, _authority(realm))


def _basic(credential: Credential) -> str:
    pair = f"{credential.username}:{credential.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def _read_token(body: bytes, server: str) -> tuple[str, float]:
    try:
        answer = json.loads(body)
        token = answer.get("token") or answer.get("access_token")
        seconds = answer.get("expires_in") or 60
        # Printable ASCII only: it becomes a header.
        if not (
            isinstance(token, str) and token and token.isascii() and token.isprintable() and " " not in token
        ):
            raise TypeError
        # A minute is the protocol's default; renew a little before, and distrust the clock both ways.
        return token, max(5.0, min(float(seconds), 3600.0) * 0.8)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UnreadableError(f"the token server {server} did not answer with a token") from None


def _refusal(host: _Host, login: _Login, status: int) -> str:
    word = "wants a login (401)" if status == 401 else "denies access (403)"
    tried = [one.source for one in login.candidates or () if one is not None]
    what = (
        f"refused the logins from {', '.join(dict.fromkeys(tried))}"
        if tried
        else "and there is no login for it"
    )
    return "; ".join((f"{host.name} {word} {what}", *dict.fromkeys(login.problems)))


def _raise_for(name: str, response: aiohttp.ClientResponse, redirected: bool) -> None:
    status = response.status
    where = f"{name}, redirected to {_authority(response.url)}," if redirected else name
    if status == 404:
        raise MissingError(f"{where} does not have it (404)")
    if status in _TRANSIENT:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        raise _TransientError("limits our rate (429)" if status == 429 else f"answered {status}", wait)
    raise UnreadableError(f"{where} answered {status}")


def _retry_after(value: str) -> float | None:
    """Read Retry-After: seconds, or a date (RFC 9110, 10.2.3)."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    with suppress(ValueError, TypeError):
        when = parsedate_to_datetime(value)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    return None


async def _read(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise UnreadableError(f"the {what} came encoded, which was not asked for")
    if (response.content_length or 0) > limit:
        raise UnreadableError(f"the {what} has {response.content_length} bytes, more than {limit}")
    if response.content_length is not None:
        body: bytes = await response.read()
        return body
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > limit:
            raise UnreadableError(f"the {what} has more than {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def _hash(digest: str, body: bytes) -> str:
    algorithm = digest.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, body).hexdigest()}"


def _tags(body: bytes) -> list[str]:
    try:
        tags = json.loads(body).get("tags") or []
        if not isinstance(tags, list):
            raise TypeError
        return [tag for tag in tags if isinstance(tag, str)]
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise UnreadableError("the list of tags is not readable") from None


def _authority(url: URL) -> str:
    """Return ``host[:port]`` as in image names: the port only where it is not the scheme's."""
    host = f"[{url.host}]" if url.host and ":" in url.host else (url.host or "")
    return host if url.is_default_port() or url.port is None else f"{host}:{url.port}"


_contexts: dict[str, ssl.SSLContext] = {}


def _tls(ca_file: str) -> ssl.SSLContext | bool:
    if not ca_file:
        return True
    if ca_file not in _contexts:
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ArchshiftError(f"the CA file {ca_file} cannot be read: {error}") from None
        _contexts[ca_file] = context
    return _contexts[ca_file]


def _proxy(scheme: str, authority: str) -> str | None:
    """Return the proxy that the environment names for a host.

    Not aiohttp's ``trust_env``, which would send netrc's logins too.
    """
    proxies = urllib.request.getproxies_environment()
    if scheme not in proxies or urllib.request.proxy_bypass(authority):
        return None
    return proxies[scheme]
