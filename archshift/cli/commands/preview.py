"""``archshift preview``: runs a preview and reports it to people, pull requests and programs."""

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from archshift.cli import git
from archshift.cli.arguments.preview import EXIT_NOT_FINE
from archshift.cli.engine import Preview, run_preview
from archshift.cli.stack import print_json, stack_config, stack_name
from archshift.cli.table import console
from archshift.common.errors import ArchshiftError
from archshift.common.redact import Redactor, secrets_of_config, secrets_of_environment
from archshift.common.text import counted
from archshift.plan.plan_json import PLAN_FILE
from archshift.report.preview import PreviewReport, failure, make_report
from archshift.report.preview_markdown import markdown

_PACK: Final = "policies"


def run(options: argparse.Namespace) -> int:
    """Report the preview; returns the exit code."""
    report = look(options)
    if options.markdown:
        try:
            Path(options.markdown).write_text(markdown(report), encoding="utf-8")
        except OSError as error:
            raise ArchshiftError(f"--markdown: {options.markdown}: {error.strerror}") from None
    if options.json:
        print_json(report.to_json())
    else:
        _print(report)
    return 0 if report.outcome == "fine" else EXIT_NOT_FINE


def look(options: argparse.Namespace) -> PreviewReport:
    """Run the preview; one that cannot start is a result too."""
    at = datetime.now(UTC)
    stack = stack_name(options)
    try:
        return _preview(options, stack, at)
    except ArchshiftError as error:
        return failure(stack, at, str(error), Redactor(secrets_of_environment(os.environ)))


def _preview(options: argparse.Namespace, stack: str, at: datetime) -> PreviewReport:
    with _packs(options) as packs, _progress() as progress:
        progress("reading the stack")
        # The secrets to remove from all output of the engine and its plugins.
        secrets = secrets_of_config(stack_config(options, stack, "--show-secrets"))
        redactor = Redactor([*secrets, *secrets_of_environment(os.environ)])
        with tempfile.TemporaryDirectory(prefix="archshift-plan-") as folder:
            left = Path(folder) / "plan.json"
            progress("previewing")
            seen = run_preview(
                Preview(
                    stack=stack,
                    folder=options.cwd,
                    config_file=os.path.abspath(options.config_file) if options.config_file else None,
                    packs=packs,
                    pack_configs=[os.path.abspath(file) for file in options.policy_pack_config],
                    environment={PLAN_FILE: str(left)},
                ),
                progress,
            )
            plan_file = json.loads(left.read_text()) if left.exists() else None
    return make_report(stack, at, seen, plan_file, packs, redactor)


@contextmanager
def _packs(options: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the folders of the policy packs.

    Raises:
        ArchshiftError: There is no pack. A pull request that deletes it would be previewed without rules.
    """
    if options.no_policy_pack:
        yield []
        return
    if options.policy_pack:
        yield [os.path.abspath(pack) for pack in options.policy_pack]
        return
    here = Path(options.cwd).resolve()
    _check_pack(here / _PACK, "")
    if not options.policy_pack_of:
        yield [str(here / _PACK)]
        return
    with git.checkout_of(here, options.policy_pack_of) as checkout:
        _check_pack(checkout / _PACK, f" of {options.policy_pack_of}")
        # In the project, so that the pack runs in the project's environment.
        with tempfile.TemporaryDirectory(prefix=".archshift-policies-", dir=here) as folder:
            pack = shutil.copytree(checkout / _PACK, Path(folder) / _PACK, symlinks=True)
            yield [str(pack)]


def _check_pack(folder: Path, which: str) -> None:
    if not (folder / "PulumiPolicy.yaml").is_file():
        raise ArchshiftError(
            f"there is no policy pack in {_PACK}{which}: PulumiPolicy.yaml is missing",
            "restore it, name another pack with --policy-pack, or use --no-policy-pack",
        )


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Show the current work on a terminal; silent in a pipe."""
    out = console(sys.stderr)
    if not out.is_terminal:
        yield lambda _: None
        return
    with out.status("") as status:
        yield lambda text: status.update(text)


def _print(report: PreviewReport) -> None:
    out = console()
    for exception in report.exceptions:
        out.print(exception, style="bold red")
    if report.plan:
        fleet = report.plan["fleet"]
        moving = sum(1 for row in report.plan["workloads"] if row["moves"])
        move = counted(moving, "workload", "move")
        changes = counted(len(report.changes), "resource", "change")
        out.print(
            f"arm_ratio {report.plan['arm_ratio']:g}: {fleet['graviton']} of {fleet['pods']} movable pods "
            f"are on Graviton, {fleet['wanted']} belong there; {move}, {changes}"
        )
    for violation in report.violations:
        style = "red" if violation.mandatory else "yellow"
        out.print(
            f"{'blocks' if violation.mandatory else 'advice'}: {violation.rule}: {violation.message}",
            style=style,
        )
    for text in report.warnings:
        out.print(f"warning: {text}", style="yellow")
    if report.policies != "asked":
        note = "there is no policy pack" if report.policies == "none" else "policies were not checked"
        out.print(note, style="yellow")
    if report.outcome == "fine":
        out.print("the preview is fine", style="bold green")
    else:
        out.print(f"{report.outcome}: {report.reason}", style="bold red")
