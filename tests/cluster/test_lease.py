"""The Lease of a stack: who may move its pods, and for how long a dead holder blocks others."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from archshift.cluster.client import RefusedError
from archshift.cluster.lease import LEASES, NAMESPACE, SECONDS, Lease, lease_name, sole_mover, wait_until_free
from archshift.common.errors import ArchshiftError, UnavailableError
from tests.fakes import Clock, FakeCluster

COLLECTION = LEASES.collection(NAMESPACE)
STACK = "prod"


class Leases(FakeCluster):
    """A cluster that counts the versions of its Lease, and refuses a change of an older one."""

    version = 0
    error: ArchshiftError | None = None

    def before(self, verb: str, path: str) -> None:
        del verb
        if self.error and path.startswith(COLLECTION):
            raise self.error

    def patch(self, path: str, body: Any, content_type: str, field_manager: str) -> None:
        """Refuse what another client was faster with."""
        if body["metadata"].get("resourceVersion", str(self.version)) != str(self.version):
            raise RefusedError("conflict", status=409, words="the object has been modified")
        super().patch(path, body, content_type, field_manager)

    def after(self, verb: str, path: str) -> None:
        """Give the Lease its next version."""
        del verb
        self.version += 1
        for item in self.objects.get(COLLECTION, ()):
            item["metadata"]["resourceVersion"] = str(self.version)
        del path

    @property
    def holder(self) -> str | None:
        (item,) = self.objects[COLLECTION]
        held: str | None = item["spec"].get("holderIdentity")
        return held


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """A clock that only sleeping moves."""
    return Clock(monkeypatch, 1000)


def silent(_: str) -> None:
    """Hear nothing."""


def holding(cluster: FakeCluster, name: str) -> Lease:
    lease = Lease(cluster, STACK, name)
    lease.take(silent)
    return lease


@pytest.mark.parametrize("ends", [RuntimeError, KeyboardInterrupt, None])
def test_whoever_ends_gives_it_back_at_once(clock: Clock, ends: type[BaseException] | None) -> None:
    cluster = Leases()
    for _ in range(2):
        try:
            with sole_mover(cluster, STACK, "archshift rebalance") as lease:
                assert lease
                assert lease.holds
                assert str(cluster.holder).startswith("archshift rebalance on ")
                if ends:
                    raise ends
        except (RuntimeError, KeyboardInterrupt):
            pass
        assert cluster.holder is None
    assert clock.now == 1000


def test_a_killed_holder_blocks_nobody_for_longer_than_its_time(clock: Clock) -> None:
    """Whatever time the Lease names: the clocks of two machines may differ."""
    cluster = Leases()
    holding(cluster, "dead")
    cluster.objects[COLLECTION][0]["spec"] |= {
        "renewTime": "2999-01-01T00:00:00.000000Z",
        "leaseDurationSeconds": 10**6,
    }
    said: list[str] = []
    second = Lease(cluster, STACK, "second")
    second.take(said.append)
    assert (cluster.holder, second.holds) == ("second", True)
    assert SECONDS <= clock.now - 1000 <= SECONDS + 2
    assert said == ["waiting for dead, at most 30 s: it holds the Lease, or it was killed"]


def test_a_living_holder_stops_the_second_command_in_one_sentence(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Leases()
    first = holding(cluster, "archshift rebalance on ci (7-ab)")
    sleep: Callable[[float], None] = clock.sleep

    def meanwhile(seconds: float) -> None:
        sleep(seconds)
        first.renew()

    monkeypatch.setattr("time.sleep", meanwhile)
    with pytest.raises(ArchshiftError) as error:
        holding(cluster, "second")
    assert str(error.value) == (
        "archshift rebalance on ci (7-ab) moves pods of the same stack now, as the Lease "
        "default/archshift-moves-prod says; try again after it has ended; if it is killed, the Lease is free "
        "30 s later"
    )
    assert cluster.holder == first.holder
    assert first.holds
    began = clock.now
    with pytest.raises(ArchshiftError, match="moves pods of the same stack now"):
        Lease(cluster, STACK, "third").take(silent, patience=20)
    assert 20 <= clock.now - began <= 30, "an update waits for a rebalance that may end soon"
    with pytest.raises(ArchshiftError, match="moves pods of the same stack now"):
        wait_until_free(cluster, STACK, "pulumi up")


def test_a_holder_that_stood_still_stops_when_another_one_has_it(clock: Clock) -> None:
    """Such as a suspended process: it neither moves pods nor takes the Lease from the other one."""
    cluster = Leases()
    first = holding(cluster, "first")
    second = holding(cluster, "second")
    assert not first.holds
    first.renew()
    first.give_back()
    assert (cluster.holder, first.holds, second.holds) == ("second", False, True)
    clock.sleep(SECONDS)
    assert not second.holds, "by its own clock"


def test_a_cluster_that_is_away_for_a_moment_takes_nothing_from_the_holder(clock: Clock) -> None:
    cluster = Leases()
    lease = holding(cluster, "first")
    cluster.error = UnavailableError("away")
    clock.sleep(10)
    lease.renew()
    assert lease.holds
    cluster.error = None
    lease.renew()
    clock.sleep(20)
    assert lease.holds


def test_without_the_right_a_rebalance_stops_and_an_update_goes_on() -> None:
    """The engine has locked the stack for the update."""
    cluster = Leases()
    cluster.error = RefusedError("no", status=403, words="leases is forbidden")
    with pytest.raises(ArchshiftError) as error, sole_mover(cluster, STACK, "archshift rebalance"):
        pytest.fail("it went on")
    assert str(error.value) == (
        "this user may not have the Lease default/archshift-moves-prod, without which two commands could "
        "move pods at once (leases is forbidden); apply the role that archshift rbac --only rebalancing "
        "prints"
    )
    with sole_mover(cluster, STACK, "pulumi up", required=False) as lease:
        assert lease is None
    wait_until_free(cluster, STACK, "pulumi up")


def test_where_nobody_moves_pods_an_update_writes_no_lease() -> None:
    cluster = Leases()
    wait_until_free(cluster, STACK, "pulumi up")
    with sole_mover(cluster, STACK, "archshift rebalance"):
        pass
    written = len(cluster.patches)
    wait_until_free(cluster, STACK, "pulumi up")
    assert len(cluster.patches) == written


def test_stacks_of_one_cluster_do_not_wait_for_each_other() -> None:
    assert len({lease_name(stack) for stack in ("prod", "Prod", "pro_d", "pro-d", "pro.d")}) == 5


def test_a_renewal_at_the_same_moment_costs_no_release(clock: Clock) -> None:
    """Another write between the read and the write of the release is a conflict, and no reason to keep it."""

    class Racing(Leases):
        races = 1

        def get(self, path: str) -> Any:
            found = super().get(path)
            if self.races and found["spec"].get("holderIdentity"):
                self.races = 0
                self.after("patch", path)
                return {**found, "metadata": {**found["metadata"], "resourceVersion": str(self.version - 1)}}
            return found

    cluster = Racing()
    holding(cluster, "me").give_back()
    assert (cluster.holder, cluster.races) == (None, 0)
    assert clock.now == 1000


def test_a_renewal_under_way_ends_before_the_connection_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise it would end with a traceback in a thread."""
    cluster = Leases()
    monkeypatch.setattr("archshift.cluster.lease.RENEW_SECONDS", 0.01)
    with sole_mover(cluster, STACK, "archshift rebalance"):
        pass
    assert [thread.name for thread in threading.enumerate() if thread.name == "lease"] == []
    asked = len(cluster.gets)
    time.sleep(0.05)
    assert len(cluster.gets) == asked
