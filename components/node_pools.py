"""The NodePools of a cluster in which Karpenter or EKS Auto Mode creates the nodes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_kubernetes as k8s

from archshift.nodes.groups import Node, NodePool, capacity_by_architecture
from archshift.nodes.node_pools import API_VERSION, manifest
from components import engine_text

# Karpenter accepts or refuses a pool and its node class within seconds.
_READY_SECONDS: Final = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePoolsArgs:
    """Arguments of ``NodePools``.

    Attributes:
        pools: The NodePools by name.
        protected: Names of the pools that the engine must not delete or replace.
        guard: Hook that the engine calls before it deletes or updates a pool; None: no guard.
        others: Nodes that belong to no pool of this stack; policies count their capacity.
    """

    pools: Mapping[str, NodePool]
    protected: frozenset[str] = frozenset()
    guard: pulumi.ResourceHook | None = None
    others: Sequence[Node] = ()


class NodePools(pulumi.ComponentResource):
    """The x86 and Graviton NodePools; their node classes must exist."""

    TYPE: Final = "archshift:index:NodePools"

    sizes: pulumi.Output[Mapping[str, Any]]
    """Limits by pool; the provisioner decides how many nodes there are."""

    made: tuple[pulumi.Resource, ...]
    """The pools."""

    def __init__(self, name: str, args: NodePoolsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        specs = {pool.name: manifest(pool) for pool in args.pools.values()}
        self.made = tuple(self._pool(pool, spec, args) for pool, spec in specs.items())
        limits: Mapping[str, Any] = {pool: spec["limits"] for pool, spec in specs.items()}
        self.sizes = pulumi.Output.from_input(limits)
        self.register_outputs(
            engine_text.outputs({"sizes": self.sizes, "elsewhere": capacity_by_architecture(args.others)})
        )

    def _pool(self, name: str, spec: Mapping[str, Any], args: NodePoolsArgs) -> pulumi.Resource:
        return k8s.apiextensions.CustomResource(
            name,
            api_version=API_VERSION,
            kind="NodePool",
            metadata={
                "name": name,
                "annotations": {
                    # Pods move only after Karpenter has accepted the pool and its node class.
                    "pulumi.com/waitFor": "condition=Ready",
                    "pulumi.com/timeoutSeconds": str(_READY_SECONDS),
                },
            },
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=name in args.protected,
                # On Graviton pools too: such a pool may replace an x86 pool of the same name.
                hooks=pulumi.ResourceHookBinding(before_delete=[args.guard], before_update=[args.guard])
                if args.guard
                else None,
            ),
        )
