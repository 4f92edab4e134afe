"""What a preview's report says of a run: its outcome, the reason, policies, and no secret."""

import json

import pytest

from archshift.common.redact import HIDDEN, Redactor
from archshift.plan.guard import WAY_OUT
from archshift.plan.model import Conflict
from archshift.report.preview import Change, Diagnostic, PreviewReport, Run, Violation, failure
from archshift.report.preview_markdown import markdown
from tests.report.reports import AT, plan, report

PACKS = {"archshift|local|policies": "0.1.0"}
LAST = Diagnostic(severity="error", message="preview failed\n")


def violation(rule: str, *, mandatory: bool = True) -> Violation:
    """An objection."""
    return Violation(
        rule=rule, pack="archshift", mandatory=mandatory, resource="workloads", message="No.\nDo that.\n"
    )


def test_a_fine_preview() -> None:
    """No reason; advisories do not count; rules without objection are named."""
    run = Run(
        succeeded=True,
        packs=PACKS,
        passed=("one", "loud"),
        violations=(violation("loud", mandatory=False),),
        state_ratio=0.2,
    )
    found = report(run)
    assert (found.outcome, found.reason, found.policies) == ("fine", "", "asked")
    assert found.passed == ("one",)
    assert json.loads(json.dumps(found.to_json()))["state_ratio"] == 0.2


def test_policies_block() -> None:
    """What blocks stands first, and the reason names the rules, each once."""
    run = Run(
        succeeded=False,
        packs=PACKS,
        asked_packs=frozenset({"archshift"}),
        violations=(violation("a", mandatory=False), violation("z"), violation("b"), violation("b")),
        diagnostics=(LAST,),
        errors=("error: preview failed",),
    )
    found = report(run)
    assert (found.outcome, found.policies) == ("blocked", "asked")
    assert found.reason == "2 rules of the policy pack object: b, z"
    assert [(one.rule, one.mandatory) for one in found.violations] == [
        ("b", True),
        ("b", True),
        ("z", True),
        ("a", False),
    ]
    assert found.violations[0].message == "No. Do that."


def test_the_guard_blocks() -> None:
    """Its refusal is the reason; the pack, which the engine skips then, is not said to have passed."""
    refusal = "x86 capacity stays: 1 workload needs x86: shop/Deployment/legacy (why); do this"
    run = Run(
        succeeded=False,
        packs=PACKS,
        passed=("workload-patch-safety",),
        diagnostics=(Diagnostic(severity="error", message=f"<{{%reset%}}>error: {refusal}\n"), LAST),
    )
    found = report(run, refusals=(refusal,))
    assert (found.outcome, found.reason, found.policies) == ("blocked", refusal, "not asked")
    assert found.errors == (refusal,)
    text = markdown(found)
    assert "**Not checked.** Something failed first" in text
    assert "This is no pass" in text
    assert "No objection" not in text


def test_only_the_plan_file_tells_a_refusal() -> None:
    """No error is one by its words, and no word of the engine hides one."""
    refusal = f"x86 capacity stays: 1 workload needs x86; {WAY_OUT}"
    alike = Run(succeeded=False, diagnostics=(Diagnostic(severity="error", message=refusal), LAST))
    assert report(alike).outcome == "failed"
    wrapped = Run(
        succeeded=False,
        diagnostics=(
            Diagnostic(severity="error", message="first", resource="web"),
            Diagnostic(severity="error", message="hook failed: x86 node a\n  stays", resource="a"),
            LAST,
        ),
    )
    found = report(wrapped, refusals=("x86 node a stays", "x86 node b stays"))
    assert (found.outcome, found.reason) == ("blocked", "x86 node a stays")
    assert found.errors == ("web: first", "a: hook failed: x86 node a stays")
    text = markdown(found)
    assert "**Blocked.** `x86 node a stays`" in text
    assert "- `web: first`" in text
    assert "hook failed" not in text
    assert report(Run(succeeded=True), refusals=("x86 node a stays",)).outcome == "fine"


def test_a_failure_is_its_first_error() -> None:
    """Each error once, the engine's last words never, and what it wrote beside its events if need be."""
    error = Diagnostic(severity="error", message="archshift:arm_ratio: '2' is\n  too large\n")
    found = report(Run(succeeded=False, diagnostics=(error, error, LAST)), packs=())
    assert (found.outcome, found.policies) == ("failed", "none")
    assert found.errors == ("archshift:arm_ratio: '2' is too large",)
    beside = report(Run(succeeded=False, errors=("Previewing", "error: no stack named 'x' found")))
    assert beside.reason == "no stack named 'x' found"
    silent = report(Run(succeeded=False, errors=("error: preview failed",)))
    assert silent.reason.startswith("the engine ended without a reason")


def test_a_pack_that_was_given_and_not_loaded_was_not_asked() -> None:
    """Neither was the second of two."""
    assert report(Run(succeeded=False)).policies == "not asked"
    two = {**PACKS, "other|local|packs/other": "1"}
    one = report(Run(succeeded=False, packs=two, asked_packs=frozenset({"archshift"})))
    assert one.policies == "not asked"


def test_what_is_said_elsewhere_is_no_warning_too() -> None:
    """Conflicts and exceptions have a place of their own."""
    conflict = Conflict("shop/Deployment/pay", "spec.x", "helm", forced=False)
    entry = {"workload": conflict.workload, "field": "spec.x", "owner": "helm", "forced": False}
    said = [str(conflict), "BREAK GLASS until tonight", "the registry is slow"]
    warnings = tuple(Diagnostic(severity="warning", message=f"{text}\n") for text in said)
    found = report(
        Run(succeeded=True, diagnostics=warnings),
        plan(conflicts=[entry]),
        exceptions=("BREAK GLASS until tonight",),
    )
    assert found.warnings == ("the registry is slow",)


def test_what_is_said_of_a_resource_with_secrets_is_not_repeated() -> None:
    """A provider may quote what it was given, and nobody can tell which part of it is the secret."""
    said = Diagnostic(severity="error", message="bad value xyzzy", resource="db", secretive=True)
    found = report(Run(succeeded=False, diagnostics=(said,)))
    assert found.reason == "db has secret values; run pulumi preview to see why it failed"
    plainly = report(
        Run(succeeded=False, diagnostics=(Diagnostic(severity="error", message="bad value", resource="db"),))
    )
    assert plainly.reason == "db: bad value"


SECRET = "s3cr3t|value`with<b>"


@pytest.fixture
def leaky() -> PreviewReport:
    """A report of a run in which everything has the secret in it."""
    run = Run(
        succeeded=False,
        changes=(Change(op="update", type=f"a:b:{SECRET}", name=SECRET, keys=(f"data.{SECRET}",)),),
        violations=(
            Violation(rule=SECRET, pack=SECRET, mandatory=True, resource=SECRET, message=f"x {SECRET} y"),
        ),
        diagnostics=(
            Diagnostic(severity="error", message=f"x {SECRET} y", resource=SECRET),
            Diagnostic(severity="warning", message=f"z {SECRET}"),
        ),
        packs={SECRET: SECRET},
        passed=(SECRET,),
        errors=(f"error: {SECRET}",),
    )
    left = plan(
        {**plan()["workloads"][0], "workload": SECRET, "owner": SECRET, "reason": f"a {SECRET} b"},
        conflicts=[{"workload": SECRET, "field": SECRET, "owner": SECRET, "forced": True}],
        others={SECRET: SECRET},
    )
    return report(run, left, secrets=(SECRET,), exceptions=(f"break glass: {SECRET}",))


def test_no_secret_in_any_field(leaky: PreviewReport) -> None:
    """Wherever a secret could stand, it does not: in JSON, and in the comment, also in parts."""
    as_json = json.dumps(leaky.to_json())
    for text in (as_json, markdown(leaky)):
        assert "s3cr3t" not in text
        assert "value`with" not in text
        assert HIDDEN in text


def test_a_preview_that_could_not_begin() -> None:
    """It has a reason, without secrets, and a comment."""
    found = failure("prod", AT, "error: the backend\n says hunter2", Redactor(["hunter2"]))
    assert (found.outcome, found.reason) == ("failed", f"the backend says {HIDDEN}")
    text = markdown(found)
    assert text.startswith("<!-- archshift-preview:prod -->\n")
    assert "the step is unknown" in text
