"""The managed node groups that a cluster has, as EKS describes them.

https://docs.aws.amazon.com/eks/latest/APIReference/API_Nodegroup.html
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from archshift.common.architectures import ARCHITECTURES
from archshift.common.aws import aws_client
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCHITECTURE_LABEL, GROUP_LABEL, OURS, STACK_LABEL
from archshift.common.text import one_line
from archshift.nodes.eks import EksCluster
from archshift.nodes.groups import Taint
from archshift.nodes.launch_templates import ReadTemplate, TemplateVersion

EFFECTS: Final[Mapping[str, str]] = {
    "NoSchedule": "NO_SCHEDULE",
    "PreferNoSchedule": "PREFER_NO_SCHEDULE",
    "NoExecute": "NO_EXECUTE",
}
"""The effects of taints: Kubernetes' spelling to that of EKS."""

_LABEL_MARK: Final = f"{OURS}label/"
_TAINT_MARK: Final = f"{OURS}taint/"

_KUBERNETES_EFFECTS: Final = {theirs: ours for ours, theirs in EFFECTS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveGroup:
    """A managed node group that exists. None: EKS does not tell it, for example because a template has it.

    Attributes:
        name: Its name at EKS.
        status: ACTIVE, UPDATING, DELETING and so on.
        role: The ARN of the nodes' IAM role.
        subnets: The subnet IDs.
        min_size: The fewest nodes.
        desired_size: The number of nodes.
        max_size: The most nodes.
        capacity_type: ON_DEMAND, SPOT or CAPACITY_BLOCK.
        ami_type: The AMI type; CUSTOM if the launch template names an image.
        instance_types: The instance types; None if the launch template names the type.
        disk_gib: The size of the root volume, in GiB; None if there is a launch template.
        labels: The labels of every node.
        taints: The taints of every node.
        tags: The tags of the group, which its instances do not get.
        max_unavailable: How many nodes an update may replace at once: a number, or a text such as ``33%``.
        update_strategy: Whether an update starts new nodes first (DEFAULT) or ends old nodes first (MINIMAL).
        launch_template: The version of a launch template that its nodes come from. Groups without a template
            of their own have None, although EKS makes one for them.
        remote_access: Whether a key admits people to the nodes by SSH.
        node_repair: Whether EKS replaces nodes that are not healthy.
        version: The Kubernetes version of its nodes; None with an image of its own.
        release_version: The version of its AMI, or with an image of its own the image's ID.
        scaling_groups: The names of its Auto Scaling groups.
        others: What it also has, and archshift does not read, in EKS's own names.
    """

    name: str
    status: str = "ACTIVE"
    role: str
    subnets: tuple[str, ...]
    min_size: int
    desired_size: int
    max_size: int
    capacity_type: str | None = None
    ami_type: str | None = None
    instance_types: tuple[str, ...] | None = None
    disk_gib: int | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    taints: tuple[Taint, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    max_unavailable: int | str | None = None
    update_strategy: str | None = None
    launch_template: TemplateVersion | None = None
    remote_access: bool = False
    node_repair: bool | None = None
    version: str | None = None
    release_version: str | None = None
    scaling_groups: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def own_labels(self) -> dict[str, str]:
        """The labels that it would have without archshift."""
        labels = {key: value for key, value in self.labels.items() if not key.startswith(OURS)}
        # Before archshift has the group, the label is the owner's.
        if GROUP_LABEL in self.tags and labels.get(ARCHITECTURE_LABEL) in ARCHITECTURES:
            del labels[ARCHITECTURE_LABEL]
        for key, former in self._marks(_LABEL_MARK):
            labels.pop(key, None)
            if former is not None:
                labels[key] = former
        return labels

    @property
    def own_taints(self) -> tuple[Taint, ...]:
        """The taints that it would have without archshift."""
        taints = {(taint.key, taint.effect): taint for taint in self.taints if not taint.key.startswith(OURS)}
        for mark, former in self._marks(_TAINT_MARK):
            key, _, effect = mark.rpartition(":")
            taints.pop((key, effect), None)
            if former is not None:
                taints[key, effect] = Taint(key=key, value=former, effect=effect)
        return tuple(taints.values())

    @property
    def own_tags(self) -> dict[str, str]:
        """The tags that it would have without archshift, less those that only AWS may set."""
        return {key: value for key, value in self.tags.items() if not key.startswith((OURS, "aws:"))}

    def _marks(self, prefix: str) -> list[tuple[str, str | None]]:
        return [
            (key.removeprefix(prefix), value.removeprefix("=") if value else None)
            for key, value in self.tags.items()
            if key.startswith(prefix)
        ]

    def marks(self, labels: Mapping[str, str], taints: Iterable[Taint]) -> dict[str, str]:
        """Return tags that tell a later update which labels and taints archshift has set, and over what.

        Without them, a label that leaves the settings would stay, because it is on the group. A value is
        ``=`` and the former value; it is empty if there was none.

        Args:
            labels: The labels that the group is to have.
            taints: The taints that the group is to have.
        """
        own_labels, own_taints = self.own_labels, {(one.key, one.effect): one for one in self.own_taints}
        tags = {}
        for key, value in labels.items():
            former = own_labels.get(key)
            ambiguous = key == ARCHITECTURE_LABEL
            obvious = former is None and (key.startswith(OURS) or ambiguous)
            # Without the mark, a label of the owner with our key and value would later count as ours.
            if (former != value or ambiguous) and not obvious:
                tags[f"{_LABEL_MARK}{key}"] = "" if former is None else f"={former}"
        for taint in taints:
            before = own_taints.get((taint.key, taint.effect))
            if before != taint and not taint.key.startswith(OURS):
                tags[f"{_TAINT_MARK}{taint.key}:{taint.effect}"] = (
                    "" if before is None else f"={before.value}"
                )
        return tags


def from_description(described: Mapping[str, Any]) -> LiveGroup:
    """Return the group that ``DescribeNodegroup`` describes.

    Args:
        described: The value of ``nodegroup`` in the answer.
    """
    size, update = described["scalingConfig"], described.get("updateConfig") or {}
    share = update.get("maxUnavailablePercentage")
    template = described.get("launchTemplate") or {}
    types = described.get("instanceTypes")
    scaling_groups = (described.get("resources") or {}).get("autoScalingGroups") or ()
    return LiveGroup(
        name=described["nodegroupName"],
        status=described["status"],
        role=described["nodeRole"],
        subnets=tuple(described["subnets"]),
        min_size=size["minSize"],
        desired_size=size["desiredSize"],
        max_size=size["maxSize"],
        capacity_type=described.get("capacityType"),
        ami_type=described.get("amiType"),
        instance_types=tuple(types) if types else None,
        disk_gib=described.get("diskSize"),
        labels=dict(described.get("labels") or {}),
        taints=tuple(
            Taint(
                key=taint["key"],
                value=taint.get("value") or "",
                effect=_KUBERNETES_EFFECTS[taint["effect"]],
            )
            for taint in described.get("taints") or ()
        ),
        tags=dict(described.get("tags") or {}),
        max_unavailable=f"{share}%" if share else update.get("maxUnavailable"),
        update_strategy=update.get("updateStrategy"),
        launch_template=TemplateVersion(
            id=template["id"], name=template.get("name", ""), version=template["version"]
        )
        if template
        else None,
        remote_access=bool((described.get("remoteAccess") or {}).get("ec2SshKey")),
        node_repair=(described.get("nodeRepairConfig") or {}).get("enabled"),
        version=described.get("version"),
        release_version=described.get("releaseVersion"),
        scaling_groups=tuple(group["name"] for group in scaling_groups),
        others=tuple(_others(described)),
    )


def _others(described: Mapping[str, Any]) -> Iterator[str]:
    if (described.get("warmPoolConfig") or {}).get("enabled"):
        yield "warmPoolConfig"
    repair = described.get("nodeRepairConfig") or {}
    yield from (f"nodeRepairConfig.{name}" for name in sorted(repair) if name != "enabled" and repair[name])


def with_types(groups: Mapping[str, LiveGroup], read: ReadTemplate) -> dict[str, LiveGroup]:
    """Return groups, each with the instance type of its launch template where EKS does not describe types.

    Args:
        groups: The groups by our name.
        read: Reads a launch template.

    Raises:
        ArchshiftError: A template cannot be read.
    """
    typed = {}
    for name, group in groups.items():
        if group.instance_types is None and group.launch_template:
            named = read(group.launch_template, f"archshift:node_groups.{name}.instance_types").instance_type
            group = replace(group, instance_types=(named,) if named else None)
        typed[name] = group
    return typed


def read_groups(
    cluster: EksCluster, imports: Mapping[str, str], own: Iterable[str], stack: str
) -> dict[str, LiveGroup]:
    """Return the groups of a stack that exist, by our name.

    Args:
        cluster: Their cluster.
        imports: Our name of each imported group to its name at EKS.
        own: Our names of the groups that the stack makes itself.
        stack: The stack, as ``stack_label`` writes it.

    Raises:
        ArchshiftError: An imported group or the cluster does not exist, or EKS is deleting the group;
            another group has the same name of ours; or AWS refuses.
    """
    try:
        client = aws_client("eks", cluster.region, "read node groups from EKS", cluster.aws)
        pages = client.get_paginator("list_nodegroups").paginate(clusterName=cluster.name)
        names = {name for page in pages for name in page["nodegroups"]}
    except ArchshiftError:
        raise
    # botocore's exceptions share no base class.
    except Exception as error:
        if _code(error) != "ResourceNotFoundException":
            raise _explained(error, f"archshift:cluster.name: {cluster.name!r} cannot be read") from None
        if cluster.create:
            return {}
        raise ArchshiftError(
            f"archshift:cluster.name: there is no EKS cluster {cluster.name!r} in the region of aws:region",
            "correct the name or the region, or set archshift:cluster.create to create the cluster",
        ) from None
    for name, theirs in imports.items():
        if theirs not in names:
            raise ArchshiftError(
                f"archshift:node_groups.{name}.import: the cluster {cluster.name!r} has no node group "
                f"{theirs!r}",
                "correct the name, or remove the key to create a new group",
            )
    own = tuple(own)
    described = {name: _describe(client, cluster.name, name, imports, own) for name in sorted(names)}
    groups: dict[str, LiveGroup] = {}
    for name in (*imports, *own):
        made = [
            group
            for group in described.values()
            if group and group.tags.get(GROUP_LABEL) == name and group.labels.get(STACK_LABEL, stack) == stack
            if group.status != "DELETING"
        ]
        former = [
            group.name
            for group in made
            if group.name != imports.get(name) and (name in imports or not _engine_named(group.name, name))
        ]
        if former:
            change = f"importing {imports[name]!r}" if name in imports else "a new group"
            way_out = "give the other group a name of its own"
            if not _engine_named(former[0], name):
                way_out += f", or first hand {former[0]!r} back with release: true (docs/runbook.md)"
            raise ArchshiftError(
                f"archshift:node_groups.{name}: under this name the stack manages the node group "
                f"{former[0]!r}, and {change} would delete it",
                way_out,
            )
        found = described[imports[name]] if name in imports else None
        if found and found.status == "DELETING":
            raise ArchshiftError(
                f"archshift:node_groups.{name}.import: EKS is deleting the node group {found.name!r}",
                "correct the name, or remove the key to create a new group",
            )
        if name not in imports and made:
            # The engine adds a time to the name. While it replaces a group, there are two.
            found = max(made, key=lambda group: group.name)
        if found:
            groups[name] = found
    return groups


def _engine_named(theirs: str, ours: str) -> bool:
    """Return whether the engine made up a name at EKS, for a group of that name of ours.

    An imported group may have the same beginning. The suffix is time and a counter:
    https://github.com/hashicorp/terraform-plugin-sdk/blob/main/helper/id/id.go
    """
    return re.fullmatch(rf"{re.escape(ours)}-[0-9a-f]{{26}}", theirs) is not None


def _describe(
    client: Any, cluster: str, name: str, imports: Mapping[str, str], own: Collection[str]
) -> LiveGroup | None:
    """Return a group; None if it is gone meanwhile, or if it is of others and nobody here may read it."""
    keys = [f"archshift:node_groups.{ours}.import" for ours, theirs in imports.items() if theirs == name]
    try:
        answer = client.describe_nodegroup(clusterName=cluster, nodegroupName=name)
    # botocore's exceptions share no base class.
    except Exception as error:
        gone = _code(error) == "ResourceNotFoundException"
        # Without its own group, the stack would give it the size of its beginning again.
        of_others = not any(_engine_named(name, ours) for ours in own)
        if not keys and (gone or (of_others and _code(error) == "AccessDeniedException")):
            return None
        key = keys[0] if keys else "archshift:cluster.name"
        raise _explained(error, f"{key}: {name!r} cannot be read") from None
    return from_description(answer["nodegroup"])


def _code(error: Exception) -> str:
    response = getattr(error, "response", None) or {}
    return str((response.get("Error") or {}).get("Code") or "")


def _explained(error: Exception, problem: str) -> ArchshiftError:
    """Return an error of botocore as ours."""
    code = _code(error)
    text = str(error.response["Error"].get("Message") or "") if code else one_line(error, 300)  # type: ignore[attr-defined]
    if "ExpiredToken" in code or "token included in the request is expired" in text:
        return ArchshiftError(
            f"{problem}: the AWS credentials have expired", "log in again, for example with `aws sso login`"
        )
    if "AccessDenied" in code or "not authorized to perform" in text:
        return ArchshiftError(
            f"{problem}: {code}: {text}", "docs/iam.md lists the permissions that archshift needs"
        )
    reason = f"{code}: {text}" if code else text
    return ArchshiftError(f"{problem}: {reason}", "check the AWS credentials and aws:region")
