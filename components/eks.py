"""A stack's cluster and node groups on AWS: first looked up, then registered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pulumi

from archshift.nodes.eks import EksCluster, LiveCluster
from archshift.nodes.groups import EksNodeGroup, Node
from components.cluster import MixedCluster, MixedClusterArgs, find_cluster
from components.eks_node_groups import EksNodeGroups, EksNodeGroupsArgs
from components.offered_types import check_offered


@dataclass(frozen=True, slots=True, kw_only=True)
class Eks:
    """A cluster and its node groups, as configured and as they are.

    Attributes:
        cluster: The cluster as configured.
        live: The existing cluster; None if the stack will create it.
        groups: The node groups as configured, by name.
    """

    cluster: EksCluster
    live: LiveCluster | None
    groups: Mapping[str, EksNodeGroup]

    @classmethod
    def find(cls, cluster: EksCluster, groups: Mapping[str, EksNodeGroup]) -> "Eks":
        """Look everything up before the stack registers anything.

        Raises:
            ArchshiftError: Something is missing or does not match the settings, or AWS refuses.
        """
        live = find_cluster(cluster)
        check_offered(groups)
        return cls(cluster=cluster, live=live, groups=groups)

    def register_cluster(self, protection: pulumi.ResourceHook | None = None) -> MixedCluster:
        """Register the cluster.

        Args:
            protection: Hook that the engine calls before it deletes a cluster that the stack created.
        """
        hooks = pulumi.ResourceHookBinding(before_delete=[protection]) if protection else None
        return MixedCluster(
            self.cluster.name,
            MixedClusterArgs(cluster=self.cluster, live=self.live),
            pulumi.ResourceOptions(hooks=hooks if self.cluster.create else None),
        )

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
                protected=protected,
                guard=guard,
                others=others,
            ),
        )
