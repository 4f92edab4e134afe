"""How many pods of a workload its own hard rules let run on Graviton. Pure.

The application's own hard topology spread or required anti-affinity can limit the share. It does so where
the sides have different zones, or where a side has few nodes. The plan must want only what the scheduler can
reach. Otherwise each update would roll the workload out again, or leave pods pending for good.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Any, Final

from archshift.cluster.model import Workload
from archshift.cluster.pod_affinity import selects_own_pods
from archshift.cluster.pod_fields import Template
from archshift.cluster.scheduling import meets, untolerated
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64, Architecture
from archshift.common.kubernetes import ARCH_LABEL, HOSTNAME_LABEL, POOL_LABEL, ZONE_LABEL
from archshift.common.text import joined
from archshift.nodes.groups import AnyNodeGroup, Node
from archshift.plan import placement, reasons

_SIMULATED: Final = 40
"""The most replicas for which combined rules are also tried together. Otherwise each is checked alone."""

_ANY_NUMBER: Final = 1 << 31
"""More pods than a workload can have."""


@dataclass(frozen=True, slots=True)
class Site:
    """A place for pods: a node, or as many equal nodes as pods need.

    Attributes:
        node: The node, or a sample of the nodes.
        many: Whether an autoscaler adds further nodes like it.
    """

    node: Node
    many: bool = False


def sites(nodes: Sequence[Node], groups: Iterable[AnyNodeGroup]) -> tuple[Site, ...]:
    """Return where pods may run after an update, including the nodes that an autoscaler may add.

    Args:
        nodes: From ``nodes_after``.
        groups: The configured node groups.
    """
    groups = tuple(groups)
    managed = {node.name for node in nodes if any(group.owns(node) for group in groups) or node.choices}
    zones = sorted({zone for node in nodes if (zone := node.labels.get(ZONE_LABEL))}) or [""]
    samples = [
        sample
        for group in groups
        # A NodePool's possible nodes are among the nodes already, within its limits.
        if (on_demand := group.nodes_on_demand()) and not on_demand[0].choices
        for sample in group.samples(zones)
    ]
    return (
        # Another tool's NodePool creates further nodes where it has nodes.
        *(Site(node, many=node.name not in managed and POOL_LABEL in node.labels) for node in nodes),
        *(Site(sample, many=True) for sample in samples),
    )


@dataclass(frozen=True, slots=True)
class Rule:
    """A hard rule of the application about the distance between its own pods.

    Attributes:
        label: The node label whose values are the domains.
        skew: How many pods a domain may have more than the emptiest domain.
        even: Whether ``skew`` counts from the emptiest domain (a spread). Otherwise it counts from 0, so a
            domain has at most ``skew`` pods (an anti-affinity).
        min_domains: With fewer domains, a spread counts from 0 too.
        by_affinity: Only nodes that the pod's node selector and affinity admit count as domains.
        by_taints: Only nodes whose taints the pod tolerates count as domains.
        old_pods: It counts the pods of older revisions too, which are there during a rollout.
        host_port: It comes from a port of the node that each pod takes, as an anti-affinity over nodes.
    """

    label: str
    skew: int
    even: bool = True
    min_domains: int = 1
    by_affinity: bool = True
    by_taints: bool = False
    old_pods: bool = True
    host_port: bool = False


def own_rules(workload: Workload) -> tuple[Rule, ...]:
    """Return the hard rules of a workload about its own pods."""
    template = workload.template
    before, behind = template.other_spreads
    spreads = [
        Rule(
            label=constraint["topologyKey"],
            skew=int(constraint.get("maxSkew", 1)),
            min_domains=int(constraint.get("minDomains") or 1),
            by_affinity=constraint.get("nodeAffinityPolicy", "Honor") == "Honor",
            by_taints=constraint.get("nodeTaintsPolicy", "Ignore") == "Honor",
            old_pods=counts_old_pods(constraint, template),
        )
        for constraint in (*before, *behind)
        if constraint.get("whenUnsatisfiable", "DoNotSchedule") == "DoNotSchedule"
        and selects_own_pods(constraint, workload)
    ]
    apart = [
        Rule(
            label=term["topologyKey"],
            skew=1,
            even=False,
            old_pods=counts_old_pods(term, template),
        )
        for term in template.anti_affinity
        if selects_own_pods(term, workload)
    ]
    ports = [Rule(label=HOSTNAME_LABEL, skew=1, even=False, host_port=True)] if template.host_ports else []
    return tuple(dict.fromkeys((*spreads, *apart, *ports)))


def counts_old_pods(rule: Mapping[str, Any], template: Template) -> bool:
    """Return whether a rule of a template also counts pods of older revisions.

    Args:
        rule: A spread constraint or a pod (anti-)affinity term.
        template: The pod template.
    """
    return template.revision_label not in (rule.get("matchLabelKeys") or ())


@dataclass(frozen=True, slots=True)
class Reach:
    """The numbers of pods that a workload may have on Graviton.

    Attributes:
        levels: The numbers that the scheduler can reach, in ascending order; empty if every number is
            reachable.
        by_preference: Level to the side that its pods prefer. There, a hard spread over architectures could
            leave pods pending. Instead the application's own rules stop the pods at that level.
        limit: What limits it, for people; empty if nothing does.
    """

    levels: tuple[int, ...] = ()
    by_preference: Mapping[int, Architecture] = field(default_factory=dict)
    limit: str = ""


FREE: Final = Reach()
"""Every number of pods is reachable."""


def reaches(
    workloads: Iterable[Workload], places: Sequence[Site], graviton: Mapping[str, int] | None = None
) -> dict[str, Reach]:
    """Return ``reach`` of these workloads by key. Those with equal rules and sizes share one answer.

    Args:
        workloads: Workloads with replicas.
        places: From ``sites``.
        graviton: Key to the number of its pods on Graviton now.
    """
    known: dict[object, Reach] = {}
    rooms: dict[str, _DeviceRoom] = {}
    answers = {}
    for workload in workloads:
        rules, alike = own_rules(workload), workload.rules
        answer = FREE
        if rules:
            like = (rules, workload.replicas, alike)
            if like not in known:
                known[like] = reach(workload, places)
            answer = known[like]
        if workload.requests.devices:
            # A node's own disk is a device too, and many workloads request some of it.
            if alike not in rooms:
                rooms[alike] = _device_room(workload, places)
            graviton_now = (graviton or {}).get(workload.key, 0)
            answer = _with_devices(answer, workload.replicas, rooms[alike], graviton_now)
        answers[workload.key] = answer
    return answers


def reach(workload: Workload, places: Sequence[Site]) -> Reach:
    """Return which numbers of a workload's pods the scheduler can place on Graviton.

    It is exact for one rule, if the scheduler takes emptier nodes first as it usually does. For several rules
    it may leave out a reachable number.

    Args:
        workload: A workload with replicas.
        places: From ``sites``.
    """
    rules = own_rules(workload)
    if not rules or not all(
        any(workload.may_run_on(site.node) and site.node.architecture == side for site in places)
        for side in ARCHITECTURES
    ):
        return FREE
    pods = workload.replicas
    both = _Terrain.of(workload, rules, places, ARCHITECTURES)
    high, low = both.place(pods, prefer=ARM64)[ARM64], both.place(pods, prefer=AMD64)[ARM64]
    levels: dict[int, Architecture | None] = {}
    for side in ARCHITECTURES:
        alone = _Terrain.of(workload, rules, places, (side,)).place(pods, prefer=side)
        if alone[side] == pods:
            levels[pods if side == ARM64 else 0] = None
    for level in range(max(1, low), min(pods - 1, high) + 1):
        if both.never_blocks(level, pods, workload.template.surge):
            levels[level] = None
        elif level in (low, high):
            levels[level] = ARM64 if level == high else AMD64
    if len(levels) == pods + 1 and not any(levels.values()):
        return FREE
    return Reach(
        tuple(sorted(levels)) or (high,),
        {level: side for level, side in levels.items() if side} if levels else {high: ARM64},
        _limit(both, rules, pods, low, high),
    )


@dataclass(frozen=True, slots=True)
class _DeviceRoom:
    """For how many pods the nodes of each side have devices, such as GPUs.

    Attributes:
        pods: A side to this number.
        scarce: A side to the device that limits the number; empty if none does.
    """

    pods: Mapping[Architecture, int]
    scarce: Mapping[Architecture, str]


def _device_room(workload: Workload, places: Sequence[Site]) -> _DeviceRoom:
    """Return for how many pods like those of a workload each side has devices."""
    room = dict.fromkeys(ARCHITECTURES, 0)
    least: dict[Architecture, str] = {}
    for site in places:
        side = next((side for side in ARCHITECTURES if site.node.architecture == side), None)
        if side is None or not workload.may_run_on(site.node):
            continue
        have = dict(site.node.devices or ())
        # A node to come has some devices in an unknown amount.
        rooms = {name: have[name] // amount for name, amount in workload.requests.devices if have.get(name)}
        scarce = min(rooms, key=lambda name: rooms[name], default="")
        least[side] = scarce or least.get(side, "")
        room[side] += rooms[scarce] if scarce and not site.many else _ANY_NUMBER
    return _DeviceRoom(room, least)


def _with_devices(base: Reach, pods: int, room: _DeviceRoom, graviton: int) -> Reach:
    """Return the numbers of pods for which both sides have enough devices.

    A device plugin may be away for a while, so what runs on a side now has its devices there.

    Args:
        base: The numbers that the workload's own rules permit.
        pods: The number of its pods.
        room: For how many pods each side has devices.
        graviton: The number of its pods on Graviton now.
    """
    high = max(min(pods, room.pods[ARM64]), graviton)
    low = min(max(0, pods - room.pods[AMD64]), graviton)
    if low == 0 and high >= pods:
        return base
    levels = tuple(level for level in base.levels or range(pods + 1) if low <= level <= high)
    if not levels:
        return base
    side: Architecture = ARM64 if high < pods else AMD64
    most = high if side == ARM64 else pods - low
    return limited(base, levels, reasons.limited_by_devices(room.scarce.get(side, ""), most, pods, side))


def limited(base: Reach, levels: tuple[int, ...], limit: str) -> Reach:
    """Return a reach with these of its levels only, and why."""
    by_preference = {level: prefer for level, prefer in base.by_preference.items() if level in levels}
    return Reach(levels, by_preference, joined(base.limit, limit))


@dataclass(frozen=True, slots=True)
class _Cell:
    """Nodes that are equal for the rules, apart from their names.

    Attributes:
        side: Their architecture.
        values: Their value of each rule's label; None if the rule does not concern them.
        hosts: Their number.
    """

    side: Architecture
    values: tuple[str | None, ...]
    hosts: int


@dataclass(frozen=True)
class _Terrain:
    """The nodes of a workload as its rules see them.

    Attributes:
        rules: The rules.
        cells: The nodes where the pods may run.
        from_zero: For each rule, whether it counts from 0: a domain has no node for the pods, or there are
            too few domains.
    """

    rules: tuple[Rule, ...]
    cells: tuple[_Cell, ...]
    from_zero: tuple[bool, ...]

    @classmethod
    def of(
        cls,
        workload: Workload,
        rules: tuple[Rule, ...],
        places: Sequence[Site],
        sides: Sequence[Architecture],
    ) -> "_Terrain":
        """Build it for pods that may run on these sides only."""
        known = {
            rule.label: sorted(
                {v for site in places for v in possible_values(rule.label, site.node) if v is not None}
            )
            for rule in rules
        }
        hosts: dict[tuple[Architecture, tuple[str | None, ...]], int] = {}
        domains: list[set[str]] = [set() for _ in rules]
        dead: list[set[str]] = [set() for _ in rules]
        for site in places:
            node = site.node
            side = next((side for side in sides if node.architecture == side), None)
            runs = side is not None and workload.may_run_on(node)
            values = [_values(rule, node, known[rule.label]) for rule in rules]
            # A spread needs the label; an anti-affinity does not concern a node without it.
            runs = runs and all(options or not rule.even for rule, options in zip(rules, values, strict=True))
            for index, (rule, options) in enumerate(zip(rules, values, strict=True)):
                if runs:
                    domains[index].update(options)
                elif rule.even and not node.choices and _counts(rule, workload, node, sides):
                    dead[index].update(options)
            if runs and side is not None:
                for combined in product(*map(_cell_values, rules, values)):
                    number = workload.replicas if site.many else 1
                    hosts[side, combined] = hosts.get((side, combined), 0) + number
        return cls(
            rules=rules,
            cells=tuple(_Cell(side, values, number) for (side, values), number in hosts.items()),
            from_zero=tuple(
                not rule.even or bool(dead[index] - domains[index]) or cls._few(rule, domains[index], hosts)
                for index, rule in enumerate(rules)
            ),
        )

    @staticmethod
    def _few(rule: Rule, domains: set[str], hosts: Mapping[Any, int]) -> bool:
        number = sum(hosts.values()) if rule.label == HOSTNAME_LABEL else len(domains)
        return number < rule.min_domains

    @cached_property
    def _host_rules(self) -> tuple[bool, ...]:
        return tuple(rule.label == HOSTNAME_LABEL for rule in self.rules)

    def place(
        self, pods: int, *, prefer: Architecture, lead: int | None = None, shared_first: bool = False
    ) -> dict[Architecture, int]:
        """Place pods one by one as the scheduler does, and return how many land on each side.

        Args:
            pods: How many; fewer are placed if the rules leave no node for the next pod.
            prefer: The side whose nodes win.
            lead: The ``maxSkew`` of a hard spread over architectures; None for no such spread.
            shared_first: Use domains with both sides first. Otherwise last.
        """
        placed = dict.fromkeys(ARCHITECTURES, 0)
        sides = {cell.side for cell in self.cells}
        on_cell = [0] * len(self.cells)
        on_domain: list[dict[str, int]] = [
            {value: 0 for cell in self.cells if (value := cell.values[index]) is not None}
            for index in range(len(self.rules))
        ]
        shared = [self._shared(cell) for cell in self.cells]
        for _ in range(pods):
            floors = [self._floor(index, on_domain[index], on_cell) for index in range(len(self.rules))]
            least = min(placed[side] for side in sides) if sides else 0
            best: tuple[Any, int] | None = None
            for position, cell in enumerate(self.cells):
                if lead is not None and placed[cell.side] + 1 - least > lead:
                    continue
                levels = [
                    self._level(index, cell, on_domain[index], on_cell[position])
                    for index in range(len(self.rules))
                ]
                if any(
                    level is not None and level + 1 - floor > rule.skew
                    for level, floor, rule in zip(levels, floors, self.rules, strict=True)
                ):
                    continue
                rank = (
                    cell.side != prefer,
                    shared[position] != shared_first,
                    sum(level or 0 for level in levels),
                    on_cell[position] / cell.hosts,
                )
                if best is None or rank < best[0]:
                    best = (rank, position)
            if best is None:
                break
            cell = self.cells[best[1]]
            on_cell[best[1]] += 1
            placed[cell.side] += 1
            for index, value in enumerate(cell.values):
                if value is not None:
                    on_domain[index][value] += 1
        return placed

    def _floor(self, index: int, on_domain: Mapping[str, int], on_cell: Sequence[int]) -> int:
        if self.from_zero[index] or not self.cells:
            return 0
        if self._host_rules[index]:
            return min(pods // cell.hosts for pods, cell in zip(on_cell, self.cells, strict=True))
        return min(on_domain.values(), default=0)

    def _level(self, index: int, cell: _Cell, on_domain: Mapping[str, int], on_cell: int) -> int | None:
        """Return how many pods the domain of the cell's emptiest node has; None if the rule ignores it."""
        value = cell.values[index]
        if value is None:
            return None
        return on_cell // cell.hosts if self._host_rules[index] else on_domain[value]

    def _shared(self, cell: _Cell) -> bool:
        return any(
            value is not None and len(self._sides[index][value]) > 1
            for index, value in enumerate(cell.values)
            if not self._host_rules[index]
        )

    @cached_property
    def _sides(self) -> list[dict[str, frozenset[Architecture]]]:
        """For each rule: which sides have nodes in a domain."""
        return [
            {
                value: frozenset(cell.side for cell in self.cells if cell.values[index] == value)
                for value in {cell.values[index] for cell in self.cells}
                if value is not None
            }
            for index in range(len(self.rules))
        ]

    def domains(self, index: int) -> tuple[int, int, int]:
        """Return how many domains of a rule have Graviton nodes only, x86 nodes only, and both."""
        if self._host_rules[index]:
            arm, amd = (sum(cell.hosts for cell in self.cells if cell.side == s) for s in (ARM64, AMD64))
            return arm, amd, 0
        sides = [*self._sides[index].values()]
        both = sum(len(its) > 1 for its in sides)
        return sum(its == {ARM64} for its in sides), sum(its == {AMD64} for its in sides), both

    def never_blocks(self, graviton: int, pods: int, surge: int) -> bool:
        """Return whether a hard spread over architectures for this share leaves no pod pending.

        Two hard spreads can block each other: one permits only zones without Graviton nodes, the other
        permits only Graviton.

        Args:
            graviton: The share.
            pods: The number of the workload's pods.
            surge: How many more pods there may be during a rollout.
        """
        lead = placement.max_skew(graviton, pods)
        if any(
            self._may_block(index, lead, pods)
            or (rule.old_pods and self._old_pods_may_block(index, lead, pods + surge - 1))
            for index, rule in enumerate(self.rules)
        ):
            return False
        if len(self.rules) == 1 or pods > _SIMULATED:
            return True
        return all(
            sum(self.place(pods, prefer=side, lead=lead, shared_first=first).values()) == pods
            for side in ARCHITECTURES
            for first in (True, False)
        )

    def _may_block(self, index: int, lead: int, pods: int) -> bool:
        """Return whether pods can be pending under one rule beside the spread over architectures.

        That is so if a side is ahead by ``lead`` while all domains with nodes of the other side are full.
        Then each of those has ``skew`` pods more than the emptiest domain.
        """
        rule = self.rules[index]
        arm, amd, both = self.domains(index)
        for own, other in ((arm, amd), (amd, arm)):
            if not own:
                continue
            for floor in range(pods):
                full = floor + rule.skew
                fewest = (both + other) * full + own * floor
                if fewest >= pods:
                    break
                open_domains = own * rule.skew if self.from_zero[index] else (own - 1) * rule.skew + 1
                most = min(pods - 1, fewest + open_domains - 1)
                if most - 2 * other * full >= lead:
                    return True
                if self.from_zero[index]:
                    break
        return False

    def _old_pods_may_block(self, index: int, lead: int, others: int) -> bool:
        """Return whether old pods can leave a new pod pending, so that the rollout never ends.

        The spread over architectures counts only new pods, but the rule counts all. So a side may be ahead
        among the new pods while old pods fill the domains with nodes of the other side.

        Args:
            others: The most pods beside the new one.
        """
        arm, amd, both = self.domains(index)
        for own, other in ((arm, amd), (amd, arm)):
            ahead = 0 if both else lead  # new pods that must be in domains of the side alone
            if own and (both + other) * self.rules[index].skew <= others - ahead:
                return True
        return False


def possible_values(label: str, node: Node) -> frozenset[str | None]:
    """Return the values that a label may have on a node; None for a missing label, empty for any value."""
    values = [node.values(label, variant) for variant in node.variants or ({},)]
    return frozenset(value for its in values for value in its) if all(values) else frozenset()


def _values(rule: Rule, node: Node, known: Sequence[str]) -> list[str]:
    """Return the values that a node may have of a rule's label; empty if it lacks the label."""
    if rule.label == HOSTNAME_LABEL:
        return [node.name]
    options = possible_values(rule.label, node)
    # Karpenter chooses the value of a label that its NodePool leaves open.
    return sorted(value for value in options if value is not None) if options else [*known] or [""]


def _cell_values(rule: Rule, values: Sequence[str]) -> Sequence[str | None]:
    """Return the values that tell cells apart: not the names of nodes, whose number is enough."""
    if not values:
        return [None]
    return [""] if rule.label == HOSTNAME_LABEL else values


def _counts(rule: Rule, workload: Workload, node: Node, sides: Sequence[Architecture]) -> bool:
    """Return whether a node on which the pods cannot run counts as a domain of a spread."""
    if rule.by_taints and untolerated(node.lasting_taints, workload.tolerations):
        return False
    # The pin to a side is a node affinity too.
    pinned_away = len(sides) == 1 and node.labels.get(ARCH_LABEL) not in sides
    return not rule.by_affinity or (not pinned_away and _meets_own_rules(workload, node))


def _meets_own_rules(workload: Workload, node: Node) -> bool:
    """Return whether a node meets the selectors of a workload's pods; devices and volumes do not count."""
    template = workload.template
    return meets(
        node, template.application_value("node-selector"), template.application_value("required")
    ) and all(
        condition.unmet_by(node) is None
        for condition in workload.conditions
        if condition.unmet.source in ("runtime class", "admission")
    )


def _limit(terrain: _Terrain, rules: Sequence[Rule], pods: int, low: int, high: int) -> str:
    """Say what limits a workload; empty if it may have any number but the scheduler cannot reach some."""
    side: Architecture = ARM64 if high < pods else AMD64
    most = high if side == ARM64 else pods - low
    if most == pods:
        return ""
    for index, rule in enumerate(rules):
        arm, amd, both = terrain.domains(index)
        there, all_domains = (arm if side == ARM64 else amd) + both, arm + amd + both
        if there < all_domains or not rule.even:
            what = "host port" if rule.host_port else "spread" if rule.even else "anti-affinity"
            return reasons.limited(what, rule.label, most, pods, side, there, all_domains)
    return ""
