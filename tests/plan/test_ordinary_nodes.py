"""Temporary states of nodes never change a plan: cordons, nodes that are not ready, start-up taints."""

from collections.abc import Mapping
from typing import Any

import pytest

from archshift.cluster.inventory import read_node, read_workload
from archshift.cluster.model import Inventory
from archshift.images.verdict import AMD64_ONLY, MULTI_ARCH, Verdict
from archshift.images.workload import Blocking, WorkloadVerdict
from archshift.nodes.groups import AnyNodeGroup
from archshift.plan.model import Plan
from archshift.plan.planner import make_plan
from tests.build import MANAGER, Json, eks_group, node, node_pool, workload
from tests.fakes import Live

CORDON = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
STATES: dict[str, Json] = {
    "cordoned": {"unschedulable": True, "taints": [CORDON]},
    "not ready": {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]},
    "unreachable": {"taints": [{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]},
    "cloud": {"taints": [{"key": "node.cloudprovider.kubernetes.io/uninitialized", "effect": "NoSchedule"}]},
    "autoscaler": {"taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}]},
    "karpenter": {"taints": [{"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}]},
    "agent": {"taints": [{"key": "node.cilium.io/agent-not-ready", "effect": "NoExecute"}]},
    "spot": {"taints": [{"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"}]},
}
READY = ("x-a", "x-b", "g-a", "g-b")


def nodes(state: Json | None = None, closed: tuple[str, ...] = ()) -> list[Json]:
    """Two nodes a side, some of them in this state."""
    return [
        node(name, "amd64" if name.startswith("x") else "arm64", **(state or {} if name in closed else {}))
        for name in READY
    ]


class Fleet:
    """``web`` runs on both sides, ``mailer`` on amd64 only."""

    def __init__(self) -> None:
        self.lives = [
            Live("Deployment", workload("Deployment", "mailer", replicas=2)),
            Live("Deployment", workload("Deployment", "web", replicas=4)),
        ]
        self.pods: dict[str, int] = {}

    def plan(self, ratio: float, live_nodes: list[Json], groups: tuple[AnyNodeGroup, ...] = ()) -> Plan:
        found = [read_workload(live.kind, live.json(), MANAGER) for live in self.lives]
        on_graviton = {one.key: self.pods.get(one.key, 0) for one in found}
        return make_plan(
            arm_ratio=ratio,
            inventory=Inventory(
                workloads={one.key: one for one in found},
                nodes=tuple(map(read_node, live_nodes)),
                pods={(one.key, "arm64"): on_graviton[one.key] for one in found}
                | {(one.key, "amd64"): one.replicas - on_graviton[one.key] for one in found},
            ),
            verdicts={
                "shop/Deployment/mailer": verdict("mailer", AMD64_ONLY),
                "shop/Deployment/web": verdict("web", MULTI_ARCH),
            },
            groups=groups,
        )

    def up(self, ratio: float, live_nodes: list[Json]) -> None:
        plan = self.plan(ratio, live_nodes)
        for live, row in zip(self.lives, plan.workloads, strict=True):
            if row.patch:
                live.apply(row.patch, MANAGER)
            self.pods[row.key] = row.wanted or 0

    def patches(self, plan: Plan) -> list[Mapping[str, Any] | None]:
        return [row.patch for row in plan.workloads]


def verdict(name: str, value: Verdict) -> WorkloadVerdict:
    blocking = () if value == MULTI_ARCH else (Blocking("app", "app:1", value, "container app: why"),)
    return WorkloadVerdict(f"shop/Deployment/{name}", value, blocking, ())


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("ratio", "closed"),
    [(0.5, ("g-a", "g-b")), (0.5, ("x-a", "x-b")), (1.0, ("x-a", "x-b")), (0.5, READY), (0.5, ("g-a",))],
    ids=["graviton", "x86", "x86 after a drain", "all", "one"],
)
def test_a_temporary_state_of_nodes_changes_nothing(
    state: str, ratio: float, closed: tuple[str, ...]
) -> None:
    """No patch differs or goes, nothing rolls out, nothing is short, and the nodes are named."""
    fleet = Fleet()
    fleet.up(ratio, nodes())
    before = fleet.plan(ratio, nodes())
    after = fleet.plan(ratio, nodes(STATES[state], closed))
    assert fleet.patches(after) == fleet.patches(before)
    assert [row.action for row in after.workloads] == ["hold", "move"]
    assert not any(row.restarts for row in after.workloads)
    assert (after.wanted, after.pods, after.shortages) == (before.wanted, before.pods, [])
    assert after.waiting == []
    assert not before.node_notes
    assert all("now: cordoned, not ready" in note for note in after.node_notes)
    assert len(after.node_notes) == len({name[0] for name in closed})


@pytest.mark.parametrize("state", STATES)
def test_nothing_moves_to_a_side_that_takes_no_pods(state: str) -> None:
    """The share stays as it is, whatever the ratio asks for, until the nodes take pods again."""
    fleet = Fleet()
    fleet.up(0.5, nodes())
    before = fleet.plan(0.5, nodes())
    for ratio in (0.25, 0.75, 1.0):
        after = fleet.plan(ratio, nodes(STATES[state], ("g-a", "g-b")))
        assert fleet.patches(after) == fleet.patches(before)
        assert not any(row.restarts for row in after.workloads)
        (web,) = after.waiting
        assert (web.key, web.wanted, web.graviton, web.action) == ("shop/Deployment/web", 2, 2, "keep")
        assert web.reason.startswith("waits: no Graviton node takes pods now")
        assert (after.wanted, after.direction) == (2, "none")
    moved = fleet.plan(0.75, nodes())
    assert [row.restarts for row in moved.workloads] == [False, True]
    # Away from the closed nodes is possible.
    back = fleet.plan(0.0, nodes(STATES[state], ("g-a", "g-b")))
    assert (back.waiting, back.wanted, back.direction) == ([], 0, "down")


def test_the_first_update_waits_for_nodes_that_take_pods() -> None:
    """The workload that stays on x86 gets its pin at once; the other would be pending."""
    fleet = Fleet()
    plan = fleet.plan(0.5, nodes(STATES["cordoned"], ("g-a", "g-b")))
    mailer, web = plan.workloads
    assert (mailer.action, mailer.restarts) == ("hold", True)
    assert (web.action, web.patch, web.restarts) == ("keep", None, False)


def test_pods_that_lost_their_nodes_are_not_made_anew() -> None:
    """All Graviton nodes were emptied for an upgrade. A rollout would bring no pod back now."""
    fleet = Fleet()
    fleet.up(0.5, nodes())
    fleet.pods["shop/Deployment/web"] = 0
    closed = fleet.plan(0.5, nodes(STATES["cordoned"], ("g-a", "g-b")))
    assert not any(row.restarts for row in closed.workloads)
    assert fleet.plan(0.5, nodes()).workloads[1].restarts


@pytest.mark.parametrize(
    ("group", "waits"),
    [
        (eks_group("graviton", "m7g.xlarge", size=2, most=9, autoscaled=True), False),
        (eks_group("graviton", "m7g.xlarge", size=2, most=2, autoscaled=True), True),
        (eks_group("graviton", "m7g.xlarge", size=2, most=9), True),
        (node_pool("graviton", "m7g.xlarge"), False),
    ],
    ids=["autoscaled", "autoscaled, full", "fixed", "NodePool"],
)
def test_a_side_whose_group_may_grow_takes_pods(group: AnyNodeGroup, waits: bool) -> None:
    fleet = Fleet()
    closed = nodes(STATES["cordoned"], ("g-a", "g-b"))
    for one in closed[2:]:
        one["metadata"]["labels"]["archshift/node-group"] = "graviton"
    assert bool(fleet.plan(0.5, closed, (group,)).waiting) is waits


def test_another_tools_nodepool_may_add_a_node() -> None:
    """Karpenter brings up a node for a pod that no other node takes."""
    fleet = Fleet()
    closed = nodes(STATES["karpenter"], ("g-a", "g-b"))
    assert fleet.plan(0.5, closed).waiting
    closed[2]["metadata"]["labels"]["karpenter.sh/nodepool"] = "general"
    assert not fleet.plan(0.5, closed).waiting


def test_a_shortage_that_ends_with_the_state_is_only_named() -> None:
    """Only a lasting shortage stops the update."""
    fleet = Fleet()
    small = nodes()
    for one in small[2:]:
        one["status"]["allocatable"]["cpu"] = "150m"
    assert fleet.plan(0.5, small).node_notes == ()
    small[2]["spec"] = STATES["cordoned"]
    plan = fleet.plan(0.5, small)
    assert plan.shortages == []
    assert plan.node_notes == (
        "1 of 2 Graviton nodes take no pods now: cordoned, not ready or with a temporary taint; until they "
        "do, Graviton lacks 0.1 vCPU: 2 pods ask for 0.2 vCPU and 0.1 GiB of the 0.1 vCPU and 16.0 GiB of 1 "
        "node",
    )


@pytest.mark.parametrize("kind", ["windows", "fargate", "virtual"])
def test_a_workload_on_special_nodes_is_left_alone(kind: str) -> None:
    """archshift could not move its pods, and would roll it out at every update."""
    fleet = Fleet()
    labels = {
        "windows": {"kubernetes.io/os": "windows"},
        "fargate": {"eks.amazonaws.com/compute-type": "fargate"},
        "virtual": {"type": "virtual-kubelet"},
    }[kind]
    special = node("special", "amd64")
    special["metadata"]["labels"] |= labels
    found = read_workload("Deployment", fleet.lives[1].json(), MANAGER)
    plan = make_plan(
        arm_ratio=1.0,
        inventory=Inventory(
            workloads={found.key: found},
            nodes=tuple(map(read_node, [*nodes(), special])),
            pods={(found.key, read_node(special).architecture): 4},
        ),
    )
    (row,) = plan.workloads
    assert (row.action, row.patch) == ("leave", None)
    assert row.reason == f"left alone: its pods run on {kind.title()} nodes"
    assert plan.balances["amd64"].nodes == 2
