"""From verdicts on images to the verdict on a workload. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias

from archshift.images.contents.command import Command, read_command
from archshift.images.fetched_binary import fetched_programs
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

Role: TypeAlias = Literal["container", "init", "sidecar", "ephemeral", "injected"]

_STATUSES: Final = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")


@dataclass(frozen=True, slots=True)
class ImageUse:
    """An image with the command of a container. The deep check judges each use.

    Attributes:
        image: The reference from the pod's spec.
        command: The changes that the container's spec makes to the image's command.
    """

    image: str
    command: Command = field(default_factory=Command)


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a workload.

    Attributes:
        name: Unique within the workload, except if a webhook rewrote the container's image.
        role: container, init, sidecar (an init container that keeps running), ephemeral, or injected (the
            pods have it with this image, but the template does not).
        use: The image and the command.
        running: The digests that nodes report for the container; empty if no pod runs it.
    """

    name: str
    role: Role
    use: ImageUse
    running: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocking:
    """A container that keeps its workload off arm64.

    Attributes:
        verdict: The verdict on the image.
        reason: Why the container blocks, in words that the user can act on.
    """

    container: str
    image: str
    verdict: Verdict
    reason: str


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
    """

    workload: str
    verdict: Verdict
    blocking: tuple[Blocking, ...]
    images: tuple[ImageVerdict, ...]
    notes: tuple[str, ...] = ()

    @property
    def runs_on_arm64(self) -> bool:
        """Whether the evidence proves it. Unknown counts as no."""
        return self.verdict in (MULTI_ARCH, ARM64_ONLY)


def containers_of(pod_spec: Mapping[str, Any]) -> tuple[Container, ...]:
    """Return all containers of a pod's or pod template's ``spec``, also init and ephemeral containers."""
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
    return tuple(containers)


def with_pods(template: Sequence[Container], pods: Iterable[Mapping[str, Any]]) -> tuple[Container, ...]:
    """Add what only the running pods show: injected and ephemeral containers, and running digests.

    Args:
        template: The containers of the workload's pod template.
        pods: The workload's pods as the API returns them, only of the current revision. Images of an older
            revision would count as injected.
    """
    # A webhook may rewrite an image, for example to a mirror. Then the image of the pod counts too.
    containers = {(container.name, container.use.image): container for container in template}
    roles = {container.name: container.role for container in template}
    for pod in pods:
        for container in containers_of(pod.get("spec") or {}):
            key = (container.name, container.use.image)
            if key not in containers:
                ephemeral = container.role == "ephemeral" and container.name not in roles
                containers[key] = container if ephemeral else replace(container, role="injected")
        status = pod.get("status") or {}
        digests = {
            entry.get("name"): _digest(entry.get("imageID") or "")
            for statuses in _STATUSES
            for entry in status.get(statuses) or ()
        }
        spec_images = {
            container.name: container.use.image for container in containers_of(pod.get("spec") or {})
        }
        for name, image in spec_images.items():
            digest, key = digests.get(name, ""), (name, image)
            if digest and digest not in containers[key].running:
                containers[key] = replace(containers[key], running=(*containers[key].running, digest))
    return tuple(containers.values())


def judge_workload(
    workload: str, containers: Sequence[Container], verdicts: Mapping[ImageUse, ImageVerdict]
) -> WorkloadVerdict:
    """Return the verdict on a workload: it runs only where all its containers run.

    Ephemeral containers do not count: they end with their pod, and no new pod gets them.

    Args:
        containers: From :func:`containers_of` and :func:`with_pods`.
        verdicts: The verdict on each container's ``use``. A missing verdict counts as unknown.
    """
    blocking, images, notes = [], {}, []
    known: list[Verdict] = []
    for container in containers:
        verdict = verdicts.get(container.use)
        if container.role == "ephemeral":
            continue
        if verdict is None:
            blocking.append(
                Blocking(container.name, container.use.image, UNKNOWN, "archshift did not audit it")
            )
            known.append(UNKNOWN)
            continue
        images[container.use] = verdict
        known.append(verdict.verdict)
        if not verdict.runs_on_arm64:
            blocking.append(
                Blocking(container.name, verdict.image, verdict.verdict, _reason(container, verdict))
            )
        notes += _moved(container, verdict)
    if not known:
        blocking.append(Blocking("", "", UNKNOWN, "the workload has no containers"))
    return WorkloadVerdict(
        workload, _intersect(known), tuple(blocking), tuple(images.values()), tuple(dict.fromkeys(notes))
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


def _digest(image_id: str) -> str:
    """Return the digest in a status's ``imageID``; empty if it is not a digest of a registry.

    containerd and CRI-O write ``repository@digest``, dockershim ``docker-pullable://repository@digest``;
    a bare ``sha256:...`` is the id of a local config.
    """
    _, at, digest = image_id.rpartition("@")
    return digest if at else ""


def why_not(verdict: WorkloadVerdict) -> str:
    """Return why a workload is not proven to run on arm64, by its first blocking container."""
    if not verdict.blocking:
        return "there is no evidence for its images"
    first = verdict.blocking[0]
    more = len(verdict.blocking) - 1
    suffix = f" (and {more} more)" if more else ""
    return f"{first.image} is {first.verdict}: {first.reason}{suffix}"
