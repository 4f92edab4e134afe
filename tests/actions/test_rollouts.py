"""The wait for rollouts ends with the last rollout: not before, and not never."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import StepResult, finish_step, follow_rollouts, planned_revision
from archshift.cluster.kinds import CONTROLLERS
from archshift.common.errors import ArchshiftError, UnavailableError
from archshift.plan.model import PlannedWorkload
from tests.build import Json, node, planned, pod, workload
from tests.fakes import PODS, Clock, FakeCluster

OURS = "0a1b2c3d.4"
REVISION = {"metadata": {"annotations": {"archshift/revision": OURS}}}
LIMITS = RolloutLimits(longest=1000.0, no_progress=60.0)
LABELS = {"app": "cart", "pod-template-hash": "5d8f"}
SCHEDULER = "0/2 nodes are available: 2 Insufficient cpu"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def row(name: str = "cart", replicas: int = 4, kind: str = "Deployment", **options: Any) -> PlannedWorkload:
    """A row whose patch was applied."""
    body: Json = {"spec": {"template": REVISION}}
    return planned(name, replicas, 0, kind=kind, patch=body, restarts=True, **options)


def state(
    updated: int,
    available: int,
    total: int = 4,
    *,
    kind: str = "Deployment",
    name: str = "cart",
    replicas: int = 4,
    revision: str = OURS,
    image: str = "app:1",
    spec: Mapping[str, Any] | None = None,
    conditions: Any = (),
) -> Json:
    """A workload in the middle of its rollout."""
    live = workload(kind, name, replicas=replicas, spec=spec)
    live["spec"]["template"]["metadata"]["annotations"] = {"archshift/revision": revision}
    live["spec"]["template"]["spec"]["containers"][0]["image"] = image
    names = CONTROLLERS[kind].status
    counts = dict(zip(names, (total, updated, available), strict=True))
    live["status"] = {"observedGeneration": 4, "conditions": list(conditions), **counts}
    if kind == "DaemonSet":
        live["status"]["desiredNumberScheduled"] = replicas
    return live


class Rolling(FakeCluster):
    """A cluster in which each look sees the next state of each workload; the last one stays."""

    def __init__(self, *states: Json | None, **others: Any) -> None:
        super().__init__({"/api/v1/nodes": [node("intel", "amd64"), node("arm")], PODS: []})
        self.states = {"cart": list(states), **{name: list(own) for name, own in others.items()}}
        self.kind = "deployments"
        self.looks = 0

    def before(self, verb: str, path: str) -> None:
        """Let the rollouts get on."""
        if verb != "list" or not path.endswith(self.kind):
            return
        self.looks += 1
        now = []
        for own in self.states.values():
            now.append(own[0])
            if len(own) > 1:
                own.pop(0)
        self.objects[f"/apis/apps/v1/{self.kind}"] = [item for item in now if item is not None]


def follow(
    cluster: FakeCluster, *rows: PlannedWorkload, limits: RolloutLimits = LIMITS, **options: Any
) -> StepResult:
    return finish_step(cluster, rows or [row()], limits=limits, **options)


def pending(name: str = "cart-5d8f-new", words: str = SCHEDULER) -> Json:
    """A pod that fits no node."""
    item = pod(name, owner=("ReplicaSet", "cart-5d8f"), labels=LABELS)
    condition = {"type": "PodScheduled", "status": "False", "message": words}
    item["status"] = {"phase": "Pending", "conditions": [condition]}
    return item


def crashing(name: str = "cart-5d8f-new") -> Json:
    """A pod that ends again and again."""
    item = pod(
        name, "arm", owner=("ReplicaSet", "cart-5d8f"), labels={"app": "cart", "pod-template-hash": "5d8f"}
    )
    waiting = {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}
    ended = {"exitCode": 132, "message": "Illegal instruction"}
    item["status"]["containerStatuses"] = [
        {"name": "app", "state": {"waiting": waiting}, "lastState": {"terminated": ended}}
    ]
    return item


# --- the end of a rollout -------------------------------------------------------------------


def test_it_waits_for_the_last_pod(clock: Clock) -> None:
    """Neither an old status, nor the first new pods, nor a surplus of old ones is the end."""
    unseen = state(4, 4)
    unseen["status"]["observedGeneration"] = 3
    cluster = Rolling(unseen, state(1, 4, 5), state(4, 3), state(4, 4, 5), state(4, 4))
    (rollout,) = follow_rollouts(cluster, [row()], limits=LIMITS)
    assert (rollout.end, cluster.looks) == ("complete", 5)
    assert clock.now < 5


def test_a_slow_rollout_is_no_error_while_it_makes_progress(clock: Clock) -> None:
    """Eight pods of one minute each take longer than the rollout may stand still."""
    slow = [state(done, 8 if done else 7, 8, replicas=8) for done in range(9) for _ in range(20)]
    result = follow(Rolling(*slow), row(replicas=8))
    assert result == StepResult()
    assert clock.now > 4 * LIMITS.no_progress


def test_the_last_pods_count_as_progress_too(clock: Clock) -> None:
    """All pods are updated, and become available one by one."""
    slow = [state(4, available) for available in (0, 1, 2, 3, 4) for _ in range(20)]
    assert follow(Rolling(*slow)) == StepResult()
    assert clock.now > 2 * LIMITS.no_progress


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "DaemonSet"])
def test_a_rollout_that_stands_still_fails_after_all_else(clock: Clock, kind: str) -> None:
    """A pod that comes and goes is no progress. The others are complete by then."""
    flapping = [state(2, available, kind=kind) for _ in range(200) for available in (3, 2)]
    cluster = Rolling(state(1, 3, kind=kind), *flapping)
    cluster.kind = CONTROLLERS[kind].plural
    result = follow(cluster, row(kind=kind))
    assert result.failures == {
        f"shop/{kind}/cart": "its rollout makes no progress: 2 of 4 pods updated, 3 available"
    } or result.failures == {
        f"shop/{kind}/cart": "its rollout makes no progress: 2 of 4 pods updated, 2 available"
    }
    assert LIMITS.no_progress < clock.now < 2 * LIMITS.no_progress
    assert result.error.startswith(
        f"the step is not complete: shop/{kind}/cart: its rollout makes no progress: "
    )


def test_a_deployment_has_its_own_deadline(clock: Clock) -> None:
    """Its controller says when it is exceeded: earlier or later than archshift would."""
    exceeded = {
        "type": "Progressing",
        "status": "False",
        "reason": "ProgressDeadlineExceeded",
        "message": 'ReplicaSet "cart-5d8f" has timed out progressing.',
    }
    early = Rolling(state(1, 3), state(1, 3, conditions=[exceeded]))
    early.objects[PODS] = [pending()]
    assert follow(early).failures == {
        "shop/Deployment/cart": "its rollout makes no progress: 1 of 4 pods updated, 3 available "
        f"({SCHEDULER})"
    }
    assert clock.now < 10
    patient = {"progressDeadlineSeconds": 200}
    late = Rolling(*[state(1, 3, spec=patient)] * 80, state(1, 3, conditions=[exceeded], spec=patient))
    assert 'ReplicaSet "cart-5d8f" has timed out' in follow(late).failures["shop/Deployment/cart"]
    assert clock.now > 150


def test_pods_that_the_api_server_refuses_are_named(clock: Clock) -> None:
    """There is no pod whose words could be read."""
    conditions = [
        {
            "type": "Progressing",
            "status": "False",
            "reason": "ProgressDeadlineExceeded",
            "message": "timed out",
        },
        {"type": "ReplicaFailure", "status": "True", "message": 'pods "cart-x" is forbidden: exceeded quota'},
    ]
    result = follow(Rolling(state(0, 4, conditions=conditions)))
    assert "exceeded quota" in result.failures["shop/Deployment/cart"]
    del clock


def test_a_rollout_whose_pods_the_api_server_refuses_is_given_up_soon(clock: Clock) -> None:
    """It would otherwise hold the update for all of ``no_progress``. Others may soon free a quota."""
    refused = {"type": "ReplicaFailure", "status": "True", "message": "Limit must be set"}
    patient = {"progressDeadlineSeconds": 600}
    limits = RolloutLimits(no_progress=600)
    stopped = Rolling(state(1, 3, conditions=[refused], spec=patient))
    assert follow(stopped, limits=limits).failures == {
        "shop/Deployment/cart": "its rollout makes no progress: 1 of 4 pods updated, 3 available "
        "(Limit must be set)"
    }
    assert 60 < clock.now < 70
    freed = Rolling(*[state(1, 3, conditions=[refused], spec=patient)] * 20, state(4, 4))
    assert follow(freed, limits=limits) == StepResult()
    over = Rolling(state(1, 3, conditions=[{**refused, "status": "False"}], spec=patient))
    begun = clock.now
    assert follow(over, limits=limits).failures
    assert clock.now - begun > 600


def test_a_crash_is_told_in_the_containers_words(clock: Clock) -> None:
    cluster = Rolling(state(1, 3))
    cluster.objects[PODS] = [crashing()]
    assert follow(cluster).failures == {
        "shop/Deployment/cart": "its rollout makes no progress: 1 of 4 pods updated, 3 available "
        "(container app: CrashLoopBackOff, Illegal instruction, exit code 132)"
    }
    del clock


def test_a_crash_soon_after_the_rollout_fails_the_step_too(clock: Clock) -> None:
    cluster = Rolling(state(4, 4), state(4, 3))
    cluster.objects[PODS] = [crashing()]
    assert follow(cluster).failures == {
        "shop/Deployment/cart": "1 of its new pods stopped (container app: CrashLoopBackOff, Illegal "
        "instruction, exit code 132)"
    }
    del clock


@pytest.mark.parametrize("on_x86", [False, True])
def test_a_crash_on_graviton_is_kept_as_evidence(clock: Clock, on_x86: bool) -> None:
    """The next plan then holds the workload, unless its pods crash on x86 too."""
    cluster = Rolling(state(1, 3))
    other = crashing("cart-5d8f-other")
    other["spec"]["nodeName"] = "intel"
    cluster.objects[PODS] = [crashing(), *([other] if on_x86 else [])]
    assert "its rollout makes no progress" in follow(cluster, stack_label="prod").error
    kept = [body["data"] for _, body, _ in cluster.created]
    assert [list(data) for data in kept] == ([] if on_x86 else [["Deployment.cart"]])
    if kept:
        assert "Illegal instruction" in kept[0]["Deployment.cart"]
    del clock


def test_the_longest_wait_is_no_error(clock: Clock) -> None:
    """The rollout still makes progress, so it goes on without the update."""
    slow = [state(done, 8, 8, replicas=99) for done in range(99) for _ in range(10)]
    result = follow(Rolling(*slow), row(replicas=99), limits=RolloutLimits(longest=100, no_progress=60))
    assert result.notes == {"shop/Deployment/cart": "its rollout was still in progress after 100 s"}
    assert (result.failures, result.inexact) == ({}, {})
    assert 100 < clock.now < 110


# --- what is not the step's fault -----------------------------------------------------------


def test_a_workload_that_was_incomplete_before_holds_nothing_up(clock: Clock) -> None:
    """It is named with its reason, and the others are complete."""
    short, fine = state(1, 3, name="cart"), state(4, 4, name="web")
    cluster = Rolling(short, web=[state(1, 4, 5, name="web"), fine])
    cluster.objects[PODS] = [pending()]
    result = follow(cluster, row(), row("web"), incomplete={"shop/Deployment/cart"})
    assert result.notes == {
        "shop/Deployment/cart": "it was incomplete before the step and stands still: 1 of 4 pods updated, "
        f"3 available ({SCHEDULER})"
    }
    assert (result.error, clock.now < 30) == ("", True)
    assert result.warnings[0].startswith("not waited for: shop/Deployment/cart: it was incomplete before")


@pytest.mark.parametrize(("steps", "least", "most"), [(2, 1.0, 3.0), (10, 8.0, 13.0), (40, 15.0, 17.0)])
def test_a_workload_that_was_incomplete_costs_others_a_fifth_of_their_time(
    clock: Clock, steps: int, least: float, most: float
) -> None:
    """It cannot start, and the others are complete after some time."""
    ended: list[float] = []

    class Others(Rolling):
        def before(self, verb: str, path: str) -> None:
            """Note when the last of the others is complete."""
            super().before(verb, path)
            if not ended and fine in self.objects.get("/apis/apps/v1/deployments", ()):
                ended.append(clock.now)

    fine = state(steps, steps, steps, name="web", replicas=steps)
    going = [state(done, steps, steps, name="web", replicas=steps) for done in range(steps) for _ in range(5)]
    cluster = Others(state(1, 3, name="cart"), web=[*going, fine])
    result = follow(cluster, row(), row("web", steps), incomplete={"shop/Deployment/cart"})
    assert "it was incomplete before the step and stands still" in result.notes["shop/Deployment/cart"]
    assert least <= clock.now - ended[0] <= most


def test_a_workload_that_was_incomplete_is_waited_for_while_others_move(clock: Clock) -> None:
    """The scheduler takes pods one after another, so its pods may be the last ones of a large step."""
    slow = [state(done, 8, 8, name="web", replicas=60) for done in range(60) for _ in range(10)]
    late = [state(1, 3)] * 595
    cluster = Rolling(*late, state(4, 4), web=[*slow, state(60, 60, 60, name="web", replicas=60)])
    result = follow(cluster, row(), row("web", 60), incomplete={"shop/Deployment/cart"})
    assert (result.notes, result.failures) == ({}, {})
    assert clock.now > 100


def test_a_workload_that_gets_its_pods_by_the_step_is_waited_for(clock: Clock) -> None:
    """Its pods were pending because the update makes its nodes."""
    coming = [state(done, done) for done in range(5) for _ in range(3)]
    assert follow(Rolling(*coming), incomplete={"shop/Deployment/cart"}) == StepResult()
    assert clock.now > 1


@pytest.mark.parametrize(
    ("then", "note"),
    [
        (None, "it was deleted during the step"),
        (state(1, 4, revision=""), "another client replaced its pod template during the step"),
        (state(1, 4, revision="77aa.9"), "another client replaced its pod template during the step"),
        (state(1, 4, spec={"paused": True}), "its rollouts are paused (spec.paused)"),
        (
            state(1, 4, image="app:2"),
            "another client changed it during the step, and it stands still: 1 of 4 pods updated, 4 "
            "available",
        ),
    ],
)
def test_what_owners_do_meanwhile_is_named_and_no_error(clock: Clock, then: Json | None, note: str) -> None:
    cluster = Rolling(state(1, 4, 5), then, web=[state(4, 4, name="web")])
    result = follow(cluster, row(), row("web"))
    assert (result.notes, result.failures) == ({"shop/Deployment/cart": note}, {})
    del clock


def test_a_partition_set_meanwhile_is_no_error(clock: Clock) -> None:
    strategy = {"updateStrategy": {"rollingUpdate": {"partition": 2}}}
    cluster = Rolling(state(1, 4, kind="StatefulSet"), state(1, 4, kind="StatefulSet", spec=strategy))
    cluster.kind = "statefulsets"
    (note,) = follow(cluster, row(kind="StatefulSet")).notes.values()
    assert "partition" in note
    del clock


def test_a_workload_that_is_scaled_meanwhile_is_followed_to_its_new_number(clock: Clock) -> None:
    scaled = [state(done, done, 8, replicas=8) for done in (3, 5, 8) for _ in range(20)]
    result = follow(Rolling(state(4, 3), *scaled), replace(row(movable=True), wanted=2))
    assert result == StepResult(
        inexact={"shop/Deployment/cart": "it now has 8 replicas, but the plan was for 4"}
    )
    del clock


# --- the API server -------------------------------------------------------------------------


class Away(Rolling):
    """An API server that is away for some looks."""

    away = 0

    def before(self, verb: str, path: str) -> None:
        if self.away and path.endswith(self.kind):
            self.away -= 1
            raise UnavailableError("the cluster cannot be reached: broken pipe")
        super().before(verb, path)


def test_a_lost_connection_is_not_the_end(clock: Clock) -> None:
    """The rollout goes on without the connection, and the time without an answer is no stand-still."""
    cluster = Away(state(1, 4), state(2, 4), state(4, 4))
    cluster.away = 50
    assert follow(cluster) == StepResult()
    assert clock.now > 49


def test_a_connection_that_does_not_come_back_is_said(clock: Clock) -> None:
    cluster = Away(state(1, 4))
    cluster.away = 1000
    with pytest.raises(ArchshiftError, match=r"^the cluster cannot be reached: broken pipe$"):
        follow(cluster)
    assert clock.now < 2 * LIMITS.no_progress


def test_one_list_shows_all_workloads_of_a_kind_and_namespace(clock: Clock) -> None:
    """And it is asked less often where it takes long."""
    names = [f"web-{number}" for number in range(50)]
    cluster = Rolling(**{name: [state(1, 3, name=name), state(4, 4, name=name)] for name in names})
    del cluster.states["cart"]
    assert all(
        rollout.end == "complete" for rollout in follow_rollouts(cluster, map(row, names), limits=LIMITS)
    )
    assert cluster.lists == [("/apis/apps/v1/namespaces/shop/deployments", {})] * 2
    del clock


def test_the_revision_is_that_of_the_patch() -> None:
    assert planned_revision(row()) == OURS
    assert planned_revision(planned("cart", 3, 1)) == ""
    cron = planned(
        "job", 0, None, kind="CronJob", patch={"spec": {"jobTemplate": {"spec": {"template": REVISION}}}}
    )
    assert planned_revision(cron) == OURS


def test_nodes_that_do_not_come_up_are_an_error_after_the_rest(clock: Clock) -> None:
    def bring_up(*_: object) -> None:
        raise ArchshiftError("no Graviton node came up")

    result = follow(Rolling(state(4, 4)), row(movable=True), bring_up_nodes=bring_up)
    assert result.failures == {"new nodes": "no Graviton node came up"}
    assert result.inexact == {"shop/Deployment/cart": "its new pods are not ready yet"}
    del clock
