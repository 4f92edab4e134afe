"""Injects each kind of fault into the lab."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from archshift.cluster.client import MERGE, Cluster
from archshift.cluster.kinds import CONTROLLERS, workload_path
from archshift.common.errors import ArchshiftError
from chaos.fleet import NAMESPACE, NEEDING, workloads
from chaos.invariants import ARCH, Checker, name_of, theirs
from chaos.proxy import Proxy
from chaos.schedule import Fault
from lab.control_plane import Lab

USER: Final = "archshift"
"""The ServiceAccount of the engine and archshift; the API server never throttles administrators."""

STRATEGIC: Final = "application/strategic-merge-patch+json"
_PATIENCE: Final = 60.0
_NODES: Final = "/api/v1/nodes"
_MORE_THAN_A_NODE: Final = "64"
"""vCPU. A pod that requests so many is pending, and its rollout never ends."""
_TAINTS: Final = (
    "node.cilium.io/agent-not-ready",
    "ToBeDeletedByClusterAutoscaler",
    "karpenter.sh/disrupted",
    "startup-taint.cluster-autoscaler.kubernetes.io/agent",
)
"""Taints of agents and autoscalers that say nothing about where a workload may run."""
_FLOW: Final = "/apis/flowcontrol.apiserver.k8s.io/v1"
_THROTTLED: Final = "chaos-throttled"


class Faults:
    """Starts and ends faults.

    Attributes:
        injected: The number of faults by kind.
        kill_after: Kill the next engine so many seconds after its start; None for no kill.
        attempts: The `pick` of each waiting attempt to remove x86.
        nodes_lost: A node was deleted after the engine's last refresh.
    """

    def __init__(
        self,
        lab: Lab,
        cluster: Cluster,
        proxy: Proxy,
        checker: Checker,
        lock: threading.Lock,
        expected: dict[str, dict[str, Any]],
        clock: Callable[[], float],
    ) -> None:
        self._lab, self._cluster, self._proxy = lab, cluster, proxy
        self._checker, self._lock, self._expected, self._clock = checker, lock, expected, clock
        # What the end of a fault needs from its beginning.
        self._targets: dict[Fault, str] = {}
        self._nodes: dict[Fault, set[str]] = {}
        self._replicas: dict[Fault, int] = {}
        # Never kill a server during a start of the lab, because the start would fail.
        self._servers = threading.Lock()
        self.injected: Counter[str] = Counter()
        self.kill_after: float | None = None
        self.attempts: list[float] = []
        self.nodes_lost = False

    def begin(self, fault: Fault) -> str:
        """Start a fault; returns its target."""
        self.injected[fault.kind] += 1
        match fault.kind:
            case "api-restart":
                with self._servers:
                    self._lab.kill("kube-apiserver")
            case "drop":
                self._proxy.drop()
            case "refuse":
                self._proxy.refuse(True)
            case "slow":
                self._proxy.slow(0.05 + 0.25 * fault.pick)
            case "stall":
                self._proxy.stall(True)
            case "throttle":
                self._retry(lambda: self._cluster.create(f"{_FLOW}/flowschemas", _flow_schema()))
            case "registry":
                with self._servers:
                    self._lab.kill("registry")
            case "node":
                return self._delete_node(fault.pick)
            case "unpatch":
                return self._unpatch(self._picked(fault.pick))
            case "take":
                self._targets[fault] = self._picked(fault.pick)
                return self._take(self._targets[fault])
            case "cordon":
                self._nodes[fault] = self._picked_nodes(fault.pick)
                self._change_nodes(self._nodes[fault], lambda _: {"unschedulable": True})
                return ", ".join(sorted(self._nodes[fault]))
            case "taint":
                self._nodes[fault] = self._picked_nodes(fault.pick)
                self._change_nodes(self._nodes[fault], lambda spec: _tainted(spec, _taint(fault)))
                return f"{_taint(fault)} on {', '.join(sorted(self._nodes[fault]))}"
            case "delete":
                self._targets[fault] = self._picked(fault.pick)
                return self._delete(self._targets[fault])
            case "pause":
                self._targets[fault] = self._picked(fault.pick)
                return self._change(self._targets[fault], {"paused": True})
            case "undo":
                return self._undo(self._picked(fault.pick))
            case "reapply":
                return self._reapply(self._picked(fault.pick))
            case "stuck":
                self._targets[fault] = self._picked(fault.pick)
                return self._change(self._targets[fault], _requests(_MORE_THAN_A_NODE))
            case "autoscale":
                return self._scale_up(fault)
            case "deploy":
                return self._deploy(fault.pick)
            case "scale":
                return self._scale(fault.pick)
            case "kill":
                self.kill_after = 12 * fault.pick
            case "remove-x86":
                self.attempts.append(fault.pick)
        return ""

    def end(self, fault: Fault) -> None:
        """End a fault that lasts."""
        match fault.kind:
            case "api-restart" | "registry":
                with self._servers:
                    self._lab.start()
            case "refuse":
                self._proxy.refuse(False)
            case "slow":
                self._proxy.slow(0)
            case "stall":
                self._proxy.stall(False)
            case "throttle":
                self._retry(lambda: self._cluster.delete(f"{_FLOW}/flowschemas/{_THROTTLED}"))
            case "take":
                self._unpatch(self._targets.pop(fault))
            case "cordon":
                self._change_nodes(self._nodes.pop(fault), lambda _: {"unschedulable": None})
            case "taint":
                self._change_nodes(self._nodes.pop(fault), lambda spec: _untainted(spec, _taint(fault)))
            case "delete":
                self._create(self._targets.pop(fault))
            case "pause":
                self._change(self._targets.pop(fault), {"paused": None})
            case "stuck":
                name = self._targets.pop(fault)
                self._change(name, _requests(_request(self._expected[name])))
            case "autoscale":
                self._set_replicas(self._targets.pop(fault), self._replicas.pop(fault))

    def _retry(self, what: Callable[[], Any]) -> Any:
        """Repeat a request until the API server answers it."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                return what()
            except ArchshiftError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _picked(self, pick: float) -> str:
        """Return a Deployment that does not need x86, because the checker guards the ones that do."""
        names = sorted(
            name
            for name, workload in self._expected.items()
            if workload["kind"] == "Deployment" and name not in NEEDING
        )
        return names[int(pick * len(names))]

    def _patch(self, kind: str, name: str, body: Mapping[str, Any], manager: str) -> None:
        path = workload_path(kind, NAMESPACE, name)
        self._retry(lambda: self._cluster.patch(path, body, STRATEGIC, manager))

    def _excuse(self, pods: Mapping[str, int]) -> None:
        with self._lock:
            for name, count in pods.items():
                self._checker.excuse(name, count, self._clock())

    def _delete_node(self, pick: float) -> str:
        nodes = sorted(name_of(node) for node in self._retry(lambda: [*self._cluster.list(_NODES)]))
        if not nodes:
            return "nothing: there is no node"
        node = nodes[int(pick * len(nodes))]
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        here = self._retry(lambda: [*self._cluster.list(pods, fieldSelector=f"spec.nodeName={node}")])
        lost = Counter(pod["metadata"]["labels"]["app"] for pod in here)
        self._excuse(lost)
        with self._lock:
            self._checker.excuse_node(node)
        self._retry(lambda: self._cluster.delete(f"{_NODES}/{node}"))
        # Do now what the pod garbage collector would do a minute later for a lost node.
        force = [f"--namespace={NAMESPACE}", "--force", "--grace-period=0", "--wait=false"]
        selector = f"--field-selector=spec.nodeName={node}"
        self._lab.run("kubectl", "delete", "pods", selector, *force)
        # This also excuses pods that the scheduler bound to the node in the meantime.
        self._excuse(dict.fromkeys(lost, 0))
        self.nodes_lost = True
        return node

    def _unpatch(self, name: str) -> str:
        pod = {
            "affinity": {"nodeAffinity": None},
            "topologySpreadConstraints": [{"topologyKey": ARCH, "$patch": "delete"}],
        }
        self._patch("Deployment", name, {"spec": {"template": {"spec": pod}}}, "cleanup")
        return name

    def _take(self, name: str) -> str:
        match = {"matchExpressions": [{"key": ARCH, "operator": "In", "values": ["amd64"]}]}
        preferred = [{"weight": 7, "preference": match}]
        node = {"preferredDuringSchedulingIgnoredDuringExecution": preferred}
        pod = {"affinity": {"nodeAffinity": node}}
        self._patch("Deployment", name, {"spec": {"template": {"spec": pod}}}, "somebody")
        return name

    def _deploy(self, pick: float) -> str:
        names = sorted(self._expected)
        name = names[int(pick * len(names))]
        env = [{"name": "RELEASE", "value": f"{pick:.6f}"}]
        patch = {"spec": {"template": {"spec": {"containers": [{"name": "app", "env": env}]}}}}
        self._patch(self._expected[name]["kind"], name, patch, "deployer")
        self._expected[name]["spec"]["template"]["spec"]["containers"][0]["env"] = env
        return name

    def _scale(self, pick: float) -> str:
        # Use the digits of `pick` that did not choose the workload.
        return self._set_replicas(self._picked(pick), 1 + int(pick * 1000) % 10)

    def _scale_up(self, fault: Fault) -> str:
        """Scale a workload up, as an autoscaler does under load; it scales down again at the end."""
        name = self._targets[fault] = self._picked(fault.pick)
        before = self._replicas[fault] = self._expected[name]["spec"]["replicas"]
        return self._set_replicas(name, before + 1 + int(fault.pick * 1000) % 4)

    def _set_replicas(self, name: str, replicas: int) -> str:
        before = self._expected[name]["spec"]["replicas"]
        # During a rollout, a controller may remove different pods than at rest.
        self._excuse({name: max(0, before - replicas)})
        self._patch("Deployment", name, {"spec": {"replicas": replicas}}, "autoscaler")
        self._excuse({name: 0})
        self._expected[name]["spec"]["replicas"] = replicas
        return f"{name} from {before} to {replicas}"

    # --- nodes -------------------------------------------------------------------------------

    def _picked_nodes(self, pick: float) -> set[str]:
        """Return one node, or each node of a side: an upgrade cordons all of them."""
        sides: dict[str, set[str]] = {}
        for node in self._retry(lambda: [*self._cluster.list(_NODES)]):
            sides.setdefault(node["metadata"]["labels"][ARCH], set()).add(name_of(node))
        nodes = sides[sorted(sides)[int(pick * len(sides))]] if sides else set()
        # Use the digits of `pick` that did not choose the side.
        return nodes if int(pick * 1000) % 2 else set(sorted(nodes)[:1])

    def _change_nodes(self, names: set[str], change: Callable[[Mapping[str, Any]], dict[str, Any]]) -> None:
        """Change the spec of the nodes that still exist."""

        def once() -> None:
            # A node may go between the two requests. Then the next attempt does not list it.
            for node in self._cluster.list(_NODES):
                if name_of(node) in names:
                    body = {"spec": change(node["spec"])}
                    self._cluster.patch(f"{_NODES}/{name_of(node)}", body, MERGE, "operations")

        self._retry(once)

    # --- owners ------------------------------------------------------------------------------

    def _change(self, name: str, spec: Mapping[str, Any]) -> str:
        """Change a Deployment's spec as its owner."""
        self._patch("Deployment", name, {"spec": spec}, "deployer")
        return name

    def _delete(self, name: str) -> str:
        """Delete a Deployment. Its pods go with it."""
        self._excuse({name: self._expected[name]["spec"]["replicas"]})
        self._retry(lambda: self._cluster.delete(workload_path("Deployment", NAMESPACE, name)))
        return name

    def _create(self, name: str) -> None:
        """Create a Deployment again from its owner's manifest, which knows nothing of archshift."""
        workload = self._expected[name]
        body = {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": theirs(workload),
        }
        self._excuse({name: workload["spec"]["replicas"]})
        collection = CONTROLLERS["Deployment"].collection(NAMESPACE)
        self._retry(lambda: self._cluster.create(collection, body, "deployer"))

    def _undo(self, name: str) -> str:
        """Go back to the last revision; this also takes back what archshift wrote since."""
        done = self._lab.run("kubectl", "rollout", "undo", f"deployment/{name}", f"--namespace={NAMESPACE}")
        if done.returncode:
            return f"{name}: nothing: {done.stderr.strip()[:100]}"
        path = workload_path("Deployment", NAMESPACE, name)
        live = self._retry(lambda: self._cluster.get(path))
        if _request(live) == _MORE_THAN_A_NODE:
            # The last revision was that of the fault `stuck`, which must not stay for good.
            self._change(name, _requests(_request(_manifest(name))))
            live = self._retry(lambda: self._cluster.get(path))
        self._expected[name]["spec"]["template"] = live["spec"]["template"]
        return name

    def _reapply(self, name: str) -> str:
        """Apply the owner's manifest once more, as a pipeline does; it owns the number of replicas."""
        manifest = _manifest(name)
        before, replicas = self._expected[name]["spec"]["replicas"], manifest["spec"]["replicas"]
        self._excuse({name: max(0, before - replicas)})
        path = workload_path("Deployment", NAMESPACE, name)
        self._retry(lambda: self._cluster.apply(path, manifest, "pipeline", force=True))
        self._excuse({name: 0})
        self._expected[name]["spec"]["replicas"] = replicas
        return name


def _manifest(name: str) -> dict[str, Any]:
    (manifest,) = (workload for workload in workloads() if name_of(workload) == name)
    return manifest


def _requests(cpu: str) -> dict[str, Any]:
    container = {"name": "app", "resources": {"requests": {"cpu": cpu}}}
    return {"template": {"spec": {"containers": [container]}}}


def _request(workload: Mapping[str, Any]) -> str:
    (container,) = workload["spec"]["template"]["spec"]["containers"]
    return str(container["resources"]["requests"]["cpu"])


def _taint(fault: Fault) -> str:
    return _TAINTS[int(fault.pick * len(_TAINTS))]


def _tainted(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"taints": [*_untainted(spec, key)["taints"], {"key": key, "effect": "NoSchedule"}]}


def _untainted(spec: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {"taints": [taint for taint in spec.get("taints") or () if taint["key"] != key]}


def _flow_schema() -> dict[str, Any]:
    account = {"name": USER, "namespace": "default"}
    rule = {
        "verbs": ["*"],
        "apiGroups": ["*"],
        "resources": ["*"],
        "namespaces": ["*"],
        "clusterScope": True,
    }
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "FlowSchema",
        "metadata": {"name": _THROTTLED},
        "spec": {
            "matchingPrecedence": 2,
            "priorityLevelConfiguration": {"name": _THROTTLED},
            "rules": [
                {
                    "subjects": [{"kind": "ServiceAccount", "serviceAccount": account}],
                    "resourceRules": [rule],
                }
            ],
        },
    }


def throttling() -> dict[str, Any]:
    """Return the priority level of the fault `throttle`: it rejects each request with 429."""
    limited = {
        "nominalConcurrencyShares": 0,
        "lendablePercent": 0,
        "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Reject"},
    }
    return {
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1",
        "kind": "PriorityLevelConfiguration",
        "metadata": {"name": _THROTTLED},
        "spec": {"type": "Limited", "limited": limited},
    }
