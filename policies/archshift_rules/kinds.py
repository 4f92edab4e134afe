"""The kinds of workloads that the rules know: the pack's own table, so that it can be published alone."""

import re
from collections.abc import Mapping
from typing import Final

from archshift_rules.stack import Resource

PATCHED: Final = ("Deployment", "StatefulSet", "DaemonSet", "CronJob")
"""What archshift patches."""

# Others make pods too, and a patch of one of archshift's names by hand may be of any.
_ALL: Final = "|".join((*PATCHED, "ReplicaSet", "ReplicationController", "Job", "Pod"))

WITH_PODS: Final = re.compile(rf"kubernetes:[^:]+:({_ALL})")
"""Type tokens of what has a pod template, or is a pod."""

WORKLOAD_PATCH: Final = "pulumi-python:dynamic/archshift:WorkloadPatch"
"""Type token of archshift's own patches. Their input ``kind`` says what they patch."""

PATCHES: Final = re.compile(rf"{WORKLOAD_PATCH}|kubernetes:[^:]+:({_ALL})Patch")
"""Type tokens of patches of such an object."""

PATCHES_BY_ARCHSHIFT: Final = re.compile(rf"{WORKLOAD_PATCH}|kubernetes:[^:]+:({'|'.join(PATCHED)})Patch")
"""Type tokens of the patches of archshift; archshift 0.1.0 used the Kubernetes provider's."""

PLACEMENT_POLICY: Final = "archshift:index:PlacementPolicy"
"""Type token of the component that states the entries by which the API server places pods."""

LEFT_ALONE: Final = "left alone"
"""The entry of a workload that archshift does not place."""

_POD_SPECS: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}


def kind_of(resource: Resource) -> str:
    """Return the kind of a workload, or of the workload that a patch concerns.

    Raises:
        UnknownError: This preview does not know it.
    """
    if resource.type == WORKLOAD_PATCH:
        return str(resource.read("kind"))
    return resource.type.rpartition(":")[2].removesuffix("Patch")


def pod_spec(kind: str) -> tuple[str, ...]:
    """Return where a kind has the spec of its pods."""
    return _POD_SPECS.get(kind, ("spec", "template", "spec"))
