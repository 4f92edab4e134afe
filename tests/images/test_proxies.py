"""Registries behind the proxy that the environment names: reached through it, and nothing leaks to it."""

import asyncio
import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from archshift.images.audit import AuditOptions, audit_images
from archshift.images.registry.client import RegistryHost
from archshift.images.verdict import ImageVerdict
from lab.processes import free_port
from tests.images.build import Pusher
from tests.images.login import HTPASSWD, LOGIN, secret
from tests.images.servers import Authority, Registry

Options = Callable[..., AuditOptions]


class ForwardProxy:
    """An HTTP proxy on loopback: CONNECT, and plain requests for whole URLs. Remembers their heads."""

    def __init__(self) -> None:
        """Start one on a free port."""
        self.heads: list[str] = []
        self.status = 200
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result(10)
        self.host = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    @property
    def targets(self) -> list[str]:
        """What it was asked to reach: ``CONNECT host:port`` or ``GET http://…``."""
        return [head.partition(" HTTP/")[0] for head in self.heads]

    def stop(self) -> None:
        async def close() -> None:
            self._server.close()
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        asyncio.run_coroutine_threadsafe(close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            head = await reader.readuntil(b"\r\n\r\n")
            self.heads.append(head.decode())
            method, target = head.decode().split(" ")[:2]
            if self.status != 200:
                writer.write(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
                writer.close()
                return
            host = target if method == "CONNECT" else target.split("/")[2]
            name, _, port = host.partition(":")
            other_reader, other_writer = await asyncio.open_connection(name, int(port))
            if method == "CONNECT":
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                # Servers take whole URLs too, so the rest of the connection passes as it is.
                other_writer.write(head)
            await asyncio.gather(_pipe(reader, other_writer), _pipe(other_reader, writer))
        writer.close()


async def _pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.close()


@pytest.fixture
def forward(monkeypatch: pytest.MonkeyPatch) -> Iterator[ForwardProxy]:
    """A proxy for https and http that wants a login, named in the environment as users do."""
    for name in ("no_proxy", "NO_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    proxy = ForwardProxy()
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:word@{proxy.host}")
    monkeypatch.setenv("HTTP_PROXY", f"http://me:word@{proxy.host}")
    yield proxy
    proxy.stop()


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Registry]:
    """A real registry that speaks TLS and wants a login."""
    folder = tmp_path_factory.mktemp("encrypted")
    (folder / "htpasswd").write_text(HTPASSWD)
    registry = Registry(
        folder,
        {
            "http": {"tls": {"certificate": str(authority.certificate), "key": str(authority.key)}},
            "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
        },
        scheme="https",
    )
    Pusher(registry.base, LOGIN, verify=False).multi("team/app", "1", "linux/amd64", "linux/arm64")
    yield registry
    registry.stop()


@pytest.fixture
def audit(encrypted: Registry, authority: Authority, options: Options) -> Callable[[], ImageVerdict]:
    """Audit the image of the registry with TLS."""
    hosts = {encrypted.host: RegistryHost(ca_file=str(authority.ca_file))}
    image = f"{encrypted.host}/team/app:1"
    secrets = (secret(encrypted.host),)
    return lambda: audit_images([image], options(hosts=hosts, pull_secrets=secrets))[image]


def test_https_goes_through_the_proxy_and_stays_closed_to_it(
    forward: ForwardProxy, encrypted: Registry, audit: Callable[[], ImageVerdict]
) -> None:
    """The proxy gets its own login and the registry's address; the registry's login is none of its."""
    assert audit().verdict == "multi-arch"
    assert set(forward.targets) == {f"CONNECT {encrypted.host}"}
    own, registrys = (base64.b64encode(pair).decode() for pair in (b"me:word", b"user:secret"))
    for head in forward.heads:
        assert f"Proxy-Authorization: Basic {own}" in head
        assert registrys not in head


def test_plain_http_goes_through_the_proxy_as_well(
    forward: ForwardProxy, push: Pusher, registry: Registry, options: Options
) -> None:
    """A whole URL to the proxy, for hosts that may be spoken to in the clear."""
    push.multi("proxied", "1", "linux/amd64")
    image = f"{registry.host}/proxied:1"
    assert audit_images([image], options(registry.host))[image].verdict == "amd64-only"
    assert forward.targets[0] == f"GET http://{registry.host}/v2/proxied/manifests/1"


def test_no_proxy_names_what_is_asked_directly(
    forward: ForwardProxy, audit: Callable[[], ImageVerdict], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As everywhere: a registry inside the company is not looked for outside."""
    monkeypatch.setenv("NO_PROXY", "localhost,127.0.0.1")
    assert audit().verdict == "multi-arch"
    assert forward.targets == []


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (403, "HOST: its proxy answered 403"),
        (407, "HOST: its proxy answered 407"),
        (502, "HOST: its proxy answered 502, 2 times"),
    ],
)
def test_a_proxy_that_refuses_is_unknown(
    forward: ForwardProxy, encrypted: Registry, audit: Callable[[], ImageVerdict], status: int, reason: str
) -> None:
    """The reason says that it was the proxy, and nothing goes past it."""
    forward.status = status
    found = audit()
    assert (found.verdict, found.reason) == ("unknown", reason.replace("HOST", encrypted.host))


def test_a_proxy_that_is_not_there_is_unknown(
    forward: ForwardProxy,
    encrypted: Registry,
    audit: Callable[[], ImageVerdict],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No way round it."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    found = audit()
    assert found.verdict == "unknown"
    assert found.reason == (
        f"{encrypted.host} does not answer: there is no connection to its proxy (the connection was refused)"
    )
    assert forward.targets == []
