"""The objects for placement at admission: what is registered, and when an update changes something."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from archshift.cluster.live_placement import POLICIES, POLICY_KIND, STEP_ANNOTATION, LivePlacement
from archshift.plan import admission
from components.placement_policy import PlacementPolicy, PlacementPolicyArgs
from tests.components.recorder import Monitor, record

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
BEFORE = "2026-02-23T09:30:00+00:00"
NAME = "archshift-placement-prod"
ENTRIES = {"shop": {"Deployment.web": "4 of 20 on arm64"}, "ops": {"Job.once": "all on amd64"}}
CONFIG_MAP = "kubernetes:core/v1:ConfigMap"


def live(**changes: Any) -> LivePlacement:
    """What the last update made, with changes."""

    def there(manifest: Mapping[str, Any]) -> dict[str, Any]:
        # The API server adds defaults.
        spec = {**manifest["spec"], "matchResources": {}}
        return {"metadata": {"name": NAME, "annotations": {STEP_ANNOTATION: BEFORE}}, "spec": spec}

    objects: dict[str, Any] = {
        "policy": there(admission.policy(NAME)),
        "binding": there(admission.binding(NAME)),
        "data": ENTRIES,
        "steps": dict.fromkeys(ENTRIES, BEFORE),
    }
    return LivePlacement(**{**objects, **changes})


def registered(placement: LivePlacement, moving: frozenset[str] = frozenset()) -> Monitor:
    """Register the component."""

    def program() -> None:
        args = PlacementPolicyArgs(
            stack_label="prod", entries=ENTRIES, live=placement, moving=moving, now=NOW
        )
        PlacementPolicy("placement", args)

    return record(program)


def steps(done: Monitor) -> dict[str, str]:
    """Resource to its step: the time of the last update, or now."""
    return {
        one.name: one.inputs["metadata"]["annotations"][STEP_ANNOTATION]
        for one in done.registered
        if "metadata" in one.inputs
    }


UNCHANGED = dict.fromkeys([POLICY_KIND, admission.BINDING_KIND, "ops", "shop"], BEFORE)


def test_the_first_update_makes_everything() -> None:
    """One ConfigMap for each namespace, whose data are the entries."""
    done = registered(LivePlacement())
    maps = {one.name: one.inputs for one in done.of(CONFIG_MAP)}
    assert {name: inputs["data"] for name, inputs in maps.items()} == ENTRIES
    assert {name: inputs["metadata"]["namespace"] for name, inputs in maps.items()} == {
        "shop": "shop",
        "ops": "ops",
    }
    assert {inputs["metadata"]["name"] for inputs in maps.values()} == {NAME}
    (policy,) = done.of(f"kubernetes:{POLICIES.api_version}:{POLICY_KIND}")
    assert policy.inputs["spec"] == admission.policy(NAME)["spec"]
    assert set(steps(done).values()) == {NOW.isoformat()}


def test_a_second_update_changes_nothing() -> None:
    """The inputs are those of the last update, so the engine has nothing to do."""
    assert steps(registered(live())) == UNCHANGED


@pytest.mark.parametrize(
    ("changes", "moving", "again"),
    [
        ({"policy": None}, (), [POLICY_KIND]),
        ({"binding": None}, (), [admission.BINDING_KIND]),
        ({"data": {"ops": ENTRIES["ops"]}}, (), ["shop"]),
        ({"data": {**ENTRIES, "shop": {"Deployment.web": "all on arm64"}}}, (), ["shop"]),
        ({"data": {**ENTRIES, "shop": {**ENTRIES["shop"], "more": "text"}}}, (), ["shop"]),
        ({"policy": {"metadata": {}, "spec": {"failurePolicy": "Fail"}}}, (), [POLICY_KIND]),
        ({}, ["ops"], ["ops"]),
    ],
)
def test_what_differs_is_applied_again(
    changes: Mapping[str, Any], moving: list[str], again: list[str]
) -> None:
    """Something was deleted or edited by hand, or pods must move: the engine sees a new step there alone."""
    done = registered(live(**changes), frozenset(moving))
    assert steps(done) == {**UNCHANGED, **dict.fromkeys(again, NOW.isoformat())}
