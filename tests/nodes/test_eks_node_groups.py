"""Managed node groups of EKS in a plan: which nodes count, and which could come."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.model import Inventory
from archshift.cluster.pod_fields import Template
from archshift.common.aws import AssumedRole, AwsIdentity
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ZONE_LABEL
from archshift.images.verdict import AMD64_ONLY
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.after_update import nodes_after
from archshift.nodes.ami_types import AMI_TYPES
from archshift.nodes.eks import LiveCluster
from archshift.nodes.groups import EksNodeGroup, Node, Taint
from archshift.plan.planner import make_plan
from tests.build import ARCH, deployment
from tests.build import eks_group as group
from tests.build import eks_node as live


def names(nodes: tuple[Node, ...], *groups: EksNodeGroup) -> list[str]:
    """The nodes that an update leaves."""
    return [node.name for node in nodes_after(nodes, groups)]


def test_a_group_keeps_its_nodes_and_gets_the_missing_ones() -> None:
    """A live node counts as it is; only what is missing is taken from the table."""
    nodes = (live("ip-1", group="graviton"), live("own", "amd64"))
    assert names(nodes, group(desired_size=3)) == ["ip-1", "graviton-new-0", "graviton-new-1", "own"]


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({"desired_size": 1}, ["ip-1"]),
        ({"desired_size": 0}, []),
        ({"desired_size": 1, "autoscaled": True}, ["ip-1", "ip-2"]),
    ],
    ids=["smaller", "to zero", "an autoscaler decides"],
)
def test_a_group_that_shrinks_counts_for_less(options: dict[str, Any], left: list[str]) -> None:
    """So that a step that no longer fits is told before the nodes are gone."""
    nodes = (live("ip-1", group="graviton"), live("ip-2", group="graviton"))
    assert names(nodes, group(**options)) == left


@pytest.mark.parametrize(
    ("options", "left"),
    [
        ({}, ["graviton-new-0"]),
        ({"import_name": "old"}, ["ip-1"]),
    ],
    ids=["made by archshift: replaced", "imported: left as it is"],
)
def test_other_instance_types_are_another_group(options: dict[str, Any], left: list[str]) -> None:
    """EKS cannot change the types of a group, so its nodes go with it."""
    there = live("ip-1", group="graviton", kind="m6g.large")
    assert names((there,), group("graviton", "m7g.large", **options)) == left


def test_labels_and_taints_of_a_group_reach_its_living_nodes() -> None:
    """So a plan sees whom they turn away before they are there."""
    there = live("ip-1", group="graviton", eks="old")
    (after,) = nodes_after((there,), [group(labels={"team": "shop"}, taints=(Taint(key="spot"),))])
    assert after.taints == (Taint(key="spot"),)
    assert after.labels == {**there.labels, "team": "shop", "architecture": "arm64"}


def test_the_nodes_of_a_group_that_is_taken_out_of_the_settings_go() -> None:
    assert names((live("ip-1", "amd64", group="gone"), live("ip-2", group="graviton")), group()) == ["ip-2"]


def test_an_imported_group_is_known_by_its_name_at_eks() -> None:
    """Its nodes do not carry archshift's label yet, and are not counted twice."""
    nodes = (live("ip-1", "amd64", eks="old"), live("ip-2", "amd64", eks="other"))
    assert names(nodes, group("x86", "m5.large", import_name="old")) == ["ip-1", "ip-2"]
    grown = group("x86", "m5.large", import_name="old", desired_size=2)
    assert names(nodes, grown) == ["ip-1", "x86-new-0", "ip-2"]


def test_a_node_to_come_is_the_smallest_that_the_group_allows() -> None:
    """EKS takes the type it gets, and gives all nodes the pod limit of the lowest type."""
    mixed = group("g", "m7g.8xlarge", "m7g.xlarge", "m7g.2xlarge", taints=(Taint(key="spot"),))
    (new,) = mixed.new_nodes(0, ["eu-west-1a"])
    assert new.name == "g-new-0"
    assert new.taints == (Taint(key="spot"),)
    assert (new.millicpu, new.memory, new.pods) == (3920, 15391 * 1024 * 1024, 58)
    assert new.labels == {
        ARCH: "arm64",
        "beta.kubernetes.io/arch": "arm64",
        "kubernetes.io/os": "linux",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/hostname": "g-new-0",
        "node.kubernetes.io/instance-type": "m7g.xlarge",
        "beta.kubernetes.io/instance-type": "m7g.xlarge",
        ZONE_LABEL: "eu-west-1a",
        "failure-domain.beta.kubernetes.io/zone": "eu-west-1a",
        "topology.ebs.csi.aws.com/zone": "eu-west-1a",
        "topology.kubernetes.io/region": "eu-west-1",
        "failure-domain.beta.kubernetes.io/region": "eu-west-1",
        "eks.amazonaws.com/capacityType": "ON_DEMAND",
        "architecture": "arm64",
        "archshift/node-group": "g",
    }
    # 16 vCPU: the VPC CNI could serve 234 pods, EKS caps its nodes at 110.
    assert group("g", "m7g.4xlarge").new_nodes(0)[0].pods == 110


def test_new_nodes_are_taken_to_come_up_in_the_zones_of_the_cluster() -> None:
    """A workload that asks for a zone is not left alone because a node is not there yet."""
    nodes = (live("ip-1", "amd64", zone="b"), live("ip-2", "amd64", zone="a"))
    new = nodes_after(nodes, [group(desired_size=3)])[:3]
    assert [node.labels[ZONE_LABEL] for node in new] == ["a", "b", "a"]


def plan_of(kind: str, *groups: EksNodeGroup, spec: Mapping[str, Any] | None = None) -> Any:
    """The plan for one workload with an amd64-only image, on an x86 node alone."""
    one = deployment("log", 0 if kind == "DaemonSet" else 4, kind=kind, template=Template(spec=spec or {}))
    found = Inventory(workloads={one.key: one}, nodes=(live("ip-1", "amd64"),))
    return make_plan(
        arm_ratio=0.5,
        inventory=found,
        groups=groups,
        verdicts={one.key: WorkloadVerdict(one.key, AMD64_ONLY, (), ())},
    )


@pytest.mark.parametrize(
    ("options", "blocked"),
    [
        ({"desired_size": 1}, True),
        ({"desired_size": 0, "autoscaled": True}, True),
        ({"desired_size": 0}, False),
    ],
    ids=["a node", "an autoscaler may bring one", "none"],
)
def test_a_daemonset_blocks_the_first_graviton_node_also_from_zero(
    options: dict[str, Any], blocked: bool
) -> None:
    """A node that an autoscaler brings up at night breaks it as well as one made now."""
    plan = plan_of("DaemonSet", group(**options))
    assert plan.first_graviton_node is blocked
    assert bool(plan.blockers) is blocked


def test_a_group_at_zero_has_no_capacity_yet() -> None:
    """A shortage is told even though an autoscaler may mend it."""
    plan = plan_of("Deployment", group(desired_size=0, autoscaled=True))
    assert (plan.balances["arm64"].nodes, plan.new_nodes) == (0, ())


@given(st.integers(0, 5), st.integers(0, 5), st.booleans())
def test_after_an_update_a_group_has_its_desired_size(have: int, want: int, autoscaled: bool) -> None:
    """However many there are; an autoscaler's nodes are never counted away."""
    nodes = tuple(live(f"ip-{index}", group="graviton") for index in range(have))
    after = names(nodes, group(desired_size=want, autoscaled=autoscaled))
    assert len(after) == len(set(after)) == (max(have, want) if autoscaled else want)


def test_every_ami_type_says_its_architecture() -> None:
    """The table and EKS's own names agree."""
    for name, ami in AMI_TYPES.items():
        arm64 = ami.architecture == "arm64"
        assert ("ARM_64" in name, "x86_64" in name) == (arm64, not arm64)
        assert name.startswith("BOTTLEROCKET") == (ami.family == "Bottlerocket")
        assert name.removesuffix(ami.variant).endswith(("_64", "_64_", "_64_STANDARD"))


ARN = "arn:aws:eks:eu-west-1:123456789012:cluster/prod"
PROD = LiveCluster(ARN, "https://prod.eks", "Q0E=")


def test_a_kubeconfig_holds_no_credentials() -> None:
    """The AWS CLI fetches a token when one is needed; names are those of ``update-kubeconfig``."""
    assert PROD.kubeconfig() == {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {"name": ARN, "cluster": {"server": "https://prod.eks", "certificate-authority-data": "Q0E="}}
        ],
        "contexts": [{"name": ARN, "context": {"cluster": ARN, "user": ARN}}],
        "current-context": ARN,
        "users": [
            {
                "name": ARN,
                "user": {
                    "exec": {
                        "apiVersion": "client.authentication.k8s.io/v1beta1",
                        "command": "aws",
                        "args": [
                            "eks", "get-token", "--cluster-name", "prod", "--region", "eu-west-1",
                            "--output", "json",
                        ],
                        "interactiveMode": "IfAvailable",
                    }
                },
            }
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("identity", "options"),
    [
        (AwsIdentity("prod-admin"), ["--profile", "prod-admin"]),
        (AwsIdentity(roles=(AssumedRole("arn:aws:iam::1:role/r"),)), ["--role-arn", "arn:aws:iam::1:role/r"]),
        (
            AwsIdentity("prod-admin", (AssumedRole("arn:aws:iam::1:role/r", "ci"),)),
            ["--profile", "prod-admin", "--role-arn", "arn:aws:iam::1:role/r"],
        ),
    ],
)
def test_a_kubeconfig_asks_with_the_credentials_of_the_provider(
    identity: AwsIdentity, options: list[str]
) -> None:
    """Or the cluster would be asked for with other rights than it was made with."""
    (user,) = PROD.kubeconfig(identity)["users"]
    assert user["user"]["exec"]["args"][7:] == ["json", *options]
    assert "env" not in user["user"]["exec"]


@pytest.mark.parametrize(
    ("server", "authority"),
    [
        ("https://prod.eks", ""),
        ("https://PROD.eks/", "other"),
        # Through a tunnel to a private endpoint.
        ("https://localhost:8443", "Q0E="),
    ],
)
def test_a_context_that_reaches_the_cluster_is_accepted(server: str, authority: str) -> None:
    """By its URL or by its certificate authority, which no two clusters share."""
    PROD.check_context(server, authority)


@pytest.mark.parametrize("authority", ["", "T1RIRVI="])
def test_a_context_of_another_cluster_is_refused(authority: str) -> None:
    """Else the guard would look at one cluster's pods and take another's nodes."""
    with pytest.raises(ArchshiftError) as error:
        PROD.check_context("https://staging.eks", authority)
    assert str(error.value) == (
        "archshift:kube_context reaches https://staging.eks, and archshift:cluster.name 'prod' is "
        "https://prod.eks; run `aws eks update-kubeconfig --region eu-west-1 --name prod` and set "
        "archshift:kube_context to that context"
    )
