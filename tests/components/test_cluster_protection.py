"""A stack with a cluster of its own is destroyed only if EKS would delete the cluster in the end."""

import pulumi
import pytest

from archshift.common.errors import ArchshiftError
from archshift.nodes.eks import EksCluster, LiveCluster
from components.cluster_protection import HOOK_NAME, ClusterProtection, protection_hook
from components.eks_node_groups import EksNodeGroups, EksNodeGroupsArgs
from tests.components.eks import ARN, CLUSTER, NODE_GROUP, TAG, Aws, group
from tests.components.recorder import record

PROTECTED = LiveCluster(ARN, "https://prod.eks", "Q0E=", deletion_protection=True)
OPEN = LiveCluster(ARN, "https://prod.eks", "Q0E=")
REFUSED = "the cluster prod stays: it has deletion protection, so EKS refuses to delete it; "


def hook(
    live: LiveCluster | None, cluster: EksCluster | None = CLUSTER, others: LiveCluster | None = None
) -> pulumi.ResourceHook:
    """The hook of a stack with the group x86; ``others`` is what EKS says of another cluster."""
    hooks: list[pulumi.ResourceHook] = []

    def describe(asked: EksCluster) -> LiveCluster | None:
        assert asked.name == "prod"
        return others

    record(lambda: hooks.append(protection_hook(live, cluster, ("x86",), describe)))
    return hooks[0]


def deleted(made: pulumi.ResourceHook, name: str = "prod") -> None:
    """Do as the engine before it deletes the component."""
    arguments = pulumi.ResourceHookArgs(
        urn="urn", id="", name=name, type=ClusterProtection.TYPE, old_outputs={}
    )
    made.callback(arguments)


def refused(made: pulumi.ResourceHook, name: str = "prod") -> str:
    with pytest.raises(ArchshiftError) as error:
        deleted(made, name)
    return str(error.value)


@pytest.mark.parametrize("name", ["prod", "prod/x86"], ids=["whole", "before the first update has ended"])
def test_a_protected_cluster_stops_a_destroy_before_its_nodes_go(name: str) -> None:
    """In the preview too. What EKS says counts, so a change of the setting alone changes nothing."""
    made = hook(PROTECTED)
    assert made.opts
    assert made.opts.on_dry_run
    assert refused(made, name) == (
        f"{REFUSED}set archshift:cluster.create.deletion_protection to false, run pulumi up, and then "
        "destroy the stack"
    )


@pytest.mark.parametrize("cluster", [EksCluster(name="other"), None], ids=["another name", "no cluster"])
@pytest.mark.parametrize("name", ["prod", "prod/x86", "prod/gone"])
def test_a_cluster_that_the_settings_no_longer_name_is_protected_too(
    cluster: EksCluster | None, name: str
) -> None:
    """Also in an update, which would delete it with its nodes. EKS is asked for it by its former name."""
    way_out = "set archshift:cluster.name to prod again"
    assert refused(hook(None, cluster, PROTECTED), name) == f"{REFUSED}{way_out}"
    other = LiveCluster(ARN.replace("prod", "other"), "https://other.eks", "Q0E=")
    assert refused(hook(other, cluster, PROTECTED), name) == f"{REFUSED}{way_out}"
    deleted(hook(None, cluster, OPEN), name)
    deleted(hook(None, cluster, None), name)


@pytest.mark.parametrize("live", [OPEN, None])
def test_without_protection_nothing_stops_it(live: LiveCluster | None) -> None:
    deleted(hook(live))
    deleted(hook(live), "prod/x86")


def test_a_group_may_leave_a_protected_cluster() -> None:
    """Its part of the protection goes with it."""
    deleted(hook(PROTECTED), "prod/gone")


def test_it_goes_before_every_node_group_and_all_that_belongs_to_one() -> None:
    """The engine deletes what depends on others first."""

    def program() -> None:
        groups = {"x86": group("x86", "m6i.large", autoscaled=True)}
        nodes = EksNodeGroups(
            "nodes",
            EksNodeGroupsArgs(cluster_name="prod", cluster_arn=ARN, cluster=CLUSTER, groups=groups),
        )
        ClusterProtection("prod", [nodes], protection_hook(None, CLUSTER, ("x86",)))

    done = record(program, Aws())
    (component,) = done.of(ClusterProtection.TYPE)
    assert list(component.request.hooks.before_delete) == [HOOK_NAME]
    first = {tuple(urn.rpartition("$")[2].rsplit("::", 2)[-2:]) for urn in component.request.dependencies}
    made = {(kind, one.name) for kind in (NODE_GROUP, TAG) for one in done.of(kind)}
    assert len(made) > 1
    assert made <= first
