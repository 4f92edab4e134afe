"""Which workloads stay on x86 because their first pod on Graviton did not run. Pure."""

from collections.abc import Mapping

from archshift.cluster.model import FailedCanary, Inventory
from archshift.images.workload import WorkloadVerdict
from archshift.plan import reasons


def failed_on_graviton(
    canaries: Mapping[str, FailedCanary], inventory: Inventory, verdicts: Mapping[str, WorkloadVerdict]
) -> dict[str, str]:
    """Return key to the reason of each workload whose present images are still the failed ones.

    Args:
        canaries: Key to the evidence.
        inventory: The cluster.
        verdicts: Key to the verdict on its images, with the digests of the registry.
    """
    return {
        key: reasons.failed_on_graviton(canary)
        for key, canary in sorted(canaries.items())
        if key in inventory.workloads and _still_runs(canary, inventory, verdicts.get(key))
    }


def _still_runs(canary: FailedCanary, inventory: Inventory, verdict: WorkloadVerdict | None) -> bool:
    key = canary.workload
    containers = inventory.containers.get(key) or inventory.workloads[key].containers
    same = [container for container in containers if container.use.image == canary.image]
    if not same:
        return False
    failed = {canary.digest, canary.running} - {""}
    now = {image.digest for image in verdict.images if image.image == canary.image} if verdict else set()
    # Without a registry, what nodes report counts.
    now = now - {""} or {digest for container in same for digest in container.running}
    return not (failed and now) or not failed.isdisjoint(now)
