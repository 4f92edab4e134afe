"""The kinds of workloads: one record each, with everything that differs between kinds.

Two copies are elsewhere; tests/cluster/test_kinds.py compares them. ``common/kubernetes.py`` names the
owners of pods for the ramp, which knows no workloads. ``policies/archshift_rules/kinds.py`` serves the
policy pack.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import Any, Final, Literal, TypeAlias

Object: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """A kind of object at the API server.

    Attributes:
        api_version: For example ``apps/v1``.
        plural: The name of the collection in paths and roles.
    """

    api_version: str
    plural: str

    @property
    def for_roles(self) -> str:
        """The name in roles and in kubectl: ``deployments.apps``."""
        group, slash, _ = self.api_version.rpartition("/")
        return f"{self.plural}.{group}" if slash else self.plural

    def collection(self, namespace: str = "") -> str:
        """Return the API path of a namespace's objects; without a namespace, of all objects."""
        root = "apis" if "/" in self.api_version else "api"
        where = f"namespaces/{namespace}/" if namespace else ""
        return f"/{root}/{self.api_version}/{where}{self.plural}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutLimit:
    """How many pods of a workload may be unavailable during a rollout.

    Attributes:
        strategy: The field of the spec that holds the limit.
        default: The limit of a spec without one: a number, or a share in percent.
        surge: The default of ``maxSurge``, which the controller rounds up; empty for kinds without it.
        rounds_up: The controller rounds a share up; otherwise it rounds down.
    """

    strategy: Literal["strategy", "updateStrategy"]
    default: str
    surge: str = ""
    rounds_up: bool = False

    def pods(self, spec: Object, replicas: int) -> int:
        """Return the number of pods."""
        strategy = spec.get(self.strategy) or {}
        if strategy.get("type") == "Recreate":
            return replicas
        rolling = strategy.get("rollingUpdate") or {}
        unavailable = _share(rolling.get("maxUnavailable", self.default), replicas, up=self.rounds_up)
        surge = self.more_pods(spec, replicas)
        # A rollout needs one of both. If both are 0, the controllers take one pod away
        # (ResolveFenceposts in k8s.io/kubernetes/pkg/controller/deployment/util).
        return min(replicas, unavailable or (0 if surge else 1))

    def more_pods(self, spec: Object, replicas: int) -> int:
        """Return how many pods more than its replicas a workload may have during a rollout."""
        strategy = spec.get(self.strategy) or {}
        if strategy.get("type") == "Recreate" or not self.surge:
            return 0
        rolling = strategy.get("rollingUpdate") or {}
        return _share(rolling.get("maxSurge", self.surge), replicas, up=True)


_DIGITS: Final = 10


def _share(limit: object, replicas: int, *, up: bool) -> int:
    text = str(limit)
    if not text.endswith("%"):
        return int(text)
    # The API server takes a surge with any number of digits, but Python does not.
    share = replicas * int(text[:-1][:_DIGITS])
    return ceil(share / 100) if up else share // 100


@dataclass(frozen=True, slots=True)
class RolloutCounts:
    """How far a rollout is, in pods.

    Attributes:
        wanted: The pods that the workload wants.
        total: Its pods, of all revisions.
        updated: Its pods of the present revision.
        available: Its available pods, of all revisions.
        seen: Whether the controller has seen the present spec.
    """

    wanted: int
    total: int
    updated: int
    available: int
    seen: bool

    @property
    def complete(self) -> bool:
        """Whether every pod has the present template and is available."""
        return self.seen and self.total == self.updated == self.available == self.wanted

    @property
    def score(self) -> tuple[bool, int, int, int]:
        """A value that grows with every progress of the rollout."""
        return self.seen, self.updated, self.updated - self.total, self.available

    def __str__(self) -> str:
        return f"{self.updated} of {self.wanted} pods updated, {self.available} available"


def _paused(spec: Object) -> str:
    return "its rollouts are paused (spec.paused)" if spec.get("paused") else ""


def observed(item: Object) -> bool:
    """Return whether an object's controller has seen its present spec; before, its status is an old one's."""
    seen = (item.get("status") or {}).get("observedGeneration", 0)
    return bool(seen >= item["metadata"].get("generation", 1))


def _condition(item: Object, name: str) -> Object:
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if observed(item) and one["type"] == name), {})


def _pods_refused(item: Object) -> str:
    refused = _condition(item, "ReplicaFailure")
    if refused.get("status") != "True":
        return ""
    return str(refused.get("message", "")) or "the API server refuses its pods"


def _deadline_exceeded(item: Object) -> str:
    progress = _condition(item, "Progressing")
    if progress.get("reason") != "ProgressDeadlineExceeded":
        return ""
    # Pods that the API server refuses do not exist, so only this condition has words for them.
    return _pods_refused(item) or str(progress.get("message", "")) or "its progress deadline is exceeded"


def _stopped(spec: Object) -> str:
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "OnDelete":
        return "its pods change only when deleted (updateStrategy OnDelete)"
    if (strategy.get("rollingUpdate") or {}).get("partition"):
        return "its rollouts stop at a partition (updateStrategy.rollingUpdate.partition)"
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadKind(Resource):
    """A kind of controller that archshift discovers.

    Attributes:
        pods: What decides the number of pods: ``replicas``, the selected ``nodes``, or ``jobs``.
        template_path: The path of the pod template.
        revision_label: The pod label that differs between revisions.
        through: The kind between the workload and its pods, such as ReplicaSet; empty if there is none.
        tested: archshift can test such workloads on arm64.
        rollout_limit: How many pods may be unavailable; None for kinds that archshift does not rebalance.
        status: The fields of the status that count all pods, updated pods and available pods; empty for kinds
            without rollouts.
        stuck: The controller's words if an object's rollout makes no progress; otherwise empty.
        refused: The controller's words if the API server refuses an object's new pods, for example because of
            a quota; otherwise empty.
        obstacle: Why a change of the template does not move the pods of a spec; empty if it does.
    """

    pods: Literal["replicas", "nodes", "jobs"] = "replicas"
    template_path: tuple[str, ...] = ("spec", "template")
    revision_label: str = "pod-template-hash"
    through: str = ""
    tested: bool = False
    rollout_limit: RolloutLimit | None = None
    status: tuple[str, ...] = ()
    stuck: Callable[[Object], str] = lambda _: ""
    refused: Callable[[Object], str] = lambda _: ""
    obstacle: Callable[[Object], str] = lambda _: ""

    def replicas(self, spec: Object) -> int:
        """Return the number of pods that a workload wants; 0 for kinds without replicas."""
        return int(spec.get("replicas", 1)) if self.pods == "replicas" else 0

    def template(self, item: Object) -> Object:
        """Return a workload's pod template."""
        for name in self.template_path:
            item = item[name]
        return item

    def maker_of(self, name: str, labels: Mapping[str, str]) -> str:
        """Return the name of the workload that created the owner of a pod; empty for another owner.

        Args:
            name: The name of the owner, whose kind is ``through``.
            labels: The pod's labels.
        """
        if self.through == "Job":
            # A CronJob calls its Jobs <name>-<scheduled minute>.
            cron_job, _, minute = name.rpartition("-")
            return cron_job if minute.isdecimal() else ""
        # A Deployment calls its ReplicaSets <name>-<hash> and labels the pods with the hash. So archshift
        # does not have to list ten old ReplicaSets for each Deployment.
        revision = labels.get(self.revision_label)
        suffix = f"-{revision}"
        return name.removesuffix(suffix) if revision and name.endswith(suffix) else ""

    def counts(self, item: Object) -> RolloutCounts | None:
        """Return how far an object's rollout is; None for kinds without rollouts."""
        if not self.status:
            return None
        status = item.get("status") or {}
        by_node = self.pods == "nodes"
        wanted = status.get("desiredNumberScheduled", 0) if by_node else self.replicas(item["spec"])
        total, updated, available = (int(status.get(name, 0)) for name in self.status)
        return RolloutCounts(int(wanted), total, updated, available, observed(item))

    def settled(self, item: Object) -> bool:
        """Return whether an object has no rollout in progress and all its pods are available."""
        counts = self.counts(item)
        return counts is None or counts.complete

    def updated(self, item: Object) -> bool:
        """Return whether all pods of an object are made from its present template, available or not.

        False where the status does not tell.
        """
        counts = self.counts(item)
        return counts is not None and counts.seen and counts.updated == counts.total

    def halted(self, spec: Object) -> str:
        """Return why a spec stops a rollout before its end; empty if it does not."""
        return _paused(spec) or _stopped(spec)

    def surge(self, spec: Object) -> int:
        """Return how many pods more than its replicas a workload may have during a rollout."""
        return self.rollout_limit.more_pods(spec, self.replicas(spec)) if self.rollout_limit else 0

    def most_away(self, spec: Object) -> int:
        """Return how many pods may be unavailable at once under the workload's own rollout limits."""
        return self.rollout_limit.pods(spec, self.replicas(spec)) if self.rollout_limit else 0

    def may_be_away(self, live: Object) -> int:
        """Return how many more pods may be unavailable under the workload's own rollout limits."""
        spec = live["spec"]
        available = int((live.get("status") or {}).get("availableReplicas", 0))
        return available - (self.replicas(spec) - self.most_away(spec))

    def ends_all_first(self, spec: Object) -> bool:
        """Return whether a rollout ends all old pods before the first new one starts (Recreate)."""
        limit = self.rollout_limit
        return limit is not None and (spec.get(limit.strategy) or {}).get("type") == "Recreate"


_REPLICAS: Final = ("replicas", "updatedReplicas", "availableReplicas")

CONTROLLERS: Final[Mapping[str, WorkloadKind]] = {
    "Deployment": WorkloadKind(
        api_version="apps/v1",
        plural="deployments",
        through="ReplicaSet",
        tested=True,
        rollout_limit=RolloutLimit(strategy="strategy", default="25%", surge="25%"),
        status=_REPLICAS,
        stuck=_deadline_exceeded,
        refused=_pods_refused,
        obstacle=_paused,
    ),
    "StatefulSet": WorkloadKind(
        api_version="apps/v1",
        plural="statefulsets",
        revision_label="controller-revision-hash",
        tested=True,
        rollout_limit=RolloutLimit(strategy="updateStrategy", default="1", rounds_up=True),
        status=_REPLICAS,
        obstacle=_stopped,
    ),
    "DaemonSet": WorkloadKind(
        api_version="apps/v1",
        plural="daemonsets",
        pods="nodes",
        status=("currentNumberScheduled", "updatedNumberScheduled", "numberAvailable"),
    ),
    "CronJob": WorkloadKind(
        api_version="batch/v1",
        plural="cronjobs",
        pods="jobs",
        template_path=("spec", "jobTemplate", "spec", "template"),
        through="Job",
    ),
}
"""Kind to its record."""

UNREAD: Final[Mapping[str, WorkloadKind]] = {
    "Rollout": WorkloadKind(
        api_version="argoproj.io/v1alpha1",
        plural="rollouts",
        revision_label="rollouts-pod-template-hash",
        through="ReplicaSet",
    ),
}
"""Kinds whose objects archshift does not read. Their pods name them, by the ReplicaSets between."""

TESTED_KINDS: Final = tuple(name for name, kind in CONTROLLERS.items() if kind.tested)

SCALED: Final[Mapping[str, Resource]] = {
    "ReplicaSet": Resource(api_version="apps/v1", plural="replicasets"),
    "StatefulSet": CONTROLLERS["StatefulSet"],
    "ReplicationController": Resource(api_version="v1", plural="replicationcontrollers"),
}
"""Kinds that own pods and have a number of replicas."""

_MAKERS: Final = {
    through: tuple(
        (name, kind) for name, kind in (*CONTROLLERS.items(), *UNREAD.items()) if kind.through == through
    )
    for through in sorted({kind.through for kind in CONTROLLERS.values()})
    if through
}


def workload_path(kind: str, namespace: str, name: str) -> str:
    """Return the API path of one workload."""
    return f"{CONTROLLERS[kind].collection(namespace)}/{name}"


def on_every_node(kind: str) -> bool:
    """Return whether a controller runs one pod on each selected node, like a DaemonSet."""
    return kind in CONTROLLERS and CONTROLLERS[kind].pods == "nodes"


def has_replicas(kind: str) -> bool:
    """Return whether a controller has a number of replicas."""
    return kind in CONTROLLERS and CONTROLLERS[kind].pods == "replicas"


def controller_of(kind: str, name: str, labels: Mapping[str, str]) -> tuple[str, str]:
    """Return the kind and name of the workload that a pod belongs to.

    Args:
        kind: The kind of the pod's owner.
        name: The name of the pod's owner.
        labels: The pod's labels.
    """
    for maker, record in _MAKERS.get(kind, ()):
        if made_by := record.maker_of(name, labels):
            return maker, made_by
    return kind, name
