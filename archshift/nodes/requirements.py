"""Requirements of a NodePool: which instance types they permit, and what they become for Graviton.

Karpenter and EKS Auto Mode use the same operators. The domain of their labels is the API group of the
node class:
https://karpenter.sh/docs/concepts/nodepools/#spectemplatespecrequirements
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL, ARCH_LABELS, INSTANCE_TYPE_LABELS
from archshift.nodes import well_known_labels
from archshift.nodes.instance_types import INSTANCE_TYPES, InstanceType, twin
from archshift.nodes.well_known_labels import WellKnown


@cache
def instance_sizes() -> frozenset[str]:
    """Return all instance sizes, such as ``2xlarge``."""
    return frozenset(name.partition(".")[2] for name in INSTANCE_TYPES)


def metal_sizes() -> tuple[str, ...]:
    """Return the sizes of bare metal, which needs ten minutes to boot."""
    return tuple(sorted(size for size in instance_sizes() if "metal" in size))


@dataclass(frozen=True, slots=True)
class Requirement:
    """One requirement on a label of the nodes.

    Attributes:
        key: The label.
        operator: In, NotIn, Exists, DoesNotExist, Gt, Gte, Lt or Lte.
        values: The values; Gt, Gte, Lt and Lte have one whole number.
        least_values: How many values Karpenter must be able to choose from; None for no such number.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()
    least_values: int | None = None

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> "Requirement":
        """Return the requirement of an entry in a NodePool's spec."""
        values = tuple(map(str, entry.get("values") or ()))
        return cls(str(entry["key"]), str(entry["operator"]), values, entry.get("minValues"))

    def entry(self) -> dict[str, Any]:
        """Return the entry for a NodePool's spec."""
        entry: dict[str, Any] = {"key": self.key, "operator": self.operator}
        if self.values:
            entry["values"] = list(self.values)
        if self.least_values is not None:
            entry["minValues"] = self.least_values
        return entry

    def permits(self, value: str | None) -> bool:
        """Return whether a label may have this value; None for a missing label."""
        match self.operator:
            case "In":
                return value in self.values
            case "NotIn":
                return value not in self.values
            case "Exists":
                return value is not None
            case "DoesNotExist":
                return value is None
        if value is None or not value.isdecimal() or not self.values or not self.values[0].isdecimal():
            return False
        number, bound = int(value), int(self.values[0])
        match self.operator:
            case "Gt":
                return number > bound
            case "Gte":
                return number >= bound
            case "Lt":
                return number < bound
            case "Lte":
                return number <= bound
        return False


def machine_label(group: str, fact: str) -> str:
    """Return the label for a fact about machines, such as ``karpenter.k8s.aws/instance-category``.

    Args:
        group: The API group of the node class.
        fact: ``category``, ``generation``, ``family``, ``size``, ``cpu``, ...
    """
    return f"{group}/instance-{fact}"


@cache
def _machines(group: str) -> tuple[tuple[InstanceType, WellKnown], ...]:
    """Return all types with the labels that their nodes get."""
    return tuple(
        (kind, well_known_labels.of_any_node(kind) | well_known_labels.of_machine(group, kind))
        for kind in INSTANCE_TYPES.values()
    )


def matching_types(
    requirements: Iterable[Requirement], group: str, architecture: Architecture | None = None
) -> tuple[InstanceType, ...]:
    """Return the instance types that requirements permit.

    A requirement on a label that no instance type decides, such as the zone, permits all types. So does one
    on a label of the machine whose value the table does not have, such as the size of a local disk.

    Args:
        requirements: The requirements of a NodePool.
        group: The API group of the node class.
        architecture: Only types of this architecture; None for both.
    """
    wanted = tuple(requirements)
    return tuple(
        kind
        for kind, known in _machines(group)
        if architecture in (None, kind.architecture) and all(_permitted(one, known, group) for one in wanted)
    )


def _permitted(requirement: Requirement, known: WellKnown, group: str) -> bool:
    if requirement.key in known.labels:
        return requirement.permits(known.labels[requirement.key])
    if requirement.key in known.unknown or not requirement.key.startswith(machine_label(group, "")):
        return True
    return requirement.permits(None)


def describes_machines(key: str, group: str) -> bool:
    """Return whether a label says something about the machine, and not about zone, price or the user."""
    return key.startswith(machine_label(group, "")) or key in (*ARCH_LABELS, *INSTANCE_TYPE_LABELS)


def architectures(requirements: Iterable[Requirement], group: str) -> frozenset[Architecture]:
    """Return the architectures of the types that requirements permit."""
    return frozenset(kind.architecture for kind in matching_types(requirements, group))


def for_architecture(requirements: Iterable[Requirement], architecture: Architecture) -> list[Requirement]:
    """Return the requirements, narrowed to one architecture.

    Karpenter replaces only the nodes whose labels do not match the narrowed requirement.
    """
    only = Requirement(ARCH_LABEL, "In", (architecture,))
    return [only, *(one for one in requirements if one.key not in ARCH_LABELS)]


# --- Graviton -------------------------------------------------------------------------------


def twin_requirements(
    requirements: Sequence[Requirement], group: str, families: Collection[str] | None = None
) -> list[Requirement]:
    """Return the requirements of the Graviton pool that can stand in for an x86 pool.

    Types and families become their Graviton twins. Categories, sizes and vCPUs stay. A generation that a
    category lacks on Graviton becomes the nearest one: the newest t is t4g.

    Args:
        requirements: The requirements of the x86 pool. It may be a pool for both architectures.
        group: The API group of the node class.
        families: The Graviton families to choose from; None for all.

    Raises:
        ArchshiftError: No Graviton type meets them.
    """
    translated = [
        one
        for requirement in requirements
        if requirement.key not in (*ARCH_LABELS, machine_label(group, "cpu-manufacturer"))
        for one in (_twin_of(requirement, group, families),)
    ]
    if families is not None and not any(
        one.operator == "In" and _names_machines(one, group) for one in translated
    ):
        translated.append(Requirement(machine_label(group, "family"), "In", tuple(families)))
    translated = for_architecture(_with_generations(translated, requirements, group), ARM64)
    if not matching_types(translated, group):
        said = ", ".join(
            f"{one.key.rpartition('/')[2]} {one.operator} {' '.join(one.values)}".strip()
            for one in requirements
            if describes_machines(one.key, group) and one.key not in ARCH_LABELS
        )
        raise ArchshiftError(f"no Graviton type meets its requirements ({said or 'any type'})")
    return translated


def _names_machines(requirement: Requirement, group: str) -> bool:
    return requirement.key in (*INSTANCE_TYPE_LABELS, machine_label(group, "family"))


def _twin_of(requirement: Requirement, group: str, families: Collection[str] | None) -> Requirement:
    if requirement.operator != "In" or not _names_machines(requirement, group):
        return requirement
    by_family = requirement.key == machine_label(group, "family")
    named = [
        kind
        for kind in INSTANCE_TYPES.values()
        if (kind.family if by_family else kind.name) in requirement.values
    ]
    # A list with Graviton types is the owner's own choice of them.
    kinds = [kind for kind in named if kind.architecture == ARM64]
    if not kinds:
        for kind in named:
            # Graviton lacks some sizes of a family.
            with suppress(ArchshiftError):
                kinds.append(twin(kind, families))
    values = tuple(dict.fromkeys(kind.family if by_family else kind.name for kind in kinds))
    least = requirement.least_values
    return replace(
        requirement, values=values, least_values=None if least is None else min(least, max(1, len(values)))
    )


def _with_generations(
    translated: Sequence[Requirement], original: Sequence[Requirement], group: str
) -> list[Requirement]:
    """Return the requirements with generations that each category has on Graviton."""
    label, category_label = machine_label(group, "generation"), machine_label(group, "category")
    bounds = [one for one in translated if one.key == label]
    others = [one for one in translated if one.key != label]
    if not bounds:
        return others
    there: dict[str, set[int]] = {}
    for kind in matching_types(others, group, ARM64):
        labels = well_known_labels.of_machine(group, kind).labels
        if category_label in labels and labels[label].isdecimal():
            there.setdefault(labels[category_label], set()).add(int(labels[label]))
    before = {
        well_known_labels.of_machine(group, kind).labels.get(category_label)
        for kind in matching_types(original, group, AMD64)
    }
    for category in sorted(there.keys() & before):
        if any(all(one.permits(str(number)) for one in bounds) for number in there[category]):
            continue
        bounds = [_widened(one, there[category]) for one in bounds]
    return [*others, *bounds]


def _widened(bound: Requirement, generations: Collection[int]) -> Requirement:
    if any(bound.permits(str(number)) for number in generations) or not bound.values:
        return bound
    newest, oldest = str(max(generations)), str(min(generations))
    match bound.operator:
        case "Gt":
            return replace(bound, values=(str(max(generations) - 1),))
        case "Gte":
            return replace(bound, values=(newest,))
        case "Lt":
            return replace(bound, values=(str(min(generations) + 1),))
        case "Lte":
            return replace(bound, values=(oldest,))
        case "In":
            nearest = min(
                generations, key=lambda number: min(abs(number - int(value)) for value in bound.values)
            )
            return replace(bound, values=(*bound.values, str(nearest)))
    return bound
