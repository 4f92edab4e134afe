"""Names that Kubernetes and its clouds give things: labels, namespaces. The only place that spells them."""

from typing import Final

ARCH_LABEL: Final = "kubernetes.io/arch"
"""Set by every kubelet (https://kubernetes.io/docs/reference/labels-annotations-taints/)."""

ARCH_LABELS: Final = (ARCH_LABEL, "beta.kubernetes.io/arch")
"""All labels by which a workload may pin an architecture; the beta one is old but still set."""

GROUP_LABEL: Final = "archshift/node-group"
"""On every node of a group that archshift manages; the value is the group's name."""

INSTANCE_TYPE_LABEL: Final = "node.kubernetes.io/instance-type"
"""Set by the kubelet (https://kubernetes.io/docs/reference/labels-annotations-taints/)."""

ARCHITECTURE_LABEL: Final = "architecture"
"""The label people select by in dashboards and policies; same value as kubernetes.io/arch."""

ZONE_LABEL: Final = "topology.kubernetes.io/zone"
"""The availability zone, on every node of a cloud."""

EKS_GROUP_LABEL: Final = "eks.amazonaws.com/nodegroup"
"""On every node of a managed node group, by EKS; the value is the group's name there."""

POOL_LABEL: Final = "karpenter.sh/nodepool"
"""On every node that Karpenter or EKS Auto Mode brought up; the value is its NodePool's name."""

CAPACITY_TYPE_LABEL: Final = "karpenter.sh/capacity-type"
"""On the same nodes: on-demand, spot or reserved."""

SYSTEM_NAMESPACES: Final = ("kube-node-lease", "kube-public", "kube-system")
