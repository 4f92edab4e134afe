"""Evidence between runs: what it saves, how old it may be, and that it never breaks a run."""

import logging
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from archshift.images.audit import AuditOptions, Auditor, audit_images, run_in_thread
from archshift.images.cache import EvidenceCache, cache_folder
from archshift.images.verdict import ImageVerdict
from tests.images.build import Pusher
from tests.images.servers import Server

Options = Callable[..., AuditOptions]


class Clock:
    """A clock that stands still unless told."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def audit(proxy: Server, options: Options, tmp_path: Path, clock: Clock) -> Callable[[str], ImageVerdict]:
    """Audit one image in a run of its own, with a cache shared between runs."""
    kept = replace(options(proxy.host), cache=tmp_path / "cache", tag_seconds=60, evidence_seconds=1000)

    def run(name: str) -> ImageVerdict:
        async def once() -> ImageVerdict:
            async with Auditor(kept, clock) as auditor:
                image = f"{proxy.host}/{name}"
                return (await auditor.verdicts([image]))[image]

        return run_in_thread(once())

    return run


def test_a_warm_run_asks_nothing(
    push: Pusher, proxy: Server, audit: Callable[[str], ImageVerdict], clock: Clock
) -> None:
    """Within the tag's time nothing is asked, and the evidence keeps its own time."""
    push.multi("warm", "1", "linux/amd64", "linux/arm64")
    first = audit("warm:1")
    proxy.requests.clear()
    clock.now += 59
    assert audit("warm:1") == first
    assert first.checked_at.timestamp() == clock.now - 59
    assert not proxy.requests


def test_a_tag_is_asked_anew_after_its_time_and_only_its_digest(
    push: Pusher, proxy: Server, audit: Callable[[str], ImageVerdict], clock: Clock
) -> None:
    """A tag may move: past its time one HEAD tells, and content known by digest is not read again."""
    old = push.multi("moving", "1", "linux/amd64")
    assert audit("moving:1").digest == old.digest
    proxy.requests.clear()
    clock.now += 61
    assert audit("moving:1").verdict == "amd64-only"
    assert [(seen.method, seen.path) for seen in proxy.requests] == [("HEAD", "/v2/moving/manifests/1")]
    new = push.multi("moving", "1", "linux/amd64", "linux/arm64")
    assert audit("moving:1").digest == old.digest, "within the tag's time"
    clock.now += 61
    found = audit("moving:1")
    assert (found.verdict, found.digest) == ("multi-arch", new.digest)


def test_a_registry_without_head_is_asked_for_the_tag_itself(
    push: Pusher, proxy: Server, audit: Callable[[str], ImageVerdict], clock: Clock
) -> None:
    """A tag that moved is seen there too, and one that did not costs one reading of its index."""
    push.multi("headless", "1", "linux/amd64")
    proxy.answer("HEAD", 405)
    audit("headless:1")
    proxy.requests.clear()
    clock.now += 61
    assert audit("headless:1").verdict == "amd64-only"
    assert proxy.paths() == ["/v2/headless/manifests/1"]
    new = push.multi("headless", "1", "linux/amd64", "linux/arm64")
    clock.now += 61
    found = audit("headless:1")
    assert (found.verdict, found.digest) == ("multi-arch", new.digest)


def test_evidence_grows_too_old(
    push: Pusher, proxy: Server, audit: Callable[[str], ImageVerdict], clock: Clock
) -> None:
    """What a digest names stays, but a registry may lose it: past the age it is looked at again."""
    image = push.image("aging", platform="linux/arm64")
    index = push.index("aging", "1", [push.image("aging", platform="linux/amd64"), image])
    name = f"aging@{index.digest}"
    assert audit(name).verdict == "multi-arch"
    push.delete("aging", image.digest)
    clock.now += 999
    assert audit(name).verdict == "multi-arch"
    clock.now += 2
    assert audit(name).verdict == "amd64-only"
    clock.now -= 10_000
    proxy.requests.clear()
    audit(name)
    assert proxy.requests, "evidence from the future is none"


def test_unknown_is_not_kept(push: Pusher, proxy: Server, audit: Callable[[str], ImageVerdict]) -> None:
    """A registry that was down for a minute is asked again by the next run."""
    proxy.answer("manifests", 503)
    assert audit("later:1").verdict == "unknown"
    push.multi("later", "1", "linux/amd64")
    proxy.on("manifests", proxy.forward)
    assert audit("later:1").verdict == "amd64-only"


@pytest.mark.parametrize("damage", ["noise", "empty", "truncated", "page", "value", "table"])
def test_a_corrupt_cache_is_rebuilt_with_a_word(
    push: Pusher,
    proxy: Server,
    audit: Callable[[str], ImageVerdict],
    tmp_path: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever has happened to the file, the run is right, and the one after it is warm again."""
    push.multi("corrupt", "1", "linux/amd64", "linux/arm64")
    audit("corrupt:1")
    (file,) = (tmp_path / "cache").glob("*.sqlite")
    content = file.read_bytes()
    if damage in ("value", "table"):
        with sqlite3.connect(file) as database:
            if damage == "value":
                database.execute("UPDATE evidence SET value = '{\"images\": [[1]]}'")
            else:
                database.execute("DROP TABLE evidence")
                database.execute("CREATE TABLE evidence (other)")
        database.close()
    else:
        file.write_bytes(
            {
                "noise": b"no database" * 500,
                "empty": b"",
                "truncated": content[: len(content) // 2],
                "page": content[:4096] + b"\xff" * (len(content) - 4096),
            }[damage]
        )
    with caplog.at_level(logging.WARNING):
        assert audit("corrupt:1").verdict == "multi-arch"
    if damage in ("noise", "truncated", "page"):
        assert "is corrupt" in caplog.text
        assert "rebuilds the image cache" in caplog.text
    proxy.requests.clear()
    assert audit("corrupt:1").verdict == "multi-arch"
    if damage != "table":
        assert not proxy.requests


@pytest.mark.parametrize("obstacle", ["file", "read-only database"])
def test_a_folder_that_cannot_be_used_stops_nobody(
    tmp_path: Path, obstacle: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Without its file the cache still serves the run, and says so."""
    folder = tmp_path / "cache"
    if obstacle == "file":
        folder.write_text("in the way")
    else:
        (folder / "images-1.sqlite").mkdir(parents=True)
    with caplog.at_level(logging.WARNING), EvidenceCache(folder) as cache:
        cache.put("kind", "key", {"a": 1}, 5.0)
        assert cache.get("kind", "key") == ({"a": 1}, 5.0)
    assert "and continues without it" in caplog.text


WRITER = """
import sys
from pathlib import Path
from archshift.images.cache import EvidenceCache
folder, name = sys.argv[1:]
for number in range(20):
    with EvidenceCache(Path(folder)) as cache:
        cache.put("kind", f"{name}{number}", number, float(number))
        cache.put("kind", "shared", number, float(number))
"""


def test_concurrent_runs_do_not_lose_each_other_s_evidence(tmp_path: Path) -> None:
    """Pipelines share a home: all that was written is there, and of one key the newest."""
    # A corrupt file to start with: both must agree on the new one.
    (tmp_path / "images-1.sqlite").write_bytes(b"no database" * 500)
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait(40) for writer in writers] == [0, 0]
    with EvidenceCache(tmp_path) as cache:
        assert [cache.get("kind", f"{name}{number}") for name in "ab" for number in range(20)] == [
            (number, float(number)) for _ in "ab" for number in range(20)
        ]
        assert cache.get("kind", "shared") == (19, 19.0)


def test_older_evidence_does_not_replace_newer(tmp_path: Path) -> None:
    """A slow run that ends late has older evidence than a quick one that began after it."""
    for value, at in (("new", 2.0), ("old", 1.0)):
        with EvidenceCache(tmp_path) as cache:
            cache.put("kind", "key", value, at)
    with EvidenceCache(tmp_path) as cache:
        assert cache.get("kind", "key") == ("new", 2.0)


def test_the_cache_folder() -> None:
    """XDG's variable counts where it is an absolute path."""
    assert cache_folder({"XDG_CACHE_HOME": "/var/cache/me"}) == Path("/var/cache/me/archshift")
    assert cache_folder({"XDG_CACHE_HOME": "relative"}) == Path.home() / ".cache/archshift"
    assert cache_folder({}) == Path.home() / ".cache/archshift"


def test_a_fleet_without_a_cache_folder(push: Pusher, proxy: Server, options: Options) -> None:
    """Keeping nothing is a choice."""
    push.multi("none", "1", "linux/arm64")
    image = f"{proxy.host}/none:1"
    assert audit_images([image], options(proxy.host))[image].verdict == "arm64-only"
