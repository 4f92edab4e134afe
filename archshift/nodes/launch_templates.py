"""The launch templates of node groups: what a template that exists says, and what ours will say.

https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html
"""

import base64
import binascii
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from archshift.common.aws import aws_client
from archshift.common.errors import ArchshiftError
from archshift.common.text import one_line
from archshift.nodes.eks import EksCluster

_READ: Final = frozenset(
    {
        "BlockDeviceMappings",
        "EbsOptimized",
        "ImageId",
        "InstanceRequirements",
        "InstanceType",
        "MetadataOptions",
        "Monitoring",
        "NetworkInterfaces",
        "SecurityGroupIds",
        "TagSpecifications",
        "UserData",
    }
)
"""The fields of ``LaunchTemplateData`` that ``from_data`` reads."""

_PLAIN_INTERFACE: Final[Mapping[str, Any]] = {
    "AssociatePublicIpAddress": False,
    "DeleteOnTermination": True,
    "Description": "",
    "DeviceIndex": 0,
    "InterfaceType": "interface",
    "NetworkCardIndex": 0,
}
"""What EC2 does without these fields of a network interface, in the private subnets of a cluster."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TemplateVersion:
    """A version of a launch template, as a node group names it.

    Attributes:
        id: The template's ID.
        name: Its name; empty if EKS does not tell it.
        version: The number of the version, as text.
    """

    id: str
    name: str = ""
    version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """An EBS volume of each node.

    Attributes:
        gib: Its size in GiB; None for the size of the image.
        type: gp3, gp2, io1, io2 and so on.
        iops: Its operations a second; None for the default of its type.
        throughput: Its MiB a second; None for the default of its type.
        kms_key: The key that encrypts it; empty for the account's default key.
    """

    gib: int | None = None
    type: str = "gp3"
    iops: int | None = None
    throughput: int | None = None
    kms_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instances:
    """What a launch template gives each node.

    Attributes:
        security_groups: IDs; empty for the cluster's own security group, which EKS adds only then.
        user_data: The text that a node reads at its first start; empty for none beside that of EKS.
        hop_limit: How many hops an answer of the instance metadata service (IMDS) may take. With 1, pods
            cannot use the node's role.
        http_tokens: ``required`` for IMDSv2 alone, or ``optional``.
        metadata_tags: Whether IMDS shows the instance's tags.
        monitoring: Whether CloudWatch gets figures each minute.
        ebs_optimized: Whether EBS has a bandwidth of its own; None for the default of the instance type.
        tags: Kind of resource (instance, volume, network-interface) to its tags.
        volumes: Device to volume.
        kms_key: The key of each volume that names none; empty for the account's default key.
    """

    security_groups: tuple[str, ...] = ()
    user_data: str = ""
    hop_limit: int = 1
    http_tokens: str = "required"
    metadata_tags: bool = False
    monitoring: bool = False
    ebs_optimized: bool | None = None
    tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    volumes: Mapping[str, Volume] = field(default_factory=dict)
    kms_key: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTemplate:
    """A version of a launch template that exists.

    Attributes:
        instances: What it gives each node; a default where it says nothing.
        hop_limit: The hop limit that it sets; None if it sets none.
        http_tokens: The value that it sets; None if it sets none.
        user_data: The user data as text; None if archshift cannot read it, for example because it is packed.
        image: The ID of the image that it names; empty for that of EKS.
        names_types: Whether it names instance types or requirements for them.
        instance_type: The instance type that it names; empty if it names none.
        others: What it also sets, and archshift does not read, in EC2's own names.
    """

    instances: Instances = field(default_factory=Instances)
    hop_limit: int | None = None
    http_tokens: str | None = None
    user_data: str | None = ""
    image: str = ""
    names_types: bool = False
    instance_type: str = ""
    others: tuple[str, ...] = ()


ReadTemplate: TypeAlias = Callable[[TemplateVersion, str], LiveTemplate]
"""Reads a version of a launch template; the text is the key that needs it."""


def read_template(cluster: EksCluster, template: TemplateVersion, key: str) -> LiveTemplate:
    """Return a version of a launch template as EC2 describes it.

    Args:
        cluster: The cluster of its nodes.
        template: The version.
        key: The key that needs it, for errors.

    Raises:
        ArchshiftError: boto3 is not installed, the version does not exist, or AWS refuses.
    """
    try:
        client = aws_client("ec2", cluster.region, "read launch templates from EC2", cluster.aws)
        answer = client.describe_launch_template_versions(
            LaunchTemplateId=template.id, Versions=[template.version]
        )
        return from_data(answer["LaunchTemplateVersions"][0]["LaunchTemplateData"])
    except ArchshiftError:
        raise
    # botocore's exceptions share no base class.
    except Exception as error:
        raise ArchshiftError(
            f"{key}: version {template.version} of the launch template {template.id} cannot be read: "
            f"{one_line(error, 300)}",
            "check that it exists, and the permission ec2:DescribeLaunchTemplateVersions (docs/iam.md)",
        ) from None


def from_data(data: Mapping[str, Any]) -> LiveTemplate:
    """Return the template whose ``LaunchTemplateData`` this is."""
    metadata = data.get("MetadataOptions") or {}
    text = _text(data.get("UserData") or "")
    volumes, other_devices = _volumes(data.get("BlockDeviceMappings") or ())
    interfaces = data.get("NetworkInterfaces") or ()
    groups = (
        *(data.get("SecurityGroupIds") or ()),
        *(interfaces[0].get("Groups") or () if interfaces else ()),
    )
    defaults = Instances()
    return LiveTemplate(
        instances=Instances(
            security_groups=tuple(dict.fromkeys(groups)),
            user_data=text or "",
            hop_limit=metadata.get("HttpPutResponseHopLimit") or defaults.hop_limit,
            http_tokens=metadata.get("HttpTokens") or defaults.http_tokens,
            metadata_tags=metadata.get("InstanceMetadataTags") == "enabled",
            monitoring=bool((data.get("Monitoring") or {}).get("Enabled")),
            ebs_optimized=data.get("EbsOptimized"),
            tags={
                kind["ResourceType"]: {tag["Key"]: tag["Value"] for tag in kind.get("Tags") or ()}
                for kind in data.get("TagSpecifications") or ()
            },
            volumes=volumes,
        ),
        hop_limit=metadata.get("HttpPutResponseHopLimit"),
        http_tokens=metadata.get("HttpTokens"),
        user_data=text,
        image=data.get("ImageId") or "",
        names_types=bool(data.get("InstanceType") or data.get("InstanceRequirements")),
        instance_type=data.get("InstanceType") or "",
        others=(
            *other_devices,
            *(name for name in _not_read(data, metadata, interfaces)),
        ),
    )


def _text(encoded: str) -> str | None:
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None


def _volumes(mappings: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Volume], list[str]]:
    """Return the EBS volumes by device, and what is no plain volume."""
    volumes: dict[str, Volume] = {}
    others: list[str] = []
    for mapping in mappings:
        device, ebs = mapping.get("DeviceName", ""), mapping.get("Ebs")
        if not ebs or ebs.get("SnapshotId"):
            others.append(f"BlockDeviceMappings ({device})")
            continue
        volumes[device] = Volume(
            gib=ebs.get("VolumeSize"),
            type=ebs.get("VolumeType") or Volume().type,
            iops=ebs.get("Iops"),
            throughput=ebs.get("Throughput"),
            kms_key=ebs.get("KmsKeyId") or "",
        )
    return volumes, others


def _not_read(
    data: Mapping[str, Any], metadata: Mapping[str, Any], interfaces: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    for name, value in sorted(data.items()):
        if name not in _READ and value not in (None, [], {}, "", False):
            yield name
    if metadata.get("HttpEndpoint", "enabled") != "enabled":
        yield "MetadataOptions.HttpEndpoint"
    if metadata.get("HttpProtocolIpv6", "disabled") != "disabled":
        yield "MetadataOptions.HttpProtocolIpv6"
    for name, value in sorted((interfaces[0] if interfaces else {}).items()):
        if name != "Groups" and value not in (None, [], {}, _PLAIN_INTERFACE.get(name)):
            yield f"NetworkInterfaces.{name}"
    if len(interfaces) > 1:
        yield "NetworkInterfaces after the first"
