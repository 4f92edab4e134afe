"""`make test` leaves no process and no folder behind, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tools.bootstrap import PROJECT

PATIENCE = 60


@pytest.mark.parametrize(
    ("number", "code"), [(None, 0), (signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGHUP, 130)]
)
def test_nothing_of_a_run_is_left(tmp_path: Path, number: signal.Signals | None, code: int) -> None:
    notes = tmp_path / "notes"
    cache = tmp_path / "cache"
    environment = {
        **os.environ,
        "XDG_CACHE_HOME": str(cache),
        "NOTES": str(notes),
        "SECONDS": "600" if number else "0",
    }
    run = subprocess.Popen(
        [sys.executable, "-m", "tools.run_tests", "tests/tools/leaves_behind.py", "--numprocesses=1", "-q"],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not notes.exists():
            assert time.monotonic() < deadline, "the test did not begin"
            time.sleep(0.05)
        server, folder = notes.read_text().split()
        if number:
            assert Path(folder).is_relative_to(cache)
            assert psutil.pid_exists(int(server))
            run.send_signal(number)
        output, _ = run.communicate(timeout=PATIENCE)
    finally:
        run.kill()
    assert run.returncode == code, output
    assert _gone(int(server))
    assert list((cache / "archshift" / "tests").iterdir()) == []


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
