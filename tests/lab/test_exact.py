"""The main promise: every workload and the fleet are exactly where the ratio says, up and down."""

import pytest

from tests.lab.exact import RAMP, apart, expect_exact, fleet, generations_of, own_rules, specs, zone_spread
from tests.lab.lab_helpers import (
    Cluster,
    Stack,
    deployment,
    node_groups,
)


@pytest.mark.timeout(900)
def test_a_ramp_up_and_down_is_exact_at_every_step_and_leaves_no_trace(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """At 0.2, 0.5, 0.8, 1.0 and back at 0.5 every workload and the fleet are exact; no count falls on the
    way up; unchanged shares are not restarted; the applications' own rules stay; a second up, a preview
    and a refresh find nothing; and destroy leaves every spec as it was.
    """
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}})
    cluster.apply(fleet(namespace))
    before, rules = specs(cluster, namespace), own_rules(cluster, namespace)
    wanted: dict[str, int] = {}
    ratio = 0.0
    for arm_ratio in RAMP:
        generations = generations_of(cluster, namespace)
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        # The rollouts were awaited: nothing is left to wait for when `up` returns.
        now = expect_exact(cluster, stack, namespace, arm_ratio)
        if arm_ratio > ratio:
            assert all(now[key] >= count for key, count in wanted.items())
        for key, count in now.items():
            if wanted.get(key) == count:
                name = key.split("/", 1)[1]
                assert generations_of(cluster, namespace)[name] == generations[name], f"{key} was restarted"
        assert own_rules(cluster, namespace) == rules
        preview = stack.preview()
        assert (preview.exit_code, preview.changes) == (0, {}), preview.output
        wanted, ratio = now, arm_ratio
    again = stack.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    refresh = stack.refresh()
    assert (refresh.exit_code, refresh.changes) == (0, {}), refresh.output
    gone = stack.destroy()
    assert gone.succeeded, gone.output
    assert specs(cluster, namespace) == before


def test_between_the_steps_and_at_both_ends(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """0.37, 0.0 and 1.0 are as exact as the steps, also with a fleet of one pod beside nothing else."""
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}})
    cluster.apply([deployment("alone", 1, namespace)])
    for arm_ratio in (0.37, 0.0, 1.0):
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)
    assert cluster.graviton_counts(namespace) == {"Deployment/alone": 1}
    cluster.apply([deployment(f"web-{replicas}", replicas, namespace) for replicas in (2, 5, 9)])
    for arm_ratio in (0.37, 0.0):
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)
    assert set(cluster.graviton_counts(namespace).values()) == {0}


def test_unevenly_loaded_nodes_do_not_bend_the_ratio(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """With Graviton nodes three quarters full, x86 nodes empty and one cordoned, shares are exact."""
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}})
    cluster.apply([deployment("web", 1, namespace)])
    assert stack.config({"arm_ratio": "0.0"}).up().succeeded
    ballast = deployment(
        "ballast",
        12,
        cluster.namespace(f"{namespace}-ballast"),
        nodeSelector={"kubernetes.io/arch": "arm64"},
    )
    ballast["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {
        "cpu": "1450m",
        "memory": "5Gi",
    }
    cluster.apply(ballast)
    cluster.wait_until_settled(f"{namespace}-ballast")
    cluster.lab.kubectl("cordon", "x86-0")
    cluster.apply([deployment(f"web-{replicas}", replicas, namespace) for replicas in (3, 4, 6, 9, 10)])
    for arm_ratio in (0.2, 0.5, 0.8):
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)


def test_soft_rules_of_an_application_do_not_bend_the_ratio(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """Soft anti-affinity and soft spreads by node, replaced one pod at a time while the old ones still count,
    lose against the side that most pods belong on.
    """
    by_node = {**zone_spread("spread")[0], "topologyKey": "kubernetes.io/hostname"}
    soft = [{**by_node, "whenUnsatisfiable": "ScheduleAnyway"}]
    fleet = [
        deployment("apart", 9, namespace, affinity=apart("apart")),
        deployment("spread", 9, namespace, topologySpreadConstraints=soft),
    ]
    for item in fleet:
        item["spec"]["strategy"] = {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 1},
        }
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}})
    cluster.apply(fleet)
    for arm_ratio in (0.2, 0.8, 0.2):
        step = stack.config({"arm_ratio": str(arm_ratio)}).up()
        assert step.succeeded, step.output
        expect_exact(cluster, stack, namespace, arm_ratio)
    preview = stack.preview()
    assert (preview.exit_code, preview.changes) == (0, {}), preview.output
