"""The nearest newer tag with arm64, of the same kind, for a bounded number of requests."""

import json
from collections.abc import Callable

import pytest
from aiohttp import web

from archshift.images.audit import AuditOptions, suggest_newer
from archshift.images.suggest import MOST_CHECKED, newer_tags, parse_version
from tests.images.build import Pusher
from tests.images.servers import Registry, Server

Options = Callable[..., AuditOptions]


@pytest.mark.parametrize(
    ("tag", "tags", "expected"),
    [
        ("1.9.0", ["1.10.0", "1.9.1", "1.8.9", "1.9.0", "2.0.0"], ["1.9.1", "1.10.0", "2.0.0"]),
        ("v1.2.3", ["v1.2.4", "1.2.5", "v1.3"], ["v1.2.4"]),
        ("1.25", ["1.26", "1.25.1", "1.26.1", "2"], ["1.26"]),
        ("1.2.3-alpine", ["1.2.4", "1.2.4-alpine", "1.2.4-slim", "1.3.0-alpine3.19"], ["1.2.4-alpine"]),
        (
            "1.2.3-alpine3.18",
            ["1.2.3-alpine3.19", "1.2.4-alpine3.9", "1.2.2-alpine3.20", "1.2.4-alpine"],
            ["1.2.3-alpine3.19", "1.2.4-alpine3.9"],
        ),
        ("1.2.3", ["1.2.4-rc1", "1.3.0-beta.2", "latest", "stable"], []),
        ("1.2.3-rc1", ["1.2.3-rc2", "1.2.3", "1.2.4-rc1"], ["1.2.3-rc2", "1.2.4-rc1"]),
        ("latest", ["1.0.0", "2.0.0"], []),
        ("9f3c2ab", ["9f3c2ac"], []),
        ("1.0", ["1." + "9" * 50], []),
    ],
)
def test_newer_tags_of_the_same_kind(tag: str, tags: list[str], expected: list[str]) -> None:
    """By version and not by text; the same prefix, number of parts and suffix; never latest."""
    assert newer_tags(tag, tags) == expected


def test_a_tag_that_is_no_version_is_none() -> None:
    """Words and commits have no order."""
    assert [parse_version(tag) for tag in ("latest", "main", "abc123", "", "v", "1.2.3.4.5")] == [None] * 6


def test_the_nearest_newer_tag_with_arm64(push: Pusher, registry: Registry, options: Options) -> None:
    """Tags between that have no arm64 are passed over, and what is found is the nearest."""
    for tag in ("1.0.0", "1.0.1", "1.0.1-debug"):
        push.multi("newer", tag, "linux/amd64")
    for tag in ("1.1.0", "1.2.0", "latest"):
        push.multi("newer", tag, "linux/amd64", "linux/arm64")
    name = f"{registry.host}/newer"
    images = [f"{name}:{tag}" for tag in ("1.0.0", "1.2.0", "latest", "1.0.1-debug")]
    assert suggest_newer(images, options(registry.host)) == dict(
        zip(images, ["1.1.0", None, None, None], strict=True)
    )


def test_many_tags_cost_few_requests(push: Pusher, proxy: Server, options: Options) -> None:
    """Dozens of tags: halving finds the first with arm64, and the answer has been looked at itself."""
    old = push.image("many", platform="linux/amd64")
    new = push.image("many", platform="linux/arm64")
    for number in range(60):
        child = new if number >= 37 else old
        push.index("many", f"1.{number}.0", [child])
    image = f"{proxy.host}/many:1.3.0"
    assert suggest_newer([image], options(proxy.host)) == {image: "1.37.0"}
    assert len([path for path in proxy.paths() if "manifests/1." in path]) <= MOST_CHECKED


def test_pages_of_tags_are_followed_on_the_same_host(
    push: Pusher, proxy: Server, servers: Callable[[str], Server], options: Options
) -> None:
    """A page's link says where to go on, never at which host; and pages end."""
    push.multi("paged", "1.1.0", "linux/arm64")
    thief = servers("")

    async def page(request: web.Request) -> web.StreamResponse:
        tags = ["1.1.0"] if request.query.get("last") == "1.0.9" else ["1.0.9"]
        link = f'<{thief.base}/v2/paged/tags/list?last=1.0.9&n=1>; rel="next"'
        return web.Response(body=json.dumps({"tags": tags}).encode(), headers={"Link": link})

    proxy.on("paged/tags", page)
    image = f"{proxy.host}/paged:1.0.0"
    assert suggest_newer([image], options(proxy.host)) == {image: "1.1.0"}
    assert not thief.requests
    assert len([path for path in proxy.paths() if "tags" in path]) == 20


@pytest.mark.parametrize("body", [b"", b"[]", b'{"tags": 1}', b'{"tags": null}', b'{"tags": [1, null]}'])
def test_a_broken_list_suggests_nothing(proxy: Server, options: Options, body: bytes) -> None:
    proxy.answer("tags/list", 200, body)
    image = f"{proxy.host}/a:1.0"
    assert suggest_newer([image, "No Image", f"{proxy.host}/a@sha256:{'0' * 64}"], options(proxy.host)) == {
        image: None,
        "No Image": None,
        f"{proxy.host}/a@sha256:{'0' * 64}": None,
    }
