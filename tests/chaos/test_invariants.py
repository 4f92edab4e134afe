"""What the checker takes for a violation, what it does not, and that it is not blind."""

import copy
from dataclasses import replace
from typing import Any

import pytest

from chaos.fleet import without_x86, workloads
from chaos.invariants import ARCH, Checker, Snapshot, at_rest, least_available

Object = dict[str, Any]


def node(name: str, arch: str = "amd64", uid: str = "") -> Object:
    return {"metadata": {"name": name, "uid": uid or name, "labels": {ARCH: arch}}, "spec": {}}


def pod(app: str, number: int, on: str = "x86-0", **more: Any) -> Object:
    """A pod that serves, unless `more` says otherwise."""
    meta = {"name": f"{app}-{number}", "labels": {"app": app}, **more}
    ready = {"type": "Ready", "status": "True"}
    return {"metadata": meta, "spec": {"nodeName": on}, "status": {"conditions": [ready]}}


def workload(name: str, replicas: int, kind: str = "Deployment", **rolling: Any) -> Object:
    """A workload with its rollout limits."""
    where = "updateStrategy" if kind == "StatefulSet" else "strategy"
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [{"name": "app"}]}}
    spec = {
        "replicas": replicas,
        "template": template,
        **({where: {"rollingUpdate": rolling}} if rolling else {}),
    }
    return {"kind": kind, "metadata": {"name": name}, "spec": spec}


def snapshot(at: float, *, nodes: list[Object] | None = None, pods: int = 4, replicas: int = 4) -> Snapshot:
    """A moment in which a Deployment `web` has so many of its pods, one of which may be away."""
    return Snapshot(
        at=at,
        nodes=tuple([node("x86-0"), node("x86-1"), node("graviton-0", "arm64")] if nodes is None else nodes),
        workloads=(workload("web", replicas, maxUnavailable=1),),
        pods=tuple(pod("web", number) for number in range(pods)),
    )


def checker() -> Checker:
    """A checker of a cluster in which `legacy` needs x86, on two nodes."""
    return Checker(needing={"legacy"}, x86={"x86-0", "x86-1"})


def seen(checker: Checker, *snapshots: Snapshot) -> list[str]:
    """What a checker says of these moments."""
    for one in snapshots:
        checker.look(one)
    return list(checker.violations)


def test_a_quiet_cluster_has_no_violation() -> None:
    """Nothing is said where nothing happens, or where a rollout stays within its limits."""
    assert seen(checker(), snapshot(0), snapshot(1, pods=3), snapshot(2)) == []


def test_without_a_guard_x86_is_seen_to_go() -> None:
    """What the node list looks like after an update of a program without its check and its hook: each way
    in which the run tries to remove x86 is a violation.
    """
    for pick in (0.1, 0.5, 0.9):
        groups = without_x86(pick)
        arch = {"m6i.xlarge": "amd64", "m7g.xlarge": "arm64"}
        left = [
            node(
                f"{name}-{index}",
                arch[group["instance_type"]],
                uid=f"{name}-{index}-{group['instance_type']}",
            )
            for name, group in groups.items()
            for index in range(group["size"])
        ]
        before = [node(f"x86-{index}", uid=f"x86-{index}-m6i.xlarge") for index in range(2)]
        got = seen(
            checker(), snapshot(0, nodes=before), snapshot(1, nodes=[*left, node("x86-0")][: len(left)])
        )
        assert any("x86-1" in sentence and "while legacy need x86" in sentence for sentence in got), pick


def test_a_removed_and_a_replaced_x86_node_are_told_apart() -> None:
    """The sentence says which node, what happened, and what needs x86."""
    gone = seen(checker(), snapshot(0), snapshot(1, nodes=[node("x86-0")]))
    assert "x86 node x86-1 was removed while legacy need x86" in gone
    new = [node("x86-0"), node("x86-1", uid="another")]
    assert "x86 node x86-1 was replaced while legacy need x86" in seen(
        checker(), snapshot(0), snapshot(1, nodes=new)
    )


def test_a_node_that_a_fault_deleted_is_excused_once() -> None:
    """Gone by the fault and made anew by the stack is fine; that its successor goes is not."""
    one = checker()
    one.look(snapshot(0))
    one.excuse_node("x86-1")
    without, anew = [node("x86-0")], [node("x86-0"), node("x86-1", uid="second")]
    assert seen(one, snapshot(1, nodes=without), snapshot(2, nodes=anew)) == []
    assert seen(one, snapshot(3, nodes=without)) == ["x86 node x86-1 was removed while legacy need x86"]


def test_x86_may_go_when_nothing_needs_it() -> None:
    """The last step is no violation."""
    one = checker()
    one.look(snapshot(0))
    one.needing.clear()
    assert seen(one, snapshot(1, nodes=[node("x86-0")])) == []


def test_a_pod_that_needs_x86_on_graviton_is_seen() -> None:
    """It would not start there."""
    moment = snapshot(0)
    stray = Snapshot(
        at=1,
        nodes=moment.nodes,
        workloads=moment.workloads,
        pods=(*moment.pods, pod("legacy", 0, "graviton-0")),
    )
    assert seen(checker(), stray) == ["legacy needs x86, but its pod legacy-0 is on Graviton"]


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("leaving", "2 being deleted"),
        # The nodes of this snapshot have no conditions.
        ("unready", "2 on x86-0, which is not ready"),
        ("nowhere", "2 on x86-9, which is gone"),
    ],
)
def test_only_pods_that_serve_count(what: str, why: str) -> None:
    """A pod that is going, that is not ready, or whose node is gone is not available."""
    moment = snapshot(1)
    changed = copy.deepcopy(list(moment.pods))
    for one in changed[:2]:
        if what == "leaving":
            one["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
        elif what == "unready":
            one["status"]["conditions"][0]["status"] = "False"
        else:
            one["spec"]["nodeName"] = "x86-9"
    after = Snapshot(at=1, nodes=moment.nodes, workloads=moment.workloads, pods=tuple(changed))
    assert seen(checker(), snapshot(0), after) == [
        f"web had 2 of 4 pods available, but its own limits require 3 ({why})"
    ]


def test_pods_whose_kubelet_was_late_are_excused() -> None:
    """Their containers are ready, and Kubernetes declares them not ready. A rollout replaces these first."""

    def at(second: float, *, there: int = 4, late: int = 0, down: int = 0) -> Snapshot:
        moment = snapshot(second, pods=there)
        pods = copy.deepcopy(list(moment.pods))
        for number, one in enumerate(pods):
            containers = "False" if number < down else "True"
            one["status"]["conditions"].append({"type": "ContainersReady", "status": containers})
            if number < max(late, down):
                one["status"]["conditions"][0]["status"] = "False"
        return Snapshot(at=second, nodes=moment.nodes, workloads=moment.workloads, pods=tuple(pods))

    assert seen(checker(), at(0), at(1, late=3), at(60, late=2), at(62), at(63, late=3)) == []
    assert seen(checker(), at(0), at(1, down=3)) != []
    # Only those that were late are excused, and not for long once they are gone.
    assert seen(checker(), at(0), at(1, late=2), at(9, there=2)) != []
    gone = Snapshot(at=9, nodes=at(9).nodes, workloads=at(9).workloads, pods=at(9).pods[2:])
    assert seen(checker(), at(0), at(1, late=2), gone) == []
    assert seen(checker(), at(0), at(15, late=2), replace(gone, at=30), replace(gone, at=46)) != []
    # A pod that was late and is ready again counts again.
    assert seen(checker(), at(0), at(1, late=2), at(2), replace(gone, at=9)) != []


def test_pods_that_a_fault_took_are_excused_until_all_are_back() -> None:
    """Not longer: the next loss is archshift's, and more than the fault took always is."""
    one = checker()
    one.look(snapshot(0))
    one.excuse("web", 2, at=1)
    assert seen(one, snapshot(1, pods=1), snapshot(2, pods=4), snapshot(4, pods=4)) == []
    assert seen(one, snapshot(5, pods=2)) == [
        "web had 2 of 4 pods available, but its own limits require 3 (no other pods)"
    ]
    other = checker()
    other.look(snapshot(0))
    other.excuse("web", 1, at=1)
    assert seen(other, snapshot(1, pods=1)) == [
        "web had 1 of 4 pods available, but its own limits require 2 (no other pods)"
    ]


def test_a_workload_owes_new_pods_once_it_has_had_them() -> None:
    """An autoscaler's new pods are not missing before they came, and are afterwards."""
    up = [snapshot(1, pods=4, replicas=8), snapshot(2, pods=8, replicas=8)]
    one = checker()
    assert seen(one, snapshot(0), *up) == []
    assert seen(one, snapshot(3, pods=5, replicas=8)) == [
        "web had 5 of 8 pods available, but its own limits require 7 (no other pods)"
    ]
    assert seen(checker(), snapshot(0), snapshot(1, pods=2, replicas=2)) == []


def test_scaling_down_excuses_what_it_takes() -> None:
    """In a rollout, the controller may take available pods. Once all are back, the limits hold again."""
    scaled = [snapshot(0, pods=7, replicas=7), snapshot(1, pods=2, replicas=4)]
    assert not seen(checker(), *scaled, snapshot(9, pods=4))
    assert seen(checker(), *scaled, snapshot(9, pods=4), snapshot(10, pods=2)) == [
        "web had 2 of 4 pods available, but its own limits require 3 (no other pods)"
    ]


def test_nodes_that_could_not_report_are_not_archshifts_doing() -> None:
    """After a long outage of the API server pods are not ready for a moment; later they have to be."""
    one = checker()
    assert seen(one, snapshot(0), snapshot(30, pods=0), snapshot(33), snapshot(34)) == []
    assert seen(one, snapshot(35, pods=0)) == [
        "web had 0 of 4 pods available, but its own limits require 3 (no other pods)"
    ]
    assert seen(checker(), snapshot(0), snapshot(10, pods=0)) != []


@pytest.mark.parametrize(
    ("one", "least"),
    [
        (workload("a", 10, maxUnavailable="25%"), 8),
        (workload("a", 3), 3),
        (workload("a", 4), 3),
        (workload("a", 3, maxUnavailable="10%", maxSurge=0), 2),
        (workload("a", 3, maxUnavailable=5), 0),
        (workload("a", 3, "StatefulSet"), 2),
        (workload("a", 3, "StatefulSet", maxUnavailable="34%"), 1),
    ],
)
def test_rollout_limits_are_those_of_the_controllers(one: Object, least: int) -> None:
    """A Deployment's share is rounded down, a StatefulSet's up."""
    assert least_available(one, one["spec"]["replicas"]) == least


def rested(*changed: Object) -> tuple[Snapshot, dict[str, Object]]:
    """The fleet at rest, with some workloads changed, and what was expected."""
    fleet = {one["metadata"]["name"]: one for one in workloads()}
    live = {**fleet, **{one["metadata"]["name"]: one for one in changed}}
    pods = [pod(name, index) for name, one in fleet.items() for index in range(one["spec"]["replicas"])]
    return Snapshot(at=0, nodes=(node("x86-0"),), workloads=tuple(live.values()), pods=tuple(pods)), fleet


def patched(name: str) -> Object:
    """A workload of the fleet as archshift patches it."""
    (one,) = [copy.deepcopy(one) for one in workloads() if one["metadata"]["name"] == name]
    template = one["spec"]["template"]
    template["metadata"]["annotations"] = {"archshift.dev/revision": "1"}
    template["spec"].setdefault("affinity", {})["nodeAffinity"] = {"preferred": []}
    template["spec"]["topologySpreadConstraints"] = [{"topologyKey": ARCH, "maxSkew": 2}]
    return one


def test_archshifts_own_fields_are_nothing_lost() -> None:
    """Neither in a workload without an affinity nor beside one of its own."""
    moment, expected = rested(patched("web-3"), patched("web-9"))
    assert at_rest(moment, expected, ["x86-0"]) == []


def test_what_is_lost_at_rest_is_seen() -> None:
    """A workload, a field of its spec, a pod, a node; and what is left over, and cordoned."""
    spoiled = patched("web-9")
    del spoiled["spec"]["template"]["spec"]["affinity"]["podAntiAffinity"]
    smaller = patched("web-8")
    smaller["spec"]["replicas"] = 7
    moment, expected = rested(spoiled, smaller, workload("stray", 1))
    cordoned = node("x86-0")
    cordoned["spec"]["unschedulable"] = True
    moment = Snapshot(
        at=0,
        nodes=(cordoned, node("x86-7")),
        workloads=tuple(one for one in moment.workloads if one["metadata"]["name"] != "store"),
        pods=moment.pods[1:],
    )
    said = at_rest(moment, expected, ["x86-0", "x86-1"])
    assert any(one.startswith("web-9: spec.template.spec.affinity is None, not") for one in said)
    assert [one for one in said if not one.startswith("web-9")] == [
        "store is lost",
        "stray is unexpected",
        "web-1 has 0 of 1 pods available at rest",
        "web-8: spec.replicas is 7, not 8",
        "node x86-1 is lost",
        "node x86-7 is unexpected",
        "node x86-0 is cordoned",
    ]
