"""What does not run is told in the words of whoever knows why."""

from typing import Any

import pytest

from archshift.cluster.inventory import read_inventory
from archshift.cluster.kinds import CONTROLLERS
from archshift.cluster.model import Discovery, Trouble
from archshift.cluster.troubles import BrokenContainer, broken_container, failing_container
from archshift.plan.reasons import troubles
from tests.build import MANAGER, Json, node, pod, workload
from tests.fakes import FakeCluster

NO_ROOM = "0/5 nodes are available: 5 Insufficient cpu"
DEADLINE = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded", "message": "late"}


def unplaced(name: str, message: str = "", owner: tuple[str, str] = ("StatefulSet", "db")) -> Json:
    """A pod without a node."""
    item = pod(name, owner=owner, phase="Pending")
    if message:
        condition = {"type": "PodScheduled", "status": "False", "message": message}
        item["status"]["conditions"] = [condition]
    return item


def waits(
    reason: str, message: str = "", *, last: Json | None = None, group: str = "containerStatuses"
) -> Json:
    """A pod's status with a container that waits."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {group: [{"name": "app", "state": state, "lastState": {"terminated": last} if last else {}}]}


def found(*pods: Json, live: Json | None = None) -> dict[str, Trouble]:
    """The troubles of a StatefulSet db of three pods."""
    item = live or workload("StatefulSet", "db")
    cluster = FakeCluster(
        {
            "/apis/apps/v1/statefulsets": [item],
            "/api/v1/nodes": [node("arm"), node("x86", "amd64")],
            "/api/v1/pods": list(pods),
        }
    )
    return dict(read_inventory(cluster, Discovery(), MANAGER).troubles)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (f"{NO_ROOM}. preemption: 0/5 nodes are available: 5 No preemption victims found", NO_ROOM),
        (f"{NO_ROOM}. no new claims to deallocate, preemption: 0/5 nodes are available", NO_ROOM),
        (
            "0/1 nodes are available: pod has unbound\n PersistentVolumeClaims",
            "0/1 nodes are available: pod has unbound PersistentVolumeClaims",
        ),
        (
            "Scheduling is blocked due to non-empty scheduling gates",
            "Scheduling is blocked due to non-empty scheduling gates",
        ),
        ("", "no scheduler has tried it yet"),
    ],
)
def test_a_pending_pod_has_the_schedulers_words(message: str, words: str) -> None:
    """Without what it says of pods that it could remove."""
    assert found(unplaced("db-0", message)) == {"shop/StatefulSet/db": Trouble(pending=1, words=words)}


def test_the_words_are_those_of_most_pods() -> None:
    """A pod that runs, one that has ended and one that is leaving are no trouble."""
    leaving = unplaced("db-9", "gone")
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    pods = [unplaced("db-0", "rare"), unplaced("db-1", NO_ROOM), unplaced("db-2", NO_ROOM), leaving]
    runs = pod("db-3", "arm", owner=("StatefulSet", "db"))
    assert found(*pods, runs) == {"shop/StatefulSet/db": Trouble(pending=3, words=NO_ROOM)}
    assert found(runs) == {}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            waits(
                "CrashLoopBackOff", "back-off 5m0s", last={"exitCode": 132, "message": "Illegal instruction"}
            ),
            "container app: CrashLoopBackOff, Illegal instruction, exit code 132",
        ),
        (waits("ImagePullBackOff", "not found"), "container app: ImagePullBackOff, not found"),
        (
            waits("CreateContainerConfigError", 'secret "db" not found', group="initContainerStatuses"),
            'container app: CreateContainerConfigError, secret "db" not found',
        ),
        (waits("CrashLoopBackOff", last={"exitCode": 0}), "container app: CrashLoopBackOff, exit code 0"),
        (waits("ContainerCreating"), ""),
        (waits("PodInitializing"), ""),
        ({"containerStatuses": [{"name": "app", "state": {"running": {}}}]}, ""),
        ({}, ""),
    ],
)
def test_a_container_that_does_not_run_has_its_own_words(status: dict[str, Any], words: str) -> None:
    assert failing_container(status) == words


def test_a_rollout_with_a_pod_that_does_not_run_is_stuck() -> None:
    """A StatefulSet has no deadline. A pod that crashes without a rollout is none of archshift's business."""
    crashes = pod("db-2", "arm", owner=("StatefulSet", "db"))
    crashes["status"] |= waits("CrashLoopBackOff")
    rolling = workload("StatefulSet", "db")
    rolling["status"] |= {"updatedReplicas": 1, "availableReplicas": 2}
    words = "container app: CrashLoopBackOff"
    key = "shop/StatefulSet/db"
    assert found(crashes, live=rolling) == {key: Trouble(failing=1, stuck=True, words=words)}
    assert found(crashes) == {key: Trouble(failing=1, words=words)}
    stopped = workload("StatefulSet", "db", spec={"updateStrategy": {"rollingUpdate": {"partition": 1}}})
    stopped["status"] |= {"updatedReplicas": 1}
    assert found(crashes, live=stopped) == {key: Trouble(failing=1, words=words)}


@pytest.mark.parametrize(
    ("conditions", "observed", "words"),
    [
        ([DEADLINE], 4, "late"),
        ([DEADLINE], 3, ""),  # of the rollout before
        (
            [DEADLINE, {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}],
            4,
            "exceeded quota",
        ),
        ([DEADLINE, {"type": "ReplicaFailure", "status": "False", "message": "old"}], 4, "late"),
        ([{"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated"}], 4, ""),
        ([], 4, ""),
    ],
)
def test_a_deployment_says_itself_that_it_is_stuck(conditions: list[Json], observed: int, words: str) -> None:
    live = workload()
    live["status"] |= {"conditions": conditions, "observedGeneration": observed}
    assert CONTROLLERS["Deployment"].stuck(live) == words


@pytest.mark.parametrize(
    ("kind", "status", "settled", "updated"),
    [
        ("Deployment", {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 3}, True, True),
        ("Deployment", {"replicas": 4, "updatedReplicas": 3, "availableReplicas": 3}, False, False),
        ("Deployment", {"replicas": 3, "updatedReplicas": 3, "availableReplicas": 2}, False, True),
        ("Deployment", {"observedGeneration": 3}, False, False),
        (
            "DaemonSet",
            {
                "desiredNumberScheduled": 5,
                "currentNumberScheduled": 5,
                "updatedNumberScheduled": 5,
                "numberAvailable": 5,
            },
            True,
            True,
        ),
        (
            "DaemonSet",
            {"desiredNumberScheduled": 5, "currentNumberScheduled": 5, "updatedNumberScheduled": 2},
            False,
            False,
        ),
        ("CronJob", {}, True, False),
    ],
)
def test_how_far_a_rollout_is(kind: str, status: Json, settled: bool, updated: bool) -> None:
    live = workload(kind)
    live["status"] = {**live["status"], **status}
    record = CONTROLLERS[kind]
    assert (record.settled(live), record.updated(live)) == (settled, updated)


def test_troubles_with_one_cause_are_one_sentence() -> None:
    """The workload with the most pods comes first."""
    assert troubles({}) == []
    several = {
        f"shop/Deployment/{name}": Trouble(pending=pods, words=NO_ROOM)
        for name, pods in zip("abcd", (1, 3, 1, 2), strict=True)
    }
    others = {
        "shop/StatefulSet/db": Trouble(failing=1, stuck=True, words="container app: ImagePullBackOff"),
        "shop/Deployment/quota": Trouble(stuck=True, words="exceeded quota"),
    }
    assert troubles({**several, **others}) == [
        f"7 pods are pending: shop/Deployment/b, shop/Deployment/d, shop/Deployment/a and 1 more: {NO_ROOM}",
        "stuck rollout: shop/Deployment/quota: exceeded quota",
        "1 pod is not running: shop/StatefulSet/db: container app: ImagePullBackOff",
    ]


SPEC: Json = {
    "initContainers": [{"name": "setup", "image": "setup:2"}],
    "containers": [{"name": "app", "image": "shop/app:1.2"}],
}
ENDED = {"exitCode": 132, "message": "Illegal instruction"}


def ended(restarts: int, code: int = 1, **more: Any) -> Json:
    """A container that has ended so often, and is started again."""
    last = {"terminated": {"exitCode": code, "reason": "Error"}}
    container = {"name": "app", "restartCount": restarts, "state": {"running": {}}, "lastState": last, **more}
    return {"containerStatuses": [container]}


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            waits("CrashLoopBackOff", "back-off", last=ENDED),
            "CrashLoopBackOff, Illegal instruction, exit code 132",
        ),
        (waits("CrashLoopBackOff", "back-off"), "CrashLoopBackOff, back-off"),
        (waits("CrashLoopBackOff", "back-off", last={"exitCode": 0}), ""),  # it ends by itself, on any side
        (
            waits("ErrImagePull", "no match for platform in manifest"),
            "ErrImagePull, no match for platform in manifest",
        ),
        (
            waits("ImagePullBackOff", "No matching manifest for linux/arm64"),
            "ImagePullBackOff, No matching manifest for linux/arm64",
        ),
        (waits("ImagePullBackOff", "dial tcp: i/o timeout"), ""),  # the registry is away
        (waits("RunContainerError", "exec: no such file"), "RunContainerError, exec: no such file"),
        (
            waits("CreateContainerError", "exec /app: exec format error"),
            "CreateContainerError, exec /app: exec format error",
        ),
        (waits("CreateContainerConfigError", "configmap not found"), ""),
        (waits("ContainerCreating"), ""),
        (
            waits("CrashLoopBackOff", last=ENDED, group="initContainerStatuses"),
            "CrashLoopBackOff, Illegal instruction, exit code 132",
        ),
        (ended(1), ""),  # it may have waited for its database
        (ended(2), "ended 2 times, exit code 1"),
        (ended(7, ready=True), ""),
        (ended(7, code=0), ""),
        ({}, ""),
        ({"containerStatuses": None}, ""),
    ],
)
def test_a_container_that_cannot_run_is_told_from_one_that_may_start(status: Json, words: str) -> None:
    broken = broken_container(SPEC, status)
    assert (broken.words if broken else "") == words


def test_what_is_broken_has_its_image_and_the_digest_that_ran() -> None:
    status = waits("CrashLoopBackOff", last=ENDED)
    status["containerStatuses"][0]["imageID"] = "docker.io/shop/app@sha256:aa"
    assert broken_container(SPEC, status) == BrokenContainer(
        "app", "shop/app:1.2", "sha256:aa", "CrashLoopBackOff, Illegal instruction, exit code 132"
    )
    status["containerStatuses"][0]["imageID"] = "sha256:cc"  # the id of a local config is no digest
    assert broken_container(SPEC, status) == BrokenContainer(
        "app", "shop/app:1.2", "", "CrashLoopBackOff, Illegal instruction, exit code 132"
    )
    status["containerStatuses"][0]["name"] = "injected"
    assert broken_container(SPEC, status) == BrokenContainer(
        "injected", "", "", "CrashLoopBackOff, Illegal instruction, exit code 132"
    )
