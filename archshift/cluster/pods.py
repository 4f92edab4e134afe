"""Pods: whose they are, what they run and ask for, what would take them, what holds them."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.kinds import controller_of, on_every_node
from archshift.cluster.model import PullIdentity
from archshift.cluster.pod_fields import read_fields
from archshift.cluster.scheduling import admits, matches
from archshift.common.quantity import millicpu, whole
from archshift.common.resources import Resources
from archshift.nodes.groups import Node

if TYPE_CHECKING:
    # Its HTTP client takes longer to import than the rest; what is pure needs only its name.
    from archshift.cluster.client import Cluster

_MIRROR: Final = "kubernetes.io/config.mirror"
"""On the API server's copy of a pod that a kubelet runs from a file of its node."""


@dataclass(frozen=True, slots=True)
class Controller:
    """The controller that makes a pod anew; a Deployment's pods have a ReplicaSet.

    Attributes:
        namespace: Its namespace.
        kind: Its kind.
        name: Its name.
    """

    namespace: str
    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.kind}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """A pod that is not over.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Its identity: a StatefulSet's next pod has the same name.
        requests: What it asks of its node.
        images: What it runs, reduced and as JSON: pods of one workload have the same text.
        pulls_as: As whom it pulls its images.
        node: Its node; empty for none yet.
        owner: Its controller; None for a bare pod.
        labels: Its labels.
        annotations: Its annotations.
        rules: What of its spec decides where it may run, by our names of the fields.
        finalizers: What has to happen before it can be gone.
        leaving: It is being deleted.
        ready: It is ready and not leaving.
        unschedulable: The scheduler's words where it finds no node for it.
        mirror: Its node's kubelet runs it from a file.
    """

    namespace: str
    name: str
    uid: str
    requests: Resources
    images: str
    pulls_as: PullIdentity
    node: str = ""
    owner: Controller | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)
    finalizers: tuple[str, ...] = ()
    leaving: bool = False
    ready: bool = True
    unschedulable: str = ""
    mirror: bool = False

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def workload(self) -> str:
        """``namespace/Kind/name`` of what it belongs to in the end; of itself, for a bare pod."""
        if self.owner is None:
            return f"{self.namespace}/Pod/{self.name}"
        kind, name = controller_of(self.owner.kind, self.owner.name, self.labels)
        return f"{self.namespace}/{kind}/{name}"

    @property
    def maker(self) -> str:
        """``namespace/Kind/name`` of its controller, such as a ReplicaSet; of itself, for a bare pod."""
        return str(self.owner) if self.owner else f"{self.namespace}/Pod/{self.name}"

    @property
    def tied(self) -> bool:
        """It belongs to its node and goes with it: of a DaemonSet, or a mirror pod."""
        return self.mirror or (self.owner is not None and on_every_node(self.owner.kind))

    def fits(self, node: Node) -> bool:
        """Whether its rules and the node's taints let it run there, capacity aside."""
        return fits(self.rules, node)


def fits(rules: Mapping[str, Any], node: Node) -> bool:
    """Say whether rules of a pod and a node's taints let it run there, capacity aside.

    Args:
        rules: As ``Pod.rules``.
        node: The node.
    """
    return admits(node, rules.get("node-selector"), rules.get("required"), rules.get("tolerations") or ())


def requests_of(pod_spec: Mapping[str, Any]) -> Resources:
    """Return a pod's effective requests: containers and sidecars add up, or the largest init container."""
    # Plain numbers, not ``Resources``: a fleet has thousands of pods.
    cpu = memory = init_cpu = init_memory = 0
    for container in pod_spec.get("containers") or ():
        amount = _amount((container.get("resources") or {}).get("requests") or {})
        cpu, memory = cpu + amount[0], memory + amount[1]
    for container in pod_spec.get("initContainers") or ():
        amount = _amount((container.get("resources") or {}).get("requests") or {})
        if container.get("restartPolicy") == "Always":
            cpu, memory = cpu + amount[0], memory + amount[1]
        else:
            init_cpu, init_memory = max(init_cpu, amount[0]), max(init_memory, amount[1])
    overhead = _amount(pod_spec["overhead"]) if pod_spec.get("overhead") else (0, 0)
    return _resources(max(cpu, init_cpu) + overhead[0], max(memory, init_memory) + overhead[1])


def _amount(amounts: Mapping[str, Any]) -> tuple[int, int]:
    return millicpu(str(amounts.get("cpu", "0"))), whole(str(amounts.get("memory", "0")))


def pull_identity(namespace: str, pod_spec: Mapping[str, Any]) -> PullIdentity:
    """Return as whom pods with this spec pull their images."""
    return PullIdentity(
        namespace,
        pod_spec.get("serviceAccountName") or "default",
        tuple(entry["name"] for entry in pod_spec.get("imagePullSecrets") or () if entry.get("name")),
    )


def _images(item: Mapping[str, Any]) -> str:
    """Return what a pod runs, reduced and as JSON: pods of one workload give the same text."""
    spec, status = item["spec"], item.get("status") or {}
    kept = ("name", "image", "command", "args", "workingDir", "env", "restartPolicy")
    # The volume with its account's token is called otherwise in every pod (kube-api-access-x7k2p), so
    # volumes get numbers: what counts is which containers share one.
    numbers: dict[str, str] = {}

    def container(original: Mapping[str, Any]) -> dict[str, Any]:
        reduced = {key: original[key] for key in kept if key in original}
        if mounts := original.get("volumeMounts"):
            reduced["volumeMounts"] = [
                {**mount, "name": numbers.setdefault(mount.get("name", ""), str(len(numbers)))}
                for mount in mounts
            ]
        return reduced

    return _as_json(
        {
            "spec": {
                group: [container(entry) for entry in spec[group]]
                for group in ("containers", "initContainers", "ephemeralContainers")
                if spec.get(group)
            },
            "status": {
                group: [
                    {"name": entry.get("name"), "imageID": entry.get("imageID")} for entry in status[group]
                ]
                for group in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
                if status.get(group)
            },
        }
    )


def _placement(pod_spec: Mapping[str, Any]) -> str:
    """Return what decides where a pod may run, as JSON: pods of one owner give the same text."""
    kept = ("nodeSelector", "affinity", "tolerations")
    return _as_json({key: pod_spec[key] for key in kept if pod_spec.get(key)})


_as_json = json.JSONEncoder(sort_keys=True).encode

# Equal ones are shared.
_controller = lru_cache(maxsize=4096)(Controller)
_resources = lru_cache(maxsize=4096)(Resources)


# The pods of a workload have most of their labels and annotations alike: one map for all keeps a fleet small.
@lru_cache(maxsize=4096)
def _shared(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(items)


@lru_cache(maxsize=4096)
def _rules(placement: str) -> Mapping[str, Any]:
    return read_fields(json.loads(placement))


def read_pod(item: Mapping[str, Any]) -> Pod:
    """Reduce a pod's JSON."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    references = meta.get("ownerReferences") or ()
    owner = next((ref for ref in references if ref.get("controller")), None)
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    leaving = bool(meta.get("deletionTimestamp"))
    annotations = _shared(tuple((meta.get("annotations") or {}).items()))
    scheduled = conditions.get("PodScheduled") or {}
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta.get("uid", ""),
        node=spec.get("nodeName", ""),
        owner=_controller(meta["namespace"], owner["kind"], owner["name"]) if owner else None,
        labels=_shared(tuple((meta.get("labels") or {}).items())),
        annotations=annotations,
        rules=_rules(_placement(spec)),
        requests=requests_of(spec),
        images=sys.intern(_images(item)),
        pulls_as=pull_identity(meta["namespace"], spec),
        finalizers=tuple(meta.get("finalizers") or ()),
        leaving=leaving,
        ready=not leaving and (conditions.get("Ready") or {}).get("status") == "True",
        unschedulable=str(scheduled.get("message", "")) if scheduled.get("status") == "False" else "",
        # Its owner is then the node itself.
        mirror=_MIRROR in annotations,
    )


def list_pods(cluster: "Cluster", *, node: str = "", namespace: str = "", selector: str = "") -> list[Pod]:
    """Return the pods of a node or a namespace, or those of it with some labels, that are not over.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    path = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"
    parameters = {"fieldSelector": f"spec.nodeName={node}"} if node else {}
    parameters |= {"labelSelector": selector} if selector else {}
    return [
        read_pod(item)
        for item in cluster.list(path, **parameters)
        if (item.get("status") or {}).get("phase") not in ("Succeeded", "Failed")
    ]


def busy_pods(cluster: "Cluster", nodes: Iterable[str]) -> list[Pod]:
    """Return the pods on nodes that would be lost with them: all but those that are tied to them.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    return [pod for node in nodes for pod in list_pods(cluster, node=node) if not pod.tied]


def what_holds(pod: Pod, budgets: Sequence[Mapping[str, Any]]) -> str:
    """Return what keeps a pod where it is although its eviction was asked for.

    Args:
        pod: The pod.
        budgets: The PodDisruptionBudgets of its namespace.
    """
    if pod.leaving:
        if pod.finalizers:
            several = "s" if len(pod.finalizers) > 1 else ""
            verb = "hold" if several else "holds"
            return f"its finalizer{several} {' and '.join(pod.finalizers)} {verb} it"
        return "its containers have not ended yet"
    holding = [budget for budget in budgets if _selects(budget["spec"].get("selector"), pod.labels)]
    names = " and ".join(budget["metadata"]["name"] for budget in holding)
    if len(holding) > 1:
        return f"the PodDisruptionBudgets {names} select it, and the eviction API takes no more than one"
    if not holding:
        return "the API server refuses its eviction for now"
    status = holding[0].get("status") or {}
    return (
        f"the PodDisruptionBudget {names} allows {status.get('disruptionsAllowed', 0)} disruptions "
        f"({status.get('currentHealthy', 0)} pods are healthy, {status.get('desiredHealthy', 0)} have to be)"
    )


def _selects(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    if selector is None:
        return False
    return all(
        labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()
    ) and all(matches(labels, expression) for expression in selector.get("matchExpressions") or ())
