"""PodDisruptionBudgets: which pods they select, when they allow an eviction, and what blocks one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from archshift.cluster.kinds import Resource, observed
from archshift.cluster.pods import Pod
from archshift.cluster.scheduling import label_selector_matches
from archshift.common.text import counted, is_or_are, one_line

BUDGETS: Final = Resource(api_version="policy/v1", plural="poddisruptionbudgets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A PodDisruptionBudget, with the figures that its controller last wrote.

    Attributes:
        namespace: Its namespace.
        name: Its name.
        selector: Its label selector; None selects no pod, an empty selector selects all.
        allowed: How many evictions it allows now.
        healthy: How many of its pods are healthy now.
        desired: How many of its pods must be healthy.
        expected: How many pods it has; 0 if its controller has not counted them yet.
        counts_pods: It counts the pods that exist (``minAvailable`` as a number), not the wanted replicas.
        problem: Why its controller cannot compute the figures; empty if it can. It then allows nothing.
    """

    namespace: str
    name: str
    selector: Mapping[str, Any] | None = None
    allowed: int = 0
    healthy: int = 0
    desired: int = 0
    expected: int = 0
    counts_pods: bool = False
    problem: str = ""

    def selects(self, pod: Pod) -> bool:
        """Return whether it counts for a pod."""
        return (
            pod.namespace == self.namespace
            and self.selector is not None
            and label_selector_matches(self.selector, pod.labels)
        )

    def never_allows(self, replicas: int = 0) -> str:
        """Return why it allows no eviction even if all its pods are healthy, and the way out; or nothing.

        Args:
            replicas: The wanted pods of the pod's workload; more than ``expected`` while pods are missing.
        """
        if self.problem:
            return f"the PodDisruptionBudget {self.name} allows no eviction: {one_line(self.problem, 300)}"
        pods = max(self.expected, replicas) if self.counts_pods else self.expected
        if not self.expected or self.desired < pods:
            return ""
        healthy = "its only pod" if pods == 1 else f"all {pods} pods"
        return (
            f"the PodDisruptionBudget {self.name} never allows an eviction, because {healthy} must be "
            "healthy; relax it, or run more pods"
        )


def read_budget(item: Mapping[str, Any]) -> Budget:
    """Reduce a PodDisruptionBudget's JSON."""
    meta, spec, status = item["metadata"], item["spec"], item.get("status") or {}
    failed = [
        condition
        for condition in status.get("conditions") or ()
        if condition.get("type") == "DisruptionAllowed" and condition.get("reason") == "SyncFailed"
    ]
    return Budget(
        namespace=meta.get("namespace", ""),
        name=meta["name"],
        selector=spec.get("selector"),
        allowed=int(status.get("disruptionsAllowed", 0)),
        healthy=int(status.get("currentHealthy", 0)),
        desired=int(status.get("desiredHealthy", 0)),
        expected=int(status.get("expectedPods", 0)) if observed(item) else 0,
        counts_pods=isinstance(spec.get("minAvailable"), int),
        problem=str(failed[0].get("message", "")) if failed else "",
    )


def what_never_lets_go(pod: Pod, budgets: Sequence[Budget], replicas: int = 0) -> str:
    """Return why the eviction API will never evict a pod; empty if it can, or if that is not known.

    Args:
        pod: The pod.
        budgets: At least the PodDisruptionBudgets of its namespace.
        replicas: The wanted pods of its workload, if that is known.
    """
    # Whether a budget lets go of a pod that is not ready depends on its policy and on the other pods.
    if not pod.ready:
        return ""
    selecting = [budget for budget in budgets if budget.selects(pod)]
    if len(selecting) > 1:
        return f"{_several(selecting)}; delete all but one"
    return selecting[0].never_allows(replicas) if selecting else ""


def what_holds(pod: Pod, budgets: Sequence[Budget]) -> str:
    """Return what blocks a pod's eviction after it was requested.

    Args:
        pod: The pod.
        budgets: The PodDisruptionBudgets of its namespace.
    """
    if pod.leaving:
        if pod.finalizers:
            several = "s" if len(pod.finalizers) > 1 else ""
            verb = "hold" if several else "holds"
            return f"its finalizer{several} {' and '.join(pod.finalizers)} {verb} it"
        return "its containers have not ended yet"
    selecting = [budget for budget in budgets if budget.selects(pod)]
    if len(selecting) > 1:
        return _several(selecting)
    if not selecting:
        return "the API server refuses its eviction for now"
    budget = selecting[0]
    return (
        f"the PodDisruptionBudget {budget.name} allows {counted(budget.allowed, 'eviction')} now: "
        f"{counted(budget.healthy, 'pod')} {is_or_are(budget.healthy)} healthy, and {budget.desired} must be"
    )


def _several(budgets: Sequence[Budget]) -> str:
    names = " and ".join(budget.name for budget in budgets)
    return f"the PodDisruptionBudgets {names} select it, and the eviction API accepts only one"
