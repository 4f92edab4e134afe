"""The resource of failed canaries: where evidence can be, and that its deletion deletes that evidence."""

import base64
from typing import Any

import pytest
from pulumi.dynamic import Config, ConfigureRequest

from archshift.cluster import client
from archshift.cluster.canaries import canaries_name
from components.failed_canaries import FailedCanaries, FailedCanariesArgs, FailedCanariesProvider
from tests.components.recorder import record
from tests.fakes import FakeCluster

PROPS: dict[str, Any] = {"stackLabel": "prod", "namespaces": ["cart", "shop"], "cluster": "6a0c9f1e"}


def evidence(namespace: str, stack: str = "prod") -> dict[str, Any]:
    return {"metadata": {"name": canaries_name(stack), "namespace": namespace}}


def left_after_deletion(monkeypatch: pytest.MonkeyPatch, uid: str) -> list[dict[str, Any]]:
    maps = "/api/v1/configmaps"
    cluster = FakeCluster({maps: [evidence("shop"), evidence("shop", "staging")]})
    cluster.uid = uid
    monkeypatch.setattr(client, "connect", lambda _: cluster)
    provider = FailedCanariesProvider()
    provider.configure(ConfigureRequest(config=Config(raw_config={}, project_name="archshift")))
    provider.delete("failed-canaries", PROPS)
    return list(cluster.objects[maps])


def test_a_destroy_deletes_the_evidence_of_its_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left_after_deletion(monkeypatch, "6a0c9f1e") == [evidence("shop", "staging")]


def test_a_cluster_that_was_built_anew_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    assert left_after_deletion(monkeypatch, "another") == [evidence("shop"), evidence("shop", "staging")]


@pytest.mark.parametrize(
    ("namespaces", "changes", "kept"),
    [
        (["cart", "shop"], False, ["cart", "shop"]),
        (["shop"], False, ["cart", "shop"]),
        (["new"], True, ["cart", "new", "shop"]),
    ],
)
def test_a_namespace_that_the_stack_left_may_still_have_evidence(
    namespaces: list[str], kept: list[str], *, changes: bool
) -> None:
    provider, news = FailedCanariesProvider(), {**PROPS, "namespaces": namespaces}
    assert provider.diff("failed-canaries", PROPS, news).changes is changes
    assert provider.update("failed-canaries", PROPS, news).outs == {**PROPS, "namespaces": kept}


def test_the_state_names_the_provider_by_its_module() -> None:
    """So that `pulumi destroy` finds it without the program."""
    arguments = FailedCanariesArgs(stack_label="prod", namespaces={"shop", "cart"}, cluster="6a0c9f1e")
    (made,) = record(lambda: FailedCanaries("failed-canaries", arguments)).of(FailedCanaries.TYPE)
    assert b"components.failed_canaries" in base64.b64decode(made.inputs.pop("__provider"))
    assert made.inputs == PROPS
