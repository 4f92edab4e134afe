"""The labels of a node that does not exist yet, as far as its settings determine them.

The kubelet, the cloud provider, EKS and Karpenter set them. So a workload that selects one of them may run on
such a node, although the settings do not mention the label.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from archshift.common.architectures import ARM64
from archshift.common.kubernetes import (
    ARCH_LABELS,
    COMPUTE_TYPE_LABEL,
    EKS_GROUP_LABEL,
    INSTANCE_TYPE_LABELS,
    OS_LABELS,
    REGION_LABELS,
    ZONE_LABELS,
)
from archshift.nodes.instance_types import InstanceType

# eu-west-1a, us-gov-west-1b; a local zone names its parent's region: us-west-2-lax-1a.
_REGION: Final = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+")

# Families from before 2017 run on Xen. Their bare metal (i3.metal) has no hypervisor.
_XEN: Final = frozenset(
    {"c1", "c3", "c4", "d2", "f1", "g2", "g3", "h1", "i2", "i3", "m1", "m2", "m3", "m4", "p2", "p3", "r3",
     "r4", "t1", "t2", "x1", "x1e"}
)  # fmt: skip

# u-6tb1 is the first generation of the category u.
_FAMILY: Final = re.compile(r"(?P<category>[a-z]+)(-\d+tb)?(?P<generation>\d+)(?P<variant>[a-z]*)")

# The lines whose machines have no local disk unless the letter d says so, and no accelerator.
_PLAIN_LINES: Final = frozenset({"a", "c", "hpc", "m", "r", "t", "u"})

_ACCELERATORS: Final = (
    "gpu-count", "gpu-manufacturer", "gpu-memory", "gpu-name",
    "accelerator-count", "accelerator-manufacturer", "accelerator-name",
)  # fmt: skip

_UNKNOWN_ON_EKS: Final = frozenset(
    {
        EKS_GROUP_LABEL,
        "eks.amazonaws.com/nodegroup-image",
        "eks.amazonaws.com/sourceLaunchTemplateId",
        "eks.amazonaws.com/sourceLaunchTemplateVersion",
    }
)

_UNKNOWN_ON_AWS: Final = frozenset(
    {
        "k8s.io/cloud-provider-aws",
        "topology.k8s.aws/zone-id",
        *(f"topology.k8s.aws/network-node-layer-{layer}" for layer in (1, 2, 3)),
    }
)


@dataclass(frozen=True, slots=True)
class WellKnown:
    """Labels of a node to come.

    Attributes:
        labels: Label to value, where it is known.
        unknown: The labels that the node will or may have with a value that nobody knows yet.
    """

    labels: Mapping[str, str]
    unknown: frozenset[str] = frozenset()

    def __or__(self, other: "WellKnown") -> "WellKnown":
        labels = {**self.labels, **other.labels}
        return WellKnown(labels, (self.unknown | other.unknown) - labels.keys())


def of_any_node(kind: InstanceType) -> WellKnown:
    """Return what every kubelet sets on a Linux node of this type."""
    return WellKnown(
        {
            **dict.fromkeys(ARCH_LABELS, kind.architecture),
            **dict.fromkeys(OS_LABELS, "linux"),
            **dict.fromkeys(INSTANCE_TYPE_LABELS, kind.name),
        }
    )


def of_zone(zone: str) -> WellKnown:
    """Return what the cloud provider sets in a zone. The zone is empty if it is not known yet."""
    region = _REGION.match(zone)
    labels = dict.fromkeys(ZONE_LABELS, zone) if zone else {}
    if region:
        labels |= dict.fromkeys(REGION_LABELS, region[0])
    return WellKnown(labels, frozenset((*ZONE_LABELS, *REGION_LABELS)) - labels.keys())


def of_managed_group(*, spot: bool, name: str) -> WellKnown:
    """Return what EKS sets on the nodes of a managed node group.

    Args:
        spot: Whether its capacity type is SPOT.
        name: Its name at EKS; empty if the engine chooses it.
    """
    labels = {"eks.amazonaws.com/capacityType": "SPOT" if spot else "ON_DEMAND"}
    if name:
        labels[EKS_GROUP_LABEL] = name
    return WellKnown(labels, (_UNKNOWN_ON_EKS | _UNKNOWN_ON_AWS) - labels.keys())


def of_node_class(group: str, kind: str, name: str) -> WellKnown:
    """Return what Karpenter and EKS Auto Mode set on the nodes of a node class, for any instance type.

    Args:
        group: The API group of the node class. It is also the domain of its labels.
        kind: Its kind.
        name: Its name.
    """
    labels = {f"{group}/{kind.lower()}": name, f"{group}/instance-tenancy": "default"}
    if group == "eks.amazonaws.com":
        labels[COMPUTE_TYPE_LABEL] = "auto"
    facts = ("network-bandwidth", "ebs-bandwidth", "encryption-in-transit-supported")
    unknown = {f"{group}/instance-{fact}" for fact in (*facts, "cpu-sustained-clock-speed-mhz", "pods")}
    return WellKnown(labels, _UNKNOWN_ON_AWS | unknown)


def of_machine(group: str, kind: InstanceType) -> WellKnown:
    """Return what Karpenter and EKS Auto Mode say about a node's instance type.

    https://karpenter.sh/docs/reference/instance-types/

    Args:
        group: The API group of the node class.
        kind: The instance type.
    """
    _, _, size = kind.name.partition(".")
    facts = {
        "family": kind.family,
        "size": size,
        "cpu": str(kind.vcpu),
        "memory": str(kind.memory_mib),
        "capability-flex": str(kind.family.endswith("-flex")).lower(),
        "hypervisor": "xen" if kind.family in _XEN else "nitro",
    }
    unknown: tuple[str, ...] = ("local-nvme", *_ACCELERATORS)
    if family := _FAMILY.match(kind.family):
        facts["category"], facts["generation"] = family["category"], family["generation"]
        amd = "a" in family["variant"] and kind.family != "a1"
        facts["cpu-manufacturer"] = "aws" if kind.architecture == ARM64 else "amd" if amd else "intel"
        if family["category"] in _PLAIN_LINES and "d" not in family["variant"]:
            unknown = ()
    else:
        unknown = (*unknown, "category", "generation", "cpu-manufacturer")
    if "metal" in size:
        del facts["hypervisor"]
        unknown = (*unknown, "hypervisor")
    return WellKnown(
        {
            **{f"{group}/instance-{fact}": value for fact, value in facts.items()},
            **dict.fromkeys(INSTANCE_TYPE_LABELS, kind.name),
        },
        frozenset(f"{group}/instance-{fact}" for fact in unknown),
    )
