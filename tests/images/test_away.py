"""Registries that do not answer, and methods that they do not answer to."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from archshift.common.failures import why_no_connection
from archshift.images.audit import AuditOptions, Auditor, audit_images, run_in_thread
from archshift.images.registry import transport
from archshift.images.registry.client import RegistryHost
from archshift.images.verdict import ImageVerdict
from lab.processes import free_port
from tests.images.build import Pusher
from tests.images.conftest import QUICK
from tests.images.servers import Registry, Server

Options = Callable[..., AuditOptions]


class Silent:
    """A host that accepts connections and never answers."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                self.connections.append(self._listener.accept()[0])
            except OSError:
                return

    def stop(self) -> None:
        for connection in (self._listener, *self.connections):
            connection.close()


@pytest.fixture
def silent() -> Iterator[Silent]:
    server = Silent()
    yield server
    server.stop()


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def run(options: AuditOptions, images: list[str], clock: Clock) -> dict[str, ImageVerdict]:
    """Audit in a run of its own."""

    async def once() -> dict[str, ImageVerdict]:
        async with Auditor(options, clock) as auditor:
            return await auditor.verdicts(images)

    return run_in_thread(once())


def test_a_host_that_never_answers_is_asked_a_few_times_in_all(silent: Silent, options: Options) -> None:
    """The first request finds it out for all images."""
    names = [f"{silent.host}/app:{number}" for number in range(150)]
    found = audit_images(names, options(silent.host, limits=replace(QUICK, attempts=4)))
    assert {(one.verdict, one.reason, one.away) for one in found.values()} == {
        ("unknown", f"{silent.host} does not answer: no answer in time", silent.host)
    }
    assert len(silent.connections) == 2, "two tries that ran into their time"


def test_a_refused_connection_is_tried_four_times_in_all(
    options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"127.0.0.1:{free_port()}"
    tries: list[OSError] = []

    def counted(error: OSError) -> str:
        tries.append(error)
        return why_no_connection(error)

    monkeypatch.setattr(transport, "why_no_connection", counted)
    names = [f"{host}/app:{number}" for number in range(150)]
    # A try that runs into its time counts twice. On a busy machine that can happen within QUICK's times.
    patient = replace(QUICK, attempts=4, connect_seconds=30, read_seconds=30, request_seconds=30)
    found = audit_images(names, options(host, limits=patient))
    assert {one.reason for one in found.values()} == {f"{host} does not answer: the connection was refused"}
    assert len(tries) == 4


def test_it_is_remembered_for_some_minutes(
    silent: Silent, push: Pusher, registry: Registry, options: Options, tmp_path: Path
) -> None:
    """The next command does not ask that host again, until time passes or the caller wants it."""
    push.multi("there", "1", "linux/amd64", "linux/arm64")
    images = [f"{silent.host}/app:1", f"{registry.host}/there:1"]
    clock = Clock()
    kept = options(silent.host, registry.host, cache=tmp_path, away_seconds=300.0)
    assert [one.verdict for one in run(kept, images, clock).values()] == ["unknown", "multi-arch"]
    asked = len(silent.connections)
    clock.now += 299
    found = run(kept, images, clock)
    assert [one.verdict for one in found.values()] == ["unknown", "multi-arch"]
    assert found[images[0]].reason == (
        f"{silent.host} does not answer: no answer in time (asked at 13:46 UTC)"
    )
    assert found[images[0]].away == silent.host
    assert len(silent.connections) == asked
    run(replace(kept, away_seconds=0.0), images, clock)
    assert len(silent.connections) > asked, "the caller asks again"
    asked = len(silent.connections)
    clock.now += 301
    run(kept, images, clock)
    assert len(silent.connections) > asked, "it is over"
    asked = len(silent.connections)
    run(replace(kept, cache=None), images, clock)
    assert len(silent.connections) > asked, "without a cache, as before a removal"


def test_a_host_that_is_back_is_not_remembered(
    push: Pusher, registry: Registry, options: Options, tmp_path: Path
) -> None:
    """One answer of the host is enough, for all commands."""
    push.multi("back", "1", "linux/amd64", "linux/arm64")
    port, clock = free_port(), Clock()
    host = f"127.0.0.1:{port}"
    image = f"{host}/back:1"
    kept = options(host, cache=tmp_path)
    assert run(kept, [image], clock)[image].verdict == "unknown"

    server = Server(registry.base, port)
    try:
        assert run(kept, [image], clock)[image].verdict == "unknown", "remembered"
        assert run(replace(kept, away_seconds=0.0), [image], clock)[image].verdict == "multi-arch"
        assert run(replace(kept, tag_seconds=0.0), [image], clock)[image].verdict == "multi-arch"
    finally:
        server.stop()


def test_a_mirror_that_never_answers_gives_way_to_the_registry(
    silent: Silent, push: Pusher, registry: Registry, options: Options, tmp_path: Path
) -> None:
    """It costs its few tries once, and the next command nothing."""
    names = [f"mirrored/{number}" for number in range(20)]
    for name in names:
        push.multi(name, "1", "linux/amd64", "linux/arm64")
    hosts = {registry.host: RegistryHost(plain_http=True, mirrors=(silent.host,))}
    images = [f"{registry.host}/{name}:1" for name in names]
    kept = options(silent.host, hosts=hosts, cache=tmp_path, tag_seconds=0.0)
    for _ in range(2):
        found = audit_images(images, kept)
        assert {one.verdict for one in found.values()} == {"multi-arch"}
        assert len(silent.connections) == 1


def test_a_token_server_that_never_answers(
    silent: Silent, servers: Callable[[str], Server], options: Options
) -> None:
    """The registry cannot be read without it, so it counts as away, with the reason."""
    registry = servers("")
    registry.answer("manifests", 401, WWW_Authenticate=f'Bearer realm="http://{silent.host}/token"')
    images = [f"{registry.host}/app/{number}" for number in range(50)]
    found = audit_images(images, options(registry.host, silent.host))
    assert {(one.reason, one.away) for one in found.values()} == {
        (
            f"{registry.host} does not answer: its token server {silent.host} did not answer in time",
            registry.host,
        )
    }
    assert len(silent.connections) <= 2


def test_an_answer_of_any_kind_is_an_answer(servers: Callable[[str], Server], options: Options) -> None:
    """A registry that refuses or fails is not away: its images are not merely unreachable."""
    for status in (401, 403, 404, 500, 503):
        server = servers("")
        server.answer("manifests", status)
        image = f"{server.host}/app:1"
        assert audit_images([image], options(server.host))[image].away == ""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), "the host name cannot be resolved"),
        (
            socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
            "the name server does not answer, so the host name cannot be resolved",
        ),
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 1)"), "the connection was refused"),
        (OSError(113, "Connect call failed"), "there is no route to the host"),
        (OSError(24, "Too many open files"), "too many open files"),
        (OSError(), "there is no connection"),
    ],
)
def test_a_failed_connection_is_told_in_plain_words(error: OSError, words: str) -> None:
    assert why_no_connection(error) == words


# --- HEAD ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 406, 418, 500, 501, 503])
def test_whatever_head_answers_get_decides(
    push: Pusher, proxy: Server, options: Options, tmp_path: Path, status: int
) -> None:
    """A firewall that forbids the method says nothing about an image; it is found out once a host."""
    names = [f"headless/{status}/{number}" for number in range(5)]
    for name in names:
        push.multi(name, "1", "linux/amd64", "linux/arm64")
    images = [f"{proxy.host}/{name}:1" for name in names]
    kept = options(proxy.host, cache=tmp_path, tag_seconds=0.0)
    audit_images(images, kept)
    proxy.answer("HEAD", status)
    proxy.requests.clear()
    found = audit_images(images, kept)
    assert {one.verdict for one in found.values()} == {"multi-arch"}
    assert len(proxy.paths("HEAD")) <= 1 + (status == 500)
    assert len(proxy.paths("GET")) == len(images)


def test_a_forbidden_head_costs_no_login(
    push: Pusher, proxy: Server, options: Options, tmp_path: Path
) -> None:
    """403 to HEAD with a good token: the token is kept, and GET gets it."""
    push.multi("headless/guarded", "1", "linux/amd64", "linux/arm64")

    async def guard(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != "Bearer good":
            challenge = f'Bearer realm="{proxy.base}/token"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        if request.method == "HEAD":
            return web.Response(status=403)
        return await proxy.forward(request)

    proxy.on("/v2/", guard)
    proxy.answer("/token", 200, json.dumps({"token": "good", "expires_in": 300}).encode())
    image = f"{proxy.host}/headless/guarded:1"
    kept = options(proxy.host, cache=tmp_path, tag_seconds=0.0)
    for _ in range(2):
        found = audit_images([image], kept)[image]
        assert (found.verdict, found.reason) == ("multi-arch", "")
    assert len([seen for seen in proxy.requests if seen.path == "/token"]) == 2


def test_an_image_that_is_gone_stays_gone(
    push: Pusher, proxy: Server, options: Options, tmp_path: Path
) -> None:
    """It is missing only if GET fails too. Other images of the host are still asked for with HEAD."""
    push.multi("gone/later", "1", "linux/amd64", "linux/arm64")
    image, other = f"{proxy.host}/gone/later:1", f"{proxy.host}/gone/later:2"
    push.multi("gone/later", "2", "linux/amd64", "linux/arm64")
    kept = options(proxy.host, cache=tmp_path, tag_seconds=0.0)
    audit_images([image, other], kept)
    proxy.answer("manifests/1", 404)
    proxy.requests.clear()
    found = audit_images([image, other], kept)
    assert (found[image].verdict, found[other].verdict) == ("unknown", "multi-arch")
    assert len(proxy.paths("HEAD")) == 2
