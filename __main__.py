"""The program: settings -> inventory -> plan -> resources. Wiring only."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pulumi
import pulumi_kubernetes as k8s
from pulumi.runtime import config

from archshift.common.errors import ArchshiftError
from archshift.nodes.after_update import nodes_of_others, possible_nodes
from archshift.ramp.gate_evidence import no_evidence, read_evidence_file
from archshift.settings import stack as stack_settings
from archshift.survey import survey, survey_of_none
from components.arm64_tests import CompatTests, CompatTestsArgs, prove_first
from components.gate import Gate, GateArgs
from components.restore_taken_fields import give_back_hook
from components.guard import guard_hook, protected
from components.image_audit import ImageAudit, ImageAuditArgs
from components.monitoring import Monitoring, MonitoringArgs, operator_reads_rules
from components.node_groups import NodeGroups, NodeGroupsArgs
from components.node_pools import NodePools, NodePoolsArgs
from components.exceptions import Overrides, OverridesArgs
from components.preflight import guard_x86, hand_over, report, report_gate
from components.rollouts import see_through
from components.placeholders import Room
from components.workload_patches import WorkloadPatches, WorkloadPatchesArgs

if TYPE_CHECKING:
    from components.eks_node_groups import EksNodeGroups


def main() -> None:
    """Register the stack's resources."""
    settings = stack_settings.load(pulumi.get_stack(), {**config.get_config_env(), **config.CONFIG.get()})
    now = datetime.now(UTC)
    eks = None
    if settings.cluster:
        # Imported here: the SDKs of AWS take one to three seconds, which no other stack need wait for.
        from components.eks import Eks

        eks = Eks.find(settings.cluster, settings.eks_node_groups)
    live = eks.live if eks else None
    found = survey_of_none(settings) if eks and not live else survey(settings, eks=live)
    found = prove_first(found, settings, live)
    hand_over(found, settings, now)
    guard_x86(found, settings, now)
    fixed_capacity = settings.platform == "lab" and not settings.glass_broken(now)
    by_limits = settings.provisioner != "managed"
    report(found.plan, found.evidence, fixed_capacity=fixed_capacity, by_limits=by_limits)
    gate = read_evidence_file(Path(settings.evidence_file))

    if found.evidence:
        possible = possible_nodes(found.inventory.nodes, settings.groups)
        ImageAudit(
            "images", ImageAuditArgs(evidence=found.evidence, inventory=found.inventory, nodes=possible)
        )
    if settings.compat:
        CompatTests("compat-tests", CompatTestsArgs(tests=found.tests))
    if settings.override or settings.break_glass:
        Overrides("overrides", OverridesArgs(override=settings.override, break_glass=settings.break_glass))
    if settings.gated or gate:
        gate = gate or no_evidence(settings.evidence_file)
        report_gate(gate, found.plan, settings, now)
        Gate(
            "gate",
            GateArgs(
                required=settings.gated,
                evidence=gate,
                file=settings.evidence_file,
                since=settings.ramp.since if settings.ramp else None,
            ),
        )
    stay = protected(found, settings, now)
    # Registered in every run: the engine refuses a delete whose hook it does not find.
    hook = guard_hook(settings)
    guard = hook if settings.guarded else None
    others = nodes_of_others(found.inventory.nodes, settings.groups)
    cluster = eks.register_cluster() if eks else None
    kubeconfig = cluster.kubeconfig if cluster and not settings.kube_context else None
    provider = k8s.Provider("cluster", context=settings.kube_context, kubeconfig=kubeconfig)
    on_cluster = pulumi.ResourceOptions(provider=provider)
    nodes: NodePools | EksNodeGroups | NodeGroups
    room = None
    if by_limits:
        pools = NodePoolsArgs(pools=settings.node_pools, protected=stay, guard=guard, others=others)
        nodes = NodePools("node-pools", pools, on_cluster)
        room = Room(found.plan, found.inventory, settings.stack, settings.kube_context)
    elif eks and cluster:
        nodes = eks.register_groups(cluster, protected=stay, guard=guard, others=others)
    else:
        groups = NodeGroupsArgs(groups=settings.node_groups, protected=stay, guard=guard, others=others)
        nodes = NodeGroups("node-groups", groups, on_cluster)
    patches = WorkloadPatches(
        "workloads",
        WorkloadPatchesArgs(
            plan=found.plan,
            field_manager=settings.field_manager,
            give_back=give_back_hook(settings.kube_context),
            make_room=room.hook if room else None,
        ),
        # Pods can only move to nodes that are there, and a patch has no input from them. Where all
        # are there, waiting would cost a sixth of a large preview. Nodes that go are deleted by the
        # engine after everything else.
        pulumi.ResourceOptions(
            provider=provider, depends_on=[nodes] if room or found.plan.new_nodes else None
        ),
    )
    if settings.monitoring and (live or not eks):
        Monitoring(
            "monitoring",
            MonitoringArgs(
                settings=settings.monitoring,
                namespaces=settings.discovery.namespaces,
                gate=settings.gate,
                plan=found.plan,
                operator=operator_reads_rules(settings.kube_context),
            ),
            pulumi.ResourceOptions(provider=provider),
        )
    see_through(patches.patches, found.plan, settings.kube_context, room.after if room else None)
    pulumi.export("arm_ratio", settings.arm_ratio)
    pulumi.export("fleet", patches.fleet)
    pulumi.export("node_groups", nodes.sizes)


try:
    main()
except ArchshiftError as error:
    # A sentence for a person; RunError is what the engine prints without a traceback.
    raise pulumi.RunError(str(error)) from None
