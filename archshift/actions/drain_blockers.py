"""What blocks a drain of x86 nodes. Nothing is cordoned until the user has removed all blockers. Pure.

The guard names the workloads that need x86. This module also checks that the pods of these nodes can run
elsewhere.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from archshift.actions.drain_returns import BARE, because_of, cordon_toleration
from archshift.cluster.budgets import Budget, what_never_lets_go
from archshift.cluster.entries import Entry
from archshift.cluster.kinds import on_every_node
from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pods import Pod
from archshift.cluster.scheduling import Condition, Unmet
from archshift.cluster.volumes import Volumes
from archshift.cluster.workload_needs import workload_of
from archshift.common.architectures import AMD64, ARM64
from archshift.common.kubernetes import ARCH_LABEL
from archshift.nodes.groups import AnyNodeGroup, Node
from archshift.plan import reasons
from archshift.plan.guard import X86Need, placeable, shortfall
from archshift.plan.model import Plan

_STAYING: Final = "node that stays"


@dataclass(frozen=True, slots=True)
class DrainBlocker:
    """One reason not to drain, or something that the user should know before.

    Attributes:
        what: A workload, a pod or a key of the configuration.
        reason: Why it blocks the drain or what happens, and what the user can do.
    """

    what: str
    reason: str

    def __str__(self) -> str:
        return f"{self.what}: {self.reason}"


def find_blockers(
    *,
    going: Sequence[Node],
    inventory: Inventory,
    plan: Plan,
    needs: Sequence[X86Need],
    pods: Iterable[Pod],
    budgets: Iterable[Budget] = (),
    groups: Iterable[AnyNodeGroup] = (),
    bare_pods: bool = False,
) -> list[DrainBlocker]:
    """Return what blocks the drain of x86 nodes.

    Args:
        plan: The plan for the cluster.
        needs: The workloads that need x86.
        pods: The pods on ``going``.
        budgets: The PodDisruptionBudgets of the cluster.
        groups: The configured node groups. Their autoscaler may create Graviton nodes.
        bare_pods: Whether the drain may evict pods without a controller, which nothing starts again.
    """
    names = {node.name for node in going}
    staying = [node for node in inventory.nodes if node.name not in names and node.schedulable]
    x86_stays = any(node.architecture == AMD64 for node in staying)
    blockers: dict[str, str] = {}
    for key, reason in _needed(placeable(needs, inventory.nodes), staying):
        blockers.setdefault(key, reason)
    if not x86_stays:
        for key, reason in _not_moved(plan):
            blockers.setdefault(key, reason)
    staying += _new_graviton_nodes(groups)
    workloads = {**inventory.unsteered_workloads, **inventory.workloads, **_pinned(plan, inventory)}
    for key, reason in _without_group(workloads, going, staying):
        blockers.setdefault(key, reason)
    by_namespace: dict[str, list[Budget]] = {}
    for budget in budgets:
        by_namespace.setdefault(budget.namespace, []).append(budget)
    elsewhere, here = _Homes(staying, inventory.volumes), _Homes(going, inventory.volumes)
    for pod in pods:
        if pod.tied or pod.leaving:
            continue
        workload = workloads.get(pod.workload)
        if pod.owner is None and not bare_pods:
            reason = f"a bare pod on {pod.node}, {BARE}"
        elif unmet := elsewhere.why_none(pod):
            reason = f"{reasons.nowhere(unmet, _STAYING)} (its pod {pod.name} is on {pod.node})"
        elif toleration := _returns_by(pod, workload, here):
            reason = f"its pods would come back to the emptied nodes, {because_of(toleration)}"
        else:
            replicas = workload.replicas if workload else 0
            reason = what_never_lets_go(pod, by_namespace.get(pod.namespace, ()), replicas)
        if reason:
            blockers.setdefault(pod.workload, reason)
    return [DrainBlocker(what, reason) for what, reason in blockers.items()]


def find_warnings(pods: Iterable[Pod], deployments: Iterable[Mapping[str, Any]]) -> list[DrainBlocker]:
    """Return the workloads that lose a pod for a moment, although their rollouts never do that.

    Args:
        pods: The pods on the nodes to drain.
        deployments: The Deployments of their namespaces, as JSON.
    """
    moving = {pod.workload for pod in pods if not pod.tied and not pod.leaving}
    return [
        DrainBlocker(
            key,
            "its rollouts keep all pods available (maxUnavailable 0), but each eviction takes one away for a "
            "moment; a rollout with the node selector kubernetes.io/arch: arm64 moves it without that",
        )
        for item in deployments
        if (key := f"{item['metadata']['namespace']}/Deployment/{item['metadata']['name']}") in moving
        if _max_unavailable(item["spec"]) in ("0", "0%")
    ]


def _pinned(plan: Plan, inventory: Inventory) -> dict[str, Workload]:
    """Return the workloads whose next pods the API server places on one side, with that rule."""
    sides = {row.key: Entry.parse(row.entry) for row in plan.workloads}
    return {
        key: replace(
            inventory.workloads[key],
            conditions=(
                *inventory.workloads[key].conditions,
                Condition(unmet=Unmet("admission", ARCH_LABEL), selector={ARCH_LABEL: entry.side}),
            ),
        )
        for key, entry in sides.items()
        if entry and entry.side
    }


def _max_unavailable(spec: Mapping[str, Any]) -> str:
    rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
    return str(rolling.get("maxUnavailable", ""))


def _returns_by(pod: Pod, workload: Workload | None, going: "_Homes") -> str:
    """Return the toleration by which a pod's successor may come back to nodes of the drain; empty if none.

    It may also start elsewhere. But the emptied node has the most room, so the scheduler prefers it.
    """
    if not pod.owner:
        return ""
    toleration = cordon_toleration(pod.rules.get("tolerations") or ())
    if not toleration or going.why_none(pod):
        return ""
    # The live template, including the fields that archshift set: the next pods get exactly these.
    return "" if workload and workload.why_nowhere(going.nodes, with_ours=True) else toleration


def _needed(needs: Sequence[X86Need], staying: Sequence[Node]) -> list[tuple[str, str]]:
    x86 = [node for node in staying if node.architecture == AMD64]
    nowhere = [need for need in needs if not any(need.workload.may_run_on(node) for node in x86)]
    if nowhere:
        return [(need.key, f"it needs x86: {need.reason}") for need in nowhere]
    short = shortfall(needs, staying)
    return [("the x86 nodes that stay", short)] if short else []


def _not_moved(plan: Plan) -> list[tuple[str, str]]:
    """Return the workloads that the plan keeps on x86, or that the next ``pulumi up`` still moves."""
    blockers = []
    if plan.arm_ratio < 1:
        blockers.append(
            ("archshift:arm_ratio", f"{plan.arm_ratio:g} is less than 1.0; set it to 1.0 and run pulumi up")
        )
    for row in plan.workloads:
        if row.wanted is None or on_every_node(row.kind):
            continue
        x86 = row.wanted_on(AMD64)
        if x86 and plan.arm_ratio == 1:
            why = f" ({row.reason})" if row.reason else ""
            blockers.append((row.key, f"{x86} of its {row.replicas} pods belong on x86{why}"))
        elif row.restarted_pods and row.graviton < row.replicas:
            blockers.append((row.key, "the next pulumi up moves its pods to Graviton; run it first"))
    return blockers


def _new_graviton_nodes(groups: Iterable[AnyNodeGroup]) -> list[Node]:
    """Return the Graviton nodes that an autoscaler or Karpenter can create."""
    return [node for group in groups if group.architecture == ARM64 for node in group.nodes_on_demand()]


def _without_group(
    workloads: Mapping[str, Workload], going: Sequence[Node], staying: Sequence[Node]
) -> Iterable[tuple[str, str]]:
    """Yield the workloads that only the nodes to drain can run, also if they have no pods now."""
    for key, workload in sorted(workloads.items()):
        # ``find_blockers`` checks bare pods itself.
        if on_every_node(workload.kind) or workload.kind in ("Node", "Pod"):
            continue
        # The live template, including the fields that archshift set: the next pods get exactly these.
        if all(workload.why_nowhere([node], with_ours=True, each_pod=False) for node in going):
            continue
        unmet = workload.why_nowhere(staying, with_ours=True)
        if unmet:
            yield key, reasons.nowhere(unmet, _STAYING)


class _Homes:
    """Nodes, and which pods they can run. Most pods of a workload are alike."""

    def __init__(self, nodes: Sequence[Node], volumes: Volumes) -> None:
        self.nodes = nodes
        self._volumes = volumes
        self._known: dict[str, Unmet | None] = {}

    def why_none(self, pod: Pod) -> Unmet | None:
        """Return why none of the nodes can run a pod; None if one can."""
        workload = workload_of([pod], self._volumes)
        key = f"{pod.claims} {workload.rules}"
        if key not in self._known:
            self._known[key] = workload.why_nowhere(self.nodes)
        return self._known[key]
