"""Karpenter itself brings up the nodes: the same promise, starting without a single node."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab.control_plane import Lab
from tests.lab.lab_helpers import Cluster, Stack
from tests.lab.test_exact import RAMP, expect_exact, fleet, own_rules, specs

TYPES = ["c6i.xlarge", "m6i.xlarge", "m6i.2xlarge"]


@pytest.fixture(scope="module")
def karpenter_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A running lab with Karpenter, in a temporary folder."""
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", returncode=143))
    lab = Lab(tmp_path_factory.mktemp("karpenter"), karpenter=True)
    lab.start(print)
    yield lab
    lab.stop()


@pytest.fixture
def cluster(karpenter_lab: Lab) -> Iterator[Cluster]:
    """Its cluster, without nodes, pools and workloads; emptied again afterwards."""
    cluster = Cluster(karpenter_lab)
    yield cluster
    cluster.clear()
    karpenter_lab.kubectl("delete", "nodepools,nodeclaims", "--all", "--timeout=60s")
    karpenter_lab.kubectl("delete", "nodes", "--all", "--ignore-not-found", "--timeout=60s")


def pools(**options: Any) -> dict[str, Any]:
    """The value of `archshift:node_groups` for a pool of each kind."""
    limits = {"cpu": 100, "memory": "400Gi"}
    return {"x86": {"instance_types": TYPES, "limits": limits, **options}, "graviton": {"twin_of": "x86"}}


def configured(stack: Stack, namespace: str, **values: Any) -> Stack:
    """The stack with its pools, for workloads of one namespace."""
    return stack.config(
        {
            "provisioner": "karpenter",
            "node_groups": pools(),
            "workloads": {"namespaces": [namespace]},
            **values,
        }
    )


def nodes(cluster: Cluster) -> dict[str, int]:
    """How many nodes there are of each architecture."""
    sides = [node["metadata"]["labels"]["kubernetes.io/arch"] for node in cluster.all_of("nodes")]
    return {side: sides.count(side) for side in sorted(set(sides))}


@pytest.mark.timeout(900)
def test_a_ramp_from_no_node_at_all_is_exact_at_every_step_and_leaves_no_trace(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """From zero nodes, at 0.2, 0.5, 0.8, 1.0 and back at 0.5."""
    configured(stack, namespace)
    cluster.apply(fleet(namespace))
    before, rules = specs(cluster, namespace), own_rules(cluster, namespace)
    for arm_ratio in RAMP:
        started = time.monotonic()
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        print(step.output[-3000:])
        print("UP", arm_ratio, time.monotonic() - started, nodes(cluster))
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)
        assert own_rules(cluster, namespace) == rules
        preview = stack.preview()
        assert (preview.exit_code, preview.changes) == (0, {}), preview.output
    again = stack.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    refresh = stack.refresh()
    assert (refresh.exit_code, refresh.changes) == (0, {}), refresh.output
    gone = stack.destroy()
    assert gone.succeeded, gone.output
    assert specs(cluster, namespace) == before
