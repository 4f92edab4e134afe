"""Patches are tried on the API server while planning, and what it refuses stays as it is."""

import threading
import time
from collections.abc import Mapping
from typing import Any

import pytest

from archshift.actions.try_patches import PARALLEL, PatchTrials, plan_without_refused
from archshift.cluster.client import BusyError, RefusedError
from archshift.cluster.inventory import read_workload
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.plan.model import Plan
from archshift.plan.planner import make_plan
from tests.build import BOTH_SIDES, MANAGER, Json, workload
from tests.fakes import FakeCluster, Live

FROZEN = "admission policy 'freeze' denied request: a change freeze is on"
CARTS = "/apis/apps/v1/namespaces/shop/deployments"


class Admission(FakeCluster):
    """A cluster that answers these names with an error; all others are accepted."""

    def __init__(
        self,
        errors: Mapping[str, ArchshiftError] | None = None,
        *,
        may_patch: bool = True,
        workloads: int = 3,
    ) -> None:
        names = [f"app-{index}" for index in range(workloads)]
        super().__init__({"/apis/apps/v1/deployments": [workload(name=name, replicas=4) for name in names]})
        self.errors, self.may_patch, self.reviews = dict(errors or {}), may_patch, 0

    def before(self, verb: str, path: str) -> None:
        """Refuse what a test refuses."""
        error = self.errors.get(path.rpartition("/")[2])
        if verb == "apply" and error:
            raise error

    def post_review(self, path: str, question: Mapping[str, Any]) -> Json:
        """Say whether this user may patch."""
        assert path.endswith("/selfsubjectaccessreviews")
        assert question["spec"]["resourceAttributes"] == {
            "verb": "patch",
            "resource": "deployments",
            "group": "apps",
            "namespace": "shop",
        }
        self.reviews += 1
        return {"status": {"allowed": self.may_patch}}

    @property
    def inventory(self) -> Inventory:
        workloads = [
            read_workload("Deployment", item, MANAGER) for item in self.objects["/apis/apps/v1/deployments"]
        ]
        pods = {(one.key, "amd64"): one.replicas for one in workloads}
        return Inventory(workloads={one.key: one for one in workloads}, nodes=BOTH_SIDES, pods=pods)


def plan_with(cluster: Admission, ratio: float = 0.5, **options: Any) -> tuple[Plan, PatchTrials]:
    found = cluster.inventory
    return plan_without_refused(
        cluster,
        MANAGER,
        found,
        lambda refused: make_plan(arm_ratio=ratio, inventory=found, refused=refused),
        **options,
    )


def refusal(words: str = FROZEN, status: int = 422) -> RefusedError:
    return RefusedError(f"https://cluster.example: {words}", status=status, words=words)


def test_a_patch_is_tried_under_the_name_that_owns_the_fields() -> None:
    """Those of archshift 0.1.0 have its former name. Under the new name they would be a conflict."""
    cluster = Admission(workloads=1)
    (item,) = cluster.objects["/apis/apps/v1/deployments"]
    live = Live("Deployment", item)
    body = {"spec": {"template": {"spec": {"nodeSelector": {"kubernetes.io/arch": "amd64"}}}}}
    live.apply(body, MANAGER)
    old = read_workload("Deployment", live.json(), f"{MANAGER}/patches")
    found = Inventory(workloads={old.key: old}, nodes=BOTH_SIDES, pods={(old.key, "amd64"): old.replicas})
    trials = PatchTrials(cluster, f"{MANAGER}/patches", time.monotonic() + 60)
    assert not trials.run(make_plan(arm_ratio=1.0, inventory=found), found)
    assert [apply.field_manager for apply in cluster.applies] == [MANAGER]


def test_every_changed_patch_is_tried_and_nothing_is_stored() -> None:
    """As the update will apply it: with its kind, its manager and its force."""
    cluster = Admission()
    plan, trials = plan_with(cluster)
    assert [row.action for row in plan.workloads] == ["move"] * 3
    assert (trials.refused, trials.note) == ({}, "")
    tried = sorted(cluster.applies, key=lambda apply: apply.path)
    assert [apply.path for apply in tried] == [f"{CARTS}/app-{index}" for index in range(3)]
    assert all(apply.dry_run and not apply.force and apply.field_manager == MANAGER for apply in tried)
    assert tried[0].body["kind"] == "Deployment"


@pytest.mark.parametrize(
    "error",
    [
        refusal(),
        refusal('Apply failed with 1 conflict: conflict with "helm"', 409),
        refusal('admission webhook "freeze.example" denied the request', 403),
        BusyError("failed", status=500, words='failed calling webhook "policy.example": connection refused'),
    ],
    ids=["policy", "conflict", "webhook", "broken webhook"],
)
def test_a_refused_workload_is_named_and_the_fleet_stays_exact(error: Any) -> None:
    """Others take its pods' places; archshift's own words end with the ways out."""
    cluster = Admission({"app-1": error})
    plan, trials = plan_with(cluster)
    rows = {row.name: row for row in plan.workloads}
    assert (rows["app-1"].action, rows["app-1"].patch) == ("leave", None)
    assert rows["app-1"].reason == (
        f"left alone: the API server refuses its patch ({error.words}); ask whoever set that rule, or name "
        "the workload in archshift:workloads.exclude"
    )
    assert (plan.pods, plan.wanted) == (8, 4)
    assert trials.refused == {"shop/Deployment/app-1": error.words}
    assert trials.note == ""


def test_a_refused_workload_that_was_steered_before_keeps_its_fields() -> None:
    live = Live("Deployment", workload(name="app-1", replicas=4))
    cluster = Admission({"app-1": refusal()})
    (row,) = [row for row in plan_with(cluster, 0.0)[0].workloads if row.name == "app-0"]
    assert row.patch is not None
    live.apply(row.patch, MANAGER)
    first, _, third = cluster.objects["/apis/apps/v1/deployments"]
    cluster.objects["/apis/apps/v1/deployments"] = [first, live.json(), third]
    plan, _ = plan_with(cluster, 1.0)
    (kept,) = [row for row in plan.workloads if row.name == "app-1"]
    assert kept.action == "keep"
    assert kept.patch is not None
    assert kept.patch["spec"] == row.patch["spec"]


def test_a_patch_that_changes_nothing_is_not_tried() -> None:
    """So a second update asks nothing, however large the fleet is."""
    cluster = Admission(workloads=1)
    live = Live("Deployment", cluster.objects["/apis/apps/v1/deployments"][0])
    plan, _ = plan_with(cluster, 0.0)
    (row,) = plan.workloads
    assert row.patch is not None
    live.apply(row.patch, MANAGER)
    cluster.objects["/apis/apps/v1/deployments"] = [live.json()]
    cluster.applies.clear()
    plan_with(cluster, 0.0)
    assert cluster.applies == []


def test_a_user_who_may_only_read_is_told_once() -> None:
    """A preview's role may not patch. That refuses no workload."""
    words = 'deployments.apps "app" is forbidden: User "viewer" cannot patch resource "deployments"'
    cluster = Admission(
        {f"app-{index}": refusal(words, 403) for index in range(40)}, may_patch=False, workloads=40
    )
    plan, trials = plan_with(cluster)
    assert {row.action for row in plan.workloads} == {"move"}
    assert trials.note == (
        "40 patches were not tried on the API server: this user may not patch deployments.apps"
    )
    assert cluster.reviews <= PARALLEL


@pytest.mark.parametrize(
    "error",
    [
        refusal('admission webhook "old.example" does not support dry run', 400),
        refusal("the token has expired", 401),
        BusyError("busy", status=429, words="too many requests"),
        BusyError("busy", status=503, words="the server is currently unable to handle the request"),
        ArchshiftError("the cluster cannot be reached: reset"),
    ],
)
def test_what_says_nothing_about_the_workload_refuses_nothing(error: Any) -> None:
    """The plan stays, and the note says what is not known."""
    plan, trials = plan_with(Admission({"app-1": error}))
    assert {row.action for row in plan.workloads} == {"move"}
    words = getattr(error, "words", str(error))
    assert trials.note == f"1 patch was not tried on the API server: {words}"


def test_a_webhook_that_never_answers_ends_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the fleet does not wait, and the workload is not refused."""
    monkeypatch.setattr("archshift.actions.try_patches._QUIET_SECONDS", 0.0)
    release = threading.Event()

    class Slow(Admission):
        def before(self, verb: str, path: str) -> None:
            if verb == "apply" and path.endswith("app-1"):
                release.wait(30)

    progress: list[tuple[int, int]] = []
    try:
        plan, trials = plan_with(
            Slow(), timeout=0.3, progress=lambda done, total: progress.append((done, total))
        )
    finally:
        release.set()
    assert {row.action for row in plan.workloads} == {"move"}
    assert list(trials.untried) == ["shop/Deployment/app-1"]
    assert trials.note.startswith("1 patch was not tried on the API server: the time for all patches is over")
    assert progress[-1] == (2, 3)


def test_the_words_are_one_short_line_without_secrets() -> None:
    words = 'Invalid value:\n "s3cr3t": token=abcdef0123456789 ' + "x" * 1000
    _, trials = plan_with(Admission({"app-1": refusal(words)}))
    (text,) = trials.refused.values()
    assert "\n" not in text
    assert len(text) <= 320
    assert "s3cr3t" not in text
    assert "abcdef0123456789" not in text
