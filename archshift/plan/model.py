"""The plan: what the next ``pulumi up`` makes of the cluster, as a plain value.

The program registers it, the command line prints it, policies and reports read it; nobody
computes it twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from archshift.common.architectures import Architecture
from archshift.images.workload import WorkloadVerdict
from archshift.plan.apportion import Wave
from archshift.plan.capacity import Balance

Action: TypeAlias = Literal["move", "hold", "graviton", "pin", "leave", "block"]

FORCE_REASON_ANNOTATION: Final = "archshift/force-reason"
"""On a workload whose fields were taken by force: the config's reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the stack config says of one workload (``archshift:workloads.overrides``).

    Attributes:
        hold: Keep it on x86.
        max_ratio: Most of its pods that may run on Graviton, 0.0 to 1.0.
        wave: Move it early or late; None leaves it to its place in the fleet.
        force: Take placement fields from their owner; needs a reason.
        reason: Why; shown wherever the workload is.
    """

    hold: bool = False
    max_ratio: float = 1.0
    wave: Wave | None = None
    force: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that archshift needs and someone else owns.

    Attributes:
        workload: The workload's key.
        field: The field's path in the object.
        owner: Its field manager.
        forced: True if the config has archshift take it.
    """

    workload: str
    field: str
    owner: str
    forced: bool

    def __str__(self) -> str:
        if self.forced:
            return f"{self.workload}: takes {self.field} from {self.owner}, as configured (force: true)"
        return (
            f"{self.workload}: {self.field} is owned by {self.owner}; set the placement there, or "
            f"set force: true with a reason in archshift:workloads.overrides"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedWorkload:
    """One workload in the plan.

    Attributes:
        key: ``namespace/Kind/name``.
        namespace: Its namespace.
        kind: Its kind.
        name: Its name.
        replicas: Standing pods.
        wanted: Pods wanted on Graviton; None where archshift wants nothing of it.
        graviton: Pods observed on Graviton.
        reason: Why it is not simply moved; empty if it is.
        movable: It counts into the fleet.
        patch: The body of its server-side-apply patch; None if it gets none.
        restarts: The patch changes the pod template, so its pods are replaced.
        forced: The patch takes fields from another owner.
        reachable: (lowest, highest) share on Graviton as an autoscaler moves the replicas.
        verdict: What the evidence says of its images; None where images are not checked.
        action: What is done with it: ``move``, ``hold`` on x86, ``graviton`` (it runs nowhere else),
            ``pin`` (no standing pods), ``leave`` alone, ``block`` (a DaemonSet that would break).
        owner: Who answers for it: what its labels say, or else its namespace.
    """

    key: str
    namespace: str
    kind: str
    name: str
    replicas: int
    wanted: int | None
    graviton: int
    action: Action = "move"
    owner: str = ""
    reason: str = ""
    movable: bool = False
    patch: Mapping[str, Any] | None = None
    restarts: bool = False
    forced: bool = False
    reachable: tuple[float, float] | None = None
    verdict: WorkloadVerdict | None = None

    @property
    def exact(self) -> bool:
        """Observed is what is wanted; true where nothing is wanted."""
        return self.wanted is None or self.wanted == self.graviton

    @property
    def moves(self) -> int:
        """Pods that change sides."""
        return 0 if self.wanted is None else abs(self.wanted - self.graviton)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the next update makes of the cluster.

    Attributes:
        arm_ratio: The ratio that was asked for.
        workloads: Every controller found, sorted by key.
        conflicts: Fields owned by others.
        balances: Capacity of both sides after the step.
        before: Capacity of both sides as they are.
        unsteered_reasons: Pods that no steered controller owns: key to reason.
        new_nodes: Names of configured nodes that are not there yet.
        first_graviton_node: This update would make the cluster's first Graviton node.
        blockers: DaemonSets that keep Graviton nodes from being made, a sentence each.
    """

    arm_ratio: float
    workloads: tuple[PlannedWorkload, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    balances: Mapping[Architecture, Balance] = field(default_factory=dict)
    before: Mapping[Architecture, Balance] = field(default_factory=dict)
    unsteered_reasons: Mapping[str, str] = field(default_factory=dict)
    new_nodes: tuple[str, ...] = ()
    first_graviton_node: bool = False
    blockers: tuple[str, ...] = ()

    @property
    def movable(self) -> list[PlannedWorkload]:
        """The workloads that make up the fleet."""
        return [workload for workload in self.workloads if workload.movable]

    @property
    def pods(self) -> int:
        """Pods of the fleet."""
        return sum(workload.replicas for workload in self.movable)

    @property
    def all_pods(self) -> int:
        """Pods of all workloads with standing pods, those that are held or left alone included."""
        return sum(workload.replicas for workload in self.workloads)

    @property
    def wanted(self) -> int:
        """Pods of the fleet wanted on Graviton."""
        return sum(workload.wanted or 0 for workload in self.movable)

    @property
    def graviton(self) -> int:
        """Pods of the fleet observed on Graviton."""
        return sum(workload.graviton for workload in self.movable)

    @property
    def direction(self) -> Literal["up", "down", "none"]:
        """Where the step goes, from what is observed and not from a remembered number."""
        if self.wanted == self.graviton:
            return "none"
        return "up" if self.wanted > self.graviton else "down"

    @property
    def exact(self) -> bool:
        """Every workload is where it is wanted."""
        return all(workload.exact for workload in self.workloads)

    @property
    def shortages(self) -> list[str]:
        """What the nodes lack for this plan, a sentence a side."""
        return [side.shortage for side in self.balances.values() if side.shortage]
