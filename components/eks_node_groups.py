"""The managed node groups of an EKS cluster."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from archshift.common.architectures import AMD64
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL, GROUP_LABEL
from archshift.nodes.ami_types import AMI_TYPES
from archshift.nodes.eks import EksCluster
from archshift.nodes.groups import EksNodeGroup, Node, Taint, capacity_by_architecture, side_taint
from components.cluster import explain, is_missing

_EFFECTS: Final = {
    "NoSchedule": "NO_SCHEDULE",
    "PreferNoSchedule": "PREFER_NO_SCHEDULE",
    "NoExecute": "NO_EXECUTE",
}
_KUBERNETES_EFFECTS: Final = {theirs: ours for ours, theirs in _EFFECTS.items()}

_NODE_POLICIES: Final = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
)

# A change of any of these replaces a node group
# (https://www.pulumi.com/registry/packages/aws/api-docs/eks/nodegroup/).
_REPLACING: Final = (
    "amiType",
    "capacityType",
    "diskSize",
    "instanceTypes",
    "launchTemplate",
    "nodeGroupName",
    "nodeGroupNamePrefix",
    "nodeRoleArn",
    "remoteAccess",
    "subnetIds",
)


@dataclass(frozen=True, slots=True)
class LiveGroup:
    """What an existing node group gives its nodes now; an import must keep all of it.

    Attributes:
        role: ARN of the nodes' IAM role.
        subnets: Subnet IDs.
        labels: Node labels.
    """

    role: str
    subnets: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)


def find_groups(cluster: EksCluster, groups: Mapping[str, EksNodeGroup]) -> dict[str, LiveGroup]:
    """Return the existing groups that the settings import, by our name.

    Raises:
        ArchshiftError: A group does not exist or differs from its settings, or AWS refuses.
    """
    return {name: _find_group(cluster.name, group) for name, group in groups.items() if group.import_name}


def _find_group(cluster: str, group: EksNodeGroup) -> LiveGroup:
    key = f"archshift:node_groups.{group.name}"
    try:
        described = aws.eks.get_node_group(cluster_name=cluster, node_group_name=group.import_name)
    except Exception as error:  # the SDK raises nothing narrower
        if is_missing(error):
            raise ArchshiftError(
                f"{key}.import: the cluster {cluster!r} has no node group {group.import_name!r}",
                "correct the name, or remove the key to create a new group",
            ) from None
        raise explain(error, f"{key}.import: {group.import_name!r} cannot be read") from None
    _check_types(key, group, described)
    return LiveGroup(
        described.node_role_arn,
        tuple(described.subnet_ids),
        dict(described.labels),
        tuple(
            Taint(key=taint.key, value=taint.value, effect=_KUBERNETES_EFFECTS[taint.effect])
            for taint in described.taints
        ),
        dict(described.tags),
    )


def _check_types(key: str, group: EksNodeGroup, described: aws.eks.GetNodeGroupResult) -> None:
    # An import never changes the types, so different settings would stay wrong, and the guard would
    # protect the wrong nodes.
    configured = sorted(kind.name for kind in group.instance_types)
    if described.instance_types and sorted(described.instance_types) != configured:
        raise ArchshiftError(
            f"{key}.instance_types: {', '.join(configured)} is not what the live group "
            f"{group.import_name!r} has",
            f"write {', '.join(described.instance_types)}",
        )
    other = "ARM_64" if group.architecture == AMD64 else "x86_64"
    if other in described.ami_type:
        raise ArchshiftError(
            f"{key}.instance_types: {', '.join(configured)} is {group.architecture}, but the live group "
            f"{group.import_name!r} has the AMI type {described.ami_type}",
            "write the instance types of its launch template",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class EksNodeGroupsArgs:
    """Arguments of ``EksNodeGroups``.

    Attributes:
        cluster: The cluster as configured.
        groups: The node groups by name.
        live: The imported groups among them, as they are now.
        protected: Names of the groups that the engine must not delete or replace.
        guard: Hook that the engine calls before it deletes or updates a group; None: no guard.
        others: Nodes that belong to no group of this stack; policies count their capacity.
    """

    cluster_name: pulumi.Input[str]
    cluster_arn: pulumi.Input[str]
    cluster: EksCluster
    groups: Mapping[str, EksNodeGroup]
    live: Mapping[str, LiveGroup] = field(default_factory=dict)
    protected: frozenset[str] = frozenset()
    guard: pulumi.ResourceHook | None = None
    others: Sequence[Node] = ()


class EksNodeGroups(pulumi.ComponentResource):
    """The x86 and Graviton node groups of an EKS cluster.

    Each group is a plain ``aws.eks.NodeGroup``: hooks and protection do not reach the children of a
    remote component such as ``eks.ManagedNodeGroup``.
    """

    TYPE: Final = "archshift:index:EksNodeGroups"

    sizes: pulumi.Output[Mapping[str, int]]
    """Desired number of nodes by group."""

    made: tuple[pulumi.Resource, ...]
    """The groups."""

    def __init__(
        self, name: str, args: EksNodeGroupsArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        self._args = args
        self._rights: list[pulumi.Resource] = []
        self._role: pulumi.Input[str] = args.cluster.node_role
        if not self._role and any(group.name not in args.live for group in args.groups.values()):
            self._role = self._node_role()
        made = {group.name: self._group(group) for group in args.groups.values()}
        self.made = tuple(made.values())
        desired: Mapping[str, Any] = {name: group.scaling_config.desired_size for name, group in made.items()}
        self.sizes = pulumi.Output.from_input(desired).apply(
            lambda sizes: {name: int(size) for name, size in sizes.items()}
        )
        # Where a launch template has the types, no input of the group has them, and policies need them.
        types = {group.name: [kind.name for kind in group.instance_types] for group in args.groups.values()}
        self.register_outputs(
            {"sizes": self.sizes, "types": types, "elsewhere": capacity_by_architecture(args.others)}
        )

    def _group(self, group: EksNodeGroup) -> aws.eks.NodeGroup:
        live = self._args.live.get(group.name)
        taints = _merge(live.taints if live else (), (*group.taints, side_taint(group.architecture)))
        made = aws.eks.NodeGroup(
            group.name,
            aws.eks.NodeGroupArgs(
                cluster_name=self._args.cluster_name,
                node_group_name=group.import_name or None,
                # The engine adds a suffix, so a replacement can exist before it deletes this group.
                node_group_name_prefix=None if live else f"{group.name}-",
                node_role_arn=live.role if live else self._role,
                subnet_ids=list(live.subnets if live else group.subnets),
                instance_types=[kind.name for kind in group.instance_types],
                ami_type=group.ami_type,
                capacity_type=group.capacity_type,
                launch_template=None if live else self._launch_template(group),
                scaling_config=aws.eks.NodeGroupScalingConfigArgs(
                    min_size=group.min_size, max_size=group.max_size, desired_size=group.desired_size
                ),
                update_config=_update_config(group),
                labels={**(live.labels if live else {}), **group.node_labels},
                taints=[
                    aws.eks.NodeGroupTaintArgs(
                        key=taint.key, value=taint.value or None, effect=_EFFECTS[taint.effect]
                    )
                    for taint in taints
                ],
                tags={**(live.tags if live else {}), GROUP_LABEL: group.name},
            ),
            self._options(group),
        )
        if group.autoscaled:
            self._tag_for_autoscaler(group, made, taints)
        return made

    def _options(self, group: EksNodeGroup) -> pulumi.ResourceOptions:
        imported, guard = bool(group.import_name), self._args.guard
        return pulumi.ResourceOptions(
            parent=self,
            protect=group.name in self._args.protected,
            # On Graviton groups too: such a group may replace an x86 group of the same name.
            hooks=pulumi.ResourceHookBinding(before_delete=[guard], before_update=[guard]) if guard else None,
            import_=f"{self._args.cluster.name}:{group.import_name}" if imported else None,
            ignore_changes=[
                *(_REPLACING if imported else ()),
                *(("scalingConfig.desiredSize",) if group.autoscaled else ()),
            ],
            # Nodes need the role's permissions until the last node is gone.
            depends_on=self._rights,
        )

    def _launch_template(self, group: EksNodeGroup) -> aws.eks.NodeGroupLaunchTemplateArgs:
        tags = {"Name": f"{self._args.cluster.name}-{group.name}", GROUP_LABEL: group.name}
        template = aws.ec2.LaunchTemplate(
            group.name,
            aws.ec2.LaunchTemplateArgs(
                name_prefix=f"{self._args.cluster.name}-{group.name}-",
                description=f"Nodes of the group {group.name} of the EKS cluster {self._args.cluster.name}",
                # Only IMDSv2 and one hop: pods cannot use the node's role.
                metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
                    http_endpoint="enabled", http_tokens="required", http_put_response_hop_limit=1
                ),
                block_device_mappings=[
                    aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                        device_name=AMI_TYPES[group.ami_type].data_volume,
                        ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                            volume_size=group.disk_gib,
                            volume_type="gp3",
                            encrypted="true",
                            delete_on_termination="true",
                        ),
                    )
                ],
                tag_specifications=[
                    aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=tags)
                    for kind in ("instance", "volume")
                ],
                tags=tags,
            ),
            pulumi.ResourceOptions(parent=self),
        )
        # A number: with `$Latest` every preview would show a difference.
        return aws.eks.NodeGroupLaunchTemplateArgs(
            id=template.id, version=template.latest_version.apply(lambda version: str(int(version)))
        )

    def _tag_for_autoscaler(
        self, group: EksNodeGroup, made: aws.eks.NodeGroup, taints: tuple[Taint, ...]
    ) -> None:
        """Tag the scaling group with its nodes' labels and taints, for the autoscaler of an empty group.

        https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/cloudprovider/aws/README.md
        """
        prefix = "k8s.io/cluster-autoscaler/node-template"
        labels = {**group.node_labels, ARCH_LABEL: group.architecture}
        tags = {f"{prefix}/label/{key}": value for key, value in labels.items()} | {
            f"{prefix}/taint/{taint.key}": f"{taint.value}:{taint.effect}"
            for taint in taints
            if taint.effect != "PreferNoSchedule"  # turns no pod away
        }
        scaling_group = made.resources.apply(_scaling_group)
        for key, value in tags.items():
            aws.autoscaling.Tag(
                f"{group.name}/{key.removeprefix(prefix + '/')}",
                aws.autoscaling.TagArgs(
                    autoscaling_group_name=scaling_group,
                    tag=aws.autoscaling.TagTagArgs(key=key, value=value, propagate_at_launch=False),
                ),
                pulumi.ResourceOptions(parent=self),
            )

    def _node_role(self) -> pulumi.Output[str]:
        partition = pulumi.Output.from_input(self._args.cluster_arn).apply(lambda arn: arn.split(":")[1])
        role = aws.iam.Role(
            "nodes",
            aws.iam.RoleArgs(
                description=f"Nodes of the EKS cluster {self._args.cluster.name}",
                assume_role_policy=partition.apply(_trust),
            ),
            pulumi.ResourceOptions(parent=self),
        )
        self._rights = [
            aws.iam.RolePolicyAttachment(
                policy,
                aws.iam.RolePolicyAttachmentArgs(
                    role=role.name,
                    policy_arn=pulumi.Output.concat("arn:", partition, ":iam::aws:policy/", policy),
                ),
                pulumi.ResourceOptions(parent=self),
            )
            for policy in _NODE_POLICIES
        ]
        return role.arn


def _scaling_group(resources: Sequence[aws.eks.outputs.NodeGroupResource]) -> str:
    """Return the name of the one scaling group of a managed group."""
    (only,) = resources[0].autoscaling_groups or ()
    return str(only.name)


def _trust(partition: str) -> str:
    """Return who may assume the role of nodes, as JSON."""
    ec2 = "ec2.amazonaws.com"
    # EC2 assumes the role by the one name. In China EKS has refused roles that do not trust the other
    # (https://github.com/awslabs/cdk-eks-blueprints/issues/558).
    service = [ec2, f"{ec2}.cn"] if partition == "aws-cn" else ec2
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _merge(live: tuple[Taint, ...], ours: tuple[Taint, ...]) -> tuple[Taint, ...]:
    """Return the taints of both; ours win where key and effect are the same."""
    return tuple({(taint.key, taint.effect): taint for taint in (*live, *ours)}.values())


def _update_config(group: EksNodeGroup) -> aws.eks.NodeGroupUpdateConfigArgs:
    if isinstance(group.max_unavailable, str):
        return aws.eks.NodeGroupUpdateConfigArgs(
            max_unavailable_percentage=int(group.max_unavailable.removesuffix("%"))
        )
    return aws.eks.NodeGroupUpdateConfigArgs(max_unavailable=group.max_unavailable)
