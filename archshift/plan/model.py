"""The plan: what the next ``pulumi up`` changes in the cluster, as a plain value.

The program registers it, the command line prints it, and policies and reports read it. Each run computes it
only once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias

from archshift.cluster.entries import LEFT_ALONE
from archshift.cluster.kinds import on_every_node
from archshift.cluster.model import Trouble
from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.images.workload import WorkloadVerdict
from archshift.plan.apportion import Wave
from archshift.plan.capacity import Balance
from archshift.plan.deletion_costs import Proportion

Placement: TypeAlias = Literal["patches", "admission"]
"""Who places pods: a patch of each workload's template, or the API server when a pod is created."""

Action: TypeAlias = Literal["move", "hold", "graviton", "pin", "keep", "leave", "block"]

FORCE_REASON_ANNOTATION: Final = "archshift/force-reason"
"""On a workload whose fields archshift took by force: the configured reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The settings of one workload (``archshift:workloads.overrides``).

    Attributes:
        hold: Keep it on x86.
        max_ratio: The largest share of its pods that may run on Graviton, 0.0 to 1.0.
        wave: Move it early or late; None if its phase decides.
        force: Take placement fields from their owner; this needs a reason.
        steer_owned: Steer it although another object's controller writes it or uses its template.
        reason: The reason; every table and report shows it with the workload.
    """

    hold: bool = False
    max_ratio: float = 1.0
    wave: Wave | None = None
    force: bool = False
    steer_owned: bool = False
    reason: str = ""


def with_holds(rules: Mapping[str, Rules], reasons: Mapping[str, str]) -> dict[str, Rules]:
    """Return rules that also hold workloads on x86; a hold of the settings keeps its own reason.

    Args:
        rules: Workload key to its rules.
        reasons: Workload key to why it is held.
    """
    held = {
        key: replace(rules.get(key, Rules()), hold=True, reason=reason)
        for key, reason in reasons.items()
        if not (key in rules and rules[key].hold)
    }
    return {**rules, **held}


@dataclass(frozen=True, slots=True)
class Conflict:
    """A field that archshift needs and another field manager owns.

    Attributes:
        workload: The workload's key.
        field: The field's path in the object.
        owner: Its field manager.
        forced: Whether the settings make archshift take it.
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
        replicas: The number of permanent pods.
        wanted: The number of pods wanted on Graviton; None if archshift leaves its pods where they are.
        graviton: The number of pods on Graviton now.
        waiting: With ``placement: admission``: how many of its pods have no node, and will start where they
            belong.
        reason: Why archshift does not simply move it; empty if it does.
        movable: Whether it is part of the fleet.
        patch: The body of its server-side-apply patch; None if it gets none.
        entry: By what the API server places its new pods: an ``Entry``, or ``LEFT_ALONE``. Empty for
            DaemonSets, and with ``placement: patches``.
        applied: Whether its pods are placed now as the patch or the entry would place them.
        restarts: Whether the update replaces all of its pods: its pod template changes, or its limits let no
            pod be away.
        patch_goes: Whether it loses the patch that an update with ``placement: patches`` set. If it has pods,
            it rolls out by that, and its new pods are placed at admission.
        forced: Whether the patch takes fields from another owner.
        reclaimed: Whether the patch takes back fields that archshift wrote and another manager owns now, for
            example after ``kubectl rollout undo``.
        autoscaled: Whether an autoscaler changes its replicas.
        near: Whether it is not exact, but in the interval that the rule of an autoscaled workload promises.
            An update does not touch it then. Only with ``placement: patches``.
        reachable: The lowest and the highest share on Graviton while an autoscaler changes the replicas.
        verdict: The verdict on its images; None if images are not checked.
        action: What archshift does with it: ``move``, ``hold`` on x86, ``graviton`` (it runs on arm64 only),
            ``pin`` (it has no permanent pods), ``keep`` (archshift cannot place it now, so it keeps exactly
            the fields that archshift set before), ``leave`` alone (archshift set nothing), ``block`` (a
            DaemonSet that would break).
        owner: The responsible team or person: from its labels, otherwise its namespace.
    """

    key: str
    namespace: str
    kind: str
    name: str
    replicas: int
    wanted: int | None
    graviton: int
    waiting: int = 0
    action: Action = "move"
    owner: str = ""
    reason: str = ""
    movable: bool = False
    patch: Mapping[str, Any] | None = None
    entry: str = ""
    applied: bool = False
    restarts: bool = False
    patch_goes: bool = False
    forced: bool = False
    reclaimed: bool = False
    autoscaled: bool = False
    near: bool = False
    reachable: tuple[float, float] | None = None
    verdict: WorkloadVerdict | None = None

    def wanted_on(self, side: Architecture) -> int | None:
        """Return the number of pods wanted on a side; None if archshift leaves its pods where they are."""
        if self.wanted is None:
            return None
        return self.wanted if side == ARM64 else self.replicas - self.wanted

    @property
    def waits(self) -> bool:
        """Whether its change waits for nodes: it keeps its pods, and its number of pods on Graviton."""
        return self.action == "keep" and self.wanted is not None

    @property
    def exact(self) -> bool:
        """Whether the wanted number of pods is on Graviton; true if ``wanted`` is None."""
        return self.wanted is None or self.wanted == self.graviton

    @property
    def unchanged(self) -> bool:
        """Whether the update changes nothing about it, and nothing holds it."""
        placed = self.action in ("move", "pin", "graviton")
        everywhere = self.action == "leave" and on_every_node(self.kind)
        return (placed or everywhere) and self.exact and not self.restarts

    @property
    def cause(self) -> str:
        """The reason without the names of its containers and images, to group workloads."""
        if self.verdict is None or self.verdict.runs_on_arm64 or self.action not in ("hold", "block"):
            return self.reason
        blocking = self.verdict.main_blocking
        return blocking.cause if blocking else self.reason

    @property
    def placed(self) -> bool:
        """Whether archshift places its pods, by a patch or by an entry."""
        return self.patch is not None or self.entry not in ("", LEFT_ALONE)

    @property
    def moves(self) -> int:
        """The number of pods that change sides."""
        return 0 if self.wanted is None else abs(self.wanted - self.graviton)

    @property
    def lacking(self) -> Architecture:
        """The side that gets pods, if its pods change sides."""
        return ARM64 if (self.wanted or 0) > self.graviton else AMD64

    @property
    def restarted_pods(self) -> int:
        """The number of pods that the update replaces; 0 for DaemonSets, which have no number of pods."""
        if self.restarts:
            return self.replicas
        return max(0, self.moves - self.waiting) if self.entry else 0


@dataclass(frozen=True, slots=True)
class DaemonSetBlocker:
    """A DaemonSet that would start on Graviton nodes and break.

    Attributes:
        workload: Its key.
        reason: Why it would break.
        steered: Whether archshift steers it, so that archshift could pin it to x86 nodes.
    """

    workload: str
    reason: str
    steered: bool

    def __str__(self) -> str:
        return f"{self.workload}: {self.reason}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bend:
    """The share of one autoscaled workload.

    Attributes:
        workload: Its key.
        wanted: The wanted share of its pods on Graviton, 0.0 to 1.0.
        share: The present share.
        since: When archshift last ordered its pods, as the API server writes times; empty if it is not known.
        causes: What changed the share since then; empty if it is the wanted one.
        scaled: Whether its autoscaler alone changed it, as far as the cluster shows.
    """

    workload: str
    wanted: float
    share: float
    since: str = ""
    causes: tuple[str, ...] = ()
    scaled: bool = False

    def __str__(self) -> str:
        text = f"{self.workload}: {self.share:.0%} of its pods on Graviton, {self.wanted:.0%} wanted"
        return f"{text}: {'; '.join(self.causes)}" if self.causes else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the next update changes in the cluster.

    Attributes:
        arm_ratio: The configured ratio.
        workloads: All discovered workloads, sorted by key.
        conflicts: The needed fields that others own.
        balances: The capacity of both sides after the step.
        before: The capacity of both sides now.
        unsteered_reasons: The key of pods that archshift does not steer to the reason.
        new_nodes: The names of configured nodes that do not exist yet.
        first_graviton_node: Whether this update creates the cluster's first Graviton node.
        blockers: The DaemonSets that prevent the creation of Graviton nodes, including those that archshift
            does not steer.
        node_notes: Which nodes take no pods now, a sentence for each side. Such a state changes no plan.
        refused: Workload key to the words with which the API server refuses its patch.
        untried: Which patches were not tried on the API server and why; empty if all were, or if none should.
        troubles: The key of a workload to what is wrong with its pods or its rollout now.
        placed_by: Who places the pods.
        unplaced: Workload key to the number of its pods that are newer than archshift's policy, and that the
            policy did not place.
        older: The number of pods of placed workloads that are older than the policy.
        without_policy: The namespaces in which no policy of archshift is in effect.
        advice: What another placement would save in this step, a sentence; empty if it saves nothing.
        kept_shares: The key of an autoscaled workload to the share that it keeps while it is scaled down.
        costs_due: The keys of the workloads whose deletion costs this update writes or gives back.
        bends: The shares of autoscaled workloads.
        drift: The workloads and namespaces that differ for another reason than an autoscaler's work.
    """

    arm_ratio: float
    workloads: tuple[PlannedWorkload, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    balances: Mapping[Architecture, Balance] = field(default_factory=dict)
    before: Mapping[Architecture, Balance] = field(default_factory=dict)
    unsteered_reasons: Mapping[str, str] = field(default_factory=dict)
    new_nodes: tuple[str, ...] = ()
    first_graviton_node: bool = False
    blockers: tuple[DaemonSetBlocker, ...] = ()
    node_notes: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    untried: str = ""
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    placed_by: Placement = "patches"
    unplaced: Mapping[str, int] = field(default_factory=dict)
    older: int = 0
    without_policy: tuple[str, ...] = ()
    advice: str = ""
    kept_shares: Mapping[str, Proportion] = field(default_factory=dict)
    costs_due: tuple[str, ...] = ()
    bends: tuple[Bend, ...] = ()
    drift: tuple[str, ...] = ()

    @property
    def movable(self) -> list[PlannedWorkload]:
        """The workloads of the fleet."""
        return [workload for workload in self.workloads if workload.movable]

    @property
    def pods(self) -> int:
        """The number of pods of the fleet."""
        return sum(workload.replicas for workload in self.movable)

    @property
    def all_pods(self) -> int:
        """The number of permanent pods of all workloads, including workloads that are held or left alone."""
        return sum(workload.replicas for workload in self.workloads)

    @property
    def wanted(self) -> int:
        """The number of the fleet's pods wanted on Graviton."""
        return sum(workload.wanted or 0 for workload in self.movable)

    @property
    def graviton(self) -> int:
        """The number of the fleet's pods on Graviton now."""
        return sum(workload.graviton for workload in self.movable)

    @property
    def moves(self) -> int:
        """The number of pods that change sides."""
        return sum(workload.moves for workload in self.workloads)

    @property
    def restarted_pods(self) -> int:
        """The number of permanent pods that the step replaces."""
        return sum(workload.restarted_pods for workload in self.workloads)

    @property
    def waiting(self) -> list[PlannedWorkload]:
        """The workloads that would change, but wait until the nodes of a side take pods again."""
        return [workload for workload in self.workloads if workload.waits]

    @property
    def direction(self) -> Literal["up", "down", "none"]:
        """The direction of the step, from where pods run now and not from a stored ratio."""
        if self.wanted == self.graviton:
            return "none"
        return "up" if self.wanted > self.graviton else "down"

    @property
    def exact(self) -> bool:
        """Whether every workload has its wanted number of pods on Graviton."""
        return all(workload.exact for workload in self.workloads)

    @property
    def reached(self) -> bool:
        """Whether every workload is exact, or as near its share as an update brings it."""
        return all(workload.exact or workload.near for workload in self.workloads)

    @property
    def in_trouble(self) -> bool:
        """Whether a workload that archshift places has a pending pod, or a rollout without progress."""
        placed = {workload.key for workload in self.workloads if workload.placed}
        return any(
            trouble.pending or trouble.stuck for key, trouble in self.troubles.items() if key in placed
        )

    @property
    def shortages(self) -> list[str]:
        """What the nodes lack for this plan, a sentence for each side."""
        return [side.shortage for side in self.balances.values() if side.shortage]
