"""From verdicts on images to the verdict on a workload. Pure: plain Kubernetes objects in, values out."""

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
    """One image and what is started from it: the unit of the deep check.

    Attributes:
        image: The reference as the pod has it.
        command: What the container spec changes.
    """

    image: str
    command: Command = field(default_factory=Command)


@dataclass(frozen=True, slots=True)
class Container:
    """One container of a workload.

    Attributes:
        name: Its name; unique within the workload, except where a webhook rewrote its image.
        role: How it runs: container, init, sidecar (an init container that stays), ephemeral, or injected
            (only the pods have it, with this image).
        use: What it runs.
        running: Digests that the pods' nodes report for it; empty if no pod runs it.
    """

    name: str
    role: Role
    use: ImageUse
    running: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocking:
    """A container that keeps its workload off arm64.

    Attributes:
        container: Its name.
        image: Its image.
        verdict: The image's.
        reason: Why, as one can act on it.
    """

    container: str
    image: str
    verdict: Verdict
    reason: str


@dataclass(frozen=True, slots=True)
class WorkloadVerdict:
    """The answer for one workload.

    Attributes:
        workload: Its key, ``namespace/Kind/name``.
        verdict: Where all its containers run. amd64-only as soon as one is proven not to run on arm64;
            unknown if that is not decided.
        blocking: What keeps it off arm64, unknown images included; empty only for a proven yes.
        images: The verdicts on its images, in the containers' order, repeats once.
        notes: What a person should know besides, such as tags that moved.
    """

    workload: str
    verdict: Verdict
    blocking: tuple[Blocking, ...]
    images: tuple[ImageVerdict, ...]
    notes: tuple[str, ...] = ()

    @property
    def runs_on_arm64(self) -> bool:
        """Whether it is proven to. Unknown is no."""
        return self.verdict in (MULTI_ARCH, ARM64_ONLY)


def containers_of(pod_spec: Mapping[str, Any]) -> tuple[Container, ...]:
    """Return the containers of a pod's or pod template's ``spec``, init and ephemeral ones included."""
    fetched = fetched_programs(pod_spec)
    found = [
        Container(one["name"], "container", _use(one, fetched)) for one in pod_spec.get("containers") or ()
    ]
    for one in pod_spec.get("initContainers") or ():
        role: Role = "sidecar" if one.get("restartPolicy") == "Always" else "init"
        found.append(Container(one["name"], role, _use(one)))
    found += [
        Container(one["name"], "ephemeral", _use(one)) for one in pod_spec.get("ephemeralContainers") or ()
    ]
    return tuple(found)


def with_pods(template: Sequence[Container], pods: Iterable[Mapping[str, Any]]) -> tuple[Container, ...]:
    """Add what the running pods show: injected and ephemeral containers, and the digests that run.

    Args:
        template: From the workload's pod template.
        pods: Its pods, as the API returns them. Only those of the current revision: an older one's images
            would count as injected.
    """
    # A webhook may rewrite a template's image, to a mirror's name for instance: then the pod's counts too.
    found: dict[tuple[str, str], Container] = {(one.name, one.use.image): one for one in template}
    roles = {one.name: one.role for one in template}
    for pod in pods:
        for one in containers_of(pod.get("spec") or {}):
            key = (one.name, one.use.image)
            if key not in found:
                ephemeral = one.role == "ephemeral" and one.name not in roles
                found[key] = one if ephemeral else replace(one, role="injected")
        status = pod.get("status") or {}
        digests = {
            entry.get("name"): _digest(entry.get("imageID") or "")
            for statuses in _STATUSES
            for entry in status.get(statuses) or ()
        }
        spec_images = {one.name: one.use.image for one in containers_of(pod.get("spec") or {})}
        for name, image in spec_images.items():
            digest, key = digests.get(name, ""), (name, image)
            if digest and digest not in found[key].running:
                found[key] = replace(found[key], running=(*found[key].running, digest))
    return tuple(found.values())


def judge_workload(
    workload: str, containers: Sequence[Container], verdicts: Mapping[ImageUse, ImageVerdict]
) -> WorkloadVerdict:
    """Intersect the verdicts of all containers.

    Ephemeral containers are left out: they end with their pod, and no new pod gets them.

    Args:
        workload: Its key.
        containers: From :func:`containers_of` and :func:`with_pods`.
        verdicts: One for each container's ``use``; a missing one counts as unknown.
    """
    blocking, images, notes = [], {}, []
    known: list[Verdict] = []
    for container in containers:
        verdict = verdicts.get(container.use)
        if container.role == "ephemeral":
            continue
        if verdict is None:
            blocking.append(Blocking(container.name, container.use.image, UNKNOWN, "it was not audited"))
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
        blocking.append(Blocking("", "", UNKNOWN, "it has no containers"))
    return WorkloadVerdict(
        workload, _intersect(known), tuple(blocking), tuple(images.values()), tuple(dict.fromkeys(notes))
    )


def _intersect(verdicts: Sequence[Verdict]) -> Verdict:
    if not verdicts:
        return UNKNOWN
    no_arm64 = any(one in (AMD64_ONLY, OTHER) for one in verdicts)
    no_amd64 = any(one in (ARM64_ONLY, OTHER) for one in verdicts)
    # One unknown image leaves open what the others have not already ruled out.
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
    """Say where pods run another image than the one that the verdict is about."""
    if not verdict.digest or not _by_tag(verdict.image):
        return []
    # A node may report the index or the image it took from it.
    same = {verdict.digest, *(digest for _, digest in verdict.manifests)}
    return [
        f"{container.name}: {verdict.image} has moved: pods run {digest}, the tag is {verdict.digest} now"
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
    """Return the digest in a status's ``imageID``; empty where it names no registry's content.

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
