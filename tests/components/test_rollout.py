"""The wait for a rollout ends with the rollout, not before, and not never."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from archshift.errors import ArchshiftError
from components import rollout
from tests.archshift.objects import FakeCluster, workload


class Rolling(FakeCluster):
    """A cluster in which a Deployment gets on by one step each time it is read."""

    def __init__(self, *steps: dict[str, int]) -> None:
        super().__init__({})
        self.steps = list(steps)
        self.paths: list[str] = []

    def get(self, path: str) -> dict[str, Any]:
        """Return the Deployment at its next step, and at the last one from then on."""
        self.paths.append(path)
        status = self.steps.pop(0) if len(self.steps) > 1 else self.steps[0]
        live = workload(name="cart", replicas=4)
        live["metadata"]["generation"] = 2
        live["status"] = {"observedGeneration": 2, **status}
        return live


def pods(updated: int, available: int, replicas: int = 4) -> dict[str, int]:
    """A Deployment's status."""
    return {"updatedReplicas": updated, "availableReplicas": available, "replicas": replicas}


def wait_for(cluster: FakeCluster, timeout: float = rollout.TIMEOUT_SECONDS) -> None:
    """Wait for the Deployment cart."""
    with ThreadPoolExecutor(max_workers=1) as readers:
        waiting = rollout.await_rollout(
            cluster, "Deployment", "shop", "cart", readers=readers, timeout=timeout
        )
        asyncio.run(waiting)


def test_it_waits_for_the_last_pod() -> None:
    """Neither an old status, nor the first new pods, nor a surplus of old ones is the end."""
    unseen = {**pods(4, 4), "observedGeneration": 1}
    cluster = Rolling(unseen, pods(1, 4, 5), pods(4, 3), pods(4, 4, 5), pods(4, 4))
    wait_for(cluster)
    assert cluster.paths == ["/apis/apps/v1/namespaces/shop/deployments/cart"] * 5


def test_a_rollout_that_does_not_end_is_said() -> None:
    """The sentence names the workload, how far it got and what to ask next."""
    with pytest.raises(ArchshiftError) as error:
        wait_for(Rolling(pods(1, 3)), timeout=-1)
    assert str(error.value) == (
        "shop/Deployment/cart: the rollout was not over after -1 s: 1 of 4 pods updated, 3 available; "
        "kubectl rollout status deployment cart --namespace shop says why, and the next pulumi up goes on"
    )
