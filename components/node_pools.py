"""The NodePools of a cluster whose nodes Karpenter or EKS Auto Mode brings up."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_kubernetes as k8s

from archshift.nodes.groups import Node, NodePool, capacity_by_architecture
from archshift.nodes.node_pools import API_VERSION, manifest

# Karpenter says within seconds whether it takes a pool and its node class.
_READY_SECONDS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePoolsArgs:
    """Arguments of ``NodePools``.

    Attributes:
        pools: Name to pool.
        protected: Names of the pools that must not be deleted or replaced.
        guard: Hook that is asked before a pool is deleted or updated; None where nothing is guarded.
        others: Nodes that no pool of this stack brings up; policies count their room.
    """

    pools: Mapping[str, NodePool]
    protected: frozenset[str] = frozenset()
    guard: pulumi.ResourceHook | None = None
    others: Sequence[Node] = ()


class NodePools(pulumi.ComponentResource):
    """The x86 and Graviton NodePools; their node classes are there already."""

    TYPE: Final = "archshift:index:NodePools"

    sizes: pulumi.Output[Mapping[str, Any]]
    """Name of a pool to its limits: how many nodes there are is the provisioner's to say."""

    pools: tuple[pulumi.Resource, ...]
    """The NodePools themselves."""

    def __init__(self, name: str, args: NodePoolsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        specs = {pool.name: manifest(pool) for pool in args.pools.values()}
        self.pools = tuple(self._pool(pool, spec, args) for pool, spec in specs.items())
        limits: Mapping[str, Any] = {pool: spec["limits"] for pool, spec in specs.items()}
        self.sizes = pulumi.Output.from_input(limits)
        self.register_outputs({"sizes": self.sizes, "elsewhere": capacity_by_architecture(args.others)})

    def _pool(self, name: str, spec: Mapping[str, Any], args: NodePoolsArgs) -> pulumi.Resource:
        return k8s.apiextensions.CustomResource(
            name,
            api_version=API_VERSION,
            kind="NodePool",
            metadata={
                "name": name,
                "annotations": {
                    # Pods are moved only once Karpenter has found the node class and the rest in order.
                    "pulumi.com/waitFor": "condition=Ready",
                    "pulumi.com/timeoutSeconds": str(_READY_SECONDS),
                },
            },
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=name in args.protected,
                # On Graviton pools too: one may be there in place of an x86 pool of the same name.
                hooks=pulumi.ResourceHookBinding(before_delete=[args.guard], before_update=[args.guard])
                if args.guard
                else None,
            ),
        )
