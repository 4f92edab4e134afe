"""What stops x86 from going: the preview's check, protection, and the hook's last question."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pulumi
import pytest

import components.guard
from archshift.cluster.model import Inventory
from archshift.cluster.pod_fields import Template
from archshift.common.errors import ArchshiftError
from archshift.nodes.groups import Node, Taint
from archshift.plan.exceptions import BreakGlass, PolicyException
from archshift.plan.guard import X86Need
from archshift.plan.model import Plan
from archshift.plan.plan_json import PLAN_FILE
from archshift.settings import stack as stack_settings
from archshift.survey import Survey
from components.exceptions import Exceptions, ExceptionsArgs
from components.guard import HOOK_NAME, guard_hook, protected
from components.node_groups import NodeGroups, NodeGroupsArgs
from components.plan_file import add_refusal, write_plan_file
from components.preflight import guard_x86
from tests.build import pod, refusal, x86_need
from tests.components.recorder import Registration, record
from tests.fakes import FakeCluster

GIB = 1024**3
NOW = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)

Told = Callable[[Callable[[], object]], list[tuple[str, str]]]


def group(size: int, kind: str = "m7i.xlarge", **more: Any) -> dict[str, Any]:
    """A node group; an m7i.xlarge carries three pods that ask for 1 vCPU."""
    return {"instance_type": kind, "size": size, **more}


def stack(
    *, break_glass: BreakGlass | None = None, policy_exception: PolicyException | None = None, **groups: Any
) -> stack_settings.Settings:
    """The settings of a stack in the lab with these node groups and a Graviton node."""
    config = {
        "archshift:arm_ratio": "0",
        "archshift:platform": "lab",
        "archshift:node_groups": json.dumps({**groups, "arm": group(1, "m7g.xlarge")}),
    }
    return replace(
        stack_settings.load("dev", config), break_glass=break_glass, policy_exception=policy_exception
    )


def nodes(found: stack_settings.Settings) -> list[Node]:
    """The nodes of a stack, as an update of these settings leaves them."""
    return [node for one in found.node_groups.values() for node in one.nodes()]


def cart(pods: int = 1, **more: Any) -> X86Need:
    """A workload that needs x86, with a number of pods of 1 vCPU."""
    return x86_need("cart", pods, template=Template(spec={"node-selector": more} if more else {}))


def seen(live: Sequence[Node], *needs: X86Need, guarded: bool = True) -> Survey:
    """A look at a cluster."""
    inventory = Inventory(nodes=tuple(live))
    return Survey(
        inventory=inventory, evidence=None, plan=Plan(arm_ratio=0.0), needs=needs if guarded else None
    )


def own(name: str, **more: Any) -> Node:
    """An x86 node that is in nobody's group."""
    labels = {"kubernetes.io/arch": "amd64"}
    return Node(name=name, labels=labels, **{"millicpu": 4000, "memory": 16 * GIB, "pods": 58, **more})


WAY_OUT = (
    "give these workloads images for arm64 and what else they need on Graviton nodes, or remove them "
    "(archshift report lists them)"
)
CART = "1 workload needs x86: shop/Deployment/cart (why)"
NOWHERE = f"{CART}: no x86 node is left where they can run"
TWO_SHORT = (
    f"{CART}: x86 lacks 1.1 vCPU: 5 pods ask for 5.0 vCPU and 5.0 GiB of the 3.9 vCPU and 15.0 GiB of 1 node"
)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> Told:
    """Run something as a program does; what the engine was told, in order."""

    def run(program: Callable[[], object]) -> list[tuple[str, str]]:
        caplog.clear()
        with caplog.at_level(logging.INFO):
            record(program)
        return [
            (entry.levelname, entry.getMessage())
            for entry in caplog.records
            # What an event loop of another test says when it is collected is not the engine's.
            if entry.name != "asyncio"
            if "x86" in entry.getMessage() or entry.levelno > logging.INFO
        ]

    return run


# --- the hook --------------------------------------------------------------------------------


class Cluster:
    """Stands in for ``survey``: answers with what is seen now, and remembers how it was asked."""

    def __init__(self) -> None:
        self.now: Survey | ArchshiftError = seen(())
        self.asked: list[dict[str, Any]] = []
        self.api = FakeCluster()

    def __call__(self, _settings: object, **how: Any) -> Survey:
        self.asked.append(how)
        if isinstance(self.now, ArchshiftError):
            raise self.now
        return self.now


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """A cluster that the hook asks."""
    found = Cluster()
    monkeypatch.setattr(components.guard, "survey", found)
    monkeypatch.setattr(components.guard, "connect", lambda _context: found.api)
    return found


def inputs(node: Node) -> dict[str, Any]:
    """A node's inputs in the state."""
    return {"metadata": {"name": node.name, "labels": dict(node.labels)}, "spec": {}}


def ask(found: stack_settings.Settings, *events: tuple[Node, Node | None]) -> None:
    """Have the engine ask before these nodes go (to None) or change."""

    def program() -> None:
        hook: Any = guard_hook(found)
        for old, new in events:
            after = inputs(new) if new else None
            node = ("urn", "id", old.name, "kubernetes:core/v1:Node")
            hook(pulumi.ResourceHookArgs(*node, old_inputs=inputs(old), new_inputs=after))

    record(program)


def refused(found: stack_settings.Settings, *events: tuple[Node, Node | None]) -> str:
    return refusal(ask, found, *events)


def test_the_hook_is_asked_in_previews_too() -> None:
    """Under the name that the state's resources have it by."""
    made: list[pulumi.ResourceHook] = []
    record(lambda: made.append(guard_hook(stack(x86=group(1)))))
    (hook,) = made
    assert (hook.name, HOOK_NAME) == ("archshift-guard-x86", "archshift-guard-x86")
    assert hook.opts is not None
    assert hook.opts.on_dry_run
    assert not hook.opts.ignore_errors


def test_a_destroy_takes_every_node_of_the_stack(cluster: Cluster) -> None:
    """A configured node is deleted: those beside it go too, and do not count."""
    found = stack(x86=group(3))
    first, *_ = live = nodes(found)
    cluster.now = seen(live, cart())
    assert refused(found, (first, None)) == f"x86 node x86-0 stays: {NOWHERE}; {WAY_OUT}"


@pytest.mark.parametrize("more", [{"taints": (Taint(key="gpu"),)}, {"schedulable": False}])
def test_a_destroy_may_leave_the_work_to_nodes_of_others(cluster: Cluster, more: dict[str, Any]) -> None:
    """Those that are not the stack's stay; they count if they are ready and take what needs x86."""
    found = stack(x86=group(1))
    first, *_ = live = nodes(found)
    cluster.now = seen([*live, own("other")], cart())
    ask(found, (first, None))
    cluster.now = seen([*live, own("other", **more)], cart())
    assert refused(found, (first, None)) == f"x86 node x86-0 stays: {NOWHERE}; {WAY_OUT}"


def test_a_destroy_where_nothing_needs_x86_goes_through(cluster: Cluster) -> None:
    """With everything proven the guard is not in the way."""
    found = stack(x86=group(2))
    cluster.now = seen(nodes(found))
    ask(found, *((node, None) for node in nodes(found)))


def test_a_group_is_scaled_down_to_what_is_needed_and_not_below(cluster: Cluster) -> None:
    """The nodes that the configuration keeps have to carry it; the sentence says what is missing."""
    before, after = nodes(stack(x86=group(2))), stack(x86=group(1))
    cluster.now = seen(before, cart(3))
    ask(after, (before[1], None))
    cluster.now = seen(before, cart(5))
    assert refused(after, (before[1], None)) == f"x86 node x86-1 stays: {TWO_SHORT}; {WAY_OUT}"


def test_nodes_that_go_together_do_not_speak_for_each_other(cluster: Cluster) -> None:
    """Each of them alone could be spared."""
    before, after = nodes(stack(x86=group(2))), stack()
    cluster.now = seen(before, cart())
    for node in before[:2]:
        assert refused(after, (node, None)) == f"x86 node {node.name} stays: {NOWHERE}; {WAY_OUT}"


def test_only_nodes_that_are_there_and_ready_count(cluster: Cluster) -> None:
    """A renamed group: its new nodes carry nothing before they run."""
    before, after = nodes(stack(x86=group(1))), stack(intel=group(1))
    made = nodes(after)[0]
    sentence = f"x86 node x86-0 stays: {NOWHERE}; {WAY_OUT}"
    cluster.now = seen(before, cart())
    assert refused(after, (before[0], None)) == sentence
    cluster.now = seen([*before, replace(made, schedulable=False)], cart())
    assert refused(after, (before[0], None)) == sentence
    cluster.now = seen([*before, made], cart())
    ask(after, (before[0], None))


def test_a_node_that_becomes_graviton_is_gone(cluster: Cluster) -> None:
    """Under its own name, by replacement or by an update: what counts is the architecture."""
    before, after = nodes(stack(x86=group(1))), stack(x86=group(1, "m7g.xlarge"))
    cluster.now = seen(before, cart())
    sentence = f"x86 node x86-0 stays: {NOWHERE}; {WAY_OUT}"
    assert refused(after, (before[0], None)) == sentence
    assert refused(after, (before[0], nodes(after)[0])) == sentence
    beside = stack(x86=group(1, "m7g.xlarge"), rest=group(1))
    cluster.now = seen([*before, *nodes(stack(rest=group(1)))[:1]], cart())
    ask(beside, (before[0], None), (before[0], nodes(after)[0]))


@pytest.mark.parametrize("kind", ["m7i.2xlarge", "m7a.xlarge"], ids=["larger", "of-the-same-size"])
def test_a_node_that_is_replaced_carries_nothing_meanwhile(cluster: Cluster, kind: str) -> None:
    """Another instance type is another node, and the old one is deleted first."""
    before, after = nodes(stack(x86=group(2))), stack(x86=group(2, kind))
    cluster.now = seen(before, cart())
    assert refused(after, (before[0], None)) == f"x86 node x86-0 stays: {NOWHERE}; {WAY_OUT}"
    cluster.now = seen([before[0], nodes(after)[1]], cart())
    ask(after, (before[0], None))


@pytest.mark.parametrize(
    "change",
    [
        {"taints": [{"key": "retired"}]},
        {"taints": [{"key": "retired", "effect": "NoExecute"}]},
        {"labels": {"pool": "other"}},
        {"labels": {}},
    ],
    ids=["no-schedule", "no-execute", "relabelled", "unlabelled"],
)
def test_an_update_that_turns_away_what_needs_x86_is_refused(
    cluster: Cluster, change: dict[str, Any]
) -> None:
    """The node stays, and is no use any more."""
    start: dict[str, Any] = {"labels": {"pool": "main"}}
    before, after = nodes(stack(x86=group(2, **start))), stack(x86=group(2, **{**start, **change}))
    cluster.now = seen(before, cart(pool="main"))
    assert refused(after, (before[0], nodes(after)[0])) == f"x86 node x86-0 stays: {NOWHERE}; {WAY_OUT}"


@pytest.mark.parametrize(
    "change", [{"labels": {"team": "shop"}}, {"taints": [{"key": "soft", "effect": "PreferNoSchedule"}]}]
)
def test_an_update_that_takes_nothing_away_is_free(cluster: Cluster, change: dict[str, Any]) -> None:
    """However short x86 is, and whatever taint the node controller has set for a moment."""
    before, after = nodes(stack(x86=group(1))), stack(x86=group(1, **change))
    cluster.now = seen(before, cart(99))
    ask(after, (before[0], nodes(after)[0]))
    down = replace(before[0], schedulable=False, taints=(Taint(key="node.kubernetes.io/not-ready"),))
    cluster.now = seen([down], cart())
    ask(after, (before[0], nodes(after)[0]))


def test_graviton_nodes_are_not_asked_about(cluster: Cluster) -> None:
    """They may come and go without a look at the cluster."""
    found = stack(x86=group(1))
    graviton = nodes(found)[-1]
    cluster.now = ArchshiftError("the cluster cannot be reached")
    ask(found, (graviton, None), (graviton, graviton))
    assert cluster.asked == []


def test_a_node_that_is_no_longer_there_may_leave_the_state(cluster: Cluster) -> None:
    """Somebody deleted it behind our back; keeping it in the state brings nothing back."""
    before, after = nodes(stack(x86=group(1))), stack()
    cluster.now = seen(nodes(after), cart())
    ask(after, (before[0], None))


def glass(until: datetime) -> BreakGlass:
    """Break-glass until then."""
    return BreakGlass(until=until, reason="region is lost", ticket="OPS-7")


def test_a_node_is_not_taken_from_under_pods(cluster: Cluster) -> None:
    """Although nothing needs x86: they are named, and the command that moves them. What is tied to the node
    goes with it, and an update that leaves the node is not asked about.
    """
    found = stack(x86=group(1))
    one = nodes(found)[0]
    cluster.now = seen([one])
    free = [pod("agent", one.name, owner=("DaemonSet", "agent")), pod("elsewhere", "x86-9")]
    cluster.api.objects["/api/v1/pods"] = free
    ask(stack(), (one, None))
    cluster.api.objects["/api/v1/pods"] = [*free, *(pod(f"web-{index}", one.name) for index in range(7))]
    assert refused(stack(), (one, None)) == (
        f"x86 node {one.name} stays: 7 pods run on it (shop/web-0, shop/web-1, shop/web-2, shop/web-3, "
        "shop/web-4 and 2 more); empty it first with archshift drain, because deleting the nodes ignores "
        "PodDisruptionBudgets"
    )
    ask(found, (one, replace(one, labels={**one.labels, "team": "shop"})))


def test_under_break_glass_x86_goes_and_each_node_is_loud(cluster: Cluster, told: Told) -> None:
    """Without a question: the cluster may be the thing that is broken."""
    until = datetime.now(UTC).replace(second=0, microsecond=0) + HOUR
    found = stack(x86=group(1), break_glass=glass(until))
    cluster.now = ArchshiftError("the cluster cannot be reached")
    assert told(lambda: ask(found, (nodes(found)[0], None))) == [
        (
            "WARNING",
            f"x86-0: BREAK GLASS until {until.isoformat(timespec='minutes')}: x86 is not guarded. Reason: "
            "region is lost; ticket OPS-7",
        )
    ]
    assert cluster.asked == []


@pytest.mark.parametrize("offset", [-HOUR, 25 * HOUR])
def test_break_glass_out_of_its_time_opens_nothing(cluster: Cluster, offset: timedelta) -> None:
    """The hook looks at the clock at the moment of the delete."""
    found = stack(x86=group(1), break_glass=glass(datetime.now(UTC) + offset))
    cluster.now = seen(nodes(found), cart())
    assert refused(found, (nodes(found)[0], None)) == f"x86 node x86-0 stays: {NOWHERE}; {WAY_OUT}"


def test_a_cluster_that_cannot_be_read_takes_nothing_away(cluster: Cluster) -> None:
    """Its own sentence stops the delete, and the next node is asked about afresh."""
    found = stack(x86=group(2))
    cluster.now = ArchshiftError("https://cluster.example: the cluster cannot be reached")
    for node in nodes(found)[:2]:
        assert refused(found, (node, None)) == "https://cluster.example: the cluster cannot be reached"
    assert len(cluster.asked) == 2


def test_the_question_is_about_this_moment_and_all_of_the_cluster(cluster: Cluster) -> None:
    """Evidence of earlier runs does not count, nor whether the settings still guard anything."""
    found = stack(x86=group(1))
    cluster.now = seen(nodes(found))
    ask(found, (nodes(found)[0], None))
    assert cluster.asked == [{"keep_evidence": False, "guard_x86": True}]


def test_nodes_of_the_same_moment_share_an_answer(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred nodes are not a hundred readings; later ones are asked about anew."""
    found = stack(x86=group(3))
    cluster.now = seen(nodes(found))
    events: list[tuple[Node, Node | None]] = [(node, None) for node in nodes(found)[:3]]
    ask(found, *events)
    assert len(cluster.asked) == 1
    monkeypatch.setattr(components.guard, "_FRESH_SECONDS", -1.0)
    ask(found, *events)
    assert len(cluster.asked) == 4


# --- protection ------------------------------------------------------------------------------


def test_the_nodes_that_carry_what_needs_x86_are_protected() -> None:
    """The first that suffice, in the order of the configuration; the rest may go at any time."""
    found = stack(x86=group(3))
    live = nodes(found)
    assert protected(seen(live, cart()), found, NOW) == {"x86-0"}
    assert protected(seen(live, cart(4)), found, NOW) == {"x86-0", "x86-1"}
    assert protected(seen(live, cart(99)), found, NOW) == {"x86-0", "x86-1", "x86-2"}
    assert protected(seen(live), found, NOW) == frozenset()


def test_nodes_that_are_yet_to_be_made_are_protected_from_the_start() -> None:
    """The first update of a stack already protects; nodes of others are not the stack's to protect."""
    assert protected(seen([own("other")], cart()), stack(x86=group(2)), NOW) == {"x86-0"}


def test_a_node_that_is_to_become_graviton_stays_protected() -> None:
    """Under its own name: protection goes by what is there, not by what is to be."""
    before, after = stack(x86=group(2)), stack(x86=group(2, "m7g.xlarge"))
    assert protected(seen(nodes(before), cart()), after, NOW) == {"x86-0"}
    assert protected(seen(nodes(after), cart()), after, NOW) == frozenset()


def test_a_node_that_is_to_be_tainted_or_relabelled_stays_protected() -> None:
    """What it carries now is what it is protected for."""
    before = stack(x86=group(2, labels={"pool": "main"}))
    after = stack(x86=group(2, labels={"pool": "other"}, taints=[{"key": "retired"}]))
    assert protected(seen(nodes(before), cart(pool="main")), after, NOW) == {"x86-0"}


def test_a_node_that_is_down_takes_no_protection_from_another() -> None:
    """It may carry nothing for long."""
    found = stack(old=group(1), x86=group(2))
    down, *rest = nodes(found)
    live = [replace(down, schedulable=False), *rest]
    assert protected(seen(live, cart()), found, NOW) == {"old-0", "x86-0"}


def test_protection_is_lifted_under_break_glass_and_only_then() -> None:
    """So that the next update can remove the nodes without a hand in the state."""
    found = stack(x86=group(1))
    look = seen(nodes(found), cart())
    assert protected(look, replace(found, break_glass=glass(NOW + HOUR)), NOW) == frozenset()
    for until in (NOW, NOW + 25 * HOUR):
        assert protected(look, replace(found, break_glass=glass(until)), NOW) == {"x86-0"}


def test_where_nothing_is_guarded_nothing_is_protected() -> None:
    """Without evidence nothing could ever be taken away again."""
    found = stack(x86=group(1))
    unchecked = replace(found, images=replace(found.images, check=False))
    assert protected(seen(nodes(found), cart()), unchecked, NOW) == frozenset()
    assert protected(seen(nodes(found), guarded=False), unchecked, NOW) == frozenset()


def registered(**args: Any) -> Mapping[str, Registration]:
    """The nodes of a stack as they are registered, by name."""
    groups = stack(x86=group(2)).node_groups

    def program() -> None:
        guard = guard_hook(stack(x86=group(2))) if args.pop("guarded", False) else None
        NodeGroups("node-groups", NodeGroupsArgs(groups=groups, guard=guard, **args))

    return {one.name: one for one in record(program).of("kubernetes:core/v1:Node")}


def test_only_the_nodes_that_are_needed_are_registered_as_protected() -> None:
    """The engine refuses to delete or replace those, before any hook is asked."""
    found = registered(protected=frozenset({"x86-0"}))
    assert {name: one.request.protect for name, one in found.items()} == {
        "x86-0": True,
        "x86-1": False,
        "arm-0": False,
    }


def test_the_hook_is_bound_to_every_node() -> None:
    """To Graviton nodes too: one may be registered in place of an x86 node of the same name."""
    for one in registered(guarded=True).values():
        assert list(one.request.hooks.before_delete) == [HOOK_NAME]
        assert list(one.request.hooks.before_update) == [HOOK_NAME]
    for one in registered().values():
        assert list(one.request.hooks.before_delete) == []
        assert list(one.request.hooks.before_update) == []


# --- the preview's check ---------------------------------------------------------------------


def check(look: Survey, found: stack_settings.Settings) -> Callable[[], None]:
    """The preview's check, as a program."""
    return lambda: guard_x86(look, found, NOW)


def stopped(look: Survey, found: stack_settings.Settings) -> str:
    """The sentence with which an update is stopped."""
    with pytest.raises(ArchshiftError) as error:
        record(check(look, found))
    return str(error.value)


@pytest.mark.parametrize(
    "after",
    [
        stack(),
        stack(x86=group(0)),
        stack(x86=group(2, "m7g.xlarge", labels={"pool": "main"})),
        stack(x86=group(2, labels={"pool": "main"}, taints=[{"key": "retired"}])),
        stack(x86=group(2)),
        stack(intel=group(2, labels={"pool": "main"})),
        stack(x86=group(2, "m7i.2xlarge", labels={"pool": "main"})),
        stack(x86=group(2, "m7a.xlarge", labels={"pool": "main"})),
    ],
    ids=[
        "removed",
        "scaled-to-0",
        "graviton",
        "tainted",
        "relabelled",
        "renamed",
        "replaced",
        "replaced-alike",
    ],
)
def test_an_update_that_leaves_nothing_for_what_needs_x86_is_stopped(after: stack_settings.Settings) -> None:
    """One sentence with who, why and the way out, before anything is registered."""
    look = seen(nodes(stack(x86=group(2, labels={"pool": "main"}))), cart(pool="main"))
    assert stopped(look, after) == f"x86 capacity stays: {NOWHERE}; {WAY_OUT}"


def test_an_update_that_leaves_too_little_is_stopped_with_what_is_missing() -> None:
    """Fewer nodes; or others in their place, which are not there yet."""
    look = seen(nodes(stack(x86=group(2))), cart(5))
    assert stopped(look, stack(x86=group(1))) == f"x86 capacity stays: {TWO_SHORT}; {WAY_OUT}"
    assert stopped(look, stack(x86=group(2, "m7i.large"))) == (
        f"x86 capacity stays: {CART}: no x86 node is left where they can run; {WAY_OUT}"
    )


def test_an_update_that_leaves_enough_goes_on_in_silence(told: Told) -> None:
    """Scaled down to what is needed, or left to nodes of others."""
    look = seen([*nodes(stack(x86=group(2))), own("other")], cart(3))
    for after in (stack(x86=group(2)), stack(x86=group(1)), stack(intel=group(1)), stack()):
        assert told(check(look, after)) == []


@pytest.mark.parametrize("size", [1, 2])
def test_where_x86_is_short_already_a_step_that_takes_none_goes_on(told: Told, size: int) -> None:
    """An autoscaler's maximum may be far above what is there: the ramp goes on, and so does adding nodes."""
    look = seen(nodes(stack(x86=group(1))), cart(99))
    assert told(check(look, stack(x86=group(size, labels={"team": "shop"})))) == []


def test_where_there_is_no_x86_there_is_none_to_lose(told: Told) -> None:
    """Nothing to stop, and nothing to say of protection."""
    assert told(check(seen(nodes(stack()), cart()), stack())) == []
    assert told(check(seen(nodes(stack())), stack())) == []


def test_when_nothing_needs_x86_any_more_the_preview_says_so(told: Told) -> None:
    """The next update may remove the nodes without an edit by hand."""
    found = stack(x86=group(1))
    assert told(check(seen(nodes(found)), found)) == [
        ("INFO", "nothing needs x86 any more: this update unprotects the x86 nodes")
    ]


def test_a_group_that_was_taken_out_too_early_is_to_be_put_back_once(told: Told) -> None:
    """What is not registered keeps its protection, and the engine alone cannot say the way out."""
    ((severity, said),) = told(check(seen(nodes(stack(x86=group(1)))), stack()))
    assert severity == "INFO"
    assert "add it to archshift:node_groups again, run pulumi up, then remove it" in said


def test_where_nothing_is_guarded_nothing_is_said(told: Told) -> None:
    """No evidence, no claim."""
    assert told(check(seen(nodes(stack(x86=group(1))), guarded=False), stack())) == []


def test_break_glass_in_force_lets_the_update_go_on_and_is_loud(told: Told) -> None:
    """One warning, in the preview as in the update."""
    look = seen(nodes(stack(x86=group(1))), cart())
    assert told(check(look, stack(break_glass=glass(NOW + HOUR)))) == [
        (
            "WARNING",
            "BREAK GLASS until 2026-03-02T13:00+00:00: x86 is not guarded. Reason: region is lost; ticket "
            "OPS-7",
        )
    ]


def test_break_glass_that_ended_stops_the_update_and_says_why(
    told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    """Otherwise somebody would look for the fault elsewhere."""
    look = seen(nodes(stack(x86=group(1))), cart())
    with pytest.raises(ArchshiftError) as error:
        told(check(look, stack(break_glass=glass(NOW))))
    assert str(error.value) == f"x86 capacity stays: {NOWHERE}; {WAY_OUT}"
    assert [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING] == [
        "archshift:break_glass.until: 2026-03-02T12:00+00:00 ended, so it has no effect; remove it or set a "
        "new time"
    ]


@pytest.mark.parametrize(
    ("until", "state"),
    [(NOW + HOUR, "is set aside"), (NOW, "is in force again: the policy exception ended")],
)
def test_an_exception_from_a_policy_rule_is_loud(told: Told, until: datetime, state: str) -> None:
    """And says when it is over; it sets no guard aside."""
    policy_exception = PolicyException(rule="arm-ratio-step", reason="agreed", until=until)
    assert told(check(seen(()), stack(policy_exception=policy_exception))) == [
        ("WARNING", f"policy rule arm-ratio-step {state}: agreed (until {until})")
    ]
    look = seen(nodes(stack(x86=group(1))), cart())
    assert (
        stopped(look, stack(policy_exception=policy_exception)) == f"x86 capacity stays: {NOWHERE}; {WAY_OUT}"
    )


# --- exceptions in the state -----------------------------------------------------------------


def test_exceptions_are_in_the_state_as_plain_values() -> None:
    """Who wants what until when, for policies, reports and whoever looks afterwards."""
    policy_exception = PolicyException(rule="arm-ratio-step", reason="agreed", until=NOW)

    def outputs(**args: Any) -> Mapping[str, Any]:
        given = {"policy_exception": None, "break_glass": None, **args}
        done = record(lambda: Exceptions("exceptions", ExceptionsArgs(**given)))
        assert [(one.type, one.inputs) for one in done.registered] == [("archshift:index:Exceptions", {})]
        return done.outputs["exceptions"]

    one_rule = [{"rule": "arm-ratio-step", "reason": "agreed", "until": "2026-03-02T12:00:00+00:00"}]
    broken = {"until": "2026-03-02T13:00:00+00:00", "reason": "region is lost", "ticket": "OPS-7"}
    assert outputs(policy_exception=policy_exception) == {"policyExceptions": one_rule}
    assert outputs(break_glass=glass(NOW + HOUR)) == {"policyExceptions": [], "breakGlass": broken}
    assert outputs(policy_exception=policy_exception, break_glass=glass(NOW + HOUR)) == {
        "policyExceptions": one_rule,
        "breakGlass": broken,
    }


def test_the_plan_is_handed_over_where_it_is_asked_for(tmp_path: Path) -> None:
    """With the exceptions in force, before anything can stop the run; and nowhere else."""
    glass = BreakGlass(until=NOW + HOUR, reason="zone lost", ticket="OPS-1")
    policy_exception = PolicyException(rule="arm-ratio-step", reason="late", until=NOW - HOUR)
    found = Survey(inventory=Inventory(), evidence=None, plan=Plan(arm_ratio=0.5), needs=None)
    configured = stack(break_glass=glass, policy_exception=policy_exception)
    file = tmp_path / "plan.json"
    write_plan_file(found, configured, NOW, {})
    assert not file.exists()
    write_plan_file(found, configured, NOW, {PLAN_FILE: str(file)})
    left = json.loads(file.read_text())
    assert left["plan"]["arm_ratio"] == 0.5
    assert left["refusals"] == []
    assert left["exceptions"] == [
        "policy rule arm-ratio-step is in force again: the policy exception ended: late "
        f"(until {NOW - HOUR})",
        "BREAK GLASS until 2026-03-02T13:00+00:00: x86 is not guarded. Reason: zone lost; ticket OPS-1",
    ]


def test_the_plan_file_names_what_the_guard_refused(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program and the hook add their refusals to the plan that they find; the preview reads both."""
    file = tmp_path / "plan.json"
    monkeypatch.setenv(PLAN_FILE, str(file))
    found = stack(x86=group(3))
    live = nodes(found)
    cluster.now = look = seen(live, cart())
    write_plan_file(look, found, NOW)
    by_program = stopped(look, stack(x86=group(0)))
    by_hook = refused(found, (live[0], None))
    left = json.loads(file.read_text())
    assert left["refusals"] == [by_program, by_hook]
    assert left["plan"]["arm_ratio"] == look.plan.arm_ratio


def test_a_refusal_needs_neither_a_plan_nor_a_preview(tmp_path: Path) -> None:
    """A run that ends before its plan leaves it alone; one that nobody previews leaves nothing."""
    add_refusal("x86 node a stays", {})
    file = tmp_path / "plan.json"
    add_refusal("x86 node a stays", {PLAN_FILE: str(file)})
    assert json.loads(file.read_text()) == {"refusals": ["x86 node a stays"]}
