"""The nodes after an update, and the nodes that pods may land on."""

from collections.abc import Iterable, Sequence

from archshift.common.architectures import ARCHITECTURES, Architecture
from archshift.common.kubernetes import GROUP_LABEL, POOL_LABEL, ZONE_LABEL
from archshift.nodes.groups import AnyNodeGroup, Node, made_by_another_stack


def nodes_after(live: Iterable[Node], groups: Iterable[AnyNodeGroup], stack: str = "") -> list[Node]:
    """Return the nodes after an update: those of the configured groups, and those that others made.

    The nodes of a group that this stack made and no longer has go away.

    Args:
        live: The live nodes.
        groups: The configured groups.
        stack: This stack, as ``stack_label`` writes it; empty if only the groups may know it.
    """
    live, groups = list(live), tuple(groups)
    stack = stack or _stack_of(groups)
    zones = sorted({node.labels.get(ZONE_LABEL, "") for node in live}) or [""]
    after: list[Node] = []
    owned: set[str] = set()
    for group in groups:
        own = [node for node in live if group.owns(node)]
        owned |= {node.name for node in own}
        after += group.nodes_after(own, zones)
    known = owned | {node.name for node in after}
    return after + [node for node in live if _made_by_others(node, stack) and node.name not in known]


def _stack_of(groups: Iterable[AnyNodeGroup]) -> str:
    return next((group.stack for group in groups if group.stack), "")


def _made_by_others(node: Node, stack: str) -> bool:
    return GROUP_LABEL not in node.labels or made_by_another_stack(node, stack)


def nodes_of_others(live: Iterable[Node], groups: Iterable[AnyNodeGroup], stack: str = "") -> list[Node]:
    """Return the nodes that belong to none of these groups, so that no update of the stack removes them.

    The arguments are those of ``nodes_after``.
    """
    groups = tuple(groups)
    stack = stack or _stack_of(groups)
    others = (node for node in live if _made_by_others(node, stack))
    return [node for node in others if not any(group.owns(node) for group in groups)]


def closed_sides(after: Sequence[Node], groups: Iterable[AnyNodeGroup]) -> frozenset[Architecture]:
    """Return the sides where no pod can start now, although they have nodes.

    All of their nodes are cordoned, not ready or have a temporary taint, and neither a configured group nor
    another tool's NodePool may add one.

    Args:
        after: From ``nodes_after``.
        groups: The configured groups.
    """
    groups = tuple(groups)
    growing = {
        node.architecture
        for node in after
        if POOL_LABEL in node.labels and not any(group.owns(node) for group in groups)
    }
    for group in groups:
        size = group.size_range(group.instance_types[0])
        if size.autoscaled and sum(group.owns(node) and not node.choices for node in after) < size.most:
            growing.add(group.architecture)
    with_nodes = {node.architecture for node in after}
    open_now = {node.architecture for node in after if node.schedulable}
    return frozenset(
        side for side in ARCHITECTURES if side in with_nodes and side not in open_now and side not in growing
    )


def count_zones(nodes: Iterable[Node]) -> int:
    """Return in how many availability zones these nodes are, or may come up; 0 if they have none."""
    zones: set[str] = set()
    for node in nodes:
        zones.update(
            node.choices.get(ZONE_LABEL) or (), [node.labels[ZONE_LABEL]] if ZONE_LABEL in node.labels else ()
        )
    return len(zones)


def possible_nodes(live: Iterable[Node], groups: Iterable[AnyNodeGroup], stack: str = "") -> list[Node]:
    """Return the nodes that pods may land on: those after the update, and those that an autoscaler may add.

    For each autoscaled group without nodes, that is a first node, whose capacity does not exist yet. The
    arguments are those of ``nodes_after``.
    """
    groups = tuple(groups)
    nodes = nodes_after(live, groups, stack)
    return nodes + [
        node
        for group in groups
        if not any(group.owns(node) for node in nodes)
        for node in group.nodes_on_demand()
    ]
