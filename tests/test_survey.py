"""One look at a cluster: what is read, what evidence counts, and what is asked for the guard."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from archshift import survey
from archshift.cluster.canaries import write_canary
from archshift.cluster.image_evidence import ClusterEvidence
from archshift.cluster.model import FailedCanary, Inventory
from archshift.common.errors import ArchshiftError
from archshift.images.verdict import AMD64_ONLY
from archshift.images.workload import Blocking, WorkloadVerdict
from archshift.plan.admission import policy
from archshift.plan.model import Plan
from archshift.plan.planner import make_plan
from archshift.settings import stack as stack_settings
from tests.build import live_pool, node, pod, workload
from tests.fakes import FakeCluster, proven

GROUPS = {"x86": {"instance_type": "m7i.xlarge", "size": 1}}
DNS = "kube-system/Deployment/dns"


class Registries:
    """Stands in for ``read_evidence``: everything is proven but what is said; remembers how it was asked."""

    def __init__(self, *unproven: str) -> None:
        """Have no arm64 image for these workloads."""
        self.unproven = unproven
        self.kept: list[bool] = []

    def __call__(
        self, cluster: object, inventory: Inventory, rules: object, *, keep: bool, watch: object
    ) -> ClusterEvidence:
        del watch
        self.kept.append(keep)
        verdicts = dict(proven(cluster, inventory, rules).verdicts)
        for key in set(self.unproven) & set(verdicts):
            blocking = (Blocking("app", "app:1", AMD64_ONLY, "container app: its image has linux/amd64"),)
            verdicts[key] = WorkloadVerdict(key, AMD64_ONLY, blocking, ())
        return ClusterEvidence(verdicts)


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Registries:
    """A cluster with a cart, and a DNS server whose image is amd64-only."""
    found = Registries(DNS)
    cluster = FakeCluster(
        {
            "/apis/apps/v1/deployments": [workload(), workload(name="dns", namespace="kube-system")],
            "/api/v1/nodes": [node("x86-0", "amd64")],
        }
    )
    monkeypatch.setattr(survey, "connect", lambda _context: cluster)
    monkeypatch.setattr(survey, "read_evidence", found)
    return found


def load(**values: Any) -> stack_settings.Settings:
    """Settings of a stack in the lab."""
    config = {
        f"archshift:{key}": value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }
    return stack_settings.load("dev", {"archshift:arm_ratio": "0", "archshift:platform": "lab", **config})


@pytest.mark.usefixtures("registries")
def test_a_guarded_stack_knows_what_needs_x86_all_over_the_cluster() -> None:
    """The system's workloads too; the plan is about the discovered ones all the same."""
    found = survey.survey(load(node_groups=GROUPS))
    assert found.needs is not None
    assert {need.key: need.reason for need in found.needs} == {
        DNS: "app:1 is amd64-only: container app: its image has linux/amd64"
    }
    assert [row.key for row in found.plan.workloads] == ["shop/Deployment/cart"]


@pytest.mark.usefixtures("registries")
def test_a_stack_without_infrastructure_reads_no_more_than_it_plans() -> None:
    """None, not an empty answer: nobody may take it for "nothing needs x86"."""
    found = survey.survey(stack_settings.load("dev", {"archshift:arm_ratio": "0"}))
    assert (found.needs, found.inventory.unsteered_workloads) == (None, {})
    assert found.evidence is not None
    assert set(found.evidence.verdicts) == {"shop/Deployment/cart"}


def test_what_failed_on_graviton_is_held_and_needs_x86(
    registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until its image changes; evidence of another stack, or of a workload that is gone, holds nothing."""
    del registries
    cluster = FakeCluster(
        {
            "/apis/apps/v1/deployments": [workload(), workload(name="web")],
            "/api/v1/nodes": [node("x86-0", "amd64"), node("arm")],
            "/api/v1/configmaps": [],
            "/api/v1/namespaces/shop/configmaps": [],
        }
    )
    monkeypatch.setattr(survey, "connect", lambda _context: cluster)
    canary = FailedCanary(
        workload="shop/Deployment/cart",
        container="cart",
        image="registry.example/app:1",
        words="exec format error",
        at=datetime(2026, 11, 30, 14, 20, tzinfo=UTC),
    )
    write_canary(cluster, "dev", canary)
    write_canary(cluster, "dev", replace(canary, workload="shop/Deployment/gone"))
    write_canary(cluster, "other", replace(canary, workload="shop/Deployment/web"))
    settings = replace(load(node_groups=GROUPS), arm_ratio=1.0)
    found = survey.survey(settings)
    reason = (
        "failed on Graviton: container cart: exec format error (image registry.example/app:1, "
        "2026-11-30 14:20 UTC); a new image lifts this"
    )
    assert {row.key: (row.wanted, row.reason) for row in found.plan.workloads} == {
        "shop/Deployment/cart": (0, f"held on x86: {reason}"),
        "shop/Deployment/web": (3, ""),
    }
    assert {need.key: need.reason for need in found.needs or ()} == {
        "shop/Deployment/cart": f"it is held on x86: {reason}"
    }
    cluster.objects["/apis/apps/v1/deployments"][0]["spec"]["template"]["spec"]["containers"][0]["image"] = (
        "new:2"
    )
    assert [row.wanted for row in survey.survey(settings).plan.workloads] == [3, 3]


def test_evidence_of_earlier_runs_counts_unless_the_last_question_is_asked(registries: Registries) -> None:
    """A preview may use yesterday's; a delete may not."""
    survey.survey(load(node_groups=GROUPS))
    survey.survey(load(node_groups=GROUPS), keep_evidence=False)
    assert registries.kept == [True, False]


@pytest.mark.usefixtures("registries")
def test_a_stack_whose_last_group_was_taken_out_of_the_config_is_guarded() -> None:
    """The group is what may be lost now."""
    found = survey.survey(load())
    assert found.needs is not None
    assert [need.key for need in found.needs] == [DNS]


@pytest.mark.usefixtures("registries")
def test_the_last_question_is_asked_whatever_the_settings_say() -> None:
    """A stack that had node groups yesterday has nodes to lose today."""
    found = survey.survey(load(), guard_x86=True)
    assert found.needs is not None
    assert [need.key for need in found.needs] == [DNS]


def test_where_images_are_not_checked_all_of_it_counts_as_unproven(registries: Registries) -> None:
    """Switching the check off opens nothing."""
    found = survey.survey(load(images={"check": False}), guard_x86=True)
    assert registries.kept == []
    assert found.evidence is None
    assert found.needs is not None
    assert {need.key: need.reason for need in found.needs} == dict.fromkeys(
        (DNS, "shop/Deployment/cart"), "there is no evidence for its images"
    )


def test_a_cluster_that_cannot_be_reached_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither to the plan nor to the guard."""

    def unreachable(_context: object) -> FakeCluster:
        raise ArchshiftError("the cluster cannot be reached")

    monkeypatch.setattr(survey, "connect", unreachable)
    with pytest.raises(ArchshiftError, match=r"^the cluster cannot be reached$"):
        survey.survey(load(), guard_x86=True)


@pytest.mark.usefixtures("registries")
def test_comparisons_make_the_plan_of_a_ratio_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The report compares three ratios with each other; the survey's own plan is there already."""
    stack = load(arm_ratio=0.5)
    found = survey.survey(stack)
    made: list[float] = []

    def spied(**given: Any) -> Plan:
        made.append(given["arm_ratio"])
        return make_plan(**given)

    monkeypatch.setattr(survey, "make_plan", spied)
    at = survey.plans(stack, found)
    plans = [at(ratio) for ratio in (0.0, 0.5, 0.5, 1.0, 0.0, 1.0)]
    assert made == [0.0, 1.0]
    assert plans[1] is found.plan
    assert [plan.arm_ratio for plan in plans] == [0.0, 0.5, 0.5, 1.0, 0.0, 1.0]


def test_a_stack_that_places_at_admission_knows_its_entries(
    registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every controller is in the plan, and a workload that waits keeps its live entry."""
    group = "/apis/admissionregistration.k8s.io/v1"
    name = {
        "name": "archshift-placement-dev.shop",
        "labels": {"archshift/stack": "dev"},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    rollout = pod(
        "web-7c-1", "x86-0", owner=("ReplicaSet", "web-7c"), labels={"rollouts-pod-template-hash": "7c"}
    )
    carts = [
        pod(str(index), "arm-0", owner=("ReplicaSet", "cart-5d"), labels={"pod-template-hash": "5d"})
        for index in range(2)
    ]
    cordoned = node("x86-0", "amd64", unschedulable=True)
    cluster = FakeCluster(
        {
            "/apis/apps/v1/deployments": [workload(replicas=4)],
            "/api/v1/nodes": [cordoned, node("arm-0")],
            "/api/v1/pods": [rollout, *carts],
            "/api/v1/namespaces": [{"metadata": {"name": "shop"}}],
            f"{group}/mutatingadmissionpolicies": [
                {**policy("dev", "shop", {"Deployment.cart": "3 of 4 on arm64"}), "metadata": name}
            ],
            f"{group}/mutatingadmissionpolicybindings": [{"metadata": name}],
        }
    )
    monkeypatch.setattr(survey, "connect", lambda _context: cluster)
    settings = replace(load(), placement="admission")
    found = survey.survey(settings)
    assert found.placement is not None
    assert found.placement.since == {"shop": "2026-01-01T00:00:00Z"}
    assert found.plan.placed_by == "admission"
    # At ratio 0 the step waits for a node of x86, so the live entry stays.
    assert found.entries == {
        "shop": {
            "Deployment.cart": "3 of 4 on arm64",
            "Rollout.web": "all on amd64",
            "no-zones": "true",
            "others": "all on amd64",
        }
    }
    assert survey.plan_at(1.0, settings, found).placed_by == "admission"
    assert registries.kept == [True]
    assert survey.survey(replace(settings, placement="patches")).entries == {}


def test_pools_that_the_stack_takes_over_are_read_from_the_cluster(
    registries: Registries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By every look at the cluster, also for a caller that has not read them: a pool for both architectures
    counts on its side, and a name that the cluster lacks is an error.
    """
    live = live_pool()
    kwok = {"group": "karpenter.kwok.sh", "kind": "KWOKNodeClass", "name": "default"}
    template = {**live.spec["template"], "spec": {**live.spec["template"]["spec"], "nodeClassRef": kwok}}
    template["spec"] |= {"requirements": [], "taints": []}
    served = [{"name": name, "versions": [{"version": "v1"}]} for name in ("karpenter.sh", kwok["group"])]
    cluster = FakeCluster(
        {"/apis/apps/v1/deployments": [workload()], "/api/v1/nodes": [node("x86-0", "amd64")]}
    )
    monkeypatch.setattr(survey, "connect", lambda _context: cluster)
    get, list_ = cluster.get, cluster.list
    pool = {"metadata": {"name": "default"}, "spec": {**live.spec, "template": template}}
    monkeypatch.setattr(cluster, "get", lambda path: {"groups": served} if path == "/apis" else get(path))
    monkeypatch.setattr(
        cluster,
        "list",
        lambda path, **query: iter([pool]) if path.endswith("pools") else list_(path, **query),
    )
    groups = {"x86": {"import": "default", "architecture": "amd64"}, "graviton": {"twin_of": "x86"}}
    settings = load(provisioner="karpenter", node_groups=groups, arm_ratio=1)
    assert settings.groups == ()
    assert registries.kept == []
    found = survey.survey(settings)
    assert found.plan.shortages == []
    assert found.plan.wanted == found.plan.pods > 0
    with_pools = survey.with_live_pools(settings)
    assert [group.architecture for group in with_pools.groups] == ["amd64", "arm64"]
    with pytest.raises(
        ArchshiftError, match=r"x86\.import: the cluster has no NodePool 'main'; there are: default"
    ):
        survey.survey(load(provisioner="karpenter", node_groups={"x86": {"import": "main"}}))
