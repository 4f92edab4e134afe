"""A stand-in for pulumi-eks, whose component is a program of its own: it makes the cluster alone.

The real engine asks it to construct ``eks:index:Cluster``; the one child is an ``aws.eks.Cluster`` of
the stand-in for AWS. Inputs are checked against the names of the SDK's own type. The real component
makes roles, security groups, access entries and an OIDC provider too.

    pulumi-resource-eks ENGINE_ADDRESS
"""

import sys
from importlib.metadata import version
from typing import Any, Final

import pulumi
import pulumi.provider
import pulumi_aws as aws
import pulumi_eks
from pulumi._types import input_type_py_to_pulumi_names

CLUSTER: Final = "eks:index:Cluster"


class Cluster(pulumi.ComponentResource):
    def __init__(self, name: str, inputs: dict[str, Any], opts: pulumi.ResourceOptions | None) -> None:
        super().__init__(CLUSTER, name, {}, opts)
        self.eks_cluster = aws.eks.Cluster(
            f"{name}-eksCluster",
            aws.eks.ClusterArgs(
                name=inputs["name"],
                role_arn="arn:aws:iam::123456789012:role/control-plane",
                version=inputs["version"],
                vpc_config=aws.eks.ClusterVpcConfigArgs(
                    subnet_ids=inputs["privateSubnetIds"],
                    endpoint_private_access=inputs["endpointPrivateAccess"],
                    endpoint_public_access=inputs["endpointPublicAccess"],
                ),
                encryption_config=aws.eks.ClusterEncryptionConfigArgs(
                    provider=aws.eks.ClusterEncryptionConfigProviderArgs(
                        key_arn=inputs["encryptionConfigKeyArn"]
                    ),
                    resources=["secrets"],
                ),
                enabled_cluster_log_types=inputs["enabledClusterLogTypes"],
                deletion_protection=inputs["deletionProtection"],
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self.register_outputs({"eksCluster": self.eks_cluster})


class Eks(pulumi.provider.Provider):
    def construct(
        self,
        name: str,
        resource_type: str,
        inputs: pulumi.Inputs,
        options: pulumi.ResourceOptions | None = None,
    ) -> pulumi.provider.ConstructResult:
        known = set(input_type_py_to_pulumi_names(pulumi_eks.ClusterArgs).values())
        if resource_type != CLUSTER or not set(inputs) <= known:
            raise ValueError(f"{resource_type} with {sorted(set(inputs) - known)} is nothing pulumi-eks has")
        cluster = Cluster(name, dict(inputs), options)
        return pulumi.provider.ConstructResult(cluster.urn, {"eksCluster": cluster.eks_cluster})


if __name__ == "__main__":
    pulumi.provider.main(Eks(version("pulumi-eks")), sys.argv[1:])
