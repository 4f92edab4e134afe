"""The real Karpenter in a lab, with its own kwok provider, whose machines are simulated nodes.

Karpenter gets EC2's instance types from archshift's table, so that NodePools name the same types here and
on EKS.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Final

from archshift.common.architectures import ARM64
from archshift.common.kubernetes import CAPACITY_TYPE_LABEL, ZONE_LABEL
from archshift.nodes.instance_types import INSTANCE_TYPES, InstanceType
from archshift.nodes.node_pools import NODE_CLASSES
from archshift.nodes.requirements import machine_label
from archshift.nodes.well_known_labels import of_machine

ZONES: Final = ("eu-west-1a", "eu-west-1b", "eu-west-1c")

_GROUP: Final = NODE_CLASSES["lab"][0]

NODE_CLASS: Final[dict[str, Any]] = {
    "apiVersion": "karpenter.kwok.sh/v1alpha1",
    "kind": "KWOKNodeClass",
    # The default node class of archshift:node_groups.
    "metadata": {"name": "default"},
    # An immediate machine would hide code that must wait; a real machine takes 30 to 60 s.
    "spec": {"nodeRegistrationDelay": "2s"},
}

CRDS: Final = ("nodepools.karpenter.sh", "nodeclaims.karpenter.sh", "kwoknodeclasses.karpenter.kwok.sh")
"""The resource definitions that must exist before Karpenter starts."""

# Approximate prices of a vCPU and a GiB of memory in Ireland; Graviton costs a fifth less. Karpenter takes
# the cheapest types that fit, so only the order of the prices matters here.
_VCPU_PRICE, _GIB_PRICE, _GRAVITON, _SPOT = 0.036, 0.0045, 0.8, 0.4


def environment(
    kubeconfig: Path, metrics_port: int, health_port: int, instance_types: Path
) -> dict[str, str]:
    """The settings that Karpenter reads from its environment."""
    return {
        "KUBECONFIG": str(kubeconfig),
        "DISABLE_LEADER_ELECTION": "true",
        "SYSTEM_NAMESPACE": "kube-system",
        "KARPENTER_SERVICE": "karpenter",
        "METRICS_PORT": str(metrics_port),
        "HEALTH_PROBE_PORT": str(health_port),
        "INSTANCE_TYPES_FILE_PATH": str(instance_types),
    }


def instance_types() -> str:
    """The provider's file of instance types: every type, in each zone of the lab."""
    return json.dumps([_entry(kind) for kind in INSTANCE_TYPES.values()])


def _entry(kind: InstanceType) -> dict[str, Any]:
    # The provider knows family, size, vCPU and memory. It takes other labels from the offerings.
    facts = of_machine(_GROUP, kind).labels
    more = [
        {"key": label, "operator": "In", "values": [facts[label]]}
        for label in (machine_label(_GROUP, "category"), machine_label(_GROUP, "generation"))
        if label in facts
    ]
    price = kind.vcpu * _VCPU_PRICE + kind.memory_mib / 1024 * _GIB_PRICE
    if kind.architecture == ARM64:
        price *= _GRAVITON
    return {
        "name": kind.name,
        "architecture": kind.architecture,
        "operatingSystems": ["linux"],
        "resources": {
            "cpu": str(kind.vcpu),
            "memory": f"{kind.memory_mib}Mi",
            "pods": str(kind.managed_pods),
        },
        "offerings": [
            {
                "Price": round(price * share, 5),
                "Requirements": [
                    {"key": CAPACITY_TYPE_LABEL, "operator": "In", "values": [capacity_type]},
                    {"key": ZONE_LABEL, "operator": "In", "values": [zone]},
                    *more,
                ],
            }
            for capacity_type, share in (("on-demand", 1.0), ("spot", _SPOT))
            for zone in ZONES
        ],
    }


def is_ready(health_port: int) -> bool:
    """Whether Karpenter is ready."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://127.0.0.1:{health_port}/readyz", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False
