"""Nothing breaks on the way: limits of rollouts hold, and what cannot be scheduled is said first."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.lab.exact import expect_exact
from tests.lab.lab_helpers import Cluster, Stack, deployment, disruption_budget, meanwhile, node_groups


@contextmanager
def sampled_availability(cluster: Cluster, namespace: str) -> Iterator[dict[str, int]]:
    """Yield a dict that ends up with the lowest number of available pods of each Deployment."""
    lowest: dict[str, int] = {}
    samples = 0

    def sample() -> None:
        nonlocal samples
        for item in cluster.all_of("deployments", namespace):
            name = item["metadata"]["name"]
            available = item["status"].get("availableReplicas", 0)
            lowest[name] = min(lowest.get(name, available), available)
        samples += 1

    with meanwhile(sample, 0.1):
        yield lowest
    assert samples > 10, "too few samples to say anything"


def test_no_workload_goes_below_its_own_limits(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """While a step rolls out, each Deployment keeps the pods that its strategy and its budget ask for."""
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.2"})
    careful = deployment("careful", 8, namespace)
    careful["spec"]["strategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 2},
    }
    loose = deployment("loose", 10, namespace)
    loose["spec"]["strategy"] = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxUnavailable": 3, "maxSurge": 0},
    }
    cluster.apply(
        [
            careful,
            loose,
            deployment("usual", 4, namespace),
            disruption_budget("careful", namespace, minAvailable=8),
        ]
    )
    assert stack.up().succeeded
    cluster.wait_until_settled(namespace)
    stack.config({"arm_ratio": "0.8"})
    with sampled_availability(cluster, namespace) as lowest:
        step = stack.up()
    assert step.succeeded, step.output
    expect_exact(cluster, stack, namespace, 0.8)
    # The default limits: a quarter of 4 may be missing.
    assert lowest["careful"] == 8
    assert lowest["loose"] >= 7
    assert lowest["usual"] >= 3


def test_an_update_ends_when_the_last_pod_is_available(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """Rollouts that take a while, pods being available only some seconds after they are ready, are over when
    `up` returns: many at once, in several rounds each.
    """
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.2"})
    fleet = [deployment(f"slow-{index}", 3 + index % 3, namespace) for index in range(24)]
    for item in fleet:
        item["spec"]["minReadySeconds"] = 3
        item["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {"cpu": "20m"}
    cluster.apply(fleet)
    for arm_ratio in ("0.2", "0.8"):
        step = stack.config({"arm_ratio": arm_ratio}).up()
        assert step.succeeded, step.output
        moving = [
            item["metadata"]["name"]
            for item in cluster.all_of("deployments", namespace)
            if (item["status"].get("updatedReplicas"), item["status"].get("availableReplicas"))
            != (item["spec"]["replicas"], item["spec"]["replicas"])
        ]
        assert moving == []
        expect_exact(cluster, stack, namespace, float(arm_ratio))


def test_a_step_that_does_not_fit_is_refused_before_anything_moves(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """The preview and the up name the missing vCPU and GiB and the way out, and change nothing; with
    the nodes added in the config, the same step goes through.
    """
    stack.config(
        {
            "node_groups": node_groups(x86=4, graviton=1),
            "workloads": {"namespaces": [namespace]},
            "arm_ratio": "0.2",
        }
    )
    heavy = deployment("heavy", 10, namespace)
    heavy["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {
        "cpu": "1",
        "memory": "4Gi",
    }
    cluster.apply(heavy)
    assert stack.up().succeeded
    before = cluster.get("deployment", "heavy", namespace)["spec"]
    stack.config({"arm_ratio": "0.8"})
    for run in (stack.preview(), stack.up()):
        assert run.exit_code != 0
        assert (
            "arm_ratio 0.8 cannot be scheduled: Graviton lacks 4.1 vCPU, 17.0 GiB: 8 pods ask for 8.0 vCPU "
            "and 32.0 GiB of the 3.9 vCPU and 15.0 GiB of 1 node; raise the size in "
            "archshift:node_groups or choose another ratio"
        ) in run.output
        assert "Traceback" not in run.output
        assert run.changes == {}
    assert cluster.get("deployment", "heavy", namespace)["spec"] == before
    more = stack.config({"node_groups": node_groups(x86=4, graviton=3)}).up()
    assert more.succeeded, more.output
    expect_exact(cluster, stack, namespace, 0.8)


def test_an_autoscaled_workload_near_its_share_is_shown_and_not_restarted(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """An autoscaler doubles the pods: the plan's interval holds, status shows the share, and the next up
    restarts no pod. A change of arm_ratio still does.
    """
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.8"})
    scaler = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web", "namespace": namespace},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "minReplicas": 10,
            "maxReplicas": 20,
        },
    }
    cluster.apply([deployment("web", 10, namespace), scaler])
    assert stack.up().succeeded
    plan = stack.archshift("plan", "--all")
    share = "its autoscaler (10 to 20 pods) may bring its share on Graviton to between 58% and 100%"
    assert share in " ".join(plan.stdout.split())
    cluster.scale("deployment", "web", namespace, 20)
    cluster.wait_until_settled(namespace)
    there = cluster.graviton_counts(namespace)["Deployment/web"]
    assert 14 <= there <= 18
    drifted = stack.archshift("status")
    assert drifted.returncode == 0
    assert ("near its share" in drifted.stdout) == (there != 16)
    assert f"fleet at 0.8: {there} of 20 movable pods on Graviton" in drifted.stdout
    before = cluster.pod_nodes(namespace)
    step = stack.up()
    assert step.succeeded, step.output
    assert cluster.pod_nodes(namespace) == before
    other = stack.config({"arm_ratio": "0.5"}).up()
    assert other.succeeded, other.output
    expect_exact(cluster, stack, namespace, 0.5)


def test_pods_that_came_back_elsewhere_are_scheduled_anew(
    cluster: Cluster, stack: Stack, namespace: str
) -> None:
    """Pods that lost nodes drove to the other side are brought back by the next up without any edit."""
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.8"})
    cluster.apply(deployment("web", 5, namespace))
    assert stack.up().succeeded
    cluster.lab.kubectl("cordon", *(f"graviton-{index}" for index in range(6)))
    pods = cluster.all_of("pods", namespace)
    moved = [pod for pod in pods if pod["spec"]["nodeName"].startswith("graviton")][:2]
    for pod in moved:
        cluster.lab.kubectl("delete", "pod", pod["metadata"]["name"], f"--namespace={namespace}")
    cluster.wait_until_settled(namespace)
    cluster.lab.kubectl("uncordon", *(f"graviton-{index}" for index in range(6)))
    assert cluster.graviton_counts(namespace) == {"Deployment/web": 2}
    step = stack.up()
    assert step.succeeded, step.output
    expect_exact(cluster, stack, namespace, 0.8)
    again = stack.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output


@pytest.mark.timeout(1200)
def test_two_thousand_pods(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """A fleet of 2,000 pods in 100 workloads is exact between the steps, to the pod."""
    zones = ["eu-west-1a", "eu-west-1b", "eu-west-1c"]
    groups = {
        "x86": {"instance_type": "m6i.4xlarge", "size": 9, "zones": zones},
        "graviton": {"instance_type": "m7g.4xlarge", "size": 9, "zones": zones},
    }
    stack.config({"node_groups": groups, "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.37"})
    fleet = [deployment(f"web-{index}", 2 + index % 37, namespace) for index in range(100)]
    left = 2000 - sum(item["spec"]["replicas"] for item in fleet)
    fleet[0]["spec"]["replicas"] += left
    for item in fleet:
        item["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"] = {
            "cpu": "20m",
            "memory": "32Mi",
        }
    cluster.apply(fleet)
    step = stack.up(timeout=900)
    assert step.succeeded, step.output
    wanted = expect_exact(cluster, stack, namespace, 0.37)
    assert (len(wanted), sum(wanted.values())) == (100, 740)
