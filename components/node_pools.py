"""The NodePools of a cluster in which Karpenter or EKS Auto Mode creates the nodes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi
import pulumi_kubernetes as k8s

from archshift.common.kubernetes import STACK_LABEL
from archshift.nodes.groups import Node, NodePool, capacity_by_architecture
from archshift.nodes.node_pools import API_VERSION, manifest
from archshift.plan.pool_changes import FORMER
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
        stack_label: The stack, as a label of the NodePools.
        field_manager: The stack's name in ``managedFields`` of the NodePools that it takes over.
        hand_back: Hook that the engine calls before it forgets a released pool.
    """

    pools: Mapping[str, NodePool]
    protected: frozenset[str] = frozenset()
    guard: pulumi.ResourceHook | None = None
    others: Sequence[Node] = ()
    stack_label: str = ""
    field_manager: str = ""
    hand_back: pulumi.ResourceHook | None = None


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
                hooks=_hooks(pool, args),
            ),
        )


def _hooks(pool: NodePool, args: NodePoolsArgs) -> pulumi.ResourceHookBinding | None:
    if pool.released:
        # The engine runs the hook although it does not delete the pool.
        return pulumi.ResourceHookBinding(before_delete=[args.hand_back]) if args.hand_back else None
    # On Graviton pools too: such a pool may replace an x86 pool of the same name.
    guard = args.guard
    return pulumi.ResourceHookBinding(before_delete=[guard], before_update=[guard]) if guard else None


def _metadata(pool: NodePool, args: NodePoolsArgs) -> dict[str, Any]:
    """Return the metadata: only what is the stack's, because it owns what it writes."""
    annotations = {"pulumi.com/timeoutSeconds": str(_READY_SECONDS)}
    # Pods move only after Karpenter has accepted the pool and its node class.
    awaited = ["condition=Ready"]
    labels = {} if pool.released else {STACK_LABEL: args.stack_label}
    if pool.import_name:
        annotations["pulumi.com/patchFieldManager"] = args.field_manager
        if pool.force:
            annotations["pulumi.com/patchForce"] = "true"
        if pool.former and not pool.released:
            annotations[FORMER] = pool.former
        # A pool that is taken over as it is keeps its generation, and is ready already. The provider may
        # then take a pool of before its own patch for the result, and the next preview has a change.
        awaited.append(
            f"jsonpath={{.metadata.annotations['pulumi.com/patchFieldManager']}}={args.field_manager}"
        )
    annotations["pulumi.com/waitFor"] = json.dumps(awaited)
    return {"name": pool.pool_name, "labels": labels, "annotations": annotations}
