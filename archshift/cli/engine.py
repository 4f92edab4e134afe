"""Runs a preview of the engine through the Automation API and follows its event log."""

import json
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pulumi import automation

from archshift.cli.signals import signals_as_interrupts
from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line
from archshift.report.preview import Change, Diagnostic, Run, Violation

_STOP_SECONDS: Final = 60
"""The engine's time to stop after a request."""

_MOST_LINES: Final = 500
"""Limit of the lines kept from the engine's output outside its event log."""

_SECRET: Final = "[secret]"  # noqa: S105 - events show this in place of a secret
_STACK: Final = "pulumi:pulumi:Stack"
_PROVIDERS: Final = "pulumi:providers:pulumi-"
_NO_CHANGE: Final = ("same", "read", "refresh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What to preview.

    Attributes:
        folder: The folder of ``Pulumi.yaml``.
        config_file: The stack's configuration, if it is not in the default place.
        packs: Folders of policy packs.
        pack_configs: Configuration files of the packs.
        environment: Variables for the program, in addition to ours.
    """

    stack: str
    folder: str
    config_file: str | None = None
    packs: Sequence[str] = ()
    pack_configs: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def arguments(self) -> list[str]:
        """The command line, without the engine's name."""
        return [
            *("preview", "--stack", self.stack, "--color", "never"),
            *("--suppress-outputs", "--suppress-progress"),
            *(("--config-file", self.config_file) if self.config_file else ()),
            *(word for pack in self.packs for word in ("--policy-pack", pack)),
            *(word for file in self.pack_configs for word in ("--policy-pack-config", file)),
        ]


def run_preview(preview: Preview, progress: Callable[[str], None] = lambda _: None) -> Run:
    """Run the preview; a failed preview is a result too.

    Not ``automation.Stack.preview``: it changes the user's selected stack, its events omit the rules that
    ran, and after an interrupt the engine goes on in the background.

    Args:
        preview: What to preview.
        progress: Called with the current state, for a person.

    Raises:
        ArchshiftError: The engine cannot start.
        KeyboardInterrupt: Somebody stopped the preview; the engine has ended.
    """
    command = _command()
    seen = _Seen(progress)
    with tempfile.TemporaryDirectory(prefix="archshift-preview-") as folder:
        log = Path(folder) / "events"
        log.touch()
        ended = threading.Event()
        reader = threading.Thread(target=_follow, args=(log, ended, seen.take))
        reader.start()
        try:
            command.run(
                [*preview.arguments, "--event-log", str(log)],
                os.path.abspath(preview.folder),
                # The flag --event-log needs this variable; the SDK sets it too.
                {**preview.environment, "PULUMI_DEBUG_COMMANDS": "true"},
            )
        except automation.CommandError:
            succeeded = False
        else:
            succeeded = True
        finally:
            ended.set()
            reader.join()
    # A successful engine with an incomplete log is of an unknown version.
    return seen.run(succeeded=succeeded and seen.whole, errors=command.lines)


def _command() -> "_Command":
    try:
        return _Command()
    except FileNotFoundError:
        raise ArchshiftError(
            "pulumi is not on PATH", "install the Pulumi CLI, or run inside `make lab-shell`"
        ) from None
    except (OSError, subprocess.CalledProcessError, automation.InvalidVersionError) as error:
        reason = one_line(error)
        raise ArchshiftError(f"pulumi cannot be run: {reason}", "check the pulumi on PATH") from None


class _Command(automation.PulumiCommand):
    """The engine in its own process group, so that Ctrl-C reaches only us.

    We then interrupt it once and wait: it cancels the preview and ends the program and the plugins.
    """

    lines: list[str]

    def __init__(self) -> None:
        super().__init__()
        self.lines = []

    def run(
        self,
        args: list[str],
        cwd: str,
        additional_env: Mapping[str, str],
        on_output: Callable[[str], Any] | None = None,  # noqa: ARG002 - the event log has all output
        on_error: Callable[[str], Any] | None = None,  # noqa: ARG002
    ) -> automation.CommandResult:
        """Run a command and wait for its end, even after an interrupt."""
        with signals_as_interrupts():
            process = subprocess.Popen(
                [self.command, "--non-interactive", *args],
                cwd=cwd,
                env={**os.environ, **additional_env, "PULUMI_AUTOMATION_API": "true"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                process_group=0,
            )
            reader = threading.Thread(target=self._read, args=(process,))
            reader.start()
            try:
                process.wait()
            except KeyboardInterrupt:
                _stop(process)
                raise
            finally:
                reader.join()
        result = automation.CommandResult(stdout="", stderr="", code=process.returncode)
        if process.returncode:
            raise automation.CommandError(result)
        return result

    def _read(self, process: "subprocess.Popen[str]") -> None:
        # Read to the end, or the engine would block.
        for line in process.stdout or ():
            self.lines.append(line.strip())
            del self.lines[:-_MOST_LINES]


def _stop(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_STOP_SECONDS)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        os.killpg(process.pid, signal.SIGKILL)  # a second interrupt, or no end in time
        process.wait()


def _follow(log: Path, ended: threading.Event, take: Callable[[Mapping[str, Any]], None]) -> None:
    """Pass on the log's events as the engine writes them."""
    with log.open(encoding="utf-8") as lines:
        partial = ""
        while True:
            # Check before the read, so that the last lines are read too.
            last = ended.is_set()
            partial += lines.readline()
            if partial.endswith("\n"):
                try:
                    take(json.loads(partial))
                except (ValueError, KeyError, TypeError, AttributeError):
                    # Unknown format of the log; without its summary the preview is not fine.
                    return
                partial = ""
            elif last:
                return
            else:
                ended.wait(0.1)


class _Seen:
    """Collects the events of a preview."""

    def __init__(self, progress: Callable[[str], None]) -> None:
        self.whole = False
        self._progress = progress
        self._steps = 0
        self._changes: dict[str, Change] = {}
        self._violations: list[Violation] = []
        self._diagnostics: list[tuple[str, str, str]] = []
        self._secretive: set[str] = set()
        self._packs: dict[str, str] = {}
        self._asked: set[str] = set()
        self._passed: set[str] = set()
        self._state_ratio: float | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """Process the next event."""
        if step := event.get("resourcePreEvent") or event.get("resOutputsEvent"):
            self._take_step(step["metadata"], begins="resourcePreEvent" in event)
        elif failed := event.get("resOpFailedEvent"):
            self._take_step(failed["metadata"], begins=False)
        elif (diagnostic := event.get("diagnosticEvent")) and not diagnostic.get("ephemeral"):
            if diagnostic["severity"] in ("warning", "error"):
                self._diagnostics.append(
                    (diagnostic["severity"], diagnostic["message"], diagnostic.get("urn") or "")
                )
        elif violation := event.get("policyEvent"):
            self._violations.append(
                Violation(
                    rule=violation.get("policyName", ""),
                    pack=violation.get("policyPackName", ""),
                    # An unknown level blocks.
                    mandatory=violation.get("enforcementLevel") not in ("advisory", "warning", "disabled"),
                    resource=_name(violation.get("resourceUrn") or ""),
                    message=violation.get("message", ""),
                )
            )
        elif rules := event.get("policyAnalyzeStackSummaryEvent"):
            self._asked.add(rules["policyPackName"])
            self._passed |= set(rules.get("passed") or ())
        elif rules := event.get("policyAnalyzeSummaryEvent"):
            self._passed |= set(rules.get("passed") or ())
        elif summary := event.get("summaryEvent"):
            self.whole = True
            self._packs = summary.get("PolicyPacks") or {}

    def run(self, *, succeeded: bool, errors: Sequence[str]) -> Run:
        """Return the preview."""
        order = {op: rank for rank, op in enumerate(("delete", "replace", "update", "create"))}
        return Run(
            succeeded=succeeded,
            changes=tuple(
                sorted(
                    self._changes.values(),
                    key=lambda change: (order.get(change.op, 1), change.type, change.name),
                )
            ),
            violations=tuple(self._violations),
            diagnostics=tuple(
                Diagnostic(
                    severity=severity,
                    message=message,
                    resource="" if _type(urn) in ("", _STACK) else _name(urn),
                    secretive=urn in self._secretive,
                )
                for severity, message, urn in self._diagnostics
            ),
            packs=self._packs,
            asked_packs=frozenset(self._asked),
            passed=tuple(self._passed),
            state_ratio=self._state_ratio,
            errors=tuple(errors),
        )

    def _take_step(self, metadata: Mapping[str, Any], *, begins: bool) -> None:
        urn, op = metadata["urn"], metadata["op"]
        states = [metadata.get("old") or {}, metadata.get("new") or {}]
        if any(_SECRET in json.dumps([state.get("inputs"), state.get("outputs")]) for state in states):
            self._secretive.add(urn)
        if metadata["type"] == _STACK:
            ratio = (states[0].get("outputs") or {}).get("arm_ratio")
            self._state_ratio = ratio if isinstance(ratio, int | float) else self._state_ratio
        if not begins:
            return
        self._steps += 1
        self._progress(f"{self._steps} resources previewed")
        # The engine makes default providers by itself. Those of dynamic resources have the stack's whole
        # configuration as inputs, so each change of a setting would seem a change of theirs.
        if op not in _NO_CHANGE and not _type(urn).startswith(_PROVIDERS):
            keys = metadata.get("detailedDiff") or [*_changed_paths(*states)] or metadata.get("diffs") or ()
            self._changes[urn] = Change(op=op, type=_type(urn), name=_name(urn), keys=tuple(sorted(keys)))


def _changed_paths(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """Yield the paths of the inputs that differ: dynamic providers do not name them."""
    before, after = old.get("inputs") or {}, new.get("inputs") or {}
    if before and after:
        yield from _differences(before, after)


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for key in before.keys() | after.keys():
        values = before.get(key), after.get(key)
        if values[0] == values[1] or key.startswith("__"):
            continue
        inner = [value for value in values if isinstance(value, Mapping)]
        if len(inner) == 2:
            yield from (f"{key}.{path}" for path in _differences(*inner))
        else:
            yield key


def _name(urn: str) -> str:
    return urn.rsplit("::", 1)[-1]


def _type(urn: str) -> str:
    """Return the resource's type without its parents, such as ``kubernetes:core/v1:Node``."""
    parts = urn.split("::")
    return parts[2].rsplit("$", 1)[-1] if len(parts) > 3 else ""
