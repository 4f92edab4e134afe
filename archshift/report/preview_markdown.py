"""A preview's report as a comment on a pull request.

Names and reasons come from clusters, registries and configurations, so whoever names a workload could
write into the comment. All such text is in code spans of one line: Markdown, HTML, links, mentions and
references have no effect there, and nothing ends a table's row.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archshift.cluster.kinds import on_every_node
from archshift.common.architectures import display
from archshift.common.text import counted, first_few, one_line
from archshift.report.preview import Change, PreviewReport, Violation

LONGEST: Final = 65_536
"""GitHub's limit for a comment in characters; counted in bytes here, which are never fewer."""

_TOP: Final = 25
_MANY: Final = 100

_HEADINGS: Final = {"fine": "Fine", "blocked": "Blocked", "failed": "Failed"}


@dataclass(frozen=True, slots=True)
class _Section:
    """A section that can be cut: rows between a head and a tail, both of bounded size.

    Attributes:
        items: The subjects of the rows, the most important first.
        row: Writes a row.
        left_out: Says how many rows are missing and where to find them.
        first: Every section gets this number of rows before any section gets more.
        most: Limit of rows.
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
        longest: Limit in bytes. If needed, sections lose their last rows, the least important sections
            first, and each says how many rows are missing.
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
    """Return the hidden first line; a workflow finds its own comment by it."""
    return f"<!-- archshift-preview:{re.sub('[^A-Za-z0-9._/-]', '_', stack)[:200]} -->"


def code(text: object, most: int = 300) -> str:
    """Return text as a code span of one line, so that no markup in it has an effect.

    Args:
        text: Any text.
        most: Limit in characters.
    """
    # A pipe would end the table cell, and a backslash does not escape it inside code.
    line = one_line(str(text), most).replace("|", "¦")
    if not line:
        return "-"
    longest_run = max((len(run) for run in re.findall("`+", line)), default=0)
    fence = "`" * (longest_run + 1)
    pad = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{pad}{line}{pad}{fence}"


def _fit(top: str, sections: Sequence[_Section], longest: int) -> list[list[str]]:
    """Return the visible rows of each section."""
    shown: list[list[str]] = [[] for _ in sections]
    left = longest - _size(top)
    for section in sections:
        # The line about missing rows always counts, even if it is not needed.
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
        return f"No plan on {on}: the program stopped before it made a plan, so the step is unknown."
    plan, fleet = report.plan, report.plan["fleet"]
    share = fleet["graviton"] / fleet["pods"] if fleet["pods"] else 0.0
    ratio = f"{plan['arm_ratio']:g}"
    if report.state_ratio is None:
        ratio = f"{ratio}, the first of this stack"
    elif report.state_ratio != plan["arm_ratio"]:
        ratio = f"{report.state_ratio:g} → {ratio}"
    direction = {"up": "up", "down": "down", "none": "no pod changes sides"}.get(str(plan["direction"]), "?")
    moves = sum(row["moves"] for row in plan["workloads"])
    rolls = sum(1 for row in plan["workloads"] if row["restarts"])
    changes = [f"{counted(moves, 'pod', 'change')} sides"]
    if plan["placement"] == "admission":
        # With patches, every pod of a rollout restarts.
        changes.append(counted(plan["restarted_pods"], "pod", "restart"))
    changes.append(f"{counted(rolls, 'workload', 'roll')} out")
    return "\n".join(
        (
            f"**Step on {on}: `arm_ratio` {ratio}**, direction: **{direction}**.",
            f"{fleet['graviton']} of {fleet['pods']} movable pods are on Graviton ({share:.1%}), "
            f"{fleet['wanted']} belong there; {', '.join(changes)}, "
            f"{counted(fleet['all_pods'], 'pod')} in all.",
            *([f"Fewer restarts are possible: {code(plan['advice'])}."] if plan["advice"] else []),
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
        summary = "There is no policy pack, so no rule was checked."
    elif report.policies == "not asked":
        summary = (
            "**Not checked.** Something failed first, so the engine skipped the rules about the whole stack. "
            "This is no pass."
        )
    else:
        passed = ", ".join(code(rule, 60) for rule in report.passed[:30])
        summary = f"Checked: {packs}." + (f" No objection: {passed}." if passed else "")
    return _Section(
        "### Policies\n",
        report.violations,
        _violation,
        lambda count: f"_{count} more violations are not shown; `pulumi preview` prints them all._",
        tail=summary,
    )


def _violation(violation: Violation) -> str:
    level = "**Blocks**" if violation.mandatory else "Advice"
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
        "Set the placement in the owner's source, or set `force: true` with a reason in "
        "`archshift:workloads.overrides`.\n\n| workload | owner | what happens | field |\n"
        "| --- | --- | --- | --- |",
        sorted(plan["conflicts"], key=lambda conflict: not conflict["forced"]),
        lambda conflict: (
            f"| {code(conflict['workload'])} | {code(conflict['owner'], 120)} | "
            f"{'archshift takes it, as configured' if conflict['forced'] else 'left alone'} | "
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
        "### Capacity\n\n| | nodes | pods | vCPU requested, now | then | GiB requested, now | then |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n" + "\n".join(rows),
        (),
        str,
        lambda _: "",
        tail="\n".join((*short, *([""] if short else []), _cost(cost))),
    )


def _cost(cost: Mapping[str, Any] | None) -> str:
    if cost is None:
        return "The cost before and after is unknown."
    if cost["before"] is None or cost["after"] is None:
        why = "; ".join(cost["unknown"][:3])
        return f"The cost before and after is unknown: {code(why, 600)}."
    now, then = (
        " to ".join(dict.fromkeys(f"{side[end]:,.0f}" for end in ("least", "most")))
        for side in (cost["before"], cost["after"])
    )
    overlap = ""
    if cost["overlap"]:
        overlap = f" While the x86 nodes still run: {cost['overlap']:,.0f} more."
    return (
        f"Cost: the pods need nodes for {now} USD a month now, for {then} then: {code(cost['saving'])}."
        f"{overlap} `archshift cost` lists the assumptions."
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
        or (
            row["action"] in ("keep", "leave")
            and not (on_every_node(row["kind"]) or row["workload"] in conflicting)
        )
    ]
    if not held:
        return None
    causes: dict[str, list[Mapping[str, Any]]] = {}
    # Workloads that stop Graviton nodes first, then by the number of pods.
    held.sort(key=lambda row: (row["action"] != "block", -row["replicas"], row["workload"]))
    for row in held:
        causes.setdefault(row["cause"], []).append(row)
    groups = sorted(
        causes.values(),
        key=lambda rows: (rows[0]["action"] != "block", -_pods(rows), -len(rows), rows[0]["workload"]),
    )
    return _Section(
        "<details>\n"
        f"<summary>Held on x86 or left alone: {counted(len(held), 'workload')}, "
        f"{counted(_pods(held), 'pod')}</summary>\n\n"
        "| why | workloads | pods | the largest, with its owner |\n| --- | ---: | ---: | --- |",
        groups,
        _cause,
        lambda count: (
            f"_{counted(count, 'more reason')}; `archshift plan` prints every workload with its own._"
        ),
        tail="</details>",
    )


def _pods(rows: Iterable[Mapping[str, Any]]) -> int:
    return sum(row["replicas"] for row in rows)


def _cause(rows: Sequence[Mapping[str, Any]]) -> str:
    why = rows[0]["reason"] if len(rows) == 1 else rows[0]["cause"]
    names = first_few(
        rows,
        3,
        name=lambda row: f"{code(row['workload'], 160)} ({code(row['owner'], 60)})",
        rest=" and {} more",
    )
    return f"| {code(why, 500)} | {len(rows)} | {_pods(rows)} | {names} |"


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
    return first_few(keys, name=lambda key: code(key, 160))
