"""Which changes of a preview are drift."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from archshift.report.drift import drift_in
from archshift.report.preview import Change, PreviewReport
from components.deletion_costs import DeletionCosts
from components.workload_patch import WorkloadPatch

CART, WEB = "shop/Deployment/cart", "shop/Deployment/web"
POLICY = "kubernetes:admissionregistration.k8s.io/v1:MutatingAdmissionPolicy"


def row(key: str, wanted: int | None, graviton: int) -> dict[str, Any]:
    return {"workload": key, "replicas": 10, "wanted": wanted, "graviton": graviton, "reason": ""}


def report(*changes: Change, drift: list[str] | None = None, **more: Any) -> PreviewReport:
    """A preview of a fleet whose cart was scaled."""
    plan = {"workloads": [row(CART, 8, 6), row(WEB, 5, 5)], "troubles": [], "drift": drift or []}
    return PreviewReport(
        **{
            "stack": "prod",
            "at": datetime(2026, 3, 2, tzinfo=UTC),
            "outcome": "fine",
            "plan": plan,
            "changes": changes,
            **more,
        }
    )


def test_costs_entries_and_counts_that_follow_an_autoscaler_are_no_drift() -> None:
    changes = (
        Change(op="update", type=DeletionCosts.TYPE, name="deletion-costs", keys=("due",)),
        Change(op="create", type=DeletionCosts.TYPE, name="deletion-costs"),
        Change(op="update", type=POLICY, name="shop", keys=("spec.variables",)),
        Change(op="update", type=WorkloadPatch.TYPE, name=CART),
    )
    assert drift_in(report(*changes)) == []


@pytest.mark.parametrize(
    ("change", "drift"),
    [
        (Change(op="update", type="aws:eks/nodeGroup:NodeGroup", name="x86"), []),
        (Change(op="replace", type=POLICY, name="shop"), []),
        (Change(op="update", type=POLICY, name="shop"), ["shop"]),
        (Change(op="update", type=POLICY, name="without-workloads"), []),
        (Change(op="update", type=f"{POLICY}Binding", name="shop"), []),
        (Change(op="delete", type=WorkloadPatch.TYPE, name=CART), []),
        (Change(op="update", type=WorkloadPatch.TYPE, name=CART), [CART]),
    ],
)
def test_every_other_change_is_drift(change: Change, drift: list[str]) -> None:
    assert drift_in(report(change, drift=drift))[0].startswith(f"{change.op} {change.type} {change.name}")


def test_drift_is_named() -> None:
    found = drift_in(report(drift=[CART, "shop"]))
    assert found == [
        f"{CART}: 8 of 10 pods wanted on Graviton, 6 there",
        "namespace shop: its policy is not as archshift made it",
    ]


def test_what_stops_an_update_is_drift() -> None:
    """A rule that objects, and pods that are pending."""
    blocked = report(outcome="blocked", reason="1 rule of the policy pack objects: x86-needed")
    assert drift_in(blocked) == ["the preview is blocked: 1 rule of the policy pack objects: x86-needed"]
    plan = {**(report().plan or {}), "troubles": [{"workload": WEB, "pending": 2, "stuck": ""}]}
    assert drift_in(replace(report(), plan=plan)) == [f"{WEB}: pods are pending, or a rollout is stuck"]


def test_a_program_that_does_not_say_what_autoscalers_did_makes_every_difference_drift() -> None:
    """Unknown is never yes."""
    plan = {"workloads": [row(CART, 8, 6)], "troubles": []}
    found = drift_in(report(Change(op="update", type=DeletionCosts.TYPE, name="deletion-costs"), plan=plan))
    assert len(found) == 2
