"""The nodes that an update leaves, and those that pods may land on."""

from collections.abc import Iterable
from dataclasses import replace

from archshift.common.kubernetes import GROUP_LABEL, ZONE_LABEL
from archshift.nodes.groups import (
    AnyNodeGroup,
    EksNodeGroup,
    Node,
    NodePool,
    belongs_to,
    new_nodes,
    nodes_of,
    survives,
    with_group_labels,
)
from archshift.nodes.node_pools import nodes_within


def nodes_after(live: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the nodes that the update leaves: those of the configured groups and of nobody's.

    In the lab a group is its settings. A managed group keeps the nodes it has, as many as its
    desired size or an autoscaler leaves it, and gets those that are missing; other instance types
    are another group, which begins without any. A NodePool keeps those of its types; what its limits
    let it bring up counts with them.
    """
    live = list(live)
    groups = tuple(groups)
    zones = sorted({node.labels.get(ZONE_LABEL, "") for node in live}) or [""]
    after: list[Node] = []
    kept: set[str] = set()
    for group in groups:
        if isinstance(group, EksNodeGroup | NodePool):
            own = [node for node in live if belongs_to(node, group)]
            kept |= {node.name for node in own}
            staying = [with_group_labels(group, node) for node in own if survives(group, node)]
            if isinstance(group, NodePool):
                after += [*staying, *nodes_within(group, staying)]
                continue
            after += staying if group.autoscaled else staying[: group.desired_size]
            after += new_nodes(group, len(staying), zones)
        else:
            after += nodes_of(group)
    return after + [node for node in live if GROUP_LABEL not in node.labels and node.name not in kept]


def nodes_of_others(live: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the nodes that none of these groups makes: no update of the stack takes them away."""
    managed = [group for group in groups if isinstance(group, EksNodeGroup | NodePool)]
    unlabelled = (node for node in live if GROUP_LABEL not in node.labels)
    return [node for node in unlabelled if not any(belongs_to(node, group) for group in managed)]


def possible_nodes(live: Iterable[Node], groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the nodes that pods may land on: those after the update, and what an autoscaler brings up.

    Of each autoscaled group without nodes a first one, whose capacity is not there yet.
    """
    groups = tuple(groups)
    nodes = nodes_after(live, groups)
    return nodes + [
        node
        for group in groups
        if isinstance(group, EksNodeGroup) and group.autoscaled
        if not any(belongs_to(node, group) for node in nodes)
        for node in new_nodes(replace(group, desired_size=1), 0)
    ]
