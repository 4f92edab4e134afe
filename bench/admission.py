"""Measures what placement at admission costs: 100 pods with the policy and without.

Run ``python -m bench.admission [ROUNDS]``. A Deployment of 100 pods is created in namespaces whose ConfigMap
has 0, 100 and 5,000 entries, and in one without a ConfigMap, in turns. The clock stops when its ReplicaSet
counts 100 pods. No pod runs, because the scheduler and kwok are stopped. Then one client creates the same
pods one after the other in a dry run, which shows the cost of a single pod.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Final

from archshift.cluster.client import Cluster, connect
from archshift.cluster.entries import entry_key
from archshift.cluster.live_placement import BINDINGS, CONFIG_MAPS, POLICIES
from archshift.plan.admission import binding, policy
from lab.control_plane import CONTEXT, PROJECT, Lab

NAME: Final = "archshift-placement-bench"
PODS: Final = 100
ENTRIES: Final = {"without": None, "with-0": 0, "with-100": 100, "with-5000": 5_000}
"""Namespace to the number of entries of its ConfigMap; None for none."""

_IDLE: Final = ("kwok", "kube-scheduler")
_LONGEST: Final = 120
_TEMPLATE: Final = {
    "metadata": {"labels": {"app": "web"}},
    "spec": {"containers": [{"name": "app", "image": "registry.example/web:1"}]},
}


def prepare(api: Cluster) -> None:
    """Make the policy, the namespaces and their ConfigMaps."""
    for namespace, count in ENTRIES.items():
        api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        if count is not None:
            names = ("web", *(f"workload-{number:05}" for number in range(1, count)))[:count]
            data = {entry_key("Deployment", name): f"20 of {PODS} on arm64" for name in names}
            manifest = {"metadata": {"name": NAME}, "data": data}
            api.create(CONFIG_MAPS.collection(namespace), manifest)
    api.create(POLICIES.collection(), policy(NAME))
    api.create(BINDINGS.collection(), binding(NAME))
    _wait(lambda: "affinity" in one_pod(api, "with-100"))


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
    answer = api.post_review(
        f"/api/v1/namespaces/{namespace}/pods?dryRun=All", {**_TEMPLATE, "metadata": metadata}
    )
    spec: dict[str, Any] = answer["spec"]
    return spec


def deployment(api: Cluster, namespace: str) -> float:
    """Create the Deployment; return the seconds until all its pods are made."""
    collection = f"/apis/apps/v1/namespaces/{namespace}"
    spec = {"replicas": PODS, "selector": {"matchLabels": {"app": "web"}}, "template": _TEMPLATE}
    started = time.monotonic()
    api.create(f"{collection}/deployments", {"metadata": {"name": "web"}, "spec": spec})
    _wait(lambda: sum(each["status"]["replicas"] for each in api.list(f"{collection}/replicasets")) == PODS)
    seconds = time.monotonic() - started
    api.delete(f"{collection}/deployments/web")
    _wait(lambda: not any(api.list(f"/api/v1/namespaces/{namespace}/pods")))
    return seconds


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
        time.sleep(0.01)


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if sys.argv[1:] else 5
    parent = PROJECT / ".lab"
    parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bench-", dir=parent) as name:
        lab = Lab(Path(name) / "lab")
        lab.start(lambda text: print(text, flush=True))
        try:
            for client in _IDLE:
                lab.servers[client].stop(5)
            with connect(CONTEXT, lab.kubeconfig) as api:
                prepare(api)
                for measure in (deployment, one_by_one):
                    report(measure.__name__, partial(measure, api), rounds)
        finally:
            lab.stop()


def report(name: str, measure: Callable[[str], float], rounds: int) -> None:
    """Print the medians of so many rounds in turns, and their ratios to the namespace without a ConfigMap."""
    taken: dict[str, list[float]] = {namespace: [] for namespace in ENTRIES}
    for number in range(rounds + 1):
        for namespace, seconds in taken.items():
            measured = measure(namespace)
            # The first round fills caches.
            if number:
                seconds.append(measured)
    base = median(taken["without"])
    for namespace, seconds in taken.items():
        print(
            f"{name:<12} {namespace:<10} {median(seconds):6.3f} s  {median(seconds) / base:.2f}", flush=True
        )


if __name__ == "__main__":
    main()
