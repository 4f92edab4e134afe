"""Killed in the middle: the next up converges and nothing is lost."""

import signal
import subprocess
import time

from lab.stack import kill_with_children
from tests.lab.exact import expect_exact, generations_of, specs
from tests.lab.lab_helpers import Cluster, Stack, deployment, node_groups

SIZES = (2, 3, 4, 5, 6, 7, 8, 9)


def begin_a_step(cluster: Cluster, stack: Stack, namespace: str) -> "subprocess.Popen[str]":
    """Bring a fleet to 0.2, then start the step to 0.8 and return once some workload has been patched."""
    stack.config({"node_groups": node_groups(), "workloads": {"namespaces": [namespace]}, "arm_ratio": "0.2"})
    cluster.apply([deployment(f"web-{replicas}", replicas, namespace) for replicas in SIZES])
    first = stack.up()
    assert first.succeeded, first.output
    before = generations_of(cluster, namespace)
    step = stack.config({"arm_ratio": "0.8"}).begin_up()
    deadline = time.monotonic() + 120
    while generations_of(cluster, namespace) == before:
        assert time.monotonic() < deadline, "no workload was patched"
        assert step.poll() is None, "the update ended before it was interrupted"
        time.sleep(0.05)
    return step


def expect_convergence(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """Assert that the next up ends exact, the one after changes nothing, and destroy leaves no trace."""
    step = stack.up()
    assert step.succeeded, step.output
    expect_exact(cluster, stack, namespace, 0.8)
    assert cluster.pod_counts(namespace) == {f"Deployment/web-{replicas}": replicas for replicas in SIZES}
    again = stack.up()
    assert (again.exit_code, again.changes) == (0, {}), again.output
    gone = stack.destroy()
    assert gone.succeeded, gone.output
    for spec, annotations in specs(cluster, namespace).values():
        assert "affinity" not in spec["template"]["spec"]
        assert "topologySpreadConstraints" not in spec["template"]["spec"]
        assert not any("archshift" in key for key in annotations)
        assert "annotations" not in spec["template"]["metadata"]


def test_the_engine_killed_in_the_middle(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """The engine and everything it started die at once, as when a build machine goes; after
    `pulumi cancel` the next up converges.
    """
    step = begin_a_step(cluster, stack, namespace)
    kill_with_children(step.pid)
    step.communicate(timeout=60)
    assert step.returncode == -signal.SIGKILL
    stack.cancel()
    expect_convergence(cluster, stack, namespace)


def test_the_api_server_killed_in_the_middle(cluster: Cluster, stack: Stack, namespace: str) -> None:
    """The API server dies during the rollouts and comes back; whatever that up says, the next converges."""
    step = begin_a_step(cluster, stack, namespace)
    cluster.lab.kill("kube-apiserver")
    time.sleep(1)
    cluster.lab.start()
    step.communicate(timeout=600)
    expect_convergence(cluster, stack, namespace)
