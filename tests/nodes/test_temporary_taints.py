"""Which taints decide where a workload may run, and which go away by themselves."""

import re

import pytest

from archshift.nodes import temporary_taints
from archshift.nodes.groups import Node, Taint
from archshift.nodes.temporary_taints import is_temporary
from archshift_rules import capacity


@pytest.mark.parametrize(
    "key",
    [
        "node.kubernetes.io/unschedulable",
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node.kubernetes.io/out-of-service",
        "node.kubernetes.io/disk-pressure",
        "node.cloudprovider.kubernetes.io/uninitialized",
        "node.cloudprovider.kubernetes.io/shutdown",
        "ToBeDeletedByClusterAutoscaler",
        "DeletionCandidateOfClusterAutoscaler",
        "startup-taint.cluster-autoscaler.kubernetes.io/disk-unconfigured",
        "ignore-taint.cluster-autoscaler.kubernetes.io/gpu",
        "status-taint.cluster-autoscaler.kubernetes.io/suspended",
        "karpenter.sh/disrupted",
        "karpenter.sh/disruption",
        "karpenter.sh/unregistered",
        "karpenter.sh/rebooting",
        "aws-node-termination-handler/spot-itn",
        "aws-node-termination-handler/scheduled-maintenance",
        "node.cilium.io/agent-not-ready",
        "ebs.csi.aws.com/agent-not-ready",
        "efs.csi.aws.com/agent-not-ready",
        "fsx.csi.aws.com/agent-not-ready",
        "s3.csi.aws.com/agent-not-ready",
        "cni.istio.io/not-ready",
        "node.cluster.x-k8s.io/uninitialized",
        "readiness.k8s.io/gpu",
        "nidhogg.uswitch.com/kube-system.node-local-dns",
        "example.com/dns-not-ready",
        "agent-notready",
        "medik8s.io/drain",
        "medik8s.io/remediation",
        "kubevirt.io/drain",
        "atlassian.com/escalator",
    ],
)
def test_a_state_of_a_node_is_temporary(key: str) -> None:
    assert is_temporary(key)
    assert Node(name="n", labels={}, taints=(Taint(key=key),)).lasting_taints == ()


@pytest.mark.parametrize(
    "key",
    [
        "dedicated",
        "arch",
        "kubernetes.io/arch",
        "nvidia.com/gpu",
        "node-role.kubernetes.io/control-plane",
        "eks.amazonaws.com/compute-type",
        "virtual-kubelet.io/provider",
        "karpenter.sh/capacity-type",
        "example.com/ready",
        "knot-ready",
        "drain",
        "example.com/maintenance",
        "node.kubernetes.io",
        "CriticalAddonsOnly",
        "archshift/arm64",
    ],
)
def test_what_an_administrator_set_lasts(key: str) -> None:
    taint = Taint(key=key)
    assert not is_temporary(key)
    assert Node(name="n", labels={}, taints=(taint,)).lasting_taints == (taint,)


def test_the_policy_pack_has_the_same_tables() -> None:
    assert capacity.TEMPORARY_KEYS == temporary_taints.TEMPORARY_KEYS
    assert capacity.TEMPORARY_DOMAINS == temporary_taints.TEMPORARY_DOMAINS
    assert re.compile(temporary_taints.TEMPORARY_NAMES, re.IGNORECASE) == capacity.TEMPORARY_NAMES
