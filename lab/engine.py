"""Runs the Pulumi engine and follows its event log."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from lab.control_plane import PROJECT, Lab

RUNTIME: Final[Mapping[str, Any]] = {
    "name": "python",
    "options": {"toolchain": "pip", "virtualenv": str(PROJECT / ".venv")},
}
"""The runtime of ``Pulumi.yaml`` for a program in another folder that uses this checkout's environment."""


@dataclass(frozen=True)
class Operation:
    """What the engine did, or would do, to a resource."""

    op: str  # create, update, delete, same, …
    urn: str
    changed: tuple[str, ...]  # the paths of the changed inputs, with the provider's names

    @property
    def name(self) -> str:
        """The resource's name."""
        return self.urn.rsplit("::", 1)[-1]

    @property
    def type(self) -> str:
        """The resource's own type, for example kubernetes:core/v1:Node."""
        return self.urn.split("::")[2].rsplit("$", 1)[-1]


@dataclass(frozen=True)
class Result:
    """The result of a run of the engine."""

    exit_code: int
    output: str  # what the user saw
    seconds: float
    summary: dict[str, int] = field(default_factory=dict)  # operations by kind, including "same"
    operations: tuple[Operation, ...] = ()
    diagnostics: tuple[str, ...] = ()  # warnings and errors

    @property
    def succeeded(self) -> bool:
        """Whether the exit code is 0."""
        return self.exit_code == 0

    @property
    def changes(self) -> dict[str, int]:
        """The number of operations that change something, by kind; empty without any."""
        return {op: count for op, count in self.summary.items() if op not in ("same", "read") and count}

    def operations_on(self, type_: str) -> list[Operation]:
        """The operations on resources whose type ends with this text, for example WorkloadPatch."""
        return [operation for operation in self.operations if operation.type.endswith(type_)]


@dataclass
class Progress:
    """What a run has done so far."""

    summary: dict[str, int] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    diagnostics: list[str] = field(default_factory=list)
    under_way: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def take(self, event: Mapping[str, Any]) -> None:
        """Adds the next event of the log."""
        if summed := event.get("summaryEvent"):
            self.summary = summed.get("resourceChanges") or {}
        elif begun := event.get("resourcePreEvent"):
            metadata = begun["metadata"]
            if begun.get("planning"):
                self.operations.append(_operation(metadata))
            else:
                self.under_way[metadata["urn"]] = metadata
        elif ended := event.get("resOutputsEvent") or event.get("resOpFailedEvent"):
            metadata = self.under_way.pop(ended["metadata"]["urn"], ended["metadata"])
            if not ended.get("planning"):
                self.operations.append(_operation(metadata))
        elif (diagnostic := event.get("diagnosticEvent")) and diagnostic["severity"] in ("warning", "error"):
            self.diagnostics.append(diagnostic["message"].strip())


def _operation(metadata: Mapping[str, Any]) -> Operation:
    changed = tuple(sorted(metadata.get("detailedDiff") or {}))
    return Operation(metadata["op"], metadata["urn"], changed)


def engine_environment(lab: Lab, stack: str) -> dict[str, str]:
    """The environment for a run with an event log."""
    # The flag for the event log needs PULUMI_DEBUG_COMMANDS; the Automation API sets it too.
    return {**lab.process_environment(), "PULUMI_STACK": stack, "PULUMI_DEBUG_COMMANDS": "true"}


def engine_command(lab: Lab, arguments: Sequence[str]) -> list[str]:
    """The command line of a run without questions."""
    pulumi = str(lab.directory / "bin" / "pulumi")
    return [pulumi, *arguments, "--non-interactive", "--color=never"]


def run_engine(
    lab: Lab,
    arguments: Sequence[str],
    *,
    stack: str,
    log: Path,
    timeout: float = 900,
    watch: Callable[[Progress], None] | None = None,
) -> Result:
    """Runs the engine on the checkout's program, with its output in the log and its events in a file beside.

    Several times a second, `watch` gets the progress.
    """
    events = log.with_suffix(".events.jsonl")
    events.unlink(missing_ok=True)
    progress = Progress()
    started = time.monotonic()
    with log.open("wb") as output:
        engine = subprocess.Popen(
            [*engine_command(lab, arguments), f"--event-log={events}"],
            cwd=PROJECT,
            env=engine_environment(lab, stack),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            for event in _follow(events, engine):
                if event:
                    progress.take(event)
                elif watch:
                    watch(progress)
                if time.monotonic() - started > timeout:
                    raise TimeoutError(f"pulumi {arguments[0]} took longer than {timeout:.0f} s, see {log}")
        finally:
            if engine.poll() is None:
                engine.terminate()  # the engine then finishes its current operations and writes its state
                try:
                    engine.wait(30)
                except subprocess.TimeoutExpired:
                    engine.kill()
                    engine.wait(10)
    return Result(
        engine.returncode,
        log.read_text(errors="replace"),
        time.monotonic() - started,
        progress.summary,
        tuple(progress.operations),
        tuple(progress.diagnostics),
    )


def _follow(events: Path, engine: subprocess.Popen[bytes]) -> Iterator[Mapping[str, Any]]:
    """Yields the log's events as the engine writes them, and an empty event while there is no new one."""
    while not events.exists():
        if engine.poll() is not None:
            return
        time.sleep(0.05)
        yield {}
    with events.open(encoding="utf-8") as lines:
        partial = ""
        ended = False
        while True:
            line = lines.readline()
            partial += line
            if partial.endswith("\n"):
                yield json.loads(partial)
                partial = ""
            elif not line:
                if ended:
                    return
                # Read once more after the end, because the last events may be new.
                ended = engine.poll() is not None
                if not ended:
                    time.sleep(0.05)
                    yield {}
