"""`archshift doctor` on the real engine, API server, registry and Prometheus."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.control_plane import CONTEXT, Lab
from tests.gate.prometheus import Server
from tests.gate.weeks import FakeWeeks, Pods
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.accounts import ACCOUNT, role
from tests.lab.lab_helpers import Cluster, Stack, deployment, node_groups

CONTROLLERS = ["deployments", "statefulsets", "daemonsets"]


def weeks(**words: Any) -> FakeWeeks:
    """An hour of a shop, up to some minutes from now."""
    begin = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
    found = FakeWeeks([(begin, begin + timedelta(hours=2))], **words)
    found.run("shop/Deployment/web", begin, begin + timedelta(hours=2), x86=Pods(2), graviton=Pods(2))
    return found


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prometheus that has all the gate asks for."""
    with weeks().serve(tmp_path_factory.mktemp("fine")) as server:
        yield server


@pytest.fixture(scope="module")
def prometheus_without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prometheus whose kube-state-metrics may not export the nodes' labels."""
    with weeks(arch_label=False).serve(tmp_path_factory.mktemp("no-labels")) as server:
        yield server


@pytest.fixture
def ready(
    cluster: Cluster,
    stack: Stack,
    namespace: str,
    registry: Registry,
    push: Pusher,
    prometheus: Server,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Stack:
    """A stack to which nothing is missing."""
    push.image("doctor/web", "1.0.0", "linux/amd64")
    manifest = deployment("web", 2, namespace)
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = f"{registry.host}/doctor/web:1.0.0"
    cluster.nodes("amd64", 1)
    cluster.apply(manifest)
    cluster.wait_until_settled(namespace)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stack.config(
        {
            "arm_ratio": "0.2",
            "node_groups": node_groups(),
            "workloads": {"namespaces": [namespace]},
            "images": {"registries": {registry.host: {"plain_http": True}}},
            "gate": {"prometheus": prometheus.url},
        }
    )
    return stack


def findings(stack: Stack, **words: Any) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and check to finding."""
    done = stack.archshift("doctor", "--json", f"--stack={stack.name}", **words)
    assert done.stderr == ""
    return done.returncode, {one["check"]: one for one in json.loads(done.stdout)["findings"]}


def test_a_stack_to_which_nothing_is_missing_is_fine(
    ready: Stack, cluster: Cluster, registry: Registry
) -> None:
    """Every check is made, with the engine, the API server, the registry and Prometheus that a user has."""
    code, found = findings(ready)
    assert {name: one["outcome"] for name, one in found.items()} == {
        "engine": "ok",
        "stack": "ok",
        "plugin kubernetes": "ok",
        "cluster": "ok",
        "placement": "ok",
        "rights: plan and status": "ok",
        "rights: pulumi up": "ok",
        "rights: rebalance": "ok",
        "rights: deletion costs": "ok",
        "rights: one at a time": "ok",
        "rights: failed canaries": "ok",
        "rights: pull secrets": "ok",
        "rights: simulated nodes": "ok",
        "rights: drain": "ok",
        "pods": "ok",
        f"registry {registry.host}": "ok",
        "Prometheus": "ok",
        "metrics of nodes": "ok",
        "metrics of pods": "ok",
        "metrics of containers": "ok",
        "metrics of applications: latency": "ok",
        "metrics of applications: requests": "ok",
    }, found
    assert code == 0
    server = yaml.safe_load(cluster.lab.kubeconfig.read_text())["clusters"][0]["cluster"]["server"]
    assert found["cluster"]["message"].startswith(f"{server} is Kubernetes v1.")
    table = ready.archshift("doctor", f"--stack={ready.name}")
    assert table.returncode == 0
    assert table.stdout.splitlines()[-1] == f"{len(found)} checks: all ok"
    assert all(line == line.rstrip() for line in table.stdout.splitlines())


def test_what_is_missing_is_named_with_the_way_out(
    ready: Stack, registry: Registry, prometheus_without: Server, cluster: Cluster, namespace: str
) -> None:
    """kube-state-metrics without the nodes' label, an image that is not there: each with what to do."""
    manifest = deployment("gone", 1, namespace)
    manifest["spec"]["template"]["spec"]["containers"][0]["image"] = f"{registry.host}/doctor/gone:1.0.0"
    cluster.apply(manifest)
    ready.config({"gate": {"prometheus": prometheus_without.url}})
    code, found = findings(ready)
    assert code == 3
    nodes = found["metrics of nodes"]
    assert nodes["outcome"] == "problem"
    assert nodes["message"].startswith("the architecture of 4 of 4 nodes is unknown: ")
    assert "--metric-labels-allowlist=nodes=[kubernetes.io/arch]" in nodes["fix"]
    image = found[f"registry {registry.host}"]
    assert image["outcome"] == "warning"
    assert image["message"].startswith(f"{registry.host}/doctor/gone:1.0.0 cannot be read: ")


@pytest.fixture
def account(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Path]:
    """A kubeconfig of a ServiceAccount that may do all, but patch no StatefulSet and read no secret."""
    everything = ["get", "list", "watch", "patch", "create", "delete"]
    read = [
        {"apiGroups": ["apps"], "resources": [*CONTROLLERS, "replicasets"], "verbs": ["get", "list"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": ["get", "list"]},
        {"apiGroups": ["autoscaling"], "resources": ["horizontalpodautoscalers"], "verbs": ["list"]},
        {"apiGroups": ["policy"], "resources": ["poddisruptionbudgets"], "verbs": ["list"]},
        {"apiGroups": ["node.k8s.io"], "resources": ["runtimeclasses"], "verbs": ["list"]},
        {"apiGroups": ["storage.k8s.io"], "resources": ["storageclasses", "csidrivers"], "verbs": ["list"]},
        {
            "apiGroups": [""],
            "resources": ["limitranges", "persistentvolumeclaims", "persistentvolumes"],
            "verbs": ["list"],
        },
        {"apiGroups": [""], "resources": ["nodes", "pods", "pods/eviction"], "verbs": everything},
        {"apiGroups": [""], "resources": ["serviceaccounts", "replicationcontrollers"], "verbs": ["list"]},
        # The identity of the cluster is that of kube-system.
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
    ]
    # One namespace alone: the answer for the whole cluster is no, for this one yes.
    change = [
        {"apiGroups": ["apps"], "resources": ["deployments", "daemonsets"], "verbs": everything},
        {"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get", "list"]},
        {"apiGroups": ["batch"], "resources": ["cronjobs"], "verbs": everything},
    ]
    name = f"{ACCOUNT}-{namespace}"
    cluster.apply(
        [
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": ACCOUNT, "namespace": "default"},
            },
            *role("ClusterRole", name, None, read),
            *role("Role", name, namespace, change),
        ]
    )
    token = cluster.lab.kubectl("create", "token", ACCOUNT, "--namespace=default").strip()
    config = yaml.safe_load(cluster.lab.kubeconfig.read_text())
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    file = tmp_path / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    yield file
    cluster.lab.kubectl("delete", f"clusterrole/{name}", f"clusterrolebinding/{name}")
    cluster.lab.kubectl("delete", "serviceaccount", ACCOUNT, "--namespace=default")


def test_a_missing_right_is_named_by_verb_resource_and_namespace(
    ready: Stack, account: Path, namespace: str
) -> None:
    """What the API server says of a ServiceAccount's token, also where only a namespace's role allows it."""
    code, found = findings(ready, environment={"KUBECONFIG": str(account)})
    assert code == 3
    assert f"you are system:serviceaccount:default:{ACCOUNT}" in found["cluster"]["message"]
    rights = {name: one["outcome"] for name, one in found.items() if name.startswith("rights: ")}
    assert rights == {
        "rights: plan and status": "ok",
        "rights: pulumi up": "problem",
        "rights: rebalance": "ok",
        "rights: deletion costs": "ok",
        "rights: one at a time": "warning",
        "rights: failed canaries": "warning",
        "rights: pull secrets": "warning",
        "rights: simulated nodes": "ok",
        "rights: drain": "ok",
    }, found
    step = found["rights: pulumi up"]
    assert step["message"].startswith(f"not allowed: patch statefulsets.apps in {namespace}; pulumi up fails")
    assert "docs/permissions.md" in step["fix"]
    assert found["rights: pull secrets"]["message"].startswith(f"not allowed: get secrets in {namespace}; ")


def test_a_token_that_has_ended_stops_no_other_check(ready: Stack, account: Path, prometheus: Server) -> None:
    """The cluster refuses the credentials; Prometheus is asked nevertheless."""
    config = yaml.safe_load(account.read_text())
    for one in config["users"]:
        one["user"]["token"] = "ended"
    account.write_text(yaml.safe_dump(config))
    code, found = findings(ready, environment={"KUBECONFIG": str(account)})
    assert code == 3
    assert found["cluster"]["outcome"] == "problem"
    assert "refuses the credentials" in found["cluster"]["message"]
    assert found["cluster"]["fix"] == "log in again or check the kubeconfig's user"
    assert found["Prometheus"]["outcome"] == "ok"
    assert prometheus.url in found["Prometheus"]["message"]


def test_without_the_engine_the_rest_is_unknown(ready: Stack, control_plane: Lab, tmp_path: Path) -> None:
    """No settings, no idea which cluster is meant: not ok, and not guessed."""
    empty = tmp_path / "empty"
    empty.mkdir()
    code, found = findings(ready, environment={"PATH": str(empty)})
    assert code == 3
    assert found["engine"] == {
        "check": "engine",
        "outcome": "problem",
        "message": "pulumi is not on PATH",
        "fix": "install the Pulumi CLI, or run inside `make lab-shell`",
    }
    assert found["stack"]["outcome"] == "problem"
    assert found["cluster"]["outcome"] == "unknown"
    assert CONTEXT in control_plane.kubeconfig.read_text()
