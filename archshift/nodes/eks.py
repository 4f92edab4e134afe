"""An EKS cluster: its settings, its description at EKS, and its kubeconfig."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from archshift.common.errors import ArchshiftError

Autoscaler: TypeAlias = Literal["none", "cluster-autoscaler"]


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
    """

    version: str
    vpc: str
    public_access: tuple[str, ...] = ()
    kms_key: str = ""
    admins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EksCluster:
    """The cluster of a stack.

    Attributes:
        name: Its name.
        subnets: The subnet IDs of its node groups, and of the control plane if the stack creates the cluster.
        node_role: The ARN of the IAM role of its nodes; empty to create one.
        autoscaler: What adds and removes nodes.
        create: How to create it; None for an existing cluster, which archshift never changes.
        profile: The AWS profile of the stack (``aws:profile``); empty for that of the environment.
        region: Its region (``aws:region``); empty for that of the environment.
        default_tags: The tags that the AWS provider gives everything (``aws:defaultTags``).
    """

    name: str
    subnets: tuple[str, ...] = ()
    node_role: str = ""
    autoscaler: Autoscaler = "none"
    create: NewCluster | None = None
    profile: str = ""
    region: str = ""
    default_tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LiveCluster:
    """A cluster as EKS describes it.

    Attributes:
        arn: Its ARN, which contains its region and its name.
        endpoint: The URL of its API server.
        certificate_authority: The certificate of its authority, base64 of PEM.
    """

    arn: str
    endpoint: str
    certificate_authority: str

    @property
    def region(self) -> str:
        """Its region."""
        return self.arn.split(":")[3]

    @property
    def name(self) -> str:
        """Its name."""
        return self.arn.partition("cluster/")[2]

    def kubeconfig(self, profile: str = "") -> dict[str, Any]:
        """Return a kubeconfig without credentials: the AWS CLI gets them when they are needed.

        Args:
            profile: The AWS profile for the AWS CLI; empty for that of the environment.
        """
        command: dict[str, Any] = {
            "apiVersion": "client.authentication.k8s.io/v1beta1",
            "command": "aws",
            "args": [
                *("eks", "get-token", "--cluster-name", self.name),
                *("--region", self.region, "--output", "json"),
            ],
            "interactiveMode": "IfAvailable",
        }
        if profile:
            command["env"] = [{"name": "AWS_PROFILE", "value": profile}]
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
