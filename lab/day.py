"""A day of load: workloads with real autoscalers, which follow a curve, and how far their shares bend.

Autoscalers follow the loads that a stand-in for the server of external metrics tells them. Their behaviour
allows changes at once, and the lab's controller looks every two seconds. Otherwise a day would take a day. No
other clock is changed. bench/autoscaling.py takes a whole day, and a lab test takes some of its hours.
"""

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final

from archshift.actions.deletion_costs import write_costs
from archshift.actions.moving import move_pods
from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import BringUpNodes
from archshift.cluster.client import Cluster
from archshift.cluster.entries import Entry, entry_key, policy_name
from archshift.cluster.inventory import read_inventory
from archshift.cluster.live_placement import BINDINGS, POLICIES, SEEN_SECONDS
from archshift.cluster.model import Discovery, Inventory
from archshift.common.architectures import AMD64, ARM64
from archshift.common.kubernetes import ARCH_LABEL, HOSTNAME_LABEL, OS_LABEL, ZONE_LABEL
from archshift.nodes.groups import side_taint
from archshift.plan.admission import binding, policy
from archshift.plan.model import Plan
from archshift.plan.planner import make_plan
from archshift.plan.scaling import PODS_OFF, SHARE_OFF, SOFT_PODS_OFF, SOFT_SHARE_OFF
from lab.control_plane import LabError
from lab.external_metrics import ExternalMetrics

SIZES: Final = (
    *(1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 5),
    *(5, 5, 6, 6, 6, 7, 7, 8, 8, 9, 10, 11, 12, 14, 18),
)
"""The pods of each workload at a load of 1."""

SOFT: Final = ("zones", "nodes", "apart")
"""The soft rules that every fourth workload has, in turns."""

LEAST: Final = 0.25
MOST: Final = 3.0
HOURS: Final = (
    *(0.5, 0.4, 0.3, 0.25, 0.25, 0.3, 0.5, 0.9, 1.5, 2.1, 2.5, 2.6),
    *(2.3, 2.2, 2.4, 2.6, 2.5, 2.4, 2.6, 2.9, 3.0, 2.4, 1.5, 0.8),
)
"""The load of a shop at each hour: a night, a morning, a dip at noon and an evening."""

RULES: Final = ("rule", "renewed", "exact")
"""The namespaces, by how their pods are placed: bench/autoscaling.py says how."""

STACK: Final = "bench"
MANAGER: Final = "archshift/bench"
_NODES: Final = 20
_CPU: Final = "6"
_PODS: Final = 250
_LIMITS: Final = RolloutLimits(longest=300, no_progress=60)
_LONGEST: Final = 240
_TOLERANCE: Final = 0.1
"""An autoscaler leaves a load alone that differs by less (kube-controller-manager's default)."""


@dataclass(frozen=True, slots=True)
class Load:
    """A workload and its load.

    Attributes:
        name: Its name.
        pods: Its pods at a load of 1.
        soft: Its own soft rule; empty if it has none.
        hours: By how many hours its day is later than the shop's.
    """

    name: str
    pods: int
    soft: str
    hours: int

    @property
    def bounds(self) -> tuple[int, int]:
        """The fewest and the most pods that its autoscaler makes."""
        return max(1, math.floor(LEAST * self.pods)), math.ceil(MOST * self.pods)

    def at(self, sample: int, noise: float) -> int:
        """Return how many pods it needs, an hour after the sample before; the day begins at eight."""
        least, most = self.bounds
        factor = HOURS[(8 + sample - self.hours) % 24] * noise
        return max(least, min(most, round(factor * self.pods)))


def loads() -> list[Load]:
    """Return the workloads: two of three have the shop's day, and the others a day of their own."""
    chance = Random(18)  # noqa: S311
    sizes = [*SIZES]
    chance.shuffle(sizes)
    return [
        Load(
            f"w{number:02}-{pods}",
            pods,
            SOFT[number // 4 % len(SOFT)] if number % 4 == 3 else "",
            chance.choice((-1, 0, 0, 1)) if number % 3 else chance.randrange(24),
        )
        for number, pods in enumerate(sizes)
    ]


@dataclass
class Figures:
    """What a namespace's samples show.

    Attributes:
        fleet: How far the share of all pods was off, at each sample.
        wrong: (sample, workload, pods, how many of them are too many on Graviton) of each that was off more
            than allowed.
        worst: The largest number of pods by which a workload was off, by whether it has soft rules.
        measured: The number of workloads measured.
    """

    fleet: list[float] = field(default_factory=list)
    wrong: list[tuple[int, str, int, float]] = field(default_factory=list)
    worst: dict[bool, float] = field(default_factory=lambda: {False: 0.0, True: 0.0})
    measured: int = 0

    @property
    def most(self) -> float:
        """How far the fleet was off at most."""
        return max(map(abs, self.fleet))

    def add(
        self, sample: int, ratio: float, counts: Mapping[str, Mapping[str, int]], own: Sequence[Load]
    ) -> None:
        """Add a sample: the pods of each workload on each side."""
        pods = graviton = 0
        for load in own:
            there, on = sum(counts[load.name].values()), counts[load.name][ARM64]
            pods, graviton = pods + there, graviton + on
            off = on - ratio * there
            allowed = (
                max(SOFT_PODS_OFF, SOFT_SHARE_OFF * there) if load.soft else max(PODS_OFF, SHARE_OFF * there)
            )
            soft = bool(load.soft)
            self.worst[soft] = max(self.worst[soft], abs(off))
            self.measured += 1
            if abs(off) > allowed + 1e-9:
                self.wrong.append((sample, load.name, there, off))
        self.fleet.append(graviton / pods - ratio)

    def __str__(self) -> str:
        ends = f"fleet off by {min(self.fleet):+.3f} to {max(self.fleet):+.3f}"
        worst = f"worst {self.worst[False]:.1f} pods, with soft rules {self.worst[True]:.1f}"
        names = Counter(name for _, name, _, _ in self.wrong)
        wrong = f"{len(self.wrong)} of {self.measured} too far off, of {len(names)} workloads"
        return f"{ends}; {worst}; {wrong}"


class Day:
    """A lab with the workloads in each namespace."""

    def __init__(self, api: Cluster, ratio: float, own: Sequence[Load], rules: Sequence[str]) -> None:
        self.api, self.ratio, self.own, self.rules = api, ratio, own, rules
        self.metrics = ExternalMetrics()
        self.figures = {rule: Figures() for rule in rules}
        self.pods: list[int] = []
        self._noise = Random(7)  # noqa: S311

    # --- before the day ---

    def prepare(self, *, even: bool = False) -> dict[str, list[str]]:
        """Make nodes, workloads and autoscalers, and take the step to the ratio.

        Returns:
            Namespace to the workloads that are not exact after it.
        """
        self.make_nodes(even=even)
        self.metrics.loads = {load.name: load.pods for load in self.own}
        for rule in self.rules:
            self.api.create("/api/v1/namespaces", {"metadata": {"name": rule}})
            for load in self.own:
                self.api.create(f"/apis/apps/v1/namespaces/{rule}/deployments", _deployment(rule, load))
        self.settle()
        for rule in self.rules:
            for load in self.own:
                scaler = self.metrics.autoscaler(rule, load.name, *load.bounds)
                self.api.create(f"/apis/autoscaling/v2/namespaces/{rule}/horizontalpodautoscalers", scaler)
        self.settle()
        return {rule: self.update(rule) for rule in self.rules}

    def make_nodes(self, *, even: bool) -> None:
        """Make the nodes of each namespace, in proportion to the ratio or the same number on both sides."""
        graviton = _NODES // 2 if even else round(self.ratio * _NODES)
        for side, number in ((ARM64, graviton), (AMD64, _NODES - graviton)):
            for rule in self.rules:
                for index in range(number):
                    self.api.create("/api/v1/nodes", _node(rule, f"{rule}-{side}-{index}", side, index))

    def update(self, rule: str) -> list[str]:
        """Take a step as an update does, and return the workloads that are not exact after it."""
        inventory = read_inventory(self.api, Discovery(namespaces=(rule,)), MANAGER, every_controller=True)
        plan = make_plan(arm_ratio=self.ratio, inventory=inventory, placed_by="admission")
        if rule == "exact":
            plan = _exact(plan)
        data = {entry_key(row.kind, row.name): row.entry for row in plan.workloads if row.entry}
        wanted = policy(STACK, rule, data)
        if not self.api.create(POLICIES.collection(), wanted):
            path = f"{POLICIES.collection()}/{policy_name(STACK, rule)}"
            self.api.patch(path, {"spec": wanted["spec"]}, "application/merge-patch+json", MANAGER)
        self.api.create(BINDINGS.collection(), binding(STACK, rule))
        time.sleep(SEEN_SECONDS)
        move_pods(
            self.api,
            plan.workloads,
            stack_label=STACK,
            field_manager=MANAGER,
            limits=_LIMITS,
            bring_up_nodes=self.bring_up(inventory),
        )
        if rule != "exact":
            write_costs(self.api, plan.kept_shares, MANAGER)
        counts = self.counts()[rule]
        return [row.name for row in plan.workloads if counts[row.name][ARM64] != row.wanted]

    def bring_up(self, inventory: Inventory) -> BringUpNodes | None:
        """Return what brings up nodes before pods move; None if the nodes exist."""
        del inventory
        return None

    # --- the day ---

    def sample(self, number: int) -> None:
        """Change the load, wait until the autoscalers have followed it, and measure."""
        for load in self.own:
            self.metrics.loads[load.name] = load.at(number, self._noise.uniform(0.95, 1.05))
        self.settle()
        counts = self.counts()
        for rule, figures in self.figures.items():
            figures.add(number, self.ratio, counts[rule], self.own)
        first = counts[self.rules[0]]
        self.pods.append(sum(sum(first[load.name].values()) for load in self.own))

    def settle(self) -> None:
        """Wait until each workload has the pods that its load needs."""
        deadline = time.monotonic() + _LONGEST
        while late := [*self._late()]:
            if time.monotonic() > deadline:
                raise LabError(f"The autoscalers did not settle in {_LONGEST} s: {', '.join(late[:5])}.")
            time.sleep(1)

    def _late(self) -> Iterator[str]:
        scaled = {
            (item["metadata"]["namespace"], item["metadata"]["name"])
            for item in self.api.list("/apis/autoscaling/v2/horizontalpodautoscalers")
        }
        for item in self.api.list("/apis/apps/v1/deployments"):
            space, name = item["metadata"]["namespace"], item["metadata"]["name"]
            pods, status = item["spec"]["replicas"], item.get("status") or {}
            load = self.metrics.loads[name]
            follows = (space, name) not in scaled or abs(load / pods - 1) <= _TOLERANCE + 1e-9
            there = (status.get("replicas", 0), status.get("availableReplicas", 0))
            if not (follows and there == (pods, pods)):
                yield f"{space}/{name} has {there} of {pods} pods for a load of {load}"

    def counts(self) -> dict[str, dict[str, Counter[str]]]:
        """Return the pods of each namespace's workloads on each side."""
        sides = {
            item["metadata"]["name"]: item["metadata"]["labels"][ARCH_LABEL]
            for item in self.api.list("/api/v1/nodes")
        }
        counts: dict[str, dict[str, Counter[str]]] = {
            rule: {load.name: Counter() for load in self.own} for rule in self.rules
        }
        for item in self.api.list("/api/v1/pods"):
            meta = item["metadata"]
            if meta["namespace"] in counts and not meta.get("deletionTimestamp"):
                counts[meta["namespace"]][meta["labels"]["app"]][sides[item["spec"]["nodeName"]]] += 1
        return counts


def _exact(plan: Plan) -> Plan:
    """Return a plan whose entries are those of workloads without an autoscaler."""
    rows = []
    for row in plan.workloads:
        entry = Entry.parse(row.entry)
        rows.append(replace(row, entry=str(replace(entry, scaling=None))) if entry else row)
    return replace(plan, workloads=tuple(rows))


def _node(pool: str, name: str, side: str, index: int) -> dict[str, Any]:
    labels = {
        ARCH_LABEL: side,
        HOSTNAME_LABEL: name,
        OS_LABEL: "linux",
        ZONE_LABEL: f"eu-west-1{'abc'[index % 3]}",
        "pool": pool,
    }
    size = {"cpu": _CPU, "memory": "15Gi", "pods": str(_PODS)}
    taint = side_taint(ARM64 if side == ARM64 else AMD64)
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"taints": [{"key": taint.key, "effect": taint.effect}]},
        "status": {"allocatable": size, "capacity": size},
    }


def _deployment(pool: str, load: Load) -> dict[str, Any]:
    labels = {"app": load.name}
    selected = {"labelSelector": {"matchLabels": labels}}
    keys = {"zones": ZONE_LABEL, "nodes": HOSTNAME_LABEL}
    spec: dict[str, Any] = {
        "nodeSelector": {"pool": pool},
        "containers": [
            {
                "name": "app",
                "image": "registry.example/app:1",
                "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
            }
        ],
    }
    if key := keys.get(load.soft):
        spread = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway", **selected}
        spec["topologySpreadConstraints"] = [spread]
    elif load.soft:
        term = {"weight": 100, "podAffinityTerm": {"topologyKey": HOSTNAME_LABEL, **selected}}
        spec["affinity"] = {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [term]}}
    return {
        "metadata": {"name": load.name},
        "spec": {
            "replicas": load.pods,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }
