"""What the lab tests say: a cluster that can be filled and asked, and a stack that can be moved."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from archshift.actions.drain import ANNOTATION
from archshift.cluster.client import connect
from lab.control_plane import CONTEXT, PROJECT, Lab
from lab.engine import Operation, Result, engine_environment, run_engine
from lab.stack import ON_THE_LAB, LabStack

__all__ = [
    "ZONES",
    "Cluster",
    "Operation",
    "Result",
    "Stack",
    "daemon_set",
    "deployment",
    "disruption_budget",
    "meanwhile",
    "node_groups",
    "on_the_node_of",
    "persistent_volume",
    "reached_as_eks",
    "stateful_set",
    "storage_class",
    "wait_for",
    "with_claims",
]

ZONES = ("eu-west-1a", "eu-west-1b", "eu-west-1c")
INSTANCE_TYPES = {"arm64": "m7g.xlarge", "amd64": "m6i.xlarge"}

Manifest = dict[str, Any]


# --- manifests ------------------------------------------------------------------------------


def deployment(name: str, replicas: int, namespace: str = "default", **pod_spec: Any) -> Manifest:
    """A Deployment with one small container; `pod_spec` adds to its pods' spec."""
    return _workload("Deployment", name, namespace, pod_spec, {"replicas": replicas})


def stateful_set(name: str, replicas: int, namespace: str = "default", **pod_spec: Any) -> Manifest:
    """A StatefulSet with one small container; `pod_spec` adds to its pods' spec."""
    more = {"replicas": replicas, "serviceName": name, "podManagementPolicy": "Parallel"}
    return _workload("StatefulSet", name, namespace, pod_spec, more)


def daemon_set(name: str, namespace: str = "default", **pod_spec: Any) -> Manifest:
    """A DaemonSet with one small container; `pod_spec` adds to its pods' spec."""
    return _workload("DaemonSet", name, namespace, pod_spec, {})


def disruption_budget(name: str, namespace: str = "default", **spec: Any) -> Manifest:
    """A PodDisruptionBudget for the pods of the workload of that name."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": {"app.kubernetes.io/name": name}}, **spec},
    }


def autoscaler(kind: str, name: str, namespace: str, least: int, most: int) -> Manifest:
    """A HorizontalPodAutoscaler. The lab measures nothing, so within its bounds it scales nothing."""
    target = {"type": "Utilization", "averageUtilization": 70}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": kind, "name": name},
            "minReplicas": least,
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def storage_class(name: str) -> Manifest:
    """A class whose claims bind to volumes that are there, when their pods are placed."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "kubernetes.io/no-provisioner",
        "volumeBindingMode": "WaitForFirstConsumer",
    }


def persistent_volume(name: str, class_name: str, where: tuple[str, str] | None, **spec: Any) -> Manifest:
    """A PersistentVolume that is bound to nodes with a label, or to none."""
    if where:
        expression = {"key": where[0], "operator": "In", "values": [where[1]]}
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [expression]}]}}
    if "local" not in spec:
        spec["csi"] = {"driver": "disk.example.test", "volumeHandle": name}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            "capacity": {"storage": "1Gi"},
            "accessModes": ["ReadWriteOnce"],
            "storageClassName": class_name,
            **spec,
        },
    }


def with_claims(item: Manifest, class_name: str) -> Manifest:
    """The same StatefulSet, whose pods have a claim each."""
    item["spec"]["volumeClaimTemplates"] = [
        {
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "storageClassName": class_name,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
    ]
    return item


def on_the_node_of(name: str) -> Manifest:
    """A term of an affinity or anti-affinity between pods: the nodes that have pods of that workload."""
    return {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"app.kubernetes.io/name": name}},
    }


def _workload(
    kind: str, name: str, namespace: str, pod_spec: Mapping[str, Any], more: Mapping[str, Any]
) -> Manifest:
    labels = {"app.kubernetes.io/name": name}
    container = {
        "name": "app",
        "image": f"registry.example/{name}:1.0.0",
        "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
    }
    template = {"metadata": {"labels": labels}, "spec": {"containers": [container], **pod_spec}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"selector": {"matchLabels": labels}, "template": template, **more},
    }


def node_groups(x86: int = 6, graviton: int = 6) -> dict[str, Any]:
    """The value of `archshift:node_groups` for so many nodes of each kind, over three zones."""
    return {
        "x86": {"instance_type": INSTANCE_TYPES["amd64"], "size": x86, "zones": list(ZONES)},
        "graviton": {"instance_type": INSTANCE_TYPES["arm64"], "size": graviton, "zones": list(ZONES)},
    }


# --- the cluster ----------------------------------------------------------------------------


COLLECTIONS = {
    "configmaps": ("ConfigMap", "/api/v1/{}configmaps"),
    "cronjobs": ("CronJob", "/apis/batch/v1/{}cronjobs"),
    "daemonsets": ("DaemonSet", "/apis/apps/v1/{}daemonsets"),
    "deployments": ("Deployment", "/apis/apps/v1/{}deployments"),
    "horizontalpodautoscalers": (
        "HorizontalPodAutoscaler",
        "/apis/autoscaling/v2/{}horizontalpodautoscalers",
    ),
    "jobs": ("Job", "/apis/batch/v1/{}jobs"),
    "namespaces": ("Namespace", "/api/v1/{}namespaces"),
    "nodepools": ("NodePool", "/apis/karpenter.sh/v1/{}nodepools"),
    "nodes": ("Node", "/api/v1/{}nodes"),
    "poddisruptionbudgets": ("PodDisruptionBudget", "/apis/policy/v1/{}poddisruptionbudgets"),
    "pods": ("Pod", "/api/v1/{}pods"),
    "replicasets": ("ReplicaSet", "/apis/apps/v1/{}replicasets"),
    "statefulsets": ("StatefulSet", "/apis/apps/v1/{}statefulsets"),
}
"""What tests list and delete, by kubectl's name: the kind, and the path with a place for the namespace."""


class Cluster:
    """The lab's cluster, as a test fills and asks it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        # Tests ask several times a second; a kubectl for each question keeps a core busy.
        self._api = connect(CONTEXT, lab.kubeconfig)

    def close(self) -> None:
        self._api.close()

    def apply(self, manifests: str | Manifest | Iterable[Manifest], manager: str | None = None) -> None:
        """Applies YAML or objects as a user would; with a manager, server-side as that manager."""
        if isinstance(manifests, str):
            text = manifests
        elif isinstance(manifests, dict):
            text = yaml.safe_dump(manifests)
        else:
            text = yaml.safe_dump_all(manifests)
        flags = ["--server-side", f"--field-manager={manager}"] if manager else []
        self.lab.kubectl("apply", *flags, "--filename=-", stdin=text)

    def namespace(self, name: str) -> str:
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        return name

    def nodes(
        self,
        architecture: str,
        count: int,
        *,
        prefix: str | None = None,
        zones: Sequence[str] = ZONES,
        labels: Mapping[str, str] | None = None,
        taints: Sequence[Mapping[str, str]] = (),
        cpu: str = "4",
        memory: str = "15Gi",
        pods: int = 58,
    ) -> list[str]:
        """Makes nodes by hand, for tests that do not make them through the stack."""
        names = [f"{prefix or architecture}-{index}" for index in range(count)]
        size = {"cpu": cpu, "memory": memory, "pods": str(pods), "ephemeral-storage": "17Gi"}
        self.apply(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {
                    "name": name,
                    "labels": {
                        **_well_known(name, architecture, zones[index % len(zones)]),
                        **(labels or {}),
                    },
                },
                "spec": {"taints": [dict(taint) for taint in taints]},
                "status": {
                    "allocatable": size,
                    "capacity": size,
                    "nodeInfo": {"architecture": architecture, "operatingSystem": "linux"},
                },
            }
            for index, name in enumerate(names)
        )
        return names

    def get(self, kind: str, name: str, namespace: str | None = None) -> Manifest:
        """One object as the API server has it, managed fields included."""
        where = [f"--namespace={namespace}"] if namespace else []
        text = self.lab.kubectl("get", kind, name, *where, "--output=json", "--show-managed-fields")
        found: Manifest = json.loads(text)
        return found

    def all_of(self, kinds: str, namespace: str | None = None) -> list[Manifest]:
        """All objects of some of `COLLECTIONS` (comma-separated), of one namespace or of all."""
        where = f"namespaces/{namespace}/" if namespace else ""
        return [
            {"kind": kind, **item}
            for kind, path in map(COLLECTIONS.__getitem__, kinds.split(","))
            for item in self._api.list(path.format(where))
        ]

    def x86_nodes(self) -> dict[str, dict[str, Any]]:
        """How far each x86 node's drain is: what its annotation says, and whether it is cordoned."""
        return {
            node["metadata"]["name"]: {
                **json.loads((node["metadata"].get("annotations") or {}).get(ANNOTATION, "{}")),
                "cordoned": bool(node["spec"].get("unschedulable")),
            }
            for node in self.all_of("nodes")
            if node["metadata"]["labels"]["kubernetes.io/arch"] == "amd64"
        }

    def pod_nodes(self, namespace: str, *prefixes: str) -> dict[str, str]:
        """Name to node of a namespace's pods, or of those with these prefixes, that are not leaving."""
        return {
            pod["metadata"]["name"]: pod["spec"].get("nodeName", "")
            for pod in self.all_of("pods", namespace)
            if not pod["metadata"].get("deletionTimestamp")
            if pod["metadata"]["name"].startswith(prefixes or ("",))
        }

    def scale(self, kind: str, name: str, namespace: str, replicas: int) -> None:
        """Changes the replicas, as an autoscaler would."""
        self.lab.kubectl("scale", kind, name, f"--namespace={namespace}", f"--replicas={replicas}")

    def wait_until_settled(self, namespace: str, timeout: float = 120) -> None:
        """Waits until every rollout of the namespace is over and every pod runs."""
        deadline = time.monotonic() + timeout
        while unsettled := self._unsettled(namespace):
            assert time.monotonic() < deadline, f"after {timeout:.0f} s: " + "; ".join(unsettled)
            time.sleep(0.3)

    def _unsettled(self, namespace: str) -> list[str]:
        controllers = self.all_of("deployments,statefulsets,daemonsets", namespace)
        waiting = [_name(workload) for workload in controllers if not _is_rolled_out(workload)]
        pods = [pod["metadata"]["name"] for pod in self._pods(namespace) if not _is_running(pod)]
        return waiting + pods

    def graviton_counts(self, namespace: str) -> dict[str, int]:
        """How many pods of each workload run on Graviton nodes, by Kind/name."""
        return self._counts(namespace, architectures={"arm64"})

    def pod_counts(self, namespace: str) -> dict[str, int]:
        """How many pods of each workload run on any node, by Kind/name."""
        return self._counts(namespace, architectures=None)

    def pod_names(self, namespace: str) -> set[str]:
        """The names of the pods that run, to see which ones a step replaced."""
        return {pod["metadata"]["name"] for pod in self._pods(namespace) if _is_running(pod)}

    def _pods(self, namespace: str) -> list[Manifest]:
        ended = ("Succeeded", "Failed")
        return [pod for pod in self.all_of("pods", namespace) if pod["status"].get("phase") not in ended]

    def _counts(self, namespace: str, architectures: set[str] | None) -> dict[str, int]:
        of_node = {
            node["metadata"]["name"]: node["metadata"]["labels"].get("kubernetes.io/arch")
            for node in self.all_of("nodes")
        }
        owners = {
            ("ReplicaSet", replica_set["metadata"]["name"]): _owner(replica_set)
            for replica_set in self.all_of("replicasets", namespace)
            if "ownerReferences" in replica_set["metadata"]
        }
        counts: Counter[str] = Counter()
        for pod in self._pods(namespace):
            if not _is_running(pod):
                continue
            owner = _owner(pod)
            kind, name = owners.get(owner, owner)
            counts[f"{kind}/{name}"] += (
                architectures is None or of_node.get(pod["spec"]["nodeName"]) in architectures
            )
        return dict(counts)

    def clear(self) -> None:
        """Removes every node and everything that tests made, so that the next test starts empty."""
        # One kubectl, for the pods: it costs as much as dozens of requests. Pods go at once: the simulated
        # kubelets that would see them off go with the nodes.
        self._delete_all_of(
            *("deployments", "statefulsets", "daemonsets", "replicasets", "cronjobs", "jobs"),
            *("horizontalpodautoscalers", "poddisruptionbudgets"),
        )
        flags = ("--all", "--all-namespaces", "--force", "--grace-period=0", "--wait=false")
        self.lab.kubectl("delete", "pods", *flags)
        self._delete_all_of("nodes")
        system = {"default", "kube-node-lease", "kube-public", "kube-system"}
        for space in self.all_of("namespaces"):
            if space["metadata"]["name"] not in system and "deletionTimestamp" not in space["metadata"]:
                self._api.delete(f"/api/v1/namespaces/{space['metadata']['name']}")

    def _delete_all_of(self, *kinds: str) -> None:
        """Delete all objects of some of `COLLECTIONS`, of all namespaces."""
        for kind in kinds:
            _, path = COLLECTIONS[kind]
            for item in self._api.list(path.format("")):
                namespace, name = item["metadata"].get("namespace"), item["metadata"]["name"]
                self._api.delete(f"{path.format(f'namespaces/{namespace}/' if namespace else '')}/{name}")


def _well_known(name: str, architecture: str, zone: str) -> dict[str, str]:
    """The labels that the kubelet and the cloud set on every Linux node."""
    of_kubelet = {"arch": architecture, "os": "linux"}
    kind, region = INSTANCE_TYPES[architecture], zone[:-1]
    return {
        "kubernetes.io/hostname": name,
        **{f"kubernetes.io/{key}": value for key, value in of_kubelet.items()},
        **{f"beta.kubernetes.io/{key}": value for key, value in of_kubelet.items()},
        "node.kubernetes.io/instance-type": kind,
        "beta.kubernetes.io/instance-type": kind,
        "topology.kubernetes.io/zone": zone,
        "topology.kubernetes.io/region": region,
        "failure-domain.beta.kubernetes.io/zone": zone,
        "failure-domain.beta.kubernetes.io/region": region,
    }


def wait_for(what: Callable[[], Any], seconds: float = 60) -> Any:
    """Waits until something is so; returns it."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return found


@contextmanager
def meanwhile(look: Callable[[], None], pause: float = 0) -> Iterator[None]:
    """Calls something again and again in a thread, with a pause after each call, until the block ends."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            look()
            over.wait(pause)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def reached_as_eks(lab: Lab) -> dict[str, Any]:
    """How the lab's API server is reached, as EKS describes a cluster."""
    kubeconfig = yaml.safe_load(lab.kubeconfig.read_text())
    (reach,) = (one["cluster"] for one in kubeconfig["clusters"] if one["name"] == CONTEXT)
    return {
        "endpoint": reach["server"],
        "certificateAuthority": {"data": reach["certificate-authority-data"]},
    }


def _name(item: Manifest) -> str:
    return f"{item['kind']}/{item['metadata']['name']}"


def _owner(item: Manifest) -> tuple[str, str]:
    for owner in item["metadata"].get("ownerReferences", []):
        if owner.get("controller"):
            return owner["kind"], owner["name"]
    return "Pod", item["metadata"]["name"]


def _is_running(pod: Manifest) -> bool:
    if "deletionTimestamp" in pod["metadata"]:
        return False
    return pod["status"].get("phase") == "Running" and bool(pod["spec"].get("nodeName"))


def _is_rolled_out(workload: Manifest) -> bool:
    status = workload.get("status", {})
    if status.get("observedGeneration") != workload["metadata"]["generation"]:
        return False
    if workload["kind"] == "DaemonSet":
        wanted = status.get("desiredNumberScheduled", 0)
        return bool(wanted == status.get("updatedNumberScheduled", 0) == status.get("numberReady", 0))
    wanted = workload["spec"].get("replicas", 1)
    counts = [status.get(key, 0) for key in ("replicas", "updatedReplicas", "readyReplicas")]
    return all(count == wanted for count in counts)


# --- the stack ------------------------------------------------------------------------------


class Stack(LabStack):
    """A stack of the checkout's program, as a test configures and runs it."""

    def __init__(self, lab: Lab, folder: Path, name: str) -> None:
        """Make the stack; errors as ``LabStack``."""
        super().__init__(lab, folder, name)
        # Their images are names, unless a test says otherwise.
        self._values: dict[str, Any] = {**ON_THE_LAB, "images": {"check": False}}
        self._runs = 0
        self.write(self._values)

    def config(self, values: Mapping[str, Any]) -> Stack:
        """Sets configuration keys of archshift; None takes one out."""
        merged = {**self._values, **values}
        self._values = {key: value for key, value in merged.items() if value is not None}
        self.write(self._values)
        return self

    def up(self, *flags: str, timeout: float = 600) -> Result:
        """`pulumi up` without asking, and without a preview of its own: that is `preview()`."""
        return self._run("up", "--yes", "--skip-preview", *flags, timeout=timeout)

    def preview(self, *flags: str, timeout: float = 600) -> Result:
        """`pulumi preview`."""
        return self._run("preview", *flags, timeout=timeout)

    def refresh(self, *flags: str, timeout: float = 600) -> Result:
        """`pulumi refresh`: whether what is differs from what was last set."""
        return self._run("refresh", "--yes", "--skip-preview", *flags, timeout=timeout)

    def destroy(self, *flags: str, timeout: float = 600) -> Result:
        """`pulumi destroy`."""
        return self._run("destroy", "--yes", "--skip-preview", *flags, timeout=timeout)

    def preview_destroy(self, *flags: str, timeout: float = 600) -> Result:
        """The preview of `pulumi destroy`."""
        return self._run("destroy", "--preview-only", *flags, timeout=timeout)

    def begin_up(self, *flags: str) -> subprocess.Popen[str]:
        """`pulumi up` that is not waited for, for tests that end it in the middle."""
        events = f"--event-log={self._log().with_suffix('.events.jsonl')}"
        return subprocess.Popen(
            self.command("up", "--yes", "--skip-preview", *flags, events),
            cwd=PROJECT,
            env=engine_environment(self.lab, self.name),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def outputs(self) -> dict[str, Any]:
        shown = self.lab.run("pulumi", "stack", "output", "--json", f"--stack={self.name}", cwd=self.folder)
        assert shown.returncode == 0, shown.stderr
        outputs: dict[str, Any] = json.loads(shown.stdout)
        return outputs

    def begin_archshift(self, *arguments: str) -> subprocess.Popen[str]:
        """The archshift command that is not waited for, for tests that end it in the middle."""
        return subprocess.Popen(
            self.archshift_command(*arguments),
            cwd=PROJECT,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def remove(self) -> None:
        """Forgets the stack, whatever it still holds; the engine would take half a second for these files."""
        state = self.lab.directory / "state"
        for path in [*state.rglob(self.name), *state.rglob(f"{self.name}.json*")]:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def _log(self) -> Path:
        self._runs += 1
        return self.folder / f"run-{self._runs}.log"

    def _run(self, *arguments: str, timeout: float) -> Result:
        command = self.arguments(*arguments)
        return run_engine(self.lab, command, stack=self.name, log=self._log(), timeout=timeout)
