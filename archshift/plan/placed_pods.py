"""Which pods archshift's policy has placed, and what a fleet would be without patches. Pure."""

from collections.abc import Mapping
from dataclasses import replace

from archshift.cluster.kinds import on_every_node
from archshift.cluster.model import Inventory
from archshift.cluster.pod_fields import without_patch
from archshift.plan.model import Plan


def with_unplaced(plan: Plan, inventory: Inventory, since: Mapping[str, str]) -> Plan:
    """Return a plan with the pods that the policy did not place.

    Args:
        plan: A plan of ``placement: admission``.
        inventory: The cluster of the plan.
        since: Namespace to since when its policy places pods.
    """
    rows = [row for row in plan.workloads if row.entry and row.placed and row.namespace in since]
    placed = {row.key: since[row.namespace] for row in rows}
    times = {key: inventory.unplaced.get(key, ()) for key in placed}
    newer = {key: sum(created > placed[key] for created in own) for key, own in times.items()}
    return replace(
        plan,
        unplaced={key: count for key, count in newer.items() if count},
        older=sum(map(len, times.values())) - sum(newer.values()),
    )


def without_patches(inventory: Inventory) -> Inventory:
    """Return the inventory of a fleet whose templates have no patch of this stack."""
    return replace(
        inventory,
        workloads={
            key: workload
            if on_every_node(workload.kind)
            else replace(workload, template=without_patch(workload.template))
            for key, workload in inventory.workloads.items()
        },
    )
