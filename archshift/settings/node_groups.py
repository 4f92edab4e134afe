"""``archshift:node_groups``: the lab's groups and the managed groups of EKS, and how twins are chosen.

NodePools, which the same key holds with a provisioner, are in ``node_pools``.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar, Final, Literal, TypeVar

from msgspec import Meta, field

from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL
from archshift.nodes.ami_types import AMI_FAMILIES, AmiFamily, check_ami_type, on_arm64
from archshift.nodes.eks import EksCluster
from archshift.nodes.groups import (
    EksNodeGroup,
    NodeGroup,
    Taint,
    one_architecture,
)
from archshift.nodes.instance_types import InstanceType, family_types, instance_type, twin
from archshift.nodes.node_pools import Provisioner
from archshift.settings.reading import InvalidValueError, Model, Problems, default_of, read, says, use
from archshift.settings.values import Name, Names, Subnets, Zones

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
            default="none",
        ),
    ] = ()
    twin_of: Annotated[
        Name | None,
        Meta(extra=use("the name of another node group")),
        says(
            "The group whose twin this is. archshift chooses Graviton types of the same vCPU and memory. It "
            "copies the other settings that the twin does not set, except the sizes and `import`.",
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
        "disk_gib",
        "labels",
        "max_unavailable",
        "subnets",
        "taints",
    )

    min_size: Annotated[
        Annotated[int, Meta(ge=0, extra={"unit": "nodes"})] | None,
        says("The fewest nodes.", 2, default="`desired_size`"),
    ] = None
    desired_size: Annotated[
        Annotated[int, Meta(ge=0, extra={"unit": "nodes"})] | None,
        says(
            "The number of nodes; with an autoscaler, the number at the beginning.", 5, default="`min_size`"
        ),
    ] = None
    max_size: Annotated[
        Annotated[int, Meta(ge=1, extra={"unit": "nodes"})] | None,
        says("The most nodes.", 8, default="`desired_size`, at least 1"),
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
    import_name: Annotated[
        Name | None,
        Meta(extra=use("the name of an existing node group")),
        says(
            "The name of the existing group at EKS. archshift does not change properties whose change would "
            "replace the group.",
            "general",
            default="archshift makes the group",
        ),
    ] = field(name="import", default=None)

    def group(self, name: str, types: tuple[InstanceType, ...], cluster: EksCluster) -> EksNodeGroup:
        """Return the group.

        Args:
            name: Its name.
            types: Its instance types.
            cluster: Its cluster.

        Raises:
            ArchshiftError: The settings contradict each other.
        """
        key = f"{KEY}.{name}"
        one_architecture(types, f"{key}.instance_types")
        subnets = self.subnets or cluster.subnets
        if not subnets and not self.import_name:
            raise ArchshiftError(
                f"{key}.subnets is missing", "add the group's subnets, or archshift:cluster.subnets"
            )
        ami_type = self.ami_type or AMI_FAMILIES[self.ami_family][types[0].architecture]
        least, desired, most = self._sizes(key)
        return EksNodeGroup(
            name=name,
            instance_types=types,
            min_size=least,
            desired_size=desired,
            max_size=most,
            autoscaled=cluster.autoscaler != "none",
            subnets=subnets,
            ami_type=check_ami_type(ami_type, types, f"{key}.ami_type"),
            import_name=self.import_name or "",
            capacity_type=self.capacity_type,
            disk_gib=self.disk_gib,
            labels=self.labels,
            max_unavailable=self.max_unavailable,
            taints=self.node_taints(),
        )

    def _sizes(self, key: str) -> tuple[int, int, int]:
        """Return the fewest, desired and most nodes. A missing number follows from the others."""
        desired = self.min_size if self.desired_size is None else self.desired_size
        if desired is None:
            raise ArchshiftError(f"{key}.desired_size is missing", "add it, or min_size and max_size")
        least = desired if self.min_size is None else self.min_size
        # EKS wants room for one node, also in a group that is empty.
        most = max(1, desired) if self.max_size is None else self.max_size
        if not least <= desired <= most:
            raise ArchshiftError(
                f"{key}: min_size {least}, desired_size {desired} and max_size {most} are not in that order",
                "raise or lower one of them",
            )
        return least, desired, most


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
    raw: Mapping[str, Any], cluster: EksCluster | None, families: tuple[str, ...] | None
) -> dict[str, EksNodeGroup]:
    """Return the managed node groups of a cluster, by name.

    Args:
        raw: ``archshift:node_groups``.
        cluster: Their cluster.
        families: The Graviton families to choose twins from.

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
    for name, (model, types) in resolved(EksGroupModel, raw, families, problems).items():
        with problems.collected():
            groups[name] = model.group(name, types, cluster)
    problems.check()
    return groups


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
    model: type[_T], raw: Mapping[str, Any], families: tuple[str, ...] | None, problems: Problems
) -> dict[str, tuple[_T, tuple[InstanceType, ...]]]:
    """Return the valid groups with their instance types, and each twin with the keys from its original.

    Args:
        model: The kind of the groups.
        raw: ``archshift:node_groups``.
        families: The Graviton families to choose twins from; None for all up to the eighth generation.
        problems: Gets the errors of the invalid groups.
    """
    models = models_of(model, raw, problems)
    groups: dict[str, tuple[_T, tuple[InstanceType, ...]]] = {}
    for name, group in models.items():
        if group.twin_of in raw and group.twin_of not in models:
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
                groups[name] = with_taken(name, group, raw), twins
    return groups


def with_taken(name: str, group: _T, raw: Mapping[str, Any]) -> _T:
    """Return a twin with the keys that it takes from its original."""
    own, original = raw[name], raw[str(group.twin_of)]
    taken = {key: original[key] for key in group.twin_takes if key in original and key not in own}
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
