"""The policy's expression says what `place` says: a real API server admits thousands of pods of every shape.

The API server runs each pod through the policy, in a dry run. The reference writes the fields of `place` into
the same pod, and has it admitted in a namespace without entries. Both pods must be equal. The policy under
test refuses a pod if its expression fails, so that no error passes unseen.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from archshift.cluster.client import Cluster, RefusedError, connect
from archshift.cluster.entries import (
    GRAVITON_LABELS,
    LEFT_ALONE,
    NO_ZONES,
    OTHERS,
    PLACED_ANNOTATION,
    Entry,
    entry_key,
)
from archshift.cluster.pod_fields import (
    SPREADS,
    Template,
    has_soft_rules,
    is_ours,
    pinned_architecture,
)
from archshift.cluster.pods import Pod, read_pod
from archshift.common.architectures import AMD64, ARM64
from archshift.plan.admission import BINDINGS, CONFIG_MAPS, MAKERS, POLICIES, binding, policy
from archshift.plan.placement import OTHER_WEIGHT, place
from lab.control_plane import CONTEXT, Lab
from tests.lab.lab_helpers import wait_for

CASES = int(os.environ.get("ADMISSION_CASES", "2000"))
"""How many pods are admitted; a longer run sets the variable, and then each run has other pods."""

CONNECTIONS = 4

Manifest = dict[str, Any]

ARCH, BETA_ARCH, OS = "kubernetes.io/arch", "beta.kubernetes.io/arch", "kubernetes.io/os"
ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"

# --- the entries ---------------------------------------------------------------------------------

SHARES = [(1, 2), (1, 3), (2, 3), (4, 20), (10, 20), (19, 20), (3, 33), (998, 1000), (1, 999_999_999)]
ENTRIES = (
    *("all on amd64", "all on arm64") * 4,
    *(f"{graviton} of {replicas} on arm64" for graviton, replicas in SHARES * 5),
    *(f"{graviton} of {replicas} on arm64 prefer amd64" for graviton, replicas in SHARES[:4]),
    *(f"{graviton} of {replicas} on arm64 prefer arm64" for graviton, replicas in SHARES[:4]),
    LEFT_ALONE,
    "",
    "007 of 020 on arm64",
    "0 of 4 on arm64",
    "4 of 4 on arm64",
    "5 of 4 on arm64",
    "4 of 20",
    "4 of 20 on amd64",
    "4 of 20 on arm64 prefer",
    "4 of 20 on arm64 prefer s390x",
    "4 of 20 on arm64 prefer  amd64",
    "4  of 20 on arm64",
    "-1 of 4 on arm64",
    "1.5 of 4 on arm64",
    "1 of 1234567890 on arm64",
    "\uff14 of 20 on arm64",
    "all on s390x",
    "All on arm64",
    "all on arm64\n",
    "4 of 20 on arm64\n",
    " all on amd64",
    '{"graviton": 4}',
)

NAMES = tuple(
    ("w{}", "w-{}", "w.{}.example", "w-{}-app")[number % 4].format(number) for number in range(len(ENTRIES))
)

KINDS = ("Deployment", "Rollout", "StatefulSet", "ReplicaSet", "CronJob", "Job", "MetricStore", "DaemonSet")

GRAVITON_PAIRS = "pool=graviton disk=nvme disk=fast"

CONFIG: Mapping[str, Mapping[str, str]] = {
    "plain": {OTHERS: "all on amd64", GRAVITON_LABELS: GRAVITON_PAIRS},
    "nozones": {OTHERS: "all on amd64", NO_ZONES: "", GRAVITON_LABELS: f"  {GRAVITON_PAIRS}   "},
    "noothers": {NO_ZONES: "true", GRAVITON_LABELS: ""},
    "otherarm": {OTHERS: "all on arm64"},
    "oddothers": {OTHERS: "4 of 20 on arm64", GRAVITON_LABELS: "pool\n=graviton"},
}
"""The keys of a ConfigMap beside the entries, by the kind of namespace."""

EMPTY = ("nodata", "binary")
"""The namespaces whose ConfigMap has no data."""


def data_of(space: str) -> Mapping[str, str]:
    """The data of a namespace's ConfigMap."""
    if space in EMPTY:
        return {}
    keys = itertools.product(KINDS, zip(NAMES, ENTRIES, strict=True))
    return {**{entry_key(kind, name): text for kind, (name, text) in keys}, **CONFIG[space]}


DATA = {space: data_of(space) for space in (*CONFIG, *EMPTY)}


# --- the pods ------------------------------------------------------------------------------------


def maybe(*values: Any) -> st.SearchStrategy[Any]:
    """One of a few values, the earlier ones more often."""
    return st.sampled_from([value for index, value in enumerate(values) for _ in range(len(values) - index)])


def _expression(key: str, operator: str, *values: str) -> Manifest:
    return {"key": key, "operator": operator, **({"values": [*values]} if values else {})}


ARCH_EXPRESSIONS = st.builds(
    lambda key, rest: _expression(key, *rest),
    st.sampled_from([ARCH, BETA_ARCH]),
    st.sampled_from(
        [
            ("In", AMD64),
            ("In", ARM64),
            ("In", AMD64, ARM64),
            ("In", AMD64, ARM64),
            ("In", "s390x"),
            ("NotIn", AMD64),
            ("NotIn", "s390x"),
            ("Exists",),
            ("DoesNotExist",),
            ("Gt", "3"),
        ]
    ),
)
OTHER_EXPRESSIONS = st.sampled_from(
    [
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
        _expression(OS, "NotIn", "linux"),
    ]
)
BY_NAME = st.just([_expression("metadata.name", "In", "node-1")])


def _term(expressions: Any, fields: Any) -> Manifest:
    term = {"matchExpressions": expressions, "matchFields": fields}
    return {key: value for key, value in term.items() if value != "missing"}


def terms(expressions: st.SearchStrategy[Manifest]) -> st.SearchStrategy[Manifest]:
    """Terms of a node selector, some of them empty."""
    return st.builds(
        _term,
        st.lists(expressions, min_size=1, max_size=2) | st.sampled_from(["missing", None, []]),
        st.sampled_from(["missing", "missing", "missing", None, []]) | BY_NAME,
    )


REQUIRED_TERMS = st.lists(terms(OTHER_EXPRESSIONS), min_size=1, max_size=3) | st.lists(
    terms(ARCH_EXPRESSIONS | OTHER_EXPRESSIONS), min_size=1, max_size=3
)
PREFERENCES = st.builds(
    lambda weight, term: {"weight": weight, "preference": term},
    st.sampled_from([1, 2, 3, 7, 10, 33, 50, 99, 100]),
    terms(OTHER_EXPRESSIONS | ARCH_EXPRESSIONS),
)
PREFERENCE_LISTS = (
    st.lists(PREFERENCES, max_size=5)
    | st.builds(lambda one, count: [one] * count, PREFERENCES, st.sampled_from([12, 24, 25, 26, 40]))
    | st.none()
)
POD_TERM = {"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "cart"}}}
POD_AFFINITIES = maybe(
    "missing",
    None,
    {},
    {PREFERRED: [{"weight": 5, "podAffinityTerm": POD_TERM}]},
    {PREFERRED: [], REQUIRED: [POD_TERM]},
)


def _present(**fields: Any) -> Manifest:
    return {key: value for key, value in fields.items() if not isinstance(value, str) or value != "missing"}


NODE_AFFINITIES = st.builds(
    lambda required, preferred: _present(**{REQUIRED: required, PREFERRED: preferred}),
    st.sampled_from(["missing", "missing", None])
    | st.builds(lambda those: {"nodeSelectorTerms": those}, REQUIRED_TERMS),
    st.just("missing") | PREFERENCE_LISTS | PREFERENCE_LISTS,
)
AFFINITIES: st.SearchStrategy[Any] = st.sampled_from(["missing", "missing", None, {}]) | st.builds(
    lambda node, pod, anti: _present(nodeAffinity=node, podAffinity=pod, podAntiAffinity=anti),
    st.sampled_from(["missing", None, {}]) | NODE_AFFINITIES | NODE_AFFINITIES | NODE_AFFINITIES,
    POD_AFFINITIES,
    POD_AFFINITIES,
)
SPREAD_SELECTORS = st.sampled_from(
    [
        {},
        {"labelSelector": None},
        {"labelSelector": {}},
        {"labelSelector": {"matchLabels": {"app": "cart"}}},
        {"labelSelector": {"matchLabels": {"app": "cart"}}, "matchLabelKeys": ["tier"]},
        {"labelSelector": {}, "nodeAffinityPolicy": "Ignore", "nodeTaintsPolicy": "Honor"},
    ]
)
SPREAD_LISTS: st.SearchStrategy[Any] = st.sampled_from(
    ["missing", "missing", "missing", None, []]
) | st.lists(
    st.builds(
        lambda key, when, skew, more: {
            "topologyKey": key,
            "whenUnsatisfiable": when,
            "maxSkew": skew,
            **more,
        },
        maybe(ZONE, HOST, "rack", ARCH),
        st.sampled_from(["ScheduleAnyway", "DoNotSchedule"]),
        st.integers(1, 5),
        SPREAD_SELECTORS,
    ),
    max_size=3,
    unique_by=lambda spread: (spread["topologyKey"], spread["whenUnsatisfiable"]),
)
TOLERATIONS = st.sampled_from(
    [
        "missing",
        "missing",
        None,
        [],
        [{"operator": "Exists"}],
        [{"key": "team", "operator": "Equal", "value": "shop", "effect": "NoSchedule"}],
        # Larger than what JSON's numbers hold exactly.
        [{"key": "gone", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 2**63 - 1}],
        [{"key": "archshift/arm64", "operator": "Exists", "effect": "PreferNoSchedule"}],
        [
            {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute"},
            {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute"},
        ],
    ]
)
SELECTORS = maybe(
    "missing",
    None,
    {},
    {"pool": "x86", "team": "shop"},
    {"team": "shop"},
    {"pool": "graviton"},
    {"disk": "nvme", "pool": "x86"},
    {OS: "linux"},
    {OS: "windows"},
    {ARCH: AMD64},
    {BETA_ARCH: ARM64},
)
ANNOTATIONS = st.sampled_from(
    ["missing", None, {}, {"team": "shop"}, {PLACED_ANNOTATION: "all on s390x", "team": "shop"}]
)
SYSTEMS = st.sampled_from(["missing"] * 6 + [None, {"name": "linux"}, {"name": "windows"}])
NODE_NAMES = st.sampled_from(["missing"] * 15 + ["", "node-1"])

Labels = dict[str, str]


OWNERS: Mapping[str, Callable[[str, str], tuple[str, str, Labels]]] = {
    "Deployment": lambda name, revision: (
        "ReplicaSet",
        f"{name}-{revision}",
        {"pod-template-hash": revision},
    ),
    "Rollout": lambda name, revision: (
        "ReplicaSet",
        f"{name}-{revision}",
        {"rollouts-pod-template-hash": revision},
    ),
    "Deployment and Rollout": lambda name, revision: (
        "ReplicaSet",
        f"{name}-{revision}",
        {"rollouts-pod-template-hash": revision, "pod-template-hash": revision},
    ),
    "Rollout with the label of another": lambda name, revision: (
        "ReplicaSet",
        f"{name}-{revision}",
        {"rollouts-pod-template-hash": revision, "pod-template-hash": "other"},
    ),
    "ReplicaSet": lambda name, _: ("ReplicaSet", name, {}),
    "ReplicaSet with a foreign hash": lambda name, revision: (
        "ReplicaSet",
        name,
        {"pod-template-hash": revision},
    ),
    "ReplicaSet with an empty hash": lambda name, _: ("ReplicaSet", f"{name}-", {"pod-template-hash": ""}),
    "ReplicaSet of only a hash": lambda _, revision: (
        "ReplicaSet",
        f"-{revision}",
        {"pod-template-hash": revision},
    ),
    "ReplicaSet with a revision of pods": lambda name, revision: (
        "ReplicaSet",
        name,
        {"controller-revision-hash": revision},
    ),
    "StatefulSet": lambda name, revision: (
        "StatefulSet",
        name,
        {
            "controller-revision-hash": f"{name}-{revision}",
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
    "MetricStore with a revision": lambda name, revision: (
        "MetricStore",
        name,
        {"controller-revision-hash": revision},
    ),
    "DaemonSet": lambda name, revision: ("DaemonSet", name, {"controller-revision-hash": revision}),
}
"""The shapes of a pod's owner: its kind, its name, and the labels that it gives to its pods."""


@dataclass(frozen=True)
class Case:
    """A pod, and the namespace where somebody makes it."""

    space: str
    pod: Manifest

    def __str__(self) -> str:
        return f"in {self.space}: {json.dumps(self.pod)}"


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """A pod of any shape in any of the namespaces."""
    metadata: Manifest = {"generateName": "pod-"}
    labels = draw(st.sampled_from([{}, {"app": "cart"}, {"app": "cart", "tier": "web", "a.example/b": ""}]))
    shape = draw(st.sampled_from([*OWNERS, *("Deployment", "StatefulSet", "ReplicaSet") * 3, "none"]))
    if shape != "none":
        known = draw(st.sampled_from([True] * 11 + [False]))
        name = draw(st.sampled_from(NAMES)) if known else "unknown"
        kind, owner, more = OWNERS[shape](name, draw(st.sampled_from(["6d4f8c9b7", "5"])))
        labels = {**labels, **more}
        controller = draw(st.sampled_from([True] * 8 + [False, "missing"]))
        reference = _present(
            apiVersion="apps/v1", kind=kind, name=owner, uid=str(uuid.UUID(int=7)), controller=controller
        )
        first = {"apiVersion": "v1", "kind": "ConfigMap", "name": "settings", "uid": "1"}
        metadata["ownerReferences"] = draw(st.sampled_from([[reference], [first, reference]]))
    else:
        metadata |= _present(ownerReferences=draw(st.sampled_from(["missing", None, []])))
    metadata |= _present(
        labels=labels or draw(st.sampled_from(["missing", None, {}])), annotations=draw(ANNOTATIONS)
    )
    spec = _present(
        affinity=draw(AFFINITIES),
        nodeName=draw(NODE_NAMES),
        nodeSelector=draw(SELECTORS),
        os=draw(SYSTEMS),
        tolerations=draw(TOLERATIONS),
        topologySpreadConstraints=draw(SPREAD_LISTS),
    )
    containers = [{"name": "app", "image": "registry.example/app:1"}]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {"containers": containers, **spec},
    }
    return Case(draw(st.sampled_from([*CONFIG, *CONFIG, *EMPTY])), pod)


def generated(count: int) -> list[Case]:
    """So many different pods. Always the same ones, unless somebody wants another number."""
    found: dict[str, Case] = {}

    @settings(
        database=None,
        deadline=None,
        derandomize="ADMISSION_CASES" not in os.environ,
        max_examples=2 * count,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(cases())
    def collect(case: Case) -> None:
        if len(found) < count:
            found[str(case)] = case

    collect()
    return [*found.values()]


# --- the reference -------------------------------------------------------------------------------


class Reference:
    """What the policy has to do with a pod, by `place`; it counts which shapes occur."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def of(self, case: Case) -> Manifest:
        """The pod with the fields and the annotation that it has to get."""
        data = DATA[case.space]
        item = copy.deepcopy(case.pod)
        item["metadata"] |= {"namespace": "shop", "name": "pod"}
        pod = read_pod(item)
        text = self._entry(pod, data)
        fields = self._fields(item, pod, text, data) if text else None
        wanted = copy.deepcopy(case.pod)
        if fields is None:
            return wanted
        _write(wanted["spec"], fields)
        annotations = wanted["metadata"].get("annotations")
        self._see("annotations" if annotations else "no annotations")
        wanted["metadata"]["annotations"] = {**(annotations or {}), PLACED_ANNOTATION: text}
        return wanted

    def _see(self, *shapes: str) -> None:
        self.seen.update(shapes)

    def _entry(self, pod: Pod, data: Mapping[str, str]) -> str:
        """The text that decides about a pod; empty if nothing does."""
        if pod.tied or pod.node:
            self._see("DaemonSet" if pod.tied else "node name")
            return ""
        if pinned := pinned_architecture(Template(spec=pod.rules)):
            self._see(f"decides by {pinned[1]}")
            return ""
        _, kind, name = workload_of(pod).split("/")
        if (key := entry_key(kind, name)) in data and pod.owner:
            self._see(f"entry of a {kind}")
            return data[key]
        if OTHERS not in data:
            self._see("no others")
            return ""
        if not data[OTHERS].startswith("all on "):
            self._see("invalid others")
            return ""
        if pod.system != "linux":
            self._see("others, but another system")
            return ""
        if chose := chose_graviton(pod.rules, data.get(GRAVITON_LABELS, "").split(" ")):
            self._see(f"others, but chose Graviton by {chose}")
            return ""
        self._see("others of a bare pod" if pod.owner is None else "others of a workload")
        return data[OTHERS]

    def _fields(self, item: Manifest, pod: Pod, text: str, data: Mapping[str, str]) -> Manifest | None:
        """The fields that `place` gives; None if the pod stays as it is."""
        entry = Entry.parse(text)
        if entry is None:
            self._see(LEFT_ALONE if text == LEFT_ALONE else "invalid entry")
            return None
        spec = item["spec"]
        spreads = spec.get("topologySpreadConstraints") or []
        theirs = tuple(spread for spread in spreads if not is_ours(spread))
        label, selector = revision_of(pod)
        share = 0 < entry.graviton < entry.replicas
        if share and len(theirs) < len(spreads):
            self._see("its own spread over architectures")
            return None
        if share and not entry.prefer and not (label or selector):
            self._see("nothing names its revision")
            return None
        template = Template(
            spec=pod.rules,
            selector=selector,
            revision_label=label,
            has_soft_rules=has_soft_rules(spec, theirs),
            other_spreads=(theirs, ()),
        )
        fields = place(
            template,
            entry.graviton,
            entry.replicas,
            entry.prefer,
            zones=NO_ZONES not in data,
            by_selector=True,
        )
        self._see_fields(entry, spec, pod.rules, fields, label)
        return fields

    def _see_fields(
        self, entry: Entry, spec: Manifest, rules: Mapping[str, Any], fields: Manifest, label: str
    ) -> None:
        if "node-selector" in fields:
            self._see("pin beside a selector" if spec.get("nodeSelector") else "pin alone")
            if "required" in rules:
                self._see("pin beside a required affinity")
            return
        if entry.prefer:
            self._see(f"prefers {entry.prefer}", "a share without a spread")
        else:
            self._see(f"revision by {label or 'all labels'}")
            sides = (entry.graviton, entry.replicas - entry.graviton)
            self._see("skew of equal sides" if len(set(sides)) == 1 else f"skew to {sides.index(max(sides))}")
            if "node-spread" in fields:
                self._see("zones" if "zone-spread" in fields else "no zones")
                self._see("many pods" if fields["node-spread"]["maxSkew"] > 5 else "few pods")
            else:
                self._see("spread beside others")
        affinity = spec.get("affinity")
        if affinity is None or affinity.get("nodeAffinity") is None:
            self._see("no affinity" if affinity is None else "no node affinity")
        own = rules.get("preferred") or []
        if own:
            kept = fields["preferred"][:-1] == own
            self._see("preferences kept" if kept else "preferences scaled")
        if len(own) >= OTHER_WEIGHT:
            self._see("more preferences than weight")
        if "tolerations" in fields:
            self._see("toleration beside others" if spec.get("tolerations") else "toleration alone")
            for kind in ("podAffinity", "podAntiAffinity"):
                if ((affinity or {}).get(kind) or {}).get(PREFERRED):
                    self._see(f"soft {kind}")


SHAPES = (
    "DaemonSet",
    "node name",
    "decides by nodeSelector",
    "decides by required node affinity",
    *(f"entry of a {kind}" for kind in KINDS if kind != "DaemonSet"),
    "no others",
    "invalid others",
    "others, but another system",
    "others, but chose Graviton by selector",
    "others, but chose Graviton by affinity",
    "others of a bare pod",
    "others of a workload",
    LEFT_ALONE,
    "invalid entry",
    "its own spread over architectures",
    "nothing names its revision",
    "pin alone",
    "pin beside a selector",
    "pin beside a required affinity",
    "a share without a spread",
    "prefers amd64",
    "prefers arm64",
    "revision by pod-template-hash",
    "revision by rollouts-pod-template-hash",
    "revision by controller-revision-hash",
    "revision by all labels",
    "skew of equal sides",
    "skew to 0",
    "skew to 1",
    "zones",
    "no zones",
    "many pods",
    "few pods",
    "spread beside others",
    "no affinity",
    "no node affinity",
    "preferences kept",
    "preferences scaled",
    "more preferences than weight",
    "toleration beside others",
    "toleration alone",
    "soft podAffinity",
    "soft podAntiAffinity",
    "annotations",
    "no annotations",
)
"""Each stands for a branch of the expression."""


def workload_of(pod: Pod) -> str:
    """The key of a pod's workload, also if an Argo Rollout is its maker."""
    namespace, kind, name = pod.workload.split("/")
    revision = pod.labels.get("rollouts-pod-template-hash")
    if kind == "ReplicaSet" and revision and (maker := name.removesuffix(f"-{revision}")) not in ("", name):
        return f"{namespace}/Rollout/{maker}"
    return pod.workload


def revision_of(pod: Pod) -> tuple[str, Manifest | None]:
    """The label that names a pod's revision, and the selector; both empty if nothing names it."""
    _, kind, _ = workload_of(pod).split("/")
    for label, maker in MAKERS.items():
        if kind == maker:
            return label, None
    if kind == "ReplicaSet":
        return "", {"matchLabels": {**pod.labels}} if pod.labels else None
    return ("controller-revision-hash" if "controller-revision-hash" in pod.labels else ""), None


def chose_graviton(rules: Mapping[str, Any], pairs: list[str]) -> str:
    """How a pod selects nodes that only Graviton has; empty if it does not."""
    if any(f"{key}={value}" in pairs for key, value in (rules.get("node-selector") or {}).items()):
        return "selector"

    def chooses(term: Mapping[str, Any]) -> bool:
        expressions = term.get("matchExpressions") or []
        if not expressions and not term.get("matchFields"):
            return True  # it admits no node
        return any(
            (one["operator"] == "In" and {f"{one['key']}={value}" for value in one["values"]} <= {*pairs})
            or (one["operator"] == "Exists" and any(pair.startswith(f"{one['key']}=") for pair in pairs))
            for one in expressions
        )

    found = (rules.get("required") or {}).get("nodeSelectorTerms") or []
    return "affinity" if found and all(map(chooses, found)) else ""


def _write(spec: Manifest, fields: Mapping[str, Any]) -> None:
    """Write placement fields into a pod spec, behind what it has."""
    if "node-selector" in fields:
        spec["nodeSelector"] = fields["node-selector"]
    if "preferred" in fields:
        affinity = spec["affinity"] = spec.get("affinity") or {}
        node = affinity["nodeAffinity"] = affinity.get("nodeAffinity") or {}
        node[PREFERRED] = fields["preferred"]
    if "tolerations" in fields:
        spec["tolerations"] = fields["tolerations"]
    ours = [fields[name] for name in SPREADS if name in fields]
    if ours:
        spec["topologySpreadConstraints"] = [*(spec.get("topologySpreadConstraints") or ()), *ours]


# --- the API server ------------------------------------------------------------------------------


FREE = "free"
"""The namespace without a ConfigMap."""


PROBE: Manifest = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "generateName": "pod-",
        "ownerReferences": [
            {"apiVersion": "batch/v1", "kind": "Job", "name": NAMES[0], "uid": "1", "controller": True}
        ],
    },
    "spec": {"containers": [{"name": "app", "image": "registry.example/app:1"}]},
}
"""A pod that is placed in each namespace with entries."""


class Admission:
    """The API server with the policy, and a namespace of each kind."""

    def __init__(self, api: Cluster) -> None:
        self._api = api
        self._name = f"expression-{uuid.uuid4().hex[:8]}"

    def define(self) -> None:
        """Makes the policy and the namespaces, and waits until the API server uses them."""
        strict = policy(self._name)
        # An error of the expression refuses the pod, and the test sees it.
        strict["spec"]["failurePolicy"] = "Fail"
        self._api.create(POLICIES.collection(), strict)
        self._api.create(BINDINGS.collection(), binding(self._name))
        for space in (FREE, *DATA):
            self._api.create("/api/v1/namespaces", {"metadata": {"name": self._namespace(space)}})
        for space, data in DATA.items():
            content: Manifest = {"binaryData": {"all": "AAAA"}} if space == "binary" else {"data": data}
            self._api.create(
                CONFIG_MAPS.collection(self._namespace(space)), {"metadata": {"name": self._name}, **content}
            )
        for space in CONFIG:
            wait_for(partial(self._places, space))

    def remove(self) -> None:
        """Removes all of it."""
        for collection in (POLICIES.collection(), BINDINGS.collection()):
            self._api.delete(f"{collection}/{self._name}")
        for space in (FREE, *DATA):
            self._api.delete(f"/api/v1/namespaces/{self._namespace(space)}")

    def _places(self, space: str) -> bool:
        annotations = self.admitted(space, PROBE)["metadata"].get("annotations") or {}
        return PLACED_ANNOTATION in annotations

    def _namespace(self, space: str) -> str:
        return f"{self._name}-{space}"

    def admitted(self, space: str, pod: Manifest) -> Manifest:
        """The pod as the API server would store it; its words if it refuses the pod."""
        path = f"/api/v1/namespaces/{self._namespace(space)}/pods?dryRun=All"
        try:
            answer = self._api.post_review(path, pod)
        except RefusedError as error:
            return {"refused": error.words}
        meta, spec = answer["metadata"], answer["spec"]
        # The API server adds two tolerations, before the policy's. Their order has no meaning.
        spec["tolerations"] = sorted(spec.get("tolerations") or (), key=json.dumps)
        kept = ("annotations", "labels", "ownerReferences")
        return {"spec": spec, "metadata": {key: meta[key] for key in kept if key in meta}}


@pytest.fixture(scope="module")
def admission(control_plane: Lab) -> Iterator[Admission]:
    """The API server with the policy."""
    control_plane.start()  # a test may have ended one of its servers
    with connect(CONTEXT, control_plane.kubeconfig) as api:
        admission = Admission(api)
        admission.define()
        yield admission
        admission.remove()


@pytest.mark.timeout(60 + CASES // 20)
def test_the_api_server_admits_what_place_says(admission: Admission) -> None:
    """Pods of every shape, entries of every shape: the same fields, the same annotation, no pod refused."""
    reference = Reference()

    def compare(case: Case, wanted: Manifest) -> str:
        placed = admission.admitted(case.space, case.pod)
        expected = admission.admitted(FREE, wanted)
        if placed == expected and "refused" not in placed:
            return ""
        return f"{case}\n  gives {json.dumps(placed)}\n  and not {json.dumps(expected)}"

    everything = generated(CASES)
    wanted = [reference.of(case) for case in everything]
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        wrong = [found for found in threads.map(compare, everything, wanted) if found]
    assert not wrong, f"{len(wrong)} of {len(everything)} differ; the shortest:\n{min(wrong, key=len)}"
    assert len(everything) == CASES
    unseen = [shape for shape in SHAPES if reference.seen[shape] < 3]
    assert not unseen, f"too few cases: {unseen}"
    assert not reference.seen.keys() - {*SHAPES}
