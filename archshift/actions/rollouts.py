"""Follows the rollouts of a step, side by side, until each has ended or makes no progress.

``kubectl rollout status`` decides in the same way: a Deployment fails by its own ``progressDeadlineSeconds``.
StatefulSets and DaemonSets have no deadline, so archshift looks at the progress of their counts. A workload
that was incomplete before the step gets little patience, and never fails the step.
"""

import contextlib
import json
import time
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from archshift.actions.evidence import Evidence
from archshift.actions.rebalance import rebalance
from archshift.actions.rollout_limits import NO_DEADLINE, RolloutLimits, little_patience
from archshift.actions.sides import broken_on_graviton, read_nodes
from archshift.cluster.client import Cluster
from archshift.cluster.kinds import CONTROLLERS, RolloutCounts
from archshift.cluster.model import Inventory
from archshift.cluster.owned_pods import pods_of
from archshift.cluster.pod_fields import revision_of
from archshift.cluster.pods import Pod
from archshift.cluster.troubles import words_of
from archshift.common.errors import ArchshiftError
from archshift.common.polling import retry_until
from archshift.common.text import first_few
from archshift.nodes.groups import Node
from archshift.plan.model import PlannedWorkload

JOIN_SECONDS: Final = 20.0
"""How long the nodes of an update may take to join the cluster after the engine has created them."""

_SHORTEST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
_PAUSE_PER_LOOK: Final = 4.0
"""The least pause, in durations of the look before it: archshift looks at a large fleet less often."""

_REFUSED_SECONDS: Final = 60.0
"""How long a rollout may stand still while the API server refuses its pods. New nodes do not help it."""

_WORKERS: Final = 8

BringUpNodes: TypeAlias = Callable[[Cluster, Sequence[PlannedWorkload]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepResult:
    """How the rollouts of a step ended: the key of a workload to a reason.

    Attributes:
        failures: How this step brought a workload into trouble. They fail the update.
        notes: Why the update did not wait for the end of a rollout.
        inexact: Why the counts of a workload do not match the plan.
    """

    failures: Mapping[str, str] = field(default_factory=dict)
    notes: Mapping[str, str] = field(default_factory=dict)
    inexact: Mapping[str, str] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What a person should know although the update succeeds, a sentence each."""
        parts = (("not waited for", self.notes), ("not exact yet", self.inexact))
        return [f"{what}: {_listed(reasons)}" for what, reasons in parts if reasons]

    @property
    def error(self) -> str:
        """A sentence about the failures; empty if there are none."""
        if not self.failures:
            return ""
        return (
            f"the step is not complete: {_listed(self.failures)}; repair them or set arm_ratio back, then "
            "run pulumi up again (docs/runbook.md#when-a-rollout-is-stuck)"
        )


def _listed(reasons: Mapping[str, str]) -> str:
    return first_few(sorted(reasons.items()), name=": ".join, separator="; ", rest="; {} more")


def planned_revision(row: PlannedWorkload) -> str:
    """Return the revision that a row's patch writes into the pod template; empty without a patch."""
    return revision_of(CONTROLLERS[row.kind].template(row.patch)) if row.patch else ""


def incomplete_workloads(inventory: Inventory) -> frozenset[str]:
    """Return the keys of workloads that lack an available pod or have a rollout in progress."""
    return frozenset(key for key, workload in inventory.workloads.items() if not workload.settled)


def finish_step(
    cluster: Cluster,
    rows: Sequence[PlannedWorkload],
    *,
    incomplete: Container[str] = (),
    limits: RolloutLimits,
    bring_up_nodes: BringUpNodes | None = None,
    patience: float = 0.0,
    nodes_before: Sequence[Node] | None = None,
    stack_label: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> StepResult:
    """Follow rollouts to their ends, then move the pods that are still on the wrong side.

    Args:
        cluster: The connection.
        rows: The workloads that this update rolled out, and no others.
        incomplete: The keys of workloads that were incomplete before the step.
        limits: How long to wait.
        bring_up_nodes: Brings up nodes for these workloads' pods; None if the nodes exist.
        patience: How long to wait for another node if a side is full, in seconds.
        nodes_before: The nodes before the step; None if they are those of now.
        stack_label: The stack, to keep the evidence of pods that do not run on Graviton; empty to keep none.
        say: Called with the progress.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    rollouts = follow_rollouts(cluster, rows, incomplete=incomplete, limits=limits, say=say)
    complete = [rollout for rollout in rollouts if rollout.end == "complete"]
    # With an entry, new pods are placed at admission, and ``move_pods`` moves the others.
    movable = [rollout.row for rollout in complete if rollout.row.movable and not rollout.row.entry]
    failures = {}
    if bring_up_nodes and movable:
        try:
            bring_up_nodes(cluster, movable)
        except ArchshiftError as error:
            failures["new nodes"] = str(error)
    inexact = rebalance(cluster, movable, patience=patience, nodes_before=nodes_before)
    # A container may crash some time after it was ready.
    _look_at_all(cluster, complete, limits, 0.0)
    failures |= {rollout.row.key: crash for rollout in complete if (crash := rollout.crash(cluster))}
    failures |= {r.row.key: r.explained(cluster) for r in rollouts if r.end == "failure"}
    if stack_label:
        _keep_evidence(cluster, stack_label, [r for r in rollouts if r.row.key in failures])
    # What became of a workload after its rollout was complete is not the step's business.
    notes = {r.row.key: r.explained(cluster) for r in rollouts if r.end == "note" and r not in complete}
    return StepResult(failures=failures, notes=notes, inexact=inexact)


def _keep_evidence(cluster: Cluster, stack_label: str, failed: Sequence["Rollout"]) -> None:
    """Keep why new pods do not run on Graviton. Without it, the next update would only try again."""
    if not failed:
        return
    kept = Evidence(cluster, stack_label, [rollout.row for rollout in failed])
    with contextlib.suppress(ArchshiftError):
        nodes = read_nodes(cluster)
        for rollout in failed:
            if pod := broken_on_graviton(rollout.pods(cluster), nodes, moved=True):
                kept.keep(rollout.row, pod)


def follow_rollouts(
    cluster: Cluster,
    rows: Iterable[PlannedWorkload],
    *,
    incomplete: Container[str] = (),
    limits: RolloutLimits,
    say: Callable[[str], None] = lambda _: None,
) -> list["Rollout"]:
    """Look at the workloads until each rollout has ended; same arguments and errors as ``finish_step``."""
    rollouts = [Rollout(row, incomplete=row.key in incomplete, limits=limits) for row in rows]
    begun, pause, slept, said = time.monotonic(), _SHORTEST_PAUSE, 0.0, -1
    others = [rollout for rollout in rollouts if rollout.row.key not in incomplete]
    while going := [rollout for rollout in rollouts if not rollout.end]:
        looking = time.monotonic()
        moved = _look_at_all(cluster, going, limits, slept)
        now = time.monotonic()
        ended = all(rollout.end for rollout in others)
        patience = little_patience(now - begun, delays_others=bool(others) and ended)
        for rollout in going:
            rollout.judge(others_move=moved, little_patience=patience)
        if now - begun > limits.longest:
            for rollout in going:
                rollout.give_up(limits.longest)
        going = [rollout for rollout in going if not rollout.end]
        done = len(rollouts) - len(going)
        if going and done != said:
            named = first_few([rollout.row.key for rollout in going], 2)
            say(f"{done} of {len(rollouts)} rollouts have ended; waiting for {named}")
            said = done
        if going:
            # Not longer than until the next one is given up, or the step would end later than it could.
            next_end = min(rollout.idle_left(patience) for rollout in going)
            slept = max(_SHORTEST_PAUSE, min(next_end, max(pause, _PAUSE_PER_LOOK * (now - looking))))
            pause = _SHORTEST_PAUSE if moved else min(2 * pause, _LONGEST_PAUSE)
            time.sleep(slept)
    return rollouts


def _look_at_all(
    cluster: Cluster, rollouts: Sequence["Rollout"], limits: RolloutLimits, slept: float
) -> bool:
    """Look at each rollout, with one list for each kind and namespace; return whether one made progress."""
    collections: dict[str, list[Rollout]] = {}
    for rollout in rollouts:
        row = rollout.row
        collections.setdefault(CONTROLLERS[row.kind].collection(row.namespace), []).append(rollout)

    def items(collection: str) -> dict[str, Mapping[str, Any]]:
        wanted = {rollout.row.name for rollout in collections[collection]}
        return {
            item["metadata"]["name"]: item
            for item in cluster.list(collection)
            if item["metadata"]["name"] in wanted
        }

    # The rollouts go on without us, so a lost connection is no reason to give up.
    deadline = time.monotonic() + limits.no_progress
    with ThreadPoolExecutor(max_workers=_WORKERS) as threads:
        live = threads.map(lambda collection: retry_until(partial(items, collection), deadline), collections)
        found = dict(zip(collections, live, strict=True))
    moved = False
    for collection, members in collections.items():
        for rollout in members:
            moved |= rollout.look(found[collection].get(rollout.row.name), slept)
    return moved


class Rollout:
    """One rollout, as the looks at its workload show it.

    Attributes:
        row: The workload.
        end: How it ended; empty while it goes on. A ``failure`` is this step's fault, and a ``note`` is not.
    """

    def __init__(self, row: PlannedWorkload, *, incomplete: bool, limits: RolloutLimits) -> None:
        self.row = row
        self.end: Literal["", "complete", "note", "failure"] = ""
        self._incomplete = incomplete
        self._no_progress = limits.no_progress
        self._revision = planned_revision(row)
        self._why = ""
        self._words: str | None = None
        self._live: Mapping[str, Any] = {}
        self._template = ""
        self._changed_by_others = False
        self._counts: RolloutCounts | None = None
        self._best: tuple[int, ...] = ()
        self._idle = 0.0

    def look(self, live: Mapping[str, Any] | None, slept: float) -> bool:
        """Look at the workload, and return whether its rollout made progress.

        Args:
            live: The workload; None if it does not exist.
            slept: The pause since the last look, in seconds.
        """
        if live is None:
            return self._ends("note", "it was deleted during the step")
        self._live, record = live, CONTROLLERS[self.row.kind]
        template, counts = record.template(live), record.counts(live)
        if revision_of(template) != self._revision:
            return self._ends("note", "another client replaced its pod template during the step")
        if counts is None or counts.complete:
            return self._ends("complete")
        if halted := record.halted(live["spec"]):
            return self._ends("note", halted)
        self._counts = counts
        return self._measure(json.dumps(template, sort_keys=True), counts, slept)

    def judge(self, *, others_move: bool, little_patience: float) -> None:
        """End the rollout if it stands still.

        Args:
            others_move: The last look showed progress of any rollout. Then the scheduler may still come to
                the pods of a workload that was incomplete before the step, and the update waits anyway.
            little_patience: How long such a workload may stand still, in seconds.
        """
        if self.end or self._counts is None:
            return
        if self._incomplete and others_move:
            self._idle = 0.0
        record = CONTROLLERS[self.row.kind]
        words = record.stuck(self._live)
        if not words and self._idle > _REFUSED_SECONDS:
            words = record.refused(self._live)
        if words or self.idle_left(little_patience) < 0:
            self._stands_still(self._counts, words)

    def idle_left(self, little_patience: float) -> float:
        """Return how long it may still stand still, in seconds; the argument is as in ``judge``."""
        return self._patience(self._live["spec"], little_patience) - self._idle

    def give_up(self, seconds: float) -> None:
        """End a rollout that makes progress, because the update has waited long enough."""
        if not self.end:
            self._ends("note", f"its rollout was still in progress after {seconds:.0f} s")

    def explained(self, cluster: Cluster) -> str:
        """Return why it ended, with the words of the scheduler, of a container or of its controller.

        Raises:
            ArchshiftError: The cluster cannot be read.
        """
        if self._words is None:
            return self._why
        words = words_of(pods_of(cluster, self.row.kind, self._live)) or self._words
        return f"{self._why} ({words})" if words else self._why

    def pods(self, cluster: Cluster) -> list[Pod]:
        """Return its pods of all revisions.

        Raises:
            ArchshiftError: The cluster cannot be read.
        """
        return pods_of(cluster, self.row.kind, self._live) if self._live else []

    def crash(self, cluster: Cluster) -> str:
        """Return why a pod of a complete rollout does not run any more; empty if all run or start.

        Raises:
            ArchshiftError: The cluster cannot be read.
        """
        record = CONTROLLERS[self.row.kind]
        if self.end != "complete" or self._incomplete or record.settled(self._live):
            return ""
        pods = [pod for pod in pods_of(cluster, self.row.kind, self._live) if pod.failing]
        return f"{len(pods)} of its new pods stopped ({words_of(pods)})" if pods else ""

    def _measure(self, template: str, counts: RolloutCounts, slept: float) -> bool:
        if template != self._template:
            # Another client's change begins another rollout, which is not this step's fault.
            self._changed_by_others = bool(self._template)
            self._template, self._best = template, ()
        # A workload that somebody scales begins anew, so the wanted number is a part.
        score = (counts.wanted, *counts.score)
        moved = not self._best or score[0] != self._best[0] or score > self._best
        self._best, self._idle = (score, 0.0) if moved else (self._best, self._idle + slept)
        return moved

    def _patience(self, spec: Mapping[str, Any], little_patience: float) -> float:
        if self._incomplete:
            return min(little_patience, self._no_progress)
        deadline = int(spec.get("progressDeadlineSeconds") or 0)
        return max(self._no_progress, deadline if deadline < NO_DEADLINE else 0)

    def _stands_still(self, counts: RolloutCounts, words: str) -> None:
        self._words = words
        if self._incomplete:
            self._ends("note", f"it was incomplete before the step and stands still: {counts}")
        elif self._changed_by_others:
            self._ends("note", f"another client changed it during the step, and it stands still: {counts}")
        else:
            self._ends("failure", f"its rollout makes no progress: {counts}")

    def _ends(self, end: Literal["complete", "note", "failure"], why: str = "") -> bool:
        self.end, self._why = end, why
        return True
