"""The report: what it counts, in which order, and that all of it is the plan's and the guard's."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.common.resources import Resources
from archshift.cost import wording
from archshift.cost.rules import Commitment
from archshift.images.verdict import AMD64_ONLY, UNKNOWN
from archshift.plan import guard
from archshift.plan.arm64_tests import Arm64Test, Arm64TestState, Proof
from archshift.report.charts import progress_chart, savings_chart
from archshift.report.history import Judgement, RatioChange, make_history
from archshift.report.html_page import page
from archshift.report.report import make_report
from archshift.report.savings import Savings
from tests.build import (
    AT,
    GIB,
    RAMP,
    evidence_at,
    evidence_of,
    fleet,
    history_of,
    mixed_nodes,
    mixed_settings,
    savings_of,
    sized_deployment,
    stack_file,
    survey_of,
)
from tests.properties import examples

BASE, APP, SIDE = "registry.example/base:1", "registry.example/app:1", "registry.example/side:1"


def test_blockers_are_ranked_by_the_vcpu_that_they_hold_on_x86() -> None:
    """An image of two workloads holds both, one of two images sets nothing free alone, and the rest of the
    cluster counts; every container to repair is named."""
    cart, shop, pay = (
        sized_deployment("cart", 4, millicpu=250, owner="web"),
        sized_deployment("shop", 2, millicpu=1000),
        sized_deployment("pay", 1, millicpu=100),
    )
    agent = sized_deployment("agent", 0, kind="DaemonSet", namespace="kube-system", millicpu=400)
    found = survey_of(
        mixed_settings(),
        [(cart, 0), (shop, 0), (pay, 0)],
        {
            cart.key: evidence_of(cart.key, ("app", BASE, AMD64_ONLY), ("again", BASE, AMD64_ONLY)),
            shop.key: evidence_of(shop.key, ("app", BASE, AMD64_ONLY), ("side", SIDE, UNKNOWN)),
            pay.key: evidence_of(pay.key, ("side", SIDE, UNKNOWN)),
            agent.key: evidence_of(agent.key, ("agent", APP, AMD64_ONLY)),
        },
        unsteered=[(agent, 6)],
    )
    report = make_report(mixed_settings(), found, at=AT)
    assert [(one.image, one.vcpu, one.vcpu_alone, one.pods) for one in report.blockers] == [
        (BASE, 3.0, 1.0, 6),
        (APP, 2.4, 2.4, 6),
        (SIDE, 2.1, 0.1, 3),
    ]
    base = report.blockers[0]
    assert (base.verdict, base.reason) == ("amd64-only", "it has linux/amd64; 2.0 has arm64")
    assert [(use.workload, use.container, use.owner) for use in base.uses] == [
        (cart.key, "app", "web"),
        (cart.key, "again", "web"),
        (shop.key, "app", "shop"),
    ]
    assert report.vcpu_blocked == 3.0 + 0.1 + 2.4, "a workload with two such images counts once"


def test_an_image_whose_registry_is_away_is_not_one_to_repair() -> None:
    """It may be fine: nobody could look. The page counts both apart."""
    cart = sized_deployment("cart", 4, millicpu=250)
    verdict = evidence_of(cart.key, ("app", APP, AMD64_ONLY), ("side", SIDE, UNKNOWN))
    app, side = verdict.blocking
    verdict = replace(verdict, blocking=(app, replace(side, away="registry.example")))
    found = survey_of(mixed_settings(), [(cart, 0)], {cart.key: verdict})
    report = make_report(mixed_settings(), found, at=AT)
    assert [blocker.image for blocker in report.to_repair] == [APP]
    assert {host: [one.image for one in images] for host, images in report.away.items()} == {
        "registry.example": [SIDE]
    }
    text = page(report)
    assert "1 image to repair, 1 not checked, because a registry does not answer" in text
    assert "The registry registry.example does not answer, so 1 image could not be checked." in text


def test_the_state_of_a_workload_says_what_to_do_about_it() -> None:
    """The unproven image comes first, also where more is in the way; what the configuration holds is held."""
    plain = ["free", "image", "both", "held", "capped", "paused", "failed"]
    all_of_them = {name: sized_deployment(name) for name in plain}
    all_of_them["paused"] = sized_deployment("paused", obstacle="its rollouts are paused")
    all_of_them["both"] = sized_deployment("both", obstacle="its rollouts are paused")
    all_of_them["agent"] = sized_deployment("agent", 0, kind="DaemonSet")
    keys = {name: one.key for name, one in all_of_them.items()}
    overrides = {keys["held"]: {"hold": True, "reason": "JIT"}, keys["capped"]: {"max_ratio": 0.5}}
    stack = mixed_settings(workloads=json.dumps({"overrides": overrides}))
    proof = Proof(
        workload=keys["failed"], tested="t", passed=False, machine="aarch64", message="SIGILL", job="j"
    )
    tests = Arm64TestState(proofs={keys["failed"]: proof}, missing={keys["free"]: Arm64Test()})
    verdicts = {
        keys[name]: evidence_of(keys[name], ("app", APP, AMD64_ONLY)) for name in ("image", "both", "held")
    }
    found = survey_of(stack, [(one, 0) for one in all_of_them.values()], verdicts, tests=tests)
    report = make_report(stack, found, at=AT)
    assert {one.workload.split("/")[2]: (one.state, one.proven, one.test) for one in report.workloads} == {
        "agent": ("ready", True, ""),
        "both": ("blocked", False, ""),
        "capped": ("capped", True, ""),
        "failed": ("held", True, "failed"),
        "free": ("ready", True, "not run"),
        "held": ("held", False, ""),
        "image": ("blocked", False, ""),
        "paused": ("left alone", True, ""),
    }
    assert [(test.workload, test.outcome) for test in report.tests] == [
        (keys["failed"], "failed"),
        (keys["free"], "not run"),
    ]
    assert "SIGILL" in report.tests[0].message


def test_where_images_are_not_checked_that_is_said() -> None:
    """No evidence is no readiness: whoever reads 'ready' has to know."""
    found = replace(survey_of(mixed_settings(), [(sized_deployment("cart"), 1)]), evidence=None, needs=None)
    report = make_report(mixed_settings(), found, at=AT, notes=["the weather"])
    assert report.notes == (
        "the weather",
        "whether images run on arm64: archshift:images.check is false",
    )
    assert not report.guard.guarded


sizes = st.lists(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.sampled_from(["web", "pay", ""]), st.booleans()),
    max_size=12,
)


@examples
@given(rows=sizes, ratio=st.sampled_from(["0.0", "0.2", "0.5", "1.0"]))
def test_the_owners_add_up_to_the_fleet(rows: list[tuple[int, int, str, bool]], ratio: str) -> None:
    """Whatever the fleet: pods, wanted and observed of all owners are the plan's, no workload is lost."""
    stack = mixed_settings(arm_ratio=ratio)
    workloads = [
        (sized_deployment(f"w{index}", replicas, owner=owner), min(there, replicas))
        for index, (replicas, there, owner, _) in enumerate(rows)
    ]
    blocked = [one for (one, _), row in zip(workloads, rows, strict=True) if row[3]]
    verdicts = {one.key: evidence_of(one.key, ("app", APP, AMD64_ONLY)) for one in blocked}
    found = survey_of(stack, workloads, verdicts)
    report = make_report(stack, found, at=AT)
    for name in ("pods", "wanted", "graviton"):
        assert sum(getattr(one, name) for one in report.owners) == getattr(found.plan, name)
        assert getattr(report.fleet, name) == getattr(found.plan, name)
    assert sum(one.workloads for one in report.owners) == len(rows)
    assert all(sum(one.states.values()) == one.workloads for one in report.owners)
    assert sum(one.vcpu_blocked for one in report.owners) == pytest.approx(report.vcpu_blocked)
    assert [one.vcpu_x86 for one in report.owners] == sorted(
        (one.vcpu_x86 for one in report.owners), reverse=True
    )


def test_groups_show_what_their_pods_ask_for() -> None:
    """Nodes of another's group count for that; a group that has no node yet is there all the same."""
    x86, *_ = mixed_nodes(1)
    others = replace(
        x86, name="o", labels={"kubernetes.io/arch": "amd64", "eks.amazonaws.com/nodegroup": "old"}
    )
    bare = replace(x86, name="bare", labels={"kubernetes.io/arch": "amd64"}, schedulable=False)
    found = survey_of(mixed_settings(), [])
    inventory = replace(
        found.inventory,
        nodes=(x86, others, bare),
        loads={
            x86.name: Resources(1960, 3 * GIB, 3),
            "o": Resources(100, GIB, 1),
            "gone": Resources(9000, 9, 9),
        },
    )
    groups = make_report(mixed_settings(), replace(found, inventory=inventory), at=AT).groups
    assert [(one.group, one.managed, one.architecture, one.nodes, one.schedulable) for one in groups] == [
        ("x86", True, "amd64", 1, 1),
        ("graviton", True, "arm64", 0, 0),
        ("", False, "amd64", 1, 0),
        ("old", False, "amd64", 1, 1),
    ]
    assert (groups[0].vcpu_asked, groups[0].vcpu, groups[0].gib_asked, groups[0].gib) == (
        1.96,
        3.92,
        3.0,
        15.0,
    )
    assert (groups[0].pods, groups[0].instance_types, groups[3].vcpu_asked) == (3, ("m6i.xlarge",), 0.1)


def test_the_guard_is_asked_and_not_guessed() -> None:
    """The nodes that must stay and the needs are the guard's own, the largest first; break glass is said."""
    small, large = sized_deployment("small", 1, millicpu=100), sized_deployment("large", 5, millicpu=1500)
    glass = {"until": (AT + timedelta(hours=2)).isoformat(), "reason": "fire", "ticket": "OPS-7"}
    stack = mixed_settings(break_glass=json.dumps(glass))
    verdicts = {one.key: evidence_of(one.key, ("app", APP, AMD64_ONLY)) for one in (small, large)}
    found = survey_of(stack, [(small, 0), (large, 0)], verdicts)
    status = make_report(stack, found, at=AT).guard
    assert found.needs
    assert (status.nodes_that_must_stay, status.nodes) == (
        len(guard.nodes_that_must_stay(found.needs, found.inventory.nodes)),
        4,
    )
    assert status.nodes_that_must_stay == 2
    assert [(need.workload, need.vcpu) for need in status.needs] == [(large.key, 7.5), (small.key, 0.1)]
    assert "BREAK GLASS until 2026-03-30T11:30+00:00" in status.exceptions[0]


def test_too_few_x86_nodes_are_said() -> None:
    """What needs x86 and has no room is not hidden behind a number of nodes."""
    large = sized_deployment("large", 50, millicpu=1500)
    found = survey_of(
        mixed_settings(), [(large, 0)], {large.key: evidence_of(large.key, ("app", APP, AMD64_ONLY))}
    )
    assert "x86 lacks 59.3 vCPU" in make_report(mixed_settings(), found, at=AT).guard.shortfall


def test_the_json_is_plain() -> None:
    """Scripts read it: times with their zone, dates, numbers, and the same keys every time."""
    value = json.loads(json.dumps(fleet(30).to_json(), allow_nan=False))
    assert list(value) == [
        "stack",
        "at",
        "arm_ratio",
        "fleet",
        "owners",
        "owner_labels",
        "blockers",
        "vcpu_blocked",
        "workloads",
        "groups",
        "guard",
        "tests",
        "history",
        "savings",
        "bends",
        "shares",
        "troubles",
        "notes",
    ]
    assert value["at"] == "2026-03-30T09:30:00+00:00"
    assert value["history"]["weeks"][0] == {
        "monday": "2026-03-09",
        "arm_ratio": 0.0,
        "verdicts": ["step-back"],
    }
    assert len(value["workloads"]) == 30
    assert {one["state"] for one in value["workloads"]} == {
        "ready",
        "capped",
        "held",
        "left alone",
        "blocked",
    }


# --- history ---------------------------------------------------------------------------------


def test_weeks_follow_the_repository() -> None:
    """A week's ratio is the one at its end, a step back included; what the gate said is in its week."""
    history = history_of(mixed_settings(ramp=RAMP))
    assert [(week.monday.isoformat(), week.arm_ratio, week.verdicts) for week in history.weeks] == [
        ("2026-03-09", 0.0, ("step-back",)),
        ("2026-03-16", 0.2, ()),
        ("2026-03-23", 0.5, ("pass", "hold")),
        ("2026-03-30", 0.5, ()),
    ]
    assert [(move.arm_ratio, move.at and move.at.date().isoformat()) for move in history.coming] == [
        (0.8, "2026-03-30"),
        (1.0, "2026-04-06"),
    ]
    assert [one.verdict for one in history.judgements] == ["step-back", "pass", "hold"]


def test_what_proves_nothing_is_passed_over() -> None:
    """Evidence of another stack or from the future, broken files, and ratios that are none."""
    history = make_history(
        stack="org/archshift/prod",
        arm_ratio=0.5,
        now=AT,
        files=[
            (AT - timedelta(days=9), stack_file("0.2")),
            (AT - timedelta(days=8), b"\xff\xfe"),
            (AT - timedelta(days=7), stack_file("nan")),
            (AT - timedelta(days=6), stack_file("7")),
            (AT - timedelta(days=5), b"config: ["),
            (AT - timedelta(days=4), b"config: {}"),
            # The clock of who committed this was behind.
            (AT - timedelta(days=12), stack_file("0.5")),
        ],
        evidence=[
            evidence_at(3, 0.2, "pass", stack="staging"),
            evidence_at(-3, 0.2, "pass"),
            b"[]",
            evidence_at(2, 0.2, "pass"),
            evidence_at(2, 0.2, "pass"),
        ],
    )
    assert history.moves == (
        RatioChange(at=AT - timedelta(days=9), arm_ratio=0.2),
        RatioChange(at=AT - timedelta(days=9), arm_ratio=0.5),
    )
    assert [one.at for one in history.judgements] == [AT - timedelta(days=2)]
    assert history.coming == ()


def test_a_ratio_that_is_not_committed_counts_from_when_it_was_set() -> None:
    """`ramp apply` writes the time into the file; without a ramp, now is all that is known."""
    ramp = mixed_settings(ramp=RAMP).ramp
    files = [(AT - timedelta(days=9), stack_file("0.2"))]
    set_ = make_history(stack="prod", arm_ratio=0.5, now=AT, files=files, ramp=ramp)
    assert set_.moves[-1] == RatioChange(at=datetime(2026, 3, 25, 9, 30, tzinfo=UTC), arm_ratio=0.5)
    assert make_history(stack="prod", arm_ratio=0.5, now=AT).moves == (RatioChange(at=AT, arm_ratio=0.5),)


times = st.datetimes(datetime(2000, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


@examples
@given(
    moves=st.lists(st.tuples(times, st.floats(0, 1)), max_size=8),
    coming=st.lists(st.tuples(st.none() | times, st.floats(0, 1)), max_size=4),
    said=st.lists(times, max_size=4),
    observed=st.none() | st.floats(0, 1),
)
def test_the_chart_stays_in_its_frame(
    moves: list[tuple[datetime, float]],
    coming: list[tuple[datetime | None, float]],
    said: list[datetime],
    observed: float | None,
) -> None:
    """Whatever clocks said: no line leaves the picture or runs back in time, no two dates overlap."""
    chart = progress_chart(
        [RatioChange(at=at, arm_ratio=ratio) for at, ratio in sorted(moves, key=lambda move: move[0])],
        [RatioChange(at=at, arm_ratio=ratio) for at, ratio in sorted(coming, key=lambda move: move[0] or AT)],
        [Judgement(at=at, arm_ratio=0.5, verdict="pass") for at in said],
        observed,
        AT,
    )
    for line in filter(None, (chart.wanted, chart.coming)):
        points = [tuple(map(float, point.split(","))) for point in line.split(" ")]
        assert all(chart.left <= x <= chart.right and chart.top <= y <= chart.bottom for x, y in points)
        assert [x for x, _ in points] == sorted(x for x, _ in points)
    marks = [*chart.verdicts, *([chart.observed] if chart.observed else [])]
    assert all(chart.left <= mark.x <= chart.right and chart.top <= mark.y <= chart.bottom for mark in marks)
    dates = [mark.x for mark in chart.dates]
    assert all(right - left >= 80 for left, right in pairwise(dates))


# --- savings ---------------------------------------------------------------------------------


def test_savings_are_ranges_in_the_words_of_the_costs() -> None:
    """So far, to come and in all, with what they rest on and how that compares with what is claimed."""
    stack = mixed_settings()
    big = [(sized_deployment(f"w{index}", 8, millicpu=400), 4) for index in range(4)]
    savings = savings_of(stack, survey_of(stack, big))
    assert [(one.title, one.before, one.after) for one in savings.changes] == [
        ("so far", 0.0, 0.5),
        ("to come", 0.5, 1.0),
        ("in all", 0.0, 1.0),
    ]
    whole = savings.changes[-1]
    assert whole.least is not None
    assert whole.most is not None
    assert 0 < whole.least <= whole.most
    assert f"{whole.most:,.0f} USD a month" in whole.text
    assert savings.remarks[0].startswith("People often claim savings of 20 to 40 %; this fleet saves ")
    assert any("the default is not a measurement" in one for one in savings.assumptions)
    chart = savings_chart(savings)
    assert chart
    assert [bar.title for bar in chart.bars] == [
        "often claimed",
        "this fleet, so far",
        "this fleet, to come",
        "this fleet, in all",
    ]
    assert chart.bars[0].text == wording.percents(wording.CLAIMED)


def test_a_commitment_on_x86_is_said_to_eat_the_saving() -> None:
    """The page says it where the saving is read."""
    stack = mixed_settings(arm_ratio="0.0")
    commitment = Commitment(
        kind="ec2-instance-savings-plan", usd_per_hour=Decimal(3), family="m6i", discount=Decimal("0.3")
    )
    found = survey_of(stack, [(sized_deployment("w", 8), 0)])
    savings = savings_of(stack, found, commitments=(commitment,))
    assert [one.title for one in savings.changes] == ["in all"]
    assert any("of a commitment are unused" in one for one in savings.remarks)
    assert any(one.startswith("Without commitments, 1 would cost ") for one in savings.remarks)


def test_what_is_not_known_is_no_bar() -> None:
    """Unknown is not nothing: without a range there is no picture of one."""
    assert savings_chart(Savings(problem="no region")) is None
