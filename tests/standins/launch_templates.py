"""What EC2 does with launch templates: what it refuses, and how it describes a version over HTTP.

Properties are those of ``aws.ec2.LaunchTemplate``, as the plugin's stand-in keeps them. What a template may
have is botocore's own model of the API; moto writes EC2's XML.
"""

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any, Final
from urllib.parse import parse_qs

TEMPLATES: Final = "templates"
"""In an account, further templates that were there before, or their new versions; as ``MADE``."""

AL2023_USER_DATA: Final = """\
MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="//"

--//
Content-Type: application/node.eks.aws

apiVersion: node.eks.aws/v1alpha1
kind: NodeConfig
spec:
  kubelet:
    config:
      maxPods: 58
--//--
"""

_TAGS: Final = [{"Key": "Team", "Value": "shop"}, {"Key": "Name", "Value": "general"}]

MADE: Final[Mapping[str, Mapping[str, Mapping[str, Any]]]] = {
    # The templates of the groups in ``node_groups.live_group``.
    "lt-0123456789abcdef0": {
        "4": {
            "SecurityGroupIds": ["sg-0node", "sg-0database"],
            "UserData": base64.b64encode(AL2023_USER_DATA.encode()).decode(),
            "MetadataOptions": {
                "HttpEndpoint": "enabled",
                "HttpTokens": "required",
                "HttpPutResponseHopLimit": 2,
            },
            "Monitoring": {"Enabled": True},
            "TagSpecifications": [
                {"ResourceType": kind, "Tags": _TAGS} for kind in ("instance", "volume", "network-interface")
            ],
            "BlockDeviceMappings": [
                {
                    "DeviceName": "/dev/xvda",
                    "Ebs": {
                        "VolumeSize": 80,
                        "VolumeType": "gp3",
                        "Iops": 4000,
                        "Throughput": 250,
                        "Encrypted": True,
                        "KmsKeyId": "arn:aws:kms:eu-west-1:123456789012:key/k",
                        "DeleteOnTermination": True,
                    },
                }
            ],
            "KeyName": "ops",
        }
    },
    "lt-0fedcba9876543210": {
        "1": {
            "SecurityGroupIds": ["sg-0cluster"],
            "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
            "BlockDeviceMappings": [
                {"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 80, "VolumeType": "gp3", "Iops": 3000}}
            ],
        }
    },
    "lt-00000000000000abc": {
        "12": {
            "ImageId": "ami-0123456789abcdef0",
            "InstanceType": "t3.xlarge",
            "UserData": base64.b64encode(b"#!/bin/bash\n/etc/eks/bootstrap.sh prod\n").decode(),
            "SecurityGroupIds": ["sg-0golden"],
        }
    },
}
"""The templates of every account: ID to number of a version to ``LaunchTemplateData``."""

_NAMES: Final = {"vpcSecurityGroupIds": "SecurityGroupIds"}
_NOT_DATA: Final = frozenset({"defaultVersion", "description", "latestVersion", "name", "namePrefix", "tags"})
_MOST_HOPS: Final = 64

Properties = Mapping[str, Any]


class RefusedError(Exception):
    """EC2 refuses; in its words."""


def check(inputs: Properties) -> None:
    """Refuse a template that EC2's API does not know, or that EKS does not take.

    Raises:
        RefusedError: The inputs are invalid.
    """
    data = to_data(inputs)
    shape = _model("CreateLaunchTemplate").input_shape.members["LaunchTemplateData"]
    from botocore.validate import ParamValidator  # type: ignore[import-untyped]

    report = ParamValidator().validate(data, shape)
    if report.has_errors():
        raise RefusedError(report.generate_report())
    # https://docs.aws.amazon.com/eks/latest/userguide/launch-templates.html
    for name in ("IamInstanceProfile", "HibernationOptions", "InstanceMarketOptions"):
        if name in data:
            raise RefusedError(f"You cannot specify {name} in the launch template of a node group.")
    limit = (data.get("MetadataOptions") or {}).get("HttpPutResponseHopLimit", 1)
    if not 1 <= limit <= _MOST_HOPS:
        raise RefusedError(f"HttpPutResponseHopLimit {limit} is not between 1 and {_MOST_HOPS}")
    devices = [mapping["DeviceName"] for mapping in data.get("BlockDeviceMappings") or ()]
    if len(devices) != len(set(devices)):
        raise RefusedError(f"a device is there twice: {devices}")


def to_data(inputs: Properties) -> dict[str, Any]:
    """Return ``LaunchTemplateData`` as the provider sends it."""
    return {
        _NAMES.get(name, _upper(name)): _value(name, value)
        for name, value in inputs.items()
        if name not in _NOT_DATA and not name.startswith("__") and value not in (None, "", [], {})
    }


def _upper(name: str) -> str:
    return name[0].upper() + name[1:]


def _value(name: str, value: Any) -> Any:
    if name == "tags":
        return [{"Key": key, "Value": word} for key, word in value.items()]
    if isinstance(value, Mapping):
        return {_upper(key): _value(key, part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [_value("", part) for part in value]
    if isinstance(value, float):
        return int(value)
    # The provider's schema has texts for switches with three positions.
    return value == "true" if value in ("true", "false") else value


def describe(content: Mapping[str, Any], kind: str, body: str) -> tuple[int, str]:
    """Return the status and the XML with which EC2 answers ``DescribeLaunchTemplateVersions``.

    Args:
        content: The account.
        kind: The type of a launch template in the account.
        body: The request.
    """
    asked = {name: values[0] for name, values in parse_qs(body).items()}
    if asked["Action"] != "DescribeLaunchTemplateVersions":
        return _error("InvalidAction", f"{asked['Action']} is not known here")
    template, version = asked["LaunchTemplateId"], asked["LaunchTemplateVersion.1"]
    data = {**MADE, **content.get(TEMPLATES, {})}.get(template, {}).get(version)
    made = content["objects"].get(kind, {}).get(template)
    if data is None and made and str(int(made["latestVersion"])) == version:
        data = to_data(made)
    if data is None:
        return _error(
            "InvalidLaunchTemplateId.VersionNotFound", f"Could not find launch template version {version}"
        )
    found = {"LaunchTemplateId": template, "VersionNumber": int(version), "LaunchTemplateData": data}
    # Imported here: moto takes a second.
    from moto.core.serialize import EC2Serializer
    from moto.core.utils import get_service_model

    model = get_service_model("ec2").operation_model("DescribeLaunchTemplateVersions")
    return 200, str(EC2Serializer(model).serialize({"LaunchTemplateVersions": [found]})["body"])


def _error(code: str, message: str) -> tuple[int, str]:
    return 400, (
        f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        "<RequestID>none</RequestID></Response>"
    )


@cache
def _model(operation: str) -> Any:
    # Imported here: most runs of the engine only read.
    import botocore.session  # type: ignore[import-untyped]

    return botocore.session.get_session().get_service_model("ec2").operation_model(operation)
