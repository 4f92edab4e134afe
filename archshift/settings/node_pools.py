"""``archshift:node_groups`` if a provisioner creates the nodes: NodePools."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from msgspec import Meta

from archshift.common.errors import ArchshiftError
from archshift.common.quantity import parse_quantity
from archshift.nodes.groups import NodeClass, NodePool, one_architecture
from archshift.nodes.instance_types import InstanceType
from archshift.nodes.node_pools import NODE_CLASSES
from archshift.settings.node_groups import KEY, TwinnedModel, resolved
from archshift.settings.reading import Model, Problems, default_of, says, use
from archshift.settings.values import Name, Names, Quantity, Zones


class LimitsModel(Model, frozen=True, kw_only=True):
    """The most that a NodePool may bring up."""

    cpu: Annotated[Quantity, Meta(extra=use("a number of vCPUs such as 64")), says("The most vCPUs.", 400)]
    memory: Annotated[
        Quantity | None,
        Meta(extra=use("memory such as 256Gi")),
        says("The most memory.", "1600Gi", default="what comes with the vCPUs"),
    ] = None

    @property
    def millicpu(self) -> int:
        """Thousandths of a vCPU."""
        return round(parse_quantity(self.cpu) * 1000)

    @property
    def memory_bytes(self) -> int | None:
        """Bytes; None without a limit."""
        return None if self.memory is None else round(parse_quantity(self.memory))


class PoolModel(TwinnedModel, frozen=True, kw_only=True):
    """With `provisioner: karpenter` or `auto-mode`: a NodePool."""

    # Not the weight: arm_ratio decides which side a pod prefers.
    twin_takes: ClassVar = (
        "budget",
        "capacity_types",
        "consolidate_after",
        "labels",
        "limits",
        "node_class",
        "side_taint",
        "taints",
        "zones",
    )

    instance_families: Annotated[
        Names, says("Instance families. The pool may use all their types.", ["m6i", "c6i"], default="none")
    ] = ()
    limits: Annotated[
        LimitsModel | None,
        says(
            "The most that the NodePool may bring up.",
            {"cpu": 400, "memory": "1600Gi"},
            default="the limits of the pool that `twin_of` names; any other pool must set them",
        ),
    ] = None
    node_class: Annotated[
        Name,
        Meta(extra=use("the name of a node class")),
        says("The node class, which has the image, the subnets and the role.", "general"),
    ] = "default"
    zones: Annotated[
        Zones | None,
        says("The zones.", ["eu-west-1a"], default="the zones of the node class"),
    ] = None
    capacity_types: Annotated[
        tuple[Literal["on-demand", "spot", "reserved"], ...],
        Meta(min_length=1, extra=use("a list of one or more of on-demand, spot, reserved")),
        says("How nodes may be bought.", ["spot", "on-demand"]),
    ] = default_of(NodePool, "capacity_types")
    weight: Annotated[
        Annotated[int, Meta(ge=1, le=100)] | None,
        says("The pool with the higher weight goes first.", 10, default="last"),
    ] = None
    consolidate_after: Annotated[
        str,
        Meta(pattern=r"\A((\d{1,6}[smh])+|Never)\Z", extra=use("a duration such as 5m, or Never")),
        says("How long Karpenter waits before it may empty a node.", "1h30m"),
    ] = default_of(NodePool, "consolidate_after")
    budget: Annotated[
        Annotated[int, Meta(ge=0, le=9999)] | Annotated[str, Meta(pattern=r"\A((100|\d{1,2})%|\d{1,4})\Z")],
        Meta(extra=use('a number of nodes, or a share such as "10%"')),
        says("How many nodes Karpenter may replace at once.", "20%"),
    ] = default_of(NodePool, "budget")
    side_taint: Annotated[
        bool,
        says(
            "The nodes carry the soft taint of their side ([ADR 3](adr/0003-a-soft-taint-on-each-side.md)).",
            False,
        ),
    ] = default_of(NodePool, "side_taint")

    def named_families(self) -> tuple[str, ...]:
        """Return the families whose types the pool may use."""
        return self.instance_families

    def pool(self, name: str, types: tuple[InstanceType, ...], provisioner: str) -> NodePool:
        """Return the NodePool.

        Args:
            name: Its name.
            types: Its instance types.
            provisioner: A key of ``NODE_CLASSES``.

        Raises:
            ArchshiftError: The types are of both architectures, or there is no limit.
        """
        key = f"{KEY}.{name}"
        one_architecture(types, key)
        if self.limits is None:
            raise ArchshiftError(f"{key}.limits.cpu is missing", "add a number of vCPUs such as 64")
        group, kind = NODE_CLASSES[provisioner]
        return NodePool(
            name=name,
            instance_types=types,
            node_class=NodeClass(group, kind, self.node_class),
            millicpu=self.limits.millicpu,
            memory=self.limits.memory_bytes,
            zones=self.zones or (),
            capacity_types=self.capacity_types,
            weight=self.weight,
            labels=self.labels,
            taints=self.node_taints(),
            consolidate_after=self.consolidate_after,
            budget=str(self.budget),
            side_taint=self.side_taint,
        )


def node_pools(
    raw: Mapping[str, Any], provisioner: str, families: tuple[str, ...] | None
) -> dict[str, NodePool]:
    """Return the NodePools, by name.

    Args:
        raw: ``archshift:node_groups``.
        provisioner: A key of ``NODE_CLASSES``.
        families: The Graviton families to choose twins from; None for all up to the eighth generation.

    Raises:
        SettingsError: Values are invalid.
    """
    problems = Problems()
    pools = {}
    for name, (model, types) in resolved(PoolModel, raw, families, problems).items():
        with problems.collected():
            pools[name] = model.pool(name, types, provisioner)
    problems.check()
    return pools
