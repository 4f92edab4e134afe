"""What the guard's tests share: a cluster whose x86 nodes somebody tries to take away, and the matrix.

What stopped each attempt is a table in docs/guard.md; `Guarded.record` compares its row, and writes it
with ARCHSHIFT_WRITE_DOCS=1.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lab.control_plane import PROJECT, Lab
from lab.stack import copy_project_file
from tests.images.build import Pusher, elf, layer
from tests.images.servers import Registry, Server
from tests.lab.lab_helpers import Cluster, Manifest, Result, Stack, deployment, node_groups

DOCUMENT = PROJECT / "docs" / "guard.md"
END = "<!-- end of the matrix -->"

# Edits of the program, for `edited`: what somebody would take out of it.
NO_CHECK = ("    guard_x86(cluster_survey, settings, now)\n", "")
NO_PROTECT = ("    stay = protected(cluster_survey, settings, now)\n", "    stay = frozenset()\n")
NO_HOOK = ("    guard = hook if settings.guarded else None\n", "    guard = None\n")
NO_CAPACITY = ("fixed_capacity=fixed_capacity", "fixed_capacity=False")
NO_COMPONENT = ("groups=settings.node_groups,", "groups={},")


def with_image(manifest: Manifest, image: str) -> Manifest:
    """The same workload, running that image."""
    spec = manifest["spec"]
    template = spec.get("template") or spec.get("jobTemplate", {}).get("spec", {}).get("template")
    (template["spec"] if template else spec)["containers"][0]["image"] = image
    return manifest


@dataclass
class Guarded:
    """A cluster with three x86 nodes and two Graviton nodes, made by its stack, and images in a registry."""

    cluster: Cluster
    stack: Stack
    namespace: str
    images: dict[str, str]
    registries: dict[str, Any]
    door: Server
    cache: Path
    edits: Path

    @property
    def groups(self) -> dict[str, Any]:
        groups = node_groups(x86=3, graviton=2)
        groups["x86"]["labels"] = {"pool": "main"}
        return groups

    def restore(self) -> None:
        """Bring configuration and stack back to where every attempt starts."""
        self.stack.config(
            {
                "node_groups": self.groups,
                "workloads": {"namespaces": [self.namespace]},
                "arm_ratio": "1.0",
                "images": {"registries": self.registries},
                "break_glass": None,
            }
        )

    def up(self) -> Result:
        """An update that has to go through."""
        done = self.stack.up()
        assert done.succeeded, done.output
        return done

    def alive(self) -> dict[str, Any]:
        """The x86 nodes with what steers pods to them, and every pod that needs them."""
        nodes = {
            node["metadata"]["name"]: (node["metadata"]["uid"], node["spec"].get("taints"), _labels(node))
            for node in self.cluster.all_of("nodes")
            if node["metadata"]["labels"]["kubernetes.io/arch"] == "amd64"
        }
        pods = {
            pod["metadata"]["uid"]: pod["status"]["phase"]
            for pod in self.cluster.all_of("pods", self.namespace)
            if pod["metadata"]["name"].startswith("legacy")
        }
        return {"nodes": nodes, "pods": pods}

    def urn(self, name: str) -> str:
        """The URN of a resource of the stack."""
        (found,) = [one["urn"] for one in self.stack.resources() if one["urn"].endswith(f"::{name}")]
        return str(found)

    def unprotect(self) -> None:
        """`pulumi state unprotect --all`, as somebody would who is in the way of the guard."""
        flags = ["--all", "--yes", f"--stack={self.stack.name}"]
        done = self.cluster.lab.run("pulumi", "state", "unprotect", *flags, cwd=self.stack.folder)
        assert done.returncode == 0, done.stderr

    def record(self, attempt: str, *runs: Result) -> None:
        """Note what stopped an attempt; every run of it must have been stopped."""
        assert runs
        for run in runs:
            assert run.exit_code != 0, run.output
            assert "Traceback" not in run.output, run.output
        found = [stopped_by(run.output) for run in runs]
        assert all(found), runs[found.index("")].output
        check_row(attempt, found)


def _labels(node: Manifest) -> dict[str, str]:
    return {key: value for key, value in node["metadata"]["labels"].items() if "kubernetes.io" not in key}


SENTENCES = {
    "program": r"x86 capacity stays: \d+ workloads? needs? x86|error: \S+ the cluster cannot be reached",
    "hook": r"x86 (node x86-\d|NodePool x86) stays: \d+ workloads? needs? x86",
    "policy pack": r"\[mandatory\]",
    "protect": r"is currently marked for protection|it is protected|cannot be (deleted|replaced)",
    "engine": r"--run-program|no resource hook|hook .* (was )?not (registered|found)",
}


def stopped_by(output: str) -> str:
    """Return the first layer whose words are in what a run printed; empty for none of them."""
    text = " ".join(output.split())
    return next((layer for layer, words in SENTENCES.items() if re.search(words, text)), "")


def check_row(attempt: str, layers: list[str]) -> None:
    """Compare what stopped an attempt with the table, or write it there."""
    row = f"| {attempt} | {', '.join(dict.fromkeys(layers))} |"
    text = DOCUMENT.read_text()
    if os.environ.get("ARCHSHIFT_WRITE_DOCS"):
        kept = [line for line in text.splitlines() if not line.startswith(f"| {attempt} |")]
        kept.insert(kept.index(END), row)
        DOCUMENT.write_text("\n".join(kept) + "\n")
        return
    assert row in text.splitlines(), f"docs/guard.md does not have the row {row}"


def push_images(push: Pusher, folder: str) -> None:
    """Push `web`, for both architectures, and `legacy`, for amd64 alone, into a folder of the registry."""
    entry = {"Entrypoint": ["/app"]}

    def image(repository: str, machine: str, tag: str = "") -> Any:
        layers = [layer({"app": elf(machine)})]
        return push.image(repository, tag, f"linux/{machine}", layers=layers, config=entry)

    web = f"{folder}/web"
    push.index(web, "1.0.0", [image(web, "amd64"), image(web, "arm64")])
    image(f"{folder}/legacy", "amd64", tag="1.0.0")


@contextmanager
def guarded_cluster(
    lab: Lab, registry: Registry, push: Pusher, folder: Path, kind: type[Guarded] = Guarded
) -> Iterator[Guarded]:
    """An empty cluster and a stack that is not up yet."""
    push_images(push, "guard")
    edits = folder / "edited"
    edits.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        lab.start()
        cache = folder / "cache"
        environment = {**lab.process_environment(), "XDG_CACHE_HOME": str(cache)}
        patch.setattr(lab, "process_environment", lambda: environment)
        # Between archshift and the registry, to take the registry away.
        door = Server(registry.base)
        cluster = Cluster(lab)
        guarded = kind(
            cluster=cluster,
            stack=Stack(lab, folder / "stack", f"test-{uuid.uuid4().hex[:8]}"),
            namespace=cluster.namespace(f"shop-{uuid.uuid4().hex[:8]}"),
            images={name: f"{door.host}/guard/{name}:1.0.0" for name in ("web", "legacy")},
            registries={door.host: {"plain_http": True}},
            door=door,
            cache=cache,
            edits=edits,
        )
        cluster.apply(with_image(deployment("web", 4, guarded.namespace), guarded.images["web"]))
        guarded.restore()
        yield guarded
        lab.start()
        guarded.stack.remove()
        door.stop()
        cluster.clear()


def legacy(guarded: Guarded) -> Manifest:
    """A Deployment with an amd64-only image; its two pods need one x86 node each, of the pool main."""
    made = deployment("legacy", 2, guarded.namespace, nodeSelector={"pool": "main"})
    requests = {"cpu": "2", "memory": "1Gi"}
    made["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = requests
    return with_image(made, guarded.images["legacy"])


def changed(guarded: Guarded, change: dict[str, Any]) -> dict[str, Any]:
    """The node groups with a change; None takes a group out."""
    groups = guarded.groups
    for name, values in change.items():
        if values is None:
            del groups[name]
        else:
            template = groups.get(name) or {"zones": groups["graviton"]["zones"], "labels": {"pool": "main"}}
            groups[name] = {**template, **values}
    return groups


def edited(guarded: Guarded, *edits: tuple[str, str]) -> Path:
    """A copy of the project whose program somebody has edited; returns its folder."""
    folder = guarded.edits / uuid.uuid4().hex[:8]
    folder.mkdir()
    program = (PROJECT / "__main__.py").read_text()
    for old, new in edits:
        assert old in program, f"the program does not hold {old!r}"
        program = program.replace(old, new)
    (folder / "__main__.py").write_text(program)
    copy_project_file(folder)
    return folder
