"""One look at a cluster: its workloads, the evidence about their images, and the plan from both."""

from collections.abc import Callable, Container, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import TYPE_CHECKING

from archshift.actions.arm64_test_run import read_proofs
from archshift.actions.try_patches import Progress, plan_without_refused
from archshift.cluster.canaries import read_canaries
from archshift.cluster.client import Cluster, connect
from archshift.cluster.image_evidence import ClusterEvidence, read_evidence
from archshift.cluster.inventory import read_inventory
from archshift.cluster.live_placement import (
    LivePlacement,
    check_served,
    read_live_placement,
    serves_placement,
)
from archshift.cluster.model import Inventory
from archshift.nodes.after_update import possible_nodes
from archshift.nodes.eks import LiveCluster
from archshift.nodes.node_pools import API_VERSION, LivePool
from archshift.nodes.node_pools import check_served as check_pools_served
from archshift.plan.arm64_tests import Arm64TestState, judge_tests
from archshift.plan.canaries import failed_on_graviton
from archshift.plan.drift import drift_of
from archshift.plan.entries_of import entries_of
from archshift.plan.guard import X86Need, needs
from archshift.plan.model import Placement, Plan, Rules, with_holds
from archshift.plan.placed_pods import check_alone, with_unplaced, without_patches
from archshift.plan.planner import check_named, make_plan
from archshift.plan.reasons import fewer_restarts

if TYPE_CHECKING:
    # Settings are built from this package's types; here they are only passed in.
    from archshift.images.audit import Watch
    from archshift.settings.stack import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A cluster at one moment, under a stack's settings.

    Attributes:
        inventory: What runs there.
        evidence: The evidence about its images; None if images are not checked.
        plan: The plan of the next update.
        needs: The workloads that need x86; None if the stack does not guard x86.
        tests: The results of tests on arm64, and the missing tests.
        rules: The configured rules by workload key, plus a hold for each failed test, and for each workload
            whose first pod on Graviton did not run.
        refused: Workload key to the words with which the API server refuses its patch.
        placement: What places pods at admission now; None with ``placement: patches``.
        entries: Namespace to its entries; empty with ``placement: patches``.
    """

    inventory: Inventory
    evidence: ClusterEvidence | None
    plan: Plan
    needs: tuple[X86Need, ...] | None
    tests: Arm64TestState = field(default_factory=Arm64TestState)
    rules: Mapping[str, Rules] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    placement: LivePlacement | None = None
    entries: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def survey(
    settings: "Settings",
    *,
    cluster: Cluster | None = None,
    keep_evidence: bool = True,
    guard_x86: bool | None = None,
    eks: LiveCluster | None = None,
    hold_untested: Container[str] | None = (),
    watch: "Watch | None" = None,
    try_patches: bool = False,
    progress: Progress | None = None,
) -> Survey:
    """Read the cluster and its images' registries, and make the plan.

    Args:
        settings: The stack's settings.
        cluster: The connection of a caller that keeps it; None: a new one.
        keep_evidence: Use and store evidence. False reads everything from the registries again, before
            something is removed.
        guard_x86: Find what needs x86; None: as the settings say.
        eks: The cluster that the kubeconfig must reach; None: any.
        hold_untested: Workloads to hold until their test on arm64; the others' moves are planned before
            the test. None: hold all.
        watch: Called with the number of images read so far and their total.
        try_patches: Try the plan's patches on the API server, and plan without what it refuses.
        progress: Called with the number of patches tried so far and their total.

    Raises:
        ArchshiftError: The cluster cannot be read, or a setting does not match it.
    """
    guarded = settings.guarded if guard_x86 is None else guard_x86
    with nullcontext(cluster) if cluster else connect(settings.kube_context) as cluster:
        if eks:
            eks.check_context(cluster.server, cluster.authority)
        if settings.takes_over_pools:
            settings = with_live_pools(settings, cluster)
        elif settings.pool_settings:
            check_pools_served(
                cluster.get("/apis").get("groups") or (), settings.pool_settings.node_class_groups
            )
        live = None
        if settings.placement == "admission":
            check_served(cluster)
            live = read_live_placement(cluster, settings.stack_label)
        inventory = read_inventory(
            cluster,
            settings.discovery,
            settings.field_manager,
            with_unsteered=guarded,
            every_controller=live is not None,
        )
        check_named("autoscaled", settings.discovery.autoscaled, inventory, settings.placement)
        evidence = None
        if settings.images.check:
            evidence = read_evidence(cluster, inventory, settings.images, keep=keep_evidence, watch=watch)
        proofs = read_proofs(cluster) if settings.arm64_tests else []
        verdicts = evidence.verdicts if evidence else {}
        tests = (
            judge_tests(settings.arm64_tests, inventory, verdicts, proofs)
            if settings.arm64_tests
            else Arm64TestState()
        )
        canaries = read_canaries(
            cluster, settings.stack_label, {workload.namespace for workload in inventory.workloads.values()}
        )
        failed = failed_on_graviton(canaries, inventory, verdicts)
        rules = with_holds(tests.strict_rules(settings.rules, hold_untested), failed)
        make = partial(_plan, settings.arm_ratio, settings, inventory, evidence, rules, live=live)
        refused: Mapping[str, str] = {}
        if try_patches:
            plan, trials = plan_without_refused(cluster, settings.field_manager, inventory, make, progress)
            plan, refused = replace(plan, untried=trials.note), trials.refused
            if not live and plan.restarted_pods and serves_placement(cluster):
                bare = without_patches(inventory)
                other = _plan(settings.arm_ratio, settings, bare, evidence, rules, {}, placed_by="admission")
                plan = replace(plan, advice=fewer_restarts(plan, other))
        else:
            plan = make(refused)
    possible = possible_nodes(inventory.nodes, settings.groups, settings.stack_label)
    if live:
        check_alone(plan, live)
        plan = with_unplaced(plan, inventory, live, settings.stack_label)
    entries = (
        entries_of(
            plan,
            settings.discovery,
            possible,
            namespaces=live.namespaces,
            images_checked=evidence is not None,
            live=live.data,
        )
        if live
        else {}
    )
    strict = with_holds(tests.strict_rules(settings.rules), failed)
    return Survey(
        inventory=inventory,
        evidence=evidence,
        plan=replace(plan, drift=drift_of(plan, inventory, live, entries)),
        needs=needs(inventory, verdicts, strict, possible) if guarded else None,
        tests=tests,
        rules=rules,
        refused=refused,
        placement=live,
        entries=entries,
    )


def with_live_pools(
    settings: "Settings", cluster: Cluster | None = None, eks: LiveCluster | None = None
) -> "Settings":
    """Return the settings with the NodePools that the stack takes over, as they are in the cluster.

    Args:
        settings: The stack's settings.
        cluster: The connection of a caller that keeps it; None: a new one.
        eks: The cluster that the kubeconfig must reach; None: any.

    Raises:
        ArchshiftError: The cluster has no NodePools, or one is not as the settings assume.
    """
    if settings.pool_settings is None or settings.live_pools is not None:
        return settings
    with nullcontext(cluster) if cluster else connect(settings.kube_context) as cluster:
        if eks:
            eks.check_context(cluster.server, cluster.authority)
        check_pools_served(cluster.get("/apis").get("groups") or (), settings.pool_settings.node_class_groups)
        pools = [LivePool.of(item) for item in cluster.list(f"/apis/{API_VERSION}/nodepools")]
    return settings.with_live_pools({pool.name: pool for pool in pools})


def plan_at(ratio: float, settings: "Settings", cluster_survey: Survey) -> Plan:
    """Return the plan for another ratio, for the same cluster and rules."""
    if ratio == cluster_survey.plan.arm_ratio:
        return cluster_survey.plan
    return _plan(
        ratio,
        settings,
        cluster_survey.inventory,
        cluster_survey.evidence,
        cluster_survey.rules,
        cluster_survey.refused,
        live=cluster_survey.placement,
    )


def plans(settings: "Settings", cluster_survey: Survey) -> Callable[[float], Plan]:
    """Return ``plan_at`` as a function of the ratio that makes each plan once, for comparisons."""
    return cache(lambda ratio: plan_at(ratio, settings, cluster_survey))


def _plan(
    ratio: float,
    settings: "Settings",
    inventory: Inventory,
    evidence: ClusterEvidence | None,
    rules: Mapping[str, Rules],
    refused: Mapping[str, str],
    *,
    live: LivePlacement | None = None,
    placed_by: Placement | None = None,
) -> Plan:
    return make_plan(
        arm_ratio=ratio,
        inventory=inventory,
        rules=rules,
        groups=settings.groups,
        verdicts=evidence.verdicts if evidence else None,
        pin_daemonsets=settings.images.daemonsets == "pin",
        refused=refused,
        stack=settings.stack_label,
        placed_by=placed_by or settings.placement,
        live_entries=live.entries if live else None,
    )


def survey_of_none(settings: "Settings") -> Survey:
    """Return the survey before the cluster exists: no workloads, and the nodes to come."""
    inventory = Inventory()
    # Empty evidence, because None would mean that images are not checked.
    evidence = ClusterEvidence() if settings.images.check else None
    plan = make_plan(
        arm_ratio=settings.arm_ratio,
        inventory=inventory,
        groups=settings.groups,
        placed_by=settings.placement,
    )
    return Survey(inventory=inventory, evidence=evidence, plan=plan, needs=None)
