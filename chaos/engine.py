"""The stack of a run, and runs of the engine on it that can be killed in the middle."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from chaos.fleet import HELD, NAMESPACE, groups
from lab.control_plane import CONTEXT, PROJECT, Lab, LabError

_UP_SECONDS = 420.0


class BehindProxy(Lab):
    """The lab as the engine and the command see it: by another way, and with an evidence cache of its own."""

    def __init__(self, lab: Lab, kubeconfig: Path, cache: Path) -> None:
        super().__init__(lab.directory)
        self._more = {"KUBECONFIG": str(kubeconfig), "XDG_CACHE_HOME": str(cache)}

    def environment(self) -> dict[str, str]:
        """The variables with which plain kubectl and pulumi work through the proxy."""
        return {**super().environment(), **self._more}


@dataclass(frozen=True, slots=True)
class Up:
    """How an update ended: succeeded, failed or was killed, and what it printed."""

    outcome: str
    seconds: float
    output: str

    @property
    def reason(self) -> str:
        """The first error that it printed, in one line."""
        errors = [line.split("error: ", 1)[1] for line in self.output.splitlines() if "error: " in line]
        return errors[0].strip()[:200] if errors else ""


class Stack:
    """The stack of a run, with a configuration outside the checkout."""

    def __init__(self, lab: Lab, folder: Path) -> None:
        self.lab, self.name, self._folder = lab, "chaos", folder
        self._file = folder / f"Pulumi.{self.name}.yaml"
        self._runs = 0
        folder.mkdir(parents=True)
        shutil.copy(PROJECT / "Pulumi.yaml", folder)
        made = lab.run("pulumi", "stack", "init", self.name, "--non-interactive", cwd=folder)
        if made.returncode:
            raise LabError(f"pulumi stack init: {made.stderr.strip()}")
        self._salt = yaml.safe_load(self._file.read_text())["encryptionsalt"]

    def configure(
        self, arm_ratio: str, node_groups: dict[str, Any] | None = None, *, hold: bool = True
    ) -> None:
        """Write the stack's configuration."""
        overrides = {"overrides": HELD} if hold else {}
        values: dict[str, Any] = {
            "platform": "lab",
            "kube_context": CONTEXT,
            "arm_ratio": arm_ratio,
            "node_groups": groups() if node_groups is None else node_groups,
            "workloads": {"namespaces": [NAMESPACE], **overrides},
        }
        config = {f"archshift:{key}": value for key, value in values.items()}
        self._file.write_text(yaml.safe_dump({"config": config, "encryptionsalt": self._salt}))

    def up(self, *flags: str, killed: Callable[[float], bool] = lambda _: False) -> Up:
        """`pulumi up`.

        Args:
            flags: More of its flags.
            killed: Asked with the seconds since the start whether the machine it runs on dies now.
        """
        self._runs += 1
        log = self._folder / f"up-{self._runs}.log"
        arguments = ["up", "--yes", "--skip-preview", *flags]
        options = [
            "--non-interactive",
            "--color=never",
            f"--stack={self.name}",
            f"--config-file={self._file}",
        ]
        started, outcome = time.monotonic(), ""
        with log.open("wb") as output:
            engine = subprocess.Popen(
                [str(self.lab.directory / "bin" / "pulumi"), *arguments, *options],
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
                    # With all that it started, as when the machine goes.
                    with suppress(ProcessLookupError):
                        os.killpg(engine.pid, signal.SIGKILL)
                    engine.wait(30)
        outcome = outcome or ("failed" if engine.returncode else "succeeded")
        if outcome in ("killed", "stuck"):
            self.lab.run("pulumi", "cancel", self.name, "--yes", cwd=self._folder)
        return Up(outcome, time.monotonic() - started, log.read_text(errors="replace"))

    def archshift(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the archshift command for this stack."""
        command = [str(PROJECT / ".venv" / "bin" / "archshift"), *arguments, f"--config-file={self._file}"]
        return subprocess.run(
            command,
            cwd=PROJECT,
            env={**self.lab.process_environment(), "PULUMI_STACK": self.name},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def left_behind(self) -> list[str]:
        """Return what an interrupted update left in the stack's backend: locks, unfinished operations."""
        state = self.lab.directory / "state" / ".pulumi"
        said = [f"the lock {path.name} is left" for path in state.glob("locks/**/*.json")]
        shown = self.lab.run("pulumi", "stack", "export", f"--stack={self.name}", cwd=self._folder)
        if shown.returncode:
            return [*said, f"the state cannot be read: {shown.stderr.strip()}"]
        pending = json.loads(shown.stdout)["deployment"].get("pending_operations") or ()
        return said + [f"{one['resource']['urn']} is still {one['type']}" for one in pending]
