"""The robustness run itself, short: what `make chaos` does for minutes is kept alive here."""

import json
import subprocess
from pathlib import Path

import pytest

from chaos.schedule import KINDS
from lab.control_plane import PROJECT


@pytest.mark.timeout(900)
def test_a_short_run_of_faults(tmp_path: Path) -> None:
    """Each kind of fault once, in a lab of its own: all holds, x86 stays while it is needed
    and goes at the end, and the report says what was done.
    """
    report = tmp_path / "report.json"
    python = str(PROJECT / ".venv" / "bin" / "python")
    command = [python, "-m", "chaos", "--seed", "1", "--minutes", "0.6", f"--json={report}"]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    said = json.loads(report.read_text())
    assert (said["seed"], said["violations"]) == (1, {})
    assert set(said["faults"]) == set(KINDS)
    assert said["attempts"] >= 1
    assert said["ups"]["killed"] >= 1
    assert said["samples"] > 50
    assert len(said["needed"]) == 2
    assert done.stdout.startswith("python -m chaos --seed 1 --minutes 0.6\n")
