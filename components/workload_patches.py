"""The patches that tell the scheduler where to place each workload's pods."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from archshift.cluster.kinds import CONTROLLERS
from archshift.plan.model import Plan, PlannedWorkload

FIELD_MANAGER: Final = "pulumi.com/patchFieldManager"
FORCE: Final = "pulumi.com/patchForce"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPatchesArgs:
    """Arguments of ``WorkloadPatches``.

    Attributes:
        field_manager: The name that owns the patched fields.
        restore_taken_fields: Hook that restores a forced field before the engine deletes the patch.
        bring_up_nodes: Hook that brings up nodes before a patch; None if the nodes exist.
    """

    plan: Plan
    field_manager: str
    restore_taken_fields: pulumi.ResourceHook
    bring_up_nodes: pulumi.ResourceHook | None = None


class WorkloadPatches(pulumi.ComponentResource):
    """One server-side-apply patch for each workload."""

    TYPE: Final = "archshift:index:WorkloadPatches"

    fleet: pulumi.Output[Mapping[str, Any]]
    """``pods`` of the fleet, and how many of them belong on Graviton (``wanted``)."""

    patches: Mapping[str, pulumi.Resource]
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
        # that change nothing.
        self.register_outputs({"fleet": {**fleet, "graviton": plan.graviton}, "ratio": plan.arm_ratio})

    def _patch(self, workload: PlannedWorkload, args: WorkloadPatchesArgs) -> pulumi.Resource:
        body = dict(workload.patch or {})
        metadata = body["metadata"]
        annotations = {**metadata.get("annotations", {}), FIELD_MANAGER: args.field_manager}
        hooks = pulumi.ResourceHookBinding()
        if args.bring_up_nodes:
            hooks.before_create = hooks.before_update = [args.bring_up_nodes]
        options = pulumi.ResourceOptions(parent=self, hooks=hooks)
        if workload.forced or workload.reclaimed:
            annotations[FORCE] = "true"
        if workload.forced:
            # Only if there is something to restore: with a delete hook, `pulumi destroy` needs
            # --run-program.
            hooks.before_delete = [args.restore_taken_fields]
        api_version = CONTROLLERS[workload.kind].api_version
        # Not k8s.apps.v1.DeploymentPatch: the plan's body has the API's own spelling, and translating
        # it to the SDK's and back takes a fifth of a large preview.
        return pulumi.CustomResource(
            f"kubernetes:{api_version}:{workload.kind}Patch",
            workload.key,
            {
                "apiVersion": api_version,
                "kind": workload.kind,
                "metadata": {**metadata, "annotations": annotations},
                "spec": body["spec"],
            },
            options,
        )
