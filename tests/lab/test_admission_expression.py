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
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from random import Random
from typing import Any

import pytest

from archshift.cluster.client import Cluster, connect
from archshift.cluster.entries import (
    GRAVITON_LABELS,
    LEFT_ALONE,
    NO_ZONES,
    OTHERS,
    PLACED_ANNOTATION,
    Entry,
    entry_key,
    policy_name,
)
from archshift.cluster.kinds import CONTROLLERS, UNREAD
from archshift.cluster.live_placement import BINDING_KIND, BINDINGS, POLICIES, POLICY_KIND
from archshift.cluster.pod_fields import SPREADS, Template, pinned_architecture, template_of_pod
from archshift.cluster.pods import Pod, read_pod
from archshift.common.architectures import AMD64, ARM64
from archshift.common.errors import ArchshiftError
from archshift.plan.admission import binding, policy
from archshift.plan.placement import OTHER_WEIGHT, place
from lab.control_plane import CONTEXT, Lab
from tests.lab.lab_helpers import Cluster as LabCluster
from tests.lab.lab_helpers import deployment, stateful_set, wait_for
from tests.lab.pod_shapes import ARCH, GRAVITON_PAIRS, PREFERRED, Manifest, Shapes

CASES = int(os.environ.get("ADMISSION_CASES", "2000"))
"""How many pods are admitted, for a longer run too. Each number has other pods, and always the same."""

CONNECTIONS = 4

# --- the entries ---------------------------------------------------------------------------------

SHARES = [
    (1, 2),
    (1, 3),
    (2, 3),
    (4, 20),
    (8, 10),
    (12, 14),
    (10, 20),
    (19, 20),
    (3, 33),
    (998, 1000),
    (1, 999_999_999),
]
SCALINGS = (
    "within 36 spread 2 prefer amd64 75",
    "within 1 spread 1 prefer arm64 0",
    "within 999999999 spread 7 prefer arm64 100",
    "within 60 spread 1 prefer amd64 1 tolerate arm64",
)
"""What an entry says of an autoscaled workload."""

ENTRIES = (
    *("all on arm64", "all on amd64") * 4,
    *(f"{graviton} of {replicas} on arm64" for graviton, replicas in SHARES * 5),
    *(f"{graviton} of {replicas} on arm64 prefer amd64" for graviton, replicas in SHARES[:4]),
    *(f"{graviton} of {replicas} on arm64 prefer arm64" for graviton, replicas in SHARES[:4]),
    *(
        f"{graviton} of {replicas} on arm64 {scaling}"
        for graviton, replicas in ((0, 1), (2, 2), (4, 20), (16, 20), (998, 1000))
        for scaling in SCALINGS
    ),
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
    "4 of 20 on arm64 prefer amd64 75",
    "4 of 20 on arm64 within 36",
    "4 of 20 on arm64 within 0 spread 2 prefer amd64 75",
    "4 of 20 on arm64 within 36 spread 0 prefer amd64 75",
    "4 of 20 on arm64 within 36 spread 2 prefer amd64 101",
    "4 of 20 on arm64 within 36 spread 2 prefer s390x 75",
    "4 of 20 on arm64 within 36 spread 2 prefer amd64 75 tolerate",
    "4 of 20 on arm64 prefer amd64 within 36 spread 2 prefer amd64 75",
    "5 of 4 on arm64 within 36 spread 2 prefer amd64 75",
    "0 of 0 on arm64 within 36 spread 2 prefer amd64 75",
    "4  of 20 on arm64",
    "-1 of 4 on arm64",
    "1.5 of 4 on arm64",
    "1 of 1234567890 on arm64",
    "all on s390x",
    "All on arm64",
    "all on arm64 ",
    "4 of 20 on arm64 ",
    " all on amd64",
    "graviton=4",
)

NAMES = (
    "w",
    *(
        ("w{}", "w-{}", "w.{}.example", "w-{}-app")[number % 4].format(number)
        for number in range(1, len(ENTRIES))
    ),
)

KINDS = ("Deployment", "Rollout", "StatefulSet", "ReplicaSet", "CronJob", "Job", "MetricStore", "DaemonSet")

CONFIG: Mapping[str, Mapping[str, str]] = {
    "plain": {OTHERS: "all on amd64", GRAVITON_LABELS: " ".join(GRAVITON_PAIRS)},
    "nozones": {OTHERS: "all on amd64", NO_ZONES: "", GRAVITON_LABELS: "  " + "   ".join(GRAVITON_PAIRS)},
    "noothers": {NO_ZONES: "true", GRAVITON_LABELS: ""},
    "otherarm": {OTHERS: "all on arm64"},
    "oddothers": {OTHERS: "4 of 20 on arm64", GRAVITON_LABELS: "pool =graviton"},
}
"""The keys beside the entries, by the kind of namespace."""

EMPTY = ("nodata",)
"""The namespaces whose policy has no entries."""


NAMELESS = {entry_key(kind, ""): "all on arm64" for kind in KINDS}
"""Entries that no pod has: a name in front of a revision or of a minute is never empty."""


def data_of(space: str) -> Mapping[str, str]:
    """The entries of a namespace."""
    if space in EMPTY:
        return {}
    keys = itertools.product(KINDS, zip(NAMES, ENTRIES, strict=True))
    return {**{entry_key(kind, name): text for kind, (name, text) in keys}, **NAMELESS, **CONFIG[space]}


DATA = {space: data_of(space) for space in (*CONFIG, *EMPTY)}


# --- the pods ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """A pod, and the kind of namespace where somebody makes it."""

    space: str
    pod: Manifest

    def __str__(self) -> str:
        return f"in {self.space}: {json.dumps(self.pod)}"


def generated(count: int) -> list[Case]:
    """So many pods."""
    shapes = Shapes(Random(count), (*NAMES, *NAMES[:1] * 5))  # noqa: S311
    return [
        Case(shapes.one((*CONFIG, *(*CONFIG, "plain", "nozones") * 3, *EMPTY)), shapes.pod())
        for _ in range(count)
    ]


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
        pod, template = read_pod(item), template_of_pod(item["spec"])
        text = self._entry(pod, template, data)
        fields = self._fields(item["spec"], pod, template, text, data) if text else None
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

    def _entry(self, pod: Pod, template: Template, data: Mapping[str, str]) -> str:
        """The text that decides about a pod; empty if nothing does."""
        if pod.tied or pod.node:
            self._see("DaemonSet" if pod.tied else "node name")
            return ""
        if pinned := pinned_architecture(template):
            self._see(f"decides by {pinned[1]}")
            return ""
        if ARCH in json.dumps(template.spec.get("required")):
            self._see("its required affinity permits both architectures")
        _, kind, name = pod.workload.split("/")
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
        if chose := chose_graviton(template.spec, data.get(GRAVITON_LABELS, "").split(" ")):
            self._see(f"others, but chose Graviton by {chose}")
            return ""
        self._see("others of a bare pod" if pod.owner is None else "others of a workload")
        return data[OTHERS]

    def _fields(
        self, spec: Manifest, pod: Pod, template: Template, text: str, data: Mapping[str, str]
    ) -> Manifest | None:
        """The fields that `place` gives; None if the pod stays as it is."""
        entry = Entry.parse(text)
        if entry is None:
            self._see(LEFT_ALONE if text == LEFT_ALONE else "invalid entry")
            return None
        label, selector = revision_of(pod)
        if not entry.side and "spread" in template.spec:
            self._see("its own spread over architectures")
            return None
        if entry.scaling and any(each["topologyKey"] == ARCH for each in template.other_spreads[0]):
            self._see("autoscaled, with its own soft spread over architectures")
            return None
        if not (entry.side or entry.prefer or label or selector):
            self._see("nothing names its revision")
            return None
        template = replace(template, selector=selector, revision_label=label)
        zones = NO_ZONES not in data
        fields = place(
            template,
            entry.graviton,
            entry.replicas,
            entry.prefer,
            zones=zones,
            by_selector=True,
            scaling=entry.scaling,
        )
        self._see_fields(entry, spec, template, fields)
        return fields

    def _see_fields(
        self, entry: Entry, spec: Manifest, template: Template, fields: Mapping[str, Any]
    ) -> None:
        own = template.spec.get("preferred") or []
        if "node-selector" in fields:
            self._see("pin beside a selector" if spec.get("nodeSelector") else "pin alone")
            if "required" in template.spec:
                self._see("pin beside a required affinity")
            return
        if entry.scaling:
            self._see("autoscaled", f"autoscaled, {len(fields['preferred']) - len(own)} terms")
            self._see(f"autoscaled, tolerates {entry.scaling.tolerates}")
            if "node-spread" in fields:
                self._see("autoscaled, zones" if "zone-spread" in fields else "autoscaled, no zones")
            else:
                self._see("autoscaled, spreads beside others")
        elif entry.prefer:
            self._see(f"prefers {entry.prefer}", "a share without a spread")
        else:
            self._see(f"revision by {template.revision_label or 'all labels'}")
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
        if own:
            kept = fields["preferred"][: len(own)] == own
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
    "its required affinity permits both architectures",
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
    "autoscaled",
    "autoscaled, 1 terms",
    "autoscaled, 2 terms",
    "autoscaled, tolerates None",
    "autoscaled, tolerates arm64",
    "autoscaled, zones",
    "autoscaled, no zones",
    "autoscaled, spreads beside others",
    "autoscaled, with its own soft spread over architectures",
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


def revision_of(pod: Pod) -> tuple[str, Manifest | None]:
    """The label that names a pod's revision, or else the selector; both empty if nothing names it."""
    kind = pod.workload.split("/")[1]
    if kind == "ReplicaSet":
        return "", {"matchLabels": {**pod.labels}} if pod.labels else None
    made = {**CONTROLLERS, **UNREAD}.get(kind, CONTROLLERS["StatefulSet"])
    label = made.revision_label if made.through == "ReplicaSet" else CONTROLLERS["StatefulSet"].revision_label
    return (label if label in pod.labels else ""), None


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
"""The namespace without a policy."""


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
        for space in (FREE, *DATA):
            self._api.create("/api/v1/namespaces", {"metadata": {"name": self._namespace(space)}})
        for space, data in DATA.items():
            strict = policy(self._name, self._namespace(space), data)
            # An error of the expression refuses the pod, and the test sees it.
            strict["spec"]["failurePolicy"] = "Fail"
            self._api.create(POLICIES.collection(), strict)
            self._api.create(BINDINGS.collection(), binding(self._name, self._namespace(space)))
        for space in CONFIG:
            wait_for(partial(self._places, space))

    def remove(self) -> None:
        """Removes all of it."""
        for space in DATA:
            for collection in (POLICIES.collection(), BINDINGS.collection()):
                self._api.delete(f"{collection}/{policy_name(self._name, self._namespace(space))}")
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
        except ArchshiftError as error:
            return {"refused": str(error)}
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
    unseen = [shape for shape in SHAPES if reference.seen[shape] < 3]
    assert not unseen, f"too few cases: {unseen}"
    assert not reference.seen.keys() - {*SHAPES}


def test_each_workload_gets_its_share_from_the_scheduler(cluster: LabCluster, namespace: str) -> None:
    """With the manifests as they are: the pods of one revision count, and no others of the namespace."""
    name = f"placement-{uuid.uuid4().hex[:8]}"
    shares = {"Deployment.cart": (4, 10), "StatefulSet.queue": (5, 6), "ReplicaSet.worker": (2, 7)}
    data = {key: str(Entry(graviton, replicas)) for key, (graviton, replicas) in shares.items()}
    entries = {**data, OTHERS: "all on amd64"}
    cluster.nodes(AMD64, 3)
    cluster.nodes(ARM64, 3)
    cluster.apply([policy(name, namespace, entries), binding(name, namespace)])
    probe = json.dumps({**PROBE, "metadata": {"name": "probe", "namespace": namespace}})
    try:
        wait_for(
            lambda: (
                PLACED_ANNOTATION
                in cluster.lab.kubectl(
                    "create", "--dry-run=server", "--output=yaml", "--filename=-", stdin=probe
                )
            )
        )
        cluster.apply(
            [
                deployment("cart", 10, namespace),
                stateful_set("queue", 6, namespace),
                deployment("worker", 7, namespace) | {"kind": "ReplicaSet"},
                deployment("new", 3, namespace),
            ]
        )
        wait_for(lambda: sum(cluster.pod_counts(namespace).values()) == 10 + 6 + 7 + 3)
        assert cluster.graviton_counts(namespace) == {
            "Deployment/cart": 4,
            "StatefulSet/queue": 5,
            "ReplicaSet/worker": 2,
            "Deployment/new": 0,
        }
    finally:
        for kind in (POLICY_KIND, BINDING_KIND):
            cluster.lab.kubectl("delete", kind, policy_name(name, namespace))
