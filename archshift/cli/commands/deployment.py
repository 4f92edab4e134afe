"""``archshift deployment``: decides in a pipeline what may be deployed."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any, Final

from archshift.cli import git
from archshift.cli.arguments.deployment import EXIT_DIFFERS
from archshift.cli.commands import gate, preview
from archshift.cli.commands.pipeline_text import MOST_READ, block, cleaned, redactor_of
from archshift.cli.parser import EXIT_ERROR
from archshift.cli.stack import (
    print_json,
    pulumi,
    read_configuration,
    read_settings,
    say,
    stack_config,
    stack_name,
)
from archshift.common.errors import ArchshiftError
from archshift.common.files import replace_file
from archshift.common.text import first_few, one_line
from archshift.ramp.deployment import (
    CLUSTER,
    COMMIT,
    Configured,
    Deployed,
    Update,
    is_higher,
    judge_drift,
    names_of,
    read_state,
    why_no_step,
)
from archshift.ramp.gate_evidence import PASS, UNKNOWN
from archshift.ramp.schedule import same_ratio
from archshift.report.drift import drift_in
from archshift.settings.share_changes import may_raise
from archshift.settings.stack import Settings, digest, model_of
from archshift.settings.stack_keys import backend_in_project, check_readable, read_files, what_runs

PROGRAM: Final = (
    *("Pulumi*", "__main__.py", "pyproject.toml", "uv.lock"),
    *("archshift", "components", "policies", "gates"),
)
"""The files that a deployment depends on; a change of them starts deploy.yml."""

NONE: Final = "none"
"""In place of a verdict: no gate measures the deployed ratio."""

_RESULTS: Final = ("config", "deployed", "gate.json", "gate.txt", "ramp", "verdict")
"""The files that these commands write for later jobs."""

_NOTHING_TO_MEASURE: Final = "{} was never deployed, so the gate has nothing to measure."


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
    base = deployed.base
    _write(folder, "deployed", _number(base))
    _write(folder, "ramp", "yes" if settings.ramp else "no")
    ratio = f"{settings.arm_ratio:g}"
    verdict, text = "hold", ""
    if base is None:
        text = f"{settings.stack} was never deployed; deploy it first."
    elif deployed.failed:
        text = f"the last update of {settings.stack} failed; deploy it again first."
    elif not same_ratio(base.ratio, settings.arm_ratio):
        # The figures would be for one share, but the next step would start from another.
        text = (
            f"arm_ratio of {settings.stack} is {ratio}, but {base.ratio:g} is deployed; deploy {ratio} first."
        )
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
    # Pods of an update that failed are between two ratios.
    same = bool(deployed.last) and all(
        same_ratio(update.ratio, settings.arm_ratio) for update in deployed.updates
    )
    last = deployed.last.ratio if deployed.last else None
    failed = deployed.failed.ratio if deployed.failed else None
    if options.json:
        print_json(
            {
                "stack": settings.stack,
                "deployed": last,
                "failed": failed,
                "configured": settings.arm_ratio,
            }
        )
    else:
        there = "nothing" if last is None else f"{last:g}"
        then = "" if failed is None else f" (an update to {failed:g} failed)"
        say(f"{settings.stack}: {there} is deployed{then}, and arm_ratio is {settings.arm_ratio:g}")
    return 0 if same else EXIT_DIFFERS


def run_drift(options: argparse.Namespace) -> int:
    """Write whether the stack differs from its last deployment; returns the exit code."""
    folder, stack = Path(options.folder), stack_name(options)
    shown, status = (_read(folder / name) for name in ("preview.txt", "status.txt"))
    redactor = redactor_of(options)
    drift = judge_drift(options.compare, options.preview, options.status)
    if drift.failed:
        text = status if drift.failed == "archshift status" else shown
        for line in cleaned(text, redactor).splitlines():
            say(line, sys.stderr)
        raise ArchshiftError(f"the check for drift of {stack} failed: {drift.failed} ended with {drift.code}")
    answer = drift.answer
    found = differences(options) if drift.maybe_scaled else []
    if drift.answer == "later":
        words = [f"{_read(folder / 'compared.txt')}. Drift is checked after the next deployment."]
    elif drift.answer == "no":
        words = [f"`{stack}` matches its last deployment."]
    elif drift.maybe_scaled and not found:
        answer = "no"
        words = [f"`{stack}` differs from its last deployment only by what autoscalers changed."]
    else:
        words = [
            f"`{stack}` differs from its last deployment. `pulumi up` undoes the changes. To keep them, "
            "commit them to the repository."
        ]
        if drift.trouble:
            words.append("Pods are pending or a rollout is stuck. The table names the reason.")
        if found:
            words += ["", "No autoscaler caused this:", block("\n".join(found), redactor)]
        words.append("")
        words += [block(shown, redactor)] if drift.changed else []
        words += [block(status, redactor)] if drift.misplaced else []
        _write(folder, "drift.md", "\n".join(words))
    _write(folder, "answer", answer)
    for line in "\n".join(words).splitlines():
        say(line)
    return 0


def differences(options: argparse.Namespace) -> list[str]:
    """Return what a preview shows that no autoscaler caused, a sentence each.

    Raises:
        ArchshiftError: The preview failed.
    """
    report = preview.look(options)
    if report.outcome == "failed" or report.plan is None:
        why = report.reason or "the program made no plan"
        raise ArchshiftError(f"the check for drift of {report.stack} failed: {why}")
    return drift_in(report)


def run_block(options: argparse.Namespace) -> int:
    """Print standard input as a block of code without secrets; returns the exit code."""
    text = sys.stdin.buffer.read(MOST_READ).decode(errors="replace")
    for line in block(text, redactor_of(options)).splitlines():
        say(line)
    return 0


def run_cluster(options: argparse.Namespace) -> int:
    """Print the cluster's name at EKS and the name of its context, a line each; returns the exit code."""
    stack = stack_name(options)
    names = names_of(stack_config(options, stack), os.environ.get(CLUSTER, ""), stack)
    if options.json:
        print_json(dict(zip(("cluster", "context"), names, strict=True)))
    else:
        for name in names:
            say(name)
    return 0


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
    here = Path(options.cwd)
    try:
        new = _read_commit(options, here)
    except ArchshiftError as error:
        raise _RefusedError(f"its configuration cannot be read: {error}") from None
    backend = backend_in_project(here)
    if backend and not os.environ.get("PULUMI_BACKEND_URL"):
        # The state says what is deployed, so the commit that is judged must not choose it.
        raise _RefusedError(
            f"its Pulumi.yaml names the state itself ({backend[:80]}); set PULUMI_BACKEND_URL in the "
            "pipeline."
        )
    deployed = _deployed(options, stack)
    base = deployed.base
    _write(folder, "deployed", _number(base))
    # The program compares it with what the engine gives it.
    _write(folder, "config", digest(new.values))
    if base is None:
        return _NOTHING_TO_MEASURE.format(stack)
    compared = [_compare(options, update, new) for update in deployed.updates]
    ratio, configured = new.settings.arm_ratio, new.configured
    keys = list(dict.fromkeys(key for one in compared for key in one.raised))
    # At 0 all pods belong on x86, whatever the other keys were.
    unknown = ratio > 0 and any(one.unknown and not one.lower for one in compared)
    if not (keys or unknown):
        return (
            f"{stack} goes from {base.ratio:g} to {ratio:g}. This is no step up, so the gate is not "
            f"asked.{_removal(compared[0].before, configured)}"
        )
    if not (keys or deployed.gated or configured.gated):
        # The update records what comes, so that the next one can be compared.
        return _without_gate(stack)
    if new.problem:
        raise _RefusedError(f"{new.problem}.")
    before = compared[0].before
    if before is None and base.commit:
        raise _RefusedError(compared[0].unknown)
    if before and before.problem:
        raise _RefusedError(f"{before.problem}.")
    why = why_no_step(base, before.configured if before else None, configured)
    if why or before is None:
        raise _RefusedError(f"{why}.")
    if not before.settings.gated:
        _write(folder, "verdict", NONE)
        _write(folder, "gate.txt", _without_gate(stack))
        return _without_gate(stack)
    verdict, text = _ask(before.settings, folder)
    _write(folder, "verdict", verdict)
    _write(folder, "gate.txt", text)
    if verdict != PASS:
        raise _RefusedError(_not_passed(base, deployed, verdict, keys, ratio))
    # The program reads the evidence there, and the policy pack requires it.
    gate.write_evidence(gate.evidence_path(options, new.settings), json.loads(_read(folder / "gate.json")))
    return f"The gate passes on {base.ratio:g}, so {stack} goes to {ratio:g}."


def _not_passed(base: Update, deployed: Deployed, verdict: str, keys: Sequence[str], ratio: float) -> str:
    """Say why the deployment waits for the gate."""
    says = f"the gate's verdict on {base.ratio:g} is {verdict}"
    if is_higher(ratio, base.ratio):
        return f"{says}, so a step up to {ratio:g} is not allowed."
    if keys:
        return (
            f"{says}, and these changes may move more pods to Graviton: {first_few(keys)}; wait for the "
            "gate, or deploy the other changes without them."
        )
    tried = f"{deployed.failed.ratio:g}" if deployed.failed else ""
    return (
        f"{says}, and an update by hand to {tried} failed, so nobody can compare; deploy a lower arm_ratio."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Commit:
    """A commit's configuration.

    Attributes:
        values: As the engine reads them, by full key.
        runs: What chooses the program, by file and key.
        problem: Why its files do not say all that it deploys; empty if they do.
    """

    settings: Settings
    values: Mapping[str, str]
    runs: Mapping[str, Any]
    problem: str

    @property
    def configured(self) -> Configured:
        return Configured(ratio=self.settings.arm_ratio, gated=self.settings.gated)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Comparison:
    """The configuration that comes, compared with that of an update.

    Attributes:
        raised: The keys whose change may move more pods to Graviton.
        unknown: Why nobody can compare all keys; empty if everything is compared.
        lower: Whether the arm_ratio that comes is lower.
        before: The configuration of the update; None if it is not known.
    """

    raised: Sequence[str]
    unknown: str
    lower: bool
    before: _Commit | None


def _compare(options: argparse.Namespace, update: Update, new: _Commit) -> _Comparison:
    ratio = new.settings.arm_ratio
    before, unknown = None, ""
    try:
        before = _commit_of(options, update.commit)
    except _RefusedError as error:
        unknown = str(error)
    if before is None:
        unknown = unknown or "nobody recorded its commit"
    elif before.problem or not same_ratio(before.settings.arm_ratio, update.ratio):
        unknown = before.problem or "its commit has another arm_ratio"
    raised = ["archshift:arm_ratio"] if is_higher(ratio, update.ratio) else []
    if before and not unknown:
        raised += may_raise(model_of(before.values), model_of(new.values))
        raised += [
            name
            for name in sorted({**before.runs, **new.runs})
            if before.runs.get(name) != new.runs.get(name)
        ]
    # Neither a lower ratio nor 0 excuses a program that nobody watches.
    if new.problem and not (before and before.problem == new.problem):
        raised.append(new.problem)
    return _Comparison(raised=raised, unknown=unknown, lower=is_higher(update.ratio, ratio), before=before)


def _removal(before: _Commit | None, new: Configured) -> str:
    """Say that the commit removes the gate; empty if it does not, or if that is not known."""
    if new.gated or before is None or not before.settings.gated:
        return ""
    return " It removes archshift:gate: no gate will measure the steps that follow."


def _read_commit(options: argparse.Namespace, folder: Path) -> _Commit:
    """Return the configuration of a checkout, as the engine reads it there."""
    stack = stack_name(options).rpartition("/")[2]
    files = read_files(folder, stack, _config_file(options))
    settings, values = read_configuration(options, files=files)
    try:
        check_readable(folder, stack, values, files)
        problem = ""
    except ArchshiftError as error:
        problem = str(error)
    return _Commit(settings=settings, values=values, runs=what_runs(files), problem=problem)


def _commit_of(options: argparse.Namespace, commit: str) -> _Commit | None:
    """Return the configuration of a deployed commit; None without a commit."""
    if not commit:
        return None
    here = Path(options.cwd)
    if not git.is_ancestor(here, commit, "HEAD"):
        raise _RefusedError(
            f"the deployed commit {commit} is not in the history of the checked-out one; fetch the whole "
            "history, or check out a commit of main with the same configuration and run "
            f"{COMMIT}=$(git rev-parse HEAD) pulumi up."
        )
    try:
        with git.checkout_of(here, commit) as folder:
            there = argparse.Namespace(**{**vars(options), "cwd": str(folder), "config_file": None})
            return _read_commit(there, folder)
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
    deployment = _json_of(options, "stack", "export", "--stack", stack).get("deployment")
    resources = deployment.get("resources") if isinstance(deployment, Mapping) else None
    return read_state(resources if isinstance(resources, list) else [])


def _json_of(options: argparse.Namespace, *command: str) -> Mapping[str, Any]:
    try:
        answer = json.loads(pulumi(options, *command))
    except ValueError:
        answer = None
    if not isinstance(answer, Mapping):
        raise ArchshiftError(
            f"pulumi {' '.join(command[:2])}: the answer is not JSON", "check the pulumi on PATH"
        )
    return answer


def _without_gate(stack: str) -> str:
    return f"{stack} has no archshift:gate, so nothing compares Graviton with x86."


def _config_file(options: argparse.Namespace) -> Path | None:
    return Path(options.config_file) if options.config_file else None


def _number(update: Update | None) -> str:
    return f"{update.ratio:g}" if update else ""


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


ACTIONS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "check": run_check,
    "gate": run_gate,
    "evidence": run_evidence,
    "drift": run_drift,
    "compare": run_compare,
    "block": run_block,
    "cluster": run_cluster,
}
"""The action on the command line to what runs it."""
