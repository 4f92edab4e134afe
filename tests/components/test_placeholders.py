"""One update brings its nodes up once, before its first patch, and says once why it cannot."""

import asyncio
from typing import Any

import pulumi
import pytest

from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.plan.model import Plan
from components import placeholders
from components.placeholders import Placeholders
from tests.components.recorder import record
from tests.fakes import FakeCluster


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Who asked for which nodes; an exception among ``answers`` is what the next one gets."""
    made: list[Any] = []
    monkeypatch.setattr(placeholders, "connect", lambda _context: FakeCluster())
    monkeypatch.setattr(placeholders, "needed_before", lambda _plan, _inventory: ("before",))
    monkeypatch.setattr(placeholders, "needed_after", lambda _cluster, _rows, _inventory: ("after",))
    monkeypatch.setattr(
        placeholders, "bring_up_nodes", lambda _cluster, wanted, stack: made.append((wanted, stack))
    )
    return made


def begun() -> Placeholders:
    """The placeholders of an update."""
    made: list[Placeholders] = []
    record(lambda: made.append(Placeholders(Plan(arm_ratio=0.5), Inventory(), "dev", None)))
    return made[0]


def patches(one: Placeholders, count: int) -> list[Any]:
    """What the hook says to this many patches that ask at the same time."""
    arguments = pulumi.ResourceHookArgs(urn="urn", id="id", name="cart", type="patch")

    async def ask() -> list[Any]:
        asked = [one.hook.callback(arguments) for _ in range(count)]
        return list(await asyncio.gather(*asked, return_exceptions=True))  # type: ignore[arg-type]

    return asyncio.run(ask())


def test_however_many_patches_ask_nodes_are_brought_up_once(calls: list[Any]) -> None:
    """And again, for what is on the wrong side then, after the rollouts."""
    one = begun()
    assert patches(one, 5) == [None] * 5
    assert calls == [(("before",), "dev")]
    one.bring_up_missing(FakeCluster(), [])
    assert calls == [(("before",), "dev"), (("after",), "dev")]


def test_where_no_patch_was_made_none_is_asked_for(calls: list[Any]) -> None:
    """In a destroy the program runs too: no node may be brought up for what goes."""
    begun().bring_up_missing(FakeCluster(), [])
    assert calls == []


def test_the_reason_is_said_once(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every patch fails, so that nothing moves; one says why."""

    def refuse(*_: object) -> None:
        raise ArchshiftError("no node had come up")

    monkeypatch.setattr(placeholders, "bring_up_nodes", refuse)
    answers = patches(begun(), 3)
    assert all(isinstance(answer, ArchshiftError) for answer in answers)
    assert sorted(map(str, answers)) == [
        "no pod moves: no node had come up",
        "not patched: nodes did not come up (see the first error)",
        "not patched: nodes did not come up (see the first error)",
    ]
    assert calls == []
