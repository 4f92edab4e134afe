"""The EKS cluster of a stack: an existing one that the stack adopts by name, or a new one."""

import json
from dataclasses import dataclass
from typing import Final

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks

from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line
from archshift.nodes.eks import EksCluster, LiveCluster, NewCluster
from components import engine_text

_LOGS: Final = ("api", "audit", "authenticator", "controllerManager", "scheduler")


def find_cluster(cluster: EksCluster) -> LiveCluster | None:
    """Return the cluster as EKS describes it; None if the stack will create it.

    Raises:
        ArchshiftError: The cluster does not exist and the stack must not create it; or AWS refuses.
    """
    key = "archshift:cluster.name"
    try:
        described = aws.eks.get_cluster(name=cluster.name)
    except Exception as error:  # the SDK raises nothing narrower
        if not is_missing(error):
            raise explain(error, f"{key}: {cluster.name!r} cannot be read") from None
        if cluster.create:
            return None
        raise ArchshiftError(
            f"{key}: there is no EKS cluster {cluster.name!r} in the region of aws:region",
            "correct the name or the region, or set archshift:cluster.create to create the cluster",
        ) from None
    return LiveCluster(described.arn, described.endpoint, described.certificate_authorities[0].data)


def is_missing(error: Exception) -> bool:
    """Whether the AWS provider failed because the object does not exist."""
    # The first text is the provider's, the second EKS's own; the SDK offers no code.
    return any(text in str(error) for text in ("couldn't find resource", "ResourceNotFoundException"))


def explain(error: Exception, problem: str) -> ArchshiftError:
    """Return an error of the AWS provider as ours, without the text that the provider puts around it.

    Args:
        error: The provider's error. AWS's codes are only in its text: the SDK has no field for them.
        problem: What failed.
    """
    text = one_line(error)
    if "ExpiredToken" in text or "security token included in the request is expired" in text:
        return ArchshiftError(
            f"{problem}: the AWS credentials have expired", "log in again, for example with `aws sso login`"
        )
    if "AccessDenied" in text or "not authorized to perform" in text:
        reason = text.rpartition("api error ")[2]
        return ArchshiftError(
            f"{problem}: {reason}", "docs/iam.md lists the permissions that archshift needs"
        )
    reason = text.rpartition("* ")[2]
    return ArchshiftError(f"{problem}: {reason}", "check the AWS credentials and aws:region")


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedClusterArgs:
    """Arguments of ``MixedCluster``.

    Attributes:
        cluster: The cluster as configured.
        live: The existing cluster; None if the stack will create it.
    """

    cluster: EksCluster
    live: LiveCluster | None


class MixedCluster(pulumi.ComponentResource):
    """A cluster for x86 and Graviton nodes.

    An adopted cluster has no resource in the stack, so the stack cannot change it.
    """

    TYPE: Final = "archshift:index:MixedCluster"

    arn: pulumi.Output[str]

    cluster_name: pulumi.Output[str]
    """Known once the cluster exists."""

    kubeconfig: pulumi.Output[str]
    """A kubeconfig in JSON. It holds no credentials: it gets them at each use."""

    def __init__(self, name: str, args: MixedClusterArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        if args.cluster.create:
            live = self._make(args.cluster, args.cluster.create)
        elif args.live:
            live = pulumi.Output.from_input(args.live)
        else:
            raise ValueError("an adopted cluster must exist")
        profile = args.cluster.profile
        self.arn = live.apply(lambda cluster: cluster.arn)
        self.cluster_name = live.apply(lambda cluster: cluster.name)
        self.kubeconfig = live.apply(lambda cluster: json.dumps(cluster.kubeconfig(profile)))
        self.register_outputs(
            engine_text.outputs(
                {"arn": self.arn, "cluster_name": self.cluster_name, "kubeconfig": self.kubeconfig}
            )
        )

    def _make(self, cluster: EksCluster, new: NewCluster) -> pulumi.Output[LiveCluster]:
        child = pulumi.ResourceOptions(parent=self)
        kms_key: pulumi.Input[str] = new.kms_key
        if not new.kms_key:
            secrets = aws.kms.Key(
                "secrets",
                description=f"Secrets of the EKS cluster {cluster.name}",
                enable_key_rotation=True,
                opts=child,
            )
            kms_key = secrets.arn
        made = eks.Cluster(
            cluster.name,
            eks.ClusterArgs(
                name=cluster.name,
                version=new.version,
                vpc_id=new.vpc,
                private_subnet_ids=list(cluster.subnets),
                endpoint_private_access=True,
                endpoint_public_access=bool(new.public_access),
                public_access_cidrs=list(new.public_access) or None,
                encryption_config_key_arn=kms_key,
                enabled_cluster_log_types=list(_LOGS),
                # Access entries admit people and pipelines; aws-auth is not used.
                authentication_mode=eks.AuthenticationMode.API,
                access_entries={_entry_name(admin): _admin(admin) for admin in new.admins},
                create_oidc_provider=True,
                deletion_protection=True,
                # archshift:node_groups defines all nodes.
                skip_default_node_group=True,
                skip_default_security_groups=True,
                node_associate_public_ip_address=False,
            ),
            child,
        )
        described: pulumi.Output[LiveCluster] = made.eks_cluster.apply(
            lambda resource: pulumi.Output.all(
                resource.arn, resource.endpoint, resource.certificate_authority
            ).apply(lambda values: LiveCluster(values[0], values[1], values[2]["data"]))
        )
        return described


def _entry_name(principal: str) -> str:
    return principal.split(":", 5)[5].replace("/", "-")


def _admin(principal: str) -> eks.AccessEntryArgs:
    partition = principal.split(":")[1]
    return eks.AccessEntryArgs(
        principal_arn=principal,
        access_policies={
            "admin": eks.AccessPolicyAssociationArgs(
                policy_arn=f"arn:{partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
                access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
            )
        },
    )
