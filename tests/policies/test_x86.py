"""The x86 rules: nothing that needs x86 loses it, whatever the evidence and the nodes look like."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archshift.nodes.groups import Taint
from archshift.nodes.node_pools import manifest
from archshift_rules.capacity import Amount, Group, Need, shortage
from archshift_rules.kinds import WORKLOAD_PATCH
from archshift_rules.pack import RULES
from archshift_rules.rule import StackRule
from archshift_rules.stack import Resource, Stack
from tests import build
from tests.policies.stacks import (
    GIB,
    NOW,
    ROOT,
    UNKNOWN,
    audit,
    break_glass,
    entry,
    exceptions,
    messages,
    needy,
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

CAPACITY = "x86-capacity-for-amd64-images"
PROTECTED = "x86-node-group-protected"
ARCH = "kubernetes.io/arch"


def test_a_stack_whose_workloads_are_all_proven_needs_no_x86() -> None:
    """With every workload proven, the last x86 node may go: neither rule says a word."""
    proven = audit({"shop/Deployment/web": entry(), "shop/Deployment/arm": entry("arm64-only")})
    assert messages(CAPACITY, proven, node("arm", "arm64")) == []
    assert messages(PROTECTED, proven, node("x86", protected=False)) == []


@pytest.mark.parametrize("verdict", ["amd64-only", "other", "unknown"])
def test_x86_nodes_cannot_go_while_a_workload_needs_them(verdict: str) -> None:
    """Without x86 nodes the message names the workload, why it is not proven, what it asks for, what there is
    and the way out; unknown counts like amd64-only.
    """
    (message,) = messages(CAPACITY, audit({"shop/Deployment/legacy": entry(verdict)}), node("arm", "arm64"))
    assert message == (
        "1 workload needs x86 nodes: they request 2.0 vCPU, 2.0 GiB and 2 pods, "
        "but there is room for only 0.0 vCPU, 0.0 GiB and 0 pods. Workloads: shop/Deployment/legacy "
        f"(registry.example/{verdict}:1 is {verdict}: no linux/arm64). Keep x86 node groups of that size, or "
        "give these workloads images that run on arm64."
    )


def test_a_workload_that_no_x86_node_could_run_needs_no_capacity() -> None:
    """The evidence says that it has nothing to lose. Whatever is not False counts as needing it."""
    there = [node("arm", "arm64")]
    hopeless = {**entry("amd64-only"), "needsX86Room": False}
    assert messages(CAPACITY, audit({"kube-system/DaemonSet/flannel-arm": hopeless}), *there) == []
    for stated in (True, None, "false", 0):
        unclear = {**entry("amd64-only"), "needsX86Room": stated}
        assert messages(CAPACITY, audit({"shop/Deployment/legacy": unclear}), *there)
    both = audit({"shop/Deployment/legacy": entry("amd64-only"), "shop/DaemonSet/arm": hopeless})
    (message,) = messages(CAPACITY, both, *there)
    assert message.startswith("1 workload needs x86 nodes")
    assert "shop/DaemonSet/arm" not in message


def test_a_lab_node_that_is_yet_to_be_made_counts() -> None:
    """Its preview has no status; the room is its instance type's, and none for a type nobody knows."""

    def planned(kind: str) -> Resource:
        made = node("x86-0")
        labels = {**made.props["metadata"]["labels"], "node.kubernetes.io/instance-type": kind}
        props = {"metadata": {"name": "x86-0", "labels": labels}, "spec": {}}
        return resource("kubernetes:core/v1:Node", "x86-0", props, protected=True)

    assert messages(CAPACITY, needy(), planned("m6i.xlarge")) == []
    assert messages(PROTECTED, needy(), planned("m6i.xlarge")) == []
    (message,) = messages(CAPACITY, needy(), planned("x9z.xlarge"))
    assert "there is room for only 0.0 vCPU, 0.0 GiB and 0 pods" in message


@pytest.mark.parametrize(
    "nodes",
    [
        [node("x86-0")],
        [node_group()],
        [node_pool("x86", (ARCH, "In", ["amd64"]))],
        [node_pool("x86", (ARCH, "NotIn", ["arm64"]), limits={"cpu": "4", "memory": "8Gi"})],
        [node_group(amiType=UNKNOWN)],
        *(
            [
                resource(
                    f"archshift:index:{component}",
                    "node-groups",
                    {"elsewhere": {"amd64": {"nodes": 2, "millicpu": 4000, "memory": 8 * GIB, "pods": 20}}},
                )
            ]
            for component in ("NodeGroups", "EksNodeGroups", "NodePools")
        ),
    ],
    ids=[
        *("lab nodes", "EKS node group", "Karpenter", "Karpenter with limits", "EKS without amiType"),
        *("nodes of others", "nodes of others on EKS", "nodes of others beside Karpenter's"),
    ],
)
def test_every_form_of_x86_nodes_counts(nodes: list[Resource]) -> None:
    """Whoever makes the x86 nodes, a stack with enough of them passes."""
    assert messages(CAPACITY, needy(), *nodes) == []
    assert messages(PROTECTED, needy(), *nodes) == []


def archshifts_pool(name: str, *types: str, protected: bool = True, **options: Any) -> Resource:
    """A NodePool as archshift makes it."""
    spec = manifest(build.node_pool(name, *types, **options))
    return resource("kubernetes:karpenter.sh/v1:NodePool", name, {"spec": spec}, protected=protected)


@pytest.mark.parametrize(
    ("requirements", "enough"),
    [
        ([("category", "In", ["m"]), ("cpu", "Gt", ["1"])], True),
        ([("category", "In", ["m"]), ("generation", "Gt", ["4"]), ("size", "NotIn", ["nano"])], True),
        ([("family", "In", ["m6i"]), ("cpu", "Lt", ["1"])], False),
        ([("generation", "Gte", ["77"])], False),
        ([("category", "DoesNotExist", [])], False),
        ([("category", "Near", ["m"])], False),
    ],
)
@pytest.mark.parametrize("domain", ["karpenter.k8s.aws", "eks.amazonaws.com"])
def test_a_pool_is_as_large_as_the_machines_that_it_may_use(
    domain: str, requirements: list[tuple[str, str, list[str]]], enough: bool
) -> None:
    """By category, generation, size and vCPU, with Karpenter and with EKS Auto Mode; without any machine that
    meets its requirements, a pool has room for no pod.
    """
    entries = [(f"{domain}/instance-{fact}", operator, values) for fact, operator, values in requirements]
    pool = node_pool("x86", (ARCH, "In", ["amd64"]), *entries)
    assert (messages(CAPACITY, needy(), pool) == []) == enough


def test_the_pools_that_archshift_makes_are_read_right() -> None:
    """Their architecture, their limits and their soft taint: an x86 pool of enough vCPU is enough, one of
    less, one with a hard taint and one of Graviton types are not; unprotected, it is told.
    """
    arm = archshifts_pool("graviton", "m7g.xlarge")
    enough = archshifts_pool("x86", "m6i.xlarge", millicpu=4_000)
    for one in RULES:
        if one.name in (CAPACITY, PROTECTED, "node-group-architecture"):
            assert messages(one.name, needy(), arm, enough) == []
    for less in (
        archshifts_pool("x86", millicpu=1_000),
        archshifts_pool("x86", memory=GIB),
        archshifts_pool("x86", taints=(Taint(key="batch"),)),
        archshifts_pool("x86", "m7g.xlarge"),
    ):
        (message,) = messages(CAPACITY, needy(), arm, less)
        assert "shop/Deployment/legacy" in message
    bare = archshifts_pool("x86", protected=False)
    (message,) = messages(PROTECTED, needy(), arm, bare)
    assert message.startswith("The x86 node group x86 is not protected. 1 workload needs x86 nodes")


@pytest.mark.parametrize(
    ("nodes", "room"),
    [
        ([node_group(scalingConfig={"maxSize": 0.0})], "room for only 0.0 vCPU"),
        ([node_group(instance_type="m7g.xlarge")], "room for only 0.0 vCPU"),
        ([node_group(taints=[{"key": "batch", "effect": "NO_SCHEDULE"}])], "x86 has the taint batch"),
        ([node_group(amiType="WINDOWS_CORE_2022_x86_64")], "x86: its nodes run Windows"),
        ([node_group(instanceTypes=["m99.huge"])], "x86: m99.huge is not in the pack's instance_types.json"),
        ([node("x86-0", taints=[{"key": "drain", "effect": "NoExecute"}])], "x86-0 has the taint drain"),
        ([node("x86-0", unschedulable=True)], "x86-0 has the taint node.kubernetes.io/unschedulable"),
        (
            [node_pool("x86", (ARCH, "In", ["amd64"]), limits={"cpu": "1"})],
            "room for only 1.0 vCPU, unlimited GiB",
        ),
        ([node_pool("x86", (ARCH, "In", ["amd64"]), limits={"nodes": 0})], "room for only 0.0 vCPU"),
        ([node_pool("x86", (ARCH, "In", ["arm64"]))], "room for only 0.0 vCPU"),
        ([node_pool("x86", (f"beta.{ARCH}", "In", ["arm64"]))], "room for only 0.0 vCPU"),
        ([node_pool("x86", labels={f"beta.{ARCH}": "arm64"})], "room for only 0.0 vCPU"),
        (
            [node_pool("x86", ("beta.kubernetes.io/instance-type", "In", ["m5.large"]), limits={"nodes": 1})],
            "room for only 1.9 vCPU",
        ),
        ([], "room for only 0.0 vCPU"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_x86_capacity_is_taken_away_in_more_ways_than_one(nodes: list[Resource], room: str) -> None:
    """Maximum size 0, other instance types, a hard taint, a cordon, a limit, a type nobody knows, or no group
    at all: each is a violation that says what does not count.
    """
    (message,) = messages(CAPACITY, needy(), *nodes)
    assert room in message
    assert "shop/Deployment/legacy" in message


def test_the_taints_of_a_new_node_and_soft_ones_do_not_count() -> None:
    """A node that is not ready yet, and the soft taint of each side, turn nobody away for good."""
    taints = [
        {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"},
        {"key": "archshift/amd64", "effect": "PreferNoSchedule"},
    ]
    assert messages(CAPACITY, needy(), node("x86-0", taints=taints)) == []


def test_a_pod_that_fits_no_node_is_named() -> None:
    """Enough in all is not enough: a pod larger than every x86 node is said, with its size."""
    large = audit(
        {"shop/StatefulSet/db": entry("amd64-only", pods=1, requests={"millicpu": 5000, "memory": GIB})}
    )
    (message,) = messages(CAPACITY, large, node("x86-0"), node("x86-1"))
    assert "no node is large enough for a pod of shop/StatefulSet/db (5 vCPU, 1 GiB)" in message


def test_no_evidence_is_no_proof() -> None:
    """A stack of archshift's without evidence, or with two statements of it, is a violation of both rules."""
    for audits, why in (
        ([], "it has no ImageAudit"),
        ([needy(), twin()], "it has 2 resources ImageAudit instead of 1"),
    ):
        (message,) = messages(CAPACITY, *audits, node("x86-0"))
        assert why in message
        assert "archshift:images.check" in message
        (message,) = messages(PROTECTED, *audits, node("x86-0", protected=False))
        assert f"without x86 nodes ({why}): every x86 node must be protected. Set protect" in message
        assert message.startswith("Too few x86 nodes are protected. No workload is proven to run")


def twin() -> Resource:
    """A second statement of evidence."""
    return resource("archshift:index:ImageAudit", "images-2", {"workloads": {}})


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"checkedAt": (NOW - timedelta(days=9)).isoformat()}, "it is 9.0 days old"),
        ({"checkedAt": (NOW + timedelta(days=1)).isoformat()}, "its time is in the future"),
        ({"checkedAt": ""}, "it has no valid time ('')"),
        ({"checkedAt": "yesterday"}, "it has no valid time ('yesterday')"),
        ({"verdict": "fine"}, "its verdict 'fine' is invalid; use multi-arch,"),
        ({"images": []}, "it claims multi-arch without an image"),
        ({"images": "none"}, "it claims multi-arch without an image"),
        (
            {"blocking": [{"container": "app"}]},
            "it claims multi-arch, but also names containers that block it",
        ),
        (
            {"images": [{"image": "a:1", "verdict": "amd64-only", "digest": "sha256:" + "a" * 64}]},
            "it claims multi-arch, but a:1 is amd64-only",
        ),
        (
            {"images": [{"image": "a:1", "verdict": "multi-arch", "digest": ""}]},
            "it claims multi-arch, but has no digest for a:1",
        ),
        ({"pods": None}, "it has no valid pods or requests"),
        ({"requests": {"millicpu": -1, "memory": 0}}, "it has no valid pods or requests"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_evidence_that_is_old_truncated_or_forged_proves_nothing(
    change: dict[str, Any], problem: str
) -> None:
    """The workload counts as one that needs x86, and the rule says what is wrong with its evidence."""
    found = messages(CAPACITY, audit({"shop/Deployment/web": entry(**change)}))
    assert len(found) == 2
    assert found[0].startswith("The evidence is invalid for shop/Deployment/web (")
    assert problem in found[0]
    assert "1 workload needs x86 nodes" in found[1]


@pytest.mark.parametrize(
    ("verdict", "pins", "needs"),
    [
        ("unknown", "arm64", False),
        ("unknown", "amd64", True),
        ("unknown", "amd64,arm64", True),
        ("unknown", None, True),
        ("multi-arch", "amd64", True),
        ("multi-arch", "another architecture", True),
        ("multi-arch", "amd64,arm64", False),
        ("multi-arch", "arm64", False),
    ],
)
def test_what_binds_itself_to_one_side_needs_that_side(verdict: str, pins: str | None, needs: bool) -> None:
    """Unproven, a workload that pins arm64 needs no x86 node; proven, one that pins amd64 does."""
    bound = audit({"shop/Deployment/bound": entry(verdict, pins=pins)})
    assert (messages(CAPACITY, bound) != []) == needs
    assert (messages(PROTECTED, bound, node("x86", protected=False)) != []) == needs


def test_the_age_of_evidence_is_configurable() -> None:
    """The same evidence passes or not by maxAgeDays."""
    proven = audit({"shop/Deployment/web": entry()})
    assert messages(CAPACITY, proven, maxAgeDays=1.5) == []
    assert "it is 1.0 days old" in messages(CAPACITY, proven, maxAgeDays=0.5)[0]


def pods(type_: str, image: str, **more: Any) -> Resource:
    """A Deployment or the like that the stack itself declares."""
    spec = {
        "containers": [
            {"name": "app", "image": image, "resources": {"requests": {"cpu": "2", "memory": "1Gi"}}}
        ]
    }
    return resource(
        type_,
        "new",
        {"metadata": {"name": "new", "namespace": "shop"}, "spec": {"template": {"spec": spec}, **more}},
    )


def test_a_pod_template_of_the_stack_needs_evidence_too() -> None:
    """A Deployment that the same stack declares is named with the image that nobody checked; one whose image
    is known as amd64-only counts with its replicas.
    """
    proven = audit({"shop/Deployment/web": entry()})
    new = pods("kubernetes:apps/v1:Deployment", "registry.example/new:1")
    (message,) = messages(CAPACITY, proven, new, node("x86-0"))
    assert "There is no evidence for registry.example/new:1 of shop/Deployment/new" in message
    known = pods("kubernetes:apps/v1:Deployment", "registry.example/multi-arch:1")
    assert messages(CAPACITY, proven, known) == []
    bad = pods("kubernetes:apps/v1:StatefulSet", "registry.example/amd64-only:1", replicas=3.0)
    (message,) = messages(CAPACITY, needy(), bad, node("x86-0"))
    assert "they request 8.0 vCPU, 5.0 GiB and 5 pods" in message
    assert "shop/StatefulSet/new (declared in this stack)" in message


def test_the_image_of_a_volume_needs_evidence_too() -> None:
    """A node pulls it for its own architecture."""
    spec = {
        "containers": [{"name": "app", "image": "registry.example/multi-arch:1"}],
        "volumes": [
            {"name": "token", "projected": {}},
            {"name": "plugins", "image": {"reference": "registry.example/plugins:1"}},
        ],
    }
    new = resource(
        "kubernetes:apps/v1:Deployment",
        "new",
        {"metadata": {"name": "new", "namespace": "shop"}, "spec": {"template": {"spec": spec}}},
    )
    (message,) = messages(CAPACITY, audit({"shop/Deployment/web": entry()}), new, node("x86-0"))
    assert "There is no evidence for registry.example/plugins:1 of shop/Deployment/new" in message


def test_an_image_that_admission_replaces_needs_no_evidence_of_its_own() -> None:
    """What its pods run has it; the same name in another workload proves nothing."""
    gateway = pods("kubernetes:apps/v1:Deployment", "auto")
    replaced = entry() | {"replaced": {"auto": "registry.example/multi-arch:1"}}
    assert messages(CAPACITY, audit({"shop/Deployment/new": replaced}), gateway) == []
    (message,) = messages(CAPACITY, audit({"shop/Deployment/other": replaced}), gateway, node("x86-0"))
    assert "There is no evidence for auto of shop/Deployment/new" in message


def test_a_resource_without_pods_may_have_any_name() -> None:
    """Its name may be unknown in a preview; only a workload needs one that the evidence has."""
    unknown = resource("kubernetes:core/v1:ConfigMap", "settings", {"metadata": {"name": UNKNOWN}})
    assert messages(CAPACITY, audit({"shop/Deployment/web": entry()}), unknown) == []


@pytest.mark.parametrize("type_", [WORKLOAD_PATCH, "kubernetes:apps/v1:DeploymentPatch"])
def test_a_patched_workload_without_evidence_is_named(type_: str) -> None:
    """Evidence from which a workload was cut out, while the stack still patches it, is a violation."""
    patch = resource(
        type_,
        "shop/Deployment/gone",
        {"kind": "Deployment", "metadata": {"name": "gone", "namespace": "shop"}, "spec": {}},
    )
    (message,) = messages(CAPACITY, audit({}), patch)
    assert "There is no evidence for shop/Deployment/gone, but this stack places its pods" in message


def test_an_entry_without_evidence_is_named() -> None:
    """With placement at admission, a workload's entry is what a patch is otherwise."""
    data = {
        "Deployment.web": "1 of 2 on arm64",
        "StatefulSet.gone.db": "all on arm64",
        "Deployment.other": "left alone",
        "others": "all on amd64",
    }
    placement = resource("archshift:index:PlacementPolicy", "placement", {"entries": {"shop": data}})
    (message,) = messages(CAPACITY, audit({"shop/Deployment/web": entry()}), placement)
    assert "There is no evidence for shop/StatefulSet/gone.db, but this stack places its pods" in message


def test_bare_groups_are_named_one_by_one() -> None:
    """Groups of EKS and Karpenter that lack protect, where those that have it do not carry what needs x86."""
    found = rule(PROTECTED).judge(
        stack(
            needy(),
            node_group("x86-a", protected=False),
            node_group("x86-b", scalingConfig={"maxSize": 0.0}),
            node_group("graviton", "m7g.xlarge", protected=False),
            node_pool("pool", (ARCH, "In", ["amd64"]), protected=False),
            node_pool("any", protected=False),
        ),
        {},
        NOW,
    )
    assert [one.urn.rpartition("::")[2] for one in found] == ["x86-a", "any", "pool"]
    assert found[0].message == (
        "The x86 node group x86-a is not protected. 1 workload needs x86 nodes "
        "(shop/Deployment/legacy: registry.example/amd64-only:1 is amd64-only: no linux/arm64). Set protect "
        "on it; archshift removes it when all of them are proven."
    )


def test_groups_beyond_those_that_carry_the_need_may_go() -> None:
    """As the program protects them: one group of two is enough, so the other is no violation."""
    assert messages(PROTECTED, needy(), node_group("x86-a", protected=False), node_group("x86-b")) == []


def test_of_the_labs_nodes_as_many_are_protected_as_are_needed() -> None:
    """One protected node of 4 vCPU is enough for 2; with more asked for, the others are named."""
    assert messages(PROTECTED, needy(), node("a"), node("b", protected=False)) == []
    more = audit({"shop/Deployment/legacy": entry("amd64-only", pods=5)})
    (message,) = messages(PROTECTED, more, node("a"), node("b", protected=False), node("c", protected=False))
    assert "they request 5.0 vCPU, 5.0 GiB and 5 pods, but there is room for only 4.0 vCPU" in message
    assert "Set protect on more of b, c;" in message
    assert messages(PROTECTED, more, node("a"), node("b"), node("c", protected=False)) == []


@pytest.mark.parametrize("name", [CAPACITY, PROTECTED])
def test_break_glass_lifts_the_x86_rules_for_a_day_at_most(name: str) -> None:
    """In effect it silences them; expired, too long, unreadable or without a reason it does not, and each
    violation says why.
    """
    bare = (needy(), node_group(protected=False, scalingConfig={"maxSize": 0.0}))
    assert messages(name, *bare, break_glass()) == []
    for change, why in (
        ({"until": "2026-11-24T11:59:00Z"}, "its until, 2026-11-24T11:59:00Z, has passed"),
        ({"until": "2026-11-25T12:01:00Z"}, "its until, 2026-11-25T12:01:00Z, is more than 24 hours ahead"),
        ({"until": "soon"}, "its until, 'soon', is invalid; use a date or time such as 2026-12-01"),
        ({"reason": " "}, "it has no reason"),
        ({"ticket": ""}, "it has no ticket"),
    ):
        found = messages(name, *bare, break_glass(**change))
        assert found
        assert all(message.endswith(f"(Break-glass has no effect: {why}.)") for message in found)


def test_a_policy_exception_does_not_lift_the_x86_rules() -> None:
    """A policy exception is no break-glass: it names the x86 rule, and the violation stays and says so."""
    lift = exceptions({"rule": CAPACITY, "reason": "we know", "until": "2027-01-01"})
    (message,) = messages(CAPACITY, needy(), lift)
    assert (
        "(The policy exception has no effect: a policy exception can lift only arm-ratio-step, daemonset-"
        in message
    )


@pytest.mark.parametrize(
    ("resources", "path", "at"),
    [
        ([audit(UNKNOWN), node("x86")], "workloads of images", "images"),
        ([audit({"shop/Deployment/web": UNKNOWN})], "workloads.shop/Deployment/web of images", "images"),
        ([needy(), node_group(scalingConfig={"maxSize": UNKNOWN})], "scalingConfig.maxSize of x86", "x86"),
        ([needy(), node_group(instanceTypes=UNKNOWN)], "instanceTypes of x86", "x86"),
        ([needy(), node("x86-0", taints=UNKNOWN)], "spec.taints of x86-0", "x86-0"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_unknown_is_no(resources: list[Resource], path: str, at: str) -> None:
    """A value that the preview does not know is a violation of the rule itself, at the resource that has it;
    the SDK would turn it into an advisory.
    """
    found = rule(CAPACITY).judge(stack(*resources), {}, NOW)
    assert [one.urn.rpartition("::")[2] for one in found] == [at]
    assert found[0].message.startswith(f"unknown-is-no: this preview does not know {path},")


def test_an_unknown_size_of_a_graviton_group_is_no_obstacle() -> None:
    """What the rule does not need to know may be unknown."""
    arm = node_group("arm", "m7g.xlarge", scalingConfig={"maxSize": UNKNOWN}, nodeGroupName=UNKNOWN)
    assert messages(CAPACITY, needy(), arm, node("x86")) == []


def test_an_unknown_break_glass_has_no_effect() -> None:
    """Break-glass must be readable to be in effect."""
    (message,) = messages(CAPACITY, needy(), break_glass(until=UNKNOWN))
    assert message.endswith(
        "(The policy exception has no effect: this preview does not know breakGlass.until.)"
    )


def test_a_stack_that_is_not_archshifts_is_left_alone() -> None:
    """A published pack meets every stack of an organisation, with whatever it has."""
    ours = [
        node_group("workers", protected=False, labels={"architecture": "arm64"}),
        resource("kubernetes:apps/v1:DeploymentPatch", "web", {"spec": {"replicas": 3}}),
    ]
    theirs = [replace(one, urn=one.urn.replace("::archshift::", "::website::")) for one in ours]
    for one in RULES:
        if isinstance(one, StackRule):
            assert one.judge(Stack.of(theirs), {}, NOW) == []
    assert patch_messages(ours[1]) != []
    assert patch_messages(theirs[1]) == []


def test_violations_name_a_resource_of_the_stack() -> None:
    """Engine 3.245 panics at a violation without a URN: with nothing else to name, it is the stack itself."""
    (found,) = rule(CAPACITY).judge(stack(), {}, NOW)
    assert found.urn == ROOT


AMOUNTS = st.builds(
    Amount,
    st.integers(0, 16_000).map(float),
    st.integers(0, 64 * GIB).map(float),
    st.integers(0, 110).map(float),
)
NEEDS = st.lists(
    st.builds(
        Need,
        st.from_regex(r"[a-z]/Deployment/[a-z]{1,3}", fullmatch=True),
        st.integers(1, 9).map(float),
        st.builds(Amount, st.integers(0, 4000).map(float), st.integers(0, GIB).map(float), st.just(1.0)),
    ),
    max_size=8,
)


def groups(rooms: list[Amount]) -> list[Group]:
    """One group of one node for each."""
    return [
        Group(
            name=str(index),
            urn=str(index),
            kind="Node",
            architectures=frozenset({"amd64"}),
            total=room,
            node=room,
        )
        for index, room in enumerate(rooms)
    ]


@examples
@given(NEEDS, st.lists(AMOUNTS, max_size=6), AMOUNTS)
def test_more_nodes_never_lack_what_fewer_held(needs: list[Need], rooms: list[Amount], more: Amount) -> None:
    """Adding a node turns no pass into a violation, taking a need away neither; what passes fits."""
    before = shortage(needs, groups(rooms))
    if not before:
        assert shortage(needs, groups([*rooms, more])) == ""
        assert shortage(needs[1:], groups(rooms)) == ""
        for dimension in ("millicpu", "memory", "pods"):
            wanted = sum(getattr(need.size, dimension) * need.pods for need in needs)
            assert wanted <= sum(getattr(room, dimension) for room in rooms)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=6) | st.just(UNKNOWN),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "verdict": st.sampled_from(
            ["multi-arch", "arm64-only", "amd64-only", "other", "unknown", "Multi-Arch"]
        )
        | JSON,
        "blocking": st.just([]) | JSON,
        "images": st.just([{"image": "a:1", "digest": f"sha256:{'b' * 64}", "verdict": "multi-arch"}]) | JSON,
        "checkedAt": st.just(NOW.isoformat()) | JSON,
        "pods": st.integers(0, 50) | JSON,
        "requests": st.just({"millicpu": 100, "memory": 1}) | JSON,
    },
)


@examples
@given(st.dictionaries(st.just("shop/Deployment/web"), ENTRIES | JSON, min_size=1))
def test_without_x86_nodes_only_a_sound_proof_passes(workloads: dict[str, Any]) -> None:
    """Whatever is written in the evidence, the rule ends, and passes only if every part says yes."""
    stated = workloads["shop/Deployment/web"]
    if not messages(CAPACITY, audit(workloads)):
        assert stated["verdict"] in ("multi-arch", "arm64-only")
        assert not stated.get("blocking")
        assert stated["images"]
        assert all(one["verdict"] in ("multi-arch", "arm64-only") for one in stated["images"])
        assert stated["checkedAt"]
        assert stated["pods"] is not None


def imported(**props: Any) -> Resource:
    """A group of archshift's component, with a launch template and an image that the stack did not make."""
    urn = f"urn:pulumi:prod::archshift::{COMPONENT}$aws:eks/nodeGroup:NodeGroup::x86"
    inputs = {
        "amiType": "CUSTOM",
        "launchTemplate": {"id": "lt-of-others", "version": "4"},
        "scalingConfig": {"maxSize": 1.0},
        **props,
    }
    return Resource(type="aws:eks/nodeGroup:NodeGroup", urn=urn, props=inputs, protected=True)


COMPONENT = "archshift:index:EksNodeGroups"


@pytest.mark.parametrize(
    ("types", "room"),
    [
        ({"x86": ["m5.2xlarge"]}, ""),
        ({"x86": ["m5.large"]}, "there is room for only 1.9 vCPU"),
        ({"x86": ["m7g.2xlarge"]}, "there is room for only 0.0 vCPU"),
        ({"other": ["m5.2xlarge"]}, "there is room for only 0.0 vCPU"),
        ({}, "there is room for only 0.0 vCPU"),
    ],
    ids=["large", "small", "Graviton", "of another group", "unknown"],
)
def test_the_types_of_a_launch_template_are_those_that_the_component_names(types: Any, room: str) -> None:
    """They are in no input of the group. Without them it is neither x86 nor Graviton, and has no room."""
    legacy = audit(
        {"shop/Deployment/legacy": entry("amd64-only", requests={"millicpu": 2000, "memory": GIB})}
    )
    found = messages(CAPACITY, legacy, imported(), resource(COMPONENT, "node-groups", {"types": types}))
    assert bool(found) == bool(room)
    assert room in "".join(found)


def test_types_of_a_component_are_those_of_its_own_groups() -> None:
    """A group of that name elsewhere in the stack has the type that EKS gives it."""
    component = resource(COMPONENT, "node-groups", {"types": {"x86": ["m5.24xlarge"]}})
    foreign = node_group("x86", instanceTypes=[], scalingConfig={"maxSize": 1.0})
    (message,) = messages(CAPACITY, needy(), foreign, component)
    assert "there is room for only 1.9 vCPU" in message


def test_an_image_with_types_in_the_launch_template_still_has_its_architecture() -> None:
    """The component's types are compared with the group's labels too."""
    component = resource(COMPONENT, "node-groups", {"types": {"x86": ["m5.large"]}})
    group = imported(labels={"architecture": "arm64"})
    (message,) = messages("node-group-architecture", group, component)
    assert "instance type m5.large (amd64); label architecture (arm64)" in message


@examples
@given(
    st.dictionaries(
        st.sampled_from(
            ["metadata", "spec", "status", "scalingConfig", "instanceTypes", "taints", "elsewhere", "types"]
        ),
        JSON,
    )
)
def test_no_shape_of_a_resource_breaks_a_rule(props: dict[str, Any]) -> None:
    """A rule that raised would end the preview with a stack trace instead of a sentence."""
    types = (
        "kubernetes:core/v1:Node",
        "aws:eks/nodeGroup:NodeGroup",
        "aws:ec2/launchTemplate:LaunchTemplate",
        "kubernetes:karpenter.sh/v1:NodePool",
        "archshift:index:NodeGroups",
        COMPONENT,
        "archshift:index:WorkloadPatches",
        "archshift:index:Exceptions",
        "kubernetes:apps/v1:Deployment",
        "kubernetes:batch/v1:CronJob",
        "kubernetes:apps/v1:DaemonSetPatch",
        WORKLOAD_PATCH,
    )
    everything = [resource(type_, "one", props) for type_ in types]
    for name in (
        CAPACITY,
        PROTECTED,
        "node-group-architecture",
        "daemonset-runs-on-every-architecture",
        "arm-ratio-step",
        "break-glass-in-use",
        "policy-exception-in-use",
    ):
        for found in rule(name).judge(
            stack(needy(), patches(props.get("spec"), 1, 2, 3), *everything), {}, NOW
        ):
            assert found.message
            assert found.urn


@pytest.mark.parametrize(
    ("verdict", "needs"), [("multi-arch", True), ("amd64-only", True), ("arm64-only", False)]
)
def test_what_only_x86_nodes_can_run_needs_them(verdict: str, needs: bool) -> None:
    """A device or a volume binds it, whatever its images are; the message repeats the reason."""
    reason = "no Graviton node has 1 nvidia.com/gpu for one pod"
    bound = audit({"shop/Deployment/bound": entry(verdict, onlyX86=reason)})
    found = messages(CAPACITY, bound)
    assert (found != []) == needs
    if verdict == "multi-arch":
        assert f"Workloads: shop/Deployment/bound ({reason})." in found[0]
    assert (messages(PROTECTED, bound, node("x86", protected=False)) != []) == needs


@pytest.mark.parametrize(
    ("resources", "of_pod", "words"),
    [
        ({"limits": {"cpu": "2", "memory": "1Gi"}}, None, "2.0 vCPU, 1.0 GiB"),
        ({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}, None, "1.0 vCPU, 0.0 GiB"),
        ({}, {"requests": {"cpu": "3", "memory": "2Gi"}}, "3.0 vCPU, 2.0 GiB"),
        ({}, {"limits": {"cpu": "3"}}, "3.0 vCPU, 0.0 GiB"),
        ({}, None, "0.0 vCPU, 0.0 GiB"),
    ],
)
def test_a_template_of_the_stack_requests_its_limits(resources: Any, of_pod: Any, words: str) -> None:
    """Kubernetes takes the limit if there is no request, and the pod's own requests if there are some."""
    legacy = audit(
        {"shop/Deployment/old": entry("amd64-only", pods=1, requests={"millicpu": 0, "memory": 0})}
    )
    container = {"name": "app", "image": "registry.example/amd64-only:1", "resources": resources}
    spec = {"containers": [container], **({"resources": of_pod} if of_pod else {})}
    new = resource(
        "kubernetes:apps/v1:Deployment",
        "new",
        {"metadata": {"name": "new", "namespace": "shop"}, "spec": {"template": {"spec": spec}}},
    )
    (message,) = messages(CAPACITY, legacy, new)
    assert f"they request {words} and 2 pods" in message


@pytest.mark.parametrize("change", [{"launchTemplate": UNKNOWN}, {"launchTemplate": {"id": UNKNOWN}}])
def test_a_launch_template_that_the_preview_does_not_know_is_a_violation(change: dict[str, Any]) -> None:
    """The engine would make a remark of it, and the update would go on."""
    group = node_group(instance_type="m5.24xlarge", amiType="CUSTOM", **change)
    template = resource(
        "aws:ec2/launchTemplate:LaunchTemplate", "lt", {"id": "lt-1", "instanceType": "m7g.large"}
    )
    for name in (CAPACITY, PROTECTED, "node-group-architecture"):
        (message,) = messages(name, needy(), group, template)
        assert message.startswith("unknown-is-no: this preview does not know launchTemplate")


@pytest.mark.parametrize("values", [None, "amd64", 5.0, {"a": 1}, [None], [[]]])
def test_odd_values_of_a_requirement_prove_no_x86(values: Any) -> None:
    """Kubernetes refuses most of them, but a preview does not ask it."""
    pool = resource(
        "kubernetes:karpenter.sh/v1:NodePool",
        "x86",
        {
            "spec": {
                "template": {"spec": {"requirements": [{"key": ARCH, "operator": "In", "values": values}]}}
            }
        },
    )
    (message,) = messages(CAPACITY, needy(), pool)
    assert "there is room for only 0.0 vCPU" in message
