"""The pods of a fleet that are on the wrong side between two updates, and how many of them can move now."""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from archshift.actions.evictions import Reader
from archshift.actions.moving import may_move
from archshift.actions.sides import Rooms, fullest_first, surplus_of
from archshift.cluster.client import Cluster
from archshift.cluster.pods import list_pods
from archshift.common.architectures import ARM64, Architecture, display, opposite
from archshift.common.text import counted
from archshift.plan import reasons
from archshift.plan.model import PlannedWorkload


@dataclass(frozen=True, slots=True)
class Surplus:
    """What one workload has too many on a side.

    Attributes:
        side: The side.
        pods: How many pods it has too many there.
        moves: How many of them move now.
    """

    side: Architecture
    pods: int
    moves: int


def measure(
    cluster: Cluster, rows: Iterable[PlannedWorkload], most: int | None, *, on_demand: bool = False
) -> tuple[list[PlannedWorkload], dict[str, Surplus], dict[str, str]]:
    """Return what moves now: the workloads with the counts to reach, their surplus, and why others stay.

    An evicted pod without room on its side would come back, and its restart would be for nothing.

    Args:
        cluster: The connection.
        rows: The workloads.
        most: How many pods may be evicted in all; None for any number.
        on_demand: Whether nodes come up for pods that find no room.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    rows = [row for row in rows if may_move(row)]
    reading = Reader(cluster).read(rows, time.monotonic())
    rooms = Rooms(list_pods(cluster), reading.nodes) if rows else None
    due: list[PlannedWorkload] = []
    found: dict[str, Surplus] = {}
    left: dict[str, str] = dict(reading.problems)
    for row in rows:
        if row.key in left or rooms is None:
            continue
        pods = [pod for pod in reading.pods.get(row.key, ()) if not pod.leaving]
        surplus = surplus_of(pods, reading.nodes, row.replicas, row.wanted or 0)
        if surplus.number <= 0:
            continue
        other = opposite(surplus.side)
        wrong = fullest_first(surplus.there, surplus.number, pods, reading.nodes)
        fitting = surplus.number if on_demand else sum(map(rooms.take, wrong))
        # A restart takes all its pods, and a part of the surplus would come back.
        number = fitting if not row.restarts else row.replicas if fitting == surplus.number else 0
        if fitting < surplus.number:
            pending = counted(surplus.number - fitting, "pod", "find")
            left[row.key] = f"{pending} no room on {display(other)}"
        if most is not None and number > most:
            number = 0 if row.restarts else most
            left[row.key] = reasons.MAX_PODS
        if most is not None:
            most -= number
        moves = min(surplus.number, number)
        found[row.key] = Surplus(surplus.side, surplus.number, moves)
        if moves:
            rest = surplus.number - moves
            wanted = (row.wanted or 0) + (rest if surplus.side == ARM64 else -rest)
            due.append(replace(row, wanted=wanted))
    return due, found, left
