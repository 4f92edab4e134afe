"""Moves pods to their sides, workloads side by side, each within its own limits.

A look reads each namespace once for all workloads. Then each workload evicts what its limits allow now. A
workload whose limits let no pod be away is rolled out instead. All state is in the cluster, so that the next
update goes on where one was interrupted.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from typing import Any, Final, Literal, TypeAlias

from archshift.actions.rollout_limits import NO_DEADLINE, little_patience
from archshift.actions.sides import (
    Surplus,
    broken_on_graviton,
    fullest_first,
    images_of,
    open_nodes,
    read_nodes,
    side_of,
    surplus_of,
)
from archshift.cluster.budgets import BUDGETS, read_budget, what_never_lets_go
from archshift.cluster.client import MERGE, Cluster, RefusedError
from archshift.cluster.entries import ALL_ON_X86, PLACED_ANNOTATION
from archshift.cluster.kinds import CONTROLLERS, WorkloadKind, workload_path
from archshift.cluster.live_placement import SEEN_SECONDS
from archshift.cluster.pods import Pod, list_running, read_pod
from archshift.cluster.troubles import words_of
from archshift.common.architectures import AMD64, ARM64, display, opposite
from archshift.common.errors import ArchshiftError, UnavailableError
from archshift.common.polling import Polling, retry_until
from archshift.common.text import counted, first_few
from archshift.common.times import zoned_time
from archshift.nodes.groups import Node
from archshift.plan.deletion_costs import Proportion, next_ordinals
from archshift.plan.model import PlannedWorkload

RESTARTED_ANNOTATION: Final = "kubectl.kubernetes.io/restartedAt"
"""On a pod template: the time of its last ``kubectl rollout restart``."""

_AWAY_SHARE: Final = 4
"""Of a workload whose kind has no limits that archshift knows, one pod in so many may be away."""

_MOST_STALE: Final = 4
"""After so many successors in a row that its entry did not place, nothing places pods by entries."""

_UNSURE_SECONDS: Final = 2.0
"""How long to wait after an eviction without an answer: it may have happened."""

_WORKERS: Final = 8
_SHORTEST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0

End: TypeAlias = Literal["", "right", "inexact", "note", "failure"]


@dataclass(frozen=True, slots=True)
class Reading:
    """The workloads of a step at one moment.

    Attributes:
        nodes: All nodes by name.
        live: The key of a workload of a known kind to the object.
        pods: Key to its pods that have not ended.
        problems: Key to why it could not be read.
    """

    nodes: Mapping[str, Node] = field(default_factory=dict)
    live: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    pods: Mapping[str, Sequence[Pod]] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)


class Reader:
    """Reads workloads again and again, with one list for each kind and namespace and one for its pods."""

    def __init__(self, cluster: Cluster, threads: Executor | None = None) -> None:
        """Read from a cluster.

        Args:
            cluster: The connection.
            threads: Reads several lists at once; None for one after another.
        """
        self._cluster = cluster
        self._run: Callable[..., Iterable[Any]] = threads.map if threads else map
        self._known: dict[str, tuple[str, Pod]] = {}

    def read(self, rows: Iterable[PlannedWorkload], deadline: float) -> Reading:
        """Read workloads.

        Args:
            rows: The workloads.
            deadline: Until when to ask again if there is no answer, of ``time.monotonic()``.

        Raises:
            ArchshiftError: The cluster cannot be reached, or its nodes cannot be read.
        """
        by_key = {row.key: row for row in rows}
        namespaces: dict[str, list[str]] = {}
        collections: dict[str, list[str]] = {}
        for key, row in by_key.items():
            namespaces.setdefault(row.namespace, []).append(key)
            if row.kind in CONTROLLERS:
                collections.setdefault(CONTROLLERS[row.kind].collection(row.namespace), []).append(key)
        live: dict[str, Mapping[str, Any]] = {}
        pods: dict[str, list[Pod]] = {}
        problems: dict[str, str] = {}

        def read_objects(collection: str) -> None:
            wanted = {by_key[key].name: key for key in collections[collection]}
            for item in retry_until(lambda: [*self._cluster.list(collection)], deadline):
                if key := wanted.get(item["metadata"]["name"]):
                    live[key] = item

        def read_pods(namespace: str) -> None:
            for pod in retry_until(lambda: self._pods(namespace), deadline):
                if pod.workload in by_key:
                    pods.setdefault(pod.workload, []).append(pod)

        def read(part: tuple[Callable[[str], None], str, list[str]]) -> None:
            ask, where, keys = part
            try:
                ask(where)
            except UnavailableError:
                raise
            except ArchshiftError as error:
                # Whoever may not read a namespace can still move the pods of all others.
                problems.update(dict.fromkeys(keys, str(error)))

        parts = [
            *((read_objects, where, keys) for where, keys in collections.items()),
            *((read_pods, where, keys) for where, keys in namespaces.items()),
        ]
        list(self._run(read, parts))
        # The nodes last: a pod's node may have joined a moment ago.
        nodes = retry_until(partial(read_nodes, self._cluster), deadline)
        return Reading(nodes, live, pods, problems)

    def _pods(self, namespace: str) -> list[Pod]:
        found = []
        for item in list_running(self._cluster, namespace):
            uid, version = (item["metadata"].get(name, "") for name in ("uid", "resourceVersion"))
            # Most pods have not changed since the last look, and to read one takes longer than its list.
            known, pod = self._known.get(uid, ("", None))
            if pod is None or known != version:
                pod = read_pod(item)
            if version:
                self._known[uid] = version, pod
            found.append(pod)
        return found


class Allowance:
    """How many pods may be evicted in all."""

    def __init__(self, most: int | None = None, holds: Callable[[], bool] = lambda: True) -> None:
        """Allow ``most`` evictions, None for any number, as long as nobody else moves pods of the stack."""
        self.holds = holds
        self._lock = threading.Lock()
        self._most = most
        self.taken = 0
        """The number of evictions so far."""

    def take(self, number: int = 1) -> bool:
        """Count evictions, if so many more are allowed."""
        with self._lock:
            if not self.holds():
                return False
            if self._most is not None and self.taken + number > self._most:
                return False
            self.taken += number
            return True

    def give_back(self) -> None:
        """Count one eviction less, because it was refused."""
        with self._lock:
            self.taken -= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRules:
    """How workloads move.

    Attributes:
        no_progress: How long one may stand still, in seconds.
        after_rollout: They were all rolled out a moment ago. Then their images are proven, and the time
            counts from the last progress of any of them.
        patience: How long to wait for another node if a side is full, in seconds.
        canary_seconds: How long the first pod on Graviton must be ready.
        restart_as: The field manager of restarts; empty to restart nothing.
        go_back: Called once with a workload and its pod that does not run on Graviton, so that its next pods
            start on x86. Returns why that is not possible; empty if it is.
        allowance: How many pods may be evicted; None for any number.
    """

    no_progress: float
    after_rollout: bool = False
    patience: float = 0.0
    canary_seconds: float = 0.0
    restart_as: str = ""
    go_back: Callable[[PlannedWorkload, Pod], str] | None = None
    allowance: Allowance | None = None


class Move:
    """One workload whose pods go to their sides.

    Attributes:
        row: The workload; once it goes back to x86, with that as its plan.
        rules: How it moves.
        incomplete: Whether it was incomplete before the step.
        end: How it ended; empty while it goes on. ``inexact``: some pods cannot be where they belong.
            A ``failure`` is this step's fault, and a ``note`` is not.
        why: The reason; empty if its pods are right.
        vain: Pods that an eviction did not bring to the other side.
        final: Another try would end the same.
        limited: Its limits let no pod be away, so no eviction showed whether the other side has room now.
        live: The object, as it was last read.
        pods: Its pods, as they were last read.
        broken: Its pod that does not run on Graviton; None if there is none.
    """

    def __init__(self, row: PlannedWorkload, rules: MoveRules, *, incomplete: bool = False) -> None:
        self.row = row
        self.end: End = ""
        self.why = ""
        self.vain: list[Pod] = []
        self.final = False
        self.limited = False
        self.live: Mapping[str, Any] = {}
        self.pods: list[Pod] = []
        self.broken: Pod | None = None
        self.to_move: int | None = None
        self.left = 0
        self.rules = rules
        self.incomplete = incomplete
        self._record: WorkloadKind | None = CONTROLLERS.get(row.kind)
        self._replicas = row.replicas
        self._min_ready = 0.0
        self._steady = True
        self._touched = False
        self._restarted = False
        self._refused = False
        self._asked_budgets = False
        self._moved_at: float | None = None
        self._not_before = 0.0
        self._tries_again_at = 0.0
        self._patient_until = 0.0
        self._count: int | None = None
        self._ready: dict[str, float] = {}
        self._first: frozenset[str] = frozenset()
        self._ready_before = 0
        self._landed: set[str] = set()
        self._events: set[tuple[str, str]] = set()
        self._awaited = 0
        self._stale = 0
        self._strandings = 0
        self._landed_wrong = False
        self._mark = 0
        self._tried: frozenset[str] = frozenset()

    def step(self, cluster: Cluster, reading: Reading, now: float) -> bool:
        """Evict what the limits allow now; return whether something has changed since the last look.

        Args:
            cluster: The connection.
            reading: The workloads now.
            now: When they were read, of ``time.monotonic()``.
        """
        if self._moved_at is None:
            self._moved_at = now
        try:
            moved = self._step(cluster, reading, now)
        except UnavailableError:
            # What was asked for may have happened; the next look shows it.
            self._not_before, moved = now + _UNSURE_SECONDS, False
        except ArchshiftError as error:
            if isinstance(error, RefusedError) and error.namespace_ends:
                moved = self._ends("note", "its namespace is being deleted")
            else:
                # archshift may not evict its pods, or may not change it. Others go on.
                moved = self._ends("inexact", str(error))
        if moved:
            self._moved_at = now
        return moved

    def judge(self, now: float, *, others_move: bool, little_patience: float) -> None:
        """Give it up if it stands still.

        Args:
            now: The time of the last look, of ``time.monotonic()``.
            others_move: That look showed a change of any workload.
            little_patience: How long one may stand still that was incomplete before, in seconds.
        """
        if others_move and (self.incomplete or self.rules.after_rollout):
            self._moved_at = now
        # It waits for the API server to see the entry, or for a node.
        if self.end or self._moved_at in (None, now) or now < max(self._tries_again_at, self._patient_until):
            return
        if now - self._moved_at >= self._patience(little_patience):
            self._give_up()

    def stop(self, seconds: float) -> None:
        """End it although it makes progress, because the update has waited long enough."""
        if not self.end:
            self._ends("note", f"{self.left} of its pods still had to move after {seconds:.0f} s")

    # --- one look -----------------------------------------------------------------------------

    def _step(self, cluster: Cluster, reading: Reading, now: float) -> bool:
        key, record, nodes = self.row.key, self._record, reading.nodes
        if key in reading.problems:
            return self._ends("inexact", reading.problems[key])
        live = reading.live.get(key)
        if record and live is None:
            return self._ends("note", "it was deleted during the step")
        self.live = live or {}
        self.pods = [pod for pod in reading.pods.get(key, ()) if not pod.leaving]
        spec = self.live.get("spec") or {}
        self._replicas = record.replicas(spec) if record else self.row.replicas
        self._min_ready = float(spec.get("minReadySeconds") or 0)
        self._steady = self._no_rollout(spec)
        wanted = self._wanted()
        if wanted is None:
            return self._ends(
                "inexact",
                f"it now has {counted(self._replicas, 'replica')}, but the plan was for {self.row.replicas}",
            )
        surplus = surplus_of(self.pods, nodes, self._replicas, wanted)
        self.left = max(0, surplus.number)
        if self.to_move is None:
            self.to_move = self.left
        changed = self._observe(nodes, surplus, now)
        go_back = None if self.broken else self.rules.go_back
        if go_back and (broken := broken_on_graviton(self.pods, nodes, moved=self._touched)):
            return self._turn_back(broken, go_back(self.row, broken), nodes, now)
        return self._act(cluster, nodes, surplus, now) or changed

    def _wanted(self) -> int | None:
        """Return how many of its pods belong on Graviton; None if the plan was for another number of pods."""
        wanted = self.row.wanted or 0
        if wanted in (0, self.row.replicas):
            # All on one side, however many they are now.
            return self._replicas if wanted else 0
        return wanted if self._replicas == self.row.replicas else None

    def _no_rollout(self, spec: Mapping[str, Any]) -> bool:
        """Return whether no rollout is in progress, or one that goes no further by itself."""
        if self._record is None:
            return len(self.pods) <= self._replicas
        return self._record.updated(self.live) or bool(self._record.halted(spec))

    def _observe(self, nodes: Mapping[str, Node], surplus: Surplus, now: float) -> bool:
        """Remember since when pods are ready, and where new ones have landed; return whether that is news."""
        first, stale = self._count is None, False
        if first:
            self._count, self._first = len(self.pods), frozenset(map(_identity, self.pods))
            self._ready_before = sum(pod.ready for pod in self.pods)
        news = set()
        for pod in self.pods:
            identity = _identity(pod)
            news.add((identity, "there"))
            if identity not in self._first and (identity, "there") not in self._events:
                self._awaited = max(0, self._awaited - 1)
            if pod.ready:
                self._ready.setdefault(identity, now - (_age(pod) if first else 0.0))
            else:
                self._ready.pop(identity, None)
            if self._available(pod, now):
                news.add((identity, "available"))
            if pod.node not in nodes:
                continue
            news.add((identity, "placed"))
            if identity not in self._landed:
                self._landed.add(identity)
                if not first:
                    stale |= self._land(pod, nodes, surplus)
        if stale:
            # Its API server had not seen the entry yet, so archshift evicts it again, a little later.
            self._stale += 1
            self._not_before = self._tries_again_at = now + _pause(self._stale)
        changed = not news <= self._events
        self._events |= news
        return changed and not first

    def _land(self, pod: Pod, nodes: Mapping[str, Node], surplus: Surplus) -> bool:
        """Judge where a new pod has landed; return whether an older entry placed it on the wrong side."""
        wrong = surplus.number > 0 and side_of(pod, nodes) == surplus.side
        if self._by_older_entry(pod):
            return wrong
        self._stale = 0
        self._landed_wrong |= wrong
        return False

    def _by_older_entry(self, pod: Pod) -> bool:
        return bool(self.row.entry) and pod.annotations.get(PLACED_ANNOTATION) != self.row.entry

    def _ready_for(self, pod: Pod, seconds: float, now: float) -> bool:
        since = self._ready.get(_identity(pod))
        return since is not None and now - since >= seconds

    def _available(self, pod: Pod, now: float) -> bool:
        return self._ready_for(pod, self._min_ready, now)

    # --- what to do ---------------------------------------------------------------------------

    def _act(self, cluster: Cluster, nodes: Mapping[str, Node], surplus: Surplus, now: float) -> bool:
        if stuck := self._stuck():
            return self._ends("note" if self._as_before() else "failure", stuck)
        if stranded := self._stranded(now):
            return self._evict(cluster, stranded, nodes, surplus, now)
        spoiled = self._spoiled(surplus, now)
        if not self._steady:
            # Somebody's rollout, or ours. Only what does not run on Graviton goes.
            hopeless = spoiled if self.broken and now >= self._not_before else ()
            return self._evict(cluster, hopeless, nodes, surplus, now)
        if surplus.number <= 0:
            return self._all_well(nodes, now) and self._ends("right")
        if self._landed_wrong and not self._worth_another(nodes, surplus, now):
            return bool(self.end)
        if self._stale >= _MOST_STALE:
            return self._ends(
                "inexact",
                f"its new pods are not placed by its entry (annotation {PLACED_ANNOTATION}); check that the "
                "placement policy and its binding exist",
            )
        if now < self._not_before:
            return False
        if (record := self._record) and self._by_rollout(record):
            return self._restart(cluster, record, nodes, surplus, now)
        if self._most_away() < 1:
            self.final = self.limited = True
            return self._ends("inexact", "its rollout limits allow no unavailable pod")
        number = self._may_go(now)
        if surplus.side == AMD64 and not self._proven(nodes, surplus, now):
            number = min(number, 0 if spoiled or self._canary_is_out(nodes, now) else 1)
        number = min(number, surplus.number - len(spoiled))
        chosen = spoiled + self._in_order(nodes, surplus, spoiled, number)
        return self._evict(cluster, chosen, nodes, surplus, now)

    def _all_well(self, nodes: Mapping[str, Node], now: float) -> bool:
        """Return whether the pods that this step made, and earlier ones on Graviton, are ready."""
        starting = [pod for pod in self.pods if not self._available(pod, now)]
        if self._touched:
            return not self._lacks_successors() and all(_identity(pod) in self._first for pod in starting)
        if self.rules.after_rollout:
            return len(self.pods) >= self._replicas and all(pod.node in nodes for pod in self.pods)
        # A step that was interrupted may have left a first pod that does not run, or that has no node yet.
        placed = [side_of(pod, nodes) for pod in self.pods if pod.node]
        lacks = len(placed) < self._replicas and placed.count(ARM64) != self._wanted()
        return not lacks and not any(side_of(pod, nodes) == ARM64 for pod in starting)

    def _lacks_successors(self) -> bool:
        """Return whether pods are gone whose successors do not exist yet."""
        there = len(self.pods)
        return there < self._replicas and (self._awaited > 0 or there < (self._count or 0))

    def _spoiled(self, surplus: Surplus, now: float) -> list[Pod]:
        """Return pods on the wrong side that are away already, so that their eviction costs nothing."""
        away = [pod for pod in surplus.there if not self._available(pod, now)]
        if self.broken:
            return away if surplus.side == ARM64 else []
        stale = [pod for pod in away if _identity(pod) not in self._first and self._by_older_entry(pod)]
        return stale[: max(0, surplus.number)]

    def _stranded(self, now: float) -> list[Pod]:
        """Return pods without a node that an older entry keeps off the nodes where they belong now."""
        if now < self._not_before or self._strandings == _MOST_STALE:
            return []
        pods = [pod for pod in self.pods if pod.unschedulable and self._by_older_entry(pod)]
        if pods:
            # Their successors have the present entry, unless nothing places pods.
            self._strandings += 1
            self._not_before = self._tries_again_at = now + _pause(self._strandings)
        return pods

    def _worth_another(self, nodes: Mapping[str, Node], surplus: Surplus, now: float) -> bool:
        """Return whether to evict on although a successor came up on the wrong side again."""
        if len(self.pods) < self._replicas or not all(pod.node in nodes for pod in self.pods):
            return False
        side = opposite(surplus.side)
        there = frozenset(node.name for node in open_nodes(nodes, side))
        if surplus.number >= self._mark and not there - self._tried:
            # Only another node can change that.
            self._patient_until = self._patient_until or now + self.rules.patience
            if now >= self._patient_until:
                self.vain = fullest_first(surplus.there, surplus.number, self.pods, nodes)
                self.final = True
                self._ends("inexact", f"{surplus.number} of its pods are not on {display(side)}")
            return False
        self._landed_wrong = False
        self._mark = 0
        return True

    def _most_away(self) -> int:
        """Return how many of its pods may be away at a time."""
        if self._record:
            return self._record.most_away(self.live["spec"])
        return max(1, self._replicas // _AWAY_SHARE)

    def _may_go(self, now: float) -> int:
        """Return how many more of its pods may be away now."""
        away = self._replicas - sum(self._available(pod, now) for pod in self.pods)
        if self.row.kind == "StatefulSet" and away:
            return 0
        number = self._most_away() - away
        # The status may be older than the last eviction, and the pods may be newer than the status.
        return min(number, self._record.may_be_away(self.live)) if self._record else number

    def _proven(self, nodes: Mapping[str, Node], surplus: Surplus, now: float) -> bool:
        """Return whether its images run on Graviton: a pod with the same has been ready for long enough."""
        if self.rules.after_rollout:
            return True
        images = {images_of(pod) for pod in surplus.there}
        seconds = max(self._min_ready, self.rules.canary_seconds)
        return any(
            side_of(pod, nodes) == ARM64 and images_of(pod) in images and self._ready_for(pod, seconds, now)
            for pod in self.pods
        )

    def _canary_is_out(self, nodes: Mapping[str, Node], now: float) -> bool:
        """Return whether a first pod is on its way, or on Graviton and not ready for long enough."""
        if self._lacks_successors():
            return True
        seconds = max(self._min_ready, self.rules.canary_seconds)
        return any(
            not self._ready_for(pod, seconds, now)
            for pod in self.pods
            if side_of(pod, nodes) == ARM64 or not (pod.node or _identity(pod) in self._first)
        )

    def _in_order(
        self, nodes: Mapping[str, Node], surplus: Surplus, taken: Sequence[Pod], number: int
    ) -> list[Pod]:
        """Return the next pods to evict: of a StatefulSet by ordinal, of others from the fullest zone."""
        left = [pod for pod in surplus.there if pod not in taken]
        if self.row.kind == "StatefulSet":
            due = self._by_ordinal(nodes, surplus) if self.row.autoscaled else left
            return sorted((pod for pod in due if pod in left), key=_ordinal, reverse=True)[: max(0, number)]
        # A pod that no present entry has placed goes before one that landed here by it.
        return fullest_first(
            [pod for pod in left if self._by_older_entry(pod)] or left, number, self.pods, nodes
        )

    def _by_ordinal(self, nodes: Mapping[str, Node], surplus: Surplus) -> list[Pod]:
        """Return the pods that move so that a StatefulSet keeps its share while it is scaled down."""
        lacking = opposite(surplus.side) == ARM64
        by_ordinal = {_ordinal(pod): pod for pod in self.pods}
        start = int((self.live["spec"].get("ordinals") or {}).get("start") or 0)
        pods = [by_ordinal.get(start + at) for at in range(self._replicas)]
        # A pod that is not there, or has no node, comes back on the side that lacks pods.
        graviton = [side_of(pod, nodes) == ARM64 if pod and pod.node in nodes else lacking for pod in pods]
        share = Proportion(self._wanted() or 0, max(1, self._replicas))
        chosen = next_ordinals(graviton, surplus.number, share, to_graviton=lacking)
        return [pod for at in chosen if (pod := pods[at]) is not None]

    def _evict(
        self, cluster: Cluster, pods: Sequence[Pod], nodes: Mapping[str, Node], surplus: Surplus, now: float
    ) -> bool:
        if not pods:
            return False
        accepted, unsure = 0, False
        allowance = self.rules.allowance or Allowance()
        for pod in pods:
            if not allowance.take():
                return self._spent(nodes, surplus, accepted, now)
            try:
                evicted = cluster.evict(pod.namespace, pod.name, pod.uid)
            except UnavailableError:
                self._not_before, unsure = now + _UNSURE_SECONDS, True
                break
            except ArchshiftError:
                allowance.give_back()
                raise
            accepted += evicted
            if not evicted:
                allowance.give_back()
        if accepted:
            self._begin(nodes, surplus, accepted)
        elif not unsure:
            self._refused = True
            self._ask_budgets(cluster, pods[0])
        return bool(accepted)

    def _spent(self, nodes: Mapping[str, Node], surplus: Surplus, accepted: int, now: float) -> bool:
        """End it when its last successors are ready, because no more pods may be evicted."""
        if accepted:
            self._begin(nodes, surplus, accepted)
            return True
        lost = self.rules.allowance is not None and not self.rules.allowance.holds()
        why = "another command may move pods of the stack now" if lost else "no more pods may be evicted"
        return self._all_well(nodes, now) and self._ends("inexact", why)

    def _begin(self, nodes: Mapping[str, Node], surplus: Surplus, number: int) -> None:
        """Remember what there was when pods began to move."""
        self._touched, self._refused = True, False
        self._awaited += number
        if not self._mark:
            self._mark = surplus.number
            self._tried = frozenset(node.name for node in open_nodes(nodes, opposite(surplus.side)))

    def _ask_budgets(self, cluster: Cluster, pod: Pod) -> None:
        """End it if its budget never allows an eviction: then waiting does not help."""
        if self._asked_budgets:
            return
        self._asked_budgets = True
        with contextlib.suppress(ArchshiftError):
            budgets = [read_budget(item) for item in cluster.list(BUDGETS.collection(pod.namespace))]
            if never := what_never_lets_go(pod, budgets, self._replicas):
                self._ends("inexact", never)

    # --- a rollout instead of evictions ---------------------------------------------------------

    def _by_rollout(self, record: WorkloadKind) -> bool:
        """Return whether a rollout moves its pods, because its limits let none be away."""
        spec = self.live["spec"]
        needs_it = record.ends_all_first(spec) or record.most_away(spec) < 1
        # A pod that had no node when the plan was made may have landed on the wrong side since.
        planned = self.row.restarts or self.incomplete
        return needs_it and planned and bool(self.rules.restart_as)

    def _restart(
        self,
        cluster: Cluster,
        record: WorkloadKind,
        nodes: Mapping[str, Node],
        surplus: Surplus,
        now: float,
    ) -> bool:
        if halted := record.halted(self.live["spec"]):
            return self._ends("inexact", halted)
        body: Any = {
            "metadata": {"annotations": {RESTARTED_ANNOTATION: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}}
        }
        for name in reversed(record.template_path):
            body = {name: body}
        if self.rules.allowance and not self.rules.allowance.take(self._replicas):
            return self._spent(nodes, surplus, 0, now)
        path = workload_path(self.row.kind, self.row.namespace, self.row.name)
        cluster.patch(path, body, MERGE, self.rules.restart_as)
        # The next look may be older than the controller's.
        self._not_before = now + 0.2
        self._restarted = True
        self._begin(nodes, surplus, 0)
        return True

    def _stuck(self) -> str:
        """Return why a rollout by this update makes no progress; empty if it may."""
        if self.broken or self._steady or not (self.row.restarts and self._record):
            return ""
        words = self._record.stuck(self.live)
        return f"its rollout makes no progress ({words_of(self.pods) or words})" if words else ""

    # --- a first pod that does not run ----------------------------------------------------------

    def _turn_back(self, broken: Pod, problem: str, nodes: Mapping[str, Node], now: float) -> bool:
        self.broken = broken
        self.left = sum(side_of(pod, nodes) == ARM64 for pod in self.pods)
        if not problem and not open_nodes(nodes, AMD64):
            problem = f"no {display(AMD64)} node takes pods now"
        if problem:
            return self._ends("failure", f"its pods stay, because {problem}")
        self.row = replace(self.row, wanted=0, entry=str(ALL_ON_X86))
        self._landed_wrong, self._mark, self._stale, self._awaited = False, 0, 0, 0
        self._not_before = now + SEEN_SECONDS
        return True

    # --- the end --------------------------------------------------------------------------------

    def _as_before(self) -> bool:
        """Return whether it was incomplete before the step, and the step has taken no ready pod from it."""
        return self.incomplete and sum(pod.ready for pod in self.pods) >= self._ready_before

    def _patience(self, little: float) -> float:
        settling = max(self._min_ready, self.rules.canary_seconds) if self._touched else 0.0
        if self._as_before():
            return min(little, self.rules.no_progress) + settling
        spec = self.live.get("spec") or {}
        deadline = int(spec.get("progressDeadlineSeconds") or 0) if self._restarted else 0
        settling = max(self._min_ready, self.rules.canary_seconds)
        return max(self.rules.no_progress, deadline if deadline < NO_DEADLINE else 0) + settling

    def _give_up(self) -> None:
        """End it without a match, because nothing has changed for too long."""
        words = words_of(self.pods)
        because = f" ({words})" if words else ""
        there = sum(pod.ready for pod in self.pods)
        if self._refused:
            self._ends("inexact", "its PodDisruptionBudget allows no eviction")
        elif self._as_before():
            self._ends(
                "note",
                f"it was incomplete before the step and stands still: {there} of {self._replicas} pods "
                f"ready{because}",
            )
        elif self._touched or self.rules.after_rollout:
            late = f"its new pods are not ready{because or ' yet'}"
            self._ends("failure", late)
        elif self.row.restarts and not self._steady:
            # The update has rolled it out, for example because its patch went.
            self._ends("failure", f"its rollout makes no progress{because}")
        elif self._steady:
            self._ends("note", f"{there} of its {self._replicas} pods are ready{because}")
        elif self._record:
            self._ends("note", f"another client rolls it out, and that makes no progress{because}")
        else:
            self._ends(
                "note", f"it now has {counted(len(self.pods), 'pod')}, but the plan was for {self._replicas}"
            )

    def _ends(self, end: End, why: str = "") -> bool:
        self.end, self.why = end, why
        return True


def run_moves(
    cluster: Cluster,
    moves: Sequence[Move],
    *,
    no_answer: float,
    longest: float = float("inf"),
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Node]:
    """Move until each workload has ended, and return the nodes of the last look.

    Args:
        cluster: The connection.
        moves: The workloads.
        no_answer: How long to ask again if the API server does not answer, in seconds.
        longest: The longest time for all, in seconds.
        say: Called with the progress.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    polling = Polling(first=_SHORTEST_PAUSE, most=_LONGEST_PAUSE)
    begun, progress = time.monotonic(), _Progress(moves, say)
    nodes: dict[str, Node] = {}
    complete = [move for move in moves if not move.incomplete]
    nodes_come = not complete and any(move.rules.patience for move in moves)
    with ThreadPoolExecutor(max_workers=_WORKERS) as threads:
        reader = Reader(cluster, threads)
        while going := [move for move in moves if not move.end]:
            looking = time.monotonic()
            reading = reader.read([move.row for move in going], looking + no_answer)
            nodes, now = dict(reading.nodes), time.monotonic()
            moved = any([*threads.map(Move.step, going, repeat(cluster), repeat(reading), repeat(now))])
            ended = all(move.end for move in complete)
            patience = little_patience(now - begun, delays_others=ended and not nodes_come)
            for move in going:
                move.judge(now, others_move=moved, little_patience=patience)
                if now - begun > longest:
                    move.stop(longest)
            if moved:
                polling.restart()
            if any(not move.end for move in going):
                progress.say(now - begun)
                # Large lists are work for the API server too.
                polling.pause(least=now - looking)
    return nodes


class _Progress:
    """Says how many pods have moved, and about how long the others take."""

    def __init__(self, moves: Sequence[Move], say: Callable[[str], None]) -> None:
        self._moves, self._say = moves, say
        self._said = -1

    def say(self, seconds: float) -> None:
        """Say it if it has changed.

        Args:
            seconds: How long the moves have taken so far.
        """
        total = sum(move.to_move or 0 for move in self._moves)
        going = [move for move in self._moves if not move.end]
        done = total - sum(move.left for move in going)
        if not total or done == self._said:
            return
        self._said = done
        left = f"; about {_about(seconds * (total - done) / done)} left" if 0 < done < total else ""
        self._say(
            f"{done} of {total} pods have moved{left}; waiting for "
            f"{first_few([move.row.key for move in going], 2)}"
        )


def _pause(tries: int) -> float:
    """Return how long to give an API server to see a new entry, in seconds."""
    return 0.25 * 2.0**tries


def _about(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _identity(pod: Pod) -> str:
    return pod.uid or pod.name


def _ordinal(pod: Pod) -> int:
    number = pod.name.rpartition("-")[2]
    return int(number) if number.isdecimal() else -1


def _age(pod: Pod) -> float:
    """Return how long a pod has been ready, in seconds; 0 if that is not known."""
    try:
        since = zoned_time(pod.ready_since)
    except ValueError:
        return 0.0
    return max(0.0, (datetime.now(UTC) - since).total_seconds())
