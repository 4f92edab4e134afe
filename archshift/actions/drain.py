"""Empties x86 nodes, a few at a time, within the limits of the workloads on them.

The nodes record the progress: archshift cordons each node and writes its state to an annotation. So a run can
end anywhere, the next run continues, and ``undo`` can take everything back. At most one pod of a workload is
missing at a time, and PodDisruptionBudgets always hold. docs/adr/0009 has the reasons.
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
from archshift.common.polling import Polling
from archshift.common.text import time_left
from archshift.nodes.after_update import nodes_of_others
from archshift.nodes.groups import AnyNodeGroup, Node

ANNOTATION: Final = "archshift/drain"
"""On a node of a drain: the stack, the node's state, and the controllers of evicted pods, as JSON."""

_TELL_SECONDS: Final = 5.0
"""The drain prints a line for each wait that lasts longer."""

State = Literal["active", "cordoned", "evicting", "drained"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeProgress:
    """The progress of a node, from its annotation.

    Attributes:
        group: The node's group; empty if it has none.
        state: ``active`` until the drain first changes the node.
        stack: The field manager of the stack that drains it.
        owners: Controllers whose pods were evicted from the node and may still miss replacements.
        cordoned_before: The node was already cordoned before the drain, so ``undo`` leaves it cordoned.
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
    """Read the progress of a node from its JSON.

    Raises:
        ArchshiftError: The annotation is invalid.
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
    timeout: float = DRAIN_SECONDS,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Cordon the chosen nodes, and evict their pods until they are empty.

    Args:
        stack: This stack's field manager.
        select: Chooses from all nodes. It is called again for each reading, so it also sees new nodes.
        budget: The largest number of nodes to empty at the same time.
        timeout: Seconds without progress after which the drain ends and names what blocks it.
        say: Called with a line for each event.

    Raises:
        ArchshiftError: The cluster cannot be read, or refuses a change. The next run continues from there.
    """
    run = _Run(cluster, stack, budget, timeout, say)
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
        """Read the cluster once, and do what is possible now. Return whether anything was done."""
        nodes = {progress.node: progress for progress in read_progress_of_all(self.cluster, select)}
        acted = self._cordon(nodes)
        begun = sum(progress.state == "evicting" for progress in nodes.values())
        # If the budget is used up, the pods of the other nodes do not matter yet.
        looked = [
            progress for progress in nodes.values() if progress.state == "evicting" or begun < self.budget
        ]
        pods = {
            progress.node: [pod for pod in list_pods(self.cluster, node=progress.node) if not pod.tied]
            for progress in looked
        }
        for name, pods_of_node in pods.items():
            if not pods_of_node and nodes[name].state == "cordoned":
                nodes[name] = self._set(replace(nodes[name], state="drained"))
        counts = {name: len(pods_of_node) for name, pods_of_node in pods.items()}
        working = choose_nodes(
            {progress.node: progress.state for progress in nodes.values()}, counts, self.budget
        )
        if not working:
            self.outcome = Outcome(nodes=tuple(nodes.values()), evicted=self.evicted)
            return acted
        reading = _Reading(self.cluster)
        waiting: list[Waiting] = []
        for name in working:
            pods_of_node = pods[name]
            progress = self._begin(nodes[name], pods_of_node)
            if pods_of_node:
                acted |= self._evict(pods_of_node, reading, waiting)
                continue
            short = [
                Waiting(str(owner), name, why) for owner in progress.owners if (why := reading.short(owner))
            ]
            waiting += short
            if not short:
                nodes[name] = self._set(replace(progress, state="drained", owners=()))
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
        fresh = [progress for progress in nodes.values() if progress.state == "active"]
        for progress in fresh:
            nodes[progress.node] = self._set(replace(progress, state="cordoned", stack=self.stack))
        if fresh:
            self.say(f"cordoned: {', '.join(progress.node for progress in fresh)}")
        return bool(fresh)

    def _begin(self, progress: NodeProgress, pods: Sequence[Pod]) -> NodeProgress:
        """Record the controllers of a node's pods before the first eviction."""
        owners = dict.fromkeys((*progress.owners, *(pod.owner for pod in pods if pod.owner)))
        if progress.state == "evicting" and len(owners) == len(progress.owners):
            return progress
        if progress.state != "evicting":
            self.say(f"{progress.node}: {len(pods)} {'pod' if len(pods) == 1 else 'pods'} must move")
        return self._set(replace(progress, state="evicting", owners=tuple(owners)))

    def _evict(self, pods: Sequence[Pod], reading: "_Reading", waiting: list[Waiting]) -> bool:
        acted = False
        for pod in pods:
            if pod.leaving:
                waiting.append(Waiting(pod.key, pod.node, what_holds(pod, ())))
                continue
            # A pod that is not ready serves nobody. A ready pod moves only when all others are ready.
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
        drained = sum(progress.state == "drained" for progress in nodes.values())
        left = len(nodes) - drained
        rest = time_left(self.finished, self.finished + left, time.monotonic() - self.started)
        self.say(f"{drained} of {len(nodes)} nodes are empty, pods moved: {self.evicted}{rest}")

    def _wait(self, waiting: Sequence[Waiting], acted: bool, nodes: Mapping[str, NodeProgress]) -> None:
        """Say what blocks the drain, and end it if nothing has moved for too long."""
        now = time.monotonic()
        self.moved = now if acted else self.moved
        self.since = {item.what: self.since.get(item.what, now) for item in waiting}
        for item in waiting:
            if now - self.since[item.what] > _TELL_SECONDS and item not in self.told:
                self.told.add(item)
                self.say(f"waiting for {item}")
        if waiting and now - self.moved > self.timeout:
            unique = tuple(dict.fromkeys(waiting))
            self.outcome = Outcome(nodes=tuple(nodes.values()), evicted=self.evicted, waiting=unique)


class _Reading:
    """One reading of the cluster; each list is read at most once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._short: dict[Controller, str] = {}
        self._pods: dict[str, list[Pod]] = {}
        self._budgets: dict[str, list[dict[str, Any]]] = {}

    def short(self, owner: Controller) -> str:
        """Return how many pods of a controller are not ready and why; empty if all are ready."""
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
        """Note that a pod was evicted after this reading."""
        if evicted.owner:
            self._short[evicted.owner] = "archshift has just evicted one of its pods"

    def budgets(self, namespace: str) -> list[dict[str, Any]]:
        """Return the PodDisruptionBudgets of a namespace."""
        if namespace not in self._budgets:
            path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
            self._budgets[namespace] = list(self._cluster.list(path))
        return self._budgets[namespace]

    def _wanted(self, owner: Controller, there: int) -> int:
        """Return how many pods a controller wants; for an unknown kind, how many it has."""
        if owner.kind not in SCALED:
            return there
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
