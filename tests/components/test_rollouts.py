"""The step that an update finishes is the step that it has really made."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pulumi
import pytest

from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import StepResult
from archshift.actions.workload_patch import GONE
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.plan.model import Plan, PlannedWorkload
from components import rollouts
from tests.build import deployment, planned
from tests.components.recorder import record
from tests.fakes import FakeCluster

BEGUN = datetime(2026, 3, 2, tzinfo=UTC)
MEANWHILE = (BEGUN + timedelta(seconds=10)).timestamp()
OURS = "0a1b2c3d.4"


@dataclass
class Patch:
    """What became of a patch, ten seconds after the run began."""

    revision: Any = OURS
    problem: Any = ""
    at: Any = MEANWHILE

    def __post_init__(self) -> None:
        self.revision, self.problem, self.at = map(
            pulumi.Output.from_input, (self.revision, self.problem, self.at)
        )


def row(name: str = "cart", **options: Any) -> PlannedWorkload:
    """A row that rolls out."""
    template = {"metadata": {"annotations": {"archshift/revision": OURS}}}
    options = {"restarts": True, "movable": True, **options}
    return planned(name, 4, 2, patch={"spec": {"template": template}}, **options)


class Step:
    """Runs the component, and keeps what it does and logs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows: list[str] = []
        self.incomplete: frozenset[str] = frozenset()
        self.result: StepResult | ArchshiftError = StepResult()
        self.logged: list[tuple[str, str]] = []
        monkeypatch.setattr(rollouts, "connect", lambda _: FakeCluster())
        monkeypatch.setattr(rollouts, "finish_step", self._finish)
        for level in ("warn", "error"):
            monkeypatch.setattr(pulumi, level, lambda text, level=level: self.logged.append((level, text)))

    def _finish(self, _: object, rows: Sequence[PlannedWorkload], **options: Any) -> StepResult:
        self.rows = [row.key for row in rows]
        self.incomplete = options["incomplete"]
        if isinstance(self.result, ArchshiftError):
            raise self.result
        return self.result

    def run(self, patches: dict[str, dict[str, Any]], *rows: PlannedWorkload) -> None:
        def program() -> None:
            made: Any = {f"shop/Deployment/{name}": Patch(**outputs) for name, outputs in patches.items()}
            end = rollouts.await_rollouts(
                made,
                Plan(arm_ratio=0.5, workloads=rows or (row(),)),
                Inventory(workloads={"shop/Deployment/cart": deployment(settled=False)}),
                None,
                RolloutLimits(),
                "dev",
                since=BEGUN,
            )
            rollouts.log_ends([end])

        try:
            record(program)
        except pulumi.RunError as error:
            self.logged.append(("error", str(error)))


@pytest.fixture
def step(monkeypatch: pytest.MonkeyPatch) -> Step:
    return Step(monkeypatch)


def test_what_was_patched_in_this_run_is_followed(step: Step) -> None:
    """And only what rolls out."""
    step.run({"cart": {}, "same": {}}, row(), row("same", restarts=False), row("left", restarts=False))
    assert (step.rows, step.logged) == (["shop/Deployment/cart"], [])
    assert step.incomplete == {"shop/Deployment/cart"}


@pytest.mark.parametrize(
    "outputs",
    [
        {"revision": "0a1b2c3d.2", "at": BEGUN.timestamp() - 60},  # a destroy, or a --target elsewhere
        {"revision": None, "problem": None, "at": None},  # a create that a --target skips
        {"revision": OURS, "problem": "denied", "at": BEGUN.timestamp() - 60},  # refused by an earlier run
        {"revision": "0a1b2c3d.2"},  # another client was faster
    ],
)
def test_what_this_run_did_not_patch_is_neither_awaited_nor_moved(
    step: Step, outputs: dict[str, Any]
) -> None:
    step.run({"cart": outputs})
    assert (step.rows, step.logged) == ([], [])


def test_a_refused_patch_fails_the_update_after_all_else(step: Step) -> None:
    """The other workloads are finished first, and the engine deletes no node."""
    step.run(
        {"cart": {}, "denied": {"revision": "0a1b2c3d.2", "problem": "denied by policy"}},
        row(),
        row("denied"),
    )
    assert step.rows == ["shop/Deployment/cart"]
    ((level, text),) = step.logged
    assert level == "error"
    assert "shop/Deployment/denied: its patch was refused: denied by policy" in text


def test_a_workload_that_was_deleted_before_its_patch_is_named_and_no_error(step: Step) -> None:
    step.run({"cart": {}, "gone": {"revision": "", "problem": GONE}}, row(), row("gone"))
    assert step.rows == ["shop/Deployment/cart"]
    assert step.logged == [("warn", "not waited for: shop/Deployment/gone: it was deleted during the step")]


def test_notes_are_warnings_and_failures_are_errors(step: Step) -> None:
    step.result = StepResult(
        failures={"a": "stands still"}, notes={"b": "was deleted"}, inexact={"c": "no room"}
    )
    step.run({"cart": {}})
    assert step.logged == [
        ("warn", "not waited for: b: was deleted"),
        ("warn", "not exact yet: c: no room"),
        (
            "error",
            "the step is not complete: a: stands still; repair them or set arm_ratio back, then run pulumi "
            "up again (docs/runbook.md#when-a-rollout-is-stuck)",
        ),
    ]


def test_a_cluster_that_is_lost_fails_the_update(step: Step) -> None:
    step.result = ArchshiftError("the cluster cannot be reached")
    step.run({"cart": {}})
    ((level, text),) = step.logged
    assert (level, "the rollouts: the cluster cannot be reached" in text) == ("error", True)
