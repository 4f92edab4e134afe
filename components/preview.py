"""What a preview says beside the resource diff, and what stops it."""

import pulumi

from archshift.errors import ArchshiftError
from archshift.plan import Plan


def report(plan: Plan, *, fixed_capacity: bool) -> None:
    """Log the step, its conflicts and its capacity.

    Args:
        plan: The plan.
        fixed_capacity: No autoscaler will add nodes, so a shortage stops the run.

    Raises:
        ArchshiftError: The step cannot be scheduled; nothing was registered yet.
    """
    for conflict in plan.conflicts:
        pulumi.warn(str(conflict))
    if plan.shortages and fixed_capacity:
        raise ArchshiftError(
            f"arm_ratio {plan.arm_ratio:g} cannot be scheduled: {'; '.join(plan.shortages)}; raise the size "
            "in archshift:node_groups or choose another ratio"
        )
    for shortage in plan.shortages:
        pulumi.warn(f"{shortage}; an autoscaler has to add nodes, or pods stay pending")
    moves = sum(workload.restarts for workload in plan.workloads)
    pulumi.info(
        f"arm_ratio {plan.arm_ratio:g}: {plan.wanted} of {plan.pods} pods belong on Graviton, "
        f"{plan.graviton} are there; {moves} workloads roll out"
    )
