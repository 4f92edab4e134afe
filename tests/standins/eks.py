"""A stand-in for pulumi-eks, whose component is a program of its own: it makes the cluster alone.

The real engine asks it to construct ``eks:index:Cluster``; the children are an ``aws.eks.Cluster``, two
add-ons and access entries of the stand-in for AWS. As in the real component, an add-on without a version has
the newest one at each run. Inputs are checked against the names of the SDK's own type. The real component
makes roles and an OIDC provider too.

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
                tags=inputs.get("clusterTags"),
            ),
            pulumi.ResourceOptions(parent=self),
        )
        inside = pulumi.ResourceOptions(parent=self, depends_on=[self.eks_cluster])
        for addon, options, key in (
            ("vpc-cni", "vpcCniOptions", "addonVersion"),
            ("kube-proxy", "kubeProxyAddonOptions", "version"),
        ):
            newest = aws.eks.get_addon_version_output(
                addon_name=addon, kubernetes_version=inputs["version"], most_recent=True
            )
            aws.eks.Addon(
                f"{name}-{addon}",
                aws.eks.AddonArgs(
                    addon_name=addon,
                    cluster_name=inputs["name"],
                    addon_version=(inputs.get(options) or {}).get(key) or newest.version,
                ),
                inside,
            )
        for entry, given in inputs["accessEntries"].items():
            aws.eks.AccessEntry(
                f"{name}-{entry}",
                aws.eks.AccessEntryArgs(cluster_name=inputs["name"], principal_arn=given["principalArn"]),
                inside,
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
