"""After archshift gave up its fields, a workload is what it was without archshift."""

import copy
from typing import Any

import pytest

from archshift.cluster.leftovers import Restoration, restoration, without_copies
from tests.build import (
    ARCH,
    MANAGER,
    PREFERRED,
    REQUIRED,
    Json,
    in_pod_spec,
    manages,
    required_affinity,
    workload,
)

OURS = {"weight": 100, "preference": required_affinity(ARCH, "arm64")["nodeSelectorTerms"][0]}
ZONE = {"weight": 10, "preference": required_affinity("zone", "a")["nodeSelectorTerms"][0]}
SPREAD = {
    "topologyKey": ARCH,
    "whenUnsatisfiable": "DoNotSchedule",
    "maxSkew": 2,
    "labelSelector": {"matchLabels": {"app": "cart"}},
    "matchLabelKeys": ["pod-template-hash"],
    "nodeTaintsPolicy": "Honor",
}
SPREAD_KEY = f'k:{{"topologyKey":"{ARCH}","whenUnsatisfiable":"DoNotSchedule"}}'
OWN_SPREAD = {**SPREAD, "topologyKey": "zone", "matchLabelKeys": None}


def item(pod_spec: Json, *managed: Json, revision: str = "", other: Json | None = None) -> Json:
    found = workload(pod_spec=pod_spec, managed=managed)
    annotations = {**({"archshift/revision": revision} if revision else {}), **(other or {})}
    if annotations:
        found["spec"]["template"]["metadata"]["annotations"] = annotations
    return found


def copied(fields: Json) -> Json:
    """The entry of a client that copied a template of archshift's."""
    template = {
        "f:metadata": {"f:annotations": {"f:archshift/revision": {}}},
        "f:spec": fields,
    }
    return manages("kubectl", "Update", {"f:spec": {"f:template": template}})


def template_of(done: Restoration | None, live: Json) -> tuple[str, Json] | None:
    """The manager and the pod template of a patch; None for no patch."""
    if done is None:
        return None
    assert done.body["metadata"]["uid"] == live["metadata"]["uid"]
    template: Any = done.body.get("spec", {}).get("template", {})
    return done.manager, template


def restored(before: Json, after: Json) -> tuple[str, Json] | None:
    return template_of(restoration("Deployment", before, after, MANAGER), after)


def cleaned(live: Json) -> tuple[str, Json] | None:
    return template_of(without_copies("Deployment", live, MANAGER), live)


UNDONE: dict[str, tuple[Json, Json, Json]] = {
    "preferred": (
        {"affinity": {"nodeAffinity": {PREFERRED: [OURS]}}},
        {"f:affinity": {"f:nodeAffinity": {f"f:{PREFERRED}": {}}}},
        {"affinity": None},
    ),
    "preferred beside the application's": (
        {"affinity": {"nodeAffinity": {PREFERRED: [ZONE, OURS]}}},
        {"f:affinity": {"f:nodeAffinity": {f"f:{PREFERRED}": {}}}},
        {"affinity": {"nodeAffinity": {PREFERRED: [ZONE]}}},
    ),
    "required beside pod affinity": (
        {"affinity": {"podAffinity": {"x": 1}, "nodeAffinity": {REQUIRED: required_affinity(ARCH, "amd64")}}},
        {"f:affinity": {"f:nodeAffinity": {f"f:{REQUIRED}": {}}}},
        {"affinity": {"nodeAffinity": None}},
    ),
    "spread": (
        {"topologySpreadConstraints": [SPREAD]},
        {"f:topologySpreadConstraints": {SPREAD_KEY: {"f:maxSkew": {}}}},
        {"topologySpreadConstraints": None},
    ),
    "spread beside the application's": (
        {"topologySpreadConstraints": [OWN_SPREAD, SPREAD]},
        {"f:topologySpreadConstraints": {SPREAD_KEY: {"f:maxSkew": {}}}},
        {"topologySpreadConstraints": [OWN_SPREAD]},
    ),
    "tolerations": (
        {"tolerations": [{"key": "archshift/arm64", "operator": "Exists", "effect": "PreferNoSchedule"}]},
        {"f:tolerations": {}},
        {"tolerations": None},
    ),
}


@pytest.mark.parametrize("name", UNDONE)
def test_what_a_copy_left_goes(name: str) -> None:
    """The stack is destroyed after an undo, without an update between."""
    spec, fields, patch = UNDONE[name]
    live = item(spec, copied(fields), revision="a.1")
    assert cleaned(live) == ("kubectl", {"metadata": {"annotations": None}, "spec": patch})


def test_other_annotations_stay() -> None:
    live = item({}, copied({}), revision="a.1", other={"team": "blue"})
    assert cleaned(live) == ("kubectl", {"metadata": {"annotations": {"archshift/revision": None}}})


def test_a_copy_that_owns_a_part_of_the_constraint_goes_with_the_rest() -> None:
    """archshift owns the revision and maxSkew again. To give up only maxSkew is invalid."""
    keys: Json = {".": {}, "f:topologyKey": {}, "f:labelSelector": {}}
    rest = {"f:topologySpreadConstraints": {SPREAD_KEY: keys}}
    ours: Json = {"f:topologySpreadConstraints": {SPREAD_KEY: {"f:maxSkew": {}}}}
    live = item(
        {"topologySpreadConstraints": [SPREAD]},
        manages("kubectl", "Update", in_pod_spec(rest)),
        manages(MANAGER, "Apply", in_pod_spec(ours)),
        revision="a.1",
    )
    assert cleaned(live) == (MANAGER, {"spec": {"topologySpreadConstraints": None}})


def test_a_workload_without_copies_is_not_cleaned() -> None:
    live = item(PINNED, OUR_ENTRY, revision="a.1")
    assert cleaned(live) is None


PINNED = {"affinity": {"nodeAffinity": {REQUIRED: required_affinity(ARCH, "arm64")}}}
OUR_ENTRY = manages(MANAGER, "Apply", in_pod_spec({"f:affinity": {"f:nodeAffinity": {f"f:{REQUIRED}": {}}}}))


@pytest.mark.parametrize(
    ("fields", "left", "patch"),
    [
        ({"f:affinity": {}}, {}, {"affinity": {}}),
        ({"f:affinity": {"f:nodeAffinity": {}}}, {"affinity": {}}, {"affinity": {"nodeAffinity": {}}}),
        ({"f:affinity": {".": {}, "f:nodeAffinity": {}}}, {}, {"affinity": {"nodeAffinity": {}}}),
        (
            {"f:affinity": {"f:nodeAffinity": {f"f:{PREFERRED}": {}}}},
            {"affinity": {}},
            {"affinity": {"nodeAffinity": {}}},
        ),
    ],
)
@pytest.mark.parametrize("owner", [("helm", "Apply"), ("kubectl-client-side-apply", "Update")])
def test_an_empty_parent_comes_back(fields: Json, left: Json, patch: Json, owner: tuple[str, str]) -> None:
    """The API server removes a parent that gets empty, also if its owner had set it to an empty value."""
    managed = [manages(*owner, in_pod_spec(fields)), OUR_ENTRY]
    before = item(PINNED, *managed, revision="a.1")
    assert restored(before, item(left, managed[0])) == (owner[0], {"spec": patch})


def test_a_parent_that_was_null_stays_away() -> None:
    """Its owner applied null again, so it owns the parent as if it had set it to an empty value."""
    helm = manages("helm", "Apply", in_pod_spec({"f:affinity": {}}))
    before = item(PINNED, helm, OUR_ENTRY, revision="a.1~")
    assert restored(before, item({}, helm)) is None


def test_a_copy_that_was_a_parents_only_field_does_not_keep_it() -> None:
    """kubectl still owned a preference that an undo had brought back."""
    preferred: Json = {"f:affinity": {"f:nodeAffinity": {f"f:{PREFERRED}": {}}}}
    kubectl = manages("kubectl", "Update", in_pod_spec(preferred))
    spec: Json = {"affinity": {"nodeAffinity": {**PINNED["affinity"]["nodeAffinity"], PREFERRED: [OURS]}}}
    ours = manages(
        MANAGER,
        "Apply",
        in_pod_spec({"f:affinity": {"f:nodeAffinity": {f"f:{REQUIRED}": {}, f"f:{PREFERRED}": {}}}}),
    )
    before = item(spec, kubectl, ours, revision="a.1+")
    assert cleaned(before) == (MANAGER, {"spec": {"affinity": {"nodeAffinity": {PREFERRED: None}}}})
    assert restored(before, item({})) is None


def test_nothing_is_restored_where_nothing_is_left() -> None:
    before = item(PINNED, OUR_ENTRY, revision="a.1")
    assert restored(before, item({})) is None
    own = {"affinity": {"nodeAffinity": {PREFERRED: [ZONE]}}}
    helm = manages("helm", "Apply", in_pod_spec({"f:affinity": {"f:nodeAffinity": {f"f:{PREFERRED}": {}}}}))
    assert restored(item({**PINNED, **own}, helm, OUR_ENTRY, revision="a.1"), item(own, helm)) is None


def test_the_note_about_an_inexact_rollout_goes() -> None:
    before = item(PINNED, OUR_ENTRY, revision="a.1")
    after = item({})
    after["metadata"]["annotations"] = {"archshift/inexact": "a.1;2;3", "team": "blue"}
    done = restoration("Deployment", before, copy.deepcopy(after), MANAGER)
    assert done is not None
    assert done.body == {
        "metadata": {"annotations": {"archshift/inexact": None}, "uid": after["metadata"]["uid"]}
    }
