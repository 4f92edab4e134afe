"""Gets the programs that the selected tests need, runs the tests, and cleans up.

    .venv/bin/python -m tools.run_tests tests/lab/test_exact.py -k up

The run leaves no process and no folder behind, even after Ctrl-C, a stopped pipeline or a crash. pytest alone
cannot guarantee that: it kills its processes after ten seconds, but the servers of their labs keep running.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil

from tools.bootstrap import PREPARED, PROJECT, BootstrapError, cache_root
from tools.test_needs import prepare

_STOP_SECONDS = 30
"""How long interrupted tests may take to stop by themselves."""

# The tests mostly wait for a cluster, so there are more processes than cores, each with its own lab. The
# tests of a file share fixtures. The slowest files start first (tests/conftest.py).
_SIDE_BY_SIDE = ("--numprocesses=4", "--dist=loadfile", "--no-loadscope-reorder")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run pytest with these arguments; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        prepared = prepare(words)
    except BootstrapError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    with _folder() as folder:
        environment = {
            **os.environ,
            "TMPDIR": str(folder),
            "KUBECACHEDIR": str(folder / "kubectl"),  # else kubectl keeps ~/.kube/cache
            # Containers switch this off, and then each process rewrites the assertions of all tests.
            "PYTHONDONTWRITEBYTECODE": "",
            # The processor is what the tests wait for: the servers and the engine collect garbage less often.
            "GOGC": os.environ.get("GOGC", "400"),
            PREPARED: json.dumps(prepared),
        }
        return _run([sys.executable, "-m", "pytest", *_SIDE_BY_SIDE, *words], environment)


@contextlib.contextmanager
def _folder() -> Iterator[Path]:
    """Provides a folder for temporary files; on exit, kills all processes that use it and deletes it."""
    parent = cache_root() / "tests"
    folder = parent / str(os.getpid())
    for abandoned in parent.glob("*"):
        if not (abandoned.name.isdigit() and psutil.pid_exists(int(abandoned.name))):
            _end_all(abandoned)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield folder
    finally:
        _end_all(folder)


def _end_all(folder: Path) -> None:
    """Kill every process whose TMPDIR is this folder, and delete the folder."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get("TMPDIR") == str(folder):
                process.kill()
    shutil.rmtree(folder, ignore_errors=True)


def _run(command: Sequence[str], environment: dict[str, str]) -> int:
    # Before the start: a shell in the background makes its commands ignore Ctrl-C, and with them the tests of
    # Ctrl-C. A program that is started does not ignore a signal for which there is a handler here.
    before = {
        number: signal.signal(number, _interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    # In a group of its own: a signal then reaches all of its processes, as Ctrl-C does.
    tests = subprocess.Popen(command, cwd=PROJECT, env=environment, start_new_session=True)
    try:
        return tests.wait()
    except KeyboardInterrupt:
        os.killpg(tests.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired, KeyboardInterrupt):
            tests.wait(_STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(tests.pid, signal.SIGKILL)
        tests.wait()
        return 130
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
