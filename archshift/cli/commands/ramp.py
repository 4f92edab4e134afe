"""``archshift ramp``: shows the next step, and takes it in the stack's file."""

import argparse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from archshift.cli import git
from archshift.cli.arguments.ramp import EXIT_NOT_DUE
from archshift.cli.stack import busy, print_json, read_settings, say, stack_file_path
from archshift.cli.table import console, plain_table
from archshift.common.errors import ArchshiftError
from archshift.ramp.gate_evidence import PASS, STEP_BACK, GateEvidence, no_evidence, read_evidence_file
from archshift.ramp.schedule import NextStep, Ramp, same_ratio
from archshift.ramp.taken_step import TakenStep
from archshift.settings.reading import read
from archshift.settings.stack import Settings
from archshift.settings.stack_file import StackFile, read_text, write_text
from archshift.settings.times import Moment

_RATIO: Final = ("config", "archshift:arm_ratio")
_RAMP: Final = ("config", "archshift:ramp")


def run_status(options: argparse.Namespace) -> int:
    """Print the status of the ramp; returns the exit code."""
    settings, ramp = _read(options)
    if options.json:
        print_json(status_json(settings, ramp, options.at))
    else:
        print_status(settings, ramp, options.at)
    return 0


def run_next(options: argparse.Namespace) -> int:
    """Print the next step; returns the exit code."""
    settings, ramp = _read(options)
    next_step = ramp.next_step(settings.arm_ratio, options.at)
    if options.json:
        print_json(
            {"stack": settings.stack, "arm_ratio": settings.arm_ratio, "next": next_json(ramp, next_step)}
        )
    else:
        _print_lines(_next_lines(ramp, next_step))
    return 0 if next_step.due else EXIT_NOT_DUE


def run_apply(options: argparse.Namespace) -> int:
    """Take a step; returns the exit code."""
    settings, ramp = _read(options)
    ratio, path = settings.arm_ratio, stack_file_path(options, settings.stack)
    file = _open(path, settings)
    next_step = ramp.next_step(ratio, options.at)
    lowest = ratio if options.below is None else min(ratio, options.below)
    target = ramp.below(lowest) if options.back else next_step.step if next_step.due else None
    if target is None:
        why = ("there is no step back from 0",) if options.back else next_step.why_not
        if options.json:
            print_json({"stack": settings.stack, "arm_ratio": ratio, "applied": None, "why_not": list(why)})
        else:
            _print_lines(
                ["nothing was changed: there is no step back from 0"]
                if options.back
                else _next_lines(ramp, next_step)
            )
        return EXIT_NOT_DUE
    evidence = _evidence(options, settings, ramp)
    step = TakenStep(
        stack=settings.stack.rpartition("/")[2],
        ramp=ramp,
        ratio=ratio,
        target=target,
        now=options.at,
        evidence=evidence,
        reason=options.reason or "",
    )
    file.set(_RATIO, _decimal(target))
    file.set((*_RAMP, "since"), step.since)
    commit = _save(path, file.text, step.message if options.commit else "")
    if options.json:
        applied = {
            "from": ratio,
            "to": target,
            "since": step.since,
            "title": step.title,
            "reason": step.body,
            "file": str(path),
            "commit": commit or None,
        }
        after = step.after
        upcoming = next_json(after, after.next_step(target, options.at))
        print_json({"stack": settings.stack, "arm_ratio": target, "applied": applied, "next": upcoming})
    else:
        _print_lines([step.title, *step.body, _saved(path, commit), "pulumi preview shows what moves."])
    return 0


def run_pause(options: argparse.Namespace) -> int:
    """Pause or resume the ramp; returns the exit code."""
    settings, ramp = _read(options)
    path = stack_file_path(options, settings.stack)
    file = _open(path, settings)
    stack = settings.stack.rpartition("/")[2]
    if options.off:
        pause = None
        title = f"{stack}: the ramp resumes"
        changed = file.remove((*_RAMP, "pause"))
    else:
        pause = {"reason": options.reason}
        if options.until:
            until = read(Moment, "--until", options.until)
            if until.at(ramp.zone, through=True) <= options.at:
                raise ArchshiftError(f"--until: {options.until} is in the past", "use a time in the future")
            pause["until"] = options.until
        title = f"{stack}: the ramp pauses" + (f" until {options.until}" if options.until else "")
        file.remove((*_RAMP, "pause"))
        file.set((*_RAMP, "pause"), pause)
        changed = True
    message = f"{title}\n\n{options.reason}\n" if pause else f"{title}\n"
    commit = _save(path, file.text, message if options.commit else "") if changed else ""
    if options.json:
        print_json(
            {
                "stack": settings.stack,
                "pause": pause,
                "changed": changed,
                "file": str(path),
                "commit": commit or None,
            }
        )
    elif changed:
        _print_lines([title, *([f"Reason: {options.reason}"] if pause else []), _saved(path, commit)])
    else:
        _print_lines(["nothing was changed: the ramp is not paused"])
    return 0


def next_json(ramp: Ramp, next_step: NextStep) -> dict[str, Any] | None:
    """Return the next step as JSON values; null after the last step."""
    if next_step.step is None:
        return None
    return {
        "arm_ratio": next_step.step,
        "due": next_step.due,
        "at": _iso(ramp, next_step.at),
        "why_not": list(next_step.why_not),
    }


def status_json(settings: Settings, ramp: Ramp, now: datetime) -> dict[str, Any]:
    """Return the status of the ramp as JSON values."""
    ratio = settings.arm_ratio
    pause = ramp.pause
    return {
        "stack": settings.stack,
        "at": _iso(ramp, now),
        "arm_ratio": ratio,
        "since": _iso(ramp, ramp.since),
        "back": ramp.below(ratio),
        "next": next_json(ramp, ramp.next_step(ratio, now)),
        "steps": [
            {"arm_ratio": step, "state": state, "at": _iso(ramp, at)}
            for step, state, at in _rows(ramp, ratio, now)
        ],
        "freezes": [
            {"from": _iso(ramp, freeze.begin), "to": _iso(ramp, freeze.end), "reason": freeze.reason}
            for freeze in ramp.freezes
            if freeze.end > now
        ],
        "pause": {"reason": pause.reason, "until": _iso(ramp, pause.until)} if pause else None,
    }


def print_status(settings: Settings, ramp: Ramp, now: datetime) -> None:
    """Print the status of the ramp for a person."""
    since = f" since {ramp.format_time(ramp.since)}" if ramp.since else ""
    ratio = settings.arm_ratio
    _print_lines(
        [f"{settings.stack} is at {ratio:g}{since}", *_next_lines(ramp, ramp.next_step(ratio, now)), ""]
    )
    table = plain_table()
    table.add_column("STEP", justify="right")
    table.add_column("")
    table.add_column("WHEN")
    for step, state, at in _rows(ramp, ratio, now):
        table.add_row(
            f"{step:g}", state, ramp.format_time(at) if at else "", style="dim" if state == "passed" else None
        )
    out = console()
    out.print(table)
    for freeze in ramp.freezes:
        if freeze.end > now:
            out.print(
                f"frozen from {ramp.format_time(freeze.begin)} to {ramp.format_time(freeze.end)}: "
                f"{freeze.reason}",
                style="dim",
            )


def _read(options: argparse.Namespace) -> tuple[Settings, Ramp]:
    options.at = options.at or datetime.now(UTC).replace(microsecond=0)
    with busy("reading the stack"):
        settings = read_settings(options, nodes=False)
    if settings.ramp is None:
        raise ArchshiftError(
            "archshift:ramp is not set",
            'set at least its start in the stack\'s file, such as "2026-03-02"',
        )
    return settings, settings.ramp


def _open(path: Path, settings: Settings) -> StackFile:
    file = StackFile(read_text(path), path.name)
    written = file.get(*_RATIO)
    try:
        agrees = written is not None and same_ratio(float(written), settings.arm_ratio)
    except ValueError:
        agrees = False
    if not agrees:
        raise ArchshiftError(
            f"{path}: archshift:arm_ratio is {written or 'missing'}, but pulumi says {settings.arm_ratio:g}",
            "name the stack's file with --config-file",
        )
    return file


def _evidence(options: argparse.Namespace, settings: Settings, ramp: Ramp) -> GateEvidence | None:
    """Return the evidence for a step.

    Raises:
        ArchshiftError: The evidence is missing, or does not allow the step.
    """
    ratio = settings.arm_ratio
    # At 0 nothing runs on Graviton, so the gate has nothing to judge.
    needed = settings.gated and not options.back and ratio > 0
    if options.gate is None:
        if needed:
            raise ArchshiftError(
                f"archshift:gate is set, but there is no evidence of a pass for {ratio:g}",
                "run archshift gate --output, then this command with --gate",
            )
        return None
    if ratio == 0:
        return None
    path = Path(options.gate) if options.gate else Path(options.cwd) / settings.evidence_file
    evidence = read_evidence_file(path) or no_evidence(path.name)
    wanted = STEP_BACK if options.back else PASS
    why = evidence.why_refused(
        stack=settings.stack, ratio=ratio, now=options.at, since=ramp.since, verdict=wanted
    )
    if why:
        way_out = "omit --gate to step back by hand" if options.back else "run archshift gate --output again"
        raise ArchshiftError(f"{path} has no {wanted} for {ratio:g}: {why}", way_out)
    return evidence


@contextmanager
def _restored(path: Path, before: str) -> Iterator[None]:
    """Restore a file if anything goes wrong."""
    try:
        yield
    except BaseException:
        write_text(path, before)
        raise


def _save(path: Path, text: str, message: str) -> str:
    """Write the file; with a message, commit it too and return the commit."""
    if not message:
        write_text(path, text)
        return ""
    git.check_committed(path)
    before = read_text(path)
    with _restored(path, before):
        write_text(path, text)
        git.commit(path, message)
    return git.head(path)


def _saved(path: Path, commit: str) -> str:
    return f"{path.name} is changed" + (f" and committed as {commit[:12]}." if commit else ".")


def _next_lines(ramp: Ramp, next_step: NextStep) -> list[str]:
    if next_step.step is None:
        return [f"there is no next step: {next_step.why_not[0]}"]
    if next_step.due:
        since = f" since {ramp.format_time(next_step.at)}" if next_step.at else ""
        return [f"the next step is {next_step.step:g}, due{since}"]
    when = f"not before {ramp.format_time(next_step.at)}" if next_step.at else "at an unknown time"
    return [f"the next step is {next_step.step:g}, {when}:", *(f"  {why}" for why in next_step.why_not)]


def _rows(ramp: Ramp, ratio: float, now: datetime) -> Iterator[tuple[float, str, datetime | None]]:
    times = dict(ramp.forecast(ratio, now))
    upcoming = ramp.above(ratio)
    for step in ramp.steps:
        if step in times:
            yield step, "next" if step == upcoming else "later", times[step]
        elif same_ratio(step, ratio):
            yield step, "now", ramp.since
        else:
            yield step, "passed", None


def _print_lines(lines: list[str]) -> None:
    for line in lines:
        say(line)


def _iso(ramp: Ramp, moment: datetime | None) -> str | None:
    return moment.astimezone(ramp.zone).isoformat(timespec="seconds") if moment else None


def _decimal(ratio: float) -> str:
    """Return a ratio without an exponent, 1 as 1.0."""
    return format(Decimal(repr(float(ratio))), "f")


ACTIONS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "status": run_status,
    "next": run_next,
    "apply": run_apply,
    "pause": run_pause,
}
"""The action on the command line to what runs it."""
