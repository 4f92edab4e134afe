"""Finds the browser for the tests of the report's page, or installs one.

This module runs in the project's Python environment, which has playwright.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Without a font, the pages show no letters, and texts have the wrong width.
PACKAGES = ("chromium", "fonts-dejavu-core")
OS_RELEASE = Path("/etc/os-release")
MISSING = (
    "The tests of the report's page need a browser, but none was found. Install chromium (Debian: "
    f"apt-get install {' '.join(PACKAGES)}), or run .venv/bin/python -m playwright install --with-deps "
    "chromium."
)


def installed() -> Path | None:
    """A browser on PATH that runs; on Ubuntu, a script of that name may only print what to install."""
    for name in NAMES:
        path = shutil.which(name)
        if path and _succeeds([path, "--version"], timeout=60):
            return Path(path)
    return None


def playwrights_own() -> Path | None:
    """The browser that playwright itself installed, or None."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.exists() else None


def provide() -> bool:
    """Finds a browser, or installs the system's package or playwright's browser; says whether one exists."""
    if installed() or playwrights_own():
        return True
    if _is_root_on_debian():
        _say(f"installing {' and '.join(PACKAGES)} with apt-get")
        apt = ["apt-get", "-qq", "-o", "Dpkg::Use-Pty=0"]
        if _succeeds([*apt, "update"]):
            _succeeds([*apt, "install", "-y", "--no-install-recommends", *PACKAGES])
        if installed():
            return True
    _say("installing the chromium that playwright publishes")
    _succeeds([sys.executable, "-m", "playwright", "install", "chromium"])
    if playwrights_own():
        return True
    _say(MISSING)
    return False


def _is_root_on_debian() -> bool:
    if os.geteuid() != 0 or not shutil.which("apt-get") or not OS_RELEASE.exists():
        return False
    lines = [line.partition("=") for line in OS_RELEASE.read_text().splitlines()]
    families = " ".join(value.strip('"') for key, _, value in lines if key in ("ID", "ID_LIKE")).split()
    return bool({"debian", "ubuntu"} & set(families))


def _succeeds(command: list[str], timeout: float = 900) -> bool:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
