"""Which workloads find no node on a side, because their pods must not share one with pods of others. Pure.

A required pod anti-affinity counts in both directions: the scheduler also keeps a pod off a node where a pod
runs that refuses its company. Pods with the same host port cannot share a node either. The first of two such
workloads may take every node of a small side. So a workload may come to a side only if there is a place for
it wherever the others' pods land. What runs on a side already has its places there.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from archshift.cluster.model import Workload
from archshift.cluster.pod_affinity import selects, selects_own_pods
from archshift.common.architectures import ARCHITECTURES, Architecture, opposite
from archshift.common.kubernetes import HOSTNAME_LABEL
from archshift.plan import reasons
from archshift.plan.companions import Bond
from archshift.plan.reachability import Site, possible_values


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A workload, and where its pods belong by a plan.

    Attributes:
        workload: The workload.
        pods: A side to the number of its pods there after the step.
        present: The sides where its pods run now.
        movable: Whether archshift may move it.
    """

    workload: Workload
    pods: Mapping[Architecture, int]
    present: frozenset[Architecture]
    movable: bool


Rivals: TypeAlias = Mapping[str, Mapping[str, frozenset[str]]]
"""The key of a workload to the keys of those that it must not meet, each with the labels of the places."""


def crowded_out(tenants: Iterable[Tenant], places: Sequence[Site], rivals: Rivals) -> dict[str, Bond]:
    """Return the side where each workload must stay that may find no place on the other, by key.

    Args:
        tenants: All known workloads.
        places: Where pods may run.
        rivals: From ``rivals_of``.
    """
    by_key = {tenant.workload.key: tenant for tenant in tenants}
    found: dict[str, Bond] = {}
    for side in ARCHITECTURES:
        there = [by_key[key] for key in sorted(rivals) if by_key[key].pods.get(side)]
        coming = [tenant for tenant in there if tenant.movable and side not in tenant.present]
        # One workload that refuses the company of all others must not keep all of these away.
        coming.sort(key=lambda tenant: len(rivals[tenant.workload.key]))
        present = {tenant.workload.key for tenant in there} - {tenant.workload.key for tenant in coming}
        side_of = _Side(side, places, rivals, by_key, present)
        came: set[str] = set()
        for tenant in coming:
            key = tenant.workload.key
            crowd = side_of.crowd(key)
            side_of.admit(key)
            if crowd or any(side_of.crowd(one) for one in rivals[key].keys() & came):
                side_of.withdraw(key)
                named = crowd or sorted(side_of.admitted & rivals[key].keys())
                found[key] = Bond(side=opposite(side), reason=reasons.must_stay_apart(named, side))
            else:
                came.add(key)
    return found


def rivals_of(workloads: Sequence[Workload]) -> Rivals:
    """Return which workloads must not meet.

    Args:
        workloads: All that have pods, or are to have some.
    """
    with_terms = [workload for workload in workloads if workload.template.anti_affinity]
    labelled = _by_label(workloads) if with_terms else {}
    found: dict[str, dict[str, frozenset[str]]] = {}

    def note(one: Workload, other: Workload, label: frozenset[str]) -> None:
        for key, rival in ((one.key, other.key), (other.key, one.key)):
            own = found.setdefault(key, {})
            own[rival] = own[rival] | label if rival in own else label

    by_port: dict[str, list[Workload]] = {}
    node = frozenset({HOSTNAME_LABEL})
    for workload in workloads:
        for port in workload.template.host_ports:
            for other in by_port.setdefault(port, []):
                note(workload, other, node)
            by_port[port].append(workload)
    for workload in with_terms:
        for term in workload.template.anti_affinity:
            label = frozenset({str(term["topologyKey"])})
            for target in _candidates(term, labelled, workloads):
                if target.key != workload.key and selects(term, workload, target):
                    note(workload, target, label)
    return found


def _by_label(workloads: Iterable[Workload]) -> dict[tuple[str, str], list[Workload]]:
    found: dict[tuple[str, str], list[Workload]] = {}
    for workload in workloads:
        for pair in workload.template.labels.items():
            found.setdefault(pair, []).append(workload)
    return found


def _candidates(
    term: Mapping[str, Any],
    labelled: Mapping[tuple[str, str], Sequence[Workload]],
    workloads: Sequence[Workload],
) -> Sequence[Workload]:
    """Return the workloads that a term may select: few of a large fleet, if it names a value."""
    selector = term.get("labelSelector") or {}
    for key, value in (selector.get("matchLabels") or {}).items():
        return labelled.get((key, value), ())
    for expression in selector.get("matchExpressions") or ():
        if expression["operator"] == "In":
            return [
                workload
                for value in expression.get("values") or ()
                for workload in labelled.get((expression["key"], value), ())
            ]
    return workloads


@dataclass(slots=True)
class _Room:
    """The places with different values of a label that one workload can use on a side.

    Attributes:
        places: Their number.
        beside: In how many of them nodes of the other side are too, as in a zone.
        needed: How many the workload itself needs.
        taken: In how many its rivals' pods may be.
    """

    places: int
    beside: int
    needed: int
    taken: int = 0


class _Side:
    """A side, for the workloads that come there."""

    def __init__(
        self,
        side: Architecture,
        places: Sequence[Site],
        rivals: Rivals,
        tenants: Mapping[str, Tenant],
        admitted: Iterable[str],
    ) -> None:
        self.admitted = set(admitted)
        """The keys of the workloads whose pods will run there."""
        self._side: Architecture = side
        self._other = opposite(side)
        self._places = places
        self._rivals = rivals
        self._tenants = tenants
        self._domains: dict[tuple[str, str], frozenset[str] | None] = {}
        self._beside: dict[tuple[str, frozenset[str]], int] = {}
        self._rooms: dict[str, dict[str, _Room]] = {}

    def admit(self, key: str) -> None:
        """Let the pods of a workload run there."""
        self.admitted.add(key)
        self._take(key, 1)

    def withdraw(self, key: str) -> None:
        """Undo ``admit``."""
        self.admitted.remove(key)
        self._take(key, -1)

    def _take(self, key: str, times: int) -> None:
        pods = self._pods(key, self._side)
        for rival, labels in self._rivals[key].items():
            for label, room in self._rooms.get(rival, {}).items():
                if label in labels:
                    room.taken += times * min(pods, room.places)

    def crowd(self, key: str) -> list[str]:
        """Return the rivals that may leave a workload no place there; empty if it always finds one."""
        for label, room in self._rooms_of(key).items():
            if room.taken + room.needed <= room.places:
                continue
            rivals = self._rivals[key]
            crowd = [rival for rival in sorted(rivals) if label in rivals[rival] and self._takes(rival, room)]
            if crowd:
                return crowd
        return []

    def _rooms_of(self, key: str) -> Mapping[str, _Room]:
        """Return the limited room of a workload by label, as it is with the admitted workloads."""
        if key not in self._rooms:
            rivals, tenant = self._rivals[key], self._tenants[key]
            rooms = {}
            for label in sorted(frozenset().union(*rivals.values())):
                domains = self._domains_of(label, tenant.workload)
                if domains is not None:
                    beside = self._number_beside(label, domains)
                    rooms[label] = _Room(len(domains), beside, self._needed(label, tenant))
            for rival, labels in rivals.items():
                for label in labels & rooms.keys():
                    rooms[label].taken += self._takes(rival, rooms[label])
            self._rooms[key] = rooms
        return self._rooms[key]

    def _takes(self, rival: str, room: _Room) -> int:
        """Return in how many of these places pods of a rival may be, on both sides."""
        here = min(self._pods(rival, self._side), room.places) if rival in self.admitted else 0
        return here + min(self._pods(rival, self._other), room.beside)

    def _pods(self, key: str, side: Architecture) -> int:
        return self._tenants[key].pods.get(side, 0)

    def _number_beside(self, label: str, domains: frozenset[str]) -> int:
        """Return in how many domains nodes of the other side are too."""
        if label == HOSTNAME_LABEL:
            return 0
        like = (label, domains)
        if like not in self._beside:
            theirs = (_values(label, site) for site in self._places if site.node.architecture == self._other)
            values = frozenset(value for values in theirs for value in values or ())
            self._beside[like] = len(domains & values)
        return self._beside[like]

    def _needed(self, label: str, tenant: Tenant) -> int:
        ports = bool(tenant.workload.template.host_ports) and label == HOSTNAME_LABEL
        own = ports or any(
            term["topologyKey"] == label and selects_own_pods(term, tenant.workload)
            for term in tenant.workload.template.anti_affinity
        )
        return tenant.pods[self._side] if own else 1

    def _domains_of(self, label: str, workload: Workload) -> frozenset[str] | None:
        """Return the values of a label among the nodes of a workload; None if there is no end of places."""
        like = (label, workload.rules)
        if like not in self._domains:
            self._domains[like] = self._find_domains(label, workload)
        return self._domains[like]

    def _find_domains(self, label: str, workload: Workload) -> frozenset[str] | None:
        found: set[str] = set()
        for site in self._places:
            if site.node.architecture != self._side or not workload.may_run_on(site.node):
                continue
            values = _values(label, site)
            if values is None:
                return None
            found |= values
        return frozenset(found) or None


def _values(label: str, site: Site) -> frozenset[str] | None:
    """Return the values that a label may have there, none if they are unknown; None if it limits nothing."""
    if label == HOSTNAME_LABEL:
        return None if site.many else frozenset({site.node.name})
    values = possible_values(label, site.node)
    # A rule does not concern nodes without its label.
    return None if None in values else frozenset(value for value in values if value)
