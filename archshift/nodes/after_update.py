"""The nodes after an update, and the nodes that pods may land on."""

from collections.abc import Iterable, Sequence

from archshift.common.architectures import ARCHITECTURES, Architecture
from archshift.common.kubernetes import GROUP_LABEL, ZONE_LABEL
from archshift.nodes.groups import AnyNodeGroup, Node


def nodes_after(live: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the nodes after an update: those of the configured groups, and those of no group."""
    live = list(live)
    zones = sorted({node.labels.get(ZONE_LABEL, "") for node in live}) or [""]
    after: list[Node] = []
    owned: set[str] = set()
    for group in groups:
        own = [node for node in live if group.owns(node)]
        owned |= {node.name for node in own}
        after += group.nodes_after(own, zones)
    return after + [node for node in live if GROUP_LABEL not in node.labels and node.name not in owned]


def nodes_of_others(live: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the nodes that belong to none of these groups, so that no update of the stack removes them."""
    groups = tuple(groups)
    unlabelled = (node for node in live if GROUP_LABEL not in node.labels)
    return [node for node in unlabelled if not any(group.owns(node) for group in groups)]


def closed_sides(after: Sequence[Node], groups: Iterable[AnyNodeGroup]) -> frozenset[Architecture]:
    """Return the sides where no pod can start now, although they have nodes.

    All of their nodes are cordoned, not ready or have a temporary taint, and no configured group may add one.

    Args:
        after: From ``nodes_after``.
        groups: The configured groups.
    """
    growing = set()
    for group in groups:
        size = group.size_range(group.instance_types[0])
        if size.autoscaled and sum(group.owns(node) and not node.choices for node in after) < size.most:
            growing.add(group.architecture)
    with_nodes = {node.architecture for node in after}
    open_now = {node.architecture for node in after if node.schedulable}
    return frozenset(
        side for side in ARCHITECTURES if side in with_nodes and side not in open_now and side not in growing
    )


def possible_nodes(live: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the nodes that pods may land on: those after the update, and those that an autoscaler may add.

    For each autoscaled group without nodes, that is a first node, whose capacity does not exist yet.
    """
    groups = tuple(groups)
    nodes = nodes_after(live, groups)
    return nodes + [
        node
        for group in groups
        if not any(group.owns(node) for node in nodes)
        for node in group.nodes_on_demand()
    ]
