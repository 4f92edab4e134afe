"""A day of load in a model of the scheduler and of the ReplicaSet controller: seconds instead of an hour.

It has the workloads, curve and nodes of lab/day.py, and archshift's own rules and deletion costs. So it shows
how often something rare happens, for which a lab would need weeks. A real lab must confirm what it shows.

The scheduler: node affinity, topology spread, pod anti-affinity, taints and the free room of nodes, with
their weights and rounding. The controller: the pods with the lowest cost end first, then those that share a
node with others, then the newest. Ages count by powers of two, and chance decides between equal pods.

It leaves out bursts in which the scheduler sees old counts, pods that are not ready, and the time between.

Sources: k8s.io/kubernetes (v1.36.3): pkg/scheduler/framework/plugins and ActivePodsWithRanks in
pkg/controller/controller_utils.go.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from archshift.cluster.pod_fields import Template
from archshift.common.architectures import AMD64, ARCHITECTURES, ARM64
from archshift.common.kubernetes import ARCH_LABEL, HOSTNAME_LABEL, ZONE_LABEL
from archshift.plan.deletion_costs import Proportion, Standing, costs_of
from archshift.plan.placement import place
from archshift.plan.scaling import scaling_of
from lab.day import HOURS, Load, loads

_NODES: Final = 20
_ZONES: Final = "abc"
_POD_OF_NODE: Final = 100 * 100 / 6000
"""The percent of a node's CPU that a pod requests; memory is the same."""

_STEP: Final = 60.0
"""The seconds between two samples, as in the lab."""

_TOLERANCE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Sample:
    """A workload at an hour: its pods, and how many too many of them are on Graviton."""

    load: Load
    pods: int
    off: float


@dataclass(slots=True)
class _Pod:
    name: str
    node: Mapping[str, str]
    born: float
    tie: float
    cost: int | None = None


class _Workload:
    def __init__(self, load: Load, ratio: float) -> None:
        self.load, self.shift = load, 0.0
        template = _template(load.soft)
        rule = scaling_of(template, ratio, load.bounds[1], zones=len(_ZONES), tainted=True)
        fields = place(template, 1, 2, scaling=rule)
        self.apart, self.tolerates = template.stays_apart, rule.tolerates if rule else None
        self.within: int = fields["spread"]["maxSkew"]
        names = ("soft-spread", "zone-spread", "node-spread")
        self.spreads = [fields[name] for name in names if name in fields] + [*template.other_spreads[0]]
        self.preferred: dict[str, int] = {
            side: _preferred(fields.get("preferred", []), side) for side in ARCHITECTURES
        }
        self.pods: list[_Pod] = []
        self.counts: Counter[tuple[str, str]] = Counter()

    def put(self, node: Mapping[str, str], born: float, chance: Random) -> None:
        tie = chance.random()
        self.pods.append(_Pod(f"{tie}", node, born, tie))
        self.counts.update(node.items())

    def end(self, pods: int, now: float) -> None:
        """End so many pods, as the controller chooses them."""
        beside = Counter(pod.node[HOSTNAME_LABEL] for pod in self.pods)

        def rank(pod: _Pod) -> tuple[int, int, int, float]:
            age = math.floor(math.log2(max(1.0, now - pod.born)))
            return pod.cost or 0, -beside[pod.node[HOSTNAME_LABEL]], age, pod.tie

        for pod in sorted(self.pods, key=rank)[:pods]:
            self.pods.remove(pod)
            self.counts.subtract(pod.node.items())

    def best(self, nodes: Sequence[Mapping[str, str]], used: Mapping[str, int]) -> list[Mapping[str, str]]:
        """Return the nodes that score best for the next pod."""
        counts = self.counts
        fewest = min(counts[ARCH_LABEL, side] for side in ARCHITECTURES)
        free = [node for node in nodes if counts[ARCH_LABEL, node[ARCH_LABEL]] + 1 - fewest <= self.within]
        weights = [
            (each["topologyKey"], math.log(len({node[each["topologyKey"]] for node in free}) + 2))
            for each in self.spreads
        ]
        constant = sum(each["maxSkew"] - 1 for each in self.spreads)
        spread = [
            math.floor(sum(counts[key, node[key]] * weight for key, weight in weights) + constant + 0.5)
            for node in free
        ]
        there = [counts[HOSTNAME_LABEL, node[HOSTNAME_LABEL]] for node in free]
        low, high, crowd = min(spread), max(spread), max(there) - min(there)
        most_preferred = max(self.preferred[node[ARCH_LABEL]] for node in free)
        points = [
            2 * (100 * self.preferred[node[ARCH_LABEL]] // most_preferred if most_preferred else 0)
            + 2 * (100 * (high + low - spread[at]) // high if high else 100)
            + 2 * (100 * (max(there) - there[at]) // crowd if self.apart and crowd else 0)
            + 300 * (self.tolerates == node[ARCH_LABEL])
            + math.floor(100 - (used[node[HOSTNAME_LABEL]] + 1) * _POD_OF_NODE)
            for at, node in enumerate(free)
        ]
        return [node for node, score in zip(free, points, strict=True) if score == max(points)]


def model_day(ratio: float, seed: int, *, costs_every: int = 0) -> list[Sample]:
    """Return the samples of a day: each workload at each hour, when it has the pods that its load needs.

    Args:
        ratio: The share of Graviton.
        seed: What decides the load's noise and all that is left to chance.
        costs_every: After so many hours, new pods get deletion costs, and no pod moves. 0 is never.
    """
    chance = Random(seed)  # noqa: S311
    graviton = round(ratio * _NODES)
    nodes: list[Mapping[str, str]] = [
        {ARCH_LABEL: side, ZONE_LABEL: _ZONES[at % len(_ZONES)], HOSTNAME_LABEL: f"{side}-{at}"}
        for side, size in ((ARM64, graviton), (AMD64, _NODES - graviton))
        for at in range(size)
    ]
    used: Counter[str] = Counter()
    fleet = [_Workload(load, ratio) for load in loads()]
    for one in fleet:
        one.shift = chance.random()
    for one, on in zip(fleet, _wanted(fleet, ratio), strict=True):
        for number in range(one.load.pods):
            side = ARM64 if number < on else AMD64
            own = [node for node in nodes if node[ARCH_LABEL] == side]
            node = min(own, key=lambda node: _crowd(one, used, node))
            one.put(node, -_STEP, chance)
            used[node[HOSTNAME_LABEL]] += 1
    _write_costs(fleet, ratio)
    samples: list[Sample] = []
    for hour in range(len(HOURS)):
        now, due = hour * _STEP, list[_Workload]()
        for one in fleet:
            wanted = one.load.at(hour, chance.uniform(0.95, 1.05))
            if abs(wanted / len(one.pods) - 1) > _TOLERANCE:
                one.end(max(0, len(one.pods) - wanted), now)
                due += [one] * (wanted - len(one.pods))
        used = Counter(pod.node[HOSTNAME_LABEL] for one in fleet for pod in one.pods)
        chance.shuffle(due)
        for one in due:
            node = chance.choice(one.best(nodes, used))
            one.put(node, now, chance)
            used[node[HOSTNAME_LABEL]] += 1
        samples += [
            Sample(one.load, len(one.pods), one.counts[ARCH_LABEL, ARM64] - ratio * len(one.pods))
            for one in fleet
        ]
        if costs_every and (hour + 1) % costs_every == 0:
            _write_costs(fleet, ratio)
    return samples


def _crowd(one: _Workload, used: Mapping[str, int], node: Mapping[str, str]) -> tuple[int, int]:
    name = node[HOSTNAME_LABEL]
    return one.counts[HOSTNAME_LABEL, name], used[name]


def _wanted(fleet: Sequence[_Workload], ratio: float) -> list[int]:
    """Return the pods on Graviton of each workload: exact in the fleet, and less than a pod off in each."""
    thresholds = []
    for at, one in enumerate(fleet):
        size = len(one.pods) or one.load.pods
        thresholds += [((number + one.shift) / size, at) for number in range(size)]
    lowest = Counter(at for _, at in sorted(thresholds)[: round(ratio * len(thresholds))])
    return [lowest[at] for at in range(len(fleet))]


def _write_costs(fleet: Sequence[_Workload], ratio: float) -> None:
    """Write costs as archshift does: their share is the rounded one of the present pods."""
    wanted = _wanted(fleet, ratio)
    standing = {
        one.load.name: (
            [Standing(pod.name, pod.node[ARCH_LABEL] == ARM64, pod.cost) for pod in one.pods],
            Proportion(on, len(one.pods), min(len(one.pods), one.load.bounds[0]), mixed=True),
        )
        for one, on in zip(fleet, wanted, strict=True)
    }
    due = costs_of(standing)
    for one in fleet:
        for pod in one.pods:
            pod.cost = due[one.load.name].get(pod.name, pod.cost)


def _preferred(terms: Sequence[Mapping[str, Any]], side: str) -> int:
    return sum(
        term["weight"]
        for term in terms
        if all(
            each["operator"] == "Exists" or side in each["values"]
            for each in term["preference"]["matchExpressions"]
        )
    )


def _template(soft: str) -> Template:
    if soft == "apart":
        return Template(has_soft_rules=True, stays_apart=True)
    if not soft:
        return Template()
    key = {"zones": ZONE_LABEL, "nodes": HOSTNAME_LABEL}[soft]
    spread = {"topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}
    return Template(other_spreads=((spread,), ()), has_soft_rules=True)
