"""Writes a large fleet to a lab: objects with the status that controllers would set.

The caller must stop the controllers, the scheduler and kwok first, so that nothing rolls out. Then 50,000
pods take minutes and not hours, and the benchmarks still read real objects from a real API server.
"""

import json
import ssl
import uuid
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import yaml

from archshift.nodes.groups import Node, NodeGroup
from archshift.nodes.instance_types import INSTANCE_TYPES
from lab.control_plane import REGISTRY_HOST, Lab, LabError
from lab.oci import Pusher

X86_TYPE, GRAVITON_TYPE = "m6i.2xlarge", "m7g.2xlarge"
ZONES: Final = ("eu-west-1a", "eu-west-1b", "eu-west-1c")
DAEMONSETS: Final = 5
"""DaemonSets; with 25 pods on a node, they have a fifth of all pods."""
_TEAM = 50
"""Workloads per namespace."""
_IMAGE_USERS = 5
"""Workloads per image."""
_GRAVITON = 0.2
"""Share of pods on Graviton, as at the first step."""
_BATCH = 100
"""Objects per transaction; etcd allows 128."""
_DIGEST = "sha256:" + "0" * 64
_STARTED = "2026-11-01T00:00:00Z"


@dataclass(frozen=True)
class Size:
    """How large a fleet is."""

    workloads: int
    pods: int
    nodes: int

    def __str__(self) -> str:
        return f"{self.workloads:,} / {self.pods:,} / {self.nodes:,}"

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        """The node groups for the stack's configuration."""
        half = self.nodes // 2
        return {
            name: {"instance_type": kind, "size": half, "zones": [*ZONES]}
            for name, kind in (("x86", X86_TYPE), ("graviton", GRAVITON_TYPE))
        }

    @property
    def images(self) -> int:
        """The number of images of its workloads."""
        return self.workloads // _IMAGE_USERS


@dataclass(frozen=True)
class _Object:
    """An object to write: its body to create, and its status and spec to patch."""

    stored: str
    collection: str
    body: Mapping[str, Any]
    status: Mapping[str, Any] | None = None
    spec: Mapping[str, Any] | None = None

    @property
    def form(self) -> str:
        """Equal for objects that differ only in their values."""
        owner = self.body["metadata"].get("ownerReferences", [{}])[0].get("kind", "")
        return f"{self.stored} {owner}"


def push_images(lab: Lab, numbers: Iterable[int]) -> None:
    """Push these images; every twentieth is only for amd64."""
    push = Pusher(f"http://{lab.registry}")
    for number in numbers:
        repository = f"team/app-{number}"
        own = {"Labels": {"number": str(number)}}
        sides = ("amd64",) if number % 20 == 7 else ("amd64", "arm64")
        children = [push.image(repository, platform=f"linux/{side}", config=own) for side in sides]
        push.index(repository, "1.0.0", children)


def grow(lab: Lab, before: Size | None, size: Size) -> None:
    """Write the objects that a fleet of this size has in addition to a smaller one."""
    before = before or Size(0, 0, 0)
    nodes = _nodes(size)
    fresh = {name for name in nodes if name not in _nodes(before)}
    write = _Writer(lab)
    namespaces = range(-(-before.workloads // _TEAM), -(-size.workloads // _TEAM))
    write(
        _Object("namespaces", "/api/v1/namespaces", {"metadata": {"name": f"team-{number}"}})
        for number in namespaces
    )
    write(_node(node) for name, node in nodes.items() if name in fresh)
    if not before.nodes:
        write(_daemonset(number) for number in range(DAEMONSETS))
    write(
        _daemonset_pod(number, node)
        for name, node in nodes.items()
        if name in fresh
        for number in range(DAEMONSETS)
    )
    placer = _Placer(list(nodes.values()))
    each = _replicas(size)
    new = range(before.workloads, size.workloads)
    write(item for index in new for item in _workload(index, each(index)))
    write(pod for index in new for pod in _pods(index, each(index), placer))


def _replicas(size: Size) -> Callable[[int], int]:
    """Return the number of pods of a workload: 1 to 15, on average 8."""
    mean = (size.pods - DAEMONSETS * size.nodes) / size.workloads
    return lambda index: max(1, round(mean + (index % 15 - 7) * mean / 8))


def _nodes(size: Size) -> dict[str, Node]:
    groups = [
        NodeGroup(
            name=name, instance_type=INSTANCE_TYPES[group["instance_type"]], size=group["size"], zones=ZONES
        )
        for name, group in size.groups.items()
    ]
    return {node.name: node for group in groups for node in group.nodes()}


class _Placer:
    """Assigns nodes to pods, in turn on each side."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._sides = {
            side: [node.name for node in nodes if node.architecture == side] for side in ("amd64", "arm64")
        }
        self._given = 0

    def node(self, index: int, replica: int, replicas: int) -> str:
        """Return the node of a pod of a workload."""
        # The same share of each workload, except workloads with an image only for amd64.
        on_graviton = _image(index) % 20 != 7 and replica < round(replicas * _GRAVITON)
        side = self._sides["arm64" if on_graviton else "amd64"]
        self._given += 1
        return side[self._given % len(side)]


def _image(index: int) -> int:
    return index // _IMAGE_USERS


def _node(node: Node) -> _Object:
    room = {"cpu": f"{node.millicpu}m", "memory": str(node.memory), "pods": str(node.pods)}
    kinds = ("MemoryPressure", "DiskPressure", "PIDPressure", "Ready")
    conditions = [
        {
            "type": kind,
            "status": "True" if kind == "Ready" else "False",
            "reason": "KubeletIs",
            "message": "as it should be",
            "lastHeartbeatTime": _STARTED,
            "lastTransitionTime": _STARTED,
        }
        for kind in kinds
    ]
    # The list of images is the largest part of a real node.
    images = [
        {"names": [f"{REGISTRY_HOST}/team/app-{number}@{_DIGEST}"], "sizeBytes": 80_000_000}
        for number in range(40)
    ]
    return _Object(
        "minions",
        "/api/v1/nodes",
        {
            "metadata": {"name": node.name, "labels": {**node.labels}},
            "status": {"capacity": room, "allocatable": room, "conditions": conditions, "images": images},
        },
        # The API server creates a node with a not-ready taint, which a controller would remove.
        spec={"taints": []},
    )


def _pod_spec(name: str, image: str, cpu: str) -> dict[str, Any]:
    probe = {"httpGet": {"path": "/healthz", "port": 8080}, "periodSeconds": 10}
    return {
        "containers": [
            {
                "name": name,
                "image": image,
                "ports": [{"containerPort": 8080, "name": "http"}],
                "env": [{"name": f"SETTING_{number}", "value": f"value-{number}"} for number in range(12)],
                "resources": {"requests": {"cpu": cpu, "memory": "256Mi"}, "limits": {"memory": "512Mi"}},
                "readinessProbe": probe,
                "livenessProbe": probe,
                "volumeMounts": [{"name": "config", "mountPath": "/etc/app"}],
            }
        ],
        "volumes": [{"name": "config", "emptyDir": {}}],
    }


def _kind(index: int) -> str:
    return "StatefulSet" if index % 10 == 9 else "Deployment"


def _where(index: int) -> tuple[str, str]:
    return f"team-{index // _TEAM}", f"web-{index}"


def _spec(index: int) -> dict[str, Any]:
    return _pod_spec("app", f"{REGISTRY_HOST}/team/app-{_image(index)}:1.0.0", "100m")


def _workload(index: int, replicas: int) -> Iterator[_Object]:
    namespace, name = _where(index)
    kind, labels = _kind(index), {"app": name, "team": namespace, "app.kubernetes.io/managed-by": "Helm"}
    spec: dict[str, Any] = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": name}},
        "template": {"metadata": {"labels": labels}, "spec": _spec(index)},
    }
    if kind == "StatefulSet":
        spec["serviceName"] = name
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas")
    status = {"observedGeneration": 1, **dict.fromkeys(counts, replicas)}
    meta = {"name": name, "namespace": namespace, "labels": labels}
    group = f"/apis/apps/v1/namespaces/{namespace}"
    yield _Object(f"{kind.lower()}s", f"{group}/{kind.lower()}s", {"metadata": meta, "spec": spec}, status)
    if index % 5 == 0:
        target = {"apiVersion": "apps/v1", "kind": kind, "name": name}
        scaling = {"scaleTargetRef": target, "minReplicas": replicas, "maxReplicas": 2 * replicas}
        yield _Object(
            "horizontalpodautoscalers",
            f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers",
            {"metadata": meta, "spec": scaling},
        )


def _pods(index: int, replicas: int, placer: _Placer) -> Iterator[_Object]:
    namespace, name = _where(index)
    hashed = f"{index:010x}"
    stateful = _kind(index) == "StatefulSet"
    owner = ("StatefulSet", name) if stateful else ("ReplicaSet", f"{name}-{hashed}")
    labels = {"app": name, "team": namespace, "app.kubernetes.io/managed-by": "Helm"}
    labels |= {"controller-revision-hash": hashed} if stateful else {"pod-template-hash": hashed}
    for replica in range(replicas):
        own = f"{name}-{replica}" if stateful else f"{name}-{hashed}-{replica:05x}"
        node = placer.node(index, replica, replicas)
        yield _pod(namespace, own, owner, labels, _spec(index), node)


def _daemonset(number: int) -> _Object:
    labels = {"app": f"agent-{number}"}
    spec = {
        "selector": {"matchLabels": labels},
        "template": {"metadata": {"labels": labels}, "spec": _agent(number)},
    }
    meta = {"name": f"agent-{number}", "namespace": "team-0", "labels": labels}
    return _Object(
        "daemonsets", "/apis/apps/v1/namespaces/team-0/daemonsets", {"metadata": meta, "spec": spec}
    )


def _agent(number: int) -> dict[str, Any]:
    return _pod_spec("agent", f"{REGISTRY_HOST}/team/app-{number}:1.0.0", "50m")


def _daemonset_pod(number: int, node: Node) -> _Object:
    labels = {"app": f"agent-{number}", "controller-revision-hash": "5d4d7d7f8b"}
    owner = ("DaemonSet", f"agent-{number}")
    return _pod("team-0", f"agent-{number}-{node.name}", owner, labels, _agent(number), node.name)


def _pod(
    namespace: str,
    name: str,
    owner: tuple[str, str],
    labels: Mapping[str, str],
    spec: dict[str, Any],
    node: str,
) -> _Object:
    # A real cluster adds a volume with its own name to every pod, for the account's token.
    token = f"kube-api-access-{name[-5:]}"
    (container,) = spec["containers"]
    at = "/var/run/secrets/kubernetes.io/serviceaccount"
    container["volumeMounts"].append({"name": token, "mountPath": at, "readOnly": True})
    sources = [{"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}}]
    spec["volumes"].append({"name": token, "projected": {"sources": sources}})
    spec["serviceAccountName"] = "default"
    kind, owner_name = owner
    reference = {"apiVersion": "apps/v1", "kind": kind, "name": owner_name, "uid": f"of-{owner_name}"}
    types = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
    status = {
        "phase": "Running",
        "conditions": [
            {"type": condition, "status": "True", "lastTransitionTime": _STARTED} for condition in types
        ],
        "hostIP": "10.0.0.1",
        "podIP": "10.1.0.1",
        "startTime": _STARTED,
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "containerID": f"containerd://{name}",
                "ready": True,
                "started": True,
                "restartCount": 0,
                "state": {"running": {"startedAt": _STARTED}},
            }
        ],
    }
    meta = {
        "name": name,
        "namespace": namespace,
        "labels": {**labels},
        "ownerReferences": [{**reference, "controller": True, "blockOwnerDeletion": True}],
    }
    return _Object(
        "pods",
        f"/api/v1/namespaces/{namespace}/pods",
        {"metadata": meta, "spec": {**spec, "nodeName": node}},
        status,
    )


class _Writer:
    """Writes the first object of each form to the API server, and copies of it directly to etcd.

    The API server takes milliseconds for each of two requests per pod, and a fleet has 50,000 pods. The
    copies get the defaults and the managed fields that the API server added to the first object. The API
    server keeps all objects in memory, so it returns the copies like objects that it wrote itself.
    """

    def __init__(self, lab: Lab) -> None:
        """Connect to a lab's servers."""
        config = yaml.safe_load(lab.kubeconfig.read_text())
        keys = lab.directory / "keys"
        trust = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        self._server = httpx.Client(
            base_url=config["clusters"][0]["cluster"]["server"],
            headers={"Authorization": f"Bearer {config['users'][0]['user']['token']}"},
            verify=trust,
            trust_env=False,
            timeout=60,
        )
        trust = ssl.create_default_context(cafile=str(keys / "ca.crt"))
        trust.load_cert_chain(keys / "etcd-client.crt", keys / "etcd-client.key")
        self._database = httpx.Client(base_url=lab.database, verify=trust, trust_env=False, timeout=60)
        self._models: dict[str, Any] = {}

    def __call__(self, items: Iterable[_Object]) -> None:
        """Write the objects.

        Raises:
            LabError: A server refuses one.
        """
        batch: list[tuple[str, bytes]] = []
        for item in items:
            if item.form not in self._models:
                self._models[item.form] = self._create(item)
                continue
            meta, model = item.body["metadata"], self._models[item.form]
            status = {"status": item.status} if item.status else {}
            copied = _merged(model, {**item.body, **status})
            copied["metadata"]["uid"] = str(uuid.uuid4())
            copied["metadata"].pop("resourceVersion", None)
            # The model may be in another namespace, so build the key from the collection.
            place = "/".join(filter(None, (item.stored, meta.get("namespace", ""), meta["name"])))
            batch.append((f"/registry/{place}", json.dumps(copied).encode()))
            if len(batch) == _BATCH:
                self._put(batch)
                batch = []
        self._put(batch)

    def _create(self, item: _Object) -> dict[str, Any]:
        self._send("POST", item.collection, item.body)
        path = f"{item.collection}/{item.body['metadata']['name']}"
        if item.spec:
            self._send("PATCH", path, {"spec": item.spec})
        if item.status:
            self._send("PATCH", f"{path}/status", {"status": item.status})
        return self._send("GET", path)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        content = json.dumps(body) if body is not None else None
        answer = self._server.request(method, path, content=content, headers={"Content-Type": kind})
        if answer.status_code >= 400:
            raise LabError(f"{method} {path}: {answer.text}")
        return dict(answer.json())

    def _put(self, batch: Sequence[tuple[str, bytes]]) -> None:
        if not batch:
            return
        puts = [
            {"requestPut": {"key": b64encode(key.encode()).decode(), "value": b64encode(value).decode()}}
            for key, value in batch
        ]
        answer = self._database.post("/v3/kv/txn", json={"success": puts})
        if answer.status_code >= 400:
            raise LabError(f"etcd: {answer.text}")


def _merged(model: Any, own: Any) -> Any:
    """Return a copy of a model with the values of another object of its form."""
    if isinstance(model, dict) and isinstance(own, Mapping):
        return {**model, **{key: _merged(model.get(key), value) for key, value in own.items()}}
    if isinstance(model, list) and isinstance(own, list) and len(model) == len(own):
        return [_merged(*pair) for pair in zip(model, own, strict=True)]
    return own
