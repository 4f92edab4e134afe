"""HTTP to registries: one connection pool, limits for each host, redirects without logins, bounded bodies."""

from __future__ import annotations

import asyncio
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from yarl import URL

from archshift.common.errors import ArchshiftError
from archshift.common.failures import why_no_connection
from archshift.images.registry.auth import authority
from archshift.images.registry.errors import MissingError, UnreadableError
from archshift.images.registry.hosts import RegistryHost
from archshift.images.registry.reference import DOCKER_HUB

if TYPE_CHECKING:
    # aiohttp is imported with the first request, because the import takes a tenth of a second. That is a
    # fifth of what a preview of a small fleet adds to an empty program. Without it, evidence from the cache
    # comes faster.
    import aiohttp

USER_AGENT: Final = "archshift"
TRANSIENT: Final = (429, 500, 502, 503, 504)
"""Statuses after which another try may succeed."""

_HUB_HOST: Final = "registry-1.docker.io"
_REDIRECTS: Final = (301, 302, 303, 307, 308)


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one run. Sizes in bytes, times in seconds.

    Attributes:
        concurrency: Concurrent requests to one host.
        manifest_bytes: Largest manifest. Registries accept 4 MiB.
        blob_bytes: Largest config blob.
        tags_bytes: Largest page of tags.
        connect_seconds: Longest time to connect, with TLS.
        read_seconds: Longest silence within a response.
        request_seconds: Longest time for a whole response, except a layer.
        attempts: Tries of one request. A host that has never answered gets so many tries in all; a try that
            timed out counts twice.
        backoff_seconds: Longest wait before the second try. It doubles with each further try.
        longest_wait_seconds: Longest wait between tries. A longer Retry-After ends the request.
        give_up_after: After so many failed requests in a row, each with all its tries, a host gets no more.
        redirects: Redirects in a row.
        depth: Levels of nested indexes.
        requests_per_image: Manifests and configs that are read for one image.
        image_bytes: Manifests and configs of one image together.
        image_seconds: Longest time for one image.
        run_seconds: Longest time for all images.
        images_per_registry: Images of one registry that are read at the same time.
        images: Images that are read at the same time.
        slow_seconds: A response that takes longer no longer counts for ``concurrency``, so that slow images
            do not delay others.
        contact_seconds: How long other requests wait for the first answer of a host.
        layer_bytes: Deep check: compressed bytes of one image.
        unpacked_bytes: Deep check: unpacked bytes of one image.
        slowest_bytes: Deep check: each time so many bytes came, an image gets a second more.
        deep_seconds: Deep check: longest time for one image with all its bytes.
        files: Deep check: files of one image.
        memory_bytes: Deep check: memory for the names of one image.
        all_memory_bytes: Deep check: memory for the names of all images that are read at the same time.
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
    image_bytes: int = 16 << 20
    image_seconds: float = 60
    run_seconds: float = 1500
    images_per_registry: int = 64
    images: int = 512
    slow_seconds: float = 2
    contact_seconds: float = 5
    layer_bytes: int = 4 << 30
    unpacked_bytes: int = 16 << 30
    slowest_bytes: int = 1 << 20
    deep_seconds: float = 900
    files: int = 1_000_000
    memory_bytes: int = 192 << 20
    all_memory_bytes: int = 256 << 20


class TransientError(Exception):
    """Another try may succeed, after ``wait`` seconds if the registry named a time.

    Attributes:
        wait: The wait that the registry asked for; None if it did not.
        silence: How many tries this one counts for while the host has never answered; 0 if it answered.
    """

    def __init__(self, reason: str, wait: float | None = None, *, silence: int = 0) -> None:
        super().__init__(reason)
        self.wait = wait
        self.silence = silence


@dataclass(slots=True)
class Host:
    """The state of a registry or mirror in this run.

    Attributes:
        name: The name as in image names.
        base: The URL of its API, with a slash at the end.
        tls: The trusted authorities; True for the system's.
        paused_until: No requests until then, because the registry asked for a pause; in monotonic seconds.
        succeeded: When a request last succeeded, in monotonic seconds.
        failures: Failed requests in a row, each with all its tries, while no other request succeeded.
        head: Whether it answers HEAD; False after a GET succeeded where HEAD had failed.
        answered: Whether it has answered a request in this run.
        silences: Tries without an answer, until the first answer.
        away: Why it gets no more requests: it does not answer. Empty if it may be asked.
        asked: Whether the first request is under way or over.
        contact: Set when the first request is over, or has an answer. All others wait for it, so a host that
            does not answer costs one request, and a login is learned once.
    """

    name: str
    options: RegistryHost
    base: str
    tls: ssl.SSLContext | bool
    proxy: str | None
    semaphore: asyncio.Semaphore
    paused_until: float = 0.0
    succeeded: float = 0.0
    failures: int = 0
    last_failure: str = ""
    head: bool = True
    answered: bool = False
    silences: int = 0
    away: str = ""
    asked: bool = False
    contact: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def place(self, seconds: float) -> AsyncIterator[None]:
        """Take one of the host's places for a request; after so many seconds the next one gets it."""
        held = True

        def give_back() -> None:
            nonlocal held
            if held:
                held = False
                self.semaphore.release()

        await self.semaphore.acquire()
        timer = asyncio.get_running_loop().call_later(seconds, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()

    @property
    def address(self) -> str:
        """What is asked: the URL, and the proxy without its login."""
        via = URL(self.proxy) if self.proxy else None
        return f"{self.base} {via.host}:{via.port}" if via else self.base


class Transport:
    """Sends requests. Use it as an async context manager.

    Args:
        options: Options by ``host[:port]`` as in image names.
        limits: Bounds on sizes, times and numbers.

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
        """Do nothing yet: the first request opens the connection pool."""
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
                # Cookies and netrc entries would be logins that the user did not configure.
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                # Digests are for the stored bytes, and automatic unpacking would evade the limits.
                auto_decompress=False,
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
                timeout=self.timeout(self.limits.request_seconds),
            )
        return self._session

    def timeout(self, seconds: float) -> aiohttp.ClientTimeout:
        """Return the timeouts for a response that may take ``seconds`` in total."""
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
        """Send a request. Yield the response, and whether a redirect led to another host.

        A redirect to another host does not get the login.

        Raises:
            TransientError: Another try may succeed.
            UnreadableError: Another try would fail too.
        """
        import aiohttp

        extra: dict[str, Any] = {} if timeout is None else {"timeout": timeout}
        tls, proxy, origin = host.tls, host.proxy, url
        answered = redirected = False
        try:
            for _ in range(self.limits.redirects + 1):
                async with self.session.request(
                    method, url, headers=headers, allow_redirects=False, ssl=tls, proxy=proxy, **extra
                ) as response:
                    answered = True
                    if response.status not in _REDIRECTS:
                        yield response, redirected
                        return
                    url = self._next(url, response.headers.get("Location", ""))
                redirected = url.origin() != origin.origin()
                if redirected:
                    headers = {name: value for name, value in headers.items() if name != "Authorization"}
                target = self.options(authority(url))
                tls, proxy = tls_for(target.ca_file), proxy_for(url.scheme, url.authority)
            raise UnreadableError(f"{host.name}: more than {self.limits.redirects} redirects in a row")
        except TimeoutError:
            raise TransientError("no answer in time", silence=0 if answered else 2) from None
        except aiohttp.ClientHttpProxyError as error:
            reason = f"its proxy answered {error.status}"
            if error.status in TRANSIENT:
                raise TransientError(reason) from None
            raise UnreadableError(f"{host.name}: {reason}") from None
        except aiohttp.ClientConnectorCertificateError as error:
            raise UnreadableError(
                f"{host.name}: its certificate is not trusted: {_why_untrusted(error.certificate_error)}"
            ) from None
        except aiohttp.ClientSSLError as error:
            raise UnreadableError(
                f"{host.name}: the TLS handshake failed: {_why_no_tls(error.os_error)}"
            ) from None
        except aiohttp.ClientProxyConnectionError as error:
            why = why_no_connection(error.os_error)
            raise TransientError(f"there is no connection to its proxy ({why})", silence=1) from None
        except aiohttp.ClientConnectorError as error:
            raise TransientError(why_no_connection(error.os_error), silence=0 if answered else 1) from None
        except aiohttp.ClientError:
            raise TransientError("the answer broke off") from None
        except OSError as error:
            raise TransientError(why_no_connection(error), silence=0 if answered else 1) from None
        except ValueError:
            # For instance a host name that is invalid in DNS.
            raise UnreadableError(f"{host.name}: its name is not a valid host name") from None

    def _next(self, url: URL, location: str) -> URL:
        try:
            parsed = URL(location, encoded=True)
            target = url.join(parsed)
            target_host = authority(target)
            # A join with only a scheme would return the URL of the request.
            if not location or (parsed.scheme and not parsed.host):
                raise ValueError
        except ValueError:
            raise UnreadableError("the registry redirected to an invalid URL") from None
        allowed = target.scheme == "https" or (target.scheme == "http" and target_host in self.plain_http)
        if not target.host or target.user or target.password or not allowed:
            # Queries of signed URLs are secrets, so the message names only the host.
            raise UnreadableError(
                f"the registry redirected to {target.scheme}://{target_host}, "
                "which archshift does not follow, because it is not https"
            )
        return target


def raise_for(name: str, response: aiohttp.ClientResponse, redirected: bool) -> None:
    """Raise the error for a status other than 200."""
    status = response.status
    where = f"{name}, redirected to {authority(response.url)}," if redirected else name
    if status == 404:
        raise MissingError(f"{where} does not have it ({status})")
    if status in TRANSIENT:
        wait = retry_after(response.headers.get("Retry-After", ""))
        raise TransientError(
            "its rate limit is reached (429)" if status == 429 else f"answered {status}", wait
        )
    raise UnreadableError(f"{where} answered {status}")


def retry_after(value: str) -> float | None:
    """Read a Retry-After header: seconds, or a date (RFC 9110, 10.2.3)."""
    if value.isascii() and value.isdigit():
        return float(value[:9])
    with suppress(ValueError, TypeError, OverflowError):
        when = parsedate_to_datetime(value)
        when = when if when.tzinfo else when.replace(tzinfo=UTC)
        return max(0.0, (when - datetime.now(UTC)).total_seconds())
    return None


def _why_untrusted(error: Exception) -> str:
    return str(getattr(error, "verify_message", "") or "the certificate is invalid")


def _why_no_tls(error: OSError) -> str:
    reason = str(getattr(error, "reason", "") or "")
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST"):
        return "the host does not speak TLS at this port"
    return reason.replace("_", " ").lower() or why_no_connection(error)


async def read_body(response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    """Return the body of a response.

    Raises:
        UnreadableError: It has more bytes than the limit, or a Content-Encoding.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise UnreadableError(f"the {what} has a Content-Encoding, although archshift did not accept any")
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
        ArchshiftError: The file cannot be read.
    """
    if not ca_file:
        return True
    if ca_file not in _contexts:
        context = ssl.create_default_context()
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise ArchshiftError(
                f"archshift cannot read the CA file {ca_file}: "
                f"{getattr(error, 'strerror', '') or 'it is not a valid PEM file'}",
                "correct ca_file in archshift:images.registries",
            ) from None
        _contexts[ca_file] = context
    return _contexts[ca_file]


def proxy_for(scheme: str, authority: str) -> str | None:
    """Return the proxy from the environment for a host.

    aiohttp's ``trust_env`` would also send the logins of netrc.
    """
    proxies = urllib.request.getproxies_environment()
    if scheme not in proxies or urllib.request.proxy_bypass(authority):
        return None
    return proxies[scheme]
