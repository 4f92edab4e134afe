"""Tests on arm64 before a workload's first Graviton pod: what they run, and what they prove. Pure.

A test is a Job with the workload's own pod template, pinned to arm64. It runs a command from the settings,
or the workload itself for a few seconds (a start probe). The Job stays in the workload's namespace as the
proof. It counts only for the image digests that it tested.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from archshift.cluster.kinds import TESTED_KINDS
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.images.workload import WorkloadVerdict
from archshift.plan.model import Plan, Rules, with_holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64Test:
    """How to test a workload.

    Attributes:
        command: The command in the container. The image's shell runs a text; a list runs without a shell.
            Empty for a start probe.
        container: The container that the command runs in; empty for the first.
        start_seconds: How long the containers of a start probe must run, in seconds.
        timeout_seconds: A test that takes longer fails, in seconds.
    """

    command: tuple[str, ...] | str = ()
    container: str = ""
    start_seconds: int = 10
    timeout_seconds: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64TestRules:
    """Which workloads to test (``archshift:arm64_tests``).

    Attributes:
        all: Whether a start probe tests every workload that is missing in ``workloads``.
        defaults: The test of workloads that are missing in ``workloads``.
        workloads: Key to test; None for a workload without a test.
        parallel: The largest number of tests at the same time.
    """

    all: bool = False
    defaults: Arm64Test = field(default_factory=Arm64Test)
    workloads: Mapping[str, Arm64Test | None] = field(default_factory=dict)
    parallel: int = 4

    def test_of(self, key: str) -> Arm64Test | None:
        """Return a workload's test; None if it needs none."""
        if key in self.workloads:
            return self.workloads[key]
        return self.defaults if self.all and key.split("/")[1] in TESTED_KINDS else None

    def __bool__(self) -> bool:
        return self.all or any(self.workloads.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The result of a test.

    Attributes:
        workload: The workload's key.
        tested: The hash of what was tested, from ``what_is_tested``.
        passed: Whether it runs on arm64.
        machine: The output of ``uname -m`` if there is a shell, otherwise the node's architecture.
        message: The end of the output of a failed test; empty if the test passed.
        at: When it ended; None if that is unknown.
        job: The name of the Job.
    """

    workload: str
    tested: str
    passed: bool
    machine: str = ""
    message: str = ""
    at: datetime | None = None
    job: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64TestState:
    """The results of a cluster's tests, and the missing tests.

    Attributes:
        proofs: Key to the result for the images that the workload runs now.
        missing: Key to the test that has no result yet.
        tested: Key to the hash of what the test covers, for both.
    """

    proofs: Mapping[str, Proof] = field(default_factory=dict)
    missing: Mapping[str, Arm64Test] = field(default_factory=dict)
    tested: Mapping[str, str] = field(default_factory=dict)

    def rules(self, rules: Mapping[str, Rules]) -> dict[str, Rules]:
        """Return the configured rules, plus a hold for each workload whose test failed."""
        failed = {key: failure(proof) for key, proof in self.proofs.items() if not proof.passed}
        return with_holds(rules, failed)

    def strict_rules(
        self, rules: Mapping[str, Rules], only: Container[str] | None = None
    ) -> dict[str, Rules]:
        """Return the same rules, plus a hold for untested workloads: the guard treats unknown as x86 only.

        Args:
            rules: The configured rules.
            only: The untested workloads to hold; None for all.
        """
        missing = dict.fromkeys(
            (key for key in self.missing if only is None or key in only),
            "its test on arm64 has not run; the next pulumi up runs it where there is a Graviton node",
        )
        return with_holds(self.rules(rules), missing)

    def due(self, plan: Plan) -> dict[str, Arm64Test]:
        """Return the tests to run before a plan's step: of untested workloads that get Graviton pods."""
        return {
            row.key: self.missing[row.key] for row in plan.movable if row.wanted and row.key in self.missing
        }


def failure(proof: Proof) -> str:
    """Return why a failed test holds a workload, as the second half of a sentence."""
    where = f" on {proof.machine}" if proof.machine else ""
    last = proof.message.strip().splitlines()
    detail = f": {' / '.join(last[-3:])[:300]}" if last else ""
    namespace = proof.workload.split("/")[0]
    again = f"kubectl delete job {proof.job} --namespace {namespace} has it tested again"
    return f"its test on arm64 failed{where}{detail}; a new image, or {again}"


def judge_tests(
    rules: Arm64TestRules,
    inventory: Inventory,
    verdicts: Mapping[str, WorkloadVerdict],
    proofs: Iterable[Proof],
) -> Arm64TestState:
    """Return the results and the missing tests of the workloads that the settings test.

    Args:
        rules: Which workloads to test, and how.
        inventory: The cluster.
        verdicts: The evidence for images, with their digests. For an image without a digest its name counts.
        proofs: The results of the cluster's Jobs.

    Raises:
        ArchshiftError: The settings name a workload that is missing in the cluster.
    """
    for key in rules.workloads:
        if key not in inventory.workloads:
            raise ArchshiftError(
                f"archshift:arm64_tests.workloads: {key!r} is not among the workloads found",
                "remove it or correct the name",
            )
    tests = {key: rules.test_of(key) for key in inventory.workloads}
    wanted = {key: test for key, test in tests.items() if test}
    tested = {
        key: what_is_tested(test, images_of(inventory, verdicts.get(key), key))
        for key, test in wanted.items()
    }
    outcomes: dict[str, Proof] = {}
    for proof in proofs:
        key = proof.workload
        # If there are two results for the same images, the failure counts.
        if tested.get(key) == proof.tested and (key not in outcomes or outcomes[key].passed):
            outcomes[key] = proof
    missing = {key: test for key, test in wanted.items() if key not in outcomes}
    return Arm64TestState(proofs=outcomes, missing=missing, tested=tested)


def images_of(inventory: Inventory, verdict: WorkloadVerdict | None, key: str) -> tuple[str, ...]:
    """Return the digests of a workload's images; an image's name if its digest is unknown."""
    digests = {image.image: image.digest for image in verdict.images} if verdict else {}
    replaced = verdict.replaced if verdict else {}
    names = [
        container.use.image
        for container in inventory.workloads[key].containers
        if container.role != "ephemeral"
    ]
    return tuple(sorted({digests.get(replaced.get(name, name)) or name for name in names}))


def what_is_tested(test: Arm64Test, images: Sequence[str]) -> str:
    """Return a short hash of the images and of their test. A result counts only for the same hash."""
    content: list[Any] = [list(images), test.command, test.container]
    if not test.command:
        content.append(test.start_seconds)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
