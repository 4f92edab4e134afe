"""A stack's cluster and node groups on AWS: first looked up, then registered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

import pulumi

from archshift.nodes.eks import EksCluster, LiveCluster
from archshift.nodes.groups import EksNodeGroup, Node
from archshift.nodes.launch_templates import LiveTemplate, TemplateVersion, read_template
from archshift.nodes.live_groups import LiveGroup
from archshift.nodes.twins import fill_groups
from components.cluster import MixedCluster, MixedClusterArgs, find_cluster
from components.eks_node_groups import EksNodeGroups, EksNodeGroupsArgs, check_offered, find_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Eks:
    """A cluster and its node groups, as configured and as they are.

    Attributes:
        cluster: The cluster as configured.
        live: The existing cluster; None if the stack will create it.
        groups: The node groups by name, with what EKS says where the settings say nothing.
        live_groups: The existing groups that the stack imports, by our name.
    """

    cluster: EksCluster
    live: LiveCluster | None
    groups: Mapping[str, EksNodeGroup]
    live_groups: Mapping[str, LiveGroup]

    @classmethod
    def find(cls, cluster: EksCluster, groups: Mapping[str, EksNodeGroup]) -> "Eks":
        """Look everything up before the stack registers anything.

        Raises:
            ArchshiftError: Something is missing or does not match the settings, or AWS refuses.
        """
        live = find_cluster(cluster)
        check_offered(groups)
        live_groups = find_groups(cluster, groups)
        filled = fill_groups(groups, live_groups, cache(partial(_read_template, cluster)))
        for group in filled.values():
            for note in group.notes:
                pulumi.info(f"node group {note}")
        return cls(
            cluster=cluster,
            live=live,
            groups={name: group.group for name, group in filled.items()},
            live_groups=live_groups,
        )

    def register_cluster(self) -> MixedCluster:
        """Register the cluster."""
        return MixedCluster(self.cluster.name, MixedClusterArgs(cluster=self.cluster, live=self.live))

    def register_groups(
        self,
        cluster: MixedCluster,
        *,
        protected: frozenset[str] = frozenset(),
        guard: pulumi.ResourceHook | None = None,
        others: Sequence[Node] = (),
    ) -> EksNodeGroups:
        """Register the node groups.

        Args:
            cluster: The cluster.
            protected: Names of the groups that must not be deleted or replaced.
            guard: Hook that the engine calls before it deletes or updates a group.
            others: Nodes that belong to no group of this stack.
        """
        return EksNodeGroups(
            "node-groups",
            EksNodeGroupsArgs(
                cluster_name=cluster.cluster_name,
                cluster_arn=cluster.arn,
                cluster=self.cluster,
                groups=self.groups,
                live=self.live_groups,
                protected=protected,
                guard=guard,
                others=others,
            ),
        )


def _read_template(cluster: EksCluster, template: TemplateVersion, key: str) -> LiveTemplate:
    return read_template(cluster, template.id, template.version, key)
