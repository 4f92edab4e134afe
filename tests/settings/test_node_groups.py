"""The settings of an EKS cluster and its node groups, and every sentence about a value that does not do."""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from archshift.common.aws import AssumedRole, AwsIdentity
from archshift.common.errors import ArchshiftError
from archshift.nodes.eks import EksCluster, NewCluster
from archshift.nodes.groups import RETIRED, EksNodeGroup, Taint
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.nodes.launch_templates import Instances, LiveTemplate, TemplateVersion
from archshift.nodes.live_groups import LiveGroup
from archshift.settings import stack as stack_settings
from tests.build import configuration, live_group, refusal

OLD = live_group(
    "general",
    "m5.xlarge",
    "m5a.xlarge",
    size=22,
    min_size=3,
    max_size=30,
    capacity_type="SPOT",
    disk_gib=80,
    max_unavailable="33%",
    labels={"team": "shop"},
    taints=(Taint(key="spot", value="true"),),
)
AUTOSCALED = {"name": "prod", "autoscaler": "cluster-autoscaler"}

SUBNETS = ["subnet-0a", "subnet-0b"]
CLUSTER = {"name": "prod", "subnets": SUBNETS}
X86 = {"instance_types": ["t3.xlarge"], "desired_size": 5}
ROLE = "arn:aws:iam::123456789012:role/nodes"


def load(live: Mapping[str, LiveGroup] | None = None, **values: Any) -> stack_settings.Settings:
    """Load a configuration as the engine passes it; ``live`` is what EKS has, None if nobody asks."""
    values.setdefault("arm_ratio", "0.2")
    values.setdefault("cluster", CLUSTER)
    describe = None if live is None else lambda *_asked: live
    return stack_settings.load("prod", configuration(**values), describe=describe)


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
            twin_of="x86",
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
        twin_of="x86",
    )


TEMPLATED: dict[str, Any] = {
    "security_groups": ["sg-0a", "sg-0b"],
    "tags": {"Team": "shop"},
    "node_role": ROLE,
    "hop_limit": 2,
    "http_tokens": "optional",
    "kms_key": "arn:aws:kms:eu-west-1:123456789012:key/k",
    "user_data": "[settings.kubernetes]\nmax-pods = 58\n",
    "detailed_monitoring": True,
    "node_repair": True,
}


def test_what_a_launch_template_holds_gets_its_shape_and_its_twin() -> None:
    """Of a group that archshift makes; the twin takes it over key by key."""
    x86 = {**X86, **TEMPLATED, "ami_family": "Bottlerocket"}
    twin = {"twin_of": "x86", "desired_size": 1, "tags": {"Team": "web"}, "hop_limit": 1}
    found = load(node_groups={"x86": x86, "graviton": twin}).eks_node_groups
    instances = Instances(
        security_groups=("sg-0a", "sg-0b"),
        user_data="[settings.kubernetes]\nmax-pods = 58\n",
        hop_limit=2,
        http_tokens="optional",
        monitoring=True,
        kms_key="arn:aws:kms:eu-west-1:123456789012:key/k",
    )
    group = found["x86"]
    assert (group.instances, group.tags, group.node_role, group.node_repair) == (
        instances,
        {"Team": "shop"},
        ROLE,
        True,
    )
    group = found["graviton"]
    assert (group.instances, group.tags, group.node_role, group.node_repair) == (
        replace(instances, hop_limit=1),
        {"Team": "web"},
        ROLE,
        True,
    )


def test_the_role_of_the_cluster_is_that_of_its_groups() -> None:
    other = "arn:aws:iam::123456789012:role/other"
    groups = {"x86": X86, "own": {**X86, "node_role": other}}
    found = load(cluster={**CLUSTER, "node_role": ROLE}, node_groups=groups).eks_node_groups
    assert (found["x86"].node_role, found["own"].node_role) == (ROLE, other)


def test_a_launch_template_is_a_number_of_a_version() -> None:
    own = {**X86, "launch_template": {"id": "lt-0a", "version": 3}, "ami_family": "Bottlerocket"}
    found = load(node_groups={"g": own}).eks_node_groups["g"]
    assert found.launch_template == TemplateVersion(id="lt-0a", version="3")


def test_the_default_tags_of_the_provider_are_known() -> None:
    """Instances and volumes do not get them from the provider."""
    values = configuration(arm_ratio="0.2", cluster=CLUSTER)
    tags = {"aws:defaultTags": json.dumps({"tags": {"Owner": "platform"}})}
    found = stack_settings.load("prod", {**values, **tags}).cluster
    assert found
    assert found.default_tags == {"Owner": "platform"}


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


def x86_of(live: LiveGroup, cluster: Mapping[str, Any] | None = None, **own: Any) -> EksNodeGroup:
    """The group ``x86`` that imports the live one."""
    cluster = cluster or {"name": "prod"}
    groups = {"x86": {"import": live.name, **own}}
    return load({"x86": live}, cluster=cluster, node_groups=groups).eks_node_groups["x86"]


def test_an_import_takes_the_group_as_it_is() -> None:
    """Its name is enough: the rest is what EKS says."""
    assert x86_of(OLD) == EksNodeGroup(
        name="x86",
        stack="prod",
        instance_types=(INSTANCE_TYPES["m5.xlarge"], INSTANCE_TYPES["m5a.xlarge"]),
        min_size=3,
        desired_size=22,
        max_size=30,
        subnets=("subnet-z",),
        ami_type="AL2023_x86_64_STANDARD",
        capacity_type="SPOT",
        disk_gib=80,
        labels={"team": "shop"},
        taints=(Taint(key="spot", value="true"),),
        max_unavailable="33%",
        import_name="general",
        live=OLD,
    )


@pytest.mark.parametrize("ami", ["AL2_x86_64", "CUSTOM", "WINDOWS_CORE_2022_x86_64"])
def test_any_image_can_be_imported(ami: str) -> None:
    """Also one that archshift would not choose."""
    assert x86_of(replace(OLD, ami_type=ami)).ami_type == ami


def test_settings_of_an_import_lie_over_what_is_there() -> None:
    """Labels and taints beside the group's own; the same key wins."""
    found = x86_of(
        OLD,
        max_size=40,
        max_unavailable=2,
        labels={"pool": "main", "team": "web"},
        taints=[{"key": "spot"}, {"key": "spot", "effect": "NoExecute"}],
    )
    assert (found.min_size, found.desired_size, found.max_size, found.max_unavailable) == (3, 22, 40, 2)
    assert found.labels == {"team": "web", "pool": "main"}
    assert found.taints == (Taint(key="spot"), Taint(key="spot", effect="NoExecute"))


def test_what_leaves_the_settings_leaves_the_group_and_the_former_value_comes_back() -> None:
    """Tags on the group remember what the settings changed; also the taint of a retired group goes."""
    typed: dict[str, Any] = {
        "labels": {"pool": "main", "team": "web"},
        "taints": [{"key": "spot"}, {"key": "batch"}],
    }
    first = x86_of(OLD, retired=True, **typed)
    assert RETIRED in first.taints
    live = replace(
        OLD,
        labels=first.node_labels,
        taints=first.node_taints,
        tags={"archshift/node-group": "x86", **OLD.marks(first.node_labels, first.taints)},
    )
    again = x86_of(live, retired=True, **typed)
    assert (again.labels, again.taints) == (first.labels, first.taints)
    assert live.marks(again.node_labels, again.taints) == OLD.marks(first.node_labels, first.taints)
    later = x86_of(live)
    assert (later.labels, later.taints) == (dict(OLD.labels), OLD.taints)


def test_a_twin_never_inherits_that_its_original_is_retired() -> None:
    """Or every new pod would find no node."""
    groups = {
        "x86": {"import": "general", "retired": True, "taints": [{"key": "batch"}]},
        "graviton": {"twin_of": "x86", "desired_size": 1},
    }
    live = replace(OLD, taints=(*OLD.taints, RETIRED))
    found = load({"x86": live}, node_groups=groups).eks_node_groups
    assert RETIRED in found["x86"].taints
    assert found["graviton"].taints == (*OLD.taints, Taint(key="batch"))


@pytest.mark.parametrize(
    ("live", "limits", "desired"),
    [
        (9, {"min_size": 2, "max_size": 12}, 9),
        (9, {"min_size": 2, "max_size": 7}, 7),
        (2, {"min_size": 5, "max_size": 9}, 5),
        (0, {"min_size": 2, "desired_size": 4, "max_size": 9}, 2),
        (4, {"min_size": 0, "desired_size": 0, "max_size": 9, "retired": True}, 4),
    ],
)
def test_with_an_autoscaler_a_group_keeps_its_size_within_the_limits(
    live: int, limits: dict[str, Any], desired: int
) -> None:
    """EKS takes all three numbers at once; a stale one would take nodes away, or be refused."""
    there = live_group("general", "t3.xlarge", size=live, min_size=0)
    assert x86_of(there, AUTOSCALED, **limits).desired_size == desired
    own = {"instance_types": ["t3.xlarge"], **limits}
    made = replace(there, name="x86-2026")
    cluster = {**AUTOSCALED, "subnets": SUBNETS}
    found = load({"x86": made}, cluster=cluster, node_groups={"x86": own}).eks_node_groups["x86"]
    assert found.desired_size == desired


def test_without_an_autoscaler_the_settings_have_the_size() -> None:
    """Back from nothing, too; only what is left out follows."""
    empty = live_group("general", "t3.xlarge", size=0, min_size=0)
    assert x86_of(empty, min_size=2, desired_size=5, max_size=8).desired_size == 5
    assert x86_of(empty, min_size=2).desired_size == 2


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            {"instance_types": ["m5.large"]},
            "instance_types: m5.large is not what the live group 'general' has; write m5.xlarge, m5a.xlarge",
        ),
        (
            {"capacity_type": "ON_DEMAND"},
            "capacity_type: ON_DEMAND is not what the live group 'general' has; write SPOT",
        ),
        ({"disk_gib": 50}, "disk_gib: 50 is not what the live group 'general' has; write 80"),
        (
            {"subnets": ["subnet-0a"]},
            "subnets: subnet-0a is not what the live group 'general' has; write subnet-z",
        ),
        (
            {"ami_family": "Bottlerocket"},
            "ami_family: Bottlerocket is not what the live group 'general' has: AL2023_x86_64_STANDARD; "
            "remove the key",
        ),
    ],
)
def test_an_import_cannot_be_configured_to_what_would_replace_it(own: dict[str, Any], message: str) -> None:
    """Such a setting would stay wrong, and the guard would count the wrong nodes."""
    groups = {"x86": {"import": "general", **own}}
    assert refused(live={"x86": OLD}, node_groups=groups) == f"archshift:node_groups.x86.{message}"


@pytest.mark.parametrize(
    ("live", "own", "message"),
    [
        (
            {"instance_types": None},
            {},
            "archshift:node_groups.x86.instance_types is missing: neither EKS nor a launch template names "
            "the types of the live group 'general'; write the types of its nodes",
        ),
        (
            {},
            {"twin_of": "other"},
            "archshift:node_groups.x86.twin_of: an imported group keeps the instance types that it has; "
            "remove twin_of or import",
        ),
        (
            {"instance_types": None, "ami_type": "AL2023_ARM_64_STANDARD"},
            {"instance_types": ["m5.large"]},
            "archshift:node_groups.x86.instance_types: m5.large is amd64, but the live group 'general' has "
            "the AMI type AL2023_ARM_64_STANDARD; write the instance types of its launch template",
        ),
        (
            {},
            {"desired_size": 0},
            "archshift:node_groups.x86: min_size 3, desired_size 0 and max_size 30 are not in that order; "
            "raise or lower one of them",
        ),
    ],
)
def test_an_import_that_does_not_fit_is_refused(
    live: dict[str, Any], own: dict[str, Any], message: str
) -> None:
    """Settings that say another architecture than the group has would fool the guard."""
    groups = {"x86": {"import": "general", **own}}
    assert refused(live={"x86": replace(OLD, **live)}, node_groups=groups) == message


def test_types_that_only_a_launch_template_names_need_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its twin follows them. Other types in the settings are refused, because the guard would count them."""
    template = LiveTemplate(image="ami-0golden", names_types=True, instance_type="m5.xlarge")
    monkeypatch.setattr(stack_settings, "read_template", lambda _cluster, _version, _key: template)
    live = replace(
        OLD,
        instance_types=None,
        ami_type="CUSTOM",
        launch_template=TemplateVersion(id="lt-1", version="3"),
    )
    groups: dict[str, dict[str, Any]] = {
        "x86": {"import": "general"},
        "graviton": {"twin_of": "x86", "desired_size": 1, "ami_family": "AL2023"},
    }
    found = load({"x86": live}, node_groups=groups).eks_node_groups
    assert [kind.name for kind in found["x86"].instance_types] == ["m5.xlarge"]
    assert {kind.architecture for kind in found["graviton"].instance_types} == {"arm64"}
    groups["x86"]["instance_types"] = ["m5.large"]
    assert refused(live={"x86": live}, node_groups=groups) == (
        "archshift:node_groups.x86.instance_types: m5.large is not what the live group 'general' has; write "
        "m5.xlarge"
    )


def test_a_command_that_does_not_look_at_nodes_needs_no_aws() -> None:
    """It leaves out what only EKS knows."""
    groups = {
        "x86": {"import": "general"},
        "graviton": {"twin_of": "x86", "desired_size": 1},
        "whole": {**X86, "import": "old"},
    }
    assert load(node_groups=groups).eks_node_groups.keys() == {"whole"}


G = "archshift:node_groups.g"
MAP = "is invalid; use a map, written as YAML below the key"
NODES = "is invalid; use a whole number of nodes"
SHARE = 'is invalid; use 1 to 100 nodes, or a share of them such as "33%"'


@pytest.mark.parametrize("twin_of", [["x86"], {"x86": None}, 5])
def test_a_name_that_is_no_text_is_refused_beside_an_import_too(twin_of: Any) -> None:
    """Commands that do not look at nodes leave the import and its twins out."""
    groups = {"x86": {"import": "general"}, "graviton": {"twin_of": twin_of, "max_size": 3}}
    assert refused(node_groups=groups, cluster=CLUSTER).startswith("archshift:node_groups.graviton.twin_of: ")


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
        (
            {**X86, "labels": {"archshift/node-group": "mine"}},
            f"{G}.labels.archshift/node-group: only archshift sets labels that begin with archshift/; "
            "remove the label",
        ),
        (
            {**X86, "taints": [{"key": "archshift/retired"}]},
            f"{G}.taints: only archshift sets taints that begin with archshift/, such as archshift/retired; "
            "set retired: true instead of the taint",
        ),
        (
            {**X86, "release": True},
            f"{G}.release: archshift made this group, and can only hand back a group that it imported; "
            "remove the key",
        ),
        (
            {**X86, "labels": {"node-role.kubernetes.io/web": "yes"}},
            f"{G}.labels.node-role.kubernetes.io/web: EKS refuses labels with this prefix; use a prefix of "
            "your "
            "own",
        ),
        (
            {**X86, "labels": {"team": ""}},
            f"{G}.labels.team: '' is an invalid value for EKS; use 1 to 63 letters, digits, -, _ and .",
        ),
        (
            {**X86, "labels": {"a" * 64: "b"}},
            f"{G}.labels.{'a' * 64}: '{'a' * 64}' is an invalid key for EKS; use 1 to 63 letters, digits, -, "
            "_ "
            "and .",
        ),
        (
            {**X86, "taints": [{"key": "a" * 64}]},
            f"{G}.taints: '{'a' * 64}' is invalid for EKS; use a key and a value of up to 63 characters",
        ),
        (
            {**X86, "security_groups": ["default"]},
            f"{G}.security_groups[0]: 'default' is invalid; use the ID of a security group such as "
            "sg-0a1b2c3d",
        ),
        (
            {**X86, "security_groups": []},
            f"{G}.security_groups: [] is invalid; use a list of 1 to 16 IDs of security groups",
        ),
        (
            {**X86, "tags": {"aws:team": "shop"}},
            f"{G}.tags: 'aws:team' is invalid; use a key of 1 to 128 characters that does not begin with "
            "aws:",
        ),
        (
            {**X86, "tags": {"Team": "x" * 257}},
            f"{G}.tags.Team: '{'x' * 97}...{'x' * 98}' is invalid; use text in quotes of up to 256 "
            "characters",
        ),
        ({**X86, "hop_limit": 65}, f"{G}.hop_limit: 65 is invalid; use a whole number of hops from 1 to 64"),
        ({**X86, "http_tokens": "v2"}, f"{G}.http_tokens: 'v2' is invalid; use required or optional"),
        (
            {**X86, "kms_key": "alias/ebs"},
            f"{G}.kms_key: 'alias/ebs' is invalid; use an ARN such as "
            "arn:aws:kms:eu-west-1:123456789012:key/k",
        ),
        (
            {**X86, "node_role": "nodes"},
            f"{G}.node_role: 'nodes' is invalid; use an ARN such as arn:aws:iam::123456789012:role/name",
        ),
        (
            {**X86, "user_data": "yum install -y htop"},
            f"{G}.user_data is invalid; use for AL2023 a NodeConfig (apiVersion: node.eks.aws/v1alpha1), a "
            "script that begins with #!, or a MIME multi-part text",
        ),
        (
            {**X86, "launch_template": {"id": "lt-0a", "version": "$Latest"}},
            f"{G}.launch_template.version: '$Latest' is invalid; use a number, because what $Latest and "
            "$Default mean changes without an update",
        ),
        (
            {**X86, "launch_template": {"id": "general", "version": 1}},
            f"{G}.launch_template.id: 'general' is invalid; use the ID of a launch template such as "
            "lt-0a1b2c3d",
        ),
        *(
            (
                {**X86, "launch_template": {"id": "lt-0a", "version": 1}, key: value},
                f"{G}.{key}: the launch template decides it; remove {key} or launch_template",
            )
            for key, value in {**TEMPLATED, "disk_gib": 30}.items()
            if key not in ("tags", "node_role", "node_repair")
        ),
        *(
            (
                {**X86, "import": "old", key: value},
                f"{G}.{key}: archshift does not change it on an existing group; remove {key} or import",
            )
            for key, value in {**TEMPLATED, "launch_template": {"id": "lt-0a", "version": 1}}.items()
            if key != "user_data"
        ),
        ({**X86, "import": ""}, f"{G}.import: '' is invalid; use the name of an existing node group"),
        (
            {**X86, "size": 5},
            f"{G}.size is not a setting; there are: ami_family, ami_type, capacity_type, desired_size, "
            "detailed_monitoring, disk_gib, hop_limit, http_tokens, import, instance_types, kms_key, "
            "labels, launch_template, max_size, max_unavailable, min_size, node_repair, node_role, "
            "provisioner, release, release_version, retired, security_groups, subnets, tags, taints, "
            "twin_of, user_data, version",
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


def test_a_version_is_that_of_a_group_that_archshift_makes() -> None:
    """A twin does not take it, an import keeps its own, and EKS never goes back to an older one."""
    old = {**X86, "version": "1.9", "release_version": "1.9.1-20251112"}
    found = load(node_groups={"x86": old, "graviton": {"twin_of": "x86", "desired_size": 1}})
    x86, graviton = found.eks_node_groups["x86"], found.eks_node_groups["graviton"]
    assert (x86.version, x86.release_version) == ("1.9", "1.9.1-20251112")
    assert (graviton.version, graviton.release_version) == ("", "")
    for key, value in (("version", "1.34"), ("release_version", "1.34.1-20251112")):
        assert refused(live={"g": OLD}, node_groups={"g": {"import": "general", key: value}}) == (
            f"{G}.{key}: archshift does not change it on an existing group; remove {key} or import"
        )
    live = {"g": live_group("g-1", "t3.xlarge", version="1.10")}
    assert refused(live=live, node_groups={"g": old}) == (
        f'{G}.version: 1.9 is older than 1.10, which the group has; write "1.10" or remove the key, because '
        "EKS never goes back to an older version"
    )


def test_user_data_that_names_x86_programs_is_not_for_the_twin() -> None:
    """The one value of an original that archshift cannot translate."""
    x86 = {**X86, "user_data": "#!/bin/sh\ncurl https://x.example/agent-linux-amd64\n"}
    assert refused(node_groups={"x86": x86, "g": {"twin_of": "x86", "desired_size": 1}}) == (
        f"{G}.user_data is missing: that of 'x86' names x86 programs; add user_data for arm64"
    )


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


DEPLOY = "arn:aws:iam::123456789012:role/deploy"


def test_the_roles_of_the_aws_provider_reach_everything_that_asks_aws() -> None:
    """With all that the provider may say of a role, in the words of STS."""
    role = {
        "roleArn": DEPLOY,
        "sessionName": "ci",
        "externalId": "x-1",
        "duration": "1h30m",
        "policy": "{}",
        "policyArns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
        "sourceIdentity": "me",
        "tags": {"team": "shop"},
        "transitiveTagKeys": ["team"],
    }
    found = with_roles([{"roleArn": DEPLOY}, role], **{"archshift:kube_context": "prod"})
    more = {
        "ExternalId": "x-1",
        "DurationSeconds": 5400,
        "Policy": "{}",
        "PolicyArns": [{"arn": "arn:aws:iam::aws:policy/ReadOnlyAccess"}],
        "SourceIdentity": "me",
        "Tags": [{"Key": "team", "Value": "shop"}],
        "TransitiveTagKeys": ["team"],
    }
    assert found.aws == AwsIdentity(roles=(AssumedRole(DEPLOY), AssumedRole(DEPLOY, "ci", more)))
    assert found.cluster
    assert found.cluster.aws == found.images.aws == found.aws


def test_one_plain_role_fits_the_kubeconfig() -> None:
    found = with_roles([{"roleArn": DEPLOY, "sessionName": "ci", "duration": "30m"}])
    assert found.cluster
    assert found.cluster.aws.roles[0].arn == DEPLOY


@pytest.mark.parametrize(
    "roles", [[{"roleArn": DEPLOY}, {"roleArn": DEPLOY}], [{"roleArn": DEPLOY, "externalId": "x-1"}]]
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
