"""From the last x86 pod to the last x86 node, on a real API server: nothing is lost, whatever happens."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from archshift.common.kubernetes import GROUP_LABEL
from lab.control_plane import Lab
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.guard_matrix import Guarded, changed, guarded_cluster, legacy, with_image
from tests.lab.lab_helpers import (
    Manifest,
    daemon_set,
    deployment,
    disruption_budget,
    meanwhile,
    stateful_set,
    wait_for,
)

pytestmark = pytest.mark.timeout(600)

X86 = ("x86-0", "x86-1", "x86-2")


@dataclass
class Field:
    """The guarded cluster at arm_ratio 1.0, and a namespace beside it whose pods archshift does not steer."""

    guarded: Guarded
    beside: str

    def apply(self, *manifests: Manifest) -> None:
        """Make workloads whose images run on both, in the namespace beside."""
        image = self.guarded.images["web"]
        self.guarded.cluster.apply(
            one if one["kind"] == "PodDisruptionBudget" else with_image(one, image) for one in manifests
        )

    def on_x86(self, *manifests: Manifest) -> None:
        """Make workloads whose pods start on x86, although they may run on both."""
        lab = self.guarded.cluster.lab
        graviton = ("graviton-0", "graviton-1")
        lab.kubectl("cordon", *graviton)
        self.apply(*manifests)
        self.guarded.cluster.wait_until_settled(self.beside)
        lab.kubectl("uncordon", *graviton)

    def nodes(self) -> dict[str, dict[str, Any]]:
        """How far every x86 node is: its annotation, and whether it is cordoned."""
        return self.guarded.cluster.x86_nodes()

    def pods(self, *prefixes: str) -> dict[str, str]:
        """Name to node of the pods beside, or of those with one of these prefixes, that are not leaving."""
        return self.guarded.cluster.pod_nodes(self.beside, *prefixes)

    def drain(self, *flags: str, exit_code: int = 0) -> subprocess.CompletedProcess[str]:
        """Run `archshift drain`, which has to end so."""
        done = self.guarded.stack.archshift("drain", *flags, timeout=240)
        assert done.returncode == exit_code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    def begin(self, *flags: str) -> subprocess.Popen[str]:
        """Start `archshift drain` without waiting for it."""
        return self.guarded.stack.begin_archshift("drain", *flags)

    def budget(self, name: str, **spec: Any) -> Manifest:
        """A PodDisruptionBudget for the pods of a workload."""
        return disruption_budget(name, self.beside, **spec)

    def use_up_budget(self, name: str, pods: int) -> None:
        """Let a budget allow nothing for now: all running pods must stay, because one more finds no node."""
        label = "app.kubernetes.io/name"
        both = {"matchExpressions": [{"key": label, "operator": "In", "values": [name, "unplaced"]}]}
        self.apply(deployment("unplaced", 1, self.beside, nodeSelector={"disk": "none"}))
        self.apply(self.budget(name, minAvailable=pods, selector=both))
        where = (f"--namespace={self.beside}", "--output=jsonpath={.status.expectedPods}")
        wait_for(lambda: self.guarded.cluster.lab.kubectl("get", "pdb", name, *where) == str(pods + 1))

    def bare_pod(self, name: str, node: str = "", **metadata: Any) -> Manifest:
        """A pod that nobody owns."""
        spec = {"containers": [{"name": "app", "image": "to be set"}], **({"nodeName": node} if node else {})}
        made = {"name": name, "namespace": self.beside, **metadata}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": made, "spec": spec}


@pytest.fixture(scope="module")
def whole(
    control_plane: Lab, registry: Registry, push: Pusher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guarded]:
    """The cluster and its stack, up: web on Graviton, three x86 nodes."""
    with guarded_cluster(control_plane, registry, push, tmp_path_factory.mktemp("drain")) as guarded:
        guarded.up()
        yield guarded


@pytest.fixture
def field_(whole: Guarded) -> Iterator[Field]:
    """All nodes there and open, and nothing beside."""
    whole.restore()
    if not set(X86) <= {one["metadata"]["name"] for one in whole.cluster.all_of("nodes")}:
        whole.up()
    made = Field(whole, whole.cluster.namespace(f"beside-{time.monotonic_ns() % 10**8}"))
    yield made
    lab, where = whole.cluster.lab, f"--namespace={made.beside}"
    lab.kubectl("delete", "deployments,statefulsets,daemonsets,pdb", "--all", where)
    lab.kubectl("delete", "pods", "--all", where, "--force", "--grace-period=0", "--wait=false")
    made.drain("--undo")
    lab.kubectl("delete", "nodes", "late-0", "--ignore-not-found")
    lab.kubectl("uncordon", "--selector=kubernetes.io/arch=amd64")


@dataclass
class Samples:
    """What was seen meanwhile: the fewest running pods by workload, and the most nodes being emptied."""

    fewest: dict[str, int] = field(default_factory=dict)
    most_nodes: int = 0
    count: int = 0


@contextmanager
def sampled(here: Field) -> Iterator[Samples]:
    """Count running pods and nodes under way, as often as the API server answers."""
    samples = Samples()

    def sample() -> None:
        running: dict[str, int] = {}
        for pod in here.guarded.cluster.all_of("pods", here.beside):
            name = pod["metadata"]["labels"]["app.kubernetes.io/name"]
            leaving = "deletionTimestamp" in pod["metadata"]
            # Not by their readiness: the lab's kubelets, late on a busy machine, lose that for all.
            runs = pod["status"].get("phase") == "Running" and not leaving
            running[name] = running.get(name, 0) + runs
        for name, count in running.items():
            samples.fewest[name] = min(samples.fewest.get(name, count), count)
        under_way = sum(node.get("state") == "evicting" for node in here.nodes().values())
        samples.most_nodes = max(samples.most_nodes, under_way)
        samples.count += 1

    with meanwhile(sample):
        yield samples


def test_from_the_last_x86_pod_to_the_last_x86_node(field_: Field) -> None:
    """The group does not go while pods run there, by any size; drained, it is scaled to nothing and then
    removed. No workload misses more than one pod meanwhile, and one node is emptied after the other.
    """
    guarded, beside = field_.guarded, field_.beside
    mirror = {"annotations": {"kubernetes.io/config.mirror": "x"}, "labels": {"app.kubernetes.io/name": "m"}}
    field_.on_x86(
        deployment("dns", 6, beside),
        stateful_set("queue", 3, beside),
        daemon_set("agent", beside),
        field_.budget("dns", maxUnavailable=1),
        field_.bare_pod("static", "x86-1", **mirror),
    )
    # Scaled to nothing in an update, taken out in a preview.
    for change, go in (({"x86": {"size": 0}}, guarded.stack.up), ({"x86": None}, guarded.stack.preview)):
        guarded.stack.config({"node_groups": changed(guarded, change)})
        run = go()
        assert run.exit_code != 0, run.output
        words = " ".join(run.output.split())
        assert f"pods run on it ({beside}/" in words, run.output
        assert "empty it first with archshift drain" in words
    assert set(field_.nodes()) == set(X86)
    guarded.restore()

    shown = json.loads(field_.drain("--dry-run", "--json").stdout)
    assert (sum(node["pods"] for node in shown["nodes"]), shown["evicted"], shown["blockers"]) == (9, 0, [])
    assert [node["tied"] for node in shown["nodes"]] == [1, 2, 1]
    assert not any(node["cordoned"] for node in field_.nodes().values())

    with sampled(field_) as samples:
        done = field_.drain()
    assert "3 of 3 nodes are empty, pods moved: 9" in done.stderr
    assert "3 of 3 x86 nodes are empty, pods moved: 9" in done.stdout
    assert samples.count > 5
    assert samples.fewest["dns"] >= 5, samples
    assert samples.fewest["queue"] >= 2, samples
    assert samples.most_nodes == 1, samples
    guarded.cluster.wait_until_settled(beside)
    moved = field_.pods("dns", "queue")
    assert len(moved) == 9
    assert set(moved.values()) <= {"graviton-0", "graviton-1"}
    stays = {name: node for name, node in field_.pods().items() if node in X86}
    assert sorted(stays.values()) == ["x86-0", "x86-1", "x86-1", "x86-2"]

    again = json.loads(field_.drain("--json").stdout)
    assert (again["evicted"], {node["state"] for node in again["nodes"]}) == (0, {"drained"})

    guarded.stack.config({"node_groups": changed(guarded, {"x86": {"size": 0}})})
    assert guarded.up().changes == {"delete": 3}
    assert field_.nodes() == {}
    guarded.stack.config({"node_groups": changed(guarded, {"x86": None})})
    guarded.up()
    assert "there are no x86 nodes to drain" in field_.drain().stdout


def test_a_pod_that_needs_x86_stops_it_before_anything_is_cordoned(field_: Field) -> None:
    """Whatever needs x86 is named with the reason: an image, a node selector, a bare pod."""
    guarded, beside = field_.guarded, field_.beside
    pinned = deployment("pinned", 1, beside, nodeSelector={"pool": "main"})
    field_.apply(pinned, field_.bare_pod("loner", "x86-0"))
    guarded.cluster.apply(legacy(guarded))
    guarded.cluster.wait_until_settled(beside)
    try:
        stopped = json.loads(field_.drain("--json", exit_code=3).stdout)
        human = " ".join(field_.drain("--dry-run", exit_code=3).stdout.split())
    finally:
        guarded.cluster.lab.kubectl("delete", "deployment", "legacy", f"--namespace={guarded.namespace}")
    reasons = {one["what"]: one["reason"] for one in stopped["blockers"]}
    assert reasons[f"{guarded.namespace}/Deployment/legacy"].startswith(
        f"it needs x86: {guarded.images['legacy']} is amd64-only"
    )
    assert reasons[f"{beside}/Deployment/pinned"] == (
        "it needs x86: no Graviton node matches its own node selector or affinity"
    )
    assert reasons[f"{beside}/Pod/loner"].startswith("a bare pod on x86-0, which nothing would start again")
    assert "nothing was changed; the lines above say what blocks the drain" in human, human
    assert not any(node["cordoned"] for node in field_.nodes().values())


def test_below_the_last_step_nothing_is_drained(field_: Field) -> None:
    """At 0.5 half of the pods belong on x86: the key is named, and its way out."""
    field_.guarded.stack.config({"arm_ratio": "0.5"})
    stopped = json.loads(field_.drain("--json", exit_code=3).stdout)
    assert stopped["blockers"] == [
        {
            "what": "archshift:arm_ratio",
            "reason": "0.5 is less than 1.0; set it to 1.0 and run pulumi up",
        }
    ]
    assert not any(node["cordoned"] for node in field_.nodes().values())


def test_a_bare_pod_goes_when_it_is_asked_for(field_: Field) -> None:
    """Named without the flag, evicted with it: nothing starts it again."""
    field_.apply(field_.bare_pod("loner", "x86-0"))
    wait_for(lambda: field_.pods("loner"))
    stopped = field_.drain(exit_code=3)
    assert f"blocked: {field_.beside}/Pod/loner: a bare pod on x86-0" in " ".join(stopped.stdout.split())
    field_.drain("--bare-pods")
    assert field_.pods() == {}


def test_a_budget_that_allows_nothing_is_named_and_kept(field_: Field) -> None:
    """The drain ends with exit code 3 and the budget's name; without the budget the next one goes through."""
    field_.on_x86(deployment("dns", 3, field_.beside))
    field_.use_up_budget("dns", 3)
    with sampled(field_) as samples:
        held = field_.drain("--timeout=3", "--json", exit_code=3)
    assert samples.fewest["dns"] == 3
    reason = "the PodDisruptionBudget dns allows 0 evictions now: 3 pods are healthy, and 3 must be"
    found = json.loads(held.stdout)
    assert {one["reason"] for one in found["waiting"]} == {reason}
    assert {one["what"] for one in found["waiting"]} <= {
        f"{field_.beside}/{pod}" for pod in field_.pods("dns")
    }
    field_.guarded.cluster.lab.kubectl("delete", "pdb", "dns", f"--namespace={field_.beside}")
    field_.drain()
    assert set(field_.pods("dns").values()) <= {"graviton-0", "graviton-1"}


def test_a_finalizer_that_holds_a_pod_is_named(field_: Field) -> None:
    """With its name; when it is gone the next drain goes through."""
    made = deployment("dns", 1, field_.beside)
    made["spec"]["template"]["metadata"]["finalizers"] = ["example.com/ledger"]
    field_.on_x86(made)
    (name,) = field_.pods()
    held = field_.drain("--timeout=3", exit_code=3)
    assert f"{field_.beside}/{name}" in held.stdout
    assert "its finalizer example.com/ledger holds it" in " ".join(held.stdout.split())
    release = ["patch", "pod", name, f"--namespace={field_.beside}", "--type=merge", "--patch"]
    field_.guarded.cluster.lab.kubectl(*release, '{"metadata":{"finalizers":null}}')
    field_.drain()
    late = field_.pods()
    assert set(late.values()) <= {"graviton-0", "graviton-1"}
    for pod in late:
        release[2] = pod
        field_.guarded.cluster.lab.kubectl(*release, '{"metadata":{"finalizers":null}}')


def test_missing_room_is_named_and_ends_it_with_one_node(field_: Field) -> None:
    """Three pods of 3 vCPU; Graviton takes two. The third is pending, and no other node is begun."""
    made = deployment("large", 3, field_.beside)
    made["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] = "3"
    field_.on_x86(made)
    held = json.loads(field_.drain("--timeout=4", "--json", exit_code=3).stdout)
    assert len(held["waiting"]) == 1
    assert held["waiting"][0]["reason"].startswith("2 of 3 pods are ready; no room: 0/5 nodes are available")
    assert sum(node["state"] == "evicting" for node in held["nodes"]) == 1


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["SIGINT", "SIGKILL"])
def test_ended_in_the_middle_and_gone_on_with(field_: Field, how: signal.Signals) -> None:
    """The nodes say how far it was; the next run ends what was begun first, and takes in a new node."""
    # A budget keeps the first run on its first node until it is ended there.
    field_.on_x86(deployment("dns", 9, field_.beside), stateful_set("queue", 3, field_.beside))
    field_.use_up_budget("queue", 3)
    with sampled(field_) as samples:
        run = field_.begin()
        wait_for(lambda: {*field_.pods("dns").values()} & {"graviton-0", "graviton-1"})
        run.send_signal(how)
        _, errors = run.communicate(timeout=60)
        if how == signal.SIGINT:
            assert run.returncode == 130
            assert "interrupted; nodes stay cordoned: run archshift drain again to continue" in errors
        states = field_.nodes()
        assert all(node["cordoned"] for node in states.values())
        (begun,) = (name for name, node in states.items() if node["state"] == "evicting")
        assert sum(node in X86 for node in field_.pods().values()) > 3
        field_.guarded.cluster.lab.kubectl("delete", "pdb", "queue", f"--namespace={field_.beside}")
        labels = {GROUP_LABEL: "x86", "pool": "main"}
        field_.guarded.cluster.nodes("amd64", 1, prefix="late", labels=labels)
        done = field_.drain()
    assert "cordoned: late-0" in done.stderr
    assert begun not in [line.split(":")[0] for line in done.stderr.splitlines() if " must move" in line]
    assert {node["state"] for node in field_.nodes().values()} == {"drained"}
    assert set(field_.pods("dns", "queue").values()) <= {"graviton-0", "graviton-1"}
    assert samples.most_nodes == 1
    assert samples.fewest["dns"] >= 8, samples
    assert samples.fewest["queue"] >= 2, samples


def test_undone_at_any_time_until_the_nodes_go(field_: Field) -> None:
    """Every node takes pods again and carries no trace, but for one that somebody else had cordoned."""
    lab = field_.guarded.cluster.lab
    lab.kubectl("cordon", "x86-2")
    field_.on_x86(deployment("dns", 2, field_.beside))
    field_.use_up_budget("dns", 2)
    field_.drain("--timeout=2", exit_code=3)
    assert all(node["cordoned"] for node in field_.nodes().values())
    undone = json.loads(field_.drain("--undo", "--json").stdout)
    assert sorted(undone["uncordoned"]) == ["x86-0", "x86-1"]
    assert field_.nodes() == {name: {"cordoned": name == "x86-2"} for name in X86}
    assert json.loads(field_.drain("--undo", "--json").stdout)["uncordoned"] == []


def test_one_node_alone(field_: Field) -> None:
    """`--only` names a node: its pods may go to the other x86 nodes, which are not touched."""
    field_.on_x86(deployment("dns", 6, field_.beside))
    field_.drain("--only=x86-1")
    assert {name: node["cordoned"] for name, node in field_.nodes().items()} == {
        "x86-0": False,
        "x86-1": True,
        "x86-2": False,
    }
    assert "x86-1" not in field_.pods().values()
    wrong = field_.drain("--only=x87", exit_code=1)
    assert (
        "--only x87: archshift may drain no x86 node or node group with this name; name one of: x86"
        in wrong.stderr
    )
