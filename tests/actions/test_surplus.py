"""How many pods of a fleet are on the wrong side, and how many of them can move now."""

from typing import Any

from archshift.actions.surplus import Surplus, measure
from archshift.common.architectures import AMD64, ARM64
from archshift.plan import reasons
from archshift.plan.model import PlannedWorkload
from tests.build import Json, node, planned, pod
from tests.fakes import PODS, FakeCluster


def shop(graviton: int, x86: int, *, name: str = "cart", **options: Any) -> list[Json]:
    """The pods of a workload; each asks for a quarter of a vCPU."""
    return [
        pod(
            f"{name}-{number}",
            "arm" if number < graviton else "x86",
            owner=("ReplicaSet", f"{name}-5d8f"),
            labels={"pod-template-hash": "5d8f"},
            **options,
        )
        for number in range(graviton + x86)
    ]


def ask(
    *rows: PlannedWorkload, pods: list[Json], most: int | None = None, full: bool = False
) -> tuple[list[int | None], dict[str, Surplus], dict[str, str]]:
    """The counts to reach, the surplus, and what is left."""
    nodes = [node("arm"), node("x86", "amd64")]
    if full:
        nodes[0]["status"]["allocatable"]["pods"] = "3"
    due, found, left = measure(FakeCluster({PODS: pods, "/api/v1/nodes": nodes}), rows, most)
    short = {key.rpartition("/")[2]: value for key, value in found.items()}
    return [row.wanted for row in due], short, {key.rpartition("/")[2]: why for key, why in left.items()}


def test_only_the_surplus_moves() -> None:
    """In either direction."""
    rows = planned("cart", 6, 4), planned("web", 5, 1)
    pods = shop(1, 5) + shop(3, 2, name="web")
    assert ask(*rows, pods=pods) == (
        [4, 1],
        {"cart": Surplus(AMD64, 3, 3), "web": Surplus(ARM64, 2, 2)},
        {},
    )


def test_where_nodes_come_up_on_demand_a_full_side_is_no_limit() -> None:
    """Karpenter removes the nodes of a side whose pods are on the other one."""
    pods = shop(0, 6)
    alone = FakeCluster({PODS: pods, "/api/v1/nodes": [node("x86", "amd64")]})
    due, found, left = measure(alone, [planned("cart", 6, 4)], None)
    assert (due, found["shop/Deployment/cart"].moves) == ([], 0)
    assert left == {"shop/Deployment/cart": "4 pods find no room on Graviton"}
    due, found, left = measure(alone, [planned("cart", 6, 4)], None, on_demand=True)
    assert ([row.wanted for row in due], found["shop/Deployment/cart"].moves, left) == ([4], 4, {})


def test_a_limit_counts_over_all_workloads() -> None:
    """What it lets move is a step on the way."""
    rows = planned("cart", 6, 4), planned("web", 5, 1), planned("late", 2, 1)
    pods = shop(1, 5) + shop(3, 2, name="web") + shop(2, 0, name="late")
    assert ask(*rows, pods=pods, most=4) == (
        [4, 2],
        {"cart": Surplus(AMD64, 3, 3), "web": Surplus(ARM64, 2, 1), "late": Surplus(ARM64, 1, 0)},
        {"web": reasons.MAX_PODS, "late": reasons.MAX_PODS},
    )


def test_a_pod_without_room_on_its_side_stays() -> None:
    """It would come back, and its restart would be for nothing. The room is for all workloads together."""
    rows = planned("cart", 6, 4), planned("web", 2, 1)
    pods = shop(1, 5) + shop(0, 2, name="web")
    assert ask(*rows, pods=pods, full=True) == (
        [3],
        {"cart": Surplus(AMD64, 3, 2), "web": Surplus(AMD64, 1, 0)},
        {"cart": "1 pod finds no room on Graviton", "web": "1 pod finds no room on Graviton"},
    )


def test_a_restart_counts_all_pods_of_its_workload() -> None:
    row = planned("cart", 3, 2, restarts=True)
    assert ask(row, pods=shop(1, 2), most=2) == (
        [],
        {"cart": Surplus(AMD64, 1, 0)},
        {"cart": reasons.MAX_PODS},
    )
    assert ask(row, pods=shop(1, 2), most=3) == ([2], {"cart": Surplus(AMD64, 1, 1)}, {})


def test_a_workload_does_not_restart_for_pods_without_room() -> None:
    """All its pods would restart, and those without room would come back or stay pending."""
    row = planned("cart", 6, 4, restarts=True)
    assert ask(row, pods=shop(1, 5), full=True) == (
        [],
        {"cart": Surplus(AMD64, 3, 0)},
        {"cart": "1 pod finds no room on Graviton"},
    )


def test_what_has_become_right_meanwhile_does_not_move() -> None:
    """Also where pods end or are missing."""
    assert ask(planned("cart", 4, 2, graviton=1), pods=shop(2, 2)) == ([], {}, {})
    ending = shop(0, 1, name="old", terminating=True)
    assert ask(planned("cart", 4, 2, graviton=1), pods=shop(1, 2) + ending) == ([], {}, {})
