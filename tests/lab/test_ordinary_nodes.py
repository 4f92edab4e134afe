"""What happens to nodes every day: cordons, start-up taints, a drain, a Windows node."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.control_plane import Lab
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.lab_helpers import Stack, deployment
from tests.lab.ordinary import Place, place, plan_of, went_well

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def adopted(
    control_plane: Lab, registry: Registry, push: Pusher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Place, Stack]]:
    """Three x86 and two Graviton nodes; ``web`` on both sides, ``mailer`` on amd64 only."""
    with place(control_plane, registry, push, tmp_path_factory.mktemp("adopted")) as made:
        made.cluster.nodes("amd64", 3, prefix="x")
        made.cluster.nodes("arm64", 2, prefix="g")
        made.cluster.apply(
            [
                made.with_image(deployment("web", 4, made.namespace), "web"),
                made.with_image(deployment("mailer", 2, made.namespace), "legacy"),
            ]
        )
        stack = made.stack(arm_ratio="0.5", platform="eks")
        went_well(stack.up())
        made.cluster.wait_until_settled(made.namespace)
        assert made.cluster.graviton_counts(made.namespace) == {"Deployment/web": 2, "Deployment/mailer": 0}
        yield made, stack


GRAVITON, X86 = ("g-0", "g-1"), ("x-0", "x-1", "x-2")
STATES = {
    "Graviton cordoned": (GRAVITON, ["cordon"], ["uncordon"]),
    "x86 cordoned": (X86, ["cordon"], ["uncordon"]),
    "start-up taint": (
        GRAVITON,
        ["taint", "nodes", "node.cloudprovider.kubernetes.io/uninitialized=true:NoSchedule"],
        ["taint", "nodes", "node.cloudprovider.kubernetes.io/uninitialized-"],
    ),
    "agent": (
        GRAVITON,
        ["taint", "nodes", "node.cilium.io/agent-not-ready=true:NoSchedule"],
        ["taint", "nodes", "node.cilium.io/agent-not-ready-"],
    ),
}


def on_nodes(lab: Lab, command: list[str], nodes: tuple[str, ...]) -> None:
    """``kubectl taint`` has its nodes before the taint."""
    lab.kubectl(*command[:-1], *nodes, command[-1]) if len(command) > 1 else lab.kubectl(*command, *nodes)


@pytest.mark.parametrize("state", STATES)
def test_a_temporary_state_changes_nothing(adopted: tuple[Place, Stack], state: str) -> None:
    """Plan, preview and update leave every workload as it is, and say which nodes take no pods."""
    made, stack = adopted
    nodes, begin, end = STATES[state]
    before = made.generations()
    on_nodes(made.cluster.lab, begin, nodes)
    try:
        plan = plan_of(stack)
        assert {row["action"] for row in plan["workloads"]} == {"hold", "move"}
        assert any(f"{len(nodes)} of {len(nodes)}" in note for note in plan["notes"])
        assert went_well(stack.preview()).changes == {}
        assert went_well(stack.up()).changes == {}
        assert made.generations() == before
        assert made.pinned_to("mailer") == "amd64"
        assert stack.archshift("status").returncode == 0
    finally:
        on_nodes(made.cluster.lab, end, nodes)


def test_nothing_moves_to_cordoned_nodes_until_they_are_back(adopted: tuple[Place, Stack]) -> None:
    """A higher ratio waits and says so; with the nodes it is reached."""
    made, stack = adopted
    before = made.generations()
    made.cluster.lab.kubectl("cordon", *GRAVITON)
    try:
        run = went_well(stack.config({"arm_ratio": "0.75"}).up())
        assert run.changes == {}
        assert "2 of 2 Graviton nodes take no pods now" in run.output
        assert "waits: no Graviton node takes pods now" in run.output
        assert made.generations() == before
    finally:
        made.cluster.lab.kubectl("uncordon", *GRAVITON)
    went_well(stack.up())
    assert made.cluster.graviton_counts(made.namespace)["Deployment/web"] == 3
    assert made.generations()["mailer"] == before["mailer"]


def test_updates_after_a_drain_change_nothing(adopted: tuple[Place, Stack]) -> None:
    """The soak of the runbook: at 1.0 all x86 nodes are empty and cordoned. A Windows node is not."""
    made, stack = adopted
    workloads = {"namespaces": [made.namespace], "exclude": [f"{made.namespace}/Deployment/mailer"]}
    went_well(stack.config({"arm_ratio": "1.0", "workloads": workloads}).up())
    made.cluster.lab.kubectl("delete", "deployment", "mailer", f"--namespace={made.namespace}")
    windows = {"kubernetes.io/os": "windows"}
    made.cluster.nodes("amd64", 1, prefix="w", labels=windows)
    iis = deployment("iis", 1, made.namespace, nodeSelector=windows)
    made.cluster.apply(made.with_image(iis, "none"))
    drained = stack.archshift("drain", "--timeout", "60")
    assert drained.returncode == 0, drained.stdout + drained.stderr
    cordoned = {name for name, node in made.cluster.x86_nodes().items() if node["cordoned"]}
    assert cordoned == set(X86)
    before = made.generations()
    plan = plan_of(stack)
    actions = {row["workload"].rpartition("/")[2]: row["action"] for row in plan["workloads"]}
    assert actions == {"web": "move", "iis": "leave"}
    assert next(side for side in plan["capacity"] if side["architecture"] == "amd64")["nodes"] == 3
    for _ in range(2):
        assert went_well(stack.up()).changes == {}
    assert made.generations() == before
    assert made.pinned_to("web") == "arm64"
