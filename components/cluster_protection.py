"""The check before a stack's own cluster is deleted: EKS refuses that, but only after all nodes are gone."""

from typing import Final

import pulumi

from archshift.common.errors import ArchshiftError

HOOK_NAME: Final = "archshift-guard-cluster"

PROTECTED: Final = "deletion_protection"
"""The output of ``MixedCluster`` that says whether EKS refuses to delete the cluster."""


def protection_hook() -> pulumi.ResourceHook:
    """Return the hook that runs before a cluster is deleted, in previews too.

    Every run must register it: the engine refuses a delete if it cannot find the hook.
    """

    def before(args: pulumi.ResourceHookArgs) -> None:
        if (args.old_outputs or {}).get(PROTECTED):
            raise ArchshiftError(
                f"the cluster {args.name} stays: EKS refuses to delete it while "
                "archshift:cluster.create.deletion_protection is true",
                "set it to false, run pulumi up, and then destroy the stack",
            )

    return pulumi.ResourceHook(HOOK_NAME, before, pulumi.ResourceHookOptions(on_dry_run=True))
