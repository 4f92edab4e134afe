"""Which workloads find no node on a side, because their pods must not share one with pods of others. Pure.

A required pod anti-affinity counts in both directions: the scheduler also keeps a pod off a node where a pod
runs that refuses its company. Pods with the same host port cannot share a node either. The first of two such
workloads may take every node of a small side. So a workload may come to a side only if there is a place for
it wherever the others' pods land. What runs on a side already has its places there.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from archshift.cluster.model import Workload
from archshift.cluster.pod_affinity import selects, selects_own_pods
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture
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


def crowded_out(tenants: Iterable[Tenant], places: Sequence[Site]) -> dict[str, Bond]:
    """Return the side where each workload must stay that may find no place on the other, by key.

    Args:
        tenants: All known workloads.
        places: Where pods may run.
    """
    by_key = {tenant.workload.key: tenant for tenant in tenants}
    rivals = _rivals([tenant.workload for tenant in by_key.values()])
    found: dict[str, Bond] = {}
    for side in ARCHITECTURES:
        other: Architecture = AMD64 if side == ARM64 else ARM64
        side_of = _Side(side, places, rivals, by_key)
        there = [by_key[key] for key in sorted(rivals) if by_key[key].pods.get(side)]
        coming = [tenant for tenant in there if tenant.movable and side not in tenant.present]
        admitted = {tenant.workload.key for tenant in there} - {tenant.workload.key for tenant in coming}
        came: dict[str, Tenant] = {}
        for tenant in coming:
            key = tenant.workload.key
            crowd = side_of.crowd(tenant, admitted)
            admitted.add(key)
            if crowd or any(side_of.crowd(came[one], admitted) for one in rivals[key] if one in came):
                admitted.remove(key)
                named = crowd or sorted(admitted & {*rivals[key]})
                found[key] = Bond(side=other, reason=reasons.must_stay_apart(named, side))
            else:
                came[key] = tenant
    return found


def _rivals(workloads: Sequence[Workload]) -> dict[str, dict[str, set[str]]]:
    """Return workload key to the keys of those that it must not meet, each with the labels of the places."""
    with_terms = [workload for workload in workloads if workload.template.anti_affinity]
    labelled = _by_label(workloads) if with_terms else {}
    found: dict[str, dict[str, set[str]]] = {}

    def note(one: Workload, other: Workload, label: str) -> None:
        for key, rival in ((one.key, other.key), (other.key, one.key)):
            found.setdefault(key, {}).setdefault(rival, set()).add(label)

    by_port: dict[str, list[Workload]] = {}
    for workload in workloads:
        for port in workload.template.host_ports:
            for other in by_port.setdefault(port, []):
                note(workload, other, HOSTNAME_LABEL)
            by_port[port].append(workload)
    for workload in with_terms:
        for term in workload.template.anti_affinity:
            for target in _candidates(term, labelled, workloads):
                if target.key != workload.key and selects(term, workload, target):
                    note(workload, target, term["topologyKey"])
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


class _Side:
    """A side, for the workloads that come there."""

    def __init__(
        self,
        side: Architecture,
        places: Sequence[Site],
        rivals: Mapping[str, Mapping[str, set[str]]],
        tenants: Mapping[str, Tenant],
    ) -> None:
        self._side = side
        self._places = places
        self._rivals = rivals
        self._tenants = tenants
        self._known: dict[tuple[str, str], frozenset[str] | None] = {}

    def crowd(self, tenant: Tenant, admitted: Container[str]) -> list[str]:
        """Return the rivals that may leave a workload no place there; empty if it always finds one.

        Args:
            tenant: The workload.
            admitted: The keys of the workloads whose pods will run there.
        """
        rivals = self._rivals[tenant.workload.key]
        for label in sorted({label for labels in rivals.values() for label in labels}):
            domains = self._domains(label, tenant.workload)
            if domains is None:
                continue
            taken = {
                key: sum(self._taken(label, domains, key, side, admitted) for side in ARCHITECTURES)
                for key, labels in sorted(rivals.items())
                if label in labels
            }
            if sum(taken.values()) + self._needed(label, tenant) > len(domains):
                return [key for key, number in taken.items() if number]
        return []

    def _taken(
        self, label: str, domains: frozenset[str], key: str, side: Architecture, admitted: Container[str]
    ) -> int:
        """Return in how many of these domains pods of a rival on a side may be."""
        if side == self._side:
            return min(self._tenants[key].pods.get(side, 0), len(domains)) if key in admitted else 0
        if label == HOSTNAME_LABEL:
            return 0
        # Nodes of both sides may be in one zone.
        theirs = (_values(label, site) for site in self._places if site.node.architecture == side)
        reachable = domains.intersection(value for values in theirs for value in values or ())
        return min(self._tenants[key].pods.get(side, 0), len(reachable))

    def _needed(self, label: str, tenant: Tenant) -> int:
        ports = bool(tenant.workload.template.host_ports) and label == HOSTNAME_LABEL
        own = ports or any(
            term["topologyKey"] == label and selects_own_pods(term, tenant.workload)
            for term in tenant.workload.template.anti_affinity
        )
        return tenant.pods[self._side] if own else 1

    def _domains(self, label: str, workload: Workload) -> frozenset[str] | None:
        """Return the values of a label among the nodes of a workload; None if there is no end of places."""
        like = (label, workload.rules)
        if like not in self._known:
            self._known[like] = self._domains_of(label, workload)
        return self._known[like]

    def _domains_of(self, label: str, workload: Workload) -> frozenset[str] | None:
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
