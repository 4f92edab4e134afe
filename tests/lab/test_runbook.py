"""The runbook is walked: each of its commands in order, in one lab, and between them what it says to edit.

What a block is marked to need (AWS, Docker) is not here: of such a one the lines that archshift answers are
run, and the rest is read by a shell that runs nothing.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from lab.control_plane import PROJECT, REGISTRY_HOST, Lab
from lab.engine import engine_environment
from lab.images import push_images
from tests.documents import DOCS, Commands, commands
from tests.lab.guard_matrix import with_image
from tests.lab.lab_helpers import Cluster, Stack, deployment, node_groups, stateful_set

pytestmark = pytest.mark.timeout(1500)

BOTH = f"{REGISTRY_HOST}/storefront:2.31.0"
# How a command ends here, where that is not with 0: one image is for x86 alone, and no step has soaked.
ENDS: Mapping[str, int] = {
    "archshift audit --from-cluster": 1,
    "archshift audit --from-cluster --deep": 1,
    "archshift gate --output": 3,
}
STEPS = [
    "1. Inspect",
    "2. Build",
    "3. Add nodes",
    "4. Deploy",
    "5. Test",
    "6. Shift",
    "7. Architecture-specific dependencies",
    "8. Monitor",
    "9. Decommission",
]


@dataclass
class Walk:
    """Somebody with a checkout of the project and the runbook in hand."""

    cluster: Cluster
    stack: Stack
    namespace: str

    def run(self, line: str, ends: int = 0) -> str:
        """Run one command as the shell would; returns what it printed."""
        name = {"NAME": "Walk", "EMAIL": "walk@shop.example"}
        who = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in name.items()}
        done = subprocess.run(
            ["sh", "-euc", line],
            cwd=self.stack.folder,
            # Whoever reads the runbook answers the engine's question with yes.
            env={
                **engine_environment(self.cluster.lab, self.stack.name),
                **who,
                "PULUMI_SKIP_CONFIRMATIONS": "true",
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        said = f"$ {line}\n{done.stdout}{done.stderr}"
        assert done.returncode == ends, said
        assert "Traceback" not in said, said
        print(said, flush=True)
        return done.stdout

    def edit(self, **values: Any) -> None:
        """Edit the stack's file, and commit it; None takes a key out."""
        file = self.stack.config_file
        content = yaml.safe_load(file.read_text())
        for key, value in values.items():
            content["config"].pop(f"archshift:{key}", None)
            if value is not None:
                content["config"][f"archshift:{key}"] = value
        file.write_text(yaml.safe_dump(content, sort_keys=False))
        self.commit()

    def commit(self) -> None:
        """Commit the stack's file as it is."""
        self.run(f"git add {self.stack.config_file.name} && git commit --quiet --allow-empty -m edited")

    def block(self, block: Commands) -> None:
        """Run a block, or what a lab can of it."""
        if block.needs:
            self.run(f"sh -n <<'END'\n{chr(10).join(block.lines)}\nEND")
        for line in block.lines:
            if not block.needs:
                self.run(line, ENDS.get(line, 0))
            elif line.startswith("archshift "):
                self.run(line.replace("registry.example/app:1.4.0", BOTH))


@pytest.fixture
def walk(control_plane: Lab, cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Walk]:
    """Three x86 nodes, two workloads for both architectures and one for x86, and a copy of the project."""
    parent = PROJECT / ".lab"
    parent.mkdir(exist_ok=True)
    with (
        pytest.MonkeyPatch.context() as patch,
        # Inside the checkout, so that the policy pack finds the same Python environment.
        tempfile.TemporaryDirectory(prefix="walk-", dir=parent) as folder,
    ):
        environment = {**control_plane.process_environment(), "XDG_CACHE_HOME": str(tmp_path / "cache")}
        patch.setattr(control_plane, "process_environment", lambda: environment)
        push_images(control_plane, print, again=True)
        stack = Stack(control_plane, Path(folder), f"test-{uuid.uuid4().hex[:8]}")
        shutil.copy(PROJECT / "__main__.py", folder)
        shutil.copytree(DOCS / "examples" / "go", Path(folder) / "docs" / "examples" / "go")
        (Path(folder) / "policies").symlink_to(PROJECT / "policies")
        made = Walk(cluster, stack, namespace)
        made.run("git init --quiet")
        made.edit(
            images=None,
            arm_ratio="0.0",
            node_groups={"x86": node_groups(x86=3)["x86"]},
            workloads={"namespaces": [namespace]},
        )
        made.run("pulumi up")
        old = f"{REGISTRY_HOST}/reviews:2.2.5"
        cluster.apply(with_image(deployment("web", 5, namespace), BOTH))
        cluster.apply(with_image(stateful_set("queue", 2, namespace), BOTH))
        cluster.apply(with_image(deployment("reviews", 2, namespace), old))
        cluster.wait_until_settled(namespace)
        yield made
        stack.remove()


def test_the_runbook_is_walked_from_its_first_command_to_its_last(walk: Walk) -> None:
    """Every block runs and ends as it says; after the last one x86 is gone and all pods are on Graviton."""
    blocks = list(commands("runbook.md"))
    assert list(dict.fromkeys(block.heading for block in blocks)) == STEPS
    assert [block.needs for block in blocks if block.needs] == ["aws", "docker"]
    seen: dict[str, int] = {}
    for block in blocks:
        seen[block.heading] = seen.get(block.heading, 0) + 1
        before(walk, block.heading, seen[block.heading])
        walk.block(block)
        after(walk, block, seen[block.heading])
    nodes = walk.cluster.all_of("nodes")
    assert {node["metadata"]["labels"]["kubernetes.io/arch"] for node in nodes} == {"arm64"}
    walk.cluster.wait_until_settled(walk.namespace)
    assert walk.cluster.graviton_counts(walk.namespace) == {
        "Deployment/web": 5,
        "StatefulSet/queue": 2,
        "Deployment/reviews": 2,
    }


def before(walk: Walk, heading: str, number: int) -> None:
    """Edit the stack's file as the text above a block says."""
    groups = node_groups(x86=3, graviton=3)
    match heading, number:
        case "3. Add nodes", 1:
            walk.edit(node_groups=groups)
        case "5. Test", 1:
            tested = ("Deployment/web", "StatefulSet/queue", "Deployment/reviews")
            command = {"command": ["/app", "--check"]}
            walk.edit(arm64_tests={"workloads": {f"{walk.namespace}/{one}": command for one in tested}})
        case "6. Shift", 2:
            walk.edit(ramp={"start": "2026-03-02", "since": "2026-03-02T09:00:00+00:00"})
        case "8. Monitor", 1:
            walk.edit(gate={"prometheus": "http://127.0.0.1:9"})
        case "9. Decommission", 3:
            walk.edit(node_groups={**groups, "x86": {**groups["x86"], "size": 0}})
        case "9. Decommission", 4:
            walk.edit(node_groups={"graviton": groups["graviton"]})


def after(walk: Walk, block: Commands, number: int) -> None:
    """Look at what came of it, and go on with what the text says to repeat."""
    observed = walk.cluster.graviton_counts(walk.namespace)
    # Which of the two goes first is in their names, and so in the namespace's.
    movable = observed["Deployment/web"] + observed["StatefulSet/queue"]
    match block.heading, number:
        case "4. Deploy", 1:
            assert set(observed.values()) == {0}
        case "6. Shift", 1:
            assert movable == 1
            walk.commit()
        case "6. Shift", 2:
            assert movable == 4
            for ratio in ("0.8", "1.0"):
                walk.run(f"pulumi config set arm_ratio {ratio}")
                walk.run("pulumi up --policy-pack policies")
            walk.commit()
            assert walk.cluster.graviton_counts(walk.namespace)["Deployment/reviews"] == 0
        case "7. Architecture-specific dependencies", 1:
            image = f"app={REGISTRY_HOST}/reviews:2.3.0"
            walk.run(f"kubectl set image deployment/reviews --namespace {walk.namespace} {image}")
            walk.cluster.wait_until_settled(walk.namespace)
            walk.run("pulumi up")
        case "9. Decommission", 3:
            assert walk.cluster.x86_nodes() == {}
