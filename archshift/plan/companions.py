"""Which workloads must run beside each other, and what that means for where they may run. Pure.

A required pod affinity over nodes ties two workloads to one side. A pod of the first can only start where a
pod of the second runs. So they move together or not at all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from archshift.cluster.kinds import CONTROLLERS, on_every_node
from archshift.cluster.model import Workload
from archshift.cluster.pod_affinity import selects
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
    needed = requirements([member.workload for member in by_key.values()], nodes)
    units = _Units(key for key, member in by_key.items() if member.sides is None)
    decided: dict[str, Bond] = {}
    free: set[str] = set()
    for key, targets in needed.items():
        member = by_key[key]
        movable = [target for target in targets if target in units.first and target != key]
        fixed = [target for target in targets if target not in units.first]
        there = frozenset(side for target in fixed for side in by_key[target].sides or ())
        if member.sides is not None:
            _keep_company(member, movable, member.sides - there, decided)
        elif there >= BOTH_SIDES:
            free.add(key)
        elif movable:
            for target in movable:
                units.join(key, target)
        elif key not in targets or fixed:
            # If no known workload is its companion, its own pods show where the companions run.
            sides = there or member.observed
            if len(sides) == 1:
                (side,) = sides
                beside = [target for target in fixed if side in (by_key[target].sides or ())]
                decided[key] = Bond(side=side, reason=reasons.must_run_beside(beside, side))
    tied = {key: targets for key, targets in needed.items() if key not in free}
    return decided | _of_units(units, tied, by_key, decided, evicts)


def requirements(workloads: Iterable[Workload], nodes: Iterable[Node]) -> dict[str, list[str]]:
    """Return the companions of each workload that must have one on its side, all by key.

    A pod needs one of them there. The list is empty if archshift knows none. It may have the workload itself.
    """
    nodes, workloads = [*nodes], [*workloads]
    labels = {str(term["topologyKey"]) for workload in workloads for term in workload.template.affinity}
    tying = {label for label in labels if _ties(label, nodes)}
    return {
        workload.key: [
            target.key
            for target in workloads
            if all(selects(term, workload, target) for term in workload.template.affinity)
        ]
        for workload in workloads
        if any(str(term["topologyKey"]) in tying for term in workload.template.affinity)
    }


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


def _keep_company(
    member: Member, movable: Iterable[str], sides: frozenset[Architecture], decided: dict[str, Bond]
) -> None:
    """Keep the movable companions of a workload that stays where it is, if no other companion is there."""
    if len(sides) != 1:
        return
    (side,) = sides
    for target in movable:
        decided.setdefault(target, Bond(side=side, reason=reasons.needed_beside(member.key, side)))


class _Units:
    """Sets of workloads that move together, by the key of the first of each set."""

    def __init__(self, keys: Iterable[str]) -> None:
        self.first = {key: key for key in keys}

    def join(self, one: str, other: str) -> None:
        first, second = sorted((self.first[one], self.first[other]))
        self.first.update({key: first for key, its in self.first.items() if its == second})

    def members(self) -> dict[str, list[str]]:
        units: dict[str, list[str]] = {}
        for key, first in sorted(self.first.items()):
            units.setdefault(first, []).append(key)
        return units


def _of_units(
    units: _Units,
    needed: Mapping[str, list[str]],
    by_key: Mapping[str, Member],
    decided: Mapping[str, Bond],
    evicts: bool,
) -> dict[str, Bond]:
    found = {}
    for first, keys in units.members().items():
        if len(keys) == 1 and (first in decided or first not in needed.get(first, ())):
            continue
        held = next((key for key in keys if key in decided), "")
        if held and (side := decided[held].side):
            why = {key: reasons.must_run_beside([held], side) for key in keys}
        elif blocked := [key for key in keys if not by_key[key].may_leave]:
            side, why = AMD64, {key: reasons.must_run_beside(blocked, AMD64) for key in keys}
            why |= {key: reasons.companions_cannot_move(_others_of(key, keys)) for key in blocked}
        elif not _can_begin(keys, needed, by_key, evicts):
            side = _present_side(keys, by_key)
            why = {key: reasons.moves_only_at_once(_others_of(key, keys)) for key in keys}
        else:
            for key in keys:
                found[key] = Bond(unit=first, reason=reasons.together(_others_of(key, keys)))
            continue
        found |= {key: Bond(side=side, reason=why[key]) for key in keys if key not in decided}
    return found


def _others_of(key: str, keys: Iterable[str]) -> list[str]:
    """Return the other workloads of a unit."""
    return [other for other in keys if other != key]


def _can_begin(
    keys: list[str], needed: Mapping[str, list[str]], by_key: Mapping[str, Member], evicts: bool
) -> bool:
    """Return whether a rolling update, or evictions, can move a unit.

    A new pod starts only where a companion runs already. So some workload must need no companion, or end all
    its old pods first.
    """
    moved: set[str] = set()
    while more := {
        key
        for key in keys
        if key not in moved
        and (
            key not in needed
            or moved & {*needed[key]}
            or (needed[key] == [key] and _begins_alone(by_key[key].workload, evicts))
        )
    }:
        moved |= more
    return moved == {*keys}


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


def _present_side(keys: Iterable[str], by_key: Mapping[str, Member]) -> Architecture:
    observed = frozenset(side for key in keys for side in by_key[key].observed)
    return ARM64 if observed == {ARM64} else AMD64


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
    needed = requirements(workloads.values(), nodes)
    because: dict[str, str] = dict.fromkeys(needing, "")
    grows = True
    while grows:
        more: dict[str, str] = {}
        for key, targets in needed.items():
            others = _others_of(key, targets)
            if key in because:
                # Its companions must stay for it, unless one stays anyway.
                if key not in targets and not any(
                    target in because or on_every_node(workloads[target].kind) for target in others
                ):
                    more |= dict.fromkeys(others, key)
            elif others and all(target in because for target in others):
                more[key] = others[0]
        because |= more
        grows = bool(more)
    return {key: companion for key, companion in because.items() if companion}
