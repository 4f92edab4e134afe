"""What forbids a drain, each named once with its reason."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from archshift.actions.drain_blockers import find_blockers, find_warnings
from archshift.cluster.budgets import Budget
from archshift.cluster.inventory import read_node
from archshift.cluster.model import Inventory, Workload
from archshift.cluster.pod_fields import Template
from archshift.cluster.pods import read_pod
from archshift.cluster.scheduling import Condition, Unmet
from archshift.cluster.volumes import read_volumes
from archshift.images.verdict import AMD64_ONLY
from archshift.images.workload import Blocking, WorkloadVerdict
from archshift.nodes.groups import Node, Taint
from archshift.plan.guard import X86Need, needs
from archshift.plan.model import Placement, Plan, Rules
from archshift.plan.planner import make_plan
from tests.build import Json, deployment, load, node, pod, workload

X86 = read_node(node("x86", "amd64"))
ARM = read_node(node("arm"))
CART = "shop/Deployment/cart"
NOWHERE = "no node that stays matches its own node selector or affinity"


def blocked(
    *workloads: Workload,
    pods: tuple[Json, ...] = (),
    ratio: float = 1.0,
    nodes: tuple[Node, ...] = (X86, ARM),
    on_graviton: int = 0,
    needed: tuple[X86Need, ...] = (),
    rules: Mapping[str, Rules] | None = None,
    placed_by: Placement = "patches",
    **more: Any,
) -> dict[str, str]:
    """What forbids the drain of the node x86."""
    found = Inventory(
        workloads={one.key: one for one in workloads},
        nodes=nodes,
        pods={(one.key, "arm64"): on_graviton for one in workloads},
    )
    plan: Plan = make_plan(arm_ratio=ratio, inventory=found, rules=rules, placed_by=placed_by)
    going = [one for one in nodes if one.name == "x86"]
    read = [read_pod(one) for one in pods]
    made = find_blockers(going=going, inventory=found, plan=plan, needs=needed, pods=read, **more)
    assert len({one.what for one in made}) == len(made)
    return {one.what: one.reason for one in made}


def placed(**more: Any) -> Workload:
    """A workload whose pods were moved: its template says so already."""
    required = {"nodeSelectorTerms": [{"matchExpressions": [_ARM64]}]}
    fields = {"required": required}
    template = Template(
        spec=fields, owned=frozenset(fields), selector={"matchLabels": {"app": "cart"}}, revision="1.1"
    )
    return replace(deployment(template=template), **more)


_ARM64 = {"key": "kubernetes.io/arch", "operator": "In", "values": ["arm64"]}


def test_nothing_forbids_it_where_all_has_moved() -> None:
    """What is tied to its node, and what is leaving, is in nobody's way."""
    tied = pod("agent", "x86", owner=("DaemonSet", "agent"))
    assert blocked(placed(), pods=(tied, pod("gone", "x86", terminating=True)), on_graviton=4) == {}


def test_the_ratio_and_an_update_that_is_due() -> None:
    """Below 1.0 the key is named; at 1.0 what the next update moves, or a rule keeps on x86."""
    assert blocked(placed(), ratio=0.5, on_graviton=2) == {
        "archshift:arm_ratio": "0.5 is less than 1.0; set it to 1.0 and run pulumi up",
        CART: "the next pulumi up moves its pods to Graviton; run it first",
    }
    assert blocked(deployment()) == {CART: "the next pulumi up moves its pods to Graviton; run it first"}
    assert blocked(deployment(), rules={CART: Rules(max_ratio=0.5)}) == {
        CART: "2 of its 4 pods belong on x86 (capped at 0.5 of its pods)"
    }


def test_what_needs_x86_is_named_with_the_guards_reason() -> None:
    """And its pods are not named once more."""
    one = deployment()
    blocking = (Blocking("app", "app:1", AMD64_ONLY, "container app: why"),)
    verdict = WorkloadVerdict(CART, AMD64_ONLY, blocking, ())
    needed = needs(Inventory(workloads={CART: one}), {CART: verdict}, {})
    hashed = {"pod-template-hash": "7"}
    running = pod("cart-7-x", "x86", owner=("ReplicaSet", "cart-7"), labels=hashed)
    assert blocked(one, pods=(running,), needed=needed) == {
        CART: "it needs x86: app:1 is amd64-only: container app: why"
    }


def test_x86_nodes_that_stay_carry_the_need_or_are_too_small() -> None:
    """A part of x86 may be drained while the rest does, at any ratio."""
    other = replace(X86, name="other")
    needed = (X86Need(workload=deployment(replicas=2), reason="why", pods=2),)
    assert blocked(nodes=(X86, other, ARM), needed=needed, ratio=0.5) == {}
    large = (replace(needed[0], pods=100),)
    found = blocked(nodes=(X86, other, ARM), needed=large)
    assert list(found) == ["the x86 nodes that stay"]
    assert "x86 lacks room for 42 pods" in found["the x86 nodes that stay"]
    # One that is cordoned carries nothing.
    closed = replace(other, schedulable=False)
    assert list(blocked(nodes=(X86, closed, ARM), needed=needed)) == [CART]


def test_a_need_that_no_x86_node_serves_blocks_no_drain() -> None:
    """Such as a DaemonSet for another architecture: the drain takes nothing from it."""
    template = Template(spec={"node-selector": {"beta.kubernetes.io/arch": "arm"}})
    flannel = deployment("flannel", 0, kind="DaemonSet", template=template)
    needed = (X86Need(workload=flannel, reason="why", pods=1),)
    assert blocked(needed=needed) == {}
    assert list(blocked(needed=(replace(needed[0], on_x86=1),))) == [flannel.key]


@pytest.mark.parametrize("key", ["node.kubernetes.io/unschedulable", "ToBeDeletedByClusterAutoscaler"])
def test_the_state_of_a_drained_node_hides_no_blocker(key: str) -> None:
    """Only this node has the label. It is cordoned already, or an autoscaler removes it."""
    nightly = deployment(
        "nightly", 0, kind="CronJob", template=Template(spec={"node-selector": {"disk": "fast"}})
    )
    fast = replace(X86, labels={**X86.labels, "disk": "fast"}, taints=(Taint(key=key),), schedulable=False)
    assert blocked(nightly, nodes=(fast, ARM)) == {"shop/CronJob/nightly": NOWHERE}


def test_a_bare_pod_is_named_unless_it_may_go() -> None:
    """Nothing would start it again."""
    bare = pod("loner", "x86")
    assert blocked(pods=(bare,)) == {
        "shop/Pod/loner": "a bare pod on x86, which nothing would start again; delete it, or use --bare-pods"
    }
    assert blocked(pods=(bare,), bare_pods=True) == {}
    bare["spec"]["nodeSelector"] = {"kubernetes.io/arch": "amd64"}
    assert blocked(pods=(bare,), bare_pods=True) == {"shop/Pod/loner": f"{NOWHERE} (its pod loner is on x86)"}


def test_what_would_find_no_node_any_more() -> None:
    """A pod of anybody's; and a workload without any just now, that only these nodes take."""
    job = pod("report-x", "x86", owner=("Job", "report"))
    job["spec"]["nodeSelector"] = {"disk": "fast"}
    assert blocked(pods=(job,)) == {"shop/Job/report": f"{NOWHERE} (its pod report-x is on x86)"}
    template = Template(spec={"node-selector": {"disk": "fast"}})
    nightly = deployment("nightly", 0, kind="CronJob", template=template)
    fast = replace(X86, labels={**X86.labels, "disk": "fast"})
    assert blocked(nightly, nodes=(fast, ARM)) == {"shop/CronJob/nightly": NOWHERE}
    # Nothing takes it today either: that is not the drain's business.
    assert blocked(nightly) == {}


def test_a_template_that_names_its_node_is_named() -> None:
    """Its pods go past the scheduler, and so past the cordon."""
    by_name = [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["x86"]}]}]
    tie = Condition(unmet=Unmet("node name", "x86"), required={"nodeSelectorTerms": by_name})
    assert blocked(placed(kind="StatefulSet", template=Template(), conditions=(tie,)), on_graviton=4) == {
        "shop/StatefulSet/cart": "no node that stays is x86, the only node that its template permits "
        "(spec.nodeName)"
    }


ANYWHERE = {"operator": "Exists"}


def cni_operator(**more: Any) -> Json:
    """A pod of an add-on, which tolerates the cordon of its node."""
    made = pod("cni-1-x", "x86", owner=("ReplicaSet", "cni-1"), labels={"pod-template-hash": "1"})
    made["spec"] |= {"tolerations": [ANYWHERE], **more}
    return made


@pytest.mark.parametrize(
    ("toleration", "words"),
    [
        (ANYWHERE, "operator: Exists"),
        ({"operator": "Exists", "effect": "NoSchedule"}, "effect: NoSchedule, operator: Exists"),
        (
            {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"},
            "key: node.kubernetes.io/unschedulable, operator: Exists",
        ),
    ],
)
def test_a_pod_that_would_come_back_is_named_with_its_toleration(toleration: Json, words: str) -> None:
    """It may run on the cordoned node, and after its eviction that node has the most room."""
    assert blocked(pods=(cni_operator(tolerations=[toleration]),)) == {
        "shop/Deployment/cni": "its pods would come back to the emptied nodes, because it tolerates "
        f"the cordon ({words}); give it the node selector kubernetes.io/arch: arm64, or remove the toleration"
    }


@pytest.mark.parametrize(
    "toleration",
    [
        {"key": "CriticalAddonsOnly", "operator": "Exists"},
        {"operator": "Exists", "effect": "NoExecute"},
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists"},
    ],
)
def test_other_tolerations_bring_no_pod_back(toleration: Json) -> None:
    """CoreDNS has such ones."""
    assert blocked(pods=(cni_operator(tolerations=[toleration]),)) == {}


def test_a_pod_comes_back_only_where_its_next_one_may_run() -> None:
    """The way out holds: with Graviton's node selector in its template, the next pod cannot come back. A
    node that is cordoned already, from a drain that was ended, counts as before.
    """
    fields = {"node-selector": {"kubernetes.io/arch": "arm64"}, "tolerations": [ANYWHERE]}
    selected = deployment("cni", 1, template=Template(spec=fields))
    assert blocked(selected, pods=(cni_operator(),), on_graviton=1) == {}
    cordon = Taint(key="node.kubernetes.io/unschedulable")
    cordoned = replace(X86, schedulable=False, taints=(cordon,))
    assert list(blocked(pods=(cni_operator(),), nodes=(cordoned, ARM))) == ["shop/Deployment/cni"]
    other = replace(X86, taints=(Taint(key="gpu"),))
    exact = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}
    assert blocked(pods=(cni_operator(tolerations=[exact]),), nodes=(other, ARM)) == {}


def test_a_budget_that_never_allows_an_eviction_is_named() -> None:
    """By its workload, before anything is cordoned."""
    web = pod("web-1-x", "x86", owner=("ReplicaSet", "web-1"), labels={"pod-template-hash": "1"})
    web["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    kept = Budget(namespace="shop", name="web", selector={}, healthy=1, desired=1, expected=1)
    assert blocked(pods=(web,), budgets=[kept]) == {"shop/Deployment/web": kept.never_allows()}
    assert blocked(pods=(web,), budgets=[replace(kept, namespace="pay")]) == {}


def test_a_workload_whose_rollouts_keep_all_pods_is_warned_about() -> None:
    """An eviction takes one away for a moment. A drain does not stop for it."""
    pods = [
        read_pod(
            pod(f"{name}-1-x", "x86", owner=("ReplicaSet", f"{name}-1"), labels={"pod-template-hash": "1"})
        )
        for name in ("web", "pay", "one")
    ]
    limits = {"web": 0, "pay": "25%", "one": "0%", "elsewhere": 0}
    items = []
    for name, limit in limits.items():
        items.append(workload(name=name))
        items[-1]["spec"]["strategy"] = {"rollingUpdate": {"maxUnavailable": limit}}
    assert [one.what for one in find_warnings(pods, items)] == ["shop/Deployment/web", "shop/Deployment/one"]


@pytest.mark.parametrize(("autoscaler", "found"), [("cluster-autoscaler", []), ("none", ["shop/Job/report"])])
def test_an_autoscaler_may_bring_the_node_up(autoscaler: str, found: list[str]) -> None:
    """A Graviton group without nodes takes what its labels and taints admit, if something scales it."""
    stack = load(
        platform="eks",
        cluster={"name": "prod", "subnets": ["subnet-a"], "autoscaler": autoscaler},
        node_groups={"arm": {"instance_types": ["m7g.large"], "desired_size": 0, "labels": {"disk": "fast"}}},
    )
    job = pod("report-x", "x86", owner=("Job", "report"))
    job["spec"]["nodeSelector"] = {"disk": "fast"}
    assert list(blocked(pods=(job,), groups=stack.groups)) == found


def test_a_volume_on_a_drained_node_is_named() -> None:
    """Also for a pod whose owner archshift does not know, and once the pod of one number is stuck."""
    on_x86 = {"key": "kubernetes.io/hostname", "operator": "In", "values": ["x86"]}
    affinity = {"required": {"nodeSelectorTerms": [{"matchExpressions": [on_x86]}]}}
    metadata = {"namespace": "shop", "name": "data"}
    volumes = read_volumes(
        [{"metadata": metadata, "spec": {"volumeName": "pv"}}],
        [{"metadata": {"name": "pv"}, "spec": {"local": {}, "nodeAffinity": affinity}}],
        [],
        [],
    )
    stuck = pod("strange-1", "x86", owner=("Strange", "strange"))
    stuck["spec"]["volumes"] = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    free = pod("free-1", "x86", owner=("Strange", "free"))
    found = Inventory(nodes=(X86, ARM), volumes=volumes)
    blockers = find_blockers(
        going=[X86],
        inventory=found,
        plan=make_plan(arm_ratio=1.0, inventory=found),
        needs=(),
        pods=[read_pod(stuck), read_pod(free)],
    )
    assert [str(blocker) for blocker in blockers] == [
        "shop/Strange/strange: no node that stays can use the volume of its claim data (it is in x86) "
        "(its pod strange-1 is on x86)"
    ]


def test_what_a_template_adds_to_its_rules_blocks_a_drain() -> None:
    """A workload of 0 replicas, too: its next pod could not start."""
    runtime_class = Condition(
        unmet=Unmet("runtime class", "gvisor"), selector={"kubernetes.io/arch": "amd64"}
    )
    assert blocked(deployment(replicas=0, conditions=(runtime_class,))) == {
        CART: "no node that stays matches the node selector of its RuntimeClass gvisor"
    }


# --- where the API server places pods -------------------------------------------------------------


def test_a_pod_that_tolerates_a_cordon_does_not_come_back_where_it_is_pinned() -> None:
    """No template says so: the next pods get the pin from their entry."""
    one = deployment("cart", 2)
    tolerant = pod("cart-1", "x86", owner=("ReplicaSet", "cart-5d"), labels={"pod-template-hash": "5d"})
    tolerant["spec"]["tolerations"] = [{"operator": "Exists"}]
    assert CART in blocked(one, pods=(tolerant,), on_graviton=2)
    assert blocked(one, pods=(tolerant,), on_graviton=2, placed_by="admission") == {}


def test_pods_that_the_next_update_evicts_block_a_drain() -> None:
    """It would move them in a gentler way."""
    assert blocked(deployment("cart", 4), on_graviton=3, placed_by="admission") == {
        CART: "the next pulumi up moves its pods to Graviton; run it first"
    }
    assert blocked(deployment("cart", 4), on_graviton=4, placed_by="admission") == {}


def test_a_workload_that_is_held_blocks_a_drain() -> None:
    """Its next pods are pinned to x86, and no x86 node stays."""
    found = blocked(
        deployment("cart", 4), rules={CART: Rules(hold=True, reason="slow")}, placed_by="admission"
    )
    assert found == {CART: "4 of its 4 pods belong on x86 (held on x86: slow)"}
