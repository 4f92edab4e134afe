"""The EKS cluster of a stack: an existing one that the stack adopts by name, or a new one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, get_args

import pulumi
import pulumi_aws as aws
import pulumi_eks as eks

from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line
from archshift.nodes.eks import (
    CREATOR_TAG,
    Addon,
    EksCluster,
    LiveCluster,
    NewCluster,
    check_status,
    principal,
)
from components import engine_text

_LOGS: Final = ("api", "audit", "authenticator", "controllerManager", "scheduler")


def find_cluster(cluster: EksCluster) -> LiveCluster | None:
    """Return the cluster as EKS describes it; None if the stack will create it.

    Raises:
        ArchshiftError: The cluster does not exist and the stack must not create it; EKS is still creating or
            deleting it; or AWS refuses.
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
    check_status(cluster.name, described.status)
    return LiveCluster(
        described.arn,
        described.endpoint,
        described.certificate_authorities[0].data,
        (described.tags or {}).get(CREATOR_TAG, ""),
        _find_addons(cluster.name) if cluster.create else {},
        bool(described.deletion_protection),
    )


def _find_addons(cluster: str) -> dict[Addon, str]:
    """Return the versions of the cluster's EKS add-ons, by name; without those that it does not have."""
    versions: dict[Addon, str] = {}
    for name in get_args(Addon):
        try:
            versions[name] = aws.eks.get_addon(addon_name=name, cluster_name=cluster).addon_version
        except Exception as error:  # the SDK raises nothing narrower
            if not is_missing(error):
                raise explain(error, f"the add-on {name} of the cluster {cluster!r} cannot be read") from None
    return versions


def _caller() -> str:
    """Return who creates a new cluster, as ``principal`` writes it."""
    try:
        return principal(aws.get_caller_identity().arn)
    except Exception as error:  # the SDK raises nothing narrower
        raise explain(error, "AWS does not say whose credentials these are") from None


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
            live = self._make(args.cluster, args.cluster.create, args.live)
        elif args.live:
            live = pulumi.Output.from_input(args.live)
        else:
            raise ValueError("an adopted cluster must exist")
        identity = args.cluster.aws
        self.arn = live.apply(lambda cluster: cluster.arn)
        self.cluster_name = live.apply(lambda cluster: cluster.name)
        self.kubeconfig = live.apply(lambda cluster: json.dumps(cluster.kubeconfig(identity)))
        self.register_outputs(
            engine_text.outputs(
                {
                    "arn": self.arn,
                    "cluster_name": self.cluster_name,
                    "kubeconfig": self.kubeconfig,
                }
            )
        )

    def _make(
        self, cluster: EksCluster, new: NewCluster, live: LiveCluster | None
    ) -> pulumi.Output[LiveCluster]:
        """Register the cluster.

        Args:
            cluster: The cluster as configured.
            new: How to create it.
            live: The cluster, if an earlier update created it.
        """
        child = pulumi.ResourceOptions(parent=self)
        creator = live.creator if live else _caller()
        # EKS makes the creator an administrator, and refuses a second entry for it.
        admins = [admin for admin in new.admins if principal(admin) != creator]
        addons = {**(live.addons if live else {}), **new.addons}
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
                access_entries={_entry_name(admin): _admin(admin) for admin in admins},
                cluster_tags={CREATOR_TAG: creator} if creator else None,
                create_oidc_provider=new.oidc_provider,
                deletion_protection=new.deletion_protection,
                **_addon_options(addons, coredns="coredns" in new.addons),
                **_credentials(cluster),
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
            ).apply(lambda values: _described(cluster.name, values))
        )
        return described


def _described(name: str, values: Sequence[Any]) -> LiveCluster:
    """Return the cluster by its ARN, endpoint and certificate authority.

    A destroy runs the program too, and makes nothing. So a cluster that does not exist has none of these.
    """
    arn, endpoint, authority = values
    if not (arn and authority):
        raise engine_text.run_error(
            ArchshiftError(
                f"archshift:cluster.name: the stack has made no cluster {name}, and a destroy makes none",
                "set the name of the stack's cluster again",
            )
        )
    return LiveCluster(arn, endpoint, authority["data"])


def _addon_options(versions: Mapping[Addon, str], *, coredns: bool) -> dict[str, Any]:
    """Return the arguments that pin add-ons. Without a version the component takes the newest at each run.

    Args:
        versions: The versions, by add-on.
        coredns: Whether CoreDNS becomes an add-on. EKS installs it also without.
    """
    options: dict[str, Any] = {}
    if "vpc-cni" in versions:
        options["vpc_cni_options"] = eks.VpcCniOptionsArgs(addon_version=versions["vpc-cni"])
    if "kube-proxy" in versions:
        options["kube_proxy_addon_options"] = eks.KubeProxyAddonOptionsArgs(version=versions["kube-proxy"])
    if coredns:
        options["coredns_addon_options"] = eks.CoreDnsAddonOptionsArgs(version=versions["coredns"])
    return options


def _credentials(cluster: EksCluster) -> dict[str, Any]:
    """Return the argument with the role for the component's own kubeconfig; it finds a profile itself."""
    if not cluster.aws.roles:
        return {}
    options = eks.KubeconfigOptionsArgs(
        profile_name=cluster.aws.profile or None, role_arn=cluster.aws.roles[-1].arn
    )
    return {"provider_credential_opts": options}


def _entry_name(admin: str) -> str:
    return admin.split(":", 5)[5].replace("/", "-")


def _admin(admin: str) -> eks.AccessEntryArgs:
    partition = admin.split(":")[1]
    return eks.AccessEntryArgs(
        principal_arn=admin,
        access_policies={
            "admin": eks.AccessPolicyAssociationArgs(
                policy_arn=f"arn:{partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
                access_scope=aws.eks.AccessPolicyAssociationAccessScopeArgs(type="cluster"),
            )
        },
    )
