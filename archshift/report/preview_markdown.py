"""A preview's report as the comment of a pull request.

Names and reasons come from clusters, registries and configurations: whoever may name a workload
could write into the comment. All such text stands in code spans, where Markdown, HTML, links,
mentions and references mean nothing, and in a single line, so that nothing ends a table's row.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archshift.common.architectures import display
from archshift.report.preview import Change, PreviewReport, Violation

LONGEST: Final = 65_536
"""GitHub's limit for a comment, in characters; here it is kept in bytes, which are never fewer."""

_TOP: Final = 25
_MANY: Final = 100

_HEADINGS: Final = {"fine": "Fine", "blocked": "Blocked", "failed": "Failed"}


@dataclass(frozen=True, slots=True)
class _Section:
    """A part that can be cut: rows between a head and a tail, both of bounded size.

    Attributes:
        head: What stands before the rows.
        items: What the rows are about, the most important first.
        row: Writes a row; only those that may be shown are written.
        left_out: Says how many rows were cut, and where they are.
        tail: What stands behind the rows.
        first: Rows that come before any section gets more.
        most: Rows to show at all.
    """

    head: str
    items: Sequence[Any]
    row: Callable[[Any], str]
    left_out: Callable[[int], str]
    tail: str = ""
    first: int = 10
    most: int = _MANY


def markdown(report: PreviewReport, longest: int = LONGEST) -> str:
    """Return the comment.

    Args:
        report: The preview.
        longest: Most bytes; what does not fit is cut from the end of each section, the least
            important sections first, and each says how much is missing.
    """
    top = "\n\n".join((marker(report.stack), *_top(report)))
    sections = [section for section in _sections(report) if section]
    parts = [top]
    for section, rows in zip(sections, _fit(top, sections, longest), strict=True):
        text = "\n".join((section.head, *rows)).rstrip("\n")
        if missing := len(section.items) - len(rows):
            text += f"\n\n{section.left_out(missing)}"
        parts.append(f"{text}\n\n{section.tail}" if section.tail else text)
    return "\n\n".join(parts) + "\n"


def marker(stack: str) -> str:
    """Return the hidden first line by which a workflow finds its own comment again."""
    return f"<!-- archshift-preview:{re.sub('[^A-Za-z0-9._/-]', '_', stack)[:200]} -->"


def code(text: object, most: int = 300) -> str:
    """Return text as a code span in one line, in which nothing of it has a meaning.

    Args:
        text: Any text.
        most: Most characters; the rest is cut.
    """
    start = str(text)[: 20 * most]
    line = "".join(_visible(character) for character in " ".join(start.split()))
    # A table's row would end its cell there, and a backslash before it would not help inside code.
    line = line.replace("|", "¦").strip()
    if len(line) > most:
        line = line[: most - 1].rstrip() + "…"
    if not line:
        return "-"
    longest_run = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest_run + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _visible(character: str) -> str:
    # Controls, and what turns the direction of text or hides in it.
    return "\ufffd" if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Co", "Cn") else character


def _fit(top: str, sections: Sequence[_Section], longest: int) -> list[list[str]]:
    """Return the rows of each section that are shown."""
    shown: list[list[str]] = [[] for _ in sections]
    left = longest - _size(top)
    for section in sections:
        # The line that says what was cut is counted whether it is needed or not.
        left -= _size(section.head) + _size(section.tail) + _size(section.left_out(len(section.items))) + 8
    for every in (False, True):
        for section, rows in zip(sections, shown, strict=True):
            for item in section.items[len(rows) : section.most if every else section.first]:
                row = section.row(item)
                if _size(row) + 1 > left:
                    break
                left -= _size(row) + 1
                rows.append(row)
    return shown


def _size(text: str) -> int:
    return len(text.encode())


def _top(report: PreviewReport) -> Iterable[str]:
    yield f"## archshift preview: {code(report.stack, 200)}"
    if report.exceptions:
        lines = [f"> - **{code(text, 500)}**" for text in report.exceptions[:5]]
        yield "\n".join(("> [!CAUTION]", "> **Exceptions in force:**", ">", *lines))
    state = f"**{_HEADINGS[report.outcome]}.**"
    yield f"{state} {code(report.reason, 1500)}" if report.reason else state
    yield _step(report)


def _step(report: PreviewReport) -> str:
    on = f"{report.at:%Y-%m-%d}"
    if report.plan is None:
        return f"No plan on {on}: the program did not come that far, so nothing is known of the step."
    plan, fleet = report.plan, report.plan["fleet"]
    share = fleet["graviton"] / fleet["pods"] if fleet["pods"] else 0.0
    ratio = f"{plan['arm_ratio']:g}"
    if report.state_ratio is None:
        ratio = f"{ratio}, the first that this stack sets"
    elif report.state_ratio != plan["arm_ratio"]:
        ratio = f"{report.state_ratio:g} → {ratio}"
    direction = {"up": "up", "down": "down", "none": "no pod changes sides"}.get(str(plan["direction"]), "?")
    moves = sum(row["moves"] for row in plan["workloads"])
    restarts = sum(1 for row in plan["workloads"] if row["restarts"])
    return "\n".join(
        (
            f"**Step on {on}: `arm_ratio` {ratio}**, direction: **{direction}**.",
            f"{fleet['graviton']} of {fleet['pods']} movable pods are on Graviton ({share:.1%}), "
            f"{fleet['wanted']} belong there; {moves} pods change sides, {restarts} workloads roll out, "
            f"{fleet['all_pods']} pods in all.",
        )
    )


def _sections(report: PreviewReport) -> Iterable[_Section | None]:
    yield _policies(report)
    yield _errors(report)
    if report.plan is not None:
        yield _moves(report.plan)
        yield _conflicts(report.plan)
        yield _capacity(report.plan, report.cost)
        yield _held(report.plan)
    yield _warnings(report)
    yield _diff(report.changes)


def _policies(report: PreviewReport) -> _Section:
    packs = ", ".join(
        f"{code(name.split('|')[0], 60)} {code(version, 30)}"
        for name, version in list(report.packs.items())[:5]
    )
    if report.policies == "none":
        summary = "No policy pack was given: nothing was asked of one."
    elif report.policies == "not asked":
        summary = (
            "**Not asked.** Something failed before, and then the engine skips the rules about the whole "
            "stack: this is no pass."
        )
    else:
        passed = ", ".join(code(rule, 60) for rule in report.passed[:30])
        summary = f"Asked: {packs}." + (f" Without objection: {passed}." if passed else "")
    return _Section(
        "### Policies\n",
        report.violations,
        _violation,
        lambda count: f"_{count} more violations are not shown; `pulumi preview` prints them all._",
        tail=summary,
    )


def _violation(violation: Violation) -> str:
    level = "**Blocks**" if violation.mandatory else "Advises"
    return (
        f"- {level}: {code(violation.rule, 60)} at {code(violation.resource, 120)}: "
        f"{code(violation.message, 1500)}"
    )


def _errors(report: PreviewReport) -> _Section | None:
    # The engine may put its own words around the reason.
    others = [text for text in report.errors if not report.reason or report.reason not in text]
    if not others:
        return None
    return _Section(
        "### Errors\n",
        others,
        lambda text: f"- {code(text, 800)}",
        lambda count: f"_{count} more errors are not shown; `pulumi preview` prints them all._",
    )


def _moves(plan: Mapping[str, Any]) -> _Section | None:
    moving = [row for row in plan["workloads"] if row["moves"]]
    if not moving:
        return None
    moving.sort(key=lambda row: (-row["moves"], row["workload"]))
    return _Section(
        "### What moves\n\n"
        "| workload | owner | pods | on Graviton now | then | note |\n"
        "| --- | --- | ---: | ---: | ---: | --- |",
        moving,
        lambda row: (
            f"| {code(row['workload'])} | {code(row['owner'], 60)} | {row['replicas']} | {row['graviton']} | "
            f"{row['wanted']} | {code(row['reason']) if row['reason'] else ''} |"
        ),
        lambda count: f"_{count} more workloads move, with fewer pods each; `archshift plan` lists them._",
        first=_TOP,
        most=_TOP,
    )


def _conflicts(plan: Mapping[str, Any]) -> _Section | None:
    if not plan["conflicts"]:
        return None
    return _Section(
        "### Conflicts: fields that others own\n\n"
        "Set the placement where the owner does, or set `force: true` with a reason in "
        "`archshift:workloads.overrides`.\n\n| workload | owner | what happens | field |\n"
        "| --- | --- | --- | --- |",
        sorted(plan["conflicts"], key=lambda conflict: not conflict["forced"]),
        lambda conflict: (
            f"| {code(conflict['workload'])} | {code(conflict['owner'], 120)} | "
            f"{'is taken, as configured' if conflict['forced'] else 'left alone'} | "
            f"{code(conflict['field'])} |"
        ),
        lambda count: f"_{count} more conflicts are not shown; `archshift plan` lists them._",
    )


def _capacity(plan: Mapping[str, Any], cost: Mapping[str, Any] | None) -> _Section | None:
    if not plan["capacity"]:
        return None
    before = {side["architecture"]: side for side in plan["capacity_before"]}
    rows = []
    for then in plan["capacity"]:
        now = before.get(then["architecture"], {})
        rows.append(
            f"| {display(then['architecture'])} | {_change(now, then, 'nodes')} | "
            f"{_change(now, then, 'pods')} | {_use(now, 'vcpu')} | {_use(then, 'vcpu')} | "
            f"{_use(now, 'gib')} | {_use(then, 'gib')} |"
        )
    short = [f"- Too little: {code(side['shortage'], 500)}" for side in plan["capacity"] if side["shortage"]]
    return _Section(
        "### Capacity\n\n| | nodes | pods | vCPU asked for, now | then | GiB asked for, now | then |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(rows),
        (),
        str,
        lambda _: "",
        tail="\n".join((*short, *([""] if short else []), _cost(cost))),
    )


def _cost(cost: Mapping[str, Any] | None) -> str:
    if cost is None:
        return "Cost before and after is not known."
    if cost["before"] is None or cost["after"] is None:
        why = "; ".join(cost["unknown"][:3])
        return f"Cost before and after is not known: {code(why, 600)}."
    now, then = (
        " to ".join(dict.fromkeys(f"{side[end]:,.0f}" for end in ("least", "most")))
        for side in (cost["before"], cost["after"])
    )
    overlap = ""
    if cost["overlap"]:
        overlap = f" While the x86 nodes still run beside: {cost['overlap']:,.0f} more."
    return (
        f"Cost: nodes for {now} USD a month are needed now, for {then} then: {code(cost['saving'])}."
        f"{overlap} `archshift cost` says what that rests on."
    )


def _change(now: Mapping[str, Any], then: Mapping[str, Any], key: str) -> str:
    return f"{now.get(key, 0)} → {then[key]}"


def _use(side: Mapping[str, Any], key: str) -> str:
    return f"{side.get(f'{key}_needed', 0):.1f} of {side.get(key, 0):.1f}"


def _held(plan: Mapping[str, Any]) -> _Section | None:
    conflicting = {conflict["workload"] for conflict in plan["conflicts"] if not conflict["forced"]}
    held = [
        row
        for row in plan["workloads"]
        if row["action"] in ("block", "hold")
        or (row["action"] == "leave" and row["kind"] != "DaemonSet" and row["workload"] not in conflicting)
    ]
    if not held:
        return None
    # What stops Graviton nodes first, then by what it keeps on x86.
    held.sort(key=lambda row: (row["action"] != "block", -row["replicas"], row["workload"]))
    return _Section(
        "<details>\n"
        f"<summary>Held on x86 or left alone: {len(held)} workload{'' if len(held) == 1 else 's'}, "
        f"{sum(row['replicas'] for row in held)} pods</summary>\n\n"
        "| workload | owner | pods | why |\n| --- | --- | ---: | --- |",
        held,
        lambda row: (
            f"| {code(row['workload'])} | {code(row['owner'], 60)} | {row['replicas']} | "
            f"{code(row['reason'], 500)} |"
        ),
        lambda count: (
            f"_{count} more are held or left alone; `archshift plan` lists them with their reasons._"
        ),
        tail="</details>",
    )


def _warnings(report: PreviewReport) -> _Section | None:
    if not report.warnings:
        return None
    return _Section(
        "### Warnings\n",
        report.warnings,
        lambda text: f"- {code(text, 600)}",
        lambda count: f"_{count} more warnings are not shown; `pulumi preview` prints them all._",
        first=5,
        most=_TOP,
    )


def _diff(changes: Sequence[Change]) -> _Section | None:
    if not changes:
        return None
    counts = Counter(change.op for change in changes)
    summary = ", ".join(f"{count} {re.sub('[^a-z-]', '', op)}" for op, count in counts.most_common(12))
    return _Section(
        f"<details>\n<summary>Resource diff: {summary}</summary>\n\n"
        "| op | resource | type | what changes |\n| --- | --- | --- | --- |",
        changes,
        lambda change: (
            f"| {code(change.op, 30)} | {code(change.name)} | {code(change.type.rpartition(':')[2], 80)} | "
            f"{_keys(change.keys)} |"
        ),
        lambda count: f"_{count} more resources change; `pulumi preview --diff` prints them all._",
        tail="</details>",
        most=len(changes),
    )


def _keys(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return ", ".join(code(key, 160) for key in keys[:5]) + more
