"""A node to come carries the labels that a real node has, as far as anybody can know them."""

from dataclasses import replace
from typing import Any

import pytest

from archshift.nodes.groups import Node, NodeClass
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.nodes.well_known_labels import of_machine, of_zone
from tests.build import admits, eks_group, node_pool, required_affinity

KARPENTER = "karpenter.k8s.aws"
MANAGED = eks_group("graviton", "m7g.xlarge", "m7g.2xlarge", size=1)
POOL = node_pool("graviton", "m7g.large", "c7gd.2xlarge", millicpu=64_000)


def to_come(kind: str) -> Node:
    return MANAGED.new_nodes(0, ["eu-west-1a"])[0] if kind == "managed" else POOL.possible_nodes()[0]


@pytest.mark.parametrize("kind", ["managed", "pool"])
@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({"beta.kubernetes.io/os": "linux"}, True),
        ({"beta.kubernetes.io/arch": "arm64", "kubernetes.io/os": "linux"}, True),
        ({"beta.kubernetes.io/arch": "amd64"}, False),
        ({"kubernetes.io/os": "windows"}, False),
        ({"topology.kubernetes.io/region": "eu-west-1"}, True),
        ({"failure-domain.beta.kubernetes.io/zone": "eu-west-1a"}, True),
        ({"topology.ebs.csi.aws.com/zone": "eu-west-1a"}, True),
        ({"topology.k8s.aws/zone-id": "euw1-az1"}, True),
        ({"team": "shop"}, False),
        ({"nvidia.com/gpu.present": "true"}, False),
    ],
)
def test_the_labels_of_every_node(kind: str, selector: dict[str, str], fits: bool) -> None:
    assert admits(to_come(kind), selector, None) is fits


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({"eks.amazonaws.com/capacityType": "ON_DEMAND"}, True),
        ({"eks.amazonaws.com/capacityType": "SPOT"}, False),
        ({"eks.amazonaws.com/nodegroup": "graviton-2026"}, True),
        ({"eks.amazonaws.com/nodegroup-image": "ami-1"}, True),
        ({"node.kubernetes.io/instance-type": "m7g.2xlarge"}, True),
        ({"beta.kubernetes.io/instance-type": "m7g.4xlarge"}, False),
        ({"karpenter.sh/nodepool": "graviton"}, False),
        ({f"{KARPENTER}/instance-category": "m"}, False),
        ({"topology.kubernetes.io/region": "eu-central-1"}, False),
    ],
)
def test_the_labels_of_a_managed_group(selector: dict[str, str], fits: bool) -> None:
    assert admits(to_come("managed"), selector, None) is fits


def test_an_imported_group_has_its_name_at_eks() -> None:
    (node,) = eks_group("graviton", "m7g.xlarge", size=1, import_name="old").new_nodes(0)
    assert admits(node, {"eks.amazonaws.com/nodegroup": "old"}, None)
    assert not admits(node, {"eks.amazonaws.com/nodegroup": "other"}, None)


@pytest.mark.parametrize(
    ("selector", "fits"),
    [
        ({f"{KARPENTER}/instance-category": "m"}, True),
        ({f"{KARPENTER}/instance-family": "c7gd"}, True),
        ({f"{KARPENTER}/instance-category": "c", f"{KARPENTER}/instance-size": "2xlarge"}, True),
        # Both values exist in the pool, but no type has both.
        ({f"{KARPENTER}/instance-category": "m", f"{KARPENTER}/instance-size": "2xlarge"}, False),
        ({f"{KARPENTER}/instance-cpu-manufacturer": "aws"}, True),
        ({f"{KARPENTER}/instance-cpu-manufacturer": "intel"}, False),
        ({f"{KARPENTER}/instance-generation": "7"}, True),
        ({f"{KARPENTER}/instance-hypervisor": "nitro"}, True),
        ({f"{KARPENTER}/instance-network-bandwidth": "12500"}, True),
        ({f"{KARPENTER}/ec2nodeclass": "default"}, True),
        ({f"{KARPENTER}/ec2nodeclass": "gpu"}, False),
        ({"karpenter.sh/nodepool": "graviton", "karpenter.sh/capacity-type": "on-demand"}, True),
        ({"karpenter.sh/capacity-type": "spot"}, False),
        ({"eks.amazonaws.com/nodegroup": "graviton"}, False),
    ],
)
def test_the_labels_of_a_pool(selector: dict[str, str], fits: bool) -> None:
    assert admits(to_come("pool"), selector, None) is fits


def test_auto_mode_has_its_own_domain() -> None:
    node_class = NodeClass("eks.amazonaws.com", "NodeClass", "default")
    auto = replace(node_pool("x86", "m6a.large"), node_class=node_class)
    node = auto.possible_nodes()[0]
    for selector in (
        {"eks.amazonaws.com/compute-type": "auto"},
        {"eks.amazonaws.com/nodeclass": "default"},
        {"eks.amazonaws.com/instance-cpu-manufacturer": "amd", "eks.amazonaws.com/instance-memory": "8192"},
    ):
        assert admits(node, selector, None)
    assert not admits(node, {f"{KARPENTER}/instance-category": "m"}, None)


@pytest.mark.parametrize("operator", ["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"])
def test_an_unknown_label_fits_a_plan_and_never_a_removal(operator: str) -> None:
    """Whatever is asked about it."""
    node = to_come("pool")
    expression: dict[str, Any] = {"key": f"{KARPENTER}/instance-ebs-bandwidth", "operator": operator}
    expression["values"] = ["4750"]
    required = {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}
    assert admits(node, None, required)
    doubted = replace(node, unknown_fits=False)
    assert not admits(doubted, None, required)
    assert admits(doubted, None, required_affinity(f"{KARPENTER}/instance-cpu", "2"))


@pytest.mark.parametrize(
    ("zone", "region"),
    [
        ("eu-west-1a", "eu-west-1"),
        ("us-gov-west-1b", "us-gov-west-1"),
        ("us-west-2-lax-1a", "us-west-2"),
        ("ap-southeast-2c", "ap-southeast-2"),
        ("a", None),
        ("", None),
    ],
)
def test_a_zone_tells_its_region(zone: str, region: str | None) -> None:
    known = of_zone(zone)
    assert known.labels.get("topology.kubernetes.io/region") == region
    assert ("topology.kubernetes.io/region" in known.unknown) is (region is None)
    assert ("topology.kubernetes.io/zone" in known.unknown) is (not zone)


def test_a_pool_may_have_a_zone_whose_region_is_unknown() -> None:
    node = node_pool(zones=("eu-west-1a", "lab")).possible_nodes()[0]
    doubted = replace(node, unknown_fits=False)
    assert admits(node, {"topology.kubernetes.io/region": "eu-central-1"}, None)
    assert not admits(doubted, {"topology.kubernetes.io/region": "eu-west-1"}, None)
    assert admits(doubted, {"topology.kubernetes.io/zone": "lab"}, None)


@pytest.mark.parametrize(
    ("name", "facts", "unknown"),
    [
        (
            "m7i-flex.large",
            {"family": "m7i-flex", "capability-flex": "true", "cpu-manufacturer": "intel"},
            set(),
        ),
        ("m4.large", {"hypervisor": "xen", "generation": "4"}, set()),
        ("c7a.metal-48xl", {"cpu-manufacturer": "amd", "size": "metal-48xl"}, {"hypervisor"}),
        ("a1.large", {"cpu-manufacturer": "aws", "category": "a", "generation": "1"}, set()),
        ("i4i.large", {"category": "i"}, {"local-nvme"}),
        ("g5.xlarge", {"category": "g", "cpu": "4"}, {"gpu-name", "local-nvme"}),
    ],
)
def test_the_facts_of_a_machine(name: str, facts: dict[str, str], unknown: set[str]) -> None:
    known = of_machine(KARPENTER, INSTANCE_TYPES[name])
    assert {
        f"{KARPENTER}/instance-{fact}": value for fact, value in facts.items()
    }.items() <= known.labels.items()
    assert {f"{KARPENTER}/instance-{fact}" for fact in unknown} <= known.unknown
    assert bool(unknown) is bool(known.unknown)
