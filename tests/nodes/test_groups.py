"""Node groups and the nodes they stand for."""

from archshift.nodes.groups import Node, NodeGroup, Taint
from archshift.nodes.instance_types import INSTANCE_TYPES


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
            "kubernetes.io/os": "linux",
            "kubernetes.io/hostname": "graviton-0",
            "node.kubernetes.io/instance-type": "m7g.xlarge",
            "topology.kubernetes.io/zone": "eu-west-1a",
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
