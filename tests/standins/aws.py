"""A stand-in for the AWS provider's plugin: the real engine talks to it, and no AWS is behind it.

It keeps an account in a JSON file and notes what was done to it. Inputs are checked against the
SDK's own types; what replaces a node group is what the provider declares
(https://www.pulumi.com/registry/packages/aws/api-docs/eks/nodegroup/), and what EKS refuses is in
``node_groups``. Which types a zone offers comes from moto's copy of EC2's own list; subnets are in the zones
of their region in turn. It starts no instances and checks no rights: an account whose ``refusal`` is set
answers every look-up with those words.

    ARCHSHIFT_STANDIN_AWS=account.json pulumi-resource-aws ENGINE_ADDRESS
"""

import itertools
import json
import os
import sys
import threading
from collections.abc import Mapping
from concurrent import futures
from pathlib import Path
from typing import Any, Final

import grpc  # type: ignore[import-untyped]
import pulumi_aws
from google.protobuf import empty_pb2, json_format, struct_pb2  # type: ignore[import-untyped]
from pulumi._types import input_type_py_to_pulumi_names
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.standins import launch_templates, node_groups
from tests.standins.declared import mismatches

ACCOUNT: Final = "ARCHSHIFT_STANDIN_AWS"

NODE_GROUP: Final = "aws:eks/nodeGroup:NodeGroup"
TEMPLATE: Final = "aws:ec2/launchTemplate:LaunchTemplate"
TAG: Final = "aws:autoscaling/tag:Tag"
ROLE: Final = "aws:iam/role:Role"
RIGHT: Final = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
KEY: Final = "aws:kms/key:Key"
CLUSTER: Final = "aws:eks/cluster:Cluster"
ADDON: Final = "aws:eks/addon:Addon"
ENTRY: Final = "aws:eks/accessEntry:AccessEntry"

CALLER: Final = "arn:aws:sts::123456789012:assumed-role/deployer/ci"
"""Who asks. EKS makes the access entry of whoever creates a cluster."""

INPUTS: Final[Mapping[str, Any]] = {
    NODE_GROUP: pulumi_aws.eks.NodeGroupArgs,
    TEMPLATE: pulumi_aws.ec2.LaunchTemplateArgs,
    TAG: pulumi_aws.autoscaling.TagArgs,
    ROLE: pulumi_aws.iam.RoleArgs,
    RIGHT: pulumi_aws.iam.RolePolicyAttachmentArgs,
    KEY: pulumi_aws.kms.KeyArgs,
    CLUSTER: pulumi_aws.eks.ClusterArgs,
    ADDON: pulumi_aws.eks.AddonArgs,
    ENTRY: pulumi_aws.eks.AccessEntryArgs,
}
"""The resources that the program and pulumi-eks make: type to the type of its inputs in the SDK."""

_REPLACING: Final[Mapping[str, frozenset[str]]] = {
    NODE_GROUP: frozenset(
        {
            *("amiType", "capacityType", "clusterName", "diskSize", "instanceTypes", "nodeGroupName"),
            *("nodeGroupNamePrefix", "nodeRoleArn", "remoteAccess", "subnetIds"),
        }
    ),
    TEMPLATE: frozenset({"name", "namePrefix"}),
    TAG: frozenset({"autoscalingGroupName"}),
    ROLE: frozenset({"name", "namePrefix"}),
    RIGHT: frozenset({"policyArn", "role"}),
    KEY: frozenset({"customerMasterKeySpec"}),
    CLUSTER: frozenset({"encryptionConfig", "name"}),
    ADDON: frozenset({"addonName", "clusterName"}),
    ENTRY: frozenset({"clusterName", "principalArn"}),
}

# What AWS fills in; a program that says nothing of it changes nothing.
_FILLED_IN: Final = frozenset(
    {
        *("amiType", "capacityType", "diskSize", "instanceTypes", "launchTemplate", "nodeGroupName"),
        *("nodeGroupNamePrefix", "nodeRepairConfig", "releaseVersion", "updateConfig", "version"),
    }
)

Properties = dict[str, Any]


class Account:
    """What there is: type to id to properties; and what was done: (operation, type, id).

    ``refused`` is type to the words with which AWS refuses to make an object of it.
    ``reach`` is how the cluster that it makes is reached: endpoint and certificateAuthority.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def read(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self._path.read_text())
        return content

    def find(self, kind: str, identity: str) -> Properties | None:
        """One object's properties."""
        found: Properties | None = self.read()["objects"].get(kind, {}).get(identity)
        return found

    def change(self, operation: str, kind: str, identity: str, properties: Properties | None) -> None:
        """Set or delete one object."""
        with self._lock:
            content = self.read()
            objects = content["objects"].setdefault(kind, {})
            if properties is None:
                del objects[identity]
            else:
                objects[identity] = properties
            content["done"].append([operation, kind, identity])
            # Readers do not wait for the lock: they find the old file or the new one, whole.
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(content, indent=1))
            fresh.replace(self._path)


class Aws(provider_pb2_grpc.ResourceProviderServicer):
    def __init__(self, account: Account) -> None:
        """Work on an account."""
        self._account = account
        self._made = itertools.count()
        self._region = ""

    def Handshake(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Agree on how to talk."""
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True, accept_resources=True)

    def Attach(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Nothing to do."""
        return empty_pb2.Empty()

    def Cancel(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Nothing to do."""
        return empty_pb2.Empty()

    def GetPluginInfo(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """The version that the SDK asks for."""
        return plugin_pb2.PluginInfo(version=_version())

    def CheckConfig(self, request: Any, _context: Any) -> Any:  # noqa: N802
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, _request: Any, _context: Any) -> Any:  # noqa: N802
        """Nothing differs."""
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Take any configuration; the region decides what is offered."""
        self._region = _plain(request.args).get("region", "eu-west-1")
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True, acceptResources=True)

    def Check(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Refuse inputs that the SDK's types do not have, or have with another type."""
        failures = [
            provider_pb2.CheckFailure(property=wrong.split()[0].split(".")[0], reason=wrong)
            for wrong in mismatches(INPUTS[_kind(request.urn)], _plain(request.news))
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def Diff(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Compare inputs; say what can only be had by a replacement."""
        kind = _kind(request.urn)
        old, new = (node_groups.compact(_plain(inputs)) for inputs in (request.old_inputs, request.news))
        changed = {
            name
            for name in old.keys() | new.keys()
            if name not in request.ignoreChanges
            and old.get(name) != new.get(name)
            and not (name in _FILLED_IN and name not in new)
        }
        if kind == NODE_GROUP and "launchTemplate" in changed:
            ids = {(properties.get("launchTemplate") or {}).get("id") for properties in (old, new)}
            replaced = {"launchTemplate"} if len(ids) > 1 else set()
        else:
            replaced = set()
        replaced |= changed & _REPLACING[kind]
        kinds = provider_pb2.PropertyDiff
        return provider_pb2.DiffResponse(
            changes=provider_pb2.DiffResponse.DIFF_SOME if changed else provider_pb2.DiffResponse.DIFF_NONE,
            replaces=sorted(replaced),
            diffs=sorted(changed),
            hasDetailedDiff=True,
            detailedDiff={
                name: kinds(kind=kinds.UPDATE_REPLACE if name in replaced else kinds.UPDATE)
                for name in changed
            },
        )

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        kind, inputs = _kind(request.urn), _plain(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=request.properties)
        if kind == ENTRY and inputs["principalArn"].endswith("/deployer"):
            context.abort(grpc.StatusCode.UNKNOWN, "ResourceInUseException: access entry is already in use")
        content = self._account.read()
        if words := content.get("refused", {}).get(kind):
            context.abort(grpc.StatusCode.UNKNOWN, words)
        try:
            # Several are made at once, and each needs a number of its own.
            count = 100 * len(content["done"]) + next(self._made)
            identity, outputs = _outputs(kind, inputs, count, content.get("reach", {}))
        except node_groups.RefusedError as refusal:
            _refuse(context, "creating", "CreateNodegroup", refusal)
        except launch_templates.RefusedError as refusal:
            context.abort(
                grpc.StatusCode.UNKNOWN, f"1 error occurred:\n\t* creating EC2 Launch Template: {refusal}"
            )
        self._account.change("create", kind, identity, outputs)
        return provider_pb2.CreateResponse(id=identity, properties=_struct(outputs))

    def Read(self, request: Any, _context: Any) -> Any:  # noqa: N802
        """Read an object, as an import and a refresh do."""
        kind = _kind(request.urn)
        found = self._account.find(kind, request.id)
        if found is None:
            return provider_pb2.ReadResponse(id="")
        found = _shown(found)
        names = set(input_type_py_to_pulumi_names(INPUTS[kind]).values())
        inputs = {name: value for name, value in found.items() if name in names}
        return provider_pb2.ReadResponse(id=request.id, properties=_struct(found), inputs=_struct(inputs))

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Change an object in place."""
        kind, inputs, olds = _kind(request.urn), _plain(request.news), _plain(request.olds)
        # The engine gives the input of an earlier run; the provider compares the state with itself there.
        inputs |= {name: olds[name] for name in request.ignoreChanges if name in olds}
        outputs = {**olds, **inputs}
        if kind == TEMPLATE:
            launch_templates.check(inputs)
            outputs["latestVersion"] = int(outputs["latestVersion"]) + 1
        if not request.preview:
            if kind == NODE_GROUP:
                try:
                    live = self._account.find(kind, request.id) or {}
                    outputs = node_groups.updated(live, olds, inputs)
                except node_groups.RefusedError as refusal:
                    _refuse(context, f"updating ({request.id})", "UpdateNodegroupConfig", refusal)
            self._account.change("update", kind, request.id, outputs)
        return provider_pb2.UpdateResponse(properties=_struct(_shown(outputs)))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        if _kind(request.urn) == CLUSTER and _plain(request.properties).get("deletionProtection"):
            context.abort(grpc.StatusCode.UNKNOWN, "InvalidRequestException: deletion protection is enabled")
        self._account.change("delete", _kind(request.urn), request.id, None)
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Answer the look-ups, and refuse in the provider's words what is not there."""
        arguments = _plain(request.args)
        if refusal := self._account.read().get("refusal"):
            context.abort(
                grpc.StatusCode.UNKNOWN, f"invoking {request.tok}: 1 error occurred:\n\t* {refusal}"
            )
        if request.tok in _LOOK_UPS:
            looked_up: Any = provider_pb2.InvokeResponse()
            answered = _LOOK_UPS[request.tok](self._region, arguments, self._account)
            getattr(looked_up, "return").CopyFrom(_struct(answered))
            return looked_up
        kind, identity, words = CLUSTER, arguments.get("name", ""), "EKS Cluster"
        if request.tok == "aws:eks/getAddon:getAddon":
            kind, words = ADDON, "EKS Add-On"
            identity = f"{arguments['clusterName']}:{arguments['addonName']}"
        found = self._account.find(kind, identity)
        if found is None:
            context.abort(
                grpc.StatusCode.UNKNOWN,
                f"invoking {request.tok}: 1 error occurred:\n\t* reading {words} ({identity}): "
                "couldn't find resource\n\n",
            )
        answer: Any = provider_pb2.InvokeResponse()
        described = dict(found or {})
        if "certificateAuthority" in described:  # a list in what the look-up returns, and one in the resource
            described["certificateAuthorities"] = [described.pop("certificateAuthority")]
        getattr(answer, "return").CopyFrom(_struct(described))
        return answer


def _offered(region: str, arguments: Properties, _account: Account) -> Properties:
    """Return which of the types which zones have, as two lists of the same length."""
    # Imported here: moto takes a second, and most runs ask for nothing of it.
    import boto3  # type: ignore[import-untyped]
    from moto import mock_aws

    with mock_aws():
        # The environment may name another endpoint, that of the stand-in for what boto3 asks.
        endpoint = f"https://ec2.{region}.amazonaws.com"
        ec2 = boto3.client(
            "ec2", region, endpoint_url=endpoint, aws_access_key_id="none", aws_secret_access_key="none"
        )
        pages = ec2.get_paginator("describe_instance_type_offerings").paginate(
            LocationType=arguments["locationType"],
            Filters=[{"Name": one["name"], "Values": one["values"]} for one in arguments["filters"]],
        )
        found = [offer for page in pages for offer in page["InstanceTypeOfferings"]]
    return {
        "instanceTypes": [offer["InstanceType"] for offer in found],
        "locations": [offer["Location"] for offer in found],
    }


def _subnet(region: str, arguments: Properties, _account: Account) -> Properties:
    """Return a subnet; its ID decides its zone."""
    zone = f"{region}{'abc'[sum(map(ord, arguments['id'])) % 3]}"
    return {"id": arguments["id"], "availabilityZone": zone, "outpostArn": ""}


def _caller(_region: str, _arguments: Properties, _account: Account) -> Properties:
    return {"arn": CALLER, "accountId": "123456789012"}


def _newest_addon(_region: str, arguments: Properties, account: Account) -> Properties:
    """Return the newest version of an add-on: the account says it, so that a test can publish one."""
    return {"addonName": arguments["addonName"], "version": account.read().get("newestAddon", "v1")}


_LOOK_UPS: Final = {
    "aws:ec2/getInstanceTypeOfferings:getInstanceTypeOfferings": _offered,
    "aws:ec2/getSubnet:getSubnet": _subnet,
    "aws:index/getCallerIdentity:getCallerIdentity": _caller,
    "aws:eks/getAddonVersion:getAddonVersion": _newest_addon,
}


def _shown(properties: Properties) -> Properties:
    """Return properties without the tags that only AWS may set: the provider hides them."""
    if "tags" not in properties:
        return properties
    shown = {key: tag for key, tag in properties["tags"].items() if not key.startswith("aws:")}
    return {**properties, "tags": shown}


def _outputs(kind: str, inputs: Properties, count: int, reach: Mapping[str, Any]) -> tuple[str, Properties]:
    """Return a new object's id and properties; ``count`` makes its name one of its own."""
    if kind == CLUSTER:
        name = inputs["name"]
        arn = f"arn:aws:eks:eu-west-1:123456789012:cluster/{name}"
        return name, {**inputs, "arn": arn, **reach, "status": "ACTIVE"}
    if kind == ROLE:
        name = inputs.get("name") or f"role-{count}"
        return name, {**inputs, "name": name, "arn": f"arn:aws:iam::123456789012:role/{name}"}
    if kind == KEY:
        return f"key-{count}", {**inputs, "arn": f"arn:aws:kms:eu-west-1:123456789012:key/key-{count}"}
    if kind == RIGHT:
        return f"{inputs['role']}-{count}", inputs
    if kind == NODE_GROUP:
        name = inputs.get("nodeGroupName") or f"{inputs['nodeGroupNamePrefix']}{count:026}"
        return f"{inputs['clusterName']}:{name}", node_groups.created(inputs, name)
    if kind == ADDON:
        return f"{inputs['clusterName']}:{inputs['addonName']}", inputs
    if kind == ENTRY:
        return f"{inputs['clusterName']}:{inputs['principalArn']}", inputs
    if kind == TEMPLATE:
        launch_templates.check(inputs)
        return f"lt-{count:017}", {**inputs, "latestVersion": 1}
    return f"{inputs['autoscalingGroupName']},{inputs['tag']['key']}", inputs


def _refuse(context: Any, what: str, operation: str, refusal: node_groups.RefusedError) -> None:
    """End a call as the provider does when EKS refuses."""
    context.abort(
        grpc.StatusCode.UNKNOWN,
        f"1 error occurred:\n\t* {what} EKS Node Group: operation error EKS: {operation}, https response "
        f"error StatusCode: 400, InvalidParameterException: {refusal}\n\n",
    )


def _kind(urn: str) -> str:
    return urn.split("::")[2].rpartition("$")[2]


_SECRET: Final = "4dabf18193072939515e22adb298388d"
"""The engine's mark of a secret, which is a map with the value."""


def _plain(properties: Any) -> Properties:
    values: Properties = json_format.MessageToDict(properties)
    return {
        name: value["value"] if isinstance(value, dict) and _SECRET in value else value
        for name, value in values.items()
    }


def _struct(values: Properties) -> Any:
    return json_format.ParseDict(values, struct_pb2.Struct())


def _version() -> str:
    from importlib.metadata import version

    return version("pulumi-aws")


def main() -> int:
    """Serve until the engine ends this process."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    account = Account(Path(os.environ[ACCOUNT]))
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Aws(account), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()
    return 0


if __name__ == "__main__":
    sys.exit(main())
