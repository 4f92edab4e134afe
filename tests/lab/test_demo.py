"""The newcomer's first command, `make demo`, with both placements."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control_plane import PROJECT, Lab


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the checkout, because the demo changes Pulumi.lab.yaml. Its lab ends with the tests."""
    folder = tmp_path_factory.mktemp("checkout")
    files = subprocess.run(
        ["git", "ls-files", "-z"], cwd=PROJECT, check=True, capture_output=True, text=True, timeout=60
    ).stdout.split("\0")
    for name in filter(None, files):
        copy = folder / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((PROJECT / name).read_bytes())
    (folder / ".venv").symlink_to(PROJECT / ".venv")
    yield folder
    Lab(folder / ".lab").stop()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("placement", "said"),
    [
        ("patches", "After every step, each workload had "),
        # In the lab of the first one, as a newcomer runs it. So the first step gives the patches back.
        ("admission", "After every step, each workload had exactly the wanted number of pods on each side."),
    ],
)
def test_every_step_of_the_demo_ends_where_the_ratio_says(checkout: Path, placement: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "lab", "demo", f"--placement={placement}"],
        cwd=checkout,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout
    assert [line for line in done.stdout.splitlines() if " NO " in line] == []
