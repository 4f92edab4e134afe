"""Tries the patches of a plan on the API server before anything changes, as a server-side dry run.

The API server and its admission decide as they will in the update, but store nothing. So one refused patch is
known while planning: its workload stays as it is, and all others move.
"""

import json
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from archshift.cluster.access import Right, is_granted
from archshift.cluster.client import BusyError, Cluster, RefusedError
from archshift.cluster.kinds import CONTROLLERS, workload_path
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.common.redact import Redactor
from archshift.common.text import first_few, one_line
from archshift.plan.model import Plan, PlannedWorkload

PARALLEL: Final = 16
"""How many patches are tried at once."""

TIMEOUT_SECONDS: Final = 60.0
"""For all patches. What is not tried by then is no error: the update itself names what is refused."""

_QUIET_SECONDS: Final = 2.0
_MOST_LETTERS: Final = 300

_TIME_OVER: Final = f"the time for all patches is over ({TIMEOUT_SECONDS:.0f} s)"

_Outcome: TypeAlias = Literal["accepted", "refused", "untried"]

Progress: TypeAlias = Callable[[int, int], None]
"""Called with the number of tried patches and their total."""


def plan_without_refused(
    cluster: Cluster,
    field_manager: str,
    inventory: Inventory,
    make: Callable[[Mapping[str, str]], Plan],
    progress: Progress | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> tuple[Plan, "PatchTrials"]:
    """Make a plan whose patches the API server accepts.

    Without a refused workload, other workloads take its pods' places, so their patches are tried too.

    Args:
        cluster: The connection.
        field_manager: The name for ``managedFields``.
        inventory: The cluster.
        make: Makes the plan without these workloads, whose reasons are the values.
        progress: Called while the trials take longer than two seconds.
        timeout: Seconds for all trials.
    """
    trials = PatchTrials(cluster, field_manager, time.monotonic() + timeout, progress)
    while True:
        plan = make(trials.refused)
        if not trials.run(plan, inventory):
            return plan, trials


@dataclass(slots=True)
class PatchTrials:
    """The outcomes of trying patches.

    Attributes:
        refused: Workload key to the words of the API server.
        untried: Workload key to the reason why its patch was not tried.
    """

    cluster: Cluster
    field_manager: str
    deadline: float
    progress: Progress | None = None
    refused: dict[str, str] = field(default_factory=dict)
    untried: dict[str, str] = field(default_factory=dict)
    _accepted: set[tuple[str, str]] = field(default_factory=set)
    _granted: dict[Right, bool | str] = field(default_factory=dict)

    @property
    def note(self) -> str:
        """What was not tried and why, in one sentence; empty if everything was tried."""
        if not self.untried:
            return ""
        reasons = first_few(sorted(set(self.untried.values())), 3, separator="; ", rest="; {} more reasons")
        count = len(self.untried)
        subject = "1 patch was" if count == 1 else f"{count} patches were"
        return f"{subject} not tried on the API server: {reasons}"

    def run(self, plan: Plan, inventory: Inventory) -> bool:
        """Try the changed patches of a plan; return whether one was refused that was not before."""
        rows = [row for row in plan.workloads if row.patch and _changes(row, inventory)]
        due = [row for row in rows if _identity(row) not in self._accepted]
        self.untried = {}
        known = len(self.refused)
        begun = time.monotonic()
        threads = ThreadPoolExecutor(max_workers=PARALLEL)
        try:
            trials = {threads.submit(self._try, row, self._name(row, inventory)): row for row in due}
            left = set(trials)
            while left and time.monotonic() < self.deadline:
                done, left = wait(left, timeout=min(1.0, max(0.0, self.deadline - time.monotonic())))
                for trial in done:
                    self._note(trials[trial], *trial.result())
                if self.progress and time.monotonic() - begun > _QUIET_SECONDS:
                    self.progress(len(due) - len(left), len(due))
            self.untried |= {trials[trial].key: _TIME_OVER for trial in left}
        finally:
            # A webhook may not answer for half a minute; nobody waits for that.
            threads.shutdown(wait=False, cancel_futures=True)
        return len(self.refused) > known

    def _note(self, row: PlannedWorkload, outcome: _Outcome, why: str) -> None:
        if outcome == "accepted":
            self._accepted.add(_identity(row))
        else:
            (self.refused if outcome == "refused" else self.untried)[row.key] = why

    def _name(self, row: PlannedWorkload, inventory: Inventory) -> str:
        """Return the name to try a patch under: the one that owns the fields now, maybe that of 0.1.0."""
        return inventory.workloads[row.key].template.applied_by or self.field_manager

    def _try(self, row: PlannedWorkload, field_manager: str) -> tuple[_Outcome, str]:
        """Return what became of a patch, and why."""
        body = {**(row.patch or {}), "apiVersion": CONTROLLERS[row.kind].api_version, "kind": row.kind}
        path = workload_path(row.kind, row.namespace, row.name)
        force = row.forced or row.reclaimed
        try:
            if self._granted.get(_right(row)) is False:
                return "untried", _forbids(row.kind)
            self.cluster.apply(path, body, field_manager, force=force, dry_run=True)
        except RefusedError as error:
            if error.status == 403 and not self._may_patch(row):
                return "untried", _forbids(row.kind)
            # Of a webhook that cannot try, only the words say so: the status is that of any invalid request.
            unable = error.status == 401 or "does not support dry run" in error.words
            return ("untried" if unable else "refused"), _words(error.words)
        except BusyError as error:
            # The API server answers 500 if a webhook fails that must not fail.
            return ("refused" if error.status == 500 else "untried"), _words(error.words)
        except ArchshiftError as error:
            return "untried", _words(str(error))
        return "accepted", ""

    def _may_patch(self, row: PlannedWorkload) -> bool:
        """Return whether this user may patch such workloads: a webhook refuses with 403 too."""
        right = _right(row)
        if right not in self._granted:
            self._granted[right] = is_granted(self.cluster, right)
        return self._granted[right] is True


def _changes(row: PlannedWorkload, inventory: Inventory) -> bool:
    """Return whether a patch differs from what this stack applied last."""
    applied = inventory.workloads[row.key].template.applied
    return CONTROLLERS[row.kind].template(row.patch or {}) != applied


def _identity(row: PlannedWorkload) -> tuple[str, str]:
    return row.key, json.dumps([row.patch, row.forced, row.reclaimed], sort_keys=True)


def _right(row: PlannedWorkload) -> Right:
    return Right("patch", CONTROLLERS[row.kind].for_roles, row.namespace)


def _forbids(kind: str) -> str:
    return f"this user may not patch {CONTROLLERS[kind].for_roles}"


def _words(text: str) -> str:
    return Redactor().text(one_line(text, _MOST_LETTERS))
