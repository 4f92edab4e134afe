"""What holds for every test."""

import signal

import pytest

from archshift.settings.stack import REGISTRIES_FILE

pytest_plugins = ["tests.slowest"]


def pytest_configure() -> None:
    """Being terminated ends as any other end does: the labs' servers would outlive these processes."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))


@pytest.fixture(autouse=True)
def _no_registries_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the same inside `make lab-shell`, which names the lab's registry to archshift."""
    monkeypatch.delenv(REGISTRIES_FILE, raising=False)
