"""The other rules: architectures of groups, DaemonSets, steps, patches, and what is excused."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pulumi_policy import EnforcementLevel

from archshift.nodes.groups import RETIRED
from archshift.plan.apportion import fleet_target
from archshift_rules.arm_ratio_step import Fleet, Ramp, judge
from archshift_rules.capacity import quantity
from archshift_rules.convert_once import keep_results
from archshift_rules.exceptions import RULES_WITH_EXCEPTIONS, end_of
from archshift_rules.kinds import WORKLOAD_PATCH
from archshift_rules.pack import POLICIES, RULES
from archshift_rules.rule import StackRule
from archshift_rules.stack import Resource
from tests.policies.stacks import (
    NOW,
    UNKNOWN,
    audit,
    break_glass,
    entry,
    exceptions,
    gate,
    messages,
    node,
    node_group,
    node_pool,
    patch_messages,
    patches,
    resource,
    rule,
    stack,
)
from tests.properties import examples
from tools.policy_data import FILE, instance_types

GROUPS = "node-group-architecture"
DAEMONSETS = "daemonset-runs-on-every-architecture"
STEP = "arm-ratio-step"
ARCH = "kubernetes.io/arch"
INSTANCE_TYPE = "node.kubernetes.io/instance-type"


# --- the pack -------------------------------------------------------------------------------


def test_the_packs_instance_types_are_archshifts() -> None:
    """The data file says what archshift's table says; if not: python -m tools.policy_data."""
    assert FILE.read_text() == instance_types()


def test_rules_that_guard_are_mandatory_and_say_so() -> None:
    """Every rule but the two that only tell is mandatory, and only the x86 rules yield to break-glass."""
    levels = {policy.name: policy.enforcement_level for policy in POLICIES}
    advisory = {name for name, level in levels.items() if level != EnforcementLevel.MANDATORY}
    assert advisory == {"break-glass-in-use", "policy-exception-in-use"}
    lifted = {one.name for one in RULES if isinstance(one, StackRule) and one.break_glass}
    assert lifted == {"x86-capacity-for-amd64-images", "x86-node-group-protected"}


def test_what_a_policy_exception_can_lift_are_rules_of_the_pack() -> None:
    """A name that no rule has could never be lifted, and an x86 rule never is."""
    assert set(RULES_WITH_EXCEPTIONS) <= {
        one.name for one in RULES if isinstance(one, StackRule) and not one.break_glass
    }


def test_a_conversion_is_made_once_for_each_object() -> None:
    """Equal objects are not the same: no request of the engine is answered with another one's resources."""
    calls = iter(range(1, 9))
    kept = keep_results(lambda _: next(calls))
    one, other = {"a": 1}, {"a": 1}
    assert [kept(one), kept(other), kept(one)] == [1, 2, 1]


# --- node-group-architecture ----------------------------------------------------------------


@pytest.mark.parametrize(
    "group",
    [
        node("x86-0"),
        node_group(),
        node_group("arm", "m7g.xlarge", labels={"architecture": "arm64", ARCH: "arm64"}),
        node_group(instanceTypes=["m6i.xlarge", "m5.large"], amiType="BOTTLEROCKET_x86_64_NVIDIA"),
        node_group(instanceTypes=[], amiType="AL2023_x86_64_STANDARD"),
        node_group(amiType="CUSTOM"),
        node_pool("arm", (ARCH, "In", ["arm64"]), (INSTANCE_TYPE, "In", ["m7g.xlarge"])),
        node_pool(
            "arm", (ARCH, "In", ["arm64"]), ("karpenter.k8s.aws/instance-family", "In", ["m7g", "c7g"])
        ),
        node_pool("arm", labels={ARCH: "arm64"}),
    ],
    ids=lambda one: f"{one.type.rpartition(':')[2]} {one.name}",
)
def test_a_group_that_agrees_with_itself_passes(group: Resource) -> None:
    """Instance types, AMI type and labels of one architecture are no violation."""
    assert messages(GROUPS, group) == []


@pytest.mark.parametrize(
    ("group", "said"),
    [
        (
            node_group(amiType="AL2023_ARM_64_STANDARD"),
            "instance type m6i.xlarge (amd64); label architecture (amd64); "
            "ami_type AL2023_ARM_64_STANDARD (arm64)",
        ),
        (node_group(instanceTypes=["m6i.xlarge", "m7g.xlarge"]), "instance type m7g.xlarge (arm64)"),
        (node_group(labels={ARCH: "arm64"}), "label kubernetes.io/arch (arm64)"),
        (node_group(labels={"architecture": "arm64"}), "label architecture (arm64)"),
        (
            node_group(labels={"architecture": "x86"}),
            "label architecture is 'x86', which is invalid; use amd64 or arm64",
        ),
        (node_group(instanceTypes=["m99.huge"]), "m99.huge is not in the pack's instance_types.json"),
        (node_group(instanceTypes=[], amiType="AL2023_ARM_64_STANDARD"), "instance type t3.medium (amd64)"),
        (node_pool("any"), "its requirements allow the architectures amd64, arm64"),
        (node_pool("none", (ARCH, "In", ["arm64"]), labels={ARCH: "amd64"}), "the architectures none"),
        (
            node_pool("arm", (ARCH, "In", ["arm64"]), (INSTANCE_TYPE, "In", ["m6i.xlarge"])),
            "requirement kubernetes.io/arch (arm64); instance type m6i.xlarge (amd64)",
        ),
        (
            node_pool("arm", (ARCH, "In", ["arm64"]), labels={"architecture": "amd64"}),
            "label architecture (amd64)",
        ),
        (
            resource(
                "kubernetes:core/v1:Node",
                "n",
                {"metadata": {"labels": {ARCH: "amd64", INSTANCE_TYPE: "m7g.xlarge"}}},
            ),
            "label kubernetes.io/arch (amd64); instance type m7g.xlarge (arm64)",
        ),
        (
            resource("kubernetes:core/v1:Node", "n", {"metadata": {"labels": {}}}),
            "it has no label kubernetes.io/arch",
        ),
        (node_group(amiType=UNKNOWN), "unknown-is-no: this preview does not know amiType of x86,"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_group_of_two_architectures_is_named_with_what_disagrees(group: Resource, said: str) -> None:
    """The message lists everything that says an architecture, so that one sees which is wrong."""
    (message,) = messages(GROUPS, group)
    assert said in message
    assert group.name in message


def template(**props: Any) -> Resource:
    return resource("aws:ec2/launchTemplate:LaunchTemplate", "lt", {"id": "lt-1", "name": "lt", **props})


@pytest.mark.parametrize(
    "reference",
    [{"id": "lt-1", "version": "1"}, {"name": "lt"}, {"id": UNKNOWN}],
    ids=["by id", "by name", "by dependency alone"],
)
def test_the_launch_template_counts(reference: dict[str, str]) -> None:
    """A type in the launch template is compared with the group's own words. Where the group leaves the type
    to it, a list that the provider does not know yet is no obstacle.
    """
    lt = template(instanceType="m7g.xlarge")
    sources = {"launchTemplate": [lt.urn]} if reference.get("id") == UNKNOWN else {}
    group = resource(
        "aws:eks/nodeGroup:NodeGroup",
        "g",
        {
            "instanceTypes": UNKNOWN,
            "amiType": "AL2023_x86_64_STANDARD",
            "launchTemplate": reference,
            "scalingConfig": {"maxSize": 1.0},
        },
        sources=sources,
    )
    (message,) = messages(GROUPS, group, lt)
    assert (
        "g names two architectures: the launch template's instance type m7g.xlarge (arm64); ami_type "
        "AL2023_x86_64_STANDARD (amd64)"
    ) in message


def test_the_launch_templates_image_counts_where_it_says_its_architecture() -> None:
    """An image by its parameter's path says what it is; one by id says nothing."""
    path = "resolve:ssm:/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/arm64/standard/1/image_id"
    group = node_group(amiType="CUSTOM", launchTemplate={"id": "lt-1"})
    (message,) = messages(GROUPS, group, template(imageId=path))
    assert f"the launch template's image {path} (arm64)" in message
    assert messages(GROUPS, group, template(imageId="ami-0abc")) == []


# --- daemonset-runs-on-every-architecture ---------------------------------------------------


def daemonsets(**verdicts: str) -> Resource:
    """Evidence of DaemonSets by name."""
    return audit({f"infra/DaemonSet/{name}": entry(verdict) for name, verdict in verdicts.items()})


def pinned(pod_spec: dict[str, Any], type_: str = WORKLOAD_PATCH, kind: str = "DaemonSet") -> Resource:
    """A patch of the DaemonSet infra/agent."""
    metadata = {"name": "agent", "namespace": "infra"}
    inputs = {"kind": kind, "metadata": metadata, "spec": {"template": {"spec": pod_spec}}}
    return resource(type_, f"infra/{kind}/agent", inputs)


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    key = "requiredDuringSchedulingIgnoredDuringExecution"
    return {"affinity": {"nodeAffinity": {key: {"nodeSelectorTerms": list(terms)}}}}


def arch(operator: str, *values: str) -> dict[str, Any]:
    """A term on the architecture."""
    return {"matchExpressions": [{"key": ARCH, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    "graviton",
    [
        node("arm", "arm64"),
        node_group("arm", "m7g.xlarge"),
        node_pool("arm", (ARCH, "In", ["arm64"])),
        node_pool("any"),
    ],
    ids=["node", "node group", "node pool", "node pool of any architecture"],
)
def test_a_daemonset_that_is_not_proven_stops_graviton_nodes(graviton: Resource) -> None:
    """It would start on every one of them; the message names it, the nodes and the way out."""
    (message,) = messages(
        DAEMONSETS, daemonsets(agent="amd64-only", logs="multi-arch", old="unknown"), graviton
    )
    assert message == (
        f"These DaemonSets would start on the Graviton nodes ({graviton.name}), but nothing proves that "
        "they run there: infra/DaemonSet/agent (registry.example/amd64-only:1 is amd64-only: no "
        "linux/arm64), infra/DaemonSet/old (registry.example/unknown:1 is unknown: no linux/arm64). Give "
        "them images for arm64, or the node selector kubernetes.io/arch: amd64. "
        "archshift:images.daemonsets: pin keeps those that archshift steers on x86."
    )


def test_daemonsets_do_not_matter_before_there_are_graviton_nodes() -> None:
    """With x86 nodes alone, and with proven DaemonSets, there is nothing to say; no evidence is no proof."""
    assert messages(DAEMONSETS, daemonsets(agent="amd64-only"), node("x86-0")) == []
    assert messages(DAEMONSETS, daemonsets(agent="multi-arch"), node("arm", "arm64")) == []
    assert "no evidence that DaemonSets run there" in messages(DAEMONSETS, node("arm", "arm64"))[0]


@pytest.mark.parametrize(
    ("pod_spec", "kept_off"),
    [
        ({"nodeSelector": {ARCH: "amd64"}}, True),
        (required(arch("In", "amd64")), True),
        (required(arch("NotIn", "arm64")), True),
        (required(arch("In", "amd64"), arch("In", "amd64")), True),
        ({"nodeSelector": {ARCH: "arm64"}}, False),
        (required(arch("In", "amd64"), {"matchExpressions": []}), False),
        (required(arch("In", "amd64", "arm64")), False),
        (required(), False),
        ({}, False),
    ],
)
def test_a_daemonset_that_is_kept_off_graviton_is_no_obstacle(
    pod_spec: dict[str, Any], kept_off: bool
) -> None:
    """Only a patch that turns every arm64 node away keeps it off."""
    for type_ in (WORKLOAD_PATCH, "kubernetes:apps/v1:DaemonSetPatch"):
        patch = pinned(pod_spec, type_)
        found = messages(DAEMONSETS, daemonsets(agent="amd64-only"), node("arm", "arm64"), patch)
        assert (found == []) == kept_off
    other = pinned(pod_spec, kind="Deployment")
    assert messages(DAEMONSETS, daemonsets(agent="amd64-only"), node("arm", "arm64"), other) != []


def test_a_daemonset_that_reaches_no_graviton_node_is_no_obstacle() -> None:
    """Where the evidence states it, as for one with its own selector; anything but a no counts as yes."""
    for stated, silent in ((False, True), (True, False), (None, False), ("no", False)):
        workloads = {"infra/DaemonSet/agent": entry("amd64-only", reachesGraviton=stated)}
        assert (messages(DAEMONSETS, audit(workloads), node("arm", "arm64")) == []) == silent


# --- arm-ratio-step -------------------------------------------------------------------------


def at(ratio: float, graviton: int, pods: int = 100) -> Resource:
    """A fleet without caps."""
    return patches(ratio, pods, fleet_target(ratio, pods), graviton)


@pytest.mark.parametrize(
    ("observed", "ratio"),
    [
        (0, 0.0), (0, 0.2), (20, 0.5), (50, 0.8), (80, 1.0), (100, 1.0),
        (100, 0.8), (80, 0.5), (50, 0.2),
        (20, 0.3), (50, 0.65),  # between steps
        (48, 0.8), (49, 0.5),  # a little short of the step, by an autoscaler
        (95, 0.2), (61, 0.1), (100, 0.0),  # back, or the first placement of pods that landed anywhere
    ],
)  # fmt: skip
def test_one_step_at_a_time_passes(observed: int, ratio: float) -> None:
    """Staying, one step up, one step down, and a ratio of at most 0.2 from everywhere."""
    assert messages(STEP, at(ratio, observed)) == []


def test_a_jump_up_names_where_the_fleet_is_and_the_next_step() -> None:
    """The message has the observed pods, the step they are at, the next one and the policy exception."""
    assert messages(STEP, at(0.8, 20)) == [
        "arm_ratio 0.8 is more than one step up: 20 of 100 pods are on Graviton, step 0.2. Set it to 0.5. Or "
        "set archshift:policy_exception (rule, reason, until), which expires by itself."
    ]
    assert "is more than one step up" in messages(STEP, at(0.51, 0))[0]
    assert "is more than one step up" in messages(STEP, at(0.8, 46))[0]


def test_a_jump_down_names_the_next_step_and_the_way_back_at_once() -> None:
    """Down is one step at a time too, except to 0.2 and below."""
    (message,) = messages(STEP, at(0.5, 100))
    assert (
        "arm_ratio 0.5 is more than one step down: 100 of 100 pods are on Graviton, step 1. Set it to 0.8;"
        in message
    )
    assert "0.2 or less is always allowed." in message


@pytest.mark.parametrize(
    ("config", "ratio", "observed", "passes"),
    [
        ({"steps": [0.0, 0.1, 1.0]}, 0.5, 0, False),
        ({"steps": [0.0, 0.1, 1.0]}, 0.5, 10, True),
        ({"steps": [0.5, 1.0]}, 0.5, 0, True),
        ({"steps": [0.5]}, 1.0, 50, False),
        ({"freeUpTo": 0.0}, 0.2, 100, False),
        ({"freeUpTo": 0.5}, 0.5, 0, True),
        ({"tolerance": 0.0}, 0.8, 49, False),
        ({"tolerance": 0.1}, 0.8, 40, True),
    ],
)
def test_the_steps_are_configurable(
    config: dict[str, Any], ratio: float, observed: int, passes: bool
) -> None:
    """Steps, the free ratio and the tolerance are the pack's configuration."""
    assert (messages(STEP, at(ratio, observed), **config) == []) == passes


def test_a_capped_fleet_at_its_end_is_no_jump() -> None:
    """Where caps leave 60 of 100 pods at ratio 1.0, the fleet is there and nothing is refused."""
    assert messages(STEP, patches(1.0, 100, 60, 60)) == []
    assert messages(STEP, patches(1.0, 100, 95, 60)) != []


def test_a_step_waits_for_its_date() -> None:
    """Before the date nothing begins the step, from the date on it may; what is already there stays."""
    config = {"earliest": {"0.5": "2026-12-01"}}
    (message,) = messages(STEP, at(0.5, 20), **config)
    assert (
        "arm_ratio 0.5 starts step 0.5 before its earliest time, 2026-12-01 00:00+00:00: 20 of 100 pods are "
        "on Graviton, step 0.2. Set it to 0.2 until then."
    ) in message
    assert messages(STEP, at(0.3, 20), **config) != []
    assert messages(STEP, at(0.2, 20), **config) == []
    assert messages(STEP, at(0.5, 50), **config) == []
    assert messages(STEP, at(0.5, 20), earliest={"0.5": "2026-11-24T12:00:00Z"}) == []
    assert (
        "earliest has '0.6': '2026-12-01'" in messages(STEP, at(0.5, 20), earliest={"0.6": "2026-12-01"})[0]
    )
    assert "earliest has '0.5': 'soon'" in messages(STEP, at(0.5, 20), earliest={"0.5": "soon"})[0]


def test_a_side_that_pods_belong_on_is_not_retired_altogether() -> None:
    """Nobody tolerates that taint; other taints may be there for these very pods."""
    retired = [{"key": RETIRED.key, "effect": "NO_SCHEDULE"}]
    graviton = node_group("graviton", "m7g.xlarge", taints=retired)
    assert messages(STEP, patches(1.0, 100, 100, 100), graviton, node_group()) == [
        "100 of 100 pods belong on Graviton, and all Graviton node groups are retired (taint "
        "archshift/retired): graviton. Remove retired from one of them."
    ]
    other = node_group("more", "m7g.xlarge")
    assert messages(STEP, patches(1.0, 100, 100, 100), graviton, other, node_group(taints=retired)) == []
    assert messages(STEP, patches(0.8, 100, 80, 80), other, node_group(taints=retired)) == [
        "20 of 100 pods belong on x86, and all x86 node groups are retired (taint archshift/retired): x86. "
        "Remove retired from one of them."
    ]
    dedicated = [{"key": "dedicated", "effect": "NO_SCHEDULE"}]
    assert messages(STEP, patches(0.8, 100, 80, 80), other, node_group(taints=dedicated)) == []


def test_a_step_up_needs_the_gates_pass_for_the_step_before() -> None:
    """Where the stack has a gate: the message has the step, why it is no pass, and the way out."""
    assert messages(STEP, at(0.5, 20), gate()) == []
    assert messages(STEP, at(0.5, 20), gate(verdict="hold")) == [
        "arm_ratio 0.5 is a step up (20 of 100 pods are on Graviton), but it needs a pass of the gate for "
        "step 0.2: it says hold. Run archshift gate --output at 0.2 and commit its file with the "
        "step, or set arm_ratio to 0.2. Or set archshift:policy_exception (rule, reason, until), which "
        "expires by itself."
    ]
    exception = exceptions({"rule": STEP, "reason": "agreed", "until": "2026-11-25"})
    assert messages(STEP, at(0.5, 20), gate(verdict="hold"), exception) == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"verdict": "unknown"}, "it says unknown"),
        ({"verdict": "step-back"}, "it says step-back"),
        ({"verdict": "PASS"}, "it says PASS"),
        ({"problem": "there is no gates/prod.json", "ratio": None}, "there is no gates/prod.json"),
        ({"ratio": None}, "its evidence is incomplete"),
        ({"at": "yesterday"}, "its evidence is incomplete"),
        ({"stack": "staging"}, "it is about the stack staging"),
        ({"stack": None}, "it is about the stack None"),
        ({"ratio": 0.1}, "it is about arm_ratio 0.1"),
        # Asked after the number was changed: what was judged is not what the file says.
        ({"ratio": 0.5}, "it is about arm_ratio 0.5"),
        ({"ratio": 0.8}, "it is about arm_ratio 0.8"),
        ({"at": "2026-11-24T13:30:00Z"}, "its time is in the future (2026-11-24T13:30:00Z)"),
        ({"at": "2026-11-16T11:00:00Z"}, "it is from 2026-11-16T11:00:00Z, more than 8 days ago"),
        (
            {"at": "2026-11-16T11:00:00Z", "since": "2026-11-10T00:00:00Z"},
            "it is from 2026-11-16T11:00:00Z, more than 8 days ago",
        ),
        ({"verdict": UNKNOWN}, "unknown-is-no: this preview does not know verdict of gate"),
        ({"required": UNKNOWN}, "unknown-is-no: this preview does not know required of gate"),
    ],
)
def test_what_is_no_pass_of_the_step_before_refuses(change: dict[str, Any], why: str) -> None:
    """Another verdict, stack, ratio or time; a value that is missing or not known."""
    (message,) = messages(STEP, at(0.5, 20), gate(**change))
    assert why in message


@pytest.mark.parametrize(
    ("ratio", "observed"), [(0.0, 50), (0.2, 0), (0.2, 50), (0.5, 100), (0.5, 50), (0.5, 36), (0.8, 66)]
)
def test_what_is_no_step_up_asks_no_gate(ratio: float, observed: int) -> None:
    """The first step, the way back, and a share that drifted within its step."""
    held = messages(STEP, at(ratio, observed), gate(verdict="hold", ratio=ratio))
    assert not [message for message in held if "needs a pass of the gate" in message]


def test_a_pass_had_to_be_fresh_when_the_step_was_taken() -> None:
    """Weeks later the same step is still a step that passed: an update that sets it right is not refused."""
    old = {"at": "2026-10-01T08:00:00Z", "since": "2026-10-01T08:10:00Z"}
    assert messages(STEP, at(0.5, 20), gate(**old)) == []
    assert messages(STEP, at(0.5, 20), gate(at="2026-10-01T08:00:00Z")) != []


def test_whether_the_gate_counts_is_configurable() -> None:
    """By default where the stack has one; the pack can require it of every stack, or of none."""
    hold, shown = gate(verdict="hold"), gate(verdict="hold", required=False)
    assert messages(STEP, at(0.5, 20)) == messages(STEP, at(0.5, 20), shown) == []
    assert messages(STEP, at(0.5, 20), hold, gate="off") == []
    assert len(messages(STEP, at(0.5, 20), shown, gate="required")) == 1
    assert "the gate for step 0.2: there is no evidence." in messages(STEP, at(0.5, 20), gate="required")[0]
    assert messages(STEP, at(0.5, 20), gate(required=False), gate="required") == []
    assert messages(STEP, at(0.2, 0), gate="required") == []
    assert messages(STEP, at(0.5, 20), gate(at="2026-11-22T08:00:00Z"), gateMaxAgeDays=2) != []


def test_a_capped_fleets_step_is_what_is_wanted_of_it() -> None:
    """Where caps leave 35 of 100 pods at 0.5, 30 of them are a step nearly done and 20 one that begins."""
    assert messages(STEP, patches(0.5, 100, 35, 30), gate(verdict="hold")) == []
    assert messages(STEP, patches(0.5, 100, 35, 20), gate(verdict="hold")) != []


def test_a_step_that_cannot_be_judged_is_refused() -> None:
    """Without the ratio or the observed pods, and with ones that a preview does not know, it is no."""
    for fleet in (
        patches(None, 1, 1, 1),
        patches(0.2, 1, 1, None),
        patches(1.2, 1, 1, 1),
        patches("0.2", 1, 1, 1),
    ):
        assert "The stack does not state its arm_ratio and its fleet" in messages(STEP, fleet)[0]
    assert (
        "unknown-is-no: this preview does not know ratio of workloads"
        in messages(STEP, patches(UNKNOWN, 1, 1, 1))[0]
    )


def test_a_policy_exception_lifts_a_rule_until_it_expires() -> None:
    """In effect it silences its rule alone; expired, unreadable or without a reason it says why not."""
    jump = at(1.0, 0)

    def lift(**change: str) -> Resource:
        return exceptions({"rule": STEP, "reason": "a drill", "until": "2026-11-24", **change})

    assert messages(STEP, jump, lift()) == []
    assert messages(DAEMONSETS, daemonsets(agent="amd64-only"), node("arm", "arm64"), lift()) != []
    for change, why in (
        ({"until": "2026-11-23"}, "its until, 2026-11-23, has passed"),
        ({"until": "2026-11-24T11:00:00+00:00"}, "its until, 2026-11-24T11:00:00+00:00, has passed"),
        ({"until": "next week"}, "its until, 'next week', is invalid; use a date or time such as 2026-12-01"),
        ({"reason": ""}, "it has no reason"),
    ):
        (message,) = messages(STEP, jump, lift(**change))
        assert message.endswith(f"(The policy exception has no effect: {why}.)")
    assert messages(STEP, jump, break_glass()) != []


FLEETS = st.builds(
    lambda pods, ratio, seen: Fleet(ratio, pods, fleet_target(ratio, pods), round(seen * pods)),
    st.integers(0, 400),
    st.sampled_from([0.0, 0.2, 0.5, 0.8, 1.0]) | st.floats(0, 1),
    st.floats(0, 1),
)
RAMP = Ramp(steps=(0.0, 0.2, 0.5, 0.8, 1.0), free_up_to=0.2, tolerance=0.02)


@examples
@given(FLEETS)
def test_from_everywhere_there_is_a_way_up_and_down(fleet: Fleet) -> None:
    """No observed share is a dead end: some step further up and 0.2 below pass; and whatever passes moves the
    fleet by at most the longest distance between two steps' neighbours, unless it goes back to 0.2.
    """
    allowed = [
        step
        for step in RAMP.steps
        if not list(judge(Fleet(step, fleet.pods, fleet.at(step), fleet.graviton), RAMP, NOW))
    ]
    assert 0.0 in allowed
    assert 0.2 in allowed
    if fleet.graviton < fleet.pods:
        assert max(fleet.at(step) for step in allowed) > fleet.graviton
    if not list(judge(fleet, RAMP, NOW)) and fleet.ratio > 0.2 and fleet.pods >= 50:
        # 0.2 to 0.8 is the longest way between the neighbours of a step; tolerance and rounding on top.
        assert abs(fleet.wanted - fleet.graviton) <= 0.6 * fleet.pods + 2


# --- workload-patch-safety ------------------------------------------------------------------


def patch(spec: Any = None, kind: str = "Deployment", **annotations: str) -> Resource:
    """A patch under a named manager; annotations with _ for the characters of theirs."""
    named = {"pulumi.com/patchFieldManager": "archshift/prod", **annotations}
    api = "batch/v1" if kind == "CronJob" else "core/v1" if kind == "Pod" else "apps/v1"
    return resource(
        f"kubernetes:{api}:{kind}Patch",
        f"shop/{kind}/web",
        {"metadata": {"name": "web", "namespace": "shop", "annotations": named}, "spec": spec or {}},
    )


def own_patch(
    spec: Any = None, kind: str = "Deployment", annotations: Mapping[str, str] | None = None, **change: Any
) -> Resource:
    """A patch as archshift registers it."""
    metadata = {"name": "web", "namespace": "shop", "annotations": annotations or {}}
    inputs = {
        "kind": kind,
        "metadata": metadata,
        "spec": spec or {},
        "fieldManager": "archshift/prod/patches",
        "force": False,
    }
    return resource(WORKLOAD_PATCH, f"shop/{kind}/web", {**inputs, **change})


def test_archshifts_own_patches_follow_the_same_rules() -> None:
    """Their manager and force are inputs. Force without a reason only takes back what archshift wrote."""
    taken, reason = {"archshift/taken": "{}"}, {"archshift/force-reason": "the chart is frozen"}
    assert patch_messages(own_patch()) == []
    assert patch_messages(own_patch(force=True)) == []
    assert patch_messages(own_patch(annotations={**taken, **reason}, force=True)) == []
    (message,) = patch_messages(own_patch(annotations=taken, force=True))
    assert "takes fields from their owners by force without a reason" in message
    (message,) = patch_messages(own_patch(fieldManager=""))
    assert "has no field manager" in message
    assert "Set a name in the input fieldManager" in message
    (message,) = patch_messages(own_patch({"replicas": 3.0}, "StatefulSet"))
    assert "shop/StatefulSet/web patches spec.replicas, which a patch cannot restore" in message
    assert "does not know fieldManager of" in patch_messages(own_patch(fieldManager=UNKNOWN))[0]


def test_a_patch_of_scheduling_fields_under_a_name_passes() -> None:
    """What archshift 0.1.0 registers passes, also forced with its reason; other resources are not its
    business.
    """
    spec = {
        "template": {
            "metadata": {"annotations": {"archshift/revision": "1"}},
            "spec": {"nodeSelector": {ARCH: "arm64"}, "tolerations": [], "topologySpreadConstraints": []},
        }
    }
    assert patch_messages(patch(spec)) == []
    assert patch_messages(patch({"jobTemplate": {"spec": {"template": spec["template"]}}}, "CronJob")) == []
    reason = {"pulumi.com/patchForce": "true", "archshift/force-reason": "the chart is frozen"}
    assert patch_messages(patch(spec, **reason)) == []
    assert patch_messages(resource("kubernetes:apps/v1:Deployment", "web", {"spec": {"replicas": 3}})) == []


def test_a_patch_without_a_field_manager_is_named() -> None:
    """A made-up manager is another one in every stack."""
    (message,) = patch_messages(patch(**{"pulumi.com/patchFieldManager": " "}))
    assert "shop/Deployment/web has no field manager" in message
    assert "pulumi.com/patchFieldManager" in message


@pytest.mark.parametrize(
    ("spec", "kind", "path"),
    [
        ({"replicas": 3}, "Deployment", "spec.replicas"),
        ({"selector": {}}, "StatefulSet", "spec.selector"),
        ({"schedule": "* * * * *"}, "CronJob", "spec.schedule"),
        (
            {"template": {"spec": {"containers": [{"image": "a:2"}]}}},
            "DaemonSet",
            "spec.template.spec.containers",
        ),
        ({"template": {"spec": {"containers": UNKNOWN}}}, "Deployment", "spec.template.spec.containers"),
        ({"template": {"metadata": {"labels": {"a": "b"}}}}, "Deployment", "spec.template.metadata.labels"),
        (
            {"jobTemplate": {"spec": {"template": {"spec": {"initContainers": []}}}}},
            "CronJob",
            "spec.jobTemplate.spec.template.spec.initContainers",
        ),
        ({"containers": [{"name": "app"}]}, "Pod", "spec.containers"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_patch_of_a_required_field_is_named(spec: dict[str, Any], kind: str, path: str) -> None:
    """A field that the API requires cannot be restored, so that destroying the patch would fail."""
    (message,) = patch_messages(patch(spec, kind))
    assert f"shop/{kind}/web patches {path}, which a patch cannot restore" in message


def test_force_needs_a_reason_whoever_sets_it() -> None:
    """By annotation, or by the provider for all of its patches."""
    (message,) = patch_messages(patch(**{"pulumi.com/patchForce": "true"}))
    assert "takes fields from their owners by force without a reason" in message
    assert patch_messages(patch(), {"enablePatchForce": "true"}) == [message]
    assert patch_messages(patch(), {"enablePatchForce": "false"}) == []


def test_a_patch_that_is_not_known_is_refused() -> None:
    """Unknown is no, also for single resources."""
    one = resource("kubernetes:apps/v1:DeploymentPatch", "web", {"metadata": UNKNOWN, "spec": {}})
    (message,) = patch_messages(one)
    assert message.startswith("unknown-is-no: this preview does not know metadata of web,")
    one = patch({"template": UNKNOWN})
    assert patch_messages(one)[0].startswith(
        "unknown-is-no: this preview does not know spec.template of shop/Deployment/web"
    )


# --- what is excused ------------------------------------------------------------------------


def test_what_is_excused_is_told_in_every_run() -> None:
    """Break-glass and policy exceptions each have an advisory while they stand in the configuration."""
    (message,) = messages("break-glass-in-use", break_glass())
    assert message.startswith("BREAK-GLASS until 2026-11-24T20:00:00Z, ticket INC-7: the shop is down.")
    (message,) = messages("break-glass-in-use", break_glass(until="2026-11-23"))
    assert message == "BREAK-GLASS is set and has no effect: its until, 2026-11-23, has passed. Remove it."
    both = exceptions(
        {"rule": STEP, "reason": "a drill", "until": "2026-11-30"}, {"rule": "x", "reason": "y", "until": "z"}
    )
    assert messages("policy-exception-in-use", both) == [
        "A policy exception lifts arm-ratio-step until 2026-11-30: a drill.",
        "The policy exception for x has no effect: a policy exception can lift only "
        f"{', '.join(RULES_WITH_EXCEPTIONS)}; use break-glass for the x86 rules. Remove it.",
    ]
    for name in ("break-glass-in-use", "policy-exception-in-use"):
        assert messages(name) == []
        assert messages(name, exceptions()) == []
    unknown = messages(
        "policy-exception-in-use", resource("archshift:index:Exceptions", "o", {"policyExceptions": UNKNOWN})
    )
    assert unknown[0].startswith("unknown-is-no: this preview does not know policyExceptions of o")


def test_a_date_lasts_to_its_end_and_a_time_to_that_time() -> None:
    """Without a zone a time is in UTC."""
    assert end_of("2026-12-01") == datetime(2026, 12, 1, 23, 59, 59, tzinfo=UTC)
    assert end_of("2026-12-01T10:00:00") == datetime(2026, 12, 1, 10, tzinfo=UTC)
    assert end_of("2026-12-01T10:00:00+02:00") == datetime(2026, 12, 1, 8, tzinfo=UTC)
    for text in ("", "tomorrow", "2026-13-01", None, 20261201, True):
        assert end_of(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3920m", 3.92), ("4", 4), (4.0, 4), ("15Gi", 15 * 2**30), ("1e3", 1000), ("1.5k", 1500), (".5", 0.5),
        ("", None), ("Gi", None), ("-1", None), ("1 Gi", None), (None, None), (True, None), ("1e999", None),
    ],
)  # fmt: skip
def test_quantities_are_read_as_kubernetes_writes_them(text: Any, value: float | None) -> None:
    """Anything else is no number, and so no room."""
    assert quantity(text) == (pytest.approx(value) if value is not None else None)


def test_an_unknown_in_one_place_does_not_hide_what_was_found_before_it() -> None:
    """Violations found before the unknown value are reported with it."""
    found = rule(GROUPS).judge(
        stack(node_group("a", labels={"architecture": "arm64"}), node_group("b", labels=UNKNOWN)), {}, NOW
    )
    assert [one.urn.rpartition("::")[2] for one in found] == ["a", "b"]
