"""EC2 instance types: their architecture, their allocatable capacity as Kubernetes nodes, and their twins.

``tools/instance_types.py`` makes the table ``instance_types.json`` from EC2's own catalogue. The reserved
capacity follows the formulas of the EKS optimised AMI: 255 MiB, 11 MiB for each pod, and 100 MiB for the
eviction threshold; 6 % of the first core, 1 % of the second, 0.5 % of two more, 0.25 % of the rest.
"""

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

from archshift.common.architectures import ARM64, Architecture
from archshift.common.errors import ArchshiftError
from archshift.common.resources import MIB

# m6idn, im4gn, m7i-flex, u7i-12tb: letters of the line, generation, letters of the variant. The few families
# without a generation (u-6tb1, mac-m4) have no Graviton twin.
_FAMILY: Final = re.compile(r"(?P<line>[a-z]+)(?P<generation>\d+)(?P<variant>[a-z]*)(-[a-z0-9]+)?")

# The letters of a variant that name the processor (Intel, AMD, Graviton) and not the purpose.
_PROCESSORS: Final = frozenset("iag")

# The lines that differ by proportions and by the letters below. People choose the others (p, g, inf, trn, u,
# hpc, d, z, ...) for other hardware, so equal vCPU and memory do not make a twin.
_LINES: Final = frozenset({"c", "i", "m", "r", "t", "x"})

_VARIANTS: Final = {
    "b": "EBS bandwidth",
    "d": "a local disk",
    "e": "extra storage or memory",
    "n": "network bandwidth",
    "z": "clock speed",
}

# The newest Graviton generation that nearly all regions have. In the catalogue of mid 2026, families of the
# eighth were in 28 and 29 of 30 regions, families of the ninth (Graviton5) in 4 to 8.
_NEWEST_GENERATION: Final = 8


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One EC2 instance type.

    Attributes:
        name: For example ``m7g.xlarge``.
        architecture: amd64 or arm64.
        vcpu: The number of vCPUs.
        memory_mib: The memory, in MiB.
        pods: The most pods that can get an address from the VPC CNI.
    """

    name: str
    architecture: Architecture
    vcpu: int
    memory_mib: int
    pods: int

    @property
    def family(self) -> str:
        """The part of the name before the size, for example ``m7g``."""
        return self.name.partition(".")[0]

    @property
    def allocatable_millicpu(self) -> int:
        """The CPU for pods, in thousandths of a vCPU."""
        reserved = 0.0
        for core in range(self.vcpu):
            reserved += 60 if core == 0 else 10 if core == 1 else 5 if core < 4 else 2.5
        return self.vcpu * 1000 - round(reserved)

    @property
    def allocatable_memory(self) -> int:
        """The memory for pods, in bytes."""
        return (self.memory_mib - (255 + 11 * self.pods) - 100) * MIB

    @property
    def managed_pods(self) -> int:
        """The most pods of a node that EKS manages; EKS may permit fewer than the VPC CNI.

        https://docs.aws.amazon.com/eks/latest/userguide/create-managed-node-group.html
        """
        return min(self.pods, 110 if self.vcpu < 30 else 250)

    @property
    def size(self) -> str:
        """What must be equal for a twin, in words."""
        return f"{self.vcpu} vCPU, {round(self.memory_mib / 1024, 2):g} GiB"


@cache
def _families() -> Mapping[str, Mapping[str, Any]]:
    # The table is read when the first type is needed, which saves half a millisecond of the import.
    text = resources.files("archshift.nodes").joinpath("instance_types.json").read_text()
    families: Mapping[str, Mapping[str, Any]] = json.loads(text)
    return families


class _Types(Mapping[str, InstanceType]):
    """The table as a map of types. Each type is made when it is needed."""

    def __getitem__(self, name: str) -> InstanceType:
        family, _, size = name.partition(".")
        entry = _families()[family]
        return InstanceType(name, entry["architecture"], *entry["sizes"][size])

    def __iter__(self) -> Iterator[str]:
        return (f"{family}.{size}" for family, entry in _families().items() for size in entry["sizes"])

    def __len__(self) -> int:
        return sum(len(entry["sizes"]) for entry in _families().values())


INSTANCE_TYPES: Final[Mapping[str, InstanceType]] = _Types()
"""Name to type, for every EC2 instance type that a node can have (no macOS)."""


def instance_type(name: str, key: str) -> InstanceType:
    """Return a type.

    Args:
        name: The type's name.
        key: The configuration key that has it, for the message.

    Raises:
        ArchshiftError: The type is unknown; the message names similar types.
    """
    try:
        return INSTANCE_TYPES[name]
    except KeyError:
        nearest = difflib.get_close_matches(name, INSTANCE_TYPES, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
        raise ArchshiftError(f"{key}: {name!r} is an unknown instance type{hint}") from None


def family_types(name: str, key: str) -> list[InstanceType]:
    """Return the types of a family without bare metal, which needs ten minutes to boot.

    Args:
        name: The family's name.
        key: The configuration key that has it, for the message.

    Raises:
        ArchshiftError: The family is unknown; the message names similar families.
    """
    if name not in _families():
        nearest = difflib.get_close_matches(name, _families(), n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
        raise ArchshiftError(f"{key}: {name!r} is an unknown instance family{hint}")
    sizes = _families()[name]["sizes"]
    return [INSTANCE_TYPES[f"{name}.{size}"] for size in sizes if "metal" not in size]


def graviton_families() -> tuple[str, ...]:
    """Return the names of all Graviton families."""
    return tuple(family for family, entry in _families().items() if entry["architecture"] == ARM64)


@dataclass(frozen=True, slots=True)
class _Family:
    """The parts of a family's name.

    Attributes:
        line: The proportions: c, m, r, t, ...
        generation: The number.
        variant: The letters after the number, without the processor's.
    """

    line: str
    generation: int
    variant: frozenset[str]


@cache
def _read_family(name: str) -> _Family | None:
    match = _FAMILY.fullmatch(name)
    if not match:
        return None
    variant = frozenset(match["variant"]) - _PROCESSORS
    # Every dense storage family has the network bandwidth, but only x86 families have the letter for it.
    if match["line"] == "i" and "e" in variant:
        variant -= {"n"}
    return _Family(match["line"], int(match["generation"]), variant)


def twin(kind: InstanceType, available: Collection[str] | None = None) -> InstanceType:
    """Return the Graviton type that can stand in for an x86 type, node for node.

    It has the same number of vCPUs, the same memory and the same line (c, m, r, ...), and at least what the
    letters of the variant mean (a local disk, network bandwidth). If there are several, it is the type with
    the fewest other letters, then of the newest generation. Only names are compared. In the catalogue a
    twin's network is at least as fast, except for x86 types of 192 vCPU of the eighth generation (75 Gbit/s,
    the twin 50).

    Args:
        kind: The x86 type.
        available: The Graviton families to choose from; None for all up to the eighth generation, which most
            regions have.

    Raises:
        ArchshiftError: There is no twin; the message says why.
    """
    problem = f"{kind.name} ({kind.size}) has no Graviton twin"
    if kind.architecture == ARM64:
        raise ArchshiftError(f"{problem}: it is a Graviton type itself")
    wanted = _read_family(kind.family)
    if not wanted or wanted.line not in _LINES:
        raise ArchshiftError(f"{problem}: no Graviton family replaces {kind.family} and its special hardware")
    alike = {
        name: family
        for name in graviton_families()
        if (family := _read_family(name)) and family.line == wanted.line and family.variant >= wanted.variant
    }
    if not alike:
        needs = " and ".join(_VARIANTS.get(letter, letter) for letter in sorted(wanted.variant))
        raise ArchshiftError(f"{problem}: no Graviton family of the line {wanted.line} has {needs}")
    choice = [
        name
        for name, family in alike.items()
        if (family.generation <= _NEWEST_GENERATION if available is None else name in available)
    ]
    choice.sort(key=lambda name: (len(alike[name].variant - wanted.variant), -alike[name].generation))
    for name in choice:
        if equal := _equal_in(name, kind):
            return equal
    others = [equal.name for name in alike if (equal := _equal_in(name, kind))]
    if others:
        raise ArchshiftError(f"{problem} in the families to choose from", f"{' or '.join(others)} would fit")
    nearest = _nearest_in(choice[0] if choice else next(iter(alike)), kind)
    raise ArchshiftError(f"{problem}: no Graviton type has that size; the nearest are {nearest}")


def _equal_in(family: str, kind: InstanceType) -> InstanceType | None:
    """Return the type of a family with the size of ``kind``; bare metal matches only bare metal."""
    for size in _families()[family]["sizes"]:
        candidate = INSTANCE_TYPES[f"{family}.{size}"]
        same = (candidate.vcpu, candidate.memory_mib) == (kind.vcpu, kind.memory_mib)
        if same and (".metal" in candidate.name) == (".metal" in kind.name):
            return candidate
    return None


def _nearest_in(family: str, kind: InstanceType) -> str:
    types = [INSTANCE_TYPES[f"{family}.{size}"] for size in _families()[family]["sizes"]]
    virtual = [candidate for candidate in types if ".metal" not in candidate.name]
    smaller = [candidate for candidate in virtual if candidate.vcpu <= kind.vcpu][-1:]
    larger = [candidate for candidate in virtual if candidate.vcpu > kind.vcpu][:1]
    return " and ".join(f"{candidate.name} ({candidate.size})" for candidate in smaller + larger)
