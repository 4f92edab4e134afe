"""Placement: the fields that tell the scheduler a share, and what of the application stays."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from archshift.cluster.ownership import FieldOwner
from archshift.cluster.pod_fields import (
    FIELDS,
    WEIGHT,
    TakenField,
    Template,
    constraint_path,
    describe_path,
    field_path,
    is_ours,
    pinned_architecture,
    read_fields,
    write_fields,
)
from archshift.common.architectures import AMD64, ARM64, Architecture
from archshift.nodes.groups import Node
from archshift.plan.placement import conflicts, max_skew, pin, place, preferred_side, reachable
from tests.build import admits
from tests.properties import examples

ARCH = "kubernetes.io/arch"
HELM = FieldOwner("helm", "Apply")
KUBECTL = FieldOwner("kubectl-client-side-apply", "Update")
ZONES: dict[str, Any] = {
    "topologyKey": "topology.kubernetes.io/zone",
    "whenUnsatisfiable": "DoNotSchedule",
    "maxSkew": 1,
}
SOFT = {"topologyKey": ARCH, "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1}
SOFT_ZONES = {**ZONES, "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 5}
SHARES = [(replicas, graviton) for replicas in range(1, 34) for graviton in range(replicas + 1)]


def term(*expressions: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"matchExpressions": list(expressions), **fields}


def expression(key: str, *values: str, operator: str = "In") -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}


def required(*terms: Mapping[str, Any]) -> dict[str, Any]:
    return {"nodeSelectorTerms": list(terms)}


def preference(weight: int, key: str, *values: str) -> dict[str, Any]:
    """A preferred node affinity term."""
    return {"weight": weight, "preference": term(expression(key, *values))}


def schedule(fields: Mapping[str, Any], pods: int) -> dict[str, int]:
    """A model of the scheduler: filter the sides, then take the one that scores best.

    One side stands for all its nodes. A required affinity filters; so does a spread constraint
    whose maxSkew would be passed; the preferred affinity's weights are the score.
    """
    count = {AMD64: 0, ARM64: 0}
    constraint = fields.get("spread")
    for _ in range(pods):
        sides = [side for side in count if _allowed(fields, side)]
        if constraint is not None:
            least = min(count.values())
            sides = [side for side in sides if count[side] + 1 - least <= constraint["maxSkew"]]
        assert sides, "a pod would stay pending"
        count[max(sides, key=lambda side: _score(fields.get("preferred") or (), side))] += 1
    return count


def _allowed(fields: Mapping[str, Any], side: str) -> bool:
    node = Node(name=side, labels={ARCH: side})
    return admits(node, fields.get("node-selector"), fields.get("required"))


def _score(terms: Sequence[Mapping[str, Any]], side: str) -> int:
    return sum(
        entry["weight"]
        for entry in terms
        if all(
            side in wanted["values"]
            for wanted in entry["preference"]["matchExpressions"]
            if wanted["key"] == ARCH
        )
    )


@pytest.mark.parametrize("replicas", range(1, 34))
def test_the_scheduler_ends_with_exactly_the_share(replicas: int) -> None:
    """Whatever the share of whatever size, the stock scheduler has one way to place the pods."""
    for graviton in range(replicas + 1):
        fields = place(Template(selector={"matchLabels": {"app": "cart"}}), graviton, replicas)
        assert schedule(fields, replicas) == {AMD64: replicas - graviton, ARM64: graviton}


@pytest.mark.parametrize(("replicas", "graviton"), [(1, 0), (1, 1), (2, 1), (5, 4), (10, 2), (20, 13)])
def test_an_autoscaler_reaches_what_the_plan_prints(replicas: int, graviton: int) -> None:
    """The interval of an autoscaled workload is what the scheduler would do at each size."""
    fields = place(Template(), graviton, replicas)
    for scaled in range(61):
        assert reachable(graviton, replicas, scaled) == schedule(fields, scaled)[ARM64]


def test_an_autoscaler_reaches_the_share_itself_at_the_planned_size() -> None:
    """Without scaling nothing drifts; 8 of 10 becomes 13 of 20 and 23 of 40, as measured."""
    assert all(reachable(graviton, replicas, replicas) == graviton for replicas, graviton in SHARES)
    assert [reachable(8, 10, scaled) for scaled in (10, 20, 40)] == [8, 13, 23]


@pytest.mark.parametrize(
    ("graviton", "replicas", "skew", "side"),
    [(1, 2, 1, ARM64), (5, 10, 1, ARM64), (2, 10, 6, AMD64), (8, 10, 6, ARM64), (1, 3, 1, AMD64)],
)
def test_skew_and_side_of_a_share(graviton: int, replicas: int, skew: int, side: Architecture) -> None:
    """The skew is the difference between the sides, at least 1, which is the API's minimum."""
    assert max_skew(graviton, replicas) == skew
    assert preferred_side(graviton, replicas) == side


def test_a_split_is_told_by_one_constraint_and_one_preference() -> None:
    """What a user reads in the preview for 2 of 10, field by field.

    The two soft spreads are the scheduler's defaults, which a pod with any constraint of its own loses.
    """
    ours: dict[str, Any] = {
        "labelSelector": {"matchLabels": {"app": "cart"}},
        "matchLabelKeys": ["pod-template-hash"],
    }
    fields = place(Template(selector={"matchLabels": {"app": "cart"}}), 2, 10)
    assert fields == {
        "spread": {
            "topologyKey": "kubernetes.io/arch",
            "whenUnsatisfiable": "DoNotSchedule",
            "maxSkew": 6,
            **ours,
            "nodeTaintsPolicy": "Honor",
        },
        "zone-spread": {
            "topologyKey": "topology.kubernetes.io/zone",
            "whenUnsatisfiable": "ScheduleAnyway",
            "maxSkew": 5,
            **ours,
        },
        "node-spread": {
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "maxSkew": 4,
            **ours,
        },
        "preferred": [preference(100, ARCH, "amd64")],
    }


@pytest.mark.parametrize(
    ("graviton", "replicas", "skews"), [(3, 6, (5, 3)), (1, 5, (5, 3)), (8, 10, (5, 4)), (3, 30, (13, 13))]
)
def test_default_spreads_lose_against_the_side_however_many_pods_there_are(
    graviton: int, replicas: int, skews: tuple[int, int]
) -> None:
    """With the scheduler's 5 and 3, two nodes with 26 of 30 pods lost the next one to an empty side."""
    fields = place(Template(), graviton, replicas)
    assert (fields["zone-spread"]["maxSkew"], fields["node-spread"]["maxSkew"]) == skews


@pytest.mark.parametrize(
    "own",
    [
        {"other_spreads": ((ZONES,), ())},
        {"other_spreads": ((), (ZONES,))},
        {"other_spreads": ((SOFT,), ())},
        {"taken_fields": {"spread": TakenField(HELM, {**SOFT, "whenUnsatisfiable": "DoNotSchedule"})}},
    ],
)
def test_a_workload_with_a_constraint_of_its_own_gets_no_defaults(own: dict[str, Any]) -> None:
    """The scheduler gives it none either; what archshift took by force is the application's own too."""
    assert not {"zone-spread", "node-spread"} & set(place(Template(**own), 1, 3))


def test_where_no_node_has_a_zone_only_nodes_are_spread_over() -> None:
    """The scheduler ignores nodes that lack a label of a pod's own constraints."""
    assert set(place(Template(), 2, 3, zones=False)) == {"spread", "node-spread", "preferred"}


def test_the_defaults_go_with_the_constraint_that_made_them_necessary() -> None:
    """A pod without constraints gets the scheduler's own defaults, so a pinned one needs none of ours."""
    split = place(Template(), 2, 3)
    pinned = place(Template(spec=split, owned=frozenset(split)), 3, 3)
    assert {"zone-spread", "node-spread"} <= set(split)
    assert set(pinned) == {"required"}


def test_a_stateful_set_counts_its_revisions_by_their_own_label() -> None:
    """Pods of a StatefulSet carry another revision label than a Deployment's."""
    fields = place(Template(revision_label="controller-revision-hash"), 1, 3)
    for name in ("spread", "zone-spread", "node-spread"):
        assert fields[name]["matchLabelKeys"] == ["controller-revision-hash"]


@pytest.mark.parametrize(("graviton", "side"), [(0, "amd64"), (3, "arm64")])
def test_all_on_one_side_is_a_requirement(graviton: int, side: str) -> None:
    """At 0 and 1 a full side leaves pods pending rather than on the wrong architecture."""
    assert place(Template(), graviton, 3) == {"required": required(term(expression(ARCH, side)))}


def test_the_architecture_is_anded_into_every_term_of_the_application() -> None:
    """Terms are ORed: a term without ours would let pods out of the side."""
    own = required(
        term(expression("zone", "a")),
        term(expression("disk", operator="Exists"), matchFields=[expression("metadata.name", "n1")]),
        {"matchFields": [expression("metadata.name", "n2")]},
    )
    before = copy.deepcopy(own)
    ours = expression(ARCH, "arm64")
    template = Template(spec={"required": own})
    assert pin(template, ARM64) == {
        "required": required(
            term(expression("zone", "a"), ours),
            term(
                expression("disk", operator="Exists"), ours, matchFields=[expression("metadata.name", "n1")]
            ),
            term(ours, matchFields=[expression("metadata.name", "n2")]),
        )
    }
    assert own == before


LABELS = {"zone": st.sampled_from(["a", "b"]), "disk": st.sampled_from(["ssd", "hdd"])}
EXPRESSIONS = st.one_of(
    st.builds(expression, st.sampled_from(sorted(LABELS)), st.sampled_from(["a", "b", "ssd", "hdd"])),
    st.builds(
        lambda key, operator: expression(key, operator=operator),
        st.sampled_from(sorted(LABELS)),
        st.sampled_from(["Exists", "DoesNotExist"]),
    ),
    st.builds(
        lambda key, value: expression(key, value, operator="NotIn"),
        st.sampled_from(sorted(LABELS)),
        st.sampled_from(["a", "ssd"]),
    ),
)
FIELD_EXPRESSIONS = st.builds(lambda name: expression("metadata.name", name), st.sampled_from(["n1", "n2"]))
TERMS = st.builds(
    lambda expressions, fields: {
        **({"matchExpressions": expressions} if expressions else {}),
        **({"matchFields": fields} if fields else {}),
    },
    st.lists(EXPRESSIONS, max_size=3),
    st.lists(FIELD_EXPRESSIONS, max_size=1),
)
NODES = st.builds(
    lambda name, labels, arch: Node(name=name, labels={**labels, ARCH: arch}),
    st.sampled_from(["n1", "n2", "n3"]),
    st.fixed_dictionaries({}, optional=LABELS),
    st.sampled_from(["amd64", "arm64"]),
)


@examples
@given(
    st.none() | st.lists(TERMS.filter(bool), min_size=1, max_size=3), NODES, st.sampled_from([AMD64, ARM64])
)
def test_a_pin_admits_the_applications_own_nodes_of_that_side(
    terms: list[dict[str, Any]] | None, node: Node, side: Architecture
) -> None:
    """Merged is exactly: what the application admits, and the architecture. No more, no less."""
    own = {"nodeSelectorTerms": terms} if terms is not None else None
    template = Template(spec={"required": own} if own else {})
    merged = pin(template, side)["required"]
    assert admits(node, None, merged) == (admits(node, None, own) and node.architecture == side)


def test_an_empty_term_still_matches_nothing() -> None:
    """An empty term matches no node, by the API's definition; the merged one must not match more."""
    own = required(term(expression("zone", "a")), {})
    merged = pin(Template(spec={"required": own}), ARM64)["required"]
    assert admits(Node(name="n", labels={"zone": "a", ARCH: "arm64"}), None, merged)
    assert not admits(Node(name="n", labels={"zone": "b", ARCH: "arm64"}), None, merged)


def test_where_the_required_affinity_belongs_to_another_the_pin_goes_to_the_node_selector() -> None:
    """The application's selector stays, and its owner's affinity is not touched."""
    template = Template(
        spec={"required": required(term(expression("zone", "a"))), "node-selector": {"disk": "ssd"}},
        foreign_owners={"required": HELM},
    )
    assert place(template, 2, 2) == {"node-selector": {"disk": "ssd", ARCH: "arm64"}}


def test_a_split_leaves_required_and_selector_alone() -> None:
    """Between 0 and 1 the application's hard rules stand as they are, so nothing is emitted."""
    template = Template(
        spec={"required": required(term(expression("zone", "a"))), "node-selector": {"disk": "ssd"}}
    )
    assert set(place(template, 1, 3)) == {"spread", "zone-spread", "node-spread", "preferred"}


WEIGHTS = st.lists(st.integers(1, 100), max_size=12)


@examples
@example([100, 1, 1])
@given(WEIGHTS)
def test_the_applications_preferences_stay_below_ours(weights: list[int]) -> None:
    """All of them together weigh at most 25 beside our 100, and none of them is lost.

    Each keeps at least the API's minimum of 1.
    """
    own = [preference(weight, f"label-{index}", "x") for index, weight in enumerate(weights)]
    *theirs, ours = place(Template(spec={"preferred": own}), 1, 3)["preferred"]
    assert ours == preference(WEIGHT, ARCH, "amd64")
    assert [entry["preference"] for entry in theirs] == [entry["preference"] for entry in own]
    assert all(entry["weight"] >= 1 for entry in theirs)
    assert sum(entry["weight"] for entry in theirs) <= 25


@examples
@given(WEIGHTS)
def test_the_applications_preferences_keep_their_order(weights: list[int]) -> None:
    """A zone that weighed more than a disk still does, or as much."""
    own = [preference(weight, f"label-{index}", "x") for index, weight in enumerate(weights)]
    scaled = [entry["weight"] for entry in place(Template(spec={"preferred": own}), 1, 3)["preferred"]]
    for one in range(len(weights)):
        for other in range(len(weights)):
            assert weights[one] <= weights[other] or scaled[one] >= scaled[other]


def test_light_preferences_keep_their_weights() -> None:
    """Up to 25 in all nothing is scaled."""
    own = [preference(10, "zone", "a"), preference(15, "disk", "ssd")]
    assert place(Template(spec={"preferred": own}), 2, 3)["preferred"][:2] == own


def test_our_own_value_is_not_merged_into_itself() -> None:
    """The second run starts from the application's value, not from what the first one wrote."""
    first = place(Template(), 1, 3)
    second = place(Template(spec=first, owned=frozenset(first)), 1, 3)
    assert second == first


def test_fields_taken_by_force_stay_with_the_applications_value() -> None:
    """Giving a taken field up would delete it, so it is held until it can be restored."""
    own_preferred = [preference(10, "zone", "a")]
    template = Template(
        spec={"preferred": [*own_preferred, preference(100, ARCH, "arm64")]},
        owned=frozenset({"preferred", "spread"}),
        taken_fields={"preferred": TakenField(HELM, own_preferred)},
    )
    assert place(template, 3, 3) == {
        "preferred": own_preferred,
        "required": required(term(expression(ARCH, "arm64"))),
    }
    assert place(template, 2, 3)["preferred"] == [*own_preferred, preference(100, ARCH, "arm64")]


def test_a_taken_requirement_is_merged_and_kept() -> None:
    """The owner's zones still hold while the pods are all on one side, and while they are split."""
    own = required(term(expression("zone", "a")))
    template = Template(
        taken_fields={"required": TakenField(HELM, own)}, foreign_owners={"node-selector": HELM}
    )
    assert place(template, 0, 3) == {
        "required": required(term(expression("zone", "a"), expression(ARCH, "amd64")))
    }
    assert place(template, 1, 3)["required"] == own


def test_a_placement_shares_nothing_with_the_inventory() -> None:
    """Changing the patch must not change the live object that the plan goes on reading."""
    own = [preference(1, "zone", "a")]
    template = Template(spec={"preferred": own}, selector={"matchLabels": {"app": "cart"}})
    fields = place(template, 1, 2)
    fields["preferred"][0]["preference"]["matchExpressions"].clear()
    fields["spread"]["labelSelector"]["matchLabels"].clear()
    assert own == [preference(1, "zone", "a")]
    assert template.selector == {"matchLabels": {"app": "cart"}}


VALUES = st.fixed_dictionaries(
    {},
    optional={
        "node-selector": st.just({"disk": "ssd"}),
        "preferred": st.just([preference(1, "zone", "a")]),
        "required": st.just(required(term(expression("zone", "a")))),
        "spread": st.just({"topologyKey": ARCH, "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2}),
        "zone-spread": st.just(SOFT_ZONES),
    },
)


@examples
@given(VALUES)
def test_reading_gives_back_what_was_written(values: dict[str, Any]) -> None:
    """read_fields and write_fields are inverse, and a patch has no spread constraint of others."""
    spec = write_fields(values)
    assert read_fields(spec) == values
    if ours := [values[name] for name in ("spread", "zone-spread") if name in values]:
        assert spec["topologySpreadConstraints"] == ours
    else:
        assert "topologySpreadConstraints" not in spec


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"affinity": None, "nodeSelector": None, "topologySpreadConstraints": None},
        {"affinity": {}, "nodeSelector": {}, "topologySpreadConstraints": []},
        {"affinity": {"nodeAffinity": {}, "podAntiAffinity": {}}},
        {"topologySpreadConstraints": [ZONES, {**SOFT, "topologyKey": "rack"}]},
    ],
)
def test_absent_and_empty_fields_read_the_same(spec: dict[str, Any]) -> None:
    """Helm charts are full of empty maps; they say nothing."""
    assert read_fields(spec) == {}


def test_paths_are_those_of_managed_fields_and_of_people() -> None:
    """The path that ownership is looked up by, and the one that a conflict prints."""
    at = ("spec", "template")
    item = 'k:{"topologyKey":"kubernetes.io/arch","whenUnsatisfiable":"DoNotSchedule"}'
    assert field_path("spread", at) == (
        "f:spec",
        "f:template",
        "f:spec",
        "f:topologySpreadConstraints",
        item,
    )
    assert field_path("preferred", at)[-1] == "f:preferredDuringSchedulingIgnoredDuringExecution"
    assert constraint_path({**SOFT, "maxSkew": 3}, at)[-1] == item.replace("DoNotSchedule", "ScheduleAnyway")
    assert [describe_path(name, at) for name in FIELDS] == [
        "spec.template.spec.nodeSelector",
        "spec.template.spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution",
        "spec.template.spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution",
        "spec.template.spec.tolerations",
        "spec.template.spec.topologySpreadConstraints[kubernetes.io/arch]",
        "spec.template.spec.topologySpreadConstraints[kubernetes.io/arch]",
        "spec.template.spec.topologySpreadConstraints[topology.kubernetes.io/zone]",
        "spec.template.spec.topologySpreadConstraints[kubernetes.io/hostname]",
    ]
    assert is_ours({"topologyKey": ARCH, "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 9})
    assert not is_ours(SOFT)
    assert not is_ours(ZONES)


@pytest.mark.parametrize(
    ("owned_by_helm", "replicas", "blocked"),
    [
        (set(), 5, set()),
        ({"required"}, 5, set()),
        ({"node-selector"}, 5, set()),
        ({"required", "node-selector"}, 5, {"required"}),
        ({"required", "node-selector"}, 1, {"required"}),
        ({"preferred"}, 5, {"preferred"}),
        ({"spread"}, 2, {"spread"}),
        ({"preferred", "spread"}, 1, set()),
        ({"preferred", "spread", "required", "node-selector"}, 3, {"preferred", "spread", "required"}),
    ],
)
def test_a_conflict_is_a_field_with_no_way_around_it(
    owned_by_helm: set[str], replicas: int, blocked: set[str]
) -> None:
    """A pin has two places to go; a split needs its two fields, and one pod is never split."""
    template = Template(foreign_owners=dict.fromkeys(owned_by_helm, HELM))
    assert conflicts(template, replicas) == dict.fromkeys(blocked, HELM)


@examples
@given(st.sets(st.sampled_from(sorted(FIELDS))), st.integers(0, 6), st.data())
def test_a_placement_without_conflicts_never_touches_what_another_owns(
    owned_by_helm: set[str], replicas: int, data: st.DataObject
) -> None:
    """So that a ramp that started never stops half way at a field of somebody else."""
    template = Template(
        spec={name: value for name, value in OTHERS_VALUES.items() if name in owned_by_helm},
        foreign_owners=dict.fromkeys(owned_by_helm, HELM),
    )
    if not conflicts(template, replicas):
        graviton = data.draw(st.integers(0, replicas))
        assert not set(place(template, graviton, replicas)) & owned_by_helm


OTHERS_VALUES: dict[str, Any] = {
    "node-selector": {"disk": "ssd"},
    "preferred": [preference(1, "zone", "a")],
    "required": required(term(expression("zone", "a"))),
    "spread": {"topologyKey": ARCH, "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2},
}


@pytest.mark.parametrize(
    ("spec", "pinned"),
    [
        ({}, None),
        ({"node-selector": {"disk": "ssd"}}, None),
        ({"node-selector": {ARCH: "amd64"}}, ("amd64", "nodeSelector")),
        ({"node-selector": {"beta.kubernetes.io/arch": "arm64"}}, ("arm64", "nodeSelector")),
        (
            {"required": required(term(expression(ARCH, "amd64"), expression("zone", "a")))},
            ("amd64", "required node affinity"),
        ),
        (
            {"required": required(term(expression("beta.kubernetes.io/arch", "amd64")))},
            ("amd64", "required node affinity"),
        ),
        (
            {"required": required(term(expression(ARCH, "amd64")), term(expression(ARCH, "amd64")))},
            ("amd64", "required node affinity"),
        ),
        ({"required": required(term(expression("zone", "a")))}, None),
        ({"required": required(term(expression(ARCH, "amd64")), term(expression("zone", "a")))}, None),
    ],
    ids=[
        "nothing",
        "other-selector",
        "selector",
        "beta-selector",
        "term",
        "beta-term",
        "two-terms",
        "other-term",
        "one-term-without",
    ],
)
def test_an_application_that_pins_an_architecture_is_told_from_one_that_does_not(
    spec: dict[str, Any], pinned: tuple[str, str] | None
) -> None:
    """Its pin is reported with the architecture and the field; a term that says nothing opens both."""
    assert pinned_architecture(Template(spec=spec, foreign_owners=dict.fromkeys(spec, KUBECTL))) == pinned


@pytest.mark.parametrize(
    "terms",
    [
        [term(expression(ARCH, "amd64", "arm64"))],
        [term(expression(ARCH, "amd64")), term(expression(ARCH, "arm64"))],
        [term(expression(ARCH, operator="Exists"))],
        [term(expression(ARCH, "s390x", operator="NotIn"))],
        [
            term(expression(ARCH, "amd64"), expression("beta.kubernetes.io/arch", "amd64")),
            term(expression("zone", "a")),
        ],
    ],
    ids=["both", "both-in-two-terms", "exists", "not-another", "two-labels-in-one-of-two-terms"],
)
def test_rules_that_admit_both_architectures_are_no_pin(terms: list[dict[str, Any]]) -> None:
    """Charts that support both say ``In [amd64, arm64]``: they are the first that should move."""
    assert pinned_architecture(Template(spec={"required": required(*terms)})) is None


def test_an_exclusion_is_reported_as_the_architecture_that_is_left() -> None:
    """``NotIn [arm64]`` keeps the pods on x86; the message must not say that it pins arm64."""
    template = Template(spec={"required": required(term(expression(ARCH, "arm64", operator="NotIn")))})
    assert pinned_architecture(template) == ("amd64", "required node affinity")


def test_our_own_pin_is_not_mistaken_for_the_applications() -> None:
    """After a step to 1.0 the workload still counts as movable."""
    fields = place(Template(), 3, 3)
    assert pinned_architecture(Template(spec=fields, owned=frozenset(fields))) is None


def test_the_applications_pin_shows_through_a_taken_field() -> None:
    """What was taken by force is judged by what it was, not by what stands there now."""
    template = Template(
        spec={"required": required(term(expression(ARCH, "arm64")))},
        owned=frozenset({"required"}),
        taken_fields={"required": TakenField(HELM, required(term(expression(ARCH, "amd64"))))},
    )
    assert pinned_architecture(template) == ("amd64", "required node affinity")
