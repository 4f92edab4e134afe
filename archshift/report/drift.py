"""Whether a preview shows drift: a difference that an autoscaler alone did not cause. Pure."""

from collections.abc import Collection, Iterator
from typing import Final

from archshift.cluster.live_placement import POLICIES, POLICY_KIND
from archshift.common.text import joined
from archshift.report.preview import Change, PreviewReport

_COSTS: Final = "pulumi-python:dynamic/archshift:DeletionCosts"
_PATCH: Final = "pulumi-python:dynamic/archshift:WorkloadPatch"
_POLICY: Final = f"kubernetes:{POLICIES.api_version}:{POLICY_KIND}"


def drift_in(report: PreviewReport) -> list[str]:
    """Return what differs from the last update, a sentence each; empty without drift.

    Args:
        report: A preview that did not fail.
    """
    return [*_drift_in(report)]


def _drift_in(report: PreviewReport) -> Iterator[str]:
    plan = report.plan or {}
    # A plan of another version does not say what an autoscaler did.
    known = "drift" in plan
    drift = set(plan.get("drift", ()))
    # No autoscaler changes the policy of a namespace without workloads.
    spaces = {row["workload"].partition("/")[0] for row in plan.get("workloads", ())}
    if report.outcome != "fine":
        yield f"the preview is {report.outcome}: {report.reason}"
    for change in report.changes:
        if not known or not _scaled(change, drift, spaces):
            fields = f" ({', '.join(change.keys)})" if change.keys else ""
            yield f"{change.op} {change.type} {change.name}{fields}"
    for row in plan.get("workloads", ()):
        differs = row["wanted"] is not None and row["wanted"] != row["graviton"]
        if row["workload"] in drift or (differs and not known):
            drift.discard(row["workload"])
            counts = f"{row['wanted']} of {row['replicas']} pods wanted on Graviton, {row['graviton']} there"
            yield joined(
                f"{row['workload']}: {counts}" if differs else f"{row['workload']} differs", row["reason"]
            )
    for name in sorted(drift):
        yield f"namespace {name}: its policy is not as archshift made it"
    for trouble in plan.get("troubles", ()):
        if trouble["pending"] or trouble["stuck"]:
            yield f"{trouble['workload']}: pods are pending, or a rollout is stuck"


def _scaled(change: Change, drift: Collection[str], spaces: Collection[str]) -> bool:
    """Return whether an autoscaler alone caused a change of a resource.

    Args:
        change: The change.
        drift: The workloads and namespaces that differ for another reason.
        spaces: The namespaces with workloads.
    """
    if change.type == _COSTS:
        # Costs follow the pods, which come and go. The resource itself comes and goes with the autoscalers.
        return True
    if change.op != "update" or change.name in drift:
        return False
    return change.type == _PATCH or (change.type == _POLICY and change.name in spaces)
