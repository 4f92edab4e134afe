"""Which workloads must run beside each other, and what that means for where they may run. Pure.

A required pod affinity over nodes ties two workloads to one side. A pod of the first can only start where a
pod of the second runs. So they move together or not at all.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import Final

from archshift.cluster.kinds import CONTROLLERS, on_every_node
from archshift.cluster.model import Workload
from archshift.cluster.pod_affinity import Keys, PodSets, positions, transposed, union
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture
from archshift.common.kubernetes import ARCH_LABELS, HOSTNAME_LABEL
from archshift.nodes.groups import Node
from archshift.plan import reasons
from archshift.plan.reachability import counts_old_pods, possible_values

BOTH_SIDES: Final = frozenset(ARCHITECTURES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A workload, and what is decided about it without its companions.

    Attributes:
        workload: The workload.
        sides: The sides where its pods run whatever its companions do; None if archshift may move it.
        observed: The sides where its pods run now.
        may_leave: Whether all its pods may run on Graviton.
    """

    workload: Workload
    sides: frozenset[Architecture] | None
    observed: frozenset[Architecture] = frozenset()
    may_leave: bool = True

    @property
    def key(self) -> str:
        """``namespace/Kind/name``."""
        return self.workload.key


@dataclass(frozen=True, slots=True, kw_only=True)
class Bond:
    """What its companions decide for a movable workload.

    Attributes:
        unit: The key of the first workload of those that move together; empty if the side is decided.
        side: The side where all its pods must run; None if the unit may run on either.
        reason: Why, for people.
    """

    unit: str = ""
    side: Architecture | None = None
    reason: str


def bonds(members: Iterable[Member], nodes: Iterable[Node], *, evicts: bool = False) -> dict[str, Bond]:
    """Return what companions decide for each movable workload that has some.

    Args:
        members: All known workloads.
        nodes: The nodes after the update.
        evicts: Pods move by evictions; otherwise by rollouts of their workloads.
    """
    by_key = {member.key: member for member in members}
    fleet = _Fleet([by_key[key] for key in sorted(by_key)], nodes)
    return fleet.bonds(evicts=evicts)


def _requirements(workloads: Sequence[Workload], nodes: Iterable[Node]) -> dict[int, int]:
    """Return the companions of each workload that must have one on its side, as sets, all by position.

    A pod needs one of them there. The set is empty if archshift knows none. It may have the workload itself.
    """
    nodes = [*nodes]
    labels = {str(term["topologyKey"]) for workload in workloads for term in workload.template.affinity}
    tying = {label for label in labels if _ties(label, nodes)}
    if not tying:
        return {}
    sets = PodSets(workloads)
    found: dict[int, int] = {}
    for position, workload in enumerate(workloads):
        terms = workload.template.affinity
        if any(str(term["topologyKey"]) in tying for term in terms):
            selected = [sets.selected(term, workload, position) for term in terms]
            found[position] = reduce(and_, selected)
    return found


def _ties(label: str, nodes: Iterable[Node]) -> bool:
    """Return whether nodes with the same value of a label are always on the same side."""
    if label == HOSTNAME_LABEL or label in ARCH_LABELS:
        return True
    sides: dict[str, set[str]] = {}
    for node in nodes:
        values = possible_values(label, node)
        if not values:
            return False  # a node to come may have any value
        for value in values:
            if value is not None:
                sides.setdefault(value, set()).add(node.architecture)
    everywhere = set().union(*sides.values())
    return everywhere >= BOTH_SIDES and all(len(its) == 1 for its in sides.values())


class _Units:
    """Sets of workloads that move together."""

    def __init__(self, movable: int) -> None:
        self._unit_of = {position: position for position in positions(movable)}
        self._members = {position: 1 << position for position in self._unit_of}

    def join(self, members: int) -> None:
        """Make one unit of all units that have some of these workloads."""
        found, joined = [], 0
        while rest := members & ~joined:
            found.append(self._root(next(positions(rest))))
            joined |= self._members[found[-1]]
        for root in found[1:]:
            del self._members[root]
            self._unit_of[root] = found[0]
        self._members[found[0]] = joined

    def _root(self, position: int) -> int:
        while (above := self._unit_of[position]) != position:
            self._unit_of[position] = self._unit_of[above]
            position = above
        return position

    def sets(self) -> list[int]:
        """Return the units, in the order of their first workloads."""
        return sorted(self._members.values(), key=lambda unit: unit & -unit)


class _Fleet:
    """All known workloads, in the order of their keys. A set of them is an integer, as in ``PodSets``."""

    def __init__(self, members: Sequence[Member], nodes: Iterable[Node]) -> None:
        self._members = members
        self._keys = [member.key for member in members]
        self._needed = _requirements([member.workload for member in members], nodes)
        self._movable = self._all(member.sides is None for member in members)
        self._fixed_on = {
            side: self._all(side in (member.sides or ()) for member in members) for side in ARCHITECTURES
        }
        self._may_leave = self._all(member.may_leave for member in members)
        self._units = _Units(self._movable)
        self._free = 0
        self._decided: dict[int, Bond] = {}
        self._kept = 0

    @staticmethod
    def _all(chosen: Iterable[bool]) -> int:
        return union(1 << position for position, is_one in enumerate(chosen) if is_one)

    def _named(self, members: int) -> Keys:
        return Keys(members, self._keys)

    def _others(self, position: int, members: int) -> Keys:
        return self._named(members & ~(1 << position))

    def bonds(self, *, evicts: bool) -> dict[str, Bond]:
        for position, targets in self._needed.items():
            self._bind(position, targets)
        found = self._decided | self._of_units(evicts)
        return {self._keys[position]: bond for position, bond in found.items()}

    def _bind(self, position: int, targets: int) -> None:
        member, own = self._members[position], 1 << position
        movable, fixed = targets & self._movable & ~own, targets & ~self._movable
        there = frozenset(side for side in ARCHITECTURES if fixed & self._fixed_on[side])
        if member.sides is not None:
            self._keep_company(member, movable, member.sides - there)
        elif there >= BOTH_SIDES:
            self._free |= own
        elif movable:
            self._units.join(movable | own)
        elif fixed or not targets & own:
            # If no known workload is its companion, its own pods show where the companions run.
            sides = there or member.observed
            if len(sides) == 1:
                (side,) = sides
                beside = self._named(fixed & self._fixed_on[side])
                self._decide(position, Bond(side=side, reason=reasons.must_run_beside(beside, side)))

    def _keep_company(self, member: Member, movable: int, sides: frozenset[Architecture]) -> None:
        """Keep the companions of a workload that stays where it is, if no other companion is there."""
        if len(sides) != 1:
            return
        (side,) = sides
        for target in positions(movable & ~self._kept):
            self._decide(target, Bond(side=side, reason=reasons.needed_beside(member.key, side)))

    def _decide(self, position: int, bond: Bond) -> None:
        self._decided[position] = bond
        self._kept |= 1 << position

    def _of_units(self, evicts: bool) -> dict[int, Bond]:
        tied = {at: targets for at, targets in self._needed.items() if not self._free >> at & 1}
        needing = transposed(tied, len(self._members)) if tied else []
        found: dict[int, Bond] = {}
        for unit in self._units.sets():
            first = next(positions(unit))
            alone = unit == 1 << first
            if alone and (first in self._decided or not tied.get(first, 0) & unit):
                continue
            held = next(positions(unit & self._kept), None)
            blocked = unit & ~self._may_leave
            if held is not None and (side := self._decided[held].side):
                why = dict.fromkeys(positions(unit), reasons.must_run_beside([self._keys[held]], side))
            elif blocked:
                side = AMD64
                why = dict.fromkeys(positions(unit), reasons.must_run_beside(self._named(blocked), side))
                for at in positions(blocked):
                    why[at] = reasons.companions_cannot_move(self._others(at, unit))
            elif not self._can_begin(unit, tied, needing, evicts):
                side = self._present_side(unit)
                why = {at: reasons.moves_only_at_once(self._others(at, unit)) for at in positions(unit)}
            else:
                for at in positions(unit):
                    reason = reasons.together(self._others(at, unit))
                    found[at] = Bond(unit=self._keys[first], reason=reason)
                continue
            found |= {at: Bond(side=side, reason=text) for at, text in why.items() if at not in self._decided}
        return found

    def _can_begin(self, unit: int, tied: Mapping[int, int], needing: Sequence[int], evicts: bool) -> bool:
        """Return whether a rolling update, or evictions, can move a unit.

        A new pod starts only where a companion runs already. So some workload must need no companion, or end
        all its old pods first.
        """
        begin = [
            at
            for at in positions(unit)
            if at not in tied or (tied[at] == 1 << at and _begins_alone(self._members[at].workload, evicts))
        ]
        moved = union(1 << at for at in begin)
        while begin:
            more = needing[begin.pop()] & unit & ~moved
            moved |= more
            begin.extend(positions(more))
        return moved == unit

    def _present_side(self, unit: int) -> Architecture:
        observed = frozenset(side for at in positions(unit) for side in self._members[at].observed)
        return ARM64 if observed == {ARM64} else AMD64


def _begins_alone(workload: Workload, evicts: bool) -> bool:
    """Return whether no old pod of a workload is company for its first new pod."""
    if evicts and workload.most_away:
        # Old and new pods have the same revision, so all old pods must be away at once.
        return workload.most_away >= workload.replicas
    template, limit = workload.template, CONTROLLERS[workload.kind].rollout_limit
    one_by_one = limit is not None and limit.strategy == "updateStrategy" and workload.replicas > 1
    return not (workload.keeps_old_pods or one_by_one) or not all(
        counts_old_pods(term, template) for term in template.affinity
    )


def needing_too(
    needing: Iterable[str], workloads: Mapping[str, Workload], nodes: Iterable[Node]
) -> dict[str, str]:
    """Return the workloads that need x86 because a companion needs it, with the companion.

    Args:
        needing: The keys of the workloads that need x86 themselves.
        workloads: All known workloads.
        nodes: All nodes.

    Returns:
        Workload key to the key of the companion.
    """
    keys = sorted(workloads)
    known = [workloads[key] for key in keys]
    needed = _requirements(known, nodes)
    if not needed:
        return {}
    dependent = transposed(needed, len(keys))
    everywhere = union(1 << at for at, workload in enumerate(known) if on_every_node(workload.kind))
    place = {key: at for at, key in enumerate(keys)}
    found: dict[int, int] = {}
    because = last = union(1 << place[key] for key in needing if key in place)
    while last:
        more = 0
        # Only these can follow from what the last round found.
        for at in positions(last | union(dependent[one] for one in positions(last))):
            own = 1 << at
            targets = needed.get(at, 0)
            others = targets & ~own
            if because & own:
                # Its companions must stay for it, unless one stays anyway.
                if not targets & own and not others & (because | everywhere):
                    found |= dict.fromkeys(positions(others & ~more), at)
                    more |= others
            elif others and not others & ~because:
                if not more & own:
                    found[at] = next(positions(others))
                more |= own
        because |= more
        last = more
    return {keys[at]: keys[companion] for at, companion in found.items()}
