"""The whole migration on the sample shop, from no Graviton node to no x86 node, with all that goes wrong.

Real engine, policy pack, API server, scheduler and registry. While it goes on, a watch asks several times a
second whether each workload has as many pods as its own rollout limit promises; what is below fails the test.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import GROUP_LABEL
from chaos.invariants import least_available
from lab.control_plane import PROJECT, REGISTRY_HOST, Lab
from lab.images import push_images
from lab.oci import Pusher, elf, layer
from lab.sample import load_workloads
from lab.stack import kill_with_children
from tests.lab.lab_helpers import (
    ZONES,
    Cluster,
    Manifest,
    Result,
    Stack,
    deployment,
    disruption_budget,
    node_groups,
    wait_for,
)

pytestmark = pytest.mark.timeout(1500)

X86, GRAVITON = 6, 8
PACK = f"--policy-pack={PROJECT / 'policies'}"
# What the first look at the shop finds: an image or a sidecar for x86 alone, an x86 program behind a promise
# of arm64, a pinned workload whose image is for x86 alone too, and fields that belong to another client.
NEED_X86 = ("invoices", "reviews", "notifications", "image-resizer")
AUTOSCALED = "search"
OWNED = "payments"
# Beside the namespaces that archshift steers: what a platform team runs on the same nodes.
OPS = "ops"


# --- who watches ----------------------------------------------------------------------------


@dataclass
class Watch:
    """Counts each workload's running pods, and notes whenever they are fewer than its limit allows."""

    cluster: Cluster
    limits: dict[str, int]
    below: list[str] = field(default_factory=list)
    samples: int = 0
    unanswered: int = 0
    fewest: dict[str, int] = field(default_factory=dict)

    def run(self, over: threading.Event) -> None:
        """Look about twice a second; an API server that is away cannot be asked."""
        while not over.wait(0.4):
            try:
                pods = self.cluster.all_of("pods")
            except ArchshiftError:
                self.unanswered += 1
                continue
            self.samples += 1
            running = Counter(_workload(pod) for pod in pods if _runs(pod))
            for workload, limit in self.limits.items():
                self.fewest[workload] = min(self.fewest.get(workload, 10**6), running[workload])
                if running[workload] < limit:
                    self.below.append(f"{workload}: {running[workload]} of at least {limit}")


def _workload(pod: Manifest) -> str:
    return f"{pod['metadata']['namespace']}/{pod['metadata'].get('labels', {}).get('app.kubernetes.io/name')}"


def _runs(pod: Manifest) -> bool:
    # Not by its readiness: the lab's kubelets, late on a busy machine, lose that for all pods at once.
    return pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]


@contextmanager
def watched(cluster: Cluster) -> Iterator[Watch]:
    """Watch all Deployments and StatefulSets that there are now, and fail if one was ever below its limit."""
    limits = {
        f"{one['metadata']['namespace']}/{one['metadata']['name']}": least_available(
            one, one["spec"]["replicas"]
        )
        for one in cluster.all_of("deployments,statefulsets")
    }
    watch, over = Watch(cluster, limits), threading.Event()
    thread = threading.Thread(target=watch.run, args=(over,))
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
        print(f"{watch.samples} samples, {watch.unanswered} unanswered, fewest: {watch.fewest}", watch.below)
    assert watch.below == []
    assert watch.samples > 50


# --- who migrates ---------------------------------------------------------------------------


@dataclass
class Migration:
    """The shop's stack, as its team moves it."""

    cluster: Cluster
    stack: Stack
    groups: dict[str, Any]

    def group(self, name: str, size: int | None) -> None:
        """Set the size of a node group; None takes it out."""
        self.groups.pop(name, None)
        if size is not None:
            self.groups[name] = node_groups(size, size)[name]
        self.stack.config({"node_groups": self.groups})

    def ratio(self, ratio: str) -> None:
        self.stack.config({"arm_ratio": ratio})

    def up(self) -> Result:
        """`pulumi up` with the policy pack, which has to go through."""
        done = self.stack.up(PACK)
        assert done.succeeded, done.output
        return done

    def refused(self, *words: str, run: Callable[[str], Result] | None = None) -> None:
        """`pulumi up` with the pack, which must not go through, and says why; x86 nodes stay."""
        before = set(self.cluster.x86_nodes())
        done = (run or self.stack.up)(PACK)
        assert done.exit_code != 0, done.output
        assert "Traceback" not in done.output
        said = " ".join(done.output.split())
        assert [word for word in words if word not in said] == [], done.output
        assert set(self.cluster.x86_nodes()) == before

    def up_killed(self, when: Callable[[], Any]) -> None:
        """`pulumi up`, killed with all it started as soon as something is so; the lock is released."""
        run = self.stack.begin_up(PACK)
        try:
            wait_for(lambda: when() or run.poll() is not None, 180)
            assert run.poll() is None, run.communicate()[0]
        finally:
            kill_with_children(run.pid)
            run.communicate(timeout=60)
        self.stack.cancel()

    def exact(self) -> dict[str, Any]:
        """`archshift status`: every share is what was asked for. Returns the rows by workload.

        With patches, a rollout leaves an autoscaled workload within a pod of its share (docs/placement.md).
        None of its pods may be away, so no eviction corrects it: that is as near as an update brings it.
        """
        self.settled()
        said = self.stack.archshift("status", "--json")
        rows = {row["workload"].rpartition("/")[2]: row for row in json.loads(said.stdout)["workloads"]}
        assert said.returncode == 0, said.stdout + said.stderr
        near = {name: row for name, row in rows.items() if not row["exact"]}
        assert set(near) <= {AUTOSCALED}, said.stdout
        for row in near.values():
            assert row["near"]
            assert abs(row["graviton"] - row["wanted"]) == 1
            assert "1 of its pods may still move to " in row["reason"]
        return rows

    def settled(self) -> None:
        """Wait for rollouts and pods of all three namespaces."""
        for namespace in ("shop", "platform", OPS):
            self.cluster.wait_until_settled(namespace)

    def generations(self) -> dict[str, int]:
        """The workloads' generations: a patch raises one."""
        return {
            one["metadata"]["name"]: one["metadata"]["generation"]
            for one in self.cluster.all_of("deployments", "shop")
        }

    def patched(self) -> Callable[[], bool]:
        """Whether a workload was patched since now."""
        before = self.generations()
        return lambda: self.generations() != before

    def drain(self, *flags: str, exit_code: int = 0) -> Mapping[str, Any]:
        """`archshift drain --json`, which has to end so; returns what it says."""
        done = self.stack.archshift("drain", "--json", *flags, timeout=300)
        assert done.returncode == exit_code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        said: Mapping[str, Any] = json.loads(done.stdout)
        return said

    def drain_killed(self, state: str) -> None:
        """`archshift drain`, killed as soon as a node is so far."""
        run = self.stack.begin_archshift("drain")
        try:
            # A drain cordons all nodes before it evicts the first pod, and marks each of them as it goes.
            wait_for(lambda: (state in self.states() and self.all_cordoned()) or run.poll() is not None, 180)
            assert run.poll() is None, run.communicate()
        finally:
            run.kill()
            print(*run.communicate(timeout=60))
        assert self.all_cordoned()

    def all_cordoned(self) -> bool:
        """Whether no x86 node takes pods."""
        return all(node["cordoned"] for node in self.cluster.x86_nodes().values())

    def states(self) -> list[str]:
        """How far the drain is with each x86 node."""
        return [node.get("state", "active") for node in self.cluster.x86_nodes().values()]

    def pods_on_x86(self, namespace: str, *prefixes: str) -> list[str]:
        """The pods of a namespace that run on x86 nodes; the agent that is on every node aside."""
        x86 = self.cluster.x86_nodes()
        pods = self.cluster.pod_nodes(namespace, *prefixes)
        return sorted(name for name, node in pods.items() if node in x86 and "log-agent" not in name)


@pytest.fixture
def migration(
    control_plane: Lab, cluster: Cluster, stack: Stack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Migration]:
    """Six x86 nodes made by the stack, the shop and some other teams' pods on them; no Graviton."""
    with pytest.MonkeyPatch.context() as patch:
        # What was learnt about images is this test's own.
        cache = str(tmp_path_factory.mktemp("cache"))
        environment = {**control_plane.process_environment(), "XDG_CACHE_HOME": cache}
        patch.setattr(control_plane, "process_environment", lambda: environment)
        for namespace in ("shop", "platform"):
            cluster.namespace(namespace)
        push_images(control_plane, print, again=True)
        made = Migration(cluster, stack, {})
        made.group("x86", X86)
        stack.config(
            {
                "arm_ratio": "0.0",
                "workloads": {"namespaces": ["platform", "shop"]},
                # One image claims arm64 and carries an x86 program.
                "images": {"deep": True},
            }
        )
        made.up()
        load_workloads(control_plane, print, again=True)
        for one in ops_workloads():
            cluster.apply(one)
        made.settled()
        yield made


def ops_workloads() -> list[Manifest]:
    """What nobody moves by a number: it goes when its nodes go. The budget allows nothing to be away."""
    made: list[Manifest] = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": OPS}}]
    for name in ("resolver", "ledger"):
        one = deployment(name, 6, OPS)
        one["spec"]["strategy"] = {"rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1}}
        one["spec"]["template"]["spec"]["containers"][0]["image"] = f"{REGISTRY_HOST}/admin:1.61.0"
        made.append(one)
    return [*made, disruption_budget("resolver", OPS, minAvailable=6)]


# --- the story ------------------------------------------------------------------------------


def test_from_no_graviton_to_no_x86(migration: Migration) -> None:
    """Steps of 0.2, 0.5, 0.8 and 1.0, what pins x86 repaired, the drain, the soak, and the x86 group gone.

    Meanwhile processes are killed at each boundary and run again, the API server dies twice, a budget and a
    finalizer hold the drain, an x86 node comes and a pod comes back. No workload is ever below its limit.
    """
    phases = (
        look_first,
        add_graviton,
        first_step,
        further_steps,
        x86_stays_while_it_is_needed,
        repair_what_needs_x86,
        empty_the_nodes,
        soak,
        scale_to_nothing,
        remove_the_group,
    )
    with watched(migration.cluster):
        for phase in phases:
            began = time.monotonic()
            phase(migration)
            print(f"{phase.__name__}: {time.monotonic() - began:.0f} s", flush=True)


def look_first(it: Migration) -> None:
    """The audit names what cannot run on arm64, before anything changes."""
    audit = it.stack.archshift("audit", "--from-cluster", "--deep", "--json")
    assert audit.returncode == 1, audit.stderr
    verdicts = {row["image"].rpartition("/")[2]: row["verdict"] for row in json.loads(audit.stdout)["images"]}
    assert {name for name, verdict in verdicts.items() if verdict != "multi-arch"} == {
        "invoices:7.1.0",
        "reviews:2.2.5",
        "smtp-relay:3.8.1",
        "image-resizer:1.2.0",
    }
    it.up()
    assert {row["graviton"] for row in it.exact().values()} == {0}


def add_graviton(it: Migration) -> None:
    """Graviton nodes come, killed in the middle and run again; at 0.0 no pod of the shop goes there."""
    it.group("graviton", GRAVITON)
    it.up_killed(lambda: graviton_nodes(it))
    it.up()
    assert len(graviton_nodes(it)) == GRAVITON
    rows = it.exact()
    assert sum(row["graviton"] for name, row in rows.items() if name != "log-agent") == 0


def graviton_nodes(it: Migration) -> list[str]:
    return [one["metadata"]["name"] for one in it.cluster.all_of("nodes") if _is_arm(one)]


def _is_arm(node: Manifest) -> bool:
    return bool(node["metadata"]["labels"]["kubernetes.io/arch"] == "arm64")


def first_step(it: Migration) -> None:
    """To 0.2; the engine dies once the first workload is patched, and the next run ends exact."""
    it.ratio("0.2")
    it.up_killed(it.patched())
    it.up()
    rows = it.exact()
    assert rows["storefront"]["graviton"] == 4
    assert {name: rows[name]["graviton"] for name in (*NEED_X86, OWNED)} == dict.fromkeys(
        (*NEED_X86, OWNED), 0
    )


def further_steps(it: Migration) -> None:
    """To 0.5 through a crash of the API server, then to 0.8 and 1.0; two steps at once are refused."""
    it.ratio("1.0")
    it.refused("arm-ratio-step")
    it.ratio("0.5")
    patched = it.patched()
    run = it.stack.begin_up(PACK)
    wait_for(lambda: patched() or run.poll() is not None, 180)
    it.cluster.lab.kill("kube-apiserver")
    time.sleep(1)
    it.cluster.lab.start()
    run.communicate(timeout=600)  # whatever it says: the next ends exact
    it.up()
    assert it.exact()["storefront"]["graviton"] == 10
    for ratio, storefront in (("0.8", 16), ("1.0", 20)):
        it.ratio(ratio)
        it.up()
        assert it.exact()["storefront"]["graviton"] == storefront
    assert it.pods_on_x86("platform") == []


def x86_stays_while_it_is_needed(it: Migration) -> None:
    """Neither drained nor scaled to nothing nor removed: each refusal names who needs x86."""
    held = it.drain("--dry-run", exit_code=3)
    # Whose fields are another client's is left alone, and may run on both: it does not hold the nodes.
    # The budget that never allows an eviction holds them, too.
    needing = {f"shop/Deployment/{name}" for name in NEED_X86}
    assert {one["what"] for one in held["blockers"]} == {*needing, f"{OPS}/Deployment/resolver"}
    assert not any(node["cordoned"] for node in it.cluster.x86_nodes().values())
    for size in (0, None):
        it.group("x86", size)
        it.refused("x86 capacity stays", *(f"shop/Deployment/{name}" for name in NEED_X86))
    it.group("x86", X86)


def repair_what_needs_x86(it: Migration) -> None:
    """New images for both architectures, a pin taken out, an owner who agrees: the next up moves them."""
    pusher = Pusher(f"http://{it.cluster.lab.registry}")
    for repository, tag in (("invoices", "7.2.0"), ("smtp-relay", "3.9.0"), ("image-resizer", "1.2.1")):
        push_for_both(pusher, repository, tag)
    unpin = [{"op": "remove", "path": "/spec/template/spec/nodeSelector"}]
    lab = it.cluster.lab
    lab.kubectl(
        *("patch", "deployment", "invoices", "--namespace=shop", "--type=json"),
        f"--patch={json.dumps(unpin)}",
    )
    for workload, container, image in (
        ("invoices", "invoices", "invoices:7.2.0"),
        ("reviews", "reviews", "reviews:2.3.0"),
        ("notifications", "smtp-relay", "smtp-relay:3.9.0"),
        ("image-resizer", "image-resizer", "image-resizer:1.2.1"),
    ):
        lab.kubectl(
            *("set", "image", f"deployment/{workload}", "--namespace=shop"),
            f"{container}={REGISTRY_HOST}/{image}",
        )
    agreed = {"force": True, "reason": "the payments team agreed, until its chart leaves the fields alone"}
    workloads = {"namespaces": ["platform", "shop"], "overrides": {f"shop/Deployment/{OWNED}": agreed}}
    it.stack.config({"workloads": workloads})
    it.settled()
    it.up()
    rows = it.exact()
    assert {name: rows[name]["graviton"] for name in (*NEED_X86, OWNED)} == {
        name: rows[name]["replicas"] for name in (*NEED_X86, OWNED)
    }
    assert it.pods_on_x86("shop") == []
    assert len(it.pods_on_x86(OPS)) == 12


def push_for_both(pusher: Pusher, repository: str, tag: str) -> None:
    """Push an image whose programs are for the architectures that it claims."""
    images = [
        pusher.image(
            repository,
            "",
            f"linux/{machine}",
            layers=[layer({"app": elf(machine)})],
            config={"Entrypoint": ["/app"]},
        )
        for machine in ("amd64", "arm64")
    ]
    pusher.index(repository, tag, images)


def empty_the_nodes(it: Migration) -> None:
    """The drain, killed at each of its states and run again; what holds it is named, and is settled then."""
    lab = it.cluster.lab
    (named,) = it.drain("--dry-run", exit_code=3)["blockers"]
    assert named["what"] == f"{OPS}/Deployment/resolver"
    assert "the PodDisruptionBudget resolver never allows an eviction, because all 6 pods" in named["reason"]
    it.cluster.apply(disruption_budget("resolver", OPS, minAvailable=5))
    shown = it.drain("--dry-run")
    assert (sum(node["pods"] for node in shown["nodes"]), shown["blockers"]) == (12, [])
    # A group that has pods on it does not go.
    it.group("x86", 0)
    it.refused(f"pods run on it ({OPS}/", "empty it first with archshift drain")
    it.group("x86", X86)

    it.drain_killed("cordoned")
    it.drain_killed("evicting")
    it.drain_killed("drained")
    labels = {GROUP_LABEL: "x86", "kubernetes.io/hostname": "late-0"}
    it.cluster.nodes("amd64", 1, prefix="late", labels=labels, zones=ZONES)
    (holding, *_) = it.pods_on_x86(OPS, "ledger")
    finalizers(it, holding, '["example.com/ledger"]')
    run = it.stack.begin_archshift("drain", "--timeout=3")
    wait_for(lambda: it.cluster.x86_nodes()["late-0"].get("state") or run.poll() is not None)
    lab.kill("kube-apiserver")
    time.sleep(1)
    lab.start()
    assert "Traceback" not in run.communicate(timeout=300)[1]
    held = it.drain("--timeout=3", exit_code=3)
    assert [(one["what"], one["reason"]) for one in held["waiting"]] == [
        (f"{OPS}/{holding}", "its finalizer example.com/ledger holds it")
    ]
    finalizers(it, holding, "null")
    it.drain()
    assert it.states() == ["drained"] * (X86 + 1)
    assert it.cluster.x86_nodes()["late-0"]["cordoned"]
    assert it.pods_on_x86(OPS) == []
    it.settled()


def finalizers(it: Migration, pod: str, value: str) -> None:
    """Set a pod's finalizers."""
    patch = f'--patch={{"metadata": {{"finalizers": {value}}}}}'
    it.cluster.lab.kubectl("patch", "pod", pod, f"--namespace={OPS}", "--type=merge", patch)


def soak(it: Migration) -> None:
    """Somebody opens a node and a pod comes back to x86: the group does not go until it is emptied again."""
    lab = it.cluster.lab
    lab.kubectl("uncordon", "x86-0")
    lab.kubectl("cordon", *graviton_nodes(it))
    it.cluster.scale("deployment", "resolver", OPS, 7)
    it.settled()
    lab.kubectl("uncordon", *graviton_nodes(it))
    (back,) = it.pods_on_x86(OPS)
    it.group("x86", 0)
    # In an update without a preview the empty nodes would go and this one stay.
    it.refused(
        f"1 pod runs on it ({OPS}/{back})", "empty it first with archshift drain", run=it.stack.preview
    )
    assert it.drain()["evicted"] == 1
    assert it.pods_on_x86(OPS) == []


def scale_to_nothing(it: Migration) -> None:
    """The nodes go, killed after the first and run again; the late one is its maker's to take."""
    it.up_killed(lambda: len(it.cluster.x86_nodes()) <= X86)
    it.up()
    assert set(it.cluster.x86_nodes()) == {"late-0"}
    it.cluster.lab.kubectl("delete", "node", "late-0")
    it.exact()


def remove_the_group(it: Migration) -> None:
    """Out of the configuration: x86 is gone, everything runs, and another preview changes nothing."""
    it.group("x86", None)
    it.up()
    assert it.cluster.x86_nodes() == {}
    # An agent that is on every node has no replicas to count.
    rows = {name: row for name, row in it.exact().items() if name != "log-agent"}
    assert {name: row["graviton"] for name, row in rows.items()} == {
        name: row["replicas"] for name, row in rows.items()
    }
    again = it.stack.preview(PACK)
    assert (again.exit_code, again.changes) == (0, {}), again.output
    assert "there are no x86 nodes to drain" in it.stack.archshift("drain").stdout
