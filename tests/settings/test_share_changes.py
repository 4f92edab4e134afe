"""Which changes of a configuration need the gate, as a step does."""

import json
from typing import Any

import pytest

from archshift.settings.keys import StackModel
from archshift.settings.share_changes import _RULES, may_raise
from archshift.settings.stack import model_of

X86 = {"instance_types": ["m6i.large"], "min_size": 2, "max_size": 4}
ARM = {"twin_of": "x86", "min_size": 2}
LIVE = {"import": "general"}
WEB = "shop/Deployment/web"


def model(**config: Any) -> StackModel:
    values = {"arm_ratio": "0.5", **config}
    return model_of(
        {
            f"archshift:{key}": value if isinstance(value, str) else json.dumps(value)
            for key, value in values.items()
        }
    )


def rules(**rule: Any) -> dict[str, Any]:
    return {"workloads": {"overrides": {WEB: rule}}}


def groups(**more: Any) -> dict[str, Any]:
    return {"node_groups": {"x86": X86, "graviton": ARM, **more}}


RAISES: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("arm_ratio", {}, {"arm_ratio": "0.8"}),
    ("cluster_uid", {}, {"cluster_uid": "another"}),
    ("platform", {}, {"platform": "lab"}),
    ("provisioner", {}, {"provisioner": "karpenter"}),
    ("cluster.name", {}, {"cluster": {"name": "other"}}),
    ("graviton_families", {}, {"graviton_families": ["c7g"]}),
    ("placement", {}, {"placement": "admission"}),
    ("placement", {"placement": "admission"}, {}),
    ("rollouts.canary_seconds", {"rollouts": {"canary_seconds": 300}}, {}),
    # Proofs.
    ("images.check", {}, {"images": {"check": False}}),
    ("images.deep", {"images": {"deep": True}}, {}),
    ("images.max_age_days", {"images": {"max_age_days": 1}}, {"images": {"max_age_days": 9}}),
    ("images.registries", {}, {"images": {"registries": {"docker.io": {"mirrors": ["m.example"]}}}}),
    ("arm64_tests.all", {"arm64_tests": {"all": True}}, {}),
    ("arm64_tests.workloads", {"arm64_tests": {"workloads": {WEB: True}}}, {}),
    ("arm64_tests.workloads", {}, {"arm64_tests": {"workloads": {WEB: False}}}),
    (
        "arm64_tests.workloads",
        {"arm64_tests": {"all": True}},
        {"arm64_tests": {"all": True, "workloads": {WEB: {"command": ["/bin/true"]}}}},
    ),
    # Which workloads, and their rules. Pods of a workload that is left to itself may run anywhere.
    ("workloads.namespaces", {}, {"workloads": {"namespaces": ["shop"]}}),
    (
        "workloads.namespaces",
        {"workloads": {"namespaces": ["shop"]}},
        {"workloads": {"namespaces": ["shop", "pay"]}},
    ),
    ("workloads.label_selector", {"workloads": {"label_selector": "a=b"}}, {}),
    ("workloads.exclude", {"workloads": {"exclude": [WEB]}}, {}),
    ("workloads.exclude", {}, {"workloads": {"exclude": [WEB]}}),
    ("workloads.autoscaled", {}, {"workloads": {"autoscaled": {WEB: {"max_replicas": 9}}}}),
    (f"workloads.overrides.{WEB}.hold", rules(hold=True), {}),
    (f"workloads.overrides.{WEB}.hold", rules(hold=True), rules(hold=False)),
    (f"workloads.overrides.{WEB}.max_ratio", rules(max_ratio=0.2), {}),
    (f"workloads.overrides.{WEB}.max_ratio", rules(max_ratio=0.2), rules(max_ratio=0.3)),
    (f"workloads.overrides.{WEB}.wave", {}, rules(wave="early")),
    (f"workloads.overrides.{WEB}.wave", {}, rules(wave="late")),
    (f"workloads.overrides.{WEB}.force", {}, rules(force=True, reason="x")),
    (f"workloads.overrides.{WEB}.steer_owned", {}, rules(steer_owned=True)),
    # Nodes.
    ("node_groups.graviton", {"node_groups": {"x86": X86}}, groups()),
    ("node_groups.x86", groups(), {"node_groups": {"graviton": ARM}}),
    ("node_groups.x86.min_size", groups(), groups(x86={**X86, "min_size": 1})),
    ("node_groups.x86.retired", groups(), groups(x86={**X86, "retired": True})),
    ("node_groups.x86.taints", groups(), groups(x86={**X86, "taints": [{"key": "a"}]})),
    ("node_groups.x86.instance_types", groups(), groups(x86={**X86, "instance_types": ["m7g.large"]})),
    ("node_groups.graviton.taints", groups(graviton={**ARM, "taints": [{"key": "a"}]}), groups()),
    ("node_groups.graviton.retired", groups(graviton={**ARM, "retired": True}), groups()),
    ("node_groups.live.retired", groups(live={**LIVE, "retired": True}), groups(live=LIVE)),
    ("node_groups.live.max_size", groups(live={**LIVE, "max_size": 5}), groups(live=LIVE)),
]  # fmt: skip


@pytest.mark.parametrize(("key", "before", "after"), RAISES)
def test_a_change_that_may_move_more_pods_to_graviton_is_named(
    key: str, before: dict[str, Any], after: dict[str, Any]
) -> None:
    assert may_raise(model(**before), model(**after)) == [f"archshift:{key}"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, {}),
        ({"arm_ratio": "0.5"}, {"arm_ratio": "0.50"}),
        ({}, {"arm_ratio": "0.2"}),
        ({}, {"kube_context": "other"}),
        ({}, rules(hold=True)),
        ({}, rules(max_ratio=0.2)),
        (rules(max_ratio=0.3), rules(max_ratio=0.2, reason="slow")),
        (
            {"workloads": {"namespaces": ["a", "b"]}},
            {"workloads": {"namespaces": ["b", "a"]}},
        ),
        ({}, {"images": {"deep": True}}),
        ({"images": {"check": False}}, {}),
        ({}, {"arm64_tests": {"all": True}}),
        ({}, {"arm64_tests": {"workloads": {WEB: True}, "parallel": 2}}),
        ({}, {"rollouts": {"longest_seconds": 60, "canary_seconds": 900}}),
        ({}, {"cost": {"discounts": {"all": 0.05}}}),
        ({}, {"monitoring": {"namespace": "m"}}),
        ({}, {"ramp": {"start": "2026-03-02"}}),
        ({"cluster": {"name": "a"}}, {"cluster": {"name": "a", "autoscaler": "cluster-autoscaler"}}),
        # The way back: x86 nodes come again, and Graviton nodes go.
        ({"node_groups": {"graviton": ARM}}, groups()),
        (groups(), {"node_groups": {"x86": X86}}),
        (groups(x86={**X86, "retired": True}), groups()),
        (groups(), groups(x86={**X86, "min_size": 3, "max_size": 9, "tags": {"a": "b"}})),
        (groups(), groups(graviton={**ARM, "min_size": 9, "kms_key": "arn:aws:kms:a:1:key/k"})),
    ],
)
def test_a_change_that_raises_nothing_needs_no_gate(before: dict[str, Any], after: dict[str, Any]) -> None:
    assert may_raise(model(**before), model(**after)) == []


def test_at_zero_nothing_is_raised() -> None:
    """All pods belong on x86, whatever else changes. So this way back is open with every other change."""
    before = model(**rules(hold=True))
    assert may_raise(before, model(arm_ratio="0.0", placement="admission")) == []


def test_a_lower_ratio_does_not_hide_another_change() -> None:
    assert may_raise(model(**rules(hold=True)), model(arm_ratio="0.4")) == [
        f"archshift:workloads.overrides.{WEB}.hold"
    ]


def test_at_one_the_guard_decides_about_x86_nodes() -> None:
    """No pod is left there for the gate to compare with."""
    one = {"arm_ratio": "1.0"}
    assert may_raise(model(**one, **groups()), model(**one, node_groups={"graviton": ARM})) == []
    assert may_raise(model(**one, **groups()), model(**one, **groups(more=ARM))) == [
        "archshift:node_groups.more"
    ]


def test_every_key_has_a_rule() -> None:
    """A key without a rule counts as one that raises, so a harmless new key would wait for the gate."""
    assert set(_RULES) == set(StackModel.__struct_fields__)
