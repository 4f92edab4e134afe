"""Empties x86 nodes, a few at a time, within the limits of what runs on them.

The nodes themselves are the record: each is cordoned and carries an annotation that says how far it
is, so that a run that was ended anywhere is gone on with by the next one, and undone by another.
No more of a workload's pods is away at once than one, and never more than a PodDisruptionBudget
allows. docs/adr/0009 says why it is done this way.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, cast, get_args

from archshift.cluster.client import MERGE, Cluster
from archshift.cluster.inventory import read_node
from archshift.cluster.kinds import SCALED
from archshift.cluster.pods import Controller, Pod, list_pods, what_holds
from archshift.common.architectures import AMD64
from archshift.common.defaults import DRAIN_SECONDS
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import EKS_GROUP_LABEL, GROUP_LABEL
from archshift.common.text import time_left
from archshift.nodes.after_update import nodes_of_others
from archshift.nodes.groups import AnyNodeGroup, Node

ANNOTATION: Final = "archshift/drain"
"""On a node that is being drained: who drains it, how far it is, and whose pods were moved, as JSON."""

_TELL_SECONDS: Final = 5.0
"""What lasts longer is worth a line."""

State = Literal["active", "cordoned", "evicting", "drained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """How far a node is, as its annotation says.

    Attributes:
        node: The node's name.
        group: Its node group; empty for none.
        state: ``active`` before anything was done to it.
        stack: The field manager of the stack that drains it.
        owners: Controllers whose pods were evicted from it and may not be complete again yet.
        cordoned_before: Somebody else had cordoned it: it stays so when the drain is undone.
    """

    node: str
    group: str = ""
    state: State = "active"
    stack: str = ""
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
    """Read a node's JSON.

    Raises:
        ArchshiftError: Its annotation is not ours.
    """
    meta = item["metadata"]
    labels = meta.get("labels") or {}
    group = labels.get(GROUP_LABEL) or labels.get(EKS_GROUP_LABEL, "")
    text = (meta.get("annotations") or {}).get(ANNOTATION)
    if text is None:
        cordoned = bool((item.get("spec") or {}).get("unschedulable"))
        return NodeProgress(node=meta["name"], group=group, cordoned_before=cordoned)
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
            owners=tuple(Controller(*str(owner).split("/", 2)) for owner in value["owners"]),
            cordoned_before=bool(value["cordoned_before"]),
        )
    except (ValueError, KeyError, TypeError):
        raise ArchshiftError(
            f"node {meta['name']}: the annotation {ANNOTATION} is not one of archshift's: {text[:100]!r}",
            "remove it, and archshift drain begins with this node anew",
        ) from None


def nodes_to_drain(
    nodes: Iterable[Node], groups: Iterable[AnyNodeGroup], only: Sequence[str] = ()
) -> list[Node]:
    """Return the x86 nodes that a drain is about: the stack's, or all where it makes no nodes.

    Args:
        nodes: All nodes.
        groups: The node groups as configured.
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
    """Check that every name of a narrowed drain is one.

    Raises:
        ArchshiftError: It is neither an x86 node of the stack nor a group of them.
    """
    found = nodes_to_drain(nodes, groups)
    known = {name for node in found for name in (node.name, *_groups(node))}
    for name in only:
        if name not in known:
            have = sorted({name for node in found for name in _groups(node)} or known)
            raise ArchshiftError(
                f"--only {name}: no x86 node or group that archshift may drain has this name",
                f"there are: {', '.join(have[:20]) or 'none'}",
            )


def choose_nodes(states: Mapping[str, State], pods: Mapping[str, int], budget: int) -> list[str]:
    """Return the nodes to work on now: first those that were begun, and never more than ``budget``.

    Args:
        states: Every node of the drain.
        pods: How many of its pods have to move.
        budget: Most nodes at a time.
    """
    begun = sorted(name for name, state in states.items() if state == "evicting")
    fresh = [name for name, state in states.items() if state != "evicting" and pods.get(name, 0)]
    return [*begun, *sorted(fresh, key=lambda name: (pods[name], name))][:budget]


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a drain waits for.

    Attributes:
        what: A pod, or a controller that is not complete.
        node: The node that it concerns.
        reason: What holds it.
    """

    what: str
    node: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what} (from {self.node}): {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a drain ended.

    Attributes:
        nodes: The nodes as they are now.
        evicted: Pods that this run moved.
        waiting: What it gave up waiting for; empty if all nodes are empty.
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
    timeout: float = DRAIN_SECONDS,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Cordon the chosen nodes, and evict what runs on them until they are empty.

    Nodes that appear meanwhile are taken in.

    Args:
        cluster: The connection.
        stack: This stack's field manager.
        select: Which of all nodes, asked anew each time.
        budget: Most nodes at a time.
        timeout: Seconds without any progress after which it ends, and names what holds it.
        say: Told what happens, a line each time.

    Raises:
        ArchshiftError: The cluster cannot be read or refuses; the next run goes on from there.
    """
    run = _Run(cluster, stack, budget, timeout, say)
    pause = 0.2
    while True:
        acted = run.step(select)
        if run.outcome:
            return run.outcome
        pause = 0.2 if acted else min(2 * pause, 2.0)
        time.sleep(pause)


@dataclass(slots=True)
class _Run:
    """One run: what it knows beside what the nodes say."""

    cluster: Cluster
    stack: str
    budget: int
    timeout: float
    say: Callable[[str], None]
    outcome: Outcome | None = None
    evicted: int = 0
    finished: int = 0
    started: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)
    since: dict[str, float] = field(default_factory=dict)
    told: set[Waiting] = field(default_factory=set)

    def step(self, select: Callable[[Iterable[Node]], list[Node]]) -> bool:
        """Look once, and do what can be done; whether anything was."""
        nodes = {mark.node: mark for mark in read_progress_of_all(self.cluster, select)}
        acted = self._cordon(nodes)
        begun = sum(mark.state == "evicting" for mark in nodes.values())
        # With all hands busy, nobody asks what is on the other nodes.
        looked = [mark for mark in nodes.values() if mark.state == "evicting" or begun < self.budget]
        pods = {
            mark.node: [pod for pod in list_pods(self.cluster, node=mark.node) if not pod.tied]
            for mark in looked
        }
        for name, found in pods.items():
            if not found and nodes[name].state == "cordoned":
                nodes[name] = self._set(replace(nodes[name], state="drained"))
        counts = {name: len(found) for name, found in pods.items()}
        working = choose_nodes({mark.node: mark.state for mark in nodes.values()}, counts, self.budget)
        if not working:
            self.outcome = Outcome(nodes=tuple(nodes.values()), evicted=self.evicted)
            return acted
        reading = _Reading(self.cluster)
        waiting: list[Waiting] = []
        for name in working:
            found = pods[name]
            mark = self._begin(nodes[name], found)
            if found:
                acted |= self._evict(found, reading, waiting)
                continue
            short = [Waiting(str(owner), name, why) for owner in mark.owners if (why := reading.short(owner))]
            waiting += short
            if not short:
                nodes[name] = self._set(replace(mark, state="drained", owners=()))
                self.finished += 1
                acted = True
                self._report(nodes)
        self._wait(waiting, acted, nodes)
        return acted

    def _set(self, progress: NodeProgress) -> NodeProgress:
        body = {"metadata": {"annotations": {ANNOTATION: progress.text}}, "spec": {"unschedulable": True}}
        self.cluster.patch(f"/api/v1/nodes/{progress.node}", body, MERGE, self.stack)
        return progress

    def _cordon(self, nodes: dict[str, NodeProgress]) -> bool:
        fresh = [mark for mark in nodes.values() if mark.state == "active"]
        for mark in fresh:
            nodes[mark.node] = self._set(replace(mark, state="cordoned", stack=self.stack))
        if fresh:
            self.say(f"cordoned: {', '.join(mark.node for mark in fresh)}")
        return bool(fresh)

    def _begin(self, progress: NodeProgress, pods: Sequence[Pod]) -> NodeProgress:
        """Write down whose pods go before the first of them does."""
        owners = dict.fromkeys((*progress.owners, *(pod.owner for pod in pods if pod.owner)))
        if progress.state == "evicting" and len(owners) == len(progress.owners):
            return progress
        if progress.state != "evicting":
            self.say(f"{progress.node}: {len(pods)} {'pod has' if len(pods) == 1 else 'pods have'} to move")
        return self._set(replace(progress, state="evicting", owners=tuple(owners)))

    def _evict(self, pods: Sequence[Pod], reading: "_Reading", waiting: list[Waiting]) -> bool:
        acted = False
        for pod in pods:
            if pod.leaving:
                waiting.append(Waiting(pod.key, pod.node, what_holds(pod, ())))
                continue
            # A pod that is not ready is no loss; a ready one goes when all others are there.
            if pod.owner and pod.ready and (why := reading.short(pod.owner)):
                waiting.append(Waiting(str(pod.owner), pod.node, why))
            elif self.cluster.evict(pod.namespace, pod.name, pod.uid):
                acted = True
                self.evicted += 1
                reading.forget(pod)
            else:
                waiting.append(Waiting(pod.key, pod.node, what_holds(pod, reading.budgets(pod.namespace))))
        return acted

    def _report(self, nodes: Mapping[str, NodeProgress]) -> None:
        drained = sum(mark.state == "drained" for mark in nodes.values())
        left = len(nodes) - drained
        rest = time_left(self.finished, self.finished + left, time.monotonic() - self.started)
        self.say(f"{drained} of {len(nodes)} nodes are empty, pods moved: {self.evicted}{rest}")

    def _wait(self, waiting: Sequence[Waiting], acted: bool, nodes: Mapping[str, NodeProgress]) -> None:
        """Tell what holds the drain up; end it where nothing has moved for too long."""
        now = time.monotonic()
        self.moved = now if acted else self.moved
        self.since = {one.what: self.since.get(one.what, now) for one in waiting}
        for one in waiting:
            if now - self.since[one.what] > _TELL_SECONDS and one not in self.told:
                self.told.add(one)
                self.say(f"waiting for {one}")
        if waiting and now - self.moved > self.timeout:
            unique = tuple(dict.fromkeys(waiting))
            self.outcome = Outcome(nodes=tuple(nodes.values()), evicted=self.evicted, waiting=unique)


class _Reading:
    """What one look at the cluster finds, each thing asked once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._short: dict[Controller, str] = {}
        self._pods: dict[str, list[Pod]] = {}
        self._budgets: dict[str, list[dict[str, Any]]] = {}

    def short(self, owner: Controller) -> str:
        """Return what a controller lacks, in a sentence; empty if all its pods are ready."""
        if owner not in self._short:
            if owner.namespace not in self._pods:
                self._pods[owner.namespace] = list_pods(self._cluster, namespace=owner.namespace)
            own = [pod for pod in self._pods[owner.namespace] if pod.owner == owner and not pod.leaving]
            ready = sum(pod.ready for pod in own)
            wanted = self._wanted(owner, len(own))
            self._short[owner] = f"{ready} of {wanted} pods are ready" if ready < wanted else ""
            if self._short[owner] and (words := [pod.unschedulable for pod in own if pod.unschedulable]):
                self._short[owner] += f"; no room: {words[0]}"
        return self._short[owner]

    def forget(self, evicted: Pod) -> None:
        """Take note that a pod has gone since."""
        if evicted.owner:
            self._short[evicted.owner] = "a pod of it was just evicted"

    def budgets(self, namespace: str) -> list[dict[str, Any]]:
        """Return the PodDisruptionBudgets of a namespace."""
        if namespace not in self._budgets:
            path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
            self._budgets[namespace] = list(self._cluster.list(path))
        return self._budgets[namespace]

    def _wanted(self, owner: Controller, there: int) -> int:
        """Return how many pods a controller wants; of one that we do not know, those that it has."""
        if owner.kind not in SCALED:
            return there
        path = SCALED[owner.kind].format(owner.namespace)
        found = next(iter(self._cluster.list(path, fieldSelector=f"metadata.name={owner.name}")), None)
        return int(found["spec"].get("replicas", 1)) if found else 0


def read_progress_of_all(
    cluster: Cluster, select: Callable[[Iterable[Node]], list[Node]]
) -> list[NodeProgress]:
    """Return how far the chosen nodes are.

    Raises:
        ArchshiftError: The cluster cannot be read, or an annotation of a node.
    """
    items = {item["metadata"]["name"]: item for item in cluster.list("/api/v1/nodes")}
    return [read_progress(items[node.name]) for node in select(map(read_node, items.values()))]


def undo(cluster: Cluster, *, stack: str, only: Sequence[str] = ()) -> list[str]:
    """Let pods run again on the nodes that a drain of this stack cordoned; returns their names.

    Nodes that somebody else had cordoned before stay so. May be repeated.

    Args:
        cluster: The connection.
        stack: This stack's field manager.
        only: Names of node groups and nodes; empty for all.

    Raises:
        ArchshiftError: The cluster cannot be read or refuses.
    """
    done = []
    for mark in map(read_progress, cluster.list("/api/v1/nodes")):
        if mark.stack != stack or (only and {mark.node, mark.group}.isdisjoint(only)):
            continue
        body: dict[str, Any] = {"metadata": {"annotations": {ANNOTATION: None}}}
        if not mark.cordoned_before:
            body["spec"] = {"unschedulable": None}
            done.append(mark.node)
        cluster.patch(f"/api/v1/nodes/{mark.node}", body, MERGE, stack)
    return done
