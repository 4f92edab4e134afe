"""What needs x86, whether the nodes that are left carry it, and which of them have to stay."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.inventory import read_inventory
from archshift.cluster.model import Autoscaler, Discovery, Inventory, Workload
from archshift.cluster.pod_fields import Template
from archshift.cluster.scheduling import meets
from archshift.common.kubernetes import ZONE_LABEL
from archshift.common.resources import Resources
from archshift.images.verdict import AMD64_ONLY, ARM64_ONLY, MULTI_ARCH, OTHER, UNKNOWN, Verdict
from archshift.images.workload import Blocking, WorkloadVerdict
from archshift.nodes.groups import Node, Taint
from archshift.plan.exceptions import BreakGlass
from archshift.plan.guard import (
    X86Need,
    most_pods,
    needs,
    nodes_that_must_stay,
    placeable,
    refuse_removal,
    removes_x86,
    shortfall,
)
from archshift.plan.model import Rules
from tests.build import (
    ARCH,
    GIB,
    MANAGER,
    REQUIRED,
    Json,
    cluster_of,
    deployment,
    karpenter_node,
    node_pool,
    pod,
    workload,
)
from tests.build import node as api_node
from tests.build import plan_node as node
from tests.properties import examples

CART = "shop/Deployment/cart"
NO_EVIDENCE = "there is no evidence for its images"


def arch_in(*architectures: str) -> Json:
    """A required node affinity for these architectures."""
    terms = [{"key": ARCH, "operator": "In", "values": list(architectures)}]
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": terms}]}}}


def cluster(**objects: list[Json]) -> Inventory:
    """The inventory of a cluster that holds these, beyond the discovery too."""
    return read_inventory(cluster_of(**objects), Discovery(), MANAGER, with_unsteered=True)


def proof(key: str, verdict: Verdict) -> WorkloadVerdict:
    """The evidence for a workload of one container."""
    blocking = (Blocking("app", "app:1", verdict, "container app: why"),)
    return WorkloadVerdict(key, verdict, () if verdict in (MULTI_ARCH, ARM64_ONLY) else blocking, ())


def reasons(
    inventory: Inventory, verdict: Verdict | None = None, rules: dict[str, Rules] | None = None
) -> dict[str, str]:
    """Who needs x86 and why, where all workloads have the same verdict; None for no evidence at all."""
    keys = {**inventory.unsteered_workloads, **inventory.workloads}
    verdicts = {key: proof(key, verdict) for key in keys} if verdict else {}
    return {need.key: need.reason for need in needs(inventory, verdicts, rules or {})}


def test_without_evidence_everything_needs_x86() -> None:
    """No evidence is no proof, whatever it is of: what is not running now would be next."""
    found = cluster(
        deployments=[
            workload(name="cart"),
            workload(name="idle", replicas=0),
            workload(name="coredns", namespace="kube-system"),
        ],
        daemonsets=[workload("DaemonSet", "log")],
        cronjobs=[workload("CronJob", "report")],
        pods=[
            pod("debug"),
            pod("build-x", owner=("Job", "build")),
            pod("roll-1", owner=("Rollout", "canary")),
        ],
    )
    keys = [
        "kube-system/Deployment/coredns",
        "shop/CronJob/report",
        "shop/DaemonSet/log",
        "shop/Deployment/cart",
        "shop/Deployment/idle",
        "shop/Job/build",
        "shop/Pod/debug",
        "shop/Rollout/canary",
    ]
    assert reasons(found) == dict.fromkeys(keys, NO_EVIDENCE)
    assert list(reasons(found)) == keys
    assert reasons(found, MULTI_ARCH) == {}


@pytest.mark.parametrize("verdict", [AMD64_ONLY, UNKNOWN, OTHER])
def test_every_verdict_but_a_proof_needs_x86(verdict: Verdict) -> None:
    """The reason is the first container's that blocks, with its image and verdict."""
    found = reasons(cluster(deployments=[workload()]), verdict)
    assert found == {CART: f"app:1 is {verdict}: container app: why"}


@pytest.mark.parametrize("verdict", [MULTI_ARCH, ARM64_ONLY])
def test_what_is_proven_does_not_need_x86(verdict: Verdict) -> None:
    """With everything proven there is nothing in the way of a removal."""
    assert reasons(cluster(deployments=[workload()]), verdict) == {}


@pytest.mark.parametrize(
    ("pod_spec", "field"),
    [
        ({"nodeSelector": {ARCH: "amd64"}}, "nodeSelector"),
        ({"nodeSelector": {"beta.kubernetes.io/arch": "amd64"}}, "nodeSelector"),
        ({"affinity": arch_in("amd64")}, "required node affinity"),
    ],
)
def test_what_pins_amd64_needs_x86_whatever_is_proven(pod_spec: Json, field: str) -> None:
    """The image would run on Graviton, and the application says that it must not."""
    found = cluster(deployments=[workload(pod_spec=pod_spec)])
    assert reasons(found, MULTI_ARCH) == {CART: f"it pins amd64 by its own {field}"}


@pytest.mark.parametrize("verdict", [MULTI_ARCH, UNKNOWN, AMD64_ONLY])
@pytest.mark.parametrize("pod_spec", [{"nodeSelector": {ARCH: "arm64"}}, {"affinity": arch_in("arm64")}])
def test_what_pins_arm64_cannot_need_x86(pod_spec: Json, verdict: Verdict) -> None:
    """It runs on no x86 node, so there is nothing that it could lose with one."""
    assert reasons(cluster(deployments=[workload(pod_spec=pod_spec)]), verdict) == {}


def test_what_is_still_moving_to_arm64_needs_x86() -> None:
    """Until its rollout is over, pods without the pin are where they were."""
    moving = workload(pod_spec={"nodeSelector": {ARCH: "arm64"}}, settled=False)
    assert reasons(cluster(deployments=[moving]), UNKNOWN) == {CART: "app:1 is unknown: container app: why"}


def test_both_architectures_are_no_pin() -> None:
    """An affinity that admits both says nothing about x86."""
    found = cluster(deployments=[workload(pod_spec={"affinity": arch_in("amd64", "arm64")})])
    assert reasons(found, MULTI_ARCH) == {}


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        (Rules(hold=True, reason="JIT is slow"), "it is held on x86: JIT is slow"),
        (Rules(hold=True), "it is held on x86 (hold: true)"),
    ],
)
def test_what_is_held_needs_x86(rules: Rules, reason: str) -> None:
    """The configuration's own word counts as much as an image's."""
    assert reasons(cluster(deployments=[workload()]), MULTI_ARCH, {CART: rules}) == {CART: reason}


def test_hold_has_no_effect_on_what_runs_on_arm64_only() -> None:
    """As in the plan: it runs on Graviton nodes, and must not hold x86 for ever."""
    found = cluster(deployments=[workload()])
    assert reasons(found, ARM64_ONLY, {CART: Rules(hold=True)}) == {}


def test_a_cap_is_no_need() -> None:
    """max_ratio is about shares, not about what runs."""
    assert reasons(cluster(deployments=[workload()]), MULTI_ARCH, {CART: Rules(max_ratio=0.5)}) == {}


def test_pods_that_a_rollout_has_not_replaced_need_x86_for_their_own_images() -> None:
    """The new template is proven; the pods that are still there run the amd64-only image of the last."""
    labels = {"pod-template-hash": "5d4f"}
    old = pod("cart-0", owner=("ReplicaSet", "cart-5d4f"), labels=labels)
    old["spec"]["containers"] = [{"name": "cart", "image": "registry.example/old:1"}]
    found = cluster(deployments=[workload(settled=False)], pods=[old])
    verdicts = {CART: proof(CART, MULTI_ARCH)}
    (need,) = needs(found, verdicts, {})
    assert (need.key, need.pods) == ("shop/Deployment/cart (last revision)", 1)


def named(name: str = "cart", replicas: int = 1, **more: Any) -> Workload:
    """A workload that asks for 1 vCPU and 1 GiB a pod."""
    options: dict[str, Any] = {"template": Template(), "requests": Resources(1000, GIB), **more}
    return Workload("shop", "Deployment", name, replicas, **options)


@pytest.mark.parametrize(
    ("found", "pods"),
    [
        (named(replicas=3), 3),
        (named(replicas=0), 1),
        (named(replicas=3, autoscaled=Autoscaler(by="HorizontalPodAutoscaler cart", least=2, most=9)), 9),
        (named(replicas=12, autoscaled=Autoscaler(by="HorizontalPodAutoscaler cart", least=2, most=9)), 12),
        (named(replicas=0, autoscaled=Autoscaler(by="HorizontalPodAutoscaler cart", least=0, most=0)), 1),
        (replace(named(replicas=0), kind="DaemonSet"), 1),
    ],
)
def test_room_is_kept_for_the_most_pods_there_may_be(found: Workload, pods: int) -> None:
    """An autoscaler may ask for its maximum tomorrow, and what is scaled to zero for one."""
    assert most_pods(found) == pods


def test_a_need_has_the_autoscalers_maximum_outside_the_discovery_too() -> None:
    """kube-system's and other teams' workloads share the x86 nodes."""
    scaler = {
        "metadata": {"namespace": "kube-system", "name": "dns"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "dns"}, "maxReplicas": 7},
    }
    found = cluster(deployments=[workload(name="dns", namespace="kube-system")], scalers=[scaler])
    assert [(need.key, need.pods) for need in needs(found, {}, {})] == [("kube-system/Deployment/dns", 7)]


# --- what is left has to carry it ------------------------------------------------------------


def need(name: str = "cart", pods: int = 1, **more: Any) -> X86Need:
    """Something that needs x86."""
    return X86Need(workload=named(name, **more), reason="why", pods=pods)


def selects(**labels: str) -> Template:
    return Template(spec={"node-selector": labels})


ONE = "1 workload needs x86: shop/Deployment/cart (why)"
NOWHERE = f"{ONE}: no x86 node is left where they can run"


@pytest.mark.parametrize("number", [2, 400])
def test_what_needs_x86_is_asked_once_for_all_of_the_same_rules(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 5,000 needs on 1,000 nodes each pair was asked, in every preview; of their two rules it is two."""
    asked: list[str] = []

    def spied(node: Node, *rules: Any) -> bool:
        asked.append(node.name)
        return meets(node, *rules)

    monkeypatch.setattr("archshift.cluster.model.meets", spied)
    fleet = [node(str(one), labels={"disk": "ssd"}) for one in range(50)]
    rules = (Template(), selects(disk="ssd"))
    needed = [need(str(one), template=rules[one % 2]) for one in range(number)]
    assert not removes_x86(needed, fleet, fleet)
    # Of each rule and node: whether it takes it now, and whether it will.
    assert len(asked) == 2 * 2 * 50
    asked.clear()
    assert not shortfall(needed, [replace(one, pods=1000, millicpu=10**6, memory=10**15) for one in fleet])
    assert len(asked) == 2 * 50


def test_nothing_needed_is_nothing_to_object() -> None:
    """Where all is proven even the last node may go."""
    assert shortfall((), ()) == ""
    assert nodes_that_must_stay((), [node("a")]) == frozenset()


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        [node("arm", "arm64")],
        [Node(name="bare", labels={}, millicpu=4000, memory=16 * GIB, pods=58)],
        [node("down", schedulable=False)],
        [node("tainted", taints=(Taint(key="retired"),))],
        [node("going", taints=(Taint(key="retired", effect="NoExecute"),))],
    ],
    ids=["none", "graviton", "no-label", "unready", "no-schedule", "no-execute"],
)
def test_nodes_that_cannot_take_it_do_not_count(nodes: Sequence[Node]) -> None:
    """Neither Graviton nodes, nor those that are down or cordoned, nor those that turn it away."""
    assert shortfall([need()], nodes) == NOWHERE


@pytest.mark.parametrize(
    "template",
    [
        selects(pool="main"),
        Template(
            spec={
                "required": {
                    "nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["main"]}]}
                    ]
                }
            }
        ),
    ],
    ids=["node-selector", "required"],
)
def test_a_node_with_other_labels_does_not_count(template: Template) -> None:
    """A relabelled node is one less for what selects by the label."""
    wanted = [need(template=template)]
    assert shortfall(wanted, [node("a", labels={"pool": "other"})]) == NOWHERE
    assert shortfall(wanted, [node("a", labels={"pool": "main"})]) == ""


@pytest.mark.parametrize(
    "taints",
    [(Taint(key="soft", effect="PreferNoSchedule"),), (Taint(key="team", value="shop"),)],
    ids=["soft", "tolerated"],
)
def test_a_taint_that_turns_nobody_away_does_not_matter(taints: tuple[Taint, ...]) -> None:
    """Soft taints, and those that the workload tolerates."""
    tolerations = ({"key": "team", "value": "shop", "effect": "NoSchedule"},)
    assert shortfall([need(tolerations=tolerations)], [node("a", taints=taints)]) == ""


@pytest.mark.parametrize(
    ("wanted", "nodes", "missing"),
    [
        (
            need(pods=6),
            [node("a")],
            "x86 lacks 2.0 vCPU: 6 pods ask for 6.0 vCPU and 6.0 GiB of the 4.0 vCPU and 16.0 GiB of 1 nodes",
        ),
        (
            need(pods=2, requests=Resources(0, 10 * GIB)),
            [node("a")],
            "x86 lacks 4.0 GiB: 2 pods ask for 0.0 vCPU and 20.0 GiB of the 4.0 vCPU and 16.0 GiB of 1 nodes",
        ),
        (
            need(pods=3, requests=Resources(0, 0)),
            [node("a", pods=1), node("b", pods=1)],
            "x86 lacks room for 1 pods: 3 pods ask for 0.0 vCPU and 0.0 GiB of the 8.0 vCPU and 32.0 GiB of "
            "2 nodes",
        ),
        (
            need(requests=Resources(5000, GIB)),
            [node("a"), node("b")],
            "x86 has no node for a pod of 5.0 vCPU and 1.0 GiB",
        ),
    ],
    ids=["vcpu", "memory", "pods", "largest"],
)
def test_too_little_room_is_a_shortfall(wanted: X86Need, nodes: Sequence[Node], missing: str) -> None:
    """The numbers that are missing; as many nodes more, and there is none."""
    assert shortfall([wanted], nodes) == f"{ONE}: {missing}"
    assert shortfall([wanted], [*nodes, node("large", millicpu=9000, memory=99 * GIB)]) == ""


def test_exactly_enough_is_enough() -> None:
    """Four pods of 1 vCPU on a node of 4."""
    assert shortfall([need(pods=4)], [node("a")]) == ""


@pytest.mark.parametrize("more", [{"labels": {"pool": "db"}}, {"taints": (Taint(key="db"),)}])
def test_room_where_nothing_of_it_may_run_does_not_count(more: Json) -> None:
    """A large node of another pool does not make up for a small one of its own."""
    wanted = [need(pods=6, template=selects(pool="main"))]
    nodes = [node("a", labels={"pool": "main"}), node("big", millicpu=64000, **more)]
    assert shortfall(wanted, nodes).startswith(f"{ONE}: x86 lacks 2.0 vCPU")


def test_each_needs_room_where_its_own_rules_let_it_run() -> None:
    """Another's nodes, which it may not use, do not make up for its own: neither in sum nor in size."""
    cart, pay = need(pods=6, template=selects(pool="main")), need("pay", pods=1)
    nodes = [node("a", labels={"pool": "main"}), node("big", millicpu=64000)]
    assert shortfall([cart, pay], nodes).startswith(f"{ONE}: x86 lacks 2.0 vCPU")
    large = need(requests=Resources(8000, GIB), template=selects(pool="main"))
    small = [node("a", labels={"pool": "main"}), node("b", labels={"pool": "main"}), *nodes[1:]]
    assert shortfall([large, pay], small).startswith(f"{ONE}: x86 has no node for a pod of 8.0 vCPU")


def test_one_that_is_down_does_not_speak_for_another() -> None:
    """The only node that takes cart is not ready; that pay has one is no answer."""
    cart, pay = need(template=selects(pool="main")), need("pay")
    nodes = [node("a", labels={"pool": "main"}, schedulable=False), node("b")]
    assert shortfall([cart, pay], nodes) == NOWHERE


def test_all_of_them_need_room_together() -> None:
    """Each alone would fit; the sentence names both."""
    wanted = [need(pods=3), need("pay", pods=3, template=selects(pool="main"))]
    assert shortfall(wanted, [node("a", labels={"pool": "main"})]) == (
        "2 workloads need x86: shop/Deployment/cart (why), shop/Deployment/pay (why): x86 lacks 2.0 vCPU: "
        "6 pods ask for 6.0 vCPU and 6.0 GiB of the 4.0 vCPU and 16.0 GiB of 1 nodes"
    )


def test_those_that_share_a_part_of_the_nodes_need_room_there_together() -> None:
    """Room elsewhere does not help: neither of the two may use it."""
    zone = need(pods=4, template=selects(pool="main", zone="a"))
    pool = need("pay", pods=8, template=selects(pool="main"))
    other = need("web", pods=1)
    nodes = [
        node("a", labels={"pool": "main", "zone": "a"}),
        node("b", labels={"pool": "main", "zone": "b"}),
        node("big", millicpu=64000),
    ]
    assert shortfall([zone, pool, other], nodes).startswith(
        f"2 workloads need x86: {CART} (why), shop/Deployment/pay (why): x86 lacks 4.0 vCPU"
    )
    assert nodes_that_must_stay([zone, pool, other], nodes) == {"a", "b", "big"}
    nodes.insert(2, node("c", labels={"pool": "main", "zone": "b"}))
    assert shortfall([zone, pool, other], nodes) == ""


def test_those_that_share_one_of_their_nodes_need_room_on_all_of_them() -> None:
    """Each alone has the node between them, and both together do not."""
    left = need(pods=4, template=selects(left="yes"))
    right = need("pay", pods=4, template=selects(right="yes"))
    nodes = [
        node("a", labels={"left": "yes"}, millicpu=2000),
        node("b", labels={"left": "yes", "right": "yes"}, millicpu=2000),
        node("c", labels={"right": "yes"}, millicpu=2000),
        node("large", labels={"other": "yes"}, millicpu=64000),
    ]
    other = need("web", template=selects(other="yes"))
    assert shortfall([left, other], nodes) == shortfall([right, other], nodes) == ""
    assert shortfall([left, right, other], nodes).startswith(
        f"2 workloads need x86: {CART} (why), shop/Deployment/pay (why): x86 lacks 2.0 vCPU"
    )


@st.composite
def shared_nodes(draw: st.DrawFn) -> tuple[list[X86Need], list[Node]]:
    """Needs of 1 vCPU a pod on small nodes that they share; the first also has a large node for itself."""
    number = draw(st.integers(3, 5))
    needed = [
        need(f"w{index}", pods=draw(st.integers(1, 4)), template=selects(**{f"takes-{index}": "yes"}))
        for index in range(number)
    ]
    nodes = [node("large", labels={"takes-0": "yes"}, millicpu=64000)]
    for name in range(draw(st.integers(2, 4))):
        takers = draw(st.sets(st.integers(1, number - 1), min_size=1, max_size=2))
        labels = {f"takes-{index}": "yes" for index in takers}
        nodes.append(node(f"n{name}", labels=labels, millicpu=1000 * draw(st.integers(2, 4))))
    return needed, nodes


@given(shared_nodes())
@examples
def test_no_group_of_needs_counts_on_the_room_of_another(fleet: tuple[list[X86Need], list[Node]]) -> None:
    """Against all groups, one after the other: each must have room on the nodes that any of it can use."""
    needed, nodes = fleet

    def fits(group: Sequence[X86Need]) -> bool:
        usable = [one for one in nodes if any(wanted.workload.may_run_on(one) for wanted in group)]
        return sum(wanted.pods for wanted in group) * 1000 <= sum(one.millicpu for one in usable)

    groups = [
        [wanted for index, wanted in enumerate(needed) if chosen >> index & 1]
        for chosen in range(1, 1 << len(needed))
    ]
    assert (shortfall(needed, nodes) == "") == all(map(fits, groups))


def test_a_long_list_is_cut_and_counted() -> None:
    """Five names are enough to act on; the number says how many there are."""
    assert shortfall([need(f"w{index}") for index in range(8)], []) == (
        "8 workloads need x86: "
        + ", ".join(f"shop/Deployment/w{index} (why)" for index in range(5))
        + ", 3 more: no x86 node is left where they can run"
    )


def containers_with(**resources: Any) -> Json:
    return {"containers": [{"name": "app", "image": "app:1", "resources": resources}]}


@pytest.mark.parametrize(
    "pod_spec",
    [
        containers_with(limits={"cpu": "1", "memory": "1Gi"}),
        {**containers_with(), "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
        {
            **containers_with(),
            "initContainers": [
                {"name": "proxy", "restartPolicy": "Always", "resources": {"requests": {"cpu": "300m"}}},
                {"name": "migrate", "resources": {"requests": {"cpu": "700m", "memory": "1Gi"}}},
            ],
        },
    ],
    ids=["limits alone", "the pod's own requests", "an init container after a sidecar"],
)
def test_requests_that_no_container_states_keep_their_nodes(pod_spec: Json) -> None:
    """Six pods of 1 vCPU whose containers state less. The scheduler puts three on a node of 4 vCPU."""
    found = cluster(deployments=[workload(replicas=6, pod_spec=pod_spec)])
    needed = needs(found, {CART: proof(CART, AMD64_ONLY)}, {})
    fleet = [node(f"n{number}", millicpu=3920, memory=15 * GIB) for number in range(5)]
    assert "CPU" in shortfall(needed, fleet[:1])
    assert shortfall(needed, fleet[:2]) == ""
    assert len(nodes_that_must_stay(needed, fleet)) == 2


# --- a change is stopped only if it takes something away -------------------------------------

TYPE = "node.kubernetes.io/instance-type"


@pytest.mark.parametrize(
    "later",
    [
        None,
        node("a", "arm64", labels={TYPE: "m7i.large"}),
        node("a", labels={TYPE: "m7i.xlarge"}),
        node("a", labels={TYPE: "m7i.large"}, taints=(Taint(key="retired"),)),
        node("a", labels={TYPE: "m7i.large"}, taints=(Taint(key="retired", effect="NoExecute"),)),
    ],
    ids=["gone", "graviton", "another-type", "no-schedule", "no-execute"],
)
def test_a_node_that_goes_or_turns_away_is_taken(later: Node | None) -> None:
    """Replacement by another instance type counts as going: the old node is deleted first."""
    before = node("a", labels={TYPE: "m7i.large"})
    assert removes_x86([need()], [before], [later] if later else [])


def test_a_node_that_loses_the_label_that_is_selected_is_taken() -> None:
    """For what selects by it, and for nothing else."""
    before, later = node("a", labels={"pool": "main"}), node("a", labels={"pool": "other"})
    assert removes_x86([need(template=selects(pool="main"))], [before], [later])
    assert not removes_x86([need()], [before], [later])


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([node("a")], [node("a"), node("b")]),
        ([node("a")], [node("a", labels={"team": "shop"})]),
        ([node("arm", "arm64")], []),
        ([node("a")], [node("a", taints=(Taint(key="soft", effect="PreferNoSchedule"),))]),
        ([node("a", taints=(Taint(key="old"),))], [node("a")]),
        ([node("a", taints=(Taint(key="dedicated"),))], [node("a", taints=(Taint(key="dedicated"),))]),
        ([], []),
    ],
    ids=["more", "a-label", "graviton", "soft-taint", "untainted", "tainted-as-before", "none"],
)
def test_a_change_that_takes_nothing_is_free(before: Sequence[Node], after: Sequence[Node]) -> None:
    """However short x86 is already: nothing that runs loses anything by it."""
    assert not removes_x86([need()], before, after)


def test_a_taint_set_by_hand_is_no_licence_to_taint() -> None:
    """Pods still run behind it; the configuration's own taint is one more that takes the node away."""
    by_hand = node("a", taints=(Taint(key="node.kubernetes.io/not-ready"),))
    assert removes_x86([need()], [by_hand], [node("a", taints=(Taint(key="retired"),))])
    assert removes_x86([need()], [by_hand], [])


def test_what_is_left_has_to_carry_it_now() -> None:
    """Nodes to be made, nodes to be replaced and nodes that are down carry nothing yet; the rest decides."""
    a, b = node("a", labels={TYPE: "m7i.large"}), node("b", labels={TYPE: "m7i.large"})
    larger = node("b", labels={TYPE: "m7i.xlarge"}, millicpu=8000)

    def removed(live: list[Node], after: list[Node], pods: int = 1) -> str:
        return refuse_removal([need(pods=pods)], live, live, after)

    assert removed([a, b], [b]) == ""
    assert removed([a, b], []) == NOWHERE
    assert removed([a], [node("new")]) == NOWHERE
    assert removed([a, b], [larger]) == NOWHERE
    assert removed([a, replace(b, schedulable=False)], [b]) == NOWHERE
    assert removed([a, b], [b], pods=5).startswith(f"{ONE}: x86 lacks 1.0 vCPU")


def test_only_what_is_going_is_asked_about() -> None:
    """Another node's update is free while a third one goes; that one's own delete is asked about."""
    a, b = node("a"), node("b")
    assert refuse_removal([need()], [a], [a, b], [a]) == ""
    assert refuse_removal([need(pods=5)], [a], [a, b], [a]) == ""
    assert refuse_removal([need(pods=5)], [b], [a, b], [a]).startswith(f"{ONE}: x86 lacks 1.0 vCPU")


# --- which nodes have to stay ----------------------------------------------------------------


def test_the_first_that_suffice_have_to_stay() -> None:
    """In the order of the configuration, and not one more; Graviton nodes are nobody's floor."""
    nodes = [node("a"), node("arm", "arm64"), node("b"), node("c")]
    assert nodes_that_must_stay([need(pods=1)], nodes) == {"a"}
    assert nodes_that_must_stay([need(pods=4)], nodes) == {"a"}
    assert nodes_that_must_stay([need(pods=5)], nodes) == {"a", "b"}
    assert nodes_that_must_stay([need(pods=12)], nodes) == {"a", "b", "c"}


def test_where_even_all_do_not_suffice_all_have_to_stay() -> None:
    """Too little is no reason to protect less."""
    nodes = [node("a"), node("b"), node("arm", "arm64"), node("c")]
    assert nodes_that_must_stay([need(pods=13)], nodes) == {"a", "b", "c"}


NOT_SERVED = [
    need("arm", template=selects(**{ARCH: "arm"})),
    need("gpu", template=selects(pool="none")),
    need("huge", requests=Resources(millicpu=64_000)),
    need("fat", requests=Resources(memory=999 * GIB)),
]


@pytest.mark.parametrize("hopeless", [*([one] for one in NOT_SERVED), NOT_SERVED])
def test_a_need_that_no_node_serves_now_counts_for_nothing(hopeless: list[X86Need]) -> None:
    """It has nothing to lose: x86 may shrink to what the others need, and only they are named."""
    nodes = [node("a"), node("arm", "arm64"), node("b"), node("c")]
    assert nodes_that_must_stay(hopeless, nodes) == frozenset()
    assert nodes_that_must_stay([*hopeless, need(pods=5)], nodes) == {"a", "b"}
    assert refuse_removal(hopeless, nodes, nodes, nodes[:2]) == ""
    wanted = [*hopeless, need(pods=5)]
    assert refuse_removal(wanted, nodes, nodes, nodes[:3]) == ""
    assert refuse_removal(wanted, nodes, nodes, nodes[:2]).startswith(f"{ONE}: x86 lacks 1.0 vCPU")


def test_a_need_that_some_node_serves_now_must_be_served_afterwards() -> None:
    """Also by a node that takes no pods for the moment, which will take them again."""
    main = node("main", labels={"pool": "main"}, schedulable=False)
    cordon = (Taint(key="node.kubernetes.io/unschedulable"),)
    for there in (main, replace(main, taints=cordon), replace(main, schedulable=True)):
        wanted = [need(template=selects(pool="main"))]
        assert nodes_that_must_stay(wanted, [there, node("b")]) >= {"main"}
        assert refuse_removal(wanted, [there], [there, node("b")], [node("b")]) == NOWHERE


def test_pods_that_started_under_other_rules_are_not_lost() -> None:
    """Their node was tainted or relabelled after they had started, so they could not start again."""
    wanted = replace(need(template=selects(pool="old")), on_x86=1)
    assert refuse_removal([wanted], [node("a")], [node("a"), node("b")], [node("b")]) == NOWHERE
    assert nodes_that_must_stay([wanted], [node("a"), node("b")]) == {"a", "b"}


def test_only_needs_that_lose_a_node_stop_its_removal() -> None:
    """The database lacks room on its own node, before and after; the removed node was never its own."""
    nodes = [node("db", labels={"pool": "db"}), node("a"), node("b")]
    short = need("db", 9, template=selects(pool="db"))
    assert shortfall([short], nodes)
    assert refuse_removal([short], [nodes[2]], nodes, nodes[:2]) == ""
    assert refuse_removal([short], [nodes[0]], nodes, nodes[1:])


def test_what_is_unknown_about_a_node_to_come_permits_no_removal() -> None:
    """A NodePool may bring up a node in the zone of the need, or it may not."""
    pool = node_pool("x86")
    live = karpenter_node("ip-1", zone="a", **{ZONE_LABEL: "eu-west-1a"})
    wanted = need(template=selects(**{ZONE_LABEL: "eu-west-1a"}))
    sample = pool.possible_nodes()[0]
    assert wanted.workload.may_run_on(sample)
    assert refuse_removal([wanted], [live], [live], pool.possible_nodes(), proven_pools=["x86"])
    zoned = replace(pool, zones=("eu-west-1a",))
    assert not refuse_removal([wanted], [live], [live], zoned.possible_nodes(), proven_pools=["x86"])


@pytest.mark.parametrize(
    "pod_spec",
    [
        {"nodeSelector": {"kubernetes.io/os": "windows"}},
        {"nodeSelector": {"beta.kubernetes.io/os": "windows"}},
        {
            "affinity": {
                "nodeAffinity": {
                    REQUIRED: {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "kubernetes.io/os", "operator": "In", "values": ["windows"]}
                                ]
                            }
                        ]
                    }
                }
            }
        },
    ],
)
def test_a_windows_workload_does_not_need_linux_nodes(pod_spec: Json) -> None:
    assert reasons(cluster(deployments=[workload(pod_spec=pod_spec)]), OTHER) == {}
    assert reasons(cluster(deployments=[workload(pod_spec={"nodeSelector": {"kubernetes.io/os": "linux"}})]))


def test_pods_on_fargate_do_not_need_x86_nodes() -> None:
    """AWS makes a node for each of them."""
    fargate = api_node("fargate-ip-1", "amd64")
    fargate["metadata"]["labels"]["eks.amazonaws.com/compute-type"] = "fargate"
    placed = pod(
        "cart-1", "fargate-ip-1", owner=("ReplicaSet", "cart-5f"), labels={"pod-template-hash": "5f"}
    )
    assert reasons(cluster(deployments=[workload()], nodes=[fargate], pods=[placed])) == {}
    assert reasons(cluster(deployments=[workload()], nodes=[api_node("x", "amd64")], pods=[placed])) != {}


def test_nodes_on_the_way_to_the_last_one_needed_stay_too() -> None:
    """A node that nothing needed can use is not skipped where a later one is needed: too many, not too few.
    One that is down does not count, so another stays for it.
    """
    nodes = [node("a", taints=(Taint(key="gpu"),)), node("b"), node("c")]
    assert nodes_that_must_stay([need()], nodes) == {"a", "b"}
    assert nodes_that_must_stay([need()], [node("a", schedulable=False), node("b"), node("c")]) == {"a", "b"}


# --- break-glass -----------------------------------------------------------------------------

NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def glass(until: datetime) -> BreakGlass:
    """Break-glass until then."""
    return BreakGlass(until=until, reason="region is lost", ticket="OPS-7")


@pytest.mark.parametrize(
    ("until", "active"),
    [
        (NOW - SECOND, False),
        (NOW, False),
        (NOW + SECOND, True),
        (NOW + timedelta(hours=24), True),
        (NOW + timedelta(hours=24) + SECOND, False),
        (datetime(2026, 3, 2, 13, 30, tzinfo=timezone(timedelta(hours=1))), True),
        (datetime(2026, 3, 2, 13, 0, tzinfo=timezone(timedelta(hours=1))), False),
    ],
    ids=["over", "this-moment", "one-second", "a-day", "more-than-a-day", "zone", "over-there"],
)
def test_break_glass_ends_by_itself_and_cannot_be_left_open(until: datetime, active: bool) -> None:
    """From now to a day ahead, whatever the time zone; outside it has no effect."""
    assert glass(until).active(NOW) is active


def test_break_glass_in_force_is_loud() -> None:
    """Until when, why, and where that is written down."""
    assert glass(NOW + timedelta(hours=1)).describe(NOW) == (
        "BREAK GLASS until 2026-03-02T13:00+00:00: x86 is not guarded. Reason: region is lost; ticket OPS-7"
    )


@pytest.mark.parametrize(
    ("until", "why"),
    [
        (NOW, "2026-03-02T12:00+00:00 ended"),
        (NOW + timedelta(hours=25), "2026-03-03T13:00+00:00 is more than 24 hours ahead"),
    ],
)
def test_break_glass_without_effect_says_so(until: datetime, why: str) -> None:
    """A person under stress must not believe that it is open."""
    assert glass(until).describe(NOW) == (
        f"archshift:break_glass.until: {why}, so it has no effect; remove it or set a new time"
    )


# --- properties ------------------------------------------------------------------------------

POOLS = st.sampled_from(["main", "db"])
TAINTS = st.lists(
    st.builds(
        Taint, key=st.sampled_from(["gpu", "spot"]), effect=st.sampled_from(["NoSchedule", "NoExecute"])
    ),
    max_size=1,
).map(tuple)


@st.composite
def fleets(draw: st.DrawFn, *, enough: bool = False) -> list[Node]:
    """Nodes of both architectures, some small, tainted, unlabelled or down; named by their place.

    With ``enough``, somewhere among them those that carry whatever is needed.
    """
    made = draw(
        st.lists(
            st.builds(
                node,
                st.just(""),
                st.sampled_from(["amd64", "amd64", "amd64", "arm64"]),
                labels=st.one_of(st.none(), st.fixed_dictionaries({"pool": POOLS})),
                taints=TAINTS,
                millicpu=st.sampled_from([1000, 4000, 8000]),
                pods=st.sampled_from([2, 58]),
                schedulable=st.sampled_from([True, True, True, False]),
            ),
            max_size=6,
        )
    )
    if enough:
        large = [
            node("", labels={"pool": pool}, millicpu=200_000, memory=99 * GIB) for pool in ("main", "db")
        ]
        made = draw(st.permutations([*made, *large]))
    return [replace(one, name=f"n{index}") for index, one in enumerate(made)]


NEEDS = st.lists(
    st.builds(
        need,
        st.sampled_from(["cart", "pay", "db"]),
        st.integers(1, 8),
        template=st.one_of(st.just(Template()), POOLS.map(lambda pool: selects(pool=pool))),
        tolerations=st.sampled_from([(), ({"operator": "Exists"},), ({"key": "gpu", "operator": "Exists"},)]),
        requests=st.builds(Resources, st.integers(0, 5000), st.just(GIB)),
    ),
    min_size=1,
    max_size=4,
)


@examples
@given(NEEDS, fleets(enough=True), fleets())
def test_more_nodes_never_add_a_shortfall(wanted: list[X86Need], few: list[Node], more: list[Node]) -> None:
    """Otherwise adding capacity could block a step, and halving would not find the nodes that must stay."""
    assert not shortfall(wanted, few)
    assert not shortfall(wanted, [*few, *more])
    assert not shortfall(wanted, [*more, *few])


@examples
@given(NEEDS, fleets(enough=True), st.data())
def test_nodes_that_need_not_stay_may_go(
    wanted: list[X86Need], nodes: list[Node], data: st.DataObject
) -> None:
    """Whatever is not protected can be taken away, in any combination, without a shortfall."""
    stays = nodes_that_must_stay(wanted, nodes)
    free = [one for one in nodes if one.name not in stays]
    kept = data.draw(st.lists(st.sampled_from(free), unique_by=lambda one: one.name) if free else st.just([]))
    assert not shortfall(wanted, [one for one in nodes if one.name in stays or one in kept])


@examples
@given(NEEDS, fleets(enough=True) | fleets())
def test_a_floor_suffices_wherever_all_do_and_is_the_first_that_does(
    wanted: list[X86Need], nodes: list[Node]
) -> None:
    """Its nodes alone have no shortfall, and without the last of them there would be one."""
    stays = [one for one in nodes if one.name in nodes_that_must_stay(wanted, nodes)]
    x86 = [one for one in nodes if one.architecture == "amd64"]
    assert stays == x86[: len(stays)]
    served = placeable(wanted, nodes)
    if not served:
        assert not stays
    elif shortfall(served, nodes):
        assert stays == x86
    else:
        assert not shortfall(served, stays)
        assert shortfall(served, stays[:-1])


@examples
@given(NEEDS, fleets())
def test_a_change_to_the_same_or_more_takes_nothing(wanted: list[X86Need], nodes: list[Node]) -> None:
    """What an update leaves alone is never the reason to stop it."""
    assert not removes_x86(wanted, nodes, nodes)
    assert not removes_x86(wanted, nodes, [*nodes, node("another")])
    gone = [one for one in nodes if one.architecture != "amd64"]
    assert removes_x86(wanted, nodes, gone) is (gone != nodes)


KINDS = st.sampled_from(["Deployment", "StatefulSet", "DaemonSet", "CronJob", "Pod", "Job"])
VERDICTS: st.SearchStrategy[Verdict | None] = st.sampled_from(
    [None, MULTI_ARCH, AMD64_ONLY, ARM64_ONLY, OTHER, UNKNOWN]
)
ROWS = st.tuples(KINDS, VERDICTS, st.booleans(), st.booleans(), st.integers(0, 3))


@examples
@given(st.lists(ROWS, max_size=6))
def test_unknown_never_counts_as_proven(rows: list[tuple[str, Verdict | None, bool, bool, int]]) -> None:
    """Only a proof, and no rule or state of the workload beside it, takes a workload off x86."""
    inside: dict[str, Workload] = {}
    unsteered: dict[str, Workload] = {}
    verdicts: dict[str, WorkloadVerdict] = {}
    rules: dict[str, Rules] = {}
    for index, (kind, verdict, steered, hold, replicas) in enumerate(rows):
        one = replace(named(f"w{index}", replicas), kind=kind)
        (inside if steered else unsteered)[one.key] = one
        if verdict:
            verdicts[one.key] = proof(one.key, verdict)
        if hold:
            rules[one.key] = Rules(hold=True)
    found = {
        one.key for one in needs(Inventory(workloads=inside, unsteered_workloads=unsteered), verdicts, rules)
    }
    unproven = {
        key
        for key in {**inside, **unsteered}
        if key not in verdicts or verdicts[key].verdict not in (MULTI_ARCH, ARM64_ONLY)
    }
    assert unproven <= found
    assert found - unproven == {
        key for key in rules if key in verdicts and verdicts[key].verdict == MULTI_ARCH
    }


def test_running_pods_of_a_job_keep_their_room() -> None:
    """A Job has no permanent pods, but those that run need their nodes to the end."""
    job = deployment("load", 0, kind="Job", requests=Resources(1000, GIB))
    found = Inventory(workloads={job.key: job}, pods={(job.key, "amd64"): 4, (job.key, ""): 1})
    (need,) = needs(found, {}, {})
    assert need.pods == 5
