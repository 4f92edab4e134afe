"""Counts the pods that a step restarted, and the pods that had to move: the cost of a placement."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from archshift.cluster.client import connect
from archshift.cluster.pods import list_pods
from archshift.common.kubernetes import ARCH_LABEL
from lab.control_plane import CONTEXT, Lab

Pods = Mapping[str, Mapping[str, str]]
"""Workload (``namespace/Kind/name``) to its pods: uid to architecture, empty for a pod without a node."""


def read_pods(lab: Lab) -> Pods:
    """The pods that run now."""
    pods: dict[str, dict[str, str]] = defaultdict(dict)
    with connect(CONTEXT, lab.kubeconfig) as cluster:
        architectures = {
            node["metadata"]["name"]: (node["metadata"].get("labels") or {}).get(ARCH_LABEL, "")
            for node in cluster.list("/api/v1/nodes")
        }
        for pod in list_pods(cluster):
            if not pod.leaving:
                pods[pod.workload][pod.uid] = architectures.get(pod.node, "")
    return pods


def had_to_move(row: Mapping[str, Any], before: Pods) -> int:
    """Counts the pods of a workload that were on the wrong side before the step.

    Args:
        row: The workload in ``archshift status --json``, after the step.
        before: The pods before the step.
    """
    if row["wanted"] is None:
        return 0
    on_graviton = sum(architecture == "arm64" for architecture in before.get(row["workload"], {}).values())
    return abs(int(row["wanted"]) - on_graviton)


def restarted(row: Mapping[str, Any], before: Pods, after: Pods) -> int:
    """Counts the pods of a workload that ran before the step and no longer run; see ``had_to_move``."""
    return len(before.get(row["workload"], {}).keys() - after.get(row["workload"], {}).keys())
