"""Which workloads a rebalance can correct between two updates, without the engine. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from archshift.cluster.model import Inventory, Workload
from archshift.plan import reasons
from archshift.plan.model import Plan, PlannedWorkload
from archshift.plan.rows import is_near, tried_before


def rebalancing(
    plan: Plan,
    inventory: Inventory,
    live_entries: Mapping[str, str],
    *,
    restart: bool = False,
) -> tuple[list[PlannedWorkload], dict[str, str]]:
    """Return the workloads whose surplus can move now, and the key of each other one to why it stays.

    Args:
        plan: The plan for the cluster as it is.
        inventory: The cluster.
        live_entries: Workload key to the entry that places its pods; empty with ``placement: patches``.
        restart: Whether workloads whose limits let no pod be away may be restarted.
    """
    rows: list[PlannedWorkload] = []
    left: dict[str, str] = {}
    for row in plan.workloads:
        if row.exact:
            continue
        workload = inventory.workloads[row.key]
        if not row.applied:
            left[row.key] = reasons.RUN_PULUMI_UP
        elif row.entry and (away := plan.without_policy.get(row.namespace)):
            # Nothing would place the successors of evicted pods.
            left[row.key] = reasons.policies_away({row.namespace: away}, new=True)[0]
        elif not (workload.settled or workload.updated):
            left[row.key] = reasons.ROLLS_OUT
        elif not (workload.most_away or restart):
            left[row.key] = reasons.NONE_MAY_BE_AWAY
        elif not row.entry and _came_back(row, workload, inventory):
            left[row.key] = reasons.CAME_BACK
        else:
            entry = live_entries.get(row.key, "")
            rows.append(replace(row, entry=entry, restarts=not workload.most_away))
    return rows, left


def _came_back(row: PlannedWorkload, workload: Workload, inventory: Inventory) -> bool:
    """Return whether the last rebalance evicted these pods in vain, and nothing is different now.

    With ``placement: patches``, a soft rule places the pods of an autoscaled workload. Near its share, it may
    send each successor back. A rebalance each hour would then restart a pod each hour for nothing.
    """
    template = workload.template
    return (
        row.autoscaled
        and is_near(row, template)
        and tried_before(template, row.graviton, inventory.nodes, row.lacking)
    )
