"""A Graviton twin gets what its x86 original has at EKS, unless the settings say otherwise.

An AMI, instance types and user data for x86 are never copied. Once a twin exists, it keeps what only another
group could change, whatever its owner does to its original. Without its original, it keeps all of it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from archshift.common.architectures import ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import OURS
from archshift.nodes.ami_types import AMI_FAMILIES, AMI_TYPES, CUSTOM, on_arm64
from archshift.nodes.groups import EksNodeGroup, Taint
from archshift.nodes.launch_templates import Instances, LiveTemplate, ReadTemplate, Volume
from archshift.nodes.live_groups import LiveGroup
from archshift.nodes.user_data import names_amd64

_KEY: Final = "archshift:node_groups"

_OF_ONE_GROUP: Final = (
    OURS,
    "alpha.eksctl.io/",
    "aws:",
    "eks.amazonaws.com/",
    "eks:",
    "eksctl.cluster.k8s.io/",
    "eksctl.io/",
    "k8s.io/cluster-autoscaler/",
    "kubernetes.io/cluster/",
)
"""Beginnings of labels and tags that archshift, EKS, eksctl or an autoscaler makes for each group."""

_ROOT: Final = AMI_TYPES[AMI_FAMILIES["AL2023"][ARM64]].data_volume

_SETTINGS: Final[Mapping[str, str]] = {
    "security_groups": "security_groups",
    "user_data": "user_data",
    "hop_limit": "hop_limit",
    "http_tokens": "http_tokens",
    "monitoring": "detailed_monitoring",
}
"""The fields of ``Instances`` that a setting of the same meaning overrides."""


def fill_groups(groups: Mapping[str, EksNodeGroup], read: ReadTemplate) -> dict[str, EksNodeGroup]:
    """Return all groups by name: twins filled from their live originals, and the others as they are.

    Args:
        groups: The configured groups.
        read: Reads a launch template.

    Raises:
        ArchshiftError: archshift may not make a choice that the settings leave open, or a template does not
            fit them.
    """
    own = {name: _with_own_template(group, read) for name, group in groups.items()}
    filled = {}
    for name, twin in own.items():
        original = own.get(twin.twin_of)
        source = None
        if original and original.import_name:
            source = original.live
        elif original and original.launch_template:
            source = _as_live(original)
        elif not twin.twin_of and twin.original:
            # Its original is gone, and with it what the settings do not say; the group itself still has it.
            original, source = twin, twin.live
        filled[name] = _Filling(twin, original, source, read).fill() if original and source else twin
    return filled


def shared(words: Mapping[str, str]) -> dict[str, str]:
    """Return the labels or tags of a group that another group may have too."""
    return {key: value for key, value in words.items() if not key.startswith(_OF_ONE_GROUP) and key != "Name"}


def _with_own_template(group: EksNodeGroup, read: ReadTemplate) -> EksNodeGroup:
    """Return a group that has a launch template of the user's own with the AMI type that follows from it."""
    if group.launch_template is None or group.import_name:
        return group
    key = f"{_KEY}.{group.name}"
    template = read(group.launch_template, f"{key}.launch_template")
    if template.names_types:
        raise ArchshiftError(
            f"{key}.launch_template: the template names an instance type",
            f"remove it there; {key} names them",
        )
    if not template.image:
        return group
    if named := sorted({"ami_family", "ami_type", "release_version", "version"} & group.typed):
        raise ArchshiftError(f"{key}.{named[0]}: the launch template names the AMI", f"remove {named[0]}")
    return replace(group, ami_type=CUSTOM)


def _as_live(group: EksNodeGroup) -> LiveGroup:
    """Return a group that archshift makes from a template of the user's own, as EKS will describe it."""
    return LiveGroup(
        name=group.name,
        role=group.node_role,
        subnets=group.subnets,
        min_size=group.min_size,
        desired_size=group.desired_size,
        max_size=group.max_size,
        ami_type=group.ami_type,
        launch_template=group.launch_template,
    )


class _Filling:
    """Fills one twin."""

    def __init__(
        self,
        twin: EksNodeGroup,
        original: EksNodeGroup,
        live: LiveGroup,
        read: ReadTemplate,
    ) -> None:
        self._twin = twin
        self._live = live
        self._there = twin.live
        self._typed = twin.typed | original.typed
        self._key = f"{_KEY}.{twin.name}"
        self._read = read
        self._template: LiveTemplate | None = None
        if live.launch_template and not twin.launch_template:
            self._template = read(live.launch_template, f"{self._key}.twin_of")
        self._not_taken: list[str] = []
        self._changes: list[str] = []

    def fill(self) -> EksNodeGroup:
        twin, live = self._twin, self._live
        group = replace(
            twin,
            ami_type=self._ami_type(),
            capacity_type=self._capacity_type(),
            subnets=self._keep("subnets", twin.subnets, live.subnets, self._there and self._there.subnets),
            node_role=self._node_role(),
            disk_gib=self._disk_gib(),
            max_unavailable=self._pick("max_unavailable", twin.max_unavailable, live.max_unavailable),
            node_repair=self._pick("node_repair", twin.node_repair, live.node_repair),
            update_strategy=live.update_strategy or "",
            source=live,
            labels={**shared(live.own_labels), **twin.labels},
            taints=self._taints(),
            group_tags=shared(live.own_tags),
        )
        if live.version and not twin.version:
            has = f"those of {live.name} have Kubernetes {live.version}"
            self._not_taken.append(f"its nodes get the version of the cluster; {has}")
        if live.remote_access:
            self._not_taken.append(self._lacks("access by SSH"))
        self._not_taken += [self._lacks(name) for name in live.others]
        if not twin.launch_template:
            self._check_user_data(group.ami_type)
            group = replace(group, instances=self._instances(group.ami_type))
            self._changes += self._differences(group)
        # What could not be taken over was said when the twin was made.
        return replace(group, notes=tuple(self._changes if self._there else self._not_taken))

    def _lacks(self, what: str) -> str:
        return f"it does not get {what} of {self._live.name}"

    def _pick(self, key: str, ours: Any, theirs: Any) -> Any:
        return ours if key in self._typed or theirs is None else theirs

    def _keep(self, key: str, ours: Any, theirs: Any, twins: Any) -> Any:
        """Return a value whose change would replace the twin: as the twin has it, if it exists."""
        if key in self._typed:
            return ours
        value = ours if theirs is None else theirs
        same = {*twins} == {*value} if isinstance(value, tuple) and twins else twins == value
        if not twins or same:
            return value
        if not value:
            return twins
        self._changes.append(
            f"it keeps {key} {_words(twins)}, although {self._live.name} has {_words(value)}; to replace the "
            f"group, set {key}"
        )
        return twins

    def _ami_type(self) -> str:
        if {"ami_family", "ami_type"} & self._typed or self._twin.ami_type == CUSTOM:
            return self._twin.ami_type
        there = self._there.ami_type if self._there else None
        match = on_arm64(self._live.ami_type or CUSTOM)
        if match in AMI_TYPES and AMI_TYPES[match].architecture == ARM64:
            kept: str = self._keep("ami_type", match, match, there if there in AMI_TYPES else None)
            return kept
        if there in AMI_TYPES:
            return str(there)
        theirs = self._live.ami_type or CUSTOM
        what = "an AMI of its own" if theirs == CUSTOM else f"the AMI type {theirs}"
        raise ArchshiftError(
            f"{self._key}.ami_family is missing: {self._live.name!r} has {what}, and archshift does not "
            "choose another operating system",
            f"set ami_family to {' or '.join(AMI_FAMILIES)}, or launch_template to one with an AMI for arm64",
        )

    def _capacity_type(self) -> Any:
        theirs = self._live.capacity_type
        if theirs not in (None, "ON_DEMAND", "SPOT") and "capacity_type" not in self._typed:
            self._not_taken.append(self._lacks(f"the capacity type {theirs}"))
            theirs = None
        there = self._there and self._there.capacity_type
        return self._keep("capacity_type", self._twin.capacity_type, theirs, there)

    def _node_role(self) -> str:
        there = self._there.role if self._there else None
        return self._twin.node_role or str(self._keep("node_role", "", self._live.role, there))

    def _disk_gib(self) -> int:
        if "disk_gib" in self._typed:
            return self._twin.disk_gib
        if self._template is None:
            return self._live.disk_gib or self._twin.disk_gib
        ami = AMI_TYPES.get(self._live.ami_type or "")
        volume = self._template.instances.volumes.get(ami.data_volume if ami else _ROOT)
        return volume.gib if volume and volume.gib else self._twin.disk_gib

    def _taints(self) -> tuple[Taint, ...]:
        if "taints" in self._twin.typed:
            return self._twin.taints
        taints = {(taint.key, taint.effect): taint for taint in (*self._live.own_taints, *self._twin.taints)}
        if self._there:
            has = {(taint.key, taint.effect) for taint in (*self._there.taints, *self._twin.taints)}
            for at, taint in [*taints.items()]:
                # Somebody may set it to empty the x86 group; here it would close the Graviton group.
                if taint.hard and at not in has:
                    del taints[at]
                    new = self._lacks(f"the new taint {taint.key} ({taint.effect})")
                    self._changes.append(f"{new}; to have it, set taints")
        return tuple(taints.values())

    def _instances(self, ami_type: str) -> Instances:
        """Return what archshift's launch template gives each node."""
        ours, template = self._twin.instances, self._template
        if (template is None or template.hop_limit is None) and "hop_limit" not in self._typed:
            self._not_taken.append(
                f"the hop limit of IMDS is {ours.hop_limit}, because {self._live.name} has none in a launch "
                "template; set hop_limit: 2 if pods use the node's role"
            )
        if template is None:
            return ours
        if template.image:
            self._not_taken.append(self._lacks(f"the AMI {template.image}"))
        self._not_taken += [self._lacks(f"{name} of the launch template") for name in template.others]
        theirs = template.instances
        same_family = _family(self._live.ami_type) == _family(ami_type)
        volumes = self._volumes(template, ami_type, same_family=same_family)
        filled = replace(
            theirs,
            user_data=self._user_data(template, same_family=same_family),
            tags={kind: shared(tags) for kind, tags in theirs.tags.items()},
            volumes=volumes,
            kms_key=ours.kms_key or _only_key(volumes),
        )
        typed = {field: getattr(ours, field) for field, key in _SETTINGS.items() if key in self._typed}
        return replace(filled, **typed)

    def _user_data(self, template: LiveTemplate, *, same_family: bool) -> str:
        if "user_data" in self._typed or template.user_data == "":
            return ""
        if template.user_data is None:
            reason = "it is no plain text"
        elif template.image or not same_family:
            reason = "it is for another operating system"
        elif names_amd64(template.user_data) and self._live is not self._there:
            reason = "it names x86 programs"
        else:
            return template.user_data
        self._not_taken.append(
            f"{self._lacks('the user data')}: {reason}; set user_data if its nodes need it"
        )
        return ""

    def _check_user_data(self, ami_type: str) -> None:
        if "user_data" in self._typed and _family(ami_type) != _family(self._twin.ami_type):
            ours, theirs = _family(self._twin.ami_type), _family(ami_type)
            raise ArchshiftError(
                f"{self._key}.user_data is for {ours}, but {self._live.name!r} has {theirs}",
                f"set ami_family to {ours}, or write user_data for {theirs}",
            )

    def _volumes(self, template: LiveTemplate, ami_type: str, *, same_family: bool) -> dict[str, Volume]:
        """Return the volumes; for another operating system only that with images and logs."""
        volumes = dict(template.instances.volumes)
        if not same_family:
            ami = AMI_TYPES.get(self._live.ami_type or "")
            data = volumes.pop(ami.data_volume if ami else _ROOT, None)
            self._not_taken += [self._lacks(f"the volume {device}") for device in sorted(volumes)]
            volumes = {AMI_TYPES[ami_type].data_volume: data} if data else {}
        key = self._twin.instances.kms_key
        return {device: replace(volume, kms_key=key or volume.kms_key) for device, volume in volumes.items()}

    def _differences(self, group: EksNodeGroup) -> Iterator[str]:
        """Yield what of the twin's launch template changes, because its original has it."""
        if not self._there or not self._there.launch_template:
            return
        now = self._read(self._there.launch_template, f"{self._key}.twin_of").instances
        disk = now.volumes.get(AMI_TYPES[group.ami_type].data_volume)
        fields = [("disk_gib", disk and disk.gib, group.disk_gib)]
        fields += [
            (key, getattr(now, field), getattr(group.instances, field)) for field, key in _SETTINGS.items()
        ]
        for key, before, after in fields:
            if key in self._typed or before == after:
                continue
            words = "" if key == "user_data" else f" from {_words(before)} to {_words(after)}"
            yield (
                f"its {key} changes{words}, as {self._live.name} has it; EKS replaces its nodes one after "
                f"another, unless you set {key}"
            )


def _family(ami_type: str | None) -> str:
    ami = AMI_TYPES.get(ami_type or "")
    return ami.family if ami else ""


def _only_key(volumes: Mapping[str, Volume]) -> str:
    """Return the key of volumes if all have the same, for those that the original does not name."""
    keys = {volume.kms_key for volume in volumes.values()}
    return keys.pop() if len(keys) == 1 else ""


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(value) or "none"
    return str(value) if value != "" else "none"
