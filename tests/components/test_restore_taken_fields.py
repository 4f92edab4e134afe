"""Restoring what a forced patch took, against a cluster that keeps ownership."""

import json
from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from archshift.cluster.client import APPLY, MERGE
from archshift.cluster.model import TAKEN_ANNOTATION, taken_annotation
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import TakenField
from components import restore_taken_fields as module
from components.restore_taken_fields import applied_by, restore_hook, restore_taken_fields
from tests.build import ARCH, MANAGER, PREFERRED, Json, in_pod_spec, manages, workload
from tests.components.recorder import record
from tests.fakes import FakeCluster, Live, LiveCluster

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
    restore_taken_fields(cluster, "Deployment", "shop", "pay")
    ((path, _, used, manager),) = cluster.patches
    assert path == "/apis/apps/v1/namespaces/shop/deployments/pay"
    assert (used, manager) == (content_type, owner.manager)
    live.apply({}, MANAGER)
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
    cluster = FakeCluster({"/apis/apps/v1/namespaces/shop/deployments": [live]})
    restore_taken_fields(cluster, "Deployment", "shop", "pay")
    bodies = {manager: body["spec"]["template"]["spec"] for _, body, _, manager in cluster.patches}
    assert bodies == {
        "helm": {"affinity": {"nodeAffinity": {PREFERRED: THEIRS}}},
        "kubectl": {"nodeSelector": {"disk": "ssd"}},
    }


@pytest.mark.parametrize("objects", [[], [workload(name="pay")], [workload(name="other")]])
def test_where_nothing_was_taken_nothing_is_written(objects: list[Json]) -> None:
    """A workload that is gone, or from which nothing was taken, is left in peace."""
    cluster = FakeCluster({"/apis/apps/v1/namespaces/shop/deployments": objects})
    restore_taken_fields(cluster, "Deployment", "shop", "pay")
    assert cluster.patches == []


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


def test_an_owner_of_nothing_else_applies_the_field_alone() -> None:
    """Its entry in managedFields vanished with its last field."""
    live = {"apiVersion": "batch/v1", "kind": "CronJob", **workload("CronJob", "report")}
    taken = {"node-selector": TakenField(FieldOwner("helm", "Apply"), {"disk": "ssd"})}
    body = applied_by(live, "helm", ("spec", "jobTemplate", "spec", "template"), taken)
    template = {"spec": {"nodeSelector": {"disk": "ssd"}}}
    assert body["spec"] == {"jobTemplate": {"spec": {"template": template}}}


def test_the_hook_gives_back_what_the_deleted_patch_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine hands the old inputs over; the hook finds the workload from them alone."""
    live = forced(FieldOwner("helm", "Apply"))
    cluster = LiveCluster(live)
    contexts: list[str | None] = []

    def connect(context: str | None) -> FakeCluster:
        contexts.append(context)
        return cluster

    monkeypatch.setattr(module, "connect", connect)
    hooks: list[pulumi.ResourceHook] = []
    record(lambda: hooks.append(restore_hook("lab")))
    arguments: Any = SimpleNamespace(
        old_inputs={"kind": "Deployment", "metadata": {"namespace": "shop", "name": "pay"}}
    )
    hooks[0](arguments)
    assert contexts == ["lab"]
    assert [manager for *_, manager in cluster.patches] == ["helm"]
