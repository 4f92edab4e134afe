"""The cluster at one moment, as values: workloads, their pods, and what pods need of nodes."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from archshift.cluster.pod_fields import TakenField, Template
from archshift.cluster.scheduling import Condition, Unmet, meets, untolerated
from archshift.cluster.volumes import Claims, Sharing, Volumes
from archshift.common.architectures import ARCHITECTURES, Architecture
from archshift.common.kubernetes import SYSTEM_NAMESPACES
from archshift.common.resources import NOTHING, Resources, describe_amount
from archshift.images.workload import Container
from archshift.nodes.groups import SPECIAL_NODES, Node

if TYPE_CHECKING:
    # Pods are made of the types below.
    from archshift.cluster.pods import Pod

TAKEN_ANNOTATION: Final = "archshift/taken"
"""On a workload whose fields archshift took by force: their former values and owners, as JSON."""

MOST_MISSING: Final = 1000
"""The most missing pods of a workload that a plan counts."""

OWNER_LABELS: Final = ("owner", "team")
"""The labels that name who is responsible for a workload, with any prefix; the first one present counts."""


@dataclass(frozen=True, slots=True)
class Discovery:
    """Which workloads archshift looks at.

    Attributes:
        namespaces: Only these namespaces; empty means all but the system's.
        exclude: The keys (``namespace/Kind/name``) of workloads to leave out.
        label_selector: A Kubernetes label selector for the workloads; empty means all.
        autoscaled: Workload key to what the settings say about its autoscaler.
    """

    namespaces: tuple[str, ...] = ()
    exclude: frozenset[str] = frozenset()
    label_selector: str = ""
    autoscaled: Mapping[str, "Autoscaler"] = field(default_factory=dict)

    def covers(self, namespace: str) -> bool:
        """Return whether it looks at the workloads of a namespace."""
        if self.namespaces:
            return namespace in self.namespaces
        return namespace not in SYSTEM_NAMESPACES


@dataclass(frozen=True, slots=True, kw_only=True)
class Autoscaler:
    """What changes the replicas of a workload.

    Attributes:
        by: The object or the setting that says so, such as ``HorizontalPodAutoscaler web``.
        least: The fewest replicas that it sets; None if it is not known.
        most: The most replicas that it sets; None if it is not known.
        scaled_at: When it last changed the replicas, as the API server writes times; empty if not known.
    """

    by: str
    least: int | None = None
    most: int | None = None
    scaled_at: str = ""

    @property
    def fewest(self) -> int:
        """The fewest replicas that it may set."""
        return self.least or 0

    def most_pods(self, replicas: int) -> int:
        """Return the most pods of a workload that has so many replicas now, as far as it is known."""
        return max(replicas, self.most or 0)


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
        kind: One of ``kinds.CONTROLLERS``, or another owner of pods, which only its pods show.
        name: Its name.
        replicas: The wanted number of permanent pods; 0 for kinds without replicas.
        template: The placement fields of its pod template.
        requests: The requests of one pod, as the scheduler counts them.
        tolerations: The tolerations of its pods.
        system: The operating system of its pods.
        conditions: What nodes must meet beyond the placement fields of the template.
        pod_conditions: The conditions of the volumes of each pod of a StatefulSet; empty if there are none.
            A node must meet those of one pod.
        unshared: (claim, who can use it at the same time) if each rollout waits for a volume that old pods
            hold; otherwise None.
        scheduler: The scheduler of its pods if it is not the default scheduler; otherwise empty.
        device_claims: The names of its ResourceClaims. Nobody but the scheduler knows which nodes meet them.
        claims: The claims of its template.
        keeps_old_pods: Its rollouts keep old pods until new pods run.
        updated_pods: How many pods of the present template there are, if the status counts them; otherwise 0.
        pod_revision: The value of ``template.revision_label`` on pods of the present template, if known.
        settled: Whether no rollout is in progress and every pod is available.
        updated: Whether all its pods are known to be made from its present template.
        most_away: How many of its pods may be unavailable at once under its own rollout limits.
        one_side: All its pods belong on one side, because no label tells them from other pods. So no spread
            can keep a share of them.
        stuck: The controller's words if its rollout makes no progress; otherwise empty.
        identity: ``<uid>.<generation>``, shortened. It changes with every change of the spec.
        obstacle: Why a change of the template cannot move its pods; empty if it can.
        oversized: (wanted, existing) pods if more than ``MOST_MISSING`` are missing; ``replicas`` is then
            less than the wanted number. Otherwise None.
        autoscaled: What changes its replicas (``autoscalers.py`` is the definition); None if nothing does.
        cpu_targets: The autoscaler's CPU targets in words, such as ``70 % of the request``.
        containers: The containers of its pod template.
        pulls_as: The identity with which its pods pull their images.
        owner: The responsible team or person from its labels; empty if they name none.
        controlled_by: The object whose controller writes the workload, such as ``MetricStore main``; empty if
            none does.
        template_of: The object whose controller uses its pod template, such as ``Rollout checkout``.
    """

    namespace: str
    kind: str
    name: str
    replicas: int
    template: Template
    requests: Resources = field(default_factory=Resources)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    system: str = "linux"
    conditions: tuple[Condition, ...] = ()
    pod_conditions: tuple[tuple[Condition, ...], ...] = ()
    unshared: tuple[str, Sharing] | None = None
    scheduler: str = ""
    device_claims: tuple[str, ...] = ()
    claims: Claims = field(default_factory=Claims)
    keeps_old_pods: bool = False
    updated_pods: int = 0
    pod_revision: str = ""
    settled: bool = True
    updated: bool = False
    most_away: int = 1
    one_side: bool = False
    stuck: str = ""
    identity: str = ""
    obstacle: str = ""
    oversized: tuple[int, int] | None = None
    autoscaled: Autoscaler | None = None
    cpu_targets: tuple[str, ...] = ()
    containers: tuple[Container, ...] = ()
    pulls_as: PullIdentity | None = None
    owner: str = ""
    controlled_by: str = ""
    template_of: str = ""

    @property
    def key(self) -> str:
        """``namespace/Kind/name``, as in the settings."""
        return f"{self.namespace}/{self.kind}/{self.name}"

    @property
    def rules(self) -> str:
        """All that decides where it may run, as text. Workloads with equal rules fit the same nodes."""
        return json.dumps(
            [
                *self._own_rules(with_ours=False),
                self.tolerations,
                self.system,
                self.requests.devices,
                [[each.selector, each.required] for each in self.conditions],
                [[[each.selector, each.required] for each in pod] for pod in self.pod_conditions],
            ],
            sort_keys=True,
        )

    def may_run_on(self, node: Node) -> bool:
        """Return whether one of its next pods may run there, whatever the CPU and memory.

        archshift's own placement fields do not count.
        """
        return self.why_nowhere([node], each_pod=False) is None

    def why_nowhere(
        self, nodes: Iterable[Node], *, with_ours: bool = False, each_pod: bool = True
    ) -> Unmet | None:
        """Return why these nodes cannot run its next pods; None if they can.

        Args:
            nodes: The nodes.
            with_ours: Take the template as it is, including the fields that archshift set.
            each_pod: Whether each pod needs one of the nodes, or any pod is enough. They differ if the pods
                have volumes in several places.
        """
        selector, required = self._own_rules(with_ours=with_ours)
        checks = (
            self._untolerated,
            lambda node: None if meets(node, selector, required) else Unmet("own rules"),
            *(condition.unmet_by for condition in self.conditions),
            self._other_system,
            self._lacking_device,
        )
        remaining, unmet = _narrow(nodes, checks)
        if unmet:
            return unmet
        stuck = [
            unmet
            for pod in self.pod_conditions
            if (unmet := _narrow(remaining, [condition.unmet_by for condition in pod])[1])
        ]
        return stuck[0] if stuck and (each_pod or len(stuck) == len(self.pod_conditions)) else None

    def _own_rules(self, *, with_ours: bool) -> tuple[Any, Any]:
        template = self.template
        if with_ours:
            return template.spec.get("node-selector"), template.spec.get("required")
        return template.application_value("node-selector"), template.application_value("required")

    def _untolerated(self, node: Node) -> Unmet | None:
        taints = untolerated(node.lasting_taints, self.tolerations)
        return Unmet("taint", taints[0].key) if taints else None

    def _other_system(self, node: Node) -> Unmet | None:
        return None if node.system == self.system else Unmet("system", self.system)

    def _lacking_device(self, node: Node) -> Unmet | None:
        name = node.lacking_device(self.requests)
        return (
            Unmet("device", name, describe_amount(name, dict(self.requests.devices)[name])) if name else None
        )


def _narrow(
    nodes: Iterable[Node], checks: Iterable[Callable[[Node], Unmet | None]]
) -> tuple[list[Node], Unmet | None]:
    """Return the nodes that pass all checks. If none does, also return why the last check failed."""
    remaining = list(nodes)
    unmet: Unmet | None = None if remaining else Unmet("own rules")
    for check in checks:
        if not remaining:
            break
        problems = [(node, check(node)) for node in remaining]
        unmet = problems[0][1]
        remaining = [node for node, problem in problems if problem is None]
    return remaining, None if remaining else unmet


@dataclass(frozen=True, slots=True)
class Trouble:
    """Pods of a workload that do not run, or a rollout of it that makes no progress.

    Attributes:
        pending: The number of its pods without a node.
        failing: The number of its pods with a container that does not run.
        stuck: Whether its rollout makes no progress.
        words: Why, in the words of the scheduler, of a container or of the controller.
    """

    pending: int = 0
    failing: int = 0
    stuck: bool = False
    words: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedCanary:
    """A container that did not run on Graviton.

    Attributes:
        workload: The key of its workload.
        container: Its name.
        image: The reference of its image.
        words: Why it did not run, in the words of its node.
        digest: The digest that the registry gave for the reference at that time; empty if it is not known.
        running: The digest that the node reported; empty if it could not pull the image.
        at: When archshift saw it.
    """

    workload: str
    container: str
    image: str
    words: str
    digest: str = ""
    running: str = ""
    at: datetime

    @property
    def namespace(self) -> str:
        """The namespace of its workload."""
        return self.workload.split("/")[0]


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
        pull_identities: An image to the identities of the pods that pull it, all these pods together.
        unsteered_workloads: What archshift does not steer but the guard must know: controllers outside the
            discovery, pods of other owners, and pods that a rollout has not replaced yet
            (``namespace/Kind/name (last revision)``). Empty if it was not requested.
        outside_daemonsets: The DaemonSets outside the discovery, by key. Graviton nodes start them too.
        loads: The name of a node to the requests of all its pods.
        requested: As ``pods``, but the sum of the pods' requests.
        volumes: The claims and volumes of the cluster.
        troubles: A key of ``workloads`` to what is wrong with its pods or its rollout.
        unplaced: A key of ``workloads`` to when its pods were created that archshift's policy did not place.
            Empty if ``every_controller`` was not requested.
        waiting: A key of ``workloads`` to the entries by which its pods without a node were placed. Empty if
            ``every_controller`` was not requested.
        scaled_pods: The key of a workload to its pods that are not being deleted: of autoscaled workloads
            all, of others those with a deletion cost of archshift.
        costs_manager: This stack's name for deletion costs in ``managedFields``.
    """

    workloads: Mapping[str, Workload] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    pods: Mapping[tuple[str, str], int] = field(default_factory=dict)
    unsteered_load: Mapping[str, Resources] = field(default_factory=dict)
    unsteered_reasons: Mapping[str, str] = field(default_factory=dict)
    containers: Mapping[str, tuple[Container, ...]] = field(default_factory=dict)
    pull_identities: Mapping[str, frozenset[PullIdentity]] = field(default_factory=dict)
    unsteered_workloads: Mapping[str, Workload] = field(default_factory=dict)
    outside_daemonsets: Mapping[str, Workload] = field(default_factory=dict)
    loads: Mapping[str, Resources] = field(default_factory=dict)
    requested: Mapping[tuple[str, str], Resources] = field(default_factory=dict)
    volumes: Volumes = field(default_factory=Volumes)
    troubles: Mapping[str, Trouble] = field(default_factory=dict)
    unplaced: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    waiting: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scaled_pods: Mapping[str, "Sequence[Pod]"] = field(default_factory=dict)
    costs_manager: str = ""

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

    def requested_on(self, key: str, architecture: str) -> Resources:
        """Return the requests of a workload's live pods on an architecture."""
        return self.requested.get((key, architecture), NOTHING)


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
