"""Which taints are temporary: Kubernetes or an agent sets them, and removes them again by itself.

A temporary taint never decides where a workload may run. Otherwise a cordon would change the plan. The policy
pack has a copy of these tables, and a test compares them.
"""

import re
from typing import Final

TEMPORARY_KEYS: Final = frozenset({
    # https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/utils/taints/taints.go
    "ToBeDeletedByClusterAutoscaler",
    "DeletionCandidateOfClusterAutoscaler",
    # https://karpenter.sh/docs/concepts/disruption/ and Karpenter's pkg/apis/v1/taints.go. The others of
    # this domain are labels, such as karpenter.sh/capacity-type, which people also use as lasting taints.
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "karpenter.sh/disrupting",
    "karpenter.sh/unregistered",
    "karpenter.sh/rebooting",
    # Operators that remove, empty or repair nodes: https://github.com/atlassian/escalator, https://www.medik8s.io
    "atlassian.com/escalator",
    "medik8s.io/drain",
    "medik8s.io/remediation",
    "kubevirt.io/drain",
    # The AWS cloud provider sets it while a volume is stuck in the state "attaching".
    "NodeWithImpairedVolumes",
})  # fmt: skip

TEMPORARY_DOMAINS: Final = frozenset({
    # Cordons, conditions, pressure, shutdown:
    # https://kubernetes.io/docs/reference/labels-annotations-taints/
    "node.kubernetes.io",
    "node.cloudprovider.kubernetes.io",
    # https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/FAQ.md
    "startup-taint.cluster-autoscaler.kubernetes.io",
    "ignore-taint.cluster-autoscaler.kubernetes.io",
    "status-taint.cluster-autoscaler.kubernetes.io",
    # https://github.com/aws/aws-node-termination-handler: spot-itn, scheduled-maintenance,
    # asg-lifecycle-termination, rebalance-recommendation
    "aws-node-termination-handler",
    # The node readiness controller requires this domain: https://github.com/kubernetes-sigs/node-readiness-controller
    "readiness.k8s.io",
    # https://github.com/pusher/nidhogg: one taint for each DaemonSet that must be ready first
    "nidhogg.uswitch.com",
})  # fmt: skip

TEMPORARY_NAMES: Final = (
    r"(^|[-_.])(not[-_]?ready|not[-_]?initialized|uninitialized|unregistered|initializing)($|[-_.])"
)
"""What the name of a temporary taint contains, in any domain.

Start-up taints: ``node.cilium.io/agent-not-ready``, ``ebs.csi.aws.com/agent-not-ready``,
``cni.istio.io/not-ready``, ``node.cluster.x-k8s.io/uninitialized``. No word for
emptying a node is here, because administrators name lasting taints so.
"""

_NAME: Final = re.compile(TEMPORARY_NAMES, re.IGNORECASE)


def is_temporary(key: str) -> bool:
    """Return whether a taint with this key goes away by itself."""
    domain, slash, name = key.rpartition("/")
    return key in TEMPORARY_KEYS or bool(slash and domain in TEMPORARY_DOMAINS) or bool(_NAME.search(name))
