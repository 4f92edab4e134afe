"""Values that archshift wrote and that a copy gave to another owner are archshift's to change.

``kubectl rollout undo`` writes an earlier template, and a manifest that somebody exported and applied again
holds archshift's fields. The API server then names kubectl as their owner.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from archshift.cluster.inventory import read_workload
from archshift.cluster.model import Autoscaler, Inventory
from archshift.cluster.pod_fields import FIELDS, archshift_wrote, without_archshift
from archshift.plan.model import PlannedWorkload
from archshift.plan.planner import make_plan
from tests.build import ARCH, BOTH_SIDES, MANAGER, PREFERRED, REQUIRED, required_affinity, workload
from tests.fakes import Live

Json = dict[str, Any]

ZONE = required_affinity("zone", "a")
OWN_PREFERENCE = {"weight": 10, "preference": ZONE["nodeSelectorTerms"][0]}
SOFT_RULES = {
    "affinity": {
        "podAntiAffinity": {
            PREFERRED: [
                {
                    "weight": 1,
                    "podAffinityTerm": {"topologyKey": "kubernetes.io/hostname", "labelSelector": {}},
                }
            ]
        }
    }
}

SCALER = Autoscaler(by="HorizontalPodAutoscaler cart", least=5, most=30)


def row_of(
    live: Live, ratio: float, graviton: int = 0, autoscaled: Autoscaler | None = None
) -> PlannedWorkload:
    one = replace(read_workload(live.kind, live.json(), MANAGER), autoscaled=autoscaled)
    pods = {(one.key, "arm64"): graviton, (one.key, "amd64"): one.replicas - graviton}
    found = Inventory(workloads={one.key: one}, nodes=BOTH_SIDES, pods=pods)
    return make_plan(arm_ratio=ratio, inventory=found).workloads[0]


def step(
    live: Live, ratio: float, graviton: int = 0, autoscaled: Autoscaler | None = None
) -> PlannedWorkload:
    """An update at a ratio."""
    row = row_of(live, ratio, graviton, autoscaled)
    assert row.patch is not None, row.reason
    live.apply(row.patch, MANAGER, force=row.forced or row.reclaimed)
    return row


def template_of(live: Live) -> Json:
    body: Json = live.fields
    while "template" not in body:
        body = body["spec"] if "spec" in body else body["jobTemplate"]
    template: Json = body["template"]
    return template


def undo(live: Live, earlier: Json, manager: str = "kubectl") -> None:
    """Write an earlier template: its values come back, and what it lacks goes."""
    now = template_of(live)
    for name in ("affinity", "tolerations", "topologySpreadConstraints"):
        if name in now.get("spec", {}) and earlier["spec"].get(name) != now["spec"][name]:
            for path in [path for path in live.values if name in path]:
                del live.values[path]
                for owned in live.owners.values():
                    owned.discard(path)
    changed = {name: value for name, value in earlier["spec"].items() if now["spec"].get(name) != value}
    live.update({"spec": {"template": {**earlier, "spec": changed}}}, manager)


@pytest.mark.parametrize("base", [{}, SOFT_RULES], ids=["plain", "soft rules"])
@pytest.mark.parametrize(
    ("first", "second"), [(0.2, 0.8), (0.0, 0.5), (0.5, 1.0), (1.0, 0.0), (1.0, 0.7), (0.3, 0.0)]
)
def test_an_undo_to_an_older_placement_is_undone(first: float, second: float, base: Json) -> None:
    """The next update has its fields again, and the update after that changes nothing."""
    live = Live("Deployment", workload(replicas=10, pod_spec=base))
    step(live, first)
    earlier = template_of(live)
    step(live, second)
    undo(live, earlier)
    row = step(live, second, graviton=round(10 * first))
    assert (row.action, row.reclaimed, row.restarts, row.forced) == ("move", True, True, False)
    assert row.wanted == round(10 * second)
    again = row_of(live, second, graviton=round(10 * second))
    assert (again.action, again.restarts, again.reclaimed) == ("move", False, True)
    assert again.patch == row.patch
    # The next step is an ordinary one.
    back = step(live, first, graviton=round(10 * second))
    assert (back.action, back.restarts) == ("move", True)
    assert back.wanted == round(10 * first)


@pytest.mark.parametrize("base", [{}, SOFT_RULES], ids=["plain", "soft rules"])
def test_an_undo_to_the_placement_of_an_autoscaled_workload_is_undone(base: Json) -> None:
    """Its soft spread and its weights come back as archshift's, and the next update removes them."""
    live = Live("Deployment", workload(replicas=10, pod_spec=base))
    step(live, 0.3, autoscaled=SCALER)
    earlier = template_of(live)
    assert '"ScheduleAnyway"' in json.dumps(earlier)
    step(live, 1.0, autoscaled=SCALER)
    undo(live, earlier)
    row = step(live, 1.0, graviton=3, autoscaled=SCALER)
    assert (row.action, row.reclaimed, row.restarts, row.forced) == ("move", True, True, False)
    again = row_of(live, 1.0, graviton=10, autoscaled=SCALER)
    assert (again.action, again.restarts, again.patch) == ("move", False, row.patch)
    back = step(live, 0.3, graviton=10, autoscaled=SCALER)
    assert (back.action, back.restarts, back.wanted) == ("move", True, 3)


@pytest.mark.parametrize("ratio", [0.5, 1.0])
def test_an_exported_manifest_that_somebody_applies_again_changes_nothing(ratio: float) -> None:
    """Its client owns all fields together with archshift then; the step after it takes them."""
    live = Live("Deployment", workload(replicas=10, pod_spec=SOFT_RULES))
    first = step(live, ratio)
    live.apply(live.fields, "kubectl")
    row = step(live, ratio, graviton=round(10 * ratio))
    assert (row.action, row.restarts, row.reclaimed) == ("move", False, False)
    assert row.patch == first.patch
    row = step(live, 0.2, graviton=round(10 * ratio))
    assert (row.action, row.restarts, row.reclaimed, row.wanted) == ("move", True, True, 2)
    again = row_of(live, 0.2, graviton=2)
    assert (again.restarts, again.patch) == (False, row.patch)


def test_an_old_pin_admits_both_sides_until_the_next_step() -> None:
    """An apply can take the pin from its new owner but not remove it at once."""
    live = Live("Deployment", workload(replicas=10))
    step(live, 1.0)
    earlier = template_of(live)
    step(live, 0.5)
    undo(live, earlier)
    step(live, 0.5, graviton=10)
    affinity = template_of(live)["spec"]["affinity"]["nodeAffinity"]
    assert affinity[REQUIRED] == required_affinity(ARCH, "amd64", "arm64")
    step(live, 0.0, graviton=5)
    assert template_of(live)["spec"]["affinity"]["nodeAffinity"] == {
        REQUIRED: required_affinity(ARCH, "amd64")
    }


@pytest.mark.parametrize("ratio", [0.3, 1.0])
@pytest.mark.parametrize("manager", ["velero-server", ""])
def test_a_workload_restored_from_a_backup_is_placed_again(manager: str, ratio: float) -> None:
    """The restore's client owns all fields, or nobody owns any."""
    live = Live("Deployment", workload(replicas=10))
    step(live, 0.5)
    restored = Live("Deployment", workload(replicas=10))
    if manager:
        restored.update(live.fields, manager)
    else:
        restored.values = dict(live.values)
    row = row_of(restored, ratio, graviton=5)
    assert (row.action, row.reclaimed, row.wanted) == ("move", True, round(10 * ratio))


def test_the_constraint_is_archshifts_whoever_edited_it() -> None:
    """Nobody else writes a constraint of this form, so a changed maxSkew is drift."""
    live = Live("Deployment", workload(replicas=10))
    step(live, 0.8)
    constraint, *defaults = template_of(live)["spec"]["topologySpreadConstraints"]
    keys = {name: constraint[name] for name in ("topologyKey", "whenUnsatisfiable")}
    edited = {"topologySpreadConstraints": [{**keys, "maxSkew": 2}]}
    live.update({"spec": {"template": {"spec": edited}}}, "kubectl-edit")
    row = step(live, 0.8, graviton=6)
    assert (row.action, row.reclaimed, row.restarts) == ("move", True, True)
    assert template_of(live)["spec"]["topologySpreadConstraints"] == [constraint, *defaults]


@pytest.mark.parametrize("manager", ["kubectl-edit", "helm"])
def test_a_preference_of_somebody_who_did_not_copy_the_revision_is_theirs(manager: str) -> None:
    """A team may prefer Graviton with the same words; archshift takes nothing of theirs."""
    live = Live("Deployment", workload(replicas=10))
    step(live, 0.2)
    theirs = {"weight": 100, "preference": required_affinity(ARCH, "arm64")["nodeSelectorTerms"][0]}
    spec = {"affinity": {"nodeAffinity": {PREFERRED: [theirs]}}}
    live.update({"spec": {"template": {"spec": spec}}}, manager)
    row = row_of(live, 0.2, graviton=2)
    assert (row.action, row.reclaimed) == ("keep", False)
    assert manager in row.reason


def test_another_stacks_fields_are_not_reclaimed() -> None:
    """Two stacks on one workload would take it from each other at every update."""
    live = Live("Deployment", workload(replicas=10))
    row = row_of(live, 0.5)
    assert row.patch is not None
    live.apply(row.patch, "archshift/other")
    assert (row_of(live, 0.5, graviton=5).action, row_of(live, 0.5, graviton=5).reclaimed) == ("leave", False)


def test_a_pin_of_the_application_in_a_restored_template_stays_the_applications() -> None:
    """archshift never writes a pin beside its constraint, so this pin is not archshift's."""
    live = Live("Deployment", workload(replicas=10))
    step(live, 0.5)
    live.update(
        {
            "spec": {
                "template": {
                    "spec": {"affinity": {"nodeAffinity": {REQUIRED: required_affinity(ARCH, "amd64")}}}
                }
            }
        },
        "kubectl",
    )
    restored = Live("Deployment", workload(replicas=10))
    restored.update(live.fields, "velero-server")
    row = row_of(restored, 0.5)
    assert row.action == "leave"
    assert "pins amd64" in row.reason


EXPRESSION = {"key": ARCH, "operator": "In", "values": ["arm64"]}
OURS = {"weight": 100, "preference": {"matchExpressions": [EXPRESSION]}}
SPREAD = {
    "topologyKey": ARCH,
    "whenUnsatisfiable": "DoNotSchedule",
    "maxSkew": 2,
    "labelSelector": {},
    "matchLabelKeys": ["pod-template-hash"],
    "nodeTaintsPolicy": "Honor",
}
TOLERATION = {"key": "archshift/arm64", "operator": "Exists", "effect": "PreferNoSchedule"}


@pytest.mark.parametrize(
    ("name", "value", "rest"),
    [
        ("preferred", [OURS], None),
        ("preferred", [OWN_PREFERENCE, OURS], [OWN_PREFERENCE]),
        ("required", required_affinity(ARCH, "arm64"), None),
        ("required", required_affinity(ARCH, "amd64", "arm64"), None),
        (
            "required",
            {
                "nodeSelectorTerms": [
                    {"matchExpressions": [ZONE["nodeSelectorTerms"][0]["matchExpressions"][0], EXPRESSION]}
                ]
            },
            ZONE,
        ),
        (
            "required",
            {
                "nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name"}], "matchExpressions": [EXPRESSION]},
                    {},
                ]
            },
            {"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name"}]}, {}]},
        ),
        ("node-selector", {ARCH: "arm64"}, None),
        ("node-selector", {ARCH: "amd64", "disk": "ssd"}, {"disk": "ssd"}),
        ("spread", SPREAD, None),
        ("tolerations", [TOLERATION], None),
        ("tolerations", [{"operator": "Exists"}, TOLERATION], [{"operator": "Exists"}]),
    ],
)
def test_archshifts_part_of_a_value(name: str, value: Any, rest: Any) -> None:
    assert archshift_wrote(name, value, "pod-template-hash")
    assert without_archshift(name, value) == rest


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("preferred", [OWN_PREFERENCE]),
        ("preferred", [{**OURS, "weight": 50}]),
        ("required", ZONE),
        (
            "required",
            {
                "nodeSelectorTerms": [
                    *ZONE["nodeSelectorTerms"],
                    *required_affinity(ARCH, "arm64")["nodeSelectorTerms"],
                ]
            },
        ),
        ("required", required_affinity(ARCH, "s390x")),
        ("required", {"nodeSelectorTerms": [{}]}),
        ("node-selector", {"disk": "ssd"}),
        ("node-selector", {ARCH: "s390x"}),
        ("spread", {**SPREAD, "matchLabelKeys": ["app"]}),
        ("spread", {name: value for name, value in SPREAD.items() if name != "nodeTaintsPolicy"}),
        ("tolerations", [{"operator": "Exists"}]),
    ],
)
def test_what_archshift_never_writes(name: str, value: Any) -> None:
    assert not archshift_wrote(name, value, "pod-template-hash")


def test_every_field_that_archshift_writes_is_recognised() -> None:
    """A new field, or a changed form of one, must not become somebody else's."""
    seen: set[str] = set()
    for ratio in (0.0, 0.3, 1.0):
        for base, autoscaled in (({}, None), (SOFT_RULES, None), ({}, SCALER), (SOFT_RULES, SCALER)):
            live = Live("Deployment", workload(replicas=10, pod_spec=base))
            step(live, ratio, autoscaled=autoscaled)
            template = read_workload("Deployment", live.json(), MANAGER).template
            for name in template.owned:
                assert archshift_wrote(name, template.spec[name], template.revision_label)
                assert without_archshift(name, template.spec[name]) is None
                seen.add(name)
    assert seen == FIELDS.keys() - {"node-selector"}  # the second choice, see test_placement


NULLS: Mapping[str, tuple[Json, str, list[str]]] = {
    # what helm applies: whether the workload moves, and the fields of its patch at a mixed share
    "required": (
        {"affinity": {"nodeAffinity": {REQUIRED: None}}},
        "move",
        ["affinity", "topologySpreadConstraints"],
    ),
    "preferred": ({"affinity": {"nodeAffinity": {PREFERRED: None}}}, "leave", []),
    "preferred list": ({"affinity": {"nodeAffinity": {PREFERRED: []}}}, "leave", []),
    "tolerations": ({"tolerations": []}, "move", ["affinity", "topologySpreadConstraints"]),
    "affinity": ({"affinity": None}, "move", ["affinity", "topologySpreadConstraints"]),
    "node affinity": (
        {"affinity": {"nodeAffinity": None}},
        "move",
        ["affinity", "topologySpreadConstraints"],
    ),
    "spreads": ({"topologySpreadConstraints": None}, "move", ["affinity", "topologySpreadConstraints"]),
    "selector": ({"nodeSelector": {}}, "move", ["affinity", "topologySpreadConstraints"]),
}


def field_set(value: Any) -> Json:
    """What the API server notes for an applied value: a null and an empty value are leaves."""
    if isinstance(value, dict) and value:
        return {f"f:{key}": field_set(inner) for key, inner in value.items()}
    return {}


@pytest.mark.parametrize("name", NULLS)
def test_a_field_that_somebody_owns_as_null(name: str) -> None:
    """The API server refuses a value where another client applied null, though the live object lacks it."""
    applied, action, fields = NULLS[name]
    spec = {"f:spec": {"f:template": {"f:spec": field_set(applied)}}}
    item = workload(
        replicas=4,
        pod_spec=SOFT_RULES if name == "tolerations" else {},
        managed=[{"manager": "helm", "operation": "Apply", "fieldsV1": spec}],
    )
    one = read_workload("Deployment", item, MANAGER)
    plan = make_plan(
        arm_ratio=0.5,
        inventory=Inventory(workloads={one.key: one}, nodes=BOTH_SIDES, pods={(one.key, "amd64"): 4}),
    )
    (row,) = plan.workloads
    assert row.action == action
    if row.patch is None:
        assert [(conflict.owner, conflict.forced) for conflict in plan.conflicts] == [("helm", False)]
        assert "helm" in row.reason
    else:
        assert sorted(row.patch["spec"]["template"]["spec"]) == fields
        # Only a parent is taken: its owner applies again without a conflict.
        assert row.reclaimed == (name in ("affinity", "node affinity", "spreads"))
        revision = row.patch["spec"]["template"]["metadata"]["annotations"]["archshift/revision"]
        assert revision.endswith("~+" if row.reclaimed else ".4")


def test_a_required_affinity_that_somebody_owns_as_null_is_not_needed() -> None:
    """The pin is in the node selector then."""
    spec: Json = {
        "f:spec": {"f:template": {"f:spec": {"f:affinity": {"f:nodeAffinity": {f"f:{REQUIRED}": {}}}}}}
    }
    managed = [{"manager": "helm", "operation": "Apply", "fieldsV1": spec}]
    one = read_workload("Deployment", workload(replicas=1, managed=managed), MANAGER)
    found = Inventory(workloads={one.key: one}, nodes=BOTH_SIDES, pods={(one.key, "amd64"): 1})
    (row,) = make_plan(arm_ratio=1.0, inventory=found).workloads
    assert row.patch is not None
    assert row.patch["spec"]["template"]["spec"] == {"nodeSelector": {ARCH: "arm64"}}
