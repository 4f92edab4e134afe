"""Pods as the nodes under them see them: whose they are, what would take them, what holds them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.kinds import controller_of, on_every_node
from archshift.cluster.pod_fields import read_fields
from archshift.cluster.scheduling import admits, matches
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
        node: Its node; empty for none yet.
        owner: Its controller; None for a bare pod.
        labels: Its labels.
        rules: The placement side of its spec, by our names of the fields.
        finalizers: What has to happen before it can be gone.
        leaving: It is being deleted.
        ready: It is ready and not leaving.
        unschedulable: The scheduler's words where it finds no node for it.
        mirror: Its node's kubelet runs it from a file.
    """

    namespace: str
    name: str
    uid: str
    node: str = ""
    owner: Controller | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
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
    def tied(self) -> bool:
        """It belongs to its node and goes with it: of a DaemonSet, or a mirror pod."""
        return self.mirror or (self.owner is not None and on_every_node(self.owner.kind))

    def fits(self, node: Node) -> bool:
        """Whether its rules and the node's taints let it run there, capacity aside."""
        rules = self.rules
        return admits(node, rules.get("node-selector"), rules.get("required"), rules.get("tolerations") or ())


def read_pod(item: Mapping[str, Any]) -> Pod:
    """Reduce a pod's JSON."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    references = meta.get("ownerReferences") or ()
    owner = next((ref for ref in references if ref.get("controller")), None)
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    leaving = bool(meta.get("deletionTimestamp"))
    scheduled = conditions.get("PodScheduled") or {}
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta.get("uid", ""),
        node=spec.get("nodeName", ""),
        owner=Controller(meta["namespace"], owner["kind"], owner["name"]) if owner else None,
        labels=meta.get("labels") or {},
        rules=read_fields(spec),
        finalizers=tuple(meta.get("finalizers") or ()),
        leaving=leaving,
        ready=not leaving and (conditions.get("Ready") or {}).get("status") == "True",
        unschedulable=str(scheduled.get("message", "")) if scheduled.get("status") == "False" else "",
        # Its owner is then the node itself.
        mirror=_MIRROR in (meta.get("annotations") or {}),
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
    holding = [one for one in budgets if _selects(one["spec"].get("selector"), pod.labels)]
    names = " and ".join(one["metadata"]["name"] for one in holding)
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
