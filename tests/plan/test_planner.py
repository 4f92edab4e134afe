"""The plan: who moves, who does not and why, and what the next update writes."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archshift.actions.workload_patch import give_back
from archshift.cluster.inventory import read_workload
from archshift.cluster.model import Autoscaler, Inventory, Workload
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import TakenField, Template
from archshift.common.architectures import AMD64, ARM64
from archshift.common.errors import ArchshiftError
from archshift.common.resources import Resources
from archshift.nodes.after_update import nodes_after
from archshift.nodes.groups import Node, Taint
from archshift.plan.apportion import phase, starts_on_graviton
from archshift.plan.deletion_costs import Proportion
from archshift.plan.model import Conflict, Plan, PlannedWorkload, Rules
from archshift.plan.placement import place
from archshift.plan.planner import make_plan
from tests.build import (
    ARCH,
    BOTH_SIDES,
    MANAGER,
    PREFERRED,
    REQUIRED,
    big_node,
    deployment,
    inventory,
    lab_group,
    patched_pod_spec,
    plan_node,
    replica_pod,
    required_affinity,
    sized_deployment,
    workload,
)
from tests.fakes import Live, LiveCluster
from tests.properties import examples

HELM = FieldOwner("helm", "Apply")


def plan_one(
    one: Workload,
    rules: Rules | None = None,
    *,
    ratio: float = 1.0,
    graviton: int = 0,
    nodes: tuple[Node, ...] = BOTH_SIDES,
) -> PlannedWorkload:
    """The row of a workload that is alone in its cluster."""
    found = inventory(one, graviton={one.name: graviton}, nodes=nodes)
    (row,) = make_plan(arm_ratio=ratio, inventory=found, rules={one.key: rules} if rules else {}).workloads
    return row


def revision(row: PlannedWorkload) -> str:
    """The revision that a Deployment's patch sets."""
    assert row.patch is not None
    return str(row.patch["spec"]["template"]["metadata"]["annotations"]["archshift/revision"])


def preference(weight: int) -> list[dict[str, Any]]:
    """A preferred node affinity for one zone."""
    return [{"weight": weight, "preference": required_affinity("zone", "a")["nodeSelectorTerms"][0]}]


def test_a_movable_workload_gets_a_patch_of_its_placement() -> None:
    """The body of the patch, whole: names, revision, placement and nothing that is not ours."""
    row = plan_one(deployment(), ratio=1.0)
    assert (row.wanted, row.graviton, row.reason, row.movable) == (4, 0, "", True)
    assert (row.restarts, row.forced, row.exact) == (True, False, False)
    assert row.patch == {
        "metadata": {"name": "cart", "namespace": "shop"},
        "spec": {
            "template": {
                "metadata": {"annotations": {"archshift/revision": "0a1b2c3d.4"}},
                "spec": {"affinity": {"nodeAffinity": {REQUIRED: required_affinity(ARCH, "arm64")}}},
            }
        },
    }


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (deployment("log", 0, kind="DaemonSet"), "a DaemonSet: runs on every node that it selects"),
        (
            deployment(obstacle="its rollouts are paused (spec.paused)"),
            "left alone: its rollouts are paused (spec.paused)",
        ),
        (
            deployment(template=Template(spec={"node-selector": {ARCH: "amd64"}})),
            "left alone: pins amd64 by its own nodeSelector",
        ),
        (
            deployment(template=Template(spec={"required": required_affinity(ARCH, "amd64")})),
            "left alone: pins amd64 by its own required node affinity",
        ),
        (
            deployment(template=Template(spec={"node-selector": {"zone": "b"}})),
            "left alone: its own node selector or affinity matches no x86 node",
        ),
        (
            deployment(
                template=Template(
                    spec={"preferred": preference(1), "required": required_affinity("zone", "a")},
                    foreign_owners={"preferred": HELM, "required": HELM},
                )
            ),
            "left alone: others own its preferred node affinity (helm)",
        ),
        (
            deployment(template=Template(taken_fields={"preferred": TakenField(HELM, preference(1))})),
            "force was withdrawn: its taken fields are restored",
        ),
    ],
    ids=["daemonset", "obstacle", "selector", "affinity", "unfit", "conflict", "withdrawn"],
)
def test_what_is_left_alone_says_why_and_gets_no_patch(one: Workload, reason: str) -> None:
    """One sentence a workload; nothing is wanted of it, so it never counts as inexact."""
    row = plan_one(one)
    assert (row.reason, row.patch, row.wanted, row.movable) == (reason, None, None, False)
    assert (row.exact, row.restarts) == (True, False)


def test_a_workload_whose_rules_match_no_graviton_node_is_left_alone() -> None:
    """Moving it would leave its pods pending."""
    nodes = (big_node("x86", "amd64", disk="ssd"), big_node("arm", "arm64"))
    row = plan_one(deployment(template=Template(spec={"node-selector": {"disk": "ssd"}})), nodes=nodes)
    assert row.reason == "left alone: its own node selector or affinity matches no Graviton node"


def test_a_taint_that_is_not_tolerated_is_named() -> None:
    """The user learns which toleration is missing; with it the workload moves."""
    taint = Taint(key="graviton", value="true")
    nodes = (big_node("x86", "amd64"), big_node("arm", "arm64", taints=(taint,)))
    assert plan_one(deployment(), nodes=nodes).reason == (
        "left alone: does not tolerate the taint graviton of the Graviton nodes"
    )
    tolerant = deployment(tolerations=({"key": "graviton", "operator": "Exists"},))
    assert plan_one(tolerant, nodes=nodes).movable


def test_one_fitting_node_is_enough() -> None:
    """A side with tainted and free nodes is open."""
    nodes = (*BOTH_SIDES, big_node("arm-batch", "arm64", taints=(Taint(key="batch"),)))
    assert plan_one(deployment(), nodes=nodes).movable


def test_a_side_without_nodes_excludes_nobody() -> None:
    """Before the first Graviton node is there, the plan still says where pods belong."""
    assert plan_one(deployment(), nodes=BOTH_SIDES[:1]).wanted == 4


def conflicting() -> Workload:
    """A workload whose preferences are helm's."""
    return deployment(
        template=Template(
            spec={"preferred": preference(10)},
            foreign_owners={"preferred": HELM},
            selector={"matchLabels": {}},
        )
    )


FIELD = "spec.template.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution"


def test_a_conflict_names_workload_field_owner_and_what_to_do() -> None:
    """The preview's sentence, and the same as a value for programs."""
    plan = make_plan(arm_ratio=0.5, inventory=inventory(conflicting()))
    assert plan.conflicts == (Conflict("shop/Deployment/cart", FIELD, "helm", forced=False),)
    assert str(plan.conflicts[0]) == (
        f"shop/Deployment/cart: {FIELD} is owned by helm; set the placement there, or set force: true with "
        "a reason in archshift:workloads.overrides"
    )


def test_force_takes_the_field_and_remembers_what_it_was() -> None:
    """The patch carries the annotation from which the previous value is restored."""
    row = plan_one(conflicting(), Rules(force=True, reason="agreed"), ratio=0.5)
    assert (row.wanted, row.forced, row.movable) == (2, True, True)
    assert row.patch is not None
    assert row.patch["metadata"]["annotations"] == {
        "archshift/taken": (
            '{"preferred":{"manager":"helm","operation":"Apply","value":[{"preference":{"matchExpressions":'
            '[{"key":"zone","operator":"In","values":["a"]}]},"weight":10}]}}'
        ),
        "archshift/force-reason": "agreed",
    }
    preferred = patched_pod_spec(row)["affinity"]["nodeAffinity"][PREFERRED]
    assert preferred[:-1] == preference(10)
    plan = make_plan(
        arm_ratio=0.5,
        inventory=inventory(conflicting()),
        rules={"shop/Deployment/cart": Rules(force=True, reason="agreed")},
    )
    assert str(plan.conflicts[0]) == (
        f"shop/Deployment/cart: takes {FIELD} from helm, as configured (force: true)"
    )


def test_force_where_there_is_nothing_to_take_forces_nothing() -> None:
    """The rule may stay in the config; the patch of a free workload is an ordinary one."""
    row = plan_one(deployment(), Rules(force=True, reason="to be sure"))
    assert (row.forced, row.movable) == (False, True)
    assert row.patch is not None
    assert "annotations" not in row.patch["metadata"]


@pytest.mark.parametrize(
    ("reason", "said"),
    [("", "held on x86 (hold: true)"), ("SSE4 code", "held on x86: SSE4 code")],
)
def test_a_held_workload_stays_on_x86_and_out_of_the_fleet(reason: str, said: str) -> None:
    """It is kept where it is by a patch of its own, whatever the ratio."""
    row = plan_one(deployment(), Rules(hold=True, reason=reason), graviton=1)
    assert (row.reason, row.wanted, row.movable, row.exact) == (said, 0, False, False)
    assert patched_pod_spec(row) == {
        "affinity": {"nodeAffinity": {REQUIRED: required_affinity(ARCH, "amd64")}}
    }


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet", "CronJob"])
def test_a_workload_without_standing_pods_is_switched_as_a_whole(kind: str) -> None:
    """Scaled to zero, or a CronJob: its next pods have a side, nothing restarts, nothing counts."""
    one = deployment("report", 0, kind=kind)
    for ratio, side in ((0.0, "x86"), (1.0, "Graviton")):
        row = plan_one(one, ratio=ratio)
        assert row.reason == f"no standing pods; its next ones start on {side}"
        assert (row.wanted, row.movable, row.restarts, row.exact) == (None, False, False, True)
        body: Any = row.patch
        for name in ("spec", "jobTemplate", "spec") if kind == "CronJob" else ("spec",):
            body = body[name]
        arch = "arm64" if side == "Graviton" else "amd64"
        assert body["template"]["spec"]["affinity"]["nodeAffinity"][REQUIRED] == required_affinity(ARCH, arch)


def test_the_wave_of_a_cron_job_counts() -> None:
    """An early CronJob switches while the ratio is low."""
    one = deployment("report", 0, kind="CronJob")
    assert starts_on_graviton(0.2, one.key, "early")
    assert plan_one(one, Rules(wave="early"), ratio=0.2).reason.endswith("start on Graviton")
    assert plan_one(one, Rules(wave="late"), ratio=0.8).reason.endswith("start on x86")


def test_a_cap_holds_and_says_so() -> None:
    """A capped workload is exact at its cap; the fleet's number is then what is possible."""
    row = plan_one(deployment(replicas=4), Rules(max_ratio=0.5), ratio=1.0, graviton=2)
    assert (row.wanted, row.reason, row.exact) == (2, "capped at 0.5 of its pods", True)


def test_an_autoscaled_workload_says_what_it_reaches() -> None:
    """The interval over its bounds, for the rule that it gets. New pods end in any order."""
    one = deployment(replicas=10, autoscaled=Autoscaler(by="HorizontalPodAutoscaler cart", least=10, most=40))
    split, whole = plan_one(one, ratio=0.8), plan_one(one, ratio=1.0)
    assert split.wanted == 8
    assert split.reachable == pytest.approx((7 / 12, 1.0))
    assert split.reason == (
        "until the next update, its autoscaler (10 to 40 pods) may bring its share on Graviton to between "
        "58% and 100%"
    )
    assert whole.reachable == (1.0, 1.0)
    assert whole.reason == "", "there is nothing to say where both ends are the same"


def test_an_autoscaled_workload_of_the_exact_rule_says_what_that_reaches() -> None:
    """Its own spread over architectures keeps the exact rule: 8 of 10 stays exact at 10 only."""
    own = {"topologyKey": ARCH, "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}
    template = Template(other_spreads=((own,), ()), has_soft_rules=True)
    scaler = Autoscaler(by="HorizontalPodAutoscaler cart", least=10, most=40)
    row = plan_one(deployment(replicas=10, autoscaled=scaler, template=template), ratio=0.8)
    # The lowest is 22 of 39: 23 of 40 is a little more.
    assert row.reachable == pytest.approx((22 / 39, 0.8))


def test_an_autoscaler_without_known_bounds_says_nothing() -> None:
    """Unknown is no interval."""
    row = plan_one(deployment(replicas=10, autoscaled=Autoscaler(by="archshift:workloads.autoscaled")))
    assert (row.reachable, row.reason) == (None, "")


def test_an_autoscaled_and_capped_workload_says_both() -> None:
    """No reason hides another."""
    row = plan_one(
        deployment(replicas=4, autoscaled=Autoscaler(by="HorizontalPodAutoscaler cart", least=0, most=4)),
        Rules(max_ratio=0.5),
        ratio=1.0,
    )
    assert row.reason.startswith(
        "capped at 0.5 of its pods; until the next update, its autoscaler (0 to 4 pods) "
    )


def settled(ratio: float, replicas: int = 4, **options: Any) -> Workload:
    """A workload as it is after an update at a ratio."""
    wanted = round(ratio * replicas)
    template = Template(selector={"matchLabels": {"app": "cart"}})
    fields = place(template, wanted, replicas)
    template = replace(template, spec=fields, owned=frozenset(fields), revision="0a1b2c3d.1")
    return deployment(replicas=replicas, template=template, **options)


@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_a_second_update_changes_nothing(ratio: float) -> None:
    """The revision is kept, so no pod restarts."""
    row = plan_one(settled(ratio), ratio=ratio, graviton=round(4 * ratio))
    assert (revision(row), row.restarts, row.exact) == ("0a1b2c3d.1", False, True)


def test_a_changed_placement_is_a_new_revision() -> None:
    """Every rollout gets a ReplicaSet of its own, also on the way back."""
    row = plan_one(settled(0.5), ratio=0.25, graviton=2)
    assert (revision(row), row.restarts) == ("0a1b2c3d.4", True)


def test_pods_that_settled_elsewhere_are_made_anew() -> None:
    """A node was lost and came back: the template is right and the pods are not."""
    row = plan_one(settled(0.5), ratio=0.5, graviton=1)
    assert (revision(row), row.restarts, row.exact) == ("0a1b2c3d.4", True, False)


def test_a_rollout_under_way_is_left_to_end() -> None:
    """Pods on their way are no reason to start again, nor are pods that have no node yet."""
    assert revision(plan_one(settled(0.5, settled=False), ratio=0.5, graviton=1)) == "0a1b2c3d.1"
    one = settled(0.5)
    pending = replace(inventory(one), pods={(one.key, ARM64): 1, (one.key, AMD64): 2, (one.key, ""): 1})
    (row,) = make_plan(arm_ratio=0.5, inventory=pending).workloads
    assert (revision(row), row.restarts) == ("0a1b2c3d.1", False)


def test_a_workload_that_was_replaced_gets_its_placement_again() -> None:
    """Somebody deleted and re-created it: the fields are gone, and the engine must see a change."""
    row = plan_one(deployment(identity="ffffffff.1"), ratio=0.5, graviton=2)
    assert (revision(row), row.restarts) == ("ffffffff.1", True)


def test_a_lost_revision_is_written_again() -> None:
    """Without the annotation on the live template the patch would differ from it for ever."""
    one = settled(0.5)
    bare = replace(one, template=replace(one.template, revision=""))
    row = plan_one(bare, ratio=0.5, graviton=2)
    assert (revision(row), row.restarts) == ("0a1b2c3d.4", True)


def test_an_override_for_a_workload_that_does_not_exist_stops_the_run() -> None:
    """A rule that silently did nothing would be worse; the nearest names are offered."""
    with pytest.raises(ArchshiftError) as error:
        make_plan(arm_ratio=0.5, inventory=inventory(deployment()), rules={"shop/Deployment/crat": Rules()})
    assert str(error.value) == (
        "archshift:workloads.overrides: 'shop/Deployment/crat' is not among the workloads found; did you "
        "mean shop/Deployment/cart?"
    )
    with pytest.raises(ArchshiftError, match=r"; remove it or correct the name$"):
        make_plan(arm_ratio=0.5, inventory=Inventory(), rules={"a/Deployment/b": Rules()})


def test_fleet_totals_leave_out_who_does_not_move() -> None:
    """Held, pinned and left-alone pods are none of the ratio's business."""
    found = inventory(
        deployment("moves", 10),
        deployment("held", 10),
        deployment("pins", 10, template=Template(spec={"node-selector": {ARCH: "amd64"}})),
        deployment("log", 0, kind="DaemonSet"),
        graviton={"moves": 3, "held": 1},
    )
    plan = make_plan(arm_ratio=0.5, inventory=found, rules={"shop/Deployment/held": Rules(hold=True)})
    assert (plan.pods, plan.wanted, plan.graviton) == (10, 5, 3)
    assert [row.key for row in plan.movable] == ["shop/Deployment/moves"]
    assert [row.key for row in plan.workloads] == sorted(found.workloads)
    assert not plan.exact


@pytest.mark.parametrize(
    ("ratio", "direction", "exact"), [(0.5, "none", True), (0.75, "up", False), (0.25, "down", False)]
)
def test_the_direction_follows_from_what_is_observed(ratio: float, direction: str, exact: bool) -> None:
    """Not from a number that somebody remembered."""
    plan = make_plan(arm_ratio=ratio, inventory=inventory(settled(0.5), graviton={"cart": 2}))
    assert (plan.direction, plan.exact) == (direction, exact)


def test_the_nodes_that_count_are_those_after_the_update() -> None:
    """Configured groups replace their live nodes; nodes of nobody's group stay."""
    old = Node(name="old", labels={ARCH: "amd64", "archshift/node-group": "gone"})
    live = [old, big_node("own", "amd64")]
    names = [node.name for node in nodes_after(live, [lab_group("arm", "m7g.large", 2)])]
    assert names == ["arm-0", "arm-1", "own"]


def test_a_step_without_room_says_what_is_missing() -> None:
    """Before anything moves: 10 vCPU into a node of 3.9."""
    plan = make_plan(
        arm_ratio=1.0,
        inventory=inventory(sized_deployment("cart", 10, 1000), nodes=()),
        groups=[lab_group("arm", "m7g.xlarge", 1), lab_group("x86", "m7i.xlarge", 1)],
    )
    assert plan.shortages == [
        "Graviton lacks 6.1 vCPU: 10 pods ask for 10.0 vCPU and 10.0 GiB of the 3.9 vCPU and 15.0 GiB of "
        "1 node"
    ]
    assert plan.balances[AMD64].demand.total.pods == 0


def test_a_pod_that_no_node_can_hold_does_not_stop_the_others() -> None:
    """Its pods are pending on either side. One that only an x86 node can hold still counts."""
    groups = [lab_group("arm", "m7g.xlarge", 2), lab_group("x86", "m7i.4xlarge", 1)]
    fine, huge = sized_deployment("cart", 2), sized_deployment("huge", 2, millicpu=10**21, memory=2**63)
    found = inventory(fine, huge, nodes=())
    assert make_plan(arm_ratio=1.0, inventory=found, groups=groups).shortages == []
    found = inventory(fine, sized_deployment("big", 1, millicpu=6_000), nodes=())
    (shortage,) = make_plan(arm_ratio=1.0, inventory=found, groups=groups).shortages
    assert shortage == "Graviton has no node for a pod of 6.0 vCPU and 1.0 GiB"


def test_everything_that_runs_there_takes_up_room() -> None:
    """Moved and unsteered pods, DaemonSets on every node they select, and what is left alone where it is."""
    arm = tuple(big_node(f"arm-{index}", "arm64", zone="a") for index in range(3))
    picky = Template(spec={"node-selector": {"zone": "b"}})
    found = inventory(
        sized_deployment("moves", 4, 100),
        sized_deployment("held", 2, 1000),
        sized_deployment("pins", 3, 10_000, template=Template(spec={"node-selector": {ARCH: "arm64"}})),
        sized_deployment("log", 0, 10, kind="DaemonSet"),
        sized_deployment("picky-log", 0, 77, kind="DaemonSet", template=picky),
        graviton={"pins": 3},
        nodes=(*arm, BOTH_SIDES[0]),
    )
    found = replace(found, unsteered_load={"arm64": Resources(7, 7, 5), "": Resources(9, 9, 1)})
    plan = make_plan(arm_ratio=0.5, inventory=found, rules={"shop/Deployment/held": Rules(hold=True)})
    assert plan.balances[ARM64].demand.total.millicpu == 2 * 100 + 3 * 10_000 + 3 * 10 + 7
    assert plan.balances[ARM64].demand.total.pods == 2 + 3 + 3 + 5
    assert [pod.millicpu for pod in plan.balances[ARM64].demand.largest] == [10_000]
    assert plan.balances[AMD64].demand.total.millicpu == 2 * 100 + 2 * 1000 + 1 * 10
    assert plan.shortages == []


def test_capacity_before_is_what_is_there() -> None:
    """The live nodes and the pods where they are, unsteered included; what the step makes of it is apart."""
    found = inventory(
        sized_deployment("cart", 4, 100),
        graviton={"cart": 1},
        nodes=(big_node("arm", "arm64"), big_node("x86", "amd64")),
    )
    found = replace(found, unsteered_load={"arm64": Resources(7, 7, 5)})
    plan = make_plan(arm_ratio=1.0, inventory=found, groups=[lab_group("more", "m7g.large", 2)])
    assert (plan.before[ARM64].nodes, plan.before[ARM64].demand.total.pods) == (1, 1 + 5)
    assert plan.before[ARM64].demand.total.millicpu == 100 + 7
    assert plan.before[AMD64].demand.total.pods == found.on("shop/Deployment/cart", "amd64")
    assert (plan.balances[ARM64].nodes, plan.balances[ARM64].demand.total.pods) == (3, 4 + 5)


def test_who_answers_for_it_and_how_many_pods_move() -> None:
    """The label's owner or else the namespace; nothing moves of what is left alone."""
    found = inventory(
        deployment("cart", 4, owner="ann"),
        deployment("pins", 3, template=Template(spec={"node-selector": {ARCH: "amd64"}})),
        graviton={"cart": 3},
    )
    rows = {row.name: row for row in make_plan(arm_ratio=0.25, inventory=found).workloads}
    assert (rows["cart"].owner, rows["cart"].moves, rows["cart"].action) == ("ann", 2, "move")
    assert (rows["pins"].owner, rows["pins"].moves, rows["pins"].action) == ("shop", 0, "leave")


def test_pods_of_nobody_come_through_to_the_plan() -> None:
    """So that the user sees what archshift does not steer."""
    found = replace(inventory(), unsteered_reasons={"shop/Pod/debug": "a bare pod"})
    assert make_plan(arm_ratio=0.5, inventory=found).unsteered_reasons == {"shop/Pod/debug": "a bare pod"}


RAMP = st.sampled_from([0.0, 0.2, 0.37, 0.5, 0.8, 1.0])

# Whole lives of workloads: several updates in a row, with ownership as the API server keeps it.

ZONE_SPREAD = {
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "ScheduleAnyway",
    "maxSkew": 1,
    "labelSelector": {"matchLabels": {"app": "cart"}},
}
ARCH_SPREAD = {**ZONE_SPREAD, "topologyKey": ARCH, "whenUnsatisfiable": "DoNotSchedule"}
OWNERS = st.sampled_from(["kubectl", "helm"])


def owned(*values: Any) -> st.SearchStrategy[tuple[str, Any]]:
    """One of the values with an owner."""
    return st.tuples(OWNERS, st.sampled_from(values))


Own = Mapping[str, tuple[str, Any]]
"""Field of the pod spec to its owner and value."""

OWN_FIELDS = st.fixed_dictionaries(
    {},
    optional={
        "nodeSelector": owned({"zone": "a"}),
        "required": owned(required_affinity("zone", "a")),
        "preferred": owned(preference(10), preference(90)),
        "spread": owned([ZONE_SPREAD], [ARCH_SPREAD], [ZONE_SPREAD, ARCH_SPREAD]),
        "tolerations": owned([{"operator": "Exists"}]),
    },
)
LIVES = st.lists(
    st.tuples(st.sampled_from(["CronJob", "Deployment"]), st.integers(0, 7), OWN_FIELDS),
    min_size=1,
    max_size=3,
)


def make_live(index: int, kind: str, replicas: int, own: Own) -> Live:
    """A workload whose placement fields were applied by their owners."""
    live = Live(kind, workload(kind, f"app-{index:02}", replicas=replicas))
    for owner in ("kubectl", "helm"):
        theirs = {name: value for name, (who, value) in own.items() if who == owner}
        if not theirs:
            continue
        spec: dict[str, Any] = {
            name: theirs[name] for name in ("nodeSelector", "tolerations") if name in theirs
        }
        names = {"required": REQUIRED, "preferred": PREFERRED}
        affinity = {key: theirs[name] for name, key in names.items() if name in theirs}
        if affinity:
            spec["affinity"] = {"nodeAffinity": affinity}
        if "spread" in theirs:
            spec["topologySpreadConstraints"] = theirs["spread"]
        body = {"spec": in_template(kind, {"spec": spec})}
        if owner == "helm":
            live.apply(body, "helm")
        else:
            live.update(body, "kubectl-client-side-apply")
    return live


def in_template(kind: str, template: Mapping[str, Any]) -> dict[str, Any]:
    """A workload's spec with this pod template."""
    if kind == "CronJob":
        return {"jobTemplate": {"spec": {"template": template}}}
    return {"template": template}


def look(lives: list[Live], pods: Mapping[str, int], force: bool, ratio: float) -> Plan:
    """Read the live objects and plan."""
    found = {}
    for live in lives:
        one = read_workload(live.kind, live.json(), MANAGER)
        found[one.key] = one
    where = {}
    for key, one in found.items():
        where[key, "arm64"] = pods.get(key, 0)
        where[key, "amd64"] = one.replicas - pods.get(key, 0)
    rules = dict.fromkeys(found, Rules(force=True, reason="agreed")) if force else {}
    return make_plan(
        arm_ratio=ratio, inventory=Inventory(workloads=found, nodes=BOTH_SIDES, pods=where), rules=rules
    )


def settle(lives: list[Live], plan: Plan) -> dict[str, int]:
    """Apply the plan's patches and let the pods go where they are wanted."""
    for live, row in zip(lives, plan.workloads, strict=True):
        if row.patch is not None:
            live.apply(row.patch, MANAGER, force=row.forced)
    return {row.key: row.wanted or 0 for row in plan.workloads}


@settings(examples, max_examples=100)
@given(LIVES, st.booleans(), st.lists(RAMP, min_size=1, max_size=4))
def test_updates_converge_and_leave_no_trace(
    described: list[tuple[str, int, Own]], force: bool, ratios: list[float]
) -> None:
    """Over any ramp: no conflict, a second update changes nothing, and destroying restores all.

    Random workloads with fields of their own, owned by kubectl or by a server-side Helm, with
    force and without; patches go through server-side apply.
    """
    described.sort(key=lambda one: one[0])
    lives = [make_live(index, *one) for index, one in enumerate(described)]
    before = [(live.fields, owners_of(live)) for live in lives]
    pods: dict[str, int] = {}
    for ratio in ratios:
        first = look(lives, pods, force, ratio)
        pods = settle(lives, first)
        generations = [live.generation for live in lives]
        second = look(lives, pods, force, ratio)
        assert not any(row.restarts for row in second.workloads)
        assert [row.patch for row in second.workloads] == [row.patch for row in first.workloads]
        assert second.exact
        settle(lives, second)
        assert [live.generation for live in lives] == generations
        for live, (fields, _) in zip(lives, before, strict=True):
            assert_own_rules_hold(live, fields)
    for live, as_it_was in zip(lives, before, strict=True):
        give_back(LiveCluster(live), live.kind, "shop", live.base["metadata"]["name"], MANAGER)
        assert (live.fields, owners_of(live)) == as_it_was


def owners_of(live: Live) -> dict[tuple[str, str], set[tuple[str, ...]]]:
    """Who owns what, without those who own nothing."""
    return {owner: set(paths) for owner, paths in live.owners.items() if paths}


def assert_own_rules_hold(live: Live, before: Mapping[str, Any]) -> None:
    """The application's own selector, affinity, spread and tolerations are in the live object."""
    spec = pod_spec_of(live.kind, live.fields)
    own = pod_spec_of(live.kind, before)
    # Beside the application's own there may be ours, for the soft taint of a side.
    theirs = [one for one in spec.get("tolerations", ()) if not one.get("key", "").startswith("archshift/")]
    assert own.get("tolerations", []) == theirs
    assert own.get("nodeSelector", {}).items() <= spec.get("nodeSelector", {}).items()
    zones = [one for one in own.get("topologySpreadConstraints", ()) if one["topologyKey"] != ARCH]
    assert all(one in spec["topologySpreadConstraints"] for one in zones)
    affinity = own.get("affinity", {}).get("nodeAffinity", {})
    for term in affinity.get(REQUIRED, {}).get("nodeSelectorTerms", ()):
        (merged,) = spec["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"]
        assert all(one in merged["matchExpressions"] for one in term["matchExpressions"])
    for entry in affinity.get(PREFERRED, ()):
        wanted = [one["preference"] for one in spec["affinity"]["nodeAffinity"][PREFERRED]]
        assert entry["preference"] in wanted


def pod_spec_of(kind: str, fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The pod spec among applied fields; empty if there is none."""
    node: Any = fields
    for key in ("spec", *(("jobTemplate", "spec") if kind == "CronJob" else ()), "template", "spec"):
        node = node.get(key, {})
    found: Mapping[str, Any] = node
    return found


@settings(examples, max_examples=20)
@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=12),
    st.lists(RAMP, min_size=2, max_size=2),
)
def test_only_workloads_whose_share_changes_restart(sizes: list[int], ratios: list[float]) -> None:
    """A step touches exactly those pod templates that have to change."""
    lives = [make_live(index, "Deployment", size, {}) for index, size in enumerate(sizes)]
    first = look(lives, {}, False, ratios[0])
    pods = settle(lives, first)
    step = look(lives, pods, False, ratios[1])
    assert step.wanted == round(ratios[1] * sum(sizes))
    for row in step.workloads:
        assert row.restarts == (row.replicas > 0 and row.wanted != pods[row.key])


def test_a_workload_of_one_pod_is_a_whole_fleet() -> None:
    """round(0.5 * 1) is 0: the pod moves above one half and is exact on either side."""
    one = deployment(replicas=1)
    assert [plan_one(one, ratio=ratio).wanted for ratio in (0.0, 0.5, 0.51, 1.0)] == [0, 0, 1, 1]


def test_a_plan_of_nothing_is_exact() -> None:
    """A cluster that has no workloads yet is in order."""
    plan = make_plan(arm_ratio=0.5, inventory=Inventory())
    assert (plan.pods, plan.wanted, plan.direction, plan.exact, plan.shortages) == (0, 0, "none", True, [])


def test_waves_reach_the_apportionment() -> None:
    """Of two equal workloads the early one goes first, whichever their hashes would prefer."""
    found = inventory(deployment("a", 1), deployment("b", 1))
    keys = sorted(found.workloads, key=phase)
    rules = {keys[0]: Rules(wave="early"), keys[1]: Rules(wave="late")}
    plan = make_plan(arm_ratio=0.5, inventory=found, rules=rules)
    assert {row.key: row.wanted for row in plan.workloads} == {keys[0]: 1, keys[1]: 0}
    assert math.isclose(plan.wanted / plan.pods, 0.5)


@pytest.mark.parametrize("zones", [True, False])
def test_default_spreads_are_over_zones_where_nodes_have_zones(zones: bool) -> None:
    """A simulated or small cluster without the label would otherwise lose the spread over nodes too."""
    label = "topology.kubernetes.io/zone"
    nodes = tuple(
        replace(node, labels={key: text for key, text in node.labels.items() if zones or key != label})
        for node in BOTH_SIDES
    )
    (row,) = make_plan(arm_ratio=0.5, inventory=inventory(deployment(), nodes=nodes)).workloads
    spreads = [one["topologyKey"] for one in patched_pod_spec(row)["topologySpreadConstraints"]]
    assert spreads == [ARCH, *([label] if zones else []), "kubernetes.io/hostname"]


# --- deletion costs ------------------------------------------------------------------------------


def autoscaled_at(graviton: int, *, ratio: float, cost_owner: str = "") -> Plan:
    """The plan of four carts that an autoscaler scales, placed for this share before."""
    scaler = Autoscaler(by="HorizontalPodAutoscaler cart", least=4, most=4)
    one = replace(settled(ratio), autoscaled=scaler)
    pods = [
        replica_pod(
            number, node="arm" if number < graviton else "x86", cost_owner=cost_owner if not number else ""
        )
        for number in range(4)
    ]
    nodes = (plan_node("arm", "arm64"), plan_node("x86"))
    found = replace(inventory(one, graviton={"cart": graviton}, nodes=nodes), scaled_pods={one.key: pods})
    return make_plan(arm_ratio=ratio, inventory=found)


def test_costs_are_due_where_pods_have_none_or_move() -> None:
    """On one side every order is right."""
    assert autoscaled_at(2, ratio=0.5).costs_due == ("shop/Deployment/cart",)
    assert autoscaled_at(0, ratio=0.5).costs_due == ("shop/Deployment/cart",)
    assert autoscaled_at(4, ratio=1.0).costs_due == ()
    assert autoscaled_at(2, ratio=0.5).kept_shares == {"shop/Deployment/cart": Proportion(2, 4, 4)}


def test_the_costs_of_an_application_are_named_and_left_alone() -> None:
    plan = autoscaled_at(2, ratio=0.5, cost_owner="queue-operator")
    assert plan.costs_due == ()
    assert plan.workloads[0].reason.startswith(
        "queue-operator sets deletion costs on its pods, so archshift sets none, and its share may change "
        "while it is scaled down"
    )
