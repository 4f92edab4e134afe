"""Registries that fail: each fault ends as unknown with its reason, none as a yes, none hangs."""

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from aiohttp import web

from archshift.images.audit import AuditOptions, audit_images
from archshift.images.registry.client import Limits
from archshift.images.verdict import ImageVerdict
from lab.processes import free_port
from tests.images.build import OCI_INDEX, Pusher, digest_of
from tests.images.conftest import QUICK
from tests.images.servers import Server

Options = Callable[..., AuditOptions]


@pytest.fixture
def image(push: Pusher, proxy: Server) -> str:
    """An image that is fine, seen through the proxy."""
    push.multi("fault", "1", "linux/amd64", "linux/arm64")
    return f"{proxy.host}/fault:1"


@pytest.fixture
def audit(image: str, proxy: Server, options: Options) -> Callable[[], ImageVerdict]:
    return lambda: audit_images([image], options(proxy.host))[image]


def test_the_image_is_fine_without_a_fault(audit: Callable[[], ImageVerdict]) -> None:
    """What the faults below turn into unknown would otherwise be a yes."""
    assert audit().verdict == "multi-arch"


@pytest.mark.parametrize(
    ("status", "reason", "tries"),
    [
        (401, "HOST requires a login (401) and archshift has no login for it", 1),
        (403, "HOST denies access (403) and archshift has no login for it", 1),
        (404, "HOST does not have it (404)", 1),
        (400, "HOST answered 400", 1),
        (418, "HOST answered 418", 1),
        (204, "HOST answered 204", 1),
        (429, "HOST: its rate limit is reached (429), 2 times", 2),
        (500, "HOST: answered 500, 2 times", 2),
        (503, "HOST: answered 503, 2 times", 2),
    ],
)
@pytest.mark.parametrize("where", ["manifests/1", "manifests/sha256"])
def test_a_refusal_is_unknown(
    proxy: Server, audit: Callable[[], ImageVerdict], status: int, reason: str, tries: int, where: str
) -> None:
    """Refused at the tag or at one of the index's images: no yes, and only what may pass is retried."""
    proxy.answer(where, status)
    found = audit()
    if status == 404 and where == "manifests/sha256":
        assert found.verdict == "amd64-only"
        assert "the registry does not have that image" in found.reason
        return
    assert (found.verdict, found.platforms) == ("unknown", ())
    assert found.reason == reason.replace("HOST", proxy.host)
    assert sum(where in seen.path for seen in proxy.requests) == tries


def test_retry_after_is_honoured_for_the_whole_registry(
    proxy: Server, audit: Callable[[], ImageVerdict]
) -> None:
    """A registry that asks for a pause gets it, and then the answer counts."""
    times: list[float] = []

    async def limited(request: web.Request) -> web.StreamResponse:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            return web.Response(status=429, headers={"Retry-After": "1"})
        return await proxy.forward(request)

    proxy.on("manifests/1", limited)
    assert audit().verdict == "multi-arch"
    assert times[1] - times[0] >= 1


def test_a_fault_that_passes_is_no_fault(proxy: Server, audit: Callable[[], ImageVerdict]) -> None:
    """One 503 of an overloaded registry costs a second try, not the verdict."""
    tries = 0

    async def overloaded(request: web.Request) -> web.StreamResponse:
        nonlocal tries
        tries += 1
        return web.Response(status=503) if tries == 1 else await proxy.forward(request)

    proxy.on("manifests/1", overloaded)
    assert audit().verdict == "multi-arch"
    assert tries == 2


def test_a_registry_gets_no_more_requests_at_a_time_than_allowed(proxy: Server, options: Options) -> None:
    """A hundred images are no hundred connections; what is allowed is used."""
    under_way, most = 0, 0

    async def counted(_: web.Request) -> web.StreamResponse:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.02)
        under_way -= 1
        return web.Response(status=404)

    proxy.on("manifests", counted)
    names = [f"{proxy.host}/fault:{number}" for number in range(100)]
    audit_images(names, options(proxy.host, limits=replace(Limits(), concurrency=4)))
    assert (most, len(proxy.requests)) == (4, 100)


@pytest.mark.parametrize("after", ["3600", "Fri, 31 Dec 2100 23:59:59 GMT", "9" * 400])
def test_a_retry_after_beyond_the_bound_ends_the_request(
    proxy: Server, audit: Callable[[], ImageVerdict], after: str
) -> None:
    """Nobody waits an hour in a preview: one try, and the reason says what was asked for."""
    proxy.answer("manifests/1", 429, Retry_After=after)
    found = audit()
    assert found.verdict == "unknown"
    assert "its rate limit is reached (429), and asks for a wait" in found.reason
    assert len(proxy.requests) == 1


def test_a_registry_that_keeps_failing_is_left_alone(proxy: Server, options: Options) -> None:
    """Hundreds of images on a failing registry cost a handful of requests, and each gets the reason."""
    proxy.answer("manifests", 503)
    names = [f"{proxy.host}/fault:{number}" for number in range(100)]
    found = audit_images(names, options(proxy.host, limits=replace(QUICK, concurrency=2)))
    assert {one.verdict for one in found.values()} == {"unknown"}
    assert (
        found[names[-1]].reason
        == f"archshift gave up on {proxy.host} after repeated failures: answered 503, 2 times"
    )
    assert len(proxy.requests) < 20


def test_nobody_listening_is_unknown(options: Options) -> None:
    """A registry that is down says nothing about its images."""
    host = f"127.0.0.1:{free_port()}"
    found = audit_images([f"{host}/a"], options(host))[f"{host}/a"]
    assert found.verdict == "unknown"
    assert found.reason == f"{host} does not answer: the connection was refused"
    assert found.away == host


def test_a_host_that_dns_cannot_take_is_unknown(options: Options) -> None:
    """A name is not looked up at all where it could not be one; other images are not disturbed."""
    image = f"{'a' * 64}.invalid/app"
    found = audit_images([image], options())[image]
    assert found.verdict == "unknown"
    assert found.reason.startswith(f"{'a' * 64}.invalid")


@pytest.mark.parametrize("drip", [False, True], ids=["silent", "dripping"])
def test_a_slow_body_is_unknown(proxy: Server, audit: Callable[[], ImageVerdict], drip: bool) -> None:
    """Silence in the middle, or a byte now and then for ever: both run into a bound."""

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": OCI_INDEX})
        await response.prepare(request)
        for _ in range(40 if drip else 1):
            await response.write(b" ")
            await asyncio.sleep(0.1 if drip else 4)
        return response

    proxy.on("manifests/1", slow)
    found = audit()
    assert (found.verdict, found.reason) == ("unknown", f"{proxy.host}: no answer in time, 2 times")


@pytest.mark.parametrize("length", [True, False], ids=["announced", "endless"])
def test_a_body_too_big_is_unknown(proxy: Server, audit: Callable[[], ImageVerdict], length: bool) -> None:
    """A body without end is read up to the bound and no further, and an announced one not at all."""
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": OCI_INDEX})
        if length:
            response.content_length = 1 << 40
        await response.prepare(request)
        while sent < 1 << 26:
            await response.write(bytes(1 << 16))
            sent += 1 << 16
        return response

    proxy.on("manifests/1", endless)
    found = audit()
    assert found.verdict == "unknown"
    assert found.reason.startswith("the manifest has ")
    assert found.reason.endswith(f"more than {QUICK.manifest_bytes}" + ("" if length else " bytes"))
    assert sent < 1 << 26


def test_a_packed_body_is_not_unpacked(proxy: Server, audit: Callable[[], ImageVerdict]) -> None:
    """A Content-Encoding nobody asked for is how a small body becomes a big one."""
    proxy.answer("manifests/1", 200, b"\x1f\x8b", Content_Type=OCI_INDEX, Content_Encoding="gzip")
    assert audit().reason == "the manifest has a Content-Encoding, although archshift did not accept any"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"schemaVersion": 2, "manifests": [{"dig', "the manifest is not valid JSON"),
        (b"", "the manifest is not valid JSON"),
        (b"[" * 100_000, "the manifest is not valid JSON"),
        (b"[]", "the manifest is not a JSON object"),
        (b"{}", "its index contains no image"),
        (b'{"manifests": {}}', "the manifest's manifests are not a list of objects"),
    ],
)
def test_a_broken_manifest_is_never_a_yes(
    proxy: Server, audit: Callable[[], ImageVerdict], body: bytes, reason: str
) -> None:
    """Truncated, empty, nested without end or of another shape: no yes, and a reason."""
    proxy.answer("manifests/1", 200, body, Content_Type=OCI_INDEX)
    found = audit()
    assert found.reason == reason
    assert found.verdict == ("other" if body == b"{}" else "unknown")


def test_a_body_cut_short_is_unknown(proxy: Server, audit: Callable[[], ImageVerdict]) -> None:
    """A connection that breaks off mid-body is retried and then unknown."""

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": OCI_INDEX})
        response.content_length = 1000
        await response.prepare(request)
        await response.write(b'{"schemaVersion": 2')
        assert request.transport is not None
        request.transport.close()
        return response

    proxy.on("manifests/1", cut)
    found = audit()
    assert found.verdict == "unknown"
    assert found.reason == f"{proxy.host}: the answer broke off, 2 times"


def test_content_must_hash_to_the_digest_asked_for(push: Pusher, proxy: Server, options: Options) -> None:
    """A registry, or whoever sits in between, cannot pass off one image for another."""
    real = push.multi("swap", "1", "linux/amd64")
    fake = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    proxy.answer("manifests/sha256", 200, fake, Content_Type=OCI_INDEX)
    image = f"{proxy.host}/swap@{real.digest}"
    found = audit_images([image], options(proxy.host))[image]
    assert found.verdict == "unknown"
    assert (
        found.reason
        == f"the manifest has the digest {digest_of(fake)}, but archshift asked for {real.digest}"
    )


def test_content_must_hash_to_the_digest_the_registry_names(
    proxy: Server, audit: Callable[[], ImageVerdict]
) -> None:
    """By tag, the registry's own word is held against the content."""
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []}).encode()
    named = "sha256:" + "0" * 64
    proxy.answer("manifests/1", 200, body, Content_Type=OCI_INDEX, Docker_Content_Digest=named)
    found = audit()
    assert (found.verdict, found.digest) == ("unknown", "")
    assert (
        found.reason == f"the manifest has the digest {digest_of(body)}, but the registry announced {named}"
    )


def test_a_config_must_hash_to_its_digest(push: Pusher, proxy: Server, options: Options) -> None:
    """A single image's platform is in its config, so that too is checked."""
    pushed = push.image("config", "1", "linux/amd64")
    proxy.answer("blobs/sha256", 200, b'{"os": "linux", "architecture": "arm64"}')
    image = f"{proxy.host}/config:1"
    found = audit_images([image], options(proxy.host))[image]
    assert (found.verdict, found.reason) == (
        "unknown",
        f"the content of the blob {pushed.config} does not match its digest",
    )


def test_an_answer_for_another_child_is_unknown(proxy: Server, audit: Callable[[], ImageVerdict]) -> None:
    """A child is asked for by digest, and content with another digest is no answer."""
    other = b'{"schemaVersion": 2}'
    proxy.answer("manifests/sha256", 200, other)
    found = audit()
    assert found.verdict == "unknown"
    assert found.reason.startswith(
        f"the manifest has the digest {digest_of(other)}, but archshift asked for sha256:"
    )


@pytest.mark.parametrize("status", [404, 405, 501])
def test_a_registry_that_refuses_head_is_asked_with_get(
    push: Pusher, proxy: Server, audit: Callable[[], ImageVerdict], options: Options, status: int
) -> None:
    """HEAD's no is nobody's word: an image that GET finds is there, and one that it does not find is not."""
    proxy.answer("HEAD", status)
    assert audit().verdict == "multi-arch"
    amd64, arm64 = (push.image(f"head/{status}", platform=f"linux/{one}") for one in ("amd64", "arm64"))
    push.index(f"head/{status}", "1", [amd64, arm64])
    push.delete(f"head/{status}", arm64.digest)
    image = f"{proxy.host}/head/{status}:1"
    found = audit_images([image], options(proxy.host))[image]
    assert found.verdict == "amd64-only"
    assert f"the registry does not have that image ({arm64.digest})" in found.reason


def test_what_get_brings_for_head_must_hash_to_its_digest(
    proxy: Server, audit: Callable[[], ImageVerdict]
) -> None:
    """The way round HEAD is no way round the check."""
    proxy.answer("HEAD", 405)
    proxy.answer("GET .*manifests/sha256", 200, b"{}", Content_Type=OCI_INDEX)
    found = audit()
    assert found.verdict == "unknown"
    assert found.reason.startswith(
        f"the manifest has the digest {digest_of(b'{}')}, but archshift asked for sha256:"
    )


def test_redirects_are_followed_where_that_is_safe(
    proxy: Server, servers: Callable[[str], Server], image: str, options: Options
) -> None:
    """Some registries serve everything from elsewhere: followed only to hosts that may be spoken to."""
    other = servers(proxy.base)

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        if request.headers["Host"] == proxy.host and not request.query.get("back"):
            return web.Response(status=307, headers={"Location": f"{other.base}{request.path}?back=1"})
        return await proxy.forward(request)

    proxy.on("fault/manifests", elsewhere)
    found = audit_images([image], options(proxy.host))[image]
    assert found.verdict == "unknown"
    assert found.reason == (
        f"the registry redirected to http://{other.host}, "
        "which archshift does not follow, because it is not https"
    )
    assert not other.requests
    assert audit_images([image], options(proxy.host, other.host))[image].verdict == "multi-arch"
    assert other.requests


def test_redirects_without_end_are_unknown(proxy: Server, audit: Callable[[], ImageVerdict]) -> None:
    """A loop of redirects is cut."""
    proxy.answer("manifests/1", 307, Location="/v2/fault/manifests/1")
    found = audit()
    assert (found.verdict, found.reason) == (
        "unknown",
        f"{proxy.host}: more than 5 redirects in a row",
    )


@pytest.mark.parametrize("location", ["", "http://", "ftp://a/b", "//user:word@a/", "http://[", "https://"])
def test_a_redirect_to_nowhere_is_unknown(
    proxy: Server, audit: Callable[[], ImageVerdict], location: str
) -> None:
    """Locations that are no https URL of a host are not followed."""
    proxy.answer("manifests/1", 302, Location=location)
    found = audit()
    assert found.verdict == "unknown"
    assert found.reason.startswith("the registry redirected to ")
