"""The real engine with the pack, on stacks that need neither a cluster nor a cloud."""

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from lab.engine import RUNTIME
from tools.bootstrap import find_programs
from tools.python_env import find_uv

PROJECT: Final = Path(__file__).resolve().parents[2]
PACK: Final = PROJECT / "policies"
STATES: Final = Path(__file__).parent / "states"
PROGRAM: Final = Path(__file__).parent / "program.py"


@dataclass(frozen=True)
class Reported:
    """One violation as the engine took it.

    Attributes:
        rule: The policy's name.
        level: mandatory or advisory.
        resource: Name of the resource that it is shown at.
        message: The rule's words.
    """

    rule: str
    level: str
    resource: str
    message: str


@dataclass(frozen=True)
class Run:
    """How a run of the engine ended."""

    exit_code: int
    output: str
    reported: list[Reported] = field(default_factory=list)

    def of(self, rule: str) -> list[Reported]:
        """What a rule reported."""
        return [one for one in self.reported if one.rule == rule]


class Engine:
    """An engine with a home, a backend and a project of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        programs = find_programs("pulumi").paths
        self._pulumi = str(programs["pulumi"])
        # The engine finds its Python host beside itself, and that finds uv on PATH.
        inherited = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
        self.environment = {
            **inherited,
            "PATH": os.pathsep.join([str(find_uv(install=False).parent), os.environ["PATH"]]),
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": f"file://{folder / 'state'}",
            "PULUMI_CONFIG_PASSPHRASE": "",
            # As in the lab: otherwise the engine tries to download a plugin for each installed SDK.
            "PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL": "true",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
        }
        self.project = folder / "project"
        for path_ in (folder / "home", folder / "state", self.project):
            path_.mkdir()
        (self.project / "Pulumi.yaml").write_text(json.dumps({"name": "archshift", "runtime": RUNTIME}))
        shutil.copy(PROGRAM, self.project / "__main__.py")
        self.succeed("stack", "init", "prod")

    def run(self, *arguments: str, cwd: Path | None = None, **environment: str) -> Run:
        done = subprocess.run(
            [self._pulumi, *arguments, "--non-interactive", "--color=never"],
            cwd=cwd or self.project,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Run(done.returncode, done.stdout + done.stderr, _reported(done.stdout))

    def succeed(self, *arguments: str, cwd: Path | None = None, **environment: str) -> Run:
        """Run the engine; anything but success is this test's failure."""
        done = self.run(*arguments, cwd=cwd, **environment)
        assert done.exit_code == 0, done.output
        return done

    def analyze(self, state: str, pack: Path = PACK, config: Mapping[str, Any] | None = None) -> Run:
        """Judge one of the checked-in states, as a pipeline does."""
        file = self.folder / state
        file.write_text(state_of(state))
        self.succeed("stack", "import", "--stack=prod", f"--file={file}")
        return self.run(
            "policy", "analyze", "--stack=prod", f"--policy-pack={pack}", "--json", *self._config(config)
        )

    def preview(self, state: str, pack: Path = PACK, unknown: str = "") -> Run:
        """Preview the program that registers what a state holds; ``unknown`` is `resource:property`."""
        file = self.folder / state
        file.write_text(state_of(state))
        self.succeed("stack", "import", "--stack=prod", f"--file={STATES / 'empty.json'}")
        return self.run(
            "preview",
            "--stack=prod",
            f"--policy-pack={pack}",
            "--json",
            PROGRAM_STATE=str(file),
            PROGRAM_UNKNOWN=unknown,
            # The engine's events, policies included, instead of a summary without them.
            PULUMI_ENABLE_STREAMING_JSON_PREVIEW="true",
        )

    def _config(self, config: Mapping[str, Any] | None) -> list[str]:
        if config is None:
            return []
        file = self.folder / "pack-config.json"
        file.write_text(json.dumps(config))
        return [f"--policy-pack-config={file}"]


def state_of(name: str) -> str:
    """Return a checked-in state with its times set: evidence of yesterday, excuses until in a while."""
    now = datetime.now(UTC)
    text = (STATES / name).read_text()
    return text.replace("$checked", _iso(now - timedelta(days=1))).replace(
        "$soon", _iso(now + timedelta(hours=8))
    )


def _iso(time: datetime) -> str:
    return time.isoformat(timespec="seconds")


def _reported(output: str) -> list[Reported]:
    found = []
    for line in output.splitlines():
        if not line.startswith("{"):
            continue
        event = json.loads(line).get("policyEvent")
        if event:
            name = event["resourceUrn"].rpartition("::")[2]
            found.append(
                Reported(event["policyName"], event["enforcementLevel"], name, event["message"].strip())
            )
    return found
