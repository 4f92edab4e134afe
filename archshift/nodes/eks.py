"""An EKS cluster, as configured and as it is, and the kubeconfig that reaches it."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from archshift.common.errors import ArchshiftError

Autoscaler: TypeAlias = Literal["none", "cluster-autoscaler"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCluster:
    """A cluster that the stack makes.

    Attributes:
        version: Kubernetes version, for example ``1.34``.
        vpc: ID of its VPC.
        public_access: CIDR blocks that reach the API server from the internet; none for an
            endpoint inside the VPC alone.
        kms_key: ARN of the key that encrypts secrets; empty to make one.
        admins: ARNs of IAM roles and users that administer it.
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
        subnets: Subnet IDs of its node groups, and of the control plane of one that is made.
        node_role: ARN of the IAM role of its nodes; empty to make one.
        autoscaler: What adds and removes nodes.
        create: How to make it; None for one that exists and of which nothing is changed.
        profile: AWS profile of the stack (``aws:profile``); empty for what the environment says.
        region: Its region (``aws:region``); empty for what the environment says.
    """

    name: str
    subnets: tuple[str, ...] = ()
    node_role: str = ""
    autoscaler: Autoscaler = "none"
    create: NewCluster | None = None
    profile: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class LiveCluster:
    """A cluster as EKS describes it.

    Attributes:
        arn: Its ARN; says its region and its name.
        endpoint: URL of its API server.
        certificate_authority: Certificate of its authority, base64 of PEM.
    """

    arn: str
    endpoint: str
    certificate_authority: str

    @property
    def region(self) -> str:
        """The region it is in."""
        return self.arn.split(":")[3]

    @property
    def name(self) -> str:
        """Its name."""
        return self.arn.partition("cluster/")[2]

    def kubeconfig(self, profile: str = "") -> dict[str, Any]:
        """Return a kubeconfig without credentials: the AWS CLI fetches them when they are used.

        Args:
            profile: AWS profile to ask with; empty for what the environment says.
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

        Pods would else be counted in one cluster and nodes taken away in another. A tunnel
        changes the server's URL, never the authority, which each cluster has of its own.

        Args:
            server: URL of the context's API server.
            authority: Certificate of its authority, base64 of PEM; empty if it has none.

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
