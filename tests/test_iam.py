"""docs/iam.md names what the program asks of AWS, and nothing that AWS does not know."""

import re
from pathlib import Path
from typing import Any

import botocore.session  # type: ignore[import-untyped]
import pytest

from archshift.nodes.eks import EksCluster
from tests.components.eks import (
    GET_ADDON,
    GET_CALLER,
    GET_CLUSTER,
    GET_OFFERINGS,
    GET_SUBNET,
    NEW,
    group,
    made,
    registered,
)

DOC = (Path(__file__).parent.parent / "docs" / "iam.md").read_text()
ACTIONS = set(re.findall(r"`([a-z0-9]+):([A-Z][A-Za-z]+)`", DOC))
TOKENS = set(re.findall(r"`([a-z]+:[a-zA-Z0-9]+(?:/[a-zA-Z]+)?:[A-Za-z]+)`", DOC))


def test_every_resource_and_every_look_up_has_its_row() -> None:
    """With all that can be made: a cluster, its key, groups, their role, the autoscaler's tags."""
    nobody = EksCluster(name="prod")
    done = [made(NEW), registered(group("g", "m7g.large", autoscaled=True), cluster=nobody)]
    inside = {"aws:eks/cluster:Cluster"}  # made by pulumi-eks, in whose row it is
    used = {one.type for monitor in done for one in monitor.registered} - inside
    used = {token for token in used if not token.startswith("archshift:")} | {
        GET_ADDON,
        GET_CALLER,
        GET_CLUSTER,
        GET_OFFERINGS,
        GET_SUBNET,
    }
    assert used == TOKENS


@pytest.mark.parametrize(
    ("row", "actions"),
    [
        ("`aws:eks/nodeGroup:NodeGroup`", {"iam:PassRole"}),
        ("`eks:index:Cluster`", {"iam:PassRole", "iam:GetRole"}),
        ("the same, with `oidc_provider`", {"iam:CreateOpenIDConnectProvider"}),
    ],
)
def test_what_no_operation_shows_is_there_too(row: str, actions: set[str]) -> None:
    """AWS checks these beside the operation that the provider calls."""
    (line,) = (line for line in DOC.splitlines() if line.startswith(f"| {row}"))
    assert actions <= {f"{service}:{action}" for service, action in re.findall(r"`(\w+):(\w+)`", line)}


def test_the_services_that_make_roles_of_their_own_are_named() -> None:
    section = DOC.partition("## Service-linked roles and default tags")[2]
    assert {("iam", "CreateServiceLinkedRole"), ("iam", "TagRole"), ("kms", "TagResource")} <= ACTIONS
    for service in ("eks", "eks-nodegroup", "autoscaling", "spot"):
        assert f"`{service}.amazonaws.com`" in section


@pytest.fixture(scope="module")
def operations() -> dict[str, set[str]]:
    """The operations of AWS's services, as its SDK lists them."""
    session: Any = botocore.session.get_session()
    services = {service for service, _ in ACTIONS}
    return {service: set(session.get_service_model(service).operation_names) for service in services}


def test_every_action_exists(operations: dict[str, set[str]]) -> None:
    """A policy with a misspelt action is accepted by AWS and grants nothing."""
    # Rights that no operation has the name of.
    unknown = {(service, action) for service, action in ACTIONS if action not in operations[service]}
    assert unknown == {
        ("iam", "PassRole"),
        ("s3", "ListBucket"),
        ("sts", "SetSourceIdentity"),
        ("sts", "TagSession"),
    }
    assert len(ACTIONS) > 50
