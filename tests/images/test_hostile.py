"""One bad image stops nothing: the others are judged as if it were not there, and it is unknown itself."""

from collections.abc import Iterator

import pytest

from tests.images.audit_process import audit
from tests.images.build import Pusher, elf, layer
from tests.images.hostile import Hostile
from tests.images.servers import Registry

START = {"Cmd": ["/app"]}


@pytest.fixture(scope="module")
def hostile() -> Iterator[Hostile]:
    server = Hostile()
    yield server
    server.stop()


def test_hostile_images_are_unknown_and_the_others_are_right(
    push: Pusher, registry: Registry, hostile: Hostile
) -> None:
    """Slow ones, endless ones, bombs, deep paths and unprintable names, in a deep audit of limited memory."""
    good = []
    for number in range(20):
        arm = {"app": elf("arm64" if number % 2 else "amd64")}
        children = [
            push.image(f"good/{number}", platform=f"linux/{one}", layers=[layer(arm)], config=START)
            for one in ("amd64", "arm64")
        ]
        push.index(f"good/{number}", "1", children)
        good.append(f"{registry.host}/good/{number}:1")
    bad = hostile.images(14, big=False)
    mixed = [image for pair in zip(good, bad, strict=False) for image in pair] + good[len(bad) :]
    found = audit(mixed, [registry.host, hostile.host], image_seconds=20)
    verdicts = {image: verdict for image, (verdict, _) in found["verdicts"].items()}
    unread = {image: found["verdicts"][image] for image in good if verdicts[image] == "unknown"}
    assert unread == {}
    assert [verdicts[image] for image in good] == ["amd64-only", "multi-arch"] * 10
    assert {image: verdicts[image] for image in bad if verdicts[image] != "unknown"} == {}
    assert found["mib"] < 512
    for image in bad:
        reason = found["verdicts"][image][1]
        assert reason.isprintable()
        assert len(reason) <= 1000
        assert not reason.startswith("archshift failed to judge"), reason
