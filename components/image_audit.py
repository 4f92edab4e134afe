"""The evidence for images, in the stack's state: what policies and reports read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pulumi

from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pod_fields import pinned_architecture
from archshift.common.architectures import ARM64
from archshift.nodes.groups import Node
from archshift.plan.guard import most_pods


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageAuditArgs:
    """Arguments of ``ImageAudit``.

    Attributes:
        evidence: What the audit found.
        inventory: What it looked at.
        nodes: The nodes that pods may land on after the update.
    """

    evidence: ClusterEvidence
    inventory: Inventory
    nodes: Sequence[Node] = ()


class ImageAudit(pulumi.ComponentResource):
    """Which workloads are proven to run on arm64; plain values, known in a preview."""

    TYPE: Final = "archshift:index:ImageAudit"

    workloads: pulumi.Output[Mapping[str, Any]]
    """Workload key to ``verdict``, ``blocking`` containers, ``images`` with digest, ``checkedAt``, the
    ``pods`` to keep room for and the ``requests`` of one (``millicpu``, ``memory`` in bytes); of a
    DaemonSet also ``reachesGraviton``: whether its own rules let it run on one, if there is any; and
    what it ``pins`` itself to, if it does and no pod of another kind is left."""

    def __init__(self, name: str, args: ImageAuditArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(self.TYPE, name, {}, opts)
        self.workloads = pulumi.Output.from_input(evidence_values(args.evidence, args.inventory, args.nodes))
        self.register_outputs({"workloads": self.workloads})


def evidence_values(
    evidence: ClusterEvidence, inventory: Inventory, nodes: Sequence[Node] = ()
) -> dict[str, Any]:
    """Return the evidence as plain values, by workload key."""
    workloads = {**inventory.unsteered_workloads, **inventory.workloads}
    graviton = [node for node in nodes if node.architecture == ARM64]
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
            # The oldest of them: a workload's evidence is as old as its oldest part.
            "checkedAt": min(
                (image.checked_at.isoformat(timespec="seconds") for image in verdict.images), default=""
            ),
            **_size(workloads.get(key)),
            **_reach(workloads.get(key), graviton),
            **_pins(workloads.get(key)),
        }
        for key, verdict in evidence.verdicts.items()
    }


def _pins(workload: Workload | None) -> dict[str, str]:
    pinned = pinned_architecture(workload.template) if workload and workload.settled else None
    return {"pins": pinned[0]} if pinned else {}


def _reach(workload: Workload | None, graviton: Sequence[Node]) -> dict[str, bool]:
    # Without nodes to ask, nothing is stated: then a policy takes it that it does.
    if workload is None or workload.kind != "DaemonSet" or not graviton:
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
