"""``archshift gate``: compares Graviton with x86 by the metrics in Prometheus."""

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from archshift.cli.arguments.gate import EXIT_CODES
from archshift.cli.stack import busy, print_json, read_settings
from archshift.cli.table import console, plain_table
from archshift.common.errors import ArchshiftError
from archshift.common.files import write_whole
from archshift.common.text import printable_json
from archshift.common.times import short
from archshift.ramp.figures import FIGURES, written
from archshift.ramp.gate import FleetVerdict, JudgedWorkload, judge, needs_before
from archshift.ramp.measurement import MeasuredWindow, Measurement, Measurer, PrometheusError, RecordedQuery
from archshift.ramp.prometheus import Prometheus, read_token
from archshift.ramp.promql import NODE_ARCH, POD_ARCH, Expressions
from archshift.settings.stack import Settings

DEFAULT_SOAK: Final = timedelta(hours=24)

_STYLES: Final = {"hold": "yellow", "step-back": "red", "unknown": "magenta"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The result of one run of the gate."""

    stack: str
    arm_ratio: float
    prometheus: str
    at: datetime
    since: datetime | None
    soak: timedelta
    now: Measurement
    before: Measurement | None
    verdict: FleetVerdict
    queries: list[RecordedQuery]


def run(options: argparse.Namespace) -> int:
    """Print the verdict; returns the exit code."""
    with busy("asking Prometheus"):
        settings = read_settings(options, nodes=False)
        gate = ask(settings, at=options.at, since=options.since)
    evidence = as_json(gate)
    if options.output is not None:
        write_evidence(Path(options.output or evidence_path(options, settings)), evidence)
    if options.json:
        print_json(evidence)
    else:
        print_table(gate, options.queries)
    return EXIT_CODES[gate.verdict.verdict]


def ask(
    settings: Settings,
    *,
    at: datetime | None = None,
    since: datetime | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Gate:
    """Measure and judge.

    Args:
        settings: The stack's settings.
        at: The time to judge; None: now.
        since: When the ratio last changed; None: as in the settings.
        environment: Contains the token for Prometheus.

    Raises:
        ArchshiftError: A setting is invalid or missing.
    """
    chosen = settings.gate
    if not chosen.prometheus:
        raise ArchshiftError(
            "archshift:gate.prometheus is not set",
            "set it to the address of the Prometheus that scrapes kube-state-metrics",
        )
    ramp = settings.ramp
    since = since or (ramp.since if ramp else None)
    soak = chosen.soak if chosen.soak is not None else ramp.soak if ramp else DEFAULT_SOAK
    real = at is None
    at = at or datetime.now(UTC).replace(microsecond=0)
    past = at - since if since else chosen.window
    window = MeasuredWindow.until(at, max(timedelta(0), min(chosen.window, past)))
    expressions = Expressions(
        namespaces=settings.discovery.namespaces, selector=chosen.selector, metrics=chosen.metrics
    )
    with Prometheus(chosen.prometheus, read_token(environment)) as prometheus:
        measurer = Measurer(prometheus, expressions)
        now, before = _measure(
            measurer, window, since, settings.arm_ratio, datetime.now(UTC) if real else None
        )
    caps = {
        key: 0.0 if rules.hold else rules.max_ratio
        for key, rules in settings.rules.items()
        if rules.hold or rules.max_ratio < 1
    }
    verdict = judge(
        arm_ratio=settings.arm_ratio,
        at=at,
        since=since,
        soak=soak,
        gate=chosen,
        caps=caps,
        now=_without(now, settings),
        before=before,
    )
    return Gate(
        stack=settings.stack,
        arm_ratio=settings.arm_ratio,
        prometheus=chosen.prometheus,
        at=at,
        since=since,
        soak=soak,
        now=now,
        before=before,
        verdict=verdict,
        queries=measurer.queries,
    )


def _measure(
    measurer: Measurer,
    window: MeasuredWindow,
    since: datetime | None,
    arm_ratio: float,
    clock: datetime | None,
) -> tuple[Measurement, Measurement | None]:
    if not window.steps:
        return Measurement(window=window), None
    try:
        if problem := measurer.clock_problem(window.end, clock):
            return Measurement(window=window, problem=str(problem)), None
    except PrometheusError as error:
        return Measurement(window=window, problem=str(error)), None
    now = measurer.measure(window, graviton=arm_ratio > 0)
    if now.problem or not needs_before(now):
        return now, None
    earlier = MeasuredWindow(since or window.end - window.length, window.steps, window.step)
    return now, measurer.measure(earlier, graviton=False)


def _without(now: Measurement, settings: Settings) -> Measurement:
    """Remove the workloads that the settings exclude."""
    kept = {key: sides for key, sides in now.sides.items() if key not in settings.discovery.exclude}
    return Measurement(window=now.window, sides=kept, problem=now.problem)


# --- output and evidence ---------------------------------------------------------------


def as_json(gate: Gate) -> dict[str, Any]:
    """Return the evidence as JSON values."""
    verdict, window = gate.verdict, gate.now.window
    return {
        "stack": gate.stack,
        "arm_ratio": gate.arm_ratio,
        "verdict": verdict.verdict,
        "at": gate.at.isoformat(),
        "since": gate.since.isoformat() if gate.since else None,
        "soak": short(gate.soak),
        "window": {"from": (window.end - window.length).isoformat(), "to": window.end.isoformat()},
        "reasons": list(verdict.reasons),
        "caps": {
            workload.workload: workload.max_ratio
            for workload in verdict.workloads
            if workload.max_ratio is not None
        },
        "workloads": [_workload_json(workload) for workload in verdict.workloads],
        "prometheus": gate.prometheus,
        "queries": [
            {
                "name": query.name,
                "query": query.query,
                "from": query.begin.isoformat() if query.begin else None,
                "to": query.end.isoformat(),
                "step": short(query.step),
            }
            for query in gate.queries
        ],
    }


def _workload_json(workload: JudgedWorkload) -> dict[str, Any]:
    return {
        "workload": workload.workload,
        "verdict": workload.verdict,
        "against": workload.against,
        "graviton_pods": workload.graviton_pods,
        "pods": workload.pods,
        "max_ratio": workload.max_ratio,
        "reasons": list(workload.reasons),
        "figures": {
            figure.figure: {name: value for name, value in asdict(figure).items() if name != "figure"}
            for figure in workload.figures
        },
    }


def print_table(gate: Gate, in_full: bool = False) -> None:
    """Print the verdict for a person; ``in_full`` prints queries for pasting into Prometheus."""
    out = console()
    window, verdict = gate.now.window, gate.verdict
    _print_queries(out, gate.queries, in_full)
    shown = [workload for workload in verdict.workloads if workload.verdict != "skipped"]
    if shown:
        out.print(_table(shown))
    skipped = [
        workload for workload in verdict.workloads if workload.verdict == "skipped" and workload.pod_hours
    ]
    for workload in skipped:
        out.print(f"{workload.workload}: {'; '.join(workload.reasons)}")
    since = f"; at this ratio since {_clock(gate.since)}" if gate.since else ""
    times = f"{_clock(window.end - window.length)} to {_clock(window.end)}"
    out.print(f"{gate.stack} at {gate.arm_ratio:g}, {times}{since}")
    for reason in verdict.reasons:
        out.print(f"  {reason}", soft_wrap=True)
    out.print(verdict.verdict, style=_STYLES.get(verdict.verdict, "green"))


def _print_queries(out: Console, queries: list[RecordedQuery], in_full: bool) -> None:
    def say(text: str) -> None:
        out.print(text, style="dim", soft_wrap=True)

    known: set[str] = set()
    for query in queries:
        times = f"{_clock(query.begin)} to {_clock(query.end)}" if query.begin else f"at {_clock(query.end)}"
        title = f"{query.name}, {times}, every {short(query.step)}"
        if query.brief in known:
            say(f"{title}: as above")
        else:
            say(f"# {title}" if in_full else f"{title}: {query.brief}")
            for line in query.query.splitlines() if in_full else ():
                say(line)
        known.add(query.brief)
    if queries and not in_full:
        say(f"({POD_ARCH}: workload and architecture by pod; {NODE_ARCH}: by node; --queries prints all)")


def _table(workloads: list[JudgedWorkload]) -> Table:
    table = plain_table()
    table.add_column("WORKLOAD, FIGURE", overflow="fold")
    for name in ("GRAVITON", "AGAINST", "LIMIT"):
        table.add_column(name, justify="right")
    table.add_column("VERDICT", no_wrap=True)
    for workload in workloads:
        pods = f"{workload.graviton_pods} of {workload.pods} pods"
        table.add_row(
            workload.workload,
            pods,
            workload.against,
            "",
            workload.verdict,
            style=_STYLES.get(workload.verdict),
        )
        for judged in workload.figures:
            figure = FIGURES[judged.figure]
            values = (written(figure, value) for value in (judged.graviton, judged.base, judged.limit))
            style = _STYLES.get(judged.verdict)
            table.add_row(f"  {figure.full_title}", *values, judged.verdict, style=style)
    return table


def evidence_path(options: argparse.Namespace, settings: Settings) -> Path:
    """Return the path of the stack's evidence in the repository.

    Raises:
        ArchshiftError: A symbolic link in the repository leads out of it.
    """
    top, path = Path(options.cwd).resolve(), Path(options.cwd) / settings.evidence_file
    if not path.parent.resolve().is_relative_to(top):
        raise ArchshiftError(
            f"archshift:gate.evidence: {settings.evidence_file} leads out of the folder of Pulumi.yaml by a "
            "symbolic link",
            "remove the link",
        )
    return path


def write_evidence(path: Path, evidence: Mapping[str, Any]) -> None:
    """Write the evidence, whole or not at all; everybody may read the file.

    Raises:
        ArchshiftError: The file cannot be written.
    """
    write_whole(path, json.dumps(printable_json(evidence), indent=2) + "\n", "--output")


def _clock(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC")
