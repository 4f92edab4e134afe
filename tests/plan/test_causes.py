"""What a log says about hundreds of workloads that stay where they are."""

from datetime import UTC, datetime
from typing import Any

from archshift.images.verdict import ImageVerdict, unknown
from archshift.images.workload import WorkloadVerdict, containers_of, judge_workload
from archshift.plan import reasons
from archshift.plan.causes import SHOWN_CAUSES, by_cause, summary
from archshift.plan.model import PlannedWorkload

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
AWAY = "registry.example does not answer: the host name cannot be resolved"


def verdict(name: str, image: ImageVerdict) -> WorkloadVerdict:
    containers = containers_of({"containers": [{"name": name, "image": image.image}]})
    return judge_workload(f"shop/Deployment/{name}", containers, {containers[0].use: image})


def held(name: str, replicas: int, image: ImageVerdict, **more: Any) -> PlannedWorkload:
    """A workload that its image holds."""
    found = verdict(name, image)
    fields: dict[str, Any] = {"action": "hold", "verdict": found, "reason": reasons.unproven(found), **more}
    return PlannedWorkload(
        key=f"shop/Deployment/{name}",
        namespace="shop",
        kind="Deployment",
        name=name,
        replicas=replicas,
        wanted=0,
        graviton=0,
        **fields,
    )


def unread(name: str) -> ImageVerdict:
    return unknown(f"registry.example/{name}:1", AWAY, WHEN, away="registry.example")


def amd64(name: str) -> ImageVerdict:
    return ImageVerdict(f"other.example/{name}:1", "amd64-only", ("linux/amd64",), "sha256:1", "", WHEN)


def test_a_registry_that_is_away_is_one_sentence() -> None:
    """It counts the workloads and names the largest. The names of images and containers do not matter."""
    rows = [held(f"w{number:03}", 1 + (number == 7), unread(f"w{number}")) for number in range(115)]
    assert summary(rows) == [
        f"115 workloads with 116 pods do not move: {AWAY}: "
        "shop/Deployment/w007, shop/Deployment/w000, shop/Deployment/w001 and 112 more"
    ]


def test_different_causes_are_told_apart_and_the_largest_comes_first() -> None:
    rows = [
        held("a", 2, unread("a")),
        held("b", 9, amd64("b")),
        held("c", 1, amd64("c")),
        held("d", 1, unread("d"), action="leave", reason="left alone: its rollouts are paused"),
    ]
    assert [(cause.text, [row.name for row in cause.rows]) for cause in by_cause(rows)] == [
        ("an image has no arm64", ["b", "c"]),
        (AWAY, ["a"]),
        ("left alone: its rollouts are paused", ["d"]),
    ]
    first, second, third = summary(rows)
    assert (
        first
        == "2 workloads with 10 pods do not move: an image has no arm64: shop/Deployment/b, shop/Deployment/c"
    )
    assert second.startswith("shop/Deployment/a: held on x86: registry.example/a:1 is unknown: container a: ")
    assert third == "shop/Deployment/d: left alone: its rollouts are paused"


def test_many_causes_are_counted() -> None:
    rows = [held(f"w{number}", 1, amd64("x"), action="leave", reason=f"{number}") for number in range(150)]
    told = summary(rows)
    assert len(told) == SHOWN_CAUSES + 1
    assert told[-1] == "142 workloads for 142 other reasons; archshift plan prints each of them"
    assert summary([]) == []
