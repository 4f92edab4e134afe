"""One control plane for all lab tests, and an empty cluster and a stack for each."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.control_plane import Lab
from tests.lab.lab_helpers import Cluster, Stack


@pytest.fixture(scope="session")
def control_plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A running lab in a temporary folder."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.start(print)
    yield lab
    lab.stop()


@pytest.fixture
def own_cache(control_plane: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No evidence of another test or of the user's own runs."""
    environment = {**control_plane.process_environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    monkeypatch.setattr(control_plane, "process_environment", lambda: environment)


@pytest.fixture
def cluster(control_plane: Lab) -> Iterator[Cluster]:
    """The control plane's cluster, without nodes and workloads; emptied again afterwards."""
    control_plane.start()  # a test may have ended one of its servers
    cluster = Cluster(control_plane)
    yield cluster
    control_plane.start()
    cluster.clear()
    cluster.close()


@pytest.fixture
def namespace(cluster: Cluster) -> str:
    """A namespace that no other test uses."""
    return cluster.namespace(f"shop-{uuid.uuid4().hex[:8]}")


@pytest.fixture
def stack(cluster: Cluster, tmp_path: Path) -> Iterator[Stack]:
    """A stack of the checkout's program that no other test uses; forgotten afterwards."""
    stack = Stack(cluster.lab, tmp_path / "stack", f"test-{uuid.uuid4().hex[:8]}")
    yield stack
    stack.remove()
