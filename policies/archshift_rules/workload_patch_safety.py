"""workload-patch-safety: a workload's patch has a field manager and takes only fields that it can restore.

Unlike the other rules, this rule checks single resources. So the engine runs it before it applies each
patch, even in an update without a preview.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from archshift_rules.kinds import PATCHES
from archshift_rules.rule import ResourceRule
from archshift_rules.stack import Resource, Violation

_MANAGER: Final = "pulumi.com/patchFieldManager"
_FORCE: Final = "pulumi.com/patchForce"
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
    if not _text(annotations.get(_MANAGER)):
        yield Violation(
            f"{patch.name} has no field manager. The provider would invent a different name in every stack, "
            f"and nobody could tell who owns the fields. Set a name in the annotation {_MANAGER}.",
            patch.urn,
        )
    forced = _true(annotations.get(_FORCE)) or _true(provider.get("enablePatchForce"))
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
