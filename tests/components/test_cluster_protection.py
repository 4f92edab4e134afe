"""A stack with a cluster of its own is destroyed only if EKS would delete the cluster in the end."""

from collections.abc import Mapping
from typing import Any

import pulumi
import pytest

from archshift.common.errors import ArchshiftError
from archshift.nodes.eks import EksCluster, LiveCluster
from components.cluster_protection import HOOK_NAME, protection_hook
from components.eks import Eks
from tests.components.eks import ARN, CLUSTER, DEPLOYER, GET_CALLER, NEW, Aws
from tests.components.recorder import record


def hook() -> pulumi.ResourceHook:
    hooks: list[pulumi.ResourceHook] = []
    record(lambda: hooks.append(protection_hook()))
    return hooks[0]


def deleted(outputs: Mapping[str, Any] | None) -> None:
    """Delete the cluster's component, with what the last update registered of it."""
    arguments = pulumi.ResourceHookArgs(
        urn="urn", id="", name="prod", type="archshift:index:MixedCluster", old_outputs=outputs
    )
    hook().callback(arguments)


def test_a_protected_cluster_stops_a_destroy_before_its_nodes_go() -> None:
    """In the preview too, which comes before anything is deleted."""
    options = hook().opts
    assert options
    assert options.on_dry_run
    with pytest.raises(ArchshiftError) as error:
        deleted({"arn": ARN, "deletion_protection": True})
    assert str(error.value) == (
        "the cluster prod stays: EKS refuses to delete it while archshift:cluster.create.deletion_protection "
        "is true; set it to false, run pulumi up, and then destroy the stack"
    )


@pytest.mark.parametrize("outputs", [{"deletion_protection": False}, {"arn": ARN}, None])
def test_without_protection_nothing_stops_it(outputs: Mapping[str, Any] | None) -> None:
    """Also where an earlier version of archshift made the cluster's record."""
    deleted(outputs)


@pytest.mark.parametrize(
    ("cluster", "live", "hooks"),
    [(NEW, None, [HOOK_NAME]), (CLUSTER, LiveCluster(ARN, "https://prod.eks", "Q0E="), [])],
    ids=["created", "adopted"],
)
def test_only_a_cluster_of_the_stack_has_the_check(
    cluster: EksCluster, live: LiveCluster | None, hooks: list[str]
) -> None:
    """An adopted one is never deleted."""

    def program() -> None:
        Eks(cluster=cluster, live=live, groups={}).register_cluster(protection_hook())

    done = record(program, Aws({GET_CALLER: lambda _arguments: {"arn": DEPLOYER}}))
    (component,) = done.of("archshift:index:MixedCluster")
    assert list(component.request.hooks.before_delete) == hooks
