"""The gate's evidence in a preview: what is registered, and the warning of a step that it does not allow."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest

from archshift.plan.model import Plan
from archshift.ramp.gate_evidence import GateEvidence, no_evidence
from archshift.settings import stack as stack_settings
from components.gate import Gate, GateArgs
from components.preflight import report_gate
from tests.build import planned
from tests.components.recorder import record

NOW = datetime(2026, 3, 9, 9, 0, tzinfo=UTC)
PASSED = GateEvidence(verdict="pass", stack="prod", ratio=0.2, at=NOW - timedelta(hours=1))


def stated(**change: Any) -> dict[str, Any]:
    """What the component states."""
    args = GateArgs(
        **{"required": True, "evidence": PASSED, "file": "gates/prod.json", "since": None, **change}
    )
    return record(lambda: Gate("gate", args)).outputs["gate"]


def test_the_state_has_the_verdict_and_what_it_is_of() -> None:
    """The policy pack reads exactly these keys."""
    assert stated() == {
        "required": True,
        "stack": "prod",
        "ratio": 0.2,
        "verdict": "pass",
        "at": "2026-03-09T08:00:00+00:00",
        "problem": "",
        "file": "gates/prod.json",
    }
    assert stated(since=NOW)["since"] == "2026-03-09T09:00:00+00:00"
    nothing = stated(evidence=no_evidence("gates/prod.json"), required=False)
    assert (nothing["verdict"], nothing["required"], "at" in nothing) == ("unknown", False, False)
    assert nothing["problem"] == "there is no gates/prod.json"


def warned(evidence: GateEvidence, graviton: int = 20, ramp: str = "") -> list[str]:
    """The warnings of a fleet of 100 pods that goes to 0.5."""
    stack = stack_settings.load("prod", {"archshift:arm_ratio": "0.5", "archshift:ramp": ramp})
    cart = planned("cart", 100, 50, graviton=graviton, movable=True)
    with patch("pulumi.warn") as warn:
        report_gate(evidence, Plan(arm_ratio=0.5, workloads=(cart,)), stack, NOW)
    return [call.args[0] for call in warn.call_args_list]


@pytest.mark.parametrize(
    ("evidence", "why"),
    [
        (replace(PASSED, verdict="hold", reasons=("too few requests",)), "it says hold: too few requests"),
        (replace(PASSED, stack="staging"), "it is about the stack 'staging', not about prod"),
        (no_evidence("gates/prod.json"), "there is no gates/prod.json"),
    ],
)
def test_a_step_that_the_gate_does_not_allow_is_warned_of(evidence: GateEvidence, why: str) -> None:
    """With the reason and the way out; a fleet that only drifted is let alone."""
    assert warned(evidence) == [
        f"arm_ratio 0.5 is a step up, and the gate has no pass for 0.2: {why}; run archshift gate "
        "--output at 0.2, or set arm_ratio back to it"
    ]
    assert warned(evidence, graviton=45) == []


def test_a_step_that_passed_is_not_warned_of() -> None:
    """The step before is that of the stack's own ramp."""
    assert warned(PASSED) == []
    ramp = '{"start": "2026-03-02", "steps": [0.3, 0.5]}'
    assert "the gate has no pass for 0.3: it is about arm_ratio 0.2" in warned(PASSED, ramp=ramp)[0]
    assert warned(replace(PASSED, ratio=0.3), ramp=ramp) == []
