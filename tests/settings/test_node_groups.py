"""The settings of an EKS cluster and its node groups, and every sentence about a value that does not do."""

import json
from typing import Any

import pytest

from archshift.common.aws import AssumedRole, AwsIdentity
from archshift.common.errors import ArchshiftError
from archshift.nodes.eks import EksCluster, NewCluster
from archshift.nodes.groups import EksNodeGroup, Taint
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.settings import stack as stack_settings
from tests.build import configuration, refusal

SUBNETS = ["subnet-0a", "subnet-0b"]
CLUSTER = {"name": "prod", "subnets": SUBNETS}
X86 = {"instance_types": ["t3.xlarge"], "desired_size": 5}
ROLE = "arn:aws:iam::123456789012:role/nodes"


def load(**values: Any) -> stack_settings.Settings:
    """Load a configuration as the engine passes it."""
    values.setdefault("arm_ratio", "0.2")
    values.setdefault("cluster", CLUSTER)
    return stack_settings.load("prod", configuration(**values))


def refused(**values: Any) -> str:
    return refusal(load, **values)


def test_x86_nodes_and_their_twins_take_six_lines() -> None:
    """The example of the README: five t3.xlarge and three of their Graviton twins."""
    found = load(node_groups={"x86": X86, "graviton": {"twin_of": "x86", "desired_size": 3}})
    assert found.cluster == EksCluster(name="prod", subnets=("subnet-0a", "subnet-0b"))
    assert found.node_groups == {}
    assert found.eks_node_groups == {
        "x86": EksNodeGroup(
            name="x86",
            stack="prod",
            instance_types=(INSTANCE_TYPES["t3.xlarge"],),
            min_size=5,
            desired_size=5,
            max_size=5,
            subnets=("subnet-0a", "subnet-0b"),
            ami_type="AL2023_x86_64_STANDARD",
        ),
        "graviton": EksNodeGroup(
            name="graviton",
            stack="prod",
            instance_types=(INSTANCE_TYPES["t4g.xlarge"],),
            min_size=3,
            desired_size=3,
            max_size=3,
            subnets=("subnet-0a", "subnet-0b"),
            ami_type="AL2023_ARM_64_STANDARD",
        ),
    }
    assert [group.architecture for group in found.groups] == ["amd64", "arm64"]


def test_every_setting_gets_its_shape() -> None:
    """A complete group and a complete cluster, key by key."""
    found = load(
        cluster={
            "name": "new",
            "subnets": SUBNETS,
            "node_role": ROLE,
            "autoscaler": "cluster-autoscaler",
            "create": {
                "version": "1.34",
                "vpc": "vpc-1",
                "public_access": ["192.0.2.0/24"],
                "kms_key": "arn:aws:kms:eu-west-1:123456789012:key/k",
                "admins": ["arn:aws:iam::123456789012:role/admin"],
            },
        },
        node_groups={
            "spot": {
                "instance_types": ["m5.xlarge", "m6i.xlarge"],
                "min_size": 0,
                "max_size": 9,
                "desired_size": 2,
                "subnets": ["subnet-0c"],
                "capacity_type": "SPOT",
                "ami_type": "BOTTLEROCKET_x86_64_FIPS",
                "disk_gib": 100,
                "labels": {"team": "shop"},
                "taints": [{"key": "spot", "effect": "NoSchedule"}],
                "max_unavailable": "33%",
                "import": "old-spot",
            }
        },
    )
    assert found.cluster == EksCluster(
        name="new",
        subnets=("subnet-0a", "subnet-0b"),
        node_role=ROLE,
        autoscaler="cluster-autoscaler",
        create=NewCluster(
            version="1.34",
            vpc="vpc-1",
            public_access=("192.0.2.0/24",),
            kms_key="arn:aws:kms:eu-west-1:123456789012:key/k",
            admins=("arn:aws:iam::123456789012:role/admin",),
        ),
    )
    assert found.eks_node_groups["spot"] == EksNodeGroup(
        name="spot",
        stack="prod",
        instance_types=(INSTANCE_TYPES["m5.xlarge"], INSTANCE_TYPES["m6i.xlarge"]),
        min_size=0,
        max_size=9,
        desired_size=2,
        autoscaled=True,
        subnets=("subnet-0c",),
        capacity_type="SPOT",
        ami_type="BOTTLEROCKET_x86_64_FIPS",
        disk_gib=100,
        labels={"team": "shop"},
        taints=(Taint(key="spot"),),
        max_unavailable="33%",
        import_name="old-spot",
    )


def test_a_twin_takes_over_what_it_does_not_set_itself() -> None:
    """Pods that select a label or tolerate a taint find the same on Graviton; sizes are its own."""
    x86 = {
        "instance_types": ["m5.xlarge", "m6i.xlarge"],
        "desired_size": 9,
        "subnets": ["subnet-0c"],
        "capacity_type": "SPOT",
        "ami_type": "BOTTLEROCKET_x86_64_FIPS",
        "disk_gib": 100,
        "labels": {"team": "shop"},
        "taints": [{"key": "spot"}],
        "max_unavailable": 2,
        "import": "old",
    }
    twin = {"twin_of": "x86", "min_size": 1, "max_size": 4, "disk_gib": 50}
    found = load(node_groups={"graviton": twin, "x86": x86}, graviton_families=["m7g", "c7g"])
    assert found.eks_node_groups["graviton"] == EksNodeGroup(
        name="graviton",
        stack="prod",
        instance_types=(INSTANCE_TYPES["m7g.xlarge"],),
        min_size=1,
        desired_size=1,
        max_size=4,
        subnets=("subnet-0c",),
        capacity_type="SPOT",
        ami_type="BOTTLEROCKET_ARM_64_FIPS",
        disk_gib=50,
        labels={"team": "shop"},
        taints=(Taint(key="spot"),),
        max_unavailable=2,
    )


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ({"desired_size": 3}, (3, 3, 3)),
        ({"desired_size": 0}, (0, 0, 1)),
        ({"min_size": 2, "max_size": 8}, (2, 2, 8)),
        ({"min_size": 0, "desired_size": 2}, (0, 2, 2)),
        ({"min_size": 0, "desired_size": 2, "max_size": 5}, (0, 2, 5)),
    ],
)
def test_sizes_that_are_left_out_follow(sizes: dict[str, int], found: tuple[int, int, int]) -> None:
    """One number is enough without an autoscaler, two with one."""
    group = load(node_groups={"x86": {"instance_types": ["t3.xlarge"], **sizes}}).eks_node_groups["x86"]
    assert (group.min_size, group.desired_size, group.max_size) == found


@pytest.mark.parametrize(
    ("family", "x86", "graviton"),
    [
        ("AL2023", "AL2023_x86_64_STANDARD", "AL2023_ARM_64_STANDARD"),
        ("Bottlerocket", "BOTTLEROCKET_x86_64", "BOTTLEROCKET_ARM_64"),
    ],
)
def test_the_image_follows_from_the_types(family: str, x86: str, graviton: str) -> None:
    """An operating system is chosen, never an architecture."""
    groups = {
        "x86": {**X86, "ami_family": family},
        "graviton": {"instance_types": ["m7g.large"], "desired_size": 1, "ami_family": family},
    }
    found = load(node_groups=groups).eks_node_groups
    assert (found["x86"].ami_type, found["graviton"].ami_type) == (x86, graviton)


G = "archshift:node_groups.g"
MAP = "is invalid; use a map, written as YAML below the key"
NODES = "is invalid; use a whole number of nodes"
SHARE = 'is invalid; use 1 to 100 nodes, or a share of them such as "33%"'


@pytest.mark.parametrize(
    ("group", "message"),
    [
        (
            {**X86, "instance_types": ["m5.xlarge", "m7g.xlarge"]},
            f"{G}.instance_types: m5.xlarge is amd64 and m7g.xlarge is arm64; make a node group for each "
            "architecture",
        ),
        (
            {**X86, "ami_type": "AL2023_ARM_64_STANDARD"},
            f"{G}.ami_type: AL2023_ARM_64_STANDARD is for arm64 and t3.xlarge is amd64; leave it out and "
            "ami_family finds the right one",
        ),
        (
            {"instance_types": ["m7g.large"], "desired_size": 1, "ami_type": "BOTTLEROCKET_x86_64_NVIDIA"},
            f"{G}.ami_type: BOTTLEROCKET_x86_64_NVIDIA is for amd64 and m7g.large is arm64; leave it out and "
            "ami_family finds the right one",
        ),
        ({**X86, "ami_type": ""}, f"{G}.ami_type: '' is invalid; use an AMI type"),
        ({**X86, "ami_family": "AL2"}, f"{G}.ami_family: 'AL2' is invalid; use AL2023 or Bottlerocket"),
        ({**X86, "subnets": []}, f"{G}.subnets: [] is invalid; use a list of one or more IDs of subnets"),
        (
            {**X86, "subnets": ["eu-west-1a"]},
            f"{G}.subnets[0]: 'eu-west-1a' is invalid; use the ID of a subnet such as subnet-0a1b2c3d",
        ),
        ({"desired_size": 1}, f"{G}.instance_types is missing; add instance_types or twin_of"),
        (
            {"instance_types": [], "desired_size": 1},
            f"{G}.instance_types is missing; add instance_types or twin_of",
        ),
        ({"instance_types": "t3.large"}, f"{G}.instance_types: 't3.large' is invalid; use a list of names"),
        (
            {"instance_types": ["t3.large"]},
            f"{G}.desired_size is missing; add it, or min_size and max_size",
        ),
        ({**X86, "desired_size": -1}, f"{G}.desired_size: -1 {NODES}, 0 or more"),
        ({**X86, "desired_size": "5"}, f"{G}.desired_size: '5' {NODES}, 0 or more"),
        ({**X86, "min_size": 1.5}, f"{G}.min_size: 1.5 {NODES}, 0 or more"),
        ({**X86, "max_size": 0}, f"{G}.max_size: 0 {NODES}, 1 or more"),
        ({**X86, "disk_gib": 0}, f"{G}.disk_gib: 0 is invalid; use a whole number of GiB, 1 or more"),
        (
            {**X86, "max_size": 3},
            f"{G}: min_size 5, desired_size 5 and max_size 3 are not in that order; raise or "
            "lower one of them",
        ),
        ({**X86, "capacity_type": "spot"}, f"{G}.capacity_type: 'spot' is invalid; use ON_DEMAND or SPOT"),
        ({**X86, "max_unavailable": "0%"}, f"{G}.max_unavailable: '0%' {SHARE}"),
        ({**X86, "max_unavailable": 101}, f"{G}.max_unavailable: 101 {SHARE}"),
        ({**X86, "max_unavailable": True}, f"{G}.max_unavailable: True {SHARE}"),
        (
            {**X86, "labels": {"kubernetes.io/arch": "arm64"}},
            f"{G}.labels.kubernetes.io/arch: the architecture follows from the instance types; "
            "remove the label",
        ),
        ({**X86, "import": ""}, f"{G}.import: '' is invalid; use the name of an existing node group"),
        (
            {**X86, "size": 5},
            f"{G}.size is not a setting; there are: ami_family, ami_type, capacity_type, desired_size, "
            "disk_gib, import, instance_types, labels, max_size, max_unavailable, min_size, subnets, "
            "taints, twin_of",
        ),
        (
            {"twin_of": "g", "desired_size": 1},
            f"{G}.twin_of: 'g' is not another node group; there are: x86",
        ),
        (
            {"twin_of": "x68", "desired_size": 1},
            f"{G}.twin_of: 'x68' is not another node group; there are: x86",
        ),
        (
            {"twin_of": "", "desired_size": 1},
            f"{G}.twin_of: '' is invalid; use the name of another node group",
        ),
        (
            {"twin_of": "x86", "desired_size": 1, "instance_types": ["m7g.large"]},
            f"{G}.twin_of chooses the instance types itself; remove twin_of or instance_types",
        ),
    ],
)
def test_a_node_group_that_does_not_do_is_refused(group: Any, message: str) -> None:
    """One sentence with the whole path of the key, the value and the way out."""
    assert refused(node_groups={"g": group, "x86": X86}) == message


def test_an_unknown_type_is_refused_with_the_nearest() -> None:
    """The same sentence as everywhere."""
    message = refused(node_groups={"g": {"instance_types": ["m7g.xlrage"], "desired_size": 1}})
    assert message.startswith(f"{G}.instance_types: 'm7g.xlrage' is an unknown instance type; did ")
    assert "m7g.xlarge" in message


@pytest.mark.parametrize(
    ("types", "families", "reason"),
    [
        (
            ["c5.9xlarge"],
            [],
            "c5.9xlarge (36 vCPU, 72 GiB) has no Graviton twin: no Graviton type has that size; the nearest "
            "are c8g.8xlarge (32 vCPU, 64 GiB) and c8g.12xlarge (48 vCPU, 96 GiB)",
        ),
        (
            ["r5.xlarge"],
            ["m7g"],
            "r5.xlarge (4 vCPU, 32 GiB) has no Graviton twin in the families to choose from; r6g.xlarge or "
            "r6gd.xlarge or r7g.xlarge or r7gd.xlarge or r8g.xlarge or r8gb.xlarge or r8gd.xlarge or "
            "r8gn.xlarge or r9g.xlarge or r9gd.xlarge would fit",
        ),
        (["m7g.large"], [], "m7g.large (2 vCPU, 8 GiB) has no Graviton twin: it is a Graviton type itself"),
    ],
)
def test_a_twin_that_does_not_exist_is_refused(types: list[str], families: list[str], reason: str) -> None:
    """With the reason, and both ways out."""
    groups = {
        "old": {"instance_types": types, "desired_size": 1},
        "g": {"twin_of": "old", "desired_size": 1},
    }
    assert refused(node_groups=groups, graviton_families=families) == (
        f"{G}.twin_of: 'old': {reason}; give the group instance_types of its own, or choose others from "
        "archshift:graviton_families"
    )


def test_a_twin_of_a_twin_is_refused() -> None:
    """Twins go one way, so that nobody has to follow a chain."""
    groups = {
        "x86": X86,
        "t": {"twin_of": "x86", "desired_size": 1},
        "g": {"twin_of": "t", "desired_size": 1},
    }
    message = refused(node_groups=groups)
    assert message == f"{G}.twin_of: 't' is a twin itself; name the group that 't' is the twin of"


@pytest.mark.parametrize("name", ["X86", "a_b", "", "g" * 37, "-a"])
def test_a_name_that_eks_would_refuse_is_refused_here(name: str) -> None:
    """Before anything is made."""
    assert refused(node_groups={name: X86}) == (
        f"archshift:node_groups: {name!r} is invalid; use a name for a node group: up to 36 lower-case "
        "letters, digits and -"
    )


def test_a_family_that_is_not_graviton_is_refused() -> None:
    """A slip in the list would otherwise hide twins."""
    message = refused(graviton_families=["m7i"])
    assert message.startswith(
        "archshift:graviton_families[0]: 'm7i' is invalid; use a Graviton family: a1, c6g, "
    )


def test_node_groups_belong_to_a_cluster() -> None:
    """Without one they would promise what nobody can make."""
    assert refused(cluster={}, node_groups={"x86": X86}) == (
        "archshift:node_groups: on EKS they belong to a cluster; give its name as archshift:cluster.name, or "
        "leave the key out and archshift counts the nodes it finds"
    )


def test_a_group_without_any_subnets_is_refused() -> None:
    """Neither its own nor the cluster's; one that exists keeps those it has."""
    existing = {"g": {**X86, "import": "old"}}
    assert load(cluster={"name": "prod"}, node_groups=existing).eks_node_groups["g"].subnets == ()
    assert refused(cluster={"name": "prod"}, node_groups={"g": X86}) == (
        f"{G}.subnets is missing; add the group's subnets, or archshift:cluster.subnets"
    )


C = "archshift:cluster"
ARN = "is invalid; use an ARN such as arn:aws:iam::123456789012:role/name"
NEW = {"version": "1.34", "vpc": "vpc-1"}


@pytest.mark.parametrize(
    ("cluster", "message"),
    [
        (["prod"], f"{C}: ['prod'] {MAP}"),
        ({"subnets": SUBNETS}, f"{C}.name is missing; add the name of the EKS cluster"),
        ({"name": ""}, f"{C}.name: '' is invalid; use the name of the EKS cluster"),
        (
            {"name": "p", "autoscaler": []},
            f"{C}.autoscaler: [] is invalid; use none or cluster-autoscaler",
        ),
        ({"name": "p", "node_role": "nodes"}, f"{C}.node_role: 'nodes' {ARN}"),
        (
            {"name": "p", "subnets": []},
            f"{C}.subnets: [] is invalid; use a list of one or more IDs of subnets",
        ),
        (
            {"name": "p", "subnets": SUBNETS, "create": {"vpc": "vpc-1"}},
            f'{C}.create.version is missing; add a Kubernetes version in quotes, such as "1.34"',
        ),
        (
            {"name": "p", "subnets": SUBNETS, "create": {**NEW, "version": 1.34}},
            f'{C}.create.version: 1.34 is invalid; use a Kubernetes version in quotes, such as "1.34"',
        ),
        (
            {"name": "p", "subnets": SUBNETS, "create": {**NEW, "vpc": ""}},
            f"{C}.create.vpc: '' is invalid; use the ID of a VPC",
        ),
        (
            {"name": "p", "subnets": SUBNETS[:1], "create": NEW},
            f"{C}.subnets: ['subnet-0a'] is too few to make a cluster; give subnets in two zones or more",
        ),
        (
            {"name": "p", "subnets": SUBNETS, "create": {**NEW, "admins": ["me"]}},
            f"{C}.create.admins[0]: 'me' {ARN}",
        ),
        (
            {"name": "p", "region": "eu-west-1"},
            f"{C}.region is not a setting; there are: autoscaler, create, name, node_role, subnets",
        ),
    ],
)
def test_a_cluster_that_does_not_do_is_refused(cluster: Any, message: str) -> None:
    """One sentence with the whole path of the key, the value and the way out."""
    assert refused(cluster=cluster) == message


def test_the_profile_of_the_aws_provider_is_used_for_the_cluster_too() -> None:
    """Or its kubeconfig would ask with other rights than the provider has."""
    values = {"archshift:arm_ratio": "0.2", "archshift:cluster": json.dumps(CLUSTER), "aws:profile": "admin"}
    found = stack_settings.load("prod", values)
    assert found.cluster
    assert found.aws == found.cluster.aws == found.images.aws == AwsIdentity("admin")


def with_roles(roles: object, **config: str) -> stack_settings.Settings:
    """The settings of a stack with ``aws:assumeRoles``; text is taken as it is."""
    text = roles if isinstance(roles, str) else json.dumps(roles)
    values = {"archshift:arm_ratio": "0.2", "archshift:cluster": json.dumps(CLUSTER), "aws:assumeRoles": text}
    return stack_settings.load("prod", {**values, **config})


ROLE = "arn:aws:iam::123456789012:role/deploy"


def test_the_roles_of_the_aws_provider_reach_everything_that_asks_aws() -> None:
    """With all that the provider may say of a role, in the words of STS."""
    role = {
        "roleArn": ROLE,
        "sessionName": "ci",
        "externalId": "x-1",
        "duration": "1h30m",
        "policy": "{}",
        "policyArns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
        "sourceIdentity": "me",
        "tags": {"team": "shop"},
        "transitiveTagKeys": ["team"],
    }
    found = with_roles([{"roleArn": ROLE}, role], **{"archshift:kube_context": "prod"})
    more = {
        "ExternalId": "x-1",
        "DurationSeconds": 5400,
        "Policy": "{}",
        "PolicyArns": [{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}],
        "SourceIdentity": "me",
        "Tags": [{"Key": "team", "Value": "shop"}],
        "TransitiveTagKeys": ["team"],
    }
    assert found.aws == AwsIdentity(roles=(AssumedRole(ROLE), AssumedRole(ROLE, "ci", more)))
    assert found.cluster
    assert found.cluster.aws == found.images.aws == found.aws


def test_one_plain_role_fits_the_kubeconfig() -> None:
    found = with_roles([{"roleArn": ROLE, "sessionName": "ci", "duration": "30m"}])
    assert found.cluster
    assert found.cluster.aws.roles[0].arn == ROLE


@pytest.mark.parametrize(
    "roles", [[{"roleArn": ROLE}, {"roleArn": ROLE}], [{"roleArn": ROLE, "externalId": "x-1"}]]
)
def test_a_role_that_no_kubeconfig_can_assume_needs_a_context(roles: object) -> None:
    """`aws eks get-token` has one option for a role, and none for an external ID."""
    with pytest.raises(ArchshiftError) as error:
        with_roles(roles)
    assert str(error.value) == (
        "aws:assumeRoles: the kubeconfig that archshift makes can assume one role, without external ID, "
        "policies and tags; set archshift:kube_context to a context of yours, or set aws:profile to a "
        "profile with role_arn, source_profile and external_id"
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "",
            "aws:assumeRoles is a secret, and archshift cannot read it; write it without --secret, or set "
            "aws:profile to a profile with role_arn and external_id",
        ),
        (
            '[{"roleArn": 7}]',
            "aws:assumeRoles is invalid: Expected `str`, got `int` - at `$[0].roleArn`; write a list of "
            "roles, each with roleArn, as for the AWS provider",
        ),
        (
            '[{"roleArn": "r", "duration": "soon"}]',
            "aws:assumeRoles is invalid: the duration 'soon' is not written like 1h or 30m; write a list of "
            "roles, each with roleArn, as for the AWS provider",
        ),
    ],
    ids=["secret", "type", "duration"],
)
def test_roles_that_cannot_be_read_stop_the_run(text: str, sentence: str) -> None:
    """Without them everything would be asked for with other rights, and images would be unknown."""
    with pytest.raises(ArchshiftError) as error:
        with_roles(text)
    assert str(error.value) == sentence


def test_the_lab_has_a_cluster_of_its_own() -> None:
    """A stack is in the lab or on EKS, never half in each."""
    assert refused(platform="lab", cluster=CLUSTER) == (
        "archshift:cluster: the lab has a cluster of its own; remove the key or the platform"
    )
