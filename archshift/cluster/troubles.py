"""Which workloads have pods that do not run, or a rollout that makes no progress, and why."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.model import Trouble, Workload
from archshift.common.text import one_line
from archshift.images.workload import digest_of

if TYPE_CHECKING:
    # Pods are read with the words of this module.
    from archshift.cluster.pods import Pod

_MOST_WORDS: Final = 240

_PREEMPTION: Final = re.compile(r"[.,]?( no new claims to deallocate,)? preemption: .*$", re.DOTALL)
"""The end of the scheduler's message, about pods that it could remove."""

_STARTING: Final = ("", "ContainerCreating", "PodInitializing")
"""Reasons of containers that wait although nothing is wrong."""

_OTHER_ARCHITECTURE: Final = ("exec format error", "no match for platform", "no matching manifest")
"""What kernels, containerd and Docker say of an image for another architecture, in lower case."""

_NEVER_STARTS: Final = ("RunContainerError", "StartError")
"""Reasons of containers whose program the node cannot start."""

_CRASHES: Final = "CrashLoopBackOff"
"""The reason of a container that the kubelet started again at once, and that ended again."""

_MANY_RESTARTS: Final = 2
"""After so many restarts, a container that ended with an error does not run. One may be a slow dependency."""


def failing_container(status: Mapping[str, Any]) -> str:
    """Return why a container of a pod does not run: its own words; empty if all containers run or start."""
    for container in _containers(status):
        waiting = _waiting(container)
        if waiting.get("reason", "") not in _STARTING:
            last = _ended(container)
            return f"container {container.get('name', '')}: " + _sentence(
                waiting["reason"], last.get("message") or waiting.get("message"), last
            )
    return ""


@dataclass(frozen=True, slots=True)
class BrokenContainer:
    """A container that cannot run where its pod is; waiting longer does not help.

    Attributes:
        name: Its name.
        image: The reference of its image, from the pod's spec.
        digest: The digest that its node reports; empty before a pull has succeeded.
        words: Why, on one line.
    """

    name: str
    image: str
    digest: str
    words: str


def broken_container(spec: Mapping[str, Any], status: Mapping[str, Any]) -> BrokenContainer | None:
    """Return the first container that is proven not to run; None if every other one may still start.

    A failed pull alone is no proof, because a registry may be away. An end with exit code 0 is none either.
    """
    for container in _containers(status):
        words = _why_broken(container)
        if words:
            name = str(container.get("name", ""))
            digest = digest_of(str(container.get("imageID") or ""))
            return BrokenContainer(name, _image_of(spec, name), digest, words)
    return None


def _why_broken(container: Mapping[str, Any]) -> str:
    if container.get("ready"):
        return ""
    waiting, last = _waiting(container), _ended(container)
    reason = str(waiting.get("reason") or "")
    message = last.get("message") or waiting.get("message") or ""
    failed = last.get("exitCode") not in (None, 0)
    told = f"{reason} {waiting.get('message') or ''} {last.get('message') or ''}".lower()
    if any(words in told for words in _OTHER_ARCHITECTURE):
        return _sentence(reason or last.get("reason"), message, last)
    if reason in _NEVER_STARTS or (reason == _CRASHES and (failed or not last)):
        return _sentence(reason, message, last)
    restarts = container.get("restartCount") or 0
    if failed and restarts >= _MANY_RESTARTS:
        return _sentence(f"ended {restarts} times", message, last)
    return ""


def _containers(status: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for group in ("initContainerStatuses", "containerStatuses"):
        yield from status.get(group) or ()


def _waiting(container: Mapping[str, Any]) -> Mapping[str, Any]:
    return (container.get("state") or {}).get("waiting") or {}


def _ended(container: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return how a container ended last; empty if it has not ended yet."""
    ends = ((container.get(key) or {}).get("terminated") for key in ("state", "lastState"))
    return next(filter(None, ends), {})


def _sentence(reason: object, message: object, last: Mapping[str, Any]) -> str:
    ended = f"exit code {last['exitCode']}" if last.get("exitCode") is not None else ""
    return ", ".join(one_line(word, _MOST_WORDS) for word in (reason, message, ended) if word)


def _image_of(spec: Mapping[str, Any], name: str) -> str:
    groups = (spec.get(group) or () for group in ("initContainers", "containers"))
    return next(
        (str(each.get("image", "")) for group in groups for each in group if each["name"] == name), ""
    )


def why_pending(pod: "Pod") -> str:
    """Return why a pod has no node, in the scheduler's words."""
    return one_line(_PREEMPTION.sub("", pod.unschedulable), _MOST_WORDS) or "no scheduler has tried it yet"


def words_of(pods: Iterable["Pod"]) -> str:
    """Return why pods do not run, in the words of most of them; empty if all run."""
    words = Counter(
        pod.failing or why_pending(pod) for pod in pods if not pod.leaving and (pod.failing or not pod.node)
    )
    return max(words, key=lambda text: words[text], default="")


def find_troubles(
    workloads: Mapping[str, Workload], pods: Mapping[str, Sequence["Pod"]]
) -> dict[str, Trouble]:
    """Return the workloads in trouble, by key.

    Args:
        workloads: The workloads by key.
        pods: The key of a workload to those of its pods that do not run.
    """
    troubles = {}
    for key, workload in workloads.items():
        own = pods.get(key, ())
        failing = sum(bool(pod.failing) for pod in own)
        if own or workload.stuck:
            troubles[key] = Trouble(
                pending=len(own) - failing,
                failing=failing,
                stuck=bool(workload.stuck) or (failing > 0 and _rolls_out(workload)),
                words=words_of(own) or one_line(workload.stuck, _MOST_WORDS),
            )
    return troubles


def _rolls_out(workload: Workload) -> bool:
    return not (workload.updated or workload.settled or workload.obstacle)
