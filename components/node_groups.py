"""The node groups of a cluster."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pulumi

from archshift.common.kubernetes import INSTANCE_TYPE_LABEL
from archshift.nodes.groups import Node, NodeGroup, Taint, capacity_by_architecture, side_taint
from components import engine_text

_DISK: Final = "18242267924"
"""What a kubelet has for pods on the disk of 20 GiB that EKS gives a node by default, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeGroupsArgs:
    """Arguments of ``NodeGroups``.

    Attributes:
        groups: The node groups by name.
        protected: Names of the nodes that the engine must not delete or replace.
        guard: Hook that the engine calls before it deletes or updates a node; None: no guard.
        others: Nodes that belong to no group of this stack; policies count their capacity.
    """

    groups: Mapping[str, NodeGroup]
    protected: frozenset[str] = frozenset()
    guard: pulumi.ResourceHook | None = None
    others: Sequence[Node] = ()


class NodeGroups(pulumi.ComponentResource):
    """The x86 and Graviton node groups; in the lab, the simulated nodes themselves."""

    TYPE: Final = "archshift:index:NodeGroups"

    sizes: pulumi.Output[Mapping[str, int]]
    """Number of nodes by group."""

    made: tuple[pulumi.Resource, ...]
    """The nodes."""

    def __init__(self, name: str, args: NodeGroupsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        self.made = tuple(
            self._simulate(node, (*node.taints, side_taint(group.architecture)), args)
            for group in args.groups.values()
            for node in group.nodes()
        )
        self.sizes = pulumi.Output.from_input({key: group.size for key, group in args.groups.items()})
        self.register_outputs(
            engine_text.outputs({"sizes": self.sizes, "elsewhere": capacity_by_architecture(args.others)})
        )

    def _simulate(self, node: Node, taints: Iterable[Taint], args: NodeGroupsArgs) -> pulumi.Resource:
        allocatable = {
            "cpu": f"{node.millicpu}m",
            "memory": str(node.memory),
            "pods": str(node.pods),
            "ephemeral-storage": _DISK,
        }
        # The typed k8s.core.v1.Node has no input for the status. A kubelet reports it, and the lab
        # has no kubelet.
        return pulumi.CustomResource(
            "kubernetes:core/v1:Node",
            node.name,
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": node.name,
                    "labels": dict(node.labels),
                    # The node lifecycle controller owns the taints after it sets the first.
                    "annotations": {"pulumi.com/patchForce": "true"},
                },
                "spec": {
                    "taints": [
                        {"key": taint.key, "value": taint.value, "effect": taint.effect} for taint in taints
                    ]
                },
                "status": {"capacity": allocatable, "allocatable": allocatable},
            },
            pulumi.ResourceOptions(
                parent=self,
                # Another instance type is another node, even if both have one size. A node's status is
                # written once, when it registers. The name is fixed, so the old node goes first.
                replace_on_changes=["status", f'metadata.labels["{INSTANCE_TYPE_LABEL}"]'],
                delete_before_replace=True,
                protect=node.name in args.protected,
                # On Graviton nodes too: such a node may replace an x86 node of the same name.
                hooks=pulumi.ResourceHookBinding(before_delete=[args.guard], before_update=[args.guard])
                if args.guard
                else None,
            ),
        )
