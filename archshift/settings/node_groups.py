"""``archshift:node_groups``: the lab's groups and the managed groups of EKS, and how twins are chosen.

NodePools, which the same key holds with a provisioner, are in ``node_pools``.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from msgspec import Meta, field

from archshift.common.architectures import AMD64
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL, OURS
from archshift.nodes.ami_types import AMI_FAMILIES, AMI_TYPES, AmiFamily, check_ami_type, on_arm64
from archshift.nodes.eks import EksCluster
from archshift.nodes.groups import (
    RETIRED,
    EksNodeGroup,
    NodeGroup,
    Taint,
    one_architecture,
)
from archshift.nodes.instance_types import InstanceType, family_types, instance_type, twin
from archshift.nodes.launch_templates import Instances, TemplateVersion
from archshift.nodes.live_groups import LiveGroup
from archshift.nodes.node_pools import Provisioner
from archshift.nodes.user_data import as_user_data, names_amd64
from archshift.settings.reading import InvalidValueError, Model, Problems, default_of, read, says, shown, use
from archshift.settings.values import Arn, Name, Names, SecurityGroups, Subnets, Tags, Text, Zones

KEY: Final = "archshift:node_groups"

# The valid names of a group. The names of its nodes begin with it.
_NODE_NAME: Final = r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?"

GROUP_NAME: Final = Meta(
    pattern=rf"\A{_NODE_NAME}\Z", extra=use("a name for nodes: up to 52 lower-case letters, digits and -")
)


class TaintModel(Model, frozen=True, kw_only=True):
    """A taint of every node."""

    key: Annotated[str, Meta(min_length=1), says("The key of the taint.", "batch")]
    value: Annotated[str, says("The value of the taint.", "true", default="none")] = default_of(
        Taint, "value"
    )
    effect: Annotated[
        Literal["NoSchedule", "PreferNoSchedule", "NoExecute"], says("The effect of the taint.", "NoExecute")
    ] = default_of(Taint, "effect")


class GroupModel(Model, frozen=True, kw_only=True):
    """What all kinds of node groups have.

    Attributes:
        names: How a group may be called.
    """

    names: ClassVar[Meta] = GROUP_NAME

    provisioner: Annotated[
        Provisioner | None,
        says(
            "What brings up the nodes of this group, where it is not what `archshift:provisioner` says.",
            "managed",
            default="`archshift:provisioner`",
        ),
    ] = None
    labels: Annotated[
        dict[str, Annotated[str, Meta(extra=use('text in quotes, as in "true"'))]],
        says("Labels of every node.", {"team": "shop"}),
    ] = {}
    taints: Annotated[
        tuple[TaintModel, ...], says("Taints of every node.", [{"key": "batch"}], default="none")
    ] = ()

    def __post_init__(self) -> None:
        if ARCH_LABEL in self.labels:
            raise InvalidValueError(
                f"labels.{ARCH_LABEL}", "the architecture follows from the instance types", "remove the label"
            )
        for key in self.labels:
            if key.startswith(OURS):
                raise InvalidValueError(
                    f"labels.{key}", f"only archshift sets labels that begin with {OURS}", "remove the label"
                )
        for taint in self.taints:
            if taint.key.startswith(OURS):
                way_out = (
                    "set retired: true instead of the taint"
                    if taint.key == RETIRED.key and "retired" in self.__struct_fields__
                    else "remove the taint"
                )
                raise InvalidValueError(
                    "taints",
                    f"only archshift sets taints that begin with {OURS}, such as {taint.key}",
                    way_out,
                )

    def node_taints(self) -> tuple[Taint, ...]:
        """Return the taints of every node."""
        return tuple(Taint(key=taint.key, value=taint.value, effect=taint.effect) for taint in self.taints)


class TwinnedModel(GroupModel, frozen=True, kw_only=True):
    """A group that may be the Graviton twin of another.

    Attributes:
        twin_takes: The keys that a twin takes from its original, unless it sets them itself.
        names_machines_by: The keys that choose machines, which a twin must not have.
        ways_to_name_types: The keys that may name the types, for an error.
    """

    twin_takes: ClassVar[tuple[str, ...]]
    names_machines_by: ClassVar[tuple[str, ...]] = ("instance_types",)
    ways_to_name_types: ClassVar[str] = "instance_types or twin_of"

    instance_types: Annotated[
        Names,
        says(
            "The instance types, all of one architecture; without them, `twin_of` chooses.",
            ["m7g.xlarge"],
            default="none; of an imported group the types that it has",
        ),
    ] = ()
    twin_of: Annotated[
        Name | None,
        Meta(extra=use("the name of another node group")),
        says(
            "The group whose twin this is. archshift chooses Graviton types of the same vCPU and memory. It "
            "copies the other settings that the twin does not set, except the sizes and `import`. "
            "A managed group also gets what EKS says of its original.",
            "x86",
            default="none",
        ),
    ] = None

    def named_families(self) -> tuple[str, ...]:
        """Return the families whose types the group has, beside ``instance_types``."""
        return ()


class LabGroupModel(GroupModel, frozen=True, kw_only=True):
    """With `platform: lab`: a group of simulated nodes."""

    instance_type: Annotated[
        str, Meta(extra=use("an instance type")), says("The type of every node.", "m7g.xlarge")
    ]
    size: Annotated[int, Meta(ge=0, extra={"unit": "nodes"}), says("The number of nodes.", 3)]
    zones: Annotated[
        Zones,
        says("The availability zones. archshift spreads the nodes over them.", ["eu-west-1a", "eu-west-1b"]),
    ] = ("a",)


class TemplateModel(Model, frozen=True, kw_only=True):
    """A version of a launch template of your own."""

    id: Annotated[
        str,
        Meta(pattern=r"\Alt-", extra=use("the ID of a launch template such as lt-0a1b2c3d")),
        says("The ID of the launch template.", "lt-0a1b2c3d"),
    ]
    version: Annotated[
        Annotated[int, Meta(ge=1)],
        Meta(extra=use("a number, because what $Latest and $Default mean changes without an update")),
        says("The number of its version.", 3),
    ]


# Kubernetes' rules for labels. EKS also wants a value, and refuses the prefixes that belong to others
# (https://github.com/eksctl-io/eksctl/issues/4007).
_LABEL_NAME: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_LABEL_KEY: Final = re.compile(rf"([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?{_LABEL_NAME}")
_LABEL_VALUE: Final = re.compile(_LABEL_NAME)
_RESERVED: Final = re.compile(r"([^/]*\.)?(kubernetes\.io|k8s\.io|eks\.amazonaws\.com)/")

_OF_TEMPLATES: Final = (
    "security_groups",
    "hop_limit",
    "http_tokens",
    "kms_key",
    "user_data",
    "detailed_monitoring",
)
"""The keys whose values only a launch template of archshift's own can have."""


class EksGroupModel(TwinnedModel, frozen=True, kw_only=True):
    """With `platform: eks`: a managed node group of the cluster."""

    # EKS's limit is 63, and a suffix of 26 keeps a group apart from the one that replaces it.
    names: ClassVar = Meta(
        pattern=rf"\A(?=.{{1,36}}\Z){_NODE_NAME}\Z",
        extra=use("a name for a node group: up to 36 lower-case letters, digits and -"),
    )
    twin_takes: ClassVar = (
        "ami_family",
        "ami_type",
        "capacity_type",
        "detailed_monitoring",
        "disk_gib",
        "hop_limit",
        "http_tokens",
        "kms_key",
        "labels",
        "max_unavailable",
        "node_repair",
        "node_role",
        "security_groups",
        "subnets",
        "tags",
        "taints",
        "user_data",
    )

    min_size: Annotated[
        Annotated[int, Meta(ge=0, extra={"unit": "nodes"})] | None,
        says("The fewest nodes.", 2, default="`desired_size`; of an imported group the number that it has"),
    ] = None
    desired_size: Annotated[
        Annotated[int, Meta(ge=0, extra={"unit": "nodes"})] | None,
        says(
            "The number of nodes; with an autoscaler, the number at the beginning.",
            5,
            default="`min_size`; of an imported group the number that it has",
        ),
    ] = None
    max_size: Annotated[
        Annotated[int, Meta(ge=1, extra={"unit": "nodes"})] | None,
        says(
            "The most nodes.",
            8,
            default="`desired_size`, at least 1; of an imported group the number that it has",
        ),
    ] = None
    subnets: Annotated[
        Subnets | None,
        says("The subnets of the nodes.", ["subnet-0a1b2c3d"], default="the subnets of the cluster"),
    ] = None
    capacity_type: Annotated[Literal["ON_DEMAND", "SPOT"], says("How the nodes are bought.", "SPOT")] = (
        default_of(EksNodeGroup, "capacity_type")
    )
    ami_family: Annotated[AmiFamily, says("The operating system of the nodes.", "Bottlerocket")] = "AL2023"
    ami_type: Annotated[
        Name | None,
        Meta(extra=use("an AMI type")),
        says(
            "The AMI type of EKS, where the standard image of `ami_family` is the wrong one.",
            "BOTTLEROCKET_x86_64_FIPS",
            default="the standard image",
        ),
    ] = None
    disk_gib: Annotated[int, Meta(ge=1, extra={"unit": "GiB"}), says("The size of the root volume.", 100)] = (
        default_of(EksNodeGroup, "disk_gib")
    )
    max_unavailable: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | Annotated[str, Meta(pattern=r"\A(100|[1-9]\d?)%\Z")],
        Meta(extra=use('1 to 100 nodes, or a share of them such as "33%"')),
        says("How many nodes an update may replace at once.", "33%"),
    ] = default_of(EksNodeGroup, "max_unavailable")
    version: Annotated[
        Annotated[str, Meta(pattern=r"\A1\.\d{1,3}\Z")] | None,
        Meta(extra=use('a Kubernetes version in quotes, such as "1.34"')),
        says(
            "The Kubernetes version of the nodes. EKS replaces them one after another for a newer one, and "
            "never goes back.",
            "1.34",
            default="that of the cluster when the group is made; later it stays",
        ),
    ] = None
    release_version: Annotated[
        Name | None,
        Meta(extra=use("a release of the AMI such as 1.34.1-20251112")),
        says(
            "The release of EKS's AMI.",
            "1.34.1-20251112",
            default="the newest when the group is made; later it stays",
        ),
    ] = None
    node_role: Annotated[
        Arn | None,
        says(
            "The ARN of the IAM role of the nodes.",
            "arn:aws:iam::123456789012:role/nodes",
            default="the `node_role` of the cluster",
        ),
    ] = None
    tags: Annotated[
        Tags,
        says(
            "Tags of the group, its instances and its volumes. They come in addition to `aws:defaultTags`.",
            {"team": "shop"},
            default="none",
        ),
    ] = {}
    security_groups: Annotated[
        SecurityGroups | None,
        says(
            "The security groups of the nodes. With them, EKS does not add the cluster's own: name it too if "
            "the nodes need it.",
            ["sg-0a1b2c3d"],
            default="the security group of the cluster",
        ),
    ] = None
    hop_limit: Annotated[
        Annotated[int, Meta(ge=1, le=64, extra={"unit": "hops"})],
        says(
            "How far answers of the instance metadata service (IMDS) go. With 1, pods cannot use the node's "
            "role; with 2 they can.",
            2,
        ),
    ] = default_of(Instances, "hop_limit")
    http_tokens: Annotated[
        Literal["required", "optional"],
        says("Whether IMDS accepts only requests with a token (IMDSv2).", "optional"),
    ] = "required"
    kms_key: Annotated[
        Arn | None,
        Meta(extra=use("an ARN such as arn:aws:kms:eu-west-1:123456789012:key/k")),
        says(
            "The ARN of the key that encrypts the volumes.",
            "arn:aws:kms:eu-west-1:123456789012:key/k",
            default="the account's key for EBS",
        ),
    ] = None
    user_data: Annotated[
        Text | None,
        says(
            "What a node reads at its first start. AL2023: a NodeConfig, a script or a MIME multi-part text; "
            "Bottlerocket: TOML.",
            "[settings.kubernetes]\nmax-pods = 58\n",
            default="none beside that of EKS",
        ),
    ] = None
    node_repair: Annotated[bool, says("Whether EKS replaces nodes that are not healthy.", True)] = default_of(
        EksNodeGroup, "node_repair"
    )
    detailed_monitoring: Annotated[
        bool, says("Whether CloudWatch gets figures each minute, which costs money.", True)
    ] = False
    launch_template: Annotated[
        TemplateModel | None,
        says(
            "A launch template of your own instead of the one that archshift makes. It may name an AMI for "
            "the architecture of the group.",
            {"id": "lt-0a1b2c3d", "version": 3},
            default="archshift makes one",
        ),
    ] = None
    import_name: Annotated[
        Name | None,
        Meta(extra=use("the name of an existing node group")),
        says(
            "The name of the existing group at EKS. archshift takes it over as it is. It never changes what "
            "would replace the group. The other settings change the group; the preview says so in numbers.",
            "general",
            default="archshift makes the group",
        ),
    ] = field(name="import", default=None)
    retired: Annotated[
        bool,
        says(
            "Let the nodes take no new pods, by a taint. A twin never copies this. Remove the key to take "
            "the taint off again.",
            True,
            document="docs/runbook.md",
        ),
    ] = False
    release: Annotated[
        bool,
        says(
            "Hand an imported group back. `pulumi up` takes archshift's labels, taints and tags off it. Then "
            "remove the group from the settings; nobody deletes it.",
            True,
            document="docs/runbook.md",
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.import_name and self.twin_of:
            raise InvalidValueError(
                "twin_of",
                "an imported group keeps the instance types that it has",
                "remove twin_of or import",
            )

    def group(
        self,
        name: str,
        types: tuple[InstanceType, ...],
        cluster: EksCluster,
        live: LiveGroup | None,
        typed: frozenset[str],
        *,
        twin_of_import: bool = False,
    ) -> EksNodeGroup:
        """Return the group.

        Args:
            name: Its name.
            types: Its instance types.
            cluster: Its cluster.
            live: The group as it is; None if it does not exist, or if nobody asked EKS.
            typed: The keys that its own settings have.
            twin_of_import: Whether its original is a group at EKS, whose subnets it gets.

        Raises:
            ArchshiftError: The settings contradict each other.
        """
        key = f"{KEY}.{name}"
        one_architecture(types, f"{key}.instance_types")
        imported = live if self.import_name else None
        if self.release and not self.import_name:
            raise ArchshiftError(
                f"{key}.release: archshift made this group, and can only hand back a group that it imported",
                "remove the key",
            )
        subnets = imported.subnets if imported else self.subnets or cluster.subnets
        if not subnets and not self.import_name and not twin_of_import:
            raise ArchshiftError(
                f"{key}.subnets is missing", "add the group's subnets, or archshift:cluster.subnets"
            )
        ami_type = self.ami_type or AMI_FAMILIES[self.ami_family][types[0].architecture]
        if imported:
            _check_image(key, types, imported)
            ami_type = imported.ami_type or ""
        else:
            check_ami_type(ami_type, types, f"{key}.ami_type")
        self._check_version(key, live)
        autoscaled = cluster.autoscaler != "none"
        least, desired, most = self._sizes(key, live, autoscaled=autoscaled)
        capacity_type: Any = (imported and imported.capacity_type) or self.capacity_type
        max_unavailable = self.max_unavailable
        taints = (*self.node_taints(), *((RETIRED,) if self.retired else ()))
        if imported and self.release:
            least, desired, most = imported.min_size, imported.desired_size, imported.max_size
            max_unavailable = imported.max_unavailable or max_unavailable
        return EksNodeGroup(
            name=name,
            instance_types=types,
            min_size=least,
            desired_size=desired,
            max_size=most,
            autoscaled=autoscaled,
            subnets=subnets,
            ami_type=ami_type,
            import_name=self.import_name or "",
            capacity_type=capacity_type,
            disk_gib=self.disk_gib,
            labels=imported.own_labels if imported and self.release else self.labels,
            max_unavailable=max_unavailable,
            update_strategy=(imported and imported.update_strategy) or "",
            version=self.version or "",
            release_version=self.release_version or "",
            taints=imported.own_taints if imported and self.release else taints,
            retired=self.retired,
            released=self.release,
            live=live,
            twin_of=self.twin_of or "",
            typed=typed,
            node_role="" if self.import_name else self.node_role or cluster.node_role,
            node_repair=self.node_repair,
            tags=self.tags,
            launch_template=TemplateVersion(
                id=self.launch_template.id, version=str(self.launch_template.version)
            )
            if self.launch_template
            else None,
            instances=Instances(
                security_groups=self.security_groups or (),
                user_data=self._user_data(key, ami_type, typed),
                hop_limit=self.hop_limit,
                http_tokens=self.http_tokens,
                monitoring=self.detailed_monitoring,
                kms_key=self.kms_key or "",
            ),
        )

    def _check_version(self, key: str, live: LiveGroup | None) -> None:
        there = live.version if live else None
        if self.version and there and _numbers(there) > _numbers(self.version):
            raise ArchshiftError(
                f"{key}.version: {self.version} is older than {there}, which the group has",
                f'write "{there}" or remove the key, because EKS never goes back to an older version',
            )

    def _user_data(self, key: str, ami_type: str, typed: frozenset[str]) -> str:
        if not self.user_data or self.launch_template:
            return ""
        if self.twin_of and "user_data" not in typed and names_amd64(self.user_data):
            raise ArchshiftError(
                f"{key}.user_data is missing: that of {self.twin_of!r} names x86 programs",
                "add user_data for arm64",
            )
        try:
            return as_user_data(self.user_data, AMI_TYPES[ami_type].family)
        except ValueError as error:
            # Without the text, which may hold passwords.
            raise ArchshiftError(f"{key}.user_data is invalid", f"use {error}") from None

    def _sizes(self, key: str, live: LiveGroup | None, *, autoscaled: bool) -> tuple[int, int, int]:
        """Return the fewest, desired and most nodes. A missing number follows from the others.

        An imported group has its own sizes where the settings have none. With an autoscaler, a group keeps
        the number of nodes that it has, as far as the limits allow: EKS gets all three numbers at once, and
        refuses a number outside the limits.
        """
        least, desired, most = self.min_size, self.desired_size, self.max_size
        if live and self.import_name:
            least = live.min_size if least is None else least
            most = live.max_size if most is None else most
            if desired is None and least <= most:
                desired = _clamped(live.desired_size, least, most)
        desired = least if desired is None else desired
        if desired is None:
            raise ArchshiftError(f"{key}.desired_size is missing", "add it, or min_size and max_size")
        least = desired if least is None else least
        # EKS wants room for one node, also in a group that is empty.
        most = max(1, desired) if most is None else most
        if live and autoscaled and least <= most:
            desired = _clamped(live.desired_size, least, most)
        if not least <= desired <= most:
            raise ArchshiftError(
                f"{key}: min_size {least}, desired_size {desired} and max_size {most} are not in that order",
                "raise or lower one of them",
            )
        return least, desired, most


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


def _clamped(size: int, least: int, most: int) -> int:
    return min(max(size, least), most)


def _check_image(key: str, types: tuple[InstanceType, ...], live: LiveGroup) -> None:
    # An import never changes the image, so the guard would protect the wrong nodes.
    architecture = types[0].architecture
    other = "ARM_64" if architecture == AMD64 else "x86_64"
    if other in (live.ami_type or ""):
        raise ArchshiftError(
            f"{key}.instance_types: {', '.join(kind.name for kind in types)} is {architecture}, but the live "
            f"group {live.name!r} has the AMI type {live.ami_type}",
            "write the instance types of its launch template",
        )


def lab_groups(raw: Mapping[str, Any]) -> dict[str, NodeGroup]:
    """Return the groups of simulated nodes, by name.

    Args:
        raw: ``archshift:node_groups``.

    Raises:
        SettingsError: Values are invalid.
    """
    problems = Problems()
    groups = {}
    for name, model in models_of(LabGroupModel, raw, problems).items():
        with problems.collected():
            groups[name] = NodeGroup(
                name=name,
                instance_type=instance_type(model.instance_type, f"{KEY}.{name}.instance_type"),
                size=model.size,
                zones=model.zones,
                labels=model.labels,
                taints=model.node_taints(),
            )
    problems.check()
    return groups


def eks_groups(
    raw: Mapping[str, Any],
    cluster: EksCluster | None,
    families: tuple[str, ...] | None,
    live: Mapping[str, LiveGroup] | None = None,
) -> dict[str, EksNodeGroup]:
    """Return the managed node groups of a cluster, by name.

    Args:
        raw: ``archshift:node_groups``.
        cluster: Their cluster.
        families: The Graviton families to choose twins from.
        live: The groups that exist, by our name. None if nobody asked EKS: then the imported groups are left
            out whose settings leave their types or sizes to EKS.

    Raises:
        SettingsError: Values are invalid.
    """
    if not raw:
        return {}
    if cluster is None:
        raise ArchshiftError(
            f"{KEY}: on EKS they belong to a cluster",
            "give its name as archshift:cluster.name, or leave the key out and archshift counts the nodes it "
            "finds",
        )
    problems = Problems()
    groups = {}
    filled = _without_unread(raw) if live is None else _filled(raw, live, problems)
    for name, (model, types) in resolved(EksGroupModel, filled, families, problems, typed=raw).items():
        with problems.collected():
            _check_typed(f"{KEY}.{name}", raw[name])
            groups[name] = model.group(
                name,
                types,
                cluster,
                (live or {}).get(name),
                frozenset(raw[name]),
                twin_of_import=model.twin_of in imports(raw),
            )
    problems.check()
    return groups


def _check_typed(key: str, own: Mapping[str, Any]) -> None:
    """Check a group's own settings against the limits of EKS, and for keys that exclude each other."""
    for label, value in own.get("labels", {}).items():
        if _RESERVED.match(label):
            raise ArchshiftError(
                f"{key}.labels.{label}: EKS refuses labels with this prefix", "use a prefix of your own"
            )
        for kind, text, valid in (("key", label, _LABEL_KEY), ("value", value, _LABEL_VALUE)):
            if len(text) > 63 or not valid.fullmatch(text):
                raise ArchshiftError(
                    f"{key}.labels.{label}: {shown(text)} is an invalid {kind} for EKS",
                    "use 1 to 63 letters, digits, -, _ and .",
                )
    for taint in own.get("taints", ()):
        if len(taint["key"]) > 63 or len(taint.get("value", "")) > 63:
            raise ArchshiftError(
                f"{key}.taints: {shown(taint['key'])} is invalid for EKS",
                "use a key and a value of up to 63 characters",
            )
    for other, keys, reason in (
        (
            "import",
            (
                "launch_template",
                "node_repair",
                "node_role",
                "release_version",
                "tags",
                "version",
                *_OF_TEMPLATES,
            ),
            "archshift does not change it on an existing group",
        ),
        ("launch_template", ("disk_gib", *_OF_TEMPLATES), "the launch template decides it"),
    ):
        for name in keys:
            if {other, name} <= own.keys():
                raise ArchshiftError(f"{key}.{name}: {reason}", f"remove {name} or {other}")


# --- what is there --------------------------------------------------------------------------


def imports(raw: Mapping[str, Any]) -> dict[str, str]:
    """Return the groups that the settings import: our name to the name at EKS.

    Args:
        raw: ``archshift:node_groups``.
    """
    return {
        name: group["import"]
        for name, group in raw.items()
        if isinstance(group, Mapping) and isinstance(group.get("import"), str) and group["import"]
    }


def _without_unread(raw: Mapping[str, Any]) -> dict[str, Any]:
    unread = {
        name
        for name in imports(raw)
        if "instance_types" not in raw[name] or not {"min_size", "desired_size"} & raw[name].keys()
    }
    return {
        name: group
        for name, group in raw.items()
        if name not in unread and not (isinstance(group, Mapping) and str(group.get("twin_of")) in unread)
    }


def _filled(raw: Mapping[str, Any], live: Mapping[str, LiveGroup], problems: Problems) -> dict[str, Any]:
    """Return the configured groups; an imported one has what EKS says of it where nothing is configured."""
    filled = dict(raw)
    for name in imports(raw):
        if name not in live:
            continue
        with problems.collected():
            filled[name] = _as_it_is(f"{KEY}.{name}", raw[name], live[name])
            continue
        del filled[name]
    return filled


def _as_it_is(key: str, own: Mapping[str, Any], live: LiveGroup) -> dict[str, Any]:
    there: dict[str, Any] = {
        "instance_types": [*(live.instance_types or ())],
        "capacity_type": live.capacity_type if live.capacity_type in ("ON_DEMAND", "SPOT") else None,
        "disk_gib": live.disk_gib,
        "subnets": [*live.subnets],
        "ami_type": live.ami_type if live.ami_type in AMI_TYPES else None,
        "max_unavailable": live.max_unavailable,
        "labels": live.own_labels,
        "taints": [
            {"key": taint.key, "value": taint.value, "effect": taint.effect} for taint in live.own_taints
        ],
    }
    there = {name: value for name, value in there.items() if value}
    for name in ("instance_types", "capacity_type", "disk_gib", "subnets", "ami_type"):
        # An import never changes these, so other settings would stay wrong.
        if name in own and name in there and _sorted(own[name]) != _sorted(there[name]):
            value = there[name]
            raise ArchshiftError(
                f"{key}.{name}: {_listed(own[name])} is not what the live group {live.name!r} has",
                f"write {_listed(value)}",
            )
    if "ami_family" in own:
        ami = AMI_TYPES.get(live.ami_type or "")
        if ami is None or ami.family != own["ami_family"]:
            raise ArchshiftError(
                f"{key}.ami_family: {own['ami_family']} is not what the live group {live.name!r} has: "
                f"{live.ami_type}",
                "remove the key",
            )
    if "instance_types" not in {**there, **own}:
        raise ArchshiftError(
            f"{key}.instance_types is missing: neither EKS nor a launch template names the types of the live "
            f"group {live.name!r}",
            "write the types of its nodes",
        )
    filled = {**there, **own}
    if isinstance(own.get("labels"), Mapping):
        filled["labels"] = {**live.own_labels, **own["labels"]}
    if isinstance(own.get("taints"), list):
        typed = {_identity(taint) for taint in own["taints"]}
        filled["taints"] = [
            *(taint for taint in there.get("taints", ()) if _identity(taint) not in typed),
            *own["taints"],
        ]
    return filled


def _identity(taint: Any) -> Any:
    """Return what EKS tells the taints of a group apart by."""
    known = taint if isinstance(taint, Mapping) else {}
    return known.get("key"), known.get("effect", Taint(key="any").effect)


def _sorted(value: Any) -> Any:
    return sorted(map(str, value)) if isinstance(value, list) else value


def _listed(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# --- twins ----------------------------------------------------------------------------------

_G = TypeVar("_G", bound=GroupModel)
_T = TypeVar("_T", bound=TwinnedModel)


def models_of(model: type[_G], raw: Mapping[str, Any], problems: Problems) -> dict[str, _G]:
    """Return the valid groups of one kind, by name; ``problems`` gets the errors of the others.

    Args:
        model: The kind.
        raw: The groups of this kind in ``archshift:node_groups``.
        problems: Gets the errors.
    """
    kind: Any = dict[Annotated[str, model.names], model]  # type: ignore[valid-type]
    models: dict[str, _G] = {}
    for name, value in raw.items():
        with problems.collected():
            models |= read(kind, KEY, {name: value})
    return models


def resolved(
    model: type[_T],
    raw: Mapping[str, Any],
    families: tuple[str, ...] | None,
    problems: Problems,
    *,
    typed: Mapping[str, Any] | None = None,
) -> dict[str, tuple[_T, tuple[InstanceType, ...]]]:
    """Return the valid groups with their instance types, and each twin with the keys from its original.

    Args:
        model: The kind of the groups.
        raw: ``archshift:node_groups``.
        families: The Graviton families to choose twins from; None for all up to the eighth generation.
        problems: Gets the errors of the invalid groups.
        typed: The groups from which twins take keys; None for ``raw``.
    """
    models = models_of(model, raw, problems)
    groups: dict[str, tuple[_T, tuple[InstanceType, ...]]] = {}
    for name, group in models.items():
        if group.twin_of in (raw if typed is None else typed) and group.twin_of not in models:
            # The errors of the original are reported with the original.
            continue
        key = f"{KEY}.{name}"
        with problems.collected():
            if group.twin_of is None:
                groups[name] = group, named_types(key, group)
            else:
                original = original_of(name, group, models)
                types = named_types(f"{KEY}.{group.twin_of}", original)
                twins = twins_of_types(f"{key}.twin_of", group.twin_of, original, types, families)
                groups[name] = with_taken(name, group, raw if typed is None else typed), twins
    return groups


def with_taken(name: str, group: _T, raw: Mapping[str, Any]) -> _T:
    """Return a twin with the keys that it takes from its original."""
    own, original = raw[name], raw[str(group.twin_of)]
    taken = {key: original[key] for key in group.twin_takes if key in original and key not in own}
    if "ami_family" in own or "ami_type" in own:
        # Each of the two names the image.
        taken = {key: value for key, value in taken.items() if not key.startswith("ami_")}
    if isinstance(taken.get("ami_type"), str):
        taken["ami_type"] = on_arm64(taken["ami_type"])
    return read(type(group), f"{KEY}.{name}", {**own, **taken})


def named_types(key: str, group: TwinnedModel) -> tuple[InstanceType, ...]:
    """Return the types that a group names, and all types of the families that it names.

    Raises:
        ArchshiftError: A type or family is unknown, or the group names none.
    """
    types = [instance_type(name, f"{key}.instance_types") for name in group.instance_types]
    for family in group.named_families():
        types += family_types(family, f"{key}.instance_families")
    if not types:
        raise ArchshiftError(f"{key}.instance_types is missing", f"add {group.ways_to_name_types}")
    return tuple(dict.fromkeys(types))


def original_of(name: str, group: TwinnedModel, groups: Mapping[str, _T]) -> _T:
    """Return the original of a twin.

    Args:
        name: The twin's name.
        group: The twin.
        groups: All groups of its kind, by name.

    Raises:
        ArchshiftError: The twin names instance types, or there is no such original.
    """
    key, other = f"{KEY}.{name}.twin_of", str(group.twin_of)
    for entry in group.names_machines_by:
        if getattr(group, entry):
            raise ArchshiftError(f"{key} chooses the instance types itself", f"remove twin_of or {entry}")
    others = sorted(set(groups) - {name})
    if other not in others:
        raise ArchshiftError(
            f"{key}: {other!r} is not another node group", f"there are: {', '.join(others) or 'none'}"
        )
    if groups[other].twin_of:
        raise ArchshiftError(
            f"{key}: {other!r} is a twin itself", f"name the group that {other!r} is the twin of"
        )
    return groups[other]


def twins_of_types(
    key: str,
    other: str,
    original: TwinnedModel,
    types: Iterable[InstanceType],
    families: tuple[str, ...] | None,
) -> tuple[InstanceType, ...]:
    """Return the twins of the instance types of a group.

    Args:
        key: The key ``twin_of`` of the twin.
        other: The name of the original.
        original: The original.
        types: The instance types of the original.
        families: The Graviton families to choose from; None for all up to the eighth generation.

    Raises:
        ArchshiftError: A type that the original names has no twin, or no type has one.
    """
    twins, errors = _twins_of(types, families)
    # Graviton lacks some sizes of a family, but a pool with a family needs no particular size.
    missing = [error for name, error in errors.items() if name in original.instance_types or not twins]
    if missing:
        raise ArchshiftError(
            f"{key}: {other!r}: {missing[0]}",
            "give the group instance_types of its own, or choose others from archshift:graviton_families",
        )
    # Two x86 types may have the same twin (m5.xlarge, m6i.xlarge).
    return tuple(dict.fromkeys(twins))


def _twins_of(
    types: Iterable[InstanceType], families: tuple[str, ...] | None
) -> tuple[list[InstanceType], dict[str, ArchshiftError]]:
    """Return the twins, and by type the reason why a type has no twin."""
    twins: list[InstanceType] = []
    errors: dict[str, ArchshiftError] = {}
    for kind in types:
        try:
            twins.append(twin(kind, families))
        except ArchshiftError as error:
            errors[kind.name] = error
    return twins, errors
