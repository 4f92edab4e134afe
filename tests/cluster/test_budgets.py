"""What PodDisruptionBudgets say of an eviction, before it is requested and after it was refused."""

from typing import Any

import pytest

from archshift.cluster.budgets import read_budget, what_holds, what_never_lets_go
from archshift.cluster.pods import read_pod
from tests.build import Json, pod

WEB = {"matchLabels": {"app": "web"}}


def budget(name: str = "web", selector: Json | None = WEB, **more: Any) -> Json:
    """A PodDisruptionBudget of two pods that must both be healthy, as its controller describes it."""
    counts = {"disruptionsAllowed": 0, "currentHealthy": 2, "desiredHealthy": 2, "expectedPods": 2}
    status = {**counts, "observedGeneration": 1, **more.pop("status", {})}
    meta = {"name": name, "namespace": more.pop("namespace", "shop"), "generation": 1}
    spec = {**({} if selector is None else {"selector": selector}), **more}
    return {"metadata": meta, "spec": spec, "status": status}


def ready(name: str = "web", **more: Any) -> Json:
    made = pod(name, "x86", owner=("ReplicaSet", "web-1"), labels={"app": "web"}, **more)
    made["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    return made


def never(*budgets: Json, replicas: int = 0, of: Json | None = None) -> str:
    return what_never_lets_go(read_pod(of or ready()), [read_budget(one) for one in budgets], replicas)


ALL = "the PodDisruptionBudget web never allows an eviction, because all 2 pods must be healthy; "


@pytest.mark.parametrize(
    "spec",
    [{"maxUnavailable": 0}, {"maxUnavailable": "0%"}, {"minAvailable": 2}, {"minAvailable": "100%"}],
    ids=str,
)
def test_a_budget_that_needs_all_of_its_pods_never_allows_an_eviction(spec: Json) -> None:
    """However it says so; also while one of its pods is not healthy."""
    words = f"{ALL}relax it, or run more pods"
    assert never(budget(**spec)) == words
    assert never(budget(**spec, status={"currentHealthy": 1})) == words
    assert never(budget(selector={}, **spec)) == words


def test_a_budget_of_one_pod() -> None:
    """The usual case: one replica, and minAvailable 1."""
    counts = {"currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}
    assert "because its only pod must be healthy" in never(budget(minAvailable=1, status=counts))


@pytest.mark.parametrize(
    "made",
    [
        budget(maxUnavailable=1, status={"desiredHealthy": 1}),
        budget(maxUnavailable=1, status={"desiredHealthy": 1, "currentHealthy": 1}),
        budget(maxUnavailable=0, selector={"matchLabels": {"app": "pay"}}),
        budget(maxUnavailable=0, selector=None),
        budget(maxUnavailable=0, namespace="other"),
        budget(maxUnavailable=0, status={"observedGeneration": 0}),
    ],
    ids=["allows one", "allows none for now", "other pods", "no pods", "other namespace", "not counted yet"],
)
def test_a_budget_that_may_allow_an_eviction_is_not_named(made: Json) -> None:
    """What the drain can only find out, it finds out within its time-out."""
    assert never(made) == ""


def test_a_budget_of_a_number_of_pods_counts_the_wanted_ones() -> None:
    """While a pod of a rollout is missing, two of two pods exist, and three are wanted."""
    assert never(budget(minAvailable=2), replicas=3) == ""
    assert never(budget(minAvailable="100%"), replicas=3) != ""


def test_two_budgets_for_one_pod() -> None:
    """The eviction API refuses that, whatever they allow."""
    one, two = (budget(name, maxUnavailable=1, status={"desiredHealthy": 1}) for name in ("one", "two"))
    assert never(one, two) == (
        "the PodDisruptionBudgets one and two select it, and the eviction API accepts only one; "
        "delete all but one"
    )


def test_a_budget_whose_controller_cannot_count() -> None:
    """A percentage for pods whose owner has no scale allows nothing, for good."""
    failed = {"type": "DisruptionAllowed", "status": "False", "reason": "SyncFailed", "message": "no scale"}
    made = budget(status={"expectedPods": 0, "conditions": [failed]})
    assert never(made) == "the PodDisruptionBudget web allows no eviction: no scale"


def test_a_pod_that_is_not_ready_may_go_under_some_policies() -> None:
    """So it is not named beforehand."""
    broken = ready()
    broken["status"]["conditions"] = []
    assert never(budget(maxUnavailable=0), of=broken) == ""


FOR_NOW = "the API server refuses its eviction for now"


@pytest.mark.parametrize(
    ("budgets", "words"),
    [
        ([], FOR_NOW),
        ([budget("other", {"matchLabels": {"app": "pay"}})], FOR_NOW),
        ([budget("none", None)], FOR_NOW),
        (
            [budget("all", {})],
            "the PodDisruptionBudget all allows 0 evictions now: 2 pods are healthy, and 2 must be",
        ),
        (
            [budget("all", {}, status={"disruptionsAllowed": 1, "currentHealthy": 1})],
            "the PodDisruptionBudget all allows 1 eviction now: 1 pod is healthy, and 2 must be",
        ),
        (
            [budget("one"), budget("two", {"matchExpressions": [{"key": "app", "operator": "Exists"}]})],
            "the PodDisruptionBudgets one and two select it, and the eviction API accepts only one",
        ),
    ],
)
def test_what_holds_a_pod_that_is_not_evicted(budgets: list[Json], words: str) -> None:
    """The budget that selects it, by its name and figures."""
    assert what_holds(read_pod(ready()), [read_budget(one) for one in budgets]) == words


@pytest.mark.parametrize(
    ("finalizers", "words"),
    [
        ([], "its containers have not ended yet"),
        (["a.example/x"], "its finalizer a.example/x holds it"),
        (["a.example/x", "b.example/y"], "its finalizers a.example/x and b.example/y hold it"),
    ],
)
def test_what_holds_a_pod_that_is_leaving(finalizers: list[str], words: str) -> None:
    """Finalizers, by their names."""
    made = ready(terminating=True)
    made["metadata"]["finalizers"] = finalizers
    assert what_holds(read_pod(made), []) == words
