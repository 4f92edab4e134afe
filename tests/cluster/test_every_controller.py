"""Workloads that only their pods show: whatever makes pods can be placed at admission."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.entries import PLACED_ANNOTATION, Entry, Scaling
from archshift.cluster.inventory import read_inventory
from archshift.cluster.model import Autoscaler, Discovery, Inventory, Workload
from archshift.cluster.pod_fields import SPREADS, Template, template_of_pod
from archshift.cluster.pods import read_pod
from archshift.common.architectures import AMD64, ARM64
from archshift.plan.placement import place
from archshift.plan.planner import make_plan
from tests.build import ARCH, MANAGER, PREFERRED, REQUIRED, cluster_of, node, pod, workload
from tests.properties import examples

HASH = "rollouts-pod-template-hash"
ARGO = {HASH: "7c9", "app": "web"}


def read(discovery: Discovery | None = None, **objects: list[dict[str, Any]]) -> Inventory:
    """The inventory of a cluster with a node on each side, with every controller."""
    nodes = [node("arm"), node("x86", "amd64")]
    fake = cluster_of(nodes=nodes, **objects)
    return read_inventory(fake, discovery or Discovery(), MANAGER, with_unsteered=True, every_controller=True)


def only(*pods: dict[str, Any], scalers: list[dict[str, Any]] | None = None) -> Workload:
    """The only workload of a cluster."""
    (one,) = read(pods=[*pods], scalers=scalers or []).workloads.values()
    return one


def argo(number: int, where: str = "x86", **more: Any) -> dict[str, Any]:
    """A pod of an Argo Rollout."""
    return pod(f"web-7c9-{number}", where, owner=("ReplicaSet", "web-7c9"), labels=ARGO, **more)


def test_an_argo_rollout_is_a_workload_of_the_plan() -> None:
    """Its pods name it by their ReplicaSet, and their revision label lets the scheduler keep a share."""
    found = read(pods=[argo(1), argo(2), argo(3, "arm"), argo(4, terminating=True)])
    (one,) = found.workloads.values()
    assert (one.key, one.replicas, one.one_side) == ("shop/Rollout/web", 3, False)
    assert (one.template.revision_label, one.template.labels) == (HASH, ARGO)
    assert one.requests.millicpu == 250
    assert [container.use.image for container in one.containers] == ["registry.example/app:1"]
    assert [container.role for container in found.containers[one.key]] == [one.containers[0].role]
    assert (found.on(one.key, AMD64), found.on(one.key, ARM64)) == (2, 1)
    assert found.unsteered_workloads == {}
    assert found.unsteered_reasons == {}
    assert found.unsteered_load == {}
    (row,) = make_plan(arm_ratio=1.0, inventory=found, placed_by="admission").workloads
    assert (row.key, row.wanted, row.moves, row.movable) == ("shop/Rollout/web", 3, 2, True)


def test_with_patches_only_known_kinds_are_workloads() -> None:
    """There is no template that archshift could patch."""
    found = read_inventory(cluster_of(pods=[argo(1)], nodes=[node("x86", "amd64")]), Discovery(), MANAGER)
    assert found.workloads == {}
    assert found.unsteered_reasons == {
        "shop/ReplicaSet/web-7c9": "archshift does not steer pods of a ReplicaSet"
    }


@pytest.mark.parametrize(
    ("owner", "labels", "key", "one_side"),
    [
        (("ReplicaSet", "web"), {"app": "web"}, "shop/ReplicaSet/web", False),
        (("StrimziPodSet", "kafka"), {"app": "kafka"}, "shop/StrimziPodSet/kafka", True),
        (("CloneSet", "cart"), {"controller-revision-hash": "1"}, "shop/CloneSet/cart", False),
        (("Rollout", "web"), {}, "shop/Rollout/web", True),
        (("Rollout", "web"), {"controller-revision-hash": "1"}, "shop/Rollout/web", False),
        (("CloneSet", "cart"), {"pod-template-hash": "1"}, "shop/CloneSet/cart", True),
        (("ReplicaSet", "web"), {"controller-revision-hash": "1"}, "shop/ReplicaSet/web", False),
    ],
)
def test_other_controllers(
    owner: tuple[str, str], labels: Mapping[str, str], key: str, one_side: bool
) -> None:
    """Only a label that tells the pods of one revision from all others lets the scheduler count them."""
    one = only(*(pod(name, "x86", owner=owner, labels=labels) for name in "ab"))
    assert (one.key, one.replicas, one.one_side) == (key, 2, one_side)


def test_pods_that_end_by_themselves_are_no_permanent_pods() -> None:
    """A Job's, and those of a pipeline that makes pods itself."""
    job, task = pod("a", "x86", owner=("Job", "load")), pod("b", "x86", owner=("Workflow", "etl-1"))
    for one in (job, task):
        one["spec"]["restartPolicy"] = "Never"
    found = read(pods=[job, task])
    assert {key: each.replicas for key, each in found.workloads.items()} == {
        "shop/Job/load": 0,
        "shop/Workflow/etl-1": 0,
    }
    plan = make_plan(arm_ratio=1.0, inventory=found, placed_by="admission")
    assert {(row.action, row.wanted, row.moves, row.entry) for row in plan.workloads} == {
        ("pin", None, 0, "all on arm64")
    }


def test_a_cronjobs_job_is_the_cronjobs() -> None:
    """Its next Job has another name, so an entry of the Job would place nothing."""
    found = read(
        cronjobs=[workload("CronJob", "report")],
        pods=[pod("a", "x86", owner=("Job", "report-29104440"))],
    )
    assert set(found.workloads) == {"shop/CronJob/report"}


def test_operators_statefulsets_are_ordinary() -> None:
    """Whoever writes the object: no field of it is changed."""
    item = workload("StatefulSet", "db", replicas=4)
    item["metadata"]["ownerReferences"] = [{"kind": "Postgres", "name": "main", "controller": True}]
    found = read(statefulsets=[item])
    (row,) = make_plan(arm_ratio=0.5, inventory=found, placed_by="admission").workloads
    assert (row.action, row.entry) == ("move", "2 of 4 on arm64")
    (left,) = make_plan(arm_ratio=0.5, inventory=found).workloads
    assert left.action == "leave"


def mirror_pod() -> dict[str, Any]:
    """A pod that a kubelet runs from a file."""
    item = pod("static", "x86", owner=("Node", "x86"))
    item["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    return item


@pytest.mark.parametrize(
    "other",
    [
        pod("bare", "x86"),
        pod("dns", "x86", namespace="kube-system", owner=("ReplicaSet", "dns")),
        pod("out", "x86", owner=("ReplicaSet", "left-out")),
        mirror_pod(),
        # Its Deployment is being deleted, or was deleted without its pods.
        pod("old", "x86", owner=("ReplicaSet", "old-5d8"), labels={"pod-template-hash": "5d8"}),
        pod("test", "x86", owner=("Job", "test"), labels={"archshift/arm64-test": "1"}),
        pod("over", "x86", owner=("ReplicaSet", "over"), phase="Succeeded"),
        pod("going", "x86", owner=("ReplicaSet", "going"), terminating=True),
    ],
)
def test_what_is_no_workload_of_the_plan(other: dict[str, Any]) -> None:
    """Pods of nobody, of a node, beyond the discovery, of archshift itself, and pods that are over."""
    discovery = Discovery(exclude=frozenset({"shop/ReplicaSet/left-out"}))
    assert read(discovery, pods=[other]).workloads == {}


def test_a_label_selector_selects_controllers() -> None:
    """Nobody reads the labels of other kinds, so their pods are not steered."""
    assert read(Discovery(label_selector="team=shop"), pods=[argo(1)]).workloads == {}


def test_an_autoscaler_of_a_rollout_counts() -> None:
    """As for a Deployment."""
    scaler = {
        "metadata": {"namespace": "shop", "name": "web"},
        "spec": {"scaleTargetRef": {"kind": "Rollout", "name": "web"}, "minReplicas": 2, "maxReplicas": 9},
    }
    assert only(argo(1), scalers=[scaler]).autoscaled == Autoscaler(
        by="HorizontalPodAutoscaler web", least=2, most=9
    )


def test_the_newest_pod_says_what_the_next_ones_need() -> None:
    """A Rollout's pods of two revisions."""
    old, new = argo(1), argo(2)
    old["spec"]["nodeSelector"] = {"disk": "old"}
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    new["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    assert only(old, new).template.spec == {}


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (
            {"schedulerName": "volcano"},
            "left alone: the scheduler volcano places its pods (spec.schedulerName)",
        ),
        (
            {"resourceClaims": [{"name": "gpu"}]},
            "left alone: it asks for devices through its ResourceClaim gpu",
        ),
        ({"nodeSelector": {ARCH: "arm64"}}, "left alone: pins arm64 by its own nodeSelector"),
    ],
)
def test_what_only_pods_say_keeps_their_workload_where_it_is(spec: Mapping[str, Any], reason: str) -> None:
    """As a template would."""
    item = argo(1)
    item["spec"] |= spec
    (row,) = make_plan(arm_ratio=1.0, inventory=read(pods=[item]), placed_by="admission").workloads
    assert (row.action, row.entry, row.reason) == ("leave", "left alone", reason)


# --- pods that the policy placed -----------------------------------------------------------------


def placed(application: Mapping[str, Any], entry: Entry, *, zones: bool = True) -> dict[str, Any]:
    """A pod's spec as the policy leaves it."""
    spec: dict[str, Any] = copy.deepcopy(dict(application))
    own = template_of_pod(spec)
    if entry.side:
        spec["nodeSelector"] = {**(spec.get("nodeSelector") or {}), ARCH: entry.side}
        return spec
    fields = place(own, entry.graviton, entry.replicas, entry.prefer, zones=zones, scaling=entry.scaling)
    affinity = spec.setdefault("affinity", {}).setdefault("nodeAffinity", {})
    affinity[PREFERRED] = fields["preferred"]
    constraints = spec.setdefault("topologySpreadConstraints", [])
    constraints += [fields[name] for name in SPREADS if name in fields]
    if "tolerations" in fields:
        spec["tolerations"] = fields["tolerations"]
    return spec


ZONES = {"topologyKey": "topology.kubernetes.io/zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
TERM = {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}]}
SPECS = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": st.just({"disk": "fast"}),
        "tolerations": st.just([{"key": "team", "operator": "Exists"}]),
        "topologySpreadConstraints": st.just([ZONES]),
        "affinity": st.fixed_dictionaries(
            {},
            optional={
                "nodeAffinity": st.just(
                    {PREFERRED: [{"weight": 1, "preference": TERM}], REQUIRED: {"nodeSelectorTerms": [TERM]}}
                ),
                "podAntiAffinity": st.just({REQUIRED: [{"topologyKey": "kubernetes.io/hostname"}]}),
            },
        ),
    },
)
ENTRIES = st.one_of(
    st.sampled_from([Entry(0, 1), Entry(1, 1)]),
    st.builds(Entry, st.integers(1, 9), st.just(10), st.sampled_from([None, AMD64, ARM64])),
    st.builds(
        Entry,
        st.integers(0, 10),
        st.just(10),
        scaling=st.builds(
            Scaling,
            st.integers(1, 99),
            st.integers(1, 9),
            st.sampled_from([AMD64, ARM64]),
            st.integers(0, 100),
            st.sampled_from([None, AMD64, ARM64]),
        ),
    ),
)


@examples
@given(SPECS, ENTRIES, st.booleans())
def test_a_placed_pod_reads_as_if_nobody_had_placed_it(
    spec: dict[str, Any], entry: Entry, zones: bool
) -> None:
    """Otherwise its workload would seem to pin an architecture, and stay where it is forever."""
    after = placed(spec, entry, zones=zones)
    assert template_of_pod(after, str(entry)) == template_of_pod(spec)


def test_a_pinned_pod_keeps_its_own_spread_over_architectures() -> None:
    """A pin goes with every spread, so the policy adds it there."""
    hard = {"topologyKey": ARCH, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    spec = {"topologySpreadConstraints": [ZONES, hard, ZONES]}
    assert template_of_pod(placed(spec, Entry(0, 1)), "all on amd64") == template_of_pod(spec)


def test_the_annotation_says_which_pods_the_policy_placed() -> None:
    """An application that pins amd64 itself has no annotation."""
    item = pod("a", owner=("ReplicaSet", "web"))
    item["spec"]["nodeSelector"] = {ARCH: "amd64"}
    item["metadata"]["annotations"] = {PLACED_ANNOTATION: "all on amd64"}
    assert (read_pod(item).rules, read_pod(item).placed_by) == ({}, "all on amd64")
    del item["metadata"]["annotations"]
    assert (read_pod(item).rules, read_pod(item).placed_by) == ({"node-selector": {ARCH: "amd64"}}, "")


def test_the_policys_pin_is_no_rule_of_a_deployment() -> None:
    """All pods have it and the template lacks it, as with a rule that a webhook adds."""
    pods = [
        pod(f"cart-5d-{number}", "x86", owner=("ReplicaSet", "cart-5d"), labels={"pod-template-hash": "5d"})
        for number in range(3)
    ]
    for one in pods:
        one["spec"]["nodeSelector"] = {ARCH: "amd64"}
        one["metadata"]["annotations"] = {PLACED_ANNOTATION: "all on amd64"}
    found = read(deployments=[workload()], pods=pods)
    assert found.workloads["shop/Deployment/cart"].conditions == ()
    (row,) = make_plan(arm_ratio=1.0, inventory=found, placed_by="admission").workloads
    assert row.entry == "all on arm64"


def test_pods_that_the_policy_did_not_place_are_known_with_their_age() -> None:
    """The plan compares it with the age of the policy."""
    items = [argo(number) for number in range(3)]
    for number, item in enumerate(items):
        item["metadata"]["creationTimestamp"] = f"2026-01-0{number + 1}T00:00:00Z"
    items[1]["metadata"]["annotations"] = {PLACED_ANNOTATION: "all on amd64"}
    found = read(pods=[*items, pod("bare")])
    assert found.unplaced == {"shop/Rollout/web": ("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z")}


def test_entries_of_pods_without_a_node_are_known() -> None:
    items = [argo(number) for number in range(3)]
    for item, entry in zip(items, ("all on amd64", "1 of 3 on arm64", "all on amd64"), strict=True):
        item["metadata"]["annotations"] = {PLACED_ANNOTATION: entry}
    for item in items[:2]:
        del item["spec"]["nodeName"]
    found = read(pods=[*items, pod("bare")])
    assert found.waiting == {"shop/Rollout/web": ("all on amd64", "1 of 3 on arm64")}


def test_a_pods_own_template_has_its_rules() -> None:
    """Spreads and pod affinities of a Rollout limit its share as those of a Deployment do."""
    hard = {"topologyKey": ARCH, "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}
    anti = {"topologyKey": "kubernetes.io/hostname"}
    spec = {"topologySpreadConstraints": [ZONES, hard], "affinity": {"podAntiAffinity": {REQUIRED: [anti]}}}
    assert template_of_pod(spec) == Template(
        spec={"spread": hard},
        other_spreads=((ZONES,), ()),
        has_soft_rules=True,
        anti_affinity=(anti,),
    )
