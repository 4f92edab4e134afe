"""CPU, memory and pods: what pods request, and what nodes offer."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MIB: Final = 1024**2
GIB: Final = 1024**3


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of what the scheduler counts.

    Attributes:
        millicpu: Thousandths of a vCPU.
        memory: Bytes.
        pods: Number of pods; by default 1, so an amount without it belongs to one pod.
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
        """Whether any figure is not 0."""
        return bool(self.millicpu or self.memory or self.pods)

    def holds(self, other: "Resources") -> bool:
        """Return whether this is enough for another amount."""
        return self.millicpu >= other.millicpu and self.memory >= other.memory and self.pods >= other.pods

    def largest(self, other: "Resources") -> "Resources":
        """Return the larger of both amounts, figure by figure."""
        return Resources(
            max(self.millicpu, other.millicpu), max(self.memory, other.memory), max(self.pods, other.pods)
        )


NOTHING: Final = Resources(pods=0)


def total(amounts: Iterable[Resources]) -> Resources:
    """Return the sum of amounts."""
    return sum(amounts, start=NOTHING)
