"""Node groups and the nodes they stand for."""

import re
from dataclasses import replace

import pytest

from archshift.actions.drain import nodes_to_drain
from archshift.nodes.after_update import nodes_after, nodes_of_others
from archshift.nodes.groups import (
    EksNodeGroup,
    Node,
    NodeGroup,
    Taint,
    capacity_by_architecture,
    stack_label,
)
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.plan.capacity import balance
from tests.build import ARCH, eks_group, plan_node


def test_the_nodes_of_a_group_are_what_the_lab_makes() -> None:
    """Names, labels, taints, zones in turn, and what the real instance type can allocate."""
    group = NodeGroup(
        name="graviton",
        instance_type=INSTANCE_TYPES["m7g.xlarge"],
        size=3,
        zones=("eu-west-1a", "eu-west-1b"),
        labels={"team": "shop"},
        taints=(Taint(key="arch", value="arm64"),),
    )
    nodes = group.nodes()
    assert group.architecture == "arm64"
    assert [node.name for node in nodes] == ["graviton-0", "graviton-1", "graviton-2"]
    assert [node.labels["topology.kubernetes.io/zone"] for node in nodes] == [
        "eu-west-1a",
        "eu-west-1b",
        "eu-west-1a",
    ]
    assert nodes[0] == Node(
        name="graviton-0",
        labels={
            "team": "shop",
            "kubernetes.io/arch": "arm64",
            "beta.kubernetes.io/arch": "arm64",
            "kubernetes.io/os": "linux",
            "beta.kubernetes.io/os": "linux",
            "kubernetes.io/hostname": "graviton-0",
            "node.kubernetes.io/instance-type": "m7g.xlarge",
            "beta.kubernetes.io/instance-type": "m7g.xlarge",
            "topology.kubernetes.io/zone": "eu-west-1a",
            "failure-domain.beta.kubernetes.io/zone": "eu-west-1a",
            "topology.ebs.csi.aws.com/zone": "eu-west-1a",
            "topology.kubernetes.io/region": "eu-west-1",
            "failure-domain.beta.kubernetes.io/region": "eu-west-1",
            "architecture": "arm64",
            "archshift/node-group": "graviton",
        },
        taints=(Taint(key="arch", value="arm64", effect="NoSchedule"),),
        millicpu=3920,
        memory=15391 * 1024 * 1024,
        pods=58,
        schedulable=True,
    )
    assert nodes[0].architecture == "arm64"


def test_labels_that_follow_from_the_type_win_over_the_users() -> None:
    """A typing slip in ``labels`` cannot make an x86 node look like Graviton."""
    group = NodeGroup(
        name="x86",
        instance_type=INSTANCE_TYPES["m7i.large"],
        size=1,
        zones=("a",),
        labels={"architecture": "arm64", "kubernetes.io/arch": "arm64"},
    )
    (node,) = group.nodes()
    assert (node.labels["architecture"], node.architecture) == ("amd64", "amd64")


def test_an_empty_group_has_no_nodes() -> None:
    """Size 0 is how a side is taken away."""
    group = NodeGroup(name="x86", instance_type=INSTANCE_TYPES["m7i.large"], size=0, zones=("a",))
    assert group.nodes() == []


def test_a_node_without_the_label_is_of_no_architecture() -> None:
    """It counts for neither side instead of being guessed."""
    assert Node(name="n", labels={}).architecture == ""


@pytest.mark.parametrize(
    ("labels", "side"),
    [
        ({ARCH: "amd64", "kubernetes.io/os": "linux"}, "amd64"),
        ({ARCH: "amd64", "kubernetes.io/os": "windows"}, "windows"),
        ({ARCH: "amd64", "beta.kubernetes.io/os": "windows"}, "windows"),
        ({ARCH: "amd64", "eks.amazonaws.com/compute-type": "fargate"}, "fargate"),
        ({ARCH: "amd64", "eks.amazonaws.com/compute-type": "auto"}, "amd64"),
        ({ARCH: "arm64", "eks.amazonaws.com/compute-type": "hybrid"}, "arm64"),
        ({ARCH: "amd64", "type": "virtual-kubelet"}, "virtual"),
        ({ARCH: "amd64", "liqo.io/type": "virtual-node"}, "virtual"),
        ({ARCH: "arm64", "type": "kwok"}, "arm64"),
    ],
)
def test_a_node_that_is_no_room_for_linux_pods_is_on_no_side(labels: dict[str, str], side: str) -> None:
    node = plan_node("n", "amd64", labels=labels)
    assert node.architecture == side
    x86 = balance([node], {})["amd64"]
    assert x86.nodes == int(side == "amd64")
    assert bool(capacity_by_architecture([node])) is (side in ("amd64", "arm64"))
    assert [one.name for one in nodes_to_drain([node], ())] == ["n"] * (side == "amd64")


LAB = NodeGroup(name="x86", instance_type=INSTANCE_TYPES["m6i.xlarge"], size=2, zones=("eu-west-1a",))


def test_what_others_put_on_a_live_node_of_the_lab_counts() -> None:
    """A label, a taint, another allocatable amount, a cordon."""
    made, unchanged = LAB.nodes()
    live = replace(
        made,
        labels={**made.labels, "disk": "ssd"},
        taints=(Taint(key="gpu"),),
        millicpu=2000,
        schedulable=False,
    )
    assert nodes_after([live, unchanged], [LAB]) == [live, unchanged]


def test_an_update_of_the_lab_takes_back_only_what_settings_gave() -> None:
    """A label that leaves the settings leaves the node; a label of somebody else stays."""
    labelled = replace(LAB, size=1, labels={"pool": "main"})
    (made,) = labelled.nodes()
    live = replace(made, labels={**made.labels, "disk": "ssd"})
    (after,) = nodes_after([live], [replace(labelled, labels={"team": "shop"})])
    assert "pool" not in after.labels
    assert (after.labels["disk"], after.labels["team"]) == ("ssd", "shop")


def test_a_node_of_another_instance_type_is_another_node() -> None:
    (made,) = replace(LAB, size=1).nodes()
    larger = replace(LAB, size=1, instance_type=INSTANCE_TYPES["m6i.2xlarge"])
    assert nodes_after([replace(made, taints=(Taint(key="gpu"),))], [larger]) == larger.nodes()


@pytest.mark.parametrize("group", [LAB, eks_group("x86", "m6i.xlarge", size=2)], ids=["lab", "EKS"])
def test_nodes_of_another_stack_are_live_nodes(group: NodeGroup | EksNodeGroup) -> None:
    """Whoever made them: they stay, they belong to no group here, and no drain of this stack takes them."""
    first = replace(group, stack="first")
    live = first.nodes() if isinstance(first, NodeGroup) else first.new_nodes(0)
    assert all(first.owns(node) for node in live)
    # A stack without groups, one with another group, one with a group of the same name.
    assert nodes_after(live, (), "second") == live
    assert nodes_of_others(live, (), "second") == live
    other = replace(group, name="other", stack="second")
    assert [node for node in nodes_after(live, [other]) if node in live] == live
    assert nodes_to_drain(live, [other]) == []
    same = replace(group, stack="second")
    assert not any(same.owns(node) for node in live)


def test_nodes_of_a_group_that_this_stack_takes_out_go() -> None:
    """Also the last group of the stack, and nodes from before the stack's label."""
    live = replace(LAB, stack="first").nodes()
    assert nodes_after(live, (), "first") == []
    assert nodes_of_others(live, (), "first") == []
    unlabelled = LAB.nodes()
    assert nodes_after(unlabelled, (), "first") == []
    assert nodes_after(unlabelled, [replace(LAB, stack="first")]) == replace(LAB, stack="first").nodes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prod", "prod"),
        ("shop/archshift/prod", "prod"),
        ("_a-b.c_", "a-b.c"),
        ("x" * 70, f"{'x' * 50}-c71bd109227e"),
    ],
)
def test_a_stacks_label_is_a_valid_label(name: str, value: str) -> None:
    label = stack_label(name)
    assert re.fullmatch(r"[A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?", label)
    assert label == value
