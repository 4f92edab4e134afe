"""A project's stack on a lab, with its configuration outside the checkout."""

from __future__ import annotations

import json
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
"""The settings of an archshift stack for a lab's cluster."""


def copy_project_file(folder: Path, project: Path = PROJECT) -> None:
    """Copy ``Pulumi.yaml``, so that a program beside the copy runs in the project's Python environment."""
    content = yaml.safe_load((project / "Pulumi.yaml").read_text())
    # An absolute path stays as it is.
    options = content["runtime"]["options"]
    options["virtualenv"] = str(project / options["virtualenv"])
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


class LabStack:
    """A new stack of a project, empty and without configuration.

    Attributes:
        lab: The lab.
        name: The name of the stack.
        folder: The folder of its configuration and a copy of the project file.
        config_file: The file with its configuration.
        project: The folder of its program.
    """

    def __init__(self, lab: Lab, folder: Path, name: str, project: Path = PROJECT) -> None:
        """Create the stack.

        Raises:
            LabError: The engine failed; the message has its error output.
        """
        self.lab, self.name, self.folder, self.project = lab, name, folder, project
        self.config_file = folder / f"Pulumi.{name}.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        # `stack init` writes the configuration beside the project file. A copy of the project file keeps
        # it out of the checkout.
        copy_project_file(folder, project)
        self._pulumi("stack", "init", name, "--non-interactive")
        self._salt = yaml.safe_load(self.config_file.read_text())["encryptionsalt"]

    def write(self, values: Mapping[str, Any]) -> None:
        """Write the configuration; a key without a namespace belongs to archshift."""
        config = {key if ":" in key else f"archshift:{key}": value for key, value in values.items()}
        content = {"config": config, "encryptionsalt": self._salt}
        self.config_file.write_text(yaml.safe_dump(content, sort_keys=False))

    def arguments(self, *command: str) -> list[str]:
        """Return a command of the engine with the options that select the stack."""
        return [*command, f"--stack={self.name}", f"--config-file={self.config_file}"]

    def deployment(self) -> dict[str, Any]:
        """Return the stack's state.

        Raises:
            LabError: The engine could not export it.
        """
        exported: dict[str, Any] = json.loads(self._pulumi("stack", "export", f"--stack={self.name}"))
        return dict(exported["deployment"])

    def resources(self) -> list[dict[str, Any]]:
        """Return the resources of the stack's state; errors as ``deployment``."""
        return list(self.deployment().get("resources") or ())

    def command(self, *arguments: str) -> list[str]:
        """Return the command line of an engine run on the stack, without questions."""
        return engine_command(self.lab, self.arguments(*arguments))

    def archshift(
        self, *arguments: str, environment: Mapping[str, str] | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run the archshift command for this stack; ``environment`` extends the lab's variables."""
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
        """Return the lab's environment, with this stack selected."""
        return {**self.lab.process_environment(), "PULUMI_STACK": self.name}

    def cancel(self) -> None:
        """Release the lock of an engine that was killed."""
        self.lab.run("pulumi", "cancel", self.name, "--yes", cwd=self.folder)

    def _pulumi(self, *arguments: str) -> str:
        done = self.lab.run("pulumi", *arguments, cwd=self.folder)
        if done.returncode:
            raise LabError(f"pulumi {' '.join(arguments[:2])}: {done.stderr.strip()}")
        return done.stdout


def kill_with_children(pid: int) -> None:
    """Kill a process and all its descendants, as a failing machine would."""
    # A process group is not enough, because language hosts have their own groups.
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
