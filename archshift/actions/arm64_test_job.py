"""The Job that tests a workload on arm64, and what its pod says in the end. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from archshift.cluster.kinds import CONTROLLERS
from archshift.common.architectures import ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL
from archshift.plan.arm64_tests import Arm64Test, Proof

LABEL: Final = "archshift/arm64-test"
"""On each Job and its pod; the value is short for the workload."""

WORKLOAD: Final = "archshift/workload"
"""Annotation of a Job: the workload's key."""

TESTED: Final = "archshift/tested"
"""Annotation of a Job: what was tested, images and command, as a hash."""

RESULT: Final = "archshift/result"
"""Annotation of a Job whose test is over: verdict, machine, message and time, JSON."""

MAX_MESSAGE: Final = 2048
"""Characters of a container's last words; the kubelet keeps as many
(https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/)."""

# What every pod of a test may have for itself. Anything else (a claim, a folder of the node) is the
# running workload's data, and a test gets an empty folder in its place.
_SHARED_VOLUMES: Final = ("configMap", "downwardAPI", "emptyDir", "projected", "secret")

# What a container needs to be the same program; no probes, ports and hooks: nobody calls it.
_CONTAINER_FIELDS: Final = (
    *("name", "image", "command", "args", "env", "envFrom", "imagePullPolicy", "resources"),
    *("restartPolicy", "securityContext", "stdin", "tty", "volumeMounts", "volumeDevices", "workingDir"),
)
_POD_FIELDS: Final = (
    *("automountServiceAccountToken", "dnsConfig", "dnsPolicy", "enableServiceLinks", "hostAliases"),
    *("imagePullSecrets", "nodeSelector", "runtimeClassName", "schedulerName", "securityContext"),
    *("serviceAccountName", "tolerations"),
)


def job_name(key: str, tested: str) -> str:
    """Return the name of a test's Job."""
    return f"archshift-test-{short(key)}-{tested[:8]}"


def short(key: str) -> str:
    """Return a workload's key as short as a label's value has to be."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def job_of(key: str, workload: Mapping[str, Any], test: Arm64Test, tested: str) -> dict[str, Any]:
    """Return the Job that tests a workload.

    Its pod has none of the workload's labels, so that no Service sends it a request and no
    controller counts it.

    Args:
        key: The workload's key.
        workload: The object as the API server has it.
        test: How it is tested.
        tested: From ``what_is_tested``.

    Raises:
        ArchshiftError: The config names a container that it does not have.
    """
    namespace, kind, _ = key.split("/")
    template: Any = workload
    for name in CONTROLLERS[kind][1]:
        template = template[name]
    labels = {LABEL: short(key)}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(key, tested),
            "namespace": namespace,
            "labels": labels,
            "annotations": {WORKLOAD: key, TESTED: tested},
        },
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "activeDeadlineSeconds": test.timeout_seconds,
            "template": {"metadata": {"labels": labels}, "spec": _pod_spec(key, template["spec"], test)},
        },
    }


def _pod_spec(key: str, spec: Mapping[str, Any], test: Arm64Test) -> dict[str, Any]:
    containers = [_container(one) for one in spec["containers"]]
    if test.command:
        wanted = test.container or containers[0]["name"]
        # The others would keep the pod from ending.
        containers = [_running(one, test.command) for one in containers if one["name"] == wanted]
        if not containers:
            names = ", ".join(one["name"] for one in spec["containers"])
            raise ArchshiftError(
                f"archshift:arm64_tests.workloads.{key}.container: {test.container!r} is none of its "
                f"containers",
                f"there are: {names}",
            )
    made = {name: spec[name] for name in _POD_FIELDS if name in spec}
    made["nodeSelector"] = {**made.get("nodeSelector", {}), ARCH_LABEL: ARM64}
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required and not _pins_architecture(required):
        made["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required},
        }
    made["tolerations"] = list(made.get("tolerations") or ())
    if spec.get("initContainers"):
        made["initContainers"] = [_container(one) for one in spec["initContainers"]]
    if spec.get("volumes"):
        made["volumes"] = [_volume(one) for one in spec["volumes"]]
    return {**made, "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": containers}


def _pins_architecture(required: Mapping[str, Any]) -> bool:
    # archshift's own, of a workload that is all on one side; a workload's own pin is never tested.
    return any(
        expression.get("key") == ARCH_LABEL
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
    )


def _container(one: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: one[name] for name in _CONTAINER_FIELDS if name in one}
    # What a container said last is then in its status: nobody needs the right to read logs.
    return {**kept, "terminationMessagePolicy": "FallbackToLogsOnError"}


def _running(container: Mapping[str, Any], command: tuple[str, ...] | str) -> dict[str, Any]:
    if isinstance(command, str):
        # The machine's name goes where the kubelet reads it, and only after a pass: otherwise the
        # kubelet would take it for the last words of what failed.
        script = f"({command}\n); code=$?; [ $code -ne 0 ] || uname -m >/dev/termination-log; exit $code"
        return {**container, "command": ["sh", "-c", script], "args": []}
    return {**container, "command": list(command), "args": []}


def _volume(volume: Mapping[str, Any]) -> dict[str, Any]:
    if any(kind in volume for kind in _SHARED_VOLUMES):
        return dict(volume)
    return {"name": volume["name"], "emptyDir": {}}


def read_proof(job: Mapping[str, Any]) -> Proof | None:
    """Return the proof that a Job is; None where its test is not over, or somebody spoilt it."""
    annotations = job["metadata"].get("annotations") or {}
    try:
        result = json.loads(annotations[RESULT])
        return Proof(
            workload=annotations[WORKLOAD],
            tested=annotations[TESTED],
            passed=result["passed"] is True,
            machine=str(result["machine"])[:64],
            message=str(result["message"])[:MAX_MESSAGE],
            at=datetime.fromisoformat(result["at"]),
            job=job["metadata"]["name"],
        )
    except (KeyError, TypeError, ValueError):
        return None


def result_of(proof: Proof) -> str:
    """Return a proof as the Job's annotation has it."""
    at = (proof.at or datetime.now(UTC)).isoformat(timespec="seconds")
    result = {"passed": proof.passed, "machine": proof.machine, "message": proof.message, "at": at}
    return json.dumps(result)


def outcome(
    job: Mapping[str, Any],
    pod: Mapping[str, Any],
    test: Arm64Test,
    now: datetime,
    *,
    machine: str = "",
    waiting: str = "",
    overdue: str = "",
) -> Proof | None:
    """Return the outcome of a test; None while it goes on.

    Args:
        job: The Job.
        pod: Its pod; empty where there is none.
        test: How it is tested.
        now: The time.
        machine: Architecture of the pod's node; empty where it found none.
        waiting: What the pod was last seen to wait for.
        overdue: Why it is given up, if it has not ended; empty to wait on.
    """
    annotations = job["metadata"]["annotations"]

    def proof(message: str = "", said: str = "") -> Proof:
        return Proof(
            workload=annotations[WORKLOAD],
            tested=annotations[TESTED],
            passed=not message,
            machine=said or machine,
            message=message[-MAX_MESSAGE:],
            at=now,
            job=job["metadata"]["name"],
        )

    statuses = _statuses(pod)
    broken = [one for one in statuses if _exit_code(one)]
    if broken:
        return proof(_last_words(broken[0]))
    if not test.command:
        ended = [one for one in statuses if "terminated" in (one.get("state") or {}) and not one.get("init")]
        if ended:
            return proof(f"container {ended[0]['name']} ended by itself instead of staying up")
        if _up_for(statuses, pod, now) >= test.start_seconds:
            return proof()
    conditions = {one["type"]: one for one in (job.get("status") or {}).get("conditions") or ()}
    if "Complete" in conditions or "SuccessCriteriaMet" in conditions:
        return proof(said=_said(statuses))
    failed = conditions.get("Failed") or conditions.get("FailureTarget")
    if failed:
        late = failed.get("reason") == "DeadlineExceeded"
        overdue = (
            f"it was not over after {test.timeout_seconds} s"
            if late
            else failed.get("message") or "it failed"
        )
    return proof(f"{overdue}: {waiting}" if waiting else overdue) if overdue else None


def _statuses(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    status = pod.get("status") or {}
    init = [{**one, "init": True} for one in status.get("initContainerStatuses") or ()]
    return [*init, *(status.get("containerStatuses") or ())]


def _exit_code(status: Mapping[str, Any]) -> int:
    ended = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated")
    return int((ended or {}).get("exitCode") or 0)


def _last_words(status: Mapping[str, Any]) -> str:
    ended = (
        (status.get("state") or {}).get("terminated")
        or (status.get("lastState") or {}).get("terminated")
        or {}
    )
    text = str(ended.get("message") or "").strip() or str(ended.get("reason") or "")
    return f"container {status['name']} ended with {_exit_code(status)}\n{text}".strip()


def _said(statuses: Sequence[Mapping[str, Any]]) -> str:
    for status in statuses:
        said = str(((status.get("state") or {}).get("terminated") or {}).get("message") or "").strip()
        if said and not status.get("init"):
            return said[:64]
    return ""


def _up_for(statuses: Sequence[Mapping[str, Any]], pod: Mapping[str, Any], now: datetime) -> float:
    """Return for how many seconds all of a pod's containers have been up; 0 if one is not."""
    main = [one for one in statuses if not one.get("init")]
    started = [((one.get("state") or {}).get("running") or {}).get("startedAt") for one in main]
    if len(main) < len((pod.get("spec") or {}).get("containers") or ()) or not main or not all(started):
        return 0.0
    last = max(datetime.fromisoformat(str(one)) for one in started)
    return max(0.0, (now - last).total_seconds())


def why_waiting(pod: Mapping[str, Any]) -> str:
    """Return what keeps a pod from running: an image that is not to be had, or a node; empty for nothing."""
    for status in _statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            return f"container {status['name']}: {waiting['reason']} {waiting.get('message') or ''}".strip()[
                :300
            ]
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or "its pod found no node")[:300]
    return ""
