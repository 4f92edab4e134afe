"""The kinds of workloads: where their objects are, and what differs between them."""

from typing import Final

# kind -> (collection, path of its pod template)
CONTROLLERS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "Deployment": ("/apis/apps/v1/{}deployments", ("spec", "template")),
    "StatefulSet": ("/apis/apps/v1/{}statefulsets", ("spec", "template")),
    "DaemonSet": ("/apis/apps/v1/{}daemonsets", ("spec", "template")),
    "CronJob": ("/apis/batch/v1/{}cronjobs", ("spec", "jobTemplate", "spec", "template")),
}


def workload_path(kind: str, namespace: str, name: str) -> str:
    """Return the API path of one workload."""
    return f"{CONTROLLERS[kind][0].format(f'namespaces/{namespace}/')}/{name}"


REVISION_LABELS: Final = {"StatefulSet": "controller-revision-hash"}

# Where a controller says how many pods it wants.
SCALED: Final = {
    "ReplicaSet": "/apis/apps/v1/namespaces/{}/replicasets",
    "StatefulSet": "/apis/apps/v1/namespaces/{}/statefulsets",
    "ReplicationController": "/api/v1/namespaces/{}/replicationcontrollers",
}

TESTED_KINDS: Final = ("Deployment", "StatefulSet")
