"""`pulumi install` makes the same environment from requirements.txt as `uv sync` makes from uv.lock."""

import subprocess

from tools.bootstrap import PROJECT
from tools.python_env import find_uv


def test_requirements_txt_says_what_uv_lock_says() -> None:
    comment, command, *requirements = (PROJECT / "requirements.txt").read_text().splitlines()
    assert "pulumi install" in comment
    exported = subprocess.run(
        [find_uv(install=False), *command.removeprefix("# uv ").split(), "--quiet", "--locked"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert requirements == exported.stdout.splitlines()
