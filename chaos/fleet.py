"""The workloads of a run, their images, and the node groups they run on."""

from __future__ import annotations

from typing import Any, Final

from lab.control_plane import REGISTRY_HOST, Lab
from lab.oci import Pusher, elf, layer

NAMESPACE: Final = "chaos"
NEEDING: Final = ("legacy", "held")
"""Workloads that need x86: the first because of its image, the second because of the configuration."""
HELD: Final = {f"{NAMESPACE}/Deployment/held": {"hold": True, "reason": "its owner says so"}}
NODES: Final = 4
"""Nodes in each group. The group can lose a node, but a single node is too small for x86."""

_ZONES: Final = ["eu-west-1a", "eu-west-1b"]
_LIMITS: Final[tuple[dict[str, Any], ...]] = (
    {"maxUnavailable": 0, "maxSurge": 2},
    {"maxUnavailable": 1, "maxSurge": 1},
    {"maxUnavailable": 2, "maxSurge": 0},
    {"maxUnavailable": "25%", "maxSurge": "25%"},
)

Manifest = dict[str, Any]


def groups() -> dict[str, Any]:
    """Return the stack's node groups."""
    types = {"x86": "m6i.xlarge", "graviton": "m7g.xlarge"}
    return {name: {"instance_type": kind, "size": NODES, "zones": _ZONES} for name, kind in types.items()}


def without_x86(pick: float) -> dict[str, Any]:
    """Return node groups that remove x86: the whole group, most nodes, or all by another type."""
    attempt = groups()
    if pick < 1 / 3:
        del attempt["x86"]
    elif pick < 2 / 3:
        attempt["x86"]["size"] = 1
    else:
        attempt["x86"]["instance_type"] = attempt["graviton"]["instance_type"]
    return attempt


def node_names(*names: str) -> set[str]:
    """Return the names of the nodes of these groups."""
    return {f"{name}-{index}" for name in names for index in range(NODES)}


def workloads() -> list[Manifest]:
    """Return the workloads: sizes from 1 to 9, all kinds of rollout limits, and two that need x86."""
    fleet = [
        _workload("Deployment", f"web-{size}", size, strategy=_LIMITS[size % 4]) for size in range(1, 10)
    ]
    fleet[-1]["spec"]["template"]["spec"]["affinity"] = {"podAntiAffinity": _apart("web-9")}
    store = _workload("StatefulSet", "store", 3)
    store["spec"] |= {"serviceName": "store", "podManagementPolicy": "Parallel"}
    return [
        *fleet,
        store,
        _workload("Deployment", "legacy", 2, image="legacy:1", cpu="1500m"),
        _workload("Deployment", "held", 3, cpu="500m"),
    ]


def budget() -> Manifest:
    """Return a PodDisruptionBudget for one of the workloads."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "web-8", "namespace": NAMESPACE},
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": "web-8"}}},
    }


def image(name: str) -> str:
    """Return the full name of an image in the lab's registry."""
    return f"{REGISTRY_HOST}/{name}"


def push_images(lab: Lab) -> None:
    """Push `web:1` and `legacy:2` for both architectures, and `legacy:1` only for amd64."""
    pusher = Pusher(f"http://{lab.registry}")

    def pushed(repository: str, machine: str, tag: str = "") -> Any:
        entry = {"Entrypoint": ["/app"]}
        content = [layer({"app": elf(machine)})]
        return pusher.image(repository, tag, f"linux/{machine}", layers=content, config=entry)

    pushed("legacy", "amd64", tag="1")
    for repository, tag in (("web", "1"), ("legacy", "2")):
        pusher.index(repository, tag, [pushed(repository, "amd64"), pushed(repository, "arm64")])


def _apart(name: str) -> dict[str, Any]:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": name}}}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": term}]}


def _workload(
    kind: str,
    name: str,
    replicas: int,
    *,
    image: str = "web:1",
    cpu: str = "100m",
    strategy: dict[str, Any] | None = None,
) -> Manifest:
    labels = {"app": name}
    requests = {"cpu": cpu, "memory": "64Mi"}
    container = {"name": "app", "image": f"{REGISTRY_HOST}/{image}", "resources": {"requests": requests}}
    rolling = {"strategy": {"type": "RollingUpdate", "rollingUpdate": strategy}} if strategy else {}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **rolling,
        },
    }
