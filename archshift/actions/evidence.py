"""Keeps the evidence that a workload does not run on Graviton, so that the next plan holds it on x86."""

from collections.abc import Iterable
from datetime import UTC, datetime
from threading import Lock

from archshift.cluster.canaries import write_canary
from archshift.cluster.client import Cluster
from archshift.cluster.model import FailedCanary
from archshift.cluster.pods import Pod
from archshift.common.errors import ArchshiftError, UnavailableError
from archshift.images.workload import WorkloadVerdict
from archshift.plan.model import PlannedWorkload


class Evidence:
    """The evidence of one step.

    Attributes:
        problems: Workload key to why its evidence could not be kept.
    """

    def __init__(self, cluster: Cluster, stack_label: str, rows: Iterable[PlannedWorkload]) -> None:
        """Keep evidence for a stack.

        Args:
            cluster: The connection.
            stack_label: The stack.
            rows: The rows of the plan. What moves by this plan is not held, so older evidence is lifted.
        """
        self.problems: dict[str, str] = {}
        self._lock = Lock()
        self._cluster, self._stack_label = cluster, stack_label
        self._lifted = {row.key for row in rows if row.action == "move"}

    def keep(self, row: PlannedWorkload, pod: Pod) -> None:
        """Keep why a pod does not run on Graviton. A refusal changes nothing else of the step.

        Args:
            row: Its workload.
            pod: The pod.

        Raises:
            UnavailableError: The API server does not answer.
        """
        if not (broken := pod.broken):
            return
        canary = FailedCanary(
            workload=row.key,
            container=broken.name,
            image=broken.image,
            words=broken.words,
            digest=_known_digest(row.verdict, broken.image),
            running=broken.digest,
            at=datetime.now(UTC),
        )
        # One after another: a workload that fails at the same time must not lift the evidence of this one.
        with self._lock:
            self._lifted.discard(row.key)
            lifted = {key for key in self._lifted if key.startswith(f"{row.namespace}/")}
            try:
                write_canary(self._cluster, self._stack_label, canary, lifted)
            except UnavailableError:
                raise
            except ArchshiftError as error:
                self.problems[row.key] = str(error)


def _known_digest(verdict: WorkloadVerdict | None, image: str) -> str:
    images = verdict.images if verdict else ()
    return next((known.digest for known in images if known.image == image), "")
