"""Which workloads need x86, and whether the remaining x86 nodes have room for them. Pure.

Whatever is unknown counts as needing x86, such as an image that archshift could not read. So does every
verdict other than Linux on both architectures.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pod_fields import excludes_linux, pinned_architecture
from archshift.common.architectures import AMD64, ARCHITECTURES, display
from archshift.common.kubernetes import INSTANCE_TYPE_LABEL, POOL_LABEL
from archshift.common.text import counted, first_few
from archshift.images.verdict import ARM64_ONLY, UNKNOWN
from archshift.images.workload import WorkloadVerdict, why_not
from archshift.nodes.groups import Node, NodePool
from archshift.plan import reasons
from archshift.plan.capacity import Demand, balance
from archshift.plan.companions import needing_too
from archshift.plan.model import Rules
from archshift.plan.only_x86 import KUBELET, OnlyX86

WAY_OUT: Final = (
    "give these workloads images for arm64 and what else they need on Graviton nodes, or remove them "
    "(archshift report lists them)"
)
"""The way out in every refusal of the guard."""

_MOST_PLACES: Final = 256
"""How many sets of nodes to compare; each further set of rules can double the number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class X86Need:
    """A workload that needs x86.

    Attributes:
        workload: The workload from the inventory.
        reason: Why, so that a person can act on it.
        pods: The most pods that it may have. At least 1, to keep room for a workload with 0 replicas.
        on_x86: The number of its pods that run on x86 nodes now.
    """

    workload: Workload
    reason: str
    pods: int
    on_x86: int = 0

    @property
    def key(self) -> str:
        """``namespace/Kind/name``."""
        return self.workload.key

    @property
    def rules(self) -> str:
        """The rules that decide where it may run, as text. Needs with equal rules fit the same nodes."""
        return self.workload.rules


def needs(
    inventory: Inventory,
    verdicts: Mapping[str, WorkloadVerdict],
    rules: Mapping[str, Rules],
    possible: Sequence[Node] = (),
) -> tuple[X86Need, ...]:
    """Return the workloads that need x86: with unproven images, held, or without another place to run.

    Args:
        inventory: The whole cluster, including the workloads that archshift does not steer.
        verdicts: Workload key to the evidence; missing evidence is unknown.
        rules: Workload key to the configured rules.
        possible: The nodes that pods may land on after the update.
    """
    only_x86 = OnlyX86(inventory.nodes, possible)
    workloads = {
        key: workload
        for key, workload in sorted({**inventory.unsteered_workloads, **inventory.workloads}.items())
        if not _needs_special_nodes(workload, inventory)
    }
    why = {
        key: _why(workload, verdicts.get(key), rules.get(key), only_x86)
        for key, workload in workloads.items()
    }
    companions = needing_too((key for key, reason in why.items() if reason), workloads, inventory.nodes)
    why |= {key: reasons.needs_x86_beside(companion) for key, companion in companions.items()}
    return tuple(
        X86Need(
            workload=workload,
            reason=why[key],
            pods=max(most_pods(workload), _live_pods(workload, inventory)),
            on_x86=_on_x86(workload, inventory),
        )
        for key, workload in workloads.items()
        if why[key]
    )


def is_served(workload: Workload, inventory: Inventory, x86: Iterable[Node]) -> bool:
    """Return whether one of these x86 nodes can run a workload, or whether its pods run on x86 already.

    These nodes never serve a workload of special nodes, such as Windows nodes.
    """
    if _needs_special_nodes(workload, inventory):
        return False
    need = X86Need(workload=workload, reason="", pods=0, on_x86=_on_x86(workload, inventory))
    return bool(placeable([need], x86))


def _needs_special_nodes(workload: Workload, inventory: Inventory) -> bool:
    """Return whether a workload's pods need other nodes than those that archshift may remove."""
    return excludes_linux(workload.template) or bool(inventory.special_nodes(workload.key))


def _on_x86(workload: Workload, inventory: Inventory) -> int:
    # A kubelet's pods end with their node, wherever their rules let them run.
    return 0 if workload.kind == KUBELET else inventory.on(workload.key, AMD64)


def _live_pods(workload: Workload, inventory: Inventory) -> int:
    """Return how many pods a workload has that only its pods show; its Jobs have no permanent ones."""
    if workload.kind in CONTROLLERS:
        return 0
    return sum(inventory.on(workload.key, side) for side in ("", *ARCHITECTURES))


def placeable(needed: Iterable[X86Need], nodes: Iterable[Node]) -> list[X86Need]:
    """Return the needs that these x86 nodes serve. A change of the nodes can make only these worse.

    If its rules and its size permit none of the nodes, a need has nothing to lose: a DaemonSet for another
    architecture, for example. It still counts if its pods run on x86 nodes. They started under other rules,
    and they would be lost. Temporary states of nodes do not matter here.

    Args:
        needed: From ``needs``.
        nodes: All nodes that there are, and those that node groups may create.
    """
    x86 = [node for node in nodes if node.architecture == AMD64]
    served: set[str] = set()
    for alike in _by_rules(needed).values():
        sizes = {node.capacity for node in x86 if alike[0].workload.may_run_on(node)}
        served |= {
            need.key
            for need in alike
            if need.on_x86 or any(size.holds(need.workload.requests) for size in sizes)
        }
    return [need for need in needed if need.key in served]


def most_pods(workload: Workload) -> int:
    """Return for how many pods of a workload to keep room; a DaemonSet counts as one pod."""
    scaler = workload.autoscaled
    return max(1, scaler.most_pods(workload.replicas) if scaler else workload.replicas)


def _why(workload: Workload, verdict: WorkloadVerdict | None, rules: Rules | None, only_x86: OnlyX86) -> str:
    pinned = pinned_architecture(workload.template)
    if pinned and AMD64 not in pinned[0].split(",") and workload.settled:
        return ""  # none of its pods can run on x86, whatever its images are: arm64, s390x
    if verdict is None or not verdict.runs_on_arm64:
        return why_not(verdict or WorkloadVerdict(workload.key, UNKNOWN, (), ()))
    if verdict.verdict == ARM64_ONLY:
        return ""  # so hold has no effect
    if pinned:
        return reasons.needs_x86_because_pinned(*pinned)
    if rules and rules.hold:
        return reasons.needs_x86_because_held(rules.reason)
    if workload.device_claims:
        return reasons.needs_x86_because_of_device_claims(workload.device_claims)
    return only_x86.why(workload)


def shortfall(needed: Sequence[X86Need], nodes: Iterable[Node], losing: Collection[str] | None = None) -> str:
    """Explain why the x86 nodes among ``nodes`` cannot run everything that needs x86; empty if they can.

    Args:
        needed: From ``needs`` or ``placeable``.
        nodes: All remaining nodes.
        losing: The rules of the needs that a change takes nodes from; None for all. The others only use
            capacity: what they lack, they lacked before.

    Returns:
        The beginning of a sentence: which workloads, and what is missing.
    """
    needs_by_rules = _by_rules(needed)
    if losing is None:
        losing = needs_by_rules.keys()
    if not losing:
        return ""
    x86 = [
        # What is unknown about a node to come never permits a removal.
        replace(node, unknown_fits=False) if node.unknown else node
        for node in nodes
        if node.architecture == AMD64 and node.schedulable
    ]
    nodes_by_rules = {
        rules: [node for node in x86 if alike[0].workload.may_run_on(node)]
        for rules, alike in needs_by_rules.items()
    }
    homeless = {
        rules for rules in losing if _is_homeless(needs_by_rules[rules][0].workload, nodes_by_rules[rules])
    }
    if homeless:
        without = [need for need in needed if need.rules in homeless]
        return f"{_named(without)}: no {display(AMD64)} node is left where they can run"
    demands = {rules: _demand(alike) for rules, alike in needs_by_rules.items()}
    names = {rules: frozenset(node.name for node in taking) for rules, taking in nodes_by_rules.items()}
    for place in _places([names[rules] for rules in needs_by_rules if rules in losing], names.values()):
        # These needs cannot use the capacity of other nodes.
        bound = {rules for rules, usable in names.items() if usable and usable <= place}
        missing = _missing((demands[rules] for rules in bound), x86, place)
        if missing:
            return f"{_named([need for need in needed if need.rules in bound])}: {missing}"
    missing = _missing(demands.values(), x86, frozenset().union(*names.values()))
    return f"{_named(needed)}: {missing}" if missing else ""


def _demand(needed: Iterable[X86Need]) -> Demand:
    demand = Demand()
    for need in needed:
        demand = demand.plus(need.workload.requests, need.pods)
    return demand


def _missing(demands: Iterable[Demand], nodes: Iterable[Node], place: Collection[str]) -> str:
    taking = [node for node in nodes if node.name in place]
    return balance(taking, {AMD64: sum(demands, Demand())})[AMD64].shortage


def _places(losing: Iterable[frozenset[str]], usable: Iterable[frozenset[str]]) -> Collection[frozenset[str]]:
    """Return sets of nodes that must have room for all needs that can use no other node.

    They are the sets that needs can use, and their unions, so that no group of needs counts on the room of
    another group.

    Args:
        losing: For each set of rules that loses nodes, the names of the nodes that it can use.
        usable: The same for all sets of rules.
    """
    # As keys, in a fixed order: a message must not depend on the order of a set.
    places = dict.fromkeys(losing)
    for names in dict.fromkeys(usable):
        if len(places) > _MOST_PLACES:
            break
        places |= dict.fromkeys(place | names for place in places)
    return sorted(places, key=len)


def _is_homeless(workload: Workload, taking: Sequence[Node]) -> bool:
    """Return whether a pod of a workload has no node among those that take any of its pods."""
    # The pods of a StatefulSet may have volumes in several places.
    return not taking or bool(workload.pod_conditions and workload.why_nowhere(taking))


def removes_x86(needed: Sequence[X86Need], before: Iterable[Node], after: Iterable[Node]) -> bool:
    """Return whether a change takes x86 capacity from a need. Only such a change is stopped by a shortfall.

    Args:
        needed: From ``needs``.
        before: The nodes before the change.
        after: The nodes after the change.
    """
    later = {node.name: node for node in after}
    first_of_each = [alike[0] for alike in _by_rules(needed).values()]
    return any(
        node.architecture == AMD64 and _worse(first_of_each, node, later.get(node.name)) for node in before
    )


def _by_rules(needed: Iterable[X86Need]) -> dict[str, list[X86Need]]:
    """Return the needs by their rules. Needs with equal rules may run on the same nodes.

    A fleet has thousands of needs and nodes, but only a few different rules.
    """
    needs_by_rules: dict[str, list[X86Need]] = {}
    for need in needed:
        needs_by_rules.setdefault(need.rules, []).append(need)
    return needs_by_rules


def _worse(needed: Sequence[X86Need], node: Node, later: Node | None) -> bool:
    if later is None or later.architecture != AMD64 or not same_machine(node.labels, later.labels):
        return True
    # A taint that a person set by hand is gone after the change, so it does not count.
    node = replace(node, taints=tuple(taint for taint in node.taints if taint in later.taints))
    return any(need.workload.may_run_on(node) and not need.workload.may_run_on(later) for need in needed)


def same_machine(labels: Mapping[str, str], others: Mapping[str, str]) -> bool:
    """Return whether two nodes with the same name are the same machine: their instance type is the same."""
    return labels.get(INSTANCE_TYPE_LABEL) == others.get(INSTANCE_TYPE_LABEL)


def shrinks(needed: Sequence[X86Need], pool: NodePool, later: NodePool) -> bool:
    """Return whether a change of a NodePool can leave less room for any workload that needs x86.

    Args:
        needed: From ``needs``.
        pool: The pool before the change.
        later: The pool after the change.
    """
    if pool.allows_less(later):
        return True
    kind = pool.instance_types[0]
    node_now, node_later = pool.sample(kind), later.sample(kind)
    return any(
        need.workload.may_run_on(node_now) and not need.workload.may_run_on(node_later) for need in needed
    )


def refuse_removal(
    needed: Sequence[X86Need],
    going: Iterable[Node],
    live: Iterable[Node],
    after: Iterable[Node],
    *,
    always_loses: bool = False,
    proven_pools: Iterable[str] = (),
    possible: Iterable[Node] | None = (),
) -> str:
    """Return why an update must not remove x86 nodes; empty if it may, or if it removes none.

    The remaining live nodes must have room for every need that loses a node. Nodes that the same update
    creates do not count yet. A NodePool counts only after it has created a node, because before that nobody
    knows whether it can. Then it counts with the rest of its limits. If x86 capacity is already missing, an
    update that removes none may continue.

    Args:
        needed: From ``needs``.
        going: The live nodes that the update may remove or change.
        live: All nodes before the update.
        after: All nodes after the update.
        always_loses: The update removes x86 capacity, whatever the nodes show: it lowers a NodePool's limits,
            for example.
        proven_pools: The names of NodePools that count without a node.
        possible: Further nodes that could have come up before the update; None if they are unknown, so that
            every need counts.

    Returns:
        As ``shortfall``.
    """
    nodes_after = list(after)
    if not always_loses and not removes_x86(needed, going, nodes_after):
        return ""
    live_by_name = {node.name: node for node in live}
    usable_pools = {
        *proven_pools,
        *(node.labels.get(POOL_LABEL) for node in live_by_name.values() if node.schedulable),
    }
    remaining = [
        replace(node, schedulable=live_by_name[node.name].schedulable)
        for node in nodes_after
        if node.name in live_by_name and same_machine(node.labels, live_by_name[node.name].labels)
    ]
    remaining += [node for node in nodes_after if node.choices and node.labels[POOL_LABEL] in usable_pools]
    before = [*live_by_name.values(), *(possible or ())]
    counted = needed if possible is None else placeable(needed, [*before, *nodes_after])
    return shortfall(counted, remaining, None if always_loses else _losing(counted, before, remaining))


def _losing(needed: Iterable[X86Need], before: Iterable[Node], remaining: Iterable[Node]) -> set[str]:
    """Return the rules of the needs that lose a node, or whose pods run where their rules permit none."""
    now, later = ([node for node in nodes if node.architecture == AMD64] for nodes in (before, remaining))
    losing = set()
    for rules, alike in _by_rules(needed).items():
        usable = {node.name for node in now if alike[0].workload.may_run_on(node)}
        if not usable or usable - {node.name for node in later if alike[0].workload.may_run_on(node)}:
            losing.add(rules)
    return losing


def nodes_that_must_stay(needed: Sequence[X86Need], nodes: Iterable[Node]) -> frozenset[str]:
    """Return the names of the x86 nodes that must stay: the first nodes with room for all that they serve.

    These are all x86 nodes if even all of them have too little room.
    """
    x86 = [node for node in nodes if node.architecture == AMD64]
    served = placeable(needed, x86)
    if not served:
        return frozenset()
    # More nodes never cause a shortfall, so a binary search finds the smallest number without a shortfall.
    enough = bisect_left(range(len(x86)), True, key=lambda kept: not shortfall(served, x86[:kept]))
    return frozenset(node.name for node in x86[:enough])


def _named(needed: Sequence[X86Need]) -> str:
    names = first_few(needed, name=lambda need: f"{need.key} ({need.reason})", rest=", {} more")
    return f"{counted(len(needed), 'workload', 'need')} x86: {names}"
