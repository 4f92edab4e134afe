"""What a run logs, checks and writes down before it registers anything."""

import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pulumi

from archshift.cluster.image_evidence import ClusterEvidence
from archshift.common.architectures import AMD64
from archshift.common.errors import ArchshiftError
from archshift.nodes.after_update import nodes_after
from archshift.plan import guard
from archshift.plan.model import Plan
from archshift.plan.plan_json import PLAN_FILE, plan_json
from archshift.ramp.gate_evidence import GateEvidence, Move
from archshift.ramp.schedule import DEFAULT_STEPS, step_below
from archshift.report.step_cost import step_cost
from archshift.survey import Survey
from components.guard import refusal

if TYPE_CHECKING:
    from archshift.settings.stack import Settings


def write_plan_file(
    survey: Survey, settings: "Settings", now: datetime, environment: Mapping[str, str] = os.environ
) -> None:
    """Leave the plan, its cost and the exceptions in force where ``archshift preview`` asks for them.

    What is reported is then the plan of this very run: the cluster is read once, and a run that is
    stopped afterwards has told what it was about to do.

    Args:
        found: The cluster.
        settings: The stack's settings.
        now: The time, for break-glass and policy exceptions.
        environment: Names the file; without the variable nothing is written.
    """
    file = environment.get(PLAN_FILE)
    if file:
        content = {
            "plan": plan_json(survey.plan),
            "exceptions": exceptions(settings, now),
            "cost": step_cost(survey, settings),
        }
        Path(file).write_text(json.dumps(content))


def exceptions(settings: "Settings", now: datetime) -> list[str]:
    """Return what the configuration sets aside, a sentence each.

    Args:
        settings: The stack's settings.
        now: The time: an exception ends by itself.
    """
    sentences = []
    exception = settings.policy_exception
    if exception:
        in_force = now < exception.until
        state = "is set aside" if in_force else "is in force again: the policy exception ended"
        sentences.append(
            f"policy rule {exception.rule} {state}: {exception.reason} (until {exception.until})"
        )
    if settings.break_glass:
        sentences.append(settings.break_glass.describe(now))
    return sentences


def guard_x86(survey: Survey, settings: "Settings", now: datetime) -> None:
    """Stop an update that would leave too little x86 for what needs it; be loud under break-glass.

    Args:
        found: The cluster.
        settings: The stack's settings.
        now: The time, for break-glass and policy exceptions.

    Raises:
        ArchshiftError: Something still needs x86; nothing was registered yet.
    """
    for exception in exceptions(settings, now):
        pulumi.warn(exception)
    if settings.break_glass_active(now):
        return
    if survey.needs is None:
        return
    live = survey.inventory.nodes
    reason = guard.refuse_removal(survey.needs, live, live, nodes_after(live, settings.groups))
    if reason:
        raise ArchshiftError(refusal("x86 capacity", reason))
    if not survey.needs and any(node.architecture == AMD64 for node in live):
        # The engine takes a protection off what the program registers, and off nothing else.
        if any(group.architecture == AMD64 for group in settings.groups):
            pulumi.info("nothing needs x86 any more: its nodes are not protected after this update")
        else:
            pulumi.info(
                "nothing needs x86 any more; what the engine still calls protected lost its node group too "
                "early: put that back into archshift:node_groups for one pulumi up, then take it out again"
            )


def report_gate(evidence: GateEvidence, plan: Plan, settings: "Settings", now: datetime) -> None:
    """Warn of a step up that the gate did not let pass; the policy pack is what stops it.

    Args:
        evidence: What the gate found.
        plan: The plan.
        settings: The stack's settings.
        now: The time.
    """
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
            f"arm_ratio {move.ratio:g} goes up, and no pass of the gate for {move.previous:g} allows it: "
            f"{reason}; run archshift gate --output at {move.previous:g}, or set arm_ratio back to it"
        )


def report(
    plan: Plan, evidence: ClusterEvidence | None, *, fixed_capacity: bool, by_limits: bool = False
) -> None:
    """Log the step, its conflicts, what is held and its capacity.

    Args:
        plan: The plan.
        evidence: What is known of the images; None where they are not checked.
        fixed_capacity: No autoscaler will add nodes, so a shortage stops the run.
        by_limits: The groups are NodePools, whose limits are counted and not their nodes.

    Raises:
        ArchshiftError: The step cannot be scheduled; nothing was registered yet.
    """
    for note in evidence.notes if evidence else ():
        pulumi.warn(note)
    for conflict in plan.conflicts:
        pulumi.warn(str(conflict))
    if plan.blockers and plan.first_graviton_node:
        raise ArchshiftError(
            f"no Graviton node is made while DaemonSets would break on it: {'; '.join(plan.blockers)}",
            "give them images for arm64, or set archshift:images.daemonsets: pin to keep them on x86",
        )
    for blocker in plan.blockers:
        pulumi.warn(blocker)
    held = [row for row in plan.workloads if row.verdict and not row.verdict.runs_on_arm64]
    for row in held:
        pulumi.info(f"{row.key}: {row.reason}")
    if plan.shortages and fixed_capacity:
        raise ArchshiftError(
            f"arm_ratio {plan.arm_ratio:g} cannot be scheduled: {'; '.join(plan.shortages)}",
            f"raise the {'limits' if by_limits else 'size'} in archshift:node_groups or choose another ratio",
        )
    adding = "raise the limits in archshift:node_groups" if by_limits else "an autoscaler has to add nodes"
    for shortage in plan.shortages:
        pulumi.warn(f"{shortage}; {adding}, or pods stay pending")
    moves = sum(workload.restarts for workload in plan.workloads)
    pulumi.info(
        f"arm_ratio {plan.arm_ratio:g}: {plan.wanted} of {plan.pods} movable pods belong on Graviton "
        f"({plan.all_pods} pods in all), {plan.graviton} are there; {moves} workloads roll out"
    )
