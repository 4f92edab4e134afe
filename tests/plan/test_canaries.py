"""A workload whose first pod failed on Graviton is held until its image changes, and no longer."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from archshift.cluster.model import FailedCanary, Inventory
from archshift.images.verdict import MULTI_ARCH
from archshift.images.workload import Container, ImageUse
from archshift.plan.canaries import failed_on_graviton
from archshift.plan.model import Rules, with_holds
from archshift.plan.planner import make_plan
from tests.build import deployment, evidence_of, plan_node

KEY = "shop/Deployment/cart"
CANARY = FailedCanary(
    workload=KEY,
    container="app",
    image="app:1",
    words="exec format error",
    digest="sha256:index",
    running="sha256:arm",
    at=datetime(2026, 11, 30, 14, 20, tzinfo=UTC),
)


def inventory(*images: str, running: tuple[str, ...] = ()) -> Inventory:
    containers = tuple(
        Container(f"c{number}", "container", ImageUse(image), running) for number, image in enumerate(images)
    )
    one = deployment("cart", 4, containers=containers)
    return Inventory(workloads={one.key: one}, nodes=(plan_node("x86", "amd64"), plan_node("arm")))


def held(canary: FailedCanary, *images: str, digest: str = "", running: tuple[str, ...] = ()) -> bool:
    verdicts = {}
    if digest:
        verdict = evidence_of(
            KEY, *((f"c{number}", image, MULTI_ARCH) for number, image in enumerate(images))
        )
        known = tuple(replace(image, digest=digest) for image in verdict.images)
        verdicts[KEY] = replace(verdict, images=known)
    return KEY in failed_on_graviton({KEY: canary}, inventory(*images, running=running), verdicts)


@pytest.mark.parametrize(
    ("canary", "images", "digest", "running", "expected"),
    [
        (CANARY, ("app:1",), "", (), True),  # nobody knows a digest
        (CANARY, ("proxy:3", "app:1"), "", (), True),
        (CANARY, ("app:2",), "", (), False),
        (CANARY, ("app:1",), "sha256:index", (), True),
        (CANARY, ("app:1",), "sha256:arm", (), True),  # a registry without an index
        (CANARY, ("app:1",), "sha256:new", (), False),  # the tag moved
        (CANARY, ("app:1",), "sha256:new", ("sha256:index",), False),  # and x86 pods still run the old image
        (CANARY, ("app:1",), "", ("sha256:index",), True),  # no registry: what nodes report counts
        (CANARY, ("app:1",), "", ("sha256:new",), False),
        (replace(CANARY, digest="", running=""), ("app:1",), "sha256:new", (), True),
        (replace(CANARY, digest="", running=""), ("app:2",), "sha256:new", (), False),
    ],
)
def test_only_the_images_that_failed_are_held(
    canary: FailedCanary, images: tuple[str, ...], digest: str, running: tuple[str, ...], expected: bool
) -> None:
    assert held(canary, *images, digest=digest, running=running) == expected


def test_evidence_of_a_workload_that_is_gone_holds_nothing() -> None:
    gone = replace(CANARY, workload="shop/Deployment/gone")
    assert failed_on_graviton({gone.workload: gone}, inventory("app:1"), {}) == {}


def test_the_plan_says_what_failed_and_when() -> None:
    there = inventory("app:1")
    rules = with_holds({}, failed_on_graviton({KEY: CANARY}, there, {}))
    (row,) = make_plan(arm_ratio=1.0, inventory=there, rules=rules).workloads
    assert (row.action, row.wanted) == ("hold", 0)
    assert row.reason == (
        "held on x86: failed on Graviton: container app: exec format error "
        "(image app:1@sha256:index, 2026-11-30 14:20 UTC); a new image lifts this"
    )


def test_the_settings_own_reason_stays() -> None:
    rules = {KEY: Rules(hold=True, reason="not before May")}
    assert with_holds(rules, {KEY: "failed"}) == rules
    kept = with_holds({KEY: Rules(max_ratio=0.5)}, {KEY: "failed"})
    assert kept == {KEY: Rules(max_ratio=0.5, hold=True, reason="failed")}
