"""Pods move by evictions on a real API server and scheduler, which place their successors by the entries."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest

from archshift.actions.moving import move_pods
from archshift.actions.rollout_limits import RolloutLimits
from archshift.actions.rollouts import StepResult
from archshift.cluster.canaries import delete_canaries, read_canaries
from archshift.cluster.client import connect
from archshift.cluster.entries import OTHERS, PLACED_ANNOTATION, Entry, entry_key
from archshift.cluster.live_placement import SEEN_SECONDS, read_live_placement
from archshift.plan.admission import binding, policy
from archshift.plan.model import PlannedWorkload
from lab.control_plane import CONTEXT, Lab
from tests.lab.lab_helpers import (
    Cluster,
    Manifest,
    deployment,
    disruption_budget,
    meanwhile,
    stateful_set,
    wait_for,
)

STACK = "moving"
SHOP = "moving-shop"
SIZES = (4, 5, 6, 7, 8, 9, 10, 12, 15)
LIMITS = RolloutLimits(longest=300, no_progress=30)


def replica_set(name: str, replicas: int) -> Manifest:
    """A ReplicaSet that no Deployment owns."""
    return deployment(name, replicas, SHOP) | {"kind": "ReplicaSet"}


def fleet() -> list[Manifest]:
    items = [deployment(f"web-{size}", size, SHOP) for size in SIZES]
    return [*items, stateful_set("db", 4, SHOP), replica_set("bare", 6)]


class Moving:
    """The cluster, with the policy and the entries of a step."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.api = connect(CONTEXT, cluster.lab.kubeconfig)
        self.entries: dict[str, str] = {OTHERS: "all on amd64"}

    def add(self, *items: Manifest) -> None:
        """Make workloads whose pods are all on x86."""
        self.set_entries(
            {entry_key(item["kind"], item["metadata"]["name"]): "all on amd64" for item in items}
        )
        self.cluster.apply(items)
        for item in items:
            name, replicas = item["metadata"]["name"], item["spec"]["replicas"]
            wait_for(partial(self._all_ready, name, replicas))

    def _all_ready(self, name: str, replicas: int) -> bool:
        return self.ready(name) == replicas

    def remove(self, *items: Manifest) -> None:
        for item in items:
            self.cluster.lab.kubectl(
                "delete", item["kind"], item["metadata"]["name"], f"--namespace={SHOP}", "--wait=false"
            )

    def set_entries(self, entries: Mapping[str, str]) -> None:
        """Write entries, and wait until the API server sees them."""
        self.entries.update(entries)
        self.cluster.apply([policy(STACK, SHOP, self.entries), binding(STACK, SHOP)])
        time.sleep(SEEN_SECONDS)
        wait_for(lambda: self._admitted() == "all on amd64")

    def _admitted(self) -> str:
        """By which entry a pod that nobody knows would be placed."""
        container = {"name": "app", "image": "registry.example/probe:1"}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "probe", "namespace": SHOP},
            "spec": {"containers": [container]},
        }
        text = self.cluster.lab.kubectl(
            "create", "--dry-run=server", "--output=json", "--filename=-", stdin=json.dumps(pod)
        )
        return str((json.loads(text)["metadata"].get("annotations") or {}).get(PLACED_ANNOTATION, ""))

    def row(self, item: Manifest, wanted: int, **options: Any) -> PlannedWorkload:
        kind, name, replicas = item["kind"], item["metadata"]["name"], item["spec"]["replicas"]
        return PlannedWorkload(
            key=f"{SHOP}/{kind}/{name}",
            namespace=SHOP,
            kind=kind,
            name=name,
            replicas=replicas,
            wanted=wanted,
            graviton=self.on_graviton(name),
            entry=str(Entry(wanted, replicas)),
            **options,
        )

    def move(self, *rows: PlannedWorkload, **options: Any) -> StepResult:
        """Write the entries of rows, and move their pods."""
        self.set_entries({entry_key(row.kind, row.name): row.entry for row in rows})
        return self.go_on(*rows, **options)

    def go_on(self, *rows: PlannedWorkload, **options: Any) -> StepResult:
        """Move the pods of rows whose entries are written."""
        return move_pods(
            self.api, rows, stack_label=STACK, field_manager="archshift/moving", limits=LIMITS, **options
        )

    def pods(self, name: str = "") -> list[Manifest]:
        return [
            pod
            for pod in self.cluster.all_of("pods", SHOP)
            if not pod["metadata"].get("deletionTimestamp")
            if name in ("", pod["metadata"]["labels"]["app.kubernetes.io/name"])
        ]

    def on_graviton(self, name: str) -> int:
        return sum(pod["spec"].get("nodeName", "").startswith("arm64") for pod in self.pods(name))

    def ready(self, name: str) -> int:
        return sum(
            condition["status"] == "True"
            for pod in self.pods(name)
            for condition in pod["status"].get("conditions", ())
            if condition["type"] == "Ready"
        )

    def uids(self, name: str = "") -> set[str]:
        return {pod["metadata"]["uid"] for pod in self.pods(name)}

    def generations(self) -> dict[str, int]:
        return {
            item["metadata"]["name"]: item["metadata"]["generation"]
            for item in self.cluster.all_of("deployments,statefulsets,replicasets", SHOP)
        }


@pytest.fixture(scope="module")
def moving(control_plane: Lab) -> Iterator[Moving]:
    control_plane.start()
    cluster = Cluster(control_plane)
    cluster.nodes("amd64", 4)
    cluster.nodes("arm64", 4)
    cluster.namespace(SHOP)
    moving = Moving(cluster)
    yield moving
    moving.api.close()
    for kind in ("mutatingadmissionpolicybinding", "mutatingadmissionpolicy"):
        control_plane.kubectl("delete", kind, "--all")
    cluster.clear()
    cluster.close()


def test_a_ramp_restarts_exactly_the_pods_that_move(moving: Moving) -> None:
    """Of eleven workloads of several kinds, up and back; no template changes."""
    items = fleet()
    moving.add(*items)
    moving.cluster.apply(disruption_budget("web-8", SHOP, minAvailable=7))
    generations = moving.generations()
    for ratio in (0.5, 1.0, 0.5):
        rows = [moving.row(item, round(ratio * item["spec"]["replicas"])) for item in items]
        before = moving.uids()
        assert moving.move(*rows) == StepResult()
        assert {row.name: moving.on_graviton(row.name) for row in rows} == {
            row.name: row.wanted for row in rows
        }
        assert len(before - moving.uids()) == sum(row.moves for row in rows)
        assert sum(row.moves for row in rows) > 30
    assert moving.generations() == generations
    assert moving.go_on(
        *(moving.row(item, moving.on_graviton(item["metadata"]["name"])) for item in items)
    ) == (StepResult())
    moving.remove(*items)


def test_a_move_that_ends_in_the_middle_goes_on(moving: Moving) -> None:
    item = deployment("half", 12, SHOP)
    moving.add(item)
    before, row = moving.uids("half"), moving.row(item, 9)

    def stop(text: str) -> None:
        if not text.startswith(("0 of", "1 of")):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moving.move(row, say=stop)
    assert 0 < moving.on_graviton("half") < 9
    assert moving.go_on(moving.row(item, 9), incomplete=[row.key]) == StepResult()
    assert moving.on_graviton("half") == 9
    assert len(before - moving.uids("half")) == 9
    moving.remove(item)


def test_an_api_server_that_dies_in_the_middle_is_waited_for(moving: Moving) -> None:
    """It starts again with the entries, and the same update goes on."""
    item = deployment("patient", 12, SHOP)
    moving.add(item)
    before, row = moving.uids("patient"), moving.row(item, 9)
    lab = moving.cluster.lab
    dead = threading.Event()

    def kill(text: str) -> None:
        if not text.startswith(("0 of", "1 of")) and not dead.is_set():
            dead.set()
            lab.kill("kube-apiserver")
            threading.Timer(2, lab.start).start()

    assert moving.move(row, say=kill) == StepResult()
    assert dead.is_set()
    assert moving.on_graviton("patient") == 9
    # A pod that is made before the API server has read the policy again moves twice.
    assert len(before - moving.uids("patient")) <= 10
    moving.remove(item)


def test_one_replica_is_never_away(moving: Moving) -> None:
    """Its limits let no pod be away, so it is rolled out with its surge; three pods too."""
    items = [deployment("one", 1, SHOP), deployment("three", 3, SHOP)]
    moving.add(*items)
    least = {"one": 1, "three": 3}

    def look() -> None:
        for name in least:
            least[name] = min(least[name], moving.ready(name))

    with meanwhile(look, 0.02):
        rows = [moving.row(item, wanted, restarts=True) for item, wanted in zip(items, (1, 2), strict=True)]
        assert moving.move(*rows) == StepResult()
    assert {row.name: moving.on_graviton(row.name) for row in rows} == {"one": 1, "three": 2}
    assert least == {"one": 1, "three": 3}
    uids = moving.uids()
    assert (
        moving.go_on(
            *(moving.row(item, row.wanted or 0, restarts=True) for item, row in zip(items, rows, strict=True))
        )
        == StepResult()
    )
    assert moving.uids() == uids
    moving.remove(*items)


def test_what_crashes_on_graviton_goes_back_and_others_move(moving: Moving) -> None:
    """One pod of each is lost to it; the evidence says why."""
    environment = [{"name": "LAB_OUTCOME", "value": "fail-on-graviton"}]
    bad, single = deployment("bad", 8, SHOP), deployment("single", 1, SHOP)
    for item in (bad, single):
        item["spec"]["template"]["spec"]["containers"][0]["env"] = environment
    good = deployment("good", 8, SHOP)
    moving.add(bad, single, good)
    before = moving.uids("bad")
    rows = [moving.row(bad, 8), moving.row(single, 1, restarts=True), moving.row(good, 4)]
    result = moving.move(*rows)
    words = "container app: CrashLoopBackOff, exec /app: exec format error, exit code 1"
    assert result == StepResult(
        failures={
            row.key: f"it failed on Graviton ({words}); its pods are back on x86 and stay there until its "
            "image changes"
            for row in rows[:2]
        }
    )
    assert [moving.on_graviton(row.name) for row in rows] == [0, 0, 4]
    assert [moving.ready(row.name) for row in rows] == [8, 1, 8]
    assert len(before - moving.uids("bad")) == 1
    (live,) = read_live_placement(moving.api, STACK).data.values()
    assert [live[entry_key("Deployment", name)] for name in ("bad", "single")] == ["all on amd64"] * 2
    canaries = read_canaries(moving.api, STACK, [SHOP])
    assert {key: canary.image for key, canary in canaries.items()} == {
        row.key: f"registry.example/{row.name}:1.0.0" for row in rows[:2]
    }
    delete_canaries(moving.api, STACK, [SHOP, "a-namespace-without-evidence"])
    assert not read_canaries(moving.api, STACK, [SHOP])
    moving.set_entries({})
    moving.remove(bad, single, good)
