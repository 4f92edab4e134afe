"""NodePools that the stack takes over: they stay as they are, but for what the settings change."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from archshift.common.errors import ArchshiftError
from archshift.nodes.groups import NodePool, Taint
from archshift.nodes.node_pools import LivePool, manifest
from archshift.settings import stack as stack_settings
from tests.build import ARCH, configuration, live_pool

EC2 = "karpenter.k8s.aws/instance-"
SPLIT = {"x86": {"import": "default", "architecture": "amd64"}, "graviton": {"twin_of": "x86"}}
X86_ONLY = ((ARCH, "In", ["amd64"]), (f"{EC2}family", "In", ["m6i"]), (f"{EC2}cpu", "Gt", ["3"]))


def adopted(
    groups: Mapping[str, Any], *live: LivePool, provisioner: str = "karpenter", **values: Any
) -> dict[str, NodePool]:
    """The pools of a stack that takes over NodePools of its cluster."""
    values = {"arm_ratio": "0.2", "provisioner": provisioner, "node_groups": groups, **values}
    settings = stack_settings.load("prod", configuration(**values))
    assert settings.takes_over_pools
    pools = {pool.name: pool for pool in live or (live_pool(),)}
    return dict(settings.with_live_pools(pools).node_pools)


def refused(groups: Mapping[str, Any], *live: LivePool, **values: Any) -> str:
    """The sentence with which it is refused."""
    with pytest.raises(ArchshiftError) as error:
        adopted(groups, *live, **values)
    return str(error.value).removeprefix("archshift:node_groups.")


def listed(pool: NodePool) -> dict[tuple[str, str], list[str]]:
    """A pool's requirements: key and operator to values."""
    return {
        (entry["key"], entry["operator"]): entry["values"]
        for entry in manifest(pool)["template"]["spec"]["requirements"]
    }


def test_a_pool_is_taken_over_as_it_is() -> None:
    """Its spec is the live one, with budgets that no setting can say. Its nodes are counted by its own name.
    archshift adds no label and no taint, because that would replace all of them.
    """
    live = live_pool("default", *X86_ONLY)
    pool = adopted({"x86": {"import": "default"}}, live)["x86"]
    assert manifest(pool) == live.spec
    assert (pool.name, pool.pool_name, pool.millicpu) == ("x86", "default", 1_000_000)
    assert {kind.family for kind in pool.instance_types} == {"m6i"}
    assert min(kind.vcpu for kind in pool.instance_types) == 4
    assert dict(pool.node_labels) == {"team": "shop"}
    assert pool.possible_nodes()[0].labels["karpenter.sh/nodepool"] == "default"
    assert pool.taints == (Taint(key="batch"),)


def test_settings_change_what_they_say_and_nothing_else() -> None:
    """Labels and annotations are added, limits by resource; lists of taints are replaced; one bound of a
    number leaves the other; equal numbers keep their text, which belongs to another owner.
    """
    live = live_pool("default", *X86_ONLY)
    before = deepcopy(live.spec)
    change = {
        "import": "default",
        "limits": {"cpu": 1000, "memory": "64Gi"},
        "labels": {"tier": "web"},
        "annotations": {"example.com/owner": "shop"},
        "taints": [],
        "startup_taints": [{"key": "boot", "effect": "NoExecute"}],
        "zones": ["eu-west-1a"],
        "max_vcpu": 8,
        "instance_types": ["m6i.xlarge", "m6i.2xlarge"],
        "expire_after": "24h",
        "termination_grace_period": "1h",
        "consolidation": "when-empty-or-underutilized",
        "consolidate_after": "5m",
        "budget": 2,
        "weight": 3,
        "node_class": "other",
    }
    pool = adopted({"x86": change}, live)["x86"]
    after = manifest(pool)
    assert after["limits"] == {"cpu": "1k", "memory": "65536Mi"}
    assert after["disruption"] == {
        "consolidationPolicy": "WhenEmptyOrUnderutilized",
        "consolidateAfter": "5m",
        "budgets": [{"nodes": "2"}],
    }
    assert after["weight"] == 3
    assert after["template"]["metadata"] == {
        "labels": {"team": "shop", "tier": "web"},
        "annotations": {"example.com/owner": "shop"},
    }
    inner = after["template"]["spec"]
    assert inner["nodeClassRef"]["name"] == "other"
    assert (inner["taints"], inner["startupTaints"]) == ([], [{"key": "boot", "effect": "NoExecute"}])
    assert (inner["expireAfter"], inner["terminationGracePeriod"]) == ("24h", "1h")
    assert listed(pool) == {
        (ARCH, "In"): ["amd64"],
        (f"{EC2}family", "In"): ["m6i"],
        (f"{EC2}cpu", "Gt"): ["3"],
        (f"{EC2}cpu", "Lt"): ["9"],
        ("node.kubernetes.io/instance-type", "In"): ["m6i.xlarge", "m6i.2xlarge"],
        ("topology.kubernetes.io/zone", "In"): ["eu-west-1a"],
    }
    assert live.spec == before
    assert "limits" not in manifest(adopted({"x86": {"import": "default", "limits": "none"}}, live)["x86"])


def test_a_pool_for_both_architectures_becomes_two() -> None:
    """The x86 pool keeps all but one requirement, and its twin has all of it for Graviton."""
    live = live_pool()
    pools = adopted(SPLIT, live)
    x86, graviton = manifest(pools["x86"]), manifest(pools["graviton"])
    narrowed = deepcopy(x86)
    requirements = narrowed["template"]["spec"]["requirements"]
    assert requirements.pop(0) == {"key": ARCH, "operator": "In", "values": ["amd64"]}
    whole = deepcopy(live.spec)
    assert requirements == whole["template"]["spec"]["requirements"][1:]
    narrowed["template"]["spec"].pop("requirements")
    whole["template"]["spec"].pop("requirements")
    assert narrowed == whole

    assert listed(pools["graviton"])[ARCH, "In"] == ["arm64"]
    assert listed(pools["graviton"])[f"{EC2}generation", "Gt"] == ["4"]
    assert graviton["template"]["metadata"]["labels"] == {
        "team": "shop",
        "architecture": "arm64",
        "archshift/node-group": "graviton",
    }
    for key in ("limits", "disruption", "weight"):
        assert graviton[key] == live.spec[key]
    for key in ("taints", "startupTaints", "expireAfter", "terminationGracePeriod", "nodeClassRef"):
        assert graviton["template"]["spec"][key] == live.spec["template"]["spec"][key]
    assert {kind.architecture for kind in pools["x86"].instance_types} == {"amd64"}
    assert {kind.architecture for kind in pools["graviton"].instance_types} == {"arm64"}


def test_a_pool_for_both_architectures_needs_a_choice() -> None:
    """Narrowing it replaces its arm64 nodes, so somebody must want it."""
    for live in (live_pool(), live_pool("default", (f"{EC2}category", "In", ["m"]))):
        assert refused({"x86": {"import": "default"}}, live) == (
            "x86.import: the NodePool 'default' makes nodes of both architectures; add architecture: amd64 "
            "to narrow it to x86, and a Graviton group with twin_of beside it"
        )


def test_a_twin_follows_its_original_but_never_replaces_its_own_nodes_for_it() -> None:
    """Limits and requirements follow. A field of the template stays as the twin has it, and that is said;
    what the settings say goes through.
    """
    made = LivePool(name="graviton", spec=manifest(adopted(SPLIT)["graviton"]))
    unchanged = adopted(SPLIT, live_pool(), made)["graviton"]
    assert manifest(unchanged) == made.spec
    assert unchanged.notes == ()

    spec = deepcopy(dict(live_pool().spec))
    spec["template"]["metadata"]["labels"]["team"] = "bank"
    spec["template"]["spec"]["expireAfter"] = "24h"
    spec["limits"] = {"cpu": "500"}
    later = LivePool(name="default", spec=spec)
    followed = adopted(SPLIT, later, made)["graviton"]
    assert manifest(followed) == {**made.spec, "limits": {"cpu": "500"}}
    assert followed.notes == (
        "graviton: it keeps its expireAfter and labels, although x86 has others, because a change replaces "
        "all of its nodes; to change them, set them for graviton",
    )
    groups = {**SPLIT, "graviton": {"twin_of": "x86", "expire_after": "24h", "labels": {"team": "bank"}}}
    set_ = adopted(groups, later, made)["graviton"]
    assert manifest(set_)["template"]["spec"]["expireAfter"] == "24h"
    assert set_.notes == ()


def test_the_soft_taint_comes_to_both_pools_or_to_none() -> None:
    """On one side alone it would push all pods to the other."""
    assert not any("archshift" in taint.key for pool in adopted(SPLIT).values() for taint in pool.taints)
    groups = {**SPLIT, "x86": {**SPLIT["x86"], "side_taint": True}}
    pools = adopted(groups)
    assert Taint(key="archshift/amd64", effect="PreferNoSchedule") in pools["x86"].taints
    assert Taint(key="archshift/arm64", effect="PreferNoSchedule") in pools["graviton"].taints


@pytest.mark.parametrize(
    ("groups", "live", "sentence"),
    [
        (
            {"x86": {"import": "main"}},
            [live_pool("a"), live_pool("b")],
            "x86.import: the cluster has no NodePool 'main'; there are: a, b",
        ),
        (
            {"x86": {"import": "default", "provisioner": "auto-mode"}},
            [live_pool()],
            "x86.import: the NodePool 'default' has a node class of the kind EC2NodeClass, not NodeClass; "
            "add provisioner: karpenter to the group",
        ),
        (
            {"x86": {"import": "default"}, "more": {"import": "default"}},
            [live_pool("default", *X86_ONLY)],
            "more.import: x86 takes over the NodePool 'default' already; remove one of the two groups",
        ),
        (
            {"x86": {"import": "default"}},
            [live_pool("default", *X86_ONLY, replicas=3)],
            "x86.import: the NodePool 'default' has a fixed number of nodes (spec.replicas); remove the "
            "group; its nodes count as nodes of others",
        ),
        (
            {"x86": {"import": "default"}},
            [live_pool("default", ("kubernetes.io/os", "In", ["windows"]), (ARCH, "In", ["amd64"]))],
            "x86.import: no known Linux instance type meets the requirements of the NodePool 'default'; "
            "remove",
        ),
        (
            {"x86": {"import": "default", "architecture": "arm64"}},
            [live_pool("default", *X86_ONLY)],
            "x86.import: no known Linux instance type meets the requirements of the NodePool 'default'; "
            "remove",
        ),
        (
            {"gpu": {"import": "default"}, "graviton": {"twin_of": "gpu"}},
            [live_pool("default", (f"{EC2}family", "In", ["p5"]))],
            "graviton.twin_of: 'gpu': no Graviton type meets its requirements (instance-family In p5); give "
            "the",
        ),
    ],
)
def test_a_pool_that_cannot_be_taken_over_is_one_sentence(
    groups: Mapping[str, Any], live: list[LivePool], sentence: str
) -> None:
    """Key, value and the way out."""
    assert refused(groups, *live).startswith(sentence)


def test_the_pools_that_eks_itself_owns_are_left_to_it() -> None:
    """Nobody may change the built-in NodePools of Auto Mode."""
    spec = deepcopy(dict(live_pool().spec))
    spec["template"]["spec"]["nodeClassRef"] = {
        "group": "eks.amazonaws.com",
        "kind": "NodeClass",
        "name": "default",
    }
    live = LivePool(name="general-purpose", spec=spec)
    sentence = refused({"x86": {"import": "general-purpose"}}, live, provisioner="auto-mode")
    assert sentence.startswith(
        "x86.import: EKS itself owns the NodePool 'general-purpose', and nobody may change"
    )


# --- settings that go ------------------------------------------------------------------------

MANAGER = "archshift/prod/pools"


def after_update(live: LivePool, pool: NodePool, *fields: str) -> LivePool:
    """The NodePool after an update of the stack, which then owns these fields alone."""
    tree: dict[str, Any] = {}
    for field in fields:
        node = tree
        for key in field.split("."):
            node = node.setdefault(f"f:{key}", {})
    ours = {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:spec": tree}}
    return replace(
        live,
        spec=manifest(pool),
        annotations={**live.annotations, "archshift/former": pool.former},
        managed_fields=(ours,),
    )


CHANGED = {"import": "default", "limits": {"cpu": 64, "nodes": 9}, "weight": 50, "labels": {"tier": "web"}}
OWNED = ("limits.cpu", "limits.nodes", "weight", "template.metadata.labels.tier")


def test_a_setting_that_goes_gives_back_what_the_pool_had() -> None:
    """One after the other; what the owner had not set is gone again."""
    live = live_pool("default", *X86_ONLY)
    pool = adopted({"x86": CHANGED}, live)["x86"]
    there = after_update(live, pool, *OWNED)
    assert manifest(adopted({"x86": CHANGED}, there)["x86"]) == manifest(pool)
    assert adopted({"x86": CHANGED}, there)["x86"].former == pool.former
    fewer = adopted({"x86": {"import": "default", "weight": 50}}, there)["x86"]
    assert manifest(fewer) == {**live.spec, "weight": 50}
    assert manifest(adopted({"x86": {"import": "default"}}, there)["x86"]) == live.spec
    assert adopted({"x86": {"import": "default"}}, there)["x86"].former == ""


def test_limits_that_were_taken_away_come_back() -> None:
    live = live_pool("default", *X86_ONLY)
    pool = adopted({"x86": {"import": "default", "limits": "none"}}, live)["x86"]
    assert "limits" not in manifest(pool)
    there = after_update(live, pool)
    assert manifest(adopted({"x86": {"import": "default"}}, there)["x86"]) == live.spec


def test_a_pool_that_was_split_is_whole_without_the_setting() -> None:
    """So the setting is asked for again, as at first."""
    live = live_pool("default")
    pool = adopted(SPLIT, live)["x86"]
    there = after_update(live, pool, "template.spec.requirements")
    assert manifest(adopted(SPLIT, there)["x86"]) == manifest(pool)
    assert refused({"x86": {"import": "default"}}, there).startswith(
        "x86.import: the NodePool 'default' makes nodes of both architectures; add architecture: amd64"
    )


def test_what_its_owner_has_changed_since_then_counts() -> None:
    """The field has another owner then, and the value of before is of no interest."""
    live = live_pool("default", *X86_ONLY)
    pool = adopted({"x86": CHANGED}, live)["x86"]
    there = after_update(live, pool, "limits.nodes", "template.metadata.labels.tier", "limits.cpu")
    spec = {**there.spec, "weight": 33}
    there = replace(there, spec=spec)
    assert manifest(adopted({"x86": {"import": "default"}}, there)["x86"]) == {**live.spec, "weight": 33}


@pytest.mark.parametrize(
    "text",
    ["{", "1", "[1]", '[["x"]]', '[[["status", "x"], 1]]', "[[[1], 2]]", "null", "[" * 100_000],
)
def test_an_annotation_that_somebody_else_wrote_changes_nothing(text: str) -> None:
    live = replace(live_pool("default", *X86_ONLY), annotations={"archshift/former": text})
    assert manifest(adopted({"x86": {"import": "default"}}, live)["x86"]) == live.spec


def test_a_pool_of_another_stack_is_refused() -> None:
    """Both to take over and to make; two stacks would undo what the other does."""
    other = replace(live_pool("default", *X86_ONLY), labels={"archshift/stack": "blue"})
    way_out = "give the group another name, or first remove or release it in that stack"
    assert refused({"x86": {"import": "default"}}, other) == (
        f"x86: the NodePool 'default' belongs to the stack blue; {way_out}"
    )
    own = replace(live_pool("default", *X86_ONLY), labels={"archshift/stack": "prod"})
    groups = {"x86": {"import": "default"}, "graviton": {"twin_of": "x86"}}
    assert "graviton" in adopted(groups, own)
    made = replace(other, name="graviton")
    assert refused(groups, own, made) == (
        f"graviton: the NodePool 'graviton' belongs to the stack blue; {way_out}"
    )
