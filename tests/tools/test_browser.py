"""Where the browser of the tests comes from, with stand-ins for apt-get and playwright."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tools import browser

_WORKS = "#!/bin/sh\necho Chromium 150\n"


class Host:
    """A machine whose PATH has only what a test puts there."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin = root / "bin"
        self.bin.mkdir()
        self.log = root / "log"
        self.own = root / "playwrights-chromium"
        self.release = root / "os-release"
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(sys, "executable", str(self.bin / "python"))
        monkeypatch.setattr(browser, "OS_RELEASE", self.release)
        monkeypatch.setattr(browser, "playwrights_own", lambda: self.own if self.own.exists() else None)

    def install(self, name: str, script: str) -> None:
        path = self.bin / name
        path.write_text(script)
        path.chmod(0o755)

    def records(self, name: str, then: str = "") -> None:
        """Puts a program there that writes down how it was called."""
        self.install(name, f'#!/bin/sh\necho "{name} $@" >> {self.log}\n{then}\n')

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    host = Host(tmp_path, monkeypatch)
    host.records("python", "exit 1")
    return host


def test_one_on_path_is_enough(host: Host) -> None:
    host.install("google-chrome", _WORKS)
    assert browser.provide()
    assert host.calls() == []


def test_one_that_does_not_run_is_not_taken(host: Host) -> None:
    """Ubuntu's chromium-browser outside of a snap."""
    host.install("chromium", "#!/bin/sh\necho 'install the snap' >&2\nexit 1\n")
    assert browser.installed() is None


@pytest.mark.parametrize(
    "release", ["ID=debian\n", 'ID=ubuntu\nID_LIKE="debian"\n', "ID=x\nID_LIKE='a debian'"]
)
def test_root_on_debian_gets_the_systems_package(host: Host, release: str) -> None:
    host.release.write_text(release.replace("'", '"'))
    made = host.bin / "chromium"
    host.records("apt-get", f"[ $4 = update ] || {{ echo '#!/bin/sh' > {made}; /bin/chmod 755 {made}; }}")
    assert browser.provide()
    assert [call.split()[4] for call in host.calls()] == ["update", "install"]
    assert host.calls()[1].endswith("install -y --no-install-recommends chromium fonts-dejavu-core")


def test_apt_get_of_another_system_is_left_alone(host: Host) -> None:
    host.release.write_text("ID=altlinux\n")
    host.records("apt-get")
    assert not browser.provide()
    assert host.calls() == ["python -m playwright install chromium"]


def test_anybody_else_gets_playwrights(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    host.release.write_text("ID=debian\n")
    host.records("apt-get")
    host.records("python", f"echo > {host.own}")
    assert browser.provide()
    assert host.calls() == ["python -m playwright install chromium"]


def test_playwrights_comes_also_where_the_package_is_none(host: Host) -> None:
    host.release.write_text("ID=ubuntu\n")
    host.records("apt-get")
    host.records("python", f"echo > {host.own}")
    assert browser.provide()
    assert [call.split()[0] for call in host.calls()] == ["apt-get", "apt-get", "python"]


@pytest.mark.usefixtures("host")
def test_without_any_it_is_said_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert not browser.provide()
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == browser.MISSING
    assert "apt-get install chromium fonts-dejavu-core" in browser.MISSING
