"""Each image has its turn, its deadline and its share of the memory, and harms no other."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiohttp import web

from archshift.images import inspector
from archshift.images.audit import AuditOptions, audit_images, suggest_newer
from archshift.images.bounds import Bounds
from archshift.images.contents.layers import Budget, LayerReader
from archshift.images.registry.client import Limits
from archshift.images.registry.errors import UnreadableError
from archshift.images.registry.manifest import parse_manifest
from tests.images.build import OCI_INDEX, Pusher, digest_of
from tests.images.servers import Server

Options = Callable[..., AuditOptions]
QUICK = replace(Limits(), image_seconds=2, contact_seconds=0.2, slow_seconds=0.1, backoff_seconds=0.01)


@pytest.fixture
def good(push: Pusher, proxy: Server) -> list[str]:
    """Images that are fine, at the same host as the bad one."""
    for number in range(20):
        push.multi(f"fine/{number}", "1", "linux/amd64", "linux/arm64")
    return [f"{proxy.host}/fine/{number}:1" for number in range(20)]


@pytest.mark.parametrize("hangs", [True, False], ids=["hangs", "answers slowly"])
def test_slow_images_do_not_delay_others_of_their_registry(
    proxy: Server, good: list[str], options: Options, hangs: bool
) -> None:
    """More of them than a host has places for requests, and asked first: they end at their own deadlines."""

    async def slow(_: web.Request) -> web.StreamResponse:
        await asyncio.sleep(3600 if hangs else 0.3)
        body = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}
        return web.Response(body=json.dumps(body).encode(), content_type=OCI_INDEX)

    children = [{"mediaType": OCI_INDEX, "digest": f"sha256:{number:064}", "size": 1} for number in range(60)]
    proxy.on("/bad/", slow)
    bad = [f"{proxy.host}/bad/{number}:1" for number in range(20)]
    limits = replace(QUICK, image_seconds=8, concurrency=4)
    found = audit_images([*bad, *good], options(proxy.host, limits=limits))
    assert {found[image].verdict for image in good} == {"multi-arch"}
    assert {found[image].verdict for image in bad} == {"unknown"}
    if hangs:
        assert f"{proxy.host} answers too slowly: archshift stopped reading" in found[bad[0]].reason


def test_whatever_fails_is_unknown_for_that_image_alone(
    proxy: Server, good: list[str], options: Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also an error that nobody thought of: it has a sentence, and the run goes on."""
    real = parse_manifest

    def parse(body: bytes, content_type: str = "") -> object:
        if content_type == "odd/odd":
            raise RecursionError("too deep \ud800\n")
        return real(body, content_type)

    monkeypatch.setattr(inspector, "parse_manifest", parse)
    proxy.answer("/odd/manifests/1.0", 200, b"{}", Content_Type="odd/odd")
    proxy.answer("/odd/tags/list", 200, b'{"tags": ["1.1", "1.\\u0663"]}')
    proxy.answer("/odd/manifests/1.1", 200, b"{}", Content_Type="odd/odd")
    image = f"{proxy.host}/odd:1.0"
    limits = replace(QUICK, image_seconds=60)
    found = audit_images([image, *good], options(proxy.host, limits=limits))
    assert found[image].verdict == "unknown"
    assert found[image].reason == "archshift failed to judge this image (RecursionError: too deep �)"
    assert {found[one].verdict for one in good} == {"multi-arch"}
    assert suggest_newer([image], options(proxy.host)) == {image: None}


def test_an_index_cannot_contain_itself(proxy: Server, options: Options) -> None:
    """A server may answer with the same index for ever, but no index has its own digest in it."""

    async def cycle(request: web.Request) -> web.StreamResponse:
        wanted = request.path.rpartition("/")[2]
        child = wanted if wanted.startswith("sha256:") else digest_of(b"x")
        body = {"manifests": [{"mediaType": OCI_INDEX, "digest": child, "size": 1}], "schemaVersion": 2}
        return web.Response(body=json.dumps(body).encode(), content_type=OCI_INDEX)

    proxy.on("/cycle/manifests", cycle)
    image = f"{proxy.host}/cycle:1"
    found = audit_images([image], options(proxy.host))[image]
    assert found.verdict == "unknown"
    assert f"but archshift asked for {digest_of(b'x')}" in found.reason
    assert len(proxy.requests) == 2


def test_a_run_ends(good: list[str], proxy: Server, options: Options) -> None:
    """Before the job that waits for it is stopped without a report."""
    found = audit_images(good, options(proxy.host, limits=replace(QUICK, run_seconds=0)))
    assert {(one.verdict, one.reason.split(",")[0]) for one in found.values()} == {
        ("unknown", "the audit takes more than 0 s")
    }


def test_a_registry_whose_images_are_all_late_is_given_up() -> None:
    """Thousands of slow images cost one deadline, not one for each group of them."""

    async def run() -> list[str]:
        bounds = Bounds(Limits(image_seconds=0.05, images_per_registry=2))

        async def image() -> str:
            try:
                async with bounds.turn("slow.example"):
                    await asyncio.sleep(3600)
            except UnreadableError as error:
                return str(error)
            return ""

        return await asyncio.gather(*(image() for _ in range(50)))

    reasons = asyncio.run(run())
    assert sum("archshift stopped reading" in reason for reason in reasons) <= 5
    assert reasons[-1].startswith("archshift gave up on slow.example")


def test_the_slowest_image_gives_its_memory_back() -> None:
    """Images that hold much and receive little make room for those that make progress."""

    async def run() -> dict[str, str]:
        bounds = Bounds(Limits(all_memory_bytes=100 << 20))
        ended: dict[str, str] = {}

        async def image(name: str, received: int, memory: int) -> None:
            try:
                async with bounds.turn(name) as turn:
                    turn.received(received)
                    turn.holds(memory)
                    await asyncio.sleep(0.2)
                ended[name] = "done"
            except UnreadableError as error:
                ended[name] = str(error)

        await asyncio.gather(
            image("small", 0, 1 << 19), image("drips", 1, 40 << 20), image("fast", 1 << 30, 90 << 20)
        )
        return ended

    assert asyncio.run(run()) == {
        "small": "done",
        "drips": "its layers come too slowly, and other images needed the memory",
        "fast": "done",
    }


def test_many_images_that_hold_little_each_end_well() -> None:
    """There is nobody to ask for memory, so all go on."""

    async def run() -> list[str]:
        bounds = Bounds(Limits(all_memory_bytes=4 << 20))
        done: list[str] = []

        async def image(name: str) -> None:
            async with bounds.turn(name) as turn:
                turn.holds((1 << 20) - 1)
                await asyncio.sleep(0)
                done.append(name)

        await asyncio.gather(*(image(f"r{number}") for number in range(8)))
        return done

    assert len(asyncio.run(run())) == 8


def test_a_large_window_of_zstd_counts_as_memory() -> None:
    """Each byte of a layer with a window of 128 MiB may look back so far; a few bytes fill that memory."""

    def reader(exponent: int) -> LayerReader:
        # Zeros, as a frame with a window of so many bytes (2 to the power) and blocks of 128 KiB.
        block = ((128 << 10) << 3 | 2).to_bytes(3, "little") + b"\0"
        layer = LayerReader(Budget(1 << 30, 1000))
        layer.feed(b"\x28\xb5\x2f\xfd" + bytes([0, (exponent - 10) << 3]) + block * 4)
        return layer

    assert reader(27).memory >= 128 << 20
    assert reader(23).memory == 0, "the window of usual encoders"
    plain = LayerReader(Budget(1 << 30, 1000))
    plain.feed(bytes(1024))
    assert plain.memory == 0


def test_a_large_image_has_more_time() -> None:
    """Each byte of a layer moves the deadline, up to the limit of the deep check."""

    async def run() -> str:
        bounds = Bounds(Limits(image_seconds=0.1, slowest_bytes=10, deep_seconds=0.5))
        try:
            async with bounds.turn("r") as turn:
                for _ in range(4):
                    await asyncio.sleep(0.06)
                    turn.received(1)
                with turn.paused():
                    await asyncio.sleep(0.3)
                turn.received(1000)
                await asyncio.sleep(3600)
        except UnreadableError as error:
            return str(error)
        return ""

    assert "answers too slowly" in asyncio.run(run())
