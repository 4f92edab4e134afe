"""Tests on arm64 before a workload's first Graviton pod, and their outcomes in the stack's state."""

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

if TYPE_CHECKING:
    from archshift.settings.stack import Settings


def run_arm64_tests(cluster_survey: Survey, settings: "Settings", eks: LiveCluster | None) -> Survey:
    """Run the tests that a step waits for; returns the cluster as it is known afterwards.

    A preview runs none: it says which the update will run. A workload that fails is held on x86, and
    the others go on; so is one that could not be tested, for want of a Graviton node that is there.

    Args:
        found: The cluster.
        settings: The stack's settings.
        eks: The cluster that the kubeconfig has to reach.

    Raises:
        ArchshiftError: The cluster refuses a Job, or cannot be read.
    """
    tried: set[str] = set()
    while due := cluster_survey.tests.due(cluster_survey.plan):
        if pulumi.runtime.is_dry_run():
            pulumi.info(f"tested on arm64 before they move: {', '.join(sorted(due))}")
            return cluster_survey
        # Where an autoscaler brings nodes up, the test's own pod asks for the first.
        nodes = possible_nodes(cluster_survey.inventory.nodes, settings.groups)
        if any(
            node.architecture == ARM64 and node.name not in cluster_survey.plan.new_nodes for node in nodes
        ):
            with connect(settings.kube_context) as cluster:
                run_tests(
                    cluster,
                    due,
                    cluster_survey.tests.tested,
                    parallel=settings.arm64_tests.parallel,
                    say=pulumi.info,
                )
            # What is not asked for a Graviton pod still counts into the fleet, or the step would be
            # smaller than it was shown. In the place of what failed others go, and are tested first.
            tried |= due.keys()
        else:
            tried |= cluster_survey.tests.missing.keys()
        cluster_survey = survey(settings, eks=eks, hold_untested=tried)
    return cluster_survey


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64TestsArgs:
    """Arguments of ``Arm64Tests``.

    Attributes:
        tests: What is proven, and what is not.
    """

    tests: Arm64TestState


class Arm64Tests(pulumi.ComponentResource):
    """What was tested on arm64, by workload; reports read it."""

    TYPE: Final = "archshift:index:Arm64Tests"

    def __init__(self, name: str, args: Arm64TestsArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        self.register_outputs({"workloads": outcomes(args.tests)})


def outcomes(tests: Arm64TestState) -> Mapping[str, Any]:
    """Return the outcomes as plain values, by workload key; ``passed`` is null before the test."""
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
