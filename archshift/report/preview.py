"""A preview as a plain value: the step, what moves, what policies object to, what stopped it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from archshift.common.redact import Redactor
from archshift.plan.model import Conflict

Outcome: TypeAlias = Literal["fine", "blocked", "failed"]

# The engine's colour tags stay in its events even without colours.
_COLOUR: Final = re.compile(r"<\{%.*?%\}>")

_LAST_WORDS: Final = re.compile(r"(?:preview|update) failed")
"""The engine's last words in every run that fails, whatever the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the engine would do with one resource.

    Attributes:
        op: create, update, delete, replace ...
        keys: Paths of the changed fields; never their values.
    """

    op: str
    type: str
    name: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """An objection of a policy pack's rule; a mandatory one stops the preview."""

    rule: str
    pack: str
    mandatory: bool
    resource: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """A message of the preview.

    Attributes:
        severity: ``info``, ``warning`` or ``error``.
        resource: Name of the resource; empty for the stack.
        secretive: The resource has secret values, so the message may contain one.
    """

    severity: str
    message: str
    resource: str = ""
    secretive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One preview of the engine.

    Attributes:
        succeeded: By the engine's exit code.
        changes: The resources that change.
        packs: Version of each loaded policy pack, by name.
        asked_packs: Names of the packs whose stack rules ran. If a step fails, the engine skips these
            rules and still prints the pack as passed.
        passed: Rules without an objection.
        state_ratio: ``arm_ratio`` of the last update; None before the first.
        errors: Lines that the engine wrote outside its event log.
    """

    succeeded: bool
    changes: tuple[Change, ...] = ()
    violations: tuple[Violation, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()
    packs: Mapping[str, str] = field(default_factory=dict)
    asked_packs: frozenset[str] = frozenset()
    passed: tuple[str, ...] = ()
    state_ratio: float | None = None
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewReport:
    """A preview for people and programs. It contains no secret.

    Attributes:
        at: When the preview began.
        outcome: ``fine``, ``blocked`` by a policy or by the guard, or ``failed``.
        reason: Why the preview is not fine, in one sentence.
        plan: The program's plan (``plan_json``); None if the program stopped before it.
        exceptions: The exceptions in force, one sentence each.
        cost: The cost of the step (``step_cost``); None without a plan.
        packs: Version of each policy pack, by name.
        policies: ``asked``; ``not asked``: something failed before the pack ran; ``none``: no pack.
        passed: Rules without an objection.
        violations: Objections; the mandatory ones first.
        warnings: Warnings that appear nowhere else in this report.
        errors: All errors, including the reason.
        state_ratio: ``arm_ratio`` of the last update; None before the first.
    """

    stack: str
    at: datetime
    outcome: Outcome
    reason: str = ""
    plan: Mapping[str, Any] | None = None
    exceptions: tuple[str, ...] = ()
    cost: Mapping[str, Any] | None = None
    packs: Mapping[str, str] = field(default_factory=dict)
    policies: Literal["asked", "not asked", "none"] = "none"
    passed: tuple[str, ...] = ()
    violations: tuple[Violation, ...] = ()
    changes: tuple[Change, ...] = ()
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    state_ratio: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values."""
        return {**asdict(self), "at": self.at.isoformat(timespec="seconds")}


def make_report(
    stack: str,
    at: datetime,
    run: Run,
    plan_file: Mapping[str, Any] | None,
    packs: Sequence[str],
    redactor: Redactor,
) -> PreviewReport:
    """Return the report of a preview.

    Args:
        stack: The stack's name.
        at: When the preview began.
        run: The engine's preview.
        plan_file: The file of the program: its ``plan``, ``cost``, the ``exceptions`` in force and the
            ``refusals`` of the guard; None if the program stopped before it.
        packs: The policy packs on the command line.
        redactor: Hides known secrets; all text passes through it.
    """
    plan_file = redactor.json(plan_file or {})
    plan: Mapping[str, Any] | None = plan_file.get("plan")
    exceptions = tuple(plan_file.get("exceptions") or ())
    refusals = [one_line(text) for text in plan_file.get("refusals") or ()]
    messages = {severity: _texts(run, severity, redactor) for severity in ("warning", "error")}
    # Lines outside the event log count only if the log has no error.
    beside = [redactor.text(one_line(line)) for line in run.errors if line.startswith("error: ")]
    errors = _reasons(messages["error"]) or _reasons(beside)
    violations = tuple(
        Violation(
            rule=redactor.text(violation.rule),
            pack=redactor.text(violation.pack),
            mandatory=violation.mandatory,
            resource=redactor.text(violation.resource),
            message=redactor.text(one_line(violation.message)),
        )
        for violation in sorted(
            run.violations,
            key=lambda violation: (not violation.mandatory, violation.rule, violation.resource),
        )
    )
    known = {*exceptions, *_conflicts(plan)}
    outcome, reason = _outcome(run, refusals, errors, violations)
    return PreviewReport(
        stack=stack,
        at=at,
        outcome=outcome,
        reason=reason,
        plan=plan,
        exceptions=exceptions,
        cost=plan_file.get("cost"),
        packs={redactor.text(name): redactor.text(version) for name, version in run.packs.items()},
        policies=_policies(run, packs),
        passed=tuple(
            sorted(
                {redactor.text(rule) for rule in run.passed} - {violation.rule for violation in violations}
            )
        ),
        violations=violations,
        changes=tuple(
            Change(
                op=change.op,
                type=redactor.text(change.type),
                name=redactor.text(change.name),
                keys=tuple(map(redactor.text, change.keys)),
            )
            for change in run.changes
        ),
        warnings=tuple(text for text in messages["warning"] if text not in known),
        errors=tuple(errors),
        state_ratio=run.state_ratio,
    )


def failure(stack: str, at: datetime, reason: str, redactor: Redactor) -> PreviewReport:
    """Return the report of a preview that could not start."""
    reason = redactor.text(one_line(reason))
    return PreviewReport(stack=stack, at=at, outcome="failed", reason=reason, errors=(reason,))


def one_line(text: str) -> str:
    """Return a text of the engine as one line, without colours and the prefix ``error:``."""
    # Not text.one_line: it replaces letters, so the redactor would miss a secret with such a letter.
    return " ".join(_COLOUR.sub("", text).split()).removeprefix("error: ")


def _texts(run: Run, severity: str, redactor: Redactor) -> list[str]:
    messages: dict[str, None] = {}
    for diagnostic in run.diagnostics:
        if diagnostic.severity != severity:
            continue
        text = one_line(diagnostic.message)
        if diagnostic.secretive:
            text = f"{diagnostic.resource} has secret values; run pulumi preview to see why it failed"
        elif diagnostic.resource and text:
            text = f"{diagnostic.resource}: {text}"
        if text:
            messages[redactor.text(text)] = None
    return list(messages)


def _reasons(errors: Iterable[str]) -> list[str]:
    return [text for text in errors if not _LAST_WORDS.fullmatch(text)]


def _conflicts(plan: Mapping[str, Any] | None) -> Iterable[str]:
    return (str(Conflict(**conflict)) for conflict in (plan or {}).get("conflicts", ()))


def _outcome(
    run: Run, refusals: Sequence[str], errors: Sequence[str], violations: Sequence[Violation]
) -> tuple[Outcome, str]:
    if run.succeeded:
        return "fine", ""
    if refusals:
        return "blocked", refusals[0]
    if errors:
        return "failed", errors[0]
    rules = list(dict.fromkeys(violation.rule for violation in violations if violation.mandatory))
    if rules:
        several = "rules of the policy pack object" if len(rules) > 1 else "rule of the policy pack objects"
        return "blocked", f"{len(rules)} {several}: {', '.join(rules)}"
    return "failed", "the engine ended without a reason; run pulumi preview to see its output"


def _policies(run: Run, packs: Sequence[str]) -> Literal["asked", "not asked", "none"]:
    if not packs and not run.packs:
        return "none"
    # Every pack must have run: nobody knows the objections of a pack that did not.
    loaded = {name.split("|")[0] for name in run.packs}
    return "asked" if run.succeeded or (loaded and loaded <= run.asked_packs) else "not asked"
