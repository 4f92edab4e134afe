"""The cluster at one moment, as values: workloads, their pods, and what pods need of nodes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from archshift.cluster.pod_fields import TakenField, Template
from archshift.cluster.scheduling import admits
from archshift.common.architectures import ARCHITECTURES, Architecture
from archshift.common.resources import Resources
from archshift.images.workload import Container
from archshift.nodes.groups import SPECIAL_NODES, Node

TAKEN_ANNOTATION: Final = "archshift/taken"
"""On a workload whose fields archshift took by force: their former values and owners, as JSON."""

OWNER_LABELS: Final = ("owner", "team")
"""The labels that name who is responsible for a workload, with any prefix; the first one present counts."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Which workloads archshift looks at.

    Attributes:
        namespaces: Only these namespaces; empty means all but the system's.
        exclude: The keys (``namespace/Kind/name``) of workloads to leave out.
        label_selector: A Kubernetes label selector for the workloads; empty means all.
    """

    namespaces: tuple[str, ...] = ()
    exclude: frozenset[str] = frozenset()
    label_selector: str = ""


@dataclass(frozen=True, slots=True)
class PullIdentity:
    """The identity with which pods pull their images.

    Attributes:
        namespace: Their namespace.
        service_account: Their ServiceAccount. Its pull secrets count if the pods name none.
        secrets: The pull secrets that the pods name.
    """

    namespace: str
    service_account: str
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Workload:
    """One controller.

    Attributes:
        namespace: Its namespace.
        kind: One of ``kinds.CONTROLLERS``, or the owner of pods that archshift does not steer.
        name: Its name.
        replicas: The wanted number of permanent pods; 0 for kinds without replicas.
        template: The placement fields of its pod template.
        requests: The requests of one pod.
        tolerations: The tolerations of its pods.
        settled: Whether no rollout is in progress and every pod is available.
        identity: ``<uid>.<generation>``, shortened. It changes with every change of the spec.
        obstacle: Why a change of the template cannot move its pods; empty if it can.
        autoscaled: (minimum, maximum) replicas if a HorizontalPodAutoscaler scales it; otherwise None.
        cpu_targets: The autoscaler's CPU targets in words, such as ``70 % of the request``.
        containers: The containers of its pod template.
        pulls_as: The identity with which its pods pull their images.
        owner: The responsible team or person from its labels; empty if they name none.
    """

    namespace: str
    kind: str
    name: str
    replicas: int
    template: Template
    requests: Resources = field(default_factory=Resources)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    settled: bool = True
    identity: str = ""
    obstacle: str = ""
    autoscaled: tuple[int, int] | None = None
    cpu_targets: tuple[str, ...] = ()
    containers: tuple[Container, ...] = ()
    pulls_as: PullIdentity | None = None
    owner: str = ""

    @property
    def key(self) -> str:
        """``namespace/Kind/name``, as in the settings."""
        return f"{self.namespace}/{self.kind}/{self.name}"

    def may_run_on(self, node: Node) -> bool:
        """Return whether its own rules and the node's taints permit its pods there, whatever the capacity."""
        template = self.template
        return admits(
            node,
            template.application_value("node-selector"),
            template.application_value("required"),
            self.tolerations,
        )


@dataclass(frozen=True, slots=True)
class Inventory:
    """The cluster at one moment.

    Attributes:
        workloads: The discovered workloads, by key.
        nodes: All nodes.
        pods: (key, architecture) to the number of live pods, of ``workloads`` and ``unsteered_workloads``.
            The architecture of pods without a node is "".
        unsteered_load: The number and requests of all pods outside ``workloads``, by architecture.
        unsteered_reasons: The key of a controller or bare pod that archshift does not steer to the reason.
        containers: A key of ``workloads`` or ``unsteered_reasons`` to all its containers: those of its
            template, and those that only its pods have, with the digests that run.
        pull_identities: The identities with which all these pods pull their images.
        unsteered_workloads: What archshift does not steer but the guard must know: controllers outside the
            discovery, pods of other owners, and pods that a rollout has not replaced yet
            (``namespace/Kind/name (last revision)``). Empty if it was not requested.
        loads: The name of a node to the requests of all its pods.
    """

    workloads: Mapping[str, Workload] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    pods: Mapping[tuple[str, str], int] = field(default_factory=dict)
    unsteered_load: Mapping[str, Resources] = field(default_factory=dict)
    unsteered_reasons: Mapping[str, str] = field(default_factory=dict)
    containers: Mapping[str, tuple[Container, ...]] = field(default_factory=dict)
    pull_identities: frozenset[PullIdentity] = frozenset()
    unsteered_workloads: Mapping[str, Workload] = field(default_factory=dict)
    loads: Mapping[str, Resources] = field(default_factory=dict)

    def sides(self, key: str) -> frozenset[Architecture]:
        """Return the sides where live pods of a workload run."""
        return frozenset(side for side in ARCHITECTURES if self.on(key, side))

    def on(self, key: str, architecture: str) -> int:
        """Return how many live pods of a workload run on an architecture."""
        return self.pods.get((key, architecture), 0)

    def special_nodes(self, key: str) -> str:
        """Return the special kind of the nodes of a workload's pods, such as ``windows``; empty for none.

        archshift never places pods on such nodes (``Node.architecture``).
        """
        return next((kind for kind in SPECIAL_NODES if self.on(key, kind)), "")


def taken_annotation(taken: Mapping[str, TakenField]) -> str:
    """Return the value of ``TAKEN_ANNOTATION``, as the inventory reads it."""
    return json.dumps(
        {
            name: {"manager": entry.owner.manager, "operation": entry.owner.operation, "value": entry.value}
            for name, entry in sorted(taken.items())
        },
        sort_keys=True,
        separators=(",", ":"),
    )
