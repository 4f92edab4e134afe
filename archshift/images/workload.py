"""From verdicts on images to the verdict on a workload. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from archshift.common.architectures import ARM64
from archshift.images.building.fetched_binary import fetched_programs
from archshift.images.contents.command import Command, read_command
from archshift.images.registry.reference import ImageReferenceError, parse_reference
from archshift.images.verdict import (
    AMD64_ONLY,
    ARM64_ONLY,
    MULTI_ARCH,
    OTHER,
    UNKNOWN,
    ImageVerdict,
    Verdict,
    from_support,
)

Role: TypeAlias = Literal["container", "init", "sidecar", "ephemeral", "injected", "volume"]

_STATUSES: Final = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image with the command of a container. The deep check judges each use.

    Attributes:
        image: The reference from the pod's spec.
        command: The changes that the container's spec makes to the image's command.
        as_volume: A pod mounts the image as a volume, so nothing in it is started.
    """

    image: str
    command: Command = field(default_factory=Command)
    as_volume: bool = False


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a workload, or a volume with an image: all that a node pulls for its pods.

    Attributes:
        name: Unique among the containers and among the volumes, except if pods run several images.
        role: container, init, sidecar (an init container that keeps running), ephemeral, injected (the pods
            have it with this image, but the template does not), or volume.
        use: The image and the command.
        running: The digests that nodes report for the container; empty if no pod runs it.
        instead_of: The use in the template, if all pods run another image. It counts only if the image of
            the pods cannot be read.
    """

    name: str
    role: Role
    use: ImageUse
    running: tuple[str, ...] = ()
    instead_of: ImageUse | None = None

    @property
    def uses(self) -> tuple[ImageUse, ...]:
        """The uses to audit: the first that can be read counts."""
        return (self.use,) if self.instead_of is None else (self.use, self.instead_of)

    @property
    def place(self) -> tuple[bool, str]:
        """What names it within a pod: a volume may have the name of a container."""
        return self.role == "volume", self.name


@dataclass(frozen=True, slots=True)
class Blocking:
    """A container, or a volume with an image, that keeps its workload off arm64.

    Attributes:
        container: The name of the container or of the volume.
        verdict: The verdict on the image.
        reason: Why it blocks, in words that the user can act on.
        cause: The same without the names of containers and images, to group workloads.
        away: The registry that does not answer; empty if it answers. Then the image itself may be fine.
    """

    container: str
    image: str
    verdict: Verdict
    reason: str
    cause: str = ""
    away: str = ""


@dataclass(frozen=True, slots=True)
class WorkloadVerdict:
    """The verdict on one workload.

    Attributes:
        workload: The key, ``namespace/Kind/name``.
        verdict: Where all containers run. It is amd64-only if one container is proven not to run on arm64,
            and unknown if that is open.
        blocking: The containers that keep it off arm64, also those with unknown images. Empty only if the
            workload is proven to run on arm64.
        images: The verdicts on the images, in the order of the containers, without repeats.
        notes: Further texts for the user, such as tags that moved.
        replaced: An image of the template to the image of the pods that counts instead.
    """

    workload: str
    verdict: Verdict
    blocking: tuple[Blocking, ...]
    images: tuple[ImageVerdict, ...]
    notes: tuple[str, ...] = ()
    replaced: Mapping[str, str] = field(default_factory=dict)

    @property
    def runs_on_arm64(self) -> bool:
        """Whether the evidence proves it. Unknown counts as no."""
        return self.verdict in (MULTI_ARCH, ARM64_ONLY)

    @property
    def main_blocking(self) -> Blocking | None:
        """What to name first: a proven no, otherwise an unknown; None if nothing blocks."""
        return min(self.blocking, key=lambda blocking: blocking.verdict == UNKNOWN, default=None)


def containers_of(pod_spec: Mapping[str, Any]) -> tuple[Container, ...]:
    """Return all that a node pulls for a pod's or pod template's ``spec``.

    These are its containers, init containers, ephemeral containers, and the images that it mounts as volumes.
    """
    fetched = fetched_programs(pod_spec)
    containers = [
        Container(container["name"], "container", _use(container, fetched))
        for container in pod_spec.get("containers") or ()
    ]
    for container in pod_spec.get("initContainers") or ():
        role: Role = "sidecar" if container.get("restartPolicy") == "Always" else "init"
        containers.append(Container(container["name"], role, _use(container)))
    containers += [
        Container(container["name"], "ephemeral", _use(container))
        for container in pod_spec.get("ephemeralContainers") or ()
    ]
    containers += [
        Container(volume["name"], "volume", ImageUse(volume["image"].get("reference") or "", as_volume=True))
        for volume in pod_spec.get("volumes") or ()
        if volume.get("image") is not None
    ]
    return tuple(containers)


def with_pods(
    template: Sequence[Container], pods: Iterable[Mapping[str, Any]], *, of_template: bool = False
) -> tuple[Container, ...]:
    """Add what only the running pods show: injected and ephemeral containers, and running digests.

    Args:
        template: The containers of the workload's pod template.
        pods: The workload's pods as the API returns them, only of the current revision. Images of an older
            revision would count as injected.
        of_template: All these pods were made from this template. So an image that differs from the template
            was replaced at admission, and new pods get it too. It counts instead of the template's image,
            if all pods agree.
    """
    pods = list(pods)
    specs = [containers_of(pod.get("spec") or {}) for pod in pods]
    if of_template:
        template = _replaced_at_admission(template, specs)
    # Where pods disagree, each image counts.
    containers = {(*container.place, container.use.image): container for container in template}
    places = {container.place for container in template}
    for pod, own in zip(pods, specs, strict=True):
        for container in own:
            key = (*container.place, container.use.image)
            if key not in containers:
                debugs = container.role == "ephemeral" and container.place not in places
                kept = debugs or container.role == "volume"
                containers[key] = container if kept else replace(container, role="injected")
        status = pod.get("status") or {}
        digests = {
            entry.get("name"): digest_of(entry.get("imageID") or "")
            for statuses in _STATUSES
            for entry in status.get(statuses) or ()
        }
        for container in own:
            # A pod's status has no digest of a volume.
            digest = "" if container.role == "volume" else digests.get(container.name, "")
            key = (*container.place, container.use.image)
            if digest and digest not in containers[key].running:
                containers[key] = replace(containers[key], running=(*containers[key].running, digest))
    return tuple(containers.values())


def _replaced_at_admission(
    template: Sequence[Container], pods: Sequence[Sequence[Container]]
) -> tuple[Container, ...]:
    """Return the template's containers with the image that all pods run instead.

    A mesh writes the image of its gateways (``image: auto``), a webhook the name of a mirror or a digest.
    """
    by_pod = [{container.place: container.use for container in own} for own in pods]

    def replaced(container: Container) -> Container:
        # A pod without the container does not agree.
        uses = [own.get(container.place, ImageUse("")) for own in by_pod]
        agreed = len({use.image for use in uses}) == 1
        if not agreed or uses[0].image in ("", container.use.image):
            return container
        return replace(container, use=uses[0], instead_of=container.use)

    return tuple(map(replaced, template))


def judge_workload(
    workload: str, containers: Sequence[Container], verdicts: Mapping[ImageUse, ImageVerdict]
) -> WorkloadVerdict:
    """Return the verdict on a workload: it runs only where all its containers run.

    Ephemeral containers do not count: they end with their pod, and no new pod gets them.

    Args:
        containers: From :func:`containers_of` and :func:`with_pods`.
        verdicts: The verdict on each container's ``use``. A missing verdict counts as unknown.
    """
    blocking, images, notes, replaced = [], {}, [], {}
    known: list[Verdict] = []
    for container in containers:
        if container.role == "ephemeral":
            continue
        judged = [verdict for use in container.uses if (verdict := verdicts.get(use))]
        if not judged:
            reason = "archshift did not audit it"
            blocking.append(Blocking(container.name, container.use.image, UNKNOWN, reason, reason))
            known.append(UNKNOWN)
            continue
        # The name in the pods may serve only nodes, such as a proxy on localhost.
        verdict = next((verdict for verdict in judged if verdict.verdict != UNKNOWN), judged[0])
        if container.instead_of is not None and verdict.image != container.instead_of.image:
            replaced[container.instead_of.image] = verdict.image
        images[verdict.image, container.use] = verdict
        known.append(verdict.verdict)
        if not verdict.runs_on_arm64:
            blocking.append(
                Blocking(
                    container.name,
                    verdict.image,
                    verdict.verdict,
                    _reason(container, verdict),
                    _cause(verdict),
                    verdict.away,
                )
            )
        notes += _moved(container, verdict)
    if not known:
        reason = "the workload has no containers"
        blocking.append(Blocking("", "", UNKNOWN, reason, reason))
    return WorkloadVerdict(
        workload,
        _intersect(known),
        tuple(blocking),
        tuple(images.values()),
        tuple(dict.fromkeys(notes)),
        replaced,
    )


def _intersect(verdicts: Sequence[Verdict]) -> Verdict:
    if not verdicts:
        return UNKNOWN
    no_arm64 = any(verdict in (AMD64_ONLY, OTHER) for verdict in verdicts)
    no_amd64 = any(verdict in (ARM64_ONLY, OTHER) for verdict in verdicts)
    # With an unknown image, arm64 is open unless another image has already ruled it out.
    if UNKNOWN in verdicts and not no_arm64:
        return UNKNOWN
    return from_support(amd64=not no_amd64, arm64=not no_arm64)


def _reason(container: Container, verdict: ImageVerdict) -> str:
    where = f"{container.role} {container.name}"
    if verdict.verdict == UNKNOWN:
        return f"{where}: {verdict.reason}"
    has = ", ".join(verdict.platforms) or "no platform"
    return f"{where}: its image has {has}" + (f"; {verdict.reason}" if verdict.reason else "")


def _cause(verdict: ImageVerdict) -> str:
    if verdict.verdict == UNKNOWN:
        return verdict.reason
    return f"an image has no {ARM64}" if verdict.verdict == AMD64_ONLY else f"an image is {verdict.verdict}"


def _moved(container: Container, verdict: ImageVerdict) -> list[str]:
    """Return a note for each digest in pods that differs from the digest of the verdict."""
    if not verdict.digest or not _by_tag(verdict.image):
        return []
    # A node may report the digest of the index or of the image in it.
    same = {verdict.digest, *(digest for _, digest in verdict.manifests)}
    return [
        f"{container.name}: the tag of {verdict.image} has moved: pods run {digest}, but the tag is now "
        f"{verdict.digest}"
        for digest in container.running
        if digest not in same
    ]


def _by_tag(image: str) -> bool:
    try:
        return not parse_reference(image).digest
    except ImageReferenceError:
        return False


def _use(
    container: Mapping[str, Any], fetched: Mapping[str, Iterable[str]] = MappingProxyType({})
) -> ImageUse:
    return ImageUse(container.get("image") or "", read_command(container, fetched))


def digest_of(image_id: str) -> str:
    """Return the digest in a status's ``imageID``; empty if it is not a digest of a registry.

    containerd and CRI-O write ``repository@digest``, dockershim ``docker-pullable://repository@digest``;
    a bare ``sha256:...`` is the id of a local config.
    """
    _, at, digest = image_id.rpartition("@")
    return digest if at else ""


def why_not(verdict: WorkloadVerdict) -> str:
    """Return why a workload is not proven to run on arm64, by its first blocking container."""
    first = verdict.main_blocking
    if first is None:
        return "there is no evidence for its images"
    more = len(verdict.blocking) - 1
    suffix = f" (and {more} more)" if more else ""
    return f"{first.image} is {first.verdict}: {first.reason}{suffix}"
