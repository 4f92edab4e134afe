"""Needs that only one side meets, in the plan, the capacity and the guard."""

from dataclasses import replace
from typing import Any

import pytest

from archshift.cluster.model import Workload
from archshift.cluster.pod_fields import Template
from archshift.cluster.scheduling import Condition, Unmet
from archshift.common.architectures import AMD64, ARM64
from archshift.common.kubernetes import ZONE_LABEL
from archshift.common.resources import GIB, Resources
from archshift.images.verdict import AMD64_ONLY, ARM64_ONLY, MULTI_ARCH, Verdict
from archshift.images.workload import WorkloadVerdict
from archshift.plan.guard import needs, shortfall
from archshift.plan.model import Plan, PlannedWorkload
from archshift.plan.planner import make_plan
from archshift.plan.sizing import size
from tests.build import ARCH, big_node, deployment, eks_group, inventory, plan_node, required_affinity

GPU = "nvidia.com/gpu"
DEVICES = (("ephemeral-storage", 100 * GIB), (GPU, 4))
X86 = replace(big_node("x86", AMD64), labels={ARCH: AMD64, ZONE_LABEL: "c", "pool": "m6i"}, devices=DEVICES)
ARM = replace(big_node("arm", ARM64), labels={ARCH: ARM64, ZONE_LABEL: "a"}, devices=())


def condition(unmet: Unmet, selector: dict[str, str] | None = None, **values: Any) -> Condition:
    return Condition(unmet=unmet, selector=selector or {}, **values)


IN_C = condition(Unmet("volume", "data", "c"), {ZONE_LABEL: "c"})
ON_X86 = {
    "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["x86"]}]}]
}

BOUND: dict[str, tuple[dict[str, Any], str]] = {
    "device": ({"requests": Resources(devices=((GPU, 1),))}, f"has 1 {GPU} for one pod"),
    "too few devices": ({"requests": Resources(devices=((GPU, 4),))}, f"has 4 {GPU} for one pod"),
    "disk": (
        {"requests": Resources(devices=(("ephemeral-storage", 50 * GIB),))},
        "has 50.0 GiB of ephemeral-storage for one pod",
    ),
    "volume": ({"conditions": (IN_C,)}, "can use the volume of its claim data (it is in c)"),
    "volume of one pod": (
        {"pod_conditions": ((), (IN_C,))},
        "can use the volume of its claim data (it is in c)",
    ),
    "runtime class": (
        {"conditions": (condition(Unmet("runtime class", "gvisor"), {ARCH: AMD64}),)},
        "matches the node selector of its RuntimeClass gvisor",
    ),
    "admission": (
        {"conditions": (condition(Unmet("admission", "pool"), {"pool": "m6i"}),)},
        "matches the rules that admission adds to its pods (pool)",
    ),
    "node name": (
        {"conditions": (condition(Unmet("node name", "x86"), required=ON_X86),)},
        "is x86, the only node that its template permits (spec.nodeName)",
    ),
    "selector": (
        {"template": Template(spec={"node-selector": {"pool": "m6i"}})},
        "matches its own node selector or affinity",
    ),
    "affinity": (
        {"template": Template(spec={"required": required_affinity("pool", "m6i", "c6i")})},
        "matches its own node selector or affinity",
    ),
}


def plan_of(*workloads: Workload, arm_ratio: float = 0.5, **options: Any) -> Plan:
    return make_plan(arm_ratio=arm_ratio, inventory=inventory(*workloads, nodes=(X86, ARM)), **options)


def row_of(workload: Workload, **options: Any) -> PlannedWorkload:
    (row,) = plan_of(workload, **options).workloads
    return row


@pytest.mark.parametrize("kind", BOUND)
@pytest.mark.parametrize("arm_ratio", [0.5, 1.0])
def test_what_one_side_cannot_run_is_left_alone_with_its_reason(kind: str, arm_ratio: float) -> None:
    fields, words = BOUND[kind]
    row = row_of(deployment(**fields), arm_ratio=arm_ratio)
    assert (row.action, row.patch, row.movable) == ("leave", None, False)
    sentence = "its own node selector or affinity matches no Graviton node"
    assert row.reason == f"left alone: {sentence if 'own' in words else f'no Graviton node {words}'}"


@pytest.mark.parametrize("kind", BOUND)
def test_what_only_x86_can_run_is_a_need(kind: str) -> None:
    """Its images are for both, and it may have no pod now."""
    fields, words = BOUND[kind]
    for workload in (deployment(**fields), deployment(replicas=0, **fields)):
        (need,) = needs_of(workload)
        assert (need.key, need.reason) == ("shop/Deployment/cart", f"no Graviton node {words}")
        assert need.pods == max(1, workload.replicas)
        assert "no x86 node is left where they can run" in shortfall([need], [ARM])
        if kind != "runtime class":
            other = plan_node("other", AMD64, devices=())
            assert "no x86 node is left where they can run" in shortfall([need], [other])


def needs_of(workload: Workload, verdict: Verdict = MULTI_ARCH, **options: Any) -> Any:
    verdicts = {workload.key: WorkloadVerdict(workload.key, verdict, (), ())}
    nodes = options.pop("nodes", (X86, ARM))
    found = inventory(workload, nodes=nodes)
    return needs(found, verdicts, {}, options.pop("possible", nodes))


def test_what_is_no_need() -> None:
    """Graviton nodes fit it, or no node does. The pods of a DaemonSet or a kubelet belong to their nodes."""
    selected = Template(spec={"node-selector": {"pool": "m6i"}})
    nowhere = Template(spec={"node-selector": {"pool": "gone"}})
    assert needs_of(deployment()) == ()
    assert needs_of(deployment(template=nowhere)) == ()
    assert needs_of(deployment(template=selected), ARM64_ONLY) == ()
    assert needs_of(deployment(kind="DaemonSet", template=selected)) == ()
    assert needs_of(deployment(kind="Node", template=selected)) == ()
    # Before the first Graviton node there is nothing to compare with.
    assert needs_of(deployment(template=selected), nodes=(X86,)) == ()
    assert len(needs_of(deployment(template=selected), possible=(ARM,))) == 1, "x86 leaves in this update"
    assert len(needs_of(deployment(template=selected), AMD64_ONLY)) == 1


def test_a_need_for_devices_needs_enough_of_them() -> None:
    workload = deployment(replicas=4, requests=Resources(devices=((GPU, 1),)))
    (need,) = needs_of(workload)
    assert shortfall([need], [X86]) == ""
    few = replace(X86, devices=((GPU, 3),))
    assert f"x86 lacks 1 {GPU}" in shortfall([need], [few, ARM])


def test_devices_that_the_step_moves_must_be_there() -> None:
    """What is left alone has its devices already, and must not stop the others."""
    both = replace(ARM, devices=((GPU, 1),))
    pair = [deployment(name, 1, requests=Resources(devices=((GPU, 1),))) for name in ("one", "two")]
    found = inventory(*pair, nodes=(X86, both))
    (shortage,) = make_plan(arm_ratio=1.0, inventory=found).shortages
    assert shortage.startswith(f"Graviton lacks 1 {GPU}: 2 pods ask for ")
    broken = replace(X86, devices=())
    left = inventory(deployment(requests=Resources(devices=((GPU, 1),))), nodes=(broken, ARM))
    assert make_plan(arm_ratio=1.0, inventory=left).shortages == []


def test_a_rollout_that_cannot_end_is_left_alone_with_the_way_out() -> None:
    row = row_of(deployment(unshared=("data", "node")))
    assert (row.action, row.reason) == (
        "leave",
        "left alone: no rollout of it can end, because only one node at a time can use its volume "
        "(claim data); set its strategy to Recreate, or maxSurge to 0 and maxUnavailable to 1",
    )


def test_other_schedulers_and_resource_claims_are_left_alone() -> None:
    assert row_of(deployment(scheduler="batch")).reason == (
        "left alone: the scheduler batch places its pods (spec.schedulerName)"
    )
    claiming = deployment(device_claims=("gpu", "nic"))
    assert row_of(claiming).reason == (
        "left alone: it asks for devices through its ResourceClaim gpu and nic"
    )
    (need,) = needs_of(claiming)
    assert need.reason == "it asks for devices through its ResourceClaim gpu and nic"


OURS = Template(
    spec={"spread": {"topologyKey": ARCH}},
    owned=frozenset({"spread"}),
    applied={"spec": {"topologySpreadConstraints": [{"topologyKey": ARCH}]}},
)


def steered(**fields: Any) -> Workload:
    return deployment(**{"template": OURS, **fields})


def test_a_need_that_came_later_gives_the_placement_back_if_no_pod_runs_there() -> None:
    """The spread would wait for a Graviton node that can run the pods. With pods there, a device plugin may
    be away for a while, and nothing changes.
    """
    gpu = steered(requests=Resources(devices=((GPU, 1),)))
    assert row_of(gpu).action == "leave"
    found = inventory(gpu, graviton={"cart": 2}, nodes=(X86, ARM))
    (row,) = make_plan(arm_ratio=0.5, inventory=found).workloads
    assert row.action == "keep"


def test_a_required_side_that_a_runtime_class_excludes_is_given_back() -> None:
    pinned = Template(
        spec={"required": required_affinity(ARCH, ARM64)},
        owned=frozenset({"required"}),
        applied={"spec": {"affinity": {}}},
    )
    on_x86 = condition(Unmet("runtime class", "gvisor"), {ARCH: AMD64})
    assert row_of(steered(template=pinned, conditions=(on_x86,))).action == "leave"
    other_side = replace(pinned, spec={"required": required_affinity(ARCH, AMD64)})
    assert row_of(steered(template=other_side, conditions=(on_x86,))).action == "keep"


def test_capacity_sizes_a_group_by_the_devices_of_its_live_nodes() -> None:
    group = eks_group("gpu", "g5.xlarge", size=1)
    live = replace(
        X86, labels={**X86.labels, "archshift/node-group": "gpu"}, devices=((GPU, 1),), name="gpu-0"
    )
    workload = deployment(requests=Resources(100, devices=((GPU, 1),)))
    found = inventory(workload, nodes=(live,))
    plan = make_plan(arm_ratio=0.0, inventory=found, groups=[group])
    (need,) = size(plan, found, [group], headroom=0.0).needs
    assert (need.nodes, need.limit) == (4, GPU)
    without = inventory(workload, nodes=(replace(live, devices=()),))
    sizing = size(make_plan(arm_ratio=0.0, inventory=without, groups=[group]), without, [group])
    assert sizing.without_group == {workload.key: "no x86 group takes its 4 pods"}
