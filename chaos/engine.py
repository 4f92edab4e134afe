"""The stack of a chaos run, with engine runs that can be killed at any time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaos.fleet import HELD, NAMESPACE, groups
from lab.control_plane import PROJECT, Lab, LabError
from lab.stack import ON_THE_LAB, LabStack, kill_with_children

_UP_SECONDS = 420.0


class BehindProxy(Lab):
    """The lab as the engine and archshift see it: through the proxy, with a separate evidence cache."""

    def __init__(self, lab: Lab, kubeconfig: Path, cache: Path) -> None:
        super().__init__(lab.directory)
        self._more = {"KUBECONFIG": str(kubeconfig), "XDG_CACHE_HOME": str(cache)}

    def environment(self) -> dict[str, str]:
        """The variables that make kubectl and pulumi work through the proxy."""
        return {**super().environment(), **self._more}


@dataclass(frozen=True, slots=True)
class Up:
    """The result of an update: succeeded, failed, killed or stuck, and its output."""

    outcome: str
    seconds: float
    output: str

    @property
    def reason(self) -> str:
        """The first error in the output, in one line."""
        errors = [line.split("error: ", 1)[1] for line in self.output.splitlines() if "error: " in line]
        return errors[0].strip()[:200] if errors else ""


class Stack(LabStack):
    """The stack of a run."""

    def __init__(self, lab: Lab, folder: Path, placement: str) -> None:
        """Make the stack; errors as ``LabStack``."""
        super().__init__(lab, folder, "chaos")
        self._runs = 0
        self._placement = placement

    def configure(
        self, arm_ratio: str, node_groups: dict[str, Any] | None = None, *, hold: bool = True
    ) -> None:
        """Write the stack's configuration."""
        overrides = {"overrides": HELD} if hold else {}
        values = {
            **ON_THE_LAB,
            "arm_ratio": arm_ratio,
            "placement": self._placement,
            "node_groups": groups() if node_groups is None else node_groups,
            "workloads": {"namespaces": [NAMESPACE], **overrides},
        }
        self.write(values)

    def up(self, *flags: str, killed: Callable[[float], bool] = lambda _: False) -> Up:
        """`pulumi up`.

        Args:
            flags: Further flags of the command.
            killed: Given the seconds since the start, says whether to kill the engine now.
        """
        self._runs += 1
        log = self.folder / f"up-{self._runs}.log"
        started, outcome = time.monotonic(), ""
        with log.open("wb") as output:
            engine = subprocess.Popen(
                self.command("up", "--yes", "--skip-preview", *flags),
                cwd=PROJECT,
                env=self.lab.process_environment(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                while engine.poll() is None:
                    seconds = time.monotonic() - started
                    if killed(seconds):
                        outcome = "killed"
                    elif seconds > _UP_SECONDS:
                        outcome = "stuck"
                    if outcome:
                        break
                    time.sleep(0.1)
            finally:
                if engine.poll() is None:
                    kill_with_children(engine.pid)
                    engine.wait(30)
        outcome = outcome or ("failed" if engine.returncode else "succeeded")
        if outcome in ("killed", "stuck"):
            self.cancel()
        return Up(outcome, time.monotonic() - started, log.read_text(errors="replace"))

    def left_behind(self) -> list[str]:
        """Return the locks and pending operations that an interrupted update left in the backend."""
        state = self.lab.directory / "state" / ".pulumi"
        leftovers = [f"the lock {path.name} is left" for path in state.glob("locks/**/*.json")]
        try:
            pending = self.deployment().get("pending_operations") or ()
        except LabError as error:
            return [*leftovers, f"the state cannot be read: {error}"]
        return leftovers + [
            f"{operation['resource']['urn']} is still {operation['type']}" for operation in pending
        ]
