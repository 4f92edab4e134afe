"""The completion in real shells."""

import functools
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ARCHSHIFT = Path(sys.executable).parent / "archshift"
SECONDS = 60
"""After so long a shell that says nothing has hung."""


class Shell:
    """A bash on a terminal, without the user's own settings."""

    def __init__(self, folder: Path) -> None:
        ours, theirs = pty.openpty()
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "TERM": "dumb", "PS1": "ready> "}
        self._process = subprocess.Popen(
            [shutil.which("bash") or "bash", "--noprofile", "--norc", "-i"],
            cwd=folder,
            env=environment,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._terminal = ours
        self._seen = ""

    def type(self, keys: str, until: str) -> str:
        """Press keys and return what the terminal shows, up to a pattern."""
        self._seen = ""
        os.write(self._terminal, keys.encode())
        deadline = time.monotonic() + SECONDS
        while not re.search(until, self._seen):
            left = deadline - time.monotonic()
            assert left > 0, f"{until!r} is not in {self._seen!r}"
            if select.select([self._terminal], [], [], left)[0]:
                self._seen += os.read(self._terminal, 4096).decode()
        return self._seen

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._terminal)


@functools.cache
def completion(shell: str) -> str:
    """What the command prints."""
    done = subprocess.run(
        [ARCHSHIFT, "completion", shell], capture_output=True, text=True, timeout=SECONDS, check=True
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    """A bash that has sourced the completion."""
    (tmp_path / "completion").write_text(completion("bash"))
    (tmp_path / "values.yaml").write_text("")
    (tmp_path / "infra").mkdir()
    shell = Shell(tmp_path)
    shell.type("source ./completion && echo so''urced\n", "sourced\r?\n")
    yield shell
    shell.close()


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("archshift au\t", "archshift audit "),
        ("archshift ramp ne\t", "archshift ramp next "),
        ("archshift status --js\t", "archshift status --json "),
        ("archshift completion z\t", "archshift completion zsh "),
        ("archshift plan --config-file val\t", "--config-file values.yaml "),
        ("archshift doctor --cwd in\t", "--cwd infra/?"),
    ],
)
def test_bash_completes(shell: Shell, keys: str, shown: str) -> None:
    """TAB in a real bash completes commands, actions, options, choices, files and folders."""
    shell.type(keys, shown)


@pytest.mark.parametrize("name", ["zsh", "fish"])
def test_other_shells_get_every_command(name: str) -> None:
    """Each has the subcommands and their options, in its own words."""
    text = completion(name)
    for word in ("audit", "doctor", "ramp", "from-cluster"):
        assert word in text


def test_an_unknown_shell_is_a_wrong_command_line() -> None:
    """With those that there are."""
    done = subprocess.run(
        [ARCHSHIFT, "completion", "cmd"], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 4
    assert re.search(r"choose from '?bash'?, '?zsh'?, '?fish'?", done.stderr)
