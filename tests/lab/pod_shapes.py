"""Pods of every shape that decides where they may run, in random combinations.

Plain randomness and not hypothesis: each shape has to occur among some thousand pods, and hypothesis repeats
parts of earlier examples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Any, Final

from archshift.cluster.entries import PLACED_ANNOTATION
from archshift.common.architectures import AMD64, ARM64

Manifest = dict[str, Any]
Labels = dict[str, str]

ARCH, BETA_ARCH, OS = "kubernetes.io/arch", "beta.kubernetes.io/arch", "kubernetes.io/os"
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

GRAVITON_PAIRS = ("pool=graviton", "disk=nvme", "disk=fast")
"""The labels that only Graviton nodes have."""

MISSING: Final = "missing"
"""The value of a field that the manifest does not name, unlike null."""


def _expression(key: str, operator: str, *values: str) -> Manifest:
    return {"key": key, "operator": operator, **({"values": [*values]} if values else {})}


ARCH_RULES = (
    ("In", AMD64),
    ("In", ARM64),
    ("In", AMD64, ARM64),
    ("In", AMD64, ARM64, "s390x"),
    ("In", "s390x"),
    ("NotIn", AMD64),
    ("NotIn", "s390x"),
    ("Exists",),
    ("DoesNotExist",),
    ("Gt", "3"),
)
ARCH_EXPRESSIONS = tuple(_expression(key, *rule) for key in (ARCH, BETA_ARCH) for rule in ARCH_RULES)
OTHER_EXPRESSIONS = (
    _expression(ZONE, "In", "eu-west-1a"),
    _expression("pool", "In", "graviton"),
    _expression("pool", "In", "graviton", "x86"),
    _expression("pool", "NotIn", "graviton"),
    _expression("pool", "Exists"),
    _expression("disk", "In", "nvme", "fast"),
    _expression("disk", "Exists"),
    _expression("generation", "Gt", "6"),
    _expression("generation", "DoesNotExist"),
    _expression(OS, "In", "windows"),
    _expression(OS, "In", "linux"),
    _expression(OS, "In", "windows", "linux"),
    _expression(OS, "NotIn", "windows"),
)
BY_NAME = [_expression("metadata.name", "In", "node-1")]
POD_TERM = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "cart"}}}
POD_AFFINITIES: Sequence[Any] = (
    MISSING,
    MISSING,
    None,
    {},
    {PREFERRED: [{"weight": 5, "podAffinityTerm": POD_TERM}]},
    {PREFERRED: [], REQUIRED: [POD_TERM]},
)
SPREAD_SELECTORS: Sequence[Manifest] = (
    {},
    {"labelSelector": None},
    {"labelSelector": {}},
    {"labelSelector": {"matchLabels": {"app": "cart"}}},
    {"labelSelector": {"matchLabels": {"app": "cart"}}, "matchLabelKeys": ["tier"]},
    {"labelSelector": {}, "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor"},
)
TOLERATIONS: Sequence[Any] = (
    MISSING,
    MISSING,
    None,
    [],
    [{"operator": "Exists"}],
    [{"key": "team", "operator": "Equal", "value": "shop", "effect": "NoSchedule"}],
    # Larger than what a number of JSON holds exactly.
    [{"key": "gone", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2**63 - 1}],
    [{"key": "archshift/arm64", "operator": "Exists", "effect": "PreferNoSchedule"}],
    [
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
    ],
)
SELECTORS: Sequence[Any] = (
    *(MISSING, None, {}) * 3,
    *({"pool": "x86", "team": "shop"}, {"team": "shop"}, {OS: "linux"}) * 2,
    {"pool": "graviton"},
    {"disk": "nvme", "pool": "x86"},
    {OS: "windows"},
    {OS: ""},
    {ARCH: AMD64},
    {BETA_ARCH: ARM64},
)
ANNOTATIONS: Sequence[Any] = (
    MISSING,
    None,
    {},
    {"team": "shop"},
    {PLACED_ANNOTATION: "all on s390x", "team": "shop"},
)
SYSTEMS: Sequence[Any] = (*(MISSING,) * 9, None, {"name": "linux"}, {"name": "windows"})

OWNERS: Mapping[str, Callable[[str, str], tuple[str, str, Labels]]] = {
    "Deployment": lambda name, hash_: ("ReplicaSet", f"{name}-{hash_}", {"pod-template-hash": hash_}),
    "Rollout": lambda name, hash_: (
        "ReplicaSet",
        f"{name}-{hash_}",
        {"rollouts-pod-template-hash": hash_},
    ),
    "Deployment and Rollout": lambda name, hash_: (
        "ReplicaSet",
        f"{name}-{hash_}",
        {"rollouts-pod-template-hash": hash_, "pod-template-hash": hash_},
    ),
    "Rollout with a Deployment's label": lambda name, hash_: (
        "ReplicaSet",
        f"{name}-{hash_}",
        {"rollouts-pod-template-hash": hash_, "pod-template-hash": "other"},
    ),
    "ReplicaSet": lambda name, _: ("ReplicaSet", name, {}),
    "ReplicaSet with another name": lambda name, hash_: ("ReplicaSet", name, {"pod-template-hash": hash_}),
    "ReplicaSet that ends like its hash": lambda name, hash_: (
        "ReplicaSet",
        f"{name}x{hash_}",
        {"pod-template-hash": hash_},
    ),
    "ReplicaSet with an empty hash": lambda name, _: ("ReplicaSet", f"{name}-", {"pod-template-hash": ""}),
    "ReplicaSet of only a hash": lambda _, hash_: (
        "ReplicaSet",
        f"-{hash_}",
        {"pod-template-hash": hash_},
    ),
    "ReplicaSet with a StatefulSet's label": lambda name, hash_: (
        "ReplicaSet",
        name,
        {"controller-revision-hash": hash_},
    ),
    "StatefulSet": lambda name, hash_: (
        "StatefulSet",
        name,
        {
            "controller-revision-hash": f"{name}-{hash_}",
            "statefulset.kubernetes.io/pod-name": f"{name}-0",
            "apps.kubernetes.io/pod-index": "0",
        },
    ),
    "StatefulSet without a revision": lambda name, _: ("StatefulSet", name, {}),
    "StatefulSet with a long name": lambda name, _: ("StatefulSet", f"{name}-{'x' * 240}", {}),
    "Job": lambda name, _: ("Job", name, {"job-name": name}),
    "CronJob": lambda name, _: ("Job", f"{name}-29365440", {}),
    "Job of only a minute": lambda _, __: ("Job", "-29365440", {}),
    "MetricStore": lambda name, _: ("MetricStore", name, {}),
    "MetricStore with a revision": lambda name, hash_: (
        "MetricStore",
        name,
        {"controller-revision-hash": hash_},
    ),
    "DaemonSet": lambda name, hash_: ("DaemonSet", name, {"controller-revision-hash": hash_}),
    "nobody": lambda _, __: ("", "", {}),
}
"""The shapes of a pod's owner: its kind, its name, and the labels that it gives to its pods."""

_COMMON_OWNERS = ("Deployment", "StatefulSet", "ReplicaSet", "nobody")


class Shapes:
    """Makes pods.

    `names` are those of the workloads that have entries.
    """

    def __init__(self, random: Random, names: Sequence[str]) -> None:
        self._random, self._names = random, names

    def one(self, values: Sequence[Any]) -> Any:
        """One of the values."""
        return self._random.choice(values)

    def pod(self) -> Manifest:
        """A pod as somebody would create it."""
        spec = {
            "affinity": self._often(self._affinity, MISSING, None, {}),
            "nodeName": self.one((*(MISSING,) * 18, "", "node-1")),
            "nodeSelector": self.one(SELECTORS),
            "os": self.one(SYSTEMS),
            "tolerations": self.one(TOLERATIONS),
            "topologySpreadConstraints": self._often(self._spreads, MISSING, MISSING, None, []),
        }
        containers = [{"name": "app", "image": "registry.example/app:1"}]
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": self._metadata(),
            "spec": {"containers": containers, **_present(spec)},
        }

    def _often(self, make: Callable[[], Any], *others: Any) -> Any:
        """What `make` makes; two times in five, one of the others."""
        return make() if self._random.random() < 0.6 else self.one(others)

    def _metadata(self) -> Manifest:
        name = self.one(("unknown", *(self.one(self._names),) * 12))
        shape = self.one((*OWNERS, *_COMMON_OWNERS * 3))
        kind, owner, labels = OWNERS[shape](name, self.one(("6d4f8c9b7", "5")))
        labels = self.one(({}, {"app": "cart"}, {"app": "cart", "tier": "web", "a.example/b": ""})) | labels
        return {"generateName": "pod-"} | _present(
            {
                "annotations": self.one(ANNOTATIONS),
                "labels": labels or self.one((MISSING, None, {})),
                "ownerReferences": self._references(kind, owner) if kind else self.one((MISSING, None, [])),
            }
        )

    def _references(self, kind: str, name: str) -> list[Manifest]:
        controller = self.one((*(True,) * 12, False, MISSING))
        reference = {
            "apiVersion": "apps/v1",
            "kind": kind,
            "name": name,
            "uid": "7",
            "controller": controller,
        }
        other = {"apiVersion": "v1", "kind": "ConfigMap", "name": "settings", "uid": "1"}
        return [other, _present(reference)][self.one((0, 1)) :]

    def _affinity(self) -> Manifest:
        return _present(
            {
                "nodeAffinity": self._often(self._node_affinity, MISSING, None, {}),
                "podAffinity": self.one(POD_AFFINITIES),
                "podAntiAffinity": self.one(POD_AFFINITIES),
            }
        )

    def _node_affinity(self) -> Manifest:
        return _present(
            {
                REQUIRED: self._often(self._required, MISSING, None),
                PREFERRED: self._often(self._preferred, MISSING, None, []),
            }
        )

    def _required(self) -> Manifest:
        expressions = self.one((ARCH_EXPRESSIONS, OTHER_EXPRESSIONS, ARCH_EXPRESSIONS + OTHER_EXPRESSIONS))
        return {"nodeSelectorTerms": [self._term(expressions) for _ in range(self.one((1, 1, 2, 3)))]}

    def _preferred(self) -> list[Manifest]:
        count = self.one((1, 1, 2, 3, 5, 24, 25, 26, 40))
        first = self._preference()
        return [first if number % 4 else self._preference() for number in range(count)]

    def _preference(self) -> Manifest:
        weight = self.one((1, 2, 3, 7, 10, 33, 50, 99, 100))
        return {"weight": weight, "preference": self._term(ARCH_EXPRESSIONS + OTHER_EXPRESSIONS)}

    def _term(self, expressions: Sequence[Manifest]) -> Manifest:
        own = [self.one(expressions) for _ in range(self.one((1, 1, 1, 2)))]
        return _present(
            {
                "matchExpressions": self.one((*(own,) * 6, MISSING, None, [])),
                "matchFields": self.one((*(MISSING,) * 6, None, [], BY_NAME)),
            }
        )

    def _spreads(self) -> list[Manifest]:
        keys = self._random.sample(
            [
                (key, when)
                for key in (ZONE, HOST, "rack", ARCH)
                for when in ("ScheduleAnyway", "DoNotSchedule")
            ],
            self.one((1, 1, 2, 3)),
        )
        return [
            {
                "topologyKey": key,
                "whenUnsatisfiable": when,
                "maxSkew": self.one((1, 2, 5)),
                **self.one(SPREAD_SELECTORS),
            }
            for key, when in keys
        ]


def _present(fields: Mapping[str, Any]) -> Manifest:
    return {key: value for key, value in fields.items() if value is not MISSING}
