"""What a Graviton twin gets from the live group of its original, and what it keeps once it exists."""

from dataclasses import replace
from typing import Any

import pytest

from archshift.common.errors import ArchshiftError
from archshift.nodes.ami_types import AMI_FAMILIES
from archshift.nodes.groups import EksNodeGroup, Taint
from archshift.nodes.launch_templates import Instances, LiveTemplate, TemplateVersion, Volume
from archshift.nodes.live_groups import LiveGroup
from archshift.nodes.twins import fill_groups
from tests.build import eks_group, live_group

THEIRS = TemplateVersion(id="lt-0theirs", version="4")
OURS = TemplateVersion(id="lt-0ours", version="1")
KEY = "arn:aws:kms:eu-west-1:1:key/k"
ROLE = "arn:aws:iam::1:role/old"
MIME = 'MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary="//"\n\n--//--\n'

LIVE: dict[str, Any] = {
    "capacity_type": "SPOT",
    "labels": {"team": "shop", "alpha.eksctl.io/nodegroup-name": "old", "archshift/node-group": "x86"},
    "taints": (
        Taint(key="spot"),
        Taint(key="archshift/retired"),
        Taint(key="archshift/amd64", effect="PreferNoSchedule"),
    ),
    "tags": {
        "Team": "shop",
        "Name": "old",
        "aws:cloudformation:stack-name": "s",
        "archshift/node-group": "x86",
    },
    "max_unavailable": "33%",
    "launch_template": THEIRS,
    "node_repair": True,
}
INSTANCES = Instances(
    security_groups=("sg-0node", "sg-0db"),
    user_data=MIME,
    hop_limit=2,
    http_tokens="optional",
    metadata_tags=True,
    monitoring=True,
    tags={
        "instance": {"Team": "shop", "Name": "old", "kubernetes.io/cluster/prod": "owned"},
        "network-interface": {"Team": "shop"},
    },
    volumes={
        "/dev/xvda": Volume(gib=80, type="gp3", iops=4000, throughput=250, kms_key=KEY),
        "/dev/xvdc": Volume(gib=10, kms_key=KEY),
    },
)
TEMPLATE = LiveTemplate(instances=INSTANCES, hop_limit=2, http_tokens="optional", user_data=MIME)


def filled(
    *,
    live: dict[str, Any] | None = None,
    template: LiveTemplate = TEMPLATE,
    there: LiveGroup | None = None,
    there_template: LiveTemplate = TEMPLATE,
    x86: dict[str, Any] | None = None,
    **twin: Any,
) -> EksNodeGroup:
    """The twin of an imported group.

    Args:
        live: What the original has at EKS.
        template: The launch template of the original.
        there: The twin itself, if it exists.
        there_template: The launch template of the twin.
        x86: What the settings say of the original.
        twin: What the settings say of the twin.
    """
    original = eks_group(
        "x86",
        "m5.large",
        import_name="old",
        live=live_group("old", **{**LIVE, **(live or {})}),
        **(x86 or {}),
    )
    graviton = eks_group(
        "graviton", "m7g.large", **{"twin_of": "x86", "live": there, "subnets": ("subnet-cluster",), **twin}
    )
    templates = {THEIRS: template, OURS: there_template}
    groups = fill_groups({"x86": original, "graviton": graviton}, lambda version, _key: templates[version])
    assert groups["x86"] == original
    return groups["graviton"]


def made(**options: Any) -> LiveGroup:
    """The twin as EKS has it after its first update."""
    return live_group(
        "graviton-2025",
        "m7g.large",
        **{
            "capacity_type": "SPOT",
            "ami_type": "AL2023_ARM_64_STANDARD",
            "taints": (Taint(key="spot"),),
            "launch_template": OURS,
            **options,
        },
    )


def test_a_twin_has_what_its_original_has() -> None:
    """Property by property; none of the values is a default of archshift."""
    twin = filled()
    assert twin.ami_type == "AL2023_ARM_64_STANDARD"
    assert twin.capacity_type == "SPOT"
    assert twin.subnets == ("subnet-z",)
    assert twin.node_role == ROLE
    assert twin.max_unavailable == "33%"
    assert twin.node_repair
    assert twin.disk_gib == 80
    assert twin.labels == {"team": "shop"}
    assert twin.taints == (Taint(key="spot"),)
    assert (twin.group_tags, twin.tags) == ({"Team": "shop"}, {})
    assert twin.instances == replace(
        INSTANCES,
        tags={"instance": {"Team": "shop"}, "network-interface": {"Team": "shop"}},
        kms_key=KEY,
    )
    assert twin.notes == ()


def test_another_version_of_kubernetes_is_said() -> None:
    """A measured difference between the sides may come from it."""
    assert filled(live={"version": "1.33"}).notes == (
        "its nodes get the version of the cluster; those of old have Kubernetes 1.33",
    )


def test_settings_go_before_what_is_there() -> None:
    """Those of the twin, key by key; labels and tags lie over those of the original."""
    own: dict[str, Any] = {
        "capacity_type": "ON_DEMAND",
        "subnets": ("subnet-mine",),
        "max_unavailable": 2,
        "disk_gib": 30,
        "node_repair": False,
        "taints": (),
    }
    typed = {"security_groups", "user_data", "hop_limit", "http_tokens", "detailed_monitoring", "kms_key"}
    mine = Instances(security_groups=("sg-0mine",), kms_key="arn:mine", hop_limit=1, http_tokens="required")
    twin = filled(
        **own,
        node_role="arn:aws:iam::1:role/mine",
        labels={"team": "web"},
        tags={"Cost": "7"},
        instances=mine,
        typed=frozenset(own) | typed,
    )
    assert {name: getattr(twin, name) for name in own} == own
    assert twin.node_role == "arn:aws:iam::1:role/mine"
    assert twin.labels == {"team": "web"}
    assert (twin.group_tags, twin.tags) == ({"Team": "shop"}, {"Cost": "7"})
    assert twin.instances == Instances(
        security_groups=("sg-0mine",),
        metadata_tags=True,
        tags={"instance": {"Team": "shop"}, "network-interface": {"Team": "shop"}},
        volumes={
            "/dev/xvda": Volume(gib=80, iops=4000, throughput=250, kms_key="arn:mine"),
            "/dev/xvdc": Volume(gib=10, kms_key="arn:mine"),
        },
        kms_key="arn:mine",
    )


def test_without_security_groups_eks_adds_its_own_in_both() -> None:
    """A template that names none means the security group of the cluster, and the twin names none."""
    plain = LiveTemplate(instances=Instances(hop_limit=2), hop_limit=2)
    assert filled(template=plain).instances.security_groups == ()


def test_a_group_without_a_template_gives_its_disk() -> None:
    """And whoever makes the twin hears that nobody knows the hop limit, and that SSH stays behind."""
    twin = filled(live={"launch_template": None, "disk_gib": 120, "remote_access": True})
    assert (twin.disk_gib, twin.instances) == (120, Instances())
    assert twin.notes == (
        "it does not get access by SSH of old",
        "the hop limit of IMDS is 1, because old has none in a launch template; set hop_limit: 2 if pods use "
        "the "
        "node's role",
    )


@pytest.mark.parametrize(
    ("live", "template", "notes"),
    [
        (
            {},
            replace(TEMPLATE, others=("KeyName", "Placement")),
            ["KeyName of the launch template", "Placement of"],
        ),
        ({}, replace(TEMPLATE, user_data=None), ["the user data of old: it is no plain text; set user_data"]),
        (
            {},
            replace(TEMPLATE, user_data="curl https://x.example/agent-linux-amd64"),
            ["the user data of old: it names x86 programs; set user_data"],
        ),
        ({"capacity_type": "CAPACITY_BLOCK"}, TEMPLATE, ["the capacity type CAPACITY_BLOCK of old"]),
        ({"others": ("warmPoolConfig",)}, TEMPLATE, ["warmPoolConfig of old"]),
    ],
)
def test_what_cannot_be_taken_over_is_named(
    live: dict[str, Any], template: LiveTemplate, notes: list[str]
) -> None:
    """One sentence each; user data for x86 never reaches an arm64 node."""
    twin = filled(live=live, template=template)
    assert len(twin.notes) == len(notes)
    for note, words in zip(twin.notes, notes, strict=True):
        assert note.startswith(f"it does not get {words}")
    if template is not TEMPLATE and template.user_data != MIME:
        assert twin.instances.user_data == ""
    assert twin.capacity_type == ("ON_DEMAND" if "capacity_type" in live else "SPOT")


IMAGES = [
    ("AL2_x86_64", "the AMI type AL2_x86_64"),
    ("AL2_x86_64_GPU", "the AMI type AL2_x86_64_GPU"),
    ("WINDOWS_CORE_2022_x86_64", "the AMI type WINDOWS_CORE_2022_x86_64"),
    ("AL2023_x86_64_NEURON", "the AMI type AL2023_x86_64_NEURON"),
    ("CUSTOM", "an AMI of its own"),
    (None, "an AMI of its own"),
]


@pytest.mark.parametrize(("ami_type", "words"), IMAGES)
def test_another_operating_system_is_a_choice_by_name(ami_type: str | None, words: str) -> None:
    """AL2, Windows and images of one's own have no match; archshift takes AL2023 only if it is told to."""
    with pytest.raises(ArchshiftError) as error:
        filled(live={"ami_type": ami_type})
    assert str(error.value) == (
        f"archshift:node_groups.graviton.ami_family is missing: 'old' has {words}, and archshift does not "
        "choose "
        "another operating system; set ami_family to AL2023 or Bottlerocket, or launch_template to one with "
        "an "
        "AMI for arm64"
    )
    chosen = filled(live={"ami_type": ami_type}, typed=frozenset({"ami_family"}))
    assert chosen.ami_type == "AL2023_ARM_64_STANDARD"


def test_another_operating_system_gets_the_size_of_the_volume_alone() -> None:
    """Devices and user data are those of the other system; security groups and the rest are not."""
    bottlerocket = AMI_FAMILIES["Bottlerocket"]["arm64"]
    image = replace(TEMPLATE, image="ami-0golden")
    twin = filled(
        live={"ami_type": "CUSTOM"},
        template=image,
        ami_type=bottlerocket,
        typed=frozenset({"ami_family"}),
    )
    assert twin.disk_gib == 80
    assert twin.instances.volumes == {"/dev/xvdb": INSTANCES.volumes["/dev/xvda"]}
    assert twin.instances.security_groups == ("sg-0node", "sg-0db")
    assert twin.instances.user_data == ""
    assert twin.notes == (
        "it does not get the AMI ami-0golden of old",
        "it does not get the volume /dev/xvdc of old",
        "it does not get the user data of old: it is for another operating system; set user_data if its "
        "nodes "
        "need it",
    )


def test_bottlerocket_keeps_both_of_its_volumes() -> None:
    volumes = {"/dev/xvda": Volume(gib=4), "/dev/xvdb": Volume(gib=200)}
    toml = "[settings.kubernetes]\nmax-pods = 58\n"
    template = LiveTemplate(instances=Instances(volumes=volumes, user_data=toml), hop_limit=1, user_data=toml)
    twin = filled(live={"ami_type": "BOTTLEROCKET_x86_64_FIPS"}, template=template)
    assert twin.ami_type == "BOTTLEROCKET_ARM_64_FIPS"
    assert (twin.disk_gib, twin.instances.volumes, twin.instances.user_data) == (200, volumes, toml)


def test_user_data_for_the_wrong_system_is_refused() -> None:
    """The settings were read before anybody knew which system the original has."""
    with pytest.raises(
        ArchshiftError, match="user_data is for AL2023, but 'old' has Bottlerocket; set ami_family"
    ):
        filled(
            live={"ami_type": "BOTTLEROCKET_x86_64"},
            typed=frozenset({"user_data"}),
            instances=Instances(user_data=MIME),
        )


def test_a_twin_that_is_there_as_it_was_made_changes_nothing() -> None:
    """The next update has the same values, and nothing to say."""
    first = filled()
    second = filled(there=made(role=ROLE, taints=(Taint(key="spot"), Taint(key="archshift/arm64"))))
    assert replace(second, live=None) == first


def test_what_only_another_group_could_change_stays_as_the_twin_has_it() -> None:
    """The owner moved the original to other subnets, to on-demand, to another role and another image."""
    twin = filled(
        live={
            "capacity_type": "ON_DEMAND",
            "subnets": ("subnet-new",),
            "role": "arn:aws:iam::1:role/new",
            "ami_type": "BOTTLEROCKET_x86_64",
        },
        there=made(),
    )
    assert (twin.capacity_type, twin.subnets, twin.node_role) == ("SPOT", ("subnet-z",), ROLE)
    assert twin.ami_type == "AL2023_ARM_64_STANDARD"
    assert set(twin.notes) >= {
        f"it keeps {key} {has}, although old has {other}; to replace the group, set {key}"
        for key, has, other in (
            ("capacity_type", "SPOT", "ON_DEMAND"),
            ("subnets", "subnet-z", "subnet-new"),
            ("node_role", ROLE, "arn:aws:iam::1:role/new"),
            ("ami_type", "AL2023_ARM_64_STANDARD", "BOTTLEROCKET_ARM_64"),
        )
    }


def test_settings_may_still_replace_a_twin() -> None:
    twin = filled(there=made(), capacity_type="ON_DEMAND", typed=frozenset({"capacity_type"}))
    assert twin.capacity_type == "ON_DEMAND"
    assert twin.notes == ()


def test_subnets_in_another_order_are_the_same() -> None:
    twin = filled(live={"subnets": ("subnet-a", "subnet-b")}, there=made(subnets=("subnet-b", "subnet-a")))
    assert twin.notes == ()


def test_a_taint_that_empties_x86_never_closes_graviton() -> None:
    """Its owner sets it on the original to move pods away; the twin had it from the beginning, or never."""
    hard = Taint(key="maintenance", value="true")
    soft = Taint(key="prefer-other", effect="PreferNoSchedule")
    twin = filled(live={"taints": (Taint(key="spot"), hard, soft)}, there=made())
    assert twin.taints == (Taint(key="spot"), soft)
    assert twin.notes == (
        "it does not get the new taint maintenance (NoSchedule) of old; to have it, set taints",
    )
    typed = filled(
        live={"taints": (Taint(key="spot"), hard)},
        there=made(),
        taints=(hard,),
        typed=frozenset({"taints"}),
    )
    assert typed.taints == (hard,)


def test_what_changes_with_the_original_is_said() -> None:
    """A new version of the twin's own template replaces nodes, not the group; nobody is surprised."""
    twin = filled(
        template=replace(TEMPLATE, instances=replace(INSTANCES, security_groups=("sg-0new",))),
        there=made(role=ROLE),
    )
    assert twin.instances.security_groups == ("sg-0new",)
    assert twin.notes == (
        "its security_groups changes from sg-0node, sg-0db to sg-0new, as old has it; EKS replaces its nodes "
        "one "
        "after another, unless you set security_groups",
    )


def test_a_template_of_ones_own_takes_the_place_of_all_that_is_in_one() -> None:
    """The image in it is for arm64; EKS finds out its AMI type itself."""
    own = LiveTemplate(image="ami-0arm", instances=Instances(security_groups=("sg-0own",)))
    twin = filled(
        live={"ami_type": "CUSTOM"},
        there_template=own,
        launch_template=OURS,
        typed=frozenset({"launch_template"}),
    )
    assert (twin.ami_type, twin.launch_template, twin.instances) == ("CUSTOM", OURS, Instances())
    assert (twin.capacity_type, twin.labels, twin.node_role) == ("SPOT", {"team": "shop"}, ROLE)
    assert twin.notes == ()


@pytest.mark.parametrize(
    ("template", "typed", "message"),
    [
        (
            LiveTemplate(names_types=True),
            set(),
            "archshift:node_groups.graviton.launch_template: the template names an instance type; remove it "
            "there; "
            "archshift:node_groups.graviton names them",
        ),
        (
            LiveTemplate(image="ami-0arm"),
            {"ami_family"},
            "archshift:node_groups.graviton.ami_family: the launch template names the AMI; remove ami_family",
        ),
    ],
)
def test_a_template_that_contradicts_the_settings_is_refused(
    template: LiveTemplate, typed: set[str], message: str
) -> None:
    """EKS would say so after the preview."""
    with pytest.raises(ArchshiftError) as error:
        filled(there_template=template, launch_template=OURS, typed=frozenset({"launch_template", *typed}))
    assert str(error.value) == message


def test_the_twin_of_a_group_with_a_template_of_ones_own_is_filled_from_it() -> None:
    """archshift makes the original; what its template says is known all the same."""
    original = eks_group("x86", "m5.large", launch_template=THEIRS)
    graviton = eks_group("graviton", "m7g.large", twin_of="x86")
    groups = fill_groups({"x86": original, "graviton": graviton}, lambda _version, _key: TEMPLATE)
    assert groups["graviton"].instances.security_groups == ("sg-0node", "sg-0db")
    assert groups["graviton"].disk_gib == 80


@pytest.mark.parametrize("twin_of", ["x86", ""], ids=["twin", "without its original"])
def test_a_group_that_was_a_twin_keeps_everything(twin_of: str) -> None:
    """In the last step of a migration the x86 group leaves the settings; its twin must not be replaced."""
    there = made(
        role=ROLE,
        max_unavailable="33%",
        node_repair=True,
        labels={"team": "shop", "pool": "main", "archshift/node-group": "graviton", "architecture": "arm64"},
        tags={"Team": "shop", "archshift/node-group": "graviton", "archshift/twin-of": "x86"},
    )
    x86 = {"labels": {"pool": "main"}}
    labels = {"pool": "main"} if twin_of else {}
    twin = filled(there=there, x86=x86, twin_of=twin_of, labels=labels)
    assert twin.original == "x86"
    assert twin.notes == ()
    assert replace(twin, live=None, source=None, twin_of="") == replace(
        filled(labels={"pool": "main"}), source=None, twin_of=""
    )


def test_a_twin_of_a_group_that_archshift_makes_follows_the_settings() -> None:
    """There is no other owner, so there is nothing to fill."""
    groups = {"x86": eks_group("x86", "m5.large"), "graviton": eks_group("graviton", twin_of="x86")}
    assert fill_groups(groups, lambda _version, _key: TEMPLATE) == groups
