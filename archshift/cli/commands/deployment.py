"""``archshift deployment``: decides in a pipeline what may be deployed."""

import argparse
import json
import os
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any, Final

from archshift.cli import git
from archshift.cli.arguments.deployment import EXIT_DIFFERS
from archshift.cli.commands import gate, preview
from archshift.cli.parser import EXIT_ERROR
from archshift.cli.stack import print_json, pulumi, read_configuration, read_settings, say, stack_name
from archshift.common.errors import ArchshiftError
from archshift.common.files import replace_file
from archshift.common.text import first_few, one_line
from archshift.ramp.deployment import (
    Configured,
    Deployed,
    is_step_up,
    read_outputs,
    why_no_step,
)
from archshift.ramp.gate_evidence import PASS, UNKNOWN
from archshift.ramp.schedule import same_ratio
from archshift.report.drift import drift_in
from archshift.settings.stack import Settings, digest
from archshift.settings.stack_keys import backend_in_project, check_in_repository

PROGRAM: Final = (
    *("Pulumi*", "__main__.py", "pyproject.toml", "uv.lock"),
    *("archshift", "components", "policies", "gates"),
)
"""The files that a deployment depends on; a change of them starts deploy.yml."""

NONE: Final = "none"
"""In place of a verdict: no gate measures the deployed ratio."""

_RESULTS: Final = ("config", "deployed", "gate.json", "gate.txt", "ramp", "verdict")
"""The files that these commands write for later jobs."""

_NOTHING_TO_MEASURE: Final = "No pods of {} run on Graviton yet, so the gate has nothing to measure."


class _RefusedError(ArchshiftError):
    """Why the commit may not be deployed."""


def run_check(options: argparse.Namespace) -> int:
    """Decide about the checked-out commit; returns the exit code."""
    folder = _emptied(options)
    stack = stack_name(options)
    decision: dict[str, Any] = {"stack": stack, "deploy": False}
    try:
        _check_commit(options, folder)
        said = _check_step(options, folder, stack)
        decision["deploy"] = True
    except _RefusedError as refusal:
        said = str(refusal)
    decision["reason"] = said
    if options.json:
        print_json(decision)
    elif decision["deploy"]:
        say(said)
    else:
        raise ArchshiftError(f"{stack} is not deployed: {said}")
    return 0 if decision["deploy"] else EXIT_ERROR


def run_gate(options: argparse.Namespace) -> int:
    """Ask the gate about the deployed ratio; returns the exit code."""
    folder = _emptied(options)
    settings = read_settings(options)
    deployed = _deployed(options, settings.stack)
    _write(folder, "deployed", _number(deployed.ratio))
    _write(folder, "ramp", "yes" if settings.ramp else "no")
    ratio = f"{settings.arm_ratio:g}"
    if deployed.ratio is None:
        verdict, text = "hold", f"{settings.stack} was never deployed; deploy it first."
    elif not same_ratio(deployed.ratio, settings.arm_ratio):
        # The figures would be for one share, but the next step would start from another.
        verdict, text = (
            "hold",
            (
                f"arm_ratio of {settings.stack} is {ratio}, but {deployed.ratio:g} is deployed; "
                f"deploy {ratio} first."
            ),
        )
    elif not deployed.measurable:
        verdict, text = NONE, _NOTHING_TO_MEASURE.format(settings.stack)
    elif not settings.gated:
        verdict, text = NONE, _without_gate(settings.stack)
    else:
        verdict, text = _ask(settings, folder)
    _write(folder, "verdict", verdict)
    _write(folder, "gate.txt", text)
    if options.json:
        print_json(
            {"stack": settings.stack, "arm_ratio": settings.arm_ratio, "verdict": verdict, "text": text}
        )
    else:
        say(f"### {settings.stack} at {ratio}: {verdict}")
    return 0


def run_evidence(options: argparse.Namespace) -> int:
    """Write the evidence of an earlier ``run_gate`` to its place; returns the exit code."""
    path = gate.evidence_path(options, read_settings(options))
    source = Path(options.folder) / "gate.json"
    try:
        gate.write_evidence(path, json.loads(_read(source)))
    except ValueError:
        way_out = "run archshift deployment gate"
        raise ArchshiftError(f"{source} is not the gate's evidence", way_out) from None
    if options.json:
        print_json({"file": str(path)})
    else:
        say(str(path))
    return 0


def run_compare(options: argparse.Namespace) -> int:
    """Compare the deployed ratio with the configured one; returns the exit code."""
    settings = read_settings(options)
    deployed = _deployed(options, settings.stack)
    same = deployed.ratio is not None and same_ratio(deployed.ratio, settings.arm_ratio)
    if options.json:
        print_json({"stack": settings.stack, "deployed": deployed.ratio, "configured": settings.arm_ratio})
    else:
        there = "nothing" if deployed.ratio is None else f"{deployed.ratio:g}"
        say(f"{settings.stack}: {there} is deployed, and arm_ratio is {settings.arm_ratio:g}")
    return 0 if same else EXIT_DIFFERS


def run_drift(options: argparse.Namespace) -> int:
    """Name what differs from the last deployment, but for the work of autoscalers; returns the exit code."""
    report = preview.look(options)
    if report.outcome == "failed" or report.plan is None:
        raise ArchshiftError(f"the preview failed: {report.reason or 'the program made no plan'}")
    found = drift_in(report)
    if options.json:
        print_json({"stack": report.stack, "drift": found})
    else:
        for line in found:
            say(line)
    return EXIT_DIFFERS if found else 0


def _check_commit(options: argparse.Namespace, folder: Path) -> None:
    """Check that the checked-out commit is the previewed one, and that main still has its program."""
    here = Path(options.cwd)
    head = git.head(here / "Pulumi.yaml")
    previewed, ended = (_read(folder / name) for name in ("commit", "exit"))
    if not previewed or not ended:
        raise _RefusedError("it has no preview.")
    if ended != "0":
        raise _RefusedError("its preview was blocked or failed.")
    # Somebody approved the preview of one commit.
    if previewed != head:
        raise _RefusedError(
            f"the preview is for {previewed}, but {head} is checked out; run the workflow again."
        )
    # An approval may come days later, and somebody may repeat a run.
    if git.changed(here, head, options.main, PROGRAM):
        raise _RefusedError(f"main is now at {options.main}; approve the run of that commit.")
    dirty = [name for name in git.changed(here, head, "", PROGRAM) if not name.startswith("gates/")]
    if dirty:
        raise _RefusedError(f"{first_few(dirty)} differ from {head}; commit or undo the changes.")


def _check_step(options: argparse.Namespace, folder: Path, stack: str) -> str:
    """Check that the gate allows the step; returns what happens."""
    try:
        settings, values = read_configuration(options)
    except ArchshiftError as error:
        raise _RefusedError(f"its configuration cannot be read: {error}") from None
    new = Configured(ratio=settings.arm_ratio, gated=settings.gated)
    here = Path(options.cwd)
    backend = backend_in_project(here)
    if backend and not os.environ.get("PULUMI_BACKEND_URL"):
        # The state says what is deployed, so the commit that is judged must not choose it.
        raise _RefusedError(
            f"its Pulumi.yaml names the state itself ({backend[:80]}); set PULUMI_BACKEND_URL in the "
            "pipeline."
        )
    deployed = _deployed(options, stack)
    _write(folder, "deployed", _number(deployed.ratio))
    # The program compares it with what the engine gives it.
    _write(folder, "config", digest(values))
    if not deployed.measurable:
        return _NOTHING_TO_MEASURE.format(stack)
    if not is_step_up(deployed, new):
        return (
            f"{stack} goes from {deployed.ratio:g} to {new.ratio:g}. This is no step up, so the gate is not "
            f"asked.{_removal(options, deployed, new)}"
        )
    try:
        check_in_repository(here, stack.rpartition("/")[2], _config_file(options))
    except ArchshiftError as error:
        raise _RefusedError(f"{error}.") from None
    before = _settings_of(options, deployed.commit, judging=True)
    old = Configured(ratio=before.arm_ratio, gated=before.gated) if before else None
    why = why_no_step(deployed, old, new)
    if why or before is None:
        raise _RefusedError(f"{why}.")
    if not before.gated:
        _write(folder, "verdict", NONE)
        _write(folder, "gate.txt", _without_gate(stack))
        return _without_gate(stack)
    verdict, text = _ask(before, folder)
    _write(folder, "verdict", verdict)
    _write(folder, "gate.txt", text)
    if verdict != PASS:
        raise _RefusedError(
            f"the gate's verdict on {deployed.ratio:g} is {verdict}, so a step up to {new.ratio:g} is not "
            "allowed."
        )
    # The program reads the evidence there, and the policy pack requires it.
    gate.write_evidence(gate.evidence_path(options, settings), json.loads(_read(folder / "gate.json")))
    return f"The gate passes on {deployed.ratio:g}, so {stack} goes to {new.ratio:g}."


def _removal(options: argparse.Namespace, deployed: Deployed, new: Configured) -> str:
    """Say that the commit removes the gate; empty if it does not, or if that is not known."""
    if new.gated:
        return ""
    try:
        before = _settings_of(options, deployed.commit)
    except _RefusedError:
        return ""
    if before is None or not before.gated:
        return ""
    return " It removes archshift:gate: no gate will measure the steps that follow."


def _settings_of(options: argparse.Namespace, commit: str, *, judging: bool = False) -> Settings | None:
    """Return the settings of the deployed commit, as the engine reads them there; None without a commit.

    To judge a step, all of them must be from that commit.
    """
    if not commit:
        return None
    here = Path(options.cwd)
    if not git.is_ancestor(here, commit, "HEAD"):
        raise _RefusedError(
            f"the deployed commit {commit} is not in the history of the checked-out one; fetch the whole "
            "history, or deploy arm_ratio as it is once more."
        )
    try:
        with git.checkout_of(here, commit) as folder:
            if judging:
                check_in_repository(folder, stack_name(options).rpartition("/")[2])
            return read_settings(
                argparse.Namespace(**{**vars(options), "cwd": str(folder), "config_file": None})
            )
    except ArchshiftError as error:
        raise _RefusedError(
            f"the configuration of the deployed commit {commit} cannot be read: {error}."
        ) from None


def _ask(settings: Settings, folder: Path) -> tuple[str, str]:
    """Ask the gate; returns the verdict and what a person reads. Whatever fails is unknown."""
    try:
        judged = gate.ask(settings)
        text = StringIO()
        with redirect_stdout(text):
            gate.print_table(judged)
    except ArchshiftError as error:
        return UNKNOWN, one_line(str(error))
    gate.write_evidence(folder / "gate.json", gate.as_json(judged))
    return judged.verdict.verdict, text.getvalue()


def _deployed(options: argparse.Namespace, stack: str) -> Deployed:
    try:
        outputs = json.loads(pulumi(options, "stack", "output", "--json", "--stack", stack))
    except ValueError:
        outputs = None
    if not isinstance(outputs, Mapping):
        raise ArchshiftError("pulumi stack output: the answer is not JSON", "check the pulumi on PATH")
    return read_outputs(outputs)


def _without_gate(stack: str) -> str:
    return f"{stack} has no archshift:gate, so nothing compares Graviton with x86."


def _config_file(options: argparse.Namespace) -> Path | None:
    return Path(options.config_file) if options.config_file else None


def _number(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:g}"


def _emptied(options: argparse.Namespace) -> Path:
    """Return the folder of the results, without those of an earlier run."""
    folder = Path(options.folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in _RESULTS:
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise ArchshiftError(f"--folder: {folder}: {error.strerror}", "name a folder") from None
    return folder


def _write(folder: Path, name: str, text: str) -> None:
    try:
        replace_file(folder / name, text)
    except OSError as error:
        raise ArchshiftError(f"--folder: {folder / name}: {error.strerror}", "name another folder") from None


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
