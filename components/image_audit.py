"""The evidence for images in the stack's state, for policies and reports."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.kinds import on_every_node
from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pod_fields import pinned_architecture
from archshift.common.architectures import AMD64, ARM64
from archshift.nodes.groups import Node
from archshift.plan.guard import is_served, most_pods
from archshift.plan.only_x86 import OnlyX86
from components import engine_text


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAuditArgs:
    """Arguments of ``ImageAudit``; ``nodes`` are those on which pods may run after the update."""

    evidence: ClusterEvidence
    inventory: Inventory
    nodes: Sequence[Node] = ()


class ImageAudit(pulumi.ComponentResource):
    """Which workloads are proven to run on arm64, as plain values that a preview knows."""

    TYPE: Final = "archshift:index:ImageAudit"

    workloads: pulumi.Output[Mapping[str, Any]]
    """By workload key: ``verdict``, ``blocking`` containers, ``images`` with digest, ``checkedAt``,
    ``pods`` (how many need capacity) and ``requests`` of one pod (``millicpu``, ``memory`` in bytes).
    ``replaced`` maps an image of the template to the image that its pods run instead. For a DaemonSet also
    ``reachesGraviton``: its own rules let it run on a Graviton node. ``pins`` is the architecture that the
    workload's own rules ask for, once all its pods follow them. ``onlyX86`` is why no Graviton node, but an
    x86 node, can run its pods, whatever its images are. ``needsX86Room`` is False if no x86 node can run it
    now, so that it has no x86 capacity to lose."""

    def __init__(self, name: str, args: ImageAuditArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        self.workloads = pulumi.Output.from_input(evidence_values(args.evidence, args.inventory, args.nodes))
        self.register_outputs(engine_text.outputs({"workloads": self.workloads}))


def evidence_values(
    evidence: ClusterEvidence, inventory: Inventory, nodes: Sequence[Node] = ()
) -> dict[str, Any]:
    """Return the evidence as plain values, by workload key."""
    workloads = {**inventory.unsteered_workloads, **inventory.workloads}
    graviton = [node for node in nodes if node.architecture == ARM64]
    only_x86 = OnlyX86(inventory.nodes, nodes)
    return {
        key: {
            "verdict": verdict.verdict,
            "blocking": [
                {
                    "container": container.container,
                    "image": container.image,
                    "verdict": container.verdict,
                    "reason": container.reason,
                }
                for container in verdict.blocking
            ],
            "images": [
                {"image": image.image, "digest": image.digest, "verdict": image.verdict}
                for image in verdict.images
            ],
            # A workload's evidence is as old as its oldest part.
            "checkedAt": min(
                (image.checked_at.isoformat(timespec="seconds") for image in verdict.images), default=""
            ),
            **({"replaced": dict(verdict.replaced)} if verdict.replaced else {}),
            **_size(workloads.get(key)),
            **_reach(workloads.get(key), graviton),
            **_pins(workloads.get(key)),
            **_only_x86(workloads.get(key), only_x86),
            **_served(workloads.get(key), inventory),
        }
        for key, verdict in evidence.verdicts.items()
        # Where nothing is guarded, DaemonSets that archshift does not steer are only judged for the plan.
        if key in workloads or key not in inventory.outside_daemonsets
    }


def _served(workload: Workload | None, inventory: Inventory) -> dict[str, bool]:
    """Say that no x86 node of the cluster can run the workload, so that it has no x86 capacity to lose."""
    x86 = [node for node in inventory.nodes if node.architecture == AMD64]
    if workload is None or not x86:
        return {}
    return {} if is_served(workload, inventory, x86) else {"needsX86Room": False}


def _pins(workload: Workload | None) -> dict[str, str]:
    pinned = pinned_architecture(workload.template) if workload and workload.settled else None
    return {"pins": pinned[0]} if pinned else {}


def _only_x86(workload: Workload | None, only_x86: OnlyX86) -> dict[str, str]:
    reason = only_x86.why(workload) if workload else ""
    return {"onlyX86": reason} if reason else {}


def _reach(workload: Workload | None, graviton: Sequence[Node]) -> dict[str, bool]:
    # Without Graviton nodes there is no answer; a policy then assumes yes.
    if workload is None or not on_every_node(workload.kind) or not graviton:
        return {}
    return {"reachesGraviton": any(workload.may_run_on(node) for node in graviton)}


def _size(workload: Workload | None) -> dict[str, Any]:
    if workload is None:
        return {"pods": 1, "requests": {"millicpu": 0, "memory": 0}}
    requests = workload.requests
    return {
        "pods": most_pods(workload),
        "requests": {"millicpu": requests.millicpu, "memory": requests.memory},
    }
