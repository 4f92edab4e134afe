"""Takes real manifests through a whole ramp in a lab: ``python -m bench.manifests FOLDER [SET ...]``.

``FOLDER`` has one folder of manifests for each set, such as a chart's rendered output. A set's files are
applied server-side in the order of their names. ``00-namespace.yaml`` names the set's namespace. After
``10-crds.yaml`` the benchmark waits until the definitions are established.

For each ratio it prints the update's seconds beside the seconds in which pods were replaced. It also prints
what is not exact, what is pending, and what a second update changes. At the end it destroys the stack and
compares the spec of every workload with the spec before the ramp, but not the time of a restart. The exit
code is 1 if anything is wrong.

No image is pulled and no process runs in the lab, so the times say nothing about real pods.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from archshift.actions.evictions import RESTARTED_ANNOTATION
from archshift.cli.arguments.status import EXIT_INEXACT, EXIT_TROUBLE
from archshift.cluster.kinds import CONTROLLERS, has_replicas
from archshift.cluster.pods import read_pod
from bench._lab import running_lab
from bench.engine import Stack
from lab.control_plane import Lab
from lab.stack import ON_THE_LAB

RATIOS: Final = (0.2, 0.5, 0.8, 1.0, 0.3)
ZONES: Final = ("eu-west-1a", "eu-west-1b", "eu-west-1c")
GROUPS: Final = {
    name: {"instance_type": kind, "size": 20, "zones": [*ZONES]}
    for name, kind in (("x86", "m6i.4xlarge"), ("graviton", "m7g.4xlarge"))
}
SLACK: Final = 1.2
"""How much longer than its rollouts an update may take, as a share, beside its time to plan."""
APPLY_SECONDS: Final = 5.0
"""How long the patches of a step may take until the last rollout begins, in seconds."""
_AT_REST_SECONDS: Final = 10.0
_LONGEST_SECONDS: Final = 300.0
_KINDS: Final = "deployments,statefulsets,daemonsets,cronjobs"


def main() -> int:
    """Run the ramp; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench.manifests")
    parser.add_argument("folder", type=Path, help="the folder with one folder for each set")
    parser.add_argument("sets", nargs="*", help="the sets (default: all)")
    parser.add_argument("--ratios", nargs="+", type=float, default=list(RATIOS))
    parser.add_argument("--placement", choices=("patches", "admission"), default="patches")
    options = parser.parse_args()
    names = options.sets or sorted(
        path.name for path in options.folder.iterdir() if any(path.glob("[0-9]*.yaml"))
    )
    with running_lab() as (lab, folder):
        sets = [options.folder / name for name in names]
        return ramp(lab, folder, sets, options.ratios, options.placement)


def ramp(lab: Lab, folder: Path, sets: Sequence[Path], ratios: Sequence[float], placement: str) -> int:
    """Apply the sets, take them through the ratios and destroy the stack; returns the exit code."""
    stack = Stack(lab, folder / "stack", "manifests")

    def configure(ratio: float) -> None:
        stack.configure(
            **ON_THE_LAB,
            arm_ratio=f"{ratio:g}",
            placement=placement,
            node_groups=GROUPS,
            images={"check": False},
        )

    configure(0)
    problems: list[str] = []
    up(stack, problems)
    for path in sets:
        apply(lab, folder, path)
    wait_until_at_rest(lab)
    before, was_pending = specs(lab), pending(lab)
    print(f"placement: {placement}")
    print(f"{len(sets)} sets, {len(before)} workloads, pending before: {len(was_pending)}")
    print(f"{'step':<14} {'up s':>6} {'rollouts s':>10} {'second up s':>11}  problems")
    last = 0.0
    for ratio in ratios:
        configure(ratio)
        wrong: list[str] = []
        with rolling(lab) as rollouts:
            seconds = up(stack, wrong)
        again = up(stack, wrong)
        wrong += problems_of(stack, lab, was_pending)
        if stack_changes := changes(stack):
            wrong.append(f"a third update would change {stack_changes}")
        # An update that changes nothing takes only its time to plan.
        if seconds > SLACK * rollouts.seconds + again + APPLY_SECONDS:
            wrong.append(f"the update took longer than {SLACK:g} times its rollouts")
        step = f"{last:g} -> {ratio:g}"
        print(
            f"{step:<14} {seconds:>6.1f} {rollouts.seconds:>10.1f} {again:>11.1f}  {'; '.join(wrong)}",
            flush=True,
        )
        problems += wrong
        last = ratio
    stack.run(
        "destroy",
        "--yes",
        "--skip-preview",
        "--run-program",
        "--target=**WorkloadPatches**",
        "--target=**PlacementPolicy**",
        "--target-dependents",
    )
    after = specs(lab)
    differ = [key for key, spec in before.items() if after.get(key) != spec]
    print(f"after destroy: {len(differ)} of {len(before)} specs differ: {', '.join(differ[:5])}")
    return int(bool(problems or differ))


def up(stack: Stack, wrong: list[str]) -> float:
    """Update the stack and return the seconds; a failure goes to ``wrong``."""
    started = time.monotonic()
    try:
        stack.run("up", "--yes", "--skip-preview")
    except SystemExit as error:
        lines = [line.strip() for line in str(error).splitlines() if "error:" in line]
        wrong.append(f"the update failed: {'; '.join(lines[:2])[:300]}")
    return time.monotonic() - started


def apply(lab: Lab, folder: Path, path: Path) -> None:
    """Apply a set of manifests, server-side."""
    kubeconfig = yaml.safe_load(lab.kubeconfig.read_text())
    namespace = path / "00-namespace.yaml"
    if namespace.exists():
        name = yaml.safe_load(namespace.read_text())["metadata"]["name"]
        kubeconfig["contexts"][0]["context"]["namespace"] = name
    own = folder / "kubeconfig"
    own.write_text(yaml.safe_dump(kubeconfig))
    for file in sorted(path.glob("[0-9]*.yaml")):
        # A custom resource without its controller's webhook, for example, is refused; the rest goes on.
        done = lab.run("kubectl", f"--kubeconfig={own}", "apply", "--server-side", f"--filename={file}")
        if done.returncode:
            print(f"{path.name}/{file.name}: {done.stderr.strip().splitlines()[-1][:200]}")
        if file.name == "10-crds.yaml":
            lab.run("kubectl", "wait", "--for=condition=Established", "--timeout=60s", f"--filename={file}")


def specs(lab: Lab) -> dict[str, str]:
    """Return the spec of every workload, by key, without the time of its last restart."""
    found = {}
    for key, item in _workloads(lab).items():
        # With placement at admission, a restart moves workloads whose limits let no pod be away.
        annotations = CONTROLLERS[item["kind"]].template(item)["metadata"].get("annotations") or {}
        annotations.pop(RESTARTED_ANNOTATION, None)
        if not annotations:
            CONTROLLERS[item["kind"]].template(item)["metadata"].pop("annotations", None)
        found[key] = json.dumps(item["spec"], sort_keys=True)
    return found


def _workloads(lab: Lab) -> dict[str, dict[str, Any]]:
    items = json.loads(lab.kubectl("get", _KINDS, "--all-namespaces", "--output=json"))["items"]
    return {f"{one['metadata']['namespace']}/{one['kind']}/{one['metadata']['name']}": one for one in items}


def pending(lab: Lab) -> set[str]:
    """Return the workloads of the pods that have no node."""
    listed = lab.kubectl(
        "get", "pods", "--all-namespaces", "--field-selector=spec.nodeName=", "--output=json"
    )
    return {read_pod(item).workload for item in json.loads(listed)["items"]}


def _unsettled(lab: Lab) -> set[str]:
    return {
        key
        for key, item in _workloads(lab).items()
        if has_replicas(item["kind"]) and not CONTROLLERS[item["kind"]].settled(item)
    }


def wait_until_at_rest(lab: Lab) -> None:
    """Return when the set of workloads with a rollout has been the same for ten seconds."""
    deadline = time.monotonic() + _LONGEST_SECONDS
    last, since = _unsettled(lab), time.monotonic()
    while time.monotonic() < deadline and (time.monotonic() - since < _AT_REST_SECONDS):
        time.sleep(1)
        now = _unsettled(lab)
        if now != last:
            last, since = now, time.monotonic()


class Rolling:
    """The time in which pods were replaced, by rollouts or by evictions.

    Attributes:
        seconds: From the first look that showed other pods, or another readiness of one, to the last.
    """

    seconds = 0.0


@contextmanager
def rolling(lab: Lab) -> Iterator[Rolling]:
    """Watch the pods while the body runs."""
    measured, over = Rolling(), threading.Event()
    last = _pods(lab)

    def watch() -> None:
        nonlocal last
        first = 0.0
        while not over.wait(0.5):
            started = time.monotonic()
            now = _pods(lab)
            if now != last:
                first = first or started
                measured.seconds = time.monotonic() - first
            last = now

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield measured
    finally:
        over.set()
        thread.join()


def _pods(lab: Lab) -> set[tuple[str, bool]]:
    """Return the uid of each pod and whether it is ready."""
    listed = lab.kubectl("get", "pods", "--all-namespaces", "--output=json")
    return {(pod.uid, pod.ready) for pod in map(read_pod, json.loads(listed)["items"])}


def problems_of(stack: Stack, lab: Lab, was_pending: set[str]) -> list[str]:
    """Return what is not exact, and what is pending that was not pending before."""
    status = stack.archshift("status", "--json")
    # Workloads that were pending before the ramp are in trouble all the time.
    if status.returncode not in (0, EXIT_INEXACT, EXIT_TROUBLE):
        return [f"status ended with {status.returncode}: {status.stderr.strip()[:200]}"]
    wrong = []
    rows = json.loads(status.stdout)["workloads"]
    # With patches, soft rules place autoscaled workloads: they promise an interval (docs/placement.md).
    off = [row["workload"] for row in rows if not (row["exact"] or row["near"])]
    inexact = [key for key in off if key not in was_pending]
    if inexact:
        wrong.append(f"not exact: {', '.join(inexact)}")
    if new := pending(lab) - was_pending:
        wrong.append(f"pending: {', '.join(sorted(new))}")
    return wrong


def changes(stack: Stack) -> str:
    """Return what a preview would change; empty for nothing."""
    preview = stack.arguments("preview", "--json")
    done = stack.lab.run("pulumi", *preview, environment=stack.environment(), timeout=300)
    summary = json.loads(done.stdout).get("changeSummary") or {} if done.stdout.strip() else {}
    return ", ".join(f"{count} {op}" for op, count in summary.items() if op not in ("same", "read") and count)


if __name__ == "__main__":
    sys.exit(main())
