"""workload-patch-safety: a workload's patch has a field manager and takes only fields that it can restore.

Unlike the other rules, this rule checks single resources. So the engine runs it before it applies each
patch, even in an update without a preview.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from archshift_rules.kinds import PATCHES, WORKLOAD_PATCH
from archshift_rules.rule import ResourceRule
from archshift_rules.stack import Resource, Violation

_MANAGER: Final = "pulumi.com/patchFieldManager"
_FORCE: Final = "pulumi.com/patchForce"
_TAKEN: Final = "archshift/taken"
_REASON: Final = "archshift/force-reason"

_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
# Fields that the API requires (https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/).
# A patch cannot give up such a field, so deleting the patch would fail. Containers have the images and
# requests, and autoscalers set the replicas.
_REFUSED: Final = (
    *(("spec", key) for key in ("selector", "serviceName", "schedule", "replicas", *_CONTAINERS)),
    *(
        (*template, *field)
        for template in (("spec", "template"), ("spec", "jobTemplate", "spec", "template"))
        for field in (("metadata", "labels"), *(("spec", key) for key in _CONTAINERS))
    ),
)


def check(patch: Resource, provider: Mapping[str, Any]) -> Iterator[Violation]:
    """Yield what is unsafe about a patch, given the inputs of its provider."""
    if not patch.is_archshifts or not PATCHES.fullmatch(patch.type):
        return
    annotations = patch.mapping("metadata", "annotations")
    if patch.type == WORKLOAD_PATCH:
        where, manager = "the input fieldManager", patch.read("fieldManager")
        # Without the annotation, force takes back only what archshift itself wrote before.
        forced = _true(patch.read("force")) and _TAKEN in annotations
    else:
        where, manager = f"the annotation {_MANAGER}", annotations.get(_MANAGER)
        forced = _true(annotations.get(_FORCE)) or _true(provider.get("enablePatchForce"))
    if not _text(manager):
        yield Violation(
            f"{patch.name} has no field manager. Then nobody can tell who owns the fields that it sets. Set "
            f"a name in {where}.",
            patch.urn,
        )
    if forced and not _text(annotations.get(_REASON)):
        yield Violation(
            f"{patch.name} takes fields from their owners by force without a reason. Remove force, or set a "
            f"reason in the annotation {_REASON} (archshift:workloads.overrides: force and reason).",
            patch.urn,
        )
    taken = [".".join(path) for path in _REFUSED if patch.has(*path)]
    if taken:
        yield Violation(
            f"{patch.name} patches {', '.join(taken)}, which a patch cannot restore: deleting the patch "
            "would fail, or would remove the field from the workload. Patch only fields for scheduling.",
            patch.urn,
        )


def _text(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _true(value: Any) -> bool:
    return value is True or _text(value).lower() == "true"


RULE: Final = ResourceRule(
    name="workload-patch-safety",
    description="A workload's patch must name its field manager, take no required field, and use force only "
    "with a reason.",
    check=check,
)
