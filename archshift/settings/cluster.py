"""``archshift:cluster``: the EKS cluster of the node groups."""

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from archshift.common.aws import AwsIdentity
from archshift.nodes.eks import Addon, Autoscaler, EksCluster, NewCluster
from archshift.settings.reading import InvalidValueError, Model, says, shown, use
from archshift.settings.values import Arn, Arns, Names, Subnets


class NewClusterModel(Model, frozen=True, kw_only=True):
    """A cluster that archshift makes."""

    version: Annotated[
        str,
        Meta(min_length=1, extra=use('a Kubernetes version in quotes, such as "1.34"')),
        says("The Kubernetes version.", "1.34"),
    ]
    vpc: Annotated[
        str, Meta(min_length=1, extra=use("the ID of a VPC")), says("The ID of the VPC.", "vpc-0a1b2c3d")
    ]
    public_access: Annotated[
        Names,
        says(
            "CIDR blocks from which the internet may reach the API server.",
            ["192.0.2.0/24"],
            default="none: the endpoint is in the VPC only",
        ),
    ] = ()
    kms_key: Annotated[
        Arn | None,
        Meta(extra=use("an ARN such as arn:aws:kms:eu-west-1:123456789012:key/k")),
        says(
            "The ARN of the key that encrypts secrets.",
            "arn:aws:kms:eu-west-1:123456789012:key/k",
            default="archshift makes one",
        ),
    ] = None
    admins: Annotated[
        Arns,
        says(
            "ARNs of IAM roles and users that administer the cluster.",
            ["arn:aws:iam::123456789012:role/admin"],
            default="the role or user that creates the cluster",
        ),
    ] = ()
    oidc_provider: Annotated[
        bool,
        says(
            "Make an IAM OIDC provider, for pods with IAM roles of their own (IRSA). Every preview then "
            "needs the internet, to reach `oidc.eks.REGION.amazonaws.com`.",
            False,
        ),
    ] = True
    deletion_protection: Annotated[
        bool,
        says(
            "EKS refuses to delete the cluster. Before you destroy the stack, set this to `false` and run "
            "`pulumi up`.",
            False,
        ),
    ] = True
    addons: Annotated[
        dict[Addon, Annotated[str, Meta(min_length=1, extra=use("a version such as v1.20.4-eksbuild.2"))]],
        says(
            "Versions of EKS add-ons. With `coredns`, EKS manages CoreDNS as an add-on.",
            {"vpc-cni": "v1.20.4-eksbuild.2", "kube-proxy": "v1.34.0-eksbuild.4"},
            default="the versions of the cluster; the newest for a new cluster",
        ),
    ] = {}


class ClusterModel(Model, frozen=True, kw_only=True):
    """The EKS cluster of the node groups."""

    name: Annotated[
        str,
        Meta(min_length=1, extra=use("the name of the EKS cluster")),
        says("The name of the cluster.", "prod"),
    ]
    subnets: Annotated[
        Subnets | None,
        says(
            "Subnets of the node groups, and of the control plane of a new cluster.",
            ["subnet-0a1b2c3d", "subnet-0b1c2d3e"],
            default="none: each node group has its own",
        ),
    ] = None
    node_role: Annotated[
        Arn | None,
        says(
            "The ARN of the IAM role of the nodes.",
            "arn:aws:iam::123456789012:role/nodes",
            default="archshift makes one",
        ),
    ] = None
    autoscaler: Annotated[Autoscaler, says("What adds and removes nodes.", "cluster-autoscaler")] = "none"
    create: Annotated[
        NewClusterModel | None,
        says(
            "If set, archshift makes the cluster with these settings.",
            {"version": "1.34", "vpc": "vpc-0a1b2c3d"},
            default="none: the cluster must exist, and archshift does not change it",
        ),
    ] = None

    def __post_init__(self) -> None:
        if self.create and len(self.subnets or ()) < 2:
            raise InvalidValueError(
                "subnets",
                f"{shown(list(self.subnets or ()))} is too few to make a cluster",
                "give subnets in two zones or more",
            )

    def cluster(self, aws: AwsIdentity, region: str, default_tags: Mapping[str, str]) -> EksCluster:
        """Return the cluster.

        Args:
            aws: With which AWS credentials the stack uses it.
            region: The AWS region of the stack; empty for none.
            default_tags: The tags that the AWS provider gives everything.
        """
        new = self.create
        return EksCluster(
            name=self.name,
            subnets=self.subnets or (),
            node_role=self.node_role or "",
            autoscaler=self.autoscaler,
            create=NewCluster(
                version=new.version,
                vpc=new.vpc,
                public_access=new.public_access,
                kms_key=new.kms_key or "",
                admins=new.admins,
                oidc_provider=new.oidc_provider,
                deletion_protection=new.deletion_protection,
                addons=new.addons,
            )
            if new
            else None,
            aws=aws,
            region=region,
            default_tags=default_tags,
        )
