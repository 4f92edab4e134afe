"""How far the shares of autoscaled workloads have bent since the last update or rebalance, and why. Pure.

Nothing of archshift runs in the cluster, so only what is there now tells what happened: the times of pods and
of their deletion costs, the number of pods of an entry, and the status of the autoscaler.
"""

from collections.abc import Mapping, Sequence

from archshift.cluster.entries import Entry
from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pods import Pod
from archshift.common.text import counted
from archshift.plan.model import Bend, PlannedWorkload


def bends_of(
    rows: Sequence[PlannedWorkload], inventory: Inventory, live_entries: Mapping[str, str]
) -> tuple[Bend, ...]:
    """Return the share of each autoscaled workload that has pods and a wanted share.

    Args:
        rows: The workloads.
        inventory: The cluster.
        live_entries: Workload key to the entry that places its pods; empty with ``placement: patches``.
    """
    found = []
    for row in rows:
        if not row.autoscaled or row.wanted is None or not row.replicas:
            continue
        pods = inventory.scaled_pods.get(row.key, ())
        since = max((pod.cost_at for pod in pods), default="")
        entry = Entry.parse(live_entries.get(row.key, ""))
        scaled, others = _causes(row, inventory.workloads[row.key], pods, since, entry)
        causes = () if row.exact else (*scaled, *others) or ("not known",)
        found.append(
            Bend(
                workload=row.key,
                wanted=row.wanted / row.replicas,
                share=row.graviton / row.replicas,
                since=since,
                causes=causes,
                scaled=bool(causes and scaled and not others),
            )
        )
    return tuple(found)


def _causes(
    row: PlannedWorkload, workload: Workload, pods: Sequence[Pod], since: str, entry: Entry | None
) -> tuple[list[str], list[str]]:
    """Return what its autoscaler did, and what else happened; both empty if nobody knows."""
    if not since:
        return [], ["not known: no pod has a deletion cost that tells when archshift last ordered its pods"]
    new = [pod for pod in pods if pod.created > since]
    old = {pod.maker for pod in pods if pod.created <= since}
    if any(pod.maker not in old for pod in new):
        return [], [f"its own rollout since {since}"]
    # The entry of a pin says nothing about the number of pods.
    before = entry.replicas if entry and entry.side is None else None
    scaled, others = [], []
    if before is not None and before != row.replicas:
        way = "up" if row.replicas > before else "down"
        scaled.append(f"scaled {way} from {before} to {counted(row.replicas, 'pod')}")
    scaled_at = workload.autoscaled.scaled_at if workload.autoscaled else ""
    if before is None and scaled_at > since:
        scaled.append(f"its autoscaler changed its replicas, last at {scaled_at}")
    elif before is None and new and not scaled_at:
        others.append(f"not known: {counted(len(new), 'pod')} newer than {since}")
    replaced = len(new) - max(0, row.replicas - (before or row.replicas))
    if replaced > 0 and (before is not None or (scaled_at and scaled_at <= since)):
        others.append(
            f"{counted(replaced, 'pod')} replaced since {since}, by a lost node, an eviction or a restart"
        )
    return scaled, others
