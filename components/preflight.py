"""What a run checks and logs before it registers anything."""

from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from archshift.cluster.client import connect
from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.pods import busy_pods
from archshift.common.architectures import AMD64, display
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import EKS_GROUP_LABEL
from archshift.common.text import counted
from archshift.nodes.after_update import nodes_after, possible_nodes
from archshift.plan import group_changes, guard, pool_changes, reasons
from archshift.plan.causes import summary
from archshift.plan.model import Plan
from archshift.plan.reasons import daemonset_way_out
from archshift.ramp.gate_evidence import GateEvidence, Move
from archshift.ramp.schedule import DEFAULT_STEPS, step_below
from archshift.settings.reading import Problems
from archshift.survey import Survey
from components import engine_text
from components.guard import busy_error, refuse
from components.plan_file import exceptions
from components.stack_state import resource_outputs

if TYPE_CHECKING:
    from archshift.settings.stack import Settings

_NODE_GROUP: Final = "aws:eks/nodeGroup:NodeGroup"


def guard_x86(survey: Survey, settings: "Settings", now: datetime) -> None:
    """Stop an update that would leave too little capacity; say what it changes on node groups that exist.

    It warns about active exceptions.

    Raises:
        ArchshiftError: Something still needs x86, or pods run on what would go. Nothing is registered yet.
    """
    for exception in exceptions(settings, now):
        engine_text.warn(exception)
    settings = _as_sent(settings)
    for group in settings.eks_node_groups.values():
        if change := group_changes.change_of(group):
            (engine_text.warn if group_changes.going(group) else engine_text.info)(change)
        for note in group.notes:
            engine_text.info(f"node group {group.name}: {note}")
    if settings.break_glass_active(now):
        return
    if survey.needs is not None:
        _keep_x86(survey, settings)
    _keep_room_for_pods(survey, settings)


def _as_sent(settings: "Settings") -> "Settings":
    """Return the settings with the groups as EKS will have them; the state is read only if that matters.

    It warns about what others changed at EKS, and the update leaves so.
    """
    if not any(map(group_changes.differs, settings.eks_node_groups.values())):
        return settings
    state = resource_outputs(_NODE_GROUP)
    groups = {
        name: group_changes.as_sent(group, state.get(name))
        for name, group in settings.eks_node_groups.items()
    }
    for name, group in settings.eks_node_groups.items():
        if changed := group_changes.not_sent(group, groups[name]):
            engine_text.warn(changed)
    return replace(settings, eks_node_groups=groups)


def _keep_room_for_pods(survey: Survey, settings: "Settings") -> None:
    """Stop a change of node groups that takes nodes away under pods, or leaves pods no node of their side.

    Raises:
        ArchshiftError: It does.
    """
    shrinking = [group for group in settings.eks_node_groups.values() if group_changes.going(group)]
    with connect(settings.kube_context) if shrinking else nullcontext() as cluster:
        for group in shrinking:
            nodes = [
                node.name
                for node in survey.inventory.nodes
                if group.live and node.labels.get(EKS_GROUP_LABEL) == group.live.name
            ]
            pods = busy_pods(cluster, nodes) if cluster else []
            if pods and not group.desired_size:
                raise busy_error(f"{display(group.architecture)} node group {group.name}", pods)
            busy, names = {pod.node for pod in pods}, [pod.key for pod in pods]
            if problem := group_changes.shrinks_too_far(group, len(nodes), busy, names):
                raise ArchshiftError(
                    problem,
                    "first empty nodes (archshift drain --only NODE, or kubectl drain), or leave "
                    "desired_size out and the group keeps its size",
                )
    if settings.groups:
        after = possible_nodes(survey.inventory.nodes, settings.groups, settings.stack_label)
        if reason := group_changes.stranded(survey.inventory, after):
            raise ArchshiftError(reason, group_changes.STRANDED_WAY_OUT)


def _keep_x86(survey: Survey, settings: "Settings") -> None:
    live, needed = survey.inventory.nodes, survey.needs or ()
    reason = guard.refuse_removal(
        needed, live, live, nodes_after(live, settings.groups, settings.stack_label)
    )
    if reason:
        raise refuse("x86 capacity", reason)
    if not needed and any(node.architecture == AMD64 for node in live):
        # The engine unprotects only resources that the program registers.
        if any(group.architecture == AMD64 for group in settings.groups):
            engine_text.info("nothing needs x86 any more: this update unprotects the x86 nodes")
        else:
            engine_text.info(
                "nothing needs x86 any more; if the engine still protects x86 nodes, you removed their group "
                "too early: add it to archshift:node_groups again, run pulumi up, then remove it"
            )


def check_pools(survey: Survey, settings: "Settings") -> None:
    """Say what the update does to existing NodePools, and check that it may.

    Raises:
        ArchshiftError: The update would change fields of other owners. Nothing is registered yet.
    """
    problems = Problems()
    live = settings.live_pools or {}
    existing = [
        (pool, live[pool.pool_name]) for pool in settings.node_pools.values() if pool.pool_name in live
    ]
    for pool, now in existing:
        if pool.import_name:
            with problems.collected():
                pool_changes.check_owners(pool, now, settings.pools_manager)
    problems.check()
    for pool, now in existing:
        said, warns = pool_changes.sentence(pool, now, survey.inventory.nodes, settings.pools_manager)
        if said:
            (engine_text.warn if warns else engine_text.info)(said)
        for note in pool.notes:
            engine_text.warn(note)


def show_tried(done: int, total: int) -> None:
    """Show how many patches the API server has tried."""
    engine_text.info(f"tried {done} of {total} patches on the API server", ephemeral=True)


def report_gate(evidence: GateEvidence, plan: Plan, settings: "Settings", now: datetime) -> None:
    """Warn about a step up that the gate does not allow; the policy pack stops it."""
    ramp = settings.ramp
    move = Move(
        ratio=plan.arm_ratio,
        wanted=plan.wanted,
        graviton=plan.graviton,
        previous=step_below(ramp.steps if ramp else DEFAULT_STEPS, plan.arm_ratio) or 0.0,
        since=ramp.since if ramp else None,
    )
    reason = move.why_refused(evidence, stack=settings.stack, now=now)
    if reason:
        engine_text.warn(
            f"arm_ratio {move.ratio:g} is a step up, and the gate has no pass for {move.previous:g}: "
            f"{reason}; run archshift gate --output at {move.previous:g}, or set arm_ratio back to it"
        )


def report(
    plan: Plan, evidence: ClusterEvidence | None, *, fixed_capacity: bool, by_limits: bool = False
) -> None:
    """Log the step, its conflicts, what is held and its capacity.

    Args:
        plan: The plan.
        evidence: The evidence about images; None if images are not checked.
        fixed_capacity: No autoscaler will add nodes, so a shortage stops the run.
        by_limits: The groups are NodePools: their limits count, not their nodes.

    Raises:
        ArchshiftError: The step cannot be scheduled. Nothing is registered yet.
    """
    for note in evidence.notes if evidence else ():
        engine_text.warn(note)
    if plan.untried:
        engine_text.warn(plan.untried)
    for conflict in plan.conflicts:
        engine_text.warn(str(conflict))
    blockers = "; ".join(map(str, plan.blockers))
    if blockers and plan.first_graviton_node:
        raise ArchshiftError(
            f"no Graviton node is created, because DaemonSets would break on it: {blockers}",
            daemonset_way_out(any(blocker.steered for blocker in plan.blockers)),
        )
    for blocker in plan.blockers:
        engine_text.warn(str(blocker))
    for note in plan.node_notes:
        (engine_text.warn if plan.waiting else engine_text.info)(note)
    for row in plan.waiting:
        engine_text.info(f"{row.key}: {row.reason}")
    held = [row for row in plan.workloads if row.verdict and not row.verdict.runs_on_arm64]
    for sentence in summary(held):
        engine_text.info(sentence)
    for sentence in summary(row for row in plan.workloads if row.key in plan.refused):
        engine_text.warn(sentence)
    kept = (row for row in plan.workloads if row.action == "keep" and row.key not in plan.refused)
    for sentence in summary(row for row in kept if row not in held):
        engine_text.info(sentence)
    if plan.shortages and fixed_capacity:
        raise ArchshiftError(
            f"arm_ratio {plan.arm_ratio:g} cannot be scheduled: {'; '.join(plan.shortages)}",
            f"raise the {'limits' if by_limits else 'size'} in archshift:node_groups or choose another ratio",
        )
    adding = "raise the limits in archshift:node_groups" if by_limits else "an autoscaler must add nodes"
    for shortage in plan.shortages:
        engine_text.warn(f"{shortage}; {adding}, or pods will stay pending")
    for trouble in reasons.troubles(plan.troubles):
        engine_text.warn(trouble)
    if plan.advice:
        engine_text.info(plan.advice)
    engine_text.info(
        f"arm_ratio {plan.arm_ratio:g}: {plan.wanted} of {plan.pods} movable pods belong on Graviton "
        f"({counted(plan.all_pods, 'pod')} in all), {plan.graviton} are there; "
        f"{reasons.what_restarts(plan)}"
    )
