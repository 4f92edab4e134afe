"""Runs the tests on arm64 in the cluster, and reads the proofs of earlier runs.

A run can be interrupted at any point: the next run waits for a Job that already exists.
"""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from archshift.actions.arm64_test_job import (
    LABEL,
    RESULT,
    TESTED,
    WORKLOAD,
    job_name,
    job_of,
    outcome,
    read_proof,
    result_of,
    short,
    why_waiting,
)
from archshift.cluster.client import MERGE, Cluster, RefusedError
from archshift.cluster.kinds import workload_path
from archshift.common.kubernetes import ARCH_LABEL
from archshift.common.polling import Polling
from archshift.common.text import one_line
from archshift.plan.arm64_tests import Arm64Test, Proof

FIELD_MANAGER: Final = "archshift-arm64-test"

_POLL_SECONDS: Final = 1.0

NO_POD_SECONDS: Final = 60.0
"""If a Job has no pod after this time, a quota or an admission policy probably forbids it."""

SLACK_SECONDS: Final = 120.0
"""How long archshift waits beyond a test's timeout, because the Job controller may be slow."""


@dataclass(slots=True)
class _Running:
    test: Arm64Test
    path: str
    since: float
    # From the last reading of its pod: the Job controller deletes the pod of a Job that is late.
    machine: str = ""
    waiting: str = ""


def read_proofs(cluster: Cluster) -> list[Proof]:
    """Return the proofs of all Jobs in the cluster.

    Raises:
        ArchshiftError: The cluster cannot be read.
    """
    jobs = cluster.list("/apis/batch/v1/jobs", labelSelector=LABEL)
    return [proof for proof in map(read_proof, jobs) if proof]


def run_tests(
    cluster: Cluster,
    due: Mapping[str, Arm64Test],
    tested: Mapping[str, str],
    *,
    parallel: int,
    say: Callable[[str], None],
) -> None:
    """Test workloads, a few at a time, and write each outcome to its Job.

    A test whose pod never had a node proves nothing: archshift deletes its Job, and the next update tries
    again.

    Args:
        due: Workload key to its test.
        tested: Workload key to the hash of what is tested, from ``judge_tests``.
        parallel: How many tests run at the same time.
        say: Called with a line when a test begins and when it ends.

    If the API server or its admission refuses a Job, only this workload is not tested.

    Raises:
        ArchshiftError: A setting names a missing container, or the cluster cannot be read.
    """
    waiting, running = list(due), dict[str, _Running]()
    machines = {
        node["metadata"]["name"]: (node["metadata"].get("labels") or {}).get(ARCH_LABEL, "")
        for node in cluster.list("/api/v1/nodes")
    }
    polling = Polling(first=_POLL_SECONDS, most=_POLL_SECONDS)
    while waiting or running:
        while waiting and len(running) < parallel:
            key = waiting.pop(0)
            try:
                running[key] = _begin(cluster, key, due[key], tested[key])
            except RefusedError as error:
                say(f"{key}: not tested: {one_line(error)}")
                continue
            say(f"{key}: test on arm64 started ({len(due) - len(waiting)} of {len(due)})")
        # Anybody may use these labels and names in a namespace of their own.
        jobs = {_place(job): job for job in cluster.list("/apis/batch/v1/jobs", labelSelector=LABEL)}
        pods: dict[tuple[str, str], list[dict[str, Any]]] = {}
        for pod in cluster.list("/api/v1/pods", labelSelector=LABEL):
            meta = pod["metadata"]
            pods.setdefault((meta["namespace"], meta["labels"][LABEL]), []).append(pod)
        for key, test in list(running.items()):
            namespace = key.partition("/")[0]
            job = jobs.get((namespace, job_name(key, tested[key])))
            proof = _judge(
                cluster, key, tested[key], test, job, pods.get((namespace, short(key)), []), machines
            )
            if proof:
                del running[key]
                try:
                    _end(cluster, test.path, proof, job is not None, say)
                except RefusedError as error:
                    say(f"{key}: its test on arm64 does not count: {one_line(error)}")
        if running:
            polling.pause()


def _place(item: Mapping[str, Any]) -> tuple[str, str]:
    return item["metadata"]["namespace"], item["metadata"]["name"]


def _begin(cluster: Cluster, key: str, test: Arm64Test, tested: str) -> _Running:
    namespace, kind, name = key.split("/")
    collection = f"/apis/batch/v1/namespaces/{namespace}/jobs"
    # Delete proofs of images and commands that the workload no longer runs.
    for old in cluster.list(collection, labelSelector=f"{LABEL}={short(key)}"):
        if (old["metadata"].get("annotations") or {}).get(TESTED) != tested:
            cluster.delete(f"{collection}/{old['metadata']['name']}")
    live = cluster.get(workload_path(kind, namespace, name))
    cluster.create(collection, job_of(key, live, test, tested), FIELD_MANAGER)
    return _Running(test, f"{collection}/{job_name(key, tested)}", time.monotonic())


def _judge(
    cluster: Cluster,
    key: str,
    tested: str,
    running: _Running,
    job: Mapping[str, Any] | None,
    pods: list[dict[str, Any]],
    machines: Mapping[str, str],
) -> Proof | None:
    now, waited = datetime.now(UTC), time.monotonic() - running.since
    if job is None:
        # A list may be older than the Job.
        late = waited > NO_POD_SECONDS
        gone = Proof(workload=key, tested=tested, passed=False, message="its Job was deleted")
        return gone if late else None
    uid = job["metadata"]["uid"]
    pod = next((pod for pod in pods if _owner(pod) == uid), None)
    if pod:
        running.machine = machines.get(pod["spec"].get("nodeName") or "", running.machine)
        running.waiting = why_waiting(pod) or running.waiting
    message = ""
    if not pod and not running.machine and waited > NO_POD_SECONDS:
        message = f"its Job got no pod: {_events(cluster, job)}"
    elif waited > running.test.timeout_seconds + SLACK_SECONDS:
        message = f"the test did not end within {waited:.0f} s"
    return outcome(
        key,
        tested,
        job,
        pod or {},
        running.test,
        now,
        machine=running.machine,
        waiting=running.waiting,
        overdue=message,
    )


def _owner(pod: Mapping[str, Any]) -> str:
    return next((str(owner.get("uid")) for owner in pod["metadata"].get("ownerReferences") or ()), "")


def _end(cluster: Cluster, path: str, proof: Proof, has_job: bool, say: Callable[[str], None]) -> None:
    if has_job and not proof.machine:
        say(f"{proof.workload}: not tested: {proof.message}")
        cluster.delete(path)
        return
    say(f"{proof.workload}: {'runs' if proof.passed else 'does not run'} on arm64")
    if has_job:
        _keep(cluster, path, proof)


def _keep(cluster: Cluster, path: str, proof: Proof) -> None:
    # Suspend the Job. Otherwise a start probe that passed, or one that hangs, would run for ever.
    result = result_of(proof, datetime.now(UTC))
    # The names too: a Job of this name may have been there before, without them.
    annotations = {WORKLOAD: proof.workload, TESTED: proof.tested, RESULT: result}
    body = {"metadata": {"annotations": annotations}, "spec": {"suspend": True}}
    cluster.patch(path, body, MERGE, FIELD_MANAGER)


def _events(cluster: Cluster, job: Mapping[str, Any]) -> str:
    meta = job["metadata"]
    events = cluster.list(
        f"/api/v1/namespaces/{meta['namespace']}/events",
        fieldSelector=f"involvedObject.kind=Job,involvedObject.name={meta['name']},type=Warning",
    )
    messages = [str(event.get("message") or "") for event in events]
    return json.dumps(messages[-1][:500]) if messages else "the cluster has no event that says why"
