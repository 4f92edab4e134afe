"""Writes deletion costs to pods, so that a share holds while an autoscaler takes pods away, and removes them.

It writes as few annotations as it can. Whoever sets costs on pods of a workload keeps all of that workload.
"""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from archshift.actions.sides import read_nodes
from archshift.cluster.client import MERGE, Cluster, RefusedError
from archshift.cluster.kinds import Resource
from archshift.cluster.pods import COST_ANNOTATION, Pod, list_pods
from archshift.common.errors import ArchshiftError
from archshift.plan.deletion_costs import Change, Proportion, changes_of

_PODS: Final = Resource(api_version="v1", plural="pods")
_WORKERS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What became of the costs.

    Attributes:
        set: The number of pods that got another cost.
        given_back: The number of pods whose cost was removed.
        problems: Namespace to why costs of its pods could not be changed.
    """

    set: int = 0
    given_back: int = 0
    problems: Mapping[str, str] = field(default_factory=dict)


def write_costs(cluster: Cluster, kept: Mapping[str, Proportion], field_manager: str) -> Written:
    """Write the costs of all workloads, and remove archshift's costs from all other pods.

    Args:
        cluster: The connection.
        kept: The key of a workload to the share to keep.
        field_manager: The stack's name for these annotations.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    return _apply(cluster, pending_changes(cluster, kept, field_manager), field_manager)


def pending_changes(cluster: Cluster, kept: Mapping[str, Proportion], field_manager: str) -> list[Change]:
    """Return what ``write_costs`` would change, with the same arguments and errors."""
    pods: dict[str, list[Pod]] = {}
    for pod in list_pods(cluster):
        if not pod.leaving and (pod.workload in kept or pod.cost_manager == field_manager):
            pods.setdefault(pod.workload, []).append(pod)
    # The nodes last: a pod's node may have joined a moment ago.
    sides = {name: node.architecture for name, node in read_nodes(cluster).items()} if pods else {}
    return [change for changes in changes_of(pods, sides, kept, field_manager).values() for change in changes]


def give_back(cluster: Cluster, field_manager: str) -> Written:
    """Remove all costs that a stack set; same errors as ``write_costs``."""
    return write_costs(cluster, {}, field_manager)


def _apply(cluster: Cluster, changes: Iterable[Change], field_manager: str) -> Written:
    by_namespace: dict[str, list[Change]] = {}
    for change in changes:
        by_namespace.setdefault(change.pod.namespace, []).append(change)
    write = partial(_change, cluster, field_manager)
    number, given_back = 0, 0
    problems: dict[str, str] = {}
    with ThreadPoolExecutor(max_workers=_WORKERS) as threads:
        for namespace, (first, *others) in by_namespace.items():
            try:
                # The first alone: if it is refused, all others would be refused too.
                done = [write(first), *threads.map(write, others)]
            except ArchshiftError as error:
                # Whoever may not change the pods of one namespace can still change those of all others.
                problems[namespace] = str(error)
                continue
            for change, written in zip((first, *others), done, strict=True):
                number += written and change.cost is not None
                given_back += written and change.cost is None
    return Written(set=number, given_back=given_back, problems=problems)


def _change(cluster: Cluster, field_manager: str, change: Change) -> bool:
    """Write one cost; return False if the pod is gone."""
    pod = change.pod
    value = None if change.cost is None else str(change.cost)
    # With its uid, so that a pod with the same name is not changed instead.
    body: dict[str, Any] = {"metadata": {"uid": pod.uid, "annotations": {COST_ANNOTATION: value}}}
    path = f"{_PODS.collection(pod.namespace)}/{pod.name}"
    try:
        cluster.patch(path, body, MERGE, field_manager)
    except RefusedError as error:
        if error.status in (404, 409):
            return False
        raise
    return True
