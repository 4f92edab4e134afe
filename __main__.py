"""The program: settings -> inventory -> plan -> resources. Wiring only."""

from datetime import UTC, datetime

import pulumi
import pulumi_kubernetes as k8s

import settings as stack_settings
from archshift.errors import ArchshiftError
from archshift.plan import nodes_of_others, possible_nodes
from archshift.survey import survey, survey_of_none
from components.compat_test import CompatTests, CompatTestsArgs, prove_first
from components.give_back import give_back_hook
from components.guard import guard_hook, protected
from components.image_audit import ImageAudit, ImageAuditArgs
from components.node_groups import NodeGroups, NodeGroupsArgs
from components.overrides import Overrides, OverridesArgs
from components.preview import guard_x86, report
from components.rollout import await_rollout_hook, settle_after
from components.workload_patches import WorkloadPatches, WorkloadPatchesArgs


def main() -> None:
    """Register the stack's resources."""
    settings = stack_settings.from_engine()
    now = datetime.now(UTC)
    eks = None
    if settings.cluster:
        # Imported here: the SDKs of AWS take one to three seconds, which no other stack need wait for.
        from components.eks import Eks

        eks = Eks.find(settings.cluster, settings.eks_node_groups)
    live = eks.live if eks else None
    found = survey_of_none(settings) if eks and not live else survey(settings, eks=live)
    found = prove_first(found, settings, live)
    guard_x86(found, settings, now)
    fixed_capacity = settings.platform == "lab" and not settings.glass_broken(now)
    report(found.plan, found.evidence, fixed_capacity=fixed_capacity)

    if found.evidence:
        nodes = possible_nodes(found.inventory.nodes, settings.groups)
        ImageAudit("images", ImageAuditArgs(evidence=found.evidence, inventory=found.inventory, nodes=nodes))
    if settings.compat:
        CompatTests("compat-tests", CompatTestsArgs(tests=found.tests))
    if settings.override or settings.break_glass:
        Overrides("overrides", OverridesArgs(override=settings.override, break_glass=settings.break_glass))
    guard = guard_hook(settings)
    others = nodes_of_others(found.inventory.nodes, settings.groups)
    node_groups: pulumi.Resource
    if eks:
        cluster, node_groups = eks.register(
            protected=protected(found, settings, now),
            guard=guard if settings.guarded else None,
            others=others,
        )
        sizes = node_groups.sizes
        kubeconfig = None if settings.kube_context else cluster.kubeconfig
        provider = k8s.Provider("cluster", context=settings.kube_context, kubeconfig=kubeconfig)
    else:
        provider = k8s.Provider("cluster", context=settings.kube_context)
        node_groups = NodeGroups(
            "node-groups",
            NodeGroupsArgs(
                groups=settings.node_groups,
                protected=protected(found, settings, now),
                guard=guard if settings.guarded else None,
                others=others,
            ),
            pulumi.ResourceOptions(provider=provider),
        )
        sizes = node_groups.sizes
    patches = WorkloadPatches(
        "workloads",
        WorkloadPatchesArgs(
            plan=found.plan,
            field_manager=settings.field_manager,
            await_rollout=await_rollout_hook(settings.kube_context),
            give_back=give_back_hook(settings.kube_context),
        ),
        # Pods can only move to nodes that are there, and a patch has no input from them. Where all
        # are there, waiting would cost a sixth of a large preview. Nodes that go are deleted by the
        # engine after everything else.
        pulumi.ResourceOptions(provider=provider, depends_on=[node_groups] if found.plan.new_nodes else None),
    )
    settle_after(patches.patches, found.plan, settings.kube_context)
    pulumi.export("arm_ratio", settings.arm_ratio)
    pulumi.export("fleet", patches.fleet)
    pulumi.export("node_groups", sizes)


try:
    main()
except ArchshiftError as error:
    # A sentence for a person; RunError is what the engine prints without a traceback.
    raise pulumi.RunError(str(error)) from None
