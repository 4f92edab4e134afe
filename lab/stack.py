"""A stack of a project on a lab, with its configuration outside the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import yaml

from lab.control_plane import CONTEXT, PROJECT, Lab, LabError
from lab.engine import engine_command

ON_THE_LAB = {"platform": "lab", "kube_context": CONTEXT}
"""What a stack of archshift's own says of a lab's cluster."""


class LabStack:
    """A new stack of a project, empty and without configuration.

    Attributes:
        lab: Where it runs.
        name: Its name.
        folder: Where its configuration is, beside a copy of the project file.
        config_file: That configuration.
        project: The folder of its program.
    """

    def __init__(self, lab: Lab, folder: Path, name: str, project: Path = PROJECT) -> None:
        """Make the stack.

        Raises:
            LabError: With the engine's own words, if it cannot be made.
        """
        self.lab, self.name, self.folder, self.project = lab, name, folder, project
        self.config_file = folder / f"Pulumi.{name}.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        # `stack init` writes the configuration beside the project file, and the checkout is not the
        # place for it: a copy of the project file is enough to make a stack.
        shutil.copy(project / "Pulumi.yaml", folder / "Pulumi.yaml")
        self._pulumi("stack", "init", name, "--non-interactive")
        self._salt = yaml.safe_load(self.config_file.read_text())["encryptionsalt"]

    def write(self, values: Mapping[str, Any]) -> None:
        """Write the configuration; a key without a namespace is archshift's."""
        config = {key if ":" in key else f"archshift:{key}": value for key, value in values.items()}
        content = {"config": config, "encryptionsalt": self._salt}
        self.config_file.write_text(yaml.safe_dump(content, sort_keys=False))

    def arguments(self, *command: str) -> list[str]:
        """Return a command of the engine with what it needs to know to find the stack."""
        return [*command, f"--stack={self.name}", f"--config-file={self.config_file}"]

    def deployment(self) -> dict[str, Any]:
        """Return what the stack's state holds.

        Raises:
            LabError: It cannot be read.
        """
        exported: dict[str, Any] = json.loads(self._pulumi("stack", "export", f"--stack={self.name}"))
        return dict(exported["deployment"])

    def resources(self) -> list[dict[str, Any]]:
        """Return the resources that the stack's state holds; errors as ``deployment``."""
        return list(self.deployment().get("resources") or ())

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of a run of the engine on the stack, that asks nothing."""
        return engine_command(self.lab, self.arguments(*arguments))

    def archshift(
        self, *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run the archshift command for this stack; ``environment`` is put on top of the lab's."""
        return subprocess.run(
            self.archshift_command(*arguments),
            cwd=PROJECT,
            env={**self.environment(), **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def archshift_command(self, *arguments: str) -> list[str]:
        """Return the command line of the archshift command for this stack."""
        archshift = str(PROJECT / ".venv" / "bin" / "archshift")
        return [archshift, *arguments, f"--config-file={self.config_file}"]

    def environment(self) -> dict[str, str]:
        """Return the lab's environment with the stack selected."""
        return {**self.lab.process_environment(), "PULUMI_STACK": self.name}

    def cancel(self) -> None:
        """Release the lock that an engine left which was ended in the middle."""
        self.lab.run("pulumi", "cancel", self.name, "--yes", cwd=self.folder)

    def _pulumi(self, *arguments: str) -> str:
        done = self.lab.run("pulumi", *arguments, cwd=self.folder)
        if done.returncode:
            raise LabError(f"pulumi {' '.join(arguments[:2])}: {done.stderr.strip()}")
        return done.stdout


def kill_with_children(pid: int) -> None:
    """End a process with all that it started, as when the machine goes."""
    # A process group is not enough: language hosts have groups of their own.
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
