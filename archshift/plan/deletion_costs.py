"""In which order pods of an autoscaled workload end, so that its share holds while it is scaled down. Pure.

The controller of a ReplicaSet ends pods in this order: without a node, pending, not ready, then those with
the lowest ``controller.kubernetes.io/pod-deletion-cost`` (``ActivePodsWithRanks`` in
k8s.io/kubernetes/pkg/controller/controller_utils.go, 1.36). A pod without the annotation has the cost 0. So
pods that come later end first, if the costs are positive. A StatefulSet ends the highest ordinal first and
reads no costs, so there the ordinals have to be on the right sides.

An order may round each number of remaining pods up or down. Many small workloads that all round up would
bend the share of the fleet. So archshift makes the orders together: it takes the pods of all workloads in the
sequence in which a growing load needs them. Each free choice goes to the side that the fleet lacks.
"""

from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from archshift.cluster.pods import Pod
from archshift.common.architectures import AMD64, ARM64

READERS: Final = ("ReplicaSet", "ReplicationController")
"""The kinds whose controller reads costs. Deployments and Argo Rollouts have ReplicaSets."""

_FIRST: Final = 1_000_000_000
_GAP: Final = 10_000
"""The distance of two costs, so that pods can come between others. Costs are positive 32-bit numbers."""

_MOST: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Proportion:
    """The share of a workload that is kept: ``graviton`` of ``replicas`` pods.

    Attributes:
        graviton: The pods on Graviton.
        replicas: All pods.
        fewest: The pods that its autoscaler always leaves, 1 or more.
        mixed: Whether pods that its autoscaler adds may run on the other side, if all are on one now.
    """

    graviton: int
    replicas: int
    fewest: int = 1
    mixed: bool = False

    @property
    def is_kept(self) -> bool:
        """Whether the order of its pods matters."""
        return self.mixed or self.on_both_sides

    @property
    def on_both_sides(self) -> bool:
        """Whether some pods belong on each side."""
        return 0 < self.graviton < self.replicas

    def allows(self, graviton: int, pods: int) -> bool:
        """Return whether so many pods are less than one pod away from the share."""
        return abs(graviton * self.replicas - self.graviton * pods) < self.replicas

    def error(self, graviton: int, pods: int) -> int:
        """Return how far so many pods are from the share, in pods divided by ``replicas``."""
        return abs(graviton * self.replicas - self.graviton * pods)


@dataclass(frozen=True, slots=True)
class Standing:
    """A pod that runs.

    Attributes:
        name: Its name.
        graviton: Whether it runs on Graviton.
        cost: Its cost; None if it has none.
    """

    name: str
    graviton: bool
    cost: int | None = None


def costs_of(workloads: Mapping[str, tuple[Sequence[Standing], Proportion]]) -> dict[str, dict[str, int]]:
    """Return the costs to write, by workload and pod, so that the pods end in an order that keeps the share.

    After each end, the remaining pods of a workload are less than one pod away from its share. If a side has
    too few pods for that, the pods beyond end first. The fleet is as near to its share as that permits, while
    all its workloads are scaled down alike. Costs that are right already stay.

    Args:
        workloads: Any key to the pods of one ReplicaSet, and the share to keep.
    """
    orders = {key: _Order(pods, share) for key, (pods, share) in workloads.items()}
    _fill(orders)
    return {key: order.costs() for key, order in orders.items()}


class _Order:
    """The pods of one ReplicaSet, those that stay longest first."""

    def __init__(self, pods: Sequence[Standing], share: Proportion) -> None:
        self.share = share
        self.pods: list[Standing] = []
        self._kept: set[str] = set()
        self._graviton = 0
        self._ranked: deque[Standing] = deque()
        self._free: dict[bool, deque[Standing]] = {True: deque(), False: deque()}
        for pod in sorted(pods, key=lambda pod: (-(pod.cost or 0), pod.name)):
            # Of two pods with the same cost nobody knows which one ends first.
            if pod.cost is None or pod.cost <= 0 or (self._ranked and self._ranked[-1].cost == pod.cost):
                self._free[pod.graviton].append(pod)
            else:
                self._ranked.append(pod)
        self._left = {side: sum(pod.graviton == side for pod in pods) for side in (True, False)}
        self.on_both_sides = all(self._left.values())

    def needed_at(self) -> list[float]:
        """Return the load, relative to the present one, at which each pod of the order is needed."""
        pods, share = sum(self._left.values()), self.share
        return [
            0.0 if number <= share.fewest else (number - 0.5) / share.replicas
            for number in range(1, pods + 1)
        ]

    def add(self, lacking: bool | None) -> bool:
        """Take the next pod into the order, and return whether it is on Graviton.

        Args:
            lacking: Whether the fleet lacks pods on Graviton; None if it lacks none on either side.
        """
        sides = self._sides(lacking)
        ranked, free = self._ranked, self._free
        blocked = ranked and ranked[0].graviton not in sides and not any(free[side] for side in sides)
        if blocked and ranked[1].graviton in sides:
            # One pod stands before others that could keep their costs.
            pod = ranked.popleft()
            free[pod.graviton].appendleft(pod)
        if ranked and ranked[0].graviton in sides:
            pod = ranked.popleft()
            self._kept.add(pod.name)
        else:
            side = next((side for side in sides if free[side]), sides[0])
            pod = free[side].popleft() if free[side] else _last_of(ranked, side)
        self.pods.append(pod)
        self._left[pod.graviton] -= 1
        self._graviton += pod.graviton
        return pod.graviton

    def costs(self) -> dict[str, int]:
        """Return the costs to write, by pod; empty if every order is right."""
        # On one side every order is right, but pods that come on the other side must end before these.
        if not (self.on_both_sides or self.share.mixed):
            return {}
        costs = _numbered(self.pods, self._kept) or {
            pod.name: _FIRST - _GAP * at for at, pod in enumerate(self.pods)
        }
        return {pod.name: costs[pod.name] for pod in self.pods if costs[pod.name] != pod.cost}

    def _sides(self, lacking: bool | None) -> list[bool]:
        """Return the sides that the next pod may be on, the better first."""
        if not all(self._left.values()):
            return [self._left[True] > 0]
        pods = len(self.pods) + 1
        counts = {True: self._graviton + 1, False: self._graviton}
        sides = [side for side in (True, False) if self.share.allows(counts[side], pods)]
        return sorted(
            sides, key=lambda side: (lacking not in (None, side), self.share.error(counts[side], pods))
        )


def _fill(orders: Mapping[str, _Order]) -> None:
    """Take all pods into the orders of their workloads."""
    fleet = Proportion(
        sum(order.share.graviton for order in orders.values()),
        sum(order.share.replicas for order in orders.values()),
    )
    # Of pods that are needed at the same load, those first that leave no choice. The others make up for them.
    sequence = sorted(
        (load, order.on_both_sides, key) for key, order in orders.items() for load in order.needed_at()
    )
    graviton = 0
    for pods, (_, _, key) in enumerate(sequence, 1):
        with_it, without = fleet.error(graviton + 1, pods), fleet.error(graviton, pods)
        graviton += orders[key].add(None if with_it == without else with_it < without)


def _last_of(ranked: deque[Standing], side: bool) -> Standing:
    pod = next(pod for pod in reversed(ranked) if pod.graviton == side)
    ranked.remove(pod)
    return pod


def _numbered(order: Sequence[Standing], kept: Container[str]) -> dict[str, int]:
    """Return a cost for each pod that falls along the order; empty if there is no room between kept costs."""
    costs: dict[str, int] = {}
    above: int | None = None
    waiting: list[Standing] = []

    def fill(below: int | None) -> bool:
        number = len(waiting)
        if not number:
            return True
        if above is None:
            highest = _FIRST if below is None else below + _GAP * number
            step = _GAP
        else:
            step = _GAP if below is None else (above - below) // (number + 1)
            highest = above - step
        values = [highest - step * at for at in range(number)]
        costs.update(zip((pod.name for pod in waiting), values, strict=True))
        waiting.clear()
        return step > 0 and values[0] <= _MOST and values[-1] > 0

    for pod in order:
        if pod.name not in kept or pod.cost is None:
            waiting.append(pod)
            continue
        if not fill(pod.cost):
            return {}
        costs[pod.name] = above = pod.cost
    return costs if fill(None) else {}


def next_ordinals(
    graviton: Sequence[bool], number: int, share: Proportion, *, to_graviton: bool
) -> list[int]:
    """Return which pods of a StatefulSet change sides, as positions in the order of their ordinals.

    It chooses those after which the first pods of the order are nearest to the share, for every number of
    them. A StatefulSet that is scaled down keeps the first ones.

    Args:
        graviton: Whether each pod runs on Graviton, in the order of the ordinals.
        number: How many pods change sides.
        share: The share to keep.
        to_graviton: Whether they go to Graviton, or come from it.
    """
    candidates = [at for at, there in enumerate(graviton) if there != to_graviton]
    chosen: list[int] = []
    count = 0
    for at, there in enumerate(graviton):
        if there != to_graviton and len(chosen) < number:
            left = sum(candidate >= at for candidate in candidates)
            stays, goes = count + there, count + to_graviton
            must = left <= number - len(chosen)
            if must or share.error(goes, at + 1) <= share.error(stays, at + 1):
                chosen.append(at)
                count = goes
                continue
        count += there
    return chosen


@dataclass(frozen=True, slots=True)
class Change:
    """A change of one pod's annotation: its new cost; None to remove it."""

    pod: Pod
    cost: int | None


def changes_of(
    pods: Mapping[str, Sequence[Pod]],
    sides: Mapping[str, str],
    kept: Mapping[str, Proportion],
    manager: str,
) -> dict[str, list[Change]]:
    """Return the changes of the costs of each workload's pods; without workloads that need none.

    Args:
        pods: The key of a workload to its pods that are not being deleted.
        sides: The name of a node to its architecture.
        kept: The key of a workload to the share to keep. All others give their costs back.
        manager: The stack's name in ``managedFields``. It gives back no costs of other stacks.
    """
    found: dict[str, list[Change]] = {}
    made: dict[str, tuple[str, dict[str, Pod]]] = {}
    for key, own in pods.items():
        if key not in kept or own_costs(own):
            found[key] = [
                Change(pod, None) for pod in own if pod.cost is not None and pod.cost_manager == manager
            ]
            continue
        for pod in own:
            if pod.owner and pod.owner.kind in READERS and sides.get(pod.node) in (ARM64, AMD64):
                made.setdefault(f"{key} {pod.maker}", (key, {}))[1][pod.name] = pod
    standing = {
        maker: (
            [Standing(pod.name, sides[pod.node] == ARM64, pod.cost) for pod in by_name.values()],
            kept[key],
        )
        for maker, (key, by_name) in made.items()
    }
    for maker, costs in costs_of(standing).items():
        key, by_name = made[maker]
        found.setdefault(key, []).extend(Change(by_name[name], cost) for name, cost in costs.items())
    return {key: changes for key, changes in found.items() if changes}


def own_costs(pods: Iterable[Pod]) -> str:
    """Return who sets deletion costs on pods of a workload besides archshift; empty if nobody does."""
    return next((pod.cost_owner for pod in pods if pod.cost_owner), "")


def costs_due(
    pods: Mapping[str, Sequence[Pod]],
    sides: Mapping[str, str],
    kept: Mapping[str, Proportion],
    moving: Container[str],
    manager: str,
) -> tuple[str, ...]:
    """Return the keys of the workloads whose costs an update has to write or to give back.

    Args:
        pods: The key of a workload to its pods, as ``Inventory.scaled_pods``.
        sides: The name of a node to its architecture.
        kept: The key of a workload to the share that its pods keep while it is scaled down.
        moving: The keys of workloads that get new pods in this update.
        manager: The stack's name for deletion costs in ``managedFields``.
    """
    changes = changes_of(pods, sides, kept, manager)
    return tuple(
        key
        for key, own in sorted(pods.items())
        if key in changes or (key in kept and key in moving and kept[key].is_kept and _reads_costs(own))
    )


def _reads_costs(pods: Sequence[Pod]) -> bool:
    return not own_costs(pods) and any(pod.owner and pod.owner.kind in READERS for pod in pods)
