#!/usr/bin/env python3
"""Makes the project's Python environment (.venv) from uv.lock, with uv from PATH or from PyPI.

This file uses only the standard library, because it runs before the environment exists.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PROJECT))

from tools.bootstrap import BootstrapError, cache_root, parse_version  # noqa: E402 - after the path

OLDEST_UV = (0, 8)
PINNED_UV = "0.13.9"


def find_uv(*, install: bool = True) -> Path:
    """The uv on PATH if its version is suitable, otherwise a private uv in the cache.

    Raises:
        BootstrapError: uv is missing, and installing it failed or was not allowed.
    """
    installed = shutil.which("uv")
    if installed and _serves(Path(installed)):
        return Path(installed)
    private = cache_root() / f"uv-{PINNED_UV}" / "bin" / "uv"
    if _serves(private):
        return private
    if install:
        _install(private.parent.parent)
        if _serves(private):
            return private
    raise BootstrapError(
        "The Python environment needs uv {}.{} or newer, but uv could not be installed from PyPI. "
        "Install uv (https://docs.astral.sh/uv), or the venv module of {} (python3-venv on Debian).".format(
            *OLDEST_UV, sys.executable
        )
    )


def _serves(uv: Path) -> bool:
    try:
        answer = subprocess.run(
            [str(uv), "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return False
    version = parse_version(answer.stdout)
    return version is not None and version >= OLDEST_UV


def _install(folder: Path) -> None:
    print(f"installing uv {PINNED_UV} for this user in {folder}", file=sys.stderr)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # uv is a plain binary, so its environment can be renamed when it is complete.
    with tempfile.TemporaryDirectory(prefix=".uv-", dir=folder.parent) as building:
        environment = Path(building) / "environment"
        pip = [str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        try:
            for command in ([sys.executable, "-m", "venv", str(environment)], [*pip, f"uv=={PINNED_UV}"]):
                subprocess.run(command, capture_output=True, timeout=300, check=True)
        except (OSError, subprocess.SubprocessError):
            return
        shutil.rmtree(folder, ignore_errors=True)
        environment.replace(folder)


def _run(command: Sequence[str | Path], environment: Mapping[str, str]) -> int:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=PROJECT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        timeout=1200,
        check=False,
    )
    return done.returncode


def main() -> int:
    """Installs the packages of uv.lock into .venv."""
    # Ignore an active virtual environment, because it is not the project's.
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    try:
        uv = find_uv()
        # Compile now, because Python may not keep bytecode later (containers set PYTHONDONTWRITEBYTECODE).
        # Then every command and every run of the engine would compile 400 modules again.
        synced = _run([uv, "sync", "--locked", "--quiet", "--compile-bytecode"], environment)
        if synced == 0:
            # Ignore errors here; a module that does not compile fails at its import.
            python = PROJECT / ".venv" / "bin" / "python"
            _run([python, "-m", "compileall", "-qq", "-x", r"/\.", "."], environment)
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.TimeoutExpired:
        print("Installing the Python packages took longer than 20 minutes and was stopped.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return synced


if __name__ == "__main__":
    sys.exit(main())
