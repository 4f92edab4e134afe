"""The two architectures."""

from typing import Final, Literal, TypeAlias

Architecture: TypeAlias = Literal["amd64", "arm64"]

AMD64: Final = "amd64"
ARM64: Final = "arm64"
ARCHITECTURES: Final[tuple[Architecture, ...]] = (AMD64, ARM64)


def display(architecture: Architecture) -> str:
    """Return the name people use: x86 or Graviton."""
    return "Graviton" if architecture == ARM64 else "x86"


def opposite(side: str) -> Architecture:
    """Return the other side; of anything but Graviton, that is Graviton."""
    return AMD64 if side == ARM64 else ARM64
