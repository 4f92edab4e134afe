"""The plan where the API server places pods: entries, moves and the few workloads that roll out."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.cluster.entries import LEFT_ALONE, Entry
from archshift.cluster.inventory import read_workload
from archshift.cluster.model import Autoscaler, Inventory, Workload
from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import Template
from archshift.common.architectures import ARM64
from archshift.images.verdict import AMD64_ONLY, MULTI_ARCH, UNKNOWN
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.groups import Node, Taint
from archshift.plan import reasons
from archshift.plan.apportion import starts_on_graviton
from archshift.plan.model import Plan, PlannedWorkload, Rules
from archshift.plan.planner import make_plan
from archshift.plan.steering import Admission
from tests.build import (
    ARCH,
    BOTH_SIDES,
    MANAGER,
    big_node,
    deployment,
    inventory,
    plan_node,
    required_affinity,
    workload,
)
from tests.fakes import Live
from tests.properties import examples

HELM = FieldOwner("helm", "Apply")


def plan_of(found: Inventory, ratio: float = 0.5, **more: Any) -> Plan:
    """The plan of a cluster whose API server places pods."""
    return make_plan(arm_ratio=ratio, inventory=found, placed_by="admission", **more)


def plan_one(
    one: Workload,
    ratio: float = 0.5,
    *,
    graviton: int = 0,
    nodes: tuple[Node, ...] = BOTH_SIDES,
    live: str = "",
    **more: Any,
) -> PlannedWorkload:
    """The row of a workload that is alone in its cluster."""
    found = inventory(one, graviton={one.name: graviton}, nodes=nodes)
    (row,) = plan_of(found, ratio, live_entries={one.key: live} if live else {}, **more).workloads
    return row


def verdict(one: Workload, word: Any) -> dict[str, WorkloadVerdict]:
    """The verdict on a workload's images."""
    return {one.key: WorkloadVerdict(one.key, word, (), ())}


def test_a_movable_workload_gets_an_entry_and_no_patch() -> None:
    """And only the pods that change sides restart."""
    row = plan_one(deployment(replicas=10), 0.3)
    assert (row.wanted, row.moves, row.restarted_pods) == (3, 3, 3)
    assert (row.entry, row.patch, row.restarts, row.patch_goes) == ("3 of 10 on arm64", None, False, False)
    assert row.placed
    assert plan_one(deployment(replicas=10), 0.0).entry == "all on amd64"
    assert plan_one(deployment(replicas=10), 1.0).entry == "all on arm64"


SCALER = Autoscaler(by="HorizontalPodAutoscaler cart", least=2, most=30)


@pytest.mark.parametrize(("replicas", "wanted"), [(10, 8), (1, 1), (2, 2)])
def test_an_autoscaled_workload_keeps_a_ratio_at_any_number_of_pods(replicas: int, wanted: int) -> None:
    """Also one that has all its pods on one side now: its next pods may belong on the other."""
    row = plan_one(deployment(replicas=replicas, autoscaled=SCALER), 0.8)
    entry = Entry.parse(row.entry)
    assert row.wanted == wanted
    assert entry
    assert entry.scaling
    # 24 and 6 of 30: no larger lead is needed.
    assert (entry.side, entry.scaling.within, entry.scaling.side) == (None, 18, ARM64)


@pytest.mark.parametrize(
    ("one", "ratio", "rules"),
    [
        (deployment(replicas=10), 0.8, Rules()),
        (deployment(replicas=10, autoscaled=SCALER), 0.0, Rules()),
        (deployment(replicas=10, autoscaled=SCALER), 1.0, Rules()),
        (deployment(replicas=10, autoscaled=SCALER), 0.8, Rules(hold=True, reason="a test")),
        (deployment(replicas=1, autoscaled=replace(SCALER, least=1, most=1)), 0.8, Rules()),
        (deployment(replicas=10, autoscaled=SCALER, one_side=True), 0.8, Rules()),
    ],
    ids=["no autoscaler", "none there", "all there", "held", "one pod", "all on one side"],
)
def test_all_other_workloads_keep_the_exact_rule(one: Workload, ratio: float, rules: Rules) -> None:
    row = plan_one(one, ratio, rules={one.key: rules})
    assert "within" not in row.entry


def test_a_cap_is_the_share_that_an_autoscaled_workload_keeps() -> None:
    one = deployment(replicas=10, autoscaled=SCALER)
    capped = plan_one(one, 0.9, rules={one.key: Rules(max_ratio=0.2)})
    plain = plan_one(one, 0.2)
    assert Entry.parse(capped.entry) == Entry.parse(plain.entry)
    assert capped.reachable == plain.reachable


def test_the_bound_is_wide_where_nobody_knows_the_most_pods() -> None:
    """Ten times as many pods as now; there is no interval to print."""
    row = plan_one(deployment(replicas=10, autoscaled=Autoscaler(by="archshift:workloads.autoscaled")), 0.8)
    entry = Entry.parse(row.entry)
    assert entry
    assert entry.scaling
    assert (entry.scaling.within, row.reachable) == (60, None)


def test_a_workload_without_proof_keeps_the_live_rule_of_its_autoscaler() -> None:
    """Its registry is away, and its autoscaler has changed the number of pods since the last update."""
    one = deployment(replicas=20, autoscaled=SCALER)
    live = "8 of 10 on arm64 within 18 spread 1 prefer arm64 46"
    admission = Admission.of(inventory(one), {one.key: live})
    assert str(admission.live(one)) == "16 of 20 on arm64 within 18 spread 1 prefer arm64 46"


@pytest.mark.parametrize(
    ("placed_by", "restarted"),
    [("all on arm64", 0), ("all on amd64", 1), ("", 1)],
    ids=["by the present entry", "by an older one", "before the policy"],
)
def test_a_pod_that_waits_for_a_node_under_its_entry_is_not_restarted(placed_by: str, restarted: int) -> None:
    """Its volume does not exist, for example. Each update would restart it in vain."""
    one = replace(deployment(replicas=1), most_away=0)
    found = replace(inventory(one), pods={(one.key, ""): 1}, waiting={one.key: (placed_by,)})
    (row,) = plan_of(found, 1.0).workloads
    assert (row.moves, row.restarted_pods, row.restarts) == (1, restarted, bool(restarted))
    assert not row.exact


def test_the_first_step_at_ratio_0_restarts_nothing() -> None:
    """All pods are on x86 already; the entries only keep their successors there."""
    found = inventory(*(deployment(f"web-{number}", number) for number in range(1, 20)))
    plan = plan_of(found, 0.0)
    assert (plan.moves, plan.restarted_pods, plan.exact) == (0, 0, True)
    assert {row.entry for row in plan.workloads} == {"all on amd64"}
    assert all(row.unchanged for row in plan.workloads)
    patches = make_plan(arm_ratio=0.0, inventory=found)
    assert patches.restarted_pods == 190


@pytest.mark.parametrize(
    "more",
    [
        {"controlled_by": "MetricStore main"},
        {"template_of": "Canary cart"},
        {"obstacle": "its rollouts are paused (spec.paused)"},
        {"template": Template(spec={"preferred": [{"weight": 1}]}, foreign_owners={"preferred": HELM})},
        {"template": Template(null_parent=True, takes_over=True)},
    ],
)
def test_owners_of_fields_are_no_obstacle(more: Mapping[str, Any]) -> None:
    """A pod that does not exist yet belongs to nobody, and no rollout is needed."""
    row = plan_one(deployment(**more))
    assert (row.action, row.entry, row.wanted) == ("move", "2 of 4 on arm64", 2)
    assert plan_of(inventory(deployment(**more))).conflicts == ()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"scheduler": "volcano"}, "left alone: the scheduler volcano places its pods (spec.schedulerName)"),
        (
            {"template": Template(spec={"node-selector": {ARCH: "amd64"}})},
            "left alone: pins amd64 by its own nodeSelector",
        ),
        (
            {"template": Template(spec={"required": required_affinity(ARCH, "arm64")})},
            "left alone: pins arm64 by its own required node affinity",
        ),
        (
            {"template": Template(spec={"spread": {"topologyKey": ARCH, "maxSkew": 1}})},
            "left alone: spreads its pods over kubernetes.io/arch itself (DoNotSchedule)",
        ),
        ({"device_claims": ("gpu",)}, "left alone: it asks for devices through its ResourceClaim gpu"),
        (
            {"unshared": ("data", "pod")},
            "left alone: no rollout of it can end, because only one pod at a time can use its volume "
            "(claim data); set its strategy to Recreate, or maxSurge to 0 and maxUnavailable to 1",
        ),
        ({"name": "a" * 250}, "left alone: its kind and name cannot be the key of an entry"),
    ],
)
def test_what_decides_itself_is_left_alone(more: dict[str, Any], reason: str) -> None:
    """Its entry says so, because the pods of workloads without an entry start on x86."""
    row = plan_one(deployment(**more))
    assert (row.action, row.entry, row.wanted, row.reason) == ("leave", LEFT_ALONE, None, reason)
    assert not row.placed


def test_unproven_images_are_held_whatever_else_hinders_a_move() -> None:
    """To keep pods on x86 needs no rollout and no share, so the pin is set where a move is not possible."""
    for more in (
        {"unshared": ("data", "pod")},
        {"template": Template(spec={"spread": {"topologyKey": ARCH, "maxSkew": 1}})},
    ):
        one = deployment(**more)
        row = plan_one(one, verdicts=verdict(one, AMD64_ONLY))
        assert (row.action, row.entry, row.wanted) == ("hold", "all on amd64", 0)


def test_what_runs_on_arm64_only_goes_there() -> None:
    """Also without permanent pods."""
    for replicas in (0, 3):
        one = deployment(replicas=replicas)
        row = plan_one(one, 0.0, verdicts=verdict(one, "arm64-only"))
        assert (row.action, row.entry) == ("graviton", "all on arm64")


def test_a_spread_of_its_own_is_no_obstacle_for_one_pod() -> None:
    """One pod is pinned, and a pin goes with every spread."""
    one = deployment(replicas=1, template=Template(spec={"spread": {"topologyKey": ARCH, "maxSkew": 1}}))
    assert plan_one(one, 1.0).entry == "all on arm64"


# --- limits -------------------------------------------------------------------------------------


def test_a_workload_that_lends_no_pod_rolls_out() -> None:
    """With its surge, so no pod is missing; the plan says why all of its pods restart."""
    row = plan_one(deployment(replicas=3, most_away=0), 0.5)
    assert (row.restarts, row.restarted_pods, row.moves) == (True, 3, 2)
    assert row.entry == "2 of 3 on arm64"
    assert row.reason == "it rolls out, because its limits let no pod be away"
    at_rest = plan_one(deployment(replicas=3, most_away=0), 0.5, graviton=2)
    assert (at_rest.restarts, at_rest.reason) == (False, "")


@pytest.mark.parametrize(
    ("replicas", "spec", "away"),
    [
        (1, {}, 0),
        (3, {}, 0),
        (4, {}, 1),
        (1, {"strategy": {"type": "Recreate"}}, 1),
        (9, {"strategy": {"rollingUpdate": {"maxUnavailable": 0}}}, 0),
        (2, {"strategy": {"rollingUpdate": {"maxUnavailable": "50%", "maxSurge": 0}}}, 1),
    ],
)
def test_the_limits_come_from_the_spec(replicas: int, spec: Mapping[str, Any], away: int) -> None:
    """As the Deployment's controller reads them."""
    one = read_workload("Deployment", workload(replicas=replicas, spec=spec), MANAGER)
    assert one.most_away == away
    assert read_workload("StatefulSet", workload("StatefulSet", replicas=1), MANAGER).most_away == 1


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (
            {"obstacle": "its rollouts are paused (spec.paused)"},
            "waits: its limits let no pod be away, so it must roll out, but its rollouts are paused "
            "(spec.paused)",
        ),
        (
            {"template_of": "Canary cart"},
            "waits: its limits let no pod be away, so it must roll out, but a rollout would start a release "
            "of Canary cart",
        ),
    ],
)
def test_a_workload_that_must_roll_out_but_cannot_waits(more: Mapping[str, Any], reason: str) -> None:
    """Its pods stay where they are, and its entry keeps them there."""
    row = plan_one(deployment(replicas=3, most_away=0, **more), 1.0, graviton=1)
    assert (row.waits, row.wanted, row.entry, row.restarts) == (True, 1, "1 of 3 on arm64", False)
    assert row.reason == reason
    free = plan_one(
        deployment(replicas=3, most_away=0, template_of="Canary cart"),
        1.0,
        rules={"shop/Deployment/cart": Rules(steer_owned=True)},
    )
    assert free.restarts


@pytest.mark.parametrize(
    "strategy", [{"type": "OnDelete"}, {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}]
)
def test_a_statefulset_with_an_unfinished_revision_waits(strategy: Mapping[str, Any]) -> None:
    """Until its owner has finished; without such a revision it moves like any other."""
    item = workload("StatefulSet", replicas=4, spec={"updateStrategy": strategy})
    done = read_workload("StatefulSet", item, MANAGER)
    assert plan_one(done).entry == "2 of 4 on arm64"
    item["status"]["updatedReplicas"] = 1
    row = plan_one(read_workload("StatefulSet", item, MANAGER), graviton=1)
    assert (row.waits, row.wanted, row.entry) == (True, 1, "1 of 4 on arm64")
    assert row.reason.startswith("waits: its ")
    assert row.reason.endswith(", and not all of them have the newest revision")


# --- keeping what is there ----------------------------------------------------------------------


def closed(architecture: str) -> tuple[Node, ...]:
    """The nodes of both sides. Those of this architecture take no pods now."""
    return tuple(replace(node, schedulable=node.architecture != architecture) for node in BOTH_SIDES)


def test_a_step_to_a_closed_side_waits_with_the_live_entry() -> None:
    """A pod that waits for the same nodes must not change the entry."""
    one = deployment(replicas=10)
    row = plan_one(one, 0.8, graviton=3, nodes=closed(ARM64), live="4 of 10 on arm64")
    assert (row.waits, row.wanted, row.entry) == (True, 3, "4 of 10 on arm64")
    assert plan_one(one, 0.8, graviton=3, nodes=closed(ARM64)).entry == "3 of 10 on arm64"
    # An entry for another number of pods says nothing.
    assert plan_one(one, 0.8, graviton=3, nodes=closed(ARM64), live="4 of 9 on arm64").entry == (
        "3 of 10 on arm64"
    )


def test_a_closed_side_that_gets_no_pods_is_no_reason_to_wait() -> None:
    """Evictions take pods away there. Only a rollout starts pods on both sides."""
    one = deployment(replicas=10)
    assert plan_one(one, 0.8, graviton=3, nodes=closed("amd64")).moves == 5
    assert plan_one(one, 0.2, graviton=3, nodes=closed(ARM64)).moves == 1
    rolling = replace(one, most_away=0)
    assert plan_one(rolling, 0.8, graviton=3, nodes=closed("amd64")).waits
    assert not plan_one(rolling, 0.3, graviton=3, nodes=closed("amd64")).waits


def test_an_image_that_is_unreadable_now_changes_no_entry() -> None:
    """Neither when a pod of it is missing for a moment."""
    one = deployment(replicas=10)
    unknown = verdict(one, UNKNOWN)
    assert plan_one(one, 0.8, graviton=4, verdicts=unknown).entry == "4 of 10 on arm64"
    moving = replace(one, settled=False)
    row = plan_one(moving, 0.8, graviton=3, verdicts=unknown, live="4 of 10 on arm64")
    assert (row.action, row.entry, row.wanted) == ("hold", "4 of 10 on arm64", 4)


def test_what_archshift_cannot_place_now_keeps_its_entry() -> None:
    """A taint came to the Graviton nodes: the next pods still go where the last ones went."""
    taint = Taint(key="team", value="ml", effect="NoSchedule")
    nodes = (big_node("x86", "amd64"), big_node("arm", "arm64", taints=(taint,)))
    one = deployment(replicas=10)
    row = plan_one(one, graviton=4, nodes=nodes, live="4 of 10 on arm64")
    assert (row.action, row.entry, row.wanted) == ("keep", "4 of 10 on arm64", None)
    assert row.reason.endswith("; its present placement stays")
    assert plan_one(one, graviton=4, nodes=nodes).entry == LEFT_ALONE
    assert plan_one(one, graviton=4, nodes=nodes, live=LEFT_ALONE).entry == LEFT_ALONE


def test_an_entry_goes_when_the_application_decides_itself() -> None:
    """The policy leaves such pods alone, so a kept entry would say what is not true."""
    one = deployment(template=Template(spec={"node-selector": {ARCH: "amd64"}}))
    assert plan_one(one, live="all on arm64").entry == LEFT_ALONE


# --- other controllers --------------------------------------------------------------------------


def custom(name: str = "kafka", replicas: int = 3, **more: Any) -> Workload:
    """A workload whose pods no label tells from others."""
    return deployment(name, replicas, kind="StrimziPodSet", one_side=True, **more)


@given(st.floats(0, 1), st.integers(1, 30), st.sampled_from(["kafka", "zoo", "ledger", "a", "b"]))
def test_a_controller_without_a_revision_label_is_on_one_side(ratio: float, pods: int, name: str) -> None:
    """Never a share: the scheduler could not count its pods."""
    row = plan_one(custom(name, pods), ratio)
    assert row.movable
    assert row.entry in ("all on amd64", "all on arm64")
    assert row.wanted == (pods if row.entry == "all on arm64" else 0)


def test_one_side_is_kept_where_not_all_pods_may_move() -> None:
    """A cap, or too few nodes for its own anti-affinity."""
    row = plan_one(custom(), 1.0, rules={custom().key: Rules(max_ratio=0.5)})
    assert (row.action, row.entry) == ("hold", "all on amd64")
    assert row.reason == "held on x86: capped at 0.5 of its pods"
    apart = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "kafka"}}}
    one = custom(template=Template(labels={"app": "kafka"}, anti_affinity=(apart,)))
    nodes = tuple(
        plan_node(name, arch, labels={"kubernetes.io/hostname": name})
        for name, arch in (("x1", "amd64"), ("x2", "amd64"), ("x3", "amd64"), ("arm", "arm64"))
    )
    row = plan_one(one, 1.0, nodes=nodes)
    assert (row.action, row.entry) == ("hold", "all on amd64")
    assert row.reason.startswith("held on x86: its own anti-affinity over nodes lets at most 1 of its 3 pods")


@given(st.floats(0, 1), st.sampled_from(["a", "b", "c", "d"]))
def test_pods_that_end_by_themselves_never_move(ratio: float, name: str) -> None:
    """The next pods of a Job start on the side of its entry; the running ones go on."""
    job = deployment(name, 0, kind="Job", one_side=True)
    found = replace(inventory(job), pods={(job.key, "amd64"): 7})
    (row,) = plan_of(found, ratio).workloads
    side = "arm64" if starts_on_graviton(ratio, job.key) else "amd64"
    assert (row.action, row.wanted, row.moves, row.entry) == ("pin", None, 0, f"all on {side}")


def test_a_rule_for_a_controller_without_pods_is_no_error() -> None:
    """Only its pods show it, and it may be scaled to 0 today."""
    plan = plan_of(Inventory(nodes=BOTH_SIDES), rules={"shop/Rollout/web": Rules(hold=True)})
    assert plan.workloads == ()


# --- DaemonSets, and patches of before ----------------------------------------------------------


def test_a_daemonset_keeps_its_patch() -> None:
    """DaemonSets' pods are not placed at admission, so a pin is a patch with both placements."""
    agent = deployment("agent", 0, kind="DaemonSet")
    found, verdicts = inventory(agent), verdict(agent, AMD64_ONLY)
    (pinned,) = plan_of(found, verdicts=verdicts, pin_daemonsets=True).workloads
    assert (pinned.entry, pinned.action) == ("", "hold")
    assert pinned.patch is not None
    plan = plan_of(found, verdicts=verdicts)
    assert [blocker.workload for blocker in plan.blockers] == [agent.key]
    assert plan.workloads[0].patch is None


def patched_live(replicas: int = 10, ratio: float = 0.5, graviton: int = 0) -> Live:
    """A Deployment with a patch of this stack."""
    live = Live("Deployment", workload(replicas=replicas))
    one = read_workload("Deployment", live.json(), MANAGER)
    found = inventory(one, graviton={one.name: graviton})
    (row,) = make_plan(arm_ratio=ratio, inventory=found).workloads
    assert row.patch is not None
    live.apply(row.patch, MANAGER)
    return live


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0])
def test_after_a_switch_the_patch_goes_and_the_share_stays(ratio: float) -> None:
    """archshift's own fields are not the application's; the workload rolls out once, and the plan says so."""
    live = patched_live(ratio=ratio)
    one = read_workload("Deployment", live.json(), MANAGER)
    there = round(10 * ratio)
    row = plan_one(one, ratio, graviton=there)
    assert (row.wanted, row.moves, row.patch, row.restarts) == (there, 0, None, True)
    assert row.entry == str(Entry(there, 10))
    assert (row.reason, row.restarted_pods) == ("its patch goes, so it rolls out once", 10)
    assert row.patch_goes


def test_a_patch_stays_while_its_pods_would_find_no_node() -> None:
    """Without it the workload would roll out, and the new Graviton pods would be pending."""
    one = read_workload("Deployment", patched_live().json(), MANAGER)
    row = plan_one(one, graviton=5, nodes=closed(ARM64))
    assert (row.waits, row.restarts, row.patch_goes, row.entry) == (True, False, False, "5 of 10 on arm64")
    assert row.patch is not None
    assert row.patch["spec"]["template"] == one.template.applied
    assert row.reason == "waits: no Graviton node takes pods now"


def test_a_patch_of_a_workload_without_pods_restarts_nothing() -> None:
    """It goes all the same."""
    one = read_workload("Deployment", patched_live(replicas=0).json(), MANAGER)
    row = plan_one(one)
    assert (row.action, row.restarts, row.patch, row.patch_goes) == ("pin", False, None, True)


# --- both placements ----------------------------------------------------------------------------


KINDS = st.sampled_from(["Deployment", "StatefulSet"])


@examples
@given(
    st.lists(
        st.tuples(KINDS, st.integers(0, 40), st.integers(0, 3), st.sampled_from([1.0, 0.5]), st.booleans()),
        min_size=1,
        max_size=12,
    ),
    st.floats(0, 1),
    st.data(),
)
def test_both_placements_want_the_same(
    described: list[tuple[str, int, int, float, bool]], ratio: float, data: st.DataObject
) -> None:
    """Counts, sides and reasons of movable workloads, and each entry says the row's numbers."""
    made: list[Workload] = []
    rules: dict[str, Rules] = {}
    verdicts: dict[str, WorkloadVerdict] = {}
    there: dict[str, int] = {}
    for index, (kind, replicas, away, cap, proven) in enumerate(described):
        one = deployment(f"app-{index}", replicas, kind=kind, most_away=away)
        made.append(one)
        rules[one.key] = Rules(max_ratio=cap)
        verdicts |= verdict(one, MULTI_ARCH if proven else AMD64_ONLY)
        there[one.name] = data.draw(st.integers(0, replicas))
    found = inventory(*made, graviton=there)
    at_admission = plan_of(found, ratio, rules=rules, verdicts=verdicts)
    patches = make_plan(arm_ratio=ratio, inventory=found, rules=rules, verdicts=verdicts)
    for ours, theirs in zip(at_admission.workloads, patches.workloads, strict=True):
        assert (ours.key, ours.wanted, ours.movable, ours.action) == (
            theirs.key,
            theirs.wanted,
            theirs.movable,
            theirs.action,
        )
        entry = Entry.parse(ours.entry)
        assert entry is not None
        assert (ours.patch, theirs.entry) == (None, "")
        if ours.wanted is not None:
            assert entry.graviton * ours.replicas == ours.wanted * entry.replicas
        restarted = ours.replicas if ours.restarts else ours.moves
        assert ours.restarted_pods == restarted <= max(ours.moves, theirs.restarted_pods)
    assert at_admission.balances == patches.balances
    assert at_admission.direction == patches.direction
    assert at_admission.restarted_pods <= max(patches.restarted_pods, at_admission.moves)


def test_the_advice_counts_both_placements() -> None:
    """A person sees what the other value would save in this very step."""
    found = inventory(*(deployment(f"web-{number}", 20) for number in range(10)))
    patches, other = make_plan(arm_ratio=0.2, inventory=found), plan_of(found, 0.2)
    assert reasons.fewer_restarts(patches, other) == (
        "this step restarts 200 pods to move 40; with placement: admission it would restart 40"
    )
    owned = inventory(deployment("web", 20), deployment("pay", 20, controlled_by="Payments main"))
    # A larger fleet moves more pods in the same step.
    assert reasons.fewer_restarts(make_plan(arm_ratio=0.5, inventory=owned), plan_of(owned, 0.5)) == (
        "this step restarts 20 pods to move 10; with placement: admission it would restart 20 to move 20"
    )
    one = inventory(deployment("web", 3, most_away=0))
    assert reasons.fewer_restarts(make_plan(arm_ratio=0.5, inventory=one), plan_of(one, 0.5)) == ""
    none = make_plan(arm_ratio=0.0, inventory=found)
    assert reasons.fewer_restarts(none, plan_of(found, 0.0)) == ""
