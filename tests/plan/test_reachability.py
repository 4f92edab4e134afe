"""The shares that a workload's own hard rules permit, against a little scheduler that tries every order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archshift.cluster.model import Workload
from archshift.cluster.pod_fields import Template, read_fields
from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.common.resources import Resources
from archshift.nodes.after_update import nodes_after
from archshift.nodes.groups import AnyNodeGroup, Node, Taint
from archshift.plan.model import PlannedWorkload
from archshift.plan.placement import max_skew
from archshift.plan.planner import make_plan
from archshift.plan.reachability import FREE, Site, reach, reaches, sites
from tests.build import (
    ARCH,
    deployment,
    eks_group,
    inventory,
    lab_group,
    node_pool,
    patched_pod_spec,
    plan_node,
)
from tests.properties import examples

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"
OWN = {"labelSelector": {"matchLabels": {"app": "cart"}}}

Json = Mapping[str, Any]


def spread(label: str = ZONE, skew: int = 1, **more: Any) -> Json:
    """A hard spread over a workload's own pods."""
    return {"topologyKey": label, "maxSkew": skew, "whenUnsatisfiable": "DoNotSchedule", **OWN, **more}


def workload(replicas: int, *spreads: Json, apart: Sequence[Json] = ()) -> Workload:
    """A Deployment with these hard rules."""
    template = Template(
        labels={"app": "cart"},
        selector=OWN["labelSelector"],
        other_spreads=(tuple(spreads), ()),
        anti_affinity=tuple(apart),
    )
    return deployment("cart", replicas, template=template)


def nodes(text: str, **more: Any) -> list[Node]:
    """Nodes from words of a side and a zone, such as ``x-a g-a``."""
    sides = {"x": "amd64", "g": "arm64"}
    return [
        plan_node(
            f"{word}{index}",
            sides[word[0]],
            labels={ZONE: word[2:], HOST: f"{word}{index}"} if word[2:] else {HOST: f"{word}{index}"},
            **more,
        )
        for index, word in enumerate(text.split())
    ]


def live(text: str) -> tuple[Site, ...]:
    """Live nodes as places for pods."""
    return sites(nodes(text), ())


def after(live_nodes: Sequence[Node], groups: Sequence[AnyNodeGroup]) -> tuple[Site, ...]:
    """Places for pods after an update with these groups."""
    return sites(nodes_after(live_nodes, groups), groups)


# --- the little scheduler -------------------------------------------------------------------------


class Scheduler:
    """Places pods one by one, in every order that the hard rules permit."""

    def __init__(self, one: Workload, on: Sequence[Node], lead: int | None, pin: str | None) -> None:
        self.one, self.nodes, self.lead, self.pin = one, on, lead, pin

    def open_nodes(self, counts: tuple[int, ...]) -> list[int]:
        return [index for index in range(len(self.nodes)) if self._fits(index, counts)]

    def _fits(self, index: int, counts: tuple[int, ...]) -> bool:
        node = self.nodes[index]
        if self.pin and node.architecture != self.pin:
            return False
        template = self.one.template
        rules = [*template.other_spreads[0]]
        if self.lead is not None:
            rules.append(spread(ARCH, self.lead))
        return all(self._spread_fits(rule, node, counts) for rule in rules) and all(
            sum(self._in_domain(term["topologyKey"], node, counts)) == 0 for term in template.anti_affinity
        )

    def _in_domain(self, label: str, node: Node, counts: tuple[int, ...]) -> list[int]:
        return [
            count
            for other, count in zip(self.nodes, counts, strict=True)
            if other.labels.get(label) == node.labels.get(label)
        ]

    def _spread_fits(self, rule: Json, node: Node, counts: tuple[int, ...]) -> bool:
        label = rule["topologyKey"]
        honors = rule.get("nodeAffinityPolicy", "Honor") == "Honor"
        domains: dict[str, int] = {}
        for other, count in zip(self.nodes, counts, strict=True):
            if not honors or not self.pin or other.architecture == self.pin:
                domains[other.labels[label]] = domains.get(other.labels[label], 0) + count
        least = min(domains.values()) if len(domains) >= rule.get("minDomains", 1) else 0
        return bool(domains[node.labels[label]] + 1 - least <= rule["maxSkew"])

    def ends(self, prefer: str | None = None) -> set[tuple[int, int]]:
        """Return (pods on Graviton, all placed pods) of every end; a preferred side wins where it is open."""

        @cache
        def walk(counts: tuple[int, ...]) -> frozenset[tuple[int, int]]:
            options = self.open_nodes(counts) if sum(counts) < self.one.replicas else []
            if prefer and any(self.nodes[index].architecture == prefer for index in options):
                options = [index for index in options if self.nodes[index].architecture == prefer]
            if not options:
                return frozenset({(self._graviton(counts), sum(counts))})
            return frozenset().union(
                *(walk((*counts[:at], counts[at] + 1, *counts[at + 1 :])) for at in options)
            )

        return set(walk((0,) * len(self.nodes)))

    def _graviton(self, counts: tuple[int, ...]) -> int:
        pairs = zip(self.nodes, counts, strict=True)
        return sum(count for node, count in pairs if node.architecture == ARM64)


def complete(ends: set[tuple[int, int]], pods: int) -> set[int]:
    """The numbers on Graviton of the ends with all pods placed."""
    return {graviton for graviton, placed in ends if placed == pods}


WORDS = st.lists(st.sampled_from(["x-a", "x-b", "x-c", "g-a", "g-b"]), min_size=2, max_size=5)
RULES = st.one_of(
    st.builds(
        lambda label, skew, least, policy: {
            "spreads": [spread(label, skew, minDomains=least, nodeAffinityPolicy=policy)]
        },
        st.sampled_from([ZONE, HOST]),
        st.integers(1, 2),
        st.sampled_from([1, 1, 3]),
        st.sampled_from(["Honor", "Ignore"]),
    ),
    st.builds(lambda label: {"apart": [{"topologyKey": label, **OWN}]}, st.sampled_from([ZONE, HOST, ARCH])),
)


@settings(examples, max_examples=150)
@given(WORDS, RULES, st.integers(1, 6))
def test_one_rule_is_known_exactly(words: list[str], rule: dict[str, Any], pods: int) -> None:
    """Every level is reached in every order that the scheduler may take, and no better bound exists."""
    words = sorted({"x-a", "g-a", *words} if len({word[0] for word in words}) < 2 else words)
    on = nodes(" ".join(words))
    one = workload(pods, *rule.get("spreads", ()), apart=rule.get("apart", ()))
    reached = reach(one, sites(on, ()))
    levels = reached.levels or tuple(range(pods + 1))
    mixed = complete(Scheduler(one, on, None, None).ends(), pods)
    if not mixed:
        return  # more pods than the nodes can take, whatever archshift does
    for level in levels:
        side: Architecture | None = reached.by_preference.get(level)
        if side:
            ends = Scheduler(one, on, None, None).ends(prefer=side)
            # With a larger skew it is so only if the scheduler takes emptier domains first.
            tight = all(one_rule["maxSkew"] == 1 for one_rule in rule.get("spreads", ()))
            assert (level, pods) in ends if not tight else ends == {(level, pods)}, (level, side)
        elif level in (0, pods):
            ends = Scheduler(one, on, None, ARM64 if level else AMD64).ends()
            assert ends == {(level, pods)}, level
        else:
            ends = Scheduler(one, on, max_skew(level, pods), None).ends()
            assert {placed for _, placed in ends} == {pods}, f"a pod would stay pending at {level}"
            assert level in {graviton for graviton, _ in ends}
    inside = [level for level in levels if 0 < level < pods]
    for bound in (min(mixed), max(mixed)):
        assert bound in levels or bound in (0, pods)
    assert all(min(mixed) <= level <= max(mixed) for level in inside)
    for level, pin in ((0, AMD64), (pods, ARM64)):
        alone = complete(Scheduler(one, on, None, pin).ends(), pods)
        assert (level in levels) == bool(alone)


@settings(examples, max_examples=60)
@given(WORDS, st.integers(1, 5), st.integers(1, 2))
def test_a_level_under_two_rules_is_reached(words: list[str], pods: int, skew: int) -> None:
    """A zone spread beside an anti-affinity by node: the levels that archshift wants can be reached."""
    words = sorted({*words, "x-a", "g-a"})
    on = nodes(" ".join(words))
    one = workload(pods, spread(ZONE, skew), apart=[{"topologyKey": HOST, **OWN}])
    reached = reach(one, sites(on, ()))
    if not complete(Scheduler(one, on, None, None).ends(), pods):
        return
    for level in reached.levels or range(pods + 1):
        if side := reached.by_preference.get(level):
            assert (level, pods) in Scheduler(one, on, None, None).ends(prefer=side)
        elif 0 < level < pods:
            ends = Scheduler(one, on, max_skew(level, pods), None).ends(
                prefer=ARM64 if 2 * level >= pods else AMD64
            )
            assert (level, pods) in ends


# --- single cases ---------------------------------------------------------------------------------


def test_graviton_in_one_of_three_zones() -> None:
    """Two of six pods fit, or all six without x86. The reason says it before the step."""
    reached = reach(workload(6, spread()), live("x-a x-b x-c g-a"))
    assert reached.levels == (0, 2, 6)
    assert reached.by_preference == {2: ARM64}
    assert reached.limit == (
        "its own spread over zones lets at most 2 of its 6 pods run on Graviton, because Graviton nodes are "
        "in 1 of 3 zones"
    )


def test_x86_in_one_of_three_zones() -> None:
    """The same from the other end of the migration."""
    reached = reach(workload(6, spread()), live("x-a g-a g-b g-c"))
    assert (reached.levels, reached.by_preference) == ((0, 4, 6), {4: AMD64})
    assert "at most 2 of its 6 pods run on x86, because x86 nodes are in 1 of 3 zones" in reached.limit


def test_one_pod_a_node() -> None:
    """Each side takes as many pods as it has nodes. So one must be on Graviton, however low the ratio is."""
    apart = [{"topologyKey": HOST, **OWN}]
    reached = reach(workload(5, apart=apart), live("x-a x-b x-c x-a g-a g-b"))
    assert reached.levels == (1, 2)
    assert reached.limit == (
        "its own anti-affinity over nodes lets at most 2 of its 5 pods run on Graviton, because it may use "
        "2 Graviton nodes"
    )


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ({"spreads": [spread(skew=9)]}, "a skew that no share can pass"),
        ({"spreads": [{**spread(), "labelSelector": {"matchLabels": {"app": "other"}}}]}, "other pods"),
        ({"spreads": [{**spread(), "whenUnsatisfiable": "ScheduleAnyway"}]}, "a soft rule"),
        ({"apart": [{"topologyKey": HOST, "labelSelector": {"matchLabels": {"app": "x"}}}]}, "other pods"),
        ({"apart": [{"topologyKey": HOST, **OWN, "namespaces": ["other"]}]}, "another namespace"),
        ({}, "no rule"),
    ],
)
def test_rules_that_limit_nothing(rules: dict[str, Any], why: str) -> None:
    """Then every share is possible, as before."""
    one = workload(6, *rules.get("spreads", ()), apart=rules.get("apart", ()))
    assert reach(one, live("x-a x-b x-c g-a")) == FREE, why


def test_equal_zones_limit_nothing() -> None:
    """The most usual zone spread, where both sides have all zones."""
    assert reach(workload(9, spread()), live("x-a x-b x-c g-a g-b g-c")) == FREE


def test_a_temporary_state_of_a_node_changes_nothing() -> None:
    """A cordon, a start-up taint or a node that is not ready are no reason to want another share."""
    cordon = Taint(key="node.kubernetes.io/unschedulable")
    cordoned = [*nodes("x-a x-b x-c"), *nodes("g-a g-b g-c", taints=(cordon,), schedulable=False)]
    assert reach(workload(6, spread()), sites(cordoned, ())) == FREE


def test_a_lasting_taint_does() -> None:
    """Its pods can never use such a node. But by the API's default the node still counts as a zone."""
    special = Taint(key="team", value="data")
    on = [*nodes("x-a x-b g-a"), *nodes("g-b", taints=(special,))]
    # With all pods on Graviton, zone b would stay empty, and zone a could have only one pod.
    assert reach(workload(4, spread()), sites(on, ())).levels == (0, 2)
    third = [*nodes("x-a x-b g-a g-b"), *nodes("x-c", taints=(special,))]
    honored = workload(4, spread(nodeTaintsPolicy="Honor"))
    assert reach(honored, sites(third, ())) == FREE
    # Zone c stays empty, so no zone may have more than one pod: four pods never fit.
    assert reach(workload(2, spread()), sites(third, ())).levels == ()


@pytest.mark.parametrize(
    ("groups", "levels"),
    [
        ([node_pool("graviton", "m7g.xlarge", zones=("a",))], (0, 2, 6)),
        ([node_pool("graviton", "m7g.xlarge", zones=("a", "b", "c"))], ()),
        ([node_pool("graviton", "m7g.xlarge")], ()),
        ([eks_group("graviton", "m7g.xlarge", size=0, autoscaled=True)], ()),
        ([lab_group("graviton", "m7g.xlarge", 3)], (0, 2, 6)),
    ],
)
def test_nodes_to_come_count_in_the_zones_of_their_group(groups: list[Any], levels: tuple[int, ...]) -> None:
    """An autoscaler or a NodePool brings them up where its settings say; the lab's group is in zone a."""
    assert reach(workload(6, spread()), after(nodes("x-a x-b x-c"), groups)).levels == levels


def test_an_autoscaler_has_a_node_for_each_pod() -> None:
    """So one pod a node limits nothing there. A fixed group gets no further node."""
    one = workload(4, apart=[{"topologyKey": HOST, **OWN}])
    x86 = nodes("x-a x-b x-c x-a")
    growing = eks_group("graviton", "m7g.xlarge", size=1, autoscaled=True)
    assert reach(one, after(x86, [growing])) == FREE
    assert reach(one, after(x86, [lab_group("graviton", "m7g.xlarge", 1)])).levels == (0, 1)


@pytest.mark.parametrize(
    ("keys", "surge", "levels"),
    [
        # Old pods on the only Graviton node would leave a new pod pending that must run there.
        ([], 0, (0, 1)),
        (["pod-template-hash"], 0, (0, 1)),
    ],
)
def test_one_pod_a_node_with_a_single_graviton_node(
    keys: list[str], surge: int, levels: tuple[int, ...]
) -> None:
    """The highest level is reached by the preference alone, if old pods can be in the way."""
    one = workload(3, apart=[{"topologyKey": HOST, **OWN, "matchLabelKeys": keys}])
    reached = reach(replace(one, template=replace(one.template, surge=surge)), live("x-a x-b x-c g-a"))
    assert reached.levels == levels
    assert reached.by_preference == ({} if keys else {1: ARM64})


@pytest.mark.parametrize(("on", "surge", "levels"), [("3", 1, ()), ("2", 1, (0, 2)), ("3", 3, (0, 3))])
def test_a_rollout_with_one_pod_a_node_needs_spare_nodes(
    on: str, surge: int, levels: tuple[int, ...]
) -> None:
    """Otherwise old pods may hold all nodes of the side that the next new pod must use."""
    graviton = "g-a g-b g-c" if on == "3" else "g-a g-b"
    one = workload(3, apart=[{"topologyKey": HOST, **OWN}])
    reached = reach(
        replace(one, template=replace(one.template, surge=surge)), live(f"x-a x-b x-c x-a x-b {graviton}")
    )
    assert reached.levels == levels


def test_a_large_workload_of_the_usual_layout_is_free() -> None:
    """With many pods, combined rules are not tried together; each alone leaves every share possible here."""
    one = workload(100, spread(), apart=[{"topologyKey": HOST, **OWN}])
    assert reach(one, live(" ".join(["x-a x-b x-c g-a g-b g-c"] * 40))) == FREE


def test_equal_workloads_share_an_answer() -> None:
    """A fleet has thousands of workloads with the same rules."""
    shop = [replace(workload(6, spread()), name=f"app-{index}") for index in range(3)]
    other = replace(workload(6), name="other")
    found = reaches([*shop, other], live("x-a x-b x-c g-a"))
    assert [found[one.key].levels for one in shop] == [(0, 2, 6)] * 3
    assert found[other.key] == FREE


# --- in the plan ----------------------------------------------------------------------------------


def zonal_plan(arm_ratio: float, graviton: int = 0, spec: Any = None) -> PlannedWorkload:
    """The row of six pods with a hard zone spread, with Graviton in one of three zones."""
    one = workload(6, spread())
    if spec is not None:
        fields = read_fields(spec)
        applied = replace(one.template, spec=fields, owned=frozenset(fields), revision="abc.1")
        one = replace(one, template=applied)
    found = inventory(one, graviton={"cart": graviton}, nodes=tuple(nodes("x-a x-b x-c g-a")))
    (row,) = make_plan(arm_ratio=arm_ratio, inventory=found).workloads
    return row


@pytest.mark.parametrize("arm_ratio", [0.2, 0.5, 0.7, 0.9])
def test_the_plan_wants_what_can_be_and_says_why(arm_ratio: float) -> None:
    """Pods prefer Graviton, their own zone spread stops them at two, and the second plan changes nothing."""
    row = zonal_plan(arm_ratio)
    assert row.wanted in ((0, 2) if arm_ratio == 0.2 else (2,))
    assert "lets at most 2 of its 6 pods run on Graviton" in row.reason
    spec = patched_pod_spec(row)
    again = zonal_plan(arm_ratio, row.wanted or 0, spec)
    assert (again.wanted, again.restarts, patched_pod_spec(again)) == (row.wanted, False, spec)
    if row.wanted == 2:
        assert spec.get("topologySpreadConstraints") is None, "a spread over sides could leave pods pending"
        (preferred,) = spec["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
        assert preferred["preference"]["matchExpressions"][0]["values"] == ["arm64"]


def test_at_the_end_of_the_ramp_all_pods_are_on_graviton() -> None:
    """A required affinity takes the x86 zones out of the spread, so there is no limit to name."""
    row = zonal_plan(1.0)
    assert (row.wanted, row.reason) == (6, "")


def test_pods_with_a_host_port_need_a_node_each() -> None:
    """As with an anti-affinity over nodes; the reason names the port as the cause."""
    bare = deployment("cart", 3)
    one = replace(bare, template=replace(bare.template, host_ports=frozenset({"TCP/80"})))
    (row,) = make_plan(
        arm_ratio=1.0, inventory=inventory(one, nodes=tuple(nodes("x-a x-a x-a g-a g-b")))
    ).workloads
    assert row.wanted == 2
    assert "its own host port lets at most 2 of its 3 pods run on Graviton" in row.reason


GPU = "nvidia.com/gpu"


def with_gpus(replicas: int, each: int = 1) -> Workload:
    return replace(deployment("model", replicas), requests=Resources(100, 1, devices=((GPU, each),)))


def gpu_nodes(x86: Sequence[int], graviton: Sequence[int]) -> tuple[Node, ...]:
    """Nodes with so many GPUs each."""
    return tuple(
        plan_node(f"{side}-{number}", side, devices=((GPU, count),))
        for side, counts in (("amd64", x86), ("arm64", graviton))
        for number, count in enumerate(counts)
    )


@pytest.mark.parametrize(
    ("x86", "graviton", "each", "ratio", "wanted"),
    [
        ([4], [1], 1, 1.0, 1),
        ([4], [2], 1, 0.5, 2),
        ([4], [1, 1], 1, 1.0, 2),
        ([4], [3, 1], 1, 1.0, 4),
        # A pod cannot use devices of two nodes.
        ([8], [3, 3, 1], 2, 1.0, 2),
        # Not all can stay on x86 either.
        ([3], [4], 1, 0.0, 0),
    ],
)
def test_pods_move_only_as_far_as_there_are_devices(
    x86: list[int], graviton: list[int], each: int, ratio: float, wanted: int
) -> None:
    found = inventory(with_gpus(4, each), nodes=gpu_nodes(x86, graviton))
    (row,) = make_plan(arm_ratio=ratio, inventory=found).workloads
    assert row.wanted == wanted
    if 0 < wanted < 4:
        assert row.reason == f"Graviton nodes have {GPU} for {wanted} of its 4 pods"


def test_workloads_that_want_the_same_devices_share_one_look_at_the_nodes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many workloads of a large fleet request a part of the node's own disk, which is a device too."""
    looks = []
    may_run_on = Workload.may_run_on

    def counted(workload: Workload, node: Node) -> bool:
        looks.append(node.name)
        return may_run_on(workload, node)

    monkeypatch.setattr(Workload, "may_run_on", counted)
    nodes = gpu_nodes([9, 9], [2])
    alike = [replace(with_gpus(pods), name=f"model-{pods}") for pods in range(1, 50)]
    found = reaches(alike, [Site(node) for node in nodes])
    assert max(found["shop/Deployment/model-8"].levels) == 2
    assert sorted(looks) == sorted(node.name for node in nodes)


@pytest.mark.parametrize(("x86", "graviton", "ratio"), [([4], [1], 1.0), ([1], [4], 0.0)])
def test_a_device_plugin_that_is_away_sends_no_pod_back(
    x86: list[int], graviton: list[int], ratio: float
) -> None:
    """It reports fewer devices for a while, and the pods that have devices keep them."""
    found = inventory(with_gpus(4), nodes=gpu_nodes(x86, graviton), graviton={"model": 2})
    (row,) = make_plan(arm_ratio=ratio, inventory=found).workloads
    assert row.wanted == 2
