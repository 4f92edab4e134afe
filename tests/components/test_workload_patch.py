"""The provider of a workload's patch: when the engine has something to do, and on which cluster."""

import threading
import time
from typing import Any

import pytest
from pulumi.dynamic import Config, ConfigureRequest

from archshift.cluster.client import RefusedError
from archshift.common.errors import ArchshiftError
from components import workload_patch as module
from components.workload_patch import WorkloadPatchProvider
from tests.build import ARCH, Json, workload
from tests.fakes import Live, LiveCluster

UID = "6a0c9f1e"
OLD_UID = "0ld-c1u5-7e12"


def props(**change: Any) -> Json:
    """The inputs of a patch as the engine hands them over: its protocol knows only floats."""
    spread = {"topologyKey": ARCH, "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2.0}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {"template": {"spec": {"topologySpreadConstraints": [spread]}}},
        "fieldManager": "archshift/test/patches",
        "force": False,
        "cluster": UID,
        **change,
    }


@pytest.fixture
def live() -> Live:
    """A Deployment of the cluster."""
    return Live("Deployment", workload())


@pytest.fixture(autouse=True)
def cluster(monkeypatch: pytest.MonkeyPatch, live: Live) -> LiveCluster:
    """The cluster behind every context."""
    reached = LiveCluster(live)
    monkeypatch.setattr(module, "connect", lambda _context: reached)
    monkeypatch.setattr(module, "_CONNECTION", module._Connection())
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0.05)
    return reached


def provider(**config: str) -> WorkloadPatchProvider:
    """A provider with this configuration of the stack."""
    made = WorkloadPatchProvider()
    values = {f"archshift:{key}": value for key, value in config.items()}
    made.configure(ConfigureRequest(config=Config(raw_config=values, project_name="archshift")))
    return made


def test_an_apply_has_whole_numbers_and_keeps_the_inputs(cluster: LiveCluster) -> None:
    """The API server refuses a skew of 2.0. The outputs are the inputs and what became of the patch."""
    before = time.time()
    made = provider().create(props())
    ((spread,),) = [
        done.body["spec"]["template"]["spec"]["topologySpreadConstraints"] for done in cluster.applies
    ]
    assert type(spread["maxSkew"]) is int
    assert made.id == "shop/Deployment/cart"
    outputs = made.outs or {}
    assert before <= outputs.pop("at") <= time.time()
    assert outputs == {**props(), "revision": "", "problem": ""}


@pytest.mark.parametrize(
    ("change", "changes"),
    [
        ({}, False),
        ({"spec": {"template": {}}}, True),
        ({"force": True}, True),
        ({"fieldManager": "archshift/other/patches"}, True),
        ({"cluster": OLD_UID}, True),
        ({"metadata": {"name": "cart", "namespace": "shop", "annotations": {"a": "b"}}}, True),
        ({"__provider": "another module"}, False),
    ],
)
def test_what_is_a_change(change: Json, changes: bool) -> None:
    """Another patch, and nothing else; never a replacement."""
    last = {**props(), "revision": "r", "problem": "", "at": 1.0, "__provider": "module"}
    diff = provider().diff("", last, props(**change))
    assert (diff.changes, diff.replaces) == (changes, [])


def test_a_refused_patch_is_tried_again() -> None:
    assert provider().diff("", {**props(), "problem": "a freeze is on"}, props()).changes


@pytest.mark.parametrize(
    ("known", "declared", "accepted"),
    [("", "", True), (UID, "", True), (OLD_UID, "", False), (OLD_UID, UID, True), (OLD_UID, "other", False)],
)
def test_a_patch_does_not_wander_to_another_cluster(
    cluster: LiveCluster, live: Live, known: str, declared: str, accepted: bool
) -> None:
    """Neither in a check, which the engine does before anything, nor in a delete or refresh. A cluster that
    the settings name as rebuilt gets the patch. What it had on the old cluster is gone with that cluster.
    """
    made = provider(**({"cluster_uid": declared} if declared else {}))
    failures = made.check(props(cluster=known) if known else {}, props()).failures
    assert (not failures) == accepted
    if not accepted:
        assert f"the cluster of this stack has the uid {known}" in failures[0].reason
        with pytest.raises(ArchshiftError, match=f"has the uid {known}"):
            made.delete("", props(cluster=known))
        with pytest.raises(ArchshiftError, match=f"has the uid {known}"):
            made.read("", props(cluster=known))
        with pytest.raises(ArchshiftError, match=f"has the uid {known}"):
            made.create(props(cluster=known))
    else:
        made.delete("", props(cluster=known))
    assert cluster.applies == []
    assert live.generation == 1


def test_a_refresh_forgets_a_patch_without_a_workload(cluster: LiveCluster) -> None:
    """And shows the revision that is really there."""
    found = provider().read("id", {**props(), "revision": "r1"})
    assert (found.id, (found.outs or {})["revision"]) == ("id", "")
    cluster.objects = {}
    other = props(metadata={"name": "gone", "namespace": "shop"})
    assert provider().read("id", other).id == ""


def test_a_refused_give_back_ends_after_the_others(
    monkeypatch: pytest.MonkeyPatch, cluster: LiveCluster
) -> None:
    """The engine starts nothing after a failure. A fourth that waits would leave no thread for the others."""
    del cluster
    monkeypatch.setattr(module, "_QUIET_SECONDS", 1.0)
    ended: list[str] = []

    def give_back(_cluster: object, _kind: str, _namespace: str, name: str, _manager: str) -> None:
        if name.startswith("frozen"):
            raise RefusedError("refused", status=422, words="a freeze is on")
        ended.append(name)

    monkeypatch.setattr(module, "give_back", give_back)
    made = provider()

    def delete_frozen(name: str) -> None:
        with pytest.raises(ArchshiftError) as error:
            made.delete("", props(metadata={"name": name, "namespace": "shop"}))
        assert str(error.value).startswith(
            f"shop/Deployment/{name}: the API server refuses to give its fields back: a freeze is on; run"
        )
        ended.append(name)

    frozen = [threading.Thread(target=delete_frozen, args=(f"frozen-{number}",)) for number in range(3)]
    for thread in frozen:
        thread.start()
    for number in range(10):
        made.delete("", props(metadata={"name": f"web-{number}", "namespace": "shop"}))
    for thread in frozen:
        thread.join()
    assert ended[:10] == [f"web-{number}" for number in range(10)]
    assert sorted(ended[10:]) == ["frozen-0", "frozen-1", "frozen-2"]
