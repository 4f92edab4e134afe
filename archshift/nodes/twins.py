"""A Graviton twin gets what its x86 original has at EKS, unless the settings say otherwise.

An AMI, instance types and user data for x86 are never copied. Once a twin exists, it keeps what only another
group could change, whatever happens to its original.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from archshift.common.architectures import ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import ARCHITECTURE_LABEL
from archshift.common.text import joined
from archshift.nodes.ami_types import AMI_FAMILIES, AMI_TYPES, on_arm64
from archshift.nodes.groups import EksNodeGroup, Taint
from archshift.nodes.launch_templates import Instances, LiveTemplate, TemplateVersion, Volume
from archshift.nodes.live_groups import LiveGroup
from archshift.nodes.user_data import names_amd64

KEY: Final = "archshift:node_groups"

_OF_OTHERS: Final = (
    "alpha.eksctl.io/",
    "archshift/",
    "aws:",
    "eks.amazonaws.com/",
    "eks:",
    "eksctl.cluster.k8s.io/",
    "eksctl.io/",
    "k8s.io/cluster-autoscaler/",
    "kubernetes.io/cluster/",
)
"""Beginnings of labels, taints and tags that belong to one group or are made for each: EKS, eksctl, archshift."""

_MADE_ROLE: Final = re.compile(r":role/nodes-[0-9a-f]{7}\Z")
"""The role that archshift makes for nodes, as the engine names it."""

_CUSTOM: Final = "CUSTOM"


@dataclass(frozen=True, slots=True)
class Twin:
    """A twin as it will be.

    Attributes:
        group: The group, filled.
        notes: What people need to know about it, one sentence each.
    """

    group: EksNodeGroup
    notes: tuple[str, ...] = ()


def fill_twins(
    groups: Mapping[str, EksNodeGroup],
    live: Mapping[str, LiveGroup],
    template: Callable[[TemplateVersion, str], LiveTemplate],
) -> dict[str, Twin]:
    """Return the twins among groups, by name, each filled from its live original.

    Args:
        groups: The configured groups.
        live: The groups that exist, by our name: imported ones, and those of earlier updates.
        template: Reads a version of a launch template; the text is the key that needs it.

    Raises:
        ArchshiftError: The settings must choose something that archshift may not.
    """
    twins = {}
    for name, group in groups.items():
        original = groups.get(group.twin_of)
        if original is None:
            continue
        notes: list[str] = []
        filled, there = group, live.get(name)
        if original.import_name and original.name in live:
            filled, notes = _filled(group, original, live[original.name], there, template)
        if there:
            filled, kept = _kept(filled, original, there)
            # What could not be taken over was said when the twin was made.
            notes = kept
        twins[name] = Twin(filled, tuple(notes))
    return twins


def _filled(
    twin: EksNodeGroup,
    original: EksNodeGroup,
    live: LiveGroup,
    there: LiveGroup | None,
    template: Callable[[TemplateVersion, str], LiveTemplate],
) -> tuple[EksNodeGroup, list[str]]:
    """Return the twin with what the settings leave to its live original, and what cannot be taken over."""
    typed = twin.typed | original.typed
    key = f"{KEY}.{twin.name}"
    of_theirs = None
    if live.launch_template:
        of_theirs = template(live.launch_template, f"{key}.twin_of")
    ami_type = _ami_type(twin, live, typed, key)
    notes: list[str] = []
    capacity_type = twin.capacity_type
    if "capacity_type" not in typed and live.capacity_type:
        if live.capacity_type in ("ON_DEMAND", "SPOT"):
            capacity_type = live.capacity_type  # type: ignore[assignment]
        else:
            notes.append(f"capacity type {live.capacity_type}; its nodes are {capacity_type}")
    disk_gib = twin.disk_gib
    if "disk_gib" not in typed:
        disk_gib = _disk_gib(live, of_theirs) or disk_gib
    filled = replace(
        twin,
        ami_type=ami_type,
        capacity_type=capacity_type,
        disk_gib=disk_gib,
        subnets=twin.subnets if "subnets" in typed else live.subnets,
        max_unavailable=twin.max_unavailable
        if "max_unavailable" in typed or live.max_unavailable is None
        else live.max_unavailable,
        node_role=twin.node_role or live.role,
        labels={**_labels(live), **original.labels, **twin.labels},
        taints=_taints(twin, original, live, there),
        tags={**shared(live.tags), **original.tags, **twin.tags},
    )
    if live.remote_access:
        notes.append("remote access by SSH")
    if twin.launch_template is None:
        filled, more = _with_instances(filled, live, of_theirs, typed)
        notes += more
    return filled, [f"{twin.name}: not taken over from {live.name}: {note}" for note in notes]


def _ami_type(twin: EksNodeGroup, live: LiveGroup, typed: frozenset[str], key: str) -> str:
    if {"ami_family", "ami_type", "launch_template"} & typed:
        return twin.ami_type
    theirs = live.ami_type or _CUSTOM
    match = on_arm64(theirs)
    if match in AMI_TYPES and AMI_TYPES[match].architecture == ARM64:
        return match
    what = "an AMI of its own" if theirs == _CUSTOM else f"the AMI type {theirs}"
    raise ArchshiftError(
        f"{key}.ami_family is missing: {live.name!r} has {what}, and archshift does not choose another "
        "operating system",
        f"set ami_family to {' or '.join(AMI_FAMILIES)}, or launch_template to one with an AMI for arm64",
    )


def _disk_gib(live: LiveGroup, template: LiveTemplate | None) -> int | None:
    """Return the size of the volume with images and logs; None for the default."""
    if template is None:
        return live.disk_gib
    ami = AMI_TYPES.get(live.ami_type or "")
    volume = template.instances.volumes.get(ami.data_volume if ami else AMI_TYPES[_PLAIN].data_volume)
    return volume.gib if volume else None


_PLAIN: Final = AMI_FAMILIES["AL2023"][ARM64]


def _labels(live: LiveGroup) -> dict[str, str]:
    labels = shared(live.labels)
    labels.pop(ARCHITECTURE_LABEL, None)
    return labels


def _taints(
    twin: EksNodeGroup, original: EksNodeGroup, live: LiveGroup, there: LiveGroup | None
) -> tuple[Taint, ...]:
    if "taints" in twin.typed:
        return twin.taints
    theirs = [taint for taint in (*live.taints, *original.taints) if not taint.key.startswith("archshift/")]
    if there:
        # A taint that somebody sets to empty the x86 group would close the Graviton group too.
        has = {(taint.key, taint.effect) for taint in (*there.taints, *twin.taints)}
        theirs = [taint for taint in theirs if not taint.hard or (taint.key, taint.effect) in has]
    return tuple({(taint.key, taint.effect): taint for taint in theirs}.values())


def shared(words: Mapping[str, str]) -> dict[str, str]:
    """Return the labels or tags of a group that another group may have too."""
    return {key: value for key, value in words.items() if not key.startswith(_OF_OTHERS) and key != "Name"}


def _with_instances(
    twin: EksNodeGroup, live: LiveGroup, template: LiveTemplate | None, typed: frozenset[str]
) -> tuple[EksNodeGroup, list[str]]:
    """Return the twin with what the launch template of its original gives each node."""
    ours, notes = twin.instances, []
    if template is None or (template.hop_limit is None and "hop_limit" not in typed):
        notes.append(
            f"the hop limit of instance metadata, which is not in a launch template; it is {ours.hop_limit} (set "
            "hop_limit: 2 if pods use the node's role)"
        )
    if template is None:
        return twin, notes
    theirs = template.instances
    same_family = _family(live.ami_type) == AMI_TYPES[twin.ami_type].family
    user_data = ours.user_data
    if "user_data" not in typed and template.user_data != "":
        reason = _why_not(template, same_family=same_family)
        user_data = ours.user_data if reason else theirs.user_data
        if reason:
            notes.append(f"its user data, {reason} (set user_data)")
    if template.image:
        notes.append(f"the AMI {template.image}")
    notes += [f"{name} of its launch template" for name in template.others]
    volumes = theirs.volumes
    if not same_family:
        devices = sorted(volumes)
        data = volumes.get(AMI_TYPES[_PLAIN].data_volume)
        volumes = {AMI_TYPES[twin.ami_type].data_volume: data} if data else {}
        extra = [device for device in devices if volumes and device != AMI_TYPES[_PLAIN].data_volume]
        notes += [f"the volume {device}" for device in extra]
    instances = Instances(
        security_groups=ours.security_groups if "security_groups" in typed else theirs.security_groups,
        user_data=user_data,
        hop_limit=ours.hop_limit if "hop_limit" in typed else theirs.hop_limit,
        http_tokens=ours.http_tokens if "http_tokens" in typed else theirs.http_tokens,
        metadata_tags=theirs.metadata_tags,
        monitoring=ours.monitoring if "detailed_monitoring" in typed else theirs.monitoring,
        ebs_optimized=theirs.ebs_optimized,
        tags={kind: shared(tags) for kind, tags in theirs.tags.items()},
        volumes=_volumes(volumes, ours.kms_key),
        kms_key=ours.kms_key or _key_of(volumes),
    )
    return replace(twin, instances=instances), notes


def _family(ami_type: str | None) -> str:
    ami = AMI_TYPES.get(ami_type or "")
    return ami.family if ami else ""


def _why_not(template: LiveTemplate, *, same_family: bool) -> str:
    """Return why user data is not copied; empty if it is."""
    if template.user_data is None:
        return "which is no plain text"
    if template.image or not same_family:
        return "which is for another operating system"
    return "which names x86 programs" if names_amd64(template.user_data) else ""


def _volumes(volumes: Mapping[str, Volume], kms_key: str) -> dict[str, Volume]:
    return {
        device: replace(volume, kms_key=kms_key or volume.kms_key) for device, volume in volumes.items()
    }


def _key_of(volumes: Mapping[str, Volume]) -> str:
    """Return the key of volumes that a template encrypts with one."""
    keys = {volume.kms_key for volume in volumes.values()}
    return keys.pop() if len(keys) == 1 else ""
