"""A stack with a cluster of its own is destroyed only if EKS would delete the cluster in the end."""

import pulumi
import pytest

from archshift.common.errors import ArchshiftError
from archshift.nodes.eks import LiveCluster
from components.cluster_protection import HOOK_NAME, ClusterProtection, protection_hook
from components.eks_node_groups import EksNodeGroups, EksNodeGroupsArgs
from tests.components.eks import ARN, CLUSTER, NODE_GROUP, TAG, Aws, group
from tests.components.recorder import record


def hook(live: LiveCluster | None) -> pulumi.ResourceHook:
    hooks: list[pulumi.ResourceHook] = []
    record(lambda: hooks.append(protection_hook(live)))
    return hooks[0]


def deleted(live: LiveCluster | None) -> None:
    """Do as the engine before it deletes the component."""
    arguments = pulumi.ResourceHookArgs(
        urn="urn", id="", name="prod", type=ClusterProtection.TYPE, old_outputs={}
    )
    hook(live).callback(arguments)


def test_a_protected_cluster_stops_a_destroy_before_its_nodes_go() -> None:
    """In the preview too. What EKS says counts, so a change of the setting alone changes nothing."""
    live = LiveCluster(ARN, "https://prod.eks", "Q0E=", deletion_protection=True)
    options = hook(live).opts
    assert options
    assert options.on_dry_run
    with pytest.raises(ArchshiftError) as error:
        deleted(live)
    assert str(error.value) == (
        "the cluster prod stays: it has deletion protection, so EKS refuses to delete it; set "
        "archshift:cluster.create.deletion_protection to false, run pulumi up, and then destroy the stack"
    )


@pytest.mark.parametrize("live", [LiveCluster(ARN, "https://prod.eks", "Q0E="), None])
def test_without_protection_nothing_stops_it(live: LiveCluster | None) -> None:
    deleted(live)


def test_it_goes_before_every_node_group_and_all_that_belongs_to_one() -> None:
    """The engine deletes what depends on others first."""

    def program() -> None:
        groups = {"x86": group("x86", "m6i.large", autoscaled=True)}
        nodes = EksNodeGroups(
            "nodes",
            EksNodeGroupsArgs(cluster_name="prod", cluster_arn=ARN, cluster=CLUSTER, groups=groups),
        )
        ClusterProtection("prod", [nodes], protection_hook(None))

    done = record(program, Aws())
    (component,) = done.of(ClusterProtection.TYPE)
    assert list(component.request.hooks.before_delete) == [HOOK_NAME]
    first = {tuple(urn.rpartition("$")[2].rsplit("::", 2)[-2:]) for urn in component.request.dependencies}
    made = {(kind, one.name) for kind in (NODE_GROUP, TAG) for one in done.of(kind)}
    assert len(made) > 1
    assert made <= first
