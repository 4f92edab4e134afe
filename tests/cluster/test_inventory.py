"""The inventory: what is made of the JSON that an API server returns."""

import gc
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from archshift.cluster import pod_fields
from archshift.cluster.inventory import read_inventory, read_workload
from archshift.cluster.model import Autoscaler, Discovery, Inventory, PullIdentity, Workload, taken_annotation
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import TakenField, Template
from archshift.common.errors import ArchshiftError
from archshift.common.resources import Resources
from archshift.images.building.fetched_binary import FetchedBinary, Source
from archshift.images.workload import with_pods
from archshift.nodes.groups import Taint
from archshift.plan.placement import conflicts, place
from archshift.plan.planner import make_plan
from tests.build import ARCH, MANAGER, PREFERRED, REQUIRED, Json, in_pod_spec, manages, node, pod, workload
from tests.build import cluster_of as cluster
from tests.fakes import FakeCluster

MIB = 1024**2
CART = "shop/Deployment/cart"
ZONES = {
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "maxSkew": 1,
    "labelSelector": {"matchLabels": {"app": "cart"}},
}
NEW_NAME = f"{MANAGER}/patches"
ZONES_KEY = 'k:{"topologyKey":"topology.kubernetes.io/zone","whenUnsatisfiable":"ScheduleAnyway"}'
HOSTS = {**ZONES, "topologyKey": "kubernetes.io/hostname"}
HOSTS_KEY = ZONES_KEY.replace("topology.kubernetes.io/zone", "kubernetes.io/hostname")
OURS = {"topologyKey": ARCH, "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2}
OURS_KEY = 'k:{"topologyKey":"kubernetes.io/arch","whenUnsatisfiable":"DoNotSchedule"}'
REQUIRED_VALUE = {
    "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
}
PREFERRED_VALUE = [{"weight": 1, "preference": REQUIRED_VALUE["nodeSelectorTerms"][0]}]


def read(kind: str = "Deployment", **options: Any) -> Workload:
    """Read one made-up workload."""
    return read_workload(kind, workload(kind, **options), MANAGER)


def test_a_deployment_is_reduced_to_what_the_plan_needs() -> None:
    """Replicas, selector, requests, revision label and the place of its revision."""
    found = read(pod_spec={"tolerations": [{"operator": "Exists"}]})
    assert found.key == "shop/Deployment/cart"
    assert (found.replicas, found.requests) == (3, Resources(100, 64 * MIB))
    assert found.template.selector == {"matchLabels": {"app": "cart"}}
    assert (found.template.revision_label, found.template.revision) == ("pod-template-hash", "")
    assert found.tolerations == ({"operator": "Exists"},)
    assert (found.settled, found.identity, found.obstacle, found.autoscaled) == (True, "0a1b2c3d.4", "", None)


def test_replicas_default_to_one() -> None:
    """As the API has it for Deployments and StatefulSets."""
    assert read(replicas=None).replicas == 1
    assert read("StatefulSet", replicas=0).replicas == 0


@pytest.mark.parametrize("kind", ["CronJob", "DaemonSet"])
def test_kinds_without_replicas_have_none(kind: str) -> None:
    """A CronJob has nothing standing; a DaemonSet's number follows from the nodes."""
    assert read(kind).replicas == 0


def test_a_stateful_set_tells_revisions_apart_by_its_own_label() -> None:
    """A StatefulSet's pods carry controller-revision-hash."""
    assert read("StatefulSet").template.revision_label == "controller-revision-hash"


def test_a_cron_jobs_template_lies_deeper() -> None:
    """spec.jobTemplate.spec.template, in the object and in managedFields."""
    fields: Json = {
        "f:spec": {"f:jobTemplate": {"f:spec": {"f:template": {"f:spec": {"f:nodeSelector": {}}}}}}
    }
    found = read(
        "CronJob", pod_spec={"nodeSelector": {"disk": "ssd"}}, managed=[manages("helm", "Apply", fields)]
    )
    assert found.template.spec == {"node-selector": {"disk": "ssd"}}
    assert found.template.foreign_owners == {"node-selector": FieldOwner("helm", "Apply")}
    assert found.template.selector is None


@pytest.mark.parametrize(
    ("manager", "operation"),
    [("kubectl-client-side-apply", "Update"), ("helm", "Apply"), ("Mozilla", "Update")],
)
def test_fields_of_others_are_told_from_ours(manager: str, operation: str) -> None:
    """Ownership decides what may be patched: here another has two fields and we have two."""
    pod_spec = {
        "nodeSelector": {"disk": "ssd"},
        "affinity": {"nodeAffinity": {REQUIRED: REQUIRED_VALUE, PREFERRED: PREFERRED_VALUE}},
        "topologySpreadConstraints": [ZONES, OURS],
    }
    theirs = in_pod_spec(
        {
            "f:nodeSelector": {},
            "f:affinity": {".": {}, "f:nodeAffinity": {".": {}, f"f:{REQUIRED}": {}}},
            "f:topologySpreadConstraints": {".": {}, ZONES_KEY: {".": {}, "f:maxSkew": {}}},
        }
    )
    ours = in_pod_spec(
        {
            "f:affinity": {"f:nodeAffinity": {f"f:{PREFERRED}": {}}},
            "f:topologySpreadConstraints": {OURS_KEY: {".": {}, "f:maxSkew": {}}},
        }
    )
    template = read(
        pod_spec=pod_spec,
        managed=[manages(manager, operation, theirs), manages(MANAGER, "Apply", ours)],
    ).template
    owner = FieldOwner(manager, operation)
    assert template.owned == {"preferred", "spread"}
    assert template.foreign_owners == {"node-selector": owner, "required": owner}
    assert template.application_value("required") == REQUIRED_VALUE
    assert template.application_value("preferred") is None
    assert template.other_spreads == ((ZONES,), ())


def test_owning_an_empty_value_is_owning_nothing() -> None:
    """Charts apply ``nodeSelector: {}``; that is no reason to leave a workload alone."""
    fields = in_pod_spec({"f:nodeSelector": {}, "f:affinity": {}})
    template = read(
        pod_spec={"nodeSelector": {}, "affinity": {}}, managed=[manages("helm", "Apply", fields)]
    ).template
    assert (template.spec, template.takes_over) == ({}, False)
    assert conflicts(template, replicas=3) == {}


def test_the_status_writer_owns_no_placement() -> None:
    """An entry of a subresource says nothing of the spec."""
    fields = in_pod_spec({"f:nodeSelector": {}})
    entry = manages("kube-controller-manager", "Update", fields, subresource="status")
    assert read(pod_spec={"nodeSelector": {"disk": "ssd"}}, managed=[entry]).template.foreign_owners == {}


@pytest.mark.parametrize("names", [[MANAGER], [MANAGER, NEW_NAME], [NEW_NAME]])
def test_what_the_former_version_applied_is_ours(names: list[str]) -> None:
    """archshift 0.1.0 used another name. Until the next update has renamed them, its fields count as ours."""
    fields = in_pod_spec({"f:topologySpreadConstraints": {OURS_KEY: {".": {}}}})
    item = workload(
        pod_spec={"topologySpreadConstraints": [OURS]},
        managed=[manages(name, "Apply", fields) for name in names],
    )
    template = read_workload("Deployment", item, NEW_NAME).template
    assert template.owned == {"spread"}
    assert template.foreign_owners == {}
    assert (template.applied_by, bool(template.applied)) == (names[-1], True)


def test_another_stack_is_another_owner() -> None:
    """Two stacks on one cluster see each other instead of taking turns."""
    fields = in_pod_spec({"f:topologySpreadConstraints": {OURS_KEY: {".": {}}}})
    template = read(
        pod_spec={"topologySpreadConstraints": [OURS]}, managed=[manages("archshift/other", "Apply", fields)]
    ).template
    assert template.foreign_owners == {"spread": FieldOwner("archshift/other", "Apply")}
    assert template.owned == frozenset()


def test_spread_constraints_of_others_keep_their_places_around_ours() -> None:
    """One that only we still own was given up by the application and is none of others."""
    theirs = in_pod_spec({"f:topologySpreadConstraints": {ZONES_KEY: {".": {}}}})
    ours = in_pod_spec({"f:topologySpreadConstraints": {OURS_KEY: {}, ZONES_KEY: {}, HOSTS_KEY: {}}})
    template = read(
        pod_spec={"topologySpreadConstraints": [HOSTS, OURS, ZONES]},
        managed=[manages("helm", "Apply", theirs), manages(MANAGER, "Apply", ours)],
    ).template
    assert template.other_spreads == ((), (ZONES,))


def ours_of(template: Template) -> dict[str, Any]:
    """The default spreads that archshift sets for 3 of 4 pods of this workload, by its names of them."""
    fields = place(replace(template, other_spreads=((), ())), 3, 4)
    return {name: fields[name] for name in pod_fields.DEFAULT_SPREADS}


def test_our_default_spreads_are_no_soft_rules_of_the_application() -> None:
    """The second plan must see what the first saw: nothing of the application's own."""
    spreads = [*ours_of(read().template).values()]
    keys: Json = {pod_fields.constraint_path(one, ())[-1]: {} for one in spreads}
    managed = [manages(MANAGER, "Apply", in_pod_spec({"f:topologySpreadConstraints": keys}))]
    template = read(pod_spec={"topologySpreadConstraints": spreads}, managed=managed).template
    assert template.owned == {"zone-spread", "node-spread"}
    assert (template.has_soft_rules, template.has_spreads) == (False, False)


@pytest.mark.parametrize("shared", [True, False])
def test_a_soft_spread_of_the_application_is_its_own_although_our_patch_repeats_it(shared: bool) -> None:
    """It has the keys of one of our defaults, but another owner and another value."""
    soft = {**ZONES, "whenUnsatisfiable": "ScheduleAnyway"}
    fields = in_pod_spec({"f:topologySpreadConstraints": {pod_fields.constraint_path(soft, ())[-1]: {}}})
    managed = [manages("helm", "Apply", fields), *([manages(MANAGER, "Apply", fields)] if shared else [])]
    template = read(pod_spec={"topologySpreadConstraints": [soft]}, managed=managed).template
    assert (template.owned, template.foreign_owners, template.spec) == (frozenset(), {}, {})
    assert template.other_spreads == ((soft,), ())
    assert (template.has_soft_rules, template.has_spreads) == (True, True)


def test_a_default_spread_that_an_undo_gave_another_owner_is_not_the_applications() -> None:
    """``kubectl rollout undo`` owns what it writes back, also a value that archshift wrote first."""
    spreads = ours_of(read().template)
    keys: Json = {pod_fields.constraint_path(one, ())[-1]: {} for one in spreads.values()}
    item = workload(
        pod_spec={"topologySpreadConstraints": [*spreads.values()]},
        managed=[manages("kubectl", "Update", in_pod_spec({"f:topologySpreadConstraints": keys}))],
    )
    item["spec"]["template"]["metadata"]["annotations"] = {"archshift/revision": "abc.1"}
    template = read_workload("Deployment", item, MANAGER).template
    assert (template.reclaimed, template.foreign_owners) == (dict.fromkeys(spreads), {})
    assert (template.has_soft_rules, template.has_spreads) == (False, False)


def test_what_was_taken_by_force_is_read_back() -> None:
    """The annotation is written and read by the same two functions."""
    taken = {
        "preferred": TakenField(FieldOwner("helm", "Apply"), PREFERRED_VALUE),
        "spread": TakenField(FieldOwner("kubectl", "Update"), None),
    }
    assert read(annotations={"archshift/taken": taken_annotation(taken)}).template.taken_fields == taken


@pytest.mark.parametrize(
    "text",
    [
        *("{", "[]", '"text"', '{"preferred": 1}', '{"preferred": {"manager": "helm"}}', "null", "[" * 20000),
        '{"preferred": {"manager": 1, "operation": "Apply", "value": null}}',
        '{"preferred": {"manager": "helm", "operation": "Apply", "value": {"weight": 1}}}',
        '{"required": {"manager": "helm", "operation": "Apply", "value": {"nodeSelectorTerms": [1]}}}',
        '{"spread": {"manager": "helm", "operation": "Apply", "value": "maxSkew"}}',
        '{"node-selector": {"manager": "helm", "operation": "Apply", "value": {"pool": 1}}}',
    ],
)
def test_an_invalid_annotation_leaves_only_its_workload_alone(text: str) -> None:
    """Whoever may patch one workload can write it, so it must not stop the run for others."""
    found = read(annotations={"archshift/taken": text})
    assert found.obstacle == (
        "shop/cart: the annotation archshift/taken is invalid; restore it, because it has the values that "
        "archshift replaced by force; or remove it if archshift:workloads.overrides never had force for this "
        "workload"
    )
    plan = make_plan(arm_ratio=1.0, inventory=Inventory(workloads={found.key: found}))
    (row,) = plan.workloads
    assert (row.action, row.patch) == ("leave", None)
    assert "the annotation archshift/taken is invalid" in row.reason


def test_the_live_revision_is_read_from_the_pod_template() -> None:
    """Keeping it is what keeps pods from restarting."""
    item = workload()
    item["spec"]["template"]["metadata"]["annotations"] = {"archshift/revision": "abc.1"}
    assert read_workload("Deployment", item, MANAGER).template.revision == "abc.1"


@pytest.mark.parametrize(
    ("kind", "spec", "obstacle"),
    [
        ("Deployment", {"paused": True}, "its rollouts are paused (spec.paused)"),
        (
            "StatefulSet",
            {"updateStrategy": {"type": "OnDelete"}},
            "its pods change only when deleted (updateStrategy OnDelete)",
        ),
        (
            "StatefulSet",
            {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}},
            "its rollouts stop at a partition (updateStrategy.rollingUpdate.partition)",
        ),
        ("StatefulSet", {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}}, ""),
        ("Deployment", {"paused": False}, ""),
        ("DaemonSet", {"updateStrategy": {"type": "OnDelete"}}, ""),
    ],
)
def test_obstacles_to_a_rollout(kind: str, spec: Mapping[str, Any], obstacle: str) -> None:
    """A patch that rolls nothing out moves nothing, so such workloads are found beforehand."""
    assert read(kind, spec=spec).obstacle == obstacle


@pytest.mark.parametrize(
    "status",
    [
        {},
        {"observedGeneration": 3, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 3},
        {"observedGeneration": 4, "replicas": 4, "updatedReplicas": 3, "availableReplicas": 3},
        {"observedGeneration": 4, "replicas": 3, "updatedReplicas": 2, "availableReplicas": 3},
        {"observedGeneration": 4, "replicas": 3, "updatedReplicas": 3, "availableReplicas": 2},
    ],
    ids=["no-status", "not-observed", "old-pods", "not-updated", "not-available"],
)
def test_a_rollout_under_way_is_not_settled(status: Mapping[str, int]) -> None:
    """Only a settled workload is judged by where its pods are."""
    assert not read_workload("Deployment", {**workload(), "status": status}, MANAGER).settled
    assert read().settled


def container(name: str, *, sidecar: bool = False, **requests: str) -> Json:
    """A container that asks for something."""
    found: Json = {"name": name, "image": "registry.example/app:1", "resources": {"requests": requests}}
    return {**found, "restartPolicy": "Always"} if sidecar else found


@pytest.mark.parametrize(
    ("pod_spec", "millicpu", "mib"),
    [
        ({"containers": [container("a")]}, 0, 0),
        ({"containers": [container(name, cpu="1.5", memory="1Gi") for name in "ab"]}, 3000, 2048),
        (
            {
                "containers": [container("a", cpu="100m", memory="64Mi")],
                "initContainers": [container("b", cpu="2", memory="32Mi"), container("c", cpu="1")],
            },
            2000,
            64,
        ),
        (
            {
                "containers": [container("a", cpu="100m", memory="64Mi")],
                "initContainers": [container("b", sidecar=True, cpu="50m", memory="32Mi")],
                "overhead": {"cpu": "250m", "memory": "120Mi"},
            },
            400,
            216,
        ),
        ({"containers": [{**container("a"), "resources": {"limits": {"cpu": "1"}}}]}, 1000, 0),
    ],
    ids=["none", "sum", "init", "sidecar-and-overhead", "limits-only"],
)
def test_a_pod_asks_for_what_the_scheduler_counts(
    pod_spec: Mapping[str, Any], millicpu: int, mib: int
) -> None:
    """Containers and sidecars add up, or the largest init container; and the runtime's overhead."""
    assert read(pod_spec=pod_spec).requests == Resources(millicpu, mib * MIB)


def inventory(fake: FakeCluster, discovery: Discovery | None = None) -> Inventory:
    """Read a fake cluster."""
    return read_inventory(fake, discovery or Discovery(), MANAGER)


HASH = {"pod-template-hash": "5d4f"}
FETCHED = Source(url="https://example.com/agent", sha256="0" * 64)


def test_pods_are_counted_for_the_controller_that_they_belong_to_in_the_end() -> None:
    """ReplicaSets and Jobs are steps on the way; pods without a node are counted as such."""
    found = inventory(
        cluster(
            deployments=[workload(name="cart"), workload(name="cart-api")],
            statefulsets=[workload("StatefulSet", "db")],
            daemonsets=[workload("DaemonSet", "log")],
            cronjobs=[workload("CronJob", "report")],
            nodes=[node("arm"), node("x86", "amd64")],
            pods=[
                pod("cart-1", "arm", owner=("ReplicaSet", "cart-5d4f"), labels=HASH),
                pod("cart-2", "x86", owner=("ReplicaSet", "cart-5d4f"), labels=HASH),
                pod("cart-3", "", owner=("ReplicaSet", "cart-5d4f"), labels=HASH, phase="Pending"),
                pod("cart-api-1", "arm", owner=("ReplicaSet", "cart-api-5d4f"), labels=HASH),
                pod("db-0", "x86", owner=("StatefulSet", "db")),
                pod("log-1", "arm", owner=("DaemonSet", "log")),
                pod("report-29-x", "arm", owner=("Job", "report-29211840")),
            ],
        )
    )
    assert found.pods == {
        ("shop/Deployment/cart", "arm64"): 1,
        ("shop/Deployment/cart", "amd64"): 1,
        ("shop/Deployment/cart", ""): 1,
        ("shop/Deployment/cart-api", "arm64"): 1,
        ("shop/StatefulSet/db", "amd64"): 1,
        ("shop/DaemonSet/log", "arm64"): 1,
        ("shop/CronJob/report", "arm64"): 1,
    }
    assert found.on("shop/Deployment/cart", "arm64") == 1
    assert found.on("shop/Deployment/none", "arm64") == 0
    assert (found.unsteered_load, found.unsteered_reasons) == ({}, {})


def with_token(found: Json, volume: str) -> Json:
    """Give a pod the volume with its account's token, which the API server names anew for each."""
    at = "/var/run/secrets/kubernetes.io/serviceaccount"
    for one in found["spec"]["containers"]:
        one["volumeMounts"] = [*one.get("volumeMounts", ()), {"name": volume, "mountPath": at}]
    return found


@pytest.mark.parametrize("number", [1, 300])
def test_pods_of_one_workload_are_read_as_one(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many: what they run is taken apart once, though a volume of each has another name."""
    owner = ("ReplicaSet", "cart-5d4f")
    pods = [
        with_token(pod(f"cart-{one}", "arm", owner=owner, labels=HASH), f"kube-api-access-{one}")
        for one in range(number)
    ]
    seen: list[Json] = []

    def spied(template: Any, shown: Any, **more: Any) -> Any:
        shown = list(shown)
        seen.extend(shown)
        return with_pods(template, shown, **more)

    monkeypatch.setattr("archshift.cluster.inventory.with_pods", spied)
    found = inventory(cluster(deployments=[workload(name="cart")], nodes=[node("arm")], pods=pods))
    assert found.on("shop/Deployment/cart", "arm64") == number
    assert len(seen) == 1


class Watched(FakeCluster):
    """Notes whether Python collects cycles while a page is made."""

    collecting: ClassVar[list[bool]] = []

    def before(self, verb: str, path: str) -> None:
        del verb, path
        self.collecting.append(gc.isenabled())


@pytest.mark.parametrize("before", [True, False])
def test_nothing_is_collected_while_a_cluster_is_read(before: bool) -> None:
    """Looking for cycles was half the time; afterwards it is as it was, also after an error."""
    Watched.collecting.clear()
    gc.enable() if before else gc.disable()
    try:
        with pytest.raises(ArchshiftError, match="the nodes cannot be read"):
            inventory(Watched(refused={"/api/v1/nodes": "the nodes cannot be read"}))
        assert gc.isenabled() is before
    finally:
        gc.enable()
    assert Watched.collecting
    assert not any(Watched.collecting)


def test_which_containers_share_a_volume_is_kept() -> None:
    """Volumes lose their names and not which is which: a program that is fetched into one is found there."""
    fetched = FetchedBinary(
        name="agent",
        sources={"amd64": FETCHED, "arm64": FETCHED},
        fetch_image="registry.example/curl:8",
    )
    bare = with_token(pod("one", "arm"), "kube-api-access-1")
    (main,) = bare["spec"]["containers"]
    main |= {"command": [fetched.path], "volumeMounts": [*main["volumeMounts"], fetched.volume_mount()]}
    bare["spec"]["initContainers"] = [fetched.init_container()]
    found = inventory(cluster(nodes=[node("arm")], pods=[bare]))
    commands = {one.name: one.use.command.fetched for one in found.containers["shop/Pod/one"]}
    assert commands["main"] == (fetched.path,)


def test_a_node_carries_what_all_of_its_pods_ask_for() -> None:
    """The system's pods and bare ones take room too; pods that are over or not placed take none."""
    found = inventory(
        cluster(
            deployments=[workload()],
            nodes=[node("arm"), node("x86", "amd64")],
            pods=[
                pod("cart-1", "arm", owner=("ReplicaSet", "cart-5d4f"), labels=HASH),
                pod("dns", "arm", namespace="kube-system", owner=("ReplicaSet", "dns-1")),
                pod("debug", "x86"),
                pod("done", "x86", phase="Succeeded"),
                pod("waiting", "", phase="Pending"),
            ],
        )
    )
    assert found.loads == {"arm": Resources(500, 256 * MIB, 2), "x86": Resources(250, 128 * MIB, 1)}


def test_pods_beyond_the_discovery_are_counted_where_they_are_asked_for() -> None:
    """The report says how much of x86 the system's own images hold."""
    fake = cluster(
        daemonsets=[workload("DaemonSet", "agent", namespace="kube-system")],
        nodes=[node("arm"), node("x86", "amd64")],
        pods=[
            pod("agent-1", "x86", namespace="kube-system", owner=("DaemonSet", "agent")),
            pod("agent-2", "arm", namespace="kube-system", owner=("DaemonSet", "agent")),
        ],
    )
    found = read_inventory(fake, Discovery(), MANAGER, with_unsteered=True)
    key = "kube-system/DaemonSet/agent"
    assert [found.on(key, side) for side in ("amd64", "arm64")] == [1, 1]
    assert inventory(fake).unsteered_workloads == {}


def test_daemonsets_beyond_the_discovery_are_always_known() -> None:
    """The first Graviton node starts them too, wherever they are; other controllers are not asked for."""
    fake = cluster(
        daemonsets=[
            workload("DaemonSet", "agent", namespace="kube-system"),
            workload("DaemonSet", "log", namespace="other"),
            workload("DaemonSet", "ours"),
        ],
        deployments=[workload(namespace="kube-system")],
        nodes=[node("arm")],
        pods=[pod("agent-1", "arm", namespace="kube-system", owner=("DaemonSet", "agent"))],
    )
    found = read_inventory(fake, Discovery(namespaces=("shop",)), MANAGER)
    assert set(found.outside_daemonsets) == {"kube-system/DaemonSet/agent", "other/DaemonSet/log"}
    assert found.on("kube-system/DaemonSet/agent", "arm64") == 1
    assert found.unsteered_workloads == {}
    unselected = read_inventory(fake, Discovery(label_selector="no=match"), MANAGER)
    assert len(unselected.outside_daemonsets) == 3
    excluded = Discovery(exclude=frozenset({"shop/DaemonSet/ours"}))
    assert "shop/DaemonSet/ours" in read_inventory(fake, excluded, MANAGER).outside_daemonsets


def test_pods_that_are_over_or_going_do_not_count() -> None:
    """Finished pods free their place, terminating ones are about to."""
    owner = ("ReplicaSet", "cart-5d4f")
    found = inventory(
        cluster(
            deployments=[workload()],
            nodes=[node("arm")],
            pods=[
                pod("done", "arm", owner=owner, labels=HASH, phase="Succeeded"),
                pod("failed", "arm", owner=owner, labels=HASH, phase="Failed"),
                pod("going", "arm", owner=owner, labels=HASH, terminating=True),
            ],
        )
    )
    assert (found.pods, found.unsteered_load) == ({}, {})


def test_pods_of_nobody_take_up_room_and_are_said() -> None:
    """Bare pods, Jobs and other controllers' pods are unsteered, with a reason; the system's without one."""
    found = inventory(
        cluster(
            nodes=[node("arm"), node("x86", "amd64")],
            pods=[
                pod("debug", "arm"),
                pod("build-1", "arm", owner=("Job", "build")),
                pod("roll-1", "x86", owner=("Rollout", "canary")),
                pod("legacy-1", "x86", owner=("ReplicaSet", "legacy")),
                pod("dns", "x86", namespace="kube-system"),
            ],
        )
    )
    assert found.unsteered_load == {
        "arm64": Resources(500, 256 * MIB, 2),
        "amd64": Resources(750, 384 * MIB, 3),
    }
    assert found.unsteered_reasons == {
        "shop/Pod/debug": "a bare pod: nothing would start it again",
        "shop/Job/build": "archshift does not steer pods of a Job",
        "shop/Rollout/canary": "archshift does not steer pods of a Rollout",
        "shop/ReplicaSet/legacy": "archshift does not steer pods of a ReplicaSet",
    }


def test_discovery_by_default_leaves_the_system_out() -> None:
    """kube-system and its like are not an application's business."""
    found = inventory(
        cluster(
            deployments=[
                workload(name="coredns", namespace="kube-system"),
                workload(),
                workload(name="old"),
            ]
        ),
        Discovery(exclude=frozenset({"shop/Deployment/old"})),
    )
    assert set(found.workloads) == {"shop/Deployment/cart"}


def test_a_workload_that_is_being_deleted_is_not_steered() -> None:
    """A patch would keep nothing alive."""
    item = workload()
    item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert inventory(cluster(deployments=[item])).workloads == {}


def test_discovery_by_namespace_and_label_asks_the_api_server() -> None:
    """Only these namespaces are listed, with the selector; pods and nodes are read everywhere."""
    cart, dns = workload(), workload(name="coredns", namespace="kube-system")
    for one in (cart, dns):
        one["metadata"]["labels"] = {"team": "shop"}
    fake = FakeCluster(
        {
            "/apis/apps/v1/namespaces/shop/deployments": [cart],
            "/apis/apps/v1/namespaces/kube-system/deployments": [dns],
        }
    )
    found = inventory(fake, Discovery(namespaces=("shop", "kube-system"), label_selector="team=shop"))
    assert set(found.workloads) == {"shop/Deployment/cart", "kube-system/Deployment/coredns"}
    asked = dict(fake.lists)
    assert asked["/apis/apps/v1/namespaces/shop/deployments"] == {"labelSelector": "team=shop"}
    assert asked["/api/v1/pods"] == {}
    assert asked["/api/v1/nodes"] == {}
    assert "/apis/apps/v1/deployments" not in asked


def test_nodes_are_read_with_what_decides_over_pods() -> None:
    """Allocatable, taints, and whether the scheduler would use them."""
    taint = {"key": "dedicated", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}
    arm, cordoned, late, bare = inventory(
        cluster(
            nodes=[
                node("arm", taints=[taint]),
                node("cordoned", unschedulable=True),
                node("late", ready=False),
                {"metadata": {"name": "bare"}},
            ]
        )
    ).nodes
    assert (arm.name, arm.architecture, arm.millicpu, arm.memory, arm.pods) == (
        "arm",
        "arm64",
        4000,
        16 * 1024 * MIB,
        58,
    )
    assert arm.taints == (Taint(key="dedicated", effect="NoExecute"),)
    assert [one.schedulable for one in (arm, cordoned, late, bare)] == [True, False, False, False]
    assert bare.architecture == ""


def test_a_collection_that_cannot_be_read_stops_the_reading() -> None:
    """Never a partial inventory: a plan without the pods would move the wrong ones."""

    deployments = {"/apis/apps/v1/deployments": [workload()]}
    with pytest.raises(ArchshiftError, match=r"^not allowed$"):
        inventory(FakeCluster(deployments, refused={"/api/v1/pods": "not allowed"}))


def everything(fake: FakeCluster, discovery: Discovery | None = None) -> Inventory:
    """Read a fake cluster, what archshift does not steer included."""
    return read_inventory(fake, discovery or Discovery(), MANAGER, with_unsteered=True)


def labelled(item: Json, **labels: str) -> Json:
    item["metadata"]["labels"] = labels
    return item


def test_nothing_is_read_beyond_the_discovery_unless_it_is_asked_for() -> None:
    """Where nothing is guarded, a fleet is not read twice and nobody else's secrets are asked for."""
    system = workload(name="dns", namespace="kube-system", pod_spec={"imagePullSecrets": [{"name": "robot"}]})
    fake = cluster(deployments=[workload(), system], pods=[pod("p", namespace="kube-system")])
    found = inventory(fake)
    assert found.unsteered_workloads == {}
    assert found.pull_identities == {"registry.example/app:1": {PullIdentity("shop", "default")}}
    assert [path for path, _ in fake.lists].count("/apis/apps/v1/deployments") == 1


def test_the_systems_and_excluded_controllers_are_beyond_the_discovery() -> None:
    """They run on the same nodes, whoever steers them; what is steered is not among them."""
    fake = cluster(
        deployments=[workload(), workload(name="old"), workload(name="dns", namespace="kube-system")],
        statefulsets=[workload("StatefulSet", "db", namespace="kube-public")],
        daemonsets=[workload("DaemonSet", "proxy", namespace="kube-system")],
        cronjobs=[workload("CronJob", "lease", namespace="kube-node-lease")],
    )
    found = everything(fake, Discovery(exclude=frozenset({"shop/Deployment/old"})))
    assert set(found.workloads) == {CART}
    assert set(found.unsteered_workloads) == {
        "shop/Deployment/old",
        "kube-system/Deployment/dns",
        "kube-public/StatefulSet/db",
        "kube-system/DaemonSet/proxy",
        "kube-node-lease/CronJob/lease",
    }
    assert found.workloads == inventory(fake, Discovery(exclude=frozenset({"shop/Deployment/old"}))).workloads


def test_other_namespaces_are_beyond_a_discovery_by_namespace() -> None:
    """A second stack's workloads may be the ones that need this stack's x86 nodes."""
    mine, theirs = workload(), workload(name="blog", namespace="blog")
    found = everything(
        FakeCluster(
            {
                "/apis/apps/v1/namespaces/shop/deployments": [mine],
                "/apis/apps/v1/deployments": [mine, theirs],
                "/api/v1/pods": [pod("blog-0", namespace="blog"), pod("job", owner=("Job", "build"))],
            }
        ),
        Discovery(namespaces=("shop",)),
    )
    assert set(found.workloads) == {CART}
    assert set(found.unsteered_workloads) == {"blog/Deployment/blog", "blog/Pod/blog-0", "shop/Job/build"}
    assert set(found.unsteered_reasons) == {"shop/Job/build"}


def test_what_a_label_selector_leaves_out_is_beyond() -> None:
    """Its pods are known as the controller's, not as strangers'."""
    item = labelled(workload(), team="shop")
    fake = FakeCluster(
        {
            "/apis/apps/v1/deployments": [item, workload(name="other")],
            "/api/v1/pods": [pod("other-1", owner=("ReplicaSet", "other-5d4f"), labels=HASH), pod("bare")],
        }
    )
    found = everything(fake, Discovery(label_selector="team=shop"))
    assert set(found.workloads) == {CART}
    assert set(found.unsteered_workloads) == {"shop/Deployment/other", "shop/Pod/bare"}
    assert found.unsteered_reasons == {}


def test_pods_that_no_controller_known_to_us_owns_are_beyond_by_owner() -> None:
    """Bare pods, Jobs, ReplicaSets and custom controllers: one entry an owner, with its number of pods."""
    pods = [
        pod("debug"),
        pod("build-1", owner=("Job", "build")),
        pod("build-2", owner=("Job", "build")),
        pod("roll-1", owner=("Rollout", "canary")),
        pod("legacy-1", owner=("ReplicaSet", "legacy-5d4f"), labels=HASH),
        pod("etcd", namespace="kube-system", owner=("Node", "x86")),
        pod("done", owner=("Job", "over"), phase="Succeeded"),
        pod("going", terminating=True),
    ]
    found = everything(cluster(pods=pods))
    assert {key: one.replicas for key, one in found.unsteered_workloads.items()} == {
        "shop/Pod/debug": 1,
        "shop/Job/build": 2,
        "shop/Rollout/canary": 1,
        "shop/ReplicaSet/legacy-5d4f": 1,
        "kube-system/Node/x86": 1,
    }
    assert {key: (one.namespace, one.kind, one.name) for key, one in found.unsteered_workloads.items()} == {
        key: tuple(key.split("/")) for key in found.unsteered_workloads
    }


def test_an_owners_pods_say_where_they_may_run_and_what_they_ask_for() -> None:
    """There is no template to read: selector, affinity, tolerations and images are the pods' own, and the
    largest of them is what one may ask for.
    """
    small, large = pod("roll-1", owner=("Rollout", "canary")), pod("roll-2", owner=("Rollout", "canary"))
    large["spec"] |= {"containers": [{**container("main", cpu="2", memory="1Mi"), "image": "canary:2"}]}
    for one in (small, large):
        one["spec"] |= {
            "nodeSelector": {ARCH: "amd64"},
            "affinity": {"nodeAffinity": {REQUIRED: REQUIRED_VALUE}},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "serviceAccountName": "roller",
            "imagePullSecrets": [{"name": "robot"}],
        }
    found = everything(cluster(pods=[small, large]))
    canary = found.unsteered_workloads["shop/Rollout/canary"]
    assert canary.template.application_value("node-selector") == {ARCH: "amd64"}
    assert canary.template.application_value("required") == REQUIRED_VALUE
    assert canary.tolerations == ({"key": "spot", "operator": "Exists"},)
    assert canary.requests == Resources(2000, 128 * MIB)
    assert {one.use.image for one in canary.containers} == {"registry.example/app:1", "canary:2"}
    robot = {PullIdentity("shop", "roller", ("robot",))}
    assert found.pull_identities == {"registry.example/app:1": robot, "canary:2": robot}


def test_a_controller_beyond_the_discovery_is_read_as_any_other() -> None:
    """Template, replicas, autoscaler, and the containers and pull secrets that only its pods have."""
    dns = workload(
        name="dns",
        namespace="kube-system",
        replicas=2,
        pod_spec={"nodeSelector": {"disk": "ssd"}, "tolerations": [{"operator": "Exists"}]},
    )
    injected = pod("dns-1", namespace="kube-system", owner=("ReplicaSet", "dns-5d4f"), labels=HASH)
    injected["spec"] |= {
        "containers": [container("dns", cpu="100m"), {**container("mesh", cpu="50m"), "image": "mesh:1"}],
        "imagePullSecrets": [{"name": "mesh"}],
    }
    scaler = {
        "metadata": {"namespace": "kube-system", "name": "dns"},
        "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "dns"}, "maxReplicas": 7},
    }
    found = everything(cluster(deployments=[dns], pods=[injected], scalers=[scaler]))
    one = found.unsteered_workloads["kube-system/Deployment/dns"]
    assert (one.replicas, one.requests) == (2, Resources(150))
    assert one.autoscaled == Autoscaler(by="HorizontalPodAutoscaler dns", least=1, most=7)
    assert one.template.application_value("node-selector") == {"disk": "ssd"}
    assert one.tolerations == ({"operator": "Exists"},)
    assert [(each.name, each.role) for each in one.containers] == [("dns", "container"), ("mesh", "injected")]
    account = PullIdentity("kube-system", "default")
    own = PullIdentity("kube-system", "default", ("mesh",))
    assert found.pull_identities["mesh:1"] == {own}
    assert found.pull_identities["registry.example/app:1"] == {account, own}


def rolling(kind: str = "Deployment", *, settled: bool = False) -> FakeCluster:
    """A workload with a pod of its last revision, of another image and placement, and one of today's."""
    owner = ("ReplicaSet", "cart-5d4f") if kind == "Deployment" else (kind, "cart")
    old, new = (pod(f"cart-{age}", owner=owner, labels=HASH) for age in ("old", "new"))
    old["spec"] |= {"containers": [{**container("cart"), "image": "old:1"}], "nodeSelector": {ARCH: "amd64"}}
    new["spec"] |= {"containers": [container("cart")]}
    item = workload(kind, settled=settled)
    return cluster(**{f"{kind.lower()}s": [item]}, pods=[old, new])


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
def test_pods_that_a_rollout_has_not_replaced_are_beyond(kind: str) -> None:
    """A rollout that stops, or waits at a partition, keeps making pods of the last revision's image."""
    found = everything(rolling(kind))
    (key,) = found.unsteered_workloads
    assert key == f"shop/{kind}/cart (last revision)"
    last = found.unsteered_workloads[key]
    assert (last.replicas, last.template.application_value("node-selector")) == (1, {ARCH: "amd64"})
    assert [one.use.image for one in last.containers] == ["old:1"]
    assert [one.use.image for one in found.containers[f"shop/{kind}/cart"]] == ["registry.example/app:1"]


@pytest.mark.parametrize(
    ("kind", "status", "images"),
    [
        # All pods are of the present template, though one is not available: what they run counts.
        ("Deployment", {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, ["mesh:1"]),
        ("StatefulSet", {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 1}, ["mesh:1"]),
        ("DaemonSet", {"currentNumberScheduled": 2, "updatedNumberScheduled": 2}, ["mesh:1"]),
        # A rollout is under way, or nobody has looked at the new template yet: these may be old pods.
        ("Deployment", {"replicas": 2, "updatedReplicas": 1}, ["auto"]),
        ("Deployment", {"replicas": 2, "updatedReplicas": 2, "observedGeneration": 3}, ["auto"]),
        ("DaemonSet", {"currentNumberScheduled": 2, "updatedNumberScheduled": 1}, ["auto"]),
    ],
)
def test_an_image_is_replaced_only_where_all_pods_are_of_this_template(
    kind: str, status: Json, images: list[str]
) -> None:
    owner = ("ReplicaSet", "cart-5d4f") if kind == "Deployment" else (kind, "cart")
    pods = [pod(f"cart-{one}", owner=owner, labels=HASH) for one in range(2)]
    for one in pods:
        one["spec"] |= {"containers": [{**container("cart"), "image": "mesh:1"}]}
    item = workload(kind, replicas=2)
    item["spec"]["template"]["spec"]["containers"][0]["image"] = "auto"
    item["status"] = {"observedGeneration": 4, **status}
    found = inventory(cluster(**{f"{kind.lower()}s": [item]}, pods=pods))
    assert [one.use.image for one in found.containers[f"shop/{kind}/cart"]] == images


def test_without_a_rollout_there_is_no_last_revision() -> None:
    """A webhook may rewrite an image for good: then it is one of the workload's own."""
    found = everything(rolling(settled=True))
    assert found.unsteered_workloads == {}
    assert {one.use.image for one in found.containers[CART]} == {"registry.example/app:1", "old:1"}
    assert inventory(rolling()).unsteered_workloads == {}


def test_a_rollout_beyond_the_discovery_counts_with_both_revisions() -> None:
    """Nothing is steered there, so one entry holds all that runs."""
    found = everything(rolling(), Discovery(exclude=frozenset({CART})))
    assert {one.use.image for one in found.unsteered_workloads[CART].containers} == {
        "registry.example/app:1",
        "old:1",
    }


@pytest.mark.parametrize(
    ("labels", "owner"),
    [
        ({}, ""),
        ({"app": "x", "steam": "no"}, ""),
        ({"team": "web"}, "web"),
        ({"acme.example/owner": "ann", "team": "web"}, "ann"),
        ({"owner": "", "acme.example/team": "web"}, "web"),
    ],
)
def test_who_answers_for_a_workload(labels: dict[str, str], owner: str) -> None:
    """A label owner or team, with any prefix; an empty one says nothing."""
    item = workload()
    item["metadata"]["labels"] = labels
    assert read_workload("Deployment", item, MANAGER).owner == owner


def test_numbers_that_no_cluster_has_leave_only_their_workload_alone() -> None:
    """A plan looks at each wanted pod, and whoever may write one Deployment can want two billion of them."""
    most = 2**31 - 1
    claims = [{"metadata": {"name": "data"}, "spec": {"storageClassName": "gp3"}}]
    many = workload(name="many", replicas=most)
    scaled = workload("StatefulSet", "scaled", replicas=2, spec={"volumeClaimTemplates": claims})
    surge = {"rollingUpdate": {"maxSurge": "9" * 5000 + "%"}}
    surging = workload(name="surging", replicas=4, spec={"strategy": surge})
    marked = workload(name="marked", replicas=4, annotations={"archshift/inexact": f"a;{'9' * 5000};1"})
    scalers = [
        {
            "metadata": {"namespace": "shop", "name": name},
            "spec": {"scaleTargetRef": {"kind": kind, "name": name}, "minReplicas": 2, "maxReplicas": most},
        }
        for kind, name in (("StatefulSet", "scaled"), ("Deployment", "cart"))
    ]
    found = read_inventory(
        cluster(
            nodes=[node("a", "amd64"), node("b")],
            deployments=[many, surging, marked, workload(name="cart", replicas=4)],
            statefulsets=[scaled],
            scalers=scalers,
        ),
        Discovery(),
        MANAGER,
        with_unsteered=True,
    )
    assert found.workloads["shop/Deployment/many"].replicas == 1000
    rows = {row.name: row for row in make_plan(arm_ratio=0.5, inventory=found).workloads}
    assert rows["many"].action == "leave"
    assert rows["many"].reason == (
        "left alone: it wants 2147483647 pods and has 0; archshift places it when at most 1000 of them are "
        "missing"
    )
    names = ("cart", "scaled", "surging", "marked")
    assert sum(rows[name].wanted or 0 for name in names) == 7


def test_host_ports_of_a_template() -> None:
    """Of containers and sidecars; with the node's own network, each port is one of the node."""
    container = {"name": "proxy", "image": "proxy:1"}
    mapped = {**container, "ports": [{"containerPort": 8443, "hostPort": 443}, {"containerPort": 90}]}
    sidecar = {
        **container,
        "restartPolicy": "Always",
        "ports": [{"containerPort": 53, "hostPort": 53, "protocol": "UDP"}],
    }
    first = {**container, "ports": [{"containerPort": 1, "hostPort": 1}]}
    spec = {"containers": [mapped], "initContainers": [first, sidecar]}
    own = workload(name="own", pod_spec={**spec, "hostNetwork": True})
    fake = FakeCluster({"/apis/apps/v1/deployments": [workload(pod_spec=spec), own]})
    found = inventory(fake).workloads
    ports = {one.name: sorted(one.template.host_ports) for one in found.values()}
    assert ports == {"cart": ["TCP/443", "UDP/53"], "own": ["TCP/443", "TCP/90", "UDP/53"]}


def _apart_from(app: str) -> Json:
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": app}}}
    return {"affinity": {"podAntiAffinity": {REQUIRED: [term]}}}


def _with_port(spec: Json, port: int) -> Json:
    container = {"name": "app", "image": "registry.example/app:1", "ports": [{"containerPort": port}]}
    return {**spec, "hostNetwork": True, "containers": [container]}


FOREIGN = {
    "port": (_with_port({}, 9092), {}, _with_port({}, 9092)),
    "sidecar's port": (
        _with_port({}, 9092),
        {},
        {
            "containers": [{"name": "app", "image": "registry.example/app:1"}],
            "initContainers": [
                {
                    "name": "proxy",
                    "image": "registry.example/proxy:1",
                    "restartPolicy": "Always",
                    "ports": [{"containerPort": 1, "hostPort": 9092}],
                }
            ],
        },
    ),
    "ours refuses theirs": (_apart_from("broker"), {"app": "broker"}, {}),
    "theirs refuses ours": ({}, {}, _apart_from("cart")),
}


@pytest.mark.parametrize("place", ["StrimziPodSet", None])
@pytest.mark.parametrize("case", FOREIGN)
def test_pods_without_a_known_template_keep_others_away(case: str, place: str | None) -> None:
    """An operator's pod, or a bare one, takes the only Graviton node; without it the workload moves."""
    ours, labels, theirs = FOREIGN[case]
    broker = pod("broker-0", "arm", owner=(place, "broker") if place else None, labels=labels)
    broker["spec"] = {**broker["spec"], **theirs}
    answers = []
    for pods in ([broker], []):
        found = read_inventory(
            cluster(
                deployments=[workload(replicas=1, pod_spec=ours)],
                nodes=[node("arm"), node("x86", "amd64")],
                pods=pods,
            ),
            Discovery(),
            MANAGER,
            with_unsteered=True,
        )
        (row,) = make_plan(arm_ratio=1.0, inventory=found).workloads
        answers.append((row.wanted, "must stay apart" in row.reason))
    assert answers == [(0, True), (1, False)]


@pytest.mark.parametrize(("ends", "on_graviton"), [(False, 0), (True, 2)])
def test_only_a_lasting_pod_keeps_its_companions(ends: bool, on_graviton: int) -> None:
    """An operator starts its pod again beside the cart; the pod of a Job is gone soon."""
    beside = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "cart"}}}
    agent = pod("agent-0", "x86", owner=("Job" if ends else "StrimziPodSet", "agent"))
    agent["spec"]["affinity"] = {"podAffinity": {REQUIRED: [beside]}}
    agent["spec"]["restartPolicy"] = "Never" if ends else "Always"
    found = read_inventory(
        cluster(
            deployments=[workload(replicas=2)],
            nodes=[node("arm"), node("x86", "amd64")],
            pods=[agent],
        ),
        Discovery(),
        MANAGER,
        with_unsteered=True,
    )
    (row,) = make_plan(arm_ratio=1.0, inventory=found).workloads
    assert row.wanted == on_graviton
