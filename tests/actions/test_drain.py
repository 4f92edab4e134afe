"""A drain, step by step: within its budget, one pod of a workload at a time, gone on with anywhere."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.actions import drain as module
from archshift.actions.drain import (
    ANNOTATION,
    NodeProgress,
    Outcome,
    check_only,
    choose_nodes,
    drain,
    nodes_to_drain,
    read_progress,
    undo,
)
from archshift.cluster.client import MERGE
from archshift.cluster.inventory import read_node
from archshift.cluster.pods import Controller
from archshift.common import polling
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import EKS_GROUP_LABEL, GROUP_LABEL
from archshift.nodes.groups import Node
from tests.build import Json, load, node, pod
from tests.fakes import PODS, FakeCluster
from tests.properties import examples

STACK = "archshift/prod"
NODES = "/api/v1/nodes"
CHANGES = {"patch", "evict"}
SETS = "/apis/apps/v1/namespaces/shop/replicasets"
BUDGETS = "/apis/policy/v1/namespaces/shop/poddisruptionbudgets"


class EndedError(Exception):
    """The process was killed."""


@dataclass
class Clock:
    """Time that passes only while the drain sleeps."""

    cluster: "Simulated"
    now: float = 0.0
    sleeps: int = 0

    def sleep(self, seconds: float) -> None:
        """Pass time: what was evicted becomes ready elsewhere."""
        self.now += seconds
        self.sleeps += 1
        self.cluster.tick()

    def monotonic(self) -> float:
        return self.now


class Simulated(FakeCluster):
    """x86 nodes with pods of ReplicaSets, which come back on Graviton some looks later."""

    def __init__(self, x86: Mapping[str, Iterable[str]], slow: int = 1, budget: int = 1) -> None:
        """Place a pod of each named ReplicaSet on each x86 node."""
        super().__init__()
        self.slow, self.allowed = slow, budget
        self.nodes = {name: node(name, "amd64") for name in x86} | {"arm": node("arm")}
        self.placed = [self._pod(owner, name) for name, owners in x86.items() for owner in owners]
        self.sizes = Counter(owner for owners in x86.values() for owner in owners)
        self.waiting: dict[str, int] = {}
        self.fuse = -1
        self.kept: frozenset[str] = frozenset()
        self.home: dict[str, str] = {}
        """ReplicaSet to the node to which its pods come back."""

    def _pod(self, owner: str, where: str, *, ready: bool = True) -> Json:
        number = next(_NUMBERS)
        made = pod(f"{owner}-{number}", where, owner=("ReplicaSet", owner), labels={"app": owner})
        made["metadata"]["uid"] = f"uid-{number}"
        made["status"]["conditions"] = [{"type": "Ready", "status": str(ready)}]
        return made

    def tick(self) -> None:
        """One look passes."""
        for name in list(self.waiting):
            self.waiting[name] -= 1
            if self.waiting[name] < 0:
                (found,) = (one for one in self.placed if one["metadata"]["name"] == name)
                found["status"]["conditions"][0]["status"] = "True"
                del self.waiting[name]

    def _burn(self) -> None:
        self.fuse -= 1
        if self.fuse == 0:
            raise EndedError

    def before(self, verb: str, path: str) -> None:
        """Show the objects as they are now; a change may be the last thing that the process does."""
        del path
        self.objects[NODES] = list(self.nodes.values())
        self.objects[PODS] = self.placed
        self.objects[SETS] = [
            {"metadata": {"name": name}, "spec": {"replicas": size}} for name, size in self.sizes.items()
        ]
        if verb in CHANGES:
            self._burn()

    def after(self, verb: str, path: str) -> None:
        """The process may end once the change is made."""
        if verb == "patch":
            _, _, content_type, field_manager = self.patches[-1]
            assert (content_type, field_manager) == (MERGE, STACK)
            assert path.removeprefix(f"{NODES}/") in self.nodes
        self._burn()

    def allows(self, pod: Json, uid: str) -> bool:
        """Refuse for the ReplicaSets that are kept."""
        meta = pod["metadata"]
        assert (meta["namespace"], uid) == ("shop", meta["uid"])
        return meta["ownerReferences"][1]["name"] not in self.kept

    def terminate(self, pod: Json) -> None:
        """Take a pod away; its next one starts on Graviton."""
        self.placed.remove(pod)
        self.waiting.pop(pod["metadata"]["name"], None)
        owner = pod["metadata"]["ownerReferences"][1]["name"]
        fresh = self._pod(owner, self.home.get(owner, "arm"), ready=False)
        self.placed.append(fresh)
        self.waiting[fresh["metadata"]["name"]] = self.slow
        # No workload ever misses more than one pod, and no more nodes than the budget are begun.
        away = Counter(one.rsplit("-", 1)[0] for one in self.waiting)
        assert max(away.values()) == 1, away
        assert len(self.begun()) <= self.allowed

    def marks(self) -> dict[str, NodeProgress]:
        """How far the nodes are."""
        return {name: read_progress(found) for name, found in self.nodes.items()}

    def begun(self) -> set[str]:
        """The nodes that are being emptied."""
        return {name for name, mark in self.marks().items() if mark.state == "evicting"}


_NUMBERS = iter(range(10**9))


def run(cluster: Simulated, budget: int = 1, **more: Any) -> Outcome:
    """Drain with a clock of the test's own."""
    clock = Clock(cluster)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "time", clock)
        patch.setattr(polling, "time", clock)
        return drain(
            cluster,
            stack=STACK,
            select=partial(nodes_to_drain, groups=()),
            budget=budget,
            **{"timeout": 60, **more},
        )


owners = st.lists(st.sampled_from(["cart", "dns", "pay", "web"]), max_size=5)
fleets = st.dictionaries(st.sampled_from([f"x86-{n}" for n in range(6)]), owners, max_size=6)


@examples
@given(fleets, st.integers(1, 7), st.integers(0, 4))
def test_all_is_moved_within_the_budget(fleet: dict[str, list[str]], budget: int, slow: int) -> None:
    """Every node ends empty and cordoned, every pod was evicted once and is ready elsewhere; on the way
    never more nodes than the budget are begun, and no workload misses two pods (asserted at each eviction).
    """
    cluster = Simulated(fleet, slow, budget)
    outcome = run(cluster, budget)
    assert outcome.waiting == ()
    assert outcome.evicted == len(set(cluster.evicted)) == sum(map(len, fleet.values()))
    assert {one["spec"]["nodeName"] for one in cluster.placed} <= {"arm"}
    assert not cluster.waiting
    for name, mark in cluster.marks().items():
        assert mark.state == ("active" if name == "arm" else "drained")
        assert cluster.nodes[name]["spec"].get("unschedulable", False) is (name != "arm")


@examples
@given(fleets, st.integers(1, 3), st.integers(0, 3), st.lists(st.integers(1, 30), max_size=5))
def test_killed_anywhere_it_is_gone_on_with(
    fleet: dict[str, list[str]], budget: int, slow: int, fuses: list[int]
) -> None:
    """Before or after any write, again and again: the promises of one run hold over all of them together."""
    cluster = Simulated(fleet, slow, budget)
    for fuse in fuses:
        cluster.fuse = fuse
        try:
            run(cluster, budget)
        except EndedError:
            continue
    cluster.fuse = -1
    assert run(cluster, budget).waiting == ()
    assert len(cluster.evicted) == sum(map(len, fleet.values()))
    assert {one["spec"]["nodeName"] for one in cluster.placed} <= {"arm"}
    assert not cluster.waiting
    assert all(mark.state == "drained" for name, mark in cluster.marks().items() if name != "arm")


states = st.dictionaries(
    st.sampled_from("abcdefgh"), st.sampled_from(["active", "cordoned", "evicting", "drained"])
)


@examples
@given(states, st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 9)), st.integers(1, 5))
def test_which_nodes_next(found: dict[str, Any], pods: dict[str, int], budget: int) -> None:
    """What was begun comes first, then the emptiest, within the budget; no empty one is begun."""
    chosen = choose_nodes(found, pods, budget)
    begun = {name for name, state in found.items() if state == "evicting"}
    assert len(chosen) == len(set(chosen)) <= budget
    assert set(chosen) <= begun or begun <= set(chosen)
    fresh = [name for name in chosen if name not in begun]
    assert all(pods.get(name, 0) for name in fresh)
    left = {name for name in found.keys() - begun - set(chosen) if pods.get(name, 0)}
    assert all(pods[one] <= pods[other] for one in fresh for other in left)
    assert len(chosen) == budget or not left


def test_a_smaller_budget_counts_from_the_next_run_on() -> None:
    """Of three nodes that a run with a larger budget has begun, one is worked on at a time."""
    cluster = Simulated({name: ["web", "dns"] for name in ("a", "b", "c")}, budget=3)
    cluster.fuse = 17
    with pytest.raises(EndedError):
        run(cluster, 3)
    cluster.fuse = -1
    assert len(cluster.begun()) == 3
    said: list[str] = []
    assert run(cluster, 1, say=said.append).waiting == ()
    assert [line.split(" nodes")[0] for line in said if " empty, " in line] == ["1 of 3", "2 of 3", "3 of 3"]


def test_what_it_waits_for_in_vain_is_named_and_the_rest_of_the_node_is_moved() -> None:
    """A budget that allows nothing ends the run after the time-out, not before all else is done."""
    cluster = Simulated({"a": ["web", "pay"]})
    cluster.kept = frozenset({"web"})
    spec = {"selector": {"matchLabels": {"app": "web"}}}
    status = {"disruptionsAllowed": 0, "currentHealthy": 1, "desiredHealthy": 1}
    meta = {"namespace": "shop", "name": "one"}
    cluster.objects[BUDGETS] = [{"metadata": meta, "spec": spec, "status": status}]
    said: list[str] = []
    outcome = run(cluster, say=said.append)
    (held,) = outcome.waiting
    assert held.what.startswith("shop/web-")
    assert (held.node, held.reason) == (
        "a",
        "the PodDisruptionBudget one allows 0 evictions now: 1 pod is healthy, and 1 must be",
    )
    assert outcome.evicted == 1
    assert cluster.marks()["a"].state == "evicting"
    assert [line for line in said if line.startswith("waiting for")] == [f"waiting for {held}"]


def test_a_workload_that_is_not_complete_keeps_its_ready_pods() -> None:
    """One that misses a pod elsewhere loses no other; a pod that is not ready itself is no loss."""
    cluster = Simulated({"a": ["web"]})
    cluster.sizes["web"] = 2
    assert [one.reason for one in run(cluster).waiting] == ["1 of 2 pods is ready"]
    assert cluster.evicted == []
    broken = Simulated({"a": ["web"]})
    broken.placed[0]["status"]["conditions"][0]["status"] = "False"
    assert run(broken).evicted == 1


TOLERATES_ALL = [{"operator": "Exists"}]


@pytest.mark.parametrize("tolerations", [TOLERATES_ALL, []], ids=["tolerates", "names the node"])
def test_a_workload_whose_pods_come_back_is_named_and_the_others_move(tolerations: list[Json]) -> None:
    """Its first pod goes, its next ones come back: after the second, it is left and named. No other pod of
    its nodes waits for it, and no other node does, although one node is emptied at a time.
    """
    # The node that it leaves is begun, and so is the next one.
    cluster = Simulated({"a": ["operator", "web"], "b": ["web", "pay"]}, budget=2)
    cluster.home["operator"] = "a"
    for one in cluster.placed:
        if one["metadata"]["labels"]["app"] == "operator":
            one["spec"]["tolerations"] = tolerations
    made = cluster._pod
    cluster._pod = lambda *args, **more: tolerant(made(*args, **more))  # type: ignore[method-assign]

    def tolerant(one: Json) -> Json:
        one["spec"]["tolerations"] = tolerations
        return one

    (held,) = run(cluster, budget=1).waiting
    assert (held.what, held.node) == ("shop/ReplicaSet/operator", "a")
    assert held.reason.startswith("its pods come back to a")
    if tolerations:
        assert "because it tolerates the cordon (operator: Exists)" in held.reason
    else:
        assert "find out what names the node for them: spec.nodeName" in held.reason
    assert Counter(name.rsplit("-", 1)[0] for name in cluster.evicted) == {"operator": 2, "web": 2, "pay": 1}
    assert {one["spec"]["nodeName"] for one in cluster.placed} == {"a", "arm"}
    assert cluster.marks()["b"].state == "drained"


class Operated(Simulated):
    """Pods of a Kafka object, whose operator makes the next pod some looks later, or never."""

    def __init__(self, pods: int, looks: int) -> None:
        super().__init__({"a": ["kafka"] * pods, "b": []})
        self.looks, self.due = looks, list[int]()
        for one in self.placed:
            one["metadata"]["ownerReferences"][1]["kind"] = "Kafka"

    def terminate(self, pod: Json) -> None:
        """Take a pod away; no pod goes while another is away and may come back."""
        assert not self.due or self.looks > 100
        self.placed.remove(pod)
        self.due.append(self.looks)

    def tick(self) -> None:
        """One look passes."""
        self.due = [look - 1 for look in self.due]
        for look in [look for look in self.due if look < 0]:
            self.due.remove(look)
            fresh = self._pod("kafka", self.home.get("kafka", "arm"))
            fresh["metadata"]["ownerReferences"][1]["kind"] = "Kafka"
            self.placed.append(fresh)


def test_an_operator_has_time_to_make_the_next_pod() -> None:
    """Its pods go one after the other. A pod that comes back late is still noticed."""
    cluster = Operated(3, looks=4)
    assert run(cluster).waiting == ()
    assert len(cluster.evicted) == 3
    back = Operated(1, looks=4)
    back.home["kafka"] = "a"
    (held,) = run(back).waiting
    assert held.what == "shop/Kafka/kafka"
    assert len(back.evicted) == 2


def test_a_controller_that_makes_no_next_pod_holds_nothing() -> None:
    """A workflow whose pod was evicted has failed."""
    cluster = Operated(2, looks=10**6)
    assert run(cluster).waiting == ()
    assert len(cluster.evicted) == 2


def test_a_return_is_no_progress() -> None:
    """The drain ends by its time-out although it evicts all the time: each pod that goes is followed by one
    of another owner. It evicts only a few of them.
    """
    cluster = Simulated({"a": ["web"]})
    number = iter(range(10**6))

    def terminate(gone: Json) -> None:
        cluster.placed.remove(gone)
        cluster.placed.append(cluster._pod(f"runner{next(number)}", "a"))

    cluster.terminate = terminate  # type: ignore[method-assign, assignment]
    outcome = run(cluster)
    assert [one.what.rpartition("/")[0] for one in outcome.waiting] == ["shop/ReplicaSet"]
    assert outcome.evicted <= 5


def test_an_eviction_without_an_effect_ends_with_the_time_out() -> None:
    """The API accepts each eviction, and the pod stays."""
    cluster = Simulated({"a": ["web"]})
    cluster.terminate = lambda _: None  # type: ignore[method-assign, assignment]
    (held,) = run(cluster, timeout=5).waiting
    assert held.what == "shop/ReplicaSet/web"


def test_an_autoscaler_that_makes_x86_nodes_for_evicted_pods_is_no_endless_drain() -> None:
    """Each evicted pod comes up on a new x86 node, which the drain takes in: it names the workload."""
    cluster = Simulated({"a": ["web"]})
    number = iter(range(10**6))

    def terminate(gone: Json) -> None:
        cluster.placed.remove(gone)
        name = f"new-{next(number)}"
        cluster.nodes[name] = node(name, "amd64")
        cluster.placed.append(cluster._pod("web", name))

    cluster.terminate = terminate  # type: ignore[method-assign, assignment]
    (held,) = run(cluster).waiting
    assert held.what == "shop/ReplicaSet/web"
    assert "which came up during the drain; make room on the nodes that stay" in held.reason
    assert len(cluster.evicted) == 2


def test_a_bare_pod_that_appears_meanwhile_is_not_evicted_without_the_flag() -> None:
    """Nothing would start it again."""
    cluster = Simulated({"a": ["web"]})
    loner = pod("loner", "a")
    loner["metadata"]["uid"] = "uid-loner"
    cluster.placed.append(loner)
    (held,) = run(cluster).waiting
    assert (held.what, held.node) == ("shop/Pod/loner", "a")
    assert held.reason.startswith("a bare pod, which nothing would start again")
    assert not {"loner"} & {*cluster.evicted}


def test_a_node_that_somebody_uncordons_is_cordoned_again() -> None:
    """Otherwise new pods would come to it, also after the drain called it drained."""
    cluster = Simulated({"a": ["web"]})
    run(cluster)
    del cluster.nodes["a"]["spec"]["unschedulable"]
    assert run(cluster).waiting == ()
    assert cluster.nodes["a"]["spec"]["unschedulable"] is True


def test_each_round_reads_all_pods_once() -> None:
    """However many nodes there are."""
    cluster = Simulated({name: ["web"] for name in "abcdef"})
    rounds: list[int] = []

    def before(verb: str, path: str) -> None:
        Simulated.before(cluster, verb, path)
        if verb == "list" and path == NODES:
            rounds.append(0)
        elif verb == "list" and path == PODS:
            rounds[-1] += 1

    cluster.before = before  # type: ignore[method-assign]
    run(cluster, budget=1)
    assert set(rounds) == {1}


def test_a_pod_that_comes_back_to_an_empty_node_is_moved_again() -> None:
    """Some tolerate a cordoned node: it is begun anew."""
    cluster = Simulated({"a": ["web"], "b": []})
    run(cluster)
    cluster.placed.append(cluster._pod("pay", "b"))
    cluster.sizes["pay"] = 1
    assert run(cluster).evicted == 1


def test_a_node_that_appears_meanwhile_is_taken_in() -> None:
    """An autoscaler may add one at any time before the group is scaled to nothing."""
    cluster = Simulated({"a": ["web"]})
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if " must move" in line and "late" not in cluster.nodes:
            cluster.nodes["late"] = node("late", "amd64")
            cluster.placed.append(cluster._pod("pay", "late"))
            cluster.sizes["pay"] = 1

    assert run(cluster, say=say).waiting == ()
    assert cluster.marks()["late"].state == "drained"
    assert "cordoned: late" in said


def test_undo_leaves_no_trace_but_what_others_did() -> None:
    """Nodes of another stack's drain are not touched; one that was cordoned before stays so."""
    cluster = Simulated({"a": ["web"], "b": [], "c": []})
    cluster.nodes["b"]["spec"]["unschedulable"] = True
    before = json.dumps(cluster.nodes["b"])
    run(cluster)
    other = NodeProgress(node="c", state="drained", stack="archshift/other")
    cluster.nodes["c"]["metadata"]["annotations"] = {ANNOTATION: other.text}
    assert undo(cluster, stack=STACK, only=["a"]) == ["a"]
    # Its mark goes, its cordon stays.
    assert undo(cluster, stack=STACK) == []
    assert cluster.nodes["a"]["spec"] == {}
    found = cluster.nodes["b"]
    assert found["metadata"].pop("annotations") == {}
    assert json.dumps(found) == before
    assert cluster.marks()["c"] == other


@examples
@given(
    st.sampled_from(["cordoned", "evicting", "drained"]),
    st.lists(st.sampled_from([Controller("shop", "ReplicaSet", "web-1"), Controller("a", "Kafka", "b.c")])),
    st.booleans(),
)
def test_a_mark_is_read_as_it_was_written(state: Any, owners: list[Controller], before: bool) -> None:
    """The annotation is the whole record."""
    mark = NodeProgress(node="a", state=state, stack=STACK, owners=tuple(owners), cordoned_before=before)
    item = node("a", "amd64", unschedulable=True)
    item["metadata"]["annotations"] = {ANNOTATION: mark.text}
    assert read_progress(item) == mark


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "null",
        "drained",
        '{"state": "gone"}',
        "[" * 100_000,
        NodeProgress(node="a").text.replace("[]", '["x"]'),
    ],
)
def test_an_annotation_that_is_not_ours_stops_it(text: str) -> None:
    """Nothing is guessed about a node's state."""
    item = node("a", "amd64")
    item["metadata"]["annotations"] = {ANNOTATION: text}
    with pytest.raises(ArchshiftError) as error:
        read_progress(item)
    assert str(error.value).startswith("node a: the annotation archshift/drain is invalid: ")


def labelled(name: str, arch: str = "amd64", **labels: str) -> Node:
    item = node(name, arch)
    item["metadata"]["labels"].update({key.replace("_", "/"): value for key, value in labels.items()})
    return read_node(item)


def test_which_nodes_a_drain_is_about() -> None:
    """A stack's own x86 nodes, also those of an imported group or of one that left the configuration; all
    x86 nodes where a stack makes none.
    """
    nodes = [
        labelled("own", **{GROUP_LABEL: "x86"}),
        labelled("left", **{GROUP_LABEL: "past"}),
        labelled("imported", **{EKS_GROUP_LABEL: "general"}),
        labelled("foreign", **{EKS_GROUP_LABEL: "gpu"}),
        labelled("arm", "arm64", **{GROUP_LABEL: "graviton"}),
    ]
    sizes = {"instance_types": ["m5.xlarge"], "desired_size": 2}
    stack = load(
        arm_ratio="1.0",
        platform="eks",
        cluster='{"name": "prod", "subnets": ["subnet-a"]}',
        node_groups=json.dumps({"x86": sizes, "old": {**sizes, "import": "general"}}),
    )

    def names(*only: str) -> list[str]:
        return [one.name for one in nodes_to_drain(nodes, stack.groups, only)]

    assert names() == ["own", "left", "imported"]
    assert [one.name for one in nodes_to_drain(nodes, ())] == ["own", "left", "imported", "foreign"]
    assert names("x86", "imported") == ["own", "imported"]
    assert names("general") == ["imported"]
    check_only(["general", "own"], nodes, stack.groups)
    with pytest.raises(ArchshiftError) as error:
        check_only(["gpu"], nodes, stack.groups)
    assert str(error.value) == (
        "--only gpu: archshift may drain no x86 node or node group with this name; name one of: "
        "general, past, x86"
    )
