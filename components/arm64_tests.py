"""Tests on arm64 before a workload's first Graviton pod, and their results in the stack's state."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pulumi

from archshift.actions.arm64_test_run import run_tests
from archshift.cluster.client import connect
from archshift.common.architectures import ARM64
from archshift.nodes.after_update import possible_nodes
from archshift.nodes.eks import LiveCluster
from archshift.plan.arm64_tests import Arm64TestState
from archshift.survey import Survey, survey
from components import engine_text

if TYPE_CHECKING:
    from archshift.settings.stack import Settings


def run_arm64_tests(cluster_survey: Survey, settings: "Settings", eks: LiveCluster | None) -> Survey:
    """Run the tests that a step needs; returns the survey after them.

    A preview runs no test: it names the tests that the update will run. A workload stays on x86 if its
    test fails, or if no Graviton node can run the test. The other workloads go on.

    Args:
        cluster_survey: The survey before the tests.
        settings: The stack's settings.
        eks: The cluster that the kubeconfig must reach.

    Raises:
        ArchshiftError: The cluster refuses a Job, or cannot be read.
    """
    tried: set[str] = set()
    while due := cluster_survey.tests.due(cluster_survey.plan):
        if pulumi.runtime.is_dry_run():
            engine_text.info(
                f"the update tests these workloads on arm64 before they move: {', '.join(sorted(due))}"
            )
            return cluster_survey
        # Where an autoscaler creates nodes, the test's own pod asks for the first one.
        nodes = possible_nodes(cluster_survey.inventory.nodes, settings.groups, settings.stack_label)
        if any(
            node.architecture == ARM64 and node.name not in cluster_survey.plan.new_nodes for node in nodes
        ):
            with connect(settings.kube_context) as cluster:
                run_tests(
                    cluster,
                    due,
                    cluster_survey.tests.tested,
                    parallel=settings.arm64_tests.parallel,
                    say=engine_text.info,
                )
            # Workloads that get no Graviton pod still count in the fleet, or the step would be smaller
            # than the preview said. Others move in place of failed workloads, after tests of their own.
            tried |= due.keys()
        else:
            tried |= cluster_survey.tests.missing.keys()
        cluster_survey = survey(settings, eks=eks, hold_untested=tried, try_patches=True)
    return cluster_survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64TestsArgs:
    """Arguments of ``Arm64Tests``."""

    tests: Arm64TestState


class Arm64Tests(pulumi.ComponentResource):
    """The results of the tests on arm64, by workload; reports read them."""

    TYPE: Final = "archshift:index:Arm64Tests"

    def __init__(self, name: str, args: Arm64TestsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        self.register_outputs(engine_text.outputs({"workloads": outcomes(args.tests)}))


def outcomes(tests: Arm64TestState) -> Mapping[str, Any]:
    """Return the results as plain values, by workload key; ``passed`` is null before the test."""
    tested: dict[str, Any] = {key: {"passed": None, "tested": tests.tested[key]} for key in tests.missing}
    for key, proof in tests.proofs.items():
        tested[key] = {
            "passed": proof.passed,
            "tested": proof.tested,
            "machine": proof.machine,
            "message": proof.message,
            "at": proof.at.isoformat(timespec="seconds") if proof.at else "",
        }
    return dict(sorted(tested.items()))
