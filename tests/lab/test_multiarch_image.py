"""A Go program compiled for both architectures and pushed as documented, and what the deep audit says."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from archshift.common.architectures import AMD64, ARM64
from archshift.images.contents.elf import AARCH64, X86_64, Binary, read_program
from lab.control_plane import PROJECT, Lab
from tests.documents import DOCS, example
from tools.bootstrap import find_go

REFERENCE = "registry.example/app:1.4.0"


def assembled(lab: Lab, folder: Path, repository: str, *changes: tuple[str, str]) -> str:
    """Runs the documented commands in a copy of the example; returns the image's name."""
    image = f"{lab.registry}/{repository}:1.4.0"
    script = example("images.md", "sh", "crane index append")
    for old, new in ((REFERENCE, image), *changes):
        assert script.count(old) == 1, old
        script = script.replace(old, new)
    shutil.copytree(DOCS / "examples" / "go", folder)
    go = find_go().parent
    environment = lab.process_environment()
    done = subprocess.run(
        ["sh", "-eu", "-c", script],
        cwd=folder,
        env={**environment, "PATH": f"{environment['PATH']}{os.pathsep}{go}", "GOFLAGS": "-buildvcs=false"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return image


def audit(lab: Lab, image: str, cache: Path) -> tuple[int, dict[str, Any]]:
    """`archshift audit --deep` of one image: the exit code and the row."""
    done = subprocess.run(
        [
            str(PROJECT / ".venv" / "bin" / "archshift"),
            *("audit", "--deep", "--json", "--no-suggestions", "--plain-http", lab.registry, image),
        ],
        env={**lab.process_environment(), "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    (row,) = json.loads(done.stdout)["images"]
    return done.returncode, row


def test_the_documented_commands_make_an_image_of_both(control_plane: Lab, tmp_path: Path) -> None:
    """Cross-compiled, pushed, proven: the deep audit calls it multi-arch, the programs in it are for
    their architectures, and the one for this machine runs.
    """
    image = assembled(control_plane, tmp_path / "app", "built/app")
    code, row = audit(control_plane, image, tmp_path / "cache")
    assert (code, row["verdict"], row["platforms"]) == (0, "multi-arch", ["linux/amd64", "linux/arm64"]), row
    assert row["reason"] == ""
    for architecture, machine in ((AMD64, X86_64), (ARM64, AARCH64)):
        head = (tmp_path / "app" / "build" / architecture / "app").read_bytes()[:4096]
        assert read_program(head) == Binary(machine), "static: without a loader"
    here = {"x86_64": AMD64, "aarch64": ARM64}[os.uname().machine]
    program = tmp_path / "app" / "build" / here / "app"
    ran = subprocess.run([str(program)], capture_output=True, text=True, check=True)
    assert ran.stdout == f"linux/{here}\n"


@pytest.mark.parametrize(
    ("change", "verdict", "reason"),
    [
        (
            ("GOARCH=$arch", "GOARCH=amd64"),
            "amd64-only",
            "it claims linux/arm64, but /app is a binary for x86-64",
        ),
        (('--set-platform "linux/$arch"', '--set-platform "linux/amd64"'), "amd64-only", ""),
        (("--entrypoint /app", "--entrypoint /other"), "unknown", "/other is not in the image"),
    ],
    ids=["the builder's binary", "one platform twice", "another entrypoint"],
)
def test_what_goes_wrong_in_such_a_build_is_found(
    control_plane: Lab, tmp_path: Path, change: tuple[str, str], verdict: str, reason: str
) -> None:
    """One slip in the same commands, and it is no longer proven to run on arm64."""
    image = assembled(control_plane, tmp_path / "app", f"broken/{tmp_path.name.replace('_', '-')}", change)
    code, row = audit(control_plane, image, tmp_path / "cache")
    assert code != 0
    assert row["verdict"] == verdict, row
    assert reason in row["reason"]
