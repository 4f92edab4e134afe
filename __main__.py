"""The program: settings -> inventory -> plan -> resources. Wiring only."""

import pulumi
import pulumi_kubernetes as k8s

import settings as stack_settings
from archshift.errors import ArchshiftError
from archshift.evidence import read_evidence
from archshift.inventory import read_inventory
from archshift.kubernetes import connect
from archshift.plan import make_plan
from components.give_back import give_back_hook
from components.image_audit import ImageAudit, ImageAuditArgs
from components.node_groups import NodeGroups, NodeGroupsArgs
from components.preview import report
from components.workload_patches import WorkloadPatches, WorkloadPatchesArgs


def main() -> None:
    """Register the stack's resources."""
    settings = stack_settings.from_engine()
    with connect(settings.kube_context) as cluster:
        inventory = read_inventory(cluster, settings.discovery, settings.field_manager)
        evidence = read_evidence(cluster, inventory, settings.images) if settings.images.check else None
    plan = make_plan(
        arm_ratio=settings.arm_ratio,
        inventory=inventory,
        rules=settings.rules,
        groups=settings.groups,
        verdicts=evidence.verdicts if evidence else None,
        pin_daemonsets=settings.images.daemonsets == "pin",
    )
    report(plan, evidence, fixed_capacity=settings.platform == "lab")

    if evidence:
        ImageAudit("images", ImageAuditArgs(evidence=evidence))
    provider = k8s.Provider("cluster", context=settings.kube_context)
    node_groups = NodeGroups(
        "node-groups",
        NodeGroupsArgs(groups=settings.node_groups),
        pulumi.ResourceOptions(provider=provider),
    )
    patches = WorkloadPatches(
        "workloads",
        WorkloadPatchesArgs(
            plan=plan,
            field_manager=settings.field_manager,
            give_back=give_back_hook(settings.kube_context),
        ),
        # Pods can only move to nodes that are there, and a patch has no input from them. Where all
        # are there, waiting would cost a sixth of a large preview. Nodes that go are deleted by the
        # engine after everything else.
        pulumi.ResourceOptions(provider=provider, depends_on=[node_groups] if plan.new_nodes else None),
    )
    pulumi.export("arm_ratio", settings.arm_ratio)
    pulumi.export("fleet", patches.fleet)
    pulumi.export("node_groups", node_groups.sizes)


try:
    main()
except ArchshiftError as error:
    # A sentence for a person; RunError is what the engine prints without a traceback.
    raise pulumi.RunError(str(error)) from None
