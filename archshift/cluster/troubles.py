"""Which workloads have pods that do not run, or a rollout that makes no progress, and why."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.model import Trouble, Workload
from archshift.common.text import one_line

if TYPE_CHECKING:
    # Pods are read with the words of this module.
    from archshift.cluster.pods import Pod

_MOST_WORDS: Final = 240

_PREEMPTION: Final = re.compile(r"[.,]?( no new claims to deallocate,)? preemption: .*$", re.DOTALL)
"""The end of the scheduler's message, about pods that it could remove."""

_STARTING: Final = ("", "ContainerCreating", "PodInitializing")
"""Reasons of containers that wait although nothing is wrong."""


def failing_container(status: Mapping[str, Any]) -> str:
    """Return why a container of a pod does not run: its own words; empty if all containers run or start."""
    for group in ("initContainerStatuses", "containerStatuses"):
        for container in status.get(group) or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason", "") not in _STARTING:
                last = (container.get("lastState") or {}).get("terminated") or {}
                ended = f"exit code {last['exitCode']}" if last.get("exitCode") is not None else ""
                words = (waiting["reason"], last.get("message") or waiting.get("message"), ended)
                return f"container {container.get('name', '')}: " + ", ".join(
                    one_line(word, _MOST_WORDS) for word in words if word
                )
    return ""


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
