"""Builders of what tests need: objects of the API server, values of the plan, settings and surveys.

All in one file, so that a name stands for one builder. What plays a part, such as a cluster that answers, is
in ``tests/fakes.py``.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.model import Inventory, PullIdentity, Workload
from archshift.cluster.pod_fields import Template
from archshift.cluster.pods import Controller, Pod
from archshift.cluster.scheduling import meets, untolerated
from archshift.common.architectures import AMD64, ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import (
    EKS_GROUP_LABEL,
    GROUP_LABEL,
    INSTANCE_TYPE_LABEL,
    POOL_LABEL,
    ZONE_LABEL,
)
from archshift.common.resources import Resources
from archshift.cost.bill import Tariff
from archshift.images.verdict import AMD64_ONLY, MULTI_ARCH, UNKNOWN, ImageVerdict, Verdict
from archshift.images.workload import Blocking, Container, ImageUse, WorkloadVerdict
from archshift.nodes.ami_types import AMI_FAMILIES
from archshift.nodes.groups import EksNodeGroup, Node, NodeClass, NodeGroup, NodePool, Taint
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.nodes.live_groups import LiveGroup
from archshift.nodes.node_pools import LivePool
from archshift.plan.arm64_tests import Arm64Test, Arm64TestState, Proof
from archshift.plan.guard import X86Need, needs
from archshift.plan.model import PlannedWorkload, Rules
from archshift.plan.planner import make_plan
from archshift.report.history import History, make_history
from archshift.report.report import Report, make_report
from archshift.report.savings import Savings, make_savings
from archshift.report.step_cost import comparisons
from archshift.settings import stack as stack_settings
from archshift.settings.stack import Settings
from archshift.survey import Survey
from tests.fakes import FakeCluster

MANAGER = "archshift/lab"
ARCH = "kubernetes.io/arch"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
GIB = 1024**3

Json = dict[str, Any]

# --- objects as the API server returns them -----------------------------------------------------


def workload(
    kind: str = "Deployment",
    name: str = "cart",
    *,
    namespace: str = "shop",
    replicas: int | None = 3,
    pod_spec: Mapping[str, Any] | None = None,
    spec: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = None,
    managed: Sequence[Mapping[str, Any]] = (),
    settled: bool = True,
) -> Json:
    """A controller as a list returns it: without ``kind``, with ``managedFields`` and a status."""
    template: Json = {
        "metadata": {"labels": {"app": name}},
        "spec": {
            "containers": [
                {
                    "name": name,
                    "image": "registry.example/app:1",
                    "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}},
                }
            ],
            **(pod_spec or {}),
        },
    }
    metadata: Json = {
        "name": name,
        "namespace": namespace,
        "uid": "0a1b2c3d-1111-2222-3333-444455556666",
        "generation": 4,
        "managedFields": list(managed),
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    if kind == "CronJob":
        body: Json = {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}
        return {"metadata": metadata, "spec": {**body, **(spec or {})}, "status": {}}
    body = {"selector": {"matchLabels": {"app": name}}, "template": template}
    if replicas is not None and kind != "DaemonSet":
        body["replicas"] = replicas
    there = 1 if replicas is None else replicas
    status = {
        "observedGeneration": 4 if settled else 3,
        "replicas": there,
        "updatedReplicas": there,
        "availableReplicas": there,
    }
    return {"metadata": metadata, "spec": {**body, **(spec or {})}, "status": status}


def manages(manager: str, operation: str, fields: Mapping[str, Any], **more: str) -> Json:
    """An entry of ``managedFields``."""
    return {"manager": manager, "operation": operation, "fieldsV1": fields, **more}


def in_pod_spec(fields: Mapping[str, Any]) -> Json:
    """The field set of fields inside a Deployment's pod spec."""
    return {"f:spec": {"f:template": {"f:spec": dict(fields)}}}


def pod(
    name: str,
    node: str = "",
    *,
    namespace: str = "shop",
    owner: tuple[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    phase: str = "Running",
    terminating: bool = False,
) -> Json:
    metadata: Json = {
        "name": name,
        "namespace": namespace,
        "uid": f"uid-{name}",
        "labels": dict(labels or {}),
    }
    if owner:
        metadata["ownerReferences"] = [
            {"kind": "Something", "name": "else"},
            {"kind": owner[0], "name": owner[1], "controller": True},
        ]
    if terminating:
        metadata["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    requests = {"cpu": "250m", "memory": "128Mi"}
    main = {"name": "main", "image": "registry.example/app:1", "resources": {"requests": requests}}
    spec: Json = {"containers": [main]}
    status: Json = {"phase": phase}
    if node:
        spec["nodeName"] = node
        if phase == "Running":
            status["conditions"] = [{"type": "Ready", "status": "True"}]
    return {"metadata": metadata, "spec": spec, "status": status}


def node(name: str, arch: str = "arm64", *, ready: bool = True, **spec: Any) -> Json:
    """A node of 4 vCPU and 16 GiB."""
    return {
        "metadata": {"name": name, "labels": {ARCH: arch}},
        "spec": spec,
        "status": {
            "allocatable": {"cpu": "4", "memory": "16Gi", "pods": "58"},
            "conditions": [
                {"type": "MemoryPressure", "status": "False"},
                {"type": "Ready", "status": "True" if ready else "Unknown"},
            ],
        },
    }


# --- values of the plan: workloads, nodes and groups --------------------------------------------


def deployment(
    name: str = "cart", replicas: int = 4, *, kind: str = "Deployment", **options: Any
) -> Workload:
    """A workload of ``shop`` whose fields only its application sets."""
    base = Workload(
        namespace="shop",
        kind=kind,
        name=name,
        replicas=replicas,
        template=Template(selector={"matchLabels": {"app": name}}),
        identity="0a1b2c3d.4",
    )
    return replace(base, **options)


def replica_pod(number: int, maker: str = "cart-5d8f", **more: Any) -> Pod:
    """A pod of a ReplicaSet of ``shop``, as the inventory reads it."""
    return Pod(
        namespace="shop",
        name=f"{maker.partition('-')[0]}-{number}",
        uid=str(number),
        requests=Resources(),
        images="",
        pulls_as=PullIdentity("shop", "default"),
        owner=Controller("shop", "ReplicaSet", maker),
        **more,
    )


def sized_deployment(
    name: str, replicas: int = 2, millicpu: int = 500, memory: int = GIB, **options: Any
) -> Workload:
    """A workload whose pods each request this much CPU and memory."""
    return deployment(name, replicas, requests=Resources(millicpu, memory), **options)


def x86_need(name: str = "cart", pods: int = 1, millicpu: int = 1000, **options: Any) -> X86Need:
    """A workload that needs x86 for the reason "why"."""
    return X86Need(workload=sized_deployment(name, pods, millicpu, **options), reason="why", pods=pods)


def planned(
    name: str = "cart",
    replicas: int = 1,
    wanted: int | None = 1,
    *,
    kind: str = "Deployment",
    graviton: int = 0,
    **options: Any,
) -> PlannedWorkload:
    """A row of a plan."""
    return PlannedWorkload(
        key=f"shop/{kind}/{name}",
        namespace="shop",
        kind=kind,
        name=name,
        replicas=replicas,
        wanted=wanted,
        graviton=graviton,
        **options,
    )


def patched(kind: str, name: str, **options: Any) -> PlannedWorkload:
    """A row of a plan with a patch."""
    patch = {
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"template": {"spec": {"nodeSelector": {ARCH: "arm64"}}}},
    }
    return planned(name, kind=kind, **{"patch": patch, "movable": True, **options})


def patched_pod_spec(row: PlannedWorkload) -> Any:
    """The pod spec in the patch of a row."""
    assert row.patch is not None
    spec = row.patch["spec"]
    return (spec["jobTemplate"]["spec"] if row.kind == "CronJob" else spec)["template"]["spec"]


def required_affinity(key: str, *values: str) -> Json:
    """A required node affinity with one expression."""
    return {
        "nodeSelectorTerms": [{"matchExpressions": [{"key": key, "operator": "In", "values": list(values)}]}]
    }


def plan_node(
    name: str, arch: str = "amd64", *, labels: Mapping[str, str] | None = None, **more: Any
) -> Node:
    """A node as the plan sees it: 4 vCPU, 16 GiB and 58 pods, unless ``more`` says otherwise."""
    size = {"millicpu": 4000, "memory": 16 * GIB, "pods": 58, **more}
    return Node(name=name, labels={ARCH: arch, **(labels or {})}, **size)


def big_node(name: str, arch: str, *, taints: tuple[Taint, ...] = (), **labels: str) -> Node:
    """A node with room for every pod."""
    return plan_node(
        name, arch, labels=labels, taints=taints, millicpu=1_000_000, memory=1000 * GIB, pods=1000
    )


def eks_node(name: str, architecture: str = "arm64", **labels: str) -> Node:
    """A node that EKS made; ``labels`` are ``group``, ``eks`` (its name there), ``kind``, ``zone``."""
    keys = {"group": GROUP_LABEL, "eks": EKS_GROUP_LABEL, "kind": INSTANCE_TYPE_LABEL, "zone": ZONE_LABEL}
    return Node(name=name, labels={ARCH: architecture, **{keys[key]: text for key, text in labels.items()}})


def karpenter_node(name: str, of: str = "x86", kind: str = "m6i.xlarge", **labels: str) -> Node:
    """A node that Karpenter made for a NodePool."""
    type_ = INSTANCE_TYPES[kind]
    return plan_node(
        name,
        type_.architecture,
        labels={POOL_LABEL: of, INSTANCE_TYPE_LABEL: kind, **labels},
        millicpu=type_.allocatable_millicpu,
        memory=type_.allocatable_memory,
        pods=type_.pods,
    )


def admits(
    node: Node,
    node_selector: Mapping[str, str] | None,
    required: Mapping[str, Any] | None,
    tolerations: Sequence[Mapping[str, Any]] = (),
) -> bool:
    """Say whether a pod with these rules may run on the node, whatever the capacity."""
    return not untolerated(node.lasting_taints, tolerations) and meets(node, node_selector, required)


BOTH_SIDES = tuple(
    replace(node, labels={**node.labels, ZONE_LABEL: "a"})
    for node in (big_node("x86", "amd64", zone="a"), big_node("arm", "arm64", zone="a"))
)


def inventory(
    *workloads: Workload, graviton: Mapping[str, int] | None = None, nodes: tuple[Node, ...] = BOTH_SIDES
) -> Inventory:
    """A cluster in which these many pods of each workload are on Graviton, the rest on x86."""
    there = graviton or {}
    pods = {}
    for workload in workloads:
        pods[workload.key, "arm64"] = there.get(workload.name, 0)
        pods[workload.key, "amd64"] = workload.replicas - there.get(workload.name, 0)
    by_key = {workload.key: workload for workload in workloads}
    requested = {(key, side): by_key[key].requests * count for (key, side), count in pods.items()}
    return Inventory(workloads=by_key, nodes=nodes, pods=pods, requested=requested)


def lab_group(name: str, instance_type: str, size: int = 1) -> NodeGroup:
    """A node group of the lab."""
    return NodeGroup(name=name, instance_type=INSTANCE_TYPES[instance_type], size=size, zones=("a",))


def eks_group(
    name: str = "graviton", *types: str, size: int = 1, most: int = 9, **options: Any
) -> EksNodeGroup:
    """A managed node group of EKS, of 0 to ``most`` nodes."""
    kinds = tuple(INSTANCE_TYPES[kind] for kind in types or ("m7g.xlarge",))
    return EksNodeGroup(
        name=name,
        instance_types=kinds,
        **{
            "min_size": 0,
            "desired_size": size,
            "max_size": most,
            "subnets": ("subnet-a",),
            "ami_type": AMI_FAMILIES["AL2023"][kinds[0].architecture],
            **options,
        },
    )


def live_group(name: str = "old", *types: str, size: int = 3, **options: Any) -> LiveGroup:
    """A managed node group as EKS describes it, of 2 to 8 nodes."""
    return LiveGroup(
        name=name,
        **{
            "role": "arn:aws:iam::1:role/old",
            "subnets": ("subnet-z",),
            "min_size": 2,
            "desired_size": size,
            "max_size": 8,
            "instance_types": types or ("m5.large",),
            "ami_type": "AL2023_x86_64_STANDARD",
            "capacity_type": "ON_DEMAND",
            "scaling_groups": (f"eks-{name}",),
            **options,
        },
    )


def node_pool(name: str = "x86", *types: str, **options: Any) -> NodePool:
    """A NodePool of up to 16 vCPU."""
    kinds = tuple(INSTANCE_TYPES[kind] for kind in types or ("m6i.xlarge", "m6i.2xlarge"))
    node_class = NodeClass("karpenter.k8s.aws", "EC2NodeClass", "default")
    return NodePool(name=name, instance_types=kinds, node_class=node_class, **{"millicpu": 16_000, **options})


def live_pool(name: str = "default", *requirements: tuple[str, str, list[str]], **spec: Any) -> LivePool:
    """A NodePool of both architectures that Helm made; requirements are (key, operator, values)."""
    label = "karpenter.k8s.aws/instance-"
    entries = requirements or (
        (ARCH, "In", ["amd64", "arm64"]),
        ("kubernetes.io/os", "In", ["linux"]),
        ("karpenter.sh/capacity-type", "In", ["spot", "on-demand"]),
        (f"{label}category", "In", ["c", "m", "r"]),
        (f"{label}generation", "Gt", ["4"]),
    )
    inner = {
        "nodeClassRef": {"group": "karpenter.k8s.aws", "kind": "EC2NodeClass", "name": "default"},
        "requirements": [
            {"key": key, "operator": operator, "values": values} for key, operator, values in entries
        ],
        "taints": [{"key": "batch", "effect": "NoSchedule"}],
        "startupTaints": [{"key": "node.cilium.io/agent-not-ready", "effect": "NoExecute"}],
        "expireAfter": "Never",
        "terminationGracePeriod": "48h",
    }
    whole = {
        "template": {"metadata": {"labels": {"team": "shop"}}, "spec": inner},
        "limits": {"cpu": "1k"},
        "disruption": {
            "consolidationPolicy": "WhenEmpty",
            "consolidateAfter": "1h",
            "budgets": [
                {"nodes": "20%"},
                {"nodes": "0", "reasons": ["Drifted"], "schedule": "@daily", "duration": "1h"},
            ],
        },
        "weight": 10,
        **spec,
    }
    owned = {
        "f:spec": {
            "f:template": {
                "f:metadata": {"f:labels": {}},
                "f:spec": {f"f:{key}": {} for key in inner},
            },
            "f:limits": {"f:cpu": {}},
            "f:disruption": {f"f:{key}": {} for key in whole["disruption"]},
            "f:weight": {},
        }
    }
    return LivePool(
        name=name,
        spec=whole,
        labels={"app.kubernetes.io/managed-by": "Helm"},
        annotations={"karpenter.sh/nodepool-hash": "1", "meta.helm.sh/release-name": "pools"},
        managed_fields=({"manager": "helm", "operation": "Update", "fieldsV1": owned},),
    )


# --- settings -----------------------------------------------------------------------------------


def configuration(**values: Any) -> dict[str, str]:
    """The configuration as the engine passes it: text, and JSON for all else."""
    return {
        f"archshift:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }


def load(**values: Any) -> Settings:
    """The settings of a stack of the lab at 0.2."""
    return stack_settings.load("dev", configuration(**{"arm_ratio": "0.2", "platform": "lab", **values}))


def refused(**values: Any) -> str:
    """The sentence with which ``load`` refuses a configuration."""
    return refusal(load, **values)


def refusal(ask: Callable[..., object], *arguments: Any, **values: Any) -> str:
    """The sentence with which a call is refused."""
    with pytest.raises(ArchshiftError) as error:
        ask(*arguments, **values)
    assert "\n" not in str(error.value)
    return str(error.value)


# --- clusters -----------------------------------------------------------------------------------


def cluster_of(**objects: list[Json]) -> FakeCluster:
    """A cluster with these collections, in all namespaces."""
    paths = {
        "deployments": "/apis/apps/v1/deployments",
        "statefulsets": "/apis/apps/v1/statefulsets",
        "daemonsets": "/apis/apps/v1/daemonsets",
        "cronjobs": "/apis/batch/v1/cronjobs",
        "pods": "/api/v1/pods",
        "nodes": "/api/v1/nodes",
        "scalers": "/apis/autoscaling/v2/horizontalpodautoscalers",
    }
    return FakeCluster({paths[name]: items for name, items in objects.items()})


GROUPS = {
    "x86": {"instance_type": "m6i.xlarge", "size": 1},
    "graviton": {"instance_type": "m7g.xlarge", "size": 0},
}


def shop(on_graviton: int = 0) -> FakeCluster:
    """Four carts, payments whose affinity is helm's, a log agent and a bare pod."""
    labels = {"pod-template-hash": "5d4f"}
    term = {"matchExpressions": [{"key": "kubernetes.io/arch", "operator": "Exists"}]}
    affinity = {"nodeAffinity": {PREFERRED: [{"weight": 1, "preference": term}]}}
    fields = in_pod_spec({"f:affinity": {"f:nodeAffinity": {f"f:{PREFERRED}": {}}}})
    return FakeCluster(
        {
            "/apis/apps/v1/deployments": [
                workload(name="cart", replicas=4),
                workload(
                    name="pay", pod_spec={"affinity": affinity}, managed=[manages("helm", "Apply", fields)]
                ),
            ],
            "/apis/apps/v1/daemonsets": [workload("DaemonSet", "log")],
            "/api/v1/nodes": [node("arm"), node("x86", "amd64")],
            "/api/v1/pods": [
                pod("debug", "x86"),
                *(
                    pod(
                        f"cart-{index}",
                        "arm" if index < on_graviton else "x86",
                        owner=("ReplicaSet", "cart-5d4f"),
                        labels=labels,
                    )
                    for index in range(4)
                ),
            ],
        }
    )


def priced_shop() -> FakeCluster:
    """The shop: two nodes of the group x86 and one of Graviton that is nobody's, in eu-west-1."""
    cluster = shop()
    nodes = [("x86", "amd64", "m6i.xlarge", "x86"), ("second", "amd64", "m6i.xlarge", "x86")]
    items: list[Any] = []
    for name, arch, kind, group in (*nodes, ("arm", "arm64", "m7g.xlarge", "")):
        item = node(name, arch)
        item["metadata"]["labels"] |= {
            "node.kubernetes.io/instance-type": kind,
            "topology.kubernetes.io/zone": "eu-west-1a",
            **({"archshift/node-group": group} if group else {}),
        }
        items.append(item)
    cluster.objects["/api/v1/nodes"] = items
    return cluster


# --- surveys and reports of whole fleets --------------------------------------------------------


AT = datetime(2026, 3, 30, 9, 30, tzinfo=UTC)
RAMP = '{"start": "2026-03-09", "since": "2026-03-25T09:30:00+00:00", "time_zone": "UTC"}'


def mixed_settings(**config: Any) -> Settings:
    """The settings of a stack of the lab at 0.5, with a group of each side."""
    groups = {
        "x86": {"instance_type": "m6i.xlarge", "size": 4},
        "graviton": {"instance_type": "m7g.xlarge", "size": 4},
    }
    return stack_settings.load(
        "prod",
        configuration(**{"arm_ratio": "0.5", "platform": "lab", "node_groups": groups, **config}),
        {},
    )


def evidence_of(key: str, *images: tuple[str, str, Verdict]) -> WorkloadVerdict:
    """The evidence for a workload: (container, image, verdict) each; none for a proven yes."""
    blocking = tuple(
        Blocking(container, image, found, f"container {container}: why") for container, image, found in images
    )
    kinds = {found for _, _, found in images}
    whole: Verdict = AMD64_ONLY if AMD64_ONLY in kinds else UNKNOWN if kinds else MULTI_ARCH
    seen = tuple(
        ImageVerdict(image, found, ("linux/amd64",), "", "2.0 has arm64", AT) for _, image, found in images
    )
    return WorkloadVerdict(key, whole, blocking, seen)


def mixed_nodes(number: int = 4) -> tuple[Node, ...]:
    """Nodes of both groups."""
    kinds = (("x86", AMD64, "m6i.xlarge"), ("graviton", ARM64, "m7g.xlarge"))
    return tuple(
        Node(
            name=f"{group}-{index}",
            labels={
                ARCH: architecture,
                "archshift/node-group": group,
                "node.kubernetes.io/instance-type": kind,
                "topology.kubernetes.io/zone": "eu-west-1a",
            },
            millicpu=3920,
            memory=15 * GIB,
            pods=58,
        )
        for group, architecture, kind in kinds
        for index in range(number)
    )


def survey_of(
    stack: Settings,
    workloads: Sequence[tuple[Workload, int]],
    verdicts: Mapping[str, WorkloadVerdict] | None = None,
    *,
    unsteered: Sequence[tuple[Workload, int]] = (),
    loads: Mapping[str, Resources] | None = None,
    tests: Arm64TestState | None = None,
    number: int = 4,
) -> Survey:
    """A survey of workloads with some pods on Graviton and the rest on x86.

    Args:
        stack: The settings.
        workloads: Each with the number of its pods on Graviton.
        verdicts: The evidence that is not a proven yes.
        unsteered: Workloads outside the discovery, each with the number of its pods on x86.
        loads: What runs on which node.
        tests: Tests on arm64.
        number: Nodes of each group.
    """
    state = tests or Arm64TestState()
    pods = {(one.key, ARM64): there for one, there in workloads}
    pods |= {(one.key, AMD64): one.replicas - there for one, there in workloads}
    pods |= {(one.key, AMD64): there for one, there in unsteered}
    inventory = Inventory(
        workloads={one.key: one for one, _ in workloads},
        nodes=mixed_nodes(number),
        pods=pods,
        unsteered_workloads={one.key: one for one, _ in unsteered},
        loads=loads or {},
    )
    known = {key: evidence_of(key) for key in (*inventory.workloads, *inventory.unsteered_workloads)} | dict(
        verdicts or {}
    )
    evidence = ClusterEvidence(known)
    rules = state.rules(stack.rules)
    return Survey(
        inventory=inventory,
        evidence=evidence,
        plan=make_plan(
            arm_ratio=stack.arm_ratio,
            inventory=inventory,
            rules=rules,
            groups=stack.groups,
            verdicts=known,
            pin_daemonsets=stack.images.daemonsets == "pin",
        ),
        needs=needs(inventory, known, state.strict_rules(stack.rules)) if stack.guarded else None,
        tests=state,
        rules=rules,
    )


def savings_of(stack: Settings, found: Survey, **rules: Any) -> Savings:
    """What moving saves in eu-west-1."""
    tariff = Tariff(region="eu-west-1", now=AT, rules=replace(stack.cost, **rules))
    return make_savings(stack.arm_ratio, comparisons(stack, found, 0.15), tariff, 0.15)


def stack_file(ratio: object) -> bytes:
    """A stack's file at a ratio."""
    return f"config:\n  archshift:arm_ratio: {ratio}\n".encode()


def evidence_at(days: int, ratio: float, word: str, reason: str = "", stack: str = "prod") -> bytes:
    """The gate's evidence, so many days before ``AT``."""
    at = (AT - timedelta(days=days)).isoformat()
    reasons = [reason] if reason else []
    value = {"stack": stack, "arm_ratio": ratio, "verdict": word, "at": at, "reasons": reasons}
    return json.dumps(value).encode()


def history_of(stack: Settings) -> History:
    """Three weeks: 0.2, back to 0, 0.2 again and 0.5, with a verdict before each step."""
    files = [(21, "0.0"), (20, "0.2"), (16, "0.0"), (12, "0.2"), (5, "0.5")]
    return make_history(
        stack="prod",
        arm_ratio=stack.arm_ratio,
        now=AT,
        files=[(AT - timedelta(days=days), stack_file(ratio)) for days, ratio in files],
        evidence=[
            evidence_at(16, 0.2, "step-back", "shop/Deployment/cart: p95 latency 840 ms, the limit is 600"),
            evidence_at(5, 0.2, "pass"),
            evidence_at(1, 0.5, "hold", "0.5 has soaked for 4 of 5 days"),
        ],
        ramp=stack.ramp,
    )


def fleet(
    number: int, *, name: str = "service-{}", image: str = "registry.example/team/app-{}:1.4.2"
) -> Report:
    """The report of a fleet with something of everything.

    Args:
        number: Its workloads.
        name: How they are called, by their number; their owners are too.
        image: How images that keep them on x86 are called.
    """
    overrides = {
        f"shop/Deployment/{name.format(3)}": Rules(max_ratio=0.5),
        f"shop/Deployment/{name.format(4)}": Rules(hold=True, reason=name.format("JIT")),
    }
    # Not from a configuration: names that no cluster takes would be refused there.
    stack = replace(mixed_settings(ramp=RAMP), rules=overrides)
    workloads: list[tuple[Workload, int]] = []
    verdicts: dict[str, WorkloadVerdict] = {}
    proofs: dict[str, Proof] = {}
    missing: dict[str, Arm64Test] = {}
    for index in range(number):
        owner = name.format(f"team-{index % 7}")
        one = sized_deployment(name.format(index), 1 + index % 9, millicpu=50 * (1 + index % 11), owner=owner)
        one = replace(one, containers=(Container("app", "container", ImageUse(image.format(index))),))
        if index % 13 == 5:
            one = replace(one, obstacle=f"its rollouts are paused ({name.format('spec')})")
        if index % 6 == 1:
            kind: Verdict = UNKNOWN if index % 12 == 7 else AMD64_ONLY
            shared = image.format(f"base-{index % 5}")
            verdicts[one.key] = evidence_of(one.key, (name.format("main"), shared, kind))
        elif index % 10 == 2:
            proofs[one.key] = Proof(
                workload=one.key,
                tested="t",
                passed=index % 20 == 2,
                machine="aarch64",
                message=name.format("illegal instruction"),
                at=AT - timedelta(days=3),
                job=f"archshift-test-{index}",
            )
        elif index % 10 == 8:
            missing[one.key] = Arm64Test()
        workloads.append((one, one.replicas // 2 if one.key not in verdicts else 0))
    agent = sized_deployment("agent", 0, kind="DaemonSet", namespace="kube-system")
    size = max(4, number // 8)
    found = survey_of(
        stack,
        workloads,
        verdicts | {agent.key: evidence_of(agent.key, ("agent", image.format("agent"), AMD64_ONLY))},
        unsteered=[(agent, 4)],
        loads={node.name: Resources(2400, 6 * GIB, 9) for node in mixed_nodes(size)},
        tests=Arm64TestState(proofs=proofs, missing=missing),
        number=size,
    )
    return make_report(
        stack,
        found,
        at=AT,
        history=history_of(stack),
        savings=savings_of(stack, found),
        notes=[name.format("x")],
    )


def calls_of(action: Callable[[], object]) -> int:
    """How many functions an action calls. Unlike its time, that is the same on every machine."""
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls
