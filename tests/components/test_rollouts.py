"""The wait for a rollout ends with the rollout, not before, and not never."""

from collections.abc import Iterator
from typing import Any

import pytest

from archshift.common.errors import ArchshiftError, UnavailableError
from components import rollouts
from tests.build import workload
from tests.fakes import FakeCluster


class Rolling(FakeCluster):
    """A cluster in which a Deployment gets on by one step with each event; a watch brings two."""

    def __init__(self, *steps: dict[str, int]) -> None:
        super().__init__({})
        self.steps = list(steps)
        self.watches: list[tuple[str, str]] = []

    def watch(self, collection: str, name: str) -> Iterator[dict[str, Any]]:
        """Yield the Deployment's next two states."""
        self.watches.append((collection, name))
        for _ in range(min(2, len(self.steps))):
            live = workload(name="cart", replicas=4)
            live["metadata"]["generation"] = 2
            live["status"] = {"observedGeneration": 2, **self.steps.pop(0)}
            yield live


def pods(updated: int, available: int, replicas: int = 4) -> dict[str, int]:
    """A Deployment's status."""
    return {"updatedReplicas": updated, "availableReplicas": available, "replicas": replicas}


def wait_for(cluster: FakeCluster, timeout: float = rollouts.TIMEOUT_SECONDS) -> None:
    """Wait for the Deployment cart."""
    rollouts.await_rollout(cluster, "Deployment", "shop", "cart", timeout)


def test_it_waits_for_the_last_pod() -> None:
    """Neither an old status, the first new pods, a surplus of old ones nor a watch's end is the end."""
    unseen = {**pods(4, 4), "observedGeneration": 1}
    end, after = pods(4, 4), pods(0, 0)
    cluster = Rolling(unseen, pods(1, 4, 5), pods(4, 3), pods(4, 4, 5), end, after)
    wait_for(cluster)
    assert cluster.steps == [after]
    assert cluster.watches == [("/apis/apps/v1/namespaces/shop/deployments", "cart")] * 3


def test_a_rollout_that_does_not_end_is_said() -> None:
    """The sentence names the workload, how far it got and what to ask next."""
    with pytest.raises(ArchshiftError) as error:
        wait_for(Rolling(pods(1, 3)), timeout=-1)
    assert str(error.value) == (
        "shop/Deployment/cart: the rollout was not complete after -1 s: 1 of 4 pods updated, 3 available; "
        "see kubectl rollout status deployment cart --namespace shop, then run pulumi up again"
    )


def test_a_workload_that_is_gone_is_said() -> None:
    """A watch of nothing is no rollout that is over."""
    with pytest.raises(ArchshiftError) as error:
        wait_for(Rolling())
    assert (
        str(error.value)
        == "shop/Deployment/cart: the workload does not exist; check whether somebody deleted it"
    )


class Flaky(Rolling):
    """The same cluster behind a network that breaks off every watch after its first event, for a while."""

    def __init__(self, breaks: int, *steps: dict[str, int]) -> None:
        super().__init__(*steps)
        self.breaks = breaks

    def watch(self, collection: str, name: str) -> Iterator[dict[str, Any]]:
        """Yield one state, then lose the connection."""
        for state in super().watch(collection, name):
            yield state
            if self.breaks:
                self.breaks -= 1
                raise UnavailableError("the cluster cannot be reached: broken pipe")


def test_a_lost_connection_is_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rollout goes on without the connection, so the wait does too."""
    monkeypatch.setattr("archshift.cluster.client.time.sleep", lambda _: None)
    cluster = Flaky(3, pods(1, 4), pods(2, 4), pods(3, 4), pods(4, 4))
    wait_for(cluster)
    assert (cluster.steps, len(cluster.watches)) == ([], 4)


def test_a_connection_that_does_not_come_back_is_said() -> None:
    """After the deadline the sentence is the network's."""
    with pytest.raises(ArchshiftError, match=r"^the cluster cannot be reached: broken pipe$"):
        wait_for(Flaky(1, pods(1, 4)), timeout=-1)
