"""The hook that the state of archshift 0.1.0 names for its forced patches."""

from types import SimpleNamespace
from typing import Any

import pulumi
import pytest

from archshift.cluster.model import TAKEN_ANNOTATION, taken_annotation
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import TakenField
from components import restore_taken_fields as module
from tests.build import MANAGER, workload
from tests.components.recorder import record
from tests.fakes import FakeCluster, Live, LiveCluster

DISK = {"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd"}}}}}
ARM = {"spec": {"template": {"spec": {"nodeSelector": {"disk": "ssd", "kubernetes.io/arch": "arm64"}}}}}


@pytest.mark.parametrize(("manager", "restored"), [(MANAGER, ["helm"]), (f"{MANAGER}/patches", [])])
def test_the_hook_restores_what_the_deleted_patch_took_if_that_still_has_it(
    monkeypatch: pytest.MonkeyPatch, manager: str, restored: list[str]
) -> None:
    """The engine hands the old inputs over; the hook finds the workload from them alone. In a migration the
    patch of this version has the fields by then, and must keep them.
    """
    live = Live("Deployment", workload(name="pay"))
    live.apply(DISK, "helm")
    taken = taken_annotation({"node-selector": TakenField(FieldOwner("helm", "Apply"), {"disk": "ssd"})})
    live.apply({"metadata": {"annotations": {TAKEN_ANNOTATION: taken}}, **ARM}, manager, force=True)
    cluster = LiveCluster(live)
    contexts: list[str | None] = []

    def connect(context: str | None) -> FakeCluster:
        contexts.append(context)
        return cluster

    monkeypatch.setattr(module, "connect", connect)
    hooks: list[Any] = []
    monkeypatch.setattr(pulumi, "ResourceHook", lambda name, callback: hooks.append((name, callback)))
    record(lambda: module.register_restore_hook("lab"))
    ((name, before_delete),) = hooks
    assert name == "archshift-restore-taken-fields"
    metadata = {
        "namespace": "shop",
        "name": "pay",
        "annotations": {"pulumi.com/patchFieldManager": MANAGER, "pulumi.com/patchForce": "true"},
    }
    before_delete(SimpleNamespace(old_inputs={"kind": "DeploymentPatch", "metadata": metadata}))
    assert contexts == ["lab"]
    assert [who for *_, who in cluster.patches] == restored
