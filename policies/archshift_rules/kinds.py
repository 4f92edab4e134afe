"""The kinds of workloads that the rules know: the pack's own table, so that it can be published alone."""

import re
from collections.abc import Mapping
from typing import Final

PATCHED: Final = ("Deployment", "StatefulSet", "DaemonSet", "CronJob")
"""What archshift patches."""

# Others make pods too, and a patch of one of archshift's names by hand may be of any.
_ALL: Final = "|".join((*PATCHED, "ReplicaSet", "ReplicationController", "Job", "Pod"))

WITH_PODS: Final = re.compile(rf"kubernetes:[^:]+:({_ALL})")
"""Type tokens of what has a pod template, or is a pod."""

PATCHES: Final = re.compile(rf"kubernetes:[^:]+:({_ALL})Patch")
"""Type tokens of patches of such an object."""

PATCHES_BY_ARCHSHIFT: Final = re.compile(rf"kubernetes:[^:]+:({'|'.join(PATCHED)})Patch")

_POD_SPECS: Final[Mapping[str, tuple[str, ...]]] = {
    "Pod": ("spec",),
    "CronJob": ("spec", "jobTemplate", "spec", "template", "spec"),
}


def pod_spec(kind: str) -> tuple[str, ...]:
    """Return where a kind has the spec of its pods."""
    return _POD_SPECS.get(kind, ("spec", "template", "spec"))
