"""The documented agent on a real API server: admitted where `restricted` is enforced, on every node of both
architectures, and proven to the image audit.
"""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lab.control_plane import LabError
from lab.engine import RUNTIME
from tests.documents import example
from tests.images.build import Pusher, elf, layer
from tests.images.servers import Registry
from tests.lab.lab_helpers import Cluster, Manifest, Stack, daemon_set

PROJECT_FILE = {"name": "agents", "runtime": RUNTIME}


class Program:
    """A Pulumi program of a user's own, in a folder of its own."""

    def __init__(self, cluster: Cluster, folder: Path, text: str) -> None:
        self._lab, self._folder = cluster.lab, folder
        folder.mkdir()
        (folder / "Pulumi.yaml").write_text(yaml.safe_dump(PROJECT_FILE))
        (folder / "__main__.py").write_text(text)
        self.stack = f"agents-{uuid.uuid4().hex[:8]}"
        self.pulumi("stack", "init", self.stack)

    def pulumi(self, *arguments: str) -> str:
        """Runs the engine; what it printed."""
        done = self._lab.run(
            "pulumi",
            *arguments,
            "--non-interactive",
            cwd=self._folder,
            timeout=300,
            environment={"PULUMI_STACK": self.stack},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def restricted(cluster: Cluster) -> str:
    """A namespace, called as in the documentation, that enforces `restricted`."""
    labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "agents", "labels": labels}})
    return "agents"


@pytest.fixture
def images(registry: Registry, push: Pusher) -> Registry:
    """The images of the documented example: a shell for both architectures, and no program at all."""
    for repository, tag, path in (("curl", "8.17.0", "bin/sh"), ("static", "1.0.0", "etc/none")):
        built = [
            push.image(repository, platform=f"linux/{machine}", layers=[layer({path: elf(machine)})])
            for machine in ("amd64", "arm64")
        ]
        push.index(repository, tag, built)
    return registry


@pytest.fixture
def program(cluster: Cluster, images: Registry, tmp_path: Path) -> Iterator[Program]:
    """The example of the documentation, with the address of a registry that is there."""
    text = example("binaries.md", "python").replace("registry.example", images.host)
    made = Program(cluster, tmp_path / "agents", text)
    yield made
    made.pulumi("stack", "rm", "--yes", "--force")


def test_the_documented_agent_runs_on_both_architectures(
    cluster: Cluster, stack: Stack, restricted: str, program: Program, images: Registry
) -> None:
    """`restricted` refuses another pod and not this one; each Linux node of the two architectures has
    one, tainted ones too, and no other node; a second `up` changes nothing; the deep audit says that it
    runs on arm64, which it does not of the same pod with a script that nobody knows.
    """
    cluster.nodes("amd64", 2)
    cluster.nodes("arm64", 2, taints=[{"key": "arch", "value": "arm64", "effect": "NoSchedule"}])
    cluster.nodes("arm64", 1, prefix="windows", labels={"kubernetes.io/os": "windows"})
    cluster.nodes("arm64", 1, prefix="odd", labels={"kubernetes.io/arch": "riscv64"})
    bare: Manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "bare", "namespace": restricted},
        "spec": {"containers": [{"name": "bare", "image": "registry.example/bare:1"}]},
    }
    with pytest.raises(LabError, match='violates PodSecurity "restricted'):
        cluster.apply(bare)

    output = program.pulumi("up", "--yes", "--skip-preview")
    assert "would violate PodSecurity" not in output
    cluster.wait_until_settled(restricted)
    pods = cluster.all_of("pods", restricted)
    assert sorted(pod["spec"]["nodeName"] for pod in pods) == ["amd64-0", "amd64-1", "arm64-0", "arm64-1"]
    assert "3 unchanged" in program.pulumi("up", "--yes", "--skip-preview")

    live = cluster.get("daemonset", "node-agent", restricted)
    spec = live["spec"]["template"]["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["volumes"] == [{"name": "node-agent", "emptyDir": {"sizeLimit": "1Gi"}}]
    (main,) = spec["containers"]
    assert main["command"] == ["/opt/fetched/node-agent", "--listen=:9100"]
    assert main["volumeMounts"] == [{"name": "node-agent", "mountPath": "/opt/fetched", "readOnly": True}]
    for container in (main, *spec["initContainers"]):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
            "runAsGroup": 65532,
            "runAsNonRoot": True,
            "runAsUser": 65532,
            "seccompProfile": {"type": "RuntimeDefault"},
        }

    stranger = daemon_set("stranger", "default", **spec)
    stranger["spec"]["template"]["spec"]["initContainers"][0]["command"][2] += "\ntrue"
    cluster.apply(stranger)
    stack.config(
        {
            "node_groups": {},
            "arm_ratio": "0.2",
            "images": {"deep": True, "registries": {images.host: {"plain_http": True}}},
        }
    )
    audit = stack.archshift("audit", "--from-cluster", "--deep", "--json")
    found = {row["workload"]: row for row in json.loads(audit.stdout)["workloads"]}
    assert found["agents/DaemonSet/node-agent"]["verdict"] == "multi-arch", found
    unknown = found["default/DaemonSet/stranger"]
    assert unknown["verdict"] == "unknown"
    assert "/opt/fetched/node-agent is not in the image" in unknown["blocking"][0]["reason"]
    program.pulumi("destroy", "--yes", "--skip-preview")
    assert cluster.all_of("daemonsets", restricted) == []
