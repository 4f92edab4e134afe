"""Tests on arm64 before a workload's first Graviton pod: what is run, and what it proves.

Pure. A test is a Job of the workload's own pod template, pinned to arm64, which runs either a command
that the config names or the workload itself for a few seconds (a start probe). The Job stays in the
workload's namespace: it is the proof, and it counts for the image digests that it was made for.
"""

import hashlib
import json
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from archshift.cluster.kinds import TESTED_KINDS
from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.images.workload import WorkloadVerdict
from archshift.plan.model import Plan, Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64Test:
    """How one workload is tested.

    Attributes:
        command: What is run in the container; text is for a shell of the image's, a list is run as it is.
            Empty for a start probe.
        container: The container that the command runs in; empty for the first.
        start_seconds: How long a start probe's containers have to stay up.
        timeout_seconds: When a test that has not ended has failed.
    """

    command: tuple[str, ...] | str = ()
    container: str = ""
    start_seconds: int = 10
    timeout_seconds: int = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm64TestRules:
    """Which workloads are tested (``archshift:arm64_tests``).

    Attributes:
        all: Every workload that ``workloads`` does not name is tested by a start probe.
        defaults: Seconds for tests that give none.
        workloads: Key to test; None for one that is not tested.
        parallel: Tests that run at once.
    """

    all: bool = False
    defaults: Arm64Test = field(default_factory=Arm64Test)
    workloads: Mapping[str, Arm64Test | None] = field(default_factory=dict)
    parallel: int = 4

    def test_of(self, key: str) -> Arm64Test | None:
        """Return how a workload is tested; None if it is not."""
        if key in self.workloads:
            return self.workloads[key]
        return self.defaults if self.all and key.split("/")[1] in TESTED_KINDS else None

    def __bool__(self) -> bool:
        return self.all or any(self.workloads.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """The outcome of one test.

    Attributes:
        workload: The workload's key.
        tested: What was tested, as ``what_is_tested`` says it.
        passed: Whether it runs on arm64.
        machine: What it ran on: ``uname -m`` where a shell said it, else the architecture of its node.
        message: The last words of what failed; empty for a pass.
        at: When it ended; None where nobody knows.
        job: The name of the Job that is the proof.
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
    """What is proven of a cluster's workloads, and what is not.

    Attributes:
        proofs: Key to the proof for what the workload runs now.
        missing: Key to the test that it has yet to pass or fail.
        tested: Key to what is tested, for both.
    """

    proofs: Mapping[str, Proof] = field(default_factory=dict)
    missing: Mapping[str, Arm64Test] = field(default_factory=dict)
    tested: Mapping[str, str] = field(default_factory=dict)

    def rules(self, rules: Mapping[str, Rules]) -> dict[str, Rules]:
        """Return the config's rules, and a hold for each workload whose test failed."""
        failed = {key: failure(proof) for key, proof in self.proofs.items() if not proof.passed}
        return _held(rules, failed)

    def strict_rules(
        self, rules: Mapping[str, Rules], only: Container[str] | None = None
    ) -> dict[str, Rules]:
        """Return the same with what is not tested yet held too: unknown is no yes for the guard.

        Args:
            rules: The config's.
            only: Of what is not tested hold these alone; None for all of it.
        """
        missing = dict.fromkeys(
            (key for key in self.missing if only is None or key in only),
            "its test on arm64 has not run; the next pulumi up runs it where there is a Graviton node",
        )
        return _held(self.rules(rules), missing)

    def due(self, plan: Plan) -> dict[str, Arm64Test]:
        """Return the tests to run before a plan's step: of what gets Graviton pods and is not proven."""
        return {
            row.key: self.missing[row.key] for row in plan.movable if row.wanted and row.key in self.missing
        }


def failure(proof: Proof) -> str:
    """Return why a workload is held, in a sentence's second half."""
    where = f" on {proof.machine}" if proof.machine else ""
    last = proof.message.strip().splitlines()
    said = f": {' / '.join(last[-3:])[:300]}" if last else ""
    namespace = proof.workload.split("/")[0]
    again = f"kubectl delete job {proof.job} --namespace {namespace} has it tested again"
    return f"its test on arm64 failed{where}{said}; a new image, or {again}"


def _held(rules: Mapping[str, Rules], reasons: Mapping[str, str]) -> dict[str, Rules]:
    held = {
        key: replace(rules.get(key, Rules()), hold=True, reason=reason)
        for key, reason in reasons.items()
        if not (key in rules and rules[key].hold)
    }
    return {**rules, **held}


def judge_tests(
    rules: Arm64TestRules,
    inventory: Inventory,
    verdicts: Mapping[str, WorkloadVerdict],
    proofs: Iterable[Proof],
) -> Arm64TestState:
    """Return what is proven of the workloads that the config has tested.

    Args:
        rules: Which, and how.
        inventory: The cluster.
        verdicts: The evidence for images, with their digests; without, the images' names count.
        proofs: What the cluster's Jobs say.

    Raises:
        ArchshiftError: The config names a workload that is not there.
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
    found: dict[str, Proof] = {}
    for proof in proofs:
        key = proof.workload
        # Of two for the same, the one that failed counts.
        if tested.get(key) == proof.tested and (key not in found or found[key].passed):
            found[key] = proof
    missing = {key: test for key, test in wanted.items() if key not in found}
    return Arm64TestState(proofs=found, missing=missing, tested=tested)


def images_of(inventory: Inventory, verdict: WorkloadVerdict | None, key: str) -> tuple[str, ...]:
    """Return what a workload runs: digests where they are known, else the images' names."""
    digests = {image.image: image.digest for image in verdict.images} if verdict else {}
    names = [one.use.image for one in inventory.workloads[key].containers if one.role != "ephemeral"]
    return tuple(sorted({digests.get(name) or name for name in names}))


def what_is_tested(test: Arm64Test, images: Sequence[str]) -> str:
    """Return a short hash of the images and of how they are tested: a proof counts for the same alone."""
    content: list[Any] = [list(images), test.command, test.container]
    if not test.command:
        content.append(test.start_seconds)
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
