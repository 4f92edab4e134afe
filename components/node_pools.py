"""The NodePools of a cluster in which Karpenter or EKS Auto Mode creates the nodes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pulumi
import pulumi_kubernetes as k8s

from archshift.nodes.groups import Node, NodePool, capacity_by_architecture
from archshift.nodes.node_pools import API_VERSION, LivePool, manifest
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
        others: Nodes that belong to no group of this stack; policies count their capacity.
        live: The NodePools of the cluster, by name.
        field_manager: The stack's name in ``managedFields`` of the NodePools that it takes over.
    """

    pools: Mapping[str, NodePool]
    protected: frozenset[str] = frozenset()
    guard: pulumi.ResourceHook | None = None
    others: Sequence[Node] = ()
    live: Mapping[str, LivePool] = field(default_factory=dict)
    field_manager: str = ""


# What Karpenter, kubectl and the engine write for themselves.
_NOT_OURS_TO_KEEP: Final = ("karpenter.sh/", "kubectl.kubernetes.io/", "pulumi.com/")


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
        self.made = tuple(self._pool(args.pools[name], spec, args) for name, spec in specs.items())
        limits: Mapping[str, Any] = {pool: spec.get("limits") or {} for pool, spec in specs.items()}
        self.sizes = pulumi.Output.from_input(limits)
        self.register_outputs(
            engine_text.outputs({"sizes": self.sizes, "elsewhere": capacity_by_architecture(args.others)})
        )

    def _pool(self, pool: NodePool, spec: Mapping[str, Any], args: NodePoolsArgs) -> pulumi.Resource:
        return k8s.apiextensions.CustomResource(
            pool.name,
            api_version=API_VERSION,
            kind="NodePool",
            metadata=_metadata(pool, args),
            spec=spec,
            opts=pulumi.ResourceOptions(
                parent=self,
                protect=pool.name in args.protected and not pool.released,
                import_=pool.import_name or None,
                retain_on_delete=pool.released,
                # On Graviton pools too: such a pool may replace an x86 pool of the same name. The engine
                # would run the hook of a released pool too, although it does not delete it.
                hooks=pulumi.ResourceHookBinding(before_delete=[args.guard], before_update=[args.guard])
                if args.guard and not pool.released
                else None,
            ),
        )


def _metadata(pool: NodePool, args: NodePoolsArgs) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "name": pool.pool_name,
        "annotations": {
            # Pods move only after Karpenter has accepted the pool and its node class.
            "pulumi.com/waitFor": "condition=Ready",
            "pulumi.com/timeoutSeconds": str(_READY_SECONDS),
        },
    }
    if not pool.import_name:
        return metadata
    live = args.live[pool.import_name]
    metadata["annotations"] |= {
        key: value for key, value in live.annotations.items() if not key.startswith(_NOT_OURS_TO_KEEP)
    }
    metadata["annotations"]["pulumi.com/patchFieldManager"] = args.field_manager
    metadata["annotations"]["pulumi.com/waitFor"] = json.dumps(
        [
            "condition=Ready",
            # A pool that is taken over as it is keeps its generation, and is ready already. The provider may
            # then take a pool of before its own patch for the result, and the next preview has a change.
            f"jsonpath={{.metadata.annotations['pulumi.com/patchFieldManager']}}={args.field_manager}",
        ]
    )
    if pool.force:
        metadata["annotations"]["pulumi.com/patchForce"] = "true"
    if live.labels:
        metadata["labels"] = dict(live.labels)
    return metadata
