"""The migration report as a plain value: how far a stack is, and what holds it back.

Pure. Everything comes from one survey, so the report counts as the plan and the guard do. The page and the
JSON show the same values.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

from archshift.cluster.kinds import has_replicas, on_every_node
from archshift.cluster.model import OWNER_LABELS, Inventory, Workload
from archshift.common.architectures import AMD64, ARM64, display
from archshift.common.kubernetes import EKS_GROUP_LABEL, GROUP_LABEL, INSTANCE_TYPE_LABEL, POOL_LABEL
from archshift.common.resources import total
from archshift.common.text import joined
from archshift.images.workload import Blocking, WorkloadVerdict
from archshift.nodes.groups import AnyNodeGroup, Node
from archshift.plan import guard, reasons
from archshift.plan.arm64_tests import failure
from archshift.plan.model import Bend, PlannedWorkload, Rules
from archshift.ramp.measurement import ShareRange
from archshift.report.history import History
from archshift.report.savings import Savings

if TYPE_CHECKING:
    # Settings are built from this package's types; here they are only passed in.
    from archshift.settings.stack import Settings
    from archshift.survey import Survey

SHARE_DAYS: Final = 7
"""The days over which the report shows shares of autoscaled workloads."""

State: TypeAlias = Literal["ready", "capped", "held", "left alone", "blocked"]

STATES: Final[Mapping[State, str]] = {
    "ready": "it can move to Graviton",
    "capped": "only a part of its pods may move: max_ratio in the settings",
    "held": "it stays on x86, because the settings say so or its test on arm64 failed",
    "left alone": "archshift does not place it, because of another owner, its own rules or its kind",
    "blocked": "an image is not proven to run on arm64",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSummary:
    """The pods of all workloads together.

    Attributes:
        pods: Pods that can move.
        wanted: Movable pods that belong on Graviton.
        graviton: Movable pods that run on Graviton.
        all_pods: Replicas of all workloads.
        exact: Every workload has its planned number of pods on Graviton.
    """

    pods: int
    wanted: int
    graviton: int
    all_pods: int
    exact: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedWorkload:
    """One workload.

    Attributes:
        workload: ``namespace/Kind/name``.
        owner: The team or person in its labels, otherwise its namespace.
        proven: Its images are proven to run on arm64; true if images are not checked.
        movable: Its pods count in the fleet.
        pods: Replicas; for a DaemonSet or a CronJob, the running pods.
        wanted: Pods that belong on Graviton; None if archshift does not place the workload.
        graviton: Pods on Graviton.
        vcpu_x86: vCPU requests of its pods on x86.
        reason: Why it cannot move freely; empty if it can.
        test: Result of its test on arm64: ``passed``, ``failed``, ``not run``; empty without a test.
    """

    workload: str
    owner: str
    state: State
    proven: bool
    movable: bool
    pods: int
    wanted: int | None
    graviton: int
    vcpu_x86: float
    reason: str
    test: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnerSummary:
    """The workloads of one owner.

    Attributes:
        workloads: Number of workloads.
        states: Number of workloads by state.
        pods: Pods that can move; the sum over all owners is the fleet.
        wanted: Movable pods that belong on Graviton.
        graviton: Movable pods that run on Graviton.
        vcpu_x86: vCPU requests of all its pods on x86.
        vcpu_blocked: The part of ``vcpu_x86`` with images that are not proven to run on arm64.
    """

    owner: str
    workloads: int
    states: Mapping[State, int]
    pods: int
    wanted: int
    graviton: int
    vcpu_x86: float
    vcpu_blocked: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """A container that runs an image."""

    workload: str
    owner: str
    container: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageBlocker:
    """An image that keeps workloads on x86.

    Attributes:
        reason: Why it keeps them there, with what to do.
        vcpu: vCPU requests of its workloads' pods on x86.
        vcpu_alone: The part of ``vcpu`` that no other image blocks: repairing this image frees it.
        pods: Its workloads' pods on x86.
        uses: The containers that run the image.
        away: The registry that does not answer; empty if it answers. Then the image itself may be fine.
    """

    image: str
    verdict: str
    reason: str
    vcpu: float
    vcpu_alone: float
    pods: int
    uses: tuple[Use, ...]
    away: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedGroup:
    """The nodes of one group, and their load.

    Attributes:
        group: The group's name; empty for nodes without a group label.
        managed: The group belongs to the stack.
        nodes: Number of nodes.
        schedulable: Number of nodes that accept pods.
        pods: Pods on the nodes.
        most_pods: Pods that the nodes can run.
        vcpu_asked: vCPU requests of these pods.
        vcpu: Allocatable vCPU.
        gib_asked: Memory requests of these pods, in GiB.
        gib: Allocatable memory, in GiB.
    """

    group: str
    managed: bool
    architecture: str
    instance_types: tuple[str, ...]
    nodes: int
    schedulable: int
    pods: int
    most_pods: int
    vcpu_asked: float
    vcpu: float
    gib_asked: float
    gib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Needing:
    """A workload that needs x86.

    Attributes:
        pods: Pods for which x86 capacity must stay.
        vcpu: vCPU requests of these pods.
    """

    workload: str
    reason: str
    pods: int
    vcpu: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """Whether the x86 nodes may be removed.

    Attributes:
        guarded: The stack guards x86: it has node groups, and images are checked.
        needs: Workloads that need x86, the largest first.
        nodes: Number of x86 nodes.
        nodes_that_must_stay: Number of x86 nodes that these workloads need.
        shortfall: Why today's x86 nodes cannot run these workloads; empty if they can.
        exceptions: The exceptions in force, one sentence each.
    """

    guarded: bool
    needs: tuple[Needing, ...] = ()
    nodes: int = 0
    nodes_that_must_stay: int = 0
    shortfall: str = ""
    exceptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A workload's test on arm64.

    Attributes:
        outcome: ``passed``, ``failed`` or ``not run``.
        machine: The machine of the test; empty if unknown.
        at: When the test ended; None if unknown.
        message: Why the test failed.
    """

    workload: str
    outcome: str
    machine: str = ""
    at: datetime | None = None
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """How far a stack's migration is.

    Attributes:
        at: When the cluster was read.
        owners: By owner, the most vCPU on x86 first.
        owner_labels: Labels that name the owner, with any prefix; without one it is the namespace.
        blockers: Images that keep workloads on x86, the most vCPU first.
        vcpu_blocked: vCPU that all blockers hold; a workload with two blockers counts once.
        workloads: All workloads, sorted by key.
        bends: The shares of autoscaled workloads, and what changed them since the last update or rebalance.
        shares: The key of an autoscaled workload to its share in the last days, if Prometheus knows it.
        troubles: Which pods do not run, which rollouts are stuck, and which policies somebody changed, a
            sentence for each cause.
        notes: What the report does not know, one sentence each.
    """

    stack: str
    at: datetime
    arm_ratio: float
    fleet: FleetSummary
    owners: tuple[OwnerSummary, ...]
    owner_labels: tuple[str, ...] = OWNER_LABELS
    blockers: tuple[ImageBlocker, ...]
    vcpu_blocked: float
    workloads: tuple[ReportedWorkload, ...]
    groups: tuple[ReportedGroup, ...]
    guard: Guard
    tests: tuple[Tested, ...]
    history: History = field(default_factory=History)
    savings: Savings = field(default_factory=Savings)
    bends: tuple[Bend, ...] = ()
    shares: Mapping[str, ShareRange] = field(default_factory=dict)
    troubles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def in_state(self, *states: State) -> list[ReportedWorkload]:
        """Return the workloads in any of these states."""
        return [workload for workload in self.workloads if workload.state in states]

    @property
    def to_repair(self) -> tuple[ImageBlocker, ...]:
        """The blockers whose registry answers."""
        return tuple(blocker for blocker in self.blockers if not blocker.away)

    @property
    def away(self) -> dict[str, list[ImageBlocker]]:
        """Each registry that does not answer, with the blockers that cannot be checked because of it."""
        hosts: dict[str, list[ImageBlocker]] = {}
        for blocker in self.blockers:
            if blocker.away:
                hosts.setdefault(blocker.away, []).append(blocker)
        return hosts

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON values; times are ISO with their zone, money is USD a month."""
        value = _plain(asdict(self))
        return dict(value)


def make_report(
    settings: "Settings",
    survey: "Survey",
    *,
    at: datetime,
    history: History | None = None,
    savings: Savings | None = None,
    shares: Mapping[str, ShareRange] | None = None,
    notes: Iterable[str] = (),
) -> Report:
    """Return the report of a survey.

    Args:
        settings: The stack's settings.
        survey: A survey with these settings.
        at: When the survey was made.
        history: The history of arm_ratio.
        savings: The savings.
        shares: The shares of workloads in the last days.
        notes: What the caller could not read, one sentence each.
    """
    plan, inventory = survey.plan, survey.inventory
    tests = _tests(survey)
    outcomes = {test.workload: test.outcome for test in tests}
    workloads = tuple(
        _workload(row, survey.rules.get(row.key) or Rules(), inventory, outcomes.get(row.key, ""))
        for row in plan.workloads
    )
    sentences, known = list(notes), shares or {}
    blockers = _blockers(plan.workloads, survey)
    if survey.evidence is None:
        sentences.append("whether images run on arm64: archshift:images.check is false")
    return Report(
        stack=settings.stack,
        at=at,
        arm_ratio=plan.arm_ratio,
        fleet=FleetSummary(
            pods=plan.pods,
            wanted=plan.wanted,
            graviton=plan.graviton,
            all_pods=plan.all_pods,
            exact=plan.exact,
        ),
        owners=_owners(workloads),
        blockers=blockers,
        vcpu_blocked=_blocked(blockers, inventory),
        workloads=workloads,
        groups=_groups(inventory, settings.groups),
        guard=_guard(settings, survey, at),
        tests=tests,
        history=history or History(),
        savings=savings or Savings(),
        bends=plan.bends,
        shares={bend.workload: known[bend.workload] for bend in plan.bends if bend.workload in known},
        troubles=(*reasons.troubles(plan.troubles), *reasons.policies_away(plan.without_policy)),
        notes=tuple(sentences),
    )


def share_over_time(key: str, share: ShareRange) -> str:
    """Say how the share of a workload changed in the last days."""
    return (
        f"{key}: in the last {SHARE_DAYS} days, its share on Graviton was between {share.lowest:.0%} and "
        f"{share.highest:.0%}, {share.mean:.0%} on average"
    )


def state_of(row: PlannedWorkload, rules: Rules) -> State:
    """Return the state of a planned workload under its rules."""
    if not _proven(row):
        return "held" if row.action == "hold" and rules.hold else "blocked"
    match row.action:
        case "move":
            return "capped" if rules.max_ratio < 1 else "ready"
        case "hold":
            return "held"
        case "keep" | "leave" if not on_every_node(row.kind):
            return "left alone"
        case _:
            return "ready"


def _proven(row: PlannedWorkload) -> bool:
    """Whether its images run on arm64; true if images are not checked."""
    return row.verdict is None or row.verdict.runs_on_arm64


def _workload(row: PlannedWorkload, rules: Rules, inventory: Inventory, test: str) -> ReportedWorkload:
    workload = inventory.workloads[row.key]
    running = sum(inventory.on(row.key, side) for side in (AMD64, ARM64))
    return ReportedWorkload(
        workload=row.key,
        owner=row.owner,
        state=state_of(row, rules),
        proven=_proven(row),
        movable=row.movable,
        pods=row.replicas if row.replicas or has_replicas(row.kind) else running,
        wanted=row.wanted,
        graviton=row.graviton,
        vcpu_x86=_vcpu(workload.requests.millicpu * inventory.on(row.key, AMD64)),
        reason=row.reason,
        test=test,
    )


def _owners(workloads: Iterable[ReportedWorkload]) -> tuple[OwnerSummary, ...]:
    by_owner: dict[str, list[ReportedWorkload]] = {}
    for workload in workloads:
        by_owner.setdefault(workload.owner, []).append(workload)
    summaries = [
        OwnerSummary(
            owner=owner,
            workloads=len(own),
            states={state: sum(workload.state == state for workload in own) for state in STATES},
            pods=sum(workload.pods for workload in own if workload.movable),
            wanted=sum(workload.wanted or 0 for workload in own if workload.movable),
            graviton=sum(workload.graviton for workload in own if workload.movable),
            vcpu_x86=_sum(workload.vcpu_x86 for workload in own),
            vcpu_blocked=_sum(workload.vcpu_x86 for workload in own if not workload.proven),
        )
        for owner, own in by_owner.items()
    ]
    return tuple(sorted(summaries, key=lambda summary: (-summary.vcpu_x86, summary.owner)))


def _blockers(rows: Sequence[PlannedWorkload], survey: "Survey") -> tuple[ImageBlocker, ...]:
    inventory = survey.inventory
    owners = {row.key: row.owner for row in rows}
    everything: dict[str, Workload] = {**inventory.unsteered_workloads, **inventory.workloads}
    uses: dict[str, list[tuple[Workload, WorkloadVerdict, Blocking]]] = {}
    for key, verdict in sorted((survey.evidence.verdicts if survey.evidence else {}).items()):
        workload = everything.get(key)
        for blocking in verdict.blocking if workload else ():
            if workload and blocking.image:
                uses.setdefault(blocking.image, []).append((workload, verdict, blocking))
    return tuple(
        sorted(
            (_blocker(image, image_uses, inventory, owners) for image, image_uses in uses.items()),
            key=lambda blocker: (-blocker.vcpu, -blocker.pods, blocker.image),
        )
    )


def _blocker(
    image: str,
    uses: Sequence[tuple[Workload, WorkloadVerdict, Blocking]],
    inventory: Inventory,
    owners: Mapping[str, str],
) -> ImageBlocker:
    # Two containers of one workload may run the image; the workload's pods count once.
    workloads = {workload.key: (workload, verdict) for workload, verdict, _ in uses}
    millicpu = {
        key: workload.requests.millicpu * inventory.on(key, AMD64) for key, (workload, _) in workloads.items()
    }
    alone = [
        key
        for key, (_, verdict) in workloads.items()
        if all(blocking.image == image for blocking in verdict.blocking)
    ]
    _, first, blocking = uses[0]
    of_image = next((verdict for verdict in first.images if verdict.image == image), None)
    reason = blocking.reason
    if of_image:
        has = ", ".join(of_image.platforms)
        reason = joined(f"it has {has}" if has else "", of_image.reason)
    return ImageBlocker(
        image=image,
        verdict=blocking.verdict,
        reason=reason,
        vcpu=_vcpu(sum(millicpu.values())),
        vcpu_alone=_vcpu(sum(millicpu[key] for key in alone)),
        pods=sum(inventory.on(key, AMD64) for key in workloads),
        uses=tuple(
            Use(
                workload=workload.key,
                owner=owners.get(workload.key) or workload.owner or workload.namespace,
                container=container.container,
            )
            for workload, _, container in uses
        ),
        away=blocking.away,
    )


def _blocked(blockers: Iterable[ImageBlocker], inventory: Inventory) -> float:
    everything: dict[str, Workload] = {**inventory.unsteered_workloads, **inventory.workloads}
    keys = {use.workload for blocker in blockers for use in blocker.uses}
    return _vcpu(sum(everything[key].requests.millicpu * inventory.on(key, AMD64) for key in keys))


def _groups(inventory: Inventory, groups: Sequence[AnyNodeGroup]) -> tuple[ReportedGroup, ...]:
    nodes: dict[tuple[int, str, str], list[Node]] = {
        (place, group.name, group.architecture): [] for place, group in enumerate(groups)
    }
    for node in inventory.nodes:
        place = next((at for at, group in enumerate(groups) if group.owns(node)), len(groups))
        labels = (node.labels.get(label, "") for label in (POOL_LABEL, EKS_GROUP_LABEL, GROUP_LABEL))
        name = groups[place].name if place < len(groups) else next(filter(None, labels), "")
        nodes.setdefault((place, name, node.architecture), []).append(node)
    return tuple(
        _group(name, place < len(groups), architecture, members, inventory)
        for (place, name, architecture), members in sorted(nodes.items(), key=lambda item: item[0])
    )


def _group(
    name: str, managed: bool, architecture: str, nodes: Sequence[Node], inventory: Inventory
) -> ReportedGroup:
    asked = total(inventory.loads[node.name] for node in nodes if node.name in inventory.loads)
    capacity = total(node.capacity for node in nodes)
    return ReportedGroup(
        group=name,
        managed=managed,
        architecture=architecture,
        instance_types=tuple(sorted({node.labels.get(INSTANCE_TYPE_LABEL, "") for node in nodes} - {""})),
        nodes=len(nodes),
        schedulable=sum(node.schedulable for node in nodes),
        pods=asked.pods,
        most_pods=capacity.pods,
        vcpu_asked=_vcpu(asked.millicpu),
        vcpu=_vcpu(capacity.millicpu),
        gib_asked=round(asked.gib, 2),
        gib=round(capacity.gib, 2),
    )


def _guard(settings: "Settings", survey: "Survey", at: datetime) -> Guard:
    glass = settings.break_glass
    exceptions = (glass.describe(at),) if glass else ()
    x86 = [node for node in survey.inventory.nodes if node.architecture == AMD64]
    if survey.needs is None:
        return Guard(guarded=False, nodes=len(x86), exceptions=exceptions)
    needs = [
        Needing(
            workload=need.key,
            reason=need.reason,
            pods=need.pods,
            vcpu=_vcpu(need.pods * need.workload.requests.millicpu),
        )
        for need in survey.needs
    ]
    return Guard(
        guarded=True,
        needs=tuple(sorted(needs, key=lambda need: (-need.vcpu, need.workload))),
        nodes=len(x86),
        nodes_that_must_stay=len(guard.nodes_that_must_stay(survey.needs, x86)),
        shortfall=guard.shortfall(survey.needs, x86),
        exceptions=exceptions,
    )


def _tests(survey: "Survey") -> tuple[Tested, ...]:
    done = [
        Tested(
            workload=key,
            outcome="passed" if proof.passed else "failed",
            machine=proof.machine,
            at=proof.at,
            message="" if proof.passed else failure(proof),
        )
        for key, proof in survey.tests.proofs.items()
    ]
    waiting = [Tested(workload=key, outcome="not run") for key in survey.tests.missing]
    return tuple(sorted(done + waiting, key=lambda test: test.workload))


def group_title(group: ReportedGroup) -> str:
    """Return a group's name for a person."""
    name = group.group or f"{display(ARM64 if group.architecture == ARM64 else AMD64)} nodes without a group"
    return name if group.managed else f"{name} (not of this stack)"


def _vcpu(millicpu: int) -> float:
    return millicpu / 1000


def _sum(values: Iterable[float]) -> float:
    # The values are thousandths; rounding removes the error of adding floats.
    return round(sum(values), 3)


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value
