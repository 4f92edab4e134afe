"""A stack that goes over to placement at admission gives its patches back, and waits for the rollouts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from archshift.actions import leave_patches
from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import StepResult
from archshift.cluster.client import RefusedError
from archshift.common.errors import UnavailableError
from archshift.plan.model import PlannedWorkload
from tests.build import planned
from tests.fakes import FakeCluster

LIMITS = RolloutLimits(longest=600.0, no_progress=60.0)


def rows(*names: str) -> list[PlannedWorkload]:
    """Workloads whose patch goes, and which roll out by that."""
    return [
        replace(planned(name, 4, 2), entry="2 of 4 on arm64", patch_goes=True, restarts=True)
        for name in names
    ]


class Shop:
    """Which patches were given back, and which rollouts were followed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, errors: Mapping[str, Exception]) -> None:
        self.given: list[str] = []
        self.followed: list[str] = []
        self.errors = errors
        monkeypatch.setattr(leave_patches, "give_back", self.give_back)
        monkeypatch.setattr(leave_patches, "finish_step", self.finish_step)

    def give_back(self, _: Any, kind: str, namespace: str, name: str, field_manager: str) -> None:
        assert (kind, namespace, field_manager) == ("Deployment", "shop", "ours")
        if name in self.errors:
            raise self.errors[name]
        self.given.append(name)

    def finish_step(self, _: Any, rows: Sequence[PlannedWorkload], **__: Any) -> StepResult:
        self.followed += [row.name for row in rows]
        return StepResult(failures={"shop/Deployment/stuck": "its rollout makes no progress"})


def leave(rows: Sequence[PlannedWorkload]) -> StepResult:
    return leave_patches.leave_patches(
        FakeCluster(), rows, field_manager="ours", stack_label="prod", limits=LIMITS
    )


def test_one_that_the_api_server_refuses_stops_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, {"cart": RefusedError("no", status=403, words="a policy denies it")})
    idle = replace(rows("idle")[0], restarts=False)
    done = leave([*rows("api", "cart", "stuck"), idle])
    assert sorted(shop.given) == ["api", "idle", "stuck"]
    assert shop.followed == ["api", "stuck"], "only what rolls out is waited for"
    assert done.notes == {
        "shop/Deployment/cart": "the API server refuses to give its fields back: a policy denies it"
    }
    assert done.failures == {"shop/Deployment/stuck": "its rollout makes no progress"}


def test_an_api_server_that_is_away_ends_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop(monkeypatch, {"cart": UnavailableError("the cluster cannot be reached")})
    with pytest.raises(UnavailableError, match="cannot be reached"):
        leave(rows("cart"))
    assert shop.followed == []
