"""A workload's patch: what is applied, what a refusal becomes, and what is given back and to whom."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from archshift.actions import workload_patch
from archshift.actions.workload_patch import (
    GONE,
    Applied,
    WorkloadPatch,
    applied_by,
    apply_patch,
    give_back,
    restore_taken_fields,
)
from archshift.cluster.client import APPLY, MERGE, BusyError, RefusedError
from archshift.cluster.model import TAKEN_ANNOTATION, taken_annotation
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import REVISION_ANNOTATION, TakenField
from archshift.common.errors import ArchshiftError, UnavailableError
from tests.build import ARCH, MANAGER, PREFERRED, Json, in_pod_spec, manages, workload
from tests.fakes import FakeCluster, Live, LiveCluster

DEPLOYMENTS = "/apis/apps/v1/namespaces/shop/deployments"
OUR_NAME = "archshift/test/patches"

ZONE = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
THEIRS = [{"weight": 10, "preference": ZONE}]
OURS = [{"weight": 100, "preference": ZONE}]


def affinity(value: list[Any]) -> Json:
    """A patch of the preferred affinity."""
    return {"spec": {"template": {"spec": {"affinity": {"nodeAffinity": {PREFERRED: value}}}}}}


def forced(owner: FieldOwner) -> Live:
    """A workload whose preferred affinity archshift took from an owner."""
    live = Live("Deployment", workload(name="pay"))
    others = {
        "spec": {
            "template": {
                "spec": {"nodeSelector": {"disk": "ssd"}, **affinity(THEIRS)["spec"]["template"]["spec"]}
            }
        }
    }
    if owner.operation == "Apply":
        live.apply(others, owner.manager)
    else:
        live.update(others, owner.manager)
    taken = taken_annotation({"preferred": TakenField(owner, THEIRS)})
    live.apply(
        {"metadata": {"annotations": {TAKEN_ANNOTATION: taken}}, **affinity(OURS)}, MANAGER, force=True
    )
    return live


@pytest.mark.parametrize(
    ("owner", "content_type"),
    [(FieldOwner("helm", "Apply"), APPLY), (FieldOwner("kubectl-client-side-apply", "Update"), MERGE)],
)
def test_the_owner_gets_its_value_back_in_its_own_way(owner: FieldOwner, content_type: str) -> None:
    """Afterwards our patch can go and the object is what it was, ownership included."""
    live = forced(owner)
    cluster = LiveCluster(live)
    give_back(cluster, "Deployment", "shop", "pay", MANAGER)
    ((path, _, used, manager),) = cluster.patches
    assert path == f"{DEPLOYMENTS}/pay"
    assert (used, manager) == (content_type, owner.manager)
    spec = live.fields["spec"]["template"]["spec"]
    assert spec == {"nodeSelector": {"disk": "ssd"}, "affinity": {"nodeAffinity": {PREFERRED: THEIRS}}}
    assert {who for who, paths in live.owners.items() if paths} == {(owner.manager, owner.operation)}


def test_each_owner_gets_its_own_fields() -> None:
    """Two owners, two patches, none with the other's field."""
    taken = {
        "preferred": TakenField(FieldOwner("helm", "Apply"), THEIRS),
        "node-selector": TakenField(FieldOwner("kubectl", "Update"), {"disk": "ssd"}),
    }
    live = workload(name="pay", annotations={TAKEN_ANNOTATION: taken_annotation(taken)})
    cluster = FakeCluster({DEPLOYMENTS: [live]})
    restore_taken_fields(cluster, "Deployment", live)
    bodies = {manager: body["spec"]["template"]["spec"] for _, body, _, manager in cluster.patches}
    assert bodies == {
        "helm": {"affinity": {"nodeAffinity": {PREFERRED: THEIRS}}},
        "kubectl": {"nodeSelector": {"disk": "ssd"}},
    }


@pytest.mark.parametrize("before", [True, False])
def test_a_restored_spread_keeps_the_others_in_their_places(before: bool) -> None:
    """A merge patch replaces the whole list, so that the application would lose its other constraints."""
    zone = {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}
    theirs = {"topologyKey": ARCH, "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}
    ours = {**theirs, "maxSkew": 3}
    taken = {"spread": TakenField(FieldOwner("kubectl", "Update"), theirs)}
    live = workload(
        name="pay",
        annotations={TAKEN_ANNOTATION: taken_annotation(taken)},
        pod_spec={"topologySpreadConstraints": [zone, ours] if before else [ours, zone]},
    )
    cluster = FakeCluster({DEPLOYMENTS: [live]})
    restore_taken_fields(cluster, "Deployment", live)
    ((_, body, _, _),) = cluster.patches
    spreads = body["spec"]["template"]["spec"]["topologySpreadConstraints"]
    assert spreads == ([zone, theirs] if before else [theirs, zone])


@pytest.mark.parametrize("objects", [[], [workload(name="pay")], [workload(name="other")]])
def test_where_nothing_was_taken_nothing_is_written(objects: list[Json]) -> None:
    """A workload that is gone, or from which nothing was taken, is left in peace."""
    cluster = FakeCluster({DEPLOYMENTS: objects})
    give_back(cluster, "Deployment", "shop", "pay", MANAGER)
    assert cluster.patches == []
    assert cluster.applies == []


def test_an_owner_re_applies_all_that_it_owns() -> None:
    """An apply with the taken field alone would drop every other field that helm had applied."""
    fields = in_pod_spec(
        {
            "f:nodeSelector": {},
            "f:containers": {'k:{"name":"pay"}': {".": {}, "f:name": {}, "f:image": {}}},
            "f:topologySpreadConstraints": {
                'k:{"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway"}': {".": {}, "f:maxSkew": {}}
            },
        }
    )
    zone = {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}
    arch = {"topologyKey": ARCH, "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}
    live = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        **workload(
            name="pay",
            pod_spec={"nodeSelector": {"disk": "ssd"}, "topologySpreadConstraints": [zone, arch]},
            managed=[
                manages("helm", "Update", {"f:metadata": {"f:labels": {}}}),
                manages("helm", "Apply", {"f:status": {}}, subresource="status"),
                manages("helm", "Apply", fields),
            ],
        ),
    }
    before = json.dumps(live)
    body = applied_by(
        live, "helm", ("spec", "template"), {"spread": TakenField(FieldOwner("helm", "Apply"), arch)}
    )
    assert body == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {},
        "spec": {
            "template": {
                "spec": {
                    "nodeSelector": {"disk": "ssd"},
                    "containers": [{"name": "pay", "image": "registry.example/app:1"}],
                    "topologySpreadConstraints": [zone, arch],
                }
            }
        },
    }
    assert json.dumps(live) == before


def test_an_owner_that_still_owns_the_keys_of_a_taken_constraint_applies_it_once() -> None:
    """archshift took only the fields with another value. The API refuses two constraints with one key."""
    key = f'k:{{"topologyKey":"{ARCH}","whenUnsatisfiable":"DoNotSchedule"}}'
    zone = {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}
    zone_key = 'k:{"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway"}'
    fields: Json = {key: {".": {}, "f:topologyKey": {}}, zone_key: {".": {}, "f:maxSkew": {}}}
    theirs = {"topologyKey": ARCH, "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}
    live = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        **workload(
            pod_spec={"topologySpreadConstraints": [{**theirs, "maxSkew": 3}, zone]},
            managed=[manages("helm", "Apply", in_pod_spec({"f:topologySpreadConstraints": fields}))],
        ),
    }
    taken = {"spread": TakenField(FieldOwner("helm", "Apply"), theirs)}
    body = applied_by(live, "helm", ("spec", "template"), taken)
    assert body["spec"]["template"]["spec"]["topologySpreadConstraints"] == [theirs, zone]


def test_an_owner_of_nothing_else_applies_the_field_alone() -> None:
    """Its entry in managedFields vanished with its last field."""
    live = {"apiVersion": "batch/v1", "kind": "CronJob", **workload("CronJob", "report")}
    taken = {"node-selector": TakenField(FieldOwner("helm", "Apply"), {"disk": "ssd"})}
    body = applied_by(live, "helm", ("spec", "jobTemplate", "spec", "template"), taken)
    template = {"spec": {"nodeSelector": {"disk": "ssd"}}}
    assert body["spec"] == {"jobTemplate": {"spec": {"template": template}}}


# --- applying -------------------------------------------------------------------------------


def patch_of(name: str = "cart", **options: Any) -> WorkloadPatch:
    """A patch that pins a Deployment to Graviton, at revision r2."""
    options = {"field_manager": OUR_NAME, "metadata": {}, **options}
    return WorkloadPatch(
        kind="Deployment", namespace="shop", name=name, spec=pinned("arm64", "r2")["spec"], **options
    )


def pinned(architecture: str, revision: str) -> Json:
    """What a patch sets."""
    return {
        "spec": {
            "template": {
                "metadata": {"annotations": {REVISION_ANNOTATION: revision}},
                "spec": {"nodeSelector": {ARCH: architecture}},
            }
        }
    }


def test_an_apply_names_the_object_that_it_means() -> None:
    """The uid is a precondition, so that an apply never creates a workload that somebody just deleted."""
    live = Live("Deployment", workload())
    cluster = LiveCluster(live)
    annotations = {"annotations": {TAKEN_ANNOTATION: "{}"}}
    assert apply_patch(cluster, patch_of(metadata=annotations, force=True)) == Applied(revision="r2")
    (done,) = cluster.applies
    assert (done.path, done.field_manager, done.force) == (f"{DEPLOYMENTS}/cart", OUR_NAME, True)
    assert done.body == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "cart",
            "namespace": "shop",
            "uid": "0a1b2c3d-1111-2222-3333-444455556666",
            **annotations,
        },
        **pinned("arm64", "r2"),
    }


def test_a_missing_workload_is_an_outcome_and_is_not_created() -> None:
    cluster = FakeCluster({DEPLOYMENTS: []})
    assert apply_patch(cluster, patch_of()) == Applied(problem=GONE)
    assert cluster.applies == []


class Refusing(LiveCluster):
    """A cluster that answers the next applies with errors; `meanwhile` happens before each answer."""

    def __init__(
        self, live: Live, *errors: ArchshiftError, meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        super().__init__(live)
        self.errors = list(errors)
        self.meanwhile = meanwhile

    def before(self, verb: str, path: str) -> None:
        """Refuse an apply."""
        super().before(verb, path)
        if verb == "apply" and self.errors:
            self.meanwhile()
            raise self.errors.pop(0)


def refusal(status: int, words: str) -> RefusedError:
    return RefusedError(f"https://cluster.example: {words}", status=status, words=words)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (409, 'Apply failed with 1 conflict: conflict with "helm": .spec.template.spec.affinity'),
        (403, 'admission webhook "freeze.example" denied the request: closed until Monday'),
        (422, "a change freeze is on for this workload"),
    ],
)
def test_a_refusal_is_an_outcome_in_the_servers_words(status: int, words: str) -> None:
    """Nothing is raised, so all other patches go on; the revision is what really runs."""
    live = Live("Deployment", workload())
    live.apply(pinned("amd64", "r1"), OUR_NAME)
    cluster = Refusing(live, refusal(status, words))
    assert apply_patch(cluster, patch_of()) == Applied(revision="r1", problem=words)


def test_invalid_credentials_are_nobodys_refusal() -> None:
    """They concern all patches, so the update must stop."""
    cluster = Refusing(Live("Deployment", workload()), refusal(401, "Unauthorized"))
    with pytest.raises(RefusedError, match="Unauthorized"):
        apply_patch(cluster, patch_of())


def test_a_workload_that_is_made_anew_meanwhile_gets_the_patch() -> None:
    live = Live("Deployment", workload())

    def recreated() -> None:
        live.base["metadata"]["uid"] = "another"

    cluster = Refusing(live, refusal(409, "uid mismatch"), meanwhile=recreated)
    assert apply_patch(cluster, patch_of()) == Applied(revision="r2")
    assert [done.body["metadata"]["uid"] for done in cluster.applies] == [
        "0a1b2c3d-1111-2222-3333-444455556666",
        "another",
    ]


def test_a_server_that_is_away_for_a_moment_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _: None)
    away = UnavailableError("https://cluster.example: the cluster cannot be reached: refused")
    busy = BusyError("https://cluster.example: too many requests", status=429, words="too many requests")
    cluster = Refusing(Live("Deployment", workload()), away, busy)
    assert apply_patch(cluster, patch_of()) == Applied(revision="r2")


def test_a_server_that_stays_away_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workload_patch, "_PATIENCE_SECONDS", 0.0)
    away = UnavailableError("https://cluster.example: the cluster cannot be reached: refused")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        apply_patch(Refusing(Live("Deployment", workload()), away), patch_of())


def test_an_admission_webhook_that_is_down_is_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API server answers 500 then, for one workload and for hours."""
    monkeypatch.setattr(workload_patch, "_ERROR_PATIENCE_SECONDS", -1.0)
    words = 'failed calling webhook "policy.example": connection refused'
    broken = BusyError(f"https://cluster.example: {words}", status=500, words=words)
    cluster = Refusing(Live("Deployment", workload()), broken)
    assert apply_patch(cluster, patch_of()) == Applied(problem=words)


# --- what 0.1.0 applied ---------------------------------------------------------------------


@pytest.mark.parametrize("next_revision", ["r1", "r2"])
def test_what_the_former_version_applied_gets_our_name(next_revision: str) -> None:
    """The first update takes its fields over, whether the step changes them or not. Then 0.1.0's resource has
    nothing to give up, and our give-back leaves nothing.
    """
    live = Live("Deployment", workload())
    live.update({"spec": {"replicas": 3}}, "kubectl")
    before = live.fields
    live.apply(pinned("amd64", "r1"), MANAGER)
    generation = live.generation
    cluster = LiveCluster(live)
    wanted = pinned("amd64" if next_revision == "r1" else "arm64", next_revision)
    patch = WorkloadPatch(
        kind="Deployment",
        namespace="shop",
        name="cart",
        field_manager=f"{MANAGER}/patches",
        metadata={},
        spec=wanted["spec"],
    )
    assert apply_patch(cluster, patch) == Applied(revision=next_revision)
    assert live.generation == generation + (next_revision != "r1")
    now = live.fields
    live.apply({}, MANAGER)
    assert live.fields == now
    give_back(cluster, "Deployment", "shop", "cart", f"{MANAGER}/patches")
    assert live.fields == before


def test_a_give_back_that_is_refused_is_an_error_with_the_servers_words() -> None:
    live = Live("Deployment", workload())
    live.apply(pinned("amd64", "r1"), OUR_NAME)
    with pytest.raises(RefusedError, match="a change freeze"):
        give_back(
            Refusing(live, refusal(422, "a change freeze is on")), "Deployment", "shop", "cart", OUR_NAME
        )
