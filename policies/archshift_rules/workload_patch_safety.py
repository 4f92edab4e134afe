"""workload-patch-safety: a patch of a workload has a name, takes only what it may, and no more.

A rule about single resources, unlike the others: the engine then asks it before the patch is
applied, also in an update without a preview.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from archshift_rules.rule import ResourceRule
from archshift_rules.stack import Resource, Violation

_PATCHES: Final = re.compile(
    r"kubernetes:[^:]+:(Deployment|StatefulSet|DaemonSet|ReplicaSet|ReplicationController|Job|CronJob|Pod)Patch"
)
_MANAGER: Final = "pulumi.com/patchFieldManager"
_FORCE: Final = "pulumi.com/patchForce"
_REASON: Final = "archshift/force-reason"

_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
# What the API requires (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/):
# such a field cannot be given up again, so that deleting the patch fails. Images and requests are
# in the containers, and replicas belong to autoscalers.
_REFUSED: Final = (
    *(("spec", key) for key in ("selector", "serviceName", "schedule", "replicas", *_CONTAINERS)),
    *(
        (*template, *field)
        for template in (("spec", "template"), ("spec", "jobTemplate", "spec", "template"))
        for field in (("metadata", "labels"), *(("spec", key) for key in _CONTAINERS))
    ),
)


def check(one: Resource, provider: Mapping[str, Any]) -> Iterator[Violation]:
    """Yield what is unsafe about a patch.

    Args:
        one: The resource, with its inputs.
        provider: The inputs of its provider.
    """
    if not one.is_archshifts or not _PATCHES.fullmatch(one.type):
        return
    annotations = one.mapping("metadata", "annotations")
    if not _text(annotations.get(_MANAGER)):
        yield Violation(
            f"{one.name} has no field manager, so the provider makes up another name in every stack and "
            f"nobody can tell whose fields they are; name one in the annotation {_MANAGER}.",
            one.urn,
        )
    forced = _true(annotations.get(_FORCE)) or _true(provider.get("enablePatchForce"))
    if forced and not _text(annotations.get(_REASON)):
        yield Violation(
            f"{one.name} takes fields from their owners by force and does not say why; leave force out, or "
            f"give the reason in the annotation {_REASON} (archshift:workloads.overrides: force and reason).",
            one.urn,
        )
    taken = [".".join(path) for path in _REFUSED if one.has(*path)]
    if taken:
        yield Violation(
            f"{one.name} patches {', '.join(taken)}, which a patch cannot restore: deleting it fails, or "
            "leaves the workload without. Patch the fields of scheduling alone.",
            one.urn,
        )


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _true(value: Any) -> bool:
    return value is True or _text(value).lower() == "true"


RULE: Final = ResourceRule(
    name="workload-patch-safety",
    description="A patch of a workload must name its manager, take no required field, and say why it forces.",
    check=check,
)
