"""An EKS cluster as configured, and the kubeconfig that reaches it."""

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

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
    """

    name: str
    subnets: tuple[str, ...] = ()
    node_role: str = ""
    autoscaler: Autoscaler = "none"
    create: NewCluster | None = None


def kubeconfig(arn: str, endpoint: str, certificate_authority: str, profile: str = "") -> dict[str, Any]:
    """Return a kubeconfig without credentials: the AWS CLI fetches them when they are used.

    Args:
        arn: The cluster's ARN.
        endpoint: URL of its API server.
        certificate_authority: Certificate of its authority, base64 of PEM.
        profile: AWS profile to ask with; empty for what the environment says.
    """
    _, _, _, region, _, path = arn.split(":", 5)
    name = path.removeprefix("cluster/")
    arguments = ["eks", "get-token", "--cluster-name", name, "--region", region, "--output", "json"]
    command: dict[str, Any] = {
        "apiVersion": "client.authentication.k8s.io/v1beta1",
        "command": "aws",
        "args": arguments,
        "interactiveMode": "IfAvailable",
    }
    if profile:
        command["env"] = [{"name": "AWS_PROFILE", "value": profile}]
    reach = {"server": endpoint, "certificate-authority-data": certificate_authority}
    # Names as `aws eks update-kubeconfig` gives them.
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": arn, "cluster": reach}],
        "contexts": [{"name": arn, "context": {"cluster": arn, "user": arn}}],
        "current-context": arn,
        "users": [{"name": arn, "user": {"exec": command}}],
    }
