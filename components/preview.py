"""What a preview says beside the resource diff, and what stops it."""

import pulumi

from archshift.errors import ArchshiftError
from archshift.evidence import Evidence
from archshift.plan import Plan


def report(plan: Plan, evidence: Evidence | None, *, fixed_capacity: bool) -> None:
    """Log the step, its conflicts, what is held and its capacity.

    Args:
        plan: The plan.
        evidence: What is known of the images; None where they are not checked.
        fixed_capacity: No autoscaler will add nodes, so a shortage stops the run.

    Raises:
        ArchshiftError: The step cannot be scheduled; nothing was registered yet.
    """
    for note in evidence.notes if evidence else ():
        pulumi.warn(note)
    for conflict in plan.conflicts:
        pulumi.warn(str(conflict))
    if plan.blockers and plan.first_graviton_node:
        raise ArchshiftError(
            f"no Graviton node is made while DaemonSets would break on it: {'; '.join(plan.blockers)}; give "
            "them images for arm64, or set archshift:images.daemonsets: pin to keep them on x86"
        )
    for blocker in plan.blockers:
        pulumi.warn(blocker)
    held = [row for row in plan.workloads if row.verdict and not row.verdict.runs_on_arm64]
    for row in held:
        pulumi.info(f"{row.key}: {row.reason}")
    if plan.shortages and fixed_capacity:
        raise ArchshiftError(
            f"arm_ratio {plan.arm_ratio:g} cannot be scheduled: {'; '.join(plan.shortages)}; raise the size "
            "in archshift:node_groups or choose another ratio"
        )
    for shortage in plan.shortages:
        pulumi.warn(f"{shortage}; an autoscaler has to add nodes, or pods stay pending")
    moves = sum(workload.restarts for workload in plan.workloads)
    pulumi.info(
        f"arm_ratio {plan.arm_ratio:g}: {plan.wanted} of {plan.pods} movable pods belong on Graviton "
        f"({plan.all_pods} pods in all), {plan.graviton} are there; {moves} workloads roll out"
    )
