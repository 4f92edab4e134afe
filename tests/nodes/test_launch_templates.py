"""Launch templates that exist, as EC2 describes them; moto stands in for EC2."""

import base64
from typing import Any

import boto3  # type: ignore[import-untyped]
import pytest
from moto import mock_aws

from archshift.common.errors import ArchshiftError
from archshift.nodes.eks import EksCluster
from archshift.nodes.launch_templates import (
    Instances,
    LiveTemplate,
    TemplateVersion,
    Volume,
    from_data,
    read_template,
)

PROD = EksCluster(name="prod", region="eu-west-1")


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


TERRAFORM: dict[str, Any] = {
    "SecurityGroupIds": ["sg-0node", "sg-0db"],
    "UserData": encoded("MIME-Version: 1.0\n"),
    "MetadataOptions": {
        "HttpTokens": "optional",
        "HttpPutResponseHopLimit": 2,
        "InstanceMetadataTags": "enabled",
        "HttpEndpoint": "enabled",
    },
    "Monitoring": {"Enabled": True},
    "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "Team", "Value": "shop"}]}],
    "BlockDeviceMappings": [
        {
            "DeviceName": "/dev/xvda",
            "Ebs": {
                "VolumeSize": 80,
                "VolumeType": "gp3",
                "Iops": 4000,
                "Throughput": 250,
                "Encrypted": True,
                "KmsKeyId": "arn:aws:kms:eu-west-1:1:key/k",
            },
        }
    ],
}


def test_a_version_is_read_as_ec2_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The version that the group uses, not the newest one."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody")
    with mock_aws():
        ec2 = boto3.client("ec2", "eu-west-1")
        made = ec2.create_launch_template(LaunchTemplateName="general", LaunchTemplateData=TERRAFORM)
        template = made["LaunchTemplate"]["LaunchTemplateId"]
        ec2.create_launch_template_version(
            LaunchTemplateId=template, LaunchTemplateData={"SecurityGroupIds": ["sg-0new"]}
        )
        found = read_template(PROD, TemplateVersion(id=template, version="1"), "key")
        missing = TemplateVersion(id="lt-0123456789abcdef0", version="1")
        with pytest.raises(ArchshiftError) as error:
            read_template(PROD, missing, "archshift:node_groups.g.launch_template")
    assert found == LiveTemplate(
        instances=Instances(
            security_groups=("sg-0node", "sg-0db"),
            user_data="MIME-Version: 1.0\n",
            hop_limit=2,
            http_tokens="optional",
            metadata_tags=True,
            monitoring=True,
            tags={"instance": {"Team": "shop"}},
            volumes={
                "/dev/xvda": Volume(
                    gib=80, iops=4000, throughput=250, kms_key="arn:aws:kms:eu-west-1:1:key/k"
                )
            },
        ),
        hop_limit=2,
        http_tokens="optional",
        user_data="MIME-Version: 1.0\n",
    )
    assert str(error.value).startswith(
        "archshift:node_groups.g.launch_template: version 1 of the launch template lt-0123456789abcdef0 "
        "cannot be read: "
    )
    assert str(error.value).endswith(
        "check that it exists, and the permission ec2:DescribeLaunchTemplateVersions (docs/iam.md)"
    )


@pytest.mark.parametrize(
    ("data", "others"),
    [
        ({"KeyName": "ops"}, ("KeyName",)),
        ({"Placement": {"GroupName": "close"}, "CpuOptions": {"CoreCount": 2}}, ("CpuOptions", "Placement")),
        ({"MetadataOptions": {"HttpEndpoint": "disabled"}}, ("MetadataOptions.HttpEndpoint",)),
        (
            {"NetworkInterfaces": [{"Groups": ["sg-0a"], "AssociatePublicIpAddress": True}]},
            ("NetworkInterfaces.AssociatePublicIpAddress",),
        ),
        (
            {"NetworkInterfaces": [{"DeviceIndex": 0, "DeleteOnTermination": True}, {"DeviceIndex": 1}]},
            ("NetworkInterfaces after the first",),
        ),
        (
            {"BlockDeviceMappings": [{"DeviceName": "/dev/xvdc", "Ebs": {"SnapshotId": "snap-0a"}}]},
            ("BlockDeviceMappings (/dev/xvdc)",),
        ),
        ({"SomethingOfTomorrow": {"Enabled": True}}, ("SomethingOfTomorrow",)),
        ({"DisableApiStop": False, "LicenseSpecifications": []}, ()),
    ],
)
def test_what_is_not_read_is_named(data: dict[str, Any], others: tuple[str, ...]) -> None:
    """Also what EC2 adds one day, so that nothing is left out in silence."""
    assert from_data(data).others == others


def test_security_groups_of_the_network_interface_count() -> None:
    """A template has them in one of two places."""
    data = {"NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-0a", "sg-0b"]}]}
    assert from_data(data).instances.security_groups == ("sg-0a", "sg-0b")


def test_an_image_and_types_are_no_part_of_what_can_be_copied() -> None:
    """They are for one architecture."""
    found = from_data({"ImageId": "ami-0a", "InstanceType": "m5.large"})
    assert (found.image, found.names_types, found.others) == ("ami-0a", True, ())
    assert found.instances == Instances()


def test_user_data_that_is_packed_is_unknown() -> None:
    """It may name programs for x86."""
    packed = base64.b64encode(b"\x1f\x8b\x08\x00\xff").decode()
    assert from_data({"UserData": packed}).user_data is None
    assert from_data({}).user_data == ""
