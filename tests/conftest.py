"""What holds for every test."""

import pytest

from settings import REGISTRIES_FILE


@pytest.fixture(autouse=True)
def _no_registries_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the same inside `make lab-shell`, which names the lab's registry to archshift."""
    monkeypatch.delenv(REGISTRIES_FILE, raising=False)
