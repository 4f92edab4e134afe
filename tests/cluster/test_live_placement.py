"""What places pods at admission in a cluster now."""

from typing import Any

import pytest

from archshift.cluster.live_placement import (
    changed_fields,
    check_served,
    has_more,
    read_live_placement,
    serves_placement,
)
from tests.build import refusal
from tests.fakes import FakeCluster

NAME = "archshift-placement-prod.shop"
GROUP = "/apis/admissionregistration.k8s.io/v1"
TEXT = """\'\'\'
Deployment.cart: 2 of 4 on arm64
StatefulSet.db.main: all on amd64
others: all on amd64
what somebody wrote
\'\'\'"""


def named(name: str = NAME, *, created: str = "2026-11-30T14:00:00Z", **meta: Any) -> dict[str, Any]:
    """An object with a name, a time and the stack's label."""
    labels = {"archshift/stack": "prod"}
    return {"metadata": {"name": name, "creationTimestamp": created, "labels": labels, **meta}}


def cluster(**more: list[dict[str, Any]]) -> FakeCluster:
    """A cluster with a policy and a binding for shop, and a policy of another name with the same label."""
    variables = [{"name": "entries_0", "expression": TEXT}, {"name": "others", "expression": "x: y"}]
    objects = {
        "policies": [named("other"), {**named(), "spec": {"variables": variables}}],
        "bindings": [named("other"), named(created="2026-11-30T14:00:05Z")],
        "namespaces": [named("shop"), named("ops"), named("gone", deletionTimestamp="2026-11-30T14:01:00Z")],
        **more,
    }
    return FakeCluster(
        {
            f"{GROUP}/mutatingadmissionpolicies": objects["policies"],
            f"{GROUP}/mutatingadmissionpolicybindings": objects["bindings"],
            "/api/v1/namespaces": objects["namespaces"],
        }
    )


def test_a_stack_reads_what_is_its_own() -> None:
    """Each kind with one list."""
    fake = cluster()
    live = read_live_placement(fake, "prod")
    assert {*live.policies} == {*live.bindings} == {"shop"}
    assert live.since == {"shop": "2026-11-30T14:00:05Z"}
    assert live.data["shop"] == {
        "Deployment.cart": "2 of 4 on arm64",
        "StatefulSet.db.main": "all on amd64",
        "others": "all on amd64",
    }
    # Only the first dot ends the kind.
    assert live.entries == {
        "shop/Deployment/cart": "2 of 4 on arm64",
        "shop/StatefulSet/db.main": "all on amd64",
    }
    assert live.namespaces == {"shop", "ops"}
    assert [parameters.get("labelSelector") for _, parameters in fake.lists[1:]] == [
        "archshift/stack",
        None,
    ]


def test_policies_of_other_stacks_are_their_entries() -> None:
    """By the label of the stack; without those whose namespace is gone."""
    theirs = read_live_placement(cluster(), "staging")
    assert (theirs.policies, theirs.bindings) == ({}, {})
    assert theirs.rivals["shop"]["prod"]["Deployment.cart"] == "2 of 4 on arm64"
    assert "prod" not in read_live_placement(cluster(), "prod").rivals.get("shop", {})


@pytest.mark.parametrize("missing", ["policies", "bindings"])
def test_without_one_of_both_nothing_places_pods(missing: str) -> None:
    """Somebody deleted it by hand."""
    assert read_live_placement(cluster(**{missing: []}), "prod").since == {}


def test_an_api_server_that_cannot_place_pods_is_named() -> None:
    """With its version, and with the value that works there."""

    class Old(FakeCluster):
        def get(self, path: str) -> Any:
            return {"/version": {"gitVersion": "v1.34.2"}}[path]

    assert serves_placement(cluster())
    check_served(cluster())
    assert not serves_placement(Old())
    assert refusal(check_served, Old()) == (
        "archshift:placement: admission needs MutatingAdmissionPolicy in admissionregistration.k8s.io/v1, "
        "which Kubernetes 1.36 has; this API server is v1.34.2 and does not serve it; set "
        "archshift:placement: patches, or upgrade the cluster"
    )


def test_each_binding_of_a_policy_counts() -> None:
    """Whoever made it: the API server changes a pod once for each."""
    again = {"metadata": {"name": "again"}, "spec": {"policyName": NAME}}
    other = {"metadata": {"name": "other"}, "spec": {"policyName": "other"}}
    own = {**named(), "spec": {"policyName": NAME}}
    live = read_live_placement(cluster(bindings=[again, own, other]), "prod")
    assert live.doubled == {"shop": ("again",)}
    assert {*live.bindings} == {"shop"}


@pytest.mark.parametrize(
    ("live", "changed", "more"),
    [
        ({"a": 1, "b": [{"c": 2}]}, [], False),
        ({"a": 1, "b": [{"c": 2, "unset": {}}], "unset": [], "text": ""}, [], False),
        ({"a": 1, "b": [{"c": 2}], "d": {"e": 4}}, ["d"], True),
        ({"a": 1, "b": [{"c": 2, "d": 4}]}, ["b"], False),
        ({"a": 1, "b": [{"c": 3}]}, ["b"], False),
        ({"a": 1, "b": [{"c": 2}, {"c": 2}]}, ["b"], False),
        ({"a": 0, "b": [{"c": 2}]}, ["a"], False),
        ({"a": 1}, ["b"], False),
        ({"a": 1, "b": None}, ["b"], False),
        (None, [""], False),
    ],
)
def test_what_differs_from_what_was_made(live: Any, changed: list[str], more: bool) -> None:
    """Only what is empty may be more: another field, also one that archshift leaves out, is a change."""
    wanted = {"a": 1, "b": [{"c": 2}]}
    assert ([*changed_fields(wanted, live)], has_more(wanted, live)) == (changed, more)
