"""The invariants of a run, at every moment and at rest. Pure: snapshots in, sentences out."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

ARCH: Final = "kubernetes.io/arch"
_RESTARTED: Final = "kubectl.kubernetes.io/restartedAt"

SILENCE_SECONDS: Final = 20.0
"""Half of the time that the node lifecycle controller waits for a node by default."""

KUBELET_SECONDS: Final = 30.0
"""How long the pods may be away that a controller deletes because they were declared not ready."""

Object = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of the cluster at one moment.

    Attributes:
        at: Seconds between the start of the run and this reading.
        nodes: All nodes.
        workloads: The Deployments and StatefulSets.
        pods: Their pods.
    """

    at: float
    nodes: tuple[Object, ...]
    workloads: tuple[Object, ...]
    pods: tuple[Object, ...]


def name_of(item: Object) -> str:
    """Return an object's name."""
    return str(item["metadata"]["name"])


def least_available(workload: Object, replicas: int) -> int:
    """Return how many of its replicas the workload's own rollout limits keep available.

    This repeats archshift's rule (``archshift.cluster.kinds.RolloutLimit``) on purpose. The checker judges
    archshift, so it needs a second opinion. It knows only the kinds of ``chaos.fleet``.
    """
    spec = workload["spec"]
    if workload["kind"] == "StatefulSet":
        rolling, default = (spec.get("updateStrategy") or {}).get("rollingUpdate") or {}, "1"
    else:
        rolling, default = (spec.get("strategy") or {}).get("rollingUpdate") or {}, "25%"
    limit = str(rolling.get("maxUnavailable", default))
    if not limit.endswith("%"):
        return max(0, replicas - int(limit))
    share = replicas * int(limit[:-1])
    away = ceil(share / 100) if workload["kind"] == "StatefulSet" else share // 100
    surge = str(rolling.get("maxSurge", "25%"))
    # If both limits round to 0, no rollout could start. Then Kubernetes lets one pod be unavailable.
    if away == 0 and surge in ("0", "0%"):
        away = 1
    return max(0, replicas - away)


def available(snapshot: Snapshot, workload: str) -> int:
    """Return how many pods of a workload serve: ready, not being deleted, on an existing node."""
    nodes = {name_of(node) for node in snapshot.nodes}
    return sum(_serves(pod, nodes) for pod in snapshot.pods if _app(pod) == workload)


def _app(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get("app", ""))


def _serves(pod: Object, nodes: set[str]) -> bool:
    return (
        not pod["metadata"].get("deletionTimestamp")
        and pod["spec"].get("nodeName") in nodes
        and _is_ready(pod)
    )


def _is_ready(item: Object) -> bool:
    return _is_true(item, "Ready")


def _is_true(item: Object, condition: str) -> bool:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return any(one["type"] == condition and one["status"] == "True" for one in conditions)


def _declared_not_ready(pod: Object) -> bool:
    """Return whether Kubernetes declared a pod not ready whose containers are ready: its node was late."""
    return not _is_ready(pod) and _is_true(pod, "ContainersReady")


@dataclass
class Checker:
    """Checks snapshots in the order of their times.

    Pods and nodes that a fault removes are not archshift's fault. So each fault announces them first
    (`excuse`, `excuse_node`). An excuse counts only for that workload or node. The excuse of a workload
    ends with the first snapshot at least two seconds after the fault in which all its pods are available.
    A workload that was scaled up must have its new number of pods from the first snapshot that has them.
    Scaling down excuses as many pods as it takes: in the middle of a rollout, the Deployment controller
    shrinks the old and the new ReplicaSet in proportion, and does not look at which pods are available.
    After 20 seconds without a snapshot, every pod is excused once, because the cluster may have declared
    silent nodes dead. On a busy machine the simulated kubelet may be late. Then Kubernetes declares pods not
    ready whose containers are ready, and a rollout replaces them first. Such a pod is excused until it is
    ready again, or for 30 seconds after somebody deleted it.

    Attributes:
        needing: Names of workloads that need x86.
        x86: Names of the x86 nodes that must stay while a workload needs them.
        violations: Each violation, with the second of its first occurrence.
        samples: The number of checked snapshots.
    """

    needing: set[str]
    x86: set[str]
    violations: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    _owed: dict[str, int] = field(default_factory=dict)
    _replicas: dict[str, int] = field(default_factory=dict)
    _excused: Counter[str] = field(default_factory=Counter)
    _until: dict[str, float] = field(default_factory=dict)
    _nodes: dict[str, str] = field(default_factory=dict)
    _lost: set[str] = field(default_factory=set)
    _late: dict[str, tuple[str, float]] = field(default_factory=dict)
    _last: float = 0.0

    def excuse(self, workload: str, pods: int, at: float) -> None:
        """A fault removes so many pods of a workload at this time."""
        self._excused[workload] += pods
        self._until[workload] = at

    def excuse_node(self, node: str) -> None:
        """A fault deletes a node; the next node with this name must stay."""
        self._lost.add(node)

    def look(self, snapshot: Snapshot) -> None:
        """Check a snapshot."""
        self.samples += 1
        if self.samples > 1 and snapshot.at - self._last > SILENCE_SECONDS:
            for workload in snapshot.workloads:
                self.excuse(name_of(workload), int(workload["spec"].get("replicas", 1)), snapshot.at)
        self._last = snapshot.at
        self._look_at_kubelets(snapshot)
        self._look_at_nodes(snapshot)
        self._look_at_pods(snapshot)
        for workload in snapshot.workloads:
            self._look_at_workload(snapshot, workload)

    def say(self, sentence: str, at: float) -> None:
        """Record a violation."""
        self.violations.setdefault(sentence, at)

    def _look_at_kubelets(self, snapshot: Snapshot) -> None:
        """Remember the workload of each pod whose kubelet is late, and until when it is excused."""
        for pod in snapshot.pods:
            if _declared_not_ready(pod):
                self._late[name_of(pod)] = _app(pod), snapshot.at + KUBELET_SECONDS
            elif not pod["metadata"].get("deletionTimestamp"):
                self._late.pop(name_of(pod), None)

    def _excused_by_kubelets(self, snapshot: Snapshot, workload: str) -> int:
        return sum(name == workload and until > snapshot.at for name, until in self._late.values())

    def _look_at_nodes(self, snapshot: Snapshot) -> None:
        there = {name_of(node): node for node in snapshot.nodes}
        for name in sorted(self.x86) if self.needing else ():
            node = there.get(name)
            uid = str(node["metadata"]["uid"]) if node else ""
            before = self._nodes.get(name)
            if before and uid != before:
                if name not in self._lost:
                    what = "was replaced" if uid else "was removed"
                    self.say(f"x86 node {name} {what} while {_names(self.needing)} need x86", snapshot.at)
                if uid:
                    self._lost.discard(name)
            if node:
                self._nodes[name] = uid
                if node["metadata"]["labels"].get(ARCH) != "amd64":
                    self.say(f"x86 node {name} is no longer an x86 node", snapshot.at)

    def _look_at_pods(self, snapshot: Snapshot) -> None:
        sides = {name_of(node): node["metadata"]["labels"].get(ARCH) for node in snapshot.nodes}
        for pod in snapshot.pods:
            if _app(pod) in self.needing and sides.get(pod["spec"].get("nodeName", "")) == "arm64":
                self.say(f"{_app(pod)} needs x86, but its pod {name_of(pod)} is on Graviton", snapshot.at)

    def _look_at_workload(self, snapshot: Snapshot, workload: Object) -> None:
        name, replicas = name_of(workload), int(workload["spec"].get("replicas", 1))
        if replicas < (before := self._replicas.get(name, replicas)):
            self.excuse(name, before - replicas, snapshot.at)
        self._replicas[name] = replicas
        serving = available(snapshot, name)
        if serving >= replicas and snapshot.at >= self._until.get(name, 0) + 2:
            self._excused[name] = 0
        # Once a workload has had its pods, it must keep them.
        if serving >= replicas:
            self._owed[name] = replicas
        owed = self._owed[name] = min(self._owed.get(name, 0), replicas)
        least = least_available(workload, owed) - self._excused[name]
        if serving + self._excused_by_kubelets(snapshot, name) < least:
            self.say(
                f"{name} had {serving} of {owed} pods available, but its own limits require {least} "
                f"({_missing(snapshot, name)})",
                snapshot.at,
            )


def _missing(snapshot: Snapshot, workload: str) -> str:
    """Return what became of the pods of a workload that do not serve."""
    nodes = {name_of(node): node for node in snapshot.nodes}
    reasons = Counter(
        _why_not(pod, nodes)
        for pod in snapshot.pods
        if _app(pod) == workload and not _serves(pod, set(nodes))
    )
    return ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items())) or "no other pods"


def _why_not(pod: Object, nodes: Mapping[str, Object]) -> str:
    name = pod["spec"].get("nodeName")
    if pod["metadata"].get("deletionTimestamp"):
        return "being deleted"
    if not name:
        return "without a node"
    if name not in nodes:
        return f"on {name}, which is gone"
    if not _is_ready(nodes[name]):
        return f"on {name}, which is not ready"
    return "declared not ready" if _declared_not_ready(pod) else "not ready"


def at_rest(snapshot: Snapshot, expected: Mapping[str, Object], nodes: Iterable[str]) -> list[str]:
    """Return what is wrong in the cluster at rest; empty if nothing is.

    Args:
        snapshot: The state of the cluster.
        expected: Name to the workload as its owners want it.
        nodes: Names of the stack's nodes.
    """
    live_workloads = {name_of(workload): workload for workload in snapshot.workloads}
    problems = [f"{name} is lost" for name in sorted(set(expected) - set(live_workloads))]
    problems += [f"{name} is unexpected" for name in sorted(set(live_workloads) - set(expected))]
    for name in sorted(set(expected) & set(live_workloads)):
        wanted, live = theirs(expected[name]), theirs(live_workloads[name])
        problems += [f"{name}: {difference}" for difference in _differences(wanted, live, "spec")]
        replicas, serving = int(expected[name]["spec"].get("replicas", 1)), available(snapshot, name)
        if serving != replicas:
            problems.append(f"{name} has {serving} of {replicas} pods available at rest")
    there = {name_of(node): node for node in snapshot.nodes}
    problems += [f"node {name} is lost" for name in sorted(set(nodes) - set(there))]
    problems += [f"node {name} is unexpected" for name in sorted(set(there) - set(nodes))]
    problems += [
        f"node {name} is cordoned" for name, node in there.items() if node["spec"].get("unschedulable")
    ]
    return problems


def theirs(workload: Object) -> dict[str, Any]:
    """Return a workload's spec without the fields that archshift may set."""
    spec = copy.deepcopy(dict(workload["spec"]))
    template = spec["template"]
    meta, pod = template.get("metadata") or {}, template["spec"]
    annotations = meta.get("annotations") or {}
    # With placement at admission, workloads whose limits let no pod be away are restarted.
    kept = {key: value for key, value in annotations.items() if "archshift" not in key and key != _RESTARTED}
    template["metadata"] = {"labels": meta.get("labels"), **({"annotations": kept} if kept else {})}
    affinity = {
        key: value for key, value in (pod.pop("affinity", None) or {}).items() if key != "nodeAffinity"
    }
    spreads = [
        spread
        for spread in pod.pop("topologySpreadConstraints", ())
        # archshift's soft spreads count each revision by itself; the fleet's own do not.
        if spread["topologyKey"] != ARCH and "matchLabelKeys" not in spread
    ]
    tolerations = [
        toleration
        for toleration in pod.pop("tolerations", ())
        if "archshift" not in str(toleration.get("key"))
    ]
    for key, value in (
        ("affinity", affinity),
        ("topologySpreadConstraints", spreads),
        ("tolerations", tolerations),
    ):
        if value:
            pod[key] = value
    return spec


def _differences(wanted: Any, live: Any, where: str) -> list[str]:
    if isinstance(wanted, Mapping) and isinstance(live, Mapping):
        keys = sorted({*wanted, *live})
        return [
            difference
            for key in keys
            for difference in _differences(wanted.get(key), live.get(key), f"{where}.{key}")
        ]
    return [] if wanted == live else [f"{where} is {live!r}, not {wanted!r}"]


def _names(names: Iterable[str]) -> str:
    return " and ".join(sorted(names))
