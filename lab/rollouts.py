"""Measures how long rollouts take, with the status in the API server."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType

from archshift.cluster.client import Cluster, connect
from archshift.cluster.inventory import read_workload
from archshift.cluster.kinds import CONTROLLERS
from archshift.common.errors import ArchshiftError
from lab.control_plane import CONTEXT, Lab

_PAUSE_SECONDS = 0.3


class Rollouts:
    """A context manager that watches the workloads' rollouts.

    The engine's own times are shorter: the engine continues after each patch, before the last pod is ready
    (docs/adr/0010).
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self.seconds: dict[str, float] = {}
        """Workload to the seconds from its change until its last pod was ready."""
        self._since: dict[str, float] = {}
        self._seen: dict[str, tuple[str, float]] = {}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="rollouts", daemon=True)

    def __enter__(self) -> Rollouts:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _follow(self) -> None:
        with connect(CONTEXT, self._lab.kubeconfig) as cluster:
            while True:
                # Read once more after the end, for the last rollout.
                last = self._over.wait(_PAUSE_SECONDS)
                # A failed reading only makes a time less exact.
                with contextlib.suppress(ArchshiftError):
                    self._read(cluster)
                if last:
                    return

    def _read(self, cluster: Cluster) -> None:
        now = time.monotonic()
        for kind, record in CONTROLLERS.items():
            for item in cluster.list(record.collection()) if record.pods != "jobs" else ():
                workload = read_workload(kind, item, "")
                seen, self._seen[workload.key] = self._seen.get(workload.key), (workload.identity, now)
                if seen and seen[0] != workload.identity:
                    # Count from the previous reading, because a quick rollout may be over already.
                    self._since.setdefault(workload.key, seen[1])
                if workload.settled and workload.key in self._since:
                    taken = now - self._since.pop(workload.key)
                    self.seconds[workload.key] = self.seconds.get(workload.key, 0.0) + taken
