"""The evidence of failed first pods: what is kept in the cluster, and what of it is believed."""

import json
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.canaries import (
    canaries_name,
    delete_canaries,
    read_canaries,
    write_canary,
)
from archshift.cluster.client import RefusedError
from archshift.cluster.model import FailedCanary
from archshift.common.errors import ArchshiftError, UnavailableError
from tests.build import Json
from tests.fakes import FakeCluster

NAME = canaries_name("prod")
MAPS = "/api/v1/configmaps"
SHOP_MAPS = "/api/v1/namespaces/shop/configmaps"
CART = FailedCanary(
    workload="shop/Deployment/cart",
    container="app",
    image="registry.example/cart:1.2",
    words="CrashLoopBackOff, exec /app: exec format error, exit code 1",
    digest="sha256:aa",
    running="sha256:bb",
    at=datetime(2026, 11, 30, 14, 20, tzinfo=UTC),
)


class Namespaced(FakeCluster):
    """The ConfigMaps of one namespace are those of the cluster, also new ones."""

    def __init__(self, data: Any = None) -> None:
        item = {"metadata": {"name": NAME, "namespace": "shop", "labels": {"archshift/canaries": "prod"}}}
        super().__init__({MAPS: [] if data is None else [{**item, "data": data}]})

    def after(self, verb: str, path: str) -> None:
        """Show a new ConfigMap in its namespace."""
        if verb == "create":
            (made,) = self.objects.pop(path)
            made["metadata"]["namespace"] = path.split("/")[4]
            self.objects[MAPS] = [*self.objects[MAPS], made]

    @property
    def data(self) -> Json:
        """The entries of the shop."""
        (item,) = self.objects[MAPS]
        return dict(item["data"])


def test_what_is_kept_is_read_again() -> None:
    cluster = Namespaced()
    write_canary(cluster, "prod", CART)
    assert read_canaries(cluster, "prod", ["shop", "other", "shop"]) == {CART.workload: CART}
    assert read_canaries(cluster, "staging", ["shop"]) == {}
    assert cluster.created[0][2] == "archshift-canaries"


def test_a_newer_failure_replaces_the_older_one() -> None:
    cluster = Namespaced()
    newer = replace(CART, image="registry.example/cart:1.3", at=CART.at + timedelta(days=1))
    for canary in (CART, newer):
        write_canary(cluster, "prod", canary)
    assert read_canaries(cluster, "prod", ["shop"]) == {CART.workload: newer}


def test_evidence_of_an_earlier_version_no_longer_goes_with_the_policy() -> None:
    """It named the policy as its owner, and a change of the placement deletes the policy."""
    cluster = Namespaced({})
    cluster.objects[MAPS][0]["metadata"]["ownerReferences"] = [
        {"kind": "MutatingAdmissionPolicy", "uid": "1"}
    ]
    write_canary(cluster, "prod", CART)
    assert "ownerReferences" not in cluster.objects[MAPS][0]["metadata"]


def test_evidence_that_does_not_count_any_more_goes_with_the_next_write() -> None:
    cluster = Namespaced()
    others = [replace(CART, workload=f"shop/StatefulSet/{name}") for name in ("db", "queue")]
    for canary in (CART, *others):
        write_canary(cluster, "prod", canary)
    cluster.objects[MAPS][0]["data"]["broken"] = "{"
    write_canary(cluster, "prod", CART, lifted={"shop/StatefulSet/db", "shop/Deployment/unknown"})
    assert sorted(cluster.data) == ["Deployment.cart", "StatefulSet.queue"]


def test_a_namespace_keeps_the_latest_failures_only() -> None:
    """A ConfigMap has a limit, and whoever reaches it must still hold the workload that fails now."""
    cluster = Namespaced()
    write_canary(cluster, "prod", CART)
    text = json.loads(cluster.data["Deployment.cart"])
    for number in range(600):
        at = (CART.at + timedelta(minutes=number)).isoformat()
        cluster.objects[MAPS][0]["data"][f"Deployment.w{number:03}"] = json.dumps(text | {"at": at})
    write_canary(cluster, "prod", replace(CART, workload="shop/Deployment/new"))
    found = read_canaries(cluster, "prod", ["shop"])
    assert len(found) == 500
    assert "shop/Deployment/new" in found


def test_what_a_node_says_is_one_line_of_limited_length() -> None:
    cluster = Namespaced()
    write_canary(cluster, "prod", replace(CART, words="exec\n\x1b[31mformat " * 500, image="i" * 5000))
    (found,) = read_canaries(cluster, "prod", ["shop"]).values()
    assert len(found.words) <= 300
    assert found.words.isprintable()
    assert len(found.image) <= 512
    assert len(cluster.data["Deployment.cart"]) <= 2048


GOOD = {
    "container": "app",
    "image": "app:1",
    "words": "Error",
    "digest": "",
    "running": "",
    "at": "2026-11-30T14:20:00+00:00",
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "[" * 2000,
        "1e999",
        json.dumps(GOOD | {"at": "yesterday"}),
        json.dumps(GOOD | {"at": "2026-11-30T14:20:00"}),
        json.dumps(GOOD | {"at": 3}),
        json.dumps(GOOD | {"image": None}),
        json.dumps({key: value for key, value in GOOD.items() if key != "words"}),
        json.dumps(GOOD | {"more": "x" * 3000}),
        None,
        17,
        {"image": "app:1"},
    ],
)
def test_broken_evidence_is_left_out(text: Any) -> None:
    cluster = Namespaced({"Deployment.cart": text, "Deployment.web": json.dumps(GOOD)})
    assert list(read_canaries(cluster, "prod", ["shop"])) == ["shop/Deployment/web"]


@pytest.mark.parametrize("key", ["", ".", "cart", "Deployment.", ".cart", "Deployment.a/b"])
def test_keys_that_name_no_workload_are_left_out(key: str) -> None:
    assert read_canaries(Namespaced({key: json.dumps(GOOD)}), "prod", ["shop"]) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(
    data=JSON
    | st.dictionaries(st.text() | st.just("Deployment.cart"), JSON | JSON.map(json.dumps) | st.text())
)
def test_forged_content_never_raises(data: Any) -> None:
    for canary in read_canaries(Namespaced(data), "prod", ["shop"]).values():
        assert canary.namespace == "shop"
        assert canary.words.isprintable()


@pytest.mark.parametrize("status", [403, 404])
def test_what_may_not_be_read_is_not_there(status: int) -> None:
    class Refusing(Namespaced):
        def before(self, verb: str, path: str) -> None:
            del verb, path
            raise RefusedError("no", status=status, words="no")

    assert read_canaries(Refusing(), "prod", ["shop"]) == {}


def test_a_cluster_that_does_not_answer_is_no_evidence_of_success() -> None:
    class Away(Namespaced):
        def before(self, verb: str, path: str) -> None:
            del verb, path
            raise UnavailableError("the cluster cannot be reached")

    with pytest.raises(ArchshiftError, match="cannot be reached"):
        read_canaries(Away(), "prod", ["shop"])


def test_the_end_of_a_stack_deletes_its_evidence_only() -> None:
    cluster = Namespaced()
    write_canary(cluster, "prod", CART)
    other = {"metadata": {"name": canaries_name("staging"), "namespace": "shop"}, "data": {}}
    cluster.objects[MAPS] = [*cluster.objects[MAPS], other]
    delete_canaries(cluster, "prod", ["shop", "without-evidence"])
    assert cluster.objects[MAPS] == [other]


@pytest.mark.parametrize(("status", "raises"), [(403, False), (500, True)])
def test_whoever_may_not_delete_evidence_still_ends_the_stack(status: int, *, raises: bool) -> None:
    class Refusing(Namespaced):
        def before(self, verb: str, path: str) -> None:
            if (verb, path) == ("delete", f"{SHOP_MAPS}/{NAME}"):
                raise RefusedError("no", status=status, words="no")

    with pytest.raises(RefusedError) if raises else nullcontext():
        delete_canaries(Refusing(), "prod", ["shop"])
