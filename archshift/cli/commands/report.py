"""``archshift report``: how far the migration is, in the terminal or as one page."""

import argparse
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from archshift.cli import git
from archshift.cli.stack import busy, print_json, read_settings, say, stack_file_path
from archshift.cli.table import console, plain_table
from archshift.common.errors import ArchshiftError
from archshift.common.files import write_whole
from archshift.common.text import counted
from archshift.ramp.measurement import MeasuredWindow, Measurer, ShareRange
from archshift.ramp.promql import Expressions
from archshift.report.history import History, make_history
from archshift.report.report import SHARE_DAYS, Report, make_report, share_over_time
from archshift.report.savings import Savings, make_savings
from archshift.report.step_cost import comparisons, stack_tariff
from archshift.settings.stack import Settings
from archshift.survey import Survey, survey

_MOST_MOVES: Final = 300
_MOST_VERDICTS: Final = 100

_LARGEST_EVIDENCE: Final = 16 << 20

_SHOWN: Final = 10
"""Limit of the blockers in the terminal."""


def run(options: argparse.Namespace) -> int:
    """Write and print the report; returns the exit code."""
    at = datetime.now(UTC)
    with busy("reading the stack and the cluster") as watch:
        settings = read_settings(options, nodes=True)
        cluster_survey = survey(settings, watch=watch)
    with busy("reading prices and the repository"):
        savings = _savings(settings, cluster_survey, options)
        history, notes = _history(settings, options, at)
        shares, unknown = _shares(settings, cluster_survey, at)
    report = make_report(
        settings,
        cluster_survey,
        at=at,
        history=history,
        savings=savings,
        shares=shares,
        notes=[*notes, *unknown],
    )
    if options.html:
        # The templates take as long to load as the tables, and most reports go to a terminal.
        from archshift.report.html_page import page

        write_whole(Path(options.html), page(report), "--html")
    if options.json:
        print_json(report.to_json())
    else:
        print_report(report)
        if options.html:
            say(f"The whole report is in {options.html}.")
    return 0


def _savings(settings: Settings, cluster_survey: Survey, options: argparse.Namespace) -> Savings:
    if not settings.groups:
        return Savings(problem="archshift:node_groups is not set, so there are no nodes to price")
    try:
        tariff, note = stack_tariff(settings, cluster_survey.inventory.nodes, options.prices)
    except ArchshiftError as error:
        return Savings(problem=str(error))

    against = comparisons(settings, cluster_survey, options.headroom)
    return make_savings(settings.arm_ratio, against, tariff, options.headroom, note)


def _shares(
    settings: Settings, cluster_survey: Survey, at: datetime
) -> tuple[Mapping[str, ShareRange], list[str]]:
    """Return the shares of autoscaled workloads over time, and why they are not known."""
    gate = settings.gate
    if not (gate.prometheus and cluster_survey.plan.bends):
        return {}, []
    # Most stacks have no Prometheus.
    from archshift.ramp.prometheus import Prometheus, read_token

    expressions = Expressions(
        namespaces=settings.discovery.namespaces, selector=gate.selector, metrics=gate.metrics
    )
    window = MeasuredWindow.until(at.replace(microsecond=0), timedelta(days=SHARE_DAYS))
    try:
        with Prometheus(gate.prometheus, read_token()) as prometheus:
            return Measurer(prometheus, expressions).shares(window), []
    except ArchshiftError as error:
        return {}, [f"the shares of autoscaled workloads over time: {error}"]


def _history(settings: Settings, options: argparse.Namespace, at: datetime) -> tuple[History, list[str]]:
    """Return the history of the ratio from git, and what git does not know of it."""
    notes: list[str] = []
    file = stack_file_path(options, settings.stack)
    files: list[tuple[datetime, bytes]] = []
    evidence: list[bytes] = []
    kept = (Path(options.cwd) / settings.evidence_file).resolve()
    try:
        files += git.history(file, _MOST_MOVES, changing="arm_ratio")
        if not files:
            notes.append(f"how arm_ratio moved: {file.name} is not in git")
        elif git.is_shallow(file):
            notes.append(
                "how arm_ratio moved before the first commit of this shallow clone "
                "(git fetch --unshallow gets the other commits)"
            )
        if kept.parent.is_dir():
            versions = git.history(kept, _MOST_VERDICTS, largest=_LARGEST_EVIDENCE)
            evidence += (content for _, content in versions)
    except ArchshiftError as error:
        notes.append(f"how arm_ratio moved: {error}")
    # The newest evidence may not be committed yet.
    evidence += _now_in(kept)
    history = make_history(
        stack=settings.stack,
        arm_ratio=settings.arm_ratio,
        now=at,
        files=files,
        evidence=evidence,
        ramp=settings.ramp,
    )
    return history, notes


def _now_in(path: Path) -> Iterable[bytes]:
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST_EVIDENCE + 1)
    except OSError:
        return
    if len(content) <= _LARGEST_EVIDENCE:
        yield content


def print_report(report: Report) -> None:
    """Print a short report for a person."""
    out = console()
    table = plain_table()
    table.add_column("OWNER", overflow="fold")
    for name in ("ALL", "CAN MOVE", "BLOCKED", "HELD", "LEFT ALONE", "GRAVITON", "WANTED", "X86 VCPU"):
        table.add_column(name, justify="right")
    for owner in report.owners:
        movable = owner.states["ready"] + owner.states["capped"]
        counts = (
            owner.workloads,
            movable,
            owner.states["blocked"],
            owner.states["held"],
            owner.states["left alone"],
        )
        table.add_row(
            owner.owner, *map(str, counts), str(owner.graviton), str(owner.wanted), f"{owner.vcpu_x86:,.1f}"
        )
    out.print(table)
    out.print()
    for host, images in report.away.items():
        out.print(
            f"{counted(len(images), 'image')} cannot be checked, because the registry {host} does not answer",
            style="yellow",
        )
    for blocker in report.to_repair[:_SHOWN]:
        out.print(
            f"{blocker.image} holds {blocker.vcpu:,.1f} vCPU on x86 ({blocker.verdict}): {blocker.reason}",
            style="yellow",
        )
    if (more := len(report.to_repair) - _SHOWN) > 0:
        out.print(f"{counted(more, 'more image', 'hold')} workloads on x86", style="yellow")
    fleet, guard = report.fleet, report.guard
    if guard.guarded:
        out.print(
            f"{counted(len(guard.needs), 'workload', 'need')} x86: "
            f"{guard.nodes_that_must_stay} of {counted(guard.nodes, 'x86 node')} must stay"
        )
    for saving in report.savings.changes:
        out.print(f"cost {saving.title}, from arm_ratio {saving.before:g} to {saving.after:g}: {saving.text}")
    if report.savings.problem:
        out.print(f"savings are unknown: {report.savings.problem}", style="yellow")
    for bend in report.bends:
        if bend.causes:
            out.print(str(bend), style="yellow")
    for key, share in report.shares.items():
        out.print(share_over_time(key, share))
    for sentence in report.troubles:
        out.print(sentence, style="red")
    for sentence in (*guard.exceptions, *(f"unknown: {note}" for note in report.notes)):
        out.print(sentence, style="yellow")
    percent = f" ({fleet.graviton / fleet.pods * 100:.1f} %)" if fleet.pods else ""
    out.print(
        f"fleet at {report.arm_ratio:g}: {fleet.graviton} of {fleet.pods} movable pods on Graviton{percent}, "
        f"{fleet.wanted} wanted",
        style="bold",
    )
