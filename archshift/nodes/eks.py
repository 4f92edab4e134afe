"""An EKS cluster: its settings, its description at EKS, and its kubeconfig."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from archshift.common.aws import NOBODY_SPECIAL, AwsIdentity, aws_client
from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line

Autoscaler: TypeAlias = Literal["none", "cluster-autoscaler"]

Addon: TypeAlias = Literal["coredns", "kube-proxy", "vpc-cni"]
"""The EKS add-ons that every cluster has."""

CREATOR_TAG: Final = "archshift/creator"
"""The tag of a new cluster with the role or user that created it, as ``principal`` writes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCluster:
    """A cluster that the stack creates.

    Attributes:
        version: The Kubernetes version, such as ``1.34``.
        vpc: The ID of its VPC.
        public_access: The CIDR blocks that may reach the API server from the internet; empty for an endpoint
            only inside the VPC.
        kms_key: The ARN of the key that encrypts secrets; empty to create one.
        admins: The ARNs of IAM roles and users that administer it.
        oidc_provider: Whether to create an IAM OIDC provider, for pods with roles of their own (IRSA).
        deletion_protection: Whether EKS refuses to delete the cluster.
        addons: Versions of EKS add-ons. What is missing here stays as it is in the cluster.
    """

    version: str
    vpc: str
    public_access: tuple[str, ...] = ()
    kms_key: str = ""
    admins: tuple[str, ...] = ()
    oidc_provider: bool = True
    deletion_protection: bool = True
    addons: Mapping[Addon, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class EksCluster:
    """The cluster of a stack.

    Attributes:
        name: Its name.
        subnets: The subnet IDs of its node groups, and of the control plane if the stack creates the cluster.
        node_role: The ARN of the IAM role of its nodes; empty to create one.
        autoscaler: What adds and removes nodes.
        create: How to create it; None for an existing cluster, which archshift never changes.
        aws: With which AWS credentials the stack uses it.
        region: Its region (``aws:region``); empty for that of the environment.
        default_tags: The tags that the AWS provider gives everything (``aws:defaultTags``).
    """

    name: str
    subnets: tuple[str, ...] = ()
    node_role: str = ""
    autoscaler: Autoscaler = "none"
    create: NewCluster | None = None
    aws: AwsIdentity = NOBODY_SPECIAL
    region: str = ""
    default_tags: Mapping[str, str] = field(default_factory=dict)


class NotReadyError(ArchshiftError):
    """A cluster exists at EKS, but nobody can use it now."""


def check_status(name: str, status: str) -> None:
    """Check that a cluster can be used. EKS sets its endpoint and authority after it has created it.

    Args:
        name: The cluster's name.
        status: Its status as EKS describes it.

    Raises:
        NotReadyError: EKS is creating or deleting it, or could not create it.
    """
    problem = f"the EKS cluster {name!r} is {status}"
    if status in ("CREATING", "PENDING"):
        raise NotReadyError(problem, f"run `aws eks wait cluster-active --name {name}`, and try again")
    if status == "DELETING":
        raise NotReadyError(problem, f"run `aws eks wait cluster-deleted --name {name}`, and try again")
    if status == "FAILED":
        raise NotReadyError(problem, "see why in the EKS console, delete the cluster, and create it again")


def principal(arn: str) -> str:
    """Return account, kind and name of an IAM role or user, such as ``123456789012:role/admin``.

    EKS names one principal in several ways: the ARN of an assumed role has neither the role's path nor
    ``iam``. Within an account, the name of a role is unique without its path.

    Args:
        arn: The ARN of a role, of a user, or of a session with an assumed role.
    """
    account, _, resource = arn.split(":", 4)[4].partition(":")
    kind, _, path = resource.partition("/")
    if kind == "assumed-role":
        return f"{account}:role/{path.partition('/')[0]}"
    return f"{account}:{kind}/{path.rpartition('/')[2]}"


@dataclass(frozen=True, slots=True)
class LiveCluster:
    """A cluster as EKS describes it.

    Attributes:
        arn: Its ARN, which contains its region and its name.
        endpoint: The URL of its API server.
        certificate_authority: The certificate of its authority, base64 of PEM.
        creator: Who created it, as ``principal`` writes it; empty if archshift did not, or did so before it
            had this tag.
        addons: The versions of its EKS add-ons.
        deletion_protection: Whether EKS refuses to delete it.
    """

    arn: str
    endpoint: str
    certificate_authority: str
    creator: str = ""
    addons: Mapping[Addon, str] = field(default_factory=dict)
    deletion_protection: bool = False

    @property
    def region(self) -> str:
        """Its region."""
        return self.arn.split(":")[3]

    @property
    def name(self) -> str:
        """Its name."""
        return self.arn.partition("cluster/")[2]

    def kubeconfig(self, identity: AwsIdentity = NOBODY_SPECIAL) -> dict[str, Any]:
        """Return a kubeconfig without credentials: the AWS CLI gets them when they are needed.

        Args:
            identity: The credentials for the AWS CLI, which fit a kubeconfig.
        """
        command: dict[str, Any] = {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": "aws",
            "args": [
                *("eks", "get-token", "--cluster-name", self.name),
                *("--region", self.region, "--output", "json"),
                # Not AWS_PROFILE: keys in the environment count more than that variable
                # (https://docs.aws.amazon.com/cli/latest/userguide/cli-configure-envvars.html).
                *(("--profile", identity.profile) if identity.profile else ()),
                *(option for role in identity.roles[-1:] for option in ("--role-arn", role.arn)),
            ],
            "interactiveMode": "IfAvailable",
        }
        reach = {"server": self.endpoint, "certificate-authority-data": self.certificate_authority}
        # Names as `aws eks update-kubeconfig` gives them.
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": self.arn, "cluster": reach}],
            "contexts": [{"name": self.arn, "context": {"cluster": self.arn, "user": self.arn}}],
            "current-context": self.arn,
            "users": [{"name": self.arn, "user": {"exec": command}}],
        }

    def check_context(self, server: str, authority: str) -> None:
        """Check that a kubeconfig's context reaches this cluster.

        Otherwise archshift could count pods in one cluster and remove nodes in another. The authorities are
        compared, because each cluster has its own, and because a tunnel changes only the server's URL.

        Args:
            server: The URL of the context's API server.
            authority: The certificate of its authority, base64 of PEM; empty if it has none.

        Raises:
            ArchshiftError: It reaches another cluster.
        """
        same_server = server.rstrip("/").lower() == self.endpoint.rstrip("/").lower()
        if not same_server and authority != self.certificate_authority:
            raise ArchshiftError(
                f"archshift:kube_context reaches {server}, and archshift:cluster.name {self.name!r} is "
                f"{self.endpoint}",
                f"run `aws eks update-kubeconfig --region {self.region} --name {self.name}` "
                "and set archshift:kube_context to that context",
            )


def describe_cluster(cluster: EksCluster) -> LiveCluster | None:
    """Return a cluster as EKS describes it; None if it does not exist.

    Raises:
        NotReadyError: EKS is still creating or deleting it.
        ArchshiftError: boto3 is not installed, or AWS refuses.
    """
    try:
        client = aws_client("eks", cluster.region, "read the cluster from EKS", cluster.aws)
        described = client.describe_cluster(name=cluster.name)["cluster"]
        check_status(cluster.name, described.get("status", ""))
        return LiveCluster(
            described["arn"],
            described["endpoint"],
            described["certificateAuthority"]["data"],
            deletion_protection=bool(described.get("deletionProtection")),
        )
    except ArchshiftError:
        raise
    # botocore's exceptions share no base class.
    except Exception as error:
        reason = one_line(error, 300)
        if "ResourceNotFoundException" in reason:
            return None
        raise ArchshiftError(
            f"EKS cannot describe {cluster.name!r}: {reason}",
            "check the AWS credentials, aws:region and the permission eks:DescribeCluster",
        ) from None
