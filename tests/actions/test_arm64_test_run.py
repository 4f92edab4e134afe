"""Tests on arm64 in a cluster where anybody may own a namespace."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from archshift.actions.arm64_test_job import LABEL, RESULT, TESTED, WORKLOAD, job_name, result_of, short
from archshift.actions.arm64_test_run import read_proofs, run_tests
from archshift.cluster.client import RefusedError
from archshift.plan.arm64_tests import Arm64Test, Proof
from tests.build import Json, node, workload
from tests.fakes import Clock, FakeCluster

KEY = "shop/Deployment/web"
TESTED_HASH = "0123456789abcdef"
NAME = job_name(KEY, TESTED_HASH)
JOBS = "/apis/batch/v1/jobs"
PODS = "/api/v1/pods"
DUE = {KEY: Arm64Test(command=("/app", "--check"))}


def passed(key: str = KEY, tested: str = TESTED_HASH) -> str:
    """The annotation of a pass."""
    at = datetime(2026, 11, 24, 12, tzinfo=UTC)
    return result_of(Proof(workload=key, tested=tested, passed=True, machine="aarch64", at=at), at)


def job(namespace: str = "shop", name: str = NAME, key: str = KEY, **annotations: str) -> Json:
    """A Job that claims to be the test of a workload."""
    return {
        "metadata": {
            "namespace": namespace,
            "name": name,
            "uid": f"{namespace}-{name}",
            "labels": {LABEL: short(KEY)},
            "annotations": {WORKLOAD: key, TESTED: TESTED_HASH, **annotations},
        },
        "spec": {"template": {"spec": {"containers": [{"name": "app"}]}}},
    }


def pod_of(owner: Json, namespace: str, code: int) -> Json:
    """A pod that claims to be of a Job, and has ended."""
    status = {"name": "app", "state": {"terminated": {"exitCode": code, "message": ""}}}
    return {
        "metadata": {
            "namespace": namespace,
            "name": "x",
            "labels": {LABEL: short(KEY)},
            "ownerReferences": [{"uid": owner["metadata"]["uid"]}],
        },
        "spec": {"nodeName": "graviton"},
        "status": {"containerStatuses": [status]},
    }


@pytest.mark.parametrize(
    "forged",
    [
        job("attacker", **{RESULT: passed()}),
        job("attacker", NAME, "shop/Deployment/web", **{RESULT: passed()}),
        job("shop", "any-name", **{RESULT: passed()}),
        # Of another workload of the namespace, and of other images.
        job("shop", NAME, "shop/Deployment/api", **{RESULT: passed()}),
        job("shop", NAME, **{TESTED: "0123456789abcdee", RESULT: passed()}),
        job("shop", NAME, "shop", **{RESULT: passed()}),
        job("shop", NAME, **{RESULT: passed().replace("+00:00", "")}),
        job("shop", NAME, **{RESULT: "[" * 20000}),
    ],
)
def test_a_job_proves_only_its_own_workload_under_its_own_name(forged: Json) -> None:
    """Each of these would else prove, or hold, a workload of somebody else."""
    if forged["metadata"]["annotations"][TESTED] != TESTED_HASH:
        forged["metadata"]["name"] = job_name(KEY, "fedcba9876543210")
    real = job(
        "bank", job_name("bank/Deployment/app", TESTED_HASH), "bank/Deployment/app", **{RESULT: passed()}
    )
    cluster = FakeCluster({JOBS: [forged, real]})
    assert [proof.workload for proof in read_proofs(cluster)] == ["bank/Deployment/app"]


class Beside(FakeCluster):
    """A cluster in which a forged Job and its pod are beside the real ones."""

    def __init__(self, *more: Json, code: int = 1) -> None:
        super().__init__(
            {
                JOBS: list(more),
                PODS: [],
                "/api/v1/nodes": [node("graviton", "arm64")],
                "/apis/apps/v1/deployments": [workload(name="web", namespace="shop")],
            }
        )
        self._code = code
        self.begun = False

    def after(self, verb: str, path: str) -> None:
        if verb != "create" or self.begun:
            return
        self.begun = True
        created = self.objects.pop(path)
        (made,) = [item for item in created if item not in self.objects[JOBS]]
        made["metadata"]["uid"] = "real"
        made["spec"]["template"]["spec"]["containers"] = [{"name": "app"}]
        # The forged objects come last, so that they would replace the real ones.
        self.objects[JOBS] = [made, *self.objects[JOBS]]
        forged = [
            pod_of(made, "attacker", 1 - self._code),
            pod_of(job("attacker"), "attacker", 1 - self._code),
        ]
        self.objects[PODS] = [*forged, pod_of(made, "shop", self._code), *forged]


@pytest.mark.parametrize("code", [0, 1])
def test_a_job_of_the_same_name_elsewhere_does_not_decide_a_test(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Neither does a pod elsewhere that names the real Job as its owner."""
    Clock(monkeypatch)
    cluster = Beside(job("attacker", **{RESULT: passed()}), code=code)
    said: list[str] = []
    run_tests(cluster, DUE, {KEY: TESTED_HASH}, parallel=1, say=said.append)
    assert said[-1] == f"{KEY}: {'does not run' if code else 'runs'} on arm64"
    (proof,) = read_proofs(cluster)
    assert (proof.workload, proof.passed) == (KEY, not code)
    forged = cluster.objects[JOBS][-1]
    assert forged == job("attacker", **{RESULT: passed()})


def test_a_job_that_was_there_without_annotations_is_judged_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever may write Jobs in the namespace made it; no such Job ends the run with a traceback."""
    Clock(monkeypatch)
    there = job()
    there["metadata"].pop("annotations")
    cluster = Beside()
    cluster.objects[JOBS] = [there]
    cluster.objects[PODS] = [pod_of(there, "shop", 0)]
    cluster.begun = True
    there["metadata"]["labels"] = {LABEL: "another"}
    cluster.objects[PODS][0]["metadata"]["labels"] = {LABEL: short(KEY)}
    run_tests(cluster, DUE, {KEY: TESTED_HASH}, parallel=1, say=lambda _: None)
    (proof,) = read_proofs(cluster)
    assert (proof.workload, proof.passed) == (KEY, True)


class Refusing(Beside):
    """A cluster that refuses a request about one workload's Jobs."""

    def __init__(self, verb: str) -> None:
        super().__init__(code=0)
        self._verb = verb
        other = workload(name="api", namespace="bank")
        self.objects["/apis/apps/v1/deployments"] = [*self.objects["/apis/apps/v1/deployments"], other]

    def before(self, verb: str, path: str) -> None:
        if verb == self._verb and "/namespaces/bank/" in path:
            raise RefusedError(f"{path}: exceeded quota: jobs", status=403, words="exceeded quota: jobs")


def test_a_refused_job_stops_only_its_own_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota on Jobs in one namespace is nobody else's trouble."""
    Clock(monkeypatch)
    cluster, said = Refusing("create"), list[str]()
    key = "bank/Deployment/api"
    due = {key: DUE[KEY], **DUE}
    run_tests(cluster, due, dict.fromkeys(due, TESTED_HASH), parallel=2, say=said.append)
    assert said[0] == (f"{key}: not tested: /apis/batch/v1/namespaces/bank/jobs: exceeded quota: jobs")
    assert [proof.workload for proof in read_proofs(cluster)] == [KEY]


def test_the_result_that_is_kept_names_what_it_proves(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the next run reads it."""
    Clock(monkeypatch)
    cluster = Beside(code=0)
    run_tests(cluster, DUE, {KEY: TESTED_HASH}, parallel=1, say=lambda _: None)
    kept: dict[str, Any] = cluster.objects[JOBS][0]["metadata"]["annotations"]
    assert (kept[WORKLOAD], kept[TESTED]) == (KEY, TESTED_HASH)
    assert json.loads(kept[RESULT])["passed"] is True
