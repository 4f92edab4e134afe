"""A stack's cluster and node groups on AWS: first looked up, then registered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pulumi

from archshift.nodes.eks import EksCluster, LiveCluster
from archshift.nodes.groups import EksNodeGroup, Node
from archshift.nodes.live_groups import LiveGroup
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

    def with_sizes_of_now(
        self, read: Callable[[Mapping[str, str], list[str]], Mapping[str, LiveGroup]]
    ) -> "Eks":
        """Return it with the sizes that groups have now, where an autoscaler decides them.

        EKS gets the desired size of a run's beginning otherwise. Since then, audits and tests may have taken
        many minutes, and the nodes that the autoscaler has added meanwhile would go.

        Args:
            read: Reads groups: our names to the names of imported ones, and the names of the others.

        Raises:
            ArchshiftError: EKS cannot be read.
        """
        there = [
            group for group in self.groups.values() if group.live and (group.autoscaled or group.released)
        ]
        if not there:
            return self
        now = read(
            {group.name: group.import_name for group in there if group.import_name},
            [group.name for group in there if not group.import_name],
        )
        sizes = {
            group.name: min(max(now[group.name].desired_size, group.min_size), group.max_size)
            for group in there
            if group.name in now
        }
        groups = {
            name: replace(group, desired_size=sizes.get(name, group.desired_size))
            for name, group in self.groups.items()
        }
        return replace(self, groups=groups)

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
                protected=protected,
                guard=guard,
                others=others,
            ),
        )
