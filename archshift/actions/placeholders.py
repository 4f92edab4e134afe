"""Brings up nodes before pods move, if the cluster creates nodes only for pending pods.

Karpenter creates a node only for a pending pod. A pod that fits on the wrong side is never pending, because
its preference is soft. And without any Graviton node there is only one architecture to spread over, so all
pods fit x86 (docs/adr/0008). So archshift first creates a placeholder for each pod that a step adds to a
side. The placeholder can run only there. When all placeholders have a node, archshift deletes them, and the
pods take their places.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any, Final

from archshift.actions.rebalance import misplaced, pods_on
from archshift.actions.sides import read_nodes
from archshift.cluster import pod_fields
from archshift.cluster.client import Cluster
from archshift.cluster.model import Inventory, Workload
from archshift.cluster.scheduling import both_required
from archshift.common.architectures import ARCHITECTURES, Architecture, display, opposite
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL, ZONE_LABEL
from archshift.common.polling import Polling
from archshift.nodes import groups
from archshift.plan.model import Plan, PlannedWorkload

LABEL: Final = "archshift/placeholder"
"""On every placeholder; the value is a hash of the workload, the side and the zone."""

SPREAD_LABEL: Final = "archshift/placeholder-of"
"""On every placeholder; the value is a hash of the workload. Both sides spread together."""

STACK_LABEL: Final = "archshift/stack"
"""On every placeholder: the stack that created it and deletes it."""

NAMESPACE: Final = "default"
"""The namespace of all placeholders. In its own namespace a workload's Services would count them."""

IMAGE: Final = "registry.k8s.io/pause:3.10.1"
"""An image for both architectures. A placeholder needs only a node, not a finished pull."""

_SOFT: Final = tuple(
    {"key": taint.key, "operator": "Exists", "effect": taint.effect}
    for taint in map(groups.side_taint, ARCHITECTURES)
)

TIMEOUT_SECONDS: Final = 300.0
"""How long to wait for all nodes together. A real node takes one to two minutes."""


@dataclass(frozen=True, slots=True)
class PlaceholderRequest:
    """A request for nodes for more pods of a workload on one side.

    Attributes:
        side: The architecture of the nodes.
        pods: How many pods need a node.
        zone: The availability zone of the nodes; empty for any.
        pods_at_start: How many pods of the workload ran on this side at the start, if others were pending:
            the pending pods may take the new nodes themselves. None if no pod was pending.
    """

    workload: Workload
    side: Architecture
    pods: int
    zone: str = ""
    pods_at_start: int | None = None

    @property
    def label(self) -> str:
        """The value of ``LABEL``."""
        return _hash(f"{self.workload.key} {self.side} {self.zone}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _spreads_over_zones(workload: Workload) -> bool:
    return any(
        constraint.get("topologyKey") == ZONE_LABEL
        for side in workload.template.other_spreads
        for constraint in side
    )


def needed_before(plan: Plan, inventory: Inventory) -> tuple[PlaceholderRequest, ...]:
    """Return the placeholders that a plan needs before its first patch or eviction.

    A workload that spreads its pods over zones needs a placeholder for each pod. A new pod may fit in only
    one zone, and the pod that it replaces may be in another.

    Args:
        inventory: The cluster of the plan.
    """
    requests = []
    for row in plan.workloads:
        if not row.restarted_pods:
            continue
        workload = inventory.workloads[row.key]
        zonal, pending = _spreads_over_zones(workload), inventory.on(row.key, "")
        for side in ARCHITECTURES:
            wanted = row.wanted_on(side) or 0
            present = inventory.on(row.key, side)
            if zonal and wanted and (row.restarts or wanted > present):
                requests.append(PlaceholderRequest(workload, side, wanted))
            elif wanted > present:
                requests.append(
                    PlaceholderRequest(
                        workload, side, wanted - present, pods_at_start=present if pending else None
                    )
                )
    return tuple(requests)


def needed_after(
    cluster: Cluster, rows: Sequence[PlannedWorkload], inventory: Inventory
) -> tuple[PlaceholderRequest, ...]:
    """Return the placeholders for pods that are on the wrong side.

    If a workload spreads its pods over zones, each placeholder is for the zone of its pod.

    Args:
        rows: Workloads whose rollouts have ended, or that move without one.
        inventory: The cluster as it was before the step.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    counts: Counter[tuple[str, Architecture, str]] = Counter()
    known = [row for row in rows if row.key in inventory.workloads]
    for key, pods in misplaced(cluster, known).items():
        zonal = _spreads_over_zones(inventory.workloads[key])
        for labels in pods:
            side = opposite(labels.get(ARCH_LABEL, ""))
            counts[key, side, labels.get(ZONE_LABEL, "") if zonal else ""] += 1
    return tuple(
        PlaceholderRequest(inventory.workloads[key], side, pods, zone)
        for (key, side, zone), pods in counts.items()
    )


def bring_up_nodes(
    cluster: Cluster, requests: Iterable[PlaceholderRequest], stack: str, *, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Create the placeholders, wait until each has a node, and delete them.

    Args:
        requests: From ``needed_before`` or ``needed_after``.
        timeout: How long to wait for all nodes, in seconds.

    Raises:
        ArchshiftError: The nodes did not come up in time, or the cluster refuses a placeholder.
    """
    collection = f"/api/v1/namespaces/{NAMESPACE}/pods"
    ours = f"{LABEL},{STACK_LABEL}={stack}"
    by_label = {request.label: request for request in requests}
    pods = [_placeholder(request, stack) for request in by_label.values() for _ in range(request.pods)]
    # An update that was killed may have left placeholders.
    cluster.delete_all(collection, ours)
    if not pods:
        return
    try:
        with ThreadPoolExecutor(max_workers=8) as threads:
            list(threads.map(lambda pod: cluster.create(collection, pod), pods))
        polling = Polling(time.monotonic() + timeout)
        while True:
            placeholders = list(cluster.list(collection, labelSelector=ours))
            missing = _missing(cluster, placeholders, by_label)
            if not missing:
                return
            if polling.late:
                raise _too_late(missing, placeholders, by_label, timeout)
            polling.pause()
    finally:
        cluster.delete_all(collection, ours)


def _missing(
    cluster: Cluster, placeholders: Iterable[Mapping[str, Any]], requests: Mapping[str, PlaceholderRequest]
) -> dict[str, int]:
    """Return label to the number of pods that still have no node."""
    placed = Counter(_label(pod) for pod in placeholders if pod["spec"].get("nodeName"))
    nodes = cache(lambda: read_nodes(cluster))
    missing_by_label = {}
    for label, request in requests.items():
        missing = request.pods - placed[label]
        if missing > 0 and request.pods_at_start is not None:
            missing -= pods_on(cluster, request.workload, request.side, nodes()) - request.pods_at_start
        if missing > 0:
            missing_by_label[label] = missing
    return missing_by_label


def _label(pod: Mapping[str, Any]) -> str:
    return str(pod["metadata"]["labels"][LABEL])


def _too_late(
    missing: Mapping[str, int],
    placeholders: Iterable[Mapping[str, Any]],
    requests: Mapping[str, PlaceholderRequest],
    timeout: float,
) -> ArchshiftError:
    label = next(iter(missing))
    request = requests[label]
    message = next(
        (
            str(condition.get("message", ""))[:200]
            for pod in placeholders
            if _label(pod) == label and not pod["spec"].get("nodeName")
            for condition in (pod.get("status") or {}).get("conditions") or ()
            if condition.get("type") == "PodScheduled" and condition.get("message")
        ),
        "the scheduler gave no reason",
    )
    more_pods = sum(missing.values()) - 1
    more = f" and {more_pods} more" if more_pods else ""
    return ArchshiftError(
        f"no {display(request.side)} node came up within {timeout:.0f} s for a pod of "
        f"{request.workload.key}{more} ({message})",
        "run kubectl get nodepools,nodeclaims to see why, and check the limits in archshift:node_groups",
    )


def _rules(request: PlaceholderRequest) -> dict[str, Any]:
    """Return the placement fields of a placeholder: all that decides where the workload's pods may run."""
    workload, template = request.workload, request.workload.template
    selector = dict(template.application_value("node-selector") or {})
    required = template.application_value("required")
    for condition in workload.conditions:
        selector |= condition.selector
        required = both_required(required, condition.required)
    if workload.pod_conditions:
        # A placeholder is for any of the pods, so it may be where one of them can be.
        required = both_required(required, _of_any_pod(workload))
    selector[ARCH_LABEL] = request.side
    if request.zone:
        selector[ZONE_LABEL] = request.zone
    return {"node-selector": selector, **({"required": required} if required else {})}


def _of_any_pod(workload: Workload) -> Mapping[str, Any] | None:
    each = [
        reduce(both_required, (condition.required for condition in pod), None)
        for pod in workload.pod_conditions
    ]
    terms = [term for required in each if required for term in required["nodeSelectorTerms"]]
    unique = list({json.dumps(term, sort_keys=True): term for term in terms}.values())
    return {"nodeSelectorTerms": unique} if all(each) else None


def _placeholder(request: PlaceholderRequest, stack: str) -> dict[str, Any]:
    workload, template = request.workload, request.workload.template
    spec = pod_fields.write_fields(_rules(request))
    before, behind = template.other_spreads
    devices = {name: str(amount) for name, amount in workload.requests.devices}
    resources: dict[str, Any] = {
        "requests": {
            "cpu": f"{workload.requests.millicpu}m",
            "memory": str(workload.requests.memory),
            **devices,
        }
    }
    if devices:
        # The API server demands an equal limit for each device.
        resources["limits"] = devices
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "generateName": "archshift-placeholder-",
            "labels": {LABEL: request.label, SPREAD_LABEL: _hash(workload.key), STACK_LABEL: stack},
            "annotations": {"archshift/for": workload.key},
        },
        "spec": {
            **spec,
            # Also tolerate the soft taints. Otherwise Karpenter would first drop the spread constraints.
            "tolerations": [*workload.tolerations, *_SOFT],
            # Spread like the workload's own pods. Otherwise all nodes could come up in one zone.
            "topologySpreadConstraints": [
                {
                    **{key: value for key, value in constraint.items() if key != "matchLabelKeys"},
                    "labelSelector": {"matchLabels": {SPREAD_LABEL: _hash(workload.key)}},
                }
                for constraint in (*before, *behind)
            ],
            "containers": [
                {
                    "name": "placeholder",
                    "image": IMAGE,
                    "resources": resources,
                    "securityContext": {
                        "allowPrivilegeEscalation": False,
                        "capabilities": {"drop": ["ALL"]},
                        "runAsNonRoot": True,
                        "runAsUser": 65535,
                        "seccompProfile": {"type": "RuntimeDefault"},
                    },
                }
            ],
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            "terminationGracePeriodSeconds": 0,
            # Ends the pod if archshift cannot delete it.
            "activeDeadlineSeconds": int(2 * TIMEOUT_SECONDS),
        },
    }
