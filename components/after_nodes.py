"""Lets resources wait for nodes."""

from collections.abc import Iterable, Sequence

import pulumi


def after(
    nodes: Iterable[pulumi.Resource], others: Sequence[pulumi.Resource] = ()
) -> pulumi.Output[list[pulumi.Resource]]:
    """Return a value for ``depends_on`` that waits for nodes and keeps no dependency on them in the state.

    Only a run that makes nodes waits for them. A dependency would stay in the state after it. The next run
    with ``--target`` would write the resource before the nodes, and the engine rejects such a state.

    Args:
        nodes: The resources to wait for.
        others: The resources to depend on in every run.
    """

    async def made() -> list[pulumi.Resource]:
        for node in nodes:
            await node.urn.future()
        return list(others)

    return pulumi.Output.from_input(made())
