"""The managed node groups of an EKS cluster."""

import json
import re
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

import pulumi
import pulumi_aws as aws

from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL, GROUP_LABEL, TWIN_TAG
from archshift.nodes.ami_types import AMI_TYPES, CUSTOM
from archshift.nodes.eks import EksCluster
from archshift.nodes.groups import EksNodeGroup, Node, capacity_by_architecture
from archshift.nodes.launch_templates import Volume
from archshift.nodes.live_groups import EFFECTS
from components import engine_text
from components.stack_state import resource_outputs

_NODE_POLICIES: Final = (
    "AmazonEKSWorkerNodePolicy",
    "AmazonEKS_CNI_Policy",
    "AmazonEC2ContainerRegistryPullOnly",
)

_MADE_ROLE: Final = re.compile(r":role/nodes-[0-9a-f]{7}\Z")
"""The ARN of the role that ``EksNodeGroups`` makes, with the suffix of the engine."""

_TAG: Final = "aws:autoscaling/tag:Tag"

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

# The owner of a group makes a warm pool at EKS. The provider removes one that the program does not name
# (https://www.pulumi.com/registry/packages/aws/api-docs/eks/nodegroup/). It leaves the versions alone.
_LEFT_ALONE: Final = ("warmPoolConfig",)


@dataclass(frozen=True, slots=True, kw_only=True)
class EksNodeGroupsArgs:
    """Arguments of ``EksNodeGroups``.

    Attributes:
        cluster: The cluster as configured.
        groups: The node groups by name.
        protected: Names of the groups that the engine must not delete or replace.
        guard: Hook that the engine calls before it deletes or updates a group; None: no guard.
        others: Nodes that belong to no group of this stack; policies count their capacity.
    """

    cluster_name: pulumi.Input[str]
    cluster_arn: pulumi.Input[str]
    cluster: EksCluster
    groups: Mapping[str, EksNodeGroup]
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
        roles = {
            group.node_role or args.cluster.node_role
            for group in args.groups.values()
            if not group.import_name
        }
        # A group that has the role of an earlier update keeps it, and so does the stack.
        if any(not role or _MADE_ROLE.search(role) for role in roles):
            self._role = self._node_role()
        made = {group.name: self._group(group) for group in args.groups.values()}
        self.made = tuple(made.values())
        desired: Mapping[str, Any] = {name: group.scaling_config.desired_size for name, group in made.items()}
        self.sizes = pulumi.Output.from_input(desired).apply(
            lambda sizes: {name: int(size) for name, size in sizes.items()}
        )
        # Where a launch template has the types, no input of the group has them, and policies need them.
        types = {group.name: [kind.name for kind in group.instance_types] for group in args.groups.values()}
        elsewhere = capacity_by_architecture(args.others)
        self.register_outputs(
            engine_text.outputs({"sizes": self.sizes, "types": types, "elsewhere": elsewhere})
        )

    def _group(self, group: EksNodeGroup) -> aws.eks.NodeGroup:
        live = group.live if group.import_name else None
        given = live.own_tags if live else {**group.group_tags, **group.tags}
        tags = {**given, GROUP_LABEL: group.name}
        if live:
            tags |= live.marks(group.node_labels, group.taints)
            tags = live.own_tags if group.released else tags
        elif group.original:
            tags[TWIN_TAG] = group.original
        if not live and group.source:
            # What its original gave it is its own; what its own settings say can go again.
            tags |= group.source.marks(
                group.node_labels if "labels" in group.typed else {},
                group.taints if "taints" in group.typed else (),
            )
        made = aws.eks.NodeGroup(
            group.name,
            aws.eks.NodeGroupArgs(
                cluster_name=self._args.cluster_name,
                node_group_name=group.import_name or None,
                # The engine adds a suffix, so a replacement can exist before it deletes this group.
                node_group_name_prefix=None if group.import_name else f"{group.name}-",
                node_role_arn=live.role if live else group.node_role or self._role,
                subnet_ids=list(group.subnets),
                instance_types=[kind.name for kind in group.instance_types],
                # With an image of its own, EKS finds that out itself, and refuses to be told.
                ami_type=None if group.ami_type == CUSTOM and not live else group.ami_type or None,
                capacity_type=group.capacity_type,
                launch_template=None if group.import_name else self._template_version(group),
                scaling_config=aws.eks.NodeGroupScalingConfigArgs(
                    min_size=group.min_size, max_size=group.max_size, desired_size=group.desired_size
                ),
                update_config=_update_config(group),
                node_repair_config=_node_repair(group),
                version=group.version or None,
                release_version=group.release_version or None,
                labels=dict(group.node_labels),
                taints=[
                    aws.eks.NodeGroupTaintArgs(
                        key=taint.key, value=taint.value or None, effect=EFFECTS[taint.effect]
                    )
                    for taint in group.node_taints
                ],
                tags=tags,
            ),
            self._options(group),
        )
        if group.live and group.autoscaled and not group.live.scaling_groups:
            engine_text.warn(
                f"node group {group.name}: EKS names no Auto Scaling group of {group.live.name!r}, so an "
                "autoscaler cannot add nodes to it; look at the health of the group at EKS"
            )
            if not group.released:
                # EKS may name it again at the next update, so the tags of the last one stay.
                former = {name: tag["autoscalingGroupName"] for name, tag in resource_outputs(_TAG).items()}
                self._tag_for_autoscaler(group, former)
        elif group.autoscaled and not group.released:
            self._tag_for_autoscaler(group, made.resources.apply(partial(_scaling_group, group.name)))
        return made

    def _options(self, group: EksNodeGroup) -> pulumi.ResourceOptions:
        imported = bool(group.import_name)
        # A group that is handed back leaves the stack and stays at EKS, so there is nothing to ask then.
        guard = None if group.released else self._args.guard
        return pulumi.ResourceOptions(
            parent=self,
            protect=group.name in self._args.protected,
            # On Graviton groups too: such a group may replace an x86 group of the same name.
            hooks=pulumi.ResourceHookBinding(before_delete=[guard], before_update=[guard]) if guard else None,
            import_=f"{self._args.cluster.name}:{group.import_name}" if imported else None,
            ignore_changes=[*_LEFT_ALONE, *(_REPLACING if imported else ())],
            retain_on_delete=group.released,
            # Nodes need the role's permissions until the last node is gone.
            depends_on=self._rights,
        )

    def _template_version(self, group: EksNodeGroup) -> aws.eks.NodeGroupLaunchTemplateArgs:
        if group.launch_template:
            return aws.eks.NodeGroupLaunchTemplateArgs(
                id=group.launch_template.id, version=group.launch_template.version
            )
        template = self._launch_template(group)
        # A number: with `$Latest` every preview would show a difference.
        return aws.eks.NodeGroupLaunchTemplateArgs(
            id=template.id, version=template.latest_version.apply(lambda version: str(int(version)))
        )

    def _launch_template(self, group: EksNodeGroup) -> aws.ec2.LaunchTemplate:
        given = group.instances
        ours = {"Name": f"{self._args.cluster.name}-{group.name}", **group.tags, GROUP_LABEL: group.name}
        # The provider gives the default tags to the template, but not to what EC2 makes from it.
        tags = {
            kind: {**self._args.cluster.default_tags, **given.tags.get(kind, {}), **ours}
            for kind in sorted({"instance", "volume", *given.tags})
        }
        return aws.ec2.LaunchTemplate(
            group.name,
            aws.ec2.LaunchTemplateArgs(
                name_prefix=f"{self._args.cluster.name}-{group.name}-",
                description=f"Nodes of the group {group.name} of the EKS cluster {self._args.cluster.name}",
                metadata_options=aws.ec2.LaunchTemplateMetadataOptionsArgs(
                    http_endpoint="enabled",
                    http_tokens=given.http_tokens,
                    http_put_response_hop_limit=given.hop_limit,
                    instance_metadata_tags="enabled" if given.metadata_tags else None,
                ),
                # Without any, EKS adds the security group of the cluster.
                vpc_security_group_ids=list(given.security_groups) or None,
                # It may hold passwords; the engine encrypts it in its state.
                user_data=pulumi.Output.secret(b64encode(given.user_data.encode()).decode())
                if given.user_data
                else None,
                monitoring=aws.ec2.LaunchTemplateMonitoringArgs(enabled=True) if given.monitoring else None,
                ebs_optimized=None if given.ebs_optimized is None else str(given.ebs_optimized).lower(),
                block_device_mappings=[
                    aws.ec2.LaunchTemplateBlockDeviceMappingArgs(
                        device_name=device,
                        ebs=aws.ec2.LaunchTemplateBlockDeviceMappingEbsArgs(
                            volume_size=volume.gib,
                            volume_type=volume.type,
                            iops=volume.iops,
                            throughput=volume.throughput,
                            encrypted="true",
                            kms_key_id=volume.kms_key or given.kms_key or None,
                            delete_on_termination="true",
                        ),
                    )
                    for device, volume in _volumes(group).items()
                ],
                tag_specifications=[
                    aws.ec2.LaunchTemplateTagSpecificationArgs(resource_type=kind, tags=words)
                    for kind, words in tags.items()
                ],
                tags=ours,
            ),
            pulumi.ResourceOptions(parent=self),
        )

    def _tag_for_autoscaler(
        self, group: EksNodeGroup, scaling_group: pulumi.Output[str] | Mapping[str, str]
    ) -> None:
        """Tag the scaling group with its nodes' labels and taints, for the autoscaler of an empty group.

        https://github.com/kubernetes/autoscaler/blob/master/cluster-autoscaler/cloudprovider/aws/README.md

        Args:
            group: The group.
            scaling_group: Its scaling group. If EKS names none now: that of each tag of the last update, by
                the name of the resource. Then there are no further tags.
        """
        prefix = "k8s.io/cluster-autoscaler/node-template"
        labels = {**group.node_labels, ARCH_LABEL: group.architecture}
        tags = {f"{prefix}/label/{key}": value for key, value in labels.items()} | {
            f"{prefix}/taint/{taint.key}": f"{taint.value}:{taint.effect}"
            for taint in group.node_taints
            if taint.effect != "PreferNoSchedule"  # turns no pod away
        }
        live = group.live if group.import_name else None
        theirs = {f"label/{key}" for key in (live.own_labels if live else ())}
        theirs |= {f"taint/{taint.key}" for taint in (live.own_taints if live else ())}
        for key, value in tags.items():
            name = key.removeprefix(f"{prefix}/")
            resource = f"{group.name}/{name}"
            of_tag = scaling_group.get(resource) if isinstance(scaling_group, Mapping) else scaling_group
            if of_tag is None:
                continue
            aws.autoscaling.Tag(
                resource,
                aws.autoscaling.TagArgs(
                    autoscaling_group_name=of_tag,
                    tag=aws.autoscaling.TagTagArgs(key=key, value=value, propagate_at_launch=False),
                ),
                # The owner of an imported group may have set the tags of its own labels and taints.
                pulumi.ResourceOptions(parent=self, retain_on_delete=name in theirs),
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


def _scaling_group(name: str, resources: Sequence[aws.eks.outputs.NodeGroupResource]) -> str:
    """Return the name of the one scaling group of a managed group; ``name`` is that of ours.

    Raises:
        RunError: EKS names none, because the group is not healthy.
    """
    names = [str(group.name) for resource in resources for group in resource.autoscaling_groups or ()]
    if not names:
        problem = f"archshift:node_groups.{name}: EKS names no Auto Scaling group of the node group"
        raise engine_text.run_error(
            ArchshiftError(problem, "look at the health of the group at EKS, and run pulumi up again")
        )
    return names[0]


def _trust(partition: str) -> str:
    """Return who may assume the role of nodes, as JSON."""
    ec2 = "ec2.amazonaws.com"
    # EC2 assumes the role by the one name. In China EKS has refused roles that do not trust the other
    # (https://github.com/awslabs/cdk-eks-blueprints/issues/558).
    service = [ec2, f"{ec2}.cn"] if partition == "aws-cn" else ec2
    statement = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def _volumes(group: EksNodeGroup) -> dict[str, Volume]:
    """Return all volumes of a node by device: those of its image, and what the group has beside them."""
    ami, given = AMI_TYPES[group.ami_type], group.instances.volumes
    volumes = {device: given.get(device, Volume()) for device in ami.volumes} | dict(given)
    return volumes | {ami.data_volume: replace(volumes[ami.data_volume], gib=group.disk_gib)}


def _node_repair(group: EksNodeGroup) -> aws.eks.NodeGroupNodeRepairConfigArgs | None:
    # An import does not change it. Without the block, EKS would keep what a group of our own had.
    known = not group.import_name and group.live and group.live.node_repair is not None
    if not group.node_repair and not known:
        return None
    return aws.eks.NodeGroupNodeRepairConfigArgs(enabled=group.node_repair)


def _update_config(group: EksNodeGroup) -> aws.eks.NodeGroupUpdateConfigArgs:
    share = isinstance(group.max_unavailable, str)
    number = int(str(group.max_unavailable).removesuffix("%"))
    return aws.eks.NodeGroupUpdateConfigArgs(
        max_unavailable=None if share else number,
        max_unavailable_percentage=number if share else None,
        # EKS gets the whole block, so what an imported group has would go.
        update_strategy=group.update_strategy or None,
    )
