"""Measures what placement at admission costs: 100 pods with the policy, without, and with a patched template.

Run ``python -m bench.admission [ROUNDS]``. A Deployment of 100 pods is created in namespaces whose policy
has 0, 100 and 5,000 entries, and in one without a policy, in turns. ``patched`` has no policy either. There
the template has the fields that the policy sets: what the fields cost the scheduler, without the policy. The
benchmark prints the seconds until all pods are made, and until all are available, and the processor seconds
of all servers until then. Then one client creates the same pods one after the other in a dry run. That is the
cost for the API server alone.
"""

import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any, Final

from archshift.cluster.client import Cluster, connect
from archshift.cluster.entries import entry_key
from archshift.cluster.live_placement import BINDINGS, POLICIES, SEEN_SECONDS
from archshift.cluster.pod_fields import Template, write_fields
from archshift.common.architectures import ARCHITECTURES
from archshift.common.kubernetes import ARCH_LABEL, HOSTNAME_LABEL, OS_LABEL
from archshift.plan.admission import binding, policy
from archshift.plan.placement import place
from bench._lab import running_lab
from lab.control_plane import CONTEXT, Lab

STACK: Final = "bench"
PODS: Final = 100
ON_GRAVITON: Final = 20
PATCHED: Final = "patched"
ENTRIES: Final = {"without": None, PATCHED: None, "with-0": 0, "with-100": 100, "with-5000": 5_000}
"""Namespace to the number of entries of its policy; None for no policy."""

_NODES: Final = 4
"""The nodes of each architecture."""
_LONGEST: Final = 120
_PAUSE: Final = 1.0
_TEMPLATE: Final[dict[str, Any]] = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "app", "image": "registry.example/web:1"}]},
}


def prepare(api: Cluster) -> None:
    """Make nodes, the namespaces and their policies."""
    for side in ARCHITECTURES:
        for number in range(_NODES):
            api.create("/api/v1/nodes", _node(f"{side}-{number}", side))
    for namespace, count in ENTRIES.items():
        api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        if count is not None:
            names = ("web", *(f"workload-{number:05}" for number in range(1, count)))[:count]
            data = {entry_key("Deployment", name): f"{ON_GRAVITON} of {PODS} on arm64" for name in names}
            api.create(POLICIES.collection(), policy(STACK, namespace, data))
            api.create(BINDINGS.collection(), binding(STACK, namespace))
    time.sleep(SEEN_SECONDS)
    _wait(lambda: "affinity" in one_pod(api, "with-100"))


def _node(name: str, architecture: str) -> dict[str, Any]:
    labels = {ARCH_LABEL: architecture, HOSTNAME_LABEL: name, OS_LABEL: "linux"}
    size = {"cpu": "32", "memory": "64Gi", "pods": "110"}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {"allocatable": size, "capacity": size},
    }


def one_pod(api: Cluster, namespace: str) -> dict[str, Any]:
    """Create a pod as a ReplicaSet would, in a dry run, and return its spec."""
    owner = {
        "apiVersion": "apps/v1",
        "kind": "ReplicaSet",
        "name": "web-5d4f",
        "uid": "1",
        "controller": True,
    }
    labels = {"app": "web", "pod-template-hash": "5d4f"}
    metadata = {"generateName": "web-5d4f-", "labels": labels, "ownerReferences": [owner]}
    path = f"/api/v1/namespaces/{namespace}/pods?dryRun=All"
    spec: dict[str, Any] = api.post_review(path, {**template_in(namespace), "metadata": metadata})["spec"]
    return spec


def template_in(namespace: str) -> dict[str, Any]:
    """Return the pod template of a namespace's Deployment."""
    if namespace != PATCHED:
        return _TEMPLATE
    written = write_fields(
        place(Template(selector={"matchLabels": {"app": "web"}}), ON_GRAVITON, PODS, zones=False)
    )
    return {**_TEMPLATE, "spec": {**_TEMPLATE["spec"], **written}}


def deployment(lab: Lab, api: Cluster, namespace: str) -> tuple[float, float, float]:
    """Create the Deployment.

    Returns:
        The seconds until its pods are made, and until they are available, and the servers' processor seconds.
    """
    group = f"/apis/apps/v1/namespaces/{namespace}"
    spec = {"replicas": PODS, "selector": {"matchLabels": {"app": "web"}}, "template": template_in(namespace)}

    def count(name: str) -> int:
        return sum(item["status"].get(name, 0) for item in api.list(f"{group}/replicasets"))

    started, before = time.monotonic(), _processor_seconds(lab)
    api.create(f"{group}/deployments", {"metadata": {"name": "web"}, "spec": spec})
    _wait(lambda: count("replicas") == PODS)
    made = time.monotonic() - started
    _wait(lambda: count("availableReplicas") == PODS)
    available, processor = time.monotonic() - started, _processor_seconds(lab) - before
    api.delete(f"{group}/deployments/web")
    _wait(lambda: not any(api.list(f"/api/v1/namespaces/{namespace}/pods")))
    return made, available, processor


def _processor_seconds(lab: Lab) -> float:
    processes = [process for server in lab.servers.values() if (process := server.process())]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def one_by_one(api: Cluster, namespace: str) -> float:
    """Return the seconds that one client needs for the pods."""
    started = time.monotonic()
    for _ in range(PODS):
        one_pod(api, namespace)
    return time.monotonic() - started


def _wait(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LONGEST
    while not done():
        if time.monotonic() > deadline:
            raise SystemExit(f"bench.admission: it took more than {_LONGEST} s")
        time.sleep(0.02)


def measure(lab: Lab, api: Cluster, rounds: int) -> None:
    """Measure all namespaces in turns, and print medians and their ratios to the one without a policy."""
    taken: dict[str, dict[str, list[float]]] = {
        what: {namespace: [] for namespace in ENTRIES}
        for what in ("made", "available", "processor", "one after the other")
    }
    # The first round fills caches.
    for number in range(-1, rounds):
        # Whoever comes next pays for what the last one leaves behind, so each is first in its turn.
        turn = number % len(ENTRIES)
        for namespace in (*tuple(ENTRIES)[turn:], *tuple(ENTRIES)[:turn]):
            time.sleep(_PAUSE)
            measured = (*deployment(lab, api, namespace), one_by_one(api, namespace))
            if number >= 0:
                for times, each in zip(taken.values(), measured, strict=True):
                    times[namespace].append(each)
    for what, by_namespace in taken.items():
        medians = {namespace: median(times) for namespace, times in by_namespace.items()}
        for namespace, seconds in medians.items():
            ratio = seconds / medians["without"]
            print(f"{what:<20} {namespace:<10} {seconds:6.2f} s  {ratio:.2f}", flush=True)


def main() -> None:
    """Start a lab, measure and print."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 5
    with running_lab() as (lab, _), connect(CONTEXT, lab.kubeconfig) as api:
        prepare(api)
        measure(lab, api, rounds)


if __name__ == "__main__":
    main()
