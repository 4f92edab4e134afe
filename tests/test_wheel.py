"""What a user installs."""

import subprocess
import sys
import zipfile
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent


def test_the_wheel_has_archshift_alone_with_its_data_and_its_command(tmp_path: Path) -> None:
    """Users have a ``settings.py`` and ``components/`` of their own: no wheel may bring such names."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)],
        cwd=PROJECT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = archive.read(next(name for name in names if name.endswith("/entry_points.txt")))
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"archshift"}
    listed = subprocess.run(
        ["git", "ls-files", "archshift"], cwd=PROJECT, check=True, capture_output=True, text=True
    ).stdout.split()
    assert {name for name in names if name.startswith("archshift/")} == set(listed)
    assert b"archshift = archshift.cli.entry:main" in entry_points
