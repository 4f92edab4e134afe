"""Which workloads are brought right between two updates, and which only an update can bring right."""

from dataclasses import replace

import pytest

from archshift.cluster.entries import Entry, Scaling
from archshift.cluster.model import Autoscaler, Workload
from archshift.cluster.pod_fields import Inexact, Template
from archshift.common.architectures import ARM64
from archshift.plan import reasons
from archshift.plan.model import Plan, PolicyAway
from archshift.plan.placement import place
from archshift.plan.planner import make_plan
from archshift.plan.rebalancing import rebalancing
from tests.build import deployment, inventory, planned

CART = "shop/Deployment/cart"
BENT = planned("cart", 10, 5, graviton=3, applied=True)


def left(row: object = BENT, workload: Workload | None = None, *, restart: bool = False) -> dict[str, str]:
    """Why the only workload of a plan is left."""
    one = workload or deployment(replicas=10)
    plan = Plan(arm_ratio=0.5, workloads=(row,))  # type: ignore[arg-type]
    return rebalancing(plan, inventory(one), {}, restart=restart)[1]


def test_a_workload_that_is_placed_as_planned_moves() -> None:
    """By the entry that places its pods now, whatever number of pods it was written for."""
    one = deployment(replicas=10)
    live = {CART: "4 of 8 on arm64"}
    rows, why = rebalancing(Plan(arm_ratio=0.5, workloads=(BENT,)), inventory(one), live)
    assert ([row.entry for row in rows], why) == (["4 of 8 on arm64"], {})


def test_an_exact_workload_is_no_business_of_a_rebalance() -> None:
    """Also where its placement differs."""
    row = replace(BENT, graviton=5, applied=False)
    assert rebalancing(Plan(arm_ratio=0.5, workloads=(row,)), inventory(deployment()), {}) == ([], {})


@pytest.mark.parametrize(
    ("row", "workload", "why"),
    [
        (replace(BENT, applied=False), deployment(replicas=10), reasons.RUN_PULUMI_UP),
        (BENT, deployment(replicas=10, settled=False), reasons.ROLLS_OUT),
        (BENT, deployment(replicas=10, most_away=0), reasons.NONE_MAY_BE_AWAY),
    ],
)
def test_what_stays_is_named_with_its_reason(row: object, workload: Workload, why: str) -> None:
    assert left(row, workload) == {CART: why}


def test_without_a_policy_no_pod_is_evicted() -> None:
    """Its successor would come up on any side. Patches need no policy."""
    away = {"shop": PolicyAway("somebody changed spec.matchConditions of its policy")}
    for entry, why in (
        (
            "4 of 8 on arm64",
            {
                CART: "archshift's policy is not in effect as made in shop: somebody changed "
                "spec.matchConditions of its policy; the next pulumi up repairs it"
            },
        ),
        ("", {}),
    ):
        row = replace(BENT, entry=entry)
        plan = Plan(arm_ratio=0.5, workloads=(row,), without_policy=away)
        assert rebalancing(plan, inventory(deployment(replicas=10)), {CART: entry})[1] == why


def test_a_pod_that_is_missing_is_no_rollout() -> None:
    """After the loss of a node."""
    assert left(BENT, deployment(replicas=10, settled=False, updated=True)) == {}


def test_limits_that_let_no_pod_be_away_need_a_restart() -> None:
    one = deployment(replicas=10, most_away=0)
    rows, why = rebalancing(Plan(arm_ratio=0.5, workloads=(BENT,)), inventory(one), {}, restart=True)
    assert ([row.restarts for row in rows], why) == ([True], {})


@pytest.mark.parametrize(
    ("note", "graviton", "why"),
    [
        (Inexact("0a1b2c3d.1", 4, 1), 4, {CART: reasons.CAME_BACK}),
        # Another rollout, other pods, more nodes, or too far off.
        (Inexact("0a1b2c3d.0", 4, 1), 4, {}),
        (Inexact("0a1b2c3d.1", 6, 1), 4, {}),
        (Inexact("0a1b2c3d.1", 4, 0), 4, {}),
        (Inexact("0a1b2c3d.1", 3, 1), 3, {}),
        (None, 4, {}),
    ],
)
def test_what_a_soft_rule_sent_back_is_not_evicted_again(
    note: Inexact | None, graviton: int, why: dict[str, str]
) -> None:
    """Only with patches: an entry is exact while pods move."""
    one = patched(5, 10)
    one = replace(one, template=replace(one.template, inexact=note))
    row = replace(BENT, graviton=graviton, autoscaled=True)
    assert left(row, one) == why
    assert left(replace(row, autoscaled=False), one) == {}
    assert left(replace(row, entry="5 of 10 on arm64"), one) == {}


# --- whether the placement is what the plan wants ------------------------------------------------


def patched(wanted: int, replicas: int, revision: str = "0a1b2c3d.1") -> Workload:
    """A Deployment with archshift's patch for this share."""
    template = Template(selector={"matchLabels": {"app": "cart"}})
    fields = place(template, wanted, replicas)
    applied = replace(template, spec=fields, owned=frozenset(fields), applied=fields, revision=revision)
    return deployment(replicas=replicas, template=applied)


@pytest.mark.parametrize(
    ("one", "ratio", "applied"),
    [
        (patched(5, 10), 0.5, True),
        (patched(5, 10), 0.8, False),
        (deployment(replicas=10), 0.5, False),
    ],
    ids=["as planned", "another ratio", "never patched"],
)
def test_a_patch_is_applied_if_the_live_template_has_its_fields(
    one: Workload, ratio: float, *, applied: bool
) -> None:
    """Wherever the pods run."""
    found = inventory(one, graviton={"cart": 3})
    (row,) = make_plan(arm_ratio=ratio, inventory=found).workloads
    assert row.applied == applied


SCALED = Autoscaler(by="HorizontalPodAutoscaler cart", least=1, most=30)


@pytest.mark.parametrize("live_for", [6, 10, 20])
def test_the_entry_of_an_autoscaled_workload_is_right_for_every_number_of_pods(live_for: int) -> None:
    """It was written for another number than there is now."""
    one = deployment(replicas=10, autoscaled=SCALED)
    found = inventory(one, graviton={"cart": 3})
    plan = make_plan(arm_ratio=0.5, inventory=found, placed_by="admission")
    entry = Entry.parse(plan.workloads[0].entry)
    assert entry is not None
    live = str(replace(entry, graviton=live_for // 2, replicas=live_for))
    again = make_plan(arm_ratio=0.5, inventory=found, placed_by="admission", live_entries={CART: live})
    assert again.workloads[0].applied
    other = make_plan(arm_ratio=0.8, inventory=found, placed_by="admission", live_entries={CART: live})
    assert not other.workloads[0].applied


@pytest.mark.parametrize(
    ("live", "applied"),
    [
        ("5 of 10 on arm64", True),
        ("4 of 8 on arm64", False),
        ("all on amd64", False),
        (str(Entry(5, 10, scaling=Scaling(within=9, spread=1, side=ARM64, weight=0))), False),
        ("left alone", False),
    ],
)
def test_an_exact_entry_is_right_for_one_number_of_pods(live: str, *, applied: bool) -> None:
    """Its limit is a difference."""
    found = inventory(deployment(replicas=10), graviton={"cart": 3})
    plan = make_plan(arm_ratio=0.5, inventory=found, placed_by="admission", live_entries={CART: live})
    assert plan.workloads[0].applied == applied
