"""Where the Python environment's uv comes from."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import python_env
from tools.bootstrap import BootstrapError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, and an empty cache."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def _install(path: Path, answer: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


def test_a_recent_one_on_path_is_used(folder: Path) -> None:
    installed = _install(folder / "uv", "uv 0.13.9 (x86_64-unknown-linux-gnu)")
    assert python_env.find_uv() == installed


def test_an_old_one_on_path_is_not(folder: Path) -> None:
    _install(folder / "uv", "uv 0.4.2")
    private = folder / "cache" / "archshift" / f"uv-{python_env.PINNED_UV}" / "bin" / "uv"
    _install(private, f"uv {python_env.PINNED_UV}")
    assert python_env.find_uv() == private


def test_one_sentence_says_what_to_do_when_it_cannot_be_installed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A Python without the venv module, as Debian's is at first.
    monkeypatch.setattr(sys, "executable", str(folder / "no-such-python"))
    with pytest.raises(BootstrapError, match=r"needs uv 0\.8 or newer.*python3-venv"):
        python_env.find_uv()
    assert not list((folder / "cache" / "archshift").glob("uv-*"))
