"""Empties x86 nodes, a few at a time, within the limits of the workloads on them.

The nodes record the progress: archshift cordons each node and writes its state to an annotation. So a run can
end anywhere, the next run continues, and ``undo`` can take everything back. At most one pod of a workload is
missing at a time, and PodDisruptionBudgets always hold. docs/adr/0009 has the reasons.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, NamedTuple, cast, get_args

from archshift.actions.drain_returns import BARE, Returns
from archshift.cluster.budgets import BUDGETS, Budget, read_budget, what_holds
from archshift.cluster.client import MERGE, Cluster
from archshift.cluster.inventory import read_node
from archshift.cluster.kinds import SCALED
from archshift.cluster.pods import Controller, Pod, list_pods
from archshift.common.architectures import AMD64
from archshift.common.defaults import DRAIN_SECONDS
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import EKS_GROUP_LABEL, GROUP_LABEL
from archshift.common.polling import Polling
from archshift.common.text import counted, is_or_are, time_left
from archshift.nodes.after_update import nodes_of_others
from archshift.nodes.groups import AnyNodeGroup, Node

ANNOTATION: Final = "archshift/drain"
"""On a node of a drain: the stack, the node's state, and the controllers of evicted pods, as JSON."""

_TELL_SECONDS: Final = 5.0
"""The drain prints a line for each wait that lasts longer."""

_SUCCESSOR_SECONDS: Final = 30.0
"""A controller of an unknown kind may need so long to make the next pod. Perhaps it makes none."""

State = Literal["active", "cordoned", "evicting", "drained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """The progress of a node, from its annotation.

    Attributes:
        group: The node's group; empty if it has none.
        state: ``active`` until the drain first changes the node.
        stack: The field manager of the stack that drains it.
        open: It accepts pods, because nobody has cordoned it or somebody has uncordoned it.
        owners: Controllers whose pods were evicted from the node and may still miss replacements.
        cordoned_before: The node was already cordoned before the drain, so ``undo`` leaves it cordoned.
    """

    node: str
    group: str = ""
    state: State = "active"
    stack: str = ""
    open: bool = False
    owners: tuple[Controller, ...] = ()
    cordoned_before: bool = False

    @property
    def text(self) -> str:
        """The annotation's value."""
        return json.dumps(
            {
                "state": self.state,
                "stack": self.stack,
                "owners": [str(owner) for owner in self.owners],
                "cordoned_before": self.cordoned_before,
            }
        )


def read_progress(item: Mapping[str, Any]) -> NodeProgress:
    """Read the progress of a node from its JSON.

    Raises:
        ArchshiftError: The annotation is invalid.
    """
    meta = item["metadata"]
    labels = meta.get("labels") or {}
    group = labels.get(GROUP_LABEL) or labels.get(EKS_GROUP_LABEL, "")
    text = (meta.get("annotations") or {}).get(ANNOTATION)
    cordoned = bool((item.get("spec") or {}).get("unschedulable"))
    if text is None:
        return NodeProgress(node=meta["name"], group=group, open=not cordoned, cordoned_before=cordoned)
    try:
        value = json.loads(text)
        state = value["state"]
        if state not in get_args(State):
            raise ValueError(state)
        return NodeProgress(
            node=meta["name"],
            group=group,
            state=cast(State, state),
            stack=str(value["stack"]),
            open=not cordoned,
            owners=tuple(Controller(*str(owner).split("/", 2)) for owner in value["owners"]),
            cordoned_before=bool(value["cordoned_before"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ArchshiftError(
            f"node {meta['name']}: the annotation {ANNOTATION} is invalid: {text[:100]!r}",
            "remove it, and archshift drain starts again with this node",
        ) from None


def nodes_to_drain(
    nodes: Iterable[Node], groups: Iterable[AnyNodeGroup], only: Sequence[str] = ()
) -> list[Node]:
    """Return the x86 nodes to drain: the nodes of the stack, or all nodes if the stack creates none.

    Args:
        only: Names of node groups and nodes; empty for all.
    """
    nodes, groups = list(nodes), tuple(groups)
    others = {node.name for node in nodes_of_others(nodes, groups)} if groups else set()
    return [
        node
        for node in nodes
        if node.architecture == AMD64 and node.name not in others
        if not only or not {node.name, *_groups(node)}.isdisjoint(only)
    ]


def _groups(node: Node) -> set[str]:
    return {node.labels[key] for key in (GROUP_LABEL, EKS_GROUP_LABEL) if key in node.labels}


def check_only(only: Sequence[str], nodes: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> None:
    """Check the names of ``--only``.

    Raises:
        ArchshiftError: A name is neither an x86 node of the stack nor a group of such nodes.
    """
    drainable = nodes_to_drain(nodes, groups)
    known = {name for node in drainable for name in (node.name, *_groups(node))}
    for name in only:
        if name not in known:
            have = sorted({name for node in drainable for name in _groups(node)} or known)
            raise ArchshiftError(
                f"--only {name}: archshift may drain no x86 node or node group with this name",
                f"name one of: {', '.join(have[:20])}" if have else "remove --only",
            )


def choose_nodes(states: Mapping[str, State], pods: Mapping[str, int], budget: int) -> list[str]:
    """Return the nodes to work on now: first the nodes where evictions have begun.

    Args:
        states: Every node of the drain, with its state.
        pods: Every node, with the number of pods that must move.
        budget: The largest number of nodes to return.
    """
    begun = sorted(name for name, state in states.items() if state == "evicting")
    fresh = [name for name, state in states.items() if state != "evicting" and pods.get(name, 0)]
    return [*begun, *sorted(fresh, key=lambda name: (pods[name], name))][:budget]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Something that a drain waits for.

    Attributes:
        what: A pod, or a controller whose pods are not all ready.
        node: The node that cannot be emptied yet.
        reason: What blocks it.
    """

    what: str
    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what} (from {self.node}): {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a drain.

    Attributes:
        evicted: The number of pods that this run evicted.
        waiting: What still blocked it when it gave up; empty if all nodes are empty.
    """

    nodes: tuple[NodeProgress, ...]
    evicted: int
    waiting: tuple[Waiting, ...] = ()


def drain(
    cluster: Cluster,
    *,
    stack: str,
    select: Callable[[Iterable[Node]], list[Node]],
    budget: int,
    bare_pods: bool = False,
    timeout: float = DRAIN_SECONDS,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Cordon the chosen nodes, and evict their pods until they are empty.

    Args:
        stack: This stack's field manager.
        select: Chooses from all nodes. It is called again for each reading, so it also sees new nodes.
        budget: The largest number of nodes to empty at the same time.
        bare_pods: Whether the drain may evict pods without a controller, which nothing starts again.
        timeout: Seconds without progress after which the drain ends and names what blocks it. An eviction
            alone is no progress, because the next pod may come back to the same node.
        say: Called with a line for each event.

    Raises:
        ArchshiftError: The cluster cannot be read, or refuses a change. The next run continues from there.
    """
    run = _Run(cluster, stack, budget, bare_pods, timeout, say)
    polling = Polling()
    while True:
        acted = run.step(select)
        if run.outcome:
            return run.outcome
        if acted:
            polling.restart()
        polling.pause()


@dataclass(slots=True)
class _Run:
    """One run, with the state that the nodes do not record."""

    cluster: Cluster
    stack: str
    budget: int
    bare_pods: bool
    timeout: float
    say: Callable[[str], None]
    outcome: Outcome | None = None
    evicted: int = 0
    returns: Returns = field(default_factory=Returns)
    emptied: set[str] = field(default_factory=set)
    awaited: dict[Controller, "_Awaited"] = field(default_factory=dict)
    # The clock is looked up at the start of a run, and not when this class is made.
    started: float = field(default_factory=lambda: time.monotonic())
    moved: float = field(default_factory=lambda: time.monotonic())
    since: dict[str, float] = field(default_factory=dict)
    told: set[Waiting] = field(default_factory=set)

    def step(self, select: Callable[[Iterable[Node]], list[Node]]) -> bool:
        """Read the cluster once, and do what is possible now. Return whether anything was done."""
        nodes = {progress.node: progress for progress in read_progress_of_all(self.cluster, select)}
        acted = self._cordon(nodes)
        every_pod = list_pods(self.cluster)
        pods: dict[str, list[Pod]] = {name: [] for name in nodes}
        for pod in every_pod:
            if pod.node in pods and not pod.tied:
                pods[pod.node].append(pod)
        progressed = self.returns.look(pods)
        for name, progress in nodes.items():
            if not pods[name] and progress.state == "cordoned":
                nodes[name] = self._set(replace(progress, state="drained"))
        # Nobody waits for these nodes: their last pods would come back.
        left = {name for name, here in pods.items() if here and all(map(self._why_left, here))}
        working = choose_nodes(
            {name: progress.state for name, progress in nodes.items() if name not in left},
            {name: len(here) for name, here in pods.items()},
            self.budget,
        )
        waiting = [self._left(pod) for name in sorted(left) for pod in pods[name]]
        if not working:
            self._end(nodes, waiting)
            return acted
        reading = _Reading(self.cluster, every_pod, self.awaited)
        for name in working:
            progress = self._begin(nodes[name], pods[name])
            if pods[name]:
                acted |= self._evict(pods[name], reading, waiting)
                continue
            short = [
                Waiting(str(owner), name, why) for owner in progress.owners if (why := reading.short(owner))
            ]
            waiting += short
            if not short:
                nodes[name] = self._set(replace(progress, state="drained", owners=()))
                progressed |= name not in self.emptied
                self.emptied.add(name)
                acted = True
                self._report(nodes)
        self._tell(waiting)
        now = time.monotonic()
        self.moved = now if progressed else self.moved
        if now - self.moved > self.timeout:
            self._end(nodes, waiting or [_comes_again(pod) for name in working for pod in pods[name]])
        return acted or progressed

    def _end(self, nodes: Mapping[str, NodeProgress], waiting: Iterable[Waiting]) -> None:
        unique = tuple(dict.fromkeys(waiting))
        self.outcome = Outcome(nodes=tuple(nodes.values()), evicted=self.evicted, waiting=unique)

    def _set(self, progress: NodeProgress) -> NodeProgress:
        body = {"metadata": {"annotations": {ANNOTATION: progress.text}}, "spec": {"unschedulable": True}}
        self.cluster.patch(f"/api/v1/nodes/{progress.node}", body, MERGE, self.stack)
        return replace(progress, open=False)

    def _cordon(self, nodes: dict[str, NodeProgress]) -> bool:
        fresh = [progress for progress in nodes.values() if progress.state == "active" or progress.open]
        for progress in fresh:
            if progress.state == "active":
                progress = replace(progress, state="cordoned", stack=self.stack)
            nodes[progress.node] = self._set(progress)
        if fresh:
            self.say(f"cordoned: {', '.join(progress.node for progress in fresh)}")
        return bool(fresh)

    def _begin(self, progress: NodeProgress, pods: Sequence[Pod]) -> NodeProgress:
        """Record the controllers of a node's pods before the first eviction."""
        owners = dict.fromkeys((*progress.owners, *(pod.owner for pod in pods if pod.owner)))
        if progress.state == "evicting" and len(owners) == len(progress.owners):
            return progress
        if progress.state != "evicting":
            self.say(f"{progress.node}: {counted(len(pods), 'pod')} must move")
        return self._set(replace(progress, state="evicting", owners=tuple(owners)))

    def _evict(self, pods: Sequence[Pod], reading: "_Reading", waiting: list[Waiting]) -> bool:
        acted = False
        for pod in pods:
            if pod.leaving:
                waiting.append(Waiting(pod.key, pod.node, what_holds(pod, ())))
                continue
            if self._why_left(pod):
                waiting.append(self._left(pod))
            # A pod that is not ready serves nobody. A ready pod moves only when all others are ready.
            elif pod.owner and pod.ready and (why := reading.short(pod.owner)):
                waiting.append(Waiting(str(pod.owner), pod.node, why))
            elif self.cluster.evict(pod.namespace, pod.name, pod.uid):
                acted = True
                self.evicted += 1
                self.returns.evicted(pod)
                if pod.owner and pod.owner.kind not in SCALED:
                    end = time.monotonic() + _SUCCESSOR_SECONDS
                    self.awaited[pod.owner] = _Awaited(reading.wanted(pod.owner), end)
                reading.forget(pod)
            else:
                waiting.append(Waiting(pod.key, pod.node, what_holds(pod, reading.budgets(pod.namespace))))
        return acted

    def _why_left(self, pod: Pod) -> str:
        """Return why the drain does not evict a pod; empty if it does."""
        if pod.leaving:
            return ""
        if pod.owner is None and not self.bare_pods:
            return f"a bare pod, {BARE}"
        return self.returns.why_left(pod)

    def _left(self, pod: Pod) -> Waiting:
        return Waiting(pod.workload, pod.node, self._why_left(pod))

    def _report(self, nodes: Mapping[str, NodeProgress]) -> None:
        empty = sum(progress.state == "drained" for progress in nodes.values())
        done = len(self.emptied)
        rest = time_left(done, done + len(nodes) - empty, time.monotonic() - self.started)
        self.say(f"{nodes_empty(empty, len(nodes))}, pods moved: {self.evicted}{rest}")

    def _tell(self, waiting: Sequence[Waiting]) -> None:
        """Say what blocks the drain, once it has lasted for some seconds."""
        now = time.monotonic()
        self.since = {item.what: self.since.get(item.what, now) for item in waiting}
        for item in waiting:
            if now - self.since[item.what] > _TELL_SECONDS and item not in self.told:
                self.told.add(item)
                self.say(f"waiting for {item}")


def nodes_empty(empty: int, total: int, kind: str = "nodes") -> str:
    """Return how many nodes are empty, as text: ``2 of 3 nodes are empty``."""
    return f"{empty} of {total} {kind} {is_or_are(empty)} empty"


def _comes_again(pod: Pod) -> Waiting:
    return Waiting(pod.workload, pod.node, "archshift evicts its pods, but there is always another one")


class _Awaited(NamedTuple):
    """How many pods a controller of an unknown kind had, and until when the drain waits for as many."""

    pods: int
    end: float


class _Reading:
    """One reading of the cluster; each further list is read at most once."""

    def __init__(self, cluster: Cluster, pods: Iterable[Pod], awaited: Mapping[Controller, _Awaited]) -> None:
        self._cluster = cluster
        self._awaited = awaited
        self._short: dict[Controller, str] = {}
        self._pods: dict[Controller, list[Pod]] = {}
        for pod in pods:
            if pod.owner and not pod.leaving:
                self._pods.setdefault(pod.owner, []).append(pod)
        self._budgets: dict[str, list[Budget]] = {}

    def short(self, owner: Controller) -> str:
        """Return how many pods of a controller are not ready and why; empty if all are ready."""
        if owner not in self._short:
            own = self._pods.get(owner, [])
            ready = sum(pod.ready for pod in own)
            wanted = self.wanted(owner)
            short = f"{ready} of {wanted} pods {is_or_are(ready)} ready"
            self._short[owner] = short if ready < wanted else ""
            if self._short[owner] and (words := [pod.unschedulable for pod in own if pod.unschedulable]):
                self._short[owner] += f"; no room: {words[0]}"
        return self._short[owner]

    def forget(self, evicted: Pod) -> None:
        """Note that a pod was evicted after this reading."""
        if evicted.owner:
            self._short[evicted.owner] = "archshift has just evicted one of its pods"

    def budgets(self, namespace: str) -> list[Budget]:
        """Return the PodDisruptionBudgets of a namespace."""
        if namespace not in self._budgets:
            items = self._cluster.list(BUDGETS.collection(namespace))
            self._budgets[namespace] = [read_budget(item) for item in items]
        return self._budgets[namespace]

    def wanted(self, owner: Controller) -> int:
        """Return how many pods a controller wants; for an unknown kind, how many it has or had just now."""
        if owner.kind not in SCALED:
            before = self._awaited.get(owner)
            there = len(self._pods.get(owner, ()))
            return max(there, before.pods) if before and time.monotonic() < before.end else there
        path = SCALED[owner.kind].collection(owner.namespace)
        live = next(iter(self._cluster.list(path, fieldSelector=f"metadata.name={owner.name}")), None)
        return int(live["spec"].get("replicas", 1)) if live else 0


def read_progress_of_all(
    cluster: Cluster, select: Callable[[Iterable[Node]], list[Node]]
) -> list[NodeProgress]:
    """Return the progress of the chosen nodes.

    Raises:
        ArchshiftError: The cluster cannot be read, or the annotation of a node is invalid.
    """
    items = {item["metadata"]["name"]: item for item in cluster.list("/api/v1/nodes")}
    return [read_progress(items[node.name]) for node in select(map(read_node, items.values()))]


def undo(cluster: Cluster, *, stack: str, only: Sequence[str] = ()) -> list[str]:
    """Uncordon the nodes that a drain of this stack cordoned, and return their names.

    Nodes that were already cordoned before the drain stay cordoned. A repeated call changes nothing.

    Args:
        stack: This stack's field manager.
        only: Names of node groups and nodes; empty for all.

    Raises:
        ArchshiftError: The cluster cannot be read, or refuses a change.
    """
    done = []
    for progress in map(read_progress, cluster.list("/api/v1/nodes")):
        if progress.stack != stack or (only and {progress.node, progress.group}.isdisjoint(only)):
            continue
        body: dict[str, Any] = {"metadata": {"annotations": {ANNOTATION: None}}}
        if not progress.cordoned_before:
            body["spec"] = {"unschedulable": None}
            done.append(progress.node)
        cluster.patch(f"/api/v1/nodes/{progress.node}", body, MERGE, stack)
    return done
