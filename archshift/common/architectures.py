"""The two architectures and the labels that tell them apart. The only place that spells them."""

from typing import Final, Literal, TypeAlias

Architecture: TypeAlias = Literal["amd64", "arm64"]

AMD64: Final = "amd64"
ARM64: Final = "arm64"
ARCHITECTURES: Final[tuple[Architecture, ...]] = (AMD64, ARM64)

ARCH_LABEL: Final = "kubernetes.io/arch"
"""Set by every kubelet (https://kubernetes.io/docs/reference/labels-annotations-taints/)."""

ARCH_LABELS: Final = (ARCH_LABEL, "beta.kubernetes.io/arch")
"""All labels by which a workload may pin an architecture; the beta one is old but still set."""


def display(architecture: Architecture) -> str:
    """Return the name people use: x86 or Graviton."""
    return "Graviton" if architecture == ARM64 else "x86"
