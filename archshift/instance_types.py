"""EC2 instance types: architecture and what a Kubernetes node of that type can allocate.

Sizes and network interface limits: https://docs.aws.amazon.com/ec2/latest/instancetypes/.
Reservations: the formulas of the EKS optimised AMI (255 MiB + 11 MiB a pod, 100 MiB eviction
threshold; 6 % of the first core, 1 % of the second, 0.5 % of two more, 0.25 % of the rest).
"""

import difflib
from dataclasses import dataclass
from typing import Final

from archshift.architectures import AMD64, ARM64, Architecture
from archshift.errors import ArchshiftError

_MIB: Final = 1024 * 1024

# family -> (architecture, GiB of memory per vCPU)
_FAMILIES: Final[dict[str, tuple[Architecture, int]]] = {
    "c5": (AMD64, 2), "c6i": (AMD64, 2), "c7i": (AMD64, 2), "c6a": (AMD64, 2), "c7a": (AMD64, 2),
    "m5": (AMD64, 4), "m6i": (AMD64, 4), "m7i": (AMD64, 4), "m6a": (AMD64, 4), "m7a": (AMD64, 4),
    "r5": (AMD64, 8), "r6i": (AMD64, 8), "r7i": (AMD64, 8), "r6a": (AMD64, 8), "r7a": (AMD64, 8),
    "c6g": (ARM64, 2), "c7g": (ARM64, 2), "c8g": (ARM64, 2),
    "m6g": (ARM64, 4), "m7g": (ARM64, 4), "m8g": (ARM64, 4),
    "r6g": (ARM64, 8), "r7g": (ARM64, 8), "r8g": (ARM64, 8),
}  # fmt: skip

# size -> (vCPU, pods: interfaces * (addresses - 1) + 2); the same in all families above.
_SIZES: Final[dict[str, tuple[int, int]]] = {
    "large": (2, 29),
    "xlarge": (4, 58),
    "2xlarge": (8, 58),
    "4xlarge": (16, 234),
    "8xlarge": (32, 234),
}

_BURSTABLE_FAMILIES: Final[dict[str, Architecture]] = {"t3": AMD64, "t3a": AMD64, "t4g": ARM64}

# Burstable types do not follow the families' proportions: type -> (vCPU, GiB, pods).
_BURSTABLE: Final[dict[str, tuple[Architecture, int, int, int]]] = {
    f"{family}.{size}": (architecture, vcpu, gib, pods)
    for family, architecture in _BURSTABLE_FAMILIES.items()
    for size, vcpu, gib, pods in (
        ("medium", 2, 4, 17),
        ("large", 2, 8, 35),
        ("xlarge", 4, 16, 58),
        ("2xlarge", 8, 32, 58),
    )
}


@dataclass(frozen=True, slots=True)
class InstanceType:
    """One EC2 instance type.

    Attributes:
        name: For example ``m7g.xlarge``.
        architecture: amd64 or arm64.
        vcpu: Number of vCPUs.
        memory_mib: Memory, MiB.
        pods: Most pods the VPC CNI can give addresses to.
    """

    name: str
    architecture: Architecture
    vcpu: int
    memory_mib: int
    pods: int

    @property
    def allocatable_millicpu(self) -> int:
        """CPU left for pods, in thousandths of a vCPU."""
        reserved = 0.0
        for core in range(self.vcpu):
            reserved += 60 if core == 0 else 10 if core == 1 else 5 if core < 4 else 2.5
        return self.vcpu * 1000 - round(reserved)

    @property
    def allocatable_memory(self) -> int:
        """Memory left for pods, bytes."""
        return (self.memory_mib - (255 + 11 * self.pods) - 100) * _MIB


def _table() -> dict[str, InstanceType]:
    table = {
        f"{family}.{size}": InstanceType(
            f"{family}.{size}", architecture, vcpu, vcpu * gib_per_vcpu * 1024, pods
        )
        for family, (architecture, gib_per_vcpu) in _FAMILIES.items()
        for size, (vcpu, pods) in _SIZES.items()
        if (family, size) != ("c5", "8xlarge")  # c5 goes from 4xlarge to 9xlarge
    }
    for name, (architecture, vcpu, gib, pods) in _BURSTABLE.items():
        table[name] = InstanceType(name, architecture, vcpu, gib * 1024, pods)
    return table


INSTANCE_TYPES: Final = _table()
"""Name to type, for the families that archshift knows."""


def instance_type(name: str, key: str) -> InstanceType:
    """Look a type up.

    Args:
        name: The type's name.
        key: The config key it was read from, for the message.

    Raises:
        ArchshiftError: The type is not in the table; names the nearest ones.
    """
    try:
        return INSTANCE_TYPES[name]
    except KeyError:
        nearest = difflib.get_close_matches(name, INSTANCE_TYPES, n=3, cutoff=0.4)
        hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
        raise ArchshiftError(f"{key}: {name!r} is not an instance type archshift knows{hint}") from None
