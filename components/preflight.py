"""What a run checks and logs before it registers anything."""

from datetime import datetime
from typing import TYPE_CHECKING

import pulumi

from archshift.cluster.image_evidence import ClusterEvidence
from archshift.common.architectures import AMD64
from archshift.common.errors import ArchshiftError
from archshift.common.text import counted
from archshift.nodes.after_update import nodes_after
from archshift.plan import guard, pool_changes, reasons
from archshift.plan.causes import summary
from archshift.plan.model import Plan
from archshift.plan.reasons import daemonset_way_out
from archshift.ramp.gate_evidence import GateEvidence, Move
from archshift.ramp.schedule import DEFAULT_STEPS, step_below
from archshift.settings.reading import Problems
from archshift.survey import Survey
from components.guard import refuse
from components.plan_file import exceptions

if TYPE_CHECKING:
    from archshift.settings.stack import Settings


def guard_x86(survey: Survey, settings: "Settings", now: datetime) -> None:
    """Stop an update that would leave too little x86 capacity; warn about active exceptions.

    Raises:
        ArchshiftError: Something still needs x86. Nothing is registered yet.
    """
    for exception in exceptions(settings, now):
        pulumi.warn(exception)
    if settings.break_glass_active(now):
        return
    if survey.needs is None:
        return
    live = survey.inventory.nodes
    reason = guard.refuse_removal(
        survey.needs, live, live, nodes_after(live, settings.groups, settings.stack_label)
    )
    if reason:
        raise refuse("x86 capacity", reason)
    if not survey.needs and any(node.architecture == AMD64 for node in live):
        # The engine unprotects only resources that the program registers.
        if any(group.architecture == AMD64 for group in settings.groups):
            pulumi.info("nothing needs x86 any more: this update unprotects the x86 nodes")
        else:
            pulumi.info(
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
            (pulumi.warn if warns else pulumi.info)(said)
        for note in pool.notes:
            pulumi.warn(note)


def show_tried(done: int, total: int) -> None:
    """Show how many patches the API server has tried."""
    pulumi.info(f"tried {done} of {total} patches on the API server", ephemeral=True)


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
        pulumi.warn(
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
        pulumi.warn(note)
    if plan.untried:
        pulumi.warn(plan.untried)
    for conflict in plan.conflicts:
        pulumi.warn(str(conflict))
    blockers = "; ".join(map(str, plan.blockers))
    if blockers and plan.first_graviton_node:
        raise ArchshiftError(
            f"no Graviton node is created, because DaemonSets would break on it: {blockers}",
            daemonset_way_out(any(blocker.steered for blocker in plan.blockers)),
        )
    for blocker in plan.blockers:
        pulumi.warn(str(blocker))
    for note in plan.node_notes:
        (pulumi.warn if plan.waiting else pulumi.info)(note)
    for row in plan.waiting:
        pulumi.info(f"{row.key}: {row.reason}")
    held = [row for row in plan.workloads if row.verdict and not row.verdict.runs_on_arm64]
    for sentence in summary(held):
        pulumi.info(sentence)
    for sentence in summary(row for row in plan.workloads if row.key in plan.refused):
        pulumi.warn(sentence)
    kept = (row for row in plan.workloads if row.action == "keep" and row.key not in plan.refused)
    for sentence in summary(row for row in kept if row not in held):
        pulumi.info(sentence)
    if plan.shortages and fixed_capacity:
        raise ArchshiftError(
            f"arm_ratio {plan.arm_ratio:g} cannot be scheduled: {'; '.join(plan.shortages)}",
            f"raise the {'limits' if by_limits else 'size'} in archshift:node_groups or choose another ratio",
        )
    adding = "raise the limits in archshift:node_groups" if by_limits else "an autoscaler must add nodes"
    for shortage in plan.shortages:
        pulumi.warn(f"{shortage}; {adding}, or pods will stay pending")
    for trouble in reasons.troubles(plan.troubles):
        pulumi.warn(trouble)
    if plan.advice:
        pulumi.info(plan.advice)
    pulumi.info(
        f"arm_ratio {plan.arm_ratio:g}: {plan.wanted} of {plan.pods} movable pods belong on Graviton "
        f"({counted(plan.all_pods, 'pod')} in all), {plan.graviton} are there; "
        f"{reasons.what_restarts(plan)}"
    )
