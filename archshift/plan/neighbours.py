"""Which workloads find no node on a side, because their pods must not share one with pods of others. Pure.

A required pod anti-affinity counts in both directions: the scheduler also keeps a pod off a node where a pod
runs that refuses its company. Pods with the same host port cannot share a node either. The first of two such
workloads may take every node of a small side. So pods may come to a side only if there is a place for them
wherever the others' pods land. What runs on a side already has its places there.

Thousands of workloads may have the same rule. So a set of workloads is an integer here, as in ``PodSets``:
one operation counts the pods of a workload against all that must not meet them.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from archshift.cluster.model import Workload
from archshift.cluster.pod_affinity import Keys, PodSets, selects_own_pods, transposed, union
from archshift.common.architectures import ARCHITECTURES, Architecture, opposite
from archshift.common.kubernetes import HOSTNAME_LABEL
from archshift.plan import reasons
from archshift.plan.reachability import Site, possible_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Where the pods of a workload belong by a plan.

    Attributes:
        pods: A side to the number of its pods there after the step.
        present: A side to the number of its pods there now.
        movable: Whether archshift may move it.
    """

    pods: Mapping[Architecture, int]
    present: Mapping[Architecture, int]
    movable: bool

    def comes_to(self, side: Architecture) -> bool:
        """Return whether the step brings pods of it to a side."""
        other, now = opposite(side), self.present
        # A pod that is pending now comes from nowhere.
        moves = not now[side] or self.pods[other] < now[other]
        return self.movable and self.pods[side] > now[side] and moves


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowded:
    """A side that may have no place for the pods of a workload that would come there.

    Attributes:
        side: The side.
        most: The number of its pods that are there already, and may be.
        reason: Why, for people.
    """

    side: Architecture
    most: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Places:
    """The places with different values of a label that a workload can use on a side.

    Attributes:
        number: Their number.
        beside: In how many of them nodes of the other side are too, as in a zone.
    """

    number: int
    beside: int


class Neighbours:
    """The workloads that must not meet others."""

    def __init__(self, workloads: Iterable[Workload], places: Sequence[Site]) -> None:
        """Find them.

        Args:
            workloads: All that have pods, or are to have some.
            places: Where pods may run.
        """
        self.workloads = sorted(workloads, key=lambda workload: workload.key)
        self.apart = _apart(self.workloads)
        """The label of the places to the set of each workload's rivals there: those that it must not meet."""
        self.rivals = [union(sets) for sets in zip(*self.apart.values(), strict=True)]
        """The set of each workload's rivals, whatever the label."""
        self.members = [position for position, rivals in enumerate(self.rivals) if rivals]
        """The positions of the workloads that have rivals."""
        self._places = places
        self._rules: dict[int, str] = {}
        self._found: dict[tuple[Architecture, str, str], _Places | None] = {}

    def crowded_out(self, tenants: Mapping[str, Tenant]) -> dict[str, Crowded]:
        """Return the side that may have no place for pods that would come there, by the workload's key.

        Args:
            tenants: The key of each workload that has rivals to where its pods belong.
        """
        keys = [workload.key for workload in self.workloads]
        by_position = {position: tenants[self.workloads[position].key] for position in self.members}
        found: dict[str, Crowded] = {}
        for side in ARCHITECTURES:
            coming = [position for position, tenant in by_position.items() if tenant.comes_to(side)]
            # What is there already goes first. And one workload that refuses the company of all others must
            # not keep all of these away.
            coming.sort(key=lambda at: (not by_position[at].present[side], self.rivals[at].bit_count()))
            crowd = _Crowd(self, side, by_position, coming)
            for position in coming:
                if not crowd.admit(position):
                    beside = Keys(crowd.beside(position), keys)
                    found[self.workloads[position].key] = Crowded(
                        side=side,
                        most=by_position[position].present[side],
                        reason=reasons.must_stay_apart(beside, side),
                    )
        return found

    def places_of(self, position: int, label: str, side: Architecture) -> _Places | None:
        """Return where a workload can run by the values of a label; None if there is no end of places."""
        workload = self.workloads[position]
        rules = self._rules.get(position)
        if rules is None:
            rules = self._rules[position] = workload.rules
        like = (side, label, rules)
        if like not in self._found:
            self._found[like] = self._count_places(workload, label, side)
        return self._found[like]

    def _count_places(self, workload: Workload, label: str, side: Architecture) -> _Places | None:
        own: set[str] = set()
        others: set[str] = set()
        for site in self._places:
            if site.node.architecture == opposite(side) and label != HOSTNAME_LABEL:
                others |= _values(label, site) or set()
            if site.node.architecture != side or not workload.may_run_on(site.node):
                continue
            values = _values(label, site)
            if values is None:
                return None
            own |= values
        return _Places(len(own), len(own & others)) if own else None


class _Crowd:
    """The workloads on a side, while others come there.

    Attributes:
        admitted: The set of the workloads that will have pods there.
    """

    def __init__(
        self,
        neighbours: Neighbours,
        side: Architecture,
        tenants: Mapping[int, Tenant],
        coming: Sequence[int],
    ) -> None:
        self.admitted = 0
        self._came = 0
        self._neighbours = neighbours
        self._side: Architecture = side
        self._pods = {position: tenant.pods[side] for position, tenant in tenants.items()}
        self._elsewhere: dict[int, int] = {}
        """A number of pods to the set of the workloads that have so many on the other side."""
        for position, tenant in tenants.items():
            if number := tenant.pods[opposite(side)]:
                self._elsewhere[number] = self._elsewhere.get(number, 0) | 1 << position
        self._rooms = {label: self._room(label, coming) for label in sorted(neighbours.apart)}
        self._there = dict(self._pods)
        self._there |= {position: tenants[position].present[side] for position in coming}
        for position, pods in self._there.items():
            if pods:
                for label, room in self._rooms.items():
                    room.take(self._rivals(label, position), pods)
                self.admitted |= 1 << position

    def admit(self, position: int) -> bool:
        """Let a workload's pods come if they and all that came find a place; return whether they do."""
        if any(room.short >> position & 1 for room in self._rooms.values()):
            return False
        number = self._pods[position] - self._there[position]
        takes = {
            label: room.after(self._rivals(label, position), number) for label, room in self._rooms.items()
        }
        if any(short & self._came for _, short in takes.values()):
            return False
        for label, (left, short) in takes.items():
            self._rooms[label].left = left
            self._rooms[label].short |= short
        self.admitted |= 1 << position
        self._came |= 1 << position
        return True

    def beside(self, position: int) -> int:
        """Return the set of the rivals that keep a workload away."""
        for label, room in self._rooms.items():
            if room.short >> position & 1:
                rivals = self._rivals(label, position)
                places = self._neighbours.places_of(position, label, self._side)
                near = union(self._elsewhere.values()) if places and places.beside else 0
                return rivals & (self.admitted | near)
        return self._neighbours.rivals[position] & self.admitted

    def _rivals(self, label: str, position: int) -> int:
        return self._neighbours.apart[label][position]

    def _room(self, label: str, coming: Iterable[int]) -> "_Room":
        left: dict[int, int] = {}
        for position in coming:
            places = self._neighbours.places_of(position, label, self._side)
            if places and (rivals := self._rivals(label, position)):
                # In a zone of both sides, the others' pods on the other side take places too.
                taken = places.beside and sum(
                    min(number, places.beside) * (rivals & members).bit_count()
                    for number, members in self._elsewhere.items()
                )
                # If it has too few places for its own pods, no rival is the reason.
                spare = max(0, places.number - self._needed(label, position))
                left[position] = spare - taken
        return _Room.of(left)

    def _needed(self, label: str, position: int) -> int:
        """Return in how many places a workload must find room itself."""
        workload = self._neighbours.workloads[position]
        ports = bool(workload.template.host_ports) and label == HOSTNAME_LABEL
        own = ports or any(
            term["topologyKey"] == label and selects_own_pods(term, workload)
            for term in workload.template.anti_affinity
        )
        return self._pods[position] if own else 1


@dataclass(slots=True)
class _Room:
    """How many places each of many workloads can leave to its rivals.

    Attributes:
        members: The set of the workloads whose places are limited.
        left: The numbers, as sets: ``left[k]`` has the workloads whose number has the bit ``k``.
        short: The set of the workloads whose rivals may take too many.
    """

    members: int
    left: list[int]
    short: int

    @classmethod
    def of(cls, numbers: Mapping[int, int]) -> "_Room":
        """Build it from the position of each workload to its number."""
        left = [0] * max((number.bit_length() for number in numbers.values()), default=0)
        short = 0
        for position, number in numbers.items():
            for bit in range(len(left)):
                if number > 0 and number >> bit & 1:
                    left[bit] |= 1 << position
            if number < 0:
                short |= 1 << position
        return cls(union(1 << position for position in numbers), left, short)

    def after(self, rivals: int, pods: int) -> tuple[list[int], int]:
        """Return the numbers if so many pods take a place of each rival, and the set of those then short."""
        rivals &= self.members
        if pods >> len(self.left):
            return self.left, rivals
        # A subtraction in columns: what a place cannot give, it borrows from the next.
        left, borrow = [], 0
        for bit, column in enumerate(self.left):
            taken = rivals if pods >> bit & 1 else 0
            left.append(column ^ taken ^ borrow)
            borrow = ((taken | borrow) & ~column) | (taken & borrow)
        return left, borrow

    def take(self, rivals: int, pods: int) -> None:
        """Let pods take a place each of their rivals."""
        self.left, short = self.after(rivals, pods)
        self.short |= short


def _apart(workloads: Sequence[Workload]) -> dict[str, list[int]]:
    """Return the label of the places to the set of each workload's rivals there, both by position."""
    by_port: dict[str, int] = {}
    for position, workload in enumerate(workloads):
        for port in workload.template.host_ports:
            by_port[port] = by_port.get(port, 0) | 1 << position
    found: dict[str, list[int]] = {}
    if by_port:
        found[HOSTNAME_LABEL] = [
            union(by_port[port] for port in workload.template.host_ports) for workload in workloads
        ]
    refused: dict[str, dict[int, int]] = {}
    if any(workload.template.anti_affinity for workload in workloads):
        sets = PodSets(workloads)
        for position, workload in enumerate(workloads):
            for term in workload.template.anti_affinity:
                # Its own pods are no matter of neighbours.
                if others := sets.selected(term, workload, position) & ~(1 << position):
                    rows = refused.setdefault(str(term["topologyKey"]), {})
                    rows[position] = rows.get(position, 0) | others
    for label, rows in refused.items():
        refusing = transposed(rows, len(workloads))
        both = found.get(label) or [0] * len(workloads)
        found[label] = [
            known | rows.get(position, 0) | refusing[position] for position, known in enumerate(both)
        ]
    return {
        label: [members & ~(1 << position) for position, members in enumerate(sets)]
        for label, sets in found.items()
    }


def _values(label: str, site: Site) -> set[str] | None:
    """Return the values that a label may have there, none if they are unknown; None if it limits nothing."""
    if label == HOSTNAME_LABEL:
        return None if site.many else {site.node.name}
    values = possible_values(label, site.node)
    # A rule does not concern nodes without its label.
    return None if None in values else {value for value in values if value}
