"""Placeholders: the nodes that a step needs come up before its first patch."""

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import pulumi

from archshift.actions.placeholders import bring_up_nodes, needed_after, needed_before
from archshift.cluster.client import Cluster, connect
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.plan.model import Plan, PlannedWorkload

HOOK_NAME: Final = "archshift-bring-up-nodes"


class Placeholders:
    """The placeholders of one update: created once, although many patches wait for their nodes."""

    def __init__(self, plan: Plan, inventory: Inventory, stack: str, kube_context: str | None) -> None:
        self._requests = needed_before(plan, inventory)
        self._inventory, self._stack, self._context = inventory, stack, kube_context
        # Its own thread, because patches wait in the event loop meanwhile.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=HOOK_NAME)
        self._bringing_up: Future[None] | None = None
        # For creates and updates of patches only: a destroy runs the program too.
        self.hook = pulumi.ResourceHook(HOOK_NAME, self._before_patch)

    def bring_up_missing(self, cluster: Cluster, rows: Sequence[PlannedWorkload]) -> None:
        """If there were placeholders: bring up nodes for the pods that the rollouts left on the wrong side.

        Raises:
            ArchshiftError: The nodes did not come up in time, or the cluster refuses the placeholders.
        """
        if self._bringing_up:
            self.bring_up_for_moves(cluster, rows)

    def bring_up_for_moves(self, cluster: Cluster, rows: Sequence[PlannedWorkload]) -> None:
        """Bring up nodes for the pods that archshift is about to evict; errors as ``bring_up_missing``."""
        bring_up_nodes(cluster, needed_after(cluster, rows, self._inventory), self._stack)

    async def _before_patch(self, _: pulumi.ResourceHookArgs) -> None:
        first = self._bringing_up is None
        if self._bringing_up is None:
            self._bringing_up = self._thread.submit(self._bring_up)
        try:
            await asyncio.wrap_future(self._bringing_up)
        except ArchshiftError as error:
            # Every patch that waits fails; one error explains why.
            if first:
                raise ArchshiftError(f"no pod moves: {error.problem}", error.way_out) from None
            raise ArchshiftError("not patched: nodes did not come up (see the first error)") from None

    def _bring_up(self) -> None:
        with connect(self._context) as cluster:
            bring_up_nodes(cluster, self._requests, self._stack)
