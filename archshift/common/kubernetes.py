"""Labels and namespaces of Kubernetes, EKS, Karpenter and archshift. Only this module spells them."""

import hashlib
import re
from typing import Final

ARCH_LABEL: Final = "kubernetes.io/arch"
"""Set by every kubelet (https://kubernetes.io/docs/reference/labels-annotations-taints/)."""

ARCH_LABELS: Final = (ARCH_LABEL, "beta.kubernetes.io/arch")
"""All labels by which a workload may pin an architecture. Kubelets still set the old beta label."""

GROUP_LABEL: Final = "archshift/node-group"
"""On every node of a group that archshift manages; the value is the group's name."""

STACK_LABEL: Final = "archshift/stack"
"""On every node of a managed group or of the lab; the value says which stack made it (``stack_label``)."""

OURS: Final = "archshift/"
"""What the labels, taints and tags begin with that archshift alone sets and removes."""

TWIN_TAG: Final = f"{OURS}twin-of"
"""The tag of a group at EKS that is a twin, or was one; the value is the name of its original."""

INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
"""Set by the kubelet (https://kubernetes.io/docs/reference/labels-annotations-taints/)."""

INSTANCE_TYPE_LABELS: Final = (INSTANCE_TYPE_LABEL, "beta.kubernetes.io/instance-type")
"""All labels of a node's instance type. Kubelets still set the old beta label."""

ARCHITECTURE_LABEL: Final = "architecture"
"""archshift's own label for dashboards and policies; it has the value of kubernetes.io/arch."""

OS_LABEL: Final = "kubernetes.io/os"
"""Set by every kubelet (https://kubernetes.io/docs/reference/labels-annotations-taints/)."""

OS_LABELS: Final = (OS_LABEL, "beta.kubernetes.io/os")
"""All labels by which a workload may pin an operating system. Kubelets still set the old beta label."""

REGION_LABEL: Final = "topology.kubernetes.io/region"
"""The region; clouds set it on every node."""

REGION_LABELS: Final = (REGION_LABEL, "failure-domain.beta.kubernetes.io/region")
"""All labels of the region. Clouds still set the old beta label."""

COMPUTE_TYPE_LABEL: Final = "eks.amazonaws.com/compute-type"
"""EKS sets it on Fargate's nodes (``fargate``), on nodes of Auto Mode and on hybrid nodes."""

HOSTNAME_LABEL: Final = "kubernetes.io/hostname"
"""Set by every kubelet; on EKS the value is the node's name."""

ZONE_LABEL: Final = "topology.kubernetes.io/zone"
"""The availability zone; clouds set it on every node."""

ZONE_LABELS: Final = (
    ZONE_LABEL,
    "failure-domain.beta.kubernetes.io/zone",
    "topology.ebs.csi.aws.com/zone",
)
"""All labels of the availability zone: the clouds' old beta label, and the label of EBS's driver."""

EKS_GROUP_LABEL: Final = "eks.amazonaws.com/nodegroup"
"""EKS sets it on every node of a managed node group; the value is the group's name in EKS."""

POOL_LABEL: Final = "karpenter.sh/nodepool"
"""Karpenter and EKS Auto Mode set it on every node they create; the value is the NodePool's name."""

CAPACITY_TYPE_LABEL: Final = "karpenter.sh/capacity-type"
"""On the same nodes as ``POOL_LABEL``; the value is on-demand, spot or reserved."""

SYSTEM_NAMESPACES: Final = ("kube-node-lease", "kube-public", "kube-system")
"""The namespaces of Kubernetes itself, whose workloads no stack steers unless it names the namespace.

Exactly these: a team's own ``kube-observability`` is an ordinary namespace.
"""

REPLICA_SET_OWNERS: Final = ("Deployment", "Rollout")
"""Kinds whose ReplicaSets own the pods, as metrics name them."""

POD_OWNERS: Final = ("StatefulSet",)
"""Kinds that have replicas and own the pods themselves."""

_OTHERS: Final = re.compile(r"[^a-z0-9-]")


def of_stack(name: str, stack_label: str) -> str:
    """Return the name of one stack's object, because two stacks may share a cluster.

    A policy's name permits less than the name of a stack: lower-case letters, digits and hyphens. So names of
    stacks that differ only in other characters get a hash.
    """
    plain = _OTHERS.sub("-", stack_label.lower())
    return f"{name}-{plain}" if plain == stack_label else f"{name}-{plain}-{short_hash(stack_label)}"


def short_hash(text: str) -> str:
    """Return twelve hexadecimal digits that stand for a text in names."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]
