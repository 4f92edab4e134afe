"""The operating systems of managed node groups: a record for each AMI type of EKS.

https://docs.aws.amazon.com/eks/latest/APIReference/API_Nodegroup.html
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.errors import ArchshiftError
from archshift.nodes.instance_types import InstanceType

AmiFamily: TypeAlias = Literal["AL2023", "Bottlerocket"]

CUSTOM: Final = "CUSTOM"
"""The AMI type of a group whose launch template names an image. EKS sets it by itself."""

_VOLUMES: Final[Mapping[AmiFamily, tuple[str, ...]]] = {
    "AL2023": ("/dev/xvda",),
    # Bottlerocket keeps images and logs on a volume of their own.
    "Bottlerocket": ("/dev/xvda", "/dev/xvdb"),
}
"""The devices of the volumes that an image brings; the last has images and logs."""


@dataclass(frozen=True, slots=True)
class AmiType:
    """One AMI type.

    Attributes:
        name: Its name at EKS.
        family: The operating system.
        architecture: The architecture of its nodes.
        variant: The variant of the operating system; empty for the plain one.
    """

    name: str
    family: AmiFamily
    architecture: Architecture
    variant: str = ""

    @property
    def volumes(self) -> tuple[str, ...]:
        """The devices of the volumes that its image brings."""
        return _VOLUMES[self.family]

    @property
    def data_volume(self) -> str:
        """The device of the volume with images and logs."""
        return self.volumes[-1]


AMI_TYPES: Final[Mapping[str, AmiType]] = {
    ami.name: ami
    for ami in (
        AmiType("AL2023_x86_64_STANDARD", "AL2023", AMD64),
        AmiType("AL2023_ARM_64_STANDARD", "AL2023", ARM64),
        AmiType("BOTTLEROCKET_x86_64", "Bottlerocket", AMD64),
        AmiType("BOTTLEROCKET_ARM_64", "Bottlerocket", ARM64),
        AmiType("AL2023_x86_64_NVIDIA", "AL2023", AMD64, "NVIDIA"),
        AmiType("AL2023_x86_64_NEURON", "AL2023", AMD64, "NEURON"),
        AmiType("AL2023_ARM_64_NVIDIA", "AL2023", ARM64, "NVIDIA"),
        AmiType("BOTTLEROCKET_x86_64_FIPS", "Bottlerocket", AMD64, "FIPS"),
        AmiType("BOTTLEROCKET_ARM_64_FIPS", "Bottlerocket", ARM64, "FIPS"),
        AmiType("BOTTLEROCKET_x86_64_NVIDIA", "Bottlerocket", AMD64, "NVIDIA"),
        AmiType("BOTTLEROCKET_ARM_64_NVIDIA", "Bottlerocket", ARM64, "NVIDIA"),
        AmiType("BOTTLEROCKET_x86_64_NVIDIA_FIPS", "Bottlerocket", AMD64, "NVIDIA_FIPS"),
        AmiType("BOTTLEROCKET_ARM_64_NVIDIA_FIPS", "Bottlerocket", ARM64, "NVIDIA_FIPS"),
    )
}
"""The AMI types that a node group may have."""

AMI_FAMILIES: Final[Mapping[AmiFamily, Mapping[Architecture, str]]] = {
    family: {
        ami.architecture: ami.name for ami in AMI_TYPES.values() if ami.family == family and not ami.variant
    }
    for family in get_args(AmiFamily)
}
"""The operating systems of nodes, and their plain AMI type for each architecture."""


def on_arm64(ami_type: str) -> str:
    """Return the AMI type of the same family and variant for arm64; the given name if there is none."""
    ami = AMI_TYPES.get(ami_type)
    alike = (
        other.name
        for other in AMI_TYPES.values()
        if ami and (other.family, other.variant, other.architecture) == (ami.family, ami.variant, ARM64)
    )
    return next(alike, ami_type)


def check_ami_type(ami_type: str, types: Iterable[InstanceType], key: str) -> str:
    """Return the AMI type if it fits a group's instance types, which have one architecture.

    Raises:
        ArchshiftError: The AMI type is unknown, or is for the other architecture.
    """
    if ami_type not in AMI_TYPES:
        raise ArchshiftError(f"{key}: {ami_type!r} is invalid; use one of {', '.join(AMI_TYPES)}")
    for kind in types:
        if AMI_TYPES[ami_type].architecture != kind.architecture:
            raise ArchshiftError(
                f"{key}: {ami_type} is for {AMI_TYPES[ami_type].architecture} "
                f"and {kind.name} is {kind.architecture}",
                "leave it out and ami_family finds the right one",
            )
    return ami_type
