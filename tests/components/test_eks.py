"""What is registered with AWS for a cluster and its node groups; mocks stand in for AWS."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pulumi_eks
import pytest

from archshift.common.aws import AssumedRole, AwsIdentity
from archshift.common.errors import ArchshiftError
from archshift.nodes.ami_types import AMI_FAMILIES
from archshift.nodes.eks import Addon, EksCluster, LiveCluster, NewCluster
from archshift.nodes.groups import RETIRED, Taint, side_taint
from archshift.nodes.launch_templates import Instances, TemplateVersion, Volume
from components.cluster import MixedCluster, MixedClusterArgs, find_cluster
from tests.build import live_group
from tests.components.eks import (
    ARN,
    ATTACHMENT,
    CLUSTER,
    GET_ADDON,
    GET_CLUSTER,
    NEW,
    NODE_GROUP,
    ROLE,
    TAG,
    TEMPLATE,
    Aws,
    Refused,
    group,
    made,
    registered,
)
from tests.components.recorder import READ_RESOURCE_OUTPUTS, Answer, Monitor, Registration, record
from tests.standins.aws import INPUTS
from tests.standins.declared import mismatches, plain_inputs

PROD = LiveCluster(ARN, "https://prod.eks", "Q0E=")


def by_name(done: Monitor, type_name: str) -> dict[str, Registration]:
    """The registrations of a type by their names."""
    return {one.name: one for one in done.of(type_name)}


def test_five_x86_nodes_and_three_graviton_ones() -> None:
    """The example: t3.xlarge x 5 and t4g.xlarge x 3 with ``architecture`` labels, input by input."""
    done = registered(group("x86", "t3.xlarge", size=5), group("graviton", "t4g.xlarge", size=3))
    groups = by_name(done, NODE_GROUP)
    assert groups["x86"].inputs == {
        "clusterName": "prod",
        "nodeGroupNamePrefix": "x86-",
        "nodeRoleArn": "arn:aws:iam::1:role/nodes",
        "subnetIds": ["subnet-a", "subnet-b"],
        "instanceTypes": ["t3.xlarge"],
        "amiType": "AL2023_x86_64_STANDARD",
        "capacityType": "ON_DEMAND",
        "launchTemplate": {"id": "x86-id", "version": "3"},
        "scalingConfig": {"minSize": 5, "maxSize": 5, "desiredSize": 5},
        "updateConfig": {"maxUnavailable": 1},
        "labels": {"architecture": "amd64", "archshift/node-group": "x86"},
        "taints": [{"key": "archshift/amd64", "effect": "PREFER_NO_SCHEDULE"}],
        "tags": {"archshift/node-group": "x86"},
    }
    assert groups["graviton"].inputs == {
        **groups["x86"].inputs,
        "nodeGroupNamePrefix": "graviton-",
        "instanceTypes": ["t4g.xlarge"],
        "amiType": "AL2023_ARM_64_STANDARD",
        "launchTemplate": {"id": "graviton-id", "version": "3"},
        "scalingConfig": {"minSize": 3, "maxSize": 3, "desiredSize": 3},
        "labels": {"architecture": "arm64", "archshift/node-group": "graviton"},
        "taints": [{"key": "archshift/arm64", "effect": "PREFER_NO_SCHEDULE"}],
        "tags": {"archshift/node-group": "graviton"},
    }
    assert sorted(one.type for one in done.registered) == sorted(
        ["archshift:index:EksNodeGroups", *[TEMPLATE, NODE_GROUP] * 2]
    )
    assert {one.parent for one in done.of(NODE_GROUP)} == {"eks-node-groups"}
    assert done.outputs["eks-node-groups"] == {
        "sizes": {"x86": 5, "graviton": 3},
        "types": {"x86": ["t3.xlarge"], "graviton": ["t4g.xlarge"]},
        "elsewhere": {},
    }


def test_nodes_are_hardened_by_their_launch_template() -> None:
    """IMDSv2 alone and one hop, so that no pod takes the node's role; encrypted volumes; tags."""
    (template,) = registered(group("x86", "m5.large", disk_gib=50)).of(TEMPLATE)
    tags = {"Name": "prod-x86", "archshift/node-group": "x86"}
    assert template.inputs == {
        "namePrefix": "prod-x86-",
        "description": "Nodes of the group x86 of the EKS cluster prod",
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpTokens": "required",
            "httpPutResponseHopLimit": 1,
        },
        "blockDeviceMappings": [
            {
                "deviceName": "/dev/xvda",
                "ebs": {
                    "volumeSize": 50,
                    "volumeType": "gp3",
                    "encrypted": "true",
                    "deleteOnTermination": "true",
                },
            }
        ],
        "tagSpecifications": [
            {"resourceType": "instance", "tags": tags},
            {"resourceType": "volume", "tags": tags},
        ],
        "tags": tags,
    }


def test_bottlerocket_has_two_encrypted_volumes() -> None:
    """Its root is read-only; what grows is on the second volume."""
    bottlerocket = AMI_FAMILIES["Bottlerocket"]["arm64"]
    key = "arn:aws:kms:eu-west-1:1:key/k"
    instances = Instances(kms_key=key)
    done = registered(group("g", "m7g.large", ami_type=bottlerocket, disk_gib=50, instances=instances))
    (made,), (template,) = done.of(NODE_GROUP), done.of(TEMPLATE)
    assert made.inputs["amiType"] == "BOTTLEROCKET_ARM_64"
    ebs = {"volumeType": "gp3", "encrypted": "true", "kmsKeyId": key, "deleteOnTermination": "true"}
    assert template.inputs["blockDeviceMappings"] == [
        {"deviceName": "/dev/xvda", "ebs": ebs},
        {"deviceName": "/dev/xvdb", "ebs": {**ebs, "volumeSize": 50}},
    ]


def test_everything_of_a_launch_template_reaches_ec2() -> None:
    """As settings or the live original have it. Instances and volumes get the stack's default tags too: the
    provider gives them only to the template itself.
    """
    instances = Instances(
        security_groups=("sg-0node", "sg-0db"),
        user_data="[settings.kubernetes]\n",
        hop_limit=2,
        http_tokens="optional",
        metadata_tags=True,
        monitoring=True,
        ebs_optimized=True,
        tags={"instance": {"Team": "web", "Tier": "a"}, "network-interface": {"Tier": "b"}},
        volumes={
            "/dev/xvda": Volume(gib=80, type="io2", iops=4000, kms_key="arn:key"),
            "/dev/xvdc": Volume(gib=10, throughput=250),
        },
    )
    done = registered(
        group(
            "g",
            "m7g.large",
            disk_gib=90,
            instances=instances,
            tags={"Team": "shop"},
            group_tags={"Team": "web", "Terraform": "true"},
            node_role="arn:aws:iam::1:role/own",
            node_repair=True,
        ),
        cluster=replace(CLUSTER, default_tags={"Owner": "platform", "Team": "nobody"}),
    )
    (made,), (template,) = done.of(NODE_GROUP), done.of(TEMPLATE)
    assert made.inputs["nodeRoleArn"] == "arn:aws:iam::1:role/own"
    assert made.inputs["nodeRepairConfig"] == {"enabled": True}
    assert made.inputs["tags"] == {"Team": "shop", "Terraform": "true", "archshift/node-group": "g"}
    ours = {"Name": "prod-g", "Team": "shop", "archshift/node-group": "g"}
    secret = template.inputs["userData"]
    # The engine's mark of a secret, which keeps it out of the state and of what people see.
    assert secret.keys() - {"value"} == {"4dabf18193072939515e22adb298388d"}
    assert {**template.inputs, "namePrefix": "", "description": "", "userData": secret["value"]} == {
        "namePrefix": "",
        "description": "",
        "metadataOptions": {
            "httpEndpoint": "enabled",
            "httpTokens": "optional",
            "httpPutResponseHopLimit": 2,
            "instanceMetadataTags": "enabled",
        },
        "vpcSecurityGroupIds": ["sg-0node", "sg-0db"],
        "userData": base64.b64encode(b"[settings.kubernetes]\n").decode(),
        "monitoring": {"enabled": True},
        "ebsOptimized": "true",
        "blockDeviceMappings": [
            {
                "deviceName": "/dev/xvda",
                "ebs": {
                    "volumeSize": 90,
                    "volumeType": "io2",
                    "iops": 4000,
                    "encrypted": "true",
                    "kmsKeyId": "arn:key",
                    "deleteOnTermination": "true",
                },
            },
            {
                "deviceName": "/dev/xvdc",
                "ebs": {
                    "volumeSize": 10,
                    "volumeType": "gp3",
                    "throughput": 250,
                    "encrypted": "true",
                    "deleteOnTermination": "true",
                },
            },
        ],
        "tagSpecifications": [
            {"resourceType": "instance", "tags": {"Owner": "platform", "Tier": "a", **ours}},
            {"resourceType": "network-interface", "tags": {"Owner": "platform", "Tier": "b", **ours}},
            {"resourceType": "volume", "tags": {"Owner": "platform", **ours}},
        ],
        "tags": ours,
    }


def test_a_launch_template_of_ones_own_is_used_as_it_is() -> None:
    """archshift makes none, and does not name the AMI type of an image that the template names."""
    own = TemplateVersion(id="lt-0own", version="7")
    done = registered(group("g", "m7g.large", launch_template=own, ami_type="CUSTOM"))
    (made,) = done.of(NODE_GROUP)
    assert made.inputs["launchTemplate"] == {"id": "lt-0own", "version": "7"}
    assert "amiType" not in made.inputs
    assert done.of(TEMPLATE) == []


def test_a_group_that_has_the_role_of_an_earlier_update_keeps_it() -> None:
    """And so does the stack, or the role would be deleted under the nodes."""
    role = "arn:aws:iam::1:role/nodes-0a1b2c3"
    done = registered(group("g", "m7g.large", node_role=role), cluster=EksCluster(name="prod"))
    (made,) = done.of(NODE_GROUP)
    assert made.inputs["nodeRoleArn"] == role
    assert [one.name for one in done.of(ROLE)] == ["nodes"]
    own = group("g", "m7g.large", node_role="arn:aws:iam::1:role/own")
    assert registered(own, cluster=EksCluster(name="prod")).of(ROLE) == []


def test_everything_that_can_be_set_reaches_eks() -> None:
    """Types in their order, spot, sizes, labels beside ours, taints in EKS's words, update share."""
    (made,) = registered(
        group(
            "spot",
            "m6i.xlarge",
            "m5.xlarge",
            min_size=0,
            desired_size=2,
            max_size=9,
            capacity_type="SPOT",
            labels={"team": "shop"},
            taints=(Taint(key="spot"), Taint(key="dedicated", value="shop", effect="NoExecute")),
            max_unavailable="33%",
        )
    ).of(NODE_GROUP)
    assert made.inputs["instanceTypes"] == ["m6i.xlarge", "m5.xlarge"]
    assert made.inputs["capacityType"] == "SPOT"
    assert made.inputs["scalingConfig"] == {"minSize": 0, "maxSize": 9, "desiredSize": 2}
    assert made.inputs["updateConfig"] == {"maxUnavailablePercentage": 33}
    assert made.inputs["labels"] == {
        "team": "shop",
        "architecture": "amd64",
        "archshift/node-group": "spot",
    }
    assert made.inputs["taints"] == [
        {"key": "spot", "effect": "NO_SCHEDULE"},
        {"key": "dedicated", "value": "shop", "effect": "NO_EXECUTE"},
        {"key": "archshift/amd64", "effect": "PREFER_NO_SCHEDULE"},
    ]


def test_without_an_autoscaler_nothing_is_ignored_and_nothing_is_tagged() -> None:
    """The desired size is the settings', and a change of it is made."""
    done = registered(group("x86", "m5.large"))
    (made,) = done.of(NODE_GROUP)
    assert list(made.request.ignoreChanges) == ["warmPoolConfig"]
    assert done.of(TAG) == []


def test_an_autoscaler_knows_an_empty_group() -> None:
    """From zero nodes it sees neither architecture, labels nor taints but by these tags."""
    taints = (Taint(key="spot", value="yes"),)
    done = registered(
        group("g", "m7g.large", size=0, autoscaled=True, labels={"team": "shop"}, taints=taints)
    )
    prefix = "k8s.io/cluster-autoscaler/node-template"
    assert {name: tag.inputs for name, tag in by_name(done, TAG).items()} == {
        f"g/{key}": {
            "autoscalingGroupName": "eks-g-asg",
            "tag": {"key": f"{prefix}/{key}", "value": value, "propagateAtLaunch": False},
        }
        for key, value in {
            "label/team": "shop",
            "label/architecture": "arm64",
            "label/archshift/node-group": "g",
            "label/kubernetes.io/arch": "arm64",
            "taint/spot": "yes:NoSchedule",
        }.items()
    }


def test_a_role_is_made_for_nodes_that_have_none() -> None:
    """With the three policies that a node needs; groups wait for them, and so go before them."""
    done = registered(group("x86", "m5.large"), cluster=EksCluster(name="prod"))
    (role,) = done.of(ROLE)
    assert json.loads(role.inputs["assumeRolePolicy"])["Statement"] == [
        {
            "Effect": "Allow",
            "Principal": {"Service": "ec2.amazonaws.com"},
            "Action": "sts:AssumeRole",
        }
    ]
    attachments = by_name(done, ATTACHMENT)
    assert {one.inputs["policyArn"] for one in attachments.values()} == {
        "arn:aws:iam::aws:policy/AmazonEKSWorkerNodePolicy",
        "arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy",
        "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
    }
    (made,) = done.of(NODE_GROUP)
    assert made.inputs["nodeRoleArn"] == "arn:aws:iam::1:role/nodes"
    waits_for = {urn.rpartition("::")[2] for urn in made.request.dependencies}
    assert set(attachments) <= waits_for


def test_the_role_of_nodes_in_china_is_trusted_by_both_names_of_ec2() -> None:
    """And its policies are those of that partition."""
    arn = "arn:aws-cn:eks:cn-north-1:123456789012:cluster/prod"
    done = registered(group("x86", "m5.large"), cluster=EksCluster(name="prod"), arn=arn)
    (role,) = done.of(ROLE)
    (statement,) = json.loads(role.inputs["assumeRolePolicy"])["Statement"]
    assert statement["Principal"] == {"Service": ["ec2.amazonaws.com", "ec2.amazonaws.com.cn"]}
    assert all(one.inputs["policyArn"].startswith("arn:aws-cn:iam::") for one in done.of(ATTACHMENT))


@pytest.mark.parametrize(
    ("more", "config"),
    [
        ({"live": live_group(node_repair=True)}, {"enabled": False}),
        ({"live": live_group()}, None),
        ({"live": live_group(node_repair=True), "import_name": "old"}, None),
    ],
    ids=["switched off", "never had it", "imported"],
)
def test_node_repair_can_be_switched_off_again(more: dict[str, Any], config: Any) -> None:
    """Without the block the provider keeps what EKS has; an import leaves it to the owner."""
    done = registered(group("x86", "m5.large", **more), cluster=EksCluster(name="prod"))
    (made,) = done.of(NODE_GROUP)
    assert made.inputs.get("nodeRepairConfig") == config


OLD = live_group(
    labels={"team": "shop", "architecture": "x86"},
    taints=(Taint(key="spot"),),
    tags={"Team": "shop", "aws:cloudformation:stack-name": "eksctl-prod"},
)
IMPORTED: dict[str, Any] = {"import_name": "old", "subnets": OLD.subnets, "live": OLD}


def test_an_existing_group_is_imported_without_replacement() -> None:
    """What would replace it stays as it is; beside ours it has what it had, and tags say what we changed."""
    existing = group(
        "x86",
        "m5.large",
        size=4,
        labels={**OLD.own_labels, "pool": "main"},
        taints=OLD.own_taints,
        **IMPORTED,
    )
    done = registered(existing, cluster=EksCluster(name="prod"))
    (made,) = done.of(NODE_GROUP)
    assert made.request.importId == "prod:old"
    assert list(made.request.ignoreChanges) == [
        "warmPoolConfig",
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
    ]
    assert made.inputs == {
        "clusterName": "prod",
        "nodeGroupName": "old",
        "nodeRoleArn": "arn:aws:iam::1:role/old",
        "subnetIds": ["subnet-z"],
        "instanceTypes": ["m5.large"],
        "amiType": "AL2023_x86_64_STANDARD",
        "capacityType": "ON_DEMAND",
        "scalingConfig": {"minSize": 4, "maxSize": 4, "desiredSize": 4},
        "updateConfig": {"maxUnavailable": 1},
        "labels": {"team": "shop", "architecture": "amd64", "pool": "main", "archshift/node-group": "x86"},
        "taints": [
            {"key": "spot", "effect": "NO_SCHEDULE"},
            {"key": "archshift/amd64", "effect": "PREFER_NO_SCHEDULE"},
        ],
        "tags": {
            "Team": "shop",
            "archshift/node-group": "x86",
            "archshift/label/architecture": "=x86",
            "archshift/label/pool": "",
        },
    }
    assert not made.request.retainOnDelete
    assert [one.type for one in done.of(ROLE) + done.of(TEMPLATE)] == []


def test_an_import_changes_neither_versions_nor_warm_pool_nor_the_order_of_updates() -> None:
    """The provider leaves a version alone that nobody names. It removes such a warm pool, and EKS
    gets all of an update configuration at once.
    """
    live = replace(OLD, version="1.33", release_version="1.33.5-20251112", update_strategy="MINIMAL")
    options = {**IMPORTED, "live": live, "update_strategy": "MINIMAL"}
    (made,) = registered(group("x86", "m5.large", **options)).of(NODE_GROUP)
    assert not {"version", "releaseVersion", "warmPoolConfig"} & made.inputs.keys()
    assert "warmPoolConfig" in made.request.ignoreChanges
    assert made.inputs["updateConfig"] == {"maxUnavailable": 1, "updateStrategy": "MINIMAL"}
    (pinned,) = registered(
        group("graviton", "m7g.large", version="1.34", release_version="1.34.1-20251112")
    ).of(NODE_GROUP)
    assert (pinned.inputs["version"], pinned.inputs["releaseVersion"]) == ("1.34", "1.34.1-20251112")


def test_a_group_that_is_handed_back_has_what_it_had_and_is_not_deleted() -> None:
    """Our labels, taints and tags are gone; when it leaves the stack, EKS keeps it."""
    taken = live_group(
        labels={"team": "shop", "architecture": "amd64", "pool": "main", "archshift/node-group": "x86"},
        taints=(Taint(key="spot"), side_taint("amd64"), RETIRED),
        tags={
            "Team": "shop",
            "archshift/node-group": "x86",
            "archshift/label/architecture": "=x86",
            "archshift/label/pool": "",
        },
    )
    back = group(
        "x86",
        "m5.large",
        labels=taken.own_labels,
        taints=taken.own_taints,
        autoscaled=True,
        released=True,
        **{**IMPORTED, "live": taken},
    )
    done = registered(back, cluster=EksCluster(name="prod"))
    (made,) = done.of(NODE_GROUP)
    assert made.inputs["labels"] == {"team": "shop", "architecture": "x86"}
    assert made.inputs["taints"] == [{"key": "spot", "effect": "NO_SCHEDULE"}]
    assert made.inputs["tags"] == {"Team": "shop"}
    assert made.request.retainOnDelete
    assert done.of(TAG) == []


def test_a_group_without_a_scaling_group_has_nothing_to_tag(caplog: pytest.LogCaptureFixture) -> None:
    """EKS names none of a group that is not healthy. The others go on."""
    ill = live_group("old", scaling_groups=())
    x86 = group("x86", "m5.large", autoscaled=True, import_name="old", live=ill)
    graviton = group("graviton", "m7g.large", autoscaled=True)
    done = registered(x86, graviton)
    assert (
        "node group x86: EKS names no Auto Scaling group of 'old', so an autoscaler cannot add nodes to it; "
        "look at the health of the group at EKS"
    ) in caplog.messages
    assert {name.partition("/")[0] for name in by_name(done, TAG)} == {"graviton"}


def test_a_group_that_loses_its_scaling_group_for_a_while_keeps_its_tags() -> None:
    """The next update would make the same tags again; without them the autoscaler knows no empty group. A tag
    that left the settings goes, and a new one waits.
    """
    name, prefix = "eks-graviton-asg", "k8s.io/cluster-autoscaler/node-template/label"
    tag = {"key": f"{prefix}/architecture", "value": "arm64", "propagateAtLaunch": False}
    state = {
        f"urn:pulumi:s::p::{TAG}::{key}": {
            "type": TAG,
            "outputs": {"autoscalingGroupName": name, "tag": tag, "id": "graviton"},
        }
        for key in ("graviton/label/architecture", "graviton/label/left", "other/label/architecture")
    }
    ill = live_group("graviton-1", "m7g.large", scaling_groups=())
    answers: dict[str, Answer] = {READ_RESOURCE_OUTPUTS: lambda _: {"outputs": state}}
    done = registered(group("graviton", "m7g.large", autoscaled=True, live=ill), answers=answers)
    (kept,) = done.of(TAG)
    assert kept.name == "graviton/label/architecture"
    assert kept.inputs == {"autoscalingGroupName": name, "tag": tag}


def test_tags_that_the_owner_may_have_set_stay_on_an_imported_group() -> None:
    """The autoscaler's tags of the group's own labels and taints; ours go with the stack."""
    existing = group(
        "x86",
        "m5.large",
        labels={**OLD.own_labels, "pool": "main"},
        taints=(*OLD.own_taints, RETIRED),
        autoscaled=True,
        **IMPORTED,
    )
    tags = by_name(registered(existing, cluster=EksCluster(name="prod")), TAG)
    assert {name for name, tag in tags.items() if tag.request.retainOnDelete} == {
        "x86/label/architecture",
        "x86/label/team",
        "x86/taint/spot",
    }
    assert {"x86/label/pool", "x86/taint/archshift/retired"} <= tags.keys()


def called(function: Any, token: str, answer: Mapping[str, Any] | str) -> Any:
    """What a look-up makes of the provider's answer, or of the error with that text."""
    results = []

    def respond(_arguments: dict[str, Any]) -> dict[str, Any]:
        if isinstance(answer, str):
            raise Refused(answer)
        return dict(answer)

    record(lambda: results.append(function()), Aws({token: respond}))
    return results[0]


def find_failed(function: Any, token: str, answer: Mapping[str, Any] | str) -> str:
    """The sentence with which a look-up stops the run."""
    with pytest.raises(ArchshiftError) as error:
        called(function, token, answer)
    assert "\n" not in str(error.value)
    return str(error.value)


EXISTING = {"x86": group("x86", "m5.large", import_name="old"), "new": group("new", "m7g.large")}

FOUND_CLUSTER = {"arn": ARN, "endpoint": "https://prod.eks", "certificateAuthorities": [{"data": "Q0E="}]}
MISSING = (
    "invoking aws:eks/getCluster: 1 error occurred:\n\t* reading EKS Cluster (prod): couldn't find resource"
)


def test_a_cluster_is_found_by_its_name() -> None:
    assert called(lambda: find_cluster(CLUSTER), GET_CLUSTER, FOUND_CLUSTER) == PROD


@pytest.mark.parametrize(
    ("status", "way_out"),
    [
        ("CREATING", "run `aws eks wait cluster-active --name prod`, and try again"),
        ("DELETING", "run `aws eks wait cluster-deleted --name prod`, and try again"),
    ],
)
def test_a_cluster_that_nobody_can_use_stops_the_run(status: str, way_out: str) -> None:
    """It has no endpoint yet, or soon no more."""
    answer = {"arn": ARN, "endpoint": "", "certificateAuthorities": [], "status": status}
    for cluster in (CLUSTER, NEW):
        sentence = find_failed(partial(find_cluster, cluster), GET_CLUSTER, answer)
        assert sentence == f"the EKS cluster 'prod' is {status}; {way_out}"


def test_of_a_cluster_that_the_stack_creates_the_creator_and_the_add_ons_are_read() -> None:
    """So that the next update leaves both as they are."""
    versions: dict[Addon, str] = {"vpc-cni": "v1.20.4-eksbuild.2", "kube-proxy": "v1.34.0-eksbuild.4"}

    def addon(arguments: dict[str, Any]) -> dict[str, Any]:
        if arguments["addonName"] not in versions:
            raise Refused("reading EKS Add-On (coredns:prod): couldn't find resource")
        return {"addonVersion": versions[arguments["addonName"]]}

    answer = {**FOUND_CLUSTER, "status": "ACTIVE", "tags": {"archshift/creator": "1:role/r"}}
    results: list[Any] = []
    record(lambda: results.append(find_cluster(NEW)), Aws({GET_CLUSTER: lambda _: answer, GET_ADDON: addon}))
    assert results == [replace(PROD, creator="1:role/r", addons=versions)]


def test_a_cluster_that_is_to_be_made_may_be_missing() -> None:
    """Then there are no workloads to look at yet."""
    assert called(lambda: find_cluster(NEW), GET_CLUSTER, MISSING) is None


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            MISSING,
            "archshift:cluster.name: there is no EKS cluster 'prod' in the region of aws:region; correct the "
            "name or the region, or set archshift:cluster.create to create the cluster",
        ),
        (
            "1 error occurred:\n\t* error configuring Terraform AWS Provider: validating provider "
            "credentials: retrieving caller identity from STS: operation error STS: GetCallerIdentity, https "
            "response error StatusCode: 403, RequestID: 1, api error ExpiredToken: The security token "
            "included in the request is expired\n\n",
            "archshift:cluster.name: 'prod' cannot be read: the AWS credentials have expired; log in again, "
            "for example with `aws sso login`",
        ),
        (
            "1 error occurred:\n\t* No valid credential sources found\n\n",
            "archshift:cluster.name: 'prod' cannot be read: No valid credential sources found; check the AWS "
            "credentials and aws:region",
        ),
    ],
    ids=["missing", "expired", "no credentials"],
)
def test_a_cluster_that_cannot_be_read_stops_the_run(text: str, sentence: str) -> None:
    """One sentence with the way out; the provider's own comes in a frame of a dozen lines."""
    assert find_failed(lambda: find_cluster(CLUSTER), GET_CLUSTER, text) == sentence


def test_of_an_adopted_cluster_nothing_can_change() -> None:
    """It has no resource in the stack, only a kubeconfig that holds no credentials."""
    done = record(lambda: MixedCluster("prod", MixedClusterArgs(cluster=CLUSTER, live=PROD)))
    assert [one.type for one in done.registered] == ["archshift:index:MixedCluster"]
    outputs = done.outputs["prod"]
    assert (outputs["arn"], outputs["cluster_name"]) == (ARN, "prod")
    assert json.loads(outputs["kubeconfig"]) == PROD.kubeconfig()


def test_the_kubeconfig_uses_the_profile_of_the_stack() -> None:
    """A stack's ``aws:profile`` reaches the cluster with the rights that it was found with."""
    identity = AwsIdentity(profile="prod-admin")
    cluster = replace(CLUSTER, aws=identity)
    done = record(lambda: MixedCluster("prod", MixedClusterArgs(cluster=cluster, live=PROD)))
    assert json.loads(done.outputs["prod"]["kubeconfig"]) == PROD.kubeconfig(identity)


def test_a_cluster_that_is_made_is_secure_by_default() -> None:
    """Private endpoint alone, encrypted secrets, all logs, access entries, no default nodes."""
    done = made(NEW)
    (cluster,), (key,) = done.of("eks:index:Cluster"), done.of("aws:kms/key:Key")
    assert key.inputs == {
        "description": "Secrets of the EKS cluster prod",
        "enableKeyRotation": True,
    }
    assert cluster.inputs == {
        "name": "prod",
        "version": "1.34",
        "vpcId": "vpc-1",
        "privateSubnetIds": ["subnet-a", "subnet-b"],
        "endpointPrivateAccess": True,
        "endpointPublicAccess": False,
        "encryptionConfigKeyArn": "arn:aws:kms:eu-west-1:1:key/made",
        "enabledClusterLogTypes": ["api", "audit", "authenticator", "controllerManager", "scheduler"],
        "authenticationMode": "API",
        "accessEntries": {
            "role-team-admin": {
                "principalArn": "arn:aws:iam::123456789012:role/team/admin",
                "accessPolicies": {
                    "admin": {
                        "policyArn": "arn:aws:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy",
                        "accessScope": {"type": "cluster"},
                    }
                },
            }
        },
        "clusterTags": {"archshift/creator": "123456789012:role/deployer"},
        "createOidcProvider": True,
        "deletionProtection": True,
        "skipDefaultNodeGroup": True,
        "skipDefaultSecurityGroups": True,
        "nodeAssociatePublicIpAddress": False,
    }
    assert cluster.parent == "prod"


ADMIN = "arn:aws:iam::123456789012:role/team/admin"
FIRST = "arn:aws:iam::123456789012:role/team/first"
BOTH = replace(NEW, create=NewCluster(version="1.34", vpc="vpc-1", admins=(ADMIN, FIRST)))


def entries(done: Monitor) -> set[str]:
    """The principals of the access entries that are registered."""
    (cluster,) = done.of("eks:index:Cluster")
    return {entry["principalArn"] for entry in cluster.inputs["accessEntries"].values()}


@pytest.mark.parametrize(
    ("caller", "expected"),
    [
        # The ARN of a session has neither the role's path nor its service.
        ("arn:aws:sts::123456789012:assumed-role/first/ci", {ADMIN}),
        ("arn:aws:sts::123456789012:assumed-role/other/ci", {ADMIN, FIRST}),
        ("arn:aws:sts::999999999999:assumed-role/first/ci", {ADMIN, FIRST}),
        ("arn:aws:iam::123456789012:user/first", {ADMIN, FIRST}),
    ],
    ids=["the same", "another", "of another account", "a user of that name"],
)
def test_the_creator_gets_no_second_access_entry(caller: str, expected: set[str]) -> None:
    """EKS makes one for whoever creates the cluster, and refuses another."""
    assert entries(made(BOTH, caller=caller)) == expected


@pytest.mark.parametrize("caller", ["first", "admin"])
def test_the_entries_do_not_depend_on_who_updates_the_cluster_later(caller: str) -> None:
    """Else an update by another administrator would take away its own entry."""
    live = replace(PROD, creator="123456789012:role/first")
    done = made(BOTH, live, f"arn:aws:sts::123456789012:assumed-role/{caller}/ci")
    assert entries(done) == {ADMIN}
    (cluster,) = done.of("eks:index:Cluster")
    assert cluster.inputs["clusterTags"] == {"archshift/creator": "123456789012:role/first"}


def test_a_cluster_of_an_older_version_keeps_all_its_entries() -> None:
    """Nobody knows who created it, and its creator was no administrator of the settings."""
    done = made(BOTH, PROD, "arn:aws:sts::123456789012:assumed-role/first/ci")
    assert entries(done) == {ADMIN, FIRST}
    (cluster,) = done.of("eks:index:Cluster")
    assert "clusterTags" not in cluster.inputs


@pytest.mark.parametrize(
    ("live", "typed", "expected"),
    [
        ({}, {}, (None, None, None)),
        ({"vpc-cni": "v1", "kube-proxy": "v2", "coredns": "v3"}, {}, ("v1", "v2", None)),
        ({"vpc-cni": "v1", "kube-proxy": "v2"}, {"vpc-cni": "v9"}, ("v9", "v2", None)),
        ({"vpc-cni": "v1"}, {"coredns": "v4"}, ("v1", None, "v4")),
    ],
    ids=["new", "as they are", "typed", "CoreDNS"],
)
def test_an_update_changes_no_add_on_by_itself(
    live: Mapping[Any, str], typed: Mapping[Any, str], expected: tuple[str | None, ...]
) -> None:
    """The component alone would take the newest version at each run, also at a step of the ratio."""
    new = NewCluster(version="1.34", vpc="vpc-1", addons=typed)
    done = made(replace(NEW, create=new), replace(PROD, addons=live))
    inputs = done.of("eks:index:Cluster")[0].inputs
    found = (
        inputs.get("vpcCniOptions", {}).get("addonVersion"),
        inputs.get("kubeProxyAddonOptions", {}).get("version"),
        inputs.get("corednsAddonOptions", {}).get("version"),
    )
    assert found == expected


def test_a_cluster_without_internet_and_one_that_may_go() -> None:
    new = NewCluster(version="1.34", vpc="vpc-1", oidc_provider=False, deletion_protection=False)
    done = made(replace(NEW, create=new))
    (cluster,) = done.of("eks:index:Cluster")
    assert cluster.inputs["createOidcProvider"] is False
    assert cluster.inputs["deletionProtection"] is False


def test_the_component_reaches_the_cluster_with_the_role_of_the_stack() -> None:
    identity = AwsIdentity("prod", (AssumedRole("arn:aws:iam::1:role/r"),))
    (cluster,) = made(replace(NEW, aws=identity)).of("eks:index:Cluster")
    assert cluster.inputs["providerCredentialOpts"] == {
        "profileName": "prod",
        "roleArn": "arn:aws:iam::1:role/r",
    }


def test_a_public_endpoint_is_open_to_the_given_addresses_alone() -> None:
    """And a key of one's own is used as it is."""
    new = NewCluster(
        version="1.34", vpc="vpc-1", public_access=("192.0.2.0/24",), kms_key="arn:aws:kms:a:1:key/k"
    )
    done = made(EksCluster(name="prod", subnets=("subnet-a", "subnet-b"), create=new))
    (cluster,) = done.of("eks:index:Cluster")
    assert cluster.inputs["endpointPublicAccess"] is True
    assert cluster.inputs["publicAccessCidrs"] == ["192.0.2.0/24"]
    assert cluster.inputs["encryptionConfigKeyArn"] == "arn:aws:kms:a:1:key/k"
    assert done.of("aws:kms/key:Key") == []


def test_a_cluster_that_is_made_ends_in_the_same_kubeconfig() -> None:
    """Whoever uses the outputs need not know where the cluster came from."""
    outputs = made(NEW).outputs["prod"]
    assert (outputs["arn"], outputs["cluster_name"]) == (ARN, "prod")
    assert json.loads(outputs["kubeconfig"]) == PROD.kubeconfig()


def test_every_argument_is_one_that_the_packages_declare() -> None:
    """By name and type, with every key of the settings. The packages of pulumi-eks and the AWS provider are
    made of their schemas. What the component needs before anything exists is known by then.
    """
    identity = AwsIdentity("prod", (AssumedRole("arn:aws:iam::1:role/r"),))
    addons: dict[Addon, str] = {"vpc-cni": "v1", "kube-proxy": "v2", "coredns": "v3"}
    new = NewCluster(
        version="1.34", vpc="vpc-1", admins=(ADMIN,), public_access=("192.0.2.0/24",), addons=addons
    )
    instances = Instances(
        security_groups=("sg-1",),
        user_data="x",
        hop_limit=2,
        monitoring=True,
        metadata_tags=True,
        ebs_optimized=True,
        kms_key="arn:aws:kms:a:1:key/k",
        volumes={"/dev/xvda": Volume(gib=80, iops=4000, throughput=250)},
        tags={"instance": {"Team": "shop"}},
    )
    whole = group(
        "whole",
        "m7g.large",
        autoscaled=True,
        instances=instances,
        labels={"team": "shop"},
        taints=(Taint(key="spot", value="1"), Taint(key="batch")),
        max_unavailable="33%",
        update_strategy="MINIMAL",
        node_repair=True,
        version="1.34",
        release_version="1.34.1-20251112",
        tags={"Cost": "7"},
    )
    imported = group("x86", "m5.large", autoscaled=True, **IMPORTED)
    template = group("template", "m7g.large", launch_template=TemplateVersion(id="lt-1", version="3"))
    done = [
        made(replace(NEW, aws=identity, create=new)),
        registered(whole, imported, template, cluster=replace(CLUSTER, node_role="")),
    ]
    declared = {**INPUTS, "eks:index:Cluster": pulumi_eks.ClusterArgs}
    resources = [one for record in done for one in record.registered if not one.type.startswith("archshift:")]
    assert {one.type for one in resources} >= {"eks:index:Cluster", NODE_GROUP, TEMPLATE, TAG, ROLE}
    for one in resources:
        assert [*mismatches(declared[one.type], one.inputs)] == [], one.name
    (cluster,) = done[0].of("eks:index:Cluster")
    later = {name for name, found in cluster.request.propertyDependencies.items() if found.urns}
    assert later == {"encryptionConfigKeyArn"}
    assert not later & plain_inputs(pulumi_eks.ClusterArgs)


@pytest.mark.parametrize(
    ("inputs", "wrong"),
    [
        ({"nodeGroups": 1}, "nodeGroups is no input of ClusterArgs"),
        ({"version": 1.34}, "version is 1.34, not str"),
        ({"endpointPublicAccess": "true"}, "endpointPublicAccess is 'true', not bool"),
        ({"authenticationMode": "IAM"}, "authenticationMode is 'IAM', not AuthenticationMode"),
        ({"vpcCniOptions": {"version": "v1"}}, "vpcCniOptions.version is no input of VpcCniOptionsArgs"),
        ({"accessEntries": {"a": {"principalArn": 1}}}, "accessEntries.a.principalArn is 1, not str"),
    ],
)
def test_an_argument_that_they_do_not_declare_is_found(inputs: dict[str, Any], wrong: str) -> None:
    assert [*mismatches(pulumi_eks.ClusterArgs, inputs)] == [wrong]
