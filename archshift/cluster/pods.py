"""Pods: their owners, images and requests, and which nodes they fit."""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.entries import PLACED_ANNOTATION
from archshift.cluster.kinds import Resource, controller_of, on_every_node
from archshift.cluster.model import PullIdentity
from archshift.cluster.ownership import OURS, owners, path_of
from archshift.cluster.pod_fields import Template, template_of_pod
from archshift.cluster.pod_needs import requests_of
from archshift.cluster.troubles import BrokenContainer, broken_container, failing_container
from archshift.common.kubernetes import OS_LABEL
from archshift.common.resources import Resources

if TYPE_CHECKING:
    # Importing its HTTP client takes longer than the rest, and here it is only an annotation.
    from archshift.cluster.client import Cluster

_PODS: Final = Resource(api_version="v1", plural="pods")

_DEFAULT_SCHEDULER: Final = "default-scheduler"

_MIRROR: Final = "kubernetes.io/config.mirror"
"""On the API server's copy of a pod that a kubelet runs from a file on its node."""

COST_ANNOTATION: Final = "controller.kubernetes.io/pod-deletion-cost"
"""On a pod: which pod of a ReplicaSet ends first. The lowest number ends first; without one, it is 0."""

COSTS_SUFFIX: Final = "/deletion-costs"
"""The end of the name with which a stack owns these annotations in ``managedFields``."""


@dataclass(frozen=True, slots=True)
class Controller:
    """The controller that replaces a pod; for a Deployment's pods, a ReplicaSet.

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
    """A pod that has not ended.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        uid: Its UID, because a StatefulSet's next pod has the same name.
        requests: Its requests, as the scheduler counts them.
        images: What its node pulls, reduced, as JSON. Pods of one workload have the same text.
        pulls_as: The identity with which it pulls its images.
        node: The name of its node; empty if it has none yet.
        owner: Its controller; None for a bare pod.
        labels: Its labels.
        annotations: Its annotations, without ``COST_ANNOTATION``.
        cost: Its deletion cost that archshift set; None if it set none.
        cost_manager: The name of the stack in ``managedFields`` that set it; empty if none did.
        cost_at: When archshift last set its deletion cost, as the API server writes it; empty if it set none.
        cost_owner: Who else sets its deletion cost, by the name in ``managedFields``; empty if nobody does.
        template: What its spec says about where it may run, without what archshift's policy added.
        system: The operating system that it needs.
        claims: The names of the claims of its volumes, without those that are deleted with it.
        created: When it was created, as the API server writes it.
        finalizers: Its finalizers, which must be removed before it can be gone.
        scheduler: The scheduler that places it; empty for the default scheduler.
        device_claims: The names of its ResourceClaims.
        runs_to_end: Whether it ends by itself, like the pods of a Job.
        leaving: Whether it is being deleted.
        ready: Whether it is ready and not being deleted.
        ready_since: When it became ready or stopped to be, as the API server writes it; empty if never.
        unschedulable: The scheduler's message if no node fits it; otherwise empty.
        failing: The words of a container that does not run; empty if all run or start.
        broken: A container that is proven not to run where the pod is; None if all may still start.
        mirror: Whether its node's kubelet runs it from a file.
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
    cost: int | None = None
    cost_manager: str = ""
    cost_at: str = ""
    cost_owner: str = ""
    template: Template = field(default_factory=Template)
    system: str = "linux"
    claims: tuple[str, ...] = ()
    created: str = ""
    finalizers: tuple[str, ...] = ()
    scheduler: str = ""
    device_claims: tuple[str, ...] = ()
    runs_to_end: bool = False
    leaving: bool = False
    ready: bool = True
    ready_since: str = ""
    unschedulable: str = ""
    failing: str = ""
    broken: BrokenContainer | None = None
    mirror: bool = False

    @property
    def key(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"

    @property
    def rules(self) -> Mapping[str, Any]:
        """The fields of its spec that decide where it may run, by our names of the fields."""
        return self.template.spec

    @property
    def placed_by(self) -> str:
        """The entry by which archshift's policy placed it; empty if the policy did not."""
        return self.annotations.get(PLACED_ANNOTATION, "")

    @property
    def workload(self) -> str:
        """``namespace/Kind/name`` of its workload, such as a Deployment; of itself, for a bare pod."""
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
        """Whether it belongs to its node and ends with it: a DaemonSet's pod or a mirror pod."""
        return self.mirror or (self.owner is not None and on_every_node(self.owner.kind))


def system_of(pod_spec: Mapping[str, Any]) -> str:
    """Return the operating system that a pod needs; without a word about it, that is Linux."""
    name = (pod_spec.get("os") or {}).get("name") or (pod_spec.get("nodeSelector") or {}).get(OS_LABEL)
    if name:
        return str(name)
    affinity = (pod_spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    windows = {"key": OS_LABEL, "operator": "In", "values": ["windows"]}
    terms = required.get("nodeSelectorTerms") or ()
    return "windows" if any(windows in (term.get("matchExpressions") or ()) for term in terms) else "linux"


def scheduler_of(pod_spec: Mapping[str, Any]) -> str:
    """Return the scheduler of pods of this spec; empty for the default scheduler."""
    name = pod_spec.get("schedulerName") or _DEFAULT_SCHEDULER
    return "" if name == _DEFAULT_SCHEDULER else str(name)


def pull_identity(namespace: str, pod_spec: Mapping[str, Any]) -> PullIdentity:
    """Return the identity with which pods of this spec pull their images."""
    return PullIdentity(
        namespace,
        pod_spec.get("serviceAccountName") or "default",
        tuple(entry["name"] for entry in pod_spec.get("imagePullSecrets") or () if entry.get("name")),
    )


def _images(item: Mapping[str, Any]) -> str:
    """Return what a node pulls for a pod, reduced, as JSON. Pods of one workload give the same text."""
    spec, status = item["spec"], item.get("status") or {}
    kept = ("name", "image", "command", "args", "workingDir", "env", "restartPolicy")
    # The volume with the account's token has another name in every pod (kube-api-access-x7k2p). So volumes
    # get numbers, because only the containers that share a volume count.
    numbers: dict[str, str] = {}

    def container(original: Mapping[str, Any]) -> dict[str, Any]:
        reduced = {key: original[key] for key in kept if key in original}
        if mounts := original.get("volumeMounts"):
            reduced["volumeMounts"] = [
                {**mount, "name": numbers.setdefault(mount.get("name", ""), str(len(numbers)))}
                for mount in mounts
            ]
        return reduced

    volumes = [
        {"name": volume["name"], "image": {"reference": volume["image"].get("reference")}}
        for volume in spec.get("volumes") or ()
        if volume.get("image") is not None
    ]
    return _as_json(
        {
            "spec": {
                group: [container(entry) for entry in spec[group]]
                for group in ("containers", "initContainers", "ephemeralContainers")
                if spec.get(group)
            }
            | ({"volumes": volumes} if volumes else {}),
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
    """Return the fields that decide where a pod may run, as JSON. Pods of one owner give the same text."""
    kept = ("nodeSelector", "affinity", "tolerations", "topologySpreadConstraints", "os", "hostNetwork")
    placement = {key: pod_spec[key] for key in kept if pod_spec.get(key)}
    for group in ("containers", "initContainers"):
        # A port of the node is a rule too: two pods with one port never share a node.
        with_ports = [
            {key: container[key] for key in ("ports", "restartPolicy") if key in container}
            for container in pod_spec.get(group) or ()
            if _takes_host_port(container, pod_spec)
        ]
        if with_ports:
            placement[group] = with_ports
    return _as_json(placement)


def _takes_host_port(container: Mapping[str, Any], pod_spec: Mapping[str, Any]) -> bool:
    ports = container.get("ports") or ()
    return bool(ports) and bool(pod_spec.get("hostNetwork") or any(port.get("hostPort") for port in ports))


_as_json = json.JSONEncoder(sort_keys=True).encode

# Pods share equal values.
_controller = lru_cache(maxsize=4096)(Controller)


# Most pods of a workload have the same labels and annotations. One shared map for all saves memory.
@lru_cache(maxsize=4096)
def _shared(items: tuple[tuple[str, str], ...]) -> Mapping[str, str]:
    return dict(items)


@lru_cache(maxsize=4096)
def _template(placement: str, placed_by: str) -> tuple[Template, str]:
    pod_spec = json.loads(placement)
    return template_of_pod(pod_spec, placed_by), system_of(pod_spec)


def _claims(pod_spec: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod_spec.get("volumes") or ()
        if "persistentVolumeClaim" in volume
    )


def read_pod(item: Mapping[str, Any]) -> Pod:
    """Reduce a pod's JSON to what archshift needs."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    references = meta.get("ownerReferences") or ()
    owner = next((ref for ref in references if ref.get("controller")), None)
    conditions = {condition["type"]: condition for condition in status.get("conditions") or ()}
    leaving = bool(meta.get("deletionTimestamp"))
    own = meta.get("annotations") or {}
    cost, cost_manager, cost_owner = _deletion_cost(meta) if COST_ANNOTATION in own else (None, "", "")
    annotations = _shared(tuple((name, text) for name, text in own.items() if name != COST_ANNOTATION))
    scheduled, ready = conditions.get("PodScheduled") or {}, conditions.get("Ready") or {}
    template, system = _template(_placement(spec), annotations.get(PLACED_ANNOTATION, ""))
    return Pod(
        namespace=meta["namespace"],
        name=meta["name"],
        uid=meta.get("uid", ""),
        node=spec.get("nodeName", ""),
        owner=_controller(meta["namespace"], owner["kind"], owner["name"]) if owner else None,
        labels=_shared(tuple((meta.get("labels") or {}).items())),
        annotations=annotations,
        cost=cost,
        cost_manager=cost_manager,
        cost_at=_owned_since(meta, cost_manager) if cost_manager else "",
        cost_owner=cost_owner,
        template=template,
        system=system,
        claims=_claims(spec),
        created=meta.get("creationTimestamp", ""),
        requests=requests_of(spec, status),
        images=sys.intern(_images(item)),
        pulls_as=pull_identity(meta["namespace"], spec),
        finalizers=tuple(meta.get("finalizers") or ()),
        scheduler=scheduler_of(spec),
        device_claims=tuple(claim["name"] for claim in spec.get("resourceClaims") or ()),
        # Controllers that replace ended pods demand restartPolicy Always.
        runs_to_end=spec.get("restartPolicy", "Always") != "Always",
        leaving=leaving,
        ready=not leaving and ready.get("status") == "True",
        ready_since=str(ready.get("lastTransitionTime") or ""),
        unschedulable=str(scheduled.get("message", "")) if scheduled.get("status") == "False" else "",
        failing="" if leaving else failing_container(status),
        broken=None if leaving else broken_container(spec, status),
        # The owner of a mirror pod is its node.
        mirror=_MIRROR in annotations,
    )


def _deletion_cost(meta: Mapping[str, Any]) -> tuple[int | None, str, str]:
    """Return the cost that archshift set, and as which manager, or who else sets it.

    An annotation without an owner is another's: a template's, or one of a restored object.
    """
    found = owners(meta.get("managedFields") or (), path_of("metadata", "annotations", COST_ANNOTATION))
    managers = sorted(each.manager for each in found)
    if others := [name for name in managers if not is_of_costs(name)]:
        return None, "", others[0]
    try:
        return int(meta["annotations"][COST_ANNOTATION]), managers[0], ""
    except (ValueError, IndexError):
        return None, "", "an unknown client"


def _owned_since(meta: Mapping[str, Any], manager: str) -> str:
    return max(str(entry.get("time", "")) for entry in meta["managedFields"] if entry["manager"] == manager)


def is_of_costs(manager: str) -> bool:
    """Return whether a name in ``managedFields`` is that of a stack that sets deletion costs."""
    return manager.startswith(OURS) and manager.endswith(COSTS_SUFFIX)


def list_pods(cluster: "Cluster", *, node: str = "", namespace: str = "", selector: str = "") -> list[Pod]:
    """Return the pods that have not ended, of a node, of a namespace, or with labels that match a selector.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    parameters = {"fieldSelector": f"spec.nodeName={node}"} if node else {}
    parameters |= {"labelSelector": selector} if selector else {}
    return [read_pod(item) for item in list_running(cluster, namespace, **parameters)]


def list_running(cluster: "Cluster", namespace: str = "", **parameters: str) -> Iterator[dict[str, Any]]:
    """Yield the pods that have not ended, as the API server returns them.

    Args:
        cluster: The connection.
        namespace: Their namespace; empty for all.
        parameters: Query parameters such as ``labelSelector``.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    for item in cluster.list(_PODS.collection(namespace), **parameters):
        if (item.get("status") or {}).get("phase") not in ("Succeeded", "Failed"):
            yield item


def busy_pods(cluster: "Cluster", nodes: Iterable[str]) -> list[Pod]:
    """Return the pods that would be lost with these nodes: all pods on them except those tied to the node.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    return [pod for node in nodes for pod in list_pods(cluster, node=node) if not pod.tied]
