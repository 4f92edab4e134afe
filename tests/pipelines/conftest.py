"""A runner as the workflows have one: a checkout with a remote, gh, and GitHub's REST API as a stand-in."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from components.workload_patches import WorkloadPatches
from tests.standins.github import REPOSITORY, GitHub, Server
from tools.bootstrap import PROJECT, find_programs

SCRIPTS = PROJECT / ".github" / "scripts"

# Stands in for archshift and for what pulumi does to a cluster: notes its command line, and answers as
# `answers/NAME-COMMAND` (a shell script) says; without one, with success and nothing.
_STAND_IN = """#!/usr/bin/env bash
{ printf '%s' "${0##*/}"; printf ' %q' "$@"; echo; } >> "$STAND_INS/calls"
answer="$STAND_INS/answers/${0##*/}-$1"
[ ! -f "$answer" ] || . "$answer"
"""
# Configuration and state are the real engine's business.
_PULUMI = """#!/usr/bin/env bash
case " $* " in *" config "*|*" stack "*) exec "$REAL_PULUMI" "$@" ;; esac
""" + _STAND_IN.partition("\n")[2]

# What decides is real, but for the gate's answer and for the preview that looks for autoscalers.
_ARCHSHIFT = f"""#!/usr/bin/env bash
[ "$1" != deployment ] || PYTHONPATH={PROJECT} exec {sys.executable} -m tests.standins.gated_archshift "$@"
""" + _STAND_IN.partition("\n")[2]

_STACK_TYPE = "pulumi:pulumi:Stack"

PROJECT_FILE = "name: archshift\nruntime: python\n"
STACK_FILE = """\
# Production.
config:
  archshift:arm_ratio: "0.5"  # moves weekly
  archshift:gate: {prometheus: "http://prometheus.example"}
  archshift:ramp: {start: "2026-03-02"}
"""


@dataclass(frozen=True)
class Done:
    """How a script ended."""

    code: int
    stdout: str
    stderr: str


@dataclass
class Runner:
    """A runner with a checkout of a repository that has one stack."""

    root: Path
    github: GitHub
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def checkout(self) -> Path:
        return self.root / "checkout"

    @property
    def results(self) -> Path:
        """The folder in which jobs leave what later jobs read."""
        return self.root / "results"

    def run(self, script: str, *arguments: str | Path, **environment: str) -> Done:
        """Runs one of the scripts in the checkout."""
        return self.call(SCRIPTS / script, *arguments, **environment)

    def call(self, program: str | Path, *arguments: str | Path, **environment: str) -> Done:
        """Runs a program in the checkout, as a script would."""
        done = subprocess.run(
            [shutil.which(program, path=self.environment["PATH"]) or program, *map(str, arguments)],
            cwd=self.checkout,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def git(self, *arguments: str, cwd: Path | None = None) -> str:
        """Runs git in the checkout; returns what it prints."""
        done = subprocess.run(
            ["git", *arguments],
            cwd=cwd or self.checkout,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout.strip()

    def install(self, name: str) -> None:
        """Installs one more program as a stand-in."""
        (self.root / "stand-ins" / "bin" / name).write_text(_STAND_IN)
        (self.root / "stand-ins" / "bin" / name).chmod(0o755)

    def stand_in(self, command: str, answer: str) -> None:
        """Lets a stand-in answer a command (``archshift-gate``) with a piece of shell."""
        (self.root / "stand-ins" / "answers" / command).write_text(answer)

    def deployed(
        self,
        outputs: dict[str, object] | None,
        stack: str = "prod",
        *,
        tried: dict[str, object] | None = None,
    ) -> None:
        """Makes the stack's state that of a deployment with these outputs; None is a stack without one.

        ``tried`` are the ratio and the commit of the last update, if it failed.
        """
        begin = f"urn:pulumi:{stack}::archshift::"
        of_stack = {"urn": f"{begin}{_STACK_TYPE}::archshift-{stack}", "type": _STACK_TYPE, "custom": False}
        resources = [] if outputs is None else [{**of_stack, "outputs": outputs}]
        if tried:
            kind = WorkloadPatches.TYPE
            resources.append(
                {"urn": f"{begin}{kind}::workloads", "type": kind, "custom": False, "outputs": tried}
            )
        manifest = {"time": "2026-01-01T00:00:00Z", "magic": "", "version": ""}
        state = {"version": 3, "deployment": {"manifest": manifest, "resources": resources}}
        self._pulumi("stack", "import", "--stack", stack, stdin=json.dumps(state))

    def _pulumi(self, *arguments: str, stdin: str = "") -> None:
        command = [self.environment["REAL_PULUMI"], *arguments]
        subprocess.run(
            command, cwd=self.checkout, env=self.environment, input=stdin, text=True, check=True, timeout=60
        )

    def new_stack(self, stack: str) -> None:
        """Makes a stack whose state is empty; its file of configuration stays as it is."""
        file = self.checkout / f"Pulumi.{stack}.yaml"
        content = file.read_text()
        self._pulumi("stack", "init", stack)
        file.write_text(content)

    def calls(self, begin: str = "") -> list[str]:
        """The command lines of the stand-ins, in order."""
        file = self.root / "stand-ins" / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        return [line for line in lines if line.startswith(begin)]

    @property
    def summary(self) -> str:
        """What the page of the run says."""
        file = self.root / "summary.md"
        return file.read_text() if file.exists() else ""

    def commit(
        self, files: dict[str, str], message: str = "a change", author: str = "dev@acme.example"
    ) -> str:
        """Commits files on the branch that is checked out; returns the commit."""
        for name, content in files.items():
            (self.checkout / name).parent.mkdir(parents=True, exist_ok=True)
            (self.checkout / name).write_text(content)
        self.git("add", "--all")
        who = ("-c", "user.name=Dev", "-c", f"user.email={author}")
        self.git(*who, "commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def push(self, branch: str = "main") -> None:
        self.git("push", "--quiet", "origin", f"HEAD:refs/heads/{branch}")

    @property
    def remote_folder(self) -> Path:
        """The repository that the checkout is of."""
        return self.root / "remote.git"

    def clone(self, *, shallow: bool = False) -> None:
        """Makes the checkout new, as each job does."""
        shutil.rmtree(self.checkout, ignore_errors=True)
        depth = ["--depth=1"] if shallow else []
        self.git(
            "clone", "--quiet", *depth, f"file://{self.remote_folder}", str(self.checkout), cwd=self.root
        )

    def path_without(self, *names: str) -> str:
        """PATH of a job on which these were not installed."""
        folder = self.root / "stand-ins" / "without"
        folder.mkdir(exist_ok=True)
        own, _, rest = self.environment["PATH"].partition(os.pathsep)
        for program in Path(own).iterdir():
            if program.name not in names and not (folder / program.name).exists():
                (folder / program.name).symlink_to(program)
        return f"{folder}{os.pathsep}{rest}"

    def remote(self, branch: str, file: str | None = None) -> str:
        """The commit of a branch of the remote (or a file's content there); empty without the branch."""
        found = self.git("ls-remote", "origin", f"refs/heads/{branch}").partition("\t")[0]
        if not found or file is None:
            return found
        return self.git("show", f"{found}:{file}", cwd=self.remote_folder)


@pytest.fixture(scope="session")
def gh() -> Path:
    """The real gh."""
    return find_programs("gh").paths["gh"]


@pytest.fixture(scope="session")
def pulumi() -> Path:
    """The real engine."""
    return find_programs("pulumi").paths["pulumi"]


@pytest.fixture
def github() -> GitHub:
    """What is at GitHub."""
    return GitHub()


@pytest.fixture
def runner(tmp_path: Path, gh: Path, pulumi: Path, github: GitHub) -> Iterator[Runner]:
    """A runner on main, on which archshift, and what pulumi does to a cluster, are stand-ins."""
    programs = tmp_path / "stand-ins" / "bin"
    programs.mkdir(parents=True)
    (programs.parent / "answers").mkdir()
    (programs / "pulumi").write_text(_PULUMI)
    (programs / "pulumi").chmod(0o755)
    (tmp_path / "home").mkdir()
    server = Server(github)
    # The proxy for gh alone: the engine and its program talk to each other by HTTP, too.
    (programs / "gh").write_text(f'#!/bin/sh\nHTTP_PROXY={server.proxy} exec {gh} "$@"\n')
    (programs / "gh").chmod(0o755)
    path = os.pathsep.join([str(programs), *_folders_of("bash", "git", "python3", "awk", "sed")])
    runner = Runner(
        tmp_path,
        github,
        {
            "PATH": path,
            "HOME": str(tmp_path / "home"),
            "STAND_INS": str(tmp_path / "stand-ins"),
            "REAL_PULUMI": str(pulumi),
            "PULUMI_BACKEND_URL": f"file://{tmp_path}",
            "PULUMI_CONFIG_PASSPHRASE": "of the test",
            "PULUMI_SKIP_UPDATE_CHECK": "1",
            "PULUMI_OPTION_SKIP_PLUGIN_PRE_INSTALL": "true",
            "GITHUB_REPOSITORY": REPOSITORY,
            "GITHUB_RUN_ID": "77",
            "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            **server.environment,
        },
    )
    (programs / "archshift").write_text(_ARCHSHIFT)
    (programs / "archshift").chmod(0o755)
    try:
        bare = ("init", "--quiet", "--bare", "--initial-branch=main", str(runner.remote_folder))
        runner.git(*bare, cwd=tmp_path)
        runner.clone()
        runner.git("checkout", "--quiet", "-B", "main")
        runner.commit({"Pulumi.prod.yaml": STACK_FILE, "Pulumi.yaml": PROJECT_FILE}, "Begin")
        runner.push()
        yield runner
    finally:
        server.close()


def _folders_of(*programs: str) -> list[str]:
    found = {Path(path).parent for name in programs if (path := shutil.which(name))}
    return sorted(map(str, found | {Path("/usr/bin"), Path("/bin")}))
