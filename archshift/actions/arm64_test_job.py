"""The Job that tests a workload on arm64, and how its result is read. Pure."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from archshift.cluster.kinds import CONTROLLERS
from archshift.common.architectures import ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCH_LABEL
from archshift.common.text import one_line, printable
from archshift.common.times import zoned_time
from archshift.plan.arm64_tests import Arm64Test, Proof

LABEL: Final = "archshift/arm64-test"
"""Label of each Job and its pod; the value is a hash of the workload's key."""

WORKLOAD: Final = "archshift/workload"
"""Annotation of a Job: the workload's key."""

TESTED: Final = "archshift/tested"
"""Annotation of a Job: a hash of the tested images and command."""

RESULT: Final = "archshift/result"
"""Annotation of a Job whose test has ended: verdict, machine, message and time, as JSON."""

MAX_MESSAGE: Final = 2048
"""The longest message of a container, in characters; the kubelet keeps as many
(https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/)."""

# Volumes that a test's pod may use too. All others (a claim, a folder of the node) hold data of the running
# workload, so the test gets an empty folder instead.
_SHARED_VOLUMES: Final = ("configMap", "downwardAPI", "emptyDir", "image", "projected", "secret")

# The fields that make it the same program. No probes, ports or hooks, because nobody calls the container.
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
    """Return a hash of a workload's key that is short enough for a label's value."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


def job_of(key: str, workload: Mapping[str, Any], test: Arm64Test, tested: str) -> dict[str, Any]:
    """Return the Job that tests a workload.

    The pod has none of the workload's labels, so Services do not send it requests and controllers do not
    count it.

    Args:
        workload: The live object from the API server.
        tested: The hash from ``what_is_tested``.

    Raises:
        ArchshiftError: The configured container does not exist in the workload.
    """
    namespace, kind, _ = key.split("/")
    template = CONTROLLERS[kind].template(workload)
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
    containers = [_container(container) for container in spec["containers"]]
    if test.command:
        wanted = test.container or containers[0]["name"]
        # With the other containers the pod would not end.
        containers = [
            _running(container, test.command) for container in containers if container["name"] == wanted
        ]
        if not containers:
            names = ", ".join(container["name"] for container in spec["containers"])
            raise ArchshiftError(
                f"archshift:arm64_tests.workloads.{key}.container: the workload has no container "
                f"{test.container!r}",
                f"name one of: {names}",
            )
    pod = {name: spec[name] for name in _POD_FIELDS if name in spec}
    pod["nodeSelector"] = {**pod.get("nodeSelector", {}), ARCH_LABEL: ARM64}
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required and not _pins_architecture(required):
        pod["affinity"] = {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required},
        }
    pod["tolerations"] = list(pod.get("tolerations") or ())
    if spec.get("initContainers"):
        pod["initContainers"] = [_container(container) for container in spec["initContainers"]]
    if spec.get("volumes"):
        pod["volumes"] = [_volume(volume) for volume in spec["volumes"]]
    return {**pod, "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": containers}


def _pins_architecture(required: Mapping[str, Any]) -> bool:
    # archshift sets it on a workload whose pods are all on one side. A workload with its own pin is never
    # tested.
    return any(
        expression.get("key") == ARCH_LABEL
        for term in required.get("nodeSelectorTerms") or ()
        for expression in term.get("matchExpressions") or ()
    )


def _container(container: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: container[name] for name in _CONTAINER_FIELDS if name in container}
    # The kubelet then copies the end of the log into the status, so archshift needs no permission to read
    # logs.
    return {**fields, "terminationMessagePolicy": "FallbackToLogsOnError"}


def _running(container: Mapping[str, Any], command: tuple[str, ...] | str) -> dict[str, Any]:
    if isinstance(command, str):
        # The script writes the machine's name to the termination message, but only after a pass: after a
        # failure the kubelet puts the end of the log there.
        script = f"({command}\n); code=$?; [ $code -ne 0 ] || uname -m >/dev/termination-log; exit $code"
        return {**container, "command": ["sh", "-c", script], "args": []}
    return {**container, "command": list(command), "args": []}


def _volume(volume: Mapping[str, Any]) -> dict[str, Any]:
    if any(kind in volume for kind in _SHARED_VOLUMES):
        return dict(volume)
    return {"name": volume["name"], "emptyDir": {}}


def read_proof(job: Mapping[str, Any]) -> Proof | None:
    """Read the proof from a Job's annotations; None if the test has not ended or they are invalid.

    A Job proves something only for a workload of its own namespace, and only under the name that archshift
    gives it. Whoever may write Jobs in another namespace proves nothing.
    """
    meta = job["metadata"]
    annotations = meta.get("annotations") or {}
    try:
        key, tested = annotations[WORKLOAD], annotations[TESTED]
        if not _belongs_to(meta, key, tested):
            return None
        result = json.loads(annotations[RESULT])
        return Proof(
            workload=key,
            tested=tested,
            passed=result["passed"] is True,
            machine=str(result["machine"])[:64],
            message=str(result["message"])[:MAX_MESSAGE],
            at=zoned_time(result["at"]),
            job=meta["name"],
        )
    except (KeyError, TypeError, ValueError, RecursionError, OverflowError):
        return None


def _belongs_to(meta: Mapping[str, Any], key: str, tested: str) -> bool:
    namespace, slash, _ = key.partition("/")
    return bool(slash) and (meta["namespace"], meta["name"]) == (namespace, job_name(key, tested))


def result_of(proof: Proof, now: datetime) -> str:
    """Return the value of the annotation ``RESULT`` for a proof.

    Args:
        proof: The proof.
        now: The end of a test whose Job does not tell it.
    """
    at = (proof.at or now).isoformat(timespec="seconds")
    result = {"passed": proof.passed, "machine": proof.machine, "message": proof.message, "at": at}
    return json.dumps(result)


def outcome(
    key: str,
    tested: str,
    job: Mapping[str, Any],
    pod: Mapping[str, Any],
    test: Arm64Test,
    now: datetime,
    *,
    machine: str = "",
    waiting: str = "",
    overdue: str = "",
) -> Proof | None:
    """Return the outcome of a test; None while it runs.

    Args:
        key: The workload's key.
        tested: The hash from ``what_is_tested``.
        job: The Job. Its annotations do not count, because somebody may have written them.
        pod: The Job's pod; empty if it has none.
        test: The test.
        now: The time.
        machine: The architecture of the pod's node; empty if the pod never had a node.
        waiting: Why the pod was not running when archshift last read it.
        overdue: Why archshift gives up the test if it has not ended; empty to keep waiting.
    """

    def proof(message: str = "", machine_from_pod: str = "") -> Proof:
        return Proof(
            workload=key,
            tested=tested,
            passed=not message,
            machine=machine_from_pod or machine,
            message=message[-MAX_MESSAGE:],
            at=now,
            job=job["metadata"]["name"],
        )

    statuses = _statuses(job, pod)
    broken = [status for status in statuses if _exit_code(status)]
    if broken:
        return proof(_failure_message(broken[0]))
    ended = [
        status
        for status in statuses
        if "terminated" in (status.get("state") or {}) and not status.get("init")
    ]
    if test.command:
        # The Job itself may never be complete, because an injected container of a mesh goes on.
        if ended:
            return proof(machine_from_pod=_machine_from_pod(statuses))
    else:
        if ended:
            return proof(f"container {ended[0]['name']} exited, but it should keep running")
        if _up_for(statuses, job, now) >= test.start_seconds:
            return proof()
    conditions = {
        condition["type"]: condition for condition in (job.get("status") or {}).get("conditions") or ()
    }
    if "Complete" in conditions or "SuccessCriteriaMet" in conditions:
        return proof(machine_from_pod=_machine_from_pod(statuses))
    failed = conditions.get("Failed") or conditions.get("FailureTarget")
    if failed and (injected := _broken_injection(job, pod)):
        # Not the workload's failure: without a machine it proves nothing, and the next update tries again.
        return replace(proof(injected), machine="")
    if failed:
        late = failed.get("reason") == "DeadlineExceeded"
        overdue = (
            f"the test did not end within {test.timeout_seconds} s"
            if late
            else failed.get("message") or "the Job failed"
        )
    return proof(f"{overdue}: {waiting}" if waiting else overdue) if overdue else None


def _statuses(job: Mapping[str, Any], pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the states of the containers that the Job's own template has, init containers first.

    Admission may inject others into the pod, such as a mesh's proxy. They do not decide the test.
    """
    init, own = _own_containers(job)
    status = pod.get("status") or {}
    return [
        *(
            {**entry, "init": True}
            for entry in status.get("initContainerStatuses") or ()
            if entry.get("name") in init
        ),
        *(entry for entry in status.get("containerStatuses") or () if entry.get("name") in own),
    ]


def _all_statuses(pod: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the states of all containers of a pod, init containers first, also of injected ones."""
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]


def _own_containers(job: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Return the names of the template's init containers, and of its containers."""
    spec = job["spec"]["template"]["spec"]
    init, own = (
        {container["name"] for container in spec.get(kind) or ()} for kind in ("initContainers", "containers")
    )
    return init, own


def _broken_injection(job: Mapping[str, Any], pod: Mapping[str, Any]) -> str:
    """Return how an injected container failed; empty if none did, or if a tested container had started."""
    init, own = _own_containers(job)
    entries = _all_statuses(pod)
    if any(entry.get("name") in own and "waiting" not in (entry.get("state") or {}) for entry in entries):
        return ""
    broken = [entry for entry in entries if entry.get("name") not in init | own and _exit_code(entry)]
    return f"injected {_failure_message(broken[0])}" if broken else ""


def _exit_code(status: Mapping[str, Any]) -> int:
    ended = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated")
    return int((ended or {}).get("exitCode") or 0)


def _failure_message(status: Mapping[str, Any]) -> str:
    ended = (
        (status.get("state") or {}).get("terminated")
        or (status.get("lastState") or {}).get("terminated")
        or {}
    )
    # A container writes what it likes there.
    text = printable(str(ended.get("message") or "").strip(), lines=True) or str(ended.get("reason") or "")
    return f"container {status['name']} exited with code {_exit_code(status)}\n{text}".strip()


def _machine_from_pod(statuses: Sequence[Mapping[str, Any]]) -> str:
    """Return what the test's script wrote to the termination message: the output of ``uname -m``."""
    for status in statuses:
        message = str(((status.get("state") or {}).get("terminated") or {}).get("message") or "").strip()
        if message and not status.get("init"):
            return one_line(message, 64)
    return ""


def _up_for(statuses: Sequence[Mapping[str, Any]], job: Mapping[str, Any], now: datetime) -> float:
    """Return for how many seconds all tested containers have been running; 0 if one is not running."""
    main = [status for status in statuses if not status.get("init")]
    started = [((status.get("state") or {}).get("running") or {}).get("startedAt") for status in main]
    if len(main) < len(_own_containers(job)[1]) or not main or not all(started):
        return 0.0
    last = max(datetime.fromisoformat(str(start)) for start in started)
    return max(0.0, (now - last).total_seconds())


def why_waiting(pod: Mapping[str, Any]) -> str:
    """Return why a pod is not running, such as an image that cannot be pulled; empty if nothing holds it."""
    for status in _all_statuses(pod):
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason"):
            text = f"container {status['name']}: {waiting['reason']} {waiting.get('message') or ''}"
            return one_line(text, 300)
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return one_line(condition.get("message") or "the scheduler found no node for its pod", 300)
    return ""
