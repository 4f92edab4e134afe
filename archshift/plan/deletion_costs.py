"""In which order pods of an autoscaled workload end, so that its share holds while it is scaled down. Pure.

The controller of a ReplicaSet ends pods in this order: without a node, pending, not ready, then those with
the lowest ``controller.kubernetes.io/pod-deletion-cost`` (``ActivePodsWithRanks`` in
k8s.io/kubernetes/pkg/controller/controller_utils.go, 1.36). A pod without the annotation has the cost 0. So
pods that come later end first, if the costs are positive. A StatefulSet ends the highest ordinal first and
reads no costs, so there the ordinals have to be on the right sides.
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
    """The share of a workload that is kept: ``graviton`` of ``replicas`` pods."""

    graviton: int
    replicas: int

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


def costs_of(pods: Iterable[Standing], share: Proportion) -> dict[str, int]:
    """Return the costs to write, by pod, so that the pods end in an order that keeps the share.

    After each end, the pods that remain are less than one pod away from the share. If a side has too few pods
    for that, the pods beyond end first. Costs that are right already stay.
    """
    pods = sorted(pods, key=lambda pod: (-(pod.cost or 0), pod.name))
    if len({pod.graviton for pod in pods}) < 2:
        return {}
    order, kept = _in_order(pods, share)
    costs = _numbered(order, kept) or {pod.name: _FIRST - _GAP * at for at, pod in enumerate(order)}
    return {pod.name: costs[pod.name] for pod in order if costs[pod.name] != pod.cost}


def _in_order(pods: Sequence[Standing], share: Proportion) -> tuple[list[Standing], frozenset[str]]:
    """Return the pods, those that stay longest first, and the names of those that keep their cost."""
    ranked: deque[Standing] = deque()
    free: dict[bool, deque[Standing]] = {True: deque(), False: deque()}
    for pod in pods:
        # Of two pods with the same cost nobody knows which one ends first.
        if pod.cost is None or pod.cost <= 0 or (ranked and ranked[-1].cost == pod.cost):
            free[pod.graviton].append(pod)
        else:
            ranked.append(pod)
    left = {side: sum(pod.graviton == side for pod in pods) for side in (True, False)}
    order: list[Standing] = []
    kept: set[str] = set()
    graviton = 0
    while len(order) < len(pods):
        sides = _sides(graviton, len(order) + 1, left, share)
        blocked = ranked and ranked[0].graviton not in sides and not any(free[side] for side in sides)
        if blocked and ranked[1].graviton in sides:
            # One pod stands before others that could keep their costs.
            pod = ranked.popleft()
            free[pod.graviton].appendleft(pod)
        if ranked and ranked[0].graviton in sides:
            pod = ranked.popleft()
            kept.add(pod.name)
        else:
            side = next((side for side in sides if free[side]), sides[0])
            pod = free[side].popleft() if free[side] else _last_of(ranked, side)
        order.append(pod)
        left[pod.graviton] -= 1
        graviton += pod.graviton
    return order, frozenset(kept)


def _sides(graviton: int, pods: int, left: Mapping[bool, int], share: Proportion) -> list[bool]:
    """Return the sides that the next pod may be on, the nearer to the share first."""
    if not all(left.values()):
        return [left[True] > 0]
    counts = {True: graviton + 1, False: graviton}
    sides = [side for side in (True, False) if share.allows(counts[side], pods)]
    return sorted(sides, key=lambda side: share.error(counts[side], pods))


def _last_of(ranked: deque[Standing], side: bool) -> Standing:
    pod = next(pod for pod in reversed(ranked) if pod.graviton == side)
    ranked.remove(pod)
    return pod


def _numbered(order: Sequence[Standing], kept: frozenset[str]) -> dict[str, int]:
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
    pods: Sequence[Pod], sides: Mapping[str, str], share: Proportion | None, manager: str
) -> list[Change]:
    """Return the changes of the costs of one workload's pods.

    Args:
        pods: Its pods that are not being deleted.
        sides: The name of a node to its architecture.
        share: The share to keep; None to give all costs back.
        manager: The stack's name in ``managedFields``. It gives back no costs of other stacks.
    """
    back = [Change(pod, None) for pod in pods if pod.cost is not None and pod.cost_manager == manager]
    if share is None or own_costs(pods):
        return back
    makers: dict[str, list[Pod]] = {}
    for pod in pods:
        if pod.owner and pod.owner.kind in READERS and sides.get(pod.node) in (ARM64, AMD64):
            makers.setdefault(pod.maker, []).append(pod)
    found = []
    for made in makers.values():
        by_name = {pod.name: pod for pod in made}
        standing = [Standing(pod.name, sides[pod.node] == ARM64, pod.cost) for pod in made]
        found += [Change(by_name[name], cost) for name, cost in costs_of(standing, share).items()]
    return found


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
    return tuple(
        key
        for key, own in sorted(pods.items())
        if changes_of(own, sides, kept.get(key), manager)
        or (key in kept and key in moving and kept[key].on_both_sides and _reads_costs(own))
    )


def _reads_costs(pods: Sequence[Pod]) -> bool:
    return not own_costs(pods) and any(pod.owner and pod.owner.kind in READERS for pod in pods)
