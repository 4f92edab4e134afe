"""The settings of NodePools, and every sentence about a value that does not do."""

from typing import Any

import pytest

from archshift.common.errors import ArchshiftError
from archshift.common.kubernetes import INSTANCE_TYPE_LABEL
from archshift.nodes.groups import NodeClass, NodePool, Taint
from archshift.nodes.instance_types import INSTANCE_TYPES
from archshift.nodes.node_pools import manifest
from archshift.settings import stack as stack_settings
from tests.build import configuration, refusal

GIB = 1024**3
X86 = {"instance_types": ["m6i.xlarge"], "limits": {"cpu": 64}}
CPU = "is invalid; use a number of vCPUs such as 64"


def load(provisioner: str = "karpenter", **values: Any) -> stack_settings.Settings:
    """Load a configuration as the engine passes it."""
    values = {"arm_ratio": "0.2", "provisioner": provisioner, **values}
    return stack_settings.load("prod", configuration(**values))


def refused(pool: Any, **pools: Any) -> str:
    """The sentence with which a pool is refused, beside others."""
    return refusal(load, node_groups={"x86": pool, **pools}).removeprefix("archshift:node_groups.")


def test_a_pool_and_its_twin_take_four_lines() -> None:
    """Without a cluster of AWS's: a NodePool is an object of the cluster that kube_context reaches."""
    found = load(node_groups={"x86": X86, "graviton": {"twin_of": "x86"}})
    ec2 = NodeClass("karpenter.k8s.aws", "EC2NodeClass", "default")
    assert found.node_pools == {
        "x86": NodePool(
            name="x86", instance_types=(INSTANCE_TYPES["m6i.xlarge"],), node_class=ec2, millicpu=64_000
        ),
        "graviton": NodePool(
            name="graviton", instance_types=(INSTANCE_TYPES["m8g.xlarge"],), node_class=ec2, millicpu=64_000
        ),
    }
    assert (found.node_groups, found.eks_node_groups, found.cluster) == ({}, {}, None)
    assert found.groups == tuple(found.node_pools.values())
    assert found.guarded


@pytest.mark.parametrize(
    ("provisioner", "platform", "group", "kind"),
    [
        ("karpenter", "eks", "karpenter.k8s.aws", "EC2NodeClass"),
        ("auto-mode", "eks", "eks.amazonaws.com", "NodeClass"),
        ("karpenter", "lab", "karpenter.kwok.sh", "KWOKNodeClass"),
    ],
)
def test_the_kind_of_node_class_follows(provisioner: str, platform: str, group: str, kind: str) -> None:
    """Its name is all that is said of it."""
    pools = {"x86": {**X86, "node_class": "general"}}
    found = load(provisioner, platform=platform, node_groups=pools)
    assert found.node_pools["x86"].node_class == NodeClass(group, kind, "general")


def test_all_that_can_be_said_of_a_pool_and_what_its_twin_takes_over() -> None:
    """All of it. With another weight than its original, one side would get the pods of both."""
    pool = {
        "instance_families": ["c6i"],
        "instance_types": ["m6i.xlarge"],
        "limits": {"cpu": "1500m", "memory": "6Gi"},
        "node_class": "general",
        "zones": ["eu-west-1a"],
        "capacity_types": ["spot", "on-demand"],
        "weight": 10,
        "labels": {"team": "shop"},
        "taints": [{"key": "batch"}],
        "consolidate_after": "1h30m",
        "budget": 2,
        "side_taint": False,
        "consolidation": "when-empty",
        "expire_after": "168h",
        "termination_grace_period": "48h",
        "startup_taints": [{"key": "node.cilium.io/agent-not-ready", "value": "true", "effect": "NoExecute"}],
        "annotations": {"example.com/owner": "shop"},
    }
    found = load(node_groups={"x86": pool, "graviton": {"twin_of": "x86", "limits": {"cpu": 8}}}).node_pools
    x86, graviton = found["x86"], found["graviton"]
    names = [kind.name for kind in x86.instance_types]
    assert names[0] == "m6i.xlarge"
    assert {"c6i.large", "c6i.32xlarge"} <= set(names)
    assert not any("metal" in name for name in names)
    assert (x86.millicpu, x86.memory, x86.weight, x86.budget) == (1500, 6 * GIB, 10, "2")
    assert (x86.capacity_types, x86.consolidate_after) == (("spot", "on-demand"), "1h30m")
    shared = (
        *(
            "zones",
            "capacity_types",
            "labels",
            "taints",
            "consolidate_after",
            "budget",
            "side_taint",
            "weight",
        ),
        *("consolidation", "expire_after", "termination_grace_period", "startup_taints", "annotations"),
    )
    for name in shared:
        assert getattr(graviton, name) == getattr(x86, name), name
    assert graviton.taints == (Taint(key="batch"),)
    assert (graviton.millicpu, graviton.memory, graviton.weight) == (8000, None, 10)
    # c6i.32xlarge has no twin, and a pool of a family needs none of its sizes in particular.
    assert {kind.name for kind in graviton.instance_types} >= {"m8g.xlarge", "c8g.large", "c8g.24xlarge"}
    assert not any("32xlarge" in kind.name for kind in graviton.instance_types)


@pytest.mark.parametrize(
    ("pool", "sentence"),
    [
        (
            {"limits": {"cpu": 8}},
            "x86.instance_types is missing; add instance_types, instance_families, instance_categories or "
            "twin_of, or architecture for all types",
        ),
        (
            {"instance_types": ["m6i.xlarge"]},
            "x86.limits.cpu is missing; add a number of vCPUs such as 64",
        ),
        ({**X86, "limits": {"memory": "1Gi"}}, "x86.limits.cpu is missing; add a number of vCPUs such as 64"),
        ({**X86, "limits": {"cpu": "many"}}, f"x86.limits.cpu: 'many' {CPU}"),
        ({**X86, "limits": {"cpu": -1}}, f"x86.limits.cpu: -1 {CPU}"),
        ({**X86, "limits": {"cpu": True}}, f"x86.limits.cpu: True {CPU}"),
        (
            {**X86, "limits": {"cpu": 1, "memory": "1 TB"}},
            "x86.limits.memory: '1 TB' is invalid; use memory such as 256Gi",
        ),
        (
            {**X86, "limits": {"cpu": 1, "pods": 3}},
            "x86.limits.pods is not a setting; there are: cpu, memory, nodes",
        ),
        ({**X86, "weight": 0}, "x86.weight: 0 is invalid; use a whole number from 1 to 100"),
        ({**X86, "weight": "high"}, "x86.weight: 'high' is invalid; use a whole number from 1 to 100"),
        (
            {**X86, "budget": "110%"},
            "x86.budget: '110%' is invalid; use a number of nodes, or a share such as",
        ),
        (
            {**X86, "consolidate_after": "soon"},
            "x86.consolidate_after: 'soon' is invalid; use a duration such as 5m, or Never",
        ),
        (
            {**X86, "capacity_types": []},
            "x86.capacity_types: [] is invalid; use a list of one or more of on-demand, spot, reserved",
        ),
        (
            {**X86, "capacity_types": ["SPOT"]},
            "x86.capacity_types[0]: 'SPOT' is invalid; use on-demand, spot or reserved",
        ),
        (
            {**X86, "zones": []},
            "x86.zones: [] is invalid; use a list of one or more availability zones",
        ),
        (
            {**X86, "labels": {"kubernetes.io/arch": "x"}},
            "x86.labels.kubernetes.io/arch: the architecture follows from",
        ),
        (
            {**X86, "desired_size": 3},
            "x86.desired_size is not a setting; there are: annotations, architecture, budget",
        ),
        (
            {**X86, "instance_families": ["m6x"]},
            "x86.instance_families: 'm6x' is an unknown instance family",
        ),
        (
            {**X86, "instance_types": ["m6i.xlarge", "m7g.xlarge"]},
            "x86: m6i.xlarge is amd64 and m7g.xlarge is",
        ),
        (
            {**X86, "twin_of": "other"},
            "x86.twin_of chooses the instance types itself; remove twin_of or instance_types",
        ),
        ({"twin_of": "other"}, "x86.twin_of: 'other' is not another node group; there are: none"),
        (
            {**X86, "node_class": {"name": "x"}},
            "x86.node_class: {'name': 'x'} is invalid; use the name of a node class",
        ),
        ("m6i.xlarge", "x86: 'm6i.xlarge' is invalid; use a map, written as YAML below the key"),
        (
            {**X86, "instance_categories": ["m"]},
            "x86.instance_categories: instance_types has the types already; remove one of the two",
        ),
        (
            {**X86, "min_vcpu": 8},
            "x86: no instance type meets its settings; change instance_categories, min_generation, min_vcpu",
        ),
        (
            {"instance_categories": ["m"], "min_generation": 77, "limits": {"cpu": 8}},
            "x86: no instance type meets its settings; change instance_categories, min_generation, min_vcpu",
        ),
        (
            {"instance_categories": ["M5"], "limits": {"cpu": 8}},
            "x86.instance_categories[0]: 'M5' is invalid; use the letters of a category such as c",
        ),
        (
            {**X86, "min_vcpu": 8, "max_vcpu": 4},
            "x86.min_vcpu: 8 is more than max_vcpu, 4; lower it",
        ),
        (
            {**X86, "exclude_sizes": ["tiny"]},
            "x86.exclude_sizes: 'tiny' is an unknown size; use sizes such as nano or 24xlarge",
        ),
        (
            {"instance_types": ["m6i.xlarge"], "limits": "some"},
            "x86.limits: 'some' is invalid; use a map with cpu, memory or nodes, or none",
        ),
        (
            {**X86, "consolidation": "always"},
            "x86.consolidation: 'always' is invalid; use when-empty or when-empty-or-underutilized",
        ),
        ({**X86, "expire_after": "a day"}, "x86.expire_after: 'a day' is invalid; use a duration such as 5m"),
        (
            {**X86, "termination_grace_period": "Never"},
            "x86.termination_grace_period: 'Never' is invalid; use a duration such as 48h",
        ),
        ({**X86, "architecture": "arm64"}, "x86: no instance type meets its settings; change"),
        ({**X86, "force": True}, "x86.force: it is for a NodePool with import; remove force"),
        ({**X86, "release": True}, "x86.release: it is for a NodePool with import; remove release"),
        (
            {"import": "a", "twin_of": "b"},
            "x86.import: it takes the NodePool as it is; remove import or twin_of",
        ),
        (
            {**X86, "provisioner": "manual"},
            "x86.provisioner: 'manual' is invalid; use managed, karpenter or auto-mode",
        ),
    ],
)
def test_a_pool_that_does_not_do_is_one_sentence(pool: Any, sentence: str) -> None:
    """Key, value and the way out."""
    assert refused(pool).startswith(sentence)


@pytest.mark.parametrize(
    ("provisioner", "domain"), [("karpenter", "karpenter.k8s.aws"), ("auto-mode", "eks.amazonaws.com")]
)
def test_categories_and_bounds_are_requirements_and_select_types(provisioner: str, domain: str) -> None:
    """The pool and its twin name categories, so that new families come in by themselves; neither uses bare
    metal. The only Graviton t is older than the x86 pool's generation.
    """
    x86 = {
        "instance_categories": ["m", "t"],
        "min_generation": 5,
        "min_vcpu": 2,
        "max_vcpu": 8,
        "exclude_sizes": ["large"],
        "limits": {"cpu": 64, "nodes": 9},
    }
    found = load(provisioner, node_groups={"x86": x86, "graviton": {"twin_of": "x86"}}).node_pools
    for name, architecture, generation in (("x86", "amd64", "4"), ("graviton", "arm64", "3")):
        pool = found[name]
        listed = {
            (entry["key"], entry["operator"]): entry["values"]
            for entry in manifest(pool)["template"]["spec"]["requirements"]
        }
        assert listed["kubernetes.io/arch", "In"] == [architecture]
        assert listed[f"{domain}/instance-category", "In"] == ["m", "t"]
        assert listed[f"{domain}/instance-generation", "Gt"] == [generation]
        assert listed[f"{domain}/instance-cpu", "Gt"] == ["1"]
        assert listed[f"{domain}/instance-cpu", "Lt"] == ["9"]
        assert {"large", "metal", "metal-24xl"} <= set(listed[f"{domain}/instance-size", "NotIn"])
        assert (INSTANCE_TYPE_LABEL, "In") not in listed
        assert manifest(pool)["limits"] == {"cpu": "64", "nodes": "9"}
        assert {kind.architecture for kind in pool.instance_types} == {architecture}
        assert {kind.vcpu for kind in pool.instance_types} == {2, 4, 8}
    assert {"t4g.2xlarge", "m6g.xlarge"} <= {kind.name for kind in found["graviton"].instance_types}
    assert {"m5.xlarge", "m7i.2xlarge"} <= {kind.name for kind in found["x86"].instance_types}


def test_a_pool_may_have_all_types_and_no_limits_if_its_settings_say_so() -> None:
    """Both are words of their own, so that nobody gets them by leaving something out."""
    x86 = {"architecture": "amd64", "limits": "none"}
    found = load(node_groups={"x86": x86, "graviton": {"twin_of": "x86"}}).node_pools
    for pool in found.values():
        assert "limits" not in manifest(pool)
        assert len({kind.family for kind in pool.instance_types}) > 20
        assert not any("metal" in kind.name for kind in pool.instance_types)
    assert found["graviton"].architecture == "arm64"


def test_bounds_narrow_families_and_twins() -> None:
    """They select from the listed types; a twin may have bounds of its own."""
    x86 = {"instance_families": ["m6i", "c6i"], "max_vcpu": 4, "limits": {"cpu": 8}}
    groups = {"x86": x86, "graviton": {"twin_of": "x86", "min_vcpu": 4}}
    found = load(node_groups=groups).node_pools
    assert [kind.name for kind in found["x86"].instance_types] == [
        *("m6i.large", "m6i.xlarge", "c6i.large", "c6i.xlarge")
    ]
    assert [kind.name for kind in found["graviton"].instance_types] == ["m8g.xlarge", "c8g.xlarge"]


def test_managed_groups_and_node_pools_are_in_one_stack() -> None:
    """Each group may say what brings up its nodes, a twin follows its original, and the order stays."""
    system = {"instance_types": ["m6i.large"], "desired_size": 2}
    groups = {
        "pool": {"instance_types": ["m6i.xlarge"], "limits": {"cpu": 8}, "provisioner": "karpenter"},
        "system": {**system},
        "arm-system": {"twin_of": "system", "desired_size": 1},
        "arm-pool": {"twin_of": "pool"},
    }
    cluster = {"name": "prod", "subnets": ["subnet-1"]}
    found = load("managed", node_groups=groups, cluster=cluster)
    assert {*found.node_pools} == {"pool", "arm-pool"}
    assert {*found.eks_node_groups} == {"system", "arm-system"}
    assert [group.name for group in found.groups] == [*groups]
    assert found.guarded
    other_way = {**groups, "system": {**system, "provisioner": "managed"}}
    assert {*load(node_groups=other_way, cluster=cluster).eks_node_groups} == {"system", "arm-system"}


@pytest.mark.parametrize(
    ("twin", "original", "there"),
    [
        ("managed", "karpenter", {"instance_types": ["m6i.xlarge"], "limits": {"cpu": 8}}),
        ("karpenter", "managed", {"instance_types": ["m6i.large"], "desired_size": 2}),
        ("auto-mode", "karpenter", {"instance_types": ["m6i.xlarge"], "limits": {"cpu": 8}}),
    ],
)
def test_a_twin_of_another_kind_is_refused_with_the_reason(
    twin: str, original: str, there: dict[str, Any]
) -> None:
    """In one sentence, whichever of the two is a NodePool."""
    groups = {
        "x86": {**there, "provisioner": original},
        "graviton": {"twin_of": "x86", "provisioner": twin},
    }
    with pytest.raises(ArchshiftError) as error:
        load(node_groups=groups, cluster={"name": "prod", "subnets": ["subnet-1"]})
    assert str(error.value) == (
        f"archshift:node_groups.graviton.provisioner: {twin} is not {original}, which 'x86' has; a twin "
        "copies its original, and the two kinds have other properties; remove provisioner, or name instance "
        "types in place of twin_of"
    )


def test_a_twin_that_does_not_exist_says_why() -> None:
    """Of a type that is named; of a family only if no size has one."""
    other = {"instance_types": ["p5.48xlarge"], "limits": {"cpu": 1}}
    assert refused({"twin_of": "gpu"}, gpu=other).startswith(
        "x86.twin_of: 'gpu': p5.48xlarge (192 vCPU, 2048 GiB) has no Graviton twin"
    )
    family = {"instance_families": ["p5"], "limits": {"cpu": 1}}
    assert "p5.4xlarge (16 vCPU, 256 GiB) has no Graviton twin" in refused({"twin_of": "gpu"}, gpu=family)


def test_two_groups_cannot_be_twins_of_each_other() -> None:
    """Each of them is refused."""
    with pytest.raises(ArchshiftError) as error:
        load(node_groups={"x86": X86, "a": {"twin_of": "b"}, "b": {"twin_of": "a"}})
    assert [str(each) for each in error.value.errors] == [
        f"archshift:node_groups.{name}.twin_of: {other!r} is a twin itself; name the group that {other!r} "
        "is the twin of"
        for name, other in (("a", "b"), ("b", "a"))
    ]


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"provisioner": "manual"},
            "archshift:provisioner: 'manual' is invalid; use managed, karpenter or auto-mode",
        ),
        (
            {"provisioner": "auto-mode", "platform": "lab"},
            "archshift:provisioner: the lab has no EKS Auto Mode; use karpenter",
        ),
        (
            {"node_groups": {"X86": X86}},
            "archshift:node_groups: 'X86' is invalid; use a name for nodes: up to 52 lower-case letters, "
            "digits and -",
        ),
    ],
)
def test_a_provisioner_that_does_not_do(values: dict[str, Any], sentence: str) -> None:
    """Key, value and the way out."""
    with pytest.raises(ArchshiftError) as error:
        load(**values)
    assert str(error.value) == sentence


def test_without_the_key_nothing_changes() -> None:
    """Node groups are those of EKS, and need their cluster."""
    with pytest.raises(ArchshiftError, match=r"^archshift:node_groups: on EKS they belong to a cluster"):
        load("managed", node_groups={"x86": {"instance_types": ["m6i.xlarge"], "desired_size": 1}})
