"""CPU, memory and pods: what pods ask for, and what nodes hold."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MIB: Final = 1024**2
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of what a scheduler counts.

    Attributes:
        millicpu: Thousandths of a vCPU.
        memory: Bytes.
        pods: Number of pods; 1 unless it is said of more or of a node.
    """

    millicpu: int = 0
    memory: int = 0
    pods: int = 1

    @property
    def vcpu(self) -> float:
        """The CPU, in vCPU."""
        return self.millicpu / 1000

    @property
    def gib(self) -> float:
        """The memory, in GiB."""
        return self.memory / GIB

    def __add__(self, other: "Resources") -> "Resources":
        return Resources(self.millicpu + other.millicpu, self.memory + other.memory, self.pods + other.pods)

    def __sub__(self, other: "Resources") -> "Resources":
        return Resources(self.millicpu - other.millicpu, self.memory - other.memory, self.pods - other.pods)

    def __mul__(self, times: int) -> "Resources":
        return Resources(times * self.millicpu, times * self.memory, times * self.pods)

    def __bool__(self) -> bool:
        """Whether there is any of it."""
        return bool(self.millicpu or self.memory or self.pods)

    def holds(self, other: "Resources") -> bool:
        """Say whether it is enough for another amount."""
        return self.millicpu >= other.millicpu and self.memory >= other.memory and self.pods >= other.pods

    def largest(self, other: "Resources") -> "Resources":
        """Return the larger of both, each figure for itself."""
        return Resources(
            max(self.millicpu, other.millicpu), max(self.memory, other.memory), max(self.pods, other.pods)
        )


NOTHING: Final = Resources(pods=0)


def total(amounts: Iterable[Resources]) -> Resources:
    """Return the sum of amounts."""
    return sum(amounts, start=NOTHING)
