"""Compares the program with a bare one, which registers the same patches as literals, and an empty one.

With the real engine in a separate lab, it measures a preview of 1,000 workloads (wall time, and memory of the
program's process), a step of `up` over 50 workloads until the end of its rollouts, the sample shop against an
empty program, and a preview of 5,000 workloads with placement at admission against `archshift plan`. It
measures each pair in turns and compares the medians.
"""

import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import yaml

from bench._lab import running_lab
from components.workload_patch import WorkloadPatch
from lab.control_plane import CONTEXT, PROJECT, Lab
from lab.engine import RUNTIME
from lab.images import push_images
from lab.sample import load_workloads
from lab.stack import ON_THE_LAB, LabStack

ROUNDS = 3
ROUNDS_OF_EMPTY = 5
GROUPS = {
    name: {"instance_type": kind, "size": 10, "zones": ["a", "b", "c"]}
    for name, kind in (("x86", "m6i.4xlarge"), ("graviton", "m7g.4xlarge"))
}

BARE = """
import json, pathlib
import pulumi, pulumi_kubernetes as k8s

provider = k8s.Provider("cluster", context="{context}")
for patch in json.loads(pathlib.Path("patches.json").read_text()):
    k8s.apps.v1.DeploymentPatch(
        patch["name"],
        metadata=patch["metadata"],
        spec=patch["spec"],
        opts=pulumi.ResourceOptions(provider=provider),
    )
"""


ONE_OBJECT = """
import pulumi, pulumi_kubernetes as k8s

pulumi.CustomResource(
    "kubernetes:core/v1:ConfigMap",
    "one",
    {{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "one", "namespace": "default"}}}},
    pulumi.ResourceOptions(provider=k8s.Provider("cluster", context="{context}")),
)
"""


class Stack(LabStack):
    """A stack that measures its runs."""

    def configure(self, **values: Any) -> None:
        """Write the stack's configuration."""
        self.write({"images": {"check": False}, **values})

    def run(self, *command: str) -> tuple[float, int]:
        """Run the engine; returns (wall seconds, peak memory in bytes of the program's process)."""
        peak = 0
        done = threading.Event()
        started = time.monotonic()
        process = subprocess.Popen(
            self.command(*command),
            cwd=self.project,
            env=self.lab.process_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

        def watch() -> None:
            nonlocal peak
            while not done.wait(0.05):
                peak = max(peak, _program_bytes(process.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        output, _ = process.communicate(timeout=1800)
        seconds = time.monotonic() - started
        done.set()
        watcher.join()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)} failed:\n{output[-3000:]}")
        return seconds, peak

    def patches(self) -> list[dict[str, Any]]:
        """Return the patches in the stack's state."""
        return [
            {
                "name": resource["urn"].rsplit("::", 1)[1],
                "metadata": resource["inputs"]["metadata"],
                "spec": resource["inputs"]["spec"],
            }
            for resource in self.resources()
            if resource["type"] == WorkloadPatch.TYPE
        ]


def _program_bytes(pid: int) -> int:
    """Return the resident bytes of the Python program below an engine's process."""
    try:
        for child in psutil.Process(pid).children(recursive=True):
            if any("pulumi-language-python-exec" in argument for argument in child.cmdline()):
                return int(child.memory_info().rss)
    except psutil.Error:
        pass
    return 0


def project_of(folder: Path, program: str, runtime: Mapping[str, Any] = RUNTIME) -> Path:
    """Create a project with this program, which uses the checkout's environment."""
    folder.mkdir(parents=True)
    (folder / "Pulumi.yaml").write_text(yaml.safe_dump({"name": "bare", "runtime": dict(runtime)}))
    (folder / "__main__.py").write_text(program)
    return folder


def bare_project(folder: Path) -> Path:
    """Create the project that registers the same patches."""
    return project_of(folder, BARE.format(context=CONTEXT))


def fill(
    lab: Lab, namespace: str, workloads: int, replicas: int, image: str = "registry.example/web:1"
) -> None:
    """Create a namespace with equal Deployments."""
    items: list[dict[str, Any]] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}]
    for index in range(workloads):
        labels = {"app": f"web-{index}"}
        requests = {"cpu": "20m", "memory": "16Mi"}
        container = {"name": "app", "image": image, "resources": {"requests": requests}}
        items.append(
            {
                "apiVersion": "apps/v1",
                "kind": "Deployment",
                "metadata": {"name": f"web-{index}", "namespace": namespace},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
                },
            }
        )
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    lab.kubectl("apply", "--server-side", "--filename=-", stdin=text, timeout=600)


def in_turns(ours: Callable[[], tuple[float, int]], bare: Callable[[], tuple[float, int]]) -> dict[str, Any]:
    """Measure both in turns, ROUNDS times; returns the medians."""
    samples: dict[str, list[tuple[float, int]]] = {"ours": [], "bare": []}
    for _ in range(ROUNDS):
        samples["bare"].append(bare())
        samples["ours"].append(ours())
    return {
        who: {
            "seconds": statistics.median(seconds for seconds, _ in values),
            "bytes": statistics.median(size for _, size in values),
        }
        for who, values in samples.items()
    }


def report(name: str, unit: str, ours: float, bare: float, limit: float) -> None:
    """Print a comparison."""
    print(f"{name:<34} {ours:>8.2f} {bare:>8.2f} {unit:<4} {ours / bare:>6.2f} x   (limit: {limit} x)")


def of_namespace(patches: list[dict[str, Any]], namespace: str) -> list[dict[str, Any]]:
    """Return the patches for another namespace, under another field manager."""
    moved = json.loads(json.dumps(patches))
    for patch in moved:
        patch["metadata"]["namespace"] = namespace
        patch["metadata"]["annotations"] = {"pulumi.com/patchFieldManager": "bare"}
    return list(moved)


def preview(lab: Lab, folder: Path, workloads: int) -> None:
    """Compare previews of a first update."""
    fill(lab, "many", workloads, 1)
    ours = Stack(lab, folder / "preview-ours", "preview")
    groups: Mapping[str, Any] = GROUPS
    settings = {**ON_THE_LAB, "arm_ratio": "0.5", "workloads": {"namespaces": ["many"]}}
    # Both stacks have the nodes already, so the comparison is only about the patches.
    nothing = {**settings, "workloads": {"namespaces": ["none"]}}
    ours.configure(**nothing, node_groups=groups)
    ours.run("up", "--yes", "--skip-preview")
    ours.configure(**settings, node_groups=groups)
    project = bare_project(folder / "preview-bare")
    bare = Stack(lab, folder / "preview-bare-stack", "preview-bare", project)
    patches = json.loads(
        subprocess.run(
            [str(PROJECT / ".venv/bin/python"), "-m", "bench._patches", str(ours.config_file), ours.name],
            cwd=PROJECT,
            env=lab.process_environment(),
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
    )
    assert len(patches) == workloads
    (project / "patches.json").write_text(json.dumps(patches))
    got = in_turns(lambda: ours.run("preview"), lambda: bare.run("preview"))
    report(f"preview of {workloads} workloads", "s", got["ours"]["seconds"], got["bare"]["seconds"], 1.25)
    mib = 1024**2
    report("  memory of the program", "MiB", got["ours"]["bytes"] / mib, got["bare"]["bytes"] / mib, 1.3)
    lab.kubectl("delete", "namespace", "many", "--wait=false")


def wait_until_at_rest(lab: Lab, namespace: str) -> None:
    """Wait until every pod of every Deployment has the newest template and is available."""

    def moving() -> bool:
        listed = lab.kubectl("get", "deployments", f"--namespace={namespace}", "--output=json")
        return any(
            item["status"].get("observedGeneration") != item["metadata"]["generation"]
            or any(
                item["status"].get(count, 0) != item["spec"]["replicas"]
                for count in ("replicas", "updatedReplicas", "availableReplicas")
            )
            for item in json.loads(listed)["items"]
        )

    while moving():
        time.sleep(0.1)


def step(lab: Lab, folder: Path, workloads: int) -> None:
    """Compare steps of `up`, from 0.5 to 0.8 and back."""
    fill(lab, "ours", workloads, 4)
    fill(lab, "bare", workloads, 4)
    ours = Stack(lab, folder / "step-ours", "step")
    project = bare_project(folder / "step-bare")
    bare = Stack(lab, folder / "step-bare-stack", "step-bare", project)

    def up(ratio: str) -> tuple[float, int]:
        ours.configure(
            **ON_THE_LAB,
            arm_ratio=ratio,
            node_groups=GROUPS,
            workloads={"namespaces": ["ours"]},
        )
        return ours.run("up", "--yes", "--skip-preview")

    def bare_up() -> tuple[float, int]:
        # The patches that our stack has just applied, including the revision annotations.
        (project / "patches.json").write_text(json.dumps(of_namespace(ours.patches(), "bare")))
        return bare.run("up", "--yes", "--skip-preview")

    up("0.5"), bare_up()
    ratios = iter(["0.8", "0.5"] * ROUNDS)
    samples: list[tuple[float, float, float]] = []
    for _ in range(2 * ROUNDS):
        # A person waits for the whole step, until every pod is ready. Our update returns then, but the bare
        # one may return earlier (docs/adr/0010).
        started = time.monotonic()
        up(next(ratios))
        wait_until_at_rest(lab, "ours")
        mine, started = time.monotonic() - started, time.monotonic()
        returned, _ = bare_up()
        wait_until_at_rest(lab, "bare")
        samples.append((mine, time.monotonic() - started, returned))
    mine, theirs, returned = (statistics.median(column) for column in zip(*samples, strict=True))
    report(f"a step of up over {workloads} workloads", "s", mine, theirs, 1.15)
    print(f"  (until every pod is ready; the bare up returned after {returned:.1f} s)")


def empty(lab: Lab, folder: Path) -> None:
    """Compare previews of the sample shop, and our commands, with previews of an empty program."""
    push_images(lab, print)
    load_workloads(lab, print)
    shop = Stack(lab, folder / "shop", "shop")
    config = yaml.safe_load((PROJECT / "Pulumi.lab.yaml").read_text())["config"]
    shop.write(config)
    shop.run("up", "--yes", "--skip-preview")
    shop.write({**config, "archshift:arm_ratio": "0.8"})
    nothing = Stack(lab, folder / "empty-stack", "empty", project_of(folder / "empty", ""))
    # The program's former runtime: the language host syncs the environment and lists it with its own pip.
    with_uv = {"name": "python", "options": {"toolchain": "uv", "virtualenv": str(PROJECT / ".venv")}}
    former = Stack(lab, folder / "uv-stack", "uv", project_of(folder / "uv", "", with_uv))
    # The least that a program with one Kubernetes resource takes: the plugin starts and asks the cluster.
    one_object = project_of(folder / "one", ONE_OBJECT.format(context=CONTEXT))
    one = Stack(lab, folder / "one-stack", "one", one_object)
    for stack in (nothing, former, one):
        stack.write({})

    def command(*line: str) -> float:
        started = time.monotonic()
        environment = shop.environment()
        done = subprocess.run(line, cwd=PROJECT, env=environment, capture_output=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(line)} failed:\n{done.stderr.decode()}")
        return time.monotonic() - started

    python, archshift = str(PROJECT / ".venv/bin/python"), str(PROJECT / ".venv/bin/archshift")
    measured: dict[str, Callable[[], float]] = {
        "empty": lambda: nothing.run("preview")[0],
        "uv": lambda: former.run("preview")[0],
        "one": lambda: one.run("preview")[0],
        "shop": lambda: shop.run("preview")[0],
        "plan": lambda: command(*shop.archshift_command("plan")),
        "help": lambda: command(archshift, "--help"),
        "completion": lambda: command(archshift, "completion", "bash"),
        "python": lambda: command(python, "-c", ""),
    }
    samples: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS_OF_EMPTY):
        for name, measure in measured.items():
            samples[name].append(measure())
    medians = {name: statistics.median(values) for name, values in samples.items()}
    report("preview of the shop, empty program", "s", medians["shop"], medians["empty"], 1.3)
    report("  the same, one ConfigMap", "s", medians["shop"], medians["one"], 1.3)
    report("  the same, empty program with uv", "s", medians["shop"], medians["uv"], 1.3)
    report("empty program, the same with uv", "s", medians["empty"], medians["uv"], 0.7)
    report("archshift plan of the shop", "s", medians["plan"], medians["empty"], 1.0)
    report("archshift --help, bare Python", "s", medians["help"], medians["python"], 10)
    report("archshift completion bash", "s", medians["completion"], medians["python"], 10)


def placement(lab: Lab, folder: Path, namespaces: int, workloads: int) -> None:
    """Compare a preview with ``placement: admission`` with ``archshift plan`` of the same cluster."""
    names = [f"space-{number}" for number in range(namespaces)]
    groups = {name: {**group, "size": 30} for name, group in GROUPS.items()}
    for name in names:
        fill(lab, name, workloads // namespaces, 1)
    stack = Stack(lab, folder / "placement", "placement")
    settings = {**ON_THE_LAB, "placement": "admission", "workloads": {"namespaces": names}}
    stack.configure(**settings, arm_ratio="0.0", node_groups=groups)
    stack.run("up", "--yes", "--skip-preview")
    stack.configure(**settings, arm_ratio="0.5", node_groups=groups)

    def plan() -> tuple[float, int]:
        started = time.monotonic()
        done = stack.archshift("plan", timeout=600)
        if done.returncode:
            raise SystemExit(f"archshift plan failed:\n{done.stderr}")
        return time.monotonic() - started, 0

    got = in_turns(lambda: stack.run("preview"), plan)
    seconds = {who: values["seconds"] for who, values in got.items()}
    report(f"preview of {workloads} at admission, plan", "s", seconds["ours"], seconds["bare"], 1.3)
    for name in names:
        lab.kubectl("delete", "namespace", name, "--wait=false")


def main() -> None:
    """Measure and print the parts that the arguments name, or all parts."""
    parts = sys.argv[1:] or ["step", "preview", "empty", "placement"]
    with running_lab() as (lab, folder):
        print(f"{'':<34} {'ours':>8} {'bare':>8}")
        if "step" in parts:
            step(lab, folder, 50)
        if "preview" in parts:
            preview(lab, folder, 1000)
        if "empty" in parts:
            empty(lab, folder)
        if "placement" in parts:
            placement(lab, folder, 50, 5000)


if __name__ == "__main__":
    main()
