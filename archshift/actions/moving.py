"""Moves the pods of a step with ``placement: admission``: exactly those on the wrong side.

Their successors are placed by the new entries when the API server creates them. Of each workload one pod
moves to Graviton first. If it does not run there, all pods of the workload go back to x86, and the evidence
holds it there until its image changes. A first pod that only is not ready in time proves nothing about its
image: it stays, the step fails, and the next update goes on.

The entry of an autoscaled workload keeps a ratio, so a successor may come to either side. While its pods
move, its entry is the exact one of its present number of pods. If a step is killed then, the next update
sees that the policy differs, and applies its own again. The next rebalance finds the replaced entries in an
annotation, and sets them back.
"""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from archshift.actions.evictions import Allowance, Move, MoveRules, run_moves
from archshift.actions.evidence import Evidence
from archshift.actions.rebalance import note_ends, reasons_of
from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import BringUpNodes, StepResult
from archshift.cluster.client import MERGE, Cluster, RefusedError
from archshift.cluster.entries import ALL_ON_X86, Entry, entry_key, is_key, policy_name
from archshift.cluster.kinds import CONTROLLERS, has_replicas
from archshift.cluster.live_placement import POLICIES, REPLACED_ANNOTATION, SEEN_SECONDS, entries_in
from archshift.cluster.pods import Pod
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import STACK_LABEL
from archshift.common.polling import retry_until
from archshift.common.text import counted
from archshift.plan.admission import policy
from archshift.plan.model import PlannedWorkload

FIELD_MANAGER: Final = "archshift-moving"
"""Owns the entries that archshift sets back, until the engine applies its own again."""

_CONFLICT: Final = 409
_MOST_CONFLICTS: Final = 5
_WRITE_SECONDS: Final = 30.0
"""How long to try to write an entry if the API server does not answer."""

_NEVER_EVICTED: Final = ("Job", "Pod")
"""Kinds without a record whose pods nothing starts again, or not where they stopped."""


def move_pods(
    cluster: Cluster,
    rows: Sequence[PlannedWorkload],
    *,
    stack_label: str,
    field_manager: str,
    limits: RolloutLimits,
    incomplete: Container[str] = (),
    patience: float = 0.0,
    bring_up_nodes: BringUpNodes | None = None,
    allowance: Allowance | None = None,
    turns_back: bool = True,
    say: Callable[[str], None] = lambda _: None,
) -> StepResult:
    """Move the pods that are on the wrong side, after the entries were applied.

    Args:
        cluster: The connection.
        rows: The rows of the plan whose entries are applied. Those without anything to do cost no request.
        stack_label: The stack.
        field_manager: The field manager of restarts.
        limits: How long to wait.
        incomplete: The keys of workloads that were incomplete before the step.
        patience: How long to wait for another node if a side is full, in seconds.
        bring_up_nodes: Brings up nodes for these workloads' pods; None if the nodes exist.
        allowance: How many pods may be evicted, and whether nobody else moves pods; None for no limit.
        turns_back: Whether an entry can send a workload back to x86 whose first pod does not run on Graviton.
        say: Called with the progress.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    due = [row for row in rows if may_move(row) and (not row.exact or row.restarts or row.key in incomplete)]
    if bring_up_nodes and due:
        try:
            bring_up_nodes(cluster, due)
        except ArchshiftError as error:
            # Without its node, an evicted pod would only be gone.
            return StepResult(failures={"new nodes": f"no pod moves: {error}"})
    allowance = allowance or Allowance()
    evidence = Evidence(cluster, stack_label, rows)
    watch = _Watch(_Policies(cluster, stack_label), evidence, allowance.holds)
    rules = MoveRules(
        no_progress=limits.no_progress,
        patience=patience,
        canary_seconds=limits.canary_seconds,
        restart_as=field_manager,
        go_back=watch.go_back if turns_back else None,
        allowance=allowance,
    )
    with watch.exact_entries(due) as rows:
        moves = [Move(row, rules, incomplete=row.key in incomplete) for row in rows]
        nodes = run_moves(cluster, moves, no_answer=limits.no_progress, longest=limits.longest, say=say)
    # With patches, a soft rule may have sent the successors back.
    note_ends(cluster, [move for move in moves if not move.row.entry and move.row.kind in CONTROLLERS], nodes)
    failed = {move.row.key: watch.failure(move) for move in moves if move.broken}
    others = [move for move in moves if not move.broken]

    def ended(end: str) -> dict[str, str]:
        return reasons_of(cluster, [move for move in others if move.end == end], nodes)

    return StepResult(
        failures={**ended("failure"), **failed},
        notes={**watch.exact, **ended("note")},
        inexact=ended("inexact"),
    )


def may_move(row: PlannedWorkload) -> bool:
    """Return whether evictions can move the pods of a workload."""
    if row.wanted is None:
        return False
    return has_replicas(row.kind) if row.kind in CONTROLLERS else row.kind not in _NEVER_EVICTED


def set_back_entries(cluster: Cluster, stack_label: str, planned: Mapping[str, str]) -> dict[str, str]:
    """Set back the exact entries that a killed command left, if nobody has changed them since.

    Args:
        cluster: The connection.
        stack_label: The stack.
        planned: The key of a workload to the entry that the plan has for it. What the plan wants stays: a
            workload may have lost its autoscaler since, or be held on x86.

    Returns:
        ``namespace/Kind/name`` of each workload to why its entry could not be set back; empty if it was.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    found: dict[str, str] = {}
    policies = _Policies(cluster, stack_label)
    for item in cluster.list(POLICIES.collection(), labelSelector=f"{STACK_LABEL}={stack_label}"):
        name = item["metadata"]["name"]
        text = (item["metadata"].get("annotations") or {}).get(REPLACED_ANNOTATION)
        space = name.removeprefix(policy_name(stack_label, ""))
        if not text or policy_name(stack_label, space) != name:
            continue
        replaced, there = _replaced(text), entries_in(item)
        left = {
            key: own
            for key, (meanwhile, own) in replaced.items()
            if there.get(key) == meanwhile != planned.get(f"{space}/{key.replace('.', '/', 1)}")
        }
        instead_of = {key: replaced[key][0] for key in left}
        try:
            problem = policies.write(space, left, instead_of, forget=None)
        except ArchshiftError as error:
            problem = str(error)
        found |= {f"{space}/{key.replace('.', '/', 1)}": problem for key in left}
    return found


def _replaced(text: str) -> dict[str, tuple[str, str]]:
    """Read the annotation, and leave out invalid entries."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, tuple[str, str]] = {}
    for key, pair in data.items() if isinstance(data, dict) else ():
        valid = is_key(key) and isinstance(pair, list) and len(pair) == 2
        if valid and all(isinstance(one, str) and Entry.parse(one) for one in pair):
            found[key] = (pair[0], pair[1])
    return found


@dataclass(frozen=True, slots=True)
class _Policies:
    """Writes entries into a stack's policies."""

    cluster: Cluster
    stack_label: str
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(
        self,
        namespace: str,
        entries: Mapping[str, str],
        instead_of: Mapping[str, str] | None = None,
        *,
        note: Mapping[str, tuple[str, str]] | None = None,
        forget: Container[str] | None = (),
    ) -> str:
        """Write entries into the policy of a namespace; return why that is not possible, or nothing.

        Args:
            namespace: The namespace.
            entries: The entries.
            instead_of: The keys of the entries to what they are now; another text stays. None for any.
            note: What to note about entries that hold only while pods move.
            forget: The keys to remove from the note; None for all.
        """
        # Another workload of the namespace may fail at the same time.
        with self.lock:
            for _ in range(_MOST_CONFLICTS):
                try:
                    retry_until(
                        partial(self._write_once, namespace, entries, instead_of, note or {}, forget),
                        time.monotonic() + _WRITE_SECONDS,
                    )
                except RefusedError as error:
                    if error.status != _CONFLICT:
                        return f"the API server refuses its entry in the policy ({error.words})"
                else:
                    return ""
        return "other clients keep changing the policy"

    def _write_once(
        self,
        namespace: str,
        entries: Mapping[str, str],
        instead_of: Mapping[str, str] | None,
        note: Mapping[str, tuple[str, str]],
        forget: Container[str] | None,
    ) -> None:
        path = f"{POLICIES.collection()}/{policy_name(self.stack_label, namespace)}"
        live = self.cluster.get(path)
        data = entries_in(live)
        new = {
            key: text
            for key, text in entries.items()
            if instead_of is None or data.get(key) == instead_of[key]
        }
        # Both parts: another version of archshift may have written the policy, with variables of other names.
        spec = policy(self.stack_label, namespace, data | new)["spec"]
        body: dict[str, Any] = {"spec": {name: spec[name] for name in ("variables", "mutations")}}
        body["metadata"] = {}
        if version := live["metadata"].get("resourceVersion"):
            # The engine may have written it since.
            body["metadata"]["resourceVersion"] = version
        before = (live["metadata"].get("annotations") or {}).get(REPLACED_ANNOTATION)
        kept = {
            # What another command left and nobody could set back yet.
            key: pair
            for key, pair in _replaced(before or "").items()
            if forget is not None and key not in forget and (data | new).get(key) == pair[0]
        }
        replaced = {**kept, **note}
        if replaced or before:
            # In the same request: whoever kills this command leaves both or none.
            text = json.dumps(replaced, sort_keys=True) if replaced else None
            body["metadata"]["annotations"] = {REPLACED_ANNOTATION: text}
        self.cluster.patch(path, body, MERGE, FIELD_MANAGER)

    def entries(self, namespace: str) -> Mapping[str, str]:
        """Return the entries in the policy of a namespace; none if it cannot be read."""
        path = f"{POLICIES.collection()}/{policy_name(self.stack_label, namespace)}"
        try:
            return entries_in(self.cluster.get(path))
        except RefusedError:
            return {}


@dataclass(frozen=True, slots=True)
class _Watch:
    """Sends workloads back to x86 whose first pod does not run on Graviton."""

    policies: _Policies
    evidence: Evidence
    holds: Callable[[], bool]
    back: set[tuple[str, str]] = field(default_factory=set)
    """Namespace and key of each entry that sends a workload back, which therefore stays."""
    exact: dict[str, str] = field(default_factory=dict)
    """The key of a workload to why its entry was not set back."""

    def go_back(self, row: PlannedWorkload, pod: Pod) -> str:
        # The evidence first: if the update ends here, the next one still holds the workload.
        self.evidence.keep(row, pod)
        key = entry_key(row.kind, row.name)
        self.back.add((row.namespace, key))
        return self.policies.write(row.namespace, {key: str(ALL_ON_X86)}, forget={key})

    @contextlib.contextmanager
    def exact_entries(self, rows: Sequence[PlannedWorkload]) -> Iterator[list[PlannedWorkload]]:
        """Place the pods of autoscaled workloads by exact entries for a while; yield the rows with these.

        Workloads whose policy cannot be changed, or has another entry, move by the entries that they have.
        """
        kept: dict[str, dict[str, str]] = {}
        exact: dict[str, dict[str, str]] = {}
        live: dict[str, Mapping[str, str]] = {}
        for row in rows:
            entry, key = Entry.parse(row.entry), entry_key(row.kind, row.name)
            if not (entry and entry.scaling):
                continue
            if row.namespace not in live:
                live[row.namespace] = self.policies.entries(row.namespace)
            # Whoever moves pods now would take an exact entry for the workload's own.
            if live[row.namespace].get(key) == row.entry and self.holds():
                kept.setdefault(row.namespace, {})[key] = row.entry
                # Between two updates, the entry is that of another number of pods.
                exact.setdefault(row.namespace, {})[key] = str(Entry(row.wanted or 0, max(1, row.replicas)))
        written: dict[str, dict[str, str]] = {}
        try:
            for space, texts in exact.items():
                # Before the request: an interrupted one may have an effect.
                written[space] = texts
                note = {key: (text, kept[space][key]) for key, text in texts.items()}
                if self.policies.write(space, texts, kept[space], note=note):
                    del written[space]
            if written:
                time.sleep(SEEN_SECONDS)
            yield [
                replace(
                    row, entry=written.get(row.namespace, {}).get(entry_key(row.kind, row.name), row.entry)
                )
                for row in rows
            ]
        finally:
            for space, texts in written.items():
                own = {key: text for key, text in kept[space].items() if (space, key) not in self.back}
                try:
                    problem = (
                        self.policies.write(space, own, texts, forget=set(texts))
                        # Whoever moves pods now has set it back, and may have replaced it again.
                        if self.holds()
                        else "another command may move pods now"
                    )
                except ArchshiftError as error:
                    problem = str(error)
                if problem:
                    why = f"its entry is still the exact one of this step, because {problem}; run pulumi up"
                    self.exact.update(
                        {
                            row.key: why
                            for row in rows
                            if row.namespace == space and entry_key(row.kind, row.name) in texts
                        }
                    )

    def failure(self, move: Move) -> str:
        container = move.broken.broken if move.broken else None
        words = f"it failed on Graviton (container {container.name}: {container.words})" if container else ""
        if move.end == "right":
            text = f"{words}; its pods are back on x86 and stay there until its image changes"
        else:
            text = f"{words}; {counted(move.left, 'pod')} could not go back to x86: {move.why}"
        problem = self.evidence.problems.get(move.row.key, "")
        return f"{text}; the evidence could not be kept: {problem}" if problem else text
