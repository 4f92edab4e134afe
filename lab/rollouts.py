"""How long rollouts take, as the API server tells it while they go on."""

from __future__ import annotations

import contextlib
import os
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
    """Watches the workloads' rollouts while it is entered.

    The engine's own times are not these: a patch is made, and the engine goes on, before the last
    pod is there (docs/adr/0010).
    """

    def __init__(self, lab: Lab) -> None:
        os.environ["KUBECONFIG"] = str(lab.kubeconfig)
        self.seconds: dict[str, float] = {}
        """Workload to seconds from its change to the last of its pods."""
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
        with connect(CONTEXT) as cluster:
            while True:
                # One look after the end too, for the rollout that was over last.
                last = self._over.wait(_PAUSE_SECONDS)
                # A look that fails makes a time less exact, no more.
                with contextlib.suppress(ArchshiftError):
                    self._look(cluster)
                if last:
                    return

    def _look(self, cluster: Cluster) -> None:
        now = time.monotonic()
        for kind, (path, _) in CONTROLLERS.items():
            for item in cluster.list(path.format("")) if kind != "CronJob" else ():
                workload = read_workload(kind, item, "")
                seen, self._seen[workload.key] = self._seen.get(workload.key), (workload.identity, now)
                if seen and seen[0] != workload.identity:
                    # Since the look before: a quick rollout may be over already.
                    self._since.setdefault(workload.key, seen[1])
                if workload.settled and workload.key in self._since:
                    taken = now - self._since.pop(workload.key)
                    self.seconds[workload.key] = self.seconds.get(workload.key, 0.0) + taken
