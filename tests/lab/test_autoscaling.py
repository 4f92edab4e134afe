"""Real autoscalers change the number of pods, and the share holds: a few hours of bench/autoscaling.py."""

from __future__ import annotations

from pathlib import Path

from archshift.cluster.client import connect
from archshift.cluster.live_placement import BINDING_KIND, POLICY_KIND
from lab.control_plane import CONTEXT
from lab.day import Day, Load
from tests.lab.exact import specs
from tests.lab.lab_helpers import Cluster, Stack, autoscaler, deployment, node_groups

LOADS = [
    Load("small", 2, "", 0),
    Load("web", 4, "", 0),
    Load("api", 7, "", 1),
    Load("cart", 10, "", 0),
    Load("zoned", 6, "zones", 0),
    Load("apart", 6, "apart", 0),
]
HOURS = (2, 5, 12, 16)
"""The morning, a little less at noon, the evening, and half of it at midnight; after eight o'clock."""


def test_a_share_holds_while_autoscalers_add_and_take_pods(cluster: Cluster, tmp_path: Path) -> None:
    """At 0.8, each workload is within its bound at every hour; by the exact rule the fleet bends far more."""
    with connect(CONTEXT, cluster.lab.kubeconfig) as api:
        day = Day(api, 0.8, LOADS, ("rule", "exact"))
        try:
            with day.metrics.serve(api, tmp_path):
                # The exact rule at rest: by their own entries, successors of evicted pods may come back.
                assert day.prepare() == {"rule": [], "exact": []}
                for hour in HOURS:
                    day.sample(hour)
        finally:
            for kind in (BINDING_KIND, POLICY_KIND):
                cluster.lab.kubectl("delete", kind, "--all")
    rule, exact = day.figures["rule"], day.figures["exact"]
    assert rule.wrong == []
    assert rule.most < exact.most / 2
    assert max(day.pods) > 2 * sum(load.pods for load in LOADS)


def test_patches_keep_a_ratio_and_are_given_back(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """With the engine: autoscaled workloads keep the share when they double. Destroy leaves no field."""
    sizes = {"web": 10, "api": 5}
    stack.config({"node_groups": node_groups(2, 8), "workloads": {"namespaces": [namespace]}})
    cluster.apply([deployment(name, pods, namespace) for name, pods in sizes.items()])
    before = specs(cluster, namespace)
    cluster.apply([autoscaler("Deployment", name, namespace, 2, 3 * pods) for name, pods in sizes.items()])
    step = stack.config({"arm_ratio": "0.8"}).up()
    assert step.succeeded, step.output
    for factor in (1, 2):
        for name, pods in sizes.items():
            cluster.scale("deployment", name, namespace, factor * pods)
        cluster.wait_until_settled(namespace)
        counts = cluster.graviton_counts(namespace)
        for name, pods in sizes.items():
            off = counts[f"Deployment/{name}"] - 0.8 * factor * pods
            assert abs(off) <= max(1, 0.1 * factor * pods), (name, factor, off)
    for name, pods in sizes.items():
        cluster.scale("deployment", name, namespace, pods)
    cluster.wait_until_settled(namespace)
    gone = stack.destroy()
    assert gone.succeeded, gone.output
    assert specs(cluster, namespace) == before
