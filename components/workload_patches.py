"""The patches that tell the scheduler where to place each workload's pods."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from archshift.cluster.kinds import CONTROLLERS
from archshift.plan.model import Plan, PlannedWorkload
from components import engine_text
from components.workload_patch import WorkloadPatch


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPatchesArgs:
    """Arguments of ``WorkloadPatches``.

    Attributes:
        field_manager: The name that owns the patched fields.
        cluster: The uid of the cluster.
        commit: The commit that this update deploys; empty for an update by hand.
        bring_up_nodes: Hook that brings up nodes before a patch; None if the nodes exist.
    """

    plan: Plan
    field_manager: str
    cluster: str
    commit: str = ""
    bring_up_nodes: pulumi.ResourceHook | None = None


class WorkloadPatches(pulumi.ComponentResource):
    """One server-side-apply patch for each workload."""

    TYPE: Final = "archshift:index:WorkloadPatches"

    fleet: pulumi.Output[Mapping[str, Any]]
    """``pods`` of the fleet, and how many of them belong on Graviton (``wanted``)."""

    patches: Mapping[str, WorkloadPatch]
    """The patches by workload key."""

    def __init__(
        self, name: str, args: WorkloadPatchesArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        self.patches = {
            workload.key: self._patch(workload, args)
            for workload in args.plan.workloads
            if workload.patch is not None
        }
        plan = args.plan
        fleet = {"pods": plan.pods, "wanted": plan.wanted}
        self.fleet = pulumi.Output.from_input(fleet)
        # Policies read the observed count here. As an export it would show a difference in updates
        # that change nothing. The ratio and the commit also stay in the state if the update fails.
        self.register_outputs(
            engine_text.outputs(
                {
                    "fleet": {**fleet, "graviton": plan.graviton},
                    "ratio": plan.arm_ratio,
                    "commit": args.commit,
                }
            )
        )

    def _patch(self, workload: PlannedWorkload, args: WorkloadPatchesArgs) -> WorkloadPatch:
        hooks = pulumi.ResourceHookBinding()
        if args.bring_up_nodes:
            hooks.before_create = hooks.before_update = [args.bring_up_nodes]
        inputs = {
            "apiVersion": CONTROLLERS[workload.kind].api_version,
            "kind": workload.kind,
            **(workload.patch or {}),
            "fieldManager": args.field_manager,
            "force": workload.forced or workload.reclaimed,
            "cluster": args.cluster,
        }
        return WorkloadPatch(workload.key, inputs, pulumi.ResourceOptions(parent=self, hooks=hooks))
