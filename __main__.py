"""The program: settings -> survey -> plan -> resources. Wiring only."""

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pulumi
import pulumi_kubernetes as k8s
from pulumi.runtime import config

from archshift.common.errors import ArchshiftError
from archshift.nodes.after_update import nodes_of_others, possible_nodes
from archshift.nodes.live_groups import read_groups
from archshift.ramp.deployment import OUTPUT as COMMIT_OUTPUT
from archshift.ramp.deployment import check_digest, commit_of
from archshift.ramp.gate_evidence import no_evidence, read_evidence_file
from archshift.settings import stack as stack_settings
from archshift.survey import survey_of_none
from components import engine_text
from components.after_nodes import after
from components.arm64_tests import Arm64Tests, Arm64TestsArgs, run_arm64_tests
from components.cluster_identity import OUTPUT, survey_stack
from components.cluster_protection import ClusterProtection, protection_hook
from components.deletion_costs import DeletionCosts, DeletionCostsArgs
from components.exceptions import Exceptions, ExceptionsArgs
from components.failed_canaries import FailedCanaries, FailedCanariesArgs
from components.gate import Gate, GateArgs
from components.guard import guard_hook, protected
from components.hand_back import hand_back_hook
from components.image_audit import ImageAudit, ImageAuditArgs
from components.monitoring import Monitoring, MonitoringArgs, operator_reads_rules
from components.moves import await_moves, moving_namespaces
from components.node_groups import NodeGroups, NodeGroupsArgs
from components.node_pools import NodePools, NodePoolsArgs
from components.placeholders import Placeholders
from components.placement_policy import PlacementPolicy, PlacementPolicyArgs
from components.plan_file import write_plan_file
from components.preflight import check_pools, guard_x86, report, report_gate, show_tried
from components.restore_taken_fields import register_restore_hook
from components.rollouts import await_rollouts, export_after, log_ends
from components.workload_patches import WorkloadPatches, WorkloadPatchesArgs

if TYPE_CHECKING:
    from components.eks_node_groups import EksNodeGroups


def main() -> None:
    """Register the stack's resources."""
    configured = {**config.get_config_env(), **config.CONFIG.get()}
    check_digest(os.environ, stack_settings.digest(configured))
    settings = stack_settings.load(pulumi.get_stack(), configured, describe=read_groups)
    commit = commit_of(os.environ)
    now = datetime.now(UTC)
    eks = None
    if settings.cluster:
        # Imported here: AWS's SDKs take one to three seconds, and only stacks on EKS need them.
        from components.eks import Eks

        eks = Eks.find(settings.cluster, settings.eks_node_groups)
    live = eks.live if eks else None
    settings, cluster_survey, cluster_uid = (
        (settings, survey_of_none(settings), "")
        if eks and not live
        else survey_stack(settings, live, show_tried)
    )
    cluster_survey = run_arm64_tests(cluster_survey, settings, live)
    write_plan_file(cluster_survey, settings, now)
    guard_x86(cluster_survey, settings, now)
    check_pools(cluster_survey, settings)
    fixed_capacity = settings.platform == "lab" and not settings.break_glass_active(now)
    by_limits = settings.pool_settings is not None or settings.provisioner != "managed"
    report(cluster_survey.plan, cluster_survey.evidence, fixed_capacity=fixed_capacity, by_limits=by_limits)
    gate = read_evidence_file(Path(settings.evidence_file))
    if eks:
        of_groups = eks.cluster
        eks = eks.with_sizes_of_now(
            lambda imports, own: read_groups(of_groups, imports, own, settings.stack_label)
        )

    if cluster_survey.evidence:
        possible = possible_nodes(cluster_survey.inventory.nodes, settings.groups, settings.stack_label)
        ImageAudit(
            "images",
            ImageAuditArgs(
                evidence=cluster_survey.evidence, inventory=cluster_survey.inventory, nodes=possible
            ),
        )
    if settings.arm64_tests:
        Arm64Tests("arm64-tests", Arm64TestsArgs(tests=cluster_survey.tests))
    if settings.policy_exception or settings.break_glass:
        Exceptions(
            "exceptions",
            ExceptionsArgs(policy_exception=settings.policy_exception, break_glass=settings.break_glass),
        )
    if settings.gated or gate:
        gate = gate or no_evidence(settings.evidence_file)
        report_gate(gate, cluster_survey.plan, settings, now)
        Gate(
            "gate",
            GateArgs(
                required=settings.gated,
                evidence=gate,
                file=settings.evidence_file,
                since=settings.ramp.since if settings.ramp else None,
            ),
        )
    stay = protected(cluster_survey, settings, now)
    # Every run registers the hook: the engine refuses a delete if it cannot find the hook.
    hook = guard_hook(settings)
    guard = hook if settings.guarded else None
    register_restore_hook(settings.kube_context)
    hand_back = hand_back_hook(settings.kube_context, settings.pools_manager)
    others = nodes_of_others(cluster_survey.inventory.nodes, settings.groups, settings.stack_label)
    protection = protection_hook(live, settings.cluster, settings.group_names)
    cluster = eks.register_cluster() if eks else None
    kubeconfig = cluster.kubeconfig if cluster and not settings.kube_context else None
    provider = k8s.Provider("cluster", context=settings.kube_context, kubeconfig=kubeconfig)
    on_cluster = pulumi.ResourceOptions(provider=provider)
    registered: list[NodePools | EksNodeGroups | NodeGroups] = []
    placeholders = None
    if by_limits:
        pools = NodePoolsArgs(
            pools=settings.node_pools,
            protected=stay,
            # Without the images' evidence too: it also keeps a pool that another import would delete.
            guard=hook,
            others=others,
            stack_label=settings.stack_label,
            field_manager=settings.pools_manager,
            hand_back=hand_back,
        )
        registered.append(NodePools("node-pools", pools, on_cluster))
        # Policies count them once.
        others = []
        placeholders = Placeholders(
            cluster_survey.plan, cluster_survey.inventory, settings.stack, settings.kube_context
        )
    if eks and cluster and (settings.eks_node_groups or not by_limits):
        registered.append(eks.register_groups(cluster, protected=stay, guard=guard, others=others))
    elif settings.node_groups or not registered:
        groups = NodeGroupsArgs(groups=settings.node_groups, protected=stay, guard=guard, others=others)
        registered.append(NodeGroups("node-groups", groups, on_cluster))
    made = tuple(one for nodes in registered for one in nodes.made)
    if eks and cluster and eks.cluster.create:
        for one in made:
            ClusterProtection(eks.cluster.name, [one], protection, group=one.pulumi_resource_name)
        ClusterProtection(eks.cluster.name, [cluster, provider, *registered], protection)
    # Pods can only move to nodes that exist, and a patch has no input from the nodes. If all nodes
    # exist, waiting would cost a sixth of a large preview. The engine deletes nodes after all else.
    to_come = made if placeholders or cluster_survey.plan.new_nodes else ()
    patches = WorkloadPatches(
        "workloads",
        WorkloadPatchesArgs(
            plan=cluster_survey.plan,
            field_manager=settings.field_manager,
            cluster=cluster_uid,
            commit=commit,
            bring_up_nodes=placeholders.hook if placeholders else None,
        ),
        pulumi.ResourceOptions(depends_on=after(to_come, [provider])),
    )
    if workloads := cluster_survey.plan.workloads:
        FailedCanaries(
            "failed-canaries",
            FailedCanariesArgs(
                stack_label=settings.stack_label,
                namespaces={row.namespace for row in workloads},
                cluster=cluster_uid,
            ),
            # A destroy deletes the evidence before the cluster.
            pulumi.ResourceOptions(depends_on=[provider]),
        )
    ends = []
    if cluster_survey.placement:
        policy = PlacementPolicy(
            "placement",
            PlacementPolicyArgs(
                stack_label=settings.stack_label,
                entries=cluster_survey.entries,
                live=cluster_survey.placement,
                moving=moving_namespaces(cluster_survey.plan),
                now=now,
            ),
            pulumi.ResourceOptions(provider=provider, depends_on=after(to_come)),
        )
        moved = await_moves(
            policy.applied,
            cluster_survey.plan,
            cluster_survey.inventory,
            settings.stack_label,
            settings.field_manager,
            settings.kube_context,
            settings.rollouts,
            bring_up_nodes=placeholders.bring_up_for_moves if placeholders else None,
        )
        ends.append(moved)
    if settings.monitoring and (live or not eks):
        Monitoring(
            "monitoring",
            MonitoringArgs(
                settings=settings.monitoring,
                namespaces=settings.discovery.namespaces,
                gate=settings.gate,
                plan=cluster_survey.plan,
                operator=operator_reads_rules(settings.kube_context),
            ),
            pulumi.ResourceOptions(provider=provider),
        )
    rolled_out = await_rollouts(
        patches.patches,
        cluster_survey.plan,
        cluster_survey.inventory,
        settings.kube_context,
        settings.rollouts,
        settings.stack_label,
        since=now,
        bring_up_nodes=placeholders.bring_up_missing if placeholders else None,
    )
    ends.append(rolled_out)
    # Without an autoscaled workload, the engine deletes the resource, and that gives all costs back.
    if cluster_survey.plan.kept_shares:
        costs = DeletionCosts(
            "deletion-costs",
            DeletionCostsArgs(
                plan=cluster_survey.plan,
                field_manager=settings.costs_manager,
                cluster=cluster_uid,
                after=ends,
            ),
        )
        ended = log_ends(ends, costs.problems)
    else:
        ended = log_ends(ends)
    pulumi.export("fleet", patches.fleet)
    export_after(ended, {"arm_ratio": settings.arm_ratio, **({COMMIT_OUTPUT: commit} if commit else {})})
    if cluster_uid:
        pulumi.export(OUTPUT, cluster_uid)
    sizes = pulumi.Output.all(*(nodes.sizes for nodes in registered))
    pulumi.export(
        "node_groups", sizes.apply(lambda parts: {name: one for part in parts for name, one in part.items()})
    )


try:
    main()
except ArchshiftError as error:
    # The engine prints a RunError without a traceback.
    raise engine_text.run_error(error) from None
