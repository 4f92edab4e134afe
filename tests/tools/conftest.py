"""Machines for the tests of finding, downloading and building programs."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.images.servers import Authority
from tests.tools.file_server import FileServer
from tests.tools.machine import GO, Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Nothing is installed."""
    return Machine(tmp_path)


@pytest.fixture
def with_go(machine: Machine) -> Machine:
    """Go alone is installed."""
    machine.install("go", GO)
    return machine


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signed the servers' certificate."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def server(authority: Authority) -> Iterator[FileServer]:
    server = FileServer(authority)
    yield server
    server.stop()


@pytest.fixture
def another(authority: Authority) -> Iterator[FileServer]:
    """A second one: another host, as far as names go."""
    server = FileServer(authority)
    yield server
    server.stop()
