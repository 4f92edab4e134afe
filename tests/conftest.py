"""What holds for every test, and the fixtures that several folders share."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from archshift import survey
from archshift.cli.main import main
from archshift.common.errors import ArchshiftError
from archshift.settings.stack import REGISTRIES_FILE
from tests.build import shop
from tests.fakes import FakeCluster, FakePulumi, Run, proven
from tests.images.build import Pusher
from tests.images.servers import Authority, Registry, Server

pytest_plugins = ["tests.slowest"]

# No deadline: a slow machine is not a wrong program.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that run a lab: they take minutes each, and the short ones fill the rest."""
    items.sort(key=lambda item: item.path.parent.name != "lab")


def pytest_configure() -> None:
    """Being terminated ends as any other end does: the labs' servers would outlive these processes."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))


@pytest.fixture(autouse=True)
def _no_registries_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the same inside `make lab-shell`, which names the lab's registry to archshift."""
    monkeypatch.delenv(REGISTRIES_FILE, raising=False)


# --- registries and servers: one process each for the whole run ----------------------------------


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A real registry without login."""
    running = Registry(tmp_path_factory.mktemp("registry"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def push(registry: Registry) -> Pusher:
    """Pushes to the registry without login."""
    return Pusher(registry.base)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """A certificate authority of the tests."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def servers() -> Iterator[Callable[[str], Server]]:
    """Make servers of the tests' own; each forwards what it has no rule for to an upstream."""
    running: list[Server] = []

    def make(upstream: str = "") -> Server:
        running.append(Server(upstream))
        return running[-1]

    yield make
    for server in running:
        server.stop()


# --- the command line ----------------------------------------------------------------------------


@pytest.fixture
def pulumi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePulumi:
    """A fake ``pulumi``, first on PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_PULUMI", str(folder / "answers.json"))
    monkeypatch.delenv("PULUMI_STACK", raising=False)
    return FakePulumi(folder)


@pytest.fixture
def run(pulumi: FakePulumi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command against a fake cluster; exit code, standard output, standard error."""
    del pulumi  # only has to be there

    def go(*arguments: str, cluster: FakeCluster | ArchshiftError | None = None) -> tuple[int, str, str]:
        def connect(_context: str | None = None) -> FakeCluster:
            if isinstance(cluster, ArchshiftError):
                raise cluster
            return cluster or shop()

        monkeypatch.setattr(survey, "connect", connect)
        monkeypatch.setattr(survey, "read_evidence", proven)
        monkeypatch.setenv("COLUMNS", "200")
        code = main(arguments)
        out, err = capsys.readouterr()
        return code, out, err

    return go
