"""Restores the fields that a forced patch of archshift 0.1.0 took, before the engine deletes that patch.

The state of 0.1.0 names this hook for each such patch, and the engine refuses the delete without the hook.
"""

import pulumi

from archshift.actions.workload_patch import owns_fields, read_live, restore_taken_fields
from archshift.cluster.client import connect
from archshift.cluster.kinds import workload_path

HOOK_NAME = "archshift-restore-taken-fields"

_FIELD_MANAGER = "pulumi.com/patchFieldManager"


def register_restore_hook(kube_context: str | None) -> None:
    """Register the hook, for all runs."""

    def before_delete(args: pulumi.ResourceHookArgs) -> None:
        inputs = args.old_inputs or {}
        kind = str(inputs["kind"]).removesuffix("Patch")
        metadata = inputs["metadata"]
        with connect(kube_context) as cluster:
            live = read_live(cluster, workload_path(kind, metadata["namespace"], metadata["name"]))
            # Otherwise the patch of this version has them, and restores them itself.
            if live and owns_fields(live, metadata["annotations"][_FIELD_MANAGER]):
                restore_taken_fields(cluster, kind, live)

    pulumi.ResourceHook(HOOK_NAME, before_delete)
