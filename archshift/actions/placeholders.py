"""Brings up nodes before pods are moved, where nodes come up only for pods that find none.

Karpenter brings a node up for a pod that is pending, and a pod with room on the wrong side never
is: its preference is only a preference, and while there is no Graviton node at all there is one
architecture to spread over, so that everything fits x86 (docs/adr/0008). So each pod that a step adds
to a side is first asked for by a placeholder that can run nowhere else. When all of them have a
node they are deleted, and the pods take their places.
"""

import hashlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from archshift.actions.rebalance import misplaced, pods_on, sides_of_nodes
from archshift.cluster import pod_fields
from archshift.cluster.client import Cluster
from archshift.cluster.model import Inventory, Workload
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture, display
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL, ZONE_LABEL
from archshift.nodes import groups
from archshift.plan.model import Plan, PlannedWorkload

LABEL: Final = "archshift/placeholder"
"""On every placeholder; the value stands for the workload and the side that it asks for."""

SPREAD_LABEL: Final = "archshift/placeholder-of"
"""On every placeholder; the value stands for the workload: both sides are spread together."""

STACK_LABEL: Final = "archshift/stack"
"""On every placeholder: the stack that made it, and that removes it."""

NAMESPACE: Final = "default"
"""Where placeholders are: never beside the workload, whose Services and budgets would count them."""

IMAGE: Final = "registry.k8s.io/pause:3.10.1"
"""For both architectures; that it is pulled is not waited for."""

_SOFT: Final = tuple(
    {"key": taint.key, "operator": "Exists", "effect": taint.effect}
    for taint in map(groups.side_taint, ARCHITECTURES)
)

TIMEOUT_SECONDS: Final = 300.0
"""For all of them; a real node takes one to two minutes."""


@dataclass(frozen=True, slots=True)
class PlaceholderRequest:
    """A request for nodes for more pods of a workload on one side.

    Attributes:
        workload: The workload.
        side: The architecture.
        pods: For how many.
        zone: The availability zone it has to be in; empty for any.
        pods_at_start: Its pods on this side at the start, if other pods of it were still pending: these may
            take the new nodes themselves. None otherwise.
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
    """Return the placeholders that a plan needs before its first patch.

    A workload that spreads its pods over zones needs one for each pod: each pod has one zone left, and the
    place of the pod that goes may be in another.

    Args:
        plan: The plan.
        inventory: The cluster that it was made for.
    """
    requests = []
    for row in plan.workloads:
        if not row.restarts or row.wanted is None:
            continue
        sides: dict[Architecture, int] = {AMD64: row.replicas - row.wanted, ARM64: row.wanted}
        workload = inventory.workloads[row.key]
        zonal, pending = _spreads_over_zones(workload), inventory.on(row.key, "")
        for side, wanted in sides.items():
            present = inventory.on(row.key, side)
            if zonal and wanted:
                requests.append(PlaceholderRequest(workload, side, wanted))
            elif wanted > present:
                requests.append(
                    PlaceholderRequest(
                        workload, side, wanted - present, pods_at_start=present if pending else None
                    )
                )
    return tuple(requests)


def needed_after(
    cluster: Cluster, rows: Iterable[PlannedWorkload], inventory: Inventory
) -> tuple[PlaceholderRequest, ...]:
    """Return the placeholders for the pods that a rollout left on the wrong side.

    Where a workload spreads its pods over zones itself, in the zone that each of them is in.

    Args:
        cluster: The connection.
        rows: Workloads whose rollouts are over.
        inventory: The cluster as it was before.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    counts: Counter[tuple[str, Architecture, str]] = Counter()
    for row in rows:
        zonal = _spreads_over_zones(inventory.workloads[row.key])
        for labels in misplaced(cluster, row):
            side: Architecture = AMD64 if labels.get(ARCH_LABEL) == ARM64 else ARM64
            counts[row.key, side, labels.get(ZONE_LABEL, "") if zonal else ""] += 1
    return tuple(
        PlaceholderRequest(inventory.workloads[key], side, pods, zone)
        for (key, side, zone), pods in counts.items()
    )


def bring_up_nodes(
    cluster: Cluster, requests: Iterable[PlaceholderRequest], stack: str, *, timeout: float = TIMEOUT_SECONDS
) -> None:
    """Wait until nodes have come up for all of it.

    Args:
        cluster: The connection.
        requests: From ``needed_before`` or ``needed_after``.
        stack: The stack's name.
        timeout: Seconds.

    Raises:
        ArchshiftError: They did not come up in time, or the cluster refuses.
    """
    collection = f"/api/v1/namespaces/{NAMESPACE}/pods"
    ours = f"{LABEL},{STACK_LABEL}={stack}"
    by_label = {ask.label: ask for ask in requests}
    pods = [_placeholder(ask, stack) for ask in by_label.values() for _ in range(ask.pods)]
    # An update that was killed may have left some.
    cluster.delete_all(collection, ours)
    if not pods:
        return
    try:
        with ThreadPoolExecutor(max_workers=8) as threads:
            list(threads.map(lambda pod: cluster.create(collection, pod), pods))
        deadline, pause = time.monotonic() + timeout, 0.2
        while True:
            placeholders = list(cluster.list(collection, labelSelector=ours))
            missing = _missing(cluster, placeholders, by_label)
            if not missing:
                return
            if time.monotonic() > deadline:
                raise ArchshiftError(_too_late(missing, placeholders, by_label, timeout))
            time.sleep(pause)
            pause = min(2 * pause, 2.0)
    finally:
        cluster.delete_all(collection, ours)


def _missing(
    cluster: Cluster, placeholders: Iterable[Mapping[str, Any]], requests: Mapping[str, PlaceholderRequest]
) -> dict[str, int]:
    """Return label to the number of pods that there is no node for yet."""
    placed = Counter(_label(pod) for pod in placeholders if pod["spec"].get("nodeName"))
    sides = cache(lambda: sides_of_nodes(cluster))
    missing_by_label = {}
    for label, request in requests.items():
        missing = request.pods - placed[label]
        if missing > 0 and request.pods_at_start is not None:
            missing -= pods_on(cluster, request.workload, request.side, sides()) - request.pods_at_start
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
) -> str:
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
        "the scheduler said nothing",
    )
    more_pods = sum(missing.values()) - 1
    more = f" and {more_pods} more" if more_pods else ""
    return (
        f"after {timeout:.0f} s no {display(request.side)} node had come up for a pod of "
        f"{request.workload.key}{more} ({message}); kubectl get nodepools,nodeclaims says why, and their "
        "limits are in archshift:node_groups"
    )


def _placeholder(request: PlaceholderRequest, stack: str) -> dict[str, Any]:
    workload, template = request.workload, request.workload.template
    selector = {**(template.application_value("node-selector") or {}), ARCH_LABEL: request.side}
    if request.zone:
        selector[ZONE_LABEL] = request.zone
    required = (
        {"required": template.application_value("required")} if template.application_value("required") else {}
    )
    spec = pod_fields.write_fields({"node-selector": selector, **required})
    before, behind = template.other_spreads
    pod_requests = {"cpu": f"{workload.requests.millicpu}m", "memory": str(workload.requests.memory)}
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
            # The soft taints too: Karpenter would first give up what spreads it.
            "tolerations": [*workload.tolerations, *_SOFT],
            # Spread as the workload's own pods are, or the nodes would be in one zone.
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
                    "resources": {"requests": pod_requests},
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
            # Should nobody come back to delete it.
            "activeDeadlineSeconds": int(2 * TIMEOUT_SECONDS),
        },
    }
