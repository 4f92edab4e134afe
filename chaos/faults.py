"""Injects each kind of fault into the lab."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Final

from archshift.cluster.client import Cluster
from archshift.cluster.kinds import workload_path
from archshift.common.errors import ArchshiftError
from chaos.fleet import NAMESPACE, NEEDING
from chaos.invariants import ARCH, Checker, name_of
from chaos.proxy import Proxy
from chaos.schedule import Fault
from lab.control_plane import Lab

USER: Final = "archshift"
"""The ServiceAccount of the engine and archshift; the API server never throttles administrators."""

STRATEGIC: Final = "application/strategic-merge-patch+json"
_PATIENCE: Final = 60.0
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
        self._taken: dict[Fault, str] = {}
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
                self._taken[fault] = self._picked(fault.pick)
                return self._take(self._taken[fault])
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
                self._unpatch(self._taken.pop(fault))

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
        nodes = sorted(name_of(node) for node in self._retry(lambda: [*self._cluster.list("/api/v1/nodes")]))
        if not nodes:
            return "nothing: there is no node"
        node = nodes[int(pick * len(nodes))]
        pods = f"/api/v1/namespaces/{NAMESPACE}/pods"
        here = self._retry(lambda: [*self._cluster.list(pods, fieldSelector=f"spec.nodeName={node}")])
        lost = Counter(pod["metadata"]["labels"]["app"] for pod in here)
        self._excuse(lost)
        with self._lock:
            self._checker.excuse_node(node)
        self._retry(lambda: self._cluster.delete(f"/api/v1/nodes/{node}"))
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
        name = self._picked(pick)
        before = self._expected[name]["spec"]["replicas"]
        # Use the digits of `pick` that did not choose the workload.
        replicas = 1 + int(pick * 1000) % 10
        # During a rollout, a controller may remove different pods than at rest.
        self._excuse({name: max(0, before - replicas)})
        self._patch("Deployment", name, {"spec": {"replicas": replicas}}, "autoscaler")
        self._excuse({name: 0})
        self._expected[name]["spec"]["replicas"] = replicas
        return f"{name} from {before} to {replicas}"


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
