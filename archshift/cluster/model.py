"""The cluster at one moment, as values: workloads, their pods, and what pods ask of nodes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from archshift.cluster.pod_fields import TakenField, Template
from archshift.cluster.scheduling import admits
from archshift.common.resources import Resources
from archshift.images.workload import Container
from archshift.nodes.groups import Node

TAKEN_ANNOTATION: Final = "archshift/taken"
"""On a workload whose fields were taken by force: what they were and whose, as JSON."""

OWNER_LABELS: Final = ("owner", "team")
"""Labels of a workload that say who answers for it, with any prefix; the first that is there counts."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Which workloads are archshift's business.

    Attributes:
        namespaces: Only these; empty for all but the system's.
        exclude: Keys ``namespace/Kind/name`` to leave out.
        label_selector: A Kubernetes label selector on the workloads; empty for all.
    """

    namespaces: tuple[str, ...] = ()
    exclude: frozenset[str] = frozenset()
    label_selector: str = ""


@dataclass(frozen=True, slots=True)
class PullIdentity:
    """As whom pods pull their images.

    Attributes:
        namespace: Where they run.
        service_account: Whose pull secrets count if they name none.
        secrets: The pull secrets they name.
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
        replicas: Standing pods wanted; 0 for a kind without such a number.
        template: The placement side of its pod template.
        requests: What one of its pods asks for.
        tolerations: Its pods' tolerations.
        settled: No rollout is under way and every pod is available.
        identity: ``<uid>.<generation>``, shortened: changes with every change of the spec.
        obstacle: Why its pods cannot be moved by a change of the template; empty if they can.
        autoscaled: (minimum, maximum) replicas where a HorizontalPodAutoscaler scales it.
        cpu_targets: The CPU that it is scaled to, in words, such as ``70 % of the request``.
        containers: What its pod template runs.
        pulls_as: As whom its pods pull their images.
        owner: Who answers for it, as its labels say; empty if they do not.
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
        """``namespace/Kind/name``, as in the config's overrides."""
        return f"{self.namespace}/{self.kind}/{self.name}"

    def may_run_on(self, node: Node) -> bool:
        """Whether its own rules and the node's taints let its pods run there, capacity aside."""
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
        workloads: Those discovered, by key.
        nodes: All nodes.
        pods: (key, architecture) to number of live pods, of ``workloads`` and ``unsteered_workloads``; "" for
            not placed yet.
        unsteered_load: Pods of no discovered workload, by architecture: number and requests.
        unsteered_reasons: Controllers and bare pods that archshift does not steer, with the reason.
        containers: Key of a workload or of one of ``unsteered_reasons`` to all that it runs: its template's
            containers, those that only its pods have, and the digests that run.
        pull_identities: As whom all these pull their images.
        unsteered_workloads: What archshift does not steer and the guard has to know all the same: controllers
            outside the discovery, pods of other owners, and pods that a rollout has not replaced yet
            (``namespace/Kind/name (last revision)``). Empty unless it was asked for.
        loads: Node name to what all pods on it ask for.
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

    def on(self, key: str, architecture: str) -> int:
        """Return how many live pods of a workload run on an architecture."""
        return self.pods.get((key, architecture), 0)


def taken_annotation(taken: Mapping[str, TakenField]) -> str:
    """Return the value of ``TAKEN_ANNOTATION``: the inverse of what the inventory reads."""
    return json.dumps(
        {
            name: {"manager": entry.owner.manager, "operation": entry.owner.operation, "value": entry.value}
            for name, entry in sorted(taken.items())
        },
        sort_keys=True,
        separators=(",", ":"),
    )
