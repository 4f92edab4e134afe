"""``archshift:node_groups`` if a provisioner creates the nodes: NodePools."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Final, Literal

from msgspec import Meta, field

from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import (
    CAPACITY_TYPE_LABEL,
    GROUP_LABEL,
    INSTANCE_TYPE_LABEL,
    STACK_LABEL,
    ZONE_LABEL,
)
from archshift.common.quantity import parse_quantity
from archshift.nodes.groups import Consolidation, NodeClass, NodePool, Taint, one_architecture, side_taint
from archshift.nodes.instance_types import InstanceType
from archshift.nodes.node_pools import (
    NODE_CLASSES,
    LivePool,
    PoolChanges,
    changed,
    from_manifest,
    limits_of,
    pool_architectures,
    template_changes,
    twin_spec,
)
from archshift.nodes.requirements import (
    Requirement,
    for_architecture,
    instance_sizes,
    machine_label,
    matching_types,
    metal_sizes,
    twin_requirements,
)
from archshift.plan.pool_changes import former_values, own_spec
from archshift.settings.node_groups import (
    KEY,
    TaintModel,
    TwinnedModel,
    models_of,
    named_types,
    original_of,
    twins_of_types,
    with_taken,
)
from archshift.settings.reading import InvalidValueError, Model, Problems, default_of, says, use
from archshift.settings.values import Name, Names, Quantity, Zones

_DURATION: Final = Meta(pattern=r"\A(\d{1,6}[smh])+\Z", extra=use("a duration such as 48h"))
_DURATION_OR_NEVER: Final = Meta(
    pattern=r"\A((\d{1,6}[smh])+|Never)\Z", extra=use("a duration such as 5m, or Never")
)

_BUILT_IN: Final = ("general-purpose", "system")
"""The NodePools that EKS Auto Mode makes itself. Nobody may change them:
https://docs.aws.amazon.com/eks/latest/userguide/create-node-pool.html"""


class LimitsModel(Model, frozen=True, kw_only=True):
    """The most that a NodePool may bring up."""

    cpu: Annotated[
        Quantity | None,
        Meta(extra=use("a number of vCPUs such as 64")),
        says("The most vCPUs.", 400, default="what comes with the nodes"),
    ] = None
    memory: Annotated[
        Quantity | None,
        Meta(extra=use("memory such as 256Gi")),
        says("The most memory.", "1600Gi", default="what comes with the vCPUs"),
    ] = None
    nodes: Annotated[
        Annotated[int, Meta(ge=0, extra={"unit": "nodes"})] | None,
        says("The most nodes.", 50, default="what comes with the vCPUs"),
    ] = None

    @property
    def millicpu(self) -> int | None:
        """Thousandths of a vCPU; None without a limit."""
        return None if self.cpu is None else round(parse_quantity(self.cpu) * 1000)

    @property
    def memory_bytes(self) -> int | None:
        """Bytes; None without a limit."""
        return None if self.memory is None else round(parse_quantity(self.memory))


class PoolModel(TwinnedModel, frozen=True, kw_only=True):
    """With `provisioner: karpenter` or `auto-mode`: a NodePool."""

    twin_takes: ClassVar = (
        "annotations",
        "budget",
        "capacity_types",
        "consolidate_after",
        "consolidation",
        "expire_after",
        "labels",
        "limits",
        "node_class",
        "provisioner",
        "side_taint",
        "startup_taints",
        "taints",
        "termination_grace_period",
        "weight",
        "zones",
    )

    names_machines_by: ClassVar = ("instance_types", "instance_families", "instance_categories")
    ways_to_name_types: ClassVar = (
        "instance_types, instance_families, instance_categories or twin_of, or architecture for all types"
    )

    instance_families: Annotated[
        Names, says("Instance families. The pool may use all their types.", ["m6i", "c6i"], default="none")
    ] = ()
    instance_categories: Annotated[
        tuple[
            Annotated[str, Meta(pattern=r"\A[a-z]+\Z", extra=use("the letters of a category such as c"))], ...
        ],
        Meta(extra=use("a list of categories such as c, m, r")),
        says(
            "Instance categories. The pool may use all their types, also those of future families.",
            ["c", "m", "r"],
            default="none",
        ),
    ] = ()
    min_generation: Annotated[
        Annotated[int, Meta(ge=1, le=99)] | None,
        says(
            "The oldest instance generation. A twin uses the nearest generation that Graviton has.",
            5,
            default="any",
        ),
    ] = None
    min_vcpu: Annotated[
        Annotated[int, Meta(ge=1, extra={"unit": "vCPUs"})] | None,
        says("The fewest vCPUs of a node.", 4, default="any"),
    ] = None
    max_vcpu: Annotated[
        Annotated[int, Meta(ge=1, extra={"unit": "vCPUs"})] | None,
        says("The most vCPUs of a node.", 32, default="any"),
    ] = None
    exclude_sizes: Annotated[
        Names,
        says(
            "Instance sizes that the pool must not use. A pool uses bare metal only if `instance_types` "
            "names it.",
            ["nano", "micro", "48xlarge"],
            default="none",
        ),
    ] = ()
    architecture: Annotated[
        Architecture | None,
        says(
            "The architecture of the nodes, where the instance types leave it open. Alone it permits all "
            "instance types. With `import` it narrows a NodePool for both architectures to one.",
            "amd64",
            default="that of the instance types; amd64 if they have both",
        ),
    ] = None
    limits: Annotated[
        LimitsModel | Literal["none"] | None,
        Meta(extra=use("a map with cpu, memory or nodes, or none for a NodePool without limits")),
        says(
            "The most that the NodePool may bring up, or `none` for a NodePool without limits.",
            {"cpu": 400, "memory": "1600Gi"},
            default="the limits of the pool that `twin_of` or `import` names; any other pool must set them",
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
    consolidation: Annotated[
        Consolidation,
        says("Which nodes Karpenter may remove or replace to save costs.", "when-empty"),
    ] = default_of(NodePool, "consolidation")
    consolidate_after: Annotated[
        str,
        _DURATION_OR_NEVER,
        says("How long Karpenter waits before it may empty a node.", "1h30m"),
    ] = default_of(NodePool, "consolidate_after")
    budget: Annotated[
        Annotated[int, Meta(ge=0, le=9999)] | Annotated[str, Meta(pattern=r"\A((100|\d{1,2})%|\d{1,4})\Z")],
        Meta(extra=use('a number of nodes, or a share such as "10%"')),
        says("How many nodes Karpenter may replace at once.", "20%"),
    ] = default_of(NodePool, "budget")
    expire_after: Annotated[
        Annotated[str, _DURATION_OR_NEVER] | None,
        says(
            "The age at which Karpenter replaces a node.",
            "168h",
            default="720h with Karpenter, 336h with EKS Auto Mode",
        ),
    ] = None
    termination_grace_period: Annotated[
        Annotated[str, _DURATION] | None,
        says(
            "How long a node may take to drain. Then Karpenter ends its pods, whatever their "
            "PodDisruptionBudgets say.",
            "48h",
            default="any time",
        ),
    ] = None
    startup_taints: Annotated[
        tuple[TaintModel, ...],
        says(
            "Taints of a new node that an agent removes, so that no pod starts before it.",
            [{"key": "node.cilium.io/agent-not-ready", "value": "true", "effect": "NoExecute"}],
            default="none",
        ),
    ] = ()
    annotations: Annotated[
        dict[str, Annotated[str, Meta(extra=use('text in quotes, as in "true"'))]],
        says("Annotations of every node.", {"example.com/owner": "shop"}, default="none"),
    ] = {}
    side_taint: Annotated[
        bool,
        says(
            "The nodes carry the soft taint of their side ([ADR 3](adr/0003-a-soft-taint-on-each-side.md)).",
            False,
            default="true; false with `import` and its twin",
        ),
    ] = default_of(NodePool, "side_taint")
    import_name: Annotated[
        Name | None,
        Meta(extra=use("the name of an existing NodePool")),
        says(
            "The name of the existing NodePool to take over. It stays as it is, except what the group sets. "
            "The preview says how many nodes a change replaces.",
            "default",
            default="archshift makes the NodePool",
            document="docs/runbook.md#take-over-nodepools",
        ),
    ] = field(name="import", default=None)
    release: Annotated[
        bool,
        says(
            "Hand an imported NodePool back: run `pulumi up`, then remove the group from the settings. The "
            "NodePool and its nodes stay.",
            True,
            document="docs/runbook.md#take-over-nodepools",
        ),
    ] = False
    force: Annotated[
        bool,
        says(
            "With `import`: archshift overwrites fields that another client owns, such as Helm or a GitOps "
            "controller.",
            True,
        ),
    ] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for size in self.exclude_sizes:
            if size not in instance_sizes():
                raise InvalidValueError(
                    "exclude_sizes", f"{size!r} is an unknown size", "use sizes such as nano or 24xlarge"
                )
        if self.min_vcpu and self.max_vcpu and self.min_vcpu > self.max_vcpu:
            raise InvalidValueError(
                "min_vcpu", f"{self.min_vcpu} is more than max_vcpu, {self.max_vcpu}", "lower it"
            )
        if self.import_name and self.twin_of:
            raise InvalidValueError("import", "it takes the NodePool as it is", "remove import or twin_of")
        for name in ("force", "release"):
            if getattr(self, name) and not self.import_name:
                raise InvalidValueError(name, "it is for a NodePool with import", f"remove {name}")

    def named_families(self) -> tuple[str, ...]:
        """Return the families whose types the pool may use."""
        return self.instance_families

    def bounds(self, group: str) -> tuple[Requirement, ...]:
        """Return the requirements on categories, generations, vCPUs and sizes.

        Args:
            group: The API group of the node class.
        """
        excluded = [
            size for name in self.exclude_sizes for size in (metal_sizes() if name == "metal" else (name,))
        ]
        found = (
            ("category", "In", self.instance_categories),
            ("generation", "Gt", () if self.min_generation is None else (str(self.min_generation - 1),)),
            ("cpu", "Gt", () if self.min_vcpu is None else (str(self.min_vcpu - 1),)),
            ("cpu", "Lt", () if self.max_vcpu is None else (str(self.max_vcpu + 1),)),
            ("size", "NotIn", tuple(excluded)),
        )
        return tuple(
            Requirement(machine_label(group, fact), operator, values)
            for fact, operator, values in found
            if values
        )

    def machines(self, key: str, group: str) -> tuple[tuple[InstanceType, ...], tuple[Requirement, ...]]:
        """Return the instance types of a pool that archshift makes, and the requirements that mean them.

        Args:
            key: The key of the pool.
            group: The API group of the node class.

        Raises:
            ArchshiftError: The settings name no types, or contradict each other.
        """
        bounds = self.bounds(group)
        if self.instance_types or self.instance_families:
            if self.instance_categories:
                named = "instance_types" if self.instance_types else "instance_families"
                raise ArchshiftError(
                    f"{key}.instance_categories: {named} has the types already", "remove one of the two"
                )
            permitted = set(matching_types(bounds, group, self.architecture))
            types = tuple(kind for kind in named_types(key, self) if kind in permitted)
            _check_some(key, types)
            one_architecture(types, key)
            return types, ()
        if not bounds and self.architecture is None:
            named_types(key, self)  # raises the error that names the ways to say it
        requirements = _without_metal(bounds, group)
        types = matching_types(requirements, group, self.architecture or AMD64)
        _check_some(key, types)
        return types, requirements

    def pool(
        self,
        name: str,
        types: tuple[InstanceType, ...],
        requirements: tuple[Requirement, ...],
        provisioner: str,
    ) -> NodePool:
        """Return a NodePool that archshift makes.

        Args:
            name: Its name.
            types: Its instance types.
            requirements: What it requires of machines; empty for the list of types.
            provisioner: A key of ``NODE_CLASSES``.

        Raises:
            ArchshiftError: There is no limit.
        """
        key = f"{KEY}.{name}"
        if self.limits is None or (
            isinstance(self.limits, LimitsModel) and self.limits.cpu is None and self.limits.nodes is None
        ):
            raise ArchshiftError(f"{key}.limits.cpu is missing", "add a number of vCPUs such as 64")
        limits = LimitsModel() if self.limits == "none" else self.limits
        group, kind = NODE_CLASSES[provisioner]
        return NodePool(
            name=name,
            instance_types=types,
            requirements=requirements,
            node_class=NodeClass(group, kind, self.node_class),
            millicpu=limits.millicpu,
            memory=limits.memory_bytes,
            most_nodes=limits.nodes,
            zones=self.zones or (),
            capacity_types=self.capacity_types,
            weight=self.weight,
            labels=self.labels,
            taints=self.node_taints(),
            consolidate_after=self.consolidate_after,
            consolidation=self.consolidation,
            budget=str(self.budget),
            expire_after=self.expire_after or "",
            termination_grace_period=self.termination_grace_period or "",
            startup_taints=_taints(self.startup_taints),
            annotations=self.annotations,
            side_taint=self.side_taint,
        )

    def changes(self, typed: Collection[str], group: str, spec: Mapping[str, Any]) -> PoolChanges:
        """Return what the settings change in the spec of an existing NodePool.

        Args:
            typed: The keys in the settings.
            group: The API group of the node class.
            spec: The spec.
        """
        listed: list[tuple[str, tuple[str, ...]]] = []
        if self.instance_types or self.instance_families:
            named = named_types("", self)
            listed.append((INSTANCE_TYPE_LABEL, tuple(kind.name for kind in named)))
        listed += [
            (label, values)
            for name, label, values in (
                ("capacity_types", CAPACITY_TYPE_LABEL, self.capacity_types),
                ("zones", ZONE_LABEL, self.zones or ()),
            )
            if name in typed
        ]
        limits: Mapping[str, str] | None = None
        if self.limits == "none":
            limits = {}
        elif isinstance(self.limits, LimitsModel):
            limits = limits_of(self.limits.millicpu, self.limits.memory_bytes, self.limits.nodes)
        taints = self.node_taints() if "taints" in typed else None
        if self.side_taint and "side_taint" in typed:
            kept = spec["template"]["spec"].get("taints") or ()
            before = tuple(
                Taint(key=one["key"], value=one.get("value") or "", effect=one["effect"]) for one in kept
            )
            sides: list[Architecture] = [*sorted(pool_architectures(spec)), AMD64]
            side = self.architecture or sides[0]
            ours = side_taint(side)
            taints = tuple(dict.fromkeys((*(before if taints is None else taints), ours)))
        return PoolChanges(
            requirements=(
                *(Requirement(label, "In", values) for label, values in listed),
                *self.bounds(group),
            ),
            limits=limits,
            labels=self.labels,
            annotations=self.annotations,
            taints=taints,
            startup_taints=_taints(self.startup_taints) if "startup_taints" in typed else None,
            node_class=self.node_class if "node_class" in typed else None,
            weight=self.weight,
            consolidate_after=self.consolidate_after if "consolidate_after" in typed else None,
            consolidation=self.consolidation if "consolidation" in typed else None,
            budget=str(self.budget) if "budget" in typed else None,
            expire_after=self.expire_after,
            termination_grace_period=self.termination_grace_period,
        )


def _taints(models: Collection[TaintModel]) -> tuple[Taint, ...]:
    return tuple(Taint(key=taint.key, value=taint.value, effect=taint.effect) for taint in models)


def _check_some(key: str, types: Collection[InstanceType]) -> None:
    if not types:
        raise ArchshiftError(
            f"{key}: no instance type meets its settings",
            "change instance_categories, min_generation, min_vcpu, max_vcpu, exclude_sizes or architecture",
        )


def _without_metal(bounds: tuple[Requirement, ...], group: str) -> tuple[Requirement, ...]:
    """Return the bounds with all sizes of bare metal excluded."""
    label = machine_label(group, "size")
    excluded = [size for bound in bounds if bound.key == label for size in bound.values]
    sizes = tuple(dict.fromkeys((*excluded, *metal_sizes())))
    return (*(bound for bound in bounds if bound.key != label), Requirement(label, "NotIn", sizes))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolSettings:
    """The settings of a stack's NodePools.

    Attributes:
        raw: The groups that are NodePools, from ``archshift:node_groups``.
        provisioners: The name of each to a key of ``NODE_CLASSES``.
        families: The Graviton families to choose twins from; None for all up to the eighth generation.
    """

    raw: Mapping[str, Any]
    provisioners: Mapping[str, str]
    families: tuple[str, ...] | None

    @property
    def node_class_groups(self) -> tuple[str, ...]:
        """The API groups of their node classes."""
        return tuple(dict.fromkeys(NODE_CLASSES[one][0] for one in self.provisioners.values()))

    @property
    def imported(self) -> tuple[str, ...]:
        """The names of the existing NodePools that they take over."""
        return tuple(
            value["import"]
            for value in self.raw.values()
            if isinstance(value, Mapping) and value.get("import")
        )

    def pools(
        self, live: Mapping[str, LivePool] | None = None, *, stack: str = "", manager: str = ""
    ) -> dict[str, NodePool]:
        """Return the NodePools, by name of the group.

        Args:
            live: The NodePools of the cluster, by name. None if nobody read the cluster: then the result
                lacks the pools that the stack takes over, and their twins.
            stack: The stack, as ``stack_label`` writes it.
            manager: The field manager of the stack's NodePools.

        Raises:
            SettingsError: Values are invalid, or an existing NodePool is not as the settings assume.
        """
        problems = Problems()
        models = models_of(PoolModel, self.raw, problems)
        pools: dict[str, NodePool] = {}
        # An original comes before its twin, because the twin follows it.
        for name in sorted(models, key=lambda name: models[name].twin_of is not None):
            with problems.collected():
                model = models[name]
                _check_stack(f"{KEY}.{name}", (live or {}).get(model.import_name or name), stack)
                pool = self._pool(name, models, pools, live, manager)
                if pool:
                    pools[name] = pool
        problems.check()
        return {name: pools[name] for name in self.raw if name in pools}

    def _pool(
        self,
        name: str,
        models: Mapping[str, PoolModel],
        pools: Mapping[str, NodePool],
        live: Mapping[str, LivePool] | None,
        manager: str,
    ) -> NodePool | None:
        model, key = models[name], f"{KEY}.{name}"
        group = NODE_CLASSES[self.provisioners[name]][0]
        if model.import_name:
            others = [other for other in models if models[other].import_name == model.import_name]
            if others[0] != name:
                raise ArchshiftError(
                    f"{key}.import: {others[0]} takes over the NodePool {model.import_name!r} already",
                    "remove one of the two groups",
                )
            return None if live is None else self._adopted(name, model, live, manager)
        if model.twin_of is None:
            return model.pool(name, *model.machines(key, group), self.provisioners[name])
        if model.twin_of in self.raw and model.twin_of not in models:
            return None  # the errors of the original are reported with the original
        original = original_of(name, model, models)
        if original.import_name:
            return self._twin_of_adopted(name, model, pools, live)
        taken = with_taken(name, model, self.raw)
        types, requirements = original.machines(f"{KEY}.{model.twin_of}", group)
        if not requirements:
            types = twins_of_types(f"{key}.twin_of", model.twin_of, original, types, self.families)
            permitted = set(matching_types(model.bounds(group), group, ARM64))
            types = tuple(kind for kind in types if kind in permitted)
            _check_some(key, types)
        else:
            requirements = self._twin_requirements(key, model, requirements, group)
            types = matching_types(requirements, group, ARM64)
            requirements = tuple(one for one in requirements if one.key.startswith(machine_label(group, "")))
        return taken.pool(name, types, requirements, self.provisioners[name])

    def _twin_requirements(
        self, key: str, model: PoolModel, requirements: tuple[Requirement, ...], group: str
    ) -> tuple[Requirement, ...]:
        try:
            translated = twin_requirements(requirements, group, self.families)
        except ArchshiftError as error:
            raise ArchshiftError(
                f"{key}.twin_of: {model.twin_of!r}: {error.problem}",
                "give the group instance_types of its own, or choose others from archshift:graviton_families",
            ) from None
        own = model.bounds(group)
        keys = {one.key for one in own}
        merged = (*(one for one in translated if one.key not in keys), *own)
        _check_some(key, matching_types(merged, group))
        return merged

    def _adopted(self, name: str, model: PoolModel, live: Mapping[str, LivePool], manager: str) -> NodePool:
        key = f"{KEY}.{name}"
        found = live.get(str(model.import_name))
        if found is None:
            raise ArchshiftError(
                f"{key}.import: the cluster has no NodePool {model.import_name!r}",
                f"there are: {', '.join(sorted(live)) or 'none'}",
            )
        reference = found.spec["template"]["spec"]["nodeClassRef"]
        group, kind = NODE_CLASSES[self.provisioners[name]]
        if (reference["group"], reference["kind"]) != (group, kind):
            known = [
                one
                for one, theirs in NODE_CLASSES.items()
                if theirs == (reference["group"], reference["kind"])
            ]
            raise ArchshiftError(
                f"{key}.import: the NodePool {found.name!r} has a node class of the kind "
                f"{reference['kind']}, not {kind}",
                f"add provisioner: {known[0]} to the group" if known else "remove the group",
            )
        if found.name in _BUILT_IN and group == NODE_CLASSES["auto-mode"][0]:
            raise ArchshiftError(
                f"{key}.import: EKS itself owns the NodePool {found.name!r}, and nobody may change it",
                "make a NodePool of your own beside it, and later turn the built-in one off at EKS",
            )
        if found.spec.get("replicas") is not None:
            raise ArchshiftError(
                f"{key}.import: the NodePool {found.name!r} has a fixed number of nodes (spec.replicas)",
                "remove the group; its nodes count as nodes of others",
            )
        own = own_spec(found, manager)
        spec = changed(own, model.changes(self.raw[name], group, own))
        there = pool_architectures(spec)
        if len(there) > 1 and model.architecture is None:
            raise ArchshiftError(
                f"{key}.import: the NodePool {found.name!r} makes nodes of both architectures",
                "add architecture: amd64 to narrow it to x86, and a Graviton group with twin_of beside it",
            )
        if model.architecture and there != {model.architecture}:
            spec = _narrowed(spec, model.architecture)
        pool = from_manifest(
            name,
            spec,
            model.architecture,
            import_name=found.name,
            force=model.force,
            released=model.release,
            former=former_values(own, spec),
        )
        if pool is None:
            raise ArchshiftError(
                f"{key}.import: no known Linux instance type meets the requirements of the NodePool "
                f"{found.name!r}",
                "remove the group, or change architecture, instance_types or the other settings about types",
            )
        return pool

    def _twin_of_adopted(
        self,
        name: str,
        model: PoolModel,
        pools: Mapping[str, NodePool],
        live: Mapping[str, LivePool] | None,
    ) -> NodePool | None:
        key, other = f"{KEY}.{name}", str(model.twin_of)
        if live is None or other not in pools:
            return None
        followed = pools[other]
        group = followed.node_class.group
        existing = live.get(name)
        ours = (
            existing
            and (existing.spec["template"].get("metadata") or {}).get("labels", {}).get(GROUP_LABEL) == name
        )
        try:
            fresh = twin_spec(followed.spec or {}, name, self.families)
            spec = twin_spec(
                followed.spec or {}, name, self.families, existing.spec if existing and ours else None
            )
        except ArchshiftError as error:
            raise ArchshiftError(
                f"{key}.twin_of: {other!r}: {error.problem}",
                "give the group instance_types of its own, or choose others from archshift:graviton_families",
            ) from None
        taken = with_taken(name, model, self.raw)
        typed = {*self.raw[name], *(self.raw[other].keys() & {*model.twin_takes})}
        changes = taken.changes(typed, group, spec)
        notes = _not_followed(name, other, changed(fresh, changes), changed(spec, changes))
        spec = changed(spec, changes)
        pool = from_manifest(name, spec, ARM64, notes=notes)
        if pool is None:
            _check_some(key, ())
        return pool


def _not_followed(
    name: str, other: str, fresh: Mapping[str, Any], kept: Mapping[str, Any]
) -> tuple[str, ...]:
    """Say which fields of a twin differ from its original: a change would replace all of its nodes."""
    paths = template_changes(kept, fresh)
    if not paths:
        return ()
    return (
        f"{name}: it keeps its {' and '.join(paths)}, although {other} has others, because a change replaces "
        f"all of its nodes; to change them, set them for {name}",
    )


def _check_stack(key: str, live: LivePool | None, stack: str) -> None:
    """Check that no other stack has made or taken over a NodePool.

    Raises:
        ArchshiftError: One has.
    """
    if live and (other := live.labels.get(STACK_LABEL, stack)) != stack:
        raise ArchshiftError(
            f"{key}: the NodePool {live.name!r} belongs to the stack {other}",
            "give the group another name, or first remove or release it in that stack",
        )


def _narrowed(spec: Mapping[str, Any], architecture: Architecture) -> dict[str, Any]:
    """Return the spec of a NodePool for one architecture. Karpenter replaces only the other nodes."""
    result = changed(spec, PoolChanges())
    inner = result["template"]["spec"]
    wanted = [Requirement.of(entry) for entry in inner.get("requirements") or ()]
    inner["requirements"] = [one.entry() for one in for_architecture(wanted, architecture)]
    return result
