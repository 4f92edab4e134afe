"""What still needs x86, and whether the nodes that are left can carry it.

Pure. Everything unknown counts as needing x86: an image that nobody could read, a workload
without evidence, a verdict about anything but Linux on both architectures.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from archshift.architectures import AMD64, ARM64, display
from archshift.capacity import Demand, balance
from archshift.images.verdict import UNKNOWN
from archshift.images.workload import WorkloadVerdict
from archshift.inventory import Inventory, Workload
from archshift.node_groups import Node
from archshift.placement import pinned_architecture
from archshift.plan import Rules, why_not
from archshift.scheduling import admits

_NAMED = 5
"""Workloads that a sentence names; the rest is counted."""


LONGEST_BREAK_GLASS: Final = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakGlass:
    """The config's word that x86 may go although something needs it (``archshift:break_glass``).

    Attributes:
        until: When it ends by itself.
        reason: Why.
        ticket: Where that is written down.
    """

    until: datetime
    reason: str
    ticket: str

    def active(self, now: datetime) -> bool:
        """Whether it counts: not over, and not further ahead than 24 hours."""
        return now < self.until <= now + LONGEST_BREAK_GLASS

    def describe(self, now: datetime) -> str:
        """Say what it does now, in a sentence."""
        until = self.until.isoformat(timespec="minutes")
        if self.active(now):
            return (
                f"BREAK GLASS until {until}: x86 is not guarded. Reason: {self.reason}; ticket {self.ticket}"
            )
        why = "ended" if self.until <= now else "is more than 24 hours ahead"
        return f"archshift:break_glass.until: {until} {why}, so it has no effect; remove it or set a new time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """An exception from one rule of the policy pack (``archshift:override``).

    Attributes:
        rule: The rule's name.
        reason: Why.
        until: When it ends by itself.
    """

    rule: str
    reason: str
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """A workload that needs x86.

    Attributes:
        workload: The workload, as the inventory has it.
        reason: Why, as one can act on it.
        pods: Most pods it may have, at least 1: room is kept for one that is scaled to zero.
    """

    workload: Workload
    reason: str
    pods: int

    @property
    def key(self) -> str:
        """``namespace/Kind/name``."""
        return self.workload.key

    def fits(self, node: Node) -> bool:
        """Whether its own rules and the node's taints let it run there, capacity aside."""
        template: Any = self.workload.template
        selector, required = template.own("node-selector"), template.own("required")
        return admits(node, selector, required, self.workload.tolerations)


def needs(
    inventory: Inventory, verdicts: Mapping[str, WorkloadVerdict], rules: Mapping[str, Rules]
) -> tuple[Need, ...]:
    """Return what needs x86: unproven images, workloads that pin amd64, and held ones.

    Args:
        inventory: The whole cluster, what archshift does not steer included.
        verdicts: Workload key to the evidence; a missing one is unknown.
        rules: Workload key to the config's rules.
    """
    found = []
    for key, workload in sorted({**inventory.beyond, **inventory.workloads}.items()):
        reason = _why(workload, verdicts.get(key), rules.get(key))
        if reason:
            found.append(Need(workload=workload, reason=reason, pods=most_pods(workload)))
    return tuple(found)


def most_pods(workload: Workload) -> int:
    """Return how many pods of a workload to keep room for; a DaemonSet counts once."""
    return max(1, workload.replicas, *(workload.autoscaled or ()))


def _why(workload: Workload, verdict: WorkloadVerdict | None, rules: Rules | None) -> str:
    if verdict is None or not verdict.runs_on_arm64:
        return why_not(verdict or WorkloadVerdict(workload.key, UNKNOWN, (), ()))
    pinned = pinned_architecture(workload.template)
    if pinned and ARM64 not in pinned[0].split(","):
        return f"it pins {pinned[0]} by its own {pinned[1]}"
    if rules and rules.hold:
        return f"it is held on x86: {rules.reason}" if rules.reason else "it is held on x86 (hold: true)"
    return ""


def objection(needed: Sequence[Need], nodes: Iterable[Node]) -> str:
    """Return why the x86 nodes among ``nodes`` do not do for what needs x86; empty if they do.

    Args:
        needed: From ``needs``.
        nodes: All nodes that are left.

    Returns:
        A sentence without its end: who is concerned and what is missing.
    """
    if not needed:
        return ""
    x86 = [node for node in nodes if node.architecture == AMD64]
    nowhere = [need for need in needed if not any(need.fits(node) for node in x86)]
    if nowhere:
        return f"{_named(nowhere)}: no {display(AMD64)} node is left where they can run"
    # Only nodes that take one of them count, as if each were theirs alone.
    usable = [node for node in x86 if any(need.fits(node) for need in needed)]
    demand = Demand()
    for need in needed:
        demand = demand.plus(need.workload.requests, need.pods)
    shortage = balance(usable, {AMD64: demand})[AMD64].shortage
    return f"{_named(needed)}: {shortage}" if shortage else ""


def removal(needed: Sequence[Need], live: Iterable[Node], after: Iterable[Node]) -> str:
    """Return why an update must not take the x86 nodes that it takes; empty if it may, or takes none.

    What is left has to carry the need now: nodes that the same update would make carry nothing yet.

    Args:
        needed: From ``needs``.
        live: All nodes as they are.
        after: All nodes as the update leaves them.

    Returns:
        As ``objection``.
    """
    now = {node.name: node for node in live}
    then = {node.name: node for node in after}
    if not any(_loses(node, then.get(name), needed) for name, node in now.items()):
        return ""
    left = [replace(node, schedulable=now[name].schedulable) for name, node in then.items() if name in now]
    return objection(needed, left)


def _loses(now: Node, then: Node | None, needed: Sequence[Need]) -> bool:
    if now.architecture != AMD64:
        return False
    if then is None or then.architecture != AMD64:
        return True
    if (then.millicpu, then.memory, then.pods) != (now.millicpu, now.memory, now.pods):
        return True
    return any(need.fits(now) and not need.fits(then) for need in needed)


def floor(needed: Sequence[Need], nodes: Iterable[Node]) -> frozenset[str]:
    """Return the names of the x86 nodes that have to stay: the first that carry all that needs x86.

    All x86 nodes where even they do not suffice.
    """
    if not needed:
        return frozenset()
    x86 = [node for node in nodes if node.architecture == AMD64]
    # More nodes never raise an objection, so the first number without one is found by halving.
    enough = bisect_left(range(len(x86)), True, key=lambda kept: not objection(needed, x86[:kept]))
    return frozenset(node.name for node in x86[:enough])


def _named(needed: Sequence[Need]) -> str:
    names = [f"{need.key} ({need.reason})" for need in needed[:_NAMED]]
    more = len(needed) - len(names)
    if more > 0:
        names.append(f"{more} more")
    return f"{len(needed)} {'workload needs' if len(needed) == 1 else 'workloads need'} x86: " + ", ".join(
        names
    )
