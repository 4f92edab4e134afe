"""Room is asked for by placeholders, waited for, and given free before pods are moved."""

from collections.abc import Mapping
from typing import Any

import pytest

from archshift.actions.placeholders import (
    LABEL,
    NAMESPACE,
    SPREAD_LABEL,
    STACK_LABEL,
    PlaceholderRequest,
    bring_up_nodes,
    needed_after,
    needed_before,
)
from archshift.cluster.model import Inventory
from archshift.cluster.pod_fields import Template
from archshift.cluster.scheduling import Condition, Unmet
from archshift.common.errors import ArchshiftError
from archshift.common.resources import Resources
from archshift.plan.model import Plan, PlannedWorkload
from tests.build import ARCH, deployment, node, planned, pod, required_affinity, workload
from tests.fakes import PODS, FakeCluster

ZONE = "topology.kubernetes.io/zone"
PLACEHOLDERS = f"/api/v1/namespaces/{NAMESPACE}/pods"
OURS = f"{LABEL},{STACK_LABEL}=dev"


def row(name: str, replicas: int, wanted: int | None, *, restarts: bool = True) -> PlannedWorkload:
    """A row of a plan whose patch replaces the pods."""
    return planned(name, replicas, wanted, restarts=restarts)


class Bringing(FakeCluster):
    """A cluster that gives a placeholder a node when it has been looked at ``looks`` times."""

    def __init__(self, looks: int = 1, left: int = 0, lost: int = 0) -> None:
        super().__init__({PLACEHOLDERS: []})
        self.looks, self.left, self.lost = looks, left, lost
        self.events: list[str] = []

    def before(self, verb: str, path: str) -> None:
        """Give the placeholders nodes in time; somebody takes the lost ones away."""
        if path != PLACEHOLDERS:
            return
        self.events.append(verb)
        if verb == "list":
            assert self.lists[-1][1] == {"labelSelector": OURS}
            self.looks -= 1
            self.objects[PLACEHOLDERS] = self.objects[PLACEHOLDERS][self.lost :]
            self.lost = 0
            if self.looks <= 0:
                for pod in self.objects[PLACEHOLDERS][self.left :]:
                    pod["spec"]["nodeName"] = "new"
        elif verb == "create":
            assert self.created[-1][2] == "archshift"
        else:
            assert (verb, self.deletions[-1][1]) == ("delete", OURS)


def test_room_is_asked_for_what_a_step_adds_to_each_side() -> None:
    """More than is there, on either side; nothing for what does not roll out or is left alone."""
    found = {one.key: one for one in (deployment(name, 10) for name in ("up", "down", "same", "alone"))}
    pods = {
        ("shop/Deployment/up", "amd64"): 8,
        ("shop/Deployment/up", "arm64"): 2,
        ("shop/Deployment/down", "arm64"): 10,
        ("shop/Deployment/same", "amd64"): 5,
        ("shop/Deployment/same", "arm64"): 5,
    }
    rows = (
        row("up", 10, 5),
        row("down", 10, 4),
        row("same", 10, 5),
        row("alone", 10, None),
        row("up", 10, 9, restarts=False),
    )
    plan = Plan(arm_ratio=0.5, workloads=rows)
    assert needed_before(plan, Inventory(workloads=found, pods=pods)) == (
        PlaceholderRequest(found["shop/Deployment/up"], "arm64", 3),
        PlaceholderRequest(found["shop/Deployment/down"], "amd64", 6),
    )


def test_pods_without_a_node_may_take_the_room_that_is_asked_for_them() -> None:
    """So it is kept how many were on the side before; not where a zone's room is asked for beside them."""
    spreads = (({"topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"},), ())
    new, zoned = deployment("new", 4), deployment("zoned", 4, template=Template(other_spreads=spreads))
    pods = {(one.key, side): pods for one in (new, zoned) for side, pods in (("amd64", 1), ("", 3))}
    found = Inventory(workloads={one.key: one for one in (new, zoned)}, pods=pods)
    assert needed_before(Plan(arm_ratio=0.5, workloads=(row("new", 4, 2), row("zoned", 4, 2))), found) == (
        PlaceholderRequest(new, "amd64", 1, pods_at_start=1),
        PlaceholderRequest(new, "arm64", 2, pods_at_start=0),
        PlaceholderRequest(zoned, "amd64", 2),
        PlaceholderRequest(zoned, "arm64", 2),
    )


def test_a_workload_that_spreads_over_zones_is_asked_for_as_a_whole() -> None:
    """Each of its pods has one zone left for it: the room of the one that goes may be in another."""
    spreads = (({"topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"},), ())
    one = deployment("zoned", 6, template=Template(other_spreads=spreads))
    pods = {(one.key, "amd64"): 5, (one.key, "arm64"): 1}
    found = Inventory(workloads={one.key: one}, pods=pods)
    assert needed_before(Plan(arm_ratio=0.3, workloads=(row("zoned", 6, 2),)), found) == (
        PlaceholderRequest(one, "amd64", 4),
        PlaceholderRequest(one, "arm64", 2),
    )
    assert needed_before(Plan(arm_ratio=1.0, workloads=(row("zoned", 6, 6),)), found) == (
        PlaceholderRequest(one, "arm64", 6),
    )


def test_evictions_need_room_on_the_side_that_gets_pods() -> None:
    """Where the API server places pods, only the pods that move need a place, and nothing rolls out."""
    spreads = (({"topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"},), ())
    plain, zonal = deployment("plain", 6), deployment("zonal", 6, template=Template(other_spreads=spreads))
    pods = {(one.key, side): count for one in (plain, zonal) for side, count in (("amd64", 5), ("arm64", 1))}
    found = Inventory(workloads={one.key: one for one in (plain, zonal)}, pods=pods)
    rows = tuple(
        planned(one.name, 6, wanted, graviton=1, entry=f"{wanted} of 6 on arm64")
        for one, wanted in ((plain, 3), (zonal, 3), (plain, 1), (zonal, 1))
    )
    assert needed_before(Plan(arm_ratio=0.5, workloads=rows, placed_by="admission"), found) == (
        PlaceholderRequest(plain, "arm64", 2),
        PlaceholderRequest(zonal, "arm64", 3),
    )


def test_room_is_waited_for_and_then_given_free() -> None:
    """Leftovers go first; all placeholders are there before they are looked at, and gone at the end."""
    cluster = Bringing(looks=3)
    wanted = [
        PlaceholderRequest(deployment("cart"), "arm64", 2),
        PlaceholderRequest(deployment("web"), "amd64", 1),
    ]
    bring_up_nodes(cluster, wanted, "dev", timeout=30)
    assert cluster.events == ["delete", *["create"] * 3, *["list"] * 3, "delete"]


def test_without_anything_to_ask_for_leftovers_are_removed() -> None:
    """An update that was killed may have left some."""
    cluster = Bringing()
    bring_up_nodes(cluster, [], "dev")
    assert cluster.events == ["delete"]


def test_room_that_does_not_come_is_told_and_asked_for_no_longer() -> None:
    """Who waits, where, how many more, and what the scheduler says of it."""
    cluster = Bringing(left=2)
    create = cluster.create

    def unschedulable(path: str, body: Mapping[str, Any]) -> None:
        condition = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
        create(path, {**body, "status": {"conditions": [condition]}})

    cluster.create = unschedulable  # type: ignore[method-assign, assignment]
    with pytest.raises(ArchshiftError) as error:
        bring_up_nodes(cluster, [PlaceholderRequest(deployment("cart"), "arm64", 3)], "dev", timeout=0)
    assert str(error.value) == (
        "no Graviton node came up within 0 s for a pod of shop/Deployment/cart and 1 more (0/3 nodes are "
        "available); run kubectl get nodepools,nodeclaims to see why, and check the limits in "
        "archshift:node_groups"
    )
    assert cluster.events[-1] == "delete"


def test_a_placeholder_that_somebody_took_away_is_no_room() -> None:
    """A node that is drained meanwhile takes its placeholders along; that is not the end of waiting."""
    with pytest.raises(ArchshiftError, match=r"^no Graviton node came up within 0 s"):
        bring_up_nodes(
            Bringing(lost=1), [PlaceholderRequest(deployment("cart"), "arm64", 2)], "dev", timeout=0
        )


class Arriving(Bringing):
    """A cluster where pods of the workload cart get nodes while its placeholders wait."""

    def __init__(self, *nodes: str) -> None:
        super().__init__(left=2)
        self.objects |= rolled(*nodes).objects


@pytest.mark.parametrize(
    ("nodes", "there", "more"),
    [
        (["arm", "arm", "x86", ""], 0, None),
        (["arm", "arm", "arm", ""], 1, None),
        (["arm", "x86", "x86", ""], 0, ""),
        (["arm", "arm", "x86", ""], 2, " and 1 more"),
        (["arm", "arm", "x86", ""], None, " and 1 more"),
    ],
    ids=["as many", "beyond those before", "too few", "no more than before", "all had nodes"],
)
def test_room_that_the_workloads_own_pods_took_first_is_waited_for_no_longer(
    nodes: list[str], there: int | None, more: str | None
) -> None:
    """Pods that had no node before may win the race for it, and then the last placeholders find none: that
    is no lack of room. Others are waited for, as many as are missing.
    """
    cluster, ask = (
        Arriving(*nodes),
        PlaceholderRequest(deployment("cart", 4), "arm64", 3, pods_at_start=there),
    )
    if more is None:
        bring_up_nodes(cluster, [ask], "dev", timeout=0)
    else:
        with pytest.raises(ArchshiftError) as error:
            bring_up_nodes(cluster, [ask], "dev", timeout=0)
        assert f"no Graviton node came up within 0 s for a pod of shop/Deployment/cart{more} (" in str(
            error.value
        )
    assert cluster.events[-1] == "delete"
    assert cluster.objects[PLACEHOLDERS] == []


def test_a_placeholder_asks_for_what_the_pod_does() -> None:
    """The same requests, rules and tolerations, on one side; spread like the workload's own pods and counted
    apart from them; without rights, and gone at once.
    """
    spread = {
        "maxSkew": 1,
        "topologyKey": ZONE,
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "cart"}},
        "matchLabelKeys": ["pod-template-hash"],
    }
    template = Template(
        spec={"node-selector": {"disk": "ssd"}, "required": required_affinity("team", "shop")},
        other_spreads=((spread,), ()),
    )
    batch = {"key": "batch", "operator": "Exists", "effect": "NoSchedule"}
    one = deployment("cart", template=template, requests=Resources(250, 64), tolerations=(batch,))
    cluster = Bringing(looks=99)
    with pytest.raises(ArchshiftError):
        bring_up_nodes(cluster, [PlaceholderRequest(one, "arm64", 1, zone="a")], "dev", timeout=0)
    ((_, pod, _),) = cluster.created
    spec = pod["spec"]
    labels = pod["metadata"]["labels"]
    assert spec["nodeSelector"] == {"disk": "ssd", ARCH: "arm64", ZONE: "a"}
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert required == required_affinity("team", "shop")
    assert spec["tolerations"][0] == batch
    assert {one["key"] for one in spec["tolerations"][1:]} == {"archshift/amd64", "archshift/arm64"}
    (constraint,) = spec["topologySpreadConstraints"]
    # Both sides together, as the workload's pods are.
    assert constraint["labelSelector"] == {"matchLabels": {SPREAD_LABEL: labels[SPREAD_LABEL]}}
    assert "matchLabelKeys" not in constraint
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "250m", "memory": "64"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["terminationGracePeriodSeconds"] == 0
    assert "app" not in pod["metadata"]["labels"], "no Service of the workload may find it"


def rolled(*nodes: str) -> FakeCluster:
    """A cluster whose Deployment cart has rolled out to these nodes; an empty name is no node."""
    zones = {"x86": "a", "x86-b": "b", "arm": "a"}
    made = [node(name, "arm64" if name == "arm" else "amd64") for name in zones]
    for one in made:
        one["metadata"]["labels"][ZONE] = zones[one["metadata"]["name"]]
    labels = {"app": "cart", "pod-template-hash": "5d8f"}
    pods = [
        pod(f"cart-{index}", name, owner=("ReplicaSet", "cart-5d8f"), labels=labels)
        for index, name in enumerate(nodes)
    ]
    return FakeCluster(
        {
            "/api/v1/nodes": made,
            PODS: pods,
            "/apis/apps/v1/namespaces/shop/deployments": [workload(name="cart", replicas=len(nodes))],
        }
    )


@pytest.mark.parametrize(
    ("wanted", "zonal", "expected"),
    [
        (1, False, []),
        (3, False, [("arm64", 2, "")]),
        (3, True, [("arm64", 1, "a"), ("arm64", 1, "b")]),
        (0, False, [("amd64", 1, "")]),
        (0, True, [("amd64", 1, "a")]),
    ],
)
def test_after_a_rollout_room_is_asked_for_the_pods_on_the_wrong_side(
    wanted: int, zonal: bool, expected: list[tuple[str, int, str]]
) -> None:
    """As many as are wrong; in the zone that each is in where the workload itself spreads over zones."""
    spreads = (({"topologyKey": ZONE, "whenUnsatisfiable": "DoNotSchedule"},), ())
    one = deployment("cart", 4, template=Template(other_spreads=spreads if zonal else ((), ())))
    cluster = rolled("x86", "x86-b", "x86-b", "arm")
    found = needed_after(cluster, [row("cart", 4, wanted)], Inventory(workloads={one.key: one}))
    assert [(ask.side, ask.pods, ask.zone) for ask in found] == expected


def test_a_placeholder_asks_for_all_that_its_pods_need() -> None:
    """Devices with their limits, the RuntimeClass's nodes, and the zones of the pods' volumes."""

    def in_zone(zone: str) -> Condition:
        return Condition(unmet=Unmet("volume", "data", zone), required=required_affinity(ZONE, zone))

    pool = Condition(unmet=Unmet("runtime class", "gvisor"), selector={"pool": "sandbox"})
    needy = deployment(
        requests=Resources(100, 64, 1, (("ephemeral-storage", 7), ("nvidia.com/gpu", 2))),
        template=Template(spec={"required": required_affinity("disk", "ssd")}),
        conditions=(pool,),
        pod_conditions=((in_zone("a"),), (in_zone("b"),), (in_zone("a"),)),
    )
    cluster = Bringing()
    bring_up_nodes(cluster, [PlaceholderRequest(needy, "arm64", 1)], "dev")
    spec = cluster.created[0][1]["spec"]
    assert spec["nodeSelector"] == {"pool": "sandbox", ARCH: "arm64"}
    required = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    disk = {"key": "disk", "operator": "In", "values": ["ssd"]}
    assert required == {
        "nodeSelectorTerms": [
            {"matchExpressions": [disk, {"key": ZONE, "operator": "In", "values": [zone]}]} for zone in "ab"
        ]
    }
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "100m", "memory": "64", "ephemeral-storage": "7", "nvidia.com/gpu": "2"},
        "limits": {"ephemeral-storage": "7", "nvidia.com/gpu": "2"},
    }


def test_a_placeholder_may_be_anywhere_if_one_pod_may() -> None:
    in_a = Condition(unmet=Unmet("volume", "data", "a"), required=required_affinity(ZONE, "a"))
    cluster = Bringing()
    mixed = deployment(pod_conditions=((in_a,), ()))
    bring_up_nodes(cluster, [PlaceholderRequest(mixed, "arm64", 1)], "dev")
    assert "affinity" not in cluster.created[0][1]["spec"]
