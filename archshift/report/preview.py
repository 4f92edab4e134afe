"""What a preview found, as a plain value: the step, what moves, what policies say, what stopped it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, TypeAlias

from archshift.plan.model import Conflict
from archshift.report.redact import Redactor

Outcome: TypeAlias = Literal["fine", "blocked", "failed"]

# The engine's tags for colours stay in its events whatever colours it is told to use.
_COLOUR: Final = re.compile(r"<\{%.*?%\}>")

_LAST_WORDS: Final = re.compile(r"(?:preview|update) failed")
"""How the engine ends every run that fails, whatever the reason was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What the engine would do with one resource.

    Attributes:
        op: create, update, delete, replace ...
        type: The resource's type.
        name: Its name.
        keys: Paths of what changes; never the values.
    """

    op: str
    type: str
    name: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """What a rule of a policy pack objects to.

    Attributes:
        rule: The rule's name.
        pack: Its pack's name.
        mandatory: It stops the preview.
        resource: Name of the resource that it is shown at.
        message: The rule's words, the way out included.
    """

    rule: str
    pack: str
    mandatory: bool
    resource: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """What was said during the preview.

    Attributes:
        severity: ``info``, ``warning`` or ``error``.
        message: What was said.
        resource: Name of the resource it is about; empty for the stack.
        secretive: The resource has secret values, so that the message may too.
    """

    severity: str
    message: str
    resource: str = ""
    secretive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One preview of the engine.

    Attributes:
        succeeded: Its exit code says so.
        changes: What it would do, what stays the same left out.
        violations: What policies object to.
        diagnostics: What was said.
        packs: Policy packs that were loaded: name to version.
        asked_packs: Names of the packs whose rules about the whole stack were asked. The engine skips
            them when a step fails, and then prints the pack as passed all the same.
        passed: Rules that had nothing to object to.
        state_ratio: ``arm_ratio`` of the last update; None without one.
        errors: What the engine wrote beside its events.
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
    """A preview, as people and programs read it. It holds no secret.

    Attributes:
        stack: The stack's name.
        at: When the preview began.
        outcome: ``fine``, ``blocked`` by a policy or by the guard, or ``failed``.
        reason: Why it is not fine, in a sentence; empty if it is.
        plan: The plan as the program made it (``plan_json``); None if it did not come that far.
        exceptions: What is set aside just now, a sentence each.
        cost: What the step costs (``step_cost``); None where there is no plan.
        packs: Policy packs that were given: name to version.
        policies: ``asked``; ``not asked`` although a pack was given, since something failed before; or
            ``none``.
        passed: Rules that had nothing to object to.
        violations: What policies object to, what blocks first.
        changes: What the engine would do.
        warnings: Warnings that nothing else here says.
        errors: Errors, the reason included.
        state_ratio: ``arm_ratio`` of the last update; None without one.
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
        plan_file: What the program left: its ``plan``, ``cost`` and the ``exceptions`` in force; None if it
            did not come that far.
        packs: The policy packs that were asked for.
        redactor: Hides the secrets that are known; all text goes through it.
    """
    plan_file = redactor.json(plan_file or {})
    plan: Mapping[str, Any] | None = plan_file.get("plan")
    exceptions = tuple(plan_file.get("exceptions") or ())
    refusals = [one_line(text) for text in plan_file.get("refusals") or ()]
    messages = {severity: _said(run, severity, redactor) for severity in ("warning", "error")}
    # What the engine writes beside its events counts where the events do not say why.
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
    """Return the report of a preview that could not begin."""
    reason = redactor.text(one_line(reason))
    return PreviewReport(stack=stack, at=at, outcome="failed", reason=reason, errors=(reason,))


def one_line(text: str) -> str:
    """Return a text of the engine in one line, without its colours and the word error."""
    return " ".join(_COLOUR.sub("", text).split()).removeprefix("error: ")


def _said(run: Run, severity: str, redactor: Redactor) -> list[str]:
    messages: dict[str, None] = {}
    for diagnostic in run.diagnostics:
        if diagnostic.severity != severity:
            continue
        text = one_line(diagnostic.message)
        if diagnostic.secretive:
            text = f"the engine says why in its own output; {diagnostic.resource} has secret values"
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
    return "failed", "the engine ended without saying why; run pulumi preview to see its own output"


def _policies(run: Run, packs: Sequence[str]) -> Literal["asked", "not asked", "none"]:
    if not packs and not run.packs:
        return "none"
    # Each pack has to have been asked: one that was not says nothing of what it would object to.
    loaded = {name.split("|")[0] for name in run.packs}
    return "asked" if run.succeeded or (loaded and loaded <= run.asked_packs) else "not asked"
