"""The patches that tell the scheduler where each workload's pods belong."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from archshift.plan import Plan, PlannedWorkload

FIELD_MANAGER: Final = "pulumi.com/patchFieldManager"
FORCE: Final = "pulumi.com/patchForce"

_API_VERSIONS: Final = {
    "CronJob": "batch/v1",
    "DaemonSet": "apps/v1",
    "Deployment": "apps/v1",
    "StatefulSet": "apps/v1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadPatchesArgs:
    """Arguments of ``WorkloadPatches``.

    Attributes:
        plan: The plan whose patches are registered.
        field_manager: The name that owns the patched fields.
        give_back: Hook that restores a forced field before its patch is deleted.
    """

    plan: Plan
    field_manager: str
    give_back: pulumi.ResourceHook


class WorkloadPatches(pulumi.ComponentResource):
    """One server-side-apply patch a workload; its rollout is awaited by the provider."""

    TYPE: Final = "archshift:index:WorkloadPatches"

    fleet: pulumi.Output[Mapping[str, Any]]
    """``pods`` of the fleet and how many are ``wanted`` on Graviton."""

    def __init__(
        self, name: str, args: WorkloadPatchesArgs, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        for workload in args.plan.workloads:
            if workload.patch is not None:
                self._patch(workload, args)
        self.fleet = pulumi.Output.from_input({"pods": args.plan.pods, "wanted": args.plan.wanted})
        self.register_outputs({"fleet": self.fleet})

    def _patch(self, workload: PlannedWorkload, args: WorkloadPatchesArgs) -> None:
        body = dict(workload.patch or {})
        metadata = body["metadata"]
        annotations = {**metadata.get("annotations", {}), FIELD_MANAGER: args.field_manager}
        options = pulumi.ResourceOptions(parent=self)
        if workload.forced:
            annotations[FORCE] = "true"
            # Only where there is something to give back: a delete hook makes `pulumi destroy`
            # ask for --run-program.
            options.hooks = pulumi.ResourceHookBinding(before_delete=[args.give_back])
        api_version = _API_VERSIONS[workload.kind]
        # Not k8s.apps.v1.DeploymentPatch and the like: the plan's body is in the API's own words
        # already, and translating it to the SDK's and back is a fifth of a large preview.
        pulumi.CustomResource(
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
