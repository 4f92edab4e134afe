"""CPU, memory, devices and pods: what pods request, and what nodes offer."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import add, sub
from typing import Final, TypeAlias

MIB: Final = 1024**2
GIB: Final = 1024**3

EPHEMERAL_STORAGE: Final = "ephemeral-storage"
"""The resource for a node's own disk."""

Devices: TypeAlias = tuple[tuple[str, int], ...]
"""Resource name and amount, by name, such as ``nvidia.com/gpu`` and ``ephemeral-storage``."""


@dataclass(frozen=True, slots=True)
class Resources:
    """An amount of what the scheduler counts.

    Attributes:
        millicpu: Thousandths of a vCPU.
        memory: Bytes.
        pods: Number of pods; by default 1, so an amount without it belongs to one pod.
        devices: All other resources.
    """

    millicpu: int = 0
    memory: int = 0
    pods: int = 1
    devices: Devices = ()

    @property
    def vcpu(self) -> float:
        """The CPU, in vCPU."""
        return self.millicpu / 1000

    @property
    def gib(self) -> float:
        """The memory, in GiB."""
        return self.memory / GIB

    def __add__(self, other: "Resources") -> "Resources":
        return self._combined(other, add)

    def __sub__(self, other: "Resources") -> "Resources":
        return self._combined(other, sub)

    def __mul__(self, times: int) -> "Resources":
        devices = tuple((name, times * amount) for name, amount in self.devices if times)
        return Resources(times * self.millicpu, times * self.memory, times * self.pods, devices)

    def __bool__(self) -> bool:
        """Whether any figure is not 0."""
        return bool(self.millicpu or self.memory or self.pods or self.devices)

    def holds(self, other: "Resources") -> bool:
        """Return whether this is enough CPU, memory and pods for another amount; devices do not count."""
        return self.millicpu >= other.millicpu and self.memory >= other.memory and self.pods >= other.pods

    def largest(self, other: "Resources") -> "Resources":
        """Return the larger of both amounts, figure by figure."""
        return self._combined(other, max)

    def _combined(self, other: "Resources", combine: Callable[[int, int], int]) -> "Resources":
        return Resources(
            combine(self.millicpu, other.millicpu),
            combine(self.memory, other.memory),
            combine(self.pods, other.pods),
            _merged(self.devices, other.devices, combine),
        )


def _merged(mine: Devices, theirs: Devices, combine: Callable[[int, int], int]) -> Devices:
    # Few pods ask for devices, and a fleet has thousands of pods.
    if not theirs:
        return mine
    amounts = dict(mine)
    for name, amount in theirs:
        amounts[name] = combine(amounts.get(name, 0), amount)
    return tuple(sorted(amounts.items()))


def describe_amount(name: str, amount: int) -> str:
    """Return an amount of a device for people: ``4 nvidia.com/gpu``, ``2.0 GiB of hugepages-2Mi``."""
    if name == EPHEMERAL_STORAGE or name.startswith("hugepages-"):
        return f"{amount / GIB:.1f} GiB of {name}"
    return f"{amount} {name}"


NOTHING: Final = Resources(pods=0)


def total(amounts: Iterable[Resources]) -> Resources:
    """Return the sum of amounts."""
    return sum(amounts, start=NOTHING)
