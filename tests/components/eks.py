"""What is registered with AWS for a cluster and its node groups; mocks stand in for AWS."""

from collections.abc import Mapping
from typing import Any

import grpc  # type: ignore[import-untyped]
import pulumi_aws
from pulumi.runtime import MockResourceArgs

from archshift.nodes.eks import EksCluster, LiveCluster, NewCluster
from archshift.nodes.groups import EksNodeGroup
from components.cluster import MixedCluster, MixedClusterArgs
from components.eks_node_groups import EksNodeGroups, EksNodeGroupsArgs
from tests.build import eks_group
from tests.components.recorder import Answer, Monitor, Outputs, Recorder, record

ARN = "arn:aws:eks:eu-west-1:123456789012:cluster/prod"
CLUSTER = EksCluster(name="prod", subnets=("subnet-a", "subnet-b"), node_role="arn:aws:iam::1:role/nodes")

NODE_GROUP = "aws:eks/nodeGroup:NodeGroup"
TEMPLATE = "aws:ec2/launchTemplate:LaunchTemplate"
TAG = "aws:autoscaling/tag:Tag"
ROLE = "aws:iam/role:Role"
ATTACHMENT = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
GET_CLUSTER = "aws:eks/getCluster:getCluster"
GET_OFFERINGS = "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings"
GET_ADDON = "aws:eks/getAddon:getAddon"
GET_CALLER = "aws:index/getCallerIdentity:getCallerIdentity"
GET_SUBNET = "aws:ec2/getSubnet:getSubnet"

OUTPUTS: dict[str, Outputs] = {
    TEMPLATE: lambda _args: {"latestVersion": 3},
    ROLE: lambda args: {"arn": f"arn:aws:iam::1:role/{args.name}"},
    NODE_GROUP: lambda args: {"resources": [{"autoscalingGroups": [{"name": f"eks-{args.name}-asg"}]}]},
    "aws:kms/key:Key": lambda _args: {"arn": "arn:aws:kms:eu-west-1:1:key/made"},
    "aws:eks/cluster:Cluster": lambda _args: {
        "arn": ARN,
        "endpoint": "https://prod.eks",
        "certificateAuthority": {"data": "Q0E="},
    },
}
NEW = EksCluster(
    name="prod",
    subnets=("subnet-a", "subnet-b"),
    create=NewCluster(version="1.34", vpc="vpc-1", admins=("arn:aws:iam::123456789012:role/team/admin",)),
)


def group(name: str, *types: str, size: int = 1, **options: Any) -> EksNodeGroup:
    """A managed node group of a fixed size, unless the options say otherwise."""
    fixed = {"min_size": size, "max_size": max(1, size), "desired_size": size, "subnets": CLUSTER.subnets}
    return eks_group(name, *types, **{**fixed, **options})


def registered(
    *groups: EksNodeGroup,
    cluster: EksCluster = CLUSTER,
    arn: str = ARN,
    answers: Mapping[str, Answer] | None = None,
) -> Monitor:
    """Register node groups on the cluster prod."""

    def program() -> None:
        EksNodeGroups(
            "eks-node-groups",
            EksNodeGroupsArgs(
                cluster_name="prod",
                cluster_arn=arn,
                cluster=cluster,
                groups={one.name: one for one in groups},
            ),
        )

    return record(program, Aws(answers))


class Refused(grpc.RpcError):  # type: ignore[misc]
    """How a provider's failure comes through the engine."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNKNOWN

    def details(self) -> str:
        """The provider's words."""
        return str(self)


class Aws(Recorder):
    """Stands in for the providers; pulumi-eks, a remote component, answers with what it made inside."""

    def __init__(self, answers: Mapping[str, Answer] | None = None) -> None:
        """Answer look-ups as given."""
        super().__init__(OUTPUTS, answers)

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        found, outputs = super().new_resource(args)
        if args.typ == "eks:index:Cluster":
            network = pulumi_aws.eks.ClusterVpcConfigArgs(subnet_ids=[])
            inputs = pulumi_aws.eks.ClusterArgs(role_arn="role", vpc_config=network)
            outputs["eksCluster"] = pulumi_aws.eks.Cluster("inside", inputs)
        return found, outputs


DEPLOYER = "arn:aws:sts::123456789012:assumed-role/deployer/ci"


def made(cluster: EksCluster, live: LiveCluster | None = None, caller: str = DEPLOYER) -> Monitor:
    """Register a cluster that the stack creates, or has created."""
    answers: dict[str, Answer] = {GET_CALLER: lambda _arguments: {"arn": caller}}
    return record(lambda: MixedCluster("prod", MixedClusterArgs(cluster=cluster, live=live)), Aws(answers))
