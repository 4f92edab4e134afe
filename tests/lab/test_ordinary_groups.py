"""Node groups of a stack on an ordinary cluster: labels of others, DaemonSets, Windows, a second stack."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from archshift.cluster.inventory import read_node
from lab.control_plane import Lab
from tests.images.build import Pusher
from tests.images.servers import Registry
from tests.lab.lab_helpers import INSTANCE_TYPES, ZONES, Stack, daemon_set, deployment
from tests.lab.ordinary import Place, place, plan_of, planned_rows, went_well

pytestmark = pytest.mark.timeout(600)


def groups(x86: int, graviton: int = 0) -> dict[str, Any]:
    sizes = {"x86": ("amd64", x86), "graviton": ("arm64", graviton)}
    return {
        name: {"instance_type": INSTANCE_TYPES[side], "size": size, "zones": list(ZONES)}
        for name, (side, size) in sizes.items()
        if size
    }


@pytest.fixture(scope="module")
def made_nodes(
    control_plane: Lab, registry: Registry, push: Pusher, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Place, Stack]]:
    """Four x86 nodes of the stack. Two amd64-only pods need one of them; others fit no node at all."""
    with place(control_plane, registry, push, tmp_path_factory.mktemp("made")) as made:
        stack = made.stack(arm_ratio="0.0", node_groups=groups(4))
        went_well(stack.up())
        made.cluster.lab.kubectl("label", "nodes", "--all", "disk=ssd")
        arm = daemon_set("flannel-arm", "kube-system", nodeSelector={"beta.kubernetes.io/arch": "arm"})
        gpu = daemon_set("gpu-plugin", "kube-system", nodeSelector={"nvidia.com/gpu.present": "true"})
        huge = deployment("huge", 1, "kube-system")
        huge["spec"]["template"]["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "64"}}
        selects = deployment("legacy", 2, made.namespace, nodeSelector={"disk": "ssd"})
        made.cluster.apply([made.with_image(item, "none") for item in (arm, gpu, huge)])
        made.cluster.apply(
            [
                made.with_image(selects, "legacy"),
                made.with_image(
                    deployment("old", 2, made.namespace, nodeSelector={"beta.kubernetes.io/os": "linux"}),
                    "legacy",
                ),
            ]
        )
        yield made, stack


def test_labels_of_others_on_the_stacks_own_nodes_count(made_nodes: tuple[Place, Stack]) -> None:
    """The workload runs there: it is held for its image, and nothing is taken from it."""
    made, stack = made_nodes
    node = read_node(made.cluster.get("node", "x86-0"))
    assert node.labels.keys() - node.settings_labels == {"disk"}
    rows = planned_rows(stack)
    assert (rows["legacy"]["action"], rows["old"]["action"]) == ("hold", "hold")
    went_well(stack.preview())


def test_x86_shrinks_to_what_its_needs_can_use(made_nodes: tuple[Place, Stack]) -> None:
    """Needs that fit no x86 node, before or after, stop nothing, protect nothing and block no drain."""
    made, stack = made_nodes
    report = json.loads(stack.archshift("report", "--json").stdout)
    assert report["guard"]["nodes_that_must_stay"] == 1
    went_well(stack.up())
    drained = stack.archshift("drain", "--only", "x86-2", "--only", "x86-3", "--timeout", "60")
    assert drained.returncode == 0, drained.stdout + drained.stderr
    went_well(stack.config({"node_groups": groups(2)}).up())
    assert len(made.cluster.all_of("nodes")) == 2
    refused = stack.config({"node_groups": groups(0, graviton=1)}).preview()
    assert not refused.succeeded
    assert f"{made.namespace}/Deployment/legacy" in refused.output
    assert "flannel-arm" not in refused.output.partition("x86 capacity stays")[2].splitlines()[0]
    stack.config({"node_groups": groups(2)})


def test_a_windows_node_is_no_room_for_linux_pods(made_nodes: tuple[Place, Stack]) -> None:
    """It has the architecture and the capacity, and a kubelet that refuses the pods."""
    made, stack = made_nodes
    made.cluster.lab.kubectl("scale", "deployment", "legacy", "old", "--replicas=0", "-n", made.namespace)
    windows = {"kubernetes.io/os": "windows", "beta.kubernetes.io/os": "linux", "disk": "ssd"}
    made.cluster.nodes("amd64", 1, prefix="w", labels=windows)
    try:
        refused = stack.config({"node_groups": groups(0)}).preview()
        assert not refused.succeeded
        assert "no x86 node is left where they can run" in refused.output
    finally:
        made.cluster.lab.kubectl("delete", "node", "w-0", "--wait=false")
        stack.config({"node_groups": groups(2)})


def test_a_daemonset_of_the_system_blocks_the_first_graviton_node(made_nodes: tuple[Place, Stack]) -> None:
    """Graviton nodes would start it too. The advice is one that helps, and it does."""
    made, stack = made_nodes
    agent = made.with_image(daemon_set("agent", "kube-system"), "legacy")
    made.cluster.apply(agent)
    images = {**made.values["images"], "daemonsets": "pin"}
    stack.config({"node_groups": groups(2, graviton=1), "images": images})
    (blocker,) = plan_of(stack)["blockers"]
    assert blocker.startswith("kube-system/DaemonSet/agent: would start on Graviton nodes and ")
    assert "kube-system/DaemonSet/agent" in stack.archshift("plan").stdout
    for run in (stack.preview(), stack.up()):
        assert not run.succeeded
        assert blocker.split(": ", 1)[0] in run.output
        assert "the node selector kubernetes.io/arch: amd64 in their manifests" in run.output
        assert "daemonsets: pin" not in run.output
    agent["spec"]["template"]["spec"]["nodeSelector"] = {"kubernetes.io/arch": "amd64"}
    made.cluster.apply(agent)
    went_well(stack.up())
    assert len(made.cluster.all_of("nodes")) == 3
    made.cluster.lab.kubectl("delete", "daemonset", "agent", "--namespace=kube-system", "--wait=false")


def test_a_second_stack_counts_the_nodes_of_the_first(made_nodes: tuple[Place, Stack]) -> None:
    """With the groups of its own, too; and it may not drain them."""
    made, first = made_nodes
    second = made.stack(arm_ratio="0.0", platform="eks")
    capacity = {side["architecture"]: side for side in plan_of(second)["capacity"]}
    assert (capacity["amd64"]["nodes"], capacity["arm64"]["nodes"]) == (2, 1)
    assert not any(side["shortage"] for side in capacity.values())
    second.config({"platform": "lab", "node_groups": {"more": groups(1)["x86"]}})
    capacity = {side["architecture"]: side for side in plan_of(second)["capacity"]}
    assert (capacity["amd64"]["nodes"], capacity["arm64"]["nodes"]) == (3, 1)
    assert went_well(first.preview()).changes == {}


def test_cordoned_nodes_of_the_stack_stop_no_update(made_nodes: tuple[Place, Stack]) -> None:
    """Nobody adds nodes in the lab, so a lasting shortage stops an update. A cordon does not."""
    made, stack = made_nodes
    made.cluster.apply(made.with_image(deployment("web", 2, made.namespace), "web"))
    went_well(stack.config({"arm_ratio": "0.5"}).up())
    assert made.cluster.graviton_counts(made.namespace)["Deployment/web"] == 1
    made.cluster.lab.kubectl("cordon", "graviton-0", "x86-0", "x86-1")
    for run in (stack.preview(), stack.up()):
        assert went_well(run).changes == {}
        assert "1 of 1 Graviton node takes no pods now" in run.output
        assert "2 of 2 x86 nodes take no pods now" in run.output
