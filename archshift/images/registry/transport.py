"""HTTP to registries: one connection pool, pacing by host, redirects without logins, bounded bodies."""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from archshift.common.errors import ArchshiftError
from archshift.images.registry.auth import authority
from archshift.images.registry.errors import MissingError, UnreadableError
from archshift.images.registry.hosts import RegistryHost
from archshift.images.registry.reference import DOCKER_HUB

if TYPE_CHECKING:
    # Loaded with the first request: where all evidence is in the cache there is none, and it takes a tenth
    # of a second, a fifth of what a preview of a small fleet adds to an empty program.
    import aiohttp

USER_AGENT: Final = "archshift"
TRANSIENT: Final = (429, 500, 502, 503, 504)
"""Statuses worth another try."""

_HUB_HOST: Final = "registry-1.docker.io"
_REDIRECTS: Final = (301, 302, 303, 307, 308)


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


class TransientError(Exception):
    """Worth another try, after ``wait`` seconds if the registry said so."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(slots=True)
class Host:
    """A registry's or mirror's state in this run.

    Attributes:
        name: As in image names.
        options: The user's.
        base: Its API, with a slash at the end.
        tls: What to trust; True for the system's authorities.
        proxy: The environment's proxy for it.
        semaphore: Bounds the requests under way.
        paused_until: It asked for silence until then, monotonic.
        failures: Requests that failed in a row, retries spent.
        last_failure: The last one's reason.
    """

    name: str
    options: RegistryHost
    base: str
    tls: ssl.SSLContext | bool
    proxy: str | None
    semaphore: asyncio.Semaphore
    paused_until: float = 0.0
    failures: int = 0
    last_failure: str = ""


class Transport:
    """Sends requests. Use as an async context manager.

    Args:
        options: By ``host[:port]`` as in image names.
        limits: Bounds.

    Raises:
        ArchshiftError: A CA file cannot be read.
    """

    def __init__(self, options: Mapping[str, RegistryHost], limits: Limits) -> None:
        self.limits = limits
        self.plain_http = frozenset(name for name, host in options.items() if host.plain_http)
        self._options = dict(options)
        self._hosts: dict[str, Host] = {}
        self._session: aiohttp.ClientSession | None = None
        for host in self._options.values():
            tls_for(host.ca_file)

    async def __aenter__(self) -> Transport:
        """Open nothing yet: the first request does."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connection pool."""
        if self._session is None:
            import aiohttp

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, ttl_dns_cache=300),
                # Cookies and netrc entries would be logins that nobody gave us.
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                # Digests are over the bytes as stored; and nothing unpacks behind the limits' back.
                auto_decompress=False,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                timeout=self.timeout(self.limits.request_seconds),
            )
        return self._session

    def timeout(self, seconds: float) -> aiohttp.ClientTimeout:
        """Return the timeouts for an answer that may take so long in all."""
        import aiohttp

        return aiohttp.ClientTimeout(
            total=seconds, sock_connect=self.limits.connect_seconds, sock_read=self.limits.read_seconds
        )

    def options(self, name: str) -> RegistryHost:
        """Return the user's options for a ``host[:port]``."""
        return self._options.get(name, RegistryHost())

    def host(self, name: str) -> Host:
        """Return the state of a registry or mirror."""
        host = self._hosts.get(name)
        if host is None:
            options = self.options(name)
            scheme = "http" if options.plain_http else "https"
            address = _HUB_HOST if name == DOCKER_HUB else name
            host = self._hosts[name] = Host(
                name=name,
                options=options,
                base=f"{scheme}://{address}/v2/",
                tls=tls_for(options.ca_file),
                proxy=proxy_for(scheme, address),
                semaphore=asyncio.Semaphore(self.limits.concurrency),
            )
        return host

    @asynccontextmanager
    async def send(
        self,
        host: Host,
        method: str,
        url: URL,
        headers: dict[str, str],
        timeout: aiohttp.ClientTimeout | None,
    ) -> AsyncIterator[tuple[aiohttp.ClientResponse, bool]]:
        """Send, following redirects with nothing of the login; yield the answer, and if elsewhere.

        Raises:
            TransientError: Worth another try.
            UnreadableError: Not worth one.
        """
        import aiohttp

        extra: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        tls, proxy, origin = host.tls, host.proxy, url
        try:
            for _ in range(self.limits.redirects + 1):
                async with self.session.request(
                    method, url, headers=headers, allow_redirects=False, ssl=tls, proxy=proxy, **extra
                ) as response:
                    if response.status not in _REDIRECTS:
                        yield response, url.origin() != origin.origin()
                        return
                    url = self._next(url, response.headers.get("Location", ""))
                if url.origin() != origin.origin():
                    headers = {name: value for name, value in headers.items() if name != "Authorization"}
                target = self.options(authority(url))
                tls, proxy = tls_for(target.ca_file), proxy_for(url.scheme, url.authority)
            raise UnreadableError(f"{host.name}: more than {self.limits.redirects} redirects in a row")
        except TimeoutError:
            raise TransientError("no answer in time") from None
        except aiohttp.ClientHttpProxyError as error:
            reason = f"its proxy answered {error.status}"
            if error.status in TRANSIENT:
                raise TransientError(reason) from None
            raise UnreadableError(f"{host.name}: {reason}") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise UnreadableError(
                f"{host.name}: its certificate is not trusted: {error.certificate_error}"
            ) from None
        except aiohttp.ClientSSLError as error:
            raise UnreadableError(f"{host.name}: no TLS with it: {error}") from None
        except aiohttp.ClientConnectorError as error:
            raise TransientError(f"no connection ({error.os_error})") from None
        except aiohttp.ClientError as error:
            raise TransientError(f"the answer broke off ({type(error).__name__})") from None
        except OSError as error:
            raise TransientError(f"the connection broke ({error})") from None
        except ValueError as error:
            # For instance a host name that DNS cannot take.
            raise UnreadableError(f"{host.name} cannot be asked: {error}") from None

    def _next(self, url: URL, location: str) -> URL:
        try:
            given = URL(location, encoded=True)
            target = url.join(given)
            named = authority(target)
            # Joining makes our own URL of a scheme alone.
            if not location or (given.scheme and not given.host):
                raise ValueError
        except ValueError:
            raise UnreadableError("redirected to something that is not a URL") from None
        allowed = target.scheme == "https" or (target.scheme == "http" and named in self.plain_http)
        if not target.host or target.user or target.password or not allowed:
            # Queries of signed URLs are secrets: only the host is told.
            raise UnreadableError(f"redirected to {target.scheme}://{named}, which is not allowed: not https")
        return target


def raise_for(name: str, response: aiohttp.ClientResponse, redirected: bool) -> None:
    """Raise what a status other than 200 means."""
    status = response.status
    where = f"{name}, redirected to {authority(response.url)}," if redirected else name
    # HEAD may be unknown to a registry, or to a proxy in front of it: that says no more than 404 does.
    if status == 404 or (response.method == "HEAD" and status in (405, 501)):
        raise MissingError(f"{where} does not have it ({status})")
    if status in TRANSIENT:
        wait = _retry_after(response.headers.get("Retry-After", ""))
        raise TransientError("limits our rate (429)" if status == 429 else f"answered {status}", wait)
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


async def read_body(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    """Return an answer's body.

    Raises:
        UnreadableError: It has more bytes than the limit, or came encoded.
    """
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


_contexts: dict[str, ssl.SSLContext] = {}


def tls_for(ca_file: str) -> ssl.SSLContext | bool:
    """Return the TLS settings for a CA file; an empty name trusts the system's authorities.

    Raises:
        ArchshiftError: It cannot be read.
    """
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


def proxy_for(scheme: str, authority: str) -> str | None:
    """Return the proxy that the environment names for a host.

    Not aiohttp's ``trust_env``, which would send netrc's logins too.
    """
    proxies = urllib.request.getproxies_environment()
    if scheme not in proxies or urllib.request.proxy_bypass(authority):
        return None
    return proxies[scheme]
