"""What the NodePools component registers, and the guard's last question about a NodePool."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pulumi
import pytest

from archshift.cluster.model import Inventory
from archshift.common.errors import ArchshiftError
from archshift.common.resources import Resources
from archshift.images.verdict import AMD64_ONLY
from archshift.images.workload import WorkloadVerdict
from archshift.nodes.groups import Node, NodePool
from archshift.nodes.node_pools import from_manifest, manifest
from archshift.plan.guard import needs
from archshift.plan.model import Plan
from archshift.settings import stack as stack_settings
from archshift.survey import Survey
from components import guard
from components.node_pools import NodePools, NodePoolsArgs
from tests.build import configuration, deployment, karpenter_node, live_pool, node_pool
from tests.components.recorder import Monitor, record

TYPE = "kubernetes:karpenter.sh/v1:NodePool"
X86 = {"instance_types": ["m6i.xlarge", "m6i.2xlarge"], "limits": {"cpu": 16}}
STAYS = r"^x86 NodePool x86 stays: 1 workload needs x86: shop/Deployment/pay \("


ARM = node_pool("graviton", "m7g.xlarge", "m7g.2xlarge")


def registered(*pools: NodePool) -> Monitor:
    """Register the component with these pools."""
    args = NodePoolsArgs(pools={one.name: one for one in pools}, stack_label="prod")
    return record(lambda: NodePools("node-pools", args))


def test_each_pool_is_one_object_and_is_waited_for() -> None:
    """Its spec is the core's; the engine waits until Karpenter has taken it."""
    done = registered(node_pool(), ARM)
    graviton, x86 = sorted(done.of(TYPE), key=lambda one: one.name)
    assert (x86.name, x86.parent, graviton.name) == ("x86", "node-pools", "graviton")
    assert x86.inputs == {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {
            "name": "x86",
            "labels": {"archshift/stack": "prod"},
            "annotations": {"pulumi.com/waitFor": '["condition=Ready"]', "pulumi.com/timeoutSeconds": "120"},
        },
        "spec": manifest(node_pool()),
    }
    assert done.outputs["node-pools"]["sizes"] == {"x86": {"cpu": "16"}, "graviton": {"cpu": "16"}}


def test_hooks_and_protection_are_where_they_hold() -> None:
    """On the NodePool itself: the guard before a delete and an update, protection on those that are named."""
    own = Node(name="own", labels={"kubernetes.io/arch": "amd64"}, millicpu=4000, memory=1, pods=5)

    def program() -> None:
        hook = pulumi.ResourceHook("guard", lambda _: None)
        pools = {"x86": node_pool(), "graviton": ARM}
        args = NodePoolsArgs(pools=pools, guard=hook, protected=frozenset({"x86"}), others=[own])
        NodePools("node-pools", args)

    done = record(program)
    for one in done.of(TYPE):
        assert list(one.request.hooks.before_delete) == ["guard"]
        assert list(one.request.hooks.before_update) == ["guard"]
        assert one.request.protect == (one.name == "x86")
    elsewhere = done.outputs["node-pools"]["elsewhere"]
    assert elsewhere == {"amd64": {"nodes": 1, "millicpu": 4000, "memory": 1, "pods": 5}}


def test_a_pool_that_is_taken_over_gets_no_label_and_annotation_of_its_owner() -> None:
    """The engine imports it by its own name, with one field manager for the stack, which owns what it writes.
    A released pool is not deleted, and nothing of archshift stays on it.
    """
    live = live_pool("default", ("kubernetes.io/arch", "In", ["amd64"]))
    kept = from_manifest("x86", live.spec, import_name="default", force=True, former="[]")
    released = from_manifest("batch", live.spec, import_name="batch", released=True)
    assert kept
    assert released

    def program() -> None:
        pools = {"x86": kept, "batch": released, "graviton": ARM}
        args = NodePoolsArgs(
            pools=pools,
            protected=frozenset(pools),
            guard=pulumi.ResourceHook("guard", lambda _: None),
            stack_label="prod",
            hand_back=pulumi.ResourceHook("hand-back", lambda _: None),
            field_manager="archshift/prod/pools",
        )
        NodePools("node-pools", args)

    done = record(program)
    by_name = {one.name: one for one in done.of(TYPE)}
    x86, batch, graviton = by_name["x86"], by_name["batch"], by_name["graviton"]
    assert x86.inputs["metadata"] == {
        "name": "default",
        "labels": {"archshift/stack": "prod"},
        "annotations": {
            "archshift/former": "[]",
            "pulumi.com/waitFor": '["condition=Ready", '
            "\"jsonpath={.metadata.annotations['pulumi.com/patchFieldManager']}=archshift/prod/pools\"]",
            "pulumi.com/timeoutSeconds": "120",
            "pulumi.com/patchFieldManager": "archshift/prod/pools",
            "pulumi.com/patchForce": "true",
        },
    }
    assert x86.inputs["spec"] == live.spec
    assert (x86.request.importId, x86.request.retainOnDelete, x86.request.protect) == ("default", False, True)
    assert (batch.request.importId, batch.request.retainOnDelete, batch.request.protect) == (
        "batch",
        True,
        False,
    )
    assert list(x86.request.hooks.before_delete) == ["guard"]
    assert list(batch.request.hooks.before_delete) == ["hand-back"]
    assert "pulumi.com/patchForce" not in batch.inputs["metadata"]["annotations"]
    assert batch.inputs["metadata"].get("labels", {}) == {}
    assert (graviton.request.importId, graviton.request.retainOnDelete) == ("", False)


def test_another_name_to_import_deletes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine would replace the resource, and delete the NodePool of the former name: of Graviton too."""
    for live, kind in (
        (live_pool("green", ("kubernetes.io/arch", "In", ["amd64"])), node_pool()),
        (live_pool("green", ("kubernetes.io/arch", "In", ["arm64"])), ARM),
    ):
        configured = stack({"x86": {"import": "green"}}).with_live_pools({"green": live})
        with pytest.raises(ArchshiftError) as error:
            asked(monkeypatch, {}, configured=configured, old=manifest(kind), name="blue")
        assert str(error.value) == (
            "archshift:node_groups.x86.import: the group took over the NodePool blue before, and the change "
            "would delete it; first release it: set import: blue and release: true, run pulumi up, remove "
            "the group, and run pulumi up again"
        )


def test_without_evidence_of_images_another_import_deletes_nothing_either(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the rest of the guard is off: it knows nothing that needs x86."""
    live = live_pool("green", ("kubernetes.io/arch", "In", ["amd64"]))
    settings = stack({"x86": {"import": "green"}}).with_live_pools({"green": live})
    unguarded = replace(settings, images=replace(settings.images, check=False))
    with pytest.raises(ArchshiftError, match="the group took over the NodePool blue before"):
        asked(monkeypatch, {}, configured=unguarded, name="blue")
    asked(monkeypatch, {}, configured=replace(stack({}), images=unguarded.images))


def test_settings_without_the_import_delete_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of the group's own name would replace the pool that it took over: of Graviton too."""
    graviton = {"x86": {"instance_types": ["m7g.xlarge"], "limits": {"cpu": 16}}}
    with pytest.raises(ArchshiftError) as error:
        asked(monkeypatch, graviton, old=manifest(ARM), name="blue")
    assert str(error.value).startswith(
        "archshift:node_groups.x86.import: the group took over the NodePool blue before, and the change "
        "would delete it; first release it: set import: blue and release: true"
    )


def test_a_pool_that_is_narrowed_to_x86_keeps_all_that_the_need_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its arm64 types never counted. A narrowing to Graviton is refused."""
    both = live_pool("x86")
    spec = deepcopy(dict(both.spec))
    spec["template"]["spec"].pop("taints")
    both = replace(both, spec=spec)

    def narrow(architecture: str) -> None:
        settings = stack({"x86": {"import": "x86", "architecture": architecture}}).with_live_pools(
            {"x86": both}
        )
        asked(monkeypatch, {}, configured=settings, old=spec, new=manifest(settings.node_pools["x86"]))

    narrow("amd64")
    with pytest.raises(ArchshiftError, match=STAYS):
        narrow("arm64")


# --- the guard -------------------------------------------------------------------------------


def stack(pools: Mapping[str, Any], **config: Any) -> stack_settings.Settings:
    """The settings of a stack whose nodes Karpenter brings up."""
    values = {"node_groups": pools, **config}
    return stack_settings.load(
        "prod", configuration(**{"arm_ratio": "0.5", "provisioner": "karpenter", **values})
    )


def seen(nodes: tuple[Node, ...], millicpu: int = 1000) -> Survey:
    """A cluster where six amd64-only pods of that size need x86."""
    one = deployment("pay", 6, requests=Resources(millicpu, 1024**3))
    inventory = Inventory(workloads={one.key: one}, nodes=nodes)
    needed = needs(inventory, {one.key: WorkloadVerdict(one.key, AMD64_ONLY, (), ())}, {})
    return Survey(inventory=inventory, evidence=None, plan=Plan(arm_ratio=0.5), needs=needed)


def asked(
    monkeypatch: pytest.MonkeyPatch,
    pools: Mapping[str, Any],
    *,
    old: Mapping[str, Any] | None = None,
    new: Mapping[str, Any] | None = None,
    nodes: tuple[Node, ...] = (karpenter_node("n1"), karpenter_node("n2")),
    configured: stack_settings.Settings | None = None,
    name: str = "x86",
    **more: Any,
) -> None:
    """Ask before the pool x86 of the state is deleted, or updated to what ``pools`` make of it."""
    found = seen(nodes, **more)
    monkeypatch.setattr(guard, "survey", lambda _settings, **_options: found)
    configured = configured or stack(pools)
    hooks: list[pulumi.ResourceHook] = []
    record(lambda: hooks.append(guard.guard_hook(configured)))
    inputs = {"kind": "NodePool", "metadata": {"name": name}, "spec": old or manifest(node_pool())}
    arguments = pulumi.ResourceHookArgs(
        urn="urn",
        id="id",
        name="x86",
        type=TYPE,
        old_inputs=inputs,
        new_inputs={**inputs, "spec": new} if new else None,
    )
    hooks[0].callback(arguments)


def updated(
    monkeypatch: pytest.MonkeyPatch,
    change: Mapping[str, Any],
    beside: Mapping[str, Any] | None = None,
    **more: Any,
) -> None:
    """Ask before the pool x86 is updated to this, with other pools beside it."""
    pools = {"x86": {**X86, **change}, **(beside or {})}
    asked(monkeypatch, pools, new=manifest(stack(pools).node_pools["x86"]), **more)


@pytest.mark.parametrize(
    "pools",
    [{}, {"intel": X86}, {"x86": X86}, {"graviton": {**X86, "instance_types": ["m7g.xlarge"]}}],
    ids=["taken out", "renamed", "destroy", "only Graviton is left"],
)
@pytest.mark.parametrize(
    "nodes", [(karpenter_node("n1"), karpenter_node("n2")), ()], ids=["with nodes", "at zero nodes"]
)
def test_a_pool_that_is_needed_is_not_deleted(
    monkeypatch: pytest.MonkeyPatch, pools: Any, nodes: tuple[Node, ...]
) -> None:
    """Whatever the configuration says; also while the pool has no node, and a new one has brought up none."""
    with pytest.raises(ArchshiftError, match=STAYS):
        asked(monkeypatch, pools, nodes=nodes)


def test_a_pool_may_go_when_another_has_proven_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a node and its limits hold the rest; one whose limits do not is none."""
    nodes = (karpenter_node("n1"), karpenter_node("n2"), karpenter_node("m1", of="intel"))
    asked(monkeypatch, {"intel": X86}, nodes=nodes)
    with pytest.raises(ArchshiftError, match=STAYS):
        asked(monkeypatch, {"intel": {**X86, "limits": {"cpu": 4}}}, nodes=nodes)


def test_two_pools_that_are_limited_together_do_not_speak_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The nodes of both carry the need for now; neither would get a successor."""
    nodes = (
        karpenter_node("n1"),
        karpenter_node("n2"),
        karpenter_node("m1", of="intel"),
        karpenter_node("m2", of="intel"),
    )
    none = {**X86, "limits": {"cpu": 0}}
    updated(monkeypatch, none, nodes=nodes, beside={"intel": X86})
    with pytest.raises(ArchshiftError, match=STAYS):
        updated(monkeypatch, none, nodes=nodes, beside={"intel": none})


def test_nodes_that_do_not_have_our_label_yet_go_with_their_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    """Karpenter's own label says whose they are; without it they would seem to stay."""
    nodes = (karpenter_node("n1"), karpenter_node("n2"))
    assert not any("archshift/node-group" in node.labels for node in nodes)
    with pytest.raises(ArchshiftError, match=STAYS):
        asked(monkeypatch, {}, nodes=nodes)


@pytest.mark.parametrize(
    ("change", "stops"),
    [
        ({"limits": {"cpu": 12}}, False),
        ({"limits": {"cpu": 4}}, True),
        ({"limits": {"cpu": 0}}, True),
        ({"limits": {"cpu": 16, "memory": "8Gi"}}, True),
        ({"instance_types": ["m7g.xlarge"]}, True),
        ({"instance_types": ["m7i.xlarge"]}, False),
        ({"instance_types": ["m6i.large"]}, True),
        ({"taints": [{"key": "drain"}]}, True),
        ({"taints": [{"key": "soft", "effect": "PreferNoSchedule"}]}, False),
        ({"weight": 50}, False),
        ({"limits": {"cpu": 64}}, False),
        ({"node_class": "other"}, False),
    ],
    ids=str,
)
def test_a_pool_changes_as_far_as_the_need_allows(
    monkeypatch: pytest.MonkeyPatch, change: Mapping[str, Any], stops: bool
) -> None:
    """Six pods of 1.5 vCPU: limits below them, types that do not fit them, the other architecture and a taint
    are refused; enough room of another type is not, and weights are nobody's business.
    """
    if not stops:
        updated(monkeypatch, change, millicpu=1500)
        return
    with pytest.raises(ArchshiftError, match=STAYS):
        updated(monkeypatch, change, millicpu=1500 if "m6i.large" not in str(change) else 2500)


def test_where_x86_is_short_already_a_higher_limit_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes nothing away, although it is not enough either; a lower one is refused."""
    small = manifest(replace(node_pool(), millicpu=4_000))
    updated(monkeypatch, {"limits": {"cpu": 6}}, old=small, nodes=())
    with pytest.raises(ArchshiftError, match=STAYS):
        updated(monkeypatch, {"limits": {"cpu": 3}}, old=small, nodes=())


def test_a_graviton_pool_may_always_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """The way back to x86 is never barred; one of both architectures counts as x86."""
    asked(monkeypatch, {}, old=manifest(ARM))
    both = manifest(ARM)
    both["template"]["spec"]["requirements"][0]["values"] = ["arm64", "amd64"]
    with pytest.raises(ArchshiftError, match=STAYS):
        asked(monkeypatch, {}, old=both)


def test_the_x86_pools_that_carry_the_need_are_protected() -> None:
    """By their nodes and limits, in the order of the settings; with nothing to carry, none is."""
    pools = {"x86": {**X86, "limits": {"cpu": 4}}, "intel": X86, "more": X86, "graviton": {"twin_of": "x86"}}
    configured = stack(pools)
    now = datetime.now(UTC)
    found = seen((karpenter_node("n1"),))
    assert guard.protected(found, configured, now) == {"x86", "intel"}
    assert guard.protected(replace(found, needs=()), configured, now) == frozenset()
