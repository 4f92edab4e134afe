"""What EKS and its provider do with a managed node group: what they refuse, fill in and send.

Properties are those of ``aws.eks.NodeGroup``, as the plugin's stand-in keeps them. Lengths, ranges, patterns
and enumerations are those of botocore's own model of the API. The order of the sizes and what a launch
template excludes are EKS's, in its words.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final

import botocore.session  # type: ignore[import-untyped]
from botocore.model import Shape  # type: ignore[import-untyped]
from botocore.validate import ParamValidator  # type: ignore[import-untyped]

Properties = Mapping[str, Any]

_TO_API: Final = {
    "nodeGroupName": "nodegroupName",
    "nodeRoleArn": "nodeRole",
    "subnetIds": "subnets",
    **{
        name: name
        for name in (
            *(
                "amiType",
                "capacityType",
                "clusterName",
                "diskSize",
                "instanceTypes",
                "labels",
                "launchTemplate",
            ),
            *("nodeRepairConfig", "releaseVersion", "remoteAccess", "scalingConfig", "tags", "taints"),
            *("updateConfig", "version", "warmPoolConfig"),
        )
    },
}
"""The provider's names to those of the API."""

_WITHOUT_ORDER: Final = ("subnetIds", "taints")
_WHOLE_BLOCKS: Final = ("nodeRepairConfig", "scalingConfig", "updateConfig", "warmPoolConfig")


class RefusedError(Exception):
    """EKS refuses; in its words."""


def compact(properties: Properties) -> dict[str, Any]:
    """Return properties without what says nothing, in the order of sets; so do EKS and the provider."""
    kept: dict[str, Any] = {}
    for name, value in properties.items():
        if value in (None, "", [], {}):
            continue
        if name == "taints":
            value = [{key: part for key, part in taint.items() if part} for taint in value]
        kept[name] = sorted(value, key=str) if name in _WITHOUT_ORDER else value
    return kept


def describe(properties: Properties) -> dict[str, Any]:
    """Return a group as ``DescribeNodegroup`` does; what it does not have is not there."""
    answer = {_TO_API[name]: value for name, value in compact(properties).items() if name in _TO_API}
    scaling = [
        {"name": group["name"]}
        for resource in properties.get("resources") or ()
        for group in resource["autoscalingGroups"]
    ]
    for block in ("scalingConfig", "updateConfig"):
        if block in answer:
            answer[block] = {
                name: int(value) if isinstance(value, float) else value
                for name, value in answer[block].items()
                if value is not None
            }
    if access := answer.get("remoteAccess"):
        groups = {"sourceSecurityGroups": access.get("sourceSecurityGroupIds")}
        answer["remoteAccess"] = compact({"ec2SshKey": access.get("ec2SshKey"), **groups})
    if "warmPoolConfig" in answer:
        answer["warmPoolConfig"] = {"enabled": True, **answer["warmPoolConfig"]}
    if "diskSize" in answer:
        answer["diskSize"] = int(answer["diskSize"])
    return {**answer, "status": properties["status"], "resources": {"autoScalingGroups": scaling}}


def created(inputs: Properties, name: str) -> dict[str, Any]:
    """Return a new group with what EKS fills in.

    Raises:
        RefusedError: EKS refuses the inputs.
    """
    given = compact({**inputs, "nodeGroupName": name})
    _check("CreateNodegroup", describe({**given, "status": ""}))
    _check_sizes(given["scalingConfig"])
    template = given.get("launchTemplate") or {}
    if template and "diskSize" in given:
        raise RefusedError("Disk size must be specified within the launch template.")
    if template and "remoteAccess" in given:
        raise RefusedError("Remote access configuration cannot be specified with a launch template.")
    _check_tags(given)
    filled_in: dict[str, Any] = {"capacityType": "ON_DEMAND", "updateConfig": {"maxUnavailable": 1}}
    if not template:
        filled_in |= {"diskSize": 20, "amiType": "AL2023_x86_64_STANDARD", "instanceTypes": ["t3.medium"]}
    scaling = [{"autoscalingGroups": [{"name": f"eks-{name}"}], "remoteAccessSecurityGroupId": ""}]
    return {**filled_in, **given, "status": "ACTIVE", "resources": scaling}


def updated(live: Properties, old: Properties, new: Properties) -> dict[str, Any]:
    """Return a group after the provider's update: what differs between the two states, block by block.

    A block is sent whole, with what the inputs have. Labels, taints and tags are sent one by one: what others
    have added to the group stays.

    Raises:
        RefusedError: EKS refuses the change.
    """
    old, new, after = compact(old), compact(new), dict(live)
    request: dict[str, Any] = {"clusterName": live["clusterName"], "nodegroupName": live["nodeGroupName"]}
    for block in _WHOLE_BLOCKS:
        if block in new and new[block] != old.get(block):
            request[block] = {
                name: int(value) if isinstance(value, float) else value
                for name, value in new[block].items()
                if value is not None
            }
            after[block] = request[block]
    if "warmPoolConfig" in old and "warmPoolConfig" not in new:
        # The provider removes a warm pool whose block is gone.
        request["warmPoolConfig"] = {"enabled": False}
        del after["warmPoolConfig"]
    for name in ("labels", "tags"):
        before, wanted = old.get(name, {}), new.get(name, {})
        put = {key: value for key, value in wanted.items() if before.get(key) != value}
        gone = sorted(before.keys() - wanted.keys())
        kept = {key: value for key, value in (live.get(name) or {}).items() if key not in gone}
        after[name] = {**kept, **put}
        if name == "labels" and (put or gone):
            request["labels"] = {"addOrUpdateLabels": put, "removeLabels": gone}
    before, wanted = _by_key(old), _by_key(new)
    put_taints = {key: taint for key, taint in wanted.items() if before.get(key) != taint}
    gone_taints = {key: taint for key, taint in before.items() if key not in wanted}
    if put_taints or gone_taints:
        request["taints"] = {
            "addOrUpdateTaints": [*put_taints.values()],
            "removeTaints": [*gone_taints.values()],
        }
        kept_taints = {key: taint for key, taint in _by_key(live).items() if key not in gone_taints}
        after["taints"] = [*{**kept_taints, **put_taints}.values()]
    _check("UpdateNodegroupConfig", request)
    _check_tags(new)
    if "scalingConfig" in request:
        sizes = request["scalingConfig"]
        if sizes["minSize"] > sizes["desiredSize"]:
            # On an update EKS says it in other words than on a create.
            least, desired = sizes["minSize"], sizes["desiredSize"]
            raise RefusedError(f"Minimum capacity {least} can't be greater than desired size {desired}")
        _check_sizes(sizes)
    for name in ("launchTemplate", "version", "releaseVersion"):
        if name in new and new[name] != old.get(name):
            after[name] = {**(after.get(name) or {}), **new[name]} if name == "launchTemplate" else new[name]
    return compact(after)


def _check_tags(properties: Properties) -> None:
    if any(key.startswith("aws:") for key in properties.get("tags") or ()):
        raise RefusedError("aws: prefixed tag key names are not allowed for external use.")


def _by_key(properties: Properties) -> dict[tuple[str, str], dict[str, Any]]:
    taints = compact({"taints": properties.get("taints") or []}).get("taints", [])
    return {(taint["key"], taint["effect"]): taint for taint in taints}


def _check_sizes(sizes: Mapping[str, Any]) -> None:
    if sizes["minSize"] > sizes["desiredSize"]:
        raise RefusedError("minSize can't be greater than desiredSize")
    if sizes["desiredSize"] > sizes["maxSize"]:
        raise RefusedError("desiredSize can't be greater than maxSize")


@cache
def _model(operation: str) -> Shape:
    return botocore.session.get_session().get_service_model("eks").operation_model(operation).input_shape


def _check(operation: str, request: Mapping[str, Any]) -> None:
    shape = _model(operation)
    known = {name: value for name, value in request.items() if name in shape.members}
    if operation == "CreateNodegroup":
        known.setdefault("clientRequestToken", "token")
    report = ParamValidator().validate(known, shape)
    wrong = [report.generate_report()] if report.has_errors() else [*_wrong(known, shape, operation)]
    if wrong:
        raise RefusedError("; ".join(wrong))


def _wrong(value: Any, shape: Shape, path: str) -> Iterator[str]:
    """Yield what botocore's validator does not look at: most lengths, patterns and enumerations."""
    if shape.type_name == "structure":
        for name, part in value.items():
            yield from _wrong(part, shape.members[name], f"{path}.{name}")
        return
    limits = shape.metadata
    size = value if shape.type_name in ("integer", "long") else len(value) if hasattr(value, "__len__") else 0
    if not limits.get("min", size) <= size <= limits.get("max", size):
        yield f"{path}: {value!r} is not between {limits.get('min')} and {limits.get('max')}"
    if shape.type_name == "list":
        for part in value:
            yield from _wrong(part, shape.member, path)
    elif shape.type_name == "map":
        for key, part in value.items():
            yield from _wrong(key, shape.key, f"{path}.{key}")
            yield from _wrong(part, shape.value, f"{path}.{key}")
    elif shape.type_name == "string":
        if shape.enum and value not in shape.enum:
            yield f"{path}: {value!r} is not one of {shape.enum}"
        if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
            yield f"{path}: {value!r} does not match {limits['pattern']}"


def live_group(maker: str, cluster: str, name: str, *types: str, **more: Any) -> dict[str, Any]:
    """Return a group as it was made before archshift; it differs from every default of ours.

    Args:
        maker: ``terraform``, ``eksctl``, ``old-eksctl``, ``console`` or ``image`` (an AMI of one's own).
        cluster: Its cluster.
        name: Its name at EKS.
        types: Its instance types; for ``image`` the launch template names them.
        more: Other properties, such as ``scalingConfig``.
    """
    scaling = [{"autoscalingGroups": [{"name": f"eks-{name}"}], "remoteAccessSecurityGroupId": ""}]
    account = "arn:aws:iam::123456789012:role"
    group = {
        "clusterName": cluster,
        "nodeGroupName": name,
        "nodeRoleArn": f"{account}/{maker}-nodes",
        "subnetIds": ["subnet-0z"],
        "instanceTypes": list(types),
        "amiType": "AL2023_x86_64_STANDARD",
        "capacityType": "ON_DEMAND",
        "scalingConfig": {"minSize": 3, "desiredSize": 8, "maxSize": 20},
        "updateConfig": {"maxUnavailable": 1},
        "version": "1.33",
        "status": "ACTIVE",
        "resources": scaling,
    }
    made: dict[str, dict[str, Any]] = {
        # https://github.com/terraform-aws-modules/terraform-aws-eks/tree/master/modules/eks-managed-node-group
        "terraform": {
            "capacityType": "SPOT",
            "nodeGroupNamePrefix": f"{name.rstrip('0123456789')}",
            "launchTemplate": {"id": "lt-0123456789abcdef0", "name": f"{name}-2025", "version": "4"},
            "updateConfig": {"maxUnavailablePercentage": 33},
            "labels": {"team": "shop"},
            "taints": [{"key": "spot", "value": "true", "effect": "PREFER_NO_SCHEDULE"}],
            "tags": {"Terraform": "true", "Environment": cluster},
            "nodeRepairConfig": {"enabled": True},
        },
        "eksctl": {
            "launchTemplate": {
                "id": "lt-0fedcba9876543210",
                "name": f"eksctl-{cluster}-{name}",
                "version": "1",
            },
            "labels": {"alpha.eksctl.io/cluster-name": cluster, "alpha.eksctl.io/nodegroup-name": name},
            "tags": {
                "alpha.eksctl.io/nodegroup-name": name,
                "aws:cloudformation:stack-name": f"eksctl-{name}",
            },
        },
        "old-eksctl": {
            "amiType": "AL2_x86_64",
            "diskSize": 80,
            "remoteAccess": {"ec2SshKey": "ops", "sourceSecurityGroupIds": ["sg-0a"]},
            "labels": {"alpha.eksctl.io/nodegroup-name": name},
        },
        "console": {
            "diskSize": 80,
            "subnetIds": ["subnet-0y", "subnet-0z"],
            "updateConfig": {"maxUnavailable": 2, "updateStrategy": "MINIMAL"},
            "warmPoolConfig": {"minSize": 1, "poolState": "STOPPED"},
        },
        "image": {
            "amiType": "CUSTOM",
            "instanceTypes": None,
            "version": None,
            "releaseVersion": "ami-0123456789abcdef0",
            "launchTemplate": {"id": "lt-00000000000000abc", "name": "golden", "version": "12"},
        },
    }
    return compact({**group, **made[maker], **more})
