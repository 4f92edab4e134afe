"""Which changes of a configuration may raise a workload's share of pods on Graviton.

The gate must pass before such a change, as before a step of ``arm_ratio``. A key that ``_RULES`` does not
name may raise a share, and so may a value that nobody can judge.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, TypeAlias

import msgspec

from archshift.common.architectures import AMD64, ARM64
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.settings.arm64_tests import Arm64TestsModel
from archshift.settings.cluster import ClusterModel
from archshift.settings.images import ImagesModel
from archshift.settings.keys import StackModel
from archshift.settings.rollouts import RolloutsModel
from archshift.settings.workloads import RuleModel, WorkloadsModel

Rule: TypeAlias = Callable[[Any, Any], Iterator[str]]
"""Yields the parts of a key that may raise a share, from a value to another; "" for the key."""

_SIZES: Final = ("min_size", "desired_size", "max_size", "size")
_NEUTRAL_OF_GROUPS: Final = frozenset(
    (
        *("tags", "disk_gib", "max_unavailable", "node_role", "security_groups", "hop_limit", "http_tokens"),
        *("kms_key", "node_repair", "detailed_monitoring"),
        *("consolidation", "consolidate_after", "budget", "expire_after", "termination_grace_period"),
        "annotations",
    )
)
"""The keys of a node group that say neither which pods its nodes take nor how many."""


def may_raise(old: StackModel, new: StackModel) -> list[str]:
    """Return the keys whose change may raise a workload's share, in order.

    More Graviton nodes raise no share: they only hold pods that the gate has passed before.

    Args:
        old: The deployed configuration.
        new: The configuration that comes.
    """
    if new.arm_ratio == 0.0:
        return []
    # If all pods already belong on Graviton, the guard of x86 nodes decides about these nodes.
    full = old.arm_ratio == new.arm_ratio == 1.0
    keys = []
    for name in StackModel.__struct_fields__:
        before, after = getattr(old, name), getattr(new, name)
        if before == after or (full and name == "node_groups" and _no_graviton_changed(before, after)):
            continue
        parts = _RULES.get(name, _any)(before, after)
        keys += [f"archshift:{name}.{part}" if part else f"archshift:{name}" for part in parts]
    return keys


def _any(before: object, after: object) -> Iterator[str]:
    del before, after
    yield ""


def _never(before: object, after: object) -> Iterator[str]:
    del before, after
    yield from ()


def _larger(before: float, after: float) -> Iterator[str]:
    if after > before:
        yield ""


def _another_cluster(before: ClusterModel | None, after: ClusterModel | None) -> Iterator[str]:
    if (before and before.name) != (after and after.name):
        yield "name"


def _rollouts(before: RolloutsModel, after: RolloutsModel) -> Iterator[str]:
    """A first pod that is watched for a shorter time may not have failed yet."""
    if after.canary_seconds < before.canary_seconds:
        yield "canary_seconds"


def _images(before: ImagesModel, after: ImagesModel) -> Iterator[str]:
    """Only a check that asks for more leaves the proofs as they are, or takes some away."""
    stricter = {
        "check": after.check and not before.check,
        "deep": after.deep and not before.deep,
        "max_age_days": after.max_age_days < before.max_age_days,
    }
    yield from (name for name in _changed(before, after) if not stricter.get(name))


def _arm64_tests(before: Arm64TestsModel, after: Arm64TestsModel) -> Iterator[str]:
    """Only more tests leave the proofs as they are. Of a workload by name, any other test may be easier."""
    more = {
        "all": after.all,
        "workloads": not before.all
        and all(after.workloads.get(key) == test for key, test in before.workloads.items())
        and False not in after.workloads.values(),
        "parallel": True,
    }
    yield from (name for name in _changed(before, after) if not more.get(name))


def _workloads(before: WorkloadsModel, after: WorkloadsModel) -> Iterator[str]:
    """Nothing says where the pods run of a workload that archshift no longer steers."""
    for name in ("namespaces", "exclude"):
        if set(getattr(before, name)) != set(getattr(after, name)):
            yield name
    ours = ("namespaces", "exclude", "overrides")
    yield from (name for name in _changed(before, after) if name not in ours)
    for key in sorted(before.overrides.keys() | after.overrides.keys()):
        old, new = before.overrides.get(key, RuleModel()), after.overrides.get(key, RuleModel())
        lower = {
            "hold": new.hold,
            "max_ratio": new.max_ratio < old.max_ratio,
            "reason": True,
        }
        yield from (f"overrides.{key}.{name}" for name in _changed(old, new) if not lower.get(name))


def _node_groups(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        if not all(isinstance(one, Mapping) or one is None for one in (old, new)):
            yield name
            continue
        sides = {_side(one) for one in (old, new) if one is not None}
        if sides == {ARM64} and new is None:
            continue
        if sides == {ARM64} and old is not None and new is not None:
            ignored = (*_NEUTRAL_OF_GROUPS, *_SIZES, "limits")
            yield from (f"{name}.{key}" for key in _keys(old, new) if key not in ignored)
        elif sides != {AMD64} and (old is None or new is None):
            yield name
        else:
            yield from _less_x86(name, old, new, known=sides == {AMD64})


def _less_x86(
    name: str, old: Mapping[str, Any] | None, new: Mapping[str, Any] | None, *, known: bool
) -> Iterator[str]:
    """Yield what takes x86 nodes away from pods, which may then start on Graviton.

    Args:
        name: The group.
        old: Its deployed keys; None for a new group.
        new: The keys that come; None for a group that goes.
        known: Whether all its nodes are x86.
    """
    if new is None:
        yield name
    if old is None or new is None:
        return
    for key in _keys(old, new):
        now, then = new.get(key), old.get(key)
        more = (
            key in _NEUTRAL_OF_GROUPS
            or (known and key == "retired" and now is not True)
            or (key in _SIZES and isinstance(now, int) and isinstance(then, int) and now > then)
        )
        if not more:
            yield f"{name}.{key}"


def _no_graviton_changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    return all(
        ARM64 not in (_side(before.get(name)), _side(after.get(name)))
        for name in before.keys() | after.keys()
        if before.get(name) != after.get(name)
    )


def _side(group: Any) -> str:
    """Return the architecture of all nodes of a group, as its own keys say; empty if they do not say it."""
    if not isinstance(group, Mapping):
        return ""
    types = group.get("instance_types") or group.get("instance_type") or []
    names = [types] if isinstance(types, str) else types if isinstance(types, list) else [""]
    kinds = [INSTANCE_TYPES.get(str(name)) for name in names]
    sides = {kind.architecture if kind else "" for kind in kinds}
    if not kinds:
        sides = {str(group.get("architecture") or (ARM64 if group.get("twin_of") else ""))}
    return sides.pop() if len(sides) == 1 else ""


def _keys(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    return [str(key) for key in {**before, **after} if before.get(key) != after.get(key)]


def _changed(before: msgspec.Struct, after: msgspec.Struct) -> list[str]:
    names = type(before).__struct_fields__
    return [name for name in names if getattr(before, name) != getattr(after, name)]


_RULES: Final[Mapping[str, Rule]] = {
    "arm_ratio": _larger,
    # The program stops in another cluster, unless cluster_uid says that it is the stack's.
    "kube_context": _never,
    "cluster_uid": _any,
    "platform": _any,
    "provisioner": _any,
    "cluster": _another_cluster,
    "node_groups": _node_groups,
    "graviton_families": _any,
    "workloads": _workloads,
    "placement": _any,
    "rollouts": _rollouts,
    "images": _images,
    "arm64_tests": _arm64_tests,
    # These say when steps come and what judges them. ``why_no_step`` compares the gate.
    "ramp": _never,
    "gate": _never,
    "monitoring": _never,
    "cost": _never,
    # The guard lets x86 nodes go; a node group that goes is a change of its own.
    "break_glass": _never,
    "policy_exception": _never,
}
"""Key to what in it may raise a share."""
