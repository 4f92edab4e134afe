"""Room before pods: the nodes that a step needs are asked for before the first of its patches."""

import asyncio
from collections.abc import Callable, Sequence

import pulumi

from archshift.errors import ArchshiftError
from archshift.inventory import Inventory
from archshift.kubernetes import Cluster, connect
from archshift.plan import PlannedWorkload
from archshift.room import Ask, asks_after, make_room
from components.node_pools import NodePools


def room_first(
    nodes: NodePools, wanted: Sequence[Ask], stack: str, kube_context: str | None
) -> pulumi.Output[pulumi.Resource]:
    """Return the NodePools as something to depend on: it is there once the room is.

    Args:
        nodes: The NodePools.
        wanted: The room.
        stack: The stack's name.
        kube_context: Kubeconfig context.
    """

    def work() -> None:
        with connect(kube_context) as cluster:
            make_room(cluster, wanted, stack)

    async def after(_: object) -> pulumi.Resource:
        if wanted and not pulumi.runtime.is_dry_run():
            try:
                await asyncio.to_thread(work)
            except ArchshiftError as error:
                raise pulumi.RunError(f"nothing was moved: {error}") from None
        return nodes

    over: pulumi.Output[pulumi.Resource] = pulumi.Output.all(*(pool.urn for pool in nodes.pools)).apply(after)
    return over


def room_after(inventory: Inventory, stack: str) -> Callable[[Cluster, Sequence[PlannedWorkload]], None]:
    """Return what makes room for the pods that a rollout left on the wrong side.

    Args:
        inventory: The cluster as it was before the update.
        stack: The stack's name.
    """

    def work(cluster: Cluster, rows: Sequence[PlannedWorkload]) -> None:
        make_room(cluster, asks_after(cluster, rows, inventory), stack)

    return work
