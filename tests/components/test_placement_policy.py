"""The objects for placement at admission: what is registered, and when an update changes something."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from archshift.cluster.live_placement import (
    BINDING_KIND,
    POLICIES,
    POLICY_KIND,
    STEP_ANNOTATION,
    LivePlacement,
)
from archshift.plan import admission
from components.placement_policy import PlacementPolicy, PlacementPolicyArgs
from tests.components.recorder import Monitor, record

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
BEFORE = "2026-02-23T09:30:00+00:00"
ENTRIES = {"shop": {"Deployment.web": "4 of 20 on arm64"}, "ops": {"Job.once": "all on amd64"}}
POLICY = f"kubernetes:{POLICIES.api_version}:{POLICY_KIND}"
BINDING = f"kubernetes:{POLICIES.api_version}:{BINDING_KIND}"


def there(manifest: Mapping[str, Any], **spec: Any) -> dict[str, Any]:
    """An object of the last update; the API server adds defaults."""
    metadata = {**manifest["metadata"], "annotations": {STEP_ANNOTATION: BEFORE}}
    return {"metadata": metadata, "spec": {**manifest["spec"], "matchResources": {}, **spec}}


def live(
    policies: Mapping[str, Any] | None = None, bindings: Mapping[str, Any] | None = None
) -> LivePlacement:
    """What the last update made, with changes; None for an object that is gone."""
    made = {space: there(admission.policy("prod", space, data)) for space, data in ENTRIES.items()}
    bound = {space: there(admission.binding("prod", space)) for space in ENTRIES}
    return LivePlacement(
        policies={space: item for space, item in {**made, **(policies or {})}.items() if item},
        bindings={space: item for space, item in {**bound, **(bindings or {})}.items() if item},
    )


def registered(placement: LivePlacement, moving: frozenset[str] = frozenset()) -> Monitor:
    """Register the component."""

    def program() -> None:
        args = PlacementPolicyArgs(
            stack_label="prod", entries=ENTRIES, live=placement, moving=moving, now=NOW
        )
        PlacementPolicy("placement", args)

    return record(program)


def steps(done: Monitor) -> dict[tuple[str, str], str]:
    """Kind and name of a resource to its step: the time of the last update, or now."""
    return {
        (one.type.rpartition(":")[2], one.name): one.inputs["metadata"]["annotations"][STEP_ANNOTATION]
        for one in done.registered
        if "metadata" in one.inputs
    }


CONDITIONS = {"matchConditions": [{"name": "none", "expression": "false"}]}
NOWHERE = {"objectSelector": {"matchLabels": {"placed": "no"}}}
UNCHANGED = {(kind, space): BEFORE for kind in (POLICY_KIND, BINDING_KIND) for space in ENTRIES}


def test_the_first_update_makes_everything() -> None:
    """A policy and a binding for each namespace; the pack reads the entries in the component's outputs."""
    done = registered(LivePlacement())
    assert {one.name: one.inputs["spec"] for one in done.of(POLICY)} == {
        space: admission.policy("prod", space, data)["spec"] for space, data in ENTRIES.items()
    }
    assert {one.name for one in done.of(BINDING)} == {*ENTRIES}
    assert done.outputs["placement"] == {"entries": ENTRIES}
    assert set(steps(done).values()) == {NOW.isoformat()}


def test_a_second_update_changes_nothing() -> None:
    """The inputs are those of the last update, so the engine has nothing to do."""
    assert steps(registered(live())) == UNCHANGED


@pytest.mark.parametrize(
    ("changed", "moving", "again"),
    [
        (live(policies={"shop": None}), (), (POLICY_KIND, "shop")),
        (live(bindings={"ops": None}), (), (BINDING_KIND, "ops")),
        (
            live(
                policies={"shop": there(admission.policy("prod", "shop", {"Deployment.web": "all on arm64"}))}
            ),
            (),
            (POLICY_KIND, "shop"),
        ),
        (
            live(
                policies={"ops": there(admission.policy("prod", "ops", ENTRIES["ops"]), failurePolicy="Fail")}
            ),
            (),
            (POLICY_KIND, "ops"),
        ),
        (
            live(policies={"shop": there(admission.policy("prod", "shop", ENTRIES["shop"]), **CONDITIONS)}),
            (),
            (POLICY_KIND, "shop"),
        ),
        (
            live(bindings={"ops": there(admission.binding("prod", "ops"), matchResources=NOWHERE)}),
            (),
            (BINDING_KIND, "ops"),
        ),
        (live(), ["ops"], (POLICY_KIND, "ops")),
    ],
)
def test_what_differs_is_applied_again(
    changed: LivePlacement, moving: list[str], again: tuple[str, str]
) -> None:
    """Something was deleted or edited by hand, or pods must move: the engine sees a new step there alone."""
    done = registered(changed, frozenset(moving))
    assert steps(done) == {**UNCHANGED, again: NOW.isoformat()}
